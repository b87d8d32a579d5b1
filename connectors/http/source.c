#include "connectors/http/source.h"

#include <poll.h>
#include <stdio.h>

#include "connectors/http/content.h"
#include "connectors/http/source_internal.h"
#include "connectors/options.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/limits.h"
#include "core/logger.h"
#include "schemas/adapter.h"

enum {
    ROUNDS_MAX = 16, /* of the reply queue in one pass */
    ANSWER_SIZE_MAX = 64 * 1024 * 1024, /* 1000 ids of 8 MiB together, escaped */
};

void mr__http_source_note(struct mr_source *s, const char *text)
{
    atomic_fetch_add_explicit(&s->errors, 1, memory_order_relaxed);
    struct mr_now now = mr_clock_now();
    pthread_mutex_lock(&s->mu);
    mr_text_clean(s->last_error, sizeof(s->last_error), mr_bytes_of(text));
    s->last_error_wall_ns = now.wall_ns;
    pthread_mutex_unlock(&s->mu);
}

/* --- the queue -------------------------------------------------------------------------------- */

/* An errand that is done. */
static void handle_errand(struct mr_source *s, struct mr_http_errand *errand)
{
    bool is_ok = errand->status >= 200 && errand->status <= 299;
    const char *what = errand->op.type == MR__HTTP_SOURCE_CONFIRMED
                           ? "confirming an SNS subscription"
                           : "calling a webhook's sender back";
    if (errand->op.type == MR__HTTP_SOURCE_CERTIFICATE) {
        mr__http_sns_certificate(s, errand);
    } else if (!is_ok) {
        char text[256];
        if (errand->status != 0) {
            (void)snprintf(text, sizeof(text), "%s failed: HTTP %u", what,
                           errand->status); /* fits */
        } else {
            (void)snprintf(text, sizeof(text), "%s failed: %.150s", what, errand->error); /* fits */
        }
        MR_WARN("http", "source=%s %s", s->name, text);
        mr__http_source_note(s, text);
    } else {
        MR_INFO("http", "source=%s %s is done", s->name, what);
    }
    mr_http_errand_destroy(errand);
}

static void handle_op(struct mr_source *s, struct mr_op *op)
{
    if (op->type == MR__HTTP_SOURCE_WAITED) {
        mr__http_wait_finish(s, (struct mr__http_wait *)(void *)op);
        return;
    }
    if (op->type >= MR__HTTP_SOURCE_CERTIFICATE) {
        handle_errand(s, (struct mr_http_errand *)(void *)op);
        return;
    }
    switch ((enum mr_source_op)op->type) {
    case MR_SOURCE_OP_BATCH_DONE:
        mr__http_source_finish(s, (struct mr_batch *)(void *)op);
        break;
    case MR_SOURCE_OP_SLOW:
        atomic_store_explicit(&s->slow, true, memory_order_relaxed);
        break;
    case MR_SOURCE_OP_GO:
        atomic_store_explicit(&s->slow, false, memory_order_relaxed);
        break;
    }
}

/* @return whether something may be left */
static bool drain_queue(void *context)
{
    _Static_assert(offsetof(struct mr_batch, op) == 0, "found by its first member");
    struct mr_source *s = context;
    for (int round = 0; round < ROUNDS_MAX; round++) {
        struct mr_op *op = mr_opq_take(&s->queue);
        if (op == NULL) {
            return false;
        }
        while (op != NULL) {
            struct mr_op *next = op->next;
            op->next = NULL;
            handle_op(s, op);
            op = next;
        }
    }
    return true;
}

static void end_pass(void *context)
{
    mr__http_source_submit(context);
}

/* --- options ---------------------------------------------------------------------------------- */

