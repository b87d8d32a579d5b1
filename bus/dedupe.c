/* What a source has sent within its dedupe window: a ring of keys in the order they came, and an
 * index into it. The same calls serve the live bus and recovery (a KEY record, a checkpoint). */
#include "bus/dedupe.h"

#include "bus/internal.h"
#include "core/alloc.h"
#include "core/hash.h"
#include "core/siphash.h"

/* --- keys ------------------------------------------------------------------------------------- */

static void add_text(struct mr_siphash *hash, struct mr_bytes text)
{
    uint8_t size[8];
    mr_put_u64(size, text.size);
    mr_siphash_add(hash, mr_bytes(size, sizeof(size)));
    mr_siphash_add(hash, text);
}

static void begin_key(struct mr_siphash *hash, uint64_t salt, enum mr_dedupe_by by)
{
    uint8_t kind = (uint8_t)by;
    mr_siphash_begin(hash, salt, mr_hash_u64(salt ^ 0x9e3779b97f4a7c15ull));
    mr_siphash_add(hash, mr_bytes(&kind, sizeof(kind)));
}

static struct mr_dedupe_key end_key(struct mr_siphash *hash)
{
    uint64_t words[2];
    mr_siphash_end(hash, words);
    if (MR_PLANTED(KEY_CUT)) {
        words[0] &= 15;
        words[1] = 0;
    }
    return (struct mr_dedupe_key){.low = words[0], .high = words[1] | (words[0] == 0)};
}

struct mr_dedupe_key mr_dedupe_key_of_id(uint64_t salt, struct mr_bytes record, bool with_data)
{
    struct mr_siphash hash;
    begin_key(&hash, salt, MR_DEDUPE_BY_ID);
    add_text(&hash, mr_event_source(record));
    add_text(&hash, mr_event_id(record));
    if (with_data) {
        add_text(&hash, mr_event_data(record));
    }
    return end_key(&hash);
}

struct mr_dedupe_key mr_dedupe_key_of_request(uint64_t salt, struct mr_bytes name, uint32_t index,
                                              struct mr_bytes record)
{
    struct mr_siphash hash;
    uint8_t number[8];
    mr_put_u64(number, index);
    begin_key(&hash, salt, MR_DEDUPE_BY_REQUEST);
    add_text(&hash, name);
    mr_siphash_add(&hash, mr_bytes(number, sizeof(number)));
    add_text(&hash, mr_event_source(record));
    add_text(&hash, mr_event_id(record));
    add_text(&hash, mr_event_data(record));
    return end_key(&hash);
}

uint64_t mr_bus_salt(const struct mr_bus *bus)
{
    return bus->log_id;
}

/* --- the ring and its index ------------------------------------------------------------------- */

static struct mr__seen_key *ring_at(const struct mr__seen *seen, uint64_t n)
{
    uint64_t place = seen->first + n;
    return &seen->ring[place < seen->limit ? place : place - seen->limit];
}

/* The place of @p key in the index, or the free one where it would stand. */
static uint64_t index_of(const struct mr__seen *seen, const struct mr_dedupe_key *key)
{
    uint64_t at = key->low & (seen->index_size - 1);
    while (seen->index[at] != 0) {
        const struct mr_dedupe_key *other = &seen->ring[seen->index[at] - 1].key;
        if (other->low == key->low && other->high == key->high) {
            break;
        }
        at = (at + 1) & (seen->index_size - 1);
    }
    return at;
}

/* Frees the place @p at: what stands behind it and would not be found any more moves up. */
static void index_free(struct mr__seen *seen, uint64_t at)
{
    uint64_t mask = seen->index_size - 1;
    for (uint64_t next = (at + 1) & mask; seen->index[next] != 0; next = (next + 1) & mask) {
        uint64_t home = seen->ring[seen->index[next] - 1].key.low & mask;
        if (((next - home) & mask) >= ((next - at) & mask)) {
            seen->index[at] = seen->index[next];
            at = next;
        }
    }
    seen->index[at] = 0;
}

