/* The deliveries of a subscription that are not settled: list, resume a held one, skip one. A call
 * lists one page; whoever asks goes on behind `next`. */
#include "admin/history.h"
#include "admin/internal.h"
#include "core/alloc.h"

#define PAGE 128u
#define LIMIT_DEFAULT 100u
#define LIMIT_MAX 1000u

/* --- list ------------------------------------------------------------------------------------- */

struct page {
    uint32_t subscription;
    const char *state; /* NULL: any */
    uint64_t after;
    struct mr_open_delivery items[PAGE];
    uint32_t count;
};

static bool keep(void *context, const struct mr_open_delivery *delivery)
{
    struct page *page = context;
    if (page->state == NULL || strcmp(page->state, mr_state_text(delivery->info.state)) == 0) {
        page->items[page->count++] = *delivery;
    }
    return page->count < PAGE;
}

static void copy_page(void *argument, struct mr_bus *bus, struct mr_now now)
{
    struct page *page = argument;
    page->count = 0;
    page->after =
        mr_bus_open_deliveries(bus, now, page->subscription, page->after, keep, page);
}

struct listing {
    struct mr_json_out out;
    struct mr_history history;
    struct mr_buf body; /* of the event being read */
    const char *subscription;
    uint32_t subscription_id;
    const char *id;     /* only this one; NULL: any. The event's id, or its offset in digits */
    uint64_t left;      /* places in the answer */
    uint64_t last;      /* offset of the last one looked at */
};

static enum mr_status write_delivery(struct listing *list, const struct mr_open_delivery *delivery)
{
    const struct mr_delivery_info *info = &delivery->info;
    struct mr_bytes id = {0};
    struct mr_record record;
    enum mr_status r = MR_E_NOT_FOUND;
    if (info->event_position != 0 && info->event_position < list->history.end_position) {
        r = mr_history_read_event(&list->history, info->event_position, list->subscription_id,
                                  delivery->offset, &list->body, &record);
        id = r == MR_OK ? mr_event_id(record.body) : id;
    }
    uint64_t offset;
    list->last = delivery->offset;
    if (list->id != NULL && !mr_bytes_equal(id, mr_bytes_of(list->id)) &&
        (!mr_parse_u64(mr_bytes_of(list->id), &offset) || offset != delivery->offset)) {
        return r == MR_E_NOT_FOUND ? MR_OK : r;
    }
    struct mr_json_out *out = &list->out;
    bool waits = info->state != MR_STATE_IN_FLIGHT && info->blocked_on != MR_BLOCKED_NOTHING;
    mr_json_out_object(out, NULL);
    mr_json_out_bytes_or_null(out, "id", id);
    mr_json_out_text(out, "subscription", list->subscription);
    mr_json_out_u64(out, "offset", delivery->offset);
    mr_json_out_text(out, "state", mr_state_text(info->state));
    mr_json_out_text(out, "blocked_on", waits ? mr_blocked_text(info->blocked_on) : NULL);
    mr_json_out_time(out, "blocked_until", waits ? info->due_log_ns : 0);
    mr_json_out_u64(out, "attempts", info->attempts);
    mr_json_out_u64(out, "refusals", info->refusals);
    mr_json_out_u64(out, "interruptions", info->interruptions);
    mr_json_out_time(out, "arrived", delivery->arrival_log_ns);
    mr_json_out_end(out);
    list->left--;
    return r == MR_E_NOT_FOUND ? out->status : r;
}

/* @param[out] ret_next offset to go on behind; UINT64_MAX: there are no more */
static enum mr_status write_deliveries(struct mr_admin *admin, struct listing *list,
                                       struct page *page, uint64_t *ret_next)
{
    enum mr_status r = MR_OK;
    while (r == MR_OK && list->left > 0 && page->after != UINT64_MAX) {
        r = admin->host->ops->call(admin->host, copy_page, page);
        for (uint32_t i = 0; r == MR_OK && i < page->count && list->left > 0; i++) {
            r = write_delivery(list, &page->items[i]);
        }
        bool cut = page->count > 0 && list->last != page->items[page->count - 1].offset;
        page->after = cut ? list->last : page->after;
    }
    *ret_next = page->after;
    return r;
}

static bool read_arguments(struct mr__call *call, struct page *page, struct listing *list)
{
    const char *after = mr_http_request_query(call->http, "after");
    const char *limit = mr_http_request_query(call->http, "limit");
    page->state = mr_http_request_query(call->http, "state");
    list->id = mr_http_request_query(call->http, "id");
    list->left = LIMIT_DEFAULT;
    if ((after != NULL && !mr_parse_u64(mr_bytes_of(after), &page->after)) ||
        (limit != NULL && !mr_parse_u64(mr_bytes_of(limit), &list->left))) {
        mr__answer_error(call, 400, "after and limit want numbers");
        return false;
    }
    if (list->left == 0 || list->left > LIMIT_MAX) {
        list->left = LIMIT_MAX;
    }
    static const enum mr_state open[] = {MR_STATE_WAITING, MR_STATE_IN_FLIGHT, MR_STATE_HELD};
    for (size_t i = 0; page->state != NULL && i <= MR_ARRAY_COUNT(open); i++) {
        if (i == MR_ARRAY_COUNT(open)) {
            mr__answer_error(call, 400, "state wants waiting, in flight or held");
            return false;
        }
        if (strcmp(page->state, mr_state_text(open[i])) == 0) {
            break;
        }
    }
    return true;
}

