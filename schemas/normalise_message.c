#include "schemas/normalise_message.h"

#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "schemas/json_format.h"
#include "schemas/json_scan.h"
#include "schemas/text.h"

#define FIELDS_MAX 10000u

void mr__recorded_init(struct mr__recorded *recorded)
{
    *recorded = (struct mr__recorded){.version = 5, .timestamp_ms = -1};
}

void mr__recorded_release(struct mr__recorded *recorded)
{
    mr_free(recorded->fields);
    mr_free(recorded->typed);
    mr_buf_release(&recorded->memory);
    mr__recorded_init(recorded);
}

static enum mr_status grow(struct mr__recorded *recorded)
{
    uint32_t capacity = recorded->field_capacity == 0 ? 16 : recorded->field_capacity * 2;
    struct mr_field *fields = mr_realloc(recorded->fields, capacity * sizeof(*fields));
    if (fields == NULL) {
        return MR_E_NOMEM;
    }
    recorded->fields = fields;
    struct mr_amqp_header *typed = mr_realloc(recorded->typed, capacity * sizeof(*typed));
    if (typed == NULL) {
        return MR_E_NOMEM;
    }
    recorded->typed = typed;
    recorded->field_capacity = capacity;
    return MR_OK;
}

enum mr_status mr__recorded_add(struct mr__recorded *recorded, struct mr_amqp_header header,
                                struct mr_problem *problem)
{
    if (recorded->field_count == FIELDS_MAX) {
        return mr_problem_set(problem, MR_E_TOO_BIG, "more than %u headers or properties",
                              FIELDS_MAX);
    }
    if (recorded->field_count == recorded->field_capacity && grow(recorded) != MR_OK) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    recorded->fields[recorded->field_count] = (struct mr_field){header.name, header.text};
    recorded->typed[recorded->field_count++] = header;
    return MR_OK;
}

static enum mr_status add_text(struct mr__recorded *recorded, struct mr_bytes name,
                               struct mr_bytes value, struct mr_problem *problem)
{
    struct mr_amqp_header header = {.name = name, .type = MR_AMQP_STRING, .text = value};
    return mr__recorded_add(recorded, header, problem);
}

