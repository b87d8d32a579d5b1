#include "bench/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

uint64_t bench_now_ns(void)
{
    struct timespec ts = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail for this clock */
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

_Noreturn void bench_die(const char *program, const char *what)
{
    fprintf(stderr, "%s: %s\n", program, what);
    exit(1);
}

void bench_print_times(uint64_t first_ns, uint64_t last_ns)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage); /* cannot fail with these arguments */
    long long cpu_us = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000ll +
                       usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
    printf("{\"first_ns\":%llu,\"last_ns\":%llu,\"cpu_us\":%lld}\n",
           (unsigned long long)first_ns, (unsigned long long)last_ns, cpu_us);
}

static void set_nodelay(int fd)
{
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* slower, if it fails */
}

int bench_connect(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        close(fd);
        fd = -1;
    }
    if (fd >= 0) {
        set_nodelay(fd);
        (void)fcntl(fd, F_SETFL, O_NONBLOCK); /* an open socket: cannot fail */
    }
    return fd;
}

int bench_listen(uint16_t *ret_port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(fd, 1024) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &size) != 0) {
        return -1;
    }
    set_nodelay(fd); /* inherited by what it accepts */
    *ret_port = ntohs(at.sin_port);
    return fd;
}

uint64_t bench_option(int argc, char **argv, const char *name, uint64_t otherwise)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) != 0) {
            continue;
        }
        char *end = NULL;
        uint64_t value = i + 1 < argc ? strtoull(argv[i + 1], &end, 10) : 0;
        if (end == NULL || *end != '\0' || end == argv[i + 1]) {
            bench_die(argv[0], "an option lacks its number");
        }
        return value;
    }
    return otherwise;
}
