"""Logs of earlier releases open, say the same and fold to the same state."""
import json
import shutil

from support import ROOT, Instance, cli, main, wait_until

GOLDEN = ROOT / "tests" / "data" / "golden-program-0.1"
STATE = {
    "orders": {"matched": 5, "done": 3, "dead": 1, "waiting": 1, "held": 0, "lost": 0},
    "held": {"matched": 1, "done": 0, "dead": 0, "waiting": 0, "held": 1, "lost": 0},
    "orders/on_failure/out": {"matched": 1, "done": 1, "dead": 0, "waiting": 0, "held": 0, "lost": 0},
}


def config():
    """The configuration the log itself holds, on a free port. Its retry was due an hour after it was
    written: with one wait more it waits again, however long ago that is."""
    rows = [json.loads(line) for line in (GOLDEN / "dump.jsonl").read_text().splitlines()]
    found = [json.loads(row["config"]) for row in rows if row["kind"] == "config"]
    config = dict(found[-1], listen="127.0.0.1:0")
    config["subscriptions"]["orders"]["retry"]["schedule"] = ["1h", "1h"]
    return config


def counts(m):
    rows = {row["name"]: row for row in m.ask_lines("sub", "list")}
    return {name: row.get("counts", row) for name, row in rows.items()}


def test_golden_log_is_whole_and_says_the_same():
    verify = cli("log", "verify", GOLDEN)
    assert verify.code == 0, (verify.out, verify.err)
    dump = cli("log", "dump", GOLDEN, "-o", "json")
    assert dump.code == 0 and dump.out == (GOLDEN / "dump.jsonl").read_text(), dump.err


def test_golden_log_folds_to_the_same_state():
    with Instance(config(), start=False) as m:
        log = m.folder / "data" / "log"
        log.mkdir(parents=True, mode=0o700)
        for segment in GOLDEN.glob("seg-*"):
            shutil.copy(segment, log)
        m.start()
        wait_until("the second attempt", lambda: counts(m)["orders"]["attempts"]["retry"] == 1)
        now = counts(m)
        for name, wanted in STATE.items():
            assert {key: now[name][key] for key in wanted} == wanted, (name, now[name])
        letters = m.ask_lines("dlq", "list", "orders")
        assert [letter["id"] for letter in letters] == ["dead-1"], letters
        assert m.trace("ok-1")["deliveries"][0]["state"] == "done"
        m.post({"specversion": "1.0", "id": "ok-9", "source": "/gold", "type": "com.example.order"})
        wait_until("the next one", lambda: m.delivery("ok-9", "orders")["state"] == "done")
        assert m.trace("ok-9")["offset"] == 8  # 7 were there


if __name__ == "__main__":
    main()
