#include <stdio.h>
#include <string.h>

#include "connectors/timer/timer.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"

#define LATE_MS 60000 /* later than this, an instant was missed */

enum mr_status mr__timer_schedule(const struct mr_timer_options *options,
                                  struct mr_timer_schedule *ret_schedule,
                                  struct mr_problem *problem)
{
    struct mr_timer_schedule s = {0};
    int given = (options->cron != NULL) + (options->every_ns != 0) + (options->at != NULL);
    if (given != 1) {
        return mr_problem_set(problem, MR_E_INVALID, "wants one of `cron`, `every` and `at`%s",
                              given == 0 ? "" : ", not several");
    }
    if (options->time_zone != NULL && options->cron == NULL) {
        return mr_problem_set(problem, MR_E_INVALID, "time_zone goes with `cron` only");
    }
    enum mr_status r = MR_OK;
    if (options->cron != NULL) {
        r = mr_cron_parse(options->cron, &s.cron, problem);
        if (r == MR_OK) {
            r = mr_zone_load(options->time_zone, &s.zone, problem);
        }
    } else if (options->every_ns != 0) {
        if (options->every_ns % MR_MS != 0) {
            return mr_problem_set(problem, MR_E_INVALID, "every: wants whole milliseconds");
        }
        s.every_ms = (int64_t)(options->every_ns / MR_MS);
    } else {
        int64_t at_ns = 0;
        if (!mr_time_parse(mr_bytes_of(options->at), &at_ns)) {
            return mr_problem_set(problem, MR_E_INVALID,
                                  "at: \"%s\" is no time as 2026-11-21T02:00:00Z is", options->at);
        }
        s.at_ms = at_ns / (int64_t)MR_MS;
        s.is_at = true;
    }
    if (r == MR_OK) {
        *ret_schedule = s;
    }
    return r;
}

void mr__timer_schedule_release(struct mr_timer_schedule *schedule)
{
    mr_zone_destroy(schedule->zone);
    *schedule = (struct mr_timer_schedule){0};
}

static int64_t floor_div(int64_t value, int64_t by)
{
    return value / by - (value % by < 0 ? 1 : 0);
}

bool mr__timer_next(const struct mr_timer_schedule *schedule, int64_t after_ms, int64_t *ret_ms)
{
    if (schedule->zone != NULL) {
        int64_t next_s;
        if (!mr_cron_next(&schedule->cron, schedule->zone, floor_div(after_ms, 1000), &next_s)) {
            return false;
        }
        *ret_ms = next_s * 1000;
        return true;
    }
    if (schedule->every_ms != 0) { /* counted from 1970: the same instants after a restart */
        *ret_ms = (floor_div(after_ms, schedule->every_ms) + 1) * schedule->every_ms;
        return true;
    }
    *ret_ms = schedule->at_ms;
    return schedule->is_at && schedule->at_ms > after_ms;
}

/* The newest instants of (from, to], at most @p max, into @p ret_ms, oldest first. */
static uint32_t newest(const struct mr_timer_schedule *schedule, int64_t from_ms, int64_t to_ms,
                       uint32_t max, int64_t *ret_ms)
{
    MR_ASSERT(max > 0 && max <= MR_TIMER_CATCH_UP_MAX);
    /* From now backwards in growing steps, so that years of missed minutes are not walked. */
    int64_t span_ms = schedule->every_ms != 0 ? schedule->every_ms * (int64_t)max : 60000;
    uint32_t count = 0;
    for (;;) {
        int64_t start_ms = to_ms - from_ms > span_ms ? to_ms - span_ms : from_ms;
        int64_t at_ms = start_ms;
        uint64_t seen = 0;
        while (mr__timer_next(schedule, at_ms, &at_ms) && at_ms <= to_ms) {
            ret_ms[seen++ % max] = at_ms;
        }
        count = seen < max ? (uint32_t)seen : max;
        if (seen > max) { /* the ring's oldest first */
            int64_t sorted[MR_TIMER_CATCH_UP_MAX];
            for (uint32_t i = 0; i < count; i++) {
                sorted[i] = ret_ms[(seen + i) % max];
            }
            memcpy(ret_ms, sorted, count * sizeof(*sorted));
        }
        if (count == max || start_ms == from_ms) {
            return count;
        }
        span_ms = span_ms > INT64_MAX / 4 ? INT64_MAX / 2 : span_ms * 4;
    }
}

uint32_t mr__timer_due(const struct mr_timer_schedule *schedule,
                       const struct mr_timer_options *options, int64_t last_ms, int64_t now_ms,
                       int64_t *ret_ms, int64_t *ret_last_ms)
{
    *ret_last_ms = last_ms;
    if (now_ms <= last_ms) {
        return 0;
    }
    uint32_t max = 1;
    if (options->misfire == MR_MISFIRE_ALL) {
        max = options->max_catch_up > MR_TIMER_CATCH_UP_MAX ? MR_TIMER_CATCH_UP_MAX
                                                             : (uint32_t)options->max_catch_up;
        max = max == 0 ? 1 : max;
    }
    uint32_t count = newest(schedule, last_ms, now_ms, max, ret_ms);
    if (count == 0) {
        return 0;
    }
    *ret_last_ms = ret_ms[count - 1];
    if (options->misfire == MR_MISFIRE_SKIP && now_ms - ret_ms[0] > LATE_MS) {
        return 0;
    }
    return count;
}

void mr__timer_text(int64_t ms, char text[MR_TIMER_TEXT_SIZE])
{
    char full[MR_TIME_TEXT_SIZE];
    (void)mr_time_format((uint64_t)ms * MR_MS, full); /* 2026-11-21T02:00:00.000Z */
    char *dot = strchr(full, '.');
    if (dot != NULL && ms % 1000 == 0) {
        *dot = '\0';
        (void)snprintf(text, MR_TIMER_TEXT_SIZE, "%.28sZ", full);
    } else {
        (void)snprintf(text, MR_TIMER_TEXT_SIZE, "%.30s", full);
    }
}

char *mr__timer_cursor(int64_t last_ms)
{
    char time[MR_TIMER_TEXT_SIZE];
    char text[MR_TIMER_TEXT_SIZE + 16];
    mr__timer_text(last_ms, time);
    (void)snprintf(text, sizeof(text), "{\"last\":\"%s\"}", time);
    return mr_strdup(text);
}

bool mr__timer_read_cursor(const char *cursor, int64_t *ret_last_ms)
{
    static const char head[] = "{\"last\":\"";
    int64_t ns;
    if (cursor == NULL || strncmp(cursor, head, sizeof(head) - 1) != 0) {
        return false;
    }
    const char *start = cursor + sizeof(head) - 1;
    const char *end = strchr(start, '"');
    if (end == NULL || strcmp(end, "\"}") != 0 ||
        !mr_time_parse(mr_bytes(start, (size_t)(end - start)), &ns)) {
        return false;
    }
    *ret_last_ms = ns / (int64_t)MR_MS;
    return true;
}
