#include "connectors/objectstore/pass.h"

#include <inttypes.h>
#include <stdio.h>

#include "connectors/objectstore/sign.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "schemas/json_scan.h"

#define NAME_SIZE (MR_NAME_SIZE_MAX + 40u)
#define CURSOR_SIZE_MAX (8u * MR_KIB)

static void file_name(const struct mr_pass *pass, uint64_t number, char name[NAME_SIZE])
{
    (void)snprintf(name, NAME_SIZE, "%s.%" PRIu64 ".seen", pass->name, number);
}

static enum mr_status fail(const struct mr_pass *pass, enum mr_status r, const char *what,
                           struct mr_problem *problem)
{
    return mr_problem_set(problem, r, "cannot %s the memory of what was listed (%s.*.seen): %s%s",
                          what, pass->name, mr_status_text(r),
                          r == MR_E_CORRUPT ? "; remove the file to list everything anew" : "");
}

/* The number in NAME.NUMBER.seen. @return false: another file */
static bool read_name(const struct mr_pass *pass, const char *name, uint64_t *ret_number)
{
    size_t prefix = strlen(pass->name);
    size_t size = strlen(name);
    if (size < prefix + 7 || strncmp(name, pass->name, prefix) != 0 || name[prefix] != '.' ||
        strcmp(name + size - 5, ".seen") != 0) {
        return false;
    }
    return mr_parse_u64(mr_bytes(name + prefix + 1, size - prefix - 6), ret_number);
}

static void look_at_file(void *context, const char *name)
{
    struct mr_pass *pass = context;
    struct mr_seen_head head;
    uint64_t number;
    if (!read_name(pass, name, &number)) {
        return;
    }
    pass->top = number > pass->top ? number : pass->top;
    if (mr__seen_probe(pass->io, name, &head) == MR_OK && head.is_whole && head.of == pass->of &&
        head.pass == number && number > pass->last) {
        pass->last = number;
        pass->last_count = head.count;
    }
}

enum mr_status mr__pass_init(struct mr_pass *pass, const char *folder, const char *name,
                             uint64_t of, struct mr_problem *problem)
{
    *pass = (struct mr_pass){.of = of};
    (void)snprintf(pass->name, sizeof(pass->name), "%.64s", name);
    mr_buf_init(&pass->after, MR_OBJECT_KEY_SIZE_MAX);
    mr__seen_reader_init(&pass->reader);
    mr__seen_writer_init(&pass->writer);
    mr__object_init(&pass->old);
    enum mr_status r = mr_io_create(folder, true, false, &pass->io);
    if (r == MR_OK) {
        r = pass->io->ops->list(pass->io, look_at_file, pass);
    }
    if (r != MR_OK) {
        mr__pass_release(pass);
        return mr_problem_set(problem, r, "cannot use the folder %s: %s", folder,
                              mr_status_text(r));
    }
    return MR_OK;
}

void mr__pass_release(struct mr_pass *pass)
{
    mr__seen_reader_release(&pass->reader);
    mr__seen_writer_release(&pass->writer);
    mr__object_release(&pass->old);
    mr_buf_release(&pass->after);
    if (pass->io != NULL) {
        pass->io->ops->destroy(pass->io);
        pass->io = NULL;
    }
}

void mr__pass_leave(struct mr_pass *pass)
{
    mr__seen_reader_release(&pass->reader);
    mr__seen_writer_release(&pass->writer);
    pass->is_open = false;
    pass->has_old = false;
}

/* --- the cursor ------------------------------------------------------------------------------- */

struct place {
    uint64_t pass;
    uint64_t base; /* the whole pass it is compared with */
    uint64_t of;
    uint64_t count;
    uint64_t written;
    uint64_t old;
    struct mr_bytes after; /* percent-encoded; borrowed */
};

static bool read_number(struct mr_bytes object, const char *name, uint64_t *ret)
{
    struct mr_bytes text;
    return mr__json_find(object, name, &text) && mr_parse_u64(text, ret);
}

