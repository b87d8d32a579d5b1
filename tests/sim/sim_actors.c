/* Those around the bus: sources, workers, the operator. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "sim.h"

/* --- events ----------------------------------------------------------------------------------- */

static void attr(struct mr_event_builder *b, const char *name, const char *value)
{
    enum mr_status r =
        mr_event_builder_attr(b, mr_bytes_of(name), MR_ATTR_STRING, mr_bytes_of(value), NULL);
    MR_ASSERT(r == MR_OK);
}

/* The same id gives the same bytes, so that a resent message can be told from a new one. */
static struct mr_event *make_event(const struct sim_world *world, const char *id, uint64_t key,
                                   const char *type)
{
    struct mr_rng rng;
    mr_rng_init(&rng, world->seed * 31 + key);
    struct mr_event_builder b;
    mr_event_builder_init(&b, 64 * MR_KIB);
    attr(&b, "id", id);
    attr(&b, "source", "/sim");
    attr(&b, "type", type);
    char lane[4] = {'k', (char)('0' + mr_rng_below(&rng, 3)), '\0'};
    attr(&b, "lane", lane);
    char zone[4] = {'z', (char)('0' + mr_rng_below(&rng, 3)), '\0'};
    attr(&b, "zone", zone);
    char moment[MR_TIME_TEXT_SIZE];
    if (mr_rng_chance(&rng, 1, 8)) {
        uint64_t after_ns = SIM_TIME_START_NS + mr_rng_below(&rng, 15 * MR_SECOND);
        attr(&b, "mrnotbefore", mr_time_format(SIM_WALL_START_NS + after_ns, moment));
    }
    uint8_t data[1024];
    size_t size = mr_rng_below(&rng, mr_rng_chance(&rng, 1, 16) ? sizeof(data) : 64);
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)mr_rng_next(&rng);
    }
    mr_event_builder_data(&b, mr_bytes(data, size), true);
    struct mr_event *event = NULL;
    enum mr_status r = mr_event_builder_finish(&b, true, &event, NULL);
    MR_ASSERT(r == MR_OK);
    return event;
}

/* --- sources ---------------------------------------------------------------------------------- */

void sim_source_wake(struct sim_world *world, uint64_t s, uint64_t after_ns)
{
    if (!world->sources[s].scheduled) {
        world->sources[s].scheduled = true;
        sim_schedule(world, after_ns, SIM_SOURCE_SENDS, s, NULL);
    }
}

void sim_source_init(struct sim_world *world)
{
    for (uint32_t s = 0; s < SIM_SOURCES; s++) {
        struct sim_source *source = &world->sources[s];
        (void)snprintf(source->name, sizeof(source->name), "src%u", s);
        source->total = (uint32_t)mr_rng_below(&world->rng, world->swarm.messages + 1);
        source->state = calloc(source->total + 1u, sizeof(*source->state));
        MR_ASSERT(source->state != NULL);
        sim_source_wake(world, s, mr_rng_below(&world->rng, MR_SECOND));
    }
}

static uint32_t next_unsent(const struct sim_source *source, uint32_t from)
{
    while (from < source->total && source->state[from] != 0) {
        from++;
    }
    return from;
}

static void match(struct sim_world *world, uint32_t source, struct mr_batch_item *item)
{
    enum mr_status r = mr_router_match(world->router, source, mr_event_record(item->event),
                                       &item->matches);
    MR_ASSERT(r == MR_OK);
}

bool sim_is_rejected(const struct sim_world *world, uint32_t n)
{
    return (n * 2654435761u >> 22) < world->swarm.reject_chance;
}

