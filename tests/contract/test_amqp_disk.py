"""A RabbitMQ whose disk is short (it blocks those who publish) or full to the last byte (parts of it
break): the sink waits and delivers all in the end, the source goes on or comes back. The broker's
data lie on a small file system of the test's own, which needs root."""
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("crash", "integration", "support")]
import mounts
from mosquitto import Arrived
from rabbit import Broker, to_file
from support import Instance, event, http_source, main, wait_until

disk = mounts.SmallDisk(64 << 20)
JOBS = ("jobs-classic", "jobs-quorum")
RESULTS = ("results-classic", "results-quorum")


class SmallDiskBroker(Broker):
    """With its data on a small file system."""

    def __enter__(self):
        disk.__enter__()
        return super().__enter__()

    def start(self):
        data = pathlib.Path(self.folder) / "mnesia"
        if not data.is_symlink():
            data.symlink_to(disk.path)
        super().start()

    def __exit__(self, *what):
        super().__exit__(*what)
        disk.__exit__()

    def free(self):
        """What of the broker survived a full disk differs: it is started again, as one would."""
        disk.free()
        self.run("stop")
        self.start()


def to_broker(broker, *queues):
    """A configuration that publishes each event to each of the queues."""
    return {"sources": {"in": http_source()},
            "sinks": {queue: {"amqp": {"url": broker.url, "routing_key": queue, "heartbeat": "2s"},
                              "timeout": "5s", "breaker": {"percent": 0}} for queue in queues},
            "subscriptions": {queue: {"to": queue, "retry": {"schedule": ["500ms"] * 64}}
                              for queue in queues}}


def sinks(m):
    return m.ask_lines("worker", "list")


def post(m, first, count, size):
    for start in range(first, first + count, 20):
        m.post([event("e%d" % n, data={"n": n, "text": "x" * size})
                for n in range(start, start + 20)])


def test_short_disk_blocks_the_sink_and_not_the_source():
    with Broker() as broker:
        broker.declare("results", "jobs")
        broker.publish("jobs", range(500))
        with Instance(to_broker(broker, "results")) as m:
            post(m, 0, 100, 100)
            wait_until("the first", lambda: m.counts("results")["done"] == 100)
            broker.run("ctl", "set_disk_free_limit", "100000GB")
            post(m, 100, 300, 100)
            wait_until("the sink to be blocked",
                       lambda: "short of memory or disk" in (sinks(m)[0]["last_error"] or ""))
            with Instance(to_file(broker, "jobs")) as reader:  # consuming goes on
                arrived = Arrived(reader)
                wait_until("all jobs", lambda: arrived.has(set(range(500))), 60)
                wait_until("their acknowledgement", lambda: broker.queues()["jobs"] == [0, 0])
            counts = m.counts("results")
            assert counts["done"] < 400 and counts["dead"] == 0, counts
            broker.run("ctl", "set_disk_free_limit", "1MB")
            wait_until("the rest", lambda: m.counts("results")["done"] == 400, 60)
            wait_until("the sink to be well", lambda: sinks(m)[0]["health"] == "ok")
            ready = broker.queues()["results"][0]
            assert len(set(broker.take("results", ready))) == 400
            print("    %d repeated" % (ready - 400))


def from_queues(broker):
    """A configuration that makes the queues of both kinds and consumes the jobs."""
    config = to_file(broker, "jobs")
    config["sources"] = {name: {"amqp": {"url": broker.url, "queue": name, "heartbeat": "2s",
                                         "declare": {"type": name.split("-")[1]}}}
                         for name in JOBS + RESULTS}
    return config


def fill_confirmed(broker, queue, first, count):
    """Only what the broker confirmed may it not lose; the sink settles what is confirmed."""
    with Instance(to_broker(broker, queue)) as m:
        post(m, first, count, 10)
        wait_until("confirms of " + queue, lambda: m.counts(queue)["done"] == count, 60)


def test_full_disk_is_survived():
    """The broker's own guard is as good as off: nothing warns before the last byte."""
    with SmallDiskBroker(EXTRA="disk_free_limit.absolute = 1KB") as broker, \
            Instance(from_queues(broker), start=False) as reader:
        reader.start()
        wait_until("the queues", lambda: all(
            s["health"] == "ok" for s in reader.ask_lines("source", "list")))
        for queue in JOBS + RESULTS:
            reader.ask("source", "pause", queue)
        fill_confirmed(broker, "jobs-classic", 0, 500)
        fill_confirmed(broker, "jobs-quorum", 500, 500)
        with Instance(to_broker(broker, *RESULTS)) as m:
            def done(count):
                return all(m.counts(queue)["done"] == count for queue in RESULTS)
            arrived = Arrived(reader)
            post(m, 0, 60, 1000)
            wait_until("the first", lambda: done(60))
            disk.fill()
            for queue in JOBS:
                reader.ask("source", "resume", queue)
            post(m, 60, 200, 100_000)
            wait_until("the trouble", lambda: any(s["health"] != "ok" for s in sinks(m)) or
                       any(m.counts(queue)["attempts"]["retry"] for queue in RESULTS), 60)
            broker.free()
            wait_until("the rest", lambda: done(260), 90)
            wait_until("the jobs", lambda: arrived.has(set(range(1000))), 60)
            for queue in RESULTS:
                # The count of a quorum queue comes late.
                wait_until("260 in " + queue, lambda: broker.queues()[queue][0] >= 260)
                ready = broker.queues()[queue][0]
                there = {json.loads(body)["n"] for body in broker.take(queue, ready)}
                assert there == set(range(260)), (queue, sorted(set(range(260)) - there))
                print("    %s: %d repeated" % (queue, ready - 260))


if __name__ == "__main__":
    mounts.skip_without_namespace()
    main()
