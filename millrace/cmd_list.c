/* sub, source, worker: lists, one by name, pause and resume; status, reload, clock. */
#include <string.h>

#include "core/alloc.h"
#include "core/assert.h"
#include "millrace/client.h"
#include "millrace/table.h"
#include "millrace/verbs.h"


/* A column: its head, the member it shows, and the member of a member. */
struct column {
    const char *head;
    const char *member;
    const char *inner; /* NULL: none */
};

static const char *column_text(const cJSON *item, const struct column *column, char number[32])
{
    if (column->inner != NULL) {
        return mr_json_text(cJSON_GetObjectItemCaseSensitive(item, column->member), column->inner,
                            number);
    }
    return mr_json_text(item, column->member, number);
}

static void print_table(const struct mr_cli *cli, const cJSON *items, const struct column *columns,
                        uint32_t count)
{
    const char *head[MR_TABLE_COLUMNS_MAX + 1] = {NULL};
    MR_ASSERT(count <= MR_TABLE_COLUMNS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        head[i] = columns[i].head;
    }
    struct mr_table table;
    mr_table_init(&table, head);
    const cJSON *item;
    cJSON_ArrayForEach(item, items)
    {
        for (uint32_t i = 0; i < count; i++) {
            char number[32];
            mr_table_cell(&table, column_text(item, &columns[i], number));
        }
    }
    mr_table_print(&table, cli);
    mr_table_release(&table);
}

static int list(struct mr_cli *cli, const char *where, const char *key,
                const struct column *columns, uint32_t count)
{
    struct mr_client *client;
    int code = mr_client_open(cli, &client);
    if (code != MR_EXIT_OK) {
        return code;
    }
    struct mr_path path;
    struct mr_buf body;
    mr_path_init(&path, where, NULL, NULL);
    code = mr_client_get(client, &path, &body);
    if (code == MR_EXIT_OK && cli->json) {
        size_t at = 0;
        struct mr_bytes item;
        while (mr_json_next_item(mr_buf_bytes(&body), key, &at, &item)) {
            fprintf(cli->out, "%.*s\n", (int)item.size, (const char *)item.data);
        }
    } else if (code == MR_EXIT_OK) {
        cJSON *answer = cJSON_ParseWithLength((const char *)body.data, body.size);
        print_table(cli, cJSON_GetObjectItemCaseSensitive(answer, key), columns, count);
        cJSON_Delete(answer);
    }
    mr_buf_release(&body);
    mr_client_close(client);
    return code;
}

/* Each item on a line of its own, as JSON. */
static void print_array(const struct mr_cli *cli, const cJSON *array, const char *name)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, array)
    {
        char *text = cJSON_PrintUnformatted(item);
        fprintf(cli->out, "%-28s ", name);
        mr_print_clean(cli, text == NULL ? "?" : text);
        fputc('\n', cli->out);
        cJSON_free(text);
    }
}

/* An object for people: one member a line, members of members behind a dot. */
static void print_object(const struct mr_cli *cli, const cJSON *object, const char *prefix)
{
    const cJSON *member;
    cJSON_ArrayForEach(member, object)
    {
        char name[128];
        bool inside = cJSON_IsObject(member);
        (void)snprintf(name, sizeof(name), "%.70s%.50s%s", prefix, member->string,
                       inside ? "." : ""); /* cut at worst */
        if (inside) {
            print_object(cli, member, name);
            continue;
        }
        if (cJSON_IsArray(member)) {
            print_array(cli, member, name);
            continue;
        }
        char number[32];
        fprintf(cli->out, "%-28s ", name);
        const char *text = mr_json_text(object, member->string, number);
        mr_print_clean(cli, cJSON_IsNull(member) ? "-" : text);
        fputc('\n', cli->out);
    }
}

