/* The bare AMQP client of a measurement: rabbitmq-c alone, doing what the connector does with the
 * broker and nothing else.
 *
 *     bench_amqp fill PORT QUEUE COUNT       makes the queue, fills it: 1 KiB each, persistent
 *     bench_amqp consume PORT QUEUE COUNT    prefetch 1000, one multiple ack for each 500
 *     bench_amqp publish PORT QUEUE COUNT    confirms, 500 under way, an event's headers
 *
 * QUEUE is TYPE:NAME, TYPE classic or quorum. Prints CLOCK_MONOTONIC of the first and last message
 * and the processor time it took as one JSON line. */
#include "bench/util.h"

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <poll.h>
#include <string.h>

#define NAME "bench_amqp"
#define PREFETCH 1000
#define ACK_EVERY 500
#define WINDOW 500

static amqp_connection_state_t conn;
static uint64_t first_ns;
static uint64_t last_ns;

static void check(const char *what)
{
    if (amqp_get_rpc_reply(conn).reply_type != AMQP_RESPONSE_NORMAL) {
        bench_die(NAME, what);
    }
}

static void open_connection(uint16_t port)
{
    conn = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(conn);
    if (socket == NULL || amqp_socket_open(socket, "127.0.0.1", port) != AMQP_STATUS_OK ||
        amqp_login(conn, "/", 1, 131072, 60, AMQP_SASL_METHOD_PLAIN, "guest", "guest").reply_type !=
            AMQP_RESPONSE_NORMAL) {
        bench_die(NAME, "cannot connect");
    }
    amqp_channel_open(conn, 1);
    check("no channel");
}

static void declare(const char *type, const char *queue)
{
    amqp_table_entry_t entry = {.key = amqp_cstring_bytes("x-queue-type"),
                                .value = {.kind = AMQP_FIELD_KIND_UTF8}};
    entry.value.value.bytes = amqp_cstring_bytes(type);
    amqp_queue_declare(conn, 1, amqp_cstring_bytes(queue), 0, 1, 0, 0, (amqp_table_t){1, &entry});
    check("no queue");
}

/* Reads one frame, waiting for it. */
static void read_frame(amqp_frame_t *frame)
{
    const struct timeval none = {0};
    for (;;) {
        int r = amqp_simple_wait_frame_noblock(conn, frame, &none);
        if (r == AMQP_STATUS_OK) {
            return;
        }
        if (r != AMQP_STATUS_TIMEOUT) {
            bench_die(NAME, amqp_error_string2(r));
        }
        struct pollfd fd = {.fd = amqp_get_sockfd(conn), .events = POLLIN};
        (void)poll(&fd, 1, 1000); /* EINTR: tried again */
    }
}

static void consume(const char *queue, uint64_t count)
{
    amqp_basic_qos(conn, 1, 0, PREFETCH, 0);
    amqp_basic_consume(conn, 1, amqp_cstring_bytes(queue), amqp_cstring_bytes("bench"), 0, 0, 0,
                       amqp_empty_table);
    check("no consumer");
    uint64_t got = 0;
    uint64_t tag = 0;
    uint64_t left = 0;
    first_ns = bench_now_ns();
    while (got < count) {
        amqp_frame_t frame;
        read_frame(&frame);
        if (frame.frame_type == AMQP_FRAME_METHOD) {
            tag = ((const amqp_basic_deliver_t *)frame.payload.method.decoded)->delivery_tag;
        } else if (frame.frame_type == AMQP_FRAME_HEADER) {
            left = frame.payload.properties.body_size;
        } else {
            left -= frame.payload.body_fragment.len;
        }
        if (left > 0 || frame.frame_type == AMQP_FRAME_METHOD) {
            continue;
        }
        amqp_maybe_release_buffers(conn);
        if (++got % ACK_EVERY == 0 || got == count) {
            (void)amqp_basic_ack(conn, 1, tag, 1);
        }
    }
    last_ns = bench_now_ns();
}

