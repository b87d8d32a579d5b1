/* What the files of bus/ call of one another; structs.h has what they share. Nothing outside bus/
 * includes this.
 *
 *   objects.c     subscriptions, targets, sources and their names; lists; needed segments
 *   state.c       deliveries and lanes: the fold, used live and in recovery
 *   memory.c      what the state may take, and who may have more of it
 *   pool.c        many of one size
 *   timers.c      when something is due for a delivery
 *   letters.c     dead letters, and notes of earlier attempts
 *   stage.c       the group being gathered, the one being written
 *   segments.c    where they go: made ready, sealed, given up
 *   walk.c        over all deliveries and dead letters, so many each step
 *   scrub.c       their bytes looked at now and then, for what has rotted
 *   footers.c     which of the sealed ones get their footer, and when
 *   sketch.c      what the groups may concern of those that have none yet
 *   survive.c     what keeps mostly dead segments alive is moved; logcopy.c copies it
 *   ingest.c      events in
 *   dedupe.c      which of them are repeats
 *   share.c       what of a subscription goes to which of its targets, and in which turn
 *   dispatch.c    attempts, hand-outs, breakers
 *   bundle.c      batches for handlers
 *   limit.c       rates
 *   shed.c        what goes when too many wait, and the event that tells of it
 *   overtaken.c   what a later event of the lane makes pointless
 *   answer.c      verdicts and leases
 *   ending.c      the end of a delivery, with its outcome
 *   edit.c        a held delivery gets another event
 *   fanout.c      which events wait for the ends of several subscriptions
 *   joined.c      the event that tells of all these ends
 *   cache.c       the recent groups in memory
 *   reads.c       bytes of the log from its files, a bounded number at once
 *   load.c        the event of one delivery
 *   catchup.c     subscriptions that are behind, so much in each step
 *   postings.c    what they read where a footer says what is theirs
 *   checkpoint.c  the two slots, written; snap.c, what is; checkpoint_read.c, what of one is good;
 *                 checkpoint_slots.c, what of them a start takes; checkpoint_load.c, how;
 *                 checkpoint_old.c, those of releases before; checkpoint_verify.c, what is damaged
 *   missing.c     segments that are not there: given up, or lost
 *   keep_verify.c what of the survivor files is damaged
 *   logwindow.c   the bytes of the log as its reader goes through them
 *   open.c        recovery
 *   configure.c   a configuration is taken
 *   query.c       questions and invariants
 *
 * Every change of delivery state is: reserve, log a record, apply it with a state call. Recovery
 * decodes the record and makes the same state call. */
#ifndef MR_BUS_INTERNAL_H
#define MR_BUS_INTERNAL_H

#include "bus/structs.h"

/* pool.c */
/* So that @p count objects of @p item_size, the pool's only one, a multiple of 8, can be taken. */
MR_MUST_USE enum mr_status mr__pool_reserve(struct mr__pool *pool, size_t item_size,
                                            uint64_t count);
/* Bytes that this would allocate. */
uint64_t mr__pool_growth(const struct mr__pool *pool, size_t item_size, uint64_t count);
void *mr__pool_take(struct mr__pool *pool); /* one that was reserved; its bytes are anything */
void mr__pool_give(struct mr__pool *pool, void *object);
void mr__pool_release(struct mr__pool *pool); /* with all that was taken and not given back */

/* memory.c */
/* After every change of what is kept for @p sub. */
void mr__memory_update(struct mr_bus *bus, struct mr__sub *sub);
/* Shares of another configuration; NULL: it is not known yet. */
void mr__memory_configure(struct mr_bus *bus, const struct mr_config *config);
uint64_t mr__memory_used(const struct mr_bus *bus); /* of memory.state */
uint64_t mr__memory_joins_over(const struct mr_bus *bus); /* what fan-outs have beyond their part */
uint64_t mr__memory_share(const struct mr_bus *bus, const struct mr__sub *sub);
/* Whether @p sub may have one delivery more; so many bytes of notes; so many dead letters that were
 * no deliveries. */
bool mr__memory_has_room(const struct mr_bus *bus, const struct mr__sub *sub, bool lane);
bool mr__memory_has_bytes(const struct mr_bus *bus, const struct mr__sub *sub, uint64_t bytes);
bool mr__memory_has_dead(const struct mr_bus *bus, const struct mr__sub *sub, uint64_t more);
bool mr__memory_has_redrive(const struct mr_bus *bus, const struct mr__sub *sub);
/* Whether it pays to read on for @p sub, which had no room. */
bool mr__memory_refills(const struct mr_bus *bus, const struct mr__sub *sub);
uint64_t mr__dead_capacity(uint64_t count); /* places for so many dead letters */
void mr__memory_check(const struct mr_bus *bus);
/* Room for the matches of events that are about to be appended: all of these are wished for first,
 * then reserved. For what finds no place then the subscription goes behind, so this cannot fail. */
void mr__arrivals_begin(struct mr_bus *bus);
void mr__arrivals_wish(struct mr_bus *bus, const struct mr_matches *matches);
void mr__arrivals_reserve(struct mr_bus *bus, const struct mr_matches *matches);
bool mr__arrival_has_place(const struct mr_bus *bus, const struct mr__sub *sub, bool lane);

