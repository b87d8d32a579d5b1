#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "schemas/json_format.h"
#include "workers/process/internal.h"

#define READ_SIZE (64u * MR_KIB)
#define READS_PER_PASS 16u        /* then others get their turn */
#define BUFFER_KEEP_MAX (256u * MR_KIB)
#define GARBAGE_MAX 10u           /* lines that are none of ours … */
#define GARBAGE_WINDOW_NS MR_MINUTE /* … in this time end an instance */
#define HEARTBEAT_MIN_NS (200 * MR_MS)
#define PROGRESS_SIZE_MAX (4u * MR_KIB)

static void garbage(struct mr__instance *i, const char *what, struct mr_bytes line)
{
    struct mr_target *t = i->target;
    if (t->base.now.mono_ns >= i->garbage_from_ns + GARBAGE_WINDOW_NS) {
        i->garbage_from_ns = t->base.now.mono_ns;
        i->garbage = 0;
    }
    i->garbage++;
    t->base.now_health.errors++;
    if (t->garbage_rate.second != t->base.now.mono_ns / MR_SECOND) {
        t->garbage_rate.second = t->base.now.mono_ns / MR_SECOND;
        t->garbage_rate.used = 0;
    }
    if (t->garbage_rate.used++ < 5) {
        MR_WARN("workers", "%s: a line on descriptor 3 is ignored: %s: %.*s", i->who, what,
                (int)(line.size < 120 ? line.size : 120), (const char *)line.data);
    }
    if (i->garbage >= GARBAGE_MAX) {
        mr__instance_distrust(i, "sent 10 lines within a minute that are no frames");
    }
}

/* The slot of the delivery an answer or a heartbeat names. */
static bool find_slot(const struct mr__instance *i, struct mr_bytes raw, uint32_t *ret_at)
{
    char decoded[sizeof(((struct mr_handout *)0)->delivery)];
    struct mr_bytes delivery = mr_frame_text(raw, decoded, sizeof(decoded));
    /* "name:offset": the number tells nearly all apart before texts are compared. */
    const uint8_t *colon = delivery.size == 0 ? NULL : memrchr(delivery.data, ':', delivery.size);
    uint64_t offset;
    if (colon == NULL ||
        !mr_parse_u64(mr_bytes(colon + 1, delivery.size - (size_t)(colon + 1 - delivery.data)),
                      &offset)) {
        return false;
    }
    for (uint32_t k = 0; k < i->held; k++) {
        if (i->slots[k].offset == offset &&
            mr_bytes_equal(delivery, mr_bytes_of(i->slots[k].handout->delivery))) {
            *ret_at = k;
            return true;
        }
    }
    return false;
}

static void greeted(struct mr__instance *i, const struct mr_frame *frame)
{
    struct mr_target *t = i->target;
    if (frame->protocol != 1) {
        mr__instance_distrust(i, "speaks a version of the protocol that is not 1");
        return;
    }
    if (i->greeted) {
        return;
    }
    i->greeted = true;
    i->features = frame->features;
    uint64_t max = frame->max == 0 ? 1 : frame->max;
    i->slot_max = max < t->concurrency ? (uint32_t)max : t->concurrency;
    char decoded[sizeof(i->version)];
    struct mr_bytes version = mr_frame_text(frame->version, decoded, sizeof(decoded));
    if (version.size > 0) {
        mr_text_clean(i->version, sizeof(i->version), version);
    }
    mr__instance_ready(i);
}

/* Of too large or broken progress the last good one stays. */
static void keep_progress(struct mr__slot *slot, struct mr_bytes progress)
{
    char *copy = progress.size == 0 || progress.size > PROGRESS_SIZE_MAX ||
                         !mr_json_is_value(progress)
                     ? NULL
                     : mr_strndup((const char *)progress.data, progress.size);
    if (copy != NULL) {
        mr_free(slot->progress);
        slot->progress = copy;
    }
}

