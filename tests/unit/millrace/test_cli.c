#include "tests/support/test.h"

#include "core/alloc.h"
#include "millrace/client.h"
#include "millrace/table.h"
#include "millrace/verbs.h"

/* What one command line printed. */
struct run {
    int code;
    char *out; /* libc's */
    char *err;
};

static struct run run_with(const char *input, const char *const *words)
{
    char *argv[16] = {NULL};
    int argc = 0;
    argv[argc++] = strdup("millrace");
    for (; words[argc - 1] != NULL; argc++) {
        argv[argc] = strdup(words[argc - 1]);
    }
    struct run run = {0};
    size_t out_size;
    size_t err_size;
    char *in_text = strdup(input[0] == '\0' ? " " : input);
    FILE *in = fmemopen(in_text, strlen(in_text), "r");
    FILE *out = open_memstream(&run.out, &out_size);
    FILE *err = open_memstream(&run.err, &err_size);
    run.code = mr_cli_main(argc, argv, in, out, err);
    fclose(in);
    fclose(out);
    fclose(err);
    free(in_text);
    for (int i = 0; i < argc; i++) {
        free(argv[i]);
    }
    return run;
}

#define RUN(input, ...) run_with(input, (const char *const[]){__VA_ARGS__, NULL})

static void done(struct run *run)
{
    free(run->out);
    free(run->err);
}

static void expect(struct run run, int code, const char *out, const char *err)
{
    assert_int_equal(run.code, code);
    if (out != NULL && strstr(run.out, out) == NULL) {
        fail_msg("\"%s\" is not in what was printed: %s", out, run.out);
    }
    if (err != NULL && strstr(run.err, err) == NULL) {
        fail_msg("\"%s\" is not in what was said: %s", err, run.err);
    }
    done(&run);
}

static void test_cli_main_unknown_verb_suggests_the_nearest(void **state)
{
    (void)state;
    expect(RUN("", "verison"), MR_EXIT_USAGE, NULL, "did you mean \"version\"?");
    expect(RUN("", "sub", "lits"), MR_EXIT_USAGE, NULL, "did you mean \"sub list\"?");
    expect(RUN("", "xyzzy\x1b[31m"), MR_EXIT_USAGE, NULL, "unknown verb \"xyzzy [31m\"");
}

static void test_cli_main_group_alone_lists_its_verbs(void **state)
{
    (void)state;
    expect(RUN("", "sub"), MR_EXIT_USAGE, NULL, "millrace sub pause NAME");
    expect(RUN("", "sub", "--help"), MR_EXIT_OK, "millrace sub pause NAME", NULL);
}

static void test_cli_main_options_are_parsed_in_every_spelling(void **state)
{
    (void)state;
    expect(RUN("", "version", "-o", "json"), MR_EXIT_OK, "{\"version\":", NULL);
    expect(RUN("", "version", "-ojson"), MR_EXIT_OK, "{\"version\":", NULL);
    expect(RUN("", "version", "--output=json"), MR_EXIT_OK, "{\"version\":", NULL);
    expect(RUN("", "version", "--output", "json"), MR_EXIT_OK, "{\"version\":", NULL);
    expect(RUN("", "version", "-o", "xml"), MR_EXIT_USAGE, NULL, "human or json");
    expect(RUN("", "version", "-o"), MR_EXIT_USAGE, NULL, "wants FORMAT");
    expect(RUN("", "version", "--outptu", "json"), MR_EXIT_USAGE, NULL, "did you mean --output?");
    expect(RUN("", "version", "--no-colour=1"), MR_EXIT_USAGE, NULL, "takes no value");
    expect(RUN("", "version", "x"), MR_EXIT_USAGE, NULL, "usage: millrace version");
    expect(RUN("", "version", "--", "-o"), MR_EXIT_USAGE, NULL, "usage: millrace version");
}

static void test_cli_main_later_verbs_say_so(void **state)
{
    (void)state;
    expect(RUN("", "console"), MR_EXIT_USAGE, NULL, "not available in this release");
    expect(RUN("", "top"), MR_EXIT_USAGE, NULL, "not available in this release");
}

