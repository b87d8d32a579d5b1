/* sim_planted --planted [--seeds A..B]: each planted bug must be caught, in a process of its own.
 *
 * sim --seeds A..B [--seconds N] [--crash-points N] [--all-faults]
 * sim --seed N [--export DIR] [--perturb] [--verbose]
 *
 * Runs every seed twice, compares the traces, and prints what was counted. */
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bus/planted.h"
#include "core/assert.h"
#include "core/hash.h"
#include "core/logger.h"
#include "sim.h"

#define SEED_SECONDS_MAX 20 /* of the processor, however busy that is; a seed takes milliseconds */
#define KEYS_FEW 8u

uint64_t sim_fired[SIM_FAULT_MAX];
uint64_t sim_points_made;
bool sim_verbose;
const char *sim_export;

static const char *program = "sim";
static volatile uint64_t running_seed;

void sim_fail(const struct sim_world *world, const char *format, ...)
{
    printf("sim: FAILED seed %" PRIu64 " at %.6f s, step %" PRIu64 ", crash point %" PRIu64 ": ",
           world->seed, (double)world->time_ns / 1e9, world->steps, world->points);
    va_list args;
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    printf("\nsim: replay: %s --seed %" PRIu64 " --verbose\n", program, world->seed);
    (void)fflush(stdout);
    _exit(1);
}

/* An assertion of the bus itself: say which seed it was. */
static void on_abort(int number)
{
    (void)number;
    char text[256];
    int n = snprintf(text, sizeof(text),
                     "\nsim: FAILED seed %" PRIu64 ": the bus stopped itself\nsim: replay: %s "
                     "--seed %" PRIu64 " --verbose\n",
                     running_seed, program, running_seed);
    if (n > 0) {
        (void)!write(STDOUT_FILENO, text, (size_t)n);
    }
    _exit(1);
}

static void bound_seconds(int seconds)
{
    const struct itimerval bound = {.it_value = {.tv_sec = seconds}};
    (void)setitimer(ITIMER_PROF, &bound, NULL); /* cannot fail with these */
}

/* A seed that does not end is a failure too. */
static void on_alarm(int number)
{
    (void)number;
    char text[256];
    int n = snprintf(text, sizeof(text),
                     "\nsim: FAILED seed %" PRIu64 ": it does not end\nsim: replay: %s --seed %" PRIu64
                     " --verbose\n",
                     running_seed, program, running_seed);
    if (n > 0) {
        (void)!write(STDOUT_FILENO, text, (size_t)n);
    }
    _exit(1);
}

/* --- what a seed turns on --------------------------------------------------------------------- */

static uint32_t some(struct mr_rng *rng, uint32_t max)
{
    return mr_rng_chance(rng, 1, 2) ? (uint32_t)mr_rng_below(rng, max + 1) : 0;
}

/* What a start tells of itself makes sense. */
static bool watch_progress(void *context, const char *of, uint64_t done, uint64_t total)
{
    MR_ASSERT(context == NULL && of != NULL && done <= total);
    return true;
}

