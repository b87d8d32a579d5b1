#include "connectors/http/socket.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/assert.h"

enum { LISTEN_BACKLOG = 1024 };

static enum mr_status bind_problem(struct mr_problem *problem, const char *what, int error)
{
    if (error == EADDRINUSE) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "%s is in use by another process", what);
    }
    if (error == EACCES || error == EPERM) {
        return mr_problem_set(problem, MR_E_DENIED, "may not listen on %s: %s", what,
                              strerror(error));
    }
    if (error == EADDRNOTAVAIL) {
        return mr_problem_set(problem, MR_E_INVALID, "%s is no address of this machine", what);
    }
    return mr_problem_set(problem, MR_E_IO, "cannot listen on %s: %s", what, strerror(error));
}

static enum mr_status resolve_host(const char *host, uint16_t port, struct addrinfo **ret_list,
                                   struct mr_problem *problem)
{
    char service[8];
    (void)snprintf(service, sizeof(service), "%u", (unsigned)port); /* at most five digits */
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    /* "localhost" may resolve to ::1 first; clients that try one address only use 127.0.0.1. */
    const char *name = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
    int error = getaddrinfo(name, service, &hints, ret_list);
    if (error != 0) {
        return mr_problem_set(problem, MR_E_INVALID, "cannot resolve the listen address %s: %s",
                              host, gai_strerror(error));
    }
    return MR_OK;
}

enum mr_status mr_http_socket_listen_tcp(const char *host, uint16_t port, int *ret_fd,
                                         uint16_t *ret_port, struct mr_problem *problem)
{
    MR_ASSERT(host != NULL);
    struct addrinfo *list = NULL;
    enum mr_status r = resolve_host(host, port, &list, problem);
    if (r != MR_OK) {
        return r;
    }
    char what[300];
    (void)snprintf(what, sizeof(what), "%.255s:%u", host, (unsigned)port); /* cut is harmless */
    int on = 1;
    int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        r = bind_problem(problem, what, errno);
        goto out;
    }
    /* Restarts must not wait for connections in TIME_WAIT; a live listener still excludes us. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        (list->ai_family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0) ||
        bind(fd, list->ai_addr, list->ai_addrlen) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        r = bind_problem(problem, what, errno);
        goto out;
    }
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof(bound);
    if (getsockname(fd, (struct sockaddr *)&bound, &size) != 0) {
        r = bind_problem(problem, what, errno);
        goto out;
    }
    *ret_port = bound.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&bound)->sin6_port)
                                            : ntohs(((struct sockaddr_in *)&bound)->sin_port);
    *ret_fd = fd;
    fd = -1;
out:
    if (fd >= 0) {
        close(fd);
    }
    freeaddrinfo(list);
    return r;
}

/* Makes way at @p path: MR_OK when nothing is there any more. */
static enum mr_status clear_path(const char *path, const struct sockaddr_un *address,
                                 struct mr_problem *problem)
{
    struct stat at;
    if (lstat(path, &at) != 0) {
        return errno == ENOENT ? MR_OK : bind_problem(problem, path, errno);
    }
    if (!S_ISSOCK(at.st_mode)) {
        return mr_problem_set(problem, MR_E_EXISTS, "%s exists and is no socket", path);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return bind_problem(problem, path, errno);
    }
    int connected = connect(fd, (const struct sockaddr *)address, sizeof(*address));
    int error = errno;
    close(fd);
    /* EAGAIN: a listener with a full backlog is alive too. */
    if (connected == 0 || error != ECONNREFUSED) {
        return mr_problem_set(problem, MR_E_UNAVAILABLE, "%s is in use by another process", path);
    }
    if (unlink(path) != 0 && errno != ENOENT) {
        return bind_problem(problem, path, errno);
    }
    return MR_OK;
}

enum mr_status mr_http_socket_listen_unix(const char *path, int *ret_fd,
                                          struct mr_problem *problem)
{
    MR_ASSERT(path != NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(path);
    if (size >= sizeof(address.sun_path)) {
        return mr_problem_set(problem, MR_E_TOO_BIG,
                              "the socket path %s is longer than %zu bytes: use a shorter data_dir",
                              path, sizeof(address.sun_path) - 1);
    }
    memcpy(address.sun_path, path, size);
    enum mr_status r = clear_path(path, &address, problem);
    if (r != MR_OK) {
        return r;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return bind_problem(problem, path, errno);
    }
    /* The mode set before bind is the mode the file is born with (less the umask), so there is no
     * moment at which others may connect, and the umask of the process stays alone. */
    if (fchmod(fd, S_IRUSR | S_IWUSR) != 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        r = bind_problem(problem, path, errno);
        close(fd);
        return r;
    }
    if (chmod(path, S_IRUSR | S_IWUSR) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        r = bind_problem(problem, path, errno);
        close(fd);
        (void)unlink(path); /* ours since the bind above */
        return r;
    }
    *ret_fd = fd;
    return MR_OK;
}

bool mr_http_socket_peer_allowed(int fd)
{
    struct ucred peer = {0};
    socklen_t size = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || size != sizeof(peer)) {
        return false;
    }
    return peer.uid == geteuid() || peer.uid == 0;
}
