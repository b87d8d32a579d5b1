#include "admin/admin.h"

#include <errno.h>
#include <poll.h>

#include "admin/ce_subscription.h"
#include "admin/internal.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/logger.h"

#define WAITING_MAX 1024u /* requests for a lane */
#define STOP_WAIT_NS (5 * MR_SECOND) /* for batches still at the bus */

/* --- the lanes -------------------------------------------------------------------------------- */

static void run_op(struct mr__lane_thread *lane, struct mr_op *op)
{
    struct mr_admin *admin = lane->admin;
    if (op->type == MR_SOURCE_OP_BATCH_DONE) {
        MR_ASSERT(lane->batches > 0);
        lane->batches--;
        struct mr_batch *batch = (struct mr_batch *)(void *)op;
        const struct mr__call *call = batch->context;
        if (call != NULL && call->route->run == mr__post_dlq_edit) {
            mr__edit_done(admin, batch);
        } else if (call != NULL && call->route->run == mr__post_replay) {
            mr__replay_done(batch);
        } else if (call != NULL && call->route->run == mr__post_invoke) {
            mr__invoke_accepted(admin, batch);
        } else {
            mr__events_done(admin, batch);
        }
        return;
    }
    if (op->type == MR__OP_INVOKED) {
        mr__invoke_ended(admin, op);
        return;
    }
    MR_ASSERT(op->type == MR__OP_REQUEST);
    struct mr__call *call = (struct mr__call *)(void *)op;
    atomic_fetch_sub_explicit(&lane->waiting, 1, memory_order_relaxed);
    if (atomic_load_explicit(&admin->stopping, memory_order_relaxed)) {
        mr__answer_error(call, 503, "Millrace is stopping");
        return;
    }
    call->route->run(admin, call);
}

static void *run_lane(void *argument)
{
    struct mr__lane_thread *lane = argument;
    uint64_t give_up_ns = 0;
    for (;;) {
        struct mr_op *op = mr_opq_take(&lane->queue);
        if (op == NULL) {
            bool stopping = atomic_load_explicit(&lane->admin->stopping, memory_order_relaxed);
            uint64_t now_ns = mr_clock_mono_ns();
            if (stopping && give_up_ns == 0) {
                give_up_ns = now_ns + STOP_WAIT_NS;
                if (lane->invocations > 0) {
                    lane->admin->host->ops->withdraw(lane->admin->host, &lane->queue);
                }
            }
            bool is_empty = lane->batches == 0 && lane->invocations == 0;
            if (stopping && (is_empty || now_ns >= give_up_ns)) {
                return NULL;
            }
            struct pollfd wait = {.fd = mr_opq_fd(&lane->queue), .events = POLLIN};
            if (poll(&wait, 1, stopping ? 100 : -1) < 0 && errno != EINTR) {
                MR_ERROR("admin", "msg=\"poll failed, ignoring\" errno=%d", errno);
            }
        }
        while (op != NULL) {
            struct mr_op *next = op->next;
            op->next = NULL;
            run_op(lane, op);
            op = next;
        }
    }
}

static enum mr_status start_lane(struct mr_admin *admin, struct mr__lane_thread *lane)
{
    lane->admin = admin;
    /* What the bus gives back always gets in; requests are bounded when they come. */
    enum mr_status r = mr_opq_init(&lane->queue, UINT64_MAX);
    if (r != MR_OK) {
        return r;
    }
    if (pthread_create(&lane->thread, NULL, run_lane, lane) != 0) {
        mr_opq_release(&lane->queue);
        return MR_E_UNAVAILABLE;
    }
    lane->started = true;
    return MR_OK;
}

static void stop_lane(struct mr__lane_thread *lane)
{
    if (!lane->started) {
        return;
    }
    mr_opq_wake(&lane->queue);
    (void)pthread_join(lane->thread, NULL); /* ours, not detached: cannot fail */
    lane->started = false;
    if (lane->batches > 0 || lane->invocations > 0) {
        /* The bus still holds them and will push to this queue: leave it standing. */
        MR_WARN("admin", "batches=%u msg=\"still at the bus after the stop\"", lane->batches);
        return;
    }
    mr_opq_release(&lane->queue);
}

