/* delivery: those of a subscription that are not settled; resume or edit what is held, skip what
 * blocks. */
#include <inttypes.h>
#include <string.h>

#include "millrace/client.h"
#include "millrace/table.h"
#include "millrace/verbs.h"

const struct mr_cli_option mr_delivery_list_options[] = {
    {"state", 0, "STATE", "only those that are waiting, in flight or held"},
    {.name = NULL},
};

const struct mr_cli_option mr_delivery_act_options[] = {
    {"all", 0, NULL, "every held one of the subscription, in place of ID"},
    {.name = NULL},
};

/* One page behind *after; *after becomes where the next begins, 0: there is none. NULL: *ret_code
 * says why, and it was said. */
static cJSON *next_page(struct mr_cli *cli, struct mr_client *client, const char *state,
                        const char *id, uint64_t *after, struct mr_buf *body, int *ret_code)
{
    struct mr_path path;
    mr_path_init(&path, "/api/v1/deliveries/", cli->arguments[0], NULL);
    mr_path_query(&path, "state", state);
    mr_path_query(&path, "id", id);
    mr_path_query_u64(&path, "after", *after);
    *ret_code = mr_client_get(client, &path, body);
    cJSON *answer = *ret_code == MR_EXIT_OK
                        ? cJSON_ParseWithLength((const char *)body->data, body->size)
                        : NULL;
    *after = (uint64_t)mr_json_number(answer, "next");
    return answer;
}

int mr_cmd_delivery_list(struct mr_cli *cli)
{
    static const char *const head[] = {"ID", "OFFSET", "STATE", "WAITS FOR", "UNTIL", "ATTEMPTS",
                                       "ARRIVED", NULL};
    static const char *const names[] = {"id", "offset", "state", "blocked_on", "blocked_until",
                                        "attempts", "arrived"};
    struct mr_client *client;
    int code = mr_client_open(cli, &client);
    if (code != MR_EXIT_OK) {
        return code;
    }
    struct mr_table table;
    mr_table_init(&table, head);
    uint64_t after = 0;
    do {
        struct mr_buf body;
        cJSON *answer =
            next_page(cli, client, mr_cli_value(cli, "state"), NULL, &after, &body, &code);
        size_t at = 0;
        struct mr_bytes text;
        while (cli->json && answer != NULL &&
               mr_json_next_item(mr_buf_bytes(&body), "deliveries", &at, &text)) {
            fprintf(cli->out, "%.*s\n", (int)text.size, (const char *)text.data);
        }
        const cJSON *item;
        cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(answer, "deliveries"))
        {
            char number[32];
            for (size_t i = 0; !cli->json && i < MR_ARRAY_COUNT(names); i++) {
                mr_table_cell(&table, mr_json_text(item, names[i], number));
            }
        }
        cJSON_Delete(answer);
        mr_buf_release(&body);
    } while (code == MR_EXIT_OK && after != 0);
    if (code == MR_EXIT_OK && !cli->json) {
        mr_table_print(&table, cli);
    }
    mr_table_release(&table);
    mr_client_close(client);
    return code;
}

/* One delivery; what is settled meanwhile is no failure of --all. */
static int act_on(struct mr_cli *cli, struct mr_client *client, const char *verb,
                  const cJSON *delivery, uint64_t *count)
{
    struct mr_path path;
    struct mr_buf body;
    mr_path_init(&path, "/api/v1/deliveries/", cli->arguments[0], verb);
    mr_path_query_u64(&path, "offset", (uint64_t)mr_json_number(delivery, "offset"));
    int code = mr_client_post(client, &path, "application/json", MR_BYTES_LITERAL("{}"), &body);
    if (code == MR_EXIT_OK) {
        char number[32];
        (*count)++;
        if (cli->json) {
            fprintf(cli->out, "%.*s\n", (int)body.size, (const char *)body.data);
        } else {
            mr_print_clean(cli, mr_json_text(delivery, "id", number));
            fprintf(cli->out, "  %s\n", verb[1] == 'r' ? "resumed" : "skipped");
        }
    }
    mr_buf_release(&body);
    return code;
}

