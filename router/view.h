/* Attribute names as small numbers, and an event seen through them.
 *
 * A table of filters mentions few names. They are numbered once, while filters are compiled; an
 * event is then walked once, and every clause finds its value by number. Places in data have
 * numbers too (data.h); data is read when the first clause asks for it. Private to router/. */
#ifndef MR_ROUTER_VIEW_H
#define MR_ROUTER_VIEW_H

#include "core/limits.h"
#include "router/data.h"
#include "schemas/event.h"

#define MR__NAME_NONE UINT32_MAX
#define MR__VIEW_MAX (MR_EVENT_ATTRS_MAX + MR_EVENT_ATTRS_ADDED_MAX + 1u) /* + 1: specversion */

struct mr__name {
    uint64_t hash;
    uint8_t size;
    char text[MR_ATTR_NAME_SIZE_MAX];
};

struct mr__names {
    struct mr__name *items; /* owned; by number */
    uint32_t count;
    uint32_t item_capacity;
    uint32_t *slots;        /* owned; number + 1, 0 = free; open addressing, at most half full */
    uint32_t slot_capacity; /* a power of two, or 0 */
    uint32_t specversion;   /* its number, or MR__NAME_NONE: no record stores it */
    struct mr__paths paths;
};

/* What of one event some filter mentions. Must be released. */
struct mr__view {
    const struct mr__names *names; /* borrowed */
    struct mr_bytes record;        /* borrowed */
    struct mr__reading *reading;   /* borrowed: the place of the data's values */
    uint32_t count;
    uint32_t ids[MR__VIEW_MAX];
    uint8_t types[MR__VIEW_MAX];          /* enum mr_attr_type */
    struct mr_bytes values[MR__VIEW_MAX]; /* borrowed from the record */
};

/** Whether @p name can be the name of an attribute: 1 to MR_ATTR_NAME_SIZE_MAX of [a-z0-9], and
 * not `data`, which is none (CloudEvents 1.0 section 3.1). */
bool mr__name_is_legal(struct mr_bytes name);

void mr__names_init(struct mr__names *names);
void mr__names_release(struct mr__names *names);
/** The number of legal @p name, given to it now if it had none. @return MR_E_NOMEM: unchanged */
MR_MUST_USE enum mr_status mr__names_add(struct mr__names *names, struct mr_bytes name,
                                         uint32_t *ret_id);
uint32_t mr__names_find(const struct mr__names *names, struct mr_bytes name);
struct mr_bytes mr__names_text(const struct mr__names *names, uint32_t id);

/** @param reading where values of the data go, not initialised; released by mr__view_release() */
void mr__view_init(struct mr__view *view, const struct mr__names *names, struct mr_bytes record,
                   struct mr__reading *reading);
void mr__view_release(struct mr__view *view);
/** @return false: the event has no attribute @p id */
bool mr__view_find(const struct mr__view *view, uint32_t id, struct mr_bytes *ret_value);
bool mr__view_find_typed(const struct mr__view *view, uint32_t id, struct mr_bytes *ret_value,
                         uint8_t *ret_type);
/** What the data has, by place; NULL when it is no JSON, or memory is short (then
 * view->reading->status says so). Reads the data at the first call. */
const struct mr__datum *mr__view_data(const struct mr__view *view);

#endif
