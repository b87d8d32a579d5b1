/* The loop, the ports, the clock. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/footer.h"
#include "bus/mend.h"
#include "core/assert.h"
#include "core/hash.h"
#include "sim.h"

#define HEAL_TICKS_MAX 4000u
#define UNREAD_MAX 3u /* as in bus/catchup.c */
#define SPOILED_MAX 200u /* or a run would make footers for ever */

void sim_trace(struct sim_world *world, uint64_t value)
{
    world->trace = mr_hash_u64(world->trace ^ value);
}

void sim_say(const struct sim_world *world, const char *format, ...)
{
    if (!sim_verbose || world->in_fork) {
        return;
    }
    printf("%12.6f ", (double)world->time_ns / 1e9);
    va_list args;
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    printf("\n");
}

bool sim_chance(struct sim_world *world, uint32_t per_1024)
{
    return per_1024 > 0 && !world->healing && mr_rng_below(&world->rng, 1024) < per_1024;
}

struct mr_now sim_now(const struct sim_world *world)
{
    return (struct mr_now){
        .mono_ns = world->time_ns - world->boot_at_ns + MR_SECOND,
        .wall_ns = world->wall_base_ns + world->time_ns,
        .boot_id = world->boot_id,
    };
}

uint64_t sim_log_ns(const struct sim_world *world)
{
    struct mr_bus_status status;
    mr_bus_status(world->bus, &status);
    return status.log_ns;
}

/* --- what is to happen: a heap by (time, order) ----------------------------------------------- */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

void sim_schedule(struct sim_world *world, uint64_t after_ns, enum sim_event_kind kind,
                  uint64_t number, void *object)
{
    if (world->heap_count == world->heap_capacity) {
        world->heap_capacity = world->heap_capacity * 2 + 64;
        world->heap = realloc(world->heap, world->heap_capacity * sizeof(*world->heap));
        MR_ASSERT(world->heap != NULL);
    }
    struct sim_event event = {
        .at_ns = world->time_ns + after_ns,
        .order = world->order++,
        .kind = kind,
        .number = number,
        .object = object,
    };
    uint32_t at = world->heap_count++;
    while (at > 0 && before(&event, &world->heap[(at - 1) / 2])) {
        world->heap[at] = world->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    world->heap[at] = event;
}

static struct sim_event heap_take(struct sim_world *world)
{
    struct sim_event first = world->heap[0];
    struct sim_event last = world->heap[--world->heap_count];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = at * 2 + 1;
        if (child >= world->heap_count) {
            break;
        }
        if (child + 1 < world->heap_count &&
            before(&world->heap[child + 1], &world->heap[child])) {
            child++;
        }
        if (!before(&world->heap[child], &last)) {
            break;
        }
        world->heap[at] = world->heap[child];
        at = child;
    }
    if (world->heap_count > 0) {
        world->heap[at] = last;
    }
    return first;
}

/* --- ports ------------------------------------------------------------------------------------ */

static void port_io(void *context, struct mr_log_request *request)
{
    struct sim_world *world = context;
    MR_ASSERT(world->request_count < MR_ARRAY_COUNT(world->requests));
    world->requests[world->request_count++] = request;
    if (world->dying) {
        return;
    }
    uint64_t wait = mr_rng_below(&world->rng, world->swarm.io_ns + 1);
    bool ordered = false;
    switch (request->kind) {
    case MR_LOG_WRITE:
        oracle_write(world->oracle, request);
        sim_trace(world, mr_crc32c(0, request->buf, request->size));
        sim_say(world, "write %zu bytes, checksum %08x", request->size,
                mr_crc32c(0, request->buf, request->size));
        ordered = true;
        break;
    case MR_LOG_SYNC:
    case MR_LOG_SEAL:
        ordered = true;
        break;
    case MR_LOG_CHECKPOINT:
        oracle_checkpoint(world->oracle, request);
        sim_trace(world, mr_crc32c(0, request->buf, request->size));
        break;
    case MR_LOG_RETIRE:
        oracle_retire(world->oracle, request->number);
        world->scrub_anew = world->scrub_anew || request->number == world->scrubbed;
        sim_fired[request->of == MR_LOG_OF_SURVIVORS ? SIM_KEEP_RETIRED : SIM_RETIRED]++;
        break;
    case MR_LOG_PREPARE:
        sim_fired[SIM_GHOST] += request->has_from;
        break;
    case MR_LOG_READ:
    case MR_LOG_SPARE:
    case MR_LOG_FOOTER:
    case MR_LOG_IDS:
    case MR_LOG_COPY:
    case MR_LOG_SCRUB:
        break;
    }
    if (ordered && request->file >= 0) {
        uint64_t *free_ns = &world->file_free_ns[request->file];
        if (*free_ns > world->time_ns + wait) {
            wait = *free_ns - world->time_ns;
        }
        *free_ns = world->time_ns + wait;
    }
    sim_trace(world, (uint64_t)request->kind << 56 | request->number << 32 | request->at);
    sim_schedule(world, wait, SIM_IO_DONE, 0, request);
}

