#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connectors/file/file.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/logger.h"
#include "schemas/json_format.h"
#include "tests/support/folder.h"
#include "tests/support/test_host.h"

static const struct mr_source_ops *const src = &mr__file_source_ops;
static const struct mr_target_ops *const snk = &mr__file_sink_ops;

struct fixture {
    char dir[FOLDER_PATH_SIZE];
    struct test_host host;
};

static int make_fixture(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    mr_logger_set_fd(-1);
    folder_make(f->dir, "file");
    test_host_init(&f->host);
    *state = f;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *f = *state;
    test_host_free(&f->host);
    folder_remove(f->dir);
    free(f);
    return 0;
}

static const char *path_in(const struct fixture *f, const char *name)
{
    static __thread char path[2][256];
    static __thread int turn;
    turn = !turn;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", f->dir, name);
    return path[turn];
}

static void append(const struct fixture *f, const char *name, const char *text)
{
    int fd = open(path_in(f, name), O_WRONLY | O_CREAT | O_APPEND, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static const char *line_of(int number)
{
    static __thread char text[160];
    snprintf(text, sizeof(text),
             "{\"specversion\":\"1.0\",\"id\":\"e%d\",\"source\":\"/s\",\"type\":\"t\","
             "\"data\":%d}\n",
             number, number);
    return text;
}

static void append_events(const struct fixture *f, const char *name, int from, int count)
{
    for (int i = 0; i < count; i++) {
        append(f, name, line_of(from + i));
    }
}

/* An event whose line has no end yet. */
static void append_cut(const struct fixture *f, const char *name, int number)
{
    char line[200];
    snprintf(line, sizeof(line), "%s", line_of(number));
    line[strlen(line) - 1] = '\0';
    append(f, name, line);
}

static void rotate(const struct fixture *f, const char *to)
{
    assert_int_equal(rename(path_in(f, "a.jsonl"), path_in(f, to)), 0);
}

static char *read_all(const struct fixture *f, const char *name)
{
    static char text[65536];
    int fd = open(path_in(f, name), O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    text[n < 0 ? 0 : n] = '\0';
    if (fd >= 0) {
        close(fd);
    }
    return text;
}

struct words {
    const char *path;
    bool once; /* follow: false */
    int from;
    int adapter;
    const char *cursor;
    uint64_t event_size_max;
};

static enum mr_status try_source(struct fixture *f, const struct words *w, struct mr_source **ret,
                                 struct mr_problem *problem)
{
    const struct mr_config_kind *kind = &mr_connector_file.source_kind;
    struct mr_file_source_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(kind->options, &o), MR_OK);
    assert_true(o.follow);
    o.path = mr_strdup(w->path);
    o.follow = !w->once;
    o.from = w->from;
    o.adapter = w->adapter;
    struct mr_source_config config = {
        .event_size_max = w->event_size_max == 0 ? MR_EVENT_SIZE_DEFAULT : w->event_size_max};
    struct mr_source_args args = {.host = &f->host.host,
                                  .name = "lines",
                                  .options = &o,
                                  .config = &config,
                                  .folder = f->dir,
                                  .cursor = w->cursor};
    enum mr_status r = src->create(&args, ret, problem);
    mr_options_release(kind->options, &o);
    return r;
}

static struct mr_source *open_source(struct fixture *f, const struct words *w)
{
    struct mr_source *source = NULL;
    struct mr_problem problem = {.text = ""};
    if (try_source(f, w, &source, &problem) != MR_OK) {
        fail_msg("create: %s", problem.text);
    }
    assert_int_equal(src->start(source, NULL), MR_OK);
    return source;
}

static void close_source(struct mr_source *source)
{
    src->stop(source, mr_clock_mono_ns() + 5 * MR_SECOND);
    src->destroy(source);
}

static void expect_ids(struct fixture *f, int from, int count)
{
    if (!test_host_wait(&f->host, HOST_EVENTS, (uint32_t)count)) {
        fail_msg("%u of %d events came", f->host.event_count, count);
    }
    assert_int_equal(f->host.event_count, count);
    for (int i = 0; i < count; i++) {
        char id[32];
        snprintf(id, sizeof(id), "e%d", from + i);
        assert_string_equal(test_host_value(&f->host, (uint32_t)i, "id"), id);
    }
}

/* --- the source ------------------------------------------------------------------------------- */

static void test_source_existing_lines_come_in_order(void **state)
{
    struct fixture *f = *state;
    append_events(f, "a.jsonl", 0, 1200);
    struct mr_source *source = open_source(f, &(struct words){.path = "a.jsonl"});
    expect_ids(f, 0, 1200);
    assert_non_null(f->host.cursor);
    close_source(source);
}

static void test_source_follows_what_is_appended(void **state)
{
    struct fixture *f = *state;
    append_events(f, "a.jsonl", 0, 1);
    struct mr_source *source = open_source(f, &(struct words){.path = "a.jsonl"});
    assert_true(test_host_wait(&f->host, HOST_EVENTS, 1));
    append_events(f, "a.jsonl", 1, 3);
    expect_ids(f, 0, 4);
    close_source(source);
}

static void test_source_half_line_waits_for_its_rest(void **state)
{
    struct fixture *f = *state;
    append(f, "a.jsonl", line_of(0));
    append(f, "a.jsonl", "{\"specversion\":\"1.0\",\"id\":\"e1\",");
    struct mr_source *source = open_source(f, &(struct words){.path = "a.jsonl"});
    assert_true(test_host_wait(&f->host, HOST_EVENTS, 1));
    assert_false(test_host_wait_for(&f->host, HOST_EVENTS, 2, 0.1));
    append(f, "a.jsonl", "\"source\":\"/s\",\"type\":\"t\"}\n");
    expect_ids(f, 0, 2);
    close_source(source);
}

static void test_source_file_that_comes_later_is_waited_for(void **state)
{
    struct fixture *f = *state;
    struct mr_source *source = open_source(f, &(struct words){.path = "late.jsonl"});
    struct mr_health health;
    int64_t until = (int64_t)mr_clock_mono_ns() + 5 * (int64_t)MR_SECOND;
    do {
        src->health(source, &health);
        poll(NULL, 0, 2);
    } while (health.state != MR_HEALTH_DOWN && (int64_t)mr_clock_mono_ns() < until);
    assert_int_equal(health.state, MR_HEALTH_DOWN);
    assert_non_null(strstr(health.last_error, "late.jsonl"));
    append_events(f, "late.jsonl", 0, 2);
    expect_ids(f, 0, 2);
    close_source(source);
}

/* Reads @p count events that are put into a.jsonl, and stops. */
static void read_and_stop(struct fixture *f, int count, char ret_cursor[256])
{
    append_events(f, "a.jsonl", 0, count);
    struct mr_source *source = open_source(f, &(struct words){.path = "a.jsonl"});
    expect_ids(f, 0, count);
    close_source(source);
    snprintf(ret_cursor, 256, "%s", f->host.cursor);
}

/* Goes on from a cursor: these come and no other. */
static void read_on(struct fixture *f, const char *cursor, int from, int count)
{
    test_host_free(&f->host);
    test_host_init(&f->host);
    struct mr_source *source =
        open_source(f, &(struct words){.path = "a.jsonl", .cursor = cursor});
    expect_ids(f, from, count);
    close_source(source);
}

static void test_source_restart_goes_on_at_the_cursor(void **state)
{
    struct fixture *f = *state;
    char cursor[256];
    read_and_stop(f, 5, cursor);
    append_events(f, "a.jsonl", 5, 3);
    read_on(f, cursor, 5, 3);
}

static void test_source_refused_batch_moves_no_cursor_and_comes_again(void **state)
{
    struct fixture *f = *state;
    append_events(f, "a.jsonl", 0, 3);
    test_host_refuse(&f->host, 2, MR_E_FULL);
    struct mr_source *source = open_source(f, &(struct words){.path = "a.jsonl"});
    expect_ids(f, 0, 3);
    assert_true(f->host.submits >= 3);
    close_source(source);
}

static void test_source_not_durable_at_stop_reads_again_after_restart(void **state)
{
    struct fixture *f = *state;
    append_events(f, "a.jsonl", 0, 3);
    test_host_hold(&f->host);
    struct mr_source *source = open_source(f, &(struct words){.path = "a.jsonl"});
    assert_true(test_host_wait(&f->host, HOST_HELD_EVENTS, 3));
    test_host_release_held(&f->host, MR_E_CLOSED); /* the bus stops */
    close_source(source);
    assert_null(f->host.cursor);
    test_host_let_go(&f->host);
    source = open_source(f, &(struct words){.path = "a.jsonl"});
    expect_ids(f, 0, 3);
    close_source(source);
}

static void test_source_rotation_loses_nothing(void **state)
{
    struct fixture *f = *state;
    append_events(f, "a.jsonl", 0, 2);
    struct mr_source *source = open_source(f, &(struct words){.path = "a.jsonl"});
    assert_true(test_host_wait(&f->host, HOST_EVENTS, 2));
    rotate(f, "a.jsonl.1");
    append_events(f, "a.jsonl.1", 2, 2); /* the writer had it open still */
    append_events(f, "a.jsonl", 4, 2);
    expect_ids(f, 0, 6);
    append_events(f, "a.jsonl", 6, 1);
    expect_ids(f, 0, 7);
    close_source(source);
}

static void test_source_rotation_last_line_without_end_is_taken(void **state)
{
    struct fixture *f = *state;
    struct mr_source *source = open_source(f, &(struct words){.path = "a.jsonl"});
    append(f, "a.jsonl", line_of(0));
    assert_true(test_host_wait(&f->host, HOST_EVENTS, 1));
    append_cut(f, "a.jsonl", 1);
    rotate(f, "a.jsonl.1");
    append_events(f, "a.jsonl", 2, 1);
    expect_ids(f, 0, 3);
    close_source(source);
}

static void test_source_rotated_while_off_reads_the_rest_first(void **state)
{
    struct fixture *f = *state;
    char cursor[256];
    read_and_stop(f, 2, cursor);
    append_events(f, "a.jsonl", 2, 2);
    rotate(f, "a.jsonl.1");
    append_events(f, "a.jsonl", 4, 2);
    read_on(f, cursor, 2, 4);
}

static void test_source_rotated_twice_while_off_reads_all_in_order(void **state)
{
    struct fixture *f = *state;
    char cursor[256];
    read_and_stop(f, 2, cursor);
    append_events(f, "a.jsonl", 2, 1);
    rotate(f, "a.jsonl.2");
    append_events(f, "a.jsonl.1", 3, 2);
    append_events(f, "a.jsonl", 5, 1);
    read_on(f, cursor, 2, 4);
}

static void test_source_rotated_twice_while_it_reads_loses_nothing(void **state)
{
    struct fixture *f = *state;
    append_events(f, "a.jsonl", 0, 2);
    test_host_hold(&f->host);
    struct mr_source *source = open_source(f, &(struct words){.path = "a.jsonl"});
    assert_true(test_host_wait(&f->host, HOST_HELD_EVENTS, 2));
    for (int i = 2; i < 6; i += 2) { /* the first file goes with the second rotation */
        rotate(f, "a.jsonl.1");
        append_events(f, "a.jsonl", i, 2);
    }
    test_host_let_go(&f->host);
    expect_ids(f, 0, 6);
    close_source(source);
}

static void test_source_cut_file_is_read_from_its_start(void **state)
{
    struct fixture *f = *state;
    append_events(f, "a.jsonl", 0, 5);
    struct mr_source *source = open_source(f, &(struct words){.path = "a.jsonl"});
    assert_true(test_host_wait(&f->host, HOST_EVENTS, 5));
    assert_int_equal(truncate(path_in(f, "a.jsonl"), 0), 0);
    append_events(f, "a.jsonl", 5, 2);
    expect_ids(f, 0, 7);
    close_source(source);
}

static void test_source_rewritten_while_off_is_read_from_its_start(void **state)
{
    struct fixture *f = *state;
    char cursor[256];
    read_and_stop(f, 2, cursor);
    assert_int_equal(truncate(path_in(f, "a.jsonl"), 0), 0); /* same inode, other bytes */
    append_events(f, "a.jsonl", 7, 4);
    read_on(f, cursor, 7, 4);
}

static void test_source_from_end_skips_what_was_there(void **state)
{
    struct fixture *f = *state;
    append_events(f, "a.jsonl", 0, 5);
    struct mr_source *source =
        open_source(f, &(struct words){.path = "a.jsonl", .from = MR_FILE_FROM_END});
    struct mr_health health;
    do {
        src->health(source, &health);
        poll(NULL, 0, 2);
    } while (strncmp(health.detail, "reading", 7) != 0);
    append_events(f, "a.jsonl", 5, 1);
    expect_ids(f, 5, 1);
    close_source(source);
}

static void test_source_without_follow_ends_with_the_last_line(void **state)
{
    struct fixture *f = *state;
    append_events(f, "a.jsonl", 0, 1);
    append_cut(f, "a.jsonl", 1);
    struct mr_source *source = open_source(f, &(struct words){.path = "a.jsonl", .once = true});
    expect_ids(f, 0, 2);
    struct mr_health health;
    do {
        src->health(source, &health);
        poll(NULL, 0, 2);
    } while (strncmp(health.detail, "at the end", 10) != 0);
    close_source(source);
}

static void test_source_bad_lines_are_rejected_good_ones_come(void **state)
{
    struct fixture *f = *state;
    append(f, "a.jsonl", "not json\n");
    append(f, "a.jsonl", line_of(0));
    append(f, "a.jsonl", "\n\r\n  \n");
    append(f, "a.jsonl", "{\"specversion\":\"1.0\",\"id\":\"x\"}\n");
    append(f, "a.jsonl", line_of(1));
    struct mr_source *source = open_source(f, &(struct words){.path = "a.jsonl"});
    assert_true(test_host_wait(&f->host, HOST_EVENTS, 4));
    close_source(source);
    int good = 0;
    for (uint32_t i = 0; i < f->host.event_count; i++) {
        if (f->host.rejected[i] == NULL) {
            good++;
        } else {
            assert_string_equal(test_host_value(&f->host, i, "type"),
                                "io.millrace.ingest.rejected");
            assert_true(strlen(f->host.rejected[i]) > 0);
        }
    }
    assert_int_equal(good, 2);
    assert_string_equal(test_host_value(&f->host, 0, "data"), "not json");
}

static void test_source_endless_line_is_rejected_and_bounded(void **state)
{
    struct fixture *f = *state;
    char chunk[4097];
    memset(chunk, 'x', sizeof(chunk) - 1);
    chunk[sizeof(chunk) - 1] = '\0';
    append(f, "a.jsonl", line_of(0));
    for (int i = 0; i < 200; i++) {
        append(f, "a.jsonl", chunk);
    }
    append(f, "a.jsonl", "\n");
    append(f, "a.jsonl", line_of(1));
    struct mr_source *source =
        open_source(f, &(struct words){.path = "a.jsonl", .event_size_max = 4096});
    assert_true(test_host_wait(&f->host, HOST_EVENTS, 3));
    close_source(source);
    assert_int_equal(f->host.event_count, 3);
    assert_non_null(f->host.rejected[1]);
    assert_non_null(strstr(f->host.rejected[1], "longer than"));
    assert_string_equal(test_host_value(&f->host, 2, "id"), "e1");
}

static void test_source_generic_wraps_lines_with_stable_ids(void **state)
{
    struct fixture *f = *state;
    append(f, "a.log", "hello\n{\"n\":1}\nhello\n");
    struct words words = {.path = "a.log", .adapter = MR_FILE_GENERIC};
    struct mr_source *source = open_source(f, &words);
    assert_true(test_host_wait(&f->host, HOST_EVENTS, 3));
    close_source(source);
    assert_string_equal(test_host_value(&f->host, 0, "type"), "io.millrace.file.line");
    assert_string_equal(test_host_value(&f->host, 0, "source"), "/millrace/source/lines");
    assert_string_equal(test_host_value(&f->host, 0, "data"), "hello");
    assert_string_equal(test_host_value(&f->host, 1, "datacontenttype"), "application/json");
    char id[3][512];
    for (uint32_t i = 0; i < 3; i++) {
        snprintf(id[i], sizeof(id[i]), "%s", test_host_value(&f->host, i, "id"));
    }
    assert_string_not_equal(id[0], id[2]);
    test_host_free(&f->host);
    test_host_init(&f->host);
    source = open_source(f, &words); /* from the start once more: the same ids */
    assert_true(test_host_wait(&f->host, HOST_EVENTS, 3));
    close_source(source);
    for (uint32_t i = 0; i < 3; i++) {
        assert_string_equal(test_host_value(&f->host, i, "id"), id[i]);
    }
}

static void test_source_paused_reads_nothing(void **state)
{
    struct fixture *f = *state;
    struct mr_source *source = NULL;
    append_events(f, "a.jsonl", 0, 2);
    assert_int_equal(try_source(f, &(struct words){.path = "a.jsonl"}, &source, NULL), MR_OK);
    src->pause(source); /* before the start: no read can be under way */
    assert_int_equal(src->start(source, NULL), MR_OK);
    assert_false(test_host_wait_for(&f->host, HOST_EVENTS, 1, 0.15));
    src->resume(source);
    expect_ids(f, 0, 2);
    close_source(source);
}

static void test_source_paths_that_lead_out_are_refused(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {"../x", "a/../../x", "..", "a/..", "", "dir/"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct mr_source *source = NULL;
        struct mr_problem problem = {.text = ""};
        assert_int_equal(try_source(f, &(struct words){.path = bad[i]}, &source, &problem),
                         MR_E_INVALID);
        assert_true(strlen(problem.text) > 0);
    }
}

static void test_open_symbolic_link_out_of_the_folder_is_denied(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(symlink("/etc", path_in(f, "out")), 0);
    assert_int_equal(symlink("/etc/hostname", path_in(f, "host")), 0);
    assert_int_equal(symlink("a.jsonl", path_in(f, "in")), 0);
    append_events(f, "a.jsonl", 0, 1);
    int fd = -1;
    struct mr_problem problem = {.text = ""};
    assert_int_equal(mr__file_open_read(f->dir, "out/hostname", &fd, &problem), MR_E_DENIED);
    assert_int_equal(mr__file_open_read(f->dir, "host", &fd, &problem), MR_E_DENIED);
    assert_non_null(strstr(problem.text, "folder"));
    assert_int_equal(mr__file_open_read(f->dir, "in", &fd, &problem), MR_OK);
    close(fd);
    const char *name = NULL;
    assert_int_equal(mr__file_open_dir(f->dir, "out/x.jsonl", &fd, &name, &problem), MR_E_DENIED);
}

static void test_open_what_is_no_regular_file_is_denied(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkfifo(path_in(f, "pipe"), 0600), 0);
    assert_int_equal(mkdir(path_in(f, "dir"), 0700), 0);
    assert_int_equal(symlink("target", path_in(f, "link")), 0);
    int fd = -1;
    assert_int_equal(mr__file_open_read(f->dir, "pipe", &fd, NULL), MR_E_DENIED);
    assert_int_equal(mr__file_open_read(f->dir, "dir", &fd, NULL), MR_E_DENIED);
    assert_int_equal(mr__file_open_read(NULL, "/dev/zero", &fd, NULL), MR_E_DENIED);
    int dir = open(f->dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(mr__file_open_append(dir, "pipe", &fd, NULL), MR_E_DENIED);
    assert_int_equal(mr__file_open_append(dir, "link", &fd, NULL), MR_E_DENIED);
    assert_true(mr__file_open_append(dir, "dir", &fd, NULL) != MR_OK);
    close(dir);
}

/* --- the cursor ------------------------------------------------------------------------------- */

static void test_cursor_round_trip_and_rubbish(void **state)
{
    (void)state;
    struct mr_file_position p = {.device = 66, .inode = UINT64_MAX, .at = 12345, .head = ~0u};
    char *text = mr__file_cursor(&p);
    struct mr_file_position q;
    assert_true(mr__file_read_cursor(text, &q));
    assert_memory_equal(&p.device, &q.device, 3 * sizeof(uint64_t));
    assert_int_equal(p.head, q.head);
    mr_free(text);
    static const char *const bad[] = {
        "", "{}", "{\"dev\":1}", "{\"dev\":1,\"ino\":2,\"at\":3,\"head\":4} ",
        "{\"dev\":1,\"ino\":2,\"at\":-3,\"head\":4}", "{\"dev\":1,\"ino\":2,\"at\":,\"head\":4}",
        "{\"dev\":1,\"ino\":2,\"at\":3,\"head\":99999999999}",
        "{\"dev\":99999999999999999999999,\"ino\":2,\"at\":3,\"head\":4}", "null"};
    assert_false(mr__file_read_cursor(NULL, &q));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(mr__file_read_cursor(bad[i], &q));
    }
}

/* --- the sink --------------------------------------------------------------------------------- */

static struct mr_target *open_sink(struct fixture *f, const char *path, uint64_t rotate,
                                   int64_t keep)
{
    const struct mr_config_kind *kind = &mr_connector_file.sink_kind;
    struct mr_file_sink_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(kind->options, &o), MR_OK);
    o.path = mr_strdup(path);
    o.rotate_size = rotate;
    o.keep = keep;
    struct mr_target_config config = {.concurrency = 32};
    struct mr_target_args args = {.host = &f->host.host,
                                  .name = "lines",
                                  .options = &o,
                                  .config = &config,
                                  .folder = f->dir};
    struct mr_target *target = NULL;
    assert_int_equal(snk->create(&args, &target, NULL), MR_OK);
    mr_options_release(kind->options, &o);
    assert_int_equal(snk->start(target, NULL), MR_OK);
    return target;
}

