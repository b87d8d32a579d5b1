/* What the adapters share: one run over one message, its members by path, and drafts of events.
 * Inside schemas/; cold. Pure; any thread.
 *
 * A run remembers its first failure (status, problem) and does nothing more after it, so that an
 * adapter reads like the table it comes from and only its end looks at the status. JSON is never
 * re-encoded: values are slices of the text, which was checked once as a whole. */
#ifndef MR_SCHEMAS_ADAPT_H
#define MR_SCHEMAS_ADAPT_H

#include "schemas/adapter.h"
#include "schemas/json_scan.h"

#define MR__UNWRAP_MAX 4u /* envelopes around a notification: a string in a string in a string … */

struct mr__adapt {
    const struct mr_adapt_input *input; /* borrowed */
    struct mr_bytes body;               /* of the input, without a byte order mark */
    struct mr_problem *problem;         /* borrowed; may be NULL */
    struct mr_adapted *adapted;         /* borrowed; its events grow */
    uint32_t capacity;                  /* of its events */
    size_t size;                        /* of its events together */
    const char *list;                   /* static: of the element in work, NULL for none … */
    uint32_t index;                     /* … and its number */
    const void *context;                /* borrowed: of the adapter that calls mr__adapt_each() */
    enum mr_status status;              /* of the first failure */
    char received[40];                  /* the receive time as text */
};

/** Notes a failure, unless there is one already, with the element in work before the reason. */
void mr__adapt_fail(struct mr__adapt *run, enum mr_status status, const char *format, ...)
    MR_PRINTF(3, 4);

/** The same for a buffer that could not grow: too big (@p what names it) or out of memory. */
void mr__adapt_fail_memory(struct mr__adapt *run, enum mr_status r, const char *what);

/** Whether @p text is one JSON value; fails the run when not. @param[out] ret_value without the
 * white space around it */
bool mr__adapt_parse(struct mr__adapt *run, struct mr_bytes text, struct mr_bytes *ret_value);
/** The member at dot path @p path ("s3.object.key"; a number is an index into an array). A member
 * on the way that is there twice fails the run.
 * @return false: absent, null, or the run has failed; @p ret_value untouched */
bool mr__adapt_get(struct mr__adapt *run, struct mr_bytes json, const char *path,
                   struct mr_bytes *ret_value);
/** The same for a member that begins with @p kind: '{', '[' or '"'. */
bool mr__adapt_get_kind(struct mr__adapt *run, struct mr_bytes json, const char *path, char kind,
                        struct mr_bytes *ret_value);
/** Whether the string at @p path is @p text; escapes are understood. */
bool mr__adapt_is(struct mr__adapt *run, struct mr_bytes json, const char *path, const char *text);
/** Begins to walk @p array, the text of a checked JSON array. */
void mr__adapt_walk(struct mr__scan *s, struct mr_bytes array);
/** Runs @p adapt over the elements of @p array, which messages call @p name (static). */
void mr__adapt_each(struct mr__adapt *run, const char *name, struct mr_bytes array,
                    void (*adapt)(struct mr__adapt *run, struct mr_bytes element));
/** Parses the body and runs @p adapt over it, or over each of its elements. */
void mr__adapt_one_or_each(struct mr__adapt *run,
                           void (*adapt)(struct mr__adapt *run, struct mr_bytes element));
/** Whether @p json has a member specversion (a list: its first element), so that it has to be a
 * CloudEvent. */
bool mr__adapt_says_cloudevent(struct mr__adapt *run, struct mr_bytes json);
/** Appends what the scalar @p value stands for: the characters of a string, else its text.
 * @return false: an object, an array or null, or the run has failed */
bool mr__adapt_text(struct mr__adapt *run, struct mr_bytes value, struct mr_buf *out);
/** Appends @p bytes. @return false: the run has failed */
bool mr__adapt_put(struct mr__adapt *run, struct mr_buf *out, struct mr_bytes bytes);
/** The header @p name, trimmed. @return false: absent or empty */
bool mr__adapt_header(const struct mr__adapt *run, const char *name, struct mr_bytes *ret_value);
/** Adds one event, whose reference is taken over also on failure. */
void mr__adapt_add(struct mr__adapt *run, struct mr_event *event);
/** Decodes @p text as CloudEvents JSON, one or an array of them, and adds them as they are. */
void mr__adapt_cloudevents(struct mr__adapt *run, struct mr_bytes text);

