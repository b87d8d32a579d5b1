"""What the crash tests share: the bus as a process, senders, a worker that records, the oracle.

Everything runs in one asyncio loop. Nothing here waits for time to pass: every wait is for a
condition with a deadline, and a moment of a crash is a timer of the loop.

    lab = Lab("kill9", sys.argv[1])      a temporary folder, a seed (MR_SEED sets one), a report
    bus = Bus(lab, config); await bus.start()
    oracle, worker, senders              who was acknowledged what, and what came out
"""
import asyncio
import atexit
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

DEADLINE = float(os.environ.get("MR_DEADLINE", "60"))
SKIP_CODE = 77


def skip(reason):
    """Ends the program: nothing of it can be done here, and why."""
    print(f"SKIPPED: {reason}")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(SKIP_CODE)


async def turn():
    """One turn of the loop: what is readable is read."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(done.set_result, None)
    await done


async def moment(seconds):
    """Comes back after a timer; for the random moments of crashes and for polling a condition."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_later(seconds, lambda: done.done() or done.set_result(None))
    await done


async def wait_until(condition, what, deadline=None):
    deadline = deadline or DEADLINE
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"not within {deadline:g} s: {what() if callable(what) else what}")
        await moment(0.002)


class Failure(Exception):
    pass


class Lab:
    """A run of one test program: its folder, its seed, its cases, and what it must clean up."""

    def __init__(self, name, binary):
        self.name = name
        self.binary = os.path.abspath(binary)
        self.seed = int(os.environ.get("MR_SEED") or int.from_bytes(os.urandom(4), "big"))
        self.rng = random.Random(self.seed)
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"mr-{name}-"))
        self.passed = self.failed = self.skipped = 0
        self.children = []
        self.closers = []     # called at the end, last one first: what must go before the folder
        self.owner = os.getpid()
        self.started = time.monotonic()
        atexit.register(self.clean)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        print(f"{name}: seed {self.seed} (MR_SEED={self.seed} draws the same moments)", flush=True)

    def case(self, name, ok, detail=""):
        word = "ok" if ok else "FAILED"
        print(f"{word:6} {name}{': ' + str(detail) if detail != '' else ''}", flush=True)
        self.passed += bool(ok)
        self.failed += not ok
        return ok

    def skip_case(self, name, reason):
        print(f"SKIPPED {name}: {reason}", flush=True)
        self.skipped += 1

    def check(self, ok, detail):
        """Inside a case: raises, the case fails with @p detail."""
        if not ok:
            raise Failure(detail)

    async def run_case(self, name, fn):
        """@p fn returns the detail to print; a Failure or a lost wait fails the case alone."""
        try:
            detail = await fn()
            self.case(name, True, detail or "")
            return True
        except (Failure, OSError, asyncio.TimeoutError) as e:
            return self.case(name, False, f"{type(e).__name__}: {e}")

    def end_children(self):
        for process in self.children:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.children.clear()

    def clean(self):
        if os.getpid() == self.owner:
            self.end_children()
            while self.closers:
                self.closers.pop()()
            shutil.rmtree(self.dir, ignore_errors=True)

    def finish(self):
        print(f"{self.name}: {time.monotonic() - self.started:.1f} s")
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        sys.exit(1 if self.failed or self.passed == 0 else 0)


