"""Fan-outs: one event tells how all deliveries of an event have ended."""
import json
import signal

from support import CLOUDEVENT, Instance, cli, event, http_source, main, python, wait_until

WORKER = python("""
import threading
def handle(event, ctx):
    name = os.environ['WHO']
    if os.path.exists(name + '.waits'):
        while os.path.exists(name + '.waits'):
            threading.Event().wait(0.02)
    if os.path.exists(name + '.dead'):
        raise millrace.Dead('closed')
    return {'by': name, 'of': event['id']}
""")
TYPE = "io.millrace.fanout.completed"


def config(within="1h", **more):
    workers = {name: {"process": {"command": ["python3", "-B", "w.py"], "env": {"WHO": name}}}
               for name in ("billing", "stock", "shop-1")}
    subscriptions = {name: {"to": name, "filter": {"prefix": {"type": "order."}},
                            "retry": {"schedule": ["10ms"], "jitter": "none"}}
                     for name in workers}
    subscriptions["shop-1"]["filter"] = {"exact": {"type": "order.placed"}}
    subscriptions["joined"] = {"to": "copy", "filter": {"exact": {"type": TYPE}}}
    return {"sources": {"in": http_source()}, "workers": workers,
            "sinks": {"copy": {"file": {"path": "joined.jsonl"}}},
            "subscriptions": subscriptions,
            "fanouts": {"orders": {"of": ["billing", "stock", "shop-*"], "within": within}}, **more}


def instance(**more):
    return Instance(config(**more), {"w.py": WORKER})


def send(m, id, type="order.placed", **more):
    status, _, body = m.http("POST", "/events", json.dumps(event(id, type=type, **more)),
                             {"Content-Type": CLOUDEVENT})
    assert status == 202, (status, body)


def told(m, count=1):
    """The events that tell of fan-outs, by the original's id, once so many came."""
    def enough():
        path = m.folder / "joined.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        events = [json.loads(line) for line in lines]
        return len({e["id"] for e in events}) >= count and events
    events = wait_until("%d events of fan-outs" % count, enough)
    return {e["data"]["event"]["id"]: e for e in events}


def logged(m):
    """Of the log, by the original's offset."""
    rows = cli("log", "dump", m.folder / "data" / "log", "-o", "json").lines()
    return [row for row in rows if row["kind"] == "event" and row["type"] == TYPE]


def states(one):
    return {name: result["state"] for name, result in one["data"]["results"].items()}


def status(m):
    return {row["name"]: row for row in m.ask("status")["fanouts"]}


def test_all_ended_well():
    with instance() as m:
        send(m, "e1", partitionkey="k-7")
        one = told(m)["e1"]
        assert one["source"] == "/millrace/fanout/orders" and one["subject"] == "orders", one
        assert (one["causationid"], one["mrhops"], one["partitionkey"]) == ("e1", 1, "k-7"), one
        data = one["data"]
        assert data["fanout"] == "orders" and data["complete"] is True and "reason" not in data, data
        assert data["event"] == {"id": "e1", "source": "/test", "type": "order.placed",
                                 "offset": 1}, data
        assert data["results"] == {name: {"state": "done", "attempts": 1,
                                          "result": {"by": name, "of": "e1"}}
                                   for name in ("billing", "stock", "shop-1")}, data
        # Its trace names it, and so does the trace of the original.
        assert m.trace("e1")["children"] == [one["id"]]
        assert "told as " + one["id"] in m.cli("trace", "e1").out
        # Those it did not match are not waited for; what matches none makes nothing.
        send(m, "e2", type="order.cancelled")
        send(m, "e3", type="other")
        assert set(told(m, 2)["e2"]["data"]["results"]) == {"billing", "stock"}
        assert status(m) == {"orders": {"name": "orders", "open": 0, "complete": 2,
                                        "incomplete": 0}}, status(m)
        metrics = m.metrics()
        assert metrics['millrace_fanouts_completed_total{fanout="orders",complete="true"}'] == 2
        assert metrics['millrace_fanouts_open{fanout="orders"}'] == 0
        words = m.cli("explain", "stock").out
        assert "fan-out orders" in words and "after 1h at the latest" in words, words


