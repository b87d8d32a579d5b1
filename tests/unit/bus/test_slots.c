/* Checkpoints of a small log on a real disk, damaged in one slot, in both, missing, of a later
 * version: every start finds the same state, and says what it took from where. */
#include "tests/support/test.h"

#include "bus/checkpoint_verify.h"
#include "core/hash.h"
#include "tests/unit/bus/one_bus.h"

#define SUBS ONE_BUS_SUBS
#define SLOT_MAX (512u * MR_KIB)

struct fixture {
    struct one_bus one;
    uint64_t state; /* hash of it */
    uint8_t slots[2][SLOT_MAX];
    size_t sizes[2];
    unsigned newer;
    /* what verify found */
    uint32_t chunks;
    uint32_t sections;
    uint32_t from_other;
};

static const char *const slot_names[2] = {"checkpoint-0", "checkpoint-1"};

/* --- files ------------------------------------------------------------------------------------ */

static void read_slot(struct fixture *f, unsigned i)
{
    f->sizes[i] = log_file_read(f->one.io, slot_names[i], f->slots[i], SLOT_MAX, 0);
    assert_true(f->sizes[i] > 2 * MR_LOG_BLOCK && f->sizes[i] < SLOT_MAX);
}

static void write_slot(struct fixture *f, unsigned i, const uint8_t *data, size_t size)
{
    (void)f->one.io->ops->unlink(f->one.io, slot_names[i]); /* it may be gone */
    log_file_write(f->one.io, slot_names[i], data, size, 0);
}

static void restore(struct fixture *f)
{
    write_slot(f, 0, f->slots[0], f->sizes[0]);
    write_slot(f, 1, f->slots[1], f->sizes[1]);
}

/* Spoils a byte of the chunk with @p index. */
static void damage_chunk(struct fixture *f, unsigned i, uint32_t index)
{
    uint8_t *data = f->slots[i] + (index + 1ull) * MR_LOG_BLOCK;
    data[64 + 3] ^= 0x40;
    write_slot(f, i, f->slots[i], f->sizes[i]);
    data[64 + 3] ^= 0x40;
}

static uint32_t chunk_count(const struct fixture *f, unsigned i)
{
    return mr_get_u32(f->slots[i] + 12);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct mr_bus_opened opened;
    struct mr_problem problem = {{0}};
    assert_non_null(f);
    one_bus_begin(&f->one, "slots", SUBS);
    struct mr_bus_status status = {0};
    for (unsigned i = 0; i < ONE_BUS_TURNS && status.checkpoints < 3; i++) {
        one_bus_send(&f->one);
        mr_bus_status(f->one.bus, &status);
    }
    assert_true(status.checkpoints >= 3);
    one_bus_close(&f->one);
    read_slot(f, 0);
    read_slot(f, 1);
    f->newer = mr_get_u64(f->slots[1] + 16) > mr_get_u64(f->slots[0] + 16);
    assert_true(chunk_count(f, 0) > SUBS && chunk_count(f, 1) > SUBS);
    assert_int_equal(one_bus_open(&f->one, &opened, &problem), MR_OK);
    assert_int_equal(opened.bad_slots, 0);
    f->state = mr_bus_state_hash(f->one.bus);
    mr_bus_destroy(MR_TAKE(f->one.bus));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    one_bus_end(&f->one);
    free(f);
    return 0;
}

static void start(struct fixture *f, struct mr_bus_opened *opened)
{
    struct mr_problem problem = {{0}};
    assert_int_equal(one_bus_open(&f->one, opened, &problem), MR_OK);
    assert_int_equal(mr_bus_state_hash(f->one.bus), f->state);
    mr_bus_destroy(MR_TAKE(f->one.bus));
}

static void count_finding(void *context, const struct mr_slot_finding *finding)
{
    struct fixture *f = context;
    f->chunks += finding->section == NULL;
    f->sections += finding->section != NULL;
    f->from_other += finding->from_other;
}