static void beat(struct mr__instance *i, struct mr__slot *slot)
{
    struct mr_target *t = i->target;
    if (slot->cancel_at_ns == 0 && t->base.now.mono_ns >= slot->beat_ns + HEARTBEAT_MIN_NS) {
        slot->beat_ns = t->base.now.mono_ns;
        slot->lease_end_ns = t->base.now.mono_ns + slot->handout->timeout_ns;
        t->base.host->ops->heartbeat(t->base.host, slot->handout);
    }
}

/* One of a batch speaks for all of it. */
static void heartbeat(struct mr__instance *i, const struct mr_frame *frame, struct mr_bytes line)
{
    uint32_t at;
    if (!find_slot(i, frame->delivery, &at)) {
        garbage(i, "a heartbeat of a delivery it does not have", line);
        return;
    }
    keep_progress(&i->slots[at], frame->progress);
    uint64_t batch = i->slots[at].handout->batch;
    beat(i, &i->slots[at]);
    for (uint32_t k = 0; k < i->held && batch != 0; k++) {
        if (i->slots[k].handout->batch == batch) {
            beat(i, &i->slots[k]);
        }
    }
}

static enum mr_verdict read_verdict(struct mr_bytes text)
{
    static const enum mr_verdict known[] = {MR_VERDICT_OK, MR_VERDICT_RETRY, MR_VERDICT_DROP,
                                            MR_VERDICT_DEAD};
    for (size_t k = 0; k < MR_ARRAY_COUNT(known); k++) {
        if (mr_bytes_equal(text, mr_bytes_of(mr_verdict_text(known[k])))) {
            return known[k];
        }
    }
    return MR_VERDICT_NONE;
}

/* The handler did its work, but what it says about it cannot be used: it may try again, and its
 * author sees why. */
static void fault(struct mr_handout *h, const char *what)
{
    h->answer.verdict = MR_VERDICT_RETRY;
    mr_handout_set_error(h, mr_bytes_of(what));
}

static bool take_events(struct mr_handout *h, struct mr_bytes events)
{
    struct mr_problem problem;
    size_t position = 0;
    struct mr_bytes item;
    while (mr_frame_next_item(events, &position, &item)) {
        struct mr_event *event;
        if (mr_json_decode_event(item, MR_EVENT_SIZE_MAX, &event, &problem) != MR_OK) {
            char text[MR_ERROR_TEXT_MAX + 40];
            (void)snprintf(text, sizeof(text), "emitted event %" PRIu32 ": %s",
                           h->answer.emitted_count, problem.text); /* fits */
            fault(h, text);
            return false;
        }
        enum mr_status r = mr_handout_emit(h, event);
        if (r != MR_OK) {
            fault(h, r == MR_E_TOO_BIG ? "more than 100 events emitted" : "out of memory");
            return false;
        }
    }
    if (events.size > 0 && position == 0) {
        fault(h, "`events` is broken JSON");
        return false;
    }
    return true;
}

static bool take_data(struct mr_handout *h, struct mr_bytes data)
{
    if (data.size == 0) {
        return true;
    }
    if (data.size > MR_RESPONSE_SIZE_MAX) {
        fault(h, "`data` is larger than 1 MiB");
        return false;
    }
    if (!mr_json_is_value(data)) {
        fault(h, "`data` is no JSON value");
        return false;
    }
    h->answer.result = mr_strndup((const char *)data.data, data.size);
    if (h->answer.result == NULL) {
        fault(h, "out of memory");
        return false;
    }
    return true;
}

