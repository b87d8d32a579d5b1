#include "router/transform.h"

#include "core/alloc.h"
#include "core/assert.h"
#include "core/limits.h"
#include "router/data.h"
#include "router/internal.h"
#include "router/view.h"
#include "schemas/json_format.h"
#include "schemas/json_scan.h"
#include "schemas/template.h"

#define EDITS_MAX 64u
#define TEXT_MAX (64u * MR_KIB) /* of one template */

enum kind {
    RENAME = 0,
    SET_ATTR,
    SET_DATA,
    DROP_ATTR,
    DROP_DATA,
};

struct edit {
    enum kind kind;
    char *name; /* owned; an attribute, or the path below data: "" is all of it */
    char *text; /* owned; RENAME: the new name, SET_ATTR: a template, SET_DATA: JSON with slots */
};

struct mr_transform {
    char *program; /* owned; NULL: the declarative form */
    uint64_t timeout_ns;
    uint32_t count;
    bool edits_data;
    bool replaces_data; /* the first edit of the data is of all of it */
    struct edit edits[EDITS_MAX];
};

struct maker {
    struct mr_transform *transform; /* borrowed */
    const char *section;            /* "set", … */
    struct mr_problem *problem;
};

/* --- compiling -------------------------------------------------------------------------------- */

static enum mr_status refuse(const struct maker *m, const char *name, enum mr_status status,
                             const char *reason)
{
    return mr_problem_set(m->problem, status, "%s.%.100s %s", m->section, name, reason);
}

static char *take_string(struct mr_bytes raw)
{
    struct mr_buf buf;
    mr_buf_init(&buf, TEXT_MAX);
    char *text = mr__json_unescape(raw, &buf) == MR_OK ? mr_buf_take_text(&buf) : NULL;
    mr_buf_release(&buf);
    return text;
}

static bool is_string(struct mr_bytes value)
{
    return value.size >= 2 && value.data[0] == '"';
}

static struct mr_bytes inside(struct mr_bytes string)
{
    return mr_bytes(string.data + 1, string.size - 2);
}

/* Whether the attribute @p name may be changed: not what identifies the event, nor what Millrace
 * counts by. */
static const char *attribute_fault(const char *name)
{
    if (!mr__name_is_legal(mr_bytes_of(name))) {
        return "is neither an attribute (lower case letters and digits) nor data.PATH";
    }
    if (strcmp(name, "id") == 0 || strcmp(name, "specversion") == 0 ||
        strncmp(name, "mr", 2) == 0) {
        return "cannot be changed: it is how the event is known";
    }
    return NULL;
}

/* @p name and @p text are owned by the transform then, also on failure. */
static enum mr_status add_edit(struct maker *m, enum kind kind, char *name, char *text)
{
    struct mr_transform *t = m->transform;
    if (name == NULL || (text == NULL && kind < DROP_ATTR) || t->count == EDITS_MAX) {
        bool is_full = t->count == EDITS_MAX;
        mr_free(name);
        mr_free(text);
        return mr_problem_set(m->problem, is_full ? MR_E_TOO_BIG : MR_E_NOMEM,
                              is_full ? "more than 64 changes" : "out of memory, or too long");
    }
    t->edits[t->count++] = (struct edit){.kind = kind, .name = name, .text = text};
    if (kind == SET_DATA || kind == DROP_DATA) {
        t->replaces_data |= !t->edits_data && name[0] == '\0';
        t->edits_data = true;
        return name[0] == '\0' || mr__path_is_legal(mr_bytes_of(name))
                   ? MR_OK
                   : refuse(m, name, MR_E_INVALID, "is no path: segments between single dots");
    }
    const char *fault = attribute_fault(name);
    return fault == NULL ? MR_OK : refuse(m, name, MR_E_INVALID, fault);
}

/* The path of data.PATH, "" for data, or NULL: an attribute. */
static const char *data_path(const char *name)
{
    return strcmp(name, "data") == 0        ? name + 4
           : strncmp(name, "data.", 5) == 0 ? name + 5
                                            : NULL;
}