/* What the bus may know a repeat of message @p n by. */
static void set_keys(const struct sim_world *world, struct mr_batch_item *item, uint32_t s,
                     uint32_t n)
{
    const struct sim_dedupe_spec *dedupe = &world->spec.dedupe[s];
    struct mr_bytes record = mr_event_record(item->event);
    uint64_t salt = mr_bus_salt(world->bus);
    char name[32];
    (void)snprintf(name, sizeof(name), "request %u", n / 4); /* fits; a request holds four */
    if (dedupe->by_id) {
        item->keys[MR_DEDUPE_BY_ID] = mr_dedupe_key_of_id(salt, record, false);
    }
    if (dedupe->by_request) {
        item->keys[MR_DEDUPE_BY_REQUEST] =
            mr_dedupe_key_of_request(salt, mr_bytes_of(name), n % 4, record);
    }
}

static void add_message(struct sim_world *world, struct mr_batch *batch, uint32_t s, uint32_t n)
{
    char id[32];
    (void)snprintf(id, sizeof(id), "s%u-%u", s, n); /* fits */
    char type[4] = {'t', '.', (char)('0' + (n * 7 + s) % 4), '\0'};
    struct mr_event *event = make_event(world, id, (uint64_t)s << 32 | n, type);
    uint32_t crc = event->crc;
    bool rejected = sim_is_rejected(world, n);
    enum mr_status r = mr_batch_add(batch, event, rejected ? "not a CloudEvent" : NULL);
    MR_ASSERT(r == MR_OK);
    struct mr_batch_item *item = &batch->items[batch->count - 1];
    if (!rejected) {
        match(world, s, item);
    }
    set_keys(world, item, s, n);
    struct sim_source *source = &world->sources[s];
    source->state[n] = 1;
    if (n < source->sent_max) {
        sim_fired[SIM_RESENT]++;
    } else {
        source->sent_max = n + 1;
    }
    oracle_sends(world->oracle, s, n, crc, item->keys);
}

/* A message that was sent before, acknowledged or still outside, once more. */
static void add_repeat(struct sim_world *world, struct mr_batch *batch, uint32_t s)
{
    const struct sim_source *source = &world->sources[s];
    if (source->sent_max > 0) {
        uint32_t n = (uint32_t)mr_rng_below(&world->rng, source->sent_max);
        if (source->state[n] != 0) {
            add_message(world, batch, s, n);
        }
    }
}

void sim_source_send(struct sim_world *world, uint64_t s)
{
    struct sim_source *source = &world->sources[s];
    source->scheduled = false;
    bool cursor = s == SIM_CURSOR_SOURCE;
    uint32_t n = next_unsent(source, 0);
    if (n == source->total || (cursor && source->busy) || world->failed) {
        return; /* what comes back, or a restart, sends again */
    }
    struct mr_batch *batch = mr_batch_create(source->id, 4);
    MR_ASSERT(batch != NULL);
    batch->generation = world->generation;
    batch->context = (void *)source;
    uint64_t count = 1 + mr_rng_below(&world->rng, world->swarm.batch_max);
    uint32_t end = n;
    bool repeats = !cursor && world->spec.dedupe[s].window_ns > 0;
    while (repeats && batch->count < count && sim_chance(world, world->swarm.repeat_chance)) {
        add_repeat(world, batch, (uint32_t)s); /* at times the batch has nothing else */
        n = sim_chance(world, 512) ? source->total : n;
    }
    while (n < source->total && batch->count < count) {
        add_message(world, batch, (uint32_t)s, n);
        end = n + 1;
        n = next_unsent(source, end);
        if (repeats && sim_chance(world, world->swarm.repeat_chance)) {
            add_repeat(world, batch, (uint32_t)s);
        }
    }
    if (batch->count == 0) {
        add_message(world, batch, (uint32_t)s, next_unsent(source, 0));
    }
    if (cursor) {
        char text[48];
        (void)snprintf(text, sizeof(text), "{\"n\":%u}", end); /* fits */
        batch->cursor = mr_strdup(text);
        MR_ASSERT(batch->cursor != NULL);
        source->busy = true;
    }
    MR_ASSERT(world->batch_count < MR_ARRAY_COUNT(world->batches));
    world->asked_ns[world->batch_count] = sim_log_ns(world);
    world->batches[world->batch_count++] = batch;
    mr_bus_ingest(world->bus, sim_now(world), batch);
    if (next_unsent(source, 0) < source->total) {
        sim_source_wake(world, s, mr_rng_below(&world->rng, world->swarm.io_ns * 4));
    }
}

