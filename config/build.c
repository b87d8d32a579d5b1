/* Owns the way from the merged tree to the configuration: the top level, sources and targets. */
#include "config/builder.h"

#include <inttypes.h>
#include <stdlib.h>

#include "config/option_value.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/hash.h"

#define KIND_WORDS_MAX 32u
#define EVENTS_IN_SEGMENT_MIN 4u /* as many of the largest fit into a segment of the log */
#define SINK_MAX_RUN_NS 3600000000000ull
#define SINK_GRACE_NS 5000000000ull
#define DEDUPE_WINDOW_MIN_NS 1000000000ull
#define CANONICAL_SIZE_MAX (8u * MR_CONFIG_SIZE_MAX) /* an escaped byte takes six */

static int compare_names(const void *a, const void *b)
{
    const struct mr_name_entry *left = a;
    const struct mr_name_entry *right = b;
    int order = strcmp(left->name, right->name);
    return order != 0 ? order : (left->index > right->index) - (left->index < right->index);
}

int64_t mr__builder_find(const struct mr_name_index *names, const char *name)
{
    uint32_t low = 0;
    uint32_t high = names->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(names->items[middle].name, name);
        if (order == 0) {
            return names->items[middle].index;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return -1;
}

static void release_names(struct mr_name_index *names)
{
    mr_free(names->items);
    mr_free(names->words);
    *names = (struct mr_name_index){0};
}

static enum mr_status reserve_names(struct mr_name_index *names, uint32_t count)
{
    names->items = mr_calloc(count + 1, sizeof(*names->items));
    names->words = mr_calloc(count + 1, sizeof(*names->words));
    return names->items == NULL || names->words == NULL ? MR_E_NOMEM : MR_OK;
}

/* Sorts, and reports names that are both a worker's and a sink's. */
static enum mr_status seal_names(struct mr_loader *loader, struct mr_name_index *names)
{
    enum mr_status r = MR_OK;
    if (names->count > 1) {
        qsort(names->items, names->count, sizeof(*names->items), compare_names);
    }
    for (uint32_t i = 0; i < names->count; i++) {
        names->words[i] = names->items[i].name;
        if (i > 0 && r == MR_OK && strcmp(names->words[i - 1], names->words[i]) == 0) {
            const struct mr_node *first = names->items[i - 1].node;
            r = mr__report(loader, names->items[i].node,
                           "`%s` is a worker's name already (%s:%u:%u): workers and sinks share "
                           "their names",
                           names->words[i], loader->tree.files[first->file], first->line,
                           first->column);
        }
    }
    return r;
}

enum mr_status mr__check_name(struct mr_loader *loader, const struct mr_node *node, bool *ret_ok)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t size = strlen(node->key);
    *ret_ok = false;
    if (size > MR_NAME_SIZE_MAX || strspn(node->key, allowed) != size) {
        return mr__report(loader, node,
                          "`%.80s` is no name: 1 to %u letters, digits, `_`, `.` or `-`", node->key,
                          MR_NAME_SIZE_MAX);
    }
    if (strcmp(node->key, "bus") == 0 || strcmp(node->key, "ingest") == 0) {
        return mr__report(loader, node, "`%s` is a name Millrace keeps for itself: choose another",
                          node->key);
    }
    *ret_ok = true;
    return MR_OK;
}

/* --- the top level ---------------------------------------------------------------------------- */

