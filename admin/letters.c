#include "admin/letters.h"

#include <time.h>

#include "core/alloc.h"
#include "core/clock.h"

#define PAGE 1024u /* the bus is asked for so many at once: some 20 us of its time */
#define LIMIT_DEFAULT 100u
#define LIMIT_MAX 1000u
#define DURABLE_TRIES 500u
#define DURABLE_WAIT_NS (2 * MR_MS)

static enum mr_status read_duration(const struct mr_http_request *http, const char *name,
                                    uint64_t *value, struct mr_problem *problem)
{
    const char *text = mr_http_request_query(http, name);
    if (text != NULL && !mr_parse_duration(text, value)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "%s wants a duration such as 90s or 1h30m, not \"%s\"", name, text);
    }
    return MR_OK;
}

enum mr_status mr_letter_query_init(struct mr_letter_query *query,
                                    const struct mr_http_request *http, struct mr_problem *problem)
{
    *query = (struct mr_letter_query){.limit = LIMIT_DEFAULT};
    query->id = mr_http_request_query(http, "id");
    query->error = mr_http_request_query(http, "error");
    query->class = mr_http_request_query(http, "class");
    query->has_attempts = mr_http_request_query(http, "attempts") != NULL;
    enum mr_status r = mr__query_number(http, "attempts", &query->attempts, problem);
    if (r == MR_OK) {
        r = mr__query_number(http, "group", &query->group, problem);
    }
    if (r == MR_OK) {
        r = mr__query_number(http, "after", &query->after, problem);
    }
    if (r == MR_OK) {
        r = mr__query_number(http, "limit", &query->limit, problem);
    }
    if (r == MR_OK) {
        r = read_duration(http, "since", &query->since_ns, problem);
    }
    if (r == MR_OK) {
        r = read_duration(http, "until", &query->until_ns, problem);
    }
    const char *filter = mr_http_request_query(http, "filter");
    if (r == MR_OK && filter != NULL) {
        r = mr_filter_create(mr_bytes_of(filter), &query->filter, problem);
    }
    if (r == MR_OK && query->class != NULL && !mr_failure_class_exists(query->class)) {
        r = mr_problem_set(problem, MR_E_INVALID, "class is one of %s, not \"%s\"",
                           mr_failure_classes(), query->class);
    }
    if (query->limit == 0 || query->limit > LIMIT_MAX) {
        query->limit = LIMIT_MAX;
    }
    return r;
}

void mr_letter_query_release(struct mr_letter_query *query)
{
    mr_filter_destroy(query->filter);
    query->filter = NULL;
}

const char *mr_letter_class(const struct mr_letter *letter)
{
    return letter->has_result ? mr_failure_class(&letter->result) : "unknown";
}

uint64_t mr_letter_died_ns(const struct mr_letter *letter)
{
    return letter->ended_wall_ns != 0 ? letter->ended_wall_ns : letter->dead.died_log_ns;
}

uint32_t mr_letter_group(const struct mr_letter *letter, char text[MR_FAILURE_TEXT_SIZE])
{
    struct mr_bytes none = {0};
    text[0] = '\0';
    if (letter->has_result) {
        mr_failure_normalise(&letter->result,
                             letter->event.size > 0 ? mr_event_id(letter->event) : none, text);
    }
    return mr_failure_group(mr_letter_class(letter), text);
}

/* --- picking ---------------------------------------------------------------------------------- */

/* Whether @p text has @p part in it, ASCII case ignored. */
static bool has_part(struct mr_bytes text, struct mr_bytes part)
{
    for (size_t at = 0; at + part.size <= text.size; at++) {
        if (mr_bytes_equal_nocase(mr_bytes(text.data + at, part.size), part)) {
            return true;
        }
    }
    return false;
}

static bool is_died_in_time(const struct mr_letter_query *query, const struct mr_dead_letter *dead,
                            uint64_t log_ns)
{
    uint64_t ago = log_ns > dead->died_log_ns ? log_ns - dead->died_log_ns : 0;
    return (query->since_ns == 0 || ago <= query->since_ns) &&
           (query->until_ns == 0 || ago > query->until_ns);
}

/* What can be told without reading the log. */
static bool fits_before_reading(const struct mr_letter_query *query,
                                const struct mr_dead_letter *dead, uint64_t log_ns)
{
    return dead->offset > query->after &&
           (!query->has_attempts || dead->attempts == query->attempts) &&
           is_died_in_time(query, dead, log_ns);
}

static bool fits(const struct mr_letter_query *query, const struct mr_letter *letter)
{
    if (query->id != NULL) {
        uint64_t offset;
        struct mr_bytes id = mr_bytes_of(query->id);
        bool is_offset = mr_parse_u64(id, &offset) && offset == letter->dead.offset;
        bool is_id = letter->event.size > 0 && mr_bytes_equal(mr_event_id(letter->event), id);
        if (!is_id && !is_offset) {
            return false;
        }
    }
    if (query->error != NULL) {
        struct mr_bytes part = mr_bytes_of(query->error);
        if (!letter->has_result ||
            (!has_part(letter->result.error, part) && !has_part(letter->result.reason, part))) {
            return false;
        }
    }
    char text[MR_FAILURE_TEXT_SIZE];
    if ((query->class != NULL && strcmp(query->class, mr_letter_class(letter)) != 0) ||
        (query->group != 0 && query->group != mr_letter_group(letter, text))) {
        return false;
    }
    return query->filter == NULL ||
           (letter->event.size > 0 && mr_filter_test(query->filter, letter->event));
}

