/* log verify and log dump: a log folder read offline, or beside a running instance. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "admin/json_out.h"
#include "bus/footer_ids.h"
#include "bus/logread.h"
#include "bus/missing.h"
#include "core/alloc.h"
#include "millrace/verbs.h"
#include "schemas/event.h"

struct log {
    struct mr_io *io;
    struct mr_log_index index;
    struct mr_log_reader *reader;
    struct mr_keeps *keeps;
};

static void close_log(struct log *log)
{
    mr_keeps_destroy(log->keeps);
    mr_log_reader_destroy(log->reader);
    mr_log_index_release(&log->index);
    if (log->io != NULL) {
        log->io->ops->destroy(log->io);
    }
}

char *mr_cmd_log_folder(const char *given)
{
    struct mr_buf inner;
    mr_buf_init(&inner, 16 * MR_KIB);
    char *below = mr_buf_printf(&inner, "%s/log", given) == MR_OK ? mr_buf_take_text(&inner) : NULL;
    mr_buf_release(&inner);
    struct stat info;
    if (below != NULL && (stat(below, &info) != 0 || !S_ISDIR(info.st_mode))) {
        mr_free(below);
        below = mr_strndup(given, strlen(given));
    }
    return below;
}

static int open_log(struct mr_cli *cli, struct log *log)
{
    const char *given = cli->arguments[0];
    char *folder = mr_cmd_log_folder(given);
    struct mr_problem problem = {.text = ""};
    enum mr_status r =
        folder == NULL ? MR_E_NOMEM : mr_io_create(folder, false, false, &log->io);
    if (r == MR_OK) {
        r = mr_log_index(log->io, &log->index, &problem);
    }
    if (r == MR_OK && log->index.segment_count == 0) {
        r = MR_E_NOT_FOUND;
    }
    r = r == MR_OK ? mr_missing_heed(log->io, &log->index) : r;
    if (r == MR_OK) {
        r = mr_log_reader_create(log->io, &log->index, 0, 0, 0, 0, &log->reader);
    }
    r = r == MR_OK ? mr_keeps_create(log->io, &log->index, &log->keeps) : r;
    int code = MR_EXIT_OK;
    if (r == MR_E_NOT_FOUND) {
        code = mr_cli_fail(cli, MR_EXIT_NOTHING, "there is no log in %s", given);
    } else if (r != MR_OK) {
        code = mr_cli_fail_status(cli, MR_EXIT_FAILED, r, &problem);
    }
    mr_free(folder);
    if (code != MR_EXIT_OK) {
        close_log(log);
    }
    return code;
}

static void print_line(const struct mr_cli *cli, struct mr_json_out *out)
{
    if (out->status == MR_OK) {
        (void)fwrite(out->buf.data, 1, out->buf.size, cli->out); /* told by the flush at the end */
        fputc('\n', cli->out);
    }
    mr_json_out_release(out);
}

/* --- verify ----------------------------------------------------------------------------------- */

struct verdict {
    uint64_t groups;
    uint64_t records;
    uint64_t events;
    uint64_t first_offset;
    uint64_t last_offset;
    uint64_t rotten;
    uint64_t lost_events;
    uint64_t last_segment; /* in which a good group stands */
    uint64_t log_id;
    const char *end;       /* "clean", "torn", "unsynced" */
    uint64_t bad_segments;
    uint64_t mended; /* wrong bits that lose nothing */
    uint64_t footers;
    uint64_t footers_missing;
    uint64_t footers_damaged; /* with files of ids */
    uint64_t survivors; /* records in survivor files */
    struct mr_log_slots slots;
};

static const char *decision_text(enum mr_recovery decision)
{
    switch (decision) {
    case MR_RECOVERY_END:
        return "clean";
    case MR_RECOVERY_CUT_TORN:
        return "torn";
    case MR_RECOVERY_CUT_UNSYNCED:
        return "unsynced";
    case MR_RECOVERY_ROTTEN:
        return "rotten";
    case MR_RECOVERY_TAKE:
    case MR_RECOVERY_MAX:
    default:
        return "whole";
    }
}

static void tell_footer(const struct mr_cli *cli, struct verdict *verdict, const char *name,
                        enum mr_status status)
{
    verdict->footers += status == MR_OK;
    verdict->footers_missing += status == MR_E_NOT_FOUND;
    if (status == MR_OK || status == MR_E_NOT_FOUND) {
        return;
    }
    verdict->footers_damaged++;
    if (cli->json) {
        fprintf(cli->out, "{\"damage\":\"footer\",\"file\":\"%s\",\"lost\":false}\n", name);
    } else {
        fprintf(cli->out, "%s is damaged: nothing is lost, the next start makes it again\n", name);
    }
}

