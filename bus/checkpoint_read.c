/* Checkpoints, looked at: what of a slot is good. Nothing here knows the state; a section is whole
 * when every chunk that it stands in is. */
#include "bus/checkpoint.h"

#include "core/alloc.h"
#include "core/hash.h"

/* --- bytes ------------------------------------------------------------------------------------ */

uint64_t mr__load_u64(struct mr__loader *l)
{
    if (l->status != MR_OK || l->left < 8) {
        l->status = l->status == MR_OK ? MR_E_CORRUPT : l->status;
        return 0;
    }
    uint64_t v = mr_get_u64(l->at);
    l->at += 8;
    l->left -= 8;
    return v;
}

struct mr_bytes mr__load_text(struct mr__loader *l)
{
    uint64_t size = mr__load_u64(l);
    if (l->status != MR_OK || l->left < size) {
        l->status = l->status == MR_OK ? MR_E_CORRUPT : l->status;
        return mr_bytes(NULL, 0);
    }
    struct mr_bytes text = mr_bytes(l->at, (size_t)size);
    l->at += size;
    l->left -= (size_t)size;
    return text;
}

char *mr__load_name(struct mr__loader *l)
{
    struct mr_bytes text = mr__load_text(l);
    char *name = l->status == MR_OK ? mr_strndup((const char *)text.data, text.size) : NULL;
    if (name == NULL && l->status == MR_OK) {
        l->status = MR_E_NOMEM;
    }
    return name;
}

/* Bytes of an item whose size is told by the u64 at @p at, behind @p before bytes. */
static uint64_t told_size(const uint8_t *item, size_t left, size_t at, size_t before)
{
    uint64_t size = left < at + 8 ? UINT64_MAX : mr_get_u64(item + at);
    return size > left ? UINT64_MAX : before + size;
}

/* Of the item at @p item; 0: it does not end within @p left, or is of no kind. */
static size_t item_size(const uint8_t *item, size_t left)
{
    if (left < 8) {
        return 0;
    }
    uint64_t number = mr_get_u64(item) & MR__ITEM_NUMBER;
    uint64_t size = 0;
    switch ((enum mr__item)(mr_get_u64(item) >> MR__ITEM_SHIFT)) {
    case MR__ITEM_BASE:
        size = number > left ? UINT64_MAX : 8 + number;
        break;
    case MR__ITEM_SUB:
        size = told_size(item, left, 16, 24 + 16 * 8);
        break;
    case MR__ITEM_DELIVERY:
        size = told_size(item, left, 64, 72);
        break;
    case MR__ITEM_JOIN:
        size = told_size(item, left, 8, 16);
        break;
    case MR__ITEM_DEAD:
        size = 64;
        break;
    case MR__ITEM_KEYS:
        size = 40;
        break;
    case MR__ITEM_KEY:
        size = 32;
        break;
    case MR__ITEM_WEIGHT:
    case MR__ITEM_JOINS:
    case MR__ITEM_LAST:
        size = 16;
        break;
    case MR__ITEM_SKIP:
    case MR__ITEM_END:
        size = 8;
        break;
    case MR__ITEM_MAX:
    default:
        break;
    }
    return size > left ? 0 : (size_t)size;
}

size_t mr__delivery_item_size(const uint8_t *at)
{
    return 72 + (size_t)mr_get_u64(at + 64);
}

/* --- chunks ----------------------------------------------------------------------------------- */

static bool chunk_head(const struct mr__slot *slot, size_t at, uint32_t *ret_index,
                       struct mr__chunk_read *ret_chunk)
{
    const uint8_t *head = slot->file + at;
    if (slot->file_size - at < MR__CHUNK_HEAD_SIZE || mr_get_u32(head) != MR__CHUNK_MAGIC ||
        mr_get_u32(head + 60) != mr_crc32c(0, head, 60) ||
        mr_get_u64(head + 8) != slot->head.stamp ||
        mr_get_u64(head + 16) != slot->head.log_id ||
        mr_get_u32(head + 4) < MR__CHUNK_HEAD_SIZE ||
        mr_get_u32(head + 4) > slot->file_size - at ||
        mr_get_u32(head + 24) >= slot->head.chunks) {
        return false;
    }
    size_t size = mr_get_u32(head + 4) - MR__CHUNK_HEAD_SIZE;
    bool good = mr_crc32c(0, head + MR__CHUNK_HEAD_SIZE, size) == mr_get_u32(head + 32);
    *ret_index = mr_get_u32(head + 24);
    *ret_chunk = (struct mr__chunk_read){.items = good ? head + MR__CHUNK_HEAD_SIZE : NULL,
                                         .size = size,
                                         .continues = mr_get_u32(head + 28) != 0};
    return true;
}

