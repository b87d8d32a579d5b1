/* POST /api/v1/deliveries/NAME/edit: a held delivery goes on with an edited event, in its place of
 * its lane. Answered once that is durable. */
#include <time.h>

#include "admin/history.h"
#include "admin/internal.h"
#include "core/alloc.h"

#define TRIES 2500u /* for room in a group, or for its write: 5 s */
#define TRY_WAIT_NS (2 * MR_MS)

struct edit {
    uint32_t subscription;
    uint64_t offset;
    struct mr_event *event; /* NULL: only to be looked at */
    struct mr_delivery_info info;
    uint64_t event_offset;
    uint64_t sequence; /* of the group that has it */
    uint64_t durable_sequence;
    bool faulty;
    enum mr_status result;
};

static void look(void *argument, struct mr_bus *bus, struct mr_now now)
{
    struct edit *edit = argument;
    struct mr_bus_status status;
    edit->result =
        mr_bus_delivery_info(bus, now, edit->subscription, edit->offset, &edit->info);
    if (edit->result == MR_OK && edit->info.state != MR_STATE_HELD) {
        edit->result = MR_E_CONFLICT;
    }
    mr_bus_status(bus, &status);
    edit->durable_sequence = status.durable_sequence;
    edit->faulty = status.faulty;
}

static void do_edit(void *argument, struct mr_bus *bus, struct mr_now now)
{
    struct edit *edit = argument;
    struct mr_bus_status status;
    mr_bus_status(bus, &status);
    edit->sequence = status.next_sequence; /* of the group being gathered */
    edit->result = mr_bus_edit(bus, now, edit->subscription, edit->offset, edit->event,
                               &edit->event_offset);
}

static void wait_a_little(void)
{
    struct timespec wait = {.tv_nsec = (long)TRY_WAIT_NS};
    (void)nanosleep(&wait, NULL); /* an early return only means one more try */
}

/* The id of the event it has now; empty when that cannot be read. */
static enum mr_status read_id(struct mr_admin *admin, const struct edit *edit, struct mr_buf *id)
{
    struct mr_bus_status status;
    struct mr_history history;
    struct mr_record record;
    struct mr_buf body;
    enum mr_status r = mr__bus_status(admin, &status);
    r = r == MR_OK ? mr_history_open(admin->history, status.durable_position, &history, NULL)
                   : r;
    if (r != MR_OK) {
        return r;
    }
    mr_buf_init(&body, MR_SEGMENT_SIZE_MAX);
    r = mr_history_read_event(&history, edit->info.event_position, edit->subscription,
                              edit->offset, &body, &record);
    r = r == MR_OK ? mr_buf_append_bytes(id, mr_event_id(record.body)) : r;
    mr_buf_release(&body);
    mr_history_release(&history);
    return r == MR_E_NOT_FOUND ? MR_OK : r;
}

/* Does it, and waits until it is durable. */
static enum mr_status perform(struct mr_admin *admin, struct edit *edit)
{
    struct mr_admin_host *host = admin->host;
    enum mr_status r = MR_OK;
    edit->result = MR_E_AGAIN;
    for (uint32_t i = 0; r == MR_OK && edit->result == MR_E_AGAIN && i < TRIES; i++) {
        if (i > 0) {
            wait_a_little();
        }
        r = host->ops->call(host, do_edit, edit);
    }
    if (r != MR_OK || edit->result != MR_OK) {
        return r;
    }
    struct edit later = *edit;
    for (uint32_t i = 0; r == MR_OK && i < TRIES; i++) {
        r = host->ops->call(host, look, &later);
        if (later.durable_sequence >= edit->sequence) {
            return r;
        }
        if (later.faulty) {
            edit->result = MR_E_FAULTY;
            return r;
        }
        wait_a_little();
    }
    edit->result = MR_E_AGAIN; /* the disk takes its time; it may happen yet */
    return r;
}

static void answer(struct mr__call *call, const struct edit *edit,
                   const struct mr_problem *problem)
{
    unsigned long long offset = edit->offset;
    if (edit->result == MR_E_NOT_FOUND) {
        mr__answer_error(call, 404, "%s:%llu is settled, or not in the window yet", call->name,
                         offset);
        return;
    }
    if (edit->result == MR_E_CONFLICT) {
        mr__answer_error(call, 409, "%s:%llu is not held", call->name, offset);
        return;
    }
    if (edit->result != MR_OK) {
        mr__answer_status(call, edit->result, problem);
        return;
    }
    struct mr_json_out out;
    mr_json_out_init(&out, MR__ANSWER_SIZE_MAX);
    mr_json_out_object(&out, NULL);
    mr_json_out_text(&out, "subscription", call->name);
    mr_json_out_u64(&out, "offset", edit->offset);
    mr_json_out_text(&out, "action", "edited");
    mr_json_out_bytes(&out, "id", mr_event_id(mr_event_record(edit->event)));
    mr_json_out_u64(&out, "event_offset", edit->event_offset);
    mr_json_out_end(&out);
    mr__answer_json(call, 200, &out);
}

/* @return false: it was answered why not */
static bool read_arguments(struct mr_admin *admin, struct mr__call *call, struct edit *edit)
{
    struct mr__subscription subscription;
    const char *text = mr_http_request_query(call->http, "offset");
    if (text == NULL || !mr_parse_u64(mr_bytes_of(text), &edit->offset)) {
        mr__answer_error(call, 400, "wants the offset of a delivery: ?offset=N");
        return false;
    }
    enum mr_status r = mr__find_subscription(admin, call->name, &subscription);
    if (r == MR_OK) {
        edit->subscription = subscription.info.id;
    } else if (r == MR_E_NOT_FOUND) {
        mr__answer_error(call, 404, "no subscription is called %s", call->name);
    } else {
        mr__answer_status(call, r, NULL);
    }
    return r == MR_OK;
}

void mr__post_delivery_edit(struct mr_admin *admin, struct mr__call *call)
{
    struct edit edit = {.result = MR_OK};
    if (!read_arguments(admin, call, &edit) || !mr__ask(admin, call, look, &edit)) {
        return;
    }
    struct mr__original original = {.offset = edit.offset};
    struct mr_problem problem = {.text = ""};
    mr_buf_init(&original.id, MR_EVENT_SIZE_MAX);
    enum mr_status r = edit.result == MR_OK ? read_id(admin, &edit, &original.id) : MR_OK;
    if (r == MR_OK && edit.result == MR_OK) {
        r = mr__edit_copy(mr_http_request_body(call->http), &original, &edit.event, &problem);
        r = r == MR_OK ? mr__edit_log(admin, call, &original, edit.event) : r;
        r = r == MR_OK ? perform(admin, &edit) : r;
    }
    mr_buf_release(&original.id);
    edit.result = r == MR_OK ? edit.result : r;
    answer(call, &edit, &problem);
    mr_event_unref(edit.event);
}
