#include "config/node.h"

#include <inttypes.h>

#include "config/redact.h"
#include "core/alloc.h"
#include "core/assert.h"

#define CHUNK_SIZE (32u * MR_KIB)

struct mr_tree_chunk {
    struct mr_tree_chunk *next;
    size_t size;
    size_t used;
    max_align_t data[];
};

void mr__tree_init(struct mr_tree *tree)
{
    memset(tree, 0, sizeof(*tree));
}

void mr__tree_release(struct mr_tree *tree)
{
    while (tree->chunks != NULL) {
        struct mr_tree_chunk *chunk = tree->chunks;
        tree->chunks = chunk->next;
        explicit_bzero(chunk->data, chunk->used);
        mr_free(chunk);
    }
    mr__tree_init(tree);
}

static void *take_memory(struct mr_tree *tree, size_t size)
{
    size = mr_round_up(size, _Alignof(max_align_t));
    struct mr_tree_chunk *chunk = tree->chunks;
    if (chunk == NULL || chunk->size - chunk->used < size) {
        size_t room = size > CHUNK_SIZE ? size : CHUNK_SIZE;
        chunk = mr_alloc(sizeof(*chunk) + room);
        if (chunk == NULL) {
            return NULL;
        }
        *chunk = (struct mr_tree_chunk){.next = tree->chunks, .size = room};
        tree->chunks = chunk;
    }
    void *memory = (uint8_t *)chunk->data + chunk->used;
    chunk->used += size;
    return memory;
}

struct mr_node *mr__tree_node(struct mr_tree *tree, enum mr_node_kind kind)
{
    struct mr_node *node = take_memory(tree, sizeof(*node));
    if (node != NULL) {
        *node = (struct mr_node){.kind = (uint8_t)kind};
        tree->node_count++;
        if (kind == MR_NODE_MAPPING) {
            node->mapping = tree->mappings;
            tree->mappings = node;
        }
    }
    return node;
}

const char *mr__tree_text(struct mr_tree *tree, struct mr_bytes text)
{
    char *copy = take_memory(tree, text.size + 1);
    if (copy != NULL) {
        if (text.size > 0) {
            memcpy(copy, text.data, text.size);
        }
        copy[text.size] = '\0';
    }
    return copy;
}

void mr__node_add(struct mr_node *parent, struct mr_node *child)
{
    MR_ASSERT(child->next == NULL);
    if (parent->last == NULL) {
        parent->first = child;
    } else {
        parent->last->next = child;
    }
    parent->last = child;
    parent->count++;
}

struct mr_node *mr__node_child(const struct mr_node *mapping, const char *key)
{
    bool has_keys = mapping->kind == MR_NODE_MAPPING; /* else it is reported elsewhere */
    for (struct mr_node *child = has_keys ? mapping->first : NULL; child != NULL;
         child = child->next) {
        if ((child->flags & MR_NODE_SKIP) == 0 && strcmp(child->key, key) == 0) {
            return child;
        }
    }
    return NULL;
}

const struct mr_node *mr__node_item(const struct mr_node *node, uint32_t i)
{
    const struct mr_node *item = node->kind == MR_NODE_SEQUENCE ? node->first : NULL;
    while (item != NULL && i > 0) {
        item = item->next;
        i--;
    }
    return item == NULL ? node : item;
}

bool mr__node_is_null(const struct mr_node *node)
{
    return node->kind == MR_NODE_SCALAR && (node->flags & MR_NODE_PLAIN) != 0 &&
           (node->text_size == 0 || strcmp(node->text, "~") == 0 ||
            strcmp(node->text, "null") == 0);
}

/* Whether @p p is a number as RFC 8259 writes it. */
static bool is_json_number(const char *p)
{
    p += *p == '-';
    size_t digits = strspn(p, "0123456789");
    if (digits == 0 || (digits > 1 && *p == '0')) {
        return false;
    }
    p += digits;
    if (*p == '.') {
        digits = strspn(p + 1, "0123456789");
        if (digits == 0) {
            return false;
        }
        p += 1 + digits;
    }
    if (*p == 'e' || *p == 'E') {
        p++;
        p += *p == '+' || *p == '-';
        digits = strspn(p, "0123456789");
        if (digits == 0) {
            return false;
        }
        p += digits;
    }
    return *p == '\0';
}

