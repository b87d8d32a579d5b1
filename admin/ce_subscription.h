/* The CloudEvents Subscriptions API: what is taken of a document, and what becomes of it. One
 * document holds them all, {"subscriptions": [object, …]} in order of creation; each becomes a
 * subscription and an http sink of the configuration, both called by its id. Pure. */
#ifndef MR_ADMIN_CE_SUBSCRIPTION_H
#define MR_ADMIN_CE_SUBSCRIPTION_H

#include <cjson/cJSON.h>

#include "core/bytes.h"
#include "core/problem.h"

#define MR_CE_SUBSCRIPTION_SIZE_MAX (64u * MR_KIB) /* of one, as JSON */
#define MR_CE_SUBSCRIPTIONS_SIZE_MAX MR_MIB        /* of all together: each change writes them */
#define MR_CE_SUBSCRIPTION_ID_SIZE 24u             /* with its NUL */

/** Takes one as a user wrote it.
 * @param id its id, which the result has as its first member; the user's must be the same, or is
 * ignored when @p is_new
 * @param[out] ret_object owned by the caller, cJSON_Delete()
 * @return MR_E_INVALID with what is wrong with which member; MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_ce_subscription_read(struct mr_bytes json, const char *id,
                                                   bool is_new, cJSON **ret_object,
                                                   struct mr_problem *problem);
/** An id for a new one. */
void mr_ce_subscription_id(char id[MR_CE_SUBSCRIPTION_ID_SIZE]);

/** The document as the part of a configuration that it is: JSON for mr_config_load_with().
 * @return MR_E_INVALID: it is none of ours; MR_E_NOMEM, MR_E_TOO_BIG */
MR_MUST_USE enum mr_status mr_ce_subscriptions_overlay(struct mr_bytes document, bool egress_any,
                                                       struct mr_buf *out);

#endif
