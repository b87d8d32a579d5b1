/* Keys of repeats, and the ring that keeps them: against a model that remembers everything. */
#include "../../support/test.h"

#include "bus/internal.h"
#include "core/alloc.h"

#define SALT 0x1234567890abcdefull

static struct mr_event *make_event(const char *source, const char *id, const char *data)
{
    struct mr_event_builder b;
    mr_event_builder_init(&b, 64 * MR_KIB);
    const char *const attrs[][2] = {{"id", id}, {"source", source}, {"type", "t"}};
    for (size_t i = 0; i < MR_ARRAY_COUNT(attrs); i++) {
        assert_int_equal(mr_event_builder_attr(&b, mr_bytes_of(attrs[i][0]), MR_ATTR_STRING,
                                               mr_bytes_of(attrs[i][1]), NULL),
                         MR_OK);
    }
    mr_event_builder_data(&b, mr_bytes_of(data), false);
    struct mr_event *event = NULL;
    assert_int_equal(mr_event_builder_finish(&b, true, &event, NULL), MR_OK);
    return event;
}

static struct mr_dedupe_key by_id(uint64_t salt, const char *source, const char *id,
                                  const char *data, bool with_data)
{
    struct mr_event *event = make_event(source, id, data);
    struct mr_dedupe_key key = mr_dedupe_key_of_id(salt, mr_event_record(event), with_data);
    mr_event_unref(event);
    return key;
}

static struct mr_dedupe_key by_request(const char *name, uint32_t index, const char *id,
                                       const char *data)
{
    struct mr_event *event = make_event("/s", id, data);
    struct mr_dedupe_key key =
        mr_dedupe_key_of_request(SALT, mr_bytes_of(name), index, mr_event_record(event));
    mr_event_unref(event);
    return key;
}

static bool same(struct mr_dedupe_key a, struct mr_dedupe_key b)
{
    return a.low == b.low && a.high == b.high;
}

static void test_key_of_id_is_of_source_and_id(void **state)
{
    (void)state;
    struct mr_dedupe_key key = by_id(SALT, "/s", "1", "x", false);
    assert_true(mr_dedupe_key_is_set(&key));
    assert_true(same(key, by_id(SALT, "/s", "1", "y", false)));
    assert_false(same(key, by_id(SALT, "/s", "2", "x", false)));
    assert_false(same(by_id(SALT, "/s1", "2", "x", false), by_id(SALT, "/s", "12", "x", false)));
    assert_false(same(key, by_id(SALT + 1, "/s", "1", "x", false)));
    assert_false(same(key, by_id(SALT, "/s", "1", "x", true)));
    assert_false(same(by_id(SALT, "/s", "1", "y", true), by_id(SALT, "/s", "1", "x", true)));
}

static void test_key_of_request_is_of_name_place_and_event(void **state)
{
    (void)state;
    struct mr_dedupe_key key = by_request("k", 0, "1", "x");
    assert_true(same(key, by_request("k", 0, "1", "x")));
    assert_false(same(key, by_request("k", 0, "2", "x")));
    assert_false(same(key, by_request("k", 1, "1", "x")));
    assert_false(same(key, by_request("k", 0, "1", "y")));
    assert_false(same(key, by_request("l", 0, "1", "x")));
}

/* --- the ring --------------------------------------------------------------------------------- */

#define NUMBERS 40u

struct model { /* by number: the first that counts; offset 0: none */
    uint64_t offsets[NUMBERS];
    uint64_t times[NUMBERS];
    uint64_t order[4096]; /* numbers, as they were entered */
    uint32_t count;
};

/* Few of the low bits differ, so that they meet in the index. */
static struct mr_dedupe_key numbered(uint64_t n)
{
    return (struct mr_dedupe_key){.low = n % 3, .high = n + 1};
}

static uint64_t expected(const struct model *model, const struct mr__seen *seen, uint64_t n,
                         uint64_t now)
{
    if (model->offsets[n] == 0 || model->times[n] + seen->window_ns <= now) {
        return 0;
    }
    uint32_t behind = 0;
    for (uint32_t i = model->count; i-- > 0 && model->order[i] != n;) {
        behind++;
    }
    return behind < seen->wanted ? model->offsets[n] : 0;
}

static void test_ring_knows_what_came_within_window_and_limit(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct mr_bus bus = {.options.memory_state = MR_MIB};
        struct mr__seen seen = {0};
        struct mr_rng rng;
        mr_rng_init(&rng, seed);
        struct model model = {0};
        mr__seen_configure(&bus, &seen, 1 + mr_rng_below(&rng, 200), 1 + mr_rng_below(&rng, 20));
        uint64_t offset = 0;
        for (bus.log_ns = 1000; model.count < 2000; bus.log_ns += mr_rng_below(&rng, 10)) {
            uint64_t n = mr_rng_below(&rng, NUMBERS);
            struct mr_dedupe_key key = numbered(n);
            assert_int_equal(mr__seen_reserve(&bus, &seen), MR_OK);
            uint64_t wanted = expected(&model, &seen, n, bus.log_ns);
            assert_int_equal(mr__seen_find(&bus, &seen, &key), wanted);
            if (wanted == 0) {
                const struct mr__seen_key entered = {key, ++offset, bus.log_ns};
                (void)mr__seen_enter(&bus, &seen, &entered);
                model.offsets[n] = offset;
                model.times[n] = bus.log_ns;
                model.order[model.count++] = n;
            }
            mr__seen_check(&seen);
            assert_int_equal(bus.state_bytes, seen.count * MR_DEDUPE_KEY_COST);
        }
        mr__seen_release(&bus, &seen);
        assert_int_equal(bus.state_bytes, 0);
        assert_int_equal(bus.seen_bytes, 0);
    }
}

