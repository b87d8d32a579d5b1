/* What the tests of the configuration share: kinds that exist nowhere else, and loading of texts
 * with what comes of it. Each test program includes it once. */
#ifndef MR_TESTS_UNIT_CONFIG_FAKE_KINDS_H
#define MR_TESTS_UNIT_CONFIG_FAKE_KINDS_H

#include "tests/support/test.h"

#include "config/config.h"
#include "config/print.h"
#include "core/alloc.h"

struct fake_verify {
    int scheme;
    struct mr_secret *secret;
};

struct fake_http_source {
    char *path;
    char *type;
    struct fake_verify verify;
};

struct fake_mqtt_source {
    struct mr_url *url;
    struct mr_strings topics;
    int64_t qos;
    struct mr_secret *password;
};

struct fake_file_source {
    char *path;
    char *data;
};

struct fake_process {
    struct mr_strings command;
    struct mr_pairs env;
};

struct fake_http {
    struct mr_url *url;
    struct mr_pairs headers;
    struct mr_rate rate;
};

static const char *const fake_schemes[] = {"none", "hmac", "bearer", NULL};

static const struct mr_option fake_verify_table[] = {
    {.name = "scheme", .type = MR_OPTION_ENUM, .at = offsetof(struct fake_verify, scheme),
     .words = fake_schemes, .default_text = "none", .help = "How a request proves itself."},
    {.name = "secret", .type = MR_OPTION_SECRET, .at = offsetof(struct fake_verify, secret),
     .flags = MR_OPTION_REQUIRED, .help = "The shared secret."},
    MR_OPTION_END,
};

static const struct mr_option fake_http_source_table[] = {
    {.name = "path", .type = MR_OPTION_STRING, .at = offsetof(struct fake_http_source, path),
     .default_text = "/events", .help = "Where it is served."},
    {.name = "type", .type = MR_OPTION_STRING, .at = offsetof(struct fake_http_source, type),
     .help = "The type of what is no CloudEvent."},
    {.name = "verify", .type = MR_OPTION_BLOCK, .at = offsetof(struct fake_http_source, verify),
     .block = fake_verify_table, .help = "Who may send."},
    MR_OPTION_END,
};

static const struct mr_option fake_mqtt_source_table[] = {
    {.name = "url", .type = MR_OPTION_URL, .at = offsetof(struct fake_mqtt_source, url),
     .flags = MR_OPTION_REQUIRED, .help = "The broker."},
    {.name = "topics", .type = MR_OPTION_STRINGS, .at = offsetof(struct fake_mqtt_source, topics),
     .default_text = "[#]", .help = "What is subscribed to."},
    {.name = "qos", .type = MR_OPTION_INT, .at = offsetof(struct fake_mqtt_source, qos),
     .default_text = "1", .min = 0, .max = 2, .help = "Quality of service."},
    {.name = "password", .type = MR_OPTION_SECRET,
     .at = offsetof(struct fake_mqtt_source, password), .help = "The password."},
    MR_OPTION_END,
};

static const struct mr_option fake_file_source_table[] = {
    {.name = "path", .type = MR_OPTION_PATH, .at = offsetof(struct fake_file_source, path),
     .flags = MR_OPTION_REQUIRED, .help = "The file."},
    {.name = "data", .type = MR_OPTION_JSON, .at = offsetof(struct fake_file_source, data),
     .help = "Any value."},
    MR_OPTION_END,
};

static const struct mr_option fake_process_table[] = {
    {.name = "command", .type = MR_OPTION_STRINGS, .at = offsetof(struct fake_process, command),
     .flags = MR_OPTION_REQUIRED, .help = "The program and its arguments."},
    {.name = "env", .type = MR_OPTION_PAIRS, .at = offsetof(struct fake_process, env),
     .help = "The environment."},
    MR_OPTION_END,
};

static const struct mr_option fake_http_table[] = {
    {.name = "url", .type = MR_OPTION_URL, .at = offsetof(struct fake_http, url),
     .flags = MR_OPTION_REQUIRED, .help = "Where it is posted to."},
    {.name = "headers", .type = MR_OPTION_PAIRS, .at = offsetof(struct fake_http, headers),
     .help = "More headers."},
    {.name = "pace", .type = MR_OPTION_RATE, .at = offsetof(struct fake_http, rate),
     .help = "Requests over time."},
    MR_OPTION_END,
};

static enum mr_status fake_mqtt_check(const void *options, struct mr_problem *problem)
{
    const struct fake_mqtt_source *mqtt = options;
    return strcmp(mqtt->url->scheme, "mqtt") == 0
               ? MR_OK
               : mr_problem_set(problem, MR_E_INVALID, "url: the scheme must be mqtt");
}