static enum mr_status check_path(const char *path, struct mr_problem *problem)
{
    static const char *const taken[] = {"/livez", "/readyz", "/metrics"};
    if (path == NULL || path[0] != '/' || strpbrk(path, "?#* ") != NULL) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "`path` %s must begin with a slash and have no ? # * or blank",
                              path == NULL ? "(none)" : path);
    }
    for (size_t i = 0; i < MR_ARRAY_COUNT(taken); i++) {
        if (strcmp(path, taken[i]) == 0) {
            return mr_problem_set(problem, MR_E_INVALID, "`path` %s is Millrace's own", path);
        }
    }
    return MR_OK;
}

static enum mr_status read_codings(const struct mr_strings *words, unsigned *ret_codings,
                                   struct mr_problem *problem)
{
    unsigned codings = 0;
    for (uint32_t i = 0; i < words->count; i++) {
        if (strcmp(words->items[i], "gzip") == 0) {
            codings |= MR_HTTP_CODING_GZIP;
        } else if (strcmp(words->items[i], "zstd") == 0) {
            codings |= MR_HTTP_CODING_ZSTD;
        } else {
            return mr_problem_set(problem, MR_E_INVALID, "`decode` takes gzip and zstd, not %.60s",
                                  words->items[i]);
        }
    }
    *ret_codings = codings;
    return MR_OK;
}

static bool has_verify(const struct mr_http_verify_options *o)
{
    return o->scheme != MR_HTTP_SCHEME_NONE || o->secret != NULL || o->previous_secret != NULL ||
           o->header != NULL || o->prefix != NULL || o->certificate != NULL ||
           o->topics.count > 0;
}

/* The verifier the options ask for, `token` being a short form; NULL when there is none. */
static enum mr_status make_verifier(const struct mr_http_source_options *o,
                                    struct mr_http_verifier **ret_verifier,
                                    struct mr_problem *problem)
{
    if (o->token != NULL && has_verify(&o->verify)) {
        return mr_problem_set(problem, MR_E_INVALID, "give either `token` or `verify`, not both");
    }
    if (o->token != NULL) {
        const struct mr_http_verify_options bearer = {.scheme = MR_HTTP_SCHEME_BEARER,
                                                      .secret = o->token};
        return mr_http_verifier_create(&bearer, ret_verifier, problem);
    }
    *ret_verifier = NULL;
    return has_verify(&o->verify) ? mr_http_verifier_create(&o->verify, ret_verifier, problem)
                                  : MR_OK;
}

enum mr_status mr_http_source_check(const void *options, struct mr_problem *problem)
{
    const struct mr_http_source_options *o = options;
    struct mr_http_verifier *verifier = NULL;
    unsigned codings;
    enum mr_status r = check_path(o->path, problem);
    if (r == MR_OK) {
        r = read_codings(&o->decode, &codings, problem);
    }
    if (r == MR_OK) {
        r = mr_http_handshake_check(&o->handshake, problem);
    }
    if (r == MR_OK) {
        r = make_verifier(o, &verifier, problem);
    }
    mr_http_verifier_destroy(verifier);
    if (r == MR_OK && o->confirm && o->verify.scheme != MR_HTTP_SCHEME_SNS) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "`confirm` needs `verify: {scheme: sns}`: only a message whose "
                              "signature held is followed");
    }
    return r;
}

/* --- life ------------------------------------------------------------------------------------- */

static void destroy_source(struct mr_source *s)
{
    if (s == NULL) {
        return;
    }
    mr_http_courier_destroy(s->courier);
    s->courier = NULL;
    if (s->has_queue && !s->is_watched) {
        (void)drain_queue(s); /* errands that came back last; batches are counted below */
    }
    if (s->in_flight > 0 || s->wait_count > 0) {
        /* They would come back into freed memory: kept for ever instead. */
        MR_ERROR("http", "source %s destroyed with %u batches not back", s->name, s->in_flight);
        return;
    }
    MR_ASSERT(s->open == NULL);
    mr__http_sns_destroy(s->sns);
    mr_http_verifier_destroy(s->verifier);
    mr_buf_release(&s->answer);
    mr_buf_release(&s->plain);
    if (s->has_queue) {
        mr_opq_release(&s->queue);
    }
    if (s->has_lock) {
        (void)pthread_mutex_destroy(&s->mu); /* nobody holds it */
    }
    if (s->has_options) {
        mr_options_release(mr_http_source_option_table, &s->options);
    }
    mr_free(s->name);
    mr_free(s);
}

