#include "connectors/file/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/hash.h"
#include "core/logger.h"
#include "core/rng.h"
#include "schemas/adapter.h"
#include "schemas/json_format.h"

#define BATCH_COUNT 500u
#define BATCH_SIZE (2u * MR_MIB)
#define ROTATED_MAX 9u /* PATH.1 and so on that are looked at */
#define CHUNK_SIZE (128u * MR_KIB)

/* --- opening ---------------------------------------------------------------------------------- */

static uint32_t head_crc(int file, uint64_t at)
{
    uint8_t head[MR_FILE_HEAD_SIZE];
    size_t wanted = at < sizeof(head) ? (size_t)at : sizeof(head);
    ssize_t n = pread(file, head, wanted, 0);
    return n == (ssize_t)wanted ? mr_crc32c(0, head, wanted) : 0;
}

/* Whether @p file is the one @p position speaks of, and still has those bytes. */
static bool is_file_of(int file, const struct mr_file_position *position)
{
    struct stat st;
    return fstat(file, &st) == 0 && (uint64_t)st.st_ino == position->inode &&
           (uint64_t)st.st_dev == position->device && (uint64_t)st.st_size >= position->at &&
           head_crc(file, position->at) == position->head;
}

static void watch_file(struct mr_file_reader *reader)
{
    char path[PATH_MAX];
    if (reader->watch >= 0) {
        (void)close(reader->watch);
    }
    reader->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (reader->watch < 0) {
        return; /* LOOK_AGAIN_MS must do */
    }
    bool absolute = reader->options->path[0] == '/' || reader->folder == NULL;
    int size = snprintf(path, sizeof(path), "%s%s%s", absolute ? "" : reader->folder,
                        absolute ? "" : "/", reader->options->path);
    if (size < 0 || (size_t)size >= sizeof(path)) {
        return;
    }
    (void)inotify_add_watch(reader->watch, path, IN_MODIFY);
    char *slash = strrchr(path, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    (void)inotify_add_watch(reader->watch, slash == NULL ? "." : slash == path ? "/" : path,
                            IN_CREATE | IN_MOVED_TO);
}

static void begin_file(struct mr_file_reader *reader, int file, uint64_t at)
{
    struct stat st = {0};
    (void)fstat(file, &st); /* it worked a moment ago */
    if (reader->file > 0) {
        (void)close(reader->file);
    }
    reader->file = file;
    reader->position = (struct mr_file_position){.device = (uint64_t)st.st_dev,
                                                 .inode = (uint64_t)st.st_ino,
                                                 .at = at,
                                                 .head = head_crc(file, at)};
    mr_buf_clear(&reader->buf);
    reader->scanned = 0;
    reader->skipping = false;
    reader->at_end = false;
    reader->resumes = false;
    reader->from_end = false;
}

/* PATH for 0, else PATH.1, PATH.2, …, the names of rotated files. */
static bool open_numbered(const struct mr_file_reader *reader, uint32_t number, int *ret_file)
{
    char path[PATH_MAX];
    char suffix[16] = "";
    if (number > 0) {
        (void)snprintf(suffix, sizeof(suffix), ".%u", number);
    }
    int size = snprintf(path, sizeof(path), "%s%s", reader->options->path, suffix);
    return size >= 0 && (size_t)size < sizeof(path) &&
           mr__file_open_read(reader->folder, path, ret_file, NULL) == MR_OK;
}

/* The file in which the logged position lies, if it was rotated meanwhile. */
static bool resume_rotated(struct mr_file_reader *reader)
{
    int file = -1;
    for (uint32_t i = 1; i <= ROTATED_MAX && open_numbered(reader, i, &file); i++) {
        if (is_file_of(file, &reader->position)) {
            begin_file(reader, file, reader->position.at);
            reader->is_old = true;
            return true;
        }
        (void)close(file);
    }
    return false;
}

/* What comes behind the rotated file that was read to its end: the next younger one, which is not
 * PATH when there was more than one rotation meanwhile. Ours may have been removed by then: what
 * was written since is younger. */
static bool open_younger(const struct mr_file_reader *reader, int *ret_file)
{
    struct stat ours;
    struct stat st;
    uint32_t younger = 0;
    int file = -1;
    bool known = fstat(reader->file, &ours) == 0;
    for (uint32_t i = 1; known && i <= ROTATED_MAX && open_numbered(reader, i, &file); i++) {
        bool there = fstat(file, &st) == 0;
        (void)close(file);
        if (there && st.st_ino == ours.st_ino && st.st_dev == ours.st_dev) {
            return open_numbered(reader, i - 1, ret_file);
        }
        bool later = st.st_mtim.tv_sec != ours.st_mtim.tv_sec
                         ? st.st_mtim.tv_sec > ours.st_mtim.tv_sec
                         : st.st_mtim.tv_nsec >= ours.st_mtim.tv_nsec;
        younger = there && later ? i : younger;
    }
    return open_numbered(reader, younger, ret_file);
}

enum mr_status mr__file_reader_open(struct mr_file_reader *reader, struct mr_problem *problem)
{
    if (reader->file >= 0) {
        return MR_OK;
    }
    if (reader->is_stdin) {
        reader->file = 0;
        return MR_OK;
    }
    watch_file(reader);
    int file = -1;
    enum mr_status r =
        mr__file_open_read(reader->folder, reader->options->path, &file, problem);
    if (r != MR_OK) {
        return r;
    }
    if (reader->resumes && is_file_of(file, &reader->position)) {
        begin_file(reader, file, reader->position.at);
        return MR_OK;
    }
    if (reader->resumes && resume_rotated(reader)) {
        (void)close(file);
        return MR_OK;
    }
    if (reader->resumes) {
        MR_WARN("file", "source=%s path=%s is another file than before, reading it from its start",
                reader->name, reader->options->path);
    }
    struct stat st = {0};
    bool to_end = reader->from_end && !reader->resumes && fstat(file, &st) == 0;
    begin_file(reader, file, to_end ? (uint64_t)st.st_size : 0);
    return MR_OK;
}

/* --- lines to events -------------------------------------------------------------------------- */

static enum mr_status decode_line(struct mr_file_reader *reader, struct mr_bytes line,
                                  const char *id, struct mr_event **ret_event,
                                  struct mr_problem *problem)
{
    if (reader->options->adapter != MR_FILE_GENERIC) {
        return mr_json_decode_event(line, reader->event_size_max, ret_event, problem);
    }
    char from[MR_NAME_SIZE_MAX + 32];
    (void)snprintf(from, sizeof(from), "/millrace/source/%.*s", (int)MR_NAME_SIZE_MAX,
                   reader->name);
    struct mr_bytes type = mr_json_is_value(line) ? MR_BYTES_LITERAL("application/json")
                           : mr_bytes_is_utf8(line)
                               ? MR_BYTES_LITERAL("text/plain; charset=utf-8")
                               : MR_BYTES_LITERAL("application/octet-stream");
    struct mr_field header = {MR_BYTES_LITERAL("content-type"), type};
    return mr_adapt_generic(&header, 1, line, mr_bytes_of(id), mr_bytes_of(from),
                            MR_BYTES_LITERAL("io.millrace.file.line"), mr_clock_now().wall_ns,
                            reader->event_size_max, ret_event, problem);
}

/* @p at of the line's first byte: with the inode it makes the id, the same after a restart. */
static enum mr_status add_line(struct mr_file_reader *reader, struct mr_batch *batch,
                               struct mr_bytes line, uint64_t at, bool too_long)
{
    struct mr_problem problem = {.text = ""};
    struct mr_event *event = NULL;
    char id[96];
    if (line.size > 0 && line.data[line.size - 1] == '\r') {
        line.size--;
    }
    size_t blanks = 0;
    while (blanks < line.size && (line.data[blanks] == ' ' || line.data[blanks] == '\t')) {
        blanks++;
    }
    if (blanks == line.size) {
        return MR_OK; /* a blank line says nothing */
    }
    (void)snprintf(id, sizeof(id), "%llx-%llx-%llu",
                   (unsigned long long)(reader->is_stdin ? reader->boot : reader->position.device),
                   (unsigned long long)reader->position.inode, (unsigned long long)at);
    enum mr_status r;
    if (too_long) {
        r = mr_problem_set(&problem, MR_E_TOO_BIG, "line longer than %zu bytes",
                           reader->line_size_max);
    } else {
        r = decode_line(reader, line, id, &event, &problem);
    }
    if (r == MR_OK) {
        return mr_batch_add(batch, event, NULL);
    }
    if (mr_status_class(r) != MR_CLASS_PERMANENT) {
        return r;
    }
    r = mr_adapt_rejected(mr_bytes_of(reader->name), mr_bytes_of(id), line, problem.text,
                          mr_clock_now().wall_ns, reader->event_size_max, &event);
    return r == MR_OK ? mr_batch_add(batch, event, problem.text) : r;
}

static void consume(struct mr_file_reader *reader, size_t size)
{
    MR_ASSERT(size <= reader->buf.size);
    memmove(reader->buf.data, reader->buf.data + size, reader->buf.size - size);
    reader->buf.size -= size;
    reader->position.at += size;
    reader->scanned = 0;
}

/* Moves the whole lines of the buffer into the batch; with @p last what is left, too. */
static enum mr_status take_lines(struct mr_file_reader *reader, struct mr_batch *batch, bool last)
{
    size_t start = 0;
    enum mr_status r = MR_OK;
    while (r == MR_OK && batch->count < BATCH_COUNT && batch->size < BATCH_SIZE) {
        const uint8_t *data = reader->buf.data + start;
        size_t size = reader->buf.size - start;
        size_t from = start == 0 ? reader->scanned : 0;
        const uint8_t *end = size > from ? memchr(data + from, '\n', size - from) : NULL;
        size_t line_size = end == NULL ? size : (size_t)(end - data);
        bool too_long = line_size > reader->line_size_max;
        if (end == NULL && !too_long && (!last || size == 0)) {
            reader->scanned = start == 0 ? size : reader->scanned;
            break;
        }
        if (!reader->skipping) {
            r = add_line(reader, batch,
                         mr_bytes(data, too_long ? reader->line_size_max : line_size),
                         reader->position.at + start, too_long);
        }
        if (r == MR_OK) {
            reader->skipping = end == NULL && !last; /* its rest is not a line of its own */
            start += line_size + (end == NULL ? 0 : 1);
        }
    }
    if (start > 0) {
        consume(reader, start);
        reader->scanned = 0;
    }
    return r;
}

/* --- reading ---------------------------------------------------------------------------------- */

static enum mr_status read_chunk(struct mr_file_reader *reader, struct mr_problem *problem)
{
    enum mr_status r = mr_buf_reserve(&reader->buf, CHUNK_SIZE);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "no memory to read");
    }
    uint8_t *to = reader->buf.data + reader->buf.size;
    ssize_t n;
    if (reader->is_stdin) {
        struct pollfd p = {.fd = 0, .events = POLLIN};
        if (poll(&p, 1, 0) <= 0) {
            reader->at_end = true;
            return MR_OK;
        }
        n = read(0, to, CHUNK_SIZE);
    } else {
        n = pread(reader->file, to, CHUNK_SIZE,
                  (off_t)(reader->position.at + reader->buf.size));
    }
    if (n < 0) {
        if (errno == EINTR || errno == EAGAIN) {
            reader->at_end = true;
            return MR_OK;
        }
        return mr_problem_set(problem, mr_status_from_errno(errno), "cannot read %s: %s",
                              reader->options->path, strerror(errno));
    }
    reader->buf.size += (size_t)n;
    reader->at_end = n == 0;
    reader->ended = n == 0 && reader->is_stdin;
    return MR_OK;
}

