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
#include <time.h>
#include <unistd.h>

#define FRAME_MAX ((size_t)8 * 1024 * 1024)
#define DEPTH_MAX 128
#define READ_SIZE ((size_t)64 * 1024)
#define FLUSH_NS 2000000 /* of work: then the answers go that wait for others to go with them */

struct text {
    char *data; /* owned */
    size_t size;
    size_t capacity;
};

struct slice {
    const char *data;
    size_t size;
};

/* One delivery, from the frame it came in to its answer. */
struct item {
    struct worker *worker;
    struct text line; /* the frame, until the handler's turn comes */
    struct text id;
    int cancelled;
    int answered; /* the handler of its batch said a verdict */
    enum millrace_verdict verdict;
    struct slice event; /* in the delivery's `json` */
    struct text error;
    struct text result;
    struct text events;
    char after[48];
    struct text *strings; /* decoded texts; owned */
    size_t string_count;
};

/* What one call of the handler is about: deliveries that came together, or one by itself. */
struct batch {
    struct batch *next;
    char number[24];    /* "": one by itself */
    size_t count;       /* to come */
    struct item *items; /* owned; they move while more come */
    size_t size;
    size_t capacity;
};

struct worker {
    millrace_handler handler;
    millrace_batch_handler batch_handler; /* NULL: the other */
    void *context;
    int fd;
    int stopping;    /* a stop frame came */
    int gone;        /* the end of input, or of the socket */
    int failed;      /* memory is short, or a frame too large */
    struct text in;  /* of the frame that is coming */
    size_t scanned;  /* of it, what is known to hold no newline */
    struct text out; /* answers not yet sent; whole ones */
    struct batch *open; /* whose deliveries are coming; owned, as the next two */
    struct batch *todo; /* not begun, in order */
    struct batch **todo_end;
    struct batch *now; /* the handler runs; owned by work() */
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

static void fail(struct worker *w, const char *why)
{
    if (!w->failed) {
        fprintf(stderr, "millrace: %s\n", why);
    }
    w->failed = 1;
}

static void fail_for_memory(struct worker *w)
{
    fail(w, "memory is short");
}

static void batch_free(struct batch *b)
{
    if (b == NULL) {
        return;
    }
    for (size_t i = 0; i < b->size; i++) {
        struct item *item = &b->items[i];
        for (size_t n = 0; n < item->string_count; n++) {
            clear(&item->strings[n]);
        }
        free(item->strings);
        clear(&item->line);
        clear(&item->id);
        clear(&item->error);
        clear(&item->result);
        clear(&item->events);
    }
    free(b->items);
    free(b);
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

/* --- frames ----------------------------------------------------------------------------------- */

static void send_all(struct worker *w)
{
    size_t sent = 0;
    while (sent < w->out.size && !w->gone) {
        ssize_t n = send(w->fd, w->out.data + sent, w->out.size - sent, MSG_NOSIGNAL);
        if (n >= 0) {
            sent += (size_t)n;
        } else if (errno != EINTR) {
            w->gone = 1;
        }
    }
    w->out.size = 0;
}

/* The batch that the next delivery belongs to; a new one when none is coming. NULL: no memory */
static struct batch *open_batch(struct worker *w)
{
    if (w->open == NULL) {
        w->open = malloc(sizeof(*w->open));
        if (w->open != NULL) {
            *w->open = (struct batch){.count = 1};
        }
    }
    return w->open;
}

static int add_item(struct batch *b, struct item item)
{
    if (b->size == b->capacity) {
        size_t capacity = b->capacity == 0 ? 1 : b->capacity * 2;
        struct item *grown = capacity > SIZE_MAX / 2 / sizeof(item)
                                 ? NULL
                                 : realloc(b->items, capacity * sizeof(item));
        if (grown == NULL) {
            return -1;
        }
        b->items = grown;
        b->capacity = capacity;
    }
    b->items[b->size++] = item;
    return 0;
}

/* A delivery came: it is to be done, or waits for the others of its batch. */
static void gather(struct worker *w, struct slice line, struct slice id)
{
    struct item item = {.worker = w};
    struct batch *b = open_batch(w);
    int failed = b == NULL || add(&item.line, line.data, line.size) != 0 ||
                 (id.data[0] == '"' && add_decoded(&item.id, id) != 0) ||
                 add(&item.id, "", 1) != 0;
    if (failed || add_item(b, item) != 0) {
        clear(&item.line);
        clear(&item.id);
        fail_for_memory(w);
        return;
    }
    if (b->size >= b->count) {
        *w->todo_end = b;
        w->todo_end = &b->next;
        w->open = NULL;
    }
}

static void begin_batch(struct worker *w, struct slice line, struct slice number)
{
    struct slice count;
    struct batch *b = open_batch(w);
    if (b == NULL) {
        fail_for_memory(w);
    } else if (number.size < sizeof(b->number) && member(line, "count", &count)) {
        memcpy(b->number, number.data, number.size);
        b->number[number.size] = '\0';
        b->count = strtoul(count.data, NULL, 10); /* ends at the object's end at the latest */
    }
}

static void cancel_in(struct batch *b, const struct text *id)
{
    for (size_t i = 0; b != NULL && i < b->size; i++) {
        struct item *item = &b->items[i];
        item->cancelled |= item->id.size == id->size + 1 && id->size > 0 &&
                           memcmp(item->id.data, id->data, id->size) == 0;
    }
}

static void cancel(struct worker *w, struct slice value)
{
    struct text id = {0};
    if (value.data[0] == '"' && add_decoded(&id, value) != 0) {
        fail_for_memory(w);
    }
    cancel_in(w->now, &id);
    cancel_in(w->open, &id);
    for (struct batch *b = w->todo; b != NULL; b = b->next) {
        cancel_in(b, &id);
    }
    clear(&id);
}

/* Acts on the frames that are complete. */
static void take_frames(struct worker *w)
{
    size_t from = 0;
    while (!w->failed && w->scanned < w->in.size) {
        struct slice line = {w->in.data + from, 0};
        struct slice value;
        const char *newline = memchr(w->in.data + w->scanned, '\n', w->in.size - w->scanned);
        if (newline == NULL) {
            w->scanned = w->in.size;
            break;
        }
        line.size = (size_t)(newline - line.data);
        from += line.size + 1;
        w->scanned = from;
        if (member(line, "delivery", &value)) {
            gather(w, line, value);
        } else if (member(line, "batch", &value)) {
            begin_batch(w, line, value);
        } else if (member(line, "cancel", &value)) {
            cancel(w, value);
        } else if (member(line, "stop", &value)) {
            w->stopping = 1;
        }
    }
    if (from > 0) {
        memmove(w->in.data, w->in.data + from, w->in.size - from);
        w->in.size -= from;
        w->scanned -= from;
    }
}

/* Reads what there is and acts on it. @return whether something came */
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
        w->gone = 1;
        return 0;
    }
    if (w->in.size > FRAME_MAX) {
        fail(w, "a frame is too large");
    } else if (add(&w->in, chunk, (size_t)n) != 0) {
        fail_for_memory(w);
    } else {
        take_frames(w);
    }
    return !w->failed;
}