/* One request whose answer is an object. @param post a POST, with nothing in it */
static int show(struct mr_cli *cli, struct mr_path *path, bool post)
{
    struct mr_client *client;
    int code = mr_client_open(cli, &client);
    if (code != MR_EXIT_OK) {
        mr_buf_release(&path->buf);
        return code;
    }
    struct mr_buf body;
    code = post ? mr_client_post(client, path, "application/json", MR_BYTES_LITERAL("{}"), &body)
                : mr_client_get(client, path, &body);
    if (code == MR_EXIT_OK && cli->json) {
        fprintf(cli->out, "%.*s\n", (int)body.size, (const char *)body.data);
    } else if (code == MR_EXIT_OK) {
        cJSON *answer = cJSON_ParseWithLength((const char *)body.data, body.size);
        print_object(cli, answer, "");
        cJSON_Delete(answer);
    }
    mr_buf_release(&body);
    mr_client_close(client);
    return code;
}

static int show_named(struct mr_cli *cli, const char *where, const char *verb)
{
    struct mr_path path;
    mr_path_init(&path, where, cli->arguments[0], verb);
    return show(cli, &path, verb != NULL);
}

int mr_cmd_sub_list(struct mr_cli *cli)
{
    static const struct column columns[] = {
        {"NAME", "name", NULL},         {"STATE", "state", NULL},
        {"MATCHED", "matched", NULL},   {"DONE", "done", NULL},
        {"DEAD", "dead", NULL},         {"DROPPED", "dropped", NULL},
        {"EXPIRED", "expired", NULL},   {"LOST", "lost", NULL},
        {"HELD", "held", NULL},         {"WAITING", "waiting", NULL},
        {"IN FLIGHT", "in_flight", NULL}, {"DEAD LETTERS", "dead_letters", NULL},
    };
    return list(cli, "/api/v1/subscriptions", "subscriptions", columns, MR_ARRAY_COUNT(columns));
}

int mr_cmd_sub_show(struct mr_cli *cli)
{
    return show_named(cli, "/api/v1/subscriptions/", NULL);
}

int mr_cmd_sub_pause(struct mr_cli *cli)
{
    return show_named(cli, "/api/v1/subscriptions/", "/pause");
}

int mr_cmd_sub_resume(struct mr_cli *cli)
{
    return show_named(cli, "/api/v1/subscriptions/", "/resume");
}

int mr_cmd_source_list(struct mr_cli *cli)
{
    static const struct column columns[] = {
        {"NAME", "name", NULL},       {"KIND", "kind", NULL},     {"HEALTH", "health", NULL},
        {"PAUSED", "paused", NULL},   {"EVENTS", "events", NULL}, {"REJECTED", "rejected", NULL},
        {"DUPLICATES", "duplicates", NULL},
        {"LAG", "lag", NULL},         {"DETAIL", "detail", NULL},
        {"LAST ERROR", "last_error", NULL},
    };
    return list(cli, "/api/v1/sources", "sources", columns, MR_ARRAY_COUNT(columns));
}

int mr_cmd_source_show(struct mr_cli *cli)
{
    return show_named(cli, "/api/v1/sources/", NULL);
}

int mr_cmd_source_pause(struct mr_cli *cli)
{
    return show_named(cli, "/api/v1/sources/", "/pause");
}

int mr_cmd_source_resume(struct mr_cli *cli)
{
    return show_named(cli, "/api/v1/sources/", "/resume");
}

int mr_cmd_worker_list(struct mr_cli *cli)
{
    static const struct column columns[] = {
        {"NAME", "name", NULL},
        {"KIND", "kind", NULL},
        {"HEALTH", "health", NULL},
        {"READY", "instances", "ready"},
        {"BUSY", "instances", "busy"},
        {"STARTS", "starts", NULL},
        {"CRASHES", "crashes", NULL},
        {"START s", "last_start_seconds", NULL},
        {"SLOTS", "slots", NULL},
        {"IN FLIGHT", "in_flight", NULL},
        {"QUEUED", "queued", NULL},
        {"DETAIL", "detail", NULL},
        {"LAST ERROR", "last_error", NULL},
    };
    return list(cli, "/api/v1/targets", "targets", columns, MR_ARRAY_COUNT(columns));
}

