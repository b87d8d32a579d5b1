"""The way of an event: in over HTTP, through the log, to workers of every kind, and its trace."""
import json

from support import *

OK = python("def handle(event, ctx):\n    return {'seen': event['id']}")


def test_http_to_process_worker_is_done_and_traced():
    with Instance({"sources": {"shop": http_source()},
                   "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
                   "subscriptions": {"all": {"to": "w"}}}, {"w.py": OK}) as m:
        answer = m.post(event("e1", subject="s", data={"n": 1}))
        assert answer["id"] == "e1" and answer["offset"] >= 1, answer
        delivery = m.wait_state("e1", "all", "done")
        trace = m.trace("e1")
        assert trace["source"] == "shop" and trace["offset"] == answer["offset"], trace
        assert trace["event"]["data"] == {"n": 1} and trace["matched"] == ["all"], trace
        assert delivery["delivery"] == "all:%d" % answer["offset"], delivery
        assert [a["verdict"] for a in delivery["attempts"]] == ["ok"], delivery
        attempt = delivery["attempts"][0]
        assert attempt["n"] == 1 and attempt["instance"].startswith("w"), attempt
        assert attempt["started"] <= attempt["ended"], attempt
        assert attempt["exit"] is None and attempt["signal"] is None, attempt
        assert delivery["blocked_on"] is None, delivery


def test_retry_then_success_counts_the_attempts():
    worker = python("def handle(event, ctx):\n    if ctx.attempt < 3:\n"
                    "        raise millrace.Retry('not yet %d' % ctx.attempt)")
    with Instance({"sources": {"in": http_source()},
                   "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
                   "subscriptions": {"s": {"to": "w", "retry": {"schedule": ["50ms", "50ms", "50ms"],
                                                                "jitter": "none"}}}},
                  {"w.py": worker}) as m:
        m.post(event("r1"))
        delivery = m.wait_state("r1", "s", "done")
        assert [a["verdict"] for a in delivery["attempts"]] == ["retry", "retry", "ok"], delivery
        assert [a["n"] for a in delivery["attempts"]] == [1, 2, 3], delivery
        assert "not yet 1" in delivery["attempts"][0]["error"], delivery


def test_trace_of_a_delivery_in_flight_lists_the_attempt():
    worker = python("def handle(event, ctx):\n    while not os.path.exists('go'):\n"
                    "        select.select([], [], [], 0.01)")
    with Instance({"sources": {"in": http_source()},
                   "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
                   "subscriptions": {"s": {"to": "w"}}}, {"w.py": worker}) as m:
        m.post(event("f1"))
        m.post(event("f2"))
        delivery = m.wait_state("f1", "s", "in flight")
        assert len(delivery["attempts"]) == 1 and delivery["attempts"][0]["ended"] is None, delivery
        assert delivery["attempts"][0]["verdict"] is None, delivery
        why = m.ask("why", "f2", "s")
        assert why["matched"] and why["state"] in ("waiting", "in flight"), why
        (m.folder / "go").touch()
        m.wait_state("f1", "s", "done")
        m.wait_state("f2", "s", "done")


def test_exec_worker_exit_codes_are_verdicts():
    script = "#!/bin/sh\ncase $CE_TYPE in *ok) exit 0;; *dead) echo broken >&2; exit 65;; esac\nexit 75\n"
    with Instance({"sources": {"in": http_source()},
                   "workers": {"w": {"exec": {"command": ["./w.sh"]}}},
                   "subscriptions": {"s": {"to": "w", "retry": {"schedule": ["20ms"], "jitter": "none"}}}},
                  {"w.sh": script}) as m:
        for id, type in (("x1", "t.ok"), ("x2", "t.dead"), ("x3", "t.again")):
            m.post(event(id, type))
        m.wait_state("x1", "s", "done")
        dead = m.wait_state("x2", "s", "dead")
        assert dead["attempts"][0]["exit"] == 65, dead
        assert "broken" in (dead["attempts"][0]["stderr"] or ""), dead
        tired = m.wait_state("x3", "s", "dead")
        assert [a["exit"] for a in tired["attempts"]] == [75, 75], tired


def test_exec_worker_gets_the_event_and_its_attributes():
    script = "#!/bin/sh\ncat > event.json\nenv | grep ^CE_ | sort > env.txt\n"
    with Instance({"sources": {"in": http_source()},
                   "workers": {"w": {"exec": {"command": ["./w.sh"]}}},
                   "subscriptions": {"s": {"to": "w"}}}, {"w.sh": script}) as m:
        m.post(event("x1", subject="käse", data=[1, 2.50, "ü"]))
        m.wait_state("x1", "s", "done")
        got = json.loads((m.folder / "event.json").read_text())
        assert got["data"] == [1, 2.5, "ü"] and got["subject"] == "käse", got
        env = (m.folder / "env.txt").read_text()
        assert "CE_ID=x1\n" in env and "CE_SUBJECT=käse\n" in env, env


def test_http_worker_gets_a_cloudevent_and_its_reply_is_emitted():
    def reply(request):
        if request["headers"].get("ce-type") == "reply":
            return 200, {}, b""
        made = event("answer-1", "reply", data={"ok": True})
        return 200, {"Content-Type": CLOUDEVENT}, json.dumps(made).encode()
    with Service(reply) as service, Instance(
            {"sources": {"in": http_source()},
             "workers": {"w": {"http": {"url": "http://127.0.0.1:%d/hook" % service.port}}},
             "subscriptions": {"ask": {"filter": {"exact": {"type": "ask"}}, "to": "w"},
                               "answers": {"filter": {"exact": {"type": "reply"}}, "to": "w"}}}) as m:
        m.post(event("q1", "ask", data="x"))
        delivery = m.wait_state("q1", "ask", "done")
        assert delivery["children"] == ["answer-1"], delivery
        m.wait_state("answer-1", "answers", "done")
        first = service.requests[0]
        headers = {name.lower(): value for name, value in first["headers"].items()}
        assert headers["ce-id"] == "q1" and headers["idempotency-key"] == delivery["delivery"], headers
        assert m.trace("answer-1")["source"] != "in", m.trace("answer-1")


