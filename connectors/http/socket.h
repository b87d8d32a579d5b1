/* Listening sockets for the HTTP listener: TCP on an address, or a Unix socket only its owner can
 * use. Bound here and not by the HTTP library, because the library cannot set the mode of a Unix
 * socket nor tell a stale one from a live one. */
#ifndef MR_CONNECTORS_HTTP_SOCKET_H
#define MR_CONNECTORS_HTTP_SOCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/problem.h"

/** Binds and listens on TCP @p host:@p port; nonblocking, close-on-exec. The caller closes *ret_fd.
 * @param host a numeric address or a name ("localhost" is 127.0.0.1); brackets are not expected
 * @param[out] ret_port the port that was bound
 * @return MR_E_UNAVAILABLE: in use; MR_E_INVALID: no such address; MR_E_DENIED; MR_E_IO
 * @blocks on name resolution, unless @p host is numeric or "localhost" */
MR_MUST_USE enum mr_status mr_http_socket_listen_tcp(const char *host, uint16_t port, int *ret_fd,
                                                     uint16_t *ret_port,
                                                     struct mr_problem *problem);

/** Binds and listens on the Unix socket @p path, mode 0600 whatever the umask. A socket that is
 * there and that nobody accepts on is replaced; anything else there is left alone.
 * @return MR_E_UNAVAILABLE: somebody listens there; MR_E_EXISTS: @p path is no socket;
 * MR_E_TOO_BIG: longer than the system allows; MR_E_DENIED, MR_E_IO */
MR_MUST_USE enum mr_status mr_http_socket_listen_unix(const char *path, int *ret_fd,
                                                      struct mr_problem *problem);

/** Whether the peer of the Unix socket connection @p fd runs as us or as root. */
bool mr_http_socket_peer_allowed(int fd);

#endif
