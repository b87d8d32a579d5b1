#include "tests/support/test.h"

#include "admin/audit.h"

#define OURS 2u
#define SEGMENT 5u

/* A group under construction. */
struct made {
    uint8_t data[8192];
    struct mr_log_group group;
};

static void begin(struct made *made, uint64_t segment, uint64_t at, uint64_t first_offset)
{
    memset(made, 0, sizeof(*made));
    made->group = (struct mr_log_group){.position = mr_position(segment, at),
                                        .decision = MR_RECOVERY_TAKE,
                                        .header_good = true,
                                        .data = made->data};
    made->group.header.size = MR_GROUP_HEADER_SIZE;
    made->group.header.first_offset = first_offset;
    made->group.header.next_offset = first_offset;
}

/* An audit of OURS behind offset @p after, and the first group it may see. */
static void start(struct mr_audit *audit, uint64_t after, struct made *made, uint64_t first_offset)
{
    mr_audit_init(audit, OURS, after);
    begin(made, SEGMENT, 4096, first_offset);
}

static void put(struct made *made, struct mr_record record)
{
    (void)mr_record_encode(&record, made->data + made->group.header.size);
    made->group.header.size += (uint32_t)mr_record_size(record.body.size);
    made->group.size = made->group.header.size;
    assert_true(made->group.header.size < sizeof(made->data));
    made->group.header.next_offset += record.kind == MR_RECORD_EVENT;
}

/* An event of @p source at the next offset. */
static uint64_t put_event(struct made *made, uint32_t source)
{
    uint64_t offset = made->group.header.next_offset;
    put(made, (struct mr_record){.kind = MR_RECORD_EVENT, .offset = offset, .a = source});
    return offset;
}

static void put_match(struct made *made, uint64_t offset, uint32_t count)
{
    uint8_t body[4 * MR_MATCH_ENTRY_SIZE] = {0};
    for (uint32_t i = 0; i < count; i++) {
        mr_put_u32(body + (size_t)i * MR_MATCH_ENTRY_SIZE, i); /* subscriptions 0, 1, … */
    }
    put(made, (struct mr_record){.kind = MR_RECORD_MATCH, .offset = offset, .a = count,
                                 .body = mr_bytes(body, (size_t)count * MR_MATCH_ENTRY_SIZE)});
}

static void put_end(struct made *made, uint8_t kind, uint64_t offset, uint32_t subscription,
                    enum mr_state state)
{
    put(made, (struct mr_record){.kind = kind, .offset = offset, .a = subscription, .b = 1,
                                 .extra = (uint16_t)state});
}

static struct mr_audit_tally tally_of(const struct mr_audit *audit)
{
    struct mr_audit_tally tally = {0};
    uint32_t at = 0;
    mr_audit_count(audit, 0, UINT64_MAX, &at, &tally);
    uint64_t sum = 0;
    for (size_t i = 0; i < MR_STATE_MAX; i++) {
        sum += tally.by_state[i];
    }
    assert_int_equal(sum, tally.in);
    return tally;
}

static void test_audit_counts_what_became_of_each_delivery(void **state)
{
    (void)state;
    struct mr_audit audit;
    static struct made made;
    start(&audit, 0, &made, 1);
    put_match(&made, put_event(&made, OURS), 2);
    put_match(&made, put_event(&made, 9), 2); /* of another source */
    put_match(&made, put_event(&made, OURS), 0);
    uint64_t refused = put_event(&made, OURS);
    put_end(&made, MR_RECORD_DEAD, refused, 7, MR_STATE_DEAD);
    assert_true(mr_audit_group(&audit, &made.group));
    begin(&made, SEGMENT, 8192, 5);
    put_end(&made, MR_RECORD_SETTLE, 1, 0, MR_STATE_DONE);
    put_end(&made, MR_RECORD_SETTLE, 2, 0, MR_STATE_DONE);
    assert_true(mr_audit_group(&audit, &made.group));
    assert_true(mr_audit_group(&audit, &made.group)); /* passed over: folded already */
    struct mr_audit_tally tally = tally_of(&audit);
    assert_int_equal(audit.events, 3);
    assert_int_equal(audit.unmatched, 1);
    assert_int_equal(audit.rejected, 1);
    assert_int_equal(tally.in, 3);
    assert_int_equal(tally.by_state[MR_STATE_DONE], 1);
    assert_int_equal(tally.by_state[MR_STATE_DEAD], 1);
    assert_int_equal(tally.by_state[MR_STATE_NONE], 1);
    assert_int_equal(audit.gap_count, 0);
    mr_audit_release(&audit);
}

static void test_audit_redrive_opens_and_removal_ends(void **state)
{
    (void)state;
    struct mr_audit audit;
    static struct made made;
    start(&audit, 0, &made, 1);
    put_match(&made, put_event(&made, OURS), 2);
    put_end(&made, MR_RECORD_DEAD, 1, 0, MR_STATE_DEAD);
    put_end(&made, MR_RECORD_REDRIVE, 1, 0, MR_STATE_NONE);
    put_end(&made, MR_RECORD_SETTLE, 1, 0, MR_STATE_DONE);
    put(&made, (struct mr_record){.kind = MR_RECORD_REMOVED, .a = 1, .b = 2});
    assert_true(mr_audit_group(&audit, &made.group));
    struct mr_audit_tally tally = tally_of(&audit);
    assert_int_equal(tally.by_state[MR_STATE_DONE], 1);
    assert_int_equal(tally.by_state[MR_STATE_EXPIRED], 1);
    assert_int_equal(audit.gap_count, 0);
    mr_audit_release(&audit);
}

