"""AMQP through the real program and a real RabbitMQ: jobs in, results out, and nothing lost when
either of the two is killed, frozen or short of memory while messages flow."""
import contextlib
import json
import pathlib
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import rabbit
from support import Instance, main, wait_until

WORKER = """import millrace
def handle(event, context):
    with open("seen", "a") as f:
        f.write("%s\\n" % event["data"]["n"])
millrace.run(handle)
"""
STUCK = """import signal, millrace
def handle(event, context):
    while True:
        signal.pause()
millrace.run(handle)
"""


one = None  # broker for all tests: a queue of its own each


@contextlib.contextmanager
def Broker():
    global one
    if one is None:
        one = rabbit.Broker().__enter__()
    yield one


def config(broker, queue, worker="w.py", **source):
    return {
        "sources": {"jobs": {"amqp": {"url": broker.url, "queue": queue, **source}}},
        "workers": {"w": {"process": {"command": ["python3", worker]}, "concurrency": 16}},
        "sinks": {"out": {"amqp": {"url": broker.url, "routing_key": queue + "-results",
                                   "mode": "structured"}}},
        "subscriptions": {"all": {"to": "w", "on_success": "out"}},
    }


def seen(instance):
    path = pathlib.Path(instance.folder) / "seen"
    return path.read_text().split() if path.exists() else []


def source_of(instance):
    return instance.ask_lines("source", "list")[0]


def connected(instance):
    return source_of(instance)["health"] == "ok"


@contextlib.contextmanager
def at_work(queue, **source):
    """The broker with a queue and one for the results, and an instance that works on it."""
    with Broker() as broker:
        broker.declare(queue, queue + "-results")
        with Instance(config(broker, queue, **source), {"w.py": WORKER}) as m:
            yield broker, m


def kill(instance):
    instance.process.send_signal(signal.SIGKILL)
    instance.process.wait()
    instance.process.stdout.close()


def test_a_job_reaches_a_worker_and_its_result_the_broker():
    with at_work("a") as (broker, m):
        broker.publish("a", range(3))
        wait_until("three jobs", lambda: len(seen(m)) == 3)
        results = [json.loads(line) for line in broker.take("a-results", 3)]
        assert all(r["type"].startswith("io.millrace.delivery.") for r in results), results
        wait_until("an empty queue", lambda: broker.queues()["a"] == [0, 0])
        metrics = m.metrics()
        assert metrics['millrace_events_total{source="jobs"}'] == 3, metrics


def test_nothing_is_lost_when_millrace_is_killed_while_messages_flow():
    with at_work("killed") as (broker, m):
        sent = 0
        for _ in range(5):
            sent += 400
            before = len(seen(m))
            broker.publish("killed", range(sent - 400, sent))
            wait_until("the flow", lambda: len(seen(m)) > before)
            kill(m)
            m.start()
        wait_until("all %d" % sent, lambda: len(set(seen(m))) == sent, 60)
        repeated = len(seen(m)) - sent
        assert repeated <= 5 * 1100, repeated  # what was in flight at each kill
        wait_until("an empty queue", lambda: broker.queues()["killed"] == [0, 0])


def test_nothing_is_lost_when_the_broker_is_killed_while_messages_flow():
    with at_work("broker") as (broker, m):
        broker.run("settle")
        broker.publish("broker", range(500))  # without confirms: ours once they are taken in
        wait_until("the flow", lambda: len(seen(m)) > 20 and
                   m.metrics()['millrace_events_total{source="jobs"}'] >= 500)
        broker.run("kill")
        wait_until("the source to notice", lambda: not connected(m))
        broker.start()
        wait_until("the source to come back", lambda: connected(m), 60)
        broker.publish("broker", range(500, 600))
        wait_until("all of them", lambda: len(set(seen(m))) == 600, 60)
        wait_until("the results", lambda: broker.queues()["broker-results"][0] >= 600, 60)