static void choose_swarm(struct mr_rng *rng, struct sim_swarm *w)
{
    static const uint64_t io[] = {MR_MS, 5 * MR_MS, 20 * MR_MS, 100 * MR_MS};
    static const uint64_t work[] = {MR_MS, 20 * MR_MS, 500 * MR_MS};
    *w = (struct sim_swarm){
        .steps_max = 200 + (uint32_t)mr_rng_below(rng, 800),
        .messages = 4 + (uint32_t)mr_rng_below(rng, 60),
        .batch_max = 1 + (uint32_t)mr_rng_below(rng, 6),
        .crash_point_chance = 1024,
        .crash_points_each = 4,
        .io_ns = io[mr_rng_below(rng, MR_ARRAY_COUNT(io))],
        .work_ns = work[mr_rng_below(rng, MR_ARRAY_COUNT(work))],
        .operator_every_ms = 20 + (uint32_t)mr_rng_below(rng, 2000),
        .calm = mr_rng_chance(rng, 1, 16),
    };
    if (w->calm) {
        return;
    }
    w->crash_chance = some(rng, 60);
    w->kill_share = (uint32_t)mr_rng_below(rng, 1025);
    w->loop_chance = some(rng, 700);
    w->v_retry = some(rng, 400);
    w->v_after = some(rng, 512);
    w->v_drop = some(rng, 200);
    w->v_dead = some(rng, 300);
    w->v_refused = some(rng, 300);
    w->v_crash = some(rng, 300);
    w->v_suspects = some(rng, 700);
    w->v_slow = some(rng, 200);
    w->v_emit = some(rng, 400);
    w->reload_chance = some(rng, 600);
    w->clock_chance = some(rng, 100);
    w->write_error_chance = mr_rng_chance(rng, 1, 4) ? some(rng, 20) : 0;
    w->sync_error_chance = mr_rng_chance(rng, 1, 4) ? some(rng, 20) : 0;
    w->full_chance = mr_rng_chance(rng, 1, 4) ? some(rng, 100) : 0;
    w->low_chance = mr_rng_chance(rng, 1, 4) ? some(rng, 300) : 0;
    w->reject_chance = mr_rng_chance(rng, 1, 4) ? some(rng, 200) : 0;
    w->repeat_chance = some(rng, 400);
    w->capacity_chance = some(rng, 300);
    w->read_error_chance = mr_rng_chance(rng, 1, 8) ? some(rng, 100) : 0;
    w->rot = mr_rng_chance(rng, 1, 12);
    w->rubbish = mr_rng_chance(rng, 1, 2);
}

static void choose_options(struct mr_rng *rng, struct mr_bus_options *o)
{
    static const uint64_t segments[] = {64, 64, 96, 128, 256, 256};
    static const uint64_t checkpoints[] = {4, 16, 64, 256, 100000};
    static const uint64_t caches[] = {4, 32, 256, 4096};
    uint64_t segment = segments[mr_rng_below(rng, MR_ARRAY_COUNT(segments))] * MR_KIB;
    *o = (struct mr_bus_options){
        .log = {.sync = MR_SYNC_ALWAYS,
                .sync_interval_ns = 100 * MR_MS,
                .segment_size = segment,
                .max_size = mr_rng_chance(rng, 1, 8) ? 8 * segment : 64 * MR_MIB,
                .retain_size = mr_rng_chance(rng, 1, 8) ? 64 * MR_MIB
                                                        : mr_rng_below(rng, 4) * segment,
                .retain_age_ns = mr_rng_chance(rng, 1, 4) ? MR_SECOND : MR_DAY,
                .disk_low = 64 * MR_KIB,
                .cache_size = caches[mr_rng_below(rng, MR_ARRAY_COUNT(caches))] * MR_KIB,
                .checkpoint_size =
                    checkpoints[mr_rng_below(rng, MR_ARRAY_COUNT(checkpoints))] * MR_KIB},
        .memory_state = 64 * MR_MIB,
        .first_segment_size = mr_rng_chance(rng, 1, 2) ? 64 * MR_KIB : 0,
        .group_size_soft = mr_rng_chance(rng, 1, 2) ? 4096 : 32 * MR_KIB,
        .ahead = 1 + (uint32_t)mr_rng_below(rng, 8),
        .linger_ns = mr_rng_chance(rng, 1, 2) ? 1 : 5 * MR_MS,
        .progress = watch_progress,
    };
    static const uint64_t most[] = {0, 0, 2, 12};
    o->fanouts_open_max = most[o->ahead % 4]; /* not drawn */
    static const uint32_t chunks[] = {80, 200, 600, 0};
    o->checkpoint_chunk = chunks[(o->ahead + segment / (32 * MR_KIB)) % 4]; /* likewise */
    if (mr_rng_chance(rng, 1, 8)) {
        o->log.sync = mr_rng_chance(rng, 3, 4) ? MR_SYNC_INTERVAL : MR_SYNC_NEVER;
    }
}

