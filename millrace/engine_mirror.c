/* The folder of the log, and its mirror when one is configured: checked, opened, made equal. */
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bus/mirror.h"
#include "core/alloc.h"
#include "core/logger.h"
#include "core/rng.h"
#include "millrace/engine_internal.h"

/* The path without links, also of what is still to be made in a folder that is there. */
static bool resolve(const char *path, char resolved[PATH_MAX])
{
    if (realpath(path, resolved) != NULL) {
        return true;
    }
    char folder[PATH_MAX];
    char name[PATH_MAX];
    if (snprintf(folder, sizeof(folder), "%s", path) >= (int)sizeof(folder) ||
        snprintf(name, sizeof(name), "%s", path) >= (int)sizeof(name)) {
        return false;
    }
    char parent[PATH_MAX];
    if (realpath(dirname(folder), parent) == NULL) {
        return false;
    }
    int n = snprintf(resolved, PATH_MAX, "%s/%s", parent, basename(name));
    return n > 0 && n < PATH_MAX;
}

static bool is_within(const char *path, const char *folder)
{
    size_t size = strlen(folder);
    return strncmp(path, folder, size) == 0 && (path[size] == '\0' || path[size] == '/');
}

/* Of the folder, or of the one it is to be made in. */
static bool device_of(const char *path, dev_t *ret_device)
{
    char copy[PATH_MAX];
    struct stat info;
    if (stat(path, &info) != 0) {
        if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy) ||
            stat(dirname(copy), &info) != 0) {
            return false;
        }
    }
    *ret_device = info.st_dev;
    return true;
}

enum mr_status engine_mirror_check(const char *data_dir, const char *mirror, bool *ret_one_disk,
                                   struct mr_problem *problem)
{
    char log[PATH_MAX];
    char data[PATH_MAX];
    char other[PATH_MAX];
    *ret_one_disk = false;
    if (!resolve(data_dir, data) || !resolve(mirror, other)) {
        return MR_OK; /* the start will say what is missing */
    }
    int n = snprintf(log, sizeof(log), "%s/log", data);
    if (n < 0 || n >= (int)sizeof(log)) {
        return MR_OK;
    }
    if (is_within(other, log) || is_within(log, other)) {
        return mr_problem_set(problem, MR_E_INVALID,
                              "log.mirror %s is the folder of the log, lies in it, or holds it: "
                              "give a folder of its own, on another disk",
                              mirror);
    }
    dev_t devices[2];
    *ret_one_disk = device_of(data, &devices[0]) && device_of(other, &devices[1]) &&
                    devices[0] == devices[1];
    return MR_OK;
}

static void tell(void *context, const char *text)
{
    (void)context;
    MR_ERROR("log", "%s", text);
}

static enum mr_status open_folder(const char *path, struct mr_io **ret_io,
                                  struct mr_problem *problem)
{
    enum mr_status r = mr_io_create(path, true, true, ret_io);
    if (r == MR_E_LOCKED) {
        return mr_problem_set(problem, r, "another Millrace runs on %s", path);
    }
    if (r != MR_OK) {
        return mr_problem_set(problem, r, "cannot open the log in %s: %s", path,
                              mr_status_text(r));
    }
    return MR_OK;
}

/* What cannot be opened now is gone on without; what another process holds is not. */
static enum mr_status open_pair(struct mr_engine *engine, const char *mirror,
                                struct mr_problem *problem)
{
    struct mr_log_mirror_options options = {
        .names = {engine->log_dir, mirror}, .seed = mr_rng_entropy(), .tell = tell};
    enum mr_status r = MR_OK;
    bool any = false;
    for (unsigned i = 0; i < 2 && r != MR_E_LOCKED; i++) {
        r = open_folder(options.names[i], &options.copies[i], problem);
        any = any || r == MR_OK;
        if (r != MR_OK && r != MR_E_LOCKED) {
            MR_ERROR("log", "%s", problem->text);
        }
    }
    r = r == MR_E_LOCKED || !any ? r : mr_log_mirror_open(&options, &engine->io, problem);
    for (unsigned i = 0; i < 2 && r != MR_OK; i++) {
        if (options.copies[i] != NULL) {
            options.copies[i]->ops->destroy(options.copies[i]);
        }
    }
    engine->admin_host.mirror = r == MR_OK ? engine->io : NULL;
    return r;
}

enum mr_status engine_open_log(struct mr_engine *engine, const struct mr_config *config,
                               struct mr_problem *problem)
{
    const char *mirror = config->log.mirror;
    if (mirror == NULL) {
        enum mr_status r = open_folder(engine->log_dir, &engine->io, problem);
        struct mr_mirror_note note;
        if (r != MR_OK) {
            return r;
        }
        r = mr_log_mirror_leave(engine->io, mr_rng_entropy(), &note);
        if (r == MR_E_INVALID) {
            return mr_problem_set(problem, r,
                                  "the log in %s was left behind by its mirror: what it lacks was "
                                  "acknowledged; configure log.mirror again, or remove the file "
                                  "`mirror` in it to go on without",
                                  engine->log_dir);
        }
        return r == MR_OK ? r
                          : mr_problem_set(problem, r, "cannot write to %s: %s", engine->log_dir,
                                           mr_status_text(r));
    }
    bool one_disk;
    enum mr_status r = engine_mirror_check(config->data_dir, mirror, &one_disk, problem);
    if (r == MR_OK && one_disk) {
        MR_WARN("log", "log.mirror %s is on the file system of data_dir: it helps against rotten "
                       "blocks, not against the loss of the disk",
                mirror);
    }
    return r == MR_OK ? open_pair(engine, mirror, problem) : r;
}
