/* Fan-outs that are over: their event enters the bus, with the record that says so. */
#include "bus/internal.h"

#include "core/alloc.h"
#include "schemas/adapter.h"

#define AT_ONCE_MAX 256u /* in one step: there are others to be served */

static bool is_too_many(const struct mr_bus *bus)
{
    uint64_t most = bus->options.fanouts_open_max;
    return bus->join_count > (most == 0 ? MR_FANOUTS_OPEN_MAX : most) ||
           mr__memory_joins_over(bus) > 0;
}

/* What is over now, or NULL. @param[out] ret_reason why it is not complete, or NULL */
static struct mr__join *next_join(const struct mr_bus *bus, const char **ret_reason)
{
    *ret_reason = NULL;
    if (bus->join_ended != NULL) {
        return bus->join_ended;
    }
    if (bus->join_count > 0 && bus->join_heap[0]->due_ns <= bus->log_ns) {
        *ret_reason = "its time is over";
        return bus->join_heap[0];
    }
    *ret_reason = "more fan-outs are open than are kept: the oldest gives way";
    return is_too_many(bus) ? bus->join_first : NULL;
}

uint64_t mr__fanout_due_ns(const struct mr_bus *bus)
{
    return bus->join_count == 0 ? UINT64_MAX : bus->join_heap[0]->due_ns;
}

static void describe(const struct mr_bus *bus, const struct mr__join *join,
                     struct mr_joined_member *members)
{
    for (uint32_t i = 0; i < join->count; i++) {
        const struct mr__join_member *member = &join->members[i];
        const struct mr__sub *sub = bus->subs[member->sub];
        bool open = member->state == MR_STATE_NONE;
        const struct mr__delivery *d = open ? mr__delivery_find(sub, join->offset) : NULL;
        members[i] = (struct mr_joined_member){
            .subscription = sub->name,
            .state = mr_state_text(open ? MR_STATE_WAITING : (enum mr_state)member->state),
            .attempts = d != NULL ? d->attempts : member->attempts,
            .reason = mr_bytes(member->texts, member->reason_size),
            .truncated = member->truncated,
        };
        if (member->result_size > 0) {
            members[i].result =
                mr_bytes(member->texts + member->reason_size, member->result_size);
        }
    }
}

/* Of the event: it and what is logged with it must fit a group. */
static size_t size_max_of(const struct mr_bus *bus)
{
    size_t most = mr__group_size_max(bus) / 4;
    return most < MR_EVENT_SIZE_MAX ? most : MR_EVENT_SIZE_MAX;
}

static enum mr_status make_event(struct mr_bus *bus, const struct mr__join *join,
                                 const char *reason, struct mr_event **ret_event)
{
    struct mr_joined_member *members = mr_calloc(join->count, sizeof(*members));
    if (members == NULL) {
        return MR_E_NOMEM;
    }
    describe(bus, join, members);
    const struct mr_joined joined = {
        .fanout = bus->fanouts[join->fanout].name,
        .head = mr_event_record(join->head),
        .offset = join->offset,
        .reason = reason,
        .members = members,
        .member_count = join->count,
        .wall_ns = bus->now.wall_ns,
    };
    enum mr_status r = mr_adapt_joined(&joined, size_max_of(bus), ret_event);
    mr_free(members);
    return r;
}

static enum mr_status match_event(struct mr_bus *bus, const struct mr_event *event,
                                  struct mr_matches *matches)
{
    enum mr_status r = mr_router_match(bus->router, UINT32_MAX, mr_event_record(event), matches);
    for (uint32_t i = 0; i < matches->count && r == MR_OK; i++) {
        matches->items[i].subscription = bus->sub_of_index[matches->items[i].subscription];
    }
    return r;
}

static enum mr_status reserve_event(struct mr_bus *bus, const struct mr__join *join,
                                    const struct mr_event *event,
                                    const struct mr_matches *matches, bool loops)
{
    size_t bytes = mr_record_size(event->size) + mr_record_size(0) + 1024 +
                   mr_record_size((size_t)matches->count * MR_MATCH_ENTRY_SIZE) +
                   mr__fanout_size(bus, matches->count);
    enum mr_status r = mr__stage_reserve(bus, bytes);
    if (r == MR_OK && loops) {
        struct mr__sub *ingest = mr__ingest_sub(bus, MR_SOURCE_BUS);
        r = ingest == NULL ? MR_E_FULL : mr__state_reserve_dead_more(bus, ingest, 1);
        r = r == MR_OK ? mr__stage_reserve_dead(bus, 1) : r;
        return r == MR_OK ? mr__stage_reserve(bus, bytes) : r; /* its name is staged now */
    }
    r = r == MR_OK ? mr__stage_reserve_created(bus, matches->count) : r;
    mr__arrivals_begin(bus);
    mr__arrivals_wish(bus, matches);
    mr__arrivals_reserve(bus, matches);
    mr__fanout_forget(bus);
    /* What tells how a fan-out ended is no event of the same one, however wide its filters are. */
    return r == MR_OK ? mr__fanout_prepare(bus, event, matches->items, matches->count,
                                           join->fanout + 1)
                      : r;
}

static void log_joined(struct mr_bus *bus, const struct mr__join *join)
{
    struct mr_record record = {
        .kind = MR_RECORD_JOINED,
        .flags = MR_RECORD_SKIPPABLE,
        .offset = join->offset,
        .a = join->fanout,
    };
    if (!MR_PLANTED(JOINED_UNLOGGED)) {
        (void)mr__stage_record(bus, &record); /* in the group of the event */
    }
}

/* Both, or nothing. @return MR_OK: the join is gone */
static enum mr_status join(struct mr_bus *bus, struct mr__join *join, const char *reason)
{
    struct mr_event *event = NULL;
    struct mr_matches matches = {0};
    enum mr_status r = make_event(bus, join, reason, &event);
    if (r != MR_OK && r != MR_E_NOMEM) {
        bus->ports.alarm(bus->ports.context, "the event that tells how a fan-out ended cannot be "
                                             "made: it is left out");
        r = mr__stage_reserve(bus, mr_record_size(0));
    }
    bool loops = event != NULL && mr_event_hops(mr_event_record(event)) > bus->config->hops_max;
    if (r == MR_OK && event != NULL) {
        r = loops ? MR_OK : match_event(bus, event, &matches);
        r = r == MR_OK ? reserve_event(bus, join, event, &matches, loops) : r;
    }
    if (r == MR_OK) {
        if (loops) {
            (void)mr__event_append_rejected(bus, event, MR_SOURCE_BUS,
                                            mr__ingest_sub(bus, MR_SOURCE_BUS)->id,
                                            "hop limit reached: fan-outs go round in a loop");
        } else if (event != NULL) {
            (void)mr__event_append(bus, event, MR_SOURCE_BUS, UINT32_MAX, join->offset,
                                   matches.items, matches.count);
        }
        log_joined(bus, join);
        bus->fanouts[join->fanout].complete += reason == NULL;
        bus->fanouts[join->fanout].incomplete += reason != NULL;
        mr__join_close(bus, join);
    }
    mr_event_unref(event);
    mr_matches_release(&matches);
    return r;
}

void mr__fanouts_run(struct mr_bus *bus)
{
    if (bus->config == NULL) {
        return;
    }
    for (uint32_t i = 0; i < AT_ONCE_MAX; i++) {
        const char *reason;
        struct mr__join *over = next_join(bus, &reason);
        bool full = bus->stage.size > bus->options.group_size_soft;
        if (over == NULL || full || join(bus, over, reason) != MR_OK) {
            return; /* no room now: with the next step */
        }
    }
}
