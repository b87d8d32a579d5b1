#include "connectors/http/client.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "connectors/http/courier.h"
#include "connectors/http/handshake.h"
#include "connectors/http/probe.h"
#include "connectors/http/transport.h"
#include "connectors/options.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/limits.h"
#include "core/logger.h"

enum { WAIT_MS_MAX = 1000 };
static const uint64_t ASK_NS_MIN = MR_SECOND;
static const uint64_t ASK_NS_MAX = 60 * MR_SECOND;

enum client_op {
    OP_HANDOUT = 1, /* a struct mr_handout, from the bus */
    OP_CANCEL,      /* a struct cancel, freed by whoever takes it */
    OP_HANDSHAKE,   /* a struct mr_http_errand that is done */
    OP_PROBE,       /* likewise */
};

/* Whether the receiver lets us deliver. */
enum consent {
    CONSENT_GIVEN = 0, /* also when nobody asks */
    CONSENT_TO_ASK,
    CONSENT_ASKED,
};

struct cancel {
    struct mr_op op;
    uint32_t subscription;
    uint32_t fence;
    uint64_t offset;
};

/* Without a comment: of the target's own thread once it runs. */
struct mr_target {
    struct mr_host *host; /* borrowed */
    char *name;           /* owned */
    char version[24];
    struct mr_http_client_options options; /* a copy of our own */
    bool has_options;
    bool has_queue;
    bool has_lock;
    bool is_started; /* control thread */
    uint32_t capacity;
    struct mr_http_request_plan plan;
    struct mr_http_transport *transport; /* owned */
    struct mr_http_exchange *exchanges;  /* owned; capacity of them */
    struct mr_http_exchange *first_free;
    uint32_t busy_count;
    struct mr_op *waiting; /* hand-outs beyond the capacity; none with a well-behaved bus */
    struct mr_handout *answers; /* of this pass, given to the host together */
    struct mr_handout *answers_last;
    struct mr_opq queue;
    struct mr_http_courier *courier; /* owned; NULL: neither handshake nor health check */
    struct mr_http_probe probe;
    enum consent consent;
    uint64_t ask_at_ns;
    uint64_t ask_wait_ns;
    struct mr_http_pace pace; /* what was granted */
    pthread_t thread;
    _Atomic uint32_t index;            /* relaxed: any value read is one it had */
    _Atomic uint64_t stop_deadline_ns; /* 0 while running; release/acquire */
    _Atomic uint32_t busy;             /* for health, relaxed, as the next two */
    _Atomic uint64_t messages;
    _Atomic uint64_t errors;
    pthread_mutex_t mu; /* protects the three below */
    enum mr_health_state state;
    char last_error[256];
    uint64_t last_error_wall_ns;
};

/* --- answers ---------------------------------------------------------------------------------- */

static void note_outcome(struct mr_target *t, const struct mr_handout *handout, bool reached)
{
    atomic_fetch_add_explicit(&t->messages, 1, memory_order_relaxed);
    bool ok = handout->answer.verdict == MR_VERDICT_OK && handout->answer.error == NULL;
    if (!ok) {
        atomic_fetch_add_explicit(&t->errors, 1, memory_order_relaxed);
    }
    pthread_mutex_lock(&t->mu);
    t->state = !reached ? MR_HEALTH_DOWN
               : handout->answer.verdict == MR_VERDICT_OK ? MR_HEALTH_OK
                                                          : MR_HEALTH_DEGRADED;
    if (!ok && handout->answer.error != NULL) {
        mr_text_clean(t->last_error, sizeof(t->last_error), mr_bytes_of(handout->answer.error));
        t->last_error_wall_ns = handout->answer.ended_wall_ns;
    }
    pthread_mutex_unlock(&t->mu);
}

/* @p handout: one, or the chain of a batch. */
static void add_answer(struct mr_target *t, struct mr_handout *handout)
{
    if (t->answers == NULL) {
        t->answers = handout;
    } else {
        t->answers_last->op.next = &handout->op;
    }
    while (handout->op.next != NULL) {
        handout = (struct mr_handout *)(void *)handout->op.next;
    }
    t->answers_last = handout;
}

static void give_answers(struct mr_target *t)
{
    if (t->answers != NULL) {
        struct mr_handout *first = MR_TAKE(t->answers);
        t->answers_last = NULL;
        t->host->ops->answer(t->host, first);
    }
}

