#include <stdarg.h>
#include <stdio.h>

#include "admin/internal.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/logger.h"

void mr__call_destroy(struct mr__call *call)
{
    if (call != NULL) {
        MR_ASSERT(call->http == NULL);
        mr_free(call->name);
        mr_json_out_release(&call->answer);
        mr_free(call);
    }
}

void mr__answer_text(struct mr__call *call, unsigned status, const char *content_type,
                     struct mr_bytes body)
{
    MR_ASSERT(call->http != NULL);
    struct mr_field retry = {MR_BYTES_LITERAL("Retry-After"), MR_BYTES_LITERAL("1")};
    struct mr_http_answer answer = {.status = status,
                                    .content_type = content_type,
                                    .body = body,
                                    .headers = &retry,
                                    .header_count = status == 503 ? 1 : 0};
    mr_http_answer(MR_TAKE(call->http), &answer);
    mr__call_destroy(call);
}

void mr__answer_json(struct mr__call *call, unsigned status, struct mr_json_out *out)
{
    if (out->status != MR_OK) {
        mr__answer_error(call, 500, "the answer could not be written: %s",
                         mr_status_text(out->status));
    } else {
        MR_ASSERT(out->depth == 0);
        mr__answer_text(call, status, "application/json", mr_buf_bytes(&out->buf));
    }
    mr_json_out_release(out);
}

void mr__answer_error(struct mr__call *call, unsigned status, const char *format, ...)
{
    char text[MR_ERROR_TEXT_MAX * 2];
    va_list arguments;
    va_start(arguments, format);
    if (vsnprintf(text, sizeof(text), format, arguments) < 0) {
        text[0] = '\0';
    }
    va_end(arguments);
    char clean[sizeof(text)];
    mr_text_clean(clean, sizeof(clean), mr_bytes_of(text));
    struct mr_json_out out;
    mr_json_out_init(&out, sizeof(clean) * 6 + 64);
    mr_json_out_object(&out, NULL);
    mr_json_out_text(&out, "error", clean);
    mr_json_out_end(&out);
    mr__answer_text(call, status, "application/json",
                    out.status == MR_OK ? mr_buf_bytes(&out.buf)
                                        : MR_BYTES_LITERAL("{\"error\":\"out of memory\"}"));
    mr_json_out_release(&out);
}

unsigned mr__http_status(enum mr_status status)
{
    switch (status) {
    case MR_OK:
        return 200;
    case MR_E_NOT_FOUND:
        return 404;
    case MR_E_INVALID:
    case MR_E_NOT_CLOUDEVENT:
    case MR_E_UNSUPPORTED:
        return 400;
    case MR_E_TOO_BIG:
        return 413;
    case MR_E_EXISTS:
    case MR_E_CONFLICT:
        return 409;
    case MR_E_DENIED:
        return 403;
    case MR_E_AGAIN:
    case MR_E_FULL:
    case MR_E_DISK_LOW:
    case MR_E_TIMEOUT:
    case MR_E_UNAVAILABLE:
    case MR_E_CLOSED:
    case MR_E_NOMEM:
    case MR_E_FAULTY:
    case MR_E_LOCKED:
        return 503;
    case MR_E_IO:
    case MR_E_CORRUPT:
    case MR_E_BUG:
    default:
        return 500;
    }
}

void mr__answer_status(struct mr__call *call, enum mr_status status,
                       const struct mr_problem *problem)
{
    bool has_text = problem != NULL && problem->text[0] != '\0';
    mr__answer_error(call, mr__http_status(status), "%s",
                     has_text ? problem->text : mr_status_text(status));
}

enum mr_status mr__query_number(const struct mr_http_request *http, const char *name,
                                uint64_t *value, struct mr_problem *problem)
{
    const char *text = mr_http_request_query(http, name);
    return text == NULL || mr_parse_u64(mr_bytes_of(text), value)
               ? MR_OK
               : mr_problem_set(problem, MR_E_INVALID, "%s wants a number, not \"%s\"", name,
                                text);
}
