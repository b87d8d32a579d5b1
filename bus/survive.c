/* What keeps mostly dead segments alive is moved.
 *
 * One dead letter, or one delivery that waits for hours, would keep all of its segment. So when a
 * segment is soon past the retention window and little in it is alive, that is copied into a
 * survivor file, as it is and under its offset, and the segment goes:
 *
 *   walk   over all deliveries and dead letters, a slice each step: what lies in the chosen ones
 *   copy   group by group, by MR_LOG_COPY: durable when it comes back
 *   log    a MOVED record for each group, and the positions of what it copied are the new ones
 *
 * A segment goes when nothing is alive in it, and both checkpoint slots know what has moved: what a
 * start may begin with finds its bytes in the one place or in the other. A crash between copy and
 * record leaves bytes that nobody refers to; the file goes when nothing else in it is needed.
 *
 * Dead letters and what waits go into files of their own: the ones stay, the others are gone in a
 * few hours, and their file with them. So a dead letter is copied once, unless many of its file
 * were redriven or purged, or once more than its event was while it waited. A start begins new
 * files: nothing is appended behind a tail that may be torn. */
#include "bus/internal.h"

#include "core/alloc.h"

#define LOOK_EVERY_NS (200 * MR_MS)
#define AGAIN_AFTER_NS (10 * MR_SECOND) /* a copy failed */
#define CHOSEN_MAX 16u
#define SLICE 1024u
#define ITEMS_MAX (64u * MR_KIB) /* of one kind */
#define ITEMS_AT_ONCE 2048u
#define ALIVE_PERCENT 25u      /* of a segment, at most */
#define KEEP_ALIVE_PERCENT 50u /* of a survivor file */
#define DEAD_SIZE_GUESS 512u   /* of its record: it is not kept in memory */
#define KIND_DELIVERIES 0u
#define KIND_LETTERS 1u

static struct mr__segment *keep_of(struct mr_bus *bus, uint64_t number)
{
    return number == 0 ? NULL : mr__segment_of(bus, mr_position(number, 0));
}

/* --- which ------------------------------------------------------------------------------------ */

/* Looked at once, and again each time only half is left of what was found too much. */
static bool is_worth_looking(const struct mr__segment *segment)
{
    return segment->live > 0 && segment->sealed && !segment->retiring &&
           (segment->left_live == 0 || segment->live <= segment->left_live / 2);
}

/* It takes two checkpoints until a segment goes out of which something has moved: so it is looked
 * at that much before it is past the window, but in the older half of the window only. */
static uint64_t ahead(const struct mr_bus *bus)
{
    uint64_t half = bus->options.log.retain_size / 2;
    uint64_t two = 2 * mr__checkpoint_pace(bus);
    return two < half ? two : half;
}

static uint32_t choose(struct mr_bus *bus)
{
    uint64_t bytes = mr__segments_staying(bus) + ahead(bus);
    uint64_t cursor = mr__lowest_cursor(bus);
    uint32_t chosen = 0;
    for (uint32_t i = 0; i < bus->keep_count && chosen < CHOSEN_MAX / 2; i++) {
        bus->keeps[i].chosen = is_worth_looking(&bus->keeps[i]);
        bus->keeps[i].found = 0;
        chosen += bus->keeps[i].chosen;
    }
    for (uint32_t i = 0; i < bus->segment_count && (int64_t)i < bus->current; i++) {
        struct mr__segment *segment = &bus->segments[i];
        bool past = mr__segment_is_past(bus, segment, bytes, cursor);
        segment->chosen = past && chosen < CHOSEN_MAX && is_worth_looking(segment);
        segment->found = 0;
        chosen += segment->chosen;
        if (past && (segment->chosen || segment->live == 0)) {
            bytes -= segment->size; /* it goes: what is newer need not */
        }
    }
    return chosen;
}

