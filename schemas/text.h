/* The CloudEvents type rules (digest 1.2 and 1.3) as predicates on text. Shared inside schemas/.
 *
 * Pure; any thread. */
#ifndef MR_SCHEMAS_TEXT_H
#define MR_SCHEMAS_TEXT_H

#include <stdbool.h>

#include "core/bytes.h"

/** A legal attribute name: [a-z0-9]+ and not "data"; the length is not looked at. */
bool mr__text_is_name(struct mr_bytes text);
/** A CloudEvents String: UTF-8 without control characters and noncharacters; may be empty. */
bool mr__text_is_string(struct mr_bytes text);
/** A canonical 32-bit Integer. */
bool mr__text_is_integer(struct mr_bytes text);
/** RFC 4648 base64 with padding; may be empty. */
bool mr__text_is_base64(struct mr_bytes text);
/** A URI-reference (RFC 3986 4.1), with a scheme when @p absolute. Blanks, braces and characters
 * outside ASCII pass: peers send them, and a header value that its peer should have percent-encoded
 * (3.3) holds them once decoded. */
bool mr__text_is_uri(struct mr_bytes text, bool absolute);
/** type "/" subtype, both tokens, then nothing or parameters (not looked into). */
bool mr__text_is_media_type(struct mr_bytes text);
/** ASCII case-insensitive mr_bytes_starts(). */
bool mr__text_starts_nocase(struct mr_bytes text, struct mr_bytes prefix);
/** The media type before its parameters, trimmed. */
struct mr_bytes mr__text_media_type(struct mr_bytes content_type);
/** Reads one well-formed UTF-8 character. @return its length, 0 when malformed or at the end */
size_t mr__text_character(struct mr_bytes text, uint32_t *ret_code);
/** Appends @p text as the path of a URI: slashes stay, what a path cannot hold is percent-encoded.
 * @return MR_E_TOO_BIG, MR_E_NOMEM of the buffer */
MR_MUST_USE enum mr_status mr__text_append_path(struct mr_buf *out, struct mr_bytes text);

#endif
