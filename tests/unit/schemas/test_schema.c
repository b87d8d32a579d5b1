#include "tests/support/test.h"

#include "core/alloc.h"
#include "schemas/schema.h"

/* Files that exist only here. */
static enum mr_status read_fake(void *context, const char *path, char **ret_text, size_t *ret_size)
{
    const char *const *file = context;
    for (; file != NULL && file[0] != NULL; file += 2) {
        if (strcmp(file[0], path) == 0) {
            *ret_text = mr_strdup(file[1]);
            *ret_size = strlen(file[1]);
            return *ret_text == NULL ? MR_E_NOMEM : MR_OK;
        }
    }
    return MR_E_NOT_FOUND;
}

static struct mr_schema *make(const char *text, const char *const *files)
{
    struct mr_schema_files reader = {read_fake, (void *)(uintptr_t)files};
    struct mr_schema *schema = NULL;
    struct mr_problem problem = {""};
    if (mr_schema_create("/s/main.json", mr_bytes_of(text), &reader, &schema, &problem) != MR_OK) {
        fail_msg("%s: %s", text, problem.text);
    }
    return schema;
}

static void says(const char *text, const char *data, const char *reason)
{
    struct mr_schema *schema = make(text, NULL);
    struct mr_problem problem = {""};
    enum mr_status r = mr_schema_check(schema, mr_bytes_of(data), &problem);
    if ((r == MR_OK) != (reason == NULL) || (reason != NULL && strcmp(problem.text, reason) != 0)) {
        fail_msg("%s on %s: %s \"%s\"", text, data, mr_status_name(r), problem.text);
    }
    mr_schema_destroy(schema);
}

static void refuses(const char *text, enum mr_status status, const char *reason)
{
    struct mr_schema *schema = NULL;
    struct mr_problem problem = {""};
    enum mr_status r =
        mr_schema_create("/s/main.json", mr_bytes_of(text), NULL, &schema, &problem);
    if (r != status || strstr(problem.text, reason) == NULL) {
        fail_msg("%s: %s \"%s\"", text, mr_status_name(r), problem.text);
    }
}

static void test_schema_check_says_what_was_wanted_and_where(void **state)
{
    (void)state;
    says("{\"properties\":{\"a/b\":{\"items\":{\"minimum\":2.50}}}}", "{\"a/b\":[3,2.5,1]}",
         "main.json#/properties/a~1b/items/minimum wants 2.50, the data has 1 at /a~1b/2");
    says("{\"additionalProperties\":false}", "{\"x\":\"a\\\"b\"}",
         "main.json#/additionalProperties wants nothing here, the data has \"a\\\"b\" at /x");
    says("{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", "7",
         "main.json#/anyOf wants [{\"type\":\"string\"},{\"type\":\"null\"}], the data has 7");
    says("{\"allOf\":[{\"enum\":[1,2]}]}", "3",
         "main.json#/allOf/0/enum wants [1,2], the data has 3");
    says("true", "[", "no JSON at byte 2: a value is missing");
    says("{\"uniqueItems\":true}", "[1,{\"a\":1,\"b\":2},{\"b\":2.0,\"a\":1}]",
         "main.json#/uniqueItems wants true, the data has [1,{\"a\":1,\"b\":2},"
         "{\"b\":2.0,\"a\":1}]");
    says("{\"propertyNames\":{\"maxLength\":1}}", "{\"ab\":1}",
         "main.json#/propertyNames/maxLength wants 1, the data has \"ab\" at /ab");
    says("{\"const\":{\"a\":[1,{\"b\":null}],\"c\":1e2}}", "{\"c\":100,\"a\":[1.0,{\"b\":null}]}",
         NULL);
}

static void test_schema_create_refuses_what_it_would_not_enforce(void **state)
{
    (void)state;
    refuses("{\"a\":{}}", MR_E_UNSUPPORTED, "main.json#/a is no keyword that is known");
    refuses("{\"$defs\":{\"a\":{\"b\":1}}}", MR_E_UNSUPPORTED, "main.json#/$defs/a/b is no");
    refuses("{\"$dynamicRef\":\"#a\"}", MR_E_UNSUPPORTED, "not supported");
    refuses("{\"not\":3}", MR_E_INVALID, "main.json#/not has no value");
    refuses("{\"type\":\"string\",\"type\":\"null\"}", MR_E_INVALID, "stands there twice");
    refuses("{\"items\":[{}]}", MR_E_INVALID, "prefixItems");
    refuses("{\"maxLength\":-1}", MR_E_INVALID, "wants a count");
    refuses("{\"allOf\":[]}", MR_E_INVALID, "wants one schema");
    refuses("{\"required\":[1]}", MR_E_INVALID, "main.json#/required/0 wants the name");
    refuses("{\"$ref\":\"other.json\"}", MR_E_NOT_FOUND, "leads to no document");
    refuses("{\"$ref\":\"#nowhere\"}", MR_E_NOT_FOUND, "leads to no schema");
    refuses("{\"$id\":\"a#b\"}", MR_E_INVALID, "without a fragment");
    refuses("[]", MR_E_INVALID, "is no schema");
    refuses("{", MR_E_INVALID, "no JSON at byte 2");
    refuses("{\"patternProperties\":{\"(?=a)\":{}}}", MR_E_UNSUPPORTED,
            "main.json#/patternProperties/(?=a) at byte 3");
}

