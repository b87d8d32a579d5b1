/* POST /api/v1/invoke/NAME: one event for one subscription alone, answered with how its delivery
 * ended. Asynchronous throughout: the lane goes on meanwhile. */
#include "admin/internal.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "schemas/json_format.h"

#define WAIT_S_DEFAULT 30u
#define WAIT_S_MAX 300u
#define INVOCATIONS_MAX 32u /* half of what the socket takes at once: the other half stays free */

struct mr__invocation {
    struct mr_await await; /* first: cast back from its op */
    struct mr__call *call; /* NULL once answered */
    char *id;              /* owned */
    enum mr_durability durable;
};

static void destroy_invocation(struct mr__invocation *invocation)
{
    if (invocation != NULL) {
        mr_await_release(&invocation->await);
        mr_free(invocation->id);
        mr_free(invocation);
    }
}

/* The subscription that @p name is, or the only one whose worker it is. */
static enum mr_status find_subscription(struct mr_admin *admin, const char *name, char **ret_name,
                                        struct mr_problem *problem)
{
    const struct mr_router *router;
    const struct mr_config *config = admin->host->ops->config(admin->host, &router);
    int64_t found = mr_config_find_subscription(config, name);
    int64_t target = found < 0 ? mr_config_find_target(config, name) : -1;
    uint32_t count = found < 0 ? 0 : 1;
    for (uint32_t i = 0; target >= 0 && i < config->subscription_count; i++) {
        const struct mr_subscription_config *subscription = &config->subscriptions[i];
        if (mr_subscription_reaches(subscription, (uint32_t)target) && !subscription->hidden &&
            !subscription->is_shadow) {
            found = i;
            count++;
        }
    }
    enum mr_status r = MR_OK;
    if (count == 0) {
        r = mr_problem_set(problem, MR_E_NOT_FOUND, "there is no subscription or worker %s", name);
    } else if (count > 1) {
        r = mr_problem_set(problem, MR_E_CONFLICT,
                           "%u subscriptions deliver to %s: name one of them", count, name);
    } else {
        *ret_name = mr_strdup(config->subscriptions[found].name);
        r = *ret_name == NULL ? MR_E_NOMEM : MR_OK;
    }
    admin->host->ops->config_release(admin->host, config);
    return r;
}

static enum mr_status read_wait(const struct mr__call *call, uint64_t *ret_seconds,
                                struct mr_problem *problem)
{
    const char *text = mr_http_request_query(call->http, "wait");
    *ret_seconds = WAIT_S_DEFAULT;
    if (text != NULL &&
        (!mr_parse_u64(mr_bytes_of(text), ret_seconds) || *ret_seconds > WAIT_S_MAX)) {
        return mr_problem_set(problem, MR_E_INVALID, "`wait` is a number of seconds, %u at most",
                              WAIT_S_MAX);
    }
    return MR_OK;
}

static enum mr_status make_invocation(struct mr_admin *admin, struct mr__call *call,
                                      struct mr__invocation *invocation,
                                      struct mr_batch **ret_batch, struct mr_problem *problem)
{
    uint64_t seconds;
    struct mr_event *event;
    enum mr_status r = read_wait(call, &seconds, problem);
    r = r == MR_OK ? find_subscription(admin, call->name, &invocation->await.subscription, problem)
                   : r;
    r = r == MR_OK ? mr_json_decode_event(mr_http_request_body(call->http), MR_EVENT_SIZE_DEFAULT,
                                          &event, problem)
                   : r;
    if (r != MR_OK) {
        return r;
    }
    struct mr_bytes id = mr_event_id(mr_event_record(event));
    invocation->call = call;
    invocation->id = mr_strndup((const char *)id.data, id.size);
    struct mr_batch *batch = mr_batch_create(0, 1);
    if (batch == NULL || invocation->id == NULL) {
        mr_event_unref(event);
        mr_batch_destroy(batch);
        return MR_E_NOMEM;
    }
    r = mr_batch_add(batch, event, NULL);
    if (r != MR_OK) {
        mr_batch_destroy(batch);
        return r;
    }
    struct mr_opq *reply = &admin->lanes[MR__LANE_QUICK].queue;
    batch->reply = reply;
    batch->context = call;
    invocation->await.type = MR__OP_INVOKED;
    invocation->await.batch = batch;
    invocation->await.reply = reply;
    invocation->await.deadline_mono_ns = mr_clock_mono_ns() + seconds * MR_SECOND;
    *ret_batch = batch;
    return MR_OK;
}

