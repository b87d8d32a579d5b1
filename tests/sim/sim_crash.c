/* Crash points beside the run, and crashes of the run itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/mend.h"
#include "core/assert.h"
#include "sim.h"

#define FOOTERS_LOOKED_AT 8u /* at each eighth crash point: they take longer than all the rest */

/* How many changing operations a request makes, at most. */
static uint64_t ops_of(const struct mr_log_request *request)
{
    switch (request->kind) {
    case MR_LOG_WRITE:
    case MR_LOG_SYNC:
        return 1;
    case MR_LOG_PREPARE:
        return 6;
    case MR_LOG_SPARE:
        return 3;
    case MR_LOG_CHECKPOINT:
        return 5;
    case MR_LOG_COPY:
        return request->at == 0 ? 5 : 2;
    case MR_LOG_SEAL:
        return 2;
    case MR_LOG_RETIRE:
        return 2ull + request->footed + request->last;
    case MR_LOG_FOOTER:
    case MR_LOG_IDS:
        return 12;
    case MR_LOG_SCRUB:
        return request->spans > 0 ? 0 : 4; /* repairs */
    case MR_LOG_READ:
        break;
    }
    return 0;
}

#define COPIES_MAX 4096u /* of one request, in a segment of this size */

/* Does some of a request, as far as it got when the crash came. */
static void perform_part(struct sim_disks *disks, struct mr_rng *rng,
                         const struct mr_log_request *request)
{
    uint64_t ops = ops_of(request) * (disks->second == NULL ? 1 : 2);
    if (ops == 0) {
        return;
    }
    uint64_t done = 1 + mr_rng_below(rng, ops + 1); /* the last one is cut, unless all are done */
    struct mr_log_request part = *request;
    struct mr_log_copy copies[COPIES_MAX]; /* sorted, and written to, likewise */
    if (request->kind == MR_LOG_COPY) {
        MR_ASSERT(request->copy_count <= COPIES_MAX);
        memcpy(copies, request->copies, request->copy_count * sizeof(copies[0]));
        part.copies = copies;
    }
    struct mr_log_mend mend;
    if (request->kind == MR_LOG_SCRUB) { /* what comes of it is written there */
        memcpy(&mend, request->buf, sizeof(mend));
        part.buf = (uint8_t *)&mend;
    }
    disks->first->ops_left = done > ops ? SIM_NO_LIMIT : done;
    mr_log_perform(disks->io, &part);
}

/* What was outside when the crash came: @p running for sure, the others perhaps. */
static void perform_outside(const struct sim_world *world, struct sim_disks *disks,
                            struct mr_rng *rng, const struct mr_log_request *running)
{
    if (running != NULL) {
        perform_part(disks, rng, running);
    }
    for (uint32_t i = 0; i < world->request_count; i++) {
        const struct mr_log_request *other = world->requests[i];
        bool same_file = running != NULL && other->file >= 0 && other->file == running->file;
        if (other != running && !same_file && mr_rng_chance(rng, 1, 2)) {
            perform_part(disks, rng, other);
        }
    }
}

static void count_disk(const struct sim_disk *disk)
{
    sim_fired[SIM_TORN_WRITE] += disk->fired_torn;
    sim_fired[SIM_UNSYNCED_LOST] += disk->fired_unsynced;
    sim_fired[SIM_NAME_LOST] += disk->fired_name_lost;
}

/* --- beside the run: fork the disk, crash it, recover, look ----------------------------------- */

struct fork_ports {
    const struct sim_world *world;
    struct mr_log_request *requests[256];
    uint32_t count;
    bool dying;
};

static void fork_io(void *context, struct mr_log_request *request)
{
    struct fork_ports *f = context;
    MR_ASSERT(f->count < MR_ARRAY_COUNT(f->requests));
    f->requests[f->count++] = request;
}

static void fork_handout(void *context, struct mr_handout *h)
{
    (void)context;
    mr_handout_destroy(h);
}

static void fork_cancel(void *context, uint32_t target, uint32_t subscription, uint64_t offset,
                        uint32_t fence)
{
    (void)context;
    (void)target;
    (void)subscription;
    (void)offset;
    (void)fence;
}

static void fork_batch_done(void *context, struct mr_batch *batch)
{
    (void)context;
    mr_batch_destroy(batch);
}

static void fork_demand(void *context, uint32_t target, uint64_t queued, uint64_t age_ns)
{
    (void)context;
    (void)target;
    (void)queued;
    (void)age_ns;
}

static void fork_slow(void *context, bool slow)
{
    (void)context;
    (void)slow;
}

