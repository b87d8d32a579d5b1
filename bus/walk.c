/* Over all deliveries and dead letters, subscription by subscription, so many each step. What comes
 * meanwhile may be seen or not, what goes is not seen any more. */
#include "bus/internal.h"

static void begin_sub(const struct mr_bus *bus, struct mr__walk *walk, uint32_t sub)
{
    *walk = (struct mr__walk){
        .sub = sub,
        .delivery = sub < bus->sub_count ? bus->subs[sub]->oldest : NULL,
    };
}

void mr__walk_begin(const struct mr_bus *bus, struct mr__walk *walk)
{
    begin_sub(bus, walk, 0);
}

bool mr__walk_next(const struct mr_bus *bus, struct mr__walk *walk, struct mr__walked *ret_walked)
{
    *ret_walked = (struct mr__walked){0};
    if (walk->sub >= bus->sub_count) {
        return false;
    }
    const struct mr__sub *sub = bus->subs[walk->sub];
    ret_walked->sub = sub;
    if (walk->delivery != NULL) {
        ret_walked->delivery = walk->delivery;
        walk->delivery = walk->delivery->newer;
        return true;
    }
    uint64_t i = mr__dead_lower(sub, walk->letter_offset);
    if (i < sub->dead_count) {
        ret_walked->letter = &sub->dead[i].letter;
        walk->letter_offset = sub->dead[i].letter.offset + 1;
    } else {
        begin_sub(bus, walk, walk->sub + 1);
    }
    return true;
}

void mr__walk_forget(struct mr__walk *walk, const struct mr__delivery *d)
{
    if (walk->delivery == d) {
        walk->delivery = d->newer;
    }
}