/* Subscriptions are called "sub0" … "sub7"; hidden ones have a suffix. */
static bool sub_index(const char *name, uint32_t *ret_index)
{
    if (strncmp(name, "sub", 3) != 0 || name[3] < '0' || name[3] >= '0' + (int)SIM_SUBS_MAX ||
        name[4] != '\0') {
        return false;
    }
    *ret_index = (uint32_t)(name[3] - '0');
    return true;
}

static void count_rate(struct sim_world *world, struct sim_rate *rate, const struct mr_handout *h)
{
    if (rate->count == 0) {
        return;
    }
    uint64_t now_ns = sim_now(world).mono_ns;
    uint64_t slots = MR_ARRAY_COUNT(rate->at_ns);
    if (rate->handed >= rate->count &&
        now_ns - rate->at_ns[(rate->handed - rate->count) % slots] < rate->per_ns) {
        sim_fail(world, "%s is handed out as one of more than %u within %llu ms", h->delivery,
                 rate->count, (unsigned long long)(rate->per_ns / MR_MS));
    }
    rate->at_ns[rate->handed++ % slots] = now_ns;
    sim_fired[SIM_RATED] += rate->handed > rate->count;
}

static bool shares(const struct sim_world *world, const char *name, uint32_t k)
{
    const struct mr_config *config = world->config;
    for (uint32_t i = 0; i < config->subscription_count; i++) {
        const struct mr_subscription_config *c = &config->subscriptions[i];
        for (uint32_t n = 0; n < c->limit_count && strcmp(c->name, name) == 0; n++) {
            if (c->limits[n] == k) {
                return true;
            }
        }
    }
    return false;
}

/* Whether one of its batch stands before place @p at. */
static bool is_counted(const struct sim_world *world, uint32_t at)
{
    const struct mr_handout *h = world->handouts[at];
    for (uint32_t i = 0; i < at && h->batch != 0; i++) {
        if (world->handouts[i]->batch == h->batch) {
            return true;
        }
    }
    return false;
}

/* How many of those that share limit @p k have a handler that the bus waits for. */
static uint32_t count_shared(const struct sim_world *world, uint32_t k)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < world->handout_count; i++) {
        const struct mr_handout *h = world->handouts[i];
        struct mr_delivery_info info;
        if (shares(world, h->name, k) && !is_counted(world, i) &&
            mr_bus_delivery_info(world->bus, sim_now(world), h->subscription, h->offset, &info) ==
                MR_OK &&
            info.state == MR_STATE_IN_FLIGHT && info.fence == h->fence) {
            count++;
        }
    }
    return count;
}

/* @p h is among those outside already. A batch counts once. */
static void check_limits(struct sim_world *world, const struct mr_handout *h)
{
    uint32_t sub;
    if (h->batch != 0 && h->batch == world->counted_batch) {
        return;
    }
    world->counted_batch = h->batch;
    if (sub_index(h->name, &sub)) {
        count_rate(world, &world->rates[sub], h);
    }
    for (uint32_t k = 0; k < SIM_LIMITS; k++) {
        if (!shares(world, h->name, k)) {
            continue;
        }
        uint32_t most = world->config->limits[k].concurrency;
        count_rate(world, &world->limit_rates[k], h);
        uint32_t have = most == 0 || world->reloaded ? 0 : count_shared(world, k);
        if (have > most) {
            sim_fail(world, "%s is handed out, limit %u of %u is used up", h->delivery, k, most);
        }
        sim_fired[SIM_LIMITED] += have == most && most > 0;
    }
}

