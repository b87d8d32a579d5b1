"""Several targets with weights, priorities, and lanes that are wider than one."""
import signal
import time

from support import Instance, cli, event, http_source, main, python, wait_until, whole_lines

# Notes which worker got what; `fail` of the data makes the one it names fail.
NOTE = """
def handle(event, ctx):
    with open("seen-%s", "a") as seen:
        seen.write(event["id"] + "\\n")
    if event.get("data", {}).get("fail") == "%s":
        raise millrace.Retry("told to fail")
"""


def noting(name):
    return python(NOTE % (name, name))


def process(name):
    return {"process": {"command": ["python3", name]}}


def seen(m, name):
    return whole_lines(m.folder / ("seen-" + name))


def weighted(**more):
    return {"sources": {"in": http_source()},
            "workers": {"v1": process("v1.py"), "v2": process("v2.py")},
            "subscriptions": {"orders": {
                "to": [{"worker": "v1", "weight": 75},
                       {"worker": "v2", "weight": 25,
                        "return": {"percent": 50, "calls": 5, "window": "1h"}}],
                "retry": {"schedule": ["10ms"] * 20, "jitter": "none"}, **more}}}


FILES = {"v1.py": noting("v1"), "v2.py": noting("v2")}


def shares(m):
    return {share["target"]: share for share in m.counts("orders")["to"]}


def test_weights_share_out_and_a_key_stays_with_its_target():
    with Instance(weighted(order_by="subject"), FILES) as m:
        m.post([event("e%d" % i, subject="key%d" % (i % 100)) for i in range(1000)])
        wait_until("all done", lambda: m.counts("orders")["done"] == 1000)
        first, second = seen(m, "v1"), seen(m, "v2")
        assert len(first) + len(second) == 1000, (len(first), len(second))
        assert 100 < len(second) < 450, len(second)
        keys = [{int(id[1:]) % 100 for id in ids} for ids in (first, second)]
        assert not keys[0] & keys[1], "a key went to both"
        for ids in (first, second):
            for key in {int(id[1:]) % 100 for id in ids}:
                mine = [int(id[1:]) for id in ids if int(id[1:]) % 100 == key]
                assert mine == sorted(mine), mine
        attempt = m.delivery("e0", "orders")["attempts"][0]
        assert attempt["instance"].split("/")[0] == ("v1" if "e0" in first else "v2"), attempt
        text = m.cli("explain", "orders").out
        assert "To v2 go 25 of 100" in text and "Those of one key go to the same" in text, text


def test_a_target_that_fails_gives_its_weight_back():
    with Instance(weighted(), FILES) as m:
        m.post([event("e%d" % i, data={"fail": "v2"}) for i in range(100)])
        # What v2 failed is done by v1: nothing is lost, and nobody did anything.
        wait_until("all done", lambda: m.counts("orders")["done"] == 100)
        assert shares(m)["v2"]["returned"] and not shares(m)["v1"]["returned"], shares(m)
        assert m.metrics()['millrace_subscription_returned_weights{subscription="orders"}'] == 1
        assert "v2 fails too often" in m.log.read_text()
        before = len(seen(m, "v2"))
        # It stays so over a crash,
        m.stop(signal.SIGKILL)
        m.start()
        m.post([event("f%d" % i) for i in range(50)])
        wait_until("all done", lambda: m.counts("orders")["done"] == 150)
        assert shares(m)["v2"]["returned"] and len(seen(m, "v2")) == before
        # until somebody resumes it.
        assert m.cli("sub", "resume", "orders").code == 0
        assert not shares(m)["v2"]["returned"]
        m.post([event("g%d" % i) for i in range(100)])
        wait_until("all done", lambda: m.counts("orders")["done"] == 250)
        assert len(seen(m, "v2")) > before
        assert m.stop() == 0
        dump = cli("log", "dump", m.folder / "data", "-o", "json").lines()
        kinds = [record["returned"] for record in dump if record["kind"] == "weight"]
        assert kinds[0] is True and False in kinds, kinds


def test_a_changed_weight_moves_what_waits():
    config = weighted()
    config["workers"]["v2"] = process("absent.py")
    with Instance(config, FILES) as m:
        m.post([event("e%d" % i) for i in range(200)])
        wait_until("those of v1", lambda: m.counts("orders")["done"] > 0 and
                   m.counts("orders")["blocked_on"].get("no instance", 0) > 0)
        config["subscriptions"]["orders"]["to"][1]["weight"] = 0
        m.write_config(config)
        assert m.cli("reload").code == 0
        wait_until("all done", lambda: m.counts("orders")["done"] == 200)


# Holds until the file `go` is there.
HELD = python("""
def handle(event, ctx):
    while not os.path.exists("go"):
        select.select([], [], [], 0.01)
    with open("seen-held", "a") as seen:
        seen.write(event["id"] + "\\n")
""")


def held(**more):
    return {"sources": {"in": http_source()},
            "workers": {"held": {**process("held.py"), "scale": {"min": 1, "max": 1}}},
            "subscriptions": {"alerts": {"to": "held", **more}}}


def go(m):
    (m.folder / "go").touch()


