/* dlq redrive, dlq purge. The pace, the caution and the waiting of a redrive are here; the instance
 * handles one page at a time and remembers nothing.
 *
 * A redriven letter is *open* until it has ended again, and *tried* as soon as its first attempt
 * was answered: one that fails then waits for its next attempt, for hours perhaps, and tells all
 * the same that the mending did not help. The decisions to go on or to stop look at what is tried;
 * the closing counts at what has ended. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "core/clock.h"
#include "millrace/dlq.h"
#include "millrace/table.h"
#include "millrace/verbs.h"

#define PAGE_MAX 100u
#define ASK_MAX 1000u    /* offsets in one question; the instance takes no more */
#define UNTRIED_MAX 1000u /* put back and not tried yet, at once */
#define OPEN_MAX 20000u  /* waited for at once: bounds our memory */
#define JUDGE_MIN 10u    /* tried before a share of failures means anything */
#define POLL_FIRST_NS (20 * MR_MS)
#define POLL_MAX_NS (500 * MR_MS)
#define WAIT_DEFAULT_NS (60 * MR_SECOND)
#define BAR_WIDTH 30u

const struct mr_cli_option mr_dlq_redrive_options[] = {
    MR_DLQ_PICK_OPTIONS,
    MR_DLQ_LIMIT_OPTION,
    {"rate", 0, "RATE", "at most so many, as in 20/s"},
    {"canary", 0, "N", "first N alone; the others only when these succeed"},
    {"stop-if-fail", 0, "PERCENT", "stop when so many of those tried fail again, as in 20%"},
    {"dry-run", 0, NULL, "only show which"},
    {"out-of-order", 0, NULL, "also where later events of the lane were handled already"},
    {"timeout", 0, "DURATION", "how long to wait for the results (default 1m); 0: do not wait"},
    {.name = NULL},
};

const struct mr_cli_option mr_dlq_purge_options[] = {
    MR_DLQ_PICK_OPTIONS,
    MR_DLQ_LIMIT_OPTION,
    {"dry-run", 0, NULL, "only show which"},
    {"yes", 0, NULL, "do not ask: what is purged is gone"},
    {.name = NULL},
};

/* One delivery that was put back, until it is known how it ended. */
struct redriven {
    uint64_t offset;
    char *id; /* owned */
    bool tried;
    bool settled;
};

struct operation {
    struct mr_cli *cli;
    struct mr_client *client;
    const char *verb; /* "/redrive" or "/purge" */
    const char *key;  /* "redriven" or "purged" */
    bool dry_run;
    bool wait;             /* for the results */
    struct mr_rate rate;
    uint64_t canary;       /* 0: none */
    uint64_t stop_percent; /* 0: never */
    uint64_t left;         /* letters that may still be picked */
    uint64_t timeout_ns;

    uint64_t after;
    bool more;         /* letters to pick */
    uint64_t begun_ns;
    uint64_t last_ns;  /* when the last page was put back */
    uint64_t asked_ns; /* when results were asked for */
    uint64_t pause_ns; /* between two questions */
    uint64_t position; /* of the log: ends of what is open lie behind it */
    struct redriven *items; /* owned: the open ones */
    uint32_t count;
    uint32_t capacity;
    uint64_t put;      /* put back, purged or (dry run) picked */
    uint64_t done;
    uint64_t failed;
    uint64_t refused;
    bool proven;       /* the canary succeeded */
    bool stopped;
    bool bar;          /* a progress bar stands on the terminal */
    uint64_t total;    /* of the bar; 0: not known */
};

/* --- telling ---------------------------------------------------------------------------------- */

static void clear_bar(const struct operation *operation)
{
    if (operation->bar) {
        fputs("\r\033[K", operation->cli->err);
    }
}

