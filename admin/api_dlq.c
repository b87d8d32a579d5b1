/* The dead-letter queue of a subscription: list, show, and failures of one kind together. A list is
 * answered in pages: whoever asks goes on behind `next`. */
#include <stdlib.h>

#include "admin/internal.h"
#include "admin/letters.h"
#include "admin/timeline.h"
#include "core/alloc.h"

#define PAGE_SIZE_MAX (16u * MR_MIB) /* of JSON in one page, checked before each letter */
#define GROUPS_MAX 1000u             /* the letters of more are counted together */
#define SLOTS 2048u                  /* of the table that finds them: a power of two, half empty */

/* --- what the calls share --------------------------------------------------------------------- */

bool mr__call_flag(const struct mr__call *call, const char *name)
{
    const char *text = mr_http_request_query(call->http, name);
    return text != NULL && strcmp(text, "true") == 0;
}

void mr__dlq_write_next(struct mr_json_out *out, uint64_t next)
{
    if (next == UINT64_MAX) {
        mr_json_out_null(out, "next");
    } else {
        mr_json_out_u64(out, "next", next);
    }
}

bool mr__dlq_begin(struct mr_admin *admin, struct mr__call *call,
                   struct mr__subscription *subscription, struct mr_letter_query *query)
{
    static const char *const foreign[] = {"canary", "stop_if_fail", "rate"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(foreign); i++) {
        if (mr_http_request_query(call->http, foreign[i]) != NULL) {
            mr__answer_error(call, 400,
                             "%s is not part of this interface: whoever asks page by page decides",
                             foreign[i]);
            return false;
        }
    }
    enum mr_status r = mr__find_subscription(admin, call->name, subscription);
    if (r == MR_E_NOT_FOUND) {
        mr__answer_error(call, 404, "no subscription is called %s", call->name);
        return false;
    }
    struct mr_problem problem = {.text = ""};
    if (r == MR_OK) {
        r = mr_letter_query_init(query, call->http, &problem);
        if (r != MR_OK) {
            mr_letter_query_release(query);
        }
    }
    if (r != MR_OK) {
        mr__answer_status(call, r, &problem);
    }
    return r == MR_OK;
}

/* --- list and show ---------------------------------------------------------------------------- */

struct list {
    struct mr_admin *admin;
    struct mr_json_out out;
    const struct mr__subscription *subscription;
    bool full;      /* all attempts, for show */
    bool no_events; /* ids and offsets alone */
    enum mr_status status;
};

/* All attempts as the log tells them, redrives included: it is read from the event on. */
static enum mr_status write_story(struct list *list, const struct mr_letter *letter)
{
    struct mr_bus_status status;
    struct mr_history history;
    enum mr_status r = mr__bus_status(list->admin, &status);
    if (r == MR_OK) {
        r = mr_history_open(list->admin->history, status.durable_position, &history, NULL);
    }
    if (r != MR_OK) {
        return r;
    }
    struct mr_timeline timeline;
    mr_timeline_init(&timeline, letter->dead.offset);
    bool kept = mr_history_is_kept(&history, letter->dead.event_position);
    r = mr_history_follow(&history,
                          kept ? 0 : mr_position_segment(letter->dead.event_position),
                          letter->dead.offset, mr_timeline_visit, &timeline);
    struct mr_buf body;
    mr_buf_init(&body, MR_EVENT_SIZE_MAX);
    struct mr_history_record end = {.position = letter->dead.record_position};
    if (r == MR_OK && mr_history_read(&history, end.position, MR_RECORD_DEAD, letter->dead.offset,
                                      &body, &end.record) == MR_OK) {
        (void)mr_timeline_visit_kept(&timeline, &end); /* its failure sticks */
    }
    mr_buf_release(&body);
    mr_history_release(&history);
    if (r == MR_OK) {
        r = timeline.status;
    }
    for (uint32_t i = 0; i < timeline.delivery_count && r == MR_OK; i++) {
        if (timeline.deliveries[i].subscription == list->subscription->info.id) {
            mr_timeline_write_attempts(&list->out, &timeline.deliveries[i], NULL,
                                       list->subscription->name);
        }
    }
    mr_timeline_release(&timeline);
    return r;
}

static bool write_letter(void *context, const struct mr_letter *letter)
{
    struct list *list = context;
    struct mr_json_out *out = &list->out;
    struct mr_bytes none = {0};
    char text[MR_FAILURE_TEXT_SIZE];
    mr_json_out_object(out, NULL);
    mr_json_out_bytes_or_null(out, "id",
                              letter->event.size > 0 ? mr_event_id(letter->event) : none);
    mr_json_out_text(out, "subscription", list->subscription->name);
    mr_json_out_u64(out, "offset", letter->dead.offset);
    mr_json_out_u64(out, list->full ? "attempt_count" : "attempts", letter->dead.attempts);
    if (list->full) {
        list->status = write_story(list, letter);
    }
    mr_json_out_text(out, "class", mr_letter_class(letter));
    mr_json_out_u64(out, "group", mr_letter_group(letter, text));
    mr_json_out_bytes_or_null(out, "reason", letter->has_result ? letter->result.reason : none);
    mr_json_out_bytes_or_null(out, "error", letter->has_result ? letter->result.error : none);
    mr_json_out_time(out, "died", mr_letter_died_ns(letter));
    if (!list->no_events) {
        if (letter->event.size > 0) {
            mr_json_out_event(out, "event", letter->event);
        } else {
            mr_json_out_null(out, "event");
        }
    }
    mr_json_out_end(out);
    return out->status == MR_OK && list->status == MR_OK && out->buf.size < PAGE_SIZE_MAX;
}

