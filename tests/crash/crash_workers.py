#!/usr/bin/env python3
"""crash_workers.py MILLRACE - kill -9 of the bus leaves no worker and no grandchild behind.

Workers of every runtime that has processes, each with children that make it hard: one ignores
SIGTERM, one forks twice out of its parent's sight, one starts a session of its own. All of them
note their pids in a file; one second after the bus was killed none may be alive.
"""
import asyncio
import os
import sys
import time

from lab import Bus, Lab, moment, wait_until

# Notes its pid and those of its children, then stays.
FAMILY = """
import os, signal, sys
def note(name):
    with open(PIDS, "a") as f:
        f.write(f"{name} {os.getpid()}\\n")
def stay():
    while True:
        signal.pause()
def family(name):
    note(name)
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note(name + "/child")
        stay()
    if os.fork() == 0:
        if os.fork() == 0:
            note(name + "/orphan")
            stay()
        os._exit(0)
    if os.fork() == 0:
        os.setsid()
        note(name + "/session")
        stay()
"""

PROCESS = FAMILY + """
family("process")
import socket
peer = socket.socket(fileno=3)
peer.sendall(b'{"millrace":1}\\n')
stay()
"""

EXEC = FAMILY + """
family("exec")
stay()
"""

EXPECTED = {f"{w}{c}" for w in ("process", "exec") for c in ("", "/child", "/orphan", "/session")}


def noted(path):
    lines = path.read_text().splitlines() if path.exists() else []
    return {int(pid): name for name, pid in (line.split() for line in lines)}


def alive(pids):
    left = {}
    for pid, name in pids.items():
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
                if f.read().rsplit(")", 1)[1].split()[0] not in "ZX":
                    left[pid] = name
        except (FileNotFoundError, ProcessLookupError):
            pass
    return left


async def one(lab, n, how, seconds_max):
    pids = lab.dir / f"pids-{n}"
    for name, text in (("process", PROCESS), ("exec", EXEC)):
        (lab.dir / f"{name}-{n}.py").write_text(f"PIDS = {str(pids)!r}\n{text}")
    bus = Bus(lab, {
        "data_dir": str(lab.dir / f"data-{n}"), "listen": "127.0.0.1:0",
        "log": {"segment_size": "1MiB"}, "drain": "200ms",
        "sources": {"in": {"http": {"path": "/events"}}},
        "workers": {
            "p": {"process": {"command": [sys.executable, str(lab.dir / f"process-{n}.py")]},
                  "grace": "200ms"},
            "e": {"exec": {"command": [sys.executable, str(lab.dir / f"exec-{n}.py")]}, "grace": "200ms"}},
        "subscriptions": {"to-e": {"to": "e"}, "to-p": {"to": "p"}}}, f"bus-{n}")
    await bus.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", bus.port)
    writer.write(b"POST /events HTTP/1.1\r\nHost: x\r\nce-specversion: 1.0\r\nce-id: a\r\n"
                 b"ce-source: /lab\r\nce-type: t\r\nContent-Length: 0\r\n\r\n")
    status = await reader.readline()
    writer.close()
    lab.check(b" 202 " in status, status)
    await wait_until(lambda: EXPECTED <= set(noted(pids).values()),
                     lambda: f"the families; there are {sorted(noted(pids).values())}")
    family = noted(pids)
    lab.check(alive(family) == family, "somebody of the families died before the bus")
    start = time.monotonic()
    try:
        await how(bus)
        while alive(family) and time.monotonic() < start + 5:
            await moment(0.005)
        seconds = time.monotonic() - start
        left = alive(family)
        lab.check(not left, f"alive after {seconds:.1f} s: {sorted(left.values())}")
        lab.check(seconds < seconds_max, f"it took {seconds:.2f} s")
    finally:
        for pid in alive(noted(pids)):
            os.kill(pid, 9)
    return f"{len(family)} processes gone after {seconds * 1000:.0f} ms"


async def kill(bus):
    bus.kill()


async def stop(bus):
    code = await bus.stop()
    bus.lab.check(code == 0, f"a clean stop ends with {code}: {bus.tail()}")


async def main():
    lab = Lab("workers", sys.argv[1])
    for n in range(5):
        await lab.run_case(f"kill -9 of the bus, {n + 1} of 5", lambda: one(lab, n, kill, 1))
        lab.end_children()
    await lab.run_case("a stop in good order", lambda: one(lab, 5, stop, 5))
    lab.end_children()
    lab.finish()


asyncio.run(main())
