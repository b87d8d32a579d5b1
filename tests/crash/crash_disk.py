#!/usr/bin/env python3
"""crash_disk.py MILLRACE SHIM - disks that are full, short, read-only or broken.

The rule behind every case: what was acknowledged is delivered in the end, and after a failed write
or sync nothing is acknowledged, nothing is tried again, and the process ends with an error. Short
of space, ingest is refused with 503 and Retry-After, deliveries go on, and ingest comes back by
itself. Cases that need root, loop devices or strace are skipped one by one.
"""
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import time

import mounts
from lab import (Bus, Failure, Lab, Oracle, Sender, WorkerSite, config_of, moment, turn,
                 wait_until)

MIB = 1 << 20


class Scene:
    """One bus with its worker and senders, on a data folder of its own."""

    def __init__(self, lab, data_dir, **log):
        self.lab = lab
        self.oracle = Oracle(lab)
        self.site = WorkerSite(lab, self.oracle)
        self.senders = [Sender(lab, self.oracle, f"s{n}") for n in range(4)]
        for sender in self.senders:
            sender.pause_on_503 = True
        self.data_dir = data_dir
        self.log = log

    async def open(self, **how):
        self.oracle.life += 1
        await self.site.open()
        self.bus = Bus(self.lab, config_of(self.data_dir, self.site.url, **self.log),
                       f"bus-{self.data_dir.name}-{self.lab.rng.randrange(1 << 30)}")
        await self.bus.start(**how)
        return self

    async def connect(self):
        for sender in self.senders:
            if sender.transport is None:
                try:
                    await sender.connect(self.bus.port)
                except OSError:
                    return # the bus has ended, or is about to

    async def acks(self, count):
        want = len(self.oracle.acked) + count
        await wait_until(lambda: len(self.oracle.acked) >= want, f"{count} acknowledgements")

    def hang_up(self):
        for sender in self.senders:
            sender.close()

    async def ends_badly(self, deadline=20):
        code = await self.bus.exit_code(deadline)
        self.lab.check(code not in (0, None), f"the bus ended with {code}")
        self.lab.check(code > 0, f"the bus died by signal {-code}: {self.bus.tail()}")
        self.hang_up()
        await self.site.drained()
        return code

    async def recovers(self):
        """A new process on the same folder delivers everything that was acknowledged."""
        self.oracle.life += 1
        await self.bus.start()
        await wait_until(lambda: not self.oracle.missing(),
                         lambda: f"{len(self.oracle.missing())} acknowledged events")
        code = await self.bus.stop()
        self.lab.check(code == 0, f"a clean stop ends with {code}: {self.bus.tail()}")
        code, text = self.bus.verify()
        self.lab.check(code == 0, text)
        self.lab.check(not self.oracle.wrong, "; ".join(self.oracle.wrong[:5]))
        self.close()

    def close(self):
        self.hang_up()
        self.site.close()


def fill(path, leave):
    """Takes all but @p leave bytes of the file system; the filler's path."""
    filler = path / "filler"
    with open(filler, "wb", buffering=0) as f:
        for size in (65536, 4096):
            try:
                while os.statvfs(path).f_bavail * os.statvfs(path).f_frsize > leave:
                    f.write(bytes(size))
                    os.fdatasync(f.fileno())
            except OSError:
                pass # as much as there is
    return filler


async def comes_back(lab, scene, acked):
    """There is room again: fifty more are acknowledged, and all that ever were come out."""
    end = time.monotonic() + 20
    while len(scene.oracle.acked) < acked + 50:
        lab.check(time.monotonic() < end, "ingest did not come back")
        lab.check(scene.bus.process.poll() is None, f"the process ended: {scene.bus.tail()}")
        await scene.connect()
        await moment(0.02)
    scene.hang_up()
    await wait_until(lambda: not scene.oracle.missing(), "the deliveries")
    lab.check(await scene.bus.stop() == 0, f"the stop failed: {scene.bus.tail()}")
    await scene.site.drained()
    await scene.recovers()
    shutil.rmtree(scene.data_dir)


