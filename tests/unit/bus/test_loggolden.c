/* Logs of earlier releases, read to the state they had. A copy is opened; the golden files are
 * never touched. What a log holds is compared as text with the summary.json beside it. */
#include "tests/support/test.h"

#include <dirent.h>

#include "bus/bus.h"
#include "core/alloc.h"
#include "tests/support/logfolder.h"

#define SUMMARY_SIZE_MAX (1u * MR_MIB)

static void copy_file(const char *from, const char *dir, const char *name)
{
    char path[1024];
    int n = snprintf(path, sizeof(path), "%s/%s", from, name);
    assert_true(n > 0 && (size_t)n < sizeof(path));
    char *data;
    size_t size;
    assert_int_equal(mr_file_read(path, 16 * MR_MIB, &data, &size), MR_OK);
    n = snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_true(n > 0 && (size_t)n < sizeof(path));
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    mr_free(data);
}

static void copy_log(struct log_folder *copy, const char *from, bool checkpoints)
{
    log_folder_make(copy, "golden");
    DIR *dir = opendir(from);
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        bool log = strncmp(e->d_name, "seg-", 4) == 0 || strncmp(e->d_name, "free-", 5) == 0;
        bool slot = strncmp(e->d_name, "checkpoint-", 11) == 0;
        if (log || (slot && checkpoints)) {
            copy_file(from, copy->path, e->d_name);
        }
    }
    closedir(dir);
}

/* --- ports: recovery asks for nothing ------------------------------------------------------------ */

static void no_io(void *context, struct mr_log_request *request)
{
    (void)context;
    (void)request;
    fail_msg("recovery wrote something");
}

static void no_slow(void *context, bool slow)
{
    (void)context;
    (void)slow;
}

static void no_alarm(void *context, const char *text)
{
    (void)context;
    print_error("alarm: %s\n", text);
}

/* --- the summary ------------------------------------------------------------------------------------- */

#define LLU(x) ((unsigned long long)(x))

static void put(struct mr_buf *out, const char *format, ...) MR_PRINTF(2, 3);
static void put(struct mr_buf *out, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    assert_true(n >= 0 && (size_t)n < sizeof(line));
    assert_int_equal(mr_buf_append(out, line, (size_t)n), MR_OK);
}

struct letters {
    struct mr_buf *out;
    bool first;
    bool times; /* a fold knows them by the group, the live bus by the moment */
};

static bool put_letter(void *context, const struct mr_dead_letter *letter)
{
    struct letters *l = context;
    put(l->out, "%s\n      {\"offset\": %llu, \"attempts\": %u, \"died\": %llu, \"lane\": \"%016llx\"}",
        l->first ? "" : ",", LLU(letter->offset), letter->attempts,
        l->times ? LLU(letter->died_log_ns) : 0, LLU(letter->lane));
    l->first = false;
    return true;
}

static void put_deliveries(struct mr_buf *out, const struct mr_bus *bus, struct mr_now now,
                           uint32_t sub, uint64_t end)
{
    bool first = true;
    for (uint64_t offset = 1; offset < end; offset++) {
        struct mr_delivery_info info;
        if (mr_bus_delivery_info(bus, now, sub, offset, &info) != MR_OK) {
            continue;
        }
        put(out,
            "%s\n      {\"offset\": %llu, \"state\": \"%s\", \"attempts\": %u, \"refusals\": %u, "
            "\"interruptions\": %u, \"fence\": %u, \"lane\": \"%016llx\"}",
            first ? "" : ",", LLU(offset), mr_state_text(info.state), info.attempts,
            info.refusals, info.interruptions, info.fence, LLU(info.lane));
        first = false;
    }
}

static void put_subscription(struct mr_buf *out, const struct mr_bus *bus, struct mr_now now,
                             uint32_t id, uint64_t end, bool deliveries)
{
    struct mr_subscription_info info;
    mr_bus_subscription_info(bus, now, id, &info);
    put(out,
        "   {\"name\": \"%s\", \"paused\": %s,\n    \"matched\": %llu, \"done\": %llu, \"dead\": %llu, "
        "\"dropped\": %llu, \"expired\": %llu, \"lost\": %llu, \"held\": %llu, \"waiting\": %llu,\n",
        info.name, info.paused ? "true" : "false", LLU(info.counts.matched),
        LLU(info.counts.done), LLU(info.counts.dead), LLU(info.counts.dropped),
        LLU(info.counts.expired), LLU(info.counts.lost), LLU(info.counts.held),
        LLU(info.counts.waiting + info.counts.in_flight));
    put(out, "    \"dead_letters\": [");
    struct letters letters = {.out = out, .first = true, .times = deliveries};
    mr_bus_dead_letters(bus, id, put_letter, &letters);
    put(out, "],\n    \"deliveries\": [");
    if (deliveries) {
        put_deliveries(out, bus, now, id, end);
    }
    put(out, "]}");
}

