/* libcurl alone as a mail client: COUNT mails of 1 KiB over one connection to 127.0.0.1:PORT.
 *
 *     bench_smtp --port PORT --count COUNT
 *
 * Prints a JSON line {"mails":…,"seconds":…,"cpu_us":…}: what the smtp sink is compared with. */
#include <curl/curl.h>
#include <string.h>
#include <sys/resource.h>

#include "bench/util.h"

static const char mail[] = "From: <bus@example.com>\r\nTo: <ops@example.com>\r\nSubject: s\r\n\r\n";

struct body {
    size_t at;
    char text[sizeof(mail) + BENCH_EVENT_SIZE];
};

static size_t give(char *to, size_t one, size_t count, void *context)
{
    struct body *body = context;
    size_t left = sizeof(body->text) - body->at;
    size_t size = one * count < left ? one * count : left;
    memcpy(to, body->text + body->at, size);
    body->at += size;
    return size;
}

static double cpu_us(void)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u); /* cannot fail for ourselves */
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

int main(int argc, char **argv)
{
    static struct body body;
    char url[64];
    uint64_t count = bench_option(argc, argv, "--count", 1000);
    (void)snprintf(url, sizeof(url), "smtp://127.0.0.1:%u",
                   (unsigned)bench_option(argc, argv, "--port", 25));
    memset(body.text, 'x', sizeof(body.text));
    memcpy(body.text, mail, sizeof(mail) - 1);
    for (size_t i = sizeof(mail) + 64; i + 2 < sizeof(body.text); i += 76) {
        memcpy(body.text + i, "\r\n", 2);
    }
    CURL *easy = curl_easy_init();
    struct curl_slist *to = curl_slist_append(NULL, "<ops@example.com>");
    if (easy == NULL || to == NULL) {
        bench_die("bench_smtp", "no libcurl");
    }
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_MAIL_FROM, "<bus@example.com>");
    curl_easy_setopt(easy, CURLOPT_MAIL_RCPT, to);
    curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, give);
    curl_easy_setopt(easy, CURLOPT_READDATA, &body);
    uint64_t begin_ns = bench_now_ns();
    double begin_us = cpu_us();
    for (uint64_t i = 0; i < count; i++) {
        body.at = 0;
        if (curl_easy_perform(easy) != CURLE_OK) {
            bench_die("bench_smtp", "a mail was refused");
        }
    }
    printf("{\"mails\":%llu,\"seconds\":%.3f,\"cpu_us\":%.1f}\n", (unsigned long long)count,
           (double)(bench_now_ns() - begin_ns) / 1e9, (cpu_us() - begin_us) / (double)count);
    curl_slist_free_all(to);
    curl_easy_cleanup(easy);
    return 0;
}
