#include "config/option_value.h"

#include <inttypes.h>

#include "config/loader.h"
#include "core/alloc.h"
#include "core/assert.h"

typedef enum mr_status (*set_fn)(const struct mr_option *row, void *field, struct mr_bytes text,
                                 const char *folder, struct mr_problem *problem);

static int shown(struct mr_bytes text)
{
    return (int)(text.size < MR_VALUE_SHOWN_MAX ? text.size : MR_VALUE_SHOWN_MAX);
}

static bool is_in_range(const struct mr_option *row, int64_t value)
{
    return (row->min == 0 && row->max == 0) ||
           (value >= row->min && (row->max == 0 || value <= row->max));
}

/* "from 1s to 1h", "at least 1MiB": the bounds as a user would write them. */
static enum mr_status refuse_range(const struct mr_option *row, struct mr_bytes text,
                                   struct mr_problem *problem)
{
    char low[48];
    char high[48];
    mr__option_bound(row, row->min, low);
    mr__option_bound(row, row->max, high);
    if (row->max == 0) {
        return mr_problem_set(problem, MR_E_INVALID, "`%.*s` is too small: at least %s",
                              shown(text), (const char *)text.data, low);
    }
    return mr_problem_set(problem, MR_E_INVALID, "`%.*s` is out of range: from %s to %s",
                          shown(text), (const char *)text.data, low, high);
}

static enum mr_status set_string(const struct mr_option *row, void *field, struct mr_bytes text,
                                 const char *folder, struct mr_problem *problem)
{
    (void)row;
    (void)folder;
    (void)problem;
    char **to = field;
    *to = mr_strndup((const char *)text.data, text.size);
    return *to == NULL ? MR_E_NOMEM : MR_OK;
}

static enum mr_status set_path(const struct mr_option *row, void *field, struct mr_bytes text,
                               const char *folder, struct mr_problem *problem)
{
    char **to = field;
    if (text.size == 0) {
        return mr_problem_set(problem, MR_E_INVALID, "a path is empty");
    }
    if (folder == NULL) {
        return set_string(row, field, text, folder, problem);
    }
    *to = mr__path_absolute(folder, (const char *)text.data);
    return *to == NULL ? MR_E_NOMEM : MR_OK;
}

static enum mr_status set_secret(const struct mr_option *row, void *field, struct mr_bytes text,
                                 const char *folder, struct mr_problem *problem)
{
    (void)row;
    (void)folder;
    (void)problem;
    struct mr_secret **to = field;
    *to = mr_secret_create(text);
    return *to == NULL ? MR_E_NOMEM : MR_OK;
}

static enum mr_status set_url(const struct mr_option *row, void *field, struct mr_bytes text,
                              const char *folder, struct mr_problem *problem)
{
    (void)row;
    (void)folder;
    return mr_parse_url(text, field, problem);
}

static enum mr_status set_bool(const struct mr_option *row, void *field, struct mr_bytes text,
                               const char *folder, struct mr_problem *problem)
{
    (void)row;
    (void)folder;
    bool *to = field;
    if (mr_bytes_equal(text, MR_BYTES_LITERAL("true"))) {
        *to = true;
    } else if (mr_bytes_equal(text, MR_BYTES_LITERAL("false"))) {
        *to = false;
    } else {
        return mr_problem_set(problem, MR_E_INVALID, "`%.*s` is neither true nor false",
                              shown(text), (const char *)text.data);
    }
    return MR_OK;
}

static enum mr_status set_int(const struct mr_option *row, void *field, struct mr_bytes text,
                              const char *folder, struct mr_problem *problem)
{
    (void)folder;
    int64_t *to = field;
    bool negative = text.size > 0 && text.data[0] == '-';
    struct mr_bytes digits = negative ? mr_bytes(text.data + 1, text.size - 1) : text;
    uint64_t value = 0;
    /* 010 would be eight to some readers and ten to others. */
    bool leading_zero = digits.size > 1 && digits.data[0] == '0';
    if (leading_zero || !mr_parse_u64(digits, &value)) {
        return mr_problem_set(problem, MR_E_INVALID, "`%.*s` is no whole number", shown(text),
                              (const char *)text.data);
    }
    int64_t number = (int64_t)value;
    if (value > INT64_MAX || !is_in_range(row, negative ? -number : number)) {
        return refuse_range(row, text, problem);
    }
    *to = negative ? -number : number;
    return MR_OK;
}

static bool is_digits(struct mr_bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
    }
    return text.size > 0;
}

static enum mr_status set_size(const struct mr_option *row, void *field, struct mr_bytes text,
                               const char *folder, struct mr_problem *problem)
{
    (void)folder;
    uint64_t *to = field;
    uint64_t value;
    if (!mr_parse_size((const char *)text.data, &value)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "`%.*s` is no size: write 512, 64KiB, 1MiB or 2GiB (decimal: kB, MB, "
                              "GB)",
                              shown(text), (const char *)text.data);
    }
    if (!is_in_range(row, (int64_t)value)) {
        return refuse_range(row, text, problem);
    }
    *to = value;
    return MR_OK;
}