static void draw_bar(const struct operation *operation)
{
    if (!operation->bar) {
        return;
    }
    uint64_t seen = operation->put + operation->refused;
    uint64_t total = operation->total > seen ? operation->total : seen;
    uint64_t full = total == 0 ? BAR_WIDTH : (seen - operation->count) * BAR_WIDTH / total;
    char bar[BAR_WIDTH + 1];
    for (uint32_t i = 0; i < BAR_WIDTH; i++) {
        bar[i] = i < full ? '#' : '.';
    }
    bar[BAR_WIDTH] = '\0';
    FILE *err = operation->cli->err;
    fprintf(err, "\r\033[K[%s] %" PRIu64 "/%" PRIu64, bar, seen - operation->count, total);
    if (operation->wait) {
        fprintf(err, "  %" PRIu64 " handled, %" PRIu64 " failed, %u open", operation->done,
                operation->failed, operation->count);
    }
    (void)fflush(err); /* a bar that lags is no error */
}

/* What a terminal with a bar is told in a line of its own: what needs a look. */
static bool is_told(const char *state)
{
    static const char *const good[] = {"done", "dropped", "redriven", "purged"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(good); i++) {
        if (strcmp(state, good[i]) == 0) {
            return false;
        }
    }
    return true;
}

static void print_result(const struct operation *operation, const char *id, uint64_t offset,
                         const char *state, const char *error)
{
    const struct mr_cli *cli = operation->cli;
    if (cli->json) {
        cJSON *line = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(line, "id", id);
        (void)cJSON_AddNumberToObject(line, "offset", (double)offset);
        (void)cJSON_AddStringToObject(line, "result", state);
        if (error[0] != '\0') {
            (void)cJSON_AddStringToObject(line, "error", error);
        }
        char *text = cJSON_PrintUnformatted(line);
        fprintf(cli->out, "%s\n", text == NULL ? "{}" : text);
        cJSON_free(text);
        cJSON_Delete(line);
        return;
    }
    if (operation->bar && !is_told(state)) {
        return;
    }
    clear_bar(operation);
    mr_print_clean(cli, id);
    fputs("  ", cli->out);
    mr_print_colour(cli, mr_colour_of(state), state);
    fputs(error[0] == '\0' ? "" : "  ", cli->out);
    mr_print_clean(cli, error);
    fputc('\n', cli->out);
    (void)fflush(cli->out); /* told by the flush at the end */
}

/* --- putting back ----------------------------------------------------------------------------- */

