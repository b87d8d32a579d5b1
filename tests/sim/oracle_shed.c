/* The oracle on shedding: when, how many, which, and that each group that sheds tells of it. */
#include <stdio.h>
#include <stdlib.h>

#include "core/assert.h"
#include "oracle_internal.h"
#include "schemas/adapter.h"

/* One that waits, that the bus must have had in memory, and that ought to have gone before @p d. */
static const struct oracle_delivery *one_before(const struct fold *f,
                                                const struct oracle_delivery *d, bool newest)
{
    const struct oracle *o = f->o;
    for (uint32_t i = 0; i < o->delivery_count && !d->redriven; i++) {
        const struct oracle_delivery *other = &o->deliveries[i];
        if (other->sub != d->sub || other->state != MR_STATE_WAITING || other->redriven ||
            (newest ? other->offset <= d->offset : other->offset >= d->offset)) {
            continue;
        }
        /* The window is filled in order: what this process has matched came before what is newer. */
        const struct oracle_event *event = &o->events[other->offset - 1];
        if (event->sequence <= o->in_window[d->sub] ||
            (!newest && event->time_ns >= o->started_ns)) {
            return other;
        }
    }
    return NULL;
}

/* Whether @p s sheds @p d now. */
static bool fits(const struct fold *f, const struct oracle_delivery *d,
                 const struct sim_sub_spec *s, uint32_t max)
{
    const struct oracle_shed *shed = &f->sheds[d->sub];
    uint64_t waiting = f->o->counts[d->sub].waiting;
    bool over = waiting > max || shed->dropped > 0 || f->o->shedding[d->sub];
    return s->shed_max == max && over && waiting > s->shed_to;
}

bool oracle_is_shed(struct fold *f, const struct oracle_delivery *d,
                    const struct mr_result *result)
{
    struct oracle *o = f->o;
    char reason[64] = "";
    uint32_t max;
    uint32_t index;
    memcpy(reason, result->reason.data,
           result->reason.size < sizeof(reason) ? result->reason.size : sizeof(reason) - 1);
    if (sscanf(reason, "shed: more than %u waited", &max) != 1) {
        return false;
    }
    struct oracle_shed *shed = &f->sheds[d->sub];
    const struct sim_sub_spec *fitting = NULL;
    for (uint64_t i = 0; i < ORACLE_SPECS && i < o->spec_count && fitting == NULL; i++) {
        const struct sim_spec *spec = &o->specs[(o->spec_count - 1 - i) % ORACLE_SPECS];
        bool known = oracle_visible_index(o, d->sub, &index);
        fitting = known && fits(f, d, &spec->subs[index], max) ? &spec->subs[index] : NULL;
    }
    if (fitting == NULL || d->state != MR_STATE_WAITING) {
        FAIL(f, "%u:%llu is shed while %s, %llu wait and %u are gone", d->sub, LLU(d->offset),
             mr_state_text((enum mr_state)d->state), LLU(o->counts[d->sub].waiting),
             shed->dropped);
    }
    const struct oracle_delivery *before = one_before(f, d, fitting->shed_newest);
    if (before != NULL) {
        shed->left = before->offset;
        shed->instead = d->offset;
    }
    shed->again = shed->again || o->events[d->offset - 1].kind == ORACLE_SHED;
    shed->first = shed->dropped == 0 || d->offset < shed->first ? d->offset : shed->first;
    shed->last = d->offset > shed->last ? d->offset : shed->last;
    shed->dropped++;
    if (shed->dropped == shed->told_dropped &&
        o->counts[d->sub].waiting - 1 < shed->told_waiting) {
        FAIL(f, "event %llu says that %llu wait, %llu do", LLU(shed->told),
             LLU(shed->told_waiting), LLU(o->counts[d->sub].waiting - 1));
    }
    sim_fired[SIM_SHED]++;
    sim_fired[SIM_SHED_NEWEST] += fitting->shed_newest;
    sim_fired[SIM_SHED_AGAIN] += o->events[d->offset - 1].kind == ORACLE_SHED;
    return true;
}

/* The id of sub0 … sub7. */
static uint32_t sub_called(const struct oracle *o, char digit)
{
    const char name[] = {'s', 'u', 'b', digit, '\0'};
    uint32_t id = 0;
    while (id < ORACLE_SUBS && strcmp(o->names[id], name) != 0) {
        id++;
    }
    return id;
}

