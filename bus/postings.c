/* What a subscription that is behind reads of a segment with a footer: its own postings and the
 * events they lead to, not what everybody else matched. In batches: one to take from, and more on
 * their way behind it, also from the segments that follow, as many as it takes not to wait for
 * them.
 *
 * Its cursor stays where it entered the segment and only the cursor's offset goes on, so that a
 * start, or a footer that turns out bad, walks from there. A footer is never trusted: each posting
 * must lead to its event and to the match of this subscription, else the segment is walked. */
#include "bus/internal.h"

#include "bus/footer.h"
#include "core/alloc.h"

#define BATCH_MAX 64u
#define BATCH_SIZE (256u * MR_KIB)
#define GAP_MAX (16u * MR_KIB) /* between two postings: read as well, rather than by itself */
#define ASKED_MAX 64u /* pages of the footer that are asked for until something is found in it */

#define AHEAD_MAX 8u  /* batches behind the one to take from */

struct batch {
    struct batch *behind;
    uint64_t number; /* of its segment */
    struct mr_footer_range items[BATCH_MAX];
    uint32_t item_at[BATCH_MAX]; /* byte in buf */
    uint32_t count; /* 0: it says that the segment has no more */
    uint32_t next;  /* to be taken */
    uint32_t spans;
    size_t size;                    /* of buf */
    uint8_t *buf;                   /* owned; NULL: not read, or not yet */
    struct mr_log_request *request; /* outside, or NULL */
    uint64_t next_offset; /* past the events of the segment */
    bool awaited;
};

struct mr__posted {
    struct mr_footer footer; /* its context is this */
    struct mr_bus *bus;
    struct mr__sub *sub;
    uint64_t number; /* of the segment where the next batch is looked up */
    uint64_t wanted; /* place of the page that is missing; 0: none */
    uint64_t from;   /* place behind the last one that was looked up */
    uint32_t asked;
    bool opened; /* the head is known */
    bool stuck;  /* no more is looked up until all batches are taken */
    uint32_t ahead; /* batches that may be behind the first */
    uint32_t count; /* that are there */
    struct batch *first; /* owned; the one to take from, NULL: it is to be looked up */
    struct batch *last;
};

/* --- batches ---------------------------------------------------------------------------------- */

static void drop_bytes(struct mr_bus *bus, struct batch *batch)
{
    if (batch->buf != NULL) {
        bus->cold_behind.bytes -= batch->size;
        mr_free(batch->buf);
        batch->buf = NULL;
    }
}

static void drop_first(struct mr_bus *bus, struct mr__posted *posted)
{
    struct batch *batch = posted->first;
    drop_bytes(bus, batch);
    posted->first = batch->behind;
    posted->last = posted->first == NULL ? NULL : posted->last;
    posted->count--;
    mr_free(batch);
}

void mr__postings_leave(struct mr_bus *bus, struct mr__sub *sub)
{
    if (sub->posted != NULL) {
        while (sub->posted->first != NULL) {
            drop_first(bus, sub->posted);
        }
        mr_free(sub->posted);
        sub->posted = NULL;
    }
}

bool mr__postings_yield(struct mr_bus *bus)
{
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        struct mr__posted *posted = bus->subs[i]->posted;
        struct batch *batch = posted == NULL ? NULL : posted->first;
        if (batch == NULL || (mr__goes_on(bus, bus->subs[i]) && batch->buf != NULL)) {
            continue; /* these are used up */
        }
        bool gave = false;
        for (; batch != NULL; batch = batch->behind) {
            gave = gave || batch->buf != NULL;
            drop_bytes(bus, batch);
        }
        if (gave) {
            return true;
        }
    }
    return false;
}

uint64_t mr__postings_page(const struct mr__sub *sub)
{
    return sub->posted->first == NULL ? sub->posted->wanted : 0;
}

/* What of the segment is read for @p batch: neighbours as one. @return how many pieces; NULL: only
 * the size is wanted */
