#include "admin/timeline.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/alloc.h"

#define CHILDREN_SIZE_MAX (1u * MR_MIB)
#define ACTION_SIZE_MAX (64u * MR_KIB)
#define NOTE_HEADER_SIZE 20u /* of an earlier attempt in a DEAD record: fence, began, ended */
#define REASON_SIZE_MAX 4096u

void mr_timeline_init(struct mr_timeline *timeline, uint64_t offset)
{
    *timeline = (struct mr_timeline){.offset = offset, .status = MR_OK};
    mr_buf_init(&timeline->action, ACTION_SIZE_MAX);
    mr_buf_init(&timeline->edit, ACTION_SIZE_MAX);
    mr_buf_init(&timeline->children, CHILDREN_SIZE_MAX);
}

void mr_timeline_release(struct mr_timeline *timeline)
{
    for (uint32_t i = 0; i < timeline->delivery_count; i++) {
        struct mr_timeline_delivery *delivery = &timeline->deliveries[i];
        for (uint32_t j = 0; j < delivery->attempt_count; j++) {
            mr_free(delivery->attempts[j].body);
        }
        uint32_t kept = delivery->redrives < MR_TIMELINE_REDRIVES_MAX ? delivery->redrives
                                                                      : MR_TIMELINE_REDRIVES_MAX;
        for (uint32_t j = 0; delivery->redriven != NULL && j < kept; j++) {
            mr_free(delivery->redriven[j].action);
        }
        mr_free(delivery->redriven);
        mr_free(delivery->edited);
        mr_free(delivery->result);
        mr_free(delivery->attempts);
        mr_buf_release(&delivery->reason);
        mr_buf_release(&delivery->children);
    }
    mr_free(timeline->deliveries);
    mr_buf_release(&timeline->action);
    mr_buf_release(&timeline->edit);
    mr_buf_release(&timeline->children);
    *timeline = (struct mr_timeline){.offset = timeline->offset};
}

static struct mr_timeline_delivery *find_delivery(struct mr_timeline *timeline, uint32_t id)
{
    for (uint32_t i = 0; i < timeline->delivery_count; i++) {
        if (timeline->deliveries[i].subscription == id) {
            return &timeline->deliveries[i];
        }
    }
    return NULL;
}

/* The delivery, made when it is met for the first time. NULL: memory is short. */
static struct mr_timeline_delivery *take_delivery(struct mr_timeline *timeline, uint32_t id)
{
    struct mr_timeline_delivery *found = find_delivery(timeline, id);
    if (found != NULL) {
        return found;
    }
    struct mr_timeline_delivery *grown = mr_realloc(
        timeline->deliveries, (timeline->delivery_count + 1) * sizeof(*timeline->deliveries));
    if (grown == NULL) {
        timeline->status = MR_E_NOMEM;
        return NULL;
    }
    timeline->deliveries = grown;
    struct mr_timeline_delivery *added = &grown[timeline->delivery_count++];
    *added = (struct mr_timeline_delivery){.subscription = id};
    mr_buf_init(&added->reason, REASON_SIZE_MAX);
    mr_buf_init(&added->children, CHILDREN_SIZE_MAX);
    return added;
}

static struct mr_timeline_attempt *take_attempt(struct mr_timeline *timeline,
                                                struct mr_timeline_delivery *delivery,
                                                uint32_t fence)
{
    for (uint32_t i = delivery->attempt_count; i-- > 0;) {
        if (delivery->attempts[i].fence == fence) {
            return &delivery->attempts[i];
        }
    }
    if (timeline->attempt_count >= MR_TIMELINE_ATTEMPTS_MAX) {
        timeline->truncated = true;
        return NULL;
    }
    struct mr_timeline_attempt *grown = mr_realloc(
        delivery->attempts, (delivery->attempt_count + 1) * sizeof(*delivery->attempts));
    if (grown == NULL) {
        timeline->status = MR_E_NOMEM;
        return NULL;
    }
    delivery->attempts = grown;
    timeline->attempt_count++;
    struct mr_timeline_attempt *added = &grown[delivery->attempt_count++];
    *added = (struct mr_timeline_attempt){.fence = fence};
    return added;
}

