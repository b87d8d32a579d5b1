"""Dead letters as a table: picked, grouped, put back with caution, purged, edited."""
import json
import os
import subprocess
import tempfile

from support import *

# bad: dead as long as the file mended is not there; odd: dead whatever happens
HANDLER = python("""
def handle(event, ctx):
    id = event['id']
    if id.startswith('slow'):
        raise millrace.Retry('line %d of 10.0.0.%d is too slow' % (int(id[4:]), int(id[4:])))
    if id.startswith('bad') and not os.path.exists('mended'):
        raise millrace.Dead('no stock for ' + id)
    if id.startswith('odd'):
        raise millrace.Dead('cannot read order %s' % id)""")


def shop(worker=HANDLER, **subscription):
    return Instance({"sources": {"in": http_source()},
                     "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
                     "subscriptions": {"s": {"to": "w", **subscription}}}, {"w.py": worker})


def fill(m, ids, **more):
    for at in range(0, len(ids), 100):
        m.post([event(id, **more) for id in ids[at:at + 100]])
    wait_until("all are dead", lambda: m.counts("s")["dead_letters"] == len(ids))


def results(result):
    return {line["id"]: line["result"] for line in result.lines()}


def test_every_filter_picks():
    with shop(retry={"schedule": ["1ms"], "jitter": "none"}) as m:
        m.post([event("bad1", data={"shop": 7}), event("bad2", data={"shop": 8}), event("slow1")])
        wait_until("three dead", lambda: m.counts("s")["dead_letters"] == 3)

        def ids(*options):
            return [l["id"] for l in m.ask_lines("dlq", "list", "s", *options)]
        assert ids("--class", "dead") == ["bad1", "bad2"] and ids("--class", "retry") == ["slow1"]
        assert ids("--class", "crash") == []
        assert m.cli("dlq", "list", "s", "--class", "bad").code == 65
        assert ids("--filter", '{"data":{"exact":{"shop":"8"}}}') == ["bad2"]
        assert ids("--filter", '{"sql":"id LIKE \'bad%\'"}', "--error", "no stock") == ["bad1", "bad2"]
        assert ids("--attempts", "2") == ["slow1"]
        assert ids("--limit", "2") == ["bad1", "bad2"]
        last = m.ask_lines("dlq", "list", "s", "--limit", "2")[-1]
        assert ids("--after", last["offset"]) == ["slow1"]
        assert m.cli("dlq", "list", "s", "--limit", "0").code == 2
        human = m.cli("dlq", "list", "s", "--limit", "1")
        assert human.code == 0 and "--after" in human.err and "bad2" not in human.out, human.err


def test_show_tells_every_attempt_before_a_redrive_too():
    with shop() as m:
        fill(m, ["bad1"])
        again = m.cli("dlq", "redrive", "s", "bad1", "-o", "json")
        assert again.code == 1 and results(again) == {"bad1": "dead"}, (again.out, again.err)
        assert "0 handled, 1 failed again, 0 refused" in again.err, again.err
        shown = m.ask("dlq", "show", "s", "bad1")
        assert [a["verdict"] for a in shown["attempts"]] == ["dead", "dead"], shown
        assert shown["attempt_count"] == 1 and shown["redrives"] == 1, shown
        by = shown["redriven"][0]["by"]
        assert by["action"] == "redrive" and by["id"] == "bad1", shown
        delivery = m.delivery("bad1", "s")
        assert delivery["redriven"] == shown["redriven"], delivery
        human = m.cli("trace", "bad1")
        assert "redriven" in human.out, human.out


