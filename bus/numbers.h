/* Numbers gathered one after another. */
#ifndef MR_BUS_NUMBERS_H
#define MR_BUS_NUMBERS_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

struct mr__numbers {
    uint64_t *items; /* owned; mr_free() */
    size_t count;
    size_t capacity;
};

/** @return MR_E_NOMEM */
MR_MUST_USE enum mr_status mr__numbers_add(struct mr__numbers *numbers, uint64_t number);

#endif
