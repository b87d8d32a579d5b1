"""Starting, stopping, being killed, and what a second process may not do."""
import json

from support import *

SLOW = python("def handle(event, ctx):\n    open('started','a').write(event['id'] + '\\n')\n"
              "    while not os.path.exists('go'):\n        select.select([], [], [], 0.01)")
CONFIG = {"sources": {"in": http_source()},
          "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
          "subscriptions": {"s": {"to": "w", "retry": {"schedule": ["10ms"], "jitter": "none"}}}}


def test_sigterm_drains_and_exits_0():
    with Instance(CONFIG, {"w.py": SLOW}) as m:
        m.post(event("d1"))
        wait_until("it runs", lambda: (m.folder / "started").exists())
        m.process.send_signal(signal.SIGTERM)
        wait_until("not ready", lambda: "stopping" in m.log.read_text() or m.process.poll() is None)
        (m.folder / "go").touch()
        assert m.process.wait(timeout=DEADLINE_S) == 0
        verified = cli("log", "verify", m.folder / "data", "-o", "json")
        assert verified.code == 0 and verified.json()["whole"], verified.out
        kinds = [r["kind"] for r in cli("log", "dump", m.folder / "data", "-o", "json").lines()]
        assert kinds.count("settle") == 1 and kinds.count("event") == 1, kinds
        assert not (m.folder / "data" / "millrace.sock").exists()


def test_second_sigterm_stops_at_once_and_nothing_is_lost():
    with Instance({**CONFIG, "drain": "60s"}, {"w.py": SLOW}) as m:
        m.post(event("d1"))
        wait_until("it runs", lambda: (m.folder / "started").exists())
        m.process.send_signal(signal.SIGTERM)
        stopped = threading.Event()
        while not stopped.wait(0.1) and m.process.poll() is None:
            m.process.send_signal(signal.SIGTERM)
        assert m.process.returncode == 0, m.process.returncode
        (m.folder / "go").touch()
        m.start()
        m.wait_state("d1", "s", "done")


def test_clean_stop_leaves_nothing_interrupted():
    with Instance(CONFIG, {"w.py": SLOW}) as m:
        sent = [m.post(event("c%d" % i))["id"] for i in range(20)]
        wait_until("the first runs", lambda: (m.folder / "started").exists())
        m.process.send_signal(signal.SIGTERM)
        wait_until("not ready", lambda: "stopping" in m.log.read_text() or m.process.poll() is None)
        (m.folder / "go").touch()
        assert m.process.wait(timeout=DEADLINE_S) == 0
        m.start()
        for id in sent:
            m.wait_state(id, "s", "done")
        opened = m.log.read_text().rsplit("log open", 1)[1]
        assert " 0 deliveries were interrupted" in opened, opened
        assert all(m.delivery(id, "s")["interruptions"] == 0 for id in sent)


def test_kill_9_loses_nothing_and_counts_an_interruption():
    with Instance(CONFIG, {"w.py": SLOW}) as m:
        sent = [m.post(event("k%d" % i))["id"] for i in range(5)]
        wait_until("the first runs", lambda: (m.folder / "started").exists())
        m.stop(signal.SIGKILL)
        (m.folder / "go").touch()
        m.start()
        for id in sent:
            m.wait_state(id, "s", "done")
        first = m.delivery("k0", "s")
        assert first["interruptions"] == 1 and len(first["attempts"]) == 1, first
        assert "interrupted" in [a["verdict"] for a in first["uncounted"]], first
        assert m.counts("s")["done"] == 5 and m.metrics()["millrace_conservation_ok"] == 1


def test_counts_and_dead_letters_survive_a_restart():
    worker = python("def handle(event, ctx):\n    raise millrace.Dead('no')")
    with Instance(CONFIG, {"w.py": worker}) as m:
        m.post([event("a%d" % i) for i in range(10)])
        wait_until("ten dead", lambda: m.counts("s")["dead"] == 10)
        before = m.ask_lines("dlq", "list", "s")
        assert m.stop() == 0
        m.start()
        assert m.ask_lines("dlq", "list", "s") == before
        assert m.counts("s")["matched"] == 10
        assert m.trace("a3")["deliveries"][0]["state"] == "dead"
        assert m.ask("sub", "pause", "s")["paused"]
        assert m.stop(signal.SIGINT) == 0
        m.start()
        assert m.counts("s")["paused"] is True


def test_two_processes_on_one_data_dir():
    with Instance(CONFIG, {"w.py": SLOW}) as m:
        second = cli("run", "-c", m.path)
        assert second.code == 1 and "data" in second.err, (second.code, second.err)
        assert m.http("GET", "/readyz")[0] == 200
        (m.folder / "go").touch()
        m.post(event("still1"))
        m.wait_state("still1", "s", "done")
        assert m.ask("status")["ready"]


def test_port_in_use_is_named():
    with Instance(CONFIG, {"w.py": SLOW}) as m, folder() as other:
        path = other / "c.json"
        path.write_text(json.dumps({"data_dir": "./data", "listen": "127.0.0.1:%d" % m.port,
                                    "sources": {"in": http_source()}}))
        second = cli("run", "-c", path)
        assert second.code == 1 and str(m.port) in second.err, (second.code, second.err)


def test_no_instance_is_69():
    with folder() as empty:
        for arguments in (["trace", "x"], ["sub", "list"], ["dlq", "list", "s"], ["tail"], ["status"],
                          ["why", "a", "b"], ["reload"], ["source", "list"], ["clock", "accept"]):
            result = cli(*arguments, "--data-dir", empty)
            assert result.code == 69 and "no running instance" in result.err, (arguments, result.err)
        assert cli("send", "--data-dir", empty, input=json.dumps(event("x"))).code == 69
        assert cli("sub", "list", cwd=empty).code == 69


def test_instance_is_found_by_data_dir_and_by_folder():
    with Instance(CONFIG, {"w.py": SLOW}) as m:
        assert cli("sub", "list", "--data-dir", m.folder / "data").code == 0
        assert cli("sub", "list", cwd=m.folder).code == 0
        assert cli("sub", "list", "-c", m.folder).code in (0, 65)
        socket_path = m.folder / "data" / "millrace.sock"
        assert socket_path.stat().st_mode & 0o777 == 0o600
        assert (m.folder / "data").stat().st_mode & 0o077 == 0


def test_data_dir_too_long_for_a_socket_is_said():
    with folder() as short:
        deep = short / ("x" * 60) / ("y" * 60)
        deep.mkdir(parents=True)
        path = short / "c.json"
        path.write_text(json.dumps({"data_dir": str(deep), "listen": "127.0.0.1:0",
                                    "sources": {"in": http_source()}}))
        result = cli("run", "-c", path)
        assert result.code == 1 and "data_dir" in result.err, (result.code, result.err)
        assert cli("status", "-c", path).code == 69


def test_workers_die_with_a_killed_bus():
    worker = python("open('pid','w').write(str(os.getpid()))\ndef handle(event, ctx):\n    signal.pause()")
    with Instance({**CONFIG, "workers": {"w": {"process": {"command": ["python3", "w.py"]},
                                               "scale": {"min": 1}}}}, {"w.py": worker}) as m:
        m.post(event("p1"))
        pid = int(wait_until("its pid", lambda: (m.folder / "pid").exists() and
                             (m.folder / "pid").read_text()))
        m.stop(signal.SIGKILL)

        def gone():
            try:
                return pathlib.Path("/proc/%d/stat" % pid).read_text().split(") ")[1][0] == "Z"
            except OSError:
                return True
        wait_until("the worker is gone", gone)


if __name__ == "__main__":
    main()