enum mr_status mr__recorded_headers(struct mr__recorded *recorded, const char *text,
                                    struct mr_problem *problem)
{
    struct mr_bytes rest = mr_bytes_of(text);
    for (unsigned line_no = 1; rest.size > 0; line_no++) {
        const uint8_t *end = memchr(rest.data, '\n', rest.size);
        size_t size = end == NULL ? rest.size : (size_t)(end - rest.data);
        struct mr_bytes line = mr_bytes(rest.data, size);
        size_t used = size + (end != NULL);
        rest = mr_bytes(rest.data + used, rest.size - used);
        if (line.size > 0 && line.data[line.size - 1] == '\r') {
            line.size--;
        }
        if (mr_bytes_trim(line).size == 0) {
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
            add_text(recorded, mr_bytes_trim(mr_bytes(line.data, name_size)),
                     mr_bytes_trim(mr_bytes(colon + 1, line.size - name_size - 1)), problem);
        if (r != MR_OK) {
            return r;
        }
    }
    return MR_OK;
}

enum mr_status mr__recorded_reserve(struct mr__recorded *recorded, size_t size)
{
    mr_buf_init(&recorded->memory, size + 1);
    return mr_buf_reserve(&recorded->memory, size + 1);
}

enum mr_status mr__recorded_text(struct mr__recorded *recorded, struct mr_bytes value,
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

enum mr_status mr__recorded_base64(struct mr__recorded *recorded, struct mr_bytes value,
                                   struct mr_bytes *ret_bytes, struct mr_problem *problem)
{
    struct mr_bytes text = {0};
    size_t at = recorded->memory.size;
    enum mr_status r = mr__recorded_text(recorded, value, &text, problem);
    if (r != MR_OK) {
        return r;
    }
    /* The decoded bytes take the place of the text, which nobody else needs. */
    struct mr_buf decoded;
    mr_buf_init(&decoded, text.size + 1);
    r = value.data[0] == '"' ? mr_buf_append_unbase64(&decoded, text) : MR_E_INVALID;
    if (r == MR_OK) {
        recorded->memory.size = at;
        r = mr_buf_append_bytes(&recorded->memory, mr_buf_bytes(&decoded));
        *ret_bytes = mr_bytes(recorded->memory.data + at, recorded->memory.size - at);
    }
    mr_buf_release(&decoded);
    return r == MR_OK ? r
                      : mr_problem_set(problem, r == MR_E_NOMEM ? r : MR_E_INVALID,
                                       "what should be base64 is not");
}

bool mr__recorded_integer(struct mr_bytes value, int64_t *ret_number)
{
    if (value.size > 2 && value.data[0] == '"') {
        value = mr_bytes(value.data + 1, value.size - 2);
    }
    bool negative = value.size > 0 && value.data[0] == '-';
    uint64_t number;
    if (!mr_parse_u64(mr_bytes(value.data + negative, value.size - negative), &number) ||
        number > INT64_MAX) {
        return false;
    }
    *ret_number = negative ? -(int64_t)number : (int64_t)number;
    return true;
}

enum mr_status mr__recorded_octets(struct mr__recorded *recorded, struct mr_bytes value,
                                   struct mr_bytes *ret_bytes, struct mr_problem *problem)
{
    struct mr__scan s;
    struct mr_bytes element;
    int64_t number;
    size_t at = recorded->memory.size;
    bool ok = mr__json_open(&s, value, '[');
    enum mr_status r = MR_OK;
    while (r == MR_OK && ok && mr__json_next(&s, NULL, &element)) {
        ok = mr__recorded_integer(element, &number) && number >= -128 && number <= 255;
        r = ok ? mr_buf_append_byte(&recorded->memory, (uint8_t)(number & 0xFF)) : MR_OK;
    }
    if (r != MR_OK || !ok) {
        return mr_problem_set(problem, r == MR_OK ? MR_E_INVALID : r,
                              "what should be a list of bytes is not");
    }
    *ret_bytes = mr_bytes(recorded->memory.data + at, recorded->memory.size - at);
    return MR_OK;
}

static bool is_any_of(struct mr_bytes text, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (mr_bytes_equal(text, mr_bytes_of(*words))) {
            return true;
        }
    }
    return false;
}

/* A time as the message has it: a number in its unit, or RFC 3339. */
static bool read_time(struct mr_bytes value, bool seconds, int64_t *ret_ms)
{
    int64_t number;
    if (mr__recorded_integer(value, &number)) {
        if (seconds && (number > INT64_MAX / 1000 || number < INT64_MIN / 1000)) {
            return false;
        }
        *ret_ms = seconds ? number * 1000 : number;
        return true;
    }
    if (value.size < 2 || value.data[0] != '"' ||
        !mr_time_parse(mr_bytes(value.data + 1, value.size - 2), &number)) {
        return false;
    }
    *ret_ms = number / (int64_t)MR_MS;
    return true;
}

/* {"$TYPE": value} */
static enum mr_status read_typed(struct mr__recorded *recorded, struct mr_bytes type,
                                 struct mr_bytes value, struct mr_amqp_header *header,
                                 struct mr_problem *problem)
{
    static const char *const bools[] = {"bool", "boolean", NULL};
    static const char *const integers[] = {"byte", "ubyte", "short", "ushort", "int", "uint",
                                           "integer", "long", "ulong", "int32", "int64", NULL};
    static const char *const times[] = {"timestamp", "date", "time", NULL};
    static const char *const binaries[] = {"binary", "bytes", "base64", NULL};
    static const char *const texts[] = {"string", "str", "text", "symbol", "uri", NULL};
    header->type = MR_AMQP_OTHER;
    header->text = value;
    if (is_any_of(type, bools)) {
        header->type = MR_AMQP_BOOL;
        header->number = value.data[0] == 't';
    } else if (is_any_of(type, integers)) {
        header->type = mr__recorded_integer(value, &header->number) ? MR_AMQP_INTEGER
                                                                    : MR_AMQP_OTHER;
    } else if (is_any_of(type, times)) {
        header->type = read_time(value, !recorded->is_1_0, &header->number) ? MR_AMQP_TIMESTAMP
                                                                            : MR_AMQP_OTHER;
    } else if (is_any_of(type, binaries)) {
        header->type = MR_AMQP_BINARY;
        return value.data[0] == '['
                   ? mr__recorded_octets(recorded, value, &header->text, problem)
                   : mr__recorded_base64(recorded, value, &header->text, problem);
    } else if (is_any_of(type, texts)) {
        header->type = MR_AMQP_STRING;
        return mr__recorded_text(recorded, value, &header->text, problem);
    }
    return MR_OK;
}

/* A value of any JSON type but null. */
static enum mr_status read_value(struct mr__recorded *recorded, struct mr_bytes value,
                                 struct mr_amqp_header *header, struct mr_problem *problem)
{
    struct mr__scan s;
    struct mr__json_string type;
    struct mr_bytes inner;
    header->text = value;
    switch (value.data[0]) {
    case '"':
        header->type = MR_AMQP_STRING;
        return mr__recorded_text(recorded, value, &header->text, problem);
    case 't':
    case 'f':
        header->type = MR_AMQP_BOOL;
        header->number = value.data[0] == 't';
        return MR_OK;
    case '{':
        if (mr__json_open(&s, value, '{') && mr__json_next(&s, &type, &inner) &&
            type.raw.size > 1 && type.raw.data[0] == '$') {
            return read_typed(recorded, mr_bytes(type.raw.data + 1, type.raw.size - 1), inner,
                              header, problem);
        }
        header->type = MR_AMQP_OTHER;
        return MR_OK;
    default:
        header->type = value.data[0] != '[' && mr__recorded_integer(value, &header->number)
                           ? MR_AMQP_INTEGER
                           : MR_AMQP_OTHER;
        return MR_OK;
    }
}

/* One field; but in AMQP, where arrays are a type, an array as value is the field several times. */
static enum mr_status read_field(struct mr__recorded *recorded, struct mr_bytes name,
                                 struct mr_bytes value, struct mr_problem *problem)
{
    struct mr__scan s;
    struct mr_amqp_header header = {.name = name};
    bool repeated = recorded->kind != MR__RECORDED_AMQP && mr__json_open(&s, value, '[');
    enum mr_status r = MR_OK;
    while (r == MR_OK) {
        if (repeated && !mr__json_next(&s, NULL, &value)) {
            break;
        }
        /* null: a header or property that is not set */
        if (!mr_bytes_equal(value, MR_BYTES_LITERAL("null"))) {
            r = read_value(recorded, value, &header, problem);
            r = r == MR_OK ? mr__recorded_add(recorded, header, problem) : r;
        }
        if (!repeated) {
            break;
        }
    }
    return r;
}

/* The members of an object, each a field. */
static enum mr_status read_object(struct mr__recorded *recorded, struct mr__scan *s,
                                  struct mr_problem *problem)
{
    struct mr__json_string name;
    struct mr_bytes item;
    enum mr_status r = MR_OK;
    while (r == MR_OK && mr__json_next(s, &name, &item)) {
        struct mr_bytes quoted = mr_bytes(name.raw.data - 1, name.raw.size + 2);
        struct mr_bytes text;
        r = mr__recorded_text(recorded, quoted, &text, problem);
        if (r == MR_OK) {
            r = read_field(recorded, text, item, problem);
        }
    }
    return r;
}

/* {"name": "value", …} or [["name", "value"], …] or [{"name": "value"}, …] */
static enum mr_status read_fields(struct mr__recorded *recorded, struct mr_bytes value,
                                  struct mr_problem *problem)
{
    struct mr__scan s;
    struct mr__scan pair;
    struct mr_bytes item;
    enum mr_status r = MR_OK;
    if (mr__json_open(&s, value, '{')) {
        return read_object(recorded, &s, problem);
    }
    if (!mr__json_open(&s, value, '[')) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "headers and properties must be an object or a list of pairs");
    }
    while (r == MR_OK && mr__json_next(&s, NULL, &item)) {
        struct mr_bytes key;
        struct mr_bytes property;
        struct mr_bytes text;
        if (mr__json_open(&pair, item, '{')) {
            r = read_object(recorded, &pair, problem);
            continue;
        }
        if (!mr__json_open(&pair, item, '[') || !mr__json_next(&pair, NULL, &key) ||
            !mr__json_next(&pair, NULL, &property)) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "a header or property must be a pair [name, value]");
        }
        r = mr__recorded_text(recorded, key, &text, problem);
        if (r == MR_OK) {
            r = read_field(recorded, text, property, problem);
        }
    }
    return r;
}

