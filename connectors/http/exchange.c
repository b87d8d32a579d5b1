#include "connectors/http/exchange.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "connectors/http/handshake.h"
#include "connectors/http/signature.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "schemas/json_format.h"

enum {
    LINES_SIZE_MAX = 256 * 1024, /* attributes are 64 KiB, three times that percent-encoded */
    ERROR_BODY_MAX = 200,        /* of a response's body shown in an error */
    SIGNATURE_SIZE_MAX = 256,    /* two of them */
    KEPT_SIZE = 64 * 1024,       /* buffers above it are not kept for the next exchange */
};
static const uint64_t RETRY_AFTER_NS_MAX = 365 * MR_DAY;

/* --- tables ----------------------------------------------------------------------------------- */

enum mr_verdict mr_http_verdict(unsigned status)
{
    if (status >= 200 && status <= 299) {
        return MR_VERDICT_OK;
    }
    switch (status) {
    case 429:
    case 503:
        return MR_VERDICT_REFUSED;
    case 404:
    case 408:
    case 409:
        return MR_VERDICT_RETRY;
    default:
        return status < 500 ? MR_VERDICT_DEAD : MR_VERDICT_RETRY;
    }
}

bool mr_http_retry_after(struct mr_bytes value, uint64_t wall_ns, uint64_t *ret_ns)
{
    char text[64];
    uint64_t seconds;
    if (value.size == 0 || value.size >= sizeof(text)) {
        return false;
    }
    bool digits = true;
    for (size_t i = 0; i < value.size; i++) {
        digits = digits && value.data[i] >= '0' && value.data[i] <= '9';
    }
    if (digits) {
        if (!mr_parse_u64(value, &seconds) || seconds > RETRY_AFTER_NS_MAX / MR_SECOND) {
            seconds = RETRY_AFTER_NS_MAX / MR_SECOND;
        }
        *ret_ns = seconds * MR_SECOND;
        return true;
    }
    memcpy(text, value.data, value.size);
    text[value.size] = '\0';
    time_t at = curl_getdate(text, NULL);
    if (at < 0) {
        return false;
    }
    uint64_t now = wall_ns / MR_SECOND;
    uint64_t left = (uint64_t)at > now ? (uint64_t)at - now : 0;
    left = left < RETRY_AFTER_NS_MAX / MR_SECOND ? left : RETRY_AFTER_NS_MAX / MR_SECOND;
    *ret_ns = left * MR_SECOND;
    return true;
}

/* --- the request ------------------------------------------------------------------------------ */

static enum mr_status append_line(struct mr_buf *out, const char *name, struct mr_bytes value)
{
    enum mr_status r = mr_buf_append_text(out, name);
    if (r == MR_OK) {
        r = mr_buf_append_text(out, ": ");
    }
    if (r == MR_OK) {
        r = mr_buf_append_bytes(out, value);
    }
    return r == MR_OK ? mr_buf_append_byte(out, 0) : r;
}

static enum mr_status append_fixed(struct mr_http_request_plan *plan, const char *name,
                                   struct mr_bytes value)
{
    plan->fixed_count++;
    return append_line(&plan->fixed, name, value);
}

void mr_http_plan_origin(const struct mr_http_client_options *options, char *ret)
{
    const size_t size = MR_HTTP_ORIGIN_SIZE_MAX + 1;
    if (options->origin != NULL) {
        (void)snprintf(ret, size, "%s", options->origin); /* the options' check has seen its size */
    } else if (gethostname(ret, size) != 0 || ret[0] == '\0') {
        (void)snprintf(ret, size, "millrace"); /* fits */
    }
    ret[size - 1] = '\0';
}

static enum mr_status add_sign_key(struct mr_http_request_plan *plan,
                                   const struct mr_secret *secret)
{
    if (secret == NULL) {
        return MR_OK;
    }
    struct mr_problem ignored = {""}; /* the options' check has said it */
    enum mr_status r =
        mr_http_standard_key(secret, &plan->sign_keys[plan->sign_key_count], &ignored);
    plan->sign_key_count += r == MR_OK;
    return r;
}

