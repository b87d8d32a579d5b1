"""The worker pool as a user sees it: instances that are replaced, limited, scaled and counted."""
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
    limits = {"max_cpu": "1s", "max_memory": "256MiB", "max_files": 64}
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
                                              "max_memory": "256MiB", "max_files": 32}}},
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


if __name__ == "__main__":
    main()
