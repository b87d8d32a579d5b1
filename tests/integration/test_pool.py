"""The worker pool as a user sees it: instances that are replaced, limited, scaled and counted."""
import threading

from support import Instance, event, http_source, main, python, wait_until

PID = python("def handle(event, ctx):\n    return {'pid': os.getpid()}")


def pool(code, process=None, subscription=None, **worker):
    """A configuration with one process worker `w` and one subscription `s` to it."""
    return {"sources": {"shop": http_source()},
            "workers": {"w": {"process": {"command": ["python3", "-B", "w.py"], **(process or {})},
                              **worker}},
            "subscriptions": {"s": {"to": "w", **(subscription or {})}}}, {"w.py": code}


def send(m, ids, **more):
    m.post([event(id, **more) for id in ids])


def wait_done(m, count):
    return wait_until("%d done" % count, lambda: m.counts("s")["done"] >= count and m.counts("s"))


def worker(m):
    return m.ask("worker", "show", "w")


def test_max_events_replaces_without_a_refusal():
    with Instance(*pool(PID, {"max_events": 5})) as m:
        send(m, ["e%d" % i for i in range(40)])
        wait_done(m, 40)
        shown = worker(m)
        assert shown["starts"] >= 8, shown
        assert shown["crashes"] == 0, shown
        for i in range(40):
            delivery = m.delivery("e%d" % i, "s")
            assert len(delivery["attempts"]) == 1, delivery


def test_max_rss_and_max_life_replace_after_what_is_in_flight():
    grows = python("kept = []\ndef handle(event, ctx):\n    kept.append(b'x' * (40 << 20))\n"
                   "    select.select([], [], [], 0.2)")
    with Instance(*pool(grows, {"max_rss": "90MiB", "max_life": "20s"}, timeout="60s",
                        scale={"max": 2})) as m:
        send(m, ["e%d" % i for i in range(20)])
        wait_done(m, 20)
        wait_until("replaced", lambda: worker(m)["starts"] >= 3)
        assert worker(m)["crashes"] == 0, worker(m)
        attempts = [m.delivery("e%d" % i, "s")["attempts"] for i in range(20)]
        assert all(len(a) == 1 and a[0]["verdict"] == "ok" for a in attempts), attempts
        assert len({a[0]["instance"] for a in attempts}) >= 2, attempts


def test_limits_end_a_delivery_and_the_crash_says_which():
    code = python("""
def handle(event, ctx):
    kind = event['id']
    if kind == 'cpu':
        while True:
            pass
    if kind == 'stubborn':
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
        while True:
            pass
    if kind == 'memory':
        try:
            b'x' * (1 << 30)
        except MemoryError:
            os.abort()
    if kind == 'files':
        kept = [open('/dev/null') for i in range(1000)]
    return 'ok'
""")
    limits = {"max_cpu": "1s", "max_memory": "256MiB", "max_files": 64, "cgroup": "off"}
    with Instance(*pool(code, limits, {"retry": {"attempts": 1}}, timeout="100s")) as m:
        for id, state, verdict, part in (
                ("good", "done", "ok", None),
                ("cpu", "dead", "crash", "it used up max_cpu"),
                ("memory", "dead", "crash", "max_memory 256 MiB"),
                ("files", "dead", "retry", "Too many open files"),
                ("stubborn", "dead", "crash", "it used more than its max_cpu"),
                ("well", "done", "ok", None)):
            send(m, [id])
            delivery = m.wait_state(id, "s", state)
            last = delivery["attempts"][-1]
            assert last["verdict"] == verdict, delivery
            assert part is None or part in last["error"], delivery
        assert m.delivery("cpu", "s")["attempts"][-1]["signal"] == 24, "SIGXCPU"


