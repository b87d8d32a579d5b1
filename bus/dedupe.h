/* Keys by which a source's repeats are known: what the bus keeps of an event for the dedupe window
 * of its source (bus/dedupe.c). Pure functions; made by the thread that submits the batch.
 *
 * A key is a SipHash of 128 bits under a salt of the log's own: among a thousand million keys two
 * different events have the same one with a chance of 1 in 10^20, and who does not know the salt
 * cannot look for such a pair. So the key alone stands for what it was made of. */
#ifndef MR_BUS_DEDUPE_H
#define MR_BUS_DEDUPE_H

#include <stdbool.h>

#include "core/bytes.h"


struct mr_dedupe_key {
    uint64_t low; /* both 0: none */
    uint64_t high;
};

/* What an item of a batch may be known by. */
enum mr_dedupe_by {
    MR_DEDUPE_BY_ID = 0,  /* source and id of its event */
    MR_DEDUPE_BY_REQUEST, /* what its sender calls its request, and the event in it */
    MR_DEDUPE_BY_MAX,
};

static inline bool mr_dedupe_key_is_set(const struct mr_dedupe_key *key)
{
    return (key->low | key->high) != 0;
}

/** The key of the event @p record by its source and id. @param salt mr_bus_salt()
 * @param with_data and by its data: where anybody who has seen the data could send it with another
 * event's id, and so keep that out */
struct mr_dedupe_key mr_dedupe_key_of_id(uint64_t salt, struct mr_bytes record, bool with_data);

/** The key of the event @p record as number @p index of a request that calls itself @p name.
 * Another source, id or data under the same name are another key: two senders that happen to count
 * alike, or the mistake of one, make no event vanish. */
struct mr_dedupe_key mr_dedupe_key_of_request(uint64_t salt, struct mr_bytes name, uint32_t index,
                                              struct mr_bytes record);

#endif
