"""The CloudEvents Subscriptions API as a user has it: over HTTP, with a real sink, over a kill."""
import json

from support import *

TOKEN = "s3cret-of-the-api"
JSON = {"Content-Type": "application/json"}
LISTEN = {**JSON, "Authorization": "Bearer " + TOKEN}


def shop(egress="any", token=TOKEN, **more):
    api = {"egress": egress, **({"token": "${env:API_TOKEN}"} if token else {})}
    return Instance({"sources": {"in": http_source()}, "subscriptions_api": api,
                     "workers": {"w": {"exec": {"command": ["true"]}}},
                     "subscriptions": {"mine": {"to": "w", "filter": {"prefix": {"type": "mine."}}}},
                     **more}, env={"API_TOKEN": TOKEN})


def wish(port, **more):
    return {"sink": "http://127.0.0.1:%d/take" % port, "protocol": "HTTP", **more}


def create(m, body):
    status, answer = m.api("POST", "/subscriptions", json.dumps(body), JSON)
    assert status == 201, (status, answer)
    return answer


def ids(service):
    return [r["headers"]["ce-id"] for r in service.requests]


def test_from_create_to_delete_over_a_kill():
    with Service() as sink, shop() as m:
        body = wish(sink.port, source="/test", types=["order.new", "order.gone"],
                    filters=[{"suffix": {"subject": ".de"}}],
                    protocolsettings={"headers": {"X-Shop": "7"}, "method": "POST"})
        status, headers, text = m.http("POST", "/subscriptions", json.dumps(body), LISTEN)
        made = json.loads(text)
        assert status == 201 and headers["Location"] == "/subscriptions/" + made["id"], (status, text)
        assert {k: v for k, v in made.items() if k != "id"} == body
        m.post([event("a1", "order.new", "x.de"), event("a2", "order.new", "x.fr"),
                event("a3", "order.other", "x.de"), event("a4", "order.gone", "y.de"),
                event("a5", "order.new", "x.de", source="/else")])
        wait_until("two taken", lambda: m.counts(made["id"])["done"] == 2)
        assert sorted(ids(sink)) == ["a1", "a4"]
        assert {r["headers"]["X-Shop"] for r in sink.requests} == {"7"}
        assert '"order.new"' in m.ask("why", "a3", made["id"])["why"]
        # It outlives a kill and a reload, and so does what it is like.
        m.stop(signal.SIGKILL)
        m.start()
        assert m.api("GET", "/subscriptions") == (200, [made])
        assert m.http("GET", "/subscriptions/" + made["id"], None, LISTEN)[2] == json.dumps(made, separators=(",", ":"))
        assert m.cli("reload").code == 0
        m.post(event("b1", "order.new", "x.de"))
        wait_until("after the kill", lambda: "b1" in ids(sink))
        # Changed: at once, and for good.
        other = wish(sink.port, id=made["id"], types=["alert"])
        status, answer = m.api("PUT", "/subscriptions/" + made["id"], json.dumps(other), JSON)
        assert status == 200 and answer["types"] == ["alert"] and "filters" not in answer, answer
        m.post([event("c1", "order.new", "x.de"), event("c2", "alert")])
        wait_until("the other type", lambda: "c2" in ids(sink))
        assert "c1" not in ids(sink) and m.delivery("c1", made["id"]) is None
        # Deleted: gone, over a kill as well.
        assert m.api("DELETE", "/subscriptions/" + made["id"]) == (204, None)
        m.post(event("d1", "alert"))
        assert m.trace("d1")["matched"] == []
        m.stop(signal.SIGKILL)
        m.start()
        assert m.api("GET", "/subscriptions") == (200, [])
        assert m.api("GET", "/subscriptions/" + made["id"])[0] == 404
        assert "d1" not in ids(sink)
        said = " ".join(json.dumps(r).replace("\\", "") for r in records(m) if r["kind"] == "operator")
        for action, via in (("create", "listen"), ("update", "socket"), ("delete", "socket")):
            assert '"subscription %s", "via": "%s"' % (action, via) in said.replace('":"', '": "').replace('","', '", "'), said


def records(m):
    return cli("log", "dump", m.folder / "data" / "log", "-o", "json").lines()


