/* The tree of a parsed configuration: mappings, sequences and scalars with their places. Internal
 * to config/.
 *
 * All nodes and texts of a tree lie in chunks that are wiped and freed together, so a tree needs
 * no walk to be destroyed and leaves no secret behind. Bounded: size of the text, depth, number of
 * nodes. Scalars are never typed here; the option tables do that. One thread. */
#ifndef MR_CONFIG_NODE_H
#define MR_CONFIG_NODE_H

#include "core/bytes.h"
#include "core/limits.h"
#include "core/problem.h"

#define MR_CONFIG_NODES_MAX 1000000u /* 100 bytes each; 10 000 subscriptions need 300 000 */
#define MR_CONFIG_FILES_MAX 1024u    /* fragments of one folder */

enum mr_node_kind {
    MR_NODE_SCALAR = 0,
    MR_NODE_MAPPING,
    MR_NODE_SEQUENCE,
};

enum mr_node_flags {
    MR_NODE_PLAIN = 1,     /* scalar without quotes */
    MR_NODE_SKIP = 2,      /* reported already, or read by somebody else than the option table */
    MR_NODE_SECRET = 4,    /* printed as "***" */
    MR_NODE_URL = 8,       /* printed without its password */
    MR_NODE_REFERENCE = 16, /* holds ${…}: printed as it was written */
    MR_NODE_LITERAL = 32,  /* an integer or a boolean: printed without quotes */
    MR_NODE_TYPED = 64,    /* free JSON: plain null, true, false and numbers are not strings */
    MR_NODE_EMPTY = 128,   /* nothing given where a mapping stands: printed as {} */
};

struct mr_node {
    const char *key;         /* in the tree; NULL unless the parent is a mapping */
    const char *text;        /* in the tree; of a scalar, NUL-terminated, no NUL inside */
    struct mr_node *first;   /* children, in file order */
    struct mr_node *last;
    struct mr_node *next;    /* sibling */
    struct mr_node *mapping; /* the tree's mappings, latest first */
    uint64_t hash;           /* of the resolved value, of a text setting */
    uint32_t text_size;
    uint32_t count; /* of children */
    uint32_t line;  /* of the key when there is one, else of the value; 1-based */
    uint32_t column;
    uint16_t file; /* index */
    uint8_t kind;  /* enum mr_node_kind */
    uint8_t flags;
};

struct mr_tree {
    struct mr_tree_chunk *chunks; /* owned */
    struct mr_node *mappings;     /* list by ->mapping */
    const char *files[MR_CONFIG_FILES_MAX]; /* in the tree */
    uint32_t file_count;
    uint32_t node_count;
};

/* Where reading stopped. */
struct mr_node_place {
    uint32_t line;
    uint32_t column;
};

void mr__tree_init(struct mr_tree *tree);
void mr__tree_release(struct mr_tree *tree);

/** A new node without text or children; NULL when memory is short. */
MR_MUST_USE struct mr_node *mr__tree_node(struct mr_tree *tree, enum mr_node_kind kind);
/** A NUL-terminated copy of @p text that lives as long as @p tree; NULL when memory is short. */
MR_MUST_USE const char *mr__tree_text(struct mr_tree *tree, struct mr_bytes text);
void mr__node_add(struct mr_node *parent, struct mr_node *child);

/** Reads one YAML (or JSON) document with libyaml.
 * @param file index of the file, for the places
 * @param[out] ret_root a mapping, sequence or scalar; NULL for an empty document
 * @param[out] ret_place set with the problem
 * @return MR_E_INVALID with the problem; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__tree_read(struct mr_tree *tree, uint16_t file, struct mr_bytes text,
                                         struct mr_node **ret_root, struct mr_node_place *ret_place,
                                         struct mr_problem *problem);

/** The child under @p key that is not to be skipped, or NULL. */
struct mr_node *mr__node_child(const struct mr_node *mapping, const char *key);
/** Item @p i of a setting that is one value or a list: @p node itself unless it is a list that
 * has it. Walks the list. */
const struct mr_node *mr__node_item(const struct mr_node *node, uint32_t i);
/** Whether nothing stands there: ``, `~` or `null` without quotes. */
bool mr__node_is_null(const struct mr_node *node);

enum mr_node_form {
    MR_NODE_FORM_TEXT = 0,  /* every scalar is a string */
    MR_NODE_FORM_TYPED,     /* plain null, booleans and numbers as JSON has them; marks the nodes */
    MR_NODE_FORM_CANONICAL, /* by the nodes' flags, nothing secret */
    MR_NODE_FORM_HASH,      /* the same with the hash of every value that is not shown */
};
/** Appends @p node and all below as JSON without blanks. */
MR_MUST_USE enum mr_status mr__node_write(struct mr_node *node, enum mr_node_form form,
                                          struct mr_buf *out);

#endif
