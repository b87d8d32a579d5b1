/* What a configuration names (subscriptions, targets, sources), the lists deliveries stand in, and
 * the segments that are needed. */
#include "bus/internal.h"

#include "core/alloc.h"
#include "core/hash.h"

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
    if (list->share != NULL) {
        list->share->ready_count++;
        list->share->ready_size += d->size;
    }
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
    if (list->share != NULL) {
        list->share->ready_count--;
        list->share->ready_size -= d->size;
    }
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
    struct mr__share *shares = sub == NULL ? NULL : mr__shares_create(sub, 1);
    if (shares == NULL || copy == NULL) {
        goto failed;
    }
    sub->id = bus->sub_count;
    sub->name = copy;
    sub->live = true;
    sub->shares = shares;
    sub->share_count = 1;
    sub->lane_width = 1;
    sub->ingest = strncmp(name, "ingest:", 7) == 0;
    bool added = add_named(bus, MR_NAME_SUBSCRIPTION, name, sub, &array, &bus->sub_count);
    bus->subs = (struct mr__sub **)array;
    if (added) {
        return sub;
    }
failed:
    mr__shares_destroy(shares, 1);
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

static struct mr__segment *find_segment(struct mr__segment *segments, uint32_t count,
                                        uint64_t number)
{
    uint32_t low = 0;
    uint32_t high = count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (segments[mid].number < number) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < count && segments[low].number == number ? &segments[low] : NULL;
}

struct mr__segment *mr__segment_of(struct mr_bus *bus, uint64_t position)
{
    uint64_t number = mr_position_segment(position);
    struct mr__segment *segment = find_segment(bus->segments, bus->segment_count, number);
    return segment != NULL ? segment : find_segment(bus->keeps, bus->keep_count, number);
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

/* --- the end of a subscription's memory ------------------------------------------------------- */

void mr__sub_destroy(struct mr__sub *sub)
{
    if (sub == NULL) {
        return;
    }
    for (struct mr__delivery *d = sub->oldest; d != NULL; d = d->newer) {
        mr_event_unref(d->event);
        mr_free(d->notes);
        if (d->ending != NULL) {
            mr_buf_release(&d->ending->result);
            mr_free(d->ending->result_json);
            mr_free(d->ending);
        }
    }
    mr_map_release(&sub->deliveries);
    mr_map_release(&sub->lanes);
    mr_map_release(&sub->skip);
    mr_map_release(&sub->dead_lanes);
    if (sub->limit_next != sub->limit) {
        mr__limit_destroy(sub->limit_next);
    }
    mr__limit_destroy(sub->limit);
    mr__shares_destroy(sub->shares, sub->share_count);
    mr__shares_destroy(sub->shares_next, sub->share_next_count);
    mr_free(sub->returned);
    mr_free(sub->times);
    mr_free(sub->dead);
    mr_free(sub->name);
    mr_free(sub);
}