def test_a_frozen_broker_is_left_and_found_again():
    with at_work("frozen", heartbeat="1s") as (broker, m):
        wait_until("the connection", lambda: connected(m))
        broker.run("freeze")
        try:
            wait_until("the source to notice", lambda: not connected(m))
            assert "eartbeat" in source_of(m)["last_error"], source_of(m)
        finally:
            broker.run("thaw")
        wait_until("the source to come back", lambda: connected(m), 60)
        broker.publish("frozen", range(10))
        wait_until("ten jobs", lambda: len(set(seen(m))) == 10)


def test_a_memory_alarm_holds_results_back_and_loses_none():
    with at_work("alarm") as (broker, m):
        broker.publish("alarm", range(200))
        wait_until("the flow", lambda: len(seen(m)) > 0)
        broker.run("alarm", "on")
        try:
            wait_until("all jobs", lambda: len(set(seen(m))) == 200)
        finally:
            broker.run("alarm", "off")
        wait_until("all results", lambda: broker.queues()["alarm-results"][0] >= 200, 90)


def rss_kib(instance):
    for line in open("/proc/%d/status" % instance.process.pid):
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0


def test_workers_that_stop_leave_memory_flat_and_the_rest_at_the_broker():
    with Broker() as broker:
        broker.declare("stuck")
        text = {"data_dir": "./data", **config(broker, "stuck", "stuck.py", prefetch=200)}
        text["log"] = {"segment_size": "4MiB", "max_size": "16MiB"}
        with Instance(text, {"stuck.py": STUCK}) as m:
            wait_until("the connection", lambda: connected(m))
            body = "x" * 4000
            for _ in range(10):
                subprocess.run(["amqp-publish", "-u", broker.url, "-r", "stuck", "-p", "-l"],
                               input=(body + "\n") * 1000, text=True, check=True)
            wait_until("the log to be short", lambda: source_of(m)["health"] != "ok" or
                       broker.queues()["stuck"][0] == 0)
            first = rss_kib(m)
            for _ in range(10):
                subprocess.run(["amqp-publish", "-u", broker.url, "-r", "stuck", "-p", "-l"],
                               input=(body + "\n") * 1000, text=True, check=True)
            ready, unacked = broker.queues()["stuck"]
            assert ready > 0 and unacked <= 200, (ready, unacked)
            assert rss_kib(m) < first + 20 * 1024, (first, rss_kib(m))


def test_pause_and_resume_keep_the_place():
    with at_work("paused") as (broker, m):
        broker.publish("paused", range(20))
        wait_until("twenty", lambda: len(seen(m)) == 20)
        assert m.cli("source", "pause", "jobs").code == 0
        wait_until("the source to let go", lambda: not connected(m))
        broker.publish("paused", range(20, 40))
        wait_until("twenty wait", lambda: broker.queues()["paused"] == [20, 0])
        assert len(seen(m)) == 20
        assert m.cli("source", "resume", "jobs").code == 0
        wait_until("forty", lambda: len(seen(m)) == 40)
        assert sorted(set(map(int, seen(m)))) == list(range(40))


def test_a_reload_with_another_queue_moves_there_and_loses_nothing():
    with Broker() as broker:
        for queue in ["old", "new", "old-results", "new-results"]:
            broker.declare(queue)
        with Instance(config(broker, "old"), {"w.py": WORKER}) as m:
            broker.publish("old", range(50))
            wait_until("the flow", lambda: len(seen(m)) > 0)
            m.write_config(config(broker, "new"))
            m.process.send_signal(signal.SIGHUP)
            broker.publish("new", range(100, 150))
            wait_until("the new ones", lambda: set(range(100, 150)) <= set(map(int, seen(m))))
            left, unacked = broker.queues()["old"]
            assert unacked == 0
            assert len([n for n in set(map(int, seen(m))) if n < 50]) + left >= 50


def test_a_stop_leaves_nothing_to_repeat():
    with at_work("stopped") as (broker, m):
        broker.publish("stopped", range(300))
        wait_until("the flow", lambda: len(seen(m)) > 0)
        assert m.stop() == 0
        m.process.stdout.close()
        m.start()
        wait_until("all", lambda: len(set(seen(m))) == 300)
        events = m.metrics()['millrace_events_total{source="jobs"}']
        wait_until("an empty queue", lambda: broker.queues()["stopped"] == [0, 0])
        assert len(seen(m)) <= 300 + 16, len(seen(m))  # what a worker had when it was stopped
        assert events <= 300, events


