/* Owns `rate`: one window or several, each by itself a bound. */
#include "config/builder.h"
#include "core/alloc.h"

enum mr_status mr__build_rates(struct mr_loader *loader, const struct mr_node *entry,
                               const struct mr_strings *texts, struct mr_rates **ret_rates)
{
    const struct mr_node *node = mr__node_child(entry, "rate");
    if (texts->count == 0) {
        return MR_OK;
    }
    if (texts->count > MR_RATES_MAX) {
        return mr__report(loader, node, "rate: %u windows are too many, at most %u", texts->count,
                          MR_RATES_MAX);
    }
    struct mr_rates *rates = mr_calloc(1, sizeof(*rates));
    if (rates == NULL) {
        return MR_E_NOMEM;
    }
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < texts->count && r == MR_OK; i++) {
        const struct mr_node *item =
            node != NULL && node->kind == MR_NODE_SEQUENCE ? mr__node_item(node, i) : node;
        struct mr_rate *rate = &rates->items[rates->count];
        if (!mr_parse_rate(texts->items[i], rate) || rate->count == 0 ||
            rate->count > MR_RATE_COUNT_MAX) {
            r = mr__report(loader, item,
                           "rate: `%.64s` is no rate from 1 to %u: write 100/s, 5/m or 1000/h",
                           mr__shown(item, texts->items[i]), MR_RATE_COUNT_MAX);
        } else {
            rates->count++;
        }
    }
    *ret_rates = rates; /* also with errors: whoever releases the entry releases it */
    return r;
}
