/* Who waits for the end of a delivery, and what becomes of it. What a handler answers is seen on
 * its way to the bus; that the bus made an end of it shows by the delivery being gone from the
 * window. The record of the end is then in the group being gathered or in one before, so the end
 * is durable once that group is. Looked at after a step in which something happened, at most every
 * few milliseconds; nothing polls while nothing happens. */
#include "core/alloc.h"
#include "millrace/engine_internal.h"

#define LOOK_NS (2 * MR_MS)
#define LETTERS_SEEN_MAX 20000u /* of a subscription; beyond, the state of an end is not told */

void engine_await_add(struct mr_engine *engine, struct mr_await *await)
{
    struct engine_awaits *awaits = &engine->awaits;
    pthread_mutex_lock(&awaits->mu);
    await->next = awaits->first;
    awaits->first = await;
    pthread_mutex_unlock(&awaits->mu);
    atomic_fetch_add(&awaits->any, 1);
}

void engine_await_withdraw(struct mr_engine *engine, const struct mr_opq *reply)
{
    struct engine_awaits *awaits = &engine->awaits;
    pthread_mutex_lock(&awaits->mu);
    for (struct mr_await *await = awaits->first; await != NULL; await = await->next) {
        if (await->reply == reply) {
            await->deadline_mono_ns = 0;
        }
    }
    pthread_mutex_unlock(&awaits->mu);
    atomic_store(&awaits->urgent, true);
    mr_opq_wake(&engine->inbox);
}

struct mr_await *engine_await_take(struct mr_engine *engine, const struct mr_batch *batch)
{
    struct engine_awaits *awaits = &engine->awaits;
    struct mr_await *taken = NULL;
    if (atomic_load(&awaits->any) == 0) {
        return NULL;
    }
    pthread_mutex_lock(&awaits->mu);
    for (struct mr_await **at = &awaits->first; *at != NULL;) {
        struct mr_await *await = *at;
        if (await->batch != batch) {
            at = &await->next;
            continue;
        }
        *at = await->next;
        await->next = taken;
        taken = await;
        atomic_fetch_sub(&awaits->any, 1);
    }
    pthread_mutex_unlock(&awaits->mu);
    return taken;
}

/* @return false: its asker has no room now, it stays with us */
static bool give_back(struct mr_engine *engine, struct mr_await *await, enum mr_await_end end)
{
    await->end = end;
    await->op = (struct mr_op){.type = await->type};
    if (mr_opq_push(await->reply, &await->op) == MR_OK) {
        return true;
    }
    engine_await_add(engine, await);
    return false;
}

void engine_await_refuse(struct mr_engine *engine, struct mr_await *first)
{
    while (first != NULL) {
        struct mr_await *next = first->next;
        first->batch = NULL;
        (void)give_back(engine, first, MR_AWAIT_REFUSED); /* else with a later look */
        first = next;
    }
}

/* --- on the core thread ----------------------------------------------------------------------- */

void engine_await_batch(struct mr_engine *engine, const struct mr_batch *batch)
{
    struct engine_awaits *awaits = &engine->awaits;
    if (atomic_load(&awaits->any) == 0) {
        return;
    }
    pthread_mutex_lock(&awaits->mu);
    for (struct mr_await *await = awaits->first; await != NULL; await = await->next) {
        if (await->batch != batch) {
            continue;
        }
        const struct mr_batch_item *item = &batch->items[await->item];
        bool is_taken = batch->result == MR_OK && item->rejected == NULL;
        await->batch = NULL; /* from here on another may lie at its address */
        await->is_durable = true;
        await->end = batch->result == MR_OK ? MR_AWAIT_NONE : MR_AWAIT_REFUSED;
        await->offset = item->offset;
        await->is_repeat = item->duplicate;
        await->match_count = 0;
        for (uint32_t i = 0; is_taken && i < item->matches.count; i++) {
            if (await->match_count < MR_AWAIT_MATCHES_MAX) {
                await->matches[await->match_count++] = item->matches.items[i].subscription;
            }
        }
        atomic_store(&awaits->urgent, true);
    }
    pthread_mutex_unlock(&awaits->mu);
}

static void replace_text(char **text, const char *with)
{
    mr_free(*text);
    *text = mr_strdup(with); /* NULL when memory is short: the end itself is told all the same */
}

/* The one delivery that is meant. */
static void resolve(struct mr_engine *engine, struct mr_await *await, struct mr_now now)
{
    const struct mr_config *config = engine->bus_snapshot->config;
    await->is_resolved = true;
    for (uint32_t i = 0; i < await->match_count; i++) {
        struct mr_subscription_info info;
        mr_bus_subscription_info(engine->bus, now, await->matches[i], &info);
        if (info.index < 0 || (uint64_t)info.index >= config->subscription_count) {
            continue;
        }
        uint32_t target = config->subscriptions[info.index].target;
        bool answers = config->targets[target].is_worker &&
                       !config->subscriptions[info.index].is_shadow;
        bool is_meant = await->subscription == NULL ? answers
                                                    : strcmp(info.name, await->subscription) == 0;
        if (is_meant) {
            await->candidates++;
            await->id = await->matches[i];
            replace_text(&await->name, info.name);
        }
    }
}

struct letter_search {
    uint64_t offset;
    uint32_t seen;
    bool is_found;
};

static bool is_letter(void *context, const struct mr_dead_letter *letter)
{
    struct letter_search *search = context;
    search->is_found = letter->offset == search->offset;
    return letter->offset < search->offset && ++search->seen < LETTERS_SEEN_MAX;
}

