/* What `log verify` says of survivor files. */
#include <inttypes.h>
#include <stdio.h>

#include "millrace/verbs.h"

struct telling {
    const struct mr_cli *cli;
    struct mr_log_keeps *counts;
};

static void tell_json(const struct mr_cli *cli, const struct mr_keep_finding *finding)
{
    static const char *const texts[] = {
        [MR_KEEP_HEADER] = "header",
        [MR_KEEP_HEADLESS] = "header",
        [MR_KEEP_BITS] = "bit",
        [MR_KEEP_ROTTEN] = "rotten",
    };
    bool is_lost = finding->damage == MR_KEEP_HEADLESS || finding->damage == MR_KEEP_ROTTEN;
    fprintf(cli->out, "{\"damage\":\"%s\",\"segment\":\"%s\",\"at\":%" PRIu64 ",",
            texts[finding->damage], finding->file, finding->at);
    if (finding->damage == MR_KEEP_BITS) {
        fprintf(cli->out, "\"bits\":%" PRIu32 ",", finding->count);
    } else if (finding->damage == MR_KEEP_ROTTEN) {
        fprintf(cli->out, "\"bad_records\":%" PRIu32 ",", finding->count);
    }
    fprintf(cli->out, "\"lost\":%s}\n", is_lost ? "true" : "false");
}

static void tell_text(const struct mr_cli *cli, const struct mr_keep_finding *finding)
{
    fprintf(cli->out, "damaged: %s", finding->file);
    switch (finding->damage) {
    case MR_KEEP_HEADER:
        fputs(": its header is unreadable; nothing is lost, `millrace log repair` writes it anew\n",
              cli->out);
        break;
    case MR_KEEP_HEADLESS:
        fputs(": its header is unreadable and so is its first group: each record behind that is "
              "read by itself\n",
              cli->out);
        break;
    case MR_KEEP_BITS:
        fprintf(cli->out,
                ", the group at byte %" PRIu64 ": %" PRIu32 " wrong bits in headers; nothing is "
                "lost, they are put right when it is read\n",
                finding->at, finding->count);
        break;
    case MR_KEEP_ROTTEN:
    case MR_KEEP_DAMAGE_MAX:
    default:
        fprintf(cli->out, " at byte %" PRIu64 ": ", finding->at);
        if (finding->count > 0) {
            fprintf(cli->out, "%" PRIu32 " unreadable records\n", finding->count);
        } else {
            fputs("unreadable, and something in it is needed\n", cli->out);
        }
        break;
    }
}

static void tell_finding(void *context, const struct mr_keep_finding *finding)
{
    const struct telling *telling = context;
    struct mr_log_keeps *counts = telling->counts;
    counts->headers +=
        finding->damage == MR_KEEP_HEADER || finding->damage == MR_KEEP_HEADLESS;
    counts->wrong_bits += finding->damage == MR_KEEP_BITS ? finding->count : 0;
    counts->rotten += finding->damage == MR_KEEP_ROTTEN;
    if (telling->cli->json) {
        tell_json(telling->cli, finding);
    } else {
        tell_text(telling->cli, finding);
    }
}

enum mr_status mr_cmd_log_keeps(const struct mr_cli *cli, struct mr_keeps *keeps, uint64_t log_id,
                                struct mr_log_keeps *ret_counts)
{
    struct telling telling = {.cli = cli, .counts = ret_counts};
    *ret_counts = (struct mr_log_keeps){0};
    return mr_keeps_verify(keeps, log_id, tell_finding, &telling, &ret_counts->records);
}
