/* Each allocation of a piece of work fails in its turn. */
#ifndef MR_TESTS_SUPPORT_FAIL_EACH_H
#define MR_TESTS_SUPPORT_FAIL_EACH_H

#include "tests/support/test.h"

#include "core/alloc.h"
#include "core/status.h"

/* Runs @p run with the first allocation failing, the second, … until it succeeds: each time with
 * MR_E_NOMEM, and nothing is left. @param run gives back what it made
 * @return the number of the allocation that did not come any more */
static inline uint64_t fail_each_allocation(enum mr_status (*run)(void *context), void *context)
{
    int64_t live = mr_alloc_live();
    for (uint64_t n = 1; n < 200; n++) {
        (void)mr_alloc_fail_at(n, 0);
        enum mr_status r = run(context);
        (void)mr_alloc_fail_at(0, 0);
        assert_int_equal(mr_alloc_live(), live);
        if (r == MR_OK) {
            return n;
        }
        assert_int_equal(r, MR_E_NOMEM);
    }
    fail_msg("never succeeded");
    return 0;
}

#endif
