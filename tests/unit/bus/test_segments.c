/* The segments of a small log on a disk that has room for no more of them. */
#include "tests/support/test.h"

#include "tests/unit/bus/one_bus.h"

#define ROOM 3u    /* segments */
#define LATE 1000u /* turns until the disk says that there is no more: a segment fills in 16 */

/* Events until the disk has no room for them, and answers to all that came in. */
static void fill(struct one_bus *b)
{
    for (unsigned i = 0; i < ONE_BUS_TURNS && b->refused == 0; i++) {
        one_bus_send(b);
    }
    assert_true(b->refused > 0 && b->accepted > 0);
    mr_bus_capacity(b->bus, b->now, mr_bus_target_id(b->bus, b->target.name), b->accepted);
    for (unsigned i = 0; i < ONE_BUS_TURNS && b->answered < b->accepted; i++) {
        one_bus_turn(b);
        one_bus_answer(b);
    }
    assert_int_equal(b->answered, b->accepted);
}

/* However late the bus is told, and however many events wait by then: their answers find room, so
 * deliveries go on while sources wait. */
static void test_segments_that_are_full_have_room_for_answers(void **state)
{
    (void)state;
    struct one_bus b = {.segments_max = ROOM, .full_after = LATE};
    one_bus_begin(&b, "segments", 1);
    fill(&b);
    one_bus_close(&b);
    one_bus_end(&b);
}

/* A checkpoint would let segments go, and finds no room itself: that is tried again in a while, and
 * takes nothing of what is left. */
static void test_segments_that_wait_for_a_checkpoint_take_no_room(void **state)
{
    (void)state;
    struct one_bus b = {
        .segments_max = ROOM, .full_after = LATE, .full_for_checkpoints = true};
    struct mr_bus_status before;
    struct mr_bus_status after;
    one_bus_begin(&b, "segments", 1);
    fill(&b);
    mr_bus_disk(b.bus, b.now, 0, 1ull << 40);
    for (unsigned i = 0; i < 1000; i++) {
        one_bus_turn(&b);
    }
    assert_true(b.checkpoints > 0);
    mr_bus_status(b.bus, &before);
    uint32_t tries = b.checkpoints;
    for (unsigned i = 0; i < 10 * MR_SECOND / MR_MS; i++) {
        one_bus_turn(&b);
    }
    mr_bus_status(b.bus, &after);
    assert_true(after.slow);
    assert_true(b.checkpoints > tries && b.checkpoints - tries <= 10);
    assert_int_equal(after.groups_written, before.groups_written);
    b.full_for_checkpoints = false;
    for (unsigned i = 0; i < ONE_BUS_TURNS && after.segments == before.segments; i++) {
        one_bus_turn(&b);
        mr_bus_status(b.bus, &after);
    }
    assert_true(after.segments < before.segments);
    one_bus_close(&b);
    one_bus_end(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segments_that_are_full_have_room_for_answers),
        cmocka_unit_test(test_segments_that_wait_for_a_checkpoint_take_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
