/* GET /api/v1/audit/SOURCE: one page of the proof that what came in is accounted for: the log is
 * folded, the bus is asked about what has not ended there, and what neither knows is a gap.
 *
 * The bus goes on meanwhile. What it knows when asked has not ended before; what it does not know
 * has ended since the log was read, or waits on disk behind the window of its subscription. Those
 * are known to it by number only, so a gap among them shows when there are more than that. */
#include <string.h>
#include <time.h>

#include "admin/audit.h"
#include "admin/internal.h"
#include "core/alloc.h"
#include "core/clock.h"

#define ASK_MAX 1000u /* deliveries in one question to the bus: some 100 us of its time */
#define TRIES_MAX 100u
#define TRY_WAIT_NS (5 * MR_MS) /* what ended is durable within a few of these */
#define LOST "nothing tells what became of it"

/* --- asking the bus --------------------------------------------------------------------------- */

struct question {
    struct mr_audit *audit;
    uint32_t from;
    uint32_t unknown; /* not ended, and not in a window */
};

static void ask_some(void *argument, struct mr_bus *bus, struct mr_now now)
{
    struct question *question = argument;
    struct mr_audit *audit = question->audit;
    uint32_t asked = 0;
    for (; question->from < audit->delivery_count && asked < ASK_MAX; question->from++) {
        struct mr_audit_delivery *delivery = &audit->deliveries[question->from];
        if (delivery->state >= MR_STATE_DONE) {
            continue;
        }
        struct mr_delivery_info info;
        asked++;
        delivery->known = mr_bus_delivery_info(bus, now, delivery->subscription, delivery->offset,
                                               &info) == MR_OK &&
                          info.state < MR_STATE_DONE;
        question->unknown += !delivery->known;
        delivery->state = (uint8_t)(delivery->known ? info.state : MR_STATE_NONE);
    }
}

static enum mr_status ask_all(struct mr_admin *admin, struct mr_audit *audit, uint32_t *ret_unknown)
{
    struct question question = {.audit = audit};
    enum mr_status r = MR_OK;
    while (r == MR_OK && question.from < audit->delivery_count) {
        r = admin->host->ops->call(admin->host, ask_some, &question);
    }
    *ret_unknown = question.unknown;
    return r;
}

/* Folds what has become durable since the last time. */
static enum mr_status fold_on(struct mr_admin *admin, struct mr_audit *audit)
{
    struct mr_bus_status status;
    struct mr_history history;
    enum mr_status r = mr__bus_status(admin, &status);
    if (r == MR_OK) {
        r = mr_history_open(admin->history, status.durable_position, &history, NULL);
    }
    if (r != MR_OK) {
        return r;
    }
    r = mr_history_groups(&history, mr_position_segment(audit->position), false, mr_audit_group,
                          audit);
    mr_history_release(&history);
    return r == MR_OK ? audit->status : r;
}

/* --- what nobody knows ------------------------------------------------------------------------ */

struct behind {
    uint32_t subscription;
    uint64_t count;
};

static void ask_behind(void *argument, struct mr_bus *bus, struct mr_now now)
{
    struct behind *behind = argument;
    struct mr_subscription_info info = {0};
    if (behind->subscription < mr_bus_subscription_count(bus)) {
        mr_bus_subscription_info(bus, now, behind->subscription, &info);
    }
    behind->count = info.behind;
}

static bool is_unknown(const struct mr_audit_delivery *delivery)
{
    return delivery->state < MR_STATE_DONE && !delivery->known;
}

/* Settles the unknown ones of one subscription, from the newest on: as many as wait behind its
 * window are waiting. @return how many are gaps */
static uint64_t place_unknown(struct mr_audit *audit, const struct behind *behind)
{
    uint64_t left = behind->count;
    uint64_t gaps = 0;
    for (uint32_t i = audit->delivery_count; i-- > 0;) {
        struct mr_audit_delivery *delivery = &audit->deliveries[i];
        if (delivery->subscription != behind->subscription || !is_unknown(delivery)) {
            continue;
        }
        if (left > 0) {
            left--;
            delivery->known = true;
            delivery->state = MR_STATE_WAITING;
        } else {
            gaps++;
        }
    }
    return gaps;
}