static void close_sink(struct mr_target *target)
{
    snk->stop(target, mr_clock_mono_ns() + MR_SECOND);
    snk->destroy(target);
}

static void submit(struct mr_target *target, int from, int count)
{
    struct mr_handout *first = NULL;
    struct mr_handout *last = NULL;
    for (int i = 0; i < count; i++) {
        struct mr_handout *handout = mr_handout_create();
        const char *text = line_of(from + i);
        assert_int_equal(mr_json_decode_event(mr_bytes(text, strlen(text) - 1), MR_EVENT_SIZE_MAX,
                                              &handout->event, NULL),
                         MR_OK);
        if (last == NULL) {
            first = handout;
        } else {
            last->op.next = &handout->op;
        }
        last = handout;
    }
    snk->submit(target, first);
}

static void expect_verdicts(struct fixture *f, uint32_t from, uint32_t count,
                            enum mr_verdict verdict)
{
    assert_true(test_host_wait(&f->host, HOST_ANSWERS, from + count));
    for (uint32_t i = from; i < from + count; i++) {
        if (f->host.answers[i]->answer.verdict != verdict) {
            fail_msg("%u: %s %s", i, mr_verdict_text(f->host.answers[i]->answer.verdict),
                     f->host.answers[i]->answer.error);
        }
    }
}

