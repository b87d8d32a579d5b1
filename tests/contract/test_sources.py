"""What every source does, shown for those without a broker's own test of it: with the log full it is
slowed, memory stays flat and nothing is lost; paused it keeps its place; changed by a reload it goes on
with what the new settings say, and its other half is neither lost nor taken twice."""
import collections
import json
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
from objects import Elasticmq, Minio, record
from senders import Senders
from support import Instance, http_source, json_lines, main, wait_until

LOG = {"segment_size": "4MiB", "max_size": "16MiB", "retain_size": "4MiB", "checkpoint_size": "1MiB"}
BODY = 50_000


def config(source, **more):
    return {"sources": {"in": source}, "sinks": {"out": {"file": {"path": "out.jsonl"}}},
            "subscriptions": {"s": {"to": "out"}}, **more}


def events(m):
    """What the sink wrote."""
    return json_lines(m.folder / "out.jsonl")


def arrived(m, of=lambda e: e["id"]):
    return collections.Counter(of(e) for e in events(m))


def subject(e):
    return e["subject"]


def source(m):
    return m.ask_lines("source", "list")[0]


def rss_mib(m):
    status = pathlib.Path("/proc/%d/status" % m.process.pid).read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def reload(m, changed):
    m.write_config(changed)
    assert m.cli("reload").code == 0, m.cli("reload").err


def kept_flat(m, is_slowed, offer_more, wanted, of=lambda e: e["id"]):
    """With its only subscription paused: the log fills, the source is slowed, memory stays; then the
    subscription goes on, and all arrives."""
    wait_until("the source to be slowed", is_slowed, 60)
    before = rss_mib(m)
    offer_more()
    assert is_slowed()
    after = rss_mib(m)
    assert after < before + 24, (before, after)
    assert after < m.ask("check")["memory_max"]["sum"] / 2**20, after
    m.ask("sub", "resume", "s")
    wait_until("all of it", lambda: arrived(m, of).keys() >= wanted, 60)
    assert m.metrics()["millrace_conservation_ok"] == 1
    print("    RSS %.0f MiB slowed, %.0f MiB when more was offered" % (before, after))


def short(m):
    return m.metrics()["millrace_log_slow"] == 1


# --- http -------------------------------------------------------------------------------------------


def senders(m, name, **more):
    return Senders(lambda: ("127.0.0.1", m.port), name, **more)


def test_http_full_log_gets_503_and_memory_flat():
    with Instance(config(http_source("/in", adapter="generic"), log=LOG)) as m:
        m.ask("sub", "pause", "s")
        all = [senders(m, "a", size=BODY, each=100)]
        try:
            def offer_more():
                all.append(senders(m, "b", size=BODY, each=50, count=16))
                wait_until("more to be refused", lambda: all[1].busy > 200)
            kept_flat(m, lambda: all[0].busy > 20, offer_more,
                      all[0].wanted() | {"b-%d-%d" % (i, k) for i in range(16) for k in range(50)})
            for one in all:
                one.finish()
                assert one.accepted == one.wanted() and one.failures == 0, one.failures
            assert set(arrived(m).values()) == {1}
        finally:
            for one in all:
                one.over.set()


def test_http_paused_answers_503_and_a_neighbour_is_served():
    with Instance({**config(http_source("/in", adapter="generic")),
                   "sources": {"in": http_source("/in", adapter="generic"),
                               "other": http_source("/other", adapter="generic")}}) as m:
        m.ask("source", "pause", "in")
        waiting, served = senders(m, "a", each=5), senders(m, "b", path="/other", each=5)
        try:
            served.finish()
            wait_until("503", lambda: waiting.busy > 0)
            assert not waiting.accepted
            m.ask("source", "resume", "in")
            waiting.finish()
            wait_until("all", lambda: arrived(m).keys() == waiting.wanted() | served.wanted())
        finally:
            waiting.over.set()
            served.over.set()


def test_http_reload_with_another_path_loses_nothing():
    """Senders of the old path are told 404 or 503 until they are led to the new one."""
    with Instance(config(http_source("/in", adapter="generic"))) as m:
        old = senders(m, "a", each=200)
        new = None
        try:
            wait_until("the flow", lambda: len(old.accepted) > 50)
            reload(m, config(http_source("/new", adapter="generic")))
            assert m.http("POST", "/in", "x")[0] == 404
            new = senders(m, "b", path="/new", each=5)
            new.finish()
            old.path = "/new"
            old.finish()
            wait_until("all", lambda: arrived(m).keys() >= old.wanted() | new.wanted())
            assert old.failures == 0 and set(arrived(m).values()) == {1}
        finally:
            old.over.set()
            if new is not None:
                new.over.set()


# --- file -------------------------------------------------------------------------------------------


def write(m, name, *ids, size=0):
    with open(m.folder / name, "a") as f:
        f.writelines(json.dumps({"specversion": "1.0", "id": id, "source": "/s", "type": "t",
                                 "data": "x" * size}) + "\n" for id in ids)


def test_file_full_log_stops_reading_and_memory_flat():
    with Instance(config({"file": {"path": "in"}}, log=LOG)) as m:
        m.ask("sub", "pause", "s")
        write(m, "in", *["a%d" % n for n in range(600)], size=BODY)
        wanted = {"%s%d" % (c, n) for c in "ab" for n in range(600)}

        def offer_more():
            write(m, "in", *["b%d" % n for n in range(600)], size=BODY)
        kept_flat(m, lambda: short(m), offer_more, wanted)
        assert set(arrived(m).values()) == {1}
        assert source(m)["events"] == len(wanted), source(m)  # what was refused and came again too


