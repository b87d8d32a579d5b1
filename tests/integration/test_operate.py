"""What an operator does: dead letters, pausing, reloading, watching, scraping, asking why."""
import datetime
import json
import signal
import subprocess
import threading

from support import *

PICKY = python("def handle(event, ctx):\n    if not os.path.exists('mended') and 'bad' in event['id']:\n"
               "        raise millrace.Dead('cannot handle ' + event['id'])")


def shop(worker=PICKY, **subscription):
    return Instance({"sources": {"in": http_source()},
                     "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
                     "subscriptions": {"s": {"to": "w", **subscription}}}, {"w.py": worker})


def test_dlq_list_and_show():
    with shop() as m:
        m.post([event("bad1", data={"n": 1}), event("good1"), event("bad2", "other")])
        wait_until("two dead", lambda: m.counts("s")["dead_letters"] == 2)
        letters = m.ask_lines("dlq", "list", "s")
        assert [l["id"] for l in letters] == ["bad1", "bad2"], letters
        first = letters[0]
        assert first["subscription"] == "s" and first["attempts"] == 1, first
        assert "cannot handle bad1" in first["error"] and first["reason"], first
        assert first["event"]["data"] == {"n": 1} and first["died"].endswith("Z"), first
        shown = m.ask("dlq", "show", "s", "bad1")
        assert len(shown["attempts"]) == 1 and shown["attempts"][0]["verdict"] == "dead", shown
        assert m.cli("dlq", "show", "s", "nobody").code == 3
        assert m.cli("dlq", "list", "nobody").code == 3
        human = m.cli("dlq", "list", "s")
        assert human.code == 0 and "bad1" in human.out and "cannot handle" in human.out, human.out


def test_dlq_list_filters():
    with shop() as m:
        m.post([event("bad1", "a"), event("bad2", "b"), event("bad3", "a")])
        wait_until("three dead", lambda: m.counts("s")["dead_letters"] == 3)

        def ids(*options):
            return [l["id"] for l in m.ask_lines("dlq", "list", "s", *options)]
        assert ids("--error", "HANDLE bad2") == ["bad2"]
        assert ids("--error", "nothing like it") == []
        assert ids("--filter", '{"exact":{"type":"a"}}') == ["bad1", "bad3"]
        assert ids("--attempts", "1") == ["bad1", "bad2", "bad3"] and ids("--attempts", "2") == []
        assert ids("--since", "1h") == ["bad1", "bad2", "bad3"] and ids("--until", "1h") == []
        assert m.cli("dlq", "list", "s", "--since", "soon").code == 65
        assert m.cli("dlq", "list", "s", "--filter", "{}").code == 65
        assert m.cli("dlq", "list", "s", "--attempts", "x").code == 65


def test_dlq_show_has_all_attempts():
    worker = python("def handle(event, ctx):\n    raise millrace.Retry('try %d' % ctx.attempt)")
    with shop(worker, retry={"schedule": ["10ms", "10ms"], "jitter": "none"}) as m:
        m.post(event("r1"))
        m.wait_state("r1", "s", "dead")
        shown = m.ask("dlq", "show", "s", "r1")
        assert [a["error"] for a in shown["attempts"]] == ["try 1", "try 2", "try 3"], shown
        assert [a["n"] for a in shown["attempts"]] == [1, 2, 3] and shown["attempt_count"] == 3, shown