static void test_sink_appends_a_line_per_event(void **state)
{
    struct fixture *f = *state;
    append(f, "out.jsonl", "# mine\n");
    struct mr_target *target = open_sink(f, "out.jsonl", 0, 5);
    assert_true(test_host_wait(&f->host, HOST_CAPACITY, 32));
    submit(target, 0, 3);
    expect_verdicts(f, 0, 3, MR_VERDICT_OK);
    close_sink(target);
    char want[1024] = "# mine\n";
    for (int i = 0; i < 3; i++) {
        strncat(want, line_of(i), sizeof(want) - strlen(want) - 1);
    }
    assert_string_equal(read_all(f, "out.jsonl"), want);
}

static void test_sink_torn_last_line_is_ended_first(void **state)
{
    struct fixture *f = *state;
    append(f, "out.jsonl", "{\"torn");
    struct mr_target *target = open_sink(f, "out.jsonl", 0, 5);
    assert_true(test_host_wait(&f->host, HOST_CAPACITY, 32));
    submit(target, 0, 1);
    expect_verdicts(f, 0, 1, MR_VERDICT_OK);
    close_sink(target);
    assert_int_equal(strncmp(read_all(f, "out.jsonl"), "{\"torn\n{\"spec", 12), 0);
}

static void test_sink_rotates_by_size_and_keeps_so_many(void **state)
{
    struct fixture *f = *state;
    struct mr_target *target = open_sink(f, "out.jsonl", 4096, 2);
    assert_true(test_host_wait(&f->host, HOST_CAPACITY, 32));
    for (int i = 0; i < 10; i++) {
        submit(target, i * 20, 20); /* about 1.5 KiB each */
        expect_verdicts(f, (uint32_t)i * 20, 20, MR_VERDICT_OK);
    }
    close_sink(target);
    struct stat st;
    assert_int_equal(stat(path_in(f, "out.jsonl"), &st), 0);
    assert_true(st.st_size > 0 && st.st_size <= 4096);
    assert_int_equal(stat(path_in(f, "out.jsonl.1"), &st), 0);
    assert_true(st.st_size > 1024 && st.st_size <= 4096);
    assert_int_equal(stat(path_in(f, "out.jsonl.2"), &st), 0);
    assert_int_equal(stat(path_in(f, "out.jsonl.3"), &st), -1);
    char last[200];
    snprintf(last, sizeof(last), "%s", line_of(199));
    char *text = read_all(f, "out.jsonl");
    assert_string_equal(text + strlen(text) - strlen(last), last);
}