/* The footer of a segment that groups were read from, and that is not written to any more. */
static void look_at_footer(const struct mr_cli *cli, const struct log *log,
                           struct verdict *verdict, uint64_t number)
{
    for (uint32_t i = 0; i < log->index.segment_count; i++) {
        const struct mr_log_segment *segment = &log->index.segments[i];
        if (segment->number == number && segment->usable) {
            char name[MR_LOG_NAME_SIZE];
            mr_footer_name(number, name);
            tell_footer(cli, verdict, name,
                        mr_footer_check(log->io, number, segment->header.salt, NULL));
            verdict->log_id = segment->salvaged ? verdict->log_id : segment->header.log_id;
        }
    }
}

static void look_at_ids(const struct mr_cli *cli, const struct log *log, struct verdict *verdict)
{
    for (uint32_t i = 0; i < log->index.ids_count && verdict->log_id != 0; i++) {
        char name[MR_LOG_NAME_SIZE];
        uint64_t covered;
        mr_footer_ids_name(log->index.ids[i], name);
        enum mr_status r =
            mr_footer_ids_check(log->io, log->index.ids[i], verdict->log_id, &covered);
        if (r != MR_OK) {
            tell_footer(cli, verdict, name, r);
        }
    }
}

/* Headers that one wrong bit has spoilt. */
static void tell_mended(const struct mr_cli *cli, const struct mr_log_group *group)
{
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(mr_position_segment(group->position), name);
    if (cli->json) {
        fprintf(cli->out,
                "{\"damage\":\"bit\",\"segment\":\"%s\",\"at\":%" PRIu64 ",\"bits\":%u,"
                "\"lost\":false}\n",
                name, mr_position_at(group->position), group->mended);
    } else {
        fprintf(cli->out,
                "damaged: %s, the group at byte %" PRIu64 ": %u wrong bits in headers; nothing is "
                "lost, they are put right when it is read\n",
                name, mr_position_at(group->position), group->mended);
    }
}

static void count_group(const struct mr_cli *cli, const struct log *log, struct verdict *verdict,
                        const struct mr_log_group *group)
{
    verdict->groups++;
    verdict->mended += group->mended;
    if (group->mended > 0) {
        tell_mended(cli, group);
    }
    if (verdict->last_segment != mr_position_segment(group->position)) {
        look_at_footer(cli, log, verdict, verdict->last_segment);
    }
    verdict->last_segment = mr_position_segment(group->position);
    uint32_t at = 0;
    uint64_t position;
    struct mr_record record;
    while (mr_log_next_record(group, &at, &position, &record)) {
        verdict->records++;
        mr_keeps_note(log->keeps, &record);
        if (record.kind == MR_RECORD_EVENT) {
            verdict->events++;
            verdict->last_offset = record.offset;
            verdict->first_offset = verdict->first_offset == 0 ? record.offset
                                                               : verdict->first_offset;
        }
    }
}

static void tell_rotten(const struct mr_cli *cli, const struct mr_log_group *group)
{
    uint64_t lost = group->lost_end - group->lost_first;
    char name[MR_LOG_NAME_SIZE];
    mr_segment_name(mr_position_segment(group->position), name);
    if (cli->json) {
        struct mr_json_out out;
        mr_json_out_init(&out, MR_KIB);
        mr_json_out_object(&out, NULL);
        mr_json_out_text(&out, "damage", "rotten");
        mr_json_out_text(&out, "segment", name);
        mr_json_out_u64(&out, "at", mr_position_at(group->position));
        mr_json_out_u64(&out, "bad_records", group->bad_records);
        mr_json_out_u64(&out, "lost_first", group->lost_first);
        mr_json_out_u64(&out, "lost_end", group->lost_end);
        mr_json_out_end(&out);
        print_line(cli, &out);
        return;
    }
    fprintf(cli->out, "damaged: %s at byte %" PRIu64 ": %u unreadable records", name,
            mr_position_at(group->position), group->bad_records);
    if (lost > 0) {
        fprintf(cli->out, ", events %" PRIu64 " to %" PRIu64 " are lost", group->lost_first,
                group->lost_end - 1);
    }
    fputc('\n', cli->out);
}

