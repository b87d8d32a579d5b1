/* Damage to a small log: every bit flipped, every prefix cut, every block zeroed or replaced by an
 * older one or by one of another file, in every file of the folder. The bus must come up, say what
 * it found, lose nothing that is intact and make nothing up.
 *
 * What is intact is judged here from the bytes, not by the reader: a group whose header and a record
 * whose header and body are what they were (headers: or one bit apart), and before which nothing
 * hides it. Where nothing is lost, the state must be the same, bit by bit; where something is, the
 * reader must bring all other records and no more, and every delivery that no lost record speaks of
 * must stand as it stood. What moved into a survivor file is read by itself there: what of it is
 * intact must be found, and `log verify` must name the rest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/assert.h"
#include "core/hash.h"
#include "sim_damage.h"

#define OFFSETS_MAX 8192u
#define KEEP_DENSER 5u
#define KEEP_AFTER_MAX 120u /* groups, until something has moved */

uint64_t sim_damage_kinds; /* bits: kinds of records in the logs that were damaged */

void sim_damage_fail(const struct damage *d, const char *text)
{
    sim_fail(d->world, "%s: %s", d->what, text);
}

/* --- files ------------------------------------------------------------------------------------ */

static void add_file(void *context, const char *name)
{
    struct files *files = context;
    MR_ASSERT(files->count < FILES_MAX);
    struct file *file = &files->items[files->count++];
    (void)snprintf(file->name, sizeof(file->name), "%s", name);
}

static void read_files(struct sim_disk *disk, struct files *files)
{
    const struct mr_io_ops *ops = disk->io.ops;
    files->count = 0;
    enum mr_status r = ops->list(&disk->io, add_file, files);
    for (uint32_t i = 0; i < files->count && r == MR_OK; i++) {
        struct file *file = &files->items[i];
        int handle;
        size_t got = 0;
        r = ops->open(&disk->io, file->name, MR_IO_READ_ONLY, &handle);
        MR_ASSERT(r == MR_OK);
        r = ops->size(&disk->io, handle, &file->size);
        file->data = calloc(1, file->size + 2 * MR_LOG_BLOCK);
        MR_ASSERT(file->data != NULL);
        r = r == MR_OK ? ops->pread(&disk->io, handle, file->data, file->size, 0, &got) : r;
        ops->close(&disk->io, handle);
        file->used = got;
        while (file->used > 0 && file->data[file->used - 1] == 0) {
            file->used--;
        }
    }
    MR_ASSERT(r == MR_OK);
}

static void free_files(struct files *files)
{
    for (uint32_t i = 0; i < files->count; i++) {
        free(files->items[i].data);
        files->items[i].data = NULL;
    }
    files->count = 0;
}

struct file *sim_damage_file(struct files *files, const char *name)
{
    for (uint32_t i = 0; i < files->count; i++) {
        if (strcmp(files->items[i].name, name) == 0) {
            return &files->items[i];
        }
    }
    return NULL;
}

/* --- a bus that only recovers ----------------------------------------------------------------- */

static void no_io(void *context, struct mr_log_request *request)
{
    (void)request;
    sim_damage_fail(context, "recovery wrote something");
}

static void no_slow(void *context, bool slow)
{
    (void)context;
    (void)slow;
}

static void no_alarm(void *context, const char *text)
{
    (void)context;
    (void)text;
}

static struct mr_bus *open_bus(struct damage *d, struct sim_disk *disk,
                               struct mr_bus_opened *opened)
{
    struct mr_bus_options options = d->world->options;
    options.seed = 1;
    const struct mr_bus_ports ports = {
        .context = d, .io = no_io, .slow = no_slow, .alarm = no_alarm};
    struct mr_bus *bus = NULL;
    struct mr_problem problem = {{0}};
    enum mr_status r = mr_bus_open(&disk->io, &options, &ports, sim_now(d->world), &bus, opened,
                                   &problem);
    if (r != MR_OK) {
        sim_damage_fail(d, problem.text);
    }
    uint32_t sub;
    mr_bus_check(bus);
    if (!mr_bus_conserves(bus, &sub)) {
        sim_damage_fail(d, "a subscription does not conserve");
    }
    return bus;
}

