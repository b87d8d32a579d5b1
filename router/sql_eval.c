/* Running the steps of an expression. */
#include "core/alloc.h"
#include "core/assert.h"
#include "router/router.h"
#include "router/sql.h"

struct run {
    const struct mr__sql *sql;
    const struct mr__view *view;
    struct mr__sql_arena *arena;
    uint32_t count; /* values held */
    struct mr__sql_value values[MR_SQL_STACK_MAX];
};

const char *mr__sql_error_name(enum mr__sql_error error)
{
    static const char *const names[] = {
        [MR__SQL_OK] = NULL,
        [MR__SQL_MATH] = "math",
        [MR__SQL_CAST] = "cast",
        [MR__SQL_MISSING_FUNCTION] = "missingFunction",
        [MR__SQL_FUNCTION_EVALUATION] = "functionEvaluation",
        [MR__SQL_MISSING_ATTRIBUTE] = "missingAttribute",
        [MR__SQL_GENERIC] = "generic",
    };
    MR_ASSERT((size_t)error < MR_ARRAY_COUNT(names));
    return names[error];
}

struct mr_bytes mr__sql_source(const struct mr__sql *sql, uint16_t step)
{
    const struct mr__sql_step *s = &mr__sql_steps(sql)[step];
    const uint8_t *source = (const uint8_t *)(mr__sql_steps(sql) + sql->step_count);
    return mr_bytes(source + s->from, s->size);
}

static struct mr_bytes text_of(const struct mr__sql *sql, const struct mr__sql_step *step)
{
    const uint8_t *source = (const uint8_t *)(mr__sql_steps(sql) + sql->step_count);
    return mr_bytes(source + sql->source_size + step->value, step->text_size);
}

/* --- values ---------------------------------------------------------------------------------- */

static struct mr__sql_value boolean(bool value)
{
    return (struct mr__sql_value){.type = MR__SQL_BOOLEAN, .integer = value};
}

static bool equals(const struct mr__sql_value *a, const struct mr__sql_value *b)
{
    return a->type == MR__SQL_STRING ? mr_bytes_equal(a->text, b->text)
                                     : a->integer == b->integer;
}

static enum mr__sql_error find_attribute(struct run *run, uint32_t attr,
                                         struct mr__sql_value *ret_value)
{
    uint8_t type;
    *ret_value = (struct mr__sql_value){.type = MR__SQL_STRING};
    if (!mr__view_find_typed(run->view, attr, &ret_value->text, &type)) {
        *ret_value = boolean(false);
        return MR__SQL_MISSING_ATTRIBUTE;
    }
    /* A value that is not what its type says stays a string. */
    if (type == MR_ATTR_INTEGER || type == MR_ATTR_BOOLEAN) {
        struct mr__sql_value typed = *ret_value;
        if (mr__sql_cast(&typed, type == MR_ATTR_INTEGER ? MR__SQL_INTEGER : MR__SQL_BOOLEAN,
                         run->arena) == MR__SQL_OK) {
            *ret_value = typed;
        }
    }
    return MR__SQL_OK;
}

/* --- operators ------------------------------------------------------------------------------- */

static enum mr__sql_error calculate(enum mr__sql_op op, int64_t a, int64_t b, int32_t *ret_value)
{
    int64_t value = 0;
    if (op == MR__SQL_OP_DIVIDE || op == MR__SQL_OP_REMAINDER) {
        if (b == 0) {
            return MR__SQL_MATH;
        }
        value = op == MR__SQL_OP_DIVIDE ? a / b : a % b;
    } else if (op == MR__SQL_OP_MULTIPLY) {
        value = a * b;
    } else {
        value = op == MR__SQL_OP_ADD ? a + b : a - b;
    }
    if (value < INT32_MIN || value > INT32_MAX) {
        return MR__SQL_MATH;
    }
    *ret_value = (int32_t)value;
    return MR__SQL_OK;
}

static enum mr__sql_error cast_both(struct run *run, struct mr__sql_value *left,
                                    struct mr__sql_value *right, enum mr__sql_type type)
{
    enum mr__sql_error error = mr__sql_cast(left, type, run->arena);
    return error == MR__SQL_OK ? mr__sql_cast(right, type, run->arena) : error;
}

