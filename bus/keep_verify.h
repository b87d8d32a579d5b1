/* The survivor files, looked at from outside: what of them is damaged.
 *
 * A copy that a crash has cut off leaves a file, or a group at the end of one, that cannot be read
 * and that nothing speaks of: no damage. What a MOVED record of the log or a checkpoint says lies
 * in a file was durable before, and all that stands before it in the file likewise. */
#ifndef MR_BUS_KEEP_VERIFY_H
#define MR_BUS_KEEP_VERIFY_H

#include "bus/logread.h"

enum mr_keep_damage {
    MR_KEEP_HEADER = 0, /* of the file, unreadable; nothing is lost, the groups stand in for it */
    MR_KEEP_HEADLESS,   /* and its first group with it: each record is read by itself */
    MR_KEEP_BITS,       /* wrong bits in headers of a group; nothing is lost */
    MR_KEEP_ROTTEN,     /* a group, records of it, or all from there on */
    MR_KEEP_DAMAGE_MAX,
};

struct mr_keep_finding {
    enum mr_keep_damage damage;
    const char *file; /* its name */
    uint64_t at;      /* byte in it */
    uint32_t count;   /* BITS: wrong bits; ROTTEN: unreadable records, 0: not known */
};

struct mr_keeps;

/** For the survivor files of @p index. Both are borrowed until mr_keeps_destroy().
 * @return MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_keeps_create(struct mr_io *io, const struct mr_log_index *index,
                                           struct mr_keeps **ret_keeps);
void mr_keeps_destroy(struct mr_keeps *keeps);
/** Each record of the log, before mr_keeps_verify(): a MOVED one says what has to be there. */
void mr_keeps_note(struct mr_keeps *keeps, const struct mr_record *record);
/** @param log_id 0: any. @param found called for each damaged place. @param[out] ret_records that
 * the files hold. Blocks on the disk, beside who writes them too.
 * @return MR_E_NOMEM, MR_E_IO */
MR_MUST_USE enum mr_status mr_keeps_verify(struct mr_keeps *keeps, uint64_t log_id,
                                           void (*found)(void *context,
                                                         const struct mr_keep_finding *finding),
                                           void *context, uint64_t *ret_records);

#endif