static void fill_answer(struct mr_handout *h, const struct mr_frame *frame)
{
    struct mr_answer *a = &h->answer;
    char decoded[MR_ERROR_TEXT_MAX * 2];
    a->verdict = read_verdict(frame->verdict);
    if (frame->error.size > 0) {
        mr_handout_set_error(h, mr_frame_text(frame->error, decoded, sizeof(decoded)));
    }
    if (frame->fault != NULL) {
        fault(h, frame->fault);
        return;
    }
    if (a->verdict == MR_VERDICT_NONE) {
        char text[160];
        if (frame->verdict.size == 0) {
            (void)snprintf(text, sizeof(text), "the answer has no verdict");
        } else {
            (void)snprintf(text, sizeof(text), "unknown verdict \"%.*s\"",
                           (int)(frame->verdict.size < 100 ? frame->verdict.size : 100),
                           (const char *)frame->verdict.data); /* fits */
        }
        fault(h, text);
        return;
    }
    a->has_after = frame->has_after;
    a->after_ns = frame->after_ns;
    if (take_events(h, frame->events)) {
        (void)take_data(h, frame->data); /* its fault is in the answer */
    }
}

/* An answer that is no success emits nothing. */
static void drop_emitted(struct mr_handout *h)
{
    struct mr_answer *a = &h->answer;
    for (uint32_t k = 0; k < a->emitted_count; k++) {
        mr_event_unref(a->emitted[k].event);
        mr_matches_release(&a->emitted[k].matches);
    }
    mr_free(a->emitted);
    a->emitted = NULL;
    a->emitted_count = 0;
}

/* Takes what was just filled in for slot @p at. */
static void settle(struct mr__instance *i, uint32_t at)
{
    struct mr_target *t = i->target;
    struct mr_handout *h = i->slots[at].handout;
    struct mr_answer *a = &h->answer;
    if (a->verdict == MR_VERDICT_RETRY) {
        drop_emitted(h);
    }
    a->ended_wall_ns = t->base.now.wall_ns;
    memcpy(a->instance, i->who, sizeof(a->instance));
    memcpy(a->version, i->version, sizeof(a->version));
    if (a->verdict != MR_VERDICT_OK) {
        mr__receive_output(i, true); /* what it said about it may still be in the pipe */
        a->stderr_tail = mr_tail_copy(&i->err_tail, i->slots[at].stderr_since);
    }
    mr__instance_release_slot(i, at);
    i->answered++;
    mr_station_succeeded(&t->base);
    mr_station_answer(&t->base, h);
}

static void answer(struct mr__instance *i, const struct mr_frame *frame, struct mr_bytes line)
{
    uint32_t at;
    if (!find_slot(i, frame->delivery, &at)) {
        garbage(i, "an answer to a delivery it does not have", line);
        return;
    }
    fill_answer(i->slots[at].handout, frame);
    settle(i, at);
}

/* All of the batch that have no answer yet: done, failed as a whole, or forgotten. */
static void answer_batch(struct mr__instance *i, const struct mr_frame *frame)
{
    uint32_t at = 0;
    uint32_t count = 0;
    bool named = frame->verdict.size > 0 || frame->fault != NULL;
    if (frame->batch == 0) {
        return; /* no batch has this number */
    }
    while (at < i->held && i->slots[at].handout->batch != frame->batch) {
        at++;
    }
    while (at + count < i->held && i->slots[at + count].handout->batch == frame->batch) {
        count++;
    }
    for (uint32_t left = count; left > 0; left--) { /* none: each has its own already */
        struct mr_handout *h = i->slots[at].handout;
        struct mr_frame each = *frame;
        each.events = each.data = (struct mr_bytes){0};
        fill_answer(h, &each);
        if (!named) {
            fault(h, "the handler ended its batch without a word about this one");
        } else if (frame->events.size > 0 || frame->data.size > 0) {
            fault(h, "`events` and `data` belong to the answer of one delivery, not of a batch");
        } else if (h->answer.verdict == MR_VERDICT_DROP || h->answer.verdict == MR_VERDICT_DEAD) {
            fault(h, "a batch as a whole is `ok` or `retry`");
        }
        h->answer.suspects = named && h->answer.verdict == MR_VERDICT_RETRY ? count : 0;
        settle(i, at);
    }
}

