/* Owns URLs: taking one apart, strictly, so that what is connected to is what was written. No
 * message repeats any part of the text: a password may stand anywhere in a broken URL. */
#include "config/option.h"

#include "core/alloc.h"

static bool is_alpha(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static struct mr_bytes slice(struct mr_bytes text, size_t from, size_t to)
{
    return mr_bytes(text.data + from, to - from);
}

/* Position of the first byte of @p set at or behind @p from, or the size. */
static size_t find_any(struct mr_bytes text, size_t from, const char *set)
{
    while (from < text.size && strchr(set, text.data[from]) == NULL) {
        from++;
    }
    return from;
}

static char *text_of(struct mr_bytes bytes)
{
    return mr_strndup(bytes.size == 0 ? "" : (const char *)bytes.data, bytes.size);
}

static enum mr_status read_scheme(struct mr_bytes text, size_t *position, struct mr_url *url,
                                  struct mr_problem *problem)
{
    size_t n = 0;
    while (n < text.size && (is_alpha(text.data[n]) ||
                             (n > 0 && (is_digit(text.data[n]) || strchr("+-.", text.data[n]))))) {
        n++;
    }
    if (n == 0 || !mr_bytes_starts(slice(text, n, text.size), MR_BYTES_LITERAL("://"))) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "is no URL: write scheme://host[:port]/path");
    }
    url->scheme = text_of(slice(text, 0, n));
    if (url->scheme == NULL) {
        return MR_E_NOMEM;
    }
    for (char *c = url->scheme; *c != '\0'; c++) {
        if (*c >= 'A' && *c <= 'Z') {
            *c = (char)(*c + ('a' - 'A'));
        }
    }
    *position = n + 3;
    return MR_OK;
}

static int hex_value(uint8_t c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum mr_status decode_percent(struct mr_bytes text, struct mr_buf *out,
                                     struct mr_problem *problem)
{
    enum mr_status r = MR_OK;
    for (size_t i = 0; i < text.size && r == MR_OK; i++) {
        uint8_t c = text.data[i];
        if (c == '%') {
            int high = i + 2 < text.size ? hex_value(text.data[i + 1]) : -1;
            int low = i + 2 < text.size ? hex_value(text.data[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0) {
                return mr_problem_set(problem, MR_E_INVALID,
                                      "has a bad %%-escape in its user or password (a %% itself "
                                      "is written %%25)");
            }
            c = (uint8_t)(high * 16 + low);
            i += 2;
        }
        r = mr_buf_append_byte(out, c);
    }
    return r;
}

static enum mr_status read_user(struct mr_bytes info, struct mr_url *url,
                                struct mr_problem *problem)
{
    size_t colon = find_any(info, 0, ":");
    struct mr_buf buf;
    mr_buf_init(&buf, MR_KIB * 64);
    enum mr_status r = decode_percent(slice(info, 0, colon), &buf, problem);
    if (r == MR_OK) {
        url->user = mr_buf_take_text(&buf);
        r = url->user == NULL ? MR_E_NOMEM : MR_OK;
    }
    if (r == MR_OK && colon < info.size) {
        r = decode_percent(slice(info, colon + 1, info.size), &buf, problem);
        if (r == MR_OK) {
            url->password = mr_secret_create(mr_buf_bytes(&buf));
            r = url->password == NULL ? MR_E_NOMEM : MR_OK;
        }
        if (buf.size > 0) {
            explicit_bzero(buf.data, buf.size);
        }
    }
    mr_buf_release(&buf);
    return r == MR_E_TOO_BIG ? mr_problem_set(problem, r, "has too long a password") : r;
}

static bool is_host(struct mr_bytes host, bool bracketed)
{
    for (size_t i = 0; i < host.size; i++) {
        uint8_t c = host.data[i];
        bool ok = bracketed ? hex_value(c) >= 0 || c == ':' || c == '.'
                            : is_alpha(c) || is_digit(c) || c == '.' || c == '-' || c == '_';
        if (!ok) {
            return false;
        }
    }
    return host.size > 0;
}

static enum mr_status read_host(struct mr_bytes authority, struct mr_url *url,
                                struct mr_problem *problem)
{
    bool bracketed = authority.size > 0 && authority.data[0] == '[';
    size_t from = bracketed ? 1 : 0;
    size_t to = find_any(authority, from, bracketed ? "]" : ":");
    if ((bracketed && to == authority.size) || !is_host(slice(authority, from, to), bracketed)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "has no valid host (letters, digits, `.`, `-`, `_`; an IPv6 address "
                              "stands in brackets)");
    }
    url->host = text_of(slice(authority, from, to));
    if (url->host == NULL) {
        return MR_E_NOMEM;
    }
    size_t rest = bracketed ? to + 1 : to;
    if (rest == authority.size) {
        return MR_OK;
    }
    uint64_t port = 0;
    if (authority.data[rest] != ':' ||
        !mr_parse_u64(slice(authority, rest + 1, authority.size), &port) || port == 0 ||
        port > UINT16_MAX) {
        return mr_problem_set(problem, MR_E_INVALID, "has no valid port (1 to 65535)");
    }
    url->port = (uint16_t)port;
    return MR_OK;
}

/* scheme://host[:port]path: the text that may be printed. */
static enum mr_status build_text(struct mr_url *url)
{
    struct mr_buf buf;
    mr_buf_init(&buf, SIZE_MAX / 2);
    bool six = strchr(url->host, ':') != NULL;
    enum mr_status r = mr_buf_printf(&buf, "%s://%s%s%s", url->scheme, six ? "[" : "", url->host,
                                     six ? "]" : "");
    if (r == MR_OK && url->port != 0) {
        r = mr_buf_printf(&buf, ":%u", (unsigned)url->port);
    }
    if (r == MR_OK) {
        r = mr_buf_append_text(&buf, url->path);
    }
    if (r == MR_OK) {
        url->text = mr_buf_take_text(&buf);
        r = url->text == NULL ? MR_E_NOMEM : MR_OK;
    }
    mr_buf_release(&buf);
    return r;
}

static enum mr_status check_bytes(struct mr_bytes text, struct mr_problem *problem)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] <= 0x20 || text.data[i] >= 0x7F || strchr("\"<>\\^`", text.data[i])) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "holds a blank or another character that no URL may hold: "
                                  "percent-encode it");
        }
    }
    return MR_OK;
}

