#include "core/io_mirror.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/attrs.h"
#include "core/bytes.h"
#include "core/hash.h"

#define FILES_MAX 96u /* open at once: one or two for each thread of the log */
#define NAME_SIZE 64u
#define NOTE_SIZE 44u
#define NOTE_MAGIC "MRMIRR01"

enum job_kind {
    JOB_WRITE = 0,
    JOB_SYNC,
};

/* What is done to the second copy beside the first; on the stack of whoever waits for it. */
struct job {
    struct job *next;
    enum job_kind kind;
    int file;
    const void *from;
    size_t size;
    uint64_t at;
    enum mr_status result;
    bool done;
};

struct pair {
    bool used;
    bool beside; /* its writes go to both copies at once: somebody waits for each of them */
    unsigned flags;
    int files[2]; /* -1: not open there */
    char name[NAME_SIZE];
};

struct mirror {
    struct mr_io io;
    struct mr_mirror_options options;
    char names[2][256];
    pthread_mutex_t mu;
    pthread_cond_t told; /* a job came, or is done, or `stopping` */
    /* Under mu: */
    struct pair files[FILES_MAX];
    struct mr_mirror_note note;
    struct job *first;
    struct job *last;
    bool stopping;
    /* Set once, under mu. Relaxed reads: whoever reads too early fails on the copy once more. */
    _Atomic bool out[2];
    _Atomic uint64_t repaired;
    bool has_thread;
    pthread_t thread;
};

static struct mirror *mirror_of(struct mr_io *io)
{
    return (struct mirror *)io;
}

/* --- the note --------------------------------------------------------------------------------- */

static void encode_note(const struct mr_mirror_note *note, uint8_t *at)
{
    memcpy(at, NOTE_MAGIC, 8);
    mr_put_u32(at + 8, 1);
    mr_put_u32(at + 12, note->left ? 2 : note->alone);
    mr_put_u64(at + 16, note->pair);
    mr_put_u64(at + 24, note->generation);
    mr_put_u64(at + 32, note->token);
    mr_put_u32(at + 40, mr_crc32c(0, at, 40));
}

static bool decode_note(const uint8_t *at, struct mr_mirror_note *ret_note)
{
    if (memcmp(at, NOTE_MAGIC, 8) != 0 || mr_get_u32(at + 8) != 1 ||
        mr_get_u32(at + 40) != mr_crc32c(0, at, 40) || mr_get_u64(at + 16) == 0) {
        return false;
    }
    *ret_note = (struct mr_mirror_note){
        .pair = mr_get_u64(at + 16),
        .generation = mr_get_u64(at + 24),
        .token = mr_get_u64(at + 32),
        .alone = mr_get_u32(at + 12) == 1,
        .left = mr_get_u32(at + 12) == 2,
    };
    return true;
}

enum mr_status mr_mirror_note_read(struct mr_io *io, struct mr_mirror_note *ret_note)
{
    int file;
    *ret_note = (struct mr_mirror_note){0};
    enum mr_status r = io->ops->open(io, MR_MIRROR_NOTE, MR_IO_READ_ONLY, &file);
    if (r != MR_OK) {
        return r;
    }
    for (unsigned i = 0; i < 2; i++) { /* one block may be unreadable */
        uint8_t at[NOTE_SIZE];
        size_t size = 0;
        struct mr_mirror_note note;
        r = io->ops->pread(io, file, at, sizeof(at), (uint64_t)i * MR_IO_BLOCK, &size);
        if (r == MR_OK && size == sizeof(at) && decode_note(at, &note) &&
            note.generation >= ret_note->generation) {
            *ret_note = note;
        }
    }
    io->ops->close(io, file);
    return ret_note->pair != 0 ? MR_OK : MR_E_CORRUPT;
}