static bool keep_redriven(struct operation *operation, const char *id, uint64_t offset)
{
    if (operation->count == operation->capacity) {
        uint32_t capacity = operation->capacity == 0 ? 64 : operation->capacity * 2;
        struct redriven *grown = mr_realloc(operation->items, capacity * sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        operation->items = grown;
        operation->capacity = capacity;
    }
    char *copy = mr_strdup(id);
    if (copy == NULL) {
        return false;
    }
    operation->items[operation->count++] = (struct redriven){.offset = offset, .id = copy};
    return true;
}

static int take_page(struct operation *operation, const cJSON *answer)
{
    char number[32];
    const cJSON *letter;
    if (operation->position == 0) {
        operation->position = (uint64_t)mr_json_number(answer, "position");
    }
    cJSON_ArrayForEach(letter, cJSON_GetObjectItemCaseSensitive(answer, operation->key))
    {
        const char *id = mr_json_text(letter, "id", number);
        uint64_t offset = (uint64_t)mr_json_number(letter, "offset");
        operation->put++;
        operation->left--;
        if (!operation->wait) {
            print_result(operation, id, offset, operation->dry_run ? "picked" : operation->key, "");
        } else if (!keep_redriven(operation, id, offset)) {
            return mr_cli_fail(operation->cli, MR_EXIT_FAILED, "out of memory");
        }
    }
    cJSON_ArrayForEach(letter, cJSON_GetObjectItemCaseSensitive(answer, "refused"))
    {
        char reason_number[32];
        print_result(operation, mr_json_text(letter, "id", number),
                     (uint64_t)mr_json_number(letter, "offset"), "refused",
                     mr_json_text(letter, "reason", reason_number));
        operation->refused++;
        operation->left--;
    }
    operation->more = mr_dlq_next_page(answer, &operation->after) && operation->left > 0;
    return MR_EXIT_OK;
}

static int put_page(struct operation *operation, uint64_t limit)
{
    struct mr_cli *cli = operation->cli;
    struct mr_path path;
    struct mr_buf body;
    mr_path_init(&path, "/api/v1/dlq/", cli->arguments[0], operation->verb);
    mr_dlq_add_picks(cli, &path);
    mr_path_query(&path, "id", cli->argument_count > 1 ? cli->arguments[1] : NULL);
    mr_path_query(&path, "dry_run", operation->dry_run ? "true" : NULL);
    if (strcmp(operation->verb, "/redrive") == 0) {
        mr_path_query(&path, "out_of_order", mr_cli_flag(cli, "out-of-order") ? "true" : NULL);
    }
    mr_path_query_u64(&path, "after", operation->after);
    mr_path_query_u64(&path, "limit", limit);
    int code = mr_client_post(operation->client, &path, "application/json", MR_BYTES_LITERAL("{}"),
                              &body);
    if (code == MR_EXIT_OK) {
        cJSON *answer = cJSON_ParseWithLength((const char *)body.data, body.size);
        code = take_page(operation, answer);
        cJSON_Delete(answer);
    }
    mr_buf_release(&body);
    operation->last_ns = mr_clock_mono_ns();
    return code;
}

/* --- results ---------------------------------------------------------------------------------- */

static int by_offset(const void *a, const void *b)
{
    const struct redriven *x = a;
    const struct redriven *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static void take_standing(struct operation *operation, const cJSON *standing)
{
    struct redriven wanted = {.offset = (uint64_t)mr_json_number(standing, "offset")};
    struct redriven *item = bsearch(&wanted, operation->items, operation->count, sizeof(wanted),
                                    by_offset); /* kept in the order they were picked: by offset */
    if (item == NULL) {
        return;
    }
    char number[32];
    char error_number[32];
    const char *state = mr_json_text(standing, "state", number);
    bool held = strcmp(state, "held") == 0; /* waits for an operator: it has failed again */
    item->tried = item->tried || mr_json_number(standing, "attempts") > 0;
    if (!held && !cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(standing, "settled"))) {
        return;
    }
    item->settled = true;
    bool good = strcmp(state, "done") == 0 || strcmp(state, "dropped") == 0;
    operation->done += good;
    operation->failed += !good;
    print_result(operation, item->id, item->offset, state,
                 mr_json_text(standing, "error", error_number));
}

/* How items[from..to) stand. @param[out] ret_position where to look from the next time */
static int ask_some(struct operation *operation, uint32_t from, uint32_t to,
                    uint64_t *ret_position)
{
    struct mr_buf request;
    mr_buf_init(&request, MR_MIB);
    enum mr_status r = mr_buf_append_text(&request, "{\"offsets\":[");
    for (uint32_t i = from; i < to && r == MR_OK; i++) {
        r = mr_buf_printf(&request, "%s%" PRIu64, i == from ? "" : ",",
                          operation->items[i].offset);
    }
    if (r == MR_OK) {
        r = mr_buf_printf(&request, "],\"position\":%" PRIu64 "}", operation->position);
    }
    int code = r == MR_OK ? MR_EXIT_OK
                          : mr_cli_fail(operation->cli, MR_EXIT_FAILED, "out of memory");
    if (code == MR_EXIT_OK) {
        struct mr_path path;
        struct mr_buf body;
        mr_path_init(&path, "/api/v1/deliveries/", operation->cli->arguments[0], NULL);
        code = mr_client_post(operation->client, &path, "application/json", mr_buf_bytes(&request),
                              &body);
        cJSON *answer = code == MR_EXIT_OK
                            ? cJSON_ParseWithLength((const char *)body.data, body.size)
                            : NULL;
        const cJSON *standing;
        cJSON_ArrayForEach(standing, cJSON_GetObjectItemCaseSensitive(answer, "deliveries"))
        {
            take_standing(operation, standing);
        }
        *ret_position = (uint64_t)mr_json_number(answer, "position");
        cJSON_Delete(answer);
        mr_buf_release(&body);
    }
    mr_buf_release(&request);
    return code;
}

static void forget_settled(struct operation *operation)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < operation->count; i++) {
        struct redriven *item = &operation->items[i];
        if (item->settled) {
            mr_free(item->id);
        } else {
            operation->items[kept++] = *item;
        }
    }
    operation->count = kept;
}