static void fork_alarm(void *context, const char *text)
{
    (void)context;
    (void)text;
}

static struct mr_bus_ports ports_of_fork(struct fork_ports *f)
{
    return (struct mr_bus_ports){
        .context = f,
        .io = fork_io,
        .handout = fork_handout,
        .cancel = fork_cancel,
        .batch_done = fork_batch_done,
        .demand = fork_demand,
        .slow = fork_slow,
        .alarm = fork_alarm,
    };
}

static struct mr_bus *try_open(const struct sim_world *world, struct sim_disks *disks,
                               struct fork_ports *f, uint64_t seed, struct mr_bus_opened *opened,
                               struct mr_problem *problem)
{
    struct mr_bus_options options = world->options;
    options.seed = seed;
    struct mr_bus_ports ports = ports_of_fork(f);
    struct mr_bus *bus = NULL;
    enum mr_status r = sim_disks_open(disks, problem);
    r = r == MR_OK ? mr_bus_open(disks->io, &options, &ports, sim_now(world), &bus, opened, problem)
                   : r;
    return r == MR_OK ? bus : NULL;
}

static struct mr_bus *open_fork(const struct sim_world *world, struct sim_disks *disks,
                                struct fork_ports *f, uint64_t seed, struct mr_bus_opened *opened)
{
    struct mr_problem problem = {{0}};
    struct mr_bus *bus = try_open(world, disks, f, seed, opened, &problem);
    if (bus == NULL) {
        sim_fail(world, "recovery refuses: %s", problem.text);
    }
    sim_points_made++;
    return bus;
}

/* A read that fails at a start is no torn tail: the start is refused, or does without it, and the
 * next one finds everything. */
static struct mr_bus *open_with_bad_read(const struct sim_world *world, struct sim_disks *disks,
                                         struct mr_rng *rng, struct fork_ports *f,
                                         struct mr_bus_opened *opened)
{
    struct mr_problem problem = {{0}};
    struct sim_disk *disk = disks->first;
    disk->fail_read_in = 1 + mr_rng_below(rng, 24);
    struct mr_bus *bus = try_open(world, disks, f, 1, opened, &problem);
    disk->fail_read_in = 0;
    if (bus != NULL) {
        return bus;
    }
    if (disk->fired_read == 0) {
        sim_fail(world, "recovery refuses: %s", problem.text);
    }
    sim_fired[SIM_READ_AT_START]++;
    return open_fork(world, disks, f, 1, opened);
}

static void close_fork(const struct sim_world *world, struct mr_bus *bus, struct fork_ports *f)
{
    while (f->count > 0) {
        struct mr_log_request *request = f->requests[--f->count];
        request->result = MR_E_IO;
        mr_bus_io_done(bus, sim_now(world), request);
    }
    mr_bus_destroy(bus);
}

/* The recovered bus begins its own life, and crashes in its first steps. */
static void crash_again(struct sim_world *world, struct sim_disks *disks, struct mr_rng *rng,
                        struct mr_bus *bus, struct fork_ports *f, uint64_t sequence, bool cut)
{
    enum mr_status r = mr_bus_configure(bus, sim_now(world), world->config, world->router, 1);
    MR_ASSERT(r == MR_OK);
    uint64_t turns = mr_rng_below(rng, 6);
    for (uint64_t i = 0; i < turns; i++) {
        mr_bus_step(bus, sim_now(world));
        if (f->count > 0) {
            struct mr_log_request *request = f->requests[0];
            memmove(f->requests, f->requests + 1, --f->count * sizeof(f->requests[0]));
            mr_log_perform(disks->io, request);
            mr_bus_io_done(bus, sim_now(world), request);
        }
    }
    mr_bus_check(bus);
    for (uint32_t i = 0; i < f->count; i++) {
        if (mr_rng_chance(rng, 1, 2)) {
            perform_part(disks, rng, f->requests[i]);
        }
    }
    close_fork(world, bus, f);
    sim_disks_crash(disks, cut);
    struct mr_bus_opened opened;
    bus = open_fork(world, disks, f, mr_rng_next(rng), &opened);
    struct mr_bus_status status;
    mr_bus_status(bus, &status);
    uint32_t sub;
    if (status.next_sequence - 1 < sequence || !mr_bus_conserves(bus, &sub)) {
        sim_fail(world, "a crash after the recovery loses groups: %llu, had %llu",
                 (unsigned long long)status.next_sequence - 1, (unsigned long long)sequence);
    }
    mr_bus_check(bus);
    close_fork(world, bus, f);
    sim_fired[SIM_CRASH_IN_RECOVERY]++;
}

