"""The native runtime with the real program: a plugin that does what the conformance program asks,
plugins that are wrong, a handler that never returns, and the example."""
from support import *

NATIVE = ROOT / "workers" / "sdk" / "native"
RETRY = {"schedule": ["10ms", "10ms"], "jitter": "none"}


def build(source, to):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Skip("there is no C compiler")
    subprocess.run([compiler, "-std=c99", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra",
                    "-Werror", "-shared", "-fPIC", "-I", str(NATIVE), "-o", str(to),
                    str(source)], check=True)


def config(settings=None, **worker):
    native = {"path": "plugin.so", **({"settings": settings} if settings else {})}
    return {"sources": {"in": http_source()}, "workers": {"w": {"native": native, **worker}},
            "sinks": {"results": {"file": {"path": "results.jsonl"}}},
            "subscriptions": {"s": {"to": "w", "retry": RETRY, "on_success": "results",
                                    "filter": {"not": {"exact": {"type": "conformance.child"}}}}}}


def instance(settings=None, **worker):
    """With the plugin built into its folder; not started."""
    made = Instance(config(settings, **worker), start=False)
    build(NATIVE / "conformance_plugin.c", made.folder / "plugin.so")
    return made


def last(delivery):
    return delivery["attempts"][-1]


def results(m):
    return json_lines(m.folder / "results.jsonl")


def test_plugin_keeps_the_contract():
    with instance({"high": 7}, concurrency=4) as m:
        m.start()
        m.post([event(kind, "conformance." + kind, data={"n": [1, 2]}, colour="red")
                for kind in ("ok", "retry", "drop", "dead", "emit", "echo", "size", "settings",
                             "event", "nonsense")])
        for kind, state, error in (("ok", "done", None), ("retry", "dead", "busy"),
                                   ("drop", "dropped", "not for us"), ("dead", "dead", "never"),
                                   ("emit", "done", None), ("echo", "done", None),
                                   ("size", "done", None), ("settings", "done", None),
                                   ("event", "done", None), ("nonsense", "dead", "returned 77")):
            delivery = m.wait_state(kind, "s", state)
            got = last(delivery)
            assert got["version"] == "9.1" and got["instance"].startswith("w/"), got
            assert got["error"] is None if error is None else error in got["error"], (kind, got)
        assert len(m.delivery("retry", "s")["attempts"]) == 3
        children = m.delivery("emit", "s")["children"]
        assert {"child-1", "child-2"} <= set(children), children
        text = wait_until("results", lambda: len(results(m)) >= 6 and json.dumps(results(m)))
        for part in ('{"n": [1, 2]}', '{"high": 7}', '"colour": "red"'):
            assert part in text, (part, text)
        shown = m.ask("worker", "show", "w")
        assert shown["kind"] == "native", shown
        assert "plugin version 9.1, 4 threads" in shown["detail"], shown


def test_cancelled_handler_is_told_and_a_stuck_one_is_shown():
    limits = {"timeout": "3s", "max_run": "4s", "concurrency": 2, "grace": "100ms"}
    with instance(**limits) as m:
        once = config(**limits)
        stuck = {"exact": {"type": "conformance.stuck"}}
        once["subscriptions"] = {
            "s": {"to": "w", "filter": {"not": stuck}, "timeout": "300ms", "retry": {"attempts": 1}},
            "long": {"to": "w", "filter": stuck, "retry": {"attempts": 1}}}
        m.write_config(once)
        m.start()
        m.post(event("wait", "conformance.wait"))
        delivery = m.wait_state("wait", "s", "dead")
        assert last(delivery)["verdict"] == "timeout", delivery
        m.post(event("stuck", "conformance.stuck"))
        running = wait_until("it runs", lambda: (m.delivery("stuck", "long") or {}).get("running"))
        assert running["deliveries"][0]["progress"] == {"done": 0.5}, running
        wait_until("shown", lambda: m.ask("worker", "show", "w")["health"] == "degraded")
        m.post(event("ok", "conformance.ok"))  # the other thread goes on
        m.wait_state("ok", "s", "done")
        m.process.send_signal(signal.SIGTERM)
        m.process.send_signal(signal.SIGTERM)
        assert m.process.wait(timeout=60) == 0, "a stuck handler does not keep it"


def test_wrong_plugins_are_refused_with_the_reason():
    sources = {
        "exports no millrace_native_plugin": "int nothing(void); int nothing(void) { return 0; }",
        "made for version 99": '#include "millrace_native.h"\n'
        "static const struct millrace_native_plugin p = {99, sizeof(p), 0, 0, 0, 0};\n"
        "const struct millrace_native_plugin *millrace_native_plugin(void) { return &p; }",
        "returned NULL": '#include "millrace_native.h"\n'
        "const struct millrace_native_plugin *millrace_native_plugin(void) { return 0; }",
        "too small or has no handle": '#include "millrace_native.h"\n'
        "static const struct millrace_native_plugin p = {1, sizeof(p), 0, 0, 0, 0};\n"
        "const struct millrace_native_plugin *millrace_native_plugin(void) { return &p; }"}
    with Instance(config(), start=False) as m:
        def refused(part):
            result = m.cli("run")
            assert result.code != 0 and part in result.err + result.out, (part, result.err)
        refused("cannot read the plugin")
        (m.folder / "plugin.so").write_text("no library")
        refused("cannot load the plugin")
        for part, source in sources.items():
            (m.folder / "p.c").write_text(source + "\n")
            (m.folder / "plugin.so").unlink()
            build(m.folder / "p.c", m.folder / "plugin.so")
            refused(part)
        (m.folder / "plugin.so").unlink()
        build(NATIVE / "conformance_plugin.c", m.folder / "plugin.so")
        m.write_config(config({"mode": "refuse"}))
        refused("the settings say refuse")
        m.write_config(config(scale={"max": 2}))
        result = m.cli("check")
        assert result.code != 0 and "how many threads call the plugin" in result.err + result.out


def test_example_runs():
    example = ROOT / "config" / "examples" / "native"
    with Instance({}, start=False) as m:
        text = (example / "millrace.yaml").read_text()
        m.path.write_text(text.replace("listen: 127.0.0.1:8080", "listen: 127.0.0.1:0"))
        build(example / "threshold.c", m.folder / "threshold.so")
        m.start()
        m.post([event("cold", "com.example.reading", "kiln", {"celsius": 20}),
                event("hot", "com.example.reading", "kiln", {"celsius": 97})])
        m.wait_state("cold", "readings", "dropped")
        m.wait_state("hot", "readings", "done")
        wait_until("the alarm", lambda: '"celsius":97' in (m.folder / "hot.jsonl").read_text()
                   if (m.folder / "hot.jsonl").exists() else False)


if __name__ == "__main__":
    main()
