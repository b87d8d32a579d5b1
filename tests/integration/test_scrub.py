"""The log is read through while it runs: what rots is found before anybody needs it."""
from support import *

OK = python("def handle(event, ctx):\n    return None")
LOG = {"segment_size": "1MiB", "cache_size": "1MiB", "checkpoint_size": "1MiB", "scrub": "1s"}
EVENTS = 200


def config(**log):
    return {"log": dict(LOG, **log), "sources": {"in": http_source()},
            "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
            "subscriptions": {"s": {"to": "w", "window": "64MiB"}}}


def post_many(m):
    ids = ["e%04d" % n for n in range(EVENTS)]
    for i in range(0, EVENTS, 10):
        m.post([event(id, data={"text": id * 5000}) for id in ids[i:i + 10]])


def scrubbed(m):
    return m.ask("status")["log"]["scrub"]


def wait_passes(m, count):
    for _ in range(count):
        before = scrubbed(m)["ended"]
        wait_until("a pass over the log", lambda: scrubbed(m)["ended"] not in (None, before))


def sealed(folder):
    """The bytes of all finished segments, by path."""
    paths = sorted(folder.glob("seg-*"))
    used = [path for path in paths if path.read_bytes().rstrip(b"\0")[4096:]]
    return {path: path.read_bytes() for path in used[:-1]}


def places(folder):
    """Of every seventh event: its id, and where in which file its data stands."""
    found = []
    for path, data in sealed(folder).items():
        for n in range(0, EVENTS, 7):
            at = data.find(b"e%04d" % n * 100)
            if at >= 0:
                found.append(("e%04d" % n, path, at + 50))
    assert len(found) > 10, found
    return found


def wait_counts(m, **wanted):
    wait_until(str(wanted), lambda: all(m.counts("s")[k] == v for k, v in wanted.items()))


def test_rot_is_found_named_and_lost_at_once():
    with Instance(config(), {"w.py": OK}) as m:
        m.cli("sub", "pause", "s")
        post_many(m)
        wait_passes(m, 1)
        clean = scrubbed(m)
        assert clean["rotten"] == 0 and clean["bytes"] > 0, clean
        rotten = places(m.folder / "data" / "log")
        for _, path, at in rotten:
            flip(path, at)
        wait_counts(m, lost=len(rotten), waiting=EVENTS - len(rotten))
        wait_passes(m, 2)
        known = scrubbed(m)["found"]
        wait_passes(m, 2)
        found = scrubbed(m)
        assert found["lost_deliveries"] == len(rotten), found
        assert 0 < found["rotten"] <= found["found"] == known, found
        metrics = m.metrics()
        assert metrics["millrace_log_rotten"] == found["rotten"]
        assert metrics["millrace_log_rotten_found_total"] == found["found"]
        assert metrics["millrace_log_rotten_lost_total"] == len(rotten)
        assert metrics["millrace_log_scrubbed_timestamp_seconds"] > 0
        said = [line for line in m.log.read_text().splitlines() if "is rotten from byte" in line]
        assert len(said) == found["found"], said
        for path in {path for _, path, _ in rotten}:
            assert any(path.name in line for line in said), (path, said)
        m.stop(signal.SIGKILL)
        m.start()
        m.cli("sub", "resume", "s")
        wait_counts(m, lost=len(rotten), done=EVENTS - len(rotten))


def test_with_a_mirror_nothing_is_lost():
    with Instance(config(mirror="./mirror"), {"w.py": OK}) as m:
        m.cli("sub", "pause", "s")
        post_many(m)
        copies = m.folder / "data" / "log", m.folder / "mirror"
        rotten = places(copies[0])
        before = sealed(copies[0])
        for _, path, at in rotten:  # one copy of each group is good
            flip(copies[list(before).index(path) % 2] / path.name, at)

        def repaired():
            return all((folder / path.name).read_bytes() == data
                       for path, data in before.items() for folder in copies)
        wait_until("both copies to be whole", repaired)
        wait_passes(m, 1)
        found = scrubbed(m)
        assert found["found"] == 0 and found["lost_deliveries"] == 0, found
        assert m.ask("status")["log"]["mirror"]["repaired"] > 0
        m.cli("sub", "resume", "s")
        wait_counts(m, lost=0, done=EVENTS)


def test_without_it_nothing_is_read():
    with Instance(config(scrub=0), {"w.py": OK}) as m:
        post_many(m)
        wait_counts(m, done=EVENTS)
        assert scrubbed(m)["ended"] is None


if __name__ == "__main__":
    main()
