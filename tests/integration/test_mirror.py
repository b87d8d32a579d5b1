"""The log in two folders: what is damaged in one comes from the other, and nothing is lost."""
import signal

from support import *

OK = python("def handle(event, ctx):\n    return None")
LOG = {"segment_size": "1MiB", "cache_size": "1MiB", "checkpoint_size": "1MiB", "mirror": "./mirror"}


def config(**more):
    whole = {"log": LOG, "sources": {"in": http_source()},
             "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
             "subscriptions": {"s": {"to": "w", "window": "64KiB"}}}
    whole.update(more)
    return whole


def copies(m):
    return m.folder / "data" / "log", m.folder / "mirror"


def names(folder):
    return sorted(p.name for p in folder.iterdir() if p.name != "lock")


def assert_equal(m):
    """Every file but spares, whose bytes are nothing."""
    first, second = copies(m)
    assert names(first) == names(second), (names(first), names(second))
    for name in names(first):
        if not name.startswith("free-"):
            assert (first / name).read_bytes() == (second / name).read_bytes(), name


def zero_block(path, at):
    with open(path, "r+b") as f:
        f.seek(at // 4096 * 4096)
        f.write(bytes(4096))


def used(path):
    """Bytes of a segment up to the last that is not zero."""
    return len(path.read_bytes().rstrip(b"\0"))


def segments(folder):
    return [folder / name for name in names(folder)
            if name.startswith("seg-") and used(folder / name) > 4096]


def post_many(m, first, count, size=24 * 1024):
    ids = ["e%04d" % n for n in range(first, first + count)]
    for i in range(0, count, 10):
        m.post([event(id, data={"text": "x" * size}) for id in ids[i:i + 10]])
    return ids


def wait_all_done(m, count):
    def reached():
        counts = m.counts("s")
        assert counts["lost"] == 0 and counts["dead"] == 0, counts
        return counts["done"] == count
    wait_until("%d are done" % count, reached)


def mirror_status(m):
    return m.ask("status")["log"]["mirror"]


def damage_each_file(m, turn):
    """One place of every file, in the one copy or the other: of each always the same."""
    for i, name in enumerate(names(copies(m)[0])):
        path = copies(m)[sum(name.encode()) % 2] / name
        # A crash leaves spares and footers that only one of them has.
        size = used(path) if path.exists() and not name.startswith("free-") else 0
        if size == 0:
            continue
        at = (size * (turn + 1) // 7) if size > 8192 else size // 2
        (flip if (i + turn) % 3 else zero_block)(path, at)


def test_damage_while_it_is_stopped_is_repaired():
    with Instance(config(), {"w.py": OK}) as m:
        m.cli("sub", "pause", "s")
        total = 0
        for turn in range(4):
            post_many(m, total, 120)
            total += 120
            m.stop(signal.SIGKILL)
            damage_each_file(m, turn)
            m.start()
        m.cli("sub", "resume", "s")
        wait_all_done(m, total)
        assert mirror_status(m)["whole"] and mirror_status(m)["repaired"] > 0, mirror_status(m)
        assert m.stop() == 0
        assert names(copies(m)[0]) == names(copies(m)[1])


def test_damage_while_it_runs_is_repaired():
    with Instance(config(), {"w.py": OK}) as m:
        m.cli("sub", "pause", "s")
        post_many(m, 0, 200)
        sealed = segments(copies(m)[0])[:-1]
        assert len(sealed) >= 3, sealed
        for i, path in enumerate(sealed):
            where = copies(m)[i % 2] / path.name
            for at in range(8192, used(path), 100 * 1024):
                flip(where, at)
        m.cli("sub", "resume", "s")
        wait_all_done(m, 200)
        status = mirror_status(m)
        assert status["whole"] and status["repaired"] > 0, status
        wait_until("the metric says so, too (what reads ahead goes on repairing)", lambda:
                   m.metrics()["millrace_log_repaired_total"] == mirror_status(m)["repaired"])
        assert m.metrics()["millrace_log_mirror_ok"] == 1
        assert "repaired" in m.log.read_text()


def test_a_lost_file_or_a_lost_copy_comes_back():
    with Instance(config(), {"w.py": OK}) as m:
        m.cli("sub", "pause", "s")
        post_many(m, 0, 120)
        m.stop(signal.SIGKILL)
        segments(copies(m)[0])[0].unlink()
        segments(copies(m)[1])[-1].unlink()
        m.start()
        assert m.stop() == 0
        assert_equal(m)
        shutil.rmtree(copies(m)[0])  # the first disk is a new one
        m.start()
        assert m.stop() == 0
        assert_equal(m)
        shutil.rmtree(copies(m)[1])
        m.start()
        m.cli("sub", "resume", "s")
        wait_all_done(m, 120)
        assert m.stop() == 0
        assert_equal(m)


def test_one_copy_alone_is_told_and_made_whole_again():
    with Instance(config(), {"w.py": OK}) as m:
        post_many(m, 0, 20)
        wait_all_done(m, 20)
        assert m.stop() == 0
        away = m.folder / "away"
        copies(m)[1].rename(away)
        copies(m)[1].write_text("no folder")
        m.start()
        status = mirror_status(m)
        assert not status["whole"] and status["failed"].endswith("/mirror"), status
        assert m.metrics()["millrace_log_mirror_ok"] == 0
        assert "alone" in m.log.read_text()
        post_many(m, 20, 100)
        wait_all_done(m, 120)
        m.stop(signal.SIGKILL)
        copies(m)[1].unlink()
        away.rename(copies(m)[1])  # as it was: older
        m.start()
        assert mirror_status(m)["whole"], mirror_status(m)
        assert "left behind" in m.log.read_text()
        post_many(m, 120, 10)
        wait_all_done(m, 130)
        assert m.stop() == 0
        assert_equal(m)


def test_the_past_is_read_from_the_copy_that_counts():
    with Instance(config(), {"w.py": OK}) as m:
        post_many(m, 0, 5)
        wait_all_done(m, 5)
        assert m.stop() == 0
        away = m.folder / "away"
        copies(m)[0].rename(away)
        copies(m)[0].write_text("no folder")  # the first disk cannot be read
        m.start()
        post_many(m, 5, 5)
        wait_all_done(m, 10)
        assert mirror_status(m)["failed"].endswith("/log"), mirror_status(m)
        copies(m)[0].unlink()
        away.rename(copies(m)[0])  # and now it can: what it has is older
        for id in ("e0000", "e0009"):
            told = m.cli("trace", id)
            assert told.code == 0 and "done" in told.out, (id, told.out, told.err)
        assert m.stop() == 0


def test_without_the_option_it_goes_on_and_the_copy_is_older():
    with Instance(config(), {"w.py": OK}) as m:
        post_many(m, 0, 20)
        wait_all_done(m, 20)
        assert m.stop() == 0
        plain = dict(LOG)
        del plain["mirror"]
        m.write_config(config(log=plain))
        m.start()
        assert mirror_status(m) is None
        post_many(m, 20, 20)
        wait_all_done(m, 40)
        assert m.stop() == 0
        m.write_config(config())
        m.start()
        wait_all_done(m, 40)
        assert m.stop() == 0
        assert_equal(m)


def refused(m):
    with open(m.log, "ab") as err:
        run = subprocess.run([MILLRACE, "run", "-c", str(m.path)], stdout=subprocess.DEVNULL,
                             stderr=err, stdin=subprocess.DEVNULL, timeout=DEADLINE_S)
    assert run.returncode != 0
    return m.log.read_text()


def test_a_folder_that_is_none_of_its_own_is_refused():
    with Instance(config(), {"w.py": OK}, start=False) as m:
        for bad in ("./data/log", "./data/log/inner", "./data"):
            m.write_config(config(log=dict(LOG, mirror=bad)))
            (m.folder / "data" / "log").mkdir(parents=True, exist_ok=True)
            checked = cli("check", str(m.path))
            assert checked.code != 0 and "log.mirror" in checked.err, (bad, checked.err)
            assert "folder of its own" in refused(m)
        m.write_config(config())
        checked = cli("check", str(m.path))
        assert checked.code == 0 and "file system" in checked.err, checked.err


def test_copies_of_two_logs_are_refused():
    with Instance(config(), {"w.py": OK}) as m, Instance(config(), {"w.py": OK}) as other:
        for one in (m, other):
            post_many(one, 0, 10)
            assert one.stop() == 0
        shutil.rmtree(copies(m)[1])
        copies(other)[1].rename(copies(m)[1])
        assert "not of one log" in refused(m)


if __name__ == "__main__":
    main()
