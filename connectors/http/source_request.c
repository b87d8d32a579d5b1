/* A request's way in: who sent it, whether it may, what it holds. The order is fixed: before the
 * sender proved itself nothing else is said. */
#include <stdio.h>

#include "connectors/http/content.h"
#include "connectors/http/source_internal.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/hash.h"
#include "core/limits.h"
#include "core/logger.h"
#include "schemas/adapter.h"

enum {
    ENVELOPE_SIZE = 64 * 1024,   /* what structured mode may add to a body */
    PLAIN_KEPT_SIZE = 64 * 1024, /* of the buffer of decoded bodies */
    ID_SIZE = 37,
};

/* --- refusals --------------------------------------------------------------------------------- */

void mr__http_source_refuse(struct mr_source *s, struct mr_http_request *request, const char *why)
{
    const struct mr_field field = {MR_BYTES_LITERAL("WWW-Authenticate"),
                                   mr_bytes_of(mr_http_verify_challenge(s->verifier))};
    mr__http_source_note(s, why);
    mr_http_answer(request, &(struct mr_http_answer){
                                .status = 401,
                                .content_type = "application/json",
                                .body = MR_BYTES_LITERAL("{\"error\":\"unauthorized\"}\n"),
                                .headers = &field,
                                .header_count = 1,
                            });
}

static void answer_invalid(struct mr_source *s, struct mr_http_request *request,
                           enum mr_status status, bool format_unknown,
                           const struct mr_problem *problem)
{
    unsigned code = 400;
    if (status == MR_E_UNSUPPORTED && format_unknown) {
        code = 415;
    } else if (status == MR_E_TOO_BIG) {
        code = 413;
    } else if (mr_status_class(status) == MR_CLASS_RETRY) {
        code = 503;
    }
    const char *text = problem->text[0] != '\0' ? problem->text : mr_status_text(status);
    mr__http_source_note(s, text);
    mr__http_answer_error(request, code, text, code == 503 ? MR__HTTP_RETRY_AFTER_S : 0);
}

bool mr__http_source_is_busy(const struct mr_source *s, const char **ret_why)
{
    if (atomic_load_explicit(&s->paused, memory_order_relaxed)) {
        *ret_why = "the source is paused";
    } else if (atomic_load_explicit(&s->slow, memory_order_relaxed)) {
        *ret_why = "the log or its disk is short, try again later";
    } else if (atomic_load_explicit(&s->pending, memory_order_relaxed) >= s->options.pending_max) {
        *ret_why = "too much is waiting to become durable";
    } else {
        return false;
    }
    return true;
}

/* --- the handshake ---------------------------------------------------------------------------- */

/* Consent by a request to the sender; what goes wrong is only noted, the sender asks again. */
static void call_back(struct mr_source *s, const struct mr_http_consent *consent)
{
    char url[2048 + 1];
    MR_ASSERT(consent->callback.size < sizeof(url));
    memcpy(url, consent->callback.data, consent->callback.size);
    url[consent->callback.size] = '\0';
    struct mr_http_errand *errand = mr_http_errand_create("GET", url);
    enum mr_status r = errand == NULL ? MR_E_NOMEM : MR_OK;
    if (r == MR_OK) {
        errand->op.type = MR__HTTP_SOURCE_CALLED_BACK;
        errand->egress = MR_EGRESS_PUBLIC;
        r = mr_http_errand_header(errand, "WebHook-Allowed-Origin", consent->origin);
    }
    if (r == MR_OK) {
        r = mr_http_errand_header(errand, "WebHook-Allowed-Rate", consent->rate);
    }
    if (r == MR_OK) {
        r = mr_http_courier_send(s->courier, errand);
    }
    if (r != MR_OK) {
        mr_http_errand_destroy(errand);
        mr__http_source_note(s, "no room to call a webhook's sender back");
    }
}