/* The messages of @p batch, by their ids. */
static void set_states(struct sim_world *world, struct sim_source *source,
                       const struct mr_batch *batch, uint8_t state)
{
    bool again = source != &world->sources[SIM_CURSOR_SOURCE] && state == 2;
    for (uint32_t i = 0; i < batch->count; i++) {
        struct mr_bytes id = mr_event_id(mr_event_record(batch->items[i].event));
        uint64_t n = 0;
        bool ok = mr_parse_u64(mr_bytes(id.data + 3, id.size - 3), &n);
        MR_ASSERT(ok && n < source->total);
        if (state != 0 || source->state[n] == 1) { /* 2: another batch with it came back before */
            source->state[n] = state;
        }
        if (again && sim_chance(world, world->swarm.repeat_chance / 4)) {
            source->state[n] = 0;
        }
    }
}

void sim_source_batch_done(struct sim_world *world, struct mr_batch *batch)
{
    struct sim_source *source = batch->context;
    uint64_t s = (uint64_t)(source - world->sources);
    uint32_t i = 0;
    while (world->batches[i] != batch) {
        i++;
        MR_ASSERT(i < world->batch_count);
    }
    uint64_t asked_ns = world->asked_ns[i];
    world->asked_ns[i] = world->asked_ns[world->batch_count - 1];
    world->batches[i] = world->batches[--world->batch_count];
    sim_trace(world, (uint64_t)batch->result << 32 | batch->duplicates);
    oracle_acknowledged(world->oracle, batch, s, asked_ns);
    struct mr_source_info info;
    mr_bus_source_info(world->bus, source->id, &info);
    sim_fired[SIM_KEY_EARLY] += info.keys_early > 0;
    source->busy = false;
    set_states(world, source, batch, batch->result == MR_OK ? 2 : 0);
    if (next_unsent(source, 0) < source->total) {
        bool refused = batch->result != MR_OK;
        uint64_t wait = refused ? 200 * MR_MS : 0;
        sim_source_wake(world, s, wait + mr_rng_below(&world->rng, world->swarm.io_ns));
    }
    mr_batch_destroy(batch);
}

/* A new process: what was not acknowledged is sent again; the cursor source asks the log. */
void sim_source_restart(struct sim_world *world)
{
    for (uint32_t s = 0; s < SIM_SOURCES; s++) {
        struct sim_source *source = &world->sources[s];
        source->busy = false;
        source->scheduled = false;
        const char *cursor = mr_bus_source_cursor(world->bus, source->id);
        unsigned known = 0;
        if (s == SIM_CURSOR_SOURCE && cursor != NULL &&
            sscanf(cursor, "{\"n\":%u}", &known) != 1) {
            sim_fail(world, "the cursor of source %u is garbage", s);
        }
        for (uint32_t n = 0; n < source->total; n++) {
            if (s == SIM_CURSOR_SOURCE) {
                source->state[n] = n < known ? 2 : 0;
            } else if (source->state[n] == 1) {
                source->state[n] = 0;
            }
        }
        if (next_unsent(source, 0) < source->total) {
            sim_source_wake(world, s, mr_rng_below(&world->rng, world->swarm.io_ns * 8));
        }
    }
}

bool sim_sources_finished(const struct sim_world *world)
{
    for (uint32_t s = 0; s < SIM_SOURCES; s++) {
        const struct sim_source *source = &world->sources[s];
        for (uint32_t n = 0; n < source->total; n++) {
            if (source->state[n] != 2) {
                return false;
            }
        }
    }
    return true;
}

/* --- workers ---------------------------------------------------------------------------------- */