def test_dlq_redrive_waits_for_the_result():
    with shop() as m:
        m.post([event("bad%d" % i) for i in range(5)])
        wait_until("five dead", lambda: m.counts("s")["dead_letters"] == 5)
        again = m.cli("dlq", "redrive", "s", "bad0", "-o", "json")
        assert again.code == 1 and again.lines()[0]["result"] == "dead", (again.out, again.err)
        assert "cannot handle" in again.lines()[0]["error"], again.out
        (m.folder / "mended").touch()
        dry = m.cli("dlq", "redrive", "s", "--dry-run", "-o", "json")
        assert len(dry.lines()) == 5 and m.counts("s")["dead_letters"] == 5, dry.out
        one = m.cli("dlq", "redrive", "s", "--error", "handle bad1", "-o", "json")
        assert one.code == 0 and [l["id"] for l in one.lines()] == ["bad1"], one.out
        rest = m.cli("dlq", "redrive", "s", "--rate", "50/s", "-o", "json")
        assert rest.code == 0, (rest.out, rest.err)
        assert {l["result"] for l in rest.lines()} == {"done"} and len(rest.lines()) == 4, rest.out
        counts = m.counts("s")
        assert counts["dead_letters"] == 0 and counts["done"] == 5 and counts["dead"] == 0, counts
        delivery = m.delivery("bad0", "s")
        assert delivery["state"] == "done" and delivery["redrives"] == 2, delivery
        assert m.cli("dlq", "redrive", "s", "bad0").code == 3
        assert m.cli("dlq", "redrive", "s", "--canary", "none").code == 2
        assert m.cli("dlq", "redrive", "s", "--rate", "fast").code == 2


def test_dlq_redrive_out_of_order_must_be_said():
    with shop(order_by="subject") as m:
        m.post([event("bad1", subject="k"), event("good1", subject="k")])
        m.wait_state("good1", "s", "done")
        (m.folder / "mended").touch()
        refused = m.cli("dlq", "redrive", "s", "bad1", "-o", "json")
        assert refused.code == 1 and refused.lines()[0]["result"] == "refused", refused.out
        assert m.counts("s")["dead_letters"] == 1
        forced = m.cli("dlq", "redrive", "s", "bad1", "--out-of-order", "-o", "json")
        assert forced.code == 0 and forced.lines()[0]["result"] == "done", (forced.out, forced.err)


def test_dlq_purge_wants_yes_and_stays_counted():
    with shop() as m:
        m.post([event("bad1"), event("bad2")])
        wait_until("two dead", lambda: m.counts("s")["dead_letters"] == 2)
        assert m.cli("dlq", "purge", "s").code == 2
        assert m.cli("dlq", "purge", "s", "--error", "bad2", "--yes").code == 0
        assert [l["id"] for l in m.ask_lines("dlq", "list", "s")] == ["bad1"]
        assert m.cli("dlq", "purge", "s", "--yes").code == 0
        counts = m.counts("s")
        assert counts["dead_letters"] == 0 and counts["dead"] == 2, counts
        actions = [r for r in m.ask_lines("log", "dump", m.folder / "data") if r["kind"] == "operator"]
        assert len(actions) == 2 and json.loads(actions[0]["action"])["action"] == "purge", actions


def test_dlq_pages_through_many():
    with shop() as m:
        for at in range(0, 250, 50):
            m.post([event("bad%d" % i) for i in range(at, at + 50)])
        wait_until("250 dead", lambda: m.counts("s")["dead_letters"] == 250)
        letters = m.ask_lines("dlq", "list", "s")
        assert [l["id"] for l in letters] == ["bad%d" % i for i in range(250)]


def test_rejected_message_is_an_ingest_dead_letter():
    with Instance({"sources": {"lines": {"file": {"path": "in.jsonl"}}},
                   "workers": {"w": {"exec": {"command": ["true"]}}},
                   "subscriptions": {"s": {"to": "w"}}},
                  {"in.jsonl": "this is no event\n" + json.dumps(event("ok1")) + "\n"}) as m:
        wait_until("the good one", lambda: m.counts("s")["done"] == 1)
        letters = m.letters("ingest:lines")
        assert len(letters) == 1 and letters[0]["reason"], letters
        refused = m.cli("dlq", "redrive", "ingest:lines", "-o", "json")
        assert refused.code == 1 and refused.lines()[0]["result"] == "refused", refused.out


