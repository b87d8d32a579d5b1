/* Footers of segments made by hand: everything in them is found again, and nothing is believed that
 * is damaged, old or another's. */
#include "tests/support/test.h"

#include "bus/footer_ids.h"
#include "core/alloc.h"
#include "core/hash.h"
#include "schemas/event.h"
#include "tests/support/logfolder.h"

#define SALT 0x1234567890abcdefull
#define SUBS 7u
#define TYPES 5u

struct made { /* one event of the segment */
    uint64_t offset;
    uint64_t place;
    uint64_t group; /* place of its group */
    uint32_t size; /* with its MATCH */
    uint32_t subs; /* bit mask */
};

struct fixture {
    struct log_folder folder;
    struct mr_io *io; /* of the folder */
    uint8_t *data; /* the segment */
    uint64_t size;
    uint64_t used;
    uint64_t offset;
    uint64_t sequence;
    struct made *made;
    uint32_t count;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    log_folder_make(&f->folder, "footer");
    f->io = f->folder.io;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    log_folder_remove(&f->folder);
    mr_free(f->data);
    free(f->made);
    free(f);
    return 0;
}

static struct mr_bytes text_of(char text[64], const char *form, uint64_t n)
{
    int size = snprintf(text, 64, "%s-%llu", form, (unsigned long long)n);
    return mr_bytes(text, (size_t)size);
}

static struct mr_event *make_event(uint64_t n, size_t data_size)
{
    char text[64];
    static const uint8_t zeros[2 * MR_KIB];
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, MR_EVENT_SIZE_MAX);
    assert_int_equal(mr_event_builder_attr(&builder, mr_bytes_of("id"), MR_ATTR_STRING,
                                           text_of(text, "event", n), NULL),
                     MR_OK);
    assert_int_equal(mr_event_builder_attr(&builder, mr_bytes_of("source"), MR_ATTR_STRING,
                                           text_of(text, "/shop", n % 100), NULL),
                     MR_OK);
    assert_int_equal(mr_event_builder_attr(&builder, mr_bytes_of("type"), MR_ATTR_STRING,
                                           text_of(text, "order", n % TYPES), NULL),
                     MR_OK);
    assert_int_equal(mr_event_builder_attr(&builder, mr_bytes_of("subject"), MR_ATTR_STRING,
                                           text_of(text, "customer", n), NULL),
                     MR_OK);
    mr_event_builder_data(&builder, mr_bytes(zeros, data_size), false);
    struct mr_event *event;
    assert_int_equal(mr_event_builder_finish(&builder, true, &event, NULL), MR_OK);
    return event;
}

static uint32_t put_record(uint8_t *group, struct mr_group_header *header,
                           const struct mr_record *record)
{
    uint8_t le[4];
    uint32_t at = header->size;
    mr_put_u32(le, mr_record_encode(record, group + at));
    header->records_crc = mr_crc32c(header->records_crc, le, sizeof(le));
    header->records++;
    header->size += (uint32_t)mr_record_size(record->body.size);
    return at;
}

static void put_event(struct fixture *f, uint8_t *group, struct mr_group_header *header,
                      uint64_t place, size_t data_size)
{
    struct mr_event *event = make_event(f->offset, data_size);
    struct made *made = &f->made[f->count++];
    struct mr_record record = {
        .kind = MR_RECORD_EVENT, .offset = f->offset, .body = mr_event_record(event)};
    uint32_t at = put_record(group, header, &record);
    *made = (struct made){.offset = f->offset, .place = place + at, .group = place};
    uint8_t entries[SUBS * MR_MATCH_ENTRY_SIZE] = {0};
    struct mr_record match = {.kind = MR_RECORD_MATCH, .offset = f->offset};
    for (uint32_t sub = 0; sub < SUBS; sub++) {
        if (f->offset % (sub * sub * 3 + 1) == 0) { /* all, each fourth, … few */
            mr_put_u32(entries + (size_t)match.a++ * MR_MATCH_ENTRY_SIZE, sub * 1000);
            made->subs |= 1u << sub;
        }
    }
    match.body = mr_bytes(entries, (size_t)match.a * MR_MATCH_ENTRY_SIZE);
    (void)put_record(group, header, &match);
    made->size = header->size - at;
    struct mr_record other = {.kind = MR_RECORD_SETTLE, .offset = f->offset};
    if (f->offset % 3 == 0) {
        (void)put_record(group, header, &other);
    }
    f->offset++;
    mr_event_unref(event);
}

