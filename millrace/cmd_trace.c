/* trace, why, explain: what happened to an event and why. */
#include <string.h>

#include "core/clock.h"
#include "millrace/client.h"
#include "millrace/table.h"
#include "millrace/verbs.h"

#define UNMATCHED_MAX 20 /* subscriptions that did not take it, each in a line for people */
#define RESULT_LINE_SIZE 400u /* bytes of a result in a line for people */

/* A GET whose answer is printed as it stands with -o json, else by @p print. */
static int show(struct mr_cli *cli, struct mr_path *path,
                void (*print)(const struct mr_cli *cli, const cJSON *answer))
{
    struct mr_client *client;
    int code = mr_client_open(cli, &client);
    if (code != MR_EXIT_OK) {
        mr_buf_release(&path->buf);
        return code;
    }
    struct mr_buf body;
    code = mr_client_get(client, path, &body);
    if (code == MR_EXIT_OK && cli->json) {
        (void)fwrite(body.data, 1, body.size, cli->out); /* told by the flush at the end */
        fputc('\n', cli->out);
    } else if (code == MR_EXIT_OK) {
        cJSON *answer = cJSON_ParseWithLength((const char *)body.data, body.size);
        if (answer == NULL) {
            code = mr_cli_fail(cli, MR_EXIT_FAILED, "the answer makes no sense");
        } else {
            print(cli, answer);
        }
        cJSON_Delete(answer);
    }
    mr_buf_release(&body);
    mr_client_close(client);
    return code;
}

static void print_field(const struct mr_cli *cli, const char *before, const cJSON *object,
                        const char *name, const char *after)
{
    char number[32];
    const char *text = mr_json_text(object, name, number);
    if (text[0] != '\0') {
        fputs(before, cli->out);
        mr_print_clean(cli, text);
        fputs(after, cli->out);
    }
}

static void print_took(const struct mr_cli *cli, const cJSON *attempt)
{
    char number[32];
    int64_t started;
    int64_t ended;
    if (mr_time_parse(mr_bytes_of(mr_json_text(attempt, "started", number)), &started) &&
        mr_time_parse(mr_bytes_of(mr_json_text(attempt, "ended", number)), &ended)) {
        fprintf(cli->out, "  %.0f ms", (double)(ended - started) / (double)MR_MS);
    }
}

static void print_attempt(const struct mr_cli *cli, const cJSON *attempt, bool counted)
{
    char number[32];
    const char *verdict = mr_json_text(attempt, "verdict", number);
    char own[32];
    (void)snprintf(own, sizeof(own), "%.30s", verdict[0] == '\0' ? "under way" : verdict);
    fprintf(cli->out, "    %3s  ", counted ? mr_json_text(attempt, "n", number) : "-");
    mr_print_clean(cli, mr_json_text(attempt, "started", number));
    fputs("  ", cli->out);
    mr_print_colour(cli, mr_colour_of(own), own);
    print_took(cli, attempt);
    print_field(cli, "  on ", attempt, "instance", "");
    print_field(cli, "  exit ", attempt, "exit", "");
    print_field(cli, "  signal ", attempt, "signal", "");
    print_field(cli, "  ", attempt, "error", "");
    fputc('\n', cli->out);
    print_field(cli, "         stderr: ", attempt, "stderr", "\n");
}

/* Where it is just now: the instance, for how long, and the progress its heartbeats told. */
static void print_running(const struct mr_cli *cli, const cJSON *running)
{
    const cJSON *held = cJSON_GetObjectItemCaseSensitive(running, "deliveries");
    const cJSON *delivery = cJSON_GetArrayItem(held, 0);
    if (delivery == NULL) {
        return;
    }
    print_field(cli, "         with ", running, "instance", "");
    print_field(cli, " (pid ", running, "pid", ")");
    print_field(cli, " for ", delivery, "running_seconds", " s");
    print_field(cli, ", heartbeat ", delivery, "heartbeat_seconds_ago", " s ago");
    const cJSON *progress = cJSON_GetObjectItemCaseSensitive(delivery, "progress");
    char *text = progress == NULL || cJSON_IsNull(progress) ? NULL
                                                            : cJSON_PrintUnformatted(progress);
    if (text != NULL) {
        fputs(", progress ", cli->out);
        mr_print_clean(cli, text);
        cJSON_free(text);
    }
    fputc('\n', cli->out);
}

/* One line of what the handler answered, all of it with -o json. */
static void print_result(const struct mr_cli *cli, const cJSON *delivery)
{
    const cJSON *result = cJSON_GetObjectItemCaseSensitive(delivery, "result");
    char *text = result == NULL ? NULL : cJSON_PrintUnformatted(result);
    if (text != NULL) {
        char line[RESULT_LINE_SIZE];
        int size = snprintf(line, sizeof(line), "%s", text);
        bool cut = size < 0 || (size_t)size >= sizeof(line);
        fputs("         result: ", cli->out);
        mr_print_clean(cli, line);
        fputs(cut ? "… (whole with -o json)\n" : "\n", cli->out);
        cJSON_free(text);
    }
    print_field(cli, "         result: ", delivery, "result_size", " bytes, too many to show\n");
}