static void open_base(struct damage *d)
{
    mr_bus_destroy(d->base.bus);
    d->base.bus = open_bus(d, d->disk, &d->base.opened);
    d->base.hash = mr_bus_state_hash(d->base.bus);
    mr_bus_status(d->base.bus, &d->base.status);
    sim_damage_find_places(d);
    d->base_found = oracle_verify_keeps(&d->disk->io);
    if (d->base_found > 0 && !d->world->swarm.rot) {
        sim_damage_fail(d, "damage is found in survivor files, and there is none");
    }
}

/* --- what the log is made of ------------------------------------------------------------------ */

static void add_records(struct damage *d, struct group *g, const struct mr_log_group *group)
{
    g->first = d->record_count;
    uint32_t at = 0;
    uint64_t position;
    struct mr_record record;
    while (mr_log_next_record(group, &at, &position, &record)) {
        MR_ASSERT(d->record_count < RECORDS_MAX);
        d->records[d->record_count++] = (struct record){
            .at = (uint32_t)mr_position_at(position),
            .body = (uint32_t)record.body.size,
            .kind = record.kind,
            .a = record.a,
            .offset = record.offset,
        };
        g->count++;
        d->kinds |= 1ull << record.kind;
    }
}

static struct mr_log_reader *start_reader(struct sim_disk *disk, struct mr_log_index *index)
{
    struct mr_log_reader *reader;
    enum mr_status r = mr_log_index(&disk->io, index, NULL);
    MR_ASSERT(r == MR_OK);
    r = mr_log_reader_create(&disk->io, index, 0, 0, 0, 0, &reader);
    MR_ASSERT(r == MR_OK);
    return reader;
}

/* @return false: it is not whole, or has more than one looks at here */
static bool map_log(struct damage *d)
{
    d->group_count = d->record_count = 0;
    struct mr_log_index index;
    struct mr_log_reader *reader = start_reader(d->disk, &index);
    struct mr_log_group group;
    bool fits = true;
    while (mr_log_reader_next(reader, &group) == MR_OK && fits) {
        fits = group.decision != MR_RECOVERY_ROTTEN;
        if (group.decision != MR_RECOVERY_TAKE) {
            continue;
        }
        char name[MR_LOG_NAME_SIZE];
        mr_segment_name(mr_position_segment(group.position), name);
        fits = d->group_count < GROUPS_MAX && d->record_count + group.header.records < RECORDS_MAX;
        if (!fits) {
            break;
        }
        struct group *g = &d->groups[d->group_count++];
        *g = (struct group){.file = (uint32_t)(sim_damage_file(&d->files, name) - d->files.items),
                            .at = mr_position_at(group.position),
                            .sequence = group.header.sequence,
                            .durable = group.header.durable};
        if (sim_verbose) {
            printf("  group %llu at %llu of %s, %u records, durable %llu, sync %u\n",
                   LLU(g->sequence), LLU(g->at), name, group.header.records, LLU(g->durable),
                   group.header.flags);
        }
        add_records(d, g, &group);
    }
    mr_log_reader_destroy(reader);
    mr_log_index_release(&index);
    return fits;
}

/* --- what is intact --------------------------------------------------------------------------- */

enum same sim_damage_compare(const uint8_t *a, const uint8_t *b, size_t size)
{
    unsigned apart = 0;
    for (size_t i = 0; i < size && apart < 2; i++) {
        apart += (unsigned)__builtin_popcount((unsigned)(a[i] ^ b[i]));
    }
    return apart == 0 ? SAME : apart == 1 ? ONE_BIT : OTHER;
}

struct verdict {
    uint32_t lost;      /* records, */
    uint64_t events;    /* events among them, of groups that are known to have been promised */
    uint32_t rotten;    /* such groups */
    bool mended;
    bool cut;           /* nothing proves what is lost at the end */
};

static bool header_stands(const struct damage *d, const struct view *view, const struct group *g,
                          bool *mended)
{
    const struct file *file = &d->files.items[g->file];
    if (g->file != view->file) {
        return true;
    }
    if (g->at + MR_GROUP_HEADER_SIZE > view->size) {
        return false;
    }
    enum same same = sim_damage_compare(view->data + g->at, file->data + g->at, MR_GROUP_HEADER_SIZE);
    *mended = *mended || same == ONE_BIT;
    return same != OTHER;
}

