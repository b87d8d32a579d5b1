/* The oracle's own fold: fan-outs, from the FANOUT of an event to the event that tells how it
 * ended. */
#include "oracle_internal.h"

#include <stdio.h>

#include "core/hash.h"

static struct oracle_join *join_of(struct oracle *o, uint64_t offset, uint32_t fanout)
{
    for (uint32_t i = o->join_count; i-- > 0;) {
        if (o->joins[i].offset == offset && o->joins[i].fanout == fanout) {
            return &o->joins[i];
        }
    }
    return NULL;
}

uint64_t oracle_open_joins(const struct oracle *o, uint64_t sequence)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < o->join_count; i++) {
        const struct oracle_join *join = &o->joins[i];
        count += join->opened <= sequence && (join->joined == 0 || join->joined > sequence);
    }
    return count;
}

void oracle_undo_joins(struct oracle *o, uint64_t sequence)
{
    while (o->join_count > 0 && o->joins[o->join_count - 1].opened > sequence) {
        o->join_count--;
    }
    for (uint32_t i = 0; i < o->join_count; i++) {
        o->joins[i].joined = o->joins[i].joined > sequence ? 0 : o->joins[i].joined;
    }
}

/* --- FANOUT ----------------------------------------------------------------------------------- */

void oracle_fold_fanout(struct fold *f, const struct mr_record *r)
{
    struct oracle *o = f->o;
    uint32_t count = (uint32_t)(r->body.size / 4);
    const struct oracle_event *event = oracle_event_of(o, r->offset);
    if (event == NULL || event->sequence != f->sequence || count == 0 || count > SIM_SUBS_MAX ||
        r->a >= SIM_FANOUTS || join_of(o, r->offset, r->a) != NULL) {
        FAIL(f, "a fan-out of event %llu is out of place", LLU(r->offset));
    }
    o->joins = oracle_grow(o->joins, sizeof(*o->joins), o->join_count + 1, &o->join_capacity);
    struct oracle_join *join = &o->joins[o->join_count++];
    *join = (struct oracle_join){.offset = r->offset,
                                 .due_ns = r->c,
                                 .opened = f->sequence,
                                 .fanout = r->a,
                                 .count = count};
    for (uint32_t i = 0; i < count; i++) {
        join->subs[i] = mr_get_u32(r->body.data + (size_t)i * 4);
    }
    sim_fired[SIM_FANOUT]++;
}

/* What fan-out @p n of @p spec, called @p id in the log, wants of @p event: the members that it
 * matched. */
static bool fits(struct oracle *o, const struct sim_spec *spec, uint32_t n,
                 const struct oracle_event *event)
{
    char name[8] = {'f', 'a', 'n', (char)('0' + n), '\0'};
    uint32_t id = 0;
    while (id < SIM_FANOUTS && strcmp(o->fanouts[id], name) != 0) {
        id++;
    }
    const struct oracle_join *join = id < SIM_FANOUTS ? join_of(o, event->offset, id) : NULL;
    bool own = event->kind == ORACLE_JOINED && event->n == id;
    uint32_t members = 0;
    bool all = true;
    for (uint32_t i = 0; i < event->count; i++) {
        uint32_t sub = o->deliveries[event->first + i].sub;
        uint32_t index;
        if (!oracle_visible_index(o, sub, &index) || spec->fanout_of[index] != n + 1 || own) {
            continue;
        }
        members++;
        bool found = false;
        for (uint32_t k = 0; join != NULL && k < join->count; k++) {
            found = found || join->subs[k] == sub;
        }
        all = all && found;
    }
    uint64_t within = spec->within_ns[n];
    return join == NULL ? members == 0
                        : all && members == join->count &&
                              join->due_ns >= event->time_ns + within &&
                              join->due_ns <= event->time_ns + within;
}

/* Every event of the group that matched members waits for these, and for no others. */
void oracle_check_fanouts(struct fold *f)
{
    struct oracle *o = f->o;
    for (uint32_t i = f->emitted_first; i < o->event_count; i++) {
        const struct oracle_event *event = &o->events[i];
        bool good = event->rejected;
        for (uint64_t k = 0; k < ORACLE_SPECS && k < o->spec_count && !good; k++) {
            const struct sim_spec *spec = &o->specs[(o->spec_count - 1 - k) % ORACLE_SPECS];
            good = true;
            for (uint32_t n = 0; n < SIM_FANOUTS; n++) {
                good = good && fits(o, spec, n, event);
            }
        }
        if (!good) {
            FAIL(f, "event %llu opens fan-outs that no configuration makes", LLU(event->offset));
        }
    }
    if (f->joined_event.kind != 0) {
        FAIL(f, "event %llu tells how a fan-out ended, which the log does not say",
             LLU(f->joined_event.offset));
    }
}

