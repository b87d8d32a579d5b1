#include "connectors/timer/zone.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/io.h"

#define ZONE_FILE_SIZE_MAX (256u * 1024u) /* the largest of tzdata has 4 KiB */
#define ZONE_NAME_SIZE_MAX 64u
#define CHANGES_MAX 20000u
#define OFFSET_MAX (26 * 3600) /* what RFC 8536 lets a reader expect, rounded up */
#define HEADER_SIZE 44u
#define DAY_S 86400

enum rule_kind {
    RULE_NONE = 0,
    RULE_JULIAN, /* Jn: 1..365, 29 February never counts */
    RULE_DAY,    /* n: 0..365, it does */
    RULE_MONTH,  /* Mm.w.d */
};

/* When the clocks change, as the footer says it. */
struct rule {
    enum rule_kind kind;
    int month;
    int week;
    int day;
    int32_t time_s; /* local, from the day's midnight; may be negative or beyond a day */
};

struct change {
    int64_t at_s;
    int32_t offset_s; /* from then on */
};

struct mr_zone {
    char *name;           /* owned; NULL: not one of the loaded */
    uint32_t refs;        /* under loaded_mu, as the next */
    struct mr_zone *next; /* among the loaded */
    int32_t first_offset_s; /* before the first change */
    struct change *changes; /* owned, ascending */
    uint32_t change_count;
    bool has_footer;
    bool has_summer;
    int32_t standard_s;
    int32_t summer_s;
    struct rule to_summer;
    struct rule to_standard;
};

/* --- the footer: a POSIX TZ string ------------------------------------------------------------ */

struct cursor {
    const char *at;
    const char *end;
};

static bool skip_char(struct cursor *c, char wanted)
{
    if (c->at < c->end && *c->at == wanted) {
        c->at++;
        return true;
    }
    return false;
}

static bool read_number(struct cursor *c, int max, int *ret_value)
{
    int value = 0;
    const char *start = c->at;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9' && c->at - start < 4) {
        value = value * 10 + (*c->at++ - '0');
    }
    if (c->at == start || value > max) {
        return false;
    }
    *ret_value = value;
    return true;
}

static bool skip_name(struct cursor *c)
{
    const char *start = c->at;
    if (skip_char(c, '<')) {
        while (c->at < c->end && *c->at != '>') {
            c->at++;
        }
        return skip_char(c, '>');
    }
    while (c->at < c->end && (*c->at | 0x20) >= 'a' && (*c->at | 0x20) <= 'z') { /* either case */
        c->at++;
    }
    return c->at - start >= 3;
}

/* [+-]hh[:mm[:ss]] */
static bool read_time(struct cursor *c, int hours_max, int32_t *ret_s)
{
    int sign = skip_char(c, '-') ? -1 : 1;
    if (sign > 0) {
        (void)skip_char(c, '+'); /* may stand there */
    }
    int hours = 0;
    int minutes = 0;
    int seconds = 0;
    if (!read_number(c, hours_max, &hours)) {
        return false;
    }
    if (skip_char(c, ':')) {
        if (!read_number(c, 59, &minutes)) {
            return false;
        }
        if (skip_char(c, ':') && !read_number(c, 59, &seconds)) {
            return false;
        }
    }
    *ret_s = sign * (hours * 3600 + minutes * 60 + seconds);
    return true;
}

static bool read_rule(struct cursor *c, struct rule *ret)
{
    *ret = (struct rule){.kind = RULE_DAY, .time_s = 2 * 3600};
    if (skip_char(c, 'M')) {
        ret->kind = RULE_MONTH;
        if (!read_number(c, 12, &ret->month) || ret->month < 1 || !skip_char(c, '.') ||
            !read_number(c, 5, &ret->week) || ret->week < 1 || !skip_char(c, '.') ||
            !read_number(c, 6, &ret->day)) {
            return false;
        }
    } else {
        if (skip_char(c, 'J')) {
            ret->kind = RULE_JULIAN;
        }
        if (!read_number(c, 365, &ret->day) || (ret->kind == RULE_JULIAN && ret->day < 1)) {
            return false;
        }
    }
    return !skip_char(c, '/') || read_time(c, 167, &ret->time_s);
}

