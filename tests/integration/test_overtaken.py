"""What a later event of a lane does to the earlier ones: keep, debounce, when_busy, cancel_on."""
import signal

from support import Instance, event, http_source, main, python, wait_until

# Handles at once, but for an event with data.wait: until it is cancelled or the file `go` is there.
WORKER = python("def handle(event, ctx):\n"
                "    with open('seen', 'a') as f:\n"
                "        f.write(event['id'] + '\\n')\n"
                "    data = event.get('data') or {}\n"
                "    while data.get('wait') and not os.path.exists('go'):\n"
                "        if ctx.cancelled:\n"
                "            open('cancelled-' + event['id'], 'w').close()\n"
                "            return None\n"
                "        select.select([], [], [], 0.01)\n"
                "    if data.get('fail'):\n"
                "        raise millrace.Retry('not now')")


def lanes(**policy):
    config = {"sources": {"in": http_source()},
              "workers": {"w": {"process": {"command": ["python3", "w.py"]}, "concurrency": 1,
                                "scale": {"min": 3, "max": 3}}},
              "subscriptions": {"s": {"to": "w", "order_by": "subject", **policy}}}
    return Instance(config, {"w.py": WORKER})


def post(m, *ids, lane="a", **more):
    m.post([event(id, subject=lane, **more) for id in ids])


def seen(m):
    path = m.folder / "seen"
    return path.read_text().split() if path.exists() else []


def dropped(m, id, reason):
    delivery = m.wait_state(id, "s", "dropped")
    assert reason in delivery["reason"], delivery


def running(m, id):
    post(m, id, data={"wait": True})
    wait_until(id + " to run", lambda: id in seen(m))


def test_the_latest_is_kept():
    with lanes(keep="latest") as m:
        running(m, "first")
        post(m, "e1", "e2", "e3")
        post(m, "other", lane="b")
        m.wait_state("other", "s", "done")
        for id in ("e1", "e2"):
            dropped(m, id, "a later event of its lane came")
        assert m.delivery("e3", "s")["blocked_on"] == "lane head"
        (m.folder / "go").touch()
        m.wait_state("e3", "s", "done")
        m.wait_state("first", "s", "done")
        assert seen(m) == ["first", "other", "e3"], seen(m)
        assert "the latest is kept" in m.cli("explain", "s").out


def test_one_that_waits_for_its_retry_is_outdated_too():
    with lanes(keep="latest", retry={"schedule": ["1h"]}) as m:
        post(m, "old", data={"fail": True})
        wait_until("the first attempt", lambda: m.delivery("old", "s")["attempts"])
        post(m, "new")
        m.wait_state("new", "s", "done")
        dropped(m, "old", "a later event of its lane came")


def test_debounce_delivers_the_latest_once_it_is_quiet():
    with lanes(debounce="400ms") as m:
        for n in range(30):
            post(m, "a%d" % n)
            post(m, "b%d" % n, lane="b")
        for lane in "ab":
            m.wait_state(lane + "29", "s", "done")
        for id in seen(m):  # a slow machine may have made a pause in between
            assert m.delivery(id, "s")["state"] == "done", id
        wait_until("the others to be dropped", lambda: m.counts("s")["waiting"] == 0)
        counts = m.counts("s")
        assert counts["done"] == len(seen(m)) and counts["done"] + counts["dropped"] == 60, counts
        assert {"a29", "b29"} <= set(seen(m)) and counts["dropped"] > 0, seen(m)


def test_what_comes_while_its_lane_is_busy_is_skipped():
    with lanes(when_busy="skip") as m:
        running(m, "first")
        post(m, "e1", "e2")
        for id in ("e1", "e2"):
            dropped(m, id, "its lane was busy")
        (m.folder / "go").touch()
        m.wait_state("first", "s", "done")
        post(m, "e3")
        m.wait_state("e3", "s", "done")
        assert seen(m) == ["first", "e3"], seen(m)


def test_what_runs_is_replaced():
    with lanes(when_busy="replace") as m:
        running(m, "first")
        post(m, "other", lane="b", data={"wait": True})
        wait_until("the other lane to run", lambda: "other" in seen(m))
        post(m, "e1", "e2")
        m.wait_state("e2", "s", "done")
        dropped(m, "first", "replaced by a later event")
        wait_until("the handler to know", lambda: (m.folder / "cancelled-first").exists())
        assert m.delivery("other", "s")["state"] == "in flight"
        (m.folder / "go").touch()
        m.wait_state("other", "s", "done")


def test_an_event_cancels_what_is_before_it():
    alert, resolved = "io.alert.firing", "io.alert.resolved"
    with lanes(filter={"exact": {"type": alert}}, cancel_on={"exact": {"type": resolved}},
               retry={"schedule": ["1h"]}) as m:
        post(m, "page", type=alert, data={"fail": True})
        post(m, "page-again", type=alert)
        post(m, "elsewhere", type=alert, lane="b", data={"fail": True})
        for id in ("page", "elsewhere"):
            wait_until("an attempt of " + id, lambda: m.delivery(id, "s")["attempts"])
        m.process.send_signal(signal.SIGKILL)
        m.process.wait()
        m.process.stdout.close()
        m.start()
        post(m, "over", type=resolved)
        for id in ("page", "page-again"):
            dropped(m, id, "cancelled by a later event of its lane")
        dropped(m, "over", "it cancelled what was before it")
        m.wait_state("elsewhere", "s", "waiting")  # tried again, if the kill came before its answer
        why = m.cli("why", "over", "s").out
        assert "dropped" in why and "cancel" in why, why
        post(m, "runs", type=alert, data={"wait": True})
        wait_until("it to run", lambda: "runs" in seen(m))
        post(m, "over-too", type=resolved)
        dropped(m, "runs", "cancelled by a later event of its lane")
        wait_until("the handler to know", lambda: (m.folder / "cancelled-runs").exists())
        post(m, "next", type=alert)
        m.wait_state("next", "s", "done")
        assert not {"over", "over-too", "page-again"} & set(seen(m)), seen(m)


if __name__ == "__main__":
    main()
