#include <limits.h>

#include "tests/support/test.h"
#include "workers/cgroup_internal.h"
#include "workers/limits.h"

static void expect_own(const char *text, const char *path)
{
    struct mr_bytes own = mr_bytes(NULL, 0);
    bool found = mr__cgroup_own(mr_bytes_of(text), &own);
    assert_int_equal(found, path != NULL);
    if (path != NULL) {
        assert_true(mr_bytes_equal(own, mr_bytes_of(path)));
    }
}

static void test_own_is_the_line_of_version_2(void **state)
{
    (void)state;
    expect_own("0::/\n", "/");
    expect_own("0::/system.slice/millrace.service\n", "/system.slice/millrace.service");
    expect_own("9:name=systemd:/a\n4:memory:/b\n0::/c\n", "/c");
    expect_own("0::/no newline", "/no newline");
    expect_own("0::/../../other\n", "/../../other");
    expect_own("4:memory:/b\n10::/c\n", NULL);
    expect_own("0::", NULL);
    expect_own("", NULL);
}

static void test_v1_controllers_are_found_by_whole_names(void **state)
{
    (void)state;
    struct mr_bytes text = mr_bytes_of("9:name=systemd:/\n4:cpu,cpuacct:/x:memory\n0::/\n");
    assert_true(mr__cgroup_is_v1(text, "cpu"));
    assert_true(mr__cgroup_is_v1(text, "cpuacct"));
    assert_false(mr__cgroup_is_v1(text, "memory"));
    assert_false(mr__cgroup_is_v1(text, "cpua"));
    assert_false(mr__cgroup_is_v1(mr_bytes_of(""), "cpu"));
}

static void expect_folder(const char *mounts, const char *own, const char *folder)
{
    char found[PATH_MAX] = "untouched";
    enum mr_status r = mr__cgroup_folder(mr_bytes_of(mounts), mr_bytes_of(own), found);
    assert_int_equal(r, folder == NULL ? MR_E_NOT_FOUND : MR_OK);
    assert_string_equal(found, folder == NULL ? "untouched" : folder);
}

static void test_folder_is_where_the_mount_shows_our_group(void **state)
{
    (void)state;
    const char *plain = "22 28 0:21 / /proc rw - proc proc rw\n"
                        "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
    expect_folder(plain, "/", "/sys/fs/cgroup");
    expect_folder(plain, "/a.slice/b.service", "/sys/fs/cgroup/a.slice/b.service");
    expect_folder(plain, "/..", NULL);
    expect_folder(plain, "/../other", NULL);
    const char *hybrid = "32 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
                         "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
    expect_folder(hybrid, "/x", "/sys/fs/cgroup/unified/x");
    /* A container without a cgroup namespace: the mount shows what is below its own group. */
    const char *container = "9 8 0:26 /docker/1f /sys/fs/cgroup ro master:3 shared:4 - cgroup2 c ro\n";
    expect_folder(container, "/docker/1f", "/sys/fs/cgroup");
    expect_folder(container, "/docker/1f/w", "/sys/fs/cgroup/w");
    expect_folder(container, "/docker/1fe", NULL);
    expect_folder(container, "/docker", NULL);
    expect_folder("9 8 0:26 / /my\\040cgroups\\134 rw - cgroup2 none rw\n", "/a",
                  "/my cgroups\\/a");
    expect_folder("", "/", NULL);
    expect_folder("9 8 0:26 /", "/", NULL);
    expect_folder("\n\n- cgroup2\n", "/", NULL);
}

static void test_folder_too_long_is_refused(void **state)
{
    (void)state;
    char own[PATH_MAX + 1];
    char found[PATH_MAX];
    memset(own, 'a', sizeof(own));
    own[0] = '/';
    struct mr_bytes mounts = mr_bytes_of("9 8 0:26 / /c rw - cgroup2 none rw\n");
    assert_int_equal(mr__cgroup_folder(mounts, mr_bytes(own, sizeof(own)), found), MR_E_TOO_BIG);
    assert_int_equal(mr__cgroup_folder(mounts, mr_bytes(own, PATH_MAX - 3), found), MR_OK);
    assert_int_equal(strlen(found), PATH_MAX - 1);
}

