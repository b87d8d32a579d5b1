/* See millrace.h. Stands alone on purpose: it is copied into other people's programs, so it uses
 * plain malloc and nothing of Millrace. */
#define _POSIX_C_SOURCE 200809L

#include "millrace.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#define FRAME_MAX ((size_t)8 * 1024 * 1024)
#define DEPTH_MAX 128
#define READ_SIZE ((size_t)64 * 1024)

struct text {
    char *data; /* owned */
    size_t size;
    size_t capacity;
};

struct slice {
    const char *data;
    size_t size;
};

struct worker {
    int fd;
    int stopping;      /* a stop frame came, or the end of input */
    int broken;        /* memory is short, or the socket is gone */
    struct text in;    /* bytes received */
    size_t taken;      /* of them, those the present line ends before */
    struct text out;   /* answers not yet sent */
};

/* One delivery while its handler runs. */
struct running {
    struct worker *worker;
    int cancelled;
    struct slice event;
    struct text error;
    struct text result;
    struct text events;
    char after[48];
    struct text *strings; /* decoded texts; owned */
    size_t string_count;
};

/* --- memory ----------------------------------------------------------------------------------- */

static int add(struct text *t, const char *data, size_t size)
{
    if (size > t->capacity - t->size) {
        size_t capacity = t->capacity == 0 ? 256 : t->capacity;
        while (capacity - t->size < size) {
            if (capacity > SIZE_MAX / 2) {
                return -1;
            }
            capacity *= 2;
        }
        char *grown = realloc(t->data, capacity);
        if (grown == NULL) {
            return -1;
        }
        t->data = grown;
        t->capacity = capacity;
    }
    if (size > 0) {
        memcpy(t->data + t->size, data, size);
    }
    t->size += size;
    return 0;
}

static int add_text(struct text *t, const char *text)
{
    return add(t, text, strlen(text));
}

static int add_json_string(struct text *t, const char *text)
{
    int failed = add(t, "\"", 1);
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0' && !failed; p++) {
        char escape[8];
        if (*p == '"' || *p == '\\') {
            escape[0] = '\\';
            escape[1] = (char)*p;
            failed = add(t, escape, 2);
        } else if (*p < 0x20 || *p == 0x7F) {
            int n = snprintf(escape, sizeof(escape), "\\u%04x", *p);
            failed = add(t, escape, (size_t)n);
        } else {
            failed = add(t, (const char *)p, 1);
        }
    }
    return failed ? failed : add(t, "\"", 1);
}

static void clear(struct text *t)
{
    free(t->data);
    memset(t, 0, sizeof(*t));
}

/* --- JSON: one flat look at an object --------------------------------------------------------- */

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n')) {
        p++;
    }
    return p;
}

/* Behind the string that begins at its quote, or NULL. */
static const char *skip_string(const char *p, const char *end)
{
    for (p++; p < end; p++) {
        if (*p == '\\') {
            p++;
        } else if (*p == '"') {
            return p + 1;
        }
    }
    return NULL;
}

/* Behind any value, or NULL. */
static const char *skip_value(const char *p, const char *end)
{
    int depth = 0;
    do {
        p = skip_space(p, end);
        if (p >= end) {
            return NULL;
        }
        if (*p == '"') {
            p = skip_string(p, end);
            if (p == NULL) {
                return NULL;
            }
        } else if (*p == '{' || *p == '[') {
            if (++depth > DEPTH_MAX) {
                return NULL;
            }
            p++;
        } else if (*p == '}' || *p == ']') {
            if (--depth < 0) {
                return NULL;
            }
            p++;
        } else if (depth > 0 && (*p == ',' || *p == ':')) {
            p++;
        } else {
            const char *from = p;
            while (p < end && strchr(",:{}[]\" \t\r\n", *p) == NULL) {
                p++;
            }
            if (p == from) {
                return NULL;
            }
        }
    } while (depth > 0);
    return p;
}