static void test_schema_references_reach_files_anchors_and_ids(void **state)
{
    (void)state;
    static const char *const files[] = {
        "/s/links/end.json",
        "{\"$id\":\"https://example.com/schema/links/end\",\"$ref\":\"path\","
        "\"$defs\":{\"x\":{\"$anchor\":\"here\",\"const\":\"h\"}}}",
        "/s/links/path.json", "{\"type\":\"object\"}", NULL};
    struct mr_schema *schema =
        make("{\"$id\":\"https://example.com/schema/main\",\"properties\":{"
             "\"link\":{\"$ref\":\"links/end\"},\"here\":{\"$ref\":\"links/end#here\"},"
             "\"self\":{\"$ref\":\"#\"},\"own\":{\"$ref\":\"#/x-own/a%25b\"}},"
             "\"x-own\":{\"a%b\":{\"maximum\":1}}}",
             files);
    static const struct {
        const char *data;
        bool good;
    } cases[] = {{"{\"link\":{}}", true},          {"{\"link\":1}", false},
                 {"{\"here\":\"h\"}", true},       {"{\"here\":\"g\"}", false},
                 {"{\"self\":{\"link\":{}}}", true}, {"{\"self\":{\"link\":1}}", false},
                 {"{\"own\":1}", true},            {"{\"own\":2}", false}};
    for (size_t i = 0; i < MR_ARRAY_COUNT(cases); i++) {
        enum mr_status r = mr_schema_check(schema, mr_bytes_of(cases[i].data), NULL);
        assert_int_equal(r, cases[i].good ? MR_OK : MR_E_INVALID);
    }
    mr_schema_destroy(schema);
}

static void test_schema_check_is_bounded(void **state)
{
    (void)state;
    struct mr_problem problem = {""};
    struct mr_schema *schema = make("{\"allOf\":[{\"$ref\":\"#\"}]}", NULL);
    assert_int_equal(mr_schema_check(schema, mr_bytes_of("1"), &problem), MR_E_TOO_BIG);
    assert_non_null(strstr(problem.text, "too long"));
    mr_schema_destroy(schema);
    /* Two references in each of many levels: 2^100 ways. */
    struct mr_buf text;
    mr_buf_init(&text, 1u << 20);
    assert_int_equal(mr_buf_append_text(&text, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{"), MR_OK);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(mr_buf_printf(&text, "\"d%d\":{\"allOf\":[{\"$ref\":\"#/$defs/d%d\"},"
                                              "{\"$ref\":\"#/$defs/d%d\"}]},", i, i + 1, i + 1),
                         MR_OK);
    }
    assert_int_equal(mr_buf_append_text(&text, "\"d100\":{}}}"), MR_OK);
    char *json = mr_buf_take_text(&text);
    schema = make(json, NULL);
    assert_int_equal(mr_schema_check(schema, mr_bytes_of("1"), &problem), MR_E_TOO_BIG);
    mr_schema_destroy(schema);
    mr_free(json);
    mr_buf_release(&text);
}

static void test_schema_survives_every_allocation_that_fails(void **state)
{
    (void)state;
    static const char text[] =
        "{\"$id\":\"https://e.com/x\",\"properties\":{\"a\":{\"pattern\":\"^a+$\"}},"
        "\"anyOf\":[{\"required\":[\"a\"]},{\"$ref\":\"#/$defs/b\"}],\"$defs\":{\"b\":{\"$anchor\":"
        "\"q\",\"uniqueItems\":true}},\"unevaluatedProperties\":false}";
    static const char data[] = "{\"a\":\"\\u0061a\",\"a\":[1,2]}";
    int64_t live = mr_alloc_live();
    enum mr_status r = MR_E_NOMEM;
    for (uint64_t n = 1; r != MR_OK && n < 1000; n++) {
        struct mr_schema *schema = NULL;
        mr_alloc_fail_at(n, 0);
        r = mr_schema_create("/s/m.json", mr_bytes_of(text), NULL, &schema, NULL);
        r = r == MR_OK ? mr_schema_check(schema, mr_bytes_of(data), NULL) : r;
        mr_alloc_fail_at(0, 0);
        mr_schema_destroy(schema);
        assert_int_equal(mr_alloc_live(), live);
        assert_true(r == MR_E_NOMEM || r == MR_E_INVALID || r == MR_OK);
        r = r == MR_E_INVALID ? MR_OK : r; /* it got that far */
    }
    assert_int_equal(r, MR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schema_check_says_what_was_wanted_and_where),
        cmocka_unit_test(test_schema_create_refuses_what_it_would_not_enforce),
        cmocka_unit_test(test_schema_references_reach_files_anchors_and_ids),
        cmocka_unit_test(test_schema_check_is_bounded),
        cmocka_unit_test(test_schema_survives_every_allocation_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