static enum mr_status check_log(struct mr_loader *loader, const struct mr_node *root,
                                const struct mr_log_options *log)
{
    const struct mr_node *node = root == NULL ? NULL : mr__node_child(root, "log");
    if (node == NULL || node->kind != MR_NODE_MAPPING) {
        return MR_OK;
    }
    enum mr_status r = MR_OK;
    const struct mr_node *interval = mr__node_child(node, "sync_interval");
    if (interval != NULL && log->sync != MR_SYNC_INTERVAL) {
        r = mr__report(loader, interval,
                       "`sync_interval` has a meaning only with `sync: interval`");
    }
    const struct mr_node *segment = mr__node_child(node, "segment_size");
    if (r == MR_OK && log->segment_size % MR_MIB != 0) {
        r = mr__report(loader, segment, "segment_size is no multiple of 1MiB");
    }
    const struct mr_node *size = mr__node_child(node, "max_size");
    if (r == MR_OK && log->max_size > 0 && log->max_size / 2 < log->segment_size) {
        r = mr__report(loader, size == NULL ? segment : size,
                       "max_size holds less than two segments: raise it, or lower segment_size");
    }
    if (r == MR_OK && size != NULL && mr__node_child(node, "retain_size") != NULL &&
        log->retain_size > log->max_size) {
        r = mr__report(loader, mr__node_child(node, "retain_size"),
                       "retain_size is larger than max_size");
    }
    return r;
}

static enum mr_status report_event_size(struct mr_loader *loader, const struct mr_node *node,
                                        uint64_t most)
{
    return mr__report(loader, node,
                      "event_size_max is more than a quarter of a segment of the log, %" PRIu64
                      " bytes: lower it, or raise log.segment_size",
                      most);
}

static enum mr_status take_top(struct mr_builder *builder, const struct mr_node *root,
                               struct mr_top_options *top)
{
    struct mr_config *config = builder->config;
    struct mr_loader *loader = builder->loader;
    config->data_dir = MR_TAKE(top->data_dir);
    config->log = top->log;
    top->log.mirror = NULL;
    config->memory_state = top->memory.state;
    /* Events have to go into segments. */
    uint64_t most = config->log.segment_size / EVENTS_IN_SEGMENT_MIN;
    const struct mr_node *size =
        root == NULL || root->kind != MR_NODE_MAPPING ? NULL
                                                      : mr__node_child(root, "event_size_max");
    config->event_size_max = top->event_size_max < most ? top->event_size_max : most;
    config->hops_max = (uint32_t)top->hops_max;
    config->drain_ns = top->drain_ns;
    config->dlq_growth_ns = top->dlq_growth_ns;
    config->target_health_ns = top->target_health_ns;
    config->subscriptions_api =
        (struct mr_subscriptions_api){.token = MR_TAKE(top->subscriptions_api.token),
                                      .egress_any = top->subscriptions_api.egress != 0,
                                      .max = (uint32_t)top->subscriptions_api.max};
    enum mr_status r = check_log(loader, root, &config->log);
    if (r == MR_OK && size != NULL && top->event_size_max > most) {
        r = report_event_size(loader, size, most);
    }
    if (r == MR_OK && top->listen != NULL) {
        struct mr_problem problem;
        const struct mr_node *node = root == NULL ? NULL : mr__node_child(root, "listen");
        r = mr__parse_listen(top->listen, mr__shown(node, top->listen), &config->listen_host,
                             &config->listen_port, &config->listen_off, &problem);
        if (r == MR_E_INVALID) {
            r = mr__report(loader, node, "%s", problem.text);
        }
    }
    return r;
}

static enum mr_status build_top(struct mr_builder *builder, struct mr_node *root)
{
    const char *words[MR_SECTION_MAX];
    for (size_t i = 0; i < MR_SECTION_MAX; i++) {
        words[i] = mr__sections[i].name;
    }
    const struct mr_beside beside = {.level = "top", .words = words, .word_count = MR_SECTION_MAX};
    struct mr_top_options top = {0};
    enum mr_status r = mr__options_read(builder->loader, mr__top_table, root, &beside, &top);
    if (r == MR_OK) {
        r = take_top(builder, root, &top);
    }
    mr_options_release(mr__top_table, &top);
    return r;
}

/* --- an entry of a section -------------------------------------------------------------------- */

/* What an entry says in its kind key, and the words to read its other keys with. */
struct entry {
    const struct mr_config_kind *kind; /* NULL: reported */
    struct mr_node *kind_node;
    const char *words[KIND_WORDS_MAX];
    uint32_t word_count;
};

