#include "connectors/timer/cron.h"

#include <string.h>
#include <strings.h>

#include "core/clock.h"

#define MINUTE_S 60
#define DAY_S 86400
#define YEARS_MAX 9 /* 29 February may stay away for eight: 2096 to 2104 */
#define TEXT_SIZE_MAX 256u

struct field {
    const char *name;
    unsigned min;
    unsigned max;
    const char *const *words; /* names of min, min + 1, …; NULL: none */
    unsigned word_count;
};

static const char *const month_words[] = {"jan", "feb", "mar", "apr", "may", "jun",
                                          "jul", "aug", "sep", "oct", "nov", "dec"};
static const char *const weekday_words[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

static const struct field fields[] = {
    {"minute", 0, 59, NULL, 0},
    {"hour", 0, 23, NULL, 0},
    {"day of month", 1, 31, NULL, 0},
    {"month", 1, 12, month_words, 12},
    {"day of week", 0, 7, weekday_words, 7},
};
#define FIELD_COUNT (sizeof(fields) / sizeof(fields[0]))

static const struct {
    const char *name;
    const char *text;
} nicknames[] = {
    {"@hourly", "0 * * * *"},  {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
    {"@weekly", "0 0 * * 0"},  {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
    {"@annually", "0 0 1 1 *"},
};

static bool read_value(const struct field *field, const char **at, const char *end,
                       unsigned *ret_value)
{
    for (unsigned i = 0; i < field->word_count; i++) {
        size_t size = strlen(field->words[i]);
        if ((size_t)(end - *at) >= size && strncasecmp(*at, field->words[i], size) == 0) {
            *at += size;
            *ret_value = field->min + i;
            return true;
        }
    }
    unsigned value = 0;
    const char *start = *at;
    while (*at < end && **at >= '0' && **at <= '9' && *at - start < 3) {
        value = value * 10 + (unsigned)(**at - '0');
        (*at)++;
    }
    *ret_value = value;
    return *at > start && value >= field->min && value <= field->max;
}

/* One element of a list: *, a, a-b, each with /n. */
static bool read_element(const struct field *field, const char *at, const char *end,
                         uint64_t *bits)
{
    unsigned low = field->min;
    unsigned high = field->max;
    unsigned step = 1;
    if (at < end && (*at == '*' || *at == '?')) {
        at++;
        high = field->max == 7 ? 6 : field->max; /* Sunday once */
    } else {
        if (!read_value(field, &at, end, &low)) {
            return false;
        }
        high = low;
        if (at < end && *at == '-') {
            at++;
            if (!read_value(field, &at, end, &high)) {
                return false;
            }
            if (field->max == 7 && high == 0 && low > 0) {
                high = 7; /* fri-sun */
            }
        } else if (at < end && *at == '/') {
            high = field->max == 7 ? 6 : field->max;
        }
    }
    if (at < end && *at == '/') {
        at++;
        const struct field steps = {"step", 1, 999, NULL, 0};
        if (!read_value(&steps, &at, end, &step)) {
            return false;
        }
    }
    if (at != end || low > high) {
        return false;
    }
    for (unsigned i = low; i <= high; i += step) {
        *bits |= 1ull << (field->max == 7 && i == 7 ? 0 : i);
    }
    return true;
}

static bool read_field(const struct field *field, const char *at, const char *end, uint64_t *bits)
{
    *bits = 0;
    while (at <= end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma == NULL ? end : comma;
        if (!read_element(field, at, stop, bits)) {
            return false;
        }
        at = stop + 1;
    }
    return true;
}

static bool can_happen(const struct mr_cron *cron)
{
    if (!cron->any_weekday || cron->any_day) {
        return true; /* some weekday of some month always comes */
    }
    static const uint32_t month_days[12] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    for (unsigned m = 1; m <= 12; m++) {
        uint32_t possible = (uint32_t)((1ull << (month_days[m - 1] + 1)) - 2);
        if ((cron->months & (1u << m)) != 0 && (cron->days & possible) != 0) {
            return true;
        }
    }
    return false;
}

static enum mr_status parse_fields(const char *text, struct mr_cron *cron,
                                   struct mr_problem *problem)
{
    uint64_t bits[FIELD_COUNT];
    const char *at = text + strspn(text, " \t");
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        const char *end = at + strcspn(at, " \t");
        if (at == end) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "cron: \"%s\" has %u fields; it wants five: minute hour "
                                  "day-of-month month day-of-week",
                                  text, (unsigned)i);
        }
        if (!read_field(&fields[i], at, end, &bits[i])) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "cron: \"%.*s\" is no %s; wants %u-%u, lists, ranges, steps",
                                  (int)(end - at), at, fields[i].name, fields[i].min,
                                  fields[i].max);
        }
        if (i == 2) {
            cron->any_day = *at == '*' || *at == '?';
        } else if (i == 4) {
            cron->any_weekday = *at == '*' || *at == '?';
        }
        at = end + strspn(end, " \t");
    }
    if (*at != '\0') {
        return mr_problem_set(problem, MR_E_INVALID, "cron: \"%s\" has more than five fields",
                              text);
    }
    cron->minutes = bits[0];
    cron->hours = (uint32_t)bits[1];
    cron->days = (uint32_t)bits[2];
    cron->months = (uint16_t)bits[3];
    cron->weekdays = (uint8_t)bits[4];
    return MR_OK;
}