/* objects.c, state.c, timers.c, letters.c */
void mr__list_push(struct mr__list *list, struct mr__delivery *d);
void mr__list_remove(struct mr__delivery *d);
struct mr__sub *mr__sub_add(struct mr_bus *bus, const char *name);
struct mr__target *mr__target_add(struct mr_bus *bus, const char *name);
struct mr__source *mr__source_add(struct mr_bus *bus, const char *name);
uint32_t mr__name_find(const struct mr_bus *bus, enum mr_name_kind kind, const char *name);
void mr__name_enter(struct mr_bus *bus, enum mr_name_kind kind, uint32_t id, const char *name);
void mr__count_end(struct mr__sub *sub, enum mr_state state);
/* A delivery that recovery took from a record behind the cursor ends: the cursor must pass it. */
void mr__skip_behind(struct mr__sub *sub, uint64_t offset);
void mr__sub_destroy(struct mr__sub *sub);
struct mr__delivery *mr__delivery_find(const struct mr__sub *sub, uint64_t offset);
/* Whether a match logged under this order epoch may stand beside what is in the window. */
bool mr__order_fits(const struct mr__sub *sub, uint16_t epoch);
bool mr__window_has_room(const struct mr_bus *bus, const struct mr__sub *sub, uint16_t epoch,
                         bool lane);
/* What the arrival of so many matches needs, @p lanes of them in lanes, so that what follows cannot
 * fail. */
enum mr_status mr__state_reserve(struct mr_bus *bus, struct mr__sub *sub, uint64_t deliveries,
                                 uint64_t lanes);
/* A delivery enters the window: ready, delayed, or blocked in its lane. Room was reserved. */
struct mr__delivery *mr__state_load(struct mr_bus *bus, struct mr__sub *sub,
                                    const struct mr__arrival *arrival);
/* What the event itself says about when: expirytime and mrnotbefore. */
void mr__arrival_times(struct mr__arrival *arrival, struct mr_bytes record);
/* The moment from which max_age counts for an event that came at @p arrival_ns. */
uint64_t mr__age_start(const struct mr__sub *sub, struct mr_bytes record, uint64_t arrival_ns);
/* Attempt logged; the delivery leaves the ready list. */
void mr__set_where(struct mr__delivery *d, enum mr__where where);
void mr__set_ramp(struct mr__delivery *d);
void mr__state_begin(struct mr_bus *bus, struct mr__delivery *d, uint32_t fence);
/* Back to waiting until due (0: ready at once). */
void mr__state_wait(struct mr_bus *bus, struct mr__delivery *d, uint64_t due_ns);
void mr__state_hold(struct mr_bus *bus, struct mr__delivery *d);
/* As many of each lane of @p sub may go as its configuration says. */
void mr__state_set_width(struct mr_bus *bus, struct mr__sub *sub);
/* Whether so few of its lane are before it that it may go. */
bool mr__lane_has_way(const struct mr__delivery *d);
/* Decided, but the event's bytes are wanted first. Not logged: a crash decides again. */
void mr__state_ending(struct mr_bus *bus, struct mr__delivery *d, struct mr__ending *end);
/* The end: counts it, frees d, lets its lane go on. DEAD: also mr__state_add_dead before. */
void mr__state_end(struct mr_bus *bus, struct mr__delivery *d, enum mr_state state);
enum mr_status mr__state_reserve_dead(struct mr_bus *bus, struct mr__sub *sub);
enum mr_status mr__state_reserve_dead_more(struct mr_bus *bus, struct mr__sub *sub, uint64_t more);
/* Deliveries and heap places for @p more, whichever subscription they go to. */
enum mr_status mr__state_reserve_total(struct mr_bus *bus, uint64_t more, uint64_t lanes);
void mr__state_add_dead(struct mr_bus *bus, struct mr__sub *sub, const struct mr_dead_letter *l);
/* Whether it has no place in the log yet, only in the group being gathered: segments are numbered
 * from 1. */
static inline bool mr__dead_is_staged(const struct mr_dead_letter *letter)
{
    return mr_position_segment(letter->record_position) == 0;
}
/* The index of the first dead letter at or past @p offset. */
uint64_t mr__dead_lower(const struct mr__sub *sub, uint64_t offset);
int64_t mr__dead_find(const struct mr__sub *sub, uint64_t offset);
void mr__state_remove_dead(struct mr_bus *bus, struct mr__sub *sub, uint64_t at);
uint64_t mr__dead_later(const struct mr__sub *sub, const struct mr__dead *dead);
void mr__note_add(struct mr_bus *bus, struct mr__delivery *d, uint32_t fence, uint64_t started,
                  uint64_t ended,
                  const struct mr_result *result);
/* Of what was in flight at @p position, where a process began; UINT64_MAX: now. */
enum mr_status mr__state_interrupt_all(struct mr_bus *bus, uint64_t position, uint64_t log_ns,
                                       uint64_t *ret_count);