static int act(struct mr_cli *cli, const char *verb, bool all)
{
    const char *id = cli->argument_count > 1 ? cli->arguments[1] : NULL;
    if ((id == NULL) != all) {
        fprintf(cli->err, "millrace: wants the ID of an event (or its offset), or --all\n");
        return MR_EXIT_USAGE;
    }
    struct mr_client *client;
    int code = mr_client_open(cli, &client);
    if (code != MR_EXIT_OK) {
        return code;
    }
    uint64_t after = 0;
    uint64_t count = 0;
    do {
        struct mr_buf body;
        cJSON *answer = next_page(cli, client, all ? "held" : NULL, id, &after, &body, &code);
        const cJSON *item;
        cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(answer, "deliveries"))
        {
            code = code == MR_EXIT_OK ? act_on(cli, client, verb, item, &count) : code;
        }
        cJSON_Delete(answer);
        mr_buf_release(&body);
    } while (code == MR_EXIT_OK && after != 0);
    if (code == MR_EXIT_OK && count == 0 && id != NULL) {
        fprintf(cli->err, "millrace: no delivery of %s that is not settled has this id\n",
                cli->arguments[0]);
        code = MR_EXIT_NOTHING;
    }
    mr_client_close(client);
    return code;
}

int mr_cmd_delivery_resume(struct mr_cli *cli)
{
    return act(cli, "/resume", mr_cli_flag(cli, "all"));
}

int mr_cmd_delivery_skip(struct mr_cli *cli)
{
    return act(cli, "/skip", mr_cli_flag(cli, "all"));
}

/* --- edit ------------------------------------------------------------------------------------- */

/* How many are called ID and are in @p state (NULL: any that is not settled). */
static int count_of(struct mr_cli *cli, struct mr_client *client, const char *state,
                    uint64_t *ret_count, uint64_t *ret_offset)
{
    int code;
    uint64_t after = 0;
    *ret_count = 0;
    do {
        struct mr_buf body;
        cJSON *answer = next_page(cli, client, state, cli->arguments[1], &after, &body, &code);
        const cJSON *item;
        cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(answer, "deliveries"))
        {
            *ret_offset = (uint64_t)mr_json_number(item, "offset");
            (*ret_count)++;
        }
        cJSON_Delete(answer);
        mr_buf_release(&body);
    } while (code == MR_EXIT_OK && after != 0);
    return code;
}

/* The held one that is called ID, or one that is not held: the answer says so. */
static int find_one(struct mr_cli *cli, struct mr_client *client, uint64_t *ret_offset)
{
    uint64_t count;
    int code = count_of(cli, client, "held", &count, ret_offset);
    if (code == MR_EXIT_OK && count == 0) {
        code = count_of(cli, client, NULL, &count, ret_offset);
        count = count > 1 ? 1 : count;
    }
    if (code == MR_EXIT_OK && count > 1) {
        fprintf(cli->err, "millrace: %s holds several deliveries %s: name one by its offset\n",
                cli->arguments[0], cli->arguments[1]);
        code = MR_EXIT_FAILED;
    } else if (code == MR_EXIT_OK && count == 0) {
        fprintf(cli->err, "millrace: no delivery of %s that is not settled has this id\n",
                cli->arguments[0]);
        code = MR_EXIT_NOTHING;
    }
    return code;
}

static int post_edit(struct mr_cli *cli, struct mr_client *client, uint64_t offset,
                     struct mr_bytes event)
{
    struct mr_path path;
    struct mr_buf body;
    mr_path_init(&path, "/api/v1/deliveries/", cli->arguments[0], "/edit");
    mr_path_query_u64(&path, "offset", offset);
    int code = mr_client_post(client, &path, "application/json", event, &body);
    if (code == MR_EXIT_OK && cli->json) {
        fprintf(cli->out, "%.*s\n", (int)body.size, (const char *)body.data);
    } else if (code == MR_EXIT_OK) {
        cJSON *answer = cJSON_ParseWithLength((const char *)body.data, body.size);
        char number[32];
        mr_print_clean(cli, mr_json_text(answer, "subscription", number));
        fprintf(cli->out, ":%s goes on with ", mr_json_text(answer, "offset", number));
        mr_print_clean(cli, mr_json_text(answer, "id", number));
        fputc('\n', cli->out);
        cJSON_Delete(answer);
    }
    mr_buf_release(&body);
    return code;
}

static int send_edit(struct mr_cli *cli, struct mr_bytes event)
{
    struct mr_client *client;
    uint64_t offset = 0;
    int code = mr_client_open(cli, &client);
    if (code != MR_EXIT_OK) {
        return code;
    }
    code = find_one(cli, client, &offset);
    code = code == MR_EXIT_OK ? post_edit(cli, client, offset, event) : code;
    mr_client_close(client);
    return code;
}

int mr_cmd_delivery_edit(struct mr_cli *cli)
{
    return mr_cmd_edit(cli, send_edit);
}

int mr_cmd_cancel(struct mr_cli *cli)
{
    return act(cli, "/skip", false);
}
