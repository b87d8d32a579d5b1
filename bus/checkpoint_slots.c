/* A start finds two slots: which of them, and for each section which copy, becomes the state. */
#include "bus/checkpoint.h"
#include "bus/internal.h"

#include <stdlib.h>

#include "core/alloc.h"

const char *const mr__slot_names[2] = {"checkpoint-0", "checkpoint-1"};

/* The first @p most bytes, or as many as there are. */
static enum mr_status read_slot(struct mr_io *io, const char *name, uint64_t most,
                                uint8_t **ret_data, size_t *ret_size)
{
    int file;
    uint64_t size = 0;
    enum mr_status r = io->ops->open(io, name, MR_IO_READ_ONLY, &file);
    if (r != MR_OK) {
        return r;
    }
    r = io->ops->size(io, file, &size);
    size = size < most ? size : most;
    uint8_t *data = r == MR_OK ? mr_alloc((size_t)size + 1) : NULL;
    size_t got = 0;
    if (r == MR_OK) {
        r = data == NULL ? MR_E_NOMEM : io->ops->pread(io, file, data, (size_t)size, 0, &got);
    }
    io->ops->close(io, file);
    if (r != MR_OK) {
        mr_free(data);
        return r;
    }
    *ret_data = data;
    *ret_size = got;
    return MR_OK;
}

enum mr_status mr__slot_read(struct mr_io *io, const char *name, uint8_t **ret_data,
                             size_t *ret_size)
{
    return read_slot(io, name, UINT64_MAX, ret_data, ret_size);
}

/* Which one says that it is the newest. @return MR_E_UNSUPPORTED: *ret_slot is of a later version;
 * MR_E_NOMEM */
static enum mr_status find_newest(struct mr_io *io, const struct mr_log_index *index, int *ret_slot)
{
    uint64_t newest = 0;
    *ret_slot = 0;
    for (int i = 0; i < 2; i++) {
        uint8_t *data = NULL;
        size_t size = 0;
        struct mr__checkpoint_head head = {0};
        enum mr_status r = MR_E_NOT_FOUND;
        if (index->has_checkpoint[i]) {
            r = read_slot(io, mr__slot_names[i], MR_LOG_BLOCK, &data, &size);
            r = r == MR_OK ? mr__slot_head(data, size, &head) : r;
        }
        mr_free(data);
        if (r == MR_E_UNSUPPORTED || r == MR_E_NOMEM) {
            *ret_slot = i;
            return r;
        }
        if (r == MR_OK && head.generation > newest) {
            newest = head.generation;
            *ret_slot = i;
        }
    }
    return MR_OK;
}

static enum mr_status sync_slot(struct mr_io *io, int slot)
{
    int file;
    enum mr_status r = io->ops->open(io, mr__slot_names[slot], MR_IO_WRITE, &file);
    if (r == MR_OK) {
        r = io->ops->sync(io, file);
        io->ops->close(io, file);
    }
    return r == MR_OK ? io->ops->sync_dir(io) : r;
}

/* @return MR_OK also when it is of no use; *unread when it cannot be read now, which says nothing
 * about what stands there */
static enum mr_status look_at_slot(struct mr_bus *bus, struct mr_io *io, int i,
                                   struct mr__slot *slot, enum mr_status *unread)
{
    uint8_t *data;
    size_t size;
    enum mr_status r = mr__slot_read(io, mr__slot_names[i], &data, &size);
    if (r != MR_OK) {
        *unread = r == MR_E_NOMEM ? *unread : r;
        return r == MR_E_NOMEM ? r : MR_OK;
    }
    r = mr__slot_parse(slot, data, size);
    if (r == MR_OK && bus->log_id != 0 && slot->head.log_id != bus->log_id) {
        slot->head.generation = 0;
    }
    if (r == MR_E_NOMEM || r == MR_E_UNSUPPORTED) {
        return r;
    }
    if (slot->head.generation == 0) {
        return MR_OK;
    }
    /* A process that was killed may have left it in the page cache alone; from here on the other
     * slot is written over and this one must be able to stand for both. */
    bus->checkpoint_slot_position[i] = slot->whole ? slot->head.position : 0;
    bus->checkpoint_slot_sequence[i] = slot->whole ? slot->head.sequence : 0;
    return MR_PLANTED(SLOT_UNSYNCED) ? MR_OK : sync_slot(io, i);
}

/* --- sections --------------------------------------------------------------------------------- */

struct taking {
    struct mr_bus *bus;
    const struct mr__slot *best;
    const struct mr__slot *other; /* NULL: there is none of use */
    struct mr__checkpoint_start *start;
    struct mr_bus_opened *opened;
    size_t *told; /* how far progress was told */
};