bool oracle_fold_shed(struct fold *f, struct oracle_event *event, const struct mr_record *r)
{
    if (!mr_bytes_equal(mr_event_type(r->body), MR_BYTES_LITERAL(MR_SHED_TYPE))) {
        return false;
    }
    char text[512] = "";
    struct mr_bytes data = mr_event_data(r->body);
    unsigned dropped;
    unsigned max;
    unsigned to;
    unsigned long long waiting;
    unsigned long long first;
    const char *last;
    char digit;
    memcpy(text, data.data, data.size < sizeof(text) ? data.size : sizeof(text) - 1);
    if (sscanf(text,
               "{\"subscription\":\"sub%c\",\"dropped\":%u,\"drop\":\"%*[a-z]\",\"max\":%u,"
               "\"to\":%u,\"waiting\":%llu,\"first\":{\"offset\":%llu,",
               &digit, &dropped, &max, &to, &waiting, &first) != 6 ||
        (last = strstr(text, "\"last\":{\"offset\":")) == NULL) {
        FAIL(f, "event %llu tells of shedding: %s", LLU(r->offset), text);
    }
    bool looped = mr_event_hops(r->body) > SIM_HOPS_MAX; /* a dead letter, of no cause */
    uint32_t id = sub_called(f->o, digit);
    if (id == ORACLE_SUBS || f->sheds[id].told != 0 || f->sheds[id].dropped > 0 || to >= max ||
        r->b != (looped ? UINT32_MAX : id)) {
        FAIL(f, "event %llu tells of shedding by %u, out of its turn: %s", LLU(r->offset), r->b,
             text);
    }
    struct oracle_shed *shed = &f->sheds[id];
    shed->looped = looped;
    shed->told = r->offset;
    shed->told_dropped = dropped;
    shed->told_to = to;
    shed->told_waiting = waiting;
    shed->told_first = first;
    shed->told_last = strtoull(last + strlen("\"last\":{\"offset\":"), NULL, 10);
    event->kind = ORACLE_SHED;
    return true;
}

void oracle_match_shed(struct fold *f, const struct oracle_event *event,
                       const uint8_t flags[SIM_SUBS_MAX])
{
    memcpy(f->sheds[event->cause_sub].flags, flags, SIM_SUBS_MAX);
}

/* Whether those that have the event are the ones that take it by @p spec, but for the one it tells
 * of; @p again: and for those that shed. */
static bool fits_spec(const struct fold *f, uint32_t sub, const struct sim_spec *spec, bool again)
{
    uint32_t own = SIM_SUBS_MAX;
    (void)oracle_visible_index(f->o, sub, &own); /* else it is none of these */
    for (uint32_t i = 0; i < SIM_SUBS_MAX; i++) {
        const struct sim_sub_spec *s = &spec->subs[i];
        bool goes = i < spec->sub_count && s->present && s->takes_shed && s->sources == 0 &&
                    i != own && !(again && s->shed_max > 0);
        if (f->sheds[sub].flags[i] != (goes ? 0 : UINT8_MAX)) {
            return false;
        }
    }
    return true;
}

static void check_told(struct fold *f, uint32_t sub)
{
    struct oracle *o = f->o;
    const struct oracle_shed *shed = &f->sheds[sub];
    if (shed->dropped != shed->told_dropped || shed->first != shed->told_first ||
        shed->last != shed->told_last) {
        FAIL(f, "event %llu tells of %u that %u has shed, %llu to %llu; %u are gone, %llu to %llu",
             LLU(shed->told), shed->told_dropped, sub, LLU(shed->told_first), LLU(shed->told_last),
             shed->dropped, LLU(shed->first), LLU(shed->last));
    }
    bool fit = shed->looped;
    for (uint64_t i = 0; i < ORACLE_SPECS && i < o->spec_count && !fit; i++) {
        /* After a start or a change it is not known which of what waits tells of shedding. */
        fit = fits_spec(f, sub, &o->specs[i], shed->again) ||
              (o->spec_count > 1 && fits_spec(f, sub, &o->specs[i], false));
    }
    if (!fit) {
        FAIL(f, "event %llu tells of shedding by %u and goes to the wrong ones", LLU(shed->told),
             sub);
    }
    sim_fired[SIM_SHED_LOOPED] += shed->looped;
    sim_fired[SIM_SHED_TOLD] += !shed->looped && o->events[shed->told - 1].count > 0;
    sim_fired[SIM_SHED_ON] += o->shedding[sub];
    o->shedding[sub] = shed->told_waiting > shed->told_to;
}

/* One that was left, and is still to be seen waiting: what is about to end was none of them. */
static bool waits_still(const struct fold *f, uint32_t sub, uint64_t offset)
{
    const struct oracle_delivery *d = oracle_delivery_of(f->o, sub, offset);
    struct mr_delivery_info info;
    struct mr_bus *bus = f->o->world->bus;
    return d->state == MR_STATE_WAITING && bus != NULL &&
           mr_bus_delivery_info(bus, sim_now(f->o->world), sub, offset, &info) == MR_OK &&
           info.blocked_on != MR_BLOCKED_DISK;
}

void oracle_check_shed(struct fold *f)
{
    struct oracle *o = f->o;
    struct mr_bus *bus = o->world->bus;
    for (uint32_t i = 0; i < ORACLE_SUBS; i++) {
        const struct oracle_shed *shed = &f->sheds[i];
        if (shed->dropped > 0 && shed->told == 0) {
            FAIL(f, "group %llu sheds %u of %u and does not tell of it", LLU(f->sequence),
                 shed->dropped, i);
        }
        if (shed->told != 0) {
            check_told(f, i);
        }
        if (shed->left != 0 && waits_still(f, i, shed->left)) {
            FAIL(f, "%u:%llu is shed, and %llu is left", i, LLU(shed->instead), LLU(shed->left));
        }
        if (bus != NULL && i < mr_bus_subscription_count(bus)) {
            struct mr_subscription_info info;
            mr_bus_subscription_info(bus, sim_now(o->world), i, &info);
            o->in_window[i] = info.behind == 0 ? f->sequence : o->in_window[i];
        }
    }
}
