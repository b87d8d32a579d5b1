/* What the files of admin/ share. Not for other folders.
 *
 * Threads: the listeners' threads find the route and queue the request; two lanes execute them, so
 * that a scan of the log files (slow lane) never delays a scrape (quick lane); the pulse thread
 * asks the bus whether it lives; the tail thread writes the live streams. */
#ifndef MR_ADMIN_INTERNAL_H
#define MR_ADMIN_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "admin/admin.h"
#include "admin/history.h"
#include "admin/json_out.h"

#define MR__RUNNING_SIZE_MAX MR_MIB /* of what a worker runs: thousands in flight */
#define MR__ANSWER_SIZE_MAX (64u * MR_MIB) /* of one answer; lists are paged below it */
#define MR__BODY_SIZE_MAX (MR_BATCH_SIZE_MAX + MR_MIB)
#define MR__SUBSCRIPTION_NAME_SIZE (MR_NAME_SIZE_MAX * 3 + 16)
#define MR__OP_REQUEST 100u
#define MR__OP_INVOKED 101u /* the await of a struct mr__invocation */

enum mr__lane {
    MR__LANE_QUICK = 0,
    MR__LANE_SLOW,
    MR__LANE_MAX,
    MR__LANE_NOW, /* on the listener's thread: must answer at once */
    MR__LANE_TAIL,
};

struct mr__call;
struct mr__invocation;

struct mr__route {
    enum mr_http_method method;
    const char *path;   /* "/api/v1/trace/" + "*" matches any non-empty rest */
    const char *verb;   /* last segment, for "…/NAME/pause"; NULL: none */
    const char *scope;  /* read, operate, ingest: what a token will need */
    enum mr__lane lane;
    bool on_ingest;     /* served on the ingest listener too */
    void (*run)(struct mr_admin *admin, struct mr__call *call);
};

/* One request on its way through a lane. */
struct mr__call {
    struct mr_op op;
    struct mr_http_request *http;  /* owned until answered */
    const struct mr__route *route; /* static */
    bool on_ingest; /* it came in there, else on the socket */
    char *name;                    /* owned: what stood for the star; "" when the path has none */
    uint32_t subscription; /* edit: of the letter that gives way */
    uint64_t offset;       /* edit: its */
    struct mr_json_out answer; /* replay: owned until it is durable what it tells */
    struct mr__invocation *invocation; /* invoke: borrowed, of the lane */
};

struct mr__lane_thread {
    struct mr_admin *admin;
    struct mr_opq queue;
    pthread_t thread;
    bool started;
    _Atomic uint32_t waiting; /* requests in the queue; relaxed: a count, nothing hangs on it */
    uint32_t batches; /* submitted and not yet back; this lane's thread only */
    uint32_t invocations; /* likewise */
};

/* Whether the bus answers, asked only when somebody asks us. */
struct mr__pulse {
    pthread_mutex_t mu; /* protects all below */
    pthread_cond_t wanted_cond;
    pthread_t thread;
    bool started;
    bool wanted;
    bool stopping;
    uint64_t asked_mono_ns; /* a question is out since; 0: none */
};

/* What was seen of the dead letters; whoever calls mr_admin_look() owns it. */
struct mr__growth {
    uint64_t *seen; /* owned: dead letters by subscription id */
    uint32_t count;
    uint64_t looked_wall_ns; /* 0: not yet */
    uint64_t looked_mono_ns;
};

/* How targets were and what was told of it; whoever calls mr_admin_look() owns it. */
struct mr__watched;
struct mr__watch {
    struct mr__watched *targets; /* owned: by target id */
    uint32_t count;
};

struct mr_admin {
    struct mr_admin_host *host;              /* borrowed: outlives us */
    struct mr_http_listener *socket;         /* borrowed */
    struct mr_http_listener *ingest;         /* borrowed; may be NULL */
    _Atomic bool stopping; /* relaxed: a wake-up of the queue follows each store */
    struct mr__lane_thread lanes[MR__LANE_MAX];
    struct mr__pulse pulse;
    struct mr__growth growth;
    struct mr__watch watch;
    struct mr__tail *tail; /* owned */
    struct mr_history_index *history; /* owned: what the log folder holds */
    pthread_mutex_t names_mu; /* protects names: those of subscription ids, filled as met */
    char **names;
    uint32_t name_count;
};

/* routes.c */
const struct mr__route *mr__route_find(enum mr_http_method method, const char *path,
                                       bool on_ingest, struct mr_bytes *ret_name,
                                       unsigned *ret_allowed);
extern const struct mr__route mr__routes[]; /* ends with a NULL path */

/* answer.c: each answers and ends the call */
void mr__answer_text(struct mr__call *call, unsigned status, const char *content_type,
                     struct mr_bytes body);
/** The finished @p out, or 500 with its status; releases it. */
void mr__answer_json(struct mr__call *call, unsigned status, struct mr_json_out *out);
void mr__answer_error(struct mr__call *call, unsigned status, const char *format, ...)
    MR_PRINTF(3, 4);
