"""Sinks whose disk is full to the last byte: a file's, and that of an object store. What was not
written is told and tried again, nothing is lost, and a neighbour goes on. The small file system is of
the test's own, which needs root."""
import collections
import json
import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("crash", "integration", "support")]
import mounts
from objects import Minio
from support import Instance, event, http_source, main, wait_until

SIZE = 32 << 20
COUNT, BODY = 100, 20_000


class SmallMinio(Minio):
    def prepare(self):
        (self.folder / "data").mkdir()
        self.disk = mounts.SmallDisk(SIZE, self.folder / "data").__enter__()

    def __exit__(self, *what):
        super().__exit__(*what)
        self.disk.__exit__()
        shutil.rmtree(self.folder)  # where the disk was mounted


def survives(disk, sink):
    """One event goes through, then the disk is full, then there is room again."""
    config = {"sources": {"in": http_source()},
              "sinks": {"full": {**sink, "breaker": {"percent": 0}}, "near": {"file": {"path": "near"}}},
              "subscriptions": {"s": {"to": "full", "retry": {"schedule": ["500ms"] * 60}},
                                "neighbour": {"to": "near"}}}
    with Instance(config) as m:
        m.post(event("first", data="x" * BODY))
        wait_until("the first", lambda: m.counts("s")["done"] == 1)
        disk.fill()
        m.post([event("e%d" % n, data="x" * BODY) for n in range(COUNT)])
        wait_until("attempts that failed", lambda: m.counts("s")["attempts"]["retry"] +
                   m.counts("s")["attempts"]["refused"] > 20)
        wait_until("the neighbour", lambda: m.counts("neighbour")["done"] == COUNT + 1)
        sink = next(w for w in m.ask_lines("worker", "list") if w["name"] == "full")
        attempts = [a for n in range(COUNT) for a in m.delivery("e%d" % n, "s")["attempts"]]
        told = sink["last_error"] or next(a["error"] for a in attempts if a.get("error"))
        print("    full: %s" % told)
        counts = m.counts("s")
        assert counts["done"] < COUNT and counts["dead"] == 0, counts
        disk.free()
        wait_until("all", lambda: m.counts("s")["done"] == COUNT + 1, 60)
        assert m.counts("s")["dead"] == 0


def wanted():
    return {"first", *("e%d" % n for n in range(COUNT))}


def test_file():
    with mounts.SmallDisk(SIZE) as disk:
        survives(disk, {"file": {"path": str(disk.path / "out")}})
        lines = (disk.path / "out").read_text().splitlines()  # each of them whole
        ids = collections.Counter(json.loads(line)["id"] for line in lines)
        assert ids.keys() == wanted() and set(ids.values()) == {1}, ids


def test_object_store():
    with SmallMinio() as store:
        store.make_bucket("lake")
        survives(store.disk, {"objectstore": {"url": "%s/lake" % store.url, "region": "us-east-1",
                                        "access_key": store.key, "secret_key": store.secret,
                                        "key": "{{id}}"}})
        assert set(store.keys("lake")) == wanted()


if __name__ == "__main__":
    mounts.skip_without_namespace()
    main()