void mr__post_invoke(struct mr_admin *admin, struct mr__call *call)
{
    struct mr__lane_thread *lane = &admin->lanes[MR__LANE_QUICK];
    struct mr_problem problem = {.text = ""};
    struct mr_batch *batch = NULL;
    if (lane->invocations >= INVOCATIONS_MAX) {
        mr__answer_error(call, 503, "%u invocations are under way", lane->invocations);
        return;
    }
    struct mr__invocation *invocation = mr_calloc(1, sizeof(*invocation));
    enum mr_status r = invocation == NULL
                           ? MR_E_NOMEM
                           : make_invocation(admin, call, invocation, &batch, &problem);
    if (r != MR_OK) {
        destroy_invocation(invocation);
        mr__answer_status(call, r, &problem);
        return;
    }
    call->invocation = invocation;
    lane->batches++;
    lane->invocations++;
    admin->host->ops->await(admin->host, &invocation->await);
    r = admin->host->ops->submit(admin->host, MR_SOURCE_SEND_NAME, invocation->await.subscription,
                                 batch, &problem);
    if (r != MR_OK) {
        /* The batch is still ours; the question comes back and finds nobody. */
        lane->batches--;
        mr_batch_destroy(batch);
        invocation->call = NULL;
        mr__answer_status(call, r, &problem);
    }
}

void mr__invoke_accepted(struct mr_admin *admin, struct mr_batch *batch)
{
    (void)admin;
    struct mr__call *call = batch->context;
    struct mr__invocation *invocation = call->invocation;
    invocation->durable = batch->durable;
    if (batch->result != MR_OK) {
        invocation->call = NULL;
        mr__answer_status(call, batch->result, NULL);
    }
    mr_batch_destroy(batch);
}

static void write_end(struct mr_json_out *out, const struct mr__invocation *invocation)
{
    const struct mr_await *await = &invocation->await;
    bool has_ended = await->end == MR_AWAIT_SETTLED;
    mr_json_out_object(out, NULL);
    mr_json_out_text(out, "id", invocation->id);
    mr_json_out_u64(out, "offset", await->offset);
    mr_json_out_text(out, "durable", mr_durability_text(invocation->durable));
    mr_json_out_text(out, "subscription", await->subscription);
    mr_json_out_text(out, "state", has_ended ? await->state : "waiting");
    mr_json_out_u64(out, "attempt", await->attempt);
    mr_json_out_text(out, "error", await->error);
    /* Last, so that the command line finds it and prints it as it is. */
    if (has_ended && await->result != NULL) {
        mr_json_out_raw(out, "result", mr_bytes_of(await->result));
    } else {
        mr_json_out_null(out, "result");
    }
    mr_json_out_end(out);
}

void mr__invoke_ended(struct mr_admin *admin, struct mr_op *op)
{
    struct mr__invocation *invocation = (struct mr__invocation *)(void *)op;
    struct mr__lane_thread *lane = &admin->lanes[MR__LANE_QUICK];
    MR_ASSERT(lane->invocations > 0);
    lane->invocations--;
    if (invocation->call != NULL) {
        struct mr_json_out out;
        mr_json_out_init(&out, MR__ANSWER_SIZE_MAX);
        write_end(&out, invocation);
        mr__answer_json(MR_TAKE(invocation->call),
                        invocation->await.end == MR_AWAIT_SETTLED ? 200 : 202, &out);
    }
    destroy_invocation(invocation);
}