/* Segments whose header cannot be read are damage, unless they are the newest: one that was being
 * prepared when the machine stopped, and never used. */
static void count_bad_segments(const struct mr_cli *cli, const struct log *log,
                               struct verdict *verdict)
{
    for (uint32_t i = 0; i < log->index.segment_count; i++) {
        const struct mr_log_segment *segment = &log->index.segments[i];
        bool made_good = segment->usable && (segment->salvaged || segment->header.mended);
        bool in_doubt = !segment->usable && !segment->blank &&
                        (segment->number <= verdict->last_segment ||
                         i + 1 < log->index.segment_count);
        if (!made_good && !in_doubt) {
            continue;
        }
        char name[MR_LOG_NAME_SIZE];
        mr_segment_name(segment->number, name);
        verdict->bad_segments++;
        if (cli->json) {
            fprintf(cli->out, "{\"damage\":\"header\",\"segment\":\"%s\",\"lost\":%s}\n", name,
                    in_doubt ? "true" : "false");
        } else if (in_doubt) {
            fprintf(cli->out,
                    "damaged: %s: its header is unreadable and so is its first group: it is left "
                    "alone, what it held is not read\n",
                    name);
        } else {
            fprintf(cli->out,
                    "damaged: %s: its header is unreadable; nothing is lost, `millrace log repair` "
                    "writes it anew\n",
                    name);
        }
    }
}

static enum mr_status look_at_keeps(const struct mr_cli *cli, struct mr_keeps *keeps,
                                    struct verdict *verdict)
{
    struct mr_log_keeps counts;
    enum mr_status r = mr_cmd_log_keeps(cli, keeps, verdict->log_id, &counts);
    verdict->survivors = counts.records;
    verdict->mended += counts.wrong_bits;
    verdict->bad_segments += counts.headers;
    verdict->rotten += counts.rotten;
    return r;
}

struct telling {
    const struct mr_cli *cli;
    struct verdict *verdict;
};

static void tell_missing(void *context, const struct mr_missing *missing)
{
    const struct telling *telling = context;
    telling->verdict->rotten++;
    telling->verdict->lost_events += missing->count;
    fprintf(telling->cli->out,
            telling->cli->json
                ? "{\"damage\":\"missing\",\"file\":%" PRIu64 ",\"needed\":%" PRIu64
                  ",\"lost_first\":%" PRIu64 ",\"lost_end\":%" PRIu64 "}\n"
                : "damaged: file %016" PRIx64 " is missing: %" PRIu64
                  " records in it are needed, of events %" PRIu64 " to %" PRIu64 "\n",
            missing->number, missing->count, missing->first,
            telling->cli->json ? missing->last + 1 : missing->last);
}

static void tell_verdict(const struct mr_cli *cli, const struct log *log,
                         const struct verdict *verdict, bool whole)
{
    if (cli->json) {
        struct mr_json_out out;
        mr_json_out_init(&out, 4 * MR_KIB);
        mr_json_out_object(&out, NULL);
        mr_json_out_bool(&out, "whole", whole);
        mr_json_out_u64(&out, "segments", log->index.segment_count);
        mr_json_out_u64(&out, "survivor_files", log->index.keep_count);
        mr_json_out_u64(&out, "survivors", verdict->survivors);
        mr_json_out_u64(&out, "groups", verdict->groups);
        mr_json_out_u64(&out, "records", verdict->records);
        mr_json_out_u64(&out, "events", verdict->events);
        mr_json_out_u64(&out, "first_offset", verdict->first_offset);
        mr_json_out_u64(&out, "last_offset", verdict->last_offset);
        mr_json_out_text(&out, "end", verdict->end);
        mr_json_out_u64(&out, "rotten_places", verdict->rotten);
        mr_json_out_u64(&out, "bad_segments", verdict->bad_segments);
        mr_json_out_u64(&out, "wrong_bits", verdict->mended);
        mr_json_out_u64(&out, "lost_events", verdict->lost_events);
        mr_json_out_u64(&out, "footers", verdict->footers);
        mr_json_out_u64(&out, "footers_missing", verdict->footers_missing);
        mr_json_out_u64(&out, "footers_damaged", verdict->footers_damaged);
        mr_json_out_u64(&out, "checkpoints", verdict->slots.whole);
        mr_json_out_u64(&out, "checkpoints_unfinished", verdict->slots.unfinished);
        mr_json_out_u64(&out, "checkpoints_damaged", verdict->slots.damaged);
        mr_json_out_end(&out);
        print_line(cli, &out);
        return;
    }
    fprintf(cli->out,
            "%s: %u segments, %" PRIu64 " groups, %" PRIu64 " records, %" PRIu64
            " events (offsets %" PRIu64 " to %" PRIu64 ")\n",
            whole ? "whole" : "damaged", log->index.segment_count, verdict->groups,
            verdict->records, verdict->events, verdict->first_offset, verdict->last_offset);
    if (verdict->footers_missing > 0) {
        fprintf(cli->out, "%" PRIu64 " of the full segments have no footer yet\n",
                verdict->footers_missing);
    }
    if (log->index.keep_count > 0) {
        fprintf(cli->out, "%u survivor files, %" PRIu64 " records\n", log->index.keep_count,
                verdict->survivors);
    }
    if (strcmp(verdict->end, "clean") != 0) {
        fprintf(cli->out, "the end is %s: what was being written was never acknowledged and is cut "
                          "at the next start\n",
                verdict->end);
    }
}

