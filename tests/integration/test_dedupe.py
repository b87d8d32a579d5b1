"""Repeats of what a source sent before: answered with the first offset, over restarts and kills."""
import http.client
import json
import signal
import threading

from support import BATCH, CLOUDEVENT, Instance, cli, event, main, python, wait_until

WORKER = python("def handle(event, ctx):\n"
                "    with open('handled', 'a') as f:\n"
                "        f.write(event['id'] + '\\n')")


def config(dedupe=None, **more):
    source = {"http": {"path": "/in", "adapter": "auto"}}
    if dedupe is not None:
        source["dedupe"] = dedupe
    made = {"sources": {"shop": source},
            "workers": {"w": {"process": {"command": ["python3", "worker.py"]}}},
            "subscriptions": {"all": {"to": "w"}}}
    made.update(more)
    return made


def instance(*arguments, **more):
    return Instance(config(*arguments, **more), files={"worker.py": WORKER})


def send(m, body, kind=CLOUDEVENT, key=None, wanted=202, path="/in", **headers):
    """Its answer and whether it says to be a repeat as a whole."""
    headers = dict({"Content-Type": kind}, **headers)
    if key is not None:
        headers["Idempotency-Key"] = key
    text = body if isinstance(body, (str, bytes)) else json.dumps(body)
    status, got, answer = m.http("POST", path, text, headers)
    assert status == wanted, (status, answer)
    said = {name.lower(): value for name, value in dict(got).items()}
    return json.loads(answer), said.get("millrace-duplicate") == "true"


def handled(m):
    path = m.folder / "handled"
    return path.read_text().split() if path.exists() else []


def source(m):
    return [s for s in m.ask_lines("source", "list") if s["name"] == "shop"][0]


def kill(m):
    m.stop(signal.SIGKILL)
    m.start()


def events_in(m):
    audit = m.ask("audit", "shop")
    assert audit["gap_count"] == 0, audit
    return audit["events"]


def test_by_id_within_the_window():
    with instance({"window": "1h"}) as m:
        first, repeat = send(m, event("a", data={"n": 1}))
        assert first["offset"] == 1 and "duplicate" not in first and not repeat, first
        second, repeat = send(m, event("a", data={"n": 1}))
        assert (second["offset"], second["duplicate"], second["id"]) == (1, True, "a") and repeat, second
        other, repeat = send(m, event("b"))
        assert other["offset"] == 2 and not repeat, other
        # The same id of another CloudEvents source is another event.
        elsewhere, repeat = send(m, dict(event("a"), source="/elsewhere"))
        assert elsewhere["offset"] == 3 and not repeat, elsewhere
        wait_until("all handled", lambda: sorted(handled(m)) == ["a", "a", "b"])
        shown = source(m)
        assert (shown["duplicates"], shown["dedupe_keys"], shown["dedupe_keys_early"]) == (1, 3, 0), shown
        assert events_in(m) == 3
        assert m.metrics()['millrace_source_duplicates_total{source="shop"}'] == 1


def test_each_event_of_a_batch_by_itself():
    with instance({}) as m:
        first, _ = send(m, [event("a"), event("b")], BATCH)
        assert [e["offset"] for e in first] == [1, 2], first
        mixed, repeat = send(m, [event("b"), event("c"), event("a"), event("c")], BATCH)
        assert [(e["offset"], e.get("duplicate", False)) for e in mixed] == \
            [(2, True), (3, False), (1, True), (3, True)] and not repeat, mixed
        again, repeat = send(m, [event("c"), event("a")], BATCH)
        assert [e["offset"] for e in again] == [3, 1] and repeat, again


