/* new: a working project, written from what the binary carries. completion: the same way. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/io.h"
#include "millrace/embedded.h"
#include "millrace/verbs.h"

#define TEMPLATES "millrace/templates/"
#define SDK "workers/sdk/python/millrace.py"
#define COMPLETION "packaging/completion/millrace.bash"

static int write_file(struct mr_cli *cli, const char *folder, const char *name,
                      const struct mr_embedded *file)
{
    struct mr_buf text;
    mr_buf_init(&text, 16 * MR_KIB);
    bool fits = mr_buf_printf(&text, "%s/%s", folder, name) == MR_OK;
    char *path = fits ? mr_buf_take_text(&text) : NULL;
    mr_buf_release(&text);
    if (path == NULL) {
        return mr_cli_fail(cli, MR_EXIT_FAILED, "out of memory");
    }
    size_t size = strlen(name);
    bool is_script = (size > 3 && strcmp(name + size - 3, ".sh") == 0) ||
                     (size > 3 && strcmp(name + size - 3, ".py") == 0);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, is_script ? 0755 : 0644);
    int code = MR_EXIT_OK;
    if (fd < 0 || !mr_fd_write_full(fd, file->data, file->size)) {
        code = mr_cli_fail(cli, MR_EXIT_FAILED, "cannot write %s: %s", path, strerror(errno));
    }
    if (fd >= 0 && close(fd) != 0 && code == MR_EXIT_OK) {
        code = mr_cli_fail(cli, MR_EXIT_FAILED, "cannot write %s: %s", path, strerror(errno));
    }
    mr_free(path);
    return code;
}

/* The name of @p file below the template called @p project, or NULL. */
static const char *name_in_project(const struct mr_embedded *file, const char *project)
{
    size_t prefix = strlen(TEMPLATES);
    size_t size = strlen(project);
    if (strncmp(file->path, TEMPLATES, prefix) != 0 ||
        strncmp(file->path + prefix, project, size) != 0 || file->path[prefix + size] != '/') {
        return strcmp(file->path, SDK) == 0 ? "millrace.py" : NULL;
    }
    return file->path + prefix + size + 1;
}

int mr_cmd_new(struct mr_cli *cli)
{
    static const char *const projects[] = {"alerting", "iot", "orders"};
    const char *project = NULL;
    for (size_t i = 0; i < MR_ARRAY_COUNT(projects); i++) {
        project = strcmp(projects[i], cli->arguments[0]) == 0 ? projects[i] : project;
    }
    const char *folder = cli->arguments[1];
    if (project == NULL) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "there is alerting, iot and orders, not \"%s\"",
                           cli->arguments[0]);
    }
    if (mkdir(folder, 0755) != 0 && errno != EEXIST) {
        return mr_cli_fail(cli, MR_EXIT_FAILED, "cannot make %s: %s", folder, strerror(errno));
    }
    for (const struct mr_embedded *file = mr_embedded_files; file->path != NULL; file++) {
        const char *name = name_in_project(file, project);
        int code = name == NULL ? MR_EXIT_OK : write_file(cli, folder, name, file);
        if (code != MR_EXIT_OK) {
            return code;
        }
    }
    if (cli->json) {
        fprintf(cli->out, "{\"project\":\"%s\"}\n", project);
    } else {
        fprintf(cli->out, "%s is ready: cd %s && millrace run; README.md tells what to try\n",
                project, folder);
    }
    return MR_EXIT_OK;
}

int mr_cmd_completion(struct mr_cli *cli)
{
    if (strcmp(cli->arguments[0], "bash") != 0) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "there is bash, not \"%s\"", cli->arguments[0]);
    }
    for (const struct mr_embedded *file = mr_embedded_files; file->path != NULL; file++) {
        if (strcmp(file->path, COMPLETION) == 0) {
            (void)fwrite(file->data, 1, file->size, cli->out); /* told by the flush at the end */
        }
    }
    return MR_EXIT_OK;
}
