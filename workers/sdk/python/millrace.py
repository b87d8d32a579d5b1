"""A worker of Millrace in Python: one file, standard library only, Python 3.9 or later.

    import millrace

    def handle(event, ctx):
        print(event["type"], event.get("data"))      # stdout goes to Millrace's log
        if busy():
            raise millrace.Retry("busy", after=5)    # seconds

    millrace.run(handle)

`event` is the CloudEvent as a dict; bytes that came as data_base64 are in ctx.data. What the handler
returns is the result data of the delivery (anything JSON can say; None: no data). It is retried when
the handler raises, with the exception as error; Retry, Drop and Dead say something else.

`run(handle, concurrency=8)` handles eight deliveries at once in threads; with `threads=False` eight
are taken over at once but handled one after the other, which is fastest for short handlers. The
worker's `concurrency` in Millrace's configuration is the upper bound of both.

For a subscription with `batch` the handler gets a list:

    def handle(batch):
        for ctx in batch:
            if not store(ctx.event):
                ctx.retry("busy", after=5)           # the others are done when it returns

    millrace.run_batch(handle)

The protocol below this is docs/worker-protocol.md.
"""
import base64
import collections
import json
import socket
import sys
import threading
import time
import traceback

__all__ = ["run", "run_batch", "Retry", "Drop", "Dead", "Context"]

_FLUSH_S = 0.002  # answers wait at most this long for others to go with them
_READ_SIZE = 65536  # more would be mapped and unmapped for each read


class _Verdict(Exception):
    verdict = "retry"

    def __init__(self, error=None, after=None, data=None):
        super().__init__(error)
        self.error = None if error is None else str(error)
        self.after = after
        self.data = data


class Retry(_Verdict):
    """Try again: after the schedule of the subscription, or `after` seconds."""


class Drop(_Verdict):
    """Handled by doing nothing; it ends as `dropped`, with the reason."""

    verdict = "drop"


class Dead(_Verdict):
    """No attempt will ever help; it goes to the dead letters, with the reason."""

    verdict = "dead"


class Context:
    """What a handler knows about its delivery and may say while it runs."""

    __slots__ = ("delivery", "attempt", "last", "deadline", "event", "_worker", "_emitted", "_data",
                 "_cancelled", "_said")

    def __init__(self, worker, frame):
        self._worker = worker
        self.delivery = frame["delivery"]  # the same for all attempts: use it to be idempotent
        self.attempt = frame.get("attempt", 1)
        self.last = frame.get("last", False)  # a retry now ends it
        self.deadline = frame.get("deadline")
        self.event = frame.get("event") or {}
        self._emitted = None
        self._data = frame.get("_data")
        self._cancelled = frame.get("_cancelled", False)
        self._said = None

    @property
    def data(self):
        """The data as bytes, however it came; None when there is none."""
        if self._data is None:
            event = self.event
            if "data_base64" in event:
                self._data = base64.b64decode(event["data_base64"])
            elif "data" in event:
                data = event["data"]
                text = data if isinstance(data, str) and not _is_json(event) else json.dumps(data)
                self._data = text.encode()
        return self._data

    def emit(self, event):
        """Emits a CloudEvent (a dict with at least id, source, type) if the handler succeeds."""
        if self._emitted is None:
            self._emitted = []
        self._emitted.append(event if "specversion" in event else {"specversion": "1.0", **event})

    # In a batch, where a handler cannot return or raise for one of them:

    def ok(self, data=None):
        """This delivery is done, with result data."""
        self._said = {"verdict": "ok"} if data is None else {"verdict": "ok", "data": data}

    def retry(self, error=None, after=None):
        """This delivery is tried again, at the cost of an attempt."""
        self._said = _said(Retry(error, after))

    def drop(self, error=None):
        self._said = _said(Drop(error))

    def dead(self, error=None):
        self._said = _said(Dead(error))

    def heartbeat(self, progress=None):
        """Says that the handler is alive, which extends its time."""
        frame = {"heartbeat": self.delivery}
        if progress is not None:
            frame["progress"] = progress
        self._worker.send_now(_dump(frame))

    @property
    def cancelled(self):
        """Whether Millrace gave the delivery up; a long handler looks now and then and returns."""
        if not self._cancelled:
            self._worker.look(self)
        return self._cancelled


def _said(verdict):
    """What an answer says beside its delivery."""
    said = {"verdict": verdict.verdict}
    for name in ("error", "after", "data"):
        if getattr(verdict, name) is not None:
            said[name] = getattr(verdict, name)
    return said


def _is_json(event):
    kind = event.get("datacontenttype", "application/json").split(";")[0].strip().lower()
    return kind.endswith("/json") or kind.endswith("+json")


def _dump(frame):
    return json.dumps(frame, separators=(",", ":")).encode() + b"\n"


class _Stop(Exception):
    pass


