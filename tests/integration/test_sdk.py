"""The client libraries with the real program: the examples of the documentation as they stand there,
and what workers in Node and Go say, do not say and get. What else they do is the conformance
program's part (ctest -R sdk_)."""
import contextlib
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import sdk
from support import *

FEATURES = ROOT / "tests" / "data" / "sdk"
RETRY = {"schedule": ["10ms", "10ms"], "jitter": "none"}
# language -> how the handler of the documentation begins and ends; what its worker cannot take
HANDLERS = {
    "python": (r"def handle\(.*?(?=\n\n)", {"size": 2000}),
    "js": (r"millrace\.run\(.*?^\}\);", {"size": 2000}),
    "go": (r"func handle\(.*?^\}", {"size": "large"}),
    "c": (r"static enum millrace_verdict handle\(.*?^\}", "x" * 2000),
}


# For batches: what stands before the handler of the documentation, the store it speaks of; its body.
BATCH_HANDLERS = {
    "python": ("""import millrace

def store(event):
    return event["data"]["size"] < 1000
""", r"def handle\(batch\):\n(.*?)\n\n"),
    "js": ("""const millrace = require('millrace');
const store = async (event) => event.data.size < 1000;
""", r"runBatch\([^\n]*\n(.*?)^\}\);"),
    "go": ("""package main

import (
	"context"
	"encoding/json"
	"millrace"
	"time"
)

func store(event millrace.Event) error {
	var file struct{ Size int }
	if err := json.Unmarshal(event.Data, &file); err != nil || file.Size < 1000 {
		return err
	}
	return millrace.Retry("busy", 5*time.Second)
}
""", r"func handle\([^\n]*\n(.*?)^\}"),
    "c": ("""#include "millrace.h"
#include <string.h>

static enum millrace_verdict store(struct millrace_delivery *d, void *context)
{
    (void)context;
    return strstr(d->data, "2000") != NULL && millrace_after(d, 5) == 0 &&
           millrace_error(d, "busy") == 0 ? MILLRACE_RETRY : MILLRACE_OK;
}

""", r"handle\([^\n]*\n\{\n(.*?)^\}"),
}


def example(language, title="\n## Client libraries\n", end="\n## "):
    """The code block of that language in a section, the one on the libraries."""
    section = (ROOT / "docs" / "worker-protocol.md").read_text().split(title)[1]
    found = re.findall(r"^```%s\n(.*?)^```$" % language, section.split(end)[0], re.M | re.S)
    assert len(found) == 1, "%d examples in %s" % (len(found), language)
    return found[0]


@contextlib.contextmanager
def built(language, source):
    """(the command of a worker made of @p source, the environment it wants)"""
    with folder() as place:
        try:
            if language == "python":
                (place / "worker.py").write_text(source)
                yield ["python3", "-B", str(place / "worker.py")], {"PYTHONPATH": str(SDK)}
            elif language == "js":
                (place / "worker.js").write_text(source)
                yield ([sdk.find("node"), str(place / "worker.js")],
                       {"NODE_PATH": str(sdk.SDK / "node")})
            elif language == "go":
                sdk.go_project(place, source)
                sdk.build_go(place, place / "worker")
                yield [str(place / "worker")], {}
            else:
                (place / "worker.c").write_text(source)
                compiler = shutil.which("cc") or shutil.which("gcc")
                if compiler is None:
                    raise Skip("there is no C compiler")
                subprocess.run([compiler, "-std=c99", "-Wall", "-Wextra", "-Werror",
                                "-I", str(sdk.SDK / "c"), "-o", str(place / "worker"),
                                str(place / "worker.c"), str(sdk.SDK / "c" / "millrace.c")],
                               check=True)
                yield [str(place / "worker")], {}
        except sdk.Missing as why:
            raise Skip(str(why)) from None


def config(command, env, **more):
    return {"sources": {"in": http_source()},
            "workers": {"w": {"process": {"command": command, "env": env}, **more}},
            "subscriptions": {"s": {"to": "w", "retry": RETRY}}}