def test_why_names_the_failing_clause():
    with Instance({"sources": {"in": http_source(), "other": http_source("/other")},
                   "workers": {"w": {"exec": {"command": ["true"]}}},
                   "subscriptions": {"jpg": {"filter": {"all": [{"prefix": {"type": "com."}},
                                                                {"suffix": {"subject": ".jpg"}}]}, "to": "w"},
                                     "elsewhere": {"source": "other", "to": "w"}}}) as m:
        m.post(event("p1", subject="photo.png"))
        why = m.ask("why", "p1", "jpg")
        assert not why["matched"] and "photo.png" in why["why"] and ".jpg" in why["why"], why
        assert not m.ask("why", "p1", "elsewhere")["matched"]
        trace = m.trace("p1")
        assert trace["matched"] == [] and trace["deliveries"] == [], trace
        assert {u["subscription"] for u in trace["unmatched"]} == {"jpg", "elsewhere"}, trace
        m.post(event("p2", subject="photo.jpg"))
        m.wait_state("p2", "jpg", "done")
        assert "done" in m.ask("why", "p2", "jpg")["why"]
        assert m.cli("why", "p1", "nobody").code == 3 and m.cli("why", "nobody", "jpg").code == 3
        assert m.cli("trace", "nobody").code == 3


def test_trace_of_very_many_names_a_few_that_did_not_match():
    with Instance({"sources": {"in": http_source()}, "sinks": {"out": {"file": {"path": "out"}}},
                   "subscriptions": {"s%d" % n: {"filter": {"exact": {"key": str(n)}}, "to": "out"}
                                     for n in range(40)}}) as m:
        m.post(event("m1", key="7"))
        m.wait_state("m1", "s7", "done")
        assert len(m.trace("m1")["unmatched"]) == 39
        told = m.cli("trace", "m1").out.splitlines()
        assert sum(": not matched (" in line for line in told) == 20, told
        assert told[-1] == "  and 19 others: not matched; `millrace why m1 SUBSCRIPTION` says why", told


def test_why_tells_the_back_off():
    worker = python("def handle(event, ctx):\n    raise millrace.Retry('later')")
    with shop(worker, retry={"schedule": ["1h"], "jitter": "none"}) as m:
        m.post(event("w1"))
        # What it waits for is told at once, its attempt once that is durable.
        delivery = wait_until("it waits", lambda: (
            lambda d: d if (d["blocked_on"] or "").startswith("back-off") and d["attempts"]
            else None)(m.delivery("w1", "s")))
        assert delivery["state"] == "waiting" and len(delivery["attempts"]) == 1, delivery
        assert delivery["blocked_until"], delivery
        why = m.ask("why", "w1", "s")
        assert "back-off" in why["why"] and why["blocked_until"], why


def test_held_deliveries_are_listed_resumed_and_skipped():
    worker = python("def handle(event, ctx):\n"
                    "    if not os.path.exists('mended'):\n"
                    "        raise millrace.Retry('not yet')")
    with shop(worker, on_exhausted="hold", order_by="subject", retry={"attempts": 1}) as m:
        for n in range(3):
            m.post(event("h%d" % n, subject="one"))
        m.post(event("other", subject="two"))
        held = lambda: [d["id"] for d in m.ask_lines("delivery", "list", "s", "--state", "held")]
        wait_until("both heads to be held", lambda: held() == ["h0", "other"])
        listed = m.ask_lines("delivery", "list", "s")
        assert [(d["id"], d["blocked_on"]) for d in listed] == [
            ("h0", "held"), ("h1", "lane head"), ("h2", "lane head"), ("other", "held")], listed
        assert "lane head" in m.cli("delivery", "list", "s").out
        assert m.cli("delivery", "resume", "s", "h1").code == 1  # not held
        assert m.cli("delivery", "resume", "s", "nobody").code == 3
        assert m.cli("delivery", "skip", "s").code == 2
        assert m.cli("delivery", "skip", "s", "h0").out == "h0  skipped\n"
        m.wait_state("h0", "s", "dropped")
        assert "operator" in m.delivery("h0", "s")["reason"], m.delivery("h0", "s")
        wait_until("the next of its lane", lambda: held() == ["h1", "other"])
        (m.folder / "mended").touch()
        assert m.cli("delivery", "resume", "s", "--all").code == 0
        for id in ("h1", "h2", "other"):
            wait_until(id, lambda: m.delivery(id, "s")["state"] == "done")
        assert m.ask_lines("delivery", "list", "s") == []