enum mr_status mr_http_plan_init(struct mr_http_request_plan *plan,
                                 const struct mr_http_client_options *options, bool is_worker,
                                 const char *target, const char *version)
{
    *plan = (struct mr_http_request_plan){
        .mode = (enum mr_mode)options->mode,
        .is_worker = is_worker,
        .target = target,
        .version = version,
    };
    mr_buf_init(&plan->fixed, LINES_SIZE_MAX);
    enum mr_status r = append_fixed(plan, "User-Agent", MR_BYTES_LITERAL("millrace"));
    if (r == MR_OK && is_worker) {
        r = append_fixed(plan, "Prefer", MR_BYTES_LITERAL("reply"));
    }
    for (uint32_t i = 0; r == MR_OK && i < options->headers.keys.count; i++) {
        r = append_fixed(plan, options->headers.keys.items[i],
                         mr_bytes_of(options->headers.values.items[i]));
    }
    if (r == MR_OK && options->handshake) {
        char origin[MR_HTTP_ORIGIN_SIZE_MAX + 1];
        mr_http_plan_origin(options, origin);
        r = append_fixed(plan, "WebHook-Request-Origin", mr_bytes_of(origin));
    }
    if (r == MR_OK) {
        r = add_sign_key(plan, options->sign.secret);
    }
    if (r == MR_OK) {
        r = add_sign_key(plan, options->sign.previous_secret);
    }
    if (r == MR_OK && options->token != NULL) {
        struct mr_bytes token = mr_secret_use(options->token);
        r = mr_buf_append_text(&plan->fixed, "Authorization: Bearer ");
        r = r == MR_OK ? mr_buf_append_bytes(&plan->fixed, token) : r;
        r = r == MR_OK ? mr_buf_append_byte(&plan->fixed, 0) : r;
        plan->fixed_count++;
    }
    if (r == MR_OK && plan->fixed_count > MR_HTTP_LINES_MAX / 2) {
        r = MR_E_TOO_BIG;
    }
    if (r != MR_OK) {
        mr_http_plan_release(plan);
    }
    return r;
}

void mr_http_plan_release(struct mr_http_request_plan *plan)
{
    if (plan->fixed.data != NULL) {
        explicit_bzero(plan->fixed.data, plan->fixed.capacity);
    }
    mr_buf_release(&plan->fixed);
    for (uint32_t i = 0; i < plan->sign_key_count; i++) {
        mr_secret_destroy(plan->sign_keys[i]);
        plan->sign_keys[i] = NULL;
    }
    plan->sign_key_count = 0;
}

void mr_http_exchange_init(struct mr_http_exchange *x)
{
    *x = (struct mr_http_exchange){0};
    mr_message_init(&x->message);
    mr_buf_init(&x->lines, LINES_SIZE_MAX);
    mr_buf_init(&x->response_text, MR_HTTP_HEADER_SIZE_MAX * 2);
    mr_buf_init(&x->response_body, MR_RESPONSE_SIZE_MAX);
}

void mr_http_exchange_release(struct mr_http_exchange *x)
{
    MR_ASSERT(x->handout == NULL);
    mr_message_release(&x->message);
    mr_buf_release(&x->lines);
    mr_buf_release(&x->response_text);
    mr_buf_release(&x->response_body);
}

static enum mr_status add_line(struct mr_http_exchange *x, const char *name,
                               struct mr_bytes value)
{
    if (x->line_count == MR_HTTP_LINES_MAX) {
        return MR_E_TOO_BIG;
    }
    x->line_at[x->line_count++] = (uint32_t)x->lines.size;
    return append_line(&x->lines, name, value);
}

static struct mr_handout *next_of(const struct mr_handout *handout)
{
    return (struct mr_handout *)handout->op.next;
}

