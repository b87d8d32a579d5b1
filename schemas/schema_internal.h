/* A compiled schema, shared by the files that make it and the one that runs it. Private to
 * schemas/.
 *
 * A node is a place where a schema stands; its ops are the keywords there, in the order in which
 * they are applied: cheap ones first, `unevaluated…` last. Ops lead to nodes by number. */
#ifndef MR_SCHEMAS_SCHEMA_INTERNAL_H
#define MR_SCHEMAS_SCHEMA_INTERNAL_H

#include "core/limits.h"
#include "schemas/json_tree.h"
#include "schemas/regex.h"
#include "schemas/schema.h"

#define MR__NODE_NONE UINT32_MAX

enum mr__draft {
    MR__DRAFT_7 = 1,
    MR__DRAFT_2020 = 2,
};

enum mr__schema_op {
    MR__OP_TYPE = 0, /* a: bits by enum mr__json_kind, and MR__TYPE_INTEGER */
    MR__OP_CONST,
    MR__OP_ENUM,
    MR__OP_MULTIPLE_OF,
    MR__OP_MAXIMUM,
    MR__OP_BELOW, /* exclusiveMaximum */
    MR__OP_MINIMUM,
    MR__OP_ABOVE,
    MR__OP_MAX_LENGTH, /* a: the bound, with this and the next five */
    MR__OP_MIN_LENGTH,
    MR__OP_MAX_ITEMS,
    MR__OP_MIN_ITEMS,
    MR__OP_MAX_PROPERTIES,
    MR__OP_MIN_PROPERTIES,
    MR__OP_PATTERN,  /* a: regex */
    MR__OP_REQUIRED,
    MR__OP_UNIQUE,
    MR__OP_DEPENDENT_REQUIRED, /* of a mapping of arrays; schemas in it are skipped */
    MR__OP_DEPENDENT_SCHEMAS,  /* a: first entry, b: count */
    MR__OP_REF,                /* a: node */
    MR__OP_MEMBERS,            /* a: of the members; properties and their kin */
    MR__OP_NAMES,              /* a: node */
    MR__OP_ITEMS,              /* a: first of list, b: count, c: node of the rest */
    MR__OP_CONTAINS,           /* a: node, b: min, c: max */
    MR__OP_ALL,                /* a: first of list, b: count */
    MR__OP_ANY,
    MR__OP_ONE,
    MR__OP_NOT, /* a: node */
    MR__OP_IF,  /* a: if, b: then, c: else */
    MR__OP_UNEVALUATED_ITEMS,
    MR__OP_UNEVALUATED_PROPERTIES,
};

#define MR__TYPE_INTEGER 0x80u

struct mr__op {
    uint8_t kind; /* enum mr__schema_op */
    uint32_t at;  /* the keyword's value in the document of its node */
    uint32_t a;
    uint32_t b;
    uint32_t c;
};

struct mr__node {
    uint32_t document;
    uint32_t at;
    uint32_t resource;
    uint32_t op_first;
    uint32_t op_count;
    bool is_false; /* the schema `false`: it takes nothing */
};

struct mr__entry { /* a name, or an expression for names, and the schema of such members */
    struct mr_bytes name; /* borrowed from a document */
    uint32_t regex;
    uint32_t node;
};

struct mr__members {
    uint32_t named_first; /* entries, sorted by name */
    uint32_t named_count;
    uint32_t pattern_first;
    uint32_t pattern_count;
    uint32_t rest; /* node of additionalProperties, or MR__NODE_NONE */
};

struct mr__document {
    char *path; /* owned */
    char *text; /* owned */
    struct mr__json_tree tree;
    uint32_t *node_of; /* owned; by value: its node + 1; 0: no schema stands there */
    uint32_t resource; /* of the whole */
    enum mr__draft draft;
};

struct mr__resource { /* what has a URI: a document, or a schema with an $id */
    char *uri;        /* owned; without a fragment */
    uint32_t document;
    uint32_t node;
};

struct mr__anchor {
    struct mr_bytes name; /* borrowed from a document */
    uint32_t resource;
    uint32_t node;
};

/* Grown by mr__grow(): each `…_capacity` belongs to the member before its count. */
struct mr_schema {
    struct mr__document *documents; /* owned, as all below */
    uint32_t document_count;
    uint32_t document_capacity;
    struct mr__node *nodes;
    uint32_t node_count;
    uint32_t node_capacity;
    struct mr__op *ops;
    uint32_t op_count;
    uint32_t op_capacity;
    struct mr__entry *entries;
    uint32_t entry_count;
    uint32_t entry_capacity;
    struct mr__members *members;
    uint32_t members_count;
    uint32_t members_capacity;
    uint32_t *list; /* nodes */
    uint32_t list_count;
    uint32_t list_capacity;
    struct mr_regex **regexes;
    uint32_t regex_count;
    uint32_t regex_capacity;
    struct mr__resource *resources;
    uint32_t resource_count;
    uint32_t resource_capacity;
    struct mr__anchor *anchors;
    uint32_t anchor_count;
    uint32_t anchor_capacity;
    uint32_t scratch; /* of the regex that wants most */
    bool tracks;      /* some node asks what was not evaluated */
};

struct mr__schema_maker {
    struct mr_schema *schema;            /* borrowed */
    const struct mr_schema_files *files; /* borrowed; NULL: none */
    struct mr_problem *problem;          /* borrowed */
    uint32_t node;                       /* whose keywords are compiled now */
    uint32_t compiled;                   /* nodes before this one are */
    uint32_t resolved;                   /* ops before this one have their node */
};

/** Room for one more item of @p size bytes. */
MR_MUST_USE enum mr_status mr__grow(void **items, uint32_t count, uint32_t *capacity, size_t size);
/** A refusal at value @p at of the document of the present node. */
enum mr_status mr__schema_refuse(const struct mr__schema_maker *maker, uint32_t at,
                                 enum mr_status status, const char *reason);
/** Appends `order.json#/properties/total`. */
MR_MUST_USE enum mr_status mr__schema_place(const struct mr_schema *schema, uint32_t document,
                                            uint32_t at, struct mr_buf *out);

/* schema_document.c */

/** Reads a document, and makes it a resource with the node of its root.
 * @param text owned by the schema then, also on failure */
MR_MUST_USE enum mr_status mr__schema_add_document(struct mr__schema_maker *maker, const char *path,
                                                   char *text, size_t size, uint32_t *ret_node);
/** The `$id` of the present node, a string: it begins a resource, or names a place. */
MR_MUST_USE enum mr_status mr__schema_take_id(struct mr__schema_maker *maker, uint32_t at);
/** The `$anchor` of the present node, a string. */
MR_MUST_USE enum mr_status mr__schema_take_anchor(struct mr__schema_maker *maker, uint32_t at);
/** The node that a `$ref` of @p node at value @p at, a string, leads to, its file being read if
 * need be. MR__NODE_NONE: none yet, there are nodes to compile first, or none at all. */
MR_MUST_USE enum mr_status mr__schema_resolve(struct mr__schema_maker *maker, uint32_t node,
                                              uint32_t at, uint32_t *ret_node);

/* schema_compile.c */

/** The node at value @p at of @p document, made now if there was none.
 * @param resource that it belongs to */
MR_MUST_USE enum mr_status mr__schema_add_node(struct mr__schema_maker *maker, uint32_t document,
                                               uint32_t at, uint32_t resource, uint32_t *ret_node);

#endif
