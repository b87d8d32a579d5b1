/* POST /api/v1/subscriptions/NAME/replay: past events of the log, delivered to the subscription
 * again. Each becomes an event of its own, which goes to this subscription alone: with the id and
 * source it had, so that a handler that has seen it knows it, and marked with `mrreplay`, its first
 * offset. What the filter of the subscription takes now is replayed, in the order of the log;
 * replays are not replayed.
 *
 * A page answers once what it put in is durable. Whoever asks goes on behind `next` and `after`. */
#include <inttypes.h>
#include <stdio.h>

#include "admin/page.h"
#include "core/alloc.h"
#include "core/assert.h"

#define MARK "mrreplay"
#define LIMIT_MAX 1000u
#define PAGE_SIZE_MAX MR_MIB /* of the events together, but for one that is larger itself */

struct replay {
    struct mr__page page;
    const struct mr_config *config; /* held */
    const struct mr_router *router;
    uint32_t index; /* of the subscription in the configuration */
    struct mr_filter *filter; /* owned */
    uint32_t from;         /* id of the source last seen, */
    uint32_t source_index; /* and where it stands in the configuration */
    uint64_t after;  /* offsets up to it are done */
    uint64_t before; /* offsets from it on came when the replay had begun */
    uint64_t limit;
    bool dry_run;
    struct mr_batch *batch; /* owned until submitted */
    struct mr_event *event; /* owned: to be replayed if its MATCH record follows */
    uint64_t offset;        /* its */
    uint64_t examined;
    uint64_t replayed;
    uint64_t size;
    uint64_t last; /* offset of the last one that was looked at */
    bool full;
    enum mr_status status;
};

static bool is_wanted(struct replay *q, const struct mr_history_record *seen)
{
    struct mr_bytes body = seen->record.body;
    if (seen->record.a != q->from) {
        char name[MR__SUBSCRIPTION_NAME_SIZE];
        mr__source_name(q->page.admin, seen->record.a, name, sizeof(name));
        int64_t index = mr_config_find_source(q->config, name);
        q->from = seen->record.a;
        q->source_index = index < 0 ? UINT32_MAX : (uint32_t)index;
    }
    struct mr_buf why;
    mr_buf_init(&why, 0); /* not wanted: only whether it matches */
    bool holds = mr_router_explain(q->router, q->index, q->source_index, body, &why);
    mr_buf_release(&why);
    return holds && mr_event_value(body, MARK).size == 0 && mr_filter_test(q->filter, body);
}

static void take_event(struct replay *q, const struct mr_history_record *seen)
{
    const struct mr_record *record = &seen->record;
    mr_event_unref(MR_TAKE(q->event));
    bool is_asked = record->offset > q->after && record->offset < q->before;
    if (!is_asked || !mr__page_has(&q->page, seen)) {
        return;
    }
    q->full = q->replayed >= q->limit || q->size + record->body.size > PAGE_SIZE_MAX;
    if (q->full && q->replayed > 0) {
        return;
    }
    q->full = false;
    q->examined++;
    q->last = record->offset;
    if (!is_wanted(q, seen)) {
        return;
    }
    char offset[24];
    (void)snprintf(offset, sizeof(offset), "%" PRIu64, record->offset); /* 20 digits at most */
    q->offset = record->offset;
    q->status = mr_event_with_attr(record->body, MR_BYTES_LITERAL(MARK), mr_bytes_of(offset),
                                   &q->event, NULL);
}

static bool visit(void *context, const struct mr_history_record *seen)
{
    struct replay *q = context;
    if (seen->record.kind == MR_RECORD_EVENT) {
        take_event(q, seen);
    } else if (seen->record.kind == MR_RECORD_MATCH && q->event != NULL &&
               seen->record.offset == q->offset) {
        struct mr_event *event = MR_TAKE(q->event);
        q->replayed++;
        q->size += event->size;
        if (q->dry_run) {
            mr_event_unref(event);
        } else {
            q->status = mr_batch_add(q->batch, event, NULL);
        }
    }
    return q->status == MR_OK && !q->full;
}

/* The configuration stays held until release_replay(). */
static enum mr_status find_subscription(struct replay *q, const char *name,
                                        struct mr_problem *problem)
{
    struct mr_admin_host *host = q->page.admin->host;
    q->config = host->ops->config(host, &q->router);
    int64_t index = q->config == NULL ? -1 : mr_config_find_subscription(q->config, name);
    if (index < 0) {
        return mr_problem_set(problem, MR_E_NOT_FOUND, "no subscription is called %s", name);
    }
    q->index = (uint32_t)index;
    return q->config->subscriptions[index].hidden
               ? mr_problem_set(problem, MR_E_UNSUPPORTED,
                                "%s carries the outcomes of another subscription: redrive or "
                                "replay that one",
                                name)
               : MR_OK;
}

