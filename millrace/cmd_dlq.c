/* dlq: list, groups, show, edit. */
#include "millrace/dlq.h"

#include <inttypes.h>

#include "millrace/table.h"
#include "millrace/verbs.h"
#include "schemas/json_format.h"

#define PAGE_MAX 500u

const struct mr_cli_option mr_dlq_list_options[] = {
    MR_DLQ_PICK_OPTIONS,
    MR_DLQ_LIMIT_OPTION,
    {"after", 0, "OFFSET", "only those behind this offset: the next page"},
    {.name = NULL},
};
const struct mr_cli_option mr_dlq_groups_options[] = {MR_DLQ_PICK_OPTIONS, {.name = NULL}};

/* --- what the verbs share --------------------------------------------------------------------- */

void mr_dlq_add_picks(const struct mr_cli *cli, struct mr_path *path)
{
    static const char *const names[] = {"error",  "class", "group", "attempts",
                                        "filter", "since", "until"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
        mr_path_query(path, names[i], mr_cli_value(cli, names[i]));
    }
}

bool mr_dlq_next_page(const cJSON *answer, uint64_t *after)
{
    const cJSON *next = cJSON_GetObjectItemCaseSensitive(answer, "next");
    if (!cJSON_IsNumber(next) || next->valuedouble <= 0) {
        return false;
    }
    *after = (uint64_t)next->valuedouble;
    return true;
}

/* The groups of what is picked. */
static int ask_groups(struct mr_cli *cli, struct mr_client *client, struct mr_buf *ret_body)
{
    struct mr_path path;
    mr_path_init(&path, "/api/v1/dlq/", cli->arguments[0], "/groups");
    mr_dlq_add_picks(cli, &path);
    return mr_client_get(client, &path, ret_body);
}

int mr_dlq_count(struct mr_cli *cli, struct mr_client *client, uint64_t *ret_count)
{
    struct mr_buf body;
    int code = ask_groups(cli, client, &body);
    if (code == MR_EXIT_OK) {
        cJSON *answer = cJSON_ParseWithLength((const char *)body.data, body.size);
        *ret_count = (uint64_t)mr_json_number(answer, "dead_letters");
        cJSON_Delete(answer);
    }
    mr_buf_release(&body);
    return code;
}

/* --- list ------------------------------------------------------------------------------------- */

struct listing {
    struct mr_cli *cli;
    struct mr_table table;
    uint64_t left; /* letters that may still be shown */
    uint64_t after;
    bool more;
};

static void add_row(struct mr_table *table, const cJSON *letter)
{
    static const char *const names[] = {"id",    "offset", "attempts", "died",
                                        "class", "reason", "error"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
        char number[32];
        mr_table_cell(table, mr_json_text(letter, names[i], number));
    }
}

/* One page, printed and forgotten. */
static int list_page(struct listing *listing, struct mr_client *client)
{
    struct mr_cli *cli = listing->cli;
    struct mr_path path;
    struct mr_buf body;
    mr_path_init(&path, "/api/v1/dlq/", cli->arguments[0], NULL);
    mr_dlq_add_picks(cli, &path);
    mr_path_query_u64(&path, "after", listing->after);
    mr_path_query_u64(&path, "limit", listing->left < PAGE_MAX ? listing->left : PAGE_MAX);
    mr_path_query(&path, "brief", cli->json ? NULL : "true");
    int code = mr_client_get(client, &path, &body);
    cJSON *answer = NULL;
    size_t at = 0;
    struct mr_bytes item;
    while (cli->json && code == MR_EXIT_OK &&
           mr_json_next_item(mr_buf_bytes(&body), "dead_letters", &at, &item)) {
        fprintf(cli->out, "%.*s\n", (int)item.size, (const char *)item.data);
        listing->left--;
    }
    if (code == MR_EXIT_OK) {
        answer = cJSON_ParseWithLength((const char *)body.data, body.size);
    }
    const cJSON *letter;
    cJSON_ArrayForEach(letter, cJSON_GetObjectItemCaseSensitive(answer, "dead_letters"))
    {
        if (!cli->json) {
            add_row(&listing->table, letter);
            listing->left--;
        }
    }
    listing->more = mr_dlq_next_page(answer, &listing->after);
    cJSON_Delete(answer);
    mr_buf_release(&body);
    if (code == MR_EXIT_OK && !cli->json) {
        mr_table_print(&listing->table, cli);
    }
    return code;
}

int mr_cmd_dlq_list(struct mr_cli *cli)
{
    static const char *const head[] = {"ID",    "OFFSET", "ATTEMPTS", "DIED",
                                       "CLASS", "REASON", "ERROR",    NULL};
    struct listing listing = {.cli = cli, .left = UINT64_MAX, .more = true};
    struct mr_client *client;
    int code = mr_cli_number(cli, "limit", &listing.left);
    if (code == MR_EXIT_OK) {
        code = mr_cli_number(cli, "after", &listing.after);
    }
    if (code == MR_EXIT_OK) {
        code = mr_client_open(cli, &client);
    }
    if (code != MR_EXIT_OK) {
        return code;
    }
    mr_table_init(&listing.table, head);
    while (code == MR_EXIT_OK && listing.more && listing.left > 0) {
        code = list_page(&listing, client);
    }
    if (code == MR_EXIT_OK && listing.more && !cli->json) {
        fprintf(cli->err, "there may be more: --after %" PRIu64 "\n", listing.after);
    }
    mr_table_release(&listing.table);
    mr_client_close(client);
    return code;
}

/* --- groups ----------------------------------------------------------------------------------- */