static enum mr_status place_all(struct mr_admin *admin, struct mr_audit *audit, uint64_t *ret_gaps)
{
    enum mr_status r = MR_OK;
    *ret_gaps = 0;
    uint32_t last = UINT32_MAX; /* the subscription whose unknown ones are gaps already */
    for (uint32_t i = 0; i < audit->delivery_count && r == MR_OK; i++) {
        const struct mr_audit_delivery *delivery = &audit->deliveries[i];
        if (!is_unknown(delivery) || delivery->subscription == last) {
            continue;
        }
        struct behind behind = {.subscription = delivery->subscription};
        r = admin->host->ops->call(admin->host, ask_behind, &behind);
        if (r == MR_OK) {
            *ret_gaps += place_unknown(audit, &behind);
            last = behind.subscription;
        }
    }
    return r;
}

static enum mr_status audit_page(struct mr_admin *admin, struct mr_audit *audit)
{
    uint64_t gaps = 0;
    enum mr_status r = MR_OK;
    for (uint32_t tries = 0; tries < TRIES_MAX && r == MR_OK; tries++) {
        uint32_t unknown = 0;
        r = fold_on(admin, audit);
        if (r == MR_OK) {
            r = ask_all(admin, audit, &unknown);
        }
        gaps = 0;
        if (r == MR_OK && unknown > 0) {
            /* Once more first: what ended between the reading and the question. */
            r = fold_on(admin, audit);
            r = r == MR_OK ? place_all(admin, audit, &gaps) : r;
        }
        if (gaps == 0) {
            break;
        }
        struct timespec wait = {.tv_nsec = (long)TRY_WAIT_NS};
        (void)nanosleep(&wait, NULL); /* an early return only means one more try */
    }
    for (uint32_t i = 0; i < audit->delivery_count && gaps > 0 && r == MR_OK; i++) {
        const struct mr_audit_delivery *delivery = &audit->deliveries[i];
        if (is_unknown(delivery)) {
            mr_audit_add_gap(audit, delivery->offset, delivery->offset + 1,
                             delivery->subscription, LOST);
        }
    }
    return r;
}

/* --- the answer ------------------------------------------------------------------------------- */

static void write_tally(struct mr_json_out *out, const struct mr_audit_tally *tally)
{
    static const struct {
        const char *name;
        enum mr_state state;
    } parts[] = {{"done", MR_STATE_DONE},       {"dead", MR_STATE_DEAD},
                 {"dropped", MR_STATE_DROPPED}, {"expired", MR_STATE_EXPIRED},
                 {"lost", MR_STATE_LOST},       {"held", MR_STATE_HELD},
                 {"waiting", MR_STATE_WAITING}, {"in_flight", MR_STATE_IN_FLIGHT},
                 {"unknown", MR_STATE_NONE}};
    mr_json_out_u64(out, "in", tally->in);
    for (size_t i = 0; i < MR_ARRAY_COUNT(parts); i++) {
        mr_json_out_u64(out, parts[i].name, tally->by_state[parts[i].state]);
    }
}

static void write_positions(struct mr_json_out *out, const struct mr_audit *audit)
{
    uint32_t at = 0;
    uint64_t after = audit->after;
    mr_json_out_array(out, "positions");
    for (uint32_t i = 0; i < audit->position_count; i++) {
        const struct mr_audit_position *position = &audit->positions[i];
        struct mr_audit_tally tally = {0};
        mr_audit_count(audit, after, position->last_offset, &at, &tally);
        after = position->last_offset;
        mr_json_out_object(out, NULL);
        if (position->cursor == NULL) {
            mr_json_out_null(out, "position");
        } else {
            mr_json_out_raw(out, "position", mr_bytes_of(position->cursor));
        }
        mr_json_out_u64(out, "last_offset", position->last_offset);
        mr_json_out_u64(out, "events", position->events);
        write_tally(out, &tally);
        mr_json_out_end(out);
    }
    mr_json_out_end(out);
}