def test_a_lane_is_held_where_its_head_would_be_dead():
    """Whatever for: what the handler says, and attempts used up. Without a lane it is dead."""
    worker = python("def handle(event, ctx):\n"
                    "    if event['id'].endswith('ok') or (\n"
                    "            event['id'] == 'dying' and os.path.exists('mended')):\n"
                    "        return\n"
                    "    raise (millrace.Dead if event['id'][0] == 'd' else millrace.Retry)('no')")
    with shop(worker, lane_on_dead="hold", order_by="subject", retry={"attempts": 1}) as m:
        for id, lane in (("dead", "a"), ("a-ok", "a"), ("tries", "b"), ("b-ok", "b"),
                         ("dying", "c"), ("c-ok", "c"), ("d-free", None)):
            m.post(event(id, subject=lane) if lane else event(id))
        held = lambda: [d["id"] for d in m.ask_lines("delivery", "list", "s", "--state", "held")]
        wait_until("three heads to be held", lambda: held() == ["dead", "tries", "dying"])
        m.wait_state("d-free", "s", "dead")
        assert m.counts("s")["dead"] == 1 and m.counts("s")["done"] == 0, m.counts("s")
        m.stop(signal.SIGKILL)
        m.start()
        wait_until("they to be held again", lambda: held() == ["dead", "tries", "dying"])
        assert m.delivery("a-ok", "s")["blocked_on"] == "lane head"
        assert m.cli("delivery", "skip", "s", "dead").code == 0
        m.wait_state("a-ok", "s", "done")
        (m.folder / "mended").touch()
        assert m.cli("delivery", "resume", "s", "dying").code == 0
        m.wait_state("c-ok", "s", "done")
        tried = len(m.delivery("tries", "s")["attempts"])  # one more where the kill came before a write
        assert m.cli("delivery", "resume", "s", "tries").code == 0
        wait_until("it to be held once more", lambda: held() == ["tries"]
                   and len(m.delivery("tries", "s")["attempts"]) == tried + 1)
        assert m.delivery("b-ok", "s")["blocked_on"] == "lane head"
        assert "is held with its lane as well" in m.cli("explain", "s").out


def test_a_delivery_in_flight_can_be_skipped():
    worker = python("def handle(event, ctx):\n"
                    "    while not ctx.cancelled:\n"
                    "        select.select([], [], [], 0.01)")
    with shop(worker, timeout="1h") as m:
        m.post(event("stuck"))
        wait_until("the handler has it", lambda: m.delivery("stuck", "s")["state"] == "in flight")
        assert m.cli("delivery", "skip", "s", "stuck").code == 0
        assert m.delivery("stuck", "s")["state"] == "dropped"
        m.post(event("next"))
        wait_until("the place to be free", lambda: m.delivery("next", "s")["state"] == "in flight")


