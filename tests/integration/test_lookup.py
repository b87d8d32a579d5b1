"""Old events of a log of many segments are found through the segments' footers, and the same
without them: trace, why, what-if and dead letters say what they say, whatever the footers are."""
from support import *

# Dead until the file mended is there. A parent has a child.
WORKER = python("""
def handle(event, ctx):
    if event['id'].startswith('bad') and not os.path.exists('mended'):
        raise millrace.Dead('no stock')
    if event['id'].startswith('parent'):
        ctx.emit({'id': 'child-of-' + event['id'], 'source': '/w', 'type': 'bulk'})""")
OLD = ["bad-1", "parent-1", "3-2", "none"]


def shop():
    return Instance({"log": {"segment_size": "1MiB"}, "sources": {"in": http_source()},
                     "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
                     "subscriptions": {"s": {"to": "w", "filter": {"not": {"prefix": {"type": "bulk"}}}},
                                       "few": {"to": "w", "filter": {"prefix": {"id": "3"}}}}},
                    {"w.py": WORKER})


def fill(m, first, count):
    for i in range(first, first + count):
        m.post([event("%d-%d" % (i, k), "bulk", data="x" * 4000) for k in range(20)])


def footers(m):
    return sorted(p.name for p in (m.folder / "data" / "log").glob("foot-*"))


def segments(m):
    return sorted(p.name for p in (m.folder / "data" / "log").glob("seg-*"))


def answers(m):
    """What is asked about the past, without what changes with the time of asking."""
    told = {id: m.api("GET", "/api/v1/trace/" + id) for id in OLD + ["bad-2", "20-7", "39-19"]}
    for code, story in told.values():
        story.pop("segments_read", None)
    told["why"] = [m.api("GET", "/api/v1/why?event=%s&subscription=s" % id) for id in OLD]
    told["dlq"] = m.ask("dlq", "show", "s", "bad-2")
    told["what-if"] = []
    since = "2024-01-01T00:00:00Z"
    page = {"next": 0}
    while page["next"] is not None:
        page = m.api("GET", '/api/v1/what-if?since=%s&filter={"suffix":{"id":"-3"}}&segment=%d' % (since, page["next"]))[1]
        told["what-if"].append(page)
    return told


def test_answers_are_the_same_without_footers():
    with shop() as m:
        m.post([event("bad-1", "a"), event("bad-2", "a"), event("parent-1", "a")])
        wait_until("two dead", lambda: m.counts("s")["dead_letters"] == 2)
        fill(m, 0, 20)
        (m.folder / "mended").write_text("")
        assert m.cli("dlq", "redrive", "s", "bad-1").code == 0
        fill(m, 20, 20)
        m.wait_state("39-19", "few", "done")
        wait_until("footers of all but the last", lambda: len(footers(m)) >= len(segments(m)) - 2 > 2)
        told = answers(m)
        before = len(footers(m))
        assert told["none"][0] == 404 and told["bad-1"][0] == 200, told
        attempts = [d for d in told["bad-1"][1]["deliveries"] if d["subscription"] == "s"][0]
        assert attempts["state"] == "done" and len(attempts["attempts"]) == 2, attempts
        folder = m.folder / "data" / "log"
        # By id and by what concerns it: those without a footer are read whole, no other.
        wait_until("no footer is missing", lambda: m.ask("status")["log"]["footers_pending"] == 0)
        some = len(segments(m)) - len(footers(m))
        assert m.api("GET", "/api/v1/trace/bad-1")[1]["segments_read"] <= 2 * some < len(segments(m)), some
        # Damaged in the middle, each of them.
        for name in footers(m):
            size = (folder / name).stat().st_size
            with open(folder / name, "r+b") as f:
                for at in range(5000, size, 4096):
                    f.seek(at)
                    f.write(b"rotten")
        assert answers(m) == told
        # Gone, while it runs.
        for path in list(folder.glob("foot-*")) + list(folder.glob("ids-*")):
            path.unlink()
        assert answers(m) == told
        assert m.api("GET", "/api/v1/trace/bad-1")[1]["segments_read"] >= len(segments(m))
        # Made again by the next start, after a crash.
        m.stop(signal.SIGKILL)
        m.start()
        wait_until("footers again", lambda: len(footers(m)) >= before)
        again = answers(m)
        for id in OLD:
            assert again[id] == told[id], id


if __name__ == "__main__":
    main()
