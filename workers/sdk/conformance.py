#!/usr/bin/env python3
"""Plays Millrace against a worker and checks that it keeps the worker protocol.

    conformance.py [--basic] [--timeout SECONDS] COMMAND [ARGUMENT...]

The worker's handler must act on the event's `type`:

    conformance.ok         answer ok
    conformance.retry      retry, error "busy", after 2.5 seconds
    conformance.drop       drop, error "not for us"
    conformance.dead       dead, error "never"
    conformance.emit       ok, emitting events with ids "child-1" and "child-2", type "conformance.child"
    conformance.echo       ok, with the event's JSON data as result data
    conformance.size       ok, with the number of bytes of the event's data as result data
    conformance.heartbeat  a heartbeat, then ok
    conformance.wait       wait until cancelled, then retry with error "cancelled"
    conformance.fail       of one that takes batches: the batch fails as a whole

Everything else is the protocol's part and comes from the worker's library. --basic asks only for what
ten lines of shell can do: `conformance.ok`, ignoring what is unknown, and ending when told to.
Standard library only. Prints one line per check, then `N passed, N failed`; exits 1 if any failed.
"""
import argparse
import base64
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

CHECKS = []
RAW = (b"", b"\n\n{}\n", bytes(range(256)) * 300)  # data that comes behind its frame


def check(name, basic=False):
    def add(function):
        CHECKS.append((name, basic, function))
        return function
    return add


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def line_of(frame):
    """As Millrace writes it: `delivery` first, no white space between members."""
    return json.dumps(frame, separators=(",", ":")).encode() + b"\n"


