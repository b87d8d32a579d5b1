#include "connectors/http/probe.h"

#include <stdio.h>

#include "core/alloc.h"
#include "core/clock.h"

enum mr_status mr_http_probe_init(struct mr_http_probe *probe,
                                  const struct mr_http_client_options *options)
{
    *probe = (struct mr_http_probe){.is_up = options->health.path == NULL};
    if (options->health.path == NULL) {
        return MR_OK;
    }
    const struct mr_url *url = options->url;
    bool is_v6 = strchr(url->host, ':') != NULL;
    struct mr_buf text;
    mr_buf_init(&text, 64 * 1024);
    enum mr_status r = mr_buf_printf(&text, "%s://%s%s%s", url->scheme, is_v6 ? "[" : "",
                                     url->host, is_v6 ? "]" : "");
    if (r == MR_OK && url->port != 0) {
        r = mr_buf_printf(&text, ":%u", (unsigned)url->port);
    }
    r = r == MR_OK ? mr_buf_append_text(&text, options->health.path) : r;
    probe->url = r == MR_OK ? mr_buf_take_text(&text) : NULL;
    mr_buf_release(&text);
    return probe->url == NULL ? MR_E_NOMEM : MR_OK;
}

void mr_http_probe_release(struct mr_http_probe *probe)
{
    mr_free(MR_TAKE(probe->url));
}

int mr_http_probe_run(struct mr_http_probe *probe, const struct mr_http_client_options *options,
                      struct mr_http_courier *courier, uint32_t op_type, int wait_ms)
{
    uint64_t now_ns = mr_clock_mono_ns();
    if (probe->url == NULL || probe->is_asked) {
        return wait_ms;
    }
    if (now_ns < probe->next_ns) {
        uint64_t left_ms = (probe->next_ns - now_ns) / MR_MS + 1;
        return left_ms < (uint64_t)wait_ms ? (int)left_ms : wait_ms;
    }
    probe->next_ns = now_ns + options->health.interval_ns;
    struct mr_http_errand *errand = mr_http_errand_create("GET", probe->url);
    if (errand == NULL) {
        return wait_ms;
    }
    errand->op.type = op_type;
    errand->is_plain = true; /* as the deliveries */
    errand->egress = (enum mr_egress)options->egress;
    errand->tls_ca = mr_strdup(options->tls_ca);
    bool is_whole = errand->tls_ca != NULL || options->tls_ca == NULL;
    probe->is_asked = is_whole && mr_http_courier_send(courier, errand) == MR_OK;
    if (!probe->is_asked) {
        mr_http_errand_destroy(errand);
    }
    return wait_ms;
}

bool mr_http_probe_take(struct mr_http_probe *probe, const struct mr_http_client_options *options,
                        const struct mr_http_errand *errand, char why[256])
{
    bool was_up = probe->is_up;
    bool is_good = errand->status >= 200 && errand->status <= 299;
    bool is_first = !was_up && probe->failures == 0 && !is_good;
    probe->is_asked = false;
    why[0] = '\0';
    if (is_good) {
        probe->failures = 0;
        probe->is_up = true;
        return !was_up;
    }
    probe->failures += probe->failures < UINT32_MAX;
    probe->is_up = was_up && probe->failures < (uint64_t)options->health.failures;
    if (errand->status != 0) {
        (void)snprintf(why, 256, "the health check failed: HTTP %u of %.150s", errand->status,
                       options->health.path); /* fits */
    } else {
        (void)snprintf(why, 256, "the health check failed: %.180s", errand->error); /* fits */
    }
    return is_first || was_up != probe->is_up;
}
