#include <inttypes.h>
#include <stdio.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "schemas/json_format.h"
#include "workers/process/internal.h"

/* When nothing was handed out for so long, what waits is refused: its lease runs meanwhile. */
#define PENDING_MAX_NS (2 * MR_SECOND)

static struct mr_handout *next_of(const struct mr_handout *h)
{
    return (struct mr_handout *)h->op.next;
}

/* The last of those that go together with @p h: of its batch, or itself. */
static struct mr_handout *last_with(struct mr_handout *h)
{
    while (h->batch != 0 && next_of(h) != NULL && next_of(h)->batch == h->batch) {
        h = next_of(h);
    }
    return h;
}

uint32_t mr__dispatch_places(const struct mr_target *t)
{
    uint32_t places = 0;
    for (struct mr_handout *h = t->base.pending; h != NULL; h = next_of(last_with(h))) {
        places++;
    }
    return places;
}

static void refuse_all(struct mr_target *t, struct mr_handout *h, const char *why)
{
    while (h != NULL) {
        struct mr_handout *next = next_of(h);
        mr_station_refuse(&t->base, h, why);
        h = next;
    }
}

static bool can_take(const struct mr__instance *i)
{
    return i->state == MR__READY && i->places < i->slot_max && i->cancelling == 0 && !i->alone &&
           !i->out_blocked && i->out.size - i->sent < MR__OUT_SOFT_MAX;
}

/* The least loaded; among equals the oldest, so that the youngest become idle and can go. */
static struct mr__instance *pick(const struct mr_target *t, bool alone)
{
    struct mr__instance *best = NULL;
    for (uint32_t n = 0; n < t->count; n++) {
        struct mr__instance *i = t->instances[n];
        bool fits = can_take(i) && (alone ? i->held == 0 : !i->reserved);
        if (fits && (best == NULL || i->held < best->held)) {
            best = i;
        }
    }
    return best;
}

/* An event without its data as a record of its own: for the header line of a raw frame. */
static enum mr_status encode_without_data(struct mr_bytes record, struct mr_buf *out)
{
    uint32_t data_at = mr_get_u32(record.data + 8);
    uint8_t *copy = mr_alloc(data_at);
    if (copy == NULL) {
        return MR_E_NOMEM;
    }
    memcpy(copy, record.data, data_at);
    uint16_t flags = mr_get_u16(copy + 6);
    mr_put_u32(copy, data_at);
    mr_put_u16(copy + 6, (uint16_t)(flags & ~(MR_EVENT_HAS_DATA | MR_EVENT_DATA_BINARY)));
    mr_put_u32(copy + 12, 0);
    enum mr_status r = mr_json_encode_event(mr_bytes(copy, data_at), out);
    mr_free(copy);
    return r;
}

static enum mr_status encode_event(struct mr__instance *i, struct mr_bytes record)
{
    if ((i->features & MR_FRAME_RAW) == 0 || !mr_event_has_data(record)) {
        return mr_json_encode_event(record, &i->out);
    }
    return encode_without_data(record, &i->out);
}

static enum mr_status encode(struct mr__instance *i, const struct mr_handout *h)
{
    struct mr_bytes record = mr_event_record(h->event);
    struct mr_buf *out = &i->out;
    char time[MR_TIME_TEXT_SIZE];
    enum mr_status r = mr_buf_append_text(out, "{\"delivery\":");
    if (r == MR_OK) {
        r = mr_buf_append_json(out, mr_bytes_of(h->delivery));
    }
    if (r == MR_OK) {
        r = mr_buf_printf(out, ",\"attempt\":%" PRIu32 ",\"last\":%s,\"deadline\":\"%s\"",
                          h->attempt, h->last ? "true" : "false",
                          mr_time_format(h->deadline_wall_ns, time));
    }
    bool raw = (i->features & MR_FRAME_RAW) != 0 && mr_event_has_data(record);
    struct mr_bytes data = mr_event_data(record);
    if (r == MR_OK && raw) {
        r = mr_buf_printf(out, ",\"data_size\":%zu", data.size);
    }
    if (r == MR_OK) {
        r = mr_buf_append_text(out, ",\"event\":");
    }
    if (r == MR_OK) {
        r = encode_event(i, record);
    }
    if (r == MR_OK) {
        r = mr_buf_append_text(out, "}\n");
    }
    if (r == MR_OK && raw) {
        r = mr_buf_append_bytes(out, data);
    }
    return r;
}

/* Gives @p h to @p i; when it does not fit a frame it is answered instead. @p beside: others of its
 * batch take room already */
