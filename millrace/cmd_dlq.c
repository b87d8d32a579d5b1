/* dlq: list, show, redrive, purge. The pace and the waiting of a redrive are here; the instance
 * handles one page at a time and remembers nothing. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "millrace/client.h"
#include "millrace/table.h"
#include "millrace/verbs.h"

#define PAGE_MAX 100u
#define POLL_FIRST_NS (20 * MR_MS)
#define POLL_MAX_NS (500 * MR_MS)
#define WAIT_DEFAULT_NS (60 * MR_SECOND)

#define PICK_OPTIONS                                                                               \
    {"error", 0, "TEXT", "whose last error or reason has TEXT in it"},                            \
        {"attempts", 0, "N", "that had N attempts"},                                              \
        {"filter", 0, "JSON", "whose event the filter matches"},                                  \
        {"since", 0, "DURATION", "that died within, as in 1h"},                                   \
    {                                                                                              \
        "until", 0, "DURATION", "that died longer ago than"                                       \
    }

const struct mr_cli_option mr_dlq_list_options[] = {PICK_OPTIONS, {.name = NULL}};

const struct mr_cli_option mr_dlq_redrive_options[] = {
    PICK_OPTIONS,
    {"rate", 0, "RATE", "at most so many, as in 20/s"},
    {"dry-run", 0, NULL, "only show which"},
    {"out-of-order", 0, NULL, "also where later events of the lane were handled already"},
    {"timeout", 0, "DURATION", "how long to wait for the results (default 1m); 0: do not wait"},
    {"canary", 0, "N", "not available in this release"},
    {"stop-if-fail", 0, "PERCENT", "not available in this release"},
    {.name = NULL},
};

const struct mr_cli_option mr_dlq_purge_options[] = {
    PICK_OPTIONS,
    {"dry-run", 0, NULL, "only show which"},
    {"yes", 0, NULL, "do it: what is purged is gone"},
    {.name = NULL},
};

static void add_picks(const struct mr_cli *cli, struct mr_path *path)
{
    static const char *const names[] = {"error", "attempts", "filter", "since", "until"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
        mr_path_query(path, names[i], mr_cli_value(cli, names[i]));
    }
}

/* The page behind the last one. @return false: there is none */
static bool next_page(const cJSON *answer, uint64_t *after)
{
    const cJSON *next = cJSON_GetObjectItemCaseSensitive(answer, "next");
    if (!cJSON_IsNumber(next) || next->valuedouble <= 0) {
        return false;
    }
    *after = (uint64_t)next->valuedouble;
    return true;
}

/* --- list and show ---------------------------------------------------------------------------- */

static void add_row(struct mr_table *table, const cJSON *letter)
{
    static const char *const names[] = {"id", "offset", "attempts", "died", "reason", "error"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
        char number[32];
        mr_table_cell(table, mr_json_text(letter, names[i], number));
    }
}

int mr_cmd_dlq_list(struct mr_cli *cli)
{
    static const char *const head[] = {"ID", "OFFSET", "ATTEMPTS", "DIED", "REASON", "ERROR", NULL};
    struct mr_client *client;
    int code = mr_client_open(cli, &client);
    if (code != MR_EXIT_OK) {
        return code;
    }
    struct mr_table table;
    mr_table_init(&table, head);
    uint64_t after = 0;
    bool more = true;
    while (code == MR_EXIT_OK && more) {
        struct mr_path path;
        struct mr_buf body;
        mr_path_init(&path, "/api/v1/dlq/", cli->arguments[0], NULL);
        add_picks(cli, &path);
        mr_path_query_u64(&path, "after", after);
        mr_path_query(&path, "brief", cli->json ? NULL : "true");
        code = mr_client_get(client, &path, &body);
        cJSON *answer = code == MR_EXIT_OK
                            ? cJSON_ParseWithLength((const char *)body.data, body.size)
                            : NULL;
        size_t at = 0;
        struct mr_bytes item;
        while (cli->json && code == MR_EXIT_OK &&
               mr_json_next_item(mr_buf_bytes(&body), "dead_letters", &at, &item)) {
            fprintf(cli->out, "%.*s\n", (int)item.size, (const char *)item.data);
        }
        const cJSON *letter;
        cJSON_ArrayForEach(letter, cJSON_GetObjectItemCaseSensitive(answer, "dead_letters"))
        {
            if (!cli->json) {
                add_row(&table, letter);
            }
        }
        more = next_page(answer, &after);
        cJSON_Delete(answer);
        mr_buf_release(&body);
    }
    if (code == MR_EXIT_OK && !cli->json) {
        mr_table_print(&table, cli);
    }
    mr_table_release(&table);
    mr_client_close(client);
    return code;
}

