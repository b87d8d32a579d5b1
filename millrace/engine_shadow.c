/* Shadows: a copy of each delivery goes to another worker, whose answer is compared with that of
 * the original and has no effect. Which of the two answers first does not matter: it waits in a
 * slot for the other. */
#include <stdio.h>

#include "core/alloc.h"
#include "core/hash.h"
#include "core/logger.h"
#include "millrace/engine_internal.h"

#define SLOTS 1024u /* answers that wait for the other's; a newer takes the place of an older */

enum class {
    CLASS_OK = 0,
    CLASS_DROPPED,
    CLASS_FAILED,
};

enum who {
    NOBODY = 0,
    ORIGINAL,
    SHADOW,
};

struct slot {
    uint64_t offset;
    uint64_t result; /* hash of the result's text */
    uint8_t class;
    uint8_t who; /* has answered; NOBODY: the slot is free */
};

struct engine_shadow {
    const char *name;      /* the original's; borrowed from the configuration */
    const char *own_name;  /* likewise */
    uint32_t original_id;  /* of the bus */
    uint32_t id;
    struct mr_shadow_report report;
    struct slot slots[SLOTS];
};

enum mr_status snapshot_make_shadows(struct snapshot *snapshot, const struct mr_config *config)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < config->subscription_count; i++) {
        count += config->subscriptions[i].is_shadow;
    }
    snapshot->shadows = count == 0 ? NULL : mr_calloc(count, sizeof(*snapshot->shadows));
    if (count > 0 && snapshot->shadows == NULL) {
        return MR_E_NOMEM;
    }
    for (uint32_t i = 1; i < config->subscription_count; i++) {
        const struct mr_subscription_config *subscription = &config->subscriptions[i];
        if (subscription->is_shadow) {
            struct engine_shadow *shadow = &snapshot->shadows[snapshot->shadow_count++];
            shadow->name = config->subscriptions[i - 1].name;
            shadow->own_name = subscription->name;
            (void)snprintf(shadow->report.worker, sizeof(shadow->report.worker), "%s",
                           config->targets[subscription->target].name); /* names are bounded */
        }
    }
    return MR_OK;
}

void snapshot_bind_shadows(struct snapshot *snapshot, const struct mr_bus *bus)
{
    for (uint32_t i = 0; i < snapshot->shadow_count; i++) {
        struct engine_shadow *shadow = &snapshot->shadows[i];
        shadow->original_id = mr_bus_subscription_id(bus, shadow->name);
        shadow->id = mr_bus_subscription_id(bus, shadow->own_name);
    }
}

/* --- comparing -------------------------------------------------------------------------------- */

/* @return false: it is no outcome yet, the delivery comes again and nothing was counted */
static bool classify(const struct mr_handout *handout, struct slot *ret_slot)
{
    const struct mr_answer *answer = &handout->answer;
    if (handout->attempt != 1 || answer->suspects > 1) {
        return false;
    }
    ret_slot->offset = handout->offset;
    ret_slot->result = 0;
    switch (answer->verdict) {
    case MR_VERDICT_OK:
        ret_slot->class = CLASS_OK;
        ret_slot->result =
            answer->result == NULL ? 0 : mr_hash(answer->result, strlen(answer->result));
        return true;
    case MR_VERDICT_DROP:
        ret_slot->class = CLASS_DROPPED;
        return true;
    case MR_VERDICT_CRASH:
        if (answer->suspects == 0) {
            return false; /* stopped by us */
        }
        ret_slot->class = CLASS_FAILED;
        return true;
    case MR_VERDICT_RETRY:
    case MR_VERDICT_DEAD:
    case MR_VERDICT_TIMEOUT:
        ret_slot->class = CLASS_FAILED;
        return true;
    case MR_VERDICT_NONE:
    case MR_VERDICT_REFUSED:
    case MR_VERDICT_INTERRUPTED:
    case MR_VERDICT_MAX:
        break;
    }
    return false;
}

