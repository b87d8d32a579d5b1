/* The finished files of the log, read through once within log.scrub: a disk does not tell what has
 * rotted on it until somebody reads it.
 *
 *   read    one piece after another, by MR_LOG_SCRUB: of two copies the one is repaired from the
 *           other. Evenly, as the time that is given allows
 *   find    who needs what is at a place that is good in no copy: a walk over all deliveries and
 *           dead letters, a slice each step
 *   judge   whether their own records are damaged: what is not stays. Deliveries end lost
 *
 * Nothing of this is logged but these ends. A start goes on about where the time of day says, so
 * that a bus that is started every day reads all of its log none the less. */
#include "bus/internal.h"

#include <inttypes.h>
#include <stdio.h>

#include "bus/mend.h"
#include "core/alloc.h"

#define PIECE MR_MIB
#define PIECE_NS_MIN (10 * MR_MS)  /* from one to the next: a bounded rate, whatever is wished */
#define AGAIN_NS (10 * MR_SECOND)  /* after one that failed */
#define NO_ROOM_NS (10 * MR_MS)
#define SLICE 1024u
#define SUSPECTS_MAX 256u
#define ROTS_MAX 1024u /* more are not told of: they would be told of again and again */

static void tell(struct mr_bus *bus, const char *text)
{
    bus->ports.alarm(bus->ports.context, text);
}

/* --- which file ------------------------------------------------------------------------------- */

static bool is_finished(const struct mr__segment *file)
{
    return file->sealed && !file->retiring && file->used > MR_LOG_BLOCK;
}

/* The one with the least number behind @p after, or NULL; *ret_highest: the greatest of all. */
static const struct mr__segment *file_behind(struct mr_bus *bus, uint64_t after,
                                             uint64_t *ret_highest)
{
    const struct mr__segment *best = NULL;
    bus->scrub.total = 0;
    *ret_highest = 0;
    uint32_t segments = bus->current < 0 ? 0 : (uint32_t)bus->current;
    for (uint32_t i = 0; i < segments + bus->keep_count; i++) {
        const struct mr__segment *file =
            i < segments ? &bus->segments[i] : &bus->keeps[i - segments];
        if (!is_finished(file)) {
            continue;
        }
        bus->scrub.total += file->used;
        *ret_highest = file->number > *ret_highest ? file->number : *ret_highest;
        if (file->number > after && (best == NULL || file->number < best->number)) {
            best = file;
        }
    }
    return best;
}

/* Where the first pass of this process begins. */
static void begin(struct mr_bus *bus)
{
    struct mr__scrub *s = &bus->scrub;
    uint64_t highest;
    const struct mr__segment *lowest = file_behind(bus, 0, &highest);
    if (lowest == NULL) {
        return;
    }
    uint64_t all = highest - lowest->number + 1;
    uint64_t period = bus->options.log.scrub_ns;
    s->last = lowest->number - 1 + (bus->now.wall_ns % period) / (period / all + 1);
    s->pass_from = s->last + 1;
    s->begun = true;
}

static void end_pass(struct mr_bus *bus, const struct mr__segment *next)
{
    struct mr__scrub *s = &bus->scrub;
    s->ended_wall_ns = bus->now.wall_ns;
    s->ended_bytes = s->pass_bytes;
    s->pass_bytes = 0;
    s->pass_from = next->number;
    s->wrapped = false;
}

static bool choose(struct mr_bus *bus)
{
    struct mr__scrub *s = &bus->scrub;
    uint64_t highest;
    if (!s->begun) {
        begin(bus);
    }
    const struct mr__segment *file = file_behind(bus, s->last, &highest);
    if (file == NULL && s->begun) {
        file = file_behind(bus, 0, &highest);
        if (s->wrapped && file != NULL) {
            end_pass(bus, file);
        }
        s->wrapped = true;
    }
    if (file == NULL) {
        s->idle = true;
        s->idle_at = bus->next_segment_number;
        return false;
    }
    if (s->wrapped && file->number >= s->pass_from) {
        end_pass(bus, file);
    }
    s->number = file->number;
    s->at = 0;
    s->next_offset = file->of == MR_LOG_OF_SEGMENT ? file->first_offset : 0;
    return true;
}

