/* Fan-outs: which events wait for the ends of several subscriptions, and what is known of each.
 *
 * For an event that matches members of a fan-out a join is opened, logged as a FANOUT record behind
 * its MATCH. The first end of each member is noted in it. When all have ended, its time is over or
 * there is no room for it any more, the completed event enters the bus together with a JOINED
 * record, and the join is gone (joined.c): the state here is a fold over these records alone, so
 * that a crash between the last end and that event makes it after the restart, and once. */
#include "bus/internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/alloc.h"
#include "core/hash.h"
#include "core/logger.h"
#include "schemas/adapter.h"

#define JOIN_COST (sizeof(struct mr__join) + 64u)
#define REASON_SIZE_MAX 256u

/* --- names ------------------------------------------------------------------------------------ */

/* Its id; UINT32_MAX: memory is short. */
uint32_t mr__fanout_id(struct mr_bus *bus, const char *name)
{
    for (uint32_t i = 0; i < bus->fanout_count; i++) {
        if (strcmp(bus->fanouts[i].name, name) == 0) {
            return i;
        }
    }
    struct mr__fanout *grown =
        mr_realloc(bus->fanouts, (bus->fanout_count + 1) * sizeof(*bus->fanouts));
    if (grown == NULL) {
        return UINT32_MAX;
    }
    bus->fanouts = grown;
    char *copy = mr_strdup(name);
    if (copy == NULL) {
        return UINT32_MAX;
    }
    grown[bus->fanout_count] = (struct mr__fanout){.name = copy};
    return bus->fanout_count++;
}

enum mr_status mr__fanout_name(struct mr_bus *bus, uint32_t id, struct mr_bytes name)
{
    if (id >= bus->fanout_count && id - bus->fanout_count > MR_FANOUTS_MAX) {
        return MR_E_CORRUPT;
    }
    while (bus->fanout_count <= id) { /* a record may name one before its NAME record */
        char recovered[32];
        (void)snprintf(recovered, sizeof(recovered), "recovered-%u", (unsigned)bus->fanout_count);
        if (mr__fanout_id(bus, recovered) == UINT32_MAX) {
            return MR_E_NOMEM;
        }
    }
    if (name.size > 0) {
        char *copy = mr_strndup((const char *)name.data, name.size);
        if (copy == NULL) {
            return MR_E_NOMEM;
        }
        mr_free(bus->fanouts[id].name);
        bus->fanouts[id].name = copy;
    }
    return MR_OK;
}

enum mr_status mr__fanouts_reserve(struct mr_bus *bus, const struct mr_config *config)
{
    for (uint32_t i = 0; i < config->fanout_count; i++) {
        if (mr__fanout_id(bus, config->fanouts[i].name) == UINT32_MAX) {
            return MR_E_NOMEM;
        }
    }
    return MR_OK;
}

void mr__fanouts_configure(struct mr_bus *bus, const struct mr_config *config)
{
    for (uint32_t i = 0; i < bus->fanout_count; i++) {
        bus->fanouts[i].conf = NULL;
    }
    for (uint32_t i = 0; i < config->fanout_count; i++) {
        bus->fanouts[mr__fanout_id(bus, config->fanouts[i].name)].conf = &config->fanouts[i];
    }
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        struct mr__sub *sub = bus->subs[i];
        uint32_t of = sub->conf == NULL ? 0 : sub->conf->fanout;
        sub->fanout = of == 0 ? 0 : mr__fanout_id(bus, config->fanouts[of - 1].name) + 1;
    }
}

/* --- the joins that are open ------------------------------------------------------------------ */

static bool is_before(const struct mr__join *a, const struct mr__join *b)
{
    return a->due_ns != b->due_ns   ? a->due_ns < b->due_ns
           : a->offset != b->offset ? a->offset < b->offset
                                    : a->fanout < b->fanout;
}

static void heap_put(struct mr_bus *bus, uint32_t at, struct mr__join *join)
{
    bus->join_heap[at] = join;
    join->heap_at = at;
}

