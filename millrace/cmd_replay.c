/* replay: past events to a subscription again. The instance puts in one page at a time and
 * remembers nothing; the pace is here, and so is the place: an interrupted replay says how to go
 * on. */
#include <inttypes.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "millrace/client.h"
#include "millrace/table.h"
#include "millrace/verbs.h"

#define PAGE_MAX 1000u
#define WAIT_NS (10 * MR_MS)

const struct mr_cli_option mr_replay_options[] = {
    {"last", 0, "DURATION", "how far to go back"},
    {"since", 0, "TIME", "instead: the time to begin at, as in 2026-01-05T10:00:00Z"},
    {"until", 0, "TIME", "the time to end before"},
    {"after", 0, "OFFSET", "only behind this event, as an interrupted replay says"},
    {"before", 0, "OFFSET", "only before this event (the end of the log)"},
    {"source", 0, "NAME", "only events of this source"},
    {"rate", 0, "RATE", "at most so many, as in 100/s"},
    {"limit", 'n', "N", "at most N"},
    {"dry-run", 0, NULL, "only count"},
    {.name = NULL},
};

struct replay {
    struct mr_cli *cli;
    struct mr_client *client;
    struct mr_rate rate;
    uint64_t begun_ns;
    uint64_t left; /* events that may still be put in */
    uint64_t replayed;
    double examined;
    double pages; /* segments */
    char since[64]; /* as the first page says: the same for all */
    uint64_t after;
    uint64_t before; /* 0: as the first page says */
    uint64_t segment;
    bool first;
    bool more; /* of the log */
    bool bar; /* how far it is stands on the terminal */
};

static volatile sig_atomic_t interrupted;

static void take_signal(int number)
{
    (void)number;
    interrupted = 1;
}

static void clear_bar(const struct replay *q)
{
    if (q->bar) {
        fputs("\r\033[K", q->cli->err);
    }
}

static void take_page(struct replay *q, const cJSON *page)
{
    char number[32];
    uint64_t segment = (uint64_t)mr_json_number(page, "next");
    uint64_t replayed = (uint64_t)mr_json_number(page, "replayed");
    double segments_left = mr_json_number(page, "segments_left");
    if (q->first) {
        (void)snprintf(q->since, sizeof(q->since), "%s", /* RFC 3339: it fits */
                       mr_json_text(page, "since", number));
        q->first = false;
    }
    q->pages += segment != q->segment;
    q->segment = segment;
    q->after = (uint64_t)mr_json_number(page, "after");
    q->before = (uint64_t)mr_json_number(page, "before");
    q->examined += mr_json_number(page, "examined");
    q->replayed += replayed;
    q->left -= replayed < q->left ? replayed : q->left;
    q->more = segment > 0;
    if (q->bar) {
        fprintf(q->cli->err, "\r\033[K%.0f%%  %" PRIu64 " of %.0f events, up to offset %" PRIu64,
                100 * q->pages / (q->pages + segments_left), q->replayed, q->examined, q->after);
        (void)fflush(q->cli->err); /* a bar that lags is no error */
    }
}

static int ask_page(struct replay *q, uint64_t limit)
{
    static const char *const passed[] = {"until", "source"};
    struct mr_cli *cli = q->cli;
    struct mr_path path;
    struct mr_buf body;
    mr_path_init(&path, "/api/v1/subscriptions/", cli->arguments[0], "/replay");
    mr_path_query(&path, "filter", cli->argument_count < 2 ? NULL : cli->arguments[1]);
    for (size_t i = 0; i < MR_ARRAY_COUNT(passed); i++) {
        mr_path_query(&path, passed[i], mr_cli_value(cli, passed[i]));
    }
    mr_path_query(&path, "dry_run", mr_cli_flag(cli, "dry-run") ? "true" : NULL);
    mr_path_query(&path, "last", q->first ? mr_cli_value(cli, "last") : NULL);
    mr_path_query(&path, "since", q->first ? mr_cli_value(cli, "since") : q->since);
    mr_path_query_u64(&path, "after", q->after);
    mr_path_query_u64(&path, "limit", limit);
    if (q->before > 0) {
        mr_path_query_u64(&path, "before", q->before);
    }
    if (!q->first) {
        mr_path_query_u64(&path, "segment", q->segment);
    }
    int code = mr_client_post(q->client, &path, "application/json", MR_BYTES_LITERAL("{}"), &body);
    if (code == MR_EXIT_OK) {
        cJSON *page = cJSON_ParseWithLength((const char *)body.data, body.size);
        take_page(q, page);
        cJSON_Delete(page);
    }
    mr_buf_release(&body);
    return code;
}