enum mr_status mr_mirror_note_write(struct mr_io *io, const struct mr_mirror_note *note)
{
    int file;
    uint8_t block[MR_IO_BLOCK] = {0};
    encode_note(note, block);
    enum mr_status r = io->ops->open(io, MR_MIRROR_NOTE, MR_IO_WRITE | MR_IO_CREATE, &file);
    if (r != MR_OK) {
        return r;
    }
    for (unsigned i = 0; i < 2 && r == MR_OK; i++) {
        r = io->ops->pwrite(io, file, block, sizeof(block), (uint64_t)i * MR_IO_BLOCK);
        r = r == MR_OK ? io->ops->sync(io, file) : r;
    }
    io->ops->close(io, file);
    return r == MR_OK ? io->ops->sync_dir(io) : r;
}

/* --- one of two fails ------------------------------------------------------------------------- */

static bool is_out(struct mirror *m, unsigned i)
{
    return atomic_load_explicit(&m->out[i], memory_order_relaxed);
}

/* The one that reads come from. */
static unsigned lead_of(struct mirror *m)
{
    return is_out(m, 0) ? 1 : 0;
}

static void tell(struct mirror *m, const char *format, ...) MR_PRINTF(2, 3);

static void tell(struct mirror *m, const char *format, ...)
{
    char text[768];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args); /* cut at worst */
    va_end(args);
    m->options.tell(m->options.context, text);
}

/* Copy @p i failed: before anything counts as done that is on the other alone, a durable note there
 * says that it is the newer one. */
static void leave_locked(struct mirror *m, unsigned i, const char *what, enum mr_status status)
{
    struct mr_io *other = m->options.copies[1 - i];
    struct mr_mirror_note note = m->note;
    note.generation++;
    note.token = mr_hash_u64(note.token ^ (i + 1u));
    note.alone = true;
    if (is_out(m, 1 - i) || mr_mirror_note_write(other, &note) != MR_OK) {
        return;
    }
    m->note = note;
    atomic_store_explicit(&m->out[i], true, memory_order_relaxed);
    note.alone = false;
    note.left = true;
    enum mr_status told = mr_mirror_note_write(m->options.copies[i], &note);
    (void)told; /* helps where it can still be done */
    tell(m, "the copy of the log in %s fails (%s: %s): it goes on in %s alone, and what is "
            "acknowledged from here on stands there only, until a start with both",
         m->names[i], what, mr_status_text(status), m->names[1 - i]);
}

/* What to say of an operation that was tried on the copies that were in: @p results of those. */
static enum mr_status settle(struct mirror *m, const bool tried[2],
                             const enum mr_status results[2], const char *what, bool full_is_told)
{
    bool both = tried[0] && tried[1];
    unsigned one = tried[0] ? 0 : 1;
    if (!both && !is_out(m, one)) {
        return results[one];
    }
    if (both && results[0] == MR_OK && results[1] == MR_OK && !is_out(m, 0) && !is_out(m, 1)) {
        return MR_OK;
    }
    if (full_is_told && (results[0] == MR_E_DISK_LOW || results[1] == MR_E_DISK_LOW)) {
        return MR_E_DISK_LOW; /* nothing that counts: sources wait until there is room on both */
    }
    pthread_mutex_lock(&m->mu);
    for (unsigned i = 0; i < 2; i++) {
        if (both && results[i] != MR_OK && results[1 - i] == MR_OK && !is_out(m, i)) {
            leave_locked(m, i, what, results[i]);
        }
    }
    enum mr_status r = MR_E_IO;
    for (unsigned i = 0; i < 2; i++) {
        r = tried[i] && results[i] != MR_OK && r != MR_OK ? results[i] : r;
    }
    for (unsigned i = 0; i < 2; i++) { /* done is what was done where it counts */
        bool other = is_out(m, 1 - i) || (tried[1 - i] && results[1 - i] == MR_OK);
        bool counts = other && !is_out(m, i);
        r = tried[i] && results[i] == MR_OK && counts ? MR_OK : r;
    }
    pthread_mutex_unlock(&m->mu);
    return r;
}

/* --- the second copy beside the first --------------------------------------------------------- */

static enum mr_status perform(struct mr_io *io, const struct job *job)
{
    return job->kind == JOB_WRITE ? io->ops->pwrite(io, job->file, job->from, job->size, job->at)
                                  : io->ops->sync(io, job->file);
}

