/* References in values: what they become, and that nothing of them or of secrets is printed. */
#include "fake_kinds.h"

#include <sys/stat.h>
#include <unistd.h>

#include "core/io.h"

static char folder[] = "/tmp/mr-config-expand-XXXXXX";

static void write_file(const char *name, const char *data, size_t size)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void remove_file(const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    (void)unlink(path);
}

static int set_up(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    write_file("password", "hunter2\n", 8);
    write_file("dos", "hunter2\r\n", 9);
    write_file("two", "a\nb\n\n", 5);
    write_file("binary", "a\0b", 3);
    write_file("latin", "caf\xE9", 4);
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/pipe", folder);
    return setenv("MR_TEST_SECRET", "s3cr3t", 1) | setenv("MR_TEST_EMPTY", "", 1) |
           setenv("MR_TEST_TRICK", "${env:MR_TEST_SECRET}", 1) |
           setenv("MR_TEST_LATIN", "caf\xE9", 1) | unsetenv("MR_TEST_NONE") | mkfifo(path, 0600);
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const names[] = {"password", "dos", "two", "binary", "latin", "pipe", "big"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
        remove_file(names[i]);
    }
    return rmdir(folder);
}

static enum mr_status load(const char *text, struct mr_config **ret_config,
                           struct mr_config_errors *errors)
{
    return mr_config_load_text("t.yaml", folder, mr_bytes_of(text), &fake_kinds, ret_config,
                               errors);
}

static struct mr_config *load_source(const char *path)
{
    char text[512];
    (void)snprintf(text, sizeof(text), "sources: {a: {http: {path: '%s'}}}\n", path);
    struct mr_config *config = NULL;
    struct mr_config_errors errors;
    assert_int_equal(load(text, &config, &errors), MR_OK);
    mr_config_errors_release(&errors);
    return config;
}

static void check_value(const char *written, const char *wanted)
{
    struct mr_config *config = load_source(written);
    const struct fake_http_source *options = config->sources[0].options;
    assert_string_equal(options->path, wanted);
    mr_config_destroy(config);
}

static void check_error(const char *written, const char *part)
{
    char text[512];
    (void)snprintf(text, sizeof(text), "sources: {a: {http: {path: '%s'}}}\n", written);
    struct mr_config *config = NULL;
    struct mr_config_errors errors;
    assert_int_equal(load(text, &config, &errors), MR_E_INVALID);
    assert_int_equal(errors.count, 1);
    check_has(errors.items[0].text, part);
    assert_int_equal(errors.items[0].line, 1);
    assert_int_equal(errors.items[0].column, 22);
    mr_config_errors_release(&errors);
}

static void test_expand_environment_variable(void **state)
{
    (void)state;
    check_value("${env:MR_TEST_SECRET}", "s3cr3t");
    check_value("/a/${env:MR_TEST_SECRET}/b${env:MR_TEST_EMPTY}c", "/a/s3cr3t/bc");
}

static void test_expand_file_without_its_last_newline(void **state)
{
    (void)state;
    check_value("${file:password}", "hunter2");
    check_value("${file:./dos}", "hunter2");
    check_value("${file:two}", "a\nb\n");
}

static void test_expand_file_by_absolute_path(void **state)
{
    (void)state;
    char written[300];
    (void)snprintf(written, sizeof(written), "x${file:%s/password}", folder);
    check_value(written, "xhunter2");
}

static void test_expand_result_is_not_expanded_again(void **state)
{
    (void)state;
    check_value("${env:MR_TEST_TRICK}", "${env:MR_TEST_SECRET}");
}

static void test_expand_escape_gives_the_characters(void **state)
{
    (void)state;
    check_value("$${HOME}", "${HOME}");
    check_value("$$${env:MR_TEST_SECRET}", "$${env:MR_TEST_SECRET}");
    check_value("$5 {x} $", "$5 {x} $");
}

static void test_expand_missing_variable_is_an_error(void **state)
{
    (void)state;
    check_error("${env:MR_TEST_NONE}",
                "the environment variable MR_TEST_NONE of `${env:MR_TEST_NONE}` is not set");
    check_error("${env:}", "`${env:}` is no reference");
    check_error("${env:A-B}", "is no reference");
    check_error("${env:1A}", "is no reference");
    check_error("${env:MR_TEST_LATIN}", "MR_TEST_LATIN is not text");
}

