#include "bus/mirror.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "bus/checkpoint.h"
#include "bus/internal.h"
#include "bus/planted.h"
#include "core/alloc.h"
#include "core/attrs.h"

#define PIECE (1u * MR_MIB)
#define NAMES_MAX (1u << 20) /* more files than any log has */

struct side {
    struct mr_io *io;
    const char *name;
    struct mr_mirror_note note; /* pair 0: none */
    struct mr_log_index index;
    bool has_log;
    uint64_t log_id;
    uint64_t newest;  /* sequence of its newest group, 0: none */
    uint64_t durable; /* what that knew durable */
    uint64_t newest_segment;
};

struct names {
    char (*items)[MR_LOG_NAME_SIZE]; /* owned, sorted */
    uint32_t count;
    uint32_t capacity;
    enum mr_status status;
};

struct making {
    const struct mr_log_mirror_options *options;
    struct side sides[2]; /* 0: the one that leads */
    struct mr_io *io;     /* the pair */
    bool stale;           /* sides[1] is to become what sides[0] is; */
    bool inferred;        /* no note says so, only what it lacks */
    uint64_t floor;       /* segments below are equal in both, but for rot */
    uint64_t written;     /* bytes, to make them equal */
};

static void tell(const struct making *m, const char *format, ...) MR_PRINTF(2, 3);

static void tell(const struct making *m, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args); /* cut at worst */
    va_end(args);
    m->options->tell(m->options->context, text);
}

/* --- what there is ---------------------------------------------------------------------------- */

static void take_name(void *context, const char *name)
{
    struct names *names = context;
    if (names->status != MR_OK || strlen(name) >= MR_LOG_NAME_SIZE ||
        strcmp(name, "lock") == 0 || strcmp(name, MR_MIRROR_NOTE) == 0) {
        return;
    }
    if (names->count == names->capacity) {
        uint32_t capacity = names->capacity == 0 ? 64 : names->capacity * 2;
        void *grown = capacity > NAMES_MAX
                          ? NULL
                          : mr_realloc(names->items, capacity * sizeof(*names->items));
        if (grown == NULL) {
            names->status = MR_E_NOMEM;
            return;
        }
        names->items = grown;
        names->capacity = capacity;
    }
    memcpy(names->items[names->count++], name, strlen(name) + 1);
}

static enum mr_status list_names(struct mr_io *io, struct names *names)
{
    *names = (struct names){0};
    enum mr_status r = io->ops->list(io, take_name, names);
    return r == MR_OK ? names->status : r;
}