static enum mr_status set_duration(const struct mr_option *row, void *field, struct mr_bytes text,
                                   const char *folder, struct mr_problem *problem)
{
    (void)folder;
    uint64_t *to = field;
    uint64_t value;
    if (!mr_parse_duration((const char *)text.data, &value)) {
        if (is_digits(text) && text.size <= 9) {
            return mr_problem_set(problem, MR_E_INVALID, "`%.*s` has no unit; write %.*ss",
                                  shown(text), (const char *)text.data, shown(text),
                                  (const char *)text.data);
        }
        return mr_problem_set(problem, MR_E_INVALID,
                              "`%.*s` is no duration: write 200ms, 30s, 1m30s, 6h or 7d",
                              shown(text), (const char *)text.data);
    }
    if (!is_in_range(row, (int64_t)value)) {
        return refuse_range(row, text, problem);
    }
    *to = value;
    return MR_OK;
}

static enum mr_status set_rate(const struct mr_option *row, void *field, struct mr_bytes text,
                               const char *folder, struct mr_problem *problem)
{
    (void)row;
    (void)folder;
    if (!mr_parse_rate((const char *)text.data, field)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "`%.*s` is no rate: write 100/s, 5/m or 1000/h", shown(text),
                              (const char *)text.data);
    }
    return MR_OK;
}

static enum mr_status set_enum(const struct mr_option *row, void *field, struct mr_bytes text,
                               const char *folder, struct mr_problem *problem)
{
    (void)folder;
    int *to = field;
    int count = 0;
    for (; row->words[count] != NULL; count++) {
        if (mr_bytes_equal(text, mr_bytes_of(row->words[count]))) {
            *to = count;
            return MR_OK;
        }
    }
    char list[256];
    mr__words_join(row->words, (uint32_t)count, list, sizeof(list));
    return mr_problem_set(problem, MR_E_INVALID, "`%.*s` is not one of %s", shown(text),
                          (const char *)text.data, list);
}

static const set_fn setters[MR_OPTION_TYPE_MAX] = {
    [MR_OPTION_STRING] = set_string, [MR_OPTION_SECRET] = set_secret,
    [MR_OPTION_URL] = set_url,       [MR_OPTION_PATH] = set_path,
    [MR_OPTION_BOOL] = set_bool,     [MR_OPTION_INT] = set_int,
    [MR_OPTION_SIZE] = set_size,     [MR_OPTION_DURATION] = set_duration,
    [MR_OPTION_RATE] = set_rate,     [MR_OPTION_ENUM] = set_enum,
};

enum mr_status mr__option_set(const struct mr_option *row, void *field, const char *text,
                              const char *folder, struct mr_problem *problem)
{
    MR_ASSERT(setters[row->type] != NULL);
    return setters[row->type](row, field, mr_bytes_of(text), folder, problem);
}

void mr__option_bound(const struct mr_option *row, int64_t value, char text[48])
{
    struct mr_buf buf;
    mr_buf_init(&buf, 47);
    enum mr_status r = MR_OK;
    if (row->type == MR_OPTION_DURATION) {
        r = mr_format_duration((uint64_t)value, &buf);
    } else if (row->type == MR_OPTION_SIZE) {
        r = mr__format_size((uint64_t)value, &buf);
    } else {
        r = mr_buf_printf(&buf, "%" PRId64, value);
    }
    /* Only an ornament of a message: when memory is short it stays away. */
    size_t size = r == MR_OK ? buf.size : 0;
    if (size > 0) {
        memcpy(text, buf.data, size);
    }
    text[size] = '\0';
    mr_buf_release(&buf);
}

enum mr_status mr__format_size(uint64_t bytes, struct mr_buf *out)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (bytes >= 1024 && bytes % 1024 == 0 && unit + 1 < MR_ARRAY_COUNT(units)) {
        bytes /= 1024;
        unit++;
    }
    return mr_buf_printf(out, "%" PRIu64 "%s", bytes, units[unit]);
}

void mr__words_join(const char *const *words, uint32_t count, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < count; i++) {
        size_t n = strlen(words[i]) + (i > 0 ? 2 : 0);
        if (used + n + 5 >= size) {
            memcpy(text + used, ", …", sizeof(", …"));
            return;
        }
        if (i > 0) {
            memcpy(text + used, ", ", 2);
            used += 2;
            n -= 2;
        }
        memcpy(text + used, words[i], n + 1);
        used += n;
    }
}

enum mr_status mr__strings_add(struct mr_strings *strings, const char *text)
{
    /* Grows by doubling: the room is the count rounded up to a power of two, at least four. */
    uint32_t count = strings->count;
    if (count == 0 || (count >= 4 && (count & (count - 1)) == 0)) {
        size_t room = count == 0 ? 4 : (size_t)count * 2;
        char **items = mr_realloc(strings->items, room * sizeof(*items));
        if (items == NULL) {
            return MR_E_NOMEM;
        }
        strings->items = items;
    }
    char *copy = mr_strdup(text);
    if (copy == NULL) {
        if (count == 0) {
            mr_free(strings->items);
            strings->items = NULL;
        }
        return MR_E_NOMEM;
    }
    strings->items[strings->count++] = copy;
    return MR_OK;
}

void mr__strings_release(struct mr_strings *strings)
{
    for (uint32_t i = 0; i < strings->count; i++) {
        mr__wipe_free(strings->items[i]); /* may have held a reference */
    }
    mr_free(strings->items);
    *strings = (struct mr_strings){0};
}
