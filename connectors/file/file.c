#include "connectors/file/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/alloc.h"

#define PATH_SIZE_MAX 4096u

static const char *const from_words[] = {"start", "end", NULL};
static const char *const adapter_words[] = {"auto", "cloudevents", "generic", NULL};

static const struct mr_option source_options[] = {
    {.name = "path", .type = MR_OPTION_STRING, .at = offsetof(struct mr_file_source_options, path),
     .flags = MR_OPTION_REQUIRED,
     .help = "File of one event a line (JSON); \"-\" is standard input."},
    {.name = "follow", .type = MR_OPTION_BOOL,
     .at = offsetof(struct mr_file_source_options, follow), .default_text = "true",
     .help = "Wait for what is appended, also after a rotation; else stop at the end."},
    {.name = "from", .type = MR_OPTION_ENUM, .at = offsetof(struct mr_file_source_options, from),
     .default_text = "start", .words = from_words,
     .help = "Where to begin in a file of which no position is recorded."},
    {.name = "adapter", .type = MR_OPTION_ENUM,
     .at = offsetof(struct mr_file_source_options, adapter), .default_text = "auto",
     .words = adapter_words,
     .help = "What a line is: a CloudEvent (auto, cloudevents), or the data of one (generic)."},
    MR_OPTION_END,
};

static const struct mr_option sink_options[] = {
    {.name = "path", .type = MR_OPTION_STRING, .at = offsetof(struct mr_file_sink_options, path),
     .flags = MR_OPTION_REQUIRED, .help = "File that gets one event a line (JSON), appended."},
    {.name = "rotate", .type = MR_OPTION_SIZE,
     .at = offsetof(struct mr_file_sink_options, rotate_size), .min = 4096,
     .max = INT64_MAX,
     .help = "Size at which the file becomes PATH.1 and a new one begins; by default never."},
    {.name = "keep", .type = MR_OPTION_INT, .at = offsetof(struct mr_file_sink_options, keep),
     .default_text = "5", .min = 1, .max = 1000, .help = "How many rotated files are kept."},
    MR_OPTION_END,
};

static bool has_dotdot(const char *path)
{
    for (const char *at = path; at != NULL;) {
        size_t size = strcspn(at, "/");
        if (size == 2 && at[0] == '.' && at[1] == '.') {
            return true;
        }
        at = at[size] == '\0' ? NULL : at + size + 1;
    }
    return false;
}

static enum mr_status check_path(const char *path, struct mr_problem *problem)
{
    size_t size = path == NULL ? 0 : strlen(path);
    if (size == 0 || size >= PATH_SIZE_MAX || path[size - 1] == '/') {
        return mr_problem_set(problem, MR_E_INVALID, "path: names no file");
    }
    if (path[0] != '/' && has_dotdot(path)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "path: \"%s\" leads out of the configuration's folder; give an "
                              "absolute path if that is meant",
                              path);
    }
    return MR_OK;
}

enum mr_status mr__file_check_source(const void *options, struct mr_problem *problem)
{
    const struct mr_file_source_options *o = options;
    return check_path(o->path, problem);
}

enum mr_status mr__file_check_sink(const void *options, struct mr_problem *problem)
{
    const struct mr_file_sink_options *o = options;
    if (o->path != NULL && strcmp(o->path, "-") == 0) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "path: \"-\" can be read only; name a file to write to");
    }
    return check_path(o->path, problem);
}

/* --- opening ---------------------------------------------------------------------------------- */

static enum mr_status open_failed(const char *what, const char *path, int error,
                                  struct mr_problem *problem)
{
    enum mr_status r = mr_status_from_errno(error);
    const char *why = strerror(error);
    if (error == EXDEV) {
        r = MR_E_DENIED;
        why = "it leads out of the configuration's folder";
    } else if (error == ELOOP) {
        r = MR_E_DENIED;
        why = "it is a symbolic link";
    } else if (error == ENOTDIR || error == ENOENT) {
        r = MR_E_NOT_FOUND;
    }
    return mr_problem_set(problem, r, "cannot %s %s: %s", what, path, why);
}

