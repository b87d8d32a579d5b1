/* Owns the text forms of single values: durations, sizes, rates, and the search for the word a
 * user most likely meant. Pure functions; any thread. */
#include "config/option.h"

#include <inttypes.h>

#include "core/limits.h"

struct unit {
    const char *name;
    uint64_t factor;
};

/* From the longest down: a duration names its units in this order, each at most once. */
static const struct unit duration_units[] = {
    {"d", 86400000000000ull}, {"h", 3600000000000ull}, {"m", 60000000000ull}, {"s", 1000000000ull},
    {"ms", 1000000ull},       {"us", 1000ull},         {"ns", 1ull},
};

static const struct unit size_units[] = {
    {"B", 1ull},
    {"KiB", 1ull << 10},
    {"MiB", 1ull << 20},
    {"GiB", 1ull << 30},
    {"TiB", 1ull << 40},
    {"kB", 1000ull},
    {"MB", 1000000ull},
    {"GB", 1000000000ull},
    {"TB", 1000000000000ull},
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Digits from *text on, at least one; *text moves behind them. */
static bool read_digits(const char **text, uint64_t *ret_value)
{
    const char *p = *text;
    uint64_t value = 0;
    for (; is_digit(*p); p++) {
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value)) {
            return false;
        }
    }
    if (p == *text) {
        return false;
    }
    *text = p;
    *ret_value = value;
    return true;
}

/* The longest unit name at the head of @p text, so that "ms" is not taken for "m". */
static bool find_unit(const char *text, const struct unit *units, size_t count, size_t *ret_index)
{
    size_t best = 0;
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(units[i].name);
        if (n > best && strncmp(text, units[i].name, n) == 0) {
            best = n;
            *ret_index = i;
        }
    }
    return best > 0;
}

bool mr_parse_duration(const char *text, uint64_t *ret_ns)
{
    if (strcmp(text, "0") == 0) {
        *ret_ns = 0;
        return true;
    }
    uint64_t total = 0;
    size_t next = 0; /* units before this one are used up */
    const char *p = text;
    do {
        uint64_t value;
        size_t unit = 0;
        if (!read_digits(&p, &value) ||
            !find_unit(p, duration_units, MR_ARRAY_COUNT(duration_units), &unit) || unit < next) {
            return false;
        }
        if (__builtin_mul_overflow(value, duration_units[unit].factor, &value) ||
            __builtin_add_overflow(total, value, &total) || total > INT64_MAX) {
            return false;
        }
        p += strlen(duration_units[unit].name);
        next = unit + 1;
    } while (*p != '\0');
    *ret_ns = total;
    return true;
}

bool mr_parse_size(const char *text, uint64_t *ret_bytes)
{
    const char *p = text;
    uint64_t value;
    if (!read_digits(&p, &value)) {
        return false;
    }
    if (*p != '\0') {
        size_t unit;
        if (!find_unit(p, size_units, MR_ARRAY_COUNT(size_units), &unit) ||
            strcmp(p, size_units[unit].name) != 0 ||
            __builtin_mul_overflow(value, size_units[unit].factor, &value)) {
            return false;
        }
    }
    if (value > INT64_MAX) {
        return false;
    }
    *ret_bytes = value;
    return true;
}

bool mr_parse_rate(const char *text, struct mr_rate *ret_rate)
{
    static const struct unit per[] = {
        {"/s", 1000000000ull}, {"/m", 60000000000ull}, {"/h", 3600000000000ull}};
    const char *p = text;
    uint64_t count;
    if (!read_digits(&p, &count) || count == 0) {
        return false;
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(per); i++) {
        if (strcmp(p, per[i].name) == 0) {
            *ret_rate = (struct mr_rate){.count = count, .per_ns = per[i].factor};
            return true;
        }
    }
    return false;
}

enum mr_status mr_format_duration(uint64_t ns, struct mr_buf *out)
{
    if (ns == 0) {
        return mr_buf_append_byte(out, '0');
    }
    enum mr_status r = MR_OK;
    for (size_t i = 0; i < MR_ARRAY_COUNT(duration_units) && ns > 0 && r == MR_OK; i++) {
        uint64_t count = ns / duration_units[i].factor;
        ns %= duration_units[i].factor;
        if (count > 0) {
            r = mr_buf_printf(out, "%" PRIu64 "%s", count, duration_units[i].name);
        }
    }
    return r;
}

/* Edits that turn a into b, a swap of neighbours counted as one (the commonest slip of typing). */
static size_t edit_distance(const char *a, size_t a_size, const char *b, size_t b_size)
{
    size_t rows[3][MR_NAME_SIZE_MAX + 1];
    size_t *before = rows[0];
    size_t *above = rows[1];
    size_t *row = rows[2];
    memset(rows, 0, sizeof(rows));
    for (size_t j = 0; j <= b_size; j++) {
        above[j] = j;
    }
    for (size_t i = 1; i <= a_size; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            size_t best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best) {
                best = above[j] + 1;
            }
            if (row[j - 1] + 1 < best) {
                best = row[j - 1] + 1;
            }
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < best) {
                best = before[j - 2] + 1;
            }
            row[j] = best;
        }
        size_t *spare = before;
        before = above;
        above = row;
        row = spare;
    }
    return above[b_size];
}

const char *mr_nearest_word(const char *word, const char *const *words, uint32_t count)
{
    size_t size = strlen(word);
    if (size > MR_NAME_SIZE_MAX) {
        return NULL;
    }
    const char *nearest = NULL;
    size_t nearest_distance = 4;
    for (uint32_t i = 0; i < count; i++) {
        size_t other = strlen(words[i]);
        if (other > MR_NAME_SIZE_MAX || (other > size ? other - size : size - other) > 3) {
            continue;
        }
        size_t distance = edit_distance(word, size, words[i], other);
        if (distance < nearest_distance && distance * 2 < size) {
            nearest = words[i];
            nearest_distance = distance;
        }
    }
    return nearest;
}
