/* Bytes of the log that come from its files: a bounded number of reads at once, and a bounded
 * memory for what they brought. A part of both is for single events, which are used in the step
 * in which they come; the rest is for who is behind.
 *
 * Whoever cannot ask now asks again in its turn. Two who want more than there is room for must not
 * take it from each other for ever; so bytes that somebody goes on with are not given up for those
 * of another, and who was refused is next: nobody else who is behind asks for more until its next
 * turn. What the others have they use up meanwhile, or give up when they cannot use it, so that in
 * the end all of the memory is free for it, and a group larger than that is read by itself. */
#include "bus/internal.h"

#include "core/alloc.h"

/* --- what is in memory ------------------------------------------------------------------------ */

/* Footers have places of their own beside those of the log. */
static uint64_t position_of(const struct mr_log_request *read)
{
    return mr_position(read->number, read->at) |
           (read->of == MR_LOG_OF_FOOTER ? MR__FOOTER_PLACES : 0);
}

/* The first chunk that begins behind @p position. */
static uint32_t chunk_behind(const struct mr_bus *bus, uint64_t position)
{
    uint32_t low = 0;
    uint32_t high = bus->cold_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (bus->cold[mid].position <= position) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* Chunks may overlap, as groups lie across their ends; but one that was read for @p position begins
 * there and is found first. */
static struct mr__chunk *chunk_of(struct mr_bus *bus, uint64_t position, size_t size)
{
    uint32_t i = chunk_behind(bus, position);
    for (uint32_t looked = 0; i > 0 && looked < 4; looked++) {
        struct mr__chunk *chunk = &bus->cold[--i];
        if (position + size <= chunk->position + chunk->size) {
            return chunk;
        }
    }
    return NULL;
}

const uint8_t *mr__read_bytes(struct mr_bus *bus, uint64_t position, size_t size)
{
    struct mr__chunk *chunk = chunk_of(bus, position, size);
    if (chunk == NULL) {
        return NULL;
    }
    chunk->used = ++bus->cold_clock;
    chunk->seen = true;
    return chunk->data + (position - chunk->position);
}

static struct mr__cold *cold_of(struct mr_bus *bus, bool walked)
{
    return walked ? &bus->cold_behind : &bus->cold_events;
}

static void drop_chunk(struct mr_bus *bus, struct mr__chunk *chunk)
{
    struct mr__cold *cold = cold_of(bus, chunk->walked);
    cold->bytes -= chunk->capacity;
    cold->chunks--;
    mr_free(chunk->data);
    uint32_t i = (uint32_t)(chunk - bus->cold);
    memmove(chunk, chunk + 1, (bus->cold_count - i - 1) * sizeof(*chunk));
    bus->cold_count--;
}

/* Room was left for it when it was asked for. An equal place: the new one is found first. */
static void keep_chunk(struct mr_bus *bus, const struct mr_log_request *read, uint64_t position)
{
    MR_ASSERT(bus->cold_count < COLD_CHUNKS_MAX);
    uint32_t i = chunk_behind(bus, position);
    memmove(bus->cold + i + 1, bus->cold + i, (bus->cold_count - i) * sizeof(*bus->cold));
    bus->cold_count++;
    cold_of(bus, read->context != NULL)->chunks++;
    bus->cold[i] = (struct mr__chunk){
        .position = position,
        .size = read->result_size,
        .data = read->buf,
        .capacity = read->size,
        .used = ++bus->cold_clock,
        .walked = read->context != NULL,
        .fresh = true,
    };
}

/* What @p sub needs to go on: the header tells how much the group is. */
static size_t cursor_size(const struct mr__sub *sub)
{
    return sub->cursor_size == 0 ? MR_GROUP_HEADER_SIZE : sub->cursor_size;
}

/* Marks what those who are behind go on with in their next turn; @p all: or whenever they can. */
static void mark_awaited(struct mr_bus *bus, bool all)
{
    for (uint32_t i = 0; i < bus->cold_count; i++) {
        bus->cold[i].awaited = false;
    }
    for (uint32_t i = 0; i < bus->sub_count && bus->not_live > 0; i++) {
        const struct mr__sub *sub = bus->subs[i];
        if (sub->live || sub->cursor_in_stage || (!all && !mr__goes_on(bus, sub))) {
            continue;
        }
        struct mr__chunk *chunk =
            sub->posted != NULL ? chunk_of(bus, mr__postings_page(sub), MR_LOG_BLOCK)
                                : chunk_of(bus, sub->cursor_position, cursor_size(sub));
        if (chunk != NULL) {
            chunk->awaited = true;
        }
    }
}

static struct mr__chunk *least_used(struct mr_bus *bus, bool walked)
{
    struct mr__chunk *least = NULL;
    for (uint32_t i = 0; i < bus->cold_count; i++) {
        struct mr__chunk *chunk = &bus->cold[i];
        bool free = chunk->walked == walked &&
                    (MR_PLANTED(READ_EVICTED) || (!chunk->fresh && !chunk->awaited));
        if (free && (least == NULL || chunk->used < least->used)) {
            least = chunk;
        }
    }
    return least;
}

/* Whether @p size more may be read; what was used longest ago makes room. */
static bool make_room(struct mr_bus *bus, bool walked, size_t size)
{
    struct mr__cold *cold = cold_of(bus, walked);
    uint64_t most = bus->options.read_memory / 16 * (walked ? COLD_BEHIND : COLD_EVENTS);
    uint32_t chunks_max = walked ? COLD_CHUNKS_MAX / 4 * 3 : COLD_CHUNKS_MAX / 4;
    bool marked = false;
    while (cold->bytes + size > most || cold->chunks + cold->reads >= chunks_max) {
        if (cold->bytes == 0) {
            return true; /* a group larger than all there is, by itself */
        }
        if (!marked) {
            mark_awaited(bus, false);
            marked = true;
        }
        struct mr__chunk *least = least_used(bus, walked);
        if (least != NULL) {
            drop_chunk(bus, least);
        } else if (!walked || !mr__postings_yield(bus)) {
            return false;
        }
    }
    return true;
}

void mr__reads_release(struct mr_bus *bus)
{
    while (bus->cold_count > 0) {
        drop_chunk(bus, &bus->cold[bus->cold_count - 1]);
    }
}

/* --- asking ----------------------------------------------------------------------------------- */

/* How much may be read from @p position on: not beyond its segment, where the positions of the next
 * one may begin; in the segment that is being written to, only what was written when the read is
 * asked for. Behind that are zeros now and groups later. */
static size_t readable(struct mr_bus *bus, uint64_t position, size_t want)
{
    const struct mr__segment *segment = mr__segment_of(bus, position);
    if (segment == NULL || MR_PLANTED(READ_AHEAD)) {
        return want;
    }
    uint64_t rest = segment->size - mr_position_at(position);
    if (rest < want && !MR_PLANTED(READ_ACROSS)) {
        want = (size_t)rest;
    }
    if (segment->sealed) {
        return want;
    }
    uint64_t end = mr_position(segment->number, segment->used);
    if (bus->writing && mr_position_segment(bus->flight.position) == segment->number) {
        end = bus->flight.position;
    }
    return position < end && end - position < want ? (size_t)(end - position) : want;
}

static bool is_on_its_way(const struct mr_bus *bus, uint64_t position, size_t size)
{
    for (uint32_t i = 0; i < bus->read_count; i++) {
        const struct mr_log_request *read = bus->reads[i];
        uint64_t start = position_of(read);
        if (read->spans == 0 && position >= start && position + size <= start + read->size) {
            return true;
        }
    }
    return false;
}

/* Another was refused before, and still wants to go on. */
static bool is_others_turn(const struct mr_bus *bus, const struct mr__sub *sub)
{
    const struct mr__sub *next = bus->reads_next;
    return sub != NULL && next != NULL && next != sub && mr__catches_up(bus, next);
}

struct mr_log_request *mr__read_request(struct mr_bus *bus, struct mr__sub *sub, size_t size)
{
    struct mr__cold *cold = cold_of(bus, sub != NULL);
    if (bus->faulty || bus->closing || is_others_turn(bus, sub)) {
        return NULL;
    }
    if (cold->reads >= READS_MAX / 2 || !make_room(bus, sub != NULL, size)) {
        bus->reads_next = sub != NULL ? sub : bus->reads_next;
        return NULL;
    }
    struct mr_log_request *read = mr__request(bus, MR_LOG_READ);
    uint8_t *buf = read == NULL ? NULL : mr_alloc(size);
    if (buf == NULL) {
        mr_free(read);
        return NULL;
    }
    read->buf = buf;
    read->size = size;
    read->context = sub;
    cold->bytes += size;
    cold->reads++;
    bus->reads[bus->read_count++] = read;
    return read;
}

void mr__read_of(struct mr_log_request *read, const struct mr__segment *segment)
{
    if (segment != NULL) {
        read->header.salt = segment->salt;
        read->header.size = segment->used;
    }
}

static bool send_read(struct mr_bus *bus, struct mr__sub *sub, uint64_t position, size_t size)
{
    struct mr_log_request *read = mr__read_request(bus, sub, size);
    if (read == NULL) {
        return false;
    }
    bool footer = (position & MR__FOOTER_PLACES) != 0;
    const struct mr__segment *segment = footer ? NULL : mr__segment_of(bus, position);
    read->of = footer            ? MR_LOG_OF_FOOTER
               : segment == NULL ? MR_LOG_OF_SEGMENT
                                 : segment->of;
    read->number = mr_position_segment(position & ~MR__FOOTER_PLACES);
    read->at = mr_position_at(position & ~MR__FOOTER_PLACES);
    mr__read_of(read, footer ? NULL : mr__segment_of(bus, position));
    mr__send(bus, read);
    return true;
}

/* What is read at once: many small groups, or a large one and the header behind it. */
static size_t chunk_for(const struct mr_bus *bus, size_t size)
{
    uint64_t chunk = bus->options.read_memory / 8 / MR_LOG_BLOCK * MR_LOG_BLOCK;
    chunk = chunk < COLD_CHUNK ? chunk : COLD_CHUNK;
    size_t whole = (size_t)mr_round_up(size, MR_LOG_BLOCK) + MR_LOG_BLOCK;
    return whole < chunk ? (size_t)chunk : whole;
}

bool mr__bytes_want(struct mr_bus *bus, uint64_t position, size_t size, size_t ahead)
{
    size_t most = chunk_for(bus, size);
    ahead = ahead < most ? ahead : most;
    ahead = ahead < size ? size : ahead;
    return is_on_its_way(bus, position, size) ||
           send_read(bus, NULL, position, readable(bus, position, ahead));
}

bool mr__walk_want(struct mr_bus *bus, struct mr__sub *sub, uint64_t position, size_t size)
{
    if (is_on_its_way(bus, position, size)) {
        return true;
    }
    /* Where a read has failed, no more is asked for than this one needs. */
    size_t want = sub->unread > 0 ? (size_t)mr_round_up(size, MR_LOG_BLOCK) : chunk_for(bus, size);
    return send_read(bus, sub, position, readable(bus, position, want));
}

bool mr__footer_want(struct mr_bus *bus, struct mr__sub *sub, uint64_t number, uint64_t at)
{
    uint64_t position = MR__FOOTER_PLACES | mr_position(number, at);
    return !is_on_its_way(bus, position, MR_LOG_BLOCK) &&
           send_read(bus, sub, position, chunk_for(bus, 0) / 4 + MR_LOG_BLOCK);
}

bool mr__may_read_ahead(struct mr_bus *bus, size_t size)
{
    bool full = bus->cold_behind.chunks >= COLD_CHUNKS_MAX / 2 ||
                bus->cold_behind.bytes + size > bus->options.read_memory / 2;
    bus->ahead_refused = bus->ahead_refused || full;
    return !full && bus->reads_next == NULL && bus->cold_behind.reads < READS_MAX / 4;
}

/* What was looked at, and is not gone on with, gives way to what is read ahead. */
static void make_room_ahead(struct mr_bus *bus)
{
    struct mr__chunk *least;
    bus->ahead_refused = false;
    mark_awaited(bus, true);
    do {
        least = NULL;
        for (uint32_t i = 0; i < bus->cold_count; i++) {
            struct mr__chunk *chunk = &bus->cold[i];
            if (chunk->walked && chunk->seen && !chunk->awaited &&
                (least == NULL || chunk->used < least->used)) {
                least = chunk;
            }
        }
        if (least != NULL) {
            drop_chunk(bus, least);
        }
    } while (least != NULL && (bus->cold_behind.chunks > COLD_CHUNKS_MAX / 8 * 3 ||
                               bus->cold_behind.bytes > bus->options.read_memory / 8 * 3));
}

void mr__read_ahead(struct mr_bus *bus, struct mr__sub *sub)
{
    uint64_t position = sub->cursor_position;
    struct mr__chunk *chunk = chunk_of(bus, position, MR_GROUP_HEADER_SIZE);
    if (chunk == NULL || chunk->ahead_asked || !mr__may_read_ahead(bus, chunk_for(bus, 0))) {
        return;
    }
    chunk->ahead_asked = true;
    const struct mr__segment *segment = mr__segment_of(bus, position);
    size_t at = (size_t)(position - chunk->position);
    struct mr_group_header header;
    while (at + MR_GROUP_HEADER_SIZE <= chunk->size &&
           mr_group_header_decode(chunk->data + at, segment->salt, &header) == MR_OK &&
           at + header.padded <= chunk->size) {
        at += header.padded;
    }
    uint64_t next = chunk->position + at;
    if (mr_position_at(next) + MR_GROUP_HEADER_SIZE <= segment->used &&
        mr__bytes_at(bus, next, MR_LOG_BLOCK) == NULL &&
        !is_on_its_way(bus, next, MR_GROUP_HEADER_SIZE)) {
        (void)send_read(bus, sub, next, readable(bus, next, chunk_for(bus, 0))); /* or later */
    }
}

/* --- what came -------------------------------------------------------------------------------- */

static bool wants_bytes(const struct mr__delivery *d, uint64_t position, size_t size)
{
    return d->loading && !d->in_stage && d->position >= position && d->position < position + size;
}

/* The first of @p list that wanted them, or NULL. */
static struct mr__delivery *find_waiting(const struct mr__list *list, uint64_t position,
                                         size_t size)
{
    struct mr__delivery *d = list->first;
    while (d != NULL && !wants_bytes(d, position, size)) {
        d = d->next;
    }
    return d;
}

/* Ends those of @p list that wanted them. One ends at a time: its end may end others. */
static void lose_list(struct mr_bus *bus, const struct mr__list *list, uint64_t position,
                      size_t size)
{
    struct mr__delivery *d = find_waiting(list, position, size);
    while (d != NULL && mr__event_lost(bus, d)) {
        d = find_waiting(list, position, size);
    }
}

/* What is ready is read before its time where batches go by something of the event. */
static void lose_gathering(struct mr_bus *bus, struct mr__sub *sub, uint64_t position, size_t size)
{
    for (uint32_t i = 0; i < sub->share_count; i++) {
        const struct mr__share *share = &sub->shares[i];
        struct mr__delivery *d = mr__ready_next(share);
        uint8_t first_level = d == NULL ? 0 : d->level;
        while (d != NULL) {
            struct mr__delivery *next = mr__ready_after(share, first_level, d);
            if (wants_bytes(d, position, size)) {
                (void)mr__event_lost(bus, d); /* or asked for again */
            }
            d = next;
        }
    }
}

/* Bytes that are not there: whoever wanted them ends lost. Whoever wants bytes has begun, or has
 * ended but for them, or may go into a batch: these are few, however many wait. */
static void lose_waiting(struct mr_bus *bus, uint64_t position, size_t size)
{
    if (bus->faulty) {
        return;
    }
    lose_list(bus, &bus->stage.armed, position, size);
    lose_list(bus, &bus->flight.armed, position, size);
    for (uint32_t i = 0; i < bus->target_count; i++) {
        lose_list(bus, &bus->targets[i]->queue, position, size);
    }
    lose_list(bus, &bus->loading, position, size);
    for (uint32_t i = 0; i < bus->sub_count; i++) {
        struct mr__sub *sub = bus->subs[i];
        if (sub->conf != NULL && sub->conf->batch_max > 0) {
            lose_gathering(bus, sub, position, size);
        }
        uint64_t end = sub->cursor_position + cursor_size(sub);
        if (!sub->live && !sub->cursor_in_stage && sub->posted == NULL &&
            sub->cursor_position < position + size &&
            end > position && sub->unread < UINT8_MAX) {
            sub->unread++;
        }
    }
}

void mr__read_done(struct mr_bus *bus, struct mr_log_request *request)
{
    uint32_t i = 0;
    while (bus->reads[i] != request) {
        i++;
        MR_ASSERT(i < bus->read_count);
    }
    bus->reads[i] = bus->reads[--bus->read_count];
    struct mr__cold *cold = cold_of(bus, request->context != NULL);
    cold->reads--;
    if (request->spans > 0) {
        mr__postings_read(bus, request);
        return;
    }
    uint64_t position = position_of(request);
    if (request->result == MR_OK && request->result_size > 0) {
        keep_chunk(bus, request, position);
        if (request->result_size < request->size && request->of != MR_LOG_OF_FOOTER) {
            /* The file ends here: what was wanted beyond is not there. */
            lose_waiting(bus, position + request->result_size,
                         request->size - request->result_size);
        }
    } else {
        cold->bytes -= request->size;
        mr_free(request->buf);
        if (mr_status_class(request->result) == MR_CLASS_RETRY) {
            /* asked for again */
        } else if (request->of == MR_LOG_OF_FOOTER) {
            mr__footer_forget(bus, request->number);
        } else {
            lose_waiting(bus, position, request->size);
        }
    }
    mr_free(request);
}

void mr__footer_forget(struct mr_bus *bus, uint64_t number)
{
    for (uint32_t i = bus->cold_count; i-- > 0;) {
        uint64_t position = bus->cold[i].position;
        if ((position & MR__FOOTER_PLACES) != 0 &&
            mr_position_segment(position & ~MR__FOOTER_PLACES) == number) {
            drop_chunk(bus, &bus->cold[i]);
        }
    }
    struct mr__segment *segment = mr__segment_of(bus, mr_position(number, 0));
    if (segment != NULL) {
        mr__footer_distrust(bus, segment);
    }
}

void mr__reads_settle(struct mr_bus *bus)
{
    if (MR_PLANTED(READ_EVICTED) && bus->cold_behind.chunks > 1) {
        mr__reads_release(bus);
    }
    if (bus->ahead_refused) {
        make_room_ahead(bus);
    }
    for (uint32_t i = 0; i < bus->cold_count; i++) {
        bus->cold[i].fresh = false;
    }
}
