/* The oracle's own fold: every record of every group, with the rules it must keep. */
#include "oracle_internal.h"

#include <stdio.h>

#include "core/assert.h"

static uint64_t *counter(struct mr_counts *counts, uint8_t state)
{
    switch ((enum mr_state)state) {
    case MR_STATE_WAITING:
        return &counts->waiting;
    case MR_STATE_IN_FLIGHT:
        return &counts->in_flight;
    case MR_STATE_HELD:
        return &counts->held;
    case MR_STATE_DONE:
        return &counts->done;
    case MR_STATE_DEAD:
        return &counts->dead;
    case MR_STATE_DROPPED:
        return &counts->dropped;
    case MR_STATE_EXPIRED:
        return &counts->expired;
    case MR_STATE_LOST:
        return &counts->lost;
    case MR_STATE_NONE:
    case MR_STATE_MAX:
        break;
    }
    MR_ASSERT(!"a state that is counted");
    return NULL;
}

static void note_before(struct oracle *o, const struct oracle_delivery *d)
{
    o->journal = oracle_grow(o->journal, sizeof(*o->journal), o->journal_count + 1,
                             &o->journal_capacity);
    o->journal[o->journal_count++] =
        (struct oracle_undo){.index = (uint32_t)(d - o->deliveries), .before = *d};
}

void oracle_set_state(struct oracle *o, struct oracle_delivery *d, enum mr_state state)
{
    uint64_t *from = counter(&o->counts[d->sub], d->state);
    MR_ASSERT(*from > 0);
    (*from)--;
    d->state = (uint8_t)state;
    (*counter(&o->counts[d->sub], d->state))++;
}

struct oracle_delivery *oracle_delivery_add(struct oracle *o, struct oracle_event *event,
                                            uint32_t sub, uint64_t lane, enum mr_state state)
{
    MR_ASSERT(sub < ORACLE_SUBS);
    o->deliveries = oracle_grow(o->deliveries, sizeof(*o->deliveries), o->delivery_count + 1,
                                &o->delivery_capacity);
    struct oracle_delivery *d = &o->deliveries[o->delivery_count++];
    *d = (struct oracle_delivery){
        .offset = event->offset, .lane = lane, .sub = sub, .state = (uint8_t)state};
    event->count++;
    o->counts[sub].matched++;
    (*counter(&o->counts[sub], d->state))++;
    return d;
}

struct oracle_delivery *oracle_find(struct fold *f, const struct mr_record *r)
{
    struct oracle_delivery *d = oracle_delivery_of(f->o, r->a, r->offset);
    if (d == NULL) {
        FAIL(f, "a record %s of delivery %u:%llu that never was", mr_record_kind_text(r->kind),
             r->a, LLU(r->offset));
    }
    note_before(f->o, d);
    return d;
}

/* --- EVENT ------------------------------------------------------------------------------------ */

static uint8_t type_index(struct mr_bytes type)
{
    if (type.size == 3 && type.data[0] == 't') {
        return (uint8_t)(type.data[2] - '0');
    }
    if (type.size == 3 && type.data[0] == 'e') {
        return (uint8_t)(4 + type.data[2] - '0');
    }
    return UINT8_MAX;
}

static bool id_number(struct mr_bytes id, const char *prefix, uint32_t *ret_number)
{
    uint64_t number;
    size_t n = strlen(prefix);
    if (!mr_bytes_starts(id, mr_bytes_of(prefix)) ||
        !mr_parse_u64(mr_bytes(id.data + n, id.size - n), &number)) {
        return false;
    }
    *ret_number = (uint32_t)number;
    return true;
}

