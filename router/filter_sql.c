/* The dialect `sql`: the expression as one clause, and the hints it gives the index. */
#include "core/alloc.h"
#include "core/assert.h"
#include "router/filter.h"

/* --- what must hold -------------------------------------------------------------------------- */

/* Builds hints: `group_of` a step is the group that its hints belong to, MR__GROUP_NONE when it
 * is nothing that must hold. */
struct hinting {
    struct mr__compiler *compiler;
    const struct mr__sql_compiler *sql;
    uint32_t texts_at; /* of the program's texts in the values */
    bool full;
    bool useful[MR_SQL_STEPS_MAX];
    uint16_t group_of[MR_SQL_STEPS_MAX];
};

static uint16_t left_of(const struct mr__sql_compiler *c, uint16_t step)
{
    return (uint16_t)(c->starts[step - 1] - 1);
}

static struct mr_bytes text_of(const struct mr__sql_compiler *c, uint16_t step)
{
    return mr_bytes(c->texts.data + c->steps[step].value, c->steps[step].text_size);
}

/* Whether an integer or boolean equal to the literal has no other text: then the values of typed
 * attributes, which are canonical, are equal exactly when their texts are. */
static bool is_canonical(struct mr_bytes text)
{
    bool is_signed = text.size > 0 && (text.data[0] == '-' || text.data[0] == '+');
    size_t digits = is_signed;
    while (digits < text.size && text.data[digits] >= '0' && text.data[digits] <= '9') {
        digits++;
    }
    if (text.size > (size_t)is_signed && digits == text.size) {
        return text.data[0] != '+' && (text.data[is_signed] != '0' || text.size == 1);
    }
    if (mr_bytes_equal_nocase(text, MR_BYTES_LITERAL("true")) ||
        mr_bytes_equal_nocase(text, MR_BYTES_LITERAL("false"))) {
        return text.data[0] == 't' ? mr_bytes_equal(text, MR_BYTES_LITERAL("true"))
                                   : mr_bytes_equal(text, MR_BYTES_LITERAL("false"));
    }
    return text.size > 0;
}

static bool is_literal(const struct mr__sql_compiler *c, uint16_t step, bool canonical)
{
    return c->steps[step].op == MR__SQL_OP_STRING && c->steps[step].text_size > 0 &&
           (!canonical || is_canonical(text_of(c, step)));
}

/* The size of the pattern's text before its first wildcard, or behind its last. */
static size_t plain_size(struct mr_bytes pattern, bool end)
{
    size_t size = 0;
    while (size < pattern.size) {
        uint8_t b = pattern.data[end ? pattern.size - 1 - size : size];
        if (b == MR__SQL_MANY || b == MR__SQL_ONE) {
            break;
        }
        size++;
    }
    return size;
}

static bool is_in_useful(const struct mr__sql_compiler *c, uint16_t step)
{
    uint16_t element = (uint16_t)(step - 1);
    uint16_t first = c->starts[step];
    if (c->steps[first].op != MR__SQL_OP_ATTRIBUTE || c->steps[step].detail != 0) {
        return false;
    }
    for (; element > first; element = (uint16_t)(c->starts[element] - 1)) {
        if (!is_literal(c, element, true)) {
            return false;
        }
    }
    return element == first; /* else the left side is more than the attribute */
}

static bool is_useful(const struct hinting *h, uint16_t step)
{
    const struct mr__sql_compiler *c = h->sql;
    const struct mr__sql_step *s = &c->steps[step];
    uint16_t right = (uint16_t)(step - 1);
    switch (s->op) {
    case MR__SQL_OP_AND:
        return h->useful[right] || h->useful[left_of(c, step)];
    case MR__SQL_OP_OR:
        return h->useful[right] && h->useful[left_of(c, step)];
    case MR__SQL_OP_EQUAL: {
        uint16_t left = left_of(c, step);
        return (c->steps[left].op == MR__SQL_OP_ATTRIBUTE && is_literal(c, right, false)) ||
               (c->steps[right].op == MR__SQL_OP_ATTRIBUTE && is_literal(c, left, true));
    }
    case MR__SQL_OP_LIKE:
        return s->detail == 0 && c->steps[right].op == MR__SQL_OP_ATTRIBUTE &&
               (plain_size(text_of(c, step), false) > 0 || plain_size(text_of(c, step), true) > 0);
    case MR__SQL_OP_IN:
        return is_in_useful(c, step);
    default:
        return false;
    }
}

