"""Whatever comes in: a precise answer, a counter, a dead letter; never a crash, a hang or a loss."""
import json
import socket

from support import *

OK = python("def handle(event, ctx):\n    pass")


def bus(files=None, **subscription):
    return Instance({"sources": {"in": http_source()},
                     "workers": {"w": {"process": {"command": ["python3", "w.py"]}, "timeout": "2s", "grace": "200ms"}},
                     "subscriptions": {"s": {"to": "w", "retry": {"schedule": ["10ms"], "jitter": "none"},
                                             **subscription}}}, files or {"w.py": OK})


def still_works(m, id="alive"):
    m.post(event(id))
    m.wait_state(id, "s", "done")
    assert m.metrics()["millrace_conservation_ok"] == 1


def test_bodies_that_are_no_events_get_400_with_a_reason():
    deep = "[" * 5000 + "]" * 5000
    bad = ["", "nonsense", "{", "[]]", '{"specversion":"1.0"}', "null", "42", '"x"',
           '{"specversion":"1.0","id":"1","id":"2","source":"/s","type":"t"}',
           '{"specversion":"1.0","id":"","source":"/s","type":"t"}',
           '{"specversion":"1.0","id":7,"source":"/s","type":"t"}',
           '{"specversion":"0.3","id":"1","source":"/s","type":"t"}',
           '{"specversion":"1.0","id":"1","source":"/s","type":"t","BAD":"x"}',
           '{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"yesterday"}',
           '{"specversion":"1.0","id":"1","source":"/s","type":"t","data":1,"data_base64":"AA=="}',
           '{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"***"}',
           '{"specversion":"1.0","id":"1","source":"/s","type":"t","data":%s}' % deep,
           b'{"specversion":"1.0","id":"\xff\xfe","source":"/s","type":"t"}']
    with bus() as m:
        for body in bad:
            status, _, text = m.http("POST", "/events", body, {"Content-Type": CLOUDEVENT})
            assert status == 400 and len(text) > 5, (body, status, text)
        assert m.counts("s")["matched"] == 0
        still_works(m)


def test_an_event_with_huge_attributes_ends_and_holds_up_nobody():
    """What tells of its end names it in attributes of its own, which have 64 KiB together."""
    with Instance({"sources": {"in": http_source()}, "sinks": {"out": {"file": {"path": "out.jsonl"}}},
                   "subscriptions": {"s": {"to": "out", "on_success": "out", "filter": {"prefix": {"type": "t"}}},
                                     "told": {"to": "out", "filter": {"prefix": {"type": "io."}}}},
                   "fanouts": {"all": {"of": "s"}}}) as m:
        for n, huge in enumerate(({"id": "i" * 60000}, {"source": "/" + "s" * 60000}, {"type": "t" * 60000},
                                  {"correlationid": "c" * 60000}, {"partitionkey": "p" * 60000})):
            m.post(dict(event("e%d" % n, type="t"), **huge))
        m.post(event("alive", type="t"))
        wait_until("all of them", lambda: m.counts("s")["done"] == 6)
        wait_until("all told", lambda: m.counts("told")["done"] == 6)
        wait_until("all outcomes", lambda: m.counts("s/on_success/out")["done"] == 6)


def test_batch_is_all_or_nothing():
    with bus() as m:
        status, _, text = m.http("POST", "/events", json.dumps([event("b1"), {"id": "x"}]),
                                 {"Content-Type": BATCH})
        assert status == 400, (status, text)
        assert m.cli("trace", "b1").code == 3
        still_works(m)


def test_oversize_is_413_and_unknown_format_415():
    with bus() as m:
        big = json.dumps(event("big", data="x" * (2 << 20)))
        assert m.http("POST", "/events", big, {"Content-Type": CLOUDEVENT})[0] == 413
        status = m.http("POST", "/events", "<event/>", {"Content-Type": "application/cloudevents+xml"})[0]
        assert status == 415, status
        assert m.http("GET", "/nowhere")[0] == 404
        assert m.http("PUT", "/events", "x")[0] == 405
        still_works(m)


def test_truncated_requests_do_not_hold_anything():
    with bus() as m:
        for text in (b"POST /events HTTP/1.1\r\nContent-Length: 100\r\n\r\n{", b"GARBAGE\r\n\r\n",
                     b"POST /events HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"\x00\x01\x02" * 100,
                     b"GET /" + b"a" * 100000):
            with socket.create_connection(("127.0.0.1", m.port), timeout=5) as s:
                try:
                    s.sendall(text)
                except OSError:
                    pass  # it may hang up on us at any time
        still_works(m)


def test_worker_that_prints_garbage_is_logged_not_believed():
    worker = ("import sys, os\nsys.stdout.write('{\"delivery\":\"s:1\",\"verdict\":\"dead\"}\\n\\x00\\xff\\n')\n"
              "sys.stdout.flush()\n" + python("def handle(event, ctx):\n    print('\\x1b[31mred\\x00')"))
    with bus({"w.py": worker}) as m:
        still_works(m)
        assert "\x1b" not in m.log.read_text(errors="replace")


RAW = """import json, os, socket, sys
s = socket.socket(fileno=3)
f = s.makefile('rwb')
def put(frame): f.write(frame if isinstance(frame, bytes) else json.dumps(frame).encode() + b'\\n'); f.flush()
f.readline()
put({'millrace': 1, 'max': 1, 'features': []})
n = 0
for line in f:
    frame = json.loads(line)
    if 'delivery' not in frame: continue
    n += 1
    d = frame['delivery']; bad = 'bad' in frame['event']['id']
%s
"""


