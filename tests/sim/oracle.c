#include "oracle_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/assert.h"
#include "core/hash.h"

void *oracle_grow(void *array, size_t item, uint32_t need, uint32_t *capacity)
{
    if (need <= *capacity) {
        return array;
    }
    uint32_t wanted = *capacity == 0 ? 64 : *capacity;
    while (wanted < need) {
        wanted *= 2;
    }
    void *grown = realloc(array, wanted * item);
    MR_ASSERT(grown != NULL);
    *capacity = wanted;
    return grown;
}

struct oracle *oracle_create(const struct sim_world *world, bool always)
{
    struct oracle *o = calloc(1, sizeof(*o));
    MR_ASSERT(o != NULL);
    o->world = world;
    o->always = always;
    o->answer_capacity = 1024;
    o->answers = calloc(o->answer_capacity, sizeof(*o->answers));
    MR_ASSERT(o->answers != NULL);
    return o;
}

void oracle_destroy(struct oracle *o)
{
    if (o == NULL) {
        return;
    }
    for (uint32_t s = 0; s < SIM_SOURCES; s++) {
        free(o->messages[s]);
    }
    free(o->events);
    free(o->deliveries);
    free(o->journal);
    free(o->groups);
    free(o->emitted);
    free(o->edited);
    free(o->answers);
    free(o->shares);
    free(o->joins);
    free(o->weights);
    free(o->copies);
    free(o);
}

/* --- attempts: (subscription, offset, fence) -------------------------------------------------- */

struct oracle_answer *oracle_answer_of(struct oracle *o, uint32_t sub, uint64_t offset,
                                       uint32_t fence)
{
    if (o->answer_count * 2 > o->answer_capacity) {
        struct oracle_answer *old = o->answers;
        uint32_t old_capacity = o->answer_capacity;
        o->answer_capacity *= 2;
        o->answers = calloc(o->answer_capacity, sizeof(*o->answers));
        MR_ASSERT(o->answers != NULL);
        o->answer_count = 0;
        for (uint32_t i = 0; i < old_capacity; i++) {
            if (old[i].fence != 0) {
                *oracle_answer_of(o, old[i].sub, old[i].offset, old[i].fence) = old[i];
            }
        }
        free(old);
    }
    uint64_t at = mr_hash_u64(offset * 1000003 + sub * 4099u + fence);
    for (;; at++) {
        struct oracle_answer *a = &o->answers[at & (o->answer_capacity - 1)];
        if (a->fence == 0) {
            *a = (struct oracle_answer){.sub = sub, .offset = offset, .fence = fence};
            o->answer_count++;
            return a;
        }
        if (a->sub == sub && a->offset == offset && a->fence == fence) {
            return a;
        }
    }
}

/* --- events and deliveries -------------------------------------------------------------------- */

struct oracle_event *oracle_event_of(struct oracle *o, uint64_t offset)
{
    /* Offsets are handed out without gaps, from 1. */
    return offset >= 1 && offset <= o->event_count ? &o->events[offset - 1] : NULL;
}

const struct oracle_event *oracle_payload_of(const struct oracle *o,
                                             const struct oracle_delivery *d)
{
    return &o->events[(d->edited != 0 ? d->edited : d->offset) - 1];
}

struct oracle_delivery *oracle_delivery_of(struct oracle *o, uint32_t sub, uint64_t offset)
{
    const struct oracle_event *event = oracle_event_of(o, offset);
    for (uint32_t i = 0; event != NULL && i < event->count; i++) {
        if (o->deliveries[event->first + i].sub == sub) {
            return &o->deliveries[event->first + i];
        }
    }
    return NULL;
}

/* --- repeats ---------------------------------------------------------------------------------- */

