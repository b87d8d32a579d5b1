/* Subscriptions: their counts, what their deliveries wait for, pause, and the effective policy. */
#include "admin/internal.h"
#include "core/logger.h"

static void write_counts(struct mr_json_out *out, const struct mr_counts *counts)
{
    mr_json_out_u64(out, "matched", counts->matched);
    mr_json_out_u64(out, "done", counts->done);
    mr_json_out_u64(out, "dead", counts->dead);
    mr_json_out_u64(out, "dropped", counts->dropped);
    mr_json_out_u64(out, "expired", counts->expired);
    mr_json_out_u64(out, "lost", counts->lost);
    mr_json_out_u64(out, "held", counts->held);
    mr_json_out_u64(out, "waiting", counts->waiting);
    mr_json_out_u64(out, "in_flight", counts->in_flight);
}

static const char *state_of(const struct mr_subscription_info *info)
{
    if (info->index < 0) {
        return mr_bytes_starts(mr_bytes_of(info->name), MR_BYTES_LITERAL("ingest:")) ? "ingest"
                                                                                    : "removed";
    }
    return info->paused ? "paused" : "active";
}

/* The object stays open: more may follow. */
static void write_subscription(struct mr_json_out *out, const struct mr__subscription *subscription)
{
    const struct mr_subscription_info *info = &subscription->info;
    mr_json_out_object(out, NULL);
    mr_json_out_text(out, "name", subscription->name);
    mr_json_out_text(out, "state", state_of(info));
    mr_json_out_bool(out, "paused", info->paused);
    write_counts(out, &info->counts);
    mr_json_out_u64(out, "dead_letters", info->dead_letters);
    mr_json_out_u64(out, "behind", info->behind);
    mr_json_out_u64(out, "lanes", info->lanes);
    mr_json_out_seconds(out, "oldest_age_seconds", info->oldest_age_ns);
    mr_json_out_object(out, "attempts");
    for (int verdict = MR_VERDICT_OK; verdict < MR_VERDICT_MAX; verdict++) {
        mr_json_out_u64(out, mr_verdict_text((enum mr_verdict)verdict), info->attempts[verdict]);
    }
    mr_json_out_end(out);
    mr_json_out_object(out, "blocked_on");
    for (int reason = MR_BLOCKED_NOTHING + 1; reason < MR_BLOCKED_MAX; reason++) {
        if (info->blocked[reason] > 0) {
            mr_json_out_u64(out, mr_blocked_text((enum mr_blocked_on)reason),
                            info->blocked[reason]);
        }
    }
    mr_json_out_end(out);
}

static void write_listed(void *context, const struct mr__subscription *subscription)
{
    write_subscription(context, subscription);
    mr_json_out_end(context);
}

static void write_shadow(struct mr_json_out *out, const struct mr_shadow_report *report)
{
    if (report->worker[0] == '\0') {
        return;
    }
    mr_json_out_object(out, "shadow");
    mr_json_out_text(out, "worker", report->worker);
    mr_json_out_u64(out, "compared", report->compared);
    mr_json_out_u64(out, "same", report->same);
    mr_json_out_u64(out, "other_result", report->other_result);
    mr_json_out_u64(out, "other_verdict", report->other_verdict);
    mr_json_out_u64(out, "only_shadow_failed", report->only_shadow_failed);
    mr_json_out_u64(out, "only_original_failed", report->only_original_failed);
    mr_json_out_u64(out, "unpaired", report->unpaired);
    mr_json_out_array(out, "examples");
    for (uint32_t i = 0; i < report->example_count; i++) {
        mr_json_out_text(out, NULL, report->examples[i]);
    }
    mr_json_out_end(out);
    mr_json_out_end(out);
}

static void write_shares(struct mr_json_out *out, const struct mr_share_info *shares,
                         uint32_t count)
{
    if (count == 0) {
        return;
    }
    mr_json_out_array(out, "to");
    for (uint32_t i = 0; i < count; i++) {
        mr_json_out_object(out, NULL);
        mr_json_out_text(out, "target", shares[i].target);
        mr_json_out_u64(out, "weight", shares[i].weight);
        mr_json_out_bool(out, "returned", shares[i].returned);
        mr_json_out_u64(out, "ready", shares[i].ready);
        mr_json_out_end(out);
    }
    mr_json_out_end(out);
}

void mr__get_subscriptions(struct mr_admin *admin, struct mr__call *call)
{
    struct mr_json_out out;
    mr_json_out_init(&out, MR__ANSWER_SIZE_MAX);
    mr_json_out_object(&out, NULL);
    mr_json_out_array(&out, "subscriptions");
    enum mr_status r = mr__each_subscription(admin, write_listed, &out);
    mr_json_out_end(&out);
    mr_json_out_end(&out);
    if (r != MR_OK) {
        mr_json_out_release(&out);
        mr__answer_status(call, r, NULL);
        return;
    }
    mr__answer_json(call, 200, &out);
}

