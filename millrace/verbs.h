/* The functions behind the verbs; one file for each group. */
#ifndef MR_MILLRACE_VERBS_H
#define MR_MILLRACE_VERBS_H

#include "bus/keep_verify.h"
#include "core/io.h"
#include "millrace/cli.h"

int mr_cmd_run(struct mr_cli *cli);
int mr_cmd_check(struct mr_cli *cli);
int mr_cmd_new(struct mr_cli *cli);
int mr_cmd_send(struct mr_cli *cli);
int mr_cmd_invoke(struct mr_cli *cli);
int mr_cmd_tail(struct mr_cli *cli);
int mr_cmd_trace(struct mr_cli *cli);
int mr_cmd_why(struct mr_cli *cli);
int mr_cmd_what_if(struct mr_cli *cli);
int mr_cmd_replay(struct mr_cli *cli);
int mr_cmd_explain(struct mr_cli *cli);
int mr_cmd_delivery_list(struct mr_cli *cli);
int mr_cmd_delivery_resume(struct mr_cli *cli);
int mr_cmd_delivery_edit(struct mr_cli *cli);
int mr_cmd_delivery_skip(struct mr_cli *cli);
int mr_cmd_cancel(struct mr_cli *cli);
int mr_cmd_audit(struct mr_cli *cli);
int mr_cmd_dlq_list(struct mr_cli *cli);
int mr_cmd_dlq_show(struct mr_cli *cli);
int mr_cmd_dlq_groups(struct mr_cli *cli);
int mr_cmd_dlq_redrive(struct mr_cli *cli);
int mr_cmd_dlq_purge(struct mr_cli *cli);
int mr_cmd_dlq_edit(struct mr_cli *cli);
/* Reads an event from the input; 65 when it is none, else what @p send says. */
int mr_cmd_edit(struct mr_cli *cli, int (*send)(struct mr_cli *cli, struct mr_bytes event));
int mr_cmd_sub_list(struct mr_cli *cli);
int mr_cmd_sub_show(struct mr_cli *cli);
int mr_cmd_sub_pause(struct mr_cli *cli);
int mr_cmd_sub_resume(struct mr_cli *cli);
int mr_cmd_source_list(struct mr_cli *cli);
int mr_cmd_source_show(struct mr_cli *cli);
int mr_cmd_source_pause(struct mr_cli *cli);
int mr_cmd_source_resume(struct mr_cli *cli);
int mr_cmd_worker_list(struct mr_cli *cli);
int mr_cmd_worker_show(struct mr_cli *cli);
int mr_cmd_usage(struct mr_cli *cli);
int mr_cmd_status(struct mr_cli *cli);
int mr_cmd_reload(struct mr_cli *cli);
int mr_cmd_clock_accept(struct mr_cli *cli);
int mr_cmd_log_verify(struct mr_cli *cli);
int mr_cmd_log_dump(struct mr_cli *cli);
int mr_cmd_log_repair(struct mr_cli *cli);
/* The folder a log lies in: @p given, or `log` below it; NULL: no memory. The caller frees. */
char *mr_cmd_log_folder(const char *given);
/* Slots of checkpoints. */
struct mr_log_slots {
    uint32_t whole;
    uint32_t unfinished;
    uint32_t damaged;
    uint32_t later; /* of a later version */
};
/* Says what of them is damaged. @param log_id 0: any @return MR_E_NOMEM */
enum mr_status mr_cmd_log_slots(const struct mr_cli *cli, struct mr_io *io, uint64_t log_id,
                                struct mr_log_slots *ret_counts);
/* Survivor files. */
struct mr_log_keeps {
    uint64_t records;    /* in them */
    uint64_t wrong_bits; /* that lose nothing */
    uint32_t headers;    /* unreadable */
    uint32_t rotten;     /* places */
};
/* Says what of them is damaged. @param log_id 0: any @return as mr_keeps_verify() */
enum mr_status mr_cmd_log_keeps(const struct mr_cli *cli, struct mr_keeps *keeps, uint64_t log_id,
                                struct mr_log_keeps *ret_counts);
int mr_cmd_normalise(struct mr_cli *cli);
int mr_cmd_filter_eval(struct mr_cli *cli);
int mr_cmd_filter_test(struct mr_cli *cli);
int mr_cmd_version(struct mr_cli *cli);
int mr_cmd_completion(struct mr_cli *cli);

extern const struct mr_cli_option mr_run_options[];
extern const struct mr_cli_option mr_check_options[];
extern const struct mr_cli_option mr_send_options[];
extern const struct mr_cli_option mr_invoke_options[];
extern const struct mr_cli_option mr_tail_options[];
extern const struct mr_cli_option mr_delivery_list_options[];
extern const struct mr_cli_option mr_delivery_act_options[];
extern const struct mr_cli_option mr_what_if_options[];
extern const struct mr_cli_option mr_replay_options[];
extern const struct mr_cli_option mr_audit_options[];
extern const struct mr_cli_option mr_dlq_list_options[];
extern const struct mr_cli_option mr_dlq_groups_options[];
extern const struct mr_cli_option mr_dlq_redrive_options[];
extern const struct mr_cli_option mr_dlq_purge_options[];
extern const struct mr_cli_option mr_log_repair_options[];
extern const struct mr_cli_option mr_reload_options[];
extern const struct mr_cli_option mr_normalise_options[];
extern const struct mr_cli_option mr_filter_eval_options[];
extern const struct mr_cli_option mr_filter_test_options[];

#endif
