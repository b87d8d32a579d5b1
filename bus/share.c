/* Shares: what of a subscription goes to which of its targets. Each stands on the ring of its
 * target while something of it is ready, so that a target that is slow, full or broken holds up its
 * own share only. */
#include "bus/internal.h"

/* --- turns ------------------------------------------------------------------------------------ */

void mr__turn_add(struct mr__share *share)
{
    struct mr__target *target = share->target;
    if (share->on_turn || target == NULL || share->ready.count == 0) {
        return;
    }
    share->on_turn = true;
    share->turn_next = NULL;
    if (target->turn_last != NULL) {
        target->turn_last->turn_next = share;
    } else {
        target->turn_first = share;
    }
    target->turn_last = share;
}

void mr__turn_add_all(struct mr__sub *sub)
{
    for (uint32_t i = 0; i < sub->share_count; i++) {
        mr__turn_add(mr__share_at(sub, i));
    }
}

void mr__turn_leave(struct mr__share *share)
{
    struct mr__target *target = share->target;
    if (target == NULL || !share->on_turn) {
        return;
    }
    struct mr__share *before = NULL;
    for (struct mr__share *s = target->turn_first; s != share; s = s->turn_next) {
        MR_ASSERT(s != NULL);
        before = s;
    }
    if (before == NULL) {
        target->turn_first = share->turn_next;
    } else {
        before->turn_next = share->turn_next;
    }
    if (target->turn_last == share) {
        target->turn_last = before;
    }
    share->turn_next = NULL;
    share->on_turn = false;
}

/* --- which one -------------------------------------------------------------------------------- */

uint8_t mr__share_choose(const struct mr__delivery *d)
{
    return d->share;
}
