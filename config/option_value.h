/* Setting one field of a block from text, for the loader and for defaults. Internal to config/. */
#ifndef MR_CONFIG_OPTION_VALUE_H
#define MR_CONFIG_OPTION_VALUE_H

#include "config/option.h"
#include "core/problem.h"

#define MR_VALUE_SHOWN_MAX 64 /* bytes of a value repeated in a message */

/** Sets the field at @p field (zero before) from @p text.
 * For the types with one text form: not STRINGS, PAIRS, BLOCK, JSON.
 * @param folder where relative paths start; NULL: a PATH stays as it is
 * @return MR_E_INVALID with the problem, which names the value unless it may be secret;
 * MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__option_set(const struct mr_option *row, void *field,
                                          const char *text, const char *folder,
                                          struct mr_problem *problem);

/** Sets the row's field of @p block to its default. @return MR_E_NOMEM, MR_E_BUG */
MR_MUST_USE enum mr_status mr__option_default(const struct mr_option *row, void *block,
                                              const char *folder);

/** A bound of @p row as a user would write it: 1048576 of a SIZE is "1MiB". */
void mr__option_bound(const struct mr_option *row, int64_t value, char text[48]);

MR_MUST_USE enum mr_status mr__format_size(uint64_t bytes, struct mr_buf *out);

/** "a, b, c", cut with "…" when it is too long. */
void mr__words_join(const char *const *words, uint32_t count, char *text, size_t size);

/** Appends a copy. @return MR_E_NOMEM: as before */
MR_MUST_USE enum mr_status mr__strings_add(struct mr_strings *strings, const char *text);
/** Wipes and frees. */
void mr__strings_release(struct mr_strings *strings);

#endif
