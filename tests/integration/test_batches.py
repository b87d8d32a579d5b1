"""Batches to handlers: what goes together and when, results one by one, and what a batch that fails
as a whole costs whom. Workers in Python and over HTTP."""
import signal

from support import *

# Writes each batch it gets as a line; acts on what the data of an event says.
WORKER = """import json, os, select, signal
import millrace

def handle(batch):
    with open('batches', 'a') as f:
        f.write(' '.join(ctx.event['id'] for ctx in batch) + '\\n')
    for ctx in batch:
        data = ctx.event['data']
        if data.get('wait'):
            while not os.path.exists('go'):
                select.select([], [], [], 0.01)
        if data.get('poison') == 'raise':
            raise ValueError('poison')
        if data.get('poison') == 'crash':
            os.kill(os.getpid(), signal.SIGKILL)
        if data.get('poison') == 'hang':
            while not ctx.cancelled:
                pass
            raise ValueError('given up')
        if data.get('retry'):
            ctx.retry('busy')
        if data.get('dead'):
            ctx.dead('never')
        if data.get('emit'):
            ctx.emit({'id': 'child-of-' + ctx.event['id'], 'source': '/w', 'type': 'child'})

millrace.run_batch(handle)
"""
NEVER = {"schedule": ["1h"]}


def worker(batch, timeout="30s", scale=1, text=WORKER, **policy):
    config = {"sources": {"in": http_source()},
              "workers": {"w": {"process": {"command": ["python3", "w.py"]}, "timeout": timeout,
                                "scale": {"min": scale, "max": scale}, "grace": "100ms",
                                "breaker": {"percent": 0}}},
              "subscriptions": {"s": {"to": "w", "filter": {"not": {"exact": {"type": "child"}}},
                                      "retry": NEVER, "batch": batch, **policy}}}
    return Instance(config, {"w.py": text})


def batches(m):
    path = m.folder / "batches"
    text = path.read_text() if path.exists() else ""
    return [line.split() for line in text.splitlines()]


def post(m, *ids, data=None, **more):
    m.post([event(id, data=data or {"n": 1}, **more) for id in ids])


def numbered(count, prefix="e"):
    return ["%s%d" % (prefix, i) for i in range(count)]


def settled(m, ids, state="done"):
    return {id: m.wait_state(id, "s", state) for id in ids}


def test_max_and_window():
    # Full ones go at once: the window would be an hour. What is left waits for more, and says so.
    with worker({"max": 4, "window": "1h"}) as m:
        ids = numbered(10)
        post(m, *ids)
        settled(m, ids[:8])
        assert batches(m) == [ids[:4], ids[4:8]], batches(m)
        wait_until("e9 to wait", lambda: m.delivery("e9", "s")["blocked_on"] == "batch")
        assert "batch" in m.ask("why", "e9", "s")["why"]
        explained = m.cli("explain", "s").out
        assert "batches of up to 4 deliveries" in explained and "in halves" in explained, explained
        post(m, "f0", "f1")
        settled(m, ["e8", "e9", "f0", "f1"])
        assert batches(m)[2:] == [["e8", "e9", "f0", "f1"]], batches(m)
        # A reload shortens the window.
        post(m, "g0")
        wait_until("g0 to wait", lambda: m.delivery("g0", "s")["blocked_on"] == "batch")
        config = json.loads(m.path.read_text())
        config["subscriptions"]["s"]["batch"]["window"] = "10ms"
        m.write_config(config)
        result = m.cli("reload")
        assert result.code == 0, result.err
        settled(m, ["g0"])
        assert batches(m)[3:] == [["g0"]], batches(m)


def test_bytes_and_by():
    with worker({"max": 100, "bytes": "1KiB", "window": "300ms"}) as m:
        post(m, "big", data={"x": "x" * 3000})
        post(m, "a", "b", "c", data={"x": "x" * 600})
        settled(m, ["big", "a", "b", "c"])
        assert sorted(batches(m)) == [["a"], ["b"], ["big"], ["c"]], batches(m)
    with worker({"max": 2, "window": "1h", "by": "data.shop"}) as m:
        for id, shop in (("a1", "a"), ("b1", "b"), ("b2", "b"), ("a2", "a"), ("n1", None)):
            post(m, id, data={"shop": shop} if shop else {"n": 1})
        settled(m, ["a1", "a2", "b1", "b2"])
        assert sorted(batches(m)) == [["a1", "a2"], ["b1", "b2"]], batches(m)


def test_one_of_a_lane():
    with worker({"max": 10, "window": "200ms"}, order_by="subject") as m:
        m.post([event("%s%d" % (lane, n), subject=lane, data={"n": n})
                for n in range(3) for lane in "ab"])
        settled(m, [lane + str(n) for n in range(3) for lane in "ab"])
        for batch in batches(m):
            assert len({id[0] for id in batch}) == len(batch), batches(m)
        for lane in "ab":
            order = [id for batch in batches(m) for id in batch if id[0] == lane]
            assert order == [lane + str(n) for n in range(3)], order


