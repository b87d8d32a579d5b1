#!/usr/bin/env python3
"""The kafka source and sink beside librdkafka alone: bench/kafka.py BUILD_DIR [-n REPETITIONS].

All work on one real broker, in turn and in one run. Source: records of 1 KiB, CloudEvents in binary
mode, eight partitions; librdkafka alone reads and commits as often, but makes nothing durable. Sink:
events from the log, 4,000 at once, idempotent, one delivery report each.
"""
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [*(str(HERE.parent / "tests" / n) for n in ("integration", "support")), str(HERE)]
import beside
from kafka import Cluster

RECORDS = 400_000
EVENTS = 50_000  # what the log still has in memory: reading it back is another figure
PARTITIONS = 8


def source(bench, kafka, topic, repetition):
    group = "bench-%d" % repetition
    beside.note_bare(bench, "source", RECORDS, "bench_kafka", "consume", kafka.plain, topic, RECORDS,
                     group + "-bare")
    beside.note_source(bench, "source", RECORDS, {
        "kafka": {"brokers": kafka.plain, "topics": topic, "group": group}},
        log={"retain_size": "128MiB"})


def sink(bench, kafka, topic):
    beside.note_bare(bench, "sink", EVENTS, "bench_kafka", "produce", kafka.plain, topic, EVENTS,
                     "--window", 4000)
    beside.note_sink(bench, "sink", EVENTS, {"kafka": {"brokers": kafka.plain, "topic": topic}})


def main():
    bench = beside.begin(__doc__)
    with Cluster() as kafka:
        kafka.topic("bench", PARTITIONS)
        bench.tool("bench_kafka", "fill", kafka.plain, "bench", RECORDS)
        for repetition in range(bench.repetitions):
            source(bench, kafka, "bench", repetition)
        for repetition in range(bench.repetitions):
            kafka.topic("out-%d" % repetition, PARTITIONS)
            sink(bench, kafka, "out-%d" % repetition)
    beside.show(bench, "source", "librdkafka")
    beside.show(bench, "sink", "librdkafka")


if __name__ == "__main__":
    main()