/* A hand-out, or the chain of a batch, that never became an exchange. */
static void refuse(struct mr_target *t, struct mr_handout *handout, const char *text)
{
    for (struct mr_op *op = &handout->op; op != NULL; op = op->next) {
        struct mr_answer *answer = &((struct mr_handout *)(void *)op)->answer;
        answer->verdict = MR_VERDICT_REFUSED;
        answer->ended_wall_ns = mr_clock_now().wall_ns;
        (void)snprintf(answer->instance, sizeof(answer->instance), "%s",
                       t->name); /* cut is fine */
        mr_handout_set_error((struct mr_handout *)(void *)op, mr_bytes_of(text));
    }
    add_answer(t, handout);
}

/* Cuts off what is behind the batch that begins with @p op, a hand-out; or behind that alone. */
static struct mr_op *cut_behind(struct mr_op *op)
{
    uint64_t batch = ((struct mr_handout *)(void *)op)->batch;
    while (batch != 0 && op->next != NULL && op->next->type == OP_HANDOUT &&
           ((struct mr_handout *)(void *)op->next)->batch == batch) {
        op = op->next;
    }
    struct mr_op *rest = op->next;
    op->next = NULL;
    return rest;
}

static void free_exchange(struct mr_target *t, struct mr_http_exchange *x)
{
    x->next = t->first_free;
    t->first_free = x;
    t->busy_count--;
    atomic_store_explicit(&t->busy, t->busy_count, memory_order_relaxed);
}

static void fail_exchange(struct mr_target *t, struct mr_http_exchange *x,
                          enum mr_http_failure failure, const char *text)
{
    struct mr_handout *handout = mr_http_exchange_fail(x, &t->plan, failure, text);
    note_outcome(t, handout, failure != MR_HTTP_NOT_REACHED);
    add_answer(t, handout);
    free_exchange(t, x);
}

static void exchange_done(void *context, struct mr_http_exchange *x,
                          const enum mr_http_failure *failure, const char *text)
{
    struct mr_target *t = context;
    if (failure != NULL) {
        fail_exchange(t, x, *failure, text);
        return;
    }
    struct mr_handout *handout = mr_http_exchange_finish(x, &t->plan);
    note_outcome(t, handout, true);
    add_answer(t, handout);
    free_exchange(t, x);
}

/* --- the handshake ---------------------------------------------------------------------------- */

static void note_state(struct mr_target *t, enum mr_health_state state, const char *error)
{
    struct mr_now now = mr_clock_now();
    pthread_mutex_lock(&t->mu);
    t->state = state;
    if (error != NULL) {
        mr_text_clean(t->last_error, sizeof(t->last_error), mr_bytes_of(error));
        t->last_error_wall_ns = now.wall_ns;
    }
    pthread_mutex_unlock(&t->mu);
}

/* Room there is with consent, and while the receiver is well. */
static void tell_capacity(struct mr_target *t)
{
    bool has_room = t->consent == CONSENT_GIVEN && t->probe.is_up;
    t->host->ops->capacity(t->host, atomic_load_explicit(&t->index, memory_order_relaxed),
                           has_room ? t->capacity : 0);
}

static void take_probe(struct mr_target *t, const struct mr_http_errand *errand)
{
    char why[256];
    bool had_failed = t->probe.failures > 0;
    bool has_changed = mr_http_probe_take(&t->probe, &t->options, errand, why);
    if (why[0] != '\0') {
        atomic_fetch_add_explicit(&t->errors, 1, memory_order_relaxed);
        note_state(t, t->probe.is_up ? MR_HEALTH_DEGRADED : MR_HEALTH_DOWN, why);
    } else if (has_changed || had_failed) {
        note_state(t, MR_HEALTH_OK, NULL);
    }
    if (has_changed) {
        MR_INFO("http", "target=%s health=%s %s", t->name, t->probe.is_up ? "well" : "out", why);
        tell_capacity(t);
    }
}