static bool read_place(const char *cursor, struct place *ret)
{
    struct mr_bytes text = mr_bytes_of(cursor);
    struct mr_bytes after;
    if (!read_number(text, "pass", &ret->pass) || !read_number(text, "base", &ret->base) ||
        !read_number(text, "of", &ret->of) || !read_number(text, "count", &ret->count) ||
        !read_number(text, "written", &ret->written) || !read_number(text, "old", &ret->old) ||
        !mr__json_find(text, "after", &after) || after.size < 2 || after.data[0] != '"') {
        return false;
    }
    ret->after = mr_bytes(after.data + 1, after.size - 2);
    return true;
}

enum mr_status mr__pass_place(struct mr_pass *pass, char **ret_cursor, struct mr_problem *problem)
{
    struct mr_buf text;
    MR_ASSERT(pass->is_open);
    enum mr_status r = mr__seen_writer_sync(&pass->writer);
    if (r != MR_OK) {
        return fail(pass, r, "write", problem);
    }
    mr_buf_init(&text, CURSOR_SIZE_MAX);
    r = mr_buf_printf(&text,
                      "{\"pass\":%" PRIu64 ",\"base\":%" PRIu64 ",\"of\":%" PRIu64
                      ",\"count\":%" PRIu64 ",\"written\":%" PRIu64 ",\"old\":%" PRIu64
                      ",\"after\":\"",
                      pass->number, pass->last, pass->of, pass->count, pass->writer.at,
                      pass->old_at);
    r = r == MR_OK ? mr__uri_encode(&text, mr_buf_bytes(&pass->after), true) : r;
    r = r == MR_OK ? mr_buf_append_text(&text, "\"}") : r;
    *ret_cursor = r == MR_OK ? mr_buf_take_text(&text) : NULL;
    mr_buf_release(&text);
    return *ret_cursor != NULL ? MR_OK : mr_problem_set(problem, MR_E_NOMEM, "out of memory");
}

/* --- beginning -------------------------------------------------------------------------------- */

static enum mr_status next_old(struct mr_pass *pass)
{
    pass->old_at = pass->reader.at;
    enum mr_status r = mr__seen_reader_next(&pass->reader, &pass->old);
    pass->has_old = r == MR_OK;
    return r == MR_E_NOT_FOUND ? MR_OK : r;
}

static enum mr_status open_files(struct mr_pass *pass, uint64_t old_at, uint64_t written)
{
    char name[NAME_SIZE];
    enum mr_status r = MR_OK;
    if (pass->last > 0) {
        file_name(pass, pass->last, name);
        r = mr__seen_reader_open(&pass->reader, pass->io, name, old_at);
        r = r == MR_OK ? next_old(pass) : r;
    }
    file_name(pass, pass->number, name);
    return r == MR_OK ? mr__seen_writer_open(&pass->writer, pass->io, name, written, pass->number,
                                             pass->of)
                      : r;
}

/* @return MR_E_NOT_FOUND: the cursor speaks of something that is no more */
static enum mr_status take_up(struct mr_pass *pass, const char *cursor)
{
    struct place place;
    struct mr_seen_head head;
    char name[NAME_SIZE];
    if (cursor == NULL || !read_place(cursor, &place) || place.of != pass->of ||
        place.base != pass->last || place.pass <= pass->last ||
        place.written < MR_SEEN_HEADER_SIZE || place.old < MR_SEEN_HEADER_SIZE) {
        return MR_E_NOT_FOUND;
    }
    file_name(pass, place.pass, name);
    if (mr__seen_probe(pass->io, name, &head) != MR_OK || head.of != pass->of ||
        head.pass != place.pass || mr__uri_decode(&pass->after, place.after) != MR_OK) {
        return MR_E_NOT_FOUND;
    }
    pass->number = place.pass;
    pass->count = place.count;
    pass->has_changes = true; /* a cursor came with events */
    return open_files(pass, place.old, place.written);
}

