#include "schemas/json_tree.h"

#include "core/alloc.h"
#include "core/decimal.h"
#include "core/hash.h"
#include "core/limits.h"
#include "schemas/json_scan.h"

#define FIRST_VALUES 64u

struct reader {
    struct mr__json_tree *tree;
    struct mr__scan scan;
    struct mr_bytes text;
    uint32_t values_max;
    uint32_t parent;
    uint32_t last; /* child of parent, 0: none yet */
    uint32_t depth;
};

static enum mr_status add_value(struct reader *reader, enum mr__json_kind kind,
                                struct mr_bytes text, uint32_t *ret_at)
{
    struct mr__json_tree *tree = reader->tree;
    if (tree->count == reader->values_max) {
        return MR_E_TOO_BIG;
    }
    if (tree->count == tree->capacity) {
        uint32_t capacity = tree->capacity == 0 ? FIRST_VALUES : tree->capacity * 2;
        struct mr__json_value *values =
            mr_realloc(tree->values, (size_t)capacity * sizeof(*values));
        if (values == NULL) {
            return MR_E_NOMEM;
        }
        tree->values = values;
        tree->capacity = capacity;
    }
    uint32_t at = tree->count++;
    tree->values[at] =
        (struct mr__json_value){.text = text, .parent = reader->parent, .kind = (uint8_t)kind};
    if (reader->last != 0) {
        tree->values[reader->last].next = at;
    } else if (at > 0) {
        tree->values[reader->parent].first = at;
    }
    reader->last = at;
    *ret_at = at;
    return MR_OK;
}

static enum mr_status unescape(struct reader *reader, struct mr_bytes raw, struct mr_bytes *ret)
{
    struct mr__json_tree *tree = reader->tree;
    if (tree->arena == NULL) {
        tree->arena = mr_alloc(reader->text.size); /* no text grows by unescaping */
        if (tree->arena == NULL) {
            return MR_E_NOMEM;
        }
    }
    struct mr_buf buf;
    mr_buf_init(&buf, raw.size);
    enum mr_status r = mr__json_unescape(raw, &buf);
    if (r == MR_OK) {
        *ret = mr_bytes(tree->arena + tree->arena_used, buf.size);
        if (buf.size > 0) {
            memcpy(tree->arena + tree->arena_used, buf.data, buf.size);
        }
        tree->arena_used += buf.size;
    }
    mr_buf_release(&buf);
    return r;
}

static enum mr_status add_string(struct reader *reader, const struct mr__json_string *string)
{
    struct mr_bytes text = string->raw;
    uint32_t ignored;
    enum mr_status r = string->escaped ? unescape(reader, string->raw, &text) : MR_OK;
    return r == MR_OK ? add_value(reader, MR__JSON_STRING, text, &ignored) : r;
}

static enum mr_status open_container(struct reader *reader, bool is_object)
{
    uint32_t at;
    if (reader->depth == MR_JSON_DEPTH_MAX) {
        return MR_E_TOO_BIG;
    }
    enum mr_status r = add_value(reader, is_object ? MR__JSON_OBJECT : MR__JSON_ARRAY,
                                 mr_bytes(reader->scan.at, 0), &at);
    if (r == MR_OK) {
        reader->scan.at++;
        reader->depth++;
        reader->parent = at;
        reader->last = 0;
    }
    return r;
}

static void close_container(struct reader *reader)
{
    struct mr__json_value *value = &reader->tree->values[reader->parent];
    reader->scan.at++;
    value->text.size = (size_t)(reader->scan.at - value->text.data);
    reader->depth--;
    reader->last = reader->parent;
    reader->parent = value->parent;
}

static enum mr_status read_scalar(struct reader *reader, uint8_t byte)
{
    struct mr__scan *s = &reader->scan;
    struct mr_bytes text;
    uint32_t ignored;
    if (byte == '"') {
        struct mr__json_string string;
        return mr__scan_string(s, &string) ? add_string(reader, &string) : MR_E_INVALID;
    }
    if (byte == 't' || byte == 'f' || byte == 'n') {
        return mr__scan_literal(s, &text)
                   ? add_value(reader, byte == 'n' ? MR__JSON_NULL : MR__JSON_BOOLEAN, text,
                               &ignored)
                   : MR_E_INVALID;
    }
    return mr__scan_number(s, &text) ? add_value(reader, MR__JSON_NUMBER, text, &ignored)
                                     : MR_E_INVALID;
}

