/* log repair: what a damaged log can be mended of. Nothing is changed before it is said, nothing in
 * doubt is removed: such a file gets the name `doubt-...`, which no reader of logs looks at. A
 * survivor file keeps its name whatever its header: what is whole in it is found record by record.
 *
 * Each step is one block written, or one name changed, and synced: cut off between two of them, the
 * rest is found and done the next time. What a start makes good by itself (footers, checkpoints, a
 * torn tail) is left to it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bus/logread.h"
#include "core/alloc.h"
#include "millrace/verbs.h"

const struct mr_cli_option mr_log_repair_options[] = {
    {"dry-run", 0, NULL, "only say what would be done"},
    {"yes", 0, NULL, "do not ask"},
    {.name = NULL},
};

enum step {
    STEP_NONE = 0,
    STEP_HEADER, /* written anew */
    STEP_DOUBT,  /* another name */
};

struct repair {
    struct mr_cli *cli;
    struct mr_io *io;
    struct mr_log_index index;
    uint64_t log_id; /* 0: no segment says it */
};

static void look_around(struct repair *repair)
{
    for (uint32_t i = 0; i < repair->index.segment_count; i++) {
        const struct mr_log_segment *segment = &repair->index.segments[i];
        if (segment->usable && !segment->salvaged) {
            repair->log_id = segment->header.log_id;
        }
    }
}

static uint32_t file_count(const struct repair *repair)
{
    return repair->index.segment_count + repair->index.keep_count;
}

/* The segments, then the survivor files. */
static const struct mr_log_segment *file_at(const struct repair *repair, uint32_t i)
{
    uint32_t segments = repair->index.segment_count;
    return i < segments ? &repair->index.segments[i] : &repair->index.keeps[i - segments];
}

static enum step step_of(const struct repair *repair, const struct mr_log_segment *segment)
{
    bool is_keep = segment->of == MR_LOG_OF_SURVIVORS;
    if (segment->usable && (segment->salvaged || segment->header.mended)) {
        return segment->salvaged && repair->log_id == 0 ? STEP_NONE : STEP_HEADER;
    }
    return !segment->usable && !segment->blank && !is_keep ? STEP_DOUBT : STEP_NONE;
}

static void doubt_name(uint64_t number, char name[MR_LOG_NAME_SIZE])
{
    (void)snprintf(name, MR_LOG_NAME_SIZE, "doubt-%016" PRIx64, number); /* always fits */
}

static void tell_step(const struct repair *repair, const struct mr_log_segment *segment,
                      enum step step, bool done)
{
    const struct mr_cli *cli = repair->cli;
    char name[MR_LOG_NAME_SIZE];
    char other[MR_LOG_NAME_SIZE];
    mr_log_file_name(segment->of, segment->number, name);
    doubt_name(segment->number, other);
    if (cli->json) {
        fprintf(cli->out, "{\"segment\":\"%s\",\"step\":\"%s\",\"done\":%s}\n", name,
                step == STEP_HEADER ? "header" : "doubt", done ? "true" : "false");
    } else if (step == STEP_HEADER) {
        fprintf(cli->out,
                "%s: its header %s: the first block is unreadable, the groups behind it say what "
                "stood there\n",
                name, done ? "is written anew" : "is to be written anew");
    } else {
        fprintf(cli->out,
                "%s: %s %s: neither its header nor its first group can be read, so nothing proves "
                "what it holds; no byte of it is changed\n",
                name, done ? "is called now" : "is to be called", other);
    }
}

/* What is damaged and stays as it is. */
static void tell_left(const struct repair *repair, const struct mr_log_segment *segment)
{
    char name[MR_LOG_NAME_SIZE];
    mr_log_file_name(segment->of, segment->number, name);
    if (segment->usable && segment->salvaged) {
        fprintf(repair->cli->err,
                "millrace log repair: no other segment says which log it is: the header of %s "
                "cannot be made; the log is read without it\n",
                name);
    } else if (!segment->usable && !segment->blank) {
        fprintf(repair->cli->err,
                "millrace log repair: %s stays as it is: neither its header nor its first group "
                "can be read, each record behind that is read by itself\n",
                name);
    }
}

static uint64_t plan(const struct repair *repair)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < file_count(repair); i++) {
        const struct mr_log_segment *segment = file_at(repair, i);
        enum step step = step_of(repair, segment);
        if (step != STEP_NONE) {
            tell_step(repair, segment, step, false);
            count++;
        } else {
            tell_left(repair, segment);
        }
    }
    return count;
}