def test_idempotency_key_without_any_configuration():
    with instance() as m:
        first, _ = send(m, "one", "text/plain", "k-1")
        again, repeat = send(m, "one", "text/plain", '"k-1"')
        assert (again["offset"], again["duplicate"]) == (first["offset"], True) and repeat, again
        # Without the header nothing is a repeat, not even the same id.
        for n in (2, 3):
            assert send(m, event("x"))[0]["offset"] == n
        one, _ = send(m, event("y-1", data={"order": 7}), key="k-2")
        two, repeat = send(m, event("y-1", data={"order": 7}, subject="again"), key="k-2")
        assert two["offset"] == one["offset"] and repeat, two
        # A key that is used for something else, by mistake or by another sender: nothing vanishes.
        for n, other in enumerate((event("y-1", data={"order": 8}), event("y-2", data={"order": 7}),
                                   dict(event("y-1", data={"order": 7}), source="/other"))):
            answer, repeat = send(m, other, key="k-2")
            assert answer["offset"] == one["offset"] + 1 + n and not repeat, answer
        batch, _ = send(m, [event("p", data=1), event("q", data=1)], BATCH, "k-3")
        assert len({e["offset"] for e in batch}) == 2, batch
        again, repeat = send(m, [event("p", data=1), event("q", data=1)], BATCH, "k-3")
        assert [e["offset"] for e in again] == [e["offset"] for e in batch] and repeat, again
        signed, _ = send(m, "msg", "text/plain", **{"webhook-id": "msg_1"})
        again, repeat = send(m, "msg", "text/plain", **{"webhook-id": "msg_1"})
        assert again["offset"] == signed["offset"] and repeat, again


def test_off_when_it_is_said():
    with instance({"window": "0s"}) as m:
        offsets = [send(m, event("a"), key="k")[0]["offset"] for _ in range(3)]
        assert offsets == [1, 2, 3], offsets


def test_after_a_stop_and_after_a_kill():
    with instance({"window": "1h"}, log={"segment_size": "1MiB", "checkpoint_size": "1MiB",
                                         "retain_size": "1MiB"}) as m:
        offsets = {}
        big = "x" * 4000
        for n in range(40):
            offsets[n] = send(m, event("e%d" % n, data=n), key="r%d" % n)[0]["offset"]
        kill(m)
        for n in range(40):
            assert send(m, event("e%d" % n, data=n))[0]["offset"] == offsets[n]
            assert send(m, event("e%d" % n, data=n), key="r%d" % n)[0]["offset"] == offsets[n]
        # Settled, behind checkpoints, and its segments given up: known all the same.
        def trimmed():
            answer, _ = send(m, [event("fill-%d-%d" % (trimmed.round, i), data=big) for i in range(100)],
                             BATCH)
            assert not any(e.get("duplicate") for e in answer)
            trimmed.round += 1
            return not (m.folder / "data" / "log" / "seg-0000000000000001").exists()
        trimmed.round = 0
        wait_until("the first segment to be given up", trimmed)
        kill(m)
        m.stop()
        m.start()
        for n in range(40):
            answer, repeat = send(m, event("e%d" % n, data=n))
            assert answer["offset"] == offsets[n] and repeat, answer
        last = send(m, event("last"))[0]["offset"]  # it lies where nothing is given up yet
        assert events_in(m) > 0
        m.stop()
        rows = [json.loads(line)
                for line in cli("log", "dump", m.folder / "data" / "log", "-o", "json").out.splitlines()]
        keys = [row for row in rows if row["kind"] == "key" and row["offset"] == last]
        assert len(keys) == 1 and keys[0]["window_ms"] == 3600000, keys
        assert cli("log", "verify", m.folder / "data" / "log").code == 0


def test_what_is_killed_on_the_way_is_sent_again_and_is_once():
    """Senders that repeat until they are answered, while the process is killed again and again."""
    with instance({"window": "1h"}) as m:
        stop = threading.Event()
        answered = {}
        problems = []

        def sender(number):
            n = 0
            while not stop.is_set() or n < 5:
                id = "s%d-%d" % (number, n)
                try:
                    connection = http.client.HTTPConnection("127.0.0.1", m.port, timeout=20)
                    connection.request("POST", "/in", json.dumps(event(id, data=id)),
                                       {"Content-Type": CLOUDEVENT, "Idempotency-Key": "key-" + id})
                    answer = connection.getresponse()
                    text = answer.read()
                    connection.close()
                except (OSError, http.client.HTTPException):
                    stop.wait(0.01)
                    continue
                if answer.status == 202:
                    offset = json.loads(text)["offset"]
                    if answered.setdefault(id, offset) != offset:
                        problems.append((id, offset, answered[id]))
                    n += 1
                elif answer.status != 503:
                    problems.append((id, answer.status, text))

        senders = [threading.Thread(target=sender, args=(i,)) for i in range(4)]
        for thread in senders:
            thread.start()
        for round in range(4):
            have = len(answered)
            wait_until("progress", lambda: problems or len(answered) >= have + 20)
            kill(m)
        have = len(answered)
        wait_until("progress", lambda: problems or len(answered) >= have + 20)
        stop.set()
        for thread in senders:
            thread.join()
        assert not problems, problems[:5]
        for id in list(answered)[::7]:
            answer, repeat = send(m, event(id, data=id))
            assert answer["offset"] == answered[id] and repeat, (answer, answered[id])
        assert len(set(answered.values())) == len(answered)
        assert events_in(m) == len(answered), (events_in(m), len(answered))


