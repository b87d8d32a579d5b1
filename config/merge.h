/* Putting documents together, and finding what is given twice. Internal to config/. */
#ifndef MR_CONFIG_MERGE_H
#define MR_CONFIG_MERGE_H

#include "config/loader.h"

/** Reports every key that stands twice in a mapping of the tree not looked at before, with both
 * places, and marks the second to be skipped. */
MR_MUST_USE enum mr_status mr__check_twice(struct mr_loader *loader);

/** Moves what is in @p document (a mapping) into @p root. A named section that another file has,
 * too, gets the names of both. */
void mr__merge(struct mr_node *root, struct mr_node *document);

/** After the last mr__merge(): reports what the files define twice between them. */
MR_MUST_USE enum mr_status mr__check_merged(struct mr_loader *loader, struct mr_node *root);

#endif
