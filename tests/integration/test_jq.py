"""Transforms in jq, which helper processes run, with a running instance."""
import json
import os
import pathlib
import re
import signal

from support import Instance, Service, event, http_source, main, wait_until

EXEC = {"exec": {"command": ["true"]}}


def config(programs, **more):
    """One subscription for each name in `programs`, which takes events whose type is its name."""
    return {"sources": {"in": http_source()}, "workers": {"w": EXEC},
            "subscriptions": {name: {"to": "w", "filter": {"exact": {"type": name}}, "retry": {"schedule": ["10ms"]},
                                     "transform": program if isinstance(program, dict) else {"jq": program}}
                              for name, program in programs.items()}, **more}


def helpers(m):
    """Processes of our program that run jq for this instance."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = re.fullmatch(r"\d+ \((.*)\) (.*)", path.read_text().strip(), re.S).groups()
            command = (path.parent / "cmdline").read_bytes()
        except (OSError, AttributeError):
            continue
        if command.startswith(b"millrace-jq\0") and rest.split()[0] != "Z":
            found.append((int(path.parent.name), int(rest.split()[1])))
    return [pid for pid, parent in found if parent == m.process.pid]


def error(m, id, subscription, state="dead"):
    return m.wait_state(id, subscription, state)["attempts"][-1]["error"]


def test_a_subscription_gets_what_its_program_makes_and_the_log_keeps_the_event():
    program = """
      # The order alone, under another type.
      .type = "small." + .type
      | .customer = .tenant | del(.tenant)
      | .data |= {id: .order.id, tags: [.tags[] | ascii_upcase]}
    """
    with Service() as service:
        conf = config({"order": program, "text": ".data |= ascii_upcase"})
        conf["workers"]["w"] = {"http": {"url": "http://127.0.0.1:%d/" % service.port}}
        conf["subscriptions"]["plain"] = {"to": "w"}
        with Instance(conf) as m:
            m.post(event("1", "order", data={"order": {"id": 7}, "tags": ["a", "é"]}, tenant="acme"))
            m.post(event("2", "text", data="hello", datacontenttype="text/plain"))
            for id, name in (("1", "order"), ("2", "text"), ("1", "plain"), ("2", "plain")):
                m.wait_state(id, name, "done")
            got = {r["headers"]["ce-type"]: r for r in service.requests if r["headers"]["ce-id"] == "1"}
            assert json.loads(got["small.order"]["body"]) == {"id": 7, "tags": ["A", "é"]}, got
            assert got["small.order"]["headers"]["ce-customer"] == "acme" and "ce-tenant" not in got["small.order"]["headers"]
            assert got["order"]["headers"]["ce-tenant"] == "acme"
            assert m.trace("1")["event"]["type"] == "order"
            assert b"HELLO" in [r["body"] for r in service.requests]


WRONG = {
    "raises": ('error("no total")', "transform: no total"),
    "raises-object": ('error({code: 7})', 'transform: {"code":7}'),
    "halts": ('"enough" | halt_error', "transform: enough"),
    "typo": ('.data.a + 1 | .b', "transform: string"),
    "two": ("., .", "transform: there is more than one output"),
    "late": ('., error("late")', "transform: late"),
    "text": (".type", "transform: the output is no object but: string"),
    "array": ("[.]", "transform: the output is no object but: array"),
    "id": ('.id = "other"', "transform: the output has another id"),
    "bare": ("{}", "transform: the output is no event"),
    "no-type": ("del(.type)", "transform: the output is no event"),
    "version": ('.specversion = "0.3"', "transform: the output is no event"),
    "name": ('."Not a name" = "x"', "transform: the output is no event"),
    "own": ('.mrhops = 0', "transform: the output changes mrhops"),
    "deep": ('.data = (reduce range(200) as $i (1; [.]))', "transform: the output is no JSON, or nested too deeply"),
    "large": ({"jq": '.data = (reduce range(22) as $i ("x"; . + .))', "timeout": "10s"}, "transform: the output is no event"),
}


def test_what_is_no_event_is_a_dead_letter_with_the_message():
    with Instance(config({name: program for name, (program, _) in WRONG.items()})) as m:
        for name in WRONG:
            m.post(event(name, name, data={"a": "text"}))
        for name, (_, words) in WRONG.items():
            said = error(m, name, name)
            assert said.startswith(words), (name, said)
        assert len(m.letters("two")) == 1


def test_a_subscription_drops_what_its_program_gives_no_output_for():
    with Instance(config({"a": "select(.data.n > 1)"})) as m:
        m.post(event("1", "a", data={"n": 1}))
        m.post(event("2", "a", data={"n": 2}))
        assert error(m, "1", "a", "dropped") == "transform: the program gave no output"
        m.wait_state("2", "a", "done")


def test_a_batch_stays_together():
    bomb = 'if .id == "c" then error("no") elif .id == "e" then def f: f; f else .data = {n: .id} end'
    with Service() as service:
        conf = config({"a": bomb, "b": ".data = {n: .id}"})
        conf["workers"]["w"] = {"http": {"url": "http://127.0.0.1:%d/" % service.port}}
        for subscription in conf["subscriptions"].values():
            subscription["batch"] = {"max": 6, "window": "1h"}
        with Instance(conf) as m:
            for i in range(3):
                m.post([event(id if i == 0 else id + str(i), "a") for id in "abcdef"] + [event("B%s%d" % (id, i), "b") for id in "abcdef"])
            for id, words in (("c", "no"), ("e", "processor time")):
                assert words in error(m, id, "a")
            got = wait_until("six batches", lambda: service.requests if len(service.requests) == 6 else None)
            sent = sorted([e["data"]["n"] for e in json.loads(r["body"])] for r in got)
            assert sent == sorted([["a", "b", "d", "f"]] + [[id + str(i) for id in "abcdef"] for i in (1, 2)] +
                                  [["B%s%d" % (id, i) for id in "abcdef"] for i in range(3)]), sent


def test_a_source_transforms_before_the_log():
    transform = {"jq": '.type = "com.example." + .data.kind | .data.n += 1'}
    conf = {"sources": {"in": {**http_source(), "transform": transform, "validate": {"types": {"com.example.order": {"properties": {"n": {"maximum": 9}}}}}},
                        "picky": {**http_source("/picky"), "transform": {"jq": 'select(.data.n != 0) | .source = "/changed"'}}},
            "workers": {"w": EXEC}, "subscriptions": {"orders": {"filter": {"exact": {"type": "com.example.order"}}, "to": "w"}}}
    with Instance(conf) as m:
        many = [event("b%d" % i, "raw", data={"kind": "order", "n": i}) for i in range(100)]
        m.post(many)
        for i in range(9):
            m.wait_state("b%d" % i, "orders", "done")
        told = m.trace("b3")
        assert told["event"]["data"] == {"kind": "order", "n": 4} and told["matched"] == ["orders"], told
        rejected = wait_until("the dead letters", lambda: (lambda found: found if len(found) == 91 else None)(m.letters("ingest:in")))
        assert all("maximum" in letter["error"] for letter in rejected)
        m.post(event("1", "raw", data={"kind": 5}))
        wait_until("its dead letter", lambda: [l for l in m.letters("ingest:in") if l["event"]["id"] == "1" and l["error"].startswith("transform: ")])
        m.post(event("2", "raw", data={"n": 0}), path="/picky")
        letter = wait_until("its dead letter", lambda: m.letters("ingest:picky"))[0]
        assert letter["event"]["id"] == "2" and letter["error"] == "transform: the program gave no output", letter
        m.post(event("3", "raw", data={"n": 1}), path="/picky")
        assert m.trace("3")["event"]["source"] == "/changed"


def test_what_takes_too_much_is_killed_and_its_neighbours_do_not_notice():
    """All of one subscription, so of one pipe: every eleventh does what `bomb` says."""
    bombs = {"loop": "def f: f; f", "range": "[range(1e9)]", "memory": "reduce range(60) as $i (\"x\"; . + .)",
             "stack": "def f: 1 + f; f", "deep": "reduce range(1e7) as $i (1; [.])", "outputs": "range(1e12) | empty"}
    programs = {name: {"jq": "if .data.bad then %s else .data.seen = true end" % bomb, "timeout": "10s" if name == "memory" else "100ms"}
                for name, bomb in bombs.items()}
    with Service() as service:
        conf = config(programs)
        conf["workers"]["w"] = {"http": {"url": "http://127.0.0.1:%d/" % service.port}, "concurrency": 100}
        with Instance(conf) as m:
            for name in bombs:
                m.post([event("%s-%d" % (name, i), name, data={"bad": i % 11 == 5}) for i in range(22)])
            said = {}
            for name in bombs:
                dead = wait_until("the dead letters of %s" % name, lambda: (lambda found: found if len(found) == 2 else None)(m.letters(name)))
                assert {letter["event"]["id"] for letter in dead} == {"%s-5" % name, "%s-16" % name}, dead
                said[name] = {letter["error"] for letter in dead}
            for name, errors in said.items():
                assert all(any(words in text for words in ("processor time", "memory", "the jq process")) for text in errors), said
            assert said["loop"] == {"transform: the program took more than 100 ms of processor time"}, said
            assert all("128 MiB of memory" in text or "exited with" in text for text in said["memory"]), said  # a sanitizer ends it itself
            wait_until("the others", lambda: len(service.requests) == 20 * len(bombs))
            assert all(json.loads(r["body"])["seen"] for r in service.requests)
            metrics = m.metrics()
            assert metrics['millrace_jq_runs_total{subscription="loop"}'] >= 22 and metrics['millrace_jq_errors_total{subscription="loop"}'] == 2
            assert metrics['millrace_jq_kills_total{subscription="loop"}'] >= 2 and metrics['millrace_jq_busy_seconds_total{subscription="loop"}'] > 0


def test_programs_that_are_killed_do_not_hold_up_others():
    conf = config({"bad": "def f: f; f", "worse": "def f: f; f", "worst": "def f: f; f", "good": ".subject = \"seen\""})
    for name in list(conf["subscriptions"]):
        conf["workers"][name] = EXEC
        conf["subscriptions"][name]["to"] = name
    with Instance(conf) as m:
        for name in ("bad", "worse", "worst"):
            m.post([event("%s-%d" % (name, i), name) for i in range(100)])
        for i in range(10):
            m.post(event("good-%d" % i, "good"))
            m.wait_state("good-%d" % i, "good", "done")
        ended = sum(len(m.letters(name)) for name in ("bad", "worse", "worst"))
        assert ended < 300, ended  # the others are at it still


def test_a_program_sees_no_environment_no_files_and_no_input():
    show = '.data = {env: (env | length), ENV: ($ENV | length), inputs: [inputs], name: input_filename, path: get_search_list}'
    conf = {"sources": {"in": {**http_source(), "transform": {"jq": show}}}, "workers": {"w": EXEC}, "subscriptions": {"s": {"to": "w"}}}
    with Instance(conf, files={".jq": "def hidden: 1;", "m.jq": "def f: 1;", "d.json": "{}"}, env={"SECRET": "x"}) as m:
        m.post(event("1"))
        m.wait_state("1", "s", "done")
        assert m.trace("1")["event"]["data"] == {"env": 0, "ENV": 0, "inputs": [], "name": None, "path": []}, m.trace("1")
        for program, words in (('import "m" as m; .', "there are no modules"), ('include "m"; .', "there are no modules"),
                               ('import "m" as m {search: "%s"}; .' % m.folder, "there are no modules"),
                               ('import "d" as $d {search: "%s"}; .' % m.folder, "there are no modules"), ("hidden", "hidden/0 is not defined")):
            m.write_config({**conf, "subscriptions": {"s": {"to": "w", "transform": {"jq": program}}}})
            done = m.cli("check", env={"HOME": str(m.folder), "JQ_LIBRARY_PATH": str(m.folder)})
            assert done.code == 65 and words in done.err + done.out, (program, done.out + done.err)


def test_broken_programs_are_refused_with_their_place():
    text = """data_dir: ./data