static const struct mr_config_kind fake_sources[] = {
    {"http", fake_http_source_table, sizeof(struct fake_http_source), NULL, false},
    {"mqtt", fake_mqtt_source_table, sizeof(struct fake_mqtt_source), fake_mqtt_check, false},
    {"file", fake_file_source_table, sizeof(struct fake_file_source), NULL, false},
    {"bare", NULL, 0, NULL, false},
    {NULL, NULL, 0, NULL, false},
};

static const struct mr_config_kind fake_workers[] = {
    {"process", fake_process_table, sizeof(struct fake_process), NULL, true},
    {"exec", fake_process_table, sizeof(struct fake_process), NULL, false},
    {"http", fake_http_table, sizeof(struct fake_http), NULL, true},
    {NULL, NULL, 0, NULL, false},
};

static const struct mr_config_kind fake_sinks[] = {
    {"http", fake_http_table, sizeof(struct fake_http), NULL, true},
    {"file", fake_file_source_table, sizeof(struct fake_file_source), NULL, false},
    {NULL, NULL, 0, NULL, false},
};

static const struct mr_config_kinds fake_kinds = {
    .sources = fake_sources, .workers = fake_workers, .sinks = fake_sinks};

/* A sound base for tests of one setting of a subscription. */
#define FAKE_BASE                                                                                  \
    "sources: {shop: {http: {}}, plant: {mqtt: {url: 'mqtt://broker:1883'}}}\n"                    \
    "workers: {thumbs: {process: {command: [thumbs]}}, pager: {http: {url: 'http://pager/'}}}\n"   \
    "sinks: {results: {http: {url: 'http://results/'}}, mail: {file: {path: mail.jsonl}}}\n"

/* The configuration of @p text, which must be right. Destroy it. */
static inline struct mr_config *load_right(const char *text)
{
    struct mr_config *config = NULL;
    struct mr_config_errors errors;
    enum mr_status r = mr_config_load_text("test.yaml", "/base", mr_bytes_of(text), &fake_kinds,
                                           &config, &errors);
    for (uint32_t i = 0; i < errors.count; i++) {
        print_message("test.yaml:%u:%u: %s\n", errors.items[i].line, errors.items[i].column,
                      errors.items[i].text);
    }
    mr_config_errors_release(&errors);
    assert_int_equal(r, MR_OK);
    assert_non_null(config);
    return config;
}

/* All errors of @p text as lines; it must be wrong. Free with mr_free(). */
static inline char *load_wrong(const char *text)
{
    struct mr_config *config = NULL;
    struct mr_config_errors errors;
    enum mr_status r = mr_config_load_text("test.yaml", "/base", mr_bytes_of(text), &fake_kinds,
                                           &config, &errors);
    assert_int_equal(r, MR_E_INVALID);
    assert_null(config);
    assert_true(errors.count > 0);
    struct mr_buf buf;
    mr_buf_init(&buf, 1u << 20);
    assert_int_equal(mr_config_errors_print(&errors, &buf, false), MR_OK);
    mr_config_errors_release(&errors);
    char *lines = mr_buf_take_text(&buf);
    assert_non_null(lines);
    return lines;
}

static inline void check_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        print_error("wanted: %s\nin: %s\n", part, text);
        fail();
    }
}

static inline void check_has_not(const char *text, const char *part)
{
    if (strstr(text, part) != NULL) {
        print_error("not wanted: %s\nin: %s\n", part, text);
        fail();
    }
}

/* @p text gives exactly one error, which holds @p part. */
static inline void check_one_error(const char *text, const char *part)
{
    char *lines = load_wrong(text);
    check_has(lines, part);
    const char *end = strchr(lines, '\n');
    if (end == NULL || end[1] != '\0') {
        print_error("wanted one error, got: %s\n", lines);
        fail();
    }
    mr_free(lines);
}

/* The same with a subscription whose settings beside `to: thumbs` are @p settings. */
static inline void check_subscription_error(const char *settings, const char *part)
{
    struct mr_buf buf;
    mr_buf_init(&buf, 1u << 20);
    assert_int_equal(mr_buf_printf(&buf, "%ssubscriptions: {one: {to: thumbs, %s}}\n", FAKE_BASE,
                                   settings),
                     MR_OK);
    char *text = mr_buf_take_text(&buf);
    assert_non_null(text);
    check_one_error(text, part);
    mr_free(text);
}

static inline struct mr_config *load_subscription(const char *settings)
{
    struct mr_buf buf;
    mr_buf_init(&buf, 1u << 20);
    assert_int_equal(mr_buf_printf(&buf, "%ssubscriptions: {one: {to: thumbs, %s}}\n", FAKE_BASE,
                                   settings),
                     MR_OK);
    char *text = mr_buf_take_text(&buf);
    assert_non_null(text);
    struct mr_config *config = load_right(text);
    mr_free(text);
    return config;
}

#endif
