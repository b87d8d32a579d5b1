/* ?wait=SECONDS: the request is answered with what the worker made of its event. Bounded in number,
 * so that who waits long keeps nobody out who does not wait. */
#include <stdio.h>

#include "connectors/http/source_internal.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/limits.h"

enum { WAIT_S_MAX = 300 };

void mr__http_wait_destroy(struct mr__http_wait *wait)
{
    if (wait != NULL) {
        mr_await_release(&wait->await);
        mr_free(wait->accepted);
        mr_free(wait);
    }
}

bool mr__http_wait_read(struct mr_source *s, struct mr_http_request *request,
                        struct mr__http_wait **ret_wait)
{
    const char *text = mr_http_request_query(request, "wait");
    const char *subscription = mr_http_request_query(request, "subscription");
    uint64_t seconds;
    *ret_wait = NULL;
    if (text == NULL || s->host->ops->await == NULL) {
        return true;
    }
    if (!mr_parse_u64(mr_bytes_of(text), &seconds) || seconds > WAIT_S_MAX) {
        mr__http_answer_error(request, 400, "`wait` is a number of seconds, 300 at most", 0);
        return false;
    }
    if (s->wait_count >= MR__HTTP_WAITS_MAX) {
        mr__http_answer_error(request, 503, "too many requests wait for a worker",
                              MR__HTTP_RETRY_AFTER_S);
        return false;
    }
    struct mr__http_wait *wait = mr_calloc(1, sizeof(*wait));
    if (wait != NULL && subscription != NULL) {
        wait->await.subscription = mr_strdup(subscription);
    }
    if (wait == NULL || (subscription != NULL && wait->await.subscription == NULL)) {
        mr__http_wait_destroy(wait);
        mr__http_answer_error(request, 503, mr_status_text(MR_E_NOMEM), MR__HTTP_RETRY_AFTER_S);
        return false;
    }
    wait->await.deadline_mono_ns = mr_clock_mono_ns() + seconds * MR_SECOND;
    *ret_wait = wait;
    return true;
}

void mr__http_wait_begin(struct mr_source *s, struct mr__http_wait *wait,
                         struct mr_http_request *request, const struct mr_batch *batch,
                         uint32_t item)
{
    wait->request = request;
    wait->await.type = MR__HTTP_SOURCE_WAITED;
    wait->await.batch = batch;
    wait->await.item = item;
    wait->await.reply = &s->queue;
    s->wait_count++;
    s->host->ops->await(s->host, &wait->await);
}

/* {"id":…,"offset":…,"durable":…} of the 202, and more members behind. */
static enum mr_status write_failed(const struct mr__http_wait *wait, struct mr_buf *out)
{
    const struct mr_await *await = &wait->await;
    const char *error = await->error != NULL ? await->error
                                             : "it ended without an answer: see its trace";
    const char *end = wait->accepted == NULL ? NULL : strrchr(wait->accepted, '}');
    enum mr_status r = end == NULL ? mr_buf_append_text(out, "{")
                                   : mr_buf_append(out, wait->accepted,
                                                   (size_t)(end - wait->accepted));
    r = r == MR_OK && end != NULL ? mr_buf_append_text(out, ",") : r;
    r = r == MR_OK ? mr_buf_append_text(out, "\"subscription\":") : r;
    r = r == MR_OK ? mr_buf_append_json(out, mr_bytes_of(await->name)) : r;
    r = r == MR_OK ? mr_buf_printf(out, ",\"state\":%s%s%s,\"error\":",
                                   await->state == NULL ? "" : "\"",
                                   await->state == NULL ? "null" : await->state,
                                   await->state == NULL ? "" : "\"")
                   : r;
    r = r == MR_OK ? mr_buf_append_json(out, mr_bytes_of(error)) : r;
    return r == MR_OK ? mr_buf_append_text(out, "}\n") : r;
}

static void answer_settled(struct mr_source *s, struct mr__http_wait *wait)
{
    const struct mr_await *await = &wait->await;
    char delivery[MR_NAME_SIZE_MAX * 3 + 40];
    (void)snprintf(delivery, sizeof(delivery), "%s:%llu", await->name == NULL ? "" : await->name,
                   (unsigned long long)await->offset); /* names are bounded */
    const char *state = await->state == NULL ? "" : await->state;
    const struct mr_field fields[] = {
        {MR_BYTES_LITERAL("Millrace-Delivery"), mr_bytes_of(delivery)},
        {MR_BYTES_LITERAL("Millrace-State"), mr_bytes_of(state)},
    };
    struct mr_http_answer answer = {.content_type = "application/json",
                                    .headers = fields,
                                    .header_count = state[0] == '\0' ? 1 : 2};
    mr_buf_clear(&s->answer);
    if (strcmp(state, "done") == 0 || strcmp(state, "dropped") == 0) {
        answer.status = await->result == NULL ? 204 : 200;
        answer.content_type = await->result == NULL ? NULL : answer.content_type;
        answer.body = mr_bytes_of(await->result);
    } else {
        answer.status = 502;
        if (write_failed(wait, &s->answer) != MR_OK) {
            mr_buf_clear(&s->answer); /* the status says it */
        }
        answer.body = mr_buf_bytes(&s->answer);
    }
    mr_http_answer(wait->request, &answer);
}

/* The event is taken; there is no result, now or at all. */
static void answer_accepted(struct mr__http_wait *wait)
{
    const struct mr_await *await = &wait->await;
    char why[64] = "not settled yet";
    if (await->end == MR_AWAIT_UNCLEAR && await->candidates == 0) {
        (void)snprintf(why, sizeof(why), "no delivery to wait for"); /* fits */
    } else if (await->end == MR_AWAIT_UNCLEAR) {
        (void)snprintf(why, sizeof(why), "%u workers: name a subscription",
                       await->candidates); /* fits */
    }
    const struct mr_field field = {MR_BYTES_LITERAL("Millrace-Wait"), mr_bytes_of(why)};
    mr_http_answer(wait->request, &(struct mr_http_answer){
                                      .status = 202,
                                      .content_type = "application/json",
                                      .body = mr_bytes_of(wait->accepted),
                                      .headers = &field,
                                      .header_count = 1,
                                  });
}

void mr__http_wait_finish(struct mr_source *s, struct mr__http_wait *wait)
{
    MR_ASSERT(s->wait_count > 0);
    s->wait_count--;
    if (wait->request != NULL && wait->await.end == MR_AWAIT_SETTLED) {
        answer_settled(s, wait);
    } else if (wait->request != NULL) {
        answer_accepted(wait);
    }
    mr__http_wait_destroy(wait);
}
