/* POST /api/v1/dlq/NAME/edit: a dead letter gives way to an edited copy of its event. The copy is
 * an event of its own that goes to the letter's subscription alone: the others had the first one.
 * What never became an event (`ingest:SOURCE`) enters as if the source had sent it.
 *
 * The letter leaves its queue once the copy is durable, so a crash in between leaves both. What
 * replaces what is in the operator's record of the log, and in the copy's causationid. */
#include <inttypes.h>
#include <stdio.h>

#include "admin/internal.h"
#include "admin/letters.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "schemas/json_format.h"

#define INGEST "ingest:"

/* The letter that is to give way. */
struct search {
    struct mr__original *original;
    uint32_t count; /* letters that fit */
};

static bool find_original(void *context, const struct mr_letter *letter)
{
    struct search *search = context;
    struct mr__original *original = search->original;
    original->offset = letter->dead.offset;
    search->count++;
    mr_buf_clear(&original->id);
    /* Without its id the copy has no lineage in itself; the operator's record has the offset. */
    (void)(letter->event.size > 0 &&
           mr_buf_append_bytes(&original->id, mr_event_id(letter->event)) == MR_OK);
    return search->count < 2;
}

/* @return false: it was answered why not */
static bool take_original(struct mr_admin *admin, struct mr__call *call,
                          struct mr__original *original)
{
    struct search search = {.original = original};
    struct mr__subscription subscription;
    struct mr_letter_query query;
    if (!mr__dlq_begin(admin, call, &subscription, &query)) {
        return false;
    }
    if (query.id == NULL) {
        mr_letter_query_release(&query);
        mr__answer_error(call, 400, "edit wants id=ID");
        return false;
    }
    uint64_t next;
    enum mr_status r = mr_letters_each(admin, subscription.info.id, &query, find_original,
                                       &search, &next);
    bool one = r == MR_OK && search.count == 1;
    if (one) {
        call->subscription = subscription.info.id;
        call->offset = original->offset;
    } else if (r != MR_OK) {
        mr__answer_status(call, r, NULL);
    } else if (search.count == 0) {
        mr__answer_error(call, 404, "%s has no dead letter %s", call->name, query.id);
    } else {
        mr__answer_error(call, 409, "%s has several dead letters %s: name one by its offset",
                         call->name, query.id);
    }
    mr_letter_query_release(&query);
    return one;
}

/* Gives *@p event the attribute instead of what it had. */
static enum mr_status set_attr(struct mr_event **event, const char *name, struct mr_bytes value,
                               struct mr_problem *problem)
{
    struct mr_event *marked;
    enum mr_status r = mr_event_with_attr(mr_event_record(*event), mr_bytes_of(name), value,
                                          &marked, problem);
    if (r == MR_OK) {
        mr_event_unref(*event);
        *event = marked;
    }
    return r;
}

enum mr_status mr__edit_copy(struct mr_bytes body, const struct mr__original *original,
                             struct mr_event **ret_event, struct mr_problem *problem)
{
    struct mr_event *event;
    enum mr_status r = mr_json_decode_event(body, MR_EVENT_SIZE_DEFAULT, &event, problem);
    if (r != MR_OK) {
        return r;
    }
    struct mr_bytes first = mr_buf_bytes(&original->id);
    if (first.size > 0) {
        r = set_attr(&event, "causationid", first, problem);
    }
    if (r == MR_OK && mr_bytes_equal(mr_event_id(mr_event_record(event)), first)) {
        struct mr_buf id;
        mr_buf_init(&id, 2 * MR_MIB);
        r = mr_buf_append_bytes(&id, first);
        if (r == MR_OK) {
            r = mr_buf_printf(&id, ".edit-%" PRIu64, original->offset);
        }
        if (r == MR_OK) {
            r = set_attr(&event, "id", mr_buf_bytes(&id), problem);
        }
        mr_buf_release(&id);
    }
    if (r != MR_OK) {
        mr_event_unref(event);
        return r;
    }
    *ret_event = event;
    return MR_OK;
}

