/* what-if: which events of the log a filter would have taken. The instance looks segment by
 * segment; what matched is printed as it comes, here the counts are added up. */
#include <inttypes.h>
#include <unistd.h>

#include "millrace/client.h"
#include "millrace/table.h"
#include "millrace/verbs.h"

#define LIMIT_DEFAULT 20u
#define LIMIT_MAX 1000000u
#define PAGE_MAX 1000u

const struct mr_cli_option mr_what_if_options[] = {
    {"last", 0, "DURATION", "how far to look back (24h)"},
    {"source", 0, "NAME", "only events of this source"},
    {"unmatched", 0, NULL, "only events that no subscription took"},
    {"limit", 'n', "N", "list the first N of them (20); 0: only count"},
    {.name = NULL},
};

struct what_if {
    struct mr_cli *cli;
    struct mr_client *client;
    char since[64]; /* as the first page says: the same for all */
    uint64_t limit;
    uint64_t listed;
    uint64_t segment; /* the next page's; 0 in the first */
    double pages;     /* seen so far */
    double examined;
    double matched;
    double unmatched;
    bool bar; /* how far it is stands on the terminal */
    bool more;
};

static void clear_bar(const struct what_if *q)
{
    if (q->bar) {
        fputs("\r\033[K", q->cli->err);
    }
}

static void draw_bar(const struct what_if *q, double left)
{
    if (q->bar && left > 0) {
        fprintf(q->cli->err, "\r\033[K%.0f%%  %.0f events, %.0f match",
                100 * q->pages / (q->pages + left), q->examined, q->matched);
        (void)fflush(q->cli->err); /* a bar that lags is no error */
    }
}

static void print_event(const struct mr_cli *cli, const cJSON *item)
{
    static const char *const names[] = {"type", "id", "subject"};
    char number[32];
    const cJSON *event = cJSON_GetObjectItemCaseSensitive(item, "event");
    fprintf(cli->out, "%8s  ", mr_json_text(item, "offset", number));
    mr_print_clean(cli, mr_json_text(item, "arrived", number));
    fputs("  ", cli->out);
    mr_print_clean(cli, mr_json_text(item, "source", number));
    mr_print_attributes(cli, event, names, MR_ARRAY_COUNT(names));
}

/* Those of one page, as they stand with -o json: an array that is closed at the end. */
static void print_events(struct what_if *q, struct mr_bytes body, const cJSON *page)
{
    size_t at = 0;
    struct mr_bytes item;
    bool any = q->listed > 0;
    while (q->cli->json && mr_json_next_item(body, "events", &at, &item)) {
        fprintf(q->cli->out, "%s%.*s", any ? "," : "", (int)item.size, (const char *)item.data);
        any = true;
    }
    const cJSON *event;
    cJSON_ArrayForEach(event, cJSON_GetObjectItemCaseSensitive(page, "events"))
    {
        if (!q->cli->json) {
            print_event(q->cli, event);
        }
    }
    q->listed += (uint64_t)mr_json_number(page, "listed");
}

static int ask_page(struct what_if *q)
{
    struct mr_cli *cli = q->cli;
    struct mr_path path;
    struct mr_buf body;
    uint64_t room = q->limit - q->listed;
    mr_path_init(&path, "/api/v1/what-if", NULL, NULL);
    mr_path_query(&path, "filter", cli->argument_count == 0 ? NULL : cli->arguments[0]);
    mr_path_query(&path, "source", mr_cli_value(cli, "source"));
    mr_path_query(&path, "unmatched", mr_cli_flag(cli, "unmatched") ? "true" : NULL);
    mr_path_query_u64(&path, "limit", room < PAGE_MAX ? room : PAGE_MAX);
    if (q->segment == 0) {
        mr_path_query(&path, "last", mr_cli_value(cli, "last"));
    } else {
        mr_path_query(&path, "since", q->since);
        mr_path_query_u64(&path, "segment", q->segment);
    }
    int code = mr_client_get(q->client, &path, &body);
    if (code != MR_EXIT_OK) {
        mr_buf_release(&body);
        return code;
    }
    cJSON *page = cJSON_ParseWithLength((const char *)body.data, body.size);
    if (page == NULL) {
        mr_buf_release(&body);
        return mr_cli_fail(cli, MR_EXIT_FAILED, "the answer makes no sense");
    }
    char number[32];
    if (q->segment == 0) {
        (void)snprintf(q->since, sizeof(q->since), "%s", /* RFC 3339: it fits */
                       mr_json_text(page, "since", number));
        fputs(cli->json ? "{\"events\":[" : "", cli->out);
    }
    clear_bar(q);
    print_events(q, mr_buf_bytes(&body), page);
    q->segment = (uint64_t)mr_json_number(page, "next");
    q->more = q->segment > 0;
    q->pages++;
    q->examined += mr_json_number(page, "examined");
    q->matched += mr_json_number(page, "matched");
    q->unmatched += mr_json_number(page, "unmatched");
    draw_bar(q, mr_json_number(page, "segments_left"));
    cJSON_Delete(page);
    mr_buf_release(&body);
    return MR_EXIT_OK;
}

static void print_counts(const struct what_if *q)
{
    FILE *out = q->cli->out;
    if (q->cli->json) {
        fprintf(out,
                "],\"since\":\"%s\",\"examined\":%.0f,\"matched\":%.0f,\"unmatched\":%.0f,"
                "\"more\":%.0f}\n",
                q->since, q->examined, q->matched, q->unmatched,
                q->matched - (double)q->listed);
        return;
    }
    clear_bar(q);
    if (q->matched > (double)q->listed && q->limit > 0) {
        fprintf(out, "(%.0f more; --limit N lists them)\n", q->matched - (double)q->listed);
    }
    fprintf(out, "%.0f of %.0f events since %s match%s; %.0f were taken by no subscription\n",
            q->matched, q->examined, q->since,
            mr_cli_flag(q->cli, "unmatched") ? " and were taken by none" : "", q->unmatched);
}

int mr_cmd_what_if(struct mr_cli *cli)
{
    struct what_if q = {.cli = cli, .limit = LIMIT_DEFAULT, .more = true};
    const char *limit = mr_cli_value(cli, "limit");
    if (limit != NULL && (!mr_parse_u64(mr_bytes_of(limit), &q.limit) || q.limit > LIMIT_MAX)) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "--limit wants a number up to %u, not \"%s\"",
                           LIMIT_MAX, limit);
    }
    int code = mr_client_open(cli, &q.client);
    if (code != MR_EXIT_OK) {
        return code;
    }
    q.bar = cli->err == stderr && isatty(STDERR_FILENO) == 1 && !cli->json;
    while (code == MR_EXIT_OK && q.more) {
        code = ask_page(&q);
    }
    if (code == MR_EXIT_OK) {
        print_counts(&q);
    }
    mr_client_close(q.client);
    return code;
}