static bool has_unknown(const struct mr_node *mapping, const struct mr_option *common)
{
    for (const struct mr_node *node = mapping->first; node != NULL; node = node->next) {
        const struct mr_option *row = common;
        while (row->name != NULL && strcmp(row->name, node->key) != 0) {
            row++;
        }
        if (row->name == NULL) {
            return true;
        }
    }
    return false;
}

static enum mr_status find_kind(struct mr_loader *loader, const struct mr_section *section,
                                const struct mr_config_kind *kinds, const struct mr_node *node,
                                struct entry *entry)
{
    *entry = (struct entry){0};
    uint32_t found = 0;
    for (const struct mr_config_kind *kind = kinds; kind != NULL && kind->name != NULL; kind++) {
        MR_ASSERT(entry->word_count < KIND_WORDS_MAX);
        entry->words[entry->word_count++] = kind->name;
        struct mr_node *child = mr__node_child(node, kind->name);
        if (child == NULL) {
            continue;
        }
        if (++found == 2) {
            enum mr_status r =
                mr__report(loader, child, "the %s `%s` is of two kinds, %s and %s: give one",
                           section->level, node->key, entry->kind->name, kind->name);
            if (r != MR_OK) {
                return r;
            }
        }
        entry->kind = kind;
        entry->kind_node = child;
    }
    if (found == 0 && !has_unknown(node, section->common)) {
        char list[256];
        mr__words_join(entry->words, entry->word_count, list, sizeof(list));
        return mr__report(loader, node, "the %s `%s` does not say of what kind it is: one of %s",
                          section->level, node->key, list);
    }
    return MR_OK;
}

static enum mr_status read_kind(struct mr_loader *loader, const struct entry *entry,
                                void **ret_options)
{
    const struct mr_config_kind *kind = entry->kind;
    uint32_t errors = loader->errors->count;
    void *options = mr_calloc(1, kind->options_size == 0 ? 1 : kind->options_size);
    if (options == NULL) {
        return MR_E_NOMEM;
    }
    const struct mr_beside beside = {.level = kind->name};
    enum mr_status r = mr__options_read(loader, mr__kind_options(kind), entry->kind_node, &beside,
                                        options);
    if (r == MR_OK && loader->errors->count == errors && kind->check != NULL) {
        struct mr_problem problem = {.text = "is not valid"};
        r = kind->check(options, &problem);
        if (r != MR_OK && r != MR_E_NOMEM) {
            r = mr__report(loader, entry->kind_node, "%s: %s", kind->name, problem.text);
        }
    }
    *ret_options = options; /* kept with the configuration, which releases it in every case */
    return r;
}

/* Reads the common keys of the entry at @p node into @p common and its kind's into *ret_options.
 * *ret_kind stays NULL when the entry is unusable. */
static enum mr_status read_entry(struct mr_loader *loader, enum mr_section_index index,
                                 struct mr_node *node, void *common,
                                 const struct mr_config_kind **ret_kind, void **ret_options)
{
    const struct mr_section *section = &mr__sections[index];
    if (node->kind != MR_NODE_MAPPING) {
        return mr__report(loader, node, "the %s `%s` wants a mapping: {KIND: {…}}", section->level,
                          node->key);
    }
    struct entry entry;
    enum mr_status r =
        find_kind(loader, section, mr__section_kinds(loader->kinds, index), node, &entry);
    if (r == MR_OK) {
        const struct mr_beside beside = {
            .level = section->level, .words = entry.words, .word_count = entry.word_count};
        r = mr__options_read(loader, section->common, node, &beside, common);
    }
    if (r == MR_OK && entry.kind != NULL) {
        *ret_kind = entry.kind;
        r = read_kind(loader, &entry, ret_options);
    }
    return r;
}

