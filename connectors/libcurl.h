/* What every use of libcurl here has in common: no signals, no proxy, no .netrc, certificates
 * verified, and for HTTP no redirect followed and the address that is really connected to judged by
 * the egress policy, whatever name led there. */
#ifndef MR_CONNECTORS_LIBCURL_H
#define MR_CONNECTORS_LIBCURL_H

#include <curl/curl.h>
#include <stdbool.h>

#include "connectors/egress.h"
#include "core/bytes.h"

/* Looks at the addresses one handle connects to. */
struct mr_curl_guard {
    enum mr_egress egress;
    bool is_denied; /* an address was; cleared by the owner before each request */
};

/** libcurl's own beginning, once in the process; before the first handle. @thread any */
void mr__curl_begin(void);

/** Sets what is the same for every protocol. @param protocols "smtp,smtps", …
 * @param tls_ca NULL: the system's. @return false: memory is short */
bool mr__curl_set_all(CURL *easy, const char *protocols, const char *tls_ca);
/** Sets that, and what is the same for every HTTP request.
 * @param guard borrowed: outlives the handle */
bool mr__curl_set_http(CURL *easy, const char *protocols, const char *tls_ca,
                       struct mr_curl_guard *guard);
/** A header line, or a field's value in it, without blanks and the line's end around it. */
struct mr_bytes mr__curl_trim(struct mr_bytes text);

#endif