/* What a member of a message fills. */
enum member {
    MEMBER_FIELDS = 0,
    MEMBER_BODY,
    MEMBER_KEY,
    MEMBER_TOPIC,
    MEMBER_CONTENT_TYPE,
    MEMBER_MESSAGE_ID,
    MEMBER_TIMESTAMP,
    MEMBER_TIMESTAMP_MS,
    MEMBER_RETAINED,
    MEMBER_VERSION,
    MEMBER_PARTITION,
    MEMBER_OFFSET,
};

static const struct {
    const char *name;
    enum member member;
    enum mr__recorded_kind kind; /* what the member tells; PAYLOAD: nothing */
} members[] = {
    {"headers", MEMBER_FIELDS, MR__RECORDED_HTTP},
    {"user_properties", MEMBER_FIELDS, MR__RECORDED_MQTT},
    {"properties", MEMBER_FIELDS, MR__RECORDED_AMQP},
    {"application_properties", MEMBER_FIELDS, MR__RECORDED_AMQP},
    {"body", MEMBER_BODY, MR__RECORDED_HTTP},
    {"payload", MEMBER_BODY, MR__RECORDED_MQTT},
    {"value", MEMBER_BODY, MR__RECORDED_KAFKA},
    {"key", MEMBER_KEY, MR__RECORDED_PAYLOAD},
    {"topic", MEMBER_TOPIC, MR__RECORDED_MQTT},
    {"queue", MEMBER_TOPIC, MR__RECORDED_PAYLOAD},
    {"content_type", MEMBER_CONTENT_TYPE, MR__RECORDED_PAYLOAD},
    {"message_id", MEMBER_MESSAGE_ID, MR__RECORDED_PAYLOAD},
    {"timestamp", MEMBER_TIMESTAMP, MR__RECORDED_PAYLOAD},
    {"timestamp_ms", MEMBER_TIMESTAMP_MS, MR__RECORDED_PAYLOAD},
    {"retain", MEMBER_RETAINED, MR__RECORDED_PAYLOAD},
    {"retained", MEMBER_RETAINED, MR__RECORDED_PAYLOAD},
    {"version", MEMBER_VERSION, MR__RECORDED_PAYLOAD},
    {"partition", MEMBER_PARTITION, MR__RECORDED_KAFKA},
    {"offset", MEMBER_OFFSET, MR__RECORDED_KAFKA},
};

