/* The health check of an HTTP target: a GET every now and then, by the target's courier. While it
 * fails the target has no room, so that deliveries wait instead of spending attempts on a service
 * that said it is not ready. Belongs to the target's thread. */
#ifndef MR_CONNECTORS_HTTP_PROBE_H
#define MR_CONNECTORS_HTTP_PROBE_H

#include "connectors/http/client.h"
#include "connectors/http/courier.h"

struct mr_http_probe {
    char *url;         /* owned; NULL: nothing is checked */
    uint64_t next_ns;  /* when to ask; monotonic */
    uint32_t failures; /* in a row */
    bool is_asked;     /* an errand is out */
    bool is_up;        /* not before the first success */
};

/** @param options borrowed: outlives the probe @return MR_E_NOMEM */
MR_MUST_USE enum mr_status mr_http_probe_init(struct mr_http_probe *probe,
                                              const struct mr_http_client_options *options);
void mr_http_probe_release(struct mr_http_probe *probe);
/** Asks when it is time to; the errand comes back with @p op_type. What cannot be sent for want of
 * memory is sent at the next interval. @return how long until the next look, at most @p wait_ms */
int mr_http_probe_run(struct mr_http_probe *probe, const struct mr_http_client_options *options,
                      struct mr_http_courier *courier, uint32_t op_type, int wait_ms);
/** Judges the errand that came back.
 * @param[out] why what failed, "" when nothing did
 * @return whether is_up has changed, or the very first check failed */
bool mr_http_probe_take(struct mr_http_probe *probe, const struct mr_http_client_options *options,
                        const struct mr_http_errand *errand, char why[256]);

#endif