static void print_groups(struct mr_cli *cli, const cJSON *answer)
{
    static const char *const head[] = {"GROUP", "COUNT", "CLASS", "FIRST SEEN", "LAST SEEN",
                                       "ERROR", NULL};
    static const char *const names[] = {"group",     "count", "class", "first_seen",
                                        "last_seen", "error"};
    struct mr_table table;
    mr_table_init(&table, head);
    const cJSON *group;
    cJSON_ArrayForEach(group, cJSON_GetObjectItemCaseSensitive(answer, "groups"))
    {
        for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
            char number[32];
            mr_table_cell(&table, mr_json_text(group, names[i], number));
        }
    }
    mr_table_print(&table, cli);
    mr_table_release(&table);
    if (mr_json_number(answer, "other") > 0) {
        fprintf(cli->out, "%.0f more in other groups\n", mr_json_number(answer, "other"));
    }
}

int mr_cmd_dlq_groups(struct mr_cli *cli)
{
    struct mr_client *client;
    int code = mr_client_open(cli, &client);
    if (code != MR_EXIT_OK) {
        return code;
    }
    struct mr_buf body;
    code = ask_groups(cli, client, &body);
    size_t at = 0;
    struct mr_bytes item;
    while (cli->json && code == MR_EXIT_OK &&
           mr_json_next_item(mr_buf_bytes(&body), "groups", &at, &item)) {
        fprintf(cli->out, "%.*s\n", (int)item.size, (const char *)item.data);
    }
    if (!cli->json && code == MR_EXIT_OK) {
        cJSON *answer = cJSON_ParseWithLength((const char *)body.data, body.size);
        print_groups(cli, answer);
        cJSON_Delete(answer);
    }
    mr_buf_release(&body);
    mr_client_close(client);
    return code;
}

/* --- show ------------------------------------------------------------------------------------- */

static void print_attempts(const struct mr_cli *cli, const cJSON *letter, const char *list,
                           const char *label)
{
    static const char *const parts[] = {"n",    "started", "ended", "verdict", "instance",
                                        "exit", "signal",  "error", "stderr"};
    const cJSON *attempt;
    cJSON_ArrayForEach(attempt, cJSON_GetObjectItemCaseSensitive(letter, list))
    {
        fprintf(cli->out, "%-14s", label);
        for (size_t i = 0; i < MR_ARRAY_COUNT(parts); i++) {
            char number[32];
            const char *text = mr_json_text(attempt, parts[i], number);
            if (text[0] != '\0') {
                fprintf(cli->out, " %s%s", i < 5 ? "" : parts[i], i < 5 ? "" : " ");
                mr_print_clean(cli, text);
            }
        }
        fputc('\n', cli->out);
    }
}

static void print_letter(const struct mr_cli *cli, const cJSON *letter)
{
    static const char *const names[] = {"id",     "subscription",  "offset",   "died",
                                        "class",  "group",         "attempt_count", "refusals",
                                        "interruptions", "redrives", "reason",  "error"};
    char number[32];
    for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
        fprintf(cli->out, "%-14s ", names[i]);
        mr_print_clean(cli, mr_json_text(letter, names[i], number));
        fputc('\n', cli->out);
    }
    const cJSON *redrive;
    cJSON_ArrayForEach(redrive, cJSON_GetObjectItemCaseSensitive(letter, "redriven"))
    {
        fprintf(cli->out, "%-14s ", "redriven");
        mr_print_clean(cli, mr_json_text(redrive, "at", number));
        fputc('\n', cli->out);
    }
    print_attempts(cli, letter, "attempts", "attempt");
    print_attempts(cli, letter, "uncounted", "uncounted");
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

/* --- edit ------------------------------------------------------------------------------------- */

static int send_copy(struct mr_cli *cli, struct mr_bytes event)
{
    struct mr_client *client;
    int code = mr_client_open(cli, &client);
    if (code != MR_EXIT_OK) {
        return code;
    }
    struct mr_path path;
    struct mr_buf body;
    mr_path_init(&path, "/api/v1/dlq/", cli->arguments[0], "/edit");
    mr_path_query(&path, "id", cli->arguments[1]);
    code = mr_client_post(client, &path, "application/json", event, &body);
    if (code == MR_EXIT_OK && cli->json) {
        fprintf(cli->out, "%.*s\n", (int)body.size, (const char *)body.data);
    } else if (code == MR_EXIT_OK) {
        cJSON *answer = cJSON_ParseWithLength((const char *)body.data, body.size);
        char number[32];
        mr_print_clean(cli, mr_json_text(answer, "id", number));
        fprintf(cli->out, " at offset %s", mr_json_text(answer, "offset", number));
        fprintf(cli->out, " replaces offset %s\n", mr_json_text(answer, "replaces", number));
        if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "purged"))) {
            fputs("the dead letter had been put back or purged meanwhile\n", cli->err);
        }
        cJSON_Delete(answer);
    }
    mr_buf_release(&body);
    mr_client_close(client);
    return code;
}

int mr_cmd_edit(struct mr_cli *cli, int (*send)(struct mr_cli *cli, struct mr_bytes event))
{
    struct mr_buf input;
    struct mr_event *event = NULL;
    struct mr_problem problem = {.text = ""};
    enum mr_status r = mr_cli_read_all(cli->in, MR_EVENT_SIZE_MAX, &input);
    if (r == MR_OK) {
        /* Checked here already: whoever edits should not need an instance to be told. */
        r = mr_json_decode_event(mr_buf_bytes(&input), MR_EVENT_SIZE_DEFAULT, &event, &problem);
    }
    mr_event_unref(event);
    int code = r == MR_OK ? send(cli, mr_buf_bytes(&input))
                          : mr_cli_fail_status(cli, MR_EXIT_DATA, r, &problem);
    mr_buf_release(&input);
    return code;
}

int mr_cmd_dlq_edit(struct mr_cli *cli)
{
    return mr_cmd_edit(cli, send_copy);
}