static uint16_t add_group(struct hinting *h, enum mr__kind kind, uint16_t parent)
{
    struct mr__compiler *c = h->compiler;
    if (kind == MR__ALL && c->groups[parent].index == MR__INDEX_NONE &&
        c->groups[parent].kind == MR__ALL) {
        return parent;
    }
    /* Room for the groups that the filter itself may still need is left. */
    if (c->group_count >= MR__GROUPS_MAX - (MR_FILTER_NODES_MAX - c->node_count)) {
        h->full = true;
        return parent;
    }
    c->groups[c->group_count++] = (struct mr__group){
        .parent = parent,
        .index = MR__INDEX_NONE,
        .clause_first = (uint16_t)c->clause_count,
        .clause_end = (uint16_t)c->clause_count,
        .kind = (uint8_t)kind,
    };
    return (uint16_t)(c->group_count - 1);
}

static void add_hint(struct hinting *h, enum mr__op op, uint16_t attribute, uint32_t at,
                     size_t size, uint16_t group)
{
    struct mr__compiler *c = h->compiler;
    if (c->hint_count == MR_ARRAY_COUNT(c->hints)) {
        h->full = true;
        return;
    }
    c->hints[c->hint_count++] = (struct mr__clause){
        .attr = h->sql->steps[attribute].value,
        .value_at = h->texts_at + at,
        .value_size = (uint32_t)size,
        .group = group,
        .op = (uint8_t)op,
    };
}

static void add_equal(struct hinting *h, uint16_t step)
{
    uint16_t left = left_of(h->sql, step);
    uint16_t right = (uint16_t)(step - 1);
    bool swapped = h->sql->steps[right].op == MR__SQL_OP_ATTRIBUTE;
    const struct mr__sql_step *literal = &h->sql->steps[swapped ? left : right];
    add_hint(h, MR__EXACT, swapped ? right : left, literal->value, literal->text_size,
             h->group_of[step]);
}

static void add_like(struct hinting *h, uint16_t step)
{
    const struct mr__sql_step *s = &h->sql->steps[step];
    struct mr_bytes pattern = text_of(h->sql, step);
    uint16_t attribute = (uint16_t)(step - 1);
    size_t prefix = plain_size(pattern, false);
    size_t suffix = plain_size(pattern, true);
    if (prefix == pattern.size) {
        add_hint(h, MR__EXACT, attribute, s->value, prefix, h->group_of[step]);
        return;
    }
    uint16_t group = add_group(h, MR__ALL, h->group_of[step]);
    if (prefix > 0) {
        add_hint(h, MR__PREFIX, attribute, s->value, prefix, group);
    }
    if (suffix > 0) {
        add_hint(h, MR__SUFFIX, attribute, s->value + (uint32_t)(pattern.size - suffix), suffix,
                 group);
    }
}

static void add_in(struct hinting *h, uint16_t step)
{
    const struct mr__sql_compiler *c = h->sql;
    uint16_t first = c->starts[step];
    uint16_t group = add_group(h, MR__ANY, h->group_of[step]);
    for (uint16_t element = (uint16_t)(step - 1); element > first; element--) {
        add_hint(h, MR__EXACT, first, c->steps[element].value, c->steps[element].text_size,
                 group);
    }
}

