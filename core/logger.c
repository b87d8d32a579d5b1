#include "core/logger.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "core/clock.h"

static _Atomic int level_max = MR_LEVEL_INFO; /* relaxed: a late change is harmless */
static int out_fd = 2;
static bool out_json;

void mr_logger_set_level(enum mr_level level)
{
    atomic_store_explicit(&level_max, (int)level, memory_order_relaxed);
}

void mr_logger_set_fd(int fd)
{
    out_fd = fd;
}

void mr_logger_set_json(bool json)
{
    out_json = json;
}

void mr_text_clean(char *to, size_t size, struct mr_bytes text)
{
    size_t n = 0;
    size_t i = 0;
    while (i < text.size && n + 1 < size) {
        uint8_t c = text.data[i];
        if (c < 0x80) {
            to[n++] = c < 0x20 || c == 0x7F ? ' ' : (char)c;
            i++;
            continue;
        }
        size_t len = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
        bool whole = i + len <= text.size && mr_bytes_is_utf8(mr_bytes(text.data + i, len));
        /* U+0080-U+009F are control characters too (C2 80 … C2 9F). */
        if (whole && !(c == 0xC2 && text.data[i + 1] < 0xA0)) {
            if (n + len >= size) {
                break;
            }
            memcpy(to + n, text.data + i, len);
            n += len;
            i += len;
        } else {
            to[n++] = '?';
            i += whole ? len : 1;
        }
    }
    if (size > 0) {
        to[n] = '\0';
    }
}

void mr_logger_write(enum mr_level level, const char *mod, const char *format, ...)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    if ((int)level > atomic_load_explicit(&level_max, memory_order_relaxed) || out_fd < 0) {
        return;
    }
    char raw[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(raw, sizeof(raw), format, args);
    va_end(args);
    if (n < 0) {
        return;
    }
    char clean[1024];
    mr_text_clean(clean, sizeof(clean), mr_bytes_of(raw));
    char quoted_memory[2200];
    struct mr_buf quoted = {.data = (uint8_t *)quoted_memory,
                            .capacity = sizeof(quoted_memory),
                            .size_max = sizeof(quoted_memory)};
    if (mr_buf_append_json(&quoted, mr_bytes_of(clean)) != MR_OK) {
        return;
    }
    char time[MR_TIME_TEXT_SIZE];
    mr_time_format(mr_clock_now().wall_ns, time);
    char line[2400];
    const char *form = out_json ? "{\"time\":\"%s\",\"level\":\"%s\",\"mod\":\"%s\",\"msg\":%.*s}\n"
                                : "time=%s level=%s mod=%s msg=%.*s\n";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* one of the two literals above */
    n = snprintf(line, sizeof(line), form, time, names[level], mod, (int)quoted.size,
                 quoted_memory);
#pragma GCC diagnostic pop
    if (n > 0 && (size_t)n < sizeof(line)) {
        ssize_t written = write(out_fd, line, (size_t)n);
        (void)written; /* by contract: logging never fails the caller */
    }
}
