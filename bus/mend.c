#include "bus/mend.h"

#include "bus/planted.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/hash.h"

#define WINDOW (1u * MR_MIB)

/* A window on one copy of a file. Past the page cache: what counts is what the disk gives back. */
struct view {
    struct mr_io *io;
    unsigned copy;
    const char *name;
    uint8_t *data; /* owned, aligned */
    size_t capacity;
    uint64_t at;
    size_t size;
    bool no_memory;
};

/* What stands at one place of one copy. */
struct place {
    const uint8_t *data; /* in the window; NULL: not a whole group */
    struct mr_group_header header;
};

struct walk {
    struct mr_io *io;
    struct mr_log_mend *mend;
    struct view views[2];
    bool two;
    uint64_t salt;
    uint64_t at;
    uint64_t gap;       /* where nothing good stands since; 0: nowhere */
    bool header_is_bad;
    bool has_before;
    struct mr_group_header before; /* of the last whole group */
};

/* Bytes [at, at + size), at a block; NULL: the copy does not give them. */
static const uint8_t *view_get(struct view *v, uint64_t at, size_t size)
{
    if (at >= v->at && at + size <= v->at + v->size) {
        return v->data + (at - v->at);
    }
    size_t rounded = (size_t)mr_round_up(size, MR_LOG_BLOCK);
    size_t want = rounded < WINDOW ? WINDOW : rounded;
    if (want > v->capacity) {
        mr_free(v->data);
        v->capacity = 0;
        v->data = mr_alloc_aligned(MR_LOG_BLOCK, want);
        if (v->data == NULL) {
            v->no_memory = true;
            v->size = 0;
            return NULL;
        }
        v->capacity = want;
    }
    v->at = at;
    v->size = 0;
    size_t got = 0;
    enum mr_status r =
        mr_io_read_copy(v->io, v->copy, v->name, MR_IO_DIRECT, v->data, want, at, &got);
    if (r != MR_OK && want > rounded) {
        r = mr_io_read_copy(v->io, v->copy, v->name, MR_IO_DIRECT, v->data, rounded, at, &got);
    }
    if (r == MR_OK) {
        v->size = got;
    }
    return v->size >= size ? v->data : NULL;
}

static void view_forget(struct view *v)
{
    v->size = 0;
}

/* The whole group at @p at, with its padding; its data NULL when there is none. */
static struct place look(struct view *v, uint64_t at, uint64_t salt)
{
    struct place place = {0};
    const uint8_t *head = view_get(v, at, MR_GROUP_HEADER_SIZE);
    if (head == NULL || mr_group_header_decode(head, salt, &place.header) != MR_OK) {
        return place;
    }
    const uint8_t *data = view_get(v, at, place.header.padded);
    bool unchecked = v->copy == 1 && MR_PLANTED(MEND_UNCHECKED);
    if (data != NULL && (unchecked || mr_log_group_is_whole(data, place.header.padded, salt,
                                                            &place.header))) {
        place.data = data;
    }
    return place;
}

static bool padding_is_clean(const struct place *place)
{
    for (uint32_t i = place->header.size; i < place->header.padded; i++) {
        if (place->data[i] != 0) {
            return false;
        }
    }
    return true;
}

static enum mr_status write_over(struct walk *w, unsigned copy, const uint8_t *from, size_t size,
                                 bool tell)
{
    const char *name = w->views[0].name;
    enum mr_status r = mr_io_write_copy(w->io, copy, name, from, size, w->at);
    view_forget(&w->views[copy]);
    if (r == MR_OK && tell) {
        w->mend->repaired++;
        mr_io_tell_repaired(w->io, copy, name, w->at, size);
    }
    return r;
}

/* Copy 0 itself says that the group of the stale copy is what stood here: what follows in copy 0 is
 * chained to it. A group at the end of what a copy had when it was left may never have counted. */
static bool is_vouched(struct walk *w, const struct place *stale)
{
    struct mr_group_header next;
    const uint8_t *head =
        view_get(&w->views[0], w->at + stale->header.padded, MR_GROUP_HEADER_SIZE);
    return head != NULL && mr_group_header_decode(head, w->salt, &next) == MR_OK &&
           next.sequence == stale->header.sequence + 1 &&
           next.previous_crc == stale->header.crc;
}

static bool fits(const struct walk *w, const struct mr_group_header *header)
{
    return !w->has_before || (header->sequence == w->before.sequence + 1 &&
                              header->previous_crc == w->before.crc);
}

