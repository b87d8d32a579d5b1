"""Control groups: what bounds an instance as a whole. The instances under test run in a group that
the test makes for them, as a service manager would; where it cannot, only what holds without one is
tested."""
import contextlib
import errno
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import support
from support import Instance, Skip, cli, event, http_source, main, python, wait_until

NEEDED = {"memory", "pids", "cpu"}
WRAPPER = """#!/bin/sh
if [ "$1" = run ]; then echo $$ > "$TEST_CGROUP/cgroup.procs" || exit 99; fi
exec $TEST_AS "$TEST_MILLRACE" "$@"
"""
NOBODY = 65534
REAL = support.MILLRACE

PLAIN = python("def handle(event, ctx):\n    return {'pid': os.getpid()}")
HOG = python("""
def handle(event, ctx):
    if event['id'].startswith('hog'):
        kept = [bytearray(b'x' * (8 << 20)) for _ in range(64)]
    return {'pid': os.getpid()}
""")
BOMB = python("""
def handle(event, ctx):
    children = []
    try:
        while len(children) < 500:
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            children.append(pid)
        failed = False
    except OSError:
        failed = True
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    json.dump({'children': len(children), 'failed': failed}, open('said', 'w'))
""")
SPIN = python("""
def handle(event, ctx):
    path = open('/proc/self/cgroup').read().split('0::', 1)[1].split()[0]
    folder = os.environ['HOME_GROUP'] + path[path.index('/millrace-'):]
    limit = open(folder + '/cpu.max').read().split()
    while True:
        stat = dict(line.split() for line in open(folder + '/cpu.stat'))
        if int(stat['nr_throttled']) >= 3:
            json.dump({'limit': limit}, open('said', 'w'))
            return
""")
# Leaves a process in a session of its own with an empty environment, which nothing but its control
# group ties to the worker, and crashes.
STRAY = python("""
def handle(event, ctx):
    if event['id'] == 'quiet':
        return None
    said = os.getcwd() + '/stray.%d' % os.getpid()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            null = os.open('/dev/null', os.O_RDWR)
            for fd in range(4):
                os.dup2(null, fd)
            script = 'echo $$ > %s.new; mv %s.new %s; while :; do read x; done'
            os.execve('/bin/sh', ['sh', '-c', script % (said, said, said)], {'PATH': '/bin'})
        os._exit(0)
    while not os.path.exists(said):
        select.select([], [], [], 0.01)
    os._exit(3)
""")


def mounted():
    """Where cgroup v2 is, and the folder of our own group."""
    own = re.search(r"^0::(/.*)$", pathlib.Path("/proc/self/cgroup").read_text(), re.M)
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2" and own and fields[3] == "/":
            return pathlib.Path(fields[4]), pathlib.Path(fields[4] + own[1])
    raise Skip("no cgroup v2 is mounted")


def words(path):
    return set(path.read_text().split())


def find_base(needed=NEEDED):
    """A group below which groups with these controllers can be made, and those to be switched on.
    """
    top, own = mounted()
    why = "no group above ours can be written"
    for folder in (path for path in (own, *own.parents) if path == top or top in path.parents):
        if not os.access(folder, os.W_OK):
            continue
        lacks = needed - words(folder / "cgroup.controllers")
        if lacks:
            why = "%s has no controller %s" % (folder, ", ".join(sorted(lacks)))
        elif not needed - words(folder / "cgroup.subtree_control"):
            return folder, set()
        elif folder == top and not (folder / "cgroup.type").exists():
            return folder, needed - words(folder / "cgroup.subtree_control")
    raise Skip(why)


def has_base():
    try:
        return bool(find_base())
    except Skip:
        return False


def switch(folder, sign, names):
    for name in sorted(names):
        (folder / "cgroup.subtree_control").write_text(sign + name)


def below(folder):
    """The groups below a group; some may go while we look."""
    return sorted(pathlib.Path(path) for path, _, _ in os.walk(folder))[1:]


def groups(folder):
    return [str(path.relative_to(folder)) for path in below(folder)]


def pids(folder):
    found = []
    for path in [folder, *below(folder)]:
        try:
            found += [int(pid) for pid in (path / "cgroup.procs").read_text().split()]
        except OSError as why:
            if why.errno not in (errno.ENOENT, errno.ENODEV):
                raise
    return found


def remove(folder):
    def gone():
        with contextlib.suppress(OSError):
            (folder / "cgroup.kill").write_text("1")
        for path in [*reversed(below(folder)), folder]:
            with contextlib.suppress(OSError):
                path.rmdir()
        return not folder.exists()
    wait_until("%s is removed" % folder, gone)