static void print_letter(const struct mr_cli *cli, const cJSON *letter)
{
    static const char *const names[] = {"id",       "subscription",  "offset",
                                        "died",     "attempt_count", "refusals",
                                        "interruptions", "reason",   "error"};
    char number[32];
    for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
        fprintf(cli->out, "%-14s ", names[i]);
        mr_print_clean(cli, mr_json_text(letter, names[i], number));
        fputc('\n', cli->out);
    }
    const cJSON *attempt;
    cJSON_ArrayForEach(attempt, cJSON_GetObjectItemCaseSensitive(letter, "attempts"))
    {
        static const char *const parts[] = {"n",      "started", "verdict", "instance",
                                            "exit",   "signal",  "error",   "stderr"};
        fputs("attempt       ", cli->out);
        for (size_t i = 0; i < MR_ARRAY_COUNT(parts); i++) {
            const char *text = mr_json_text(attempt, parts[i], number);
            if (text[0] != '\0') {
                fprintf(cli->out, " %s%s", i < 4 ? "" : parts[i], i < 4 ? "" : " ");
                mr_print_clean(cli, text);
            }
        }
        fputc('\n', cli->out);
    }
    char *event = cJSON_Print(cJSON_GetObjectItemCaseSensitive(letter, "event"));
    fprintf(cli->out, "event          %s\n", event == NULL ? "" : event);
    cJSON_free(event);
}

int mr_cmd_dlq_show(struct mr_cli *cli)
{
    struct mr_client *client;
    int code = mr_client_open(cli, &client);
    if (code != MR_EXIT_OK) {
        return code;
    }
    struct mr_path path;
    struct mr_buf body;
    mr_path_init(&path, "/api/v1/dlq/", cli->arguments[0], NULL);
    mr_path_query(&path, "id", cli->arguments[1]);
    mr_path_query(&path, "full", "true");
    code = mr_client_get(client, &path, &body);
    size_t at = 0;
    struct mr_bytes item;
    bool any = false;
    while (code == MR_EXIT_OK &&
           mr_json_next_item(mr_buf_bytes(&body), "dead_letters", &at, &item)) {
        any = true;
        if (cli->json) {
            fprintf(cli->out, "%.*s\n", (int)item.size, (const char *)item.data);
            continue;
        }
        cJSON *letter = cJSON_ParseWithLength((const char *)item.data, item.size);
        print_letter(cli, letter);
        cJSON_Delete(letter);
    }
    if (code == MR_EXIT_OK && !any) {
        code = mr_cli_fail(cli, MR_EXIT_NOTHING, "%s has no dead letter %s", cli->arguments[0],
                           cli->arguments[1]);
    }
    mr_buf_release(&body);
    mr_client_close(client);
    return code;
}

/* --- redrive and purge ------------------------------------------------------------------------ */

/* One delivery that was put back, until it is known how it ended. */
struct redriven {
    uint64_t offset;
    char *id; /* owned */
    bool settled;
};

struct operation {
    struct mr_cli *cli;
    struct mr_client *client;
    const char *verb; /* "/redrive" or "/purge" */
    const char *key;  /* "redriven" or "purged" */
    bool dry_run;
    uint64_t position;      /* of the log, before the first was put back */
    struct redriven *items; /* owned */
    uint32_t count;
    uint64_t done;          /* tallies of the results */
    uint64_t failed;
    uint64_t refused;
};