/* Its first attempt: later ones may follow a crash that took some of the log clock's progress. */
static void check_moment(struct sim_world *world, const struct mr_handout *h)
{
    int64_t ns;
    struct mr_bytes text = mr_event_value(mr_event_record(h->event), "mrnotbefore");
    if (h->fence > 1 || text.size == 0 || !mr_time_parse(text, &ns)) {
        return;
    }
    struct mr_bus_status status;
    mr_bus_status(world->bus, &status);
    if (status.log_ns < (uint64_t)ns) {
        sim_fail(world, "%s is handed out %llu ms before its time", h->delivery,
                 (unsigned long long)(((uint64_t)ns - status.log_ns) / MR_MS));
    }
    sim_fired[SIM_DELAYED]++;
}

/* A rate that stays as it is remembers; one that changes, or a new process, begins anew. */
static void take_rate(struct sim_rate *rate, const struct mr_rates *rates)
{
    struct mr_rate wanted = rates == NULL ? (struct mr_rate){0} : rates->items[0];
    if (rate->count != wanted.count || rate->per_ns != wanted.per_ns) {
        *rate = (struct sim_rate){.count = (uint32_t)wanted.count, .per_ns = wanted.per_ns};
    }
}

static void take_rates(struct sim_world *world, const struct mr_config *config)
{
    for (uint32_t i = 0; i < config->subscription_count; i++) {
        uint32_t at;
        if (sub_index(config->subscriptions[i].name, &at)) {
            take_rate(&world->rates[at], config->subscriptions[i].rates);
        }
    }
    for (uint32_t i = 0; i < config->limit_count; i++) {
        take_rate(&world->limit_rates[i], config->limits[i].rates);
    }
}

static void port_handout(void *context, struct mr_handout *h)
{
    struct sim_world *world = context;
    if (world->dying) {
        mr_handout_destroy(h);
        return;
    }
    check_moment(world, h);
    sim_say(world, "hand out %s fence %u attempt %u", h->delivery, h->fence, h->attempt);
    sim_trace(world, h->offset << 24 | (uint64_t)h->subscription << 16 | h->fence);
    oracle_handed_out(world->oracle, h);
    MR_ASSERT(world->handout_count < MR_ARRAY_COUNT(world->handouts));
    world->handouts[world->handout_count++] = h;
    check_limits(world, h);
    sim_worker_take(world, h);
}

static void port_cancel(void *context, uint32_t target, uint32_t subscription, uint64_t offset,
                        uint32_t fence)
{
    struct sim_world *world = context;
    sim_trace(world, offset << 8 | target);
    if (!world->dying) {
        sim_worker_cancel(world, subscription, offset, fence);
    }
}

static void port_batch_done(void *context, struct mr_batch *batch)
{
    struct sim_world *world = context;
    if (world->dying) {
        mr_batch_destroy(batch);
        return;
    }
    sim_say(world, "batch of %u back: %s", batch->count, mr_status_text(batch->result));
    sim_source_batch_done(world, batch);
}

static void port_demand(void *context, uint32_t target, uint64_t queued, uint64_t oldest_age_ns)
{
    struct sim_world *world = context;
    (void)oldest_age_ns;
    sim_trace(world, queued << 8 | target);
}

static void port_slow(void *context, bool slow)
{
    struct sim_world *world = context;
    world->slow = slow;
    sim_trace(world, slow);
}

static void port_alarm(void *context, const char *text)
{
    struct sim_world *world = context;
    if (!world->dying) {
        sim_say(world, "alarm: %s", text);
    }
}

struct mr_bus_ports sim_ports(struct sim_world *world)
{
    return (struct mr_bus_ports){
        .context = world,
        .io = port_io,
        .handout = port_handout,
        .cancel = port_cancel,
        .batch_done = port_batch_done,
        .demand = port_demand,
        .slow = port_slow,
        .alarm = port_alarm,
    };
}

/* --- inputs ----------------------------------------------------------------------------------- */