/* Its place in the ring stays, of no key. */
static void forget(struct mr__seen *seen, struct mr__seen_key *key)
{
    uint64_t at = index_of(seen, &key->key);
    MR_ASSERT(seen->index[at] == (uint32_t)(key - seen->ring) + 1);
    index_free(seen, at);
    key->key = (struct mr_dedupe_key){0};
}

static void drop_oldest(struct mr_bus *bus, struct mr__seen *seen)
{
    MR_ASSERT(seen->count > 0);
    if (mr_dedupe_key_is_set(&ring_at(seen, 0)->key)) {
        forget(seen, ring_at(seen, 0));
    }
    seen->first = seen->first + 1 == seen->limit ? 0 : seen->first + 1;
    seen->count--;
    seen->dropped++;
    bus->seen_bytes -= MR_DEDUPE_KEY_COST;
    bus->state_bytes -= MR_DEDUPE_KEY_COST;
}

static void append(struct mr_bus *bus, struct mr__seen *seen, const struct mr__seen_key *key)
{
    MR_ASSERT(seen->count < seen->limit);
    uint64_t at = index_of(seen, &key->key);
    MR_ASSERT(seen->index[at] == 0);
    struct mr__seen_key *place = ring_at(seen, seen->count);
    *place = *key;
    seen->index[at] = (uint32_t)(place - seen->ring) + 1;
    seen->count++;
    bus->seen_bytes += MR_DEDUPE_KEY_COST;
    bus->state_bytes += MR_DEDUPE_KEY_COST;
}

void mr__seen_release(struct mr_bus *bus, struct mr__seen *seen)
{
    if (seen->ring != NULL) {
        mr__checkpoint_abandon(bus); /* it goes by what stands in there */
    }
    bus->seen_bytes -= seen->count * MR_DEDUPE_KEY_COST;
    bus->state_bytes -= seen->count * MR_DEDUPE_KEY_COST;
    mr_free(seen->ring);
    mr_free(seen->index);
    seen->ring = NULL;
    seen->index = NULL;
    seen->limit = 0;
    seen->count = 0;
    seen->first = 0;
}

/* A ring of another size, with the newest of what was in the old one. Its memory is touched only as
 * keys come. */
static enum mr_status resize(struct mr_bus *bus, struct mr__seen *seen, uint64_t limit)
{
    struct mr__seen grown = {.limit = limit, .index_size = 2};
    while (grown.index_size < limit * 2) {
        grown.index_size *= 2;
    }
    grown.ring = mr_calloc(limit, sizeof(*grown.ring));
    grown.index = mr_calloc(grown.index_size, sizeof(*grown.index));
    if (grown.ring == NULL || grown.index == NULL) {
        mr_free(grown.ring);
        mr_free(grown.index);
        return MR_E_NOMEM;
    }
    for (uint64_t i = seen->count > limit ? seen->count - limit : 0; i < seen->count; i++) {
        if (mr_dedupe_key_is_set(&ring_at(seen, i)->key)) {
            append(bus, &grown, ring_at(seen, i));
        }
    }
    grown.window_ns = seen->window_ns;
    grown.wanted = seen->wanted;
    mr__seen_release(bus, seen);
    *seen = grown;
    return MR_OK;
}

/* --- what a source keeps ---------------------------------------------------------------------- */

void mr__seen_configure(struct mr_bus *bus, struct mr__seen *seen, uint64_t window_ns,
                        uint64_t keys)
{
    MR_ASSERT(window_ns == 0 || (keys > 0 && keys <= UINT32_MAX / 4));
    seen->window_ns = window_ns;
    seen->wanted = keys;
    while (seen->count > keys) { /* what is too many now is not kept until the next event comes */
        drop_oldest(bus, seen);
    }
    if (window_ns == 0) {
        mr__seen_release(bus, seen);
    }
}

