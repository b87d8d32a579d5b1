/* From the tokens of an expression to its steps, by a stack of what is still open: operators that
 * wait for their right side, brackets, calls, lists. A value on the stack of values is known by its
 * last step; all its steps lie in one piece before that. */
#include "core/assert.h"
#include "router/sql_token.h"

enum entry_kind {
    ENTRY_PREFIX = 0, /* NOT, - */
    ENTRY_BINARY,
    ENTRY_BRACKET,
    ENTRY_CALL,
    ENTRY_LIST, /* of IN */
};

/* --- steps ----------------------------------------------------------------------------------- */

/* Adds a step whose operands are the last @p operands values, which it replaces by one. */
static enum mr_status add_step(struct mr__sql_compiler *c, struct mr__sql_step step,
                               uint32_t operands, size_t end, struct mr_problem *problem)
{
    MR_ASSERT(c->value_count >= operands);
    if (c->step_count == MR_SQL_STEPS_MAX) {
        return mr__sql_refuse(c, step.from, "the expression has too many parts", problem);
    }
    if (operands == 0 && c->value_count == MR_SQL_STACK_MAX) {
        return mr__sql_refuse(c, step.from, "too many arguments", problem);
    }
    uint16_t start = c->step_count;
    c->value_count = (uint16_t)(c->value_count - operands);
    if (operands > 0) {
        start = c->starts[c->values[c->value_count]];
        uint16_t from = c->steps[c->values[c->value_count]].from;
        step.from = from < step.from ? from : step.from;
    }
    step.size = (uint16_t)(end - step.from);
    c->steps[c->step_count] = step;
    c->starts[c->step_count] = start;
    c->values[c->value_count++] = c->step_count++;
    return MR_OK;
}

/* The last value ends, in the text, where its last step does. */
static size_t value_end(const struct mr__sql_compiler *c)
{
    const struct mr__sql_step *step = &c->steps[c->values[c->value_count - 1]];
    return (size_t)step->from + step->size;
}

static enum mr_status add_integer(struct mr__sql_compiler *c, const struct mr__token *token,
                                  struct mr_problem *problem)
{
    bool negative = token->text.data[0] == '-';
    bool is_signed = negative || token->text.data[0] == '+';
    int64_t value = 0;
    for (size_t i = is_signed; i < token->text.size; i++) {
        value = value * 10 + (token->text.data[i] - '0');
        if (value > INT32_MAX + (int64_t)negative) {
            return mr__sql_refuse(c, token->from, "integers have 32 bits", problem);
        }
    }
    int32_t number = (int32_t)(negative ? -value : value);
    return add_step(c,
                    (struct mr__sql_step){.op = MR__SQL_OP_INTEGER, .from = token->from,
                                          .value = (uint32_t)number},
                    0, (size_t)token->from + token->text.size, problem);
}

/* Appends what a literal stands for: its delimiter escaped or doubled is one, the rest, other
 * backslashes too, is as it is. */
static enum mr_status append_literal(struct mr__sql_compiler *c, struct mr_bytes literal)
{
    uint8_t quote = literal.data[0];
    size_t end = literal.size - 1;
    enum mr_status r = MR_OK;
    for (size_t i = 1; i < end && r == MR_OK; i++) {
        bool pair = literal.data[i] == '\\' && i + 1 < end;
        if (literal.data[i] == quote || (pair && literal.data[i + 1] == quote)) {
            i++;
            pair = false;
        }
        r = mr_buf_append(&c->texts, literal.data + i, pair ? 2 : 1);
        i += pair;
    }
    return r;
}

/* In place: wildcards become bytes of their own, and escaped ones plain. @return the new size */
static size_t make_pattern(uint8_t *text, size_t size)
{
    size_t to = 0;
    for (size_t i = 0; i < size; i++) {
        uint8_t b = text[i];
        if (b == '\\' && i + 1 < size && (text[i + 1] == '%' || text[i + 1] == '_')) {
            b = text[++i];
        } else if (b == '%' || b == '_') {
            b = b == '%' ? MR__SQL_MANY : MR__SQL_ONE;
        }
        text[to++] = b;
    }
    return to;
}

