#include "tests/support/test.h"

#include <cjson/cJSON.h>

#include "admin/timeline.h"
#include "core/clock.h"

#define OFFSET 7u

/* Feeds one record, as a scan of the log would. */
static void see(struct mr_timeline *timeline, struct mr_record record, struct mr_bytes body)
{
    static uint64_t position = 4096;
    position += 64;
    record.body = body;
    struct mr_history_record seen = {
        .position = position, .wall_ns = 5 * MR_SECOND, .record = record};
    assert_true(mr_timeline_visit(timeline, &seen));
}

static void see_match(struct mr_timeline *timeline, uint32_t subscription, bool begun)
{
    uint8_t body[MR_MATCH_ENTRY_SIZE] = {0};
    mr_put_u32(body, subscription);
    mr_put_u32(body + 4, begun ? MR_MATCH_BEGUN : 0);
    see(timeline, (struct mr_record){.kind = MR_RECORD_MATCH, .offset = OFFSET, .a = 1},
        mr_bytes(body, sizeof(body)));
}

static void see_attempt(struct mr_timeline *timeline, uint32_t subscription, uint32_t fence,
                        uint16_t n)
{
    see(timeline,
        (struct mr_record){.kind = MR_RECORD_ATTEMPT, .offset = OFFSET, .a = subscription,
                           .b = fence, .extra = n},
        (struct mr_bytes){0});
}

static void see_answer(struct mr_timeline *timeline, uint8_t kind, enum mr_state state,
                       uint32_t fence, const struct mr_result *result)
{
    struct mr_buf body;
    mr_buf_init(&body, 65536);
    assert_int_equal(mr_result_encode(result, &body), MR_OK);
    see(timeline,
        (struct mr_record){.kind = kind, .offset = OFFSET, .a = 3, .b = fence,
                           .c = 6 * MR_SECOND, .d = 7 * MR_SECOND, .extra = (uint16_t)state},
        mr_buf_bytes(&body));
    mr_buf_release(&body);
}

static struct mr_result result_of(enum mr_verdict verdict, uint32_t attempts)
{
    return (struct mr_result){.verdict = (uint8_t)verdict, .attempts = attempts, .exit_code = -1};
}

/* The attempts as they are written. */
static cJSON *written(const struct mr_timeline *timeline, const struct mr_delivery_info *live)
{
    struct mr_json_out out;
    mr_json_out_init(&out, 1 << 20);
    mr_json_out_object(&out, NULL);
    mr_timeline_write_attempts(&out, &timeline->deliveries[0], live, "s");
    mr_json_out_end(&out);
    assert_int_equal(out.status, MR_OK);
    cJSON *json = cJSON_ParseWithLength((const char *)out.buf.data, out.buf.size);
    assert_non_null(json);
    mr_json_out_release(&out);
    return json;
}

static int count(const cJSON *json, const char *name)
{
    return cJSON_GetArraySize(cJSON_GetObjectItem(json, name));
}

static const cJSON *attempt(const cJSON *json, const char *list, int index, const char *name)
{
    return cJSON_GetObjectItem(cJSON_GetArrayItem(cJSON_GetObjectItem(json, list), index), name);
}

static void test_timeline_first_attempt_of_the_match_settles(void **state)
{
    (void)state;
    struct mr_timeline timeline;
    mr_timeline_init(&timeline, OFFSET);
    see_match(&timeline, 3, true);
    struct mr_result result = result_of(MR_VERDICT_OK, 1);
    see_answer(&timeline, MR_RECORD_SETTLE, MR_STATE_DONE, 1, &result);
    assert_true(timeline.matched);
    assert_int_equal(timeline.delivery_count, 1);
    assert_int_equal(timeline.deliveries[0].state, MR_STATE_DONE);
    cJSON *json = written(&timeline, NULL);
    assert_int_equal(count(json, "attempts"), 1);
    assert_string_equal(attempt(json, "attempts", 0, "verdict")->valuestring, "ok");
    assert_string_equal(attempt(json, "attempts", 0, "started")->valuestring,
                        "1970-01-01T00:00:06.000Z");
    assert_true(cJSON_IsNull(attempt(json, "attempts", 0, "exit")));
    cJSON_Delete(json);
    mr_timeline_release(&timeline);
}