/* Asks for consent when it is time to. @return how long until the next look, at most @p wait_ms */
static int ask_consent(struct mr_target *t, int wait_ms)
{
    uint64_t now_ns = mr_clock_mono_ns();
    if (t->consent != CONSENT_TO_ASK) {
        return wait_ms;
    }
    if (now_ns < t->ask_at_ns) {
        uint64_t left_ms = (t->ask_at_ns - now_ns) / MR_MS + 1;
        return left_ms < (uint64_t)wait_ms ? (int)left_ms : wait_ms;
    }
    char origin[MR_HTTP_ORIGIN_SIZE_MAX + 1];
    mr_http_plan_origin(&t->options, origin);
    struct mr_http_errand *errand = mr_http_errand_create("OPTIONS", t->options.url->text);
    enum mr_status r = errand == NULL ? MR_E_NOMEM : MR_OK;
    if (r == MR_OK) {
        errand->op.type = OP_HANDSHAKE;
        errand->is_plain = true; /* as the deliveries */
        errand->egress = (enum mr_egress)t->options.egress;
        errand->tls_ca = mr_strdup(t->options.tls_ca);
        r = errand->tls_ca == NULL && t->options.tls_ca != NULL ? MR_E_NOMEM : MR_OK;
    }
    r = r == MR_OK ? mr_http_errand_header(errand, "WebHook-Request-Origin", origin) : r;
    r = r == MR_OK ? mr_http_courier_send(t->courier, errand) : r;
    t->ask_wait_ns = t->ask_wait_ns * 2 < ASK_NS_MIN   ? ASK_NS_MIN
                     : t->ask_wait_ns * 2 > ASK_NS_MAX ? ASK_NS_MAX
                                                       : t->ask_wait_ns * 2;
    t->ask_at_ns = now_ns + t->ask_wait_ns;
    if (r != MR_OK) {
        mr_http_errand_destroy(errand);
    } else {
        t->consent = CONSENT_ASKED;
    }
    return wait_ms;
}

static void take_consent(struct mr_target *t, const struct mr_http_errand *errand)
{
    struct mr_field answers[MR_HTTP_ERRAND_ANSWERS_MAX];
    uint32_t count = mr_http_errand_answers(errand, answers);
    char origin[MR_HTTP_ORIGIN_SIZE_MAX + 1];
    char text[256];
    uint64_t rate;
    mr_http_plan_origin(&t->options, origin);
    if (errand->status != 0 &&
        mr_http_handshake_granted(mr_bytes_of(origin), answers, count, &rate)) {
        t->consent = CONSENT_GIVEN;
        t->pace = (struct mr_http_pace){.rate = rate};
        note_state(t, MR_HEALTH_OK, NULL);
        MR_INFO("http", "target=%s the receiver consents to deliveries from %s", t->name, origin);
        tell_capacity(t);
        return;
    }
    t->consent = CONSENT_TO_ASK;
    if (errand->status != 0) {
        (void)snprintf(text, sizeof(text),
                       "the receiver does not consent to deliveries from %.150s (HTTP %u)", origin,
                       errand->status); /* fits */
    } else {
        (void)snprintf(text, sizeof(text), "no handshake with the receiver: %.180s",
                       errand->error); /* fits */
    }
    atomic_fetch_add_explicit(&t->errors, 1, memory_order_relaxed);
    note_state(t, MR_HEALTH_DOWN, text);
}

/* --- the loop --------------------------------------------------------------------------------- */

/* Beyond the granted rate a hand-out goes back, as if the receiver had answered 429. */
static bool is_paced(struct mr_target *t, struct mr_handout *handout)
{
    uint64_t wait_ns = mr_http_pace_take(&t->pace, mr_clock_mono_ns());
    if (wait_ns > 0) {
        for (struct mr_op *op = &handout->op; op != NULL; op = op->next) {
            ((struct mr_handout *)(void *)op)->answer.has_after = true;
            ((struct mr_handout *)(void *)op)->answer.after_ns = wait_ns;
        }
        refuse(t, handout, "the rate that the receiver granted is used up");
    }
    return wait_ns > 0;
}

static void begin(struct mr_target *t, struct mr_handout *handout)
{
    if (t->pace.rate != 0 && is_paced(t, handout)) {
        return;
    }
    struct mr_http_exchange *x = t->first_free;
    MR_ASSERT(x != NULL);
    t->first_free = x->next;
    x->next = NULL;
    t->busy_count++;
    atomic_store_explicit(&t->busy, t->busy_count, memory_order_relaxed);
    uint64_t now_ns = mr_clock_now().wall_ns;
    for (struct mr_op *op = &handout->op; op != NULL; op = op->next) {
        ((struct mr_handout *)(void *)op)->answer.started_wall_ns = now_ns;
    }
    enum mr_status r = mr_http_exchange_begin(x, &t->plan, handout);
    if (r == MR_E_TOO_BIG) {
        /* It will never fit: the answer must not be one that tries for ever. Of a batch each is
         * found out by itself. */
        struct mr_handout *dead = mr_http_exchange_fail(
            x, &t->plan, MR_HTTP_BROKEN,
            handout->batch != 0 ? "the events do not fit a request"
                                : "the event's attributes do not fit an HTTP header");
        dead->answer.verdict = dead->op.next == NULL ? MR_VERDICT_DEAD : dead->answer.verdict;
        add_answer(t, dead);
        free_exchange(t, x);
        return;
    }
    if (r == MR_OK) {
        r = t->transport->ops->start(t->transport, x);
    }
    if (r != MR_OK) {
        fail_exchange(t, x, MR_HTTP_NOT_STARTED, mr_status_text(r));
    }
}

