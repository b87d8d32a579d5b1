/* Owns the way from a mapping of the tree to a block of settings, driven by the option table. */
#include "config/loader.h"
#include "config/option_value.h"
#include "config/redact.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/hash.h"

#define KEYS_SHOWN_MAX 64 /* candidates for the nearest key */

static const char *const kind_words[] = {
    [MR_NODE_SCALAR] = "a single value",
    [MR_NODE_MAPPING] = "a mapping",
    [MR_NODE_SEQUENCE] = "a list",
};

static const struct mr_option *find_row(const struct mr_option *table, const char *name)
{
    for (const struct mr_option *row = table; row->name != NULL; row++) {
        if (strcmp(row->name, name) == 0) {
            return row;
        }
    }
    return NULL;
}

static uint32_t collect_keys(const struct mr_option *table, const struct mr_beside *beside,
                             const char *keys[KEYS_SHOWN_MAX])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < beside->word_count && count < KEYS_SHOWN_MAX; i++) {
        keys[count++] = beside->words[i];
    }
    for (const struct mr_option *row = table; row->name != NULL && count < KEYS_SHOWN_MAX; row++) {
        keys[count++] = row->name;
    }
    return count;
}

static enum mr_status report_unknown(struct mr_loader *loader, const struct mr_option *table,
                                     const struct mr_node *node, const struct mr_beside *beside)
{
    if (loader->errors->count == MR_CONFIG_ERRORS_MAX) {
        loader->errors->more = true; /* nothing more is shown: do not search for half a million */
        return MR_OK;
    }
    if (mr__is_later(beside->level, node->key)) {
        return mr__report(loader, node, "`%s` is not available in this release", node->key);
    }
    const char *keys[KEYS_SHOWN_MAX];
    uint32_t count = collect_keys(table, beside, keys);
    const char *nearest = mr_nearest_word(node->key, keys, count);
    if (nearest != NULL) {
        return mr__report(loader, node, "unknown key `%.64s`, did you mean `%s`?", node->key,
                          nearest);
    }
    if (count == 0) {
        return mr__report(loader, node, "unknown key `%.64s`: nothing can be set here", node->key);
    }
    char list[320];
    mr__words_join(keys, count, list, sizeof(list));
    return mr__report(loader, node, "unknown key `%.64s`; here can stand: %s", node->key, list);
}

/* Resolves the references of @p node. *ret_text is NULL when something was reported. */
static enum mr_status expand_node(struct mr_loader *loader, struct mr_node *node, char **ret_text)
{
    struct mr_problem problem;
    bool had = false;
    char *text = NULL;
    enum mr_status r =
        mr__expand(mr_bytes(node->text, node->text_size), loader->folder, &text, &had, &problem);
    if (r == MR_E_INVALID) {
        *ret_text = NULL;
        return mr__report(loader, node, "%s", problem.text);
    }
    if (r == MR_OK) {
        if (had) {
            node->flags |= MR_NODE_REFERENCE;
        }
        node->hash = mr_hash(text, strlen(text));
        *ret_text = text;
    }
    return r;
}

static bool takes_references(enum mr_option_type type)
{
    return type == MR_OPTION_STRING || type == MR_OPTION_SECRET || type == MR_OPTION_URL ||
           type == MR_OPTION_PATH || type == MR_OPTION_STRINGS || type == MR_OPTION_PAIRS;
}

static enum mr_status read_one(struct mr_loader *loader, const struct mr_option *row,
                               struct mr_node *node, void *field)
{
    char *text = NULL;
    struct mr_problem problem;
    if (row->type == MR_OPTION_SECRET) {
        node->flags |= MR_NODE_SECRET;
    } else if (row->type == MR_OPTION_URL) {
        node->flags |= MR_NODE_URL;
    } else if (row->type == MR_OPTION_BOOL || row->type == MR_OPTION_INT) {
        node->flags |= MR_NODE_LITERAL;
    }
    if (takes_references(row->type)) {
        enum mr_status r = expand_node(loader, node, &text);
        if (r != MR_OK || text == NULL) {
            return r;
        }
    } else if (strstr(node->text, "${") != NULL) {
        return mr__report(loader, node,
                          "`%s` takes no reference (`${…}`): only text values, URLs, paths and "
                          "secrets do",
                          row->name);
    }
    enum mr_status r =
        mr__option_set(row, field, text == NULL ? node->text : text, loader->folder, &problem);
    if (r == MR_E_INVALID || r == MR_E_TOO_BIG) {
        r = mr__report(loader, node, "%s: %s", row->name, problem.text);
    }
    mr__wipe_free(text);
    return r;
}

static enum mr_status add_string(struct mr_loader *loader, struct mr_node *node,
                                 struct mr_strings *to)
{
    if (node->kind != MR_NODE_SCALAR || mr__node_is_null(node)) {
        return mr__report(loader, node, "wants text here, not %s",
                          mr__node_is_null(node) ? "nothing" : kind_words[node->kind]);
    }
    char *text;
    enum mr_status r = expand_node(loader, node, &text);
    if (r == MR_OK && text != NULL) {
        r = mr__strings_add(to, text);
        mr__wipe_free(text);
    }
    return r;
}

