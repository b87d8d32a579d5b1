/* CESQL 1.0.0 (digest section 12): an expression compiled into steps, and their evaluation.
 *
 * Steps stand in the order in which they run: operands before their operator. The left side of AND
 * and OR, and each element of IN, says what follows it, so that a jump leads forward only and a run
 * takes at most step_count steps. Evaluation fails fast: the first error ends it, and the result is
 * the zero value of the type the whole expression has. Nothing recurses, and memory is taken only
 * when functions make more text than fits into the run itself. Private to router/. */
#ifndef MR_ROUTER_SQL_H
#define MR_ROUTER_SQL_H

#include "core/problem.h"
#include "router/view.h"

enum mr__sql_type {
    MR__SQL_BOOLEAN = 0,
    MR__SQL_INTEGER,
    MR__SQL_STRING,
};

/* Parse errors are no member: they end in a refusal. */
enum mr__sql_error {
    MR__SQL_OK = 0,
    MR__SQL_MATH,
    MR__SQL_CAST,
    MR__SQL_MISSING_FUNCTION,
    MR__SQL_FUNCTION_EVALUATION,
    MR__SQL_MISSING_ATTRIBUTE,
    MR__SQL_GENERIC, /* a bound was met: too much text, or no memory */
};

enum mr__sql_op {
    MR__SQL_OP_BOOLEAN = 0, /* literals */
    MR__SQL_OP_INTEGER,
    MR__SQL_OP_STRING,
    MR__SQL_OP_ATTRIBUTE,
    MR__SQL_OP_ABSENT, /* a name that no attribute can have */
    MR__SQL_OP_EXISTS,
    MR__SQL_OP_NOT,
    MR__SQL_OP_NEGATE,
    MR__SQL_OP_LIKE,
    MR__SQL_OP_IN,
    MR__SQL_OP_MULTIPLY,
    MR__SQL_OP_DIVIDE,
    MR__SQL_OP_REMAINDER,
    MR__SQL_OP_ADD,
    MR__SQL_OP_SUBTRACT,
    MR__SQL_OP_EQUAL,
    MR__SQL_OP_UNEQUAL,
    MR__SQL_OP_LESS,
    MR__SQL_OP_LESS_EQUAL,
    MR__SQL_OP_GREATER,
    MR__SQL_OP_GREATER_EQUAL,
    MR__SQL_OP_AND,
    MR__SQL_OP_OR,
    MR__SQL_OP_XOR,
    MR__SQL_OP_CALL,
    MR__SQL_OP_UNKNOWN, /* a function that there is not */
};

enum mr__sql_then {
    MR__SQL_THEN_NEXT = 0,
    MR__SQL_THEN_AND,     /* false: it is the result of the AND */
    MR__SQL_THEN_OR,      /* true: it is the result of the OR */
    MR__SQL_THEN_ELEMENT, /* equal to the value before: the IN is decided */
};

/* Bytes of a pattern of LIKE; neither occurs in UTF-8. */
#define MR__SQL_MANY 0xFFu
#define MR__SQL_ONE 0xFEu

struct mr__sql_step {
    uint8_t op;         /* enum mr__sql_op */
    uint8_t then;       /* enum mr__sql_then */
    uint8_t detail;     /* BOOLEAN: its value; LIKE, IN: 1 = negated; CALL: which function */
    uint8_t arguments;  /* of CALL */
    uint16_t to;        /* the operator that `then` may decide */
    uint16_t from;      /* its place in the expression, for people */
    uint16_t size;
    uint16_t text_size; /* of STRING, LIKE */
    uint32_t value;     /* INTEGER: the number; ATTRIBUTE, EXISTS: its number; STRING, LIKE: where
                         * its text begins */
};

/* One block at an address divisible by 4: this, the steps, the expression, the texts. */
struct mr__sql {
    uint16_t step_count;
    uint16_t source_size;
    uint32_t texts_size;
};

struct mr__sql_value {
    enum mr__sql_type type;
    int32_t integer;      /* INTEGER; BOOLEAN: 0 or 1 */
    struct mr_bytes text; /* STRING; borrowed from the record, the program or the run */
};

