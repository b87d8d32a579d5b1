/* check: everything that can be told of a configuration without contacting anybody. */
#include "admin/json_out.h"
#include "millrace/engine_internal.h"
#include "millrace/verbs.h"
#include "router/router.h"

const struct mr_cli_option mr_check_options[] = {
    {"reference", 0, NULL, "print every setting as Markdown instead (docs/reference/config.md)"},
    {"schema", 0, NULL, "print the configuration's JSON Schema instead"},
    {.name = NULL},
};

/* What an instance may hold at most, summed: the memory a configuration allows itself. */
struct budget {
    uint64_t state;
    uint64_t cache;
    uint64_t connectors;
};

static bool is_program(const char *transform_json)
{
    struct mr_transform *transform = NULL;
    uint64_t timeout_ns;
    bool is = transform_json != NULL &&
              mr_transform_create(mr_bytes_of(transform_json), &transform, NULL) == MR_OK &&
              mr_transform_program(transform, &timeout_ns) != NULL;
    mr_transform_destroy(transform);
    return is;
}

/* Of transforms in jq: the helpers, and what waits for them. */
static uint64_t sum_jq(const struct mr_config *config)
{
    uint64_t waiting = 0;
    bool any = false;
    for (uint32_t i = 0; i < config->source_count; i++) {
        bool is = is_program(config->sources[i].transform_json);
        waiting += is ? MR_JQ_QUEUE_SIZE_MAX : 0;
        any |= is;
    }
    for (uint32_t i = 0; i < config->subscription_count && !any; i++) {
        any = is_program(config->subscriptions[i].transform_json);
    }
    return any ? waiting + mr_jq_pool_bytes_max() : 0;
}

static struct budget sum_budget(const struct mr_config *config)
{
    struct budget budget = {.state = config->memory_state, .cache = config->log.cache_size};
    for (uint32_t i = 0; i < config->source_count; i++) {
        const struct mr_connector *connector = engine_connector_of(config->sources[i].kind);
        if (connector != NULL && connector->source_bytes_max != NULL) {
            budget.connectors += connector->source_bytes_max(config->sources[i].options);
        }
    }
    for (uint32_t i = 0; i < config->target_count; i++) {
        const struct mr_connector *connector = engine_connector_of(config->targets[i].kind);
        if (connector != NULL && connector->bytes_max != NULL) {
            uint32_t instances = config->targets[i].scale_max;
            budget.connectors += connector->bytes_max(config->targets[i].options) *
                                 (config->targets[i].is_worker && instances > 1 ? instances : 1);
        }
    }
    budget.connectors += sum_jq(config);
    return budget;
}

static void print_json(const struct mr_cli *cli, const struct mr_config *config, uint32_t visible,
                       const struct budget *budget)
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
    mr_json_out_u64(&out, "delivery_state", budget->state);
    mr_json_out_u64(&out, "log_cache", budget->cache);
    mr_json_out_u64(&out, "connectors", budget->connectors);
    mr_json_out_u64(&out, "sum", budget->state + budget->cache + budget->connectors);
    mr_json_out_end(&out);
    mr_json_out_end(&out);
    fprintf(cli->out, "%.*s\n", (int)out.buf.size, (const char *)out.buf.data);
    mr_json_out_release(&out);
}

static double mib(uint64_t bytes)
{
    return (double)bytes / (double)MR_MIB;
}

static void print_human(const struct mr_cli *cli, const struct mr_config *config, uint32_t visible,
                        const struct budget *budget)
{
    fprintf(cli->out, "ok: %u sources, %u workers, %u sinks, %u subscriptions\n",
            config->source_count, config->worker_count,
            config->target_count - config->worker_count, visible);
    fprintf(cli->out,
            "memory at most %.1f MiB: delivery state %.1f, recent log %.1f, connectors and workers "
            "%.1f\n",
            mib(budget->state + budget->cache + budget->connectors), mib(budget->state),
            mib(budget->cache), mib(budget->connectors));
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
    if (code == MR_EXIT_OK) {
        uint32_t visible = 0;
        for (uint32_t i = 0; i < config->subscription_count; i++) {
            visible += !config->subscriptions[i].hidden;
        }
        struct budget budget = sum_budget(config);
        (cli->json ? print_json : print_human)(cli, config, visible, &budget);
    }
    mr_config_destroy(config);
    return code;
}