/* --- reading ---------------------------------------------------------------------------------- */

static bool is_idle(const struct mr_bus *bus)
{
    return bus->scrub.idle && bus->scrub.idle_at == bus->next_segment_number;
}

static void read_piece(struct mr_bus *bus)
{
    struct mr__scrub *s = &bus->scrub;
    if (s->request != NULL || bus->options.log.scrub_ns == 0 || bus->closing || bus->draining ||
        bus->sealing > 0 || bus->now.mono_ns < s->due_mono_ns || is_idle(bus)) {
        return;
    }
    s->idle = false;
    const struct mr__segment *file =
        s->number == 0 ? NULL : mr__segment_of(bus, mr_position(s->number, 0));
    if (file == NULL || file->retiring) {
        s->last = s->number == 0 ? s->last : s->number; /* it went between two pieces */
        s->number = 0;
        if (!choose(bus)) {
            return;
        }
        file = mr__segment_of(bus, mr_position(s->number, 0));
    }
    struct mr_log_request *request = mr__request(bus, MR_LOG_SCRUB);
    struct mr_log_mend *mend = request == NULL ? NULL : mr_calloc(1, sizeof(*mend));
    if (mend == NULL) {
        mr_free(request);
        s->due_mono_ns = bus->now.mono_ns + AGAIN_NS;
        return;
    }
    *mend = (struct mr_log_mend){.of = file->of,
                                 .number = file->number,
                                 .from = s->at,
                                 .until = file->used,
                                 .salt = file->salt,
                                 .next_offset = s->next_offset,
                                 .first_bad = true};
    request->of = file->of;
    request->number = file->number;
    request->at = s->at;
    request->size = bus->options.scrub_piece == 0 ? PIECE : bus->options.scrub_piece;
    request->buf = (uint8_t *)mend;
    s->request = request;
    s->sent_mono_ns = bus->now.mono_ns;
    mr__send(bus, request);
}

/* How long after a piece of @p bytes was asked for the next one is: all are read a little before
 * the time is over. */
static uint64_t pause_after(const struct mr_bus *bus, uint64_t bytes)
{
    uint64_t period = bus->options.log.scrub_ns - bus->options.log.scrub_ns / 8;
    uint64_t each = period / (bus->scrub.total / MR_LOG_BLOCK + 1);
    uint64_t pause = each * (mr_round_up(bytes, MR_LOG_BLOCK) / MR_LOG_BLOCK);
    return pause < PIECE_NS_MIN ? PIECE_NS_MIN : pause;
}

/* --- what is known to be rotten --------------------------------------------------------------- */

static bool is_known(const struct mr__scrub *s, const struct mr__rot *rot)
{
    for (uint32_t i = 0; i < s->rot_count; i++) {
        const struct mr__rot *r = &s->rots[i];
        if (r->number == rot->number && r->from <= rot->from && rot->end <= r->end) {
            return true;
        }
    }
    return false;
}

/* What is known to be rotten in [from, end) is no more, or is told anew. */
static void forget_rots(struct mr__scrub *s, uint64_t number, uint64_t from, uint64_t end)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->rot_count; i++) {
        const struct mr__rot *r = &s->rots[i];
        if (r->number != number || r->end <= from || r->from >= end) {
            s->rots[kept++] = *r;
        }
    }
    s->rot_count = kept;
}

/* Those of files that are gone. */
static void forget_gone(struct mr_bus *bus)
{
    struct mr__scrub *s = &bus->scrub;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->rot_count; i++) {
        if (mr__segment_of(bus, mr_position(s->rots[i].number, 0)) != NULL) {
            s->rots[kept++] = s->rots[i];
        }
    }
    s->rot_count = kept;
}

