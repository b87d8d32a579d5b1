/* What the Subscriptions API holds: one JSON document beside the file. It is the cursor of a
 * built-in source, so it is durable, recovered and bounded by what the log does anyway; it takes
 * effect as part of the configuration, through the same reload. */
#include <poll.h>

#include "admin/ce_subscription.h"
#include "config/print.h"
#include "core/alloc.h"
#include "core/logger.h"
#include "millrace/engine_internal.h"

#define OVERLAY_NAME "the Subscriptions API"
#define WAIT_MS 100
#define FAULTY_WAITS_MAX 50u /* what a log holds that has just become faulty */

/* For a person to read: what does not fit is left out. */
static void say(struct mr_buf *to, const char *text)
{
    if (mr_buf_append_text(to, text) != MR_OK) {
        MR_WARN("engine", "no memory to say: %s", text);
    }
}

static void say_errors(struct mr_engine *engine, enum mr_status r,
                       const struct mr_config_errors *errors, struct mr_buf *problem)
{
    if (errors->count > 0) {
        if (mr_config_errors_print(errors, problem, false) != MR_OK) {
            say(problem, "the configuration has errors; see `millrace check`");
        }
        return;
    }
    say(problem, engine->config_path);
    say(problem, ": ");
    say(problem, mr_status_text(r));
}

/* The file alone says where the sinks of the API may be, so it is read first. */
static enum mr_status load_both(struct mr_engine *engine, const char *set,
                                const struct mr_config *file, struct mr_config **ret_config,
                                struct mr_config_errors *errors)
{
    struct mr_buf overlay;
    mr_buf_init(&overlay, MR_CONFIG_SIZE_MAX);
    enum mr_status r = mr_ce_subscriptions_overlay(
        mr_bytes_of(set), file->subscriptions_api.egress_any, &overlay);
    r = r == MR_OK ? mr_config_load_with(engine->config_path, OVERLAY_NAME, mr_buf_bytes(&overlay),
                                         mr_engine_kinds(), ret_config, errors)
                   : r;
    mr_buf_release(&overlay);
    return r;
}

enum mr_status engine_load(struct mr_engine *engine, const char *set,
                           struct mr_config **ret_config, struct mr_buf *problem)
{
    if (engine->config_path == NULL) {
        say(problem, "Millrace runs without a configuration file");
        return MR_E_INVALID;
    }
    struct mr_config_errors errors = {0};
    struct mr_config *file = NULL;
    enum mr_status r = mr_config_load(engine->config_path, mr_engine_kinds(), &file, &errors);
    if (r == MR_OK && set != NULL) {
        r = load_both(engine, set, file, ret_config, &errors);
    } else if (r == MR_OK) {
        *ret_config = MR_TAKE(file);
    }
    if (r != MR_OK) {
        say_errors(engine, r, &errors, problem);
    }
    mr_config_destroy(file);
    mr_config_errors_release(&errors);
    return r;
}

/* --- durable ---------------------------------------------------------------------------------- */

/* Waits for @p batch. A log that fails may keep it: then it and its queue are left standing. */
static enum mr_status await(struct mr_engine *engine, struct mr_opq *queue)
{
    struct mr_op *op;
    uint32_t waits = 0;
    while ((op = mr_opq_take(queue)) == NULL) {
        struct pollfd fd = {.fd = mr_opq_fd(queue), .events = POLLIN};
        (void)poll(&fd, 1, WAIT_MS); /* EINTR: looked at again */
        waits += atomic_load(&engine->faulty);
        if (waits > FAULTY_WAITS_MAX) {
            return MR_E_FAULTY;
        }
    }
    struct mr_batch *batch = (struct mr_batch *)(void *)op;
    enum mr_status r = batch->result;
    mr_batch_destroy(batch);
    mr_opq_release(queue);
    mr_free(queue);
    return r;
}

static void find_source(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)now;
    *(uint32_t *)argument = mr_bus_source_id(bus, MR_SOURCE_API_NAME);
}

enum mr_status engine_keep_subscriptions(struct mr_engine *engine, const char *set)
{
    uint32_t source = UINT32_MAX;
    enum mr_status r = engine_call(engine, find_source, &source);
    if (r != MR_OK) {
        return r;
    }
    MR_ASSERT(source != UINT32_MAX);
    struct mr_opq *queue = mr_calloc(1, sizeof(*queue));
    struct mr_batch *batch = queue == NULL ? NULL : mr_batch_create(source, 0);
    if (batch != NULL) {
        batch->cursor = mr_strdup(set);
    }
    r = batch == NULL || batch->cursor == NULL ? MR_E_NOMEM : mr_opq_init(queue, UINT64_MAX);
    if (r != MR_OK) {
        mr_batch_destroy(batch);
        mr_free(queue);
        return r;
    }
    batch->reply = queue;
    batch->op.type = ENGINE_BATCH;
    engine_post(engine, &batch->op);
    return await(engine, queue);
}

/* --- at the start ----------------------------------------------------------------------------- */

struct snapshot *engine_with_subscriptions(struct mr_engine *engine, struct snapshot *snapshot)
{
    uint32_t source = mr_bus_source_id(engine->bus, MR_SOURCE_API_NAME);
    const char *set =
        source == UINT32_MAX ? NULL : mr_bus_source_cursor(engine->bus, source);
    if (set == NULL) {
        return snapshot;
    }
    struct mr_buf problem;
    struct mr_problem why = {.text = ""};
    struct mr_config *config = NULL;
    struct snapshot *whole = NULL;
    mr_buf_init(&problem, MR_MIB);
    enum mr_status r = engine_load(engine, set, &config, &problem);
    if (r == MR_OK) {
        whole = snapshot_create(engine, config, set, 1, &why);
    }
    if (whole == NULL) {
        mr_config_destroy(config);
        MR_ERROR("engine", "what the Subscriptions API holds is refused, it is left out: %.*s%s",
                 (int)problem.size, (const char *)problem.data, why.text);
        snapshot->api_set = mr_strdup(set); /* no memory: it stays in the log for the next start */
        snapshot->api_refused = true;
    } else {
        snapshot_unref(snapshot);
    }
    mr_buf_release(&problem);
    return whole == NULL ? snapshot : whole;
}
