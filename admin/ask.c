/* Questions to the bus: each runs between two steps on its thread, copies what it wants and leaves.
 * Lists are asked for some at a time, so that a scrape of many subscriptions never holds the bus
 * for longer than a few of them take. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "admin/internal.h"
#include "core/alloc.h"
#include "core/logger.h"

#define PAGE 32u

bool mr__ask(struct mr_admin *admin, struct mr__call *call,
             void (*fn)(void *argument, struct mr_bus *bus, struct mr_now now), void *argument)
{
    enum mr_status r = admin->host->ops->call(admin->host, fn, argument);
    if (r != MR_OK) {
        char why[MR_ERROR_TEXT_MAX] = "";
        bool is_ready = admin->host->ops->is_ready(admin->host, why, sizeof(why));
        bool is_starting = !is_ready && strcmp(why, "starting") == 0;
        mr__answer_error(call, 503, is_starting ? "starting" : "Millrace is stopping");
    }
    return r == MR_OK;
}

struct subscription_page {
    uint32_t first;
    uint32_t count; /* out */
    struct mr__subscription items[PAGE];
};

static void copy_subscription(struct mr_bus *bus, struct mr_now now, uint32_t id,
                              struct mr__subscription *to)
{
    mr_bus_subscription_info(bus, now, id, &to->info);
    (void)snprintf(to->name, sizeof(to->name), "%s", to->info.name); /* names are bounded */
    to->info.name = NULL;
}

static void copy_subscriptions(void *argument, struct mr_bus *bus, struct mr_now now)
{
    struct subscription_page *page = argument;
    uint32_t end = mr_bus_subscription_count(bus);
    page->count = 0;
    for (uint32_t id = page->first; id < end && page->count < PAGE; id++) {
        copy_subscription(bus, now, id, &page->items[page->count++]);
    }
}

enum mr_status mr__each_subscription(struct mr_admin *admin,
                                     void (*fn)(void *context,
                                                const struct mr__subscription *subscription),
                                     void *context)
{
    struct subscription_page *page = mr_calloc(1, sizeof(*page));
    if (page == NULL) {
        return MR_E_NOMEM;
    }
    enum mr_status r;
    do {
        r = admin->host->ops->call(admin->host, copy_subscriptions, page);
        for (uint32_t i = 0; r == MR_OK && i < page->count; i++) {
            page->items[i].info.name = page->items[i].name;
            fn(context, &page->items[i]);
        }
        page->first += page->count;
    } while (r == MR_OK && page->count == PAGE);
    mr_free(page);
    return r;
}

struct subscription_wanted {
    const char *name; /* NULL: by id */
    uint32_t id;
    bool found;
    struct mr__subscription *to;
};

static void find_subscription(void *argument, struct mr_bus *bus, struct mr_now now)
{
    struct subscription_wanted *wanted = argument;
    if (wanted->name != NULL) {
        wanted->id = mr_bus_subscription_id(bus, wanted->name);
    }
    wanted->found = wanted->id < mr_bus_subscription_count(bus);
    if (wanted->found) {
        copy_subscription(bus, now, wanted->id, wanted->to);
    }
}

enum mr_status mr__find_subscription(struct mr_admin *admin, const char *name,
                                     struct mr__subscription *ret_subscription)
{
    struct subscription_wanted wanted = {.name = name, .to = ret_subscription};
    enum mr_status r = admin->host->ops->call(admin->host, find_subscription, &wanted);
    if (r == MR_OK && !wanted.found) {
        r = MR_E_NOT_FOUND;
    }
    if (r == MR_OK) {
        ret_subscription->info.name = ret_subscription->name;
    }
    return r;
}

struct shares_wanted {
    uint32_t id;
    uint32_t count;
    struct mr_share_info *shares;
};

static void copy_shares(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)now;
    struct shares_wanted *wanted = argument;
    wanted->count = mr_bus_subscription_shares(bus, wanted->id, wanted->shares);
}

enum mr_status mr__find_shares(struct mr_admin *admin, uint32_t id,
                               struct mr_share_info ret_shares[MR_SHARES_MAX],
                               uint32_t *ret_count)
{
    struct shares_wanted wanted = {.id = id, .shares = ret_shares};
    enum mr_status r = admin->host->ops->call(admin->host, copy_shares, &wanted);
    *ret_count = wanted.count;
    return r;
}

struct target_page {
    uint32_t first;
    uint32_t count;
    struct mr__target items[PAGE];
};

static void copy_targets(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)now;
    struct target_page *page = argument;
    uint32_t end = mr_bus_target_count(bus);
    page->count = 0;
    for (uint32_t id = page->first; id < end && page->count < PAGE; id++) {
        struct mr__target *to = &page->items[page->count++];
        mr_bus_target_info(bus, id, &to->info);
        (void)snprintf(to->name, sizeof(to->name), "%s", to->info.name); /* names are bounded */
        to->info.name = NULL;
    }
}