static void put_summary(struct mr_buf *out, const struct mr_bus *bus, struct mr_now now,
                        bool deliveries)
{
    struct mr_bus_status status;
    mr_bus_status(bus, &status);
    put(out, "{\"next_offset\": %llu, \"next_sequence\": %llu, \"lost_events\": %llu,\n",
        LLU(status.next_offset), LLU(status.next_sequence), LLU(status.lost_events));
    put(out, " \"sources\": [");
    for (uint32_t i = 0; i < mr_bus_source_count(bus); i++) {
        const char *cursor = mr_bus_source_cursor(bus, i);
        put(out, "%s{\"name\": \"%s\", \"cursor\": %s}", i == 0 ? "" : ", ",
            mr_bus_source_name(bus, i), cursor == NULL ? "null" : cursor);
    }
    put(out, "],\n \"subscriptions\": [\n");
    uint32_t count = mr_bus_subscription_count(bus);
    for (uint32_t i = 0; i < count; i++) {
        put_subscription(out, bus, now, i, status.next_offset, deliveries);
        put(out, "%s\n", i + 1 < count ? "," : "");
    }
    put(out, " ]}\n");
}

/* Opens a copy of the log of @p release and says what is in it. */
static void summarise(const char *folder, bool checkpoints, bool deliveries, struct mr_buf *out)
{
    struct log_folder copy;
    copy_log(&copy, folder, checkpoints);
    const struct mr_bus_ports ports = {.io = no_io, .slow = no_slow, .alarm = no_alarm};
    const struct mr_bus_options options = {
        .log = {.segment_size = MR_MIB, .max_size = 1ull << 40, .cache_size = MR_MIB},
        .memory_state = 64 * MR_MIB,
        .seed = 1,
    };
    const struct mr_now now = {.mono_ns = 1, .wall_ns = 1770000000 * MR_SECOND, .boot_id = 99};
    struct mr_bus *bus;
    struct mr_bus_opened opened;
    struct mr_problem problem = {{0}};
    enum mr_status r = mr_bus_open(copy.io, &options, &ports, now, &bus, &opened, &problem);
    if (r != MR_OK) {
        fail_msg("%s: %s", folder, problem.text);
    }
    assert_int_equal(opened.from_checkpoint, checkpoints);
    mr_bus_check(bus);
    mr_buf_init(out, SUMMARY_SIZE_MAX);
    put_summary(out, bus, now, deliveries);
    mr_bus_destroy(bus);
    log_folder_remove(&copy);
}

#define GOLDEN_0_1 MR_SOURCE_DIR "/tests/data/golden-log-0.1"

static void test_golden_log_of_0_1_reads_to_its_state(void **state)
{
    (void)state;
    struct mr_buf have;
    summarise(GOLDEN_0_1, true, true, &have);
    char *want;
    size_t size;
    assert_int_equal(
        mr_file_read(GOLDEN_0_1 "/summary.json", SUMMARY_SIZE_MAX, &want, &size), MR_OK);
    bool same = mr_bytes_equal(mr_bytes(want, size), mr_buf_bytes(&have));
    if (!same) {
        (void)fprintf(stderr, "summary.json says otherwise than the log does now:\n%.*s",
                      (int)have.size, (const char *)have.data);
    }
    mr_free(want);
    mr_buf_release(&have);
    assert_true(same);
}

static void test_golden_log_of_0_1_reads_the_same_without_its_checkpoints(void **state)
{
    (void)state;
    struct mr_buf with;
    struct mr_buf without;
    /* How much of it is in memory may differ, what there is may not. */
    summarise(GOLDEN_0_1, true, false, &with);
    summarise(GOLDEN_0_1, false, false, &without);
    bool same = mr_bytes_equal(mr_buf_bytes(&with), mr_buf_bytes(&without));
    if (!same) {
        (void)fprintf(stderr, "with checkpoints:\n%.*s\nwithout:\n%.*s", (int)with.size,
                      (const char *)with.data, (int)without.size, (const char *)without.data);
    }
    mr_buf_release(&with);
    mr_buf_release(&without);
    assert_true(same);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_log_of_0_1_reads_to_its_state),
        cmocka_unit_test(test_golden_log_of_0_1_reads_the_same_without_its_checkpoints),
    };
    return cmocka_run_group_tests_name("loggolden", tests, NULL, NULL);
}
