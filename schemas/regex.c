/* Owns the compiler and the runner of regular expressions. A fragment of code is one run of
 * instructions with relative jumps inside it, so a repetition is a copy and an alternative an
 * insertion; the only stack is that of the open groups. */
#include "schemas/regex.h"

#include "core/alloc.h"

#define PATTERN_SIZE_MAX 4096u
#define CODE_MAX 4096u
#define RANGES_MAX 4096u
#define GROUPS_MAX 64u
#define REPEAT_MAX 1000u
#define NONE UINT32_MAX
#define CHARACTER_MAX 0x10FFFFu

enum op {
    OP_CHAR = 0, /* x: the character */
    OP_SET,      /* x: first range, y: their count */
    OP_NOT_SET,
    OP_SPLIT, /* to +x and +y */
    OP_JUMP,  /* to +x */
    OP_BEGIN,
    OP_END,
    OP_EDGE,
    OP_NO_EDGE,
    OP_MATCH,
};

struct step {
    uint8_t op;
    int32_t x;
    int32_t y;
};

struct range {
    uint32_t low;
    uint32_t high;
};

struct mr_regex {
    uint32_t code_count;
    uint32_t range_count;
    struct range *ranges; /* in the same block */
    struct step code[];
};

struct group {
    uint32_t alternative; /* where the present alternative begins */
    uint32_t atom;        /* where the last atom begins, NONE: there is none to repeat */
    uint32_t jumps;       /* the last jump to the end of the group, + 1; a chain through x */
    uint32_t start;
};

struct compiler {
    struct mr_bytes pattern;
    size_t at;
    struct mr_problem *problem;
    uint32_t code_count;
    uint32_t range_count;
    uint32_t depth;
    struct group groups[GROUPS_MAX];
    struct step code[CODE_MAX];
    struct range ranges[RANGES_MAX];
};

/* --- characters ------------------------------------------------------------------------------- */

