/* The functions of CESQL, its casts, and LIKE. Characters are Unicode characters; a byte that is no
 * UTF-8 counts as one. */
#include "core/alloc.h"
#include "core/assert.h"
#include "router/sql.h"

/* --- text ------------------------------------------------------------------------------------ */

/* The size of the character at the beginning of @p text, which is not empty. */
static size_t char_size(struct mr_bytes text)
{
    uint8_t b = text.data[0];
    size_t size = b < 0xC0 ? 1 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4;
    if (size > text.size) {
        return 1;
    }
    for (size_t i = 1; i < size; i++) {
        if ((text.data[i] & 0xC0) != 0x80) {
            return 1;
        }
    }
    return size;
}

static uint32_t char_code(struct mr_bytes text, size_t size)
{
    static const uint8_t masks[] = {0, 0xFF, 0x1F, 0x0F, 0x07};
    uint32_t code = text.data[0] & masks[size];
    for (size_t i = 1; i < size; i++) {
        code = code << 6 | (text.data[i] & 0x3Fu);
    }
    return code;
}

static struct mr_bytes skip(struct mr_bytes text, size_t size)
{
    return mr_bytes(text.data + size, text.size - size);
}

static uint32_t count_chars(struct mr_bytes text)
{
    uint32_t count = 0;
    while (text.size > 0) {
        text = skip(text, char_size(text));
        count++;
    }
    return count;
}

/* The bytes that the first @p count characters take. */
static size_t size_of_chars(struct mr_bytes text, uint32_t count)
{
    struct mr_bytes rest = text;
    for (; count > 0 && rest.size > 0; count--) {
        rest = skip(rest, char_size(rest));
    }
    return text.size - rest.size;
}

static uint8_t *take_room(struct mr__sql_arena *arena, size_t size)
{
    if (size <= sizeof(arena->near) - arena->used) {
        uint8_t *room = arena->near + arena->used;
        arena->used += (uint32_t)size;
        return room;
    }
    if (arena->heap == NULL) {
        arena->heap = mr_alloc(MR_SQL_TEXT_MAX);
    }
    if (arena->heap == NULL || size > MR_SQL_TEXT_MAX - arena->heap_used) {
        return NULL;
    }
    uint8_t *room = arena->heap + arena->heap_used;
    arena->heap_used += (uint32_t)size;
    return room;
}

/* --- LIKE ------------------------------------------------------------------------------------ */

bool mr__sql_like(struct mr_bytes text, struct mr_bytes pattern)
{
    /* Greedy: only the last `%` is ever tried again, so the cost is at most their product. */
    struct mr_bytes again_text = {0};
    struct mr_bytes again_pattern = {0};
    bool may_retry = false;
    for (;;) {
        if (pattern.size > 0 && pattern.data[0] == MR__SQL_MANY) {
            pattern = skip(pattern, 1);
            if (pattern.size == 0) {
                return true;
            }
            again_text = text;
            again_pattern = pattern;
            may_retry = true;
        } else if (pattern.size > 0 && text.size > 0 && pattern.data[0] == MR__SQL_ONE) {
            pattern = skip(pattern, 1);
            text = skip(text, char_size(text));
        } else if (pattern.size > 0 && text.size > 0 && pattern.data[0] == text.data[0]) {
            pattern = skip(pattern, 1);
            text = skip(text, 1);
        } else if (pattern.size == 0 && text.size == 0) {
            return true;
        } else if (may_retry && again_text.size > 0) {
            again_text = skip(again_text, char_size(again_text));
            text = again_text;
            pattern = again_pattern;
        } else {
            return false;
        }
    }
}

/* --- casts ----------------------------------------------------------------------------------- */

static bool parse_integer(struct mr_bytes text, int32_t *ret_value)
{
    bool is_signed = text.size > 0 && (text.data[0] == '-' || text.data[0] == '+');
    bool negative = is_signed && text.data[0] == '-';
    int64_t value = 0;
    if (text.size == (size_t)is_signed) {
        return false;
    }
    for (size_t i = is_signed; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        value = value * 10 + (text.data[i] - '0');
        if (value > INT32_MAX + (int64_t)negative) {
            return false;
        }
    }
    *ret_value = (int32_t)(negative ? -value : value);
    return true;
}

