/* invoke: one event for one subscription alone; what its worker made of it is printed. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/rng.h"
#include "millrace/client.h"
#include "millrace/verbs.h"
#include "schemas/json_format.h"

const struct mr_cli_option mr_invoke_options[] = {
    {"data", 0, "JSON", "an event with this data, in place of one from FILE or standard input"},
    {"type", 0, "TYPE", "its type (default: io.millrace.invoke)"},
    {"subject", 0, "SUBJECT", "its subject"},
    {"wait", 0, "SECONDS", "how long to wait for the end (default 30, 300 at most)"},
    {.name = NULL},
};

static enum mr_status add_member(struct mr_buf *event, const char *key, const char *value)
{
    enum mr_status r = mr_buf_append_text(event, key);
    return r == MR_OK ? mr_buf_append_json(event, mr_bytes_of(value)) : r;
}

/* The event that the options describe. */
static int make_event(const struct mr_cli *cli, struct mr_buf *event)
{
    const char *data = mr_cli_value(cli, "data");
    const char *type = mr_cli_value(cli, "type");
    const char *subject = mr_cli_value(cli, "subject");
    char id[40];
    mr_buf_init(event, 2u * MR_EVENT_SIZE_MAX);
    if (!mr_json_is_value(mr_bytes_of(data))) {
        return mr_cli_fail(cli, MR_EXIT_DATA, "--data is not JSON: a text has quotes of its own");
    }
    (void)snprintf(id, sizeof(id), "invoke-%016" PRIx64 "%016" PRIx64, mr_rng_entropy(),
                   mr_rng_entropy()); /* 39 characters by the format */
    enum mr_status r = mr_buf_append_text(
        event, "{\"specversion\":\"1.0\",\"source\":\"/millrace/invoke\","
               "\"datacontenttype\":\"application/json\",\"id\":");
    r = r == MR_OK ? mr_buf_append_json(event, mr_bytes_of(id)) : r;
    type = type == NULL ? "io.millrace.invoke" : type;
    r = r == MR_OK ? add_member(event, ",\"type\":", type) : r;
    r = r == MR_OK && subject != NULL ? add_member(event, ",\"subject\":", subject) : r;
    r = r == MR_OK ? mr_buf_append_text(event, ",\"data\":") : r;
    r = r == MR_OK ? mr_buf_append_text(event, data) : r;
    r = r == MR_OK ? mr_buf_append_text(event, "}") : r;
    return r == MR_OK ? MR_EXIT_OK : mr_cli_fail(cli, MR_EXIT_FAILED, "%s", mr_status_text(r));
}

static int read_event(const struct mr_cli *cli, struct mr_buf *event)
{
    const char *name = cli->argument_count > 1 ? cli->arguments[1] : "-";
    FILE *from = strcmp(name, "-") == 0 ? cli->in : fopen(name, "re");
    mr_buf_init(event, 0);
    if (from == NULL) {
        return mr_cli_fail(cli, MR_EXIT_NOTHING, "cannot read %s: %s", name, strerror(errno));
    }
    enum mr_status r = mr_cli_read_all(from, 2u * MR_EVENT_SIZE_MAX, event);
    if (from != cli->in) {
        (void)fclose(from); /* only read */
    }
    return r == MR_OK ? MR_EXIT_OK
                      : mr_cli_fail(cli, MR_EXIT_DATA, "the input: %s", mr_status_text(r));
}

/* The member "result", the last of the answer, with every digit as it came; empty when it is null.
 * What stands before it are texts and numbers, and no text has a quote that is not escaped. */
static struct mr_bytes result_of(const struct mr_buf *body)
{
    static const char key[] = ",\"result\":";
    const uint8_t *at = memmem(body->data, body->size, key, sizeof(key) - 1);
    if (at == NULL) {
        return (struct mr_bytes){0};
    }
    at += sizeof(key) - 1;
    size_t size = (size_t)(body->data + body->size - at);
    while (size > 0 && at[size - 1] != '}') {
        size--;
    }
    struct mr_bytes result = mr_bytes(at, size > 0 ? size - 1 : 0);
    return mr_bytes_equal(result, MR_BYTES_LITERAL("null")) ? (struct mr_bytes){0} : result;
}

/* What the worker made of it; why there is nothing goes to cli->err. */
static int print_end(const struct mr_cli *cli, const struct mr_buf *body)
{
    cJSON *answer = cJSON_ParseWithLength((const char *)body->data, body->size);
    struct mr_bytes result = result_of(body);
    char number[32];
    const char *state = mr_json_text(answer, "state", number);
    const char *error = mr_json_text(answer, "error", number);
    bool is_done = strcmp(state, "done") == 0 || strcmp(state, "dropped") == 0;
    if (cli->json) {
        fprintf(cli->out, "%.*s\n", (int)body->size, (const char *)body->data);
    } else if (result.size > 0) {
        fprintf(cli->out, "%.*s\n", (int)result.size, (const char *)result.data);
    }
    if (!is_done) {
        (void)mr_cli_fail(cli, MR_EXIT_FAILED, "%s is %s%s%s", mr_json_text(answer, "id", number),
                          state[0] == '\0' ? "not done, see its trace" : state,
                          error[0] == '\0' ? "" : ": ", error);
    }
    cJSON_Delete(answer);
    return is_done ? MR_EXIT_OK : MR_EXIT_FAILED;
}

int mr_cmd_invoke(struct mr_cli *cli)
{
    struct mr_client *client;
    struct mr_buf event;
    int code = mr_cli_value(cli, "data") != NULL ? make_event(cli, &event)
                                                 : read_event(cli, &event);
    if (code == MR_EXIT_OK) {
        code = mr_client_open(cli, &client);
    }
    if (code == MR_EXIT_OK) {
        struct mr_path path;
        struct mr_buf answer;
        mr_path_init(&path, "/api/v1/invoke/", cli->arguments[0], NULL);
        mr_path_query(&path, "wait", mr_cli_value(cli, "wait"));
        code = mr_client_post(client, &path, "application/json", mr_buf_bytes(&event), &answer);
        code = code == MR_EXIT_OK ? print_end(cli, &answer) : code;
        mr_buf_release(&answer);
        mr_client_close(client);
    }
    mr_buf_release(&event);
    return code;
}
