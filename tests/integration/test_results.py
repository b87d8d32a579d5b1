"""What a worker answered is kept: whoever sent the event asks for state and result by its id."""
import json
import signal

from support import CLOUDEVENT, Instance, cli, event, http_source, main, python, wait_until

WORKER = python("""
import threading
def handle(event, ctx):
    data = event.get('data') or {}
    if data.get('wait'):
        while not os.path.exists('go'):
            threading.Event().wait(0.02)
    if data.get('dead'):
        raise millrace.Dead('no such shop')
    if data.get('size'):
        return 'x' * data['size']
    return data.get('answer')
""")
COMMAND = """#!/bin/sh
case "$(cat)" in
*plain*) printf 'plain text, "quoted"' ;;
*) printf '{"exec": [1, 2.50, {"deep": null}]}\\n' ;;
esac
"""


def instance(segment="4MiB", **more):
    subscription = {"retry": {"schedule": ["10ms"], "jitter": "none"}}
    config = {"sources": {"shop": http_source()},
              "workers": {"p": {"process": {"command": ["python3", "-B", "w.py"]}},
                          "x": {"exec": {"command": ["./x.sh"]}}},
              "sinks": {"copy": {"file": {"path": "copy.jsonl"}}},
              "subscriptions": {"price": {"to": "p", **subscription},
                                "stock": {"to": "x", "filter": {"exact": {"type": "do.both"}}}},
              "log": {"segment_size": segment}}
    config["subscriptions"]["price"].update(more)
    return Instance(config, {"w.py": WORKER, "x.sh": COMMAND})


def take(m, id, type="do.one", **data):
    """Sent by HTTP and not waited for: 202."""
    status, _, body = m.http("POST", "/events", json.dumps(event(id, type=type, data=data)),
                             {"Content-Type": CLOUDEVENT})
    assert status == 202, (status, body)


def story(m, id):
    """By HTTP over the socket, by the id alone: {subscription: its delivery}."""
    status, answer = m.api("GET", "/api/v1/trace/" + id)
    assert status == 200, (status, answer)
    return {d["subscription"]: d for d in answer["deliveries"]}


def done(m, id, subscription="price"):
    m.wait_state(id, subscription, "done")
    return story(m, id)[subscription]


def test_asked_for_by_id():
    with instance() as m:
        answer = {"total": 42, "deep": [{"a": None}, "ä\n\"", 1.50, True]}
        take(m, "e1", "do.both", answer=answer)
        assert done(m, "e1")["result"] == answer
        assert done(m, "e1", "stock")["result"] == {"exec": [1, 2.5, {"deep": None}]}
        assert m.trace("e1")["deliveries"][0]["result"] == answer
        human = m.cli("trace", "e1").out
        assert '         result: {"total":42,"deep":[{"a":null},"ä' in human, human
        assert 'result: {"exec":[1,2.5,{"deep":null}]}' in human, human
        # What exec printed and is no JSON is a string; a value that is none is one all the same.
        take(m, "e2", "do.both", plain=True, answer=0)
        assert done(m, "e2")["result"] == 0
        assert done(m, "e2", "stock")["result"] == 'plain text, "quoted"'
        # By `send`.
        sent = m.cli("send", "-", input=json.dumps(event("e3", data={"answer": "by send"})))
        assert sent.code == 0, sent.err
        assert done(m, json.loads(sent.out)["id"])["result"] == "by send"


def test_only_where_there_is_one():
    with instance() as m:
        take(m, "none")
        assert "result" not in done(m, "none")
        take(m, "dead", dead=True)
        m.wait_state("dead", "price", "dead")
        assert "result" not in story(m, "dead")["price"]
        assert "result:" not in m.cli("trace", "dead").out
        take(m, "waits", wait=True)
        assert "result" not in story(m, "waits")["price"]
        (m.folder / "go").write_text("")
        done(m, "waits")


def test_after_a_kill():
    with instance() as m:
        take(m, "before", "do.both", answer=[1, {"of": "before"}])
        done(m, "before", "stock")
        done(m, "before")
        take(m, "after", wait=True, answer="of after")
        m.wait_state("after", "price", "in flight")
        m.stop(signal.SIGKILL)
        (m.folder / "go").write_text("")
        m.start()
        assert done(m, "before")["result"] == [1, {"of": "before"}]
        assert done(m, "before", "stock")["result"] == {"exec": [1, 2.5, {"deep": None}]}
        assert done(m, "after")["result"] == "of after"
        m.stop()
        rows = cli("log", "dump", m.folder / "data" / "log", "-o", "json").lines()
        results = [row for row in rows if row["kind"] == "result"]
        assert [row["result"] for row in results].count("of after") == 1 and len(results) == 3
        for row in results:
            place = rows.index(row)
            settle = rows[place + 1]
            assert settle["kind"] == "settle" and settle["offset"] == row["offset"], settle
            assert settle["sequence"] == row["sequence"], (settle, row)
        verified = cli("log", "verify", m.folder / "data" / "log")
        assert verified.code == 0, verified.err


def test_large_ones():
    """One that half a group cannot hold ends its delivery all the same, and holds up nobody."""
    with instance("1MiB", on_success="copy") as m:
        take(m, "fits", size=200_000)
        assert done(m, "fits")["result"] == "x" * 200_000
        line = [one for one in m.cli("trace", "fits").out.splitlines() if "result:" in one]
        assert len(line) == 1 and len(line[0]) < 500 and "whole with -o json" in line[0], line
        take(m, "large", size=1_000_000)
        assert "result" not in done(m, "large")
        take(m, "next", answer="next")
        assert done(m, "next")["result"] == "next"
        outcomes = wait_until("three outcomes", lambda: rows_of(m, 3))
        sizes = {o["data"]["event"]["id"]: len(o["data"].get("result") or "") for o in outcomes}
        assert sizes == {"fits": 200_000, "large": 0, "next": 4}, sizes


def rows_of(m, count):
    path = m.folder / "copy.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines] if len(lines) >= count else None


main()
