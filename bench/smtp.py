#!/usr/bin/env python3
"""The smtp sink beside libcurl alone: bench/smtp.py BUILD_DIR [-n MAILS].

Both send mails of 1 KiB, one by one over one connection, to the same server (aiosmtpd, which keeps
each in a file, and is what limits both), in turn and in one run.
"""
import argparse
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests" / name) for name in ("integration", "support")]
import mail

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_us(pid):
    fields = pathlib.Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:13])) / TICKS * 1e6


def wait_mail(server, number):
    """Looks for one name: counting thousands would take the processors from those measured."""
    path = server.folder / "mail" / ("%06d.eml" % number)
    while not path.exists():
        select.select([], [], [], 0.005)


def sink(binary, server, before, mails, digest):
    """(mails/s, events/s, CPU us per event), from the first mail to the last"""
    events = mails * digest
    with tempfile.TemporaryDirectory(prefix="mr-bench-") as folder:
        path = pathlib.Path(folder)
        (path / "m.yaml").write_text(json.dumps({
            "data_dir": "./data", "listen": "127.0.0.1:0",
            "sources": {"lines": {"file": {"path": "in", "follow": False}}},
            "sinks": {"out": {"smtp": {"url": "smtp://127.0.0.1:%d" % server.port,
                                       "from": "bus@example.com", "to": "ops@example.com",
                                       "digest": {"max": digest, "window": "100ms"}}}},
            "subscriptions": {"all": {"to": "out"}}}))
        with open(path / "in", "w") as lines:
            for n in range(events):
                lines.write(json.dumps({"specversion": "1.0", "id": "e%d" % n, "source": "/bench",
                                        "type": "t", "data": "x" * 1000}) + "\n")
        process = subprocess.Popen([binary, "run", "-c", path / "m.yaml"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_mail(server, before + 1)
        begin, cpu = time.monotonic(), cpu_us(process.pid)
        wait_mail(server, before + mails)
        seconds, cpu = time.monotonic() - begin, cpu_us(process.pid) - cpu
        process.send_signal(signal.SIGTERM)
        process.wait()
    return mails / seconds, events / seconds, cpu / events


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("-n", type=int, default=2000)
    given = parser.parse_args()
    binary = os.path.join(given.build, "millrace", "millrace")
    with mail.Server() as server:
        for turn in range(3):
            done = subprocess.run([os.path.join(given.build, "bench", "bench_smtp"), "--port",
                                   str(server.port), "--count", str(given.n)],
                                  stdout=subprocess.PIPE, check=True)
            bare = json.loads(done.stdout)
            rate, _, cpu = sink(binary, server, (2 * turn + 1) * given.n, given.n, 1)
            alone = bare["mails"] / bare["seconds"]
            print("bare %.0f mails/s, %.0f us CPU; sink %.0f mails/s, %.0f us CPU; ratio %.2f"
                  % (alone, bare["cpu_us"], rate, cpu, rate / alone))
        rate, events, cpu = sink(binary, server, 6 * given.n, given.n // 20, 50)
        print("digests of 50: %.0f mails/s, %.0f events/s, %.0f us CPU for an event"
              % (rate, events, cpu))


if __name__ == "__main__":
    main()