/* The offset of the first event behind what is rotten up to the end of its file; 0: not known. */
static uint64_t offset_behind(const struct mr_bus *bus, uint64_t number)
{
    for (uint32_t i = 0; i < bus->segment_count && (int64_t)i <= bus->current; i++) {
        if (bus->segments[i].number > number) {
            return bus->segments[i].first_offset;
        }
    }
    return 0;
}

static void tell_rot(struct mr_bus *bus, const struct mr_log_mend *mend)
{
    char name[MR_LOG_NAME_SIZE];
    char events[80] = "";
    char text[256];
    uint64_t end = mend->lost_end == 0 && mend->of == MR_LOG_OF_SEGMENT
                       ? offset_behind(bus, mend->number)
                       : mend->lost_end;
    if (mend->of == MR_LOG_OF_SEGMENT && mend->lost_first != 0 && end > mend->lost_first) {
        (void)snprintf(events, sizeof(events), ", where events %" PRIu64 " to %" PRIu64 " are",
                       mend->lost_first, end - 1);
    }
    mr_log_file_name(mend->of, mend->number, name);
    (void)snprintf(text, sizeof(text),
                   "%s is rotten from byte %" PRIu64 " to %" PRIu64 "%s: `millrace log verify` "
                   "says more",
                   name, mend->bad_from, mend->bad_end, events);
    tell(bus, text);
}

static void note_rot(struct mr_bus *bus, const struct mr_log_mend *mend)
{
    struct mr__scrub *s = &bus->scrub;
    forget_rots(s, mend->number, mend->bad_from, mend->bad_end);
    struct mr__rot *grown = s->rot_count >= ROTS_MAX
                                ? NULL
                                : mr_realloc(s->rots, (s->rot_count + 1u) * sizeof(*grown));
    if (grown == NULL) {
        return;
    }
    s->rots = grown;
    s->rots[s->rot_count++] = s->rot;
    s->found++;
    tell_rot(bus, mend);
}

/* --- who needs it ----------------------------------------------------------------------------- */

static void begin_find(struct mr_bus *bus, const struct mr_log_mend *mend)
{
    struct mr__scrub *s = &bus->scrub;
    s->rot = (struct mr__rot){
        .number = mend->number, .from = mend->bad_from, .end = mend->bad_end};
    s->fresh = !is_known(s, &s->rot);
    s->rot_deliveries = 0;
    s->rot_letters = 0;
    s->survivors = mend->of == MR_LOG_OF_SURVIVORS;
    s->mend = *mend;
    if (s->fresh && !s->survivors) {
        note_rot(bus, mend);
    }
    s->phase = MR__SCRUB_FIND;
    mr__walk_begin(bus, &s->walk);
}

static bool lies_there(const struct mr__scrub *s, uint64_t position)
{
    return mr_position_segment(position) == s->rot.number &&
           mr_position_at(position) >= s->rot.from && mr_position_at(position) < s->rot.end;
}

/* Those that a target has, or that are on their way to it, have their event. */
static bool needs_record(const struct mr__delivery *d)
{
    return !d->in_stage && d->event == NULL && d->where != MR__ARMED && d->where != MR__QUEUED &&
           d->where != MR__FLIGHT && d->where != MR__ENDING;
}

struct finding {
    struct mr_log_request *request;
    struct mr_log_span *spans;
};

static void suspect(struct mr__scrub *s, struct finding *f, const struct mr__sub *sub,
                    uint64_t offset, uint64_t position, bool letter)
{
    if (lies_there(s, position)) {
        f->spans[f->request->spans] =
            (struct mr_log_span){.at = mr_position_at(position), .size = 1};
        s->suspects[f->request->spans++] =
            (struct mr__suspect){.offset = offset, .sub = sub->id, .letter = letter};
    }
}