/* Marks what is lost of a group whose header stands. @return how many records */
static uint32_t judge_records(struct damage *d, const struct view *view, const struct group *g,
                              bool *mended)
{
    uint32_t lost = 0;
    uint32_t first_lost = UINT32_MAX;
    bool hidden = false;
    for (uint32_t i = g->first; i < g->first + g->count; i++) {
        struct record *record = &d->records[i];
        const uint8_t *was = d->files.items[g->file].data + record->at;
        record->lost = hidden;
        if (!hidden && g->file == view->file) {
            uint64_t end = record->at + MR_RECORD_HEADER_SIZE;
            enum same same = end > view->size
                                 ? OTHER
                                 : sim_damage_compare(view->data + record->at, was, MR_RECORD_HEADER_SIZE);
            hidden = same == OTHER || end + mr_round_up(record->body, 8) > view->size;
            *mended = *mended || same == ONE_BIT;
            record->lost = hidden || memcmp(view->data + end, was + MR_RECORD_HEADER_SIZE,
                                            record->body) != 0;
        }
        lost += record->lost;
        first_lost = record->lost && i < first_lost ? i : first_lost;
    }
    /* With a header gone nothing proves that what is behind the first lost one belongs here. */
    for (uint32_t i = first_lost; hidden && i < g->first + g->count; i++) {
        lost += !d->records[i].lost;
        d->records[i].lost = true;
    }
    return lost;
}

static void lose_group(struct damage *d, const struct group *g)
{
    for (uint32_t i = g->first; i < g->first + g->count; i++) {
        d->records[i].lost = true;
    }
}

/* Whether the file can be told to be this segment: by its header, or by its first group. */
static bool segment_stands(const struct damage *d, const struct view *view)
{
    const struct file *file = &d->files.items[view->file];
    if (view->size < MR_LOG_BLOCK || strncmp(file->name, "seg-", 4) != 0) {
        return false;
    }
    return sim_damage_compare(view->data, file->data, MR_SEGMENT_HEADER_SIZE) != OTHER ||
           (view->size >= MR_LOG_BLOCK + MR_GROUP_HEADER_SIZE &&
            memcmp(view->data + MR_LOG_BLOCK, file->data + MR_LOG_BLOCK, MR_GROUP_HEADER_SIZE) ==
                0);
}

static struct verdict judge(struct damage *d, const struct view *view)
{
    struct verdict v = {0};
    bool segment = segment_stands(d, view);
    /* From the end: what a later whole group knew durable was promised. */
    uint64_t proof = 0;
    uint32_t lost[GROUPS_MAX];
    bool promised[GROUPS_MAX];
    for (uint32_t i = d->group_count; i-- > 0;) {
        const struct group *g = &d->groups[i];
        bool ours = g->file == view->file;
        lost[i] = 0;
        if ((ours && !segment) || !header_stands(d, view, g, &v.mended)) {
            lose_group(d, g);
            lost[i] = g->count + 1;
        } else {
            lost[i] = judge_records(d, view, g, &v.mended);
        }
        promised[i] = g->sequence <= proof;
        if (lost[i] == 0 && g->durable > proof) {
            proof = g->durable;
        }
    }
    bool jumps = false; /* from a group that is gone to the next whole one */
    for (uint32_t i = 0; i < d->group_count; i++) {
        const struct group *g = &d->groups[i];
        bool gone = lost[i] == g->count + 1;
        jumps = jumps && lost[i] > 0;
        v.cut = v.cut || (lost[i] > 0 && !promised[i] && !jumps);
        v.rotten += lost[i] > 0 && !v.cut && !jumps;
        jumps = !v.cut && (jumps || gone);
        if (v.cut || jumps) {
            lose_group(d, g);
        }
        for (uint32_t k = g->first; k < g->first + g->count; k++) {
            v.lost += d->records[k].lost;
            v.events += d->records[k].lost && !v.cut && d->records[k].kind == MR_RECORD_EVENT;
        }
        v.lost += lost[i] > 0 && g->count == 0;
    }
    v.cut = v.cut || jumps; /* to nowhere: the end */
    return v;
}

/* --- checks ----------------------------------------------------------------------------------- */

/* A torn tail that a start left behind and went on from elsewhere: with what replaced it gone, its
 * good records are the best there is of that number. */
static bool is_left_behind(const struct damage *d, const struct mr_log_group *group)
{
    for (uint32_t i = 0; i < d->group_count; i++) {
        const struct group *g = &d->groups[i];
        if (g->sequence == group->header.sequence) {
            uint64_t number = 0;
            (void)mr_log_name_parse(d->files.items[g->file].name, "seg-", &number);
            return group->position != mr_position(number, g->at) &&
                   (g->count == 0 || d->records[g->first].lost);
        }
    }
    return false;
}