static void print_delivery(const struct mr_cli *cli, const cJSON *delivery)
{
    char number[32];
    fputs("  ", cli->out);
    mr_print_colour(cli, MR_COLOUR_BOLD, mr_json_text(delivery, "subscription", number));
    fputs(": ", cli->out);
    const char *state = mr_json_text(delivery, "state", number);
    mr_print_colour(cli, mr_colour_of(state), state);
    print_field(cli, ", waits: ", delivery, "blocked_on", "");
    print_field(cli, " until ", delivery, "blocked_until", "");
    if (mr_json_number(delivery, "refusals") > 0) {
        print_field(cli, ", ", delivery, "refusals", " refusals");
    }
    if (mr_json_number(delivery, "interruptions") > 0) {
        print_field(cli, ", ", delivery, "interruptions", " interruptions");
    }
    print_field(cli, " (", delivery, "reason", ")");
    fputc('\n', cli->out);
    print_field(cli, "         purged ", delivery, "purged_at", "\n");
    print_field(cli, "         edited ", delivery, "edited_at", "\n");
    print_field(cli, "         replaced by ", delivery, "replaced_by", "\n");
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(delivery, "redriven"))
    {
        const cJSON *by = cJSON_GetObjectItemCaseSensitive(item, "by");
        print_field(cli, "         redriven ", item, "at", "");
        print_field(cli, ", group ", by, "group", "");
        fputs(cJSON_HasObjectItem(by, "out_of_order") ? ", out of order\n" : "\n", cli->out);
    }
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(delivery, "attempts"))
    {
        print_attempt(cli, item, true);
    }
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(delivery, "uncounted"))
    {
        print_attempt(cli, item, false);
    }
    print_result(cli, delivery);
    print_running(cli, cJSON_GetObjectItemCaseSensitive(delivery, "running"));
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(delivery, "children"))
    {
        fputs("         emitted ", cli->out);
        mr_print_clean(cli, cJSON_IsString(item) ? item->valuestring : "?");
        fputc('\n', cli->out);
    }
}

/* A few of them: there may be ten thousand, and who asks of one asks `millrace why`. */
static void print_unmatched(const struct mr_cli *cli, const cJSON *unmatched, const char *id)
{
    const cJSON *item;
    int shown = 0;
    cJSON_ArrayForEach(item, unmatched)
    {
        if (shown++ == UNMATCHED_MAX) {
            fprintf(cli->out, "  and %d others: ", cJSON_GetArraySize(unmatched) - UNMATCHED_MAX);
            mr_print_colour(cli, MR_COLOUR_FAINT, "not matched");
            fputs("; `millrace why ", cli->out);
            mr_print_clean(cli, id);
            fputs(" SUBSCRIPTION` says why\n", cli->out);
            return;
        }
        char number[32];
        fputs("  ", cli->out);
        mr_print_clean(cli, mr_json_text(item, "subscription", number));
        fputs(": ", cli->out);
        mr_print_colour(cli, MR_COLOUR_FAINT, "not matched");
        print_field(cli, " (", item, "why", ")\n");
    }
}

static void print_trace(const struct mr_cli *cli, const cJSON *answer)
{
    char number[32];
    const cJSON *event = cJSON_GetObjectItemCaseSensitive(answer, "event");
    fputs("event ", cli->out);
    mr_print_colour(cli, MR_COLOUR_BOLD, mr_json_text(event, "id", number));
    print_field(cli, "  ", event, "type", "");
    print_field(cli, "  from ", answer, "source", "");
    print_field(cli, "  at offset ", answer, "offset", "");
    print_field(cli, "  arrived ", answer, "arrived", "\n");
    print_field(cli, "  caused by ", event, "causationid", "\n");
    const cJSON *replaces = cJSON_GetObjectItemCaseSensitive(answer, "replaces");
    print_field(cli, "  replaces the event of ", replaces, "subscription", "");
    print_field(cli, ":", replaces, "offset", ", which goes on with it\n");
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(answer, "deliveries"))
    {
        print_delivery(cli, item);
    }
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(answer, "children"))
    {
        fputs("  told as ", cli->out);
        mr_print_clean(cli, cJSON_IsString(item) ? item->valuestring : "?");
        fputc('\n', cli->out);
    }
    print_unmatched(cli, cJSON_GetObjectItemCaseSensitive(answer, "unmatched"),
                    mr_json_text(event, "id", number));
}

int mr_cmd_trace(struct mr_cli *cli)
{
    struct mr_path path;
    mr_path_init(&path, "/api/v1/trace/", cli->arguments[0], NULL);
    return show(cli, &path, print_trace);
}

static void print_why(const struct mr_cli *cli, const cJSON *answer)
{
    print_field(cli, "", answer, "subscription", ": ");
    print_field(cli, "", answer, "why", "");
    char number[32];
    bool is_past = strcmp(mr_json_text(answer, "configuration", number), "past") == 0;
    fputs(is_past ? " (by the configuration of its time)\n" : "\n", cli->out);
}

int mr_cmd_why(struct mr_cli *cli)
{
    struct mr_path path;
    mr_path_init(&path, "/api/v1/why", NULL, NULL);
    mr_path_query(&path, "event", cli->arguments[0]);
    mr_path_query(&path, "subscription", cli->arguments[1]);
    return show(cli, &path, print_why);
}

static void print_policy(const struct mr_cli *cli, const cJSON *answer)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(answer, "policy"))
    {
        mr_print_clean(cli, cJSON_IsString(item) ? item->valuestring : "?");
        fputc('\n', cli->out);
    }
}

int mr_cmd_explain(struct mr_cli *cli)
{
    struct mr_path path;
    mr_path_init(&path, "/api/v1/explain/", cli->arguments[0], NULL);
    return show(cli, &path, print_policy);
}
