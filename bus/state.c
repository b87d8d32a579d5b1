/* The state of deliveries: lanes, lists, timers, counts. The same calls serve the live bus (after
 * a record was logged) and recovery (after it was read). None of them logs or reads anything. */
#include "bus/internal.h"

#include <stdlib.h>

#include "core/alloc.h"
#include "core/hash.h"

#define AGE_SEARCH 64u /* places looked at for one that comes out of turn */
#define DELIVERY_COST (sizeof(struct mr__delivery) + 64u)

/* --- lists and names -------------------------------------------------------------------------- */

void mr__list_push(struct mr__list *list, struct mr__delivery *d)
{
    MR_ASSERT(d->list == NULL);
    d->list = list;
    d->next = NULL;
    d->prev = list->last;
    if (list->last != NULL) {
        list->last->next = d;
    } else {
        list->first = d;
    }
    list->last = d;
    list->count++;
}

void mr__list_remove(struct mr__delivery *d)
{
    struct mr__list *list = d->list;
    if (list == NULL) {
        return;
    }
    if (d->prev != NULL) {
        d->prev->next = d->next;
    } else {
        list->first = d->next;
    }
    if (d->next != NULL) {
        d->next->prev = d->prev;
    } else {
        list->last = d->prev;
    }
    MR_ASSERT(list->count > 0);
    list->count--;
    d->list = NULL;
    d->next = NULL;
    d->prev = NULL;
}

static uint64_t name_key(enum mr_name_kind kind, const char *name)
{
    return mr_hash_u64(mr_hash(name, strlen(name)) + (uint64_t)kind + 1) | 1;
}

static const char *name_of(const struct mr_bus *bus, enum mr_name_kind kind, uint64_t id)
{
    return kind == MR_NAME_SUBSCRIPTION ? bus->subs[id]->name
           : kind == MR_NAME_SOURCE     ? bus->sources[id]->name
                                        : bus->targets[id]->name;
}

uint32_t mr__name_find(const struct mr_bus *bus, enum mr_name_kind kind, const char *name)
{
    uint64_t value;
    uint64_t key = name_key(kind, name);
    while (mr_map_get(&bus->names, key, &value)) {
        if (strcmp(name_of(bus, kind, value - 1), name) == 0) {
            return (uint32_t)(value - 1);
        }
        key += 2; /* two names with one hash: the next odd key */
    }
    return UINT32_MAX;
}

void mr__name_enter(struct mr_bus *bus, enum mr_name_kind kind, uint32_t id, const char *name)
{
    uint64_t key = name_key(kind, name);
    uint64_t taken;
    while (mr_map_get(&bus->names, key, &taken)) {
        key += 2;
    }
    mr_map_set(&bus->names, key, (uint64_t)id + 1);
}