enum mr_status mr_cron_parse(const char *text, struct mr_cron *ret_cron, struct mr_problem *problem)
{
    struct mr_cron cron = {0};
    if (strlen(text) > TEXT_SIZE_MAX) {
        return mr_problem_set(problem, MR_E_INVALID, "cron: longer than %u bytes", TEXT_SIZE_MAX);
    }
    if (text[0] == '@') {
        const char *found = NULL;
        for (size_t i = 0; i < sizeof(nicknames) / sizeof(nicknames[0]); i++) {
            found = strcasecmp(text, nicknames[i].name) == 0 ? nicknames[i].text : found;
        }
        if (found == NULL) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "cron: \"%s\" is not one of @hourly @daily @midnight @weekly "
                                  "@monthly @yearly @annually",
                                  text);
        }
        text = found;
    }
    enum mr_status r = parse_fields(text, &cron, problem);
    if (r != MR_OK) {
        return r;
    }
    if (!can_happen(&cron)) {
        return mr_problem_set(problem, MR_E_INVALID, "cron: \"%s\" names a day that never comes",
                              text);
    }
    *ret_cron = cron;
    return MR_OK;
}

static bool day_matches(const struct mr_cron *cron, int64_t day, unsigned day_of_month)
{
    unsigned weekday = (unsigned)(((day % 7) + 11) % 7); /* 1970-01-01 was a Thursday */
    bool by_day = (cron->days & (1u << day_of_month)) != 0;
    bool by_weekday = (cron->weekdays & (1u << weekday)) != 0;
    if (cron->any_day || cron->any_weekday) {
        return by_day && by_weekday; /* with a step (*\/2) the star still narrows */
    }
    return by_day || by_weekday;
}

/* The first minute of the day, from @p from_minute on, that matches; -1: none. */
static int next_minute(const struct mr_cron *cron, int from_minute)
{
    for (int minute = from_minute; minute < 24 * 60;) {
        if ((cron->hours & (1u << (minute / 60))) == 0) {
            minute = (minute / 60 + 1) * 60;
        } else if ((cron->minutes & (1ull << (minute % 60))) == 0) {
            minute++;
        } else {
            return minute;
        }
    }
    return -1;
}

bool mr_cron_next(const struct mr_cron *cron, const struct mr_zone *zone, int64_t after_s,
                  int64_t *ret_unix_s)
{
    /* What the wall clock shows maps to instants without ever running backwards, so the first
     * matching reading from now on whose instant is later is the answer. */
    int64_t local_s = after_s + mr_zone_offset(zone, after_s);
    int64_t day = local_s / DAY_S - (local_s % DAY_S < 0 ? 1 : 0);
    int minute = (int)((local_s - day * DAY_S) / MINUTE_S);
    for (int64_t days = 0; days < YEARS_MAX * 366; days++, day++, minute = 0) {
        int64_t year;
        unsigned month;
        unsigned day_of_month;
        mr_civil_from_days(day, &year, &month, &day_of_month);
        if ((cron->months & (1u << month)) == 0 || !day_matches(cron, day, day_of_month)) {
            continue;
        }
        for (minute = next_minute(cron, minute); minute >= 0;
             minute = next_minute(cron, minute + 1)) {
            int64_t instant_s = mr_zone_instant(zone, day * DAY_S + (int64_t)minute * MINUTE_S);
            if (instant_s > after_s) {
                *ret_unix_s = instant_s;
                return true;
            }
        }
    }
    return false;
}