static void begin_attempt(struct mr_timeline *timeline, uint32_t subscription, uint32_t fence,
                          uint32_t n, uint64_t logged_wall_ns)
{
    struct mr_timeline_delivery *delivery = take_delivery(timeline, subscription);
    struct mr_timeline_attempt *attempt =
        delivery == NULL ? NULL : take_attempt(timeline, delivery, fence);
    if (attempt != NULL && !attempt->answered) {
        attempt->n = n;
        attempt->started_wall_ns = logged_wall_ns;
    }
}

static void take_match(struct mr_timeline *timeline, const struct mr_history_record *seen)
{
    timeline->matched = true;
    timeline->config_hash = seen->record.c;
    struct mr_bytes body = seen->record.body;
    for (size_t at = 0; at + MR_MATCH_ENTRY_SIZE <= body.size; at += MR_MATCH_ENTRY_SIZE) {
        uint32_t id = mr_get_u32(body.data + at);
        if ((mr_get_u32(body.data + at + 4) & MR_MATCH_BEGUN) != 0) {
            begin_attempt(timeline, id, 1, 1, seen->wall_ns);
        } else {
            (void)take_delivery(timeline, id); /* its failure sticks */
        }
    }
}

/* What a hand-out was answered: @p body begins with the result. */
struct answer {
    uint32_t fence;
    uint64_t started_wall_ns;
    uint64_t ended_wall_ns;
    struct mr_bytes body;
    struct mr_result result; /* decoded */
    bool late;
};

static void add_answer(struct mr_timeline *timeline, struct mr_timeline_delivery *delivery,
                       const struct answer *answer)
{
    /* Ends without a hand-out (expired, removed) have no attempt of their own. */
    if (answer->fence == 0 || answer->result.verdict == MR_VERDICT_NONE) {
        return;
    }
    struct mr_timeline_attempt *attempt = take_attempt(timeline, delivery, answer->fence);
    if (attempt == NULL || (answer->late && attempt->answered)) {
        return;
    }
    uint8_t *body = mr_alloc(answer->body.size);
    if (body == NULL) {
        timeline->status = MR_E_NOMEM;
        return;
    }
    memcpy(body, answer->body.data, answer->body.size);
    mr_free(attempt->body);
    attempt->body = body;
    attempt->body_size = answer->body.size;
    attempt->answered = true;
    attempt->late = answer->late;
    attempt->counted = !answer->late && answer->result.attempts > delivery->attempts_counted;
    if (!answer->late) {
        delivery->attempts_counted = answer->result.attempts;
        delivery->refusals = answer->result.refusals;
        delivery->interruptions = answer->result.interruptions;
    }
    if (attempt->counted) {
        attempt->n = answer->result.attempts;
    }
    if (answer->started_wall_ns != 0) {
        attempt->started_wall_ns = answer->started_wall_ns;
    }
    attempt->ended_wall_ns = answer->ended_wall_ns;
}

static bool is_answered(const struct mr_timeline_delivery *delivery, uint32_t fence)
{
    for (uint32_t i = delivery->attempt_count; i-- > 0;) {
        if (delivery->attempts[i].fence == fence) {
            return delivery->attempts[i].answered;
        }
    }
    return false;
}

/* The attempts before the last stand in a DEAD record once more: those whose own records went with
 * their segment are taken from there. */
static void take_notes(struct mr_timeline *timeline, struct mr_timeline_delivery *delivery,
                       struct mr_bytes notes)
{
    for (size_t at = 0; at + 4 <= notes.size;) {
        const uint8_t *note = notes.data + at + 4;
        size_t size = mr_get_u32(notes.data + at);
        if (size < NOTE_HEADER_SIZE || size > notes.size - at - 4) {
            return;
        }
        struct answer answer = {.fence = mr_get_u32(note),
                                .started_wall_ns = mr_get_u64(note + 4),
                                .ended_wall_ns = mr_get_u64(note + 12),
                                .body = mr_bytes(note + NOTE_HEADER_SIZE,
                                                 size - NOTE_HEADER_SIZE)};
        size_t result_size;
        if (!is_answered(delivery, answer.fence) &&
            mr_result_decode(answer.body, &answer.result, &result_size) == MR_OK) {
            add_answer(timeline, delivery, &answer);
        }
        at += 4 + size;
    }
}

