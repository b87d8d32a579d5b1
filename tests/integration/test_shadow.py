"""`shadow`: a worker gets a copy of every delivery; what it says is compared and has no effect."""
import json

from support import Instance, cli, event, http_source, main, python, wait_until, whole_lines

OLD = python("""
def handle(event, ctx):
    ctx.emit({"type": "made", "source": "/old", "id": "old-" + event["id"]})
    if event["data"].get("old") == "fail":
        raise millrace.Retry("the old one fails")
    if event["data"].get("old") == "drop":
        raise millrace.Drop("not wanted")
    return {"sum": event["data"]["n"] + 1}
""")
NEW = python("""
def handle(event, ctx):
    ctx.emit({"type": "made", "source": "/new", "id": "new-" + event["id"]})
    said = event["data"].get("new")
    if said == "fail":
        raise millrace.Retry("the new one fails")
    if said == "dead":
        raise millrace.Dead("the new one is sure")
    if said == "crash":
        os.kill(os.getpid(), 9)
    return {"sum": event["data"]["n"] + (2 if said == "other" else 1)}
""")


def process(name):
    return {"process": {"command": ["python3", name]}}


def shadowed(**more):
    return {"sources": {"in": http_source()},
            "workers": {"old": process("old.py"), "new": process("new.py")},
            "sinks": {"results": {"file": {"path": "results"}}, "made": {"file": {"path": "made"}}},
            "subscriptions": {
                "orders": {"filter": {"exact": {"type": "order"}}, "to": "old", "shadow": "new",
                           "on_success": "results", "on_failure": "results",
                           "retry": {"schedule": ["10ms"], "jitter": "none"}, **more},
                "made": {"filter": {"exact": {"type": "made"}}, "to": "made"}}}


def report(m):
    return m.counts("orders")["shadow"]


def post(m, id, **data):
    m.post(event(id, "order", "s", data={"n": 1, **data}))


def test_outcomes_are_compared_and_the_shadow_has_no_effect():
    with Instance(shadowed(), {"old.py": OLD, "new.py": NEW}) as m:
        for i in range(5):
            post(m, "same%d" % i)
        post(m, "other", new="other")
        post(m, "worse", new="fail")
        post(m, "sure", new="dead")
        post(m, "crash", new="crash")
        post(m, "better", old="fail")
        post(m, "both", old="fail", new="fail")
        post(m, "dropped", old="drop")
        wait_until("all compared", lambda: report(m)["compared"] == 12)
        seen = report(m)
        assert {k: v for k, v in seen.items() if k != "examples"} == {
            "worker": "new", "compared": 12, "same": 6, "other_result": 1, "other_verdict": 1,
            "only_shadow_failed": 3, "only_original_failed": 1, "unpaired": 0}, seen
        assert sorted(seen["examples"]) == sorted(
            ["other", "worse", "sure", "crash", "better", "dropped"]), seen
        # The original's deliveries are what they would be without it.
        wait_until("the originals", lambda: m.counts("orders")["dead"] == 2)
        counts = m.counts("orders")
        assert (counts["done"], counts["dropped"], counts["dead"]) == (9, 1, 2), counts
        # Its own end at once, and leave nothing: no dead letter, no event, no outcome.
        wait_until("the copies", lambda: m.counts("orders/shadow")["done"] == 8)
        wait_until("the others", lambda: m.counts("orders/shadow")["dropped"] == 4)
        copies = m.counts("orders/shadow")
        assert copies["matched"] == 12 and copies["dead_letters"] == 0, copies
        assert m.delivery("worse", "orders/shadow")["attempts"][0]["error"] == "the new one fails"
        wait_until("the outcomes", lambda: m.counts("orders/on_success/results")["done"] == 9)
        wait_until("the outcomes", lambda: m.counts("orders/on_failure/results")["done"] == 2)
        wait_until("what is made", lambda: m.counts("made")["done"] == 10)
        assert "/new" not in "".join(whole_lines(m.folder / "made") + whole_lines(m.folder / "results"))
        assert "copy of each delivery goes to new" in m.cli("explain", "orders").out


def test_who_waits_for_a_result_gets_the_originals():
    with Instance(shadowed(), {"old.py": OLD, "new.py": NEW}) as m:
        sent = event("one", "order", data={"n": 1, "new": "other"})
        status, _, body = m.http("POST", "/events?wait=20", json.dumps(sent),
                                 {"Content-Type": "application/cloudevents+json"})
        assert status == 200 and '"sum":2' in body.replace(" ", ""), (status, body)


def test_a_shadow_that_is_down_holds_nothing_up():
    config = shadowed()
    config["workers"]["new"] = process("absent.py")
    with Instance(config, {"old.py": OLD}) as m:
        for i in range(20):
            post(m, "e%d" % i)
        wait_until("the originals", lambda: m.counts("orders")["done"] == 20)
        assert m.counts("orders/shadow")["done"] == 0
        # Taken away, its copies go with it and nothing else does.
        del config["subscriptions"]["orders"]["shadow"]
        m.write_config(config)
        assert m.cli("reload").code == 0
        assert m.counts("orders/shadow")["state"] == "removed"
        assert "shadow" not in m.counts("orders")
        post(m, "after")
        m.wait_state("after", "orders", "done")


def test_what_cannot_be_a_shadow_is_said():
    with Instance(shadowed(), {"old.py": OLD, "new.py": NEW}, start=False) as m:
        for name, text in (("results", "is a sink"), ("old", "what `to` names already"),
                           ("newer", "did you mean `new`")):
            config = shadowed()
            config["subscriptions"]["orders"]["shadow"] = name
            m.write_config(config)
            result = cli("check", "-c", m.path)
            assert result.code != 0 and text in result.err + result.out, (name, result.out, result.err)


if __name__ == "__main__":
    main()