/* Place @p at of the heap of timers. */
static inline struct mr__delivery **mr__heap_at(const struct mr_bus *bus, uint32_t at)
{
    return &bus->heap[at / HEAP_CHUNK][at % HEAP_CHUNK];
}
void mr__timers_release(struct mr_bus *bus);
/* Room for so many timers altogether. */
MR_MUST_USE enum mr_status mr__timer_reserve(struct mr_bus *bus, uint64_t count);
void mr__timer_set(struct mr_bus *bus, struct mr__delivery *d);
void mr__timer_clear(struct mr_bus *bus, struct mr__delivery *d);
uint64_t mr__expiry(const struct mr_bus *bus, const struct mr__delivery *d);
void mr__segment_live(struct mr_bus *bus, uint64_t position, int64_t change);
struct mr__segment *mr__segment_of(struct mr_bus *bus, uint64_t position);
bool mr__is_begun(const struct mr__delivery *d);

/* stage.c */
enum mr_status mr__stage_reserve(struct mr_bus *bus, size_t bytes);
/* @return the record's byte in the stage */
uint64_t mr__stage_record(struct mr_bus *bus, const struct mr_record *record);
enum mr_status mr__stage_reserve_created(struct mr_bus *bus, uint32_t more);
enum mr_status mr__stage_reserve_dead(struct mr_bus *bus, uint32_t more);
void mr__stage_dead(struct mr_bus *bus, uint32_t sub, uint64_t offset);
void mr__stage_created(struct mr_bus *bus, struct mr__delivery *d);
void mr__stage_forget(struct mr_bus *bus, struct mr__delivery *d);
void mr__stage_submit(struct mr_bus *bus);
/* When the stage wants to be written, monotonic; 0: now, UINT64_MAX: it cannot or need not be. */
uint64_t mr__stage_due_ns(const struct mr_bus *bus);
/** As mr__stage_submit() when the disk is idle and the stage large: what a turn has gathered so far
 * is written while the rest of it is encoded. */
void mr__stage_submit_large(struct mr_bus *bus);
/** Gives back what was staged and will never be written: the log is faulty. */
void mr__stage_refuse(struct mr_bus *bus);
void mr__stage_written(struct mr_bus *bus, struct mr_log_request *request);
void mr__fail(struct mr_bus *bus, const char *what, enum mr_status status);
struct mr_log_request *mr__request(struct mr_bus *bus, enum mr_log_io kind);
void mr__send(struct mr_bus *bus, struct mr_log_request *request);
uint64_t mr__promised_sequence(const struct mr_bus *bus);
/* Its group is durable, or it is refused. */
void mr__batch_answer(struct mr_bus *bus, struct mr_batch *batch, enum mr_status result);
size_t mr__group_size_max(const struct mr_bus *bus);

/* segments.c */
/* The segment that @p padded bytes go to, or NULL: none is ready yet. */
struct mr__segment *mr__segment_for(struct mr_bus *bus, uint32_t padded);
/* Whether events of @p bytes may be gathered: while no segment is ready after the present one, its
 * end is kept for what becomes of deliveries. */
bool mr__segment_takes_events(const struct mr_bus *bus, size_t bytes);
void mr__segment_prepared(struct mr_bus *bus, struct mr_log_request *request);
void mr__spare_made(struct mr_bus *bus, struct mr_log_request *request);
void mr__segment_retired(struct mr_bus *bus, struct mr_log_request *request);
uint64_t mr__log_bytes(const struct mr_bus *bus); /* of all segments and survivor files */
void mr__segments_maintain(struct mr_bus *bus);
/* Past the retention window, given that the segments of the log have @p bytes, with no cursor
 * before its end; @p cursor: mr__lowest_cursor(). What is alive in it aside. */
bool mr__segment_is_past(const struct mr_bus *bus, const struct mr__segment *segment,
                         uint64_t bytes, uint64_t cursor);
uint64_t mr__lowest_cursor(const struct mr_bus *bus); /* number of a segment */
uint64_t mr__segments_staying(const struct mr_bus *bus); /* less those that are on their way out */
/* Both checkpoint slots know what has moved out of @p segment. */
bool mr__slots_know_moved(const struct mr_bus *bus, const struct mr__segment *segment);
/* Nothing of @p segment is needed, and nothing that says so can be taken back. */
bool mr__segment_is_free(const struct mr_bus *bus, const struct mr__segment *segment);
/* Its file goes. @return false: no memory, try again */
bool mr__segment_retire(struct mr_bus *bus, struct mr__segment *segment);

/* sketch.c */
void mr__sketch_note(struct mr_bus *bus, const struct mr_record *record); /* one for the stage */
/* The stage becomes the group at @p at of @p segment. */
void mr__sketch_group(struct mr_bus *bus, struct mr__segment *segment, uint64_t at);
void mr__sketch_drop(struct mr_bus *bus, struct mr__segment *segment);