static void *second_thread(void *argument)
{
    struct mirror *m = argument;
    (void)pthread_setname_np(pthread_self(), "log-mirror");
    pthread_mutex_lock(&m->mu);
    while (!m->stopping || m->first != NULL) {
        struct job *job = m->first;
        if (job == NULL) {
            (void)pthread_cond_wait(&m->told, &m->mu);
            continue;
        }
        m->first = job->next;
        pthread_mutex_unlock(&m->mu);
        enum mr_status r = perform(m->options.copies[1], job);
        pthread_mutex_lock(&m->mu);
        job->result = r;
        job->done = true;
        (void)pthread_cond_broadcast(&m->told);
    }
    pthread_mutex_unlock(&m->mu);
    return NULL;
}

static void submit(struct mirror *m, struct job *job)
{
    pthread_mutex_lock(&m->mu);
    job->next = NULL;
    if (m->first == NULL) {
        m->first = job;
    } else {
        m->last->next = job;
    }
    m->last = job;
    (void)pthread_cond_broadcast(&m->told);
    pthread_mutex_unlock(&m->mu);
}

static void await(struct mirror *m, const struct job *job)
{
    pthread_mutex_lock(&m->mu);
    while (!job->done) {
        (void)pthread_cond_wait(&m->told, &m->mu);
    }
    pthread_mutex_unlock(&m->mu);
}

static bool second_first(struct mirror *m)
{
    return m->options.second_first != NULL && m->options.second_first(m->options.context);
}

static enum mr_status do_both(struct mirror *m, const struct pair *pair, const struct job *job,
                              const char *what)
{
    struct job jobs[2] = {*job, *job};
    bool tried[2];
    enum mr_status results[2] = {MR_OK, MR_OK};
    for (unsigned i = 0; i < 2; i++) {
        jobs[i].file = pair->files[i];
        tried[i] = pair->files[i] >= 0 && !is_out(m, i);
    }
    bool beside = m->has_thread && pair->beside && tried[0] && tried[1];
    if (beside) {
        submit(m, &jobs[1]);
    }
    unsigned begin = !beside && second_first(m) ? 1 : 0;
    for (unsigned k = 0; k < 2; k++) {
        unsigned i = k ^ begin;
        if (tried[i] && !(beside && i == 1)) {
            results[i] = perform(m->options.copies[i], &jobs[i]);
        }
    }
    if (beside) {
        await(m, &jobs[1]);
        results[1] = jobs[1].result;
    }
    return settle(m, tried, results, what, (pair->flags & MR_IO_CREATE) != 0);
}

/* --- operations ------------------------------------------------------------------------------- */

static void close_pair(struct mirror *m, struct pair *pair)
{
    for (unsigned i = 0; i < 2; i++) {
        if (pair->files[i] >= 0) {
            m->options.copies[i]->ops->close(m->options.copies[i], pair->files[i]);
            pair->files[i] = -1;
        }
    }
}

/* What is only read is opened where it is read from; elsewhere when that does not give it. */
static enum mr_status open_to_read(struct mirror *m, struct pair *pair)
{
    unsigned lead = lead_of(m);
    enum mr_status r = MR_E_NOT_FOUND;
    for (unsigned k = 0; k < 2 && r != MR_OK; k++) {
        unsigned i = lead ^ k;
        struct mr_io *io = m->options.copies[i];
        enum mr_status opened =
            is_out(m, i) ? r : io->ops->open(io, pair->name, pair->flags, &pair->files[i]);
        r = k == 0 || opened == MR_OK ? opened : r;
    }
    return r;
}

static enum mr_status open_to_write(struct mirror *m, struct pair *pair)
{
    bool tried[2];
    enum mr_status results[2] = {MR_OK, MR_OK};
    unsigned begin = second_first(m) ? 1 : 0;
    for (unsigned k = 0; k < 2; k++) {
        unsigned i = k ^ begin;
        struct mr_io *io = m->options.copies[i];
        tried[i] = !is_out(m, i);
        if (tried[i]) {
            results[i] = io->ops->open(io, pair->name, pair->flags, &pair->files[i]);
            pair->files[i] = results[i] == MR_OK ? pair->files[i] : -1;
        }
    }
    enum mr_status r = settle(m, tried, results, "open", (pair->flags & MR_IO_CREATE) != 0);
    if (r != MR_OK) {
        close_pair(m, pair);
    }
    return r;
}

