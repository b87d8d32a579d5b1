/* Owns the keywords: what each may say, and the ops it becomes. Nodes are compiled in the order in
 * which they were found, so nothing recurses. */
#include <stdlib.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/decimal.h"
#include "core/hash.h"
#include "schemas/schema_internal.h"

#define NODES_MAX 20000u
#define ITEMS_MAX 200000u /* ops, entries, members of lists */

/* --- room ------------------------------------------------------------------------------------- */

enum mr_status mr__grow(void **items, uint32_t count, uint32_t *capacity, size_t size)
{
    if (count < *capacity) {
        return MR_OK;
    }
    if (count >= ITEMS_MAX) {
        return MR_E_TOO_BIG;
    }
    uint32_t more = *capacity == 0 ? 8 : *capacity * 2;
    void *grown = mr_realloc(*items, more * size);
    if (grown == NULL) {
        return MR_E_NOMEM;
    }
    *items = grown;
    *capacity = more;
    return MR_OK;
}

enum mr_status mr__schema_place(const struct mr_schema *schema, uint32_t document, uint32_t at,
                                struct mr_buf *out)
{
    const struct mr__document *d = &schema->documents[document];
    const char *slash = strrchr(d->path, '/');
    enum mr_status r = mr_buf_printf(out, "%s#", slash == NULL ? d->path : slash + 1);
    return r == MR_OK ? mr__json_pointer(&d->tree, at, out) : r;
}

enum mr_status mr__schema_refuse(const struct mr__schema_maker *maker, uint32_t at,
                                 enum mr_status status, const char *reason)
{
    struct mr_buf place;
    mr_buf_init(&place, MR_ERROR_TEXT_MAX);
    enum mr_status r = mr__schema_place(maker->schema, maker->schema->nodes[maker->node].document,
                                        at, &place);
    (void)r; /* a long place is cut */
    (void)mr_problem_set(maker->problem, status, "%.*s %s", (int)place.size,
                         place.data == NULL ? "" : (const char *)place.data, reason);
    mr_buf_release(&place);
    return status;
}

static enum mr_status refuse_room(const struct mr__schema_maker *maker, enum mr_status r)
{
    return mr_problem_set(maker->problem, r,
                          r == MR_E_NOMEM ? "out of memory" : "the schema is too large");
}

enum mr_status mr__schema_add_node(struct mr__schema_maker *maker, uint32_t document, uint32_t at,
                                   uint32_t resource, uint32_t *ret_node)
{
    struct mr_schema *s = maker->schema;
    struct mr__document *d = &s->documents[document];
    if (d->node_of[at] != 0) {
        *ret_node = d->node_of[at] - 1;
        return MR_OK;
    }
    void *items = s->nodes;
    enum mr_status r = s->node_count == NODES_MAX
                           ? MR_E_TOO_BIG
                           : mr__grow(&items, s->node_count, &s->node_capacity, sizeof(*s->nodes));
    s->nodes = items;
    if (r != MR_OK) {
        return refuse_room(maker, r);
    }
    uint32_t node = s->node_count++;
    s->nodes[node] = (struct mr__node){.document = document, .at = at, .resource = resource};
    d->node_of[at] = node + 1;
    *ret_node = node;
    return MR_OK;
}

/* --- what keywords share ---------------------------------------------------------------------- */

static const struct mr__json_tree *tree_of(const struct mr__schema_maker *maker)
{
    const struct mr_schema *s = maker->schema;
    return &s->documents[s->nodes[maker->node].document].tree;
}

static const struct mr__json_value *value_at(const struct mr__schema_maker *maker, uint32_t at)
{
    return &tree_of(maker)->values[at];
}

/* The value of another keyword of the present node, or 0. */
static uint32_t find_keyword(const struct mr__schema_maker *maker, const char *name)
{
    return mr__json_member(tree_of(maker), maker->schema->nodes[maker->node].at,
                           mr_bytes_of(name));
}

