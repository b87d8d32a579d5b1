/* GET /api/v1/what-if: which events of the log a filter would have taken. An event counts when its
 * MATCH record stands behind it, which also says whether any subscription took it. */
#include "admin/page.h"

#define LAST_DEFAULT_NS (24ull * 3600 * MR_SECOND)
#define LIMIT_DEFAULT 20u
#define LIMIT_MAX 1000u
#define ANSWER_SIZE_MAX (16u * MR_MIB)

struct what_if {
    struct mr__page page;
    struct mr_filter *filter; /* owned */
    uint64_t limit;
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
    mr__source_name(q->page.admin, q->from, source, sizeof(source));
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
    if (!mr__page_has(&q->page, seen)) {
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

static enum mr_status read_question(struct what_if *q, const struct mr__call *call,
                                    struct mr_problem *problem)
{
    const char *filter = mr_http_request_query(call->http, "filter");
    const char *limit = mr_http_request_query(call->http, "limit");
    if (limit != NULL && (!mr_parse_u64(mr_bytes_of(limit), &q->limit) || q->limit > LIMIT_MAX)) {
        return mr_problem_set(problem, MR_E_INVALID, "limit wants a number up to %u, not \"%s\"",
                              LIMIT_MAX, limit);
    }
    q->unmatched = mr__call_flag(call, "unmatched");
    enum mr_status r = mr__page_read(&q->page, call, LAST_DEFAULT_NS, problem);
    return r == MR_OK
               ? mr_filter_create(mr_bytes_of(filter == NULL ? "[]" : filter), &q->filter, problem)
               : r;
}

void mr__get_what_if(struct mr_admin *admin, struct mr__call *call)
{
    struct what_if q = {
        .page = {.admin = admin}, .limit = LIMIT_DEFAULT, .offset = UINT64_MAX};
    struct mr_problem problem = {.text = ""};
    mr_buf_init(&q.event, MR_EVENT_SIZE_MAX + MR_KIB);
    mr_json_out_init(&q.out, ANSWER_SIZE_MAX);
    enum mr_status r = read_question(&q, call, &problem);
    if (r == MR_OK) {
        mr_json_out_object(&q.out, NULL);
        mr_json_out_array(&q.out, "events");
        q.page.filter = q.filter;
        r = mr__page_scan(&q.page, visit, &q, &problem);
        r = r == MR_OK ? q.status : r;
    }
    if (r == MR_OK) {
        mr_json_out_end(&q.out);
        mr_json_out_time(&q.out, "since", q.page.since_wall_ns);
        mr_json_out_u64(&q.out, "examined", q.examined);
        mr_json_out_u64(&q.out, "matched", q.matched);
        mr_json_out_u64(&q.out, "unmatched", q.untaken);
        mr_json_out_u64(&q.out, "listed", q.listed);
        mr__page_write_next(&q.page, &q.out);
        mr_json_out_end(&q.out);
        mr__answer_json(call, 200, &q.out);
    } else {
        mr_json_out_release(&q.out);
        mr__answer_status(call, r, &problem);
    }
    mr_buf_release(&q.event);
    mr_filter_destroy(q.filter);
}