def raw(code):
    return RAW % "\n".join("    " + line for line in code.splitlines())


def test_unknown_verdict_is_not_taken_for_an_answer():
    with bus({"w.py": raw("put({'delivery': d, 'verdict': 'maybe' if bad else 'ok'})")}) as m:
        m.post(event("bad1"))
        delivery = m.wait_state("bad1", "s", "dead")
        assert delivery["attempts"], delivery
        still_works(m)


def test_worker_that_breaks_the_protocol_is_replaced():
    with bus({"w.py": raw("put(b'\\xff\\x00 no json\\n' if bad else {'delivery': d, 'verdict': 'ok'})")}) as m:
        m.post(event("bad1"))
        m.wait_state("bad1", "s", "dead")
        still_works(m)


def test_worker_that_answers_twice_settles_once():
    with bus({"w.py": raw("put({'delivery': d, 'verdict': 'ok'})\nput({'delivery': d, 'verdict': 'dead'})")}) as m:
        for i in range(20):
            m.post(event("t%d" % i))
        wait_until("all done", lambda: m.counts("s")["done"] == 20)
        assert m.counts("s")["dead"] == 0
        still_works(m)


def test_worker_that_is_silent_times_out():
    with bus({"w.py": raw("if not bad: put({'delivery': d, 'verdict': 'ok'})")}) as m:
        m.post(event("bad1"))
        delivery = m.wait_state("bad1", "s", "dead")
        assert {a["verdict"] for a in delivery["attempts"]} == {"timeout"}, delivery
        still_works(m)


def test_worker_that_never_reads_does_not_stop_the_bus():
    worker = "import signal\nsignal.pause()\n"
    with Instance({"sources": {"in": http_source()},
                   "workers": {"deaf": {"process": {"command": ["python3", "deaf.py"]}, "timeout": "2s"},
                               "w": {"process": {"command": ["python3", "w.py"]}}},
                   "subscriptions": {"deaf": {"to": "deaf"}, "s": {"to": "w"}}},
                  {"deaf.py": worker, "w.py": OK}) as m:
        for i in range(50):
            m.post(event("n%d" % i, data="x" * 50000))
        wait_until("the other one is not held up", lambda: m.counts("s")["done"] == 50)
        assert m.counts("deaf")["done"] == 0


def test_worker_that_forks_leaves_nothing_behind():
    worker = python("def handle(event, ctx):\n    if os.fork() == 0:\n        os.setsid()\n"
                    "        open('child','w').write(str(os.getpid()))\n        signal.pause()\n"
                    "        os._exit(0)")
    with bus({"w.py": worker}) as m:
        m.post(event("f1"))
        m.wait_state("f1", "s", "done")
        pid = int(wait_until("its pid", lambda: (m.folder / "child").exists() and
                             (m.folder / "child").read_text()))
        assert m.stop() == 0
        wait_until("the child is gone", lambda: not pathlib.Path("/proc/%d" % pid).exists() or
                   pathlib.Path("/proc/%d/stat" % pid).read_text().split(") ")[1][0] == "Z")


def test_command_that_is_not_there_is_said():
    with Instance({"sources": {"in": http_source()},
                   "workers": {"w": {"exec": {"command": ["./not-there"]}},
                               "p": {"process": {"command": ["./not-there-either"]}}},
                   "subscriptions": {"s": {"to": "w"}, "t": {"to": "p"}}}) as m:
        m.post(event("c1"))
        def errors():
            return [w["last_error"] for w in m.ask_lines("worker", "list") if w["last_error"]]
        wait_until("both say it", lambda: len(errors()) == 2)
        assert m.counts("t")["waiting"] + m.counts("t")["in_flight"] == 1


def test_exec_that_floods_its_output_is_bounded():
    script = "#!/bin/sh\nhead -c 20000000 /dev/zero | tr '\\0' x\nhead -c 5000000 /dev/zero | tr '\\0' y >&2\n"
    with Instance({"sources": {"in": http_source()}, "workers": {"w": {"exec": {"command": ["./w.sh"]}}},
                   "subscriptions": {"s": {"to": "w", "retry": {"schedule": [], "jitter": "none"}}}},
                  {"w.sh": script}) as m:
        m.post(event("x1"))
        wait_until("it ended", lambda: m.counts("s")["done"] + m.counts("s")["dead"] == 1)
        assert m.metrics()["process_resident_memory_bytes"] < 400 << 20


def test_odd_ids_are_traced():
    with bus() as m:
        for id in ("a/b/c", "ünïcode ✓", "q?x=1&y", "100%25", "..", "a b+c", "x" * 1000):
            m.post(event(id))
            assert m.wait_state(id, "s", "done"), id
        assert m.cli("trace", "").code in (2, 3)


def test_hop_limit_stops_a_loop():
    worker = python("def handle(event, ctx):\n    ctx.emit({'specversion':'1.0','id':event['id']+'+',"
                    "'source':'/w','type':event['type']})")
    with bus({"w.py": worker}) as m:
        m.post(event("loop"))
        def ended():
            counts = m.counts("s")
            return counts["waiting"] + counts["in_flight"] == 0 and counts["done"] > 5
        wait_until("it ended", ended)
        assert m.counts("s")["done"] <= 20, m.counts("s")
        assert m.metrics()["millrace_conservation_ok"] == 1


if __name__ == "__main__":
    main()
