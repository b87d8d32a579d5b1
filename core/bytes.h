/* Byte strings: a borrowed slice (struct mr_bytes) and a bounded growing buffer (struct mr_buf).
 *
 * A slice never owns; it may hold NULs and need not be terminated. A buffer is born with its
 * maximum: growing past it is MR_E_TOO_BIG, and the buffer stays as it was. Not thread-safe.
 * The little-endian put/get calls are the only way integers reach the log. */
#ifndef MR_CORE_BYTES_H
#define MR_CORE_BYTES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/status.h"

struct mr_bytes {
    const uint8_t *data; /* borrowed */
    size_t size;
};

struct mr_buf {
    uint8_t *data; /* owned; NULL while empty */
    size_t size;
    size_t capacity;
    size_t size_max;
};

#define MR_BYTES_LITERAL(text) ((struct mr_bytes){(const uint8_t *)("" text), sizeof(text) - 1})

static inline struct mr_bytes mr_bytes(const void *data, size_t size)
{
    return (struct mr_bytes){data, size};
}

static inline struct mr_bytes mr_bytes_of(const char *text)
{
    return (struct mr_bytes){(const uint8_t *)text, text == NULL ? 0 : strlen(text)};
}

bool mr_bytes_equal(struct mr_bytes a, struct mr_bytes b);
/** ASCII case-insensitive. */
bool mr_bytes_equal_nocase(struct mr_bytes a, struct mr_bytes b);
bool mr_bytes_starts(struct mr_bytes text, struct mr_bytes prefix);
bool mr_bytes_ends(struct mr_bytes text, struct mr_bytes suffix);
/** Without blanks and tabs at both ends. */
struct mr_bytes mr_bytes_trim(struct mr_bytes text);
/** memcmp order, shorter first on a tie. */
int mr_bytes_compare(struct mr_bytes a, struct mr_bytes b);
/** Whether all of it is well-formed UTF-8 (no overlong forms, no surrogates, at most U+10FFFF). */
bool mr_bytes_is_utf8(struct mr_bytes text);

/** An empty buffer that may grow to @p size_max bytes; allocates nothing. */
void mr_buf_init(struct mr_buf *buf, size_t size_max);
/** Frees; the buffer is empty and reusable with the same maximum. NULL-safe. */
void mr_buf_release(struct mr_buf *buf);
/** Empties, keeps the memory. */
void mr_buf_clear(struct mr_buf *buf);
/** Room for @p more further bytes. @return MR_E_TOO_BIG, MR_E_NOMEM: unchanged */
MR_MUST_USE enum mr_status mr_buf_reserve(struct mr_buf *buf, size_t more);
MR_MUST_USE enum mr_status mr_buf_append(struct mr_buf *buf, const void *data, size_t size);
MR_MUST_USE enum mr_status mr_buf_append_bytes(struct mr_buf *buf, struct mr_bytes bytes);
MR_MUST_USE enum mr_status mr_buf_append_text(struct mr_buf *buf, const char *text);
MR_MUST_USE enum mr_status mr_buf_append_byte(struct mr_buf *buf, uint8_t byte);
MR_MUST_USE enum mr_status mr_buf_printf(struct mr_buf *buf, const char *format, ...)
    MR_PRINTF(2, 3);
/** Appends @p text as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
MR_MUST_USE enum mr_status mr_buf_append_json(struct mr_buf *buf, struct mr_bytes text);
/** Appends RFC 4648 base64 with padding. */
MR_MUST_USE enum mr_status mr_buf_append_base64(struct mr_buf *buf, struct mr_bytes data);
/** Appends the bytes that @p text stands for; strict (alphabet, padding, no blanks).
 * @return MR_E_INVALID: @p buf is as before */
MR_MUST_USE enum mr_status mr_buf_append_unbase64(struct mr_buf *buf, struct mr_bytes text);
/** NUL-terminates behind the size (the NUL does not count) and hands the memory to the caller,
 * who frees it with mr_free(). The buffer is empty afterwards. NULL when memory is short. */
MR_MUST_USE char *mr_buf_take_text(struct mr_buf *buf);

static inline struct mr_bytes mr_buf_bytes(const struct mr_buf *buf)
{
    return (struct mr_bytes){buf->data, buf->size};
}

/* Little-endian numbers at any address. Inline: a record's header is made of a dozen of them. */
static inline void mr_put_u16(uint8_t *at, uint16_t v)
{
    at[0] = (uint8_t)v;
    at[1] = (uint8_t)(v >> 8);
}

static inline void mr_put_u32(uint8_t *at, uint32_t v)
{
    mr_put_u16(at, (uint16_t)v);
    mr_put_u16(at + 2, (uint16_t)(v >> 16));
}

static inline void mr_put_u64(uint8_t *at, uint64_t v)
{
    mr_put_u32(at, (uint32_t)v);
    mr_put_u32(at + 4, (uint32_t)(v >> 32));
}

static inline uint16_t mr_get_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static inline uint32_t mr_get_u32(const uint8_t *at)
{
    return mr_get_u16(at) | (uint32_t)mr_get_u16(at + 2) << 16;
}

static inline uint64_t mr_get_u64(const uint8_t *at)
{
    return mr_get_u32(at) | (uint64_t)mr_get_u32(at + 4) << 32;
}

/** Rounds up to a multiple of @p unit, a power of two. */
static inline uint64_t mr_round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) & ~(unit - 1);
}

/** A decimal number that fills @p text entirely. @return false on any other text or overflow */
bool mr_parse_u64(struct mr_bytes text, uint64_t *ret_value);

#endif