class _Worker:
    def __init__(self, handle, concurrency, threads, version, raw, fd, batches):
        self.handle = handle
        self.batches = batches
        self.open = None  # the batch that is coming: its frame, with what came in "deliveries"
        self.concurrency = max(1, int(concurrency))
        self.threads = self.concurrency > 1 if threads is None else bool(threads)
        self.version = version
        self.raw = raw
        self.sock = socket.socket(fileno=fd)
        self.sock.setblocking(True)
        self.buffer = bytearray()
        self.scanned = 0
        self.lock = threading.Lock()  # protects the sending side
        self.out = []
        self.running = {}  # delivery -> context, of handlers that run
        self.todo = collections.deque()  # deliveries taken over and not begun
        self.stopping = False
        self.gone = False  # the end of input: nobody waits for answers

    # --- frames ---------------------------------------------------------------------------------

    def send_now(self, data):
        with self.lock:
            self.out.append(data)
            data = b"".join(self.out)
            self.out.clear()
            self.sock.sendall(data)

    def flush(self):
        if self.out:
            data = b"".join(self.out)
            self.out.clear()
            self.sock.sendall(data)

    def fill(self, flags=0):
        """Reads what there is; blocks unless told not to. Raises _Stop at the end of input."""
        try:
            data = self.sock.recv(_READ_SIZE, flags)
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionError:
            raise _Stop from None
        if not data:
            raise _Stop
        self.buffer += data
        return True

    def take_lines(self):
        """All complete frames of the buffer, as parsed objects."""
        buffer = self.buffer
        if not buffer.endswith(b"\n") or b'"data_size":' in buffer:
            return list(self.take_lines_slowly())
        lines = buffer.split(b"\n")
        self.buffer = bytearray()
        self.scanned = 0
        return [json.loads(line) for line in lines if line]

    def take_lines_slowly(self):
        while True:
            end = self.buffer.find(b"\n", self.scanned)
            if end < 0:
                self.scanned = len(self.buffer)
                return
            frame = json.loads(self.buffer[:end])
            size = frame.get("data_size")
            if size is not None:  # raw: the data follows its header line
                if len(self.buffer) < end + 1 + size:
                    self.scanned = end
                    return
                frame["_data"] = bytes(self.buffer[end + 1:end + 1 + size])
                end += size
            del self.buffer[:end + 1]
            self.scanned = 0
            yield frame

    def control(self, frame):
        """Acts on a frame that is no delivery. @return whether it was one of those"""
        if "delivery" in frame:
            return False
        if "batch" in frame:
            frame["deliveries"] = []
            self.open = frame
        elif "cancel" in frame:
            self.cancel(frame["cancel"])
        elif frame.get("stop"):
            self.stopping = True
        return True

    def cancel(self, delivery):
        context = self.running.get(delivery)
        if context is not None:
            context._cancelled = True
            return
        for frame in list(self.todo):
            for member in frame.get("deliveries", ()):
                if member["delivery"] == delivery:
                    member["_cancelled"] = True
            if frame.get("delivery") == delivery:  # not begun: give it back
                try:
                    self.todo.remove(frame)
                except ValueError:  # a thread began it just now; it sees the next cancel
                    return
                self.send_now(_dump({"delivery": delivery, "verdict": "retry",
                                     "error": "cancelled before it began"}))
                return

    def look(self, context):
        """Takes the frames that came while a handler runs in this thread."""
        if self.threads:
            return  # the reading thread does
        try:
            if self.fill(socket.MSG_DONTWAIT):
                self.sort_frames()
        except _Stop:
            self.stopping = True
            context._cancelled = True

    def gather(self, frame):
        """@return what can be handled now that this delivery came: it, its whole batch, or None"""
        if self.open is None:
            return frame
        self.open["deliveries"].append(frame)
        if len(self.open["deliveries"]) < self.open["count"]:
            return None
        frame, self.open = self.open, None
        return frame

    def sort_frames(self):
        for frame in self.take_lines():
            if not self.control(frame):
                frame = self.gather(frame)
                if frame is not None:
                    self.todo.append(frame)

    # --- deliveries -----------------------------------------------------------------------------

    def work_batch(self, frame):
        """Runs the handler for a batch, or for one delivery as a batch of its own."""
        contexts = [Context(self, member) for member in frame.get("deliveries", (frame,))]
        for context in contexts:
            self.running[context.delivery] = context
            context._cancelled = context._cancelled or self.gone
        whole = {"verdict": "ok"}
        try:
            self.handle(contexts)
        except _Verdict as verdict:
            whole = _said(verdict)
        except Exception as error:
            traceback.print_exc()
            sys.stderr.flush()
            whole = {"verdict": "retry", "error": "%s: %s" % (type(error).__name__, error)}
        finally:
            for context in contexts:
                del self.running[context.delivery]
        parts = []
        for context in contexts:
            said = context._said
            if said is None:
                if "batch" in frame and (whole["verdict"] == "retry" or
                                         (whole["verdict"] == "ok" and not context._emitted)):
                    continue  # the answer for all of them
                said = dict(whole)
            if context._emitted and said["verdict"] != "retry":
                said["events"] = context._emitted
            try:
                parts.append(_dump({"delivery": context.delivery, **said}))
            except (TypeError, ValueError) as error:
                parts.append(_dump({"delivery": context.delivery, "verdict": "retry",
                                    "error": "the result is no JSON: %s" % error}))
        if "batch" in frame and len(parts) < len(contexts):
            whole.pop("data", None)
            parts.append(_dump({"batch": frame["batch"], **whole}))
        return b"".join(parts)

    def work(self, frame):
        """Runs the handler. @return the answer as bytes"""
        if self.batches:
            return self.work_batch(frame)
        context = Context(self, frame)
        delivery = context.delivery
        self.running[delivery] = context
        if self.gone:
            context._cancelled = True
        try:
            result = self.handle(context.event, context)
        except _Verdict as verdict:
            answer = {"delivery": delivery, **_said(verdict)}
            if context._emitted and verdict.verdict != "retry":
                answer["events"] = context._emitted
        except Exception as error:
            traceback.print_exc()
            sys.stderr.flush()
            text = "%s: %s" % (type(error).__name__, error)
            answer = {"delivery": delivery, "verdict": "retry", "error": text}
        else:
            if result is None and context._emitted is None:
                return b'{"delivery":%s,"verdict":"ok"}\n' % json.dumps(delivery).encode()
            answer = {"delivery": delivery, "verdict": "ok"}
            if context._emitted:
                answer["events"] = context._emitted
            if result is not None:
                answer["data"] = result
        finally:
            del self.running[delivery]
        try:
            return _dump(answer)
        except (TypeError, ValueError) as error:
            return _dump({"delivery": delivery, "verdict": "retry",
                          "error": "the result is no JSON: %s" % error})

    def run_in_turn(self):
        """Deliveries one after the other; answers go out together when that costs no time. What
        was taken over before a stop is still handled."""
        work, out, todo, monotonic = self.work, self.out, self.todo, time.monotonic
        while not self.stopping:
            self.fill()
            self.sort_frames()
            last = monotonic()
            while todo:
                out.append(work(todo.popleft()))
                now = monotonic()
                if now - last > _FLUSH_S:
                    self.flush()
                    last = now
            self.flush()

    def run_in_threads(self):
        ready = threading.Semaphore(0)

        def serve():
            while True:
                ready.acquire()
                try:
                    frame = self.todo.popleft()
                except IndexError:  # cancelled meanwhile, or the end
                    if self.stopping:
                        return
                    continue
                self.send_now(self.work(frame))

        pool = [threading.Thread(target=serve, daemon=True) for _ in range(self.concurrency)]
        for thread in pool:
            thread.start()

        def finish():  # after a stop: cancels are still read until the last handler is done
            ready.release(len(pool))
            for thread in pool:
                thread.join()
            try:
                self.sock.shutdown(socket.SHUT_RD)
            except OSError:
                pass  # the other end was faster

        ending = threading.Thread(target=finish, daemon=True)
        try:
            while True:
                self.fill()
                for frame in self.take_lines():
                    frame = None if self.control(frame) else self.gather(frame)
                    if frame is not None:
                        self.todo.append(frame)
                        ready.release()
                if self.stopping and ending.ident is None:
                    ending.start()
        finally:
            self.stopping = self.gone = True
            for context in list(self.running.values()):
                context._cancelled = True
            if ending.ident is None:
                ending.start()
            ending.join()

    def run(self):
        hello = {"millrace": 1, "max": self.concurrency, "features": ["cancel", "progress"]}
        if self.raw:
            hello["features"].append("raw")
        if self.batches:
            hello["features"].append("batch")
        if self.version is not None:
            hello["version"] = str(self.version)
        self.send_now(_dump(hello))
        try:
            if self.threads:
                self.run_in_threads()
            else:
                self.run_in_turn()
        except (_Stop, BrokenPipeError, ConnectionError):
            pass


def run(handle, concurrency=1, threads=None, version=None, raw=False, fd=3):
    """Serves deliveries until Millrace says stop. With `raw` the data is not parsed: it comes as
    bytes in ctx.data alone. `version` is shown with each attempt; `fd` is the socket's descriptor."""
    _serve(handle, concurrency, threads, version, raw, fd, False)


def run_batch(handle, concurrency=1, threads=None, version=None, raw=False, fd=3):
    """The same for batches: `handle` gets a list of contexts, each with its `event`, and may say
    `ctx.retry(…)`, `ctx.dead(…)`, `ctx.drop(…)`, `ctx.ok(data)` of each. What it said nothing of is
    done when it returns; when it raises, it failed as a whole: Millrace takes that back and tries it
    again in halves, at no cost, until one is alone."""
    _serve(handle, concurrency, threads, version, raw, fd, True)


def _serve(handle, concurrency, threads, version, raw, fd, batches):
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
    try:
        worker = _Worker(handle, concurrency, threads, version, raw, fd, batches)
    except OSError:
        sys.exit("millrace: descriptor %d is no socket; is this started by Millrace?" % fd)
    worker.run()
    sys.stdout.flush()
