/* Source `via: webhook | kafka | amqp | mqtt`: the source of that kind, made from our options with
 * its option `adapter` set to ours. The two option tables are matched by name and type: what we
 * have and they have is handed on, what only they have keeps its default. */
#include <stdio.h>

#include "connectors/adapting.h"
#include "connectors/objectstore/objectstore.h"
#include "core/alloc.h"
#include "core/assert.h"

const struct mr_connector *mr__via_connector(int via)
{
    switch ((enum mr_objectstore_via)via) {
    case MR_VIA_WEBHOOK:
        return &mr_connector_http;
    case MR_VIA_KAFKA:
        return &mr_connector_kafka;
    case MR_VIA_AMQP:
        return &mr_connector_amqp;
    case MR_VIA_MQTT:
        return &mr_connector_mqtt;
    case MR_VIA_SQS:
    case MR_VIA_LIST:
        break;
    }
    return NULL;
}

static const struct mr_option *find_row(const struct mr_option *table, const char *name)
{
    for (; table->name != NULL; table++) {
        if (strcmp(table->name, name) == 0) {
            return table;
        }
    }
    return NULL;
}

/* Whether ours is handed on: a text, URL, list or mapping that was given, and a switch. Numbers
 * are not, as they always have a value, and one of the same name may mean another thing. */
static bool is_given(const struct mr_option *row, const uint8_t *field)
{
    const void *value = field;
    switch (row->type) {
    case MR_OPTION_BOOL:
    case MR_OPTION_BLOCK:
        return true;
    case MR_OPTION_STRINGS:
        return ((const struct mr_strings *)value)->count > 0;
    case MR_OPTION_PAIRS:
        return ((const struct mr_pairs *)value)->keys.count > 0;
    case MR_OPTION_STRING:
    case MR_OPTION_PATH:
    case MR_OPTION_URL:
    case MR_OPTION_SECRET:
    case MR_OPTION_JSON:
        return *(void *const *)value != NULL;
    case MR_OPTION_INT:
    case MR_OPTION_SIZE:
    case MR_OPTION_DURATION:
    case MR_OPTION_RATE:
    case MR_OPTION_ENUM:
    case MR_OPTION_TYPE_MAX:
        break;
    }
    return false;
}

static size_t size_of(enum mr_option_type type)
{
    switch (type) {
    case MR_OPTION_BOOL:
        return sizeof(bool);
    case MR_OPTION_INT:
    case MR_OPTION_SIZE:
    case MR_OPTION_DURATION:
        return sizeof(uint64_t);
    case MR_OPTION_RATE:
        return sizeof(struct mr_rate);
    case MR_OPTION_ENUM:
        return sizeof(int);
    case MR_OPTION_STRINGS:
        return sizeof(struct mr_strings);
    case MR_OPTION_PAIRS:
        return sizeof(struct mr_pairs);
    case MR_OPTION_STRING:
    case MR_OPTION_PATH:
    case MR_OPTION_URL:
    case MR_OPTION_SECRET:
    case MR_OPTION_JSON:
        return sizeof(void *);
    case MR_OPTION_BLOCK:
    case MR_OPTION_TYPE_MAX:
        break;
    }
    MR_ASSERT(!"a block is lent row by row");
    return 0;
}

/* Puts the value of row @p mine of @p ours into row @p row of @p seen; borrowed. A block is of the
 * same table on both sides, and has none within. */
static void lend(const struct mr_option *mine, const uint8_t *ours, const struct mr_option *row,
                 uint8_t *seen)
{
    if (row->type != MR_OPTION_BLOCK) {
        memcpy(seen + row->at, ours + mine->at, size_of(row->type));
        return;
    }
    for (const struct mr_option *inner = row->block; inner->name != NULL; inner++) {
        memcpy(seen + row->at + inner->at, ours + mine->at + inner->at, size_of(inner->type));
    }
}

