#include "bus/logwindow.h"

#include "core/alloc.h"

#define READ_FIRST (1u * MR_MIB) /* where it may be the only one */
#define READ_CHUNK (4u * MR_MIB)
#define READ_KEPT (4u * MR_MIB) /* room before a chunk for what is left of the one before */

void mr__window_init(struct mr__log_window *window, struct mr_io *io,
                     const struct mr_log_index *index)
{
    *window = (struct mr__log_window){.io = io, .index = index, .file = -1};
}

static void close_file(struct mr__log_window *w)
{
    if (w->file >= 0) {
        w->io->ops->close(w->io, w->file);
        w->file = -1;
    }
    w->size = 0;
}

/* Who goes through whole segments reads past the page cache: what a crash leaves is not in it, and
 * what is needed there stays. Places, sizes and buffers are aligned for that. */
static enum mr_status open_segment(const struct mr__log_window *w, uint32_t segment, int *ret_file)
{
    char name[MR_LOG_NAME_SIZE];
    mr_log_file_name(w->index->segments[segment].of, w->index->segments[segment].number, name);
    unsigned flags = MR_IO_READ_ONLY | (w->flows ? MR_IO_DIRECT : 0u);
    return w->io->ops->open(w->io, name, flags, ret_file);
}

/* --- the pieces that are read meanwhile ------------------------------------------------------- */

static uint8_t *chunk_behind(const struct mr__log_window *w, uint32_t count)
{
    return w->chunks[(w->chunk + count) % MR_ARRAY_COUNT(w->chunks)] + READ_KEPT;
}

/* The first of them leaves; its file stays open. */
static enum mr_status end_first(struct mr__log_window *w, size_t *ret_size)
{
    struct mr_io_read *read = w->ahead[0].read;
    w->ahead_count--;
    memmove(w->ahead, w->ahead + 1, w->ahead_count * sizeof(w->ahead[0]));
    return w->io->ops->read_end(w->io, read, ret_size);
}

static void drop_ahead(struct mr__log_window *w)
{
    while (w->ahead_count > 0) {
        int file = w->ahead[0].file;
        size_t unused;
        (void)end_first(w, &unused); /* nobody wants it */
        bool shared = file == w->file || (w->ahead_count > 0 && w->ahead[0].file == file);
        if (!shared) {
            w->io->ops->close(w->io, file);
        }
    }
}

/* Where it goes on behind all that is there or on its way: in the same segment, or at the first
 * group of the next one, whose file is not open then: -1. */
static bool place_behind(const struct mr__log_window *w, struct mr__log_piece *ret_piece)
{
    const struct mr__log_piece *last =
        w->ahead_count == 0 ? NULL : &w->ahead[w->ahead_count - 1];
    struct mr__log_piece piece = {.segment = w->segment, .file = w->file, .at = w->at + w->size};
    if (last != NULL) {
        piece = *last;
        piece.at += READ_CHUNK;
    }
    if (piece.at >= w->index->segments[piece.segment].file_size) {
        do {
            piece.segment++;
        } while (piece.segment < w->index->segment_count &&
                 !w->index->segments[piece.segment].usable);
        piece.file = -1;
        piece.at = MR_LOG_BLOCK;
    }
    *ret_piece = piece;
    return piece.segment < w->index->segment_count;
}

/* What cannot be begun is read when it is wanted. */
static void begin_ahead(struct mr__log_window *w)
{
    const struct mr_io_ops *ops = w->io->ops;
    struct mr__log_piece piece;
    while (ops->read_begin != NULL && w->ahead_count < MR__WINDOW_AHEAD &&
           place_behind(w, &piece)) {
        bool opens = piece.file < 0;
        if (opens && open_segment(w, piece.segment, &piece.file) != MR_OK) {
            return;
        }
        if (ops->read_begin(w->io, piece.file, chunk_behind(w, w->ahead_count + 1), READ_CHUNK,
                            piece.at, &piece.read) != MR_OK) {
            if (opens) {
                ops->close(w->io, piece.file);
            }
            return;
        }
        w->ahead[w->ahead_count++] = piece;
    }
}

/* --- moving on -------------------------------------------------------------------------------- */

static bool has_chunks(struct mr__log_window *w)
{
    bool has = true;
    for (size_t i = 0; i < MR_ARRAY_COUNT(w->chunks); i++) {
        if (w->chunks[i] == NULL) {
            w->chunks[i] = mr_alloc_aligned(MR_LOG_BLOCK, READ_KEPT + READ_CHUNK);
        }
        has = has && w->chunks[i] != NULL;
    }
    return has;
}

