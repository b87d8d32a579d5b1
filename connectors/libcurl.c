#include "connectors/libcurl.h"

#include <pthread.h>
#include <sys/socket.h>

static void init_curl(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT); /* a failure shows when a handle is made */
}

void mr__curl_begin(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, init_curl); /* cannot fail with a valid control */
}

static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *to)
{
    struct mr_curl_guard *guard = context;
    if (purpose != CURLSOCKTYPE_IPCXN || !mr__egress_allows(guard->egress, &to->addr)) {
        guard->is_denied = true;
        return CURL_SOCKET_BAD;
    }
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

bool mr__curl_set_all(CURL *easy, const char *protocols, const char *tls_ca)
{
    return curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, protocols) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NOPROXY, "*") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK &&
           (tls_ca == NULL || curl_easy_setopt(easy, CURLOPT_CAINFO, tls_ca) == CURLE_OK);
}

bool mr__curl_set_http(CURL *easy, const char *protocols, const char *tls_ca,
                       struct mr_curl_guard *guard)
{
    return mr__curl_set_all(easy, protocols, tls_ca) &&
           curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, guard) == CURLE_OK;
}

struct mr_bytes mr__curl_trim(struct mr_bytes text)
{
    while (text.size > 0 && memchr("\r\n", text.data[text.size - 1], 2) != NULL) {
        text.size--;
    }
    return mr_bytes_trim(text);
}
