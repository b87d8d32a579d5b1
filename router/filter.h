/* The compiler of filters, shared by its files: filter.c walks the tree, filter_text.c reads the
 * text, filter_data.c and filter_sql.c compile these dialects. Private to router/. */
#ifndef MR_ROUTER_FILTER_H
#define MR_ROUTER_FILTER_H

#include "router/program.h"

#include <cjson/cJSON.h>

struct mr__frame {
    const cJSON *next; /* borrowed: the member compiled next, NULL at the end */
    uint16_t group;
    uint16_t index; /* of next */
    bool data;      /* below `data` */
};

struct mr__compiler {
    struct mr__names *names; /* borrowed */
    uint32_t node_count;     /* groups, without those of hints, and clauses */
    uint32_t clause_count;
    uint32_t hint_count;
    uint32_t group_count;
    uint32_t depth;
    struct mr_buf values;
    struct mr__sql_compiler *sql; /* owned; NULL until it is wanted */
    struct mr__frame frames[MR_FILTER_DEPTH_MAX];
    struct mr__clause clauses[MR_FILTER_NODES_MAX];
    struct mr__clause hints[MR_FILTER_NODES_MAX];
    struct mr__group groups[MR__GROUPS_MAX];
};

struct mr__spot {
    uint16_t group;
    uint16_t index;
};

/** What cJSON is lax about, then cJSON. @param[out] ret_root the caller's to delete
 * @return MR_E_INVALID, MR_E_TOO_BIG */
MR_MUST_USE enum mr_status mr__filter_parse(struct mr_bytes json, cJSON **ret_root,
                                            struct mr_problem *problem);
/** A refusal: the path of the spot, what stands behind it (or ""), and the reason. */
enum mr_status mr__filter_refuse(const struct mr__compiler *c, struct mr__spot spot,
                                 const char *behind, enum mr_status status, const char *reason,
                                 struct mr_problem *problem);
MR_MUST_USE enum mr_status mr__filter_add_group(struct mr__compiler *c, enum mr__kind kind,
                                                struct mr__spot spot, int count,
                                                struct mr_problem *problem);
/** @param[out] ret_at where @p value was put; may be NULL */
MR_MUST_USE enum mr_status mr__filter_add_clause(struct mr__compiler *c, enum mr__op op,
                                                 uint32_t attr, struct mr__spot spot,
                                                 struct mr_bytes value,
                                                 struct mr_problem *problem);
/** One operator below `data`: @p item is its object of paths. */
MR_MUST_USE enum mr_status mr__filter_compile_data(struct mr__compiler *c, struct mr__spot spot,
                                                   const cJSON *item, struct mr_problem *problem);
MR_MUST_USE enum mr_status mr__filter_compile_sql(struct mr__compiler *c, struct mr__spot spot,
                                                  const cJSON *item, struct mr_problem *problem);

#endif