static enum mr_status take_dedupe(struct mr_loader *loader, const struct mr_node *node,
                                  const struct mr_dedupe_options *dedupe,
                                  struct mr_source_config *source)
{
    const struct mr_node *block = mr__node_child(node, "dedupe");
    source->dedupe_window_ns = dedupe->window_ns;
    source->dedupe_keys = (uint32_t)dedupe->keys;
    source->dedupe_ids = block != NULL && dedupe->window_ns > 0;
    if (dedupe->window_ns == 0 || dedupe->window_ns >= DEDUPE_WINDOW_MIN_NS) {
        return MR_OK;
    }
    return mr__report(loader, mr__node_child(block, "window"),
                      "dedupe: window is less than a second: write 1s to 7d, or 0s for none");
}

static enum mr_status build_source(struct mr_builder *builder, struct mr_node *node)
{
    struct mr_config *config = builder->config;
    struct mr_source_config *source = &config->sources[config->source_count];
    source->name = mr_strdup(node->key);
    if (source->name == NULL) {
        return MR_E_NOMEM;
    }
    builder->sources.items[builder->sources.count++] = (struct mr_name_entry){
        .name = source->name, .node = node, .index = config->source_count++};
    struct mr_source_options options = {0};
    enum mr_status r = read_entry(builder->loader, MR_SECTION_SOURCES, node, &options,
                                  &source->kind, &source->options);
    uint64_t most = config->log.segment_size / EVENTS_IN_SEGMENT_MIN;
    if (r == MR_OK && options.event_size_max > most) {
        r = report_event_size(builder->loader, mr__node_child(node, "event_size_max"), most);
    }
    source->event_size_max =
        options.event_size_max == 0 ? config->event_size_max : options.event_size_max;
    source->hops_max = options.hops_max == 0 ? config->hops_max : (uint32_t)options.hops_max;
    source->paused = options.paused;
    r = r == MR_OK ? take_dedupe(builder->loader, node, &options.dedupe, source) : r;
    r = r == MR_OK ? mr__build_transform(builder->loader, node, options.transform,
                                         &source->transform_json)
                   : r;
    r = r == MR_OK ? mr__build_validation(builder->loader, mr__node_child(node, "validate"),
                                          &options.validate, &source->validation)
                   : r;
    mr_options_release(mr__source_table, &options);
    return r;
}

static const struct mr_node *scale_child(const struct mr_node *scale, const char *key)
{
    return scale == NULL || scale->kind != MR_NODE_MAPPING ? NULL : mr__node_child(scale, key);
}

static enum mr_status take_scale(struct mr_loader *loader, const struct mr_node *node,
                                 const struct mr_scale_options *scale,
                                 struct mr_target_config *target)
{
    const struct mr_node *block = mr__node_child(node, "scale");
    bool is_exec = strcmp(target->kind->name, "exec") == 0;
    bool is_http = strcmp(target->kind->name, "http") == 0;
    if (is_http || strcmp(target->kind->name, "native") == 0) {
        return block == NULL
                   ? MR_OK
                   : mr__report(loader, block,
                                is_http ? "`scale` is for process and exec workers: an http worker "
                                          "scales where it runs; `concurrency` bounds the "
                                          "requests at once"
                                        : "`scale` is for process and exec workers: `concurrency` "
                                          "says how many threads call the plugin");
    }
    const struct mr_node *min = scale_child(block, "min");
    const struct mr_node *max = scale_child(block, "max");
    target->scale_min = min != NULL ? (uint32_t)scale->min : is_exec ? 0 : 1;
    target->scale_max = max != NULL ? (uint32_t)scale->max : is_exec ? 4 : 1;
    if (max == NULL && target->scale_max < target->scale_min) {
        target->scale_max = target->scale_min;
    }
    target->scale_target = scale_child(block, "target") != NULL ? (uint32_t)scale->target
                                                                : target->concurrency;
    target->scale_idle_ns = scale->idle_ns;
    /* A max of 0 was out of range and is reported. */
    if (target->scale_min > target->scale_max && target->scale_max > 0) {
        return mr__report(loader, max, "scale: max %u is less than min %u%s", target->scale_max,
                          target->scale_min,
                          min == NULL ? ", which is 1 when it is not given" : "");
    }
    return MR_OK;
}

