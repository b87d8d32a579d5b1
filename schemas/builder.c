/* The builder of event records: every attribute of every transport passes through here. */
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/hash.h"
#include "core/limits.h"
#include "schemas/builder.h"
#include "schemas/json_format.h"
#include "schemas/text.h"

/* First sizes of the two buffers: most events fit, so that each is allocated once. */
#define CORE_FIRST_SIZE 384u
#define ATTRS_FIRST_SIZE 512u

enum core_bit {
    CORE_ID = 1,
    CORE_SOURCE = 2,
    CORE_TYPE = 4,
    CORE_SPECVERSION = 8,
    CORE_REQUIRED_MASK = 15,
    CORE_OPTIONAL = 16, /* an attribute of the specification that may be absent */
};

struct core_rule {
    const char *name;
    size_t name_size;
    enum core_bit bit;
    enum mr_attr_type type;
};

#define RULE(text, bit, type) {text, sizeof(text) - 1, bit, type}
static const struct core_rule rules[] = {
    RULE("id", CORE_ID, MR_ATTR_STRING),
    RULE("source", CORE_SOURCE, MR_ATTR_URI_REF),
    RULE("type", CORE_TYPE, MR_ATTR_STRING),
    RULE("specversion", CORE_SPECVERSION, MR_ATTR_STRING),
    RULE("time", CORE_OPTIONAL, MR_ATTR_TIMESTAMP),
    RULE("subject", CORE_OPTIONAL, MR_ATTR_STRING),
    RULE("datacontenttype", CORE_OPTIONAL, MR_ATTR_STRING),
    RULE("dataschema", CORE_OPTIONAL, MR_ATTR_URI),
};

static const struct core_rule *find_rule(struct mr_bytes name)
{
    for (size_t i = 0; i < MR_ARRAY_COUNT(rules); i++) {
        if (rules[i].name_size == name.size && memcmp(rules[i].name, name.data, name.size) == 0) {
            return &rules[i];
        }
    }
    return NULL;
}

void mr_event_builder_init(struct mr_event_builder *builder, size_t size_max)
{
    *builder = (struct mr_event_builder){
        .size_max = size_max < MR_EVENT_SIZE_MAX ? size_max : MR_EVENT_SIZE_MAX};
    mr_buf_init(&builder->attrs, MR_EVENT_ATTRS_SIZE_MAX);
    mr_buf_init(&builder->core, MR_EVENT_ATTRS_SIZE_MAX);
}

void mr_event_builder_release(struct mr_event_builder *builder)
{
    mr_buf_release(&builder->attrs);
    mr_buf_release(&builder->core);
    mr_event_builder_init(builder, builder->size_max);
}

/* Encoded attributes in a buffer, looked through for @p name. */
static bool find_encoded(struct mr_bytes encoded, struct mr_bytes name, struct mr_bytes *ret_value)
{
    size_t at = 0;
    while (at < encoded.size) {
        const uint8_t *p = encoded.data + at;
        size_t name_size = mr_get_u16(p);
        size_t value_size = mr_get_u32(p + 4);
        const uint8_t *text = p + MR_EVENT_ATTR_HEADER_SIZE;
        if (name_size == name.size && memcmp(text, name.data, name_size) == 0) {
            *ret_value = mr_bytes(text + name_size, value_size);
            return true;
        }
        at += MR_EVENT_ATTR_HEADER_SIZE + name_size + value_size;
    }
    return false;
}

static const char *cut_name(struct mr_bytes name, char to[MR_ATTR_NAME_SIZE_MAX + 1])
{
    size_t n = name.size < MR_ATTR_NAME_SIZE_MAX ? name.size : MR_ATTR_NAME_SIZE_MAX;
    memcpy(to, name.data, n);
    to[n] = '\0';
    return to;
}

static bool has_attr(const struct mr_event_builder *builder, const struct core_rule *rule,
                     struct mr_bytes name)
{
    struct mr_bytes value;
    return rule != NULL && rule->bit != CORE_OPTIONAL
               ? (builder->core_seen & (unsigned)rule->bit) != 0
               : find_encoded(mr_buf_bytes(&builder->attrs), name, &value);
}

bool mr__builder_has(const struct mr_event_builder *builder, struct mr_bytes name)
{
    return has_attr(builder, find_rule(name), name);
}

bool mr__builder_value(const struct mr_event_builder *builder, struct mr_bytes name,
                       struct mr_bytes *ret_value)
{
    return find_encoded(mr_buf_bytes(&builder->attrs), name, ret_value);
}

bool mr__builder_untyped(const struct mr_event_builder *builder)
{
    struct mr_bytes type;
    return !mr__builder_value(builder, MR_BYTES_LITERAL("datacontenttype"), &type);
}

