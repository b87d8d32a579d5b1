/* A fake engine for the tests of worker runtimes: it makes targets from a few words, hands events
 * out, and keeps what comes back. Every wait is for a condition with a deadline. */
#ifndef MR_TESTS_UNIT_WORKERS_BENCH_H
#define MR_TESTS_UNIT_WORKERS_BENCH_H

#include "tests/support/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "connectors/connector.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/logger.h"
#include "schemas/json_format.h"
#include "tests/support/folder.h"
#include "workers/exec/exec.h"
#include "workers/process/process.h"
#include "workers/registry.h"

#define WAIT_SECONDS 30

struct bench {
    struct mr_host host; /* first: the host's calls get the bench */
    pthread_mutex_t mu;
    pthread_cond_t changed;
    struct mr_handout *answers; /* chain, oldest first */
    struct mr_handout **answers_end;
    uint32_t answer_count;
    uint32_t beats;
    uint32_t capacity;
    uint32_t capacity_calls;
    uint32_t capacity_max; /* largest ever told */
    uint32_t target_index;
    const struct mr_target_ops *ops;
    struct mr_target *target;
    struct mr_target_config config;
    struct mr_process_options process;
    struct mr_exec_options exec;
    char folder[FOLDER_PATH_SIZE];
    uint64_t offset;
};

static void bench_answer(struct mr_host *host, struct mr_handout *first)
{
    struct bench *b = (struct bench *)host;
    pthread_mutex_lock(&b->mu);
    while (first != NULL) {
        struct mr_handout *next = (struct mr_handout *)first->op.next;
        first->op.next = NULL;
        *b->answers_end = first;
        b->answers_end = (struct mr_handout **)(void *)&first->op.next;
        b->answer_count++;
        first = next;
    }
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mu);
}

static void bench_heartbeat(struct mr_host *host, const struct mr_handout *handout)
{
    struct bench *b = (struct bench *)host;
    (void)handout;
    pthread_mutex_lock(&b->mu);
    b->beats++;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mu);
}

static void bench_capacity(struct mr_host *host, uint32_t target, uint32_t slots)
{
    struct bench *b = (struct bench *)host;
    pthread_mutex_lock(&b->mu);
    b->capacity = slots;
    b->capacity_calls++;
    b->capacity_max = slots > b->capacity_max ? slots : b->capacity_max;
    b->target_index = target;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mu);
}

static void bench_submit(struct mr_host *host, struct mr_batch *batch)
{
    (void)host;
    (void)batch;
    abort(); /* no target submits */
}

static const struct mr_host_ops bench_host_ops = {
    .submit = bench_submit,
    .answer = bench_answer,
    .heartbeat = bench_heartbeat,
    .capacity = bench_capacity,
};

/* Waits until @p done says yes, at most WAIT_SECONDS; woken by every call of the target, and every
 * 5 ms for what the target does not tell (files, /proc). */
#define bench_wait(b, done)                                                                        \
    do {                                                                                           \
        uint64_t until_ = mr_clock_mono_ns() + WAIT_SECONDS * MR_SECOND;                           \
        pthread_mutex_lock(&(b)->mu);                                                              \
        while (!(done) && mr_clock_mono_ns() < until_) {                                           \
            struct timespec at_;                                                                   \
            clock_gettime(CLOCK_REALTIME, &at_);                                                   \
            at_.tv_nsec += 5000000;                                                                \
            if (at_.tv_nsec >= 1000000000) {                                                       \
                at_.tv_nsec -= 1000000000;                                                         \
                at_.tv_sec++;                                                                      \
            }                                                                                      \
            pthread_cond_timedwait(&(b)->changed, &(b)->mu, &at_);                                 \
        }                                                                                          \
        bool ok_ = (done);                                                                         \
        pthread_mutex_unlock(&(b)->mu);                                                            \
        if (!ok_) {                                                                                \
            fail_msg("waited in vain for: %s", #done);                                             \
        }                                                                                          \
    } while (0)

static inline char **bench_words(uint32_t *ret_count, const char *const *words)
{
    uint32_t count = 0;
    while (words[count] != NULL) {
        count++;
    }
    char **copy = calloc(count + 1, sizeof(*copy));
    for (uint32_t i = 0; i < count; i++) {
        copy[i] = strdup(words[i]);
    }
    *ret_count = count;
    return copy;
}

static inline void bench_free_strings(struct mr_strings *strings)
{
    for (uint32_t i = 0; i < strings->count; i++) {
        free(strings->items[i]);
    }
    free(strings->items);
    *strings = (struct mr_strings){0};
}

static inline void bench_init(struct bench *b)
{
    memset(b, 0, sizeof(*b));
    b->host.ops = &bench_host_ops;
    pthread_mutex_init(&b->mu, NULL);
    pthread_cond_init(&b->changed, NULL);
    b->answers_end = &b->answers;
    folder_make(b->folder, "workers");
    b->config = (struct mr_target_config){.is_worker = true,
                                          .concurrency = 1,
                                          .timeout_ns = 30 * MR_SECOND,
                                          .max_run_ns = MR_HOUR,
                                          .grace_ns = 2 * MR_SECOND,
                                          .scale_min = 1,
                                          .scale_max = 1,
                                          .scale_idle_ns = MR_MINUTE};
}

/* Writes an executable file into the bench's folder. */
static inline void bench_file(struct bench *b, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", b->folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    fclose(file);
    chmod(path, 0700);
}

static inline bool bench_has_file(struct bench *b, const char *name)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", b->folder, name);
    return access(path, F_OK) == 0;
}

