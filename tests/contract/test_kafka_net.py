"""The real program and a real Kafka with a wire between them that is cut, slow, lossy or resetting:
each record enters the log once and each event goes out. Producers and readers are at the broker's
side."""
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
import netlab
from support import Instance, event, main, wait_until
from kafka import Cluster, Flow, logged, reading, source_of, wanted

net = None
kafka = None
PARTITIONS = 4
QUICK = {"socket.timeout.ms": "4000", "socket.connection.setup.timeout.ms": "2000",
         "reconnect.backoff.max.ms": "1000"}
SESSION_MS = 6000
STAYS_MS = 120000  # for a member that must not be given up, however slow this machine is


class Wired:
    """Topics of its own, and an instance that copies one, and what it is posted, to the other."""

    def __init__(self, name, session_ms=SESSION_MS):
        self.name = name
        self.group = {"session.timeout.ms": str(session_ms), "heartbeat.interval.ms": "500", **QUICK}
        self.posted = self.sent = 0

    def __enter__(self):
        net.heal()
        with net.far():
            kafka.topic(self.name, PARTITIONS)
            kafka.topic(self.name + "-out", PARTITIONS)
        config = {
            "sources": {"orders": {"kafka": {"brokers": kafka.plain, "topics": self.name,
                                             "group": self.name, "prefetch": "4MiB",
                                             "librdkafka": self.group}},
                        "h": {"http": {"path": "/events"}}},
            "sinks": {"out": {"kafka": {"brokers": kafka.plain, "topic": self.name + "-out",
                                        "buffer": "4MiB", "librdkafka": QUICK}, "timeout": "5s"}},
            "subscriptions": {"all": {"to": "out", "retry": {"schedule": ["1s"] * 60}}},
            "log": {"cache_size": "4MiB", "segment_size": "4MiB"},
        }
        self.m = Instance(config)
        self.m.__enter__()
        wait_until("the partitions", lambda: reading(self.m, partitions=PARTITIONS), 60)
        return self

    def __exit__(self, *what):
        net.heal()
        self.m.__exit__(*what)

    def flow(self, count=4000, per_second=1000, size=100):
        self.sent += count
        flow = Flow(kafka, self.name, count, per_second, size, net.far)
        flow.start()
        return flow

    def post(self, count=100):
        """Events from our side, for the sink."""
        first, self.posted = self.posted, self.posted + count
        self.m.post([event("e%d" % n, data=n) for n in range(first, first + count)])

    def sink(self):
        return self.m.ask_lines("worker", "list")[0]

    def both_notice(self):
        begin = time.monotonic()
        wait_until("the source to notice", lambda: source_of(self.m)["health"] != "ok", 60)
        wait_until("the sink to notice", lambda: self.sink()["health"] != "ok", 60)
        return "noticed after %.1f s" % (time.monotonic() - begin)

    def peak_mib(self):
        status = pathlib.Path("/proc/%d/status" % self.m.process.pid).read_text()
        return int(status.split("VmHWM:")[1].split()[0]) >> 10

    def all_is_through(self):
        """Each record once in the log, each event at least once in the other topic, all well."""
        begin = time.monotonic()
        total = self.sent + self.posted
        with net.far():
            ends = kafka.ends(self.name)
        assert sum(ends) == self.sent, ends

        def committed():
            with net.far():
                return kafka.committed(self.name, self.name, PARTITIONS) == ends
        wait_until("all in the log and committed", committed, 90)
        wait_until("all delivered", lambda: self.m.counts("all")["done"] == total, 90)
        seconds = time.monotonic() - begin
        wait_until("both to be well", lambda: reading(self.m) and self.sink()["health"] == "ok", 60)
        assert self.m.counts("all")["dead"] == 0, self.m.counts("all")
        peak, limit = self.peak_mib(), self.m.ask("check")["memory_max"]["sum"] >> 20
        assert peak <= limit, (peak, limit)
        assert self.m.stop() == 0
        self.m.process.stdout.close()
        times = logged(self.m)
        ids = wanted(ends) + ["e%d" % n for n in range(self.posted)]
        assert sorted(id for _, id in times) == sorted(ids), (len(times), total)
        assert set(times.values()) == {1}, times.most_common(3)
        with net.far():
            copies = [dict(r.headers())["ce_id"].decode()
                      for r in kafka.read(self.name + "-out", total)]
        assert set(copies) == set(ids), (len(set(copies)), total)
        return "all through after %.1f s, %d copies twice, %d MiB of %d" % (
            seconds, len(copies) - total, peak, limit)

    def rebalances(self):
        return self.m.log.read_text().count("partitions given")


def test_partition_under_load_loses_nothing():
    with Wired("partition") as w:
        flow = w.flow(12000, 3000, 1000)
        flow.until(3000)
        wait_until("the flow", lambda: w.m.counts("all")["done"] > 0)
        net.partition()
        w.post()
        noticed = w.both_notice()
        w.post()
        flow.finish()
        net.heal()
        print("    %s; %s" % (noticed, w.all_is_through()))


def test_short_partition_is_ridden_out():
    with Wired("short", STAYS_MS) as w:
        flow = w.flow()
        flow.until(1000)
        net.partition()
        w.post()
        flow.until(2500)
        net.heal()
        flow.finish()
        print("    " + w.all_is_through())
        assert w.rebalances() == 1, w.rebalances()


def test_slow_link_with_delay_delivers_all_as_one_member():
    with Wired("slow", STAYS_MS) as w:
        net.rate(120_000)
        net.delay(0.05)
        w.post()
        w.flow(2500).finish()
        print("    %s at 120 kB/s, 100 ms round trip" % w.all_is_through())
        assert w.rebalances() == 1, w.rebalances()


def test_lossy_link_loses_nothing():
    with Wired("lossy") as w:
        net.lose(0.05)
        w.post()
        w.flow(3000).finish()
        print("    %s with 5 %% of the frames lost" % w.all_is_through())


def test_resets_under_load_lose_nothing():
    with Wired("resets") as w:
        flow = w.flow(6000)
        for sent in (1000, 2500, 4000):
            flow.until(sent)
            net.reset()
            w.post()
            w.both_notice()
            net.heal()
            wait_until("both to be back",
                       lambda: reading(w.m) and w.sink()["health"] == "ok", 60)
        flow.finish()
        print("    " + w.all_is_through())


def test_half_open_broker_gone_unseen_is_noticed():
    """The broker dies behind a cut wire: nothing tells us, and the new one knows no connection."""
    with Wired("gone") as w:
        w.flow(1000).finish()
        wait_until("a thousand", lambda: w.m.counts("all")["done"] == 1000)
        net.partition()
        with net.far():
            kafka.do("kill", 1)
        net.forget()
        with net.far():
            kafka.do("restart", 1)
        w.post()
        w.flow(1000).finish()
        net.heal()
        print("    " + w.all_is_through())


def test_half_open_millrace_gone_unseen_is_replaced():
    """Millrace dies behind a cut wire: the group holds its old member until the session is over."""
    with Wired("unseen") as w:
        flow = w.flow()
        flow.until(1500)
        net.partition()
        w.m.process.kill()
        w.m.process.wait()
        w.m.process.stdout.close()
        flow.finish()
        net.heal()
        w.m.start()
        print("    " + w.all_is_through())


if __name__ == "__main__":
    net = netlab.own()
    kafka = Cluster(HOST=net.FAR)
    net.enter(kafka)
    try:
        main()
    finally:
        kafka.__exit__()