static uint32_t count_of(const struct mr_http_exchange *x)
{
    uint32_t count = 0;
    for (const struct mr_handout *h = x->handout; h != NULL; h = next_of(h)) {
        count++;
    }
    return count;
}

/* The three headers of Standard Webhooks over the body as it is sent. */
static enum mr_status add_signature(struct mr_http_exchange *x,
                                    const struct mr_http_request_plan *plan, struct mr_bytes id)
{
    char timestamp[24];
    struct mr_buf signature;
    (void)snprintf(timestamp, sizeof(timestamp), "%llu",
                   (unsigned long long)(mr_clock_now().wall_ns / MR_SECOND)); /* 20 digits */
    mr_buf_init(&signature, SIGNATURE_SIZE_MAX);
    enum mr_status r =
        mr_http_sign_standard(plan->sign_keys, plan->sign_key_count, id, mr_bytes_of(timestamp),
                              x->request_body, &signature);
    r = r == MR_OK ? add_line(x, "webhook-id", id) : r;
    r = r == MR_OK ? add_line(x, "webhook-timestamp", mr_bytes_of(timestamp)) : r;
    r = r == MR_OK ? add_line(x, "webhook-signature", mr_buf_bytes(&signature)) : r;
    mr_buf_release(&signature);
    return r;
}

/* Whether @p value can stand in a header as it is. */
static bool is_plain(struct mr_bytes value)
{
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < 0x20 || value.data[i] > 0x7e) {
            return false;
        }
    }
    return value.size > 0;
}

/* What tells the receiver which delivery it is. */
static enum mr_status add_delivery_lines(struct mr_http_exchange *x,
                                         const struct mr_http_request_plan *plan)
{
    const struct mr_handout *handout = x->handout;
    struct mr_bytes trace = mr_event_value(mr_event_record(handout->event), "traceparent");
    char attempt[16];
    (void)snprintf(attempt, sizeof(attempt), "%u", handout->attempt); /* ten digits at most */
    struct mr_bytes delivery = mr_bytes_of(handout->delivery);
    enum mr_status r = is_plain(trace) ? add_line(x, "traceparent", trace) : MR_OK;
    r = r == MR_OK ? add_line(x, "Millrace-Attempt", mr_bytes_of(attempt)) : r;
    r = r == MR_OK ? add_line(x, "Millrace-Delivery", delivery) : r;
    r = r == MR_OK ? add_line(x, "Idempotency-Key", delivery) : r;
    return r == MR_OK && plan->sign_key_count > 0 ? add_signature(x, plan, delivery) : r;
}

/* Of a batch no request is quite like another: its parts have their ids. */
static enum mr_status add_batch_lines(struct mr_http_exchange *x,
                                      const struct mr_http_request_plan *plan)
{
    char count[16];
    char id[sizeof(x->handout->delivery) + 32];
    (void)snprintf(count, sizeof(count), "%u", count_of(x)); /* ten digits at most */
    (void)snprintf(id, sizeof(id), "%s+%u.%u", x->handout->delivery, count_of(x) - 1,
                   x->handout->fence); /* fits */
    enum mr_status r = add_line(x, "Millrace-Batch", mr_bytes_of(count));
    return r == MR_OK && plan->sign_key_count > 0 ? add_signature(x, plan, mr_bytes_of(id)) : r;
}

static enum mr_status add_lines(struct mr_http_exchange *x,
                                const struct mr_http_request_plan *plan)
{
    enum mr_status r = mr_buf_append_bytes(&x->lines, mr_buf_bytes(&plan->fixed));
    size_t at = 0;
    for (uint32_t i = 0; i < plan->fixed_count; i++) {
        x->line_at[x->line_count++] = (uint32_t)at;
        at += strlen((const char *)plan->fixed.data + at) + 1;
    }
    if (r == MR_OK && x->message.content_type.size > 0) {
        r = add_line(x, "Content-Type", x->message.content_type);
    }
    for (uint32_t i = 0; r == MR_OK && i < x->message.field_count; i++) {
        /* Names are NUL-terminated in the message's text. */
        r = add_line(x, (const char *)x->message.fields[i].name.data, x->message.fields[i].value);
    }
    if (r != MR_OK) {
        return r;
    }
    return x->handout->batch != 0 ? add_batch_lines(x, plan) : add_delivery_lines(x, plan);
}