static void give(struct mr__instance *i, struct mr_handout *h, bool beside)
{
    struct mr_target *t = i->target;
    size_t before = i->out.size;
    MR_ASSERT(i->held < i->slot_capacity);
    enum mr_status r = encode(i, h);
    if (r != MR_OK) {
        i->out.size = before;
        if (r == MR_E_NOMEM || beside) {
            mr_station_refuse(&t->base, h,
                              beside ? "it has no room beside the others of its batch"
                                     : "out of memory");
            return;
        }
        h->answer.verdict = MR_VERDICT_DEAD;
        mr_handout_set_error(h, mr_bytes_of("the event does not fit a frame of 8 MiB"));
        mr_station_answer(&t->base, h);
        return;
    }
    h->answer.started_wall_ns = t->base.now.wall_ns;
    i->slots[i->held++] = (struct mr__slot){
        .handout = h,
        .offset = h->offset,
        .handed_ns = t->base.now.mono_ns,
        .lease_end_ns = t->base.now.mono_ns + h->timeout_ns,
        .cpu_at_ns = t->max_cpu_ns == 0 ? 0 : mr_limits_cpu_used(i->child.pid),
        .stderr_since = i->err_tail.total};
    i->handed++;
    t->base.now_health.messages++;
}

static bool slots_reserve(struct mr__instance *i, uint32_t more)
{
    uint32_t need = i->held + more;
    if (need <= i->slot_capacity) {
        return true;
    }
    struct mr__slot *slots = mr_realloc(i->slots, need * sizeof(*slots));
    if (slots == NULL) {
        return false;
    }
    i->slots = slots;
    i->slot_capacity = need;
    return true;
}

/* The line before the deliveries of a batch; how many they are is known behind them. */
#define COUNT_DIGITS 10
static enum mr_status open_batch(struct mr__instance *i, uint64_t batch, size_t *ret_count_at)
{
    enum mr_status r = mr_buf_printf(&i->out, "{\"batch\":%" PRIu64 ",\"count\":", batch);
    *ret_count_at = i->out.size;
    return r == MR_OK ? mr_buf_printf(&i->out, "%*s}\n", COUNT_DIGITS, "") : r;
}

static void give_batch(struct mr__instance *i, struct mr_handout *h)
{
    struct mr_target *t = i->target;
    uint32_t held = i->held;
    size_t before = i->out.size;
    size_t count_at = 0;
    if ((i->features & MR_FRAME_BATCHES) == 0) {
        static const char why[] = "the worker takes no batches: its handshake does not name the "
                                  "feature `batch`";
        (void)snprintf(t->base.now_health.last_error, sizeof(t->base.now_health.last_error), "%s",
                       why); /* fits */
        t->base.now_health.last_error_wall_ns = t->base.now.wall_ns;
        t->base.now_health.errors++;
        refuse_all(t, h, why);
        return;
    }
    if (open_batch(i, h->batch, &count_at) != MR_OK) {
        i->out.size = before;
        refuse_all(t, h, "out of memory");
        return;
    }
    while (h != NULL) {
        struct mr_handout *next = next_of(h);
        h->op.next = NULL;
        give(i, h, i->held > held);
        h = next;
    }
    if (i->held == held) {
        i->out.size = before;
        return;
    }
    char count[COUNT_DIGITS + 1];
    int digits = snprintf(count, sizeof(count), "%" PRIu32, i->held - held); /* fits */
    memcpy(i->out.data + count_at, count, (size_t)digits);
}

/* Gives @p h and what goes with it to @p i: one place. */
static void give_all(struct mr__instance *i, struct mr_handout *h)
{
    struct mr_target *t = i->target;
    uint32_t held = i->held;
    uint32_t count = 0;
    bool alone = h->alone;
    bool joins = mr__instance_has_batch(i, h->batch, 0);
    for (const struct mr_handout *other = h; other != NULL; other = next_of(other)) {
        count++;
    }
    if (!slots_reserve(i, count)) {
        refuse_all(t, h, "out of memory");
        return;
    }
    if (h->batch != 0) {
        give_batch(i, h);
    } else {
        give(i, h, false);
    }
    if (i->held == held) {
        return;
    }
    i->places += !joins;
    if (held == 0) {
        mr__instance_limit_cpu(i);
    }
    i->alone = alone;
    i->reserved = alone ? false : i->reserved;
    if (t->max_events != 0 && i->handed >= t->max_events) {
        mr__instance_replace(i);
    }
}

/* Keeps an instance free of other work for a hand-out that must be alone, when none is yet. */
static void reserve_one(struct mr_target *t)
{
    struct mr__instance *best = NULL;
    for (uint32_t n = 0; n < t->count; n++) {
        struct mr__instance *i = t->instances[n];
        if (i->reserved) {
            return;
        }
        if (i->state == MR__READY && !i->alone && (best == NULL || i->held < best->held)) {
            best = i;
        }
    }
    if (best != NULL) {
        best->reserved = true;
    }
}

