"""A held delivery goes on with an edited event: in its place, once, whatever happens meanwhile."""
import json
import signal

from support import *

SUMS = python("def handle(event, ctx):\n"
              "    if event['data']['n'] < 0 or (event['data']['n'] == 7 and not os.path.exists('mended')):\n"
              "        raise millrace.Retry('cannot take %d' % event['data']['n'])\n"
              "    with open('seen', 'a') as seen:\n"
              "        print(event['id'], event['data']['n'], ctx.attempt, file=seen, flush=True)")


PLAIN = {"sources": {"in": http_source()},
         "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
         "subscriptions": {"s": {"to": "w", "on_exhausted": "hold", "order_by": "subject",
                                 "retry": {"schedule": ["10ms"], "jitter": "none"}}}}


def sums():
    return Instance(PLAIN, {"w.py": SUMS})


def seen(m):
    path = m.folder / "seen"
    return path.read_text().splitlines() if path.exists() else []


def held(m):
    return [d["id"] for d in m.ask_lines("delivery", "list", "s", "--state", "held")]


def fill(m):
    for n, value in enumerate((-1, 1, 2, 3)):
        m.post(event("e%d" % n, subject="lane", data={"n": value}))
    wait_until("the head to be held", lambda: held(m) == ["e0"])


def edit(m, which, n, **more):
    return m.cli("delivery", "edit", "s", which, "-o", "json",
                 input=json.dumps({**event("e0", subject="lane", data={"n": n}), **more}))


def test_the_edited_one_goes_first():
    with sums() as m:
        fill(m)
        offset = m.ask_lines("delivery", "list", "s", "--state", "held")[0]["offset"]
        done = edit(m, "e0", 10)
        assert done.code == 0, (done.out, done.err)
        answer = done.json()
        assert answer["subscription"] == "s" and answer["offset"] == offset, answer
        assert answer["id"] == "e0.edit-%d" % offset and answer["event_offset"] > offset, answer
        m.wait_state("e3", "s", "done")
        assert seen(m) == ["%s 10 1" % answer["id"], "e1 1 1", "e2 2 1", "e3 3 1"], seen(m)
        # The delivery is the same: its attempts before, and the one with the other event.
        old = m.delivery("e0", "s")
        assert old["state"] == "done" and old["delivery"] == "s:%d" % offset, old
        assert [a["verdict"] for a in old["attempts"]] == ["retry", "retry", "ok"], old
        assert old["replaced_by"] == answer["id"] and old["edited_at"] and old["children"] == [], old
        assert m.trace("e0")["event"]["data"] == {"n": -1}
        new = m.trace(answer["id"])
        assert new["replaces"] == {"subscription": "s", "offset": offset}, new
        assert new["event"]["causationid"] == "e0" and new["matched"] == [], new
        assert new["event"]["data"] == {"n": 10} and new["offset"] == answer["event_offset"], new
        assert "an operator" in m.ask("why", answer["id"], "s")["why"]
        assert "replaced by %s" % answer["id"] in m.cli("trace", "e0").out
        assert "replaces the event of s:%d" % offset in m.cli("trace", answer["id"]).out
        counts = m.counts("s")
        assert counts["done"] == counts["matched"] == 4, counts
        kinds = [r for r in m.ask_lines("log", "dump", m.folder / "data") if r["kind"] == "edit"]
        assert [(r["offset"], r["event_offset"]) for r in kinds] == [(offset, answer["event_offset"])], kinds
        audit = m.cli("audit", "in", "-o", "json")
        assert audit.code == 0, (audit.out, audit.err)


def test_an_edit_outlives_a_crash():
    with sums() as m:
        fill(m)
        assert m.cli("sub", "pause", "s").code == 0
        human = m.cli("delivery", "edit", "s", "e0",
                      input=json.dumps(event("better", subject="lane", data={"n": 10})))
        assert human.code == 0 and human.out.endswith(" goes on with better\n"), (human.out, human.err)
        assert held(m) == [] and seen(m) == []
        for _ in range(2):
            m.stop(signal.SIGKILL)
            m.start()
        listed = [(d["id"], d["attempts"]) for d in m.ask_lines("delivery", "list", "s")]
        assert listed == [("better", 0), ("e1", 0), ("e2", 0), ("e3", 0)], listed
        assert m.cli("sub", "resume", "s").code == 0
        m.wait_state("e3", "s", "done")
        assert [line.split()[:2] for line in seen(m)] == [
            ["better", "10"], ["e1", "1"], ["e2", "2"], ["e3", "3"]], seen(m)
        assert m.cli("log", "verify", m.folder / "data").code == 0


def test_an_edited_one_that_fails_again():
    """It is held again, can be edited again, and its dead letter has the event it was given."""
    with sums() as m:
        fill(m)
        offset = m.ask_lines("delivery", "list", "s", "--state", "held")[0]["offset"]
        assert edit(m, "e0", -5, id="second").code == 0
        wait_until("it to be held again", lambda: held(m) == ["second"])
        assert edit(m, offset, 7, id="third").code == 0  # by its number, which stays
        wait_until("it to be held once more", lambda: held(m) == ["third"])
        assert m.trace("third")["event"]["causationid"] == "second"
        assert m.delivery("e0", "s")["replaced_by"] == "third"
        config = json.loads(json.dumps(PLAIN))
        config["subscriptions"]["s"].pop("on_exhausted")
        m.write_config(config)
        assert m.cli("reload").code == 0
        assert m.cli("delivery", "resume", "s", "third").code == 0
        letter = wait_until("the letter", lambda: m.ask_lines("dlq", "list", "s"))[0]
        assert letter["id"] == "third" and letter["offset"] == offset, letter
        assert letter["event"]["data"] == {"n": 7}, letter
        m.stop(signal.SIGKILL)
        m.start()
        (m.folder / "mended").touch()
        again = m.cli("dlq", "redrive", "s", "third", "--out-of-order", "-o", "json")
        assert again.code == 0 and again.lines()[0]["result"] == "done", (again.out, again.err)
        assert "third 7 1" in seen(m), seen(m)


def test_what_cannot_be_edited():
    with sums() as m:
        fill(m)
        for wrong in ("", "{", "[]", '{"id": 7}', json.dumps({"id": "no-source", "specversion": "1.0"})):
            assert m.cli("delivery", "edit", "s", "e0", input=wrong).code == 65, wrong
        refused = edit(m, "e1", 4)
        assert refused.code == 1 and "is not held" in refused.err, (refused.out, refused.err)
        assert edit(m, "nobody", 4).code == 3
        assert m.cli("delivery", "edit", "nobody", "e0", input=json.dumps(event("x"))).code == 3
        assert m.cli("delivery", "edit", "s").code == 2
        assert held(m) == ["e0"] and seen(m) == []
        actions = [r for r in m.ask_lines("log", "dump", m.folder / "data") if r["kind"] == "operator"]
        assert actions == [], actions  # what changes nothing says nothing


if __name__ == "__main__":
    main()
