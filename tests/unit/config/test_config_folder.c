/* Files and folders: what is read, in which order, and how fragments come together. */
#include "fake_kinds.h"

#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 16

struct place {
    char folder[64];
    char names[FILES_MAX][128];
    uint32_t count;
};

static int set_up(void **state)
{
    struct place *place = mr_calloc(1, sizeof(*place));
    if (place == NULL) {
        return -1;
    }
    (void)snprintf(place->folder, sizeof(place->folder), "/tmp/mr-config-folder-XXXXXX");
    *state = place;
    return mkdtemp(place->folder) == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    for (uint32_t i = place->count; i > 0; i--) {
        (void)remove(place->names[i - 1]);
    }
    int r = rmdir(place->folder);
    mr_free(place);
    return r;
}

static const char *put(struct place *place, const char *name, const char *text)
{
    assert_true(place->count < FILES_MAX);
    char folder[sizeof(place->folder)];
    memcpy(folder, place->folder, sizeof(folder));
    char *path = place->names[place->count++];
    (void)snprintf(path, sizeof(place->names[0]), "%s/%s", folder, name);
    if (text == NULL) {
        assert_int_equal(mkdir(path, 0700), 0);
        return path;
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    return path;
}

static struct mr_config *load(const char *path)
{
    struct mr_config *config = NULL;
    struct mr_config_errors errors;
    enum mr_status r = mr_config_load(path, &fake_kinds, &config, &errors);
    for (uint32_t i = 0; i < errors.count; i++) {
        print_message("%s: %s\n", errors.items[i].file, errors.items[i].text);
    }
    mr_config_errors_release(&errors);
    assert_int_equal(r, MR_OK);
    return config;
}

static void check_load_error(const char *path, enum mr_status wanted, uint32_t count,
                             const char *part)
{
    struct mr_config *config = NULL;
    struct mr_config_errors errors;
    assert_int_equal(mr_config_load(path, &fake_kinds, &config, &errors), wanted);
    assert_null(config);
    assert_int_equal(errors.count, count);
    struct mr_buf buf;
    mr_buf_init(&buf, 1u << 16);
    assert_int_equal(mr_config_errors_print(&errors, &buf, false), MR_OK);
    char *text = mr_buf_take_text(&buf);
    check_has(text, part);
    mr_free(text);
    mr_config_errors_release(&errors);
}

static void test_load_file_starts_paths_at_its_folder(void **state)
{
    struct place *place = *state;
    const char *path = put(place, "millrace.yaml", "data_dir: d/./e\nlisten: off\n");
    struct mr_config *config = load(path);
    char wanted[128];
    (void)snprintf(wanted, sizeof(wanted), "%s/d/e", place->folder);
    assert_string_equal(config->data_dir, wanted);
    assert_string_equal(config->path, path);
    assert_string_equal(config->folder, place->folder);
    mr_config_destroy(config);
}

static void test_load_relative_path_is_made_absolute(void **state)
{
    struct place *place = *state;
    char here[4096];
    assert_non_null(getcwd(here, sizeof(here)));
    (void)put(place, "millrace.yaml", "listen: off\n");
    assert_int_equal(chdir(place->folder), 0);
    struct mr_config *config = load("./millrace.yaml");
    assert_int_equal(chdir(here), 0);
    char wanted[128];
    (void)snprintf(wanted, sizeof(wanted), "%s/millrace.yaml", place->folder);
    assert_string_equal(config->path, wanted);
    assert_string_equal(config->folder, place->folder);
    mr_config_destroy(config);
}

static void test_load_file_in_the_root_folder_has_the_root(void **state)
{
    (void)state;
    struct mr_config *config = NULL;
    struct mr_config_errors errors;
    assert_int_equal(mr_config_load_text("x.yaml", "/", mr_bytes_of("data_dir: d"), &fake_kinds,
                                         &config, &errors),
                     MR_OK);
    assert_string_equal(config->folder, "/");
    assert_string_equal(config->data_dir, "/d");
    mr_config_destroy(config);
}

static void test_load_missing_file_is_not_found(void **state)
{
    struct place *place = *state;
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/none.yaml", place->folder);
    check_load_error(path, MR_E_NOT_FOUND, 1, "none.yaml: not found");
}

static void test_load_unreadable_file_is_denied(void **state)
{
    struct place *place = *state;
    if (geteuid() == 0) {
        print_message("skipped: root reads every file\n");
        skip();
    }
    const char *path = put(place, "a.yaml", "listen: off\n");
    assert_int_equal(chmod(path, 0), 0);
    check_load_error(path, MR_E_DENIED, 1, "a.yaml: denied");
}

static void test_load_folder_merges_fragments_by_name(void **state)
{
    struct place *place = *state;
    (void)put(place, "10-base.yaml", "listen: off\nsources:\n  shop: {http: {}}\n");
    (void)put(place, "20-team.yml", "sources:\n  lake: {http: {}}\n"
                                     "workers:\n  w: {exec: {command: x}}\n");
    (void)put(place, "30-subs.json",
              "{\"subscriptions\":{\"one\":{\"to\":\"w\",\"source\":\"lake\"}}}");
    (void)put(place, "40-empty.yaml", "# nothing yet\nsources:\n");
    struct mr_config *config = load(place->folder);
    assert_true(config->listen_off);
    assert_int_equal(config->source_count, 2);
    assert_string_equal(config->sources[1].name, "lake");
    assert_int_equal(config->subscriptions[0].sources[0], 1);
    assert_string_equal(config->path, place->folder);
    assert_string_equal(config->folder, place->folder);
    assert_string_equal(config->canonical_json,
                        "{\"listen\":\"off\",\"sources\":{\"shop\":{\"http\":{}},\"lake\":{"
                        "\"http\":{}}},\"workers\":{\"w\":{\"exec\":{\"command\":\"x\"}}},"
                        "\"subscriptions\":{\"one\":{\"to\":\"w\",\"source\":\"lake\"}}}");
    mr_config_destroy(config);
}

static void test_load_folder_reads_in_name_order_whatever_was_written_first(void **state)
{
    struct place *place = *state;
    (void)put(place, "b.yaml", "sources: {two: {http: {}}}\n");
    (void)put(place, "a.yaml", "sources: {one: {http: {}}}\n");
    struct mr_config *config = load(place->folder);
    assert_string_equal(config->sources[0].name, "one");
    assert_string_equal(config->sources[1].name, "two");
    mr_config_destroy(config);
}

static void test_load_folder_empty_section_first_is_filled_later(void **state)
{
    struct place *place = *state;
    (void)put(place, "a.yaml", "sources:\n");
    (void)put(place, "b.yaml", "sources: {two: {http: {}}}\n");
    struct mr_config *config = load(place->folder);
    assert_int_equal(config->source_count, 1);
    mr_config_destroy(config);
}

static void test_load_folder_leaves_other_files_alone(void **state)
{
    struct place *place = *state;
    (void)put(place, "a.yaml", "listen: off\n");
    (void)put(place, "b.yaml.bak", "nonsense: [\n");
    (void)put(place, ".c.yaml", "nonsense: [\n");
    (void)put(place, "README.md", "# hello\n");
    (void)put(place, "sub.yaml", NULL);
    struct mr_config *config = load(place->folder);
    assert_true(config->listen_off);
    mr_config_destroy(config);
}

static void test_load_folder_name_twice_shows_both_places(void **state)
{
    struct place *place = *state;
    (void)put(place, "a.yaml", "sources:\n  shop: {http: {}}\n");
    (void)put(place, "b.yaml", "# x\nsources:\n  shop: {http: {}}\n");
    char wanted[256];
    (void)snprintf(wanted, sizeof(wanted),
                   "%s/b.yaml:3:3: `shop` is defined twice; the first is at %s/a.yaml:2:3\n",
                   place->folder, place->folder);
    check_load_error(place->folder, MR_E_INVALID, 1, wanted);
}

static void test_load_folder_setting_twice_shows_both_places(void **state)
{
    struct place *place = *state;
    (void)put(place, "a.yaml", "listen: off\nlog: {disk_low: 1MiB}\n");
    (void)put(place, "b.yaml", "listen: off\nlog: {max_size: 1GiB}\n");
    check_load_error(place->folder, MR_E_INVALID, 2, "b.yaml:1:1: `listen` is defined twice");
    check_load_error(place->folder, MR_E_INVALID, 2, "b.yaml:2:1: `log` is defined twice");
}

static void test_load_folder_section_twice_in_one_file_is_refused(void **state)
{
    struct place *place = *state;
    (void)put(place, "a.yaml", "sources: {x: {http: {}}}\n");
    (void)put(place, "b.yaml", "sources: {y: {http: {}}}\nsources: {z: {http: {}}}\n");
    check_load_error(place->folder, MR_E_INVALID, 1, "b.yaml:2:1: `sources` is defined twice");
}

static void test_load_folder_with_a_broken_fragment_reports_no_followers(void **state)
{
    struct place *place = *state;
    (void)put(place, "a.yaml", "workers: {w: {exec: {command: [x}}}\n");
    (void)put(place, "b.yaml", "subscriptions: {one: {to: w}}\n");
    check_load_error(place->folder, MR_E_INVALID, 1, "a.yaml:1:");
}

static void test_load_folder_without_fragments_is_refused(void **state)
{
    struct place *place = *state;
    check_load_error(place->folder, MR_E_INVALID, 1, "the folder holds no *.yaml");
}

static void test_load_folder_too_large_together_is_refused(void **state)
{
    struct place *place = *state;
    size_t size = MR_CONFIG_SIZE_MAX / 2u + 10;
    char *text = mr_alloc(size + 1);
    assert_non_null(text);
    memset(text, '\n', size);
    text[0] = '#';
    text[size] = '\0';
    (void)put(place, "a.yaml", text);
    (void)put(place, "b.yaml", text);
    mr_free(text);
    check_load_error(place->folder, MR_E_TOO_BIG, 1, "larger than 8MiB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        CASE(test_load_file_starts_paths_at_its_folder),
        CASE(test_load_relative_path_is_made_absolute),
        CASE(test_load_file_in_the_root_folder_has_the_root),
        CASE(test_load_missing_file_is_not_found),
        CASE(test_load_unreadable_file_is_denied),
        CASE(test_load_folder_merges_fragments_by_name),
        CASE(test_load_folder_reads_in_name_order_whatever_was_written_first),
        CASE(test_load_folder_empty_section_first_is_filled_later),
        CASE(test_load_folder_leaves_other_files_alone),
        CASE(test_load_folder_name_twice_shows_both_places),
        CASE(test_load_folder_setting_twice_shows_both_places),
        CASE(test_load_folder_section_twice_in_one_file_is_refused),
        CASE(test_load_folder_with_a_broken_fragment_reports_no_followers),
        CASE(test_load_folder_without_fragments_is_refused),
        CASE(test_load_folder_too_large_together_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
