/* What the decoders inside schemas/ ask of an event builder beyond its public calls. */
#ifndef MR_SCHEMAS_BUILDER_H
#define MR_SCHEMAS_BUILDER_H

#include "schemas/event.h"

/** Whether @p name was added already (specversion included). */
bool mr__builder_has(const struct mr_event_builder *builder, struct mr_bytes name);
/** The value of the optional attribute @p name. @return false: absent, @p ret_value untouched */
bool mr__builder_value(const struct mr_event_builder *builder, struct mr_bytes name,
                       struct mr_bytes *ret_value);
/** Whether @p name may name an attribute. @return MR_E_INVALID, MR_E_TOO_BIG with the problem */
MR_MUST_USE enum mr_status mr__builder_check_name(struct mr_bytes name,
                                                  struct mr_problem *problem);
/** Whether there is no datacontenttype, so that data from a transport is bytes of unknown type. */
bool mr__builder_untyped(const struct mr_event_builder *builder);
/** "The attribute … is there twice": MR_E_INVALID. */
enum mr_status mr__builder_repeated(struct mr_bytes name, struct mr_problem *problem);
/** Bytes the record will have without its data. */
size_t mr__builder_overhead(const struct mr_event_builder *builder);

#endif
