/* The footer of a sealed segment: what stands in it, so that finding an event, or what one
 * subscription matched, does not mean reading all of it.
 *
 * A footer is a file `foot-<segment number, 16 hex digits>` beside its segment. It is made from the
 * segment's bytes alone (mr_footer_build()), so it can be made again at any time, and it never says
 * more than the segment: whoever finds a place by it reads the record there and looks whether it is
 * the one. One that is missing, damaged, of another version or of another use of the segment (salt)
 * is as good as none: the segment is read instead.
 *
 * It is made of pages of 4096 bytes, each with a checksum of its own over the segment's salt, the
 * page's number and what stands in it, so that a page that is torn, old, or another's is refused,
 * and a reader reads only the pages it needs:
 *
 *     page 0      head: which segment, which events, where the sections are
 *     FENCES      of each page of a sorted section (LISTS, IDS, VALUES) what it begins with
 *     LISTS       which subscriptions matched something, and where their postings are
 *     POSTINGS    of a subscription the places of the events that matched it, ascending
 *     BLOOM       which ids, and which events that something concerns, are not in it
 *     IDS         hash of an event's id -> its place
 *     VALUES      hash of a `type`, `source` or `subject` -> groups with such events; hash of 64
 *                 neighbouring offsets -> groups with records that concern such an event
 *
 * Byte by byte: docs/log-format.md. A place is a byte in the segment, always a multiple of 8.
 *
 * Looking something up asks for pages through struct mr_footer's `page`, so the same calls serve a
 * reader of files (mr_footer_open()) and the core, which has no files: there a page that is not in
 * memory yet is MR_E_AGAIN, and the call is made again once it is. None of them keeps anything. */
#ifndef MR_BUS_FOOTER_H
#define MR_BUS_FOOTER_H

#include "bus/logformat.h"
#include "core/io.h"

#define MR_FOOTER_PAGE 4096u
#define MR_FOOTER_VERSION 1u

enum mr_footer_section {
    MR_FOOTER_FENCES = 0,
    MR_FOOTER_LISTS,
    MR_FOOTER_POSTINGS,
    MR_FOOTER_BLOOM,
    MR_FOOTER_IDS,
    MR_FOOTER_VALUES,
    MR_FOOTER_SECTION_MAX,
};

/* Attributes whose values are found by it. */
enum mr_footer_value {
    MR_FOOTER_TYPE = 0,
    MR_FOOTER_SOURCE,
    MR_FOOTER_SUBJECT,
    MR_FOOTER_VALUE_MAX,
};

struct mr_footer_head {
    uint64_t number; /* of the segment, */
    uint64_t salt;   /* and which use of it */
    uint64_t log_id;
    uint64_t used;         /* bytes of the segment that it speaks of */
    uint64_t first_offset; /* of its events; */
    uint64_t next_offset;  /* past the last: nothing between is elsewhere */
    uint64_t first_wall_ns; /* of its groups, lowest */
    uint64_t last_wall_ns;  /* and highest */
    uint64_t first_log_ns;
    uint64_t last_log_ns;
    uint32_t events;
    uint32_t groups;
    uint32_t rotten; /* places that could not be read when it was made: what stood there may be read
                        by another way, so whoever wants everything reads the segment */
    uint32_t pages;  /* of the file, head included */
    uint64_t about_first; /* lowest offset that a record in it concerns; UINT64_MAX: none */
    uint32_t about_all;   /* records that concern every event before: START, OPERATOR */
    struct {
        uint32_t first; /* page */
        uint32_t pages;
        uint32_t count; /* entries; BLOOM: blocks, a power of two */
    } sections[MR_FOOTER_SECTION_MAX];
};

struct mr_footer {
    struct mr_footer_head head;
    /* Page @p number of the file, checked with mr_footer_page_check(); borrowed until the next
     * call. @return MR_E_AGAIN: it is on its way; MR_E_CORRUPT, MR_E_IO: there is no such footer */
    enum mr_status (*page)(void *context, uint32_t number, const uint8_t **ret_page);
    void *context;
};

/* Bytes of the segment: a record and what belongs to it. */
struct mr_footer_range {
    uint64_t place;
    uint32_t size;
};

void mr_footer_name(uint64_t number, char name[MR_LOG_NAME_SIZE]);

/* --- making one ------------------------------------------------------------------------------- */

/** Reads bytes [0, @p used) of segment @p number and writes its footer: file and name synced when
 * it returns. The same bytes always give the same footer. Memory: a read buffer (1 MiB, or the
 * largest group), up to 64 bytes for each event and 16 for each match, and the footer: 8 MiB for a
 * full segment of events of 1 KiB, 50 MiB for one of the smallest there are with one match each.
 * @param salt of that use of the segment
 * @return MR_E_CORRUPT: the segment is no such one; MR_E_IO, MR_E_DISK_LOW, MR_E_NOMEM. A file may
 * be left then that will be refused. @blocks on the disk  @thread any */
