/* What the process may hold of memory, part by part: the one list of it. */
#include "config/config.h"

/* Of recovery: pieces of the log that are read ahead, each with room for what is left of the one
 * before (bus/logwindow.c). */
#define AHEAD (3u * 8u * MR_MIB)
#define PIECES (2u * MR_MIB) /* of two copies of a log, beside each other (bus/mirror.c) */
#define CHUNK (256u * MR_KIB) /* of a checkpoint (bus/checkpoint.c) */
#define GROUP (2u * MR_MIB)   /* what a group mostly has at most: 1 MiB, in memory that doubles */

const struct mr_budget mr_budgets[MR_BUDGET_MAX] = {
    [MR_BUDGET_STATE] = {.name = "delivery_state",
                         .title = "delivery state",
                         .from = "memory.state",
                         .counted = true},
    [MR_BUDGET_CACHE] = {.name = "log_cache",
                         .title = "recent log",
                         .from = "log.cache_size",
                         .counted = true},
    [MR_BUDGET_READS] = {.name = "log_reads",
                         .title = "reads of the log",
                         .from = "fixed",
                         .counted = true},
    [MR_BUDGET_GROUPS] = {.name = "groups",
                          .title = "groups being written",
                          .from = "2 x log.segment_size",
                          .counted = true},
    [MR_BUDGET_CHECKPOINT] = {.name = "checkpoint",
                              .title = "checkpoints",
                              .from = "memory.state / 3",
                              .counted = true},
    [MR_BUDGET_KEEPER] = {.name = "keeper",
                          .title = "footers, survivors",
                          .from = "4 x log.segment_size"},
    [MR_BUDGET_CONNECTORS] = {.name = "connectors",
                              .title = "connectors, workers",
                              .from = "their options"},
    [MR_BUDGET_MIRROR] = {.name = "mirror",
                          .title = "start: mirror",
                          .from = "2 x memory.state",
                          .counted = true,
                          .starts = true},
    [MR_BUDGET_RECOVERY] = {.name = "recovery",
                            .title = "start: recovery",
                            .from = "2 x memory.state",
                            .counted = true,
                            .starts = true},
};

/* A waiting delivery takes 450 bytes of state and 72 of a checkpoint, of which there are two; dead
 * letters and dedupe keys take nearly as much there as in the state. */
static struct mr_budget_bound slots(uint64_t state)
{
    return (struct mr_budget_bound){.most = state * 2, .mostly = state / 3};
}

/* A footer of a segment of small events that match much takes its numbers, sorted, the pages made
 * of them and a group; of one of 1 KiB events an eighth of the segment. */
static struct mr_budget_bound keeper(uint64_t segment)
{
    return (struct mr_budget_bound){.most = segment * 4, .mostly = segment / 8};
}

/* One chunk is outside and one is filled, doubling; on a disk that stands still it takes all of a
 * subscription that changes meanwhile. */
static struct mr_budget_bound checkpoint(uint64_t state)
{
    return (struct mr_budget_bound){.most = 4 * CHUNK + state / 3, .mostly = 4 * CHUNK};
}

static struct mr_budget_bound always(uint64_t bytes)
{
    return (struct mr_budget_bound){.most = bytes, .mostly = bytes};
}

void mr_budgets_bound(const struct mr_config *config, uint64_t connectors,
                      struct mr_budget_bound ret_bounds[MR_BUDGET_MAX])
{
    uint64_t state = config->memory_state;
    uint64_t segment = config->log.segment_size;
    struct mr_budget_bound at_start = slots(state);
    ret_bounds[MR_BUDGET_STATE] = always(state);
    ret_bounds[MR_BUDGET_CACHE] = always(config->log.cache_size);
    ret_bounds[MR_BUDGET_READS] = always(MR_READ_MEMORY);
    ret_bounds[MR_BUDGET_GROUPS] =
        (struct mr_budget_bound){.most = 2 * segment, .mostly = 2 * GROUP};
    if (ret_bounds[MR_BUDGET_GROUPS].mostly > 2 * segment) {
        ret_bounds[MR_BUDGET_GROUPS].mostly = 2 * segment;
    }
    ret_bounds[MR_BUDGET_CHECKPOINT] = checkpoint(state);
    ret_bounds[MR_BUDGET_KEEPER] = keeper(segment);
    ret_bounds[MR_BUDGET_CONNECTORS] = always(connectors);
    ret_bounds[MR_BUDGET_MIRROR] =
        config->log.mirror == NULL
            ? always(0)
            : (struct mr_budget_bound){.most = at_start.most + PIECES,
                                       .mostly = at_start.mostly + PIECES};
    ret_bounds[MR_BUDGET_RECOVERY] = (struct mr_budget_bound){
        .most = at_start.most + AHEAD + segment, .mostly = at_start.mostly + AHEAD};
}

struct mr_budget_bound mr_budgets_sum(const struct mr_budget_bound bounds[MR_BUDGET_MAX])
{
    struct mr_budget_bound running = {0, 0};
    struct mr_budget_bound starting = {0, 0};
    for (int i = MR_BUDGET_STATE + 1; i < MR_BUDGET_MAX; i++) {
        if (mr_budgets[i].starts) { /* one after the other */
            starting.most = bounds[i].most > starting.most ? bounds[i].most : starting.most;
            starting.mostly =
                bounds[i].mostly > starting.mostly ? bounds[i].mostly : starting.mostly;
        } else {
            running.most += bounds[i].most;
            running.mostly += bounds[i].mostly;
        }
    }
    struct mr_budget_bound sum = bounds[MR_BUDGET_STATE];
    sum.most += running.most > starting.most ? running.most : starting.most;
    sum.mostly += running.mostly > starting.mostly ? running.mostly : starting.mostly;
    return sum;
}