/* The end of the JSON string whose inside begins at @p text: its closing quote. */
static const char *string_end(const char *text)
{
    while (*text != '"') {
        text += *text == '\\' ? 2 : 1;
    }
    return text;
}

/* The same question for each text in the JSON text @p json: outside, braces are JSON's. */
static bool json_is_valid_template(const char *json)
{
    bool good = true;
    for (const char *at = strchr(json, '"'); at != NULL && good; at = strchr(at, '"')) {
        const char *end = string_end(++at);
        char *text = mr_strndup(at, (size_t)(end - at));
        good = text != NULL && mr_template_is_valid(text);
        mr_free(text);
        at = end + 1;
    }
    return good;
}

static enum mr_status add_set(struct maker *m, const char *name, struct mr_bytes value)
{
    const char *path = data_path(name);
    if (path == NULL && (value.data[0] == '{' || value.data[0] == '[' || value.data[0] == 'n')) {
        return refuse(m, name, MR_E_INVALID, "wants a single value");
    }
    char *text = path == NULL && is_string(value)
                     ? take_string(inside(value))
                     : mr_strndup((const char *)value.data, value.size);
    bool good = text == NULL || (path == NULL ? mr_template_is_valid(text)
                                              : json_is_valid_template(text));
    if (!good) {
        mr_free(text);
        return refuse(m, name, MR_E_INVALID,
                      "has braces that do not match, or hold neither an attribute nor data.PATH");
    }
    return add_edit(m, path == NULL ? SET_ATTR : SET_DATA, mr_strdup(path == NULL ? name : path),
                    text);
}

static enum mr_status add_rename(struct maker *m, const char *name, struct mr_bytes value)
{
    char *to = is_string(value) ? take_string(inside(value)) : NULL;
    const char *fault = to == NULL ? "wants the name of an attribute" : attribute_fault(to);
    if (fault != NULL) {
        mr_free(to);
        return refuse(m, name, MR_E_INVALID, fault);
    }
    return add_edit(m, RENAME, mr_strdup(name), to);
}

static enum mr_status compile_mapping(struct maker *m, struct mr_bytes value,
                                      enum mr_status (*add)(struct maker *m, const char *name,
                                                            struct mr_bytes value))
{
    struct mr__scan s;
    struct mr__json_string name;
    struct mr_bytes item;
    if (!mr__json_open(&s, value, '{')) {
        return mr_problem_set(m->problem, MR_E_INVALID, "%s wants a mapping", m->section);
    }
    enum mr_status r = MR_OK;
    while (r == MR_OK && mr__json_next(&s, &name, &item)) {
        char *key = take_string(name.raw);
        r = key == NULL ? mr_problem_set(m->problem, MR_E_NOMEM, "out of memory")
                        : add(m, key, item);
        mr_free(key);
    }
    return r;
}

static enum mr_status compile_drop(struct maker *m, struct mr_bytes value)
{
    struct mr__scan s;
    struct mr_bytes item;
    if (!mr__json_open(&s, value, '[')) {
        return mr_problem_set(m->problem, MR_E_INVALID, "drop wants a list of names");
    }
    enum mr_status r = MR_OK;
    while (r == MR_OK && mr__json_next(&s, NULL, &item)) {
        char *name = is_string(item) ? take_string(inside(item)) : NULL;
        if (name == NULL) {
            return mr_problem_set(m->problem, MR_E_INVALID, "drop wants a list of names");
        }
        const char *path = data_path(name);
        bool required = strcmp(name, "source") == 0 || strcmp(name, "type") == 0;
        r = required ? refuse(m, name, MR_E_INVALID, "cannot be dropped: every event has it")
                     : add_edit(m, path == NULL ? DROP_ATTR : DROP_DATA,
                                mr_strdup(path == NULL ? name : path), NULL);
        mr_free(name);
    }
    return r;
}

static bool keys_are_known(struct mr_bytes json)
{
    static const char *const keys[] = {"set", "rename", "drop", "jq", "timeout"};
    struct mr__scan s;
    struct mr__json_string name;
    struct mr_bytes value;
    bool known = mr__json_open(&s, json, '{');
    while (known && mr__json_next(&s, &name, &value)) {
        known = false;
        for (size_t i = 0; i < MR_ARRAY_COUNT(keys) && !known; i++) {
            known = mr_bytes_equal(name.raw, mr_bytes_of(keys[i]));
        }
    }
    return known;
}

