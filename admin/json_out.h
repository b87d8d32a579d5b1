/* Writing JSON into a bounded buffer: objects, arrays, commas and escaping in one place.
 *
 * Errors stick: after the first one every call is a no-op and `status` says what happened, so a
 * writer of an answer checks once, at its end. Not thread-safe. */
#ifndef MR_ADMIN_JSON_OUT_H
#define MR_ADMIN_JSON_OUT_H

#include "core/bytes.h"

#define MR_JSON_OUT_DEPTH_MAX 16u

struct mr_json_out {
    struct mr_buf buf;
    enum mr_status status;
    uint32_t depth;
    bool is_array[MR_JSON_OUT_DEPTH_MAX];
    bool has_member[MR_JSON_OUT_DEPTH_MAX];
};

void mr_json_out_init(struct mr_json_out *out, size_t size_max);
void mr_json_out_release(struct mr_json_out *out);

/* In each call @p key names the member of an object and is NULL inside an array or at the top. */
void mr_json_out_object(struct mr_json_out *out, const char *key);
void mr_json_out_array(struct mr_json_out *out, const char *key);
/** Closes what was opened last. */
void mr_json_out_end(struct mr_json_out *out);
void mr_json_out_null(struct mr_json_out *out, const char *key);
void mr_json_out_bool(struct mr_json_out *out, const char *key, bool value);
void mr_json_out_u64(struct mr_json_out *out, const char *key, uint64_t value);
void mr_json_out_i64(struct mr_json_out *out, const char *key, int64_t value);
/** @p text NULL: null. */
void mr_json_out_text(struct mr_json_out *out, const char *key, const char *text);
void mr_json_out_bytes(struct mr_json_out *out, const char *key, struct mr_bytes text);
/** An empty slice becomes null. */
void mr_json_out_bytes_or_null(struct mr_json_out *out, const char *key, struct mr_bytes text);
/** RFC 3339; 0 becomes null. */
void mr_json_out_time(struct mr_json_out *out, const char *key, uint64_t wall_ns);
/** Seconds with three decimals. */
void mr_json_out_seconds(struct mr_json_out *out, const char *key, uint64_t ns);
/** @p json is written as it is: one JSON value. */
void mr_json_out_raw(struct mr_json_out *out, const char *key, struct mr_bytes json);
/** The event in the CloudEvents JSON format. */
void mr_json_out_event(struct mr_json_out *out, const char *key, struct mr_bytes record);
/** A line feed between values of a stream at the top. */
void mr_json_out_line(struct mr_json_out *out);

#endif