enum mr_status mr__edit_log(struct mr_admin *admin, const struct mr__call *call,
                            const struct mr__original *original, const struct mr_event *event)
{
    struct mr_bytes id = mr_event_id(mr_event_record(event));
    char *first = mr_strndup(original->id.size == 0 ? "" : (const char *)original->id.data,
                             original->id.size);
    char *copy = mr_strndup((const char *)id.data, id.size);
    char offset[24];
    (void)snprintf(offset, sizeof(offset), "%" PRIu64, original->offset); /* 20 digits at most */
    enum mr_status r = first == NULL || copy == NULL
                           ? MR_E_NOMEM
                           : mr__log_action(admin, "edit", "subscription", call->name, "offset",
                                            offset, "id", first, "replaced_by", copy, NULL);
    mr_free(first);
    mr_free(copy);
    return r;
}

/* Comes back through mr__edit_done(). The reference of @p event moves. */
static enum mr_status submit(struct mr_admin *admin, struct mr__call *call, struct mr_event *event,
                             struct mr_problem *problem)
{
    struct mr_batch *batch = mr_batch_create(0, 1);
    if (batch == NULL) {
        mr_event_unref(event);
        return MR_E_NOMEM;
    }
    enum mr_status r = mr_batch_add(batch, event, NULL);
    if (r == MR_OK) {
        struct mr__lane_thread *lane = &admin->lanes[MR__LANE_SLOW];
        bool ingest = mr_bytes_starts(mr_bytes_of(call->name), MR_BYTES_LITERAL(INGEST));
        batch->reply = &lane->queue;
        batch->context = call;
        lane->batches++;
        r = admin->host->ops->submit(admin->host,
                                     ingest ? call->name + strlen(INGEST) : MR_SOURCE_SEND_NAME,
                                     ingest ? NULL : call->name, batch, problem);
        lane->batches -= r != MR_OK;
    }
    if (r != MR_OK) {
        mr_batch_destroy(batch);
    }
    return r;
}

void mr__post_dlq_edit(struct mr_admin *admin, struct mr__call *call)
{
    struct mr__original original = {0};
    mr_buf_init(&original.id, MR_EVENT_SIZE_MAX);
    if (!take_original(admin, call, &original)) {
        mr_buf_release(&original.id);
        return;
    }
    struct mr_problem problem = {.text = ""};
    struct mr_event *event = NULL;
    enum mr_status r = mr__edit_copy(mr_http_request_body(call->http), &original, &event, &problem);
    if (r == MR_OK) {
        MR_ASSERT(event != NULL);
        r = mr__edit_log(admin, call, &original, event);
        if (r == MR_OK) {
            r = submit(admin, call, event, &problem);
        } else {
            mr_event_unref(event);
        }
    }
    mr_buf_release(&original.id);
    if (r != MR_OK) {
        mr__answer_status(call, r, &problem);
    }
}

/* --- once the copy is durable ----------------------------------------------------------------- */

struct removal {
    const struct mr__call *call;
    enum mr_status result;
};

static void remove_letter(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)now;
    struct removal *removal = argument;
    removal->result = mr_bus_purge(bus, removal->call->subscription, removal->call->offset);
}

void mr__edit_done(struct mr_admin *admin, struct mr_batch *batch)
{
    struct mr__call *call = batch->context;
    MR_ASSERT(call != NULL);
    MR_ASSERT(batch->count == 1);
    if (batch->result != MR_OK) {
        mr__answer_status(call, batch->result, NULL);
        mr_batch_destroy(batch);
        return;
    }
    struct removal removal = {.call = call, .result = MR_OK};
    enum mr_status r = admin->host->ops->call(admin->host, remove_letter, &removal);
    struct mr_json_out out;
    mr_json_out_init(&out, MR__ANSWER_SIZE_MAX);
    mr_json_out_object(&out, NULL);
    mr_json_out_bytes(&out, "id", mr_event_id(mr_event_record(batch->items[0].event)));
    mr_json_out_u64(&out, "offset", batch->items[0].offset);
    mr_json_out_u64(&out, "replaces", call->offset);
    /* false: somebody redrove or purged the letter meanwhile */
    mr_json_out_bool(&out, "purged", r == MR_OK && removal.result == MR_OK);
    mr_json_out_end(&out);
    mr_batch_destroy(batch);
    mr__answer_json(call, 200, &out);
}
