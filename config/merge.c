#include "config/merge.h"

#include <stdlib.h>

#include "config/tables.h"
#include "core/alloc.h"

#define FEW 32u

static int compare_nodes(const void *a, const void *b)
{
    const struct mr_node *left = *(struct mr_node *const *)a;
    const struct mr_node *right = *(struct mr_node *const *)b;
    int order = strcmp(left->key, right->key);
    if (order == 0) {
        order = (left->file > right->file) - (left->file < right->file);
    }
    if (order == 0) {
        order = (left->line > right->line) - (left->line < right->line);
    }
    return order == 0 ? (left->column > right->column) - (left->column < right->column) : order;
}

static enum mr_status report_twice(struct mr_loader *loader, struct mr_node **nodes, size_t count)
{
    enum mr_status r = MR_OK;
    const struct mr_node *first = nodes[0];
    for (size_t i = 1; i < count && r == MR_OK; i++) {
        if (strcmp(first->key, nodes[i]->key) != 0) {
            first = nodes[i];
            continue;
        }
        nodes[i]->flags |= MR_NODE_SKIP;
        r = mr__report(loader, nodes[i], "`%.64s` is defined twice; the first is at %s:%u:%u",
                       first->key, loader->tree.files[first->file], first->line, first->column);
    }
    return r;
}

static enum mr_status check_mapping(struct mr_loader *loader, const struct mr_node *mapping)
{
    if (mapping->count < 2) {
        return MR_OK;
    }
    struct mr_node *few[FEW];
    struct mr_node **nodes = few;
    if (mapping->count > FEW) {
        nodes = mr_calloc(mapping->count, sizeof(struct mr_node *));
        if (nodes == NULL) {
            return MR_E_NOMEM;
        }
    }
    size_t count = 0;
    for (struct mr_node *node = mapping->first; node != NULL; node = node->next) {
        if ((node->flags & MR_NODE_SKIP) == 0) {
            nodes[count++] = node;
        }
    }
    enum mr_status r = MR_OK;
    if (count > 1) {
        qsort(nodes, count, sizeof(*nodes), compare_nodes);
        r = report_twice(loader, nodes, count);
    }
    if (nodes != few) {
        mr_free(nodes);
    }
    return r;
}

enum mr_status mr__check_twice(struct mr_loader *loader)
{
    enum mr_status r = MR_OK;
    while (loader->tree.mappings != NULL && r == MR_OK) {
        struct mr_node *mapping = loader->tree.mappings;
        loader->tree.mappings = mapping->mapping;
        r = check_mapping(loader, mapping);
    }
    return r;
}

static bool is_section(const char *key)
{
    for (size_t i = 0; i < MR_SECTION_MAX; i++) {
        if (strcmp(mr__sections[i].name, key) == 0) {
            return true;
        }
    }
    return false;
}

static void move_children(struct mr_node *from, struct mr_node *to)
{
    struct mr_node *child = from->first;
    from->first = NULL;
    from->last = NULL;
    from->count = 0;
    while (child != NULL) {
        struct mr_node *next = child->next;
        child->next = NULL;
        mr__node_add(to, child);
        child = next;
    }
}

void mr__merge(struct mr_node *root, struct mr_node *document)
{
    struct mr_node *node = document->first;
    while (node != NULL) {
        struct mr_node *next = node->next;
        node->next = NULL;
        struct mr_node *there =
            (node->flags & MR_NODE_SKIP) == 0 && is_section(node->key)
                ? mr__node_child(root, node->key)
                : NULL;
        if (there != NULL && there->kind == MR_NODE_MAPPING && node->kind == MR_NODE_MAPPING) {
            move_children(node, there);
        } else if (there != NULL && mr__node_is_null(node)) {
            node->flags |= MR_NODE_SKIP; /* an empty section adds nothing */
        } else {
            if (there != NULL && mr__node_is_null(there)) {
                there->flags |= MR_NODE_SKIP;
            }
            mr__node_add(root, node);
        }
        node = next;
    }
    document->first = NULL;
    document->last = NULL;
    document->count = 0;
}

enum mr_status mr__check_merged(struct mr_loader *loader, struct mr_node *root)
{
    enum mr_status r = check_mapping(loader, root);
    for (struct mr_node *node = root->first; node != NULL && r == MR_OK; node = node->next) {
        if (node->kind == MR_NODE_MAPPING && (node->flags & MR_NODE_SKIP) == 0 &&
            is_section(node->key)) {
            r = check_mapping(loader, node);
        }
    }
    return r;
}
