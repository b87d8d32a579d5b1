/* A source that is killed before anything it read is durable. */
#ifndef MR_TESTS_CONTRACT_KILLED_H
#define MR_TESTS_CONTRACT_KILLED_H

#include "tests/support/test.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/test_host.h"

struct source_words;

/* Runs @p read_all in a child whose host holds every batch, and kills the child with what it has open.
 * @param read_all opens a source of these words; whether all has come */
static inline void read_and_be_killed(bool (*read_all)(struct test_host *held,
                                                       const struct source_words *words),
                                      const struct source_words *words)
{
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct test_host held;
        test_host_init(&held);
        test_host_hold(&held);
        char all = read_all(&held, words) ? 'y' : 'n';
        (void)!write(ready[1], &all, 1);
        for (;;) {
            pause();
        }
    }
    close(ready[1]);
    char all = 'n';
    assert_int_equal(read(ready[0], &all, 1), 1);
    close(ready[0]);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(all, 'y');
}

#endif
