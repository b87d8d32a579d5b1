/* What the groups of a segment may concern while it has no footer: of each a small Bloom filter,
 * made as it is written. With it `trace` reads a few groups of what was written last, not all of
 * it. Nothing depends on it: where memory is short there is none, and the segment is read. */
#include "bus/internal.h"

#include "bus/footer_form.h"
#include "core/alloc.h"
#include "schemas/event.h"

#define BITS_EACH 16u /* for what is noted: one group in 400 is read in vain */
#define PROBES 4u
#define PART 4u /* of log.cache_size: what all of them may take of it */
#define NOTED_KEPT 65536u /* after a group of more than that, their memory goes */

/* In a sketch each group is a word that says where it is, then its filter. */
#define WORD_ALL 1ull /* it has what concerns every event */
#define WORD_COUNT_SHIFT 1
#define WORD_PLACE_SHIFT 32
#define WORD_COUNT_MAX ((1ull << (WORD_PLACE_SHIFT - WORD_COUNT_SHIFT)) - 1)

/* --- what is gathered ------------------------------------------------------------------------- */

static void note(struct mr_bus *bus, uint64_t hash)
{
    bus->noted_lost = mr__numbers_add(&bus->noted, hash) != MR_OK || bus->noted_lost;
}

static void note_about(struct mr_bus *bus, uint64_t offset)
{
    if (offset == 0) {
        return;
    }
    uint64_t hash = mr_footer_about_hash(offset);
    if (bus->noted.count == 0 || hash != bus->noted_about) {
        bus->noted_about = hash; /* the next is often the same */
        note(bus, hash);
    }
}

void mr__sketch_note(struct mr_bus *bus, const struct mr_record *record)
{
    if (bus->options.footers_off) {
        return;
    }
    bus->noted_all = bus->noted_all || footer_is_about_all(record);
    note_about(bus, record->offset);
    note_about(bus, footer_about_other(record));
    if (record->kind == MR_RECORD_EVENT) {
        note(bus, mr_footer_id_hash(mr_event_id(record->body)));
    }
}

/* --- what is kept ----------------------------------------------------------------------------- */

void mr__sketch_drop(struct mr_bus *bus, struct mr__segment *segment)
{
    bus->sketch_bytes -= segment->sketch.capacity * sizeof(uint64_t);
    mr_free(segment->sketch.items);
    segment->sketch = (struct mr__numbers){0};
}

static uint32_t bit_of(uint64_t hash, uint32_t probe, uint64_t bits)
{
    uint32_t at = (uint32_t)hash + probe * ((uint32_t)(hash >> 32) | 1u);
    return (uint32_t)(at * bits >> 32);
}

static bool add_group(struct mr_bus *bus, struct mr__numbers *sketch, uint64_t at)
{
    const struct mr__numbers *noted = &bus->noted;
    if (MR_PLANTED(SKETCH_SHORT) && noted->count > 3) {
        return true;
    }
    uint64_t count = (noted->count * BITS_EACH + 63) / 64;
    if (bus->noted_lost || count > WORD_COUNT_MAX) {
        return false;
    }
    uint64_t head = at / MR_LOG_BLOCK << WORD_PLACE_SHIFT | count << WORD_COUNT_SHIFT |
                    (bus->noted_all ? WORD_ALL : 0);
    enum mr_status r = mr__numbers_add(sketch, head);
    for (uint64_t i = 0; i < count && r == MR_OK; i++) {
        r = mr__numbers_add(sketch, 0);
    }
    if (r != MR_OK) {
        return false;
    }
    uint64_t *word = sketch->items + sketch->count - count;
    for (size_t i = 0; i < noted->count; i++) {
        for (uint32_t probe = 0; probe < PROBES; probe++) {
            uint32_t bit = bit_of(noted->items[i], probe, count * 64);
            word[bit / 64] |= 1ull << (bit % 64);
        }
    }
    return true;
}

/* The oldest give way. */
static void keep_bound(struct mr_bus *bus)
{
    uint64_t most = bus->options.log.cache_size / PART;
    for (uint32_t i = 0; i < bus->segment_count && bus->sketch_bytes > most; i++) {
        mr__sketch_drop(bus, &bus->segments[i]);
    }
}

void mr__sketch_group(struct mr_bus *bus, struct mr__segment *segment, uint64_t at)
{
    struct mr__numbers *sketch = &segment->sketch;
    bool begins = at == MR_LOG_BLOCK;
    if ((begins || sketch->count > 0) && !bus->options.footers_off) {
        uint64_t before = sketch->capacity;
        bool added = add_group(bus, sketch, at);
        bus->sketch_bytes += (sketch->capacity - before) * sizeof(uint64_t);
        if (!added) {
            mr__sketch_drop(bus, segment);
        }
        keep_bound(bus);
    }
    if (bus->noted.capacity > NOTED_KEPT) {
        mr_free(bus->noted.items);
        bus->noted = (struct mr__numbers){0};
    }
    bus->noted.count = 0;
    bus->noted_lost = bus->noted_all = false;
}

bool mr_bus_sketched(struct mr_bus *bus, uint64_t number, uint64_t hash, bool is_about,
                     bool (*fn)(void *context, uint64_t place), void *context)
{
    const struct mr__segment *segment = mr__segment_of(bus, mr_position(number, 0));
    if (segment == NULL || segment->sketch.count == 0) {
        return false;
    }
    const uint64_t *word = segment->sketch.items;
    const uint64_t *end = word + segment->sketch.count;
    while (word < end) {
        uint64_t head = *word++;
        uint64_t count = head >> WORD_COUNT_SHIFT & WORD_COUNT_MAX;
        bool may = count > 0;
        for (uint32_t probe = 0; probe < PROBES && may; probe++) {
            uint32_t bit = bit_of(hash, probe, count * 64);
            may = (word[bit / 64] >> (bit % 64) & 1) != 0;
        }
        may = may || (is_about && (head & WORD_ALL) != 0);
        if (may && !fn(context, (head >> WORD_PLACE_SHIFT) * MR_LOG_BLOCK)) {
            break;
        }
        word += count;
    }
    return true;
}