const struct oracle_event *oracle_first_of(const struct oracle *o, uint32_t s, uint32_t n,
                                           uint32_t count, uint64_t log_ns)
{
    const struct sim_dedupe_spec *dedupe = &o->world->spec.dedupe[s];
    uint32_t per_event = (uint32_t)dedupe->by_id + (uint32_t)dedupe->by_request;
    uint32_t keys = 0; /* that came behind it: as many as the source may keep push it out */
    for (uint32_t i = count; i-- > 0 && dedupe->window_ns > 0;) {
        const struct oracle_event *event = &o->events[i];
        bool has_key = event->kind == ORACLE_FROM_SOURCE && event->source == s &&
                       !sim_is_rejected(o->world, event->n);
        if (!has_key) {
            continue;
        }
        if (event->time_ns + dedupe->window_ns <= log_ns || keys >= dedupe->keys) {
            return NULL;
        }
        if (event->n == n) {
            return event;
        }
        keys += per_event;
    }
    return NULL;
}

/* A repeat is acknowledged with an event that is the same message, of not so long ago. */
static void check_repeat(const struct oracle *o, const struct oracle_event *event, uint64_t s,
                         const struct mr_batch_item *item, uint64_t asked_ns)
{
    const struct sim_dedupe_spec *dedupe = &o->world->spec.dedupe[s];
    unsigned long long offset = item->offset;
    if (event->kind != ORACLE_FROM_SOURCE || event->source != s || item->rejected != NULL ||
        sim_is_rejected(o->world, event->n)) {
        sim_fail(o->world, "a repeat is acknowledged as event %llu, which was no such thing",
                 offset);
    }
    if (event->time_ns + dedupe->window_ns <= asked_ns) {
        sim_fail(o->world, "a repeat of event %llu comes after its window and is none", offset);
    }
    sim_fired[SIM_REPEATED]++;
    sim_fired[SIM_REPEAT_WAITED] += event->time_ns >= asked_ns;
    sim_fired[SIM_REPEATED_LATER] += event->time_ns < o->started_ns;
}

/* --- what the world does ---------------------------------------------------------------------- */

void oracle_sends(struct oracle *o, uint32_t source, uint32_t n, uint32_t crc,
                  const struct mr_dedupe_key keys[MR_DEDUPE_BY_MAX])
{
    MR_ASSERT(source < SIM_SOURCES);
    uint32_t before = o->message_capacity[source];
    o->messages[source] = oracle_grow(o->messages[source], sizeof(*o->messages[source]), n + 1,
                                      &o->message_capacity[source]);
    for (uint32_t i = before; i < o->message_capacity[source]; i++) {
        o->messages[source][i] = (struct oracle_message){0};
    }
    o->messages[source][n].crc = crc;
    memcpy(o->messages[source][n].keys, keys, sizeof(o->messages[source][n].keys));
    o->messages[source][n].sent++;
    if (n + 1 > o->message_count[source]) {
        o->message_count[source] = n + 1;
    }
}

void oracle_answers(struct oracle *o, const struct mr_handout *handout)
{
    struct oracle_answer *a =
        oracle_answer_of(o, handout->subscription, handout->offset, handout->fence);
    a->answered = true;
    a->verdict = handout->answer.verdict;
    a->suspects = handout->answer.suspects;
    a->emitted = handout->answer.emitted_count;
    struct mr_bytes result = mr_bytes_of(handout->answer.result);
    a->result_size = (uint32_t)result.size;
    a->result_crc = mr_crc32c(0, result.data, result.size);
    struct oracle_delivery *d = oracle_delivery_of(o, handout->subscription, handout->offset);
    if (d != NULL && d->fence == handout->fence) {
        d->outside = false;
    }
}

void oracle_emits(struct oracle *o, const struct mr_handout *handout, uint64_t number,
                  uint32_t crc)
{
    MR_ASSERT(number == o->emitted_count);
    o->emitted = oracle_grow(o->emitted, sizeof(*o->emitted), o->emitted_count + 1,
                             &o->emitted_capacity);
    o->emitted[o->emitted_count++] = (struct oracle_emitted){
        .sub = handout->subscription,
        .fence = handout->fence,
        .offset = handout->offset,
        .crc = crc,
    };
}

void oracle_configured(struct oracle *o)
{
    o->specs[o->spec_count % ORACLE_SPECS] = o->world->spec;
    o->spec_count++;
}

void oracle_started(struct oracle *o)
{
    o->write_failed = false;
    o->batch = (struct oracle_batch){0}; /* they are numbered anew */
    for (uint32_t i = 0; i < o->share_capacity; i++) {
        o->shares[i] = 0;
    }
    o->started_ns = sim_log_ns(o->world);
    memset(o->shedding, 0, sizeof(o->shedding));
    memset(o->in_window, 0, sizeof(o->in_window));
}

