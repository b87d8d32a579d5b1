"""The worker's result as the answer: `?wait=` of HTTP sources, and `millrace invoke`."""
import http.client
import json
import threading

from support import CLOUDEVENT, Instance, event, http_source, main, python, wait_until

WORKER = python("""
import threading
def handle(event, ctx):
    kind = event['type'].rsplit('.', 1)[1]
    if kind == 'slow':
        while not os.path.exists('go'):
            threading.Event().wait(0.02)
    if kind == 'dead':
        raise millrace.Dead('no such shop')
    if kind == 'drop':
        raise millrace.Drop('not ours')
    if kind == 'late' and ctx.attempt < 3:
        raise millrace.Retry('not yet')
    if kind == 'never':
        raise millrace.Retry('never')
    if kind == 'crash':
        os._exit(3)
    return None if kind == 'none' else {'id': event['id'], 'attempt': ctx.attempt}
""")


def config(**more):
    return {"sources": {"shop": http_source()},
            "workers": {"w": {"process": {"command": ["python3", "-B", "w.py"]},
                              "concurrency": 400, "scale": {"max": 1}, "timeout": "60s"}},
            "sinks": {"copy": {"file": {"path": "copy.jsonl"}}},
            "subscriptions": {
                "s": {"to": "w", "filter": {"prefix": {"type": "do."}},
                      "retry": {"schedule": ["10ms", "10ms"], "jitter": "none"}},
                "copies": {"to": "copy"}}, **more}


def instance(**more):
    # The worker handles what comes at once, so that those who wait for "go" hold up nobody.
    return Instance(config(**more), {"w.py": WORKER.replace("run(handle)",
                                                            "run(handle, concurrency=400)")})


def ask(m, id, type, query="?wait=30"):
    """(status, headers, JSON of the body or None)"""
    status, headers, body = m.http("POST", "/events" + query, json.dumps(event(id, type=type)),
                                   {"Content-Type": CLOUDEVENT})
    return status, headers, json.loads(body) if body else None


def test_the_answer_is_the_workers():
    with instance() as m:
        status, headers, body = ask(m, "e1", "do.work")
        assert (status, body) == (200, {"id": "e1", "attempt": 1}), (status, body)
        assert headers["Content-Type"] == "application/json", headers.items()
        assert headers["Millrace-Delivery"] == "s:1", headers.items()
        assert headers["Millrace-State"] == "done", headers.items()
        assert m.delivery("e1", "s")["state"] == "done"
        assert ask(m, "e2", "do.none")[::2] == (204, None)
        status, headers, body = ask(m, "e3", "do.drop")
        assert (status, headers["Millrace-State"]) == (204, "dropped"), (status, headers.items())
        status, _, body = ask(m, "e4", "do.late")
        assert (status, body) == (200, {"id": "e4", "attempt": 3}), (status, body)


def test_what_fails_is_told_and_kept():
    with instance() as m:
        for id, kind, part in (("d", "dead", "no such shop"), ("n", "never", "never"),
                               ("c", "crash", "exit")):
            status, headers, body = ask(m, id, "do." + kind)
            assert status == 502, (kind, status, body)
            assert (body["id"], body["subscription"], body["state"]) == (id, "s", "dead"), body
            assert part in body["error"], body
            assert headers["Millrace-State"] == "dead", headers.items()
            assert m.delivery(id, "s")["state"] == "dead"


def test_when_the_time_is_up_the_event_is_taken_and_goes_on():
    with instance() as m:
        status, headers, body = ask(m, "e", "do.slow", "?wait=1")
        assert status == 202 and body["id"] == "e" and body["durable"] == "disk", (status, body)
        assert headers["Millrace-Wait"] == "not settled yet", headers.items()
        assert m.delivery("e", "s")["state"] == "in flight"
        (m.folder / "go").touch()
        m.wait_state("e", "s", "done")


def test_which_delivery_is_waited_for():
    both = config()
    both["workers"]["w2"] = both["workers"]["w"]
    both["subscriptions"]["s2"] = {**both["subscriptions"]["s"], "to": "w2"}
    with instance(**{k: both[k] for k in ("workers", "subscriptions")}) as m:
        status, headers, _ = ask(m, "e1", "do.work")
        assert (status, headers["Millrace-Wait"]) == (202, "2 workers: name a subscription")
        status, headers, body = ask(m, "e2", "do.work", "?wait=30&subscription=s2")
        assert (status, headers["Millrace-Delivery"]) == (200, "s2:2"), (status, body)
        status, headers, _ = ask(m, "e3", "do.work", "?wait=30&subscription=copies")
        assert (status, headers["Millrace-Delivery"]) == (204, "copies:3"), headers.items()
        for id, query in (("e4", "?wait=30"), ("e5", "?wait=30&subscription=nobody")):
            status, headers, _ = ask(m, id, "other", query)
            assert (status, headers["Millrace-Wait"]) == (202, "no delivery to wait for")


def test_bad_questions_take_nothing_in():
    with instance() as m:
        for query in ("?wait=", "?wait=x", "?wait=-1", "?wait=301", "?wait=1e3"):
            status, _, body = ask(m, "e", "do.work", query)
            assert status == 400 and "seconds" in body["error"], (query, status, body)
        status, _, body = m.http("POST", "/events?wait=1", json.dumps([event("a"), event("b")]),
                                 {"Content-Type": "application/cloudevents-batch+json"})
        assert status == 400 and "one event" in body, (status, body)
        assert m.counts("copies")["matched"] == 0