def test_limits_of_exec():
    with Instance({"sources": {"shop": http_source()},
                   "workers": {"w": {"exec": {"command": ["./w.sh"], "max_cpu": "1s",
                                              "max_memory": "256MiB", "max_files": 32,
                                              "cgroup": "off"}}},
                   "subscriptions": {"s": {"to": "w", "retry": {"attempts": 1}}}},
                  {"w.sh": "#!/bin/sh\ncase $CE_ID in\ncpu) while :; do :; done;;\n"
                           "files) ulimit -n; exit 65;;\n"
                           "memory) exec python3 -c 'b\"x\" * (1 << 30)';;\nesac\n"
                           "test $(ulimit -n) = 32\n"}) as m:
        for id, state, part in (("good", "done", None), ("cpu", "dead", "it used up max_cpu"),
                                ("memory", "dead", "max_memory 256 MiB, max_files 32)"),
                                ("files", "dead", "max_files 32")):
            send(m, [id])
            delivery = m.wait_state(id, "s", state)
            assert part is None or part in delivery["attempts"][-1]["error"], delivery


def test_limits_that_nothing_could_start_with_are_refused():
    for limits, part in (({"max_cpu": "10ms"}, "max_cpu is less than 1s"),
                         ({"max_memory": "1KiB"}, "max_memory is less than 4MiB"),
                         ({"max_files": 3}, "max_files is less than 16")):
        config, files = pool(PID, limits)
        with Instance(config, files, start=False) as m:
            result = m.cli("check")
            assert result.code != 0 and part in result.out + result.err, (limits, result.err)


def test_burst_from_zero_loses_nothing_and_goes_back_to_zero():
    """20 events a second, then 200, of 200 ms each; nobody waits for a fixed time."""
    sleepy = "def handle(event, ctx):\n    select.select([], [], [], 0.2)\n"
    sleepy = ("import select\nimport millrace\n" + sleepy +
              "millrace.run(handle, concurrency=8)\n")
    with Instance(*pool(sleepy, concurrency=8, timeout="60s",
                        scale={"min": 0, "max": 8, "idle": "500ms"})) as m:
        assert worker(m)["starts"] == 0
        pace = threading.Event()
        for k in range(10):
            send(m, ["slow%d-%d" % (k, i) for i in range(2)])
            pace.wait(0.1)
        for k in range(20):
            send(m, ["fast%d-%d" % (k, i) for i in range(20)])
            pace.wait(0.1)
        wait_done(m, 420)
        shown = worker(m)
        assert shown["starts"] >= 2 and shown["crashes"] == 0, shown
        assert 0 < shown["last_start_seconds"] <= shown["max_start_seconds"], shown
        assert 0 < shown["mean_start_seconds"] <= shown["max_start_seconds"], shown
        counted = m.metrics()
        assert counted['millrace_attempts_total{subscription="s",verdict="ok"}'] == 420, counted
        assert counted.get('millrace_attempts_total{subscription="s",verdict="timeout"}', 0) == 0
        wait_until("zero", lambda: worker(m)["detail"] == "scaled to zero")
        assert worker(m)["running"] == []


def test_crash_loop_shows_its_back_off():
    broken = "import sys\nsys.exit('no database')\n"
    with Instance(*pool(broken)) as m:
        def waits():
            shown = worker(m)
            return shown if shown["crash_streak"] >= 3 and shown["backoff_seconds"] > 0 else None
        shown = wait_until("a back-off", waits)
        assert shown["health"] == "down" and "no database" in shown["last_error"], shown
        assert "in a row; next start in" in shown["detail"], shown


LONG = python("""
import threading
def handle(event, ctx):
    if event['id'] == 'stuck':
        threading.Event().wait()
    step = 0
    while not os.path.exists('go'):
        step += 1
        ctx.heartbeat({'step': step})
        threading.Event().wait(0.05)
""")


def test_long_job_shows_its_progress_and_outlives_its_timeout():
    with Instance(*pool(LONG, timeout="1s", max_run="1h")) as m:
        send(m, ["long"])

        def at_step_40():  # two seconds and more: beyond the timeout
            running = (m.delivery("long", "s") or {}).get("running")
            progress = running and running["deliveries"][0]["progress"]
            return running if progress and progress["step"] >= 40 else None
        running = wait_until("progress", at_step_40)
        assert running["instance"] == "w/1", running
        shown = worker(m)["running"]
        assert [d["delivery"] for i in shown for d in i["deliveries"]] == ["s:1"], shown
        assert shown[0]["state"] == "busy" and shown[0]["pid"] == running["pid"], shown
        text = m.cli("trace", "long").out
        assert "with w/1 (pid " in text and 'progress {"step":' in text, text
        assert '"progress":{"step":' in m.cli("worker", "show", "w").out
        (m.folder / "go").touch()
        delivery = m.wait_state("long", "s", "done")
        assert len(delivery["attempts"]) == 1, delivery
        assert "running" not in delivery, delivery