static enum mr_status mirror_open(struct mr_io *io, const char *name, unsigned flags,
                                  int *ret_file)
{
    struct mirror *m = mirror_of(io);
    struct pair pair = {.used = true, .flags = flags, .files = {-1, -1}};
    if (strlen(name) >= sizeof(pair.name)) {
        return MR_E_INVALID;
    }
    memcpy(pair.name, name, strlen(name) + 1);
    bool writes = (flags & MR_IO_WRITE) != 0;
    pair.beside = writes && (flags & MR_IO_CREATE) == 0;
    pthread_mutex_lock(&m->mu);
    unsigned at = 0;
    while (at < FILES_MAX && m->files[at].used) {
        at++;
    }
    if (at < FILES_MAX) {
        m->files[at] = pair; /* the place is taken */
    }
    pthread_mutex_unlock(&m->mu);
    if (at == FILES_MAX) {
        return MR_E_UNAVAILABLE;
    }
    enum mr_status r = writes ? open_to_write(m, &pair) : open_to_read(m, &pair);
    pair.used = r == MR_OK;
    pthread_mutex_lock(&m->mu);
    m->files[at] = pair;
    pthread_mutex_unlock(&m->mu);
    if (r == MR_OK) {
        *ret_file = (int)at;
    }
    return r;
}

/* Its caller has it to itself. */
static struct pair *pair_of(struct mirror *m, int file)
{
    MR_ASSERT(file >= 0 && (unsigned)file < FILES_MAX);
    MR_ASSERT(m->files[file].used);
    return &m->files[file];
}

static void mirror_close(struct mr_io *io, int file)
{
    struct mirror *m = mirror_of(io);
    struct pair *pair = pair_of(m, file);
    close_pair(m, pair);
    pthread_mutex_lock(&m->mu);
    pair->used = false;
    pthread_mutex_unlock(&m->mu);
}

/* A read that fails on one copy is made on the other: what it gave is verified by whoever asked. */
static enum mr_status mirror_pread(struct mr_io *io, int file, void *to, size_t size, uint64_t at,
                                   size_t *ret_size)
{
    struct mirror *m = mirror_of(io);
    struct pair *pair = pair_of(m, file);
    unsigned lead = lead_of(m);
    enum mr_status r = MR_E_IO;
    for (unsigned k = 0; k < 2 && r != MR_OK; k++) {
        unsigned i = lead ^ k;
        struct mr_io *copy = m->options.copies[i];
        if (is_out(m, i)) {
            continue;
        }
        enum mr_status got = MR_OK;
        if (pair->files[i] < 0) {
            unsigned flags = pair->flags & ~(unsigned)(MR_IO_WRITE | MR_IO_CREATE | MR_IO_DURABLE);
            got = (pair->flags & MR_IO_WRITE) != 0
                      ? MR_E_IO
                      : copy->ops->open(copy, pair->name, flags, &pair->files[i]);
        }
        if (got == MR_OK) {
            got = copy->ops->pread(copy, pair->files[i], to, size, at, ret_size);
        } else {
            pair->files[i] = -1;
        }
        r = k == 0 || got == MR_OK ? got : r;
    }
    return r;
}

/* A read that goes on, on the copy that led when it was begun. */
struct mr_io_read_mirrored {
    struct mr_io *copy;
    struct mr_io_read *read;
    int file;
    void *to;
    size_t size;
    uint64_t at;
};