static enum mr_status add_text(struct mr__sql_compiler *c, struct mr__sql_step step,
                               const struct mr__token *token, uint32_t operands,
                               struct mr_problem *problem)
{
    size_t at = c->texts.size;
    enum mr_status r = append_literal(c, token->text);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "out of memory");
    }
    if (step.op == MR__SQL_OP_LIKE) {
        c->texts.size = at + make_pattern(c->texts.data + at, c->texts.size - at);
    }
    step.value = (uint32_t)at;
    step.text_size = (uint16_t)(c->texts.size - at);
    return add_step(c, step, operands, (size_t)token->from + token->text.size, problem);
}

static enum mr_status add_attribute(struct mr__sql_compiler *c, enum mr__sql_op op, uint16_t from,
                                    const struct mr__token *token, struct mr_problem *problem)
{
    static const struct mr_bytes required[] = {
        {(const uint8_t *)"id", 2}, {(const uint8_t *)"source", 6}, {(const uint8_t *)"type", 4}};
    char name[MR_ATTR_NAME_SIZE_MAX];
    struct mr__sql_step step = {.op = (uint8_t)op, .from = from};
    size_t end = (size_t)token->from + token->text.size;
    struct mr_bytes text = token->text;
    if (memchr(text.data, '_', text.size) != NULL) {
        return mr__sql_refuse(c, token->from, "names of attributes are letters and digits",
                              problem);
    }
    if (text.size <= sizeof(name)) {
        for (size_t i = 0; i < text.size; i++) {
            name[i] = (char)(text.data[i] | 0x20); /* digits have the bit already */
        }
        text = mr_bytes(name, text.size);
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(required) && op == MR__SQL_OP_EXISTS; i++) {
        if (mr_bytes_equal(text, required[i])) {
            step.op = MR__SQL_OP_BOOLEAN;
            step.detail = 1;
            return add_step(c, step, 0, end, problem);
        }
    }
    if (!mr__name_is_legal(text)) {
        step.op = op == MR__SQL_OP_EXISTS ? MR__SQL_OP_BOOLEAN : MR__SQL_OP_ABSENT;
        return add_step(c, step, 0, end, problem);
    }
    enum mr_status r = mr__names_add(c->names, text, &step.value);
    return r == MR_OK ? add_step(c, step, 0, end, problem)
                      : mr_problem_set(problem, r, "out of memory");
}

/* --- what is open ---------------------------------------------------------------------------- */

static enum mr_status push(struct mr__sql_compiler *c, struct mr__sql_entry entry,
                           struct mr_problem *problem)
{
    if (c->depth == MR_SQL_DEPTH_MAX) {
        return mr__sql_refuse(c, entry.from, "the expression is nested too deep", problem);
    }
    c->entries[c->depth++] = entry;
    return MR_OK;
}

static unsigned rank_of(uint8_t op)
{
    switch ((enum mr__sql_op)op) {
    case MR__SQL_OP_MULTIPLY:
    case MR__SQL_OP_DIVIDE:
    case MR__SQL_OP_REMAINDER:
        return 6;
    case MR__SQL_OP_ADD:
    case MR__SQL_OP_SUBTRACT:
        return 7;
    case MR__SQL_OP_AND:
    case MR__SQL_OP_OR:
    case MR__SQL_OP_XOR:
        return 9;
    case MR__SQL_OP_EQUAL:
    case MR__SQL_OP_UNEQUAL:
    case MR__SQL_OP_LESS:
    case MR__SQL_OP_LESS_EQUAL:
    case MR__SQL_OP_GREATER:
    case MR__SQL_OP_GREATER_EQUAL:
        return 8;
    case MR__SQL_OP_BOOLEAN:
    case MR__SQL_OP_INTEGER:
    case MR__SQL_OP_STRING:
    case MR__SQL_OP_ATTRIBUTE:
    case MR__SQL_OP_ABSENT:
    case MR__SQL_OP_EXISTS:
    case MR__SQL_OP_NOT:
    case MR__SQL_OP_NEGATE:
    case MR__SQL_OP_LIKE:
    case MR__SQL_OP_IN:
    case MR__SQL_OP_CALL:
    case MR__SQL_OP_UNKNOWN:
        break;
    }
    return 2; /* NOT and - before an operand */
}

