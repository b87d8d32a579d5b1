/* A connector's own copy of its options: an instance outlives the configuration it was made from,
 * because a reload that leaves a source or target as it is keeps the instance. */
#ifndef MR_CONNECTORS_OPTIONS_H
#define MR_CONNECTORS_OPTIONS_H

#include "config/option.h"

/** Deep-copies the block @p from, of @p size bytes and described by @p table, over @p to. Release
 * it with mr_options_release(). @return MR_E_NOMEM: @p to is released */
MR_MUST_USE enum mr_status mr__options_copy(const struct mr_option *table, size_t size,
                                            const void *from, void *to);

#endif
