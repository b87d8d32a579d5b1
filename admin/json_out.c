#include "admin/json_out.h"

#include <inttypes.h>

#include "core/assert.h"
#include "core/clock.h"
#include "schemas/json_format.h"

void mr_json_out_init(struct mr_json_out *out, size_t size_max)
{
    *out = (struct mr_json_out){.status = MR_OK};
    mr_buf_init(&out->buf, size_max);
}

void mr_json_out_release(struct mr_json_out *out)
{
    mr_buf_release(&out->buf);
}

static void keep(struct mr_json_out *out, enum mr_status status)
{
    if (out->status == MR_OK) {
        out->status = status;
    }
}

static void put(struct mr_json_out *out, const char *text)
{
    if (out->status == MR_OK) {
        out->status = mr_buf_append_text(&out->buf, text);
    }
}

/* The comma and the key before a value. */
static bool begin_value(struct mr_json_out *out, const char *key)
{
    MR_ASSERT(out->depth < MR_JSON_OUT_DEPTH_MAX);
    if (out->depth > 0) {
        bool in_array = out->is_array[out->depth - 1];
        MR_ASSERT(in_array == (key == NULL));
        if (out->has_member[out->depth - 1]) {
            put(out, ",");
        }
        out->has_member[out->depth - 1] = true;
    }
    if (key != NULL) {
        if (out->status == MR_OK) {
            out->status = mr_buf_append_json(&out->buf, mr_bytes_of(key));
        }
        put(out, ":");
    }
    return out->status == MR_OK;
}

static void open_container(struct mr_json_out *out, const char *key, bool array)
{
    (void)begin_value(out, key); /* the status sticks */
    put(out, array ? "[" : "{");
    out->is_array[out->depth] = array;
    out->has_member[out->depth] = false;
    out->depth++;
}

void mr_json_out_object(struct mr_json_out *out, const char *key)
{
    open_container(out, key, false);
}

void mr_json_out_array(struct mr_json_out *out, const char *key)
{
    open_container(out, key, true);
}

void mr_json_out_end(struct mr_json_out *out)
{
    MR_ASSERT(out->depth > 0);
    out->depth--;
    put(out, out->is_array[out->depth] ? "]" : "}");
}

void mr_json_out_null(struct mr_json_out *out, const char *key)
{
    mr_json_out_raw(out, key, MR_BYTES_LITERAL("null"));
}

void mr_json_out_bool(struct mr_json_out *out, const char *key, bool value)
{
    mr_json_out_raw(out, key, mr_bytes_of(value ? "true" : "false"));
}

void mr_json_out_u64(struct mr_json_out *out, const char *key, uint64_t value)
{
    if (begin_value(out, key)) {
        keep(out, mr_buf_printf(&out->buf, "%" PRIu64, value));
    }
}

void mr_json_out_i64(struct mr_json_out *out, const char *key, int64_t value)
{
    if (begin_value(out, key)) {
        keep(out, mr_buf_printf(&out->buf, "%" PRId64, value));
    }
}

void mr_json_out_text(struct mr_json_out *out, const char *key, const char *text)
{
    if (text == NULL) {
        mr_json_out_null(out, key);
    } else {
        mr_json_out_bytes(out, key, mr_bytes_of(text));
    }
}

void mr_json_out_bytes(struct mr_json_out *out, const char *key, struct mr_bytes text)
{
    if (begin_value(out, key)) {
        keep(out, mr_buf_append_json(&out->buf, text));
    }
}

void mr_json_out_bytes_or_null(struct mr_json_out *out, const char *key, struct mr_bytes text)
{
    if (text.size == 0) {
        mr_json_out_null(out, key);
    } else {
        mr_json_out_bytes(out, key, text);
    }
}

void mr_json_out_time(struct mr_json_out *out, const char *key, uint64_t wall_ns)
{
    char text[MR_TIME_TEXT_SIZE];
    mr_json_out_text(out, key, wall_ns == 0 ? NULL : mr_time_format(wall_ns, text));
}

void mr_json_out_seconds(struct mr_json_out *out, const char *key, uint64_t ns)
{
    if (begin_value(out, key)) {
        keep(out, mr_buf_printf(&out->buf, "%" PRIu64 ".%03u", (uint64_t)(ns / MR_SECOND),
                                (unsigned)(ns % MR_SECOND / MR_MS)));
    }
}

void mr_json_out_raw(struct mr_json_out *out, const char *key, struct mr_bytes json)
{
    if (begin_value(out, key)) {
        keep(out, mr_buf_append_bytes(&out->buf, json));
    }
}

void mr_json_out_event(struct mr_json_out *out, const char *key, struct mr_bytes record)
{
    if (begin_value(out, key)) {
        keep(out, mr_json_encode_event(record, &out->buf));
    }
}

void mr_json_out_line(struct mr_json_out *out)
{
    MR_ASSERT(out->depth == 0);
    put(out, "\n");
}
