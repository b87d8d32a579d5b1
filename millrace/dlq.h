/* What the verbs of dead letters share: the options that pick letters, and the pages of an answer.
 * For cmd_dlq.c and cmd_redrive.c. */
#ifndef MR_MILLRACE_DLQ_H
#define MR_MILLRACE_DLQ_H

#include "millrace/client.h"

#define MR_DLQ_PICK_OPTIONS                                                                        \
    {"error", 0, "TEXT", "whose last error or reason has TEXT in it"},                            \
        {"class", 0, "CLASS",                                                                     \
         "that failed so: dead, retry, timeout, crash, refused, rejected, rule"},                 \
        {"group", 0, "N", "of the group that `dlq groups` calls N"},                              \
        {"attempts", 0, "N", "that had N attempts"},                                              \
        {"filter", 0, "JSON", "whose event the filter matches, its data among it"},               \
        {"since", 0, "DURATION", "that died within, as in 1h"},                                   \
    {                                                                                              \
        "until", 0, "DURATION", "that died longer ago than"                                       \
    }
#define MR_DLQ_LIMIT_OPTION                                                                        \
    {                                                                                              \
        "limit", 0, "N", "at most N of them, in the order they came"                              \
    }

/** The options above, as the query of @p path. */
void mr_dlq_add_picks(const struct mr_cli *cli, struct mr_path *path);
/** Where the page behind @p answer begins. @return false: there is none */
bool mr_dlq_next_page(const cJSON *answer, uint64_t *after);
/** How many letters the options pick: all are looked at. @return an exit code */
int mr_dlq_count(struct mr_cli *cli, struct mr_client *client, uint64_t *ret_count);

#endif
