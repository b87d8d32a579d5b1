/* Cron schedules around changes of the clocks: tests/data/timer-instants.txt. */
#include "tests/support/test.h"

#include "connectors/timer/timer.h"
#include "core/clock.h"

static char *next_part(char **at, const char *separator)
{
    char *start = *at;
    char *end = strstr(start, separator);
    if (end == NULL) {
        *at = start + strlen(start);
    } else {
        *end = '\0';
        *at = end + strlen(separator);
    }
    return start;
}

static int64_t ms_of(const char *text)
{
    int64_t ns = 0;
    if (!mr_time_parse(mr_bytes_of(text), &ns)) {
        fail_msg("no time: %s", text);
    }
    return ns / (int64_t)MR_MS;
}

/* @return whether the zone is known here */
static bool check_line(char *line)
{
    struct mr_timer_options o = {0};
    struct mr_timer_schedule schedule;
    struct mr_problem problem = {.text = ""};
    o.time_zone = next_part(&line, " | ");
    o.cron = next_part(&line, " | ");
    const char *after = next_part(&line, " | ");
    enum mr_status r = mr__timer_schedule(&o, &schedule, &problem);
    if (r == MR_E_NOT_FOUND) {
        print_message("%s\n", problem.text);
        return false;
    }
    assert_int_equal(r, MR_OK);
    int64_t at_ms = ms_of(after);
    for (char *rest = line; *rest != '\0';) {
        const char *wanted = next_part(&rest, " ");
        assert_true(mr__timer_next(&schedule, at_ms, &at_ms));
        if (at_ms != ms_of(wanted)) {
            fail_msg("%s, %s after %s: %lld s off %s", o.time_zone, o.cron, after,
                     (long long)(at_ms - ms_of(wanted)) / 1000, wanted);
        }
    }
    mr__timer_schedule_release(&schedule);
    return true;
}

static void test_cron_instants_agree_with_another_implementation(void **state)
{
    (void)state;
    char path[512];
    char line[1024];
    unsigned checked = 0;
    snprintf(path, sizeof(path), "%s/tests/data/timer-instants.txt", MR_SOURCE_DIR);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        checked += line[0] != '#' && check_line(line) ? 1 : 0;
    }
    fclose(f);
    if (checked == 0) {
        print_message("SKIPPED: no time zones here (package tzdata)\n");
        skip();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cron_instants_agree_with_another_implementation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