enum mr_status mr__each_target(struct mr_admin *admin,
                               void (*fn)(void *context, const struct mr__target *target),
                               void *context)
{
    struct target_page *page = mr_calloc(1, sizeof(*page));
    if (page == NULL) {
        return MR_E_NOMEM;
    }
    enum mr_status r;
    do {
        r = admin->host->ops->call(admin->host, copy_targets, page);
        for (uint32_t i = 0; r == MR_OK && i < page->count; i++) {
            page->items[i].info.name = page->items[i].name;
            fn(context, &page->items[i]);
        }
        page->first += page->count;
    } while (r == MR_OK && page->count == PAGE);
    mr_free(page);
    return r;
}

struct fanout_page {
    uint32_t first;
    uint32_t count;
    struct mr__fanout_seen items[PAGE];
};

static void copy_fanouts(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)now;
    struct fanout_page *page = argument;
    uint32_t count = mr_bus_fanout_count(bus);
    page->count = 0;
    while (page->count < PAGE && page->first + page->count < count) {
        struct mr__fanout_seen *to = &page->items[page->count];
        mr_bus_fanout_info(bus, page->first + page->count++, &to->info);
        (void)snprintf(to->name, sizeof(to->name), "%s", to->info.name); /* names are bounded */
    }
}

enum mr_status mr__each_fanout(struct mr_admin *admin,
                               void (*fn)(void *context, const struct mr__fanout_seen *fanout),
                               void *context)
{
    struct fanout_page *page = mr_calloc(1, sizeof(*page));
    if (page == NULL) {
        return MR_E_NOMEM;
    }
    enum mr_status r;
    do {
        r = admin->host->ops->call(admin->host, copy_fanouts, page);
        for (uint32_t i = 0; r == MR_OK && i < page->count; i++) {
            page->items[i].info.name = page->items[i].name;
            if (page->items[i].info.configured || page->items[i].info.open > 0) {
                fn(context, &page->items[i]);
            }
        }
        page->first += page->count;
    } while (r == MR_OK && page->count == PAGE);
    mr_free(page);
    return r;
}

struct source_page {
    struct mr_source_info *items; /* owned */
    uint32_t capacity;
    uint32_t count; /* there are */
};

static void copy_sources(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)now;
    struct source_page *page = argument;
    page->count = mr_bus_source_count(bus);
    for (uint32_t id = 0; id < page->count && id < page->capacity; id++) {
        mr_bus_source_info(bus, id, &page->items[id]);
        page->items[id].name = NULL;
    }
}

enum mr_status mr__source_infos(struct mr_admin *admin, struct mr_source_info **ret_infos,
                                uint32_t *ret_count)
{
    struct source_page page = {.count = PAGE};
    enum mr_status r = MR_OK;
    while (r == MR_OK && page.count > page.capacity) {
        mr_free(page.items);
        page.capacity = page.count;
        page.items = mr_calloc(page.capacity, sizeof(*page.items));
        r = page.items == NULL ? MR_E_NOMEM
                               : admin->host->ops->call(admin->host, copy_sources, &page);
    }
    if (r != MR_OK) {
        mr_free(page.items);
        return r;
    }
    *ret_infos = page.items;
    *ret_count = page.count;
    return MR_OK;
}

static void copy_status(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)now;
    mr_bus_status(bus, argument);
}

enum mr_status mr__bus_status(struct mr_admin *admin, struct mr_bus_status *ret_status)
{
    return admin->host->ops->call(admin->host, copy_status, ret_status);
}

struct sketch_question {
    uint64_t number;
    uint64_t hash;
    bool is_about;
    bool known;
    struct mr_buf *places;
};

static bool take_sketched(void *context, uint64_t place)
{
    struct sketch_question *question = context;
    uint8_t bytes[8];
    mr_put_u64(bytes, place);
    question->known = mr_buf_append(question->places, bytes, sizeof(bytes)) == MR_OK;
    return question->known;
}

static void ask_sketched(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)now;
    struct sketch_question *question = argument;
    question->known = true;
    bool sketched = mr_bus_sketched(bus, question->number, question->hash, question->is_about,
                                    take_sketched, question);
    question->known = question->known && sketched;
}

bool mr__sketched(void *context, uint64_t number, uint64_t hash, bool is_about,
                  struct mr_buf *places)
{
    struct mr_admin *admin = context;
    struct sketch_question question = {
        .number = number, .hash = hash, .is_about = is_about, .places = places};
    return admin->host->ops->call(admin->host, ask_sketched, &question) == MR_OK && question.known;
}