void oracle_rotten(struct oracle *o)
{
    o->rotten = true;
}

void oracle_cut(struct oracle *o)
{
    o->rotten = true;
    o->acknowledged = 0;
}

/* --- what the bus does ------------------------------------------------------------------------ */

void oracle_write_done(struct oracle *o, enum mr_status result)
{
    if (result != MR_OK) {
        o->write_failed = true;
        return;
    }
    o->written = o->submitted;
    o->written_before = o->submitted_before;
    if (o->always) {
        oracle_synced(o, o->written);
    }
}

/* Groups up to @p sequence can no longer be lost: their journal is not needed. */
void oracle_synced(struct oracle *o, uint64_t sequence)
{
    uint32_t done = 0;
    while (done < o->group_count && o->groups[done].sequence <= sequence) {
        done++;
    }
    if (done == 0) {
        return;
    }
    if (o->journal_count == 0) {
        o->group_count -= done;
        memmove(o->groups, o->groups + done, o->group_count * sizeof(*o->groups));
        o->floor = sequence > o->floor ? sequence : o->floor;
        return;
    }
    uint32_t journal = done < o->group_count ? o->groups[done].journal_at : o->journal_count;
    memmove(o->journal, o->journal + journal,
            (o->journal_count - journal) * sizeof(*o->journal));
    o->journal_count -= journal;
    memmove(o->groups, o->groups + done, (o->group_count - done) * sizeof(*o->groups));
    o->group_count -= done;
    for (uint32_t i = 0; i < o->group_count; i++) {
        o->groups[i].journal_at -= journal;
    }
    if (sequence > o->floor) {
        o->floor = sequence;
    }
}

void oracle_checkpoint(struct oracle *o, const struct mr_log_request *request)
{
    (void)request; /* its content is judged by the recoveries that use it */
    if (o->write_failed) {
        sim_fail(o->world, "a checkpoint is written after a failed write");
    }
}

void oracle_acknowledged(struct oracle *o, const struct mr_batch *batch, uint64_t s,
                         uint64_t asked_ns)
{
    if (batch->result != MR_OK) {
        return;
    }
    if (o->write_failed) {
        sim_fail(o->world, "a batch is acknowledged after a failed write");
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct mr_batch_item *item = &batch->items[i];
        if (item->offset > o->acknowledged) {
            o->acknowledged = item->offset;
        }
        if (o->rotten) {
            continue;
        }
        const struct oracle_event *event = oracle_event_of(o, item->offset);
        if (event == NULL || event->sequence > o->written) {
            sim_fail(o->world, "event %llu is acknowledged before it is written",
                     (unsigned long long)item->offset);
        }
        if (event->crc != item->event->crc) {
            sim_fail(o->world, "event %llu is acknowledged, another one is in the log",
                     (unsigned long long)item->offset);
        }
        if (item->duplicate) {
            check_repeat(o, event, s, item, asked_ns);
        }
    }
}

static void check_lane_alone(struct oracle *o, const struct oracle_delivery *d)
{
    uint32_t outside = 0;
    uint32_t width = oracle_lane_width(o, d->sub);
    for (uint32_t i = 0; i < o->delivery_count && d->lane != 0; i++) {
        const struct oracle_delivery *other = &o->deliveries[i];
        if (other != d && other->sub == d->sub && other->lane == d->lane && other->outside &&
            ++outside == width) {
            sim_fail(o->world, "%u:%llu is handed out beside %llu of its lane", d->sub,
                     (unsigned long long)d->offset, (unsigned long long)other->offset);
        }
    }
}

static const struct sim_sub_spec *spec_of(const struct oracle *o, uint64_t back,
                                          const struct mr_handout *h)
{
    bool visible = strncmp(h->name, "sub", 3) == 0 && h->name[4] == '\0';
    return back < ORACLE_SPECS && back < o->spec_count && visible
               ? &o->specs[(o->spec_count - 1 - back) % ORACLE_SPECS].subs[h->name[3] - '0']
               : NULL;
}