void sim_configure(struct sim_world *world)
{
    struct mr_config *config = sim_config_create(&world->spec, &world->options.log);
    struct mr_router *router = NULL;
    struct mr_problem problem = {{0}};
    uint32_t refused;
    enum mr_status r = mr_router_create(config, &router, &refused, &problem);
    if (r != MR_OK) {
        sim_fail(world, "the router refuses the configuration: %s", problem.text);
    }
    world->generation++;
    oracle_configured(world->oracle);
    r = mr_bus_configure(world->bus, sim_now(world), config, router, world->generation);
    if (r != MR_OK && r != MR_E_FULL) {
        sim_fail(world, "the bus refuses the configuration: %s", mr_status_text(r));
    }
    if (r == MR_E_FULL) { /* the group being gathered is full: the old one stays */
        mr_router_destroy(router);
        sim_config_destroy(config);
        world->generation--;
        return;
    }
    mr_router_destroy(world->router);
    sim_config_destroy(world->config);
    world->router = router;
    world->config = config;
    take_rates(world, config);
    for (uint32_t s = 0; s < SIM_SOURCES; s++) {
        world->sources[s].id = mr_bus_source_id(world->bus, config->sources[s].name);
    }
    for (uint32_t t = 0; t < SIM_TARGETS; t++) {
        uint32_t id = mr_bus_target_id(world->bus, config->targets[t].name);
        mr_bus_capacity(world->bus, sim_now(world), id, world->capacity[t]);
    }
}

/* One fault for the request that is about to be performed. */
static void arm_fault(struct sim_world *world, const struct mr_log_request *request)
{
    const struct sim_swarm *w = &world->swarm;
    struct sim_disk *disk = sim_disks_faulty(&world->disks);
    disk->fail_write_in = disk->fail_sync_in = disk->fail_read_in = disk->full_in = 0;
    if (request->kind == MR_LOG_READ) {
        disk->fail_read_in = sim_chance(world, w->read_error_chance) ? 1 : 0;
        return;
    }
    disk->fail_write_in =
        sim_chance(world, w->write_error_chance) ? 1 + mr_rng_below(&world->rng, 2) : 0;
    disk->fail_sync_in =
        sim_chance(world, w->sync_error_chance) ? 1 + mr_rng_below(&world->rng, 2) : 0;
    if (request->kind != MR_LOG_WRITE && sim_chance(world, w->full_chance)) {
        disk->full_in = 1 + mr_rng_below(&world->rng, 2);
    }
}

static void take_request(struct sim_world *world, const struct mr_log_request *request)
{
    uint32_t i = 0;
    while (world->requests[i] != request) {
        i++;
        MR_ASSERT(i < world->request_count);
    }
    memmove(world->requests + i, world->requests + i + 1,
            (world->request_count - i - 1) * sizeof(world->requests[0]));
    world->request_count--;
}

/* One that an earlier process left, and that is no good. */
static bool footer_is_torn(const struct sim_world *world, const struct mr_log_request *request)
{
    enum mr_status r =
        mr_footer_check(world->disks.io, request->number, request->header.salt, NULL);
    return r != MR_OK && r != MR_E_NOT_FOUND;
}

static void check_footer(const struct sim_world *world, const struct mr_log_request *request,
                         bool torn)
{
    if (request->result != MR_OK) {
        sim_fired[SIM_FOOTER_FAILED]++;
        return;
    }
    if (request->kind == MR_LOG_IDS) {
        sim_fired[SIM_IDS_MADE]++;
        if (world->disks.second == NULL) {
            oracle_check_search(world->oracle, world->disk);
        }
        return;
    }
    sim_fired[SIM_FOOTED]++;
    sim_fired[SIM_FOOTED_AGAIN] += torn;
    if (world->disks.rots) {
        return; /* what is read here is damaged at times, and nobody repairs it */
    }
    if (!oracle_check_footer(world->oracle, world->disks.io, request->number,
                             request->header.salt, "footer made")) {
        sim_fail(world, "the footer of segment %llu is no good",
                 (unsigned long long)request->number);
    }
}