static enum mr_status copy_options(struct mr_source *s, const struct mr_source_args *args,
                                   struct mr_problem *problem)
{
    const struct mr_http_source_options *options = args->options;
    enum mr_status r = mr__options_copy(mr_http_source_option_table, sizeof(s->options), options,
                                        &s->options);
    s->has_options = r == MR_OK;
    s->name = mr_strdup(args->name);
    s->event_size_max = args->config->event_size_max;
    s->salt = args->salt;
    if (r == MR_OK && s->name == NULL) {
        r = MR_E_NOMEM;
    }
    if (r == MR_OK) {
        r = read_codings(&s->options.decode, &s->codings, problem);
    }
    if (r == MR_OK) {
        r = make_verifier(&s->options, &s->verifier, problem);
    }
    const enum mr_http_scheme scheme = (enum mr_http_scheme)s->options.verify.scheme;
    s->is_lenient = scheme != MR_HTTP_SCHEME_NONE;
    s->has_body_signature = s->is_lenient && scheme != MR_HTTP_SCHEME_GITLAB &&
                            scheme != MR_HTTP_SCHEME_BEARER && scheme != MR_HTTP_SCHEME_BASIC;
    if (r == MR_OK && scheme == MR_HTTP_SCHEME_SNS) {
        r = mr__http_sns_create(&s->options.verify, &s->sns, problem);
    }
    return r;
}

static enum mr_status create_source(const struct mr_source_args *args,
                                    struct mr_source **ret_source, struct mr_problem *problem)
{
    if (args->listener == NULL) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "source %s takes HTTP but `listen` is off: give it an address",
                              args->name);
    }
    struct mr_source *s = mr_calloc(1, sizeof(*s));
    if (s == NULL) {
        return mr_problem_set(problem, MR_E_NOMEM, "out of memory");
    }
    s->host = args->host;
    s->listener = args->listener;
    mr_buf_init(&s->answer, ANSWER_SIZE_MAX);
    mr_buf_init(&s->plain, MR_BATCH_SIZE_MAX + 1); /* one byte more shows that there are more */
    mr_rng_init(&s->rng, mr_rng_entropy());
    atomic_init(&s->index, args->index);
    enum mr_status r = copy_options(s, args, problem);
    if (r == MR_OK) {
        s->has_lock = pthread_mutex_init(&s->mu, NULL) == 0;
        r = s->has_lock ? mr_opq_init(&s->queue, UINT64_MAX) : MR_E_NOMEM;
        s->has_queue = r == MR_OK;
    }
    bool has_errands = s->sns != NULL || s->options.handshake.grant == MR_HTTP_GRANT_CALLBACK;
    if (r == MR_OK && has_errands) {
        r = mr_http_courier_create(&s->queue, &s->courier);
    }
    for (uint32_t i = 0; i < MR__HTTP_ORIGINS_MAX; i++) {
        s->paces[i].rate = (uint64_t)s->options.handshake.rate;
    }
    if (r != MR_OK) {
        destroy_source(s);
        bool is_said = r == MR_E_INVALID; /* by what found it */
        return is_said ? r
                       : mr_problem_set(problem, r, "cannot make source %s: %s",
                                        args->name, mr_status_text(r));
    }
    s->watch = (struct mr__http_watch){
        .queue = &s->queue, .ready = drain_queue, .end_of_pass = end_pass, .context = s};
    *ret_source = s;
    return MR_OK;
}