static enum mr_status compile_sections(struct maker *m, struct mr_bytes json)
{
    struct mr_bytes value;
    struct mr__scan s;
    if (!mr_json_is_value(json) || !mr__json_open(&s, json, '{')) {
        return mr_problem_set(m->problem, MR_E_INVALID,
                              "transform wants a mapping: {set: …, rename: …, drop: …} or {jq: …}");
    }
    if (!keys_are_known(json)) {
        return mr_problem_set(m->problem, MR_E_INVALID,
                              "transform has an unknown key; there are: set, rename, drop, or jq "
                              "and timeout");
    }
    if (mr__json_find(json, "jq", &value)) {
        return mr__transform_compile_jq(json, value, &m->transform->program,
                                        &m->transform->timeout_ns, m->problem);
    }
    if (mr__json_find(json, "timeout", &value)) {
        return mr_problem_set(m->problem, MR_E_INVALID, "timeout belongs to jq");
    }
    enum mr_status r = MR_OK;
    m->section = "rename";
    if (mr__json_find(json, m->section, &value)) {
        r = compile_mapping(m, value, add_rename);
    }
    m->section = "set";
    if (r == MR_OK && mr__json_find(json, m->section, &value)) {
        r = compile_mapping(m, value, add_set);
    }
    m->section = "drop";
    if (r == MR_OK && mr__json_find(json, m->section, &value)) {
        r = compile_drop(m, value);
    }
    return r == MR_OK && m->transform->count == 0
               ? mr_problem_set(m->problem, MR_E_INVALID, "transform changes nothing")
               : r;
}