/* A footer that was just made rots, or is gone: nothing may come of that. From numbers of its own. */
static void spoil_footer(struct sim_world *world, const struct mr_log_request *request)
{
    char name[MR_LOG_NAME_SIZE];
    struct mr_rng rng;
    mr_footer_name(request->number, name);
    mr_rng_init(&rng, world->seed * 7919u + request->number);
    bool spoiled = false;
    if (request->result != MR_OK || world->spoiled == SPOILED_MAX || world->seed % 3 == 0 || mr_rng_chance(&rng, 1, 2)) {
        return;
    }
    if (mr_rng_chance(&rng, 1, 4)) {
        spoiled = world->disk->io.ops->unlink(&world->disk->io, name) == MR_OK;
    }
    for (uint64_t n = mr_rng_below(&rng, 6); n > 0 && !spoiled; n--) {
        spoiled = sim_disk_rot(world->disk, name, mr_rng_below(&rng, 8 * MR_FOOTER_PAGE),
                               (unsigned)mr_rng_below(&rng, 8));
    }
    world->spoiled += spoiled;
    sim_fired[SIM_FOOTER_SPOILED] += spoiled;
}

/* Each file is read piece by piece, all of it; what is whole in one copy is not found bad. */
static void check_scrub(struct sim_world *world, const struct mr_log_request *request)
{
    oracle_scrubbed(world, request);
    if (request->spans > 0) {
        sim_fired[SIM_ROT_JUDGED]++;
        return;
    }
    const struct mr_log_mend *mend = (const struct mr_log_mend *)(const void *)request->buf;
    bool fits = mend->from == 0 ? world->scrubbed_to == 0
                                : world->scrubbed == mend->number && world->scrubbed_to == mend->from;
    if (!fits && !world->scrub_anew) {
        sim_fail(world, "the scrubber is at byte %llu of file %llu, and was at byte %llu of %llu",
                 (unsigned long long)mend->from, (unsigned long long)mend->number,
                 (unsigned long long)world->scrubbed_to, (unsigned long long)world->scrubbed);
    }
    bool may_rot = world->disks.second == NULL || world->damaged || sim_reads_failed(world) ||
                   sim_disks_were_single(&world->disks, mend->number) || request->result != MR_OK;
    if (mend->bad > 0 && !may_rot && request->of == MR_LOG_OF_SEGMENT) {
        sim_fail(world, "the scrubber finds byte %llu of segment %llu bad, and it is not",
                 (unsigned long long)mend->bad_from, (unsigned long long)mend->number);
    }
    if (request->result == MR_OK) {
        world->scrub_anew = false;
        world->scrubbed = mend->number;
        world->scrubbed_to = mend->end >= mend->until ? 0 : mend->end;
        sim_fired[SIM_SCRUBBED]++;
        sim_fired[SIM_ROT_FOUND] += mend->bad > 0;
    }
}

/* A bit of what is written already flips while the bus runs. From numbers of its own. */
static void rot_running(struct sim_world *world)
{
    const struct sim_names *names = &world->disk->now;
    uint64_t number = mr_hash_u64(world->seed * 1000003u + world->steps);
    if (!world->swarm.rot || world->options.log.scrub_ns == 0 || number % 8 != 0 ||
        names->count == 0) {
        return;
    }
    const char *name = names->items[number / 8 % names->count].name;
    if (strncmp(name, "seg-", 4) == 0 &&
        sim_disk_rot(world->disk, name, mr_hash_u64(number) % (96 * MR_KIB),
                     (unsigned)(number >> 40) % 8)) {
        oracle_rotten(world->oracle);
        sim_say(world, "a bit of %s is flipped under a running bus", name);
    }
}

struct place {
    uint64_t wanted;
    bool found;
};

static bool is_place(void *context, uint64_t place)
{
    struct place *at = context;
    at->found = at->found || place == at->wanted;
    return !at->found;
}

static void check_sketched(const struct sim_world *world, const struct mr_log_request *request,
                           uint64_t hash, bool is_about)
{
    struct place at = {.wanted = request->at};
    if (mr_bus_sketched(world->bus, request->number, hash, is_about, is_place, &at)) {
        sim_fired[SIM_SKETCHED]++;
        if (!at.found) {
            sim_fail(world, "what the group at %llu of segment %llu concerns is not known",
                     (unsigned long long)request->at, (unsigned long long)request->number);
        }
    }
}