/* Notes that the one @p cancel means is not waited for. @return whether it is the last of the
 * exchange: a batch is on its way as long as one of it counts */
static bool is_all_cancelled(struct mr_http_exchange *x, const struct cancel *cancel)
{
    bool found = false;
    bool all = true;
    for (struct mr_op *op = &x->handout->op; op != NULL; op = op->next) {
        struct mr_handout *h = (struct mr_handout *)(void *)op;
        if (h->subscription == cancel->subscription && h->offset == cancel->offset &&
            h->fence == cancel->fence) {
            h->context = x; /* the mark */
            found = true;
        }
        all = all && h->context != NULL;
    }
    return found && all;
}

static void cancel_one(struct mr_target *t, const struct cancel *cancel)
{
    for (uint32_t i = 0; i < t->capacity; i++) {
        struct mr_http_exchange *x = &t->exchanges[i];
        if (x->handout != NULL && is_all_cancelled(x, cancel)) {
            t->transport->ops->abort(t->transport, x);
            fail_exchange(t, x, MR_HTTP_TIMED_OUT, "timed out");
            return;
        }
    }
}

/* @p op: a hand-out, or the chain of a batch */
static void append_waiting(struct mr_target *t, struct mr_op *op)
{
    struct mr_op **at = &t->waiting;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = op;
}

static void take_ops(struct mr_target *t, bool stopping)
{
    struct mr_op *op;
    while ((op = mr_opq_take(&t->queue)) != NULL) { /* NULL arms the wake-up */
        while (op != NULL) {
            struct mr_op *next = op->type == OP_HANDOUT ? cut_behind(op) : op->next;
            if (op->type == OP_CANCEL) {
                cancel_one(t, (struct cancel *)(void *)op);
                mr_free(op);
            } else if (op->type == OP_HANDSHAKE) {
                take_consent(t, (struct mr_http_errand *)(void *)op);
                mr_http_errand_destroy((struct mr_http_errand *)(void *)op);
            } else if (op->type == OP_PROBE) {
                take_probe(t, (struct mr_http_errand *)(void *)op);
                mr_http_errand_destroy((struct mr_http_errand *)(void *)op);
            } else if (stopping || t->waiting != NULL || t->first_free == NULL) {
                append_waiting(t, op);
            } else {
                begin(t, (struct mr_handout *)(void *)op);
            }
            op = next;
        }
    }
    while (!stopping && t->waiting != NULL && t->first_free != NULL) {
        op = t->waiting;
        t->waiting = cut_behind(op);
        begin(t, (struct mr_handout *)(void *)op);
    }
}

static void refuse_waiting(struct mr_target *t)
{
    while (t->waiting != NULL) {
        struct mr_op *op = t->waiting;
        t->waiting = cut_behind(op);
        refuse(t, (struct mr_handout *)(void *)op, "the target is stopping");
    }
}

static void abort_all(struct mr_target *t)
{
    for (uint32_t i = 0; i < t->capacity; i++) {
        struct mr_http_exchange *x = &t->exchanges[i];
        if (x->handout != NULL) {
            t->transport->ops->abort(t->transport, x);
            fail_exchange(t, x, MR_HTTP_STOPPED, "stopped");
        }
    }
}

static int wait_until(uint64_t deadline_ns)
{
    uint64_t now_ns = mr_clock_mono_ns();
    if (now_ns >= deadline_ns) {
        return 0;
    }
    uint64_t left_ms = (deadline_ns - now_ns) / MR_MS + 1;
    return left_ms < WAIT_MS_MAX ? (int)left_ms : WAIT_MS_MAX;
}