/* Closes the operators on top that bind at least as tightly as @p rank; brackets stay. */
static enum mr_status reduce(struct mr__sql_compiler *c, unsigned rank, struct mr_problem *problem)
{
    enum mr_status r = MR_OK;
    while (r == MR_OK && c->depth > 0) {
        const struct mr__sql_entry *e = &c->entries[c->depth - 1];
        if (e->kind > ENTRY_BINARY || rank_of(e->op) > rank) {
            break;
        }
        bool binary = e->kind == ENTRY_BINARY;
        uint16_t left = 0;
        if (binary) {
            left = c->values[c->value_count - 2];
        }
        r = add_step(c, (struct mr__sql_step){.op = e->op, .from = e->from}, binary ? 2 : 1,
                     value_end(c), problem);
        if (r == MR_OK && binary && (e->op == MR__SQL_OP_AND || e->op == MR__SQL_OP_OR)) {
            c->steps[left].then =
                e->op == MR__SQL_OP_AND ? MR__SQL_THEN_AND : MR__SQL_THEN_OR;
            c->steps[left].to = (uint16_t)(c->step_count - 1);
        }
        c->depth--;
    }
    return r;
}

/* An element of IN is complete: it is tested where it stands, and no value stays. */
static void close_element(struct mr__sql_compiler *c, struct mr__sql_entry *list)
{
    c->value_count--;
    c->steps[c->values[c->value_count]].then = MR__SQL_THEN_ELEMENT;
    list->arguments = 1;
}

/* Behind the list, its elements learn where the IN ends. */
static enum mr_status close_list(struct mr__sql_compiler *c, const struct mr__sql_entry *list,
                                 size_t end, struct mr_problem *problem)
{
    uint16_t last = (uint16_t)(c->step_count - 1);
    uint16_t left = c->values[c->value_count - 1];
    enum mr_status r = add_step(
        c, (struct mr__sql_step){.op = MR__SQL_OP_IN, .detail = list->detail, .from = list->from},
        1, end, problem);
    for (; r == MR_OK && last != left; last = (uint16_t)(c->starts[last] - 1)) {
        c->steps[last].to = (uint16_t)(c->step_count - 1);
    }
    return r;
}

static enum mr_status close_call(struct mr__sql_compiler *c, const struct mr__sql_entry *call,
                                 size_t end, struct mr_problem *problem)
{
    uint32_t count = (uint32_t)c->value_count - call->base;
    size_t name_end = mr__sql_word_end(c->source, call->from);
    uint8_t function = mr__sql_function_find(
        mr_bytes(c->source.data + call->from, name_end - call->from), count);
    struct mr__sql_step step = {
        .op = MR__SQL_OP_CALL,
        .detail = function,
        .arguments = (uint8_t)count,
        .from = call->from,
    };
    if (function == MR__SQL_FUNCTION_NONE) { /* its arguments are never looked at */
        step.op = MR__SQL_OP_UNKNOWN;
        c->step_count = call->first;
        c->value_count = call->base;
        count = 0;
    }
    return add_step(c, step, count, end, problem);
}

