/* A JSON document as a flat table of values in the order of the text, for what has to look at it
 * more than once (schemas). Numbers stay text, strings are unescaped, nothing recurses.
 *
 * Value 0 is the whole. The children of an array are its elements; those of an object are name,
 * value, name, value: a name is a value of its own. Private to schemas/. */
#ifndef MR_SCHEMAS_JSON_TREE_H
#define MR_SCHEMAS_JSON_TREE_H

#include "core/bytes.h"
#include "core/problem.h"

enum mr__json_kind {
    MR__JSON_NULL = 0,
    MR__JSON_BOOLEAN,
    MR__JSON_NUMBER,
    MR__JSON_STRING,
    MR__JSON_ARRAY,
    MR__JSON_OBJECT,
};

struct mr__json_value {
    struct mr_bytes text; /* STRING: unescaped; else as written. Borrowed from text or arena */
    uint32_t parent;
    uint32_t first; /* child; 0: none */
    uint32_t next;  /* sibling; 0: none */
    uint32_t count; /* elements, or members */
    uint8_t kind;   /* enum mr__json_kind */
};

struct mr__json_tree {
    struct mr__json_value *values; /* owned */
    uint32_t count;
    uint32_t capacity;
    uint8_t *arena; /* owned; NULL until a string has escapes */
    size_t arena_used;
};

/** @param text borrowed as long as the tree
 * @param values_max names count
 * @return MR_E_INVALID with the place and the reason, MR_E_TOO_BIG, MR_E_NOMEM: nothing to
 * release */
MR_MUST_USE enum mr_status mr__json_tree_read(struct mr__json_tree *tree, struct mr_bytes text,
                                              uint32_t values_max, struct mr_problem *problem);
void mr__json_tree_release(struct mr__json_tree *tree);

/** The value of the member @p name of @p object (the first of them), or 0. */
uint32_t mr__json_member(const struct mr__json_tree *tree, uint32_t object, struct mr_bytes name);

/** Appends the way to @p value as a JSON Pointer (RFC 6901); "" for the whole. */
MR_MUST_USE enum mr_status mr__json_pointer(const struct mr__json_tree *tree, uint32_t value,
                                            struct mr_buf *out);

/** Whether the values are equal: numbers by value, members in any order.
 * @param steps counted down; at 0 the answer is false */
bool mr__json_equal(const struct mr__json_tree *a, uint32_t at_a, const struct mr__json_tree *b,
                    uint32_t at_b, uint64_t *steps);

/** A hash of every value, equal for equal values. @param hashes room for tree->count numbers */
void mr__json_hash(const struct mr__json_tree *tree, uint64_t *hashes);

#endif