/* Segment 5 of @p size bytes, as full as it goes with events of @p data_size bytes. */
static void make_segment(struct fixture *f, uint64_t size, size_t data_size, uint32_t per_group)
{
    f->data = mr_calloc(1, size);
    f->made = calloc(size / 128, sizeof(*f->made));
    assert_true(f->data != NULL && f->made != NULL);
    f->size = size;
    f->used = MR_LOG_BLOCK;
    f->offset = 100;
    struct mr_segment_header segment = {.number = 5, .size = size, .salt = SALT, .log_id = 9};
    mr_segment_header_encode(&segment, f->data);
    uint64_t most = MR_GROUP_HEADER_SIZE + (uint64_t)per_group * (data_size + 600);
    while (f->used + mr_round_up(most, MR_LOG_BLOCK) <= size) {
        struct mr_group_header header = {
            .salt = SALT,
            .sequence = ++f->sequence,
            .first_offset = f->offset,
            .next_offset = f->offset + per_group,
            .wall_ns = 1000 + f->sequence,
            .log_ns = 2000 + f->sequence,
            .size = MR_GROUP_HEADER_SIZE,
        };
        for (uint32_t i = 0; i < per_group; i++) {
            put_event(f, f->data + f->used, &header, f->used, data_size);
        }
        header.padded = (uint32_t)mr_round_up(header.size, MR_LOG_BLOCK);
        mr_group_header_encode(&header, f->data + f->used);
        f->used += header.padded;
    }
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(5, name);
    log_file_write(f->io, name, f->data, size, 0);
}

/* --- finding things --------------------------------------------------------------------------- */

struct found {
    uint64_t place;
    uint64_t size;
    bool hit;
};

static bool take_place(void *context, uint64_t place)
{
    struct found *found = context;
    found->hit = found->hit || place == found->place;
    found->size++;
    return true;
}

static void check_event(const struct mr_footer *footer, const struct made *made)
{
    char text[64];
    struct found found = {.place = made->place};
    uint64_t hash = mr_footer_id_hash(text_of(text, "event", made->offset));
    bool may = false;
    assert_int_equal(mr_footer_may_have_id(footer, hash, &may), MR_OK);
    assert_true(may);
    assert_int_equal(mr_footer_find_id(footer, hash, take_place, &found), MR_OK);
    assert_true(found.hit && found.size < 4);
    const struct {
        enum mr_footer_value which;
        const char *form;
        uint64_t n;
    } values[] = {{MR_FOOTER_TYPE, "order", made->offset % TYPES},
                  {MR_FOOTER_SOURCE, "/shop", made->offset % 100},
                  {MR_FOOTER_SUBJECT, "customer", made->offset}};
    for (size_t i = 0; i < MR_ARRAY_COUNT(values); i++) {
        found = (struct found){.place = made->group};
        assert_int_equal(mr_footer_find_value(footer, values[i].which,
                                              text_of(text, values[i].form, values[i].n),
                                              take_place, &found),
                         MR_OK);
        assert_true(found.hit);
    }
    assert_true(found.size < 4); /* by subject: hardly more than its own */
    found = (struct found){.place = made->group};
    assert_int_equal(mr_footer_find_about(footer, made->offset, take_place, &found), MR_OK);
    assert_true(found.hit);
}

static void check_postings(struct fixture *f, const struct mr_footer *footer, uint32_t sub)
{
    struct mr_footer_range items[50];
    uint32_t count = 0;
    uint32_t at = 0;
    uint64_t from = 0;
    for (uint32_t i = 0; i < f->count; i++) {
        if ((f->made[i].subs >> sub & 1) == 0) {
            continue;
        }
        if (at == count) {
            assert_int_equal(
                mr_footer_postings(footer, sub * 1000, from, items, i % 50 + 1, &count), MR_OK);
            assert_true(count > 0);
            at = 0;
        }
        assert_int_equal(items[at].place, f->made[i].place);
        assert_int_equal(items[at].size, f->made[i].size);
        from = items[at].place + 1;
        at++;
    }
    assert_int_equal(mr_footer_postings(footer, sub * 1000, from, items, 50, &count), MR_OK);
    assert_int_equal(count, 0);
    assert_int_equal(mr_footer_postings(footer, sub * 1000 + 1, 0, items, 50, &count), MR_OK);
    assert_int_equal(count, 0);
}