async def delivers_meanwhile(scene, how):
    """All that was acknowledged is delivered while the disk is still @p how."""
    try:
        await wait_until(lambda: not scene.oracle.missing(), f"deliveries while the disk is {how}")
    except Failure as e:
        code = scene.bus.process.poll()
        if code is not None:
            raise Failure(f"{e}: the bus ended with {code}: {scene.bus.tail()}") from e
        m = await scene.bus.metrics()
        raise Failure(f"{e}: {len(scene.oracle.missing())} missing, " + ", ".join(
            f"{k} {v:g}" for k, v in m.items()
            if v and re.match("millrace_(blocked|log|queue_del|deliveries)", k))) from e


async def low_disk(lab, disk):
    """Below disk_low: refused, deliveries go on, resumes."""
    scene = await Scene(lab, disk.path / "low", disk_low="4MiB").open()
    oracle, site = scene.oracle, scene.site
    await scene.connect()
    await scene.acks(50)
    site.shut()
    await scene.acks(40)
    scene.hang_up()
    filler = fill(disk.path, 7 * MIB // 2)
    end = time.monotonic() + 10
    while (await scene.bus.metrics())["millrace_log_slow"] != 1:
        lab.check(time.monotonic() < end, "the bus does not see that the disk is short")
        await moment(0.02)
    end = time.monotonic() + 10
    while not all(s.is_refused for s in scene.senders):
        lab.check(time.monotonic() < end, "ingest is not refused")
        await scene.connect()
        await moment(0.02)
    lab.check(all((s.retry_after or 0) >= 1 for s in scene.senders),
              f"Retry-After is {[s.retry_after for s in scene.senders]}")
    waiting = len(oracle.missing())
    lab.check(waiting > 0, "nothing waits that could be delivered meanwhile")
    site.let_go()
    await delivers_meanwhile(scene, "short")
    filler.unlink()
    await comes_back(lab, scene, len(oracle.acked))
    return f"{oracle.refused} refusals, {waiting} delivered meanwhile, {len(oracle.acked)} in all"


async def full_disk(lab, disk):
    """Not one byte left, at once, under load."""
    scene = await Scene(lab, disk.path / "full", disk_low="2MiB").open()
    oracle = scene.oracle
    await scene.connect()
    await scene.acks(100)
    filler = fill(disk.path, 0)
    await wait_until(lambda: all(s.transport is None for s in scene.senders), "refusals")
    stays = scene.bus.process.poll() is None
    if stays:
        await delivers_meanwhile(scene, "full")
    full = len(oracle.acked)
    filler.unlink()
    if not stays:
        await scene.ends_badly()
        await scene.recovers()
        return f"it ended; {full} acknowledged"
    await comes_back(lab, scene, full)
    return f"{full} acknowledged until it was full, {len(oracle.acked)} in all"


async def disk_goes_away(lab, disk, how, what):
    """@p how() makes every write of the live disk fail."""
    scene = await Scene(lab, disk.path / "gone").open()
    await scene.connect()
    await scene.acks(100)
    lab.check(how(), f"{what} did not fire")
    at = len(scene.oracle.acked)
    code = await scene.ends_badly()
    late = len(scene.oracle.acked) - at
    lab.check(late <= 2 * len(scene.senders), f"{late} acknowledgements after the failure")
    disk.umount()
    disk.mount()
    await scene.recovers()
    shutil.rmtree(scene.data_dir)
    return f"exit {code}, {len(scene.oracle.acked)} acknowledged"


def remount_read_only(disk):
    done = subprocess.run(["mount", "-o", "remount,abort", str(disk.path)], check=False,
                          stderr=subprocess.DEVNULL)
    try:
        (disk.path / "probe").write_bytes(b"x")
    except OSError:
        return done.returncode == 0 or True
    return False


def fired_well(lab, text, call):
    """How often the fault fired. Whoever met it must close that file without another try."""
    lines = text.splitlines()
    fired = 0
    begun = {} # thread: its call that strace showed in two halves
    for at, line in enumerate(lines):
        half = re.match(r"(\d+) +(\w+\(.*) <unfinished \.\.\.>$", line)
        if half:
            begun[half[1]] = half[2]
        rest = re.match(r"(\d+) +<\.\.\. \w+ resumed>(.*)", line)
        whole = f"{rest[1]} {begun.pop(rest[1], '')}{rest[2]}" if rest else line
        fault = re.match(rf"(\d+) +{call}\((\d+).*\(INJECTED\)$", whole)
        if not fault:
            continue
        fired += 1
        thread, descriptor = fault[1], fault[2]
        for later in lines[at + 1:]:
            if re.match(rf"\d+ +close\({descriptor}\b", later):
                break
            lab.check(not re.match(rf"{thread} +(pwrite64|fsync|fdatasync)\({descriptor}\b", later),
                      f"a file that had failed is used again: {line} … {later}")
    return fired


async def injected(lab, folder, call, error, n):
    """The nth @p call of each thread fails with @p error."""
    trace = lab.dir / "trace"
    trace.unlink(missing_ok=True)
    # -D: the bus is our child, not strace's, so that it can be killed and waited for.
    prefix = ["strace", "-D", "-f", "-s", "16", "-o", str(trace), "-e",
              "trace=pwrite64,fsync,fdatasync,close,openat", "-e",
              f"inject={call}:error={error}:when={n}", "-e", "signal=none"]
    scene = Scene(lab, folder / f"{call}-{error}-{n}")
    try:
        await scene.open(prefix=prefix)
        await scene.connect()
    except (Failure, OSError) as e:
        lab.check(scene.bus.process.poll() not in (None, 0), f"at the start: {e}")
        pid = scene.bus.process.pid
        scene.bus.forget()
    else:
        end = time.monotonic() + 20
        pid = scene.bus.process.pid
        while scene.bus.process.poll() is None:
            lab.check(time.monotonic() < end, f"{call} {error} {n}: neither fired nor ended")
            if "(INJECTED)" in trace.read_text() and error == "ENOSPC":
                break # short of space is no fault: it may go on
            await scene.connect()
            await moment(0.005)
        want = len(scene.oracle.acked) + 20
        while scene.bus.process.poll() is None and len(scene.oracle.acked) < want:
            lab.check(time.monotonic() < end, f"{call} {error} {n}: neither goes on nor ends")
            await scene.connect()
            await moment(0.005)
        if scene.bus.process.poll() is None:
            scene.hang_up()
            scene.bus.kill()
            await scene.site.drained()
        else:
            await scene.ends_badly()
    await wait_until(lambda: re.search(rf"^{pid} +\+\+\+ (exited|killed)", trace.read_text(), re.M),
                     "the end of strace")
    fired = fired_well(lab, trace.read_text(), call)
    lab.check(fired > 0, f"{call} {error} {n} did not fire")
    acked = len(scene.oracle.acked)
    await scene.recovers()
    shutil.rmtree(scene.data_dir)
    return acked


async def sweep(lab, folder, call, error, numbers):
    acked = []
    for n in numbers:
        try:
            acked.append(await injected(lab, folder, call, error, n))
        except Failure as e:
            raise Failure(f"when={n}: {e}") from e
    return f"when={numbers}, acknowledged before {acked}"


async def short_writes(lab, shim):
    log = lab.dir / "shim.log"
    scene = await Scene(lab, lab.dir / "short").open(
        env={**os.environ, "LD_PRELOAD": shim, "MR_SHIM_SHORT": "3", "MR_SHIM_LOG": str(log)})
    for sender in scene.senders:
        sender.size_max = 20_000
    await scene.connect()
    await scene.acks(300)
    scene.hang_up()
    await wait_until(lambda: not scene.oracle.missing(), "the deliveries")
    lab.check(await scene.bus.stop() == 0, f"the stop failed: {scene.bus.tail()}")
    await scene.site.drained()
    lab.check(log.exists() and log.stat().st_size > 10, "no write was short")
    await scene.recovers()
    return f"{log.stat().st_size} short writes, {len(scene.oracle.acked)} acknowledged"


async def two_processes(lab):
    scene = await Scene(lab, lab.dir / "twice").open()
    await scene.connect()
    await scene.acks(20)
    second = Bus(lab, json.loads(scene.bus.path.read_text()), "second")
    start = time.monotonic()
    second.spawn()
    code = await second.exit_code(10)
    seconds = time.monotonic() - start
    lab.check(seconds < 1, f"the second took {seconds:.2f} s to refuse")
    lab.check(code not in (0, None) and code > 0, f"the second ended with {code}")
    lab.check(str(scene.data_dir) in second.tail(), f"the second does not say why: {second.tail()}")
    await scene.acks(20)
    status, _ = await scene.bus.get("/readyz")
    lab.check(status == 200, f"the first says {status}")
    lab.check((scene.data_dir / "millrace.sock").exists(), "the socket of the first is gone")
    scene.hang_up()
    await wait_until(lambda: not scene.oracle.missing(), "the deliveries of the first")
    lab.check(await scene.bus.stop() == 0, f"the stop failed: {scene.bus.tail()}")
    await scene.site.drained()
    await scene.recovers()
    return f"refused after {seconds * 1000:.0f} ms with {code}"


async def main():
    lab = Lab("disk", sys.argv[1])
    shim = os.path.abspath(sys.argv[2])
    reason = mounts.needs()
    disks = []

    async def run(name, fn, *arguments):
        if os.environ.get("MR_ONLY", "") not in name:
            return
        await lab.run_case(name, lambda: fn(lab, *arguments))
        lab.end_children()
        for disk in disks:
            for path in disk.path.iterdir(): # what a failed case left
                if path.name != "lost+found":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        await turn()

    await run("two processes on one folder: the second refuses", two_processes)
    await run("short writes are finished", short_writes, shim)
    if reason:
        lab.skip_case("full, read-only and vanishing disks", reason)
    else:
        ext4 = mounts.Ext4(lab, 48 * MIB)
        tmpfs = mounts.Memory(lab, "tmpfs", f"size={40 * MIB}")
        disks += [ext4, tmpfs]
        for name, disk in (("ext4", ext4), ("tmpfs", tmpfs)):
            await run(f"short of space on {name}: 503, deliveries go on, resumes", low_disk, disk)
            await run(f"{name} full to the last byte: nothing is lost", full_disk, disk)
        await run("the disk fails every access: stops, says so, recovers", disk_goes_away, ext4,
                  ext4.cut_power, "the cut")
        await run("the disk becomes read-only: stops, says so, recovers", disk_goes_away, ext4,
                  lambda: remount_read_only(ext4), "the remount")
    if shutil.which("strace") is None:
        lab.skip_case("injected errors", "strace is not installed")
        lab.finish()
    here = lab.dir
    await run("EIO of a write", sweep, here, "pwrite64", "EIO", [1, 2, 3, 5, 9, 17, 40])
    await run("ENOSPC of a write", sweep, here, "pwrite64", "ENOSPC", [1, 2, 3, 9])
    await run("EIO of a sync", sweep, here, "fsync", "EIO", [1, 2, 3])
    if not reason:
        # It refuses O_DIRECT, so the log is written through the page cache and synced.
        ramfs = mounts.Memory(lab, "ramfs")
        await run("EIO of a buffered log's sync", sweep, ramfs.path, "fdatasync", "EIO",
                  [1, 2, 3, 9])
    lab.finish()


if __name__ == "__main__":
    asyncio.run(main())