static void test_expand_missing_file_is_an_error(void **state)
{
    (void)state;
    check_error("${file:nowhere}", "the file of `${file:nowhere}` is not there");
    check_error("${file:}", "has no name");
    check_error("${file:.}", "is no regular file");
    check_error("${file:pipe}", "is no regular file");
    check_error("${file:binary}", "is not text");
    check_error("${file:latin}", "is not text");
}

static void test_expand_large_file_is_an_error(void **state)
{
    (void)state;
    char *data = mr_calloc(1, 70000);
    assert_non_null(data);
    memset(data, 'x', 70000);
    write_file("big", data, 65537);
    check_error("${file:big}", "is larger than 64KiB");
    mr_free(data);
}

static void test_expand_unknown_or_open_reference_is_an_error(void **state)
{
    (void)state;
    check_error("${HOME}", "`${HOME}` is no reference: write `${env:NAME}`");
    check_error("${env:MR_TEST_SECRET", "is not closed");
    check_error("${}", "is no reference");
}

static void test_expand_in_numbers_is_refused(void **state)
{
    (void)state;
    check_one_error("hops_max: '${env:MR_TEST_SECRET}'\n", "`hops_max` takes no reference");
    check_one_error("drain: ${env:MR_TEST_SECRET}\n", "`drain` takes no reference");
}

static const char secrets[] =
    "sources:\n"
    "  a: {mqtt: {url: 'mqtt://user:l1teral@h:1', password: pl4in}}\n"
    "  b: {mqtt: {url: 'mqtt://user:${env:MR_TEST_SECRET}@h', password: '${file:password}'}}\n"
    "  c: {http: {path: '/${env:MR_TEST_SECRET}', verify: {scheme: hmac, secret: pl4in}}}\n"
    "workers:\n"
    "  w: {process: {command: [run, '${env:MR_TEST_SECRET}'], env: {DB_PASSWORD: pl4in, "
    "MODE: fast, T: '${env:MR_TEST_SECRET}'}}}\n"
    "sinks:\n"
    "  s: {http: {url: 'https://user:x${env:MR_TEST_SECRET}@h/', headers: {Authorization: Bearer "
    "pl4in}}}\n";

static void test_expand_values_reach_their_options(void **state)
{
    (void)state;
    struct mr_config *config = NULL;
    struct mr_config_errors errors;
    assert_int_equal(load(secrets, &config, &errors), MR_OK);
    const struct fake_mqtt_source *b = config->sources[1].options;
    assert_true(mr_secret_equal(b->url->password, MR_BYTES_LITERAL("s3cr3t")));
    assert_true(mr_secret_equal(b->password, MR_BYTES_LITERAL("hunter2")));
    const struct fake_process *w = config->targets[0].options;
    assert_string_equal(w->command.items[1], "s3cr3t");
    assert_string_equal(w->env.values.items[2], "s3cr3t");
    mr_config_destroy(config);
}

static void test_canonical_shows_no_secret(void **state)
{
    (void)state;
    struct mr_config *config = NULL;
    struct mr_config_errors errors;
    assert_int_equal(load(secrets, &config, &errors), MR_OK);
    const char *json = config->canonical_json;
    check_has_not(json, "s3cr3t");
    check_has_not(json, "hunter2");
    check_has_not(json, "l1teral");
    check_has_not(json, "pl4in");
    check_has(json, "\"a\":{\"mqtt\":{\"url\":\"mqtt://user:***@h:1\",\"password\":\"***\"}}");
    check_has(json, "\"url\":\"mqtt://user:${env:MR_TEST_SECRET}@h\",\"password\":\"***\"");
    check_has(json, "\"path\":\"/${env:MR_TEST_SECRET}\"");
    check_has(json, "\"command\":[\"run\",\"${env:MR_TEST_SECRET}\"]");
    check_has(json, "\"env\":{\"DB_PASSWORD\":\"***\",\"MODE\":\"fast\","
                    "\"T\":\"${env:MR_TEST_SECRET}\"}");
    check_has(json, "\"url\":\"https://user:***@h/\",\"headers\":{\"Authorization\":\"***\"}");
    mr_config_destroy(config);
}