/* @return whether something is left to be walked over */
static bool find_slice(struct mr_bus *bus, struct finding *f)
{
    struct mr__scrub *s = &bus->scrub;
    struct mr__walked walked;
    for (uint32_t n = 0; n < SLICE && f->request->spans + 2 <= SUSPECTS_MAX; n++) {
        if (!mr__walk_next(bus, &s->walk, &walked)) {
            return false;
        }
        const struct mr__delivery *d = walked.delivery;
        const struct mr_dead_letter *letter = walked.letter;
        if (d != NULL && needs_record(d)) {
            suspect(s, f, walked.sub, d->offset, d->position, false);
        } else if (letter != NULL) {
            suspect(s, f, walked.sub, letter->offset, letter->event_position, true);
            suspect(s, f, walked.sub, letter->offset, letter->record_position, true);
        }
    }
    return true;
}

static void end_find(struct mr_bus *bus)
{
    struct mr__scrub *s = &bus->scrub;
    bool needed = s->rot_deliveries + s->rot_letters > 0;
    s->phase = MR__SCRUB_READ;
    if (s->fresh && s->survivors && needed) {
        note_rot(bus, &s->mend);
    }
    s->letters += s->fresh ? s->rot_letters : 0;
    if (s->rot_deliveries > 0 || (s->fresh && needed)) {
        char text[160];
        (void)snprintf(text, sizeof(text),
                       "by what is rotten %" PRIu64 " deliveries end lost, and %" PRIu64
                       " dead letters cannot be read",
                       s->rot_deliveries, s->rot_letters);
        tell(bus, text);
    }
}

static void find(struct mr_bus *bus)
{
    struct mr__scrub *s = &bus->scrub;
    if (bus->closing) {
        return;
    }
    bus->step_again = true;
    if (s->suspects == NULL) {
        s->suspects = mr_alloc(SUSPECTS_MAX * sizeof(*s->suspects));
    }
    struct finding f = {.request = mr__request(bus, MR_LOG_SCRUB)};
    f.spans = f.request == NULL ? NULL : mr_calloc(SUSPECTS_MAX, sizeof(*f.spans));
    if (s->suspects == NULL || f.spans == NULL) {
        mr_free(f.spans);
        mr_free(f.request);
        return;
    }
    bool more = find_slice(bus, &f);
    if (f.request->spans == 0) {
        mr_free(f.spans);
        mr_free(f.request);
        if (!more) {
            end_find(bus);
        }
        return;
    }
    f.request->of = s->survivors ? MR_LOG_OF_SURVIVORS : MR_LOG_OF_SEGMENT;
    f.request->number = s->rot.number;
    f.request->buf = (uint8_t *)f.spans;
    s->request = f.request;
    s->judged = false;
    s->judged_to = 0;
    s->phase = MR__SCRUB_JUDGE;
    mr__send(bus, f.request);
}

/* --- the judgement ---------------------------------------------------------------------------- */

/* @return false: no room, try again */
static bool lose(struct mr_bus *bus, const struct mr__suspect *suspect, uint64_t at)
{
    struct mr__scrub *s = &bus->scrub;
    struct mr__delivery *d = mr__delivery_find(bus->subs[suspect->sub], suspect->offset);
    if (d == NULL || !needs_record(d) || d->position != mr_position(s->rot.number, at)) {
        return true; /* it has ended, moved, or begun */
    }
    if (!mr__finish_lost(bus, d)) {
        return false;
    }
    bus->lost_events++;
    s->deliveries++;
    s->rot_deliveries++;
    return true;
}

static void judge(struct mr_bus *bus)
{
    struct mr__scrub *s = &bus->scrub;
    if (!s->judged || bus->closing) {
        return;
    }
    const struct mr_log_span *spans = (const struct mr_log_span *)(const void *)s->request->buf;
    uint32_t count = s->request->result == MR_OK ? s->request->spans : 0;
    for (; s->judged_to < count; s->judged_to++) {
        const struct mr__suspect *suspect = &s->suspects[s->judged_to];
        const struct mr_log_span *span = &spans[s->judged_to];
        if (span->size != 0) {
            continue;
        }
        if (suspect->letter) { /* of event and record, the one is enough */
            bool again = s->judged_to > 0 && suspect[-1].letter && span[-1].size == 0 &&
                         suspect[-1].sub == suspect->sub && suspect[-1].offset == suspect->offset;
            s->rot_letters += !again;
        } else if (!lose(bus, suspect, span->at)) {
            return;
        }
    }
    mr_free(s->request->buf);
    mr_free(s->request);
    s->request = NULL;
    s->phase = MR__SCRUB_FIND;
    bus->step_again = true;
}