static const char *cached_name(struct mr_admin *admin, uint32_t id)
{
    (void)pthread_mutex_lock(&admin->names_mu);
    const char *name = id < admin->name_count ? admin->names[id] : NULL;
    (void)pthread_mutex_unlock(&admin->names_mu);
    return name; /* an entry never changes and is freed with the admin alone */
}

static const char *cache_name(struct mr_admin *admin, uint32_t id, const char *name)
{
    const char *kept = NULL;
    (void)pthread_mutex_lock(&admin->names_mu);
    if (id >= admin->name_count) {
        uint32_t count = id + 64;
        char **grown = mr_realloc(admin->names, count * sizeof(*grown));
        if (grown != NULL) {
            memset(grown + admin->name_count, 0, (count - admin->name_count) * sizeof(*grown));
            admin->names = grown;
            admin->name_count = count;
        }
    }
    if (id < admin->name_count) {
        if (admin->names[id] == NULL) {
            admin->names[id] = mr_strdup(name);
        }
        kept = admin->names[id];
    }
    (void)pthread_mutex_unlock(&admin->names_mu);
    return kept;
}

const char *mr__subscription_name(struct mr_admin *admin, uint32_t id)
{
    const char *name = cached_name(admin, id);
    if (name != NULL) {
        return name;
    }
    struct mr__subscription subscription;
    struct subscription_wanted wanted = {.id = id, .to = &subscription};
    enum mr_status r = admin->host->ops->call(admin->host, find_subscription, &wanted);
    return r == MR_OK && wanted.found ? cache_name(admin, id, subscription.name) : NULL;
}

struct source_wanted {
    const char *name; /* to find its id */
    uint32_t id;
    char *to;
    size_t size;
};

static void copy_source_name(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)now;
    struct source_wanted *wanted = argument;
    if (wanted->id < mr_bus_source_count(bus)) {
        (void)snprintf(wanted->to, wanted->size, "%s", mr_bus_source_name(bus, wanted->id));
    }
}

void mr__source_name(struct mr_admin *admin, uint32_t id, char *to, size_t size)
{
    (void)snprintf(to, size, "%s", id == MR_SOURCE_BUS ? "bus" : "?"); /* a literal */
    if (id != MR_SOURCE_BUS) {
        struct source_wanted wanted = {.id = id, .to = to, .size = size};
        (void)admin->host->ops->call(admin->host, copy_source_name, &wanted); /* "?" stays */
    }
}

static void find_source(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)now;
    struct source_wanted *wanted = argument;
    wanted->id = mr_bus_source_id(bus, wanted->name);
}

enum mr_status mr__source_id(struct mr_admin *admin, const char *name, uint32_t *ret_id)
{
    if (strcmp(name, "bus") == 0) { /* what it made itself has no other name */
        *ret_id = MR_SOURCE_BUS;
        return MR_OK;
    }
    struct source_wanted wanted = {.name = name};
    enum mr_status r = admin->host->ops->call(admin->host, find_source, &wanted);
    if (r == MR_OK && wanted.id == UINT32_MAX) {
        r = MR_E_NOT_FOUND;
    }
    if (r == MR_OK) {
        *ret_id = wanted.id;
    }
    return r;
}

struct action {
    const char *json;
    enum mr_status result;
};

static void log_action(void *argument, struct mr_bus *bus, struct mr_now now)
{
    (void)now;
    struct action *action = argument;
    action->result = mr_bus_log_action(bus, action->json);
}

enum mr_status mr__log_action_via(struct mr_admin *admin, const char *via, const char *action, ...)
{
    struct mr_json_out out;
    mr_json_out_init(&out, MR_MIB);
    mr_json_out_object(&out, NULL);
    mr_json_out_text(&out, "action", action);
    mr_json_out_text(&out, "via", via);
    va_list arguments;
    va_start(arguments, action);
    for (const char *key = va_arg(arguments, const char *); key != NULL;
         key = va_arg(arguments, const char *)) {
        const char *value = va_arg(arguments, const char *);
        if (value != NULL) {
            mr_json_out_text(&out, key, value);
        }
    }
    va_end(arguments);
    mr_json_out_end(&out);
    enum mr_status r = out.status;
    char *json = r == MR_OK ? mr_buf_take_text(&out.buf) : NULL;
    mr_json_out_release(&out);
    if (json == NULL) {
        return MR_E_NOMEM;
    }
    struct action logged = {.json = json, .result = MR_OK};
    r = admin->host->ops->call(admin->host, log_action, &logged);
    if (r == MR_OK) {
        r = logged.result;
        MR_INFO("admin", "action=%s", json);
    }
    mr_free(json);
    return r;
}