static void take_answer(struct mr_timeline *timeline, const struct mr_record *record)
{
    struct mr_timeline_delivery *delivery = take_delivery(timeline, record->a);
    struct answer answer = {.fence = record->b,
                            .started_wall_ns = record->c,
                            .ended_wall_ns = record->d,
                            .late = record->kind == MR_RECORD_LATE};
    size_t size;
    if (delivery == NULL || mr_result_decode(record->body, &answer.result, &size) != MR_OK) {
        return;
    }
    answer.body = mr_bytes(record->body.data, size);
    if (record->kind == MR_RECORD_DEAD) {
        take_notes(timeline, delivery,
                   mr_bytes(record->body.data + size, record->body.size - size));
    }
    if (!answer.late) {
        delivery->state = record->kind == MR_RECORD_RETRY
                              ? (record->extra == MR_STATE_HELD ? MR_STATE_HELD : MR_STATE_NONE)
                              : (enum mr_state)record->extra;
        delivery->due_log_ns = answer.result.due_ns;
        mr_buf_clear(&delivery->reason);
        if (mr_buf_append_bytes(&delivery->reason, answer.result.reason) != MR_OK) {
            mr_buf_clear(&delivery->reason); /* memory short: told without its reason */
        }
    }
    add_answer(timeline, delivery, &answer);
}

/* What the handler answered; only what ends done has it, and so at most once. */
static void take_result(struct mr_timeline *timeline, const struct mr_record *record)
{
    struct mr_timeline_delivery *delivery = take_delivery(timeline, record->a);
    if (delivery == NULL || delivery->result_size > 0) {
        return;
    }
    delivery->result_size = record->body.size;
    if (record->body.size > MR_TIMELINE_RESULTS_SIZE_MAX - timeline->results_size) {
        return;
    }
    delivery->result = mr_strndup((const char *)record->body.data, record->body.size);
    if (delivery->result == NULL) {
        timeline->status = MR_E_NOMEM;
        return;
    }
    timeline->results_size += record->body.size;
}

static void keep_action(struct mr_buf *to, struct mr_bytes json)
{
    mr_buf_clear(to);
    if (mr_buf_append_bytes(to, json) != MR_OK) {
        mr_buf_clear(to); /* longer than any of ours: without it */
    }
}

/* Whether the JSON object @p json has the text @p value as its member @p name. */
static bool has_text(struct mr_bytes json, const char *name, const char *value)
{
    cJSON *object = cJSON_ParseWithLength((const char *)json.data, json.size);
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);
    bool same = cJSON_IsString(member) && strcmp(member->valuestring, value) == 0;
    cJSON_Delete(object);
    return same;
}

/* An operator's record: kept when it may be the cause of a redrive or a purge that follows. */
static void take_action(struct mr_timeline *timeline, struct mr_bytes json)
{
    if (mr_bytes_starts(json, MR_BYTES_LITERAL("{\"action\":\"redrive\""))) {
        keep_action(&timeline->action, json);
    }
    if (mr_bytes_starts(json, MR_BYTES_LITERAL("{\"action\":\"purge\""))) {
        mr_buf_clear(&timeline->edit); /* that edit came to nothing, if there was one */
    }
    char offset[24];
    (void)snprintf(offset, sizeof(offset), "%" PRIu64, timeline->offset); /* 20 digits at most */
    if (mr_bytes_starts(json, MR_BYTES_LITERAL("{\"action\":\"edit\"")) &&
        has_text(json, "offset", offset)) {
        keep_action(&timeline->edit, json);
    }
}

