#include "schemas/normalise_message.h"

#include "core/alloc.h"
#include "core/assert.h"
#include "schemas/json_format.h"
#include "schemas/json_scan.h"
#include "schemas/text.h"

#define FIELDS_MAX 10000u

void mr__recorded_init(struct mr__recorded *recorded)
{
    *recorded = (struct mr__recorded){.version = 5};
}

void mr__recorded_release(struct mr__recorded *recorded)
{
    mr_free(recorded->fields);
    mr_buf_release(&recorded->memory);
    mr__recorded_init(recorded);
}

static enum mr_status add_field(struct mr__recorded *recorded, struct mr_bytes name,
                                struct mr_bytes value, struct mr_problem *problem)
{
    if (recorded->field_count == FIELDS_MAX) {
        return mr_problem_set(problem, MR_E_TOO_BIG, "more than %u headers or properties",
                              FIELDS_MAX);
    }
    if (recorded->field_count == recorded->field_capacity) {
        uint32_t capacity = recorded->field_capacity == 0 ? 16 : recorded->field_capacity * 2;
        struct mr_field *fields = mr_realloc(recorded->fields, capacity * sizeof(*fields));
        if (fields == NULL) {
            return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
        }
        recorded->fields = fields;
        recorded->field_capacity = capacity;
    }
    recorded->fields[recorded->field_count++] = (struct mr_field){name, value};
    return MR_OK;
}

enum mr_status mr__recorded_headers(struct mr__recorded *recorded, const char *text,
                                    struct mr_problem *problem)
{
    struct mr_bytes rest = mr_bytes_of(text);
    recorded->has_headers = true;
    for (unsigned line_no = 1; rest.size > 0; line_no++) {
        const uint8_t *end = memchr(rest.data, '\n', rest.size);
        size_t size = end == NULL ? rest.size : (size_t)(end - rest.data);
        struct mr_bytes line = mr_bytes(rest.data, size);
        size_t used = size + (end != NULL);
        rest = mr_bytes(rest.data + used, rest.size - used);
        if (line.size > 0 && line.data[line.size - 1] == '\r') {
            line.size--;
        }
        if (mr__text_trim(line).size == 0) {
            continue;
        }
        const uint8_t *colon = memchr(line.data, ':', line.size);
        if (colon == NULL || colon == line.data) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "line %u of the headers is not of the form \"Name: value\"",
                                  line_no);
        }
        size_t name_size = (size_t)(colon - line.data);
        enum mr_status r =
            add_field(recorded, mr__text_trim(mr_bytes(line.data, name_size)),
                      mr__text_trim(mr_bytes(colon + 1, line.size - name_size - 1)), problem);
        if (r != MR_OK) {
            return r;
        }
    }
    return MR_OK;
}

/* The text a JSON value stands for: a string's characters, anything else as it is written. */
static enum mr_status read_text(struct mr__recorded *recorded, struct mr_bytes value,
                                struct mr_bytes *ret_text, struct mr_problem *problem)
{
    *ret_text = value;
    if (value.data[0] != '"') {
        return MR_OK;
    }
    struct mr_bytes raw = mr_bytes(value.data + 1, value.size - 2);
    size_t at = recorded->memory.size;
    /* The memory has the size of the whole text and unescaping never makes longer. */
    MR_ASSERT(raw.size <= recorded->memory.capacity - at);
    enum mr_status r = mr__json_unescape(raw, &recorded->memory);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "a string holds half of a surrogate pair");
    }
    *ret_text = mr_bytes(recorded->memory.data + at, recorded->memory.size - at);
    return MR_OK;
}

static enum mr_status read_base64(struct mr__recorded *recorded, struct mr_bytes value,
                                  struct mr_bytes *ret_bytes, struct mr_problem *problem)
{
    struct mr_bytes text;
    enum mr_status r = read_text(recorded, value, &text, problem);
    if (r != MR_OK) {
        return r;
    }
    /* The decoded bytes take the place of the text, which nobody else needs. */
    struct mr_buf decoded;
    mr_buf_init(&decoded, text.size + 1);
    r = mr_buf_append_unbase64(&decoded, text);
    if (r != MR_OK || value.data[0] != '"') {
        mr_buf_release(&decoded);
        return mr_problem_set(problem, r == MR_E_NOMEM ? r : MR_E_INVALID,
                              "the payload or body in base64 is not base64");
    }
    recorded->memory.size -= text.size;
    size_t at = recorded->memory.size;
    r = mr_buf_append_bytes(&recorded->memory, mr_buf_bytes(&decoded));
    mr_buf_release(&decoded);
    *ret_bytes = mr_bytes(recorded->memory.data + at, recorded->memory.size - at);
    return r;
}