/* The attributes of an event, as the sink writes them. */
#define HEADERS 4
static void make_headers(amqp_table_entry_t entries[HEADERS])
{
    static const char *const texts[HEADERS][2] = {
        {"cloudEvents:specversion", "1.0"},
        {"cloudEvents:id", "0123456789-0000001"},
        {"cloudEvents:source", "/bench"},
        {"cloudEvents:type", "com.example.bench"},
    };
    for (int i = 0; i < HEADERS; i++) {
        entries[i].key = amqp_cstring_bytes(texts[i][0]);
        entries[i].value.kind = AMQP_FIELD_KIND_UTF8;
        entries[i].value.value.bytes = amqp_cstring_bytes(texts[i][1]);
    }
}

/* What is with the broker: the sequence numbers (acked - WINDOW, sent], each at number % WINDOW. */
static bool is_confirmed[WINDOW];

/* A quorum queue confirms out of order; a `multiple` covers some that were confirmed before.
 * @return how many were confirmed that were not */
static uint64_t confirm(const amqp_basic_ack_t *ack, uint64_t sent)
{
    uint64_t first = ack->delivery_tag;
    uint64_t fresh = 0;
    if (ack->multiple) {
        first = sent < WINDOW ? 1 : sent - WINDOW + 1;
    }
    for (uint64_t number = first; number <= ack->delivery_tag; number++) {
        fresh += !is_confirmed[number % WINDOW];
        is_confirmed[number % WINDOW] = true;
    }
    return fresh;
}

static void publish(const char *queue, uint64_t count)
{
    static char body[BENCH_EVENT_SIZE];
    memset(body, 'x', sizeof(body));
    memcpy(body, "{\"text\":\"", 9);
    memcpy(body + sizeof(body) - 2, "\"}", 2);
    amqp_confirm_select(conn, 1);
    check("no confirms");
    amqp_table_entry_t headers[HEADERS];
    make_headers(headers);
    const amqp_basic_properties_t p = {
        ._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_CONTENT_TYPE_FLAG |
                  AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG,
        .delivery_mode = 2,
        .headers = {HEADERS, headers},
        .message_id = headers[1].value.value.bytes,
        .content_type = amqp_cstring_bytes("application/json")};
    uint64_t sent = 0;
    uint64_t confirmed = 0;
    first_ns = bench_now_ns();
    while (confirmed < count) {
        /* The oldest may be what is missing: then its place is not free yet. */
        while (sent < count && (sent < WINDOW || is_confirmed[(sent + 1) % WINDOW])) {
            if (amqp_basic_publish(conn, 1, amqp_empty_bytes, amqp_cstring_bytes(queue), 1, 0, &p,
                                   (amqp_bytes_t){sizeof(body), body}) != AMQP_STATUS_OK) {
                bench_die(NAME, "cannot publish");
            }
            is_confirmed[++sent % WINDOW] = false;
        }
        amqp_frame_t frame;
        read_frame(&frame);
        if (frame.frame_type != AMQP_FRAME_METHOD ||
            frame.payload.method.id != AMQP_BASIC_ACK_METHOD) {
            bench_die(NAME, "not confirmed");
        }
        confirmed += confirm(frame.payload.method.decoded, sent);
        amqp_maybe_release_buffers(conn);
    }
    last_ns = bench_now_ns();
}

int main(int argc, char **argv)
{
    char type[16] = "";
    char queue[64] = "";
    if (argc != 5 || sscanf(argv[3], "%15[a-z]:%63[a-z0-9-]", type, queue) != 2) {
        bench_die(NAME, "usage: bench_amqp fill|consume|publish PORT TYPE:QUEUE COUNT");
    }
    uint64_t count = strtoull(argv[4], NULL, 10);
    open_connection((uint16_t)strtoul(argv[2], NULL, 10));
    declare(type, queue);
    if (strcmp(argv[1], "consume") == 0) {
        consume(queue, count);
    } else {
        publish(queue, count);
    }
    (void)amqp_connection_close(conn, AMQP_REPLY_SUCCESS);
    (void)amqp_destroy_connection(conn);
    bench_print_times(first_ns, last_ns);
    return 0;
}
