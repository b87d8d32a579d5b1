/* The start: the listeners answer first, so that whoever looks sees how far it is; then the log is
 * opened, the configuration taken, and everything set going. */
#include <errno.h>
#include <sys/stat.h>

#include "core/alloc.h"
#include "core/logger.h"
#include "millrace/engine_internal.h"

#define FIRST_SEGMENT_SIZE (4u * MR_MIB) /* quick to zero: the start must not wait for it */

static char *join_path(const char *folder, const char *name)
{
    struct mr_buf path;
    mr_buf_init(&path, 64 * MR_KIB);
    char *text = NULL;
    if (mr_buf_printf(&path, "%s/%s", folder, name) == MR_OK) {
        text = mr_buf_take_text(&path);
    }
    mr_buf_release(&path);
    return text;
}

enum mr_status engine_make_folders(struct mr_engine *engine, const struct mr_config *config,
                                   struct mr_problem *problem)
{
    if (mkdir(config->data_dir, 0700) != 0 && errno != EEXIST) {
        return mr_problem_set(problem, mr_status_from_errno(errno), "cannot make data_dir %s: %s",
                              config->data_dir, mr_status_text(mr_status_from_errno(errno)));
    }
    engine->log_dir = join_path(config->data_dir, "log");
    engine->socket_path = join_path(config->data_dir, "millrace.sock");
    if (engine->log_dir == NULL || engine->socket_path == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "no memory");
    }
    return engine_open_log(engine, config, problem);
}

static bool tell_progress(void *context, const char *of, uint64_t done, uint64_t total)
{
    struct mr_engine *engine = context;
    mr_starting_progress(engine->starting, of, done, total);
    return atomic_load(&engine->stop_requests) == 0;
}

static enum mr_status open_bus(struct mr_engine *engine, const struct mr_config *config,
                               struct mr_problem *problem)
{
    struct mr_bus_options options = {
        .log = config->log,
        .memory_state = config->memory_state,
        .seed = mr_rng_entropy(),
        .first_segment_size = FIRST_SEGMENT_SIZE,
        .progress = tell_progress,
        .progress_context = engine,
    };
    options.log.mirror = NULL; /* the configuration's, and not the bus's affair */
    struct mr_bus_ports ports = engine_ports(engine);
    struct mr_now now = mr_clock_now();
    enum mr_status r = mr_bus_open(engine->io, &options, &ports, now, &engine->bus,
                                   &engine->admin_host.opened, problem);
    if (r != MR_OK) {
        return r;
    }
    engine->salt = mr_bus_salt(engine->bus);
    const struct mr_bus_opened *opened = &engine->admin_host.opened;
    engine->admin_host.opened_at = now;
    if (opened->lost_events > 0) {
        MR_ERROR("bus", "%llu events rotted in the log and are lost; see `millrace log verify`",
                 (unsigned long long)opened->lost_events);
    }
    if (opened->sections_damaged > 0) {
        MR_WARN("bus",
                "%u sections of the newest checkpoint were damaged: %u were rebuilt from the log, "
                "the others taken from the checkpoint before; see `millrace log verify`",
                opened->sections_damaged, opened->sections_lost);
    }
    MR_INFO("bus", "log open: %llu events, %llu groups read%s, %llu deliveries were interrupted",
            (unsigned long long)opened->events, (unsigned long long)opened->groups_folded,
            opened->torn ? ", a torn tail was cut" : "", (unsigned long long)opened->interrupted);
    return MR_OK;
}

static enum mr_status take_configuration(struct mr_engine *engine, struct mr_problem *problem)
{
    engine->snapshot = engine_with_subscriptions(engine, engine->snapshot);
    enum mr_status r = mr_bus_configure(engine->bus, mr_clock_now(), engine->snapshot->config,
                                        engine->snapshot->router, 1);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "cannot take the configuration: %s", mr_status_text(r));
    }
    snapshot_bind(engine->snapshot, engine->bus);
    engine->bus_snapshot = snapshot_get(engine);
    engine->admin_host.log_dir = engine->log_dir;
    mr_budgets_bound(engine->snapshot->config, 0, engine->admin_host.budgets);
    return MR_OK;
}

static enum mr_status start_listeners(struct mr_engine *engine, struct mr_problem *problem)
{
    const struct mr_config *config = engine->snapshot->config;
    enum mr_status r = MR_OK;
    if (!config->listen_off) {
        struct mr_http_listener_options options = {
            .host = config->listen_host,
            .port = config->listen_port,
            .connections_max = MR_HTTP_CONNECTIONS_MAX,
            .idle_timeout_ns = MR_MINUTE,
        };
        r = mr_http_listener_create(&options, &engine->listener, problem);
    }
    struct mr_http_listener_options socket = {
        .socket_path = engine->socket_path,
        .connections_max = 64,
        .idle_timeout_ns = 10 * MR_MINUTE,
    };
    r = r == MR_OK ? mr_http_listener_create(&socket, &engine->socket, problem) : r;
    r = r == MR_OK ? mr_starting_create(engine->socket, engine->listener, &engine->starting,
                                        problem)
                   : r;
    r = r == MR_OK ? mr_http_listener_start(engine->socket, problem) : r;
    if (r == MR_OK && engine->listener != NULL) {
        r = mr_http_listener_start(engine->listener, problem);
    }
    return r;
}

enum mr_status mr_engine_start(struct mr_engine *engine, struct mr_problem *problem)
{
    enum mr_status r = start_listeners(engine, problem);
    r = r == MR_OK ? open_bus(engine, engine->snapshot->config, problem) : r;
    r = r == MR_OK ? take_configuration(engine, problem) : r;
    if (r != MR_OK) {
        return r;
    }
    mr_starting_progress(engine->starting, "log", 0, 0);
    r = engine_start_threads(engine);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "cannot start the log's threads");
    }
    r = instances_start_targets(engine, problem);
    r = r == MR_OK ? mr_admin_create(&engine->admin_host, engine->socket, engine->listener,
                                     &engine->admin, problem)
                   : r;
    r = r == MR_OK ? instances_start_sources(engine, problem) : r;
    if (r == MR_OK && engine_start_control(engine) != MR_OK) {
        r = mr_problem_set(problem, MR_E_UNAVAILABLE, "cannot start the control thread");
    }
    atomic_store(&engine->running, r == MR_OK);
    mr_starting_destroy(MR_TAKE(engine->starting));
    return r;
}