/* The MQTT version, 4 or 5, however it is written: 4, 5, "3.1.1", "5.0". */
static int version_of(struct mr_bytes value)
{
    struct mr_bytes digits = value;
    if (value.size > 2 && value.data[0] == '"') {
        digits = mr_bytes(value.data + 1, value.size - 2);
    }
    return digits.data[0] == '3' || digits.data[0] == '4' ? 4 : 5;
}

static enum mr_status read_number(struct mr_bytes value, int64_t min, int64_t max, int64_t *number,
                                  struct mr_problem *problem)
{
    if (!mr__recorded_integer(value, number) || *number < min || *number > max) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "a partition, offset or timestamp is no number that can be one");
    }
    return MR_OK;
}

static enum mr_status read_member(struct mr__recorded *recorded, enum member member, bool base64,
                                  struct mr_bytes value, struct mr_problem *problem)
{
    int64_t number = 0;
    enum mr_status r = MR_OK;
    switch (member) {
    case MEMBER_FIELDS:
        return read_fields(recorded, value, problem);
    case MEMBER_BODY:
    case MEMBER_KEY: {
        struct mr_bytes *bytes = member == MEMBER_KEY ? &recorded->key : &recorded->body;
        *(member == MEMBER_KEY ? &recorded->has_key : &recorded->has_body) = true;
        return base64 ? mr__recorded_base64(recorded, value, bytes, problem)
                      : mr__recorded_text(recorded, value, bytes, problem);
    }
    case MEMBER_TOPIC:
        return mr__recorded_text(recorded, value, &recorded->topic, problem);
    case MEMBER_CONTENT_TYPE:
        return mr__recorded_text(recorded, value, &recorded->content_type, problem);
    case MEMBER_MESSAGE_ID:
        return mr__recorded_text(recorded, value, &recorded->message_id, problem);
    case MEMBER_TIMESTAMP:
        if (!read_time(value, recorded->kind == MR__RECORDED_AMQP && !recorded->is_1_0,
                       &recorded->timestamp_ms)) {
            recorded->timestamp_ms = -1; /* some other text: the receive time holds */
        }
        return MR_OK;
    case MEMBER_TIMESTAMP_MS:
        return read_number(value, INT64_MIN, INT64_MAX, &recorded->timestamp_ms, problem);
    case MEMBER_RETAINED:
        recorded->retained = value.data[0] == 't' || value.data[0] == '1';
        return MR_OK;
    case MEMBER_VERSION:
        recorded->version = version_of(value);
        return MR_OK;
    case MEMBER_PARTITION:
        r = read_number(value, INT32_MIN, INT32_MAX, &number, problem);
        recorded->partition = (int32_t)number;
        return r;
    case MEMBER_OFFSET:
        return read_number(value, INT64_MIN, INT64_MAX, &recorded->offset, problem);
    }
    return MR_OK;
}

