#include "connectors/http/handshake.h"

#include <stddef.h>
#include <stdio.h>

#include "core/clock.h"

enum {
    ORIGINS_MAX = 64,
    RATE_MAX = 1000 * 1000 * 1000,
    BURSTS_A_MINUTE = 10, /* a bucket holds a tenth of a minute's tokens, one at least */
};

static const char *const GRANTS[] = {"answer", "callback", NULL};

#define AT(field) offsetof(struct mr_http_handshake_options, field)
const struct mr_option mr_http_handshake_option_table[] = {
    {.name = "origins",
     .type = MR_OPTION_STRINGS,
     .at = AT(origins),
     .help = "DNS names of the senders that may deliver, or `*`; turns the handshake on."},
    {.name = "rate",
     .type = MR_OPTION_INT,
     .at = AT(rate),
     .default_text = "0",
     .max = RATE_MAX,
     .unit = "requests a minute",
     .help = "What each origin may send, told in the handshake; above it requests get 429. "
             "0: any."},
    {.name = "grant",
     .type = MR_OPTION_ENUM,
     .at = AT(grant),
     .default_text = "answer",
     .words = GRANTS,
     .help = "Consent in the answer, or by calling the sender's callback URL, which must be https "
             "on a host that is, or lies below, one of `origins`."},
    MR_OPTION_END,
};
#undef AT

static bool is_any(const char *origin)
{
    return strcmp(origin, "*") == 0;
}

static bool is_dns_name(struct mr_bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        bool good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                    c == '-' || c == '_' || c == '.';
        if (!good) {
            return false;
        }
    }
    return text.size > 0 && text.size <= MR_HTTP_ORIGIN_SIZE_MAX;
}

enum mr_status mr_http_handshake_check(const struct mr_http_handshake_options *options,
                                       struct mr_problem *problem)
{
    if (options->origins.count == 0 &&
        (options->rate != 0 || options->grant != MR_HTTP_GRANT_ANSWER)) {
        return mr_problem_set(problem, MR_E_INVALID, "`handshake` needs `origins`");
    }
    if (options->origins.count > ORIGINS_MAX) {
        return mr_problem_set(problem, MR_E_INVALID, "at most %d `origins`", ORIGINS_MAX);
    }
    for (uint32_t i = 0; i < options->origins.count; i++) {
        const char *origin = options->origins.items[i];
        if (!is_any(origin) && !is_dns_name(mr_bytes_of(origin))) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "the origin %.100s is neither a DNS name nor *", origin);
        }
        if (is_any(origin) && options->grant == MR_HTTP_GRANT_CALLBACK) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "`grant: callback` calls only hosts of `origins`: name them");
        }
    }
    return MR_OK;
}

static struct mr_bytes find_header(const struct mr_field *headers, uint32_t header_count,
                                   const char *name)
{
    for (uint32_t i = 0; i < header_count; i++) {
        if (mr_bytes_equal_nocase(headers[i].name, mr_bytes_of(name))) {
            struct mr_bytes value = headers[i].value;
            while (value.size > 0 && value.data[value.size - 1] == ' ') {
                value.size--;
            }
            while (value.size > 0 && value.data[0] == ' ') {
                value = mr_bytes(value.data + 1, value.size - 1);
            }
            return value;
        }
    }
    return (struct mr_bytes){0};
}

int mr_http_handshake_origin(const struct mr_http_handshake_options *options,
                             struct mr_bytes origin)
{
    if (!is_dns_name(origin)) {
        return -1;
    }
    for (uint32_t i = 0; i < options->origins.count; i++) {
        const char *known = options->origins.items[i];
        if (is_any(known) || mr_bytes_equal_nocase(origin, mr_bytes_of(known))) {
            return (int)i;
        }
    }
    return -1;
}

/* Whether @p url is https on a host that is @p origin or ends in "." and it. User information is
 * refused, because it is what stands before the host in a URL made to be misread. */
