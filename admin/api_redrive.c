/* Redrive, purge, and how the redriven ended. Each call handles one page; whoever asks goes on
 * behind `next`, at the rate it likes, so that no call takes long and nothing is remembered here
 * between two of them. */
#include <cjson/cJSON.h>
#include <stdlib.h>

#include "admin/internal.h"
#include "admin/letters.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/logger.h"

#define OFFSETS_MAX 1000

/* --- redrive and purge ------------------------------------------------------------------------ */

/* What was picked, and what became of each. */
struct picked {
    uint64_t offset;
    char *id; /* owned; may be NULL */
    enum mr_status result;
    uint64_t later; /* redrive: later events of its lane that were handled */
};

struct operation {
    uint32_t subscription;
    bool purge;
    bool out_of_order;
    struct picked *items; /* owned */
    uint32_t count;
    uint32_t capacity;
};

static bool pick(void *context, const struct mr_letter *letter)
{
    struct operation *operation = context;
    MR_ASSERT(operation->count < operation->capacity);
    struct mr_bytes id =
        letter->event.size > 0 ? mr_event_id(letter->event) : MR_BYTES_LITERAL("");
    operation->items[operation->count++] =
        (struct picked){.offset = letter->dead.offset,
                        .id = mr_strndup((const char *)id.data, id.size),
                        .result = MR_OK};
    return operation->count < operation->capacity;
}

static void operate(void *argument, struct mr_bus *bus, struct mr_now now)
{
    struct operation *operation = argument;
    for (uint32_t i = 0; i < operation->count; i++) {
        struct picked *item = &operation->items[i];
        item->result = operation->purge
                           ? mr_bus_purge(bus, operation->subscription, item->offset)
                           : mr_bus_redrive(bus, now, operation->subscription, item->offset,
                                            operation->out_of_order, &item->later);
    }
}

static void write_refusal(struct mr_json_out *out, const struct picked *item)
{
    if (item->result == MR_E_CONFLICT) {
        mr_json_out_text(out, "reason",
                         "later events of its lane were handled already; out_of_order redrives it "
                         "all the same");
        mr_json_out_u64(out, "later", item->later);
    } else if (item->result == MR_E_UNSUPPORTED) {
        mr_json_out_text(out, "reason", "it never became an event, so there is nothing to redrive");
    } else {
        mr_json_out_text(out, "reason", mr_status_text(item->result));
    }
}

static void write_picked(struct mr_json_out *out, const struct operation *operation, bool refused)
{
    for (uint32_t i = 0; i < operation->count; i++) {
        const struct picked *item = &operation->items[i];
        if ((item->result != MR_OK) != refused) {
            continue;
        }
        mr_json_out_object(out, NULL);
        mr_json_out_text(out, "id", item->id);
        mr_json_out_u64(out, "offset", item->offset);
        if (refused) {
            write_refusal(out, item);
        }
        mr_json_out_end(out);
    }
}

static void release_operation(struct operation *operation)
{
    for (uint32_t i = 0; i < operation->count; i++) {
        mr_free(operation->items[i].id);
    }
    mr_free(operation->items);
}

static void answer_operation(struct mr__call *call, struct operation *operation, bool dry_run,
                             uint64_t next, uint64_t position)
{
    struct mr_json_out out;
    mr_json_out_init(&out, MR__ANSWER_SIZE_MAX);
    mr_json_out_object(&out, NULL);
    mr_json_out_bool(&out, "dry_run", dry_run);
    mr_json_out_array(&out, operation->purge ? "purged" : "redriven");
    write_picked(&out, operation, false);
    mr_json_out_end(&out);
    mr_json_out_array(&out, "refused");
    write_picked(&out, operation, true);
    mr_json_out_end(&out);
    mr__dlq_write_next(&out, next);
    mr_json_out_u64(&out, "position", position);
    mr_json_out_end(&out);
    mr__answer_json(call, 200, &out);
}

