#include "schemas/event.h"

#include "core/alloc.h"
#include "core/assert.h"
#include "core/hash.h"
#include "core/limits.h"
#include "schemas/text.h"

struct mr_event *mr_event_from_record(struct mr_bytes record)
{
    MR_ASSERT(record.size >= MR_EVENT_HEADER_SIZE);
    MR_ASSERT(mr_get_u32(record.data) == record.size);
    struct mr_event *event = mr_alloc(sizeof(*event) + record.size);
    if (event == NULL) {
        return NULL;
    }
    atomic_init(&event->refs, 1);
    event->size = (uint32_t)record.size;
    event->crc = mr_crc32c(0, record.data, record.size);
    memcpy(event->data, record.data, record.size);
    return event;
}

struct mr_event *mr_event_ref(struct mr_event *event)
{
    /* relaxed: whoever refs has a reference already, so nothing can be freed under it */
    uint32_t before = atomic_fetch_add_explicit(&event->refs, 1, memory_order_relaxed);
    MR_ASSERT(before > 0);
    return event;
}

void mr_event_unref(struct mr_event *event)
{
    if (event == NULL) {
        return;
    }
    /* acq_rel: the last one sees everything the others did before they let go */
    uint32_t before = atomic_fetch_sub_explicit(&event->refs, 1, memory_order_acq_rel);
    MR_ASSERT(before > 0);
    if (before == 1) {
        mr_free(event);
    }
}

bool mr_event_next_attr(struct mr_bytes record, uint32_t *position, struct mr_attr *ret_attr)
{
    if (record.size < MR_EVENT_HEADER_SIZE) {
        return false;
    }
    size_t at = *position == 0 ? MR_EVENT_HEADER_SIZE : *position;
    size_t end = mr_get_u32(record.data + 8);
    if (end > record.size || at + MR_EVENT_ATTR_HEADER_SIZE > end) {
        return false;
    }
    const uint8_t *p = record.data + at;
    size_t name_size = mr_get_u16(p);
    size_t value_size = mr_get_u32(p + 4);
    if (name_size + value_size > end - at - MR_EVENT_ATTR_HEADER_SIZE) {
        return false;
    }
    const uint8_t *name = p + MR_EVENT_ATTR_HEADER_SIZE;
    ret_attr->name = mr_bytes(name, name_size);
    ret_attr->value = mr_bytes(name + name_size, value_size);
    ret_attr->type = (enum mr_attr_type)p[2];
    *position = (uint32_t)(at + MR_EVENT_ATTR_HEADER_SIZE + name_size + value_size);
    return true;
}

bool mr_event_attr(struct mr_bytes record, struct mr_bytes name, struct mr_attr *ret_attr)
{
    uint32_t position = 0;
    struct mr_attr attr;
    while (mr_event_next_attr(record, &position, &attr)) {
        if (mr_bytes_equal(attr.name, name)) {
            *ret_attr = attr;
            return true;
        }
    }
    return false;
}

struct mr_bytes mr_event_value(struct mr_bytes record, const char *name)
{
    struct mr_attr attr = {0};
    (void)mr_event_attr(record, mr_bytes_of(name), &attr); /* absent: the empty slice */
    return attr.value;
}

/* The value of the attribute at @p index, which the order of the record fixes for 0..2. */
static struct mr_bytes value_at(struct mr_bytes record, unsigned index)
{
    uint32_t position = 0;
    struct mr_attr attr = {0};
    for (unsigned i = 0; i <= index; i++) {
        if (!mr_event_next_attr(record, &position, &attr)) {
            return (struct mr_bytes){0};
        }
    }
    return attr.value;
}

struct mr_bytes mr_event_id(struct mr_bytes record)
{
    return value_at(record, 0);
}

struct mr_bytes mr_event_source(struct mr_bytes record)
{
    return value_at(record, 1);
}

struct mr_bytes mr_event_type(struct mr_bytes record)
{
    return value_at(record, 2);
}

static unsigned flags_of(struct mr_bytes record)
{
    return record.size < MR_EVENT_HEADER_SIZE ? 0 : mr_get_u16(record.data + 6);
}

bool mr_event_has_data(struct mr_bytes record)
{
    return (flags_of(record) & MR_EVENT_HAS_DATA) != 0;
}