/* The node of the schema at @p at, a child of the present one. */
static enum mr_status add_child(struct mr__schema_maker *maker, uint32_t at, uint32_t *ret_node)
{
    const struct mr__node *node = &maker->schema->nodes[maker->node];
    return mr__schema_add_node(maker, node->document, at, node->resource, ret_node);
}

static enum mr_status add_op(struct mr__schema_maker *maker, struct mr__op op)
{
    struct mr_schema *s = maker->schema;
    void *items = s->ops;
    enum mr_status r = mr__grow(&items, s->op_count, &s->op_capacity, sizeof(*s->ops));
    s->ops = items;
    if (r != MR_OK) {
        return refuse_room(maker, r);
    }
    s->ops[s->op_count++] = op;
    s->nodes[maker->node].op_count++;
    return MR_OK;
}

static enum mr_status add_entry(struct mr__schema_maker *maker, struct mr__entry entry)
{
    struct mr_schema *s = maker->schema;
    void *items = s->entries;
    enum mr_status r = mr__grow(&items, s->entry_count, &s->entry_capacity, sizeof(*s->entries));
    s->entries = items;
    if (r != MR_OK) {
        return refuse_room(maker, r);
    }
    s->entries[s->entry_count++] = entry;
    return MR_OK;
}

static enum mr_status add_to_list(struct mr__schema_maker *maker, uint32_t node)
{
    struct mr_schema *s = maker->schema;
    void *items = s->list;
    enum mr_status r = mr__grow(&items, s->list_count, &s->list_capacity, sizeof(*s->list));
    s->list = items;
    if (r != MR_OK) {
        return refuse_room(maker, r);
    }
    s->list[s->list_count++] = node;
    return MR_OK;
}

static enum mr_status add_regex(struct mr__schema_maker *maker, uint32_t at, uint32_t *ret_regex)
{
    struct mr_schema *s = maker->schema;
    void *items = s->regexes;
    enum mr_status r = mr__grow(&items, s->regex_count, &s->regex_capacity, sizeof(*s->regexes));
    s->regexes = items;
    if (r != MR_OK) {
        return refuse_room(maker, r);
    }
    struct mr_problem problem = {""};
    struct mr_regex *regex = NULL;
    r = mr_regex_create(value_at(maker, at)->text, &regex, &problem);
    if (r != MR_OK) {
        return mr__schema_refuse(maker, at, r, problem.text);
    }
    uint32_t scratch = mr_regex_scratch(regex);
    s->scratch = scratch > s->scratch ? scratch : s->scratch;
    *ret_regex = s->regex_count;
    s->regexes[s->regex_count++] = regex;
    return MR_OK;
}

/* --- keywords --------------------------------------------------------------------------------- */

struct keyword {
    const char *name;
    uint8_t drafts;
    uint8_t kinds; /* bits: what its value may be */
    uint8_t op;
    enum mr_status (*compile)(struct mr__schema_maker *maker, uint8_t op, uint32_t at);
};

#define BIT(kind) (1u << MR__JSON_##kind)
#define IS_SCHEMA (BIT(OBJECT) | BIT(BOOLEAN))
#define IS_ANY 0xFFu

static enum mr_status compile_nothing(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    (void)maker;
    (void)op;
    (void)at;
    return MR_OK;
}

static enum mr_status compile_unsupported(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    (void)op;
    return mr__schema_refuse(maker, at, MR_E_UNSUPPORTED, "is not supported");
}

static enum mr_status compile_id(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    (void)op;
    return mr__schema_take_id(maker, at);
}

static enum mr_status compile_anchor(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    (void)op;
    return mr__schema_take_anchor(maker, at);
}

/* A schema that another keyword applies, or nobody: a reference may lead to it. */
static enum mr_status compile_hidden(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    (void)op;
    uint32_t ignored;
    return add_child(maker, at, &ignored);
}

/* Schemas that are there to be referred to. */
static enum mr_status compile_definitions(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    (void)op;
    enum mr_status r = MR_OK;
    uint32_t ignored;
    for (uint32_t name = value_at(maker, at)->first; name != 0 && r == MR_OK;) {
        uint32_t value = value_at(maker, name)->next;
        r = add_child(maker, value, &ignored);
        name = value_at(maker, value)->next;
    }
    return r;
}