static void *run_target(void *context)
{
    struct mr_target *t = context;
    for (;;) {
        /* Acquire: pairs with the release in stop_target(). */
        uint64_t deadline_ns = atomic_load_explicit(&t->stop_deadline_ns, memory_order_acquire);
        int wait_ms = deadline_ns == 0 ? WAIT_MS_MAX : wait_until(deadline_ns);
        take_ops(t, deadline_ns != 0);
        if (deadline_ns != 0) {
            refuse_waiting(t);
            if (t->busy_count > 0 && wait_ms == 0) {
                abort_all(t);
            }
        }
        give_answers(t);
        if (deadline_ns != 0 && t->busy_count == 0) {
            return NULL; /* the queue is closed: nothing comes any more */
        }
        if (deadline_ns == 0) {
            wait_ms = ask_consent(t, wait_ms);
            wait_ms = mr_http_probe_run(&t->probe, &t->options, t->courier, OP_PROBE, wait_ms);
        }
        t->transport->ops->run(t->transport, mr_opq_fd(&t->queue), wait_ms);
        give_answers(t);
    }
}

/* --- life ------------------------------------------------------------------------------------- */

static void destroy_target(struct mr_target *t)
{
    if (t == NULL) {
        return;
    }
    MR_ASSERT(!t->is_started);
    MR_ASSERT(t->busy_count == 0 && t->waiting == NULL && t->answers == NULL);
    mr_http_courier_destroy(t->courier);
    if (t->transport != NULL) {
        t->transport->ops->destroy(t->transport);
    }
    for (uint32_t i = 0; t->exchanges != NULL && i < t->capacity; i++) {
        mr_http_exchange_release(&t->exchanges[i]);
    }
    mr_free(t->exchanges);
    mr_http_plan_release(&t->plan);
    mr_http_probe_release(&t->probe);
    if (t->has_options) {
        mr_options_release(mr_http_client_option_table, &t->options);
    }
    if (t->has_queue) {
        mr_opq_release(&t->queue);
    }
    if (t->has_lock) {
        (void)pthread_mutex_destroy(&t->mu); /* nobody holds it */
    }
    mr_free(t->name);
    mr_free(t);
}

static enum mr_status make_parts(struct mr_target *t, const struct mr_target_args *args,
                                 struct mr_problem *problem)
{
    t->name = mr_strdup(args->name);
    t->exchanges = mr_calloc(t->capacity, sizeof(*t->exchanges));
    if (t->name == NULL || t->exchanges == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < t->capacity; i++) {
        mr_http_exchange_init(&t->exchanges[i]);
        t->exchanges[i].next = t->first_free;
        t->first_free = &t->exchanges[i];
    }
    enum mr_status r = mr__options_copy(mr_http_client_option_table, sizeof(t->options),
                                        args->options, &t->options);
    t->has_options = r == MR_OK;
    if (r == MR_OK) {
        (void)snprintf(t->version, sizeof(t->version), "%llu",
                       (unsigned long long)args->generation); /* 20 digits at most */
        r = mr_http_plan_init(&t->plan, &t->options, args->config->is_worker, t->name,
                              t->version);
    }
    if (r == MR_OK) {
        t->has_lock = pthread_mutex_init(&t->mu, NULL) == 0;
        r = t->has_lock ? mr_opq_init(&t->queue, UINT64_MAX) : MR_E_NOMEM;
        t->has_queue = r == MR_OK;
    }
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "cannot make target %s: %s", args->name,
                              mr_status_text(r));
    }
    t->consent = t->options.handshake ? CONSENT_TO_ASK : CONSENT_GIVEN;
    r = mr_http_probe_init(&t->probe, &t->options);
    if (r == MR_OK && (t->options.handshake || t->probe.url != NULL)) {
        r = mr_http_courier_create(&t->queue, &t->courier);
    }
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "cannot make target %s: %s", args->name,
                              mr_status_text(r));
    }
    const struct mr_http_transport_options options = {.options = &t->options,
                                                      .capacity = t->capacity,
                                                      .done = exchange_done,
                                                      .context = t};
    return mr_http_wire_fits(&t->options)
               ? mr_http_wire_create(&options, &t->transport, problem)
               : mr_http_curl_create(&options, &t->transport, problem);
}

