/* What workers did for which subscription: counts, busy time, bytes. */
#include "admin/internal.h"

static void write_usage(void *context, const struct mr_usage *usage)
{
    struct mr_json_out *out = context;
    mr_json_out_object(out, NULL);
    mr_json_out_text(out, "subscription", usage->subscription_name);
    mr_json_out_text(out, "worker", usage->worker_name);
    mr_json_out_u64(out, "invocations", usage->invocations);
    mr_json_out_u64(out, "busy_ns", usage->busy_ns);
    mr_json_out_seconds(out, "busy_seconds", usage->busy_ns);
    mr_json_out_u64(out, "busy_units", usage->busy_units);
    mr_json_out_u64(out, "bytes_in", usage->bytes_in);
    mr_json_out_u64(out, "bytes_out", usage->bytes_out);
    mr_json_out_end(out);
}

void mr__get_usage(struct mr_admin *admin, struct mr__call *call)
{
    struct mr_json_out out;
    mr_json_out_init(&out, MR__ANSWER_SIZE_MAX);
    mr_json_out_object(&out, NULL);
    mr_json_out_time(&out, "since", admin->host->started_wall_ns);
    mr_json_out_array(&out, "usage");
    admin->host->ops->usage(admin->host, write_usage, &out);
    mr_json_out_end(&out);
    mr_json_out_end(&out);
    mr__answer_json(call, 200, &out);
}