static int ask_open(struct operation *operation)
{
    uint64_t position = 0;
    int code = MR_EXIT_OK;
    for (uint32_t from = 0; from < operation->count && code == MR_EXIT_OK; from += ASK_MAX) {
        uint32_t to = operation->count - from < ASK_MAX ? operation->count : from + ASK_MAX;
        uint64_t behind = 0;
        code = ask_some(operation, from, to, &behind);
        position = from == 0 ? behind : position; /* the first question is the earliest */
    }
    if (code == MR_EXIT_OK && position > operation->position) {
        operation->position = position;
    }
    forget_settled(operation);
    return code;
}

/* --- going on or stopping --------------------------------------------------------------------- */

static uint32_t count_untried(const struct operation *operation)
{
    uint32_t untried = 0;
    for (uint32_t i = 0; i < operation->count; i++) {
        untried += !operation->items[i].tried;
    }
    return untried;
}

/* Stops when what was tried says so; lets the others go when the canary is through. */
static void judge(struct operation *operation)
{
    if (!operation->wait || operation->stopped) {
        return;
    }
    uint32_t untried = count_untried(operation);
    uint64_t tried = operation->put - untried;
    uint64_t failing = operation->failed + (operation->count - untried);
    bool canary_out = operation->canary > 0 && !operation->proven &&
                      (operation->put >= operation->canary || !operation->more) && untried == 0;
    bool too_many = operation->stop_percent > 0 && failing > 0 &&
                    failing * 100 >= operation->stop_percent * tried;
    if (canary_out) {
        operation->stopped = operation->stop_percent > 0 ? too_many : failing > 0;
        operation->proven = !operation->stopped;
    } else if (operation->stop_percent > 0 && tried >= JUDGE_MIN) {
        operation->stopped = too_many;
    }
}

/* How many may be put back and not tried yet. With a limit of failures never more at once than were
 * tried before: what fails costs at most as much again. */
static uint64_t window_room(const struct operation *operation)
{
    uint64_t most = operation->left < PAGE_MAX ? operation->left : PAGE_MAX;
    if (!operation->wait) {
        return most;
    }
    uint64_t untried = count_untried(operation);
    uint64_t tried = operation->put - untried;
    uint64_t window = UNTRIED_MAX;
    if (operation->stop_percent > 0 && tried < UNTRIED_MAX) {
        window = tried > JUDGE_MIN ? tried : JUDGE_MIN;
    }
    if (operation->canary > 0 && !operation->proven) {
        window = operation->canary - operation->put + untried;
    }
    uint64_t free_now = window > untried ? window - untried : 0;
    most = most < free_now ? most : free_now;
    return operation->count >= OPEN_MAX ? 0 : most;
}

/* How many the rate lets go now. */
static uint64_t rate_room(const struct operation *operation)
{
    if (operation->rate.count == 0) {
        return UINT64_MAX;
    }
    double due = mr_rate_due(&operation->rate, operation->begun_ns,
                             operation->put + operation->refused);
    return due < 1 ? 0 : due < (double)PAGE_MAX ? (uint64_t)due : PAGE_MAX;
}

static void wait_ns(uint64_t ns)
{
    struct timespec wait = {.tv_sec = (time_t)(ns / MR_SECOND), .tv_nsec = (long)(ns % MR_SECOND)};
    (void)nanosleep(&wait, NULL); /* a signal ends us anyway */
}

/* Whether there is nothing left to do or to wait for. */
static bool is_over(const struct operation *operation)
{
    if (operation->stopped) {
        return count_untried(operation) == 0;
    }
    return !operation->more && operation->count == 0;
}

/* Asks how the open ones stand, the more seldom the longer nothing changes. */
static int poll_open(struct operation *operation)
{
    uint64_t now_ns = mr_clock_mono_ns();
    if (operation->count == 0 || now_ns - operation->asked_ns < operation->pause_ns) {
        return MR_EXIT_OK;
    }
    uint64_t before = operation->done + operation->failed;
    int code = ask_open(operation);
    judge(operation);
    draw_bar(operation);
    bool moved = operation->done + operation->failed > before;
    uint64_t longer = operation->pause_ns * 2 > POLL_MAX_NS ? POLL_MAX_NS : operation->pause_ns * 2;
    operation->pause_ns = moved ? POLL_FIRST_NS : longer;
    operation->asked_ns = mr_clock_mono_ns();
    return code;
}