static void take_redrive(struct mr_timeline *timeline, uint32_t subscription, uint64_t wall_ns)
{
    struct mr_timeline_delivery *delivery = take_delivery(timeline, subscription);
    if (delivery == NULL) {
        return;
    }
    delivery->state = MR_STATE_NONE;
    delivery->attempts_counted = 0;
    if (delivery->redrives < MR_TIMELINE_REDRIVES_MAX) {
        struct mr_timeline_redrive *grown = mr_realloc(
            delivery->redriven, (delivery->redrives + 1) * sizeof(*delivery->redriven));
        if (grown == NULL) {
            timeline->status = MR_E_NOMEM;
            return;
        }
        delivery->redriven = grown;
        const struct mr_buf *action = &timeline->action;
        grown[delivery->redrives] = (struct mr_timeline_redrive){
            .wall_ns = wall_ns,
            .action = action->size == 0 ? NULL
                                        : mr_strndup((const char *)action->data, action->size)};
    }
    delivery->redrives++;
}

static void take_replacement(const struct mr_timeline *timeline,
                             struct mr_timeline_delivery *delivery)
{
    const struct mr_buf *edit = &timeline->edit;
    if (edit->size > 0) {
        mr_free(delivery->edited);
        delivery->edited = mr_strndup((const char *)edit->data, edit->size);
    }
}

static void take_purge(struct mr_timeline *timeline, uint32_t subscription, uint64_t wall_ns)
{
    struct mr_timeline_delivery *delivery = take_delivery(timeline, subscription);
    if (delivery == NULL) {
        return;
    }
    delivery->purged = true;
    delivery->purged_wall_ns = wall_ns;
    take_replacement(timeline, delivery);
}

/* A held one went on with another event. */
static void take_edit(struct mr_timeline *timeline, const struct mr_record *record,
                      uint64_t wall_ns)
{
    struct mr_timeline_delivery *delivery = take_delivery(timeline, record->a);
    if (delivery == NULL) {
        return;
    }
    if (timeline->child_offset == record->c) {
        delivery->children.size = timeline->child_at; /* nothing that it emitted */
    }
    delivery->state = MR_STATE_NONE;
    delivery->attempts_counted = 0;
    delivery->edited_wall_ns = wall_ns;
    take_replacement(timeline, delivery);
}

static void take_child(struct mr_timeline *timeline, const struct mr_record *record)
{
    struct mr_timeline_delivery *parent = find_delivery(timeline, record->b);
    struct mr_bytes id = mr_event_id(record->body);
    struct mr_buf *children = parent != NULL          ? &parent->children
                              : record->b == UINT32_MAX ? &timeline->children
                                                      : NULL;
    if (children == NULL) {
        return;
    }
    size_t before = children->size;
    timeline->child_offset = record->offset;
    timeline->child_at = before;
    if (mr_buf_append_bytes(children, id) != MR_OK || mr_buf_append_byte(children, 0) != MR_OK) {
        children->size = before; /* more than fit are not listed */
    }
}

/* A process began: whatever was under way before will never be answered. */
static void interrupt_all(struct mr_timeline *timeline)
{
    for (uint32_t i = 0; i < timeline->delivery_count; i++) {
        const struct mr_timeline_delivery *delivery = &timeline->deliveries[i];
        if (delivery->attempt_count > 0 && delivery->state == MR_STATE_NONE) {
            delivery->attempts[delivery->attempt_count - 1].interrupted = true;
        }
    }
}