static enum mr_status take_target(struct mr_loader *loader, const struct mr_node *node,
                                  const struct mr_target_options *options,
                                  struct mr_target_config *target)
{
    /* Kafka's client puts what waits into one request. */
    uint32_t concurrency = strcmp(target->kind->name, "kafka") == 0 ? 4000 : 64;
    if (target->is_worker) {
        concurrency = strcmp(target->kind->name, "http") == 0 ? 32 : 1;
    }
    target->concurrency = options->concurrency == 0 ? concurrency : (uint32_t)options->concurrency;
    target->timeout_ns = options->timeout_ns;
    target->max_run_ns = options->max_run_ns;
    target->grace_ns = options->grace_ns;
    target->breaker_percent = (uint32_t)options->breaker.percent;
    target->breaker_calls = (uint32_t)options->breaker.calls;
    target->breaker_window_ns = options->breaker.window_ns;
    target->breaker_open_ns = options->breaker.open_ns;
    target->adaptive_min = (uint32_t)options->adaptive.min;
    target->adaptive_latency_ns = options->adaptive.latency_ns;
    if (!target->is_worker) {
        /* A sink's table has neither: no heartbeat comes from it, and nothing is killed. */
        target->max_run_ns = target->timeout_ns < SINK_MAX_RUN_NS ? SINK_MAX_RUN_NS
                                                                  : target->timeout_ns;
        target->grace_ns = SINK_GRACE_NS;
        return MR_OK;
    }
    enum mr_status r = take_scale(loader, node, &options->scale, target);
    if (r == MR_OK && target->timeout_ns > 0 && target->max_run_ns > 0 &&
        target->timeout_ns > target->max_run_ns) {
        const struct mr_node *place = mr__node_child(node, "timeout");
        r = mr__report(loader, place == NULL ? mr__node_child(node, "max_run") : place,
                       "timeout is longer than max_run, the end of every attempt%s",
                       mr__node_child(node, "max_run") == NULL ? " (1h when it is not given)" : "");
    }
    return r;
}

static enum mr_status build_target(struct mr_builder *builder, enum mr_section_index index,
                                   struct mr_node *node)
{
    struct mr_config *config = builder->config;
    struct mr_target_config *target = &config->targets[config->target_count];
    target->name = mr_strdup(node->key);
    if (target->name == NULL) {
        return MR_E_NOMEM;
    }
    builder->targets.items[builder->targets.count++] = (struct mr_name_entry){
        .name = target->name, .node = node, .index = config->target_count++};
    target->is_worker = index == MR_SECTION_WORKERS;
    config->worker_count += target->is_worker;
    struct mr_target_options options = {0};
    enum mr_status r = read_entry(builder->loader, index, node, &options, &target->kind,
                                  &target->options);
    if (r == MR_OK && target->kind != NULL) {
        r = take_target(builder->loader, node, &options, target);
        r = r == MR_OK ? mr__build_rates(builder->loader, node, &options.rate, &target->rates) : r;
    }
    mr_options_release(mr__sections[index].common, &options);
    return r;
}

