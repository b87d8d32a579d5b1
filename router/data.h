/* The places in JSON data that filters look at, and what one event has there.
 *
 * A place is a dot path (`order.items.0.sku`; a number is the index into an array). All paths of a
 * configuration form one tree, so that the data of an event is read once whatever the number of
 * filters, and only down to what some filter wants. Values stay text as written (strings with
 * their escapes resolved): no number is ever rounded. Private to router/. */
#ifndef MR_ROUTER_DATA_H
#define MR_ROUTER_DATA_H

#include "core/limits.h"
#include "core/bytes.h"

#define MR__DATA_NEAR 24u      /* places of an event without further memory */
#define MR__DATA_NEAR_TEXT 256u

enum mr__datum_kind {
    MR__DATUM_NONE = 0, /* nothing there */
    MR__DATUM_STRING,
    MR__DATUM_NUMBER,
    MR__DATUM_BOOLEAN,
    MR__DATUM_NULL,
    MR__DATUM_OBJECT,
    MR__DATUM_ARRAY,
    MR__DATUM_BAD, /* a string that cannot be read */
};

struct mr__datum {
    uint8_t kind;         /* enum mr__datum_kind */
    struct mr_bytes text; /* STRING, NUMBER, BOOLEAN; borrowed from the event or the reading */
};

struct mr__place {
    uint32_t parent;
    uint32_t text_at; /* its segment */
    uint16_t text_size;
    bool wanted;   /* a filter ends here */
    bool has_more; /* a path goes on below */
};

struct mr__paths {
    struct mr__place *places; /* owned; 0 is the data itself */
    uint32_t count;
    uint32_t wanted_count;
    uint32_t *slots;        /* owned; number + 1, 0 = free; open addressing, at most half full */
    uint32_t slot_capacity; /* a power of two, or 0 */
    struct mr_buf texts;
};

/* The values of one event. Must be released. */
struct mr__reading {
    struct mr__datum *data; /* by place; near, or owned; NULL: no filter looks into data */
    uint8_t *texts;         /* owned; NULL until unescaped text needs it */
    size_t texts_used;
    size_t texts_capacity;
    size_t near_used;
    bool done;
    uint32_t failures; /* of evaluations of sql */
    enum mr_status status; /* MR_E_NOMEM: the values are not all there */
    struct mr__datum near[MR__DATA_NEAR];
    uint8_t near_text[MR__DATA_NEAR_TEXT];
};

void mr__paths_init(struct mr__paths *paths);
void mr__paths_release(struct mr__paths *paths);
/** Whether @p path is one: segments that are not empty, within the limits. */
bool mr__path_is_legal(struct mr_bytes path);
/** The number of the place that legal @p path leads to.
 * @return MR_E_TOO_BIG: more than MR_DATA_PATHS_MAX places; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__paths_add(struct mr__paths *paths, struct mr_bytes path,
                                         uint32_t *ret_place);
/** Appends the path of @p place. */
MR_MUST_USE enum mr_status mr__paths_text(const struct mr__paths *paths, uint32_t place,
                                          struct mr_buf *out);

void mr__reading_init(struct mr__reading *reading);
void mr__reading_release(struct mr__reading *reading);
/** Reads @p json, once; where it is no JSON the reading ends. */
void mr__reading_fill(struct mr__reading *reading, const struct mr__paths *paths,
                      struct mr_bytes json);

#endif
