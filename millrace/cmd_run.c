/* run: load, open, start, say so, and turn until a signal asks for the end. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "core/alloc.h"
#include "core/logger.h"
#include "millrace/engine.h"
#include "millrace/verbs.h"

const struct mr_cli_option mr_run_options[] = {
    {"log-level", 0, "LEVEL", "error, warn, info (default) or debug"},
    {"log-json", 0, NULL, "log lines as JSON"},
    {"until-done", 0, NULL, "stop when every source has ended and all is delivered: a back-fill"},
    {.name = NULL},
};

/* Signal handlers have no argument: the one engine of the process. Set before they are installed,
 * cleared after they are gone; both calls are async-signal-safe. */
static struct mr_engine *_Atomic running;

static void on_signal(int number)
{
    int saved = errno;
    struct mr_engine *engine = atomic_load(&running);
    if (engine != NULL && number == SIGHUP) {
        mr_engine_request_reload(engine);
    } else if (engine != NULL) {
        mr_engine_request_stop(engine);
    }
    errno = saved;
}

static void handle_signals(void (*handler)(int))
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < MR_ARRAY_COUNT(numbers); i++) {
        (void)sigaction(numbers[i], &action, NULL); /* valid numbers: cannot fail */
    }
    action.sa_handler = SIG_IGN;
    (void)sigaction(SIGPIPE, &action, NULL);
    (void)sigaction(SIGXFSZ, &action, NULL); /* a file limit is a full disk: the write says so */
}

static int set_log(struct mr_cli *cli)
{
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    const char *level = mr_cli_value(cli, "log-level");
    mr_logger_set_json(mr_cli_flag(cli, "log-json"));
    for (size_t i = 0; level != NULL && i < MR_ARRAY_COUNT(levels); i++) {
        if (strcmp(levels[i], level) == 0) {
            mr_logger_set_level((enum mr_level)i);
            return MR_EXIT_OK;
        }
    }
    return level == NULL ? MR_EXIT_OK
                         : mr_cli_fail(cli, MR_EXIT_USAGE,
                                       "--log-level wants error, warn, info or debug, not \"%s\"",
                                       level);
}

/* Each target has a few descriptors, and the usual soft limit is 1024. Not to a hard limit of many
 * millions, as containers have it: workers inherit this, and some make tables of that size. */
static void raise_descriptors(void)
{
    const rlim_t enough = 65536;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < enough) {
        limit.rlim_cur = limit.rlim_max < enough ? limit.rlim_max : enough;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* within the hard limit: cannot fail */
    }
}

/* --data-dir of the command line goes before that of the file. */
static int override_data_dir(struct mr_cli *cli, struct mr_config *config)
{
    if (cli->data_dir == NULL) {
        return MR_EXIT_OK;
    }
    if (mkdir(cli->data_dir, 0700) != 0 && errno != EEXIST) {
        return mr_cli_fail(cli, MR_EXIT_FAILED, "cannot make %s: %s", cli->data_dir,
                           strerror(errno));
    }
    char *resolved = realpath(cli->data_dir, NULL);
    char *absolute = mr_strdup(resolved);
    free(resolved);
    if (absolute == NULL) {
        return mr_cli_fail(cli, MR_EXIT_FAILED, "cannot use %s", cli->data_dir);
    }
    mr_free(config->data_dir);
    config->data_dir = absolute;
    return MR_EXIT_OK;
}

static void say_ready(struct mr_cli *cli, const struct mr_engine *engine, const char *host,
                      const char *data_dir)
{
    uint16_t port = mr_engine_port(engine);
    if (port == 0) {
        fprintf(cli->out, "millrace is ready; data in %s\n", data_dir);
    } else {
        bool is_v6 = strchr(host, ':') != NULL;
        fprintf(cli->out, "millrace is ready on http://%s%s%s:%u; data in %s\n", is_v6 ? "[" : "",
                host, is_v6 ? "]" : "", (unsigned)port, data_dir);
    }
    (void)fflush(cli->out); /* who starts us may wait for this line; a closed pipe is his choice */
}

static int exit_code_of(enum mr_status r)
{
    return r == MR_E_INVALID || r == MR_E_UNSUPPORTED ? MR_EXIT_DATA : MR_EXIT_FAILED;
}

int mr_cmd_run(struct mr_cli *cli)
{
    int code = set_log(cli);
    if (code != MR_EXIT_OK) {
        return code;
    }
    (void)umask(077);
    raise_descriptors();
    const char *path = mr_cli_config_path(cli);
    struct mr_config *config;
    code = mr_cli_load_config(cli, path, &config);
    if (code != MR_EXIT_OK) {
        return code;
    }
    code = override_data_dir(cli, config);
    char *host = mr_strdup(config->listen_host == NULL ? "127.0.0.1" : config->listen_host);
    char *data_dir = mr_strdup(config->data_dir);
    struct mr_engine *engine = NULL;
    struct mr_problem problem = {.text = ""};
    enum mr_status r = host == NULL || data_dir == NULL ? MR_E_NOMEM : MR_OK;
    if (code != MR_EXIT_OK || r != MR_OK) {
        mr_config_destroy(config);
    } else {
        r = mr_engine_create(config, path, &engine, &problem);
        if (r == MR_OK) {
            atomic_store(&running, engine);
            handle_signals(on_signal);
            if (mr_cli_flag(cli, "until-done")) {
                mr_engine_stop_when_done(engine);
            }
            r = mr_engine_start(engine, &problem);
        }
        if (r == MR_OK) {
            say_ready(cli, engine, host, data_dir);
            code = mr_engine_run(engine);
        }
        handle_signals(SIG_IGN);
        atomic_store(&running, NULL);
    }
    if (r == MR_E_CLOSED) {
        MR_INFO("engine", "%s; it is as it was", problem.text);
    } else if (r != MR_OK) {
        code = mr_cli_fail_status(cli, exit_code_of(r), r, &problem);
    }
    mr_engine_destroy(engine);
    mr_free(host);
    mr_free(data_dir);
    return code;
}