/* Values that the check looks at as they stand. */
static enum mr_status compile_plain(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    if (op == MR__OP_UNIQUE && value_at(maker, at)->text.data[0] == 'f') {
        return MR_OK;
    }
    if (op == MR__OP_MULTIPLE_OF && !mr_decimal_is_divisor(value_at(maker, at)->text)) {
        return mr__schema_refuse(maker, at, MR_E_INVALID,
                                 "wants a number above 0 of at most 17 digits");
    }
    return add_op(maker, (struct mr__op){.kind = op, .at = at});
}

static enum mr_status compile_type(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    static const struct {
        const char *name;
        uint32_t bits;
    } types[] = {
        {"null", BIT(NULL)},     {"boolean", BIT(BOOLEAN)}, {"number", BIT(NUMBER)},
        {"string", BIT(STRING)}, {"array", BIT(ARRAY)},     {"object", BIT(OBJECT)},
        {"integer", MR__TYPE_INTEGER},
    };
    bool is_list = value_at(maker, at)->kind == MR__JSON_ARRAY;
    uint32_t bits = 0;
    uint32_t item = is_list ? value_at(maker, at)->first : at;
    while (item != 0) {
        size_t i = 0;
        while (i < MR_ARRAY_COUNT(types) &&
               !mr_bytes_equal(value_at(maker, item)->text, mr_bytes_of(types[i].name))) {
            i++;
        }
        if (i == MR_ARRAY_COUNT(types)) {
            return mr__schema_refuse(maker, item, MR_E_INVALID,
                                     "is no type: null, boolean, number, integer, string, array, "
                                     "object");
        }
        bits |= types[i].bits;
        item = is_list ? value_at(maker, item)->next : 0;
    }
    return add_op(maker, (struct mr__op){.kind = op, .at = at, .a = bits});
}

static enum mr_status take_count(struct mr__schema_maker *maker, uint32_t at, uint32_t *ret_count)
{
    return mr_decimal_count(value_at(maker, at)->text, ret_count)
               ? MR_OK
               : mr__schema_refuse(maker, at, MR_E_INVALID, "wants a count, 0 or more");
}

static enum mr_status compile_count(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    struct mr__op bound = {.kind = op, .at = at};
    enum mr_status r = take_count(maker, at, &bound.a);
    return r == MR_OK ? add_op(maker, bound) : r;
}

static enum mr_status compile_pattern(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    struct mr__op pattern = {.kind = op, .at = at};
    enum mr_status r = add_regex(maker, at, &pattern.a);
    return r == MR_OK ? add_op(maker, pattern) : r;
}

static enum mr_status check_names(struct mr__schema_maker *maker, uint32_t at)
{
    for (uint32_t item = value_at(maker, at)->first; item != 0;
         item = value_at(maker, item)->next) {
        if (value_at(maker, item)->kind != MR__JSON_STRING) {
            return mr__schema_refuse(maker, item, MR_E_INVALID, "wants the name of a member");
        }
    }
    return MR_OK;
}

static enum mr_status compile_required(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    enum mr_status r = check_names(maker, at);
    return r == MR_OK ? add_op(maker, (struct mr__op){.kind = op, .at = at}) : r;
}

