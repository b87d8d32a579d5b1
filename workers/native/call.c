#include <stdio.h>

#include "core/alloc.h"
#include "core/limits.h"
#include "schemas/json_format.h"
#include "workers/native/internal.h"

#define HEARTBEAT_MIN_NS (200 * MR_MS)
#define PROGRESS_SIZE_MAX (4u * MR_KIB)

static struct mr__native_call *call_of(struct millrace_native_call *native)
{
    return (struct mr__native_call *)(void *)native;
}

static const char *find_attribute(struct millrace_native_call *native, const char *name)
{
    const struct mr_buf *text = &call_of(native)->text;
    for (size_t at = 0; at < text->size;) {
        const char *key = (const char *)text->data + at;
        const char *value = key + strlen(key) + 1;
        if (strcmp(key, name) == 0) {
            return value;
        }
        at = (size_t)(value - (const char *)text->data) + strlen(value) + 1;
    }
    return NULL;
}

static const char *make_json(struct millrace_native_call *native, size_t *ret_size)
{
    struct mr__native_call *call = call_of(native);
    if (call->json.size == 0 &&
        (mr_json_encode_exact(mr_event_record(call->event), &call->json) != MR_OK ||
         mr_buf_append_byte(&call->json, 0) != MR_OK)) {
        mr_buf_clear(&call->json);
        return NULL;
    }
    if (ret_size != NULL) {
        *ret_size = call->json.size - 1;
    }
    return (const char *)call->json.data;
}

static int set_error(struct millrace_native_call *native, const char *text)
{
    mr_handout_set_error(call_of(native)->said, mr_bytes_of(text));
    return call_of(native)->said->answer.error == NULL ? -1 : 0;
}

static int set_after(struct millrace_native_call *native, double seconds)
{
    struct mr_answer *a = &call_of(native)->said->answer;
    if (!(seconds >= 0 && seconds <= 1e9)) { /* NaN too */
        return -1;
    }
    a->has_after = true;
    a->after_ns = (uint64_t)(seconds * 1e9);
    return 0;
}

static int set_result(struct millrace_native_call *native, const char *json, size_t size)
{
    struct mr_answer *a = &call_of(native)->said->answer;
    if (json == NULL || size > MR_RESPONSE_SIZE_MAX || !mr_json_is_value(mr_bytes(json, size))) {
        return -1;
    }
    char *copy = mr_strndup(json, size);
    if (copy == NULL) {
        return -1;
    }
    mr_free(a->result);
    a->result = copy;
    return 0;
}

static int emit(struct millrace_native_call *native, const char *event_json, size_t size)
{
    struct mr_event *event;
    struct mr_problem problem;
    if (event_json == NULL ||
        mr_json_decode_event(mr_bytes(event_json, size), MR_EVENT_SIZE_MAX, &event, &problem) !=
            MR_OK) {
        return -1;
    }
    return mr_handout_emit(call_of(native)->said, event) == MR_OK ? 0 : -1;
}

static int heartbeat(struct millrace_native_call *native, const char *progress_json)
{
    struct mr__native_call *call = call_of(native);
    struct mr_bytes progress = mr_bytes_of(progress_json == NULL ? "" : progress_json);
    bool bad = progress.size > PROGRESS_SIZE_MAX ||
               (progress.size > 0 && !mr_json_is_value(progress));
    char *copy = progress.size == 0 || bad ? NULL : mr_strdup(progress_json);
    uint64_t now = mr_clock_mono_ns();
    pthread_mutex_lock(call->mu);
    if (copy != NULL) {
        mr_free(call->progress);
        call->progress = copy;
    }
    bool due = now >= call->beat_ns + HEARTBEAT_MIN_NS;
    if (due && call->handout != NULL) {
        call->beat_ns = now;
        call->host->ops->heartbeat(call->host, call->handout);
    }
    pthread_mutex_unlock(call->mu);
    return bad ? -1 : 0;
}

static int is_cancelled(struct millrace_native_call *native)
{
    return atomic_load_explicit(&call_of(native)->cancelled, memory_order_relaxed);
}

