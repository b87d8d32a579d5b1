#include "admin/audit.h"

#include <string.h>

#include "core/alloc.h"

void mr_audit_init(struct mr_audit *audit, uint32_t source, uint64_t after)
{
    *audit = (struct mr_audit){.source = source, .after = after, .status = MR_OK};
}

void mr_audit_release(struct mr_audit *audit)
{
    for (uint32_t i = 0; i < audit->position_count; i++) {
        mr_free(audit->positions[i].cursor);
    }
    mr_free(audit->positions);
    mr_free(audit->deliveries);
    audit->positions = NULL;
    audit->deliveries = NULL;
    audit->position_count = 0;
    audit->delivery_count = 0;
}

void mr_audit_add_gap(struct mr_audit *audit, uint64_t offset, uint64_t end,
                      uint32_t subscription, const char *why)
{
    if (audit->gap_count < MR_AUDIT_GAPS_MAX) {
        audit->gaps[audit->gap_count] = (struct mr_audit_gap){
            .offset = offset, .end = end, .subscription = subscription, .why = why};
    }
    audit->gap_count++;
}

/* --- deliveries ------------------------------------------------------------------------------- */

static void add_delivery(struct mr_audit *audit, uint64_t offset, uint32_t subscription,
                         enum mr_state state)
{
    if (audit->delivery_count == audit->delivery_capacity) {
        uint32_t capacity = audit->delivery_capacity == 0 ? 1024 : audit->delivery_capacity * 2;
        struct mr_audit_delivery *grown =
            mr_realloc(audit->deliveries, capacity * sizeof(*grown));
        if (grown == NULL) {
            audit->status = MR_E_NOMEM;
            return;
        }
        audit->deliveries = grown;
        audit->delivery_capacity = capacity;
    }
    audit->deliveries[audit->delivery_count++] = (struct mr_audit_delivery){
        .offset = offset, .subscription = subscription, .state = (uint8_t)state};
    audit->full = audit->full || audit->delivery_count >= MR_AUDIT_DELIVERIES_MAX;
}

static struct mr_audit_delivery *find_delivery(const struct mr_audit *audit, uint64_t offset,
                                               uint32_t subscription)
{
    uint32_t low = 0;
    uint32_t high = audit->delivery_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (audit->deliveries[middle].offset < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < audit->delivery_count && audit->deliveries[low].offset == offset; low++) {
        if (audit->deliveries[low].subscription == subscription) {
            return &audit->deliveries[low];
        }
    }
    return NULL;
}

/* --- records ---------------------------------------------------------------------------------- */

static void expect_match(struct mr_audit *audit)
{
    if (audit->unmatched_yet != 0) {
        mr_audit_add_gap(audit, audit->unmatched_yet, audit->unmatched_yet + 1, UINT32_MAX,
                         "the event is in the log and was never matched");
        audit->unmatched_yet = 0;
    }
}

static void take_event(struct mr_audit *audit, uint64_t position, const struct mr_record *record)
{
    expect_match(audit);
    if (record->a != audit->source || record->offset <= audit->after || audit->full) {
        return;
    }
    audit->events++;
    audit->events_yet++;
    audit->first_offset = audit->first_offset == 0 ? record->offset : audit->first_offset;
    audit->last_offset = record->offset;
    audit->next_segment = mr_position_segment(position);
    audit->unmatched_yet = record->offset;
}

static void take_match(struct mr_audit *audit, const struct mr_record *record)
{
    if (record->offset != audit->unmatched_yet) {
        return; /* of another source */
    }
    audit->unmatched_yet = 0;
    struct mr_bytes body = record->body;
    audit->unmatched += body.size < MR_MATCH_ENTRY_SIZE;
    for (size_t at = 0; at + MR_MATCH_ENTRY_SIZE <= body.size; at += MR_MATCH_ENTRY_SIZE) {
        add_delivery(audit, record->offset, mr_get_u32(body.data + at), MR_STATE_NONE);
    }
}

static void take_end(struct mr_audit *audit, const struct mr_record *record)
{
    if (record->kind == MR_RECORD_DEAD && record->offset == audit->unmatched_yet) {
        audit->unmatched_yet = 0; /* never became an event: dead where it came in */
        audit->rejected++;
        add_delivery(audit, record->offset, record->a, MR_STATE_DEAD);
        return;
    }
    struct mr_audit_delivery *delivery = find_delivery(audit, record->offset, record->a);
    if (delivery == NULL) {
        return;
    }
    bool ended = delivery->state >= MR_STATE_DONE && delivery->state != MR_STATE_EXPIRED;
    if (ended) {
        mr_audit_add_gap(audit, record->offset, record->offset + 1, record->a, "it ended twice");
    }
    delivery->state = (uint8_t)(record->extra < MR_STATE_MAX ? record->extra : MR_STATE_NONE);
}

/* Expired on disk, behind the window, without a record each. */
static void take_removed(struct mr_audit *audit, const struct mr_record *record)
{
    for (uint32_t i = 0; record->b == 2 && i < audit->delivery_count; i++) {
        struct mr_audit_delivery *delivery = &audit->deliveries[i];
        if (delivery->subscription == record->a && delivery->state < MR_STATE_DONE) {
            delivery->state = MR_STATE_EXPIRED;
        }
    }
}

