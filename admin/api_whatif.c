/* GET /api/v1/what-if: which events of the log a filter would have taken. One page is one segment,
 * read beside the running bus, so that a question about a large log holds up neither it nor the
 * other questions. An event counts when its MATCH record stands behind it, which also says whether
 * any subscription took it. */
#include "admin/history.h"
#include "admin/internal.h"
#include "core/clock.h"

#define LAST_DEFAULT_NS (24ull * 3600 * MR_SECOND)
#define LIMIT_DEFAULT 20u
#define LIMIT_MAX 1000u
#define ANSWER_SIZE_MAX (16u * MR_MIB)
#define SOURCE_ANY (UINT32_MAX - 1) /* the bus is UINT32_MAX, ids count from 0 */

struct what_if {
    struct mr_admin *admin;
    struct mr_filter *filter; /* owned */
    uint64_t since_wall_ns;
    uint64_t segment; /* the page's; 0: the first one of them */
    uint64_t limit;
    uint32_t source; /* of this source alone; SOURCE_ANY: of every one */
    bool unmatched;  /* only events that no subscription took */
    struct mr_json_out out;
    struct mr_buf event; /* the last one that the filter took, while it may still be listed */
    uint64_t offset;     /* of the last event; UINT64_MAX: none */
    uint64_t wall_ns;
    uint32_t from; /* its source */
    bool holds;
    uint64_t examined;
    uint64_t matched;
    uint64_t untaken; /* of those examined, by any subscription */
    uint64_t listed;
    enum mr_status status;
};

static void list_event(struct what_if *q)
{
    char source[MR__SUBSCRIPTION_NAME_SIZE];
    mr__source_name(q->admin, q->from, source, sizeof(source));
    mr_json_out_object(&q->out, NULL);
    mr_json_out_u64(&q->out, "offset", q->offset);
    mr_json_out_text(&q->out, "source", source);
    mr_json_out_time(&q->out, "arrived", q->wall_ns);
    mr_json_out_event(&q->out, "event", mr_buf_bytes(&q->event));
    mr_json_out_end(&q->out);
    q->listed++;
}

static void take_event(struct what_if *q, const struct mr_history_record *seen)
{
    q->offset = UINT64_MAX;
    if (seen->wall_ns < q->since_wall_ns ||
        (q->source != SOURCE_ANY && q->source != seen->record.a)) {
        return;
    }
    q->offset = seen->record.offset;
    q->wall_ns = seen->wall_ns;
    q->from = seen->record.a;
    q->holds = mr_filter_test(q->filter, seen->record.body);
    mr_buf_clear(&q->event);
    if (q->holds && q->listed < q->limit) {
        q->status = mr_buf_append_bytes(&q->event, seen->record.body);
    }
}

static void take_match(struct what_if *q, const struct mr_record *record)
{
    q->examined++;
    q->untaken += record->a == 0;
    if (!q->holds || (q->unmatched && record->a > 0)) {
        return;
    }
    q->matched++;
    /* As JSON it may become several times as long. */
    bool has_room = q->out.buf.size + 8 * q->event.size < ANSWER_SIZE_MAX / 2;
    if (q->listed < q->limit && has_room) {
        list_event(q);
    }
}

static bool visit(void *context, const struct mr_history_record *seen)
{
    struct what_if *q = context;
    if (seen->record.kind == MR_RECORD_EVENT) {
        take_event(q, seen);
    } else if (seen->record.kind == MR_RECORD_MATCH && seen->record.offset == q->offset) {
        take_match(q, &seen->record);
        q->offset = UINT64_MAX;
    }
    return q->status == MR_OK && q->out.status == MR_OK;
}

static enum mr_status read_window(struct what_if *q, const struct mr__call *call,
                                  struct mr_problem *problem)
{
    const char *last = mr_http_request_query(call->http, "last");
    const char *since = mr_http_request_query(call->http, "since");
    int64_t since_ns = 0;
    if (since != NULL) {
        if (!mr_time_parse(mr_bytes_of(since), &since_ns) || since_ns < 0) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "since wants a time such as 2024-05-01T00:00:00Z, not \"%s\"",
                                  since);
        }
        q->since_wall_ns = (uint64_t)since_ns;
        return MR_OK;
    }
    uint64_t last_ns = LAST_DEFAULT_NS;
    uint64_t now_ns = mr_clock_now().wall_ns;
    if (last != NULL && (!mr_parse_duration(last, &last_ns) || last_ns == 0)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "last wants a duration such as 90s or 1h30m, not \"%s\"", last);
    }
    q->since_wall_ns = last_ns > now_ns ? 0 : now_ns - last_ns;
    return MR_OK;
}