enum mr_status mr_http_exchange_begin(struct mr_http_exchange *x,
                                      const struct mr_http_request_plan *plan,
                                      struct mr_handout *handout)
{
    MR_ASSERT(x->handout == NULL);
    x->handout = handout;
    x->status = 0;
    x->is_head_whole = false;
    mr_buf_clear(&x->lines);
    x->line_count = 0;
    x->field_count = 0;
    x->fields_cut = false;
    mr_buf_clear(&x->response_text);
    mr_buf_clear(&x->response_body);
    x->body_cut = false;
    x->has_retry_after = false;
    enum mr_mode mode = handout->batch != 0 ? MR_MODE_BATCH : plan->mode;
    enum mr_status r = mr_http_encode(mr_event_record(handout->event), mode, &x->message);
    for (const struct mr_handout *h = next_of(handout); h != NULL && r == MR_OK; h = next_of(h)) {
        r = mr_http_encode_more(mr_event_record(h->event), &x->message);
    }
    if (r != MR_OK) {
        return r;
    }
    x->request_body = mr_buf_bytes(&x->message.body);
    return add_lines(x, plan);
}

/* --- the response ----------------------------------------------------------------------------- */

void mr_http_exchange_status(struct mr_http_exchange *x, unsigned status)
{
    x->status = status;
    x->is_head_whole = false;
    x->field_count = 0;
    x->fields_cut = false;
    x->has_retry_after = false;
    mr_buf_clear(&x->response_text);
}

void mr_http_exchange_field(struct mr_http_exchange *x, struct mr_bytes name,
                            struct mr_bytes value)
{
    static const char ce[] = "ce-";
    struct mr_bytes prefix = {(const uint8_t *)ce, sizeof(ce) - 1};
    if (mr_bytes_equal_nocase(name, MR_BYTES_LITERAL("retry-after"))) {
        x->has_retry_after =
            mr_http_retry_after(value, mr_clock_now().wall_ns, &x->retry_after_ns);
        return;
    }
    bool is_ce = name.size > prefix.size &&
                 mr_bytes_equal_nocase(mr_bytes(name.data, prefix.size), prefix);
    if (!is_ce && !mr_bytes_equal_nocase(name, MR_BYTES_LITERAL("content-type"))) {
        return;
    }
    if (x->field_count == MR_ARRAY_COUNT(x->field_at)) {
        x->fields_cut = true;
        return;
    }
    size_t at = x->response_text.size;
    if (mr_buf_append_bytes(&x->response_text, name) != MR_OK ||
        mr_buf_append_bytes(&x->response_text, value) != MR_OK) {
        x->fields_cut = true;
        return;
    }
    uint32_t *field = x->field_at[x->field_count++];
    field[0] = (uint32_t)at;
    field[1] = (uint32_t)name.size;
    field[2] = (uint32_t)(at + name.size);
    field[3] = (uint32_t)value.size;
}

void mr_http_exchange_head_end(struct mr_http_exchange *x)
{
    x->is_head_whole = true;
}

bool mr_http_exchange_body(struct mr_http_exchange *x, struct mr_bytes data)
{
    if (mr_buf_append_bytes(&x->response_body, data) != MR_OK) {
        x->body_cut = true;
    }
    return !x->body_cut;
}

/* --- the answer ------------------------------------------------------------------------------- */

static void set_error(struct mr_handout *handout, const char *text)
{
    mr_handout_set_error(handout, mr_bytes_of(text));
}