static enum mr_status build_limit(struct mr_builder *builder, struct mr_node *node)
{
    struct mr_config *config = builder->config;
    struct mr_limit_config *limit = &config->limits[config->limit_count];
    limit->name = mr_strdup(node->key);
    if (limit->name == NULL) {
        return MR_E_NOMEM;
    }
    builder->limits.items[builder->limits.count++] = (struct mr_name_entry){
        .name = limit->name, .node = node, .index = config->limit_count++};
    if (node->kind != MR_NODE_MAPPING) {
        return mr__report(builder->loader, node,
                          "the limit `%s` wants a mapping: {concurrency: N, rate: N/s}", node->key);
    }
    struct mr_limit_options options = {0};
    const struct mr_beside beside = {.level = mr__sections[MR_SECTION_LIMITS].level};
    enum mr_status r =
        mr__options_read(builder->loader, mr__limit_table, node, &beside, &options);
    limit->concurrency = (uint32_t)options.concurrency;
    r = r == MR_OK ? mr__build_rates(builder->loader, node, &options.rate, &limit->rates) : r;
    if (r == MR_OK && limit->concurrency == 0 && options.rate.count == 0) {
        r = mr__report(builder->loader, node,
                       "the limit `%s` limits nothing: give it a concurrency or a rate", node->key);
    }
    mr_options_release(mr__limit_table, &options);
    return r;
}

/* --- the sections ----------------------------------------------------------------------------- */

static enum mr_status find_section(struct mr_loader *loader, struct mr_node *root,
                                   enum mr_section_index index, uint32_t count_max,
                                   struct mr_node **ret_node)
{
    const char *name = mr__sections[index].name;
    struct mr_node *node =
        root == NULL || root->kind != MR_NODE_MAPPING ? NULL : mr__node_child(root, name);
    *ret_node = NULL;
    if (node == NULL) {
        return MR_OK;
    }
    if (mr__node_is_null(node)) {
        node->flags |= MR_NODE_EMPTY;
        return MR_OK;
    }
    if (node->kind != MR_NODE_MAPPING) {
        return mr__report(loader, node, "`%s` wants a mapping of names to %s", name, name);
    }
    if (node->count > count_max) {
        return mr__report(loader, node, "%u %s are too many: at most %u", node->count, name,
                          count_max);
    }
    *ret_node = node;
    return MR_OK;
}

static enum mr_status build_entries(struct mr_builder *builder, enum mr_section_index index,
                                    const struct mr_node *section)
{
    enum mr_status r = MR_OK;
    struct mr_node *node = section == NULL ? NULL : section->first;
    for (; node != NULL && r == MR_OK; node = node->next) {
        bool ok = false;
        if ((node->flags & MR_NODE_SKIP) == 0) {
            r = mr__check_name(builder->loader, node, &ok);
        }
        if (r == MR_OK && ok) {
            r = index == MR_SECTION_SOURCES  ? build_source(builder, node)
                : index == MR_SECTION_LIMITS ? build_limit(builder, node)
                : index == MR_SECTION_FANOUTS ? mr__build_fanout(builder, node)
                                             : build_target(builder, index, node);
        }
    }
    return r;
}

static uint32_t count_of(const struct mr_node *section)
{
    return section == NULL ? 0 : section->count;
}

