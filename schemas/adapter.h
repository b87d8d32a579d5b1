/* Adapters: payloads that are not CloudEvents become CloudEvents (digest section 13). Pure. */
#ifndef MR_SCHEMAS_ADAPTER_H
#define MR_SCHEMAS_ADAPTER_H

#include "schemas/binding.h"

enum mr_adapter {
    MR_ADAPTER_CLOUDEVENTS = 0, /* one event as JSON, or an array */
    MR_ADAPTER_HTTP,            /* HTTP binding: binary, structured, batch */
    MR_ADAPTER_S3,              /* AWS, MinIO, Ceph, and the SQS, SNS, EventBridge wrappings */
    MR_ADAPTER_OSS,
    MR_ADAPTER_COS,
    MR_ADAPTER_OBS,
    MR_ADAPTER_GCS,
    MR_ADAPTER_AZURE_BLOB, /* Event Grid, both schemas */
    MR_ADAPTER_GCF,
    MR_ADAPTER_SNS,
    MR_ADAPTER_EVENTBRIDGE,
    MR_ADAPTER_ALERTMANAGER,
    MR_ADAPTER_GRAFANA,
    MR_ADAPTER_GITHUB,
    MR_ADAPTER_GITLAB,
    MR_ADAPTER_STRIPE,
    MR_ADAPTER_SHOPIFY,
    MR_ADAPTER_K8S,
    MR_ADAPTER_CDEVENTS,
    MR_ADAPTER_GENERIC, /* any body */
    MR_ADAPTER_AUTO,    /* recognised by headers and shape; else generic */
    MR_ADAPTER_MAX,
};
/* The words of the options and of `normalise --as`, in the order of the enum, NULL-terminated:
 * "cloudevents", "http", "s3", …, "azure-blob", …, "auto". */
extern const char *const mr_adapter_words[];

/* Where adapter "generic" finds attributes in a JSON body: dot paths, NULL for none; what a path
 * does not find keeps its default. */
struct mr_generic_paths {
    const char *id;
    const char *type;
    const char *subject;
    const char *time;
};

struct mr_adapt_input {
    struct mr_bytes body;
    const struct mr_field *headers; /* names in any case; none for broker messages */
    uint32_t header_count;
    struct mr_bytes source_name;    /* the source's name: stands in mapped `source`s */
    const char *type;               /* of generic events; NULL: io.millrace.http.message */
    const struct mr_generic_paths *paths; /* may be NULL */
    uint64_t received_wall_ns;
    struct mr_bytes id;             /* of a generic event that has none: an idempotency key */
    uint64_t unique;                /* seeds an id where the message has none */
    size_t size_max;                /* of an event */
};

struct mr_adapted {
    struct mr_events events; /* none for a control message (s3:TestEvent, a handshake) */
    char *answer;            /* owned; JSON a control message wants as the body of its 200 (Event
                                Grid's validationResponse), or NULL */
    char *confirm_url;       /* owned; SNS SubscribeURL of a SubscriptionConfirmation, or NULL: to
                                be fetched only when its signature held and the source may */
};
void mr_adapted_release(struct mr_adapted *adapted);

/** One foreign message to its events, all or nothing (digest 13 and 16).
 * @return MR_E_INVALID, MR_E_NOT_CLOUDEVENT, MR_E_UNSUPPORTED, MR_E_TOO_BIG with the reason;
 * MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_adapt(enum mr_adapter adapter, const struct mr_adapt_input *input,
                                    struct mr_adapted *ret_adapted, struct mr_problem *problem);

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

/* What became of one subscription of a fan-out. */
struct mr_joined_member {
    const char *subscription;
    const char *state; /* "done", "dead", …; "waiting": it has not ended */
    uint32_t attempts;
    struct mr_bytes reason; /* empty: none */
    struct mr_bytes result; /* JSON text; empty: none */
    bool truncated;         /* it had a result, which was not kept */
};

struct mr_joined {
    const char *fanout;
    struct mr_bytes head; /* record of the original: mr_adapt_joined_head() is enough */
    uint64_t offset;
    const char *reason; /* why it is not complete; NULL: it is */
    const struct mr_joined_member *members;
    uint32_t member_count;
    uint64_t wall_ns;
};

/** What mr_adapt_joined() needs of the event @p record, as an event without data. */
MR_MUST_USE enum mr_status mr_adapt_joined_head(struct mr_bytes record,
                                                struct mr_event **ret_event);

/** How all subscriptions of a fan-out have ended, as a CloudEvent: id
 * "<fanout>:<offset>:completed", source /millrace/fanout/<name>, type io.millrace.fanout.completed,
 * subject the fan-out's name, causationid the original's id, mrhops one more than the original's,
 * its partitionkey and correlationid; data is JSON {fanout, event:{id, source, type, offset},
 * complete, reason, results:{SUBSCRIPTION:{state, attempts, reason, result, truncated}}}. When it
 * does not fit @p size_max, without results, then without reasons. */
MR_MUST_USE enum mr_status mr_adapt_joined(const struct mr_joined *joined, size_t size_max,
                                           struct mr_event **ret_event);

#define MR_SHED_TYPE "io.millrace.subscription.shed"

/* What a subscription shed at once. */
struct mr_shed {
    const char *subscription;
    uint32_t dropped;
    uint32_t max;
    uint32_t to;
    uint64_t waiting; /* afterwards */
    bool newest;      /* those went, else the oldest */
    uint32_t hops;
    uint64_t first_offset; /* of those dropped */
    uint64_t first_wall_ns;
    uint64_t last_offset;
    uint64_t last_wall_ns;
};

/** What a subscription shed as a CloudEvent: id "<name>:<first offset>:shed", source
 * /millrace/subscription/<name>, type MR_SHED_TYPE, subject the name, mrhops as given; data is
 * JSON {subscription, dropped, drop, max, to, waiting, first:{offset, arrival}, last:{…}}.
 * @return MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_adapt_shed(const struct mr_shed *shed, uint64_t wall_ns,
                                         struct mr_event **ret_event);

/** The hop counter of @p record (extension mrhops), 0 when it has none or it is no number. */
uint32_t mr_event_hops(struct mr_bytes record);

#endif