/* Operators come before their operands when walked from the end. */
static void add_hints(struct hinting *h, uint16_t parent)
{
    const struct mr__sql_compiler *c = h->sql;
    uint16_t last = (uint16_t)(c->step_count - 1);
    h->group_of[last] = add_group(h, MR__ALL, parent);
    for (uint32_t n = c->step_count; n > 0 && !h->full; n--) {
        uint16_t step = (uint16_t)(n - 1);
        uint16_t group = h->group_of[step];
        if (group == MR__GROUP_NONE || !h->useful[step]) {
            continue;
        }
        uint8_t op = c->steps[step].op;
        if (op == MR__SQL_OP_AND || op == MR__SQL_OP_OR) {
            group = add_group(h, op == MR__SQL_OP_AND ? MR__ALL : MR__ANY, group);
            h->group_of[step - 1] = group;
            h->group_of[left_of(c, step)] = group;
        } else if (op == MR__SQL_OP_EQUAL) {
            add_equal(h, step);
        } else if (op == MR__SQL_OP_LIKE) {
            add_like(h, step);
        } else {
            add_in(h, step);
        }
    }
}

/* Hints for the clause added last, where its expression gives any and there is room. */
static enum mr_status hint_clause(struct mr__compiler *c)
{
    struct hinting *h = mr_alloc(sizeof(*h));
    if (h == NULL) {
        return MR_E_NOMEM;
    }
    struct mr__clause *clause = &c->clauses[c->clause_count - 1];
    h->compiler = c;
    h->sql = c->sql;
    h->full = false;
    h->texts_at = (uint32_t)(c->values.size - c->sql->texts.size);
    for (uint16_t i = 0; i < c->sql->step_count; i++) {
        h->group_of[i] = MR__GROUP_NONE;
        h->useful[i] = is_useful(h, i);
    }
    if (h->useful[c->sql->step_count - 1]) {
        uint32_t groups = c->group_count;
        uint32_t hints = c->hint_count;
        add_hints(h, clause->group);
        clause->hinted = !h->full;
        c->group_count = h->full ? groups : c->group_count;
        c->hint_count = h->full ? hints : c->hint_count;
    }
    mr_free(h);
    return MR_OK;
}

/* --- the clause ------------------------------------------------------------------------------ */

static enum mr_status prepare(struct mr__compiler *c)
{
    if (c->sql == NULL) {
        c->sql = mr_alloc(sizeof(*c->sql));
        if (c->sql != NULL) {
            mr__sql_compiler_init(c->sql, c->names);
        }
    }
    return c->sql == NULL ? MR_E_NOMEM : MR_OK;
}

static enum mr_status add_program(struct mr__compiler *c, struct mr__spot spot,
                                  struct mr_problem *problem)
{
    static const uint8_t zeros[4];
    size_t size = mr__sql_size(c->sql);
    size_t pad = (4 - c->values.size % 4) % 4;
    enum mr_status r = mr_buf_append(&c->values, zeros, pad);
    if (r == MR_OK) { /* an empty value at the right place, then its bytes */
        r = mr__filter_add_clause(c, MR__SQL, 0, spot, mr_bytes(NULL, 0), problem);
    }
    if (r == MR_OK) {
        r = mr_buf_reserve(&c->values, size);
    }
    if (r == MR_OK) {
        mr__sql_write(c->sql, c->values.data + c->values.size);
        c->values.size += size;
        c->clauses[c->clause_count - 1].value_size = (uint32_t)size;
        r = hint_clause(c);
    }
    return r;
}

enum mr_status mr__filter_compile_sql(struct mr__compiler *c, struct mr__spot spot,
                                      const cJSON *item, struct mr_problem *problem)
{
    if (!cJSON_IsString(item)) {
        return mr__filter_refuse(c, spot, "sql", MR_E_INVALID,
                                 "must be a string: a CESQL expression", problem);
    }
    enum mr_status r = prepare(c);
    if (r != MR_OK) {
        return r;
    }
    struct mr_problem why = {""};
    r = mr__sql_compile(c->sql, mr_bytes_of(item->valuestring), &why);
    if (r == MR_E_INVALID || r == MR_E_TOO_BIG) {
        return mr__filter_refuse(c, spot, "sql", MR_E_INVALID, why.text, problem);
    }
    return r == MR_OK ? add_program(c, spot, problem) : r;
}
