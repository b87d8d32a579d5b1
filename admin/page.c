#include "admin/page.h"

#include "core/clock.h"

#define PASSED_MAX 64u

static enum mr_status read_time(const struct mr__call *call, const char *name, uint64_t *ret_ns,
                                struct mr_problem *problem)
{
    const char *text = mr_http_request_query(call->http, name);
    int64_t ns = 0;
    if (text == NULL) {
        return MR_OK;
    }
    if (!mr_time_parse(mr_bytes_of(text), &ns) || ns < 0) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "%s wants a time such as 2024-05-01T00:00:00Z, not \"%s\"", name,
                              text);
    }
    *ret_ns = (uint64_t)ns;
    return MR_OK;
}

static enum mr_status read_since(struct mr__page *page, const struct mr__call *call,
                                 uint64_t last_ns, struct mr_problem *problem)
{
    const char *last = mr_http_request_query(call->http, "last");
    if (mr_http_request_query(call->http, "since") != NULL) {
        return read_time(call, "since", &page->since_wall_ns, problem);
    }
    if (last == NULL && last_ns == 0) {
        return mr_problem_set(problem, MR_E_INVALID, "wants since or last: how far to go back");
    }
    if (last != NULL && (!mr_parse_duration(last, &last_ns) || last_ns == 0)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "last wants a duration such as 90s or 1h30m, not \"%s\"", last);
    }
    uint64_t now_ns = mr_clock_now().wall_ns;
    page->since_wall_ns = last_ns > now_ns ? 0 : now_ns - last_ns;
    return MR_OK;
}

enum mr_status mr__page_read(struct mr__page *page, const struct mr__call *call,
                             uint64_t last_default_ns, struct mr_problem *problem)
{
    const char *source = mr_http_request_query(call->http, "source");
    page->source = MR__SOURCE_ANY;
    page->until_wall_ns = UINT64_MAX;
    enum mr_status r = mr__query_number(call->http, "segment", &page->segment, problem);
    if (r == MR_OK && source != NULL) {
        r = mr__source_id(page->admin, source, &page->source);
    }
    if (r == MR_E_NOT_FOUND) {
        return mr_problem_set(problem, r, "no source is called %s", source);
    }
    r = r == MR_OK ? read_time(call, "until", &page->until_wall_ns, problem) : r;
    return r == MR_OK ? read_since(page, call, last_default_ns, problem) : r;
}

static bool take_time(void *context, const struct mr_log_group *group)
{
    uint64_t *wall_ns = context;
    if (group->header_good) { /* else: nothing was written there yet, or it is damaged */
        *wall_ns = group->header.wall_ns;
    }
    return !group->header_good;
}

/* The first segment of the window: the last one that begins before it. */
static enum mr_status find_first(const struct mr__page *page, struct mr_history *history,
                                 uint32_t *ret_at)
{
    enum mr_status r = MR_OK;
    uint32_t at = history->index.segment_count;
    uint64_t begins_ns = UINT64_MAX;
    while (r == MR_OK && at > 0 && begins_ns > page->since_wall_ns) {
        begins_ns = UINT64_MAX; /* stays when nothing can be read there */
        const struct mr_footer_head *footer = mr_history_footer(history, at - 1);
        if (footer != NULL && footer->first_wall_ns > page->since_wall_ns) {
            at--; /* its first group is not older than any of it */
            continue;
        }
        r = mr_history_groups(history, history->index.segments[--at].number, true, take_time,
                              &begins_ns);
    }
    *ret_at = at;
    return r;
}

/* The attribute by which footers find what the filter wants: a subject is rarer than a type. */
static struct mr_bytes wanted_value(const struct mr__page *page, enum mr_footer_value *ret_which)
{
    static const struct {
        const char *name;
        enum mr_footer_value which;
    } order[] = {{"subject", MR_FOOTER_SUBJECT},
                 {"type", MR_FOOTER_TYPE},
                 {"source", MR_FOOTER_SOURCE}};
    struct mr_bytes value = {0};
    for (size_t i = 0; i < MR_ARRAY_COUNT(order) && value.size == 0; i++) {
        value = page->filter == NULL ? value : mr_filter_exact(page->filter, order[i].name);
        *ret_which = order[i].which;
    }
    return value;
}

/* @param[out] ret_any false: its footer says that nothing in it is asked for */
static enum mr_status scan_segment(const struct mr__page *page, struct mr_history *history,
                                   uint32_t at,
                                   bool (*visit)(void *context,
                                                 const struct mr_history_record *seen),
                                   void *context, bool *ret_any)
{
    const struct mr_footer_head *footer = mr_history_footer(history, at);
    enum mr_footer_value which;
    struct mr_bytes value = wanted_value(page, &which);
    *ret_any = false;
    if (footer != NULL && (footer->last_wall_ns < page->since_wall_ns ||
                           footer->first_wall_ns >= page->until_wall_ns)) {
        return MR_OK;
    }
    if (footer != NULL && value.size > 0) {
        return mr_history_scan_value(history, at, which, value, visit, context, ret_any);
    }
    *ret_any = true;
    return mr_history_scan(history, history->index.segments[at].number, true, visit, context);
}

enum mr_status mr__page_scan(struct mr__page *page,
                             bool (*visit)(void *context, const struct mr_history_record *seen),
                             void *context, struct mr_problem *problem)
{
    struct mr_bus_status status;
    struct mr_history history;
    enum mr_status r = mr__bus_status(page->admin, &status);
    r = r == MR_OK ? mr_history_open(page->admin->history, status.durable_position, &history,
                                     problem)
                   : r;
    if (r != MR_OK) {
        return r;
    }
    uint32_t count = history.index.segment_count;
    uint32_t at = 0;
    if (page->segment == 0) {
        r = find_first(page, &history, &at);
    }
    while (at < count && history.index.segments[at].number < page->segment) {
        at++;
    }
    uint32_t end = count - at > PASSED_MAX ? at + PASSED_MAX : count;
    bool any = false;
    while (r == MR_OK && at < end && !any) {
        page->segment = history.index.segments[at].number;
        r = scan_segment(page, &history, at, visit, context, &any);
        at++;
    }
    page->left = count - at;
    page->next = at < count ? history.index.segments[at].number : 0;
    mr_history_release(&history);
    return r;
}

bool mr__page_has(const struct mr__page *page, const struct mr_history_record *seen)
{
    return seen->wall_ns >= page->since_wall_ns && seen->wall_ns < page->until_wall_ns &&
           (page->source == MR__SOURCE_ANY || page->source == seen->record.a);
}

void mr__page_write_next(const struct mr__page *page, struct mr_json_out *out)
{
    if (page->next == 0) {
        mr_json_out_null(out, "next");
    } else {
        mr_json_out_u64(out, "next", page->next);
    }
    mr_json_out_u64(out, "segments_left", page->left);
}