static void keep_example(struct mr_shadow_report *report, const struct mr_handout *handout)
{
    struct mr_bytes id = mr_event_id(mr_event_record(handout->event));
    if (report->example_count == MR_SHADOW_EXAMPLES) {
        memmove(report->examples[0], report->examples[1],
                sizeof(report->examples) - sizeof(report->examples[0]));
        report->example_count--;
    }
    mr_text_clean(report->examples[report->example_count++], sizeof(report->examples[0]), id);
}

static void compare(struct mr_shadow_report *report, const struct slot *original,
                    const struct slot *shadow, const struct mr_handout *handout)
{
    report->compared++;
    if (original->class == shadow->class && original->result == shadow->result) {
        report->same++;
        return;
    }
    if (original->class == CLASS_FAILED) {
        report->only_original_failed++;
    } else if (shadow->class == CLASS_FAILED) {
        report->only_shadow_failed++;
    } else if (original->class == shadow->class) {
        report->other_result++;
    } else {
        report->other_verdict++;
    }
    keep_example(report, handout);
}

static void note(struct engine_shadow *shadow, enum who who, const struct mr_handout *handout)
{
    struct slot answered = {.who = (uint8_t)who};
    if (!classify(handout, &answered)) {
        return;
    }
    struct slot *slot = &shadow->slots[handout->offset % SLOTS];
    if (slot->who != NOBODY && slot->offset == handout->offset && slot->who != answered.who) {
        compare(&shadow->report, who == ORIGINAL ? &answered : slot,
                who == ORIGINAL ? slot : &answered, handout);
        slot->who = NOBODY;
        return;
    }
    shadow->report.unpaired += slot->who != NOBODY && slot->offset != handout->offset;
    *slot = answered;
}

/* --- without effect --------------------------------------------------------------------------- */

/* By its name, which it keeps when a reload has removed it and its last answers are to come. */
static bool is_shadow(const struct mr_handout *handout)
{
    const char *slash = strchr(handout->name, '/');
    return slash != NULL && strcmp(slash, "/shadow") == 0;
}

static void disarm(struct mr_handout *handout)
{
    struct mr_answer *answer = &handout->answer;
    for (uint32_t i = 0; i < answer->emitted_count; i++) {
        mr_event_unref(answer->emitted[i].event);
        mr_matches_release(&answer->emitted[i].matches);
    }
    answer->emitted_count = 0;
    mr_free(MR_TAKE(answer->result));
    if (answer->verdict == MR_VERDICT_DEAD) {
        answer->verdict = MR_VERDICT_RETRY; /* there is no second attempt: it is dropped */
    }
}

void engine_shadow_answer(struct mr_engine *engine, struct mr_handout *handout)
{
    struct snapshot *snapshot = engine->bus_snapshot;
    for (uint32_t i = 0; i < snapshot->shadow_count; i++) {
        struct engine_shadow *shadow = &snapshot->shadows[i];
        if (handout->subscription == shadow->original_id) {
            note(shadow, ORIGINAL, handout);
        } else if (handout->subscription == shadow->id) {
            note(shadow, SHADOW, handout);
        }
    }
    if (is_shadow(handout)) {
        disarm(handout);
    }
}

/* --- the report ------------------------------------------------------------------------------- */

struct report_wanted {
    struct mr_engine *engine;
    const char *name;
    struct mr_shadow_report *to;
};

static void copy_report(void *argument, struct mr_bus *bus, struct mr_now now)
{
    struct report_wanted *wanted = argument;
    struct snapshot *snapshot = wanted->engine->bus_snapshot;
    (void)bus;
    (void)now;
    for (uint32_t i = 0; i < snapshot->shadow_count; i++) {
        if (strcmp(snapshot->shadows[i].name, wanted->name) == 0) {
            *wanted->to = snapshot->shadows[i].report;
        }
    }
}

enum mr_status engine_shadow_report(struct mr_engine *engine, const char *name,
                                    struct mr_shadow_report *ret_report)
{
    struct report_wanted wanted = {.engine = engine, .name = name, .to = ret_report};
    *ret_report = (struct mr_shadow_report){0};
    return engine_call(engine, copy_report, &wanted);
}
