/* The log on two disks: made, forked, crashed and damaged together. Everything is drawn from numbers
 * of its own, so that the other seeds keep their course. */
#include <stdio.h>
#include <string.h>

#include "bus/mirror.h"
#include "core/assert.h"
#include "core/hash.h"
#include "sim.h"

static uint64_t draw(struct sim_disks *d, uint64_t below)
{
    return mr_hash_u64(d->seed ^ ++d->drawn) % below;
}

static bool second_first(void *context)
{
    return draw(context, 2) == 0;
}

/* @param text begins with the file's name */
static void note_single(struct sim_disks *d, const char *text)
{
    char name[MR_LOG_NAME_SIZE] = "";
    uint64_t number;
    (void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(text, " "), text);
    if (mr_log_name_parse(name, "seg-", &number)) {
        MR_ASSERT(number < SIM_SINGLE_MAX);
        d->single[number / 64] |= 1ull << number % 64;
    }
}

bool sim_disks_were_single(const struct sim_disks *d, uint64_t segment)
{
    return segment < SIM_SINGLE_MAX && (d->single[segment / 64] >> segment % 64 & 1) != 0;
}

static void tell(void *context, const char *text)
{
    struct sim_disks *d = context;
    if (strncmp(text, "repaired", 8) == 0) {
        sim_fired[SIM_REPAIRED]++;
    } else if (strstr(text, "goes on in") != NULL) {
        sim_fired[SIM_MIRROR_ALONE]++;
    } else if (strstr(text, "left behind") != NULL) {
        sim_fired[SIM_MIRROR_BACK]++;
    } else if (strstr(text, "was missing in") != NULL) {
        note_single(d, text);
    }
    sim_say(d->world, "log: %s", text);
}

void sim_disks_choose(struct sim_world *world)
{
    uint64_t number = mr_hash_u64(world->seed * 31 + 5) % 12;
    struct sim_disks *d = &world->disks;
    *d = (struct sim_disks){.world = world, .first = world->disk, .io = &world->disk->io,
                            .seed = mr_hash_u64(world->seed + 99)};
    if (number > 1 || world->swarm.calm) {
        return;
    }
    struct sim_swarm *w = &world->swarm;
    d->rots = number == 0;
    d->second = sim_disk_create(d->seed, 1u << 16);
    d->second->rubbish = w->rubbish;
    d->second->power = &d->first->ops_left;
    w->rot = false; /* of what one disk has alone */
    if (d->rots) { /* one copy of everything is good at any time */
        w->write_error_chance = w->sync_error_chance = w->read_error_chance = w->full_chance = 0;
    }
}

void sim_disks_fork(const struct sim_disks *disks, uint64_t seed, struct sim_disks *ret_fork)
{
    *ret_fork = *disks;
    ret_fork->first = sim_disk_fork(disks->first, seed);
    ret_fork->first->power = NULL;
    ret_fork->io = &ret_fork->first->io;
    if (disks->second == NULL) {
        return;
    }
    ret_fork->seed ^= seed;
    ret_fork->second = sim_disk_fork(disks->second, mr_hash_u64(seed));
    ret_fork->second->power = &ret_fork->first->ops_left;
    if (disks->io == &disks->first->io) {
        return; /* no process: nothing is open */
    }
    struct mr_mirror_options options = {
        .copies = {disks->swapped ? &ret_fork->second->io : &ret_fork->first->io,
                   disks->swapped ? &ret_fork->first->io : &ret_fork->second->io},
        .names = {"a", "b"},
        .second_first = second_first,
        .tell = tell,
        .context = ret_fork,
        .like = disks->io,
    };
    enum mr_status r = mr_io_mirror_create(&options, &ret_fork->io);
    MR_ASSERT(r == MR_OK);
}

bool sim_disks_are_alone(const struct sim_disks *d)
{
    struct mr_mirror_status status = {0};
    if (d->io != &d->first->io) {
        mr_io_mirror_status(d->io, &status);
    }
    return status.alone;
}

static void dissolve(struct sim_disks *d)
{
    if (d->io != &d->first->io) {
        d->alone = sim_disks_are_alone(d);
        mr_io_mirror_dissolve(d->io);
        d->io = &d->first->io;
    }
}

