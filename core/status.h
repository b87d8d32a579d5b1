/* Status codes: what can go wrong, and what a caller may do about it.
 *
 * Callers branch on the class, not on the code: RETRY (the same call may succeed later), PERMANENT
 * (this input never will), FATAL (the object or the process cannot go on), BUG (ours). */
#ifndef MR_CORE_STATUS_H
#define MR_CORE_STATUS_H

#include "core/attrs.h"

enum mr_status_class {
    MR_CLASS_OK = 0,
    MR_CLASS_RETRY,
    MR_CLASS_PERMANENT,
    MR_CLASS_FATAL,
    MR_CLASS_BUG,
};

/* name, value, class, text */
#define MR_STATUS_LIST(X)                                                                          \
    X(MR_OK, 0, OK, "ok")                                                                          \
    X(MR_E_AGAIN, -1, RETRY, "not now, try again")                                                 \
    X(MR_E_FULL, -2, RETRY, "full")                                                                \
    X(MR_E_DISK_LOW, -3, RETRY, "disk space is low")                                               \
    X(MR_E_TIMEOUT, -4, RETRY, "timed out")                                                        \
    X(MR_E_UNAVAILABLE, -5, RETRY, "not available")                                                \
    X(MR_E_CLOSED, -6, RETRY, "closed")                                                            \
    X(MR_E_NOMEM, -7, RETRY, "out of memory")                                                      \
    X(MR_E_INVALID, -20, PERMANENT, "invalid")                                                     \
    X(MR_E_TOO_BIG, -21, PERMANENT, "too large")                                                   \
    X(MR_E_UNSUPPORTED, -22, PERMANENT, "not supported")                                           \
    X(MR_E_NOT_FOUND, -23, PERMANENT, "not found")                                                 \
    X(MR_E_EXISTS, -24, PERMANENT, "exists already")                                               \
    X(MR_E_DENIED, -25, PERMANENT, "denied")                                                       \
    X(MR_E_NOT_CLOUDEVENT, -26, PERMANENT, "not a CloudEvent")                                     \
    X(MR_E_CONFLICT, -27, PERMANENT, "conflicts with the present state")                           \
    X(MR_E_IO, -40, FATAL, "input/output error")                                                   \
    X(MR_E_CORRUPT, -41, FATAL, "damaged")                                                         \
    X(MR_E_LOCKED, -42, FATAL, "locked by another process")                                        \
    X(MR_E_FAULTY, -43, FATAL, "faulty after an earlier error")                                    \
    X(MR_E_BUG, -60, BUG, "internal error")

#define MR_STATUS_ENUM(name, value, class_, text) name = value,
enum mr_status { MR_STATUS_LIST(MR_STATUS_ENUM) };
#undef MR_STATUS_ENUM

/** The class of @p s. Unknown values are MR_CLASS_BUG. @thread any */
enum mr_status_class mr_status_class(enum mr_status s);

/** A short English text for @p s, static. @thread any */
const char *mr_status_text(enum mr_status s);

/** The name of @p s as written in the source, static. @thread any */
const char *mr_status_name(enum mr_status s);

/** The status for an errno value of open, read, write and their kin. @thread any */
enum mr_status mr_status_from_errno(int error);

#endif
