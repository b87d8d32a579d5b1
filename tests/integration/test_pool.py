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


if __name__ == "__main__":
    main()
