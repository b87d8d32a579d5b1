"""`shed`: what goes when too many wait, and the events that tell of it."""
import signal

from support import *

SHED = "io.millrace.subscription.shed"
TYPE = {"exact": {"type": "com.example.a"}}


def config(shed, **more):
    s = {"to": "w", "filter": TYPE}
    return {"sources": {"in": http_source()},
            "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
            "sinks": {"told": {"file": {"path": "told.jsonl"}}},
            "subscriptions": {"s": {**s, **({} if shed is None else {"shed": shed}), **more},
                              "tell": {"filter": {"exact": {"type": SHED}}, "to": "told"}}}


DONE = python("def handle(event, ctx):\n    pass")


def told(m):
    """What the other subscription was told, once each: a kill may have it told again."""
    return {e["id"]: e for e in json_lines(m.folder / "told.jsonl")}


def dropped_by(m):
    return sum(e["data"]["dropped"] for e in told(m).values())


def waiting(m, subscription="s"):
    return [d["id"] for d in m.ask_lines("delivery", "list", subscription)]


def check_told(m, total, waiting, drop):
    """Each summary adds up, and all of them."""
    sums = wait_until("all to be told", lambda: told(m) if dropped_by(m) == total else None)
    for e in sums.values():
        data = e["data"]
        assert e["source"] == "/millrace/subscription/s" and e["subject"] == "s", e
        assert data["subscription"] == "s" and data["drop"] == drop, e
        assert data["first"]["offset"] <= data["last"]["offset"], e
        assert data["last"]["offset"] - data["first"]["offset"] + 1 >= data["dropped"], e
        assert data["waiting"] >= data["to"], e
        assert data["first"]["arrival"] <= data["last"]["arrival"], e
    counts = m.counts("s")
    assert counts["dropped"] == total and counts["waiting"] == waiting, counts
    return sums


def test_the_oldest_go_and_a_kill_loses_no_word_of_it():
    with Instance(config({"max": 5}), {"w.py": DONE}) as m:
        assert m.cli("sub", "pause", "s").code == 0
        for n in range(5):
            m.post(event("e%d" % n))
        assert m.counts("s")["waiting"] == 5 and told(m) == {}
        m.post(event("e5"))
        wait_until("four to be left", lambda: m.counts("s")["waiting"] == 4)
        assert waiting(m) == ["e2", "e3", "e4", "e5"]
        wait_until("it to be written", lambda: dropped_by(m) == 2)  # who is told has it from the log
        m.stop(signal.SIGKILL)
        m.start()
        assert waiting(m) == ["e2", "e3", "e4", "e5"]
        m.post([event("e%d" % n) for n in range(6, 12)])
        wait_until("eight to be gone", lambda: m.counts("s")["dropped"] == 8)
        assert waiting(m) == ["e8", "e9", "e10", "e11"]
        sums = check_told(m, 8, 4, "oldest")
        assert [e["data"]["dropped"] for e in sums.values()][0] == 2, sums
        gone = m.delivery("e0", "s")
        assert gone["state"] == "dropped" and gone["reason"] == "shed: more than 5 waited", gone
        assert "shed: more than 5 waited" in m.cli("why", "e1", "s").out
        assert m.metrics()['millrace_shed_total{subscription="s"}'] == 6
        said = m.cli("explain", "s").out
        assert "When more than 5 deliveries wait, the oldest are dropped until 4 wait" in said, said
        assert m.cli("sub", "resume", "s").code == 0
        wait_until("the rest to be done", lambda: m.counts("s")["done"] == 4)


def test_the_newest_go():
    with Instance(config({"max": 5, "to": 2, "drop": "newest"}), {"w.py": DONE}) as m:
        assert m.cli("sub", "pause", "s").code == 0
        for n in range(6):
            m.post(event("e%d" % n))
        wait_until("two to be left", lambda: m.counts("s")["waiting"] == 2)
        assert waiting(m) == ["e0", "e1"]
        m.post([event("f%d" % n) for n in range(4)])
        wait_until("two to be left", lambda: m.counts("s")["dropped"] == 8)
        assert waiting(m) == ["e0", "e1"]
        wait_until("it to be written", lambda: dropped_by(m) == 8)
        m.stop(signal.SIGKILL)
        m.start()
        assert waiting(m) == ["e0", "e1"]
        check_told(m, 8, 2, "newest")


def test_what_a_handler_has_and_what_is_held_stays():
    worker = python("def handle(event, ctx):\n"
                    "    if event['id'] == 'held':\n        raise millrace.Retry('no')\n"
                    "    while not os.path.exists('enough'):\n"
                    "        select.select([], [], [], 0.01)")
    with Instance(config({"max": 1}, on_exhausted="hold", retry={"attempts": 1}),
                  {"w.py": worker}) as m:
        m.post(event("held"))
        m.wait_state("held", "s", "held")
        m.post(event("has"))
        m.wait_state("has", "s", "in flight")
        assert m.cli("sub", "pause", "s").code == 0  # what is logged ahead goes back to waiting
        for n in range(2, 22):
            m.post(event("e%d" % n))
        left = wait_until("all that waits to go", lambda: (
            lambda c: c if c["dropped"] >= 19 and c["waiting"] <= 1 else None)(m.counts("s")))
        assert left["held"] == 1 and left["in_flight"] == 1, left
        (m.folder / "enough").touch()
        m.wait_state("has", "s", "done")
        assert m.delivery("held", "s")["state"] == "held"


