/* Memory that runs out at every single allocation of a load: an honest status, and nothing lost. */
#include "fake_kinds.h"

static const char right[] =
    "data_dir: ./d\nlisten: 127.0.0.1:0\nlog: {sync: interval, sync_interval: 5ms}\n"
    "sources:\n"
    "  a: {http: {path: '/${env:PATH}', type: t, verify: {scheme: hmac, secret: x}}}\n"
    "  b: {mqtt: {url: 'mqtt://u:p@h:1/x', topics: [a, b, c, d, e], password: y}}\n"
    "  c: {file: {path: f, data: {k: [1, {l: m}]}}}\n"
    "workers:\n"
    "  w: {process: {command: [a, b], env: {A: b, C: d}}, scale: {min: 0, max: 3}}\n"
    "sinks:\n"
    "  s: {http: {url: 'http://h/', headers: {X: y}, pace: 3/s}}\n"
    "  t: {file: {path: z}}\n"
    "subscriptions:\n"
    "  one: {source: [a, b], filter: {exact: {type: x}}, to: w, order_by: data.id, on_success: s, "
    "on_failure: [t, bus], retry: {schedule: [1s, 2s], jitter: full}}\n"
    "  two: {to: s, retry: {attempts: 3}, order_by: subject}\n";

static const char wrong[] =
    "nonsense: 1\nlisten: 0.0.0.0:1\ndrain: 5\n"
    "sources: {a: {http: {pth: x}}, 'b c': {http: {}}, d: {mqtt: {url: 'mqtt://u:%@h'}}}\n"
    "workers: {x: {exec: {}}}\n"
    "sinks: {x: {file: {path: '${env:MR_TEST_NOT_SET}'}}}\n"
    "subscriptions: {one: {to: y, source: z, on_success: x, retry: {schedule: [a]}}}\n"
    "sinks: {}\n";

static const char broken[] = "sources: {a: &b {c: d}}\n";

static enum mr_status load_once(const char *text, uint32_t *ret_errors)
{
    struct mr_config *config = NULL;
    struct mr_config_errors errors;
    enum mr_status r = mr_config_load_text("test.yaml", "/base", mr_bytes_of(text), &fake_kinds,
                                           &config, &errors);
    (void)mr_alloc_fail_at(0, 0);
    assert_true((config != NULL) == (r == MR_OK));
    *ret_errors = errors.count;
    mr_config_errors_release(&errors);
    mr_config_destroy(config);
    return r;
}

/* Fails the nth allocation for n = 1, 2, … until a load gets through untouched. */
static void check_every_failure(const char *text, enum mr_status wanted, int for_ever)
{
    uint32_t errors_wanted;
    assert_int_equal(load_once(text, &errors_wanted), wanted);
    int64_t live = mr_alloc_live();
    for (uint64_t n = 1;; n++) {
        assert_true(n < 100000);
        uint32_t errors;
        (void)mr_alloc_fail_at(n, for_ever);
        enum mr_status r = load_once(text, &errors);
        if (mr_alloc_live() != live) {
            print_error("allocation %llu lost %lld blocks\n", (unsigned long long)n,
                        (long long)(mr_alloc_live() - live));
            fail();
        }
        if (r == wanted && errors == errors_wanted) {
            assert_true(n > 5);
            return;
        }
        assert_int_equal(r, MR_E_NOMEM);
    }
}

static void test_load_right_survives_every_failed_allocation(void **state)
{
    (void)state;
    check_every_failure(right, MR_OK, 0);
}

static void test_load_right_survives_memory_that_stays_away(void **state)
{
    (void)state;
    check_every_failure(right, MR_OK, 1);
}

static void test_load_wrong_survives_every_failed_allocation(void **state)
{
    (void)state;
    check_every_failure(wrong, MR_E_INVALID, 0);
}

static void test_load_broken_survives_every_failed_allocation(void **state)
{
    (void)state;
    check_every_failure(broken, MR_E_INVALID, 1);
}

static void test_documents_survive_every_failed_allocation(void **state)
{
    (void)state;
    struct mr_config *config = load_right(right);
    int64_t live = mr_alloc_live();
    enum mr_status r = MR_E_NOMEM;
    for (uint64_t n = 1; r != MR_OK; n++) {
        struct mr_buf buf;
        mr_buf_init(&buf, 1u << 20);
        (void)mr_alloc_fail_at(n, 0);
        r = mr_config_explain(config, 0, &buf);
        if (r == MR_OK) {
            r = mr_config_reference(&fake_kinds, &buf);
        }
        if (r == MR_OK) {
            r = mr_config_schema(&fake_kinds, &buf);
        }
        (void)mr_alloc_fail_at(0, 0);
        assert_true(r == MR_OK || r == MR_E_NOMEM);
        mr_buf_release(&buf);
        assert_int_equal(mr_alloc_live(), live);
    }
    mr_config_destroy(config);
}

static void test_load_of_ten_thousand_subscriptions_works(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, MR_CONFIG_SIZE_MAX);
    assert_int_equal(mr_buf_append_text(&buf, FAKE_BASE "subscriptions:\n"), MR_OK);
    for (int i = 0; i < 10000; i++) {
        assert_int_equal(
            mr_buf_printf(&buf,
                          "  s%d: {source: shop, filter: {all: [{exact: {type: com.example.t%d}}, "
                          "{prefix: {subject: a/}}]}, to: thumbs, order_by: subject, max_age: 6h, "
                          "on_failure: mail}\n",
                          i, i),
            MR_OK);
    }
    int64_t live = mr_alloc_live();
    struct mr_config *config = NULL;
    struct mr_config_errors errors;
    assert_int_equal(mr_config_load_text("big.yaml", "/", mr_buf_bytes(&buf), &fake_kinds, &config,
                                         &errors),
                     MR_OK);
    assert_int_equal(config->subscription_count, 20000);
    assert_int_equal(mr_config_find_subscription(config, "s9999/on_failure/mail"), 19999);
    mr_config_destroy(config);
    assert_int_equal(mr_alloc_live(), live);
    mr_buf_release(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_right_survives_every_failed_allocation),
        cmocka_unit_test(test_load_right_survives_memory_that_stays_away),
        cmocka_unit_test(test_load_wrong_survives_every_failed_allocation),
        cmocka_unit_test(test_load_broken_survives_every_failed_allocation),
        cmocka_unit_test(test_documents_survive_every_failed_allocation),
        cmocka_unit_test(test_load_of_ten_thousand_subscriptions_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