def test_wait_and_send_know_repeats():
    with instance({}) as m:
        status, _, _ = m.http("POST", "/in?wait=20", json.dumps(event("w-1")),
                                    {"Content-Type": CLOUDEVENT})
        assert status in (200, 204), status
        again, repeat = send(m, event("w-1"), path="/in?wait=20")
        assert again["offset"] == 1 and again["duplicate"], again
        sent = m.cli("send", "--to", "shop", input=json.dumps(event("w-1")))
        assert sent.code == 0 and sent.json()["offset"] == 1, (sent.out, sent.err)
        # A replay is meant, however often the event came before.
        done = m.cli("replay", "all", "--last", "1h")
        assert done.code == 0, (done.out, done.err)
        wait_until("handled once more", lambda: handled(m) == ["w-1", "w-1"])


def test_a_duplicate_waits_for_the_delivery_of_the_first():
    slow = python("import os, threading\n"
                  "def handle(event, ctx):\n"
                  "    while not os.path.exists('go'):\n"
                  "        threading.Event().wait(0.01)\n"
                  "    return {'answer': event['id']}")
    with Instance(config({}), files={"worker.py": slow}) as m:
        answers = []

        def ask():
            answers.append(m.http("POST", "/in?wait=60", json.dumps(event("one")),
                                  {"Content-Type": CLOUDEVENT}))

        send(m, event("one"))
        asking = [threading.Thread(target=ask) for _ in range(3)]
        for thread in asking:
            thread.start()
        wait_until("all to be known as duplicates", lambda: source(m)["duplicates"] == 3)
        (m.folder / "go").write_text("")
        for thread in asking:
            thread.join()
        for status, headers, text in answers:
            assert status == 200 and json.loads(text) == {"answer": "one"}, (status, text)
            assert headers["Millrace-Delivery"] == "all:1", headers
        assert events_in(m) == 1


def test_a_reload_switches_it():
    with instance({"window": "0s"}) as m:
        assert [send(m, event("a"), key="k")[0]["offset"] for _ in range(2)] == [1, 2]
        m.write_config(config({"window": "1h"}))
        assert m.cli("reload").code == 0
        assert [send(m, event("a"), key="k")[0]["offset"] for _ in range(2)] == [3, 3]
        m.write_config(config())
        assert m.cli("reload").code == 0
        assert send(m, event("a"), key="k")[0]["offset"] == 3
        assert send(m, event("a"))[0]["offset"] == 4
        m.write_config(config({"window": "0s"}))
        assert m.cli("reload").code == 0
        assert send(m, event("a"), key="k")[0]["offset"] == 5
        assert source(m)["dedupe_keys"] == 0


def test_few_keys_go_early_and_are_counted():
    with instance({"window": "1h", "keys": 10}) as m:
        for n in range(30):
            send(m, event("n%d" % n))
        answer, repeat = send(m, event("n29"))
        assert answer["offset"] == 30 and repeat, answer
        answer, repeat = send(m, event("n0"))
        assert answer["offset"] == 31 and not repeat, answer
        shown = source(m)
        assert shown["dedupe_keys"] == 10 and shown["dedupe_keys_early"] == 21, shown


def test_a_rejected_event_may_come_again():
    wants = {"types": {"*": {"type": "object", "required": ["n"]}}}
    made = config({"window": "1h"})
    made["sources"]["shop"]["validate"] = wants
    with Instance(made, files={"worker.py": WORKER}) as m:
        for _ in range(2):
            answer, repeat = send(m, event("a", data={}))
            assert "rejected" in answer and not repeat, answer
        answer, repeat = send(m, event("a", data={"n": 1}))
        assert "rejected" not in answer and not repeat, answer
        answer, repeat = send(m, event("a", data={"n": 1}))
        assert repeat, answer


if __name__ == "__main__":
    main()
