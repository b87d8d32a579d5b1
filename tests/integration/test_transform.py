"""`transform` of sources and subscriptions, with a running instance."""
import json

from support import Instance, Service, event, http_source, main, wait_until


def test_a_source_transforms_before_the_log():
    config = {"sources": {"in": {**http_source(), "transform": {
                  "set": {"type": "com.example.{{data.kind}}", "subject": "{{data.order.id}}", "data.seen": True},
                  "rename": {"tenant": "customer"}, "drop": ["data.card"]},
                  "validate": {"types": {"com.example.order": {"required": ["seen"], "properties": {"total": {"minimum": 0}}}}}}},
              "workers": {"w": {"exec": {"command": ["true"]}}},
              "subscriptions": {"orders": {"filter": {"exact": {"type": "com.example.order", "customer": "acme"}}, "to": "w"}}}
    with Instance(config) as m:
        m.post(event("1", "raw", data={"kind": "order", "order": {"id": 12345678901234567}, "card": "4111"}, tenant="acme"))
        told = m.trace("1")
        assert told["matched"] == ["orders"], told
        assert told["event"]["subject"] == "12345678901234567" and "tenant" not in told["event"], told
        assert told["event"]["data"] == {"kind": "order", "order": {"id": 12345678901234567}, "seen": True}
        for sent, reason in ((event("2", "raw", data="text", datacontenttype="text/plain"), "transform: the data is no JSON"),
                             (event("3", "raw", data={"kind": "order", "total": -1}), "minimum wants 0, the data has -1 at /total")):
            m.post(sent)
            letter = wait_until("the dead letter", lambda: [l for l in m.letters("ingest:in") if l["event"]["id"] == sent["id"]])[0]
            assert reason in letter["error"], letter


def test_a_subscription_transforms_before_the_target_and_the_log_keeps_the_event():
    with Service() as service:
        config = {"sources": {"in": http_source()},
                  "workers": {"w": {"http": {"url": "http://127.0.0.1:%d/" % service.port}}},
                  "subscriptions": {"small": {"to": "w", "filter": {"exact": {"type": "order"}},
                                              "transform": {"set": {"type": "small.{{type}}", "data": {"id": "{{data.order.id}}", "who": "{{tenant}}"}}}},
                                    "plain": {"to": "w"}}}
        with Instance(config) as m:
            m.post(event("1", "order", data={"order": {"id": 7}, "big": "x" * 1000}, tenant="acme"))
            m.wait_state("1", "small", "done")
            m.wait_state("1", "plain", "done")
            got = {r["headers"]["ce-type"]: json.loads(r["body"]) for r in service.requests}
            assert got["small.order"] == {"id": 7, "who": "acme"} and got["order"]["order"] == {"id": 7}, got
            assert m.trace("1")["event"]["type"] == "order"
            m.post(event("2", "order", data="no JSON", datacontenttype="text/plain"))
            m.wait_state("2", "small", "done")  # the whole data is set: what it was does not matter
            config["subscriptions"]["small"]["transform"] = {"set": {"data.a": 1}}
            m.write_config(config)
            assert m.cli("reload").code == 0
            m.post(event("3", "order", data="no JSON", datacontenttype="text/plain"))
            dead = m.wait_state("3", "small", "dead")
            assert dead["attempts"][0]["error"] == "transform: the data is no JSON", dead
            m.wait_state("3", "plain", "done")
            del config["subscriptions"]["small"]["transform"]
            m.write_config(config)
            assert m.cli("reload").code == 0
            assert m.cli("dlq", "redrive", "small").code == 0
            m.wait_state("3", "small", "done")


def test_wrong_transforms_are_refused_by_check():
    def config(transform):
        return {"sources": {"in": {**http_source(), "transform": transform}}, "workers": {"w": {"exec": {"command": ["true"]}}},
                "subscriptions": {"s": {"to": "w", "transform": transform}}}
    with Instance(config({}), start=False) as m:
        for transform, words in (({}, "transform changes nothing"), ({"jq": "}"}, "jq: syntax error"),
                                 ({"set": {"id": "1"}}, "set.id cannot be changed"), ({"set": {"a": "{{b"}}, "set.a has braces")):
            m.write_config(config(transform))
            done = m.cli("check")
            assert done.code == 65 and (done.err + done.out).count(words) == 2, (transform, done.err + done.out)


if __name__ == "__main__":
    main()
