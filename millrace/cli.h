/* The command line: one static table of verbs, each with a table of its options from which it is
 * parsed and its --help is made. A verb is a function from struct mr_cli to an exit code; it
 * writes to cli->out and cli->err alone, so a test can run it. */
#ifndef MR_MILLRACE_CLI_H
#define MR_MILLRACE_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "config/config.h"

/* Exit codes, fixed for scripts. */
enum mr_exit {
    MR_EXIT_OK = 0,
    MR_EXIT_FAILED = 1,
    MR_EXIT_USAGE = 2,
    MR_EXIT_NOTHING = 3,      /* nothing there: no such event, subscription, file */
    MR_EXIT_DATA = 65,        /* bad input data, a refused configuration among it */
    MR_EXIT_NO_INSTANCE = 69, /* nobody runs there */
};

#define MR_CLI_OPTIONS_MAX 24u

struct mr_cli_option {
    const char *name;  /* without dashes; a table ends with NULL */
    char letter;       /* 0: none */
    const char *value; /* what stands for the value in the help; NULL: a flag */
    const char *help;
};

struct mr_cli;

struct mr_verb {
    const char *name;      /* "dlq list"; the table ends with NULL */
    const char *arguments; /* "SUBSCRIPTION [ID]" */
    const char *summary;   /* one line */
    const struct mr_cli_option *options; /* NULL: only the common ones */
    uint32_t arguments_min;
    uint32_t arguments_max;
    int (*run)(struct mr_cli *cli);
};

struct mr_cli {
    const struct mr_verb *verb;
    const char *values[MR_CLI_OPTIONS_MAX]; /* of verb->options, in their order; "" for a flag */
    const char *config;   /* -c */
    const char *data_dir; /* --data-dir */
    bool json;            /* -o json */
    bool colour;
    const char *const *arguments;
    uint32_t argument_count;
    FILE *in;
    FILE *out;
    FILE *err;
};

/** Every verb of this release. */
extern const struct mr_verb mr_verbs[];

/** Runs the verb that @p argv names. @return an exit code */
int mr_cli_main(int argc, char **argv, FILE *in, FILE *out, FILE *err);

/** The value of option @p name of the verb; NULL when it was not given. */
const char *mr_cli_value(const struct mr_cli *cli, const char *name);
bool mr_cli_flag(const struct mr_cli *cli, const char *name);

/** Takes the number from 1 on that the option @p name gives, if it is there.
 * @return MR_EXIT_OK, or MR_EXIT_USAGE, which was told */
int mr_cli_number(struct mr_cli *cli, const char *name, uint64_t *value);
/** The same for --rate. */
int mr_cli_rate(struct mr_cli *cli, struct mr_rate *rate);
/** How many more may go now: at once one, then as @p rate says. */
double mr_rate_due(const struct mr_rate *rate, uint64_t begun_ns, uint64_t done);

/** Writes "millrace VERB: text" to cli->err. @return @p code, so that a verb can end in one line */
int mr_cli_fail(const struct mr_cli *cli, int code, const char *format, ...) MR_PRINTF(3, 4);
/** mr_cli_fail() with what @p status and @p problem say. */
int mr_cli_fail_status(const struct mr_cli *cli, int code, enum mr_status status,
                       const struct mr_problem *problem);

/** Reads all of @p from, at most @p size_max bytes. */
MR_MUST_USE enum mr_status mr_cli_read_all(FILE *from, size_t size_max, struct mr_buf *to);

/** Loads the configuration at @p path, or the default one when @p path is NULL; prints every error
 * to cli->err (as JSON lines to cli->out with -o json). @return an exit code; *ret_config is set
 * on MR_EXIT_OK */
int mr_cli_load_config(struct mr_cli *cli, const char *path, struct mr_config **ret_config);
/** The data_dir of the configuration at @p path. One that is refused now may belong to an instance
 * that runs with an older one: then the default place is looked at.
 * @param[out] ret_data_dir mr_free() it; NULL unless MR_EXIT_OK is returned */
int mr_cli_data_dir(struct mr_cli *cli, const char *path, char **ret_data_dir);
/** -c, else millrace.yaml here if it is there, else NULL: the default configuration. */
const char *mr_cli_config_path(const struct mr_cli *cli);

#endif