/* Whether one of the last configurations lets a batch be as this one has become. */
static bool batch_fits(const struct oracle *o, const struct mr_handout *h)
{
    const struct oracle_batch *b = &o->batch;
    const struct sim_sub_spec *s;
    for (uint64_t back = 0; (s = spec_of(o, back, h)) != NULL; back++) {
        if (b->want <= s->batch_max && (b->size <= s->batch_size || b->want == 1) &&
            b->same[s->batch_by]) {
            return true;
        }
    }
    return false;
}

/* The batches of one subscription, one after the other: @p h opens the next or goes on with it. */
static void check_batch(struct oracle *o, const struct mr_handout *h)
{
    struct oracle_batch *b = &o->batch;
    if (h->batch != b->number && b->count < b->want) {
        sim_fail(o->world, "batch %llu ends after %u of %u", (unsigned long long)b->number,
                 b->count, b->want);
    }
    if (h->batch == 0) {
        const struct sim_sub_spec *s;
        bool single = spec_of(o, 0, h) == NULL;
        for (uint64_t back = 0; (s = spec_of(o, back, h)) != NULL; back++) {
            single = single || s->batch_max == 0;
        }
        if (!single) {
            sim_fail(o->world, "%s is handed out by itself, not in a batch", h->delivery);
        }
        *b = (struct oracle_batch){0};
        return;
    }
    static const char *const names[SIM_ORDERS] = {"specversion", "lane", "zone"};
    if (h->batch != b->number) {
        *b = (struct oracle_batch){.number = h->batch, .want = h->batch_count};
        const struct sim_sub_spec *s = spec_of(o, 0, h);
        sim_fired[SIM_BATCHED] += b->want > 1;
        sim_fired[SIM_BATCH_FULL] += s != NULL && b->want > 1 && b->want == s->batch_max;
    }
    for (int by = 0; by < SIM_ORDERS; by++) {
        struct mr_bytes value = mr_event_value(mr_event_record(h->event), names[by]);
        uint64_t hash = mr_hash(value.data, value.size);
        b->same[by] = b->count == 0 || (b->same[by] && hash == b->values[by]);
        b->values[by] = hash;
    }
    b->count++;
    b->size += h->event->size;
    const struct oracle_delivery *d = oracle_delivery_of(o, h->subscription, h->offset);
    if (b->count > b->want || h->batch_count != b->want || !batch_fits(o, h)) {
        sim_fail(o->world, "%s is number %u of %u in batch %llu of %llu bytes: no configuration "
                 "makes that", h->delivery, b->count, b->want, (unsigned long long)b->number,
                 (unsigned long long)b->size);
    }
    if ((d->together != 0 && b->want > d->together) || (h->alone && b->want > 1)) {
        sim_fail(o->world, "%s is one of %u, after a batch that failed: it may be one of %u",
                 h->delivery, b->want, h->alone ? 1 : d->together);
    }
    sim_fired[SIM_BATCH_HALVED] += d->together != 0;
}

/* One of several targets gets it by its key, and none whose weight went to the others before. */
static void check_share(struct oracle *o, const struct mr_handout *h,
                        const struct oracle_delivery *d)
{
    static const char *const names[SIM_WORKERS] = {"fast", "slow"};
    const struct sim_sub_spec *s = spec_of(o, 0, h);
    uint32_t at = SIM_WORKERS;
    uint32_t ids[SIM_WORKERS];
    bool open[SIM_WORKERS] = {false};
    if (s == NULL || s->weights[0] + s->weights[1] == 0) {
        return;
    }
    for (uint32_t i = 0; i < SIM_WORKERS; i++) {
        ids[i] = mr_bus_target_id(o->world->bus, names[i]);
        const struct oracle_weight *w = oracle_weight_of(o, d->sub, ids[i]);
        open[i] = s->weights[i] > 0 && (w == NULL || w->hash != sim_share_hash(s, i));
        at = ids[i] == h->target ? i : at;
    }
    if (at == SIM_WORKERS) {
        sim_fail(o->world, "%s is handed to a target of another subscription", h->delivery);
    }
    sim_fired[SIM_SHARED_OUT]++;
    if (oracle_weight_of(o, d->sub, UINT32_MAX) == NULL) {
        uint32_t want = sim_share_of(s, d->lane != 0 ? d->lane : d->offset);
        if (at != want) {
            sim_fail(o->world, "%s is handed to %s, its key belongs to %s", h->delivery, names[at],
                     names[want]);
        }
    } else if (!open[at] && open[1 - at]) {
        const struct oracle_weight *w = oracle_weight_of(o, d->sub, ids[at]);
        if (s->weights[at] == 0 || d->fence_sequence > w->sequence) {
            sim_fail(o->world, "%s is handed to %s, which has no weight now", h->delivery,
                     names[at]);
        }
    } else if (!open[1 - at]) {
        sim_fired[SIM_RETURNED_KEPT]++;
    }
}