static int run(struct operation *operation)
{
    int code = MR_EXIT_OK;
    operation->begun_ns = mr_clock_mono_ns();
    operation->last_ns = operation->begun_ns;
    operation->pause_ns = POLL_FIRST_NS;
    operation->more = operation->left > 0;
    while (code == MR_EXIT_OK && !is_over(operation)) {
        bool goes_on = operation->more && !operation->stopped;
        uint64_t window = goes_on ? window_room(operation) : 0;
        uint64_t rate = rate_room(operation);
        uint64_t most = window < rate ? window : rate;
        if (most > 0) {
            code = put_page(operation, most);
            draw_bar(operation);
        }
        if (code == MR_EXIT_OK) {
            code = poll_open(operation);
        }
        if (window == 0 && mr_clock_mono_ns() - operation->last_ns >= operation->timeout_ns) {
            break; /* nothing but results to wait for, and they do not come */
        }
        if (most == 0 && code == MR_EXIT_OK && !is_over(operation)) {
            wait_ns(POLL_FIRST_NS / 2);
        }
    }
    return code;
}

/* --- the end ---------------------------------------------------------------------------------- */

static void release_operation(struct operation *operation)
{
    for (uint32_t i = 0; i < operation->count; i++) {
        mr_free(operation->items[i].id);
    }
    mr_free(operation->items);
    mr_client_close(operation->client);
}

static void print_counts(const struct operation *operation)
{
    const struct mr_cli *cli = operation->cli;
    FILE *to = cli->json ? cli->err : cli->out; /* the lines of json are letters alone */
    if (!operation->wait) {
        fprintf(to, "%" PRIu64 " %s, %" PRIu64 " refused\n", operation->put,
                operation->dry_run ? "picked" : operation->key, operation->refused);
        return;
    }
    fprintf(to, "%" PRIu64 " handled, %" PRIu64 " failed again, %" PRIu64 " refused",
            operation->done, operation->failed, operation->refused);
    if (operation->count > 0) {
        fprintf(to, ", %u have not ended yet (trace tells what they wait for)", operation->count);
    }
    fputs(operation->stopped ? "; stopped, the others were left alone\n" : "\n", to);
}

/* Nothing picked is "nothing there" when one was named. */
static int conclude(const struct operation *operation, int code)
{
    const struct mr_cli *cli = operation->cli;
    clear_bar(operation);
    if (code == MR_EXIT_OK && operation->put + operation->refused == 0 && cli->argument_count > 1) {
        return mr_cli_fail(cli, MR_EXIT_NOTHING, "%s has no dead letter %s", cli->arguments[0],
                           cli->arguments[1]);
    }
    if (code == MR_EXIT_OK || operation->put > 0) {
        print_counts(operation);
    }
    if (code != MR_EXIT_OK) {
        return code;
    }
    bool failed = operation->failed > 0 || operation->refused > 0 || operation->stopped ||
                  operation->count > 0;
    return failed && !operation->dry_run ? MR_EXIT_FAILED : MR_EXIT_OK;
}

/* --- the verbs -------------------------------------------------------------------------------- */

/* A bar needs a terminal and something to count. */
static int begin_bar(struct operation *operation)
{
    struct mr_cli *cli = operation->cli;
    bool is_terminal = cli->err == stderr && isatty(STDERR_FILENO) == 1;
    if (!is_terminal || cli->json || operation->dry_run || cli->argument_count > 1) {
        return MR_EXIT_OK;
    }
    if (operation->total == 0) {
        int code = mr_dlq_count(cli, operation->client, &operation->total);
        if (code != MR_EXIT_OK) {
            return code;
        }
    }
    operation->total = operation->total < operation->left ? operation->total : operation->left;
    operation->bar = true;
    return MR_EXIT_OK;
}