struct mr_bytes mr_event_data(struct mr_bytes record)
{
    if (!mr_event_has_data(record)) {
        return (struct mr_bytes){0};
    }
    size_t at = mr_get_u32(record.data + 8);
    size_t size = mr_get_u32(record.data + 12);
    if (at > record.size || size > record.size - at) {
        return (struct mr_bytes){0};
    }
    return mr_bytes(record.data + at, size);
}

bool mr_event_data_is_json(struct mr_bytes record)
{
    return (flags_of(record) & MR_EVENT_DATA_JSON) != 0;
}

bool mr_media_type_is_json(struct mr_bytes media_type)
{
    struct mr_bytes type = mr__text_media_type(media_type);
    const void *slash = type.size == 0 ? NULL : memchr(type.data, '/', type.size);
    if (slash == NULL) {
        return false;
    }
    const uint8_t *subtype = (const uint8_t *)slash + 1;
    size_t size = type.size - (size_t)(subtype - type.data);
    return mr_bytes_equal_nocase(mr_bytes(subtype, size), MR_BYTES_LITERAL("json")) ||
           (size > 5 && mr_bytes_equal_nocase(mr_bytes(subtype + size - 5, 5),
                                              MR_BYTES_LITERAL("+json")));
}

#define FIRST_COUNT 3u /* id, source, type: every event has them */

/* The names before @p end, looked through for @p name. */
static bool name_seen(struct mr_bytes record, uint32_t end, struct mr_bytes name)
{
    uint32_t position = 0;
    struct mr_attr attr;
    while (position < end && mr_event_next_attr(record, &position, &attr) && position <= end) {
        if (mr_bytes_equal(attr.name, name)) {
            return true;
        }
    }
    return false;
}

static bool check_header(struct mr_bytes record)
{
    if (record.size < MR_EVENT_HEADER_SIZE || mr_get_u32(record.data) != record.size) {
        return false;
    }
    unsigned flags = mr_get_u16(record.data + 6);
    size_t data_at = mr_get_u32(record.data + 8);
    size_t data_size = mr_get_u32(record.data + 12);
    if (data_at < MR_EVENT_HEADER_SIZE || data_at > record.size ||
        data_size != record.size - data_at) {
        return false;
    }
    unsigned known = MR_EVENT_HAS_DATA | MR_EVENT_DATA_BINARY | MR_EVENT_DATA_JSON;
    bool has_data = (flags & MR_EVENT_HAS_DATA) != 0;
    return (flags & ~known) == 0 && (has_data || (data_size == 0 && flags == 0));
}

/* What the first ones are called, in this order: a name for certain, and no two alike. */
static bool is_first_name(unsigned index, struct mr_bytes name)
{
    switch (index) {
    case 0:
        return name.size == 2 && memcmp(name.data, "id", 2) == 0;
    case 1:
        return name.size == 6 && memcmp(name.data, "source", 6) == 0;
    default:
        return name.size == 4 && memcmp(name.data, "type", 4) == 0;
    }
}

enum mr_status mr_event_check(struct mr_bytes record)
{
    if (!check_header(record)) {
        return MR_E_INVALID;
    }
    unsigned count = mr_get_u16(record.data + 4);
    if (count < FIRST_COUNT || count > MR_EVENT_ATTRS_MAX + MR_EVENT_ATTRS_ADDED_MAX) {
        return MR_E_INVALID;
    }
    uint32_t position = 0;
    for (unsigned i = 0; i < count; i++) {
        uint32_t before = position;
        struct mr_attr attr;
        if (!mr_event_next_attr(record, &position, &attr) || attr.type >= MR_ATTR_TYPE_MAX ||
            record.data[before == 0 ? MR_EVENT_HEADER_SIZE + 3 : before + 3] != 0) {
            return MR_E_INVALID;
        }
        bool is_good = i < FIRST_COUNT
                           ? is_first_name(i, attr.name) && attr.value.size > 0
                           : mr__text_is_name(attr.name) &&
                                 attr.name.size <= MR_ATTR_NAME_SIZE_MAX &&
                                 !name_seen(record, before, attr.name);
        if (!is_good) {
            return MR_E_INVALID;
        }
    }
    return position == mr_get_u32(record.data + 8) ? MR_OK : MR_E_INVALID;
}