def test_partial_results():
    with worker({"max": 4, "window": "1h"}) as m:
        m.post([event("good", data={"n": 1}), event("busy", data={"retry": True}),
                event("bad", data={"dead": True}), event("more", data={"emit": True})])
        assert settled(m, ["good"])["good"]["attempts"][-1]["verdict"] == "ok"
        assert settled(m, ["bad"], "dead")["bad"]["reason"], m.delivery("bad", "s")
        settled(m, ["more"])
        busy = m.delivery("busy", "s")
        assert (busy["state"], busy["blocked_on"]) == ("waiting", "back-off"), busy
        assert [a["error"] for a in busy["attempts"] if a["verdict"] == "retry"] == ["busy"], busy
        assert m.trace("child-of-more")["event"]["type"] == "child"
        assert len(batches(m)) == 1, batches(m)


def costs(m, ids, attempts=1):
    """Each of them has been at a handler that many times as far as its schedule is concerned."""
    for id in ids:
        delivery = m.delivery(id, "s")
        assert len(delivery["attempts"]) == attempts, delivery


def isolated(kind, size=8, **more):
    """One poison event among others: found in halves, at the cost of one attempt, its own."""
    with worker({"max": size, "window": "500ms"}, **more) as m:
        ids = numbered(size)
        m.post([event(id, data={"poison": kind} if id == "e5" else {"n": 1}) for id in ids])
        settled(m, [id for id in ids if id != "e5"])
        wait_until("the poison's own attempt",
                   lambda: m.delivery("e5", "s")["blocked_on"] == "back-off")
        sizes = [len(batch) for batch in batches(m) if "e5" in batch]
        assert sizes == [8, 4, 2, 1], batches(m)
        assert max(len(batch) for batch in batches(m)[1:]) == 4, batches(m)
        costs(m, ids)
        assert len(m.delivery("e5", "s")["uncounted"]) == 3, m.delivery("e5", "s")


def test_a_poison_event_that_raises_is_found_in_halves():
    isolated("raise")


def test_a_poison_event_that_crashes_is_found_in_halves():
    isolated("crash")


def test_a_poison_event_that_hangs_is_found_in_halves():
    isolated("hang", timeout="1s")


# Speaks the protocol by itself: how it answers a batch stands in the data of its first event.
RAW = """import json, os, socket
sock = socket.socket(fileno=3)
lines = sock.makefile('r', encoding='utf-8')
def say(frame):
    sock.sendall(json.dumps(frame).encode() + b'\\n')
say({'millrace': 1, 'max': 1, 'features': ['batch']})
while True:
    line = lines.readline()
    frame = json.loads(line) if line else {'stop': True}
    if frame.get('stop'):
        break
    if 'count' not in frame:
        continue
    number = frame['batch']
    batch = [json.loads(lines.readline()) for _ in range(frame['count'])]
    with open('batches', 'a') as f:
        f.write(' '.join(d['event']['id'] for d in batch) + '\\n')
    do = batch[0]['event']['data'].get('do')
    say({'batch': number + 1000, 'verdict': 'retry'})
    if do in ('part', 'die', 'late'):
        say({'delivery': batch[1]['delivery'], 'verdict': 'ok'})
    if do == 'die':
        os._exit(3)
    if do == 'part':
        say({'batch': number})
    elif do == 'late':
        say({'batch': number, 'verdict': 'retry', 'error': 'all', 'after': '1h'})
    elif do == 'dead':
        say({'batch': number, 'verdict': 'dead'})
    elif do == 'data':
        say({'batch': number, 'verdict': 'ok', 'data': 1})
    else:
        say({'batch': number, 'verdict': 'ok'})
    say({'batch': number, 'verdict': 'retry'})
"""


def raw(do, then):
    with worker({"max": 3, "window": "1h"}, text=RAW) as m:
        m.post([event("e%d" % i, data={"do": do} if i == 0 else {"n": i}) for i in range(3)])
        then(m)


def test_what_is_said_of_a_batch():
    def missing(m):
        settled(m, ["e1"])
        for id in ("e0", "e2"):
            wait_until(id, lambda: m.delivery(id, "s")["blocked_on"] == "back-off")
            attempt, = m.delivery(id, "s")["attempts"]
            assert "without a word" in attempt["error"], attempt
    raw("part", missing)

    def dies(m):  # with two: each is alone from then on, and the first dies of it again
        settled(m, ["e1", "e2"])
        wait_until("e0", lambda: m.delivery("e0", "s")["blocked_on"] == "back-off")
        assert batches(m) == [["e0", "e1", "e2"], ["e0"], ["e2"]], batches(m)
    with worker({"max": 3, "window": "1h"},
                text=RAW.replace("if do in", "if do == 'die' and len(batch) == 1:\n"
                                 "        os._exit(3)\n    if do in")) as m:
        m.post([event("e%d" % i, data={"do": "die"} if i == 0 else {"n": i}) for i in range(3)])
        dies(m)

    def later(m):
        settled(m, ["e1"])
        for id in ("e0", "e2"):
            wait_until(id, lambda: m.delivery(id, "s")["blocked_on"] == "back-off")
            assert m.delivery(id, "s")["attempts"] == [], m.delivery(id, "s")
            assert m.delivery(id, "s")["uncounted"][0]["error"] == "all", m.delivery(id, "s")
    raw("late", later)