@contextlib.contextmanager
def home(needed=NEEDED):
    """A group for the instances started in it; as with a unit that has Delegate=yes."""
    base, off = find_base(needed)
    folder = base / ("mrtest-%d" % os.getpid())
    switch(base, "+", off)
    try:
        folder.mkdir()
        wrapper = pathlib.Path(support.tempfile.mkdtemp(prefix="mr-")) / "millrace"
        wrapper.write_text(WRAPPER)
        wrapper.chmod(0o755)
        os.environ.update(TEST_CGROUP=str(folder), TEST_MILLRACE=REAL, TEST_AS="")
        support.MILLRACE = str(wrapper)
        yield folder
    finally:
        support.MILLRACE = REAL
        if folder.exists():
            remove(folder)
        support.shutil.rmtree(wrapper.parent, ignore_errors=True)
        switch(base, "-", off)


def setup(code, limits, scale=None, **worker):
    """A limited worker `w`, a neighbour `n` without limits; events of type b go to the latter."""
    def command(name):
        return {"command": [sys.executable, "-B", name]}
    return {"sources": {"in": http_source()},
            "workers": {"w": {"process": {**command("w.py"), **limits},
                              "scale": scale or {"min": 1, "max": 1}, **worker},
                        "n": {"process": command("n.py")}},
            "subscriptions": {"s": {"to": "w", "filter": {"exact": {"type": "com.example.a"}},
                                    "retry": {"attempts": 2, "initial": "10ms"}},
                              "t": {"to": "n", "filter": {"exact": {"type": "com.example.b"}}}}}, \
        {"w.py": code, "n.py": PLAIN}


def limits_of(m, name="w"):
    return wait_until("limits of " + name, lambda: m.ask("worker", "show", name)["limits"])


def tree_of(folder):
    found = [name for name in groups(folder) if "/" not in name]
    assert len(found) == 1 and found[0].startswith("millrace-"), found
    return folder / found[0]


def instances(folder):
    return [folder / name for name in groups(folder) if re.search(r"/w\d+$", name)]


def test_a_hog_is_killed_and_its_neighbours_live_on():
    with home() as folder:
        with Instance(*setup(HOG, {"max_memory": "64MiB"}, {"min": 2, "max": 2})) as m:
            assert limits_of(m) == "cgroup"
            assert m.ask("worker", "show", "n")["limits"] is None
            m.post(event("n1", "com.example.b"))
            before = m.wait_state("n1", "t", "done")["attempts"][0]
            m.post(event("hog1"))
            dead = m.wait_state("hog1", "s", "dead")
            assert [a["verdict"] for a in dead["attempts"]] == ["crash", "crash"], dead
            for attempt in dead["attempts"]:
                assert "was killed: out of memory (limit 64 MiB)" in attempt["error"], attempt
            m.post([event("after"), event("n2", "com.example.b")])
            m.wait_state("after", "s", "done")
            after = m.wait_state("n2", "t", "done")["attempts"][0]
            assert after["instance"] == before["instance"], (before, after)
            assert m.ask("worker", "show", "w")["rss_peak"] > 32 << 20
            wait_until("one group for each instance", lambda: len(instances(folder)) == 2)
            group = instances(folder)[0]
            assert (group / "memory.max").read_text() == "%d\n" % (64 << 20)
            m.stop()
        assert groups(folder) == [], groups(folder)
        assert words(folder / "cgroup.subtree_control") == set()


def test_exec_runs_in_a_group_of_its_own():
    script = ("#!%s -B\nimport json, sys\nif json.load(sys.stdin)['id'] == 'hog':\n"
              "    x = [bytearray(b'x' * (8 << 20)) for _ in range(64)]\n" % sys.executable)
    config = {"sources": {"in": http_source()},
              "workers": {"w": {"exec": {"command": ["./x.py"], "max_memory": "64MiB"}}},
              "subscriptions": {"s": {"to": "w", "retry": {"attempts": 1}}}}
    with home() as folder:
        with Instance(config, {"x.py": script}) as m:
            m.post([event("hog"), event("fine")])
            m.wait_state("fine", "s", "done")
            error = m.wait_state("hog", "s", "dead")["attempts"][0]["error"]
            assert "the command was killed: out of memory (limit 64 MiB)" in error, error
            wait_until("no group is left", lambda: not instances(folder))


def test_a_fork_bomb_is_bounded():
    with home():
        with Instance(*setup(BOMB, {"max_processes": 40})) as m:
            m.post(event("bomb"))
            m.wait_state("bomb", "s", "done")
            result = json.loads((m.folder / "said").read_text())
            assert result["failed"] and result["children"] < 40, result


