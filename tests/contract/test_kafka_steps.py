"""kill -9 of the real program at each step of taking Kafka records in: before the append, between the
durable write and the commit, after the commit. Each record enters the log once."""
import os
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
from support import Instance, Skip, wait_until
from kafka import Cluster, logged, reading, run, source_of, wanted

# A killed member's partitions are free when its session is over.
QUICK = {"session.timeout.ms": "1500", "heartbeat.interval.ms": "300"}
kafka = None


def config(topic):
    return {
        "sources": {"orders": {"kafka": {"brokers": kafka.plain, "topics": topic, "group": topic,
                                         "librdkafka": QUICK}}},
        "sinks": {"lines": {"file": {"path": "out"}}},
        "subscriptions": {"all": {"to": "lines"}},
    }


def die_at(step, moments):
    shim = os.environ.get("MR_STEPS")
    if not shim:
        raise Skip("no shim to die with: a sanitizer build")
    kafka.topic(step, 3)
    sent = 0
    with Instance(config(step), start=False) as m:
        arm = m.folder / "arm"
        for at in moments:
            m.env = {"LD_PRELOAD": shim, "MR_STEP": step, "MR_STEP_AT": str(at),
                     "MR_STEP_ARM": str(arm), "MR_STEP_ACK": "4:0008"}
            m.start()
            wait_until("the partitions", lambda: reading(m, partitions=3))
            arm.touch()
            while m.process.poll() is None:  # small lots, so that there are many steps
                kafka.produce(step, ["%d" % n for n in range(sent, sent + 200)])
                sent += 200
            assert m.process.returncode == -signal.SIGKILL, m.process.returncode
            m.process.stdout.close()
            arm.unlink()
        m.env = {}
        m.start()
        ends = kafka.ends(step)
        assert sum(ends) == sent
        wait_until("all committed", lambda: kafka.committed(step, step, 3) == ends, 60)
        assert source_of(m)["lag"] == 0
        assert m.stop() == 0
        m.process.stdout.close()
        times = logged(m)
    print("    %d kills, %d records" % (len(moments), sent))
    assert sorted(id for _, id in times) == sorted(wanted(ends)), (len(times), sent)
    assert set(times.values()) == {1}, times.most_common(3)


def test_killed_before_the_append():
    die_at("append", (1, 2, 4))


def test_killed_between_the_durable_write_and_the_commit():
    die_at("durable", (1, 2, 4))


def test_killed_before_a_commit_leaves():
    die_at("ack", (1, 2))


def test_killed_after_a_commit_left():
    die_at("acked", (1, 2))


if __name__ == "__main__":
    run(Cluster())
