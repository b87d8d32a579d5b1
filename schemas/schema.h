/* JSON Schema (draft-07 and 2020-12) for the data of events: compiled once, then applied to any
 * JSON text in bounded time and memory.
 *
 * What a schema says is either enforced or refused when it is compiled: an unknown keyword, one
 * that is not supported ($dynamicRef, $vocabulary and their kin), a regular expression that cannot
 * run in linear time (regex.h). Annotations (title, format, contentEncoding, …) assert nothing, as
 * both drafts have it. Names that begin with "x-" are the user's own.
 *
 * A reference leads to a place in the same document, to an `$id` or `$anchor`, or to another file:
 * relative to the file it stands in, or to that file's `$id`. Nothing is fetched.
 *
 * Pure but for the caller's read function. A compiled schema is immutable: any thread may check. */
#ifndef MR_SCHEMAS_SCHEMA_H
#define MR_SCHEMAS_SCHEMA_H

#include "core/bytes.h"
#include "core/problem.h"

struct mr_schema;

/* How references reach other files. */
struct mr_schema_files {
    /* The text of the file at @p path, the caller's to free with mr_free(). MR_E_NOT_FOUND: there
     * is none. */
    enum mr_status (*read)(void *context, const char *path, char **ret_text, size_t *ret_size);
    void *context;
};

/** @param path absolute, of the file that @p text came from, or of where it would lie; borrowed
 * @param text borrowed for the call
 * @param files NULL: references stay inside @p text
 * @return MR_E_INVALID, MR_E_UNSUPPORTED, MR_E_TOO_BIG with the place and the reason; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_schema_create(const char *path, struct mr_bytes text,
                                            const struct mr_schema_files *files,
                                            struct mr_schema **ret_schema,
                                            struct mr_problem *problem);
void mr_schema_destroy(struct mr_schema *schema);

/** Of all texts it was made from. */
uint64_t mr_schema_hash(const struct mr_schema *schema);

/** Whether @p data is JSON that @p schema takes.
 * @return MR_E_INVALID with the place, what was wanted and what is there; MR_E_TOO_BIG: the answer
 * would take more time or memory than MR_SCHEMA_STEPS_MAX allows; MR_E_NOMEM
 * @thread any */
MR_MUST_USE enum mr_status mr_schema_check(const struct mr_schema *schema, struct mr_bytes data,
                                           struct mr_problem *problem);

#endif