/* One field; an array as value is the field several times. */
static enum mr_status read_field(struct mr__recorded *recorded, struct mr_bytes name,
                                 struct mr_bytes value, struct mr_problem *problem)
{
    struct mr__scan s;
    struct mr_bytes text;
    struct mr_bytes element;
    enum mr_status r = MR_OK;
    if (mr__json_open(&s, value, '[')) {
        while (r == MR_OK && mr__json_next(&s, NULL, &element)) {
            r = read_text(recorded, element, &text, problem);
            if (r == MR_OK) {
                r = add_field(recorded, name, text, problem);
            }
        }
        return r;
    }
    if (mr_bytes_equal(value, MR_BYTES_LITERAL("null"))) {
        return MR_OK; /* a header or property that is not set */
    }
    r = read_text(recorded, value, &text, problem);
    return r == MR_OK ? add_field(recorded, name, text, problem) : r;
}

/* {"name": "value", …} or [["name", "value"], …] */
static enum mr_status read_fields(struct mr__recorded *recorded, struct mr_bytes value,
                                  struct mr_problem *problem)
{
    struct mr__scan s;
    struct mr__json_string name;
    struct mr_bytes item;
    enum mr_status r = MR_OK;
    if (mr__json_open(&s, value, '{')) {
        while (r == MR_OK && mr__json_next(&s, &name, &item)) {
            struct mr_bytes quoted = mr_bytes(name.raw.data - 1, name.raw.size + 2);
            struct mr_bytes text;
            r = read_text(recorded, quoted, &text, problem);
            if (r == MR_OK) {
                r = read_field(recorded, text, item, problem);
            }
        }
        return r;
    }
    if (!mr__json_open(&s, value, '[')) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "headers and user_properties must be an object or a list of pairs");
    }
    while (r == MR_OK && mr__json_next(&s, NULL, &item)) {
        struct mr__scan pair;
        struct mr_bytes key;
        struct mr_bytes property;
        struct mr_bytes text;
        if (!mr__json_open(&pair, item, '[') || !mr__json_next(&pair, NULL, &key) ||
            !mr__json_next(&pair, NULL, &property)) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "a header or user property must be a pair [name, value]");
        }
        r = read_text(recorded, key, &text, problem);
        if (r == MR_OK) {
            r = read_field(recorded, text, property, problem);
        }
    }
    return r;
}

static bool name_is(struct mr__json_string name, const char *text)
{
    return mr_bytes_equal(name.raw, mr_bytes_of(text));
}

/* The MQTT version, 4 or 5, however it is written: 4, 5, "3.1.1", "5.0". */
static int version_of(struct mr_bytes value)
{
    struct mr_bytes digits = value;
    if (value.size > 2 && value.data[0] == '"') {
        digits = mr_bytes(value.data + 1, value.size - 2);
    }
    return digits.data[0] == '3' || digits.data[0] == '4' ? 4 : 5;
}

static enum mr_status read_member(struct mr__recorded *recorded, struct mr__json_string name,
                                  struct mr_bytes value, struct mr_problem *problem)
{
    if (name_is(name, "version")) {
        recorded->version = version_of(value);
        return MR_OK;
    }
    if (mr_bytes_equal(value, MR_BYTES_LITERAL("null"))) {
        return MR_OK;
    }
    if (name_is(name, "headers")) {
        recorded->has_headers = true;
        return read_fields(recorded, value, problem);
    }
    if (name_is(name, "user_properties")) {
        recorded->has_topic = true;
        return read_fields(recorded, value, problem);
    }
    if (name_is(name, "retain") || name_is(name, "retained")) {
        recorded->retained = value.data[0] == 't' || value.data[0] == '1';
        return MR_OK;
    }
    if (name_is(name, "topic")) {
        recorded->has_topic = true;
        return read_text(recorded, value, &recorded->topic, problem);
    }
    if (name_is(name, "content_type")) {
        return read_text(recorded, value, &recorded->content_type, problem);
    }
    bool body = name_is(name, "body") || name_is(name, "body_base64");
    bool payload = name_is(name, "payload") || name_is(name, "payload_base64");
    if (!body && !payload) {
        return MR_OK; /* qos and whatever else a recorder notes down */
    }
    recorded->has_headers = recorded->has_headers || body;
    recorded->has_topic = recorded->has_topic || payload;
    return mr_bytes_ends(name.raw, MR_BYTES_LITERAL("_base64"))
               ? read_base64(recorded, value, &recorded->body, problem)
               : read_text(recorded, value, &recorded->body, problem);
}

enum mr_status mr__recorded_message(struct mr__recorded *recorded, struct mr_bytes text,
                                    struct mr_problem *problem)
{
    struct mr_bytes inner;
    if (mr__json_find(text, "request", &inner) || mr__json_find(text, "message", &inner)) {
        text = inner; /* a whole vector instead of its message */
    }
    struct mr__scan s;
    if (!mr__json_open(&s, text, '{')) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "a recorded message must be one JSON object");
    }
    mr_buf_init(&recorded->memory, text.size + 1);
    enum mr_status r = mr_buf_reserve(&recorded->memory, text.size + 1);
    struct mr__json_string name;
    struct mr_bytes value;
    while (r == MR_OK && mr__json_next(&s, &name, &value)) {
        r = read_member(recorded, name, value, problem);
    }
    if (r == MR_OK && !recorded->has_headers && !recorded->has_topic) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "a recorded message has headers and body, or topic and payload");
    }
    return r;
}
