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

/* Walking a small JSON document, for the cold paths: each call looks at the whole value again. */

/** Begins to walk @p text, one JSON value that opens with @p bracket ('{' or '[').
 * @return false: it is something else */
bool mr__json_open(struct mr__scan *s, struct mr_bytes text, uint8_t bracket);
/** The next member of an object, or element of an array (@p ret_name NULL). @return false at the
 * end */
bool mr__json_next(struct mr__scan *s, struct mr__json_string *ret_name,
                   struct mr_bytes *ret_value);
/** The text of the member @p name of the object @p text; the first, names compared as written.
 * @return false: no JSON object, or no such member; @p ret_value untouched */
bool mr__json_find(struct mr_bytes text, const char *name, struct mr_bytes *ret_value);

#endif
