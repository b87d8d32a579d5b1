#include "bus/checkpoint_verify.h"

#include "bus/checkpoint.h"
#include "core/hash.h"

struct verifying {
    struct mr__slot slots[2];
    struct mr_slot_report *reports;
    void (*found)(void *context, const struct mr_slot_finding *finding);
    void *context;
};

/* Whether a chunk stands in it that belongs to a later checkpoint than its head: until that one is
 * complete, the head before stays. */
static bool is_written_over(const struct mr__slot *slot)
{
    for (size_t at = MR_LOG_BLOCK; slot->file_size >= at + MR__CHUNK_HEAD_SIZE;
         at += MR_LOG_BLOCK) {
        const uint8_t *head = slot->file + at;
        if (mr_get_u32(head) == MR__CHUNK_MAGIC &&
            mr_get_u32(head + 60) == mr_crc32c(0, head, 60) &&
            mr_get_u64(head + 8) != slot->head.stamp &&
            mr_get_u64(head + 16) == slot->head.log_id) {
            return true;
        }
    }
    return false;
}

static bool is_headless(const struct mr__slot *slot)
{
    for (size_t i = 0; i < MR__CHECKPOINT_HEAD_SIZE && i < slot->file_size; i++) {
        if (slot->file[i] != 0) {
            return false;
        }
    }
    return true;
}

static enum mr_status look_at_slot(struct mr_io *io, uint64_t log_id, struct mr__slot *slot,
                                   struct mr_slot_report *report)
{
    uint8_t *data;
    size_t size;
    enum mr_status r = mr__slot_read(io, report->file, &data, &size);
    if (r != MR_OK) {
        report->state = r == MR_E_NOT_FOUND ? MR_SLOT_ABSENT : MR_SLOT_USELESS;
        return r == MR_E_NOMEM ? r : MR_OK;
    }
    r = mr__slot_parse(slot, data, size);
    if (r == MR_OK && log_id != 0 && slot->head.log_id != log_id) {
        slot->head.generation = 0;
    }
    report->generation = slot->head.generation;
    if (r == MR_E_UNSUPPORTED) {
        report->state = MR_SLOT_LATER;
    } else if (slot->head.generation == 0) {
        report->state = MR_SLOT_USELESS;
    } else if (slot->whole) {
        report->state = MR_SLOT_WHOLE;
    } else {
        report->state = is_written_over(slot) ? MR_SLOT_UNFINISHED : MR_SLOT_DAMAGED;
    }
    return r == MR_E_NOMEM ? r : MR_OK;
}

/* A slot gets its first head when the first checkpoint in it is complete. */
static void excuse_first(struct verifying *v)
{
    for (unsigned i = 0; i < 2; i++) {
        struct mr_slot_report *report = &v->reports[i];
        const struct mr_slot_report *other = &v->reports[1 - i];
        bool is_first = other->state == MR_SLOT_ABSENT || other->generation == 1;
        if (report->state == MR_SLOT_USELESS && v->slots[i].file != NULL && is_first &&
            is_headless(&v->slots[i])) {
            report->state = MR_SLOT_UNFINISHED;
        }
    }
}

static void tell_chunks(const struct verifying *v, unsigned i)
{
    const struct mr__slot *slot = &v->slots[i];
    for (uint32_t k = 0; slot->chunks != NULL && k < slot->head.chunks; k++) {
        if (slot->chunks[k].items == NULL) {
            struct mr_slot_finding finding = {.file = v->reports[i].file, .number = k};
            v->found(v->context, &finding);
        }
    }
}

/* @return false: neither slot has it */
static bool look_for(const struct verifying *v, unsigned i, enum mr__item kind, uint32_t id,
                     const char *section)
{
    if (mr__slot_find(&v->slots[i], kind, id) != NULL) {
        return true;
    }
    const struct mr__slot *other = &v->slots[1 - i];
    struct mr_slot_finding finding = {
        .file = v->reports[i].file,
        .section = section,
        .number = id,
        .from_other = other->head.generation != 0 && mr__slot_find(other, kind, id) != NULL};
    v->found(v->context, &finding);
    return finding.from_other;
}

/* How many subscriptions, and sources, slot @p i should have sections of: what its end says, or
 * what either names; never more than it has room for. */
static void count_sections(const struct verifying *v, unsigned i, uint64_t *ret_subs,
                           uint64_t *ret_keys)
{
    const struct mr__slot *slot = &v->slots[i];
    uint64_t room = slot->file_size / MR__CHUNK_HEAD_SIZE;
    uint64_t subs = slot->ends ? slot->sub_count : 0;
    uint64_t keys = 0;
    for (unsigned k = 0; k < 2; k++) {
        const struct mr__slot *named = &v->slots[k];
        for (uint64_t n = 0; named->head.generation != 0 && n < named->section_count; n++) {
            const struct mr__section *section = &named->sections[n];
            uint64_t end = section->id + 1ull;
            if (section->kind == MR__ITEM_SUB && !slot->ends && end > subs) {
                subs = end;
            }
            keys = section->kind == MR__ITEM_KEYS && end > keys ? end : keys;
        }
    }
    *ret_subs = subs < room ? subs : room;
    *ret_keys = keys < room ? keys : room;
}

static void tell_sections(const struct verifying *v, unsigned i)
{
    uint64_t subs;
    uint64_t keys;
    count_sections(v, i, &subs, &keys);
    if (!look_for(v, i, MR__ITEM_BASE, 0, "base")) {
        return; /* nothing else of it counts without: all is folded from the log */
    }
    for (uint64_t id = 0; id < subs; id++) {
        (void)look_for(v, i, MR__ITEM_SUB, (uint32_t)id, "subscription");
    }
    for (uint64_t id = 0; id < keys; id++) {
        (void)look_for(v, i, MR__ITEM_KEYS, (uint32_t)id, "keys");
    }
    (void)look_for(v, i, MR__ITEM_JOINS, 0, "joins");
}

enum mr_status mr_slots_verify(struct mr_io *io, uint64_t log_id,
                               struct mr_slot_report ret_slots[2],
                               void (*found)(void *context,
                                             const struct mr_slot_finding *finding),
                               void *context)
{
    struct verifying v = {.reports = ret_slots, .found = found, .context = context};
    enum mr_status r = MR_OK;
    for (unsigned i = 0; i < 2 && r == MR_OK; i++) {
        ret_slots[i] = (struct mr_slot_report){.file = mr__slot_names[i]};
        r = look_at_slot(io, log_id, &v.slots[i], &ret_slots[i]);
    }
    if (r == MR_OK) {
        unsigned best = ret_slots[0].generation >= ret_slots[1].generation ? 0 : 1;
        ret_slots[best].counts = ret_slots[best].generation != 0;
        excuse_first(&v);
        for (unsigned i = 0; i < 2; i++) {
            if (ret_slots[i].state == MR_SLOT_DAMAGED) {
                tell_chunks(&v, i);
            }
        }
        if (ret_slots[best].state == MR_SLOT_DAMAGED) {
            tell_sections(&v, best);
        }
    }
    mr__slot_release(&v.slots[0]);
    mr__slot_release(&v.slots[1]);
    return r;
}
