/* What the log folder holds, kept from one question to the next: with many segments, reading all
 * their headers takes longer than most answers. The names are listed each time. What was read of a
 * segment that has a footer stays true as long as both files are there: it is sealed, and its
 * number is never used again. The others are few, and are read again. */
#include <pthread.h>

#include "admin/history.h"
#include "core/alloc.h"
#include "core/io_mirror.h"

#define AHEAD 64u /* segments whose heads are read together */

struct entry {
    struct mr_log_segment segment;
    struct mr_footer_head footer; /* pages 0: none that is believed */
};

struct mr_history_index {
    const char *folder; /* borrowed, as the next */
    struct mr_io *mirror; /* NULL: there is one copy, in the folder */
    pthread_mutex_t mu; /* protects the rest */
    struct entry *entries; /* owned, ascending */
    struct mr_log_segment *keeps; /* owned: names alone */
    uint32_t keep_count;
    uint32_t count;
    struct mr_footer_ids_head *ids; /* owned, ascending */
    uint32_t ids_count;
    bool has_checkpoint[2];
};

enum mr_status mr_history_index_create(const char *folder, struct mr_io *mirror,
                                       struct mr_history_index **ret_index)
{
    struct mr_history_index *index = mr_calloc(1, sizeof(*index));
    if (index == NULL) {
        return MR_E_NOMEM;
    }
    index->folder = folder;
    index->mirror = mirror;
    (void)pthread_mutex_init(&index->mu, NULL); /* cannot fail with default attributes */
    *ret_index = index;
    return MR_OK;
}

void mr_history_index_destroy(struct mr_history_index *index)
{
    if (index != NULL) {
        (void)pthread_mutex_destroy(&index->mu);
        mr_free(index->entries);
        mr_free(index->keeps);
        mr_free(index->ids);
        mr_free(index);
    }
}

static void announce(struct mr_io *io, const char *name)
{
    int file;
    if (io->ops->open(io, name, MR_IO_READ_ONLY, &file) == MR_OK) {
        io->ops->will_need(io, file, 0, MR_FOOTER_PAGE);
        io->ops->close(io, file);
    }
}

/* Has the disk begin with the heads of the segments that come next, and of their footers. */
static void announce_entries(struct mr_io *io, const struct mr_log_index *names, uint32_t at)
{
    char name[MR_LOG_NAME_SIZE];
    for (uint32_t i = at; i < names->segment_count && i < at + AHEAD &&
                          io->ops->will_need != NULL;
         i++) {
        mr_segment_name(names->segments[i].number, name);
        announce(io, name);
        mr_footer_name(names->segments[i].number, name);
        announce(io, name);
    }
}

static enum mr_status read_entry(struct mr_io *io, bool has_footer, struct entry *entry,
                                 struct mr_problem *problem)
{
    struct mr_footer *footer;
    enum mr_status r = mr_log_segment_read(io, &entry->segment, problem);
    if (r != MR_OK || !has_footer || !entry->segment.usable) {
        return r;
    }
    r = mr_footer_open(io, entry->segment.number, entry->segment.header.salt, &footer);
    if (r == MR_OK) {
        if (footer->head.used <= entry->segment.file_size) {
            entry->footer = footer->head;
        }
        mr_footer_close(footer);
    }
    return r == MR_E_NOMEM ? r : MR_OK;
}

/* Fills @p fresh, one for each name, with what is known or read now; what is gone is left out. */
static enum mr_status fill_entries(const struct mr_history_index *index, struct mr_io *io,
                                   const struct mr_log_index *names, struct entry *fresh,
                                   uint32_t *ret_count, struct mr_problem *problem)
{
    uint32_t known = 0;
    uint32_t footer = 0;
    uint32_t count = 0;
    uint32_t announced = 0;
    for (uint32_t i = 0; i < names->segment_count; i++) {
        uint64_t number = names->segments[i].number;
        while (known < index->count && index->entries[known].segment.number < number) {
            known++;
        }
        while (footer < names->footer_count && names->footers[footer] < number) {
            footer++;
        }
        bool has_footer = footer < names->footer_count && names->footers[footer] == number;
        const struct entry *before = known < index->count ? &index->entries[known] : NULL;
        if (has_footer && before != NULL && before->segment.number == number &&
            before->footer.pages > 0) {
            fresh[count++] = *before;
            continue;
        }
        if (i >= announced) {
            announce_entries(io, names, i);
            announced = i + AHEAD;
        }
        fresh[count] = (struct entry){.segment = {.number = number}};
        enum mr_status r = read_entry(io, has_footer, &fresh[count], problem);
        if (r != MR_OK && r != MR_E_NOT_FOUND) {
            return r;
        }
        count += r == MR_OK; /* else it was retired behind the listing */
    }
    *ret_count = count;
    return MR_OK;
}

/* Whether the file of a group speaks of all of its segments that have a footer: then it is not made
 * again, but for what it says of segments that have gone. */
static bool speaks_of_all(const struct mr_history_index *index,
                          const struct mr_footer_ids_head *head)
{
    bool all = true;
    for (uint32_t i = 0; i < index->count && all; i++) {
        const struct mr_footer_head *footer = &index->entries[i].footer;
        uint64_t at = footer->number % MR_FOOTER_GROUP;
        all = footer->pages == 0 || footer->number / MR_FOOTER_GROUP != head->group ||
              ((head->covered >> at & 1) != 0 && head->salts[at] == footer->salt);
    }
    return all;
}

