#include "config/validation.h"

#include <stdlib.h>

#include "config/builder.h"
#include "core/alloc.h"
#include "core/hash.h"
#include "core/io.h"
#include "schemas/event.h"
#include "schemas/schema.h"

#define SCHEMA_SIZE_MAX (4u * MR_MIB)
#define SCHEMAS_MAX 10000u

struct entry {
    char *key;                /* owned; a type, or a dataschema */
    struct mr_schema *schema; /* owned */
};

struct table {
    struct entry *entries; /* owned; sorted by key */
    uint32_t count;
};

struct mr_validation {
    struct table types;
    struct table dataschemas;
    bool rejects_others;
};

static void release_table(struct table *table)
{
    for (uint32_t i = 0; i < table->count; i++) {
        mr_free(table->entries[i].key);
        mr_schema_destroy(table->entries[i].schema);
    }
    mr_free(table->entries);
}

void mr_validation_destroy(struct mr_validation *validation)
{
    if (validation != NULL) {
        release_table(&validation->types);
        release_table(&validation->dataschemas);
        mr_free(validation);
    }
}

static enum mr_status read_schema_file(void *context, const char *path, char **ret_text,
                                       size_t *ret_size)
{
    (void)context;
    return mr_file_read(path, SCHEMA_SIZE_MAX, ret_text, ret_size);
}

static const struct mr_schema_files files = {.read = read_schema_file};

/* The schema in the file that @p node names. */
static enum mr_status load_named(struct mr_loader *loader, const struct mr_node *node,
                                 struct mr_schema **ret_schema, struct mr_problem *problem)
{
    char *path = mr__path_absolute(loader->folder, node->text);
    if (path == NULL) {
        return MR_E_NOMEM;
    }
    char *text = NULL;
    size_t size = 0;
    enum mr_status r = read_schema_file(NULL, path, &text, &size);
    if (r == MR_OK) {
        r = mr_schema_create(path, mr_bytes(text, size), &files, ret_schema, problem);
    } else if (r != MR_E_NOMEM) {
        r = mr_problem_set(problem, MR_E_INVALID, "cannot read %s: %s", path, mr_status_text(r));
    }
    mr_free(text);
    mr_free(path);
    return r;
}

/* The schema that is @p node itself, as a file beside the configuration would hold it. */
static enum mr_status load_inline(struct mr_loader *loader, struct mr_node *node,
                                  struct mr_schema **ret_schema, struct mr_problem *problem)
{
    struct mr_buf text;
    mr_buf_init(&text, SCHEMA_SIZE_MAX);
    char *path = mr__path_absolute(loader->folder, "validate");
    enum mr_status r = path == NULL ? MR_E_NOMEM
                                    : mr__node_write(node, MR_NODE_FORM_TYPED, &text);
    if (r == MR_OK) {
        r = mr_schema_create(path, mr_buf_bytes(&text), &files, ret_schema, problem);
    }
    mr_buf_release(&text);
    mr_free(path);
    return r;
}

static bool is_boolean(const struct mr_node *node)
{
    return (node->flags & MR_NODE_PLAIN) != 0 &&
           (strcmp(node->text, "true") == 0 || strcmp(node->text, "false") == 0);
}