static void answer_handshake(struct mr_source *s, struct mr_http_request *request)
{
    struct mr_http_consent consent;
    uint32_t count;
    const struct mr_field *headers = mr_http_request_headers(request, &count);
    mr_http_handshake_answer(&s->options.handshake, headers, count, &consent);
    if (consent.is_refused) {
        mr__http_source_note(s, "a handshake of a webhook's sender was refused");
    }
    if (consent.callback.size > 0) {
        call_back(s, &consent);
    }
    mr_http_answer(request, &(struct mr_http_answer){.status = consent.status,
                                                     .headers = consent.headers,
                                                     .header_count = consent.header_count});
}

/* A sender that names itself must be one that may, and keep to its rate.
 * @return false: the request is answered */
static bool admit_origin(struct mr_source *s, struct mr_http_request *request)
{
    struct mr_bytes origin = mr_http_request_header(request, "WebHook-Request-Origin");
    if (s->options.handshake.origins.count == 0 || origin.size == 0) {
        return true;
    }
    int at = mr_http_handshake_origin(&s->options.handshake, origin);
    if (at < 0) {
        mr__http_source_note(s, "a request of an origin that may not deliver");
        mr__http_answer_error(request, 403, "this origin may not deliver here", 0);
        return false;
    }
    uint64_t wait_ns = mr_http_pace_take(&s->paces[at], mr_clock_mono_ns());
    if (wait_ns > 0) {
        mr__http_answer_error(request, 429, "more requests than the handshake granted",
                              (unsigned)((wait_ns + MR_SECOND - 1) / MR_SECOND));
        return false;
    }
    return true;
}

/* --- admission -------------------------------------------------------------------------------- */

static bool has_media_type(struct mr_bytes content_type, const char *media_type)
{
    struct mr_bytes wanted = mr_bytes_of(media_type);
    return content_type.size >= wanted.size &&
           mr_bytes_equal_nocase(mr_bytes(content_type.data, wanted.size), wanted);
}

static bool is_batch(struct mr_bytes content_type)
{
    return has_media_type(content_type, "application/cloudevents-batch");
}

static size_t body_max(const struct mr_source *s, struct mr_http_request *request)
{
    struct mr_bytes content_type = mr_http_request_header(request, "Content-Type");
    size_t size_max = s->event_size_max;
    if (is_batch(content_type)) {
        return MR_BATCH_SIZE_MAX;
    }
    if (has_media_type(content_type, "application/cloudevents")) {
        /* Base64 and the envelope come on top of the event; the decoder judges the event. */
        return size_max / 3 * 4 + ENVELOPE_SIZE;
    }
    return size_max;
}

static struct mr_http_signed signed_message(struct mr_http_request *request)
{
    const char *token = mr_http_request_query(request, "access_token");
    struct mr_http_signed message = {.access_token = mr_bytes_of(token),
                                     .body = mr_http_request_body(request),
                                     .wall_ns = mr_clock_now().wall_ns};
    message.headers = mr_http_request_headers(request, &message.header_count);
    return message;
}

/* @return false: the request is answered */
static bool admit_proven(struct mr_source *s, struct mr_http_request *request)
{
    const char *why;
    if (!admit_origin(s, request)) {
        return false;
    }
    if (mr__http_source_is_busy(s, &why)) {
        mr__http_answer_error(request, 503, why, MR__HTTP_RETRY_AFTER_S);
        return false;
    }
    return true;
}

bool mr__http_source_admit(void *source, struct mr_http_request *request)
{
    struct mr_source *s = source;
    if (mr_http_request_method(request) == MR_HTTP_OPTIONS &&
        s->options.handshake.origins.count > 0) {
        answer_handshake(s, request);
        return false;
    }
    if (s->verifier != NULL) {
        struct mr_http_signed message = signed_message(request);
        const char *why = mr_http_verify_head(s->verifier, &message);
        if (why != NULL) {
            mr__http_source_refuse(s, request, why);
            return false;
        }
    }
    if (!s->has_body_signature && !admit_proven(s, request)) {
        return false;
    }
    mr__http_request_limit(request, body_max(s, request));
    return true;
}

/* --- what it holds ---------------------------------------------------------------------------- */