/* The replies of a worker enter the bus, all of them or none. */
static void emit_reply(struct mr_http_exchange *x, struct mr_events *events)
{
    if (events->count > MR_EMITTED_MAX) {
        set_error(x->handout, "the reply was dropped: it holds too many events");
        return;
    }
    for (uint32_t i = 0; i < events->count; i++) {
        if (mr_handout_emit(x->handout, MR_TAKE(events->events[i])) != MR_OK) {
            /* The events are part of the success: without them the attempt did not succeed. */
            x->handout->answer.verdict = MR_VERDICT_RETRY;
            set_error(x->handout, "out of memory for the reply");
            return;
        }
    }
}

/* @return whether the response claims to be a CloudEvent */
static bool read_reply(struct mr_http_exchange *x)
{
    struct mr_field fields[MR_EVENT_ATTRS_MAX * 2];
    const uint8_t *text = x->response_text.data;
    for (uint32_t i = 0; i < x->field_count; i++) {
        const uint32_t *at = x->field_at[i];
        fields[i] = (struct mr_field){mr_bytes(text + at[0], at[1]), mr_bytes(text + at[2], at[3])};
    }
    struct mr_events events = {0};
    struct mr_problem problem = {""};
    bool format_unknown = false;
    enum mr_status r =
        mr_http_decode(fields, x->field_count, mr_buf_bytes(&x->response_body),
                       MR_EVENT_SIZE_DEFAULT, &events, &format_unknown, &problem);
    if (r == MR_E_NOT_CLOUDEVENT) {
        return false;
    }
    if (x->fields_cut) {
        set_error(x->handout, "the reply was dropped: its header is too large");
    } else if (r == MR_OK) {
        emit_reply(x, &events);
    } else if (mr_status_class(r) == MR_CLASS_RETRY) {
        x->handout->answer.verdict = MR_VERDICT_RETRY;
        set_error(x->handout, "out of memory for the reply");
    } else {
        char error[MR_ERROR_TEXT_MAX];
        (void)snprintf(error, sizeof(error), "the reply was dropped: %.400s", problem.text);
        set_error(x->handout, error);
    }
    mr_events_release(&events);
    return true;
}

/* {"status": "SUCCESS" | "RETRY" | "DROP"}, as Dapr's subscribers answer. */
static void obey_status(struct mr_http_exchange *x)
{
    struct mr_bytes body = mr_buf_bytes(&x->response_body);
    if (memmem(body.data, body.size, "\"status\"", 8) == NULL) {
        return; /* most replies: not worth parsing */
    }
    cJSON *json = cJSON_ParseWithLength((const char *)body.data, body.size);
    const cJSON *status = cJSON_GetObjectItemCaseSensitive(json, "status");
    const char *word = cJSON_GetStringValue(status);
    struct mr_answer *answer = &x->handout->answer;
    if (word != NULL && strcmp(word, "RETRY") == 0) {
        answer->verdict = MR_VERDICT_RETRY;
        set_error(x->handout, "the reply says RETRY");
    } else if (word != NULL && strcmp(word, "DROP") == 0) {
        answer->verdict = MR_VERDICT_DROP;
        set_error(x->handout, "the reply says DROP");
    }
    cJSON_Delete(json);
}

static void read_success(struct mr_http_exchange *x, const struct mr_http_request_plan *plan)
{
    struct mr_bytes body = mr_buf_bytes(&x->response_body);
    if (x->status != 200) {
        return; /* a 202 and its like never carry a reply */
    }
    if (x->body_cut) {
        set_error(x->handout, "the reply was dropped: it is larger than 1 MiB");
        return;
    }
    if (plan->is_worker && read_reply(x)) {
        return;
    }
    if (body.size == 0 || body.size > MR_HTTP_RESULT_SIZE_MAX || !mr_json_is_value(body)) {
        return;
    }
    obey_status(x);
    x->handout->answer.result = mr_strndup((const char *)body.data, body.size);
}

/* --- of a batch ------------------------------------------------------------------------------- */

