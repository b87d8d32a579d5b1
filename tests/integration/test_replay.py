"""replay: past events to a subscription again."""
import signal

from support import Instance, cli, event, http_source, main, python, wait_until, whole_lines

# Writes down what it gets.
WORKER = python("def handle(event, ctx):\n"
                "    with open('seen', 'a') as f:\n"
                "        f.write('%s %s %s\\n' % (event['source'], event['id'], event.get('mrreplay')))")


def shop(**more):
    config = {"sources": {"in": http_source(), "other": http_source("/other")},
              "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
              "subscriptions": {"orders": {"to": "w", "order_by": "source",
                                           "filter": {"prefix": {"type": "order."}}},
                                "rest": {"to": "none", "filter": {"prefix": {"type": "alert."}}}},
              "sinks": {"none": {"file": {"path": "none"}}}, **more}
    return Instance(config, {"w.py": WORKER})


def seen(m):
    return [line.split() for line in whole_lines(m.folder / "seen")]


def orders(m, first, count, path="/events"):
    m.post([event("o%d" % n, "order.new", data={"n": n}) for n in range(first, first + count)],
           path=path)


def replay(m, *arguments):
    result = m.cli("replay", "orders", *arguments, "-o", "json")
    assert result.code == 0, (result.code, result.out, result.err)
    return result.json()


def test_events_come_again_in_order_and_marked():
    with shop() as m:
        orders(m, 0, 5)
        m.post(event("a1", "alert.disk"))
        wait_until("all", lambda: m.counts("orders")["done"] == 5 and m.counts("rest")["done"] == 1)
        assert replay(m, "--last", "1h", "--dry-run")["replayed"] == 5 and len(seen(m)) == 5
        told = replay(m, "--last", "1h")
        assert (told["replayed"], told["examined"], told["more"]) == (5, 6, False), told
        wait_until("them again", lambda: m.counts("orders")["done"] == 10)
        assert seen(m)[5:] == [["/test", "o%d" % n, str(n + 1)] for n in range(5)], seen(m)
        assert m.counts("rest")["done"] == 1  # for this subscription alone
        assert m.trace("o4")["event"]["mrreplay"] == "5"
        # A replay is not replayed; what is narrowed is.
        assert replay(m, "--last", "1h", "-n", "2")["replayed"] == 2
        assert replay(m, '{"data":{"exact":{"n":"3"}}}', "--last", "1h")["replayed"] == 1
        assert replay(m, "--last", "1h", "--after", "3", "--before", "5")["replayed"] == 1
        wait_until("these", lambda: m.counts("orders")["done"] == 14)
        assert [line[1] for line in seen(m)[10:]] == ["o0", "o1", "o3", "o3"], seen(m)
        actions = [r for r in m.ask_lines("log", "dump", m.folder / "data") if r["kind"] == "operator"]
        assert "replay" in str(actions), actions


def test_many_segments_a_rate_and_a_crash():
    with shop(log={"segment_size": "1MiB"}) as m:
        for k in range(30):
            m.post([event("%d-%d" % (k, n), "order.new", data="x" * 4000) for n in range(40)],
                   path="/other" if k % 2 else "/events")
        wait_until("all", lambda: m.counts("orders")["done"] == 1200, 60)
        m.post(event("last", "other"))  # durable behind their ends: none is handled again
        m.stop(signal.SIGKILL)
        m.start()
        first = replay(m, "--last", "1h", "-n", "500", "--rate", "4000/s")
        assert first["replayed"] == 500 and first["more"], first
        again = m.cli("replay", "orders", "--last", "1h", "-n", "500")
        assert "go on with --since" in again.err and "500 of 500 events" in again.out, again.err
        rest = replay(m, "--last", "1h", "--after", str(first["after"]), "--before",
                      str(first["before"]))
        assert (rest["replayed"], rest["more"]) == (700, False), rest
        wait_until("them again", lambda: m.counts("orders")["done"] == 2900, 60)
        ids = ["%d-%d" % (k, n) for k in range(30) for n in range(40)]
        assert [line[1] for line in seen(m)[1200:]] == ids[:500] + ids[:500] + ids[500:]
        assert replay(m, "--last", "1h", "--source", "other", "--dry-run")["replayed"] == 600


def test_what_is_wrong_is_said():
    with shop() as m:
        for arguments, code, text in ((["orders"], 2, "--last or --since"),
                                      (["nobody", "--last", "1h"], 3, "nobody"),
                                      (["orders", "--last", "soon"], 65, "soon"),
                                      (["orders", "--since", "x"], 65, "since"),
                                      (["orders", "--last", "1h", "--until", "x"], 65, "until"),
                                      (["orders", "--last", "1h", "--source", "no"], 3, "no source"),
                                      (["orders", "{", "--last", "1h"], 65, ""),
                                      (["orders", "--last", "1h", "--rate", "x"], 2, "--rate"),
                                      (["orders", "--last", "1h", "--after", "x"], 2, "--after")):
            result = m.cli("replay", *arguments)
            assert result.code == code and text in result.err, (arguments, result.code, result.err)
        path = "/api/v1/subscriptions/orders/replay?last=1h&limit=1001"
        assert m.api("POST", path, {})[0] == 400
        assert replay(m, "--last", "1h")["replayed"] == 0
    assert cli("replay", "--help").code == 0


if __name__ == "__main__":
    main()