static enum mr_status copy_attributes(struct mr__native_call *call)
{
    struct mr_bytes record = mr_event_record(call->event);
    uint32_t position = 0;
    struct mr_attr attr;
    enum mr_status r = MR_OK;
    while (r == MR_OK && mr_event_next_attr(record, &position, &attr)) {
        r = mr_buf_append_bytes(&call->text, attr.name);
        r = r == MR_OK ? mr_buf_append_byte(&call->text, 0) : r;
        r = r == MR_OK ? mr_buf_append_bytes(&call->text, attr.value) : r;
        r = r == MR_OK ? mr_buf_append_byte(&call->text, 0) : r;
    }
    return r;
}

static const char *or_empty(const char *text)
{
    return text == NULL ? "" : text;
}

struct mr__native_call *mr__native_call_create(struct mr_host *host, pthread_mutex_t *mu,
                                               struct mr_handout *handout)
{
    struct mr__native_call *call = mr_calloc(1, sizeof(*call));
    if (call == NULL) {
        return NULL;
    }
    call->host = host;
    call->mu = mu;
    call->began_ns = mr_clock_mono_ns();
    call->event = mr_event_ref(handout->event);
    call->said = mr_handout_create();
    mr_buf_init(&call->text, MR_EVENT_ATTRS_SIZE_MAX * 2 + MR_KIB);
    mr_buf_init(&call->json, 2 * MR_EVENT_SIZE_MAX);
    if (call->said == NULL || copy_attributes(call) != MR_OK) {
        mr__native_call_destroy(call);
        return NULL;
    }
    call->handout = handout;
    (void)snprintf(call->delivery, sizeof(call->delivery), "%s", handout->delivery); /* same */
    struct mr_bytes record = mr_event_record(call->event);
    struct mr_bytes data = mr_event_data(record);
    struct millrace_native_call *n = &call->native;
    *n = (struct millrace_native_call){
        .size = sizeof(*n), .attempt = handout->attempt, .last = handout->last,
        .deadline_unix_ns = handout->deadline_wall_ns, .delivery = call->delivery,
        .data = mr_event_has_data(record) ? data.data : NULL, .data_size = data.size,
        .attribute = find_attribute, .json = make_json, .set_error = set_error,
        .set_after = set_after, .set_result = set_result, .emit = emit, .heartbeat = heartbeat,
        .cancelled = is_cancelled};
    n->id = or_empty(find_attribute(n, "id"));
    n->source = or_empty(find_attribute(n, "source"));
    n->type = or_empty(find_attribute(n, "type"));
    n->subject = or_empty(find_attribute(n, "subject"));
    n->datacontenttype = or_empty(find_attribute(n, "datacontenttype"));
    return call;
}

void mr__native_call_destroy(struct mr__native_call *call)
{
    mr_event_unref(call->event);
    mr_handout_destroy(call->said);
    mr_buf_release(&call->text);
    mr_buf_release(&call->json);
    mr_free(call->progress);
    mr_free(call);
}

void mr__native_call_finish(struct mr__native_call *call, int verdict)
{
    static const enum mr_verdict verdicts[] = {MR_VERDICT_OK, MR_VERDICT_RETRY, MR_VERDICT_DROP,
                                               MR_VERDICT_DEAD};
    struct mr_answer *to = &call->handout->answer;
    struct mr_answer *said = &call->said->answer;
    if (verdict < 0 || verdict > MILLRACE_NATIVE_DEAD) {
        char text[64];
        (void)snprintf(text, sizeof(text), "the plugin returned %d, no verdict", verdict);
        mr_handout_set_error(call->said, mr_bytes_of(text));
        verdict = MILLRACE_NATIVE_RETRY;
    }
    to->verdict = verdicts[verdict];
    to->error = MR_TAKE(said->error);
    to->has_after = said->has_after;
    to->after_ns = said->after_ns;
    if (to->verdict != MR_VERDICT_RETRY) { /* which emits nothing */
        to->result = MR_TAKE(said->result);
        to->emitted = MR_TAKE(said->emitted);
        to->emitted_count = said->emitted_count;
        said->emitted_count = 0;
    }
    to->ended_wall_ns = mr_clock_now().wall_ns;
}