static void say_of_all(struct mr_http_exchange *x, enum mr_verdict verdict, const char *error)
{
    for (struct mr_handout *h = x->handout; h != NULL; h = next_of(h)) {
        h->answer.verdict = verdict;
        if (error != NULL) {
            set_error(h, error);
        }
    }
}

/* The batch failed as a whole: it goes again in halves. One alone keeps its verdict. */
static void fail_batch(struct mr_http_exchange *x)
{
    uint32_t count = count_of(x);
    for (struct mr_handout *h = x->handout; h != NULL && count > 1; h = next_of(h)) {
        h->answer.verdict = MR_VERDICT_RETRY;
        h->answer.suspects = count;
    }
}

static enum mr_verdict read_word(const char *word)
{
    static const struct {
        const char *word;
        enum mr_verdict verdict;
    } words[] = {{"SUCCESS", MR_VERDICT_OK},
                 {"RETRY", MR_VERDICT_RETRY},
                 {"DROP", MR_VERDICT_DROP},
                 {"DEAD", MR_VERDICT_DEAD}};
    for (size_t i = 0; word != NULL && i < MR_ARRAY_COUNT(words); i++) {
        if (strcmp(word, words[i].word) == 0) {
            return words[i].verdict;
        }
    }
    return MR_VERDICT_NONE;
}

/* {"status": "RETRY", "error": "busy", "after": 5}; without one it was forgotten. */
static void take_result(struct mr_handout *h, const cJSON *item)
{
    const char *word = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "status"));
    const char *error = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "error"));
    const cJSON *after = cJSON_GetObjectItemCaseSensitive(item, "after");
    struct mr_answer *answer = &h->answer;
    answer->verdict = read_word(word);
    if (answer->verdict == MR_VERDICT_NONE) {
        answer->verdict = MR_VERDICT_RETRY;
        set_error(h, item == NULL ? "the reply has no result for this one"
                                  : "its result has no status SUCCESS, RETRY, DROP or DEAD");
        return;
    }
    if (error != NULL || answer->verdict != MR_VERDICT_OK) {
        set_error(h, error != NULL ? error : "the result says so");
    }
    if (cJSON_IsNumber(after) && after->valuedouble >= 0 &&
        after->valuedouble <= (double)(RETRY_AFTER_NS_MAX / MR_SECOND)) {
        answer->has_after = true;
        answer->after_ns = (uint64_t)(after->valuedouble * (double)MR_SECOND);
    }
}

/* {"results": […]}, one for each event in its order; or what a single reply may say, for all. */
static void read_batch_reply(struct mr_http_exchange *x)
{
    struct mr_bytes body = mr_buf_bytes(&x->response_body);
    say_of_all(x, MR_VERDICT_OK, NULL);
    if (x->status != 200 || body.size == 0) {
        return;
    }
    if (x->body_cut) {
        say_of_all(x, MR_VERDICT_RETRY, "the reply is larger than 1 MiB");
        fail_batch(x);
        return;
    }
    cJSON *json = cJSON_ParseWithLength((const char *)body.data, body.size);
    const cJSON *results = cJSON_GetObjectItemCaseSensitive(json, "results");
    const char *word = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "status"));
    enum mr_verdict verdict = read_word(word);
    if (cJSON_IsArray(results)) {
        const cJSON *item = results->child;
        for (struct mr_handout *h = x->handout; h != NULL; h = next_of(h)) {
            take_result(h, item);
            item = item == NULL ? NULL : item->next;
        }
    } else if (verdict == MR_VERDICT_RETRY) {
        say_of_all(x, verdict, "the reply says RETRY");
        fail_batch(x);
    } else if (verdict == MR_VERDICT_DROP) {
        say_of_all(x, verdict, "the reply says DROP");
    }
    cJSON_Delete(json);
}

