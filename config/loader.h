/* What the steps of one load share: the tree, the errors collected so far, and the reader that
 * fills a block of settings from its option table. Internal to config/. One thread.
 *
 * A wrong value is reported and reading goes on, so that all errors appear at once: a function
 * here returns MR_OK or MR_E_NOMEM, never the fact that something was reported. */
#ifndef MR_CONFIG_LOADER_H
#define MR_CONFIG_LOADER_H

#include "config/config.h"
#include "config/node.h"

struct mr_loader {
    struct mr_config_errors *errors;     /* borrowed: the caller's */
    const struct mr_config_kinds *kinds; /* borrowed: the caller's */
    const char *folder;                  /* borrowed: absolute; relative paths start here */
    struct mr_tree tree;
};

/* What else may stand in a mapping beside the rows of its table. */
struct mr_beside {
    const char *level;        /* "source", "worker", …: picks the names of later releases */
    const char *const *words; /* keys read by the caller; may be NULL */
    uint32_t word_count;
};

/** Adds an error at the place of @p node (NULL: none). @return MR_OK or MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__report(struct mr_loader *loader, const struct mr_node *node,
                                      const char *format, ...) MR_PRINTF(3, 4);
/** The same at a place of its own; @p file as it shall be printed. */
MR_MUST_USE enum mr_status mr__report_at(struct mr_loader *loader, const char *file, uint32_t line,
                                         uint32_t column, const char *text);
/** What a message may repeat of @p text, the value at @p place: the text as it was written when it
 * holds a reference. */
const char *mr__shown(const struct mr_node *place, const char *text);
/** By file, line and column. */
void mr__errors_sort(struct mr_config_errors *errors);

/** Fills the zeroed @p block from @p mapping (or from defaults alone when it is NULL or null).
 * Wrong, unknown and missing settings are reported. Release @p block in every case. */
MR_MUST_USE enum mr_status mr__options_read(struct mr_loader *loader,
                                            const struct mr_option *table,
                                            struct mr_node *mapping,
                                            const struct mr_beside *beside, void *block);

/** Resolves `${env:NAME}`, `${file:PATH}` and `$${` in @p text.
 * @param[out] ret_text owned by the caller, wiped with mr__wipe_free()
 * @param[out] ret_had whether there was a reference
 * @return MR_E_INVALID with the problem, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__expand(struct mr_bytes text, const char *folder, char **ret_text,
                                      bool *ret_had, struct mr_problem *problem);
/** Frees @p text after wiping it; NULL is a no-op. */
void mr__wipe_free(char *text);

/** @p path made absolute from @p folder, without "." segments; NULL when memory is short. */
MR_MUST_USE char *mr__path_absolute(const char *folder, const char *path);

/** The same sentence for every setting of a later release, or false when @p name is none. */
bool mr__is_later(const char *level, const char *name);

/** Builds the configuration from the merged @p root (NULL: empty). Errors are reported; when there
 * are any, *ret_config is untouched. @return MR_OK, MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__config_build(struct mr_loader *loader, struct mr_node *root,
                                            struct mr_config **ret_config);

#endif