static enum mr_status mirror_read_begin(struct mr_io *io, int file, void *to, size_t size,
                                        uint64_t at, struct mr_io_read **ret_read)
{
    struct mirror *m = mirror_of(io);
    const struct pair *pair = pair_of(m, file);
    unsigned i = lead_of(m);
    struct mr_io *copy = m->options.copies[i];
    if (copy->ops->read_begin == NULL || pair->files[i] < 0) {
        return MR_E_UNAVAILABLE;
    }
    struct mr_io_read_mirrored *read = mr_alloc(sizeof(*read));
    if (read == NULL) {
        return MR_E_NOMEM;
    }
    *read = (struct mr_io_read_mirrored){
        .copy = copy, .file = file, .to = to, .size = size, .at = at};
    enum mr_status r =
        copy->ops->read_begin(copy, pair->files[i], to, size, at, &read->read);
    if (r != MR_OK) {
        mr_free(read);
        return r;
    }
    *ret_read = (struct mr_io_read *)read;
    return MR_OK;
}

static enum mr_status mirror_read_end(struct mr_io *io, struct mr_io_read *begun,
                                      size_t *ret_size)
{
    struct mr_io_read_mirrored *read = (struct mr_io_read_mirrored *)begun;
    enum mr_status r = read->copy->ops->read_end(read->copy, read->read, ret_size);
    if (r != MR_OK) {
        r = mirror_pread(io, read->file, read->to, read->size, read->at, ret_size);
    }
    mr_free(read);
    return r;
}

static enum mr_status mirror_pwrite(struct mr_io *io, int file, const void *from, size_t size,
                                    uint64_t at)
{
    struct mirror *m = mirror_of(io);
    struct job job = {.kind = JOB_WRITE, .from = from, .size = size, .at = at};
    return do_both(m, pair_of(m, file), &job, "write");
}

static enum mr_status mirror_sync(struct mr_io *io, int file)
{
    struct mirror *m = mirror_of(io);
    struct job job = {.kind = JOB_SYNC};
    return do_both(m, pair_of(m, file), &job, "sync");
}

/* What both have: a crash may have left the one copy of a file longer than the other. */
static enum mr_status mirror_size(struct mr_io *io, int file, uint64_t *ret_size)
{
    struct mirror *m = mirror_of(io);
    const struct pair *pair = pair_of(m, file);
    uint64_t least = UINT64_MAX;
    enum mr_status r = MR_E_IO;
    for (unsigned i = 0; i < 2; i++) {
        struct mr_io *copy = m->options.copies[i];
        uint64_t size;
        if (pair->files[i] >= 0 && !is_out(m, i) &&
            copy->ops->size(copy, pair->files[i], &size) == MR_OK && size < least) {
            least = *ret_size = size;
            r = MR_OK;
        }
    }
    return r;
}

/* The rest is not waited for by anybody in a hurry: one copy after the other. */
struct call {
    const struct pair *pair;
    const char *name;
    const char *to;
    uint64_t size;
};

static enum mr_status call_both(struct mirror *m, const char *what, const struct call *call,
                                enum mr_status (*fn)(struct mr_io *copy, unsigned i,
                                                     const struct call *call))
{
    bool tried[2] = {!is_out(m, 0), !is_out(m, 1)};
    enum mr_status results[2] = {MR_OK, MR_OK};
    unsigned begin = second_first(m) ? 1 : 0;
    for (unsigned k = 0; k < 2; k++) {
        unsigned i = k ^ begin;
        results[i] = tried[i] ? fn(m->options.copies[i], i, call) : MR_OK;
    }
    return settle(m, tried, results, what, false);
}

static enum mr_status truncate_one(struct mr_io *copy, unsigned i, const struct call *call)
{
    int file = call->pair->files[i];
    return file < 0 ? MR_E_IO : copy->ops->truncate(copy, file, call->size);
}

static enum mr_status mirror_truncate(struct mr_io *io, int file, uint64_t size)
{
    struct mirror *m = mirror_of(io);
    struct call call = {.pair = pair_of(m, file), .size = size};
    return call_both(m, "truncate", &call, truncate_one);
}

static enum mr_status rename_one(struct mr_io *copy, unsigned i, const struct call *call)
{
    (void)i;
    return copy->ops->rename(copy, call->name, call->to);
}