/* --- compiling (sql_parse.c) ----------------------------------------------------------------- */

struct mr__sql_entry {
    uint8_t kind; /* enum entry_kind of sql_parse.c */
    uint8_t op;
    uint8_t detail;
    uint8_t arguments;
    uint16_t from;
    uint16_t first;   /* CALL: steps before it */
    uint16_t base;    /* CALL: values below its arguments */
};

struct mr__sql_compiler {
    struct mr__names *names; /* borrowed */
    struct mr_bytes source;  /* borrowed for the call */
    size_t at;               /* the next byte of the source */
    uint16_t step_count;
    uint16_t depth;
    uint16_t value_count;
    struct mr_buf texts;
    struct mr__sql_step steps[MR_SQL_STEPS_MAX];
    uint16_t starts[MR_SQL_STEPS_MAX]; /* the first step of what ends with this one */
    uint16_t values[MR_SQL_STACK_MAX]; /* the last step of each value */
    struct mr__sql_entry entries[MR_SQL_DEPTH_MAX];
};

/** @param names borrowed; gets the attributes that expressions mention */
void mr__sql_compiler_init(struct mr__sql_compiler *compiler, struct mr__names *names);
void mr__sql_compiler_release(struct mr__sql_compiler *compiler);
/** Steps and texts are in @p compiler afterwards.
 * @return MR_E_INVALID with `at character N, at "…": …`; MR_E_TOO_BIG, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__sql_compile(struct mr__sql_compiler *compiler,
                                           struct mr_bytes source, struct mr_problem *problem);
size_t mr__sql_size(const struct mr__sql_compiler *compiler);
/** Writes the program to @p to, mr__sql_size() bytes. */
void mr__sql_write(const struct mr__sql_compiler *compiler, uint8_t *to);

/* --- functions (sql_function.c) -------------------------------------------------------------- */

#define MR__SQL_FUNCTION_NONE UINT8_MAX

/* Text that functions make: in the run itself, then in one block of MR_SQL_TEXT_MAX. */
struct mr__sql_arena {
    uint32_t used;
    uint32_t heap_used;
    uint8_t *heap; /* owned; NULL until it is wanted */
    uint8_t near[512];
};

/** The function of that name and number of arguments, or MR__SQL_FUNCTION_NONE. */
uint8_t mr__sql_function_find(struct mr_bytes name, uint32_t arguments);
enum mr__sql_type mr__sql_function_type(uint8_t function);
/** @param ret_value set also with an error: what the function is worth then */
enum mr__sql_error mr__sql_call(uint8_t function, struct mr__sql_value *arguments, uint32_t count,
                                struct mr__sql_arena *arena, struct mr__sql_value *ret_value);
enum mr__sql_error mr__sql_cast(struct mr__sql_value *value, enum mr__sql_type type,
                                struct mr__sql_arena *arena);
bool mr__sql_like(struct mr_bytes text, struct mr_bytes pattern);

/* --- evaluating (sql_eval.c) ----------------------------------------------------------------- */

struct mr__sql_result {
    struct mr__sql_value value; /* its text is borrowed from record, program and arena */
    enum mr__sql_error error;
    uint16_t step; /* where the error was met */
};

static inline const struct mr__sql_step *mr__sql_steps(const struct mr__sql *sql)
{
    return (const struct mr__sql_step *)(sql + 1);
}

/** What stands at @p step in the expression. */
struct mr_bytes mr__sql_source(const struct mr__sql *sql, uint16_t step);
/** Runs the steps from @p first below @p end, which must be one whole value.
 * @param arena set to zeros up to `near`; mr_free() its heap after use of the result */
void mr__sql_run(const struct mr__sql *sql, const struct mr__view *view, uint16_t first,
                 uint16_t end, struct mr__sql_arena *arena, struct mr__sql_result *ret_result);
/** Whether the whole is TRUE. @param ret_error MR__SQL_OK unless it failed */
bool mr__sql_holds(const struct mr__sql *sql, const struct mr__view *view,
                   enum mr__sql_error *ret_error);
/** As the test kit names it: "math", "missingAttribute", …; NULL for MR__SQL_OK. */
const char *mr__sql_error_name(enum mr__sql_error error);

#endif