static void test_sink_renamed_by_others_begins_a_new_file(void **state)
{
    struct fixture *f = *state;
    struct mr_target *target = open_sink(f, "out.jsonl", 0, 5);
    assert_true(test_host_wait(&f->host, HOST_CAPACITY, 32));
    submit(target, 0, 1);
    expect_verdicts(f, 0, 1, MR_VERDICT_OK);
    assert_int_equal(rename(path_in(f, "out.jsonl"), path_in(f, "old.jsonl")), 0);
    submit(target, 1, 1);
    expect_verdicts(f, 1, 1, MR_VERDICT_OK);
    close_sink(target);
    assert_string_equal(read_all(f, "out.jsonl"), line_of(1));
    assert_string_equal(read_all(f, "old.jsonl"), line_of(0));
}

static void test_sink_that_cannot_open_has_no_capacity_then_recovers(void **state)
{
    struct fixture *f = *state;
    struct mr_target *target = open_sink(f, "dir/out.jsonl", 0, 5);
    assert_true(test_host_wait(&f->host, HOST_CAPACITY, 0));
    submit(target, 0, 1);
    expect_verdicts(f, 0, 1, MR_VERDICT_REFUSED);
    struct mr_health health;
    snk->health(target, &health);
    assert_int_equal(health.state, MR_HEALTH_DOWN);
    assert_non_null(strstr(health.last_error, "dir/out.jsonl"));
    assert_int_equal(mkdir(path_in(f, "dir"), 0700), 0);
    assert_true(test_host_wait(&f->host, HOST_CAPACITY, 32));
    submit(target, 1, 1);
    expect_verdicts(f, 1, 1, MR_VERDICT_OK);
    close_sink(target);
}