def test_what_is_wrong_is_said():
    with shop() as m:
        good = wish(1)
        for change, text in (({"sink": None}, "sink"), ({"sink": "ftp://a/"}, "http"),
                             ({"sink": "nowhere"}, "sink"), ({"sink": "http://u:p@a/"}, "password"),
                             ({"protocol": None}, "protocol"), ({"protocol": "KAFKA"}, "KAFKA"),
                             ({"protocol": "http"}, "HTTP"),
                             ({"sinkcredential": {"credentialtype": "PLAIN"}}, "sinkcredential"),
                             ({"config": {"x": 1}}, "`x`"), ({"config": 7}, "config"),
                             ({"source": ""}, "source"), ({"source": 7}, "source"),
                             ({"types": ["a", ""]}, "types"), ({"types": "a"}, "types"),
                             ({"filter": []}, "`filter`"), ({"filters": {}}, "filters"),
                             ({"filters": [{"exac": {"type": "a"}}]}, "exac"),
                             ({"filters": [{"exact": {"type": ""}}]}, "exact"),
                             ({"filters": [{"any": []}]}, "any"),
                             ({"filters": [{"exact": {"a": "b"}, "not": {}}]}, "filter"),
                             ({"filters": [{"sql": "type ="}]}, "sql"),
                             ({"filters": ["x"]}, "filter"),
                             ({"protocolsettings": []}, "protocolsettings"),
                             ({"protocolsettings": {"method": "PUT"}}, "POST"),
                             ({"protocolsettings": {"qos": 1}}, "qos"),
                             ({"protocolsettings": {"headers": {"Authorization": "x"}}}, "secret"),
                             ({"protocolsettings": {"headers": {"X-A": 7}}}, "X-A"),
                             ({"protocolsettings": {"headers": {"a b": "7"}}}, "a b"),
                             ({"protocolsettings": {"headers": {"ce-id": "7"}}}, "ce-id"),
                             ({"protocolsettings": {"headers": {"X-A": "${env:API_TOKEN}"}}}, "reference"),
                             ({"sink": "http://a/${env:API_TOKEN}"}, "reference"),
                             ({"source": "$" + "{file:/etc/passwd}"}, "reference")):
            body = {k: v for k, v in {**good, **change}.items() if v is not None}
            status, answer = m.api("POST", "/subscriptions", json.dumps(body), JSON)
            assert status == 400 and text in answer["error"], (change, status, answer)
        for body in ("", "[]", "7", "{", "{} {}", '{"sink":"http://a/","sink":"http://b/","protocol":"HTTP"}',
                     "\x00", "[" * 50000, b"\xff\xfe{}", '{"protocol":"HTTP","sink":"http://a/","source":"\\u0000"}'):
            assert m.api("POST", "/subscriptions", body, JSON)[0] == 400, body
        raw = json.dumps(wish(1, source="a")).encode().replace(b'"a"', b'"\xff"')
        assert m.api("POST", "/subscriptions", raw, JSON)[0] == 400
        assert m.api("POST", "/subscriptions", json.dumps(good), {"Content-Type": "text/plain"})[0] == 415
        assert m.api("POST", "/subscriptions", json.dumps(wish(1, source="x" * 70000)), JSON)[0] == 413
        # Whose it is.
        for method, code in (("PUT", 403), ("DELETE", 403), ("GET", 404)):
            status, answer = m.api(method, "/subscriptions/mine", json.dumps(good), JSON)
            assert status == code and "configuration file" in answer["error"], (method, status, answer)
            assert m.api(method, "/subscriptions/nobody", json.dumps(good), JSON)[0] == 404
        assert m.api("PUT", "/subscriptions", "{}", JSON)[0] == 405
        made = create(m, wish(1, id="own", filters=[]))
        assert made["id"] != "own"
        status, answer = m.api("PUT", "/subscriptions/" + made["id"], json.dumps(wish(1, id="own")), JSON)
        assert status == 400 and "id" in answer["error"], answer
        # Nothing of it came to stay.
        assert m.api("GET", "/subscriptions") == (200, [made])
        assert {s["name"] for s in m.ask_lines("sub", "list")} >= {"mine", made["id"]}


def test_on_the_listener_only_with_the_token():
    with shop() as m:
        for headers, code in ((JSON, 401), ({**JSON, "Authorization": "Bearer x"}, 401),
                              ({**JSON, "Authorization": "Basic " + TOKEN}, 401),
                              ({**LISTEN, "Origin": "http://evil.example"}, 403),
                              ({**LISTEN, "Host": "evil.example"}, 403),
                              ({**LISTEN, "Host": "127.0.0.1.evil.example"}, 403),
                              ({**LISTEN, "Host": "localhost.evil:80"}, 403),
                              ({**LISTEN, "Host": "localhost:80"}, 200), ({**LISTEN, "Host": "[::1]"}, 200),
                              (LISTEN, 200)):
            assert m.http("GET", "/subscriptions", None, headers)[0] == code, headers
            assert m.http("DELETE", "/subscriptions/x", None, headers)[0] == (code if code != 200 else 404), headers
        log = m.log.read_text()
        assert TOKEN not in log
        assert TOKEN not in json.dumps(records(m))
    with shop(token=None) as m:
        assert m.http("GET", "/subscriptions", None, LISTEN)[0] == 404
        assert m.api("GET", "/subscriptions") == (200, [])
        # To open it takes a restart, and is said.
        m.write_config({"sources": {"in": http_source()}, "subscriptions_api": {"token": "x"}})
        refused = m.cli("reload")
        assert refused.code != 0 and "subscriptions_api.token" in refused.err, (refused.code, refused.err)