/* The value of member @p name of the object @p json. @return whether it is there */
static int member(struct slice json, const char *name, struct slice *ret)
{
    const char *end = json.data + json.size;
    const char *p = skip_space(json.data, end);
    size_t name_size = strlen(name);
    if (p >= end || *p != '{') {
        return 0;
    }
    p = skip_space(p + 1, end);
    while (p < end && *p == '"') {
        const char *key = p + 1;
        const char *behind = skip_string(p, end);
        if (behind == NULL) {
            return 0;
        }
        p = skip_space(behind, end);
        if (p >= end || *p != ':') {
            return 0;
        }
        const char *value = skip_space(p + 1, end);
        p = skip_value(value, end);
        if (p == NULL) {
            return 0;
        }
        if ((size_t)(behind - 1 - key) == name_size && memcmp(key, name, name_size) == 0) {
            ret->data = value;
            ret->size = (size_t)(p - value);
            return 1;
        }
        p = skip_space(p, end);
        if (p < end && *p == ',') {
            p = skip_space(p + 1, end);
        }
    }
    return 0;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static int read_unit(const char *p, const char *end, unsigned *ret)
{
    unsigned v = 0;
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u') {
        return 0;
    }
    for (int i = 2; i < 6; i++) {
        int digit = hex_digit(p[i]);
        if (digit < 0) {
            return 0;
        }
        v = v << 4 | (unsigned)digit;
    }
    *ret = v;
    return 1;
}