/* One value, or the beginning of a container; a member's name before it. */
static enum mr_status read_item(struct reader *reader)
{
    struct mr__scan *s = &reader->scan;
    struct mr__json_value *parent =
        reader->depth == 0 ? NULL : &reader->tree->values[reader->parent];
    if (parent != NULL) {
        parent->count++;
        if (parent->kind == MR__JSON_OBJECT) {
            struct mr__json_string name;
            if (!mr__scan_name(s, &name)) {
                return MR_E_INVALID;
            }
            enum mr_status r = add_string(reader, &name);
            if (r != MR_OK) {
                return r;
            }
        }
    }
    mr__scan_space(s);
    uint8_t byte = mr__scan_peek(s);
    if (s->at == s->end) {
        (void)mr__scan_fail(s, "a value is missing");
        return MR_E_INVALID;
    }
    return byte == '{' || byte == '[' ? open_container(reader, byte == '{')
                                      : read_scalar(reader, byte);
}

/* Behind a value, or an opening bracket: closing brackets, then a comma. *ret_more: a value
 * follows. */
static enum mr_status read_between(struct reader *reader, bool *ret_more)
{
    struct mr__scan *s = &reader->scan;
    *ret_more = false;
    for (;;) {
        mr__scan_space(s);
        if (reader->depth == 0) {
            return s->at == s->end ? MR_OK : MR_E_INVALID;
        }
        uint8_t byte = mr__scan_peek(s);
        const struct mr__json_value *parent = &reader->tree->values[reader->parent];
        if (byte == (parent->kind == MR__JSON_OBJECT ? '}' : ']')) {
            close_container(reader);
            continue;
        }
        if (parent->count > 0) {
            if (byte != ',') {
                return MR_E_INVALID;
            }
            s->at++;
            mr__scan_space(s);
        }
        *ret_more = true;
        return MR_OK;
    }
}

enum mr_status mr__json_tree_read(struct mr__json_tree *tree, struct mr_bytes text,
                                  uint32_t values_max, struct mr_problem *problem)
{
    *tree = (struct mr__json_tree){0};
    struct reader reader = {.tree = tree, .text = text, .values_max = values_max};
    mr__scan_init(&reader.scan, text);
    bool more = true;
    enum mr_status r = MR_OK;
    while (r == MR_OK && more) {
        r = read_item(&reader);
        r = r == MR_OK ? read_between(&reader, &more) : r;
    }
    if (r == MR_OK) {
        return MR_OK;
    }
    mr__json_tree_release(tree);
    if (r == MR_E_NOMEM) {
        return mr_problem_set(problem, r, "out of memory");
    }
    return r == MR_E_TOO_BIG
               ? mr_problem_set(problem, r, "JSON of more than %u values, or %u levels",
                                values_max, MR_JSON_DEPTH_MAX)
               : mr_problem_set(problem, r, "no JSON at byte %zu: %s",
                                (size_t)(reader.scan.at - reader.scan.start) + 1,
                                reader.scan.fault == NULL ? "this does not belong here"
                                                          : reader.scan.fault);
}

void mr__json_tree_release(struct mr__json_tree *tree)
{
    mr_free(tree->values);
    mr_free(tree->arena);
    *tree = (struct mr__json_tree){0};
}

uint32_t mr__json_member(const struct mr__json_tree *tree, uint32_t object, struct mr_bytes name)
{
    if (tree->values[object].kind != MR__JSON_OBJECT) {
        return 0;
    }
    for (uint32_t at = tree->values[object].first; at != 0;) {
        uint32_t value = tree->values[at].next;
        if (mr_bytes_equal(tree->values[at].text, name)) {
            return value;
        }
        at = tree->values[value].next;
    }
    return 0;
}

static enum mr_status append_segment(struct mr_buf *out, struct mr_bytes name)
{
    enum mr_status r = mr_buf_append_byte(out, '/');
    for (size_t i = 0; i < name.size && r == MR_OK; i++) {
        uint8_t b = name.data[i];
        r = b == '~'   ? mr_buf_append_text(out, "~0")
            : b == '/' ? mr_buf_append_text(out, "~1")
                       : mr_buf_append_byte(out, b);
    }
    return r;
}

