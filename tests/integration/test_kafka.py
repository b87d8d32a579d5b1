"""Kafka through the real program and a real broker: each record enters the log once whatever dies,
results go out, and what cannot be is said."""
import json
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from support import Instance, json_lines, wait_until
from kafka import Cluster, logged, reading, run, source_of, wanted

QUICK = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "500"}
kafka = None


def config(topics=("orders",), **more):
    return {
        "sources": {"orders": {"kafka": {"brokers": kafka.plain, "topics": list(topics),
                                         "group": more.pop("group", "g"), "librdkafka": QUICK,
                                         "content_type": "application/json", **more}}},
        "sinks": {"lines": {"file": {"path": "out"}}},
        "subscriptions": {"all": {"to": "lines"}},
    }


def lines(m):
    return json_lines(m.folder / "out")


def values(count, start=0):
    return ['{"n":%d}' % n for n in range(start, start + count)]


def test_records_of_each_kind_come_as_events():
    kafka.topic("kinds")
    kafka.produce("kinds", [b"21.5"], headers={"ce_specversion": "1.0", "ce_id": "b1",
                                               "ce_type": "t.binary", "ce_source": "/s",
                                               "content-type": "text/plain"})
    structured = {"specversion": "1.0", "id": "s1", "type": "t.structured", "source": "/s", "data": 1}
    kafka.produce("kinds", [json.dumps(structured)],
                  headers={"content-type": "application/cloudevents+json"})
    kafka.produce("kinds", ['{"n":7}'], key="k7", headers={"Trace-Id": "x"})
    kafka.produce("kinds", [None], key="k8")
    kafka.produce("kinds", ["{broken"], headers={"content-type": "application/cloudevents+json"})
    kafka.produce("kinds", ["the last"])
    with Instance(config(["kinds"], group="kinds")) as m:
        wait_until("five events", lambda: len(lines(m)) == 5)
        binary, struct, raw, tombstone, last = lines(m)
        assert (binary["id"], binary["type"], binary["data"]) == ("b1", "t.binary", "21.5"), binary
        assert struct["id"] == "s1" and struct["data"] == 1, struct
        assert raw["type"] == "dev.knative.kafka.event" and raw["data"] == {"n": 7}, raw
        assert raw["partitionkey"] == "k7" and raw["kafkaheadertraceid"] == "x", raw
        assert raw["source"].endswith("#kinds"), raw
        assert tombstone["partitionkey"] == "k8" and "data" not in tombstone, tombstone
        assert last["id"] == "partition:0/offset:5", last
        letters = wait_until("the dead letter", lambda: m.letters("ingest:orders"))
        assert len(letters) == 1 and letters[0]["error"], letters
        wait_until("the commit", lambda: kafka.committed("kinds", "kinds") == [6])


def test_each_record_enters_the_log_once_over_kills():
    kafka.topic("kills", 4)
    with Instance(config(["kills"], group="kills")) as m:
        for turn in range(6):
            before = len(lines(m))
            kafka.produce("kills", values(3000, 3000 * turn))
            wait_until("the flow", lambda: len(lines(m)) > before)
            m.process.send_signal(signal.SIGKILL)
            m.process.wait()
            m.process.stdout.close()
            m.start()
        ends = kafka.ends("kills")
        assert sum(ends) == 18000
        wait_until("all in the log", lambda: source_of(m)["lag"] == 0 and reading(m), 60)
        wait_until("all committed", lambda: kafka.committed("kills", "kills", 4) == ends)
        assert m.stop() == 0
        m.process.stdout.close()
        times = logged(m)
        assert sorted(id for _, id in times) == sorted(wanted(ends)), len(times)
        assert set(times.values()) == {1}, times.most_common(3)


def test_results_go_out_with_key_and_headers():
    kafka.topic("in", 3)
    kafka.topic("results.t", 3)
    c = config(["in"], group="through")
    c["sinks"]["out"] = {"kafka": {"brokers": [kafka.plain], "topic": "results.{{kind}}"}}
    c["subscriptions"] = {"all": {"to": "out"}}
    headers = {"ce_specversion": "1.0", "ce_type": "t", "ce_source": "/s", "ce_kind": "t",
               "content-type": "application/json"}
    producer = kafka.producer()
    for n in range(2000):
        producer.produce("in", '{"n":%d}' % n, key="k%d" % (n % 50), headers={
            **headers, "ce_id": str(n), "ce_partitionkey": "k%d" % (n % 50)})
    assert producer.flush(60) == 0
    with Instance(c) as m:
        wait_until("all done", lambda: m.counts("all")["done"] == 2000)
        records = kafka.read("results.t", 2000)
        assert len(records) == 2000
        ids = {dict(r.headers())["ce_id"].decode() for r in records}
        assert ids == {str(n) for n in range(2000)}
        for r in records:
            h = dict(r.headers())
            assert r.key() == h["ce_partitionkey"] and h["content-type"] == b"application/json"
        # The same key, the same partition.
        assert all(len({r.partition() for r in records if r.key() == b"k%d" % k}) == 1
                   for k in range(50))