static bool is_less(enum mr__sql_op op, int32_t a, int32_t b)
{
    return op == MR__SQL_OP_LESS         ? a < b
           : op == MR__SQL_OP_LESS_EQUAL ? a <= b
           : op == MR__SQL_OP_GREATER    ? a > b
                                         : a >= b;
}

/* The result replaces the left operand. */
static enum mr__sql_error run_binary(struct run *run, enum mr__sql_op op)
{
    struct mr__sql_value right = run->values[--run->count];
    struct mr__sql_value *left = &run->values[run->count - 1];
    enum mr__sql_error error;
    if (op == MR__SQL_OP_EQUAL || op == MR__SQL_OP_UNEQUAL) {
        error = mr__sql_cast(left, right.type, run->arena);
        *left = boolean(error == MR__SQL_OK &&
                        equals(left, &right) == (op == MR__SQL_OP_EQUAL));
        return error;
    }
    if (op == MR__SQL_OP_XOR) {
        error = cast_both(run, left, &right, MR__SQL_BOOLEAN);
        *left = boolean(left->integer != right.integer);
        return error;
    }
    error = cast_both(run, left, &right, MR__SQL_INTEGER);
    if (error == MR__SQL_OK && op >= MR__SQL_OP_LESS) {
        *left = boolean(is_less(op, left->integer, right.integer));
    } else if (error == MR__SQL_OK) {
        error = calculate(op, left->integer, right.integer, &left->integer);
    }
    return error;
}

static enum mr__sql_error run_unary(struct run *run, const struct mr__sql_step *step)
{
    struct mr__sql_value *value = &run->values[run->count - 1];
    enum mr__sql_error error;
    switch (step->op) {
    case MR__SQL_OP_NOT:
        error = mr__sql_cast(value, MR__SQL_BOOLEAN, run->arena);
        value->integer = !value->integer;
        return error;
    case MR__SQL_OP_NEGATE:
        error = mr__sql_cast(value, MR__SQL_INTEGER, run->arena);
        return error == MR__SQL_OK
                   ? calculate(MR__SQL_OP_SUBTRACT, 0, value->integer, &value->integer)
                   : error;
    case MR__SQL_OP_LIKE:
        error = mr__sql_cast(value, MR__SQL_STRING, run->arena);
        *value = boolean(error == MR__SQL_OK &&
                         mr__sql_like(value->text, text_of(run->sql, step)) == !step->detail);
        return error;
    case MR__SQL_OP_IN: /* no element was equal */
        *value = boolean(step->detail != 0);
        return MR__SQL_OK;
    default: /* AND, OR: the left side did not decide */
        return mr__sql_cast(value, MR__SQL_BOOLEAN, run->arena);
    }
}

static void push(struct run *run, struct mr__sql_value value)
{
    MR_ASSERT(run->count < MR_SQL_STACK_MAX);
    run->values[run->count++] = value;
}

static enum mr__sql_error run_step(struct run *run, const struct mr__sql_step *step)
{
    struct mr__sql_value value = {.type = MR__SQL_BOOLEAN};
    enum mr__sql_error error = MR__SQL_OK;
    uint8_t type;
    switch ((enum mr__sql_op)step->op) {
    case MR__SQL_OP_BOOLEAN:
        value.integer = step->detail;
        break;
    case MR__SQL_OP_INTEGER:
        value = (struct mr__sql_value){.type = MR__SQL_INTEGER, .integer = (int32_t)step->value};
        break;
    case MR__SQL_OP_STRING:
        value.type = MR__SQL_STRING;
        value.text = text_of(run->sql, step);
        break;
    case MR__SQL_OP_ATTRIBUTE:
        error = find_attribute(run, step->value, &value);
        break;
    case MR__SQL_OP_ABSENT:
        error = MR__SQL_MISSING_ATTRIBUTE;
        break;
    case MR__SQL_OP_UNKNOWN:
        error = MR__SQL_MISSING_FUNCTION;
        break;
    case MR__SQL_OP_EXISTS:
        value.integer = mr__view_find_typed(run->view, step->value, &value.text, &type);
        break;
    case MR__SQL_OP_CALL:
        MR_ASSERT(run->count >= step->arguments);
        run->count -= step->arguments;
        error = mr__sql_call(step->detail, run->values + run->count, step->arguments, run->arena,
                             &value);
        break;
    case MR__SQL_OP_NOT:
    case MR__SQL_OP_NEGATE:
    case MR__SQL_OP_LIKE:
    case MR__SQL_OP_IN:
    case MR__SQL_OP_AND:
    case MR__SQL_OP_OR:
        MR_ASSERT(run->count > 0);
        return run_unary(run, step);
    case MR__SQL_OP_MULTIPLY:
    case MR__SQL_OP_DIVIDE:
    case MR__SQL_OP_REMAINDER:
    case MR__SQL_OP_ADD:
    case MR__SQL_OP_SUBTRACT:
    case MR__SQL_OP_EQUAL:
    case MR__SQL_OP_UNEQUAL:
    case MR__SQL_OP_LESS:
    case MR__SQL_OP_LESS_EQUAL:
    case MR__SQL_OP_GREATER:
    case MR__SQL_OP_GREATER_EQUAL:
    case MR__SQL_OP_XOR:
        MR_ASSERT(run->count > 1);
        return run_binary(run, (enum mr__sql_op)step->op);
    }
    push(run, value);
    return error;
}

