/* A footer on its way, for the two files that make one: footer_build.c walks the segment and
 * gathers what is found as numbers, footer_lay.c sorts them and lays them out in pages. */
#ifndef MR_BUS_FOOTER_BUILD_H
#define MR_BUS_FOOTER_BUILD_H

#include "bus/footer_form.h"
#include "bus/numbers.h"
#include "core/bytes.h"

struct mr__section {
    struct mr_buf bytes;     /* whole pages, checksums still to come */
    struct mr__numbers fences;
    uint32_t fill;           /* of the last page */
    uint32_t count;
};

struct mr__footer_builder {
    struct mr_io *io;
    int file; /* the segment's, then the footer's; -1: none */
    uint8_t *data; /* owned: bytes [data_at, + data_size) of the segment */
    size_t data_capacity;
    uint64_t data_at;
    size_t data_size;
    struct mr_footer_head head;
    uint64_t sequence;       /* of the last group */
    uint64_t group_at;       /* place of the group */
    uint64_t event_at;       /* place of the last EVENT, */
    uint64_t event_offset;   /* and its offset; 0: none in this group */
    struct mr__numbers events;   /* place / 8 << 32 | size / 8, with its MATCH */
    struct mr__numbers matches;  /* subscription << 32 | index in events */
    struct mr__numbers ids;      /* key << 32 | place / 8 */
    struct mr__numbers hashes;   /* of ids and abouts: the filter is sized when all are known */
    struct mr__numbers abouts;   /* offset / 64 << 16 | block of the group */
    uint64_t last_about;     /* added: the next is often the same */
    struct mr__numbers values;   /* key << 32 | block of the group */
    uint64_t last_values[MR_FOOTER_VALUE_MAX]; /* added: the next is often the same */
    struct mr__section sections[MR_FOOTER_SECTION_MAX];
};

/** Lays out what was gathered, and writes the footer's file: open in b->file then.
 * @return as mr_footer_build() @blocks on the disk */
MR_MUST_USE enum mr_status mr__footer_lay(struct mr__footer_builder *b);

#endif