static enum mr_status read_url(struct mr_bytes text, struct mr_url *url,
                               struct mr_problem *problem)
{
    size_t at = 0;
    enum mr_status r = check_bytes(text, problem);
    if (r == MR_OK) {
        r = read_scheme(text, &at, url, problem);
    }
    if (r != MR_OK) {
        return r;
    }
    size_t end = find_any(text, at, "/?#");
    if (find_any(text, end, "#") < text.size) {
        return mr_problem_set(problem, MR_E_INVALID, "has a fragment (#…), which is never sent");
    }
    size_t host_at = at;
    for (size_t i = at; i < end; i++) {
        if (text.data[i] == '@') {
            host_at = i + 1;
        }
    }
    if (host_at > at) {
        r = read_user(slice(text, at, host_at - 1), url, problem);
    }
    if (r == MR_OK) {
        r = read_host(slice(text, host_at, end), url, problem);
    }
    if (r == MR_OK) {
        url->path = text_of(slice(text, end, text.size));
        r = url->path == NULL ? MR_E_NOMEM : build_text(url);
    }
    return r;
}

enum mr_status mr_parse_url(struct mr_bytes text, struct mr_url **ret_url,
                            struct mr_problem *problem)
{
    struct mr_url *url = mr_calloc(1, sizeof(*url));
    if (url == NULL) {
        return MR_E_NOMEM;
    }
    enum mr_status r = read_url(text, url, problem);
    if (r == MR_OK) {
        *ret_url = url;
    } else {
        mr_url_destroy(url);
    }
    return r;
}

void mr_url_destroy(struct mr_url *url)
{
    if (url != NULL) {
        mr_free(url->text);
        mr_free(url->scheme);
        mr_free(url->host);
        mr_free(url->path);
        mr_free(url->user);
        mr_secret_destroy(url->password);
        mr_free(url);
    }
}