static void close_gap(struct walk *w, const struct mr_group_header *next)
{
    struct mr_log_mend *mend = w->mend;
    if (w->gap == 0) {
        return;
    }
    if (mend->bad++ == 0) {
        mend->bad_from = w->gap;
        mend->lost_first = mend->next_offset;
        mend->lost_end = mend->lost_first == 0 || next == NULL ? 0 : next->first_offset;
    }
    mend->bad_end = w->at;
    mend->next_offset = 0;
    w->gap = 0;
    w->has_before = false;
}

/* One place of both copies. @return MR_OK with w->at behind it */
static enum mr_status step(struct walk *w)
{
    struct mr_log_mend *mend = w->mend;
    struct place places[2] = {look(&w->views[0], w->at, w->salt)};
    enum mr_status r = MR_OK;
    if (w->two) {
        places[1] = look(&w->views[1], w->at, w->salt);
    }
    const struct place *good = places[0].data != NULL ? &places[0] : NULL;
    if (w->two && good == NULL && places[1].data != NULL && fits(w, &places[1].header) &&
        (!mend->stale || is_vouched(w, &places[1]))) {
        good = &places[1];
        r = write_over(w, 0, good->data, good->header.padded, !mend->quiet || mend->stale);
    } else if (w->two && good != NULL) {
        bool same = places[1].data != NULL &&
                    memcmp(places[0].data, places[1].data, good->header.padded) == 0;
        bool back = !same && places[1].data != NULL && !mend->stale &&
                    places[1].header.crc == good->header.crc &&
                    (!padding_is_clean(good) || MR_PLANTED(MEND_UNCHECKED));
        if (back) { /* what stands behind the records counts for nothing, but copies are equal */
            r = write_over(w, 0, places[1].data, places[1].header.padded, !mend->quiet);
        } else if (!same) {
            r = write_over(w, 1, good->data, good->header.padded, !mend->quiet);
        }
    } else if (w->two && mend->stale) {
        const uint8_t *block = view_get(&w->views[0], w->at, MR_LOG_BLOCK);
        const uint8_t *other = view_get(&w->views[1], w->at, MR_LOG_BLOCK);
        if (block != NULL && (other == NULL || memcmp(block, other, MR_LOG_BLOCK) != 0)) {
            r = write_over(w, 1, block, MR_LOG_BLOCK, false);
        }
    }
    if (r != MR_OK) {
        return r;
    }
    if (good == NULL) {
        w->gap = w->gap == 0 ? w->at : w->gap;
        w->at += MR_LOG_BLOCK;
        return MR_OK;
    }
    close_gap(w, &good->header);
    w->before = good->header;
    w->has_before = true;
    mend->next_offset = good->header.next_offset;
    w->at += good->header.padded;
    mend->groups++;
    return MR_OK;
}

/* The segment's header, and its salt. */
static enum mr_status mend_header(struct walk *w)
{
    struct mr_segment_header headers[2];
    const uint8_t *blocks[2] = {NULL, NULL};
    bool good[2] = {false, false};
    for (unsigned i = 0; i < (w->two ? 2u : 1u); i++) {
        blocks[i] = view_get(&w->views[i], 0, MR_LOG_BLOCK);
        good[i] = blocks[i] != NULL && mr_segment_header_decode(blocks[i], &headers[i]) == MR_OK &&
                  headers[i].number == w->mend->number &&
                  headers[i].file == w->mend->of;
    }
    if (!good[0] && !good[1]) {
        w->salt = w->mend->salt;
        w->header_is_bad = true;
        return w->salt == 0 ? MR_E_NOT_FOUND : MR_OK;
    }
    unsigned best = good[0] && (!headers[0].mended || !good[1] || headers[1].mended) ? 0 : 1;
    w->salt = headers[best].salt;
    bool same = good[1 - best] && memcmp(blocks[0], blocks[1], MR_LOG_BLOCK) == 0;
    if (!w->two || w->mend->from != 0 || same) {
        return MR_OK;
    }
    return write_over(w, 1 - best, blocks[best], MR_LOG_BLOCK, best == 1 || !w->mend->quiet);
}

static void walk_init(struct walk *w, struct mr_io *io, struct mr_log_mend *mend, const char *name)
{
    bool alone = mend->first_bad && MR_PLANTED(SCRUB_LOSES);
    *w = (struct walk){.io = io, .mend = mend, .two = mr_io_has_copy(io) && !alone};
    for (unsigned i = 0; i < 2; i++) {
        w->views[i] = (struct view){.io = io, .copy = i, .name = name};
    }
}