static int add_utf8(struct text *t, unsigned c)
{
    char b[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char first[] = {0, 0x00, 0xC0, 0xE0, 0xF0};
    for (size_t i = n; i > 1; i--) {
        b[i - 1] = (char)(0x80 | (c & 63));
        c >>= 6;
    }
    b[0] = (char)(first[n] | c);
    return add(t, b, n);
}

/* Decodes the string value @p json (with its quotes) to the end of @p t. */
static int add_decoded(struct text *t, struct slice json)
{
    static const char from[] = "bfnrt";
    static const char to[] = "\b\f\n\r\t";
    const char *p = json.data + 1;
    const char *end = json.data + json.size - 1;
    int failed = 0;
    while (p < end && !failed) {
        const char *plain = p;
        unsigned unit;
        unsigned low;
        while (p < end && *p != '\\') {
            p++;
        }
        failed = add(t, plain, (size_t)(p - plain));
        if (p >= end || failed) {
            break;
        }
        if (read_unit(p, end, &unit)) {
            p += 6;
            if (unit >= 0xD800 && unit < 0xDC00 && read_unit(p, end, &low) && low >= 0xDC00 &&
                low < 0xE000) {
                p += 6;
                unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
            } else if (unit >= 0xD800 && unit < 0xE000) {
                unit = 0xFFFD;
            }
            failed = add_utf8(t, unit);
        } else {
            char c = p + 1 < end ? p[1] : '\\';
            const char *simple = c == '\0' ? NULL : strchr(from, c);
            c = simple == NULL ? c : to[simple - from];
            failed = add(t, &c, 1);
            p += 2;
        }
    }
    return failed;
}

static int base64_digit(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

static int add_unbase64(struct text *t, struct slice json)
{
    unsigned v = 0;
    int bits = 0;
    for (size_t i = 1; i + 1 < json.size; i++) {
        int digit = base64_digit(json.data[i]);
        if (digit < 0) {
            continue; /* padding, an escaped slash */
        }
        v = v << 6 | (unsigned)digit;
        bits += 6;
        if (bits >= 8) {
            char byte = (char)(v >> (bits - 8));
            bits -= 8;
            v &= (1u << bits) - 1;
            if (add(t, &byte, 1) != 0) {
                return -1;
            }
        }
    }
    return 0;
}

/* --- the socket ------------------------------------------------------------------------------- */

static void send_all(struct worker *w)
{
    size_t sent = 0;
    while (sent < w->out.size && !w->broken) {
        ssize_t n = send(w->fd, w->out.data + sent, w->out.size - sent, MSG_NOSIGNAL);
        if (n >= 0) {
            sent += (size_t)n;
        } else if (errno != EINTR) {
            w->broken = 1;
        }
    }
    w->out.size = 0;
}

/* Reads what there is. @return whether something came */
static int receive(struct worker *w, int flags)
{
    char chunk[READ_SIZE];
    ssize_t n;
    do {
        n = recv(w->fd, chunk, sizeof(chunk), flags);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return 0;
    }
    if (n <= 0) {
        w->stopping = 1;
        return 0;
    }
    if (w->in.size > FRAME_MAX || add(&w->in, chunk, (size_t)n) != 0) {
        fprintf(stderr, "millrace: a frame is too large or memory is short\n");
        w->broken = 1;
        return 0;
    }
    return 1;
}

/* Next complete line at or behind *at, which ends behind its newline. */
static int next_line(const struct worker *w, size_t *at, struct slice *ret)
{
    const char *from = w->in.data + *at;
    const char *newline = *at < w->in.size ? memchr(from, '\n', w->in.size - *at) : NULL;
    if (newline == NULL) {
        return 0;
    }
    ret->data = from;
    ret->size = (size_t)(newline - from);
    *at += ret->size + 1;
    return 1;
}

/* --- deliveries ------------------------------------------------------------------------------- */

/* A NUL-terminated text that lives as long as the delivery. */
static const char *keep(struct running *r, struct text *text)
{
    struct text *grown = realloc(r->strings, (r->string_count + 1) * sizeof(*grown));
    if (grown != NULL) {
        r->strings = grown;
    }
    if (grown == NULL || add(text, "", 1) != 0) {
        clear(text);
        r->worker->broken = 1;
        return "";
    }
    r->strings[r->string_count++] = *text;
    return text->data;
}

static const char *keep_string(struct running *r, struct slice object, const char *name)
{
    struct slice value;
    struct text text = {0};
    if (!member(object, name, &value)) {
        return NULL;
    }
    int failed = value.data[0] == '"' ? add_decoded(&text, value)
                                      : add(&text, value.data, value.size);
    r->worker->broken |= failed != 0;
    return keep(r, &text);
}

static int is_json_type(const char *type)
{
    size_t n = strcspn(type, "; ");
    return n == 0 || (n >= 5 && strncmp(type + n - 5, "/json", 5) == 0) ||
           (n >= 5 && strncmp(type + n - 5, "+json", 5) == 0);
}

static void fill_data(struct running *r, struct millrace_delivery *d)
{
    struct slice value;
    struct text text = {0};
    int failed = 0;
    if (member(r->event, "data_base64", &value) && value.size >= 2) {
        failed = add_unbase64(&text, value);
    } else if (!member(r->event, "data", &value)) {
        return;
    } else if (value.data[0] == '"' && !is_json_type(d->datacontenttype)) {
        failed = add_decoded(&text, value);
    } else {
        failed = add(&text, value.data, value.size);
    }
    r->worker->broken |= failed != 0;
    d->data_size = text.size;
    d->data = keep(r, &text);
}

static const char *or_empty(const char *text)
{
    return text == NULL ? "" : text;
}

static void fill(struct running *r, struct millrace_delivery *d, struct slice line)
{
    struct slice value;
    struct text json = {0};
    const char *attempt = or_empty(keep_string(r, line, "attempt"));
    d->internal = r;
    d->delivery = or_empty(keep_string(r, line, "delivery"));
    d->attempt = (unsigned)strtoul(attempt, NULL, 10);
    d->last = member(line, "last", &value) && value.data[0] == 't';
    d->deadline = or_empty(keep_string(r, line, "deadline"));
    if (!member(line, "event", &r->event)) {
        r->event.data = "{}";
        r->event.size = 2;
    }
    r->worker->broken |= add(&json, r->event.data, r->event.size) != 0;
    d->json_size = json.size;
    d->json = keep(r, &json);
    d->id = or_empty(millrace_attribute(d, "id"));
    d->source = or_empty(millrace_attribute(d, "source"));
    d->type = or_empty(millrace_attribute(d, "type"));
    d->subject = or_empty(millrace_attribute(d, "subject"));
    d->datacontenttype = or_empty(millrace_attribute(d, "datacontenttype"));
    fill_data(r, d);
}

static void add_answer(struct worker *w, const struct running *r, const char *delivery,
                       enum millrace_verdict verdict)
{
    static const char *const names[] = {"ok", "retry", "drop", "dead"};
    struct text *out = &w->out;
    int failed = add_text(out, "{\"delivery\":") || add_json_string(out, delivery) ||
                 add_text(out, ",\"verdict\":\"") ||
                 add_text(out, (unsigned)verdict < 4 ? names[verdict] : "retry") ||
                 add_text(out, "\"");
    if (r->error.size > 0) {
        failed = failed || add_text(out, ",\"error\":") || add(out, r->error.data, r->error.size);
    }
    if (r->after[0] != '\0') {
        failed = failed || add_text(out, ",\"after\":") || add_text(out, r->after);
    }
    if (r->events.size > 0 && verdict != MILLRACE_RETRY) {
        failed = failed || add_text(out, ",\"events\":[") ||
                 add(out, r->events.data, r->events.size) || add_text(out, "]");
    }
    if (r->result.size > 0) {
        failed = failed || add_text(out, ",\"data\":") || add(out, r->result.data, r->result.size);
    }
    w->broken |= failed || add_text(out, "}\n");
}

static void work(struct worker *w, struct slice line, millrace_handler handler, void *context)
{
    struct running r = {.worker = w};
    struct millrace_delivery d = {0};
    fill(&r, &d, line);
    if (!w->broken) {
        enum millrace_verdict verdict = handler(&d, context);
        add_answer(w, &r, d.delivery, verdict);
    }
    for (size_t i = 0; i < r.string_count; i++) {
        clear(&r.strings[i]);
    }
    free(r.strings);
    clear(&r.error);
    clear(&r.result);
    clear(&r.events);
}

static void serve(struct worker *w, millrace_handler handler, void *context)
{
    for (;;) {
        struct slice line;
        struct slice value;
        w->taken = 0;
        while (!w->broken && next_line(w, &w->taken, &line)) {
            if (member(line, "delivery", &value)) {
                /* The handler may receive more, which moves the buffer: it gets a copy. */
                struct text copy = {0};
                w->broken |= add(&copy, line.data, line.size) != 0;
                work(w, (struct slice){copy.data, copy.size}, handler, context);
                clear(&copy);
                struct slice ahead;
                size_t at = w->taken;
                if (!next_line(w, &at, &ahead)) {
                    send_all(w); /* nothing more to go with it */
                }
            } else if (member(line, "stop", &value)) {
                w->stopping = 1;
            }
        }
        send_all(w);
        if (w->taken > 0) {
            memmove(w->in.data, w->in.data + w->taken, w->in.size - w->taken);
            w->in.size -= w->taken;
            w->taken = 0;
        }
        if (w->stopping || w->broken) {
            return;
        }
        (void)receive(w, 0);
    }
}

int millrace_run_with(millrace_handler handler, void *context,
                      const struct millrace_options *options)
{
    struct worker w = {.fd = options->fd == 0 ? 3 : options->fd};
    char hello[128];
    int type;
    socklen_t size = sizeof(type);
    if (getsockopt(w.fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0) {
        fprintf(stderr, "millrace: descriptor %d is no socket; is this started by Millrace?\n",
                w.fd);
        return 1;
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* a log, line by line */
    snprintf(hello, sizeof(hello),
             "{\"millrace\":1,\"max\":%u,\"features\":[\"cancel\",\"progress\"]",
             options->max == 0 ? 1 : options->max);
    int failed = add_text(&w.out, hello);
    if (options->version != NULL) {
        failed = failed || add_text(&w.out, ",\"version\":") ||
                 add_json_string(&w.out, options->version);
    }
    w.broken = failed || add_text(&w.out, "}\n");
    send_all(&w);
    /* A socket that went away is the end of Millrace, and a worker then just ends. */
    serve(&w, handler, context);
    clear(&w.in);
    clear(&w.out);
    return 0;
}

int millrace_run(millrace_handler handler, void *context)
{
    struct millrace_options options = {0};
    return millrace_run_with(handler, context, &options);
}

/* --- what a handler says ---------------------------------------------------------------------- */

static int replace(struct text *to, struct text *with, int failed)
{
    if (failed) {
        clear(with);
        return -1;
    }
    clear(to);
    *to = *with;
    return 0;
}

int millrace_error(struct millrace_delivery *delivery, const char *text)
{
    struct running *r = delivery->internal;
    struct text json = {0};
    return replace(&r->error, &json, add_json_string(&json, text));
}

int millrace_after(struct millrace_delivery *delivery, double seconds)
{
    struct running *r = delivery->internal;
    seconds = seconds < 0 ? 0 : seconds > 1e9 ? 1e9 : seconds;
    /* Not %f: a locale may write a comma. */
    unsigned long whole = (unsigned long)seconds;
    unsigned milli = (unsigned)((seconds - (double)whole) * 1000.0);
    snprintf(r->after, sizeof(r->after), "%lu.%03u", whole, milli);
    return 0;
}

int millrace_result(struct millrace_delivery *delivery, const char *json)
{
    struct running *r = delivery->internal;
    struct text copy = {0};
    return replace(&r->result, &copy, add_text(&copy, json));
}

int millrace_emit(struct millrace_delivery *delivery, const char *event_json)
{
    struct running *r = delivery->internal;
    size_t before = r->events.size;
    if ((before > 0 && add_text(&r->events, ",") != 0) || add_text(&r->events, event_json) != 0) {
        r->events.size = before;
        return -1;
    }
    return 0;
}

int millrace_heartbeat(struct millrace_delivery *delivery, const char *progress_json)
{
    struct running *r = delivery->internal;
    struct worker *w = r->worker;
    size_t before = w->out.size;
    int failed = add_text(&w->out, "{\"heartbeat\":") ||
                 add_json_string(&w->out, delivery->delivery);
    if (progress_json != NULL) {
        failed = failed || add_text(&w->out, ",\"progress\":") || add_text(&w->out, progress_json);
    }
    if (failed || add_text(&w->out, "}\n") != 0) {
        w->out.size = before;
        return -1;
    }
    send_all(w);
    return 0;
}

int millrace_cancelled(struct millrace_delivery *delivery)
{
    struct running *r = delivery->internal;
    struct worker *w = r->worker;
    struct slice line;
    struct slice value;
    size_t at = w->taken; /* frames behind the present one stay where they are */
    while (!w->stopping && receive(w, MSG_DONTWAIT)) {
    }
    while (!r->cancelled && next_line(w, &at, &line)) {
        struct text text = {0};
        if (!member(line, "delivery", &value) && member(line, "cancel", &value) &&
            add_decoded(&text, value) == 0) {
            r->cancelled = text.size == strlen(delivery->delivery) &&
                           memcmp(text.data, delivery->delivery, text.size) == 0;
        }
        clear(&text);
    }
    return r->cancelled || w->stopping; /* the end of input: Millrace is gone */
}

const char *millrace_attribute(struct millrace_delivery *delivery, const char *name)
{
    struct running *r = delivery->internal;
    return keep_string(r, r->event, name);
}