static enum mr_status create_target(const struct mr_target_args *args,
                                    struct mr_target **ret_target, struct mr_problem *problem)
{
    struct mr_target *t = mr_calloc(1, sizeof(*t));
    if (t == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    t->host = args->host;
    t->capacity = args->config->concurrency == 0 ? 1 : args->config->concurrency;
    atomic_init(&t->index, args->index);
    mr_buf_init(&t->plan.fixed, 0);
    enum mr_status r = make_parts(t, args, problem);
    if (r != MR_OK) {
        destroy_target(t);
        return r;
    }
    *ret_target = t;
    return MR_OK;
}

static enum mr_status start_target(struct mr_target *t, struct mr_problem *problem)
{
    MR_ASSERT(!t->is_started);
    sigset_t all;
    sigset_t before;
    sigfillset(&all); /* inherited: signals are the main thread's, a broken pipe is an error */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&t->thread, NULL, run_target, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "no thread for target %s: %s", t->name,
                              strerror(error));
    }
    t->is_started = true;
    char name[16];
    (void)snprintf(name, sizeof(name), "http:%.10s", t->name); /* 15 at most, by the kernel */
    (void)pthread_setname_np(t->thread, name); /* only for those who look */
    if (t->options.handshake || t->options.health.path != NULL) {
        return MR_OK; /* no room before there is consent, or the receiver is known to be well */
    }
    t->host->ops->capacity(t->host, atomic_load_explicit(&t->index, memory_order_relaxed),
                           t->capacity);
    return MR_OK;
}

static void submit_handouts(struct mr_target *t, struct mr_handout *first)
{
    _Static_assert(offsetof(struct mr_handout, op) == 0, "found by its first member");
    for (struct mr_op *op = &first->op; op != NULL; op = op->next) {
        op->type = OP_HANDOUT;
    }
    if (mr_opq_push(&t->queue, &first->op) == MR_OK) {
        return;
    }
    for (struct mr_op *op = &first->op; op != NULL; op = op->next) {
        struct mr_handout *handout = (struct mr_handout *)(void *)op;
        handout->answer.verdict = MR_VERDICT_REFUSED;
        mr_handout_set_error(handout, MR_BYTES_LITERAL("the target is stopping"));
    }
    t->host->ops->answer(t->host, first);
}

static void cancel_handout(struct mr_target *t, uint32_t subscription, uint64_t offset,
                           uint32_t fence)
{
    struct cancel *cancel = mr_calloc(1, sizeof(*cancel));
    if (cancel == NULL) {
        return; /* the exchange has the same timeout of its own */
    }
    cancel->op.type = OP_CANCEL;
    cancel->subscription = subscription;
    cancel->offset = offset;
    cancel->fence = fence;
    if (mr_opq_push(&t->queue, &cancel->op) != MR_OK) {
        mr_free(cancel); /* stopping: everything is answered anyway */
    }
}

static void stop_target(struct mr_target *t, uint64_t deadline_mono_ns)
{
    if (!t->is_started) {
        return;
    }
    mr_opq_close(&t->queue);
    atomic_store_explicit(&t->stop_deadline_ns, deadline_mono_ns == 0 ? 1 : deadline_mono_ns,
                          memory_order_release);
    mr_opq_wake(&t->queue);
    pthread_join(t->thread, NULL);
    t->is_started = false;
}

static void read_health(struct mr_target *t, struct mr_health *ret)
{
    *ret = (struct mr_health){0};
    (void)snprintf(ret->detail, sizeof(ret->detail), "%.120s",
                   t->options.url->text); /* cut is fine */
    ret->messages = atomic_load_explicit(&t->messages, memory_order_relaxed);
    ret->errors = atomic_load_explicit(&t->errors, memory_order_relaxed);
    ret->instances_busy = atomic_load_explicit(&t->busy, memory_order_relaxed);
    ret->instances_ready = t->capacity - ret->instances_busy;
    pthread_mutex_lock(&t->mu);
    ret->state = t->state == MR_HEALTH_STARTING ? MR_HEALTH_OK : t->state;
    memcpy(ret->last_error, t->last_error, sizeof(ret->last_error));
    ret->last_error_wall_ns = t->last_error_wall_ns;
    pthread_mutex_unlock(&t->mu);
}

static void reindex_target(struct mr_target *t, uint32_t index)
{
    atomic_store_explicit(&t->index, index, memory_order_relaxed);
}

const struct mr_target_ops mr_http_target_ops = {
    .create = create_target,
    .start = start_target,
    .submit = submit_handouts,
    .cancel = cancel_handout,
    .stop = stop_target,
    .destroy = destroy_target,
    .health = read_health,
    .reindex = reindex_target,
};