bool mr_timeline_visit(void *context, const struct mr_history_record *seen)
{
    struct mr_timeline *timeline = context;
    const struct mr_record *record = &seen->record;
    if (record->kind == MR_RECORD_EVENT && record->d == timeline->offset && record->d != 0) {
        take_child(timeline, record);
    }
    if (record->kind == MR_RECORD_START) {
        interrupt_all(timeline);
    }
    if (record->kind == MR_RECORD_OPERATOR) {
        take_action(timeline, record->body);
    }
    if (record->kind == MR_RECORD_EDIT && record->c == timeline->offset) {
        timeline->replaces = true;
        timeline->replaces_subscription = record->a;
        timeline->replaces_offset = record->offset;
    }
    if (record->offset != timeline->offset) {
        return true;
    }
    switch (record->kind) {
    case MR_RECORD_MATCH:
        take_match(timeline, seen);
        break;
    case MR_RECORD_ATTEMPT:
        begin_attempt(timeline, record->a, record->b, record->extra, seen->wall_ns);
        break;
    case MR_RECORD_SETTLE:
    case MR_RECORD_RETRY:
    case MR_RECORD_DEAD:
    case MR_RECORD_LATE:
        take_answer(timeline, record);
        break;
    case MR_RECORD_RESULT:
        take_result(timeline, record);
        break;
    case MR_RECORD_REDRIVE:
        take_redrive(timeline, record->a, seen->wall_ns);
        break;
    case MR_RECORD_EDIT:
        take_edit(timeline, record, seen->wall_ns);
        break;
    case MR_RECORD_PURGE:
        take_purge(timeline, record->a, seen->wall_ns);
        break;
    default:
        break;
    }
    return timeline->status == MR_OK;
}

bool mr_timeline_visit_kept(void *context, const struct mr_history_record *seen)
{
    struct mr_timeline *timeline = context;
    if (seen->record.kind != MR_RECORD_DEAD || seen->record.offset != timeline->offset) {
        return true;
    }
    const struct mr_timeline_delivery *delivery = find_delivery(timeline, seen->record.a);
    bool known = delivery != NULL &&
                 (delivery->attempt_count > 0 || delivery->state != MR_STATE_NONE);
    return known ? true : mr_timeline_visit(timeline, seen);
}

/* --- writing ---------------------------------------------------------------------------------- */

void mr_timeline_write_children(struct mr_json_out *out, const struct mr_buf *children)
{
    mr_json_out_array(out, "children");
    for (size_t at = 0; at < children->size;) {
        size_t size = strlen((const char *)children->data + at);
        mr_json_out_bytes(out, NULL, mr_bytes(children->data + at, size));
        at += size + 1;
    }
    mr_json_out_end(out);
}

void mr_timeline_write_attempt(struct mr_json_out *out, uint32_t n, uint64_t started_wall_ns,
                               uint64_t ended_wall_ns, const struct mr_result *result)
{
    mr_json_out_object(out, NULL);
    mr_json_out_u64(out, "n", n);
    mr_json_out_time(out, "started", started_wall_ns);
    mr_json_out_time(out, "ended", ended_wall_ns);
    if (result == NULL) {
        static const char *const unknown[] = {"instance", "version", "policy", "verdict",
                                              "error",    "exit",    "signal", "stderr"};
        for (size_t i = 0; i < MR_ARRAY_COUNT(unknown); i++) {
            mr_json_out_null(out, unknown[i]);
        }
        mr_json_out_end(out);
        return;
    }
    mr_json_out_bytes_or_null(out, "instance", result->instance);
    mr_json_out_bytes_or_null(out, "version", result->version);
    char policy[20];
    (void)snprintf(policy, sizeof(policy), "%016" PRIx64, result->policy); /* 16 digits */
    mr_json_out_text(out, "policy", policy);
    mr_json_out_text(out, "verdict", mr_verdict_text((enum mr_verdict)result->verdict));
    mr_json_out_bytes_or_null(out, "error", result->error);
    if (result->exit_code >= 0 && result->exit_signal == 0) {
        mr_json_out_i64(out, "exit", result->exit_code);
    } else {
        mr_json_out_null(out, "exit");
    }
    if (result->exit_signal != 0) {
        mr_json_out_i64(out, "signal", result->exit_signal);
    } else {
        mr_json_out_null(out, "signal");
    }
    mr_json_out_bytes_or_null(out, "stderr", result->stderr_tail);
    mr_json_out_end(out);
}

static void write_answered(struct mr_json_out *out, const struct mr_timeline_attempt *attempt)
{
    struct mr_result result;
    size_t size;
    if (mr_result_decode(mr_bytes(attempt->body, attempt->body_size), &result, &size) == MR_OK) {
        mr_timeline_write_attempt(out, attempt->n, attempt->started_wall_ns,
                                  attempt->ended_wall_ns, &result);
    }
}