static void crash_point(struct sim_world *world, const struct mr_log_request *running)
{
    struct mr_rng rng;
    mr_rng_init(&rng, world->seed ^ ++world->points << 32);
    struct sim_disks disks;
    sim_disks_fork(&world->disks, mr_rng_next(&rng), &disks);
    /* Who said `never` was promised nothing about power cuts. */
    bool cut = mr_rng_chance(&rng, 3, 4) && world->options.log.sync != MR_SYNC_NEVER;
    perform_outside(world, &disks, &rng, running);
    sim_disks_crash(&disks, cut);
    struct fork_ports f = {.world = world};
    struct mr_bus_opened opened;
    struct mr_bus *bus = mr_rng_chance(&rng, 1, 8)
                             ? open_with_bad_read(world, &disks, &rng, &f, &opened)
                             : open_fork(world, &disks, &f, 1, &opened);
    uint64_t sequence = oracle_check_recovered(world->oracle, bus,
                                               oracle_floor(world->oracle, cut), "crash point");
    if (!world->options.footers_off && world->points % FOOTERS_LOOKED_AT == 0 && !disks.rots) {
        oracle_check_footers(world->oracle, disks.io, "crash point");
    }
    if (!disks.rots) {
        oracle_check_places(world->oracle, bus, disks.io, "crash point");
    }
    if (world->points % FOOTERS_LOOKED_AT == 0 && !disks.rots && !world->swarm.rot &&
        !world->damaged && oracle_verify_keeps(&disks.first->io) > 0) {
        sim_fail(world, "a crash leaves a survivor file that counts as damaged");
    }
    if (world->points % FOOTERS_LOOKED_AT == 1 && !disks.rots && !world->swarm.rot &&
        !world->damaged && oracle_verify_log(&disks.first->io) > 0) {
        sim_fail(world, "a crash leaves a log that counts as damaged");
    }
    sim_fired[SIM_FROM_CHECKPOINT] += opened.from_checkpoint;
    uint64_t more = mr_rng_below(&rng, 16);
    /* After a read that failed it may have begun with the older slot, and with one disk alone without
     * the whole of a last group that the other has. */
    bool same = disks.first->fired_read == 0 && !sim_disks_are_alone(&disks);
    if (more == 0 && same) {
        uint64_t hash = mr_bus_state_hash(bus);
        close_fork(world, bus, &f);
        sim_disks_crash(&disks, cut);
        bus = open_fork(world, &disks, &f, 1, &opened);
        if (mr_bus_state_hash(bus) != hash) {
            sim_fail(world, "recovering twice gives another state");
        }
    }
    if (more < 3 && world->router != NULL) {
        crash_again(world, &disks, &rng, bus, &f, sequence, cut);
    } else {
        close_fork(world, bus, &f);
    }
    count_disk(disks.first);
    sim_disks_destroy(&disks);
}

void sim_crash_points(struct sim_world *world, const struct mr_log_request *request)
{
    if (request->kind == MR_LOG_READ || world->healing ||
        !sim_chance(world, world->swarm.crash_point_chance)) {
        return;
    }
    world->in_fork = true;
    for (uint32_t i = 0; i < world->swarm.crash_points_each; i++) {
        crash_point(world, request);
    }
    world->in_fork = false;
}

/* --- the run itself --------------------------------------------------------------------------- */

/* The process is gone: what it had outside comes to nothing. */
void sim_process_gone(struct sim_world *world)
{
    if (world->bus == NULL) {
        return;
    }
    world->dying = true;
    mr_bus_close(world->bus);
    while (world->request_count > 0) {
        struct mr_log_request *request = world->requests[--world->request_count];
        request->result = MR_E_IO;
        mr_bus_io_done(world->bus, sim_now(world), request);
    }
    for (uint32_t i = 0; i < world->handout_count; i++) {
        mr_handout_destroy(world->handouts[i]);
    }
    world->handout_count = 0;
    world->batch_count = 0; /* they are inside: the bus frees them */
    mr_bus_destroy(world->bus);
    world->bus = NULL;
    world->heap_count = 0;
    memset(world->file_free_ns, 0, sizeof(world->file_free_ns));
    world->dying = false;
    world->failed = false;
    world->slow = false;
}