def test_a_lane_goes_on_without_its_head():
    with Instance(config({"max": 3, "to": 1}, order_by="subject"), {"w.py": DONE}) as m:
        assert m.cli("sub", "pause", "s").code == 0
        for n in range(4):
            m.post(event("e%d" % n, subject="one"))
        wait_until("one to be left", lambda: m.counts("s")["waiting"] == 1)
        assert m.cli("sub", "resume", "s").code == 0
        m.wait_state("e3", "s", "done")


def test_most_of_it_on_disk_and_a_kill_between():
    total = 20_000
    with Instance(config(None, window="64KiB"), {"w.py": DONE}) as m:
        assert m.cli("sub", "pause", "s").code == 0
        for n in range(0, total, 1000):
            m.post([event("e%d" % k) for k in range(n, n + 1000)])
        assert m.counts("s")["behind"] > total - 1000, m.counts("s")
        m.write_config(config({"max": 100, "to": 50}, window="64KiB"))
        assert m.cli("reload").code == 0
        wait_until("some to be gone", lambda: m.counts("s")["dropped"] > 1000)
        m.stop(signal.SIGKILL)
        m.start()
        wait_until("the rest to be gone", lambda: m.counts("s")["waiting"] == 50)
        assert waiting(m) == ["e%d" % n for n in range(total - 50, total)]
        check_told(m, total - 50, 50, "oldest")
        # Those that came first went first, each once.
        sums = sorted(told(m).values(), key=lambda e: e["data"]["first"]["offset"])
        before = 0
        for e in sums:
            data = e["data"]
            assert data["first"]["offset"] > before, (before, e)
            before = data["last"]["offset"]
        assert max(e["data"]["dropped"] for e in sums) <= 256
        assert m.metrics()["millrace_conservation_ok"] == 1


def test_what_tells_of_shedding_does_not_go_round():
    """Subscriptions that take everything, what the others shed among it, and nobody works."""
    for count, shed in ((2, {"max": 1}), (6, {"max": 2, "to": 1}), (6, {"max": 1})):
        names = ["all%d" % n for n in range(count)]
        with Instance({"sources": {"in": http_source()},
                       "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
                       "sinks": {"told": {"file": {"path": "told.jsonl"}}},
                       "subscriptions": {
                           "told": {"filter": {"exact": {"type": SHED}}, "to": "told"},
                           **{n: {"to": "w", "shed": shed} for n in names}}},
                      {"w.py": DONE}) as m:
            for n in names:
                assert m.cli("sub", "pause", n).code == 0
            sent = 30
            for n in range(sent):
                m.post(event("e%d" % n))

            def counts():
                return [(lambda c: (c["matched"], c["dropped"], c["waiting"]))(m.counts(n))
                        for n in names]

            def rest():  # all that was dropped is told of, and none has more than may wait
                now = counts()
                gone = sum(dropped for _, dropped, _ in now)
                few = all(waits <= shed["max"] for _, _, waits in now)
                return now if few and dropped_by(m) == gone and counts() == now else None
            now = wait_until("rest", rest)
            told_of = told(m)
            # The first ones go to all others, and what tells of these to none of them.
            first = [e for e in told_of.values() if e["mrhops"] == 1]
            assert first and len(first) <= sent * count, len(first)
            assert len(told_of) <= sent * count * count, (count, len(told_of))
            for n, (matched, _, _) in zip(names, now):
                assert matched <= sent + sent * count, (n, matched)
            assert not [e for e in told_of.values() if e["data"]["dropped"] < 1]


def test_what_has_come_round_too_often_becomes_a_dead_letter():
    with Instance({**config({"max": 1}), "hops_max": 1}, {"w.py": DONE}) as m:
        assert m.cli("sub", "pause", "s").code == 0
        for n in range(2):
            m.post(event("e%d" % n, mrhops=1))
        letter = wait_until("the letter", lambda: m.letters("ingest:bus"))[0]
        assert letter["event"]["type"] == SHED and letter["event"]["data"]["dropped"] == 2, letter
        assert letter["event"]["mrhops"] == 2 and "hop limit" in letter["error"], letter
        assert m.counts("s")["dropped"] == 2 and told(m) == {}


def test_what_is_wrong_is_refused():
    for shed, text in (({}, "`max` is missing"), ({"max": 5, "to": 5}, "to is not below max"),
                       ({"max": 0}, "max"), ({"max": 5, "drop": "middle"}, "oldest, newest"),
                       ({"max": 1_000_000, "drop": "newest"}, "do not fit into a window")):
        with Instance(config(shed), {"w.py": DONE}, start=False) as m:
            done = m.cli("check")
            assert done.code != 0 and text in done.out + done.err, (shed, done.out, done.err)


main()