/** The status code that says @p status, with @p problem or its text. */
void mr__answer_status(struct mr__call *call, enum mr_status status,
                       const struct mr_problem *problem);
unsigned mr__http_status(enum mr_status status);
void mr__call_destroy(struct mr__call *call);

/* ask.c: questions to the bus thread */
/** Runs @p fn on the bus thread; on failure the call was answered with 503.
 * @return false: nothing was run */
bool mr__ask(struct mr_admin *admin, struct mr__call *call,
             void (*fn)(void *argument, struct mr_bus *bus, struct mr_now now), void *argument);
struct mr__subscription {
    struct mr_subscription_info info;
    char name[MR__SUBSCRIPTION_NAME_SIZE];
};
/** Calls @p fn for every subscription, some at a time so that the bus is never held up. */
enum mr_status mr__each_subscription(struct mr_admin *admin,
                                     void (*fn)(void *context,
                                                const struct mr__subscription *subscription),
                                     void *context);
enum mr_status mr__find_subscription(struct mr_admin *admin, const char *name,
                                     struct mr__subscription *ret_subscription);
/** Its targets, when there are several; *ret_count else 0. */
enum mr_status mr__find_shares(struct mr_admin *admin, uint32_t id,
                               struct mr_share_info ret_shares[MR_SHARES_MAX],
                               uint32_t *ret_count);
struct mr__target {
    struct mr_target_info info;
    char name[MR__SUBSCRIPTION_NAME_SIZE];
};
enum mr_status mr__each_target(struct mr_admin *admin,
                               void (*fn)(void *context, const struct mr__target *target),
                               void *context);
/* One fan-out, copied out of the bus; info.name is `name`. */
struct mr__fanout_seen {
    struct mr_fanout_info info;
    char name[MR_NAME_SIZE_MAX + 1];
};
/** Those that are configured, and those that have open ones still. */
enum mr_status mr__each_fanout(struct mr_admin *admin,
                               void (*fn)(void *context, const struct mr__fanout_seen *fanout),
                               void *context);
/** What the bus says of the sources, by id; names are NULL.
 * @param[out] ret_infos the caller's to free */
enum mr_status mr__source_infos(struct mr_admin *admin, struct mr_source_info **ret_infos,
                                uint32_t *ret_count);
enum mr_status mr__bus_status(struct mr_admin *admin, struct mr_bus_status *ret_status);
/* For mr_history: mr_bus_sketched() of the bus. @param context the admin */
bool mr__sketched(void *context, uint64_t number, uint64_t hash, bool is_about,
                  struct mr_buf *places);
/** The name of a subscription id, for ever the same; NULL when it is not known. */
const char *mr__subscription_name(struct mr_admin *admin, uint32_t id);
/** Copies the name of a source id: "bus" for what the bus made itself. */
void mr__source_name(struct mr_admin *admin, uint32_t id, char *to, size_t size);
/** The other way round. @return MR_E_NOT_FOUND */
enum mr_status mr__source_id(struct mr_admin *admin, const char *name, uint32_t *ret_id);
/** Logs an operator action as a record of the log: {"action":…, key: value, …}, keys and values
 * in turn up to NULL; a NULL value leaves its key out. Before the effect, or there is none. */
#define mr__log_action(admin, ...) mr__log_action_via(admin, "socket", __VA_ARGS__)
enum mr_status mr__log_action_via(struct mr_admin *admin, const char *via, const char *action, ...)
    __attribute__((sentinel));

/* the API, one per route; see routes.c */
void mr__get_status(struct mr_admin *admin, struct mr__call *call);
void mr__get_log(struct mr_admin *admin, struct mr__call *call);
void mr__post_clock_accept(struct mr_admin *admin, struct mr__call *call);
void mr__post_reload(struct mr_admin *admin, struct mr__call *call);
void mr__post_stop(struct mr_admin *admin, struct mr__call *call);
void mr__get_sources(struct mr_admin *admin, struct mr__call *call);
void mr__get_source(struct mr_admin *admin, struct mr__call *call);
void mr__post_source_pause(struct mr_admin *admin, struct mr__call *call);
void mr__post_source_resume(struct mr_admin *admin, struct mr__call *call);
/* api_usage.c */
void mr__get_usage(struct mr_admin *admin, struct mr__call *call);

