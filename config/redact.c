#include "config/redact.h"

size_t mr__reference_size(struct mr_bytes text)
{
    if (!mr_bytes_starts(text, MR_BYTES_LITERAL("${"))) {
        return 0;
    }
    for (size_t i = 2; i < text.size; i++) {
        if (text.data[i] == '}') {
            return i + 1;
        }
    }
    return 0;
}

/* A step over one byte, or over a whole reference: what is inside one is no syntax of the URL. */
static size_t step(struct mr_bytes text, size_t at)
{
    size_t n = mr__reference_size(mr_bytes(text.data + at, text.size - at));
    return at + (n > 0 ? n : 1);
}

static bool is_only_references(struct mr_bytes text)
{
    size_t at = 0;
    while (at < text.size) {
        size_t n = mr__reference_size(mr_bytes(text.data + at, text.size - at));
        if (n == 0) {
            return false;
        }
        at += n;
    }
    return true;
}

enum mr_status mr__redact_url(struct mr_bytes text, struct mr_buf *out)
{
    size_t at = 0;
    while (at < text.size && !mr_bytes_starts(mr_bytes(text.data + at, text.size - at),
                                              MR_BYTES_LITERAL("://"))) {
        at = step(text, at);
    }
    size_t from = at < text.size ? at + 3 : 0;
    size_t colon = 0;
    size_t sign = 0; /* the last @ of the authority */
    for (at = from; at < text.size && strchr("/?#", text.data[at]) == NULL; at = step(text, at)) {
        if (text.data[at] == ':' && colon == 0) {
            colon = at;
        } else if (text.data[at] == '@') {
            sign = at;
        }
    }
    if (sign == 0 || colon == 0 || colon > sign ||
        is_only_references(mr_bytes(text.data + colon + 1, sign - colon - 1))) {
        return mr_buf_append_json(out, text);
    }
    struct mr_buf clean;
    mr_buf_init(&clean, text.size + 8);
    enum mr_status r = mr_buf_append(&clean, text.data, colon + 1);
    if (r == MR_OK) {
        r = mr_buf_append_text(&clean, "***");
    }
    if (r == MR_OK) {
        r = mr_buf_append(&clean, text.data + sign, text.size - sign);
    }
    if (r == MR_OK) {
        r = mr_buf_append_json(out, mr_buf_bytes(&clean));
    }
    mr_buf_release(&clean);
    return r;
}

static bool holds_word(const char *key, const char *word)
{
    size_t n = strlen(word);
    size_t size = strlen(key);
    for (size_t i = 0; i + n <= size; i++) {
        if (mr_bytes_equal_nocase(mr_bytes(key + i, n), mr_bytes(word, n))) {
            return true;
        }
    }
    return false;
}

bool mr_redact_key(const char *key)
{
    static const char *const words[] = {"password", "passwd", "passphrase", "secret",   "token",
                                        "auth",     "cookie", "api-key",    "api_key",  "apikey",
                                        "signature", "private", "credential"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(words); i++) {
        if (holds_word(key, words[i])) {
            return true;
        }
    }
    return false;
}