static void test_audit_ended_twice_is_a_gap(void **state)
{
    (void)state;
    struct mr_audit audit;
    static struct made made;
    start(&audit, 0, &made, 1);
    put_match(&made, put_event(&made, OURS), 1);
    put_end(&made, MR_RECORD_SETTLE, 1, 0, MR_STATE_DONE);
    put_end(&made, MR_RECORD_DEAD, 1, 0, MR_STATE_DEAD);
    assert_true(mr_audit_group(&audit, &made.group));
    assert_int_equal(audit.gap_count, 1);
    assert_string_equal(audit.gaps[0].why, "it ended twice");
    mr_audit_release(&audit);
}

static void test_audit_event_without_a_match_is_a_gap(void **state)
{
    (void)state;
    struct mr_audit audit;
    static struct made made;
    start(&audit, 0, &made, 1);
    (void)put_event(&made, OURS);
    put_match(&made, put_event(&made, OURS), 1);
    assert_true(mr_audit_group(&audit, &made.group));
    assert_int_equal(audit.gap_count, 1);
    assert_int_equal(audit.gaps[0].offset, 1);
    assert_int_equal(audit.gaps[0].subscription, UINT32_MAX);
    mr_audit_release(&audit);
}

static void test_audit_missing_offsets_are_a_gap_unless_given_up_or_lost(void **state)
{
    (void)state;
    struct mr_audit audit;
    static struct made made;
    start(&audit, 0, &made, 3);
    put_match(&made, put_event(&made, OURS), 1);
    assert_true(mr_audit_group(&audit, &made.group));
    /* What stood between was damaged, and the reader says which offsets went with it. */
    struct mr_log_group rotten = {.position = mr_position(SEGMENT, 8192),
                                  .decision = MR_RECOVERY_ROTTEN,
                                  .lost_first = 4,
                                  .lost_end = 6};
    assert_true(mr_audit_group(&audit, &rotten));
    begin(&made, SEGMENT, 12288, 6);
    assert_true(mr_audit_group(&audit, &made.group));
    assert_int_equal(audit.lost_events, 2);
    assert_int_equal(audit.gap_count, 0);
    /* A segment was given up. */
    begin(&made, SEGMENT + 2, 4096, 20);
    assert_true(mr_audit_group(&audit, &made.group));
    assert_int_equal(audit.gap_count, 0);
    /* Nothing explains this. */
    begin(&made, SEGMENT + 3, 4096, 25);
    assert_true(mr_audit_group(&audit, &made.group));
    assert_int_equal(audit.gap_count, 1);
    assert_int_equal(audit.gaps[0].offset, 20);
    assert_int_equal(audit.gaps[0].end, 25);
    mr_audit_release(&audit);
}

static void test_audit_positions_take_the_events_before_them(void **state)
{
    (void)state;
    struct mr_audit audit;
    static struct made made;
    start(&audit, 0, &made, 1);
    put_match(&made, put_event(&made, OURS), 1);
    put_match(&made, put_event(&made, OURS), 1);
    struct mr_record cursor = {
        .kind = MR_RECORD_CURSOR, .a = OURS, .body = MR_BYTES_LITERAL("{\"line\":2}")};
    put(&made, cursor);
    put(&made, cursor); /* moved past nothing */
    put_match(&made, put_event(&made, OURS), 1);
    assert_true(mr_audit_group(&audit, &made.group));
    mr_audit_close(&audit);
    assert_int_equal(audit.position_count, 2);
    assert_string_equal(audit.positions[0].cursor, "{\"line\":2}");
    assert_int_equal(audit.positions[0].events, 2);
    assert_int_equal(audit.positions[0].last_offset, 2);
    assert_null(audit.positions[1].cursor);
    assert_int_equal(audit.positions[1].events, 1);
    mr_audit_release(&audit);
}

static void test_audit_page_begins_behind_the_one_before(void **state)
{
    (void)state;
    struct mr_audit audit;
    static struct made made;
    start(&audit, 1, &made, 1);
    put_match(&made, put_event(&made, OURS), 1);
    put_match(&made, put_event(&made, OURS), 1);
    assert_true(mr_audit_group(&audit, &made.group));
    assert_int_equal(audit.events, 1);
    assert_int_equal(audit.last_offset, 2);
    assert_int_equal(audit.next_segment, SEGMENT);
    audit.full = true; /* what comes now is for the next page */
    begin(&made, SEGMENT, 8192, 3);
    put_match(&made, put_event(&made, OURS), 1);
    put_end(&made, MR_RECORD_SETTLE, 2, 0, MR_STATE_DONE);
    assert_true(mr_audit_group(&audit, &made.group));
    assert_int_equal(audit.events, 1);
    assert_int_equal(tally_of(&audit).by_state[MR_STATE_DONE], 1);
    mr_audit_release(&audit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_audit_counts_what_became_of_each_delivery),
        cmocka_unit_test(test_audit_redrive_opens_and_removal_ends),
        cmocka_unit_test(test_audit_ended_twice_is_a_gap),
        cmocka_unit_test(test_audit_event_without_a_match_is_a_gap),
        cmocka_unit_test(test_audit_missing_offsets_are_a_gap_unless_given_up_or_lost),
        cmocka_unit_test(test_audit_positions_take_the_events_before_them),
        cmocka_unit_test(test_audit_page_begins_behind_the_one_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
