/* A cursor over JSON text that nobody validated: it may be cut, or not JSON at all. Nothing here
 * recurses or allocates, every loop moves forward, and what does not fit ends in false. Private to
 * router/. */
#ifndef MR_ROUTER_JSON_H
#define MR_ROUTER_JSON_H

#include "core/bytes.h"

struct mr__cursor {
    const uint8_t *at;
    const uint8_t *end;
};

static inline void mr__cursor_blanks(struct mr__cursor *c)
{
    while (c->at < c->end &&
           (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r')) {
        c->at++;
    }
}

/** Past blanks and then @p byte. @return false: something else stands there */
static inline bool mr__cursor_byte(struct mr__cursor *c, uint8_t byte)
{
    mr__cursor_blanks(c);
    if (c->at == c->end || *c->at != byte) {
        return false;
    }
    c->at++;
    return true;
}

/** The raw content of the string at the cursor, escapes and all. */
bool mr__cursor_string(struct mr__cursor *c, struct mr_bytes *ret_raw);
/** A number or a word. */
struct mr_bytes mr__cursor_word(struct mr__cursor *c);
/** Past one value. Brackets are counted, not matched in kind: wrong JSON only gives a wrong end. */
bool mr__cursor_skip(struct mr__cursor *c);
/** The next character (or, outside escapes, byte) of a raw string; its size, 0 at a bad escape.
 * The cursor must not be at its end. */
size_t mr__cursor_char(struct mr__cursor *c, uint8_t to[4]);
/** Whether the content of the string @p raw, escapes resolved, is @p text. */
bool mr__cursor_string_is(struct mr_bytes raw, struct mr_bytes text);

#endif
