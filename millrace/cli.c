#include "millrace/cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "core/io.h"
#include "core/logger.h"

static const struct mr_cli_option common[] = {
    {"config", 'c', "FILE", "the configuration: a file, or a folder of fragments"},
    {"data-dir", 0, "DIR", "where the instance keeps its data"},
    {"output", 'o', "FORMAT", "human (default) or json"},
    {"no-colour", 0, NULL, "no colours, also on a terminal"},
    {"help", 'h', NULL, "print this help"},
    {.name = NULL},
};

/* Verbs of the design that come with a later release. */
static const char *const later[] = {"top",   "console", "erase", "bench",
                                    "token", "deploy",  NULL};

/* --- help ------------------------------------------------------------------------------------- */

static void print_options(FILE *out, const struct mr_cli_option *options)
{
    for (; options != NULL && options->name != NULL; options++) {
        char left[64];
        char letter[8] = "    ";
        if (options->letter != 0) {
            (void)snprintf(letter, sizeof(letter), "-%c, ", options->letter); /* fits */
        }
        const char *value = options->value == NULL ? "" : options->value;
        (void)snprintf(left, sizeof(left), "%s--%s%s%s", letter, options->name, /* table text */
                       options->value == NULL ? "" : " ", value);
        fprintf(out, "  %-26s %s\n", left, options->help);
    }
}

static void print_verb_help(FILE *out, const struct mr_verb *verb)
{
    fprintf(out, "usage: millrace %s%s%s [options]\n\n%s\n", verb->name,
            verb->arguments[0] == '\0' ? "" : " ", verb->arguments, verb->summary);
    if (verb->options != NULL) {
        fprintf(out, "\noptions:\n");
        print_options(out, verb->options);
    }
    fprintf(out, "\ncommon options:\n");
    print_options(out, common);
}

static void print_overview(FILE *out)
{
    fprintf(out, "usage: millrace VERB [arguments] [options]\n\n"
                 "An event bus that drives workers.\n\n");
    for (const struct mr_verb *verb = mr_verbs; verb->name != NULL; verb++) {
        char left[80];
        (void)snprintf(left, sizeof(left), "%s %s", verb->name, verb->arguments); /* table text */
        fprintf(out, "  %-40s %s\n", left, verb->summary);
    }
    fprintf(out, "\nmillrace VERB --help tells more. Exit codes: 0 ok, 1 it failed, 2 wrong usage, "
                 "3 nothing there,\n65 bad input data, 69 no running instance.\n");
}

/* The verbs that begin with the word @p group: `millrace dlq`. @return false: there are none */
static bool print_group(FILE *out, const char *group)
{
    size_t size = strlen(group);
    bool any = false;
    for (const struct mr_verb *verb = mr_verbs; verb->name != NULL; verb++) {
        if (strncmp(verb->name, group, size) == 0 && verb->name[size] == ' ') {
            fprintf(out, "%smillrace %s %s\n", any ? "       " : "usage: ", verb->name,
                    verb->arguments);
            any = true;
        }
    }
    return any;
}

/* --- finding the verb ------------------------------------------------------------------------- */

static const struct mr_verb *find_verb(const char *name)
{
    for (const struct mr_verb *verb = mr_verbs; verb->name != NULL; verb++) {
        if (strcmp(verb->name, name) == 0) {
            return verb;
        }
    }
    return NULL;
}