/* dependentRequired, dependentSchemas, and dependencies, which is both. */
static enum mr_status compile_dependent(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    struct mr_schema *s = maker->schema;
    struct mr__op schemas = {.kind = MR__OP_DEPENDENT_SCHEMAS, .at = at, .a = s->entry_count};
    bool has_lists = false;
    enum mr_status r = MR_OK;
    for (uint32_t name = value_at(maker, at)->first; name != 0 && r == MR_OK;) {
        uint32_t value = value_at(maker, name)->next;
        bool is_list = value_at(maker, value)->kind == MR__JSON_ARRAY;
        struct mr__entry entry = {.name = value_at(maker, name)->text};
        if (is_list && op != MR__OP_DEPENDENT_SCHEMAS) {
            has_lists = true;
            r = check_names(maker, value);
        } else if (is_list || op == MR__OP_DEPENDENT_REQUIRED) {
            r = mr__schema_refuse(maker, value, MR_E_INVALID,
                                  is_list ? "wants a schema" : "wants a list of names");
        } else {
            r = add_child(maker, value, &entry.node);
            r = r == MR_OK ? add_entry(maker, entry) : r;
        }
        name = value_at(maker, value)->next;
    }
    if (r == MR_OK && has_lists) {
        r = add_op(maker, (struct mr__op){.kind = MR__OP_DEPENDENT_REQUIRED, .at = at});
    }
    schemas.b = s->entry_count - schemas.a;
    return r == MR_OK && schemas.b > 0 ? add_op(maker, schemas) : r;
}

static enum mr_status compile_reference(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    return add_op(maker, (struct mr__op){.kind = op, .at = at, .a = MR__NODE_NONE});
}

static int compare_entries(const void *a, const void *b)
{
    return mr_bytes_compare(((const struct mr__entry *)a)->name,
                            ((const struct mr__entry *)b)->name);
}

static enum mr_status add_entries(struct mr__schema_maker *maker, uint32_t at, bool patterns)
{
    enum mr_status r = MR_OK;
    for (uint32_t name = at == 0 ? 0 : value_at(maker, at)->first; name != 0 && r == MR_OK;) {
        uint32_t value = value_at(maker, name)->next;
        struct mr__entry entry = {.name = value_at(maker, name)->text};
        r = patterns ? add_regex(maker, name, &entry.regex) : MR_OK;
        r = r == MR_OK ? add_child(maker, value, &entry.node) : r;
        r = r == MR_OK ? add_entry(maker, entry) : r;
        name = value_at(maker, value)->next;
    }
    return r;
}

/* properties, patternProperties and additionalProperties: one op, at the first that is there. */
static enum mr_status compile_members(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    struct mr_schema *s = maker->schema;
    uint32_t named = find_keyword(maker, "properties");
    uint32_t patterns = find_keyword(maker, "patternProperties");
    uint32_t rest = find_keyword(maker, "additionalProperties");
    if (at != (named != 0 ? named : patterns != 0 ? patterns : rest)) {
        return MR_OK;
    }
    struct mr__members members = {.named_first = s->entry_count, .rest = MR__NODE_NONE};
    enum mr_status r = add_entries(maker, named, false);
    members.named_count = s->entry_count - members.named_first;
    members.pattern_first = s->entry_count;
    r = r == MR_OK ? add_entries(maker, patterns, true) : r;
    members.pattern_count = s->entry_count - members.pattern_first;
    r = r == MR_OK && rest != 0 ? add_child(maker, rest, &members.rest) : r;
    if (r != MR_OK) {
        return r;
    }
    if (members.named_count > 1) {
        qsort(&s->entries[members.named_first], members.named_count, sizeof(*s->entries),
              compare_entries);
    }
    void *items = s->members;
    r = mr__grow(&items, s->members_count, &s->members_capacity, sizeof(*s->members));
    s->members = items;
    if (r != MR_OK) {
        return refuse_room(maker, r);
    }
    s->members[s->members_count++] = members;
    return add_op(maker, (struct mr__op){.kind = op, .at = at, .a = s->members_count - 1});
}

static enum mr_status compile_child(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    struct mr__op child = {.kind = op, .at = at};
    maker->schema->tracks |=
        op == MR__OP_UNEVALUATED_ITEMS || op == MR__OP_UNEVALUATED_PROPERTIES;
    enum mr_status r = add_child(maker, at, &child.a);
    return r == MR_OK ? add_op(maker, child) : r;
}

static enum mr_status add_list(struct mr__schema_maker *maker, uint32_t at, struct mr__op *op)
{
    /* The nodes first: adding them does not touch the list. */
    op->a = maker->schema->list_count;
    enum mr_status r = MR_OK;
    for (uint32_t item = value_at(maker, at)->first; item != 0 && r == MR_OK;
         item = value_at(maker, item)->next) {
        uint32_t node;
        r = add_child(maker, item, &node);
        r = r == MR_OK ? add_to_list(maker, node) : r;
    }
    op->b = maker->schema->list_count - op->a;
    return r;
}