def test_file_reload_with_another_file_and_back():
    """The new file is read from its start. The old one has no position any more when it comes back,
    so it is read anew: at least once, and nothing is left out."""
    with Instance(config({"file": {"path": "one"}})) as m:
        write(m, "one", "a", "b")
        wait_until("two", lambda: arrived(m).keys() == {"a", "b"})
        write(m, "two", "c", "d")
        reload(m, config({"file": {"path": "two"}}))
        wait_until("two more", lambda: arrived(m).keys() == set("abcd"))
        write(m, "one", "e")
        reload(m, config({"file": {"path": "one"}}))
        wait_until("the last", lambda: arrived(m).keys() == set("abcde"))


# --- sqs --------------------------------------------------------------------------------------------


def sqs(queue):
    return {"objectstore": {"via": "sqs", "url": queue, "region": "us-east-1", "access_key": "K",
                            "secret_key": "S", "wait": "1s", "visibility": "5s"}}


def bodies(first, count, size=0):
    made = []
    for n in range(first, first + count):
        body = json.loads(record("b", "k%d" % n, n))
        body["Records"][0]["s3"]["object"]["x"] = "x" * size
        made.append(json.dumps(body))
    return made


def test_sqs_full_log_leaves_the_rest_to_the_queue_and_memory_flat():
    with Elasticmq() as server:
        queue = server.make_queue("q")
        with Instance(config(sqs(queue), log=LOG)) as m:
            m.ask("sub", "pause", "s")
            for first in range(0, 400, 5):  # a request takes 256 KiB
                server.send(queue, *bodies(first, 5, BODY))

            def offer_more():
                for first in range(400, 600, 5):
                    server.send(queue, *bodies(first, 5, BODY))
            kept_flat(m, lambda: short(m), offer_more, {"k%d" % n for n in range(600)}, subject)
            wait_until("an empty queue", lambda: server.left(queue) == (0, 0), 60)


def test_sqs_reload_with_another_queue_loses_nothing():
    with Elasticmq() as server:
        one, two = server.make_queue("one"), server.make_queue("two")
        server.send(one, *bodies(0, 100))
        server.send(two, *bodies(100, 100))
        with Instance(config(sqs(one))) as m:
            wait_until("the flow", lambda: arrived(m))
            reload(m, config(sqs(two)))
            wait_until("the other queue", lambda: arrived(m, subject).keys() >=
                       {"k%d" % n for n in range(100, 200)})
            reload(m, config(sqs(one)))
            wait_until("all", lambda: len(arrived(m, subject)) == 200)
            wait_until("both empty", lambda: server.left(one) == server.left(two) == (0, 0))


# --- list -------------------------------------------------------------------------------------------


def bucket(store, name, **more):
    return {"objectstore": {"via": "list", "url": "%s/%s" % (store.url, name), "interval": "100ms",
                            "region": "us-east-1", "access_key": store.key,
                            "secret_key": store.secret, **more}}


def test_list_pause_and_reload_with_another_bucket():
    with Minio() as store:
        for name in ("one", "two"):
            store.make_bucket(name)
            store.put(name, name + "-first", b"1")
        with Instance(config(bucket(store, "one"))) as m:
            wait_until("the first", lambda: arrived(m, subject).keys() == {"one-first"})
            m.ask("source", "pause", "in")
            store.put("one", "one-paused", b"1")
            m.ask("source", "resume", "in")
            wait_until("what came meanwhile", lambda: "one-paused" in arrived(m, subject))
            reload(m, config(bucket(store, "two")))
            wait_until("the other bucket", lambda: "two-first" in arrived(m, subject))
            assert set(arrived(m, subject).values()) == {1}, arrived(m, subject)
            store.put("one", "one-last", b"1")
            reload(m, config(bucket(store, "one")))
            wait_until("the last", lambda: "one-last" in arrived(m, subject))
            assert not any("Deleted" in e["type"] or "Removed" in e["type"] for e in events(m))


# --- timer ------------------------------------------------------------------------------------------


def timer(**more):
    return {"timer": {"every": "20ms", "type": "t", **more}}


def test_timer_full_log_holds_it_back_and_memory_flat():
    with Instance(config(timer(data="x" * BODY), log=LOG)) as m:
        m.ask("sub", "pause", "s")
        wait_until("the source to be slowed", lambda: short(m), 60)
        last = source(m)["events"]
        kept_flat(m, lambda: short(m), lambda: None, set())
        wait_until("further ticks", lambda: source(m)["events"] > last + 20)
        wait_until("them at the sink", lambda: len(events(m)) > last + 20)
        assert set(arrived(m).values()) == {1}


def test_timer_paused_and_changed_by_a_reload():
    with Instance(config(timer())) as m:
        wait_until("ticks", lambda: len(events(m)) > 5)
        m.ask("source", "pause", "in")
        paused = source(m)["events"]
        m.ask("source", "resume", "in")
        wait_until("ticks again", lambda: source(m)["events"] > paused + 5)
        reload(m, config(timer(subject="changed")))
        wait_until("changed ticks", lambda: any(e.get("subject") == "changed" for e in events(m)))
        reload(m, config({"timer": {"every": "1h", "type": "t"}}))
        wait_until("all settled", lambda: m.counts("s")["done"] == m.counts("s")["matched"])
        assert source(m)["events"] <= 1, source(m)  # of the changed one
        assert set(arrived(m).values()) == {1}, arrived(m)


if __name__ == "__main__":
    main()