static enum mr_status write_header(const struct repair *repair,
                                   const struct mr_log_segment *segment)
{
    char name[MR_LOG_NAME_SIZE];
    mr_log_file_name(segment->of, segment->number, name);
    struct mr_segment_header header = segment->header;
    header.log_id = segment->salvaged ? repair->log_id : header.log_id;
    uint8_t *block = mr_alloc_aligned(MR_LOG_BLOCK, MR_LOG_BLOCK);
    if (block == NULL) {
        return MR_E_NOMEM;
    }
    mr_segment_header_encode(&header, block);
    int file;
    enum mr_status r = repair->io->ops->open(repair->io, name, MR_IO_WRITE, &file);
    if (r == MR_OK) {
        r = repair->io->ops->pwrite(repair->io, file, block, MR_LOG_BLOCK, 0);
        r = r == MR_OK ? repair->io->ops->sync(repair->io, file) : r;
        repair->io->ops->close(repair->io, file);
    }
    mr_free(block);
    return r;
}

static enum mr_status set_aside(const struct repair *repair, const struct mr_log_segment *segment)
{
    char name[MR_LOG_NAME_SIZE];
    char other[MR_LOG_NAME_SIZE];
    mr_log_file_name(segment->of, segment->number, name);
    doubt_name(segment->number, other);
    int file;
    if (repair->io->ops->open(repair->io, other, MR_IO_READ_ONLY, &file) == MR_OK) {
        repair->io->ops->close(repair->io, file);
        return MR_E_CONFLICT; /* something of that name is kept already */
    }
    enum mr_status r = repair->io->ops->rename(repair->io, name, other);
    return r == MR_OK ? repair->io->ops->sync_dir(repair->io) : r;
}

static int perform(const struct repair *repair)
{
    for (uint32_t i = 0; i < file_count(repair); i++) {
        const struct mr_log_segment *segment = file_at(repair, i);
        enum step step = step_of(repair, segment);
        enum mr_status r = step == STEP_HEADER  ? write_header(repair, segment)
                           : step == STEP_DOUBT ? set_aside(repair, segment)
                                                : MR_OK;
        if (r != MR_OK) {
            char name[MR_LOG_NAME_SIZE];
            mr_log_file_name(segment->of, segment->number, name);
            return mr_cli_fail(repair->cli, MR_EXIT_FAILED,
                               "%s: %s; what is said to be done is done", name, mr_status_text(r));
        }
        if (step != STEP_NONE) {
            tell_step(repair, segment, step, true);
        }
    }
    return MR_EXIT_OK;
}

static bool confirm(struct mr_cli *cli)
{
    fputs("do it? [y/N] ", cli->err);
    (void)fflush(cli->err); /* the question may stand in a buffer at worst */
    char line[16];
    return fgets(line, sizeof(line), cli->in) != NULL &&
           (strcmp(line, "y\n") == 0 || strcmp(line, "yes\n") == 0);
}

static int run(struct repair *repair)
{
    struct mr_cli *cli = repair->cli;
    look_around(repair);
    if (plan(repair) == 0) {
        if (!cli->json) {
            fputs("there is nothing to repair; `millrace log verify` says what is lost, if "
                  "anything is\n",
                  cli->out);
        }
        return MR_EXIT_OK;
    }
    if (mr_cli_flag(cli, "dry-run")) {
        return MR_EXIT_OK;
    }
    bool asks = cli->in == stdin && isatty(STDIN_FILENO) == 1 && !cli->json;
    if (!mr_cli_flag(cli, "yes") && !asks) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "nothing was done: say --yes to do this");
    }
    if (!mr_cli_flag(cli, "yes") && !confirm(cli)) {
        return mr_cli_fail(cli, MR_EXIT_FAILED, "nothing was done");
    }
    return perform(repair);
}

int mr_cmd_log_repair(struct mr_cli *cli)
{
    struct repair repair = {.cli = cli};
    struct mr_problem problem = {.text = ""};
    char *folder = mr_cmd_log_folder(cli->arguments[0]);
    enum mr_status r = folder == NULL ? MR_E_NOMEM : mr_io_create(folder, false, true, &repair.io);
    mr_free(folder);
    if (r == MR_OK) {
        r = mr_log_index(repair.io, &repair.index, &problem);
    }
    int code = MR_EXIT_OK;
    if (r == MR_E_NOT_FOUND || (r == MR_OK && repair.index.segment_count == 0)) {
        code = mr_cli_fail(cli, MR_EXIT_NOTHING, "there is no log in %s", cli->arguments[0]);
    } else if (r != MR_OK && problem.text[0] == '\0' && repair.io == NULL) {
        code = mr_cli_fail(cli, MR_EXIT_FAILED, "cannot lock %s: %s; stop the Millrace that runs "
                                                "there first",
                           cli->arguments[0], mr_status_text(r));
    } else if (r != MR_OK) {
        code = mr_cli_fail_status(cli, MR_EXIT_FAILED, r, &problem);
    } else {
        code = run(&repair);
    }
    mr_log_index_release(&repair.index);
    if (repair.io != NULL) {
        repair.io->ops->destroy(repair.io);
    }
    return code;
}
