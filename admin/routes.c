#include "admin/internal.h"

/* Every route of the administrative interface with what it may touch. docs/openapi.yaml lists the
 * same; a test compares them. */
const struct mr__route mr__routes[] = {
    {MR_HTTP_GET, "/livez", NULL, "none", MR__LANE_NOW, true, mr__get_livez},
    {MR_HTTP_GET, "/readyz", NULL, "none", MR__LANE_NOW, true, mr__get_readyz},
    {MR_HTTP_GET, "/metrics", NULL, "read", MR__LANE_QUICK, true, mr__get_metrics},
    {MR_HTTP_GET, "/api/v1/status", NULL, "read", MR__LANE_QUICK, false, mr__get_status},
    {MR_HTTP_GET, "/api/v1/log", NULL, "read", MR__LANE_QUICK, false, mr__get_log},
    {MR_HTTP_GET, "/api/v1/sources", NULL, "read", MR__LANE_QUICK, false, mr__get_sources},
    {MR_HTTP_GET, "/api/v1/sources/*", NULL, "read", MR__LANE_QUICK, false, mr__get_source},
    {MR_HTTP_POST, "/api/v1/sources/*", "pause", "operate", MR__LANE_SLOW, false,
     mr__post_source_pause},
    {MR_HTTP_POST, "/api/v1/sources/*", "resume", "operate", MR__LANE_SLOW, false,
     mr__post_source_resume},
    {MR_HTTP_GET, "/api/v1/targets", NULL, "read", MR__LANE_QUICK, false, mr__get_targets},
    {MR_HTTP_GET, "/api/v1/usage", NULL, "read", MR__LANE_QUICK, false, mr__get_usage},
    {MR_HTTP_GET, "/api/v1/targets/*", NULL, "read", MR__LANE_QUICK, false, mr__get_target},
    {MR_HTTP_GET, "/api/v1/subscriptions", NULL, "read", MR__LANE_QUICK, false,
     mr__get_subscriptions},
    {MR_HTTP_GET, "/api/v1/subscriptions/*", NULL, "read", MR__LANE_QUICK, false,
     mr__get_subscription},
    {MR_HTTP_POST, "/api/v1/subscriptions/*", "pause", "operate", MR__LANE_QUICK, false,
     mr__post_subscription_pause},
    {MR_HTTP_POST, "/api/v1/subscriptions/*", "resume", "operate", MR__LANE_QUICK, false,
     mr__post_subscription_resume},
    {MR_HTTP_POST, "/api/v1/subscriptions/*", "replay", "operate", MR__LANE_SLOW, false,
     mr__post_replay},
    {MR_HTTP_GET, "/api/v1/explain/*", NULL, "read", MR__LANE_QUICK, false, mr__get_explain},
    {MR_HTTP_GET, "/api/v1/trace/*", NULL, "read", MR__LANE_SLOW, false, mr__get_trace},
    {MR_HTTP_GET, "/api/v1/why", NULL, "read", MR__LANE_SLOW, false, mr__get_why},
    {MR_HTTP_GET, "/api/v1/what-if", NULL, "read", MR__LANE_SLOW, false, mr__get_what_if},
    {MR_HTTP_GET, "/api/v1/audit/*", NULL, "read", MR__LANE_SLOW, false, mr__get_audit},
    {MR_HTTP_GET, "/api/v1/dlq/*", "groups", "read", MR__LANE_SLOW, false, mr__get_dlq_groups},
    {MR_HTTP_GET, "/api/v1/dlq/*", NULL, "read", MR__LANE_SLOW, false, mr__get_dlq},
    {MR_HTTP_POST, "/api/v1/dlq/*", "redrive", "operate", MR__LANE_SLOW, false,
     mr__post_dlq_redrive},
    {MR_HTTP_POST, "/api/v1/dlq/*", "edit", "operate", MR__LANE_SLOW, false, mr__post_dlq_edit},
    {MR_HTTP_POST, "/api/v1/dlq/*", "purge", "operate", MR__LANE_SLOW, false, mr__post_dlq_purge},
    {MR_HTTP_GET, "/api/v1/deliveries/*", NULL, "read", MR__LANE_SLOW, false, mr__get_deliveries},
    {MR_HTTP_POST, "/api/v1/deliveries/*", "resume", "operate", MR__LANE_QUICK, false,
     mr__post_delivery_resume},
    {MR_HTTP_POST, "/api/v1/deliveries/*", "skip", "operate", MR__LANE_QUICK, false,
     mr__post_delivery_skip},
    {MR_HTTP_POST, "/api/v1/deliveries/*", "edit", "operate", MR__LANE_SLOW, false,
     mr__post_delivery_edit},
    {MR_HTTP_POST, "/api/v1/deliveries/*", NULL, "read", MR__LANE_SLOW, false,
     mr__post_deliveries},
    {MR_HTTP_POST, "/api/v1/events", NULL, "ingest", MR__LANE_QUICK, false, mr__post_events},
    {MR_HTTP_POST, "/api/v1/invoke/*", NULL, "operate", MR__LANE_QUICK, false, mr__post_invoke},
    {MR_HTTP_GET, "/api/v1/tail", NULL, "read", MR__LANE_TAIL, false, mr__get_tail},
    {MR_HTTP_POST, "/api/v1/reload", NULL, "operate", MR__LANE_SLOW, false, mr__post_reload},
    {MR_HTTP_POST, "/api/v1/clock/accept", NULL, "operate", MR__LANE_QUICK, false,
     mr__post_clock_accept},
    {MR_HTTP_POST, "/api/v1/stop", NULL, "operate", MR__LANE_QUICK, false, mr__post_stop},
    {MR_HTTP_GET, "/subscriptions", NULL, "read", MR__LANE_SLOW, true, mr__get_ce_subscriptions},
    {MR_HTTP_POST, "/subscriptions", NULL, "operate", MR__LANE_SLOW, true,
     mr__post_ce_subscription},
    {MR_HTTP_GET, "/subscriptions/*", NULL, "read", MR__LANE_SLOW, true, mr__get_ce_subscription},
    {MR_HTTP_PUT, "/subscriptions/*", NULL, "operate", MR__LANE_SLOW, true,
     mr__put_ce_subscription},
    {MR_HTTP_DELETE, "/subscriptions/*", NULL, "operate", MR__LANE_SLOW, true,
     mr__delete_ce_subscription},
    {.path = NULL},
};

