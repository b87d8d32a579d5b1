"""Object stores end to end: an object is put, a worker runs with the right event, and its result is
put back. On a real MinIO, Ceph and moto; a server that is not here is a reason to skip."""
import json
import pathlib
import socket
import sys
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from support import Instance, main, wait_until, whole_lines
from objects import Ceph, Minio, Moto, Rabbitmq
import kafka
import mosquitto

WORKER = """import millrace
def handle(event, context):
    with open("seen", "a") as f:
        f.write("%s %s %s\\n" % (event["type"], event["source"], event["subject"]))
    return {"key": event["data"]["s3"]["object"]["key"]}
millrace.run(handle)
"""


def config(source, store, results="results", **more):
    return {
        "sources": {"lake": source},
        "workers": {"w": {"process": {"command": ["python3", "w.py"]}, "concurrency": 4}},
        "sinks": {"back": {"objectstore": {
            "url": "%s/%s" % (store.url, results), "region": store.region,
            "access_key": store.key, "secret_key": store.secret,
            "key": "of/{{data.event.subject}}.json"}}},
        "subscriptions": {"all": {"filter": {"prefix": {"type": "com.amazonaws.s3."}}, "to": "w",
                                  "on_success": "back"}},
        **more,
    }


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def seen(m):
    return [line.split(" ", 2) for line in whole_lines(m.folder / "seen")]


def check_round_trip(m, store, key, source, encoded):
    """Put an object: the worker sees it, and its result lies in the other bucket."""
    store.put("lake", key, b"hello")
    line = wait_until("the worker", lambda: seen(m))[0]
    assert line == ["com.amazonaws.s3.ObjectCreated:Put", source, encoded], line
    keys = wait_until("the result", lambda: store.keys("results"))
    assert keys == ["of/%s.json" % encoded], keys
    _, body = store.get("results", keys[0])
    outcome = json.loads(body)
    assert outcome["data"]["result"] == {"key": encoded}, outcome
    assert outcome["type"] == "io.millrace.delivery.done", outcome
    store.delete("lake", key)
    wait_until("the delete", lambda: [s for s in seen(m) if "ObjectRemoved" in s[0]])


def test_minio_by_webhook():
    port = free_port()
    target = {"ENDPOINT": "http://127.0.0.1:%d/lake" % port, "AUTH_TOKEN": "of-the-store"}
    with Minio({"WEBHOOK": target}) as store:
        source = {"objectstore": {"via": "webhook", "path": "/lake", "verify": {
            "scheme": "bearer", "secret": "of-the-store"}}}
        with Instance(config(source, store, listen="127.0.0.1:%d" % port), {"w.py": WORKER}) as m:
            try:
                urllib.request.urlopen("http://127.0.0.1:%d/lake" % port, b"{}")
                raise AssertionError("anybody may tell")
            except urllib.error.HTTPError as refused:
                assert refused.code == 401, refused.code
            store.make_bucket("lake")
            store.make_bucket("results")
            store.notify("lake", "webhook")
            check_round_trip(m, store, "dir/a b+ü.txt", "minio:s3..lake", "dir%2Fa+b%2B%C3%BC.txt")


def test_minio_by_mqtt():
    with mosquitto.Broker() as broker:
        target = {"BROKER": "tcp://127.0.0.1:%d" % broker.port, "TOPIC": "minio", "QOS": "1"}
        with Minio({"MQTT": target}) as store:
            source = {"objectstore": {"via": "mqtt", "url": mosquitto.url(broker), "topic": "minio"}}
            with Instance(config(source, store), {"w.py": WORKER}) as m:
                wait_until("the subscription", lambda: mosquitto.subscribed(m))
                store.make_bucket("lake")
                store.make_bucket("results")
                store.notify("lake", "mqtt")
                check_round_trip(m, store, "dir/a b+ü.txt", "minio:s3..lake",
                                 "dir%2Fa+b%2B%C3%BC.txt")


def test_minio_by_kafka():
    with kafka.Cluster() as cluster:
        cluster.topic("minio")
        with Minio({"KAFKA": {"BROKERS": cluster.plain, "TOPIC": "minio"}}) as store:
            source = {"objectstore": {"via": "kafka", "brokers": cluster.plain, "topics": ["minio"]}}
            with Instance(config(source, store), {"w.py": WORKER}) as m:
                store.make_bucket("lake")
                store.make_bucket("results")
                store.notify("lake", "kafka")
                check_round_trip(m, store, "dir/a b+ü.txt", "minio:s3..lake",
                                 "dir%2Fa+b%2B%C3%BC.txt")


