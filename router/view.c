#include "router/view.h"

#include "core/alloc.h"
#include "core/assert.h"
#include "core/hash.h"

#define FIRST_CAPACITY 32u

bool mr__name_is_legal(struct mr_bytes name)
{
    if (name.size == 0 || name.size > MR_ATTR_NAME_SIZE_MAX ||
        mr_bytes_equal(name, MR_BYTES_LITERAL("data"))) {
        return false;
    }
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))) {
            return false;
        }
    }
    return true;
}

void mr__names_init(struct mr__names *names)
{
    *names = (struct mr__names){.specversion = MR__NAME_NONE};
    mr__paths_init(&names->paths);
}

void mr__names_release(struct mr__names *names)
{
    mr_free(names->items);
    mr_free(names->slots);
    mr__paths_release(&names->paths);
    mr__names_init(names);
}

/* Of every attribute of every event: no calls, and only as good as a table needs. */
static uint64_t hash_name(struct mr_bytes name)
{
    uint64_t h = MR_HASH_BEGIN;
    for (size_t i = 0; i < name.size; i++) {
        h = mr_hash_step(h, name.data[i]);
    }
    return h ^ h >> 32;
}

static uint32_t find_hashed(const struct mr__names *names, struct mr_bytes name, uint64_t hash)
{
    if (names->slot_capacity == 0) {
        return MR__NAME_NONE;
    }
    uint32_t mask = names->slot_capacity - 1;
    for (uint32_t at = (uint32_t)hash & mask; names->slots[at] != 0; at = (at + 1) & mask) {
        const struct mr__name *item = &names->items[names->slots[at] - 1];
        if (item->hash == hash && item->size == name.size &&
            memcmp(item->text, name.data, name.size) == 0) {
            return names->slots[at] - 1;
        }
    }
    return MR__NAME_NONE;
}

uint32_t mr__names_find(const struct mr__names *names, struct mr_bytes name)
{
    return find_hashed(names, name, hash_name(name));
}

static void put_slot(uint32_t *slots, uint32_t capacity, uint64_t hash, uint32_t id)
{
    uint32_t at = (uint32_t)hash & (capacity - 1);
    while (slots[at] != 0) {
        at = (at + 1) & (capacity - 1);
    }
    slots[at] = id + 1;
}

static enum mr_status grow(struct mr__names *names)
{
    if (names->count == names->item_capacity) {
        uint32_t capacity = names->item_capacity == 0 ? FIRST_CAPACITY / 2 : names->count * 2;
        struct mr__name *items = mr_realloc(names->items, capacity * sizeof(*items));
        if (items == NULL) {
            return MR_E_NOMEM;
        }
        names->items = items;
        names->item_capacity = capacity;
    }
    if ((names->count + 1) * 2 > names->slot_capacity) {
        uint32_t capacity = names->slot_capacity == 0 ? FIRST_CAPACITY : names->slot_capacity * 2;
        uint32_t *slots = mr_calloc(capacity, sizeof(*slots));
        if (slots == NULL) {
            return MR_E_NOMEM;
        }
        for (uint32_t id = 0; id < names->count; id++) {
            put_slot(slots, capacity, names->items[id].hash, id);
        }
        mr_free(names->slots);
        names->slots = slots;
        names->slot_capacity = capacity;
    }
    return MR_OK;
}

enum mr_status mr__names_add(struct mr__names *names, struct mr_bytes name, uint32_t *ret_id)
{
    MR_ASSERT(mr__name_is_legal(name));
    uint64_t hash = hash_name(name);
    uint32_t id = find_hashed(names, name, hash);
    if (id == MR__NAME_NONE) {
        enum mr_status r = grow(names);
        if (r != MR_OK) {
            return r;
        }
        id = names->count++;
        names->items[id] = (struct mr__name){.hash = hash, .size = (uint8_t)name.size};
        memcpy(names->items[id].text, name.data, name.size);
        put_slot(names->slots, names->slot_capacity, hash, id);
        if (mr_bytes_equal(name, MR_BYTES_LITERAL("specversion"))) {
            names->specversion = id;
        }
    }
    *ret_id = id;
    return MR_OK;
}

struct mr_bytes mr__names_text(const struct mr__names *names, uint32_t id)
{
    MR_ASSERT(id < names->count);
    return mr_bytes(names->items[id].text, names->items[id].size);
}

void mr__view_init(struct mr__view *view, const struct mr__names *names, struct mr_bytes record,
                   struct mr__reading *reading)
{
    view->names = names;
    view->record = record;
    view->reading = reading;
    mr__reading_init(reading);
    view->count = 0;
    if (names->specversion != MR__NAME_NONE) {
        view->ids[0] = names->specversion;
        view->types[0] = MR_ATTR_STRING;
        view->values[0] = MR_BYTES_LITERAL("1.0");
        view->count = 1;
    }
    uint32_t position = 0;
    struct mr_attr attr;
    while (view->count < MR_ARRAY_COUNT(view->ids) &&
           mr_event_next_attr(record, &position, &attr)) {
        uint32_t id = mr__names_find(names, attr.name);
        if (id != MR__NAME_NONE) {
            view->ids[view->count] = id;
            view->types[view->count] = (uint8_t)attr.type;
            view->values[view->count] = attr.value;
            view->count++;
        }
    }
}

void mr__view_release(struct mr__view *view)
{
    mr__reading_release(view->reading);
}

bool mr__view_find_typed(const struct mr__view *view, uint32_t id, struct mr_bytes *ret_value,
                         uint8_t *ret_type)
{
    for (uint32_t i = 0; i < view->count; i++) {
        if (view->ids[i] == id) {
            *ret_value = view->values[i];
            *ret_type = view->types[i];
            return true;
        }
    }
    return false;
}

bool mr__view_find(const struct mr__view *view, uint32_t id, struct mr_bytes *ret_value)
{
    uint8_t type;
    return mr__view_find_typed(view, id, ret_value, &type);
}

const struct mr__datum *mr__view_data(const struct mr__view *view)
{
    struct mr__reading *reading = view->reading;
    if (!reading->done) {
        reading->done = true;
        if (view->names->paths.count > 0 && mr_event_has_data(view->record) &&
            mr_event_data_is_json(view->record)) {
            mr__reading_fill(reading, &view->names->paths, mr_event_data(view->record));
        }
    }
    return reading->status == MR_OK ? reading->data : NULL;
}