enum mr__part {
    MR__ID = 0,
    MR__SOURCE,
    MR__TYPE,
    MR__SUBJECT,
    MR__TIME,
    MR__KEY, /* the extension partitionkey */
    MR__PART_MAX,
};

/* An event in the making. Parts left empty are: subject and partitionkey absent, time the receive
 * time; id, source and type are required. */
struct mr__draft {
    struct mr__adapt *run;             /* borrowed */
    struct mr_buf parts[MR__PART_MAX];
    struct mr_bytes content_type;      /* borrowed */
    struct mr_bytes data;              /* borrowed; no data when it is empty */
};

/** A draft with JSON @p data (may be empty). End it with mr__draft_end(). */
void mr__draft_begin(struct mr__draft *draft, struct mr__adapt *run, struct mr_bytes data);
/** Adds the event unless the run has failed, and releases the draft. */
void mr__draft_end(struct mr__draft *draft);

/* Each appends to a part. */
void mr__draft_text(struct mr__draft *draft, enum mr__part part, const char *text);
void mr__draft_bytes(struct mr__draft *draft, enum mr__part part, struct mr_bytes bytes);
/** @return false: nothing was appended, because the value is absent, empty or no scalar */
bool mr__draft_value(struct mr__draft *draft, enum mr__part part, struct mr_bytes value);
bool mr__draft_get(struct mr__draft *draft, enum mr__part part, struct mr_bytes json,
                   const char *path);
/** The same; fails the run when there is nothing to append. */
void mr__draft_need(struct mr__draft *draft, enum mr__part part, struct mr_bytes json,
                    const char *path);
/** Cuts @p prefix away, if it stands there, at byte @p at of the part. */
void mr__draft_cut(struct mr__draft *draft, enum mr__part part, size_t at, const char *prefix);
/** 128 bits of the SHA-256 of @p bytes in hexadecimal: an id where the sender has none. */
void mr__draft_digest(struct mr__draft *draft, enum mr__part part, struct mr_bytes bytes);
/** The name of the source as the last part of a path. */
void mr__draft_source_name(struct mr__draft *draft, const char *before);

/** Sets the time, unless it is set, from a string that is RFC 3339 (a blank for T and small
 * letters are mended). @return whether it is set */
bool mr__draft_time(struct mr__draft *draft, struct mr_bytes json, const char *path);
bool mr__draft_time_text(struct mr__draft *draft, struct mr_bytes text);
/** The same from a number (or its digits in a string) of seconds or milliseconds since 1970. */
bool mr__draft_time_epoch(struct mr__draft *draft, struct mr_bytes json, const char *path);

/* --- the adapters, a file for each family ----------------------------------------------------- */

void mr__adapt_s3(struct mr__adapt *run);
void mr__adapt_sns(struct mr__adapt *run);
/** Notes the SubscribeURL of an SNS SubscriptionConfirmation. */
void mr__adapt_sns_confirmation(struct mr__adapt *run, struct mr_bytes message);
void mr__adapt_oss(struct mr__adapt *run);
void mr__adapt_cos(struct mr__adapt *run);
void mr__adapt_obs(struct mr__adapt *run);
void mr__adapt_gcs(struct mr__adapt *run);
void mr__adapt_azure_blob(struct mr__adapt *run);
void mr__adapt_gcf(struct mr__adapt *run);
void mr__adapt_eventbridge(struct mr__adapt *run);
void mr__adapt_alertmanager(struct mr__adapt *run);
void mr__adapt_grafana(struct mr__adapt *run);
void mr__adapt_github(struct mr__adapt *run);
void mr__adapt_gitlab(struct mr__adapt *run);
void mr__adapt_stripe(struct mr__adapt *run);
void mr__adapt_shopify(struct mr__adapt *run);
void mr__adapt_k8s(struct mr__adapt *run);
void mr__adapt_cdevents(struct mr__adapt *run);
void mr__adapt_generic(struct mr__adapt *run);
void mr__adapt_auto(struct mr__adapt *run);
/** Runs one adapter. */
void mr__adapt_run(struct mr__adapt *run, enum mr_adapter adapter);

#define MR__UUID_SIZE 37
/** A version 4 UUID that @p unique decides, NUL-terminated. */
void mr__adapt_uuid(uint64_t unique, char to[MR__UUID_SIZE]);

#endif