def test_a_higher_level_goes_first():
    levels = {"by": "data.severity", "levels": {"critical": 9, "warning": 5}, "step": "1h"}
    with Instance(held(priority=levels), {"held.py": HELD}) as m:
        m.post(event("first", data={"severity": "info"}))
        wait_until("it runs", lambda: m.counts("alerts")["in_flight"] == 1)
        for i, severity in enumerate(["info", "warning", "info", "critical", "warning", "critical"]):
            m.post(event("%s%d" % (severity, i), data={"severity": severity}))
        go(m)
        wait_until("all done", lambda: m.counts("alerts")["done"] == 7)
        assert seen(m, "held") == ["first", "critical3", "critical5", "warning1", "warning4",
                                   "info0", "info2"], seen(m, "held")
        assert "For each level of priority" in m.cli("explain", "alerts").out


def test_a_lower_level_that_waited_longer_goes_first():
    levels = {"by": "level", "step": "1ms"}
    with Instance(held(priority=levels), {"held.py": HELD}) as m:
        m.post(event("first", level="0"))
        wait_until("it runs", lambda: m.counts("alerts")["in_flight"] == 1)
        m.post(event("low", level="0"))
        begun = time.monotonic()
        wait_until("longer than nine steps", lambda: time.monotonic() - begun > 0.05)
        m.post(event("high", level="9"))
        go(m)
        wait_until("all done", lambda: m.counts("alerts")["done"] == 3)
        assert seen(m, "held") == ["first", "low", "high"], seen(m, "held")


def test_levels_count_among_the_subscriptions_of_a_target():
    config = held()
    config["subscriptions"] = {
        "reports": {"filter": {"exact": {"type": "report"}}, "to": "held"},
        "alerts": {"filter": {"exact": {"type": "alert"}}, "to": "held",
                   "priority": {"level": 9, "step": "1h"}}}
    with Instance(config, {"held.py": HELD}) as m:
        m.post(event("first", "report"))
        wait_until("it runs", lambda: m.counts("reports")["in_flight"] == 1)
        m.post([event("r%d" % i, "report") for i in range(5)])
        m.post([event("a%d" % i, "alert") for i in range(3)])
        go(m)
        wait_until("all done", lambda: m.counts("reports")["done"] == 6)
        assert seen(m, "held")[:4] == ["first", "a0", "a1", "a2"], seen(m, "held")


WIDE = python("""
def handle(event, ctx):
    open("running-" + event["id"], "w").close()
    while not os.path.exists("go-" + event["id"]):
        select.select([], [], [], 0.01)
""")


def test_so_many_of_a_lane_run_side_by_side():
    config = {"sources": {"in": http_source()},
              "workers": {"w": {**process("wide.py"), "concurrency": 1,
                                "scale": {"min": 6, "max": 6}}},
              "subscriptions": {"s": {"to": "w", "order_by": "subject", "lane_concurrency": 2}}}
    with Instance(config, {"wide.py": WIDE}) as m:
        def running():
            return sorted(path.name[8:] for path in m.folder.glob("running-*"))

        def let(id):
            (m.folder / ("go-" + id)).touch()
        m.post([event("a%d" % i, subject="a") for i in range(5)])
        m.post([event("b%d" % i, subject="b") for i in range(2)])
        wait_until("two of each", lambda: running() == ["a0", "a1", "b0", "b1"])
        assert m.counts("s")["blocked_on"] == {"lane head": 3}, m.counts("s")["blocked_on"]
        let("a1")  # the second is done before the first: the third goes
        wait_until("the next", lambda: running() == ["a0", "a1", "a2", "b0", "b1"])
        config["subscriptions"]["s"]["lane_concurrency"] = 3
        m.write_config(config)
        assert m.cli("reload").code == 0
        wait_until("three", lambda: "a3" in running() and "a4" not in running())
        for id in ("a0", "a2", "a3", "a4", "b0", "b1"):
            let(id)
        wait_until("all done", lambda: m.counts("s")["done"] == 7)


def test_what_makes_no_sense_is_said():
    def says(text, **more):
        config = weighted(**more)
        m.write_config(config)
        result = cli("check", "-c", m.path)
        assert result.code != 0 and text in result.out + result.err, (text, result.out, result.err)

    with Instance(weighted(), FILES, start=False) as m:
        assert cli("check", "-c", m.path).code == 0
        says("did you mean `v1`", to=[{"worker": "v11", "weight": 1}])
        says("named twice", to=[{"worker": "v1"}, {"worker": "v1"}])
        says("every weight is 0", to=[{"worker": "v1", "weight": 0}])
        says("names one worker or one sink", to=[{"weight": 1}])
        says("`v1` is a worker", to=[{"sink": "v1"}])
        says("a list has 1 to 8", to=[])
        says("would send every event round again", to=[{"worker": "bus"}])
        says("what `to` names already", shadow="v2")
        says("is no level from 0 to 9", priority={"by": "severity", "levels": {"x": "12"}})
        says("say with `by`", priority={"levels": {"x": "1"}})
        says("say with order_by", lane_concurrency=2)
        says("keep wants the events of a key one after another", lane_concurrency=2,
             order_by="subject", keep="latest")
        says("leave lane_concurrency out", lane_concurrency=2, order_by="subject", batch={})


if __name__ == "__main__":
    main()