void mr__get_dlq(struct mr_admin *admin, struct mr__call *call)
{
    struct mr__subscription subscription;
    struct mr_letter_query query;
    if (!mr__dlq_begin(admin, call, &subscription, &query)) {
        return;
    }
    struct list list = {.admin = admin,
                        .subscription = &subscription,
                        .full = mr__call_flag(call, "full"),
                        .no_events = mr__call_flag(call, "brief"),
                        .status = MR_OK};
    if (list.full && query.id == NULL) {
        mr_letter_query_release(&query);
        mr__answer_error(call, 400, "full wants id=ID: the log is read for each letter");
        return;
    }
    mr_json_out_init(&list.out, MR__ANSWER_SIZE_MAX);
    mr_json_out_object(&list.out, NULL);
    mr_json_out_array(&list.out, "dead_letters");
    uint64_t next;
    enum mr_status r = mr_letters_each(admin, subscription.info.id, &query, write_letter, &list,
                                       &next);
    mr_letter_query_release(&query);
    if (r == MR_OK) {
        r = list.status;
    }
    if (r != MR_OK) {
        mr_json_out_release(&list.out);
        mr__answer_status(call, r, NULL);
        return;
    }
    mr_json_out_end(&list.out);
    mr__dlq_write_next(&list.out, next);
    mr_json_out_end(&list.out);
    mr__answer_json(call, 200, &list.out);
}

/* --- groups ----------------------------------------------------------------------------------- */

struct group {
    uint32_t number;
    const char *class; /* static */
    char error[MR_FAILURE_TEXT_SIZE];
    uint64_t count;
    uint64_t first_ns;
    uint64_t last_ns;
    uint64_t offset; /* of the first: an example */
};

struct groups {
    struct group items[GROUPS_MAX];
    uint32_t count;
    uint16_t slots[SLOTS]; /* index + 1 of the group there; 0: empty */
    uint64_t letters;
    uint64_t other; /* letters of groups beyond GROUPS_MAX */
};

/* The group called @p number, made when it is met for the first time. NULL: no room for more. */
static struct group *take_group(struct groups *groups, uint32_t number)
{
    uint32_t slot = number & (SLOTS - 1);
    while (groups->slots[slot] != 0) {
        struct group *group = &groups->items[groups->slots[slot] - 1];
        if (group->number == number) {
            return group;
        }
        slot = (slot + 1) & (SLOTS - 1);
    }
    if (groups->count == GROUPS_MAX) {
        return NULL;
    }
    struct group *added = &groups->items[groups->count++];
    groups->slots[slot] = (uint16_t)groups->count;
    added->number = number;
    return added;
}

static bool count_letter(void *context, const struct mr_letter *letter)
{
    struct groups *groups = context;
    char text[MR_FAILURE_TEXT_SIZE];
    uint64_t died_ns = mr_letter_died_ns(letter);
    groups->letters++;
    struct group *group = take_group(groups, mr_letter_group(letter, text));
    if (group == NULL) {
        groups->other++;
        return true;
    }
    if (group->count++ == 0) {
        group->class = mr_letter_class(letter);
        memcpy(group->error, text, sizeof(text));
        group->offset = letter->dead.offset;
        group->first_ns = died_ns;
    }
    group->first_ns = died_ns < group->first_ns ? died_ns : group->first_ns;
    group->last_ns = died_ns > group->last_ns ? died_ns : group->last_ns;
    return true;
}

/* The most letters first; of the same number, the one met first. */
static int by_count(const void *a, const void *b)
{
    const struct group *x = a;
    const struct group *y = b;
    if (x->count != y->count) {
        return x->count > y->count ? -1 : 1;
    }
    return x->offset < y->offset ? -1 : 1;
}

static void answer_groups(struct mr__call *call, const char *subscription,
                          const struct groups *groups)
{
    struct mr_json_out out;
    mr_json_out_init(&out, MR__ANSWER_SIZE_MAX);
    mr_json_out_object(&out, NULL);
    mr_json_out_text(&out, "subscription", subscription);
    mr_json_out_u64(&out, "dead_letters", groups->letters);
    mr_json_out_array(&out, "groups");
    for (uint32_t i = 0; i < groups->count; i++) {
        const struct group *group = &groups->items[i];
        mr_json_out_object(&out, NULL);
        mr_json_out_text(&out, "subscription", subscription);
        mr_json_out_u64(&out, "group", group->number);
        mr_json_out_u64(&out, "count", group->count);
        mr_json_out_text(&out, "class", group->class);
        mr_json_out_text(&out, "error", group->error);
        mr_json_out_time(&out, "first_seen", group->first_ns);
        mr_json_out_time(&out, "last_seen", group->last_ns);
        mr_json_out_u64(&out, "example", group->offset);
        mr_json_out_end(&out);
    }
    mr_json_out_end(&out);
    mr_json_out_u64(&out, "other", groups->other);
    mr_json_out_end(&out);
    mr__answer_json(call, 200, &out);
}

void mr__get_dlq_groups(struct mr_admin *admin, struct mr__call *call)
{
    struct mr__subscription subscription;
    struct mr_letter_query query;
    if (!mr__dlq_begin(admin, call, &subscription, &query)) {
        return;
    }
    query.limit = UINT64_MAX;
    struct groups *groups = mr_calloc(1, sizeof(*groups));
    uint64_t next;
    enum mr_status r = groups == NULL ? MR_E_NOMEM
                                      : mr_letters_each(admin, subscription.info.id, &query,
                                                        count_letter, groups, &next);
    mr_letter_query_release(&query);
    if (r == MR_OK) {
        qsort(groups->items, groups->count, sizeof(groups->items[0]), by_count);
        answer_groups(call, subscription.name, groups);
    } else {
        mr__answer_status(call, r, NULL);
    }
    mr_free(groups);
}