/* While its segment has no footer, a group is found by what its records concern. */
static void check_sketch(const struct sim_world *world, const struct mr_log_request *request)
{
    struct mr_log_group group = {.data = request->buf, .header_good = true, .verified = true};
    uint64_t salt = mr_get_u64(request->buf + 8);
    enum mr_status r = mr_group_header_decode(request->buf, salt, &group.header);
    MR_ASSERT(r == MR_OK);
    group.size = group.header.size;
    uint32_t at = 0;
    uint64_t position;
    struct mr_record record;
    while (mr_log_next_record(&group, &at, &position, &record)) {
        if (record.offset != 0) {
            check_sketched(world, request, mr_footer_about_hash(record.offset), true);
        }
        if (record.kind == MR_RECORD_EVENT) {
            check_sketched(world, request, mr_footer_id_hash(mr_event_id(record.body)), false);
        }
    }
}

/* Who is behind passes over a group that cannot be read a few times: what it matched there ends lost
 * when it is live again, and what is ordered behind that goes on now. */
static void note_unread(struct sim_world *world, const struct mr_log_request *request)
{
    bool walks = request->kind == MR_LOG_READ && request->context != NULL;
    world->unread += walks && request->result != MR_OK;
    if (world->unread >= UNREAD_MAX) {
        oracle_rotten(world->oracle);
    }
}

static void clear_faults(struct sim_disk *disk)
{
    if (disk != NULL) {
        disk->fail_write_in = disk->fail_sync_in = disk->full_in = disk->fail_read_in = 0;
    }
}

static void io_done(struct sim_world *world, struct mr_log_request *request)
{
    sim_crash_points(world, request);
    if (sim_chance(world, world->swarm.crash_chance)) {
        sim_crash(world, request);
        return;
    }
    take_request(world, request);
    if (!world->healing) {
        sim_disks_rot(&world->disks);
        sim_disks_rot_moving(&world->disks, request);
        rot_running(world);
    }
    bool torn = request->kind == MR_LOG_FOOTER && footer_is_torn(world, request);
    arm_fault(world, request);
    mr_log_perform(world->disks.io, request);
    clear_faults(world->disks.first);
    clear_faults(world->disks.second);
    sim_fired[SIM_POSTED] += request->kind == MR_LOG_READ && request->spans > 0;
    note_unread(world, request);
    if (request->kind == MR_LOG_WRITE) {
        check_sketch(world, request);
        oracle_write_done(world->oracle, request->result);
    } else if (request->kind == MR_LOG_SYNC && request->result == MR_OK) {
        oracle_synced(world->oracle, request->at);
    } else if (request->kind == MR_LOG_CHECKPOINT && request->result == MR_OK) {
        sim_fired[SIM_CHECKPOINT]++;
    } else if (request->kind == MR_LOG_FOOTER || request->kind == MR_LOG_IDS) {
        check_footer(world, request, torn);
        spoil_footer(world, request);
    } else if (request->kind == MR_LOG_SCRUB) {
        check_scrub(world, request);
    } else if (request->kind == MR_LOG_COPY && request->result == MR_OK) {
        oracle_copied(world->oracle, request);
    }
    sim_say(world, "io kind %d number %llu: %s", (int)request->kind,
            (unsigned long long)request->number, mr_status_text(request->result));
    sim_trace(world, (uint64_t)request->result);
    mr_bus_io_done(world->bus, sim_now(world), request);
}

static void change_clock(struct sim_world *world)
{
    if (sim_chance(world, world->swarm.clock_chance)) {
        uint64_t jump = (1 + mr_rng_below(&world->rng, 5 * 365)) * MR_DAY;
        bool back = mr_rng_chance(&world->rng, 1, 2);
        if (back && world->wall_base_ns > jump + MR_DAY) {
            world->wall_base_ns -= jump;
            sim_fired[SIM_CLOCK_BACK]++;
        } else {
            world->wall_base_ns += jump;
            sim_fired[SIM_CLOCK_FORWARD]++;
        }
    }
    mr_bus_drain(world->bus, false);
    sim_schedule(world, MR_SECOND, SIM_CLOCK, 0, NULL);
}

static void change_capacity(struct sim_world *world)
{
    uint32_t t = (uint32_t)mr_rng_below(&world->rng, SIM_TARGETS);
    if (world->healing) {
        world->capacity[t] = 8;
    } else if (sim_chance(world, world->swarm.capacity_chance)) {
        world->capacity[t] = (uint32_t)mr_rng_below(&world->rng, 7);
    }
    uint32_t id = mr_bus_target_id(world->bus, world->config->targets[t].name);
    mr_bus_capacity(world->bus, sim_now(world), id, world->capacity[t]);
    sim_schedule(world, 100 * MR_MS, SIM_CAPACITY, 0, NULL);
}