static enum mr_status read_strings(struct mr_loader *loader, const struct mr_option *row,
                                   struct mr_node *node, struct mr_strings *to)
{
    if (node->kind == MR_NODE_MAPPING) {
        return mr__report(loader, node, "`%s` wants text or a list of texts, not a mapping",
                          row->name);
    }
    if (node->kind == MR_NODE_SCALAR) {
        return add_string(loader, node, to);
    }
    enum mr_status r = MR_OK;
    for (struct mr_node *item = node->first; item != NULL && r == MR_OK; item = item->next) {
        r = add_string(loader, item, to);
    }
    return r;
}

static enum mr_status read_pairs(struct mr_loader *loader, const struct mr_option *row,
                                 struct mr_node *node, struct mr_pairs *to)
{
    if (node->kind != MR_NODE_MAPPING) {
        return mr__report(loader, node, "`%s` wants a mapping of names to texts, not %s", row->name,
                          kind_words[node->kind]);
    }
    enum mr_status r = MR_OK;
    for (struct mr_node *item = node->first; item != NULL && r == MR_OK; item = item->next) {
        if ((item->flags & MR_NODE_SKIP) != 0) {
            continue;
        }
        uint32_t count = to->values.count;
        r = add_string(loader, item, &to->values);
        if ((item->flags & MR_NODE_REFERENCE) == 0 && mr_redact_key(item->key)) {
            item->flags |= MR_NODE_SECRET;
        }
        if (r == MR_OK && to->values.count > count) {
            r = mr__strings_add(&to->keys, item->key);
        }
    }
    return r;
}

static enum mr_status read_json(const struct mr_option *row, struct mr_node *node, char **to)
{
    struct mr_buf buf;
    mr_buf_init(&buf, MR_CONFIG_SIZE_MAX * 8u);
    enum mr_status r = mr__node_write(
        node, (row->flags & MR_OPTION_TEXTUAL) != 0 ? MR_NODE_FORM_TEXT : MR_NODE_FORM_TYPED, &buf);
    if (r == MR_OK) {
        *to = mr_buf_take_text(&buf);
        r = *to == NULL ? MR_E_NOMEM : MR_OK;
    }
    mr_buf_release(&buf);
    return r;
}

static enum mr_status read_value(struct mr_loader *loader, const struct mr_option *row,
                                 struct mr_node *node, void *block)
{
    void *field = (uint8_t *)block + row->at;
    if (row->type == MR_OPTION_BLOCK) {
        const struct mr_beside beside = {.level = row->name};
        return mr__options_read(loader, row->block, node, &beside, field);
    }
    if (row->type == MR_OPTION_JSON) {
        return read_json(row, node, field);
    }
    if (mr__node_is_null(node)) {
        return mr__report(loader, node, "`%s` has no value", row->name);
    }
    if (row->type == MR_OPTION_STRINGS) {
        return read_strings(loader, row, node, field);
    }
    if (row->type == MR_OPTION_PAIRS) {
        return read_pairs(loader, row, node, field);
    }
    if (node->kind != MR_NODE_SCALAR) {
        return mr__report(loader, node, "`%s` wants a single value, not %s", row->name,
                          kind_words[node->kind]);
    }
    return read_one(loader, row, node, field);
}

static bool is_beside(const struct mr_beside *beside, const char *key)
{
    for (uint32_t i = 0; i < beside->word_count; i++) {
        if (strcmp(beside->words[i], key) == 0) {
            return true;
        }
    }
    return false;
}

static enum mr_status read_given(struct mr_loader *loader, const struct mr_option *table,
                                 const struct mr_node *mapping, const struct mr_beside *beside,
                                 void *block)
{
    enum mr_status r = MR_OK;
    for (struct mr_node *node = mapping->first; node != NULL && r == MR_OK; node = node->next) {
        if ((node->flags & MR_NODE_SKIP) != 0 || is_beside(beside, node->key)) {
            continue;
        }
        const struct mr_option *row = find_row(table, node->key);
        r = row == NULL ? report_unknown(loader, table, node, beside)
                        : read_value(loader, row, node, block);
    }
    return r;
}

enum mr_status mr__options_read(struct mr_loader *loader, const struct mr_option *table,
                                struct mr_node *mapping, const struct mr_beside *beside,
                                void *block)
{
    enum mr_status r = MR_OK;
    bool is_null = mapping == NULL || mr__node_is_null(mapping);
    if (!is_null && mapping->kind != MR_NODE_MAPPING) {
        return mr__report(loader, mapping, "`%s` wants a mapping, not %s",
                          mapping->key == NULL ? "the file" : mapping->key,
                          kind_words[mapping->kind]);
    }
    if (!is_null) {
        r = read_given(loader, table, mapping, beside, block);
    } else if (mapping != NULL) {
        mapping->flags |= MR_NODE_EMPTY;
    }
    for (const struct mr_option *row = table; row->name != NULL && r == MR_OK; row++) {
        if (!is_null && mr__node_child(mapping, row->name) != NULL) {
            continue;
        }
        if ((row->flags & MR_OPTION_REQUIRED) != 0) {
            r = mr__report(loader, mapping, "`%s` is missing: %s", row->name, row->help);
        } else {
            r = mr__option_default(row, block, loader->folder);
        }
    }
    return r;
}
