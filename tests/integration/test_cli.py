"""Verbs without an instance: usage, help, check, new, normalise, filter test, log verify and dump."""
import json

from support import *

VERBS = ["run", "check", "new", "send", "tail", "trace", "why", "explain", "audit", "dlq list", "dlq show",
         "dlq groups", "dlq redrive", "dlq purge", "dlq edit", "delivery list", "delivery resume",
         "delivery skip", "delivery edit", "sub list", "sub show", "sub pause", "sub resume", "source list",
         "source show", "source pause", "source resume", "worker list", "worker show", "status", "reload",
         "clock accept", "log verify", "log repair", "log dump", "normalise", "filter eval", "filter test", "version", "completion"]


def test_every_verb_has_help():
    overview = cli("--help")
    assert overview.code == 0 and cli("help").out == overview.out
    for verb in VERBS:
        result = cli(*verb.split(), "--help")
        assert result.code == 0 and result.out.startswith("usage: millrace " + verb), (verb, result.out)
        assert "--help" in result.out and "  %s" % verb in overview.out, verb
        assert cli("help", *verb.split()).out == result.out, verb


def test_wrong_usage_is_2_and_helps():
    assert cli().code == 2
    wrong = cli("chek")
    assert wrong.code == 2 and '"check"' in wrong.err, wrong.err
    assert '"dlq list"' in cli("dlq", "lst").err
    group = cli("dlq")
    assert group.code == 2 and "dlq redrive" in group.err, group.err
    option = cli("trace", "x", "--outptu", "json")
    assert option.code == 2 and "--output" in option.err, option.err
    assert cli("trace").code == 2 and cli("trace", "a", "b").code == 2
    assert cli("trace", "a", "-o").code == 2 and cli("trace", "a", "-o", "xml").code == 2
    assert cli("reload", "--dry-run=yes").code == 2
    assert cli("run", "--log-level", "loud").code == 2
    for later in ("top", "console", "bench", "erase"):
        result = cli(later)
        assert result.code == 2 and "not available in this release" in result.err, result.err
    assert cli("dlq", "edit", "s", "1", input="{}").code == 65


def test_version():
    assert re.match(r"millrace \d+\.\d+\.\d+\n$", cli("version").out)
    assert cli("--version").out == cli("version").out
    assert "version" in cli("version", "-o", "json").json()


def test_check_tells_every_error_with_its_place():
    with folder() as at:
        (at / "c.yaml").write_text("data_dir: ./data\nsources:\n  in: {http: {pth: /x}}\n"
                                   "  in2: {htp: {}}\nsubscriptions:\n  s: {to: nobody, ordr_by: subject}\n")
        result = cli("check", "-c", at / "c.yaml")
        assert result.code == 65, result.code
        lines = result.err.splitlines()
        assert len(lines) >= 4, result.err
        assert any(re.search(r"c\.yaml:3:\d+: .*path", line) for line in lines), result.err
        assert any(re.search(r"c\.yaml:4:\d+: .*http", line) for line in lines), result.err
        assert any("order_by" in line for line in lines), result.err
        errors = cli("check", "-c", at / "c.yaml", "-o", "json")
        assert errors.code == 65 and len(errors.lines()) >= 4, errors.out
        assert {"file", "line", "column", "error"} <= set(errors.lines()[0]), errors.out
        assert cli("check", "-c", at / "missing.yaml").code == 3
        assert cli("run", "-c", at / "c.yaml").code == 65


def test_check_refuses_bad_filters():
    with folder() as at:
        path = at / "c.json"
        for filter in ({"exact": {}}, {"nearly": {"type": "x"}}, {"all": []}, {"exact": {"type": ""}}, 7):
            path.write_text(json.dumps({"sources": {"in": http_source()}, "workers": {"w": {"exec": {"command": ["true"]}}},
                                        "subscriptions": {"s": {"filter": filter, "to": "w"}}}))
            result = cli("check", "-c", path)
            assert result.code == 65 and result.err.strip(), (filter, result.err)
        (at / "one.yaml").write_text("workers: {w: {exec: {command: [x]}}}\nsubscriptions:\n  s:\n    to: w\n    filter:\n"
                                     "      - exact: {type: a}\n      - any:\n          - sql: type = 'a'\n"
                                     "          - sql: type = = 'a'\n          - {data: {range: {order.total: {gt: much}}}}\n")
        one = cli("check", "-c", at / "one.yaml").err
        assert "one.yaml:9:13: " in one and "filter[1].any[1].sql at character 8, at `= 'a'`" in one, one
        (at / "two.yaml").write_text("workers: {w: {exec: {command: [x]}}}\nsubscriptions:\n"
                                     "  s: {to: w, filter: {suffx: {subject: a}}}\n"
                                     "  t:\n    to: w\n    filter: {all: []}\n")
        two = cli("check", "-c", at / "two.yaml").err
        assert "two.yaml:3:23: " in two and "suffx" in two and "two.yaml:6:14: " in two, two