/* The heads of the files of groups: those that are known and complete, and the others read. */
static enum mr_status refresh_ids(struct mr_history_index *index, struct mr_io *io,
                                  const struct mr_log_index *names)
{
    struct mr_footer_ids_head *fresh = mr_calloc(names->ids_count + 1u, sizeof(*fresh));
    uint64_t log_id = index->count == 0 ? 0 : index->entries[0].segment.header.log_id;
    uint32_t known = 0;
    uint32_t count = 0;
    if (fresh == NULL) {
        return MR_E_NOMEM;
    }
    for (uint32_t i = 0; i < names->ids_count; i++) {
        while (known < index->ids_count && index->ids[known].group < names->ids[i]) {
            known++;
        }
        bool is_known = known < index->ids_count && index->ids[known].group == names->ids[i] &&
                        speaks_of_all(index, &index->ids[known]);
        if (is_known) {
            fresh[count++] = index->ids[known];
        } else {
            count += mr_footer_ids_open(io, names->ids[i], log_id, &fresh[count]) == MR_OK;
        }
    }
    mr_free(index->ids);
    index->ids = fresh;
    index->ids_count = count;
    return MR_OK;
}

static enum mr_status refresh(struct mr_history_index *index, struct mr_io *io,
                              struct mr_problem *problem)
{
    struct mr_log_index names;
    uint32_t count = 0;
    enum mr_status r = mr_log_index_names(io, &names);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "cannot list %s: %s", index->folder, mr_status_text(r));
    }
    struct entry *fresh = mr_calloc(names.segment_count + 1, sizeof(*fresh));
    r = fresh == NULL ? MR_E_NOMEM : fill_entries(index, io, &names, fresh, &count, problem);
    memcpy(index->has_checkpoint, names.has_checkpoint, sizeof(index->has_checkpoint));
    mr_free(index->keeps);
    index->keeps = MR_TAKE(names.keeps);
    index->keep_count = names.keep_count;
    if (r == MR_OK) {
        mr_free(index->entries);
        index->entries = MR_TAKE(fresh);
        index->count = count;
        r = refresh_ids(index, io, &names);
    }
    mr_free(fresh);
    mr_log_index_release(&names);
    return r;
}

/* A copy of its own for @p history: others may refresh meanwhile. */
static enum mr_status copy_entries(const struct mr_history_index *index, struct mr_history *history)
{
    struct mr_log_index copy = {.segment_count = index->count, .keep_count = index->keep_count};
    copy.keeps = mr_calloc(index->keep_count + 1u, sizeof(*copy.keeps));
    copy.segments = mr_calloc(index->count + 1, sizeof(*copy.segments));
    history->footers = mr_calloc(index->count + 1, sizeof(*history->footers));
    history->index = copy;
    history->ids = mr_calloc(index->ids_count + 1u, sizeof(*history->ids));
    if (copy.segments == NULL || copy.keeps == NULL || history->footers == NULL ||
        history->ids == NULL) {
        return MR_E_NOMEM;
    }
    for (uint32_t i = 0; i < index->count; i++) {
        copy.segments[i] = index->entries[i].segment;
        history->footers[i] = index->entries[i].footer;
    }
    history->ids_count = index->ids_count;
    memcpy(history->ids, index->ids, index->ids_count * sizeof(*history->ids));
    for (uint32_t i = 0; i < index->keep_count; i++) {
        copy.keeps[i] = index->keeps[i]; /* their headers are read when they are */
    }
    memcpy(history->index.has_checkpoint, index->has_checkpoint, sizeof(index->has_checkpoint));
    mr_log_index_judge(&history->index);
    return MR_OK;
}

enum mr_status mr_history_open(struct mr_history_index *index, uint64_t end_position,
                               struct mr_history *ret_history, struct mr_problem *problem)
{
    struct mr_history history = {.end_position = end_position, .owns_io = index->mirror == NULL};
    enum mr_status r = MR_OK;
    if (history.owns_io) {
        r = mr_io_create(index->folder, false, false, &history.io);
    } else { /* not the pair itself: that one repairs what it reads, which is the engine's to do */
        history.io = mr_io_mirror_leads(index->mirror);
    }
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "cannot read %s: %s", index->folder, mr_status_text(r));
    }
    (void)pthread_mutex_lock(&index->mu); /* cannot fail: ours, not recursive */
    r = refresh(index, history.io, problem);
    r = r == MR_OK ? copy_entries(index, &history) : r;
    (void)pthread_mutex_unlock(&index->mu);
    if (r != MR_OK) {
        mr_history_release(&history);
        return r;
    }
    *ret_history = history;
    return MR_OK;
}

void mr_history_release(struct mr_history *history)
{
    if (history->io != NULL) {
        mr_log_index_release(&history->index);
        mr_free(MR_TAKE(history->footers));
        mr_free(MR_TAKE(history->ids));
        if (history->owns_io) {
            history->io->ops->destroy(history->io);
        }
        history->io = NULL;
    }
}

const struct mr_footer_head *mr_history_footer(const struct mr_history *history, uint32_t at)
{
    const struct mr_footer_head *head = &history->footers[at];
    bool is_sealed = head->number < mr_position_segment(history->end_position);
    return head->pages > 0 && head->rotten == 0 && is_sealed ? head : NULL;
}