/* footers.c */
/* Which segments have a footer file; those of segments that are gone are removed. */
void mr__footers_adopt(struct mr_bus *bus, struct mr_io *io, const struct mr_log_index *index);
void mr__footers_maintain(struct mr_bus *bus);
/** When the next one is due, monotonic ns; UINT64_MAX: nothing waits for a time. */
uint64_t mr__footers_due_ns(const struct mr_bus *bus);
void mr__footer_done(struct mr_bus *bus, struct mr_log_request *request);
/* The footer of @p segment cannot be read: it is looked at again, and made anew. */
void mr__footer_distrust(struct mr_bus *bus, struct mr__segment *segment);
/* Whether a file of it, or of its group, is being made: it stays until then. */
bool mr__footers_busy(const struct mr_bus *bus, const struct mr__segment *segment);
/* Whether no other segment is of its group of ids, and none will be. */
bool mr__footers_is_last(const struct mr_bus *bus, const struct mr__segment *segment);
uint64_t mr__footers_count(const struct mr_bus *bus, uint64_t *ret_pending);

/* walk.c */
struct mr__walked { /* a delivery, a dead letter, or neither: a subscription has no more */
    const struct mr__sub *sub;
    const struct mr__delivery *delivery;
    const struct mr_dead_letter *letter;
};
void mr__walk_begin(const struct mr_bus *bus, struct mr__walk *walk);
/* @return false: all are seen */
bool mr__walk_next(const struct mr_bus *bus, struct mr__walk *walk, struct mr__walked *ret_walked);
/* @p d is about to be freed. */
void mr__walk_forget(struct mr__walk *walk, const struct mr__delivery *d);

/* scrub.c */
void mr__scrub_run(struct mr_bus *bus);
void mr__scrub_done(struct mr_bus *bus, struct mr_log_request *request);
uint64_t mr__scrub_due_ns(const struct mr_bus *bus); /* monotonic; UINT64_MAX: nothing to do */
/* Whether it is being read: it cannot go now. */
bool mr__scrub_is_at(const struct mr_bus *bus, const struct mr__segment *segment);
void mr__scrub_status(const struct mr_bus *bus, struct mr_bus_status *status);
void mr__scrub_release(struct mr_bus *bus);

/* survive.c */
void mr__survive_run(struct mr_bus *bus);
void mr__copied(struct mr_bus *bus, struct mr_log_request *request);
/* One entry of a MOVED record. */
void mr__state_moved(struct mr_bus *bus, const struct mr_log_copy *moved);
enum mr_status mr__fold_moved(struct mr_bus *bus, const struct mr_record *record);
void mr__keeps_retire(struct mr_bus *bus);
void mr__survive_release(struct mr_bus *bus);

/* ingest.c */
/* Appends one event with its matches to the stage, and opens its joins. Room for all of it was
 * reserved. */
uint64_t mr__event_append(struct mr_bus *bus, struct mr_event *event, uint32_t source,
                          uint32_t cause_sub, uint64_t cause_offset,
                          const struct mr_match *matches, uint32_t count);
uint64_t mr__event_append_rejected(struct mr_bus *bus, struct mr_event *event, uint32_t source,
                                   uint32_t ingest_sub, const char *reason);
struct mr__sub *mr__ingest_sub(struct mr_bus *bus, uint32_t source);
void mr__ingest_pending(struct mr_bus *bus);
/* Batches that wait for room over a change of configuration, before and after it: they are matched
 * and ordered by the new one. */
void mr__pending_hold(struct mr_bus *bus);
void mr__pending_rematch(struct mr_bus *bus);
void mr__flow_update(struct mr_bus *bus);
enum mr_status mr__names_reserve(struct mr_bus *bus);

/* dedupe.c */
/* @p keys at most are kept, for @p window_ns; 0: none, and those there are go. */
void mr__seen_configure(struct mr_bus *bus, struct mr__seen *seen, uint64_t window_ns,
                        uint64_t keys);
/* Before a key is looked for or entered. */
MR_MUST_USE enum mr_status mr__seen_reserve(struct mr_bus *bus, struct mr__seen *seen);
/* The offset of the first event within the window that has @p key; 0: none. */
uint64_t mr__seen_find(struct mr_bus *bus, struct mr__seen *seen, const struct mr_dedupe_key *key);
/* @return how many others went early for it */
uint32_t mr__seen_enter(struct mr_bus *bus, struct mr__seen *seen, const struct mr__seen_key *key);
const struct mr__seen_key *mr__seen_at(const struct mr__seen *seen, uint64_t n); /* by age */
void mr__seen_release(struct mr_bus *bus, struct mr__seen *seen);
void mr__seen_check(const struct mr__seen *seen);
void mr__name_log(struct mr_bus *bus, enum mr_name_kind kind, uint32_t id, const char *name);

/* share.c */
static inline struct mr__share *mr__share_of(const struct mr__delivery *d)
{
    return &d->sub->shares[d->share];
}
/* @p count shares of @p sub, without targets; NULL: memory is short. */
struct mr__share *mr__shares_create(struct mr__sub *sub, uint32_t count);
void mr__shares_destroy(struct mr__share *shares, uint32_t count); /* NULL-safe */
/* Makes sub->shares_next of what @p conf wants. Targets are known by then; bytes of what applying
 * it may log are added to *bytes. */
MR_MUST_USE enum mr_status mr__shares_prepare(struct mr_bus *bus, struct mr__sub *sub,
                                              const struct mr_subscription_config *conf,
                                              const struct mr_config *config, size_t *bytes);