/* The member called @p name, with or without _base64. @return its place, or -1 */
static int find_member(struct mr_bytes name, bool *ret_base64)
{
    struct mr_bytes suffix = MR_BYTES_LITERAL("_base64");
    *ret_base64 = mr_bytes_ends(name, suffix);
    name.size -= *ret_base64 ? suffix.size : 0;
    for (size_t i = 0; i < MR_ARRAY_COUNT(members); i++) {
        bool bytes = members[i].member == MEMBER_BODY || members[i].member == MEMBER_KEY;
        if (mr_bytes_equal(name, mr_bytes_of(members[i].name)) && (bytes || !*ret_base64)) {
            return (int)i;
        }
    }
    return -1;
}

/* What has to be known before the first member is read. @return whether it is a message at all */
static bool find_kind(struct mr__recorded *recorded, struct mr_bytes text)
{
    struct mr__scan s;
    struct mr__json_string name;
    struct mr_bytes value;
    bool base64;
    bool recognised = false;
    bool opened = mr__json_open(&s, text, '{');
    while (opened && mr__json_next(&s, &name, &value)) {
        int i = find_member(name.raw, &base64);
        enum mr__recorded_kind kind = i < 0 ? MR__RECORDED_PAYLOAD : members[i].kind;
        if (mr_bytes_equal(name.raw, MR_BYTES_LITERAL("protocol"))) {
            kind = MR__RECORDED_AMQP;
        }
        recognised = recognised || kind != MR__RECORDED_PAYLOAD;
        /* Of two kinds the later one is the more special: each has headers, two have a topic. */
        recorded->kind = kind > recorded->kind ? kind : recorded->kind;
    }
    recorded->is_1_0 = mr__json_find(text, "properties", &value) ||
                       mr__json_find(text, "application_properties", &value);
    if (mr__json_find(text, "protocol", &value)) {
        recorded->is_1_0 = value.size > 1 && value.data[0] == '"' && value.data[1] == '1';
    }
    return recognised;
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
    enum mr_status r = mr__recorded_reserve(recorded, text.size);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "the message: %s", mr_status_text(r));
    }
    if (!find_kind(recorded, text)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "a recorded message has headers and a body, value or payload");
    }
    struct mr__json_string name;
    struct mr_bytes value;
    while (r == MR_OK && mr__json_next(&s, &name, &value)) {
        bool base64;
        int i = find_member(name.raw, &base64);
        if (i >= 0 && !mr_bytes_equal(value, MR_BYTES_LITERAL("null"))) {
            r = read_member(recorded, members[i].member, base64, value, problem);
        }
    }
    return r;
}