static uint32_t lay_out(struct batch *batch, struct mr_log_span *spans)
{
    uint32_t count = 0;
    struct mr_log_span span = {0};
    size_t bytes = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct mr_footer_range *item = &batch->items[i];
        uint64_t end = span.at + span.size;
        if (count == 0 || item->place < span.at || item->place > end + GAP_MAX) {
            bytes += span.size;
            span = (struct mr_log_span){.at = item->place, .size = item->size};
            count++;
        } else if (item->place + item->size > end) {
            span.size = (uint32_t)(item->place + item->size - span.at);
        }
        batch->item_at[i] = (uint32_t)(bytes + (item->place - span.at));
        if (spans != NULL) {
            spans[count - 1] = span;
        }
    }
    batch->spans = count;
    batch->size = count * sizeof(span) + bytes + span.size;
    for (uint32_t i = 0; i < batch->count; i++) {
        batch->item_at[i] += (uint32_t)(count * sizeof(span));
    }
    return count;
}

static void ask(struct mr_bus *bus, struct mr__sub *sub, struct batch *batch)
{
    if (batch->request != NULL || batch->buf != NULL || batch->next >= batch->count) {
        return;
    }
    uint32_t spans = lay_out(batch, NULL);
    if (batch != sub->posted->first && !mr__may_read_ahead(bus, batch->size)) {
        return;
    }
    struct mr_log_request *read = mr__read_request(bus, sub, batch->size);
    if (read == NULL) {
        return; /* with its next turn */
    }
    (void)lay_out(batch, (struct mr_log_span *)(void *)read->buf);
    read->number = batch->number;
    mr__read_of(read, mr__segment_of(bus, mr_position(read->number, MR_LOG_BLOCK)));
    read->spans = spans;
    batch->request = read;
    mr__send(bus, read);
}

void mr__postings_read(struct mr_bus *bus, struct mr_log_request *request)
{
    struct mr__sub *sub = request->context;
    struct batch *batch = sub->posted == NULL ? NULL : sub->posted->first;
    while (batch != NULL && batch->request != request) {
        batch = batch->behind;
    }
    bool wanted = batch != NULL;
    if (wanted) {
        batch->request = NULL;
    }
    if (wanted && request->result == MR_OK) {
        batch->buf = request->buf;
    } else {
        bus->cold_behind.bytes -= request->size;
        mr_free(request->buf);
    }
    if (wanted && request->result != MR_OK &&
        mr_status_class(request->result) != MR_CLASS_RETRY) {
        mr__postings_leave(bus, sub);
        sub->walks = request->number;
    }
    mr_free(request);
}

/* --- the footer ------------------------------------------------------------------------------- */

static enum mr_status page_of(void *context, uint32_t number, const uint8_t **ret_page)
{
    struct mr__posted *posted = context;
    uint64_t at = (uint64_t)number * MR_FOOTER_PAGE;
    if (at + MR_FOOTER_PAGE > MR_SEGMENT_SIZE_MAX) {
        return MR_E_CORRUPT;
    }
    uint64_t position = MR__FOOTER_PLACES | mr_position(posted->number, at);
    const uint8_t *page = mr__read_bytes(posted->bus, position, MR_FOOTER_PAGE);
    if (page == NULL) {
        /* Where memory is too small for the pages that are needed at once, they never are. */
        posted->wanted = position;
        if (mr__footer_want(posted->bus, posted->sub, posted->number, at)) {
            posted->asked++;
        }
        return posted->asked > ASKED_MAX ? MR_E_FULL : MR_E_AGAIN;
    }
    posted->wanted = 0;
    if (posted->opened && !mr_footer_page_check(page, number, posted->footer.head.salt)) {
        return MR_E_CORRUPT;
    }
    *ret_page = page;
    return MR_OK;
}

static enum mr_status open_footer(struct mr__posted *posted)
{
    const struct mr__segment *segment =
        mr__segment_of(posted->bus, mr_position(posted->number, MR_LOG_BLOCK));
    const uint8_t *page;
    enum mr_status r = segment == NULL ? MR_E_UNSUPPORTED : page_of(posted, 0, &page);
    if (r != MR_OK) {
        return r;
    }
    r = mr_footer_head_decode(page, segment->number, segment->salt, &posted->footer.head);
    if (r == MR_OK && posted->footer.head.used != segment->used) {
        r = MR_E_CORRUPT;
    }
    if (r == MR_OK && posted->footer.head.rotten > 0) {
        r = MR_E_UNSUPPORTED; /* it does not know what stood there */
    }
    posted->opened = r == MR_OK;
    return r;
}

