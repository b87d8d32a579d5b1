/* A bus in one thread, on a folder of its own, with one target: what it asks for is done between
 * its steps. */
#ifndef MR_TESTS_UNIT_BUS_ONE_BUS_H
#define MR_TESTS_UNIT_BUS_ONE_BUS_H

#include "bus/bus.h"
#include "core/alloc.h"
#include "tests/support/logfolder.h"

#define ONE_BUS_SUBS 4u
#define ONE_BUS_TURNS 100000u /* a test that takes more would never end */

struct one_bus {
    struct log_folder folder;
    struct mr_io *io; /* of the folder */
    struct mr_bus *bus;
    struct mr_log_request *first; /* asked for, oldest first */
    struct mr_log_request *last;
    struct mr_log_request *refusing; /* the disk has not said yet that it is full */
    struct mr_handout *handouts; /* not answered, newest first */
    struct mr_now now;
    struct mr_config config;
    struct mr_target_config target;
    struct mr_subscription_config subs[ONE_BUS_SUBS];
    char names[ONE_BUS_SUBS][8];
    struct mr_router *router;
    struct mr_event *event;
    uint32_t source;
    uint32_t segments;     /* asked for */
    uint32_t segments_max; /* the disk is full then, which the next one is told, */
    uint32_t full_after;   /* after as many turns; 0: it never is */
    uint32_t checkpoints;  /* their writes */
    bool full_for_checkpoints;
    uint32_t accepted;     /* batches */
    uint32_t refused;
    uint32_t answered; /* hand-outs */
};

static inline void one_bus_io(void *context, struct mr_log_request *request)
{
    struct one_bus *b = context;
    request->op.next = NULL;
    if (b->first == NULL) {
        b->first = request;
    } else {
        b->last->op.next = &request->op;
    }
    b->last = request;
}

static inline void one_bus_handout(void *context, struct mr_handout *handout)
{
    struct one_bus *b = context;
    handout->op.next = b->handouts == NULL ? NULL : &b->handouts->op;
    b->handouts = handout;
}

static inline void one_bus_batch_done(void *context, struct mr_batch *batch)
{
    struct one_bus *b = context;
    assert_true(batch->result == MR_OK || batch->result == MR_E_DISK_LOW);
    b->accepted += batch->result == MR_OK;
    b->refused += batch->result != MR_OK;
    mr_batch_destroy(batch);
}

static inline void one_bus_demand(void *context, uint32_t target, uint64_t queued, uint64_t age)
{
    (void)context, (void)target, (void)queued, (void)age;
}

static inline void one_bus_slow(void *context, bool slow)
{
    (void)context, (void)slow;
}

static inline void one_bus_alarm(void *context, const char *text)
{
    (void)context;
    assert_true(text[0] != '\0');
}

static inline enum mr_status one_bus_open(struct one_bus *b, struct mr_bus_opened *opened,
                                          struct mr_problem *problem)
{
    const struct mr_bus_ports ports = {.context = b,
                                       .io = one_bus_io,
                                       .handout = one_bus_handout,
                                       .batch_done = one_bus_batch_done,
                                       .demand = one_bus_demand,
                                       .slow = one_bus_slow,
                                       .alarm = one_bus_alarm};
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
    b->now.mono_ns += MR_SECOND;
    b->now.wall_ns += MR_SECOND;
    return mr_bus_open(b->io, &options, &ports, b->now, &b->bus, opened, problem);
}

/* What was asked for is done, then a step. */
static inline void one_bus_turn(struct one_bus *b)
{
    while (b->first != NULL) {
        struct mr_log_request *request = b->first;
        b->first = (struct mr_log_request *)request->op.next;
        request->op.next = NULL;
        bool makes = request->kind == MR_LOG_PREPARE || request->kind == MR_LOG_SPARE;
        if (makes && b->full_after > 0 && b->segments == b->segments_max) {
            b->refusing = request;
            continue;
        }
        bool is_checkpoint = request->kind == MR_LOG_CHECKPOINT;
        b->checkpoints += is_checkpoint;
        if (is_checkpoint && b->full_for_checkpoints) {
            request->result = MR_E_DISK_LOW;
            mr_bus_io_done(b->bus, b->now, request);
            continue;
        }
        b->segments += makes;
        mr_log_perform(b->io, request);
        mr_bus_io_done(b->bus, b->now, request);
    }
    if (b->refusing != NULL && --b->full_after == 0) {
        b->full_after = 1; /* the next one at once */
        b->refusing->result = MR_E_DISK_LOW;
        mr_bus_io_done(b->bus, b->now, MR_TAKE(b->refusing));
    }
    b->now.mono_ns += MR_MS;
    b->now.wall_ns += MR_MS;
    mr_bus_step(b->bus, b->now);
}