void mr__shares_apply(struct mr_bus *bus, struct mr__sub *sub);
/* Into the ready list of the share and level it belongs to. */
void mr__ready_push(struct mr__delivery *d);
/* Which of what is ready goes next, or NULL. */
struct mr__delivery *mr__ready_next(const struct mr__share *share);
/* From mr__ready_next() on, which has @p first_level, all that is ready, level by level; NULL: that
 * was the last. */
struct mr__delivery *mr__ready_after(const struct mr__share *share, uint8_t first_level,
                                     const struct mr__delivery *d);
/* @p target has answered to @p sub: too many failures, and the weight goes to the others. */
void mr__share_judge(struct mr_bus *bus, struct mr__sub *sub, const struct mr__target *target,
                     bool ok);
/* All weights that went to others come back. Room for the records was reserved. */
void mr__shares_restore(struct mr_bus *bus, struct mr__sub *sub);
size_t mr__shares_restore_size(const struct mr__sub *sub);
/* As WEIGHT says; @p hash 0: it has come back. */
enum mr_status mr__state_weight(struct mr__sub *sub, uint32_t target, uint64_t hash);
/* On the ring of its target, unless nothing is ready. */
void mr__turn_add(struct mr__share *share);
void mr__turn_add_all(struct mr__sub *sub);
void mr__turn_leave(struct mr__share *share);
/* Takes the next share in turn off the ring of @p target; NULL: nothing is ready. */
struct mr__share *mr__turn_take(struct mr__target *target);
/* Counts an attempt of @p window, which spans @p width_ns. */
void mr__window_count(struct mr__window *window, uint64_t width_ns, uint64_t log_ns, bool ok);
/* Whether at least @p calls were counted, and @p percent of them failed. */
bool mr__window_is_over(const struct mr__window *window, uint32_t calls, uint32_t percent);

/* dispatch.c */
bool mr__may_begin(const struct mr_bus *bus, const struct mr__share *share);
void mr__arm(struct mr_bus *bus, struct mr__delivery *d, uint32_t fence, struct mr_event *event);
void mr__dispatch(struct mr_bus *bus);
void mr__breaker_count(struct mr_bus *bus, struct mr__target *target, bool ok);
enum mr_blocked_on mr__blocked_on(const struct mr__delivery *d);
/* The same for whatever of @p share stands there; the ramp and reads of single events apart. */
enum mr_blocked_on mr__blocked_where(const struct mr__share *share, enum mr__where where);

/* bundle.c */
struct mr__bundle *mr__bundle_create(struct mr_bus *bus); /* held; NULL: memory is short */
void mr__bundle_drop(struct mr_bus *bus, struct mr__bundle *bundle); /* ends the hold */
void mr__bundles_destroy(struct mr_bus *bus);
/* @p d begins, or has left what it began in. @return whether a place is taken or given back: it is
 * by itself, or the first or last of its batch */
bool mr__bundle_enter(const struct mr__delivery *d);
bool mr__bundle_leave(struct mr_bus *bus, struct mr__delivery *d);
/* Its hand-outs that are outside: one more; one back, @return whether that was the last. */
void mr__bundle_out(struct mr_handout *h, struct mr__bundle *bundle);
bool mr__bundle_back(struct mr_bus *bus, struct mr_handout *h);
/* Whether @p answer is the first that says of its batch that it failed as a whole, or of no batch:
 * the breaker counts it. */
bool mr__bundle_tells(const struct mr_handout *h);
/* How many may be together the next time, when @p answer is about the batch of @p d as a whole; 0:
 * it is about d. */
uint32_t mr__bundle_share(const struct mr__delivery *d, const struct mr_answer *answer);
/* How many stand in a row from @p d on, of a queue, that are handed out together. */
uint32_t mr__bundle_row(const struct mr__delivery *d);
/* What the next batch of @p share is made of goes to bus->gathered. @return how many; *ret_due_ns:
 * when it waits for no others, log clock; 0: now */
uint32_t mr__bundle_gather(struct mr_bus *bus, struct mr__share *share, uint64_t *ret_due_ns);
/* How many hand-outs @p count deliveries of @p sub will be. */
uint64_t mr__bundle_places(const struct mr__sub *sub, uint64_t count);

/* limit.c */
/* Makes *next what @p rates (NULL: none) want in the place of @p limit: the same object when it has
 * them already, so that it remembers. Applied later, when nothing can fail any more. */
MR_MUST_USE enum mr_status mr__limit_prepare(struct mr__limit *limit, const struct mr_rates *rates,
                                             struct mr__limit **next);
void mr__limit_apply(struct mr__limit **limit, struct mr__limit **next);
void mr__limit_destroy(struct mr__limit *limit); /* NULL-safe, as the two below */
/* Monotonic time from which the hand-out after @p more others may be; UINT64_MAX: not foreseen. */
uint64_t mr__limit_due_ns(const struct mr__limit *limit, uint64_t more);
void mr__limit_take(struct mr__limit *limit, uint64_t now_ns);
/* The shared limits of a configuration to come; what stays as it is keeps what it remembers. */
MR_MUST_USE enum mr_status mr__shared_prepare(struct mr_bus *bus, const struct mr_config *config,
                                              struct mr__shared **ret_next);
