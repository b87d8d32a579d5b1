/* POST /api/v1/events: events from the command line, on behalf of a source. One event, or a batch
 * that is taken all or nothing; the answer comes once they are durable. */
#include "admin/internal.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "schemas/json_format.h"

static struct mr_bytes trimmed(struct mr_bytes text)
{
    while (text.size > 0 && strchr(" \t\r\n", text.data[0]) != NULL) {
        text.data++;
        text.size--;
    }
    return text;
}

static enum mr_status decode(struct mr_bytes body, struct mr_event ***ret_events,
                             uint32_t *ret_count, struct mr_problem *problem)
{
    body = trimmed(body);
    if (body.size > 0 && body.data[0] == '[') {
        return mr_json_decode_batch(body, MR_EVENT_SIZE_DEFAULT, MR_BATCH_EVENTS_MAX, ret_events,
                                    ret_count, problem);
    }
    struct mr_event **events = mr_alloc(sizeof(struct mr_event *));
    if (events == NULL) {
        return MR_E_NOMEM;
    }
    enum mr_status r = mr_json_decode_event(body, MR_EVENT_SIZE_DEFAULT, &events[0], problem);
    if (r != MR_OK) {
        mr_free(events);
        return r;
    }
    *ret_events = events;
    *ret_count = 1;
    return MR_OK;
}

/* A batch of the events, whose references move, also on failure. */
static enum mr_status make_batch(struct mr_event **events, uint32_t count,
                                 struct mr_batch **ret_batch)
{
    struct mr_batch *batch = mr_batch_create(0, count);
    enum mr_status r = batch == NULL ? MR_E_NOMEM : MR_OK;
    for (uint32_t i = 0; i < count; i++) {
        if (r == MR_OK) {
            r = mr_batch_add(batch, events[i], NULL);
        } else {
            mr_event_unref(events[i]);
        }
    }
    mr_free(events);
    if (r != MR_OK) {
        mr_batch_destroy(batch);
        return r;
    }
    *ret_batch = batch;
    return MR_OK;
}

void mr__post_events(struct mr_admin *admin, struct mr__call *call)
{
    struct mr_problem problem = {.text = ""};
    struct mr_event **events = NULL;
    uint32_t count = 0;
    enum mr_status r = decode(mr_http_request_body(call->http), &events, &count, &problem);
    if (r == MR_OK && count == 0) {
        mr__answer_text(call, 200, "application/json", MR_BYTES_LITERAL("{\"events\":[]}"));
        return;
    }
    struct mr_batch *batch = NULL;
    if (r == MR_OK) {
        r = make_batch(events, count, &batch);
    }
    if (r != MR_OK) {
        mr__answer_status(call, r, &problem);
        return;
    }
    batch->reply = &admin->lanes[MR__LANE_QUICK].queue;
    batch->context = call;
    admin->lanes[MR__LANE_QUICK].batches++;
    r = admin->host->ops->submit(admin->host, mr_http_request_query(call->http, "source"), NULL,
                                 batch, &problem);
    if (r != MR_OK) {
        /* Refused before the bus had it: no such source. The batch is still ours. */
        admin->lanes[MR__LANE_QUICK].batches--;
        mr_batch_destroy(batch);
        mr__answer_status(call, r, &problem);
    }
}

void mr__events_done(struct mr_admin *admin, struct mr_batch *batch)
{
    (void)admin;
    struct mr__call *call = batch->context;
    MR_ASSERT(call != NULL);
    if (batch->result != MR_OK) {
        mr__answer_status(call, batch->result, NULL);
        mr_batch_destroy(batch);
        return;
    }
    struct mr_json_out out;
    mr_json_out_init(&out, MR__ANSWER_SIZE_MAX);
    mr_json_out_object(&out, NULL);
    mr_json_out_text(&out, "durable", mr_durability_text(batch->durable));
    mr_json_out_array(&out, "events");
    for (uint32_t i = 0; i < batch->count; i++) {
        mr_json_out_object(&out, NULL);
        mr_json_out_bytes(&out, "id", mr_event_id(mr_event_record(batch->items[i].event)));
        mr_json_out_u64(&out, "offset", batch->items[i].offset);
        if (batch->items[i].duplicate) {
            mr_json_out_bool(&out, "duplicate", true);
        }
        mr_json_out_end(&out);
    }
    mr_json_out_end(&out);
    mr_json_out_end(&out);
    mr_batch_destroy(batch);
    mr__answer_json(call, 200, &out);
}
