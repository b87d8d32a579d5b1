#!/usr/bin/env python3
"""The sqs source and the objectstore sink beside libcurl alone: bench/objectstore.py BUILD_DIR [-n N].

Sink: objects of 1 KiB put into a MinIO, 64 at once. Source: messages of an ElasticMQ, two polls,
deleted ten at a time; libcurl alone does the same and makes nothing durable. Both servers are far
slower than either client: the processor time for each is what tells them apart.
"""
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [*(str(HERE.parent / "tests" / n) for n in ("integration", "support")), str(HERE)]
import beside
from objects import Elasticmq, Minio, record

OBJECTS = 10_000
MESSAGES = 5_000


def sink(bench, store):
    store.make_bucket("lake")
    beside.note_bare(bench, "sink", OBJECTS, "bench_objectstore", "put", store.port, "lake", OBJECTS)
    beside.note_sink(bench, "sink", OBJECTS, {
        "objectstore": {"url": store.url + "/lake", "access_key": store.key,
                        "secret_key": store.secret, "content": "data"}, "concurrency": 64})


def source(bench, server):
    bodies = [record("lake", "key-%06d" % n, n) for n in range(MESSAGES)]
    server.make_queue("bare")
    server.send(server.url + "/000000000000/bare", *bodies)
    beside.note_bare(bench, "source", MESSAGES, "bench_objectstore", "receive", server.port, "bare",
                     MESSAGES)
    queue = server.make_queue("in")
    server.send(queue, *bodies)
    beside.note_source(bench, "source", MESSAGES, {
        "objectstore": {"via": "sqs", "url": queue, "access_key": "K", "secret_key": "S"}})


def main():
    bench = beside.begin(__doc__)
    for _ in range(bench.repetitions):
        with Minio() as store:
            sink(bench, store)
        with Elasticmq() as server:
            source(bench, server)
    beside.show(bench, "sink", "libcurl")
    beside.show(bench, "source", "libcurl")


if __name__ == "__main__":
    main()