static enum mr_status start_source(struct mr_source *s, struct mr_problem *problem)
{
    bool has_handshake = s->options.handshake.origins.count > 0;
    enum mr_status r = mr__http_watch(s->listener, &s->watch);
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "cannot start source %s: %s", s->name,
                              mr_status_text(r));
    }
    s->is_watched = true;
    const struct mr_http_route route = {
        .methods = MR_HTTP_POST | (has_handshake ? (unsigned)MR_HTTP_OPTIONS : 0),
        .path = s->options.path,
        .body_max = MR_BATCH_SIZE_MAX,
        .handle = mr__http_source_handle,
        .admit = mr__http_source_admit,
        .fields_borrowed = s->sns == NULL,
        .context = s,
    };
    r = mr_http_listener_route(s->listener, &route, false);
    if (r == MR_OK) {
        return MR_OK;
    }
    mr__http_unwatch(s->listener, &s->watch);
    s->is_watched = false;
    if (r == MR_E_EXISTS) {
        return mr_problem_set(problem, r, "source %s: the path %s is taken by another", s->name,
                              s->options.path);
    }
    return mr_problem_set(problem, r, "cannot start source %s: %s", s->name, mr_status_text(r));
}

static void pause_source(struct mr_source *s)
{
    atomic_store_explicit(&s->paused, true, memory_order_relaxed);
}

static void resume_source(struct mr_source *s)
{
    atomic_store_explicit(&s->paused, false, memory_order_relaxed);
}

static void stop_source(struct mr_source *s, uint64_t deadline_mono_ns)
{
    if (s->is_watched) {
        pause_source(s);
        mr_http_listener_unroute(s->listener, s);
        mr__http_unwatch(s->listener, &s->watch);
        s->is_watched = false;
        mr__http_sns_release(s);
        mr__http_source_submit(s); /* from here on this thread owns what was the listener's */
    }
    if (s->wait_count > 0) {
        s->host->ops->withdraw(s->host, &s->queue);
    }
    while (drain_queue(s) || s->in_flight > 0 || s->wait_count > 0) {
        uint64_t now = mr_clock_mono_ns();
        if (now >= deadline_mono_ns) {
            MR_WARN("http", "source %s stops with %u batches not back", s->name, s->in_flight);
            return;
        }
        uint64_t left_ms = (deadline_mono_ns - now) / MR_MS + 1;
        struct pollfd fd = {.fd = mr_opq_fd(&s->queue), .events = POLLIN};
        (void)poll(&fd, 1, left_ms < 1000 ? (int)left_ms : 1000); /* either way we look again */
    }
}

static void read_health(struct mr_source *s, struct mr_health *ret)
{
    *ret = (struct mr_health){.state = MR_HEALTH_OK};
    const char *why = "";
    if (mr__http_source_is_busy(s, &why)) {
        ret->state = MR_HEALTH_DEGRADED;
    }
    (void)snprintf(ret->detail, sizeof(ret->detail), "%s%s%.80s", why, why[0] != '\0' ? ", " : "",
                   s->options.path); /* cut is harmless */
    ret->messages = atomic_load_explicit(&s->messages, memory_order_relaxed);
    ret->errors = atomic_load_explicit(&s->errors, memory_order_relaxed);
    ret->bytes_held = atomic_load_explicit(&s->pending, memory_order_relaxed);
    pthread_mutex_lock(&s->mu);
    memcpy(ret->last_error, s->last_error, sizeof(ret->last_error));
    ret->last_error_wall_ns = s->last_error_wall_ns;
    pthread_mutex_unlock(&s->mu);
}

static void reindex_source(struct mr_source *s, uint32_t index)
{
    atomic_store_explicit(&s->index, index, memory_order_relaxed);
}

const struct mr_source_ops mr_http_source_ops = {
    .create = create_source,
    .start = start_source,
    .pause = pause_source,
    .resume = resume_source,
    .stop = stop_source,
    .destroy = destroy_source,
    .health = read_health,
    .reindex = reindex_source,
};