static void know_message(struct fold *f, struct oracle_event *event, uint32_t s)
{
    struct oracle *o = f->o;
    event->source = s;
    if (event->n >= o->message_count[s] || o->messages[s][event->n].crc != event->crc) {
        FAIL(f, "event %llu was never sent like this (source %u, message %u)",
             LLU(event->offset), s, event->n);
    }
    struct oracle_message *message = &o->messages[s][event->n];
    message->logged++;
    uint32_t before = (uint32_t)(event - o->events);
    const struct oracle_event *first = oracle_first_of(o, s, event->n, before, event->time_ns);
    if (first != NULL && !sim_is_rejected(o->world, event->n)) {
        FAIL(f, "event %llu repeats %llu within the window of source %u", LLU(event->offset),
             LLU(first->offset), s);
    }
    sim_fired[SIM_AGAIN] += message->logged > 1 && o->world->spec.dedupe[s].window_ns > 0;
    if (message->logged > message->sent || (s == SIM_CURSOR_SOURCE && message->logged > 1)) {
        FAIL(f, "message %u of source %u is in the log %u times, sent %u times", event->n, s,
             message->logged, message->sent);
    }
}

static uint32_t fanout_id(const struct oracle *o, struct mr_bytes name)
{
    uint32_t id = 0;
    while (id < SIM_FANOUTS && !mr_bytes_equal(name, mr_bytes_of(o->fanouts[id]))) {
        id++;
    }
    return id;
}

/* An event that an operator gave a held delivery; its EDIT comes next. */
static void edited_event(struct fold *f, const struct oracle_event *event,
                         const struct mr_record *r)
{
    struct oracle *o = f->o;
    if (event->n >= o->edited_count || f->edited_event.kind != 0) {
        FAIL(f, "event %llu is no edited one", LLU(event->offset));
    }
    struct oracle_emitted *edited = &o->edited[event->n];
    if (edited->crc != event->crc || edited->sub != r->b || edited->offset != r->d ||
        edited->logged++ > 0) {
        FAIL(f, "event %llu was edited otherwise, or only once", LLU(event->offset));
    }
    f->edited_event = *r;
}

static void fold_event(struct fold *f, const struct mr_record *r)
{
    struct oracle *o = f->o;
    if (r->offset != o->event_count + 1u) {
        FAIL(f, "event %llu follows %u", LLU(r->offset), o->event_count);
    }
    o->events = oracle_grow(o->events, sizeof(*o->events), o->event_count + 1,
                            &o->event_capacity);
    struct oracle_event *event = &o->events[o->event_count++];
    struct mr_bytes id = mr_event_id(r->body);
    *event = (struct oracle_event){
        .offset = r->offset,
        .sequence = f->sequence,
        .segment = mr_position_segment(f->position),
        .crc = r->body_crc,
        .time_ns = r->c,
        .first = o->delivery_count,
        .type = type_index(mr_event_type(r->body)),
        .kind = ORACLE_OUTCOME,
        .cause_sub = r->b,
        .cause_offset = r->d,
    };
    if (r->a == MR_SOURCE_BUS && oracle_fold_shed(f, event, r)) {
        return;
    }
    if (r->a == MR_SOURCE_BUS) {
        if (mr_bytes_ends(id, MR_BYTES_LITERAL(":completed"))) {
            event->kind = ORACLE_JOINED;
            event->n = fanout_id(o, mr_event_value(r->body, "subject"));
            oracle_joined_event(f, r);
            return;
        }
        if (id_number(id, "x-", &event->n)) {
            event->kind = ORACLE_EDITED;
            edited_event(f, event, r);
            return;
        }
        if (!id_number(id, "w-", &event->n)) {
            f->outcomes++;
            sim_fired[SIM_OUTCOME]++;
            return;
        }
        event->kind = ORACLE_EMITTED;
        if (event->n >= o->emitted_count) {
            FAIL(f, "event %llu was never emitted", LLU(event->offset));
        }
        struct oracle_emitted *emitted = &o->emitted[event->n];
        if (emitted->crc != event->crc || emitted->sub != r->b || emitted->offset != r->d) {
            FAIL(f, "event %llu was emitted otherwise", LLU(event->offset));
        }
        if (emitted->logged++ > 0) {
            FAIL(f, "event %llu was emitted once and is in the log twice", LLU(event->offset));
        }
        f->emitted++;
        return;
    }
    for (uint32_t s = 0; s < SIM_SOURCES; s++) {
        char prefix[8] = {'s', (char)('0' + s), '-', '\0'};
        if (r->a == o->world->sources[s].id && id_number(id, prefix, &event->n)) {
            event->kind = ORACLE_FROM_SOURCE;
            know_message(f, event, s);
            return;
        }
    }
    FAIL(f, "event %llu comes from nowhere", LLU(event->offset));
}