static void verify(struct fixture *f, struct mr_slot_report reports[2])
{
    f->chunks = 0;
    f->sections = 0;
    f->from_other = 0;
    assert_int_equal(mr_slots_verify(f->one.io, 0, reports, count_finding, f), MR_OK);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_section_damaged_in_the_newer_comes_from_the_other(void **state)
{
    struct fixture *f = *state;
    struct mr_slot_report reports[2];
    for (uint32_t i = 0; i < chunk_count(f, f->newer); i++) {
        struct mr_bus_opened opened;
        damage_chunk(f, f->newer, i);
        start(f, &opened);
        assert_int_equal(opened.bad_slots, 1);
        assert_int_equal(opened.sections_lost, 0);
        verify(f, reports);
        assert_int_equal(reports[f->newer].state, MR_SLOT_DAMAGED);
        assert_int_equal(reports[1 - f->newer].state, MR_SLOT_WHOLE);
        assert_int_equal(f->chunks, 1);
        assert_int_equal(f->sections, opened.sections_damaged);
        assert_int_equal(f->from_other, f->sections);
    }
    restore(f);
    verify(f, reports);
    assert_int_equal(reports[0].state, MR_SLOT_WHOLE);
    assert_int_equal(reports[1].state, MR_SLOT_WHOLE);
    assert_int_equal(f->chunks + f->sections, 0);
}

static void test_section_damaged_in_the_older_costs_nothing(void **state)
{
    struct fixture *f = *state;
    struct mr_slot_report reports[2];
    struct mr_bus_opened opened;
    damage_chunk(f, 1 - f->newer, 1);
    start(f, &opened);
    assert_int_equal(opened.sections_damaged, 0);
    verify(f, reports);
    assert_int_equal(reports[1 - f->newer].state, MR_SLOT_DAMAGED);
    assert_int_equal(f->chunks, 1);
    assert_int_equal(f->sections, 0);
    restore(f);
}

static void test_section_damaged_in_both_is_folded_from_the_log(void **state)
{
    struct fixture *f = *state;
    struct mr_slot_report reports[2];
    struct mr_bus_opened opened;
    uint64_t lost = 0;
    for (uint32_t i = 0; i < chunk_count(f, 0) && i < chunk_count(f, 1); i++) {
        damage_chunk(f, 0, i);
        damage_chunk(f, 1, i);
        start(f, &opened);
        assert_int_equal(opened.bad_slots, 2);
        lost += opened.sections_lost;
        verify(f, reports);
        assert_int_equal(f->chunks, 2);
        restore(f);
    }
    assert_true(lost > 0);
}

static void test_slot_that_is_missing_or_useless_is_done_without(void **state)
{
    struct fixture *f = *state;
    struct mr_slot_report reports[2];
    struct mr_bus_opened opened;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(f->one.io->ops->unlink(f->one.io, slot_names[i]), MR_OK);
        start(f, &opened);
        assert_int_equal(opened.bad_slots, 0);
        verify(f, reports);
        assert_int_equal(reports[i].state, MR_SLOT_ABSENT);
        assert_true(reports[1 - i].counts);
        write_slot(f, i, f->slots[i], 100);
        start(f, &opened);
        assert_int_equal(opened.bad_slots, i == f->newer);
        verify(f, reports);
        assert_int_equal(reports[i].state, MR_SLOT_USELESS);
        restore(f);
    }
    assert_int_equal(f->one.io->ops->unlink(f->one.io, slot_names[0]), MR_OK);
    assert_int_equal(f->one.io->ops->unlink(f->one.io, slot_names[1]), MR_OK);
    start(f, &opened);
    assert_false(opened.from_checkpoint);
    restore(f);
}

static void test_slot_of_a_later_version_is_refused_by_name(void **state)
{
    struct fixture *f = *state;
    struct mr_slot_report reports[2];
    struct mr_bus_opened opened;
    for (unsigned i = 0; i < 2; i++) {
        struct mr_problem problem = {{0}};
        mr_put_u32(f->slots[i] + 8, 6);
        mr_put_u32(f->slots[i] + 60, mr_crc32c(0, f->slots[i], 60));
        restore(f);
        assert_int_equal(one_bus_open(&f->one, &opened, &problem), MR_E_UNSUPPORTED);
        assert_non_null(strstr(problem.text, slot_names[i]));
        assert_non_null(strstr(problem.text, "later version"));
        verify(f, reports);
        assert_int_equal(reports[i].state, MR_SLOT_LATER);
        mr_put_u32(f->slots[i] + 8, 5);
        mr_put_u32(f->slots[i] + 60, mr_crc32c(0, f->slots[i], 60));
        restore(f);
    }
    start(f, &opened);
    assert_int_equal(opened.bad_slots, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_section_damaged_in_the_newer_comes_from_the_other),
        cmocka_unit_test(test_section_damaged_in_the_older_costs_nothing),
        cmocka_unit_test(test_section_damaged_in_both_is_folded_from_the_log),
        cmocka_unit_test(test_slot_that_is_missing_or_useless_is_done_without),
        cmocka_unit_test(test_slot_of_a_later_version_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