/* `)` or `,` where an operator could stand. @p ret_operand: whether an operand follows. */
static enum mr_status take_close(struct mr__sql_compiler *c, const struct mr__token *token,
                                 bool *ret_operand, struct mr_problem *problem)
{
    bool comma = mr__sql_is_sign(token, ',');
    enum mr_status r = reduce(c, 9, problem);
    if (r != MR_OK) {
        return r;
    }
    struct mr__sql_entry *e = c->depth == 0 ? NULL : &c->entries[c->depth - 1];
    if (e == NULL || (comma && e->kind == ENTRY_BRACKET)) {
        return mr__sql_refuse(c, token->from, comma ? "a comma has no meaning here"
                                                    : "there is no opening bracket to it",
                              problem);
    }
    *ret_operand = comma;
    if (e->kind == ENTRY_LIST) {
        close_element(c, e);
    }
    if (comma) {
        return MR_OK;
    }
    c->depth--;
    size_t end = (size_t)token->from + 1;
    if (e->kind == ENTRY_LIST) {
        return close_list(c, e, end, problem);
    }
    if (e->kind == ENTRY_CALL) {
        return close_call(c, e, end, problem);
    }
    struct mr__sql_step *inner = &c->steps[c->values[c->value_count - 1]];
    inner->from = e->from; /* shown with its brackets */
    inner->size = (uint16_t)(end - e->from);
    return MR_OK;
}

/* --- the two states -------------------------------------------------------------------------- */

static enum mr_status take_name(struct mr__sql_compiler *c, const struct mr__token *token,
                                bool *ret_operand, struct mr_problem *problem)
{
    struct mr__token next;
    enum mr_status r = mr__sql_peek(c, &next, problem);
    *ret_operand = false;
    if (r != MR_OK || !mr__sql_is_sign(&next, '(')) {
        return r != MR_OK ? r
                          : add_attribute(c, MR__SQL_OP_ATTRIBUTE, token->from, token, problem);
    }
    for (size_t i = 0; i < token->text.size; i++) {
        if (token->text.data[i] >= '0' && token->text.data[i] <= '9') {
            return mr__sql_refuse(c, token->from, "names of functions are letters and _", problem);
        }
    }
    r = mr__sql_token(c, &next, problem); /* the bracket */
    struct mr__sql_entry call = {.kind = ENTRY_CALL, .from = token->from,
                                 .first = c->step_count, .base = c->value_count};
    if (r == MR_OK) {
        r = mr__sql_peek(c, &next, problem);
    }
    if (r == MR_OK && mr__sql_is_sign(&next, ')')) {
        r = mr__sql_token(c, &next, problem);
        return r == MR_OK ? close_call(c, &call, (size_t)next.from + 1, problem) : r;
    }
    *ret_operand = true;
    return r == MR_OK ? push(c, call, problem) : r;
}

static enum mr_status take_exists(struct mr__sql_compiler *c, uint16_t from,
                                  struct mr_problem *problem)
{
    struct mr__token name;
    enum mr_status r = mr__sql_token(c, &name, problem);
    if (r != MR_OK) {
        return r;
    }
    return name.kind == MR__TOKEN_NAME
               ? add_attribute(c, MR__SQL_OP_EXISTS, from, &name, problem)
               : mr__sql_refuse(c, name.from, "EXISTS wants the name of an attribute", problem);
}