static void emit(struct sim_world *world, struct mr_handout *h)
{
    uint64_t count = 1 + mr_rng_below(&world->rng, 3);
    while (count-- > 0) {
        char id[32];
        uint64_t number = world->emitted++;
        (void)snprintf(id, sizeof(id), "w-%llu", (unsigned long long)number); /* fits */
        char type[4] = {'e', '.', (char)('0' + number % 2), '\0'};
        struct mr_event *event = make_event(world, id, 7ull << 40 | number, type);
        uint32_t crc = event->crc;
        enum mr_status r = mr_handout_emit(h, event);
        MR_ASSERT(r == MR_OK);
        match(world, UINT32_MAX, &h->answer.emitted[h->answer.emitted_count - 1]);
        oracle_emits(world->oracle, h, number, crc);
    }
    sim_fired[SIM_EMITTED]++;
}

static bool is_emitted(const struct mr_handout *h)
{
    struct mr_bytes type = mr_event_type(mr_event_record(h->event));
    return type.size > 0 && type.data[0] != 't';
}

/* What it answers besides, from numbers of its own: half of the seeds have no results and stay what
 * they are without. */
static void give_result(const struct sim_world *world, struct mr_handout *h)
{
    struct mr_rng rng;
    mr_rng_init(&rng, world->seed * 2654435761u + h->offset * 977u + h->subscription * 31u + h->fence);
    if (world->seed % 2 == 0 || !mr_rng_chance(&rng, 2, 3)) {
        return;
    }
    uint64_t size = mr_rng_below(&rng, mr_rng_chance(&rng, 1, 16) ? 64 * MR_KIB : 100);
    char *text = mr_alloc(size + 3);
    MR_ASSERT(text != NULL);
    memset(text, 'a' + (int)mr_rng_below(&rng, 26), size + 2);
    text[0] = '"';
    text[size + 1] = '"';
    text[size + 2] = '\0';
    mr_free(h->answer.result);
    h->answer.result = text;
}

static void choose(struct sim_world *world, struct mr_handout *h)
{
    const struct sim_swarm *w = &world->swarm;
    struct mr_answer *a = &h->answer;
    a->exit_code = -1;
    a->verdict = MR_VERDICT_OK;
    give_result(world, h);
    if (world->healing) {
        return;
    }
    if (sim_chance(world, w->v_retry)) {
        a->verdict = MR_VERDICT_RETRY;
        a->has_after = sim_chance(world, w->v_after);
        a->after_ns = mr_rng_below(&world->rng, 10 * MR_SECOND);
        sim_fired[a->has_after ? SIM_RETRY_AFTER : SIM_RETRY]++;
    } else if (sim_chance(world, w->v_drop)) {
        a->verdict = MR_VERDICT_DROP;
        sim_fired[SIM_DROP]++;
    } else if (sim_chance(world, w->v_dead)) {
        a->verdict = MR_VERDICT_DEAD;
        mr_handout_set_error(h, MR_BYTES_LITERAL("poison"));
        sim_fired[SIM_DEAD]++;
    } else if (sim_chance(world, w->v_refused)) {
        a->verdict = MR_VERDICT_REFUSED;
        sim_fired[SIM_REFUSED]++;
    } else if (sim_chance(world, w->v_crash)) {
        a->verdict = MR_VERDICT_CRASH;
        a->suspects = h->alone || !sim_chance(world, w->v_suspects) ? 1 : 3;
        a->suspects = h->batch != 0 ? 1 : a->suspects; /* until its batch is counted */
        a->exit_signal = 11;
        sim_fired[a->suspects == 1 ? SIM_CRASH_ALONE : SIM_SUSPECTS]++;
    } else if (sim_chance(world, w->v_emit) && !is_emitted(h)) {
        emit(world, h);
    }
}