static void check_all(struct fixture *f, uint32_t step)
{
    struct mr_footer *footer;
    assert_int_equal(mr_footer_open(f->io, 5, SALT, &footer), MR_OK);
    assert_int_equal(footer->head.events, f->count);
    assert_int_equal(footer->head.first_offset, 100);
    assert_int_equal(footer->head.next_offset, f->offset);
    assert_int_equal(footer->head.groups, f->sequence);
    assert_int_equal(footer->head.first_wall_ns, 1001);
    assert_int_equal(footer->head.last_log_ns, 2000 + f->sequence);
    assert_int_equal(footer->head.rotten, 0);
    for (uint32_t i = 0; i < f->count; i += step) {
        check_event(footer, &f->made[i]);
    }
    check_event(footer, &f->made[f->count - 1]);
    for (uint32_t sub = 0; sub < SUBS; sub++) {
        check_postings(f, footer, sub);
    }
    mr_footer_close(footer);
}

static void test_footer_finds_everything(void **state)
{
    struct fixture *f = *state;
    make_segment(f, MR_MIB, 300, 20);
    assert_int_equal(mr_footer_check(f->io, 5, SALT, NULL), MR_E_NOT_FOUND);
    assert_int_equal(mr_footer_build(f->io, 5, SALT, f->used), MR_OK);
    assert_int_equal(mr_footer_check(f->io, 5, SALT, NULL), MR_OK);
    check_all(f, 1);
}

static void test_footer_of_small_events_finds_everything(void **state)
{
    struct fixture *f = *state;
    make_segment(f, 4 * MR_MIB, 1, 1000);
    assert_int_equal(mr_footer_build(f->io, 5, SALT, f->used), MR_OK);
    check_all(f, 97);
}

static void test_footer_is_at_most_two_percent(void **state)
{
    struct fixture *f = *state;
    make_segment(f, MR_SEGMENT_SIZE_MAX, 1000, 700);
    assert_int_equal(mr_footer_build(f->io, 5, SALT, f->used), MR_OK);
    struct mr_footer *footer;
    assert_int_equal(mr_footer_open(f->io, 5, SALT, &footer), MR_OK);
    static const char *const names[MR_FOOTER_SECTION_MAX] = {
        "fences", "lists", "postings", "bloom", "ids", "values"};
    uint64_t without = 0;
    for (int i = 0; i < MR_FOOTER_SECTION_MAX; i++) {
        uint64_t size = (uint64_t)footer->head.sections[i].pages * MR_FOOTER_PAGE;
        without += i == MR_FOOTER_POSTINGS || i == MR_FOOTER_LISTS ? 0 : size;
        print_message("%-10s %8llu bytes, %.2f %%\n", names[i], (unsigned long long)size,
                      100.0 * (double)size / (double)f->used);
    }
    print_message("%u events; without postings %.2f %%\n", footer->head.events,
                  100.0 * (double)without / (double)f->used);
    assert_true(without * 50 <= f->used);
    char text[64];
    uint32_t false_hits = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        bool may = false;
        uint64_t hash = mr_footer_id_hash(text_of(text, "other", i));
        assert_int_equal(mr_footer_may_have_id(footer, hash, &may), MR_OK);
        false_hits += may;
    }
    assert_true(false_hits < 200);
    mr_footer_close(footer);
    check_all(f, 997);
}

/* --- not believing things --------------------------------------------------------------------- */

static uint64_t footer_size(struct fixture *f)
{
    char name[MR_LOG_NAME_SIZE];
    mr_footer_name(5, name);
    return log_file_size(f->io, name);
}

static void flip(struct fixture *f, uint64_t at, unsigned bit)
{
    char name[MR_LOG_NAME_SIZE];
    mr_footer_name(5, name);
    log_file_flip(f->io, name, at, bit);
}

static void test_footer_damaged_is_refused(void **state)
{
    struct fixture *f = *state;
    make_segment(f, 256 * MR_KIB, 200, 5);
    assert_int_equal(mr_footer_build(f->io, 5, SALT, f->used), MR_OK);
    uint64_t size = footer_size(f);
    for (uint64_t at = 0; at < size; at += at % MR_FOOTER_PAGE < 256 ? 1 : 61) {
        flip(f, at, at % 8);
        assert_int_equal(mr_footer_check(f->io, 5, SALT, NULL), MR_E_CORRUPT);
        flip(f, at, at % 8);
    }
    assert_int_equal(mr_footer_check(f->io, 5, SALT, NULL), MR_OK);
    char name[MR_LOG_NAME_SIZE];
    mr_footer_name(5, name);
    for (uint64_t cut = 0; cut < size; cut += MR_FOOTER_PAGE / 2) {
        assert_int_equal(mr_footer_build(f->io, 5, SALT, f->used), MR_OK);
        log_file_cut(f->io, name, cut);
        assert_int_equal(mr_footer_check(f->io, 5, SALT, NULL), MR_E_CORRUPT);
    }
}