def test_cpus_slow_down():
    with home() as folder:
        with Instance(*setup(SPIN, {"cpus": 0.2, "env": {"HOME_GROUP": str(folder)}})) as m:
            m.post(event("spin"))
            m.wait_state("spin", "s", "done")
            result = json.loads((m.folder / "said").read_text())
            assert result == {"limit": ["20000", "100000"]}, result


def test_nothing_of_a_dead_instance_survives():
    with home() as folder:
        with Instance(*setup(STRAY, {"max_processes": 40}, {"min": 2, "max": 2})) as m:
            m.post(event("quiet"))
            m.wait_state("quiet", "s", "done")
            m.post(event("leaves"))
            m.wait_state("leaves", "s", "dead")
            strays = [path.read_text().strip() for path in m.folder.glob("stray.*")]
            assert len(strays) == 2, strays
            wait_until("the strays are gone", lambda: not any(
                os.path.exists("/proc/" + pid) for pid in strays))
            wait_until("a group for each that runs", lambda: len(instances(folder)) == len(
                m.ask("worker", "show", "w")["running"]))


def kill_at_once(m):
    m.stop(signal.SIGKILL)


def test_kill_9_leaves_nothing():
    with home() as folder:
        with Instance(*setup(PLAIN, {"max_memory": "64MiB"}, {"min": 3, "max": 3})) as m:
            wait_until("three groups", lambda: len(instances(folder)) == 3)
            kill_at_once(m)
            wait_until("no process", lambda: not pids(folder))
            wait_until("no group", lambda: groups(folder) == [])
            assert words(folder / "cgroup.subtree_control") == set()
            m.start()
            assert limits_of(m) == "cgroup"
            m.post(event("again"))
            m.wait_state("again", "s", "done")


def test_kill_9_while_it_starts_is_no_obstacle():
    with home() as folder:
        config, files = setup(PLAIN, {"max_memory": "64MiB"})
        with Instance(config, files, start=False) as m:
            for depth in (1, 2, 2):  # as soon as there is a tree, as soon as there is more
                m.process = subprocess.Popen([support.MILLRACE, "run", "-c", str(m.path)],
                                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                             stderr=subprocess.DEVNULL)
                wait_until("a group", lambda: len(groups(folder)) >= depth)
                kill_at_once(m)
                m.process.stdout.close()
                wait_until("no process", lambda: not pids(folder))
            m.start()
            assert limits_of(m) == "cgroup"
            tree_of(folder)  # there is but one
            m.stop()
        assert groups(folder) == [], groups(folder)