static void tell_disk(struct sim_world *world)
{
    uint64_t free_bytes = 1ull << 40;
    if (sim_chance(world, world->swarm.low_chance)) {
        free_bytes = 4096;
        sim_fired[SIM_DISK_LOW]++;
    }
    mr_bus_disk(world->bus, sim_now(world), free_bytes, 1ull << 41);
    sim_schedule(world, 500 * MR_MS, SIM_DISK_TOLD, 0, NULL);
}

static void happen(struct sim_world *world, const struct sim_event *event)
{
    switch (event->kind) {
    case SIM_IO_DONE:
        io_done(world, event->object);
        break;
    case SIM_ANSWER:
        sim_worker_answer(world, event->number, event->object);
        break;
    case SIM_HEARTBEAT_DUE:
        sim_worker_heartbeat(world, event->number, event->object);
        break;
    case SIM_SOURCE_SENDS:
        sim_source_send(world, event->number);
        break;
    case SIM_OPERATOR:
        if (!world->healing && !world->failed) {
            sim_operator_act(world);
            sim_schedule(world, world->swarm.operator_every_ms * MR_MS, SIM_OPERATOR, 0, NULL);
        }
        break;
    case SIM_CAPACITY:
        change_capacity(world);
        break;
    case SIM_CLOCK:
        change_clock(world);
        break;
    case SIM_DISK_TOLD:
        tell_disk(world);
        break;
    case SIM_CRASH:
        sim_crash(world, NULL);
        break;
    case SIM_TICK:
        break;
    }
}

/* --- the loop --------------------------------------------------------------------------------- */

static void check_step(struct sim_world *world)
{
    uint32_t sub;
    if (!mr_bus_conserves(world->bus, &sub)) {
        sim_fail(world, "subscription %u does not conserve", sub);
    }
    mr_bus_check(world->bus);
    struct mr_bus_status status;
    mr_bus_status(world->bus, &status);
    if (status.faulty && !world->failed) {
        world->failed = true;
        sim_schedule(world, mr_rng_below(&world->rng, 2 * MR_SECOND), SIM_CRASH, 0, NULL);
    }
}

static void note_behind(struct sim_world *world)
{
    for (uint32_t i = 0; i < mr_bus_subscription_count(world->bus); i++) {
        struct mr_subscription_info info;
        mr_bus_subscription_info(world->bus, sim_now(world), i, &info);
        sim_fired[SIM_BEHIND] += info.behind > 0;
        sim_fired[SIM_MEMORY_SHORT] += info.behind > 0 && world->spec.windows_wide;
    }
}

/* One moment: everything due at it, then a step. */
void sim_world_step(struct sim_world *world)
{
    uint64_t timer = mr_bus_next_timer(world->bus);
    uint64_t due = UINT64_MAX;
    if (timer != UINT64_MAX) {
        due = timer - MR_SECOND + world->boot_at_ns;
        due = due < world->time_ns ? world->time_ns : due;
    }
    MR_ASSERT(world->heap_count > 0);
    uint64_t next = world->heap[0].at_ns;
    world->time_ns = next < due ? (next > world->time_ns ? next : world->time_ns) : due;
    while (world->heap_count > 0 && world->heap[0].at_ns <= world->time_ns) {
        struct sim_event event = heap_take(world);
        sim_trace(world, event.at_ns ^ (uint64_t)event.kind << 60);
        happen(world, &event);
        if (mr_rng_chance(&world->rng, 1, 4)) {
            break; /* a step between two inputs of one moment, now and then */
        }
    }
    mr_bus_step(world->bus, sim_now(world));
    if (timer != UINT64_MAX && mr_bus_next_timer(world->bus) == timer && due <= world->time_ns &&
        next > world->time_ns) {
        world->time_ns += MR_MS; /* a timer that wants room first */
    }
    check_step(world);
    world->steps++;
}

static void heal(struct sim_world *world)
{
    world->healing = true;
    sim_spec_calm(&world->spec);
    world->options.log.max_size = 1ull << 40;
    if (world->failed) {
        sim_crash(world, NULL);
    }
    sim_configure(world);
    for (uint32_t s = 0; s < SIM_SOURCES; s++) {
        sim_source_wake(world, s, 0);
    }
}