void sim_worker_take(struct sim_world *world, struct mr_handout *h)
{
    uint64_t wait = mr_rng_below(&world->rng, world->swarm.work_ns + 1);
    uint64_t serial = ++world->serial; /* addresses are used again */
    h->context = (void *)(uintptr_t)serial;
    bool slow = !world->healing && sim_chance(world, world->swarm.v_slow);
    if (slow) {
        wait = h->timeout_ns / 2 + mr_rng_below(&world->rng, h->timeout_ns * 3);
        if (mr_rng_chance(&world->rng, 1, 2)) {
            sim_schedule(world, h->timeout_ns / 3, SIM_HEARTBEAT_DUE, serial, h);
        }
    }
    sim_schedule(world, wait, SIM_ANSWER, serial, h);
}

static uint32_t handout_index(const struct sim_world *world, const struct mr_handout *h)
{
    uint32_t i = 0;
    while (i < world->handout_count && world->handouts[i] != h) {
        i++;
    }
    return i;
}

static void give_back(struct sim_world *world, struct mr_handout *h)
{
    uint32_t i = handout_index(world, h);
    MR_ASSERT(i < world->handout_count);
    memmove(world->handouts + i, world->handouts + i + 1,
            (world->handout_count - i - 1) * sizeof(struct mr_handout *));
    world->handout_count--;
    h->answer.started_wall_ns = h->answer.ended_wall_ns = sim_now(world).wall_ns;
    (void)snprintf(h->answer.instance, sizeof(h->answer.instance), "sim/1"); /* fits */
    sim_trace(world, h->offset << 8 | (uint64_t)h->answer.verdict);
    oracle_answers(world->oracle, h);
    mr_bus_answer(world->bus, sim_now(world), h);
}

/* What is left of the batch of @p h fails with it: the instance died, or the handler gave up. */
static void fail_batch(struct sim_world *world, const struct mr_handout *h)
{
    struct mr_handout *all[64];
    uint32_t count = 0;
    for (uint32_t i = 0; i < world->handout_count; i++) {
        if (world->handouts[i]->batch == h->batch) {
            MR_ASSERT(count < MR_ARRAY_COUNT(all));
            all[count++] = world->handouts[i];
        }
    }
    struct mr_answer answer = h->answer;
    sim_fired[answer.verdict == MR_VERDICT_CRASH ? SIM_BATCH_CRASHED : SIM_BATCH_FAILED] +=
        count > 1;
    for (uint32_t i = 0; i < count; i++) {
        all[i]->answer.verdict = answer.verdict;
        all[i]->answer.suspects = count;
        all[i]->answer.exit_code = answer.exit_code;
        all[i]->answer.exit_signal = answer.exit_signal;
        all[i]->answer.has_after = answer.has_after;
        all[i]->answer.after_ns = answer.after_ns;
        give_back(world, all[i]);
    }
}

void sim_worker_answer(struct sim_world *world, uint64_t serial, struct mr_handout *h)
{
    if (handout_index(world, h) == world->handout_count || (uintptr_t)h->context != serial) {
        return; /* with its batch, meanwhile */
    }
    choose(world, h);
    bool fails = h->answer.verdict == MR_VERDICT_CRASH ||
                 (h->answer.verdict == MR_VERDICT_RETRY && mr_rng_chance(&world->rng, 1, 2));
    if (h->batch != 0 && fails) {
        fail_batch(world, h);
    } else {
        uint64_t batch = h->batch;
        give_back(world, h);
        for (uint32_t i = 0; i < world->handout_count && batch != 0; i++) {
            sim_fired[SIM_BATCH_PARTS] += world->handouts[i]->batch == batch;
        }
    }
}

void sim_worker_heartbeat(struct sim_world *world, uint64_t serial, struct mr_handout *h)
{
    if (handout_index(world, h) == world->handout_count ||
        (uintptr_t)h->context != serial) {
        return; /* answered meanwhile */
    }
    sim_fired[SIM_HEARTBEAT]++;
    mr_bus_heartbeat(world->bus, sim_now(world), h->subscription, h->offset, h->fence);
    sim_schedule(world, h->timeout_ns / 3, SIM_HEARTBEAT_DUE, serial, h);
}

