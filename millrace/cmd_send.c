/* send: one event, an array, or JSON lines, in batches; what is printed is durable. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/alloc.h"
#include "millrace/client.h"
#include "millrace/verbs.h"
#include "schemas/json_format.h"

#define BATCH_EVENTS 500u
#define BATCH_SIZE (1u * MR_MIB)
#define INPUT_SIZE_MAX MR_BATCH_SIZE_MAX /* of what is not JSON lines */
#define LINE_SIZE_MAX (2u * MR_EVENT_SIZE_MAX)

const struct mr_cli_option mr_send_options[] = {
    {"to", 0, "SOURCE", "on behalf of this source (default: the first one)"},
    {.name = NULL},
};

struct sender {
    struct mr_cli *cli;
    struct mr_client *client;
    struct mr_buf batch; /* "[event,event" */
    uint32_t count;
    uint64_t sent;
};

static void print_answer(const struct sender *sender, const struct mr_buf *body)
{
    size_t at = 0;
    struct mr_bytes item;
    while (mr_json_next_item(mr_buf_bytes(body), "events", &at, &item)) {
        fprintf(sender->cli->out, "%.*s\n", (int)item.size, (const char *)item.data);
    }
}

static int post(struct sender *sender, struct mr_bytes body)
{
    struct mr_path path;
    mr_path_init(&path, "/api/v1/events", NULL, NULL);
    mr_path_query(&path, "source", mr_cli_value(sender->cli, "to"));
    struct mr_buf answer;
    int code = mr_client_post(sender->client, &path, "application/json", body, &answer);
    if (code == MR_EXIT_OK) {
        print_answer(sender, &answer);
    }
    mr_buf_release(&answer);
    return code;
}

static int flush_batch(struct sender *sender)
{
    if (sender->count == 0) {
        return MR_EXIT_OK;
    }
    if (mr_buf_append_byte(&sender->batch, ']') != MR_OK) {
        return mr_cli_fail(sender->cli, MR_EXIT_FAILED, "out of memory");
    }
    int code = post(sender, mr_buf_bytes(&sender->batch));
    mr_buf_clear(&sender->batch);
    sender->count = 0;
    (void)fflush(sender->cli->out); /* told at the end by the verb's own flush */
    return code;
}

static int add_event(struct sender *sender, struct mr_bytes text)
{
    if (sender->count >= BATCH_EVENTS || sender->batch.size + text.size > BATCH_SIZE) {
        int code = flush_batch(sender);
        if (code != MR_EXIT_OK) {
            return code;
        }
    }
    if (mr_buf_append_byte(&sender->batch, sender->count == 0 ? '[' : ',') != MR_OK ||
        mr_buf_append_bytes(&sender->batch, text) != MR_OK) {
        return mr_cli_fail(sender->cli, MR_EXIT_FAILED, "out of memory");
    }
    sender->count++;
    return MR_EXIT_OK;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct mr_bytes trimmed(struct mr_bytes text)
{
    while (text.size > 0 && is_blank(text.data[0])) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && is_blank(text.data[text.size - 1])) {
        text.size--;
    }
    return text;
}

/* Each line is checked here, so that what stands before a bad one is sent and the bad one named. */
static int send_line(struct sender *sender, struct mr_bytes line, uint64_t number)
{
    struct mr_event *event;
    struct mr_problem problem = {.text = ""};
    enum mr_status r = mr_json_decode_event(line, MR_EVENT_SIZE_DEFAULT, &event, &problem);
    if (r == MR_OK) {
        mr_event_unref(event);
        return add_event(sender, line);
    }
    int code = flush_batch(sender);
    return code != MR_EXIT_OK ? code
                              : mr_cli_fail(sender->cli, MR_EXIT_DATA, "line %" PRIu64 ": %s",
                                            number, problem.text);
}