static void take_line(struct mr__instance *i, struct mr_bytes line)
{
    struct mr_frame frame;
    struct mr_problem problem;
    if (line.size == 0 || (line.size == 1 && line.data[0] == '\r')) {
        return;
    }
    if (mr_frame_parse(line, &frame, &problem) != MR_OK) {
        garbage(i, problem.text, line);
        return;
    }
    switch (frame.type) {
    case MR_FRAME_HELLO:
        greeted(i, &frame);
        break;
    case MR_FRAME_ANSWER:
        answer(i, &frame, line);
        break;
    case MR_FRAME_HEARTBEAT:
        heartbeat(i, &frame, line);
        break;
    case MR_FRAME_BATCH:
        answer_batch(i, &frame);
        break;
    case MR_FRAME_UNKNOWN:
        break;
    }
}

static void take_lines(struct mr__instance *i)
{
    struct mr_buf *in = &i->in;
    size_t from = 0;
    while (i->scanned < in->size && !i->distrusted) {
        const uint8_t *newline =
            memchr(in->data + i->scanned, '\n', in->size - i->scanned);
        if (newline == NULL) {
            i->scanned = in->size;
            break;
        }
        size_t end = (size_t)(newline - in->data);
        if (end - from > MR_FRAME_SIZE_MAX) {
            break;
        }
        i->scanned = end + 1;
        take_line(i, mr_bytes(in->data + from, end - from));
        from = end + 1;
    }
    if (from > 0) {
        memmove(in->data, in->data + from, in->size - from);
        in->size -= from;
        i->scanned -= from;
    }
    if (in->size > MR_FRAME_SIZE_MAX) {
        mr__instance_distrust(i, "sent a frame of more than 8 MiB");
    }
    if (i->distrusted || in->size == 0) {
        mr_buf_clear(in);
        i->scanned = 0;
        if (in->capacity > BUFFER_KEEP_MAX) {
            mr_buf_release(in);
        }
    }
}

static void socket_ended(struct mr__instance *i)
{
    i->socket_ended = true;
    mr_station_unwatch(&i->target->base, i->child.io);
    mr_station_wake_at(&i->target->base, i->target->base.now.mono_ns);
}

void mr__receive_socket(struct mr__instance *i)
{
    for (unsigned reads = 0; reads < READS_PER_PASS && !i->socket_ended; reads++) {
        if (mr_buf_reserve(&i->in, READ_SIZE) != MR_OK) {
            mr__instance_kill(i, "needs more memory for its frame than there is");
            return;
        }
        ssize_t n = recv(i->child.io, i->in.data + i->in.size, i->in.capacity - i->in.size,
                         MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n <= 0) {
            socket_ended(i);
            return;
        }
        i->in.size += (size_t)n;
        bool all = i->in.size < i->in.capacity;
        take_lines(i);
        if (all) {
            return; /* a short read: no need to ask again */
        }
    }
}

void mr__receive_output(struct mr__instance *i, bool is_error)
{
    struct mr_target *t = i->target;
    int *fd = is_error ? &i->child.err : &i->child.out;
    struct mr_tail *tail = is_error ? &i->err_tail : &i->out_tail;
    const char *stream = is_error ? "stderr" : "stdout";
    uint8_t chunk[8192];
    for (unsigned reads = 0; reads < READS_PER_PASS && *fd >= 0; reads++) {
        ssize_t n = read(*fd, chunk, sizeof(chunk));
        if (n > 0) {
            mr_tail_add(tail, mr_bytes(chunk, (size_t)n), i->who, stream, &t->base.log_rate,
                        t->base.now.mono_ns);
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            mr_tail_end(tail, i->who, stream, &t->base.log_rate, t->base.now.mono_ns);
            mr_station_unwatch(&t->base, *fd);
            mr_child_close(fd);
        }
        if (n < (ssize_t)sizeof(chunk) && !(n < 0 && errno == EINTR)) {
            return;
        }
    }
}