/* --- KEY -------------------------------------------------------------------------------------- */

static void fold_key(struct fold *f, const struct mr_record *r)
{
    const struct oracle *o = f->o;
    const struct oracle_event *event = oracle_event_of(f->o, r->offset);
    if (event == NULL || event->sequence != f->sequence || event->kind != ORACLE_FROM_SOURCE ||
        r->a != o->world->sources[event->source].id) {
        FAIL(f, "a key of event %llu is out of place", LLU(r->offset));
    }
    const struct sim_dedupe_spec *dedupe = &o->world->spec.dedupe[event->source];
    if (r->b * MR_MS != dedupe->window_ns || r->extra * 1000u < dedupe->keys ||
        sim_is_rejected(o->world, event->n)) {
        FAIL(f, "the key of event %llu is for %u ms and %u thousand", LLU(r->offset), r->b,
             r->extra);
    }
}

/* --- MATCH ------------------------------------------------------------------------------------ */

/* The flags its MATCH entry ought to have, but for MR_MATCH_BEGUN; UINT8_MAX: no match. */
static uint8_t matches_spec(const struct sim_spec *spec, uint32_t sub,
                            const struct oracle_event *e)
{
    const struct sim_sub_spec *s = &spec->subs[sub];
    bool from = s->sources == 0 ||
                (e->kind == ORACLE_FROM_SOURCE && ((unsigned)s->sources >> e->source & 1u) != 0);
    if (e->kind == ORACLE_JOINED) {
        return s->present && s->sources == 0 && s->joined ? 0 : UINT8_MAX;
    }
    if (!s->present || e->type >= 8 || !from) {
        return UINT8_MAX;
    }
    bool delivered = ((unsigned)s->types >> e->type & 1u) != 0;
    bool cancels = ((unsigned)s->cancels >> e->type & 1u) != 0;
    return !cancels  ? delivered ? 0 : UINT8_MAX
           : delivered ? MR_MATCH_CANCELS
                       : MR_MATCH_CANCELS | MR_MATCH_ONLY_CANCELS;
}

/* Whether the visible subscriptions, @p flags of each, are what @p spec asks for. */
static bool fits_spec(const struct sim_spec *spec, const struct oracle_event *e,
                      const uint8_t flags[SIM_SUBS_MAX])
{
    for (uint32_t i = 0; i < SIM_SUBS_MAX; i++) {
        uint8_t want = i < spec->sub_count ? matches_spec(spec, i, e) : UINT8_MAX;
        if (want != flags[i]) {
            return false;
        }
    }
    return true;
}

static void check_matches(struct fold *f, const struct oracle_event *event,
                          const uint8_t flags[SIM_SUBS_MAX])
{
    const struct oracle *o = f->o;
    if (event->kind == ORACLE_OUTCOME) {
        return;
    }
    if (event->kind == ORACLE_SHED) {
        oracle_match_shed(f, event, flags);
        return;
    }
    if (event->kind == ORACLE_EDITED && event->count == 0) {
        return;
    }
    for (uint64_t i = 0; i < ORACLE_SPECS && i < o->spec_count; i++) {
        if (fits_spec(&o->specs[(o->spec_count - 1 - i) % ORACLE_SPECS], event, flags)) {
            return;
        }
    }
    FAIL(f, "event %llu (type %u, source %u) has %u matches that no configuration makes",
         LLU(event->offset), event->type, event->source, event->count);
}