/* --- from the listeners ----------------------------------------------------------------------- */

static void refuse(struct mr_http_request *request, unsigned status, const char *json)
{
    struct mr_http_answer answer = {
        .status = status, .content_type = "application/json", .body = mr_bytes_of(json)};
    mr_http_answer(request, &answer);
}

static struct mr__call *create_call(struct mr_http_request *request, const struct mr__route *route,
                                    struct mr_bytes name)
{
    struct mr__call *call = mr_calloc(1, sizeof(*call));
    char *copy = mr_strndup(name.size == 0 ? "" : (const char *)name.data, name.size);
    if (call == NULL || copy == NULL) {
        mr_free(call);
        mr_free(copy);
        return NULL;
    }
    *call = (struct mr__call){
        .op = {.type = MR__OP_REQUEST}, .http = request, .route = route, .name = copy};
    return call;
}

static void handle(struct mr_admin *admin, struct mr_http_request *request, bool on_ingest)
{
    struct mr_bytes name = {0};
    unsigned allowed;
    const struct mr__route *route =
        mr__route_find(mr_http_request_method(request), mr_http_request_path(request), on_ingest,
                       &name, &allowed);
    if (route == NULL) {
        refuse(request, allowed == 0 ? 404 : 405,
               allowed == 0 ? "{\"error\":\"no such path\"}"
                            : "{\"error\":\"this method is not allowed here\"}");
        return;
    }
    struct mr__call *call = create_call(request, route, name);
    if (call == NULL) {
        refuse(request, 503, "{\"error\":\"out of memory\"}");
        return;
    }
    call->on_ingest = on_ingest;
    if (route->lane == MR__LANE_NOW || route->lane == MR__LANE_TAIL) {
        route->run(admin, call);
        return;
    }
    struct mr__lane_thread *lane = &admin->lanes[route->lane];
    bool is_full =
        atomic_fetch_add_explicit(&lane->waiting, 1, memory_order_relaxed) >= WAITING_MAX;
    if (is_full || mr_opq_push(&lane->queue, &call->op) != MR_OK) {
        atomic_fetch_sub_explicit(&lane->waiting, 1, memory_order_relaxed);
        mr__answer_error(call, 503, "too many requests are waiting");
    }
}

static void handle_socket(void *context, struct mr_http_request *request)
{
    handle(context, request, false);
}

static void handle_ingest(void *context, struct mr_http_request *request)
{
    handle(context, request, true);
}

/* Whether the Subscriptions API is on `listen`: to set or remove its token takes a restart. */
static bool has_api_token(struct mr_admin *admin)
{
    const struct mr_router *router;
    const struct mr_config *config = admin->host->ops->config(admin->host, &router);
    bool has = config != NULL && config->subscriptions_api.token != NULL;
    if (config != NULL) {
        admin->host->ops->config_release(admin->host, config);
    }
    return has;
}