listen: "127.0.0.1:0"
sources: {in: {http: {path: /events}}}
workers: {w: {exec: {command: ["true"]}}}
subscriptions:
  s:
    to: w
    transform:
      jq: |
        .type = "x"
        | .data |= {id: .order.id
      timeout: 50ms
"""
    with Instance({}, start=False) as m:
        def check(changed):
            m.path.write_text(changed)
            done = m.cli("check")
            return done.code, done.out + done.err
        code, said = check(text)
        assert code == 65 and "millrace.yaml:8" in said and "jq: syntax error" in said and "in line " in said, said
        code, said = check(text.replace("order.id\n", "order.id}\n"))
        assert code == 0, said
        for old, new, words in (("{id: .order.id", "foo(1)", "jq: foo/1 is not defined in line 2"), ("50ms", "1h", "timeout wants a duration"),
                                ("50ms", "50ms\n      set: {a: b}", "jq stands alone"), ("jq: |", "jqq: |", "unknown key"),
                                ("      jq: |\n        .type = \"x\"\n        | .data |= {id: .order.id\n", "", "timeout belongs to jq")):
            code, said = check(text.replace(old, new))
            assert code == 65 and words in said, (words, said)


def test_a_reload_changes_the_program_and_refuses_a_broken_one():
    conf = config({"a": '.type = "first"'})
    with Service() as service:
        conf["workers"]["w"] = {"http": {"url": "http://127.0.0.1:%d/" % service.port}}
        with Instance(conf) as m:
            def types():
                return [r["headers"]["ce-type"] for r in service.requests]
            m.post(event("1", "a"))
            m.wait_state("1", "a", "done")
            conf["subscriptions"]["a"]["transform"]["jq"] = '.type = "second"'
            m.write_config(conf)
            assert m.cli("reload").code == 0
            m.post(event("2", "a"))
            m.wait_state("2", "a", "done")
            conf["subscriptions"]["a"]["transform"]["jq"] = "nonsense"
            m.write_config(conf)
            refused = m.cli("reload")
            assert refused.code != 0 and "nonsense/0 is not defined" in refused.out + refused.err, refused.err
            m.post(event("3", "a"))
            m.wait_state("3", "a", "done")
            conf["subscriptions"]["a"]["transform"]["jq"] = 'error("wrong")'
            m.write_config(conf)
            assert m.cli("reload").code == 0
            m.post(event("4", "a"))
            assert error(m, "4", "a") == "transform: wrong"
            del conf["subscriptions"]["a"]["transform"]
            m.write_config(conf)
            assert m.cli("reload").code == 0
            assert m.cli("dlq", "redrive", "a").code == 0
            m.wait_state("4", "a", "done")
            assert types() == ["first", "second", "second", "a"], types()


def test_a_helper_that_is_killed_or_stopped_costs_nothing():
    with Instance(config({"a": "."})) as m:
        m.post(event("0", "a"))
        m.wait_state("0", "a", "done")
        for i, number in enumerate((signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV)):
            for pid in helpers(m):
                os.kill(pid, number)
            m.post(event("after-%d" % i, "a"))
            assert len(m.wait_state("after-%d" % i, "a", "done")["attempts"]) == 1


def test_without_the_library_a_program_is_refused_by_name():
    with Instance(config({"a": "."}), files={"libjq.so.1": "no library"}, start=False) as m:
        done = m.cli("check", env={"LD_LIBRARY_PATH": str(m.folder)})
        assert done.code == 65 and "jq is not available" in done.err and "libjq.so.1" in done.err, done.err
        assert m.cli("check").code == 0


def test_no_helper_outlives_the_bus():
    conf = config({"a": "def f: f; f", "b": "."})
    conf["subscriptions"]["a"]["transform"] = {"jq": "def f: f; f", "timeout": "10s"}
    with Instance(conf) as m:
        m.post([event("a", "a"), event("b", "b")])
        m.wait_state("b", "b", "done")
        pids = wait_until("both helpers", lambda: (lambda found: found if len(found) == 2 else None)(helpers(m)))
        m.stop(signal.SIGKILL)
        wait_until("their end", lambda: not any(is_alive(pid) for pid in pids))
        conf["subscriptions"]["a"]["transform"] = {"jq": "."}
        m.write_config(conf)
        m.start()
        m.post(event("b2", "b"))
        m.wait_state("b2", "b", "done")
        pids = helpers(m)
        assert m.stop() == 0
        assert pids and not any(is_alive(pid) for pid in pids)


def is_alive(pid):
    try:
        return pathlib.Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()[0] != "Z" and \
            pathlib.Path("/proc/%d/cmdline" % pid).read_bytes().startswith(b"millrace-jq")
    except OSError:
        return False


if __name__ == "__main__":
    main()