/* Subscriptions are called "sub0" … "sub7"; hidden ones have a suffix. */
bool oracle_visible_index(const struct oracle *o, uint32_t id, uint32_t *ret_index)
{
    const char *name = o->names[id];
    if (strncmp(name, "sub", 3) != 0 || name[3] < '0' || name[3] > '7' || name[4] != '\0') {
        return false;
    }
    *ret_index = (uint32_t)(name[3] - '0');
    return true;
}

static void fold_match(struct fold *f, const struct mr_record *r)
{
    struct oracle *o = f->o;
    struct oracle_event *event = oracle_event_of(o, r->offset);
    if (event == NULL || event->count > 0 || r->body.size != r->a * MR_MATCH_ENTRY_SIZE) {
        FAIL(f, "a match of event %llu is out of place", LLU(r->offset));
    }
    uint8_t flags[SIM_SUBS_MAX];
    memset(flags, UINT8_MAX, sizeof(flags));
    for (uint32_t i = 0; i < r->a; i++) {
        const uint8_t *entry = r->body.data + i * MR_MATCH_ENTRY_SIZE;
        uint32_t sub = mr_get_u32(entry);
        uint32_t index;
        if (sub >= ORACLE_SUBS || oracle_delivery_of(o, sub, r->offset) != NULL) {
            FAIL(f, "event %llu matches subscription %u twice", LLU(r->offset), sub);
        }
        uint8_t flag = (uint8_t)(mr_get_u32(entry + 4) & 0xffu & ~MR_MATCH_BEGUN);
        if (oracle_visible_index(o, sub, &index)) {
            flags[index] = flag;
        }
        struct oracle_delivery *d =
            oracle_delivery_add(o, event, sub, mr_get_u64(entry + 8), MR_STATE_WAITING);
        d->cancels = (flag & MR_MATCH_CANCELS) != 0;
        d->only_cancels = (flag & MR_MATCH_ONLY_CANCELS) != 0;
        if ((mr_get_u32(entry + 4) & MR_MATCH_BEGUN) != 0) {
            oracle_begin(f, d, 1);
        }
    }
    check_matches(f, event, flags);
}

/* --- the others ------------------------------------------------------------------------------- */

uint32_t oracle_lane_width(const struct oracle *o, uint32_t sub)
{
    uint32_t index;
    uint32_t width = 1;
    if (!oracle_visible_index(o, sub, &index)) {
        return width;
    }
    for (uint64_t i = 0; i < ORACLE_SPECS && i < o->spec_count; i++) {
        uint32_t had = o->specs[i].subs[index].lane_concurrency;
        width = had > width ? had : width;
    }
    return width;
}

const struct oracle_weight *oracle_weight_of(const struct oracle *o, uint32_t sub, uint32_t target)
{
    for (uint32_t i = o->weight_count; i-- > 0;) {
        const struct oracle_weight *w = &o->weights[i];
        if (w->sub == sub && (w->target == target || target == UINT32_MAX)) {
            return w;
        }
    }
    return NULL;
}

static void fold_weight(struct fold *f, const struct mr_record *r)
{
    struct oracle *o = f->o;
    uint32_t index;
    bool fits = r->c == 0;
    if (!oracle_visible_index(o, r->a, &index)) {
        FAIL(f, "a weight of subscription %u, which has none", r->a);
    }
    for (uint64_t i = 0; i < ORACLE_SPECS && i < o->spec_count && !fits; i++) {
        const struct sim_sub_spec *s = &o->specs[i].subs[index];
        for (uint32_t k = 0; k < SIM_WORKERS; k++) {
            fits = fits || (s->return_percent > 0 && r->c == sim_share_hash(s, k));
        }
    }
    if (!fits) {
        FAIL(f, "a weight of subscription %u goes to the others, no configuration says so", r->a);
    }
    sim_fired[SIM_RETURNED] += r->c != 0;
    o->weights = oracle_grow(o->weights, sizeof(*o->weights), o->weight_count + 1,
                             &o->weight_capacity);
    o->weights[o->weight_count++] = (struct oracle_weight){
        .sequence = f->sequence, .hash = r->c, .sub = r->a, .target = r->b};
}

