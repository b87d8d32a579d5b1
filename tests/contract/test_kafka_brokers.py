"""Three Kafka brokers that die, freeze and come back while records flow in and out, and two Millrace
that share a group under a backlog: nothing is lost, and each record enters one log once."""
import collections
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
from support import Instance, wait_until
from kafka import Cluster, Flow, logged, reading, run, source_of, wanted

QUICK = {"session.timeout.ms": "3000", "heartbeat.interval.ms": "500", "socket.timeout.ms": "5000"}
kafka = None


def config(topic, out=None):
    c = {
        "sources": {"orders": {"kafka": {"brokers": kafka.plain.split(","), "topics": topic,
                                         "group": topic, "librdkafka": QUICK}}},
        "sinks": {"out": {"kafka": {"brokers": kafka.plain.split(","), "topic": out,
                                    "librdkafka": {"socket.timeout.ms": "5000"}}} if out else
                  {"file": {"path": "out"}}},
        "subscriptions": {"all": {"to": "out"}},
    }
    return c


def test_brokers_die_and_freeze_while_records_flow():
    kafka.topic("orders", 6)
    kafka.topic("copies", 6)
    with Instance(config("orders", "copies")) as m:
        wait_until("the partitions", lambda: reading(m, partitions=6), 60)
        flow = Flow(kafka, "orders", 20000, 1000)
        flow.start()
        flow.until(4000)
        kafka.do("kill", 1)
        flow.until(8000)
        kafka.do("restart", 1)
        flow.until(11000)
        kafka.do("freeze", 2)
        flow.until(14000)
        kafka.do("thaw", 2)
        kafka.do("kill", 3)
        flow.until(17000)
        kafka.do("restart", 3)
        flow.finish()
        ends = kafka.ends("orders")
        assert sum(ends) == 20000
        wait_until("all in the log", lambda: source_of(m)["events"] >= 20000, 90)
        wait_until("all delivered", lambda: m.counts("all")["done"] >= 20000, 120)
        wait_until("all committed", lambda: kafka.committed("orders", "orders", 6) == ends, 60)
        print("    %s, dead %d" % (source_of(m)["last_error"], m.counts("all")["dead"]))
        assert m.stop() == 0
        m.process.stdout.close()
        times = logged(m)
    assert sorted(id for _, id in times) == sorted(wanted(ends)), len(times)
    assert set(times.values()) == {1}, times.most_common(3)
    copies = collections.Counter(dict(r.headers())["ce_id"] for r in kafka.read("copies", 20000))
    assert len(copies) == 20000
    print("    %d copies came twice" % (sum(copies.values()) - len(copies)))


def test_all_brokers_away_and_back():
    kafka.topic("away", 3)
    with Instance(config("away")) as m:
        wait_until("the partitions", lambda: reading(m, partitions=3), 60)
        kafka.produce("away", map(str, range(1000)))
        wait_until("a thousand", lambda: source_of(m)["events"] == 1000)
        for n in (1, 2, 3):
            kafka.do("kill", n)
        wait_until("the source to say so", lambda: source_of(m)["health"] == "down", 60)
        for n in (1, 2, 3):
            kafka.do("restart", n)
        kafka.produce("away", map(str, range(1000, 2000)))
        wait_until("the second thousand", lambda: source_of(m)["events"] == 2000, 90)
        wait_until("health", lambda: reading(m), 60)
        ends = kafka.ends("away")
        assert m.stop() == 0
        m.process.stdout.close()
        times = logged(m)
    assert sorted(id for _, id in times) == sorted(wanted(ends)) and set(times.values()) == {1}


def test_a_second_millrace_joins_under_a_backlog():
    kafka.topic("shared", 6)
    kafka.produce("shared", (str(n).zfill(300) for n in range(200000)))
    ends = kafka.ends("shared")
    with Instance(config("shared")) as one:
        wait_until("the flow", lambda: source_of(one)["events"] > 5000, 60)
        with Instance(config("shared")) as two:
            wait_until("shares for both", lambda: reading(one, partitions=3) and
                       reading(two, partitions=3), 60)
            wait_until("the whole backlog", lambda: kafka.committed("shared", "shared", 6) == ends,
                       120)
            first, second = source_of(one)["events"], source_of(two)["events"]
            for m in (one, two):
                assert m.stop() == 0
                m.process.stdout.close()
            times = logged(one) + logged(two)
    print("    %d and %d of 200000" % (first, second))
    assert sorted(id for _, id in times) == sorted(wanted(ends)), len(times)
    assert set(times.values()) == {1}, times.most_common(3)


if __name__ == "__main__":
    run(Cluster(3))
