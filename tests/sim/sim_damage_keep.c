/* Damage to survivor files. What moved there is read by itself, record by record: what of it is
 * intact must be found, nothing else may be taken for it, and `log verify` must name the rest. */
#include <stdio.h>
#include <string.h>

#include "core/assert.h"
#include "oracle.h"
#include "sim_damage.h"

/* --- what lies in survivor files -------------------------------------------------------------- */

bool sim_damage_is_keep(const struct file *file)
{
    return strncmp(file->name, "keep-", 5) == 0;
}

static bool is_wanted(const struct place *place, const struct mr_record *record)
{
    return place->kind == MR_RECORD_DEAD
               ? record->kind == MR_RECORD_DEAD && record->a == place->sub &&
                     record->offset == place->offset
               : mr_record_is_event_of(record, place->sub, place->offset);
}

static void add_place(struct damage *d, struct place place, uint64_t position)
{
    char name[MR_LOG_NAME_SIZE];
    struct mr_record record;
    mr_log_file_name(MR_LOG_OF_SURVIVORS, mr_position_segment(position), name);
    const struct file *file = sim_damage_file(&d->files, name);
    uint64_t at = mr_position_at(position);
    if (file == NULL || at >= file->size || d->place_count == PLACES_MAX ||
        mr_record_decode(file->data + at, file->size - at, &record, NULL) != MR_OK ||
        !is_wanted(&place, &record)) {
        return;
    }
    place.file = (uint32_t)(file - d->files.items);
    place.at = (uint32_t)at;
    place.body = (uint32_t)record.body.size;
    d->places[d->place_count++] = place;
}

struct letter_places {
    struct damage *damage;
    uint32_t sub;
};

static bool add_letter(void *context, const struct mr_dead_letter *letter)
{
    const struct letter_places *of = context;
    struct place place = {.sub = of->sub, .offset = letter->offset, .kind = MR_RECORD_EVENT};
    add_place(of->damage, place, letter->event_position);
    place.kind = MR_RECORD_DEAD;
    add_place(of->damage, place, letter->record_position);
    return true;
}

void sim_damage_find_places(struct damage *d)
{
    d->place_count = 0;
    for (uint32_t sub = 0; sub < mr_bus_subscription_count(d->base.bus); sub++) {
        for (uint64_t offset = 1; offset < d->base.status.next_offset; offset++) {
            struct mr_delivery_info info;
            const struct place place = {.sub = sub, .offset = offset, .kind = MR_RECORD_EVENT};
            if (mr_bus_delivery_info(d->base.bus, sim_now(d->world), sub, offset, &info) ==
                MR_OK) {
                add_place(d, place, info.event_position);
            }
        }
        struct letter_places of = {.damage = d, .sub = sub};
        mr_bus_dead_letters(d->base.bus, sub, add_letter, &of);
    }
}

/* --- damage to survivor files ----------------------------------------------------------------- */

/* A record counts where it is intact, and nothing else does there. */
static bool is_intact(const struct damage *d, const struct view *view, const struct place *place)
{
    const uint8_t *was = d->files.items[place->file].data + place->at;
    const uint8_t *is = view->data + place->at;
    return place->at + mr_record_size(place->body) <= view->size &&
           sim_damage_compare(is, was, MR_RECORD_HEADER_SIZE) != OTHER &&
           memcmp(is + MR_RECORD_HEADER_SIZE, was + MR_RECORD_HEADER_SIZE, place->body) == 0;
}

static void check_place(struct damage *d, struct sim_disk *disk, const struct view *view,
                        const struct place *place)
{
    const struct file *file = &d->files.items[place->file];
    bool intact = is_intact(d, view, place);
    struct mr_record record;
    uint64_t left = view->size > place->at ? view->size - place->at : 0;
    size_t size = mr_record_size(place->body);
    size = left < size ? (size_t)left : size;
    bool good = mr_record_decode(view->data + place->at, size, &record, NULL) == MR_OK &&
                is_wanted(place, &record);
    if (good != intact) {
        sim_damage_fail(d, intact ? "what has moved is intact, and not read"
                       : "what has moved is damaged, and taken");
    }
    if (good && memcmp(record.body.data, file->data + place->at + MR_RECORD_HEADER_SIZE,
                       place->body) != 0) {
        sim_damage_fail(d, "what has moved is another");
    }
    struct mr_log_span span = {.at = place->at, .size = 1};
    struct mr_log_request request = {.kind = MR_LOG_SCRUB,
                                     .of = MR_LOG_OF_SURVIVORS,
                                     .spans = 1,
                                     .buf = (uint8_t *)&span};
    (void)mr_log_name_parse(file->name, "keep-", &request.number);
    mr_log_perform(&disk->io, &request);
    if (request.result != MR_OK || (intact && span.size == 0)) {
        sim_damage_fail(d, "what has moved is intact, and found rotten");
    }
}

/* Whether bytes that a checksum is over are others, or gone: up to the end of the last group in which
 * something is needed.
 * @param unknown  the answer where the file was not whole before */
static bool is_damaged(const struct damage *d, const struct view *view, uint64_t needed,
                       bool unknown)
{
    const uint8_t *was = d->files.items[view->file].data;
    struct mr_segment_header header;
    struct mr_group_header group;
    bool bad = view->size < MR_LOG_BLOCK || memcmp(was, view->data, MR_SEGMENT_HEADER_SIZE) != 0;
    if (d->base_found > 0 || mr_segment_header_decode(was, &header) != MR_OK) {
        return unknown;
    }
    uint64_t at = MR_LOG_BLOCK;
    while (!bad && at <= needed && mr_group_header_decode(was + at, header.salt, &group) == MR_OK) {
        bad = at + group.size > view->size ||
              oracle_group_differs(was + at, view->data + at, &group);
        at += group.padded;
    }
    return bad;
}

/* A start reads but the header of such a file: what it says beside is what it said. */
void sim_damage_look_at_keep(struct damage *d, struct sim_disk *disk, const struct view *view,
                         struct mr_bus *bus, const struct mr_bus_opened *opened)
{
    const struct mr_bus_opened *was = &d->base.opened;
    const struct file *file = &d->files.items[view->file];
    uint64_t needed = 0;
    for (uint32_t i = 0; i < d->place_count; i++) {
        if (d->places[i].file == view->file) {
            needed = d->places[i].at > needed ? d->places[i].at : needed;
            check_place(d, disk, view, &d->places[i]);
        }
    }
    if (mr_bus_state_hash(bus) != d->base.hash || opened->rotten != was->rotten ||
        opened->lost_events != was->lost_events) {
        sim_damage_fail(d, "a survivor file is damaged, and the log has another state");
    }
    bool header = view->size < MR_LOG_BLOCK ||
                  memcmp(file->data, view->data, MR_SEGMENT_HEADER_SIZE) != 0;
    bool said = opened->mended + opened->salvaged + opened->doubtful >
                was->mended + was->salvaged + was->doubtful;
    if (needed > 0 && header != said && d->base_found == 0) {
        sim_damage_fail(d, header ? "the header of a survivor file is damaged, and nothing is said"
                       : "the header of a survivor file is not damaged, and said to be");
    }
    uint32_t found = oracle_verify_keeps(&disk->io);
    d->lossy += found > 0;
    if (needed > 0 && found == 0 && is_damaged(d, view, needed, false)) {
        sim_damage_fail(d, "a survivor file is damaged, and `log verify` does not find it");
    }
    if (found > 0 && view->size == file->size &&
        !is_damaged(d, view, UINT64_MAX, true)) {
        sim_damage_fail(d, "`log verify` finds damage in a survivor file, and there is none");
    }
}