static void make_id(struct mr_source *s, char id[ID_SIZE])
{
    uint64_t a = mr_rng_next(&s->rng);
    uint64_t b = mr_rng_next(&s->rng);
    (void)snprintf(id, ID_SIZE, "%08x-%04x-4%03x-%04x-%04x%08x", (unsigned)(a >> 32),
                   (unsigned)(a >> 16 & 0xffff), (unsigned)(a & 0xfff),
                   (unsigned)(b >> 48 & 0x3fff) | 0x8000u, (unsigned)(b >> 32 & 0xffff),
                   (unsigned)(b & 0xffffffff)); /* 36 characters by the format */
}

struct mr_bytes mr__http_source_repeats(const struct mr_http_request *request)
{
    struct mr_bytes key = mr_http_request_header(request, "Idempotency-Key");
    if (key.size >= 2 && key.data[0] == '"' && key.data[key.size - 1] == '"') {
        key = mr_bytes(key.data + 1, key.size - 2);
    }
    return key.size > 0 ? key : mr_http_request_header(request, "webhook-id");
}

struct reading {
    struct mr_bytes body; /* decoded */
    struct mr_adapted adapted;
    bool is_array;        /* answered with a list */
    bool format_unknown;
};

static enum mr_status read_foreign(struct mr_source *s, const struct mr_http_request *request,
                                   struct reading *reading, struct mr_problem *problem)
{
    struct mr_bytes key = mr__http_source_repeats(request);
    const struct mr_http_source_paths *paths = &s->options.paths;
    const struct mr_generic_paths generic = {
        .id = paths->id, .type = paths->type, .subject = paths->subject, .time = paths->time};
    struct mr_adapt_input input = {
        .body = reading->body,
        .source_name = mr_bytes_of(s->name),
        .type = s->options.type,
        .paths = &generic,
        .received_wall_ns = mr_clock_now().wall_ns,
        .id = key,
        .unique = key.size > 0 ? mr_hash(key.data, key.size) : mr_rng_next(&s->rng),
        .size_max = s->event_size_max,
    };
    input.headers = mr_http_request_headers(request, &input.header_count);
    enum mr_status r =
        mr_adapt((enum mr_adapter)s->options.adapter, &input, &reading->adapted, problem);
    reading->is_array = r == MR_OK && reading->adapted.events.count != 1;
    return r;
}

static enum mr_status read_events(struct mr_source *s, const struct mr_http_request *request,
                                  struct reading *reading, struct mr_problem *problem)
{
    enum mr_adapter adapter = (enum mr_adapter)s->options.adapter;
    bool is_open = adapter == MR_ADAPTER_AUTO || adapter == MR_ADAPTER_GENERIC;
    if (!is_open && adapter != MR_ADAPTER_CLOUDEVENTS && adapter != MR_ADAPTER_HTTP) {
        return read_foreign(s, request, reading, problem);
    }
    uint32_t count;
    const struct mr_field *headers = mr_http_request_headers(request, &count);
    enum mr_status r = mr_http_decode(headers, count, reading->body, (size_t)s->event_size_max,
                                      &reading->adapted.events, &reading->format_unknown, problem);
    if (r == MR_E_NOT_CLOUDEVENT && is_open) {
        problem->text[0] = '\0';
        return read_foreign(s, request, reading, problem);
    }
    reading->is_array = is_batch(mr_http_request_header(request, "Content-Type"));
    return r;
}

static enum mr_status read_request(struct mr_source *s, struct mr_http_request *request,
                                   struct reading *reading, struct mr_problem *problem)
{
    enum mr_status r = mr_http_content_decode(
        s->codings, mr_http_request_header(request, "Content-Encoding"), reading->body,
        body_max(s, request), &s->plain, &reading->body, problem);
    reading->format_unknown = r == MR_E_UNSUPPORTED;
    if (r == MR_OK) {
        r = read_events(s, request, reading, problem);
    }
    if (r == MR_OK && reading->adapted.events.count > MR_BATCH_EVENTS_MAX) {
        mr_adapted_release(&reading->adapted);
        r = mr_problem_set(problem, MR_E_TOO_BIG, "a batch holds at most %u events",
                           MR_BATCH_EVENTS_MAX);
    }
    return r;
}