static void test_verbs_have_help_and_bounded_options(void **state)
{
    (void)state;
    for (const struct mr_verb *verb = mr_verbs; verb->name != NULL; verb++) {
        assert_non_null(verb->summary);
        assert_non_null(verb->run);
        assert_true(verb->arguments_min <= verb->arguments_max);
        uint32_t count = 0;
        for (const struct mr_cli_option *o = verb->options; o != NULL && o->name != NULL; o++) {
            assert_non_null(o->help);
            count++;
        }
        assert_true(count <= MR_CLI_OPTIONS_MAX);
        for (const struct mr_verb *other = verb + 1; other->name != NULL; other++) {
            assert_string_not_equal(verb->name, other->name);
        }
    }
}

static void test_normalise_cloudevents_comes_back_as_it_was(void **state)
{
    (void)state;
    expect(RUN("{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\","
               "\"data\":1.50}",
               "normalise", "--as", "cloudevents"),
           MR_EXIT_OK, "\"data\":1.50}", NULL);
    expect(RUN("{}", "normalise", "--as", "cloudevents"), MR_EXIT_DATA, NULL, "normalise");
}

static void test_dlq_refuses_wrong_options_before_it_looks_for_an_instance(void **state)
{
    (void)state;
    expect(RUN("", "dlq", "redrive", "s", "--canary", "0"), MR_EXIT_USAGE, NULL, "--canary wants");
    expect(RUN("", "dlq", "redrive", "s", "--stop-if-fail", "%"), MR_EXIT_USAGE, NULL, "1% to");
    expect(RUN("", "dlq", "list", "s", "--limit", "x"), MR_EXIT_USAGE, NULL, "--limit wants");
    expect(RUN("", "dlq", "redrive", "s", "--rate", "x"), MR_EXIT_USAGE, NULL, "--rate wants");
    expect(RUN("", "dlq", "purge", "s"), MR_EXIT_USAGE, NULL, "--yes");
}

static void test_instance_that_is_not_there_is_69(void **state)
{
    (void)state;
    expect(RUN("", "sub", "list", "--data-dir", "/nonexistent"), MR_EXIT_NO_INSTANCE, NULL,
           "no running instance");
}

/* --- the pieces ------------------------------------------------------------------------------- */

static void expect_items(const char *body, const char *key, const char *joined)
{
    char got[512] = "";
    size_t at = 0;
    size_t used = 0;
    struct mr_bytes item;
    while (mr_json_next_item(mr_bytes_of(body), key, &at, &item)) {
        used += (size_t)snprintf(got + used, sizeof(got) - used, "<%.*s>", (int)item.size,
                                 (const char *)item.data);
    }
    assert_string_equal(got, joined);
}

static void test_json_next_item_gives_elements_as_they_stand(void **state)
{
    (void)state;
    expect_items("{\"a\":[1,{\"b\":[2,\"],}\\\"\"]},\"x\"],\"c\":0}", "a",
                 "<1><{\"b\":[2,\"],}\\\"\"]}><\"x\">");
    expect_items("{\"n\":1,\"t\":\"a\\\"[\",\"a\":[1.50]}", "a", "<1.50>");
    expect_items("{\"a\":[]}", "a", "");
    expect_items("{\"b\":{\"a\":[1]}}", "a", "");
    expect_items("{\"a\":1}", "a", "");
    expect_items("", "a", "");
    expect_items("{\"a\":[1,2", "a", "<1><2>");
}

static void test_path_encodes_names_and_values(void **state)
{
    (void)state;
    struct mr_path path;
    mr_path_init(&path, "/api/v1/dlq/", "a/b c", "/purge");
    mr_path_query(&path, "error", "x&y=z");
    mr_path_query(&path, "none", NULL);
    mr_path_query_u64(&path, "after", 18446744073709551615ull);
    assert_int_equal(path.status, MR_OK);
    assert_true(mr_bytes_equal(
        mr_buf_bytes(&path.buf),
        mr_bytes_of("http://localhost/api/v1/dlq/a%2Fb%20c/purge?error=x%26y%3Dz&after="
                    "18446744073709551615")));
    mr_buf_release(&path.buf);
}

