"""A damaged log: what verify says of it, and what repair does, having said it."""
import json
import shutil

from support import ROOT, Instance, cli, event, folder, http_source, main, python, wait_until

GOLDEN = ROOT / "tests" / "data" / "golden-program-0.1"


def copy(to):
    for segment in GOLDEN.glob("seg-*"):
        shutil.copy(segment, to)
    return sorted(to.glob("seg-*"))


def overwrite(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def test_header_gone_loses_nothing_and_is_written_anew():
    with folder() as log:
        segments = copy(log)
        whole = segments[0].read_bytes()
        overwrite(segments[0], 0, bytes(4096))
        damaged = segments[0].read_bytes()
        verify = cli("log", "verify", log)
        assert verify.code == 1 and "its header is unreadable; nothing is lost" in verify.out
        dump = cli("log", "dump", log, "-o", "json")
        assert dump.out == (GOLDEN / "dump.jsonl").read_text(), dump.err
        refused = cli("log", "repair", log)
        assert refused.code == 2 and "is to be written anew" in refused.out, (refused.code, refused.out)
        assert cli("log", "repair", log, "--dry-run").code == 0
        assert segments[0].read_bytes() == damaged
        done = cli("log", "repair", log, "--yes")
        assert done.code == 0 and "is written anew" in done.out, (done.out, done.err)
        assert cli("log", "verify", log).code == 0
        assert segments[0].read_bytes()[4096:] == whole[4096:]
        assert "nothing to repair" in cli("log", "repair", log, "--yes").out


def test_wrong_bit_loses_nothing_and_is_told():
    with folder() as log:
        segments = copy(log)
        byte = segments[0].read_bytes()[4096 + 40]
        overwrite(segments[0], 4096 + 40, bytes([byte ^ 4]))
        verify = cli("log", "verify", log)
        assert verify.code == 1 and "1 wrong bits in headers; nothing is lost" in verify.out
        dump = cli("log", "dump", log, "-o", "json")
        assert dump.out == (GOLDEN / "dump.jsonl").read_text(), dump.err


def test_file_in_doubt_is_set_aside_as_it_is():
    with folder() as log:
        segments = copy(log)
        overwrite(segments[0], 0, b"\xff" * 8192)
        damaged = segments[0].read_bytes()
        assert cli("log", "verify", log).code == 1
        done = cli("log", "repair", log, "--yes")
        assert done.code == 0 and "no byte of it is changed" in done.out, (done.out, done.err)
        assert not segments[0].exists()
        aside = log / segments[0].name.replace("seg-", "doubt-")
        assert aside.read_bytes() == damaged


OK = python("def handle(event, ctx):\n    return None")
SLOTS = ("checkpoint-0", "checkpoint-1")
CONFIG = {"log": {"segment_size": "1MiB", "cache_size": "1MiB", "checkpoint_size": "1MiB"},
          "sources": {"in": http_source()},
          "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
          "subscriptions": {"s": {"to": "w"}}}


def both_are_whole(m):
    run = cli("log", "verify", m.folder / "data", "-o", "json")
    return run.code == 0 and json.loads(run.out.splitlines()[-1])["checkpoints"] == 2


def slots_of(m):
    """What verify says of the checkpoints: lines, and the summary."""
    run = cli("log", "verify", m.folder / "data", "-o", "json")
    lines = [json.loads(line) for line in run.out.splitlines()]
    assert run.code == 0 and lines[-1]["whole"], run.out
    return [l for l in lines[:-1] if l["damage"] == "checkpoint"], lines[-1]


def test_damaged_checkpoints_are_named_and_lose_nothing():
    with Instance(CONFIG, {"w.py": OK}) as m:
        log = m.folder / "data" / "log"
        count = 0
        while not all((log / n).exists() and (log / n).read_bytes()[:4] for n in SLOTS):
            assert count < 1000
            m.post([event("e%d" % (count + i), data="x" * 24000) for i in range(10)])
            count += 10
        wait_until("all to be done", lambda: m.counts("s")["done"] == count)
        wait_until("both checkpoints", lambda: both_are_whole(m))
        assert m.stop() == 0
        found, summary = slots_of(m)
        assert found == [] and summary["checkpoints"] == 2, summary
        whole = {n: (log / n).read_bytes() for n in SLOTS}
        newer, older = sorted(whole, key=lambda n: whole[n][16:24][::-1], reverse=True)
        overwrite(log / newer, 4096 + 64, b"\xff")
        found, summary = slots_of(m)
        assert {"damage": "checkpoint", "file": newer, "chunk": 0, "lost": False} in found, found
        assert {l["section"]: l["from"] for l in found if "section" in l} == {
            "base": "checkpoint", "subscription": "checkpoint", "keys": "checkpoint",
            "joins": "checkpoint"}, found
        assert summary["checkpoints_damaged"] == 1 and summary["checkpoints"] == 1, summary
        text = cli("log", "verify", m.folder / "data").out
        assert "the section base 0 is damaged: nothing is lost" in text, text
        overwrite(log / older, 0, bytes(4096))
        found, summary = slots_of(m)
        assert summary["checkpoints_damaged"] == 2, summary
        assert {l["from"] for l in found if "section" in l} == {"log"}, found
        assert "nothing of it can be used" in cli("log", "verify", m.folder / "data").out
        (log / newer).write_bytes(whole[newer])
        (log / older).write_bytes(whole[older][:4096])
        found, _ = slots_of(m)
        assert {l["file"] for l in found} == {older}, found
        m.start()
        assert m.counts("s")["done"] == count


if __name__ == "__main__":
    main()