/* From numbers of its own: steps and memory so small that those who are behind take turns, and what
 * is read for them gives way. */
static void choose_reading(uint64_t seed, struct mr_bus_options *o)
{
    static const uint32_t most[] = {0, 0, 1, 3, 20, 200};
    static const uint64_t memory[] = {0, 1, 16 * MR_KIB, 64 * MR_KIB, 512 * MR_KIB};
    struct mr_rng rng;
    mr_rng_init(&rng, seed * 40503u + 5);
    o->walk_max = most[mr_rng_below(&rng, MR_ARRAY_COUNT(most))];
    o->read_memory = memory[mr_rng_below(&rng, MR_ARRAY_COUNT(memory))];
}

/* Not drawn either: most seeds are what they are without. */
static void choose_scrub(uint64_t seed, const struct sim_swarm *swarm, struct mr_bus_options *o)
{
    static const uint32_t pieces[] = {1, 8 * MR_KIB, 32 * MR_KIB, 0};
    uint64_t number = mr_hash_u64(seed + 43);
    bool rots = swarm->rot || mr_hash_u64(seed * 31 + 5) % 12 == 0; /* the latter one of two disks:
                                                                       sim_mirror.c */
    if (number % 4 == 0 || rots) {
        o->log.scrub_ns = 100 * MR_MS << (number / 4 % 6);
        o->scrub_piece = pieces[number / 32 % MR_ARRAY_COUNT(pieces)];
    }
}

/* Little at times: from numbers of its own, so that the rest of a seed stays what it is. */
static void choose_memory(uint64_t seed, struct sim_spec *spec, struct mr_bus_options *o)
{
    static const uint64_t shares[] = {1536, 2048, 4096};
    struct mr_rng rng;
    mr_rng_init(&rng, seed * 7919u + 13);
    bool keys = false; /* so many that they would be forgotten early, which the oracle does not */
    for (uint32_t i = 0; i < SIM_SOURCES; i++) {
        keys |= spec->dedupe[i].window_ns > 0 && spec->dedupe[i].keys > KEYS_FEW;
    }
    if (!mr_rng_chance(&rng, 1, 2) || keys) {
        return;
    }
    struct mr_config *config = sim_config_create(spec, &o->log);
    uint64_t share = shares[mr_rng_below(&rng, MR_ARRAY_COUNT(shares))];
    o->memory_state = 24 * MR_KIB;
    while (mr_memory_parts(config, o->memory_state).share < share) {
        o->memory_state += 4 * MR_KIB;
    }
    spec->windows_wide = mr_rng_chance(&rng, 2, 3);
    sim_config_destroy(config);
}

struct sim_world *sim_world_create(uint64_t seed)
{
    struct sim_world *world = calloc(1, sizeof(*world));
    MR_ASSERT(world != NULL);
    world->seed = seed;
    mr_rng_init(&world->rng, seed);
    choose_swarm(&world->rng, &world->swarm);
    choose_options(&world->rng, &world->options);
    choose_reading(seed, &world->options);
    if (world->options.log.sync == MR_SYNC_NEVER) {
        world->swarm.sync_error_chance = 0; /* they stand for power cuts */
    }
    /* Not drawn: half of the seeds have none and stay what they are without. */
    world->options.footers_off = mr_hash_u64(seed + 41) % 2 == 0;
    choose_scrub(seed, &world->swarm, &world->options);
    sim_spec_random(&world->rng, world->swarm.calm, &world->spec);
    choose_memory(seed, &world->spec, &world->options);
    world->disk = sim_disk_create(mr_rng_next(&world->rng), 1u << 16);
    world->disk->rubbish = world->swarm.rubbish;
    sim_disks_choose(world);
    world->oracle = oracle_create(world, world->options.log.sync == MR_SYNC_ALWAYS);
    world->wall_base_ns = SIM_WALL_START_NS;
    world->time_ns = SIM_TIME_START_NS;
    world->boot_id = 1;
    for (uint32_t t = 0; t < SIM_TARGETS; t++) {
        world->capacity[t] = 1 + (uint32_t)mr_rng_below(&world->rng, 6);
    }
    return world;
}