void mr__get_deliveries(struct mr_admin *admin, struct mr__call *call)
{
    struct mr__subscription subscription;
    struct mr_bus_status status;
    enum mr_status r = mr__find_subscription(admin, call->name, &subscription);
    if (r == MR_E_NOT_FOUND) {
        mr__answer_error(call, 404, "no subscription is called %s", call->name);
        return;
    }
    struct page *page = mr_calloc(1, sizeof(*page));
    struct listing list = {.subscription = call->name};
    if (r == MR_OK && page != NULL && !read_arguments(call, page, &list)) {
        mr_free(page);
        return;
    }
    mr_json_out_init(&list.out, MR__ANSWER_SIZE_MAX);
    mr_buf_init(&list.body, MR_SEGMENT_SIZE_MAX);
    r = r == MR_OK && page == NULL ? MR_E_NOMEM : r;
    r = r == MR_OK ? mr__bus_status(admin, &status) : r;
    if (r == MR_OK) {
        r = mr_history_open(admin->history, status.durable_position, &list.history, NULL);
    }
    uint64_t next = UINT64_MAX;
    mr_json_out_object(&list.out, NULL);
    mr_json_out_array(&list.out, "deliveries");
    if (r == MR_OK) {
        page->subscription = subscription.info.id;
        list.subscription_id = subscription.info.id;
        r = write_deliveries(admin, &list, page, &next);
        mr_history_release(&list.history);
    }
    mr_json_out_end(&list.out);
    if (next == UINT64_MAX) {
        mr_json_out_null(&list.out, "next");
    } else {
        mr_json_out_u64(&list.out, "next", next);
    }
    mr_json_out_end(&list.out);
    mr_buf_release(&list.body);
    mr_free(page);
    if (r != MR_OK) {
        mr_json_out_release(&list.out);
        mr__answer_status(call, r, NULL);
        return;
    }
    mr__answer_json(call, 200, &list.out);
}

/* --- resume and skip -------------------------------------------------------------------------- */

struct act {
    uint32_t subscription;
    uint64_t offset;
    bool skip;
    enum mr_status result;
};

static void do_act(void *argument, struct mr_bus *bus, struct mr_now now)
{
    struct act *act = argument;
    struct mr_delivery_info info;
    uint64_t later;
    act->result = mr_bus_delivery_info(bus, now, act->subscription, act->offset, &info);
    if (act->result == MR_OK && act->skip) {
        act->result = mr_bus_skip(bus, now, act->subscription, act->offset);
    } else if (act->result == MR_OK && info.state != MR_STATE_HELD) {
        act->result = MR_E_CONFLICT;
    } else if (act->result == MR_OK) {
        act->result = mr_bus_redrive(bus, now, act->subscription, act->offset, false, &later);
    }
}

static void act_on(struct mr_admin *admin, struct mr__call *call, bool skip)
{
    struct mr__subscription subscription;
    struct act act = {.skip = skip, .result = MR_OK};
    const char *text = mr_http_request_query(call->http, "offset");
    if (text == NULL || !mr_parse_u64(mr_bytes_of(text), &act.offset)) {
        mr__answer_error(call, 400, "wants the offset of a delivery: ?offset=N");
        return;
    }
    enum mr_status r = mr__find_subscription(admin, call->name, &subscription);
    if (r == MR_E_NOT_FOUND) {
        mr__answer_error(call, 404, "no subscription is called %s", call->name);
        return;
    }
    if (r == MR_OK) {
        r = mr__log_action(admin, skip ? "skip" : "resume", "subscription", call->name, "offset",
                           text, NULL);
    }
    if (r != MR_OK) {
        mr__answer_status(call, r, NULL);
        return;
    }
    act.subscription = subscription.info.id;
    if (!mr__ask(admin, call, do_act, &act)) {
        return;
    }
    if (act.result == MR_E_NOT_FOUND) {
        mr__answer_error(call, 404, "%s:%s is settled, or not in the window yet", call->name, text);
    } else if (act.result == MR_E_CONFLICT) {
        mr__answer_error(call, 409, "%s:%s is not held", call->name, text);
    } else if (act.result != MR_OK) {
        mr__answer_status(call, act.result, NULL);
    } else {
        struct mr_json_out out;
        mr_json_out_init(&out, MR_MIB);
        mr_json_out_object(&out, NULL);
        mr_json_out_text(&out, "subscription", call->name);
        mr_json_out_u64(&out, "offset", act.offset);
        mr_json_out_text(&out, "action", skip ? "skipped" : "resumed");
        mr_json_out_end(&out);
        mr__answer_json(call, 200, &out);
    }
}

void mr__post_delivery_resume(struct mr_admin *admin, struct mr__call *call)
{
    act_on(admin, call, false);
}

void mr__post_delivery_skip(struct mr_admin *admin, struct mr__call *call)
{
    act_on(admin, call, true);
}
