/* What the benchmark programs share: the clock, giving up, loopback sockets. */
#ifndef MR_BENCH_UTIL_H
#define MR_BENCH_UTIL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define BENCH_EVENT_SIZE 1024u /* bytes of data of one event */

/** Nanoseconds of CLOCK_MONOTONIC: the same clock in every process of a run. */
uint64_t bench_now_ns(void);
/** Prints the reason to stderr and ends with 1. */
_Noreturn void bench_die(const char *program, const char *what);
/** A non-blocking TCP connection to 127.0.0.1, or -1. */
int bench_connect(uint16_t port);
/** A non-blocking listener on 127.0.0.1 and a free port, or -1. */
int bench_listen(uint16_t *ret_port);
/** Prints the two, of bench_now_ns(), and the processor time this process took as one JSON line. */
void bench_print_times(uint64_t first_ns, uint64_t last_ns);
/** The number of option @p name in argv, or @p otherwise; a missing or wrong one ends it. */
uint64_t bench_option(int argc, char **argv, const char *name, uint64_t otherwise);

#endif