/* --- deliveries ------------------------------------------------------------------------------- */

/* A NUL-terminated text that lives as long as the delivery. */
static const char *keep(struct item *item, struct text *text)
{
    struct text *grown = realloc(item->strings, (item->string_count + 1) * sizeof(*grown));
    if (grown != NULL) {
        item->strings = grown;
    }
    if (grown == NULL || add(text, "", 1) != 0) {
        clear(text);
        fail_for_memory(item->worker);
        return "";
    }
    item->strings[item->string_count++] = *text;
    return text->data;
}

static const char *keep_string(struct item *item, struct slice object, const char *name)
{
    struct slice value;
    struct text text = {0};
    if (!member(object, name, &value)) {
        return NULL;
    }
    int failed = value.data[0] == '"' ? add_decoded(&text, value)
                                      : add(&text, value.data, value.size);
    if (failed) {
        fail_for_memory(item->worker);
    }
    return keep(item, &text);
}

static int is_json_type(const char *type)
{
    size_t n = strcspn(type, "; ");
    return n == 0 || (n >= 5 && strncmp(type + n - 5, "/json", 5) == 0) ||
           (n >= 5 && strncmp(type + n - 5, "+json", 5) == 0);
}

static void fill_data(struct item *item, struct millrace_delivery *d)
{
    struct slice value;
    struct text text = {0};
    int failed = 0;
    if (member(item->event, "data_base64", &value) && value.size >= 2) {
        failed = add_unbase64(&text, value);
    } else if (!member(item->event, "data", &value)) {
        return;
    } else if (value.data[0] == '"' && !is_json_type(d->datacontenttype)) {
        failed = add_decoded(&text, value);
    } else {
        failed = add(&text, value.data, value.size);
    }
    if (failed) {
        fail_for_memory(item->worker);
    }
    d->data_size = text.size;
    d->data = keep(item, &text);
}

static const char *or_empty(const char *text)
{
    return text == NULL ? "" : text;
}