/* At the end of the open file: is there a newer one, was it cut, are we done? */
static void look_around(struct mr_file_reader *reader)
{
    struct stat st;
    if (reader->is_stdin) {
        return;
    }
    if (fstat(reader->file, &st) == 0 &&
        (uint64_t)st.st_size < reader->position.at + reader->buf.size) {
        MR_WARN("file", "source=%s path=%s was cut, reading it from its start", reader->name,
                reader->options->path);
        int file = dup(reader->file);
        if (file >= 0) {
            begin_file(reader, file, 0);
        }
        return;
    }
    int file = -1;
    if (mr__file_open_read(reader->folder, reader->options->path, &file, NULL) == MR_OK) {
        struct stat named = {0};
        bool other = fstat(file, &named) == 0 && fstat(reader->file, &st) == 0 &&
                     (named.st_ino != st.st_ino || named.st_dev != st.st_dev);
        if (!other) {
            (void)close(file);
            reader->is_old = false;
        } else if (!reader->is_old) { /* once more to the end: it may have grown meanwhile */
            (void)close(file);
            reader->is_old = true;
            reader->at_end = false;
            return;
        } else if (reader->buf.size > 0) {
            (void)close(file); /* its last line, without an end, goes first */
            return;
        } else {
            (void)close(file);
            if (open_younger(reader, &file)) {
                reader->is_old = false;
                begin_file(reader, file, 0);
                watch_file(reader);
            }
            return;
        }
    }
    reader->ended = !reader->options->follow;
}