static void fold_redrive(struct fold *f, const struct mr_record *r)
{
    struct oracle_delivery *d = oracle_find(f, r);
    if (!d->letter && d->state != MR_STATE_HELD) {
        FAIL(f, "%u:%llu is redriven while %s", d->sub, LLU(d->offset), mr_state_text(d->state));
    }
    if (d->letter) { /* a new delivery in all but its number and fence */
        d->redriven = true;
        d->interruptions = 0;
        d->timed_out = false;
    } /* one that was held goes on: the handler that was too late may still say that it did it */
    d->letter = false;
    d->together = 0;
    d->attempts = 0;
    d->refusals = 0;
    oracle_set_state(f->o, d, MR_STATE_WAITING);
}

/* It goes on as one that was resumed does, in its place, with the event right before. */
static void fold_edit(struct fold *f, const struct mr_record *r)
{
    const struct mr_record *event = &f->edited_event;
    struct oracle_delivery *d = oracle_find(f, r);
    if (d->state != MR_STATE_HELD || event->kind == 0 || event->offset != r->c ||
        event->b != r->a || event->d != r->offset || event->body.size != r->b) {
        FAIL(f, "%u:%llu is given event %llu while %s", d->sub, LLU(d->offset), LLU(r->c),
             mr_state_text(d->state));
    }
    d->edited = event->offset;
    d->moved_to = 0;
    d->moved_from = 0;
    d->together = 0;
    d->attempts = 0;
    d->refusals = 0;
    f->edited_event = (struct mr_record){0};
    oracle_set_state(f->o, d, MR_STATE_WAITING);
    sim_fired[SIM_EDITED]++;
}

static void fold_purge(struct fold *f, const struct mr_record *r)
{
    struct oracle_delivery *d = oracle_find(f, r);
    if (!d->letter) {
        FAIL(f, "%u:%llu is purged and is no dead letter", d->sub, LLU(d->offset));
    }
    d->letter = false;
}

static void fold_start(struct fold *f)
{
    struct oracle *o = f->o;
    for (uint32_t i = 0; i < o->delivery_count; i++) {
        struct oracle_delivery *d = &o->deliveries[i];
        if (d->together != 0) {
            note_before(o, d);
            d->together = 0; /* kept in memory alone */
        }
        if (d->state == MR_STATE_IN_FLIGHT) {
            note_before(o, d);
            d->interruptions++;
            oracle_set_state(o, d, MR_STATE_WAITING);
            sim_fired[SIM_INTERRUPTED]++;
        }
    }
}

static void fold_cursor(struct fold *f, const struct mr_record *r)
{
    struct oracle *o = f->o;
    char text[64];
    unsigned n;
    if (r->body.size >= sizeof(text)) {
        FAIL(f, "a cursor of %zu bytes", r->body.size);
    }
    memcpy(text, r->body.data, r->body.size);
    text[r->body.size] = '\0';
    if (r->a != o->world->sources[SIM_CURSOR_SOURCE].id || sscanf(text, "{\"n\":%u}", &n) != 1) {
        FAIL(f, "the cursor %s of source %u", text, r->a);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!oracle_message_logged(o, SIM_CURSOR_SOURCE, i)) {
            FAIL(f, "the cursor says %u, message %u is not in the log", n, i);
        }
    }
    o->cursor = n;
}