def test_what_cannot_be_said_of_a_batch():
    for do, error in (("dead", "is `ok` or `retry`"), ("data", "belong to the answer of one")):
        def refused(m):
            settled(m, ["e1", "e2"])
            wait_until("e0", lambda: m.delivery("e0", "s")["blocked_on"] == "back-off")
            delivery = m.delivery("e0", "s")
            assert error in delivery["attempts"][0]["error"], delivery
            assert len(delivery["uncounted"]) == 2, delivery
        raw(do, refused)


def test_a_killed_broker_finds_interrupted_deliveries():
    with worker({"max": 3, "window": "1h"}) as m:
        post(m, "e0", "e1", data={"wait": True})
        post(m, "e2")
        wait_until("the batch to run", lambda: batches(m))
        m.process.send_signal(signal.SIGKILL)
        m.process.wait()
        (m.folder / "go").touch()
        m.start()
        settled(m, ["e0", "e1", "e2"])
        assert [sorted(batch) for batch in batches(m)] == [["e0", "e1", "e2"]] * 2, batches(m)
        costs(m, ["e0", "e1", "e2"])


def test_a_worker_without_batches_is_told():
    single = "import millrace\nmillrace.run(lambda event, ctx: None)\n"
    with worker({"max": 2, "window": "0"}, text=single) as m:
        post(m, "e0", "e1")
        wait_until("the worker's error", lambda: any(
            "takes no batches" in (w["last_error"] or "") for w in m.ask_lines("worker", "list")))
        assert m.delivery("e0", "s")["state"] == "waiting"
        assert m.counts("s")["done"] == 0


def http_worker(service, batch, section="workers", **policy):
    return Instance({"sources": {"in": http_source()},
                     section: {"w": {"http": {"url": "http://127.0.0.1:%d/" % service.port},
                                     "breaker": {"percent": 0}}},
                     "subscriptions": {"s": {"to": "w", "retry": NEVER, "batch": batch, **policy}}})


def ids_of(request):
    return [e["id"] for e in json.loads(request["body"])]


def test_http_batch_and_results():
    def reply(request):
        said = {"bad": {"status": "DROP"}, "busy": {"status": "RETRY", "error": "busy"}}
        results = [said.get(id, {"status": "SUCCESS"}) for id in ids_of(request)]
        return 200, {"Content-Type": "application/json"}, \
            json.dumps({"results": results[:3]}).encode()
    with Service(reply) as service, http_worker(service, {"max": 4, "window": "1h"}) as m:
        post(m, "good", "bad", "busy", "forgotten")
        settled(m, ["good"])
        settled(m, ["bad"], "dropped")
        for id, error in (("busy", "busy"), ("forgotten", "has no result")):
            wait_until(id, lambda: m.delivery(id, "s")["blocked_on"] == "back-off")
            assert error in str(m.delivery(id, "s")["attempts"]), m.delivery(id, "s")
        request, = service.requests
        assert request["headers"]["Content-Type"] == BATCH, request
        assert request["headers"]["Millrace-Batch"] == "4", request
        assert ids_of(request) == ["good", "bad", "busy", "forgotten"], request


def test_http_whole_failure_is_halved():
    def reply(request):
        return (400, {}, b"one of them is broken") if "e5" in ids_of(request) else (200, {}, b"")
    for section in ("workers", "sinks"):
        with Service(reply) as service, \
                http_worker(service, {"max": 8, "window": "1h"}, section) as m:
            ids = numbered(8)
            post(m, *ids)
            settled(m, [id for id in ids if id != "e5"])
            assert "broken" in str(settled(m, ["e5"], "dead"))
            sizes = [len(ids_of(r)) for r in service.requests if "e5" in ids_of(r)]
            assert sizes == [8, 4, 2, 1], sizes
            costs(m, ids)


def test_http_refusal_costs_nothing():
    refused = []

    def reply(request):
        if len(refused) < 2:
            refused.append(ids_of(request))
            return 503, {"Retry-After": "0"}, b""
        return 200, {}, b""
    with Service(reply) as service, http_worker(service, {"max": 3, "window": "100ms"}) as m:
        post(m, "a", "b", "c")
        settled(m, "abc")
        costs(m, "abc")
        assert refused[0] == ["a", "b", "c"], refused


def test_targets_that_take_no_batches_are_refused():
    for kind in ({"exec": {"command": ["true"]}}, {"process": {"command": ["true"]}}):
        with Instance({"sources": {"in": http_source()}, "workers": {"w": kind},
                       "subscriptions": {"s": {"to": "w", "batch": {"max": 5}}}}, start=False) as m:
            result = m.cli("check")
            if "exec" in kind:
                assert result.code != 0 and "takes deliveries one by one" in result.err, result.err
            else:
                assert result.code == 0, result.err


main()