def check_example(language):
    source = example(language)
    begin_to_end, bad = HANDLERS[language]
    handler = re.search(begin_to_end, source, re.M | re.S)
    assert handler, "no handler in:\n" + source
    lines = handler[0].count("\n") + 1
    assert lines <= 5, "the handler has %d lines:\n%s" % (lines, handler[0])
    with built(language, source) as (command, env), Instance(config(command, env)) as m:
        m.post(event("good", data={"size": 10}))
        m.post(event("bad", data=bad))
        delivery = m.wait_state("good", "s", "done")
        assert [a["verdict"] for a in delivery["attempts"]] == ["ok"], delivery
        delivery = m.wait_state("bad", "s", "dead")
        assert [a["verdict"] for a in delivery["attempts"]] == ["dead"], delivery


def test_python_example():
    check_example("python")


def test_node_example():
    check_example("js")


def test_go_example():
    check_example("go")


def test_c_example():
    check_example("c")


def check_batch_example(language):
    source = example(language, "\n#### Batches\n", "\n#### ")
    prelude, body = BATCH_HANDLERS[language]
    lines = re.search(body, source, re.M | re.S)[1].strip().count("\n") + 1
    assert lines <= 5, "the handler has %d lines:\n%s" % (lines, source)
    with built(language, prelude + source) as (command, env), \
            Instance(batched(command, env)) as m:
        m.post([event(id, data={"size": 2000 if id == "bad" else 10})
                for id in ("a", "bad", "b", "c")])
        for id in "abc":
            assert said(m.wait_state(id, "s", "done")) == [("ok", "")]
        busy = m.delivery("bad", "s")
        assert busy["blocked_on"] == "back-off" and said(busy) == [("retry", "busy")], busy


def test_batch_examples_of_the_documentation():
    for language in BATCH_HANDLERS:
        try:
            check_batch_example(language)
        except Skip as why:
            print("skipped for %s: %s" % (language, why))


def said(delivery):
    return [(a["verdict"], a["error"] or "") for a in delivery["attempts"]]


def check_features(language, panics):
    """One worker, in which each event's type says what the handler does."""
    source = (FEATURES / ("features." + language)).read_text()
    with built(language, source) as (command, env), \
            Instance(config(command, env, concurrency=16, timeout="5s",
                            scale={"min": 1, "max": 1})) as m:
        for kind in ("fail", "panic", "nojson", "emit", "later", "long"):
            m.post(event(kind, kind))
        m.post(event("bytes", "bytes", datacontenttype="application/octet-stream",
                     data_base64="AAECAwQFBgcICQ=="))
        first, second = said(m.wait_state("fail", "s", "done"))
        assert first[0] == "retry" and "the first is no good" in first[1], first
        assert second == ("ok", ""), second
        first, second = said(m.wait_state("panic", "s", "done"))
        assert first[0] == "retry" and panics in first[1], first
        (one,) = said(m.wait_state("nojson", "s", "dead"))[-1:]
        assert one[0] == "retry" and one[1].startswith("the result is no JSON"), one
        m.wait_state("child of emit", "s", "done")
        assert [v for v, _ in said(m.wait_state("later", "s", "done"))] == ["retry", "ok"]
        assert said(m.wait_state("bytes", "s", "dead")) == [("dead", "10 bytes")]
        # The handler ran beyond the timeout, with heartbeats, while the others were handled.
        assert said(m.wait_state("long", "s", "done")) == [("ok", "")]


def test_node_features():
    check_features("js", "TypeError: ")


def test_go_features():
    check_features("go", "panic: ")


def check_cancel(language):
    source = (FEATURES / ("features." + language)).read_text()
    with built(language, source) as (command, env), \
            Instance(config(command, env, timeout="200ms", grace="30s")) as m:
        for kind in ("stuck", "spinning"):
            if '"%s"' % kind in source or "'%s'" % kind in source:
                m.post(event(kind, kind))
                attempts = m.wait_state(kind, "s", "dead")["attempts"]
                assert all(a["signal"] is None for a in attempts), attempts
        told = (m.folder / "told").read_text()
        assert told.startswith("cancelled"), told


