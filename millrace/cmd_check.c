/* check: everything that can be told of a configuration without contacting anybody. */
#include <string.h>
#include <unistd.h>

#include "admin/json_out.h"
#include "millrace/engine_internal.h"
#include "millrace/verbs.h"
#include "router/router.h"

const struct mr_cli_option mr_check_options[] = {
    {"reference", 0, NULL, "print every setting as Markdown instead (docs/reference/config.md)"},
    {"schema", 0, NULL, "print the configuration's JSON Schema instead"},
    {.name = NULL},
};

static uint64_t number_in(const char *path)
{
    char text[32] = "";
    uint64_t value = UINT64_MAX;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return value;
    }
    bool read = fgets(text, sizeof(text), file) != NULL;
    (void)fclose(file);
    text[strcspn(text, "\n")] = '\0';
    return read && mr_parse_u64(mr_bytes_of(text), &value) ? value : UINT64_MAX; /* or "max" */
}

/* What there is here: of the machine, or of the control group this runs in. */
static uint64_t machine_bytes(void)
{
    static const char *const limits[] = {"/sys/fs/cgroup/memory.max",
                                         "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    uint64_t least = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < MR_ARRAY_COUNT(limits); i++) {
        uint64_t limit = number_in(limits[i]);
        least = limit < least ? limit : least;
    }
    return least;
}

static uint64_t share_of(const struct mr_config *config)
{
    return mr_memory_parts(config, config->memory_state).share;
}

static void print_json(const struct mr_cli *cli, const struct mr_config *config, uint32_t visible,
                       const struct mr_budget_bound *bounds)
{
    struct mr_json_out out;
    mr_json_out_init(&out, MR_MIB);
    mr_json_out_object(&out, NULL);
    mr_json_out_bool(&out, "ok", true);
    mr_json_out_text(&out, "path", config->path);
    mr_json_out_u64(&out, "sources", config->source_count);
    mr_json_out_u64(&out, "workers", config->worker_count);
    mr_json_out_u64(&out, "sinks", config->target_count - config->worker_count);
    mr_json_out_u64(&out, "subscriptions", visible);
    mr_json_out_object(&out, "memory_max");
    for (int i = 0; i < MR_BUDGET_MAX; i++) {
        mr_json_out_u64(&out, mr_budgets[i].name, bounds[i].most);
    }
    mr_json_out_u64(&out, "sum", mr_budgets_sum(bounds).most);
    mr_json_out_end(&out);
    mr_json_out_u64(&out, "memory_mostly", mr_budgets_sum(bounds).mostly);
    mr_json_out_u64(&out, "memory_share", share_of(config));
    mr_json_out_u64(&out, "memory_machine", machine_bytes());
    mr_json_out_end(&out);
    fprintf(cli->out, "%.*s\n", (int)out.buf.size, (const char *)out.buf.data);
    mr_json_out_release(&out);
}

static double mib(uint64_t bytes)
{
    return (double)bytes / (double)MR_MIB;
}

static void print_budget(const struct mr_cli *cli, const char *title,
                         struct mr_budget_bound bound, const char *from)
{
    fprintf(cli->out, "  %-21s %9.1f %9.1f  %s\n", title, mib(bound.most), mib(bound.mostly), from);
}

static void print_human(const struct mr_cli *cli, const struct mr_config *config, uint32_t visible,
                        const struct mr_budget_bound *bounds)
{
    fprintf(cli->out, "ok: %u sources, %u workers, %u sinks, %u subscriptions\n",
            config->source_count, config->worker_count,
            config->target_count - config->worker_count, visible);
    fprintf(cli->out, "memory, MiB               at most    mostly  from\n");
    for (int i = 0; i < MR_BUDGET_MAX; i++) {
        print_budget(cli, mr_budgets[i].title, bounds[i], mr_budgets[i].from);
    }
    struct mr_budget_bound sum = mr_budgets_sum(bounds);
    print_budget(cli, "at once", sum, "either it starts, or it runs");
    fprintf(cli->out, "of the delivery state at least %.3f MiB for each subscription\n",
            mib(share_of(config)));
    if (sum.most > machine_bytes()) {
        fprintf(cli->out, "warning: there are %.1f MiB here\n", mib(machine_bytes()));
    }
}

/* The loader has checked each filter; together they must compile as well. */
static int check_router(struct mr_cli *cli, const struct mr_config *config)
{
    struct mr_router *router;
    uint32_t index;
    struct mr_problem problem = {.text = ""};
    enum mr_status r = mr_router_create(config, &router, &index, &problem);
    if (r != MR_OK) {
        int code = r == MR_E_NOMEM ? MR_EXIT_FAILED : MR_EXIT_DATA;
        return mr_cli_fail_status(cli, code, r, &problem);
    }
    mr_router_destroy(router);
    return MR_EXIT_OK;
}

/* The tables of this build, for a person or for an editor. */
static int print_tables(struct mr_cli *cli, bool schema)
{
    struct mr_buf out;
    mr_buf_init(&out, MR_CONFIG_SIZE_MAX);
    const struct mr_config_kinds *kinds = mr_engine_kinds();
    enum mr_status r =
        schema ? mr_config_schema(kinds, &out) : mr_config_reference(kinds, &out);
    if (r == MR_OK) {
        fprintf(cli->out, "%.*s", (int)out.size, (const char *)out.data);
    }
    mr_buf_release(&out);
    return r == MR_OK ? MR_EXIT_OK : mr_cli_fail(cli, MR_EXIT_FAILED, "%s", mr_status_text(r));
}

static int check_mirror(struct mr_cli *cli, const struct mr_config *config)
{
    bool one_disk = false;
    struct mr_problem problem = {.text = ""};
    if (config->log.mirror == NULL) {
        return MR_EXIT_OK;
    }
    enum mr_status r =
        engine_mirror_check(config->data_dir, config->log.mirror, &one_disk, &problem);
    if (r != MR_OK) {
        return mr_cli_fail_status(cli, MR_EXIT_DATA, r, &problem);
    }
    if (one_disk && !cli->json) {
        fprintf(cli->err, "warning: log.mirror %s is on the file system of data_dir: it helps "
                          "against rotten blocks, not against the loss of the disk\n",
                config->log.mirror);
    }
    return MR_EXIT_OK;
}

int mr_cmd_check(struct mr_cli *cli)
{
    if (mr_cli_flag(cli, "reference") || mr_cli_flag(cli, "schema")) {
        return print_tables(cli, mr_cli_flag(cli, "schema"));
    }
    const char *path = cli->argument_count > 0 ? cli->arguments[0] : mr_cli_config_path(cli);
    struct mr_config *config;
    int code = mr_cli_load_config(cli, path, &config);
    if (code != MR_EXIT_OK) {
        return code;
    }
    code = check_router(cli, config);
    code = code == MR_EXIT_OK ? check_mirror(cli, config) : code;
    if (code == MR_EXIT_OK) {
        uint32_t visible = 0;
        for (uint32_t i = 0; i < config->subscription_count; i++) {
            visible += !config->subscriptions[i].hidden;
        }
        struct mr_budget_bound bounds[MR_BUDGET_MAX];
        mr_budgets_bound(config, engine_connector_bytes(config), bounds);
        (cli->json ? print_json : print_human)(cli, config, visible, bounds);
    }
    mr_config_destroy(config);
    return code;
}