/* --- requests, steps -------------------------------------------------------------------------- */

static void piece_read(struct mr_bus *bus, const struct mr_log_mend *mend, enum mr_status result)
{
    struct mr__scrub *s = &bus->scrub;
    if (bus->closing || bus->faulty) {
        return;
    }
    if (result != MR_OK) {
        s->due_mono_ns = bus->now.mono_ns + AGAIN_NS;
        return;
    }
    uint64_t bytes = mend->end - mend->from;
    s->pass_bytes += bytes;
    s->due_mono_ns = s->sent_mono_ns + pause_after(bus, bytes);
    forget_gone(bus);
    if (mend->bad == 0) {
        forget_rots(s, mend->number, mend->from, mend->end);
    } else {
        forget_rots(s, mend->number, mend->from, mend->bad_from);
        forget_rots(s, mend->number, mend->bad_end, mend->end);
        begin_find(bus, mend);
    }
    s->at = mend->end;
    s->next_offset = mend->next_offset;
    if (MR_PLANTED(SCRUB_SKIPS) && mend->number % 2 == 0) {
        s->at += MR_LOG_BLOCK;
    }
    if (s->at >= mend->until) {
        s->last = s->number;
        s->number = 0;
    }
}

void mr__scrub_done(struct mr_bus *bus, struct mr_log_request *request)
{
    struct mr__scrub *s = &bus->scrub;
    MR_ASSERT(request == s->request);
    if (request->spans > 0 && !bus->closing) {
        s->judged = true;
        return;
    }
    s->request = NULL;
    if (request->spans == 0) {
        piece_read(bus, (const struct mr_log_mend *)(const void *)request->buf, request->result);
    }
    mr_free(request->buf);
    mr_free(request);
}

void mr__scrub_run(struct mr_bus *bus)
{
    switch (bus->scrub.phase) {
    case MR__SCRUB_READ:
        read_piece(bus);
        break;
    case MR__SCRUB_FIND:
        find(bus);
        break;
    case MR__SCRUB_JUDGE:
        judge(bus);
        break;
    }
}

uint64_t mr__scrub_due_ns(const struct mr_bus *bus)
{
    const struct mr__scrub *s = &bus->scrub;
    if (bus->faulty || bus->closing) {
        return UINT64_MAX;
    }
    if (s->phase == MR__SCRUB_JUDGE && s->judged) {
        return bus->now.mono_ns + NO_ROOM_NS;
    }
    bool waits = s->phase == MR__SCRUB_READ && s->request == NULL && !is_idle(bus) &&
                 bus->options.log.scrub_ns != 0;
    return waits ? s->due_mono_ns : UINT64_MAX;
}

bool mr__scrub_is_at(const struct mr_bus *bus, const struct mr__segment *segment)
{
    const struct mr__scrub *s = &bus->scrub;
    return s->phase == MR__SCRUB_READ
               ? s->request != NULL && s->request->number == segment->number
               : s->rot.number == segment->number;
}

void mr__scrub_status(const struct mr_bus *bus, struct mr_bus_status *status)
{
    const struct mr__scrub *s = &bus->scrub;
    status->scrub_ended_wall_ns = s->ended_wall_ns;
    status->scrub_bytes = s->ended_bytes;
    status->rotten = s->rot_count;
    status->rotten_found = s->found;
    status->rotten_deliveries = s->deliveries;
    status->rotten_letters = s->letters;
}

void mr__scrub_release(struct mr_bus *bus)
{
    struct mr__scrub *s = &bus->scrub;
    if (s->request != NULL && s->judged) {
        mr_free(s->request->buf);
        mr_free(s->request);
    }
    mr_free(s->suspects);
    mr_free(s->rots);
}