static bool read_footer(struct mr_zone *zone, struct mr_bytes text)
{
    struct cursor c = {(const char *)text.data, (const char *)text.data + text.size};
    int32_t west_s = 0;
    if (!skip_name(&c) || !read_time(&c, 24, &west_s)) {
        return false;
    }
    zone->standard_s = -west_s;
    zone->summer_s = zone->standard_s + 3600;
    zone->has_footer = true;
    if (c.at == c.end) {
        return true;
    }
    zone->has_summer = true;
    if (!skip_name(&c)) {
        return false;
    }
    if (c.at < c.end && *c.at != ',') {
        if (!read_time(&c, 24, &west_s)) {
            return false;
        }
        zone->summer_s = -west_s;
    }
    return skip_char(&c, ',') && read_rule(&c, &zone->to_summer) && skip_char(&c, ',') &&
           read_rule(&c, &zone->to_standard) && c.at == c.end;
}

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* Local seconds since 1970 at which @p rule acts in @p year. */
static int64_t rule_local(const struct rule *rule, int64_t year)
{
    int64_t day = mr_days_from_civil(year, 1, 1);
    if (rule->kind == RULE_JULIAN) {
        day += rule->day - 1 + (is_leap(year) && rule->day >= 60 ? 1 : 0);
    } else if (rule->kind == RULE_DAY) {
        day += rule->day;
    } else {
        unsigned month = (unsigned)rule->month;
        int64_t first = mr_days_from_civil(year, month, 1);
        int64_t next = month == 12 ? mr_days_from_civil(year + 1, 1, 1)
                                   : mr_days_from_civil(year, month + 1, 1);
        int weekday = (int)(((first % 7) + 11) % 7); /* 1970-01-01 was a Thursday */
        day = first + (rule->day - weekday + 7) % 7 + (int64_t)(rule->week - 1) * 7;
        if (day >= next) {
            day -= 7; /* week 5 is the last one */
        }
    }
    return day * DAY_S + rule->time_s;
}

static int64_t year_of(int64_t unix_s)
{
    int64_t days = unix_s / DAY_S - (unix_s % DAY_S < 0 ? 1 : 0);
    int64_t year;
    unsigned month;
    unsigned day;
    mr_civil_from_days(days, &year, &month, &day);
    return year;
}

/* The changes by the footer's rule nearest to @p unix_s: the last at or before it, and the first
 * after it. */
static void footer_changes(const struct mr_zone *zone, int64_t unix_s, struct change *ret_before,
                           struct change *ret_after)
{
    int64_t year = year_of(unix_s);
    *ret_before = (struct change){INT64_MIN, zone->standard_s};
    *ret_after = (struct change){INT64_MAX, zone->standard_s};
    for (int64_t y = year - 1; y <= year + 1; y++) {
        struct change both[2] = {
            {rule_local(&zone->to_summer, y) - zone->standard_s, zone->summer_s},
            {rule_local(&zone->to_standard, y) - zone->summer_s, zone->standard_s},
        };
        for (int i = 0; i < 2; i++) {
            /* Of two at one moment (summer all year round) the later rule holds. */
            if (both[i].at_s <= unix_s && both[i].at_s >= ret_before->at_s) {
                *ret_before = both[i];
            }
            if (both[i].at_s > unix_s && both[i].at_s < ret_after->at_s) {
                *ret_after = both[i];
            }
        }
    }
}

/* --- the file --------------------------------------------------------------------------------- */

static uint32_t be32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static int64_t be_time(const uint8_t *at, unsigned width)
{
    if (width == 4) {
        return (int32_t)be32(at);
    }
    return (int64_t)((uint64_t)be32(at) << 32 | be32(at + 4));
}

struct block {
    uint32_t isutc_count;
    uint32_t isstd_count;
    uint32_t leap_count;
    uint32_t time_count;
    uint32_t type_count;
    uint32_t char_count;
    size_t size; /* of the data behind the header */
};

static bool read_header(struct mr_bytes file, size_t at, unsigned width, struct block *ret)
{
    if (at + HEADER_SIZE > file.size || memcmp(file.data + at, "TZif", 4) != 0) {
        return false;
    }
    const uint8_t *p = file.data + at + 20;
    *ret = (struct block){be32(p),      be32(p + 4),  be32(p + 8), be32(p + 12),
                          be32(p + 16), be32(p + 20), 0};
    if (ret->time_count > CHANGES_MAX || ret->type_count == 0 || ret->type_count > 256 ||
        ret->char_count > 4096 || ret->leap_count > 1000 || ret->isstd_count > 256 ||
        ret->isutc_count > 256) {
        return false;
    }
    ret->size = (size_t)ret->time_count * (width + 1) + ret->type_count * 6u + ret->char_count +
                (size_t)ret->leap_count * (width + 4) + ret->isstd_count + ret->isutc_count;
    return at + HEADER_SIZE + ret->size <= file.size;
}