/* The reader brings what is intact, and that is what stood there.
 * @return false: and something that had been left behind */
static bool check_reader(struct damage *d, struct sim_disk *disk)
{
    bool only = true;
    struct mr_log_index index;
    struct mr_log_reader *reader = start_reader(disk, &index);
    struct mr_log_group group;
    uint32_t next = 0;
    while (mr_log_reader_next(reader, &group) == MR_OK) {
        uint32_t at = 0;
        uint64_t position;
        struct mr_record record;
        char name[MR_LOG_NAME_SIZE];
        mr_segment_name(mr_position_segment(group.position), name);
        const struct file *file = sim_damage_file(&d->files, name);
        if (is_left_behind(d, &group)) {
            only = false;
            continue;
        }
        while (mr_log_next_record(&group, &at, &position, &record)) {
            while (next < d->record_count && d->records[next].lost) {
                next++;
            }
            if (next == d->record_count || file == NULL ||
                mr_position_at(position) != d->records[next].at ||
                record.kind != d->records[next].kind ||
                record.body.size != d->records[next].body ||
                memcmp(record.body.data,
                       file->data + d->records[next].at + MR_RECORD_HEADER_SIZE,
                       record.body.size) != 0) {
                char text[200];
                (void)snprintf(text, sizeof(text),
                               "the reader brings a %s at %llu of %s, wanted was %s at %u of group "
                               "%llu",
                               mr_record_kind_text(record.kind), LLU(mr_position_at(position)),
                               name,
                               mr_record_kind_text(next == d->record_count
                                                       ? 0
                                                       : d->records[next].kind),
                               next == d->record_count ? 0 : d->records[next].at,
                               LLU(group.header.sequence));
                sim_damage_fail(d, text);
            }
            next++;
        }
    }
    while (next < d->record_count && d->records[next].lost) {
        next++;
    }
    if (next != d->record_count) {
        sim_damage_fail(d, "the reader does not bring a record that is intact");
    }
    mr_log_reader_destroy(reader);
    mr_log_index_release(&index);
    return only;
}

static bool touched[OFFSETS_MAX];

/* Offsets that lost records speak of. @return whether others may be changed by them as well */
static bool note_touched(struct damage *d)
{
    bool all = false;
    memset(touched, 0, sizeof(touched));
    for (uint32_t i = 0; i < d->record_count; i++) {
        const struct record *record = &d->records[i];
        if (!record->lost) {
            continue;
        }
        if (record->offset != 0) {
            touched[record->offset % OFFSETS_MAX] = true;
        } else if (record->kind == MR_RECORD_START || record->kind == MR_RECORD_REMOVED ||
                   record->kind == MR_RECORD_PAUSE || record->kind == MR_RECORD_NAME) {
            all = true;
        }
    }
    return all;
}

static void check_delivery(struct damage *d, struct mr_bus *bus, uint32_t sub, uint64_t offset,
                           bool live)
{
    struct mr_now now = sim_now(d->world);
    struct mr_delivery_info was;
    struct mr_delivery_info is;
    enum mr_status had = mr_bus_delivery_info(d->base.bus, now, sub, offset, &was);
    enum mr_status has = mr_bus_delivery_info(bus, now, sub, offset, &is);
    if (touched[offset % OFFSETS_MAX] || !live || (had != MR_OK && has != MR_OK)) {
        return;
    }
    if (had != has) {
        sim_damage_fail(d, had == MR_OK ? "a delivery is gone of which nothing is lost"
                             : "a delivery is there that was not");
    }
    if (was.state != is.state || was.attempts != is.attempts || was.refusals != is.refusals ||
        was.fence != is.fence || was.lane != is.lane) {
        sim_damage_fail(d, "a delivery stands otherwise, of which nothing is lost");
    }
}

struct letters {
    uint64_t offsets[512];
    uint32_t count;
};

static bool note_letter(void *context, const struct mr_dead_letter *letter)
{
    struct letters *letters = context;
    if (letters->count < MR_ARRAY_COUNT(letters->offsets)) {
        letters->offsets[letters->count++] = letter->offset;
    }
    return true;
}

static bool has_letter(const struct letters *letters, uint64_t offset)
{
    for (uint32_t i = 0; i < letters->count; i++) {
        if (letters->offsets[i] == offset) {
            return true;
        }
    }
    return false;
}