def test_sinks_are_on_the_public_internet_unless_the_file_says_more():
    with Service() as sink, shop(egress="public") as m:
        made = create(m, wish(sink.port))
        m.post(event("a1", "x"))

        def refused():
            delivery = m.delivery("a1", made["id"])
            seen = delivery["uncounted"] + delivery["attempts"]
            return seen and "public internet" in json.dumps(seen)
        wait_until("refused", refused)
        assert sink.requests == []
        # The operator may allow it: a reload is enough, for those that are there as well.
        m.write_config({"sources": {"in": http_source()}, "subscriptions_api": {"egress": "any", "token": "${env:API_TOKEN}"}})
        assert m.cli("reload").code == 0
        m.post(event("a2", "x"))
        wait_until("taken", lambda: "a2" in ids(sink))


def test_bounds_and_a_file_that_is_being_edited():
    with shop(subscriptions_api={"max": 2, "egress": "any"}) as m:
        first = create(m, wish(1, types=["a"]))
        create(m, wish(1, types=["b"]))
        status, answer = m.api("POST", "/subscriptions", json.dumps(wish(1)), JSON)
        assert status == 409 and "max" in answer["error"], answer
        assert m.api("DELETE", "/subscriptions/" + first["id"])[0] == 204
        create(m, wish(1, types=["c"]))
        # What somebody writes into the file does not come in by a change over the API.
        saved = m.path.read_text()
        for text in (saved.replace('"mine."', '"other."'), saved[:-5]):
            m.path.write_text(text)
            status, answer = m.api("DELETE", "/subscriptions/" + first["id"])
            assert status == 404
            held = m.api("GET", "/subscriptions")[1]
            status, answer = m.api("DELETE", "/subscriptions/" + held[0]["id"])
            assert status == 409 and "reload first" in answer["error"], (status, answer)
            assert m.api("GET", "/subscriptions")[1] == held
        m.path.write_text(saved.replace('"mine."', '"other."'))
        assert m.cli("reload").code == 0
        assert m.api("DELETE", "/subscriptions/" + held[0]["id"])[0] == 204


def test_a_file_that_takes_its_name_leaves_it_out_until_it_is_mended():
    with Service() as sink, shop() as m:
        made = create(m, wish(sink.port, types=["a"]))
        other = create(m, wish(sink.port, types=["b"]))
        saved = m.path.read_text()
        whole = json.loads(saved)
        whole["sinks"] = {made["id"]: {"file": {"path": "out"}}}
        m.path.write_text(json.dumps(whole))
        assert m.cli("reload").code != 0
        m.stop(signal.SIGKILL)
        m.start()
        assert "is left out" in m.log.read_text() and "defined twice" in m.log.read_text()
        assert m.api("GET", "/subscriptions") == (200, [made, other])
        # The one that is in the way can go, and then the other is there again.
        assert m.api("DELETE", "/subscriptions/" + other["id"])[0] == 400
        assert m.api("DELETE", "/subscriptions/" + made["id"])[0] == 204
        m.post([event("a1", "a"), event("b1", "b")])
        wait_until("taken", lambda: ids(sink) == ["b1"])


def test_what_was_answered_outlives_a_kill_in_the_midst():
    with shop() as m:
        held = set()
        for round in range(3):
            answered, deleted, asked = set(held), set(), []

            def work():
                try:
                    while True:
                        if len(answered) > 10 + 3 * round:
                            asked.append(sorted(answered)[0])
                            if m.api("DELETE", "/subscriptions/" + asked[-1])[0] == 204:
                                answered.discard(asked[-1])
                                deleted.add(asked[-1])
                        else:
                            answered.add(create(m, wish(1, types=["t%d" % len(answered)]))["id"])
                except (OSError, http.client.HTTPException):
                    pass  # killed
            thread = threading.Thread(target=work)
            thread.start()
            wait_until("some changes", lambda: len(deleted) > 5)
            m.stop(signal.SIGKILL)
            thread.join()
            m.start()
            held = {s["id"] for s in m.api("GET", "/subscriptions")[1]}
            # What had no answer yet may be either way: one deletion, or one creation.
            assert answered - held <= set(asked[-1:]), (answered, held)
            assert not held & deleted and len(held - answered) <= 1, (answered, held)


def test_it_is_kept_when_the_log_has_moved_on():
    with Service() as sink, shop(log={"segment_size": "1MiB", "retain_size": "1MiB", "retain_age": "1s",
                                      "checkpoint_size": "1MiB"}) as m:
        made = create(m, wish(sink.port, types=["wanted"]))
        start = m.ask("status")["log"]["oldest_position"]

        def moved():
            m.post([event("f", "bulk", data="x" * 10000) for _ in range(30)])
            return m.ask("status")["log"]["oldest_position"] > start
        wait_until("the first segment is gone", moved)
        m.stop(signal.SIGKILL)
        m.start()
        assert m.api("GET", "/subscriptions") == (200, [made])
        m.post(event("w", "wanted"))
        wait_until("taken", lambda: ids(sink) == ["w"])


if __name__ == "__main__":
    main()