/* --- runs ------------------------------------------------------------------------------------- */

static uint64_t run_once(uint64_t seed, bool points)
{
    running_seed = seed;
    bound_seconds(SEED_SECONDS_MAX);
    struct sim_world *world = sim_world_create(seed);
    if (!points) {
        world->swarm.crash_points_each = 0; /* they leave the run as it is */
    }
    sim_world_run(world);
    uint64_t trace = world->trace;
    sim_fired[SIM_WRITE_ERROR] += world->disk->fired_write;
    sim_fired[SIM_SYNC_ERROR] += world->disk->fired_sync;
    sim_fired[SIM_READ_ERROR] += world->disk->fired_read;
    sim_fired[SIM_DISK_FULL] += world->disk->fired_full;
    sim_world_destroy(world);
    return trace;
}

/* Fresh memory is filled, and otherwise in each of the two runs: what depends on it differs. */
static bool perturb;

static void run_seed(uint64_t seed)
{
    (void)mallopt(M_PERTURB, perturb ? 0x5a : 0);
    uint64_t first = run_once(seed, true);
    (void)mallopt(M_PERTURB, perturb ? 0xa5 : 0);
    uint64_t second = run_once(seed, false);
    if (first != second) {
        printf("sim: FAILED seed %" PRIu64 ": two runs of it differ\n", seed);
        exit(1);
    }
}

static const char *const fault_texts[] = {
#define TEXT(name, text) text,
    SIM_FAULT_LIST(TEXT)
#undef TEXT
};

static bool report(uint64_t seeds, bool all_faults)
{
    uint64_t sum = 0;
    bool all = true;
    for (unsigned i = 0; i < SIM_FAULT_MAX; i++) {
        sum += sim_fired[i];
        printf("  %-36s %12" PRIu64 "\n", fault_texts[i], sim_fired[i]);
        if (sim_fired[i] == 0 && all_faults) {
            printf("sim: FAILED: \"%s\" never happened\n", fault_texts[i]);
            all = false;
        }
    }
    printf("sim: %" PRIu64 " seeds, %" PRIu64 " crash points, %" PRIu64 " faults fired\n", seeds,
           sim_points_made, sum);
    return all;
}

/* --- planted bugs ----------------------------------------------------------------------------- */

#ifdef MR_PLANTED_BUGS

int mr_planted_bug;

/* The child's last words: the line that says what failed. */
static void read_verdict(int fd, char *text, size_t size)
{
    FILE *f = fdopen(fd, "r");
    char line[512];
    text[0] = '\0';
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, "sim: FAILED ", 12) == 0) {
            line[strcspn(line, "\n")] = '\0';
            (void)snprintf(text, size, "%s", line + 12); /* cut at worst */
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
}

/* A seed that has shown it, which is tried first: some show in one of hundreds only. When it no
 * longer does, all are searched as for the others, and the one that is printed belongs here. */