void oracle_may_edit(struct oracle *o, uint32_t subscription, uint64_t offset, uint32_t number,
                     uint32_t crc)
{
    MR_ASSERT(number == o->edited_count);
    o->edited =
        oracle_grow(o->edited, sizeof(*o->edited), o->edited_count + 1, &o->edited_capacity);
    o->edited[o->edited_count++] =
        (struct oracle_emitted){.sub = subscription, .offset = offset, .crc = crc};
}

void oracle_may_skip(struct oracle *o, uint32_t subscription, uint64_t offset)
{
    oracle_answer_of(o, subscription, offset, ORACLE_OPERATOR)->answered = true;
}

void oracle_handed_out(struct oracle *o, const struct mr_handout *h)
{
    struct oracle_answer *a = oracle_answer_of(o, h->subscription, h->offset, h->fence);
    if (o->write_failed) {
        sim_fail(o->world, "%s is handed out after a failed write", h->delivery);
    }
    if (h->event == NULL || mr_crc32c(0, h->event->data, h->event->size) != h->event->crc) {
        sim_fail(o->world, "%s is handed out with a damaged event", h->delivery);
    }
    if (o->rotten) {
        a->handed = true;
        return;
    }
    if (a->handed) {
        sim_fail(o->world, "%s attempt with fence %u is handed out twice", h->delivery, h->fence);
    }
    a->handed = true;
    struct oracle_delivery *d = oracle_delivery_of(o, h->subscription, h->offset);
    if (d == NULL || d->fence != h->fence || d->fence_sequence > o->written ||
        d->state != MR_STATE_IN_FLIGHT) {
        sim_fail(o->world, "%s is handed out (fence %u) before its attempt is written",
                 h->delivery, h->fence);
    }
    sim_fired[SIM_MOVED_ANEW] += d->moved_to != 0;
    sim_fired[SIM_EDITED_ANEW] +=
        d->edited != 0 && oracle_payload_of(o, d)->time_ns < o->started_ns;
    if (oracle_payload_of(o, d)->crc != h->event->crc) {
        sim_fail(o->world, "%s is handed out with the bytes of another event", h->delivery);
    }
    if (h->attempt != d->attempts + 1u) {
        sim_fail(o->world, "%s says attempt %u, %u were counted", h->delivery, h->attempt,
                 d->attempts);
    }
    if (d->interruptions >= 3 && !h->alone) {
        sim_fail(o->world, "%s was interrupted %u times and is not alone", h->delivery,
                 d->interruptions);
    }
    sim_fired[SIM_JOINED_ANEW] += o->events[h->offset - 1].kind == ORACLE_JOINED;
    check_batch(o, h);
    check_share(o, h, d);
    a->batch = h->batch;
    check_lane_alone(o, d);
    d->outside = true;
    d->handed++;
    if (o->world->swarm.calm && d->handed > 1) {
        sim_fail(o->world, "%s is handed out twice in a run without faults", h->delivery);
    }
}

/* --- taking back ------------------------------------------------------------------------------ */

static void undo_delivery(struct oracle *o, const struct oracle_undo *undo)
{
    struct oracle_delivery *d = &o->deliveries[undo->index];
    if (d->fence != undo->before.fence) {
        struct oracle_answer *a = oracle_answer_of(o, d->sub, d->offset, d->fence);
        if (o->always && a->handed) {
            sim_fail(o->world, "the attempt %u:%llu fence %u was handed out and is gone", d->sub,
                     (unsigned long long)d->offset, d->fence);
        }
        *a = (struct oracle_answer){.sub = d->sub, .offset = d->offset, .fence = d->fence};
    }
    *d = undo->before;
}