static enum mr_status read_block(struct mr_zone *zone, const uint8_t *data,
                                 const struct block *block, unsigned width)
{
    const uint8_t *indexes = data + (size_t)block->time_count * width;
    const uint8_t *types = indexes + block->time_count;
    zone->changes = mr_calloc(block->time_count, sizeof(*zone->changes));
    if (zone->changes == NULL) {
        return MR_E_NOMEM;
    }
    zone->first_offset_s = (int32_t)be32(types);
    int64_t before = INT64_MIN;
    for (uint32_t i = 0; i < block->time_count; i++) {
        int64_t at_s = be_time(data + (size_t)i * width, width);
        if (indexes[i] >= block->type_count || (i > 0 && at_s <= before)) {
            return MR_E_INVALID;
        }
        before = at_s;
        zone->changes[i] = (struct change){at_s, (int32_t)be32(types + indexes[i] * 6u)};
    }
    zone->change_count = block->time_count;
    for (uint32_t i = 0; i < block->type_count; i++) {
        int32_t offset_s = (int32_t)be32(types + i * 6u);
        if (offset_s < -OFFSET_MAX || offset_s > OFFSET_MAX) {
            return MR_E_INVALID;
        }
    }
    return MR_OK;
}

static enum mr_status read_file(struct mr_zone *zone, struct mr_bytes file)
{
    struct block block;
    if (!read_header(file, 0, 4, &block)) {
        return MR_E_INVALID;
    }
    if (file.data[4] < '2') {
        return read_block(zone, file.data + HEADER_SIZE, &block, 4);
    }
    size_t at = HEADER_SIZE + block.size; /* version 2 repeats it all with 64 bits */
    if (!read_header(file, at, 8, &block)) {
        return MR_E_INVALID;
    }
    enum mr_status r = read_block(zone, file.data + at + HEADER_SIZE, &block, 8);
    if (r != MR_OK) {
        return r;
    }
    struct mr_bytes footer = mr_bytes(file.data + at + HEADER_SIZE + block.size,
                                      file.size - at - HEADER_SIZE - block.size);
    if (footer.size < 2 || footer.data[0] != '\n') {
        return MR_E_INVALID;
    }
    const uint8_t *end = memchr(footer.data + 1, '\n', footer.size - 1);
    if (end == NULL) {
        return MR_E_INVALID;
    }
    footer = mr_bytes(footer.data + 1, (size_t)(end - footer.data - 1));
    return footer.size == 0 || read_footer(zone, footer) ? MR_OK : MR_E_INVALID;
}

enum mr_status mr_zone_parse(struct mr_bytes file, struct mr_zone **ret_zone,
                             struct mr_problem *problem)
{
    struct mr_zone *zone = mr_calloc(1, sizeof(*zone));
    if (zone == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the time zone");
    }
    enum mr_status r = read_file(zone, file);
    if (r != MR_OK) {
        mr_zone_destroy(zone);
        return mr_problem_set(problem, r, "the time zone file is damaged");
    }
    *ret_zone = zone;
    return MR_OK;
}

static bool is_zone_name(const char *name)
{
    size_t size = strlen(name);
    return size <= ZONE_NAME_SIZE_MAX && name[0] != '/' && strstr(name, "..") == NULL &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/") ==
               size;
}

/* Ten thousand timers read in one zone share it. */
static pthread_mutex_t loaded_mu = PTHREAD_MUTEX_INITIALIZER; /* protects the list and its refs */
static struct mr_zone *loaded;

