/* Log output of the process: one line `key=value …` per record on standard error.
 *
 * Values are stripped of control bytes and quoted, so that nothing from outside can forge a line.
 * Secrets cannot get here: struct mr_secret has no text form (core/secret.h). Thread-safe: a line
 * is one write. Library code returns errors and logs at debug only; the boundary that stops
 * passing an error on logs it, once. */
#ifndef MR_CORE_LOGGER_H
#define MR_CORE_LOGGER_H

#include "core/attrs.h"
#include "core/bytes.h"

enum mr_level {
    MR_LEVEL_ERROR = 0,
    MR_LEVEL_WARN,
    MR_LEVEL_INFO,
    MR_LEVEL_DEBUG,
};

/** Records above @p level are not written. Default MR_LEVEL_INFO. @thread any */
void mr_logger_set_level(enum mr_level level);

/** Where records go; default 2 (standard error). -1 drops them. @thread before others start */
void mr_logger_set_fd(int fd);

/** JSON lines instead of key=value. @thread before others start */
void mr_logger_set_json(bool json);

/** Writes one record. @p mod is the folder or connector that speaks, a literal.
 * A write that fails is ignored: logging never stops the data path. @thread any */
void mr_logger_write(enum mr_level level, const char *mod, const char *format, ...)
    MR_PRINTF(3, 4);

#define MR_ERROR(mod, ...) mr_logger_write(MR_LEVEL_ERROR, mod, __VA_ARGS__)
#define MR_WARN(mod, ...) mr_logger_write(MR_LEVEL_WARN, mod, __VA_ARGS__)
#define MR_INFO(mod, ...) mr_logger_write(MR_LEVEL_INFO, mod, __VA_ARGS__)
#define MR_DEBUG(mod, ...) mr_logger_write(MR_LEVEL_DEBUG, mod, __VA_ARGS__)

/** Copies @p text into @p to (NUL-terminated, at most @p size - 1 bytes, whole UTF-8 characters):
 * control bytes become blanks, invalid UTF-8 becomes '?'. For error text from outside. */
void mr_text_clean(char *to, size_t size, struct mr_bytes text);

#endif