static enum mr__sql_error print_integer(int32_t value, struct mr__sql_arena *arena,
                                        struct mr_bytes *ret_text)
{
    uint8_t digits[12];
    size_t at = sizeof(digits);
    uint32_t rest = value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
    do {
        digits[--at] = (uint8_t)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (value < 0) {
        digits[--at] = '-';
    }
    uint8_t *to = take_room(arena, sizeof(digits) - at);
    if (to == NULL) {
        return MR__SQL_GENERIC;
    }
    memcpy(to, digits + at, sizeof(digits) - at);
    *ret_text = mr_bytes(to, sizeof(digits) - at);
    return MR__SQL_OK;
}

enum mr__sql_error mr__sql_cast(struct mr__sql_value *value, enum mr__sql_type type,
                                struct mr__sql_arena *arena)
{
    enum mr__sql_error error = MR__SQL_OK;
    if (value->type == type) {
        return error;
    }
    if (type == MR__SQL_STRING && value->type == MR__SQL_BOOLEAN) {
        value->text =
            value->integer != 0 ? MR_BYTES_LITERAL("true") : MR_BYTES_LITERAL("false");
    } else if (type == MR__SQL_STRING) {
        value->text = mr_bytes(NULL, 0);
        error = print_integer(value->integer, arena, &value->text);
    } else if (value->type != MR__SQL_STRING) {
        value->integer = type == MR__SQL_BOOLEAN ? value->integer != 0 : value->integer;
    } else if (type == MR__SQL_INTEGER) {
        value->integer = 0;
        error = parse_integer(value->text, &value->integer) ? MR__SQL_OK : MR__SQL_CAST;
    } else {
        value->integer = mr_bytes_equal_nocase(value->text, MR_BYTES_LITERAL("true"));
        error = value->integer != 0 ||
                        mr_bytes_equal_nocase(value->text, MR_BYTES_LITERAL("false"))
                    ? MR__SQL_OK
                    : MR__SQL_CAST;
    }
    value->type = type;
    return error;
}

/* --- upper and lower case -------------------------------------------------------------------- */

/* Simple case mapping (Unicode's UnicodeData.txt) of Latin, Greek, Cyrillic and Armenian, by
 * ranges: `step` 1 maps every character by `delta`, 2 maps pairs that stand side by side. */
static const struct {
    uint16_t first; /* of the capitals */
    uint16_t last;
    int16_t delta; /* to the small letter */
    uint16_t step;
} case_ranges[] = {
    {0x41, 0x5A, 32, 1},    {0xC0, 0xD6, 32, 1},     {0xD8, 0xDE, 32, 1},
    {0x100, 0x12E, 1, 2},   {0x132, 0x136, 1, 2},    {0x139, 0x147, 1, 2},
    {0x14A, 0x176, 1, 2},   {0x178, 0x178, -121, 1}, {0x179, 0x17D, 1, 2},
    {0x386, 0x386, 38, 1},  {0x388, 0x38A, 37, 1},   {0x38C, 0x38C, 64, 1},
    {0x38E, 0x38F, 63, 1},  {0x391, 0x3A1, 32, 1},   {0x3A3, 0x3AB, 32, 1},
    {0x400, 0x40F, 80, 1},  {0x410, 0x42F, 32, 1},   {0x460, 0x480, 1, 2},
    {0x48A, 0x4BE, 1, 2},   {0x4C1, 0x4CD, 1, 2},    {0x4D0, 0x52E, 1, 2},
    {0x531, 0x556, 48, 1},  {0x1E00, 0x1E94, 1, 2},  {0x1EA0, 0x1EFE, 1, 2},
};

static uint32_t map_case(uint32_t code, bool upper)
{
    for (size_t i = 0; i < MR_ARRAY_COUNT(case_ranges); i++) {
        int64_t delta = upper ? case_ranges[i].delta : 0;
        int64_t capital = (int64_t)code - delta;
        if (capital >= case_ranges[i].first && capital <= case_ranges[i].last &&
            (capital - case_ranges[i].first) % case_ranges[i].step == 0) {
            return (uint32_t)(upper ? capital : capital + case_ranges[i].delta);
        }
    }
    return code;
}

static enum mr__sql_error change_case(struct mr_bytes text, bool upper,
                                      struct mr__sql_arena *arena, struct mr_bytes *ret_text)
{
    /* A mapped character is as long as it was: the ranges never cross a border of UTF-8. */
    uint8_t *to = take_room(arena, text.size);
    if (to == NULL) {
        return MR__SQL_GENERIC;
    }
    *ret_text = mr_bytes(to, text.size);
    while (text.size > 0) {
        size_t size = char_size(text);
        uint32_t code = text.data[0] < 0x80 || size > 1 ? char_code(text, size) : 0;
        uint32_t mapped = map_case(code, upper);
        if (code == 0 || mapped == code) {
            memcpy(to, text.data, size);
        } else if (size == 1) {
            to[0] = (uint8_t)mapped;
        } else {
            for (size_t i = size - 1; i > 0; i--) {
                to[i] = (uint8_t)(0x80u | (mapped & 0x3Fu));
                mapped >>= 6;
            }
            to[0] = (uint8_t)((0xF00u >> size) | mapped);
        }
        to += size;
        text = skip(text, size);
    }
    return MR__SQL_OK;
}

/* --- trimming -------------------------------------------------------------------------------- */

/* Unicode's White_Space. */
static bool is_space(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

static bool is_space_at(struct mr_bytes text, size_t size)
{
    return (size > 1 || text.data[0] < 0x80) && is_space(char_code(text, size));
}

static struct mr_bytes trim(struct mr_bytes text)
{
    while (text.size > 0 && is_space_at(text, char_size(text))) {
        text = skip(text, char_size(text));
    }
    struct mr_bytes rest = text;
    size_t kept = 0;
    while (rest.size > 0) {
        size_t size = char_size(rest);
        bool space = is_space_at(rest, size);
        rest = skip(rest, size);
        kept = space ? kept : text.size - rest.size;
    }
    return mr_bytes(text.data, kept);
}

/* --- functions ------------------------------------------------------------------------------- */

enum function {
    FUNCTION_LENGTH = 0,
    FUNCTION_CONCAT,
    FUNCTION_CONCAT_WS,
    FUNCTION_LOWER,
    FUNCTION_UPPER,
    FUNCTION_TRIM,
    FUNCTION_LEFT,
    FUNCTION_RIGHT,
    FUNCTION_SUBSTRING,
    FUNCTION_SUBSTRING_LENGTH,
    FUNCTION_ABS,
    FUNCTION_INT,
    FUNCTION_STRING,
    FUNCTION_BOOL,
};

/* Parameters: s string, i integer, a any; `*`: the one before it any number of times. */
static const struct {
    const char *name;
    const char *parameters;
    enum mr__sql_type type;
} functions[] = {
    [FUNCTION_LENGTH] = {"length", "s", MR__SQL_INTEGER},
    [FUNCTION_CONCAT] = {"concat", "s*", MR__SQL_STRING},
    [FUNCTION_CONCAT_WS] = {"concat_ws", "ss*", MR__SQL_STRING},
    [FUNCTION_LOWER] = {"lower", "s", MR__SQL_STRING},
    [FUNCTION_UPPER] = {"upper", "s", MR__SQL_STRING},
    [FUNCTION_TRIM] = {"trim", "s", MR__SQL_STRING},
    [FUNCTION_LEFT] = {"left", "si", MR__SQL_STRING},
    [FUNCTION_RIGHT] = {"right", "si", MR__SQL_STRING},
    [FUNCTION_SUBSTRING] = {"substring", "si", MR__SQL_STRING},
    [FUNCTION_SUBSTRING_LENGTH] = {"substring", "sii", MR__SQL_STRING},
    [FUNCTION_ABS] = {"abs", "i", MR__SQL_INTEGER},
    [FUNCTION_INT] = {"int", "a", MR__SQL_INTEGER},
    [FUNCTION_STRING] = {"string", "a", MR__SQL_STRING},
    [FUNCTION_BOOL] = {"bool", "a", MR__SQL_BOOLEAN},
};

uint8_t mr__sql_function_find(struct mr_bytes name, uint32_t arguments)
{
    for (uint8_t i = 0; i < MR_ARRAY_COUNT(functions); i++) {
        size_t count = strlen(functions[i].parameters);
        bool variadic = functions[i].parameters[count - 1] == '*';
        bool fits = variadic ? arguments + 2 >= count : arguments == count;
        if (fits && mr_bytes_equal_nocase(name, mr_bytes_of(functions[i].name))) {
            return i;
        }
    }
    return MR__SQL_FUNCTION_NONE;
}

enum mr__sql_type mr__sql_function_type(uint8_t function)
{
    MR_ASSERT(function < MR_ARRAY_COUNT(functions));
    return functions[function].type;
}

static enum mr__sql_error cast_arguments(uint8_t function, struct mr__sql_value *arguments,
                                         uint32_t count, struct mr__sql_arena *arena)
{
    const char *parameter = functions[function].parameters;
    enum mr__sql_error error = MR__SQL_OK;
    for (uint32_t i = 0; i < count && error == MR__SQL_OK; i++) {
        if (*parameter != 'a') {
            error = mr__sql_cast(&arguments[i],
                                 *parameter == 'i' ? MR__SQL_INTEGER : MR__SQL_STRING, arena);
        }
        parameter += parameter[1] != '*';
    }
    return error;
}

static enum mr__sql_error join(const struct mr__sql_value *parts, uint32_t count,
                               struct mr_bytes between, struct mr__sql_arena *arena,
                               struct mr_bytes *ret_text)
{
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        size += parts[i].text.size + (i > 0 ? between.size : 0);
    }
    uint8_t *to = take_room(arena, size);
    if (to == NULL) {
        return MR__SQL_GENERIC;
    }
    *ret_text = mr_bytes(to, size);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0 && between.size > 0) {
            memcpy(to, between.data, between.size);
            to += between.size;
        }
        if (parts[i].text.size > 0) {
            memcpy(to, parts[i].text.data, parts[i].text.size);
            to += parts[i].text.size;
        }
    }
    return MR__SQL_OK;
}