static void test_json_text_is_for_people(void **state)
{
    (void)state;
    cJSON *json = cJSON_Parse("{\"s\":\"x\",\"n\":42,\"f\":1.5,\"t\":true,\"z\":null,"
                              "\"big\":1e300}");
    char number[32];
    assert_string_equal(mr_json_text(json, "s", number), "x");
    assert_string_equal(mr_json_text(json, "n", number), "42");
    assert_string_equal(mr_json_text(json, "f", number), "1.500");
    assert_string_equal(mr_json_text(json, "t", number), "yes");
    assert_string_equal(mr_json_text(json, "z", number), "");
    assert_string_equal(mr_json_text(json, "absent", number), "");
    assert_true(strlen(mr_json_text(json, "big", number)) < 32);
    cJSON_Delete(json);
}

static void test_table_aligns_and_cleans(void **state)
{
    (void)state;
    static const char *const head[] = {"NAME", "N", "LAST", NULL};
    char *out = NULL;
    size_t size;
    struct mr_cli cli = {.out = open_memstream(&out, &size)};
    struct mr_table table;
    mr_table_init(&table, head);
    mr_table_cell(&table, "k\xc3\xa4se");
    mr_table_cell(&table, "5");
    mr_table_cell(&table, "a\x1b[1mb");
    mr_table_cell(&table, "x");
    mr_table_cell(&table, "1234");
    mr_table_cell(&table, "");
    mr_table_print(&table, &cli);
    mr_table_print(&table, &cli); /* nothing came since */
    mr_table_cell(&table, "y");
    mr_table_cell(&table, "6");
    mr_table_cell(&table, "z");
    mr_table_print(&table, &cli);
    mr_table_release(&table);
    fclose(cli.out);
    assert_string_equal(out, "NAME     N  LAST\n"
                             "k\xc3\xa4se     5  a [1mb\n"
                             "x     1234  \n"
                             "y        6  z\n");
    free(out);
}

static void test_print_colour_only_where_wanted(void **state)
{
    (void)state;
    char *out = NULL;
    size_t size;
    struct mr_cli cli = {.out = open_memstream(&out, &size)};
    mr_print_colour(&cli, mr_colour_of("dead"), "dead");
    cli.colour = true;
    mr_print_colour(&cli, mr_colour_of("done"), "done");
    fclose(cli.out);
    assert_string_equal(out, "dead\033[32mdone\033[0m");
    free(out);
}

static void test_cli_read_all_is_bounded(void **state)
{
    (void)state;
    char text[100];
    memset(text, 'x', sizeof(text));
    FILE *from = fmemopen(text, sizeof(text), "r");
    struct mr_buf buf;
    assert_int_equal(mr_cli_read_all(from, 99, &buf), MR_E_TOO_BIG);
    mr_buf_release(&buf);
    rewind(from);
    assert_int_equal(mr_cli_read_all(from, 100, &buf), MR_OK);
    assert_int_equal(buf.size, 100);
    mr_buf_release(&buf);
    fclose(from);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cli_main_unknown_verb_suggests_the_nearest),
        cmocka_unit_test(test_cli_main_group_alone_lists_its_verbs),
        cmocka_unit_test(test_cli_main_options_are_parsed_in_every_spelling),
        cmocka_unit_test(test_cli_main_later_verbs_say_so),
        cmocka_unit_test(test_verbs_have_help_and_bounded_options),
        cmocka_unit_test(test_normalise_cloudevents_comes_back_as_it_was),
        cmocka_unit_test(test_dlq_refuses_wrong_options_before_it_looks_for_an_instance),
        cmocka_unit_test(test_instance_that_is_not_there_is_69),
        cmocka_unit_test(test_json_next_item_gives_elements_as_they_stand),
        cmocka_unit_test(test_path_encodes_names_and_values),
        cmocka_unit_test(test_json_text_is_for_people),
        cmocka_unit_test(test_table_aligns_and_cleans),
        cmocka_unit_test(test_print_colour_only_where_wanted),
        cmocka_unit_test(test_cli_read_all_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