static uint64_t batch_size(const struct mr_bus *bus)
{
    uint64_t memory = bus->options.read_memory / 8;
    return memory < BATCH_SIZE ? memory : BATCH_SIZE;
}

/* Of those found, as many as are read at once. */
static void cut_batch(struct batch *batch, uint32_t found, uint64_t most)
{
    uint64_t end = 0;
    for (uint64_t size = 0; batch->count < found; batch->count++) {
        const struct mr_footer_range *item = &batch->items[batch->count];
        uint64_t gap = item->place > end && item->place - end <= GAP_MAX ? item->place - end : 0;
        size += item->size + gap;
        if (batch->count > 0 && size > most) {
            break;
        }
        end = item->place + item->size;
    }
}

/* The segment has no more: the next batch comes from the one behind it, if that has a footer. */
static void go_behind(struct mr__posted *posted)
{
    const struct mr_bus *bus = posted->bus;
    uint32_t i = 0;
    while (i < bus->segment_count && bus->segments[i].number <= posted->number) {
        i++;
    }
    const struct mr__segment *segment = i < bus->segment_count ? &bus->segments[i] : NULL;
    posted->stuck =
        segment == NULL || !segment->footed || posted->sub->walks == segment->number;
    if (!posted->stuck) {
        posted->number = segment->number;
        posted->from = MR_PLANTED(POSTING_LATE) ? posted->from : 0;
        posted->opened = false;
    }
}

/* The next ones, behind those that were looked up. */
static enum mr_status look_up(struct mr__posted *posted)
{
    enum mr_status r = posted->opened ? MR_OK : open_footer(posted);
    if (r != MR_OK) {
        return r;
    }
    struct batch *batch = mr_calloc(1, sizeof(*batch));
    if (batch == NULL) {
        return MR_E_AGAIN;
    }
    uint32_t found = 0;
    r = mr_footer_postings(&posted->footer, posted->sub->id, posted->from, batch->items,
                           BATCH_MAX, &found);
    if (r != MR_OK) {
        mr_free(batch);
        return r;
    }
    posted->asked = 0;
    batch->number = posted->number;
    batch->next_offset = posted->footer.head.next_offset;
    cut_batch(batch, found, batch_size(posted->bus));
    if (batch->count > 0) {
        posted->from = batch->items[batch->count - 1].place + 8;
    } else {
        go_behind(posted);
    }
    if (MR_PLANTED(POSTING_SKIPPED) && batch->count > 1) {
        batch->count--;
    }
    if (posted->last == NULL) {
        posted->first = batch;
    } else {
        posted->last->behind = batch;
    }
    posted->last = batch;
    posted->count++;
    return MR_OK;
}

/* --- taking ----------------------------------------------------------------------------------- */

/* The entry of @p sub in what the posting promised: an event and its match. @return NULL: it is not
 * there */
static const uint8_t *find_entry(const struct mr__sub *sub, const uint8_t *data, size_t size,
                                 struct mr_record *event)
{
    struct mr_record record = {0};
    if (mr_record_decode(data, size, event, NULL) != MR_OK || event->kind != MR_RECORD_EVENT) {
        return NULL;
    }
    size_t at = mr_record_size(event->body.size);
    while (at < size && mr_record_decode(data + at, size - at, &record, NULL) == MR_OK) {
        if (record.kind == MR_RECORD_MATCH) {
            break;
        }
        at += mr_record_size(record.body.size);
    }
    if (record.kind != MR_RECORD_MATCH || record.offset != event->offset) {
        return NULL;
    }
    for (uint32_t i = 0; i < record.a; i++) {
        const uint8_t *entry = record.body.data + (size_t)i * MR_MATCH_ENTRY_SIZE;
        if (mr_get_u32(entry) == sub->id) {
            return entry;
        }
    }
    return NULL;
}

/* One of the first batch, which is here, or more, as far as there is room and time. @return false:
 * a posting was wrong */