static const uint32_t shown_by[MR_PLANTED_MAX] = {
    [MR_PLANTED_WRITE_AGAIN] = 53, [MR_PLANTED_STALE_FENCE] = 886,
    [MR_PLANTED_CHECKPOINT_EARLY] = 10, [MR_PLANTED_ATTEMPTS_FORGOTTEN] = 35,
    [MR_PLANTED_LANE_LET_GO] = 39, [MR_PLANTED_SHED_WRONG_END] = 9, [MR_PLANTED_SHED_DEEP] = 8,
    [MR_PLANTED_SHED_ROUND] = 8, [MR_PLANTED_EXPIRED_TWICE] = 8, [MR_PLANTED_CURSOR_AHEAD] = 44,
    [MR_PLANTED_TRIM_EARLY] = 18, [MR_PLANTED_HELD_FORGOTTEN] = 16, [MR_PLANTED_READ_AHEAD] = 31,
    [MR_PLANTED_ONE_TORN_TAIL] = 109, [MR_PLANTED_SLOT_UNSYNCED] = 53,
    [MR_PLANTED_MIRROR_UNEQUAL] = 25, [MR_PLANTED_MIRROR_STALE] = 235,
    [MR_PLANTED_SUSPECT_PAYS] = 8, [MR_PLANTED_OUTCOME_LOST] = 6, [MR_PLANTED_NO_BARRIER] = 25,
    [MR_PLANTED_LIMIT_IGNORED] = 9, [MR_PLANTED_CANCEL_FORGOTTEN] = 158,
    [MR_PLANTED_READ_ACROSS] = 193, [MR_PLANTED_BATCH_PAYS] = 13, [MR_PLANTED_BATCH_WHOLE] = 13,
    [MR_PLANTED_REPEAT_EARLY] = 108, [MR_PLANTED_KEY_KEPT] = 8, [MR_PLANTED_JOIN_EARLY] = 10,
    [MR_PLANTED_WEIGHT_FORGOTTEN] = 311, [MR_PLANTED_EDIT_FORGOTTEN] = 76,
    [MR_PLANTED_READ_EVICTED] = 198, [MR_PLANTED_POSTING_LATE] = 25, [MR_PLANTED_EDIT_MOVES] = 16,
    [MR_PLANTED_FOOTER_BELIEVED] = 120, [MR_PLANTED_FOOTER_OUTLIVES] = 11,
    [MR_PLANTED_IDS_SHORT] = 86, [MR_PLANTED_MEMORY_UNBOUND] = 17, [MR_PLANTED_MEMORY_UNFAIR] = 43,
    [MR_PLANTED_MOVED_UNREAD] = 26, [MR_PLANTED_GAPS_LOST] = 15, [MR_PLANTED_SKETCH_SHORT] = 8,
};

static bool is_caught(int bug, uint64_t from, uint64_t to, char *text, size_t size)
{
    int ends[2];
    if (pipe(ends) != 0) {
        return false;
    }
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)dup2(ends[1], STDERR_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        mr_planted_bug = bug;
        if (shown_by[bug] != 0) {
            (void)run_once(shown_by[bug], true);
        }
        sim_damage(84, 30, 2003); /* what only damage shows, at once */
        for (uint64_t seed = from; seed <= to; seed++) {
            (void)run_once(seed, true); /* what matters is that it ends */
        }
        _exit(0);
    }
    (void)close(ends[1]);
    read_verdict(ends[0], text, size);
    int status = 0;
    bool ended = child > 0 && waitpid(child, &status, 0) == child;
    return ended && WIFEXITED(status) && WEXITSTATUS(status) == 1 && text[0] != '\0';
}

static bool run_planted(uint64_t from, uint64_t to)
{
    static const char *const texts[] = {
        "none",
#define TEXT(name, text) text,
        MR_PLANTED_LIST(TEXT)
#undef TEXT
    };
    uint64_t caught = 0;
    for (int bug = 1; bug < MR_PLANTED_MAX; bug++) {
        char verdict[512];
        bool ok = is_caught(bug, from, to, verdict, sizeof(verdict));
        printf("  %-3s %2d %s\n         %s\n", ok ? "ok" : "NOT", bug, texts[bug], verdict);
        caught += ok;
    }
    printf("sim: %" PRIu64 " of %d planted bugs caught\n", caught, MR_PLANTED_MAX - 1);
    return caught == MR_PLANTED_MAX - 1;
}

#endif

