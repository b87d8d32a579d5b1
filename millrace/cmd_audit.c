/* audit: whether all that came in is accounted for. The instance proves page by page, here they are
 * added up. */
#include <inttypes.h>
#include <string.h>

#include "millrace/client.h"
#include "millrace/table.h"
#include "millrace/verbs.h"

#define GAPS_MAX 100 /* told; all are counted */

const struct mr_cli_option mr_audit_options[] = {
    {"positions", 0, NULL, "also for each position that the source has stored"},
    {.name = NULL},
};

static const char *const states[] = {"done", "dead",    "dropped",   "expired", "lost",
                                     "held", "waiting", "in_flight", "unknown"};
static const char *const sums[] = {"events",  "rejected", "unmatched", "in",      "done",
                                   "dead",    "dropped",  "expired",   "lost",    "held",
                                   "waiting", "in_flight", "unknown",  "lost_events", "gap_count"};

struct audit {
    struct mr_cli *cli;
    cJSON *whole; /* owned: the first answer, with the numbers of the others added */
    struct mr_table table;
    uint64_t after;
    uint64_t segment;
    bool more;
};

static void add_page(struct audit *audit, cJSON *page)
{
    cJSON *gaps = cJSON_GetObjectItemCaseSensitive(audit->whole, "gaps");
    for (size_t i = 0; i < MR_ARRAY_COUNT(sums); i++) {
        cJSON *sum = cJSON_GetObjectItemCaseSensitive(audit->whole, sums[i]);
        if (sum != NULL) {
            cJSON_SetNumberHelper(sum, sum->valuedouble + mr_json_number(page, sums[i]));
        }
    }
    cJSON *last = cJSON_GetObjectItemCaseSensitive(audit->whole, "last_offset");
    if (last != NULL && mr_json_number(page, "last_offset") > 0) {
        cJSON_SetNumberHelper(last, mr_json_number(page, "last_offset"));
    }
    cJSON *more = cJSON_GetObjectItemCaseSensitive(page, "gaps");
    while (gaps != NULL && cJSON_GetArraySize(more) > 0 && cJSON_GetArraySize(gaps) < GAPS_MAX) {
        (void)cJSON_AddItemToArray(gaps, cJSON_DetachItemFromArray(more, 0));
    }
}

static void tell_positions(struct audit *audit, const cJSON *page)
{
    const cJSON *position;
    cJSON_ArrayForEach(position, cJSON_GetObjectItemCaseSensitive(page, "positions"))
    {
        char *cursor = NULL;
        if (audit->cli->json) {
            char *line = cJSON_PrintUnformatted(position);
            fprintf(audit->cli->out, "%s\n", line == NULL ? "{}" : line);
            cJSON_free(line);
            continue;
        }
        char number[32];
        cursor = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(position, "position"));
        mr_table_cell(&audit->table, mr_json_text(position, "last_offset", number));
        mr_table_cell(&audit->table, mr_json_text(position, "events", number));
        mr_table_cell(&audit->table, mr_json_text(position, "in", number));
        for (size_t i = 0; i < MR_ARRAY_COUNT(states); i++) {
            mr_table_cell(&audit->table, mr_json_text(position, states[i], number));
        }
        mr_table_cell(&audit->table, cursor == NULL ? "" : cursor);
        cJSON_free(cursor);
    }
    if (!audit->cli->json && mr_cli_flag(audit->cli, "positions")) {
        mr_table_print(&audit->table, audit->cli);
    }
}

static int ask_page(struct audit *audit, struct mr_client *client)
{
    struct mr_path path;
    struct mr_buf body;
    mr_path_init(&path, "/api/v1/audit/", audit->cli->arguments[0], NULL);
    mr_path_query(&path, "positions", mr_cli_flag(audit->cli, "positions") ? "true" : NULL);
    mr_path_query_u64(&path, "after", audit->after);
    mr_path_query_u64(&path, "segment", audit->segment);
    int code = mr_client_get(client, &path, &body);
    cJSON *page = code == MR_EXIT_OK ? cJSON_ParseWithLength((const char *)body.data, body.size)
                                     : NULL;
    mr_buf_release(&body);
    if (code == MR_EXIT_OK && page == NULL) {
        return mr_cli_fail(audit->cli, MR_EXIT_FAILED, "the answer makes no sense");
    }
    if (code != MR_EXIT_OK) {
        return code;
    }
    tell_positions(audit, page);
    audit->more = mr_json_number(page, "next") > 0;
    audit->after = (uint64_t)mr_json_number(page, "next");
    audit->segment = (uint64_t)mr_json_number(page, "segment");
    if (audit->whole == NULL) {
        audit->whole = page;
        cJSON_DeleteItemFromObjectCaseSensitive(page, "positions");
        cJSON_DeleteItemFromObjectCaseSensitive(page, "next");
        cJSON_DeleteItemFromObjectCaseSensitive(page, "segment");
        return MR_EXIT_OK;
    }
    add_page(audit, page);
    cJSON_Delete(page);
    return MR_EXIT_OK;
}