/* What is alive in @p segment stays there. */
static void leave(struct mr_bus *bus, struct mr__segment *segment)
{
    segment->chosen = false;
    segment->left_live = segment->live;
    for (uint32_t k = 0; k < MR__MOVING_KINDS; k++) {
        struct mr__moving *moving = &bus->survive.moving[k];
        uint32_t kept = 0;
        for (uint32_t i = 0; i < moving->count; i++) {
            if (mr_position_segment(moving->items[i].from) != segment->number) {
                moving->items[kept++] = moving->items[i];
            }
        }
        moving->count = kept;
    }
}

/* --- the walk --------------------------------------------------------------------------------- */

static bool has_room(struct mr__moving *moving)
{
    if (moving->count < moving->capacity) {
        return true;
    }
    uint32_t capacity = moving->capacity == 0 ? 256 : moving->capacity * 2;
    if (capacity > ITEMS_MAX) {
        return false;
    }
    struct mr_log_copy *grown = mr_realloc(moving->items, capacity * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    moving->items = grown;
    moving->capacity = capacity;
    return true;
}

static void find(struct mr_bus *bus, uint32_t kind, const struct mr_log_copy *item, uint64_t size)
{
    struct mr__segment *segment = mr__segment_of(bus, item->from);
    struct mr__moving *moving = &bus->survive.moving[kind];
    if (segment == NULL || !segment->chosen) {
        return;
    }
    uint32_t percent =
        segment->of == MR_LOG_OF_SURVIVORS ? KEEP_ALIVE_PERCENT : ALIVE_PERCENT;
    segment->found += mr_record_size(size);
    if (segment->found > segment->used / 100 * percent || !has_room(moving)) {
        leave(bus, segment);
        return;
    }
    moving->items[moving->count] = *item;
    moving->items[moving->count++].file = (uint8_t)segment->of;
}

static void find_delivery(struct mr_bus *bus, const struct mr__delivery *d)
{
    if (!d->in_stage) {
        const struct mr_log_copy item = {.offset = d->offset,
                                         .subscription = d->sub->id,
                                         .kind = MR_RECORD_EVENT,
                                         .from = d->position};
        find(bus, KIND_DELIVERIES, &item, d->size);
    }
}

static void find_letter(struct mr_bus *bus, const struct mr__sub *sub,
                        const struct mr_dead_letter *letter)
{
    struct mr_log_copy item = {.offset = letter->offset,
                               .subscription = sub->id,
                               .kind = MR_RECORD_EVENT,
                               .from = letter->event_position};
    if (mr_position_segment(item.from) != 0) {
        find(bus, KIND_LETTERS, &item, letter->event_size);
    }
    item.kind = MR_RECORD_DEAD;
    item.from = letter->record_position;
    if (mr_position_segment(item.from) != 0) {
        find(bus, KIND_LETTERS, &item, DEAD_SIZE_GUESS);
    }
}

/* @return false: all of it is seen */
static bool walk_slice(struct mr_bus *bus)
{
    struct mr__walked walked;
    for (uint32_t n = 0; n < SLICE; n++) {
        if (!mr__walk_next(bus, &bus->survive.walk, &walked)) {
            return false;
        }
        if (walked.delivery != NULL) {
            find_delivery(bus, walked.delivery);
        } else if (walked.letter != NULL) {
            find_letter(bus, walked.sub, walked.letter);
        }
    }
    return true;
}

/* --- the copy --------------------------------------------------------------------------------- */

/* What is left to be copied is left where it is. */
static void stop(struct mr_bus *bus, uint64_t again_after_ns)
{
    struct mr__survive *s = &bus->survive;
    for (uint32_t k = 0; k < MR__MOVING_KINDS; k++) {
        mr_free(s->moving[k].items);
        s->moving[k].items = NULL;
        s->moving[k].count = 0;
        s->moving[k].capacity = 0;
        s->moving[k].next = 0;
        s->moving[k].sorted = false;
    }
    s->walk = (struct mr__walk){0};
    s->phase = MR__SURVIVE_IDLE;
    s->after_mono_ns = bus->now.mono_ns + again_after_ns;
}

/* Nothing more is appended to it. */
static void close_keep(struct mr_bus *bus, struct mr__moving *moving)
{
    struct mr__segment *keep = keep_of(bus, moving->number);
    if (keep != NULL) {
        keep->sealed = true;
    }
    moving->number = 0;
    moving->groups = 0;
    moving->chain = 0;
}

static bool begin_keep(struct mr_bus *bus, struct mr__moving *moving)
{
    struct mr__segment *grown =
        mr_realloc(bus->keeps, (bus->keep_count + 1u) * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    bus->keeps = grown;
    moving->number = bus->next_segment_number++;
    grown[bus->keep_count++] = (struct mr__segment){
        .number = moving->number,
        .of = MR_LOG_OF_SURVIVORS,
        .salt = mr_rng_next(&bus->rng),
        .wall_ns = bus->now.wall_ns,
        .size = bus->options.log.segment_size,
        .file = -1,
    };
    return true;
}

/* So many that their record fits into a group beside others. */
static uint32_t items_at_once(const struct mr_bus *bus)
{
    size_t fit = mr__group_size_max(bus) / 4 / MR_MOVED_ENTRY_SIZE;
    return fit < ITEMS_AT_ONCE ? (uint32_t)fit : ITEMS_AT_ONCE;
}

static void send_copy(struct mr_bus *bus)
{
    struct mr__survive *s = &bus->survive;
    while (s->kind < MR__MOVING_KINDS && s->moving[s->kind].next >= s->moving[s->kind].count) {
        s->kind++;
    }
    if (s->kind >= MR__MOVING_KINDS) {
        for (uint32_t i = 0; i < bus->segment_count + bus->keep_count; i++) {
            struct mr__segment *segment = i < bus->segment_count
                                              ? &bus->segments[i]
                                              : &bus->keeps[i - bus->segment_count];
            if (segment->chosen) { /* what came too late, or cannot be read */
                segment->chosen = false;
                segment->left_live = segment->live;
            }
        }
        stop(bus, LOOK_EVERY_NS);
        return;
    }
    struct mr__moving *moving = &s->moving[s->kind];
    struct mr_log_request *request = mr__request(bus, MR_LOG_COPY);
    if (request == NULL || (moving->number == 0 && !begin_keep(bus, moving))) {
        mr_free(request);
        stop(bus, AGAIN_AFTER_NS);
        return;
    }
    const struct mr__segment *keep = keep_of(bus, moving->number);
    MR_ASSERT(keep != NULL); /* it is open: what is open stays */
    request->number = keep->number;
    request->of = MR_LOG_OF_SURVIVORS;
    request->at = keep->used;
    request->size = (size_t)(keep->size - (keep->used == 0 ? MR_LOG_BLOCK : keep->used));
    request->header = (struct mr_segment_header){
        .file = MR_LOG_OF_SURVIVORS,
        .number = keep->number,
        .size = keep->size,
        .salt = keep->salt,
        .log_id = bus->log_id,
        .wall_ns = bus->now.wall_ns,
    };
    request->copies = moving->items + moving->next;
    request->copy_count = moving->count - moving->next;
    request->copy_max = items_at_once(bus);
    request->sorted = moving->sorted;
    request->sequence = moving->groups + 1;
    request->chain = moving->chain;
    s->request = request;
    mr__send(bus, request);
}

void mr__copied(struct mr_bus *bus, struct mr_log_request *request)
{
    struct mr__survive *s = &bus->survive;
    struct mr__moving *moving = &s->moving[s->kind];
    struct mr__segment *keep = keep_of(bus, moving->number);
    MR_ASSERT(request == s->request);
    MR_ASSERT(keep != NULL);
    moving->sorted = request->sorted;
    bool full = request->result == MR_OK && request->copy_count == 0 && keep->used > 0;
    if (request->result != MR_OK || request->copy_count == 0 || bus->closing || bus->faulty) {
        if (request->result != MR_OK && request->result != MR_E_DISK_LOW &&
            request->result != MR_E_NOMEM && !bus->closing && !bus->faulty) {
            bus->ports.alarm(bus->ports.context,
                             "what is needed of old segments cannot be copied: they stay");
        }
        close_keep(bus, moving);
        mr_free(request);
        s->request = NULL;
        if (!full) {
            stop(bus, AGAIN_AFTER_NS);
        }
        return;
    }
    if (request->result_size > 0) {
        uint64_t more = (keep->used == 0 ? MR_LOG_BLOCK : 0u) + request->result_size;
        keep->used += more;
        bus->keep_bytes += more;
        moving->groups++;
        moving->chain = request->chain;
        s->copied_bytes += request->result_size;
    }
    s->phase = MR__SURVIVE_LOG;
}

/* --- the record ------------------------------------------------------------------------------- */

static bool move(struct mr_bus *bus, uint64_t *position, const struct mr_log_copy *moved)
{
    if (*position != moved->from) {
        return false; /* it has another event by now */
    }
    mr__segment_live(bus, moved->from, -1);
    if (!MR_PLANTED(MOVED_UNCOUNTED)) {
        mr__segment_live(bus, moved->to, 1);
    }
    *position = moved->to;
    struct mr__segment *from = mr__segment_of(bus, moved->from);
    if (from != NULL) {
        from->moved_sequence = bus->next_sequence; /* the stage's, or that of the group folded */
    }
    return true;
}

void mr__state_moved(struct mr_bus *bus, const struct mr_log_copy *moved)
{
    struct mr__sub *sub = bus->subs[moved->subscription];
    struct mr__delivery *d = mr__delivery_find(sub, moved->offset);
    int64_t at = mr__dead_find(sub, moved->offset);
    if (d != NULL && !d->in_stage) {
        mr__snap_touch(d);
        (void)move(bus, &d->position, moved);
    }
    if (at >= 0) {
        (void)move(bus, &sub->dead[at].letter.event_position, moved);
        (void)move(bus, &sub->dead[at].letter.record_position, moved);
    }
}

static bool is_needed(struct mr_bus *bus, const struct mr_log_copy *copy)
{
    const struct mr__sub *sub = bus->subs[copy->subscription];
    const struct mr__delivery *d = mr__delivery_find(sub, copy->offset);
    int64_t at = mr__dead_find(sub, copy->offset);
    return (d != NULL && !d->in_stage && d->position == copy->from) ||
           (at >= 0 && (sub->dead[at].letter.event_position == copy->from ||
                        sub->dead[at].letter.record_position == copy->from));
}

static void log_moved(struct mr_bus *bus)
{
    struct mr__survive *s = &bus->survive;
    struct mr_log_request *request = s->request;
    size_t size = (size_t)request->copy_count * MR_MOVED_ENTRY_SIZE;
    if (mr__stage_reserve(bus, mr_record_size(size)) != MR_OK) {
        return; /* with the next group */
    }
    uint8_t *body = mr_alloc(size);
    if (body == NULL) {
        return;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < request->copy_count; i++) {
        const struct mr_log_copy *copy = &request->copies[i];
        if (copy->to != 0 && is_needed(bus, copy)) {
            uint8_t *entry = body + (size_t)count++ * MR_MOVED_ENTRY_SIZE;
            mr_put_u32(entry, copy->subscription);
            mr_put_u64(entry + 4, copy->offset);
            mr_put_u64(entry + 12, copy->from);
            mr_put_u64(entry + 20, copy->to);
        }
    }
    if (count > 0) {
        const struct mr_record record = {
            .kind = MR_RECORD_MOVED,
            .body = mr_bytes(body, (size_t)count * MR_MOVED_ENTRY_SIZE),
        };
        (void)mr__stage_record(bus, &record);
    }
    for (uint32_t i = 0; i < request->copy_count; i++) {
        if (request->copies[i].to != 0) {
            mr__state_moved(bus, &request->copies[i]);
        } else if (is_needed(bus, &request->copies[i])) { /* whoever reads it finds what is left */
            bus->ports.alarm(bus->ports.context,
                             "what is needed of an old segment is damaged: the segment stays");
        }
    }
    mr_free(body);
    s->moving[s->kind].next += request->copy_count;
    s->request = NULL;
    mr_free(request);
    s->phase = MR__SURVIVE_COPY;
}

enum mr_status mr__fold_moved(struct mr_bus *bus, const struct mr_record *record)
{
    if (record->body.size % MR_MOVED_ENTRY_SIZE != 0) {
        return MR_E_CORRUPT;
    }
    for (size_t at = 0; at < record->body.size; at += MR_MOVED_ENTRY_SIZE) {
        const uint8_t *entry = record->body.data + at;
        const struct mr_log_copy moved = {.subscription = mr_get_u32(entry),
                                          .offset = mr_get_u64(entry + 4),
                                          .from = mr_get_u64(entry + 12),
                                          .to = mr_get_u64(entry + 20)};
        bool sense = mr_position_segment(moved.from) != 0 && mr_position_segment(moved.to) != 0;
        if (!sense) {
            return MR_E_CORRUPT;
        }
        if (moved.subscription < bus->sub_count) { /* else its name rotted, and it has nothing */
            mr__state_moved(bus, &moved);
        }
    }
    return MR_OK;
}

/* --- a step ----------------------------------------------------------------------------------- */

void mr__survive_run(struct mr_bus *bus)
{
    struct mr__survive *s = &bus->survive;
    switch (s->phase) {
    case MR__SURVIVE_IDLE:
        if (bus->now.mono_ns < s->after_mono_ns || bus->draining || bus->closing) {
            return;
        }
        if (choose(bus) == 0) {
            s->after_mono_ns = bus->now.mono_ns + LOOK_EVERY_NS;
            return;
        }
        mr__walk_begin(bus, &s->walk);
        s->phase = MR__SURVIVE_WALK;
        break;
    case MR__SURVIVE_WALK:
        if (bus->draining || bus->closing) {
            stop(bus, LOOK_EVERY_NS);
        } else if (!walk_slice(bus)) {
            s->kind = 0;
            s->phase = MR__SURVIVE_COPY;
        } else {
            bus->step_again = true;
        }
        break;
    case MR__SURVIVE_COPY:
        if (bus->closing) {
            return;
        }
        if (s->request == NULL) {
            send_copy(bus);
        }
        break;
    case MR__SURVIVE_LOG:
        log_moved(bus);
        break;
    }
}

/* Those in which nothing is needed. The highest number of the log is never a survivor file's then:
 * numbers are not used twice. */
void mr__keeps_retire(struct mr_bus *bus)
{
    for (uint32_t i = 0; i < bus->keep_count && bus->current >= 0; i++) {
        struct mr__segment *keep = &bus->keeps[i];
        if (!keep->sealed || keep->retiring || mr__scrub_is_at(bus, keep) ||
            !mr__segment_is_free(bus, keep) ||
            !mr__slots_know_moved(bus, keep) ||
            keep->number > bus->segments[bus->current].number) {
            continue;
        }
        if (keep->used == 0) { /* it was never made */
            memmove(keep, keep + 1, (bus->keep_count - i - 1) * sizeof(*keep));
            bus->keep_count--;
            i--;
        } else if (!mr__segment_retire(bus, keep)) {
            return;
        }
    }
}

void mr__survive_release(struct mr_bus *bus)
{
    if (bus->survive.phase == MR__SURVIVE_LOG) {
        mr_free(bus->survive.request);
    }
    stop(bus, 0);
    mr_free(bus->keeps);
}