static void walk_release(struct walk *w)
{
    mr_free(w->views[0].data);
    mr_free(w->views[1].data);
}

enum mr_status mr_log_mend(struct mr_io *io, struct mr_log_mend *mend, uint64_t size_max)
{
    char name[MR_LOG_NAME_SIZE];
    struct walk w;
    mr_log_file_name(mend->of, mend->number, name);
    walk_init(&w, io, mend, name);
    enum mr_status r = mend_header(&w);
    w.at = mend->from < MR_LOG_BLOCK ? MR_LOG_BLOCK : mend->from;
    uint64_t begin = w.at;
    if (r == MR_OK && w.header_is_bad && mend->from == 0) {
        mend->bad = 1;
        mend->bad_end = MR_LOG_BLOCK;
    }
    uint64_t until = mend->until;
    while (r == MR_OK && (until == 0 || w.at < until) && !(mend->first_bad && mend->bad > 0) &&
           (size_max == 0 || w.at - begin < size_max || w.gap != 0)) {
        if (until == 0 && view_get(&w.views[0], w.at, MR_LOG_BLOCK) == NULL &&
            (!w.two || view_get(&w.views[1], w.at, MR_LOG_BLOCK) == NULL)) {
            break; /* the end of the file */
        }
        r = step(&w);
        r = r == MR_OK && (w.views[0].no_memory || w.views[1].no_memory) ? MR_E_NOMEM : r;
    }
    if (r == MR_OK && until != 0) {
        close_gap(&w, NULL);
    }
    mend->end = w.at;
    walk_release(&w);
    return r;
}

bool mr_log_mend_group(struct mr_io *io, const struct mr_log_segment *segment, uint64_t at,
                       uint64_t sequence, uint32_t previous_crc)
{
    char name[MR_LOG_NAME_SIZE];
    struct walk w;
    struct mr_log_mend mend = {.of = segment->of, .number = segment->number};
    mr_log_file_name(segment->of, segment->number, name);
    walk_init(&w, io, &mend, name);
    bool whole = false;
    if (w.two) {
        w.at = at;
        w.salt = segment->header.salt;
        struct place place = look(&w.views[1], at, w.salt);
        whole = place.data != NULL &&
                (sequence == 0 || (place.header.sequence == sequence &&
                                   place.header.previous_crc == previous_crc)) &&
                write_over(&w, 0, place.data, place.header.padded, true) == MR_OK;
    }
    walk_release(&w);
    return whole;
}

static bool is_zero(const uint8_t *data, size_t size)
{
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

/* @return its bytes; 0: there is no record; *ret_good: it is whole, or cut at the end */
static size_t pass_record(const uint8_t *data, size_t left, bool *ret_good)
{
    struct mr_record record;
    *ret_good = true;
    enum mr_status r = mr_record_decode(data, left, &record, NULL);
    if (r == MR_OK) {
        return mr_record_size(record.body.size);
    }
    bool head_is_good = left >= MR_RECORD_HEADER_SIZE &&
                        mr_get_u32(data + 44) == mr_crc32c(0, data, 44);
    bool cut = left < MR_RECORD_HEADER_SIZE ||
               (head_is_good && mr_record_size(mr_get_u32(data)) > left);
    *ret_good = cut;
    return cut ? left : 0;
}

bool mr_log_bytes_are_whole(const uint8_t *data, size_t size, uint64_t at, uint64_t salt)
{
    size_t p = 0;
    while (p < size) {
        struct mr_group_header header;
        bool at_block = (at + p) % MR_LOG_BLOCK == 0;
        size_t to_block = MR_LOG_BLOCK - (size_t)((at + p) % MR_LOG_BLOCK);
        to_block = to_block < size - p ? to_block : size - p;
        bool group = at_block && size - p >= MR_GROUP_HEADER_SIZE &&
                     mr_group_header_decode(data + p, salt, &header) == MR_OK;
        if (group && header.padded <= size - p) {
            if (!mr_log_group_is_whole(data + p, size - p, salt, &header)) {
                return false;
            }
            p += header.padded;
        } else if (group) {
            p += MR_GROUP_HEADER_SIZE; /* its records, as far as they go */
        } else if (size - p < MR_RECORD_HEADER_SIZE) {
            break;
        } else {
            bool good;
            size_t step = pass_record(data + p, size - p, &good);
            if (!good && is_zero(data + p, to_block) && !at_block) {
                step = to_block; /* what a group is filled up with */
            } else if (!good) {
                return false;
            }
            p += step;
        }
    }
    return true;
}
