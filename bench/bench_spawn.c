/* What fork and exec of /bin/true alone cost: bench_spawn COUNT prints microseconds a process. */
#include "bench/util.h"

#include <spawn.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
    static char program[] = "/bin/true";
    char *const arguments[] = {program, NULL};
    char *const environment[] = {NULL};
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 200;
    uint64_t start = bench_now_ns();
    for (uint64_t i = 0; i < count; i++) {
        pid_t pid;
        int status;
        if (posix_spawn(&pid, program, NULL, NULL, arguments, environment) != 0 ||
            waitpid(pid, &status, 0) != pid) {
            bench_die("bench_spawn", "cannot start /bin/true");
        }
    }
    printf("%.1f\n", (double)(bench_now_ns() - start) / 1000.0 / (double)count);
    return 0;
}