static void undo_events(struct oracle *o, uint32_t count)
{
    for (uint32_t i = count; i < o->event_count; i++) {
        const struct oracle_event *event = &o->events[i];
        if (event->kind == ORACLE_FROM_SOURCE) {
            o->messages[event->source][event->n].logged--;
        } else if (event->kind == ORACLE_EMITTED) {
            o->emitted[event->n].logged--;
        } else if (event->kind == ORACLE_EDITED) {
            o->edited[event->n].logged--;
        }
        for (uint32_t k = 0; k < event->count; k++) {
            const struct oracle_delivery *d = &o->deliveries[event->first + k];
            if (d->fence != 0) {
                struct oracle_answer *a = oracle_answer_of(o, d->sub, d->offset, d->fence);
                if (o->always && a->handed) {
                    sim_fail(o->world, "event %llu was handed out and is gone",
                             (unsigned long long)event->offset);
                }
                *a = (struct oracle_answer){.sub = d->sub, .offset = d->offset,
                                            .fence = d->fence};
            }
        }
    }
    o->event_count = count;
}

void oracle_undo(struct oracle *o, uint64_t sequence)
{
    if (o->rotten) {
        return;
    }
    while (o->group_count > 0 && o->groups[o->group_count - 1].sequence > sequence) {
        const struct oracle_group *group = &o->groups[--o->group_count];
        undo_events(o, group->event_count);
        while (o->journal_count > group->journal_at) {
            const struct oracle_undo *undo = &o->journal[--o->journal_count];
            if (undo->index < group->delivery_count) {
                undo_delivery(o, undo);
            }
        }
        o->delivery_count = group->delivery_count;
        memcpy(o->counts, group->counts, sizeof(o->counts));
        o->cursor = group->cursor;
        o->submitted = group->sequence - 1;
    }
    oracle_undo_joins(o, sequence);
    while (o->weight_count > 0 && o->weights[o->weight_count - 1].sequence > sequence) {
        o->weight_count--;
    }
    if (o->submitted != sequence) {
        sim_fail(o->world, "the log goes back to group %llu, behind what was durable (%llu)",
                 (unsigned long long)sequence, (unsigned long long)o->submitted);
    }
    o->written = sequence;
    oracle_synced(o, sequence); /* it is on the disk now, whatever it was before */
    o->floor = sequence;
    for (uint32_t i = 0; i < o->delivery_count; i++) {
        o->deliveries[i].outside = false;
    }
}

/* --- checks ----------------------------------------------------------------------------------- */

uint64_t oracle_floor(const struct oracle *o, bool power_cut)
{
    return power_cut ? o->floor : o->written;
}

uint64_t oracle_sequence(const struct oracle *o)
{
    return o->submitted;
}

uint32_t oracle_cursor(const struct oracle *o)
{
    return o->cursor;
}

bool oracle_message_logged(const struct oracle *o, uint32_t source, uint32_t n)
{
    return n < o->message_count[source] && o->messages[source][n].logged > 0;
}

uint64_t oracle_unsettled(const struct oracle *o)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < ORACLE_SUBS && !o->rotten; i++) {
        sum += o->counts[i].waiting + o->counts[i].in_flight + o->counts[i].held;
    }
    return sum + (o->rotten ? 0 : oracle_open_joins(o, UINT64_MAX));
}

static void check_count(const struct oracle *o, uint32_t sub, const char *where, const char *what,
                        uint64_t want, uint64_t have)
{
    if (want != have) {
        sim_fail(o->world,
                 "%s: subscription %u (%s): %s should be %llu, is %llu (written %llu, submitted "
                 "%llu)",
                 where, sub, o->names[sub], what, (unsigned long long)want,
                 (unsigned long long)have, (unsigned long long)o->written,
                 (unsigned long long)o->submitted);
    }
}