def test_one_dead_is_told_once_even_when_it_is_redriven():
    with instance() as m:
        (m.folder / "stock.dead").write_text("")
        send(m, "e1")
        one = told(m)["e1"]
        assert states(one) == {"billing": "done", "stock": "dead", "shop-1": "done"}, one
        assert one["data"]["complete"] is True, one
        assert one["data"]["results"]["stock"] == {"state": "dead", "attempts": 1,
                                                   "reason": "the handler said dead"}, one
        (m.folder / "stock.dead").unlink()
        assert m.cli("dlq", "redrive", "stock").code == 0
        m.wait_state("e1", "stock", "done")
        send(m, "e2")
        assert set(told(m, 2)) == {"e1", "e2"}
        m.stop()
        assert len(logged(m)) == 2


def test_one_down_until_its_time_is_over():
    with instance(within="300ms") as m:
        (m.folder / "stock.waits").write_text("")
        send(m, "e1")
        one = told(m)["e1"]
        assert one["data"]["complete"] is False and one["data"]["reason"] == "its time is over", one
        assert one["data"]["results"]["stock"]["state"] == "waiting", one
        (m.folder / "stock.waits").unlink()
        m.wait_state("e1", "stock", "done")
        assert status(m)["orders"]["incomplete"] == 1
        m.stop()
        assert len(logged(m)) == 1


def test_over_kills():
    with instance() as m:
        (m.folder / "stock.waits").write_text("")
        for n in range(5):
            send(m, "e%d" % n)
        for n in range(5):
            m.wait_state("e%d" % n, "billing", "done")
            m.wait_state("e%d" % n, "shop-1", "done")
        assert status(m)["orders"]["open"] == 5
        m.stop(signal.SIGKILL)
        m.start()
        assert status(m)["orders"]["open"] == 5
        m.stop()  # in order, with its checkpoint
        m.start()
        (m.folder / "stock.waits").unlink()
        events = told(m, 5)
        m.stop(signal.SIGKILL)
        m.start()
        for n in range(5):
            one = events["e%d" % n]
            assert set(states(one).values()) == {"done"} and one["data"]["complete"] is True, one
            assert one["data"]["results"]["billing"]["result"] == {"by": "billing", "of": "e%d" % n}
        assert status(m)["orders"]["open"] == 0
        m.stop()
        rows = logged(m)
        assert len(rows) == len({row["id"] for row in rows}) == 5, rows
        assert cli("log", "verify", m.folder / "data" / "log").code == 0


def test_a_reload_changes_what_comes_not_what_is_open():
    with instance() as m:
        (m.folder / "stock.waits").write_text("")
        send(m, "e1")
        m.wait_state("e1", "billing", "done")
        changed = config()
        changed["fanouts"] = {"sales": {"of": ["billing", "shop-1"]}}
        m.write_config(changed)
        assert m.cli("reload").code == 0
        send(m, "e2")
        two = told(m)["e2"]
        assert two["data"]["fanout"] == "sales" and set(states(two)) == {"billing", "shop-1"}, two
        assert status(m)["orders"]["open"] == 1
        (m.folder / "stock.waits").unlink()
        one = told(m, 2)["e1"]
        assert one["data"]["fanout"] == "orders", one
        assert states(one) == {"billing": "done", "stock": "done", "shop-1": "done"}, one
        assert set(status(m)) == {"sales"}
        # Without any.
        del changed["fanouts"]
        m.write_config(changed)
        assert m.cli("reload").code == 0
        send(m, "e3")
        m.wait_state("e3", "stock", "done")
        assert m.trace("e3")["children"] == []


def test_members_that_take_everything_make_no_loop():
    wide = config()
    for name in ("billing", "stock", "shop-1"):
        del wide["subscriptions"][name]["filter"]
    with Instance(wide, {"w.py": WORKER}) as m:
        send(m, "e1")
        one = told(m)["e1"]
        for name in ("billing", "stock", "shop-1"):
            m.wait_state(one["id"], name, "done")
        assert m.trace(one["id"])["children"] == []
        assert status(m)["orders"]["complete"] == 1


def test_what_is_wrong_is_named():
    for fanouts, part in (
            ({"a": {"of": ["billing", "nobody"]}}, "no subscription is called `nobody`"),
            ({"a": {"of": ["mail-*"]}}, "no subscription is called `mail-*`"),
            ({"a": {"of": ["billing", "stock"]}, "b": {"of": "st*"}},
             "`stock` belongs to the fan-out `a` already, and to `b`"),
            ({"a": {}}, "of"), ({"a": {"of": "billing", "within": "0s"}}, "within"),
            ({"a": {"of": "billing", "after": "1s"}}, "unknown")):
        m = Instance(config(fanouts=fanouts), {"w.py": WORKER}, start=False)
        with m:
            checked = cli("check", "-c", m.path)
            assert checked.code != 0 and part in checked.out + checked.err, (fanouts, checked.err)


main()
