#include "tests/support/test.h"

#include "admin/internal.h"
#include "admin/metrics.h"
#include "core/alloc.h"
#include "core/io.h"

static const struct mr__route *find(enum mr_http_method method, const char *path, bool on_ingest,
                                    char name[64], unsigned *allowed)
{
    struct mr_bytes rest = {0};
    const struct mr__route *route = mr__route_find(method, path, on_ingest, &rest, allowed);
    (void)snprintf(name, 64, "%.*s", (int)rest.size,
                   rest.size == 0 ? "" : (const char *)rest.data);
    return route;
}

static void test_route_find_plain_path_matches_whole(void **state)
{
    (void)state;
    char name[64];
    unsigned allowed;
    assert_ptr_equal(find(MR_HTTP_GET, "/api/v1/status", false, name, &allowed)->run,
                     mr__get_status);
    assert_null(find(MR_HTTP_GET, "/api/v1/statusx", false, name, &allowed));
    assert_int_equal(allowed, 0);
    assert_null(find(MR_HTTP_GET, "/api/v1/", false, name, &allowed));
    assert_null(find(MR_HTTP_GET, "", false, name, &allowed));
}

static void test_route_find_name_may_hold_slashes(void **state)
{
    (void)state;
    char name[64];
    unsigned allowed;
    assert_ptr_equal(find(MR_HTTP_GET, "/api/v1/dlq/s/on_failure/f", false, name, &allowed)->run,
                     mr__get_dlq);
    assert_string_equal(name, "s/on_failure/f");
    assert_ptr_equal(
        find(MR_HTTP_POST, "/api/v1/dlq/s/on_failure/f/redrive", false, name, &allowed)->run,
        mr__post_dlq_redrive);
    assert_string_equal(name, "s/on_failure/f");
}

static void test_route_find_verb_picks_the_action(void **state)
{
    (void)state;
    char name[64];
    unsigned allowed;
    assert_ptr_equal(
        find(MR_HTTP_POST, "/api/v1/subscriptions/a/pause", false, name, &allowed)->run,
        mr__post_subscription_pause);
    assert_ptr_equal(
        find(MR_HTTP_POST, "/api/v1/subscriptions/a/resume", false, name, &allowed)->run,
        mr__post_subscription_resume);
    assert_string_equal(name, "a");
    assert_null(find(MR_HTTP_POST, "/api/v1/subscriptions/a/burn", false, name, &allowed));
    assert_null(find(MR_HTTP_POST, "/api/v1/subscriptions//pause", false, name, &allowed));
    assert_null(find(MR_HTTP_POST, "/api/v1/subscriptions/pause", false, name, &allowed));
}

static void test_route_find_wrong_method_tells_the_allowed(void **state)
{
    (void)state;
    char name[64];
    unsigned allowed;
    assert_null(find(MR_HTTP_POST, "/api/v1/status", false, name, &allowed));
    assert_int_equal(allowed, MR_HTTP_GET);
    assert_null(find(MR_HTTP_GET, "/api/v1/reload", false, name, &allowed));
    assert_int_equal(allowed, MR_HTTP_POST);
}

static void test_route_find_ingest_serves_health_and_metrics_alone(void **state)
{
    (void)state;
    char name[64];
    unsigned allowed;
    assert_non_null(find(MR_HTTP_GET, "/livez", true, name, &allowed));
    assert_non_null(find(MR_HTTP_GET, "/readyz", true, name, &allowed));
    assert_non_null(find(MR_HTTP_GET, "/metrics", true, name, &allowed));
    for (const struct mr__route *route = mr__routes; route->path != NULL; route++) {
        assert_int_equal(route->on_ingest, strncmp(route->path, "/api/", 5) != 0);
        assert_non_null(route->scope);
        assert_non_null(route->run);
    }
}

static void read_doc(const char *path, char **ret_text)
{
    assert_int_equal(mr_file_read(path, MR_MIB, ret_text, NULL), MR_OK);
}