static enum mr_status read_question(struct what_if *q, const struct mr__call *call,
                                    struct mr_problem *problem)
{
    const char *filter = mr_http_request_query(call->http, "filter");
    const char *limit = mr_http_request_query(call->http, "limit");
    const char *segment = mr_http_request_query(call->http, "segment");
    const char *source = mr_http_request_query(call->http, "source");
    if (limit != NULL && (!mr_parse_u64(mr_bytes_of(limit), &q->limit) || q->limit > LIMIT_MAX)) {
        return mr_problem_set(problem, MR_E_INVALID, "limit wants a number up to %u, not \"%s\"",
                              LIMIT_MAX, limit);
    }
    if (segment != NULL && !mr_parse_u64(mr_bytes_of(segment), &q->segment)) {
        return mr_problem_set(problem, MR_E_INVALID, "segment wants a number, not \"%s\"",
                              segment);
    }
    enum mr_status r = source == NULL ? MR_OK : mr__source_id(q->admin, source, &q->source);
    if (r != MR_OK) {
        return r == MR_E_NOT_FOUND
                   ? mr_problem_set(problem, r, "no source is called %s", source)
                   : r;
    }
    q->unmatched = mr__call_flag(call, "unmatched");
    r = read_window(q, call, problem);
    return r == MR_OK
               ? mr_filter_create(mr_bytes_of(filter == NULL ? "[]" : filter), &q->filter, problem)
               : r;
}

static bool take_time(void *context, const struct mr_log_group *group)
{
    uint64_t *wall_ns = context;
    *wall_ns = group->header_good ? group->header.wall_ns : 0;
    return !group->header_good;
}

/* The first segment of the window: the last one that begins before it. */
static enum mr_status find_first(struct what_if *q, struct mr_history *history, uint32_t *ret_at)
{
    enum mr_status r = MR_OK;
    uint32_t at = history->index.segment_count;
    uint64_t begins_ns = UINT64_MAX;
    while (r == MR_OK && at > 0 && begins_ns > q->since_wall_ns) {
        begins_ns = UINT64_MAX; /* stays when nothing can be read there */
        r = mr_history_groups(history, history->index.segments[--at].number, true, take_time,
                              &begins_ns);
    }
    *ret_at = at;
    return r;
}

static enum mr_status scan(struct what_if *q, uint64_t *ret_next, uint32_t *ret_left,
                           struct mr_problem *problem)
{
    struct mr_bus_status status;
    struct mr_history history;
    enum mr_status r = mr__bus_status(q->admin, &status);
    r = r == MR_OK ? mr_history_open(q->admin->host->log_dir, status.durable_position, &history,
                                     problem)
                   : r;
    if (r != MR_OK) {
        return r;
    }
    uint32_t count = history.index.segment_count;
    uint32_t at = 0;
    if (q->segment == 0) {
        r = find_first(q, &history, &at);
    }
    while (at < count && history.index.segments[at].number < q->segment) {
        at++;
    }
    if (r == MR_OK && at < count) {
        r = mr_history_scan(&history, history.index.segments[at].number, true, visit, q);
        at++;
    }
    *ret_left = count - at;
    *ret_next = at < count ? history.index.segments[at].number : 0;
    mr_history_release(&history);
    return r == MR_OK ? q->status : r;
}

void mr__get_what_if(struct mr_admin *admin, struct mr__call *call)
{
    struct what_if q = {
        .admin = admin, .limit = LIMIT_DEFAULT, .source = SOURCE_ANY, .offset = UINT64_MAX};
    struct mr_problem problem = {.text = ""};
    uint64_t next = 0;
    uint32_t left = 0;
    mr_buf_init(&q.event, MR_EVENT_SIZE_MAX + MR_KIB);
    mr_json_out_init(&q.out, ANSWER_SIZE_MAX);
    enum mr_status r = read_question(&q, call, &problem);
    if (r == MR_OK) {
        mr_json_out_object(&q.out, NULL);
        mr_json_out_array(&q.out, "events");
        r = scan(&q, &next, &left, &problem);
    }
    if (r == MR_OK) {
        mr_json_out_end(&q.out);
        mr_json_out_time(&q.out, "since", q.since_wall_ns);
        mr_json_out_u64(&q.out, "examined", q.examined);
        mr_json_out_u64(&q.out, "matched", q.matched);
        mr_json_out_u64(&q.out, "unmatched", q.untaken);
        mr_json_out_u64(&q.out, "listed", q.listed);
        if (next == 0) {
            mr_json_out_null(&q.out, "next");
        } else {
            mr_json_out_u64(&q.out, "next", next);
        }
        mr_json_out_u64(&q.out, "segments_left", left);
        mr_json_out_end(&q.out);
        mr__answer_json(call, 200, &q.out);
    } else {
        mr_json_out_release(&q.out);
        mr__answer_status(call, r, &problem);
    }
    mr_buf_release(&q.event);
    mr_filter_destroy(q.filter);
}
