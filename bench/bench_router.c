/* The cost of matching and loading as the number of subscriptions grows: the index against
 * evaluating every filter. Three subscriptions match whatever the size of the table. One JSON line
 * a figure: {"name","value","unit"}. */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/limits.h"
#include "router/router.h"

#define EVENTS 64u
#define MIN_RUN_NS (200 * MR_MS)

struct mixture {
    const char *name; /* of the figures: router_NAMEindex_10000 */
    char *(*make_filter)(uint32_t i);
};

struct table {
    const char *name;
    struct mr_config config;
    struct mr_filter **filters; /* the same filters one by one, for the naive loop */
    struct mr_router *router;
    struct mr_event *events[EVENTS];
};

static void report(const struct table *t, const char *what, double value, const char *unit)
{
    printf("{\"name\":\"router_%s%s_%" PRIu32 "\",\"value\":%.1f,\"unit\":\"%s\"}\n", t->name, what,
           t->config.subscription_count, value, unit);
}

static void require(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench_router: %s\n", what);
        exit(1);
    }
}

/* A mixture as in a shop's bus: types and tenants, object keys by prefix and suffix, devices,
 * alternatives. The first three of each table take the events of make_event(). */
static char *make_filter(uint32_t i)
{
    char text[256];
    if (i == 0) {
        return mr_strdup("[{\"exact\":{\"type\":\"com.example.order.created\","
                         "\"tenant\":\"acme\"}}]");
    }
    if (i == 1) {
        return mr_strdup("[{\"prefix\":{\"subject\":\"eu/berlin/\"}}]");
    }
    if (i == 2) {
        return mr_strdup("[{\"all\":[{\"suffix\":{\"subject\":\"invoice.pdf\"}},"
                         "{\"not\":{\"exact\":{\"tenant\":\"test\"}}}]}]");
    }
    switch (i % 5) {
    case 0:
        (void)snprintf(text, sizeof(text),
                       "[{\"exact\":{\"type\":\"com.example.order.created\",\"tenant\":\"t%" PRIu32
                       "\"}}]", i);
        break;
    case 1:
        (void)snprintf(text, sizeof(text), "[{\"exact\":{\"type\":\"com.example.kind%" PRIu32
                       "\"}}]", i);
        break;
    case 2:
        (void)snprintf(text, sizeof(text), "[{\"prefix\":{\"subject\":\"eu/city%" PRIu32 "/\"}}]",
                       i);
        break;
    case 3:
        (void)snprintf(text, sizeof(text),
                       "[{\"all\":[{\"prefix\":{\"type\":\"com.example.\"}},{\"suffix\":"
                       "{\"subject\":\"/file%" PRIu32 ".pdf\"}}]}]", i);
        break;
    default:
        (void)snprintf(text, sizeof(text),
                       "[{\"any\":[{\"exact\":{\"subject\":\"device/%" PRIu32
                       "\"}},{\"exact\":{\"type\":\"com.example.alarm%" PRIu32 "\"}}]}]", i, i);
        break;
    }
    return mr_strdup(text);
}

/* The same shop in sql and data: conjunctions of which a part has a key, lists, patterns. */
static char *make_deep_filter(uint32_t i)
{
    static const char *const forms[] = {
        "[{\"sql\":\"type = 'com.example.order.created' AND tenant = 't%" PRIu32
        "' AND amount > 100\"}]",
        "[{\"data\":{\"exact\":{\"order.shop\":\"s%" PRIu32 "\"}}}]",
        "[{\"sql\":\"subject LIKE 'eu/city%" PRIu32 "/%%' AND NOT EXISTS test\"}]",
        "[{\"exact\":{\"type\":\"com.example.order.created\"}},"
        "{\"data\":{\"in\":{\"order.customer\":[\"c%" PRIu32 "\",\"nobody\"]}}},"
        "{\"data\":{\"range\":{\"order.total\":{\"gt\":10}}}}]",
        "[{\"sql\":\"source IN ('https://a.example/%" PRIu32 "', 'https://b.example/')\"}]",
    };
    static const char *const first[] = {
        "[{\"sql\":\"type LIKE 'com.example.%.created' AND tenant = 'acme' AND amount > 100\"}]",
        "[{\"data\":{\"exact\":{\"order.shop\":\"7\"}}}]",
        "[{\"all\":[{\"sql\":\"subject LIKE '%/invoice.pdf'\"},"
        "{\"data\":{\"range\":{\"order.total\":{\"gte\":12.5,\"lt\":100}}}}]}]",
    };
    char text[256];
    if (i < MR_ARRAY_COUNT(first)) {
        return mr_strdup(first[i]);
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* one of the literals above */
    (void)snprintf(text, sizeof(text), forms[i % MR_ARRAY_COUNT(forms)], i);
#pragma GCC diagnostic pop
    return mr_strdup(text);
}

static struct mr_event *make_event(uint32_t i)
{
    char id[32];
    char subject[64];
    (void)snprintf(id, sizeof(id), "e-%" PRIu32, i);
    (void)snprintf(subject, sizeof(subject), "eu/berlin/%" PRIu32 "/invoice.pdf", i);
    const char *const attrs[][2] = {
        {"id", id},           {"source", "https://shop.example/checkout"},
        {"type", "com.example.order.created"}, {"subject", subject},
        {"tenant", "acme"},   {"time", "2024-02-29T12:00:00.000Z"},
        {"amount", "250"},
        {"datacontenttype", "application/json"},
    };
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, MR_EVENT_SIZE_MAX);
    for (size_t k = 0; k < MR_ARRAY_COUNT(attrs); k++) {
        enum mr_status r =
            mr_event_builder_attr(&builder, mr_bytes_of(attrs[k][0]), MR_ATTR_STRING,
                                  mr_bytes_of(attrs[k][1]), NULL);
        require(r == MR_OK, "cannot make an attribute");
    }
    mr_event_builder_data(&builder, MR_BYTES_LITERAL("{\"order\":{\"id\":12345678901234567890,"
                                            "\"customer\":\"c-1\",\"lines\":[{\"sku\":\"a\","
                                            "\"n\":2}],\"total\":25.00,\"shop\":7}}"), false);
    struct mr_event *event = NULL;
    require(mr_event_builder_finish(&builder, true, &event, NULL) == MR_OK, "cannot make an event");
    return event;
}

