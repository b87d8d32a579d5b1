#include "router/lane.h"

#include "core/hash.h"
#include "router/json.h"

/* mr_hash() of the string's content. */
static uint64_t hash_string(struct mr_bytes raw)
{
    struct mr__cursor c = {raw.data, raw.data + raw.size};
    uint64_t h = MR_HASH_BEGIN;
    uint8_t out[4];
    while (c.at < c.end) {
        size_t n = mr__cursor_char(&c, out);
        if (n == 0) {
            return 0;
        }
        for (size_t i = 0; i < n; i++) {
            h = mr_hash_step(h, out[i]);
        }
    }
    return mr_hash_end(h);
}

/* To the value of member @p name; the first wins when it stands there twice. */
static bool enter_member(struct mr__cursor *c, struct mr_bytes name)
{
    c->at++; /* the brace */
    for (;;) {
        struct mr_bytes key;
        if (!mr__cursor_string(c, &key) || !mr__cursor_byte(c, ':')) {
            return false; /* also the end of the object */
        }
        if (mr__cursor_string_is(key, name)) {
            return true;
        }
        if (!mr__cursor_skip(c) || !mr__cursor_byte(c, ',')) {
            return false;
        }
    }
}

static bool enter_element(struct mr__cursor *c, struct mr_bytes segment)
{
    uint64_t index;
    if (!mr_parse_u64(segment, &index)) {
        return false;
    }
    c->at++; /* the bracket */
    for (; index > 0; index--) {
        if (!mr__cursor_skip(c) || !mr__cursor_byte(c, ',')) {
            return false;
        }
    }
    return true;
}

static struct mr_bytes next_segment(struct mr_bytes *path)
{
    const uint8_t *dot = memchr(path->data, '.', path->size);
    size_t size = dot == NULL ? path->size : (size_t)(dot - path->data);
    struct mr_bytes segment = mr_bytes(path->data, size);
    *path = dot == NULL ? mr_bytes(NULL, 0) : mr_bytes(dot + 1, path->size - size - 1);
    return segment;
}

static uint64_t hash_scalar(struct mr__cursor *c)
{
    mr__cursor_blanks(c);
    if (c->at == c->end) {
        return 0;
    }
    struct mr_bytes text;
    if (*c->at == '"') {
        return mr__cursor_string(c, &text) ? hash_string(text) : 0;
    }
    text = mr__cursor_word(c);
    if (text.size == 0 || mr_bytes_equal(text, MR_BYTES_LITERAL("null"))) {
        return 0;
    }
    bool number = text.data[0] == '-' || (text.data[0] >= '0' && text.data[0] <= '9');
    bool word = mr_bytes_equal(text, MR_BYTES_LITERAL("true")) ||
                mr_bytes_equal(text, MR_BYTES_LITERAL("false"));
    return number || word ? mr_hash(text.data, text.size) : 0;
}

static uint64_t data_lane(struct mr_bytes path, struct mr_bytes record)
{
    if (!mr_event_has_data(record) || !mr_event_data_is_json(record)) {
        return 0;
    }
    struct mr_bytes data = mr_event_data(record);
    if (data.size == 0 || path.size == 0) {
        return 0;
    }
    struct mr__cursor c = {data.data, data.data + data.size};
    while (path.data != NULL) {
        struct mr_bytes segment = next_segment(&path);
        mr__cursor_blanks(&c);
        bool found = c.at < c.end && (*c.at == '{'   ? enter_member(&c, segment)
                                      : *c.at == '[' ? enter_element(&c, segment)
                                                     : false);
        if (!found) {
            return 0;
        }
    }
    return hash_scalar(&c);
}

uint64_t mr__lane(int order, struct mr_bytes key, struct mr_bytes record)
{
    if (order == MR_ORDER_DATA) {
        return data_lane(key, record);
    }
    struct mr_attr attr;
    if (order != MR_ORDER_ATTRIBUTE || !mr_event_attr(record, key, &attr)) {
        return 0;
    }
    return mr_hash(attr.value.data, attr.value.size);
}
