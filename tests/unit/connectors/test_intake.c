/* What sources have in common: batches that are refused, and those that no segment holds. */
#include "tests/support/test.h"

#include <poll.h>

#include "connectors/intake.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "schemas/builder.h"
#include "tests/support/test_host.h"

#define SIZE_MAX_OF_LOG 1000u /* bytes of events the log of this test takes at once */

struct rig {
    struct test_host host;
    struct mr_host_ops ops;
    struct mr_intake intake;
    uint32_t durable_calls;
    uint32_t durable_events; /* of the batches seen */
};

static struct rig *present; /* the host's calls carry no more */

static void submit_or_refuse(struct mr_host *host, struct mr_batch *batch)
{
    if (batch->size > SIZE_MAX_OF_LOG) {
        test_host_refuse(&present->host, 1, MR_E_TOO_BIG);
    }
    test_host_submit(host, batch);
}

static void setup(struct rig *rig)
{
    *rig = (struct rig){0};
    test_host_init(&rig->host);
    rig->ops = *rig->host.host.ops;
    rig->ops.submit = submit_or_refuse;
    rig->host.host.ops = &rig->ops;
    present = rig;
    struct mr_source_args args = {.host = &rig->host.host, .index = 3, .name = "in"};
    struct mr_problem problem = {.text = ""};
    assert_int_equal(mr__intake_init(&rig->intake, "test", &args, &problem), MR_OK);
}

static void teardown(struct rig *rig)
{
    assert_true(mr__intake_release(&rig->intake));
    test_host_free(&rig->host);
}

static struct mr_event *event_of(uint32_t number, size_t data_size)
{
    char id[16];
    static uint8_t data[4096];
    (void)snprintf(id, sizeof(id), "%u", number);
    struct mr_event_builder b;
    mr_event_builder_init(&b, 65536);
    struct mr_problem problem = {.text = ""};
    static const char *const names[] = {"id", "source", "type"};
    const char *values[] = {id, "/t", "t"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(names); i++) {
        assert_int_equal(mr_event_builder_attr(&b, mr_bytes_of(names[i]),
                                               i == 1 ? MR_ATTR_URI_REF : MR_ATTR_STRING,
                                               mr_bytes_of(values[i]), &problem),
                         MR_OK);
    }
    mr_event_builder_data(&b, mr_bytes(data, data_size), true);
    struct mr_event *event = NULL;
    assert_int_equal(mr_event_builder_finish(&b, true, &event, &problem), MR_OK);
    return event;
}

static void submit(struct rig *rig, uint32_t count, size_t data_size)
{
    struct mr_batch *batch = mr__intake_batch(&rig->intake, count);
    assert_non_null(batch);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(mr_batch_add(batch, event_of(i, data_size), NULL), MR_OK);
    }
    batch->cursor = mr_strdup("{\"at\":7}");
    mr__intake_submit(&rig->intake, batch);
}

static void on_durable(void *context, struct mr_batch *batch)
{
    struct rig *rig = context;
    rig->durable_calls++;
    rig->durable_events += batch->count;
}

/* Until nothing is out, with a time of its own that goes on a second each turn. */
static void run(struct rig *rig)
{
    uint64_t now_ns = MR_SECOND;
    for (int i = 0; i < 64 && mr__intake_is_out(&rig->intake); i++, now_ns += MR_SECOND) {
        mr__intake_take(&rig->intake, now_ns, on_durable, rig);
        mr__intake_resubmit(&rig->intake, now_ns);
    }
    assert_false(mr__intake_is_out(&rig->intake));
}

static void test_batch_that_fits_is_seen_once(void **state)
{
    (void)state;
    struct rig rig;
    setup(&rig);
    submit(&rig, 3, 10);
    run(&rig);
    assert_int_equal(rig.durable_calls, 1);
    assert_int_equal(rig.durable_events, 3);
    assert_int_equal(rig.host.submits, 1);
    teardown(&rig);
}

static void test_batch_too_big_goes_in_parts_in_order(void **state)
{
    (void)state;
    struct rig rig;
    setup(&rig);
    submit(&rig, 20, 200);
    assert_null(rig.host.cursor);
    run(&rig);
    assert_int_equal(rig.host.event_count, 20);
    for (uint32_t i = 0; i < 20; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "%u", i);
        assert_string_equal(test_host_value(&rig.host, i, "id"), id);
    }
    assert_int_equal(rig.durable_calls, 1); /* the last part: only then all of it is durable */
    assert_string_equal(rig.host.cursor, "{\"at\":7}");
    teardown(&rig);
}

static void test_batch_refused_is_submitted_again_as_it_was(void **state)
{
    (void)state;
    struct rig rig;
    setup(&rig);
    test_host_refuse(&rig.host, 2, MR_E_DISK_LOW);
    submit(&rig, 3, 10);
    run(&rig);
    assert_int_equal(rig.host.submits, 3);
    assert_int_equal(rig.durable_calls, 1);
    assert_int_equal(rig.host.event_count, 3);
    teardown(&rig);
}

static void test_stopping_gives_refused_batches_up(void **state)
{
    (void)state;
    struct rig rig;
    setup(&rig);
    test_host_refuse(&rig.host, 1, MR_E_CLOSED);
    submit(&rig, 3, 10);
    mr__intake_take(&rig.intake, MR_SECOND, on_durable, &rig);
    atomic_store(&rig.intake.life.stopping, true);
    assert_true(mr__intake_is_finished(&rig.intake, MR_SECOND));
    assert_int_equal(rig.durable_calls, 0);
    teardown(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_that_fits_is_seen_once),
        cmocka_unit_test(test_batch_too_big_goes_in_parts_in_order),
        cmocka_unit_test(test_batch_refused_is_submitted_again_as_it_was),
        cmocka_unit_test(test_stopping_gives_refused_batches_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
