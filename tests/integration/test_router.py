"""Routing by sql and data, defaults, and what is told about it, with a running instance."""
import json

from support import Instance, event, http_source, main, wait_until

SUBSCRIPTIONS = {
    "big": {"filter": {"sql": "type LIKE 'com.example.order.%' AND amount > 100"}, "to": "w"},
    "shop7": {"filter": [{"exact": {"type": "com.example.order.created"}}, {"data": {"exact": {"order.shop": 7}}}], "to": "w"},
    "dear": {"filter": {"data": {"range": {"order.total": {"gte": 99.9, "lt": 1000}}}}, "to": "w", "order_by": "data.order.shop"},
    "inside": {"filter": {"data": {"cidr": {"client": "10.0.0.0/8"}}}, "to": "w"},
    "id": {"filter": {"data": {"in": {"order.id": ["12345678901234567890", 3]}}}, "to": "w"},
    "not": {"filter": {"all": [{"exact": {"type": "com.example.order.created"}},
                               {"not": {"data": {"exists": {"order.coupon": True}}}}]}, "to": "w"},
    "rest": {"default": True, "to": "w"},
    "rest-eu": {"default": True, "filter": {"prefix": {"subject": "eu/"}}, "to": "w"},
}


def config(**more):
    return {"sources": {"in": http_source()}, "workers": {"w": {"exec": {"command": ["true"]}}},
            "subscriptions": {**SUBSCRIPTIONS, **more}}


def matched(m, sent):
    m.post(sent)
    return set(m.trace(sent["id"])["matched"])


def order(id, data, **more):
    return event(id, "com.example.order.created", data=data, **more)


def test_events_go_where_sql_and_data_lead():
    with Instance(config()) as m:
        assert matched(m, order("1", {"order": {"shop": "7", "total": 99.90, "coupon": None}}, amount=101)) \
            == {"big", "shop7", "dear"}
        assert matched(m, order("2", {"order": {"shop": 7, "total": "1000"}}, amount=100)) == {"shop7", "not"}
        assert matched(m, order("3", {"client": "10.255.0.1", "order": {"coupon": "x"}})) == {"inside"}
        assert matched(m, order("4", {"client": "::ffff:10.0.0.1", "order": {"id": 3}})) == {"inside", "id", "not"}
        m.post(event("raw"))
        status, _, _ = m.http("POST", "/events", '{"specversion":"1.0","id":"5","source":"/s","type":"t",'
                              '"data":{"order":{"id":12345678901234567890}}}', {"Content-Type": "application/cloudevents+json"})
        assert status == 202 and m.trace("5")["matched"] == ["id"]
        status, _, _ = m.http("POST", "/events", '{"specversion":"1.0","id":"6","source":"/s","type":"t",'
                              '"data":{"order":{"id":12345678901234567891}}}', {"Content-Type": "application/cloudevents+json"})
        assert status == 202 and m.trace("6")["matched"] == ["rest"]


def test_defaults_take_the_rest():
    with Instance(config()) as m:
        assert matched(m, event("1", subject="us/1")) == {"rest"}
        assert matched(m, event("2", subject="eu/1")) == {"rest", "rest-eu"}
        assert matched(m, event("3", subject="eu/1", data={"client": "10.1.1.1"})) == {"inside"}
        why = m.cli("why", "3", "rest").out
        assert 'the default' in why and '"inside"' in why, why
        assert "default" in m.cli("explain", "rest").out


def test_why_tells_the_actual_value():
    with Instance(config()) as m:
        m.post(order("1", {"order": {"shop": 8, "total": "x"}, "client": "192.168.1.1"}, amount="many"))
        for subscription, words in (
                ("big", ["`amount > 100` cannot be evaluated (cast)", 'amount "many"']),
                ("shop7", ['filter[1].data.exact.order.shop wants "7", the data has 8']),
                ("dear", ['filter.data.range.order.total wants at least 99.9, the data has "x"']),
                ("inside", ['filter.data.cidr.client wants an address in "10.0.0.0/8", the data has "192.168.1.1"']),
                ("id", ["filter.data.in.order.id wants one of 2 values", "the data has none"])):
            why = m.cli("why", "1", subscription).out
            assert all(word in why for word in words), (subscription, why)
        m.post(event("2", data="text", datacontenttype="text/plain"))
        assert "the event has no JSON data" in m.cli("why", "2", "inside").out
        assert "`type LIKE 'com.example.order.%'` is false, the event has type \"com.example.a\"" in m.cli("why", "2", "big").out


def test_failures_are_counted_over_a_reload():
    with Instance(config()) as m:
        def count():
            line = [l for l in m.http("GET", "/metrics")[2].splitlines()
                    if l.startswith('millrace_filter_failures_total{subscription="big"}')]
            return int(line[0].split()[1]) if line else 0
        m.post(order("1", {}, amount=101))
        assert count() == 0
        m.post(order("2", {}))
        m.post(order("3", {}, amount="many"))
        assert count() == 2
        m.write_config(config(another={"filter": {"sql": "FALSE"}, "to": "w"}))
        assert m.cli("reload").code == 0
        assert count() == 2
        m.post(order("4", {}))
        assert count() == 3
        m.write_config(config(another={"filter": {"sql": "type = "}, "to": "w"}))
        refused = m.cli("reload")
        assert refused.code != 0 and "at character 8, at the end" in refused.err + refused.out, (refused.out, refused.err)
        wait_until("the sent are done", lambda: m.ask("trace", "4")["deliveries"][0]["state"] == "done")


def test_filter_test_takes_every_dialect():
    import pathlib
    import tempfile

    from support import cli
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "f.json"

        def test(filters, sent):
            path.write_text(filters if isinstance(filters, str) else json.dumps(filters))
            return cli("filter", "test", "--filters", path, input=json.dumps(sent))
        sent = order("1", {"order": {"shop": 7, "lines": [{"sku": "a"}]}})
        assert test([{"data": {"exact": {"order.shop": "7"}}}], sent).out == "true\n"
        assert test([{"data": {"prefix": {"order.lines.0.sku": "b"}}}], sent).out == "false\n"
        assert test([{"sql": "EXISTS subject OR type LIKE '%created'"}], sent).out == "true\n"
        assert test([{"not": {"sql": "missing = 1"}}], sent).out == "true\n"
        for bad in ([{"sql": "type ="}], [{"data": {"exact": {"": "x"}}}], [{"data": {"near": {"a": "x"}}}],
                    '[{"data": {"exact": {"a": 12345678901234567890}}}]'):
            result = test(bad, sent)
            assert result.code == 65 and result.err.strip(), bad


if __name__ == "__main__":
    main()
