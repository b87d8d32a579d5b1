/* Where an id may be, asked of 64 segments at once. With one question to each of the 1,600 footers
 * of 100 GB, looking for an id would take longer than reading what it finds.
 *
 * A file `ids-<group, 16 hex digits>` has the Bloom filters of 64 segments, 64 * group and those
 * behind it, bit by bit beside each other: page 1 + b holds 504 words of 64 bits, bit i of word n
 * being bit n of block b in the filter of segment 64 * group + i. So one page answers for all of
 * them. It is made from the footers alone, so it can be made again at any time, and it says which
 * segments it speaks of; pages are checked as those of footers are. */
#ifndef MR_BUS_FOOTER_IDS_H
#define MR_BUS_FOOTER_IDS_H

#include "bus/footer.h"

#define MR_FOOTER_GROUP 64u /* segments */

/** Makes the file of @p group from the footers there are, unless it is good and speaks of all
 * segments in @p wanted (bit i: segment 64 * group + i) with the salts they have.
 * Memory: the filters of all of them: 16 MiB when all are full segments of events of 1 KiB.
 * @param salts 64, of the wanted ones; 0: of no segment
 * @return MR_E_IO, MR_E_DISK_LOW, MR_E_NOMEM  @blocks on the disk  @thread any */
MR_MUST_USE enum mr_status mr_footer_ids_build(struct mr_io *io, uint64_t group, uint64_t log_id,
                                               uint64_t wanted,
                                               const uint64_t salts[MR_FOOTER_GROUP]);
void mr_footer_ids_name(uint64_t group, char name[MR_LOG_NAME_SIZE]);
/** Verifies all of it; as mr_footer_check(). @param[out] ret_covered segments it speaks of */
MR_MUST_USE enum mr_status mr_footer_ids_check(struct mr_io *io, uint64_t group, uint64_t log_id,
                                               uint64_t *ret_covered);

/* What such a file says about itself. */
struct mr_footer_ids_head {
    uint64_t group;
    uint64_t log_id;
    uint64_t covered; /* it speaks of these segments, as long as they have the salts */
    uint32_t blocks;  /* a power of two */
    uint64_t salts[MR_FOOTER_GROUP];
};
/** Reads it. @return as mr_footer_check() @blocks on the disk  @thread any */
MR_MUST_USE enum mr_status mr_footer_ids_open(struct mr_io *io, uint64_t group, uint64_t log_id,
                                              struct mr_footer_ids_head *ret_head);

/* What the file of a group says about one hash; bit i: segment 64 * group + i. */
struct mr_footer_ids_answer {
    uint64_t covered; /* as in the head; 0: there is no file that is believed */
    uint64_t may;     /* of those: the filter does not exclude it */
    uint64_t salts[MR_FOOTER_GROUP];
};
/** Asks the files of @p count groups about a hash of mr_footer_id_hash() or mr_footer_about_hash(),
 * a page of each, all of which are on their way before the first is looked at. The heads may have
 * been read before: what has changed since is seen. @blocks on the disk  @thread any */
void mr_footer_ids_ask(struct mr_io *io, const struct mr_footer_ids_head *heads, size_t count,
                       uint64_t hash, struct mr_footer_ids_answer *ret_answers);

#endif
