/* The library for workers in C when memory is short: each of its allocations fails, that one or all
 * from then on. What else it does is the conformance program's part. */
#include <stdbool.h>
#include <stdlib.h>

static size_t allocations_left;
static bool for_ever; /* out of memory once, or from then on */
static bool ran_out;
static long live;

static bool is_out_of_memory(void)
{
    bool out = allocations_left == 0 && (for_ever || !ran_out);
    ran_out = ran_out || out;
    allocations_left -= allocations_left > 0;
    return out;
}

static void *test_realloc(void *old, size_t size)
{
    void *p = is_out_of_memory() ? NULL : realloc(old, size);
    live += old == NULL && p != NULL;
    return p;
}

static void *test_calloc(size_t count, size_t size)
{
    void *p = is_out_of_memory() ? NULL : calloc(count, size);
    live += p != NULL;
    return p;
}

static void test_free(void *p)
{
    live -= p != NULL;
    free(p);
}

#define malloc(size) test_realloc(NULL, size)
#define calloc test_calloc
#define realloc test_realloc
#define free test_free
#include "workers/sdk/c/millrace.c"
#undef malloc
#undef calloc
#undef realloc
#undef free

#include <pthread.h>

#include "tests/support/test.h"

#define DELIVERY(id) \
    "{\"delivery\":\"s:" id "\",\"attempt\":2,\"last\":true,\"deadline\":\"2030-01-01T00:00:00Z\"," \
    "\"event\":{\"specversion\":\"1.0\",\"id\":\"" id "\",\"source\":\"/t\",\"type\":\"t\"," \
    "\"x\":\"\\u00e4\",\"data\":{\"n\":1}}}\n"

static const char input[] =
    "{\"millrace\":1,\"max\":4}\n"
    "{\"batch\":7,\"count\":3         }\n" DELIVERY("a") DELIVERY("b") DELIVERY("c")
    "{\"cancel\":\"s:b\"}\n" DELIVERY("d")
    "{\"batch\":8,\"count\":2}\n" DELIVERY("e") DELIVERY("f")
    "{\"stop\":true}\n";

static const char hello[] = "{\"millrace\":1,\"max\":4,\"features\":[\"cancel\",\"progress\","
                            "\"batch\"],\"version\":\"1.0\"}";
static const char *const answers[] = { /* in this order, and nothing else between them */
    hello,
    "{\"heartbeat\":\"s:a\",\"progress\":1}",
    "{\"delivery\":\"s:a\",\"verdict\":\"ok\",\"events\":[{},{}],\"data\":[1]}",
    "{\"delivery\":\"s:b\",\"verdict\":\"retry\",\"error\":\"busy\",\"after\":2.500}",
    "{\"batch\":7,\"verdict\":\"ok\"}",
    "{\"delivery\":\"s:d\",\"verdict\":\"dead\"}",
    "{\"delivery\":\"s:e\",\"verdict\":\"drop\"}",
    "{\"batch\":8,\"verdict\":\"retry\",\"error\":\"all\"}",
};

/* 0 unless memory was short for something it said. */
static int say_of(struct millrace_delivery *d)
{
    const char *x = millrace_attribute(d, "x");
    int failed = 0;
    switch (d->id[0]) {
    case 'a':
        failed = millrace_heartbeat(d, "1") != 0 || millrace_emit(d, "{}") != 0 ||
                 millrace_emit(d, "{}") != 0 || millrace_result(d, "[1]") != 0;
        break;
    case 'b':
        failed = millrace_error(d, "busy") != 0 || millrace_after(d, 2.5) != 0;
        millrace_answer(d, MILLRACE_RETRY);
        break;
    case 'd':
        millrace_answer(d, MILLRACE_DEAD);
        break;
    case 'e':
        millrace_answer(d, MILLRACE_DROP);
        break;
    case 'f':
        failed = millrace_error(d, "all") != 0;
        break;
    default:
        break;
    }
    bool whole = strcmp(x, "\xc3\xa4") == 0 && d->attempt == 2 && d->last &&
                 strcmp(d->data, "{\"n\":1}") == 0 && strcmp(d->type, "t") == 0;
    return failed || !whole;
}

static enum millrace_verdict handle(struct millrace_delivery *batch, size_t count, void *context)
{
    bool *fails = context; /* the handler was told that memory is short */
    for (size_t i = 0; i < count; i++) {
        *fails = *fails || say_of(&batch[i]) != 0;
        *fails = *fails || (batch[i].id[0] == 'b' && !millrace_cancelled(&batch[i]));
    }
    return batch[0].id[0] == 'e' ? MILLRACE_RETRY : MILLRACE_OK;
}

struct session {
    int ours;
    int theirs;
};

static struct session open_session(void)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    return (struct session){ends[0], ends[1]};
}

/* All that the worker said; it has ended. */
static size_t read_all(int fd, char *into, size_t size)
{
    size_t count = 0;
    ssize_t n;
    while (count < size && (n = recv(fd, into + count, size - count, 0)) > 0) {
        count += (size_t)n;
    }
    into[count] = '\0';
    return count;
}

/* Whatever it could say are whole answers, the first ones. */
static size_t count_answers(char *said)
{
    size_t count = 0;
    char *newline;
    for (; (newline = strchr(said, '\n')) != NULL; said = newline + 1) {
        *newline = '\0';
        assert_in_range(count, 0, sizeof(answers) / sizeof(answers[0]) - 1);
        assert_string_equal(said, answers[count]);
        count++;
    }
    assert_string_equal(said, "");
    return count;
}

/* @return whether it did all there was to do */
static bool run_with(size_t allocations)
{
    struct session s = open_session();
    struct millrace_options options = {.fd = s.theirs, .max = 4, .version = "1.0"};
    bool fails = false;
    char said[4096];
    assert_int_equal(send(s.ours, input, sizeof(input) - 1, 0), sizeof(input) - 1);
    allocations_left = allocations;
    ran_out = false;
    int code = millrace_run_batch_with(handle, &fails, &options);
    assert_int_equal(live, 0);
    close(s.theirs);
    size_t size = read_all(s.ours, said, sizeof(said) - 1);
    close(s.ours);
    if (!fails) { /* what a handler could not say, it could not say */
        size_t count = count_answers(said);
        assert_int_equal(code, count != sizeof(answers) / sizeof(answers[0]));
    } else {
        assert_true(ran_out);
        assert_true(size == 0 || said[size - 1] == '\n');
    }
    return !ran_out;
}

static void test_run_without_memory_says_nothing_false(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++) {
        size_t allocations = 0;
        for_ever = round == 1;
        while (!run_with(allocations)) {
            allocations++;
        }
        assert_true(allocations > 50);
    }
}

static void *write_for_ever(void *fd)
{
    char chunk[4096];
    memset(chunk, 'x', sizeof(chunk));
    while (send(*(int *)fd, chunk, sizeof(chunk), MSG_NOSIGNAL) > 0) {
    }
    return NULL;
}

static void test_run_ends_at_a_frame_without_end(void **state)
{
    (void)state;
    struct session s = open_session();
    struct millrace_options options = {.fd = s.theirs};
    bool fails = false;
    pthread_t writer;
    allocations_left = SIZE_MAX;
    assert_int_equal(pthread_create(&writer, NULL, write_for_ever, &s.ours), 0);
    assert_int_equal(millrace_run_batch_with(handle, &fails, &options), 1);
    assert_int_equal(live, 0);
    close(s.theirs);
    assert_int_equal(pthread_join(writer, NULL), 0);
    close(s.ours);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run_without_memory_says_nothing_false),
        cmocka_unit_test(test_run_ends_at_a_frame_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