def test_subscriptions_share_a_limit():
    worker = python("def handle(event, ctx):\n"
                    "    try:\n"
                    "        os.close(os.open('busy', os.O_CREAT | os.O_EXCL))\n"
                    "    except FileExistsError:\n"
                    "        raise millrace.Dead('two at once')\n"
                    "    while event['id'] == 'long' and not os.path.exists('enough'):\n"
                    "        select.select([], [], [], 0.01)\n"
                    "    os.remove('busy')")
    command = {"process": {"command": ["python3", "w.py"]}, "scale": {"min": 2, "max": 2}}
    config = {"sources": {"in": http_source()}, "workers": {"a": command, "b": command},
              "limits": {"one": {"concurrency": 1}},
              "subscriptions": {name: {"to": name, "limits": ["one"]} for name in "ab"}}
    with Instance(config, {"w.py": worker}) as m:
        m.post(event("long"))
        wait_until("one to begin", lambda: "in flight" in {
            m.delivery("long", name)["state"] for name in "ab"})
        wait_until("the other to wait for the limit alone", lambda: {
            m.delivery("long", name)["blocked_on"] for name in "ab"} == {None, "limit"})
        (m.folder / "enough").touch()
        for n in range(40):
            m.post(event("e%d" % n))
        wait_until("all to be done", lambda: [
            s["done"] for s in m.ask_lines("sub", "list") if s["name"] in ("a", "b")] == [41, 41])
        assert "With all that share the limit one, at most 1 delivery" in m.cli("explain", "a").out


def test_a_log_that_is_full_of_settled_events_gives_them_up():
    """Retention (a day, 1 GiB) and the distance of checkpoints (64 MiB) are larger than the log."""
    config = {"sources": {"in": http_source()}, "workers": {"w": {"exec": {"command": ["true"]}}},
              "sinks": {"out": {"file": {"path": "out"}}},
              "subscriptions": {"s": {"to": "out"}},
              "log": {"segment_size": "4MiB", "max_size": "16MiB"}}
    with Instance(config) as m:
        def send(n):
            sent = event("big%d" % n, data="x" * 200_000)
            return m.http("POST", "/events", json.dumps(sent),
                          {"Content-Type": "application/cloudevents+json"})[0]
        assert m.cli("sub", "pause", "s").code == 0
        taken = 0
        while send(taken) == 202:
            taken += 1
            assert taken < 200, taken
        assert m.ask("status")["log"]["slow"]
        assert m.cli("sub", "resume", "s").code == 0
        wait_until("all to be done", lambda: m.counts("s")["done"] == taken)
        wait_until("room", lambda: not m.ask("status")["log"]["slow"])
        assert send(taken) == 202
        assert m.ask("status")["log"]["bytes"] <= 16 << 20, m.ask("status")["log"]


def test_not_before_its_time():
    worker = python("def handle(event, ctx):\n    return None")
    with shop(worker) as m:
        later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
        m.post(event("n1", mrnotbefore=later.isoformat()))
        soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)
        m.post(event("n2", mrnotbefore=soon.isoformat()))
        m.post(event("n3", mrnotbefore="in a while"))
        delivery = m.delivery("n1", "s")
        assert (delivery["state"], delivery["blocked_on"]) == ("waiting", "not before"), delivery
        assert delivery["blocked_until"][:19] == later.isoformat()[:19], delivery
        assert "not before" in m.ask("why", "n1", "s")["why"]
        wait_until("n2 to go", lambda: m.delivery("n2", "s")["state"] == "done")
        wait_until("n3 to go", lambda: m.delivery("n3", "s")["state"] == "done")
        began = datetime.datetime.fromisoformat(
            m.delivery("n2", "s")["attempts"][0]["started"].replace("Z", "+00:00"))
        assert began >= soon - datetime.timedelta(milliseconds=1), (began, soon)
        m.stop()
        m.start()  # it waits on over a restart
        assert m.delivery("n1", "s")["blocked_on"] == "not before", m.delivery("n1", "s")


def test_explain_is_the_policy_in_words():
    with shop(order_by="subject", max_age="6h") as m:
        policy = m.ask("explain", "s")
        assert policy["subscription"] == "s" and len(policy["policy"]) >= 3, policy
        human = m.cli("explain", "s")
        assert human.code == 0 and "subject" in human.out and "6h" in human.out, human.out
        assert m.cli("explain", "nobody").code == 3


def test_pause_and_resume_of_a_subscription():
    with shop() as m:
        assert m.ask("sub", "pause", "s")["paused"] is True
        m.post(event("p1"))
        wait_until("it waits", lambda: m.counts("s")["waiting"] == 1)
        delivery = m.delivery("p1", "s")
        assert delivery["blocked_on"] == "paused", delivery
        assert m.ask("sub", "resume", "s")["paused"] is False
        m.wait_state("p1", "s", "done")
        assert m.cli("sub", "pause", "nobody").code == 3


