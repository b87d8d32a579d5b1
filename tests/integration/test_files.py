"""Files and timers through the real program: each line and each instant enters once, whatever is
killed, rotated or missed."""
import datetime
import json
import os
import signal
import subprocess
import threading

from support import Instance, MILLRACE, cli, json_lines, main, wait_until


def line(number):
    return json.dumps({"specversion": "1.0", "id": "e%d" % number, "source": "/s", "type": "t",
                       "data": number}) + "\n"


def out(m, name="out"):
    return json_lines(m.folder / name)


def logged(m):
    """Ids in the log, once for each time they entered it; the instance must not run."""
    dumped = cli("log", "dump", m.folder / "data", "-o", "json")
    assert dumped.code == 0, dumped.err
    return [r["id"] for r in dumped.lines() if r["kind"] == "event"]


def kill(m):
    m.process.send_signal(signal.SIGKILL)
    m.process.wait()
    m.process.stdout.close()


FILE = {"sources": {"lines": {"file": {"path": "in"}}},
        "sinks": {"kept": {"file": {"path": "out"}}},
        "subscriptions": {"all": {"to": "kept"}}}


def test_lines_enter_once_over_kills_and_rotations():
    with Instance(FILE, start=False) as m:
        count = 0
        for life in range(4):
            with open(m.folder / "in", "a") as f:
                f.writelines(line(n) for n in range(count, count + 2000))
            first = "e%d" % count
            count += 2000
            m.start()
            # Not just any line: those of the life before may still be under way to the sink.
            wait_until("the flow", lambda: first in {e["id"] for e in out(m)})
            if life % 2 == 0:  # rotated while it reads, or while it is off
                os.rename(m.folder / "in", m.folder / "in.1")
                (m.folder / "in").write_text(line(count))
                count += 1
                wait_until("the new file", lambda: "e%d" % (count - 1) in
                           {e["id"] for e in out(m)})
            kill(m)
            if life == 1:  # PATH.1 is read to its end first
                os.rename(m.folder / "in", m.folder / "in.1")
        m.start()
        wait_until("all lines", lambda: {e["id"] for e in out(m)} >=
                   {"e%d" % n for n in range(count)}, 60)
        m.stop()
        ids = [id for id in logged(m) if id.startswith("e")]
        assert sorted(ids) == sorted("e%d" % n for n in range(count)), (len(ids), len(set(ids)), count)


def test_without_follow_an_archive_is_read_once():
    config = dict(FILE, sources={"lines": {"file": {"path": "in", "follow": False}}})
    with Instance(config, {"in": "".join(line(n) for n in range(100)) + line(100).rstrip("\n")}) as m:
        wait_until("all lines", lambda: len(out(m)) == 101)
        wait_until("the end", lambda: "at the end" in m.ask_lines("source", "list")[0]["detail"])
        m.stop()
        m.start()
        wait_until("the end", lambda: "at the end" in m.ask_lines("source", "list")[0]["detail"])
        assert len(out(m)) == 101


def test_standard_input_of_another_program():
    config = dict(FILE, sources={"lines": {"file": {"path": "-"}}})
    with Instance(config, start=False) as m:
        with open(m.folder / "err", "wb") as err:
            process = subprocess.Popen([MILLRACE, "run", "-c", str(m.path)], stdin=subprocess.PIPE,
                                       stdout=subprocess.DEVNULL, stderr=err)
        try:
            writer = threading.Thread(target=lambda: (process.stdin.write(
                "".join(line(n) for n in range(3000)).encode()), process.stdin.close()))
            writer.start()
            wait_until("all lines", lambda: len(out(m)) == 3000)
            writer.join()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def test_rotated_sink_keeps_every_line():
    config = {"sources": {"lines": {"file": {"path": "in"}}},
              "sinks": {"kept": {"file": {"path": "out", "rotate": "64KiB", "keep": 1000}}},
              "subscriptions": {"all": {"to": "kept"}}}
    with Instance(config, {"in": "".join(line(n) for n in range(5000))}) as m:
        def ids():
            return sorted(e["id"] for path in m.folder.glob("out*") for e in out(m, path.name))
        wanted = sorted("e%d" % n for n in range(5000))
        wait_until("all lines, each once", lambda: ids() == wanted)  # a rename may fall into a look
        sizes = [path.stat().st_size for path in m.folder.glob("out.*")]
        assert len(sizes) >= 3, sizes


def test_timers_fire_each_instant_once_over_kills():
    config = {"sources": {"tick": {"timer": {"every": "50ms", "misfire": "all", "type": "t",
                                             "max_catch_up": 1000}}},
              "sinks": {"kept": {"file": {"path": "out"}}},
              "subscriptions": {"all": {"to": "kept"}}}
    with Instance(config) as m:
        for _ in range(5):
            before = len(out(m))
            wait_until("ticks", lambda: len(out(m)) > before + 5)
            kill(m)
            m.start()
        before = len(out(m))
        wait_until("ticks", lambda: len(out(m)) > before + 5)
        m.stop()
        ids = [id for id in logged(m) if id.startswith("tick@")]
        times = [datetime.datetime.fromisoformat(id[5:].replace("Z", "+00:00")) for id in ids]
        steps = {(b - a).total_seconds() for a, b in zip(times, times[1:])}
        assert len(ids) == len(set(ids)) and steps == {0.05}, steps


if __name__ == "__main__":
    main()