def declare_queue(broker, exchange):
    """A queue bound to a fanout exchange, made by a source that consumes from it."""
    source = {"amqp": {"url": broker.amqp_url, "queue": "jobs", "declare": {
        "type": "classic", "exchange": exchange, "exchange_type": "fanout"}}}
    with Instance({"sources": {"jobs": source}}) as m:
        wait_until("the queue", lambda: m.ask_lines("source", "list")[0]["health"] == "ok")


def test_minio_by_amqp():
    with Rabbitmq() as broker:
        target = {"URL": broker.amqp_url, "EXCHANGE": "minio", "EXCHANGE_TYPE": "fanout",
                  "DURABLE": "on", "DELIVERY_MODE": "2", "PUBLISHER_CONFIRMS": "on"}
        with Minio({"AMQP": target}) as store:
            source = {"objectstore": {"via": "amqp", "url": broker.amqp_url, "queue": "jobs",
                                      "declare": {"type": "classic", "exchange": "minio",
                                                  "exchange_type": "fanout"}}}
            with Instance(config(source, store), {"w.py": WORKER}) as m:
                wait_until("the queue", lambda: m.ask_lines("source", "list")[0]["health"] == "ok")
                store.make_bucket("lake")
                store.make_bucket("results")
                store.notify("lake", "amqp")
                check_round_trip(m, store, "dir/a b+ü.txt", "minio:s3..lake",
                                 "dir%2Fa+b%2B%C3%BC.txt")


def test_moto_by_sqs():
    with Moto() as store:
        store.make_bucket("lake")
        store.make_bucket("results")
        queue = store.make_queue("events")
        store.notify("lake", "events")  # sends s3:TestEvent
        source = {"objectstore": {"via": "sqs", "url": queue, "region": "us-east-1",
                                  "access_key": "K", "secret_key": "S", "wait": "1s"}}
        with Instance(config(source, store), {"w.py": WORKER}) as m:
            check_round_trip(m, store, "dir/a b+ü.txt", "aws:s3.us-east-1.lake",
                             "dir%2Fa+b%2B%C3%BC.txt")
            wait_until("an empty queue", lambda: store.left(queue) == (0, 0))
            assert len(m.ask_lines("source", "list")) == 1
            assert len(seen(m)) == 2, seen(m)


def test_minio_by_list():
    with Minio() as store:
        store.make_bucket("lake")
        store.make_bucket("results")
        source = {"objectstore": {"via": "list", "url": store.url + "/lake", "interval": "200ms",
                                  "access_key": store.key, "secret_key": store.secret}}
        with Instance(config(source, store), {"w.py": WORKER}) as m:
            store.put("lake", "dir/a b+ü.txt", b"hello")
            def taken():  # what a kill interrupts is handled again
                return list(dict.fromkeys(map(tuple, seen(m))))

            wait_until("created", lambda: len(taken()) == 1)
            m.stop(9)
            m.start()
            store.put("lake", "dir/a b+ü.txt", b"hello again")
            wait_until("changed", lambda: len(taken()) == 2)
            store.delete("lake", "dir/a b+ü.txt")
            wait_until("removed", lambda: len(taken()) == 3)
            assert [s[0] for s in taken()] == ["com.amazonaws.s3." + n for n in (
                "ObjectCreated:Listed", "ObjectCreated:Changed", "ObjectRemoved:Missing")], seen(m)
            assert {(s[1], s[2]) for s in seen(m)} == {
                ("millrace:s3.us-east-1.lake", "dir/a+b%2B%C3%BC.txt")}, seen(m)


def test_ceph_by_webhook():
    port = free_port()
    with Ceph() as store:
        source = {"objectstore": {"via": "webhook", "path": "/lake"}}
        with Instance(config(source, store, listen="127.0.0.1:%d" % port), {"w.py": WORKER}) as m:
            store.make_bucket("lake")
            store.make_bucket("results")
            store.topic("t", "http://127.0.0.1:%d/lake" % port)
            store.notify("lake", "t")
            check_round_trip(m, store, "dir/a b+ü.txt", "ceph:s3..lake", "dir/a b+ü.txt")


def test_ceph_by_amqp():
    with Rabbitmq() as broker, Ceph() as store:
        declare_queue(broker, "ceph")
        store.make_bucket("lake")
        store.make_bucket("results")
        # Without user and password: Ceph sends them over TLS only. It means guest then.
        store.topic("ceph", "amqp://127.0.0.1:%d" % broker.port, amqp_exchange="ceph",
                    amqp_ack_level="broker")
        store.notify("lake", "ceph")
        source = {"objectstore": {"via": "amqp", "url": broker.amqp_url, "queue": "jobs"}}
        with Instance(config(source, store), {"w.py": WORKER}) as m:
            # Ceph binds nothing: its topic is the routing key, which a fanout does not ask for.
            check_round_trip(m, store, "dir/a b+ü.txt", "ceph:s3..lake", "dir/a b+ü.txt")


if __name__ == "__main__":
    main()