static void check_letters(struct damage *d, struct mr_bus *bus, uint32_t sub)
{
    struct letters was = {.count = 0};
    struct letters is = {.count = 0};
    mr_bus_dead_letters(d->base.bus, sub, note_letter, &was);
    mr_bus_dead_letters(bus, sub, note_letter, &is);
    for (uint32_t i = 0; i < was.count; i++) {
        if (!touched[was.offsets[i] % OFFSETS_MAX] && !has_letter(&is, was.offsets[i])) {
            sim_damage_fail(d, "a dead letter is gone of which nothing is lost");
        }
    }
    for (uint32_t i = 0; i < is.count; i++) {
        if (!touched[is.offsets[i] % OFFSETS_MAX] && !has_letter(&was, is.offsets[i])) {
            sim_damage_fail(d, "a dead letter is there that was not");
        }
    }
}

static void check_state(struct damage *d, struct mr_bus *bus)
{
    bool all = note_touched(d);
    struct mr_now now = sim_now(d->world);
    struct mr_bus_status status;
    mr_bus_status(bus, &status);
    uint32_t subs = mr_bus_subscription_count(bus);
    if (status.next_offset > d->base.status.next_offset ||
        subs > mr_bus_subscription_count(d->base.bus)) {
        sim_damage_fail(d, "there are events or subscriptions that were not");
    }
    for (uint32_t sub = 0; sub < subs; sub++) {
        struct mr_subscription_info was;
        struct mr_subscription_info is;
        mr_bus_subscription_info(d->base.bus, now, sub, &was);
        mr_bus_subscription_info(bus, now, sub, &is);
        if (is.counts.matched > was.counts.matched || is.counts.done > was.counts.done ||
            is.counts.expired > was.counts.expired || is.counts.dropped > was.counts.dropped) {
            sim_damage_fail(d, "more was matched or ended than before");
        }
        if (all) {
            continue;
        }
        check_letters(d, bus, sub);
        for (uint64_t offset = 1; offset < status.next_offset; offset++) {
            check_delivery(d, bus, sub, offset, was.live && is.live);
        }
    }
}

/* One slot that is damaged loses nothing. Where a crash has left the other one unfinished, what is whole
 * in neither begins with what the segments still hold, and the start says so. */
static void look_at_slot(struct damage *d, struct mr_bus *bus, const struct view *view,
                         const struct mr_bus_opened *opened)
{
    const struct mr_bus_opened *was = &d->base.opened;
    if (strncmp(d->files.items[view->file].name, "checkpoint", 10) != 0) {
        return;
    }
    if (opened->bad_slots == 2 && opened->sections_lost > was->sections_lost) {
        d->lossy++;
        return;
    }
    if (opened->rotten != was->rotten || opened->lost_events != was->lost_events) {
        sim_damage_fail(d, "a checkpoint is damaged, and loss is reported");
    }
    check_state(d, bus);
}

static void look(struct damage *d, struct sim_disk *disk, const struct view *view)
{
    if (sim_verbose) {
        printf("%s\n", d->what);
    }
    struct verdict v = judge(d, view);
    struct mr_bus_opened opened = {0};
    struct mr_bus *bus = open_bus(d, disk, &opened);
    const struct base *base = &d->base;
    d->tried++;
    if (sim_damage_is_keep(&d->files.items[view->file])) {
        sim_damage_look_at_keep(d, disk, view, bus, &opened);
        mr_bus_destroy(bus);
        return;
    }
    if (d->by_hand) {
        look_at_slot(d, bus, view, &opened);
        mr_bus_destroy(bus);
        return;
    }
    if (v.lost == 0) {
        if (mr_bus_state_hash(bus) != base->hash) {
            sim_damage_fail(d, "nothing is lost, and the state is another");
        }
        if (opened.rotten != base->opened.rotten ||
            opened.lost_events != base->opened.lost_events) {
            sim_damage_fail(d, "nothing is lost, and loss is reported");
        }
    } else {
        d->lossy++;
        bool only = check_reader(d, disk);
        if (only) {
            check_state(d, bus);
        }
        if (v.rotten > 0 && opened.rotten == base->opened.rotten) {
            sim_damage_fail(d, "something promised is lost, and nothing is said");
        }
        if (!v.cut && only && opened.lost_events != base->opened.lost_events + v.events) {
            char text[80];
            (void)snprintf(text, sizeof(text), "%llu events are named lost, %llu are",
                           LLU(opened.lost_events - base->opened.lost_events), LLU(v.events));
            sim_damage_fail(d, text);
        }
    }
    bool was_mended = base->opened.mended + base->opened.salvaged > 0; /* perhaps it is not wrong now */
    if (v.mended && v.lost == 0 && opened.mended + opened.salvaged == 0 && !was_mended) {
        sim_damage_fail(d, "a wrong bit is made good, and nothing is said");
    }
    mr_bus_destroy(bus);
}