static void test_timeline_refusals_are_not_attempts(void **state)
{
    (void)state;
    struct mr_timeline timeline;
    mr_timeline_init(&timeline, OFFSET);
    see_match(&timeline, 3, true);
    struct mr_result refused = result_of(MR_VERDICT_REFUSED, 0);
    refused.refusals = 1;
    see_answer(&timeline, MR_RECORD_RETRY, MR_STATE_WAITING, 1, &refused);
    see_attempt(&timeline, 3, 2, 1);
    struct mr_result retry = result_of(MR_VERDICT_RETRY, 1);
    retry.refusals = 1;
    see_answer(&timeline, MR_RECORD_RETRY, MR_STATE_WAITING, 2, &retry);
    assert_int_equal(timeline.deliveries[0].state, MR_STATE_NONE);
    cJSON *json = written(&timeline, NULL);
    assert_int_equal(count(json, "attempts"), 1);
    assert_int_equal(count(json, "uncounted"), 1);
    assert_string_equal(attempt(json, "uncounted", 0, "verdict")->valuestring, "refused");
    assert_int_equal(cJSON_GetObjectItem(json, "refusals")->valueint, 1);
    cJSON_Delete(json);
    mr_timeline_release(&timeline);
}

static void test_timeline_exit_is_null_after_a_signal(void **state)
{
    (void)state;
    struct mr_timeline timeline;
    mr_timeline_init(&timeline, OFFSET);
    see_match(&timeline, 3, true);
    struct mr_result crash = result_of(MR_VERDICT_CRASH, 1);
    crash.exit_signal = 11;
    crash.exit_code = 0;
    crash.stderr_tail = mr_bytes_of("boom");
    see_answer(&timeline, MR_RECORD_DEAD, MR_STATE_DEAD, 1, &crash);
    cJSON *json = written(&timeline, NULL);
    assert_true(cJSON_IsNull(attempt(json, "attempts", 0, "exit")));
    assert_int_equal(attempt(json, "attempts", 0, "signal")->valueint, 11);
    assert_string_equal(attempt(json, "attempts", 0, "stderr")->valuestring, "boom");
    cJSON_Delete(json);
    mr_timeline_release(&timeline);
}

static void test_timeline_attempt_in_flight_is_listed_with_the_live_fence(void **state)
{
    (void)state;
    struct mr_timeline timeline;
    mr_timeline_init(&timeline, OFFSET);
    see_match(&timeline, 3, true);
    struct mr_delivery_info live = {
        .state = MR_STATE_IN_FLIGHT, .fence = 1, .started_wall_ns = 9 * MR_SECOND};
    cJSON *json = written(&timeline, &live);
    assert_int_equal(count(json, "attempts"), 1);
    assert_string_equal(attempt(json, "attempts", 0, "started")->valuestring,
                        "1970-01-01T00:00:09.000Z");
    assert_true(cJSON_IsNull(attempt(json, "attempts", 0, "ended")));
    cJSON_Delete(json);
    live.fence = 2;
    json = written(&timeline, &live);
    assert_int_equal(count(json, "attempts"), 0);
    cJSON_Delete(json);
    mr_timeline_release(&timeline);
}

static void test_timeline_start_interrupts_what_was_under_way(void **state)
{
    (void)state;
    struct mr_timeline timeline;
    mr_timeline_init(&timeline, OFFSET);
    see_match(&timeline, 3, true);
    see(&timeline, (struct mr_record){.kind = MR_RECORD_START}, (struct mr_bytes){0});
    see_attempt(&timeline, 3, 2, 1);
    struct mr_result result = result_of(MR_VERDICT_OK, 1);
    result.interruptions = 1;
    see_answer(&timeline, MR_RECORD_SETTLE, MR_STATE_DONE, 2, &result);
    cJSON *json = written(&timeline, NULL);
    assert_int_equal(count(json, "attempts"), 1);
    assert_string_equal(attempt(json, "uncounted", 0, "verdict")->valuestring, "interrupted");
    assert_int_equal(cJSON_GetObjectItem(json, "interruptions")->valueint, 1);
    cJSON_Delete(json);
    mr_timeline_release(&timeline);
}

static void test_timeline_redrive_opens_it_again(void **state)
{
    (void)state;
    struct mr_timeline timeline;
    mr_timeline_init(&timeline, OFFSET);
    see_match(&timeline, 3, true);
    struct mr_result dead = result_of(MR_VERDICT_DEAD, 1);
    see_answer(&timeline, MR_RECORD_DEAD, MR_STATE_DEAD, 1, &dead);
    assert_int_equal(timeline.deliveries[0].state, MR_STATE_DEAD);
    see(&timeline, (struct mr_record){.kind = MR_RECORD_REDRIVE, .offset = OFFSET, .a = 3},
        (struct mr_bytes){0});
    assert_int_equal(timeline.deliveries[0].state, MR_STATE_NONE);
    see_attempt(&timeline, 3, 2, 1);
    struct mr_result ok = result_of(MR_VERDICT_OK, 1);
    see_answer(&timeline, MR_RECORD_SETTLE, MR_STATE_DONE, 2, &ok);
    cJSON *json = written(&timeline, NULL);
    assert_int_equal(count(json, "attempts"), 2);
    assert_int_equal(cJSON_GetObjectItem(json, "redrives")->valueint, 1);
    cJSON_Delete(json);
    mr_timeline_release(&timeline);
}