int mr_cmd_worker_show(struct mr_cli *cli)
{
    return show_named(cli, "/api/v1/targets/", NULL);
}

int mr_cmd_usage(struct mr_cli *cli)
{
    static const struct column columns[] = {
        {"SUBSCRIPTION", "subscription", NULL}, {"WORKER", "worker", NULL},
        {"INVOCATIONS", "invocations", NULL},   {"BUSY s", "busy_seconds", NULL},
        {"UNITS 100ms", "busy_units", NULL},    {"BYTES IN", "bytes_in", NULL},
        {"BYTES OUT", "bytes_out", NULL},
    };
    return list(cli, "/api/v1/usage", "usage", columns, MR_ARRAY_COUNT(columns));
}

int mr_cmd_status(struct mr_cli *cli)
{
    struct mr_path path;
    mr_path_init(&path, "/api/v1/status", NULL, NULL);
    return show(cli, &path, false);
}

int mr_cmd_clock_accept(struct mr_cli *cli)
{
    struct mr_path path;
    mr_path_init(&path, "/api/v1/clock/accept", NULL, NULL);
    return show(cli, &path, true);
}

/* --- reload ----------------------------------------------------------------------------------- */

const struct mr_cli_option mr_reload_options[] = {
    {"dry-run", 0, NULL, "only show the difference and what it touches"},
    {.name = NULL},
};

static void print_names(const struct mr_cli *cli, const char *section, const char *what,
                        const cJSON *names)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, names)
    {
        char number[32];
        const char *name = cJSON_IsString(item) ? item->valuestring
                                                : mr_json_text(item, "name", number);
        fprintf(cli->out, "  %s %s ", section, what);
        mr_print_clean(cli, name);
        const char *waiting = mr_json_text(item, "waiting", number);
        if (waiting[0] != '\0') {
            fprintf(cli->out, " (%s deliveries wait)", waiting);
        }
        fputc('\n', cli->out);
    }
}

static void print_difference(const struct mr_cli *cli, const cJSON *answer)
{
    static const char *const whats[] = {"added", "removed", "changed"};
    bool changed = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "changed"));
    bool applied = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "applied"));
    fprintf(cli->out, "%s\n", !changed ? "nothing changed"
                              : applied ? "applied:"
                                        : "would change:");
    const cJSON *section;
    cJSON_ArrayForEach(section, answer)
    {
        for (size_t i = 0; cJSON_IsObject(section) && i < MR_ARRAY_COUNT(whats); i++) {
            print_names(cli, section->string, whats[i],
                        cJSON_GetObjectItemCaseSensitive(section, whats[i]));
        }
    }
}

int mr_cmd_reload(struct mr_cli *cli)
{
    struct mr_client *client;
    int code = mr_client_open(cli, &client);
    if (code != MR_EXIT_OK) {
        return code;
    }
    struct mr_path path;
    struct mr_buf body;
    mr_path_init(&path, "/api/v1/reload", NULL, NULL);
    mr_path_query(&path, "dry_run", mr_cli_flag(cli, "dry-run") ? "true" : NULL);
    code = mr_client_post(client, &path, "application/json", MR_BYTES_LITERAL("{}"), &body);
    if (code == MR_EXIT_OK && cli->json) {
        fprintf(cli->out, "%.*s\n", (int)body.size, (const char *)body.data);
    } else if (code == MR_EXIT_OK) {
        cJSON *answer = cJSON_ParseWithLength((const char *)body.data, body.size);
        print_difference(cli, answer);
        cJSON_Delete(answer);
    }
    mr_buf_release(&body);
    mr_client_close(client);
    return code;
}
