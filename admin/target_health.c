/* How workers and sinks are becomes events, io.millrace.target.degraded, failing, paused and
 * recovered, which subscriptions match like any other. A state is told once, when it has been
 * another than the one told for as long as `target_health` says: what comes and goes faster is one
 * change, not a flood. */
#include <stdio.h>

#include "admin/internal.h"
#include "core/alloc.h"
#include "core/clock.h"

/* Worst last. */
enum state {
    RECOVERED = 0, /* nothing is wrong: what every target starts with */
    DEGRADED,      /* it works, with an error to show */
    FAILING,       /* not connected, no instance can start */
    PAUSED,        /* its breaker is open: deliveries wait, none is dropped */
};

static const char *const state_words[] = {"recovered", "degraded", "failing", "paused"};

struct mr__watched {
    enum mr_health_state health;
    char error[sizeof(((struct mr_health *)0)->last_error)];
    enum state told;
    uint64_t other_mono_ns; /* it is another since; 0: it is the one told */
    uint64_t other_wall_ns;
};

struct look {
    struct mr_admin *admin;
    struct mr_now now;
    uint64_t hold_ns;
};

static struct mr__watched *find_watched(struct mr__watch *watch, uint32_t id)
{
    if (id >= watch->count) {
        uint32_t count = id + 64;
        struct mr__watched *grown = mr_realloc(watch->targets, count * sizeof(*grown));
        if (grown == NULL) {
            return NULL; /* the next look tries again */
        }
        memset(grown + watch->count, 0, (count - watch->count) * sizeof(*grown));
        watch->targets = grown;
        watch->count = count;
    }
    return &watch->targets[id];
}

static void note_health(void *context, const struct mr_admin_instance *instance)
{
    const struct look *look = context;
    struct mr__watched *target =
        instance->is_source ? NULL : find_watched(&look->admin->watch, instance->id);
    if (target != NULL) {
        target->health = instance->health.state;
        (void)snprintf(target->error, sizeof(target->error), "%s", instance->health.last_error);
    }
}

static enum state state_of(const struct mr__watched *target, const struct mr_target_info *info)
{
    if (info->breaker_open) {
        return PAUSED;
    }
    switch (target->health) {
    case MR_HEALTH_STARTING:
        return target->told; /* nothing is known yet */
    case MR_HEALTH_OK:
        return RECOVERED;
    case MR_HEALTH_DEGRADED:
        return DEGRADED;
    case MR_HEALTH_DOWN:
        break;
    }
    return FAILING;
}

static enum mr_status tell(const struct look *look, const struct mr__target *target,
                           const struct mr__watched *watched, enum state state)
{
    const struct mr_target_info *info = &target->info;
    struct mr_json_out out;
    char type[64];
    (void)snprintf(type, sizeof(type), "io.millrace.target.%s", state_words[state]);
    mr__notice_begin(&out, type, "/millrace/targets", target->name, look->now.wall_ns);
    mr_json_out_text(&out, "target", target->name);
    mr_json_out_text(&out, "state", state_words[state]);
    mr_json_out_text(&out, "before", state_words[watched->told]);
    mr_json_out_time(&out, "since", watched->other_wall_ns);
    mr_json_out_bytes_or_null(&out, "error",
                              mr_bytes_of(state == RECOVERED ? "" : watched->error));
    mr_json_out_u64(&out, "waiting", info->queued);
    mr_json_out_u64(&out, "in_flight", info->in_flight);
    if (state == PAUSED) {
        uint64_t until = info->breaker_until_mono_ns;
        uint64_t left = until > look->now.mono_ns ? until - look->now.mono_ns : 0;
        mr_json_out_time(&out, "next_try", look->now.wall_ns + left);
    }
    return mr__notice_send(look->admin, &out);
}

static void see(void *context, const struct mr__target *target)
{
    const struct look *look = context;
    struct mr__watched *watched = find_watched(&look->admin->watch, target->info.id);
    if (watched == NULL) {
        return;
    }
    enum state state = state_of(watched, &target->info);
    if (state == watched->told) {
        watched->other_mono_ns = 0;
        return;
    }
    if (watched->other_mono_ns == 0) {
        watched->other_mono_ns = look->now.mono_ns;
        watched->other_wall_ns = look->now.wall_ns;
    }
    if (look->now.mono_ns - watched->other_mono_ns >= look->hold_ns) {
        bool is_told = tell(look, target, watched, state) == MR_OK;
        watched->told = is_told ? state : watched->told;
        watched->other_mono_ns = is_told ? 0 : look->now.mono_ns; /* again after as long */
    }
}

void mr__look_targets(struct mr_admin *admin, uint64_t hold_ns)
{
    if (hold_ns == 0) { /* when it is switched on, every target counts as well again */
        mr_free(MR_TAKE(admin->watch.targets));
        admin->watch.count = 0;
        return;
    }
    struct look look = {.admin = admin, .now = mr_clock_now(), .hold_ns = hold_ns};
    admin->host->ops->instances(admin->host, note_health, &look);
    (void)mr__each_target(admin, see, &look); /* else it stops */
}