/* What a proven sender sent and we cannot read becomes a dead letter: several senders give an
 * endpoint up that answers 4xx. */
static enum mr_status add_rejected(struct mr_source *s, struct mr_http_request *request,
                                   enum mr_status status, const struct mr_problem *problem)
{
    char unique[ID_SIZE];
    const char *reason = problem->text[0] != '\0' ? problem->text : mr_status_text(status);
    struct mr_bytes id = mr__http_source_repeats(request);
    if (id.size == 0 || !mr_bytes_is_utf8(id)) {
        make_id(s, unique);
        id = mr_bytes_of(unique);
    }
    struct mr_event *event = NULL;
    enum mr_status r =
        mr_adapt_rejected(mr_bytes_of(s->name), id, mr_http_request_body(request), reason,
                          mr_clock_now().wall_ns, (size_t)s->event_size_max, &event);
    if (r != MR_OK) {
        return r;
    }
    mr__http_source_note(s, reason);
    struct mr_events events = {.events = &event, .count = 1};
    return mr__http_source_add(s, request, &events, false, reason, NULL);
}

static void answer_control(struct mr_source *s, struct mr_http_request *request,
                           const struct reading *reading)
{
    (void)s;
    const char *answer = reading->adapted.answer;
    mr_http_answer(request, &(struct mr_http_answer){
                                .status = answer != NULL ? 200 : 202,
                                .content_type = "application/json",
                                .body = mr_bytes_of(answer != NULL ? answer : "[]\n")});
}

void mr__http_source_accept(struct mr_source *s, struct mr_http_request *request)
{
    if (s->has_body_signature && !admit_proven(s, request)) {
        return;
    }
    struct reading reading = {.body = mr_http_request_body(request)};
    struct mr_problem problem = {""};
    const char *why;
    if (mr__http_source_is_busy(s, &why)) { /* once more: the body may have taken its time */
        mr__http_answer_error(request, 503, why, MR__HTTP_RETRY_AFTER_S);
        return;
    }
    struct mr__http_wait *wait;
    if (!mr__http_wait_read(s, request, &wait)) {
        return;
    }
    enum mr_status r = read_request(s, request, &reading, &problem);
    bool is_added = false;
    if (r == MR_OK && wait != NULL && reading.adapted.events.count != 1) {
        mr_adapted_release(&reading.adapted);
        r = mr_problem_set(&problem, MR_E_INVALID, "`wait` is for a request of one event");
    }
    if (r == MR_OK && reading.adapted.confirm_url != NULL) {
        mr__http_sns_confirm(s, reading.adapted.confirm_url);
    }
    if (r == MR_OK && reading.adapted.events.count == 0) {
        answer_control(s, request, &reading);
    } else if (r == MR_OK) {
        r = mr__http_source_add(s, request, &reading.adapted.events, reading.is_array, NULL, wait);
        is_added = r == MR_OK;
        wait = is_added ? NULL : wait;
    } else if (s->is_lenient && mr_status_class(r) == MR_CLASS_PERMANENT) {
        r = add_rejected(s, request, r, &problem);
        is_added = r == MR_OK;
    }
    if (r != MR_OK) {
        answer_invalid(s, request, r, reading.format_unknown, &problem);
    } else if (is_added) {
        mr__http_request_forget(request);
        mr__http_watch_end_of_pass(&s->watch);
    }
    mr__http_wait_destroy(wait);
    mr_adapted_release(&reading.adapted);
    mr_buf_clear(&s->plain);
    if (s->plain.capacity > PLAIN_KEPT_SIZE) {
        mr_buf_release(&s->plain);
    }
}

void mr__http_source_handle(void *source, struct mr_http_request *request)
{
    struct mr_source *s = source;
    if (s->sns != NULL) {
        mr__http_sns_handle(s, request);
        return;
    }
    if (s->has_body_signature) {
        struct mr_http_signed message = signed_message(request);
        const char *why = mr_http_verify(s->verifier, &message);
        if (why != NULL) {
            mr__http_source_refuse(s, request, why);
            return;
        }
    }
    mr__http_source_accept(s, request);
}