static enum mr_status compile_list(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    struct mr__op list = {.kind = op, .at = at};
    if (value_at(maker, at)->count == 0) {
        return mr__schema_refuse(maker, at, MR_E_INVALID, "wants one schema at least");
    }
    enum mr_status r = add_list(maker, at, &list);
    return r == MR_OK ? add_op(maker, list) : r;
}

/* prefixItems and items of 2020-12; items and additionalItems of draft-07. */
static enum mr_status compile_items(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    uint32_t items = find_keyword(maker, "items");
    uint32_t prefix = find_keyword(maker, "prefixItems");
    uint32_t rest = items;
    const struct mr_schema *s = maker->schema;
    if (s->documents[s->nodes[maker->node].document].draft == MR__DRAFT_7) {
        bool is_list = items != 0 && value_at(maker, items)->kind == MR__JSON_ARRAY;
        prefix = is_list ? items : 0;
        rest = is_list ? find_keyword(maker, "additionalItems") : items;
        if (items == 0) {
            return MR_OK; /* additionalItems alone asserts nothing */
        }
    } else if (items != 0 && value_at(maker, items)->kind == MR__JSON_ARRAY) {
        return mr__schema_refuse(maker, items, MR_E_INVALID,
                                 "wants a schema: a list of them is `prefixItems` in 2020-12");
    }
    if (at != (prefix != 0 ? prefix : rest)) {
        return MR_OK;
    }
    struct mr__op list = {.kind = op, .at = at, .c = MR__NODE_NONE};
    enum mr_status r = prefix != 0 ? add_list(maker, prefix, &list) : MR_OK;
    r = r == MR_OK && rest != 0 ? add_child(maker, rest, &list.c) : r;
    return r == MR_OK ? add_op(maker, list) : r;
}

static enum mr_status compile_contains(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    struct mr__op contains = {.kind = op, .at = at, .b = 1, .c = UINT32_MAX};
    uint32_t min = find_keyword(maker, "minContains");
    uint32_t max = find_keyword(maker, "maxContains");
    enum mr_status r = add_child(maker, at, &contains.a);
    r = r == MR_OK && min != 0 ? take_count(maker, min, &contains.b) : r;
    r = r == MR_OK && max != 0 ? take_count(maker, max, &contains.c) : r;
    return r == MR_OK ? add_op(maker, contains) : r;
}

static enum mr_status compile_if(struct mr__schema_maker *maker, uint8_t op, uint32_t at)
{
    struct mr__op branches = {.kind = op, .at = at, .b = MR__NODE_NONE, .c = MR__NODE_NONE};
    uint32_t then = find_keyword(maker, "then");
    uint32_t otherwise = find_keyword(maker, "else");
    enum mr_status r = add_child(maker, at, &branches.a);
    r = r == MR_OK && then != 0 ? add_child(maker, then, &branches.b) : r;
    r = r == MR_OK && otherwise != 0 ? add_child(maker, otherwise, &branches.c) : r;
    return r == MR_OK ? add_op(maker, branches) : r;
}

#define D7 MR__DRAFT_7
#define D2020 MR__DRAFT_2020
#define BOTH (MR__DRAFT_7 | MR__DRAFT_2020)