size_t mr__builder_overhead(const struct mr_event_builder *builder)
{
    return MR_EVENT_HEADER_SIZE + builder->core.size + builder->attrs.size;
}

enum mr_status mr__builder_repeated(struct mr_bytes name, struct mr_problem *problem)
{
    char text[MR_ATTR_NAME_SIZE_MAX + 1];
    return mr_problem_set(problem, MR_E_INVALID, "the attribute %s is there twice",
                          cut_name(name, text));
}

static const char *type_fault(enum mr_attr_type type, struct mr_bytes value)
{
    switch (type) {
    case MR_ATTR_INTEGER:
        return mr__text_is_integer(value) ? NULL : "is not an integer of 32 bits";
    case MR_ATTR_BOOLEAN:
        return mr_bytes_equal(value, MR_BYTES_LITERAL("true")) ||
                       mr_bytes_equal(value, MR_BYTES_LITERAL("false"))
                   ? NULL
                   : "is neither true nor false";
    case MR_ATTR_BINARY:
        return mr__text_is_base64(value) ? NULL : "is not base64";
    case MR_ATTR_TIMESTAMP:
        return mr_time_parse(value, NULL) ? NULL : "is not an RFC 3339 timestamp";
    case MR_ATTR_STRING:
    case MR_ATTR_URI:
    case MR_ATTR_URI_REF:
    case MR_ATTR_TYPE_MAX:
        break;
    }
    if (!mr__text_is_string(value)) {
        return "holds a control character, a noncharacter or malformed UTF-8";
    }
    if (type == MR_ATTR_URI && !mr__text_is_uri(value, true)) {
        return "is not an absolute URI";
    }
    return type == MR_ATTR_URI_REF && !mr__text_is_uri(value, false) ? "is not a URI-reference"
                                                                     : NULL;
}

static enum mr_status append_attr(struct mr_event_builder *builder, struct mr_buf *to,
                                  struct mr_bytes name, enum mr_attr_type type,
                                  struct mr_bytes value, unsigned count_max)
{
    size_t need = MR_EVENT_ATTR_HEADER_SIZE + name.size + value.size;
    if (builder->count >= count_max ||
        value.size > MR_EVENT_ATTRS_SIZE_MAX - builder->attrs.size - builder->core.size ||
        need > MR_EVENT_ATTRS_SIZE_MAX - builder->attrs.size - builder->core.size) {
        return MR_E_TOO_BIG;
    }
    size_t first = to == &builder->core ? CORE_FIRST_SIZE : ATTRS_FIRST_SIZE;
    enum mr_status r = mr_buf_reserve(to, to->capacity == 0 && need < first ? first : need);
    if (r != MR_OK) {
        return r;
    }
    uint8_t *p = to->data + to->size;
    mr_put_u16(p, (uint16_t)name.size);
    p[2] = (uint8_t)type;
    p[3] = 0;
    mr_put_u32(p + 4, (uint32_t)value.size);
    memcpy(p + MR_EVENT_ATTR_HEADER_SIZE, name.data, name.size);
    if (value.size > 0) {
        memcpy(p + MR_EVENT_ATTR_HEADER_SIZE + name.size, value.data, value.size);
    }
    to->size += need;
    builder->count++;
    return MR_OK;
}

enum mr_status mr__builder_check_name(struct mr_bytes name, struct mr_problem *problem)
{
    if (name.size > MR_ATTR_NAME_SIZE_MAX) {
        return mr_problem_set(problem, MR_E_TOO_BIG, "an attribute name is longer than %u bytes",
                              MR_ATTR_NAME_SIZE_MAX);
    }
    if (!mr__text_is_name(name)) {
        char text[MR_ATTR_NAME_SIZE_MAX + 1];
        return mr_problem_set(problem, MR_E_INVALID,
                              "\"%s\" is no attribute name (a-z and 0-9, and not \"data\")",
                              cut_name(name, text));
    }
    return MR_OK;
}

static enum mr_status check_core(const struct core_rule *rule, enum mr_attr_type type,
                                 struct mr_bytes value, struct mr_problem *problem)
{
    if (type != MR_ATTR_STRING && type != rule->type) {
        return mr_problem_set(problem, MR_E_INVALID, "%s must be a string", rule->name);
    }
    if (value.size == 0) {
        return mr_problem_set(problem, MR_E_INVALID, "%s must not be empty", rule->name);
    }
    if (rule->bit == CORE_SPECVERSION && !mr_bytes_equal(value, MR_BYTES_LITERAL("1.0"))) {
        int size = value.size < 32 ? (int)value.size : 32;
        return mr_problem_set(problem, MR_E_UNSUPPORTED,
                              "specversion is \"%.*s\"; only \"1.0\" is supported", size,
                              (const char *)value.data);
    }
    return MR_OK;
}