def test_groups_put_failures_of_one_kind_together():
    with shop(retry={"schedule": ["1ms"], "jitter": "none"}) as m:
        m.post([event("bad%d" % i) for i in range(4)] + [event("odd77")] +
               [event("slow%d" % i) for i in range(3)])
        wait_until("eight dead", lambda: m.counts("s")["dead_letters"] == 8)
        groups = m.ask_lines("dlq", "groups", "s")
        assert [(g["count"], g["class"], g["error"]) for g in groups] == [
            (4, "dead", "no stock for #"), (3, "retry", "line # of # is too slow"),
            (1, "dead", "cannot read order #")], groups
        for group in groups:
            assert group["subscription"] == "s", group
            assert group["first_seen"] <= group["last_seen"] and group["last_seen"].endswith("Z"), group
        stock = groups[0]["group"]
        assert len(m.ask_lines("dlq", "list", "s", "--group", stock)) == 4
        assert len(m.ask_lines("dlq", "groups", "s", "--class", "dead")) == 2
        human = m.cli("dlq", "groups", "s")
        assert human.code == 0 and "no stock for #" in human.out and str(stock) in human.out, human.out
        (m.folder / "mended").touch()
        again = m.cli("dlq", "redrive", "s", "--group", stock, "-o", "json")
        assert again.code == 0 and results(again) == {"bad%d" % i: "done" for i in range(4)}, again.out
        slow = groups[1]["group"]
        gone = m.cli("dlq", "purge", "s", "--group", slow, "--yes", "-o", "json")
        assert gone.code == 0 and set(results(gone)) == {"slow0", "slow1", "slow2"}, gone.out
        assert [g["error"] for g in m.ask_lines("dlq", "groups", "s")] == ["cannot read order #"]


def test_a_canary_that_fails_leaves_the_others_alone():
    with shop() as m:
        ids = ["bad%d" % i for i in range(30)]
        fill(m, ids)
        failed = m.cli("dlq", "redrive", "s", "--canary", "3", "-o", "json")
        assert failed.code == 1 and results(failed) == {id: "dead" for id in ids[:3]}, failed.out
        assert "stopped" in failed.err, failed.err
        assert all(m.delivery(id, "s")["redrives"] == 0 for id in ids[3:6])
        (m.folder / "mended").touch()
        good = m.cli("dlq", "redrive", "s", "--canary", "3", "--limit", "20", "-o", "json")
        assert good.code == 0 and results(good) == {id: "done" for id in ids[:20]}, good.out
        assert m.counts("s")["dead_letters"] == 10


def test_a_redrive_stops_itself():
    with shop() as m:
        ids = ["bad%02d" % i for i in range(60)]
        fill(m, ids)
        stopped = m.cli("dlq", "redrive", "s", "--stop-if-fail", "20%", "-o", "json")
        assert stopped.code == 1 and "stopped" in stopped.err, stopped.err
        assert 10 <= len(stopped.lines()) < 30 and set(results(stopped).values()) == {"dead"}, stopped.out
        assert m.delivery("bad59", "s")["redrives"] == 0
        # Failures below the limit stop nothing.
        (m.folder / "mended").touch()
        m.post([event("odd1")])
        wait_until("one more", lambda: m.counts("s")["dead_letters"] == 61)
        done = m.cli("dlq", "redrive", "s", "--stop-if-fail", "20%", "-o", "json")
        assert done.code == 1 and list(results(done).values()).count("done") == 60, done.out
        assert "60 handled, 1 failed again, 0 refused" in done.err, done.err
        for wrong in ("0", "101%", "some"):
            assert m.cli("dlq", "redrive", "s", "--stop-if-fail", wrong).code == 2
        assert m.cli("dlq", "redrive", "s", "--canary", "3", "--timeout", "0").code == 2


def test_a_failed_attempt_that_waits_for_the_next_counts_for_the_canary():
    worker = python("def handle(event, ctx):\n"
                    "    if os.path.exists('broken'):\n        raise millrace.Retry('still broken')\n"
                    "    raise millrace.Dead('no')")
    with shop(worker, retry={"schedule": ["1h"], "jitter": "none"}) as m:
        ids = ["bad%d" % i for i in range(5)]
        fill(m, ids)
        (m.folder / "broken").touch()
        failed = m.cli("dlq", "redrive", "s", "--canary", "2", "-o", "json")
        assert failed.code == 1 and "stopped" in failed.err, (failed.out, failed.err)
        assert "2 have not ended yet" in failed.err, failed.err
        assert m.counts("s")["dead_letters"] == 3


def test_redrive_without_waiting():
    with shop() as m:
        fill(m, ["bad1", "bad2"])
        (m.folder / "mended").touch()
        put = m.cli("dlq", "redrive", "s", "--timeout", "0", "-o", "json")
        assert put.code == 0 and set(results(put).values()) == {"redriven"}, put.out
        wait_until("both", lambda: m.counts("s")["done"] == 2)