static void heap_rise(struct mr_bus *bus, struct mr__join *join, uint32_t at)
{
    while (at > 0 && is_before(join, bus->join_heap[(at - 1) / 2])) {
        heap_put(bus, at, bus->join_heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(bus, at, join);
}

static void heap_remove(struct mr_bus *bus, const struct mr__join *join)
{
    uint32_t at = join->heap_at;
    uint32_t count = (uint32_t)bus->join_count; /* without it */
    struct mr__join *last = bus->join_heap[count];
    if (last == join) {
        return;
    }
    while (2 * at + 1 < count) {
        uint32_t child = 2 * at + 1;
        child += child + 1 < count && is_before(bus->join_heap[child + 1], bus->join_heap[child]);
        if (!is_before(bus->join_heap[child], last)) {
            break;
        }
        heap_put(bus, at, bus->join_heap[child]);
        at = child;
    }
    heap_rise(bus, last, at);
}

static void free_join(struct mr__join *join)
{
    for (uint32_t i = 0; i < join->count; i++) {
        mr_free(join->members[i].texts);
    }
    mr_event_unref(join->head);
    mr_free(join);
}

static void count_bytes(struct mr_bus *bus, struct mr__join *join, uint64_t more)
{
    join->bytes += more;
    bus->join_bytes += more;
    bus->state_bytes += more;
}

static struct mr__join *joins_of(const struct mr_bus *bus, uint64_t offset)
{
    uint64_t value;
    return mr_map_get(&bus->joins, offset, &value) ? (struct mr__join *)(uintptr_t)value : NULL;
}

/* Room for @p more joins, so that opening them cannot fail. */
static enum mr_status reserve_joins(struct mr_bus *bus, uint64_t more)
{
    uint64_t need = bus->join_count + more;
    if (need > bus->join_heap_capacity) {
        uint64_t capacity = need * 2;
        struct mr__join **grown = mr_realloc(bus->join_heap, capacity * sizeof(struct mr__join *));
        if (grown == NULL) {
            return MR_E_NOMEM;
        }
        bus->join_heap = grown;
        bus->join_heap_capacity = capacity;
    }
    return mr_map_reserve(&bus->joins, more);
}

static int by_sub(const void *a, const void *b)
{
    const struct mr__join_member *x = a;
    const struct mr__join_member *y = b;
    return x->sub < y->sub ? -1 : x->sub > y->sub;
}

/* For @p count members, their subscriptions still to be set. NULL: memory is short. */
static struct mr__join *make_join(struct mr_bytes record, uint32_t fanout, uint32_t count)
{
    struct mr__join *join =
        mr_calloc(1, sizeof(*join) + (size_t)count * sizeof(struct mr__join_member));
    if (join == NULL || mr_adapt_joined_head(record, &join->head) != MR_OK) {
        mr_free(join);
        return NULL;
    }
    join->fanout = fanout;
    join->count = count;
    join->left = count;
    return join;
}

/* By subscription, each once: what is read may say otherwise. */
static bool sort_members(struct mr__join *join)
{
    qsort(join->members, join->count, sizeof(join->members[0]), by_sub);
    for (uint32_t i = 1; i < join->count; i++) {
        if (join->members[i - 1].sub == join->members[i].sub) {
            return false;
        }
    }
    return true;
}

/* Room was reserved, its members are sorted. */
static void open_join(struct mr_bus *bus, struct mr__join *join)
{
    join->same = joins_of(bus, join->offset);
    mr_map_set(&bus->joins, join->offset, (uint64_t)(uintptr_t)join);
    join->snapped = bus->joins_snapped;
    join->next = NULL;
    join->prev = bus->join_last;
    *(join->prev == NULL ? &bus->join_first : &join->prev->next) = join;
    bus->join_last = join;
    heap_rise(bus, join, (uint32_t)bus->join_count++);
    bus->fanouts[join->fanout].open++;
    count_bytes(bus, join,
                JOIN_COST + join->count * sizeof(struct mr__join_member) + join->head->size);
}

static void set_ended(struct mr_bus *bus, struct mr__join *join)
{
    if (join->ended) {
        return;
    }
    join->ended = true;
    join->ended_next = NULL;
    *(bus->join_ended_last == NULL ? &bus->join_ended : &bus->join_ended_last->ended_next) = join;
    bus->join_ended_last = join;
}

static void leave_ended(struct mr_bus *bus, const struct mr__join *join)
{
    struct mr__join *before = NULL;
    struct mr__join *at = bus->join_ended;
    while (join->ended && at != join) { /* live it is the first */
        before = at;
        at = at->ended_next;
    }
    if (join->ended) {
        *(before == NULL ? &bus->join_ended : &before->ended_next) = join->ended_next;
        bus->join_ended_last = bus->join_ended_last == join ? before : bus->join_ended_last;
    }
}

void mr__join_close(struct mr_bus *bus, struct mr__join *join)
{
    mr__snap_join_closes(bus, join);
    leave_ended(bus, join);
    struct mr__join *first = joins_of(bus, join->offset);
    if (first == join && join->same == NULL) {
        (void)mr_map_remove(&bus->joins, join->offset); /* it is there */
    } else if (first == join) {
        mr_map_set(&bus->joins, join->offset, (uint64_t)(uintptr_t)join->same);
    } else {
        while (first->same != join) {
            first = first->same;
        }
        first->same = join->same;
    }
    *(join->prev == NULL ? &bus->join_first : &join->prev->next) = join->next;
    *(join->next == NULL ? &bus->join_last : &join->next->prev) = join->prev;
    bus->join_count--;
    heap_remove(bus, join);
    bus->fanouts[join->fanout].open--;
    bus->join_bytes -= join->bytes;
    bus->state_bytes -= join->bytes;
    free_join(join);
}

/* --- events in -------------------------------------------------------------------------------- */

void mr__fanout_forget(struct mr_bus *bus)
{
    while (bus->join_prepared != NULL) {
        struct mr__join *join = bus->join_prepared;
        bus->join_prepared = join->next;
        free_join(join);
    }
    bus->join_prepared_last = NULL;
    bus->join_prepared_count = 0;
}

size_t mr__fanout_size(const struct mr_bus *bus, uint32_t matches)
{
    return bus->fanout_count == 0 ? 0 : (size_t)matches * mr_record_size(sizeof(uint32_t));
}

/* The join of one fan-out for an event, with all members among its matches from @p from on. */
static enum mr_status prepare_one(struct mr_bus *bus, const struct mr_event *event,
                                  const struct mr_match *matches, uint32_t count, uint32_t from)
{
    uint32_t of = bus->subs[matches[from].subscription]->fanout;
    uint32_t members = 0;
    for (uint32_t i = from; i < count; i++) {
        members += bus->subs[matches[i].subscription]->fanout == of;
    }
    struct mr__join *join = make_join(mr_event_record(event), of - 1, members);
    if (join == NULL) {
        return MR_E_NOMEM;
    }
    for (uint32_t i = from, n = 0; i < count; i++) {
        if (bus->subs[matches[i].subscription]->fanout == of) {
            join->members[n++].sub = matches[i].subscription;
        }
    }
    join->of = event;
    *(bus->join_prepared_last == NULL ? &bus->join_prepared : &bus->join_prepared_last->next) =
        join;
    bus->join_prepared_last = join;
    bus->join_prepared_count++;
    return MR_OK;
}

enum mr_status mr__fanout_prepare(struct mr_bus *bus, const struct mr_event *event,
                                  const struct mr_match *matches, uint32_t count, uint32_t except)
{
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < count && r == MR_OK && bus->fanout_count > 0; i++) {
        uint32_t of = bus->subs[matches[i].subscription]->fanout;
        bool seen = of == 0 || of == except;
        for (uint32_t k = 0; k < i && !seen; k++) {
            seen = bus->subs[matches[k].subscription]->fanout == of;
        }
        r = seen ? MR_OK : prepare_one(bus, event, matches, count, i);
    }
    return r == MR_OK && bus->join_prepared != NULL ? reserve_joins(bus, bus->join_prepared_count)
                                                    : r;
}

static uint64_t due_of(const struct mr_bus *bus, uint32_t fanout)
{
    const struct mr_fanout_config *conf = bus->fanouts[fanout].conf;
    uint64_t due;
    return conf == NULL || __builtin_add_overflow(bus->log_ns, conf->within_ns, &due) ? UINT64_MAX
                                                                                     : due;
}

void mr__fanout_open(struct mr_bus *bus, const struct mr_event *event, uint64_t offset)
{
    struct mr__join **link = &bus->join_prepared;
    bus->join_prepared_last = NULL;
    while (*link != NULL) {
        struct mr__join *join = *link;
        if (join->of != event) {
            bus->join_prepared_last = join;
            link = &join->next;
            continue;
        }
        *link = join->next;
        bus->join_prepared_count--;
        join->of = NULL;
        bool sorted = sort_members(join);
        MR_ASSERT(sorted);
        join->offset = offset;
        join->due_ns = due_of(bus, join->fanout);
        open_join(bus, join);
        struct mr__group *stage = &bus->stage;
        uint8_t *body = stage->data + stage->size + MR_RECORD_HEADER_SIZE;
        size_t size = (size_t)join->count * sizeof(uint32_t);
        MR_ASSERT(stage->size + mr_record_size(size) <= stage->capacity);
        for (uint32_t i = 0; i < join->count; i++) {
            mr_put_u32(body + (size_t)i * sizeof(uint32_t), join->members[i].sub);
        }
        struct mr_record record = {
            .kind = MR_RECORD_FANOUT,
            .flags = MR_RECORD_SKIPPABLE,
            .offset = offset,
            .a = join->fanout,
            .c = join->due_ns,
            .body = mr_bytes(body, size),
        };
        (void)mr__stage_record(bus, &record); /* found through its event */
    }
}

enum mr_status mr__fold_fanout(struct mr_bus *bus, const struct mr_record *record,
                               const struct mr_record *event)
{
    uint32_t count = (uint32_t)(record->body.size / sizeof(uint32_t));
    bool event_good = event->kind == MR_RECORD_EVENT && event->offset == record->offset;
    enum mr_status r = mr__fanout_name(bus, record->a, mr_bytes(NULL, 0));
    if (r != MR_OK || !event_good || count == 0) {
        return r; /* of an event that is lost there is nothing to tell */
    }
    r = reserve_joins(bus, 1);
    struct mr__join *join = r == MR_OK ? make_join(event->body, record->a, count) : NULL;
    if (join == NULL) {
        return MR_E_NOMEM;
    }
    join->offset = record->offset;
    join->due_ns = record->c;
    for (uint32_t i = 0; i < count; i++) {
        join->members[i].sub = mr_get_u32(record->body.data + (size_t)i * sizeof(uint32_t));
    }
    if (!sort_members(join)) {
        free_join(join);
        return MR_E_CORRUPT;
    }
    open_join(bus, join);
    return MR_OK;
}

/* --- ends ------------------------------------------------------------------------------------- */

/* What the member said, as far as it is kept. */
static void keep_texts(struct mr_bus *bus, struct mr__join *join, struct mr__join_member *member,
                       struct mr_bytes reason, struct mr_bytes result)
{
    char clean[REASON_SIZE_MAX];
    mr_text_clean(clean, sizeof(clean), reason);
    size_t reason_size = strlen(clean);
    bool fits = result.size <= MR_FANOUT_RESULT_SIZE_MAX &&
                join->results_size + result.size <= MR_FANOUT_RESULTS_SIZE_MAX;
    size_t result_size = fits ? result.size : 0;
    member->truncated = !fits;
    if (reason_size + result_size == 0) {
        return;
    }
    member->texts = mr_alloc(reason_size + result_size);
    if (member->texts == NULL) {
        member->truncated = result.size > 0; /* memory short: its state is what matters */
        return;
    }
    memcpy(member->texts, clean, reason_size);
    if (result_size > 0) {
        memcpy(member->texts + reason_size, result.data, result_size);
    }
    member->reason_size = (uint32_t)reason_size;
    member->result_size = (uint32_t)result_size;
    join->results_size += result_size;
    count_bytes(bus, join, reason_size + result_size);
}

static void end_member(struct mr_bus *bus, struct mr__join *join, struct mr__join_member *member,
                       const struct mr__end *end)
{
    MR_ASSERT(join->left > 0);
    mr__snap_join(bus, join);
    member->state = (uint8_t)end->state;
    member->attempts = end->attempts > UINT16_MAX ? UINT16_MAX : (uint16_t)end->attempts;
    keep_texts(bus, join, member, end->reason, end->result);
    join->left--;
    if (join->left == 0 || (MR_PLANTED(JOIN_EARLY) && join->left == 1)) {
        set_ended(bus, join);
    }
}

void mr__fanout_ended(struct mr_bus *bus, uint32_t sub, uint64_t offset,
                      const struct mr__end *end)
{
    struct mr__join *join = bus->join_count == 0 ? NULL : joins_of(bus, offset);
    for (; join != NULL; join = join->same) {
        const struct mr__join_member key = {.sub = sub};
        struct mr__join_member *member =
            bsearch(&key, join->members, join->count, sizeof(key), by_sub);
        if (member != NULL && member->state == MR_STATE_NONE) {
            end_member(bus, join, member, end);
        }
    }
}

void mr__fanout_gone(struct mr_bus *bus, const struct mr__sub *sub, enum mr_state state,
                     const char *reason)
{
    const struct mr__end end = {.state = state, .reason = mr_bytes_of(reason)};
    for (struct mr__join *join = bus->join_first; join != NULL; join = join->next) {
        if (mr__delivery_find(sub, join->offset) == NULL) {
            mr__fanout_ended(bus, sub->id, join->offset, &end);
        }
    }
}

void mr__fold_joined(struct mr_bus *bus, const struct mr_record *record)
{
    struct mr__join *join = joins_of(bus, record->offset);
    while (join != NULL && join->fanout != record->a) {
        join = join->same;
    }
    if (join != NULL) {
        mr__join_close(bus, join);
    }
}

/* --- checkpoints ------------------------------------------------------------------------------ */

enum mr_status mr__join_restore(struct mr_bus *bus, const struct mr__join_saved *saved,
                                struct mr__join **ret_join)
{
    if (saved->fanout >= bus->fanout_count || mr_event_check(saved->head) != MR_OK) {
        return MR_E_CORRUPT;
    }
    enum mr_status r = reserve_joins(bus, 1);
    struct mr__join *join = r == MR_OK ? make_join(saved->head, saved->fanout, saved->count) : NULL;
    if (join == NULL) {
        return MR_E_NOMEM;
    }
    join->offset = saved->offset;
    join->due_ns = saved->due_ns;
    *ret_join = join;
    return MR_OK;
}

enum mr_status mr__join_restored(struct mr_bus *bus, struct mr__join *join)
{
    if (!sort_members(join)) {
        free_join(join);
        return MR_E_CORRUPT;
    }
    open_join(bus, join);
    for (uint32_t i = 0; i < join->count; i++) {
        const struct mr__join_member *member = &join->members[i];
        join->left -= member->state != MR_STATE_NONE;
        join->results_size += member->result_size;
        count_bytes(bus, join, member->reason_size + member->result_size);
    }
    if (join->left == 0) {
        set_ended(bus, join);
    }
    return MR_OK;
}

void mr__join_unmake(struct mr__join *join)
{
    free_join(join);
}

/* --- the whole -------------------------------------------------------------------------------- */

uint32_t mr_bus_fanout_count(const struct mr_bus *bus)
{
    return bus->fanout_count;
}

void mr_bus_fanout_info(const struct mr_bus *bus, uint32_t id, struct mr_fanout_info *ret_info)
{
    MR_ASSERT(id < bus->fanout_count);
    const struct mr__fanout *fanout = &bus->fanouts[id];
    *ret_info = (struct mr_fanout_info){
        .name = fanout->name,
        .configured = fanout->conf != NULL,
        .open = fanout->open,
        .complete = fanout->complete,
        .incomplete = fanout->incomplete,
    };
}

void mr__fanouts_check(const struct mr_bus *bus)
{
    uint64_t count = 0;
    uint64_t bytes = 0;
    for (const struct mr__join *join = bus->join_first; join != NULL; join = join->next) {
        uint32_t left = 0;
        for (uint32_t i = 0; i < join->count; i++) {
            MR_ASSERT(i == 0 || join->members[i - 1].sub < join->members[i].sub);
            left += join->members[i].state == MR_STATE_NONE;
        }
        MR_ASSERT(left == join->left);
        MR_ASSERT(join->next == NULL || join->next->offset >= join->offset);
        MR_ASSERT(joins_of(bus, join->offset) != NULL);
        MR_ASSERT(bus->join_heap[join->heap_at] == join);
        MR_ASSERT(join->heap_at == 0 ||
                  !is_before(join, bus->join_heap[(join->heap_at - 1) / 2]));
        bytes += join->bytes;
        count++;
    }
    MR_ASSERT(count == bus->join_count);
    MR_ASSERT(bytes == bus->join_bytes);
}

uint64_t mr__fanouts_hash(const struct mr_bus *bus)
{
    uint64_t sum = bus->join_count;
    for (const struct mr__join *join = bus->join_first; join != NULL; join = join->next) {
        sum += mr_hash_u64(mr_hash_u64(join->offset + join->due_ns) + join->fanout);
        for (uint32_t i = 0; i < join->count; i++) {
            const struct mr__join_member *member = &join->members[i];
            sum += mr_hash_u64(mr_hash_u64(join->offset ^ member->sub) + member->state) +
                   member->attempts;
        }
    }
    return sum;
}

void mr__fanouts_destroy(struct mr_bus *bus)
{
    mr__fanout_forget(bus);
    while (bus->join_first != NULL) {
        struct mr__join *join = bus->join_first;
        bus->join_first = join->next;
        free_join(join);
    }
    for (uint32_t i = 0; i < bus->fanout_count; i++) {
        mr_free(bus->fanouts[i].name);
    }
    mr_free(bus->fanouts);
    mr_free(bus->join_heap);
    mr_map_release(&bus->joins);
}