/* "/api/v1/dlq/" + "*" and "redrive" is "/api/v1/dlq/{name}/redrive" in the OpenAPI file. */
static void test_routes_are_all_in_the_openapi_file(void **state)
{
    (void)state;
    char *doc = NULL;
    read_doc(MR_SOURCE_DIR "/docs/openapi.yaml", &doc);
    for (const struct mr__route *route = mr__routes; route->path != NULL; route++) {
        char wanted[160];
        size_t size = strlen(route->path);
        bool star = route->path[size - 1] == '*';
        (void)snprintf(wanted, sizeof(wanted), "\n  %.*s%s%s%s:\n",
                       (int)(star ? size - 1 : size), route->path, star ? "{name}" : "",
                       route->verb == NULL ? "" : "/", route->verb == NULL ? "" : route->verb);
        const char *path = strstr(doc, wanted);
        const char *method = route->method == MR_HTTP_GET    ? "\n    get:"
                             : route->method == MR_HTTP_POST ? "\n    post:"
                             : route->method == MR_HTTP_PUT  ? "\n    put:"
                                                             : "\n    delete:";
        const char *at = path == NULL ? NULL : strstr(path, method);
        const char *next = path == NULL ? NULL : strstr(path + 1, "\n  /");
        if (at == NULL || (next != NULL && at > next)) { /* a path may have several methods */
            fail_msg("docs/openapi.yaml lacks %s", wanted);
        }
    }
    mr_free(doc);
}

static void test_metrics_are_all_in_the_reference(void **state)
{
    (void)state;
    char *doc = NULL;
    read_doc(MR_SOURCE_DIR "/docs/reference/metrics.md", &doc);
    for (const struct mr__family *family = mr__families; family->name != NULL; family++) {
        char wanted[160];
        bool counter = strcmp(family->type, "counter") == 0;
        (void)snprintf(wanted, sizeof(wanted), "| `%s%s` | %s |", family->name,
                       counter ? "_total" : "", family->type);
        const char *row = strstr(doc, wanted);
        if (row == NULL || strstr(row, family->help) == NULL) {
            fail_msg("docs/reference/metrics.md lacks %s, or its meaning", wanted);
        }
        assert_true(counter || strcmp(family->type, "gauge") == 0 ||
                    strcmp(family->type, "histogram") == 0);
        if (family->unit != NULL) { /* OpenMetrics: the name ends with the unit */
            assert_true(mr_bytes_ends(mr_bytes_of(family->name), mr_bytes_of(family->unit)));
        }
    }
    mr_free(doc);
}

static void test_http_status_follows_the_class(void **state)
{
    (void)state;
    assert_int_equal(mr__http_status(MR_OK), 200);
    assert_int_equal(mr__http_status(MR_E_NOT_FOUND), 404);
    assert_int_equal(mr__http_status(MR_E_CONFLICT), 409);
    assert_int_equal(mr__http_status(MR_E_BUG), 500);
#define CHECK(name, value, class_, text)                                                           \
    if (mr_status_class(name) == MR_CLASS_RETRY) {                                                 \
        assert_int_equal(mr__http_status(name), 503);                                              \
    } else if (mr_status_class(name) == MR_CLASS_PERMANENT) {                                      \
        assert_in_range(mr__http_status(name), 400, 499);                                          \
    }
    MR_STATUS_LIST(CHECK)
#undef CHECK
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_route_find_plain_path_matches_whole),
        cmocka_unit_test(test_route_find_name_may_hold_slashes),
        cmocka_unit_test(test_route_find_verb_picks_the_action),
        cmocka_unit_test(test_route_find_wrong_method_tells_the_allowed),
        cmocka_unit_test(test_route_find_ingest_serves_health_and_metrics_alone),
        cmocka_unit_test(test_routes_are_all_in_the_openapi_file),
        cmocka_unit_test(test_metrics_are_all_in_the_reference),
        cmocka_unit_test(test_http_status_follows_the_class),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