MR_MUST_USE enum mr_status mr_footer_build(struct mr_io *io, uint64_t number, uint64_t salt,
                                           uint64_t used);
/** Reads all of a footer and verifies every page.
 * @return MR_OK: it is good; MR_E_NOT_FOUND: there is none; MR_E_CORRUPT: damaged, or of another
 * use; MR_E_UNSUPPORTED: made by a later version; MR_E_IO, MR_E_NOMEM
 * @param[out] ret_head may be NULL */
MR_MUST_USE enum mr_status mr_footer_check(struct mr_io *io, uint64_t number, uint64_t salt,
                                           struct mr_footer_head *ret_head);

/* --- reading one from its file ---------------------------------------------------------------- */

/** Opens it and reads its head; footer->page reads the file, one page in memory.
 * @return as mr_footer_check() @thread any; one user at a time */
MR_MUST_USE enum mr_status mr_footer_open(struct mr_io *io, uint64_t number, uint64_t salt,
                                          struct mr_footer **ret_footer);
/** Likewise with a @p head that was read before, which spares reading it again.
 * @return MR_E_NOT_FOUND: it is gone; MR_E_IO, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_footer_open_again(struct mr_io *io, const struct mr_footer_head *head,
                                                struct mr_footer **ret_footer);
void mr_footer_close(struct mr_footer *footer); /* NULL-safe; only of those two */

/* --- from bytes (the core) -------------------------------------------------------------------- */

/** @param page 4096 bytes of page 0 @return MR_E_CORRUPT: not the head of a footer of this use of
 * segment @p number; MR_E_UNSUPPORTED */
MR_MUST_USE enum mr_status mr_footer_head_decode(const uint8_t *page, uint64_t number,
                                                 uint64_t salt, struct mr_footer_head *ret_head);
/** Whether @p bytes are page @p number of the footer whose segment has @p salt. */
bool mr_footer_page_check(const uint8_t *bytes, uint32_t number, uint64_t salt);

/* --- looking up; MR_E_AGAIN, MR_E_CORRUPT, MR_E_IO come from footer->page --------------------- */

/** What the calls below know an id by. */
uint64_t mr_footer_id_hash(struct mr_bytes id);

/** Whether an event with such an id may be in it; when not, there is none. One page. */
MR_MUST_USE enum mr_status mr_footer_may_have_id(const struct mr_footer *footer, uint64_t id_hash,
                                                 bool *ret_may);
/** Tells the disk which pages of the footer with @p head are about to be read to find @p hash, of
 * an id or, with @p is_about, of mr_footer_about_hash(). A hint: those beside it may be the right
 * ones. @blocks shortly  @thread any */
void mr_footer_will_need(struct mr_io *io, const struct mr_footer_head *head, uint64_t hash,
                         bool is_about);
/** Calls @p fn with the place of each EVENT record whose id may be it, ascending, until it returns
 * false. Two pages when the Bloom filter says no (page included), four or five otherwise. */
MR_MUST_USE enum mr_status mr_footer_find_id(const struct mr_footer *footer, uint64_t id_hash,
                                             bool (*fn)(void *context, uint64_t place),
                                             void *context);
/** What the Bloom filter, and bus/footer_ids.h, know by whether something concerns that event. */
uint64_t mr_footer_about_hash(uint64_t offset);
/** Calls @p fn with the place of each group that may hold a record which concerns the event with
 * @p offset, ascending, until it returns false: the event and its MATCH, what became of its
 * deliveries, events that it caused, the edit by which it replaced another, and what concerns every
 * event (START, OPERATOR). One page when there is none. */
MR_MUST_USE enum mr_status mr_footer_find_about(const struct mr_footer *footer, uint64_t offset,
                                                bool (*fn)(void *context, uint64_t place),
                                                void *context);
/** Calls @p fn with the place of each group that may hold an event whose attribute @p which is
 * @p value, ascending, until it returns false. An empty value is no event's. */
MR_MUST_USE enum mr_status mr_footer_find_value(const struct mr_footer *footer,
                                                enum mr_footer_value which, struct mr_bytes value,
                                                bool (*fn)(void *context, uint64_t place),
                                                void *context);
/** The next events that subscription @p sub matched, from place @p from on: each the bytes of its
 * EVENT record and of the MATCH behind it.
 * @param[out] ret_count up to @p max; 0: there are no more in this segment */
MR_MUST_USE enum mr_status mr_footer_postings(const struct mr_footer *footer, uint32_t sub,
                                              uint64_t from, struct mr_footer_range *ret_items,
                                              uint32_t max, uint32_t *ret_count);

#endif