/* LEFT and RIGHT: a negative number is an error, and then the whole text is the value. */
static enum mr__sql_error take_side(struct mr_bytes text, int32_t wanted, bool right,
                                    struct mr_bytes *ret_text)
{
    uint32_t count = right ? count_chars(text) : 0;
    *ret_text = text;
    if (wanted < 0) {
        return MR__SQL_FUNCTION_EVALUATION;
    }
    if (!right) {
        ret_text->size = size_of_chars(text, (uint32_t)wanted);
    } else if ((uint32_t)wanted < count) {
        *ret_text = skip(text, size_of_chars(text, count - (uint32_t)wanted));
    }
    return MR__SQL_OK;
}

static enum mr__sql_error substring(struct mr_bytes text, int64_t position, int64_t length,
                                    struct mr_bytes *ret_text)
{
    int64_t count = count_chars(text);
    *ret_text = mr_bytes(text.data, 0);
    if (position > count || position < -count || length < 0) {
        return MR__SQL_FUNCTION_EVALUATION;
    }
    if (position == 0) {
        return MR__SQL_OK;
    }
    int64_t first = position > 0 ? position - 1 : count + position;
    int64_t rest = count - first;
    text = skip(text, size_of_chars(text, (uint32_t)first));
    *ret_text =
        mr_bytes(text.data, size_of_chars(text, (uint32_t)(length < rest ? length : rest)));
    return MR__SQL_OK;
}

