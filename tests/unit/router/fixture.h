/* Events and configurations for the router's tests, made by hand: no loader is needed. */
#ifndef MR_TESTS_UNIT_ROUTER_FIXTURE_H
#define MR_TESTS_UNIT_ROUTER_FIXTURE_H

#include "tests/support/test.h"

#include "core/alloc.h"
#include "core/limits.h"
#include "router/router.h"
#include "schemas/json_format.h"

#include <cjson/cJSON.h>

static inline void add_attr(struct mr_event_builder *builder, const char *name, const char *value)
{
    struct mr_problem problem = {""};
    enum mr_status r = mr_event_builder_attr(builder, mr_bytes_of(name), MR_ATTR_STRING,
                                             mr_bytes_of(value), &problem);
    if (r != MR_OK) {
        fail_msg("attribute %s=%s: %s", name, value, problem.text);
    }
}

static inline struct mr_event *finish_event(struct mr_event_builder *builder)
{
    struct mr_event *event = NULL;
    struct mr_problem problem = {""};
    enum mr_status r = mr_event_builder_finish(builder, true, &event, &problem);
    if (r != MR_OK) {
        fail_msg("event: %s", problem.text);
    }
    mr_event_builder_release(builder);
    return event;
}

/* An event of name, value, …, NULL; id, source and type have defaults. */
static inline struct mr_event *make_event(const char *const *attrs)
{
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, MR_EVENT_SIZE_MAX);
    static const char *const required[][2] = {{"id", "1"}, {"source", "/s"}, {"type", "t"}};
    for (size_t i = 0; i < MR_ARRAY_COUNT(required); i++) {
        const char *const *at = attrs;
        while (*at != NULL && strcmp(*at, required[i][0]) != 0) {
            at += 2;
        }
        if (*at == NULL) {
            add_attr(&builder, required[i][0], required[i][1]);
        }
    }
    for (const char *const *at = attrs; *at != NULL; at += 2) {
        add_attr(&builder, at[0], at[1]);
    }
    return finish_event(&builder);
}
#define EVENT(...) make_event((const char *const[]){__VA_ARGS__, NULL})

/* An event with JSON text as data. */
static inline struct mr_event *make_data_event(const char *media_type, struct mr_bytes data)
{
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, MR_EVENT_SIZE_MAX);
    add_attr(&builder, "id", "1");
    add_attr(&builder, "source", "/s");
    add_attr(&builder, "type", "t");
    add_attr(&builder, "datacontenttype", media_type);
    mr_event_builder_data(&builder, data, false);
    return finish_event(&builder);
}

/* The event of its JSON form; types and data are as the decoder takes them. */
static inline struct mr_event *event_of_text(const char *text)
{
    struct mr_event *event = NULL;
    struct mr_problem problem = {""};
    if (mr_json_decode_event(mr_bytes_of(text), MR_EVENT_SIZE_MAX, &event, &problem) != MR_OK) {
        fail_msg("%s: %s", text, problem.text);
    }
    return event;
}

static inline struct mr_event *event_of_json(const cJSON *object)
{
    char *text = cJSON_PrintUnformatted(object);
    struct mr_event *event = event_of_text(text);
    cJSON_free(text);
    return event;
}

/* --- configurations ------------------------------------------------------------------------ */

#define FIXTURE_RULES_MAX 256u
#define FIXTURE_SOURCES_MAX 8u

struct fixture {
    struct mr_config config;
    struct mr_subscription_config subscriptions[FIXTURE_RULES_MAX];
    struct mr_source_config sources[FIXTURE_SOURCES_MAX];
    struct mr_router *router;
    struct mr_matches matches;
};

static inline struct fixture *fixture_create(uint32_t source_count)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->config.subscriptions = f->subscriptions;
    f->config.sources = f->sources;
    f->config.source_count = source_count;
    for (uint32_t i = 0; i < source_count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "source%u", i);
        f->sources[i].name = mr_strdup(name);
    }
    return f;
}

static inline struct mr_subscription_config *fixture_add(struct fixture *f, const char *filter)
{
    assert_true(f->config.subscription_count < FIXTURE_RULES_MAX);
    struct mr_subscription_config *s = &f->subscriptions[f->config.subscription_count++];
    s->filter_json = mr_strdup(filter);
    return s;
}

static inline void fixture_sources(struct mr_subscription_config *s, uint32_t count,
                                   const uint32_t *sources)
{
    s->sources = mr_calloc(count, sizeof(*sources));
    memcpy(s->sources, sources, count * sizeof(*sources));
    s->source_count = count;
}

static inline void fixture_start(struct fixture *f)
{
    struct mr_problem problem = {""};
    uint32_t refused = UINT32_MAX;
    enum mr_status r = mr_router_create(&f->config, &f->router, &refused, &problem);
    if (r != MR_OK) {
        fail_msg("subscription %u: %s (%s)", refused, problem.text,
                 refused < f->config.subscription_count ? f->subscriptions[refused].filter_json
                                                        : "");
    }
}

static inline void fixture_destroy(struct fixture *f)
{
    mr_router_destroy(f->router);
    mr_matches_release(&f->matches);
    for (uint32_t i = 0; i < f->config.subscription_count; i++) {
        mr_free(f->subscriptions[i].filter_json);
        mr_free(f->subscriptions[i].cancel_on);
        mr_free(f->subscriptions[i].sources);
        mr_free(f->subscriptions[i].order_key);
    }
    for (uint32_t i = 0; i < f->config.source_count; i++) {
        mr_free(f->sources[i].name);
    }
    free(f);
}

/* Matches @p event and checks what is always true of a result. */
static inline void fixture_match(struct fixture *f, uint32_t source, const struct mr_event *event)
{
    assert_int_equal(mr_router_match(f->router, source, mr_event_record(event), &f->matches),
                     MR_OK);
    for (uint32_t i = 0; i < f->matches.count; i++) {
        assert_true(f->matches.items[i].subscription < f->config.subscription_count);
        assert_true(i == 0 ||
                    f->matches.items[i - 1].subscription < f->matches.items[i].subscription);
        assert_false(f->subscriptions[f->matches.items[i].subscription].hidden);
    }
}

/* The result as "0,3,7". */
static inline const char *fixture_result(struct fixture *f, uint32_t source,
                                         const struct mr_event *event)
{
    static char text[4096];
    size_t size = 0;
    text[0] = '\0';
    fixture_match(f, source, event);
    for (uint32_t i = 0; i < f->matches.count; i++) {
        size += (size_t)snprintf(text + size, sizeof(text) - size, "%s%u", i == 0 ? "" : ",",
                                 f->matches.items[i].subscription);
    }
    return text;
}

#endif