class Worker:
    """The worker under test, and our end of its socket."""

    def __init__(self, command, timeout, basic):
        self.timeout = timeout
        self.basic = basic
        ours, theirs = socket.socketpair()
        # Above 10 first: our end may be 3 itself.
        high = [os.dup2(s.fileno(), 200 + i) for i, s in enumerate((ours, theirs))]
        ours.close()
        theirs.close()
        self.sock = socket.socket(fileno=high[0])

        def become():
            os.dup2(high[1], 3)
            os.closerange(4, 256)

        os.set_inheritable(high[0], False)
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=become,
                                        close_fds=False, start_new_session=True)
        os.close(high[1])
        self.buffer = b""
        self.number = 0
        self.ended = False
        self.hello = None
        self.beats = []

    def close(self):
        self.sock.close()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def send(self, frame):
        self.sock.sendall(frame if isinstance(frame, bytes) else line_of(frame))

    def greet(self):
        self.send({"millrace": 1, "max": 16, "features": ["cancel", "progress", "raw", "batch"],
                   "instance": "conformance/1", "version": "1"})
        if not self.basic:
            self.hello = self.receive()
        return self.hello

    @property
    def max(self):
        return 1 if self.hello is None else self.hello.get("max", 1)

    @property
    def features(self):
        return () if self.hello is None else self.hello.get("features", ())

    def receive(self, timeout=None):
        """The next frame; None at the end of what it sends."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise Failed("nothing came within %g s" % (self.timeout if timeout is None else timeout))
            try:
                data = self.sock.recv(1 << 20)
            except ConnectionError:
                data = b""
            if not data:
                if self.buffer:
                    raise Failed("it ended within a frame: %r" % self.buffer[:80])
                self.ended = True
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        try:
            frame = json.loads(line)
        except ValueError:
            raise Failed("not JSON: %r" % line[:80]) from None
        if not isinstance(frame, dict):
            raise Failed("not an object: %r" % line[:80])
        return frame

    def event(self, kind, **more):
        self.number += 1
        return {"specversion": "1.0", "id": "e%d" % self.number, "source": "/conformance",
                "type": "conformance." + kind, **more}

    def delivery(self, kind, **more):
        event = self.event(kind, **more)
        return {"delivery": "test:%d" % self.number, "attempt": 1, "last": False,
                "deadline": "2030-01-01T00:00:00.000Z", "event": event}

    def hand(self, kind, **more):
        frame = self.delivery(kind, **more)
        self.send(frame)
        return frame["delivery"]

    def answer(self, delivery):
        """The answer to `delivery`, which must come next; heartbeats before it are collected."""
        self.beats = []
        while True:
            frame = self.receive()
            if frame is None:
                raise Failed("it ended instead of answering")
            if "heartbeat" in frame:
                self.beats.append(frame)
                continue
            if "delivery" not in frame:
                continue
            if frame["delivery"] != delivery:
                raise Failed("an answer to %r instead of %r" % (frame["delivery"], delivery))
            return frame

    def ask(self, kind, **more):
        return self.answer(self.hand(kind, **more))

    def end(self):
        """Waits for the end of the process. @return its exit code"""
        try:
            return self.process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            raise Failed("it did not end within %g s" % self.timeout) from None


def want(what, actual, expected):
    if actual != expected:
        raise Failed("%s is %.80r, not %.80r" % (what, actual, expected))


@check("handshake")
def handshake(w):
    if w.hello is None:
        raise Failed("its first line is not a handshake")
    want("`millrace`", w.hello.get("millrace"), 1)
    if not isinstance(w.hello.get("max", 1), int) or w.hello.get("max", 1) < 1:
        raise Failed("`max` is %r" % w.hello.get("max"))
    if not isinstance(w.hello.get("features", []), list):
        raise Failed("`features` is no list")


@check("ok", basic=True)
def ok(w):
    for _ in range(3):
        want("verdict", w.ask("ok").get("verdict"), "ok")


@check("retry with after")
def retry(w):
    frame = w.ask("retry")
    want("verdict", frame.get("verdict"), "retry")
    want("error", frame.get("error"), "busy")
    after = frame.get("after")
    if after not in (2.5, "2500ms", "2s500ms"):
        raise Failed("after is %r, not 2.5" % (after,))


@check("drop")
def drop(w):
    frame = w.ask("drop")
    want("verdict", frame.get("verdict"), "drop")
    want("error", frame.get("error"), "not for us")


@check("dead")
def dead(w):
    frame = w.ask("dead")
    want("verdict", frame.get("verdict"), "dead")
    want("error", frame.get("error"), "never")


@check("emitted events")
def emitted(w):
    frame = w.ask("emit")
    want("verdict", frame.get("verdict"), "ok")
    events = frame.get("events")
    if not isinstance(events, list) or len(events) != 2:
        raise Failed("`events` is %.80r" % (events,))
    for event, name in zip(events, ("child-1", "child-2")):
        want("specversion", event.get("specversion"), "1.0")
        want("id", event.get("id"), name)
        want("type", event.get("type"), "conformance.child")
        if not event.get("source"):
            raise Failed("an emitted event has no source")


@check("result data")
def result(w):
    for data in ({"a": [1, 2.5, None, True, "x"]}, 7, "text", [], False):
        frame = w.ask("echo", data=data)
        want("verdict", frame.get("verdict"), "ok")
        want("data", frame.get("data"), data)


@check("unicode")
def unicode_text(w):
    text = "\u4e2d\u6587 \u00e9 \U0001F600 \u2028 \" \\ / \b\f\n\r\t \u0001"
    want("data", w.ask("echo", data={text: text}, subject="\u4e2d").get("data"), {text: text})
    frame = w.delivery("echo", data=text)
    w.send(json.dumps(frame, ensure_ascii=False).encode() + b"\n")
    want("data", w.answer(frame["delivery"]).get("data"), text)


@check("event of 1 MiB")
def large(w):
    want("data", w.ask("size", datacontenttype="text/plain", data="x" * (1 << 20)).get("data"), 1 << 20)


@check("data_base64")
def binary(w):
    data = bytes(range(256)) * 5
    frame = w.ask("size", datacontenttype="application/octet-stream",
                  data_base64=base64.b64encode(data).decode())
    want("data", frame.get("data"), len(data))


@check("event without data", basic=True)
def no_data(w):
    want("verdict", w.ask("ok", subject="none").get("verdict"), "ok")


@check("unknown frames and members are ignored", basic=True)
def unknown(w):
    w.send({"future": {"delivery": [1, 2]}})
    w.send({"log": "x", "level": 3})
    frame = w.delivery("ok")
    frame["priority"] = {"verdict": "dead"}
    frame["event"]["comexample"] = "x"
    w.send(frame)
    want("verdict", w.answer(frame["delivery"]).get("verdict"), "ok")


@check("white space and order within a frame")
def white_space(w):
    frame = w.delivery("ok")
    w.send((" %s \r\n" % json.dumps(dict(reversed(list(frame.items()))))).encode())
    want("verdict", w.answer(frame["delivery"]).get("verdict"), "ok")


@check("frames in pieces", basic=True)
def pieces(w):
    frame = w.delivery("ok", subject="in pieces")
    data = line_of(frame)
    for i in range(0, len(data), 7):
        w.send(data[i:i + 7])
        select.select([], [], [], 0.0005)  # so that they are read apart
    want("verdict", w.answer(frame["delivery"]).get("verdict"), "ok")


@check("several frames in one piece")
def together(w):
    frames = [w.delivery("ok") for _ in range(min(w.max, 16))]
    w.send(b"".join(line_of(f) for f in frames))
    collect(w, {f["delivery"] for f in frames})


def collect(w, waiting):
    while waiting:
        frame = w.receive()
        if frame is None:
            raise Failed("it ended with %d deliveries unanswered" % len(waiting))
        if "delivery" not in frame:
            continue
        want("verdict", frame.get("verdict"), "ok")
        if frame["delivery"] not in waiting:
            raise Failed("an answer to %r, which is not in flight" % frame["delivery"])
        waiting.remove(frame["delivery"])


@check("many in flight, each answered once")
def many(w):
    waiting = set()
    for _ in range(500):
        while len(waiting) >= w.max:
            frame = w.receive()
            if frame is None or frame.get("delivery") not in waiting:
                raise Failed("unexpected frame %.80r" % (frame,))
            want("verdict", frame.get("verdict"), "ok")
            waiting.remove(frame["delivery"])
        waiting.add(w.hand("ok"))
    collect(w, waiting)


@check("second attempt has the same id", basic=True)
def again(w):
    frame = w.delivery("ok")
    for attempt in (1, 2):
        frame["attempt"] = attempt
        w.send(frame)
        want("verdict", w.answer(frame["delivery"]).get("verdict"), "ok")


@check("heartbeat")
def heartbeat(w):
    delivery = w.hand("heartbeat")
    want("verdict", w.answer(delivery).get("verdict"), "ok")
    want("heartbeats", [b["heartbeat"] for b in w.beats][:1], [delivery])


@check("cancel")
def cancel(w):
    if "cancel" not in w.features:
        raise Skipped("it does not declare cancel")
    w.send({"cancel": "test:0"})  # none of its own
    delivery = w.hand("wait")
    w.send({"cancel": delivery})
    frame = w.answer(delivery)
    want("verdict", frame.get("verdict"), "retry")
    if "cancelled" not in (frame.get("error") or ""):
        raise Failed("error is %r" % frame.get("error"))
    want("verdict", w.ask("ok").get("verdict"), "ok")


def hand_batch(w, number, *kinds):
    frames = [w.delivery(kind) for kind in kinds]
    w.send({"batch": number, "count": len(frames)})
    for frame in frames:
        w.send(frame)
    return [frame["delivery"] for frame in frames]


def batch_answers(w, number, deliveries):
    """The answers to a batch, by delivery; what is said of all of it is under None."""
    answers = {}
    while None not in answers and len(answers) < len(deliveries):
        frame = w.receive()
        if frame is None:
            raise Failed("it ended instead of answering")
        if "heartbeat" in frame:
            w.beats.append(frame)
        elif frame.get("delivery") in deliveries:
            answers[frame["delivery"]] = frame
        elif frame.get("batch") == number:
            answers[None] = frame
    return answers


@check("batch")
def batch(w):
    if "batch" not in w.features:
        raise Skipped("it does not declare batch")
    ids = hand_batch(w, 7, "ok", "retry", "dead", "ok", "emit")
    answers = batch_answers(w, 7, ids)
    said = [answers.get(id, answers.get(None, {})) for id in ids]
    want("verdicts", [a.get("verdict") for a in said], ["ok", "retry", "dead", "ok", "ok"])
    want("`after`", said[1].get("after"), 2.5)
    want("events emitted", len(said[4].get("events", ())), 2)
    want("verdict of one by itself", w.ask("ok").get("verdict"), "ok")


@check("a batch that fails as a whole")
def batch_fails(w):
    if "batch" not in w.features:
        raise Skipped("it does not declare batch")
    answers = batch_answers(w, 8, hand_batch(w, 8, "ok", "fail", "ok"))
    want("the answer for all", answers.get(None, {}).get("verdict"), "retry")
    want("verdict of the next batch",
         batch_answers(w, 9, hand_batch(w, 9, "ok", "ok")).get(None, {}).get("verdict"), "ok")


@check("cancel and heartbeat of one in a batch")
def batch_cancel(w):
    if "batch" not in w.features or "cancel" not in w.features:
        raise Skipped("it does not declare batch and cancel")
    ids = hand_batch(w, 10, "ok", "wait", "heartbeat")
    w.send({"cancel": "test:0"})
    w.send({"cancel": ids[1]})
    answers = batch_answers(w, 10, ids)
    said = [answers.get(id, answers.get(None, {})) for id in ids]
    want("verdicts", [a.get("verdict") for a in said], ["ok", "retry", "ok"])
    if "cancelled" not in (said[1].get("error") or ""):
        raise Failed("error is %r" % said[1].get("error"))
    want("heartbeats", [b["heartbeat"] for b in w.beats][:1], [ids[2]])


@check("batches of many, several at once")
def batch_many(w):
    if "batch" not in w.features:
        raise Skipped("it does not declare batch")
    batches = {}
    for number in range(20, 20 + min(w.max, 4)):
        batches[number] = hand_batch(w, number, *["ok"] * 300)
    waiting = {id for ids in batches.values() for id in ids}
    while waiting:
        frame = w.receive()
        if frame is None:
            raise Failed("it ended with %d deliveries unanswered" % len(waiting))
        want("verdict", frame.get("verdict"), "ok")
        if "batch" in frame:
            waiting.difference_update(batches.pop(frame["batch"]))
        else:
            waiting.remove(frame["delivery"])


@check("a batch in pieces, in flight at a stop")
def batch_stop(w):
    if "batch" not in w.features:
        raise Skipped("it does not declare batch")
    frames = [w.delivery("ok", subject="in pieces") for _ in range(3)]
    data = b'{"batch":30,"count":3         }\n' + b"".join(line_of(f) for f in frames)
    for i in range(0, len(data), 40):
        w.send(data[i:i + 40])
        select.select([], [], [], 0.0005)  # so that they are read apart
    w.send({"stop": True})
    answers = batch_answers(w, 30, [f["delivery"] for f in frames])
    want("verdicts", {a.get("verdict") for a in answers.values()}, {"ok"})
    want("exit code", w.end(), 0)


@check("raw data")
def raw(w):
    if "raw" not in w.features:
        raise Skipped("it does not declare raw")
    for data in RAW:
        frame = w.delivery("size", datacontenttype="application/octet-stream")
        frame["data_size"] = len(data)
        w.send(line_of(frame) + data)
        want("data", w.answer(frame["delivery"]).get("data"), len(data))


@check("raw data in a batch")
def batch_raw(w):
    if "raw" not in w.features or "batch" not in w.features:
        raise Skipped("it does not declare raw and batch")
    frames = [w.delivery("size", datacontenttype="application/octet-stream") for _ in RAW]
    for frame, data in zip(frames, RAW):
        frame["data_size"] = len(data)
    ids = [frame["delivery"] for frame in frames]
    w.send(line_of({"batch": 11, "count": len(RAW)}) +
           b"".join(line_of(f) + d for f, d in zip(frames, RAW)))
    answers = batch_answers(w, 11, ids)
    want("data", [answers.get(id, {}).get("data") for id in ids], [len(d) for d in RAW])


@check("stop ends it", basic=True)
def stop(w):
    want("verdict", w.ask("ok").get("verdict"), "ok")
    w.send({"stop": True})
    w.sock.shutdown(socket.SHUT_WR)
    want("exit code", w.end(), 0)


@check("what is in flight is answered before the end")
def stop_busy(w):
    delivery = w.hand("ok")
    w.send({"stop": True})
    want("verdict", w.answer(delivery).get("verdict"), "ok")
    want("exit code", w.end(), 0)


@check("cancel reaches what is in flight after a stop")
def stop_cancel(w):
    if "cancel" not in w.features:
        raise Skipped("it does not declare cancel")
    delivery = w.hand("wait")
    w.send({"stop": True})
    select.select([], [], [], 0.05)  # so that they are read apart
    w.send({"cancel": delivery})
    want("verdict", w.answer(delivery).get("verdict"), "retry")
    want("exit code", w.end(), 0)


@check("the end of input ends what is in flight")
def end_busy(w):
    if "cancel" not in w.features:
        raise Skipped("it does not declare cancel")
    w.hand("wait")
    w.sock.shutdown(socket.SHUT_WR)
    w.end()


@check("the end of input ends it", basic=True)
def end_of_input(w):
    w.sock.shutdown(socket.SHUT_WR)
    w.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--basic", action="store_true", help="only what a shell worker can do")
    parser.add_argument("--timeout", type=float, default=20, help="seconds each answer may take")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.command[:1] == ["--"]:
        del options.command[0]
    if not options.command:
        parser.error("which worker?")
    passed = failed = number = 0
    for name, basic, function in CHECKS:
        if options.basic and not basic:
            continue
        number += 1
        try:
            worker = Worker(options.command, options.timeout, options.basic)
        except OSError as error:
            sys.exit("conformance: cannot run %s: %s" % (options.command[0], error))
        try:
            worker.greet()
            function(worker)
        except Skipped as reason:
            print("ok %d - %s # skip %s" % (number, name, reason), flush=True)
        except (Failed, OSError) as reason:
            failed += 1
            print("not ok %d - %s # %s" % (number, name, reason), flush=True)
        else:
            passed += 1
            print("ok %d - %s" % (number, name), flush=True)
        finally:
            worker.close()
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