class Bus:
    """One millrace process at a time on one configuration."""

    def __init__(self, lab, config, name="bus"):
        self.lab = lab
        self.path = lab.dir / f"{name}.json"
        self.log = lab.dir / f"{name}.log"
        self.path.write_text(json.dumps(config))
        self.data_dir = config["data_dir"]
        self.process = None
        self.port = 0

    def spawn(self, prefix=(), env=None):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*prefix, self.lab.binary, "run", "-c", str(self.path), "--log-level", "warn"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=env)
        self.lab.children.append(self.process)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.port = 0
        self.said = b""

    def read_port(self):
        """The port of the ready line, as soon as it was printed."""
        try:
            self.said += os.read(self.process.stdout.fileno(), 4096)
        except BlockingIOError:
            pass
        found = re.search(rb"ready on http://127\.0\.0\.1:(\d+);", self.said)
        if found:
            self.port = int(found[1])
        return self.port

    async def start(self, prefix=(), env=None):
        """Until /readyz says 200."""
        self.spawn(prefix, env)
        await wait_until(lambda: self.read_port() or self.process.poll() is not None,
                         "the ready line")
        if self.process.poll() is not None:
            raise Failure(f"the bus ended with {self.process.returncode} at its start: {self.tail()}")
        end = time.monotonic() + DEADLINE
        while (await self.get("/readyz"))[0] != 200:
            if self.process.poll() is not None:
                raise Failure(f"the bus ended with {self.process.returncode} before it was ready")
            if time.monotonic() > end:
                raise Failure("/readyz never said 200")
            await moment(0.002)

    async def get(self, path):
        """(status, body); (0, "") when nobody answers."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return 0, ""
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = (await asyncio.wait_for(reader.read(-1), DEADLINE)).decode()
        except OSError:
            return 0, ""
        finally:
            writer.close()
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split()[1]) if head else 0, body

    async def metrics(self):
        """{'name{labels}': value}"""
        status, text = await self.get("/metrics")
        if status != 200:
            raise Failure(f"/metrics says {status}")
        lines = [l.rsplit(" ", 1) for l in text.splitlines() if l and not l.startswith("#")]
        return {name: float(value) for name, value in lines}

    def kill(self):
        self.process.kill()
        self.forget()

    def forget(self):
        self.process.wait()
        self.process.stdout.close()
        self.lab.children.remove(self.process)

    async def stop(self):
        """In good order; the exit code."""
        self.process.terminate()
        return await self.exit_code()

    async def exit_code(self, deadline=DEADLINE):
        await wait_until(lambda: self.process.poll() is not None, "the end of the bus", deadline)
        code = self.process.returncode
        self.forget()
        return code

    def tail(self):
        return self.log.read_text(errors="replace")[-600:]

    def verify(self):
        """(exit code, text) of `log verify`."""
        done = subprocess.run([self.lab.binary, "log", "verify", self.data_dir],
                              capture_output=True, text=True, check=False)
        return done.returncode, (done.stdout + done.stderr).strip()


class Oracle:
    """What was sent, what was acknowledged, what came out, and in which life of the bus."""

    def __init__(self, lab):
        self.lab = lab
        self.sent = {}        # id: (key, sequence, digest)
        self.acked = set()
        self.offsets = {}     # offset: id
        self.completed = {}   # id: life in which the worker first said 200
        self.last = {}        # key: last sequence completed first
        self.wrong = []       # violations, in words
        self.life = 0
        self.repeats = {}     # life: handlings of what an earlier life had completed
        self.deliveries = 0
        self.refused = 0

    def blame(self, text):
        if len(self.wrong) < 20:
            self.wrong.append(f"life {self.life}: {text}")

    def note_sent(self, event, key, sequence, body):
        self.sent[event] = (key, sequence, hashlib.blake2b(body, digest_size=16).digest())

    def note_acked(self, event, answer):
        self.acked.add(event)
        told = json.loads(answer)
        if told["id"] != event:
            self.blame(f"the answer for {event} names {told['id']}")
        if told.get("durable") != "disk":
            self.blame(f"{event} was acknowledged as {told.get('durable')}")
        other = self.offsets.setdefault(told["offset"], event)
        if other != event:
            self.blame(f"offset {told['offset']} was given to {other} and to {event}")

    def note_delivered(self, event, body):
        """A hand-out reached the worker."""
        self.deliveries += 1
        known = self.sent.get(event)
        if known is None:
            self.blame(f"{event} was delivered but never sent")
        elif known[2] != hashlib.blake2b(body, digest_size=16).digest():
            self.blame(f"{event} came with another payload ({len(body)} bytes)")
        life = self.completed.get(event)
        if life == self.life:
            self.blame(f"{event} was handled twice within one life of the bus")
        elif life is not None:
            self.repeats[self.life] = self.repeats.get(self.life, 0) + 1

    def note_completed(self, event):
        """The worker said 200."""
        if event in self.completed or event not in self.sent:
            return
        key, sequence, _ = self.sent[event]
        if sequence <= self.last.get(key, -1):
            self.blame(f"key {key}: {sequence} was completed after {self.last[key]}")
        self.last[key] = sequence
        self.completed[event] = self.life

    def missing(self):
        return self.acked - self.completed.keys()


class Worker(asyncio.Protocol):
    """One connection of the bus to its http worker. Shared by all: `Worker.site`."""

    def __init__(self, site):
        self.site = site
        self.buffer = bytearray()

    def connection_made(self, transport):
        self.transport = transport
        self.site.connections.add(self)

    def connection_lost(self, error):
        self.site.connections.discard(self)

    def data_received(self, data):
        self.buffer += data
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            fields = dict(line.split(b": ", 1) if b": " in line else (line.rstrip(b":"), b"")
                          for line in bytes(self.buffer[:end]).lower().split(b"\r\n")[1:])
            size = int(fields.get(b"content-length", b"0"))
            if len(self.buffer) < end + 4 + size:
                return
            body = bytes(self.buffer[end + 4:end + 4 + size])
            del self.buffer[:end + 4 + size]
            self.site.handle(self, fields[b"ce-id"].decode(), body)

    def answer(self, event, status):
        if self.transport.is_closing():
            return
        if status == 200:
            self.site.oracle.note_completed(event)
        self.transport.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)


class WorkerSite:
    """The http worker: it answers most at once, some late, and the first attempt of some with 500.
    While `gate` is shut answers are kept."""

    def __init__(self, lab, oracle):
        self.lab = lab
        self.oracle = oracle
        self.connections = set()
        self.failed_once = set()
        self.kept = None
        self.late_percent = 10

    async def open(self):
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Worker(self), "127.0.0.1", 0, backlog=512)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/"

    def close(self):
        self.server.close()

    def handle(self, connection, event, body):
        self.oracle.note_delivered(event, body)
        if self.kept is not None:
            self.kept.append((connection, event))
            return
        if event.endswith("00") and event not in self.failed_once:
            self.failed_once.add(event)
            connection.answer(event, 500)
        elif self.lab.rng.randrange(100) < self.late_percent:
            asyncio.get_running_loop().call_later(self.lab.rng.random() * 0.03,
                                                  connection.answer, event, 200)
        else:
            connection.answer(event, 200)

    def shut(self):
        self.kept = []

    def let_go(self):
        kept, self.kept = self.kept, None
        for connection, event in kept:
            connection.answer(event, 200)

    async def drained(self):
        """Until nothing of a dead bus is left on its way to us."""
        for _ in range(3):
            await turn()
        await wait_until(lambda: not self.connections, "the end of the dead bus's connections")


class Sender(asyncio.Protocol):
    """Sends event after event over one keep-alive connection, each once the one before was
    answered. Its keys are its own, so the order of a key is the order of sending."""

    def __init__(self, lab, oracle, name, keys=3, size_max=1500):
        self.lab = lab
        self.oracle = oracle
        self.name = name
        self.keys = [f"{name}-{k}" for k in range(keys)]
        self.sequence = 0
        self.size_max = size_max
        self.transport = None
        self.limit = None     # how many may still be sent; None: no limit
        self.pause_on_503 = False
        self.is_refused = False
        self.retry_after = None
        self.acks = 0
        self.others = {}      # status: how many answers that were neither 202 nor 503

    async def connect(self, port):
        self.buffer = bytearray()
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", port)

    def close(self):
        if self.transport is not None:
            self.transport.abort()
            self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        self.send()

    def connection_lost(self, error):
        self.transport = None

    def send(self):
        if self.limit == 0:
            self.close()
            return
        if self.limit is not None:
            self.limit -= 1
        rng = self.lab.rng
        key = self.keys[rng.randrange(len(self.keys))]
        self.sequence += 1
        self.event = f"{self.name}-{self.sequence}"
        size = rng.randrange(60_000) if rng.randrange(40) == 0 else rng.randrange(self.size_max)
        body = (self.event * (size // len(self.event) + 1)).encode()
        self.oracle.note_sent(self.event, key, self.sequence, body)
        self.transport.write(
            f"POST /events HTTP/1.1\r\nHost: x\r\nce-specversion: 1.0\r\nce-id: {self.event}\r\n"
            f"ce-source: /lab\r\nce-type: t\r\nce-subject: {key}\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def data_received(self, data):
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.buffer[:end]).decode()
        size = int(re.search(r"(?i)content-length: (\d+)", head)[1])
        if len(self.buffer) < end + 4 + size:
            return
        body = bytes(self.buffer[end + 4:])
        self.buffer.clear()
        status = int(head.split()[1])
        if status == 202:
            self.acks += 1
            self.oracle.note_acked(self.event, body)
        elif status == 503:
            self.oracle.refused += 1
            self.is_refused = True
            found = re.search(r"(?i)retry-after: (\d+)", head)
            self.retry_after = int(found[1]) if found else None
            if self.pause_on_503:
                self.close()
        else:
            self.others[status] = self.others.get(status, 0) + 1
        if self.transport is not None:
            self.send()


def config_of(data_dir, worker_url, **log):
    """One http source, one http worker, order by subject; small files so that they turn over."""
    return {
        "data_dir": str(data_dir),
        "listen": "127.0.0.1:0",
        "log": {"segment_size": "1MiB", "checkpoint_size": "1MiB", "retain_size": "1MiB",
                "retain_age": "1s", "disk_low": "1MiB", **log},
        "sources": {"in": {"http": {"path": "/events"}}},
        "workers": {"w": {"http": {"url": worker_url}, "concurrency": 16,
                          "breaker": {"percent": 0}}},
        "subscriptions": {"all": {"to": "w", "order_by": "subject",
                                  "retry": {"schedule": ["5ms"] * 12, "jitter": "none"}}},
    }


# What a crash may have handled again: what the worker had (16), as many answers on their way, and
# the hand-outs whose attempts were logged ahead of free slots (32), refilled before the settles of
# the former were durable.
REPEATS_MAX = 16 + 16 + 32

# How many answers of its own a life gives before it ends. A time alone would not do: where starting
# takes as long as the whole life, nothing would be acknowledged, and nothing shown.
ANSWERS = (0, 1, 3, 10, 30, 100)


class CrashLoop:
    """Life after life of one bus on one folder, each ended by `crash`, and the verdict."""

    def __init__(self, lab, data_dir, sender_count=4, **log):
        self.lab = lab
        self.oracle = Oracle(lab)
        self.site = WorkerSite(lab, self.oracle)
        self.senders = [Sender(lab, self.oracle, f"s{n}") for n in range(sender_count)]
        self.data_dir = data_dir
        self.log = log
        self.moments = {"start": 0, "load": 0, "stop": 0}
        self.acked_lives = 0

    async def open(self):
        await self.site.open()
        self.bus = Bus(self.lab, config_of(self.data_dir, self.site.url, **self.log))

    async def one(self, crash, after=None):
        """One life. @p crash(bus) ends it (a coroutine function); @p after() repairs the world."""
        rng = self.lab.rng
        self.oracle.life += 1
        acked = len(self.oracle.acked)
        when = rng.choices(["load", "start", "stop"], [80, 10, 10])[0]
        self.moments[when] += 1
        if when == "start":
            self.bus.spawn()
            await moment(rng.random() * 0.03)
        else:
            await self.bus.start()
            for sender in self.senders:
                await sender.connect(self.bus.port)
            wanted = acked + rng.choice(ANSWERS)
            await wait_until(lambda: len(self.oracle.acked) >= wanted,
                             lambda: f"{wanted - acked} answers: {self.bus.tail()}")
            await moment(rng.random() * 0.02)
            if when == "stop":
                self.bus.process.terminate()
                await moment(rng.random() * 0.02)
        await crash(self.bus)
        for sender in self.senders:
            sender.close()
        await self.site.drained()
        if after:
            after()
        self.acked_lives += len(self.oracle.acked) > acked

    async def verdict(self):
        """The clean last lives, and every property as a case."""
        lab, oracle, bus = self.lab, self.oracle, self.bus
        oracle.life += 1

        async def drains():
            await bus.start()
            await wait_until(lambda: not oracle.missing(),
                             lambda: f"{len(oracle.missing())} of {len(oracle.acked)} acknowledged "
                             f"events, such as {sorted(oracle.missing())[:5]}")
            return f"{len(oracle.acked)} acknowledged, {oracle.deliveries} deliveries"

        async def conserves():
            end = time.monotonic() + DEADLINE
            while True:
                m = await bus.metrics()
                queue = sum(v for k, v in m.items() if k.startswith("millrace_queue_deliveries{"))
                if queue == 0:
                    break
                lab.check(time.monotonic() < end, f"{queue:g} deliveries never end")
                await moment(0.01)
            matched = m['millrace_matched_total{subscription="all"}']
            done = m['millrace_deliveries_total{subscription="all",state="done"}']
            lab.check(matched == done == len(oracle.completed),
                      f"matched {matched:g}, done {done:g}, completed {len(oracle.completed)}")
            return f"{matched:g} matched and done"

        async def flows():
            lab.check(await bus.stop() == 0, f"a clean stop failed: {bus.tail()}")
            await self.site.drained()
            oracle.life += 1
            await bus.start()
            for sender in self.senders:
                sender.limit = 10
                await sender.connect(bus.port)
            await wait_until(lambda: all(s.transport is None for s in self.senders), "the answers")
            await wait_until(lambda: not oracle.missing(), "the fresh events")
            lab.check(oracle.life not in oracle.repeats, "something was handled again")
            lab.check(await bus.stop() == 0, f"a clean stop failed: {bus.tail()}")

        async def whole():
            code, text = bus.verify()
            lab.check(code == 0, text)
            return text

        await lab.run_case("every acknowledged event is delivered in the end", drains)
        await lab.run_case("matched = done, nothing is left over", conserves)
        await lab.run_case("fresh events flow after a clean stop, nothing is repeated", flows)
        lab.end_children()
        await lab.run_case("the log is whole", whole)
        lab.case("payloads, offsets, order within a key, no repetition within a life",
                 not oracle.wrong, "; ".join(oracle.wrong[:5]))
        most = max(oracle.repeats.values(), default=0)
        lab.case("what is handled again is bounded by what was in flight", most <= REPEATS_MAX,
                 f"at most {most} in one life (bound {REPEATS_MAX}), "
                 f"{sum(oracle.repeats.values())} in all")
        lab.case("no answer but 202 and 503", not any(s.others for s in self.senders),
                 [s.others for s in self.senders if s.others] or "")
        self.site.close()