def test_pause_and_resume_of_a_source():
    with Instance({"sources": {"lines": {"file": {"path": "in.jsonl"}}},
                   "workers": {"w": {"exec": {"command": ["true"]}}},
                   "subscriptions": {"s": {"to": "w"}}}, {"in.jsonl": ""}) as m:
        assert m.ask("source", "pause", "lines")["paused"] is True
        with open(m.folder / "in.jsonl", "a") as out:
            out.write(json.dumps(event("l1")) + "\n")
        assert m.ask("source", "show", "lines")["events"] == 0
        assert m.ask("source", "resume", "lines")["paused"] is False
        wait_until("the line came", lambda: m.counts("s")["done"] == 1)
        assert m.cli("source", "pause", "nobody").code == 3


def test_lists_show_everything():
    with shop() as m:
        m.post(event("e1"))
        m.wait_state("e1", "s", "done")
        assert [s["name"] for s in m.ask_lines("sub", "list")] == ["s"]
        sources = {s["name"]: s for s in m.ask_lines("source", "list")}
        assert sources["in"]["events"] == 1 and sources["in"]["kind"] == "http", sources
        workers = m.ask_lines("worker", "list")
        assert workers[0]["name"] == "w" and workers[0]["worker"] is True, workers
        assert workers[0]["instances"]["ready"] >= 1, workers
        assert m.ask("worker", "show", "w")["kind"] == "process"
        for what in ("sub", "source", "worker"):
            human = m.cli(what, "list")
            assert human.code == 0 and human.out.splitlines()[0].startswith("NAME"), human.out
        status = m.ask("status")
        assert status["ready"] and status["port"] == m.port and not status["log"]["faulty"], status


def test_send_prints_id_and_offset_once_durable():
    with shop() as m:
        one = m.cli("send", "-o", "json", input=json.dumps(event("s1"), indent=2))
        assert one.code == 0 and one.lines()[0]["id"] == "s1", (one.out, one.err)
        lines = "\n".join(json.dumps(event("m%d" % i)) for i in range(1200))
        many = m.cli("send", "--to", "in", input=lines)
        offsets = [l["offset"] for l in many.lines()]
        assert many.code == 0 and len(offsets) == 1200 and offsets == sorted(set(offsets)), many.err
        array = m.cli("send", input=json.dumps([event("a1"), event("a2")]))
        assert [l["id"] for l in array.lines()] == ["a1", "a2"], array.err
        wait_until("all handled", lambda: m.counts("s")["done"] == 1203)
        bad = m.cli("send", input=json.dumps(event("b1")) + "\n{\"id\":1}\n")
        assert bad.code == 65 and "line 2" in bad.err and bad.lines()[0]["id"] == "b1", (bad.out, bad.err)
        assert m.cli("send", "--to", "nobody", input=json.dumps(event("x"))).code == 3
        assert m.cli("send", input="not json").code == 65


def test_tail_shows_events_live():
    with shop() as m:
        tail = subprocess.Popen([MILLRACE, "tail", "-c", str(m.path), "-o", "json", "--count", "3",
                                 "--filter", '{"exact":{"type":"wanted"}}'], stdout=subprocess.PIPE)
        got = []
        reader = threading.Thread(target=lambda: got.extend(tail.stdout.read().decode().splitlines()))
        reader.start()
        sent = [0]

        def all_seen():
            sent[0] += 1
            m.post([event("w%d" % sent[0], "wanted"), event("u%d" % sent[0], "unwanted")])
            return tail.poll() is not None
        wait_until("three were seen", all_seen)
        reader.join()
        assert tail.returncode == 0 and len(got) == 3, got
        seen = [json.loads(line) for line in got]
        assert all(s["event"]["type"] == "wanted" and s["source"] == "in" for s in seen), seen
        assert m.cli("tail", "--filter", "{}").code == 65