static void print_gaps(const struct mr_cli *cli, const cJSON *whole)
{
    char number[32];
    const cJSON *gap;
    cJSON_ArrayForEach(gap, cJSON_GetObjectItemCaseSensitive(whole, "gaps"))
    {
        fputs("gap at offset ", cli->out);
        fputs(mr_json_text(gap, "offset", number), cli->out);
        if (mr_json_number(gap, "last_offset") > mr_json_number(gap, "offset")) {
            fprintf(cli->out, " to %s", mr_json_text(gap, "last_offset", number));
        }
        const char *of = mr_json_text(gap, "subscription", number);
        fputs(of[0] == '\0' ? "" : ", ", cli->out);
        mr_print_clean(cli, of);
        fputs(": ", cli->out);
        mr_print_colour(cli, MR_COLOUR_RED, mr_json_text(gap, "why", number));
        fputc('\n', cli->out);
    }
}

static void print_whole(const struct mr_cli *cli, const cJSON *whole)
{
    char number[32];
    fprintf(cli->out, "events  %s", mr_json_text(whole, "events", number));
    if (mr_json_number(whole, "events") > 0) {
        fprintf(cli->out, ", offsets %s", mr_json_text(whole, "first_offset", number));
        fprintf(cli->out, " to %s", mr_json_text(whole, "last_offset", number));
    }
    fprintf(cli->out, "; %s rejected", mr_json_text(whole, "rejected", number));
    fprintf(cli->out, ", %s matched nothing", mr_json_text(whole, "unmatched", number));
    if (mr_json_number(whole, "duplicates") > 0) {
        fprintf(cli->out, "\nbeside  %s duplicates since the start, answered with the first offset",
                mr_json_text(whole, "duplicates", number));
    }
    fprintf(cli->out, "\nin      %s = ", mr_json_text(whole, "in", number));
    for (size_t i = 0; i < MR_ARRAY_COUNT(states); i++) {
        bool in_flight = strcmp(states[i], "in_flight") == 0;
        if (strcmp(states[i], "unknown") == 0 && mr_json_number(whole, states[i]) == 0) {
            continue;
        }
        fprintf(cli->out, "%s%s %s", i == 0 ? "" : " + ", mr_json_text(whole, states[i], number),
                in_flight ? "in flight" : states[i]);
    }
    fputc('\n', cli->out);
    if (mr_json_number(whole, "lost_events") > 0) {
        fprintf(cli->out, "lost    %s offsets that the log names lost, of any source\n",
                mr_json_text(whole, "lost_events", number));
    }
    print_gaps(cli, whole);
    fputs("gaps    ", cli->out);
    bool any = mr_json_number(whole, "gap_count") > 0;
    mr_print_colour(cli, any ? MR_COLOUR_RED : MR_COLOUR_GREEN,
                    any ? mr_json_text(whole, "gap_count", number) : "none");
    fputc('\n', cli->out);
}

int mr_cmd_audit(struct mr_cli *cli)
{
    static const char *const head[] = {"LAST OFFSET", "EVENTS",  "IN",        "DONE", "DEAD",
                                       "DROPPED",     "EXPIRED", "LOST",      "HELD", "WAITING",
                                       "IN FLIGHT",   "UNKNOWN", "POSITION", NULL};
    struct audit audit = {.cli = cli, .more = true};
    struct mr_client *client;
    int code = mr_client_open(cli, &client);
    if (code != MR_EXIT_OK) {
        return code;
    }
    mr_table_init(&audit.table, head);
    while (code == MR_EXIT_OK && audit.more) {
        code = ask_page(&audit, client);
    }
    if (code == MR_EXIT_OK && cli->json) {
        char *text = cJSON_PrintUnformatted(audit.whole);
        fprintf(cli->out, "%s\n", text == NULL ? "{}" : text);
        cJSON_free(text);
    } else if (code == MR_EXIT_OK) {
        print_whole(cli, audit.whole);
    }
    if (code == MR_EXIT_OK && mr_json_number(audit.whole, "gap_count") > 0) {
        code = MR_EXIT_FAILED;
    }
    cJSON_Delete(audit.whole);
    mr_table_release(&audit.table);
    mr_client_close(client);
    return code;
}