enum mr_status mr__seen_reserve(struct mr_bus *bus, struct mr__seen *seen)
{
    if (seen->limit == seen->wanted) {
        return MR_OK;
    }
    enum mr_status r = resize(bus, seen, seen->wanted);
    return seen->limit > 0 ? MR_OK : r; /* memory is short: the old size will do */
}

static bool is_past(const struct mr__seen *seen, const struct mr__seen_key *key, uint64_t log_ns)
{
    return key->log_ns + seen->window_ns <= log_ns && !MR_PLANTED(KEY_KEPT);
}

static void expire(struct mr_bus *bus, struct mr__seen *seen, uint64_t log_ns)
{
    while (seen->count > 0 && is_past(seen, ring_at(seen, 0), log_ns)) {
        drop_oldest(bus, seen);
    }
}

uint64_t mr__seen_find(struct mr_bus *bus, struct mr__seen *seen, const struct mr_dedupe_key *key)
{
    expire(bus, seen, bus->log_ns);
    if (seen->count == 0) {
        return 0;
    }
    uint64_t at = index_of(seen, key);
    return seen->index[at] == 0 ? 0 : seen->ring[seen->index[at] - 1].offset;
}

uint32_t mr__seen_enter(struct mr_bus *bus, struct mr__seen *seen, const struct mr__seen_key *key)
{
    uint32_t early = 0;
    expire(bus, seen, key->log_ns);
    uint64_t at = index_of(seen, &key->key);
    if (seen->index[at] != 0) {
        /* Recovery may keep more than was kept then: that one had gone when this one came. */
        forget(seen, &seen->ring[seen->index[at] - 1]);
    }
    bool is_short = bus->seen_bytes + MR_DEDUPE_KEY_COST > bus->options.memory_state / 4;
    uint64_t sure = mr_memory_keys_floor(bus->options.memory_state, bus->source_count);
    if (seen->count == seen->limit || (is_short && seen->count > sure)) {
        drop_oldest(bus, seen);
        early++;
    }
    struct mr__seen_key entered = *key;
    uint64_t newest_ns = seen->count == 0 ? 0 : ring_at(seen, seen->count - 1)->log_ns;
    if (entered.log_ns < newest_ns) {
        entered.log_ns = newest_ns; /* a rotten log may tell times out of order */
    }
    append(bus, seen, &entered);
    return early;
}

const struct mr__seen_key *mr__seen_at(const struct mr__seen *seen, uint64_t n)
{
    MR_ASSERT(n < seen->count);
    return ring_at(seen, n);
}

uint64_t mr_bus_first_offset(const struct mr_bus *bus, uint32_t source,
                             const struct mr_dedupe_key *key)
{
    const struct mr__seen *seen = source < bus->source_count ? &bus->sources[source]->seen : NULL;
    uint64_t at = seen == NULL || seen->limit == 0 ? 0 : index_of(seen, key);
    if (seen == NULL || seen->limit == 0 || seen->index[at] == 0) {
        return 0;
    }
    const struct mr__seen_key *found = &seen->ring[seen->index[at] - 1];
    return is_past(seen, found, bus->log_ns) ? 0 : found->offset;
}

void mr__seen_check(const struct mr__seen *seen)
{
    uint64_t used = 0;
    MR_ASSERT(seen->count <= seen->limit);
    for (uint64_t i = 0; i < seen->count; i++) {
        const struct mr__seen_key *key = ring_at(seen, i);
        if (mr_dedupe_key_is_set(&key->key)) {
            MR_ASSERT(&seen->ring[seen->index[index_of(seen, &key->key)] - 1] == key);
            used++;
        }
        MR_ASSERT(i == 0 || ring_at(seen, i - 1)->log_ns <= key->log_ns);
    }
    for (uint64_t i = 0; i < seen->index_size && seen->index != NULL; i++) {
        used -= seen->index[i] != 0;
    }
    MR_ASSERT(used == 0); /* each in the index, and nothing else */
}
