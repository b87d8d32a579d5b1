#include "core/status.h"

#include <errno.h>

enum mr_status_class mr_status_class(enum mr_status s)
{
    switch (s) {
#define MR_STATUS_CASE(name, value, class_, text)                                                  \
    case name:                                                                                     \
        return MR_CLASS_##class_;
        MR_STATUS_LIST(MR_STATUS_CASE)
#undef MR_STATUS_CASE
    }
    return MR_CLASS_BUG;
}

const char *mr_status_text(enum mr_status s)
{
    switch (s) {
#define MR_STATUS_CASE(name, value, class_, text)                                                  \
    case name:                                                                                     \
        return text;
        MR_STATUS_LIST(MR_STATUS_CASE)
#undef MR_STATUS_CASE
    }
    return "unknown status";
}

const char *mr_status_name(enum mr_status s)
{
    switch (s) {
#define MR_STATUS_CASE(name, value, class_, text)                                                  \
    case name:                                                                                     \
        return #name;
        MR_STATUS_LIST(MR_STATUS_CASE)
#undef MR_STATUS_CASE
    }
    return "MR_E_UNKNOWN";
}

enum mr_status mr_status_from_errno(int error)
{
    switch (error) {
    case 0:
        return MR_OK;
    case ENOENT:
        return MR_E_NOT_FOUND;
    case EEXIST:
        return MR_E_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return MR_E_DENIED;
    case ENOMEM:
        return MR_E_NOMEM;
    case ENOSPC:
    case EDQUOT:
        return MR_E_DISK_LOW;
    case EAGAIN:
        return MR_E_AGAIN;
    case EINVAL:
        return MR_E_INVALID;
    default:
        return MR_E_IO;
    }
}