/* Adds an earlier attempt behind the result of a DEAD record. */
static void add_note(struct mr_buf *body, uint32_t fence, const struct mr_result *result)
{
    struct mr_buf note;
    mr_buf_init(&note, 65536);
    uint8_t head[20] = {0};
    mr_put_u32(head, fence);
    mr_put_u64(head + 4, 2 * MR_SECOND);
    mr_put_u64(head + 12, 3 * MR_SECOND);
    assert_int_equal(mr_buf_append(&note, head, sizeof(head)), MR_OK);
    assert_int_equal(mr_result_encode(result, &note), MR_OK);
    uint8_t size[4];
    mr_put_u32(size, (uint32_t)note.size);
    assert_int_equal(mr_buf_append(body, size, sizeof(size)), MR_OK);
    assert_int_equal(mr_buf_append_bytes(body, mr_buf_bytes(&note)), MR_OK);
    mr_buf_release(&note);
}

/* The segment with the records of the first attempts was given up: the DEAD record has them. */
static void test_timeline_dead_record_tells_the_attempts_before(void **state)
{
    (void)state;
    struct mr_timeline timeline;
    mr_timeline_init(&timeline, OFFSET);
    see_match(&timeline, 3, true);
    struct mr_buf body;
    mr_buf_init(&body, 65536);
    struct mr_result retry = result_of(MR_VERDICT_RETRY, 1);
    struct mr_result again = result_of(MR_VERDICT_TIMEOUT, 2);
    struct mr_result dead = result_of(MR_VERDICT_DEAD, 3);
    assert_int_equal(mr_result_encode(&dead, &body), MR_OK);
    add_note(&body, 1, &retry);
    add_note(&body, 2, &again);
    struct mr_record record = {.kind = MR_RECORD_DEAD, .offset = OFFSET, .a = 3, .b = 3,
                               .c = 6 * MR_SECOND, .d = 7 * MR_SECOND, .extra = MR_STATE_DEAD};
    uint8_t torn[] = {255, 255, 255, 255, 1};
    assert_int_equal(mr_buf_append(&body, torn, sizeof(torn)), MR_OK); /* ignored */
    see(&timeline, record, mr_buf_bytes(&body));
    cJSON *json = written(&timeline, NULL);
    assert_int_equal(count(json, "attempts"), 3);
    assert_string_equal(attempt(json, "attempts", 0, "verdict")->valuestring, "retry");
    assert_string_equal(attempt(json, "attempts", 1, "verdict")->valuestring, "timeout");
    assert_int_equal(attempt(json, "attempts", 2, "n")->valueint, 3);
    cJSON_Delete(json);
    mr_buf_release(&body);
    mr_timeline_release(&timeline);
}

static void see_redrive_by(struct mr_timeline *timeline, const char *action)
{
    see(timeline, (struct mr_record){.kind = MR_RECORD_OPERATOR}, mr_bytes_of(action));
    see(timeline, (struct mr_record){.kind = MR_RECORD_REDRIVE, .offset = OFFSET, .a = 3},
        (struct mr_bytes){0});
}

static void test_timeline_redrives_name_the_action_of_their_subscription(void **state)
{
    (void)state;
    struct mr_timeline timeline;
    mr_timeline_init(&timeline, OFFSET);
    see_match(&timeline, 3, true);
    see_redrive_by(&timeline, "{\"action\":\"redrive\",\"subscription\":\"s\",\"group\":\"7\"}");
    see_redrive_by(&timeline, "{\"action\":\"redrive\",\"subscription\":\"other\"}");
    see_redrive_by(&timeline, "{\"action\":\"redrive\",\"subscription");
    cJSON *json = written(&timeline, NULL);
    assert_int_equal(count(json, "redriven"), 3);
    const cJSON *by = attempt(json, "redriven", 0, "by");
    assert_string_equal(cJSON_GetObjectItem(by, "group")->valuestring, "7");
    assert_non_null(attempt(json, "redriven", 0, "at"));
    assert_null(attempt(json, "redriven", 1, "by"));
    assert_null(attempt(json, "redriven", 2, "by"));
    cJSON_Delete(json);
    mr_timeline_release(&timeline);
}