static void run_operation(struct mr_admin *admin, struct mr__call *call, bool purge)
{
    struct mr__subscription subscription;
    struct mr_letter_query query;
    if (!mr__dlq_begin(admin, call, &subscription, &query)) {
        return;
    }
    struct operation operation = {.subscription = subscription.info.id,
                                  .purge = purge,
                                  .out_of_order = mr__call_flag(call, "out_of_order"),
                                  .capacity = (uint32_t)query.limit};
    operation.items = mr_calloc(operation.capacity, sizeof(*operation.items));
    bool dry_run = mr__call_flag(call, "dry_run");
    uint64_t next = UINT64_MAX;
    uint64_t position = 0;
    enum mr_status r = operation.items == NULL
                           ? MR_E_NOMEM
                           : mr_letters_each(admin, subscription.info.id, &query, pick, &operation,
                                             &next);
    struct mr_bus_status status;
    if (r == MR_OK) {
        r = mr__bus_status(admin, &status);
    }
    if (r == MR_OK) {
        position = status.durable_position; /* behind the ends that are read already */
    }
    if (r == MR_OK && !dry_run && operation.count > 0) {
        const struct mr_http_request *http = call->http;
        r = mr__log_action(admin, purge ? "purge" : "redrive", "subscription", subscription.name,
                           "id", query.id, "error", query.error, "class", query.class, "group",
                           mr_http_request_query(http, "group"), "filter",
                           mr_http_request_query(http, "filter"), "attempts",
                           mr_http_request_query(http, "attempts"), "since",
                           mr_http_request_query(http, "since"), "until",
                           mr_http_request_query(http, "until"), "out_of_order",
                           operation.out_of_order ? "true" : NULL, NULL);
        if (r == MR_OK) {
            r = admin->host->ops->call(admin->host, operate, &operation);
        }
    }
    mr_letter_query_release(&query);
    if (r != MR_OK) {
        mr__answer_status(call, r, NULL);
    } else {
        answer_operation(call, &operation, dry_run, next, position);
    }
    release_operation(&operation);
}

void mr__post_dlq_redrive(struct mr_admin *admin, struct mr__call *call)
{
    run_operation(admin, call, false);
}

void mr__post_dlq_purge(struct mr_admin *admin, struct mr__call *call)
{
    run_operation(admin, call, true);
}

/* --- how deliveries stand --------------------------------------------------------------------- */

struct standing {
    uint64_t offset;
    enum mr_state state; /* NONE: not known (any more) */
    bool live;
    uint32_t attempts;
    char error[MR_ERROR_TEXT_MAX];
};

struct standings {
    uint32_t subscription;
    uint64_t position; /* records before it are old stories */
    struct standing *items; /* owned */
    uint32_t count;
    bool all_live;
    uint64_t read_position; /* what is not settled in the answer ends behind it */
};