def test_metrics_conserve_and_have_their_names():
    with shop() as m:
        m.post([event("bad1"), event("good1"), event("good2")])
        wait_until("all ended", lambda: m.counts("s")["done"] == 2 and m.counts("s")["dead"] == 1)
        samples = m.metrics()
        label = '{subscription="s",state="%s"}'
        assert samples["millrace_conservation_ok"] == 1
        assert samples['millrace_events_total{source="in"}'] == 3
        assert samples["millrace_deliveries_total" + label % "done"] == 2
        assert samples["millrace_deliveries_total" + label % "dead"] == 1
        assert samples["millrace_queue_deliveries" + label % "in flight"] == 0
        assert samples['millrace_attempts_total{subscription="s",verdict="ok"}'] == 2
        matched = samples['millrace_matched_total{subscription="s"}']
        parts = [v for n, v in samples.items() if n.startswith(("millrace_deliveries_total{", "millrace_queue_deliveries{"))
                 and 'subscription="s"' in n]
        assert matched == sum(parts) == 3, samples
        status, headers, text = m.http("GET", "/metrics", headers={"Accept": "text/plain"})
        assert headers["Content-Type"].startswith("text/plain") and "# TYPE millrace_events_total counter" in text
        status, headers, text = m.http("GET", "/metrics")
        assert headers["Content-Type"].startswith("application/openmetrics-text") and text.endswith("# EOF\n")
        assert "# TYPE millrace_queue_deliveries gauge" in text


def test_health_and_what_ingest_does_not_serve():
    with shop() as m:
        assert m.http("GET", "/livez")[0] == 200 and m.http("GET", "/readyz")[0] == 200
        assert m.http("GET", "/api/v1/status")[0] == 404
        assert m.http("POST", "/livez", "x")[0] == 405


def test_reload_applies_all_or_nothing():
    config = {"sources": {"in": http_source()},
              "workers": {"w": {"exec": {"command": ["true"]}}},
              "subscriptions": {"s": {"filter": {"exact": {"type": "a"}}, "to": "w"}}}
    with Instance(config) as m:
        assert m.ask("reload")["changed"] is False
        config["subscriptions"]["t"] = {"filter": {"exact": {"type": "b"}}, "to": "w"}
        m.write_config(config)
        dry = m.ask("reload", "--dry-run")
        assert dry["changed"] and not dry["applied"], dry
        assert [s["name"] for s in m.ask_lines("sub", "list")] == ["s"]
        done = m.ask("reload")
        assert done["applied"] and done["subscriptions"]["added"][0]["name"] == "t", done
        m.post(event("b1", "b"))
        m.wait_state("b1", "t", "done")
        broken = dict(config, subscriptions={"s": {"to": "nobody"}})
        m.write_config(broken)
        refused = m.cli("reload")
        assert refused.code == 65 and "nobody" in refused.err, (refused.code, refused.err)
        m.post(event("b2", "b"))
        m.wait_state("b2", "t", "done")
        m.write_config(config)
        m.process.send_signal(signal.SIGHUP)
        m.post(event("b3", "b"))
        m.wait_state("b3", "t", "done")


def test_reload_rescues_waiting_deliveries():
    config = {"sources": {"in": http_source()},
              "workers": {"w": {"exec": {"command": ["./missing.sh"]}}},
              "subscriptions": {"s": {"to": "w", "retry": {"schedule": ["200ms"] * 30, "jitter": "none"}}}}
    with Instance(config) as m:
        m.post(event("r1"))
        wait_until("it waits", lambda: m.counts("s")["waiting"] + m.counts("s")["in_flight"] == 1)
        config["workers"]["w"] = {"exec": {"command": ["true"]}}
        m.write_config(config)
        assert m.ask("reload")["applied"]
        m.wait_state("r1", "s", "done")


if __name__ == "__main__":
    main()