def test_http_worker_503_is_a_refusal_and_costs_no_attempt():
    answers = [503, 429, 200]

    def reply(request):
        return answers.pop(0) if answers else 200, {"Retry-After": "0"}, b""
    with Service(reply) as service, Instance(
            {"sources": {"in": http_source()},
             "workers": {"w": {"http": {"url": "http://127.0.0.1:%d/" % service.port}}},
             "subscriptions": {"s": {"to": "w", "retry": {"schedule": ["50ms"], "jitter": "none"}}}}) as m:
        m.post(event("h1"))
        delivery = m.wait_state("h1", "s", "done")
        assert len(delivery["attempts"]) == 1 and delivery["refusals"] == 2, delivery
        assert [a["verdict"] for a in delivery["uncounted"]] == ["refused", "refused"], delivery


def test_worker_that_crashes_is_captured():
    worker = python("def handle(event, ctx):\n    sys.stderr.write('about to fall\\n')\n"
                    "    sys.stderr.flush()\n    os.kill(os.getpid(), signal.SIGSEGV)")
    with Instance({"sources": {"in": http_source()},
                   "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
                   "subscriptions": {"s": {"to": "w", "retry": {"schedule": ["20ms"], "jitter": "none"}}}},
                  {"w.py": worker}) as m:
        m.post(event("c1"))
        delivery = m.wait_state("c1", "s", "dead")
        attempts = delivery["attempts"]
        assert [a["verdict"] for a in attempts] == ["crash", "crash"], delivery
        assert attempts[0]["signal"] == 11 and attempts[0]["exit"] is None, attempts
        assert "about to fall" in attempts[0]["stderr"], attempts


def test_timer_fires_and_file_source_is_read():
    with Instance({"sources": {"tick": {"timer": {"every": "1s", "type": "tick"}},
                               "lines": {"file": {"path": "in.jsonl"}}},
                   "workers": {"w": {"exec": {"command": ["true"]}}},
                   "subscriptions": {"ticks": {"source": "tick", "to": "w"},
                                     "lines": {"source": "lines", "to": "w"}}},
                  {"in.jsonl": "".join(json.dumps(event("l%d" % i)) + "\n" for i in range(5))}) as m:
        wait_until("a tick", lambda: m.counts("ticks")["done"] >= 1)
        wait_until("five lines", lambda: m.counts("lines")["done"] == 5)
        with open(m.folder / "in.jsonl", "a") as out:
            out.write(json.dumps(event("l5")) + "\n")
        wait_until("the sixth line", lambda: m.counts("lines")["done"] == 6)


def test_outcomes_go_to_file_and_bus():
    worker = python("def handle(event, ctx):\n    if event['type'] == 'bad':\n"
                    "        raise millrace.Dead('no good')\n    return {'x': 1}")
    with Instance({"sources": {"in": http_source()},
                   "workers": {"w": {"process": {"command": ["python3", "w.py"]}},
                               "t": {"exec": {"command": ["true"]}}},
                   "sinks": {"f": {"file": {"path": "out.jsonl"}}},
                   "subscriptions": {
                       "s": {"source": "in", "filter": {"not": {"prefix": {"type": "io.millrace."}}},
                             "to": "w", "on_success": "f", "on_failure": ["f", "bus"]},
                       "failures": {"filter": {"exact": {"type": "io.millrace.delivery.dead"}},
                                    "to": "t"}}}, {"w.py": worker}) as m:
        m.post(event("g1", "good"))
        m.post(event("b1", "bad"))
        m.wait_state("g1", "s", "done")
        dead = m.wait_state("b1", "s", "dead")
        out = m.folder / "out.jsonl"
        wait_until("two outcomes", lambda: len(json_lines(out)) == 2)
        outcomes = {o["subject"]: o for o in json_lines(out)}
        assert outcomes["g1"]["type"] == "io.millrace.delivery.done", outcomes
        assert outcomes["g1"]["data"]["result"] == {"x": 1}, outcomes
        assert outcomes["b1"]["data"]["event"]["id"] == "b1", outcomes
        assert "no good" in outcomes["b1"]["data"]["error"], outcomes
        wait_until("the failure was routed", lambda: m.counts("failures")["done"] == 1)
        assert len(dead["children"]) >= 1, dead


def test_order_is_kept_within_a_lane():
    worker = python("def handle(event, ctx):\n    open('order.txt','a').write(event['id']+'\\n')\n"
                    "    if event['id'] == 'a0' and ctx.attempt == 1:\n        raise millrace.Retry('x')")
    with Instance({"sources": {"in": http_source()},
                   "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
                   "subscriptions": {"s": {"to": "w", "order_by": "subject",
                                           "retry": {"schedule": ["300ms"], "jitter": "none"}}}},
                  {"w.py": worker}) as m:
        m.post([event("a%d" % i, subject="a") for i in range(4)] + [event("b0", subject="b")])
        wait_until("all done", lambda: m.counts("s")["done"] == 5)
        order = (m.folder / "order.txt").read_text().split()
        assert [x for x in order if x[0] == "a"] == ["a0", "a0", "a1", "a2", "a3"], order
        assert order.index("b0") < order.index("a1"), order


if __name__ == "__main__":
    main()