static void test_sink_short_write_is_retry_and_leaves_whole_lines(void **state)
{
    struct fixture *f = *state;
    struct mr_target *target = open_sink(f, "out.jsonl", 0, 5);
    assert_true(test_host_wait(&f->host, HOST_CAPACITY, 32));
    submit(target, 0, 1);
    expect_verdicts(f, 0, 1, MR_VERDICT_OK);
    /* A file size limit within the second line stands for the full disk. */
    struct rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit tight = {.rlim_cur = strlen(line_of(0)) + 20, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    submit(target, 1, 1);
    bool answered = test_host_wait(&f->host, HOST_ANSWERS, 2);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_true(answered);
    expect_verdicts(f, 1, 1, MR_VERDICT_RETRY);
    assert_string_equal(read_all(f, "out.jsonl"), line_of(0)); /* the half line was cut off */
    submit(target, 1, 1);
    expect_verdicts(f, 2, 1, MR_VERDICT_OK);
    close_sink(target);
    char want[512];
    snprintf(want, sizeof(want), "%s", line_of(0));
    strncat(want, line_of(1), sizeof(want) - strlen(want) - 1);
    assert_string_equal(read_all(f, "out.jsonl"), want);
}

static void test_sink_after_stop_refuses(void **state)
{
    struct fixture *f = *state;
    struct mr_target *target = open_sink(f, "out.jsonl", 0, 5);
    snk->stop(target, mr_clock_mono_ns() + MR_SECOND);
    submit(target, 0, 2);
    expect_verdicts(f, 0, 2, MR_VERDICT_REFUSED);
    snk->destroy(target);
}

static void test_sink_standard_input_is_no_place_to_write(void **state)
{
    (void)state;
    char dash[] = "-";
    struct mr_file_sink_options o = {.path = dash};
    struct mr_problem problem = {.text = ""};
    assert_int_equal(mr__file_check_sink(&o, &problem), MR_E_INVALID);
}

#define T(name) cmocka_unit_test_setup_teardown(name, make_fixture, free_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_source_existing_lines_come_in_order),
        T(test_source_follows_what_is_appended),
        T(test_source_half_line_waits_for_its_rest),
        T(test_source_file_that_comes_later_is_waited_for),
        T(test_source_restart_goes_on_at_the_cursor),
        T(test_source_refused_batch_moves_no_cursor_and_comes_again),
        T(test_source_not_durable_at_stop_reads_again_after_restart),
        T(test_source_rotation_loses_nothing),
        T(test_source_rotation_last_line_without_end_is_taken),
        T(test_source_rotated_while_off_reads_the_rest_first),
        T(test_source_rotated_twice_while_off_reads_all_in_order),
        T(test_source_rotated_twice_while_it_reads_loses_nothing),
        T(test_source_cut_file_is_read_from_its_start),
        T(test_source_rewritten_while_off_is_read_from_its_start),
        T(test_source_from_end_skips_what_was_there),
        T(test_source_without_follow_ends_with_the_last_line),
        T(test_source_bad_lines_are_rejected_good_ones_come),
        T(test_source_endless_line_is_rejected_and_bounded),
        T(test_source_generic_wraps_lines_with_stable_ids),
        T(test_source_paused_reads_nothing),
        T(test_source_paths_that_lead_out_are_refused),
        T(test_open_symbolic_link_out_of_the_folder_is_denied),
        T(test_open_what_is_no_regular_file_is_denied),
        T(test_cursor_round_trip_and_rubbish),
        T(test_sink_appends_a_line_per_event),
        T(test_sink_torn_last_line_is_ended_first),
        T(test_sink_rotates_by_size_and_keeps_so_many),
        T(test_sink_renamed_by_others_begins_a_new_file),
        T(test_sink_that_cannot_open_has_no_capacity_then_recovers),
        T(test_sink_short_write_is_retry_and_leaves_whole_lines),
        T(test_sink_after_stop_refuses),
        T(test_sink_standard_input_is_no_place_to_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
