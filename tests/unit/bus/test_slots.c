/* Checkpoints of a small log on a real disk, damaged in one slot, in both, missing, of a later
 * version: every start finds the same state, and says what it took from where. */
#include "tests/support/test.h"

#include "bus/bus.h"
#include "bus/checkpoint_verify.h"
#include "core/alloc.h"
#include "core/hash.h"
#include "tests/support/logfolder.h"

#define SUBS 4u
#define SLOT_MAX (512u * MR_KIB)

struct fixture {
    struct log_folder folder;
    struct mr_io *io; /* of the folder */
    struct mr_bus *bus;
    struct mr_log_request *first; /* asked for, oldest first */
    struct mr_log_request *last;
    struct mr_now now;
    struct mr_config config;
    struct mr_target_config target;
    struct mr_subscription_config subs[SUBS];
    char names[SUBS][8];
    struct mr_router *router;
    struct mr_event *event;
    uint32_t source;
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

/* --- a bus in one thread ---------------------------------------------------------------------- */

static void port_io(void *context, struct mr_log_request *request)
{
    struct fixture *f = context;
    request->op.next = NULL;
    if (f->first == NULL) {
        f->first = request;
    } else {
        f->last->op.next = &request->op;
    }
    f->last = request;
}

static void port_batch_done(void *context, struct mr_batch *batch)
{
    (void)context;
    assert_int_equal(batch->result, MR_OK);
    mr_batch_destroy(batch);
}

static void port_demand(void *context, uint32_t target, uint64_t queued, uint64_t age)
{
    (void)context, (void)target, (void)queued, (void)age;
}

static void port_slow(void *context, bool slow)
{
    (void)context, (void)slow;
}

static void port_alarm(void *context, const char *text)
{
    (void)context;
    assert_true(text[0] != '\0');
}

static enum mr_status open_bus(struct fixture *f, struct mr_bus_opened *opened,
                               struct mr_problem *problem)
{
    const struct mr_bus_ports ports = {.context = f,
                                       .io = port_io,
                                       .batch_done = port_batch_done,
                                       .demand = port_demand,
                                       .slow = port_slow,
                                       .alarm = port_alarm};
    const struct mr_bus_options options = {
        .log = {.segment_size = 64 * MR_KIB,
                .max_size = 1ull << 40,
                .retain_size = 1ull << 40,
                .cache_size = MR_MIB,
                .checkpoint_size = 96 * MR_KIB},
        .memory_state = 64 * MR_MIB,
        .seed = 1,
        .checkpoint_chunk = 1024,
        .footers_off = true,
    };
    f->now.mono_ns += MR_SECOND;
    f->now.wall_ns += MR_SECOND;
    return mr_bus_open(f->io, &options, &ports, f->now, &f->bus, opened, problem);
}

static void turn(struct fixture *f)
{
    while (f->first != NULL) {
        struct mr_log_request *request = f->first;
        f->first = (struct mr_log_request *)request->op.next;
        request->op.next = NULL;
        mr_log_perform(f->io, request);
        mr_bus_io_done(f->bus, f->now, request);
    }
    f->now.mono_ns += MR_MS;
    f->now.wall_ns += MR_MS;
    mr_bus_step(f->bus, f->now);
}

static void send(struct fixture *f)
{
    struct mr_batch *batch = mr_batch_create(f->source, 1);
    assert_non_null(batch);
    assert_int_equal(mr_batch_add(batch, mr_event_ref(f->event), NULL), MR_OK);
    assert_int_equal(mr_router_match(f->router, UINT32_MAX, mr_event_record(f->event),
                                     &batch->items[0].matches),
                     MR_OK);
    batch->generation = 1;
    mr_bus_ingest(f->bus, f->now, batch);
    turn(f);
}

static void configure(struct fixture *f)
{
    static char none[] = "[]";
    static char target[] = "none";
    static char json[] = "{}";
    static const uint64_t step_ns[] = {MR_SECOND};
    struct mr_problem problem;
    uint32_t refused;
    for (uint32_t i = 0; i < SUBS; i++) {
        (void)snprintf(f->names[i], sizeof(f->names[i]), "s%u", i);
        f->subs[i] = (struct mr_subscription_config){
            .name = f->names[i], .filter_json = none, .window_size = MR_MIB};
        f->subs[i].retry.step_count = 1;
        f->subs[i].retry.step_ns = step_ns;
    }
    f->target = (struct mr_target_config){
        .name = target, .concurrency = 1, .timeout_ns = 30 * MR_SECOND};
    f->config = (struct mr_config){
        .canonical_json = json,
        .hash = 1,
        .targets = &f->target,
        .target_count = 1,
        .subscriptions = f->subs,
        .subscription_count = SUBS,
        .hops_max = 16,
        .memory_state = 64 * MR_MIB,
        .log = {.max_size = 1ull << 40, .retain_size = 1ull << 40, .disk_low = 1},
    };
    assert_int_equal(mr_router_create(&f->config, &f->router, &refused, &problem), MR_OK);
    assert_int_equal(mr_bus_configure(f->bus, f->now, &f->config, f->router, 1), MR_OK);
    f->source = mr_bus_source_id(f->bus, MR_SOURCE_SEND_NAME);
}

static void make_event(struct fixture *f)
{
    static const char *const attrs[][2] = {{"id", "1"}, {"source", "/s"}, {"type", "t"}};
    struct mr_event_builder b;
    mr_event_builder_init(&b, 64 * MR_KIB);
    for (size_t i = 0; i < MR_ARRAY_COUNT(attrs); i++) {
        assert_int_equal(mr_event_builder_attr(&b, mr_bytes_of(attrs[i][0]), MR_ATTR_STRING,
                                               mr_bytes_of(attrs[i][1]), NULL),
                         MR_OK);
    }
    mr_event_builder_data(&b, mr_bytes_of("x"), false);
    assert_int_equal(mr_event_builder_finish(&b, true, &f->event, NULL), MR_OK);
}

/* --- files ------------------------------------------------------------------------------------ */

static void read_slot(struct fixture *f, unsigned i)
{
    f->sizes[i] = log_file_read(f->io, slot_names[i], f->slots[i], SLOT_MAX, 0);
    assert_true(f->sizes[i] > 2 * MR_LOG_BLOCK && f->sizes[i] < SLOT_MAX);
}

static void write_slot(struct fixture *f, unsigned i, const uint8_t *data, size_t size)
{
    (void)f->io->ops->unlink(f->io, slot_names[i]); /* it may be gone */
    log_file_write(f->io, slot_names[i], data, size, 0);
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
    log_folder_make(&f->folder, "slots");
    f->io = f->folder.io;
    f->now = (struct mr_now){.mono_ns = 1, .wall_ns = 1760000000 * MR_SECOND, .boot_id = 1};
    assert_int_equal(open_bus(f, &opened, &problem), MR_OK);
    configure(f);
    make_event(f);
    struct mr_bus_status status = {0};
    for (unsigned i = 0; i < 100000 && status.checkpoints < 3; i++) {
        send(f);
        mr_bus_status(f->bus, &status);
    }
    assert_true(status.checkpoints >= 3);
    for (unsigned i = 0; i < 100000 && !mr_bus_is_quiet(f->bus); i++) {
        turn(f);
    }
    mr_bus_destroy(MR_TAKE(f->bus));
    read_slot(f, 0);
    read_slot(f, 1);
    f->newer = mr_get_u64(f->slots[1] + 16) > mr_get_u64(f->slots[0] + 16);
    assert_true(chunk_count(f, 0) > SUBS && chunk_count(f, 1) > SUBS);
    assert_int_equal(open_bus(f, &opened, &problem), MR_OK);
    assert_int_equal(opened.bad_slots, 0);
    f->state = mr_bus_state_hash(f->bus);
    mr_bus_destroy(MR_TAKE(f->bus));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    log_folder_remove(&f->folder);
    mr_event_unref(f->event);
    mr_router_destroy(f->router);
    free(f);
    return 0;
}

static void start(struct fixture *f, struct mr_bus_opened *opened)
{
    struct mr_problem problem = {{0}};
    assert_int_equal(open_bus(f, opened, &problem), MR_OK);
    assert_int_equal(mr_bus_state_hash(f->bus), f->state);
    mr_bus_destroy(MR_TAKE(f->bus));
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
    assert_int_equal(mr_slots_verify(f->io, 0, reports, count_finding, f), MR_OK);
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
        assert_int_equal(f->io->ops->unlink(f->io, slot_names[i]), MR_OK);
        start(f, &opened);
        assert_int_equal(opened.bad_slots, 0);
        verify(f, reports);
        assert_int_equal(reports[i].state, MR_SLOT_ABSENT);
        assert_true(reports[1 - i].counts);
        write_slot(f, i, f->slots[i], 100);
        start(f, &opened);
        assert_int_equal(opened.bad_slots, 1);
        verify(f, reports);
        assert_int_equal(reports[i].state, MR_SLOT_USELESS);
        restore(f);
    }
    assert_int_equal(f->io->ops->unlink(f->io, slot_names[0]), MR_OK);
    assert_int_equal(f->io->ops->unlink(f->io, slot_names[1]), MR_OK);
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
        assert_int_equal(open_bus(f, &opened, &problem), MR_E_UNSUPPORTED);
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
