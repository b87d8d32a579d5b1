/* How memory.state is divided: the parts never are more than there is, whatever is configured. */
#include "../../support/test.h"

#include "config/config.h"

static void check_parts(uint64_t state, uint32_t sources, uint32_t keys, uint32_t subs,
                        uint32_t fanouts)
{
    static struct mr_source_config source[200];
    for (uint32_t i = 0; i < sources; i++) {
        source[i] = (struct mr_source_config){.dedupe_window_ns = i % 3, .dedupe_keys = keys};
    }
    struct mr_config config = {.sources = source,
                               .source_count = sources,
                               .subscription_count = subs,
                               .fanout_count = fanouts};
    struct mr_memory_parts parts = mr_memory_parts(&config, state);
    uint64_t shares = parts.share * subs;
    assert_true(parts.kept > 0);
    assert_true(parts.keys + parts.fanouts + parts.kept + shares + parts.free <= state);
    assert_true(shares <= parts.free);
    assert_true(parts.free - shares <= subs || subs == 0);
    assert_int_equal(parts.fanouts > 0, fanouts > 0);
    assert_int_equal(parts.keys > 0, keys > 0 && sources > 1);
    assert_int_equal(parts.share > 0, subs > 0);
}

static void test_parts_are_within_the_whole(void **state)
{
    (void)state;
    const uint64_t sizes[] = {8 * MR_MIB, 256 * MR_MIB, 64ull << 30};
    const uint32_t keys[] = {0, 100, 1000000};
    for (uint32_t i = 0; i < 3 * 3 * 3 * 3 * 2; i++) {
        const uint32_t sources[] = {0, 3, 200};
        const uint32_t subs[] = {0, 1, 1000};
        check_parts(sizes[i % 3], sources[i / 3 % 3], keys[i / 9 % 3], subs[i / 27 % 3],
                    i / 81);
    }
}

static void test_keys_floor_is_shared_by_the_sources(void **state)
{
    (void)state;
    uint64_t one = mr_memory_keys_floor(8 * MR_MIB, 1);
    assert_true(one > 0);
    assert_int_equal(mr_memory_keys_floor(8 * MR_MIB, 0), one);
    for (uint32_t n = 2; n < 1000; n *= 3) {
        uint64_t floor = mr_memory_keys_floor(8 * MR_MIB, n);
        assert_true(floor <= one);
        assert_true(floor * n * MR_DEDUPE_KEY_COST <= MR_MIB);
    }
    assert_int_equal(mr_memory_keys_floor(64ull << 30, 1), MR_DEDUPE_KEYS_SURE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_are_within_the_whole),
        cmocka_unit_test(test_keys_floor_is_shared_by_the_sources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