static bool may_call(struct mr_bytes url, struct mr_bytes origin)
{
    struct mr_bytes scheme = MR_BYTES_LITERAL("https://");
    if (url.size <= scheme.size || url.size > 2048 ||
        !mr_bytes_equal_nocase(mr_bytes(url.data, scheme.size), scheme)) {
        return false;
    }
    struct mr_bytes rest = mr_bytes(url.data + scheme.size, url.size - scheme.size);
    size_t size = 0;
    while (size < rest.size && strchr("/?#:", rest.data[size]) == NULL) {
        size++;
    }
    struct mr_bytes host = mr_bytes(rest.data, size);
    for (size_t i = size; i < rest.size && strchr("/?#", rest.data[i]) == NULL; i++) {
        if (i > size && (rest.data[i] < '0' || rest.data[i] > '9')) {
            return false; /* what follows a colon is a port */
        }
    }
    for (size_t i = 0; i < rest.size; i++) {
        if (rest.data[i] <= ' ' || rest.data[i] > '~' || rest.data[i] == '\\') {
            return false;
        }
    }
    if (!is_dns_name(host) || host.size < origin.size) {
        return false;
    }
    struct mr_bytes end = mr_bytes(host.data + host.size - origin.size, origin.size);
    return mr_bytes_equal_nocase(end, origin) &&
           (host.size == origin.size || host.data[host.size - origin.size - 1] == '.');
}

static void add_header(struct mr_http_consent *consent, const char *name, const char *value)
{
    consent->headers[consent->header_count++] =
        (struct mr_field){mr_bytes_of(name), mr_bytes_of(value)};
}

void mr_http_handshake_answer(const struct mr_http_handshake_options *options,
                              const struct mr_field *headers, uint32_t header_count,
                              struct mr_http_consent *ret_consent)
{
    struct mr_http_consent *c = ret_consent;
    *c = (struct mr_http_consent){.status = 200};
    struct mr_bytes origin = find_header(headers, header_count, "webhook-request-origin");
    int at = mr_http_handshake_origin(options, origin);
    if (at < 0) {
        c->status = origin.size == 0 ? 400 : 403;
        c->is_refused = true;
        return;
    }
    c->origin = options->origins.items[at];
    (void)snprintf(c->rate, sizeof(c->rate), "%lld", (long long)options->rate); /* fits */
    if (options->rate == 0) {
        (void)snprintf(c->rate, sizeof(c->rate), "*"); /* fits */
    }
    add_header(c, "Allow", "POST, OPTIONS");
    if (options->grant == MR_HTTP_GRANT_CALLBACK) {
        struct mr_bytes callback = find_header(headers, header_count, "webhook-request-callback");
        if (may_call(callback, mr_bytes_of(c->origin))) {
            c->callback = callback;
        } else {
            c->is_refused = true;
        }
        return;
    }
    add_header(c, "WebHook-Allowed-Origin", c->origin);
    add_header(c, "WebHook-Allowed-Rate", c->rate);
}

bool mr_http_handshake_granted(struct mr_bytes origin, const struct mr_field *headers,
                               uint32_t header_count, uint64_t *ret_rate)
{
    struct mr_bytes allowed = find_header(headers, header_count, "webhook-allowed-origin");
    struct mr_bytes rate = find_header(headers, header_count, "webhook-allowed-rate");
    uint64_t number = 0;
    if (!mr_bytes_equal(allowed, MR_BYTES_LITERAL("*")) &&
        (allowed.size == 0 || !mr_bytes_equal_nocase(allowed, origin))) {
        return false;
    }
    if (rate.size > 0 && !mr_bytes_equal(rate, MR_BYTES_LITERAL("*")) &&
        (!mr_parse_u64(rate, &number) || number == 0)) {
        number = 1; /* a limit we cannot read is no permission to flood */
    }
    *ret_rate = number;
    return true;
}

/* `free_ns` is time not yet spent: it grows with the clock up to what the bucket holds, and each
 * request costs a minute divided by the rate. */
uint64_t mr_http_pace_take(struct mr_http_pace *pace, uint64_t now_ns)
{
    if (pace->rate == 0) {
        return 0;
    }
    uint64_t cost_ns = 60 * MR_SECOND / pace->rate;
    uint64_t full_ns = 60 * MR_SECOND / BURSTS_A_MINUTE;
    full_ns = full_ns < cost_ns ? cost_ns : full_ns;
    uint64_t passed_ns = pace->last_ns == 0 ? full_ns : now_ns - pace->last_ns;
    pace->free_ns = full_ns - pace->free_ns > passed_ns ? pace->free_ns + passed_ns : full_ns;
    pace->last_ns = now_ns;
    if (pace->free_ns < cost_ns) {
        return cost_ns - pace->free_ns;
    }
    pace->free_ns -= cost_ns;
    return 0;
}