static void check_counts(const struct oracle *o, const struct mr_bus *bus,
                         const struct mr_counts *want, const char *where)
{
    uint32_t count = mr_bus_subscription_count(bus);
    for (uint32_t i = 0; i < ORACLE_SUBS; i++) {
        if (i >= count) {
            check_count(o, i, where, "matched", want[i].matched, 0);
            continue;
        }
        struct mr_subscription_info info;
        mr_bus_subscription_info(bus, sim_now(o->world), i, &info);
        check_count(o, i, where, "matched", want[i].matched, info.counts.matched);
        check_count(o, i, where, "done", want[i].done, info.counts.done);
        check_count(o, i, where, "dead", want[i].dead, info.counts.dead);
        check_count(o, i, where, "dropped", want[i].dropped, info.counts.dropped);
        check_count(o, i, where, "expired", want[i].expired, info.counts.expired);
        check_count(o, i, where, "lost", want[i].lost, info.counts.lost);
        check_count(o, i, where, "held", want[i].held, info.counts.held);
        check_count(o, i, where, "waiting and in flight", want[i].waiting + want[i].in_flight,
                    info.counts.waiting + info.counts.in_flight);
    }
}

/* Among the first @p count events a recovery knows the repeats it must know, and takes nothing else
 * for one. */
static void check_keys(const struct oracle *o, const struct mr_bus *bus, uint32_t count,
                       const char *where)
{
    struct mr_bus_status status;
    mr_bus_status(bus, &status);
    for (uint32_t s = 0; s < SIM_SOURCES; s++) {
        uint32_t id = mr_bus_source_id(bus, o->world->sources[s].name);
        for (uint32_t n = 0; n < o->message_count[s] && id != UINT32_MAX; n++) {
            const struct oracle_message *message = &o->messages[s][n];
            const struct oracle_event *first =
                sim_is_rejected(o->world, n) ? NULL
                                             : oracle_first_of(o, s, n, count, status.log_ns);
            uint64_t offset = 0;
            for (uint32_t k = 0; k < MR_DEDUPE_BY_MAX && offset == 0; k++) {
                if (mr_dedupe_key_is_set(&message->keys[k])) {
                    offset = mr_bus_first_offset(bus, id, &message->keys[k]);
                }
            }
            const struct oracle_event *found =
                offset == 0 || offset > count ? NULL : &o->events[offset - 1];
            bool same = found != NULL && found->kind == ORACLE_FROM_SOURCE &&
                        found->source == s && found->n == n;
            if ((first != NULL && found != first) || (offset != 0 && !same)) {
                sim_fail(o->world,
                         "%s: a repeat of message %u of source %u would be event %llu, should be "
                         "%llu",
                         where, n, s, (unsigned long long)offset,
                         first == NULL ? 0 : (unsigned long long)first->offset);
            }
        }
    }
}

static void check_open(const struct oracle *o, const struct mr_bus *bus, uint64_t sequence,
                       const char *where)
{
    uint64_t open = 0;
    for (uint32_t i = 0; i < mr_bus_fanout_count(bus); i++) {
        struct mr_fanout_info info;
        mr_bus_fanout_info(bus, i, &info);
        open += info.open;
    }
    if (open != oracle_open_joins(o, sequence)) {
        sim_fail(o->world, "%s: %llu fan-outs are open, should be %llu", where,
                 (unsigned long long)open,
                 (unsigned long long)oracle_open_joins(o, sequence));
    }
}