static enum mr_status build_sections(struct mr_builder *builder, struct mr_node *root)
{
    struct mr_config *config = builder->config;
    struct mr_loader *loader = builder->loader;
    static const uint32_t count_max[MR_SECTION_MAX] = {MR_SOURCES_MAX, MR_TARGETS_MAX / 2,
                                                       MR_TARGETS_MAX / 2, MR_LIMITS_MAX,
                                                       MR_SUBSCRIPTIONS_MAX, MR_FANOUTS_MAX};
    struct mr_node *nodes[MR_SECTION_MAX];
    enum mr_status r = MR_OK;
    for (size_t i = 0; i < MR_SECTION_MAX && r == MR_OK; i++) {
        r = find_section(loader, root, (enum mr_section_index)i, count_max[i], &nodes[i]);
    }
    if (r != MR_OK) {
        return r;
    }
    uint32_t source_count = count_of(nodes[MR_SECTION_SOURCES]);
    uint32_t target_count =
        count_of(nodes[MR_SECTION_WORKERS]) + count_of(nodes[MR_SECTION_SINKS]);
    config->sources = mr_calloc(source_count + 1, sizeof(*config->sources));
    config->targets = mr_calloc(target_count + 1, sizeof(*config->targets));
    uint32_t limit_count = count_of(nodes[MR_SECTION_LIMITS]);
    config->limits = mr_calloc(limit_count + 1, sizeof(*config->limits));
    uint32_t fanout_count = count_of(nodes[MR_SECTION_FANOUTS]);
    config->fanouts = mr_calloc(fanout_count + 1, sizeof(*config->fanouts));
    if (config->sources == NULL || config->targets == NULL || config->limits == NULL ||
        config->fanouts == NULL) {
        return MR_E_NOMEM;
    }
    r = reserve_names(&builder->sources, source_count);
    if (r == MR_OK) {
        r = reserve_names(&builder->targets, target_count);
    }
    if (r == MR_OK) {
        r = reserve_names(&builder->limits, limit_count);
    }
    for (size_t i = MR_SECTION_SOURCES; i <= MR_SECTION_LIMITS && r == MR_OK; i++) {
        r = build_entries(builder, (enum mr_section_index)i, nodes[i]);
    }
    if (r == MR_OK) {
        r = seal_names(loader, &builder->sources);
    }
    if (r == MR_OK) {
        r = seal_names(loader, &builder->targets);
    }
    if (r == MR_OK) {
        r = seal_names(loader, &builder->limits);
    }
    if (r == MR_OK) {
        r = mr__build_subscriptions(builder, nodes[MR_SECTION_SUBSCRIPTIONS]);
    }
    return r == MR_OK ? build_entries(builder, MR_SECTION_FANOUTS, nodes[MR_SECTION_FANOUTS]) : r;
}

/* --- the whole -------------------------------------------------------------------------------- */

static enum mr_status write_tree(struct mr_node *root, enum mr_node_form form, struct mr_buf *buf)
{
    mr_buf_init(buf, CANONICAL_SIZE_MAX);
    return root == NULL || mr__node_is_null(root) ? mr_buf_append_text(buf, "{}")
                                                  : mr__node_write(root, form, buf);
}

static enum mr_status write_canonical(struct mr_config *config, struct mr_node *root)
{
    struct mr_buf buf;
    enum mr_status r = write_tree(root, MR_NODE_FORM_HASH, &buf);
    if (r == MR_OK) {
        config->hash = mr_hash(buf.data, buf.size);
        for (uint32_t i = 0; i < config->source_count; i++) { /* files may change, names stay */
            const struct mr_validation *validation = config->sources[i].validation;
            config->hash = validation == NULL
                               ? config->hash
                               : mr_hash_u64(config->hash + mr_validation_hash(validation));
        }
    }
    mr_buf_release(&buf);
    if (r == MR_OK) {
        r = write_tree(root, MR_NODE_FORM_CANONICAL, &buf);
        if (r == MR_OK) {
            config->canonical_json = mr_buf_take_text(&buf);
            r = config->canonical_json == NULL ? MR_E_NOMEM : MR_OK;
        }
        mr_buf_release(&buf);
    }
    return r;
}

enum mr_status mr__config_build(struct mr_loader *loader, struct mr_node *root,
                                struct mr_config **ret_config)
{
    struct mr_builder builder = {.loader = loader};
    builder.config = mr_calloc(1, sizeof(*builder.config));
    if (builder.config == NULL) {
        return MR_E_NOMEM;
    }
    enum mr_status r = build_top(&builder, root);
    if (r == MR_OK) {
        r = build_sections(&builder, root);
    }
    r = r == MR_OK ? mr__check_memory(&builder, root) : r;
    if (r == MR_OK && loader->errors->count == 0) {
        r = write_canonical(builder.config, root);
    }
    release_names(&builder.sources);
    release_names(&builder.targets);
    release_names(&builder.limits);
    if (r == MR_OK && loader->errors->count == 0) {
        *ret_config = builder.config;
    } else {
        mr_config_destroy(builder.config);
    }
    return r;
}