static void describe_status(struct mr_http_exchange *x)
{
    const char *why = x->status >= 300 && x->status <= 399 ? " (redirects are not followed)" : "";
    struct mr_buf text;
    mr_buf_init(&text, MR_ERROR_TEXT_MAX);
    struct mr_bytes body = mr_buf_bytes(&x->response_body);
    body.size = body.size < ERROR_BODY_MAX ? body.size : ERROR_BODY_MAX;
    enum mr_status r = mr_buf_printf(&text, "HTTP %u%s%s", x->status, why,
                                     body.size > 0 ? ": " : "");
    if (r == MR_OK) {
        r = mr_buf_append_bytes(&text, body);
    }
    if (r == MR_OK) {
        mr_handout_set_error(x->handout, mr_buf_bytes(&text));
    }
    mr_buf_release(&text);
}

static struct mr_handout *take_handout(struct mr_http_exchange *x,
                                       const struct mr_http_request_plan *plan)
{
    struct mr_handout *handout = MR_TAKE(x->handout);
    for (struct mr_handout *h = handout; h != NULL; h = next_of(h)) {
        struct mr_answer *answer = &h->answer;
        MR_ASSERT(answer->verdict != MR_VERDICT_NONE);
        (void)snprintf(answer->instance, sizeof(answer->instance), "%s",
                       plan->target); /* cut is fine */
        (void)snprintf(answer->version, sizeof(answer->version), "%s",
                       plan->version); /* cut is fine */
        answer->ended_wall_ns = mr_clock_now().wall_ns;
        if (answer->verdict == MR_VERDICT_REFUSED) {
            answer->started_wall_ns = 0; /* no handler ever got it */
        }
    }
    if (x->response_body.capacity > KEPT_SIZE) {
        mr_buf_release(&x->response_body);
    }
    if (x->lines.capacity > KEPT_SIZE) {
        mr_buf_release(&x->lines);
    }
    mr_message_release(&x->message);
    x->request_body = (struct mr_bytes){0};
    return handout;
}

struct mr_handout *mr_http_exchange_finish(struct mr_http_exchange *x,
                                           const struct mr_http_request_plan *plan)
{
    struct mr_answer *answer = &x->handout->answer;
    answer->verdict = mr_http_verdict(x->status);
    if (answer->verdict == MR_VERDICT_OK && x->handout->batch != 0) {
        read_batch_reply(x);
    } else if (answer->verdict == MR_VERDICT_OK) {
        read_success(x, plan);
    } else {
        describe_status(x);
        for (struct mr_handout *h = next_of(x->handout); h != NULL; h = next_of(h)) {
            h->answer.verdict = answer->verdict;
            h->answer.error = mr_strdup(answer->error);
        }
    }
    if (mr_http_verdict(x->status) == MR_VERDICT_REFUSED) {
        for (struct mr_handout *h = x->handout; h != NULL; h = next_of(h)) {
            h->answer.has_after = x->has_retry_after;
            h->answer.after_ns = x->retry_after_ns;
        }
    } else if (mr_http_verdict(x->status) != MR_VERDICT_OK) {
        fail_batch(x);
    }
    return take_handout(x, plan);
}

struct mr_handout *mr_http_exchange_fail(struct mr_http_exchange *x,
                                         const struct mr_http_request_plan *plan,
                                         enum mr_http_failure failure, const char *text)
{
    static const enum mr_verdict verdicts[] = {
        [MR_HTTP_NOT_REACHED] = MR_VERDICT_REFUSED, [MR_HTTP_TIMED_OUT] = MR_VERDICT_RETRY,
        [MR_HTTP_BROKEN] = MR_VERDICT_RETRY,        [MR_HTTP_STOPPED] = MR_VERDICT_CRASH,
        [MR_HTTP_NOT_STARTED] = MR_VERDICT_REFUSED, [MR_HTTP_STALE] = MR_VERDICT_CRASH,
    };
    say_of_all(x, verdicts[failure], text);
    if (verdicts[failure] == MR_VERDICT_RETRY) {
        fail_batch(x);
    }
    return take_handout(x, plan);
}