int mr_cmd_log_verify(struct mr_cli *cli)
{
    struct log log = {0};
    int code = open_log(cli, &log);
    if (code != MR_EXIT_OK) {
        return code;
    }
    struct verdict verdict = {.end = "clean"};
    struct mr_log_group group;
    enum mr_status r;
    while ((r = mr_log_reader_next(log.reader, &group)) == MR_OK) {
        if (group.decision == MR_RECOVERY_TAKE || group.decision == MR_RECOVERY_ROTTEN) {
            count_group(cli, &log, &verdict, &group);
        } else {
            verdict.end = decision_text(group.decision);
        }
        if (group.decision == MR_RECOVERY_ROTTEN) {
            verdict.rotten++;
            verdict.lost_events += group.lost_end - group.lost_first;
            tell_rotten(cli, &group);
        }
    }
    r = r == MR_E_NOT_FOUND ? MR_OK : r;
    if (r == MR_OK) {
        count_bad_segments(cli, &log, &verdict);
        look_at_ids(cli, &log, &verdict);
    }
    r = r == MR_OK ? look_at_keeps(cli, log.keeps, &verdict) : r;
    r = r == MR_OK ? mr_cmd_log_slots(cli, log.io, verdict.log_id, &verdict.slots) : r;
    struct telling telling = {.cli = cli, .verdict = &verdict};
    r = r == MR_OK ? mr_missing_tell(log.io, &log.index, tell_missing, &telling) : r;
    if (r != MR_OK) {
        close_log(&log);
        return mr_cli_fail(cli, MR_EXIT_FAILED, "cannot read the log: %s", mr_status_text(r));
    }
    bool whole = verdict.rotten == 0 && verdict.bad_segments == 0 && verdict.mended == 0 &&
                 verdict.slots.later == 0;
    tell_verdict(cli, &log, &verdict, whole);
    close_log(&log);
    return whole ? MR_EXIT_OK : MR_EXIT_FAILED;
}

/* --- dump ------------------------------------------------------------------------------------- */

static void write_result(struct mr_json_out *out, const struct mr_record *record)
{
    struct mr_result result;
    size_t size;
    mr_json_out_u64(out, "subscription_id", record->a);
    mr_json_out_u64(out, "fence", record->b);
    mr_json_out_text(out, "state",
                     record->extra < MR_STATE_MAX ? mr_state_text((enum mr_state)record->extra)
                                                  : NULL);
    mr_json_out_time(out, "started", record->c);
    mr_json_out_time(out, "ended", record->d);
    if (mr_result_decode(record->body, &result, &size) != MR_OK) {
        return;
    }
    mr_json_out_text(out, "verdict",
                     result.verdict < MR_VERDICT_MAX
                         ? mr_verdict_text((enum mr_verdict)result.verdict)
                         : NULL);
    mr_json_out_u64(out, "attempts", result.attempts);
    mr_json_out_u64(out, "refusals", result.refusals);
    mr_json_out_u64(out, "interruptions", result.interruptions);
    mr_json_out_time(out, "due", result.due_ns);
    mr_json_out_bytes_or_null(out, "instance", result.instance);
    mr_json_out_bytes_or_null(out, "error", result.error);
    mr_json_out_bytes_or_null(out, "reason", result.reason);
}

