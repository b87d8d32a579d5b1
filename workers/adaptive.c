#include "workers/adaptive.h"

#define DECREASE 0.7

void mr_adaptive_init(struct mr_adaptive *adaptive, uint32_t min, uint64_t latency_ns)
{
    *adaptive = (struct mr_adaptive){.min = min, .latency_ns = latency_ns, .limit = min};
}

uint32_t mr_adaptive_slots(const struct mr_adaptive *adaptive, uint32_t slots)
{
    return adaptive->min == 0 || adaptive->limit >= slots ? slots : (uint32_t)adaptive->limit;
}

static void cut(struct mr_adaptive *adaptive, uint64_t now_ns)
{
    adaptive->limit *= DECREASE;
    if (adaptive->limit < adaptive->min) {
        adaptive->limit = adaptive->min;
    }
    adaptive->is_avoiding = true;
    adaptive->cut_ns = now_ns;
}

bool mr_adaptive_answer(struct mr_adaptive *adaptive, uint64_t now_ns,
                        const struct mr_handout *handout, uint32_t in_flight, uint32_t slots)
{
    if (adaptive->min == 0) {
        return false;
    }
    const struct mr_answer *answer = &handout->answer;
    uint32_t before = mr_adaptive_slots(adaptive, slots);
    bool is_timed = answer->started_wall_ns > 0 && answer->ended_wall_ns > answer->started_wall_ns;
    uint64_t took_ns = is_timed ? answer->ended_wall_ns - answer->started_wall_ns : 0;
    bool is_late = (adaptive->latency_ns > 0 && took_ns > adaptive->latency_ns) ||
                   (handout->timeout_ns > 0 && took_ns >= handout->timeout_ns);
    if (adaptive->limit > slots && slots > adaptive->min) { /* it has lost some since */
        adaptive->limit = slots;
    }
    if (answer->verdict == MR_VERDICT_REFUSED || is_late) {
        if (now_ns - (took_ns < now_ns ? took_ns : now_ns) >= adaptive->cut_ns) {
            cut(adaptive, now_ns);
        }
    } else if (2 * (uint64_t)in_flight >= before && adaptive->limit < slots) {
        /* Less in flight: the limit is not what holds back, and nothing is learnt. */
        double share = handout->batch_count > 1 ? 1.0 / handout->batch_count : 1.0;
        adaptive->limit += adaptive->is_avoiding ? share / adaptive->limit : share;
    }
    return mr_adaptive_slots(adaptive, slots) != before;
}
