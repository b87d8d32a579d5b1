/* What `log verify` says of the checkpoints. */
#include <inttypes.h>
#include <stdio.h>

#include "bus/checkpoint_verify.h"
#include "millrace/verbs.h"

struct telling {
    const struct mr_cli *cli;
};

static void tell_finding(void *context, const struct mr_slot_finding *finding)
{
    const struct mr_cli *cli = ((const struct telling *)context)->cli;
    bool is_chunk = finding->section == NULL;
    if (cli->json) {
        fprintf(cli->out, "{\"damage\":\"checkpoint\",\"file\":\"%s\",\"%s\":%" PRIu32,
                finding->file, is_chunk ? "chunk" : "number", finding->number);
        if (!is_chunk) {
            fprintf(cli->out, ",\"section\":\"%s\",\"from\":\"%s\"", finding->section,
                    finding->from_other ? "checkpoint" : "log");
        }
        fprintf(cli->out, ",\"lost\":false}\n");
        return;
    }
    if (is_chunk) {
        fprintf(cli->out, "%s: chunk %" PRIu32 " is damaged\n", finding->file, finding->number);
        return;
    }
    fprintf(cli->out,
            "%s: the section %s %" PRIu32 " is damaged: nothing is lost, the next start %s\n",
            finding->file, finding->section, finding->number,
            finding->from_other ? "takes it from the other checkpoint and the log behind that"
                                : "makes it from the log");
}

/* One as a whole. */
static void tell_slot(const struct mr_cli *cli, const struct mr_slot_report *slot,
                      const struct mr_slot_report *other)
{
    bool is_later = slot->state == MR_SLOT_LATER;
    bool is_useless = slot->state == MR_SLOT_USELESS;
    if (cli->json && (is_later || is_useless)) {
        fprintf(cli->out, "{\"damage\":\"%s\",\"file\":\"%s\",\"lost\":false}\n",
                is_later ? "later_version" : "checkpoint", slot->file);
    } else if (cli->json) {
        return;
    } else if (is_later) {
        fprintf(cli->out, "%s was written by a later version of Millrace: run that version\n",
                slot->file);
    } else if (is_useless) {
        fprintf(cli->out, "%s is damaged, nothing of it can be used: nothing is lost, the next "
                          "start takes %s\n",
                slot->file, other->counts ? other->file : "the log from its beginning");
    } else if (slot->state == MR_SLOT_DAMAGED && !slot->counts) {
        fprintf(cli->out, "%s is damaged: nothing is lost, the next start takes %s, which is "
                          "newer\n",
                slot->file, other->file);
    }
}

enum mr_status mr_cmd_log_slots(const struct mr_cli *cli, struct mr_io *io, uint64_t log_id,
                                struct mr_log_slots *ret_counts)
{
    struct mr_slot_report slots[2];
    struct telling telling = {.cli = cli};
    enum mr_status r = mr_slots_verify(io, log_id, slots, tell_finding, &telling);
    *ret_counts = (struct mr_log_slots){0};
    for (unsigned i = 0; r == MR_OK && i < 2; i++) {
        tell_slot(cli, &slots[i], &slots[1 - i]);
        ret_counts->whole += slots[i].state == MR_SLOT_WHOLE;
        ret_counts->unfinished += slots[i].state == MR_SLOT_UNFINISHED;
        ret_counts->damaged +=
            slots[i].state == MR_SLOT_DAMAGED || slots[i].state == MR_SLOT_USELESS;
        ret_counts->later += slots[i].state == MR_SLOT_LATER;
    }
    return r;
}