/* Adds @p object to an array of pointers by id, and its name to the table. */
static bool add_named(struct mr_bus *bus, enum mr_name_kind kind, const char *name, void *object,
                      void ***array, uint32_t *count)
{
    void **grown = mr_realloc(*array, (*count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    *array = grown;
    if (mr_map_reserve(&bus->names, 1) != MR_OK) {
        return false;
    }
    grown[*count] = object;
    mr__name_enter(bus, kind, (*count)++, name);
    return true;
}

struct mr__sub *mr__sub_add(struct mr_bus *bus, const char *name)
{
    struct mr__sub *sub = mr_calloc(1, sizeof(*sub));
    char *copy = mr_strdup(name);
    void **array = (void **)bus->subs;
    if (sub == NULL || copy == NULL) {
        goto failed;
    }
    sub->id = bus->sub_count;
    sub->name = copy;
    sub->live = true;
    sub->ingest = strncmp(name, "ingest:", 7) == 0;
    bool added = add_named(bus, MR_NAME_SUBSCRIPTION, name, sub, &array, &bus->sub_count);
    bus->subs = (struct mr__sub **)array;
    if (added) {
        return sub;
    }
failed:
    mr_free(copy);
    mr_free(sub);
    return NULL;
}

struct mr__target *mr__target_add(struct mr_bus *bus, const char *name)
{
    struct mr__target *target = mr_calloc(1, sizeof(*target));
    char *copy = mr_strdup(name);
    void **array = (void **)bus->targets;
    if (target == NULL || copy == NULL) {
        goto failed;
    }
    target->id = bus->target_count;
    target->name = copy;
    bool added = add_named(bus, MR_NAME_TARGET, name, target, &array, &bus->target_count);
    bus->targets = (struct mr__target **)array;
    if (added) {
        return target;
    }
failed:
    mr_free(copy);
    mr_free(target);
    return NULL;
}

struct mr__source *mr__source_add(struct mr_bus *bus, const char *name)
{
    struct mr__source *source = mr_calloc(1, sizeof(*source));
    char *copy = mr_strdup(name);
    void **array = (void **)bus->sources;
    if (source == NULL || copy == NULL) {
        goto failed;
    }
    source->id = bus->source_count;
    source->name = copy;
    source->index = -1;
    source->ingest_sub = UINT32_MAX;
    bool added = add_named(bus, MR_NAME_SOURCE, name, source, &array, &bus->source_count);
    bus->sources = (struct mr__source **)array;
    if (added) {
        return source;
    }
failed:
    mr_free(copy);
    mr_free(source);
    return NULL;
}

/* --- segments that are needed ----------------------------------------------------------------- */

struct mr__segment *mr__segment_of(struct mr_bus *bus, uint64_t position)
{
    uint64_t number = mr_position_segment(position);
    uint32_t low = 0;
    uint32_t high = bus->segment_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (bus->segments[mid].number < number) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < bus->segment_count && bus->segments[low].number == number ? &bus->segments[low]
                                                                           : NULL;
}

void mr__segment_live(struct mr_bus *bus, uint64_t position, int64_t change)
{
    struct mr__segment *segment = position == 0 ? NULL : mr__segment_of(bus, position);
    if (segment != NULL) {
        MR_ASSERT(change > 0 || segment->live > 0);
        segment->live += (uint64_t)change;
        if (change < 0) {
            segment->freed_sequence = bus->next_sequence; /* the stage's, at the latest */
        }
    }
}

/* --- timers: one binary heap by (time, subscription, offset) ---------------------------------- */

static bool earlier(const struct mr__delivery *a, const struct mr__delivery *b)
{
    if (a->timer_ns != b->timer_ns) {
        return a->timer_ns < b->timer_ns;
    }
    return a->sub->id != b->sub->id ? a->sub->id < b->sub->id : a->offset < b->offset;
}

static void heap_put(struct mr_bus *bus, uint32_t at, struct mr__delivery *d)
{
    bus->heap[at] = d;
    d->heap_at = at;
}

static void heap_up(struct mr_bus *bus, uint32_t at)
{
    struct mr__delivery *d = bus->heap[at];
    while (at > 0 && earlier(d, bus->heap[(at - 1) / 2])) {
        heap_put(bus, at, bus->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(bus, at, d);
}

static void heap_down(struct mr_bus *bus, uint32_t at)
{
    struct mr__delivery *d = bus->heap[at];
    for (;;) {
        uint32_t child = at * 2 + 1;
        if (child >= bus->heap_count) {
            break;
        }
        if (child + 1 < bus->heap_count && earlier(bus->heap[child + 1], bus->heap[child])) {
            child++;
        }
        if (!earlier(bus->heap[child], d)) {
            break;
        }
        heap_put(bus, at, bus->heap[child]);
        at = child;
    }
    heap_put(bus, at, d);
}

void mr__timer_clear(struct mr_bus *bus, struct mr__delivery *d)
{
    uint32_t at = d->heap_at;
    if (at == NO_HEAP) {
        return;
    }
    MR_ASSERT(bus->heap[at] == d);
    d->heap_at = NO_HEAP;
    struct mr__delivery *last = bus->heap[--bus->heap_count];
    if (last != d) {
        heap_put(bus, at, last);
        heap_up(bus, at);
        heap_down(bus, last->heap_at);
    }
}

uint64_t mr__expiry(const struct mr_bus *bus, const struct mr__delivery *d)
{
    const struct mr_subscription_config *conf = d->sub->conf;
    uint64_t expiry = d->expires_ns == 0 ? UINT64_MAX : d->expires_ns;
    if (conf != NULL && conf->max_age_ns != 0) {
        uint64_t age_end;
        if (__builtin_add_overflow(d->arrival_ns, conf->max_age_ns, &age_end)) {
            age_end = UINT64_MAX;
        }
        expiry = age_end < expiry ? age_end : expiry;
    }
    if (d->sub->removed_log_ns != 0 && d->sub->removed_log_ns + REMOVED_KEEP_NS < expiry) {
        expiry = d->sub->removed_log_ns + REMOVED_KEEP_NS;
    }
    return bus->clock_frozen ? UINT64_MAX : expiry;
}

/* The one moment at which something happens to d by itself; room in the heap was reserved. */
void mr__timer_set(struct mr_bus *bus, struct mr__delivery *d)
{
    uint64_t when = UINT64_MAX;
    switch ((enum mr__where)d->where) {
    case MR__READY:
    case MR__BLOCKED:
    case MR__HELD:
        when = mr__expiry(bus, d);
        break;
    case MR__WAITING:
        when = mr__expiry(bus, d);
        when = d->due_ns < when ? d->due_ns : when;
        break;
    case MR__FLIGHT:
        when = d->lease_ns;
        break;
    case MR__ARMED:
    case MR__QUEUED:
    case MR__ENDING:
    case MR__WHERE_MAX:
        break;
    }
    mr__timer_clear(bus, d);
    if (when != UINT64_MAX) {
        MR_ASSERT(bus->heap_count < bus->heap_capacity);
        d->timer_ns = when;
        bus->heap[bus->heap_count] = d;
        d->heap_at = bus->heap_count++;
        heap_up(bus, d->heap_at);
    }
}

/* --- turns and lanes -------------------------------------------------------------------------- */

void mr__turn_add(struct mr__sub *sub)
{
    struct mr__target *target = sub->target;
    if (sub->on_turn || target == NULL || sub->ready.count == 0) {
        return;
    }
    sub->on_turn = true;
    sub->turn_next = NULL;
    if (target->turn_last != NULL) {
        target->turn_last->turn_next = sub;
    } else {
        target->turn_first = sub;
    }
    target->turn_last = sub;
}

void mr__set_where(struct mr__delivery *d, enum mr__where where)
{
    struct mr__sub *sub = d->sub;
    if (d->ramp) {
        d->ramp = false;
        sub->ramp_count--;
    }
    MR_ASSERT(sub->where_count[d->where] > 0);
    sub->where_count[d->where]--;
    sub->where_count[where]++;
    d->where = (uint8_t)where;
}

/* Waiting because a start lets go only so many at once; until its place changes. */
void mr__set_ramp(struct mr__delivery *d)
{
    if (d->where == MR__WAITING && !d->ramp) {
        d->ramp = true;
        d->sub->ramp_count++;
    }
}

/* By age: nearly always the newest; one that is redriven is among the oldest. */
static void age_insert(struct mr__sub *sub, struct mr__delivery *d)
{
    struct mr__delivery *after = sub->newest;
    if (sub->oldest != NULL && d->offset < sub->oldest->offset) {
        after = NULL;
    }
    for (uint32_t i = 0; after != NULL && after->offset > d->offset && i < AGE_SEARCH; i++) {
        after = after->older;
    }
    d->older = after;
    d->newer = after == NULL ? sub->oldest : after->newer;
    *(d->older == NULL ? &sub->oldest : &d->older->newer) = d;
    *(d->newer == NULL ? &sub->newest : &d->newer->older) = d;
}

static void age_remove(struct mr__sub *sub, struct mr__delivery *d)
{
    *(d->older == NULL ? &sub->oldest : &d->older->newer) = d->newer;
    *(d->newer == NULL ? &sub->newest : &d->newer->older) = d->older;
}

static void make_ready(struct mr_bus *bus, struct mr__delivery *d)
{
    mr__set_where(d, MR__READY);
    mr__list_push(&d->sub->ready, d);
    mr__turn_add(d->sub);
    mr__timer_set(bus, d);
}

static struct mr__lane *lane_find(const struct mr__sub *sub, uint64_t key)
{
    uint64_t value;
    return mr_map_get(&sub->lanes, key, &value) ? (struct mr__lane *)(uintptr_t)value : NULL;
}

/* Puts d into its lane by offset: at the end, except for what is redriven. @return true when d is
 * the head */
static bool lane_insert(struct mr__lane *lane, struct mr__delivery *d)
{
    struct mr__delivery *after = lane->last;
    while (after != NULL && after->offset > d->offset && !mr__is_begun(after)) {
        after = after->lane_prev;
    }
    d->lane = lane;
    d->lane_prev = after;
    d->lane_next = after == NULL ? lane->first : after->lane_next;
    if (d->lane_next != NULL) {
        d->lane_next->lane_prev = d;
    } else {
        lane->last = d;
    }
    if (after != NULL) {
        after->lane_next = d;
    } else {
        lane->first = d;
    }
    return after == NULL;
}

static void lane_leave(struct mr_bus *bus, struct mr__delivery *d)
{
    struct mr__lane *lane = d->lane;
    if (lane == NULL) {
        return;
    }
    bool was_head = lane->first == d;
    if (d->lane_prev != NULL) {
        d->lane_prev->lane_next = d->lane_next;
    } else {
        lane->first = d->lane_next;
    }
    if (d->lane_next != NULL) {
        d->lane_next->lane_prev = d->lane_prev;
    } else {
        lane->last = d->lane_prev;
    }
    d->lane = NULL;
    d->lane_next = NULL;
    d->lane_prev = NULL;
    if (lane->first == NULL) {
        bool removed = mr_map_remove(&d->sub->lanes, lane->key);
        MR_ASSERT(removed);
        d->sub->window_bytes -= sizeof(*lane);
        bus->state_bytes -= sizeof(*lane);
        mr_free(lane);
    } else if (was_head && lane->first->where == MR__BLOCKED) {
        make_ready(bus, lane->first);
    }
}

/* --- a delivery's life ------------------------------------------------------------------------ */

bool mr__is_begun(const struct mr__delivery *d)
{
    return d->where == MR__ARMED || d->where == MR__QUEUED || d->where == MR__FLIGHT;
}

struct mr__delivery *mr__delivery_find(const struct mr__sub *sub, uint64_t offset)
{
    uint64_t value;
    return mr_map_get(&sub->deliveries, offset, &value) ? (struct mr__delivery *)(uintptr_t)value
                                                        : NULL;
}

bool mr__order_fits(const struct mr__sub *sub, uint16_t epoch)
{
    return sub->deliveries.count == 0 || sub->window_epoch == epoch || MR_PLANTED(NO_BARRIER);
}

bool mr__window_has_room(const struct mr_bus *bus, const struct mr__sub *sub, uint16_t epoch)
{
    uint64_t window = sub->conf == NULL ? 0 : sub->conf->window_size;
    return mr__order_fits(sub, epoch) && sub->window_bytes + DELIVERY_COST <= window &&
           bus->state_bytes + DELIVERY_COST <= bus->options.memory_state;
}

static enum mr_status reserve_heap(struct mr_bus *bus, uint64_t count)
{
    if (count <= bus->heap_capacity) {
        return MR_OK;
    }
    uint64_t capacity = bus->heap_capacity == 0 ? 64 : bus->heap_capacity;
    while (capacity < count) {
        capacity *= 2;
    }
    struct mr__delivery **grown = mr_realloc(bus->heap, capacity * sizeof(struct mr__delivery *));
    if (grown == NULL || capacity > UINT32_MAX) {
        return MR_E_NOMEM;
    }
    bus->heap = grown;
    bus->heap_capacity = (uint32_t)capacity;
    return MR_OK;
}

/* Settled deliveries go to a free list and are used again; their number is bounded by
 * memory_state. */
static enum mr_status reserve_deliveries(struct mr_bus *bus, uint64_t count)
{
    while (bus->free_delivery_count < count) {
        struct mr__delivery *d = mr_calloc(1, sizeof(*d));
        if (d == NULL) {
            return MR_E_NOMEM;
        }
        d->next = bus->free_deliveries;
        bus->free_deliveries = d;
        bus->free_delivery_count++;
    }
    return MR_OK;
}

enum mr_status mr__state_reserve(struct mr_bus *bus, struct mr__sub *sub, uint64_t deliveries)
{
    enum mr_status r = reserve_deliveries(bus, deliveries);
    if (r == MR_OK) {
        r = reserve_heap(bus, bus->delivery_count + deliveries);
    }
    if (r == MR_OK) {
        r = mr_map_reserve(&sub->deliveries, deliveries);
    }
    if (r == MR_OK) {
        r = mr_map_reserve(&sub->lanes, deliveries);
    }
    return r;
}

static void free_delivery(struct mr_bus *bus, struct mr__delivery *d)
{
    mr__timer_clear(bus, d);
    mr__list_remove(d);
    if (d->in_stage) {
        mr__stage_forget(bus, d);
    } else {
        mr__segment_live(bus, d->position, -1);
    }
    mr_event_unref(d->event);
    if (d->notes != NULL) {
        d->sub->window_bytes -= d->notes->capacity;
        bus->state_bytes -= d->notes->capacity;
        mr_free(d->notes);
    }
    if (d->ending != NULL) {
        mr_buf_release(&d->ending->result);
        mr_free(d->ending->result_json);
        mr_free(d->ending);
    }
    bool removed = mr_map_remove(&d->sub->deliveries, d->offset);
    MR_ASSERT(removed);
    age_remove(d->sub, d);
    d->sub->ramp_count -= d->ramp;
    d->sub->where_count[d->where]--;
    d->sub->window_bytes -= DELIVERY_COST;
    bus->state_bytes -= DELIVERY_COST;
    bus->delivery_count--;
    memset(d, 0, sizeof(*d));
    d->next = bus->free_deliveries;
    bus->free_deliveries = d;
    bus->free_delivery_count++;
}

enum mr_status mr__state_reserve_total(struct mr_bus *bus, uint64_t more)
{
    enum mr_status r = reserve_deliveries(bus, more);
    return r == MR_OK ? reserve_heap(bus, bus->delivery_count + more) : r;
}

struct mr__delivery *mr__state_load(struct mr_bus *bus, struct mr__sub *sub, uint64_t offset,
                                    uint64_t lane_key, uint64_t position, uint32_t size,
                                    uint64_t arrival_ns)
{
    struct mr__lane *lane = lane_key == 0 ? NULL : lane_find(sub, lane_key);
    if (lane_key != 0 && lane == NULL) {
        lane = mr_calloc(1, sizeof(*lane));
        if (lane == NULL) {
            return NULL;
        }
        lane->key = lane_key;
        mr_map_set(&sub->lanes, lane_key, (uint64_t)(uintptr_t)lane);
        sub->window_bytes += sizeof(*lane);
        bus->state_bytes += sizeof(*lane);
    }
    struct mr__delivery *d = bus->free_deliveries;
    MR_ASSERT(d != NULL);
    bus->free_deliveries = d->next;
    bus->free_delivery_count--;
    *d = (struct mr__delivery){
        .sub = sub,
        .offset = offset,
        .position = position,
        .size = size,
        .arrival_ns = arrival_ns,
        .heap_at = NO_HEAP,
    };
    mr_map_set(&sub->deliveries, offset, (uint64_t)(uintptr_t)d);
    sub->where_count[d->where]++;
    age_insert(sub, d);
    sub->window_bytes += DELIVERY_COST;
    bus->state_bytes += DELIVERY_COST;
    bus->delivery_count++;
    bool head = lane == NULL || lane_insert(lane, d) || MR_PLANTED(LANE_OVERTAKES);
    if (!head) {
        mr__set_where(d, MR__BLOCKED);
        mr__timer_set(bus, d);
        return d;
    }
    if (d->lane_next != NULL && d->lane_next->where == MR__READY) {
        /* A redriven delivery goes before what waits: the lane has a new head. */
        mr__list_remove(d->lane_next);
        mr__set_where(d->lane_next, MR__BLOCKED);
        mr__timer_set(bus, d->lane_next);
    }
    make_ready(bus, d);
    return d;
}

void mr__state_begin(struct mr_bus *bus, struct mr__delivery *d, uint32_t fence)
{
    MR_ASSERT(!mr__is_begun(d));
    MR_ASSERT(fence > d->fence);
    mr__list_remove(d);
    d->fence = fence;
    mr__set_where(d, MR__ARMED);
    d->timed_out = false;
    d->sub->begun++;
    mr__timer_set(bus, d);
}

static void leave_begun(struct mr_bus *bus, struct mr__delivery *d)
{
    if (d->where == MR__HELD) {
        MR_ASSERT(d->sub->counts.held > 0);
        d->sub->counts.held--;
    }
    if (mr__is_begun(d)) {
        MR_ASSERT(d->sub->begun > 0);
        d->sub->begun--;
        d->sub->in_flight -= d->where == MR__FLIGHT;
        if (d->where != MR__FLIGHT && d->sub->target != NULL && !bus->recovering) {
            MR_ASSERT(d->sub->target->armed > 0);
            d->sub->target->armed--;
        }
    }
    mr__list_remove(d);
    mr_event_unref(d->event);
    d->event = NULL;
}

void mr__state_wait(struct mr_bus *bus, struct mr__delivery *d, uint64_t due_ns)
{
    leave_begun(bus, d);
    d->due_ns = due_ns;
    if (d->lane != NULL && d->lane->first != d) {
        mr__set_where(d, MR__BLOCKED); /* only a redriven one can have got before it */
        mr__timer_set(bus, d);
    } else if (due_ns == 0) {
        make_ready(bus, d);
    } else {
        mr__set_where(d, MR__WAITING);
        mr__timer_set(bus, d);
    }
}

void mr__state_hold(struct mr_bus *bus, struct mr__delivery *d)
{
    leave_begun(bus, d);
    mr__set_where(d, MR__HELD);
    d->sub->counts.held++;
    mr__timer_set(bus, d);
}

void mr__state_ending(struct mr_bus *bus, struct mr__delivery *d, struct mr__ending *end)
{
    end->where = d->where;
    leave_begun(bus, d); /* its place in the lane stays */
    mr__set_where(d, MR__ENDING);
    d->ending = end;
    mr__timer_set(bus, d);
}

void mr__count_end(struct mr__sub *sub, enum mr_state state)
{
    switch (state) {
    case MR_STATE_DONE:
        sub->counts.done++;
        break;
    case MR_STATE_DEAD:
        sub->counts.dead++;
        break;
    case MR_STATE_DROPPED:
        sub->counts.dropped++;
        break;
    case MR_STATE_EXPIRED:
        sub->counts.expired += MR_PLANTED(EXPIRED_TWICE) ? 2 : 1;
        break;
    case MR_STATE_LOST:
        sub->counts.lost++;
        break;
    case MR_STATE_NONE:
    case MR_STATE_WAITING:
    case MR_STATE_IN_FLIGHT:
    case MR_STATE_HELD:
    case MR_STATE_MAX:
        MR_ASSERT(state == MR_STATE_DONE); /* not an end: a bug of ours */
    }
}

void mr__skip_behind(struct mr__sub *sub, uint64_t offset)
{
    if (!sub->live && offset >= sub->cursor_offset &&
        mr_map_reserve(&sub->skip, 1) == MR_OK) { /* memory short: it is found settled, or runs
                                                     again, which recovery is allowed */
        mr_map_set(&sub->skip, offset, 1);
    }
}

void mr__state_end(struct mr_bus *bus, struct mr__delivery *d, enum mr_state state)
{
    struct mr__sub *sub = d->sub;
    uint64_t settled;
    if (d->lane != NULL && mr_map_get(&sub->dead_lanes, d->lane->key, &settled) &&
        state != MR_STATE_DEAD) {
        mr_map_set(&sub->dead_lanes, d->lane->key, settled + 1);
    }
    mr__skip_behind(sub, d->offset);
    leave_begun(bus, d);
    mr__count_end(sub, state);
    lane_leave(bus, d);
    free_delivery(bus, d);
    mr__turn_add(sub);
}

/* --- dead letters ----------------------------------------------------------------------------- */

enum mr_status mr__state_reserve_dead(struct mr__sub *sub)
{
    return mr__state_reserve_dead_more(sub, 1);
}

enum mr_status mr__state_reserve_dead_more(struct mr__sub *sub, uint64_t more)
{
    enum mr_status r = mr_map_reserve(&sub->dead_lanes, more);
    if (r != MR_OK || sub->dead_count + more <= sub->dead_capacity) {
        return r;
    }
    uint64_t capacity = sub->dead_capacity * 2 + more + 8;
    struct mr__dead *grown = mr_realloc(sub->dead, capacity * sizeof(*grown));
    if (grown == NULL) {
        return MR_E_NOMEM;
    }
    sub->dead = grown;
    sub->dead_capacity = capacity;
    return MR_OK;
}

/* Index of the first dead letter at or past @p offset. */
static uint64_t dead_lower(const struct mr__sub *sub, uint64_t offset)
{
    uint64_t low = 0;
    uint64_t high = sub->dead_count;
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        if (sub->dead[mid].letter.offset < offset) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

int64_t mr__dead_find(const struct mr__sub *sub, uint64_t offset)
{
    uint64_t at = dead_lower(sub, offset);
    return at < sub->dead_count && sub->dead[at].letter.offset == offset ? (int64_t)at : -1;
}

void mr__state_add_dead(struct mr_bus *bus, struct mr__sub *sub, const struct mr_dead_letter *l)
{
    MR_ASSERT(sub->dead_count < sub->dead_capacity);
    uint64_t at = dead_lower(sub, l->offset);
    memmove(sub->dead + at + 1, sub->dead + at, (sub->dead_count - at) * sizeof(*sub->dead));
    sub->dead_count++;
    uint64_t settled = 0;
    if (l->lane != 0 && !mr_map_get(&sub->dead_lanes, l->lane, &settled)) {
        mr_map_set(&sub->dead_lanes, l->lane, 0);
    }
    sub->dead[at] = (struct mr__dead){.letter = *l, .later_before = settled};
    bus->state_bytes += sizeof(*sub->dead);
    mr__segment_live(bus, l->event_position, 1);
    mr__segment_live(bus, l->record_position, 1);
}

uint64_t mr__dead_later(const struct mr__sub *sub, const struct mr__dead *dead)
{
    uint64_t settled = 0;
    if (dead->letter.lane == 0 || !mr_map_get(&sub->dead_lanes, dead->letter.lane, &settled)) {
        return 0;
    }
    return settled - dead->later_before;
}

void mr__state_remove_dead(struct mr_bus *bus, struct mr__sub *sub, uint64_t at)
{
    MR_ASSERT(at < sub->dead_count);
    struct mr_dead_letter letter = sub->dead[at].letter;
    sub->dead_count--;
    memmove(sub->dead + at, sub->dead + at + 1, (sub->dead_count - at) * sizeof(*sub->dead));
    bus->state_bytes -= sizeof(*sub->dead);
    mr__segment_live(bus, letter.event_position, -1);
    mr__segment_live(bus, letter.record_position, -1);
    if (sub->dead_count == 0) {
        mr_map_release(&sub->dead_lanes);
    }
}

/* --- notes of earlier attempts ---------------------------------------------------------------- */

void mr__note_add(struct mr_bus *bus, struct mr__delivery *d, uint32_t fence, uint64_t started,
                  uint64_t ended,
                  const struct mr_result *result)
{
    struct mr_result small = *result;
    small.stderr_tail = mr_bytes(NULL, 0); /* it stays in the RETRY record */
    struct mr_buf buf;
    mr_buf_init(&buf, NOTES_SIZE_MAX);
    uint8_t head[24] = {0};
    mr_put_u32(head + 4, fence);
    mr_put_u64(head + 8, started);
    mr_put_u64(head + 16, ended);
    uint32_t have = d->notes == NULL ? 0 : d->notes->size;
    if (mr_buf_append(&buf, head, sizeof(head)) == MR_OK &&
        mr_result_encode(&small, &buf) == MR_OK && have + buf.size <= NOTES_SIZE_MAX) {
        mr_put_u32(buf.data, (uint32_t)buf.size - 4);
        uint32_t need = have + (uint32_t)buf.size;
        uint32_t capacity = (uint32_t)mr_round_up(need, 128);
        struct mr__notes *grown = mr_realloc(d->notes, sizeof(*grown) + capacity);
        /* Memory short or too many: the attempt is still in the log, only not in the summary. */
        if (grown != NULL) {
            uint32_t before = d->notes == NULL ? 0 : grown->capacity;
            d->notes = grown;
            memcpy(grown->data + have, buf.data, buf.size);
            grown->size = need;
            grown->capacity = capacity;
            d->sub->window_bytes += capacity - before;
            bus->state_bytes += capacity - before;
        }
    }
    mr_buf_release(&buf);
}

/* --- a start ---------------------------------------------------------------------------------- */

/* When the nth interrupted delivery may go again: 200 in the first second, twice as many in each
 * one after, so that a start does not become a storm. Integer arithmetic: the same everywhere. */
static uint64_t ramp_due(uint64_t log_ns, uint64_t n)
{
    uint64_t second = 0;
    uint64_t rate = RAMP_FIRST_PER_S;
    while (n >= rate && second < 30) {
        n -= rate;
        rate *= 2;
        second++;
    }
    return log_ns + second * MR_SECOND + n * (MR_SECOND / rate);
}

static int by_offset(const void *a, const void *b)
{
    const struct mr__delivery *const *x = a;
    const struct mr__delivery *const *y = b;
    return (*x)->offset < (*y)->offset ? -1 : (*x)->offset > (*y)->offset;
}

/* The begun deliveries of @p sub in order of offset. */
static enum mr_status collect_begun(const struct mr__sub *sub, struct mr__delivery ***ret_begun)
{
    struct mr__delivery **begun = mr_alloc(sub->begun * sizeof(struct mr__delivery *));
    if (begun == NULL) {
        return MR_E_NOMEM;
    }
    uint64_t count = 0;
    for (uint64_t k = 0; k < sub->deliveries.capacity; k++) {
        struct mr_map_slot slot = sub->deliveries.slots[k];
        struct mr__delivery *d = (struct mr__delivery *)(uintptr_t)slot.value;
        if (slot.key != 0 && mr__is_begun(d)) {
            MR_ASSERT(count < sub->begun);
            begun[count++] = d;
        }
    }
    MR_ASSERT(count == sub->begun);
    qsort(begun, count, sizeof(struct mr__delivery *), by_offset);
    *ret_begun = begun;
    return MR_OK;
}

enum mr_status mr__state_interrupt_all(struct mr_bus *bus, uint64_t log_ns, uint64_t *ret_count)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        struct mr__sub *sub = bus->subs[i];
        struct mr__delivery **begun = NULL;
        uint64_t count = sub->begun;
        if (count == 0) {
            continue;
        }
        enum mr_status r = collect_begun(sub, &begun);
        if (r != MR_OK) {
            return r;
        }
        for (uint64_t k = 0; k < count; k++) {
            struct mr__delivery *d = begun[k];
            d->attempts = (uint16_t)(d->attempts + MR_PLANTED(INTERRUPTION_COUNTED));
            d->fence = MR_PLANTED(FENCE_REUSED) ? 0 : d->fence;
            d->interruptions = (uint16_t)(d->interruptions + (d->interruptions < UINT16_MAX));
            d->alone = d->alone || d->interruptions >= INTERRUPTIONS_ALONE;
            mr__state_wait(bus, d, ramp_due(log_ns, n++));
            mr__set_ramp(d);
        }
        mr_free(begun);
    }
    *ret_count = n;
    return MR_OK;
}

/* --- the end of a subscription's memory ------------------------------------------------------- */

void mr__sub_destroy(struct mr__sub *sub)
{
    if (sub == NULL) {
        return;
    }
    for (uint64_t i = 0; i < sub->deliveries.capacity; i++) {
        struct mr__delivery *d = (struct mr__delivery *)(uintptr_t)sub->deliveries.slots[i].value;
        if (sub->deliveries.slots[i].key == 0) {
            continue;
        }
        mr_event_unref(d->event);
        mr_free(d->notes);
        if (d->ending != NULL) {
            mr_buf_release(&d->ending->result);
            mr_free(d->ending->result_json);
            mr_free(d->ending);
        }
        mr_free(d);
    }
    for (uint64_t i = 0; i < sub->lanes.capacity; i++) {
        if (sub->lanes.slots[i].key != 0) {
            mr_free((struct mr__lane *)(uintptr_t)sub->lanes.slots[i].value);
        }
    }
    mr_map_release(&sub->deliveries);
    mr_map_release(&sub->lanes);
    mr_map_release(&sub->skip);
    mr_map_release(&sub->dead_lanes);
    mr_free(sub->times);
    mr_free(sub->dead);
    mr_free(sub->name);
    mr_free(sub);
}
