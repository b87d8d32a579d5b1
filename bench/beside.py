"""What amqp.py, kafka.py and objectstore.py share: a source or sink measured beside a library that
does the same alone, on one server, in turn and in one run."""
import argparse
import json
import pathlib
import statistics
import sys
import time

import rig

HTTP_IN = {"h": {"http": {"path": "/events"}}}


def begin(doc):
    """The arguments every program of these takes. Returns a rig.Bench."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path, metavar="BUILD_DIR")
    parser.add_argument("-n", type=int, default=3, metavar="N", help="repetitions (3)")
    arguments = parser.parse_args()
    print(rig.describe_machine(), file=sys.stderr)
    return rig.Bench(arguments.build.resolve(), arguments.n)


def note_bare(bench, name, count, *command):
    """The library alone: one of our tools, which prints its times."""
    times = json.loads(bench.tool(*command))
    bench.note(name + "_bare", count / (times["last_ns"] - times["first_ns"]) * 1e9)
    bench.note(name + "_bare_cpu_us", times["cpu_us"] / count)


def note_source(bench, name, count, source, **more):
    """How fast a source takes in what lies there."""
    with rig.Bus(bench, {"sources": {"q": source}, **more}) as bus:
        def events():
            return bus.metric("millrace_events_total", source="q")
        rig.wait_until("the first messages", lambda: events() > 0, pause=0.005)
        before, start, cpu = events(), time.monotonic(), bus.cpu_s()
        rig.wait_until("all messages", lambda: events() >= count, pause=0.02)
        seconds, cpu = time.monotonic() - start, bus.cpu_s() - cpu
    bench.note(name, (count - before) / seconds)
    bench.note(name + "_cpu_us", cpu / (count - before) * 1e6)


def note_sink(bench, name, count, sink):
    """How fast a sink empties what waits for it."""
    config = {"sources": HTTP_IN, "sinks": {"q": sink},
              "subscriptions": {"all": {"to": "q", "window": "256MiB"}}}
    with rig.Bus(bench, config) as bus:
        rig.make_backlog(bench, bus, count)
        cpu = bus.cpu_s()
        bench.note(name, count / rig.settle_backlog(bus, count))
        bench.note(name + "_cpu_us", (bus.cpu_s() - cpu) / count * 1e6)


def show(bench, name, library):
    def median(of):
        return statistics.median(bench.values[of])
    print("%-14s %9.0f events/s %6.2f us   %s alone %9.0f /s %6.2f us   ratio %.2f (aim 0.80)"
          % (name, median(name), median(name + "_cpu_us"), library, median(name + "_bare"),
             median(name + "_bare_cpu_us"), median(name) / median(name + "_bare")), flush=True)