/* What stands behind the step: whether its value decides what it is part of. */
static enum mr__sql_error run_then(struct run *run, const struct mr__sql_step *step,
                                   bool *ret_decided)
{
    struct mr__sql_value *value = &run->values[run->count - 1];
    if (step->then == MR__SQL_THEN_ELEMENT) {
        MR_ASSERT(run->count > 1);
        struct mr__sql_value *left = value - 1;
        enum mr__sql_error error = mr__sql_cast(value, left->type, run->arena);
        *ret_decided = error == MR__SQL_OK && equals(left, value);
        run->count--;
        if (*ret_decided) {
            *left = boolean(mr__sql_steps(run->sql)[step->to].detail == 0);
        }
        return error;
    }
    enum mr__sql_error error = mr__sql_cast(value, MR__SQL_BOOLEAN, run->arena);
    *ret_decided =
        error == MR__SQL_OK && (value->integer != 0) == (step->then == MR__SQL_THEN_OR);
    run->count -= !*ret_decided;
    return error;
}

/* --- results --------------------------------------------------------------------------------- */

static enum mr__sql_type type_of(const struct mr__sql_step *step)
{
    switch ((enum mr__sql_op)step->op) {
    case MR__SQL_OP_INTEGER:
    case MR__SQL_OP_NEGATE:
    case MR__SQL_OP_MULTIPLY:
    case MR__SQL_OP_DIVIDE:
    case MR__SQL_OP_REMAINDER:
    case MR__SQL_OP_ADD:
    case MR__SQL_OP_SUBTRACT:
        return MR__SQL_INTEGER;
    case MR__SQL_OP_STRING:
        return MR__SQL_STRING;
    case MR__SQL_OP_CALL:
        return mr__sql_function_type(step->detail);
    case MR__SQL_OP_BOOLEAN:
    case MR__SQL_OP_ATTRIBUTE: /* fails only when it is missing: of no type, so false */
    case MR__SQL_OP_ABSENT:
    case MR__SQL_OP_EXISTS:
    case MR__SQL_OP_NOT:
    case MR__SQL_OP_LIKE:
    case MR__SQL_OP_IN:
    case MR__SQL_OP_EQUAL:
    case MR__SQL_OP_UNEQUAL:
    case MR__SQL_OP_LESS:
    case MR__SQL_OP_LESS_EQUAL:
    case MR__SQL_OP_GREATER:
    case MR__SQL_OP_GREATER_EQUAL:
    case MR__SQL_OP_AND:
    case MR__SQL_OP_OR:
    case MR__SQL_OP_XOR:
    case MR__SQL_OP_UNKNOWN:
        break;
    }
    return MR__SQL_BOOLEAN;
}

