#!/usr/bin/env python3
"""crash_kill9.py MILLRACE - kill -9 at random moments, life after life on one folder.

MR_CYCLES (300) lives; one in ten is killed while it starts, one in ten while it stops, the others
under load. The files of the log are the smallest there are, so they turn over all the time.
"""
import asyncio
import os
import sys
import time

import lab as lab_module
from lab import CrashLoop, Lab


async def kill(bus):
    bus.kill()


async def main():
    lab = Lab("kill9", sys.argv[1])
    cycles = int(os.environ.get("MR_CYCLES", "300"))
    loop = CrashLoop(lab, lab.dir / "data")
    await loop.open()
    start = time.monotonic()
    try:
        for _ in range(cycles):
            await loop.one(kill)
    except lab_module.Failure as e:
        lab.case("every life comes up", False, e)
    seconds = time.monotonic() - start
    print(f"{loop.oracle.life} lives in {seconds:.1f} s ({loop.oracle.life / seconds:.1f}/s), "
          f"ended {loop.moments}")
    lab.end_children()
    lab.case("the kills hit a bus at work", loop.acked_lives >= cycles // 2,
             f"{loop.acked_lives} lives acknowledged something before the kill")
    segments = [p for p in (lab.dir / "data/log").iterdir() if p.name.startswith("seg-")]
    newest = max(int(p.name[4:], 16) for p in segments)
    lab.case("segments were begun and taken back", newest > len(segments) + cycles // 4,
             f"{newest} begun, {len(segments)} there")
    lab.case("checkpoints were written", (lab.dir / "data/log/checkpoint-0").exists())
    await loop.verdict()
    lab.finish()


asyncio.run(main())
