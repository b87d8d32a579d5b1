"""kill -9 of Millrace while the Kafka sink has records under way: each event that got its 202 is in the
topic in the end, and no other is."""
import collections
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
from kafka import Cluster, run
from support import Instance, event, http_source, wait_until

kafka = None


def test_killed_while_records_are_under_way():
    kafka.topic("out", 3)
    with Instance({"sources": {"in": http_source()},
                   "sinks": {"out": {"kafka": {"brokers": kafka.plain, "topic": "out"}}},
                   "subscriptions": {"s": {"to": "out"}}}) as m:
        ids = []
        for life in range(5):
            batch = ["e%d-%d" % (life, n) for n in range(1000)]
            ids += batch
            for first in range(0, 1000, 100):
                m.post([event(id, data="x" * 500) for id in batch[first:first + 100]])
            if life < 4:  # at once, while the last of them are on their way
                m.stop(signal.SIGKILL)
                m.process.stdout.close()
                m.start()
        wait_until("all settled", lambda: m.counts("s")["done"] == len(ids), 90)
        assert m.metrics()["millrace_conservation_ok"] == 1
    there = sum(kafka.ends("out"))
    came = collections.Counter(dict(r.headers())["ce_id"].decode() for r in kafka.read("out", there))
    assert came.keys() == set(ids), len(came)
    print("    %d events, %d records" % (len(ids), there))


if __name__ == "__main__":
    run(Cluster())