static void test_errors_show_no_secret(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "sources: {a: {mqtt: {url: 'mqtt://user:l1teral@h:x'}}}\n",
        "sources: {a: {mqtt: {url: 'user:l1teral@h'}}}\n",
        "sources: {a: {mqtt: {url: 'http://user:l1teral@h'}}}\n",
        "sources: {a: {mqtt: {url: '${env:MR_TEST_SECRET}'}}}\n",
        "sources: {a: {mqtt: {url: 'mqtt://h', password: [l1teral]}}}\n",
        "data_dir: x\nlisten: '127.0.0.1:80 '\n"
        "sources: {a: {mqtt: {url: 'mqtt://u:l1teral%@h'}}}\n",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(texts); i++) {
        struct mr_config *config = NULL;
        struct mr_config_errors errors;
        assert_int_equal(load(texts[i], &config, &errors), MR_E_INVALID);
        for (uint32_t j = 0; j < errors.count; j++) {
            check_has_not(errors.items[j].text, "l1teral");
            check_has_not(errors.items[j].text, "s3cr3t");
        }
        mr_config_errors_release(&errors);
    }
}

static uint64_t hash_of(const char *text)
{
    struct mr_config *config = NULL;
    struct mr_config_errors errors;
    assert_int_equal(load(text, &config, &errors), MR_OK);
    uint64_t hash = config->hash;
    mr_config_destroy(config);
    return hash;
}

static void test_hash_changes_with_what_a_reference_stands_for(void **state)
{
    (void)state;
    uint64_t before = hash_of(secrets);
    assert_int_equal(before, hash_of(secrets));
    assert_int_equal(setenv("MR_TEST_SECRET", "other", 1), 0);
    assert_true(before != hash_of(secrets));
    assert_int_equal(setenv("MR_TEST_SECRET", "s3cr3t", 1), 0);
    assert_int_equal(before, hash_of(secrets));
}

static void test_hash_changes_with_hidden_literals(void **state)
{
    (void)state;
    uint64_t one = hash_of("sources: {a: {mqtt: {url: 'mqtt://u:one@h'}}}\n");
    uint64_t two = hash_of("sources: {a: {mqtt: {url: 'mqtt://u:two@h'}}}\n");
    assert_true(one != two);
    one = hash_of("sources: {a: {mqtt: {url: 'mqtt://h', password: one}}}\n");
    two = hash_of("sources: {a: {mqtt: {url: 'mqtt://h', password: two}}}\n");
    assert_true(one != two);
    one = hash_of("sinks: {a: {http: {url: 'http://h', headers: {Authorization: one}}}}\n");
    two = hash_of("sinks: {a: {http: {url: 'http://h', headers: {Authorization: two}}}}\n");
    assert_true(one != two);
}

static void test_hash_ignores_comments_and_layout(void **state)
{
    (void)state;
    assert_int_equal(hash_of("listen: off\ndrain: 5s\n"),
                     hash_of("# hello\n{\"listen\": \"off\",\n \"drain\": '5s'}\n"));
    assert_true(hash_of("listen: off\ndrain: 5s\n") != hash_of("listen: off\ndrain: 6s\n"));
}

static void test_canonical_is_a_configuration_again(void **state)
{
    (void)state;
    static const char text[] =
        FAKE_BASE "hops_max: 7\nsubscriptions: {one: {to: thumbs, filter: {exact: {n: 7}}}}\n";
    struct mr_config *config = load_right(text);
    struct mr_config *again = load_right(config->canonical_json);
    assert_string_equal(config->canonical_json, again->canonical_json);
    assert_int_equal(config->subscriptions[0].hash, again->subscriptions[0].hash);
    check_has(config->canonical_json, "\"hops_max\":7");
    check_has(config->canonical_json, "{\"n\":\"7\"}");
    mr_config_destroy(again);
    mr_config_destroy(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expand_environment_variable),
        cmocka_unit_test(test_expand_file_without_its_last_newline),
        cmocka_unit_test(test_expand_file_by_absolute_path),
        cmocka_unit_test(test_expand_result_is_not_expanded_again),
        cmocka_unit_test(test_expand_escape_gives_the_characters),
        cmocka_unit_test(test_expand_missing_variable_is_an_error),
        cmocka_unit_test(test_expand_missing_file_is_an_error),
        cmocka_unit_test(test_expand_large_file_is_an_error),
        cmocka_unit_test(test_expand_unknown_or_open_reference_is_an_error),
        cmocka_unit_test(test_expand_in_numbers_is_refused),
        cmocka_unit_test(test_expand_values_reach_their_options),
        cmocka_unit_test(test_canonical_shows_no_secret),
        cmocka_unit_test(test_errors_show_no_secret),
        cmocka_unit_test(test_hash_changes_with_what_a_reference_stands_for),
        cmocka_unit_test(test_hash_changes_with_hidden_literals),
        cmocka_unit_test(test_hash_ignores_comments_and_layout),
        cmocka_unit_test(test_canonical_is_a_configuration_again),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