static void open_bus(struct sim_world *world, uint64_t floor)
{
    world->options.seed = mr_rng_next(&world->rng);
    struct mr_bus_ports ports = sim_ports(world);
    struct mr_bus_opened opened;
    struct mr_problem problem = {{0}};
    enum mr_status r = sim_disks_open(&world->disks, &problem);
    r = r == MR_OK ? mr_bus_open(world->disks.io, &world->options, &ports, sim_now(world),
                                 &world->bus, &opened, &problem)
                   : r;
    if (r != MR_OK) {
        sim_fail(world, "recovery refuses: %s (%s)", problem.text, mr_status_text(r));
    }
    uint64_t sequence = oracle_check_recovered(world->oracle, world->bus, floor, "restart");
    if (!world->disks.rots) {
        oracle_check_footers(world->oracle, world->disks.io, "restart");
    }
    oracle_undo(world->oracle, sequence);
    oracle_check_deliveries(world->oracle, world->bus, "restart");
    if (!world->disks.rots) {
        oracle_check_places(world->oracle, world->bus, world->disks.io, "restart");
    }
    oracle_found_places(world->oracle, world->bus);
    oracle_started(world->oracle);
    world->scrub_anew = true;
    sim_say(world, "open: up to group %llu, %llu interrupted, torn %d, checkpoint %d",
            (unsigned long long)sequence, (unsigned long long)opened.interrupted, opened.torn,
            opened.from_checkpoint);
    sim_trace(world, sequence);
    memset(world->rates, 0, sizeof(world->rates));
    memset(world->limit_rates, 0, sizeof(world->limit_rates));
    world->reloaded = false;
    sim_configure(world);
    sim_schedule(world, 100 * MR_MS, SIM_CAPACITY, 0, NULL);
    sim_schedule(world, MR_SECOND, SIM_CLOCK, 0, NULL);
    sim_schedule(world, 500 * MR_MS, SIM_DISK_TOLD, 0, NULL);
    if (!world->swarm.calm) {
        sim_schedule(world, world->swarm.operator_every_ms * MR_MS, SIM_OPERATOR, 0, NULL);
    }
}

/* Flips a few bits in what the disk has: from here on nobody knows what must be left, only that
 * the bus comes up, says what it lost, conserves and comes to rest. */
static void rot(struct sim_world *world)
{
    const struct sim_names *names = &world->disk->now;
    if (names->count == 0 || mr_rng_chance(&world->rng, 1, 2)) {
        return;
    }
    for (uint64_t n = 1 + mr_rng_below(&world->rng, 3); n > 0; n--) {
        const char *name = names->items[mr_rng_below(&world->rng, names->count)].name;
        /* Mostly where something was written. */
        uint64_t size = mr_rng_chance(&world->rng, 3, 4) ? 32 * MR_KIB : 256 * MR_KIB;
        if (sim_disk_rot(world->disk, name, mr_rng_below(&world->rng, size),
                         (unsigned)mr_rng_below(&world->rng, 8))) {
            sim_fired[SIM_ROT]++;
            oracle_rotten(world->oracle);
            sim_say(world, "a bit of %s is flipped", name);
        }
    }
}

void sim_start(struct sim_world *world)
{
    open_bus(world, 0);
    sim_source_init(world);
}

void sim_restart(struct sim_world *world)
{
    open_bus(world, 0);
    sim_source_restart(world);
}

void sim_crash(struct sim_world *world, struct mr_log_request *running)
{
    /* After a failed sync the page cache holds what the disk does not: only a reboot tells. */
    bool believed = sim_syncs_failed(&world->disks) == world->syncs_failed;
    bool killed = mr_rng_below(&world->rng, 1024) < world->swarm.kill_share && believed;
    killed = killed || world->options.log.sync == MR_SYNC_NEVER;
    world->syncs_failed = sim_syncs_failed(&world->disks);
    sim_say(world, "crash: %s", killed ? "killed" : "power cut");
    sim_fired[killed ? SIM_KILLED : SIM_POWER_CUT]++;
    uint64_t floor = oracle_floor(world->oracle, !killed);
    perform_outside(world, &world->disks, &world->rng, running);
    sim_process_gone(world);
    sim_disks_crash(&world->disks, !killed);
    world->time_ns += mr_rng_below(&world->rng, 3 * MR_SECOND);
    if (!killed) {
        world->boot_id++;
        world->boot_at_ns = world->time_ns;
        sim_fired[SIM_REBOOT]++;
    }
    if (world->swarm.rot && !world->healing) {
        rot(world);
    }
    open_bus(world, floor);
    sim_source_restart(world);
    if (sim_chance(world, world->swarm.loop_chance)) {
        sim_schedule(world, mr_rng_below(&world->rng, world->swarm.io_ns * 4), SIM_CRASH, 0, NULL);
        sim_fired[SIM_CRASH_LOOP]++;
    }
}