static void fill(struct item *item, struct millrace_delivery *d)
{
    struct slice line = {item->line.data, item->line.size};
    struct slice value = {"{}", 2};
    struct text json = {0};
    const char *attempt = or_empty(keep_string(item, line, "attempt"));
    d->internal = item;
    d->delivery = item->id.data;
    d->attempt = (unsigned)strtoul(attempt, NULL, 10);
    d->deadline = or_empty(keep_string(item, line, "deadline"));
    (void)member(line, "event", &value); /* absent: the empty one */
    if (add(&json, value.data, value.size) != 0) {
        fail_for_memory(item->worker);
    }
    d->json_size = json.size;
    d->json = keep(item, &json);
    item->event = (struct slice){d->json, d->json_size};
    d->last = member(line, "last", &value) && value.data[0] == 't';
    clear(&item->line);
    d->id = or_empty(millrace_attribute(d, "id"));
    d->source = or_empty(millrace_attribute(d, "source"));
    d->type = or_empty(millrace_attribute(d, "type"));
    d->subject = or_empty(millrace_attribute(d, "subject"));
    d->datacontenttype = or_empty(millrace_attribute(d, "datacontenttype"));
    fill_data(item, d);
}

/* --- answers ---------------------------------------------------------------------------------- */

static int add_verdict(struct text *out, enum millrace_verdict verdict, const struct text *error,
                       const char *after)
{
    static const char *const names[] = {"ok", "retry", "drop", "dead"};
    int failed = add_text(out, ",\"verdict\":\"") || add_text(out, names[verdict]) ||
                 add_text(out, "\"");
    if (error->size > 0) {
        failed = failed || add_text(out, ",\"error\":") || add(out, error->data, error->size);
    }
    if (after[0] != '\0') {
        failed = failed || add_text(out, ",\"after\":") || add_text(out, after);
    }
    return failed;
}

static int add_answer(struct text *out, const struct item *item, enum millrace_verdict verdict)
{
    int failed = add_text(out, "{\"delivery\":") || add_json_string(out, item->id.data) ||
                 add_verdict(out, verdict, &item->error, item->after);
    if (item->events.size > 0 && verdict != MILLRACE_RETRY) {
        failed = failed || add_text(out, ",\"events\":[") ||
                 add(out, item->events.data, item->events.size) || add_text(out, "]");
    }
    if (item->result.size > 0) {
        failed = failed || add_text(out, ",\"data\":") ||
                 add(out, item->result.data, item->result.size);
    }
    return failed || add_text(out, "}\n");
}

/* Whether the answer for the whole batch says all there is to say of one without its own. */
static int goes_together(const struct batch *b, const struct item *item,
                         enum millrace_verdict whole)
{
    int plain = item->result.size == 0 && item->events.size == 0 && item->error.size == 0;
    return b->number[0] != '\0' &&
           (whole == MILLRACE_RETRY || (whole == MILLRACE_OK && plain));
}

static enum millrace_verdict known(enum millrace_verdict verdict)
{
    return (unsigned)verdict <= MILLRACE_DEAD ? verdict : MILLRACE_RETRY;
}

/* @p whole: of those that the handler said nothing of */
static int add_answers(struct text *out, const struct batch *b, enum millrace_verdict whole)
{
    static const struct text none = {0};
    const struct text *error = &none;
    const char *after = "";
    int left = 0;
    int failed = 0;
    for (size_t i = 0; i < b->size && !failed; i++) {
        const struct item *item = &b->items[i];
        if (item->answered || !goes_together(b, item, whole)) {
            failed = add_answer(out, item, item->answered ? item->verdict : whole);
            continue;
        }
        left = 1;
        error = error->size == 0 ? &item->error : error;
        after = after[0] == '\0' ? item->after : after;
    }
    if (left) {
        failed = failed || add_text(out, "{\"batch\":") || add_text(out, b->number) ||
                 add_verdict(out, whole, error, after) || add_text(out, "}\n");
    }
    return failed;
}

/* Runs the handler, as it is for one or for several, and adds what it said. */
static void work(struct worker *w, struct batch *b)
{
    struct millrace_delivery one = {0};
    struct millrace_delivery *deliveries = b->size == 1 ? &one : calloc(b->size, sizeof(one));
    if (deliveries == NULL) {
        fail_for_memory(w);
    }
    w->now = b;
    for (size_t i = 0; i < b->size && !w->failed; i++) {
        fill(&b->items[i], &deliveries[i]);
    }
    if (!w->failed) {
        enum millrace_verdict verdict = w->batch_handler == NULL
                                            ? w->handler(&one, w->context)
                                            : w->batch_handler(deliveries, b->size, w->context);
        size_t before = w->out.size;
        /* Without memory the handler may have seen less than there was: it is not believed. */
        if (w->failed || add_answers(&w->out, b, known(verdict)) != 0) {
            fail_for_memory(w);
            w->out.size = before;
        }
    }
    w->now = NULL;
    if (deliveries != &one) {
        free(deliveries);
    }
    batch_free(b);
}

static struct batch *next_todo(struct worker *w)
{
    struct batch *b = w->todo;
    w->todo = b->next;
    w->todo_end = w->todo == NULL ? &w->todo : w->todo_end;
    return b;
}