static void test_footer_of_another_use_is_refused(void **state)
{
    struct fixture *f = *state;
    make_segment(f, 256 * MR_KIB, 200, 5);
    assert_int_equal(mr_footer_build(f->io, 5, SALT + 1, f->used), MR_E_CORRUPT);
    assert_int_equal(mr_footer_build(f->io, 6, SALT, f->used), MR_E_NOT_FOUND);
    assert_int_equal(mr_footer_build(f->io, 5, SALT, f->used), MR_OK);
    struct mr_footer *footer;
    assert_int_equal(mr_footer_open(f->io, 5, SALT + 1, &footer), MR_E_CORRUPT);
    assert_int_equal(mr_footer_open(f->io, 6, SALT, &footer), MR_E_NOT_FOUND);
    char from[MR_LOG_NAME_SIZE];
    char to[MR_LOG_NAME_SIZE];
    mr_footer_name(5, from);
    mr_footer_name(6, to);
    assert_int_equal(f->io->ops->rename(f->io, from, to), MR_OK);
    assert_int_equal(mr_footer_open(f->io, 6, SALT, &footer), MR_E_CORRUPT);
}

static void test_footer_of_a_rotten_segment_says_so(void **state)
{
    struct fixture *f = *state;
    make_segment(f, 256 * MR_KIB, 200, 5);
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(5, name);
    uint8_t zeros[MR_LOG_BLOCK] = {0};
    log_file_write(f->io, name, zeros, sizeof(zeros), 2ull * MR_LOG_BLOCK); /* a group's header */
    uint8_t bad = f->data[f->made[f->count - 1].place + 60] ^ 1;
    log_file_write(f->io, name, &bad, 1, f->made[f->count - 1].place + 60); /* the body of one event */
    assert_int_equal(mr_footer_build(f->io, 5, SALT, f->used), MR_OK);
    struct mr_footer *footer;
    assert_int_equal(mr_footer_open(f->io, 5, SALT, &footer), MR_OK);
    assert_int_equal(footer->head.rotten, 2);
    assert_true(footer->head.events < f->count);
    for (uint32_t i = 0; i + 1 < f->count; i++) {
        bool gone = f->made[i].place >= 2ull * MR_LOG_BLOCK &&
                    f->made[i].place < 4ull * MR_LOG_BLOCK;
        if (!gone) {
            check_event(footer, &f->made[i]);
        }
    }
    struct found found = {.place = f->made[f->count - 1].place};
    char text[64];
    uint64_t hash = mr_footer_id_hash(text_of(text, "event", f->made[f->count - 1].offset));
    assert_int_equal(mr_footer_find_id(footer, hash, take_place, &found), MR_OK);
    assert_false(found.hit);
    mr_footer_close(footer);
}

static void test_footer_of_an_empty_segment(void **state)
{
    struct fixture *f = *state;
    make_segment(f, MR_LOG_BLOCK, 200, 5);
    assert_int_equal(mr_footer_build(f->io, 5, SALT, f->used), MR_OK);
    struct mr_footer *footer;
    assert_int_equal(mr_footer_open(f->io, 5, SALT, &footer), MR_OK);
    struct mr_footer_range range;
    uint32_t count = 1;
    struct found found = {0};
    assert_int_equal(mr_footer_postings(footer, 0, 0, &range, 1, &count), MR_OK);
    assert_int_equal(count, 0);
    assert_int_equal(mr_footer_find_id(footer, 77, take_place, &found), MR_OK);
    assert_int_equal(mr_footer_find_value(footer, MR_FOOTER_TYPE, mr_bytes_of("x"), take_place,
                                          &found),
                     MR_OK);
    assert_false(found.hit);
    mr_footer_close(footer);
}

/* Whether the file of the group says that segment 5 may have it; @p head may be an old one. */
static bool may_have(struct fixture *f, const struct mr_footer_ids_head *head, uint64_t n)
{
    char text[64];
    struct mr_footer_ids_answer answer;
    mr_footer_ids_ask(f->io, head, 1, mr_footer_id_hash(text_of(text, "event", n)), &answer);
    return (answer.covered >> 5 & 1) == 0 || (answer.may >> 5 & 1) != 0;
}

static void check_group(struct fixture *f, const struct mr_footer_ids_head *head)
{
    for (uint32_t i = 0; i < f->count; i += 7) {
        assert_true(may_have(f, head, f->made[i].offset));
    }
}

static uint32_t false_hits(struct fixture *f, const struct mr_footer_ids_head *head)
{
    uint32_t hits = 0;
    for (uint64_t n = 0; n < 50; n++) {
        hits += may_have(f, head, n);
    }
    return hits;
}