/* The window is the next chunk from now on: @p kept bytes of what it was, from @p at on, and @p got
 * behind them. */
static void move_on(struct mr__log_window *w, uint64_t at, size_t kept, size_t got)
{
    uint8_t *to = chunk_behind(w, 1);
    if (kept > 0) {
        memcpy(to - kept, w->data + (at - w->at), kept);
    }
    w->chunk = (w->chunk + 1) % MR_ARRAY_COUNT(w->chunks);
    w->data = to - kept;
    w->at = at;
    w->size = kept + got;
    w->flows = true;
    begin_ahead(w);
}

/* The first piece of another segment, if it is the one that was read ahead. */
static bool enter_segment(struct mr__log_window *w, uint32_t segment, uint64_t at)
{
    const struct mr__log_piece *first = &w->ahead[0];
    if (w->ahead_count == 0 || first->segment != segment || first->segment == w->segment ||
        first->at != at) {
        return false;
    }
    close_file(w);
    w->segment = segment;
    w->file = first->file;
    size_t got;
    if (end_first(w, &got) != MR_OK) {
        drop_ahead(w);
        return false;
    }
    move_on(w, at, 0, got);
    return true;
}

/* Moves the window on by a chunk and keeps what it has from @p at on.
 * @return false: it is as it was; [at, at + size) is to be read by itself */
static bool next_chunk(struct mr__log_window *w, uint64_t at, size_t size)
{
    uint64_t end = w->at + w->size;
    if (w->size == 0 || at < w->at || at > end || end - at > READ_KEPT ||
        size > end - at + READ_CHUNK || !has_chunks(w)) {
        return false;
    }
    size_t kept = (size_t)(end - at);
    size_t got = 0;
    enum mr_status r;
    if (w->ahead_count > 0 && w->ahead[0].segment == w->segment && w->ahead[0].at == end) {
        r = end_first(w, &got);
    } else {
        drop_ahead(w);
        r = w->io->ops->pread(w->io, w->file, chunk_behind(w, 1), READ_CHUNK, end, &got);
    }
    if (r == MR_OK) {
        move_on(w, at, kept, got);
    }
    return r == MR_OK;
}

static enum mr_status read_alone(struct mr__log_window *w, uint64_t at, size_t size)
{
    drop_ahead(w);
    size = mr_round_up(size, MR_LOG_BLOCK);
    size_t want = size < READ_FIRST ? READ_FIRST : size;
    w->size = 0;
    if (want > w->large_capacity) {
        uint8_t *grown = mr_alloc_aligned(MR_LOG_BLOCK, want);
        if (grown == NULL) {
            return MR_E_NOMEM;
        }
        mr_free(w->large);
        w->large = grown;
        w->large_capacity = want;
    }
    size_t got = 0;
    const struct mr_io_ops *ops = w->io->ops;
    enum mr_status r = ops->pread(w->io, w->file, w->large, want, at, &got);
    if (r != MR_OK && want > size) {
        r = ops->pread(w->io, w->file, w->large, size, at, &got);
    }
    if (r != MR_OK) {
        return r; /* not what was read with it, but what is wanted */
    }
    w->data = w->large;
    w->at = at;
    w->size = got;
    if (w->flows && has_chunks(w)) {
        begin_ahead(w);
    }
    return MR_OK;
}

enum mr_status mr__window_fetch(struct mr__log_window *window, uint32_t segment, uint64_t at,
                                size_t size, const uint8_t **ret_data)
{
    struct mr__log_window *w = window;
    *ret_data = NULL;
    if (at + size > w->index->segments[segment].file_size) {
        return MR_OK;
    }
    if (w->file < 0 || w->segment != segment) {
        if (!enter_segment(w, segment, at) && w->segment != segment) {
            drop_ahead(w);
            close_file(w);
            w->segment = segment;
        }
    }
    if (w->file < 0) {
        enum mr_status opened = open_segment(w, segment, &w->file);
        if (opened != MR_OK) {
            w->file = -1;
            return opened;
        }
    }
    bool has = at >= w->at && at + size <= w->at + w->size;
    enum mr_status r = has || next_chunk(w, at, size) ? MR_OK : read_alone(w, at, size);
    if (r == MR_OK && at + size <= w->at + w->size) { /* else the file is shorter than it was */
        *ret_data = w->data + (at - w->at);
    }
    return r;
}

void mr__window_release(struct mr__log_window *window)
{
    drop_ahead(window);
    close_file(window);
    mr_free(window->large);
    for (size_t i = 0; i < MR_ARRAY_COUNT(window->chunks); i++) {
        mr_free(window->chunks[i]);
    }
}
