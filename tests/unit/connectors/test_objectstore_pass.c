/* The memory of source via: list: what a pass finds, where it is taken up again, what damage does. */
#include "tests/support/test.h"

#include "connectors/objectstore/pass.h"
#include "core/alloc.h"
#include "tests/support/folder.h"

#define OF 77u

static char folder[FOLDER_PATH_SIZE];

static int make_folder(void **state)
{
    (void)state;
    folder_make(folder, "pass");
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

struct names {
    char text[8][128];
    uint32_t count;
};

static void add_name(void *context, const char *name)
{
    struct names *names = context;
    assert_true(names->count < 8);
    (void)snprintf(names->text[names->count++], 128, "%s", name);
}

static void set_object(struct mr_object *o, const char *key, const char *etag)
{
    mr_buf_clear(&o->key);
    mr_buf_clear(&o->etag);
    assert_int_equal(mr_buf_append_text(&o->key, key), MR_OK);
    assert_int_equal(mr_buf_append_text(&o->etag, etag), MR_OK);
    o->size = strlen(etag);
    o->modified_ns = 5;
}

/* A bucket: "a1 b2": key a with etag 1, key b with etag 2. What changed, as "+a *b -c". */
struct run {
    char found[512];
    char *cursor; /* where it stopped */
    enum mr_status status;
};

static void note(struct run *run, enum mr_change change, const struct mr_object *o)
{
    static const char signs[] = {'=', '+', '*', '-'};
    size_t n = strlen(run->found);
    if (change != MR_CHANGE_NONE) {
        (void)snprintf(run->found + n, sizeof(run->found) - n, "%s%c%.*s", n == 0 ? "" : " ",
                       signs[change], (int)o->key.size, (const char *)o->key.data);
    }
}

/* One pass over @p bucket, left after @p steps steps (0: never), begun where @p cursor says. */
static struct run go(const char *bucket, const char *cursor, uint32_t steps)
{
    struct run run = {.found = ""};
    struct mr_pass pass;
    struct mr_problem problem = {.text = ""};
    struct mr_object object;
    struct mr_object gone;
    mr__object_init(&object);
    mr__object_init(&gone);
    assert_int_equal(mr__pass_init(&pass, folder, "lake", OF, &problem), MR_OK);
    run.status = mr__pass_begin(&pass, cursor, &problem);
    const char *at = bucket;
    bool has = false;
    bool left = false;
    for (uint32_t step = 0; run.status == MR_OK; step++) {
        if (steps != 0 && step == steps) {
            run.status = mr__pass_place(&pass, &run.cursor, &problem);
            left = true;
            break;
        }
        while (!has && *at != '\0') { /* the listing starts behind pass.after */
            char key[2] = {at[0], 0};
            char etag[2] = {at[1], 0};
            at += at[2] == ' ' ? 3 : 2;
            set_object(&object, key, etag);
            has = mr_bytes_compare(mr_buf_bytes(&object.key), mr_buf_bytes(&pass.after)) > 0;
        }
        enum mr_change change;
        bool taken = false;
        run.status = mr__pass_step(&pass, has ? &object : NULL, &gone, &change, &taken, &problem);
        if (run.status == MR_OK) {
            note(&run, change, change == MR_CHANGE_REMOVED ? &gone : &object);
            if (!has && change == MR_CHANGE_NONE) {
                break;
            }
            has = has && !taken;
        }
    }
    if (run.status == MR_OK && !left) {
        run.status = mr__pass_end(&pass, &problem);
    }
    mr__pass_release(&pass);
    mr__object_release(&object);
    mr__object_release(&gone);
    return run;
}

static void expect(const char *bucket, const char *found)
{
    struct run run = go(bucket, NULL, 0);
    assert_int_equal(run.status, MR_OK);
    assert_string_equal(run.found, found);
}

static void test_pass_finds_changes(void **state)
{
    (void)state;
    expect("", "");
    expect("a1 b1 c1", "+a +b +c");
    expect("a1 b1 c1", "");
    expect("a1 b2 d1", "*b -c +d");
    expect("b2 d1 e1", "-a +e");
    expect("", "-b -d -e");
    expect("a1", "+a");
}

/* Left after every step, written down, taken up again: together it finds what one pass finds. */
static void test_pass_is_taken_up_anywhere(void **state)
{
    (void)state;
    static const char *const whole = "*b -c +d -e -f +h";
    for (uint32_t steps = 1; steps < 10; steps++) {
        assert_int_equal(remove_folder(NULL), 0);
        assert_int_equal(make_folder(NULL), 0);
        expect("a1 b1 c1 e1 f1 g1", "+a +b +c +e +f +g");
        struct run first = go("a1 b2 d1 g1 h1", NULL, steps);
        assert_int_equal(first.status, MR_OK);
        if (first.cursor == NULL) {
            assert_string_equal(first.found, whole);
            continue;
        }
        struct run second = go("a1 b2 d1 g1 h1", first.cursor, 0);
        assert_int_equal(second.status, MR_OK);
        char both[1100];
        (void)snprintf(both, sizeof(both), "%s%s%s", first.found,
                       first.found[0] != '\0' && second.found[0] != '\0' ? " " : "",
                       second.found);
        assert_string_equal(both, whole);
        /* An old cursor has no meaning once the pass is whole. */
        struct run third = go("a1 b2 d1 g1 h1", first.cursor, 0);
        assert_string_equal(third.found, "");
        mr_free(first.cursor);
    }
}

static void test_pass_ignores_foreign_cursors(void **state)
{
    (void)state;
    static const char *const cursors[] = {
        "", "{}", "nonsense", "{\"pass\":9,\"base\":0,\"of\":77,\"count\":1,\"written\":99999,"
                              "\"old\":24,\"after\":\"a\"}",
        "{\"pass\":1,\"base\":0,\"of\":78,\"count\":1,\"written\":24,\"old\":24,\"after\":\"a\"}",
        "{\"pass\":1,\"base\":0,\"of\":77,\"count\":1,\"written\":24,\"old\":24,\"after\":\"%\"}",
        "{\"pass\":-1,\"base\":0,\"of\":77,\"count\":1,\"written\":24,\"old\":24,\"after\":1}",
    };
    for (size_t i = 0; i < MR_ARRAY_COUNT(cursors); i++) {
        assert_int_equal(remove_folder(NULL), 0);
        assert_int_equal(make_folder(NULL), 0);
        struct run run = go("a1 b1", cursors[i], 0);
        assert_int_equal(run.status, MR_OK);
        assert_string_equal(run.found, "+a +b");
    }
}

static void test_pass_wants_order(void **state)
{
    (void)state;
    struct mr_pass pass;
    struct mr_problem problem = {.text = ""};
    struct mr_object object;
    struct mr_object gone;
    enum mr_change change;
    bool taken;
    mr__object_init(&object);
    mr__object_init(&gone);
    assert_int_equal(mr__pass_init(&pass, folder, "lake", OF, &problem), MR_OK);
    assert_int_equal(mr__pass_begin(&pass, NULL, &problem), MR_OK);
    set_object(&object, "b", "1");
    assert_int_equal(mr__pass_step(&pass, &object, &gone, &change, &taken, &problem), MR_OK);
    assert_int_equal(mr__pass_step(&pass, &object, &gone, &change, &taken, &problem), MR_E_INVALID);
    assert_non_null(strstr(problem.text, "not sorted"));
    mr__pass_release(&pass);
    mr__object_release(&object);
    mr__object_release(&gone);
}

/* Every byte of a whole memory flipped: refused or read as it was, never anything else. */
static void test_pass_damaged_file(void **state)
{
    (void)state;
    expect("a1 b1 c1", "+a +b +c");
    struct mr_io *io;
    struct names names = {.count = 0};
    assert_int_equal(mr_io_create(folder, false, false, &io), MR_OK);
    assert_int_equal(io->ops->list(io, add_name, &names), MR_OK);
    assert_int_equal(names.count, 1);
    int file;
    uint64_t size = 0;
    assert_int_equal(io->ops->open(io, names.text[0], MR_IO_WRITE, &file), MR_OK);
    assert_int_equal(io->ops->size(io, file, &size), MR_OK);
    struct mr_problem problem;
    uint32_t refused = 0;
    for (uint64_t at = 0; at < size; at++) {
        struct mr_pass pass;
        struct mr_object object;
        uint8_t byte;
        size_t got;
        assert_int_equal(io->ops->pread(io, file, &byte, 1, at, &got), MR_OK);
        uint8_t other = byte ^ 0x55;
        assert_int_equal(io->ops->pwrite(io, file, &other, 1, at), MR_OK);
        mr__object_init(&object);
        assert_int_equal(mr__pass_init(&pass, folder, "lake", OF, &problem), MR_OK);
        if (pass.last == 1) { /* its head and end are whole: the records say the truth or refuse */
            struct mr_seen_reader reader;
            mr__seen_reader_init(&reader);
            enum mr_status r = mr__seen_reader_open(&reader, io, names.text[0],
                                                    MR_SEEN_HEADER_SIZE);
            for (char key = 'a'; r == MR_OK; key++) {
                r = mr__seen_reader_next(&reader, &object);
                assert_true(r != MR_OK || (object.key.size == 1 && object.key.data[0] == key));
                assert_true(r != MR_E_NOT_FOUND || key == 'd');
            }
            refused += r == MR_E_CORRUPT;
            mr__seen_reader_release(&reader);
        } else {
            refused++;
        }
        mr__pass_release(&pass);
        mr__object_release(&object);
        assert_int_equal(io->ops->pwrite(io, file, &byte, 1, at), MR_OK);
    }
    assert_int_equal(refused, size);
    io->ops->close(io, file);
    io->ops->destroy(io);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pass_finds_changes, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_pass_is_taken_up_anywhere, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(test_pass_ignores_foreign_cursors, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(test_pass_wants_order, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_pass_damaged_file, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