static enum mr_status read_zone(const char *name, struct mr_zone **ret_zone,
                                struct mr_problem *problem)
{
    if (strcmp(name, "UTC") == 0) { /* needs no file */
        *ret_zone = mr_calloc(1, sizeof(**ret_zone));
        return *ret_zone != NULL ? MR_OK
                                 : mr_problem_set(problem, MR_E_NOMEM,
                                                  "no memory for the time zone");
    }
    if (!is_zone_name(name)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "time_zone: \"%s\" is no name as Europe/Berlin is", name);
    }
    char path[ZONE_NAME_SIZE_MAX + 32];
    (void)snprintf(path, sizeof(path), "/usr/share/zoneinfo/%s", name);
    char *text = NULL;
    size_t size = 0;
    enum mr_status r = mr_file_read(path, ZONE_FILE_SIZE_MAX, &text, &size);
    if (r != MR_OK) {
        return mr_problem_set(problem, r == MR_E_NOMEM ? r : MR_E_NOT_FOUND,
                              "time_zone: \"%s\" is not known here (no file %s)", name, path);
    }
    r = mr_zone_parse(mr_bytes(text, size), ret_zone, problem);
    mr_free(text);
    return r;
}

static void free_zone(struct mr_zone *zone)
{
    mr_free(zone->name);
    mr_free(zone->changes);
    mr_free(zone);
}

enum mr_status mr_zone_load(const char *name, struct mr_zone **ret_zone, struct mr_problem *problem)
{
    name = name == NULL || name[0] == '\0' ? "UTC" : name;
    enum mr_status r = MR_OK;
    struct mr_zone *zone = NULL;
    pthread_mutex_lock(&loaded_mu);
    for (zone = loaded; zone != NULL && strcmp(zone->name, name) != 0; zone = zone->next) {
    }
    if (zone == NULL) {
        r = read_zone(name, &zone, problem);
        if (r == MR_OK) {
            zone->name = mr_strdup(name);
            if (zone->name == NULL) {
                free_zone(zone);
                r = mr_problem_set(problem, MR_E_NOMEM, "no memory for the time zone");
            } else {
                zone->next = loaded;
                loaded = zone;
            }
        }
    }
    if (r == MR_OK) {
        zone->refs++;
        *ret_zone = zone;
    }
    pthread_mutex_unlock(&loaded_mu);
    return r;
}

void mr_zone_destroy(struct mr_zone *zone)
{
    bool last = true;
    if (zone != NULL && zone->name != NULL) {
        pthread_mutex_lock(&loaded_mu);
        MR_ASSERT(zone->refs > 0);
        last = --zone->refs == 0;
        struct mr_zone **at = &loaded;
        while (last && *at != zone) {
            at = &(*at)->next;
        }
        if (last) {
            *at = zone->next;
        }
        pthread_mutex_unlock(&loaded_mu);
    }
    if (zone != NULL && last) {
        free_zone(zone);
    }
}

/* --- questions -------------------------------------------------------------------------------- */

/* How many changes of the table lie at or before @p unix_s. */
static uint32_t count_until(const struct mr_zone *zone, int64_t unix_s)
{
    uint32_t low = 0;
    uint32_t high = zone->change_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (zone->changes[middle].at_s <= unix_s) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

int32_t mr_zone_offset(const struct mr_zone *zone, int64_t unix_s)
{
    uint32_t count = count_until(zone, unix_s);
    if (count < zone->change_count || !zone->has_footer) {
        return count == 0 ? zone->first_offset_s : zone->changes[count - 1].offset_s;
    }
    if (!zone->has_summer) {
        return zone->standard_s;
    }
    struct change before;
    struct change after;
    footer_changes(zone, unix_s, &before, &after);
    return before.offset_s;
}

bool mr_zone_next_change(const struct mr_zone *zone, int64_t unix_s, int64_t *ret_unix_s)
{
    uint32_t count = count_until(zone, unix_s);
    if (count < zone->change_count) {
        *ret_unix_s = zone->changes[count].at_s;
        return true;
    }
    if (!zone->has_summer) {
        return false;
    }
    struct change before;
    struct change after;
    footer_changes(zone, unix_s, &before, &after);
    *ret_unix_s = after.at_s;
    return after.at_s != INT64_MAX;
}

int64_t mr_zone_instant(const struct mr_zone *zone, int64_t local_s)
{
    /* Walk the stretches of one offset, from one that ends before any clock showed local_s. The
     * first whose end comes after that moment has it, or begins just behind the gap it fell in. */
    int64_t start_s = local_s - 2 * OFFSET_MAX;
    for (;;) {
        int64_t instant_s = local_s - mr_zone_offset(zone, start_s);
        int64_t end_s;
        if (!mr_zone_next_change(zone, start_s, &end_s) || instant_s < end_s) {
            return instant_s > start_s ? instant_s : start_s;
        }
        start_s = end_s;
    }
}
