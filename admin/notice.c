/* What Millrace itself tells as an event, which subscriptions match like any other: growing dead
 * letters, a target's health. */
#include <inttypes.h>
#include <stdio.h>

#include "admin/internal.h"
#include "core/logger.h"
#include "schemas/json_format.h"

#define EVENT_SIZE_MAX (64u * MR_KIB)

void mr__notice_begin(struct mr_json_out *out, const char *type, const char *source,
                      const char *subject, uint64_t wall_ns)
{
    char id[MR__SUBSCRIPTION_NAME_SIZE + 32];
    (void)snprintf(id, sizeof(id), "%s:%" PRIu64, subject, wall_ns); /* it fits */
    mr_json_out_init(out, EVENT_SIZE_MAX);
    mr_json_out_object(out, NULL);
    mr_json_out_text(out, "specversion", "1.0");
    mr_json_out_text(out, "id", id);
    mr_json_out_text(out, "source", source);
    mr_json_out_text(out, "type", type);
    mr_json_out_text(out, "subject", subject);
    mr_json_out_time(out, "time", wall_ns);
    mr_json_out_text(out, "datacontenttype", "application/json");
    mr_json_out_object(out, "data");
}

enum mr_status mr__notice_send(struct mr_admin *admin, struct mr_json_out *out)
{
    struct mr_admin_host *host = admin->host;
    struct mr_problem problem = {.text = ""};
    struct mr_event *event = NULL;
    struct mr_batch *batch = mr_batch_create(0, 1);
    mr_json_out_end(out);
    mr_json_out_end(out);
    enum mr_status r = batch == NULL ? MR_E_NOMEM : out->status;
    if (r == MR_OK) {
        r = mr_json_decode_event(mr_buf_bytes(&out->buf), EVENT_SIZE_MAX, &event, NULL);
    }
    if (r == MR_OK) {
        r = mr_batch_add(batch, event, NULL); /* takes the event, also when it fails */
    }
    if (r == MR_OK) {
        r = host->ops->submit(host, MR_SOURCE_SEND_NAME, NULL, batch, &problem);
    }
    if (r != MR_OK) {
        mr_batch_destroy(batch);
        MR_WARN("admin", "err=\"%s\" msg=\"an event of our own did not enter: %.*s\"",
                mr_status_text(r), (int)out->buf.size, (const char *)out->buf.data);
    }
    mr_json_out_release(out);
    return r;
}

void mr_admin_look(struct mr_admin *admin)
{
    const struct mr_router *router;
    const struct mr_config *config = admin->host->ops->config(admin->host, &router);
    if (config != NULL) {
        mr__look_growth(admin, config->dlq_growth_ns);
        mr__look_targets(admin, config->target_health_ns);
        admin->host->ops->config_release(admin->host, config);
    }
}
