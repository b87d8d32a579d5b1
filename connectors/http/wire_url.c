/* Which URLs the transport of our own can carry, and what their requests begin with. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "connectors/egress.h"
#include "connectors/http/transport.h"
#include "core/limits.h"

enum { CREDENTIALS_SIZE_MAX = 16 * 1024 };

uint32_t mr__http_wire_addresses(const struct mr_url *url,
                                 struct sockaddr_storage ret[MR__HTTP_ADDRESSES_MAX])
{
    const struct sockaddr_in v4 = {.sin_family = AF_INET,
                                   .sin_port = htons(url->port == 0 ? 80 : url->port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
                                    .sin6_port = v4.sin_port,
                                    .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    memset(ret, 0, sizeof(*ret) * MR__HTTP_ADDRESSES_MAX);
    memcpy(&ret[0], &v4, sizeof(v4));
    if (strcmp(url->host, "localhost") == 0) {
        memcpy(&ret[1], &v6, sizeof(v6));
        return 2;
    }
    if (inet_pton(AF_INET, url->host, &((struct sockaddr_in *)(void *)&ret[0])->sin_addr) == 1) {
        return 1;
    }
    memcpy(&ret[0], &v6, sizeof(v6));
    if (inet_pton(AF_INET6, url->host, &((struct sockaddr_in6 *)(void *)&ret[0])->sin6_addr) ==
        1) {
        return 1;
    }
    return 0;
}

bool mr_http_wire_fits(const struct mr_http_client_options *options)
{
    const struct mr_url *url = options->url;
    struct sockaddr_storage addresses[MR__HTTP_ADDRESSES_MAX];
    if (options->egress != MR_EGRESS_ANY) {
        return false; /* one place judges addresses */
    }
    for (const char *c = url->path; *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~' || *c == '#') {
            return false; /* libcurl knows what to make of it */
        }
    }
    return strcmp(url->scheme, "http") == 0 && mr__http_wire_addresses(url, addresses) > 0;
}

static enum mr_status append_credentials(struct mr_buf *out, const struct mr_url *url)
{
    struct mr_buf plain;
    mr_buf_init(&plain, CREDENTIALS_SIZE_MAX);
    enum mr_status r = mr_buf_append_text(&plain, url->user);
    r = r == MR_OK ? mr_buf_append_byte(&plain, ':') : r;
    if (r == MR_OK && url->password != NULL) {
        r = mr_buf_append_bytes(&plain, mr_secret_use(url->password));
    }
    r = r == MR_OK ? mr_buf_append_text(out, "Authorization: Basic ") : r;
    r = r == MR_OK ? mr_buf_append_base64(out, mr_buf_bytes(&plain)) : r;
    r = r == MR_OK ? mr_buf_append_text(out, "\r\n") : r;
    if (plain.data != NULL) {
        explicit_bzero(plain.data, plain.capacity);
    }
    mr_buf_release(&plain);
    return r;
}

enum mr_status mr__http_wire_prefix(const struct mr_url *url, struct mr_buf *out)
{
    bool is_v6 = strchr(url->host, ':') != NULL;
    enum mr_status r =
        mr_buf_printf(out, "POST %s%s HTTP/1.1\r\nHost: %s%s%s",
                      url->path[0] == '/' ? "" : "/", url->path, is_v6 ? "[" : "", url->host,
                      is_v6 ? "]" : "");
    if (r == MR_OK && url->port != 0 && url->port != 80) {
        r = mr_buf_printf(out, ":%u", (unsigned)url->port);
    }
    r = r == MR_OK ? mr_buf_append_text(out, "\r\nAccept: */*\r\n") : r;
    if (r == MR_OK && url->user != NULL) {
        r = append_credentials(out, url);
    }
    return r;
}