static int by_offset(const void *a, const void *b)
{
    const struct standing *x = a;
    const struct standing *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static void ask_standings(void *argument, struct mr_bus *bus, struct mr_now now)
{
    struct standings *standings = argument;
    standings->all_live = true;
    for (uint32_t i = 0; i < standings->count; i++) {
        struct standing *standing = &standings->items[i];
        struct mr_delivery_info info;
        standing->live = mr_bus_delivery_info(bus, now, standings->subscription, standing->offset,
                                              &info) == MR_OK;
        standing->state = standing->live ? info.state : MR_STATE_NONE;
        standing->attempts = standing->live ? info.attempts : 0;
        standings->all_live = standings->all_live && standing->live;
    }
}

static bool see_end(void *context, const struct mr_history_record *seen)
{
    struct standings *standings = context;
    const struct mr_record *record = &seen->record;
    bool is_end = record->kind == MR_RECORD_SETTLE || record->kind == MR_RECORD_DEAD;
    if (!is_end || record->a != standings->subscription || seen->position < standings->position) {
        return true;
    }
    struct standing wanted = {.offset = record->offset};
    struct standing *standing = bsearch(&wanted, standings->items, standings->count,
                                        sizeof(wanted), by_offset);
    struct mr_result result;
    size_t size;
    if (standing != NULL && !standing->live &&
        mr_result_decode(record->body, &result, &size) == MR_OK) {
        standing->state = (enum mr_state)record->extra;
        standing->attempts = result.attempts;
        mr_text_clean(standing->error, sizeof(standing->error), result.error);
    }
    return true;
}

static enum mr_status parse_standings(struct mr_bytes body, struct standings *standings)
{
    cJSON *json = cJSON_ParseWithLength((const char *)body.data, body.size);
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(json, "offsets");
    const cJSON *position = cJSON_GetObjectItemCaseSensitive(json, "position");
    int count = cJSON_IsArray(offsets) ? cJSON_GetArraySize(offsets) : -1;
    enum mr_status r = count < 1 || count > OFFSETS_MAX ? MR_E_INVALID : MR_OK;
    if (r == MR_OK) {
        standings->items = mr_calloc((size_t)count, sizeof(*standings->items));
        r = standings->items == NULL ? MR_E_NOMEM : MR_OK;
    }
    if (cJSON_IsNumber(position) && position->valuedouble >= 0) {
        standings->position = (uint64_t)position->valuedouble;
    }
    for (const cJSON *item = r == MR_OK ? offsets->child : NULL; item != NULL; item = item->next) {
        if (!cJSON_IsNumber(item) || item->valuedouble < 1 || item->valuedouble > 9e15) {
            r = MR_E_INVALID;
            break;
        }
        standings->items[standings->count++].offset = (uint64_t)item->valuedouble;
    }
    if (r == MR_OK) {
        qsort(standings->items, standings->count, sizeof(standings->items[0]), by_offset);
    }
    cJSON_Delete(json);
    return r;
}

static void answer_standings(struct mr__call *call, const struct standings *standings)
{
    struct mr_json_out out;
    mr_json_out_init(&out, MR__ANSWER_SIZE_MAX);
    mr_json_out_object(&out, NULL);
    mr_json_out_array(&out, "deliveries");
    for (uint32_t i = 0; i < standings->count; i++) {
        const struct standing *standing = &standings->items[i];
        bool known = standing->state != MR_STATE_NONE;
        mr_json_out_object(&out, NULL);
        mr_json_out_u64(&out, "offset", standing->offset);
        mr_json_out_text(&out, "state", known ? mr_state_text(standing->state) : NULL);
        mr_json_out_bool(&out, "settled", known && !standing->live);
        mr_json_out_u64(&out, "attempts", standing->attempts);
        mr_json_out_bytes_or_null(&out, "error", mr_bytes_of(standing->error));
        mr_json_out_end(&out);
    }
    mr_json_out_end(&out);
    mr_json_out_u64(&out, "position", standings->read_position);
    mr_json_out_end(&out);
    mr__answer_json(call, 200, &out);
}

/* Asks the bus, then reads the ends of those that it does not know any more. */
static enum mr_status find_standings(struct mr_admin *admin, struct standings *standings)
{
    struct mr_bus_status status;
    struct mr_history history;
    enum mr_status r = mr__bus_status(admin, &status);
    if (r == MR_OK) {
        /* Before the question: what lives then cannot have ended before this position. */
        standings->read_position = status.durable_position;
        r = admin->host->ops->call(admin->host, ask_standings, standings);
    }
    if (r != MR_OK || standings->all_live) {
        return r;
    }
    r = mr__bus_status(admin, &status);
    if (r == MR_OK) {
        r = mr_history_open(admin->history, status.durable_position, &history, NULL);
    }
    if (r == MR_OK) {
        r = mr_history_scan(&history, mr_position_segment(standings->position), false, see_end,
                            standings);
        mr_history_release(&history);
    }
    return r;
}

void mr__post_deliveries(struct mr_admin *admin, struct mr__call *call)
{
    struct mr__subscription subscription;
    struct standings standings = {0};
    enum mr_status r = mr__find_subscription(admin, call->name, &subscription);
    if (r == MR_E_NOT_FOUND) {
        mr__answer_error(call, 404, "no subscription is called %s", call->name);
        return;
    }
    if (r == MR_OK) {
        r = parse_standings(mr_http_request_body(call->http), &standings);
        if (r == MR_E_INVALID) {
            mr_free(standings.items);
            mr__answer_error(call, 400,
                             "wants {\"offsets\":[…],\"position\":…} with 1 to %d offsets",
                             OFFSETS_MAX);
            return;
        }
    }
    standings.subscription = subscription.info.id;
    if (r == MR_OK) {
        r = find_standings(admin, &standings);
    }
    if (r == MR_OK) {
        answer_standings(call, &standings);
    } else {
        mr__answer_status(call, r, NULL);
    }
    mr_free(standings.items);
}