def test_the_number_that_wait_is_bounded_and_holds_up_nobody():
    with instance() as m:
        waiting, refused = [], None
        for n in range(300):  # on connections of their own, none of which is answered
            connection = http.client.HTTPConnection("127.0.0.1", m.port, timeout=60)
            connection.request("POST", "/events?wait=300", json.dumps(event("s%d" % n,
                                                                            type="do.slow")),
                               {"Content-Type": CLOUDEVENT})
            waiting.append(connection)
        wait_until("256 in flight", lambda: m.counts("s")["in_flight"] >= 256)
        status, headers, body = ask(m, "more", "do.work")
        assert status == 503 and "too many" in body["error"], (status, body)
        assert headers["Retry-After"] == "1", headers.items()
        m.post(event("plain", type="do.work"))  # who does not wait is served all the same
        m.wait_state("plain", "s", "done")
        (m.folder / "go").touch()
        answers = [connection.getresponse() for connection in waiting]
        bodies = [json.loads(answer.read()) for answer in answers]
        assert [a.status for a in answers].count(200) == 256, [a.status for a in answers]
        assert [a.status for a in answers].count(503) == 44, [a.status for a in answers]
        assert all(b["id"] == "s%d" % n for n, b in enumerate(bodies) if "id" in b), bodies
        for connection in waiting:
            connection.close()
        assert ask(m, "again", "do.work")[0] == 200


def test_who_waits_is_answered_when_millrace_stops_or_reloads():
    with instance(drain="1s") as m:
        for ending in ("reload", "stop"):
            answers = []
            thread = threading.Thread(target=lambda: answers.append(ask(m, ending, "do.slow")))
            thread.start()
            wait_until("in flight", lambda: m.cli("trace", ending).code == 0 and
                       (m.delivery(ending, "s") or {}).get("state") == "in flight")
            if ending == "reload":
                changed = json.loads(m.path.read_text())
                changed["sources"]["shop"]["http"]["pending_max"] = "32MiB"
                m.write_config(changed)
                assert m.ask("reload")["applied"]
            else:
                assert m.stop() == 0
            thread.join(30)
            assert answers and answers[0][0] == 202, answers


def test_invoke_prints_what_the_worker_made_of_it():
    with instance() as m:
        for name in ("s", "w"):
            done = m.cli("invoke", name, "--type", "do.work", "--data", '{"shop": 7}')
            assert done.code == 0 and json.loads(done.out)["attempt"] == 1, (done.out, done.err)
        sent = json.dumps(event("mine", type="not.matched.by.s"))
        done = m.cli("invoke", "s", input=sent)  # addressed: the filter is not asked
        assert (done.code, json.loads(done.out)["id"]) == (0, "mine"), (done.out, done.err)
        assert [d["subscription"] for d in m.trace("mine")["deliveries"]] == ["s"], m.trace("mine")
        whole = m.ask("invoke", "s", "--type", "do.late", "--data", "1")
        assert (whole["state"], whole["attempt"], whole["error"]) == ("done", 3, None), whole
        assert m.delivery(whole["id"], "s")["state"] == "done"
        dead = m.cli("invoke", "s", "--type", "do.dead", "--data", "1")
        assert dead.code == 1 and "is dead: no such shop" in dead.err and not dead.out, dead.err
        late = m.cli("invoke", "s", "--type", "do.slow", "--data", "1", "--wait", "0")
        assert late.code == 1 and "is waiting" in late.err, late.err
        (m.folder / "go").touch()


def test_invoke_refuses_what_it_cannot_do():
    both = config()
    both["subscriptions"]["s2"] = {"to": "w"}
    with instance(subscriptions=both["subscriptions"]) as m:
        for arguments, code, part in (
                (("nobody", "--data", "1"), 3, "no subscription or worker nobody"),
                (("w", "--data", "1"), 1, "2 subscriptions deliver to w"),
                (("s", "--data", "{"), 65, "not JSON"),
                (("s", "--data", "1", "--wait", "301"), None, "300 at most"),
                (("s", "no-such-file"), 3, "cannot read no-such-file")):
            done = m.cli("invoke", *arguments)
            assert done.code == code or (code is None and done.code != 0), (done.code, done.err)
            assert part in done.err, done.err
        bad = m.cli("invoke", "s", input="{}")
        assert bad.code != 0 and bad.err, (bad.code, bad.out)


def test_cancel_ends_what_is_waited_for():
    with instance() as m:
        answers = []
        thread = threading.Thread(target=lambda: answers.append(ask(m, "e", "do.slow")))
        thread.start()
        wait_until("in flight", lambda: m.cli("trace", "e").code == 0 and
                   (m.delivery("e", "s") or {}).get("state") == "in flight")
        assert m.cli("cancel", "s", "e").code == 0
        thread.join(30)
        status, _, body = answers[0]
        assert status == 502 and body["state"] is None, answers
        assert "trace" in body["error"], answers
        assert m.delivery("e", "s")["state"] == "dropped"
        (m.folder / "go").touch()


if __name__ == "__main__":
    main()