enum mr__sql_error mr__sql_call(uint8_t function, struct mr__sql_value *arguments, uint32_t count,
                                struct mr__sql_arena *arena, struct mr__sql_value *ret_value)
{
    struct mr__sql_value *first = arguments;
    *ret_value = (struct mr__sql_value){.type = functions[function].type};
    enum mr__sql_error error = cast_arguments(function, arguments, count, arena);
    if (error != MR__SQL_OK) {
        return error;
    }
    switch ((enum function)function) {
    case FUNCTION_LENGTH:
        ret_value->integer = (int32_t)count_chars(first->text);
        break;
    case FUNCTION_CONCAT:
        return join(arguments, count, mr_bytes(NULL, 0), arena, &ret_value->text);
    case FUNCTION_CONCAT_WS:
        return join(arguments + 1, count - 1, first->text, arena, &ret_value->text);
    case FUNCTION_LOWER:
    case FUNCTION_UPPER:
        return change_case(first->text, function == FUNCTION_UPPER, arena, &ret_value->text);
    case FUNCTION_TRIM:
        ret_value->text = trim(first->text);
        break;
    case FUNCTION_LEFT:
    case FUNCTION_RIGHT:
        return take_side(first->text, arguments[1].integer, function == FUNCTION_RIGHT,
                         &ret_value->text);
    case FUNCTION_SUBSTRING:
        return substring(first->text, arguments[1].integer, INT64_MAX, &ret_value->text);
    case FUNCTION_SUBSTRING_LENGTH:
        return substring(first->text, arguments[1].integer, arguments[2].integer,
                         &ret_value->text);
    case FUNCTION_ABS:
        if (first->integer == INT32_MIN) {
            ret_value->integer = INT32_MAX;
            return MR__SQL_MATH;
        }
        ret_value->integer = first->integer < 0 ? -first->integer : first->integer;
        break;
    case FUNCTION_INT:
    case FUNCTION_STRING:
    case FUNCTION_BOOL:
        *ret_value = *first;
        return mr__sql_cast(ret_value, functions[function].type, arena);
    }
    return MR__SQL_OK;
}