/* Where one cannot be read the next is looked for: each begins on a block. */
static enum mr_status find_chunks(struct mr__slot *slot)
{
    if (slot->head.chunks > slot->file_size / MR_LOG_BLOCK) {
        return MR_E_CORRUPT;
    }
    slot->chunks = mr_calloc(slot->head.chunks + 1u, sizeof(*slot->chunks));
    if (slot->chunks == NULL) {
        return MR_E_NOMEM;
    }
    size_t at = MR_LOG_BLOCK;
    while (at < slot->file_size) {
        uint32_t index;
        struct mr__chunk_read chunk;
        size_t size = 1;
        if (chunk_head(slot, at, &index, &chunk)) {
            slot->chunks[index] = chunk;
            size = MR__CHUNK_HEAD_SIZE + chunk.size;
        }
        at += (size_t)mr_round_up(size, MR_LOG_BLOCK);
    }
    return MR_OK;
}

/* --- sections --------------------------------------------------------------------------------- */

static bool push_section(struct mr__slot *slot, const struct mr__section *section)
{
    if (slot->section_count == slot->section_capacity) {
        uint64_t capacity = slot->section_capacity * 2 + 64;
        struct mr__section *grown = mr_realloc(slot->sections, capacity * sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        slot->sections = grown;
        slot->section_capacity = capacity;
    }
    slot->sections[slot->section_count++] = *section;
    return true;
}

struct look { /* the section that is open */
    struct mr__slot *slot;
    struct mr__section section;
    bool open;
    enum mr_status status;
};

static void close_section(struct look *look, bool whole)
{
    look->section.whole = whole;
    look->slot->whole = look->slot->whole && whole;
    if (look->open && !push_section(look->slot, &look->section)) {
        look->status = MR_E_NOMEM;
    }
    look->open = false;
}

static void look_at_item(struct look *look, uint32_t chunk, size_t at)
{
    uint64_t head = mr_get_u64(look->slot->chunks[chunk].items + at);
    uint64_t number = head & MR__ITEM_NUMBER;
    unsigned kind = (unsigned)(head >> MR__ITEM_SHIFT); /* of enum mr__item, or any other */
    switch (kind) {
    case MR__ITEM_BASE:
    case MR__ITEM_SUB:
    case MR__ITEM_KEYS:
    case MR__ITEM_JOINS:
        if (look->open) {
            close_section(look, false);
        }
        look->section = (struct mr__section){
            .kind = (uint8_t)kind,
            .id = kind == MR__ITEM_SUB || kind == MR__ITEM_KEYS ? (uint32_t)number : 0,
            .chunk = chunk,
            .at = at};
        look->open = true;
        if (kind == MR__ITEM_BASE) {
            close_section(look, true);
        }
        break;
    case MR__ITEM_END:
        close_section(look, look->open);
        break;
    case MR__ITEM_LAST:
        look->slot->sub_count = number;
        look->slot->ends = true;
        break;
    default:
        break;
    }
}

static enum mr_status find_sections(struct mr__slot *slot)
{
    struct look look = {.slot = slot, .status = MR_OK};
    slot->whole = true;
    for (uint32_t i = 0; i < slot->head.chunks && look.status == MR_OK; i++) {
        const struct mr__chunk_read *chunk = &slot->chunks[i];
        if (chunk->items == NULL) {
            slot->whole = false;
            close_section(&look, false);
            continue;
        }
        if (look.open && !chunk->continues) {
            close_section(&look, false);
        }
        bool inside = look.open || !chunk->continues; /* else behind what is damaged: to its end */
        for (size_t at = 0, size; at < chunk->size && look.status == MR_OK; at += size) {
            size = item_size(chunk->items + at, chunk->size - at);
            if (size == 0) {
                slot->whole = false; /* a checksum that fits, and no sense */
                close_section(&look, false);
                break;
            }
            if (inside) {
                look_at_item(&look, i, at);
            }
            inside = inside ||
                     mr_get_u64(chunk->items + at) >> MR__ITEM_SHIFT == (uint64_t)MR__ITEM_END;
        }
    }
    slot->whole = slot->whole && slot->ends && !look.open;
    return look.status;
}

/* --- a slot ----------------------------------------------------------------------------------- */

enum mr_status mr__slot_head(const uint8_t *at, size_t size, struct mr__checkpoint_head *ret_head)
{
    if (size < MR__CHECKPOINT_HEAD_SIZE || memcmp(at, MR__CHECKPOINT_MAGIC, 8) != 0 ||
        mr_get_u32(at + 60) != mr_crc32c(0, at, 60) ||
        mr_get_u64(at + 48) < MR__CHECKPOINT_HEAD_SIZE || mr_get_u64(at + 16) == 0) {
        return MR_E_CORRUPT;
    }
    *ret_head = (struct mr__checkpoint_head){
        .version = mr_get_u32(at + 8),
        .chunks = mr_get_u32(at + 12),
        .generation = mr_get_u64(at + 16),
        .log_id = mr_get_u64(at + 24),
        .position = mr_get_u64(at + 32),
        .sequence = mr_get_u64(at + 40),
        .size = mr_get_u64(at + 48),
        .previous_crc = mr_get_u32(at + 56),
    };
    if (ret_head->version == 0) {
        return MR_E_CORRUPT;
    }
    return ret_head->version > MR__CHECKPOINT_VERSION ? MR_E_UNSUPPORTED : MR_OK;
}

/* An old one is one piece: whole or of no use. */
static enum mr_status parse_old(struct mr__slot *slot)
{
    uint64_t size = slot->head.size;
    bool good = size <= slot->file_size &&
                mr_crc32c(0, slot->file + MR__CHECKPOINT_HEAD_SIZE,
                          (size_t)size - MR__CHECKPOINT_HEAD_SIZE) == slot->head.chunks;
    slot->whole = good;
    return good ? MR_OK : MR_E_CORRUPT;
}

enum mr_status mr__slot_parse(struct mr__slot *slot, uint8_t *file, size_t size)
{
    *slot = (struct mr__slot){.file = file, .file_size = size};
    enum mr_status r = mr__slot_head(file, size, &slot->head);
    if (r == MR_OK && slot->head.version <= MR__CHECKPOINT_VERSION_OLD) {
        r = parse_old(slot);
    } else if (r == MR_OK) {
        bool good = size >= MR_LOG_BLOCK &&
                    mr_get_u32(file + 72) == mr_crc32c(0, file + 64, sizeof(uint64_t));
        slot->head.stamp = good ? mr_get_u64(file + 64) : 0;
        slot->file_size = size < slot->head.size ? size : (size_t)slot->head.size;
        r = good ? find_chunks(slot) : MR_E_CORRUPT;
        r = r == MR_OK ? find_sections(slot) : r;
    }
    if (r != MR_OK) {
        slot->head.generation = 0;
    }
    return r;
}

void mr__slot_release(struct mr__slot *slot)
{
    mr_free(slot->file);
    mr_free(slot->chunks);
    mr_free(slot->sections);
    *slot = (struct mr__slot){0};
}

const struct mr__section *mr__slot_find(const struct mr__slot *slot, enum mr__item kind,
                                        uint32_t id)
{
    /* They stand in order of kind and id. */
    uint64_t low = 0;
    uint64_t high = slot->section_count;
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        const struct mr__section *section = &slot->sections[mid];
        if (section->kind < kind || (section->kind == kind && section->id < id)) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    const struct mr__section *found = low < slot->section_count ? &slot->sections[low] : NULL;
    return found != NULL && found->kind == kind && found->id == id && found->whole ? found : NULL;
}

enum mr__item mr__items_next(struct mr__items *items, uint64_t *ret_number,
                             struct mr__loader *ret_l)
{
    const struct mr__slot *slot = items->slot;
    while (items->chunk < slot->head.chunks && items->at >= slot->chunks[items->chunk].size) {
        items->chunk++;
        items->at = 0;
    }
    if (items->chunk >= slot->head.chunks || slot->chunks[items->chunk].items == NULL) {
        return MR__ITEM_END;
    }
    const struct mr__chunk_read *chunk = &slot->chunks[items->chunk];
    const uint8_t *at = chunk->items + items->at;
    size_t size = item_size(at, chunk->size - items->at);
    if (size == 0) {
        return MR__ITEM_END;
    }
    items->at += size;
    uint64_t head = mr_get_u64(at);
    *ret_number = head & MR__ITEM_NUMBER;
    *ret_l = (struct mr__loader){.at = at + 8, .left = size - 8, .status = MR_OK};
    return (enum mr__item)(head >> MR__ITEM_SHIFT);
}