static void fold_name(struct fold *f, const struct mr_record *r)
{
    struct oracle *o = f->o;
    if (r->b == MR_NAME_FANOUT && r->a < SIM_FANOUTS && r->body.size < sizeof(o->fanouts[0])) {
        memcpy(o->fanouts[r->a], r->body.data, r->body.size);
        o->fanouts[r->a][r->body.size] = '\0';
    }
    if (r->b != MR_NAME_SUBSCRIPTION) {
        return;
    }
    if (r->a >= ORACLE_SUBS || r->body.size >= sizeof(o->names[0])) {
        FAIL(f, "the name of subscription %u", r->a);
    }
    memcpy(o->names[r->a], r->body.data, r->body.size);
    o->names[r->a][r->body.size] = '\0';
}

/* @p names: only those; they may stand behind what they name */
static void fold_record(struct fold *f, const struct mr_record *r, bool names)
{
    if (names != (r->kind == MR_RECORD_NAME)) {
        return;
    }
    switch ((enum mr_record_kind)r->kind) {
    case MR_RECORD_EVENT:
        fold_event(f, r);
        break;
    case MR_RECORD_MATCH:
        fold_match(f, r);
        break;
    case MR_RECORD_ATTEMPT:
        oracle_fold_attempt(f, r);
        break;
    case MR_RECORD_SETTLE:
    case MR_RECORD_DEAD:
        oracle_fold_end(f, r);
        break;
    case MR_RECORD_RETRY:
        oracle_fold_retry(f, r);
        break;
    case MR_RECORD_REDRIVE:
        fold_redrive(f, r);
        break;
    case MR_RECORD_MOVED:
        oracle_fold_moved(f, r);
        break;
    case MR_RECORD_EDIT:
        fold_edit(f, r);
        break;
    case MR_RECORD_PURGE:
        fold_purge(f, r);
        break;
    case MR_RECORD_START:
        fold_start(f);
        break;
    case MR_RECORD_RESULT:
        oracle_fold_result(f, r);
        break;
    case MR_RECORD_FANOUT:
        oracle_fold_fanout(f, r);
        break;
    case MR_RECORD_JOINED:
        oracle_fold_joined(f, r);
        break;
    case MR_RECORD_WEIGHT:
        fold_weight(f, r);
        break;
    case MR_RECORD_KEY:
        fold_key(f, r);
        break;
    case MR_RECORD_CURSOR:
        fold_cursor(f, r);
        break;
    case MR_RECORD_NAME:
        fold_name(f, r);
        break;
    case MR_RECORD_LATE:
        sim_fired[SIM_STALE]++;
        break;
    case MR_RECORD_LOST:
        FAIL(f, "events %llu to %llu are named lost", LLU(r->c), LLU(r->d));
    case MR_RECORD_CONFIG:
    case MR_RECORD_OPERATOR:
    case MR_RECORD_PAUSE:
    case MR_RECORD_MARK:
    case MR_RECORD_CLOCK:
    case MR_RECORD_REMOVED:
        break;
    case MR_RECORD_MAX:
        FAIL(f, "a record of no kind");
    }
}

/* --- groups ----------------------------------------------------------------------------------- */

static void open_group(struct oracle *o, uint64_t sequence)
{
    o->groups =
        oracle_grow(o->groups, sizeof(*o->groups), o->group_count + 1, &o->group_capacity);
    struct oracle_group *group = &o->groups[o->group_count++];
    *group = (struct oracle_group){
        .sequence = sequence,
        .event_count = o->event_count,
        .delivery_count = o->delivery_count,
        .journal_at = o->journal_count,
        .cursor = o->cursor,
    };
    memcpy(group->counts, o->counts, sizeof(group->counts));
    o->submitted = sequence;
}