static bool at_rest(const struct sim_world *world)
{
    if (!sim_sources_finished(world) || oracle_unsettled(world->oracle) > 0 ||
        world->request_count > 0 || world->handout_count > 0 || !mr_bus_is_quiet(world->bus)) {
        return false;
    }
    for (uint32_t i = 0; i < mr_bus_subscription_count(world->bus); i++) {
        struct mr_subscription_info info;
        mr_bus_subscription_info(world->bus, sim_now(world), i, &info);
        if (info.counts.waiting + info.counts.in_flight + info.counts.held > 0) {
            return false;
        }
    }
    return true;
}

static void tell_stuck(const struct sim_world *world)
{
    for (uint32_t i = 0; i < mr_bus_subscription_count(world->bus); i++) {
        struct mr_subscription_info info;
        mr_bus_subscription_info(world->bus, sim_now(world), i, &info);
        if (info.counts.waiting + info.counts.in_flight + info.counts.held == 0) {
            continue;
        }
        printf("  %s: %llu waiting (%llu behind), %llu in flight, %llu held, live %d, blocked on:",
               info.name, (unsigned long long)info.counts.waiting,
               (unsigned long long)info.behind, (unsigned long long)info.counts.in_flight,
               (unsigned long long)info.counts.held, info.live);
        for (unsigned b = 0; b < MR_BLOCKED_MAX; b++) {
            if (info.blocked[b] > 0) {
                printf(" %s %llu", mr_blocked_text((enum mr_blocked_on)b),
                       (unsigned long long)info.blocked[b]);
            }
        }
        printf("\n");
    }
    printf("  requests %u, hand-outs %u, batches %u, quiet %d, sources %d, slow %d\n",
           world->request_count, world->handout_count, world->batch_count,
           mr_bus_is_quiet(world->bus), sim_sources_finished(world), world->slow);
}

void sim_world_run(struct sim_world *world)
{
    sim_say(world, "sync %d, segments of %llu, checkpoint each %llu, retain %llu, crash %u, calm %d",
            world->options.log.sync, (unsigned long long)world->options.log.segment_size,
            (unsigned long long)world->options.log.checkpoint_size,
            (unsigned long long)world->options.log.retain_size, world->swarm.crash_chance,
            world->swarm.calm);
    sim_start(world);
    while (world->steps < world->swarm.steps_max) {
        sim_world_step(world);
        if (world->steps % 64 == 0) {
            note_behind(world);
        }
    }
    if (sim_export != NULL) {
        struct sim_disk *disk = sim_disk_fork(world->disk, world->seed);
        sim_disk_crash(disk, true);
        if (!sim_disk_export(disk, sim_export)) {
            sim_fail(world, "cannot write to %s", sim_export);
        }
        sim_disk_destroy(disk);
        tell_stuck(world); /* what it holds */
    }
    sim_world_rest(world);
}

void sim_world_rest(struct sim_world *world)
{
    heal(world);
    uint64_t tick_ns = world->time_ns;
    uint32_t ticks = 0;
    while (!at_rest(world)) {
        if (world->time_ns >= tick_ns) {
            sim_operator_release(world);
            tick_ns = world->time_ns + 2 * MR_SECOND + ticks * 10 * MR_MS;
            sim_schedule(world, tick_ns - world->time_ns, SIM_TICK, 0, NULL);
            if (++ticks > HEAL_TICKS_MAX) {
                tell_stuck(world);
                sim_fail(world, "it does not come to rest without faults");
            }
        }
        sim_world_step(world);
    }
    oracle_check_end(world->oracle, world->bus);
    sim_trace(world, mr_bus_state_hash(world->bus));
    sim_trace(world, sim_disk_hash(world->disk));
}

void sim_world_destroy(struct sim_world *world)
{
    sim_process_gone(world);
    mr_router_destroy(world->router);
    sim_config_destroy(world->config);
    oracle_destroy(world->oracle);
    sim_disks_destroy(&world->disks);
    for (uint32_t s = 0; s < SIM_SOURCES; s++) {
        free(world->sources[s].state);
    }
    free(world->heap);
    free(world);
}
