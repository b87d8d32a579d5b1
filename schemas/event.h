/* The event: a CloudEvent 1.0, encoded once at the door into one contiguous record that is logged,
 * matched and handed out as it is. Immutable and reference-counted; shared between threads.
 *
 * The record (little-endian), the body of a log record of kind EVENT:
 *
 *     0   u32 size        of the whole record, header included
 *     4   u16 attributes  how many
 *     6   u16 flags       MR_EVENT_HAS_DATA, MR_EVENT_DATA_BINARY, MR_EVENT_DATA_JSON
 *     8   u32 data_at     where the data begins; attributes lie between 16 and here
 *    12   u32 data_size   0 when there is none
 *    16   attributes, each: u16 name_size, u8 type, u8 0, u32 value_size, name, value
 *    data_at  data bytes as they came
 *
 * Order of attributes: id, source, type, then the others as they came. specversion is not stored:
 * it is always "1.0". Names are [a-z0-9]+, unique. Values are canonical strings (CloudEvents 1.0
 * section 3.1) with the type they had; from transports without types everything is STRING.
 *
 * Data under a JSON type (or under none, from the JSON format) is the JSON text itself; otherwise
 * the raw bytes. MR_EVENT_DATA_BINARY: it came as data_base64 or can only leave as that.
 * MR_EVENT_DATA_JSON: it was found to be one JSON value, so that nobody has to look again. */
#ifndef MR_SCHEMAS_EVENT_H
#define MR_SCHEMAS_EVENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/bytes.h"
#include "core/problem.h"

#define MR_EVENT_HEADER_SIZE 16u
#define MR_EVENT_ATTR_HEADER_SIZE 8u
/* Room beyond MR_EVENT_ATTRS_MAX for what Millrace itself adds to an event with
 * mr_event_with_attr(), so that a full event can still be dead-lettered. */
#define MR_EVENT_ATTRS_ADDED_MAX 32u

enum mr_event_flags {
    MR_EVENT_HAS_DATA = 1,
    MR_EVENT_DATA_BINARY = 2,
    MR_EVENT_DATA_JSON = 4, /* one JSON value under a JSON type (or none); set by the builder */
};

enum mr_attr_type {
    MR_ATTR_STRING = 0,
    MR_ATTR_INTEGER,
    MR_ATTR_BOOLEAN,
    MR_ATTR_BINARY,    /* value is base64 text */
    MR_ATTR_URI,
    MR_ATTR_URI_REF,
    MR_ATTR_TIMESTAMP, /* value is the RFC 3339 text as received */
    MR_ATTR_TYPE_MAX,
};

struct mr_event {
    _Atomic uint32_t refs; /* mr_event_ref/_unref; acq_rel on the last drop */
    uint32_t crc;          /* CRC-32C of data[0..size), so that the core need not compute it */
    uint32_t size;
    uint8_t data[]; /* the record above */
};

struct mr_attr {
    struct mr_bytes name;  /* borrowed from the record */
    struct mr_bytes value; /* borrowed from the record */
    enum mr_attr_type type;
};

/* --- life ------------------------------------------------------------------------------------ */

/** A heap copy of the encoded @p record with one reference; checks nothing but the size field.
 * NULL when memory is short. */
MR_MUST_USE struct mr_event *mr_event_from_record(struct mr_bytes record);
struct mr_event *mr_event_ref(struct mr_event *event);
/** Frees with the last reference; NULL is a no-op. @thread any */
void mr_event_unref(struct mr_event *event);
static inline struct mr_bytes mr_event_record(const struct mr_event *event)
{
    return (struct mr_bytes){event->data, event->size};
}

/** Whether @p record is well-formed (sizes add up, names legal and unique, id source type there):
 * what recovery asks of bytes whose checksum held. */
MR_MUST_USE enum mr_status mr_event_check(struct mr_bytes record);

/* --- reading a record (from an event, or straight from the log); none of these can fail ------- */

/** The attribute @p name. @return false: absent, @p ret_attr untouched */
bool mr_event_attr(struct mr_bytes record, struct mr_bytes name, struct mr_attr *ret_attr);
/** Walks the attributes: set *@p position to 0 first. @return false after the last */
bool mr_event_next_attr(struct mr_bytes record, uint32_t *position, struct mr_attr *ret_attr);
struct mr_bytes mr_event_id(struct mr_bytes record);
struct mr_bytes mr_event_source(struct mr_bytes record);
struct mr_bytes mr_event_type(struct mr_bytes record);
/** The value of @p name (a literal), or an empty slice. */
struct mr_bytes mr_event_value(struct mr_bytes record, const char *name);
bool mr_event_has_data(struct mr_bytes record);
struct mr_bytes mr_event_data(struct mr_bytes record);
/** Whether the data is one JSON value and says so: datacontenttype is JSON (subtype json or suffix
 * +json), or absent and the data did not come as bytes. */
bool mr_event_data_is_json(struct mr_bytes record);
/** Whether @p media_type, parameters ignored, names JSON (case-insensitive). */
bool mr_media_type_is_json(struct mr_bytes media_type);

/* --- building -------------------------------------------------------------------------------- */

struct mr_event_builder {
    struct mr_buf attrs; /* encoded attributes other than id, source, type */
    struct mr_buf core;  /* encoded id, source, type */
    struct mr_bytes data; /* borrowed until finish */
    uint16_t count;
    uint16_t flags;
    uint8_t core_seen; /* bits: id 1, source 2, type 4, specversion 8 */
    size_t size_max;
};

/** @param size_max of the finished record, at most MR_EVENT_SIZE_MAX */
void mr_event_builder_init(struct mr_event_builder *builder, size_t size_max);
void mr_event_builder_release(struct mr_event_builder *builder);

/** Adds one attribute, validated by its name (core attributes have fixed types and rules: digest
 * 1.1-1.3) and type. "specversion" must be "1.0". Both are copied.
 * @return MR_E_INVALID with the reason (illegal name, repeated name, empty required value, control
 * character, not an int32, not RFC 3339, …), MR_E_UNSUPPORTED for another specversion,
 * MR_E_TOO_BIG over a limit, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_event_builder_attr(struct mr_event_builder *builder,
                                                 struct mr_bytes name, enum mr_attr_type type,
                                                 struct mr_bytes value,
                                                 struct mr_problem *problem);
/** Sets the data; borrowed until finish. @p binary: it came as data_base64. An empty slice with
 * this called is "data present, empty". */
void mr_event_builder_data(struct mr_event_builder *builder, struct mr_bytes data, bool binary);

/** Checks that id, source, type (and specversion, unless @p ours) are there, encodes, computes the
 * checksum. The builder is empty afterwards, also on failure.
 * @param[out] ret_event one reference, the caller's */
MR_MUST_USE enum mr_status mr_event_builder_finish(struct mr_event_builder *builder, bool ours,
                                                   struct mr_event **ret_event,
                                                   struct mr_problem *problem);

/** A copy of @p record with attribute @p name set to @p value (added, or replaced). */
MR_MUST_USE enum mr_status mr_event_with_attr(struct mr_bytes record, struct mr_bytes name,
                                              struct mr_bytes value, struct mr_event **ret_event,
                                              struct mr_problem *problem);

#endif
