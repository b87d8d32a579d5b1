"""SASL and TLS with a real Kafka: what should connect does, what should not is refused by name."""
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
from support import Instance, wait_until
from kafka import Cluster, reading, run, source_of

kafka = None
SECRET = "${env:KAFKA_PASSWORD}"


def config(brokers, **more):
    peer = {"brokers": brokers, **more}
    return {
        "sources": {"orders": {"kafka": {**peer, "topics": "orders", "group": "g"}},
                    "h": {"http": {"path": "/events"}}},
        "sinks": {"out": {"kafka": {**peer, "topic": "copies"}}, "lines": {"file": {"path": "out"}}},
        "subscriptions": {"in": {"source": "orders", "to": "lines"},
                          "out": {"source": "h", "to": "out"}},
    }


def passes(brokers, **more):
    """A record comes in and another goes out."""
    before = kafka.ends("copies")[0]
    with Instance(config(brokers, **more), env={"KAFKA_PASSWORD": "millrace-secret"}) as m:
        wait_until("the partition", lambda: reading(m, partitions=1), 60)
        m.post({"specversion": "1.0", "id": "e", "type": "t", "source": "/s", "data": 1})
        m.wait_state("e", "out", "done")
        assert kafka.ends("copies")[0] == before + 1
        assert "millrace-secret" not in m.log.read_text() + m.cli("source", "list").out


def refused(brokers, why, secret="millrace-secret", **more):
    with Instance(config(brokers, **more), env={"KAFKA_PASSWORD": secret}) as m:
        wait_until("the error", lambda: source_of(m)["health"] == "down" and
                   why in (source_of(m)["last_error"] or ""), 60)
        m.post({"specversion": "1.0", "id": "e", "type": "t", "source": "/s", "data": 1})
        assert m.delivery("e", "out")["state"] == "waiting", m.delivery("e", "out")
        assert secret not in m.log.read_text() + m.cli("source", "list").out


def test_sasl_plain_and_scram():
    for mechanism in ("plain", "scram-sha-256", "scram-sha-512"):
        passes(kafka.sasl, user="millrace", password=SECRET, sasl_mechanism=mechanism)


def test_sasl_wrong_password_is_refused():
    for mechanism in ("plain", "scram-sha-512"):
        refused(kafka.sasl, "uthentication failed", secret="wrong-one", user="millrace",
                password=SECRET, sasl_mechanism=mechanism)


def test_tls_verifies_and_passes():
    passes(kafka.tls, tls_ca=kafka.certificate("ca.crt"))
    passes(kafka.sasltls, tls_ca=kafka.certificate("ca.crt"), user="millrace", password=SECRET)


def test_tls_of_an_authority_unknown_is_refused():
    refused(kafka.tls, "certificate verify failed", tls_ca=kafka.certificate("otherca.crt"))
    refused(kafka.tls, "certificate verify failed", tls=True)


def bad_certificate(name):
    global kafka
    good = kafka
    try:
        with Cluster(TLS=name) as kafka:
            refused(kafka.tls, "certificate verify failed", tls_ca=kafka.certificate("ca.crt"))
    finally:
        kafka = good


def test_tls_of_another_host_is_refused():
    bad_certificate("wronghost")


def test_tls_that_expired_is_refused():
    bad_certificate("expired")


def test_tls_client_certificate():
    global kafka
    good = kafka
    try:
        with Cluster(TLS="server", TLS_CLIENT="1") as kafka:
            kafka.topic("orders")
            kafka.topic("copies")
            passes(kafka.tls, tls_ca=kafka.certificate("ca.crt"),
                   tls_cert=kafka.certificate("client.crt"), tls_key=kafka.certificate("client.key"))
            refused(kafka.tls, "SSL", tls_ca=kafka.certificate("ca.crt"))
    finally:
        kafka = good


if __name__ == "__main__":
    class Both(Cluster):
        def __enter__(self):
            super().__enter__()
            self.topic("orders")
            self.topic("copies")
            return self
    run(Both(SASL="1", TLS="server"))