enum mr_status mr_event_builder_attr(struct mr_event_builder *builder, struct mr_bytes name,
                                     enum mr_attr_type type, struct mr_bytes value,
                                     struct mr_problem *problem)
{
    MR_ASSERT(type < MR_ATTR_TYPE_MAX);
    enum mr_status r = mr__builder_check_name(name, problem);
    if (r != MR_OK) {
        return r;
    }
    const struct core_rule *rule = find_rule(name);
    bool required = rule != NULL && rule->bit != CORE_OPTIONAL;
    if (has_attr(builder, rule, name)) {
        return mr__builder_repeated(name, problem);
    }
    if (rule != NULL) {
        r = check_core(rule, type, value, problem);
        type = rule->type;
        if (r != MR_OK) {
            return r;
        }
    }
    const char *fault = type_fault(type, value);
    if (fault == NULL && rule != NULL && rule->name_size == 15 && !mr__text_is_media_type(value)) {
        fault = "is not a media type";
    }
    if (fault != NULL) {
        char text[MR_ATTR_NAME_SIZE_MAX + 1];
        return mr_problem_set(problem, MR_E_INVALID, "%s %s", cut_name(name, text), fault);
    }
    if (required) {
        builder->core_seen |= (uint8_t)rule->bit;
    }
    if (required && rule->bit == CORE_SPECVERSION) {
        return MR_OK;
    }
    r = append_attr(builder, required ? &builder->core : &builder->attrs, name, type, value,
                    MR_EVENT_ATTRS_MAX);
    if (r == MR_E_TOO_BIG) {
        return mr_problem_set(problem, r, "more than %u attributes or %u bytes of them",
                              MR_EVENT_ATTRS_MAX, MR_EVENT_ATTRS_SIZE_MAX);
    }
    return r == MR_OK ? r : mr_problem_set(problem, r, "out of memory");
}

void mr_event_builder_data(struct mr_event_builder *builder, struct mr_bytes data, bool binary)
{
    builder->data = data;
    builder->flags = MR_EVENT_HAS_DATA | (binary ? MR_EVENT_DATA_BINARY : 0);
}

/* Settles MR_EVENT_DATA_JSON and MR_EVENT_DATA_BINARY, so that equal events have equal records and
 * whoever writes JSON need not look at the data: JSON as is, text escaped, the rest as base64. */
static void settle_flags(struct mr_event_builder *builder)
{
    if ((builder->flags & MR_EVENT_HAS_DATA) == 0) {
        builder->flags = 0;
        return;
    }
    if ((builder->flags & MR_EVENT_DATA_JSON) != 0) {
        return;
    }
    struct mr_bytes type;
    bool typed = find_encoded(mr_buf_bytes(&builder->attrs), MR_BYTES_LITERAL("datacontenttype"),
                              &type);
    bool binary = (builder->flags & MR_EVENT_DATA_BINARY) != 0;
    bool json = typed ? mr_media_type_is_json(type) : !binary;
    if (json && mr_json_is_value(builder->data)) {
        builder->flags |= MR_EVENT_DATA_JSON;
    } else if (json || !mr_bytes_is_utf8(builder->data)) {
        builder->flags |= MR_EVENT_DATA_BINARY;
    }
}

static void write_record(const struct mr_event_builder *builder, uint8_t *to, size_t size)
{
    static const char *const order[] = {"id", "source", "type"};
    uint8_t *p = to + MR_EVENT_HEADER_SIZE;
    struct mr_bytes core = mr_buf_bytes(&builder->core);
    for (size_t i = 0; i < MR_ARRAY_COUNT(order); i++) {
        struct mr_bytes name = mr_bytes_of(order[i]);
        struct mr_bytes value;
        bool found = find_encoded(core, name, &value);
        MR_ASSERT(found);
        size_t n = MR_EVENT_ATTR_HEADER_SIZE + name.size + value.size;
        memcpy(p, value.data - name.size - MR_EVENT_ATTR_HEADER_SIZE, n);
        p += n;
    }
    if (builder->attrs.size > 0) {
        memcpy(p, builder->attrs.data, builder->attrs.size);
        p += builder->attrs.size;
    }
    size_t data_at = (size_t)(p - to);
    if (builder->data.size > 0) {
        memcpy(p, builder->data.data, builder->data.size);
    }
    MR_ASSERT(data_at + builder->data.size == size);
    mr_put_u32(to, (uint32_t)size);
    mr_put_u16(to + 4, builder->count);
    mr_put_u16(to + 6, builder->flags);
    mr_put_u32(to + 8, (uint32_t)data_at);
    mr_put_u32(to + 12, (uint32_t)builder->data.size);
}