void sim_disks_crash(struct sim_disks *d, bool power_cut)
{
    dissolve(d);
    sim_disk_crash(d->first, power_cut);
    if (d->second != NULL) {
        sim_disk_crash(d->second, power_cut);
    }
}

void sim_disks_destroy(struct sim_disks *d)
{
    dissolve(d);
    sim_disk_destroy(d->first);
    if (d->second != NULL) {
        sim_disk_destroy(d->second);
    }
}

enum mr_status sim_disks_open(struct sim_disks *d, struct mr_problem *problem)
{
    if (d->second == NULL) {
        return MR_OK;
    }
    dissolve(d);
    /* Now and then one is not there; never the one that has more than the other. */
    uint64_t absent = d->rots || d->alone || !d->was_open ? 2 : draw(d, 12);
    struct mr_log_mirror_options options = {
        .copies = {absent == 0 ? NULL : &d->first->io, absent == 1 ? NULL : &d->second->io},
        .names = {"a", "b"},
        .seed = mr_hash_u64(d->seed ^ ++d->drawn),
        .second_first = second_first,
        .tell = tell,
        .context = d,
    };
    enum mr_status r = mr_log_mirror_open(&options, &d->io, problem);
    d->swapped = r == MR_OK && mr_io_mirror_leads(d->io) == &d->second->io;
    d->was_open = d->was_open || r == MR_OK;
    return r;
}

/* Now and then a survivor file instead of @p name, of which there are few. */
static const char *choose_rotten(const struct sim_disks *d, const char *name)
{
    const struct sim_names *names = &d->first->now;
    uint64_t number = mr_hash_u64(d->seed * 7 + d->drawn);
    for (uint32_t i = 0; i < names->count && number % 3 == 0; i++) {
        const char *other = names->items[(i + number) % names->count].name;
        if (strncmp(other, "keep-", 5) == 0) {
            return other;
        }
    }
    return name;
}

/* One file is damaged in one copy only, always the same: no block is lost in both. */
static void rot_at(struct sim_disks *d, const char *name, uint64_t at, unsigned bit)
{
    bool in_second = mr_hash(name, strlen(name)) % 2 == 0;
    if (sim_disk_rot(in_second ? d->second : d->first, name, at, bit)) {
        sim_fired[SIM_ROT_MIRRORED]++;
        sim_fired[SIM_ROT_KEEP] += strncmp(name, "keep-", 5) == 0;
        sim_say(d->world, "a bit of %s is flipped in one copy", name);
    }
}

void sim_disks_rot_moving(struct sim_disks *d, const struct mr_log_request *request)
{
    uint64_t number = mr_hash_u64(d->seed * 5 + d->drawn);
    if (!d->rots || request->kind != MR_LOG_COPY || number % 2 != 0) {
        return;
    }
    const struct mr_log_copy *copy = &request->copies[number % request->copy_count];
    char name[MR_LOG_NAME_SIZE];
    mr_log_file_name((enum mr_log_file)copy->file, mr_position_segment(copy->from), name);
    rot_at(d, name, mr_position_at(copy->from) + MR_RECORD_HEADER_SIZE + number % 16,
           (unsigned)(number >> 8) % 8);
}

void sim_disks_rot(struct sim_disks *d)
{
    if (!d->rots || draw(d, 24) != 0) {
        return;
    }
    const struct sim_names *names = &d->first->now;
    if (names->count == 0) {
        return;
    }
    for (uint64_t n = 1 + draw(d, 3); n > 0; n--) {
        const char *name = choose_rotten(d, names->items[draw(d, names->count)].name);
        uint64_t size = draw(d, 4) > 0 ? 32 * MR_KIB : 256 * MR_KIB;
        uint64_t at = draw(d, size);
        rot_at(d, name, at, (unsigned)draw(d, 8));
    }
}

struct sim_disk *sim_disks_faulty(struct sim_disks *d)
{
    return d->second != NULL && draw(d, 2) == 0 ? d->second : d->first;
}

uint64_t sim_syncs_failed(const struct sim_disks *d)
{
    return d->first->fired_sync + (d->second == NULL ? 0 : d->second->fired_sync);
}

bool sim_reads_failed(const struct sim_world *world)
{
    const struct sim_disks *d = &world->disks;
    return d->first->fired_read > 0 || (d->second != NULL && d->second->fired_read > 0);
}