void sim_worker_cancel(struct sim_world *world, uint32_t subscription, uint64_t offset,
                       uint32_t fence)
{
    for (uint32_t i = 0; i < world->handout_count; i++) {
        const struct mr_handout *h = world->handouts[i];
        if (h->subscription == subscription && h->offset == offset && h->fence == fence) {
            return; /* its answer comes when it comes: late is what is wanted here */
        }
    }
    sim_fail(world, "a cancel of %u:%llu fence %u, which nobody has", subscription,
             (unsigned long long)offset, fence);
}

/* --- the operator ----------------------------------------------------------------------------- */

struct letters {
    uint64_t offsets[256];
    uint32_t count;
};

static bool take_letter(void *context, const struct mr_dead_letter *letter)
{
    struct letters *letters = context;
    letters->offsets[letters->count++] = letter->offset;
    return letters->count < MR_ARRAY_COUNT(letters->offsets);
}

static void redrive_one(struct sim_world *world, uint32_t sub)
{
    struct letters letters = {.count = 0};
    mr_bus_dead_letters(world->bus, sub, take_letter, &letters);
    if (letters.count == 0) {
        return;
    }
    uint64_t offset = letters.offsets[mr_rng_below(&world->rng, letters.count)];
    if (mr_rng_chance(&world->rng, 1, 4)) {
        if (mr_bus_purge(world->bus, sub, offset) == MR_OK) {
            sim_fired[SIM_PURGE]++;
        }
        return;
    }
    uint64_t later;
    enum mr_status r = mr_bus_redrive(world->bus, sim_now(world), sub, offset, false, &later);
    if (r == MR_E_CONFLICT && later == 0) {
        sim_fail(world, "a redrive is out of order with nothing later");
    }
    if (r == MR_E_CONFLICT && mr_rng_chance(&world->rng, 1, 2)) {
        r = mr_bus_redrive(world->bus, sim_now(world), sub, offset, true, &later);
    }
    sim_fired[SIM_REDRIVE] += r == MR_OK;
}

static bool take_open(void *context, const struct mr_open_delivery *delivery)
{
    struct letters *letters = context;
    letters->offsets[letters->count++] = delivery->offset;
    return letters->count < MR_ARRAY_COUNT(letters->offsets);
}

static void skip_one(struct sim_world *world, uint32_t sub)
{
    struct letters open = {.count = 0};
    (void)mr_bus_open_deliveries(world->bus, sim_now(world), sub, 0, take_open, &open);
    if (open.count > 0) {
        uint64_t offset = open.offsets[mr_rng_below(&world->rng, open.count)];
        oracle_may_skip(world->oracle, sub, offset);
        if (mr_bus_skip(world->bus, sim_now(world), sub, offset) == MR_OK) {
            sim_fired[SIM_SKIPPED]++;
        }
    }
}

/* Gives one that is held, if there is one, another event. From numbers of its own. */
static void edit_one(struct sim_world *world, uint32_t sub, uint64_t offset, struct mr_rng *rng)
{
    uint32_t n = world->edited++;
    char id[32];
    (void)snprintf(id, sizeof(id), "x-%u", n); /* fits */
    char type[4] = {'t', '.', (char)('0' + mr_rng_below(rng, 4)), '\0'};
    struct mr_event *event = make_event(world, id, 1ull << 40 | n, type);
    oracle_may_edit(world->oracle, sub, offset, n, event->crc);
    uint64_t at;
    enum mr_status r = mr_bus_edit(world->bus, sim_now(world), sub, offset, event, &at);
    if (r == MR_E_NOT_FOUND || r == MR_E_CONFLICT) {
        sim_fail(world, "%u:%llu is held and cannot be edited", sub, (unsigned long long)offset);
    }
    mr_event_unref(event);
}

static bool take_held(void *context, const struct mr_open_delivery *delivery)
{
    return delivery->info.state != MR_STATE_HELD || take_open(context, delivery);
}