def test_stuck_handler_is_cancelled_and_killed():
    with Instance(*pool(LONG, None, {"retry": {"attempts": 1}}, timeout="300ms",
                        grace="200ms")) as m:
        send(m, ["stuck"])
        m.wait_state("stuck", "s", "dead")
        wait_until("killed", lambda: worker(m)["crashes"] == 1)
        (m.folder / "go").touch()
        send(m, ["next"])
        m.wait_state("next", "s", "done")


def test_max_run_ends_what_only_beats():
    with Instance(*pool(LONG, None, {"retry": {"attempts": 1}}, timeout="300ms",
                        max_run="1s", grace="200ms")) as m:
        send(m, ["endless"])
        delivery = m.wait_state("endless", "s", "dead")
        assert delivery["attempts"][-1]["verdict"] == "timeout", delivery


def test_usage_counts_what_reached_a_handler():
    code = python("""
def handle(event, ctx):
    select.select([], [], [], 0.13)
    if event['id'] == 'bad':
        raise millrace.Retry('no')
    ctx.emit({'specversion': '1.0', 'id': 'x', 'source': '/w', 'type': 'made'})
    return 'done'
""")
    config, files = pool(code, None, {"filter": {"exact": {"type": "a"}},
                                      "retry": {"schedule": ["10ms", "10ms"], "jitter": "none"}})
    with Instance(config, files) as m:
        assert m.ask_lines("usage") == []
        send(m, ["good"], type="a")
        m.wait_state("good", "s", "done")
        send(m, ["bad"], type="a")
        m.wait_state("bad", "s", "dead")
        row, = m.ask_lines("usage")
        assert (row["subscription"], row["worker"], row["invocations"]) == ("s", "w", 4), row
        assert row["busy_ns"] >= 4 * 130e6 and row["busy_units"] >= 8, row
        assert row["busy_ns"] <= row["busy_units"] * 100e6, row
        assert row["bytes_in"] > 0 and row["bytes_out"] > len('"done"'), row
        text = m.cli("usage").out
        assert "UNITS 100ms" in text and "BYTES OUT" in text, text
        samples = m.metrics()
        label = '{subscription="s",worker="w"}'
        assert samples["millrace_usage_invocations_total" + label] == 4, samples
        assert samples["millrace_usage_busy_units_total" + label] == row["busy_units"]
        seconds = samples["millrace_usage_busy_seconds_total" + label]
        assert abs(seconds - row["busy_ns"] / 1e9) < 1e-6, (seconds, row)
        assert samples["millrace_usage_in_bytes_total" + label] == row["bytes_in"]
        assert samples["millrace_usage_out_bytes_total" + label] == row["bytes_out"]


def test_reload_lets_the_old_generation_finish():
    code = python("""
import threading
def handle(event, ctx):
    while event['id'] == 'old' and not os.path.exists('go'):
        threading.Event().wait(0.02)
    return os.environ['COLOUR']
""")
    config, files = pool(code, {"env": {"COLOUR": "blue"}})
    with Instance(config, files) as m:
        send(m, ["old"])
        wait_until("old runs", lambda: (m.delivery("old", "s") or {}).get("running"))
        config["workers"]["w"]["process"]["env"] = {"COLOUR": "green"}
        m.write_config(config)
        assert m.ask("reload")["applied"]
        send(m, ["new"])
        new = m.wait_state("new", "s", "done")  # while the old one still runs
        assert m.delivery("old", "s")["state"] == "in flight", m.delivery("old", "s")
        (m.folder / "go").touch()
        old = m.wait_state("old", "s", "done")
        assert old["attempts"][0]["version"] != new["attempts"][0]["version"], (old, new)
        assert len(old["attempts"]) == 1, old


if __name__ == "__main__":
    main()