/* In the order in which ops are applied. */
static const struct keyword keywords[] = {
    {"$id", BOTH, BIT(STRING), 0, compile_id},
    {"$anchor", D2020, BIT(STRING), 0, compile_anchor},
    {"$schema", BOTH, BIT(STRING), 0, compile_nothing},
    {"$comment", BOTH, IS_ANY, 0, compile_nothing},
    {"title", BOTH, IS_ANY, 0, compile_nothing},
    {"description", BOTH, IS_ANY, 0, compile_nothing},
    {"default", BOTH, IS_ANY, 0, compile_nothing},
    {"examples", BOTH, IS_ANY, 0, compile_nothing},
    {"deprecated", D2020, IS_ANY, 0, compile_nothing},
    {"readOnly", BOTH, IS_ANY, 0, compile_nothing},
    {"writeOnly", BOTH, IS_ANY, 0, compile_nothing},
    {"format", BOTH, IS_ANY, 0, compile_nothing},
    {"contentEncoding", BOTH, IS_ANY, 0, compile_nothing},
    {"contentMediaType", BOTH, IS_ANY, 0, compile_nothing},
    {"contentSchema", D2020, IS_ANY, 0, compile_nothing},
    {"$dynamicRef", D2020, IS_ANY, 0, compile_unsupported},
    {"$dynamicAnchor", D2020, IS_ANY, 0, compile_unsupported},
    {"$vocabulary", D2020, IS_ANY, 0, compile_unsupported},
    {"definitions", BOTH, BIT(OBJECT), 0, compile_definitions},
    {"$defs", BOTH, BIT(OBJECT), 0, compile_definitions},
    {"type", BOTH, BIT(STRING) | BIT(ARRAY), MR__OP_TYPE, compile_type},
    {"const", BOTH, IS_ANY, MR__OP_CONST, compile_plain},
    {"enum", BOTH, BIT(ARRAY), MR__OP_ENUM, compile_plain},
    {"multipleOf", BOTH, BIT(NUMBER), MR__OP_MULTIPLE_OF, compile_plain},
    {"maximum", BOTH, BIT(NUMBER), MR__OP_MAXIMUM, compile_plain},
    {"exclusiveMaximum", BOTH, BIT(NUMBER), MR__OP_BELOW, compile_plain},
    {"minimum", BOTH, BIT(NUMBER), MR__OP_MINIMUM, compile_plain},
    {"exclusiveMinimum", BOTH, BIT(NUMBER), MR__OP_ABOVE, compile_plain},
    {"maxLength", BOTH, BIT(NUMBER), MR__OP_MAX_LENGTH, compile_count},
    {"minLength", BOTH, BIT(NUMBER), MR__OP_MIN_LENGTH, compile_count},
    {"maxItems", BOTH, BIT(NUMBER), MR__OP_MAX_ITEMS, compile_count},
    {"minItems", BOTH, BIT(NUMBER), MR__OP_MIN_ITEMS, compile_count},
    {"maxProperties", BOTH, BIT(NUMBER), MR__OP_MAX_PROPERTIES, compile_count},
    {"minProperties", BOTH, BIT(NUMBER), MR__OP_MIN_PROPERTIES, compile_count},
    {"required", BOTH, BIT(ARRAY), MR__OP_REQUIRED, compile_required},
    {"dependentRequired", D2020, BIT(OBJECT), MR__OP_DEPENDENT_REQUIRED, compile_dependent},
    {"pattern", BOTH, BIT(STRING), MR__OP_PATTERN, compile_pattern},
    {"uniqueItems", BOTH, BIT(BOOLEAN), MR__OP_UNIQUE, compile_plain},
    {"$ref", BOTH, BIT(STRING), MR__OP_REF, compile_reference},
    {"properties", BOTH, BIT(OBJECT), MR__OP_MEMBERS, compile_members},
    {"patternProperties", BOTH, BIT(OBJECT), MR__OP_MEMBERS, compile_members},
    {"additionalProperties", BOTH, IS_SCHEMA, MR__OP_MEMBERS, compile_members},
    {"propertyNames", BOTH, IS_SCHEMA, MR__OP_NAMES, compile_child},
    {"prefixItems", D2020, BIT(ARRAY), MR__OP_ITEMS, compile_items},
    {"items", BOTH, IS_SCHEMA | BIT(ARRAY), MR__OP_ITEMS, compile_items},
    {"additionalItems", D7, IS_SCHEMA, 0, compile_hidden},
    {"contains", BOTH, IS_SCHEMA, MR__OP_CONTAINS, compile_contains},
    {"minContains", D2020, BIT(NUMBER), 0, compile_nothing},
    {"maxContains", D2020, BIT(NUMBER), 0, compile_nothing},
    {"dependencies", D7, BIT(OBJECT), MR__OP_MEMBERS, compile_dependent},
    {"dependentSchemas", D2020, BIT(OBJECT), MR__OP_DEPENDENT_SCHEMAS, compile_dependent},
    {"allOf", BOTH, BIT(ARRAY), MR__OP_ALL, compile_list},
    {"anyOf", BOTH, BIT(ARRAY), MR__OP_ANY, compile_list},
    {"oneOf", BOTH, BIT(ARRAY), MR__OP_ONE, compile_list},
    {"not", BOTH, IS_SCHEMA, MR__OP_NOT, compile_child},
    {"if", BOTH, IS_SCHEMA, MR__OP_IF, compile_if},
    {"then", BOTH, IS_SCHEMA, 0, compile_hidden},
    {"else", BOTH, IS_SCHEMA, 0, compile_hidden},
    {"unevaluatedItems", D2020, IS_SCHEMA, MR__OP_UNEVALUATED_ITEMS, compile_child},
    {"unevaluatedProperties", D2020, IS_SCHEMA, MR__OP_UNEVALUATED_PROPERTIES, compile_child},
};