void mr__shared_apply(struct mr_bus *bus, struct mr__shared *next, uint32_t count);
/* Counts anew what is on its way, after all subscriptions were configured. */
void mr__shared_recount(struct mr_bus *bus);
/* One of @p sub begins, is handed out, or leaves: +1, 0, -1. */
void mr__shared_count(struct mr__sub *sub, int begun, int in_flight);
bool mr__shared_has_place(const struct mr__sub *sub);
bool mr__shared_has_rate(const struct mr__sub *sub);
/* When all shared rates grant one more; @p ahead: beyond what has begun and is not handed out. */
uint64_t mr__shared_due_ns(const struct mr__sub *sub, bool ahead);
void mr__shared_take(struct mr__sub *sub, uint64_t now_ns);

/* shed.c */
/* More of @p sub wait than did: it goes on the list when these are too many. */
void mr__shed_look(struct mr_bus *bus, struct mr__sub *sub);
/* @p d came in with the event @p record: what its shedding will want to know of that. */
void mr__shed_note(struct mr__delivery *d, struct mr_bytes record);
/* Drops what those on the list have too many of, a bounded number of each. */
void mr__shed_run(struct mr_bus *bus);
void mr__shed_check(const struct mr__sub *sub);

/* overtaken.c */
/* Why @p d is to be dropped, or NULL. */
const char *mr__overtaken(const struct mr__delivery *d);
/* @p d has entered its lane: what it overtakes gets its timer. */
void mr__overtaken_enter(struct mr_bus *bus, struct mr__delivery *d);
/* When @p d may first go: what its event says, and `debounce`; log clock, 0: at once. */
uint64_t mr__debounced_ns(const struct mr_bus *bus, const struct mr__delivery *d);

/* operate.c */
/* Drops @p d wherever it is; its target is told to cancel it. @return false: no room, try again */
MR_MUST_USE bool mr__drop(struct mr_bus *bus, struct mr__delivery *d, const char *reason);

/* answer.c, ending.c */
void mr__timers_run(struct mr_bus *bus);
void mr__deferred_run(struct mr_bus *bus);
void mr__ending_ready(struct mr_bus *bus, struct mr__delivery *d);
/* Ends d as @p end says, now or once its event's bytes are here. Takes @p end when it succeeds.
 * @param answer whose emitted events go with it, or NULL. @return MR_E_FULL: no room, try again */
MR_MUST_USE enum mr_status mr__finish_or_wait(struct mr_bus *bus, struct mr__delivery *d,
                                              struct mr__ending *end,
                                              const struct mr_handout *answer);
void mr__ending_release(struct mr__ending *end); /* NULL-safe */
/* What ends d without an answer; owned by the caller. NULL: memory is short. */
struct mr__ending *mr__ending_plain(const struct mr_bus *bus, const struct mr__delivery *d,
                                    enum mr_state state, const char *reason);
/* Ends d without an answer: expired, dropped. @return false: no room now, try again */
bool mr__finish_plain(struct mr_bus *bus, struct mr__delivery *d, enum mr_state state,
                      const char *reason);
/* Ends d, whose event cannot be read; what was answered is told all the same. @return likewise */
bool mr__finish_lost(struct mr_bus *bus, struct mr__delivery *d);

/* fanout.c */
uint32_t mr__fanout_id(struct mr_bus *bus, const char *name); /* made when new; UINT32_MAX: NOMEM */
/* Fan-outs up to @p id exist; that one has @p name, or any when it is empty. */
enum mr_status mr__fanout_name(struct mr_bus *bus, uint32_t id, struct mr_bytes name);
enum mr_status mr__fanouts_reserve(struct mr_bus *bus, const struct mr_config *config);
void mr__fanouts_configure(struct mr_bus *bus, const struct mr_config *config);
/* The joins of an event with @p matches (ids) are made ready, so that appending it cannot fail.
 * @param except id + 1 of a fan-out it does not belong to; 0: none */
MR_MUST_USE enum mr_status mr__fanout_prepare(struct mr_bus *bus, const struct mr_event *event,
                                              const struct mr_match *matches, uint32_t count,
                                              uint32_t except);
void mr__fanout_forget(struct mr_bus *bus); /* what was prepared and not opened */
size_t mr__fanout_size(const struct mr_bus *bus, uint32_t matches); /* bytes of log, at most */
/* Opens and logs what was prepared for @p event, whose MATCH was just staged. */
void mr__fanout_open(struct mr_bus *bus, const struct mr_event *event, uint64_t offset);
enum mr_status mr__fold_fanout(struct mr_bus *bus, const struct mr_record *record,
                               const struct mr_record *event);
void mr__fold_joined(struct mr_bus *bus, const struct mr_record *record);
/* Every end of every delivery; the first of each counts. */
void mr__fanout_ended(struct mr_bus *bus, uint32_t sub, uint64_t offset,
                      const struct mr__end *end);
/* The same for all of @p sub that are not in its window: they were on disk, and are no more. */
void mr__fanout_gone(struct mr_bus *bus, const struct mr__sub *sub, enum mr_state state,
                     const char *reason);