/* The next line into @p line. @return false at the end; *ret_code says why when it is bad */
static bool read_line(struct sender *sender, FILE *from, struct mr_buf *line, int *ret_code)
{
    mr_buf_clear(line);
    uint8_t chunk[8192];
    int c = 0;
    while (c != EOF && c != '\n') { /* byte by byte: a line may hold NULs */
        size_t size = 0;
        while (size < sizeof(chunk) && c != '\n' && (c = getc_unlocked(from)) != EOF) {
            chunk[size++] = (uint8_t)c;
        }
        if (mr_buf_append(line, chunk, size) != MR_OK) {
            *ret_code = mr_cli_fail(sender->cli, MR_EXIT_DATA, "a line is longer than %u bytes",
                                    INPUT_SIZE_MAX);
            return false;
        }
    }
    if (c == '\n') {
        return true;
    }
    if (ferror(from)) {
        *ret_code = mr_cli_fail(sender->cli, MR_EXIT_FAILED, "cannot read: %s", strerror(errno));
        return false;
    }
    return line->size > 0;
}

/* The first line is not whole JSON: the input is one value over several lines. */
static int send_whole(struct sender *sender, FILE *from, struct mr_buf *first)
{
    struct mr_buf rest;
    enum mr_status r = mr_cli_read_all(from, INPUT_SIZE_MAX, &rest);
    if (r == MR_OK) {
        r = mr_buf_append_bytes(first, mr_buf_bytes(&rest));
    }
    mr_buf_release(&rest);
    if (r != MR_OK) {
        return mr_cli_fail(sender->cli, r == MR_E_TOO_BIG ? MR_EXIT_DATA : MR_EXIT_FAILED,
                           "the input: %s", mr_status_text(r));
    }
    struct mr_bytes text = trimmed(mr_buf_bytes(first));
    if (text.size > 0 && text.data[0] == '[') {
        return post(sender, text);
    }
    struct mr_event *event;
    struct mr_problem problem = {.text = ""};
    r = mr_json_decode_event(text, MR_EVENT_SIZE_DEFAULT, &event, &problem);
    if (r != MR_OK) {
        return mr_cli_fail_status(sender->cli, MR_EXIT_DATA, r, &problem);
    }
    mr_event_unref(event);
    return post(sender, text);
}

static int send_all(struct sender *sender, FILE *from)
{
    struct mr_buf line;
    mr_buf_init(&line, INPUT_SIZE_MAX + LINE_SIZE_MAX);
    int code = MR_EXIT_OK;
    bool first = true;
    for (uint64_t number = 1; code == MR_EXIT_OK && read_line(sender, from, &line, &code);
         number++) {
        struct mr_bytes text = trimmed(mr_buf_bytes(&line));
        if (text.size == 0) {
            continue;
        }
        if (first && (text.data[0] == '[' || !mr_json_is_value(text))) {
            code = send_whole(sender, from, &line);
            break;
        }
        first = false;
        code = send_line(sender, text, number);
    }
    if (code == MR_EXIT_OK) {
        code = flush_batch(sender);
    }
    mr_buf_release(&line);
    return code;
}

int mr_cmd_send(struct mr_cli *cli)
{
    FILE *from = cli->in;
    bool is_file = cli->argument_count > 0 && strcmp(cli->arguments[0], "-") != 0;
    if (is_file && (from = fopen(cli->arguments[0], "re")) == NULL) {
        return mr_cli_fail(cli, MR_EXIT_NOTHING, "cannot read %s: %s", cli->arguments[0],
                           strerror(errno));
    }
    struct sender sender = {.cli = cli};
    mr_buf_init(&sender.batch, BATCH_SIZE + 2 * LINE_SIZE_MAX);
    int code = mr_client_open(cli, &sender.client);
    if (code == MR_EXIT_OK) {
        code = send_all(&sender, from);
        mr_client_close(sender.client);
    }
    mr_buf_release(&sender.batch);
    if (is_file) {
        (void)fclose(from); /* only read */
    }
    return code;
}