static void test_values_of_event_files(void **state)
{
    (void)state;
    struct mr_bytes text = mr_bytes_of("low 0\nmax 36\noom 4\noom_kill 2\noom_group_kill 1\n"
                                       "bad x\nhuge 99999999999999999999999\n");
    assert_int_equal(mr__cgroup_value(text, "oom"), 4);
    assert_int_equal(mr__cgroup_value(text, "oom_kill"), 2);
    assert_int_equal(mr__cgroup_value(text, "max"), 36);
    assert_int_equal(mr__cgroup_value(text, "oo"), 0);
    assert_int_equal(mr__cgroup_value(text, "bad"), 0);
    assert_int_equal(mr__cgroup_value(text, "huge"), 0);
    assert_int_equal(mr__cgroup_value(mr_bytes_of("oom"), "oom"), 0);
    assert_int_equal(mr__cgroup_value(mr_bytes_of(""), "oom"), 0);
}

static void test_controllers_as_text(void **state)
{
    (void)state;
    char text[48];
    unsigned all = MR_CGROUP_MEMORY | MR_CGROUP_PIDS | MR_CGROUP_CPU;
    assert_string_equal(mr__cgroup_switch_text(all, '+', text), "+memory +pids +cpu");
    assert_string_equal(mr__cgroup_switch_text(MR_CGROUP_CPU, '-', text), "-cpu");
    assert_string_equal(mr__cgroup_switch_text(0, '+', text), "");
    assert_int_equal(mr__cgroup_missing(all, mr_bytes_of("cpuset cpu io memory pids\n")), 0);
    assert_int_equal(mr__cgroup_missing(all, mr_bytes_of("cpuset io memory\n")),
                     MR_CGROUP_PIDS | MR_CGROUP_CPU);
    assert_int_equal(mr__cgroup_missing(all, mr_bytes_of("\n")), all);
    assert_int_equal(mr__cgroup_missing(0, mr_bytes_of("")), 0);
    assert_string_equal(mr__cgroup_name(MR_CGROUP_PIDS | MR_CGROUP_CPU), "pids");
    assert_string_equal(mr__cgroup_name(0), "");
    assert_string_equal(mr__cgroup_cpu_text(200, text), "20000 100000");
    assert_string_equal(mr__cgroup_cpu_text(10, text), "1000 100000");
    assert_string_equal(mr__cgroup_cpu_text(4096999, text), "409699900 100000");
}

static void expect_cpus(const char *text, uint32_t milli)
{
    char cpus[64];
    (void)snprintf(cpus, sizeof(cpus), "%s", text);
    struct mr_limits limits = {.cpus = cpus};
    struct mr_problem problem = {.text = ""};
    if (milli == 0) {
        assert_int_equal(mr_limits_check(&limits, &problem), MR_E_INVALID);
        assert_non_null(strstr(problem.text, "number of processors"));
        return;
    }
    assert_int_equal(mr_limits_check(&limits, &problem), MR_OK);
    assert_int_equal(mr_limits_take(&limits, &problem), MR_OK);
    assert_int_equal(limits.cpus_milli, milli);
    assert_null(limits.cpus);
}

static void test_cpus_are_read_to_three_places(void **state)
{
    (void)state;
    expect_cpus("0.5", 500);
    expect_cpus("2", 2000);
    expect_cpus("1.25", 1250);
    expect_cpus("0.01", 10);
    expect_cpus("4096.999", 4096999);
    const char *bad[] = {"", ".", "0", "0.009", "0.0001", "1.", ".5", "-1", "1e3", "1,5", "1.5.5",
                         " 1", "4097", "99999999999999999999999", "much"};
    for (size_t i = 0; i < MR_ARRAY_COUNT(bad); i++) {
        expect_cpus(bad[i], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_is_the_line_of_version_2),
        cmocka_unit_test(test_v1_controllers_are_found_by_whole_names),
        cmocka_unit_test(test_folder_is_where_the_mount_shows_our_group),
        cmocka_unit_test(test_folder_too_long_is_refused),
        cmocka_unit_test(test_values_of_event_files),
        cmocka_unit_test(test_controllers_as_text),
        cmocka_unit_test(test_cpus_are_read_to_three_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