/* --- kinds of damage -------------------------------------------------------------------------- */

static void put_block(struct sim_disk *disk, const char *name, uint64_t at, const uint8_t *from)
{
    static _Alignas(MR_LOG_BLOCK) uint8_t block[MR_LOG_BLOCK];
    memcpy(block, from, sizeof(block));
    int handle;
    enum mr_status r = disk->io.ops->open(&disk->io, name, MR_IO_WRITE | MR_IO_DURABLE, &handle);
    MR_ASSERT(r == MR_OK);
    r = disk->io.ops->pwrite(&disk->io, handle, block, MR_LOG_BLOCK, at);
    MR_ASSERT(r == MR_OK);
    disk->io.ops->close(&disk->io, handle);
}

static void cut_file(struct sim_disk *disk, const char *name, uint64_t size)
{
    int handle;
    enum mr_status r = disk->io.ops->open(&disk->io, name, MR_IO_WRITE, &handle);
    MR_ASSERT(r == MR_OK);
    r = disk->io.ops->truncate(&disk->io, handle, size);
    r = r == MR_OK ? disk->io.ops->sync(&disk->io, handle) : r;
    MR_ASSERT(r == MR_OK);
    disk->io.ops->close(&disk->io, handle);
}

static void flip_bit(struct damage *d, struct view *view, uint64_t at, unsigned bit)
{
    struct file *file = &d->files.items[view->file];
    (void)snprintf(d->what, sizeof(d->what), "bit %u of byte %llu of %s flipped", bit, LLU(at),
                   file->name);
    struct sim_disk *disk = sim_disk_fork(d->disk, 1);
    (void)sim_disk_rot(disk, file->name, at, bit);
    view->data[at] ^= (uint8_t)(1u << bit);
    look(d, disk, view);
    view->data[at] ^= (uint8_t)(1u << bit);
    sim_disk_destroy(disk);
}

static void cut(struct damage *d, struct view *view, uint64_t size)
{
    struct file *file = &d->files.items[view->file];
    (void)snprintf(d->what, sizeof(d->what), "%s cut to %llu bytes", file->name, LLU(size));
    struct sim_disk *disk = sim_disk_fork(d->disk, 1);
    cut_file(disk, file->name, size);
    view->size = size;
    look(d, disk, view);
    view->size = file->size;
    sim_disk_destroy(disk);
}

static void replace(struct damage *d, struct view *view, uint64_t at, const uint8_t *block,
                    const char *by)
{
    struct file *file = &d->files.items[view->file];
    if (at + MR_LOG_BLOCK > file->size || memcmp(file->data + at, block, MR_LOG_BLOCK) == 0) {
        return;
    }
    (void)snprintf(d->what, sizeof(d->what), "block at %llu of %s replaced by %s", LLU(at),
                   file->name, by);
    struct sim_disk *disk = sim_disk_fork(d->disk, 1);
    put_block(disk, file->name, at, block);
    memcpy(view->data + at, block, MR_LOG_BLOCK);
    look(d, disk, view);
    memcpy(view->data + at, file->data + at, MR_LOG_BLOCK);
    sim_disk_destroy(disk);
}

static void replace_blocks(struct damage *d, struct view *view, uint64_t at)
{
    static const uint8_t zeros[MR_LOG_BLOCK];
    struct file *file = &d->files.items[view->file];
    replace(d, view, at, zeros, "zeros");
    for (uint32_t i = 0; i < d->before_count; i++) {
        const struct file *older = sim_damage_file(&d->before[i], file->name);
        if (older != NULL && at + MR_LOG_BLOCK <= older->size) {
            replace(d, view, at, older->data + at, "an older one");
        }
    }
    for (uint32_t i = 0; i < d->files.count; i++) {
        const struct file *other = &d->files.items[i];
        if (i != view->file && at + MR_LOG_BLOCK <= other->size && at < other->used) {
            replace(d, view, at, other->data + at, other->name);
        }
    }
}