uint64_t oracle_check_recovered(struct oracle *o, const struct mr_bus *bus, uint64_t floor,
                                const char *where)
{
    struct mr_bus_status status;
    mr_bus_status(bus, &status);
    uint64_t sequence = status.next_sequence - 1;
    if (o->rotten && o->written_before < o->acknowledged) {
        /* With nothing behind it that knows it was durable, a last group that rots looks torn. */
        o->acknowledged = o->written_before;
    }
    if (status.next_offset - 1 < o->acknowledged && o->always) {
        sim_fail(o->world, "%s: event %llu was acknowledged, the log ends at %llu", where,
                 (unsigned long long)o->acknowledged,
                 (unsigned long long)status.next_offset - 1);
    }
    uint32_t sub;
    if (!mr_bus_conserves(bus, &sub)) {
        sim_fail(o->world, "%s: subscription %u does not conserve", where, sub);
    }
    mr_bus_check(bus);
    if (o->rotten) {
        return sequence;
    }
    if (sequence < floor || sequence > o->submitted) {
        sim_fail(o->world, "%s: recovered up to group %llu, should be %llu to %llu", where,
                 (unsigned long long)sequence, (unsigned long long)floor,
                 (unsigned long long)o->submitted);
    }
    const struct mr_counts *counts = o->counts;
    uint64_t events = o->event_count;
    uint32_t cursor = o->cursor;
    for (uint32_t i = o->group_count; i-- > 0 && o->groups[i].sequence > sequence;) {
        counts = o->groups[i].counts;
        events = o->groups[i].event_count;
        cursor = o->groups[i].cursor;
    }
    if (status.next_offset - 1 != events) {
        sim_fail(o->world, "%s: %llu events, should be %llu", where,
                 (unsigned long long)status.next_offset - 1, (unsigned long long)events);
    }
    if (status.lost_events != 0 && !sim_reads_failed(o->world)) {
        sim_fail(o->world, "%s: %llu events named lost, the disk kept its word", where,
                 (unsigned long long)status.lost_events);
    }
    check_counts(o, bus, counts, where);
    check_open(o, bus, sequence, where);
    check_keys(o, bus, (uint32_t)events, where);
    uint32_t id = mr_bus_source_id(bus, o->world->sources[SIM_CURSOR_SOURCE].name);
    const char *text = id == UINT32_MAX ? NULL : mr_bus_source_cursor(bus, id);
    unsigned have = 0;
    if (text != NULL && sscanf(text, "{\"n\":%u}", &have) != 1) {
        sim_fail(o->world, "%s: the cursor is garbage", where);
    }
    if (have != cursor) {
        sim_fail(o->world, "%s: the cursor says %u, its events are there up to %u", where, have,
                 cursor);
    }
    return sequence;
}

void oracle_check_deliveries(const struct oracle *o, const struct mr_bus *bus, const char *where)
{
    for (uint32_t i = 0; i < o->delivery_count && !o->rotten; i++) {
        const struct oracle_delivery *d = &o->deliveries[i];
        struct mr_delivery_info info;
        enum mr_status r =
            mr_bus_delivery_info(bus, sim_now(o->world), d->sub, d->offset, &info);
        bool open = d->state == MR_STATE_WAITING || d->state == MR_STATE_IN_FLIGHT ||
                    d->state == MR_STATE_HELD;
        if (r != MR_OK) {
            continue; /* settled, or behind: the counts tell which */
        }
        uint32_t interruptions = d->interruptions + (d->state == MR_STATE_IN_FLIGHT ? 1u : 0u);
        if (!open || info.attempts != d->attempts || info.fence != d->fence ||
            info.interruptions != interruptions || info.lane != d->lane) {
            sim_fail(o->world,
                     "%s: %u:%llu is %s with %u attempts, %u interruptions, fence %u; should be "
                     "%s, %u, %u, %u",
                     where, d->sub, (unsigned long long)d->offset, mr_state_text(info.state),
                     info.attempts, info.interruptions, info.fence, mr_state_text(d->state),
                     d->attempts, interruptions, d->fence);
        }
    }
}

void oracle_check_end(struct oracle *o, const struct mr_bus *bus)
{
    if (o->rotten) {
        return;
    }
    check_counts(o, bus, o->counts, "at the end");
    check_open(o, bus, UINT64_MAX, "at the end");
    for (uint32_t i = 0; i < o->delivery_count; i++) {
        const struct oracle_delivery *d = &o->deliveries[i];
        if (d->state == MR_STATE_WAITING || d->state == MR_STATE_IN_FLIGHT ||
            d->state == MR_STATE_HELD) {
            sim_fail(o->world, "%u:%llu is %s for ever", d->sub, (unsigned long long)d->offset,
                     mr_state_text(d->state));
        }
    }
    for (uint32_t s = 0; s < SIM_SOURCES; s++) {
        for (uint32_t n = 0; n < o->message_count[s]; n++) {
            if (o->messages[s][n].logged == 0 && o->always) {
                sim_fail(o->world, "message %u of source %u never came in", n, s);
            }
        }
    }
}