def test_check_needs_no_port_and_prints_the_budget():
    with Instance({"sources": {"in": http_source()}}) as m, folder() as at:
        path = at / "c.json"
        path.write_text(json.dumps({"listen": "127.0.0.1:%d" % m.port, "sources": {
            "in": http_source(), "m": {"mqtt": {"url": "mqtt://127.0.0.1:1", "topics": ["a"]}}}}))
        result = cli("check", path)
        assert result.code == 0 and "delivery state" in result.out, (result.out, result.err)
        summed = cli("check", path, "-o", "json").json()["memory_max"]
        starting = max(summed.pop("mirror"), summed.pop("recovery"))
        total, state = summed.pop("sum"), summed["delivery_state"]
        assert total == max(sum(summed.values()), state + starting), (total, summed)
        assert not (at / "data").exists()


def test_the_budget_counts_what_a_source_may_hold():
    with folder() as at:
        def held(kind, **options):
            path = at / "c.json"
            path.write_text(json.dumps({"listen": "127.0.0.1:1", "sources": {"s": {kind: options}}}))
            return cli("check", path, "-o", "json").json()["memory_max"]["connectors"]
        small, large = (held("http", path="/in", pending_max=size) for size in ("1MiB", "65MiB"))
        assert large - small == 64 << 20 < large, (small, large)
        assert held("objectstore", via="webhook", path="/in") == held("http", path="/in")
        assert held("objectstore", via="kafka", brokers=["b:1"], topics=["t"]) == held(
            "kafka", brokers=["b:1"], topics=["t"])


def test_new_projects_check_and_their_scripts_compile():
    with folder() as at:
        for project in ("alerting", "iot", "orders"):
            where = at / project
            made = cli("new", project, where)
            assert made.code == 0, made.err
            assert cli("check", "-c", where / "millrace.yaml").code == 0
            assert (where / "README.md").exists() and (where / "millrace.py").exists()
            for script in where.glob("*.py"):
                compile(script.read_text(), str(script), "exec")
            for script in where.glob("*.sh"):
                assert script.stat().st_mode & 0o100
                assert subprocess.run(["sh", "-n", str(script)]).returncode == 0
            again = cli("new", project, where)
            assert again.code == 1 and "exist" in again.err.lower(), again.err
        assert cli("new", "castle", at / "x").code == 2


def test_new_orders_project_runs():
    with folder() as at:
        cli("new", "orders", at / "p")
        config = (at / "p" / "millrace.yaml").read_text().replace("127.0.0.1:8080", "127.0.0.1:0")
        (at / "p" / "millrace.yaml").write_text(config)
        m = Instance({}, start=False)
        with m:
            shutil.rmtree(m.folder)
            shutil.copytree(at / "p", m.folder)
            m.start()
            m.post(event("o1", "com.example.order.placed", "shop-7", {"item": "lamp", "quantity": 2}), "/orders")
            m.wait_state("o1", "stock", "done")
            m.wait_state("o1", "confirm", "done")
            m.post(event("o2", "com.example.order.placed", "shop-7", {"quantity": 0}), "/orders")
            m.wait_state("o2", "stock", "dead")
            assert (m.folder / "outbox.txt").exists()
            wait_until("the ledger", lambda: (m.folder / "ledger.jsonl").exists())


def test_normalise_both_ways():
    sent = event("n1", subject="ü", data={"a": 1})
    back = cli("normalise", "--as", "cloudevents", input=json.dumps(sent))
    assert back.code == 0 and back.lines() == [sent], (back.out, back.err)
    message = cli("normalise", "--to", "http", input=json.dumps(sent))
    assert message.code == 0 and message.json()["headers"], message.out
    assert cli("normalise", "--to", "mqtt", "--mode", "structured", input=json.dumps(sent)).code == 0
    with folder() as at:
        (at / "h").write_text("ce-specversion: 1.0\nce-id: h1\nce-source: /s\nce-type: t\nContent-Type: text/plain\n")
        got = cli("normalise", "--as", "http", "--headers", at / "h", input="hello")
        assert got.code == 0 and got.lines()[0]["data"] == "hello", (got.out, got.err)
    refused = cli("normalise", "--as", "cloudevents", input='{"specversion":"1.0"}')
    assert refused.code == 65 and refused.err.strip(), refused.err
    assert cli("normalise", "--as", "fax", input="x").code in (2, 65)
    assert cli("normalise", "--as", "http", "--to", "http", input="x").code == 2
    assert cli("normalise", "--to", "http", "--mode", "loud", input="x").code == 2