static void see_operator(struct mr_timeline *timeline, const char *action)
{
    see(timeline, (struct mr_record){.kind = MR_RECORD_OPERATOR}, mr_bytes_of(action));
}

static void see_purge(struct mr_timeline *timeline, uint32_t subscription)
{
    see(timeline,
        (struct mr_record){.kind = MR_RECORD_PURGE, .offset = OFFSET, .a = subscription},
        (struct mr_bytes){0});
}

#define EDIT(offset, by)                                                                           \
    "{\"action\":\"edit\",\"subscription\":\"s\",\"offset\":\"" offset "\",\"replaced_by\":\"" by "\"}"

static void test_timeline_edit_is_told_where_it_was_purged(void **state)
{
    (void)state;
    struct mr_timeline timeline;
    mr_timeline_init(&timeline, OFFSET);
    see_match(&timeline, 3, true);
    see_operator(&timeline, EDIT("7", "copy"));
    see_operator(&timeline, EDIT("8", "of-another"));
    see_purge(&timeline, 3);
    cJSON *json = written(&timeline, NULL);
    assert_string_equal(cJSON_GetObjectItem(json, "replaced_by")->valuestring, "copy");
    assert_non_null(cJSON_GetObjectItem(json, "purged_at"));
    cJSON_Delete(json);
    mr_timeline_release(&timeline);
}

static void test_timeline_edit_that_failed_is_not_told(void **state)
{
    (void)state;
    struct mr_timeline timeline;
    mr_timeline_init(&timeline, OFFSET);
    see_match(&timeline, 3, true);
    see_operator(&timeline, EDIT("7", "never-entered"));
    see_operator(&timeline, "{\"action\":\"purge\",\"subscription\":\"s\"}");
    see_purge(&timeline, 3);
    cJSON *json = written(&timeline, NULL);
    assert_null(cJSON_GetObjectItem(json, "replaced_by"));
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(json, "purged")));
    cJSON_Delete(json);
    mr_timeline_release(&timeline);
}

static void test_timeline_edit_lets_a_held_one_go_on(void **state)
{
    (void)state;
    struct mr_timeline timeline;
    struct mr_timeline of_copy;
    const struct mr_record edit = {.kind = MR_RECORD_EDIT, .offset = OFFSET, .a = 3, .c = 9};
    mr_timeline_init(&timeline, OFFSET);
    mr_timeline_init(&of_copy, 9);
    see_match(&timeline, 3, true);
    struct mr_result retry = result_of(MR_VERDICT_RETRY, 1);
    see_answer(&timeline, MR_RECORD_RETRY, MR_STATE_HELD, 1, &retry);
    see_operator(&timeline, EDIT("7", "copy"));
    see(&timeline, edit, (struct mr_bytes){0});
    assert_int_equal(timeline.deliveries[0].state, MR_STATE_NONE);
    struct mr_result ok = result_of(MR_VERDICT_OK, 1);
    see_attempt(&timeline, 3, 2, 1);
    see_answer(&timeline, MR_RECORD_SETTLE, MR_STATE_DONE, 2, &ok);
    cJSON *json = written(&timeline, NULL);
    assert_int_equal(count(json, "attempts"), 2);
    assert_string_equal(cJSON_GetObjectItem(json, "replaced_by")->valuestring, "copy");
    assert_non_null(cJSON_GetObjectItem(json, "edited_at"));
    assert_null(cJSON_GetObjectItem(json, "purged"));
    cJSON_Delete(json);
    see(&of_copy, edit, (struct mr_bytes){0});
    assert_true(of_copy.replaces && !timeline.replaces);
    assert_int_equal(of_copy.replaces_offset, OFFSET);
    assert_int_equal(of_copy.replaces_subscription, 3);
    mr_timeline_release(&timeline);
    mr_timeline_release(&of_copy);
}