def test_a_terminal_gets_a_bar_and_is_asked():
    with shop() as m:
        fill(m, ["bad%d" % i for i in range(8)] + ["odd1", "odd2"])
        (m.folder / "mended").touch()
        code, shown = on_terminal(m, "dlq", "redrive", "s", "--error", "no stock")
        assert code == 0 and "[##############################] 8/8" in shown, shown
        assert "8 handled, 0 failed again, 0 refused" in shown, shown
        code, shown = on_terminal(m, "dlq", "purge", "s", say=b"n\n")
        assert code == 1 and "purge 2 dead letters of s?" in shown, shown
        assert m.counts("s")["dead_letters"] == 2
        code, shown = on_terminal(m, "dlq", "purge", "s", say=b"y\n")
        assert code == 0 and "2 purged, 0 refused" in shown, shown
        assert m.counts("s")["dead_letters"] == 0


def test_purge_with_filters():
    with shop() as m:
        fill(m, ["bad1", "bad2", "bad3", "odd1"])
        dry = m.cli("dlq", "purge", "s", "--error", "no stock", "--dry-run", "-o", "json")
        assert dry.code == 0 and set(results(dry)) == {"bad1", "bad2", "bad3"}, dry.out
        assert m.counts("s")["dead_letters"] == 4
        one = m.cli("dlq", "purge", "s", "bad2", "--yes", "-o", "json")
        assert one.code == 0 and results(one) == {"bad2": "purged"}, one.out
        two = m.cli("dlq", "purge", "s", "--error", "no stock", "--limit", "1", "--yes", "-o", "json")
        assert two.code == 0 and results(two) == {"bad1": "purged"}, two.out
        assert m.cli("dlq", "purge", "s", "bad1", "--yes").code == 3
        assert m.delivery("bad1", "s")["purged"] is True


def test_an_edited_copy_takes_the_place_of_a_letter():
    worker = python("def handle(event, ctx):\n"
                    "    if event['data']['n'] < 0:\n        raise millrace.Dead('negative')\n"
                    "    return {'n': event['data']['n']}")
    with Instance({"sources": {"in": http_source()},
                   "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
                   "subscriptions": {"s": {"to": "w"},
                                     "other": {"to": "w", "filter": {"prefix": {"id": "neg"}}}}},
                  {"w.py": worker}) as m:
        m.post([event("neg1", data={"n": -1}), event("neg2", data={"n": -2})])
        wait_until("four dead", lambda: m.counts("s")["dead_letters"] +
                   m.counts("other")["dead_letters"] == 4)
        letter = m.ask("dlq", "show", "s", "neg1")
        copy = {**letter["event"], "data": {"n": 5}}
        done = m.cli("dlq", "edit", "s", "neg1", "-o", "json", input=json.dumps(copy))
        assert done.code == 0, (done.out, done.err)
        answer = done.json()
        assert answer["replaces"] == letter["offset"] and answer["purged"], answer
        assert answer["id"] == "neg1.edit-%d" % letter["offset"], answer
        # The copy went to this subscription alone and is handled.
        assert m.wait_state(answer["id"], "s", "done")["attempts"][0]["verdict"] == "ok"
        trace = m.trace(answer["id"])
        assert trace["matched"] == ["s"] and trace["event"]["causationid"] == "neg1", trace
        # The first one tells what became of it.
        old = m.delivery("neg1", "s")
        assert old["state"] == "dead" and old["purged"] and old["replaced_by"] == answer["id"], old
        assert [a["error"] for a in old["attempts"]] == ["negative"], old
        assert "replaced by %s" % answer["id"] in m.cli("trace", "neg1").out
        other = m.delivery("neg1", "other")
        assert other["state"] == "dead" and "purged" not in other and "replaced_by" not in other, other
        assert [l["id"] for l in m.ask_lines("dlq", "list", "s")] == ["neg2"]
        # An id of its own is kept; what is no event, and who is not there, changes nothing.
        named = m.cli("dlq", "edit", "s", "neg2", "-o", "json", input=json.dumps(event("new2", data={"n": 1})))
        assert named.code == 0 and named.json()["id"] == "new2", (named.out, named.err)
        assert m.cli("dlq", "edit", "other", "neg1", input='{"id": 7}').code == 65
        assert m.cli("dlq", "edit", "other", "nobody", input=json.dumps(event("x"))).code == 3
        assert m.counts("other")["dead_letters"] == 2
        human = m.cli("dlq", "edit", "other", "neg1", input=json.dumps(copy))
        assert human.code == 0 and "replaces offset %d" % letter["offset"] in human.out, human.out


