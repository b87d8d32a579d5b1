/* Adapters: payloads that are not CloudEvents become CloudEvents (digest section 13). Pure. */
#ifndef MR_SCHEMAS_ADAPTER_H
#define MR_SCHEMAS_ADAPTER_H

#include "schemas/binding.h"

/** Any HTTP body that is no CloudEvent (adapter "generic"): id @p id, source @p source (a
 * URI-reference), type @p type, time the receive time, data the body under its Content-Type
 * (application/octet-stream when it has none). */
MR_MUST_USE enum mr_status mr_adapt_generic(const struct mr_field *headers, uint32_t header_count,
                                            struct mr_bytes body, struct mr_bytes id,
                                            struct mr_bytes source, struct mr_bytes type,
                                            uint64_t received_wall_ns, size_t size_max,
                                            struct mr_event **ret_event,
                                            struct mr_problem *problem);

/** What could not be normalised, as the event of an ingest dead letter: type
 * io.millrace.ingest.rejected, source /millrace/source/<name>, id @p id, extension reason (cleaned,
 * cut), data the raw bytes (cut to fit @p size_max, extension truncated=true then). */
MR_MUST_USE enum mr_status mr_adapt_rejected(struct mr_bytes source_name, struct mr_bytes id,
                                             struct mr_bytes raw, const char *reason,
                                             uint64_t received_wall_ns, size_t size_max,
                                             struct mr_event **ret_event);

/* One attempt as an outcome tells it. */
struct mr_outcome_attempt {
    uint32_t n;
    uint64_t started_wall_ns;
    uint64_t ended_wall_ns;
    const char *verdict; /* "ok", "retry", "drop", "dead", "timeout", "crash", … */
    const char *error;   /* NULL when none */
};

/** The outcome of a delivery as a CloudEvent (design 5.2, 10.4): id "<delivery>:outcome", source
 * /millrace/subscription/<name>, type io.millrace.delivery.<state>, subject the event's id,
 * causationid likewise, mrhops one more than the event's; data is JSON {delivery, subscription,
 * state, reason, verdict, error, attempts:[…], result, event:{the original}}.
 * @param result JSON text or empty */
MR_MUST_USE enum mr_status
mr_adapt_outcome(struct mr_bytes record, const char *delivery, const char *subscription,
                 const char *state, const char *reason, const struct mr_outcome_attempt *attempts,
                 uint32_t attempt_count, struct mr_bytes result, uint64_t wall_ns, size_t size_max,
                 struct mr_event **ret_event);

/** The hop counter of @p record (extension mrhops), 0 when it has none or it is no number. */
uint32_t mr_event_hops(struct mr_bytes record);

#endif