static enum mr_status check_complete(const struct mr_event_builder *builder, bool ours,
                                     struct mr_problem *problem)
{
    unsigned missing = CORE_REQUIRED_MASK & ~(unsigned)builder->core_seen;
    if (ours) {
        missing &= ~(unsigned)CORE_SPECVERSION;
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(rules); i++) {
        if (rules[i].bit != CORE_OPTIONAL && (missing & (unsigned)rules[i].bit) != 0) {
            return mr_problem_set(problem, MR_E_INVALID, "the required attribute %s is missing",
                                  rules[i].name);
        }
    }
    return MR_OK;
}

static enum mr_status encode_event(struct mr_event_builder *builder, bool ours,
                                   struct mr_event **ret_event, struct mr_problem *problem)
{
    enum mr_status r = check_complete(builder, ours, problem);
    if (r != MR_OK) {
        return r;
    }
    size_t rest = mr__builder_overhead(builder);
    if (builder->data.size > MR_EVENT_SIZE_MAX || rest + builder->data.size > builder->size_max) {
        return mr_problem_set(problem, MR_E_TOO_BIG, "the event is larger than %zu bytes",
                              builder->size_max);
    }
    settle_flags(builder);
    size_t size = rest + builder->data.size;
    struct mr_event *event = mr_alloc(sizeof(*event) + size);
    if (event == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    atomic_init(&event->refs, 1);
    event->size = (uint32_t)size;
    write_record(builder, event->data, size);
    event->crc = mr_crc32c(0, event->data, size);
    *ret_event = event;
    return MR_OK;
}

enum mr_status mr_event_builder_finish(struct mr_event_builder *builder, bool ours,
                                       struct mr_event **ret_event, struct mr_problem *problem)
{
    enum mr_status r = encode_event(builder, ours, ret_event, problem);
    mr_event_builder_release(builder);
    return r;
}

/* Copies every attribute of @p record but @p name; its place, if it has one, gets @p value. */
static enum mr_status copy_attrs(struct mr_event_builder *builder, struct mr_bytes record,
                                 struct mr_bytes name, struct mr_bytes value)
{
    const struct core_rule *rule = find_rule(name);
    enum mr_attr_type new_type = rule == NULL ? MR_ATTR_STRING : rule->type;
    unsigned count_max = MR_EVENT_ATTRS_MAX + MR_EVENT_ATTRS_ADDED_MAX;
    enum mr_status r = MR_OK;
    bool placed = false;
    uint32_t position = 0;
    struct mr_attr attr;
    while (r == MR_OK && mr_event_next_attr(record, &position, &attr)) {
        bool here = mr_bytes_equal(attr.name, name);
        placed = placed || here;
        struct mr_buf *to = builder->count < 3 ? &builder->core : &builder->attrs;
        r = append_attr(builder, to, attr.name, here ? new_type : attr.type,
                        here ? value : attr.value, count_max);
    }
    if (r == MR_OK && !placed) {
        r = append_attr(builder, &builder->attrs, name, new_type, value, count_max);
    }
    return r;
}

enum mr_status mr_event_with_attr(struct mr_bytes record, struct mr_bytes name,
                                  struct mr_bytes value, struct mr_event **ret_event,
                                  struct mr_problem *problem)
{
    /* The rules are asked of a builder of its own; the copy then needs no more checking. */
    struct mr_event_builder builder;
    mr_event_builder_init(&builder, MR_EVENT_SIZE_MAX);
    enum mr_status r = mr_event_builder_attr(&builder, name, MR_ATTR_STRING, value, problem);
    mr_event_builder_release(&builder);
    if (r != MR_OK) {
        return r;
    }
    if (!mr_bytes_equal(name, MR_BYTES_LITERAL("specversion"))) {
        r = copy_attrs(&builder, record, name, value);
    } else {
        r = copy_attrs(&builder, record, MR_BYTES_LITERAL("id"), mr_event_id(record));
    }
    if (r != MR_OK) {
        mr_event_builder_release(&builder);
        return mr_problem_set(problem, r, "no room for another attribute");
    }
    builder.core_seen = CORE_REQUIRED_MASK;
    if (mr_event_has_data(record)) {
        unsigned flags = mr_get_u16(record.data + 6);
        mr_event_builder_data(&builder, mr_event_data(record),
                              (flags & MR_EVENT_DATA_BINARY) != 0);
        if (!mr_bytes_equal(name, MR_BYTES_LITERAL("datacontenttype"))) {
            builder.flags = (uint16_t)flags;
        }
    }
    return mr_event_builder_finish(&builder, true, ret_event, problem);
}