static bool take_batch(struct mr_bus *bus, struct mr__sub *sub, int64_t until)
{
    struct batch *batch = sub->posted->first;
    do {
        const struct mr_footer_range *item = &batch->items[batch->next];
        struct mr_record event;
        const uint8_t *entry =
            find_entry(sub, batch->buf + batch->item_at[batch->next], item->size, &event);
        if (entry == NULL) {
            return false;
        }
        if (event.offset >= sub->cursor_offset &&
            !mr__cursor_take(bus, sub, entry, mr_position(batch->number, item->place), &event)) {
            return true;
        }
        bus->catch_units -= 2;
        batch->next++;
    } while (batch->next < batch->count && bus->catch_units > until);
    if (batch->next == batch->count) {
        drop_first(bus, sub->posted);
    }
    return true;
}

/* --- a turn ----------------------------------------------------------------------------------- */

/* @return false: memory is short */
static bool enter_segment(struct mr_bus *bus, struct mr__sub *sub, uint64_t number)
{
    struct mr__posted *posted = sub->posted;
    if (posted != NULL &&
        (posted->first == NULL ? posted->number : posted->first->number) == number) {
        return true;
    }
    mr__postings_leave(bus, sub);
    posted = mr_calloc(1, sizeof(*posted));
    if (posted == NULL) {
        return false;
    }
    posted->bus = bus;
    posted->sub = sub;
    posted->number = number;
    posted->from = mr_position_at(sub->cursor_position);
    posted->footer.page = page_of;
    posted->footer.context = posted;
    posted->ahead = 1;
    sub->posted = posted;
    return true;
}

/* The first batch is there, and asked for; so are those behind it. */
static enum mr_status advance(struct mr_bus *bus, struct mr__sub *sub)
{
    struct mr__posted *posted = sub->posted;
    if (posted->first == NULL) {
        posted->stuck = false;
        enum mr_status r = look_up(posted);
        if (r != MR_OK) {
            return r;
        }
    }
    ask(bus, sub, posted->first);
    bool asked = posted->first->buf != NULL || posted->first->request != NULL;
    for (struct batch *batch = posted->first; asked && batch != NULL; batch = batch->behind) {
        ask(bus, sub, batch);
        if (batch->behind == NULL && posted->count <= posted->ahead && !posted->stuck &&
            mr__may_read_ahead(bus, batch_size(bus))) {
            enum mr_status r = look_up(posted);
            posted->stuck = posted->stuck || (r != MR_OK && r != MR_E_AGAIN);
        }
    }
    return MR_OK;
}

/* Who waits with nothing to hand out reads further ahead from now on: others have what they can use
 * for a while. */
static void await_bytes(struct mr__sub *sub)
{
    struct mr__posted *posted = sub->posted;
    sub->turn_over = true;
    if (posted->first != NULL && !posted->first->awaited && sub->where_count[MR__READY] == 0) {
        posted->first->awaited = true;
        posted->ahead = posted->ahead * 2 > AHEAD_MAX ? AHEAD_MAX : posted->ahead * 2;
    }
}

/* Nothing of @p segment is left. */
static void leave_segment(struct mr_bus *bus, struct mr__sub *sub,
                          const struct mr__segment *segment)
{
    uint64_t next_offset = sub->posted->first->next_offset;
    sub->cursor_offset = next_offset > sub->cursor_offset ? next_offset : sub->cursor_offset;
    drop_first(bus, sub->posted);
    if (sub->posted->first == NULL && sub->posted->stuck) {
        mr__postings_leave(bus, sub);
    }
    mr__cursor_move(sub, mr_position(segment->number, 0) + segment->used); /* or the next */
}

bool mr__postings_turn(struct mr_bus *bus, struct mr__sub *sub, struct mr__segment *segment,
                       int64_t until)
{
    if (!segment->footed || sub->walks == segment->number ||
        !enter_segment(bus, sub, segment->number)) {
        mr__postings_leave(bus, sub);
        return false;
    }
    bus->catch_units--;
    enum mr_status r = advance(bus, sub);
    const struct batch *first = sub->posted->first;
    if (r == MR_E_AGAIN || (r == MR_OK && first->count > 0 && first->buf == NULL)) {
        await_bytes(sub);
    } else if (r == MR_OK && first->count == 0) {
        leave_segment(bus, sub, segment);
    } else if (r != MR_OK || !take_batch(bus, sub, until)) {
        if (r == MR_E_CORRUPT) {
            mr__footer_forget(bus, segment->number);
        }
        sub->walks = segment->number;
        mr__postings_leave(bus, sub);
        return false;
    }
    return true;
}