static bool is_later(const char *name)
{
    for (size_t i = 0; later[i] != NULL; i++) {
        if (strcmp(later[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static const char *nearest_verb(const char *name)
{
    const char *names[64];
    uint32_t count = 0;
    for (const struct mr_verb *verb = mr_verbs; verb->name != NULL; verb++) {
        MR_ASSERT(count < MR_ARRAY_COUNT(names));
        names[count++] = verb->name;
    }
    return mr_nearest_word(name, names, count);
}

/* @return the verb, or NULL with the exit code set and said why */
static const struct mr_verb *choose_verb(int argc, char **argv, int *ret_words, int *ret_code,
                                         FILE *out, FILE *err)
{
    char two[160] = "";
    if (argc > 2) {
        (void)snprintf(two, sizeof(two), "%.70s %.70s", argv[1], argv[2]); /* too long: no verb */
    }
    const struct mr_verb *verb = find_verb(two);
    *ret_words = 2;
    if (verb == NULL) {
        verb = find_verb(argv[1]);
        *ret_words = 1;
    }
    if (verb != NULL) {
        return verb;
    }
    *ret_code = MR_EXIT_USAGE;
    bool asks_help = argc > 2 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0);
    if (is_later(two) || is_later(argv[1])) {
        fprintf(err, "millrace: \"%s\" is not available in this release\n",
                is_later(two) ? two : argv[1]);
        return NULL;
    }
    bool is_alone = argc == 2 || asks_help || argv[2][0] == '-';
    if (is_alone && print_group(asks_help ? out : err, argv[1])) {
        *ret_code = asks_help ? MR_EXIT_OK : MR_EXIT_USAGE;
        return NULL;
    }
    char clean[200];
    bool is_group = false;
    for (verb = mr_verbs; verb->name != NULL; verb++) {
        size_t size = strlen(argv[1]);
        is_group = is_group || (strncmp(verb->name, argv[1], size) == 0 && verb->name[size] == ' ');
    }
    mr_text_clean(clean, sizeof(clean), mr_bytes_of(is_group ? two : argv[1]));
    const char *nearest = nearest_verb(clean);
    fprintf(err, "millrace: unknown verb \"%s\"", clean);
    if (nearest != NULL) {
        fprintf(err, ", did you mean \"%s\"?\n", nearest);
    } else {
        fprintf(err, "; millrace --help lists them\n");
    }
    return NULL;
}

/* --- options ---------------------------------------------------------------------------------- */

static int64_t find_option(const struct mr_cli_option *options, struct mr_bytes name, char letter)
{
    for (int64_t i = 0; options != NULL && options[i].name != NULL; i++) {
        bool by_letter = letter != 0 && options[i].letter == letter;
        if (by_letter || (letter == 0 && mr_bytes_equal(mr_bytes_of(options[i].name), name))) {
            return i;
        }
    }
    return -1;
}

static int refuse_option(struct mr_cli *cli, const char *given)
{
    const char *names[MR_CLI_OPTIONS_MAX + MR_ARRAY_COUNT(common)];
    uint32_t count = 0;
    for (const struct mr_cli_option *o = cli->verb->options; o != NULL && o->name != NULL; o++) {
        names[count++] = o->name;
    }
    for (const struct mr_cli_option *o = common; o->name != NULL; o++) {
        names[count++] = o->name;
    }
    const char *nearest = given[1] == '-' ? mr_nearest_word(given + 2, names, count) : NULL;
    return mr_cli_fail(cli, MR_EXIT_USAGE, "unknown option %s%s%s%s", given,
                       nearest == NULL ? "" : ", did you mean --", nearest == NULL ? "" : nearest,
                       nearest == NULL ? "" : "?");
}

static int set_common(struct mr_cli *cli, int64_t index, const char *value, bool *ret_help)
{
    switch (index) {
    case 0:
        cli->config = value;
        break;
    case 1:
        cli->data_dir = value;
        break;
    case 2:
        if (strcmp(value, "json") != 0 && strcmp(value, "human") != 0) {
            return mr_cli_fail(cli, MR_EXIT_USAGE, "-o wants human or json, not \"%s\"", value);
        }
        cli->json = strcmp(value, "json") == 0;
        break;
    case 3:
        cli->colour = false;
        break;
    default:
        *ret_help = true;
        break;
    }
    return MR_EXIT_OK;
}

/* One word that begins with a dash; takes the next word too when the option wants a value. */
static int take_option(struct mr_cli *cli, char **argv, int argc, int *at, bool *ret_help)
{
    const char *word = argv[*at];
    bool is_long = word[1] == '-';
    const char *equals = is_long ? strchr(word, '=') : NULL;
    struct mr_bytes name = mr_bytes(word + 2, equals == NULL ? strlen(word) - (is_long ? 2 : 1)
                                                             : (size_t)(equals - word) - 2);
    char letter = is_long ? 0 : word[1];
    int64_t own = find_option(cli->verb->options, name, letter);
    int64_t shared = own >= 0 ? -1 : find_option(common, name, letter);
    if (own < 0 && shared < 0) {
        return refuse_option(cli, word);
    }
    const struct mr_cli_option *option = own >= 0 ? &cli->verb->options[own] : &common[shared];
    const char *glued = !is_long && word[2] != '\0' ? word + 2 : NULL; /* -ojson */
    const char *value = equals != NULL ? equals + 1 : glued;
    if (option->value == NULL && value != NULL) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "--%s takes no value", option->name);
    }
    if (option->value != NULL && value == NULL) {
        if (*at + 1 >= argc) {
            return mr_cli_fail(cli, MR_EXIT_USAGE, "--%s wants %s", option->name, option->value);
        }
        value = argv[++*at];
    }
    if (own >= 0) {
        cli->values[own] = value == NULL ? "" : value;
        return MR_EXIT_OK;
    }
    return set_common(cli, shared, value, ret_help);
}

static int parse(struct mr_cli *cli, int argc, char **argv, int first, const char **arguments,
                 bool *ret_help)
{
    bool only_arguments = false;
    for (int i = first; i < argc; i++) {
        const char *word = argv[i];
        if (!only_arguments && strcmp(word, "--") == 0) {
            only_arguments = true;
        } else if (!only_arguments && word[0] == '-' && word[1] != '\0') {
            int code = take_option(cli, argv, argc, &i, ret_help);
            if (code != MR_EXIT_OK) {
                return code;
            }
        } else {
            arguments[cli->argument_count++] = word;
        }
    }
    cli->arguments = arguments;
    return MR_EXIT_OK;
}

static int run_verb(struct mr_cli *cli, int argc, char **argv, int first)
{
    const char **arguments = mr_calloc((size_t)argc + 1, sizeof(*arguments));
    if (arguments == NULL) {
        return mr_cli_fail(cli, MR_EXIT_FAILED, "out of memory");
    }
    bool help = false;
    int code = parse(cli, argc, argv, first, arguments, &help);
    if (code == MR_EXIT_OK && help) {
        print_verb_help(cli->out, cli->verb);
    } else if (code == MR_EXIT_OK && (cli->argument_count < cli->verb->arguments_min ||
                                      cli->argument_count > cli->verb->arguments_max)) {
        code = mr_cli_fail(cli, MR_EXIT_USAGE, "usage: millrace %s %s", cli->verb->name,
                           cli->verb->arguments);
    } else if (code == MR_EXIT_OK) {
        code = cli->verb->run(cli);
    }
    mr_free(arguments);
    if (fflush(cli->out) != 0 && code == MR_EXIT_OK) {
        code = mr_cli_fail(cli, MR_EXIT_FAILED, "the output could not be written");
    }
    return code;
}

int mr_cli_main(int argc, char **argv, FILE *in, FILE *out, FILE *err)
{
    if (argc < 2) {
        print_overview(err);
        return MR_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        (strcmp(argv[1], "help") == 0 && argc == 2)) {
        print_overview(out);
        return MR_EXIT_OK;
    }
    char version[] = "version";
    if (strcmp(argv[1], "--version") == 0) {
        argv[1] = version;
    }
    int shift = strcmp(argv[1], "help") == 0 ? 1 : 0; /* `help dlq list` */
    int words;
    int code = MR_EXIT_USAGE;
    const struct mr_verb *verb =
        choose_verb(argc - shift, argv + shift, &words, &code, out, err);
    if (verb == NULL) {
        return code;
    }
    if (shift == 1) {
        print_verb_help(out, verb);
        return MR_EXIT_OK;
    }
    struct mr_cli cli = {.verb = verb, .in = in, .out = out, .err = err};
    const char *no_colour = getenv("NO_COLOR");
    cli.colour = (no_colour == NULL || *no_colour == '\0') && out == stdout && isatty(1) == 1;
    return run_verb(&cli, argc, argv, 1 + words);
}

/* --- what verbs share ------------------------------------------------------------------------- */

const char *mr_cli_value(const struct mr_cli *cli, const char *name)
{
    int64_t index = find_option(cli->verb->options, mr_bytes_of(name), 0);
    MR_ASSERT(index >= 0 && index < (int64_t)MR_CLI_OPTIONS_MAX);
    return cli->values[index];
}

bool mr_cli_flag(const struct mr_cli *cli, const char *name)
{
    return mr_cli_value(cli, name) != NULL;
}

int mr_cli_fail(const struct mr_cli *cli, int code, const char *format, ...)
{
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    if (vsnprintf(text, sizeof(text), format, arguments) < 0) {
        text[0] = '\0';
    }
    va_end(arguments);
    char clean[sizeof(text)];
    mr_text_clean(clean, sizeof(clean), mr_bytes_of(text));
    fprintf(cli->err, "millrace %s: %s\n", cli->verb->name, clean);
    return code;
}

int mr_cli_fail_status(const struct mr_cli *cli, int code, enum mr_status status,
                       const struct mr_problem *problem)
{
    bool has_text = problem != NULL && problem->text[0] != '\0';
    return mr_cli_fail(cli, code, "%s", has_text ? problem->text : mr_status_text(status));
}

enum mr_status mr_cli_read_all(FILE *from, size_t size_max, struct mr_buf *to)
{
    mr_buf_init(to, size_max);
    uint8_t chunk[16384];
    for (;;) {
        size_t size = fread(chunk, 1, sizeof(chunk), from);
        if (size == 0) {
            return ferror(from) ? MR_E_IO : MR_OK;
        }
        enum mr_status r = mr_buf_append(to, chunk, size);
        if (r != MR_OK) {
            return r;
        }
    }
}

int mr_cli_number(struct mr_cli *cli, const char *name, uint64_t *value)
{
    const char *text = mr_cli_value(cli, name);
    if (text != NULL && (!mr_parse_u64(mr_bytes_of(text), value) || *value == 0)) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "--%s wants a number from 1, not \"%s\"", name,
                           text);
    }
    return MR_EXIT_OK;
}

int mr_cli_rate(struct mr_cli *cli, struct mr_rate *rate)
{
    const char *text = mr_cli_value(cli, "rate");
    if (text != NULL && (!mr_parse_rate(text, rate) || rate->count == 0)) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "--rate wants a rate such as 20/s, not \"%s\"",
                           text);
    }
    return MR_EXIT_OK;
}

double mr_rate_due(const struct mr_rate *rate, uint64_t begun_ns, uint64_t done)
{
    double ran_ns = (double)(mr_clock_mono_ns() - begun_ns);
    return 1 + ran_ns * (double)rate->count / (double)rate->per_ns - (double)done;
}
