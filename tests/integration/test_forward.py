"""Every sink as a destination: of events (`to`), of results (`on_success`) and of what failed
(`on_failure`); over the real program and real servers. And mails as a person gets them."""
import json
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from support import Instance, Service, event, http_source, json_lines, main, wait_until
import kafka
import mail
import mosquitto
import rabbit


def lines(m, name):
    return json_lines(m.folder / name)


def forward(sink, received, back=None, extra=None):
    """An event goes to the sink itself, one through a worker that does it, one through one that
    refuses it; `received(instance)` gives the CloudEvents the sink's peer got. @p back: a source
    that reads the peer, so that Millrace itself tells what came there."""
    def reply(request):
        return (400 if request["path"] == "/bad" else 200), {}, b""

    with Service(reply) as service:
        url = "http://127.0.0.1:%d/" % service.port
        config = {
            "sources": {"shop": http_source()},
            "workers": {"good": {"http": {"url": url + "good"}},
                        "bad": {"http": {"url": url + "bad"}}},
            "sinks": {"out": sink, "seen": {"file": {"path": "seen"}}},
            "subscriptions": {
                "direct": {"source": "shop", "filter": {"exact": {"type": "direct"}}, "to": "out"},
                "works": {"source": "shop", "filter": {"exact": {"type": "works"}}, "to": "good",
                          "on_success": "out"},
                "fails": {"source": "shop", "filter": {"exact": {"type": "fails"}}, "to": "bad",
                          "on_failure": ["out"]},
            },
        }
        if back is not None:
            config["sources"]["back"] = back
            config["subscriptions"]["kept"] = {"source": "back", "to": "seen"}
        config.update(extra or {})
        with Instance(config) as m:
            if back is not None:
                wait_until("the source", lambda: all(
                    s["health"] == "ok" for s in m.ask_lines("source", "list")), 60)
            for kind in ("direct", "works", "fails"):
                m.post(event("e-" + kind, type=kind, subject="s", data={"n": 1}))
            got = wait_until("three events", lambda: received(m) if len(received(m)) >= 3 else None,
                             60)
            check_forwarded(got)
            for subscription, state in (("direct", "done"), ("works", "done"), ("fails", "dead")):
                name = 'millrace_deliveries_total{subscription="%s",state="%s"}' % (subscription,
                                                                                   state)
                wait_until(name, lambda: m.metrics().get(name) == 1)
            letters = m.ask_lines("dlq", "list", "fails")
            assert len(letters) == 1 and letters[0]["event"]["id"] == "e-fails", letters


def check_forwarded(got):
    by_type = {e["type"]: e for e in got}
    assert len(got) == 3 and len(by_type) == 3, got
    assert by_type["direct"]["id"] == "e-direct" and by_type["direct"]["data"] == {"n": 1}, got
    for kind, state in (("works", "done"), ("fails", "dead")):
        outcome = by_type["io.millrace.delivery." + state]
        assert outcome["subject"] == "e-" + kind, outcome
        assert outcome["data"]["event"]["id"] == "e-" + kind, outcome
        assert outcome["data"]["subscription"] == kind, outcome


def test_file():
    forward({"file": {"path": "out"}}, lambda m: lines(m, "out"))


def test_http():
    with Service() as peer:
        forward({"http": {"url": "http://127.0.0.1:%d/" % peer.port, "mode": "structured"}},
                lambda m: [json.loads(r["body"]) for r in peer.requests])


def test_mqtt():
    with mosquitto.Broker() as broker:
        url = "mqtt://127.0.0.1:%d" % broker.port
        forward({"mqtt": {"url": url, "topic": "out/{{type}}"}}, lambda m: lines(m, "seen"),
                back={"mqtt": {"url": url, "topics": ["out/#"]}})


def test_kafka():
    kafka.client()
    with kafka.Cluster() as cluster:
        cluster.topic("out")
        forward({"kafka": {"brokers": cluster.plain, "topic": "out"}}, lambda m: lines(m, "seen"),
                back={"kafka": {"brokers": cluster.plain, "topics": ["out"], "group": "back"}})


