#include "workers/tail.h"

#include <inttypes.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/logger.h"

#define LINES_PER_SECOND 50u

static bool may_log(struct mr_tail_rate *rate, uint64_t now_ns, const char *who)
{
    uint64_t second = now_ns / MR_SECOND;
    if (second != rate->second) {
        if (rate->suppressed > 0) {
            MR_INFO("workers", "%s: %" PRIu64 " lines of output not shown", who, rate->suppressed);
        }
        *rate = (struct mr_tail_rate){.second = second};
    }
    if (rate->used == LINES_PER_SECOND) {
        rate->suppressed++;
        return false;
    }
    rate->used++;
    return true;
}

static void end_line(struct mr_tail *tail, const char *who, const char *stream,
                     struct mr_tail_rate *rate, uint64_t now_ns)
{
    if (tail->line_size == 0) {
        return;
    }
    if (may_log(rate, now_ns, who)) {
        MR_INFO("workers", "%s %s: %.*s", who, stream, (int)tail->line_size,
                (const char *)tail->line);
    }
    mr_text_clean(tail->last, sizeof(tail->last), mr_bytes(tail->line, tail->line_size));
    tail->line_size = 0;
}

static void keep(struct mr_tail *tail, struct mr_bytes text)
{
    if (text.size > sizeof(tail->ring)) {
        tail->total += text.size - sizeof(tail->ring);
        text = mr_bytes(text.data + (text.size - sizeof(tail->ring)), sizeof(tail->ring));
    }
    size_t at = (size_t)(tail->total % sizeof(tail->ring));
    size_t first = sizeof(tail->ring) - at < text.size ? sizeof(tail->ring) - at : text.size;
    memcpy(tail->ring + at, text.data, first);
    memcpy(tail->ring, text.data + first, text.size - first);
    tail->total += text.size;
}

void mr_tail_add(struct mr_tail *tail, struct mr_bytes text, const char *who, const char *stream,
                 struct mr_tail_rate *rate, uint64_t now_ns)
{
    if (text.size == 0) {
        return;
    }
    keep(tail, text);
    while (text.size > 0) {
        const uint8_t *newline = memchr(text.data, '\n', text.size);
        size_t size = newline == NULL ? text.size : (size_t)(newline - text.data);
        size_t room = sizeof(tail->line) - tail->line_size;
        size_t take = size < room ? size : room; /* the rest of a long line is not shown */
        memcpy(tail->line + tail->line_size, text.data, take);
        tail->line_size += take;
        if (newline == NULL) {
            return;
        }
        end_line(tail, who, stream, rate, now_ns);
        text = mr_bytes(newline + 1, text.size - size - 1);
    }
}

void mr_tail_end(struct mr_tail *tail, const char *who, const char *stream,
                 struct mr_tail_rate *rate, uint64_t now_ns)
{
    end_line(tail, who, stream, rate, now_ns);
}

char *mr_tail_copy(const struct mr_tail *tail, uint64_t since)
{
    if (since >= tail->total) {
        return NULL;
    }
    uint64_t from = tail->total > sizeof(tail->ring) ? tail->total - sizeof(tail->ring) : 0;
    from = since > from ? since : from;
    size_t size = (size_t)(tail->total - from);
    uint8_t raw[MR_STDERR_TAIL_MAX];
    for (size_t i = 0; i < size; i++) {
        raw[i] = tail->ring[(from + i) % sizeof(tail->ring)];
    }
    /* Line by line, so that newlines stay; nothing grows: invalid bytes become one '?' each. */
    char *text = mr_alloc(size + 1);
    size_t at = 0;
    size_t n = 0;
    while (text != NULL && at < size) {
        const uint8_t *newline = memchr(raw + at, '\n', size - at);
        size_t line = newline == NULL ? size - at : (size_t)(newline - raw) - at;
        mr_text_clean(text + n, line + 1, mr_bytes(raw + at, line));
        n += strlen(text + n);
        at += line;
        if (newline != NULL) {
            text[n++] = '\n';
            at++;
        }
    }
    if (text != NULL) {
        text[n] = '\0';
    }
    return text;
}
