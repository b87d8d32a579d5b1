/* The CloudEvents JSON format (digest section 2): structured and batch, in and out. The hot path:
 * the envelope is scanned once, `data` is kept as the bytes that came, duplicates are refused,
 * nothing recurses (depth is a counter, at most MR_JSON_DEPTH_MAX). */
#ifndef MR_SCHEMAS_JSON_FORMAT_H
#define MR_SCHEMAS_JSON_FORMAT_H

#include "schemas/event.h"

/** One event. White space around is allowed, anything else behind is not.
 * @param size_max of the encoded record
 * @return MR_E_INVALID (with byte position and reason), MR_E_UNSUPPORTED (specversion),
 * MR_E_TOO_BIG, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_json_decode_event(struct mr_bytes text, size_t size_max,
                                                struct mr_event **ret_event,
                                                struct mr_problem *problem);

/** A batch: all or nothing; the problem names the index. May be empty.
 * @param[out] ret_events owned by the caller: mr_event_unref each, mr_free the array; NULL if 0
 * @return as above; MR_E_TOO_BIG also above @p count_max events */
MR_MUST_USE enum mr_status mr_json_decode_batch(struct mr_bytes text, size_t size_max,
                                                uint32_t count_max, struct mr_event ***ret_events,
                                                uint32_t *ret_count, struct mr_problem *problem);

/** Appends the event as one JSON object on one line, without white space between members:
 * specversion, id, source, type, the others in stored order, then data or data_base64 (digest 2.3).
 * Data under a JSON type that is not one JSON value goes out as data_base64. JSON data goes out as
 * it came, but for line breaks between its tokens, which become blanks: good for JSON lines.
 * @return MR_E_TOO_BIG or MR_E_NOMEM of the buffer, which is as before then */
MR_MUST_USE enum mr_status mr_json_encode_event(struct mr_bytes record, struct mr_buf *out);

/** The same with JSON data byte for byte, line breaks included: for structured messages. */
MR_MUST_USE enum mr_status mr_json_encode_exact(struct mr_bytes record, struct mr_buf *out);

/** Whether @p text is exactly one JSON value (RFC 8259, UTF-8, depth bounded). */
bool mr_json_is_value(struct mr_bytes text);

#endif