def test_what_a_topic_refuses_is_a_dead_letter():
    kafka.topic("small", **{"max.message.bytes": "2000"})
    c = config()
    c["sources"] = {"h": {"http": {"path": "/events"}}}
    c["sinks"] = {"out": {"kafka": {"brokers": [kafka.plain], "topic": "small"}}}
    c["subscriptions"] = {"all": {"to": "out"}}
    with Instance(c) as m:
        event = {"specversion": "1.0", "id": "big", "type": "t", "source": "/s", "data": "x" * 9000}
        m.post(event)
        letter = wait_until("the dead letter", lambda: m.ask_lines("dlq", "list", "all"))[0]
        assert letter["id"] == "big" and letter["attempts"] == 1 and "too large" in letter["error"], \
            letter
        m.post({**event, "id": "fits", "data": "x"})
        m.wait_state("fits", "all", "done")


def test_an_unknown_topic_is_said_and_found_once_it_is_there():
    c = config(["later"], group="later")
    c["sinks"]["out"] = {"kafka": {"brokers": [kafka.plain], "topic": "later"},
                         "breaker": {"percent": 0}}
    c["sources"]["h"] = {"http": {"path": "/events"}}
    c["subscriptions"] = {"all": {"to": "lines", "source": "orders"},
                          "back": {"to": "out", "source": "h",
                                   "retry": {"schedule": ["1s"] * 60}}}
    with Instance(c) as m:
        wait_until("the error", lambda: source_of(m)["health"] == "degraded" and
                   "later: Broker: Unknown topic" in (source_of(m)["last_error"] or ""))
        m.post({"specversion": "1.0", "id": "e1", "type": "t", "source": "/s", "data": 1})
        wait_until("a failed attempt", lambda: any(
            "opic" in (a["error"] or "") for a in m.delivery("e1", "back")["attempts"]), 60)
        kafka.topic("later")
        # Not by trace: once it has come round there are two events of this id.
        wait_until("it goes out", lambda: m.counts("back")["done"] == 1, 60)
        wait_until("the event comes round", lambda: len(lines(m)) == 1, 60)
        wait_until("health", lambda: reading(m))


def test_pause_keeps_the_place_and_reload_takes_other_topics():
    kafka.topic("first", 2)
    kafka.topic("second", 2)
    c = config(["first"], group="reload")
    with Instance(c) as m:
        kafka.produce("first", values(100))
        wait_until("the first hundred", lambda: len(lines(m)) == 100)
        assert m.cli("source", "pause", "orders").code == 0
        kafka.produce("first", values(100, 100))
        kafka.produce("second", values(100, 200))
        assert m.stop() == 0
        m.process.stdout.close()
        m.start()
        assert len(lines(m)) == 100
        assert m.cli("source", "resume", "orders").code == 0
        wait_until("the second hundred", lambda: len(lines(m)) == 200)
        c["sources"]["orders"]["kafka"]["topics"] = "^(first|second)$"
        m.write_config(c)
        assert m.ask("reload")["changed"]
        wait_until("the other topic", lambda: len(lines(m)) == 300)
        kafka.produce("first", values(50, 300))
        wait_until("both", lambda: len(lines(m)) == 350)
        assert sorted(e["data"]["n"] for e in lines(m)) == list(range(350))


def test_a_topic_made_anew_is_said_and_read_from_its_start():
    kafka.topic("anew")
    with Instance(config(["anew"], group="anew")) as m:
        kafka.produce("anew", values(100))
        wait_until("a hundred", lambda: len(lines(m)) == 100)
        assert m.stop() == 0
        m.process.stdout.close()
        kafka.delete_topic("anew")
        kafka.topic("anew")
        kafka.produce("anew", values(10, 1000))
        m.start()
        wait_until("the new ones", lambda: len(lines(m)) == 110, 60)
        assert "made anew" in source_of(m)["last_error"], source_of(m)


def test_memory_is_flat_while_nobody_works():
    kafka.topic("flood", 4)
    c = config(["flood"], group="flood")
    c["workers"] = {"away": {"http": {"url": "http://127.0.0.1:1/"}}}
    c["subscriptions"] = {"all": {"to": "away"}}
    c["log"] = {"cache_size": "4MiB", "segment_size": "4MiB"}

    def rss_mib(m):
        status = pathlib.Path("/proc/%d/status" % m.process.pid).read_text()
        return int(status.split("VmRSS:")[1].split()[0]) >> 10
    with Instance(c) as m:
        rss = []
        for total in (60000, 160000, 260000):
            done = source_of(m)["events"]
            kafka.produce("flood", ("x" * 1000 for _ in range(total - done)))
            wait_until("%d in the log" % total, lambda: source_of(m)["events"] == total, 60)
            rss.append(rss_mib(m))
        print("    RSS MiB %s" % rss)
        assert rss[-1] < m.ask("check")["memory_max"]["sum"] >> 20, rss
        assert rss[2] - rss[1] < 32, rss  # of 100 MB


if __name__ == "__main__":
    run(Cluster())
