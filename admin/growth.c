/* Dead letters that grow become an event, io.millrace.dlq.growing, which subscriptions match like
 * any other: at most one for each `dlq_growth` and subscription, however many died, so that an
 * alert that fails itself cannot feed itself faster. */
#include "admin/internal.h"
#include "core/alloc.h"
#include "core/clock.h"

/* One look at all subscriptions. */
struct look {
    struct mr_admin *admin;
    struct mr_now now;
    bool first; /* nothing was seen before: only remember */
};

static void tell(const struct look *look, const struct mr__subscription *grown, uint64_t before)
{
    struct mr_json_out out;
    mr__notice_begin(&out, "io.millrace.dlq.growing", "/millrace/dlq", grown->name,
                     look->now.wall_ns);
    mr_json_out_text(&out, "subscription", grown->name);
    mr_json_out_u64(&out, "dead_letters", grown->info.dead_letters);
    mr_json_out_u64(&out, "grown_by", grown->info.dead_letters - before);
    mr_json_out_time(&out, "since", look->admin->growth.looked_wall_ns);
    (void)mr__notice_send(look->admin, &out); /* the next growth is told again */
}

static void see(void *context, const struct mr__subscription *subscription)
{
    const struct look *look = context;
    struct mr__growth *growth = &look->admin->growth;
    uint32_t id = subscription->info.id;
    if (id >= growth->count) {
        uint32_t count = id + 64;
        uint64_t *grown = mr_realloc(growth->seen, count * sizeof(*grown));
        if (grown == NULL) {
            return; /* the next look tries again */
        }
        memset(grown + growth->count, 0, (count - growth->count) * sizeof(*grown));
        growth->seen = grown;
        growth->count = count;
    }
    uint64_t before = growth->seen[id];
    growth->seen[id] = subscription->info.dead_letters;
    if (!look->first && subscription->info.dead_letters > before) {
        tell(look, subscription, before);
    }
}

void mr__look_growth(struct mr_admin *admin, uint64_t period_ns)
{
    struct mr__growth *growth = &admin->growth;
    struct look look = {
        .admin = admin, .now = mr_clock_now(), .first = growth->looked_wall_ns == 0};
    if (period_ns == 0) {
        growth->looked_wall_ns = 0; /* when it is switched on, what died before is no growth */
        return;
    }
    if (!look.first && look.now.mono_ns - growth->looked_mono_ns < period_ns) {
        return;
    }
    if (mr__each_subscription(admin, see, &look) == MR_OK) { /* else it stops */
        growth->looked_wall_ns = look.now.wall_ns;
        growth->looked_mono_ns = look.now.mono_ns;
    }
}