enum mr_status mr_transform_create(struct mr_bytes json, struct mr_transform **ret_transform,
                                   struct mr_problem *problem)
{
    struct mr_transform *t = mr_calloc(1, sizeof(*t));
    if (t == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    struct maker maker = {.transform = t, .problem = problem};
    enum mr_status r = compile_sections(&maker, json);
    if (r != MR_OK) {
        mr_transform_destroy(t);
        return r;
    }
    *ret_transform = t;
    return MR_OK;
}

void mr_transform_destroy(struct mr_transform *transform)
{
    for (uint32_t i = 0; transform != NULL && i < transform->count; i++) {
        mr_free(transform->edits[i].name);
        mr_free(transform->edits[i].text);
    }
    if (transform != NULL) {
        mr_free(transform->program);
    }
    mr_free(transform);
}

const char *mr_transform_program(const struct mr_transform *transform, uint64_t *ret_timeout_ns)
{
    if (transform->program != NULL) {
        *ret_timeout_ns = transform->timeout_ns;
    }
    return transform->program;
}

/* --- data ------------------------------------------------------------------------------------- */

/* Appends @p text, the inside of a JSON string, with its slots as text. */
static enum mr_status fill_string(const char *text, size_t size, struct mr_bytes record,
                                  struct mr_buf *out)
{
    struct mr_bytes name;
    const char *end = text + size;
    const char *behind;
    struct mr_buf value;
    mr_buf_init(&value, out->size_max);
    enum mr_status r = MR_OK;
    while (r == MR_OK) {
        const char *slot = mr_template_next(text, &name, &behind);
        if (slot == NULL || slot >= end) {
            r = mr_buf_append(out, text, (size_t)(end - text));
            break;
        }
        mr_buf_clear(&value);
        r = mr_buf_append(out, text, (size_t)(slot - text));
        r = r == MR_OK ? mr_template_append(name, record, &value) : r;
        size_t quote = out->size;
        r = r == MR_OK ? mr_buf_append_json(out, mr_buf_bytes(&value)) : r;
        if (r == MR_OK) { /* without its quotes */
            memmove(out->data + quote, out->data + quote + 1, out->size - quote - 2);
            out->size -= 2;
        }
        text = behind;
    }
    mr_buf_release(&value);
    return r;
}

/* A text that is one slot: the JSON value it stands for, a text for what is none, or null. */
static enum mr_status fill_value(struct mr_bytes name, struct mr_bytes record, struct mr_buf *out)
{
    struct mr_bytes value;
    if (mr_template_json(name, record, &value)) {
        return mr_buf_append_bytes(out, value);
    }
    struct mr_buf text;
    mr_buf_init(&text, out->size_max);
    enum mr_status r = mr_template_append(name, record, &text);
    if (r == MR_OK) {
        r = text.size == 0 ? mr_buf_append_text(out, "null")
                           : mr_buf_append_json(out, mr_buf_bytes(&text));
    }
    mr_buf_release(&text);
    return r;
}

/* Appends the JSON text @p json, which is sound, with its slots filled in: one pass over it,
 * whatever its shape. */
static enum mr_status fill_json(const char *json, struct mr_bytes record, struct mr_buf *out)
{
    enum mr_status r = MR_OK;
    while (r == MR_OK && *json != '\0') {
        size_t plain = strcspn(json, "\"");
        r = mr_buf_append(out, json, plain);
        json += plain;
        if (r != MR_OK || *json == '\0') {
            break;
        }
        const char *text = json + 1;
        json = string_end(text);
        size_t size = (size_t)(json++ - text);
        struct mr_bytes name;
        const char *behind = NULL;
        const char *slot = mr_template_next(text, &name, &behind);
        if (slot == text && behind == text + size && *json != ':') {
            r = fill_value(name, record, out);
            continue;
        }
        r = mr_buf_append_byte(out, '"');
        r = r == MR_OK ? fill_string(text, size, record, out) : r;
        r = r == MR_OK ? mr_buf_append_byte(out, '"') : r;
    }
    return r;
}

static struct mr_bytes next_segment(const char **path)
{
    size_t size = strcspn(*path, ".");
    struct mr_bytes segment = mr_bytes(*path, size);
    *path += size + ((*path)[size] == '.');
    return segment;
}

/* A child of the object or array @p *container: its value, and what has to go for it to be gone.
 * @return false: there is none of that name or number */
static bool find_child(struct mr_bytes container, struct mr_bytes segment,
                       struct mr_bytes *ret_value, struct mr_bytes *ret_whole)
{
    struct mr__scan s;
    struct mr__json_string name;
    struct mr_bytes value;
    uint64_t wanted = UINT64_MAX;
    bool is_object = container.data[0] == '{';
    (void)mr_parse_u64(segment, &wanted); /* not a number: no element has it */
    if (!mr__json_open(&s, container, is_object ? '{' : '[')) {
        return false;
    }
    const uint8_t *before = container.data + 1;
    for (uint64_t i = 0; mr__json_next(&s, is_object ? &name : NULL, &value); i++) {
        bool found = is_object ? mr_bytes_equal(name.raw, segment) : i == wanted;
        if (found) {
            const uint8_t *end = value.data + value.size;
            struct mr__json_string next;
            struct mr_bytes after;
            *ret_value = value;
            if (i == 0 && mr__json_next(&s, is_object ? &next : NULL, &after)) {
                end = is_object ? next.raw.data - 1 : after.data;
            }
            *ret_whole = mr_bytes(before, (size_t)(end - before));
            return true;
        }
        before = value.data + value.size;
    }
    return false;
}

/* Appends @p text with @p with in the place of @p part. */
static enum mr_status splice(struct mr_bytes text, struct mr_bytes part, struct mr_bytes with,
                             struct mr_buf *out)
{
    size_t from = (size_t)(part.data - text.data);
    enum mr_status r = mr_buf_append(out, text.data, from);
    r = r == MR_OK ? mr_buf_append_bytes(out, with) : r;
    return r == MR_OK ? mr_buf_append(out, part.data + part.size, text.size - from - part.size)
                      : r;
}

/* A member that @p object lacks, with the objects on the way to it. */
static enum mr_status insert(struct mr_bytes text, struct mr_bytes object, struct mr_bytes segment,
                             const char *path, struct mr_bytes value, struct mr_buf *out)
{
    struct mr__scan s;
    struct mr__json_string name;
    struct mr_bytes ignored;
    bool is_empty = !mr__json_open(&s, object, '{') || !mr__json_next(&s, &name, &ignored);
    struct mr_buf member;
    mr_buf_init(&member, out->size_max);
    uint32_t depth = 0;
    enum mr_status r = is_empty ? MR_OK : mr_buf_append_byte(&member, ',');
    for (;;) {
        r = r == MR_OK ? mr_buf_append_json(&member, segment) : r;
        r = r == MR_OK ? mr_buf_append_byte(&member, ':') : r;
        if (r != MR_OK || *path == '\0') {
            break;
        }
        r = mr_buf_append_byte(&member, '{');
        depth++;
        segment = next_segment(&path);
    }
    r = r == MR_OK ? mr_buf_append_bytes(&member, value) : r;
    for (; depth > 0 && r == MR_OK; depth--) {
        r = mr_buf_append_byte(&member, '}');
    }
    r = r == MR_OK ? splice(text, mr_bytes(object.data + object.size - 1, 0),
                            mr_buf_bytes(&member), out)
                   : r;
    mr_buf_release(&member);
    return r;
}

static struct mr_bytes trim(struct mr_bytes text)
{
    while (text.size > 0 && text.data[0] <= ' ') {
        text = mr_bytes(text.data + 1, text.size - 1);
    }
    while (text.size > 0 && text.data[text.size - 1] <= ' ') {
        text.size--;
    }
    return text;
}

/* One edit of the JSON text @p text. @param value NULL data: the place goes */
static enum mr_status edit_place(struct mr_bytes text, const char *path, struct mr_bytes value,
                                 struct mr_buf *out)
{
    struct mr_bytes container = trim(text);
    const char *rest = path;
    while (container.size > 0 && (container.data[0] == '{' || container.data[0] == '[')) {
        struct mr_bytes segment = next_segment(&rest);
        struct mr_bytes child;
        struct mr_bytes whole;
        if (!find_child(container, segment, &child, &whole)) {
            bool can_grow = value.data != NULL && container.data[0] == '{';
            return can_grow              ? insert(text, container, segment, rest, value, out)
                   : value.data == NULL ? mr_buf_append_bytes(out, text)
                                        : MR_E_INVALID;
        }
        if (*rest == '\0') {
            return splice(text, value.data == NULL ? whole : child, value, out);
        }
        container = child;
    }
    return value.data == NULL ? mr_buf_append_bytes(out, text) : MR_E_INVALID;
}

static enum mr_status edit_data(const struct edit *edit, struct mr_bytes record,
                                struct mr_buf *data, struct mr_problem *problem)
{
    struct mr_buf value;
    struct mr_buf out;
    mr_buf_init(&value, data->size_max);
    mr_buf_init(&out, data->size_max);
    enum mr_status r = edit->kind == SET_DATA ? fill_json(edit->text, record, &value) : MR_OK;
    if (r == MR_OK && edit->name[0] == '\0') {
        r = mr_buf_append_bytes(&out, mr_buf_bytes(&value));
    } else if (r == MR_OK) {
        r = edit_place(mr_buf_bytes(data), edit->name, mr_buf_bytes(&value), &out);
    }
    mr_buf_release(&value);
    if (r != MR_OK) {
        mr_buf_release(&out);
        return r == MR_E_INVALID
                   ? mr_problem_set(problem, r, "set.data.%.100s: no object stands there",
                                    edit->name)
                   : mr_problem_set(problem, r, "the event would be too large");
    }
    mr_buf_release(data);
    *data = out;
    return MR_OK;
}

/* The data after all edits. */
static enum mr_status make_data(const struct mr_transform *t, struct mr_bytes record,
                                struct mr_buf *data, struct mr_problem *problem)
{
    enum mr_status r = MR_OK;
    if (!t->replaces_data && mr_event_has_data(record)) {
        if (!mr_event_data_is_json(record)) {
            return mr_problem_set(problem, MR_E_INVALID, "the data is no JSON");
        }
        r = mr_buf_append_bytes(data, mr_event_data(record));
    } else if (!t->replaces_data) {
        r = mr_buf_append_text(data, "{}");
    }
    for (uint32_t i = 0; i < t->count && r == MR_OK; i++) {
        if (t->edits[i].kind == SET_DATA || t->edits[i].kind == DROP_DATA) {
            r = edit_data(&t->edits[i], record, data, problem);
        }
    }
    return r;
}

/* --- attributes ------------------------------------------------------------------------------- */

/* The last edit of @p name among those from kind @p first to @p last, or NULL. */
static const struct edit *find_edit(const struct mr_transform *t, struct mr_bytes name,
                                    enum kind kind)
{
    const struct edit *found = NULL;
    for (uint32_t i = 0; i < t->count; i++) {
        if (t->edits[i].kind == kind && mr_bytes_equal(mr_bytes_of(t->edits[i].name), name)) {
            found = &t->edits[i];
        }
    }
    return found;
}

/* Attributes that stay, under their new names. */
static enum mr_status keep_attrs(const struct mr_transform *t, struct mr_bytes record,
                                 struct mr_event_builder *builder, struct mr_problem *problem)
{
    uint32_t position = 0;
    struct mr_attr attr;
    enum mr_status r = MR_OK;
    while (r == MR_OK && mr_event_next_attr(record, &position, &attr)) {
        const struct edit *rename = find_edit(t, attr.name, RENAME);
        struct mr_bytes name = rename == NULL ? attr.name : mr_bytes_of(rename->text);
        bool goes = find_edit(t, name, SET_ATTR) != NULL || find_edit(t, name, DROP_ATTR) != NULL;
        goes |= t->edits_data && mr_bytes_equal(name, MR_BYTES_LITERAL("datacontenttype")) &&
                !mr_media_type_is_json(attr.value);
        r = goes ? MR_OK : mr_event_builder_attr(builder, name, attr.type, attr.value, problem);
    }
    return r;
}

static enum mr_status set_attrs(const struct mr_transform *t, struct mr_bytes record,
                                struct mr_event_builder *builder, struct mr_problem *problem)
{
    struct mr_buf text;
    mr_buf_init(&text, MR_EVENT_ATTRS_SIZE_MAX);
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < t->count && r == MR_OK; i++) {
        const struct edit *edit = &t->edits[i];
        struct mr_bytes name = mr_bytes_of(edit->name);
        if (edit->kind != SET_ATTR || find_edit(t, name, DROP_ATTR) != NULL ||
            find_edit(t, name, SET_ATTR) != edit) {
            continue;
        }
        mr_buf_clear(&text);
        r = mr_template_fill(edit->text, record, &text);
        if (r == MR_OK && text.size > 0) {
            r = mr_event_builder_attr(builder, name, MR_ATTR_STRING, mr_buf_bytes(&text), problem);
        } else if (r != MR_OK) {
            (void)mr_problem_set(problem, r, "set.%s: the value is too long", edit->name);
        }
    }
    mr_buf_release(&text);
    return r;
}

