#!/usr/bin/env python3
"""The kafka source and sink beside librdkafka alone: bench/kafka.py BUILD_DIR [-n REPETITIONS].

All work on one real broker, in turn and in one run. Source: records of 1 KiB, CloudEvents in binary
mode, eight partitions; librdkafka alone reads and commits as often, but makes nothing durable. Sink:
events from the log, 4,000 at once, idempotent, one delivery report each.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [*(str(HERE.parent / "tests" / n) for n in ("integration", "support")), str(HERE)]
import run  # bench/run.py
from kafka import Cluster

RECORDS = 400_000
EVENTS = 50_000  # what the log still has in memory: reading it back is another figure
PARTITIONS = 8


def source(bench, kafka, topic, repetition):
    group = "bench-%d" % repetition
    bare = json.loads(bench.tool("bench_kafka", "consume", kafka.plain, topic, RECORDS,
                                 group + "-bare"))
    config = {"sources": {"k": {"kafka": {"brokers": kafka.plain, "topics": topic, "group": group}}},
              "log": {"retain_size": "128MiB"}}
    with run.Bus(bench, config) as bus:
        def events():
            return bus.metric("millrace_events_total", source="k")
        run.wait_until("the first records", lambda: events() > 0, pause=0.005)
        before, begin, cpu = events(), time.monotonic(), bus.cpu_s()
        run.wait_until("all records", lambda: events() >= RECORDS, pause=0.05)
        seconds, cpu = time.monotonic() - begin, bus.cpu_s() - cpu
    bench.note("source", (RECORDS - before) / seconds)
    bench.note("source_cpu_us", cpu / (RECORDS - before) * 1e6)
    bench.note("source_bare", RECORDS / (bare["last_ns"] - bare["first_ns"]) * 1e9)
    bench.note("source_bare_cpu_us", bare["cpu_us"] / RECORDS)


def sink(bench, kafka, topic):
    bare = json.loads(bench.tool("bench_kafka", "produce", kafka.plain, topic, EVENTS,
                                 "--window", 4000))
    config = {"sources": {"h": {"http": {"path": "/events"}}},
              "sinks": {"k": {"kafka": {"brokers": kafka.plain, "topic": topic}}},
              "subscriptions": {"all": {"to": "k", "window": "256MiB"}}}
    with run.Bus(bench, config) as bus:
        run.make_backlog(bench, bus, EVENTS)
        cpu = bus.cpu_s()
        rate = EVENTS / run.settle_backlog(bus, EVENTS)
        bench.note("sink_cpu_us", (bus.cpu_s() - cpu) / EVENTS * 1e6)
    bench.note("sink", rate)
    bench.note("sink_bare", EVENTS / (bare["last_ns"] - bare["first_ns"]) * 1e9)
    bench.note("sink_bare_cpu_us", bare["cpu_us"] / EVENTS)


def show(bench, name):
    def median(of):
        return statistics.median(bench.values[of])
    print("%-7s %9.0f events/s %6.2f us   librdkafka alone %9.0f /s %6.2f us   ratio %.2f (aim 0.80)"
          % (name, median(name), median(name + "_cpu_us"), median(name + "_bare"),
             median(name + "_bare_cpu_us"), median(name) / median(name + "_bare")))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path, metavar="BUILD_DIR")
    parser.add_argument("-n", type=int, default=3, metavar="N", help="repetitions (3)")
    arguments = parser.parse_args()
    bench = run.Bench(arguments.build.resolve(), arguments.n)
    print(run.describe_machine(), file=sys.stderr)
    with Cluster() as kafka:
        kafka.topic("bench", PARTITIONS)
        bench.tool("bench_kafka", "fill", kafka.plain, "bench", RECORDS)
        for repetition in range(arguments.n):
            source(bench, kafka, "bench", repetition)
        for repetition in range(arguments.n):
            kafka.topic("out-%d" % repetition, PARTITIONS)
            sink(bench, kafka, "out-%d" % repetition)
    show(bench, "source")
    show(bench, "sink")


if __name__ == "__main__":
    main()
