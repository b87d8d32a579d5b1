/* What the AMQP contract tests share: a broker started by a script, a plain client of rabbitmq-c to
 * publish and to look, and sources and sinks made from a few words. */
#ifndef MR_TESTS_CONTRACT_AMQP_SUPPORT_H
#define MR_TESTS_CONTRACT_AMQP_SUPPORT_H

#include "tests/support/test.h"

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "connectors/amqp/amqp.h"
#include "core/alloc.h"
#include "core/logger.h"
#include "schemas/json_format.h"
#include "tests/support/test_host.h"

#define DEADLINE_MS 30000

/* --- the broker ------------------------------------------------------------------------------- */

struct broker {
    char dir[64];
    unsigned port;
    unsigned tls_port;
};

/* Runs tests/support/rabbitmq.sh with a verb and up to four more words; the first of its output
 * into @p line, which may be NULL. @return its exit code */
static inline int broker_run(const struct broker *b, const char *const *words, char *line,
                             size_t size)
{
    char path[512];
    int out[2];
    static int guard[2] = {-1, -1}; /* its writing end closes when we end, however we do */
    if (guard[0] < 0 && pipe2(guard, O_CLOEXEC) != 0) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/tests/support/rabbitmq.sh", MR_SOURCE_DIR);
    if (pipe(out) != 0) {
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        const char *arguments[12] = {"bash", path, words[0], b->dir};
        for (int i = 1; words[i] != NULL && i < 8; i++) {
            arguments[3 + i] = words[i];
        }
        dup2(out[1], 1);
        close(out[0]);
        close(out[1]);
        char fd[16]; /* a copy outlives the exec */
        snprintf(fd, sizeof(fd), "%d", dup(guard[0]));
        setenv("AMQP_GUARD", fd, 1);
        execv("/bin/bash", (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    close(out[1]);
    char ignored[256];
    size_t got = 0;
    ssize_t n;
    while ((n = read(out[0], ignored, sizeof(ignored))) > 0) {
        for (ssize_t i = 0; line != NULL && i < n && got + 1 < size; i++) {
            line[got++] = ignored[i];
        }
    }
    if (line != NULL) {
        line[got] = '\0';
    }
    close(out[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline void broker_do(const struct broker *b, const char *verb)
{
    const char *words[] = {verb, NULL};
    assert_int_equal(broker_run(b, words, NULL, 0), 0);
}

static inline void broker_alarm(const struct broker *b, const char *on)
{
    const char *words[] = {"alarm", on, NULL};
    assert_int_equal(broker_run(b, words, NULL, 0), 0);
}

static inline void broker_ctl(const struct broker *b, const char *w1, const char *w2,
                              const char *w3, const char *w4, const char *w5)
{
    const char *words[] = {"ctl", w1, w2, w3, w4, w5, NULL};
    assert_int_equal(broker_run(b, words, NULL, 0), 0);
}

/* Exit code 77 ends the whole program: it is what ctest takes for "skipped". */
static inline void broker_start(struct broker *b)
{
    char line[128];
    const char *words[] = {"start", NULL};
    int code = broker_run(b, words, line, sizeof(line));
    if (code == 77) {
        exit(77);
    }
    if (code != 0 || sscanf(line, "%u %u", &b->port, &b->tls_port) != 2) {
        print_error("the broker did not start (exit %d): %s\n", code, line);
        exit(1);
    }
}

static inline void broker_make(struct broker *b)
{
    snprintf(b->dir, sizeof(b->dir), "/tmp/millrace-amqp-XXXXXX");
    if (mkdtemp(b->dir) == NULL) {
        exit(1);
    }
    broker_start(b);
}

static inline void broker_remove(struct broker *b)
{
    broker_do(b, "kill");
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", b->dir, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

static inline int64_t now_ms(void)
{
    return (int64_t)(mr_clock_mono_ns() / MR_MS);
}

/* --- a plain client --------------------------------------------------------------------------- */

struct client {
    amqp_connection_state_t conn;
};

static inline void client_ok(struct client *c)
{
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(c->conn);
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION &&
        reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *m = reply.reply.decoded;
        fail_msg("the test's client: %.*s", (int)m->reply_text.len,
                 (const char *)m->reply_text.bytes);
    }
    assert_int_equal(reply.reply_type, AMQP_RESPONSE_NORMAL);
}

static inline void client_open(struct client *c, unsigned port)
{
    const struct timeval wait = {.tv_sec = 10};
    c->conn = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(c->conn);
    assert_int_equal(amqp_socket_open_noblock(socket, "127.0.0.1", (int)port, &wait), 0);
    amqp_rpc_reply_t reply = amqp_login(c->conn, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN,
                                        "guest", "guest");
    assert_int_equal(reply.reply_type, AMQP_RESPONSE_NORMAL);
    amqp_channel_open(c->conn, 1);
    client_ok(c);
    amqp_confirm_select(c->conn, 1);
    client_ok(c);
}

static inline void client_close(struct client *c)
{
    (void)amqp_connection_close(c->conn, AMQP_REPLY_SUCCESS);
    (void)amqp_destroy_connection(c->conn);
}

/* @param type "classic", "quorum" or "stream" */
static inline void client_declare(struct client *c, const char *queue, const char *type)
{
    amqp_table_entry_t entry = {.key = amqp_cstring_bytes("x-queue-type"),
                                .value = {.kind = AMQP_FIELD_KIND_UTF8}};
    entry.value.value.bytes = amqp_cstring_bytes(type);
    const amqp_table_t table = {1, &entry};
    amqp_queue_declare(c->conn, 1, amqp_cstring_bytes(queue), 0, 1, 0, 0, table);
    client_ok(c);
}

static inline void client_delete(struct client *c, const char *queue)
{
    amqp_queue_delete(c->conn, 1, amqp_cstring_bytes(queue), 0, 0);
    client_ok(c);
}

/* Messages ready in the queue; -1: there is no queue of this name. */
static inline int client_ready(unsigned port, const char *queue)
{
    struct client c;
    client_open(&c, port);
    const amqp_queue_declare_ok_t *ok =
        amqp_queue_declare(c.conn, 1, amqp_cstring_bytes(queue), 1, 0, 0, 0, amqp_empty_table);
    int count = ok == NULL ? -1 : (int)ok->message_count;
    client_close(&c);
    return count;
}

static inline bool ready_reaches(unsigned port, const char *queue, int count)
{
    int64_t until = now_ms() + DEADLINE_MS;
    while (client_ready(port, queue) != count) {
        if (now_ms() > until) {
            print_error("%d messages are ready in %s\n", client_ready(port, queue), queue);
            return false;
        }
        poll(NULL, 0, 20);
    }
    return true;
}

/* Waits until the broker has confirmed @p count messages. */
static inline void client_confirmed(struct client *c, uint64_t count)
{
    uint64_t got = 0;
    while (got < count) {
        amqp_frame_t frame;
        const struct timeval wait = {.tv_sec = 20};
        assert_int_equal(amqp_simple_wait_frame_noblock(c->conn, &frame, &wait), 0);
        assert_int_equal(frame.frame_type, AMQP_FRAME_METHOD);
        assert_int_equal(frame.payload.method.id, AMQP_BASIC_ACK_METHOD);
        got = ((const amqp_basic_ack_t *)frame.payload.method.decoded)->delivery_tag;
        amqp_maybe_release_buffers(c->conn);
    }
}

static inline void client_publish(struct client *c, const char *exchange, const char *key,
                                  const amqp_basic_properties_t *p, const void *body, size_t size)
{
    assert_int_equal(amqp_basic_publish(c->conn, 1, amqp_cstring_bytes(exchange),
                                        amqp_cstring_bytes(key), 0, 0, p,
                                        (amqp_bytes_t){size, (void *)(uintptr_t)body}),
                     0);
}

/* Publishes @p count events e<from>, e<from + 1>, … as structured CloudEvents, persistent. */
static inline void publish_events(unsigned port, const char *queue, int from, int count)
{
    struct client c;
    client_open(&c, port);
    amqp_basic_properties_t p = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG,
        .content_type = amqp_cstring_bytes("application/cloudevents+json"),
        .delivery_mode = 2};
    for (int i = 0; i < count; i++) {
        char text[256];
        int size = snprintf(text, sizeof(text),
                            "{\"specversion\":\"1.0\",\"id\":\"e%d\",\"source\":\"/test\","
                            "\"type\":\"t\",\"data\":%d}",
                            from + i, i);
        client_publish(&c, "", queue, &p, text, (size_t)size);
    }
    client_confirmed(&c, (uint64_t)count);
    client_close(&c);
}

static inline void publish_text(unsigned port, const char *queue, const char *type,
                                const char *text)
{
    struct client c;
    client_open(&c, port);
    amqp_basic_properties_t p = {0};
    if (type != NULL) {
        p._flags = AMQP_BASIC_CONTENT_TYPE_FLAG;
        p.content_type = amqp_cstring_bytes(type);
    }
    client_publish(&c, "", queue, &p, text, strlen(text));
    client_confirmed(&c, 1);
    client_close(&c);
}

static inline void make_queue(unsigned port, const char *queue, const char *type)
{
    struct client c;
    client_open(&c, port);
    client_declare(&c, queue, type);
    client_close(&c);
}

/* --- a source under test ---------------------------------------------------------------------- */

struct source_words {
    const char *url; /* NULL: of the port */
    unsigned port;
    const char *queue;
    const char *name; /* "jobs" */
    const char *ca;
    int64_t prefetch;
    unsigned heartbeat_s;
    enum mr_amqp_queue_type type;
    const char *arguments;
    const char *exchange;
    enum mr_amqp_exchange_type exchange_type;
    const char *binding;
    int adapter;
    uint64_t event_size_max;
};

static inline void set_peer(struct mr_amqp_peer_options *peer, const char *url, unsigned port,
                            const char *ca, unsigned heartbeat_s)
{
    char text[256];
    snprintf(text, sizeof(text), "amqp://127.0.0.1:%u", port);
    assert_int_equal(mr_parse_url(mr_bytes_of(url == NULL ? text : url), &peer->url, NULL), MR_OK);
    peer->tls_ca = mr_strdup(ca);
    if (heartbeat_s != 0) {
        peer->heartbeat_ns = heartbeat_s * MR_SECOND;
    }
}

static inline struct mr_source *source_open(struct test_host *h, const struct source_words *w)
{
    const struct mr_config_kind *kind = &mr_connector_amqp.source_kind;
    struct mr_amqp_source_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(kind->options, &o), MR_OK);
    set_peer(&o.peer, w->url, w->port, w->ca, w->heartbeat_s);
    o.queue = mr_strdup(w->queue);
    o.prefetch = w->prefetch == 0 ? o.prefetch : w->prefetch;
    o.adapter = w->adapter;
    o.declare.type = w->type;
    o.declare.arguments = mr_strdup(w->arguments);
    o.declare.exchange = mr_strdup(w->exchange);
    o.declare.exchange_type = w->exchange_type;
    if (w->binding != NULL) {
        o.declare.bindings.items = mr_calloc(1, sizeof(char *));
        o.declare.bindings.items[0] = mr_strdup(w->binding);
        o.declare.bindings.count = 1;
    }
    struct mr_source_config config = {.event_size_max = w->event_size_max != 0
                                                            ? w->event_size_max
                                                            : MR_EVENT_SIZE_DEFAULT};
    struct mr_source_args args = {.host = &h->host,
                                  .index = 3,
                                  .name = w->name == NULL ? "jobs" : w->name,
                                  .options = &o,
                                  .config = &config,
                                  .folder = "/nowhere"};
    struct mr_source *source = NULL;
    struct mr_problem problem = {.text = ""};
    if (mr_connector_amqp.source->create(&args, &source, &problem) != MR_OK) {
        fail_msg("create: %s", problem.text);
    }
    mr_options_release(kind->options, &o); /* the instance keeps nothing of ours */
    assert_int_equal(mr_connector_amqp.source->start(source, &problem), MR_OK);
    return source;
}

static inline void source_close(struct mr_source *source)
{
    mr_connector_amqp.source->stop(source, mr_clock_mono_ns() + 10 * MR_SECOND);
    mr_connector_amqp.source->destroy(source);
}

/* Waits until the source has read @p count messages. */
static inline bool source_has_read(struct mr_source *source, uint64_t count)
{
    int64_t until = now_ms() + DEADLINE_MS;
    struct mr_health health;
    do {
        mr_connector_amqp.source->health(source, &health);
        if (health.messages >= count) {
            return true;
        }
        poll(NULL, 0, 20);
    } while (now_ms() < until);
    return false;
}

static inline bool source_reaches(struct mr_source *source, enum mr_health_state state, int ms)
{
    int64_t until = now_ms() + ms;
    struct mr_health health;
    do {
        mr_connector_amqp.source->health(source, &health);
        if (health.state == state) {
            return true;
        }
        poll(NULL, 0, 5);
    } while (now_ms() < until);
    return false;
}

static inline void source_ready(struct mr_source *source)
{
    if (!source_reaches(source, MR_HEALTH_OK, DEADLINE_MS)) {
        struct mr_health health;
        mr_connector_amqp.source->health(source, &health);
        fail_msg("not connected: %s", health.last_error);
    }
}

/* Waits until the last error holds @p text. */
static inline void source_says(struct mr_source *source, const char *text)
{
    struct mr_health health;
    int64_t until = now_ms() + DEADLINE_MS;
    do {
        mr_connector_amqp.source->health(source, &health);
        if (strstr(health.last_error, text) != NULL) {
            return;
        }
        poll(NULL, 0, 5);
    } while (now_ms() < until);
    fail_msg("want \"%s\", got \"%s\"", text, health.last_error);
}

/* How many different ids of e<from>..e<from + count - 1> the host has. */
static inline int count_ids(struct test_host *h, int from, int count)
{
    int found = 0;
    bool *seen = calloc((size_t)count, sizeof(bool));
    pthread_mutex_lock(&h->mu);
    for (uint32_t k = 0; k < h->event_count; k++) {
        struct mr_bytes id = mr_event_id(mr_event_record(h->events[k]));
        char text[32];
        snprintf(text, sizeof(text), "%.*s", (int)id.size, (const char *)id.data);
        int n = 0;
        if (sscanf(text, "e%d", &n) == 1 && n >= from && n < from + count && !seen[n - from]) {
            seen[n - from] = true;
            found++;
        }
    }
    pthread_mutex_unlock(&h->mu);
    free(seen);
    return found;
}

static inline bool wait_ids(struct test_host *h, int from, int count)
{
    int64_t until = now_ms() + DEADLINE_MS;
    while (count_ids(h, from, count) < count) {
        if (now_ms() > until) {
            print_error("%d of %d came\n", count_ids(h, from, count), count);
            return false;
        }
        (void)test_host_wait_for(h, HOST_EVENTS, UINT32_MAX, 0.02);
    }
    return true;
}

/* --- a sink under test ------------------------------------------------------------------------ */

struct sink_words {
    const char *url;
    unsigned port;
    const char *exchange;
    const char *key;
    const char *ca;
    enum mr_amqp_exchange_type exchange_type;
    enum mr_mode mode;
    enum mr_amqp_habit headers;
    unsigned heartbeat_s;
    uint32_t concurrency;
};

static inline struct mr_target *sink_open(struct test_host *h, const struct sink_words *w)
{
    const struct mr_config_kind *kind = &mr_connector_amqp.sink_kind;
    struct mr_amqp_sink_options o;
    memset(&o, 0, sizeof(o));
    assert_int_equal(mr_options_defaults(kind->options, &o), MR_OK);
    set_peer(&o.peer, w->url, w->port, w->ca, w->heartbeat_s);
    o.exchange = mr_strdup(w->exchange);
    o.exchange_type = w->exchange_type;
    mr_free(o.routing_key);
    o.routing_key = mr_strdup(w->key);
    o.mode = w->mode;
    o.headers = w->headers;
    struct mr_target_config config = {.concurrency = w->concurrency};
    struct mr_target_args args = {.host = &h->host,
                                  .index = 2,
                                  .name = "out",
                                  .options = &o,
                                  .config = &config,
                                  .folder = "/nowhere"};
    struct mr_target *target = NULL;
    struct mr_problem problem = {.text = ""};
    if (mr_connector_amqp.sink->create(&args, &target, &problem) != MR_OK) {
        fail_msg("create: %s", problem.text);
    }
    mr_options_release(kind->options, &o);
    assert_int_equal(mr_connector_amqp.sink->start(target, &problem), MR_OK);
    return target;
}

static inline void sink_close(struct mr_target *target)
{
    mr_connector_amqp.sink->stop(target, mr_clock_mono_ns() + 5 * MR_SECOND);
    mr_connector_amqp.sink->destroy(target);
}

static inline void sink_says(struct mr_target *target, const char *text)
{
    struct mr_health health;
    int64_t until = now_ms() + DEADLINE_MS;
    do {
        mr_connector_amqp.sink->health(target, &health);
        if (strstr(health.last_error, text) != NULL) {
            return;
        }
        poll(NULL, 0, 5);
    } while (now_ms() < until);
    fail_msg("want \"%s\", got \"%s\"", text, health.last_error);
}

/* A hand-out of an event with this id, subject and data (a JSON text). */
static inline struct mr_handout *make_handout(const char *id, const char *subject,
                                              const char *data, double timeout_s)
{
    struct mr_buf text;
    struct mr_event *event = NULL;
    struct mr_problem problem = {.text = ""};
    mr_buf_init(&text, 8 * MR_MIB);
    assert_int_equal(mr_buf_printf(&text,
                                   "{\"specversion\":\"1.0\",\"id\":\"%s\",\"source\":\"/s\","
                                   "\"type\":\"com.example.t\",\"subject\":\"%s\","
                                   "\"datacontenttype\":\"application/json\",\"data\":",
                                   id, subject),
                     MR_OK);
    assert_int_equal(mr_buf_append_text(&text, data), MR_OK);
    assert_int_equal(mr_buf_append_text(&text, "}"), MR_OK);
    if (mr_json_decode_event(mr_buf_bytes(&text), MR_EVENT_SIZE_MAX, &event, &problem) != MR_OK) {
        fail_msg("%s", problem.text);
    }
    mr_buf_release(&text);
    struct mr_handout *handout = mr_handout_create();
    handout->target = 2;
    handout->event = event;
    handout->timeout_ns = (uint64_t)(timeout_s * (double)MR_SECOND);
    return handout;
}

static inline void sink_give(struct mr_target *target, struct mr_handout *handout)
{
    mr_connector_amqp.sink->submit(target, handout);
}

/* The answer of the event with this id; fails when there is none. */
static inline const struct mr_answer *answer_of(struct test_host *h, const char *id)
{
    static const struct mr_answer none;
    const struct mr_answer *answer = &none;
    pthread_mutex_lock(&h->mu);
    for (uint32_t i = 0; i < h->answer_count; i++) {
        struct mr_bytes got = mr_event_id(mr_event_record(h->answers[i]->event));
        if (mr_bytes_equal(got, mr_bytes_of(id))) {
            answer = &h->answers[i]->answer;
        }
    }
    pthread_mutex_unlock(&h->mu);
    if (answer == &none) {
        fail_msg("no answer for %s", id);
    }
    return answer;
}

#endif