/* Events emitted stand in a group with the settle they belong to, and nowhere else. */
static void check_emitted(struct fold *f)
{
    oracle_check_shed(f);
    if (f->result.kind != 0) {
        FAIL(f, "group %llu ends with a result and no settle of it", LLU(f->sequence));
    }
    if (f->edited_event.kind != 0) {
        FAIL(f, "group %llu ends with an edited event that nothing has", LLU(f->sequence));
    }
    if (f->children != f->emitted) {
        FAIL(f, "group %llu settles deliveries with %u emitted events and holds %u",
             LLU(f->sequence), f->children, f->emitted);
    }
    if (f->o->spec_count == 1 && f->outcomes != f->outcomes_wanted) {
        FAIL(f, "group %llu ends deliveries with %u outcomes and holds %u", LLU(f->sequence),
             f->outcomes_wanted, f->outcomes);
    }
    for (uint32_t i = f->emitted_first; i < f->o->event_count; i++) {
        const struct oracle_event *event = &f->o->events[i];
        if (event->kind != ORACLE_EMITTED) {
            continue;
        }
        const struct oracle_emitted *emitted = &f->o->emitted[event->n];
        const struct oracle_delivery *d =
            oracle_delivery_of(f->o, emitted->sub, emitted->offset);
        if (d == NULL || d->state != MR_STATE_DONE || d->fence != emitted->fence) {
            FAIL(f, "event %llu was emitted by %u:%llu, which is not settled with it",
                 LLU(event->offset), emitted->sub, LLU(emitted->offset));
        }
    }
}

static uint32_t fold_records(struct fold *f, const uint8_t *data, uint32_t size, bool names)
{
    uint32_t records = 0;
    for (uint32_t at = MR_GROUP_HEADER_SIZE; at < size; records++) {
        struct mr_record record;
        if (mr_record_decode(data + at, size - at, &record, NULL) != MR_OK) {
            FAIL(f, "group %llu holds a damaged record at %u", LLU(f->sequence), at);
        }
        if (names) {
            sim_say(f->o->world, "  group %llu: %s offset %llu a %u b %u extra %u",
                    LLU(f->sequence), mr_record_kind_text(record.kind), LLU(record.offset),
                    record.a, record.b, record.extra);
        }
        fold_record(f, &record, names);
        at += (uint32_t)mr_record_size(record.body.size);
    }
    return records;
}

void oracle_write(struct oracle *o, const struct mr_log_request *request)
{
    if (o->write_failed) {
        sim_fail(o->world, "a group is written after a failed write");
    }
    struct mr_group_header header;
    uint64_t salt = mr_get_u64(request->buf + 8);
    if (mr_group_header_decode(request->buf, salt, &header) != MR_OK ||
        header.padded != request->size || request->at % MR_LOG_BLOCK != 0) {
        sim_fail(o->world, "a write of something that is no group");
    }
    o->submitted_before = header.first_offset - 1;
    if (o->rotten) {
        o->submitted = header.sequence;
        return;
    }
    if (header.sequence != o->submitted + 1 || header.durable > o->written ||
        header.first_offset != o->event_count + 1u) {
        sim_fail(o->world, "group %llu (durable %llu) follows %llu (written %llu)",
                 LLU(header.sequence), LLU(header.durable), LLU(o->submitted), LLU(o->written));
    }
    if (o->always && o->written != o->submitted) {
        sim_fail(o->world, "a second write is begun before the first returned");
    }
    open_group(o, header.sequence);
    struct fold fold = {
        .o = o,
        .sequence = header.sequence,
        .position = mr_position(request->number, request->at),
        .emitted_first = o->event_count,
        .log_ns = header.log_ns,
    };
    uint32_t records = fold_records(&fold, request->buf, header.size, true);
    (void)fold_records(&fold, request->buf, header.size, false); /* the same number */
    if (records != header.records || header.next_offset < o->event_count + 1u) {
        sim_fail(o->world, "group %llu says %u records up to event %llu", LLU(header.sequence),
                 header.records, LLU(header.next_offset));
    }
    check_emitted(&fold);
    oracle_check_fanouts(&fold);
}
