#!/usr/bin/env python3
"""The sqs source and the objectstore sink beside libcurl alone: bench/objectstore.py BUILD_DIR [-n N].

Sink: objects of 1 KiB put into a MinIO, 64 at once. Source: messages of an ElasticMQ, two polls,
deleted ten at a time; libcurl alone does the same and makes nothing durable. Both servers are far
slower than either client: the processor time for each is what tells them apart.
"""
import argparse
import json
import pathlib
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "support"),
                str(HERE.parent / "tests" / "integration")]
import run  # bench/run.py
from objects import Elasticmq, Minio, record

OBJECTS = 10_000
MESSAGES = 5_000


def bare(bench, name, verb, port, where, count):
    times = json.loads(bench.tool("bench_objectstore", verb, port, where, count))
    bench.note(name + "_bare", count / (times["last_ns"] - times["first_ns"]) * 1e9)
    bench.note(name + "_bare_cpu_us", times["cpu_us"] / count)


def sink(bench, store):
    store.make_bucket("lake")
    bare(bench, "sink", "put", store.port, "lake", OBJECTS)
    config = {"sources": {"h": {"http": {"path": "/events"}}},
              "sinks": {"q": {"objectstore": {"url": store.url + "/lake", "access_key": store.key,
                                              "secret_key": store.secret, "content": "data"},
                              "concurrency": 64}},
              "subscriptions": {"all": {"to": "q", "window": "256MiB"}}}
    with run.Bus(bench, config) as bus:
        run.make_backlog(bench, bus, OBJECTS)
        cpu = bus.cpu_s()
        bench.note("sink", OBJECTS / run.settle_backlog(bus, OBJECTS))
        bench.note("sink_cpu_us", (bus.cpu_s() - cpu) / OBJECTS * 1e6)


def source(bench, server):
    bodies = [record("lake", "key-%06d" % n, n) for n in range(MESSAGES)]
    server.make_queue("bare")
    server.send(server.url + "/000000000000/bare", *bodies)
    bare(bench, "source", "receive", server.port, "bare", MESSAGES)
    queue = server.make_queue("in")
    server.send(queue, *bodies)
    config = {"sources": {"q": {"objectstore": {"via": "sqs", "url": queue, "access_key": "K",
                                                "secret_key": "S"}}}}
    with run.Bus(bench, config) as bus:
        def events():
            return bus.metric("millrace_events_total", source="q")
        run.wait_until("the first messages", lambda: events() > 0, pause=0.005)
        before, begin, cpu = events(), time.monotonic(), bus.cpu_s()
        run.wait_until("all messages", lambda: events() >= MESSAGES, pause=0.02)
        seconds, cpu = time.monotonic() - begin, bus.cpu_s() - cpu
    bench.note("source", (MESSAGES - before) / seconds)
    bench.note("source_cpu_us", cpu / (MESSAGES - before) * 1e6)


def show(bench, name):
    def median(of):
        return statistics.median(bench.values[of])
    print("%-7s %8.0f events/s %6.1f us   libcurl alone %8.0f /s %6.1f us   ratio %.2f (aim 0.80)"
          % (name, median(name), median(name + "_cpu_us"), median(name + "_bare"),
             median(name + "_bare_cpu_us"), median(name) / median(name + "_bare")), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path, metavar="BUILD_DIR")
    parser.add_argument("-n", type=int, default=3, metavar="N", help="repetitions (3)")
    arguments = parser.parse_args()
    bench = run.Bench(arguments.build.resolve(), arguments.n)
    print(run.describe_machine(), file=sys.stderr)
    for _ in range(arguments.n):
        with Minio() as store:
            sink(bench, store)
        with Elasticmq() as server:
            source(bench, server)
    show(bench, "sink")
    show(bench, "source")


if __name__ == "__main__":
    main()