static inline void one_bus_send(struct one_bus *b)
{
    struct mr_batch *batch = mr_batch_create(b->source, 1);
    assert_non_null(batch);
    assert_int_equal(mr_batch_add(batch, mr_event_ref(b->event), NULL), MR_OK);
    assert_int_equal(mr_router_match(b->router, UINT32_MAX, mr_event_record(b->event),
                                     &batch->items[0].matches),
                     MR_OK);
    batch->generation = 1;
    mr_bus_ingest(b->bus, b->now, batch);
    one_bus_turn(b);
}

/* Every one that the target has is `ok`. */
static inline void one_bus_answer(struct one_bus *b)
{
    while (b->handouts != NULL) {
        struct mr_handout *handout = b->handouts;
        b->handouts = (struct mr_handout *)handout->op.next;
        handout->op.next = NULL;
        handout->answer.verdict = MR_VERDICT_OK;
        b->answered++;
        mr_bus_answer(b->bus, b->now, handout);
    }
}

/* @p count subscriptions to everything. */
static inline void one_bus_configure(struct one_bus *b, uint32_t count)
{
    static char none[] = "[]";
    static char target[] = "none";
    static char json[] = "{}";
    static const uint64_t step_ns[] = {MR_SECOND};
    struct mr_problem problem;
    uint32_t refused;
    assert_true(count <= ONE_BUS_SUBS);
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(b->names[i], sizeof(b->names[i]), "s%u", i);
        b->subs[i] = (struct mr_subscription_config){
            .name = b->names[i], .filter_json = none, .window_size = MR_MIB};
        b->subs[i].retry.step_count = 1;
        b->subs[i].retry.step_ns = step_ns;
    }
    b->target = (struct mr_target_config){
        .name = target, .concurrency = 1, .timeout_ns = 30 * MR_SECOND};
    b->config = (struct mr_config){
        .canonical_json = json,
        .hash = 1,
        .targets = &b->target,
        .target_count = 1,
        .subscriptions = b->subs,
        .subscription_count = count,
        .hops_max = 16,
        .memory_state = 64 * MR_MIB,
        .log = {.max_size = 1ull << 40, .retain_size = 1ull << 40, .disk_low = 1},
    };
    assert_int_equal(mr_router_create(&b->config, &b->router, &refused, &problem), MR_OK);
    assert_int_equal(mr_bus_configure(b->bus, b->now, &b->config, b->router, 1), MR_OK);
    b->source = mr_bus_source_id(b->bus, MR_SOURCE_SEND_NAME);
}

static inline void one_bus_make_event(struct one_bus *b)
{
    static const char *const attrs[][2] = {{"id", "1"}, {"source", "/s"}, {"type", "t"}};
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, 64 * MR_KIB);
    for (size_t i = 0; i < MR_ARRAY_COUNT(attrs); i++) {
        assert_int_equal(mr_event_builder_attr(&builder, mr_bytes_of(attrs[i][0]), MR_ATTR_STRING,
                                               mr_bytes_of(attrs[i][1]), NULL),
                         MR_OK);
    }
    mr_event_builder_data(&builder, mr_bytes_of("x"), false);
    assert_int_equal(mr_event_builder_finish(&builder, true, &b->event, NULL), MR_OK);
}

/* A folder, and an empty log in it, open, with @p count subscriptions. */
static inline void one_bus_begin(struct one_bus *b, const char *name, uint32_t count)
{
    struct mr_bus_opened opened;
    struct mr_problem problem = {{0}};
    log_folder_make(&b->folder, name);
    b->io = b->folder.io;
    b->now = (struct mr_now){.mono_ns = 1, .wall_ns = 1760000000 * MR_SECOND, .boot_id = 1};
    assert_int_equal(one_bus_open(b, &opened, &problem), MR_OK);
    one_bus_configure(b, count);
    one_bus_make_event(b);
}

/* The log is whole on the disk, and nothing is open any more. */
static inline void one_bus_close(struct one_bus *b)
{
    for (unsigned i = 0; i < ONE_BUS_TURNS && !mr_bus_is_quiet(b->bus); i++) {
        one_bus_turn(b);
    }
    assert_true(mr_bus_is_quiet(b->bus));
    mr_bus_destroy(MR_TAKE(b->bus));
}

static inline void one_bus_end(struct one_bus *b)
{
    log_folder_remove(&b->folder);
    mr_event_unref(b->event);
    mr_router_destroy(b->router);
}

#endif