void mr__join_close(struct mr_bus *bus, struct mr__join *join);
/* One of a checkpoint, its members still to be filled in; then it is opened or unmade. */
enum mr_status mr__join_restore(struct mr_bus *bus, const struct mr__join_saved *saved,
                                struct mr__join **ret_join);
enum mr_status mr__join_restored(struct mr_bus *bus, struct mr__join *join); /* takes it */
void mr__join_unmake(struct mr__join *join);
void mr__fanouts_check(const struct mr_bus *bus);
uint64_t mr__fanouts_hash(const struct mr_bus *bus);
void mr__fanouts_destroy(struct mr_bus *bus);

/* joined.c */
void mr__fanouts_run(struct mr_bus *bus);
uint64_t mr__fanout_due_ns(const struct mr_bus *bus); /* log clock; UINT64_MAX: none is open */

/* query.c */
void mr__time_delivery(struct mr__sub *sub, uint64_t ns);
void mr__time_attempt(struct mr__sub *sub, uint64_t ns);
void mr__count_verdict(struct mr__sub *sub, enum mr_verdict verdict);
void mr__count_shed(struct mr__sub *sub, uint32_t count);

/* cache.c */
void mr__cache_add(struct mr_bus *bus, struct mr__group *group);
/* Bytes [position, +size) if they are in memory, else NULL; until the next bytes are asked for. */
const uint8_t *mr__bytes_at(struct mr_bus *bus, uint64_t position, size_t size);
void mr__cache_release(struct mr_bus *bus);

/* reads.c */
/* As mr__bytes_at(), of those that were read. */
const uint8_t *mr__read_bytes(struct mr_bus *bus, uint64_t position, size_t size);
/* Asks for them, and for as many as @p ahead from there on that may be wanted next.
 * @return false: not now, ask again later */
bool mr__bytes_want(struct mr_bus *bus, uint64_t position, size_t size, size_t ahead);
/* The same for @p sub, which is behind. */
bool mr__walk_want(struct mr_bus *bus, struct mr__sub *sub, uint64_t position, size_t size);
/* Whether @p size more may be read that nobody waits for yet: nothing gives way to it but,
 * with the next step, what nobody is at any more. */
bool mr__may_read_ahead(struct mr_bus *bus, size_t size);
/* Asks for what comes behind the chunk in which the group at the cursor of @p sub stands, if it
 * may. */
void mr__read_ahead(struct mr_bus *bus, struct mr__sub *sub);
void mr__read_done(struct mr_bus *bus, struct mr_log_request *request);
/* A read of @p size bytes for @p sub, which is behind (NULL: for one event), still to be filled in
 * and sent; NULL: not now. */
struct mr_log_request *mr__read_request(struct mr_bus *bus, struct mr__sub *sub, size_t size);
/* Says of it what is needed to tell damage: it reads of @p segment (NULL: not known). */
void mr__read_of(struct mr_log_request *read, const struct mr__segment *segment);
#define MR__FOOTER_PLACES (1ull << 63) /* | mr_position(): a byte in that segment's footer */
/* Asks for the page of a footer at byte @p at, for @p sub. @return false: not now, or it is on its
 * way */
bool mr__footer_want(struct mr_bus *bus, struct mr__sub *sub, uint64_t number, uint64_t at);
/* The footer of segment @p number cannot be believed: it is made anew. */
void mr__footer_forget(struct mr_bus *bus, uint64_t number);
/* A step is over: who wanted what came has seen it. */
void mr__reads_settle(struct mr_bus *bus);
void mr__reads_release(struct mr_bus *bus);

/* load.c */
/* Gets d's event from memory, or asks the disk; queued and ending deliveries come back here. */
void mr__load_event(struct mr_bus *bus, struct mr__delivery *d);
/* It cannot be read: d ends lost. @return false: no room now, it is found again */
bool mr__event_lost(struct mr_bus *bus, struct mr__delivery *d);
void mr__loading_run(struct mr_bus *bus);

/* catchup.c */
void mr__catch_up(struct mr_bus *bus);
/* Whether what waits behind is being read into the window of @p sub, which has room. */
bool mr__catches_up(const struct mr_bus *bus, const struct mr__sub *sub);
/* Whether its next turn brings @p sub on once its bytes are there. */
bool mr__goes_on(const struct mr_bus *bus, const struct mr__sub *sub);
/* @p sub is live: there is nothing behind its cursor. */
void mr__cursor_end(struct mr_bus *bus, struct mr__sub *sub);
/* Its cursor goes on to @p position. */
void mr__cursor_move(struct mr__sub *sub, uint64_t position);
/* The match @p entry of @p sub with @p event, whose record is at @p position, enters the window.
 * @return false: no room, nothing happened but that the turn is over */
bool mr__cursor_take(struct mr_bus *bus, struct mr__sub *sub, const uint8_t *entry,
                     uint64_t position, const struct mr_record *event);

/* postings.c */
/* The turn of @p sub, whose cursor is in @p segment. @return false: it has to walk */
bool mr__postings_turn(struct mr_bus *bus, struct mr__sub *sub, struct mr__segment *segment,
                       int64_t until);
