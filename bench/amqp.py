#!/usr/bin/env python3
"""The amqp source and sink beside rabbitmq-c alone: bench/amqp.py BUILD_DIR [-n REPETITIONS].

All work on one real broker, in turn and in one run; messages of 1 KiB, durable queues, classic and
quorum. Source: prefetch 1,000, one acknowledgement for up to 500; rabbitmq-c alone does the same and
makes nothing durable. Sink: persistent messages with confirms; rabbitmq-c alone has 500 under
way, the sink 2,000 deliveries at once, of which some are between the log and the broker.
"""
import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]
import run  # bench/run.py

MESSAGES = 100_000
SCRIPT = HERE.parent / "tests" / "support" / "rabbitmq.sh"


@contextlib.contextmanager
def broker():
    """Its port."""
    folder = tempfile.mkdtemp(prefix="mr-bench-")
    theirs, ours = os.pipe()  # the broker goes when we do
    try:
        line = subprocess.run([str(SCRIPT), "start", folder], check=True, text=True,
                              env=dict(os.environ, TEST_GUARD=str(theirs)), pass_fds=[theirs],
                              stdout=subprocess.PIPE).stdout
        yield int(line.split()[0])
    finally:
        subprocess.run([str(SCRIPT), "kill", folder], check=False)
        os.close(ours)
        os.close(theirs)
        shutil.rmtree(folder, ignore_errors=True)


def bare(bench, name, verb, port, queue):
    times = json.loads(bench.tool("bench_amqp", verb, port, queue, MESSAGES))
    bench.note(name + "_bare", MESSAGES / (times["last_ns"] - times["first_ns"]) * 1e9)
    bench.note(name + "_bare_cpu_us", times["cpu_us"] / MESSAGES)


def source(bench, port, kind):
    name = kind + " source"
    bench.tool("bench_amqp", "fill", port, kind + ":bare", MESSAGES)
    bare(bench, name, "consume", port, kind + ":bare")
    bench.tool("bench_amqp", "fill", port, kind + ":in", MESSAGES)
    config = {"sources": {"q": {"amqp": {"url": "amqp://127.0.0.1:%d" % port, "queue": "in",
                                         "declare": {"type": kind}}}},
              "log": {"retain_size": "128MiB"}}
    with run.Bus(bench, config) as bus:
        def events():
            return bus.metric("millrace_events_total", source="q")
        run.wait_until("the first messages", lambda: events() > 0, pause=0.005)
        before, begin, cpu = events(), time.monotonic(), bus.cpu_s()
        run.wait_until("all messages", lambda: events() >= MESSAGES, pause=0.02)
        seconds, cpu = time.monotonic() - begin, bus.cpu_s() - cpu
    bench.note(name, (MESSAGES - before) / seconds)
    bench.note(name + "_cpu_us", cpu / (MESSAGES - before) * 1e6)


def sink(bench, port, kind):
    name = kind + " sink"
    bare(bench, name, "publish", port, kind + ":bare")
    bench.tool("bench_amqp", "fill", port, kind + ":out", 1)  # the queue is there
    config = {"sources": {"h": {"http": {"path": "/events"}}},
              "sinks": {"q": {"amqp": {"url": "amqp://127.0.0.1:%d" % port, "routing_key": "out"},
                              "concurrency": 2000}},
              "subscriptions": {"all": {"to": "q", "window": "256MiB"}}}
    with run.Bus(bench, config) as bus:
        run.make_backlog(bench, bus, MESSAGES)
        cpu = bus.cpu_s()
        bench.note(name, MESSAGES / run.settle_backlog(bus, MESSAGES))
        bench.note(name + "_cpu_us", (bus.cpu_s() - cpu) / MESSAGES * 1e6)


def show(bench, name):
    def median(of):
        return statistics.median(bench.values[of])
    print("%-14s %8.0f events/s %6.2f us   rabbitmq-c alone %8.0f /s %6.2f us   ratio %.2f (aim 0.80)"
          % (name, median(name), median(name + "_cpu_us"), median(name + "_bare"),
             median(name + "_bare_cpu_us"), median(name) / median(name + "_bare")), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path, metavar="BUILD_DIR")
    parser.add_argument("-n", type=int, default=3, metavar="N", help="repetitions (3)")
    arguments = parser.parse_args()
    bench = run.Bench(arguments.build.resolve(), arguments.n)
    print(run.describe_machine(), file=sys.stderr)
    for kind in ("classic", "quorum"):
        for _ in range(arguments.n):
            with broker() as port:  # an empty one: what lies in it slows a broker down
                source(bench, port, kind)
                sink(bench, port, kind)
        show(bench, kind + " source")
        show(bench, kind + " sink")


if __name__ == "__main__":
    main()
