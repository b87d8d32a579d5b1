"""kill -9 of the real program at each step of taking HTTP requests in: before the append, between
the durable write and the 202, right before and after the 202 left. What was answered 202 is there
after the restart, what was not is sent again, and a repeated request has the same id."""
import os
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
from senders import Senders
from support import Instance, Skip, http_source, json_lines, main, wait_until

ANSWER = "0:" + b"HTTP/1.1 202".hex()


def config():
    return {"sources": {"in": http_source("/in", adapter="generic")},
            "sinks": {"out": {"file": {"path": "out.jsonl"}}}, "subscriptions": {"s": {"to": "out"}}}


def arrived(m):
    return [e["id"] for e in json_lines(m.folder / "out.jsonl")]


def die_at(step, moments):
    shim = os.environ.get("MR_STEPS")
    if not shim:
        raise Skip("no shim to die with: a sanitizer build")
    with Instance(config(), start=False) as m:
        arm = m.folder / "arm"
        for at in moments:
            m.env = {"LD_PRELOAD": shim, "MR_STEP": step, "MR_STEP_AT": str(at),
                     "MR_STEP_ARM": str(arm), "MR_STEP_ACK": ANSWER}
            m.start()
            arm.touch()
            senders = Senders(lambda: ("127.0.0.1", m.port), "%s%d" % (step, at))
            try:
                assert m.process.wait(30) == -signal.SIGKILL, m.process.returncode
                m.process.stdout.close()
                arm.unlink()
                m.env = {}
                m.start()  # on another port: the senders look it up
                senders.finish()
                wait_until("all of %s %d" % (step, at), lambda: senders.wanted() <= set(arrived(m)))
            finally:
                senders.over.set()
            assert senders.repeated > 0, "nobody noticed the kill"
            assert m.metrics()["millrace_conservation_ok"] == 1
            assert m.stop() == 0
            m.process.stdout.close()
        ids = arrived(m)
        print("    %d kills, %d of %d events came twice" % (len(moments), len(ids) - len(set(ids)), len(ids)))
        return len(ids) - len(set(ids))


def test_killed_before_the_append():
    die_at("append", (1, 2, 5))


def test_killed_between_the_durable_write_and_the_202():
    die_at("durable", (1, 2, 5))


def test_killed_before_a_202_leaves():
    assert die_at("ack", (1, 20, 60)) > 0  # durable, and the sender does not know


def test_killed_after_a_202_left():
    die_at("acked", (1, 20, 60))


if __name__ == "__main__":
    main()