static void test_timeline_late_answer_does_not_change_the_end(void **state)
{
    (void)state;
    struct mr_timeline timeline;
    mr_timeline_init(&timeline, OFFSET);
    see_match(&timeline, 3, true);
    struct mr_result timeout = result_of(MR_VERDICT_TIMEOUT, 1);
    see_answer(&timeline, MR_RECORD_RETRY, MR_STATE_WAITING, 1, &timeout);
    see_attempt(&timeline, 3, 2, 2);
    struct mr_result ok = result_of(MR_VERDICT_OK, 2);
    ok.reason = MR_BYTES_LITERAL("why it ended");
    see_answer(&timeline, MR_RECORD_SETTLE, MR_STATE_DONE, 2, &ok);
    struct mr_result late = result_of(MR_VERDICT_DEAD, 2);
    late.reason = MR_BYTES_LITERAL("came late");
    see_answer(&timeline, MR_RECORD_LATE, MR_STATE_NONE, 1, &late);
    assert_int_equal(timeline.deliveries[0].state, MR_STATE_DONE);
    assert_true(mr_bytes_equal(mr_buf_bytes(&timeline.deliveries[0].reason), ok.reason));
    mr_timeline_release(&timeline);
}

static void see_result(struct mr_timeline *timeline, uint32_t subscription, const char *json)
{
    see(timeline,
        (struct mr_record){.kind = MR_RECORD_RESULT, .offset = OFFSET, .a = subscription, .b = 1},
        mr_bytes_of(json));
}

static void test_timeline_result_is_a_value_not_a_text(void **state)
{
    (void)state;
    struct mr_timeline timeline;
    mr_timeline_init(&timeline, OFFSET);
    see_match(&timeline, 3, true);
    struct mr_result ok = result_of(MR_VERDICT_OK, 1);
    see_result(&timeline, 3, "{\"total\":42}");
    see_answer(&timeline, MR_RECORD_SETTLE, MR_STATE_DONE, 1, &ok);
    cJSON *json = written(&timeline, NULL);
    const cJSON *result = cJSON_GetObjectItem(json, "result");
    assert_int_equal(cJSON_GetObjectItem(result, "total")->valueint, 42);
    cJSON_Delete(json);
    mr_timeline_release(&timeline);
}

static void test_timeline_results_that_are_too_many_are_told_by_size(void **state)
{
    (void)state;
    struct mr_timeline timeline;
    mr_timeline_init(&timeline, OFFSET);
    timeline.results_size = MR_TIMELINE_RESULTS_SIZE_MAX - 3;
    see_match(&timeline, 3, true);
    see_result(&timeline, 3, "1234");
    cJSON *json = written(&timeline, NULL);
    assert_null(cJSON_GetObjectItem(json, "result"));
    assert_int_equal(cJSON_GetObjectItem(json, "result_size")->valueint, 4);
    cJSON_Delete(json);
    mr_timeline_release(&timeline);
}

static void test_timeline_other_offsets_are_not_ours(void **state)
{
    (void)state;
    struct mr_timeline timeline;
    mr_timeline_init(&timeline, OFFSET + 1);
    see_match(&timeline, 3, true);
    assert_int_equal(timeline.delivery_count, 0);
    assert_false(timeline.matched);
    mr_timeline_release(&timeline);
}

static void test_timeline_garbled_result_is_left_out(void **state)
{
    (void)state;
    struct mr_timeline timeline;
    mr_timeline_init(&timeline, OFFSET);
    see_match(&timeline, 3, true);
    see(&timeline,
        (struct mr_record){.kind = MR_RECORD_SETTLE, .offset = OFFSET, .a = 3, .b = 1, .extra = 4},
        mr_bytes_of("rubbish"));
    assert_false(timeline.deliveries[0].attempts[0].answered);
    mr_timeline_release(&timeline);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timeline_first_attempt_of_the_match_settles),
        cmocka_unit_test(test_timeline_refusals_are_not_attempts),
        cmocka_unit_test(test_timeline_exit_is_null_after_a_signal),
        cmocka_unit_test(test_timeline_attempt_in_flight_is_listed_with_the_live_fence),
        cmocka_unit_test(test_timeline_start_interrupts_what_was_under_way),
        cmocka_unit_test(test_timeline_redrive_opens_it_again),
        cmocka_unit_test(test_timeline_dead_record_tells_the_attempts_before),
        cmocka_unit_test(test_timeline_redrives_name_the_action_of_their_subscription),
        cmocka_unit_test(test_timeline_edit_is_told_where_it_was_purged),
        cmocka_unit_test(test_timeline_edit_that_failed_is_not_told),
        cmocka_unit_test(test_timeline_edit_lets_a_held_one_go_on),
        cmocka_unit_test(test_timeline_late_answer_does_not_change_the_end),
        cmocka_unit_test(test_timeline_result_is_a_value_not_a_text),
        cmocka_unit_test(test_timeline_results_that_are_too_many_are_told_by_size),
        cmocka_unit_test(test_timeline_other_offsets_are_not_ours),
        cmocka_unit_test(test_timeline_garbled_result_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