static const struct range digit_ranges[] = {{'0', '9'}};
static const struct range word_ranges[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
static const struct range space_ranges[] = {{'\t', '\r'},     {' ', ' '},       {0xA0, 0xA0},
                                            {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029},
                                            {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000},
                                            {0xFEFF, 0xFEFF}};
static const struct range line_ranges[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

/* The character at *at of well-formed UTF-8; of other bytes, the byte. */
static uint32_t next_character(struct mr_bytes text, size_t *at)
{
    uint8_t b = text.data[(*at)++];
    uint32_t more = b >= 0xF0 ? 3 : b >= 0xE0 ? 2 : b >= 0xC0 ? 1 : 0;
    if (b < 0xC0 || text.size - *at < more) {
        return b;
    }
    uint32_t code = b & (0x3Fu >> more);
    for (; more > 0; more--) {
        code = code << 6 | (text.data[(*at)++] & 0x3Fu);
    }
    return code;
}

static bool is_word(uint32_t c)
{
    return c < 0x80 && ((c >= '0' && c <= '9') || (c | 0x20) - 'a' < 26 || c == '_');
}

/* --- compiling -------------------------------------------------------------------------------- */

static enum mr_status refuse(const struct compiler *c, enum mr_status status, const char *reason)
{
    return mr_problem_set(c->problem, status, "at byte %zu of the expression: %s", c->at + 1,
                          reason);
}

static enum mr_status emit(struct compiler *c, enum op op, int32_t x, int32_t y)
{
    if (c->code_count == CODE_MAX) {
        return refuse(c, MR_E_TOO_BIG, "it is too large with its repetitions written out");
    }
    c->code[c->code_count++] = (struct step){.op = (uint8_t)op, .x = x, .y = y};
    return MR_OK;
}

/* Makes room for one instruction at @p at; what stands behind moves as a whole. */
static enum mr_status insert(struct compiler *c, uint32_t at, enum op op, int32_t x, int32_t y)
{
    enum mr_status r = emit(c, OP_MATCH, 0, 0);
    if (r == MR_OK) {
        memmove(&c->code[at + 1], &c->code[at], (c->code_count - 1 - at) * sizeof(c->code[0]));
        c->code[at] = (struct step){.op = (uint8_t)op, .x = x, .y = y};
    }
    return r;
}

static bool peek_is(const struct compiler *c, char byte)
{
    return c->at < c->pattern.size && c->pattern.data[c->at] == (uint8_t)byte;
}

static bool peek_digit(const struct compiler *c)
{
    return c->at < c->pattern.size && c->pattern.data[c->at] >= '0' &&
           c->pattern.data[c->at] <= '9';
}

static bool take(struct compiler *c, char byte)
{
    bool there = peek_is(c, byte);
    c->at += there;
    return there;
}

static enum mr_status add_range(struct compiler *c, uint32_t low, uint32_t high)
{
    if (c->range_count == RANGES_MAX) {
        return refuse(c, MR_E_TOO_BIG, "its classes are too large");
    }
    c->ranges[c->range_count++] = (struct range){low, high};
    return MR_OK;
}

static enum mr_status add_ranges(struct compiler *c, const struct range *ranges, size_t count,
                                 bool negated)
{
    enum mr_status r = MR_OK;
    uint32_t low = 0;
    for (size_t i = 0; i < count && r == MR_OK; i++) {
        if (!negated) {
            r = add_range(c, ranges[i].low, ranges[i].high);
        } else if (ranges[i].low > low) {
            r = add_range(c, low, ranges[i].low - 1);
        }
        low = ranges[i].high + 1;
    }
    return r == MR_OK && negated ? add_range(c, low, CHARACTER_MAX) : r;
}

/* The class that @p letter stands for behind a backslash. @return false: none */
static bool find_class(uint8_t letter, const struct range **ret_ranges, size_t *ret_count)
{
    switch (letter | 0x20) {
    case 'd':
        *ret_ranges = digit_ranges;
        *ret_count = MR_ARRAY_COUNT(digit_ranges);
        return true;
    case 'w':
        *ret_ranges = word_ranges;
        *ret_count = MR_ARRAY_COUNT(word_ranges);
        return true;
    case 's':
        *ret_ranges = space_ranges;
        *ret_count = MR_ARRAY_COUNT(space_ranges);
        return true;
    default:
        return false;
    }
}

static bool take_hex(struct compiler *c, uint32_t digits, uint32_t *ret_value)
{
    uint32_t value = 0;
    for (uint32_t i = 0; i < digits; i++) {
        uint8_t b = c->at < c->pattern.size ? c->pattern.data[c->at] : 0;
        uint8_t low = b | 0x20;
        if (!((b >= '0' && b <= '9') || (low >= 'a' && low <= 'f'))) {
            return false;
        }
        value = value << 4 | (uint32_t)(b <= '9' ? b - '0' : low - 'a' + 10);
        c->at++;
    }
    *ret_value = value;
    return true;
}

static bool take_braced(struct compiler *c, uint32_t *ret_value)
{
    uint32_t value = 0;
    uint32_t digit;
    while (!peek_is(c, '}')) {
        if (!take_hex(c, 1, &digit) || (value = value << 4 | digit) > CHARACTER_MAX) {
            return false;
        }
    }
    c->at++;
    *ret_value = value;
    return true;
}

/* Behind \u: four digits, two times four for a pair, or {…}. */
static bool take_unicode(struct compiler *c, uint32_t *ret_value)
{
    uint32_t low;
    if (take(c, '{')) {
        return take_braced(c, ret_value);
    }
    if (!take_hex(c, 4, ret_value)) {
        return false;
    }
    size_t behind = c->at;
    if (*ret_value >= 0xD800 && *ret_value < 0xDC00 && take(c, '\\') && take(c, 'u') &&
        take_hex(c, 4, &low) && low >= 0xDC00 && low < 0xE000) {
        *ret_value = 0x10000 + ((*ret_value - 0xD800) << 10) + (low - 0xDC00);
        return true;
    }
    c->at = behind;
    return true;
}

/* The character that an escape stands for; the cursor is behind the backslash. */
static enum mr_status take_escape(struct compiler *c, bool in_class, uint32_t *ret_character)
{
    static const char plain[] = "^$\\.*+?()[]{}|/";
    static const char names[] = "tnrvf";
    static const char values[] = "\t\n\r\v\f";
    if (c->at == c->pattern.size) {
        return refuse(c, MR_E_INVALID, "a backslash ends it");
    }
    uint8_t b = c->pattern.data[c->at++];
    const char *found = b == 0 ? NULL : strchr(names, b);
    if (found != NULL) {
        *ret_character = (uint8_t)values[found - names];
        return MR_OK;
    }
    if ((b != 0 && strchr(plain, b) != NULL) || b == '-') {
        *ret_character = b;
        return MR_OK;
    }
    bool good = false;
    if (b == '0' && !peek_digit(c)) {
        *ret_character = 0;
        good = true;
    } else if (b == 'x') {
        good = take_hex(c, 2, ret_character);
    } else if (b == 'u') {
        good = take_unicode(c, ret_character);
    } else if (b == 'c' && c->at < c->pattern.size &&
               ((uint32_t)c->pattern.data[c->at] | 0x20) - 'a' < 26) {
        *ret_character = c->pattern.data[c->at++] & 0x1F;
        good = true;
    } else if (b == 'b' && in_class) {
        *ret_character = '\b';
        good = true;
    }
    if (good) {
        return MR_OK;
    }
    c->at--;
    if (b == 'p' || b == 'P') {
        return refuse(c, MR_E_UNSUPPORTED, "classes of Unicode properties are not supported");
    }
    if ((b >= '1' && b <= '9') || b == 'k') {
        return refuse(c, MR_E_UNSUPPORTED,
                      "referring back to a group is not supported: it takes more than linear time");
    }
    return refuse(c, MR_E_INVALID, "this escape has no meaning");
}

/* One member of a class. *ret_single: a character, which may begin a range. */
static enum mr_status take_class_member(struct compiler *c, uint32_t *ret_character,
                                        bool *ret_single)
{
    const struct range *ranges;
    size_t count;
    *ret_single = true;
    if (!take(c, '\\')) {
        *ret_character = next_character(c->pattern, &c->at);
        return MR_OK;
    }
    if (c->at < c->pattern.size && find_class(c->pattern.data[c->at], &ranges, &count)) {
        *ret_single = false;
        bool negated = c->pattern.data[c->at++] < 'a';
        return add_ranges(c, ranges, count, negated);
    }
    return take_escape(c, true, ret_character);
}

/* A class, behind its bracket. */
static enum mr_status take_class(struct compiler *c)
{
    bool negated = take(c, '^');
    uint32_t first = c->range_count;
    enum mr_status r = MR_OK;
    while (r == MR_OK && !take(c, ']')) {
        if (c->at == c->pattern.size) {
            return refuse(c, MR_E_INVALID, "a class `[` is not closed");
        }
        uint32_t low = 0;
        bool single = false;
        r = take_class_member(c, &low, &single);
        uint32_t high = low;
        if (r == MR_OK && single && peek_is(c, '-') && c->at + 1 < c->pattern.size &&
            c->pattern.data[c->at + 1] != ']') {
            c->at++;
            bool is_character = false;
            r = take_class_member(c, &high, &is_character);
            if (r == MR_OK && (!is_character || high < low)) {
                r = refuse(c, MR_E_INVALID, "a range of a class goes from the greater to the "
                                            "smaller, or to a class");
            }
        }
        r = r == MR_OK && single ? add_range(c, low, high) : r;
    }
    return r == MR_OK ? emit(c, negated ? OP_NOT_SET : OP_SET, (int32_t)first,
                             (int32_t)(c->range_count - first))
                      : r;
}

/* An atom of a set that has a name: \d or `.`. */
static enum mr_status emit_set(struct compiler *c, const struct range *ranges, size_t count,
                               bool negated)
{
    uint32_t first = c->range_count;
    enum mr_status r = add_ranges(c, ranges, count, false);
    return r == MR_OK
               ? emit(c, negated ? OP_NOT_SET : OP_SET, (int32_t)first, (int32_t)count)
               : r;
}

static enum mr_status open_group(struct compiler *c)
{
    if (take(c, '?')) {
        bool named = take(c, '<');
        if (named && !peek_is(c, '=') && !peek_is(c, '!')) {
            while (c->at < c->pattern.size && !peek_is(c, '>')) {
                c->at++;
            }
            if (!take(c, '>')) {
                return refuse(c, MR_E_INVALID, "the name of a group is not closed");
            }
        } else if (named || !take(c, ':')) {
            return refuse(c, MR_E_UNSUPPORTED,
                          "looking around is not supported: it takes more than linear time");
        }
    }
    if (c->depth == GROUPS_MAX) {
        return refuse(c, MR_E_TOO_BIG, "its groups are nested too deeply");
    }
    c->groups[c->depth++] = (struct group){
        .start = c->code_count, .alternative = c->code_count, .atom = NONE};
    return MR_OK;
}

static void end_group(struct compiler *c)
{
    struct group *group = &c->groups[c->depth - 1];
    for (uint32_t at = group->jumps; at != 0;) {
        struct step *jump = &c->code[at - 1];
        uint32_t next = (uint32_t)jump->x;
        jump->x = (int32_t)(c->code_count - (at - 1));
        at = next;
    }
    c->depth--;
}

static enum mr_status close_group(struct compiler *c)
{
    if (c->depth == 1) {
        c->at--;
        return refuse(c, MR_E_INVALID, "a bracket `)` closes nothing");
    }
    uint32_t start = c->groups[c->depth - 1].start;
    end_group(c);
    c->groups[c->depth - 1].atom = start;
    return MR_OK;
}

static enum mr_status begin_alternative(struct compiler *c)
{
    struct group *group = &c->groups[c->depth - 1];
    int32_t size = (int32_t)(c->code_count - group->alternative);
    enum mr_status r = insert(c, group->alternative, OP_SPLIT, 1, size + 2);
    r = r == MR_OK ? emit(c, OP_JUMP, (int32_t)group->jumps, 0) : r;
    group->jumps = c->code_count;
    group->alternative = c->code_count;
    group->atom = NONE;
    return r;
}

/* The bounds of a repetition, if one stands here. */
static enum mr_status take_bounds(struct compiler *c, uint32_t *ret_min, uint32_t *ret_max,
                                  bool *ret_there)
{
    *ret_there = true;
    *ret_min = peek_is(c, '+');
    *ret_max = peek_is(c, '?') ? 1 : NONE;
    if (take(c, '*') || take(c, '+') || take(c, '?')) {
        (void)take(c, '?'); /* lazy: the same question, does it match */
        return MR_OK;
    }
    *ret_there = take(c, '{');
    if (!*ret_there) {
        return MR_OK;
    }
    uint32_t bounds[2] = {NONE, NONE};
    uint32_t i = 0;
    for (; i < 2; i++) {
        while (peek_digit(c)) {
            uint32_t digit = (uint32_t)(c->pattern.data[c->at++] - '0');
            bounds[i] = bounds[i] == NONE ? digit : bounds[i] * 10 + digit;
            if (bounds[i] > REPEAT_MAX) {
                return refuse(c, MR_E_TOO_BIG, "a repetition is more than 1000 times");
            }
        }
        if (i == 1 || !take(c, ',')) {
            break;
        }
    }
    if (!take(c, '}') || bounds[0] == NONE || (bounds[1] != NONE && bounds[1] < bounds[0])) {
        return refuse(c, MR_E_INVALID, "a repetition wants {n}, {n,} or {n,m}");
    }
    *ret_min = bounds[0];
    *ret_max = i == 0 ? bounds[0] : bounds[1];
    (void)take(c, '?');
    return MR_OK;
}

static enum mr_status copy_code(struct compiler *c, const struct step *code, uint32_t size)
{
    if (size > CODE_MAX - c->code_count) {
        return refuse(c, MR_E_TOO_BIG, "it is too large with its repetitions written out");
    }
    memmove(&c->code[c->code_count], code, size * sizeof(*code));
    c->code_count += size;
    return MR_OK;
}

/* The last atom @p min to @p max times: min copies, then one in a loop or optional ones. */
static enum mr_status repeat(struct compiler *c, uint32_t min, uint32_t max)
{
    struct group *group = &c->groups[c->depth - 1];
    if (group->atom == NONE) {
        return refuse(c, MR_E_INVALID, "there is nothing to repeat");
    }
    uint32_t atom = group->atom;
    uint32_t size = c->code_count - atom;
    group->atom = NONE;
    struct step *code = mr_alloc(((size_t)size + 1) * sizeof(*code));
    if (code == NULL) {
        return mr_problem_set(c->problem, MR_E_NOMEM, "out of memory");
    }
    memcpy(code, &c->code[atom], size * sizeof(*code));
    c->code_count = atom;
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < min && r == MR_OK; i++) {
        r = copy_code(c, code, size);
    }
    if (r == MR_OK && max == NONE) {
        r = emit(c, OP_SPLIT, 1, (int32_t)size + 2);
        r = r == MR_OK ? copy_code(c, code, size) : r;
        r = r == MR_OK ? emit(c, OP_JUMP, -(int32_t)size - 1, 0) : r;
    }
    for (uint32_t i = min; max != NONE && i < max && r == MR_OK; i++) {
        int32_t rest = (int32_t)(max - i) * ((int32_t)size + 1); /* out of all that are left */
        r = emit(c, OP_SPLIT, 1, rest);
        r = r == MR_OK ? copy_code(c, code, size) : r;
    }
    mr_free(code);
    return r;
}

static enum mr_status take_escaped_atom(struct compiler *c)
{
    const struct range *ranges;
    size_t count;
    uint32_t character;
    uint8_t b = c->at < c->pattern.size ? c->pattern.data[c->at] : 0;
    if (find_class(b, &ranges, &count)) {
        c->at++;
        return emit_set(c, ranges, count, b < 'a');
    }
    enum mr_status r = take_escape(c, false, &character);
    return r == MR_OK ? emit(c, OP_CHAR, (int32_t)character, 0) : r;
}

static enum mr_status take_assertion(struct compiler *c, size_t size, enum op op)
{
    c->at += size;
    c->groups[c->depth - 1].atom = NONE;
    return emit(c, op, 0, 0);
}

static enum mr_status take_atom(struct compiler *c)
{
    struct group *group = &c->groups[c->depth - 1];
    group->atom = c->code_count;
    switch (c->pattern.data[c->at]) {
    case '[':
        c->at++;
        return take_class(c);
    case '.':
        c->at++;
        return emit_set(c, line_ranges, MR_ARRAY_COUNT(line_ranges), true);
    case '\\':
        c->at++;
        return take_escaped_atom(c);
    case ']':
    case '}':
        return refuse(c, MR_E_INVALID, "this bracket wants a backslash before it");
    default:
        return emit(c, OP_CHAR, (int32_t)next_character(c->pattern, &c->at), 0);
    }
}

/* What stands at the cursor: an assertion, a repetition, a bracket, an atom. */
static enum mr_status take_part(struct compiler *c)
{
    uint8_t b = c->pattern.data[c->at];
    uint8_t after = c->at + 1 < c->pattern.size ? c->pattern.data[c->at + 1] : 0;
    if (b == '^' || b == '$') {
        return take_assertion(c, 1, b == '^' ? OP_BEGIN : OP_END);
    }
    if (b == '\\' && (after | 0x20) == 'b') {
        return take_assertion(c, 2, after == 'b' ? OP_EDGE : OP_NO_EDGE);
    }
    if (take(c, '(')) {
        return open_group(c);
    }
    if (take(c, ')')) {
        return close_group(c);
    }
    if (take(c, '|')) {
        return begin_alternative(c);
    }
    uint32_t min;
    uint32_t max;
    bool there;
    enum mr_status r = take_bounds(c, &min, &max, &there);
    if (r != MR_OK || there) {
        return r == MR_OK ? repeat(c, min, max) : r;
    }
    return take_atom(c);
}

static enum mr_status compile(struct compiler *c)
{
    c->groups[c->depth++] = (struct group){.atom = NONE};
    enum mr_status r = MR_OK;
    while (r == MR_OK && c->at < c->pattern.size) {
        r = take_part(c);
    }
    if (r == MR_OK && c->depth > 1) {
        r = refuse(c, MR_E_INVALID, "a bracket `(` is not closed");
    }
    if (r == MR_OK) {
        end_group(c);
        r = emit(c, OP_MATCH, 0, 0);
    }
    return r;
}

enum mr_status mr_regex_create(struct mr_bytes pattern, struct mr_regex **ret_regex,
                               struct mr_problem *problem)
{
    if (pattern.size > PATTERN_SIZE_MAX) {
        return mr_problem_set(problem, MR_E_TOO_BIG, "an expression of more than %u bytes",
                              PATTERN_SIZE_MAX);
    }
    if (!mr_bytes_is_utf8(pattern)) {
        return mr_problem_set(problem, MR_E_INVALID, "the expression is no UTF-8");
    }
    struct compiler *c = mr_calloc(1, sizeof(*c));
    if (c == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    c->pattern = pattern;
    c->problem = problem;
    enum mr_status r = compile(c);
    if (r == MR_OK) {
        size_t code_size = c->code_count * sizeof(c->code[0]);
        size_t ranges_size = c->range_count * sizeof(c->ranges[0]);
        struct mr_regex *regex = mr_alloc(sizeof(*regex) + code_size + ranges_size);
        if (regex == NULL) {
            r = mr_problem_set(problem, MR_E_NOMEM, "out of memory");
        } else {
            regex->code_count = c->code_count;
            regex->range_count = c->range_count;
            regex->ranges = (struct range *)(void *)&regex->code[c->code_count];
            memcpy(regex->code, c->code, code_size);
            memcpy(regex->ranges, c->ranges, ranges_size);
            *ret_regex = regex;
        }
    }
    mr_free(c);
    return r;
}

void mr_regex_destroy(struct mr_regex *regex)
{
    mr_free(regex);
}

/* --- running ---------------------------------------------------------------------------------- */

struct threads {
    uint32_t *items;
    uint32_t count;
};

struct run {
    const struct mr_regex *regex;
    struct threads now;
    struct threads next;
    uint32_t *seen;  /* by instruction: the pass that added it */
    uint32_t *stack; /* each instruction at most twice: both ways out of a split */
    uint32_t pass;
    uint32_t before; /* the characters around the place, UINT32_MAX at an end */
    uint32_t after;
    bool matched;
};

uint32_t mr_regex_scratch(const struct mr_regex *regex)
{
    return 5 * regex->code_count + 1;
}

static bool assertion_holds(const struct run *run, uint8_t op)
{
    bool edge = is_word(run->before) != is_word(run->after);
    return op == OP_BEGIN  ? run->before == UINT32_MAX
           : op == OP_END  ? run->after == UINT32_MAX
           : op == OP_EDGE ? edge
                           : !edge;
}

/* Adds the threads that instruction @p first leads to without a character. */
static uint32_t follow(struct run *run, struct threads *to, uint32_t first)
{
    uint32_t steps = 0;
    uint32_t depth = 0;
    run->stack[depth++] = first;
    while (depth > 0) {
        uint32_t at = run->stack[--depth];
        const struct step *step = &run->regex->code[at];
        if (run->seen[at] == run->pass) {
            continue;
        }
        run->seen[at] = run->pass;
        steps++;
        switch ((enum op)step->op) {
        case OP_SPLIT:
            run->stack[depth++] = (uint32_t)((int32_t)at + step->y);
            run->stack[depth++] = (uint32_t)((int32_t)at + step->x);
            break;
        case OP_JUMP:
            run->stack[depth++] = (uint32_t)((int32_t)at + step->x);
            break;
        case OP_BEGIN:
        case OP_END:
        case OP_EDGE:
        case OP_NO_EDGE:
            if (assertion_holds(run, step->op)) {
                run->stack[depth++] = at + 1;
            }
            break;
        case OP_MATCH:
            run->matched = true;
            break;
        case OP_CHAR:
        case OP_SET:
        case OP_NOT_SET:
            to->items[to->count++] = at;
            break;
        }
    }
    return steps;
}

static bool takes(const struct mr_regex *regex, const struct step *step, uint32_t character)
{
    if (step->op == OP_CHAR) {
        return (uint32_t)step->x == character;
    }
    for (int32_t i = step->x; i < step->x + step->y; i++) {
        if (character >= regex->ranges[i].low && character <= regex->ranges[i].high) {
            return step->op == OP_SET;
        }
    }
    return step->op == OP_NOT_SET;
}

bool mr_regex_search(const struct mr_regex *regex, struct mr_bytes text, uint32_t *scratch,
                     uint64_t *steps)
{
    uint32_t count = regex->code_count;
    struct run run = {
        .regex = regex,
        .now = {scratch, 0},
        .next = {scratch + count, 0},
        .seen = scratch + 2 * (size_t)count,
        .stack = scratch + 3 * (size_t)count,
        .before = UINT32_MAX,
    };
    memset(run.seen, 0, count * sizeof(*run.seen));
    bool anchored = regex->code[0].op == OP_BEGIN;
    size_t at = 0;
    for (bool first = true;; first = false) {
        /* 1. The character after this place, and the threads that begin here. */
        size_t behind = at;
        run.after = at < text.size ? next_character(text, &behind) : UINT32_MAX;
        run.pass++;
        uint64_t cost = 1;
        struct threads *now = &run.now;
        uint32_t arrived = now->count;
        now->count = 0;
        /* 2. Threads that came over the last character wait as the places they go on at. */
        for (uint32_t i = 0; i < arrived; i++) {
            cost += follow(&run, &run.next, now->items[i]);
        }
        if (first || !anchored) {
            cost += follow(&run, &run.next, 0);
        }
        if (run.matched) {
            return true;
        }
        if (run.after == UINT32_MAX || (anchored && run.next.count == 0)) {
            return false;
        }
        /* 3. Over the character. */
        for (uint32_t i = 0; i < run.next.count; i++) {
            const struct step *step = &regex->code[run.next.items[i]];
            cost += 1 + (step->op == OP_CHAR ? 0 : (uint32_t)step->y);
            if (takes(regex, step, run.after)) {
                now->items[now->count++] = run.next.items[i] + 1;
            }
        }
        run.next.count = 0;
        if (cost >= *steps) {
            *steps = 0;
            return false;
        }
        *steps -= cost;
        run.before = run.after;
        at = behind;
    }
}
