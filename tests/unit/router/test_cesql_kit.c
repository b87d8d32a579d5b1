/* The CloudEvents CESQL test kit, read in place: every file beside the source tree, every case. */
#include "fixture.h"

#include <dirent.h>

#include <yaml.h>


#define FOLDER MR_SHARED_DIR "/conformance/cesql-tck"

struct tally {
    unsigned files;
    unsigned cases;
    unsigned failed;
};

/* Where the kit contradicts CESQL 1.0.0, which makes Integer to Boolean a cast that must succeed;
 * both SDKs carry the file with the value below. */
static const struct {
    const char *expression;
    const char *result;
    const char *error;
} overrides[] = {{"NOT 10", "false", NULL}};

static const char *text_of(const yaml_node_t *node)
{
    assert_int_equal(node->type, YAML_SCALAR_NODE);
    return (const char *)node->data.scalar.value;
}

static yaml_node_t *member(yaml_document_t *document, const yaml_node_t *node, const char *name)
{
    assert_int_equal(node->type, YAML_MAPPING_NODE);
    for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top;
         p++) {
        if (strcmp(text_of(yaml_document_get_node(document, p->key)), name) == 0) {
            return yaml_document_get_node(document, p->value);
        }
    }
    return NULL;
}

/* The type of a scalar without quotes. */
static enum mr_attr_type type_of(const yaml_node_t *node)
{
    const char *text = text_of(node);
    char *end = NULL;
    if (node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE) {
        return MR_ATTR_STRING;
    }
    if (strcasecmp(text, "true") == 0 || strcasecmp(text, "false") == 0) {
        return MR_ATTR_BOOLEAN;
    }
    (void)strtol(text, &end, 10);
    return *text != '\0' && *end == '\0' ? MR_ATTR_INTEGER : MR_ATTR_STRING;
}

static void take_attributes(yaml_document_t *document, const yaml_node_t *from, cJSON *event)
{
    for (yaml_node_pair_t *p = from->data.mapping.pairs.start; p < from->data.mapping.pairs.top;
         p++) {
        const char *name = text_of(yaml_document_get_node(document, p->key));
        yaml_node_t *value = yaml_document_get_node(document, p->value);
        const char *text = text_of(value);
        cJSON_DeleteItemFromObject(event, name);
        enum mr_attr_type type = type_of(value);
        if (type == MR_ATTR_BOOLEAN) {
            cJSON_AddBoolToObject(event, name, strcasecmp(text, "true") == 0);
        } else if (type == MR_ATTR_INTEGER) {
            cJSON_AddNumberToObject(event, name, (double)strtol(text, NULL, 10));
        } else {
            cJSON_AddStringToObject(event, name, text);
        }
    }
}

static struct mr_event *event_of_case(yaml_document_t *document, const yaml_node_t *one)
{
    cJSON *json = cJSON_Parse("{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\","
                              "\"type\":\"t\",\"subject\":\"x\"}");
    yaml_node_t *event = member(document, one, "event");
    yaml_node_t *more = member(document, one, "eventOverrides");
    if (event != NULL) {
        cJSON_DeleteItemFromObject(json, "subject");
        take_attributes(document, event, json);
    }
    if (more != NULL) {
        take_attributes(document, more, json);
    }
    struct mr_event *made = event_of_json(json);
    cJSON_Delete(json);
    return made;
}

static char *expected_value(const yaml_node_t *node)
{
    struct mr_buf buf;
    mr_buf_init(&buf, 64 * MR_KIB);
    enum mr_attr_type type = type_of(node);
    const char *text = text_of(node);
    enum mr_status r;
    if (type == MR_ATTR_BOOLEAN) {
        r = mr_buf_append_text(&buf, strcasecmp(text, "true") == 0 ? "true" : "false");
    } else {
        r = type == MR_ATTR_INTEGER ? mr_buf_append_text(&buf, text)
                                    : mr_buf_append_json(&buf, mr_bytes_of(text));
    }
    assert_int_equal(r, MR_OK);
    return mr_buf_take_text(&buf);
}

static void run_case(yaml_document_t *document, const yaml_node_t *one, struct tally *tally)
{
    const char *expression = text_of(member(document, one, "expression"));
    yaml_node_t *result = member(document, one, "result");
    yaml_node_t *error = member(document, one, "error");
    char *value = result == NULL ? NULL : expected_value(result);
    const char *wanted = error == NULL ? NULL : text_of(error);
    for (size_t i = 0; i < MR_ARRAY_COUNT(overrides); i++) {
        if (strcmp(overrides[i].expression, expression) == 0) {
            mr_free(value);
            value = mr_strdup(overrides[i].result);
            wanted = overrides[i].error;
        }
    }
    struct mr_event *event = event_of_case(document, one);
    struct mr_buf out;
    mr_buf_init(&out, 64 * MR_KIB);
    const char *got = NULL;
    struct mr_problem problem = {""};
    enum mr_status r = mr_sql_eval(mr_bytes_of(expression), mr_event_record(event), &out, &got,
                                   &problem);
    if (r != MR_OK) {
        assert_int_equal(mr_buf_append_text(&out, "false"), MR_OK);
    }
    bool same_value =
        value == NULL || mr_bytes_equal(mr_buf_bytes(&out), mr_bytes_of(value));
    bool same_error = (got == NULL) == (wanted == NULL) &&
                      (got == NULL || strcmp(got, wanted) == 0);
    tally->cases++;
    if (!same_value || !same_error) {
        tally->failed++;
        print_message("%s: `%s`: %.*s, %s instead of %s, %s (%s)\n",
                      text_of(member(document, one, "name")), expression, (int)out.size,
                      (const char *)out.data, got == NULL ? "no error" : got,
                      value == NULL ? "any" : value, wanted == NULL ? "no error" : wanted,
                      problem.text);
    }
    mr_buf_release(&out);
    mr_event_unref(event);
    mr_free(value);
}

static void run_file(const char *path, struct tally *tally)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    yaml_parser_t parser;
    yaml_document_t document;
    assert_true(yaml_parser_initialize(&parser));
    yaml_parser_set_input_file(&parser, file);
    assert_true(yaml_parser_load(&parser, &document));
    yaml_node_t *tests = member(&document, yaml_document_get_root_node(&document), "tests");
    assert_non_null(tests);
    assert_int_equal(tests->type, YAML_SEQUENCE_NODE);
    for (yaml_node_item_t *item = tests->data.sequence.items.start;
         item < tests->data.sequence.items.top; item++) {
        run_case(&document, yaml_document_get_node(&document, *item), tally);
    }
    tally->files++;
    yaml_document_delete(&document);
    yaml_parser_delete(&parser);
    (void)fclose(file); /* only read */
}

static void test_cesql_kit_agrees(void **state)
{
    (void)state;
    struct tally tally = {0};
    DIR *folder = opendir(FOLDER);
    if (folder == NULL) {
        print_message("SKIPPED: no CESQL test kit beside the source tree\n");
        skip();
    }
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        size_t size = strlen(entry->d_name);
        char path[4096];
        if (size > 5 && strcmp(entry->d_name + size - 5, ".yaml") == 0) {
            (void)snprintf(path, sizeof(path), FOLDER "/%s", entry->d_name);
            run_file(path, &tally);
        }
    }
    (void)closedir(folder);
    print_message("%u cases of %u files\n", tally.cases, tally.files);
    assert_int_equal(tally.failed, 0);
    assert_true(tally.cases >= 90);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cesql_kit_agrees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