/* Tells how far the slot is taken, now and then. @return whether to go on */
static bool tell_progress(const struct taking *t, const struct mr__items *items)
{
    const struct mr_bus_options *options = &t->bus->options;
    const struct mr__slot *slot = items->slot;
    size_t done = (size_t)(slot->chunks[items->chunk].items - slot->file) + items->at;
    if (options->progress == NULL || slot != t->best || done < *t->told) {
        return true;
    }
    *t->told = done + MR__PROGRESS_STEP;
    return options->progress(options->progress_context, "checkpoint", done, slot->file_size);
}

/* The log is needed from where @p slot was true, or from its beginning (NULL). */
static void start_at(const struct taking *t, const struct mr__slot *slot)
{
    struct mr__checkpoint_start *start = t->start;
    if (slot == NULL) {
        start->position = 0;
        start->sequence = 0;
        start->previous_crc = 0;
    } else if (slot->head.position < start->position) {
        start->position = slot->head.position;
        start->sequence = slot->head.sequence;
        start->previous_crc = slot->head.previous_crc;
    }
}

/* The newest whole copy of a section. @return false: there is none, and it is folded from the log,
 * *ret_known being the position where it was not there yet */
static bool find_section(const struct taking *t, enum mr__item kind, uint32_t id,
                         struct mr__items *ret_items, uint64_t *ret_known)
{
    const struct mr__slot *slot = t->best;
    const struct mr__section *section = mr__slot_find(slot, kind, id);
    *ret_known = 0;
    if (section == NULL && t->best->whole) {
        *ret_known = slot->head.position;
        return false;
    }
    if (section == NULL) {
        t->opened->sections_damaged++;
        slot = t->other;
        section = slot == NULL ? NULL : mr__slot_find(slot, kind, id);
        bool came_later = section == NULL && slot != NULL && slot->whole;
        *ret_known = came_later ? slot->head.position : 0;
        t->opened->sections_lost += section == NULL && !came_later;
        start_at(t, section != NULL || came_later ? slot : NULL);
    }
    if (section == NULL) {
        return false;
    }
    *ret_items = (struct mr__items){.slot = slot, .chunk = section->chunk, .at = section->at};
    return true;
}

static enum mr_status take_base(const struct taking *t, struct mr__items *items)
{
    struct mr__loader l;
    uint64_t number = 0;
    if (mr__items_next(items, &number, &l) != MR__ITEM_BASE) {
        return MR_E_CORRUPT;
    }
    t->bus->base_to = items->slot->head.position;
    if (!tell_progress(t, items)) {
        return MR_E_CLOSED;
    }
    (void)mr__load_base(t->bus, &l);
    uint64_t fanouts = mr__load_u64(&l);
    for (uint64_t i = 0; i < fanouts && l.status == MR_OK; i++) {
        struct mr_bytes name = mr__load_text(&l);
        l.status = l.status == MR_OK ? mr__fanout_name(t->bus, (uint32_t)i, name) : l.status;
    }
    return l.status;
}

struct delivery_list {
    const uint8_t **at; /* owned */
    uint64_t count;
    uint64_t capacity;
};

static enum mr_status take_item(struct mr_bus *bus, struct mr__sub *sub, enum mr__item kind,
                                uint64_t number, struct mr__loader *l, struct delivery_list *list)
{
    switch ((unsigned)kind) {
    case MR__ITEM_WEIGHT:
        return mr__state_weight(sub, (uint32_t)number, mr__load_u64(l));
    case MR__ITEM_SKIP:
        l->status = mr_map_reserve(&sub->skip, 1);
        if (l->status == MR_OK) {
            mr__load_skip(sub, number);
        }
        return l->status;
    case MR__ITEM_DEAD:
        mr__load_dead(bus, sub, number, l);
        return l->status;
    case MR__ITEM_DELIVERY:
        if (list->count == list->capacity) {
            return MR_E_CORRUPT; /* more than its section says */
        }
        list->at[list->count++] = l->at - 8;
        return MR_OK;
    default:
        return MR_E_CORRUPT;
    }
}

