/* normalise, filter eval, filter test, version: text in, text out, without an instance. */
#include <errno.h>
#include <string.h>

#include <curl/curl.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/io.h"
#include "core/rng.h"
#include "millrace/verbs.h"
#include "router/router.h"
#include "schemas/json_format.h"
#include "schemas/normalise.h"

#define INPUT_SIZE_MAX (16u * MR_MIB)

const struct mr_cli_option mr_normalise_options[] = {
    {"as", 0, "ADAPTER",
     "what the input is: auto (default), cloudevents, http, kafka, amqp, mqtt, nats, s3, oss, cos, "
     "obs, gcs, azure-blob, gcf, sns, eventbridge, alertmanager, grafana, github, gitlab, stripe, "
     "shopify, k8s, cdevents or generic"},
    {"to", 0, "PROTOCOL", "an event to a message: http, kafka, amqp or mqtt"},
    {"mode", 0, "MODE", "with --to: binary (default), structured or batch"},
    {"name", 0, "SOURCE", "the source's name in the mapped source attribute"},
    {"topic", 0, "TOPIC", "the topic (MQTT, Kafka) or queue (AMQP)"},
    {"headers", 0, "FILE", "header fields, one \"Name: value\" a line"},
    {"message", 0, NULL, "the input is a recorded message as JSON"},
    {.name = NULL},
};

const struct mr_cli_option mr_filter_eval_options[] = {
    {"sql", 0, "EXPR", "a CESQL expression"},
    {.name = NULL},
};

const struct mr_cli_option mr_filter_test_options[] = {
    {"filters", 0, "FILE", "a CloudEvents Subscriptions filters array"},
    {.name = NULL},
};

static int read_input(struct mr_cli *cli, struct mr_buf *input)
{
    enum mr_status r = mr_cli_read_all(cli->in, INPUT_SIZE_MAX, input);
    return r == MR_OK ? MR_EXIT_OK
                      : mr_cli_fail(cli, r == MR_E_TOO_BIG ? MR_EXIT_DATA : MR_EXIT_FAILED,
                                    "standard input: %s", mr_status_text(r));
}

static int read_file(struct mr_cli *cli, const char *path, char **ret_text, size_t *ret_size)
{
    enum mr_status r = mr_file_read(path, INPUT_SIZE_MAX, ret_text, ret_size);
    return r == MR_OK ? MR_EXIT_OK
                      : mr_cli_fail(cli, r == MR_E_NOT_FOUND ? MR_EXIT_NOTHING : MR_EXIT_FAILED,
                                    "cannot read %s: %s", path, mr_status_text(r));
}

static int data_code(enum mr_status r)
{
    return mr_status_class(r) == MR_CLASS_PERMANENT ? MR_EXIT_DATA : MR_EXIT_FAILED;
}

/* --- normalise -------------------------------------------------------------------------------- */

static bool parse_mode(const char *text, enum mr_mode *ret_mode)
{
    static const char *const modes[] = {"binary", "structured", "batch"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(modes); i++) {
        if (strcmp(modes[i], text) == 0) {
            *ret_mode = (enum mr_mode)i;
            return true;
        }
    }
    return false;
}

static enum mr_status convert_in(struct mr_cli *cli, const char *headers, struct mr_bytes input,
                                 struct mr_buf *out, struct mr_problem *problem)
{
    const char *name = mr_cli_value(cli, "name");
    struct mr_normalise_options options = {
        .as = mr_cli_value(cli, "as") == NULL ? "auto" : mr_cli_value(cli, "as"),
        .source_name = name == NULL ? "normalise" : name,
        .topic = mr_cli_value(cli, "topic"),
        .headers_text = headers,
        .message = mr_cli_flag(cli, "message"),
        .wall_ns = mr_clock_now().wall_ns,
        .unique = mr_rng_entropy(),
    };
    return mr_normalise_in(&options, input, out, problem);
}