static enum mr_status add_routes(struct mr_admin *admin, struct mr_problem *problem)
{
    static const char *const shared[] = {"/livez", "/readyz", "/metrics"};
    static const char *const subscriptions[] = {"/subscriptions", "/subscriptions/*"};
    struct mr_http_route route = {.methods = MR_HTTP_GET | MR_HTTP_POST,
                                  .path = "/api/v1/*",
                                  .body_max = MR__BODY_SIZE_MAX,
                                  .handle = handle_socket,
                                  .context = admin};
    enum mr_status r = mr_http_listener_route(admin->socket, &route, false);
    for (size_t i = 0; i < MR_ARRAY_COUNT(shared) && r == MR_OK; i++) {
        route = (struct mr_http_route){.methods = MR_HTTP_GET,
                                       .path = shared[i],
                                       .body_max = MR_KIB,
                                       .handle = handle_socket,
                                       .context = admin};
        r = mr_http_listener_route(admin->socket, &route, false);
        if (r == MR_OK && admin->ingest != NULL) {
            route.handle = handle_ingest;
            r = mr_http_listener_route(admin->ingest, &route, false);
        }
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(subscriptions) && r == MR_OK; i++) {
        route = (struct mr_http_route){
            .methods = MR_HTTP_GET | MR_HTTP_POST | MR_HTTP_PUT | MR_HTTP_DELETE,
            .path = subscriptions[i],
            .body_max = MR_CE_SUBSCRIPTION_SIZE_MAX,
            .handle = handle_socket,
            .context = admin};
        r = mr_http_listener_route(admin->socket, &route, false);
        if (r == MR_OK && admin->ingest != NULL && has_api_token(admin)) {
            route.handle = handle_ingest;
            route.admit = mr__admit_ce;
            r = mr_http_listener_route(admin->ingest, &route, false);
        }
    }
    return r == MR_OK ? r
                      : mr_problem_set(problem, r, "cannot serve %s: %s", route.path,
                                       r == MR_E_EXISTS ? "a source has this path"
                                                        : mr_status_text(r));
}

/* --- life ------------------------------------------------------------------------------------- */

static enum mr_status start_threads(struct mr_admin *admin)
{
    enum mr_status r = MR_OK;
    for (int i = 0; i < MR__LANE_MAX && r == MR_OK; i++) {
        r = start_lane(admin, &admin->lanes[i]);
    }
    if (r == MR_OK) {
        r = mr__pulse_start(admin);
    }
    if (r == MR_OK) {
        r = mr__tail_create(admin, &admin->tail);
    }
    return r;
}

enum mr_status mr_admin_create(struct mr_admin_host *host, struct mr_http_listener *socket_listener,
                               struct mr_http_listener *ingest_listener,
                               struct mr_admin **ret_admin, struct mr_problem *problem)
{
    MR_ASSERT(host != NULL && host->ops != NULL);
    MR_ASSERT(socket_listener != NULL);
    struct mr_admin *admin = mr_calloc(1, sizeof(*admin));
    if (admin == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "%s", mr_status_text(MR_E_NOMEM));
    }
    admin->host = host;
    admin->socket = socket_listener;
    admin->ingest = ingest_listener;
    (void)pthread_mutex_init(&admin->names_mu, NULL); /* cannot fail with default attributes */
    enum mr_status r = mr_history_index_create(host->log_dir, host->mirror, &admin->history);
    r = r == MR_OK ? start_threads(admin) : r;
    if (r != MR_OK) {
        (void)mr_problem_set(problem, r, "the administrative interface: %s", mr_status_text(r));
    } else {
        r = add_routes(admin, problem);
    }
    if (r != MR_OK) {
        mr_admin_destroy(admin);
        return r;
    }
    *ret_admin = admin;
    return MR_OK;
}

void mr_admin_destroy(struct mr_admin *admin)
{
    if (admin == NULL) {
        return;
    }
    mr_http_listener_unroute(admin->socket, admin);
    if (admin->ingest != NULL) {
        mr_http_listener_unroute(admin->ingest, admin);
    }
    atomic_store_explicit(&admin->stopping, true, memory_order_relaxed);
    mr__tail_destroy(admin->tail);
    bool stuck = false;
    for (int i = 0; i < MR__LANE_MAX; i++) {
        stop_lane(&admin->lanes[i]);
        stuck = stuck || admin->lanes[i].batches > 0 || admin->lanes[i].invocations > 0;
    }
    mr__pulse_stop(admin);
    if (stuck) {
        return; /* the queue the bus will push to lives in it */
    }
    for (uint32_t i = 0; i < admin->name_count; i++) {
        mr_free(admin->names[i]);
    }
    mr_free(admin->names);
    mr_free(admin->growth.seen);
    mr_free(admin->watch.targets);
    mr_history_index_destroy(admin->history);
    (void)pthread_mutex_destroy(&admin->names_mu);
    mr_free(admin);
}