/* Theirs the word of ours. @return false: they have no such option or no such word */
static bool set_adapter(const struct mr_option *table, uint8_t *view, const char *word)
{
    const struct mr_option *row = find_row(table, "adapter");
    for (int i = 0; row != NULL && row->type == MR_OPTION_ENUM && row->words[i] != NULL; i++) {
        if (strcmp(row->words[i], word) == 0) {
            *(int *)(void *)(view + row->at) = i;
            return true;
        }
    }
    return false;
}

/* Options of another connector: what they own, and the same with ours borrowed into it. */
struct view {
    const struct mr_option *table;
    uint8_t *owned;
    uint8_t *seen;
};

static void release_view(struct view *view)
{
    if (view->owned != NULL) {
        mr_options_release(view->table, view->owned);
    }
    mr_free(view->owned);
    mr_free(view->seen);
}

static enum mr_status make_view(const struct mr_objectstore_source_options *options,
                                const struct mr_config_kind *kind, struct view *view,
                                struct mr_problem *problem)
{
    const uint8_t *ours = (const uint8_t *)options;
    *view = (struct view){.table = kind->options,
                          .owned = mr_calloc(1, kind->options_size),
                          .seen = mr_calloc(1, kind->options_size)};
    if (view->owned == NULL || view->seen == NULL ||
        mr_options_defaults(kind->options, view->owned) != MR_OK) {
        release_view(view);
        return mr_problem_set(problem, MR_E_NOMEM, "no memory for the options");
    }
    memcpy(view->seen, view->owned, kind->options_size);
    for (const struct mr_option *row = kind->options; row->name != NULL; row++) {
        const struct mr_option *mine = find_row(mr__objectstore_source_table, row->name);
        if (mine != NULL && mine->type == row->type && mine->block == row->block &&
            is_given(mine, ours + mine->at)) {
            lend(mine, ours, row, view->seen);
        }
    }
    const char *word = mr__adapting_words[options->adapter];
    if (!set_adapter(kind->options, view->seen, word)) {
        release_view(view);
        return mr_problem_set(problem, MR_E_UNSUPPORTED, "adapter: a %s source knows no `%s`",
                              kind->name, word);
    }
    return MR_OK;
}

enum mr_status mr__via_check(const struct mr_objectstore_source_options *options,
                             struct mr_problem *problem)
{
    const struct mr_connector *connector = mr__via_connector(options->via);
    const struct mr_config_kind *kind = &connector->source_kind;
    struct view view;
    for (const struct mr_option *row = kind->options; row->name != NULL; row++) {
        const struct mr_option *mine = find_row(mr__objectstore_source_table, row->name);
        if ((row->flags & MR_OPTION_REQUIRED) != 0 &&
            (mine == NULL || !is_given(mine, (const uint8_t *)options + mine->at))) {
            return mr_problem_set(problem, MR_E_INVALID, "via: %s wants `%s`",
                                  options->via == MR_VIA_WEBHOOK ? "webhook" : kind->name,
                                  row->name);
        }
    }
    enum mr_status r = make_view(options, kind, &view, problem);
    if (r != MR_OK) {
        return r;
    }
    if (kind->check != NULL) {
        r = kind->check(view.seen, problem);
    }
    release_view(&view);
    return r;
}

enum mr_status mr__via_create(const struct mr_source_args *args, struct mr_source **ret_source,
                              struct mr_problem *problem)
{
    const struct mr_objectstore_source_options *options = args->options;
    const struct mr_connector *connector = mr__via_connector(options->via);
    struct view view;
    enum mr_status r = make_view(options, &connector->source_kind, &view, problem);
    if (r != MR_OK) {
        return r;
    }
    struct mr_source_args inner = *args;
    inner.options = view.seen; /* copied by create, as every connector must */
    r = connector->source->create(&inner, ret_source, problem);
    release_view(&view);
    return r;
}

uint64_t mr__via_bytes_max(const struct mr_objectstore_source_options *options)
{
    const struct mr_connector *connector = mr__via_connector(options->via);
    struct mr_problem problem = {.text = ""};
    struct view view;
    if (make_view(options, &connector->source_kind, &view, &problem) != MR_OK) {
        return 0; /* no memory: nor is there an instance then */
    }
    uint64_t size = connector->source_bytes_max(view.seen);
    release_view(&view);
    return size;
}