void mr__sql_run(const struct mr__sql *sql, const struct mr__view *view, uint16_t first,
                 uint16_t end, struct mr__sql_arena *arena, struct mr__sql_result *ret_result)
{
    struct run run;
    run.sql = sql;
    run.view = view;
    run.arena = arena;
    run.count = 0;
    const struct mr__sql_step *steps = mr__sql_steps(sql);
    enum mr__sql_error error = MR__SQL_OK;
    uint16_t at = first;
    uint16_t last = first;
    while (at < end && error == MR__SQL_OK) {
        const struct mr__sql_step *step = &steps[at];
        bool decided = true;
        last = at;
        error = run_step(&run, step);
        /* What is decided by a part of it has its value, which may decide what it is part of. What
         * follows the last step belongs to what surrounds the range. */
        while (error == MR__SQL_OK && decided && step->then != MR__SQL_THEN_NEXT && at + 1 < end) {
            error = run_then(&run, step, &decided);
            at = decided ? step->to : at;
            step = &steps[at];
        }
        at++;
    }
    ret_result->error = error;
    ret_result->step = last;
    /* LEFT, RIGHT and ABS name what they are worth when they fail; every other failure, and these
     * inside something else, is worth the zero value of the whole. */
    bool own_value = error != MR__SQL_OK && last + 1 == end &&
                     steps[last].op == MR__SQL_OP_CALL && error != MR__SQL_CAST &&
                     error != MR__SQL_GENERIC;
    if (error == MR__SQL_OK || own_value) {
        MR_ASSERT(run.count == 1);
        ret_result->value = run.values[0];
    } else {
        ret_result->value = (struct mr__sql_value){.type = type_of(&steps[end - 1])};
    }
}

bool mr__sql_holds(const struct mr__sql *sql, const struct mr__view *view,
                   enum mr__sql_error *ret_error)
{
    struct mr__sql_arena arena;
    arena.used = 0;
    arena.heap_used = 0;
    arena.heap = NULL;
    struct mr__sql_result result;
    mr__sql_run(sql, view, 0, sql->step_count, &arena, &result);
    mr_free(arena.heap);
    *ret_error = result.error;
    return result.error == MR__SQL_OK && result.value.type == MR__SQL_BOOLEAN &&
           result.value.integer != 0;
}

static enum mr_status append_value(const struct mr__sql_value *value, struct mr_buf *out)
{
    if (value->type == MR__SQL_STRING) {
        return mr_buf_append_json(out, value->text);
    }
    return value->type == MR__SQL_INTEGER
               ? mr_buf_printf(out, "%d", value->integer)
               : mr_buf_append_text(out, value->integer != 0 ? "true" : "false");
}

/* The program of the expression, in a block of its own; NULL when memory is short. */
static struct mr__sql *make_program(const struct mr__sql_compiler *compiler)
{
    struct mr__sql *sql = mr_alloc(mr__sql_size(compiler));
    if (sql != NULL) {
        mr__sql_write(compiler, (uint8_t *)sql);
    }
    return sql;
}

static enum mr_status eval(const struct mr__sql *sql, const struct mr__names *names,
                           struct mr_bytes record, struct mr_buf *out, const char **ret_error)
{
    struct mr__view view;
    struct mr__reading reading;
    struct mr__sql_arena arena = {.heap = NULL};
    struct mr__sql_result result;
    mr__view_init(&view, names, record, &reading);
    mr__sql_run(sql, &view, 0, sql->step_count, &arena, &result);
    *ret_error = mr__sql_error_name(result.error);
    enum mr_status r = append_value(&result.value, out);
    mr_free(arena.heap);
    mr__view_release(&view);
    return r;
}

enum mr_status mr_sql_eval(struct mr_bytes expression, struct mr_bytes record, struct mr_buf *out,
                           const char **ret_error, struct mr_problem *problem)
{
    struct mr__names names;
    struct mr__sql *sql = NULL;
    struct mr__sql_compiler *compiler = mr_alloc(sizeof(*compiler));
    if (compiler == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    mr__names_init(&names);
    mr__sql_compiler_init(compiler, &names);
    enum mr_status r = mr__sql_compile(compiler, expression, problem);
    if (r == MR_OK) {
        sql = make_program(compiler);
        r = sql == NULL ? MR_E_NOMEM : eval(sql, &names, record, out, ret_error);
        r = r == MR_OK ? r : mr_problem_set(problem, r, "out of memory");
    } else if (r != MR_E_NOMEM) {
        *ret_error = "parse";
    }
    mr_free(sql);
    mr__sql_compiler_release(compiler);
    mr_free(compiler);
    mr__names_release(&names);
    return r;
}
