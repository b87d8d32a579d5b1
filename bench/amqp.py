#!/usr/bin/env python3
"""The amqp source and sink beside rabbitmq-c alone: bench/amqp.py BUILD_DIR [-n REPETITIONS].

All work on one real broker, in turn and in one run; messages of 1 KiB, durable queues, classic and
quorum. Source: prefetch 1,000, one acknowledgement for up to 500; rabbitmq-c alone does the same and
makes nothing durable. Sink: persistent messages with confirms and with the headers of an event,
which cost the broker more than anything else here; rabbitmq-c alone has 500 under way and goes
before and after the sink, the sink 2,000 deliveries at once, of which some are between the log and
the broker.
"""
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [*(str(HERE.parent / "tests" / n) for n in ("integration", "support")), str(HERE)]
import beside
import rabbit

MESSAGES = 100_000


def bare(bench, name, verb, port, queue):
    beside.note_bare(bench, name, MESSAGES, "bench_amqp", verb, port, queue, MESSAGES)


def source(bench, port, kind):
    name = kind + " source"
    bench.tool("bench_amqp", "fill", port, kind + ":bare", MESSAGES)
    bare(bench, name, "consume", port, kind + ":bare")
    bench.tool("bench_amqp", "fill", port, kind + ":in", MESSAGES)
    beside.note_source(bench, name, MESSAGES, {
        "amqp": {"url": "amqp://127.0.0.1:%d" % port, "queue": "in", "declare": {"type": kind}}},
        log={"retain_size": "128MiB"})


def sink(bench, port, kind):
    name = kind + " sink"
    bare(bench, name, "publish", port, kind + ":bare")
    bench.tool("bench_amqp", "fill", port, kind + ":out", 1)  # the queue is there
    beside.note_sink(bench, name, MESSAGES, {
        "amqp": {"url": "amqp://127.0.0.1:%d" % port, "routing_key": "out"}, "concurrency": 2000})
    bare(bench, name, "publish", port, kind + ":bare")


def main():
    bench = beside.begin(__doc__)
    for kind in ("classic", "quorum"):
        for _ in range(bench.repetitions):
            with rabbit.Server() as broker:  # an empty one: what lies in it slows a broker down
                source(bench, broker.port, kind)
                sink(bench, broker.port, kind)
        beside.show(bench, kind + " source", "rabbitmq-c")
        beside.show(bench, kind + " sink", "rabbitmq-c")


if __name__ == "__main__":
    main()