/* When it was put back, and by what an operator asked for, where that names the subscription. */
static void write_redrives(struct mr_json_out *out, const struct mr_timeline_delivery *delivery,
                           const char *subscription)
{
    mr_json_out_u64(out, "redrives", delivery->redrives);
    if (delivery->redrives == 0) {
        return;
    }
    mr_json_out_array(out, "redriven");
    for (uint32_t i = 0; i < delivery->redrives && i < MR_TIMELINE_REDRIVES_MAX; i++) {
        const struct mr_timeline_redrive *redrive = &delivery->redriven[i];
        mr_json_out_object(out, NULL);
        mr_json_out_time(out, "at", redrive->wall_ns);
        struct mr_bytes action = mr_bytes_of(redrive->action);
        if (subscription != NULL && has_text(action, "subscription", subscription)) {
            mr_json_out_raw(out, "by", action);
        }
        mr_json_out_end(out);
    }
    mr_json_out_end(out);
}

/* What became of its event, or of itself, by an operator. */
static void write_fate(struct mr_json_out *out, const struct mr_timeline_delivery *delivery,
                       const char *subscription)
{
    if (delivery->purged) {
        mr_json_out_bool(out, "purged", true);
        mr_json_out_time(out, "purged_at", delivery->purged_wall_ns);
    }
    if (delivery->edited_wall_ns != 0) {
        mr_json_out_time(out, "edited_at", delivery->edited_wall_ns);
    }
    cJSON *edit = delivery->edited == NULL ? NULL : cJSON_Parse(delivery->edited);
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(edit, "replaced_by");
    if (cJSON_IsString(id) && subscription != NULL &&
        has_text(mr_bytes_of(delivery->edited), "subscription", subscription)) {
        mr_json_out_text(out, "replaced_by", id->valuestring);
    }
    cJSON_Delete(edit);
}

void mr_timeline_write_attempts(struct mr_json_out *out,
                                const struct mr_timeline_delivery *delivery,
                                const struct mr_delivery_info *live, const char *subscription)
{
    mr_json_out_array(out, "attempts");
    for (uint32_t i = 0; i < delivery->attempt_count; i++) {
        const struct mr_timeline_attempt *attempt = &delivery->attempts[i];
        if (attempt->answered && attempt->counted) {
            write_answered(out, attempt);
        }
        bool under_way = live != NULL && live->state == MR_STATE_IN_FLIGHT && !attempt->answered &&
                         live->fence == attempt->fence;
        if (under_way) {
            mr_timeline_write_attempt(out, attempt->n,
                                      live->started_wall_ns != 0 ? live->started_wall_ns
                                                                 : attempt->started_wall_ns,
                                      0, NULL);
        }
    }
    mr_json_out_end(out);
    /* What cost no attempt, and answers that came too late to count. */
    mr_json_out_array(out, "uncounted");
    for (uint32_t i = 0; i < delivery->attempt_count; i++) {
        const struct mr_timeline_attempt *attempt = &delivery->attempts[i];
        if (attempt->answered && !attempt->counted) {
            write_answered(out, attempt);
        } else if (!attempt->answered && attempt->interrupted) {
            struct mr_result result = {.verdict = MR_VERDICT_INTERRUPTED, .exit_code = -1};
            mr_timeline_write_attempt(out, attempt->n, attempt->started_wall_ns, 0, &result);
        }
    }
    mr_json_out_end(out);
    if (delivery->result != NULL) {
        mr_json_out_raw(out, "result", mr_bytes_of(delivery->result));
    } else if (delivery->result_size > 0) {
        mr_json_out_u64(out, "result_size", delivery->result_size);
    }
    mr_json_out_u64(out, "refusals", live != NULL ? live->refusals : delivery->refusals);
    mr_json_out_u64(out, "interruptions",
                    live != NULL ? live->interruptions : delivery->interruptions);
    write_redrives(out, delivery, subscription);
    write_fate(out, delivery, subscription);
}