static const struct keyword *find_row(struct mr_bytes name)
{
    for (size_t i = 0; i < MR_ARRAY_COUNT(keywords); i++) {
        if (mr_bytes_equal(name, mr_bytes_of(keywords[i].name))) {
            return &keywords[i];
        }
    }
    return NULL;
}

/* Every member must be a keyword of the draft, once, and of a kind that it may have. */
static enum mr_status check_keywords(struct mr__schema_maker *maker, enum mr__draft draft)
{
    uint32_t object = maker->schema->nodes[maker->node].at;
    uint64_t seen = 0;
    _Static_assert(MR_ARRAY_COUNT(keywords) <= 64, "a bit for each");
    for (uint32_t name = value_at(maker, object)->first; name != 0;) {
        struct mr_bytes text = value_at(maker, name)->text;
        uint32_t value = value_at(maker, name)->next;
        const struct keyword *row = find_row(text);
        bool is_own = mr_bytes_starts(text, MR_BYTES_LITERAL("x-"));
        if (row == NULL && !is_own) {
            return mr__schema_refuse(maker, value, MR_E_UNSUPPORTED, "is no keyword that is known");
        }
        if (row != NULL && (row->drafts & draft) == 0) {
            return mr__schema_refuse(maker, value, MR_E_UNSUPPORTED,
                                     draft == D7 ? "is no keyword of draft-07"
                                                 : "is no keyword of 2020-12");
        }
        if (row != NULL && (row->kinds >> value_at(maker, value)->kind & 1) == 0) {
            return mr__schema_refuse(maker, value, MR_E_INVALID, "has no value that it may have");
        }
        if (row != NULL && (seen >> (row - keywords) & 1) != 0) {
            return mr__schema_refuse(maker, value, MR_E_INVALID, "stands there twice");
        }
        seen |= row == NULL ? 0 : 1ull << (row - keywords);
        name = value_at(maker, value)->next;
    }
    return MR_OK;
}

static enum mr_status compile_node(struct mr__schema_maker *maker)
{
    struct mr_schema *s = maker->schema;
    struct mr__node *node = &s->nodes[maker->node];
    const struct mr__json_value *value = value_at(maker, node->at);
    enum mr__draft draft = s->documents[node->document].draft;
    node->op_first = s->op_count;
    if (value->kind == MR__JSON_BOOLEAN) {
        node->is_false = value->text.data[0] == 'f';
        return MR_OK;
    }
    if (value->kind != MR__JSON_OBJECT) {
        return mr__schema_refuse(maker, node->at, MR_E_INVALID,
                                 "is no schema: a mapping, true or false");
    }
    enum mr_status r = check_keywords(maker, draft);
    /* In draft-07 what stands beside a $ref is not looked at. */
    bool only_ref = draft == D7 && find_keyword(maker, "$ref") != 0;
    for (size_t i = 0; i < MR_ARRAY_COUNT(keywords) && r == MR_OK; i++) {
        const struct keyword *row = &keywords[i];
        uint32_t at = find_keyword(maker, row->name);
        if (at != 0 &&
            (!only_ref || row->op == MR__OP_REF || row->compile == compile_definitions)) {
            r = row->compile(maker, row->op, at);
        }
    }
    return r;
}