static void write_event(struct mr_json_out *out, const struct mr_record *record)
{
    mr_json_out_i64(out, "source_id", record->a == MR_SOURCE_BUS ? -1 : (int64_t)record->a);
    mr_json_out_time(out, "arrived", record->c);
    if (record->d != 0) {
        mr_json_out_u64(out, "cause_offset", record->d);
        if (record->b != UINT32_MAX) { /* one of the event, not of a delivery of it */
            mr_json_out_u64(out, "cause_subscription_id", record->b);
        }
    }
    mr_json_out_u64(out, "size", record->body.size);
    if (mr_event_check(record->body) == MR_OK) {
        mr_json_out_bytes(out, "id", mr_event_id(record->body));
        mr_json_out_bytes(out, "type", mr_event_type(record->body));
        mr_json_out_bytes(out, "source", mr_event_source(record->body));
    }
}

static void write_matches(struct mr_json_out *out, const struct mr_record *record)
{
    mr_json_out_array(out, "matches");
    for (size_t at = 0; at + MR_MATCH_ENTRY_SIZE <= record->body.size; at += MR_MATCH_ENTRY_SIZE) {
        const uint8_t *entry = record->body.data + at;
        mr_json_out_object(out, NULL);
        mr_json_out_u64(out, "subscription_id", mr_get_u32(entry));
        mr_json_out_bool(out, "begun", (mr_get_u32(entry + 4) & MR_MATCH_BEGUN) != 0);
        if ((mr_get_u32(entry + 4) & MR_MATCH_CANCELS) != 0) {
            mr_json_out_bool(out, "cancels", true);
            mr_json_out_bool(out, "delivered",
                             (mr_get_u32(entry + 4) & MR_MATCH_ONLY_CANCELS) == 0);
        }
        mr_json_out_end(out);
    }
    mr_json_out_end(out);
}

static void write_key(struct mr_json_out *out, const struct mr_record *record)
{
    char key[40];
    (void)snprintf(key, sizeof(key), "%016" PRIx64 "%016" PRIx64, record->d, record->c); /* 32 */
    mr_json_out_u64(out, "source_id", record->a);
    mr_json_out_text(out, "key", key);
    mr_json_out_u64(out, "window_ms", record->b);
}

static void write_fanout(struct mr_json_out *out, const struct mr_record *record)
{
    mr_json_out_u64(out, "fanout_id", record->a);
    mr_json_out_time(out, "until", record->c);
    mr_json_out_array(out, "subscription_ids");
    for (size_t at = 0; at + 4 <= record->body.size; at += 4) {
        mr_json_out_u64(out, NULL, mr_get_u32(record->body.data + at));
    }
    mr_json_out_end(out);
}

static void write_moved(struct mr_json_out *out, const struct mr_record *record)
{
    mr_json_out_array(out, "moved");
    for (size_t at = 0; at + MR_MOVED_ENTRY_SIZE <= record->body.size; at += MR_MOVED_ENTRY_SIZE) {
        const uint8_t *entry = record->body.data + at;
        mr_json_out_object(out, NULL);
        mr_json_out_u64(out, "subscription_id", mr_get_u32(entry));
        mr_json_out_u64(out, "offset", mr_get_u64(entry + 4));
        mr_json_out_u64(out, "from", mr_get_u64(entry + 12));
        mr_json_out_u64(out, "to", mr_get_u64(entry + 20));
        mr_json_out_end(out);
    }
    mr_json_out_end(out);
}