static bool has_name(const struct names *names, const char *name)
{
    for (uint32_t i = 0; i < names->count; i++) {
        if (strcmp(names->items[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static bool group_at(struct mr_io *io, const struct mr_log_segment *segment, uint64_t at,
                        struct mr_group_header *ret_header)
{
    char name[MR_LOG_NAME_SIZE];
    uint8_t head[MR_GROUP_HEADER_SIZE];
    size_t size = 0;
    mr_log_file_name(segment->of, segment->number, name);
    return segment->usable &&
           mr_io_read_copy(io, 0, name, MR_IO_READ_ONLY, head, sizeof(head), at, &size) == MR_OK &&
           size == sizeof(head) &&
           mr_group_header_decode(head, segment->header.salt, ret_header) == MR_OK;
}

/* The newest group of a copy, by the headers in the last segment that has any. */
static void find_newest(struct side *side)
{
    for (uint32_t i = side->index.segment_count; i > 0 && side->newest == 0; i--) {
        const struct mr_log_segment *segment = &side->index.segments[i - 1];
        struct mr_group_header header;
        uint64_t at = MR_LOG_BLOCK;
        while (at < segment->file_size) {
            bool good = group_at(side->io, segment, at, &header);
            if (!good && side->newest == 0 && at > 16 * MR_LOG_BLOCK) {
                break; /* an empty one */
            }
            if (good && header.sequence > side->newest) {
                side->newest = header.sequence;
                side->durable = header.durable;
                side->newest_segment = segment->number;
            } else if (!good && at >= MR_LOG_BLOCK && side->newest != 0) {
                struct mr_group_header next; /* one damaged block, or the end */
                if (!group_at(side->io, segment, at + MR_LOG_BLOCK, &next)) {
                    break;
                }
            }
            at += good ? header.padded : MR_LOG_BLOCK;
        }
    }
}

static enum mr_status look_at(struct side *side, struct mr_problem *problem)
{
    enum mr_status r = mr_mirror_note_read(side->io, &side->note);
    if (r != MR_OK && r != MR_E_NOT_FOUND && r != MR_E_CORRUPT) {
        return r;
    }
    r = mr_log_index(side->io, &side->index, problem);
    if (r != MR_OK) {
        return r;
    }
    for (uint32_t i = 0; i < side->index.segment_count; i++) {
        const struct mr_log_segment *segment = &side->index.segments[i];
        side->has_log = side->has_log || segment->usable;
        side->log_id = segment->usable ? segment->header.log_id : side->log_id;
    }
    find_newest(side);
    return MR_OK;
}

/* --- which is right --------------------------------------------------------------------------- */

static void swap_sides(struct making *m)
{
    struct side first = m->sides[0];
    m->sides[0] = m->sides[1];
    m->sides[1] = first;
}

static enum mr_status refuse(const struct making *m, struct mr_problem *problem, const char *why)
{
    return mr_problem_set(problem, MR_E_INVALID,
                          "the log in %s and its mirror in %s %s; move one of them away, and the "
                          "other is copied into its place",
                          m->options->names[0], m->options->names[1], why);
}

/* Notes decide; where they are equal, or one is missing, what the logs hold does. */
static enum mr_status decide(struct making *m, struct mr_problem *problem)
{
    struct side *a = &m->sides[0];
    struct side *b = &m->sides[1];
    bool noted = a->note.pair != 0 && b->note.pair != 0;
    if (noted && a->note.pair == b->note.pair && a->log_id != b->log_id) {
        /* The first start of the pair was cut off before its log got a group. */
        a->has_log = a->has_log && a->newest != 0;
        b->has_log = b->has_log && b->newest != 0;
    }
    if (a->has_log && b->has_log &&
        (a->log_id != b->log_id || (noted && a->note.pair != b->note.pair))) {
        return refuse(m, problem, "are not of one log");
    }
    if (a->has_log != b->has_log) {
        m->stale = true;
        if (b->has_log && b->note.pair == 0) {
            return refuse(m, problem, "do not fit: the one is empty, the other no finished copy");
        }
        if (b->has_log) {
            swap_sides(m);
        }
        return MR_OK;
    }
    if (noted && a->note.generation != b->note.generation) {
        m->stale = true;
        if (b->note.generation > a->note.generation) {
            swap_sides(m);
        }
        m->stale = m->stale && !MR_PLANTED(MIRROR_STALE);
        return MR_OK;
    }
    if (noted && a->note.left != b->note.left) {
        m->stale = true;
        if (a->note.left) {
            swap_sides(m);
        }
        return MR_OK;
    }
    if (noted && a->note.token != b->note.token) {
        return refuse(m, problem, "each went on without the other");
    }
    /* Groups that one has and the other knows nothing of, though they were durable: it was left
     * behind by somebody who wrote no note, or lost a file. */
    m->stale = !noted || a->newest < b->durable || b->newest < a->durable;
    m->inferred = m->stale;
    if (m->stale && b->newest > a->newest) {
        swap_sides(m);
    }
    return MR_OK;
}

/* --- made equal ------------------------------------------------------------------------------- */

/* Segments from which on the two may differ after a crash: from the one that holds what was not
 * known durable when the newest one began. */
static uint64_t find_floor(const struct making *m)
{
    uint64_t floor = UINT64_MAX;
    for (unsigned k = 0; k < 2; k++) {
        const struct side *side = &m->sides[k];
        uint64_t durable = UINT64_MAX;
        for (uint32_t i = side->index.segment_count; i > 0; i--) {
            const struct mr_log_segment *segment = &side->index.segments[i - 1];
            struct mr_group_header header;
            if (!group_at(side->io, segment, MR_LOG_BLOCK, &header)) {
                continue;
            }
            floor = segment->number < floor ? segment->number : floor;
            durable = durable == UINT64_MAX ? header.durable : durable;
            if (header.sequence <= durable + 1) {
                break;
            }
        }
    }
    return floor;
}

static enum mr_status open_size(struct mr_io *io, const char *name, unsigned flags, int *ret_file,
                                uint64_t *ret_size)
{
    enum mr_status r = io->ops->open(io, name, flags, ret_file);
    if (r != MR_OK) {
        return r;
    }
    r = io->ops->size(io, *ret_file, ret_size);
    if (r != MR_OK) {
        io->ops->close(io, *ret_file);
    }
    return r;
}

/* Makes the file of one copy what it is in the other; what is equal already is not written. */
static enum mr_status copy_file(struct making *m, unsigned from, const char *name)
{
    struct mr_io *a = m->sides[from].io;
    struct mr_io *b = m->sides[1 - from].io;
    int in = -1;
    int out = -1;
    uint64_t size = 0;
    uint64_t had = 0;
    uint8_t *pieces[2] = {mr_alloc_aligned(MR_LOG_BLOCK, PIECE),
                          mr_alloc_aligned(MR_LOG_BLOCK, PIECE)};
    enum mr_status r = pieces[0] == NULL || pieces[1] == NULL ? MR_E_NOMEM : MR_OK;
    r = r == MR_OK ? open_size(a, name, MR_IO_READ_ONLY, &in, &size) : r;
    if (r == MR_OK) {
        r = open_size(b, name, MR_IO_WRITE | MR_IO_CREATE, &out, &had);
        if (r != MR_OK) {
            a->ops->close(a, in);
        }
    }
    if (r == MR_OK) {
        for (uint64_t at = 0; at < size && r == MR_OK; at += PIECE) {
            size_t got[2] = {0, 0};
            r = a->ops->pread(a, in, pieces[0], PIECE, at, &got[0]);
            bool same = r == MR_OK && at < had &&
                        b->ops->pread(b, out, pieces[1], PIECE, at, &got[1]) == MR_OK &&
                        got[0] == got[1] && memcmp(pieces[0], pieces[1], got[0]) == 0;
            if (r == MR_OK && !same) {
                r = b->ops->pwrite(b, out, pieces[0], got[0], at);
                m->written += got[0];
            }
        }
        r = r == MR_OK && had != size ? b->ops->truncate(b, out, size) : r;
        r = r == MR_OK ? b->ops->sync(b, out) : r;
        a->ops->close(a, in);
        b->ops->close(b, out);
    }
    mr_free(pieces[0]);
    mr_free(pieces[1]);
    return r == MR_OK ? b->ops->sync_dir(b) : r;
}

static enum mr_status file_size(struct mr_io *io, const char *name, uint64_t *ret_size)
{
    int file;
    enum mr_status r = open_size(io, name, MR_IO_READ_ONLY, &file, ret_size);
    if (r == MR_OK) {
        io->ops->close(io, file);
    }
    return r;
}

/* The shorter one gets zeros at its end. */
static enum mr_status make_sizes_equal(struct making *m, const char *name)
{
    uint64_t sizes[2] = {0, 0};
    enum mr_status r = file_size(m->sides[0].io, name, &sizes[0]);
    r = r == MR_OK ? file_size(m->sides[1].io, name, &sizes[1]) : r;
    if (r != MR_OK || sizes[0] == sizes[1]) {
        return r;
    }
    unsigned less = sizes[0] < sizes[1] && !m->stale ? 0 : 1; /* the stale one is cut, too */
    struct mr_io *io = m->sides[less].io;
    int file;
    r = io->ops->open(io, name, MR_IO_WRITE, &file);
    if (r == MR_OK) {
        r = io->ops->truncate(io, file, sizes[1 - less]);
        r = r == MR_OK ? io->ops->sync(io, file) : r;
        io->ops->close(io, file);
    }
    return r;
}

/* The segment or survivor file of that name; NULL: it is neither, or not there. */
static const struct mr_log_segment *find_segment(const struct side *side, const char *name)
{
    uint64_t number;
    bool survivors = mr_log_name_parse(name, "keep-", &number);
    if (!survivors && !mr_log_name_parse(name, "seg-", &number)) {
        return NULL;
    }
    const struct mr_log_index *index = &side->index;
    const struct mr_log_segment *segments = survivors ? index->keeps : index->segments;
    uint32_t count = survivors ? index->keep_count : index->segment_count;
    for (uint32_t i = 0; i < count; i++) {
        if (segments[i].number == number) {
            return &segments[i];
        }
    }
    return NULL;
}

/* A segment that both have, or a survivor file. In one of these only what nobody refers to can
 * differ but for rot: a group that a crash cut off in the one or in both. */
static enum mr_status equal_segment(struct making *m, const char *name)
{
    const struct mr_log_segment *a = find_segment(&m->sides[0], name);
    const struct mr_log_segment *b = find_segment(&m->sides[1], name);
    bool same = a->usable && b->usable && a->header.salt == b->header.salt;
    if (!a->usable && !b->usable) {
        return m->stale ? copy_file(m, 0, name) : MR_OK; /* one that was being made */
    }
    if (m->stale && !(a->usable && same)) {
        return a->usable || a->blank ? copy_file(m, 0, name) : copy_file(m, 1, name);
    }
    uint64_t number = a->number;
    bool survivors = a->of == MR_LOG_OF_SURVIVORS; /* they grow, each copy in its own time */
    bool is_due = m->stale || number >= m->floor || !same || a->file_size != b->file_size;
    if (!is_due) {
        return MR_OK; /* rot in it is found by whoever reads it */
    }
    bool quiet = same && (survivors || (number >= m->floor && a->file_size == b->file_size));
    struct mr_log_mend mend = {.of = a->of,
                               .number = number,
                               .salt = a->usable ? a->header.salt : b->header.salt,
                               .quiet = quiet || m->stale,
                               .stale = m->stale};
    enum mr_status r = mr_log_mend(m->io, &mend, 0);
    return r == MR_OK ? make_sizes_equal(m, name) : r;
}

static enum mr_status read_whole(struct mr_io *io, const char *name, uint8_t **ret_data,
                                 size_t *ret_size)
{
    int file;
    uint64_t size = 0;
    enum mr_status r = open_size(io, name, MR_IO_READ_ONLY, &file, &size);
    if (r != MR_OK) {
        return r;
    }
    uint8_t *data = mr_alloc((size_t)size + 1);
    r = data == NULL ? MR_E_NOMEM : io->ops->pread(io, file, data, (size_t)size, 0, ret_size);
    io->ops->close(io, file);
    if (r != MR_OK) {
        mr_free(data);
        return r;
    }
    *ret_data = data;
    return MR_OK;
}

/* How good a file is that is not a segment: the better one is copied over the other. 0: damaged,
 * or nobody can tell. @p data moves */
static uint64_t worth(const char *name, uint8_t *data, size_t size)
{
    struct mr__slot slot = {0};
    if (data == NULL || strncmp(name, "checkpoint-", 11) != 0) {
        mr_free(data);
        return 0;
    }
    enum mr_status r = mr__slot_parse(&slot, data, size);
    uint64_t value = r == MR_OK ? slot.head.generation * 2 + slot.whole : 0;
    mr__slot_release(&slot);
    return value;
}

static enum mr_status equal_file(struct making *m, const char *name)
{
    if (m->stale) {
        return copy_file(m, 0, name);
    }
    uint8_t *data[2] = {NULL, NULL};
    size_t sizes[2] = {0, 0};
    enum mr_status r = MR_OK;
    for (unsigned i = 0; i < 2 && r != MR_E_NOMEM; i++) {
        r = read_whole(m->sides[i].io, name, &data[i], &sizes[i]); /* unreadable: worth nothing */
    }
    bool same = r == MR_E_NOMEM || (data[0] != NULL && data[1] != NULL && sizes[0] == sizes[1] &&
                                    memcmp(data[0], data[1], sizes[0]) == 0);
    if (same) {
        mr_free(data[0]);
        mr_free(data[1]);
        return r;
    }
    if (strncmp(name, "foot-", 5) == 0 || strncmp(name, "ids-", 4) == 0) {
        /* Nobody can tell which is right: made anew. */
        mr_free(data[0]);
        mr_free(data[1]);
        r = m->sides[0].io->ops->unlink(m->sides[0].io, name);
        return r == MR_OK ? m->sides[1].io->ops->unlink(m->sides[1].io, name) : r;
    }
    uint64_t worths[2] = {worth(name, data[0], sizes[0]), worth(name, data[1], sizes[1])};
    if (worths[0] == worths[1]) {
        return MR_OK;
    }
    unsigned from = worths[1] > worths[0] ? 1 : 0;
    r = copy_file(m, from, name);
    if (r == MR_OK && worths[1 - from] / 2 == worths[from] / 2) { /* no crash left it so */
        tell(m, "repaired %s/%s from the copy in %s", m->sides[1 - from].name, name,
             m->sides[from].name);
    }
    return r;
}

/* What only one of them has: made or given up when the crash came, or lost. Spares are worth
 * nothing, footers are made anew; of anything else it does no harm to have it. */
static enum mr_status equal_single(struct making *m, unsigned has, const char *name)
{
    uint64_t number;
    bool go = (m->stale && has == 1) || mr_log_name_parse(name, "free-", &number) ||
              mr_log_name_parse(name, "foot-", &number) ||
              mr_log_name_parse(name, "ids-", &number);
    if (mr_log_name_parse(name, "seg-", &number) || mr_log_name_parse(name, "keep-", &number)) {
        const struct mr_log_segment *segment = find_segment(&m->sides[has], name);
        bool usable = segment != NULL && segment->usable;
        bool kept = usable && m->inferred && number < m->sides[0].newest_segment;
        go = (go && !kept) || segment == NULL || segment->blank;
    }
    struct mr_io *io = m->sides[has].io;
    if (go) {
        enum mr_status r = io->ops->unlink(io, name);
        return r == MR_OK ? io->ops->sync_dir(io) : r;
    }
    if ((!m->stale || has == 1) && strncmp(name, "seg-", 4) == 0) {
        tell(m, "%s was missing in %s: copied from %s", name, m->sides[1 - has].name,
             m->sides[has].name);
    }
    return copy_file(m, has, name);
}

static enum mr_status equal_names(struct making *m, const struct names *names)
{
    enum mr_status r = MR_OK;
    for (unsigned k = 0; k < 2; k++) {
        for (uint32_t i = 0; i < names[k].count && r == MR_OK; i++) {
            const char *name = names[k].items[i];
            uint64_t number;
            if (!has_name(&names[1 - k], name)) {
                r = equal_single(m, k, name);
            } else if (k == 1 || mr_log_name_parse(name, "free-", &number)) {
                continue; /* seen; what a spare holds is nothing */
            } else if (find_segment(&m->sides[0], name) != NULL) {
                r = equal_segment(m, name);
            } else {
                r = equal_file(m, name);
            }
        }
    }
    return r;
}

static enum mr_status make_equal(struct making *m)
{
    struct names names[2];
    m->floor = find_floor(m);
    if (m->stale && m->sides[1].has_log) {
        tell(m, "the copy of the log in %s was left behind: it is made equal to the one in %s",
             m->sides[1].name, m->sides[0].name);
    } else if (m->stale && m->sides[0].has_log) {
        tell(m, "the log in %s is copied to %s", m->sides[0].name, m->sides[1].name);
    }
    if (!m->stale && MR_PLANTED(MIRROR_UNEQUAL)) {
        return MR_OK;
    }
    enum mr_status r = list_names(m->sides[0].io, &names[0]);
    if (r == MR_OK) {
        r = list_names(m->sides[1].io, &names[1]);
        r = r == MR_OK ? equal_names(m, names) : r;
        mr_free(names[1].items);
    }
    mr_free(names[0].items);
    return r;
}

/* The stale one first: until both say that they are a pair, the one that leads is the newer. */
static enum mr_status note_pair(struct making *m, struct mr_mirror_note *ret_note)
{
    const struct mr_mirror_note *a = &m->sides[0].note;
    const struct mr_mirror_note *b = &m->sides[1].note;
    if (!m->stale && a->pair != 0 && a->token == b->token && !a->alone) {
        *ret_note = *a;
        return MR_OK;
    }
    uint64_t highest = a->generation > b->generation ? a->generation : b->generation;
    *ret_note = (struct mr_mirror_note){
        .pair = a->pair != 0 ? a->pair : m->options->seed | 1,
        .generation = highest + 1,
        .token = m->options->seed,
    };
    enum mr_status r = mr_mirror_note_write(m->sides[1].io, ret_note);
    return r == MR_OK ? mr_mirror_note_write(m->sides[0].io, ret_note) : r;
}

static enum mr_status create(const struct making *m, const struct mr_mirror_note *note,
                             bool alone, struct mr_io **ret_io)
{
    const struct mr_log_mirror_options *options = m->options;
    struct mr_mirror_options wanted = {
        .copies = {m->sides[0].io, m->sides[1].io},
        .names = {m->sides[0].name, m->sides[1].name},
        .note = *note,
        .alone = alone,
        .second_first = options->second_first,
        .tell = options->tell,
        .context = options->context,
    };
    return mr_io_mirror_create(&wanted, ret_io);
}

/* With sides[0]. */
static enum mr_status go_alone(struct making *m, struct mr_io **ret_io,
                               struct mr_problem *problem)
{
    struct side *side = &m->sides[0];
    struct mr_mirror_note note;
    enum mr_status r = mr_log_mirror_leave(side->io, m->options->seed, &note);
    if (r == MR_E_INVALID) {
        return mr_problem_set(problem, r,
                              "the log in %s was left behind by the one in %s, which is not there: "
                              "what it lacks was acknowledged; bring the other back, or remove the "
                              "file `mirror` in it to go on without",
                              side->name, m->sides[1].name);
    }
    r = r == MR_OK ? create(m, &note, true, ret_io) : r;
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "cannot go on with the log in %s alone: %s", side->name,
                              mr_status_text(r));
    }
    if (m->sides[1].io != NULL && note.pair != 0) {
        note.left = true;
        note.alone = false;
        enum mr_status told = mr_mirror_note_write(m->sides[1].io, &note);
        (void)told; /* helps where it can still be done */
    }
    tell(m, "there is no copy of the log in %s: it goes on in %s alone, and what is acknowledged "
            "from here on stands there only, until a start with both",
         m->sides[1].name, side->name);
    return MR_OK;
}

enum mr_status mr_log_mirror_leave(struct mr_io *io, uint64_t seed,
                                   struct mr_mirror_note *ret_note)
{
    struct mr_mirror_note note;
    enum mr_status r = mr_mirror_note_read(io, &note);
    if (r == MR_OK && note.left) {
        return MR_E_INVALID;
    }
    if (r == MR_OK) {
        note.generation++;
        note.token = seed;
        note.alone = true;
        r = mr_mirror_note_write(io, &note);
    } else if (r == MR_E_NOT_FOUND || r == MR_E_CORRUPT) {
        r = MR_OK; /* no pair yet; or what the logs hold decides at the next one */
    }
    *ret_note = note;
    return r;
}

enum mr_status mr_log_mirror_open(const struct mr_log_mirror_options *options,
                                  struct mr_io **ret_io, struct mr_problem *problem)
{
    struct making m = {.options = options};
    for (unsigned i = 0; i < 2; i++) {
        m.sides[i] = (struct side){.io = options->copies[i], .name = options->names[i]};
    }
    if (m.sides[0].io == NULL || m.sides[1].io == NULL) {
        if (m.sides[0].io == NULL) {
            swap_sides(&m);
        }
        return go_alone(&m, ret_io, problem);
    }
    problem->text[0] = '\0';
    enum mr_status r = look_at(&m.sides[0], problem);
    r = r == MR_OK ? look_at(&m.sides[1], problem) : r;
    r = r == MR_OK ? decide(&m, problem) : r;
    struct mr_mirror_note note = {0};
    r = r == MR_OK ? create(&m, &note, false, &m.io) : r;
    r = r == MR_OK ? make_equal(&m) : r;
    r = r == MR_OK ? note_pair(&m, &note) : r;
    for (unsigned i = 0; i < 2; i++) {
        mr_log_index_release(&m.sides[i].index);
    }
    if (r == MR_OK) {
        mr_io_mirror_set_note(m.io, &note);
        *ret_io = m.io;
        return MR_OK;
    }
    if (m.io != NULL) {
        mr_io_mirror_dissolve(m.io);
        if (!m.stale && m.sides[1].newest > m.sides[0].newest) {
            swap_sides(&m);
        }
        tell(&m, "the copies of the log in %s and %s cannot be made equal: %s", m.sides[0].name,
             m.sides[1].name, mr_status_text(r));
        return go_alone(&m, ret_io, problem);
    }
    return problem->text[0] != '\0'
               ? r
               : mr_problem_set(problem, r, "cannot make the log in %s and its mirror in %s equal: "
                                            "%s",
                                options->names[0], options->names[1], mr_status_text(r));
}
