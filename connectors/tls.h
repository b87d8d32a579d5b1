/* Options `tls_ca`, `tls_cert` and `tls_key` of what talks to a broker with TLS: their rows, and
 * what they say together. No file is read here. */
#ifndef MR_CONNECTORS_TLS_H
#define MR_CONNECTORS_TLS_H

#include "config/option.h"

/* Rows of an option table; @p field of struct @p S holds the three texts by their names. */
#define MR_TLS_ROWS(S, field)                                                                      \
    {.name = "tls_ca", .type = MR_OPTION_PATH, .at = offsetof(struct S, field.tls_ca),             \
     .help = "PEM file of the authorities trusted; by default those of the system."},              \
    {.name = "tls_cert", .type = MR_OPTION_PATH, .at = offsetof(struct S, field.tls_cert),         \
     .help = "PEM file of the client certificate."},                                               \
    {.name = "tls_key", .type = MR_OPTION_PATH, .at = offsetof(struct S, field.tls_key),           \
     .help = "PEM file of the client certificate's key."}

/** @param scheme NULL: TLS is spoken; else the URL's scheme that it would take, as "amqps"
 * @return MR_E_INVALID with the problem */
MR_MUST_USE enum mr_status mr__tls_check(const char *tls_ca, const char *tls_cert,
                                         const char *tls_key, const char *scheme,
                                         struct mr_problem *problem);

#endif
