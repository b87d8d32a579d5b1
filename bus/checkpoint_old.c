/* Checkpoints of versions 1 to 4, read: one body, all of it true at one position. */
#include "bus/checkpoint.h"
#include "bus/internal.h"

#include "core/alloc.h"

static void load_deliveries(struct mr_bus *bus, struct mr__sub *sub, struct mr__loader *l)
{
    uint64_t count = mr__load_u64(l);
    if (l->status == MR_OK && count > l->left / 64) {
        l->status = MR_E_CORRUPT;
    }
    const uint8_t **at = l->status == MR_OK ? mr_alloc(count * sizeof(const uint8_t *)) : NULL;
    if (at == NULL) {
        l->status = l->status == MR_OK ? MR_E_NOMEM : l->status;
        return;
    }
    for (uint64_t i = 0; i < count && l->status == MR_OK; i++) {
        at[i] = l->at;
        for (int k = 0; k < 8; k++) {
            (void)mr__load_u64(l);
        }
        (void)mr__load_text(l); /* its earlier attempts */
    }
    if (l->status == MR_OK) {
        l->status = mr__load_deliveries(bus, sub, at, count);
    }
    mr_free(at);
}

static void load_dead(struct mr_bus *bus, struct mr__sub *sub, struct mr__loader *l)
{
    uint64_t count = mr__load_u64(l);
    if (l->status == MR_OK && count > l->left / 64) {
        l->status = MR_E_CORRUPT;
    }
    for (uint64_t i = 0; i < count && l->status == MR_OK; i++) {
        uint64_t offset = mr__load_u64(l);
        mr__load_dead(bus, sub, offset, l);
    }
}

static void load_sub(struct mr_bus *bus, struct mr__loader *l, uint32_t version)
{
    struct mr__sub *sub = mr__load_sub(bus, l, version >= 2);
    uint64_t skips = sub == NULL ? 0 : mr__load_u64(l);
    if (l->status == MR_OK && skips > l->left / 8) {
        l->status = MR_E_CORRUPT;
    }
    if (l->status == MR_OK) {
        l->status = mr_map_reserve(&sub->skip, skips);
    }
    for (uint64_t i = 0; i < skips && l->status == MR_OK; i++) {
        mr__load_skip(sub, mr__load_u64(l));
    }
    if (l->status == MR_OK) {
        load_dead(bus, sub, l);
    }
    if (l->status == MR_OK) {
        load_deliveries(bus, sub, l);
    }
}

static void load_keys(struct mr_bus *bus, struct mr__seen *seen, struct mr__loader *l)
{
    uint64_t window_ns = mr__load_u64(l);
    uint64_t limit = mr__load_u64(l);
    uint64_t count = mr__load_u64(l);
    bool sense = count <= limit && count <= l->left / 32;
    if (l->status == MR_OK && !sense) {
        l->status = MR_E_CORRUPT;
    }
    if (l->status == MR_OK) {
        l->status = mr__load_keys(bus, seen, window_ns, limit, count);
    }
    for (uint64_t i = 0; i < count && l->status == MR_OK; i++) {
        struct mr__seen_key key;
        key.key.low = mr__load_u64(l);
        key.key.high = mr__load_u64(l);
        key.offset = mr__load_u64(l);
        key.log_ns = mr__load_u64(l);
        mr__load_key(bus, seen, &key);
    }
}

static void load_weights(struct mr_bus *bus, struct mr__loader *l)
{
    for (uint32_t i = 0; i < bus->sub_count && l->status == MR_OK; i++) {
        uint64_t count = mr__load_u64(l);
        for (uint64_t k = 0; k < count && l->status == MR_OK; k++) {
            uint64_t target = mr__load_u64(l);
            uint64_t hash = mr__load_u64(l);
            if (l->status == MR_OK && (target >= bus->target_count || hash == 0)) {
                l->status = MR_E_CORRUPT;
            } else if (l->status == MR_OK) {
                l->status = mr__state_weight(bus->subs[i], (uint32_t)target, hash);
            }
        }
    }
}

static void load_fanouts(struct mr_bus *bus, struct mr__loader *l)
{
    uint64_t names = mr__load_u64(l);
    for (uint64_t i = 0; i < names && l->status == MR_OK; i++) {
        struct mr_bytes name = mr__load_text(l);
        l->status = l->status == MR_OK ? mr__fanout_name(bus, (uint32_t)i, name) : l->status;
    }
    uint64_t joins = names == 0 ? 0 : mr__load_u64(l);
    for (uint64_t i = 0; i < joins && l->status == MR_OK; i++) {
        mr__load_join(bus, mr__load_u64(l), l);
    }
}

enum mr_status mr__checkpoint_old_load(struct mr_bus *bus, const struct mr__slot *slot)
{
    uint32_t version = slot->head.version;
    struct mr__loader l = {.at = slot->file + MR__CHECKPOINT_HEAD_SIZE,
                           .left = (size_t)slot->head.size - MR__CHECKPOINT_HEAD_SIZE,
                           .status = MR_OK};
    (void)mr__load_base(bus, &l);
    uint64_t subs = mr__load_u64(&l);
    for (uint64_t i = 0; i < subs && l.status == MR_OK; i++) {
        load_sub(bus, &l, version);
    }
    for (uint32_t i = 0; i < bus->source_count && version >= 3; i++) {
        load_keys(bus, &bus->sources[i]->seen, &l);
    }
    if (version >= 4 && l.status == MR_OK) {
        load_fanouts(bus, &l);
        load_weights(bus, &l);
    }
    return l.status;
}