static inline void bench_env(struct bench *b, const char *name, const char *value)
{
    const char *const names[] = {name, NULL};
    const char *const values[] = {value, NULL};
    struct mr_pairs *env = &b->process.env;
    env->keys.items = bench_words(&env->keys.count, names);
    env->values.items = bench_words(&env->values.count, values);
}

static inline enum mr_status bench_try_create(struct bench *b, const struct mr_connector *kind,
                                              const char *const *command,
                                              struct mr_problem *problem)
{
    struct mr_strings words = {0};
    words.items = bench_words(&words.count, command);
    b->process.command = words;
    b->exec.command = words;
    b->exec.env = b->process.env;
    b->exec.cwd = b->process.cwd;
    b->ops = kind->worker;
    struct mr_target_args args = {.host = &b->host,
                                  .index = 7,
                                  .name = "thumbs",
                                  .options = kind == &mr_worker_exec ? (const void *)&b->exec
                                                                     : (const void *)&b->process,
                                  .config = &b->config,
                                  .folder = b->folder,
                                  .generation = 42};
    enum mr_status r = b->ops->create(&args, &b->target, problem);
    bench_free_strings(&b->process.command);
    bench_free_strings(&b->process.env.keys);
    bench_free_strings(&b->process.env.values);
    b->exec = (struct mr_exec_options){0};
    return r;
}

static inline void bench_start(struct bench *b, const struct mr_connector *kind,
                               const char *const *command)
{
    struct mr_problem problem = {.text = ""};
    assert_int_equal(bench_try_create(b, kind, command, &problem), MR_OK);
    assert_int_equal(b->ops->start(b->target, &problem), MR_OK);
}

/* python3 with @p script, which can import the SDK. */
static inline void bench_start_python(struct bench *b, const char *script)
{
    bench_file(b, "worker.py", script);
    bench_env(b, "PYTHONPATH", MR_SOURCE_DIR "/workers/sdk/python");
    const char *const command[] = {"python3", "-B", "worker.py", NULL};
    bench_start(b, &mr_worker_process, command);
}

static inline void bench_start_shell(struct bench *b, const struct mr_connector *kind,
                                     const char *script)
{
    bench_file(b, "worker.sh", script);
    const char *const command[] = {"/bin/sh", "worker.sh", NULL};
    bench_start(b, kind, command);
}

static inline struct mr_event *bench_event(const char *json)
{
    struct mr_event *event = NULL;
    struct mr_problem problem = {.text = ""};
    if (mr_json_decode_event(mr_bytes_of(json), MR_EVENT_SIZE_MAX, &event, &problem) != MR_OK) {
        fail_msg("test event: %s", problem.text);
    }
    return event;
}

#define BENCH_EVENT                                                                                \
    "{\"specversion\":\"1.0\",\"id\":\"e1\",\"source\":\"/s\",\"type\":\"t.x\","                       \
    "\"subject\":\"a b\",\"data\":{\"n\":1}}"

static inline struct mr_handout *bench_handout(struct bench *b, const char *json)
{
    struct mr_handout *h = mr_handout_create();
    assert_non_null(h);
    h->event = bench_event(json == NULL ? BENCH_EVENT : json);
    h->offset = ++b->offset;
    h->subscription = 3;
    h->fence = 1;
    h->attempt = 1;
    h->timeout_ns = b->config.timeout_ns;
    h->deadline_wall_ns = mr_clock_now().wall_ns + h->timeout_ns;
    snprintf(h->name, sizeof(h->name), "sub");
    snprintf(h->delivery, sizeof(h->delivery), "sub:%llu", (unsigned long long)h->offset);
    return h;
}