static enum mr_status mirror_rename(struct mr_io *io, const char *from, const char *to)
{
    struct call call = {.name = from, .to = to};
    return call_both(mirror_of(io), "rename", &call, rename_one);
}

/* Gone is gone: whoever has it not is no worse than the other. */
static enum mr_status unlink_one(struct mr_io *copy, unsigned i, const struct call *call)
{
    (void)i;
    enum mr_status r = copy->ops->unlink(copy, call->name);
    return r == MR_E_NOT_FOUND ? MR_OK : r;
}

static enum mr_status mirror_unlink(struct mr_io *io, const char *name)
{
    struct call call = {.name = name};
    return call_both(mirror_of(io), "unlink", &call, unlink_one);
}

static enum mr_status sync_dir_one(struct mr_io *copy, unsigned i, const struct call *call)
{
    (void)i;
    (void)call;
    return copy->ops->sync_dir(copy);
}

static enum mr_status mirror_sync_dir(struct mr_io *io)
{
    struct call call = {0};
    return call_both(mirror_of(io), "sync of the directory", &call, sync_dir_one);
}

static enum mr_status mirror_list(struct mr_io *io, void (*fn)(void *, const char *),
                                  void *context)
{
    struct mirror *m = mirror_of(io);
    struct mr_io *copy = m->options.copies[lead_of(m)];
    return copy->ops->list(copy, fn, context);
}

/* Room is where both have it. */
static enum mr_status mirror_space(struct mr_io *io, uint64_t *ret_free, uint64_t *ret_total)
{
    struct mirror *m = mirror_of(io);
    uint64_t free_least = UINT64_MAX;
    enum mr_status r = MR_E_IO;
    for (unsigned i = 0; i < 2; i++) {
        struct mr_io *copy = m->options.copies[i];
        uint64_t free_size;
        uint64_t total;
        if (!is_out(m, i) && copy->ops->space(copy, &free_size, &total) == MR_OK &&
            free_size < free_least) {
            free_least = *ret_free = free_size;
            *ret_total = total;
            r = MR_OK;
        }
    }
    return r;
}

void mr_io_mirror_dissolve(struct mr_io *io)
{
    struct mirror *m = mirror_of(io);
    if (m->has_thread) {
        pthread_mutex_lock(&m->mu);
        m->stopping = true;
        (void)pthread_cond_broadcast(&m->told);
        pthread_mutex_unlock(&m->mu);
        (void)pthread_join(m->thread, NULL); /* it was created by us */
    }
    (void)pthread_cond_destroy(&m->told);
    (void)pthread_mutex_destroy(&m->mu);
    mr_free(m);
}

static void mirror_destroy(struct mr_io *io)
{
    struct mr_io *copies[2] = {mirror_of(io)->options.copies[0], mirror_of(io)->options.copies[1]};
    mr_io_mirror_dissolve(io);
    for (unsigned i = 0; i < 2; i++) {
        if (copies[i] != NULL) {
            copies[i]->ops->destroy(copies[i]);
        }
    }
}

void mr_io_mirror_set_note(struct mr_io *io, const struct mr_mirror_note *note)
{
    struct mirror *m = mirror_of(io);
    pthread_mutex_lock(&m->mu);
    m->note = *note;
    pthread_mutex_unlock(&m->mu);
}

/* --- one copy by itself ----------------------------------------------------------------------- */

static enum mr_status mirror_read_copy(struct mr_io *io, unsigned copy, const char *name,
                                       unsigned flags, void *to, size_t size, uint64_t at,
                                       size_t *ret_size)
{
    struct mirror *m = mirror_of(io);
    unsigned i = lead_of(m) ^ copy;
    if (is_out(m, i)) {
        return MR_E_NOT_FOUND;
    }
    if (name == NULL) {
        return MR_OK; /* asked whether there is one */
    }
    return mr_io_read_copy(m->options.copies[i], 0, name, flags, to, size, at, ret_size);
}