static void enter(struct mr_bus *bus, struct mr__seen *seen, uint64_t n, uint64_t offset,
                  uint32_t early)
{
    const struct mr__seen_key key = {numbered(n), offset, bus->log_ns};
    assert_int_equal(mr__seen_reserve(bus, seen), MR_OK);
    assert_int_equal(mr__seen_enter(bus, seen, &key), early);
    mr__seen_check(seen);
}

static uint64_t find(struct mr_bus *bus, struct mr__seen *seen, uint64_t n)
{
    struct mr_dedupe_key key = numbered(n);
    return mr__seen_find(bus, seen, &key);
}

static void test_ring_of_another_limit_keeps_the_newest(void **state)
{
    (void)state;
    struct mr_bus bus = {.options.memory_state = MR_MIB, .log_ns = 5};
    struct mr__seen seen = {0};
    mr__seen_configure(&bus, &seen, 100, 8);
    for (uint64_t n = 0; n < 8; n++) {
        enter(&bus, &seen, n, n + 1, 0);
    }
    mr__seen_configure(&bus, &seen, 100, 3);
    enter(&bus, &seen, 20, 9, 1);
    assert_int_equal(find(&bus, &seen, 5), 0);
    assert_int_equal(find(&bus, &seen, 6), 7);
    assert_int_equal(find(&bus, &seen, 20), 9);
    mr__seen_configure(&bus, &seen, 100, 50);
    enter(&bus, &seen, 21, 10, 0);
    assert_int_equal(find(&bus, &seen, 6), 7);
    mr__seen_configure(&bus, &seen, 0, 50); /* off: forgotten */
    assert_int_equal(bus.state_bytes, 0);
    assert_null(seen.ring);
}

static void test_ring_takes_the_later_of_a_key_that_had_gone(void **state)
{
    (void)state;
    struct mr_bus bus = {.options.memory_state = MR_MIB, .log_ns = 5};
    struct mr__seen seen = {0};
    mr__seen_configure(&bus, &seen, 100, 4);
    enter(&bus, &seen, 1, 11, 0);
    enter(&bus, &seen, 2, 12, 0);
    bus.log_ns = 50;
    enter(&bus, &seen, 1, 13, 0); /* recovery: kept longer here than it was then */
    assert_int_equal(find(&bus, &seen, 1), 13);
    bus.log_ns = 106; /* the window of 12 is over, that of 13 is not */
    assert_int_equal(find(&bus, &seen, 2), 0);
    assert_int_equal(find(&bus, &seen, 1), 13);
    bus.log_ns = 150;
    assert_int_equal(find(&bus, &seen, 1), 0);
    mr__seen_check(&seen);
    mr__seen_release(&bus, &seen);
}

/* All sources together have a quarter of the state's memory; each has 1,000 keys for sure. */
static void test_ring_without_room_gives_its_own_oldest(void **state)
{
    (void)state;
    struct mr_bus bus = {.options.memory_state = 4 * 1500 * MR_DEDUPE_KEY_COST, .log_ns = 5};
    struct mr__seen large = {0};
    struct mr__seen small = {0};
    mr__seen_configure(&bus, &large, 100, 100000);
    mr__seen_configure(&bus, &small, 100, 100000);
    for (uint64_t n = 0; n < 1500; n++) {
        const struct mr__seen_key key = {{n + 1, n}, n + 1, 5};
        assert_int_equal(mr__seen_reserve(&bus, &large), MR_OK);
        assert_int_equal(mr__seen_enter(&bus, &large, &key), 0);
    }
    enter(&bus, &large, 1, 5000, 1);
    for (uint64_t n = 0; n < 30; n++) {
        enter(&bus, &small, n, n + 1, 0);
    }
    assert_int_equal(small.count, 30);
    assert_int_equal(large.count, 1500);
    mr__seen_release(&bus, &large);
    mr__seen_release(&bus, &small);
    assert_int_equal(bus.state_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_of_id_is_of_source_and_id),
        cmocka_unit_test(test_key_of_request_is_of_name_place_and_event),
        cmocka_unit_test(test_ring_knows_what_came_within_window_and_limit),
        cmocka_unit_test(test_ring_of_another_limit_keeps_the_newest),
        cmocka_unit_test(test_ring_takes_the_later_of_a_key_that_had_gone),
        cmocka_unit_test(test_ring_without_room_gives_its_own_oldest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