static void print_result(const struct operation *operation, const cJSON *letter, const char *state,
                         const char *error)
{
    const struct mr_cli *cli = operation->cli;
    char number[32];
    if (cli->json) {
        cJSON *line = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(line, "id", mr_json_text(letter, "id", number));
        (void)cJSON_AddNumberToObject(line, "offset", mr_json_number(letter, "offset"));
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
    mr_print_clean(cli, mr_json_text(letter, "id", number));
    fputs("  ", cli->out);
    mr_print_colour(cli, mr_colour_of(state), state);
    fputs(error[0] == '\0' ? "" : "  ", cli->out);
    mr_print_clean(cli, error);
    fputc('\n', cli->out);
}

static bool keep_redriven(struct operation *operation, const cJSON *letter)
{
    struct redriven *grown =
        mr_realloc(operation->items, (operation->count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    operation->items = grown;
    char number[32];
    grown[operation->count++] =
        (struct redriven){.offset = (uint64_t)mr_json_number(letter, "offset"),
                          .id = mr_strdup(mr_json_text(letter, "id", number))};
    return true;
}

static int take_page(struct operation *operation, const cJSON *answer, bool keep)
{
    const cJSON *letter;
    if (operation->count == 0 && operation->position == 0) {
        operation->position = (uint64_t)mr_json_number(answer, "position");
    }
    cJSON_ArrayForEach(letter, cJSON_GetObjectItemCaseSensitive(answer, operation->key))
    {
        if (!keep) {
            print_result(operation, letter, operation->dry_run ? "picked" : operation->key, "");
            operation->done++;
        } else if (!keep_redriven(operation, letter)) {
            return mr_cli_fail(operation->cli, MR_EXIT_FAILED, "out of memory");
        }
    }
    cJSON_ArrayForEach(letter, cJSON_GetObjectItemCaseSensitive(answer, "refused"))
    {
        char number[32];
        print_result(operation, letter, "refused", mr_json_text(letter, "reason", number));
        operation->refused++;
    }
    return MR_EXIT_OK;
}

static void wait_ns(uint64_t ns)
{
    struct timespec wait = {.tv_sec = (time_t)(ns / MR_SECOND), .tv_nsec = (long)(ns % MR_SECOND)};
    (void)nanosleep(&wait, NULL); /* a signal ends us anyway */
}

/* Asks for page after page; with a rate, pages so small that each is due when it is asked for. */
static int put_back(struct operation *operation, const struct mr_rate *rate, bool keep)
{
    const char *id = operation->cli->argument_count > 1 ? operation->cli->arguments[1] : NULL;
    uint64_t begin_ns = mr_clock_mono_ns();
    uint64_t asked = 0;
    uint64_t after = 0;
    bool more = true;
    int code = MR_EXIT_OK;
    while (code == MR_EXIT_OK && more) {
        uint64_t limit = rate->count == 0 ? PAGE_MAX : 1;
        struct mr_path path;
        struct mr_buf body;
        mr_path_init(&path, "/api/v1/dlq/", operation->cli->arguments[0], operation->verb);
        add_picks(operation->cli, &path);
        mr_path_query(&path, "id", id);
        mr_path_query(&path, "dry_run", operation->dry_run ? "true" : NULL);
        if (strcmp(operation->verb, "/redrive") == 0) {
            mr_path_query(&path, "out_of_order",
                          mr_cli_flag(operation->cli, "out-of-order") ? "true" : NULL);
        }
        mr_path_query_u64(&path, "after", after);
        mr_path_query_u64(&path, "limit", limit);
        code = mr_client_post(operation->client, &path, "application/json", MR_BYTES_LITERAL("{}"),
                              &body);
        cJSON *answer = code == MR_EXIT_OK
                            ? cJSON_ParseWithLength((const char *)body.data, body.size)
                            : NULL;
        if (code == MR_EXIT_OK) {
            code = take_page(operation, answer, keep);
        }
        more = next_page(answer, &after);
        cJSON_Delete(answer);
        mr_buf_release(&body);
        asked += limit;
        uint64_t due_ns =
            rate->count == 0 ? 0
                             : begin_ns + (uint64_t)((double)asked * (double)rate->per_ns /
                                                     (double)rate->count);
        uint64_t now_ns = mr_clock_mono_ns();
        if (more && code == MR_EXIT_OK && due_ns > now_ns) {
            wait_ns(due_ns - now_ns);
        }
    }
    return code;
}

/* --- waiting for the results ------------------------------------------------------------------ */

static struct redriven *find_redriven(struct operation *operation, uint64_t offset)
{
    for (uint32_t i = 0; i < operation->count; i++) {
        if (operation->items[i].offset == offset) {
            return &operation->items[i];
        }
    }
    return NULL;
}

static void take_standing(struct operation *operation, const cJSON *standing)
{
    struct redriven *item =
        find_redriven(operation, (uint64_t)mr_json_number(standing, "offset"));
    if (item == NULL || !cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(standing, "settled"))) {
        return;
    }
    char number[32];
    char error_number[32];
    const char *state = mr_json_text(standing, "state", number);
    item->settled = true;
    bool good = strcmp(state, "done") == 0 || strcmp(state, "dropped") == 0;
    operation->done += good;
    operation->failed += !good;
    cJSON *letter = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(letter, "id", item->id == NULL ? "" : item->id);
    (void)cJSON_AddNumberToObject(letter, "offset", (double)item->offset);
    print_result(operation, letter, state, mr_json_text(standing, "error", error_number));
    cJSON_Delete(letter);
}

/* Asks about at most a page of what is open. @return an exit code */
static int ask_open(struct operation *operation, uint32_t *ret_open)
{
    struct mr_buf request;
    mr_buf_init(&request, MR_MIB);
    uint32_t open = 0;
    enum mr_status r = mr_buf_append_text(&request, "{\"offsets\":[");
    for (uint32_t i = 0; i < operation->count && r == MR_OK; i++) {
        if (!operation->items[i].settled && open++ < PAGE_MAX * 10) {
            r = mr_buf_printf(&request, "%s%" PRIu64, open == 1 ? "" : ",",
                              operation->items[i].offset);
        }
    }
    if (r == MR_OK) {
        r = mr_buf_printf(&request, "],\"position\":%" PRIu64 "}", operation->position);
    }
    *ret_open = open;
    int code = r == MR_OK ? MR_EXIT_OK
                          : mr_cli_fail(operation->cli, MR_EXIT_FAILED, "out of memory");
    if (code == MR_EXIT_OK && open > 0) {
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
        cJSON_Delete(answer);
        mr_buf_release(&body);
    }
    mr_buf_release(&request);
    return code;
}

static int wait_results(struct operation *operation, uint64_t timeout_ns)
{
    uint64_t deadline_ns = mr_clock_mono_ns() + timeout_ns;
    uint64_t pause_ns = POLL_FIRST_NS;
    for (;;) {
        uint32_t open;
        int code = ask_open(operation, &open);
        if (code != MR_EXIT_OK || open == 0) {
            return code;
        }
        if (mr_clock_mono_ns() >= deadline_ns) {
            return mr_cli_fail(operation->cli, MR_EXIT_FAILED,
                               "%u have not ended yet; trace tells what they wait for", open);
        }
        wait_ns(pause_ns);
        pause_ns = pause_ns * 2 > POLL_MAX_NS ? POLL_MAX_NS : pause_ns * 2;
    }
}

static void release_operation(struct operation *operation)
{
    for (uint32_t i = 0; i < operation->count; i++) {
        mr_free(operation->items[i].id);
    }
    mr_free(operation->items);
    mr_client_close(operation->client);
}

/* Nothing picked is "nothing there" when one was named. */
static int conclude(const struct operation *operation, int code)
{
    const struct mr_cli *cli = operation->cli;
    uint64_t all = operation->done + operation->failed + operation->refused + operation->count;
    if (code == MR_EXIT_OK && all == 0 && cli->argument_count > 1) {
        return mr_cli_fail(cli, MR_EXIT_NOTHING, "%s has no dead letter %s", cli->arguments[0],
                           cli->arguments[1]);
    }
    if (!cli->json && !operation->dry_run && code != MR_EXIT_USAGE) {
        fprintf(cli->out, "%" PRIu64 " %s, %" PRIu64 " failed again, %" PRIu64 " refused\n",
                operation->done, operation->key[0] == 'p' ? "purged" : "handled",
                operation->failed, operation->refused);
    }
    return code == MR_EXIT_OK && operation->failed + operation->refused > 0 ? MR_EXIT_FAILED : code;
}

int mr_cmd_dlq_redrive(struct mr_cli *cli)
{
    struct mr_rate rate = {0};
    uint64_t timeout_ns = WAIT_DEFAULT_NS;
    const char *rate_text = mr_cli_value(cli, "rate");
    const char *timeout_text = mr_cli_value(cli, "timeout");
    if (mr_cli_flag(cli, "canary") || mr_cli_flag(cli, "stop-if-fail")) {
        return mr_cli_fail(cli, MR_EXIT_USAGE,
                           "--canary and --stop-if-fail are not available in this release");
    }
    if (rate_text != NULL && (!mr_parse_rate(rate_text, &rate) || rate.count == 0)) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "--rate wants a rate such as 20/s, not \"%s\"",
                           rate_text);
    }
    if (timeout_text != NULL && !mr_parse_duration(timeout_text, &timeout_ns)) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "--timeout wants a duration, not \"%s\"",
                           timeout_text);
    }
    struct operation operation = {.cli = cli,
                                  .verb = "/redrive",
                                  .key = "redriven",
                                  .dry_run = mr_cli_flag(cli, "dry-run")};
    int code = mr_client_open(cli, &operation.client);
    if (code != MR_EXIT_OK) {
        return code;
    }
    bool wait = !operation.dry_run && timeout_ns > 0;
    code = put_back(&operation, &rate, wait);
    if (code == MR_EXIT_OK && wait) {
        code = wait_results(&operation, timeout_ns);
    }
    code = conclude(&operation, code);
    release_operation(&operation);
    return code;
}

int mr_cmd_dlq_purge(struct mr_cli *cli)
{
    struct mr_rate rate = {0};
    struct operation operation = {.cli = cli,
                                  .verb = "/purge",
                                  .key = "purged",
                                  .dry_run = mr_cli_flag(cli, "dry-run")};
    if (!operation.dry_run && !mr_cli_flag(cli, "yes")) {
        return mr_cli_fail(cli, MR_EXIT_USAGE,
                           "what is purged is gone: say --yes, or --dry-run to see which");
    }
    int code = mr_client_open(cli, &operation.client);
    if (code != MR_EXIT_OK) {
        return code;
    }
    code = conclude(&operation, put_back(&operation, &rate, false));
    release_operation(&operation);
    return code;
}