/* --- JOINED ----------------------------------------------------------------------------------- */

void oracle_joined_event(struct fold *f, const struct mr_record *r)
{
    if (f->joined_event.kind != 0) {
        FAIL(f, "event %llu tells how a fan-out ended, which the log does not say",
             LLU(f->joined_event.offset));
    }
    f->joined_event = *r;
}

static bool holds(struct mr_bytes data, const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i + n <= data.size; i++) {
        if (memcmp(data.data + i, text, n) == 0) {
            return true;
        }
    }
    return false;
}

/* The result of @p d as it was answered, when it is small enough to be told. */
static void check_told_result(struct fold *f, const struct oracle_delivery *d,
                              struct mr_bytes data, const char *before)
{
    const struct oracle_answer *a = oracle_answer_of(f->o, d->sub, d->offset, d->first_fence);
    char text[128];
    (void)snprintf(text, sizeof(text), "%s,\"result\":", before); /* short */
    bool wanted = d->first_end == MR_STATE_DONE && a->result_size > 0 &&
                  a->result_size <= 200; /* larger ones may be left out with others */
    if (wanted != holds(data, text) && (wanted || a->result_size <= 200)) {
        FAIL(f, "the result of %u:%llu is %s", d->sub, LLU(d->offset),
             wanted ? "not told" : "told, and there is none");
    }
    sim_fired[SIM_JOINED_RESULT] += wanted;
}

void oracle_fold_joined(struct fold *f, const struct mr_record *r)
{
    struct oracle *o = f->o;
    struct oracle_join *join = join_of(o, r->offset, r->a);
    const struct mr_record *told = &f->joined_event;
    char id[48];
    (void)snprintf(id, sizeof(id), "%s:%llu:completed", o->fanouts[r->a % SIM_FANOUTS],
                   LLU(r->offset)); /* fits: short names */
    if (join == NULL || join->joined != 0 || told->kind == 0 ||
        !mr_bytes_equal(mr_event_id(told->body), mr_bytes_of(id))) {
        FAIL(f, "the end of fan-out %u of event %llu is out of place", r->a, LLU(r->offset));
    }
    struct mr_bytes data = mr_event_data(told->body);
    bool complete = true;
    for (uint32_t i = 0; i < join->count; i++) {
        const struct oracle_delivery *d = oracle_delivery_of(o, join->subs[i], join->offset);
        bool ended = d->first_end != MR_STATE_NONE;
        char text[128];
        (void)snprintf(text, sizeof(text), "\"%s\":{\"state\":\"%s\",\"attempts\":%u",
                       o->names[d->sub],
                       mr_state_text(ended ? (enum mr_state)d->first_end : MR_STATE_WAITING),
                       ended ? d->first_attempts : d->attempts); /* short names */
        if (!holds(data, text)) {
            FAIL(f, "fan-out %u of event %llu does not say %s: %.*s", r->a, LLU(r->offset), text,
                 (int)data.size, (const char *)data.data);
        }
        if (ended) {
            check_told_result(f, d, data, text);
        }
        complete = complete && ended;
    }
    uint64_t open = oracle_open_joins(o, f->sequence);
    uint64_t most = o->world->options.fanouts_open_max;
    bool is_short = o->world->options.memory_state < MR_MIB; /* they have a quarter of it */
    bool over = join->due_ns <= f->log_ns || (most != 0 && open > most) || is_short;
    if (holds(data, "\"complete\":true") != complete || (!complete && !over)) {
        FAIL(f, "fan-out %u of event %llu is told, all of it %s ended and %llu are open", r->a,
             LLU(r->offset), complete ? "has" : "has not", LLU(open));
    }
    sim_fired[complete                  ? SIM_JOINED
              : join->due_ns <= f->log_ns ? SIM_JOIN_DUE
                                        : SIM_JOIN_GAVE_WAY]++;
    join->joined = f->sequence;
    f->joined_event = (struct mr_record){0};
}