def test_amqp():
    with rabbit.Server() as broker:
        url = "amqp://127.0.0.1:%d" % broker.port
        forward({"amqp": {"url": url, "routing_key": "out"}}, lambda m: lines(m, "seen"),
                back={"amqp": {"url": url, "queue": "out", "declare": {"type": "classic"}}})


def smtp(server, **more):
    return {"smtp": {"url": "smtp://127.0.0.1:%d" % server.port, "from": "bus@example.com",
                     "to": ["ops@example.com"], **more}}


def test_smtp():
    def received(m):
        return [{"type": mail["X-Millrace-Event-Type"], "id": mail["X-Millrace-Event-Id"],
                 "subject": mail["Subject"], "data": json.loads(mail.get_content())}
                for mail in server.mails()]

    with mail.Server() as server:
        forward(smtp(server, subject="{{subject}}", body="{{data}}"), received)


def test_mails_say_what_happened():
    with mail.Server() as server:
        config = {
            "sources": {"shop": http_source()},
            "workers": {"w": {"exec": {"command": ["/bin/sh", "-c", "echo no such shop >&2; exit 65"]}}},
            "sinks": {"out": smtp(server, subject="{{data.subscription}}: {{data.event.subject}}",
                                  cc=["Größe <cc@example.com>"])},
            "subscriptions": {"orders": {"to": "w", "on_failure": "out"}},
        }
        with Instance(config) as m:
            m.post(event("e1", subject="größte Bestellung\u3000日本", data={"n": 1}))
            got = wait_until("the mail", server.mails)[0]
            assert got["Subject"] == "orders: größte Bestellung\u3000日本", got["Subject"]
            assert got["Cc"].addresses[0].display_name == "Größe", got["Cc"]
            text = got.get_content()
            assert "e1:outcome" in text or "orders" in text, text
            assert got["Auto-Submitted"] == "auto-generated" and got["Message-ID"] and got["Date"]


def test_mails_wait_for_their_server():
    with mail.Server() as server:
        config = {"sources": {"shop": http_source()}, "sinks": {"out": smtp(server)},
                  "subscriptions": {"all": {"to": "out", "retry": {"schedule": ["200ms", "200ms"]}}}}
        with Instance(config) as m:
            m.post(event("before"))
            m.wait_state("before", "all", "done")
            server.kill()
            m.post(event("while"))
            wait_until("the sink to notice", lambda: "connect to" in m.log.read_text())
            m.post(event("more"))
            server.start()
            for id in ("while", "more"):
                delivery = m.wait_state(id, "all", "done")
                assert len(delivery["attempts"]) == 1, delivery  # refusals cost nothing
            server.tell("replies", "451 4.3.0 come again\n554 5.7.1 never\n")
            m.post(event("greylisted"))
            m.post(event("spam"))
            delivery = wait_until("both", lambda: [
                d for d in (m.delivery(i, "all") for i in ("greylisted", "spam"))
                if d is not None and d["state"] == "dead"])[0]
            assert "554 5.7.1 never" in delivery["attempts"][-1]["error"], delivery
            wait_until("the other", lambda: sorted(
                (m.delivery(i, "all") or {}).get("state", "") for i in ("greylisted", "spam"))
                == ["dead", "done"])


def test_killed_bus_sends_each_mail_at_least_once():
    with mail.Server() as server:
        config = {"sources": {"shop": http_source()}, "sinks": {"out": smtp(server)},
                  "subscriptions": {"all": {"to": "out"}}}
        with Instance(config) as m:
            for life in range(3):
                m.post([event("%d-%d" % (life, n)) for n in range(50)])
                before = len(server.mails())
                wait_until("some mails", lambda: len(server.mails()) > before)
                m.process.send_signal(signal.SIGKILL)
                m.process.wait()
                m.process.stdout.close()
                m.start()
            wait_until("all mails", lambda: len(
                {g["X-Millrace-Event-Id"] for g in server.mails()}) == 150, 60)
            ids = {}
            for got in server.mails():  # what came twice can be told by its Message-ID
                ids.setdefault(got["X-Millrace-Event-Id"], set()).add(got["Message-ID"])
            assert all(len(one) == 1 for one in ids.values()), ids


if __name__ == "__main__":
    main()