/* Each byte's worth @p stride th bit; where there are but zeros, few. */
static void damage_file(struct damage *d, uint32_t at, uint64_t stride)
{
    struct file *file = &d->files.items[at];
    struct view view = {.file = at, .size = file->size};
    view.data = malloc(file->size + 2 * MR_LOG_BLOCK);
    MR_ASSERT(view.data != NULL);
    memcpy(view.data, file->data, file->size + 2 * MR_LOG_BLOCK);
    uint64_t used = mr_round_up(file->used, MR_LOG_BLOCK);
    used = used < file->size ? used : file->size;
    uint64_t zeros = 0;
    for (uint64_t bit = d->world->seed % stride; bit < used * 8; bit += stride) {
        zeros = file->data[bit / 8] == 0 ? zeros + 1 : 0;
        if (zeros < 256 || bit % 251 < stride) {
            flip_bit(d, &view, bit / 8, (unsigned)(bit % 8));
        }
    }
    for (uint64_t size = 0; size < used; size += stride < 16 ? 16 : stride / 16 * 16) {
        cut(d, &view, size);
    }
    for (uint64_t block = 0; block < used; block += MR_LOG_BLOCK) {
        cut(d, &view, block);
        replace_blocks(d, &view, block);
    }
    free(view.data);
}

/* --- life goes on -------------------------------------------------------------------------------- */

/* @param keep  a survivor file, if there is one */
static const struct file *choose_file(const struct files *files, struct mr_rng *rng, bool keep)
{
    uint64_t chosen = mr_rng_below(rng, files->count);
    for (uint32_t i = 0; i < files->count && keep; i++) {
        const struct file *file = &files->items[(chosen + i) % files->count];
        if (sim_damage_is_keep(file)) {
            return file;
        }
    }
    return &files->items[chosen];
}

static void damage_at_random(struct sim_world *world, struct mr_rng *rng, bool keep)
{
    static const uint8_t zeros[MR_LOG_BLOCK];
    struct files files;
    read_files(world->disk, &files);
    const struct file *file = choose_file(&files, rng, keep);
    uint64_t at = file->used == 0 ? 0 : mr_rng_below(rng, file->used);
    uint64_t block = at / MR_LOG_BLOCK * MR_LOG_BLOCK;
    bool whole = block + MR_LOG_BLOCK <= file->size;
    switch (mr_rng_below(rng, 3)) {
    case 0:
        (void)sim_disk_rot(world->disk, file->name, at, (unsigned)mr_rng_below(rng, 8));
        break;
    case 1:
        cut_file(world->disk, file->name, block);
        break;
    default:
        put_block(world->disk, file->name, whole ? block : 0, zeros);
        break;
    }
    free_files(&files);
}

static bool has_keep(struct sim_world *world)
{
    const struct sim_names *names = &world->disk->now;
    for (uint32_t i = 0; i < names->count; i++) {
        if (strncmp(names->items[i].name, "keep-", 5) == 0) {
            return true;
        }
    }
    return false;
}

/* Until something has moved, if anything does. */
static void step_until_moved(struct sim_world *world)
{
    uint64_t groups = oracle_sequence(world->oracle) + KEEP_AFTER_MAX;
    while (world->steps < world->swarm.steps_max && oracle_sequence(world->oracle) < groups &&
           !has_keep(world)) {
        sim_world_step(world);
    }
    for (uint32_t i = 0; i < 8 && has_keep(world); i++) {
        sim_world_step(world); /* and is said to have */
    }
}

/* With a damaged log the bus must come to rest as with any other. */
static void come_to_rest(uint64_t seed, uint64_t groups, uint64_t n)
{
    bool keep = n % 2 == 1;
    struct sim_world *world = sim_world_create(seed);
    struct mr_rng rng;
    mr_rng_init(&rng, seed << 8 | n);
    world->swarm.crash_points_each = 0;
    sim_start(world);
    while (world->steps < world->swarm.steps_max && oracle_sequence(world->oracle) < groups) {
        sim_world_step(world);
    }
    if (keep) {
        step_until_moved(world);
    }
    sim_process_gone(world);
    sim_disk_crash(world->disk, false);
    oracle_cut(world->oracle);
    damage_at_random(world, &rng, keep);
    world->damaged = true;
    sim_restart(world);
    sim_world_rest(world);
    sim_world_destroy(world);
}