def test_an_invalid_cloudevent_is_an_ingest_dead_letter():
    with Broker() as broker:
        broker.declare("invalid")
        with Instance(config(broker, "invalid"), {"w.py": WORKER}) as m:
            wait_until("the connection", lambda: connected(m))
            subprocess.run(["amqp-publish", "-u", broker.url, "-r", "invalid", "-C",
                            "application/cloudevents+json", "-b",
                            '{"specversion":"1.0","id":"","source":"/s","type":"t"}'], check=True)
            letters = wait_until("the dead letter",
                                 lambda: m.letters("ingest:jobs"))
            assert len(letters) == 1 and letters[0]["error"], letters
            wait_until("an empty queue", lambda: broker.queues()["invalid"] == [0, 0])


def test_wrong_credentials_and_a_missing_queue_are_told_and_the_bus_runs():
    with Broker() as broker:
        text = config(broker, "nowhere")
        text["sources"]["denied"] = {"amqp": {"url": broker.url.replace("guest:guest", "guest:no-secret"),
                                              "queue": "nowhere"}}
        with Instance(text, {"w.py": WORKER}) as m:
            def errors():
                found = {s["name"]: s["last_error"] for s in m.ask_lines("source", "list")}
                return found if all(found.values()) else None
            found = wait_until("the errors", errors)
            assert "404 NOT_FOUND" in found["jobs"], found
            assert "403 ACCESS_REFUSED" in found["denied"], found
            assert "no-secret" not in m.log.read_text() + json.dumps(found)


def test_an_unroutable_result_is_a_dead_letter_with_its_reason():
    with Broker() as broker:
        broker.declare("lost")
        text = config(broker, "lost")
        text["subscriptions"] = {"direct": {"to": "out"}}
        with Instance(text, {"w.py": WORKER}) as m:
            broker.publish("lost", [1])
            letters = wait_until("the dead letter", lambda: m.ask_lines("dlq", "list", "direct"))
            assert "NO_ROUTE" in letters[0]["error"], letters


def test_a_client_certificate_logs_in():
    names = "auth_mechanisms.1 = PLAIN;auth_mechanisms.2 = EXTERNAL;ssl_cert_login_from = common_name"
    with rabbit.Broker(TLS="server", PLUGIN="rabbitmq_auth_mechanism_ssl",
                       EXTRA=names + ";ssl_options.verify = verify_peer") as broker:
        broker.run("ctl", "add_user", "millrace-client", "nobody-knows")
        broker.run("ctl", "set_permissions", "millrace-client", ".*", ".*", ".*")
        broker.declare("in", "out")

        def peer(name):
            certs = broker.folder / "certs"
            return {"url": "amqps://127.0.0.1:%d" % broker.tls_port, "sasl_mechanism": "external",
                    "tls_ca": str(certs / "ca.crt"), "tls_cert": str(certs / (name + ".crt")),
                    "tls_key": str(certs / (name + ".key"))}

        with Instance({
            "sources": {"jobs": {"amqp": {**peer("client"), "queue": "in"}},
                        "nobody": {"amqp": {**peer("server"), "queue": "in"}}},
            "sinks": {"out": {"amqp": {**peer("client"), "routing_key": "out"}}},
            "subscriptions": {"all": {"to": "out"}},
        }) as m:
            broker.publish("in", range(3))
            bodies = sorted(filter(None, broker.take("out", 3)))
            assert bodies == ['{"n":%d}' % n for n in range(3)], bodies
            users = broker.run("ctl", "list_connections", "user", "auth_mechanism",
                               "--no-table-headers").splitlines()
            assert users.count("millrace-client\tEXTERNAL") == 2, users

            def nobody():
                return [s for s in m.ask_lines("source", "list") if s["name"] == "nobody"][0]
            # A certificate of a name that is no user of the broker's.
            wait_until("the refusal", lambda: "ACCESS_REFUSED" in (nobody()["last_error"] or ""))


if __name__ == "__main__":
    try:
        main()
    finally:
        if one is not None:
            one.__exit__()
