"""A bucket of very many objects (OBJECTS, default 100 000), listed from a store that only lists: all
are told once, a second listing tells nothing, and memory stays where it was."""
import bisect
import os
import pathlib
import sys
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
from support import Instance, Served, main, wait_until

COUNT = int(os.environ.get("OBJECTS", "100000"))
OBJECT = ("<Contents><Key>%s</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
          "<ETag>&#34;5d41402abc4b2a76b9719d911017c592&#34;</ETag><Size>1234</Size>"
          "<StorageClass>STANDARD</StorageClass></Contents>")
PAGE = ('<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>lake</Name>'
        "<EncodingType>url</EncodingType><IsTruncated>%s</IsTruncated>%s</ListBucketResult>")


class Store(Served):
    def __init__(self):
        self.keys = ["logs/2025/%08d.json.gz" % n for n in range(COUNT)]
        self.pages = 0
        store = self

        class Handler(self.Handler):
            def do_GET(self):
                query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
                at = bisect.bisect_right(store.keys, query.get("start-after", ""))
                keys = store.keys[at:at + 1000]
                body = PAGE % ("true" if at + 1000 < len(store.keys) else "false",
                               "".join(OBJECT % key for key in keys))
                store.pages += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

        super().__init__(Handler)


def peak_kib(m):
    status = pathlib.Path("/proc/%d/status" % m.process.pid).read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def source(m):
    return m.ask_lines("source", "list")[0]


def test_many_objects_in_bounded_memory():
    with Store() as store:
        config = {"sources": {"lake": {"objectstore": {
            "via": "list", "url": "http://127.0.0.1:%d/lake" % store.port,
            "interval": "100ms"}}}, "log": {"segment_size": "64MiB", "cache_size": "8MiB"}}
        begin = time.monotonic()
        with Instance(config) as m:
            wait_until("the first listing", lambda: "listed %d " % COUNT in source(m)["detail"], 250)
            first_s = time.monotonic() - begin
            assert source(m)["messages"] == COUNT, source(m)
            first = peak_kib(m)
            pages = store.pages
            store.keys[COUNT // 2] += "x"
            begin = time.monotonic()
            wait_until("a change", lambda: source(m)["messages"] == COUNT + 2, 250)
            second_s = time.monotonic() - begin
            second = peak_kib(m)
            seen = sum(p.stat().st_size for p in (m.folder / "data" / "objectstore").iterdir())
            print("    %d objects: first listing %.1f s, again %.1f s, %d pages; memory %d MiB, "
                  "then %d; file %d MiB" % (COUNT, first_s, second_s, pages, first // 1024,
                                           second // 1024, seen >> 20))
            assert second < first + 16 * 1024, (first, second)


if __name__ == "__main__":
    main()