/* --- the run ---------------------------------------------------------------------------------- */

static void copy_before(struct damage *d)
{
    if (d->before_count < BEFORE_MAX) {
        read_files(d->world->disk, &d->before[d->before_count++]);
    }
}

static void drop_slots(struct sim_disk *disk)
{
    const struct mr_io_ops *ops = disk->io.ops;
    (void)ops->unlink(&disk->io, "checkpoint-0"); /* perhaps it is not there */
    (void)ops->unlink(&disk->io, "checkpoint-1");
    enum mr_status r = ops->sync_dir(&disk->io);
    MR_ASSERT(r == MR_OK);
}

static void take_disk(struct damage *d, bool without_slots)
{
    free_files(&d->files);
    sim_disk_destroy(d->disk);
    d->disk = sim_disk_fork(d->world->disk, d->world->seed);
    d->disk->power = NULL; /* its own from here on, if it had another beside it */
    sim_disk_crash(d->disk, false);
    if (without_slots) {
        drop_slots(d->disk);
    }
    read_files(d->disk, &d->files);
}

static void release(struct damage *d)
{
    mr_bus_destroy(d->base.bus);
    for (uint32_t i = 0; i < d->before_count; i++) {
        free_files(&d->before[i]);
    }
    free_files(&d->files);
    free(d->groups);
    free(d->records);
    free(d->places);
    sim_disk_destroy(d->disk);
    sim_world_destroy(d->world);
    free(d);
}

/* Survivor files alone, more of them: they are few and small. @return how many damages */
static uint64_t damage_keeps(struct damage *d, uint64_t stride)
{
    uint64_t before = d->tried;
    step_until_moved(d->world);
    take_disk(d, false);
    open_base(d);
    for (uint32_t i = 0; i < d->files.count; i++) {
        if (sim_damage_is_keep(&d->files.items[i])) {
            damage_file(d, i, stride / KEEP_DENSER + 1);
        }
    }
    return d->tried - before;
}

void sim_damage(uint64_t seed, uint64_t groups, uint64_t stride)
{
    struct damage *d = calloc(1, sizeof(*d));
    MR_ASSERT(d != NULL);
    d->world = sim_world_create(seed);
    d->world->swarm.crash_points_each = 0;
    d->world->swarm.rot = seed % 8 == 7; /* some have seen it before */
    uint64_t quarter = groups / (BEFORE_MAX + 1) + 1;
    sim_start(d->world);
    while (d->world->steps < d->world->swarm.steps_max &&
           oracle_sequence(d->world->oracle) < groups) {
        sim_world_step(d->world);
        if (oracle_sequence(d->world->oracle) >= quarter * (d->before_count + 1)) {
            copy_before(d);
        }
    }
    (void)snprintf(d->what, sizeof(d->what), "undamaged");
    d->groups = calloc(GROUPS_MAX, sizeof(*d->groups));
    d->records = calloc(RECORDS_MAX, sizeof(*d->records));
    d->places = calloc(PLACES_MAX, sizeof(*d->places));
    MR_ASSERT(d->groups != NULL && d->records != NULL && d->places != NULL);
    /* Without its checkpoints all of the log is read at a start; unless some was given up. */
    take_disk(d, true);
    bool whole = map_log(d);
    for (uint32_t i = 0; i < d->files.count && whole; i++) {
        if (i == 0) {
            open_base(d);
        }
        damage_file(d, i, stride);
    }
    d->by_hand = true;
    d->record_count = 0;
    take_disk(d, false);
    open_base(d);
    for (uint32_t i = 0; i < d->files.count; i++) {
        if (!whole || strncmp(d->files.items[i].name, "checkpoint", 10) == 0) {
            damage_file(d, i, stride);
        }
    }
    uint64_t kept = damage_keeps(d, stride);
    printf("  seed %llu: %u files, %u groups, %llu damages, %llu lose something, %llu of what "
           "moved; kinds %08llx\n",
           LLU(seed), d->files.count, d->group_count, LLU(d->tried), LLU(d->lossy), LLU(kept),
           LLU(d->kinds));
    sim_damage_kinds |= d->kinds;
    release(d);
    for (uint64_t n = 0; n < 3; n++) {
        come_to_rest(seed, groups, n);
    }
}
