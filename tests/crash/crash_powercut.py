#!/usr/bin/env python3
"""crash_powercut.py MILLRACE - power cuts at random moments, life after life on one disk.

MR_CYCLES (200) cuts. The disk is an ext4 in memory; a cut is EXT4_IOC_SHUTDOWN without a flush of
its journal: what was not durable is gone. The bus is stopped first, so that every acknowledgement
that was made before the cut is known. A file written without a sync beside the log shows that a
cut takes away what it must.
"""
import asyncio
import os
import pathlib
import signal
import sys
import time

import mounts
from lab import CrashLoop, Failure, Lab, skip, turn, wait_until


def is_stopped(pid):
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            state = task.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue # it has ended meanwhile
        if state not in "TZX":
            return False
    return True


class Power:
    def __init__(self, disk):
        self.disk = disk
        self.cuts = 0
        self.fired = 0
        self.taken = 0

    async def cut(self, bus):
        canary = self.disk.path / f"unsynced-{self.cuts}"
        canary.write_bytes(b"x" * 10_000)
        if bus.process.poll() is None:
            os.kill(bus.process.pid, signal.SIGSTOP)
            await wait_until(lambda: is_stopped(bus.process.pid), "the process to stop")
        for _ in range(3):
            await turn() # what was acknowledged before the cut is read
        self.fired += self.disk.cut_power()
        self.cuts += 1
        bus.kill()
        self.canary = canary

    def restore(self):
        self.disk.umount()
        self.disk.mount()
        if not self.canary.exists() or self.canary.stat().st_size == 0:
            self.taken += 1
        self.canary.unlink(missing_ok=True)


async def main():
    reason = mounts.needs()
    if reason:
        skip(f"power cuts: {reason}")
    lab = Lab("powercut", sys.argv[1])
    cycles = int(os.environ.get("MR_CYCLES", "200"))
    disk = mounts.Ext4(lab, 64 << 20)
    power = Power(disk)
    loop = CrashLoop(lab, disk.path / "data")
    await loop.open()
    start = time.monotonic()
    try:
        for _ in range(cycles):
            await loop.one(power.cut, power.restore)
    except Failure as e:
        lab.case("every life comes up", False, e)
    seconds = time.monotonic() - start
    print(f"{power.cuts} cuts in {seconds:.1f} s ({power.cuts / seconds:.1f}/s), "
          f"ended {loop.moments}")
    lab.end_children()
    lab.case("every cut failed the writes after it", power.fired == power.cuts == cycles,
             f"{power.fired} of {power.cuts}")
    lab.case("cuts take away what was not synced", power.taken >= power.cuts // 2,
             f"{power.taken} of {power.cuts} files")
    lab.case("the cuts hit a bus at work", loop.acked_lives >= cycles // 2,
             f"{loop.acked_lives} lives acknowledged something before the cut")
    await loop.verdict()
    lab.finish()


asyncio.run(main())
