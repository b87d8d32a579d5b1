"""Sealed segments have their footers, also after kill -9, and after these were damaged or lost."""
import json
import signal

from support import Instance, cli, event, flip, http_source, main, wait_until


def config():
    return {"sources": {"in": http_source()}, "sinks": {"out": {"file": {"path": "out"}}},
            "subscriptions": {"s": {"to": "out"}},
            "log": {"segment_size": "1MiB", "retain_size": "1GiB"}}


def fill(m, first, segments):
    """Sends events until there are so many segments; how many there were."""
    n = first
    while m.ask("status")["log"]["segments"] < segments:
        for _ in range(4):
            sent = event("e%d" % n, data="x" * 100_000)
            assert m.http("POST", "/events", json.dumps(sent),
                          {"Content-Type": "application/cloudevents+json"})[0] == 202
            n += 1
        assert n < 2000
    return n


def all_footed(m):
    log = m.ask("status")["log"]
    return log["footers_pending"] == 0 and log["footers"] > 0 and log["footers"]


def footers(m):
    return sorted((m.folder / "data" / "log").glob("foot-*"))


def verify(m):
    result = cli("log", "verify", m.folder / "data", "-o", "json")
    assert result.code == 0, (result.out, result.err)
    lines = result.lines()
    return [line for line in lines if line.get("damage") == "footer"], lines[-1]


def test_footers_come_back():
    with Instance(config()) as m:
        n = fill(m, 0, 12)
        wait_until("footers", lambda: all_footed(m))
        wait_until("all to be done", lambda: m.counts("s")["done"] == n)
        assert m.ask("status")["log"]["footer_failures"] == 0
        m.stop(signal.SIGKILL)
        there = footers(m)
        assert len(there) >= 8, there
        damaged, summary = verify(m)
        assert damaged == [] and summary["footers"] == len(there), summary
        before = [path.read_bytes() for path in there]
        flip(there[0], 5000)
        there[1].unlink()
        there[2].write_bytes(before[2][:4096])
        there[3].write_bytes(before[4])
        for ids in (m.folder / "data" / "log").glob("ids-*"):
            flip(ids, 5000)
            assert "is damaged: nothing is lost" in cli("log", "verify", m.folder / "data").out
        damaged, summary = verify(m)
        assert {line["file"] for line in damaged} >= {there[i].name for i in (0, 2, 3)}, damaged
        assert summary["footers_missing"] >= 1 and summary["footers_damaged"] >= 3, summary
        m.start()
        fill(m, n, m.ask("status")["log"]["segments"] + 1)
        wait_until("footers", lambda: all_footed(m))
        assert m.stop() == 0
        assert [path.read_bytes() for path in there] == before
        assert [line for line in verify(m)[0] if line["file"].startswith("foot-")] == []


if __name__ == "__main__":
    main()
