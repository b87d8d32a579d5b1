/* Dead letters that grow become an event, io.millrace.dlq.growing, which subscriptions match like
 * any other: at most one for each `dlq_growth` and subscription, however many died, so that an
 * alert that fails itself cannot feed itself faster. */
#include <inttypes.h>
#include <stdio.h>

#include "admin/internal.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/logger.h"
#include "schemas/json_format.h"

#define EVENT_SIZE_MAX (64u * MR_KIB)

/* One look at all subscriptions. */
struct look {
    struct mr_admin *admin;
    struct mr_now now;
    bool first; /* nothing was seen before: only remember */
};

static enum mr_status make_event(const struct look *look, const struct mr__subscription *grown,
                                 uint64_t before, struct mr_event **ret_event)
{
    struct mr_json_out out;
    mr_json_out_init(&out, EVENT_SIZE_MAX);
    mr_json_out_object(&out, NULL);
    mr_json_out_text(&out, "specversion", "1.0");
    char id[MR__SUBSCRIPTION_NAME_SIZE + 32];
    (void)snprintf(id, sizeof(id), "%s:%" PRIu64, grown->name, look->now.wall_ns); /* it fits */
    mr_json_out_text(&out, "id", id);
    mr_json_out_text(&out, "source", "/millrace/dlq");
    mr_json_out_text(&out, "type", "io.millrace.dlq.growing");
    mr_json_out_text(&out, "subject", grown->name);
    mr_json_out_time(&out, "time", look->now.wall_ns);
    mr_json_out_text(&out, "datacontenttype", "application/json");
    mr_json_out_object(&out, "data");
    mr_json_out_text(&out, "subscription", grown->name);
    mr_json_out_u64(&out, "dead_letters", grown->info.dead_letters);
    mr_json_out_u64(&out, "grown_by", grown->info.dead_letters - before);
    mr_json_out_time(&out, "since", look->admin->growth.looked_wall_ns);
    mr_json_out_end(&out);
    mr_json_out_end(&out);
    enum mr_status r = out.status;
    if (r == MR_OK) {
        r = mr_json_decode_event(mr_buf_bytes(&out.buf), EVENT_SIZE_MAX, ret_event, NULL);
    }
    mr_json_out_release(&out);
    return r;
}

static void tell(const struct look *look, const struct mr__subscription *grown, uint64_t before)
{
    struct mr_admin_host *host = look->admin->host;
    struct mr_problem problem = {.text = ""};
    struct mr_event *event = NULL;
    struct mr_batch *batch = mr_batch_create(0, 1);
    enum mr_status r = batch == NULL ? MR_E_NOMEM : make_event(look, grown, before, &event);
    if (r == MR_OK) {
        r = mr_batch_add(batch, event, NULL); /* takes the event, also when it fails */
    }
    if (r == MR_OK) {
        r = host->ops->submit(host, MR_SOURCE_SEND_NAME, NULL, batch, &problem);
    }
    if (r != MR_OK) {
        mr_batch_destroy(batch);
        MR_WARN("admin", "subscription=%s err=\"%s\" msg=\"no event of its growing dead letters\"",
                grown->name, mr_status_text(r));
    }
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

static uint64_t period_of(struct mr_admin *admin)
{
    const struct mr_router *router;
    const struct mr_config *config = admin->host->ops->config(admin->host, &router);
    uint64_t period_ns = config == NULL ? 0 : config->dlq_growth_ns;
    if (config != NULL) {
        admin->host->ops->config_release(admin->host, config);
    }
    return period_ns;
}

void mr_admin_look(struct mr_admin *admin)
{
    struct mr__growth *growth = &admin->growth;
    uint64_t period_ns = period_of(admin);
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
