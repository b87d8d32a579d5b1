/* Where connections may go (design 11). Targets of the file may reach everything unless they say
 * `egress: public`; then the address that is really connected to, whatever name led there, must be
 * one of the public internet: not loopback, private, link-local (the clouds' metadata services),
 * unique-local, multicast, reserved, nor any of these inside an IPv6 address. Pure. */
#ifndef MR_CONNECTORS_EGRESS_H
#define MR_CONNECTORS_EGRESS_H

#include <stdbool.h>
#include <sys/socket.h>

enum mr_egress {
    MR_EGRESS_ANY = 0,
    MR_EGRESS_PUBLIC,
};
/* By the enum, NULL-terminated. */
extern const char *const mr__egress_words[];

/** Whether @p address (IPv4 or IPv6; all else is not) belongs to the public internet.
 * @thread any */
bool mr__egress_is_public(const struct sockaddr *address);
/** Whether @p policy lets a connection to @p address be made. @thread any */
bool mr__egress_allows(enum mr_egress policy, const struct sockaddr *address);

#endif