static void write_rest(struct mr_json_out *out, const struct mr_record *record)
{
    static const char *const names[] = {"subscription", "source", "target", "fanout"};
    switch (record->kind) {
    case MR_RECORD_ATTEMPT:
        mr_json_out_u64(out, "subscription_id", record->a);
        mr_json_out_u64(out, "fence", record->b);
        mr_json_out_u64(out, "attempt", record->extra);
        break;
    case MR_RECORD_REDRIVE:
    case MR_RECORD_PURGE:
        mr_json_out_u64(out, "subscription_id", record->a);
        break;
    case MR_RECORD_PAUSE:
    case MR_RECORD_REMOVED:
        mr_json_out_u64(out, "subscription_id", record->a);
        mr_json_out_u64(out, "value", record->b);
        break;
    case MR_RECORD_CURSOR:
        mr_json_out_u64(out, "source_id", record->a);
        mr_json_out_bytes(out, "cursor", record->body);
        break;
    case MR_RECORD_CONFIG:
    case MR_RECORD_OPERATOR:
        mr_json_out_bytes(out, record->kind == MR_RECORD_CONFIG ? "config" : "action",
                          record->body);
        break;
    case MR_RECORD_NAME:
        mr_json_out_u64(out, "id", record->a);
        mr_json_out_text(out, "of", record->b < MR_ARRAY_COUNT(names) ? names[record->b] : NULL);
        mr_json_out_bytes(out, "name", record->body);
        break;
    case MR_RECORD_KEY:
        write_key(out, record);
        break;
    case MR_RECORD_FANOUT:
        write_fanout(out, record);
        break;
    case MR_RECORD_JOINED:
        mr_json_out_u64(out, "fanout_id", record->a);
        break;
    case MR_RECORD_WEIGHT:
        mr_json_out_u64(out, "subscription_id", record->a);
        mr_json_out_u64(out, "target_id", record->b);
        mr_json_out_bool(out, "returned", record->c != 0);
        break;
    case MR_RECORD_MOVED:
        write_moved(out, record);
        break;
    case MR_RECORD_EDIT:
        mr_json_out_u64(out, "subscription_id", record->a);
        mr_json_out_u64(out, "event_offset", record->c);
        break;
    case MR_RECORD_RESULT:
        mr_json_out_u64(out, "subscription_id", record->a);
        mr_json_out_u64(out, "fence", record->b);
        mr_json_out_raw(out, "result", record->body);
        break;
    case MR_RECORD_LOST:
        mr_json_out_u64(out, "first_offset", record->c);
        mr_json_out_u64(out, "end_offset", record->d);
        break;
    case MR_RECORD_CLOCK:
        mr_json_out_bool(out, "frozen", record->a != 0);
        break;
    default:
        break;
    }
}

static void dump_record(const struct mr_cli *cli, const struct mr_log_group *group,
                        uint64_t position, const struct mr_record *record)
{
    struct mr_json_out out;
    mr_json_out_init(&out, 8 * MR_SEGMENT_SIZE_MAX);
    mr_json_out_object(&out, NULL);
    mr_json_out_text(&out, "kind", mr_record_kind_text(record->kind));
    mr_json_out_u64(&out, "position", position);
    mr_json_out_u64(&out, "sequence", group->header.sequence);
    mr_json_out_time(&out, "time", group->header.wall_ns);
    if (record->offset != 0) {
        mr_json_out_u64(&out, "offset", record->offset);
    }
    switch (record->kind) {
    case MR_RECORD_EVENT:
        write_event(&out, record);
        break;
    case MR_RECORD_MATCH:
        write_matches(&out, record);
        break;
    case MR_RECORD_SETTLE:
    case MR_RECORD_RETRY:
    case MR_RECORD_DEAD:
    case MR_RECORD_LATE:
        write_result(&out, record);
        break;
    default:
        write_rest(&out, record);
        break;
    }
    mr_json_out_end(&out);
    print_line(cli, &out);
}

static enum mr_status dump_groups(const struct mr_cli *cli, struct mr_log_reader *reader, int *code)
{
    struct mr_log_group group;
    enum mr_status r;
    while ((r = mr_log_reader_next(reader, &group)) == MR_OK) {
        if (group.decision == MR_RECOVERY_ROTTEN) {
            fprintf(cli->err, "millrace log dump: damage at position %" PRIu64 "\n",
                    group.position);
            *code = MR_EXIT_FAILED;
        }
        uint32_t at = 0;
        uint64_t position;
        struct mr_record record;
        while (mr_log_next_record(&group, &at, &position, &record)) {
            dump_record(cli, &group, position, &record);
        }
    }
    return r == MR_E_NOT_FOUND ? MR_OK : r;
}

/* What outlived its segment first: it is the oldest. Then the segments. */
int mr_cmd_log_dump(struct mr_cli *cli)
{
    struct log log = {0};
    int code = open_log(cli, &log);
    if (code != MR_EXIT_OK) {
        return code;
    }
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < log.index.keep_count && r == MR_OK; i++) {
        const struct mr_log_index view = mr_log_index_of_keep(&log.index, i);
        struct mr_log_reader *reader;
        r = mr_log_reader_create(log.io, &view, 0, 1, 0, 0, &reader);
        if (r == MR_OK) {
            r = dump_groups(cli, reader, &code);
            mr_log_reader_destroy(reader);
        }
    }
    r = r == MR_OK ? dump_groups(cli, log.reader, &code) : r;
    if (r != MR_OK) {
        code = mr_cli_fail(cli, MR_EXIT_FAILED, "cannot read the log: %s", mr_status_text(r));
    }
    close_log(&log);
    return code;
}