static enum mr_status load_schema(struct mr_loader *loader, struct mr_node *node,
                                  struct mr_schema **ret_schema)
{
    struct mr_problem problem = {.text = ""};
    bool is_named = node->kind == MR_NODE_SCALAR && !is_boolean(node);
    if (mr__node_is_null(node) || node->kind == MR_NODE_SEQUENCE) {
        return mr__report(loader, node, "wants a JSON Schema: the path of its file, or a mapping");
    }
    enum mr_status r = is_named ? load_named(loader, node, ret_schema, &problem)
                                : load_inline(loader, node, ret_schema, &problem);
    return r == MR_OK || r == MR_E_NOMEM ? r : mr__report(loader, node, "%s", problem.text);
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

static enum mr_status build_table(struct mr_loader *loader, const struct mr_node *mapping,
                                  struct table *table)
{
    if (mapping == NULL) {
        return MR_OK;
    }
    if (mapping->kind != MR_NODE_MAPPING || mapping->count > SCHEMAS_MAX) {
        return mr__report(loader, mapping, "`%s` wants a mapping to schemas, %u at most",
                          mapping->key, SCHEMAS_MAX);
    }
    table->entries = mr_calloc(mapping->count + 1, sizeof(*table->entries));
    if (table->entries == NULL) {
        return MR_E_NOMEM;
    }
    enum mr_status r = MR_OK;
    for (struct mr_node *node = mapping->first; node != NULL && r == MR_OK; node = node->next) {
        struct entry entry = {0};
        if ((node->flags & MR_NODE_SKIP) != 0) {
            continue;
        }
        r = load_schema(loader, node, &entry.schema);
        entry.key = r == MR_OK && entry.schema != NULL ? mr_strdup(node->key) : NULL;
        if (entry.key != NULL) {
            table->entries[table->count++] = entry;
        } else {
            r = r == MR_OK && entry.schema != NULL ? MR_E_NOMEM : r;
            mr_schema_destroy(entry.schema);
        }
    }
    if (table->count > 1) {
        qsort(table->entries, table->count, sizeof(*table->entries), compare_keys);
    }
    return r;
}

enum mr_status mr__build_validation(struct mr_loader *loader, const struct mr_node *node,
                                    const struct mr_validate_options *options,
                                    struct mr_validation **ret_validation)
{
    if (node == NULL || node->kind != MR_NODE_MAPPING) {
        return MR_OK; /* not there, or wrong and reported */
    }
    struct mr_validation *validation = mr_calloc(1, sizeof(*validation));
    if (validation == NULL) {
        return MR_E_NOMEM;
    }
    validation->rejects_others = options->otherwise == 1;
    enum mr_status r = build_table(loader, mr__node_child(node, "types"), &validation->types);
    r = r == MR_OK ? build_table(loader, mr__node_child(node, "dataschemas"),
                                 &validation->dataschemas)
                   : r;
    *ret_validation = validation; /* kept with the configuration, which frees it */
    return r;
}

enum mr_status mr__build_transform(struct mr_loader *loader, const struct mr_node *entry,
                                   const char *json, char **ret_json)
{
    struct mr_problem problem = {.text = ""};
    if (json == NULL) {
        return MR_OK;
    }
    enum mr_status r = loader->kinds->check_transform == NULL
                           ? MR_OK
                           : loader->kinds->check_transform(mr_bytes_of(json), &problem);
    if (r != MR_OK && r != MR_E_NOMEM) {
        return mr__report(loader, mr__node_child(entry, "transform"), "%s", problem.text);
    }
    *ret_json = mr_strdup(json);
    return *ret_json == NULL ? MR_E_NOMEM : r;
}

/* --- checking --------------------------------------------------------------------------------- */

static const struct mr_schema *find_schema(const struct table *table, struct mr_bytes key)
{
    uint32_t low = 0;
    uint32_t high = table->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = mr_bytes_compare(key, mr_bytes_of(table->entries[middle].key));
        if (order == 0) {
            return table->entries[middle].schema;
        }
        low = order > 0 ? middle + 1 : low;
        high = order > 0 ? high : middle;
    }
    return NULL;
}

enum mr_status mr_validation_check(const struct mr_validation *validation, struct mr_bytes record,
                                   struct mr_problem *problem)
{
    struct mr_bytes dataschema = mr_event_value(record, "dataschema");
    const struct mr_schema *schema =
        dataschema.size > 0 ? find_schema(&validation->dataschemas, dataschema) : NULL;
    schema = schema == NULL ? find_schema(&validation->types, mr_event_type(record)) : schema;
    schema = schema == NULL ? find_schema(&validation->types, MR_BYTES_LITERAL("*")) : schema;
    if (schema == NULL) {
        return validation->rejects_others
                   ? mr_problem_set(problem, MR_E_INVALID,
                                    "no schema is configured for its type or dataschema")
                   : MR_OK;
    }
    if (!mr_event_data_is_json(record)) {
        return mr_problem_set(problem, MR_E_INVALID, "a schema wants JSON, the event has %s",
                              mr_event_has_data(record) ? "other data" : "no data");
    }
    return mr_schema_check(schema, mr_event_data(record), problem);
}

static uint64_t hash_table(const struct table *table)
{
    uint64_t hash = table->count;
    for (uint32_t i = 0; i < table->count; i++) {
        const struct entry *entry = &table->entries[i];
        hash = mr_hash_u64(hash + mr_hash(entry->key, strlen(entry->key))) +
               mr_schema_hash(entry->schema);
    }
    return hash;
}

uint64_t mr_validation_hash(const struct mr_validation *validation)
{
    return mr_hash_u64(hash_table(&validation->types) * 31 +
                       hash_table(&validation->dataschemas) * 2 + validation->rejects_others);
}
