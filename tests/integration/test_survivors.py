"""What outlives its segment: dead letters and what waits, in survivor files, over kills and restarts."""
import os
import signal

from support import *

HANDLER = python("""
def handle(event, ctx):
    if event['id'].startswith('bad') and not os.path.exists('mended'):
        raise millrace.Dead('no stock for ' + event['id'])
    if event['id'].startswith('late') and not os.path.exists('mended'):
        raise millrace.Retry('not yet')""")


def bus():
    return Instance({"log": {"segment_size": "1MiB", "retain_size": "1MiB", "checkpoint_size": "1MiB"},
                     "sources": {"in": http_source()},
                     "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
                     "subscriptions": {"s": {"to": "w", "filter": {"exact": {"subject": "s"}},
                                             "retry": {"schedule": ["1h"], "jitter": "none"}}}},
                    {"w.py": HANDLER})


def names(m, prefix):
    return sorted(n for n in os.listdir(m.folder / "data" / "log") if n.startswith(prefix))


def fill_until(m, what, done):
    """Events that nobody needs, until the segments before them have gone."""
    filler = [event("filler%d" % i, data={"x": "y" * 4000}) for i in range(100)]
    for _ in range(200):
        if done():
            return
        m.post(filler)
    wait_until(what, done)


def test_dead_letters_leave_their_segments():
    with bus() as m:
        bad = ["bad%d" % i for i in range(20)]
        m.post([event(id, subject="s", data={"n": id}) for id in bad + ["late1", "late2"]])
        wait_until("all are dead", lambda: m.counts("s")["dead_letters"] == 20)
        first = names(m, "seg-")[0]
        fill_until(m, "the first segment is given up", lambda: first not in names(m, "seg-"))
        assert len(names(m, "keep-")) == 2  # what is dead, and what waits
        m.stop(signal.SIGKILL)
        assert cli("log", "verify", str(m.folder / "data")).code == 0
        dumped = cli("log", "dump", str(m.folder / "data"), "-o", "json")
        assert dumped.code == 0 and '"id":"bad3"' in dumped.out.replace(" ", ""), dumped.err
        m.start()
        counts = m.counts("s")
        assert counts["dead_letters"] == 20 and counts["waiting"] == 2 and counts["lost"] == 0, counts
        listed = m.ask_lines("dlq", "list", "s")
        assert [l["id"] for l in listed] == bad and listed[3]["error"] == "no stock for bad3", listed
        traced = m.ask("trace", "bad3")
        assert "no stock for bad3" in json.dumps(traced), traced
        (m.folder / "mended").touch()
        again = m.cli("dlq", "redrive", "s", "-o", "json")
        assert again.code == 0, again.err
        wait_until("all are done", lambda: m.counts("s")["done"] == 20)
        assert m.counts("s")["lost"] == 0


def test_segments_given_up_between_others_are_no_damage():
    with bus() as m:
        bad = [event("bad%d" % i, subject="s", data={"n": "y" * 4000}) for i in range(150)]
        m.post(bad)  # more than is worth moving: their segment stays
        wait_until("all are dead", lambda: m.counts("s")["dead_letters"] == 150)
        first = names(m, "seg-")[0]
        second = "seg-%016x" % (int(first[4:], 16) + 1)
        fill_until(m, "the second segment is made", lambda: second in names(m, "seg-"))
        fill_until(m, "it is given up", lambda: second not in names(m, "seg-"))
        assert first in names(m, "seg-")
        m.stop(signal.SIGKILL)
        verified = cli("log", "verify", str(m.folder / "data"))
        assert verified.code == 0, verified.out
        (m.folder / "data" / "log" / first).rename(m.folder / first)
        verified = cli("log", "verify", str(m.folder / "data"))
        assert verified.code == 1 and "file %s is missing" % first[4:] in verified.out, verified.out
        (m.folder / first).rename(m.folder / "data" / "log" / first)
        m.start()
        assert m.counts("s")["dead_letters"] == 150 and m.counts("s")["lost"] == 0


def overwrite(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def test_damage_to_survivors_is_named_and_repaired():
    with bus() as m:
        m.post([event("bad%d" % i, subject="s", data={"n": "y" * 400}) for i in range(20)])
        wait_until("all are dead", lambda: m.counts("s")["dead_letters"] == 20)
        first = names(m, "seg-")[0]
        fill_until(m, "the first segment is given up", lambda: first not in names(m, "seg-"))
        m.stop(signal.SIGKILL)
        log = m.folder / "data" / "log"
        keep = log / names(m, "keep-")[0]
        whole = keep.read_bytes()

        def verify():
            found = cli("log", "verify", log, "-o", "json")
            lines = [l for l in found.lines() if l.get("segment") == keep.name]
            return found.code, lines, cli("log", "verify", log).out

        overwrite(keep, 0, bytes(4096))
        code, lines, text = verify()
        assert code == 1 and lines[0]["damage"] == "header" and lines[0]["lost"] is False, lines
        assert keep.name + ": its header is unreadable; nothing is lost" in text, text
        damaged = keep.read_bytes()
        said = cli("log", "repair", log, "--dry-run")
        assert said.code == 0 and keep.name + ": its header is to be written anew" in said.out
        assert keep.read_bytes() == damaged
        assert cli("log", "repair", log, "--yes").code == 0
        assert verify()[0] == 0 and keep.read_bytes()[4096:] == whole[4096:]

        keep.write_bytes(whole)
        overwrite(keep, 4096, bytes(len(whole) - 4096))
        code, lines, text = verify()
        assert code == 1 and lines[0]["damage"] == "rotten" and lines[0]["at"] == 4096, lines
        assert "something in it is needed" in text, text

        keep.write_bytes(whole[:4096] + bytes([whole[4096 + 40] ^ 4]).join(
            [whole[4096:4096 + 40], whole[4096 + 41:]]))
        code, lines, text = verify()
        assert code == 1 and lines[0]["damage"] == "bit" and lines[0]["bits"] == 1, lines

        keep.write_bytes(b"\xff" * 8192 + whole[8192:])
        damaged = keep.read_bytes()
        code, lines, text = verify()
        assert code == 1 and lines[0]["damage"] == "header" and lines[0]["lost"] is True, lines
        left = cli("log", "repair", log, "--yes")
        assert keep.name + " stays as it is" in left.err and keep.read_bytes() == damaged, left.err

        # A copy that was cut off behind the whole ones, of which nothing speaks.
        keep.write_bytes(whole + whole[4096:4200] + bytes(3992))
        code, lines, text = verify()
        assert code == 0 and lines == [], (text, lines)
        keep.write_bytes(whole)
        m.start()
        assert len(m.ask_lines("dlq", "list", "s")) == 20 and m.counts("s")["lost"] == 0


if __name__ == "__main__":
    main()