static int64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* this clock is always there */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Until the end of input, or a stop when all is done. */
static void serve(struct worker *w)
{
    while (!w->stopping && !w->gone && !w->failed) {
        (void)receive(w, 0);
        int64_t last = now_ns();
        while (w->todo != NULL && !w->gone && !w->failed) {
            work(w, next_todo(w));
            if (w->todo != NULL && now_ns() - last > FLUSH_NS) {
                send_all(w);
                last = now_ns();
            }
        }
        send_all(w);
    }
}

static void release(struct worker *w)
{
    while (w->todo != NULL) {
        batch_free(next_todo(w));
    }
    batch_free(w->open);
    clear(&w->in);
    clear(&w->out);
}

static int say_hello(struct worker *w, const struct millrace_options *options)
{
    char hello[128];
    snprintf(hello, sizeof(hello),
             "{\"millrace\":1,\"max\":%u,\"features\":[\"cancel\",\"progress\"%s]",
             options->max == 0 ? 1 : options->max, w->batch_handler == NULL ? "" : ",\"batch\"");
    int failed = add_text(&w->out, hello);
    if (options->version != NULL) {
        failed = failed || add_text(&w->out, ",\"version\":") ||
                 add_json_string(&w->out, options->version);
    }
    return failed || add_text(&w->out, "}\n");
}

static int run(struct worker *w, const struct millrace_options *options)
{
    int type;
    socklen_t size = sizeof(type);
    w->fd = options->fd == 0 ? 3 : options->fd;
    w->todo_end = &w->todo;
    if (getsockopt(w->fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0) {
        fprintf(stderr, "millrace: descriptor %d is no socket; is this started by Millrace?\n",
                w->fd);
        return 1;
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* a log, line by line */
    if (say_hello(w, options) != 0) {
        fail_for_memory(w);
    } else {
        send_all(w);
    }
    /* A socket that went away is the end of Millrace, and a worker then just ends. */
    serve(w);
    release(w);
    return w->failed;
}

int millrace_run_with(millrace_handler handler, void *context,
                      const struct millrace_options *options)
{
    struct worker w = {.handler = handler, .context = context};
    return run(&w, options);
}

int millrace_run(millrace_handler handler, void *context)
{
    struct millrace_options options = {0};
    return millrace_run_with(handler, context, &options);
}

int millrace_run_batch_with(millrace_batch_handler handler, void *context,
                            const struct millrace_options *options)
{
    struct worker w = {.batch_handler = handler, .context = context};
    return run(&w, options);
}

int millrace_run_batch(millrace_batch_handler handler, void *context)
{
    struct millrace_options options = {0};
    return millrace_run_batch_with(handler, context, &options);
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

void millrace_answer(struct millrace_delivery *delivery, enum millrace_verdict verdict)
{
    struct item *item = delivery->internal;
    item->answered = 1;
    item->verdict = known(verdict);
}

int millrace_error(struct millrace_delivery *delivery, const char *text)
{
    struct item *item = delivery->internal;
    struct text json = {0};
    return replace(&item->error, &json, add_json_string(&json, text));
}

int millrace_after(struct millrace_delivery *delivery, double seconds)
{
    struct item *item = delivery->internal;
    seconds = seconds < 0 ? 0 : seconds > 1e9 ? 1e9 : seconds;
    /* Not %f: a locale may write a comma. */
    unsigned long whole = (unsigned long)seconds;
    unsigned milli = (unsigned)((seconds - (double)whole) * 1000.0);
    snprintf(item->after, sizeof(item->after), "%lu.%03u", whole, milli);
    return 0;
}

int millrace_result(struct millrace_delivery *delivery, const char *json)
{
    struct item *item = delivery->internal;
    struct text copy = {0};
    return replace(&item->result, &copy, add_text(&copy, json));
}

int millrace_emit(struct millrace_delivery *delivery, const char *event_json)
{
    struct item *item = delivery->internal;
    size_t before = item->events.size;
    if ((before > 0 && add_text(&item->events, ",") != 0) ||
        add_text(&item->events, event_json) != 0) {
        item->events.size = before;
        return -1;
    }
    return 0;
}

int millrace_heartbeat(struct millrace_delivery *delivery, const char *progress_json)
{
    struct item *item = delivery->internal;
    struct worker *w = item->worker;
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
    struct item *item = delivery->internal;
    struct worker *w = item->worker;
    while (!w->gone && !w->failed && receive(w, MSG_DONTWAIT)) {
    }
    return item->cancelled || w->gone || w->failed; /* nobody waits for the answer any more */
}

const char *millrace_attribute(struct millrace_delivery *delivery, const char *name)
{
    struct item *item = delivery->internal;
    return keep_string(item, item->event, name);
}
