/* Any text as a configuration: it is loaded or refused with at least one error, never more; what
 * was loaded is explained, and its canonical form loads again. */
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "config/print.h"
#include "core/alloc.h"
#include "core/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One option of each type, so that the fuzzer reaches every parser. */
struct all {
    char *text;
    struct mr_secret *secret;
    struct mr_url *url;
    char *path;
    struct mr_strings list;
    struct mr_pairs pairs;
    struct mr_rate rate;
    char *json;
};

static const struct mr_option all_table[] = {
    {.name = "text", .type = MR_OPTION_STRING, .at = offsetof(struct all, text), .help = "Text."},
    {.name = "secret", .type = MR_OPTION_SECRET, .at = offsetof(struct all, secret), .help = "S."},
    {.name = "url", .type = MR_OPTION_URL, .at = offsetof(struct all, url), .help = "A URL."},
    {.name = "path", .type = MR_OPTION_PATH, .at = offsetof(struct all, path), .help = "A path."},
    {.name = "list", .type = MR_OPTION_STRINGS, .at = offsetof(struct all, list), .help = "List."},
    {.name = "pairs", .type = MR_OPTION_PAIRS, .at = offsetof(struct all, pairs), .help = "Pairs."},
    {.name = "pace", .type = MR_OPTION_RATE, .at = offsetof(struct all, rate), .help = "A rate."},
    {.name = "json", .type = MR_OPTION_JSON, .at = offsetof(struct all, json), .help = "Any."},
    MR_OPTION_END,
};

static const struct mr_config_kind kinds_all[] = {
    {"http", all_table, sizeof(struct all), NULL, true},
    {"process", all_table, sizeof(struct all), NULL, true},
    {"exec", all_table, sizeof(struct all), NULL, true},
    {NULL, NULL, 0, NULL, false},
};
static const struct mr_config_kinds kinds = {
    .sources = kinds_all, .workers = kinds_all, .sinks = kinds_all};

static struct mr_config *load(struct mr_bytes text)
{
    struct mr_config *config = NULL;
    struct mr_config_errors errors;
    enum mr_status r =
        mr_config_load_text("fuzz.yaml", "/nonexistent", text, &kinds, &config, &errors);
    MR_ASSERT((r == MR_OK) == (config != NULL));
    MR_ASSERT((r == MR_OK) == (errors.count == 0));
    MR_ASSERT(errors.count <= MR_CONFIG_ERRORS_MAX);
    struct mr_buf out;
    mr_buf_init(&out, 1u << 20);
    MR_ASSERT(mr_config_errors_print(&errors, &out, false) == MR_OK);
    mr_buf_release(&out);
    mr_config_errors_release(&errors);
    return config;
}

/* References and secrets are shown as *** or unresolved, so only what has none must come back. */
static void check_canonical(const struct mr_config *config)
{
    if (strstr(config->canonical_json, "***") != NULL ||
        strstr(config->canonical_json, "${") != NULL) {
        return;
    }
    struct mr_config *again = load(mr_bytes_of(config->canonical_json));
    MR_ASSERT(again != NULL);
    MR_ASSERT(strcmp(again->canonical_json, config->canonical_json) == 0);
    MR_ASSERT(again->subscription_count == config->subscription_count);
    for (uint32_t i = 0; i < config->subscription_count; i++) {
        MR_ASSERT(again->subscriptions[i].hash == config->subscriptions[i].hash);
    }
    mr_config_destroy(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int64_t live = mr_alloc_live();
    struct mr_config *config = load(mr_bytes(data, size));
    if (config != NULL) {
        for (uint32_t i = 0; i < config->subscription_count; i++) {
            struct mr_buf out;
            mr_buf_init(&out, 1u << 24);
            MR_ASSERT(mr_config_explain(config, i, &out) == MR_OK);
            mr_buf_release(&out);
        }
        check_canonical(config);
        mr_config_destroy(config);
    }
    MR_ASSERT(mr_alloc_live() == live);
    return 0;
}