/* Hands @p count events out once the target has room for all of them. */
static inline void bench_hand(struct bench *b, uint32_t count, const char *json)
{
    bench_wait(b, b->capacity >= count);
    struct mr_handout *first = NULL;
    struct mr_handout *last = NULL;
    for (uint32_t i = 0; i < count; i++) {
        struct mr_handout *h = bench_handout(b, json);
        if (first == NULL) {
            first = h;
        } else {
            last->op.next = &h->op;
        }
        last = h;
    }
    b->ops->submit(b->target, first);
}

/* The next answer, in the order they came; mr_handout_destroy it. */
static inline struct mr_handout *bench_take(struct bench *b)
{
    bench_wait(b, b->answers != NULL);
    pthread_mutex_lock(&b->mu);
    struct mr_handout *h = b->answers;
    b->answers = (struct mr_handout *)h->op.next;
    if (b->answers == NULL) {
        b->answers_end = &b->answers;
    }
    h->op.next = NULL;
    pthread_mutex_unlock(&b->mu);
    return h;
}

static inline void bench_expect(struct bench *b, enum mr_verdict verdict, const char *error_part)
{
    struct mr_handout *h = bench_take(b);
    if (h->answer.verdict != verdict) {
        fail_msg("verdict %s, wanted %s (%s)", mr_verdict_text(h->answer.verdict),
                 mr_verdict_text(verdict), h->answer.error == NULL ? "-" : h->answer.error);
    }
    if (error_part != NULL &&
        (h->answer.error == NULL || strstr(h->answer.error, error_part) == NULL)) {
        fail_msg("error \"%s\" lacks \"%s\"", h->answer.error == NULL ? "-" : h->answer.error,
                 error_part);
    }
    mr_handout_destroy(h);
}

static inline struct mr_health bench_health(struct bench *b)
{
    struct mr_health health;
    memset(&health, 0, sizeof(health));
    b->ops->health(b->target, &health);
    return health;
}

/* Children of this process that are left: none but threads' own may be. */
static inline unsigned bench_children(void)
{
    unsigned count = 0;
    DIR *proc = opendir("/proc");
    assert_non_null(proc);
    for (struct dirent *entry = readdir(proc); entry != NULL; entry = readdir(proc)) {
        char path[300];
        char line[512] = "";
        snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
        FILE *file = entry->d_name[0] < '0' || entry->d_name[0] > '9' ? NULL : fopen(path, "r");
        if (file == NULL) {
            continue;
        }
        const char *got = fgets(line, sizeof(line), file);
        fclose(file);
        const char *behind = got == NULL ? NULL : strrchr(line, ')');
        int parent = 0;
        if (behind != NULL && sscanf(behind, ") %*c %d", &parent) == 1 && parent == getpid()) {
            count++;
        }
    }
    closedir(proc);
    return count;
}

/* Processes whose environment carries @p entry: what a worker left behind, adopted by anybody. */
static inline unsigned bench_with_env(const char *entry)
{
    unsigned count = 0;
    DIR *proc = opendir("/proc");
    assert_non_null(proc);
    for (struct dirent *d = readdir(proc); d != NULL; d = readdir(proc)) {
        char path[300];
        static char text[65536];
        snprintf(path, sizeof(path), "/proc/%s/environ", d->d_name);
        FILE *file = d->d_name[0] < '0' || d->d_name[0] > '9' ? NULL : fopen(path, "r");
        if (file == NULL) {
            continue;
        }
        size_t size = fread(text, 1, sizeof(text), file);
        fclose(file);
        count += memmem(text, size, entry, strlen(entry)) != NULL;
    }
    closedir(proc);
    return count;
}

static inline void bench_stop(struct bench *b, uint64_t within_ns)
{
    if (b->target != NULL) {
        b->ops->stop(b->target, mr_clock_mono_ns() + within_ns);
        b->ops->destroy(b->target);
        b->target = NULL;
    }
}

/* Stops, and checks that nothing is left: no process, no answer nobody looked at. */
static inline void bench_release(struct bench *b)
{
    bench_stop(b, 10 * MR_SECOND);
    assert_int_equal(bench_children(), 0);
    uint32_t unseen = 0;
    while (b->answers != NULL) {
        struct mr_handout *h = b->answers;
        b->answers = (struct mr_handout *)h->op.next;
        mr_handout_destroy(h);
        unseen++;
    }
    folder_remove(b->folder);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->mu);
    assert_int_equal(unseen, 0);
}

#endif