enum mr_status mr__json_pointer(const struct mr__json_tree *tree, uint32_t value,
                                struct mr_buf *out)
{
    uint32_t way[MR_JSON_DEPTH_MAX + 1];
    uint32_t depth = 0;
    for (uint32_t at = value; at != 0; at = tree->values[at].parent) {
        way[depth++] = at;
    }
    enum mr_status r = MR_OK;
    while (depth > 0 && r == MR_OK) {
        uint32_t to = way[--depth];
        const struct mr__json_value *parent = &tree->values[tree->values[to].parent];
        uint32_t at = parent->first;
        uint32_t index = 0;
        if (parent->kind == MR__JSON_ARRAY) {
            for (; at != to; at = tree->values[at].next) {
                index++;
            }
            r = mr_buf_printf(out, "/%u", index);
            continue;
        }
        while (at != to && tree->values[at].next != to) { /* a name stands for its member */
            at = tree->values[tree->values[at].next].next;
        }
        r = append_segment(out, tree->values[at].text);
    }
    return r;
}

static bool is_container(const struct mr__json_value *value)
{
    return value->kind >= MR__JSON_ARRAY;
}

/* Without what is below. */
static bool equals_alone(const struct mr__json_value *a, const struct mr__json_value *b)
{
    if (a->kind != b->kind || a->count != b->count) {
        return false;
    }
    return is_container(a) || (a->kind == MR__JSON_NUMBER
                                   ? mr_decimal_compare(a->text, b->text) == 0
                                   : mr_bytes_equal(a->text, b->text));
}

bool mr__json_equal(const struct mr__json_tree *a, uint32_t at_a, const struct mr__json_tree *b,
                    uint32_t at_b, uint64_t *steps)
{
    uint32_t others[MR_JSON_DEPTH_MAX + 1]; /* what the containers around at_a are compared with */
    uint32_t depth = 0;
    uint32_t top = at_a;
    for (;;) {
        const struct mr__json_value *x = &a->values[at_a];
        if (!equals_alone(x, &b->values[at_b])) {
            return false;
        }
        /* Into a container, else on to what follows: of this, or of the container around. */
        uint32_t next = is_container(x) ? x->first : 0;
        if (next != 0) {
            others[depth++] = at_b;
            at_b = b->values[at_b].first;
        }
        while (next == 0) {
            if (at_a == top) {
                return true;
            }
            next = a->values[at_a].next;
            at_b = b->values[at_b].next;
            if (next == 0) {
                at_a = a->values[at_a].parent;
                at_b = others[--depth];
            }
        }
        if (a->values[a->values[next].parent].kind == MR__JSON_OBJECT) {
            uint32_t other = others[depth - 1];
            uint64_t cost = b->values[other].count;
            at_b = mr__json_member(b, other, a->values[next].text);
            if (at_b == 0 || *steps <= cost) {
                *steps = *steps <= cost ? 0 : *steps;
                return false;
            }
            *steps -= cost;
            next = a->values[next].next;
        }
        if (*steps == 0) {
            return false;
        }
        --*steps;
        at_a = next;
    }
}

void mr__json_hash(const struct mr__json_tree *tree, uint64_t *hashes)
{
    for (uint32_t at = tree->count; at-- > 0;) { /* children stand behind their parents */
        const struct mr__json_value *value = &tree->values[at];
        uint64_t h = value->kind == MR__JSON_NUMBER ? mr_decimal_hash(value->text)
                     : is_container(value)          ? value->count
                                           : mr_hash(value->text.data, value->text.size);
        uint64_t place = 0;
        for (uint32_t child = value->first; child != 0; child = tree->values[child].next) {
            if (value->kind == MR__JSON_OBJECT) {
                uint32_t name = child;
                child = tree->values[name].next;
                h += mr_hash_u64(hashes[name] * 31 + hashes[child]);
            } else {
                h += mr_hash_u64(hashes[child] + ++place * 0x9E3779B97F4A7C15ull);
            }
        }
        hashes[at] = mr_hash_u64(h + value->kind);
    }
}
