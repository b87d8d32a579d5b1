"""A Kafka whose disk is full to the last byte: it shuts down. The sink says so and keeps what it has,
the source waits; when there is room and the broker is back, all arrives. The broker's data lie on a
small file system of the test's own, which needs root."""
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("crash", "integration", "support")]
import mounts
from support import Instance, event, wait_until
from kafka import Cluster, logged, reading, run, source_of, wanted

disk = mounts.SmallDisk(64 << 20)
QUICK = {"socket.timeout.ms": "4000", "reconnect.backoff.max.ms": "1000"}
kafka = None


class SmallDiskCluster(Cluster):
    """Of one broker, with its data on a small file system."""

    def prepare(self):
        disk.__enter__()
        node = pathlib.Path(self.folder) / "node-1"
        node.mkdir()
        (node / "data").symlink_to(disk.path)

    def __exit__(self, *what):
        super().__exit__(*what)
        disk.__exit__()

    def free(self):
        """A broker without its log folder is gone, or good for nothing: it is started again."""
        disk.free()
        self.do("restart", 1)


def config():
    return {
        "sources": {"orders": {"kafka": {"brokers": kafka.plain, "topics": "orders", "group": "g",
                                         "librdkafka": {"session.timeout.ms": "6000", **QUICK}}},
                    "h": {"http": {"path": "/events"}}},
        "sinks": {"out": {"kafka": {"brokers": kafka.plain, "topic": "copies",
                                    "librdkafka": QUICK}, "timeout": "5s"}},
        "subscriptions": {"all": {"to": "out", "retry": {"schedule": ["1s"] * 60}}},
    }


def test_full_disk_is_survived():
    kafka.topic("orders", 4)
    kafka.topic("copies", 4)
    with Instance(config()) as m:
        def sink():
            return m.ask_lines("worker", "list")[0]

        def post(first, count):
            for start in range(first, first + count, 20):
                m.post([event("e%d" % n, data="x" * 50_000) for n in range(start, start + 20)])
        wait_until("the partitions", lambda: reading(m, partitions=4), 60)
        kafka.produce("orders", map(str, range(1000)))
        post(0, 20)
        wait_until("the first", lambda: m.counts("all")["done"] == 1020)
        disk.fill()
        post(20, 100)
        wait_until("the sink to notice", lambda: sink()["health"] != "ok" and sink()["last_error"],
                   60)
        wait_until("the source to notice", lambda: source_of(m)["health"] != "ok", 60)
        print("    full: sink \"%s\", source \"%s\"" %
              (sink()["last_error"], source_of(m)["last_error"]))
        counts = m.counts("all")
        assert counts["done"] < 1120 and counts["dead"] == 0, counts
        kafka.free()
        kafka.produce("orders", map(str, range(1000)))
        wait_until("the rest", lambda: m.counts("all")["done"] == 2120, 90)
        wait_until("both to be well", lambda: reading(m) and sink()["health"] == "ok", 60)
        ends = kafka.ends("orders")
        wait_until("the commits", lambda: kafka.committed("g", "orders", 4) == ends, 60)
        assert m.counts("all")["dead"] == 0, m.counts("all")
        assert m.stop() == 0
        m.process.stdout.close()
        times = logged(m)
        ids = wanted(ends) + ["e%d" % n for n in range(120)]
        assert sorted(id for _, id in times) == sorted(ids) and set(times.values()) == {1}
        copies = [dict(r.headers())["ce_id"].decode() for r in kafka.read("copies", 2120)]
        assert set(copies) == set(ids), len(set(copies))
        print("    %d copies came twice" % (len(copies) - 2120))


if __name__ == "__main__":
    mounts.skip_without_namespace()
    run(SmallDiskCluster())