enum mr_status mr__pass_begin(struct mr_pass *pass, const char *cursor,
                              struct mr_problem *problem)
{
    MR_ASSERT(!pass->is_open);
    mr_buf_clear(&pass->after);
    pass->has_old = false;
    pass->old_at = MR_SEEN_HEADER_SIZE;
    enum mr_status r = take_up(pass, cursor);
    if (r == MR_E_NOT_FOUND) {
        mr__pass_leave(pass);
        mr_buf_clear(&pass->after);
        pass->number = (pass->top > pass->last ? pass->top : pass->last) + 1;
        pass->count = 0;
        pass->has_changes = pass->last == 0; /* the first memory is kept even of nothing */
        pass->old_at = MR_SEEN_HEADER_SIZE;
        r = open_files(pass, MR_SEEN_HEADER_SIZE, 0);
    }
    if (r != MR_OK) {
        mr__pass_leave(pass);
        return fail(pass, r, "open", problem);
    }
    pass->top = pass->number > pass->top ? pass->number : pass->top;
    pass->is_open = true;
    return MR_OK;
}

/* --- comparing -------------------------------------------------------------------------------- */

static bool is_same(const struct mr_object *a, const struct mr_object *b)
{
    return a->size == b->size && a->modified_ns == b->modified_ns &&
           mr_bytes_equal(mr_buf_bytes(&a->etag), mr_buf_bytes(&b->etag));
}

static enum mr_status take_object(struct mr_pass *pass, const struct mr_object *object)
{
    mr_buf_clear(&pass->after);
    enum mr_status r = mr_buf_append_bytes(&pass->after, mr_buf_bytes(&object->key));
    r = r == MR_OK ? mr__seen_writer_add(&pass->writer, object) : r;
    pass->count += r == MR_OK;
    return r;
}

enum mr_status mr__pass_step(struct mr_pass *pass, const struct mr_object *object,
                             struct mr_object *gone, enum mr_change *ret_change, bool *ret_taken,
                             struct mr_problem *problem)
{
    MR_ASSERT(pass->is_open);
    struct mr_bytes after = mr_buf_bytes(&pass->after);
    int order = 1; /* of the remembered object against the listed one */
    if (object != NULL && after.size > 0 &&
        mr_bytes_compare(mr_buf_bytes(&object->key), after) <= 0) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "the listing is not sorted by key: this store cannot be listed");
    }
    if (pass->has_old) {
        order = object == NULL ? -1
                               : mr_bytes_compare(mr_buf_bytes(&pass->old.key),
                                                  mr_buf_bytes(&object->key));
    }
    enum mr_change change = MR_CHANGE_NONE;
    enum mr_status r = MR_OK;
    bool taken = false;
    if (order < 0) {
        change = MR_CHANGE_REMOVED;
        r = mr__object_copy(gone, &pass->old);
    } else if (object != NULL) {
        change = order > 0                      ? MR_CHANGE_CREATED
                 : is_same(&pass->old, object) ? MR_CHANGE_NONE
                                               : MR_CHANGE_CHANGED;
        taken = true;
        r = take_object(pass, object);
    }
    if (r == MR_OK && order <= 0) {
        r = next_old(pass);
    }
    if (r != MR_OK) {
        return fail(pass, r, "use", problem);
    }
    pass->has_changes = pass->has_changes || change != MR_CHANGE_NONE;
    *ret_change = change;
    *ret_taken = taken;
    return MR_OK;
}

/* --- ending ----------------------------------------------------------------------------------- */

/* Removes every file but that of the last whole pass. */
static void remove_others(void *context, const char *name)
{
    struct mr_pass *pass = context;
    uint64_t number;
    if (read_name(pass, name, &number) && number != pass->last) {
        (void)pass->io->ops->unlink(pass->io, name); /* tried again after the next pass */
    }
}

enum mr_status mr__pass_end(struct mr_pass *pass, struct mr_problem *problem)
{
    MR_ASSERT(pass->is_open && !pass->has_old);
    if (pass->has_changes) {
        enum mr_status r = mr__seen_writer_finish(&pass->writer, pass->count);
        if (r != MR_OK) {
            return fail(pass, r, "write", problem);
        }
        pass->last = pass->number;
        pass->last_count = pass->count;
    }
    mr__pass_leave(pass);
    (void)pass->io->ops->list(pass->io, remove_others, pass); /* as above */
    return MR_OK;
}