static enum mr_status compile_nodes(struct mr__schema_maker *maker)
{
    enum mr_status r = MR_OK;
    for (; maker->compiled < maker->schema->node_count && r == MR_OK; maker->compiled++) {
        maker->node = maker->compiled;
        r = compile_node(maker);
    }
    return r;
}

/* The ops of a node are one run, so the node of an op is found by going along. */
static enum mr_status resolve_references(struct mr__schema_maker *maker)
{
    struct mr_schema *s = maker->schema;
    enum mr_status r = compile_nodes(maker);
    for (uint32_t node = 0; node < s->node_count && r == MR_OK; node++) {
        for (uint32_t i = 0; i < s->nodes[node].op_count && r == MR_OK; i++) {
            uint32_t op = s->nodes[node].op_first + i;
            uint32_t to = MR__NODE_NONE;
            if (s->ops[op].kind != MR__OP_REF) {
                continue;
            }
            /* The second time, what the first one found in a file is compiled. */
            for (int tries = 0; tries < 2 && to == MR__NODE_NONE && r == MR_OK; tries++) {
                r = mr__schema_resolve(maker, node, s->ops[op].at, &to);
                r = r == MR_OK ? compile_nodes(maker) : r;
            }
            if (r == MR_OK && to == MR__NODE_NONE) {
                maker->node = node;
                r = mr__schema_refuse(maker, s->ops[op].at, MR_E_NOT_FOUND, "leads to no schema");
            }
            s->ops[op].a = to;
        }
    }
    return r;
}

/* --- life ------------------------------------------------------------------------------------- */

enum mr_status mr_schema_create(const char *path, struct mr_bytes text,
                                const struct mr_schema_files *files, struct mr_schema **ret_schema,
                                struct mr_problem *problem)
{
    struct mr_schema *s = mr_calloc(1, sizeof(*s));
    char *copy = mr_strndup((const char *)text.data, text.size);
    if (s == NULL || copy == NULL) {
        mr_free(s);
        mr_free(copy);
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    struct mr__schema_maker maker = {.schema = s, .files = files, .problem = problem};
    uint32_t root;
    enum mr_status r = mr__schema_add_document(&maker, path, copy, text.size, &root);
    r = r == MR_OK ? resolve_references(&maker) : r;
    if (r != MR_OK) {
        mr_schema_destroy(s);
        return r;
    }
    *ret_schema = s;
    return MR_OK;
}

void mr_schema_destroy(struct mr_schema *schema)
{
    if (schema == NULL) {
        return;
    }
    for (uint32_t i = 0; i < schema->document_count; i++) {
        struct mr__document *d = &schema->documents[i];
        mr__json_tree_release(&d->tree);
        mr_free(d->node_of);
        mr_free(d->path);
        mr_free(d->text);
    }
    for (uint32_t i = 0; i < schema->resource_count; i++) {
        mr_free(schema->resources[i].uri);
    }
    for (uint32_t i = 0; i < schema->regex_count; i++) {
        mr_regex_destroy(schema->regexes[i]);
    }
    void *const blocks[] = {schema->documents, schema->nodes,   schema->ops,
                            schema->entries,   schema->members, schema->list,
                            schema->regexes,   schema->resources, schema->anchors};
    for (size_t i = 0; i < MR_ARRAY_COUNT(blocks); i++) {
        mr_free(blocks[i]);
    }
    mr_free(schema);
}

uint64_t mr_schema_hash(const struct mr_schema *schema)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < schema->document_count; i++) {
        const struct mr_bytes whole = schema->documents[i].tree.values[0].text;
        hash = mr_hash_u64(hash + mr_hash(whole.data, whole.size));
    }
    return hash;
}