def test_filter_test_is_true_or_false():
    with folder() as at:
        def test(filter, sent):
            (at / "f.json").write_text(json.dumps(filter))
            return cli("filter", "test", "--filters", at / "f.json", input=json.dumps(sent))
        assert test([{"exact": {"type": "a"}}], event("1", "a")).out == "true\n"
        assert test([{"exact": {"type": "a"}}], event("1", "b")).out == "false\n"
        assert test([{"not": {"prefix": {"subject": "x"}}}], event("1", subject="yx")).out == "true\n"
        for bad in ([{"nearly": {"type": "a"}}], [{"all": []}], [{"exact": {"type": ""}}], "x"):
            assert test(bad, event("1")).code == 65, bad
        assert test([], {"no": "event"}).code == 65
        assert cli("filter", "test", "--filters", at / "none", input="{}").code == 3
        assert cli("filter", "test", input="{}").code == 2


def test_filter_eval_prints_value_and_error():
    def run(expression, sent=None):
        return cli("filter", "eval", "--sql", expression, "-o", "json", input=json.dumps(sent or event("1", "a")))
    for expression, result, error in (("type = 'a'", True, None), ("LENGTH(type)", 1, None), ("CONCAT(type, '\"é')", "a\"é", None),
                                      ("missing", False, "missingAttribute"), ("1 / 0", 0, "math"), ("INT('x')", 0, "cast"),
                                      ("nosuch(1)", False, "missingFunction"), ("LEFT('ab', -1)", "ab", "functionEvaluation")):
        got = run(expression)
        assert got.code == 0 and got.json() == {"result": result, "error": error}, (expression, got.out, got.err)
    assert run("n = 10 AND b", event("1", n=10, b=True)).json()["result"] is True
    bad = run("type LIKE 5")
    assert bad.code == 65 and bad.json() == {"result": False, "error": "parse"}, bad.out
    assert "at character 11, at `5`: LIKE wants a pattern in quotes" in bad.err, bad.err
    assert cli("filter", "eval", "--sql", "1 / 0", input=json.dumps(event("1"))).out == "0 (math)\n"
    assert cli("filter", "eval", "--sql", "TRUE", "-o", "json", input="{}").code == 65
    assert cli("filter", "eval", "-o", "json", input=json.dumps(event("1"))).code == 2


def with_log(events=20):
    m = Instance({"sources": {"in": http_source()}, "workers": {"w": {"exec": {"command": ["true"]}}},
                  "subscriptions": {"s": {"filter": {"exact": {"type": "none"}}, "to": "w"}}})
    with m:
        for i in range(events):
            m.post(event("e%d" % i, data="x" * 500))
        assert m.stop() == 0
        copy = pathlib.Path(tempfile.mkdtemp(prefix="mr-"))
        shutil.copytree(m.folder / "data", copy / "data")
        return copy


def test_log_verify_and_dump():
    copy = with_log()
    try:
        result = cli("log", "verify", copy / "data", "-o", "json")
        assert result.code == 0 and result.lines()[-1]["events"] == 20, result.out
        assert cli("log", "verify", copy / "data" / "log").code == 0
        records = cli("log", "dump", copy / "data", "-o", "json").lines()
        events = [r for r in records if r["kind"] == "event"]
        assert [e["id"] for e in events] == ["e%d" % i for i in range(20)]
        assert [e["offset"] for e in events] == list(range(events[0]["offset"], events[0]["offset"] + 20))
        assert all("kind" in r and "position" in r for r in records)
        assert {"start", "name", "config"} <= {r["kind"] for r in records}, {r["kind"] for r in records}
    finally:
        shutil.rmtree(copy)


def test_log_verify_finds_damage():
    copy = with_log()
    try:
        segment = max((copy / "data" / "log").glob("seg-*"), key=lambda p: p.read_bytes().count(b"com.example.a"))
        blob = bytearray(segment.read_bytes())
        at = blob.index(b"\x02\x00e4") if b"\x02\x00e4" in blob else blob.index(b"e4")
        blob[at] ^= 0x40
        segment.write_bytes(blob)
        result = cli("log", "verify", copy / "data")
        assert result.code == 1 and "damaged" in result.out, (result.code, result.out)
        assert cli("log", "verify", copy / "data", "-o", "json").lines()[-1]["whole"] is False
    finally:
        shutil.rmtree(copy)


def test_log_verify_of_nothing_is_3():
    with folder() as at:
        assert cli("log", "verify", at).code == 3
        assert cli("log", "dump", at / "missing").code == 3


def test_completion_is_valid_bash():
    result = cli("completion", "bash")
    assert result.code == 0 and "complete -F _millrace millrace" in result.out
    assert subprocess.run(["bash", "-n"], input=result.out.encode()).returncode == 0
    assert cli("completion", "fish").code == 2


if __name__ == "__main__":
    main()