/* How many the rate lets go now: those of half a second together, because each page reads its
 * segment from the start. */
static uint64_t rate_room(const struct replay *q)
{
    uint64_t most = q->left < PAGE_MAX ? q->left : PAGE_MAX;
    if (q->rate.count == 0) {
        return most;
    }
    double due = mr_rate_due(&q->rate, q->begun_ns, q->replayed);
    double least = (double)q->rate.count / (double)q->rate.per_ns * (double)MR_SECOND / 2;
    least = least < 1 ? 1 : least < (double)most ? least : (double)most;
    return due < least ? 0 : due < (double)most ? (uint64_t)due : most;
}

static int run(struct replay *q)
{
    const struct timespec wait = {.tv_nsec = WAIT_NS};
    int code = MR_EXIT_OK;
    q->begun_ns = mr_clock_mono_ns();
    while (code == MR_EXIT_OK && q->more && q->left > 0 && !interrupted) {
        uint64_t room = rate_room(q);
        if (room == 0) {
            (void)nanosleep(&wait, NULL); /* a signal ends it earlier */
        } else {
            code = ask_page(q, room);
        }
    }
    return code;
}

static int conclude(const struct replay *q, int code)
{
    const struct mr_cli *cli = q->cli;
    bool dry_run = mr_cli_flag(cli, "dry-run");
    clear_bar(q);
    if (q->first) {
        return code;
    }
    if (cli->json) {
        fprintf(cli->out,
                "{\"dry_run\":%s,\"replayed\":%" PRIu64 ",\"examined\":%.0f,\"after\":%" PRIu64
                ",\"before\":%" PRIu64 ",\"more\":%s}\n",
                dry_run ? "true" : "false", q->replayed, q->examined, q->after, q->before,
                q->more ? "true" : "false");
    } else {
        fprintf(cli->out, "%" PRIu64 " of %.0f events since %s %s\n", q->replayed, q->examined,
                q->since, dry_run ? "would be replayed" : "are replayed");
    }
    if (q->more) {
        fprintf(cli->err, "there is more of the log: go on with --since %s --after %" PRIu64 "\n",
                q->since, q->after);
    }
    return interrupted && code == MR_EXIT_OK ? MR_EXIT_FAILED : code;
}

static int read_options(struct replay *q)
{
    struct mr_cli *cli = q->cli;
    static const char *const names[] = {"after", "before", "limit"};
    uint64_t *const values[] = {&q->after, &q->before, &q->left};
    if (mr_cli_value(cli, "last") == NULL && mr_cli_value(cli, "since") == NULL) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "say with --last or --since how far to go back");
    }
    int code = mr_cli_rate(cli, &q->rate);
    for (size_t i = 0; i < MR_ARRAY_COUNT(names) && code == MR_EXIT_OK; i++) {
        code = mr_cli_number(cli, names[i], values[i]);
    }
    return code;
}

int mr_cmd_replay(struct mr_cli *cli)
{
    struct replay q = {.cli = cli, .left = UINT64_MAX, .first = true, .more = true};
    int code = read_options(&q);
    if (code == MR_EXIT_OK) {
        code = mr_client_open(cli, &q.client);
    }
    if (code != MR_EXIT_OK) {
        return code;
    }
    q.bar = cli->err == stderr && isatty(STDERR_FILENO) == 1 && !cli->json;
    struct sigaction action = {.sa_handler = take_signal};
    interrupted = 0;
    (void)sigaction(SIGINT, &action, NULL); /* cannot fail: a known signal */
    code = conclude(&q, run(&q));
    mr_client_close(q.client);
    return code;
}