enum mr_status mr_transform_apply(const struct mr_transform *transform, struct mr_bytes record,
                                  size_t size_max, struct mr_event **ret_event,
                                  struct mr_problem *problem)
{
    MR_ASSERT(transform->program == NULL);
    struct mr_event_builder builder;
    struct mr_buf data;
    mr_event_builder_init(&builder, size_max);
    mr_buf_init(&data, size_max);
    enum mr_status r = keep_attrs(transform, record, &builder, problem);
    r = r == MR_OK ? set_attrs(transform, record, &builder, problem) : r;
    if (r == MR_OK && transform->edits_data) {
        r = make_data(transform, record, &data, problem);
        bool has_data = r == MR_OK && data.size > 0; /* dropped as a whole: none is left */
        if (has_data) {
            mr_event_builder_data(&builder, mr_buf_bytes(&data), false);
        }
    } else if (r == MR_OK && mr_event_has_data(record)) {
        bool binary = (mr_get_u16(record.data + 6) & MR_EVENT_DATA_BINARY) != 0;
        mr_event_builder_data(&builder, mr_event_data(record), binary);
    }
    r = r == MR_OK ? mr_event_builder_finish(&builder, true, ret_event, problem) : r;
    mr_event_builder_release(&builder);
    mr_buf_release(&data);
    return r;
}
