/* A folder that a test has for itself, below TMPDIR or /tmp. */
#ifndef MR_TESTS_SUPPORT_FOLDER_H
#define MR_TESTS_SUPPORT_FOLDER_H

#include <ftw.h>
#include <stdlib.h>

#include "tests/support/test.h"

#define FOLDER_PATH_SIZE 80

/* @p name tells whose it is. */
static inline void folder_make(char path[FOLDER_PATH_SIZE], const char *name)
{
    const char *tmp = getenv("TMPDIR");
    int n = snprintf(path, FOLDER_PATH_SIZE, "%s/mr-%s-XXXXXX", tmp == NULL ? "/tmp" : tmp, name);
    assert_true(n > 0 && n < FOLDER_PATH_SIZE);
    assert_non_null(mkdtemp(path));
}

static inline int folder_remove_entry(const char *path, const struct stat *st, int kind,
                                      struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

/* And all that is in it. */
static inline void folder_remove(const char *path)
{
    assert_int_equal(nftw(path, folder_remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
}

#endif