static void write_gaps(struct mr_admin *admin, struct mr_json_out *out,
                       const struct mr_audit *audit)
{
    mr_json_out_array(out, "gaps");
    for (uint64_t i = 0; i < audit->gap_count && i < MR_AUDIT_GAPS_MAX; i++) {
        const struct mr_audit_gap *gap = &audit->gaps[i];
        mr_json_out_object(out, NULL);
        mr_json_out_u64(out, "offset", gap->offset);
        mr_json_out_u64(out, "last_offset", gap->end - 1);
        mr_json_out_text(out, "subscription",
                         gap->subscription == UINT32_MAX
                             ? NULL
                             : mr__subscription_name(admin, gap->subscription));
        mr_json_out_text(out, "why", gap->why);
        mr_json_out_end(out);
    }
    mr_json_out_end(out);
    mr_json_out_u64(out, "gap_count", audit->gap_count);
}

/* Repeats are no events, so the log has nothing of them: the bus counts them. */
static void write_duplicates(struct mr_admin *admin, struct mr_json_out *out, uint32_t source)
{
    struct mr_source_info *infos = NULL;
    uint32_t count = 0;
    if (mr__source_infos(admin, &infos, &count) == MR_OK && source < count) {
        mr_json_out_u64(out, "duplicates", infos[source].duplicates);
    }
    mr_free(infos);
}

static void answer_audit(struct mr_admin *admin, struct mr__call *call,
                         const struct mr_audit *audit)
{
    struct mr_audit_tally tally = {0};
    uint32_t at = 0;
    mr_audit_count(audit, audit->after, UINT64_MAX, &at, &tally);
    struct mr_json_out out;
    mr_json_out_init(&out, MR__ANSWER_SIZE_MAX);
    mr_json_out_object(&out, NULL);
    mr_json_out_text(&out, "source", call->name);
    mr_json_out_u64(&out, "events", audit->events);
    mr_json_out_u64(&out, "first_offset", audit->first_offset);
    mr_json_out_u64(&out, "last_offset", audit->last_offset);
    mr_json_out_u64(&out, "rejected", audit->rejected);
    mr_json_out_u64(&out, "unmatched", audit->unmatched);
    write_duplicates(admin, &out, audit->source);
    write_tally(&out, &tally);
    mr_json_out_u64(&out, "lost_events", audit->lost_events);
    write_gaps(admin, &out, audit);
    if (mr__call_flag(call, "positions")) {
        write_positions(&out, audit);
    }
    if (audit->full) {
        mr_json_out_u64(&out, "next", audit->last_offset);
        mr_json_out_u64(&out, "segment", audit->next_segment);
    } else {
        mr_json_out_null(&out, "next");
    }
    mr_json_out_end(&out);
    mr__answer_json(call, 200, &out);
}

void mr__get_audit(struct mr_admin *admin, struct mr__call *call)
{
    uint64_t after = 0;
    uint64_t segment = 0;
    struct mr_problem problem = {.text = ""};
    enum mr_status r = mr__query_number(call->http, "after", &after, &problem);
    r = r == MR_OK ? mr__query_number(call->http, "segment", &segment, &problem) : r;
    if (r != MR_OK) {
        mr__answer_status(call, r, &problem);
        return;
    }
    uint32_t source = 0;
    r = mr__source_id(admin, call->name, &source);
    if (r == MR_E_NOT_FOUND) {
        mr__answer_error(call, 404, "no source is called %s", call->name);
        return;
    }
    struct mr_audit *audit = mr_calloc(1, sizeof(*audit));
    r = r == MR_OK && audit == NULL ? MR_E_NOMEM : r;
    if (r == MR_OK) {
        mr_audit_init(audit, source, after);
        audit->position = segment == 0 ? 0 : mr_position(segment, 0);
        r = audit_page(admin, audit);
    }
    if (r == MR_OK) {
        mr_audit_close(audit);
        r = audit->status;
    }
    if (r == MR_OK) {
        answer_audit(admin, call, audit);
    } else {
        mr__answer_status(call, r, NULL);
    }
    if (audit != NULL) {
        mr_audit_release(audit);
    }
    mr_free(audit);
}