static bool any_serving(const struct mr_target *t)
{
    for (uint32_t n = 0; n < t->count; n++) {
        if (t->instances[n]->state == MR__READY) {
            return true;
        }
    }
    return false;
}

bool mr__dispatch_needs_reserved(const struct mr_target *t)
{
    for (const struct mr_handout *h = t->base.pending; h != NULL; h = next_of(h)) {
        if (h->alone) {
            return true;
        }
    }
    return false;
}

static void release_reserved(struct mr_target *t)
{
    for (uint32_t n = 0; n < t->count; n++) {
        t->instances[n]->reserved = false;
    }
}

/* @p h: a chain of those that go together. @return whether it left the pending chain */
static bool place(struct mr_target *t, struct mr_handout *h, bool serving, bool too_long)
{
    struct mr__instance *i = pick(t, h->alone);
    if (i != NULL) {
        give_all(i, h);
        t->base.pending_since_ns = t->base.now.mono_ns; /* it goes on: the others may wait */
        return true;
    }
    if (!serving && !t->replacing) {
        refuse_all(t, h, "no instance");
        return true;
    }
    if (h->alone && serving) {
        reserve_one(t);
        return false; /* waits as long as its lease lets it */
    }
    if (too_long) {
        refuse_all(t, h, "no instance became free");
        return true;
    }
    return false;
}

/* A successor may take longer to start, but an attempt shall keep half of its time. */
static uint64_t pending_max_ns(const struct mr_target *t)
{
    return t->replacing && t->timeout_ns / 2 > PENDING_MAX_NS ? t->timeout_ns / 2 : PENDING_MAX_NS;
}

void mr__dispatch_pending(struct mr_target *t)
{
    if (t->base.pending == NULL) {
        return;
    }
    bool serving = any_serving(t);
    uint64_t until = t->base.pending_since_ns + pending_max_ns(t);
    bool too_long = t->base.now.mono_ns >= until;
    struct mr_handout *h = t->base.pending;
    t->base.pending = NULL;
    t->base.pending_end = &t->base.pending;
    while (h != NULL) {
        struct mr_handout *last = last_with(h);
        struct mr_handout *next = next_of(last);
        last->op.next = NULL;
        if (!place(t, h, serving, too_long)) {
            *t->base.pending_end = h;
            t->base.pending_end = (struct mr_handout **)(void *)&last->op.next;
        }
        h = next;
    }
    if (t->base.pending == NULL || too_long) {
        t->base.pending_since_ns = t->base.now.mono_ns;
    }
    if (!mr__dispatch_needs_reserved(t)) {
        release_reserved(t);
    }
    if (t->base.pending != NULL) {
        mr_station_wake_at(&t->base, t->base.pending_since_ns + pending_max_ns(t));
    }
}

static void cancel_slot(struct mr__instance *i, struct mr__slot *slot)
{
    struct mr_target *t = i->target;
    if (slot->cancel_at_ns != 0) {
        return;
    }
    slot->cancel_at_ns = t->base.now.mono_ns + t->grace_ns;
    i->cancelling++;
    if ((i->features & MR_FRAME_CANCEL) != 0) {
        char line[sizeof(slot->handout->delivery) * 6 + 32]; /* each byte may become \u00xx */
        struct mr_buf buf = {.data = (uint8_t *)line, .capacity = sizeof(line) - 1,
                             .size_max = sizeof(line) - 1};
        if (mr_buf_append_text(&buf, "{\"cancel\":") == MR_OK &&
            mr_buf_append_json(&buf, mr_bytes_of(slot->handout->delivery)) == MR_OK &&
            mr_buf_append_text(&buf, "}\n") == MR_OK) {
            line[buf.size] = '\0';
            mr__instance_send(i, line);
        }
    }
}

void mr__dispatch_cancel(struct mr_target *t, const struct mr_station_cancel *cancel)
{
    for (uint32_t n = 0; n < t->count; n++) {
        struct mr__instance *i = t->instances[n];
        for (uint32_t k = 0; k < i->held; k++) {
            if (mr_station_is_meant(i->slots[k].handout, cancel)) {
                cancel_slot(i, &i->slots[k]);
                return;
            }
        }
    }
}

void mr__dispatch_cancel_late(struct mr_target *t)
{
    for (uint32_t n = 0; n < t->count; n++) {
        struct mr__instance *i = t->instances[n];
        for (uint32_t k = 0; k < i->held; k++) {
            if (t->base.now.mono_ns >= i->slots[k].lease_end_ns) {
                cancel_slot(i, &i->slots[k]);
            }
        }
    }
}