static enum mr_status mirror_write_copy(struct mr_io *io, unsigned copy, const char *name,
                                        const void *from, size_t size, uint64_t at)
{
    struct mirror *m = mirror_of(io);
    unsigned i = lead_of(m) ^ copy;
    struct mr_io *to = m->options.copies[i];
    int file;
    if (is_out(m, i)) {
        return MR_E_NOT_FOUND;
    }
    enum mr_status r =
        to->ops->open(to, name, MR_IO_WRITE | MR_IO_CREATE | MR_IO_DIRECT, &file);
    if (r == MR_OK) {
        r = to->ops->pwrite(to, file, from, size, at);
        r = r == MR_OK ? to->ops->sync(to, file) : r;
        to->ops->close(to, file);
    }
    return r;
}

static void mirror_repaired(struct mr_io *io, unsigned copy, const char *name, uint64_t at,
                            uint64_t size)
{
    struct mirror *m = mirror_of(io);
    unsigned i = lead_of(m) ^ copy;
    (void)atomic_fetch_add_explicit(&m->repaired, 1, memory_order_relaxed);
    tell(m, "repaired %s/%s at byte %" PRIu64 ": %" PRIu64 " bytes from the copy in %s",
         m->names[i], name, at, size, m->names[1 - i]);
}

static const struct mr_io_ops mirror_ops = {
    .open = mirror_open,
    .close = mirror_close,
    .pread = mirror_pread,
    .pwrite = mirror_pwrite,
    .read_begin = mirror_read_begin,
    .read_end = mirror_read_end,
    .sync = mirror_sync,
    .size = mirror_size,
    .truncate = mirror_truncate,
    .rename = mirror_rename,
    .unlink = mirror_unlink,
    .sync_dir = mirror_sync_dir,
    .list = mirror_list,
    .space = mirror_space,
    .destroy = mirror_destroy,
    .read_copy = mirror_read_copy,
    .write_copy = mirror_write_copy,
    .repaired = mirror_repaired,
};

enum mr_status mr_io_mirror_create(const struct mr_mirror_options *options, struct mr_io **ret_io)
{
    MR_ASSERT(options->tell != NULL);
    struct mirror *m = mr_calloc(1, sizeof(*m));
    if (m == NULL) {
        return MR_E_NOMEM;
    }
    m->io.ops = &mirror_ops;
    m->options = *options;
    m->note = options->note;
    atomic_store(&m->out[1], options->alone);
    for (unsigned i = 0; i < 2; i++) {
        (void)snprintf(m->names[i], sizeof(m->names[i]), "%s", options->names[i]); /* cut */
        m->options.names[i] = m->names[i];
    }
    if (options->like != NULL) {
        const struct mirror *like = (const struct mirror *)options->like;
        memcpy(m->files, like->files, sizeof(m->files));
        m->note = like->note;
        atomic_store(&m->out[0], atomic_load(&like->out[0]));
        atomic_store(&m->out[1], atomic_load(&like->out[1]));
    }
    (void)pthread_mutex_init(&m->mu, NULL); /* default attributes cannot fail */
    (void)pthread_cond_init(&m->told, NULL);
    if (options->second_first == NULL) {
        if (pthread_create(&m->thread, NULL, second_thread, m) != 0) {
            (void)pthread_cond_destroy(&m->told);
            (void)pthread_mutex_destroy(&m->mu);
            mr_free(m);
            return MR_E_UNAVAILABLE;
        }
        m->has_thread = true;
    }
    *ret_io = &m->io;
    return MR_OK;
}

struct mr_io *mr_io_mirror_leads(struct mr_io *io)
{
    return mirror_of(io)->options.copies[lead_of(mirror_of(io))];
}

void mr_io_mirror_status(struct mr_io *io, struct mr_mirror_status *ret_status)
{
    struct mirror *m = mirror_of(io);
    *ret_status = (struct mr_mirror_status){
        .mirrored = true,
        .alone = is_out(m, 0) || is_out(m, 1),
        .repaired = atomic_load_explicit(&m->repaired, memory_order_relaxed),
    };
    if (ret_status->alone) {
        memcpy(ret_status->failed, m->names[is_out(m, 0) ? 0 : 1], sizeof(ret_status->failed));
    }
}