/* Opens @p path: relative ones below @p folder and nowhere else. -1 with errno set. */
static int open_below(const char *folder, const char *path, int flags)
{
    if (path[0] == '/') {
        return open(path, flags);
    }
    int base = open(folder == NULL ? "." : folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (base < 0) {
        return -1;
    }
    struct open_how how = {.flags = (uint64_t)(unsigned)flags,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, base, path, &how, sizeof(how));
    int error = errno;
    (void)close(base);
    errno = error;
    return fd;
}

static enum mr_status check_regular(int fd, const char *path, struct mr_problem *problem)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return open_failed("open", path, errno, problem);
    }
    if (!S_ISREG(st.st_mode)) {
        return mr_problem_set(problem, MR_E_DENIED, "cannot open %s: it is no regular file", path);
    }
    return MR_OK;
}

enum mr_status mr__file_open_dir(const char *folder, const char *path, int *ret_dir,
                                 const char **ret_name, struct mr_problem *problem)
{
    char dir[PATH_SIZE_MAX];
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    size_t size = (size_t)(name - path);
    if (size >= sizeof(dir)) {
        return mr_problem_set(problem, MR_E_INVALID, "path: too long");
    }
    memcpy(dir, path, size);
    dir[size] = '\0';
    int fd = open_below(folder, size == 0 ? "." : dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return open_failed("open the folder of", path, errno, problem);
    }
    *ret_dir = fd;
    *ret_name = name;
    return MR_OK;
}

enum mr_status mr__file_open_read(const char *folder, const char *path, int *ret_file,
                                  struct mr_problem *problem)
{
    /* O_NONBLOCK: opening a pipe by mistake must not wait for its writer. */
    int fd = open_below(folder, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return open_failed("read", path, errno, problem);
    }
    enum mr_status r = check_regular(fd, path, problem);
    if (r != MR_OK) {
        (void)close(fd);
        return r;
    }
    *ret_file = fd;
    return MR_OK;
}

enum mr_status mr__file_open_append(int dir, const char *name, int *ret_file,
                                    struct mr_problem *problem)
{
    int fd = openat(dir, name,
                    O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                    0640);
    if (fd < 0) {
        return open_failed("write", name, errno, problem);
    }
    enum mr_status r = check_regular(fd, name, problem);
    if (r != MR_OK) {
        (void)close(fd);
        return r;
    }
    *ret_file = fd;
    return MR_OK;
}

/* --- the cursor ------------------------------------------------------------------------------- */

char *mr__file_cursor(const struct mr_file_position *position)
{
    char text[160];
    (void)snprintf(text, sizeof(text), "{\"dev\":%llu,\"ino\":%llu,\"at\":%llu,\"head\":%u}",
                   (unsigned long long)position->device, (unsigned long long)position->inode,
                   (unsigned long long)position->at, position->head);
    return mr_strdup(text);
}

/* "name":digits and the character behind them. */
static const char *read_member(const char *at, const char *name, char end, uint64_t *ret_value)
{
    size_t size = strlen(name);
    if (strncmp(at, name, size) != 0) {
        return NULL;
    }
    at += size;
    size_t digits = strspn(at, "0123456789");
    if (!mr_parse_u64(mr_bytes(at, digits), ret_value) || at[digits] != end) {
        return NULL;
    }
    return at + digits + 1;
}

bool mr__file_read_cursor(const char *cursor, struct mr_file_position *ret_position)
{
    struct mr_file_position p;
    uint64_t head = 0;
    const char *at = cursor;
    at = at == NULL ? NULL : read_member(at, "{\"dev\":", ',', &p.device);
    at = at == NULL ? NULL : read_member(at, "\"ino\":", ',', &p.inode);
    at = at == NULL ? NULL : read_member(at, "\"at\":", ',', &p.at);
    at = at == NULL ? NULL : read_member(at, "\"head\":", '}', &head);
    if (at == NULL || *at != '\0' || head > UINT32_MAX) {
        return false;
    }
    p.head = (uint32_t)head;
    *ret_position = p;
    return true;
}

/* --- the connector ---------------------------------------------------------------------------- */

static uint64_t bytes_max(const void *options)
{
    (void)options;
    return 2ull * MR_BATCH_SIZE_MAX;
}

const struct mr_connector mr_connector_file = {
    .abi = MR_CONNECTOR_ABI,
    .name = "file",
    .source_kind = {.name = "file",
                    .options = source_options,
                    .options_size = sizeof(struct mr_file_source_options),
                    .check = mr__file_check_source},
    .source = &mr__file_source_ops,
    .sink_kind = {.name = "file",
                  .options = sink_options,
                  .options_size = sizeof(struct mr_file_sink_options),
                  .check = mr__file_check_sink},
    .sink = &mr__file_sink_ops,
    .source_bytes_max = bytes_max,
    .bytes_max = bytes_max,
};