static enum mr_status read_request(struct replay *q, const struct mr__call *call,
                                   struct mr_problem *problem)
{
    const char *filter = mr_http_request_query(call->http, "filter");
    enum mr_status r = find_subscription(q, call->name, problem);
    r = r == MR_OK ? mr__page_read(&q->page, call, 0, problem) : r;
    r = r == MR_OK ? mr__query_number(call->http, "after", &q->after, problem) : r;
    r = r == MR_OK ? mr__query_number(call->http, "before", &q->before, problem) : r;
    r = r == MR_OK ? mr__query_number(call->http, "limit", &q->limit, problem) : r;
    if (r == MR_OK && (q->limit == 0 || q->limit > LIMIT_MAX)) {
        r = mr_problem_set(problem, MR_E_INVALID, "limit wants a number from 1 to %u", LIMIT_MAX);
    }
    q->dry_run = mr__call_flag(call, "dry_run");
    return r == MR_OK
               ? mr_filter_create(mr_bytes_of(filter == NULL ? "[]" : filter), &q->filter, problem)
               : r;
}

static void release_replay(struct replay *q)
{
    struct mr_admin_host *host = q->page.admin->host;
    mr_event_unref(q->event);
    mr_batch_destroy(q->batch);
    mr_filter_destroy(q->filter);
    if (q->config != NULL) {
        host->ops->config_release(host, q->config);
    }
}

/* What is put in is not in the answer before it is durable: it waits in the call. */
static enum mr_status write_page(const struct replay *q, struct mr__call *call)
{
    struct mr_json_out *out = &call->answer;
    struct mr__page page = q->page;
    page.next = q->full ? page.segment : page.next; /* the rest of it */
    mr_json_out_init(out, MR__ANSWER_SIZE_MAX);
    mr_json_out_object(out, NULL);
    mr_json_out_bool(out, "dry_run", q->dry_run);
    mr_json_out_u64(out, "examined", q->examined);
    mr_json_out_u64(out, "replayed", q->replayed);
    mr_json_out_u64(out, "after", q->last > q->after ? q->last : q->after);
    mr_json_out_u64(out, "before", q->before);
    mr_json_out_time(out, "since", page.since_wall_ns);
    mr__page_write_next(&page, out);
    mr_json_out_end(out);
    return out->status;
}

static void answer_page(struct mr__call *call)
{
    struct mr_json_out out = call->answer; /* the call is gone with its answer */
    call->answer = (struct mr_json_out){0};
    mr__answer_json(call, 200, &out);
}

/* Comes back through mr__replay_done(). */
static enum mr_status submit(struct replay *q, struct mr__call *call, struct mr_problem *problem)
{
    struct mr_admin *admin = q->page.admin;
    struct mr__lane_thread *lane = &admin->lanes[MR__LANE_SLOW];
    char after[24];
    (void)snprintf(after, sizeof(after), "%" PRIu64, q->after); /* 20 digits at most */
    enum mr_status r = mr__log_action(admin, "replay", "subscription", call->name, "after", after,
                                      "filter", mr_http_request_query(call->http, "filter"), NULL);
    if (r != MR_OK) {
        return r;
    }
    struct mr_batch *batch = q->batch;
    batch->reply = &lane->queue;
    batch->context = call;
    lane->batches++;
    r = admin->host->ops->submit(admin->host, MR_SOURCE_SEND_NAME, call->name, batch, problem);
    if (r == MR_OK) {
        q->batch = NULL; /* the bus has it */
    } else {
        lane->batches--;
    }
    return r;
}

void mr__post_replay(struct mr_admin *admin, struct mr__call *call)
{
    struct replay q = {
        .page = {.admin = admin}, .from = MR__SOURCE_ANY, .limit = LIMIT_MAX,
        .batch = mr_batch_create(0, 64)};
    struct mr_problem problem = {.text = ""};
    struct mr_bus_status status;
    enum mr_status r = q.batch == NULL ? MR_E_NOMEM : read_request(&q, call, &problem);
    if (r == MR_OK && q.before == 0) {
        r = mr__bus_status(admin, &status);
        q.before = r == MR_OK ? status.next_offset : 0;
    }
    if (r == MR_OK) {
        q.page.filter = q.filter;
        r = mr__page_scan(&q.page, visit, &q, &problem);
        r = r == MR_OK ? q.status : r;
    }
    bool waits = false;
    if (r == MR_OK) {
        r = write_page(&q, call);
        if (r == MR_OK && q.batch->count > 0) {
            r = submit(&q, call, &problem);
            waits = r == MR_OK;
        }
    }
    release_replay(&q);
    if (r != MR_OK) {
        mr__answer_status(call, r, &problem);
    } else if (!waits) {
        answer_page(call);
    }
}

void mr__replay_done(struct mr_batch *batch)
{
    struct mr__call *call = batch->context;
    MR_ASSERT(call != NULL);
    enum mr_status r = batch->result;
    mr_batch_destroy(batch);
    if (r == MR_OK) {
        answer_page(call);
    } else {
        mr__answer_status(call, r, NULL);
    }
}
