/* What the option table of the sink and the worker cannot say. */
#include <strings.h>

#include "connectors/http/client.h"
#include "connectors/http/exchange.h"
#include "connectors/http/handshake.h"
#include "connectors/http/signature.h"

static bool is_token(const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        bool alphanumeric = (*c >= '0' && *c <= '9') || (*c >= 'A' && *c <= 'Z') ||
                            (*c >= 'a' && *c <= 'z');
        if (!alphanumeric && strchr("!#$%&'*+-.^_`|~", *c) == NULL) {
            return false;
        }
    }
    return text[0] != '\0';
}

static bool is_value(struct mr_bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        if ((text.data[i] < 0x20 && text.data[i] != '\t') || text.data[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

static bool is_ours(const char *name)
{
    static const char *const ours[] = {
        "Host",       "Content-Length",  "Transfer-Encoding", "Connection",        "Content-Type",
        "Expect",     "TE",              "Upgrade",           "Prefer",            "Trailer",
        "User-Agent", "Accept-Encoding", "Idempotency-Key",   "Millrace-Delivery", "traceparent",
        "Millrace-Attempt", "webhook-id", "webhook-timestamp", "webhook-signature",
        "WebHook-Request-Origin",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(ours); i++) {
        if (strcasecmp(ours[i], name) == 0) {
            return true;
        }
    }
    return strncasecmp(name, "ce-", 3) == 0;
}

static enum mr_status check_sign_key(const struct mr_secret *secret, struct mr_problem *problem)
{
    struct mr_secret *key = NULL;
    if (secret == NULL) {
        return MR_OK;
    }
    if (mr_secret_use(secret).size == 0) {
        return mr_problem_set(problem, MR_E_INVALID, "a secret of `sign` is empty");
    }
    enum mr_status r = mr_http_standard_key(secret, &key, problem);
    mr_secret_destroy(key);
    return r;
}

enum mr_status mr_http_client_check(const void *options, struct mr_problem *problem)
{
    const struct mr_http_client_options *o = options;
    if (o->url == NULL || o->url->host == NULL || o->url->host[0] == '\0' ||
        (strcmp(o->url->scheme, "http") != 0 && strcmp(o->url->scheme, "https") != 0)) {
        return mr_problem_set(problem, MR_E_INVALID, "`url` must be http:// or https://");
    }
    for (uint32_t i = 0; i < o->headers.keys.count; i++) {
        const char *name = o->headers.keys.items[i];
        if (!is_token(name)) {
            return mr_problem_set(problem, MR_E_INVALID, "%.64s is no header name", name);
        }
        if (is_ours(name)) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "the header %.64s is set by Millrace itself", name);
        }
        if (!is_value(mr_bytes_of(o->headers.values.items[i]))) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "the value of the header %.64s holds control characters", name);
        }
    }
    if (o->headers.keys.count > MR_HTTP_LINES_MAX / 4) {
        return mr_problem_set(problem, MR_E_INVALID, "at most %d `headers`",
                              MR_HTTP_LINES_MAX / 4);
    }
    if (o->sign.secret == NULL && o->sign.previous_secret != NULL) {
        return mr_problem_set(problem, MR_E_INVALID, "`sign` needs a `secret`");
    }
    enum mr_status r = check_sign_key(o->sign.secret, problem);
    r = r == MR_OK ? check_sign_key(o->sign.previous_secret, problem) : r;
    if (r != MR_OK) {
        return r;
    }
    if (o->origin != NULL &&
        (!is_token(o->origin) || strlen(o->origin) > MR_HTTP_ORIGIN_SIZE_MAX)) {
        return mr_problem_set(problem, MR_E_INVALID, "the `origin` %.64s is no DNS name",
                              o->origin);
    }
    if (o->health.path != NULL &&
        (o->health.path[0] != '/' || !is_value(mr_bytes_of(o->health.path)) ||
         strpbrk(o->health.path, " \t#") != NULL)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "`health.path` %.64s must begin with a slash and have no # or blank",
                              o->health.path);
    }
    if (o->token != NULL && !is_value(mr_secret_use(o->token))) {
        return mr_problem_set(problem, MR_E_INVALID, "`token` holds control characters");
    }
    if (o->token != NULL && o->url->user != NULL) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "give either `token` or a user in `url`, not both");
    }
    return MR_OK;
}
