/* Finding and loading the configuration, for run, check and every verb that looks for its
 * instance. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/print.h"
#include "core/alloc.h"
#include "millrace/cli.h"
#include "millrace/engine.h"

#define HERE "./millrace.yaml"

/* What `millrace run` does without a file. */
static const char defaults[] = "data_dir: ./data\n"
                               "listen: 127.0.0.1:8080\n"
                               "sources:\n"
                               "  in: {http: {path: /events}}\n";

const char *mr_cli_config_path(const struct mr_cli *cli)
{
    if (cli->config != NULL) {
        return cli->config;
    }
    return access(HERE, F_OK) == 0 ? HERE : NULL;
}

static void print_errors(const struct mr_cli *cli, const struct mr_config_errors *errors)
{
    struct mr_buf text;
    mr_buf_init(&text, 4 * MR_MIB);
    if (mr_config_errors_print(errors, &text, cli->json) == MR_OK && text.size > 0) {
        (void)fwrite(text.data, 1, text.size, cli->json ? cli->out : cli->err);
    }
    mr_buf_release(&text);
}

static enum mr_status load(const char *path, const struct mr_config_kinds *kinds,
                           struct mr_config **ret_config, struct mr_config_errors *errors)
{
    if (path != NULL) {
        return mr_config_load(path, kinds, ret_config, errors);
    }
    char folder[4096];
    return getcwd(folder, sizeof(folder)) == NULL
               ? MR_E_IO
               : mr_config_load_text("defaults", folder, mr_bytes_of(defaults), kinds, ret_config,
                                     errors);
}

/* What a load said, for people, and the exit code that fits. */
static int conclude(const struct mr_cli *cli, const char *path, enum mr_status r,
                    const struct mr_config_errors *errors)
{
    int code = MR_EXIT_OK;
    if (r == MR_E_INVALID) {
        print_errors(cli, errors);
        code = MR_EXIT_DATA;
    } else if (r != MR_OK) {
        if (errors->count > 0) {
            print_errors(cli, errors);
        } else {
            (void)mr_cli_fail(cli, MR_EXIT_FAILED, "cannot read %s: %s", path == NULL ? "." : path,
                              mr_status_text(r));
        }
        code = r == MR_E_NOT_FOUND ? MR_EXIT_NOTHING
               : mr_status_class(r) == MR_CLASS_PERMANENT ? MR_EXIT_DATA
                                                          : MR_EXIT_FAILED;
    }
    return code;
}

int mr_cli_load_config(struct mr_cli *cli, const char *path, struct mr_config **ret_config)
{
    struct mr_config_errors errors = {0};
    int code = conclude(cli, path, load(path, mr_engine_kinds(), ret_config, &errors), &errors);
    mr_config_errors_release(&errors);
    return code;
}

/* The folder a configuration at @p path starts from, with "data" below: where the data is unless
 * the file says otherwise. NULL: nobody listens there, or memory is short. */
static char *default_data_dir(const char *path)
{
    struct stat info;
    bool is_folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    const char *slash = strrchr(path, '/');
    int size = is_folder ? (int)strlen(path) : slash == NULL ? 0 : (int)(slash - path);
    const char *below = size == 0 ? "./data" : "/data";
    struct mr_buf text;
    mr_buf_init(&text, 16 * MR_KIB);
    bool fits = mr_buf_printf(&text, "%.*s%s", size, path, below) == MR_OK;
    char *data_dir = fits ? mr_buf_take_text(&text) : NULL;
    fits = data_dir != NULL && mr_buf_printf(&text, "%s/millrace.sock", data_dir) == MR_OK;
    char *socket_path = fits ? mr_buf_take_text(&text) : NULL;
    mr_buf_release(&text);
    if (socket_path == NULL || access(socket_path, F_OK) != 0) {
        mr_free(data_dir);
        data_dir = NULL;
    }
    mr_free(socket_path);
    return data_dir;
}

int mr_cli_data_dir(struct mr_cli *cli, const char *path, char **ret_data_dir)
{
    struct mr_config_errors errors = {0};
    struct mr_config *config = NULL;
    struct mr_config_kinds kinds = *mr_engine_kinds();
    kinds.check_transform = NULL; /* to compile programs takes time, and changes no folder */
    enum mr_status r = load(path, &kinds, &config, &errors);
    char *data_dir = r == MR_OK          ? mr_strdup(config->data_dir)
                     : r == MR_E_INVALID ? default_data_dir(path)
                                         : NULL;
    mr_config_destroy(config);
    int code = MR_EXIT_OK;
    if (data_dir == NULL) {
        code = r == MR_OK ? mr_cli_fail(cli, MR_EXIT_FAILED, "out of memory")
                          : conclude(cli, path, r, &errors);
    }
    mr_config_errors_release(&errors);
    *ret_data_dir = data_dir;
    return code;
}