static enum mr_status take_sub(const struct taking *t, uint32_t id)
{
    struct mr_bus *bus = t->bus;
    struct mr__items items;
    uint64_t known;
    if (!find_section(t, MR__ITEM_SUB, id, &items, &known)) {
        enum mr_status r = mr__ids_reach(bus, MR_NAME_SUBSCRIPTION, id);
        if (r == MR_OK) {
            bus->subs[id]->folded_to = known;
        }
        return r;
    }
    struct mr__loader l;
    uint64_t number = 0;
    enum mr__item kind = mr__items_next(&items, &number, &l);
    uint64_t position = mr__load_u64(&l);
    struct mr__sub *sub = kind == MR__ITEM_SUB ? mr__load_sub(bus, &l, true) : NULL;
    if (sub == NULL || sub->id != id) {
        return l.status == MR_OK ? MR_E_CORRUPT : l.status;
    }
    sub->folded_to = position;
    uint64_t skips = mr__load_u64(&l);
    uint64_t dead = mr__load_u64(&l);
    struct delivery_list list = {.capacity = mr__load_u64(&l)};
    enum mr_status r = l.status;
    if (r == MR_OK && (skips > items.slot->file_size / 8 || dead > items.slot->file_size / 64 ||
                       list.capacity > items.slot->file_size / 72)) {
        r = MR_E_CORRUPT;
    }
    r = r == MR_OK ? mr_map_reserve(&sub->skip, skips) : r;
    r = r == MR_OK ? mr__state_reserve_dead_more(bus, sub, dead) : r;
    if (r == MR_OK) {
        list.at = mr_alloc(list.capacity * sizeof(const uint8_t *));
        r = list.at == NULL ? MR_E_NOMEM : MR_OK;
    }
    while (r == MR_OK && (kind = mr__items_next(&items, &number, &l)) != MR__ITEM_END) {
        r = tell_progress(t, &items) ? take_item(bus, sub, kind, number, &l, &list) : MR_E_CLOSED;
    }
    if (r == MR_OK) {
        r = mr__load_deliveries(bus, sub, list.at, list.count);
    }
    mr_free(list.at);
    return r;
}

static enum mr_status take_keys(const struct taking *t, uint32_t id)
{
    struct mr__items items;
    struct mr__source *source = t->bus->sources[id];
    if (!find_section(t, MR__ITEM_KEYS, id, &items, &source->keys_to)) {
        return MR_OK;
    }
    struct mr__loader l;
    uint64_t number = 0;
    enum mr__item kind = mr__items_next(&items, &number, &l);
    source->keys_to = mr__load_u64(&l);
    uint64_t window_ns = mr__load_u64(&l);
    uint64_t limit = mr__load_u64(&l);
    uint64_t count = mr__load_u64(&l);
    enum mr_status r = kind == MR__ITEM_KEYS ? l.status : MR_E_CORRUPT;
    r = r == MR_OK ? mr__load_keys(t->bus, &source->seen, window_ns, limit, count) : r;
    while (r == MR_OK && mr__items_next(&items, &number, &l) == MR__ITEM_KEY) {
        struct mr__seen_key key = {.offset = number};
        key.key.low = mr__load_u64(&l);
        key.key.high = mr__load_u64(&l);
        key.log_ns = mr__load_u64(&l);
        mr__load_key(t->bus, &source->seen, &key);
    }
    return r;
}

static int by_offset(const void *a, const void *b)
{
    const uint8_t *const *x = a;
    const uint8_t *const *y = b;
    uint64_t left = mr_get_u64(*x); /* all of one kind */
    uint64_t right = mr_get_u64(*y);
    return left != right ? (left < right ? -1 : 1) : *x < *y ? -1 : *x > *y;
}

static enum mr_status take_joins(const struct taking *t)
{
    struct mr__items items;
    if (!find_section(t, MR__ITEM_JOINS, 0, &items, &t->bus->joins_to)) {
        return MR_OK;
    }
    struct mr__loader l;
    uint64_t count = 0;
    enum mr__item kind = mr__items_next(&items, &count, &l);
    t->bus->joins_to = mr__load_u64(&l);
    if (kind != MR__ITEM_JOINS || l.status != MR_OK || count > items.slot->file_size / 16) {
        return MR_E_CORRUPT;
    }
    const uint8_t **at = mr_alloc(count * sizeof(const uint8_t *));
    enum mr_status r = at == NULL ? MR_E_NOMEM : MR_OK;
    uint64_t n = 0;
    uint64_t number = 0;
    while (r == MR_OK && mr__items_next(&items, &number, &l) == MR__ITEM_JOIN) {
        if (n == count) {
            r = MR_E_CORRUPT;
        } else {
            at[n++] = l.at - 8;
        }
    }
    if (r == MR_OK) {
        qsort(at, n, sizeof(const uint8_t *), by_offset);
    }
    for (uint64_t i = 0; i < n && r == MR_OK; i++) {
        l = (struct mr__loader){.at = at[i] + 16, .status = MR_OK};
        l.left = (size_t)mr_get_u64(at[i] + 8);
        mr__load_join(t->bus, mr_get_u64(at[i]) & MR__ITEM_NUMBER, &l);
        r = l.status;
    }
    mr_free(at);
    return r;
}