def test_no_root_is_needed_in_a_delegated_group():
    with home() as folder:
        user = "setpriv --reuid=%d --regid=%d --clear-groups" % (NOBODY, NOBODY)
        try:
            subprocess.run([*user.split(), REAL, "--version"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as why:
            raise Skip("another user cannot run it: %s" % why)
        for path in (folder, *(folder / ("cgroup." + name)
                               for name in ("procs", "threads", "subtree_control"))):
            os.chown(path, NOBODY, NOBODY)
        os.environ["TEST_AS"] = user
        with Instance(*setup(HOG, {"max_memory": "64MiB", "max_processes": 30, "cpus": 1}),
                      start=False) as m:
            for path in (m.folder, *m.folder.iterdir()):
                os.chown(path, NOBODY, NOBODY)
            m.start()
            assert limits_of(m) == "cgroup", limits_of(m)
            m.post([event("hog"), event("fine")])
            m.wait_state("fine", "s", "done")
            error = m.wait_state("hog", "s", "dead")["attempts"][0]["error"]
            assert "was killed: out of memory (limit 64 MiB)" in error, error
            kill_at_once(m)
            wait_until("no group", lambda: groups(folder) == [])
            assert pids(folder) == []


def test_a_start_removes_what_a_killed_guardian_left():
    with home() as folder:
        with Instance(*setup(PLAIN, {"max_memory": "64MiB"}, {"min": 2, "max": 2})) as m:
            wait_until("two groups", lambda: len(instances(folder)) == 2)
            old = tree_of(folder)
            (folder / "cgroup.kill").write_text("1")
            m.process.wait()
            wait_until("no process", lambda: not pids(folder))
            assert len(instances(folder)) == 2  # nobody is left who could remove them
            switch(old, "-", {"memory"})  # as a service manager does before it starts the unit
            switch(folder, "-", {"memory"})
            m.start()
            assert limits_of(m) == "cgroup"
            assert not old.exists() and tree_of(folder) != old
            wait_until("two groups again", lambda: len(instances(folder)) == 2)


def test_a_living_neighbours_groups_stay():
    base, off = find_base()
    if (base / "cgroup.type").exists() or base != mounted()[1]:
        raise Skip("only processes in the root of all groups can share one")
    before = groups(base)
    with Instance(*setup(PLAIN, {"max_memory": "64MiB"}, {"min": 2, "max": 2})) as a:
        assert limits_of(a) == "cgroup"
        wait_until("its groups", lambda: len(instances(base)) == 2)
        first = instances(base)
        with Instance(*setup(PLAIN, {"max_memory": "64MiB"}, {"min": 1, "max": 1})) as b:
            assert limits_of(b) == "cgroup"
            wait_until("three groups", lambda: len(instances(base)) == 3)
            assert set(first) < set(instances(base)), groups(base)
            kill_at_once(b)
            wait_until("two groups", lambda: instances(base) == first)
        a.post(event("still"))
        a.wait_state("still", "s", "done")
        a.stop()
    wait_until("nothing is left", lambda: groups(base) == before)
    assert not off - (NEEDED - words(base / "cgroup.subtree_control"))


def test_a_required_group_without_limits_takes_no_controllers():
    with home(set()) as folder:
        with Instance(*setup(STRAY, {"cgroup": "require"}, {"min": 2, "max": 2})) as m:
            assert limits_of(m) == "cgroup"
            wait_until("two groups", lambda: len(instances(folder)) == 2)
            assert (folder / "cgroup.procs").read_text().split() != []  # nothing had to move
            m.post(event("leaves"))
            m.wait_state("leaves", "s", "dead")
            strays = [path.read_text().strip() for path in m.folder.glob("stray.*")]
            wait_until("the strays are gone", lambda: not any(
                os.path.exists("/proc/" + pid) for pid in strays))
            old = tree_of(folder)
            (folder / "cgroup.kill").write_text("1")
            m.process.wait()
            wait_until("no process", lambda: not pids(folder))
            m.start()
            wait_until("the old tree is gone", lambda: tree_of(folder) != old)
            m.stop()
        assert groups(folder) == [], groups(folder)


def test_strangers_in_our_group_are_left_alone():
    with home() as folder:
        other = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        try:
            (folder / "cgroup.procs").write_text(str(other.pid))
            reason = "has processes that are not Millrace's, as number %d" % other.pid
            with Instance(*setup(PLAIN, {"max_memory": "64MiB", "cpus": 0.5})) as m:
                said = limits_of(m)
                assert said.startswith("rlimits, without cpus (") and reason in said, said
                assert "w: cpus cannot be had: " in m.log.read_text()
                m.post(event("fine"))
                m.wait_state("fine", "s", "done")
                m.stop()
            expect_refusal({"max_memory": "64MiB", "cgroup": "require"}, reason)
            assert groups(folder) == [] and pids(folder) == [other.pid]
        finally:
            other.stdin.close()
            other.wait()


def expect_refusal(limits, reason):
    with Instance(*setup(PLAIN, limits), start=False) as m:
        refused = cli("run", "-c", m.path)
        assert refused.code not in (0, 99), refused.code
        assert "w: cgroup: require: " in refused.err and reason in refused.err, refused.err


def test_without_a_group_all_is_as_before():
    if has_base():
        raise Skip("here can be groups")
    with Instance(*setup(HOG, {"max_memory": "256MiB", "max_processes": 9})) as m:
        said = limits_of(m)
        assert said.startswith("rlimits, without max_processes ("), said
        assert "w: max_processes cannot be had: " in m.log.read_text()
        m.post([event("hog"), event("fine")])
        m.wait_state("fine", "s", "done")
        # The allocation failed in the program, which lived on and said so.
        dead = m.wait_state("hog", "s", "dead")
        assert all(a["verdict"] == "retry" for a in dead["attempts"]), dead
    expect_refusal({"cgroup": "require", "max_memory": "256MiB"}, "control group")


def test_what_contradicts_itself_is_refused():
    for limits, reason in (({"cpus": 1, "cgroup": "off"}, "cpus takes a control group"),
                           ({"max_processes": 5, "cgroup": "off"}, "max_processes takes a"),
                           ({"cpus": "much"}, "`much` is no number of processors"),
                           ({"cpus": 0}, "from 0.01"), ({"cgroup": "maybe"}, "maybe")):
        with Instance(*setup(PLAIN, limits), start=False) as m:
            result = m.cli("check")
            assert result.code != 0 and reason in result.out + result.err, (limits, result.err)


if __name__ == "__main__":
    main()