/* --- reading ---------------------------------------------------------------------------------- */

struct page {
    uint32_t subscription;
    const struct mr_letter_query *query;
    uint64_t after;
    uint64_t log_ns;
    struct mr_dead_letter items[PAGE];
    uint32_t count;
};

static bool keep_letter(void *context, const struct mr_dead_letter *dead)
{
    struct page *page = context;
    if (dead->offset > page->after && fits_before_reading(page->query, dead, page->log_ns)) {
        page->items[page->count++] = *dead;
    }
    return page->count < PAGE;
}

static void copy_letters(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)now;
    struct page *page = argument;
    struct mr_bus_status status;
    mr_bus_status(bus, &status);
    page->log_ns = status.log_ns;
    page->count = 0;
    mr_bus_dead_letters(bus, page->subscription, keep_letter, page);
}

/* Waits until the record at @p position can be read: one group's write, or the bus is faulty. */
static enum mr_status wait_durable(struct mr_admin *admin, uint64_t position)
{
    for (uint32_t i = 0; i < DURABLE_TRIES; i++) {
        struct mr_bus_status status;
        enum mr_status r = mr__bus_status(admin, &status);
        if (r != MR_OK || position < status.durable_position || status.faulty) {
            return r;
        }
        struct timespec wait = {.tv_nsec = (long)DURABLE_WAIT_NS};
        (void)nanosleep(&wait, NULL); /* an early return only means one more try */
    }
    return MR_OK; /* it reads as missing then */
}

struct bodies {
    struct mr_buf dead;
    struct mr_buf event;
};

static enum mr_status read_letter(struct mr_history *history, uint32_t subscription,
                                  const struct mr_dead_letter *dead, struct bodies *bodies,
                                  struct mr_letter *ret_letter)
{
    struct mr_letter letter = {.dead = *dead};
    struct mr_record record;
    enum mr_status r = mr_history_read(history, dead->record_position, MR_RECORD_DEAD,
                                       dead->offset, &bodies->dead, &record);
    size_t size;
    if (r == MR_OK && mr_result_decode(record.body, &letter.result, &size) == MR_OK) {
        letter.has_result = true;
        letter.started_wall_ns = record.c;
        letter.ended_wall_ns = record.d;
    }
    if (r == MR_OK || r == MR_E_NOT_FOUND) {
        r = mr_history_read_event(history, dead->event_position, subscription, dead->offset,
                                  &bodies->event, &record);
        if (r == MR_OK) {
            letter.event = record.body;
        }
    }
    *ret_letter = letter;
    return r == MR_E_NOT_FOUND ? MR_OK : r;
}

struct walk {
    struct mr_admin *admin;
    const struct mr_letter_query *query;
    bool (*visit)(void *context, const struct mr_letter *letter);
    void *context;
    struct mr_history history;
    struct bodies bodies;
    uint64_t visited;
    uint64_t next;
    bool ended;
};

static enum mr_status walk_page(struct walk *walk, const struct page *page)
{
    for (uint32_t i = 0; i < page->count && !walk->ended; i++) {
        const struct mr_dead_letter *dead = &page->items[i];
        enum mr_status r = MR_OK;
        if (dead->record_position >= walk->history.end_position) {
            r = wait_durable(walk->admin, dead->record_position);
        }
        struct mr_letter letter;
        if (r == MR_OK) {
            r = read_letter(&walk->history, page->subscription, dead, &walk->bodies, &letter);
        }
        if (r != MR_OK) {
            return r;
        }
        walk->next = dead->offset;
        if (fits(walk->query, &letter)) {
            walk->visited++;
            walk->ended = !walk->visit(walk->context, &letter) ||
                          walk->visited >= walk->query->limit;
        }
    }
    return MR_OK;
}

enum mr_status mr_letters_each(struct mr_admin *admin, uint32_t id,
                               const struct mr_letter_query *query,
                               bool (*visit)(void *context, const struct mr_letter *letter),
                               void *context, uint64_t *ret_next)
{
    struct mr_bus_status status;
    enum mr_status r = mr__bus_status(admin, &status);
    if (r != MR_OK) {
        return r;
    }
    struct walk walk = {.admin = admin, .query = query, .visit = visit, .context = context};
    r = mr_history_open(admin->history, status.durable_position, &walk.history, NULL);
    struct page *page = mr_calloc(1, sizeof(*page));
    if (r == MR_OK && page == NULL) {
        r = MR_E_NOMEM;
    }
    mr_buf_init(&walk.bodies.dead, MR_SEGMENT_SIZE_MAX);
    mr_buf_init(&walk.bodies.event, MR_SEGMENT_SIZE_MAX);
    bool more = r == MR_OK;
    while (r == MR_OK && more && !walk.ended) {
        page->subscription = id;
        page->query = query;
        page->after = walk.next > query->after ? walk.next : query->after;
        r = admin->host->ops->call(admin->host, copy_letters, page);
        more = page->count == PAGE;
        if (r == MR_OK) {
            r = walk_page(&walk, page);
        }
    }
    *ret_next = walk.ended ? walk.next : UINT64_MAX;
    mr_free(page);
    mr_buf_release(&walk.bodies.dead);
    mr_buf_release(&walk.bodies.event);
    mr_history_release(&walk.history);
    return r;
}