static uint64_t sub_count(const struct mr__slot *slot)
{
    uint64_t count = slot->ends ? slot->sub_count : 0;
    for (uint64_t i = 0; i < slot->section_count && !slot->ends; i++) {
        if (slot->sections[i].kind == MR__ITEM_SUB && slot->sections[i].id >= count) {
            count = slot->sections[i].id + 1ull;
        }
    }
    return count;
}

static enum mr_status take_sections(const struct taking *t)
{
    struct mr__items base;
    uint64_t known;
    if (!find_section(t, MR__ITEM_BASE, 0, &base, &known)) {
        /* Neither has one: the log from its beginning, with what stands of it. */
        start_at(t, NULL);
        return MR_OK;
    }
    uint64_t subs = sub_count(t->best);
    if (t->other != NULL && !t->best->ends && sub_count(t->other) > subs) {
        subs = sub_count(t->other);
    }
    enum mr_status r = subs > UINT32_MAX ? MR_E_CORRUPT : take_base(t, &base);
    for (uint32_t i = 0; i < subs && r == MR_OK; i++) {
        r = take_sub(t, i);
    }
    for (uint32_t i = 0; i < t->bus->source_count && r == MR_OK; i++) {
        r = take_keys(t, i);
    }
    return r == MR_OK ? take_joins(t) : r;
}

/* --- the whole -------------------------------------------------------------------------------- */

static enum mr_status take(struct mr_bus *bus, const struct mr__slot slots[2],
                           struct mr__checkpoint_start *start, struct mr_bus_opened *opened)
{
    int best = slots[0].head.generation >= slots[1].head.generation ? 0 : 1;
    if (slots[best].head.generation == 0) {
        return MR_OK;
    }
    const struct mr__checkpoint_head *head = &slots[best].head;
    bus->checkpoint_generation = head->generation;
    bus->checkpoint_position = head->position;
    bus->log_id = head->log_id;
    for (uint32_t i = 0; i < bus->segment_count + bus->keep_count; i++) {
        /* The other slot may not know what has moved since it was written. */
        struct mr__segment *segment = i < bus->segment_count ? &bus->segments[i]
                                                             : &bus->keeps[i - bus->segment_count];
        segment->moved_sequence = head->sequence;
    }
    /* The next goes where less is lost with it. */
    bus->checkpoint_slot = slots[best].whole ? 1u - (uint32_t)best : (uint32_t)best;
    *start = (struct mr__checkpoint_start){.position = head->position,
                                           .sequence = head->sequence,
                                           .previous_crc = head->previous_crc,
                                           .durable = head->sequence};
    bus->snap.last_size = head->size;
    if (slots[best].chunks == NULL) {
        return mr__checkpoint_old_load(bus, &slots[best]);
    }
    size_t told = 0;
    const struct mr__slot *other = &slots[1 - best];
    const struct taking t = {
        .bus = bus,
        .best = &slots[best],
        .other = other->head.generation == 0 || other->chunks == NULL ? NULL : other,
        .start = start,
        .opened = opened,
        .told = &told,
    };
    return take_sections(&t);
}

enum mr_status mr__checkpoint_recover(struct mr_bus *bus, struct mr_io *io,
                                      const struct mr_log_index *index,
                                      struct mr__checkpoint_start *ret_start,
                                      struct mr_bus_opened *opened, struct mr_problem *problem)
{
    struct mr__slot slots[2] = {0};
    enum mr_status unread = MR_OK;
    int i;
    enum mr_status r = find_newest(io, index, &i);
    bool whole = false;
    for (int looks = 0; looks < 2 && r == MR_OK && !whole; looks++, i = 1 - i) {
        if (index->has_checkpoint[i]) {
            r = look_at_slot(bus, io, i, &slots[i], &unread);
            whole = slots[i].whole && slots[i].head.generation != 0;
            opened->bad_slots += !slots[i].whole;
        }
    }
    if (r == MR_E_UNSUPPORTED) {
        r = mr_problem_set(problem, r,
                           "%s was written by a later version of Millrace; run that version",
                           mr__slot_names[i]);
    }
    /* One that cannot be read now is no torn one: where the other is not whole either, what it says
     * may stand nowhere else any more. */
    if (r == MR_OK && !whole && unread != MR_OK) {
        r = mr_problem_set(problem, unread,
                           "cannot read the checkpoints of the log: %s; start again, or see "
                           "`millrace log verify`",
                           mr_status_text(unread));
    }
    r = r == MR_OK ? take(bus, slots, ret_start, opened) : r;
    if (r == MR_E_CLOSED) {
        (void)mr_problem_set(problem, r, "stopped while the checkpoint was read");
    }
    mr__slot_release(&slots[0]);
    mr__slot_release(&slots[1]);
    return r;
}