/* Every kind of record must have been among what was damaged, but the one that only tells of it. */
static int run_damage(uint64_t from, uint64_t to, uint64_t stride, uint64_t groups, bool all_kinds)
{
    for (uint64_t seed = from; seed <= to; seed++) {
        running_seed = seed;
        bound_seconds(10 * SEED_SECONDS_MAX);
        sim_damage(seed, groups + seed % 16, stride);
    }
    for (uint8_t kind = 1; kind < MR_RECORD_MAX && all_kinds; kind++) {
        if ((sim_damage_kinds >> kind & 1) == 0 && kind != MR_RECORD_LOST) {
            printf("sim: FAILED: no record of kind %s was damaged\n", mr_record_kind_text(kind));
            return 1;
        }
    }
    sim_disk_release_pool();
    return 0;
}

static uint64_t number_of(const char *text)
{
    uint64_t value = 0;
    if (text == NULL || !mr_parse_u64(mr_bytes_of(text), &value)) {
        (void)fprintf(stderr, "sim: a number is wanted, not %s\n", text == NULL ? "" : text);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    uint64_t from = 1;
    uint64_t to = 100;
    uint64_t seconds = 0;
    uint64_t points = 0;
    uint64_t stride = 0; /* of damage; 0: none */
    uint64_t groups = 20;
    bool all_faults = false;
#ifdef MR_PLANTED_BUGS
    bool planted = false;
#endif
    program = argv[0];
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--seeds") == 0 && value != NULL) {
            const char *dots = strstr(value, "..");
            char first[32] = "";
            if (dots != NULL && (size_t)(dots - value) < sizeof(first)) {
                memcpy(first, value, (size_t)(dots - value));
                from = number_of(first);
                to = number_of(dots + 2);
            }
            i++;
        } else if (strcmp(argv[i], "--seed") == 0) {
            from = to = number_of(value);
            i++;
        } else if (strcmp(argv[i], "--seconds") == 0) {
            seconds = number_of(value);
            i++;
        } else if (strcmp(argv[i], "--crash-points") == 0) {
            points = number_of(value);
            i++;
        } else if (strcmp(argv[i], "--damage") == 0) {
            stride = number_of(value);
            i++;
        } else if (strcmp(argv[i], "--groups") == 0) {
            groups = number_of(value);
            i++;
        } else if (strcmp(argv[i], "--all-faults") == 0) {
            all_faults = true;
        } else if (strcmp(argv[i], "--export") == 0 && value != NULL) {
            sim_export = value;
            i++;
        } else if (strcmp(argv[i], "--perturb") == 0) {
            perturb = true;
        } else if (strcmp(argv[i], "--verbose") == 0) {
            sim_verbose = true;
#ifdef MR_PLANTED_BUGS
        } else if (strcmp(argv[i], "--bug") == 0) {
            mr_planted_bug = (int)number_of(value);
            i++;
        } else if (strcmp(argv[i], "--planted") == 0) {
            planted = true;
#endif
        } else {
            (void)fprintf(stderr, "usage: sim [--seeds A..B | --seed N] [--seconds N] "
                                  "[--crash-points N] [--all-faults] [--perturb] [--verbose] "
                                  "[--damage STRIDE [--groups N]]\n");
            return 2;
        }
    }
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)signal(SIGABRT, on_abort);
    (void)signal(SIGPROF, on_alarm);
    mr_logger_set_level(MR_LEVEL_ERROR);
#ifdef MR_PLANTED_BUGS
    if (planted) {
        return run_planted(from, to) ? 0 : 1;
    }
#endif
    if (stride != 0) {
        return run_damage(from, to, stride, groups, all_faults);
    }
    struct timespec start;
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    uint64_t seeds = 0;
    for (uint64_t seed = from; seed <= to; seed++) {
        struct timespec now;
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        bool late = seconds != 0 && (uint64_t)(now.tv_sec - start.tv_sec) >= seconds;
        if (late || (points != 0 && sim_points_made >= points)) {
            break;
        }
        run_seed(seed);
        seeds++;
    }
    bool ok = report(seeds, all_faults);
    sim_disk_release_pool();
    return ok ? 0 : 1;
}