static enum mr_status write_typed(const struct mr_node *node, struct mr_buf *out)
{
    if (mr__node_is_null(node)) {
        return mr_buf_append_text(out, "null");
    }
    if ((node->flags & MR_NODE_PLAIN) != 0 &&
        (strcmp(node->text, "true") == 0 || strcmp(node->text, "false") == 0 ||
         is_json_number(node->text))) {
        return mr_buf_append_text(out, node->text);
    }
    return mr_buf_append_json(out, mr_bytes(node->text, node->text_size));
}

static enum mr_status write_scalar(struct mr_node *node, enum mr_node_form form,
                                   struct mr_buf *out)
{
    if (form == MR_NODE_FORM_TYPED) {
        node->flags |= MR_NODE_TYPED;
        return write_typed(node, out);
    }
    struct mr_bytes text = mr_bytes(node->text, node->text_size);
    if (form == MR_NODE_FORM_HASH &&
        (node->flags & (MR_NODE_SECRET | MR_NODE_URL | MR_NODE_REFERENCE)) != 0) {
        return mr_buf_printf(out, "#%016" PRIx64, node->hash);
    }
    if (form == MR_NODE_FORM_CANONICAL || form == MR_NODE_FORM_HASH) {
        if ((node->flags & MR_NODE_SECRET) != 0) {
            return mr_buf_append_text(out, "\"***\"");
        }
        if ((node->flags & MR_NODE_URL) != 0) {
            return mr__redact_url(text, out);
        }
        if ((node->flags & MR_NODE_LITERAL) != 0) {
            return mr_buf_append_bytes(out, text);
        }
        if ((node->flags & MR_NODE_EMPTY) != 0) {
            return mr_buf_append_text(out, "{}");
        }
        if ((node->flags & MR_NODE_TYPED) != 0) {
            return write_typed(node, out);
        }
    }
    return mr_buf_append_json(out, text);
}

static enum mr_status write_key(const struct mr_node *node, struct mr_buf *out)
{
    enum mr_status r = MR_OK;
    if (node->key != NULL) {
        r = mr_buf_append_json(out, mr_bytes_of(node->key));
        if (r == MR_OK) {
            r = mr_buf_append_byte(out, ':');
        }
    }
    return r;
}

enum mr_status mr__node_write(struct mr_node *node, enum mr_node_form form, struct mr_buf *out)
{
    /* The way down to where we are; the merged root and its sections add no depth. */
    struct mr_node *way[MR_CONFIG_DEPTH_MAX + 1];
    uint32_t depth = 0;
    enum mr_status r = MR_OK;
    struct mr_node *at = node;
    while (r == MR_OK) {
        bool is_leaf = at->kind == MR_NODE_SCALAR || at->first == NULL;
        if (at->kind == MR_NODE_SCALAR) {
            r = write_scalar(at, form, out);
        } else {
            r = mr_buf_append_text(out, at->kind == MR_NODE_MAPPING ? (is_leaf ? "{}" : "{")
                                                                    : (is_leaf ? "[]" : "["));
        }
        if (!is_leaf) {
            MR_ASSERT(depth <= MR_CONFIG_DEPTH_MAX);
            way[depth++] = at;
            at = at->first;
        } else {
            while (depth > 0 && at->next == NULL && r == MR_OK) {
                at = way[--depth];
                r = mr_buf_append_byte(out, at->kind == MR_NODE_MAPPING ? '}' : ']');
            }
            if (depth == 0) {
                break;
            }
            at = at->next;
            if (r == MR_OK) {
                r = mr_buf_append_byte(out, ',');
            }
        }
        if (r == MR_OK) {
            r = write_key(at, out);
        }
    }
    return r;
}