int mr_cmd_normalise(struct mr_cli *cli)
{
    const char *to = mr_cli_value(cli, "to");
    const char *mode_text = mr_cli_value(cli, "mode");
    enum mr_mode mode = MR_MODE_BINARY;
    if ((to != NULL && mr_cli_flag(cli, "as")) || (mode_text != NULL && to == NULL)) {
        return mr_cli_fail(cli, MR_EXIT_USAGE,
                           "either --as ADAPTER, or --to PROTOCOL [--mode MODE]");
    }
    if (mode_text != NULL && !parse_mode(mode_text, &mode)) {
        return mr_cli_fail(cli, MR_EXIT_USAGE,
                           "--mode wants binary, structured or batch, not \"%s\"", mode_text);
    }
    const char *headers_path = mr_cli_value(cli, "headers");
    char *headers = NULL;
    int code = headers_path == NULL ? MR_EXIT_OK : read_file(cli, headers_path, &headers, NULL);
    struct mr_buf input = {0};
    if (code == MR_EXIT_OK) {
        code = read_input(cli, &input);
    }
    if (code == MR_EXIT_OK) {
        struct mr_buf out;
        mr_buf_init(&out, 8 * INPUT_SIZE_MAX);
        struct mr_problem problem = {.text = ""};
        enum mr_status r =
            to == NULL ? convert_in(cli, headers, mr_buf_bytes(&input), &out, &problem)
                       : mr_normalise_out(to, mode, mr_buf_bytes(&input), &out, &problem);
        if (r != MR_OK) {
            code = mr_cli_fail_status(cli, data_code(r), r, &problem);
        } else if (out.size > 0) { /* a control message gives nothing */
            (void)fwrite(out.data, 1, out.size, cli->out); /* told by the flush at the end */
            if (out.data[out.size - 1] != '\n') {
                fputc('\n', cli->out);
            }
        }
        mr_buf_release(&out);
    }
    mr_buf_release(&input);
    mr_free(headers);
    return code;
}

/* --- filter eval ------------------------------------------------------------------------------ */

static int read_event(struct mr_cli *cli, struct mr_event **ret_event)
{
    struct mr_buf input = {0};
    struct mr_problem problem = {.text = ""};
    int code = read_input(cli, &input);
    if (code == MR_EXIT_OK) {
        enum mr_status r = mr_json_decode_event(mr_buf_bytes(&input), MR_EVENT_SIZE_MAX, ret_event,
                                                &problem);
        code = r == MR_OK ? code : mr_cli_fail_status(cli, data_code(r), r, &problem);
    }
    mr_buf_release(&input);
    return code;
}

static void print_value(struct mr_cli *cli, struct mr_bytes value, const char *error)
{
    if (!cli->json) {
        fprintf(cli->out, "%.*s%s%s%s\n", (int)value.size, (const char *)value.data,
                error == NULL ? "" : " (", error == NULL ? "" : error, error == NULL ? "" : ")");
        return;
    }
    fprintf(cli->out, "{\"result\":%.*s,\"error\":%s%s%s}\n", (int)value.size,
            (const char *)value.data, error == NULL ? "" : "\"", error == NULL ? "null" : error,
            error == NULL ? "" : "\"");
}

int mr_cmd_filter_eval(struct mr_cli *cli)
{
    const char *expression = mr_cli_value(cli, "sql");
    if (expression == NULL) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "--sql EXPR is wanted");
    }
    struct mr_event *event = NULL;
    int code = read_event(cli, &event);
    if (code != MR_EXIT_OK) {
        return code;
    }
    struct mr_buf value;
    mr_buf_init(&value, MR_MIB);
    const char *error = NULL;
    struct mr_problem problem = {.text = ""};
    enum mr_status r = mr_sql_eval(mr_bytes_of(expression), mr_event_record(event), &value, &error,
                                   &problem);
    if (r == MR_OK) {
        print_value(cli, mr_buf_bytes(&value), error);
    } else {
        if (error != NULL && cli->json) {
            print_value(cli, MR_BYTES_LITERAL("false"), error);
        }
        code = mr_cli_fail_status(cli, error != NULL ? MR_EXIT_DATA : MR_EXIT_FAILED, r, &problem);
    }
    mr_buf_release(&value);
    mr_event_unref(event);
    return code;
}

/* --- filter test ------------------------------------------------------------------------------ */

int mr_cmd_filter_test(struct mr_cli *cli)
{
    const char *path = mr_cli_value(cli, "filters");
    if (path == NULL) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "--filters FILE is wanted");
    }
    char *filters = NULL;
    size_t size = 0;
    int code = read_file(cli, path, &filters, &size);
    if (code != MR_EXIT_OK) {
        return code;
    }
    struct mr_filter *filter = NULL;
    struct mr_event *event = NULL;
    struct mr_problem problem = {.text = ""};
    enum mr_status r = mr_filter_create(mr_bytes(filters, size), &filter, &problem);
    code = r == MR_OK ? read_event(cli, &event)
                      : mr_cli_fail_status(cli, data_code(r), r, &problem);
    if (code == MR_EXIT_OK) {
        bool matches = mr_filter_test(filter, mr_event_record(event));
        fprintf(cli->out, "%s\n", matches ? "true" : "false");
    }
    mr_event_unref(event);
    mr_filter_destroy(filter);
    mr_free(filters);
    return code;
}

/* --- version ---------------------------------------------------------------------------------- */

int mr_cmd_version(struct mr_cli *cli)
{
    if (cli->json) {
        fprintf(cli->out, "{\"version\":\"%s\",\"libcurl\":\"%s\"}\n", MR_VERSION,
                curl_version_info(CURLVERSION_NOW)->version);
    } else {
        fprintf(cli->out, "millrace %s\n", MR_VERSION);
    }
    return MR_EXIT_OK;
}