static void add_position(struct mr_audit *audit, char *cursor)
{
    if (audit->position_count == audit->position_capacity) {
        uint32_t capacity = audit->position_capacity == 0 ? 64 : audit->position_capacity * 2;
        struct mr_audit_position *grown = mr_realloc(audit->positions, capacity * sizeof(*grown));
        if (grown == NULL) {
            audit->status = MR_E_NOMEM;
            mr_free(cursor);
            return;
        }
        audit->positions = grown;
        audit->position_capacity = capacity;
    }
    audit->positions[audit->position_count++] = (struct mr_audit_position){
        .cursor = cursor, .last_offset = audit->last_offset, .events = audit->events_yet};
    audit->events_yet = 0;
    audit->full = audit->full || audit->position_count >= MR_AUDIT_POSITIONS_MAX;
}

static void take_cursor(struct mr_audit *audit, const struct mr_record *record)
{
    if (record->a != audit->source || audit->events_yet == 0) {
        return; /* a position that moved past nothing of ours: it is said again with the next */
    }
    char *cursor = mr_strndup((const char *)record->body.data, record->body.size);
    if (cursor == NULL) {
        audit->status = MR_E_NOMEM;
        return;
    }
    add_position(audit, cursor);
}

static void take_record(struct mr_audit *audit, uint64_t position, const struct mr_record *record)
{
    struct mr_audit_delivery *delivery;
    switch (record->kind) {
    case MR_RECORD_EVENT:
        take_event(audit, position, record);
        break;
    case MR_RECORD_MATCH:
        take_match(audit, record);
        break;
    case MR_RECORD_SETTLE:
    case MR_RECORD_DEAD:
        take_end(audit, record);
        break;
    case MR_RECORD_RETRY:
    case MR_RECORD_REDRIVE:
    case MR_RECORD_EDIT:
        delivery = find_delivery(audit, record->offset, record->a);
        if (delivery != NULL) {
            delivery->state = MR_STATE_NONE;
        }
        break;
    case MR_RECORD_REMOVED:
        take_removed(audit, record);
        break;
    case MR_RECORD_CURSOR:
        take_cursor(audit, record);
        break;
    default:
        break;
    }
}

/* --- groups ----------------------------------------------------------------------------------- */

/* Offsets go on without a hole, save where segments between were given up or the log says lost. */
static void check_offsets(struct mr_audit *audit, const struct mr_log_group *group)
{
    uint64_t segment = mr_position_segment(group->position);
    uint64_t first = group->header.first_offset;
    bool given_up = segment > audit->segment + 1;
    if (audit->next_offset != 0 && first > audit->next_offset && !given_up && !audit->full &&
        first > audit->after) {
        mr_audit_add_gap(audit, audit->next_offset, first, UINT32_MAX,
                         "no event has these offsets, and the log does not name them lost");
    }
    audit->segment = segment;
    audit->next_offset = group->header.next_offset;
}

bool mr_audit_group(void *context, const struct mr_log_group *group)
{
    struct mr_audit *audit = context;
    if (group->position < audit->position) {
        return true;
    }
    if (group->decision == MR_RECOVERY_ROTTEN && group->lost_end > group->lost_first) {
        audit->lost_events += group->lost_end - group->lost_first;
        audit->next_offset = group->lost_end;
    }
    if (group->data == NULL || !group->header_good) {
        return true;
    }
    check_offsets(audit, group);
    uint32_t at = 0;
    uint64_t position;
    uint64_t events = 0;
    struct mr_record record;
    while (mr_log_next_record(group, &at, &position, &record)) {
        events += record.kind == MR_RECORD_EVENT;
        take_record(audit, position, &record);
    }
    if (group->decision != MR_RECOVERY_ROTTEN) {
        expect_match(audit); /* event and match are one group */
    } else {
        /* Its unreadable records were passed over; an event without its match is lost too. */
        uint64_t had = group->header.next_offset - group->header.first_offset;
        audit->lost_events += had > events ? had - events : 0;
        audit->lost_events += audit->unmatched_yet != 0;
        audit->unmatched_yet = 0;
    }
    audit->position = group->position + 1;
    return audit->status == MR_OK;
}

/* --- counting --------------------------------------------------------------------------------- */

void mr_audit_close(struct mr_audit *audit)
{
    if (audit->events_yet > 0) {
        add_position(audit, NULL);
    }
}

void mr_audit_count(const struct mr_audit *audit, uint64_t after, uint64_t last, uint32_t *at,
                    struct mr_audit_tally *tally)
{
    for (; *at < audit->delivery_count && audit->deliveries[*at].offset <= last; (*at)++) {
        const struct mr_audit_delivery *delivery = &audit->deliveries[*at];
        if (delivery->offset > after) {
            /* What the bus knew and the log then told a retry of goes on waiting. */
            bool waits = delivery->state == MR_STATE_NONE && delivery->known;
            tally->in++;
            tally->by_state[waits ? MR_STATE_WAITING : delivery->state]++;
        }
    }
}