void mr__postings_read(struct mr_bus *bus, struct mr_log_request *request);
void mr__postings_leave(struct mr_bus *bus, struct mr__sub *sub); /* if it is at any */
/* Gives up bytes of one that cannot use them now. @return false: there is none */
bool mr__postings_yield(struct mr_bus *bus);
/* The page of a footer that @p sub goes on with; 0: none. */
uint64_t mr__postings_page(const struct mr__sub *sub);

/* checkpoint.c */
struct mr__checkpoint_start { /* where recovery begins to read the log */
    uint64_t position;     /* 0: where it begins, and the two below likewise */
    uint64_t sequence;     /* of the last group before it */
    uint32_t previous_crc;
    uint64_t durable;      /* a sequence known durable; 0: none, there is no checkpoint */
};
/* Loads what the slots say. @param[out] ret_start as it was when there is none
 * @return MR_E_UNSUPPORTED, MR_E_CORRUPT, MR_E_IO, MR_E_NOMEM */
enum mr_status mr__checkpoint_recover(struct mr_bus *bus, struct mr_io *io,
                                      const struct mr_log_index *index,
                                      struct mr__checkpoint_start *ret_start,
                                      struct mr_bus_opened *opened, struct mr_problem *problem);
/* Bytes that are logged between two checkpoints. */
uint64_t mr__checkpoint_pace(const struct mr_bus *bus);
/* When one is written though nothing is logged, because segments are kept for the slots alone: at
 * once where space is short, else when it is idle. UINT64_MAX: none is. */
uint64_t mr__checkpoint_hasten_ns(const struct mr_bus *bus);
void mr__checkpoint_hasten(struct mr_bus *bus);
bool mr__checkpoint_is_due(const struct mr_bus *bus);
/* Both with nothing staged. */
void mr__checkpoint_begin(struct mr_bus *bus);
/* Saves as much as one chunk holds, and writes what can be written. */
void mr__checkpoint_run(struct mr_bus *bus);
bool mr__checkpoint_wants_step(const struct mr_bus *bus); /* it could go on at once */
void mr__checkpoint_done(struct mr_bus *bus, struct mr_log_request *request);
void mr__checkpoint_abandon(struct mr_bus *bus); /* the slot before stands */
void mr__checkpoint_release(struct mr_bus *bus);
/* What a checkpoint is to have as it is now is about to change: it is saved before. */
void mr__snap_delivery(struct mr__snap *snap, struct mr__delivery *d);
void mr__snap_delivery_ends(struct mr__snap *snap, struct mr__delivery *d);
void mr__snap_lane_settled(struct mr__snap *snap, uint64_t lane);
void mr__snap_dead_comes(struct mr__snap *snap, uint64_t at);
void mr__snap_dead_goes(struct mr__snap *snap, struct mr__sub *sub, uint64_t at);
void mr__snap_join(struct mr_bus *bus, struct mr__join *join);
void mr__snap_join_closes(struct mr_bus *bus, struct mr__join *join);
static inline void mr__snap_touch(struct mr__delivery *d)
{
    if (d->sub->snap != NULL) {
        mr__snap_delivery(d->sub->snap, d);
    }
}

/* operate.c */
enum mr_status mr__name_set(struct mr_bus *bus, enum mr_name_kind kind, uint32_t id,
                            const char *name);
/* What waits on disk for @p sub expires: fan-outs that wait for it are told. */
void mr__removed_gone(struct mr_bus *bus, struct mr__sub *sub);
void mr__apply_removed(struct mr_bus *bus, struct mr__sub *sub, uint32_t what, uint64_t log_ns);
enum mr_status mr__apply_redrive(struct mr_bus *bus, struct mr__sub *sub, uint64_t offset);
size_t mr__unarm_size(const struct mr__sub *sub);
void mr__unarm(struct mr_bus *bus, struct mr__sub *sub, const struct mr__share *share);
void mr__unarm_all(struct mr_bus *bus); /* as far as the group has room */
void mr__timers_reset(struct mr_bus *bus);

/* edit.c */
void mr__apply_edit(struct mr_bus *bus, struct mr__delivery *d, const struct mr__arrival *arrival);
enum mr_status mr__fold_edit(struct mr_bus *bus, struct mr__sub *sub,
                             const struct mr_log_group *group, const struct mr_record *record,
                             const struct mr_record *event);

/* step.c */
void mr__clock_advance(struct mr_bus *bus, struct mr_now now);
/* The clock after a time without a process: from the last group to @p now. */
void mr__clock_resume(struct mr_bus *bus, struct mr_now now);

/* fold.c */
/* Objects up to @p id exist, by names of recovery's own until their NAME records come. */
enum mr_status mr__ids_reach(struct mr_bus *bus, enum mr_name_kind kind, uint32_t id);
/* Applies one record of a recovered group. @return MR_E_UNSUPPORTED: unknown and not skippable */
enum mr_status mr__fold(struct mr_bus *bus, const struct mr_log_group *group, uint64_t position,
                        const struct mr_record *record, struct mr_record *event,
                        uint64_t *event_position);

#endif