static int read_pace(struct operation *operation)
{
    struct mr_cli *cli = operation->cli;
    const char *timeout = mr_cli_value(cli, "timeout");
    const char *percent = mr_cli_value(cli, "stop-if-fail");
    operation->timeout_ns = WAIT_DEFAULT_NS;
    int code = mr_cli_rate(cli, &operation->rate);
    if (code != MR_EXIT_OK) {
        return code;
    }
    if (timeout != NULL && !mr_parse_duration(timeout, &operation->timeout_ns)) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "--timeout wants a duration, not \"%s\"", timeout);
    }
    if (percent != NULL) {
        size_t size = strlen(percent);
        size -= size > 0 && percent[size - 1] == '%';
        if (!mr_parse_u64(mr_bytes((const uint8_t *)percent, size), &operation->stop_percent) ||
            operation->stop_percent < 1 || operation->stop_percent > 100) {
            return mr_cli_fail(cli, MR_EXIT_USAGE,
                               "--stop-if-fail wants 1%% to 100%%, not \"%s\"", percent);
        }
    }
    code = mr_cli_number(cli, "canary", &operation->canary);
    bool cautious = operation->canary > 0 || operation->stop_percent > 0;
    if (code == MR_EXIT_OK && operation->timeout_ns == 0 && cautious) {
        return mr_cli_fail(cli, MR_EXIT_USAGE,
                           "--canary and --stop-if-fail wait for results: not with --timeout 0");
    }
    operation->wait = !operation->dry_run && operation->timeout_ns > 0;
    return code;
}

int mr_cmd_dlq_redrive(struct mr_cli *cli)
{
    struct operation operation = {.cli = cli,
                                  .verb = "/redrive",
                                  .key = "redriven",
                                  .left = UINT64_MAX,
                                  .dry_run = mr_cli_flag(cli, "dry-run")};
    int code = read_pace(&operation);
    if (code == MR_EXIT_OK) {
        code = mr_cli_number(cli, "limit", &operation.left);
    }
    if (code == MR_EXIT_OK) {
        code = mr_client_open(cli, &operation.client);
    }
    if (code != MR_EXIT_OK) {
        return code;
    }
    code = begin_bar(&operation);
    if (code == MR_EXIT_OK) {
        code = conclude(&operation, run(&operation));
    }
    release_operation(&operation);
    return code;
}

/* Whether a person at the terminal says so. */
static int confirm(struct operation *operation, bool *ret_yes)
{
    struct mr_cli *cli = operation->cli;
    if (cli->argument_count == 1) {
        int code = mr_dlq_count(cli, operation->client, &operation->total);
        if (code != MR_EXIT_OK) {
            return code;
        }
        fprintf(cli->err, "purge %" PRIu64 " dead letters of ",
                operation->total < operation->left ? operation->total : operation->left);
    } else {
        fputs("purge a dead letter of ", cli->err);
    }
    fprintf(cli->err, "%s? They are gone then. [y/N] ", cli->arguments[0]);
    (void)fflush(cli->err); /* the question may stand in a buffer at worst */
    char line[16];
    *ret_yes = fgets(line, sizeof(line), cli->in) != NULL &&
               (strcmp(line, "y\n") == 0 || strcmp(line, "yes\n") == 0);
    return MR_EXIT_OK;
}

int mr_cmd_dlq_purge(struct mr_cli *cli)
{
    struct operation operation = {.cli = cli,
                                  .verb = "/purge",
                                  .key = "purged",
                                  .left = UINT64_MAX,
                                  .dry_run = mr_cli_flag(cli, "dry-run")};
    bool yes = operation.dry_run || mr_cli_flag(cli, "yes");
    if (!yes && (cli->in != stdin || isatty(STDIN_FILENO) != 1 || cli->json)) {
        return mr_cli_fail(cli, MR_EXIT_USAGE,
                           "what is purged is gone: say --yes, or --dry-run to see which");
    }
    int code = mr_cli_number(cli, "limit", &operation.left);
    if (code == MR_EXIT_OK) {
        code = mr_client_open(cli, &operation.client);
    }
    if (code != MR_EXIT_OK) {
        return code;
    }
    if (!yes) {
        code = confirm(&operation, &yes);
    }
    if (code == MR_EXIT_OK && !yes) {
        code = mr_cli_fail(cli, MR_EXIT_FAILED, "nothing was purged");
    } else if (code == MR_EXIT_OK) {
        code = begin_bar(&operation);
        if (code == MR_EXIT_OK) {
            code = conclude(&operation, run(&operation));
        }
    }
    release_operation(&operation);
    return code;
}