static void test_footer_ids_of_a_group(void **state)
{
    struct fixture *f = *state;
    make_segment(f, 256 * MR_KIB, 200, 5);
    char name[MR_LOG_NAME_SIZE];
    assert_int_equal(mr_footer_build(f->io, 5, SALT, f->used), MR_OK);
    uint64_t salts[MR_FOOTER_GROUP] = {[5] = SALT, [6] = 7};
    uint64_t covered = 0;
    struct mr_footer_ids_head head;
    assert_int_equal(mr_footer_ids_check(f->io, 0, 9, &covered), MR_E_NOT_FOUND);
    assert_int_equal(mr_footer_ids_build(f->io, 0, 9, 3u << 5, salts), MR_OK);
    assert_int_equal(mr_footer_ids_check(f->io, 0, 9, &covered), MR_OK);
    assert_int_equal(covered, 1u << 5);
    assert_int_equal(mr_footer_ids_open(f->io, 0, 9, &head), MR_OK);
    check_group(f, &head);
    assert_true(false_hits(f, &head) < 5);
    assert_int_equal(mr_footer_ids_check(f->io, 0, 8, &covered), MR_E_CORRUPT); /* another log */
    mr_footer_ids_name(0, name);
    uint8_t zeros[64] = {0};
    log_file_write(f->io, name, zeros, sizeof(zeros), MR_FOOTER_PAGE + 8); /* block 0 */
    assert_int_equal(mr_footer_ids_check(f->io, 0, 9, &covered), MR_E_CORRUPT);
    check_group(f, &head); /* what it cannot say, the footers do */
    assert_int_equal(mr_footer_ids_build(f->io, 0, 9, 1u << 5, salts), MR_OK);
    assert_int_equal(mr_footer_ids_check(f->io, 0, 9, &covered), MR_OK);
}

/* A page that stood in the file before it was made again is good by itself, but knows less. */
static void test_footer_ids_made_before_are_not_believed(void **state)
{
    struct fixture *f = *state;
    make_segment(f, 256 * MR_KIB, 200, 5);
    char name[MR_LOG_NAME_SIZE];
    static uint8_t old[64 * MR_FOOTER_PAGE];
    uint64_t salts[MR_FOOTER_GROUP] = {[5] = SALT};
    uint64_t covered = 0;
    struct mr_footer_ids_head before;
    struct mr_footer_ids_head head;
    mr_footer_ids_name(0, name);
    assert_int_equal(mr_footer_ids_build(f->io, 0, 9, 0, salts), MR_OK); /* of no segment yet */
    assert_int_equal(mr_footer_ids_open(f->io, 0, 9, &before), MR_OK);
    size_t got = log_file_read(f->io, name, old, sizeof(old), 0);
    assert_int_equal(mr_footer_build(f->io, 5, SALT, f->used), MR_OK);
    assert_int_equal(mr_footer_ids_build(f->io, 0, 9, 1u << 5, salts), MR_OK);
    assert_int_equal(mr_footer_ids_open(f->io, 0, 9, &head), MR_OK);
    assert_true(false_hits(f, &before) < 5); /* the new head is read */
    check_group(f, &before);
    log_file_write(f->io, name, old + MR_FOOTER_PAGE, got - MR_FOOTER_PAGE, MR_FOOTER_PAGE);
    assert_int_equal(mr_footer_ids_check(f->io, 0, 9, &covered), MR_E_CORRUPT);
    check_group(f, &head);
    check_group(f, &before);
}

static void test_footer_build_without_memory(void **state)
{
    struct fixture *f = *state;
    make_segment(f, 256 * MR_KIB, 200, 5);
    enum mr_status r = MR_E_NOMEM;
    for (uint64_t n = 1; r != MR_OK; n++) {
        int64_t live = mr_alloc_live();
        (void)mr_alloc_fail_at(n, 0);
        r = mr_footer_build(f->io, 5, SALT, f->used);
        (void)mr_alloc_fail_at(0, 0);
        assert_true(r == MR_OK || r == MR_E_NOMEM);
        assert_int_equal(mr_alloc_live(), live);
    }
    check_all(f, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_footer_finds_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(test_footer_of_small_events_finds_everything, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_footer_is_at_most_two_percent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_footer_damaged_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_footer_of_another_use_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_footer_of_a_rotten_segment_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(test_footer_of_an_empty_segment, setup, teardown),
        cmocka_unit_test_setup_teardown(test_footer_ids_of_a_group, setup, teardown),
        cmocka_unit_test_setup_teardown(test_footer_ids_made_before_are_not_believed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_footer_build_without_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
