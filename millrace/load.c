/* Finding and loading the configuration, for run, check and every verb that looks for its
 * instance. */
#include <string.h>
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

int mr_cli_load_config(struct mr_cli *cli, const char *path, struct mr_config **ret_config)
{
    struct mr_config_errors errors = {0};
    const struct mr_config_kinds *kinds = mr_engine_kinds();
    enum mr_status r;
    if (path != NULL) {
        r = mr_config_load(path, kinds, ret_config, &errors);
    } else {
        char folder[4096];
        r = getcwd(folder, sizeof(folder)) == NULL
                ? MR_E_IO
                : mr_config_load_text("defaults", folder, mr_bytes_of(defaults), kinds, ret_config,
                                      &errors);
    }
    int code = MR_EXIT_OK;
    if (r == MR_E_INVALID) {
        print_errors(cli, &errors);
        code = MR_EXIT_DATA;
    } else if (r != MR_OK) {
        if (errors.count > 0) {
            print_errors(cli, &errors);
        } else {
            (void)mr_cli_fail(cli, MR_EXIT_FAILED, "cannot read %s: %s", path == NULL ? "." : path,
                              mr_status_text(r));
        }
        code = r == MR_E_NOT_FOUND ? MR_EXIT_NOTHING
               : mr_status_class(r) == MR_CLASS_PERMANENT ? MR_EXIT_DATA
                                                          : MR_EXIT_FAILED;
    }
    mr_config_errors_release(&errors);
    return code;
}