/* How the bus ended it, by what the handler said last; timeouts, used-up attempts and what a person
 * did show by whether there is a dead letter now. */
static const char *state_of(const struct mr_engine *engine, const struct mr_await *await)
{
    struct letter_search search = {.offset = await->offset};
    if (await->verdict == MR_VERDICT_OK) {
        return "done";
    }
    if (await->verdict == MR_VERDICT_DROP) {
        return "dropped";
    }
    if (await->verdict != MR_VERDICT_DEAD) {
        mr_bus_dead_letters(engine->bus, await->id, is_letter, &search);
    }
    return search.is_found || await->verdict == MR_VERDICT_DEAD ? "dead" : NULL;
}

static bool is_gone(const struct mr_engine *engine, struct mr_await *await, struct mr_now now)
{
    struct mr_delivery_info info;
    if (await->gone_sequence == 0) {
        bool is_open =
            mr_bus_delivery_info(engine->bus, now, await->id, await->offset, &info) == MR_OK;
        struct mr_bus_status status;
        mr_bus_status(engine->bus, &status);
        /* Neither seen nor open: it waits on disk until there is room in the window. */
        await->gone_sequence = !is_open && await->is_seen ? status.next_sequence : 0;
        await->is_seen = await->is_seen || is_open;
    }
    return await->gone_sequence != 0;
}

void engine_await_answer(struct mr_engine *engine, const struct mr_handout *handout,
                         struct mr_now now)
{
    struct engine_awaits *awaits = &engine->awaits;
    if (atomic_load(&awaits->any) == 0) {
        return;
    }
    pthread_mutex_lock(&awaits->mu);
    for (struct mr_await *await = awaits->first; await != NULL; await = await->next) {
        if (!await->is_resolved || await->offset != handout->offset ||
            await->id != handout->subscription || is_gone(engine, await, now)) {
            continue; /* once it is gone an answer is late, and no part of its end */
        }
        awaits->answered = true;
        await->is_seen = true;
        await->verdict = handout->answer.verdict;
        await->attempt = handout->attempt;
        replace_text(&await->error, handout->answer.error);
        replace_text(&await->result, handout->answer.result);
        atomic_store(&awaits->urgent, true);
    }
    pthread_mutex_unlock(&awaits->mu);
}

void engine_await_note(struct mr_engine *engine, struct mr_now now)
{
    struct engine_awaits *awaits = &engine->awaits;
    if (!awaits->answered) {
        return;
    }
    awaits->answered = false;
    pthread_mutex_lock(&awaits->mu);
    for (struct mr_await *await = awaits->first; await != NULL; await = await->next) {
        if (await->verdict != MR_VERDICT_NONE) {
            (void)is_gone(engine, await, now); /* it keeps the sequence */
        }
    }
    pthread_mutex_unlock(&awaits->mu);
}

static enum mr_await_end look_at(struct mr_engine *engine, struct mr_await *await,
                                 struct mr_now now, uint64_t durable_sequence)
{
    if (await->end != MR_AWAIT_NONE || !await->is_durable) {
        return await->end;
    }
    if (!await->is_resolved) {
        resolve(engine, await, now);
        if (await->is_repeat && await->candidates == 1 && !is_gone(engine, await, now) &&
            !await->is_seen) {
            await->candidates = 0; /* what it repeats has ended, or waits on disk */
        }
    }
    if (await->candidates != 1) {
        return MR_AWAIT_UNCLEAR;
    }
    if (is_gone(engine, await, now) && durable_sequence >= await->gone_sequence) {
        await->state = state_of(engine, await);
        return MR_AWAIT_SETTLED;
    }
    return now.mono_ns >= await->deadline_mono_ns ? MR_AWAIT_TIME : MR_AWAIT_NONE;
}

void engine_await_look(struct mr_engine *engine, struct mr_now now)
{
    struct engine_awaits *awaits = &engine->awaits;
    if (atomic_load(&awaits->any) == 0) {
        awaits->next_mono_ns = UINT64_MAX;
        return;
    }
    uint64_t again_ns = awaits->looked_mono_ns + LOOK_NS;
    if (!atomic_exchange(&awaits->urgent, false) && now.mono_ns < again_ns) {
        awaits->next_mono_ns = again_ns < awaits->next_mono_ns ? again_ns : awaits->next_mono_ns;
        return;
    }
    struct mr_bus_status status;
    mr_bus_status(engine->bus, &status);
    struct mr_await *ended = NULL;
    awaits->looked_mono_ns = now.mono_ns;
    awaits->next_mono_ns = UINT64_MAX;
    pthread_mutex_lock(&awaits->mu);
    for (struct mr_await **at = &awaits->first; *at != NULL;) {
        struct mr_await *await = *at;
        await->end = look_at(engine, await, now, status.durable_sequence);
        if (await->end != MR_AWAIT_NONE) {
            *at = await->next;
            await->next = ended;
            ended = await;
            atomic_fetch_sub(&awaits->any, 1);
            continue;
        }
        if (await->is_durable && await->deadline_mono_ns < awaits->next_mono_ns) {
            awaits->next_mono_ns = await->deadline_mono_ns;
        }
        at = &await->next;
    }
    pthread_mutex_unlock(&awaits->mu);
    while (ended != NULL) {
        struct mr_await *next = ended->next;
        if (!give_back(engine, ended, ended->end)) {
            awaits->next_mono_ns = now.mono_ns + LOOK_NS;
        }
        ended = next;
    }
}