static void edit_some(struct sim_world *world)
{
    struct mr_rng rng;
    mr_rng_init(&rng, world->seed * 131 + world->steps);
    for (uint32_t sub = 0; sub < mr_bus_subscription_count(world->bus); sub++) {
        struct letters held = {.count = 0};
        (void)mr_bus_open_deliveries(world->bus, sim_now(world), sub, 0, take_held, &held);
        if (held.count > 0 && mr_rng_chance(&rng, 1, 4)) {
            edit_one(world, sub, held.offsets[mr_rng_below(&rng, held.count)], &rng);
        }
    }
}

void sim_operator_act(struct sim_world *world)
{
    edit_some(world);
    uint32_t sub = (uint32_t)mr_rng_below(&world->rng, mr_bus_subscription_count(world->bus));
    if (sim_chance(world, world->swarm.reload_chance)) {
        sim_spec_mutate(&world->rng, &world->spec);
        world->reloaded = true;
        sim_configure(world);
        sim_fired[SIM_RELOAD]++;
    } else if (mr_rng_chance(&world->rng, 1, 2)) {
        redrive_one(world, sub);
    } else if (mr_rng_chance(&world->rng, 1, 8)) {
        skip_one(world, sub);
    } else if (mr_rng_chance(&world->rng, 1, 8)) {
        mr_bus_drain(world->bus, true); /* a stop; until the next look at the clock */
        sim_fired[SIM_DRAINED]++;
    } else if (mr_rng_chance(&world->rng, 1, 8)) {
        mr_bus_clock_accept(world->bus, sim_now(world));
    } else {
        bool pause = mr_rng_chance(&world->rng, 1, 3);
        enum mr_status r = mr_bus_log_action(world->bus, "{\"action\":\"pause\"}");
        if (r == MR_OK && mr_bus_pause(world->bus, sub, pause) == MR_OK) {
            sim_fired[SIM_PAUSE] += pause;
        }
    }
}

/* Dead letters take memory until somebody looks after them. */
static void purge_some(struct sim_world *world, uint32_t sub)
{
    struct letters letters = {.count = 0};
    mr_bus_dead_letters(world->bus, sub, take_letter, &letters);
    for (uint32_t i = 0; i < letters.count; i++) {
        enum mr_status r = mr_bus_purge(world->bus, sub, letters.offsets[i]);
        (void)r; /* refused: again with the next round */
    }
}

static bool any_is_behind(struct sim_world *world)
{
    bool behind = false;
    for (uint32_t sub = 0; sub < mr_bus_subscription_count(world->bus); sub++) {
        struct mr_subscription_info info;
        mr_bus_subscription_info(world->bus, sim_now(world), sub, &info);
        behind |= info.behind > 0;
    }
    return behind;
}

/* Puts back what is held, so that nothing can wait for a person. */
void sim_operator_release(struct sim_world *world)
{
    mr_bus_clock_accept(world->bus, sim_now(world));
    bool is_short = world->options.memory_state < MR_MIB && any_is_behind(world);
    for (uint32_t sub = 0; sub < mr_bus_subscription_count(world->bus); sub++) {
        struct mr_subscription_info info;
        if (is_short) {
            purge_some(world, sub);
        }
        mr_bus_subscription_info(world->bus, sim_now(world), sub, &info);
        if (info.paused) {
            enum mr_status r = mr_bus_pause(world->bus, sub, false);
            (void)r; /* refused: again with the next round */
        }
        if (info.counts.held == 0) {
            continue;
        }
        struct mr_bus_status status;
        mr_bus_status(world->bus, &status);
        for (uint64_t offset = 1; offset < status.next_offset; offset++) {
            struct mr_delivery_info delivery;
            uint64_t later;
            if (mr_bus_delivery_info(world->bus, sim_now(world), sub, offset, &delivery) ==
                    MR_OK &&
                delivery.state == MR_STATE_HELD) {
                enum mr_status r =
                    mr_bus_redrive(world->bus, sim_now(world), sub, offset, true, &later);
                (void)r; /* refused: again with the next round */
            }
        }
    }
}
