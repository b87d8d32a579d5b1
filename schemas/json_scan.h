/* The lexer of the JSON format: a cursor over borrowed text, one pass, no memory, no recursion.
 * Shared inside schemas/. Every call returns false at the first fault and leaves the cursor on it
 * with s->fault set (a static text); nothing may be called on the cursor after that. */
#ifndef MR_SCHEMAS_JSON_SCAN_H
#define MR_SCHEMAS_JSON_SCAN_H

#include <stdbool.h>

#include "core/bytes.h"

struct mr__scan {
    const uint8_t *start; /* borrowed */
    const uint8_t *at;
    const uint8_t *end;
    const char *fault;
};

/* A string between its quotes. */
struct mr__json_string {
    struct mr_bytes raw; /* borrowed from the text */
    bool escaped;        /* raw holds backslashes: mr__json_unescape() it */
};

static inline void mr__scan_init(struct mr__scan *s, struct mr_bytes text)
{
    const uint8_t *at = text.data == NULL ? (const uint8_t *)"" : text.data;
    *s = (struct mr__scan){at, at, at + text.size, NULL};
}

bool mr__scan_fail(struct mr__scan *s, const char *fault);
void mr__scan_space_slow(struct mr__scan *s);

static inline void mr__scan_space(struct mr__scan *s)
{
    if (s->at < s->end && *s->at <= ' ') {
        mr__scan_space_slow(s);
    }
}

/** The byte under the cursor, 0 at the end (0 is legal nowhere outside a string, nor inside). */
static inline uint8_t mr__scan_peek(const struct mr__scan *s)
{
    return s->at < s->end ? *s->at : 0;
}

/** A string; the cursor stands on its opening quote, then behind the closing one. */
bool mr__scan_string(struct mr__scan *s, struct mr__json_string *ret_string);
/** A string, a colon, and the space around it: what precedes a member's value. */
bool mr__scan_name(struct mr__scan *s, struct mr__json_string *ret_name);
/** A number, its text in @p ret_text. */
bool mr__scan_number(struct mr__scan *s, struct mr_bytes *ret_text);
/** true, false or null, its text in @p ret_text. */
bool mr__scan_literal(struct mr__scan *s, struct mr_bytes *ret_text);
/** Any value, at most MR_JSON_DEPTH_MAX deep; its text in @p ret_text. */
bool mr__scan_value(struct mr__scan *s, struct mr_bytes *ret_text);

/** Appends the characters @p raw stands for; surrogate pairs become one character.
 * @return MR_E_INVALID: a lone surrogate; MR_E_TOO_BIG, MR_E_NOMEM of the buffer */
MR_MUST_USE enum mr_status mr__json_unescape(struct mr_bytes raw, struct mr_buf *out);

/** Whether @p text is a JSON object with a member "specversion": it says it is a CloudEvent, so it
 * has to be a valid one and is not wrapped as something else. Cold. */
bool mr__json_claims_event(struct mr_bytes text);

#endif
