/* The two checkpoint slots, looked at from outside: what of them is damaged, and where a start
 * takes that from instead. */
#ifndef MR_BUS_CHECKPOINT_VERIFY_H
#define MR_BUS_CHECKPOINT_VERIFY_H

#include "core/io.h"

enum mr_slot_state {
    MR_SLOT_ABSENT = 0,
    MR_SLOT_WHOLE,
    MR_SLOT_UNFINISHED, /* its writing goes on, or was cut off: no damage */
    MR_SLOT_DAMAGED,    /* what is good of it is taken */
    MR_SLOT_USELESS,    /* damaged, and nothing of it can be taken; or of another log */
    MR_SLOT_LATER,      /* a later version wrote it: nothing here can say more */
    MR_SLOT_STATE_MAX,
};

struct mr_slot_finding {
    const char *file;    /* checkpoint-0 or checkpoint-1 */
    const char *section; /* NULL: a chunk; else "base", "subscription", "keys", "joins" */
    uint32_t number;     /* of the chunk; the id of the subscription or, of keys, the source */
    bool from_other;     /* a section: the other slot has it; else it is folded from the log */
};

struct mr_slot_report {
    const char *file;
    enum mr_slot_state state;
    uint64_t generation;
    bool counts; /* it is the newer one: a start takes what is good of it first */
};

/** @param log_id 0: any. @param found called for each damaged chunk of either slot, and for each
 * section that the slot that counts has not whole. @blocks on the disk, beside who writes them too
 * @return MR_E_NOMEM; what cannot be read is MR_SLOT_USELESS */
MR_MUST_USE enum mr_status mr_slots_verify(struct mr_io *io, uint64_t log_id,
                                           struct mr_slot_report ret_slots[2],
                                           void (*found)(void *context,
                                                         const struct mr_slot_finding *finding),
                                           void *context);

#endif
