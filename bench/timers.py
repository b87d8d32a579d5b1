#!/usr/bin/env python3
"""What timers cost: bench/timers.py BUILD_DIR [-n TIMERS].

Starts Millrace without and with so many timers, and prints what the difference is: start, memory,
threads, descriptors; then CPU and lateness while all of them fire at once, every ten seconds.
Every figure is of one run; docs/connectors/timer.md shows one.
"""
import argparse
import datetime
import json
import os
import pathlib
import select
import signal
import subprocess
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")
ZONES = ["Europe/Berlin", "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe"]


class Run:
    def __init__(self, binary, sources):
        self.folder = tempfile.TemporaryDirectory(prefix="mr-bench-")
        path = pathlib.Path(self.folder.name)
        self.out = path / "out"
        (path / "m.yaml").write_text(json.dumps({
            "data_dir": "./data", "listen": "127.0.0.1:0", "sources": sources,
            "sinks": {"out": {"file": {"path": "out"}}}, "subscriptions": {"all": {"to": "out"}}}))
        begin = time.monotonic()
        self.process = subprocess.Popen([binary, "run", "-c", path / "m.yaml"],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if not select.select([self.process.stdout], [], [], 60)[0]:
            raise SystemExit("it did not start")
        self.process.stdout.readline()
        self.start_s = time.monotonic() - begin

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.folder.cleanup()

    def status(self, name):
        text = pathlib.Path("/proc/%d/status" % self.process.pid).read_text()
        return int(text.split(name + ":")[1].split()[0])

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid))

    def cpu_s(self):
        fields = pathlib.Path("/proc/%d/stat" % self.process.pid).read_text().rsplit(")", 1)[1]
        return sum(map(int, fields.split()[11:13])) / TICKS

    def lines(self):
        return self.out.read_bytes().count(b"\n") if self.out.exists() else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("-n", type=int, default=10000)
    given = parser.parse_args()
    binary = os.path.join(given.build, "millrace", "millrace")
    cron = {"t%d" % i: {"timer": {"cron": "%d %d * * *" % (i % 60, i // 60 % 24),
                                  "time_zone": ZONES[i % 4], "type": "com.example.tick",
                                  "subject": "s%d" % i, "data": {"n": i}}} for i in range(given.n)}
    with Run(binary, {}) as bare, Run(binary, cron) as full:
        print("start_s %.3f (without timers %.3f)" % (full.start_s, bare.start_s))
        print("bytes_per_timer %d (the configuration included)"
              % ((full.status("VmRSS") - bare.status("VmRSS")) * 1024 / given.n))
        print("threads %+d, descriptors %+d" % (full.status("Threads") - bare.status("Threads"),
                                                full.descriptors() - bare.descriptors()))
    every = {"t%d" % i: {"timer": {"every": "10s", "type": "com.example.tick"}}
             for i in range(given.n)}
    with Run(binary, every) as run:
        while run.lines() == 0:  # the first round may find it starting still
            select.select([], [], [], 0.05)
        while run.lines() % given.n != 0:
            select.select([], [], [], 0.05)
        before, cpu = run.lines(), run.cpu_s()
        while run.lines() == before:
            select.select([], [], [], 0.005)
        begun = time.time()
        while run.lines() < before + given.n:
            select.select([], [], [], 0.005)
        done = time.time()
        last = json.loads(run.out.read_bytes().splitlines()[-1])
        due = datetime.datetime.fromisoformat(last["time"].replace("Z", "+00:00")).timestamp()
        print("all fired, logged, matched and written to a file: first %.0f ms, last %.0f ms after "
              "the instant" % ((begun - due) * 1000, (done - due) * 1000))
        print("cpu_us_per_event %.1f" % ((run.cpu_s() - cpu) / given.n * 1e6))


if __name__ == "__main__":
    main()
