/* Sources and sinks under test, whatever their connector: made from options, looked at, ended. A
 * program tests one connector. */
#ifndef MR_TESTS_SUPPORT_INSTANCE_H
#define MR_TESTS_SUPPORT_INSTANCE_H

#include "tests/support/test.h"

#include "config/option.h"
#include "connectors/connector.h"
#include "core/limits.h"
#include "schemas/json_format.h"
#include "tests/support/test_host.h"
#include "tests/support/wait.h"

static const struct mr_connector *tested; /* the one of source_start() and sink_start() */

/* --- sources ---------------------------------------------------------------------------------- */

/* Creates and starts one. @param options of the connector's table; released: the instance keeps
 * nothing of them  @param size_max of an event; 0: the default  @param cursor may be NULL */
static inline struct mr_source *source_start(const struct mr_connector *connector,
                                             struct test_host *h, const char *name, void *options,
                                             uint64_t size_max, const char *cursor)
{
    struct mr_source_config config = {.event_size_max =
                                          size_max != 0 ? size_max : MR_EVENT_SIZE_DEFAULT};
    struct mr_source_args args = {.host = &h->host,
                                  .index = 3,
                                  .name = name,
                                  .options = options,
                                  .config = &config,
                                  .folder = "/nowhere",
                                  .cursor = cursor};
    struct mr_source *source = NULL;
    struct mr_problem problem = {.text = ""};
    tested = connector;
    if (tested->source->create(&args, &source, &problem) != MR_OK) {
        fail_msg("create: %s", problem.text);
    }
    mr_options_release(tested->source_kind.options, options);
    assert_int_equal(tested->source->start(source, &problem), MR_OK);
    return source;
}

static inline void source_close(struct mr_source *source)
{
    tested->source->stop(source, mr_clock_mono_ns() + 10 * MR_SECOND);
    tested->source->destroy(source);
}

static inline struct mr_health source_health(struct mr_source *source)
{
    struct mr_health health;
    tested->source->health(source, &health);
    return health;
}

/* Waits until its health is @p state; false after @p ms. */
static inline bool source_reaches(struct mr_source *source, enum mr_health_state state, int ms)
{
    int64_t until = now_ms() + ms;
    while (source_health(source).state != state) {
        if (now_ms() > until) {
            return false;
        }
        (void)poll(NULL, 0, 5);
    }
    return true;
}

static inline void source_ready(struct mr_source *source)
{
    WAIT_FOR(source_health(source).state == MR_HEALTH_OK, "not connected: %s",
             source_health(source).last_error);
}

/* Waits until the last error holds @p text. */
static inline void source_says(struct mr_source *source, const char *text)
{
    WAIT_FOR(strstr(source_health(source).last_error, text) != NULL, "\"%s\", got \"%s\"", text,
             source_health(source).last_error);
}

/* How many different ids of e<from>..e<from + count - 1> the host has. */
static inline int count_ids(struct test_host *h, int from, int count)
{
    int found = 0;
    bool *seen = calloc((size_t)count, sizeof(bool));
    pthread_mutex_lock(&h->mu);
    for (uint32_t k = 0; k < h->event_count; k++) {
        struct mr_bytes id = mr_event_id(mr_event_record(h->events[k]));
        char text[32];
        snprintf(text, sizeof(text), "%.*s", (int)id.size, (const char *)id.data);
        int n = 0;
        if (sscanf(text, "e%d", &n) == 1 && n >= from && n < from + count && !seen[n - from]) {
            seen[n - from] = true;
            found++;
        }
    }
    pthread_mutex_unlock(&h->mu);
    free(seen);
    return found;
}

static inline void wait_ids(struct test_host *h, int from, int count)
{
    WAIT_FOR(count_ids(h, from, count) == count, "%d of %d came", count_ids(h, from, count), count);
}

/* --- sinks ------------------------------------------------------------------------------------ */

/* Creates and starts one; as source_start(). */
static inline struct mr_target *sink_start(const struct mr_connector *connector,
                                           struct test_host *h, const char *name, void *options,
                                           struct mr_target_config config)
{
    struct mr_target_args args = {.host = &h->host,
                                  .index = 2,
                                  .name = name,
                                  .options = options,
                                  .config = &config,
                                  .folder = "/nowhere"};
    struct mr_target *target = NULL;
    struct mr_problem problem = {.text = ""};
    tested = connector;
    if (tested->sink->create(&args, &target, &problem) != MR_OK) {
        fail_msg("create: %s", problem.text);
    }
    mr_options_release(tested->sink_kind.options, options);
    assert_int_equal(tested->sink->start(target, &problem), MR_OK);
    return target;
}

static inline void sink_close(struct mr_target *target)
{
    tested->sink->stop(target, mr_clock_mono_ns() + 5 * MR_SECOND);
    tested->sink->destroy(target);
}

static inline struct mr_health sink_health(struct mr_target *target)
{
    struct mr_health health;
    tested->sink->health(target, &health);
    return health;
}

/* Waits until it has room for @p slots: it is connected. */
static inline void sink_ready(struct test_host *h, struct mr_target *target, uint32_t slots)
{
    if (!test_host_wait(h, HOST_CAPACITY, slots)) {
        fail_msg("not connected: %s", sink_health(target).last_error);
    }
}

static inline void sink_says(struct mr_target *target, const char *text)
{
    WAIT_FOR(strstr(sink_health(target).last_error, text) != NULL, "\"%s\", got \"%s\"", text,
             sink_health(target).last_error);
}

/* A hand-out of the event that @p json is. */
static inline struct mr_handout *handout_of(const char *json)
{
    struct mr_problem problem = {.text = ""};
    struct mr_handout *handout = mr_handout_create();
    assert_non_null(handout);
    if (mr_json_decode_event(mr_bytes_of(json), MR_EVENT_SIZE_MAX, &handout->event, &problem) !=
        MR_OK) {
        fail_msg("%s", problem.text);
    }
    return handout;
}

/* @p handout in front of a chain, which may be NULL. @return the chain */
static inline struct mr_handout *chain_handout(struct mr_handout *handout, struct mr_handout *rest)
{
    handout->op.next = rest == NULL ? NULL : &rest->op;
    return handout;
}

static inline void sink_give(struct mr_target *target, struct mr_handout *handouts)
{
    tested->sink->submit(target, handouts);
}

static inline void expect_verdict(const struct mr_handout *handout, enum mr_verdict verdict,
                                  const char *error)
{
    const struct mr_answer *a = &handout->answer;
    const char *said = a->error == NULL ? "" : a->error;
    if (a->verdict != verdict || strstr(said, error) == NULL) {
        struct mr_bytes id = mr_event_id(mr_event_record(handout->event));
        fail_msg("%.*s: want %s \"%s\", got %s \"%s\"", (int)id.size, (const char *)id.data,
                 mr_verdict_text(verdict), error, mr_verdict_text(a->verdict), said);
    }
}

#endif