/* Whether @p path fits the route; the name is what stands for the star, without the verb. */
static bool path_fits(const struct mr__route *route, struct mr_bytes path,
                      struct mr_bytes *ret_name)
{
    struct mr_bytes pattern = mr_bytes_of(route->path);
    bool has_star = pattern.size > 0 && pattern.data[pattern.size - 1] == '*';
    if (!has_star) {
        *ret_name = (struct mr_bytes){0};
        return mr_bytes_equal(path, pattern);
    }
    pattern.size--;
    if (!mr_bytes_starts(path, pattern) || path.size == pattern.size) {
        return false;
    }
    struct mr_bytes rest = mr_bytes(path.data + pattern.size, path.size - pattern.size);
    if (route->verb != NULL) {
        struct mr_bytes verb = mr_bytes_of(route->verb);
        if (rest.size < verb.size + 2 || !mr_bytes_ends(rest, verb) ||
            rest.data[rest.size - verb.size - 1] != '/') {
            return false;
        }
        rest.size -= verb.size + 1;
    }
    *ret_name = rest;
    return true;
}

const struct mr__route *mr__route_find(enum mr_http_method method, const char *path,
                                       bool on_ingest, struct mr_bytes *ret_name,
                                       unsigned *ret_allowed)
{
    *ret_allowed = 0;
    for (const struct mr__route *route = mr__routes; route->path != NULL; route++) {
        struct mr_bytes name;
        if ((on_ingest && !route->on_ingest) || !path_fits(route, mr_bytes_of(path), &name)) {
            continue;
        }
        *ret_allowed |= (unsigned)route->method;
        if (route->method == method) {
            *ret_name = name;
            return route;
        }
    }
    return NULL;
}