/* Where an operand must stand. @p ret_operand: whether one must follow still. */
static enum mr_status take_operand(struct mr__sql_compiler *c, const struct mr__token *token,
                                   bool *ret_operand, struct mr_problem *problem)
{
    *ret_operand = false;
    struct mr__sql_step step = {.op = MR__SQL_OP_BOOLEAN, .from = token->from};
    switch (token->kind) {
    case MR__TOKEN_INTEGER:
        return add_integer(c, token, problem);
    case MR__TOKEN_STRING:
        step.op = MR__SQL_OP_STRING;
        return add_text(c, step, token, 0, problem);
    case MR__TOKEN_TRUE:
    case MR__TOKEN_FALSE:
        step.detail = token->kind == MR__TOKEN_TRUE;
        return add_step(c, step, 0, (size_t)token->from + token->text.size, problem);
    case MR__TOKEN_NAME:
        return take_name(c, token, ret_operand, problem);
    case MR__TOKEN_EXISTS:
        return take_exists(c, token->from, problem);
    case MR__TOKEN_NOT:
        *ret_operand = true;
        return push(c,
                    (struct mr__sql_entry){.kind = ENTRY_PREFIX, .op = MR__SQL_OP_NOT,
                                           .from = token->from},
                    problem);
    case MR__TOKEN_SIGN:
        *ret_operand = true;
        if (mr__sql_is_sign(token, '-')) {
            return push(c,
                        (struct mr__sql_entry){.kind = ENTRY_PREFIX, .op = MR__SQL_OP_NEGATE,
                                               .from = token->from},
                        problem);
        }
        if (mr__sql_is_sign(token, '(')) {
            return push(c, (struct mr__sql_entry){.kind = ENTRY_BRACKET, .from = token->from},
                        problem);
        }
        break;
    case MR__TOKEN_END:
    case MR__TOKEN_AND:
    case MR__TOKEN_OR:
    case MR__TOKEN_XOR:
    case MR__TOKEN_LIKE:
    case MR__TOKEN_IN:
        break;
    }
    bool empty = token->kind == MR__TOKEN_END && token->from == 0;
    return mr__sql_refuse(c, token->from,
                          empty ? "the expression is empty"
                                : "an attribute, a literal, a function or ( is wanted",
                          problem);
}

static enum mr_status take_binary(struct mr__sql_compiler *c, const struct mr__token *token,
                                  uint8_t op, bool *ret_operand, struct mr_problem *problem)
{
    enum mr_status r = reduce(c, rank_of(op), problem);
    *ret_operand = true;
    return r == MR_OK ? push(c,
                             (struct mr__sql_entry){.kind = ENTRY_BINARY, .op = op,
                                                    .from = token->from},
                             problem)
                      : r;
}

/* LIKE and IN, behind an operand and perhaps a NOT. */
static enum mr_status take_test(struct mr__sql_compiler *c, const struct mr__token *token,
                                bool negated, bool *ret_operand, struct mr_problem *problem)
{
    struct mr__token next;
    enum mr_status r = reduce(c, 2, problem);
    if (r == MR_OK) {
        r = mr__sql_token(c, &next, problem);
    }
    if (r != MR_OK) {
        return r;
    }
    if (token->kind == MR__TOKEN_LIKE) {
        struct mr__sql_step step = {
            .op = MR__SQL_OP_LIKE, .detail = negated, .from = token->from};
        return next.kind == MR__TOKEN_STRING
                   ? add_text(c, step, &next, 1, problem)
                   : mr__sql_refuse(c, next.from, "LIKE wants a pattern in quotes", problem);
    }
    if (!mr__sql_is_sign(&next, '(')) {
        return mr__sql_refuse(c, next.from, "IN wants a list in brackets", problem);
    }
    *ret_operand = true;
    return push(c,
                (struct mr__sql_entry){.kind = ENTRY_LIST, .detail = negated, .from = token->from},
                problem);
}

static enum mr_status take_operator(struct mr__sql_compiler *c, const struct mr__token *token,
                                    bool *ret_operand, struct mr_problem *problem)
{
    struct mr__token next = *token;
    enum mr_status r = MR_OK;
    switch (token->kind) {
    case MR__TOKEN_AND:
        return take_binary(c, token, MR__SQL_OP_AND, ret_operand, problem);
    case MR__TOKEN_OR:
        return take_binary(c, token, MR__SQL_OP_OR, ret_operand, problem);
    case MR__TOKEN_XOR:
        return take_binary(c, token, MR__SQL_OP_XOR, ret_operand, problem);
    case MR__TOKEN_NOT:
        r = mr__sql_token(c, &next, problem);
        if (r != MR_OK) {
            return r;
        }
        if (next.kind != MR__TOKEN_LIKE && next.kind != MR__TOKEN_IN) {
            return mr__sql_refuse(c, next.from, "behind an operand, NOT wants LIKE or IN", problem);
        }
        return take_test(c, &next, true, ret_operand, problem);
    case MR__TOKEN_LIKE:
    case MR__TOKEN_IN:
        return take_test(c, token, false, ret_operand, problem);
    case MR__TOKEN_SIGN:
        if (token->op != 0) {
            return take_binary(c, token, token->op, ret_operand, problem);
        }
        if (mr__sql_is_sign(token, '(')) {
            return mr__sql_refuse(c, token->from, "an operator is wanted", problem);
        }
        return take_close(c, token, ret_operand, problem);
    case MR__TOKEN_INTEGER:
        if (token->text.data[0] == '-' || token->text.data[0] == '+') {
            return mr__sql_refuse(c, token->from, "a sign beside its digits belongs to the "
                                  "number: write a blank between them", problem);
        }
        return mr__sql_refuse(c, token->from, "an operator is wanted", problem);
    case MR__TOKEN_END:
    case MR__TOKEN_STRING:
    case MR__TOKEN_NAME:
    case MR__TOKEN_EXISTS:
    case MR__TOKEN_TRUE:
    case MR__TOKEN_FALSE:
        break;
    }
    return mr__sql_refuse(c, token->from, "an operator is wanted", problem);
}