void mr__get_targets(struct mr_admin *admin, struct mr__call *call);
void mr__get_target(struct mr_admin *admin, struct mr__call *call);
void mr__get_subscriptions(struct mr_admin *admin, struct mr__call *call);
void mr__get_subscription(struct mr_admin *admin, struct mr__call *call);
void mr__post_subscription_pause(struct mr_admin *admin, struct mr__call *call);
void mr__post_subscription_resume(struct mr_admin *admin, struct mr__call *call);
void mr__get_explain(struct mr_admin *admin, struct mr__call *call);
void mr__get_trace(struct mr_admin *admin, struct mr__call *call);
void mr__get_why(struct mr_admin *admin, struct mr__call *call);
void mr__get_what_if(struct mr_admin *admin, struct mr__call *call);
void mr__post_replay(struct mr_admin *admin, struct mr__call *call);
void mr__replay_done(struct mr_batch *batch);
void mr__get_audit(struct mr_admin *admin, struct mr__call *call);
void mr__get_dlq(struct mr_admin *admin, struct mr__call *call);
void mr__get_dlq_groups(struct mr_admin *admin, struct mr__call *call);
void mr__post_dlq_redrive(struct mr_admin *admin, struct mr__call *call);
void mr__post_dlq_purge(struct mr_admin *admin, struct mr__call *call);
void mr__post_dlq_edit(struct mr_admin *admin, struct mr__call *call);
void mr__post_delivery_edit(struct mr_admin *admin, struct mr__call *call);
/* What gives way to an edited copy of its event. */
struct mr__original {
    uint64_t offset;
    struct mr_buf id; /* its event's; empty when that cannot be read */
};
/** The copy that @p body (JSON) is: caused by the first one, and with an id of its own. */
enum mr_status mr__edit_copy(struct mr_bytes body, const struct mr__original *original,
                             struct mr_event **ret_event, struct mr_problem *problem);
/** Writes the operator's record that says what replaces what. */
enum mr_status mr__edit_log(struct mr_admin *admin, const struct mr__call *call,
                            const struct mr__original *original, const struct mr_event *event);
/** The edited copy came back from the bus. */
void mr__edit_done(struct mr_admin *admin, struct mr_batch *batch);
void mr__get_deliveries(struct mr_admin *admin, struct mr__call *call);
void mr__post_delivery_resume(struct mr_admin *admin, struct mr__call *call);
void mr__post_delivery_skip(struct mr_admin *admin, struct mr__call *call);
void mr__post_deliveries(struct mr_admin *admin, struct mr__call *call);
void mr__post_events(struct mr_admin *admin, struct mr__call *call);
/** A batch of mr__post_events() came back from the bus. */
void mr__events_done(struct mr_admin *admin, struct mr_batch *batch);
void mr__post_invoke(struct mr_admin *admin, struct mr__call *call);
/** The batch of mr__post_invoke() came back, and later its end, or the time was up. */
void mr__invoke_accepted(struct mr_admin *admin, struct mr_batch *batch);
void mr__invoke_ended(struct mr_admin *admin, struct mr_op *op);
void mr__get_tail(struct mr_admin *admin, struct mr__call *call);
void mr__get_metrics(struct mr_admin *admin, struct mr__call *call);
void mr__get_livez(struct mr_admin *admin, struct mr__call *call);
void mr__get_readyz(struct mr_admin *admin, struct mr__call *call);

/* api_ce.c */
void mr__get_ce_subscriptions(struct mr_admin *admin, struct mr__call *call);
void mr__get_ce_subscription(struct mr_admin *admin, struct mr__call *call);
void mr__post_ce_subscription(struct mr_admin *admin, struct mr__call *call);
void mr__put_ce_subscription(struct mr_admin *admin, struct mr__call *call);
void mr__delete_ce_subscription(struct mr_admin *admin, struct mr__call *call);
/** Whether a request on the ingest listener may come in; answered when not. @p context: admin */
bool mr__admit_ce(void *context, struct mr_http_request *request);

/* api_dlq.c, for the other calls about dead letters */
struct mr_letter_query;
/** Takes the number that the argument @p name gives, if it is there. @return MR_E_INVALID */
enum mr_status mr__query_number(const struct mr_http_request *http, const char *name,
                                uint64_t *value, struct mr_problem *problem);
/** Whether the argument @p name says "true". */
bool mr__call_flag(const struct mr__call *call, const char *name);
/** The subscription and the query of a call. @return false: what is wrong with them was answered */
bool mr__dlq_begin(struct mr_admin *admin, struct mr__call *call,
                   struct mr__subscription *subscription, struct mr_letter_query *query);
void mr__dlq_write_next(struct mr_json_out *out, uint64_t next);

/* health.c */
MR_MUST_USE enum mr_status mr__pulse_start(struct mr_admin *admin);
void mr__pulse_stop(struct mr_admin *admin);

/* notice.c: events of our own */
/** Begins one: the attributes are written and "data" is open. @param subject its id starts with
 * it, too */
void mr__notice_begin(struct mr_json_out *out, const char *type, const char *source,
                      const char *subject, uint64_t wall_ns);
/** Ends it and hands it to the bus, as from the built-in source "send"; what fails is logged.
 * Releases @p out. */
enum mr_status mr__notice_send(struct mr_admin *admin, struct mr_json_out *out);
/** growth.c, target_health.c: one look each. @param period_ns, hold_ns 0: off */
void mr__look_growth(struct mr_admin *admin, uint64_t period_ns);
void mr__look_targets(struct mr_admin *admin, uint64_t hold_ns);

/* tail.c */
MR_MUST_USE enum mr_status mr__tail_create(struct mr_admin *admin, struct mr__tail **ret_tail);
void mr__tail_destroy(struct mr__tail *tail);

#endif