static void answer_one(struct mr_admin *admin, struct mr__call *call)
{
    struct mr__subscription subscription;
    struct mr_shadow_report shadow = {0};
    struct mr_share_info shares[MR_SHARES_MAX];
    uint32_t share_count = 0;
    enum mr_status r = mr__find_subscription(admin, call->name, &subscription);
    if (r == MR_E_NOT_FOUND) {
        mr__answer_error(call, 404, "no subscription is called %s", call->name);
        return;
    }
    if (r == MR_OK) {
        r = admin->host->ops->shadow(admin->host, call->name, &shadow);
    }
    if (r == MR_OK) {
        r = mr__find_shares(admin, subscription.info.id, shares, &share_count);
    }
    if (r != MR_OK) {
        mr__answer_status(call, r, NULL);
        return;
    }
    struct mr_json_out out;
    mr_json_out_init(&out, MR_MIB);
    write_subscription(&out, &subscription);
    write_shares(&out, shares, share_count);
    write_shadow(&out, &shadow);
    mr_json_out_end(&out);
    mr__answer_json(call, 200, &out);
}

void mr__get_subscription(struct mr_admin *admin, struct mr__call *call)
{
    answer_one(admin, call);
}

struct pause {
    const char *name;
    bool paused;
    enum mr_status result;
};

static void pause_subscription(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)now;
    struct pause *pause = argument;
    uint32_t id = mr_bus_subscription_id(bus, pause->name);
    pause->result = id == UINT32_MAX ? MR_E_NOT_FOUND : mr_bus_pause(bus, id, pause->paused);
}

static void set_paused(struct mr_admin *admin, struct mr__call *call, bool paused)
{
    struct mr__subscription subscription;
    enum mr_status r = mr__find_subscription(admin, call->name, &subscription);
    if (r == MR_E_NOT_FOUND) {
        mr__answer_error(call, 404, "no subscription is called %s", call->name);
        return;
    }
    if (r == MR_OK) {
        r = mr__log_action(admin, paused ? "pause" : "resume", "subscription", call->name, NULL);
    }
    if (r != MR_OK) {
        mr__answer_status(call, r, NULL);
        return;
    }
    struct pause pause = {.name = call->name, .paused = paused, .result = MR_OK};
    if (!mr__ask(admin, call, pause_subscription, &pause)) {
        return;
    }
    if (pause.result != MR_OK) {
        mr__answer_status(call, pause.result, NULL);
        return;
    }
    answer_one(admin, call);
}

void mr__post_subscription_pause(struct mr_admin *admin, struct mr__call *call)
{
    set_paused(admin, call, true);
}

void mr__post_subscription_resume(struct mr_admin *admin, struct mr__call *call)
{
    set_paused(admin, call, false);
}

static void write_lines(struct mr_json_out *out, struct mr_bytes text)
{
    size_t begin = 0;
    for (size_t i = 0; i <= text.size; i++) {
        if (i == text.size || text.data[i] == '\n') {
            if (i > begin) {
                mr_json_out_bytes(out, NULL, mr_bytes(text.data + begin, i - begin));
            }
            begin = i + 1;
        }
    }
}

void mr__get_explain(struct mr_admin *admin, struct mr__call *call)
{
    const struct mr_router *router;
    const struct mr_config *config = admin->host->ops->config(admin->host, &router);
    int64_t index = config == NULL ? -1 : mr_config_find_subscription(config, call->name);
    struct mr_buf text;
    mr_buf_init(&text, MR_MIB);
    enum mr_status r =
        index < 0 ? MR_E_NOT_FOUND : mr_config_explain(config, (uint32_t)index, &text);
    if (config != NULL) {
        admin->host->ops->config_release(admin->host, config);
    }
    if (r == MR_E_NOT_FOUND) {
        mr__answer_error(call, 404, "no subscription is called %s", call->name);
    } else if (r != MR_OK) {
        mr__answer_status(call, r, NULL);
    } else {
        struct mr_json_out out;
        mr_json_out_init(&out, MR_MIB * 8);
        mr_json_out_object(&out, NULL);
        mr_json_out_text(&out, "subscription", call->name);
        mr_json_out_array(&out, "policy");
        write_lines(&out, mr_buf_bytes(&text));
        mr_json_out_end(&out);
        mr_json_out_end(&out);
        mr__answer_json(call, 200, &out);
    }
    mr_buf_release(&text);
}