/* --- the calls ------------------------------------------------------------------------------- */

void mr__sql_compiler_init(struct mr__sql_compiler *compiler, struct mr__names *names)
{
    compiler->names = names;
    mr_buf_init(&compiler->texts, MR_SQL_SIZE_MAX);
}

void mr__sql_compiler_release(struct mr__sql_compiler *compiler)
{
    mr_buf_release(&compiler->texts);
}

enum mr_status mr__sql_compile(struct mr__sql_compiler *c, struct mr_bytes source,
                               struct mr_problem *problem)
{
    if (source.size > MR_SQL_SIZE_MAX) {
        return mr_problem_set(problem, MR_E_TOO_BIG, "is longer than %u bytes", MR_SQL_SIZE_MAX);
    }
    if (!mr_bytes_is_utf8(source)) {
        return mr_problem_set(problem, MR_E_INVALID, "is not UTF-8");
    }
    c->source = source;
    c->at = 0;
    c->step_count = 0;
    c->depth = 0;
    c->value_count = 0;
    mr_buf_clear(&c->texts);
    bool operand = true;
    struct mr__token token = {.kind = MR__TOKEN_END};
    enum mr_status r = mr_buf_reserve(&c->texts, 1); /* an empty text lies somewhere too */
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "out of memory");
    }
    r = mr__sql_token(c, &token, problem);
    while (r == MR_OK && (operand || token.kind != MR__TOKEN_END)) {
        r = operand ? take_operand(c, &token, &operand, problem)
                    : take_operator(c, &token, &operand, problem);
        if (r == MR_OK) {
            r = mr__sql_token(c, &token, problem);
        }
    }
    if (r == MR_OK) {
        r = reduce(c, 9, problem);
    }
    if (r == MR_OK && c->depth > 0) {
        r = mr__sql_refuse(c, token.from, "a closing bracket is missing", problem);
    }
    MR_ASSERT(r != MR_OK || c->value_count == 1);
    return r;
}

size_t mr__sql_size(const struct mr__sql_compiler *c)
{
    return sizeof(struct mr__sql) + c->step_count * sizeof(struct mr__sql_step) + c->source.size +
           c->texts.size;
}

void mr__sql_write(const struct mr__sql_compiler *c, uint8_t *to)
{
    struct mr__sql head = {
        .step_count = c->step_count,
        .source_size = (uint16_t)c->source.size,
        .texts_size = (uint32_t)c->texts.size,
    };
    size_t steps_size = c->step_count * sizeof(struct mr__sql_step);
    memcpy(to, &head, sizeof(head));
    memcpy(to + sizeof(head), c->steps, steps_size);
    memcpy(to + sizeof(head) + steps_size, c->source.data, c->source.size);
    if (c->texts.size > 0) {
        memcpy(to + sizeof(head) + steps_size + c->source.size, c->texts.data, c->texts.size);
    }
}
