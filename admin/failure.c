#include "admin/failure.h"

#include <stdio.h>
#include <string.h>

#include "core/hash.h"
#include "core/logger.h"

#define HEX_MIN 8u /* a shorter run with letters in it is taken for a word */

static const char *const extra_classes[] = {"rejected", "rule"};

const char *mr_failure_class(const struct mr_result *result)
{
    if (result->verdict == MR_VERDICT_NONE || result->verdict >= MR_VERDICT_MAX) {
        return "rule";
    }
    if (result->verdict == MR_VERDICT_DEAD && result->attempts == 0) {
        return "rejected"; /* no handler has seen it */
    }
    return mr_verdict_text((enum mr_verdict)result->verdict);
}

bool mr_failure_class_exists(const char *name)
{
    static const enum mr_verdict verdicts[] = {MR_VERDICT_DEAD, MR_VERDICT_RETRY,
                                               MR_VERDICT_TIMEOUT, MR_VERDICT_CRASH,
                                               MR_VERDICT_REFUSED};
    for (size_t i = 0; i < MR_ARRAY_COUNT(verdicts); i++) {
        if (strcmp(name, mr_verdict_text(verdicts[i])) == 0) {
            return true;
        }
    }
    return strcmp(name, extra_classes[0]) == 0 || strcmp(name, extra_classes[1]) == 0;
}

const char *mr_failure_classes(void)
{
    return "dead, retry, timeout, crash, refused, rejected, rule";
}

/* --- normalising ------------------------------------------------------------------------------ */

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(uint8_t c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_letter(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
}

static bool is_word(uint8_t c)
{
    return is_letter(c) || is_digit(c);
}

/* How much of @p text at @p at is one hex number or UUID: hex digits and dashes, at least eight,
 * a digit among them, and no letter on either side. 0: none. */
static size_t hex_run(struct mr_bytes text, size_t at)
{
    if (at > 0 && is_word(text.data[at - 1])) {
        return 0;
    }
    size_t end = at;
    bool digit = false;
    while (end < text.size &&
           (is_hex(text.data[end]) || (text.data[end] == '-' && end > at &&
                                       end + 1 < text.size && is_hex(text.data[end + 1])))) {
        digit = digit || is_digit(text.data[end]);
        end++;
    }
    bool whole = end == text.size || !is_letter(text.data[end]);
    return digit && whole && end - at >= HEX_MIN ? end - at : 0;
}

static size_t digit_run(struct mr_bytes text, size_t at)
{
    size_t end = at;
    if (at + 2 < text.size && text.data[at] == '0' && text.data[at + 1] == 'x' &&
        is_hex(text.data[at + 2])) {
        for (end = at + 2; end < text.size && is_hex(text.data[end]); end++) {
        }
        return end - at;
    }
    while (end < text.size && is_digit(text.data[end])) {
        end++;
    }
    return end - at;
}

/* What differs from event to event and begins at @p at. 0: nothing. */
static size_t variable_run(struct mr_bytes text, size_t at, struct mr_bytes id)
{
    struct mr_bytes rest = mr_bytes(text.data + at, text.size - at);
    if (id.size > 0 && mr_bytes_starts(rest, id) && (at == 0 || !is_word(text.data[at - 1])) &&
        (rest.size == id.size || !is_word(rest.data[id.size]))) {
        return id.size;
    }
    size_t run = hex_run(text, at);
    return run > 0 ? run : digit_run(text, at);
}

static void normalise(struct mr_bytes text, struct mr_bytes id, char to[MR_FAILURE_TEXT_SIZE])
{
    size_t size = 0;
    size_t at = 0;
    while (at < text.size && size + 1 < MR_FAILURE_TEXT_SIZE) {
        size_t run = variable_run(text, at, id);
        if (run > 0) {
            /* "4.7" and "12,5" are one number each, like "4". */
            bool more = size >= 2 && to[size - 2] == '#' &&
                        (to[size - 1] == '.' || to[size - 1] == ',');
            size -= more;
            if (!more) {
                to[size++] = '#';
            }
            at += run;
            continue;
        }
        uint8_t c = text.data[at++];
        if (c > ' ') {
            to[size++] = (char)c;
        } else if (size > 0 && to[size - 1] != ' ') {
            to[size++] = ' ';
        }
    }
    bool cut = at < text.size; /* perhaps within a character: that goes as a whole */
    while (cut && size > 0 && ((uint8_t)to[size - 1] & 0xc0) == 0x80) {
        size--;
    }
    if (cut && size > 0 && (uint8_t)to[size - 1] >= 0xc0) {
        size--;
    }
    if (size > 0 && to[size - 1] == ' ') {
        size--;
    }
    to[size] = '\0';
}

void mr_failure_normalise(const struct mr_result *result, struct mr_bytes id,
                          char to[MR_FAILURE_TEXT_SIZE])
{
    if (result->error.size > 0) {
        normalise(result->error, id, to);
    } else if (result->exit_signal != 0) {
        (void)snprintf(to, MR_FAILURE_TEXT_SIZE, "signal %d", (int)result->exit_signal);
    } else if (result->exit_code > 0) {
        (void)snprintf(to, MR_FAILURE_TEXT_SIZE, "exit status %d", (int)result->exit_code);
    } else {
        normalise(result->reason, id, to);
    }
}

uint32_t mr_failure_group(const char *class, const char *text)
{
    uint64_t h = MR_HASH_BEGIN;
    for (const char *at = class; *at != '\0'; at++) {
        h = mr_hash_step(h, (uint8_t)*at);
    }
    h = mr_hash_step(h, 0);
    for (const char *at = text; *at != '\0'; at++) {
        h = mr_hash_step(h, (uint8_t)*at);
    }
    h = mr_hash_end(h);
    uint32_t group = (uint32_t)(h ^ h >> 32);
    return group == 0 ? 1 : group;
}