static enum mr_status set_cursor(struct mr_file_reader *reader, struct mr_batch *batch)
{
    if (batch->count == 0 || reader->is_stdin) {
        return MR_OK;
    }
    reader->position.head = head_crc(reader->file, reader->position.at);
    mr_free(batch->cursor);
    batch->cursor = mr__file_cursor(&reader->position);
    return batch->cursor == NULL ? MR_E_NOMEM : MR_OK;
}

enum mr_status mr__file_reader_read(struct mr_file_reader *reader, struct mr_batch *batch,
                                    struct mr_problem *problem)
{
    enum mr_status r = MR_OK;
    reader->at_end = false;
    while (r == MR_OK) {
        bool last = reader->ended || (reader->at_end && reader->is_old);
        r = take_lines(reader, batch, last);
        if (r != MR_OK || batch->count >= BATCH_COUNT || batch->size >= BATCH_SIZE ||
            reader->at_end) {
            break;
        }
        r = read_chunk(reader, problem);
        if (r == MR_OK && reader->at_end && batch->count == 0) {
            look_around(reader); /* between batches only: a batch is of one file */
        }
    }
    if (r == MR_OK) {
        r = set_cursor(reader, batch);
    }
    if (r != MR_OK && problem != NULL && problem->text[0] == '\0') {
        return mr_problem_set(problem, r, "cannot read %s: %s", reader->options->path,
                              mr_status_text(r));
    }
    return r;
}

