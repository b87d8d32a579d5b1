/* A server that a script of this folder starts for a test: a broker, a mail server, an object
 * store. It has a folder of its own, and ends with the test's program, however that ends. */
#ifndef MR_TESTS_SUPPORT_SERVER_H
#define MR_TESTS_SUPPORT_SERVER_H

#include "tests/support/test.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

struct server {
    const char *script; /* "mosquitto.sh" */
    char dir[64];
    unsigned port;
    unsigned tls_port; /* 0: the script tells of none */
};

/* In the child: the script with words[0], the folder, and the further words. */
static inline void server_exec(const struct server *s, const char *const *words, int out, int guard)
{
    char path[512];
    char fd[16];
    const char *arguments[12] = {"bash", path, words[0], s->dir};
    for (int i = 1; words[i] != NULL && i < 8; i++) {
        arguments[3 + i] = words[i];
    }
    snprintf(path, sizeof(path), "%s/tests/support/%s", MR_SOURCE_DIR, s->script);
    dup2(out, 1);
    snprintf(fd, sizeof(fd), "%d", dup(guard)); /* a copy outlives the exec */
    setenv("TEST_GUARD", fd, 1);
    execv("/bin/bash", (char *const *)(uintptr_t)arguments);
    _exit(127);
}

/* Runs the script. @param words NULL-terminated, the verb first  @param line the first of its
 * output  @return its exit code */
static inline int server_run(const struct server *s, const char *const *words, char *line,
                             size_t size)
{
    static int guard[2] = {-1, -1}; /* its writing end closes when we end, however we do */
    int out[2];
    if ((guard[0] < 0 && pipe2(guard, O_CLOEXEC) != 0) || pipe2(out, O_CLOEXEC) != 0) {
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        server_exec(s, words, out[1], guard[0]);
    }
    close(out[1]);
    char all[256];
    size_t got = 0;
    ssize_t n;
    while ((n = read(out[0], all, sizeof(all))) > 0) {
        for (ssize_t i = 0; i < n && got + 1 < size; i++) {
            line[got++] = all[i];
        }
    }
    line[got] = '\0';
    close(out[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline void server_must(const struct server *s, const char *const *words)
{
    char line[8];
    assert_int_equal(server_run(s, words, line, sizeof(line)), 0);
}

/* server_do(&s, VERB, WORD…): must succeed. */
#define server_do(s, ...) server_must((s), (const char *const[]){__VA_ARGS__, NULL})

/* Starts it, or starts it again. Exit code 77 ends the whole program: it is what ctest takes for
 * "skipped". */
static inline void server_start(struct server *s)
{
    char line[128];
    int code = server_run(s, (const char *const[]){"start", NULL}, line, sizeof(line));
    if (code == 77) {
        (void)rmdir(s->dir);
        exit(77);
    }
    if (code != 0 || sscanf(line, "%u %u", &s->port, &s->tls_port) < 1) {
        print_error("%s: no server (exit %d): %s\n", s->script, code, line);
        exit(1);
    }
}

static inline void server_make(struct server *s, const char *script)
{
    *s = (struct server){.script = script, .dir = "/tmp/millrace-server-XXXXXX"};
    if (mkdtemp(s->dir) == NULL) {
        print_error("no folder for a server\n");
        exit(1);
    }
    server_start(s);
}

static inline void server_remove(struct server *s)
{
    server_do(s, "kill");
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", s->dir, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

#endif
