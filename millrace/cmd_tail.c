/* tail: events as they become durable, until it is interrupted. */
#include <string.h>

#include "millrace/client.h"
#include "millrace/table.h"
#include "millrace/verbs.h"

const struct mr_cli_option mr_tail_options[] = {
    {"source", 0, "NAME", "only events of this source"},
    {"filter", 0, "JSON", "only events this filter matches"},
    {"count", 'n', "N", "end after N events"},
    {.name = NULL},
};

struct watch {
    struct mr_cli *cli;
    uint64_t left; /* 0: no end */
};

static void print_human(const struct mr_cli *cli, const cJSON *line)
{
    char number[32];
    const cJSON *event = cJSON_GetObjectItemCaseSensitive(line, "event");
    fprintf(cli->out, "%8s  ", mr_json_text(line, "offset", number));
    static const char *const names[] = {"time", "type", "id", "subject"};
    mr_print_clean(cli, mr_json_text(line, "source", number));
    mr_print_attributes(cli, event, names, MR_ARRAY_COUNT(names));
}

static bool take_line(void *context, struct mr_bytes text)
{
    struct watch *watch = context;
    cJSON *line = cJSON_ParseWithLength((const char *)text.data, text.size);
    const cJSON *dropped = cJSON_GetObjectItemCaseSensitive(line, "dropped");
    bool is_event = line != NULL && dropped == NULL;
    if (cJSON_IsNumber(dropped)) {
        fprintf(watch->cli->err, "(%.0f events were too fast for this reader)\n",
                dropped->valuedouble);
    } else if (watch->cli->json) {
        fprintf(watch->cli->out, "%.*s\n", (int)text.size, (const char *)text.data);
    } else if (is_event) {
        print_human(watch->cli, line);
    }
    cJSON_Delete(line);
    if (fflush(watch->cli->out) != 0) {
        return false;
    }
    if (is_event && watch->left > 0) {
        return --watch->left > 0;
    }
    return true;
}

int mr_cmd_tail(struct mr_cli *cli)
{
    struct watch watch = {.cli = cli};
    const char *count = mr_cli_value(cli, "count");
    if (count != NULL && (!mr_parse_u64(mr_bytes_of(count), &watch.left) || watch.left == 0)) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "--count wants a number from 1, not \"%s\"", count);
    }
    struct mr_client *client;
    int code = mr_client_open(cli, &client);
    if (code != MR_EXIT_OK) {
        return code;
    }
    struct mr_path path;
    mr_path_init(&path, "/api/v1/tail", NULL, NULL);
    mr_path_query(&path, "source", mr_cli_value(cli, "source"));
    mr_path_query(&path, "filter", mr_cli_value(cli, "filter"));
    code = mr_client_lines(client, &path, take_line, &watch);
    mr_client_close(client);
    return code;
}