bool mr__file_reader_is_done(const struct mr_file_reader *reader)
{
    return reader->ended && reader->buf.size == 0;
}

/* --- life ------------------------------------------------------------------------------------- */

void mr__file_reader_init(struct mr_file_reader *reader, const char *name, const char *folder,
                          const struct mr_file_source_options *options, size_t event_size_max,
                          const char *cursor)
{
    *reader = (struct mr_file_reader){
        .name = name,
        .folder = folder,
        .options = options,
        .event_size_max = event_size_max,
        /* Base64 and escapes make a line longer than its event; more is refused anyway. */
        .line_size_max = 2 * event_size_max + MR_EVENT_ATTRS_SIZE_MAX,
        .is_stdin = strcmp(options->path, "-") == 0,
        .file = -1,
        .watch = -1,
        .from_end = options->from == MR_FILE_FROM_END,
        .boot = mr_rng_entropy(),
    };
    mr_buf_init(&reader->buf, reader->line_size_max + 4u * CHUNK_SIZE);
    reader->resumes = mr__file_read_cursor(cursor, &reader->position);
}

void mr__file_reader_release(struct mr_file_reader *reader)
{
    if (reader->file > 0) {
        (void)close(reader->file);
    }
    if (reader->watch >= 0) {
        (void)close(reader->watch);
    }
    mr_buf_release(&reader->buf);
}
