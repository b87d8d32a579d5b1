/* What an answer of an object store or a queue means. */
#include <stdio.h>

#include "connectors/objectstore/client.h"
#include "connectors/objectstore/xml.h"
#include "core/logger.h"
#include "schemas/json_scan.h"

#define MESSAGE_SIZE_MAX 200u

struct saying {
    char code[MR_CALL_CODE_SIZE];
    char message[MESSAGE_SIZE_MAX];
};

/* <Error><Code>…</Code><Message>…</Message></Error>, or <ErrorResponse><Error>…. */
static void read_xml(struct mr_bytes body, struct saying *saying)
{
    struct mr_xml xml;
    struct mr_buf text;
    enum mr_xml_token token;
    mr_buf_init(&text, 4096);
    mr__xml_init(&xml, body);
    while ((token = mr__xml_next(&xml)) != MR_XML_END && token != MR_XML_FAULT) {
        bool is_code = token == MR_XML_OPEN && mr__xml_is(&xml, "Code");
        bool is_message = token == MR_XML_OPEN && mr__xml_is(&xml, "Message");
        if (!is_code && !is_message) {
            continue;
        }
        mr_buf_clear(&text);
        if (mr__xml_content(&xml, &text) != MR_OK) {
            break;
        }
        mr_text_clean(is_code ? saying->code : saying->message,
                      is_code ? sizeof(saying->code) : sizeof(saying->message),
                      mr_buf_bytes(&text));
    }
    mr_buf_release(&text);
}

static void read_member(struct mr_bytes body, const char *name, char *to, size_t size)
{
    struct mr_bytes value;
    struct mr_buf text;
    if (!mr__json_find(body, name, &value) || value.size < 2 || value.data[0] != '"') {
        return;
    }
    mr_buf_init(&text, 4096);
    if (mr__json_unescape(mr_bytes(value.data + 1, value.size - 2), &text) == MR_OK) {
        mr_text_clean(to, size, mr_buf_bytes(&text));
    }
    mr_buf_release(&text);
}

/* {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "…"} */
static void read_json(struct mr_bytes body, struct saying *saying)
{
    char type[2 * MR_CALL_CODE_SIZE] = "";
    read_member(body, "__type", type, sizeof(type));
    read_member(body, "Message", saying->message, sizeof(saying->message));
    read_member(body, "message", saying->message, sizeof(saying->message));
    const char *hash = strrchr(type, '#');
    (void)snprintf(saying->code, sizeof(saying->code), "%.60s", hash == NULL ? type : hash + 1);
}

static bool is_one_of(const char *code, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (strcmp(code, *words) == 0) {
            return true;
        }
    }
    return false;
}

static const char *const wrong_key[] = {"InvalidAccessKeyId", "InvalidClientTokenId",
                                        "UnrecognizedClientException", "InvalidToken",
                                        "ExpiredToken", "MissingAuthenticationToken", NULL};
static const char *const wrong_region[] = {"AuthorizationHeaderMalformed", "PermanentRedirect",
                                           "TemporaryRedirect", "InvalidRegion",
                                           "IllegalLocationConstraintException", NULL};
static const char *const wrong_name[] = {"NoSuchBucket", "QueueDoesNotExist",
                                         "AWS.SimpleQueueService.NonExistentQueue",
                                         "NonExistentQueue", NULL};

/* What the operator can do about it; "" when there is nothing to say. */
static void advise(const struct mr_call *call, const struct mr_client_options *options,
                   const char *code, char *text, size_t size)
{
    text[0] = '\0';
    if (strcmp(code, "SignatureDoesNotMatch") == 0) {
        (void)snprintf(text, size, ": the secret key is wrong");
    } else if (is_one_of(code, wrong_key)) {
        (void)snprintf(text, size, ": the access key or session token is not known or expired");
    } else if (is_one_of(code, wrong_region) || call->status == 301 || call->status == 307) {
        (void)snprintf(text, size, ": the region is not %.40s%s%s, or the url not the bucket's",
                       options->region, call->region[0] == '\0' ? "" : " but ", call->region);
    } else if (is_one_of(code, wrong_name)) {
        (void)snprintf(text, size, ": there is no such %s at this url",
                       strcmp(options->service, "s3") == 0 ? "bucket" : "queue");
    } else if (strcmp(code, "RequestTimeTooSkewed") == 0) {
        (void)snprintf(text, size, ": the clock of this machine is wrong");
    } else if ((call->status == 401 || call->status == 403) &&
               options->credentials->access_key == NULL) {
        (void)snprintf(text, size, ": no access_key is given, nor AWS_ACCESS_KEY_ID set");
    } else if (call->status == 401 || call->status == 403) {
        (void)snprintf(text, size, ": these credentials may not do it");
    }
}

void mr__call_explain(const struct mr_call *call, const struct mr_client_options *options,
                      char *text, size_t size, char code[MR_CALL_CODE_SIZE])
{
    struct saying saying = {.code = "", .message = ""};
    char advice[200];
    if (call->status == 0) {
        code[0] = '\0';
        (void)snprintf(text, size, "%s", call->error);
        return;
    }
    struct mr_bytes body = mr_buf_bytes(&call->answer);
    while (body.size > 0 && (body.data[0] == ' ' || body.data[0] == '\n')) {
        body = mr_bytes(body.data + 1, body.size - 1);
    }
    if (body.size > 0 && body.data[0] == '{') {
        read_json(body, &saying);
    } else {
        read_xml(body, &saying);
    }
    advise(call, options, saying.code, advice, sizeof(advice));
    (void)snprintf(code, MR_CALL_CODE_SIZE, "%s", saying.code);
    (void)snprintf(text, size, "HTTP %u%s%s%s%s%s%s", call->status,
                   saying.code[0] == '\0' ? "" : " ", saying.code, advice,
                   saying.message[0] == '\0' ? "" : " (", saying.message,
                   saying.message[0] == '\0' ? "" : ")");
}

enum mr_call_end mr__call_end(const struct mr_call *call, const char *code)
{
    static const char *const busy[] = {"SlowDown", "ServiceUnavailable", "RequestThrottled",
                                       "ThrottlingException", "TooManyRequests", NULL};
    static const char *const passing[] = {"RequestTimeout", "RequestTimeTooSkewed",
                                          "InternalError", "OperationAborted", "ExpiredToken",
                                          "IncompleteBody", "BadDigest",
                                          "XAmzContentSHA256Mismatch", NULL};
    unsigned status = call->status;
    if (status == 0) {
        return call->is_sent ? MR_CALL_RETRY : MR_CALL_REFUSED;
    }
    if (status >= 200 && status < 300) {
        return MR_CALL_OK;
    }
    if (status == 429 || status == 503 || is_one_of(code, busy)) {
        return MR_CALL_REFUSED;
    }
    /* Wrong credentials, names and regions are mended by an operator, who wants to find the events
     * still on their way then, not among the dead. */
    bool is_mendable = status == 301 || status == 307 || status == 401 || status == 403 ||
                       status == 404 || status == 408 || status == 409 ||
                       is_one_of(code, passing) || is_one_of(code, wrong_key) ||
                       is_one_of(code, wrong_region) || is_one_of(code, wrong_name);
    return status >= 500 || status < 200 || is_mendable ? MR_CALL_RETRY : MR_CALL_NEVER;
}