def test_a_rejected_message_is_mended_and_enters():
    with Instance({"sources": {"lines": {"file": {"path": "in.jsonl"}}},
                   "workers": {"w": {"exec": {"command": ["true"]}}},
                   "subscriptions": {"s": {"to": "w"}}}, {"in.jsonl": "this is no event\n"}) as m:
        letter = wait_until("the letter", lambda: m.letters("ingest:lines"))[0]
        assert letter["class"] == "rejected", letter
        done = m.cli("dlq", "edit", "ingest:lines", letter["offset"], input=json.dumps(event("good")))
        assert done.code == 0, (done.out, done.err)
        m.wait_state("good", "s", "done")
        assert m.trace("good")["source"] == "lines"
        assert m.letters("ingest:lines") == []


def test_growing_dead_letters_are_an_event():
    with Instance({"dlq_growth": "1s", "sources": {"in": http_source()},
                   "workers": {"w": {"process": {"command": ["python3", "w.py"]}},
                               "tell": {"exec": {"command": ["./tell.sh"]}}},
                   "subscriptions": {"s": {"source": "in", "to": "w"},
                                     "alert": {"filter": {"prefix": {"type": "io.millrace.dlq."}},
                                               "to": "tell"}}},
                  {"w.py": HANDLER, "tell.sh": "#!/bin/sh\ncat >> told\necho >> told\n"}) as m:
        posted = []

        def told():
            return json_lines(m.folder / "told")

        def more_is_told(than):
            posted.append("bad%d" % len(posted))
            m.post(event(posted[-1]))
            return len(told()) > than
        wait_until("an event", lambda: more_is_told(0))
        wait_until("all told", lambda: told()[-1]["data"]["dead_letters"] == len(posted))
        for one in told():
            assert one["type"] == "io.millrace.dlq.growing" and one["subject"] == "s", one
            assert one["data"]["subscription"] == "s" and one["data"]["grown_by"] > 0, one
            assert one["data"]["since"] < one["time"], one
        assert sum(one["data"]["grown_by"] for one in told()) <= len(posted)
        # What shrinks is no event; what grows again is the next.
        before = len(told())
        assert m.cli("dlq", "purge", "s", "--yes").code == 0
        wait_until("another event", lambda: more_is_told(before))
        assert told()[before]["data"]["dead_letters"] < len(posted)


def test_a_hundred_thousand_in_bounded_memory():
    count = 100000
    with Instance({"sources": {"lines": {"file": {"path": "in.jsonl"}}},
                   "workers": {"w": {"exec": {"command": ["true"]}}},
                   "subscriptions": {"s": {"to": "w"}}},
                  {"in.jsonl": "".join("line %d is no event\n" % i for i in range(count))}) as m:
        wait_until("the first is refused", lambda: m.cli("sub", "show", "ingest:lines").code == 0)
        wait_until("all refused", lambda: m.counts("ingest:lines")["dead_letters"] == count, 200)
        with tempfile.TemporaryFile() as out:
            # A sanitizer keeps what was freed for a while: not for long here.
            env = {**os.environ, "ASAN_OPTIONS": "quarantine_size_mb=1:thread_local_quarantine_size_kb=64"}
            process = subprocess.Popen([MILLRACE, "dlq", "list", "ingest:lines", "-c", str(m.path)],
                                       stdout=out, stdin=subprocess.DEVNULL, env=env)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = status
            assert status == 0
            out.seek(0)
            assert sum(1 for _ in out) == count + 1
        assert used.ru_maxrss < 100 * 1024, "%d KiB" % used.ru_maxrss
        groups = m.ask_lines("dlq", "groups", "ingest:lines")
        assert sum(g["count"] for g in groups) == count, groups
        assert {g["class"] for g in groups} == {"rejected"}, groups
        few = m.ask_lines("dlq", "list", "ingest:lines", "--limit", "3", "--after", str(count - 2))
        assert len(few) == 2, few
        dry = m.cli("dlq", "purge", "ingest:lines", "--dry-run")
        assert dry.out.endswith("%d picked, 0 refused\n" % count), dry.out[-200:]


if __name__ == "__main__":
    main()