static size_t heap_used(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void load(struct table *t, const struct mixture *mixture, uint32_t count)
{
    t->name = mixture->name;
    t->config.subscriptions = mr_calloc(count, sizeof(*t->config.subscriptions));
    t->filters = mr_calloc(count, sizeof(struct mr_filter *));
    require(t->config.subscriptions != NULL && t->filters != NULL, "out of memory");
    t->config.subscription_count = count;
    for (uint32_t i = 0; i < count; i++) {
        t->config.subscriptions[i].filter_json = mixture->make_filter(i);
        require(t->config.subscriptions[i].filter_json != NULL, "out of memory");
    }
    for (uint32_t i = 0; i < EVENTS; i++) {
        t->events[i] = make_event(i);
    }
    uint32_t refused;
    size_t before = heap_used();
    uint64_t start = mr_clock_mono_ns();
    require(mr_router_create(&t->config, &t->router, &refused, NULL) == MR_OK, "no router");
    report(t, "load", (double)(mr_clock_mono_ns() - start) / (double)MR_MS, "ms");
    report(t, "size", (double)(heap_used() - before) / count, "B/subscription");
    for (uint32_t i = 0; i < count; i++) {
        require(mr_filter_create(mr_bytes_of(t->config.subscriptions[i].filter_json),
                                 &t->filters[i], NULL) == MR_OK, "no filter");
    }
}

static void time_index(const struct table *t)
{
    struct mr_matches matches = {0};
    uint64_t events = 0;
    uint64_t start = mr_clock_mono_ns();
    uint64_t took;
    do {
        for (uint32_t i = 0; i < EVENTS; i++) {
            enum mr_status r =
                mr_router_match(t->router, 0, mr_event_record(t->events[i]), &matches);
            require(r == MR_OK && matches.count == 3, "the index is wrong");
        }
        events += EVENTS;
        took = mr_clock_mono_ns() - start;
    } while (took < MIN_RUN_NS);
    mr_matches_release(&matches);
    report(t, "index", (double)took / (double)events, "ns/event");
}

static void time_naive(const struct table *t)
{
    uint64_t events = 0;
    uint64_t start = mr_clock_mono_ns();
    uint64_t took;
    do {
        struct mr_bytes record = mr_event_record(t->events[events % EVENTS]);
        uint32_t matched = 0;
        for (uint32_t i = 0; i < t->config.subscription_count; i++) {
            matched += mr_filter_test(t->filters[i], record);
        }
        require(matched == 3, "the naive loop is wrong");
        events++;
        took = mr_clock_mono_ns() - start;
    } while (took < MIN_RUN_NS);
    report(t, "naive", (double)took / (double)events, "ns/event");
}

static void unload(struct table *t)
{
    for (uint32_t i = 0; i < t->config.subscription_count; i++) {
        mr_filter_destroy(t->filters[i]);
        mr_free(t->config.subscriptions[i].filter_json);
    }
    for (uint32_t i = 0; i < EVENTS; i++) {
        mr_event_unref(t->events[i]);
    }
    mr_router_destroy(t->router);
    mr_free(t->filters);
    mr_free(t->config.subscriptions);
}

int main(void)
{
    static const uint32_t counts[] = {10, 100, 1000, 10000, 100000};
    static const struct mixture mixtures[] = {{"", make_filter}, {"deep_", make_deep_filter}};
    for (size_t m = 0; m < MR_ARRAY_COUNT(mixtures); m++) {
        for (size_t i = 0; i < MR_ARRAY_COUNT(counts); i++) {
            struct table t = {0};
            load(&t, &mixtures[m], counts[i]);
            time_index(&t);
            time_naive(&t);
            unload(&t);
        }
    }
    return 0;
}