def test_node_cancel():
    check_cancel("js")


def test_go_cancel():
    check_cancel("go")


def check_drain(language):
    source = (FEATURES / ("features." + language)).read_text()
    with built(language, source) as (command, env), Instance(config(command, env)) as m:
        m.post(event("slow", "slow"))
        wait_until("it runs", lambda: (m.folder / "started").exists())
        m.process.send_signal(signal.SIGTERM)
        wait_until("it stops", lambda: "stopping" in m.log.read_text())
        (m.folder / "go").touch()
        assert m.process.wait(timeout=DEADLINE_S) == 0
        wait_until("run() returned", lambda: (m.folder / "ended").exists())
        records = cli("log", "dump", m.folder / "data", "-o", "json").lines()
        assert [r["kind"] for r in records].count("settle") == 1, records


def test_node_drain():
    check_drain("js")


def test_go_drain():
    check_drain("go")


def batched(command, env, **more):
    whole = config(command, env, scale={"min": 1, "max": 1}, breaker={"percent": 0}, **more)
    whole["subscriptions"]["s"].update(batch={"max": 4, "window": "1h"},
                                       filter={"not": {"exact": {"type": "child"}}})
    return whole


def check_batches(language, **errors):
    """What is said of each of a batch, and what it costs when one fails it as a whole: @p errors."""
    source = (FEATURES / ("batch." + language)).read_text()
    with built(language, source) as (command, env):
        with Instance(batched(command, env)) as m:
            m.post([event(kind, kind) for kind in ("result", "retry", "dead", "emit")])
            assert said(m.wait_state("dead", "s", "dead")) == [("dead", "never")]
            for kind in ("result", "emit"):
                assert said(m.wait_state(kind, "s", "done")) == [("ok", "")]
            assert m.trace("child of emit")["event"]["type"] == "child"
            busy = m.delivery("retry", "s")
            assert busy["blocked_on"] == "back-off" and said(busy) == [("retry", "busy")], busy
            assert len(batches(m)) == 1, batches(m)
            for kind, error in errors.items():
                ids = [kind + str(i) for i in range(4)]
                m.post([event(id, kind if id.endswith("2") else "ok") for id in ids])
                poison = m.wait_state(ids[2], "s", "dead")
                assert [v for v, _ in said(poison)] == ["retry"] * 3, poison
                assert error in said(poison)[0][1], poison
                assert len(poison["uncounted"]) == 2, poison  # a batch of four, one of two
                for id in ids[:2] + ids[3:]:
                    assert said(m.wait_state(id, "s", "done")) == [("ok", "")]
        with Instance(batched(command, env, timeout="500ms", grace="30s")) as m:
            m.post([event(id, "hang" if id == "h0" else "ok") for id in ("h0", "h1", "h2", "h3")])
            attempts = m.wait_state("h0", "s", "dead")["attempts"]
            assert all(a["signal"] is None for a in attempts), attempts
            for id in ("h1", "h2", "h3"):
                m.wait_state(id, "s", "done")
            assert (m.folder / "told").read_text() == "cancelled"


def batches(m):
    return (m.folder / "batches").read_text().splitlines()


def test_node_batches():
    check_batches("js", fail="the batch is no good", panic="TypeError: ")


def test_go_batches():
    check_batches("go", fail="the batch is no good", panic="panic: poison")


def test_c_batches():
    check_batches("c", fail="the batch is no good")


def test_without_millrace_they_say_so():
    for language in ("python", "js", "go", "c"):
        try:
            with built(language, example(language)) as (command, env):
                done = subprocess.run(command, env={**os.environ, **env}, capture_output=True,
                                      text=True, stdin=subprocess.DEVNULL, timeout=DEADLINE_S)
        except Skip as why:
            print("skipped for %s: %s" % (language, why))
            continue
        assert done.returncode == 1 and "is this started by Millrace?" in done.stderr, \
            (language, done)


main()
