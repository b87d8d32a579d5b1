"""Drives the real millrace process: an instance in a folder of its own on a free port, its HTTP
interface, its command line, and waiting for conditions. Standard library only.

A test file holds functions called test_…; `main()` runs them all, prints one line for each, and
exits with 1 when one failed. The program is in the environment variable MILLRACE.
"""
import contextlib
import http.client
import http.server
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

MILLRACE = os.environ.get("MILLRACE", "millrace")
ROOT = pathlib.Path(__file__).resolve().parents[2]
SDK = ROOT / "workers" / "sdk" / "python"
DEADLINE_S = 60

CLOUDEVENT = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


class Skip(Exception):
    """What the test needs is not here."""


def wait_until(what, condition, seconds=DEADLINE_S):
    """The first true value of condition(); fails when it does not come in time."""
    end = time.monotonic() + seconds
    tick = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("waited %d s in vain for: %s" % (seconds, what))
        tick.wait(0.02)


def event(id, type="com.example.a", subject=None, data=None, **more):
    made = {"specversion": "1.0", "id": id, "source": "/test", "type": type}
    if subject is not None:
        made["subject"] = subject
    if data is not None:
        made["data"] = data
    made.update(more)
    return made


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def json(self):
        return json.loads(self.out)

    def lines(self):
        return [json.loads(line) for line in self.out.splitlines() if line]


def cli(*arguments, input=None, cwd=None, env=None):
    if isinstance(input, str):
        input = input.encode()
    done = subprocess.run([MILLRACE, *map(str, arguments)], input=input, cwd=cwd, timeout=120,
                          capture_output=True, stdin=subprocess.DEVNULL if input is None else None,
                          env=None if env is None else {**os.environ, **env})
    return Result(done.returncode, done.stdout.decode("utf-8", "replace"),
                  done.stderr.decode("utf-8", "replace"))


class Instance:
    """`with Instance({...}) as m:` writes the configuration, starts, and stops at the end."""

    def __init__(self, config, files=(), env=None, start=True):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="mr-"))
        self.env = dict(env or {})
        shutil.copy(SDK / "millrace.py", self.folder)  # workers get a clean environment
        self.process = None
        self.port = None
        self.log = self.folder / "millrace.log"
        for name, text in dict(files).items():
            path = self.folder / name
            path.write_text(text)
            path.chmod(0o755)
        self.write_config(config)
        self.start_now = start

    @property
    def path(self):
        return self.folder / "millrace.yaml"

    def write_config(self, config):
        whole = {"data_dir": "./data", "listen": "127.0.0.1:0",
                 "log": {"segment_size": "4MiB"}}
        whole.update(config)
        self.path.write_text(json.dumps(whole))

    def __enter__(self):
        try:
            if self.start_now:
                self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *what):
        failed = bool(what) and what[0] is not None
        said = self.end()
        shutil.rmtree(self.folder, ignore_errors=True)
        bad = re.search(r"Sanitizer|runtime error:|assertion failed", said)
        if failed or bad:
            sys.stdout.write("    the log of the instance:\n")
            for line in said[bad.start() if bad else -3000:][:6000].splitlines():
                sys.stdout.write("    | %s\n" % line)
        if bad and not failed:
            raise AssertionError("the instance broke: %s" % bad.group(0))

    def end(self):
        """Stops it at once, by force if it must be; what it logged."""
        if self.process is not None and self.process.poll() is None:
            tick = threading.Event()
            for _ in range(100):
                self.process.send_signal(signal.SIGTERM)
                if tick.wait(0.05) or self.process.poll() is not None:
                    break
            try:
                self.process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process is not None:
            self.process.stdout.close()
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self):
        self.launch()
        self.wait_ready()

    def launch(self):
        with open(self.log, "ab") as err:
            self.process = subprocess.Popen(
                [MILLRACE, "run", "-c", str(self.path)], stdout=subprocess.PIPE, stderr=err,
                stdin=subprocess.DEVNULL, env={**os.environ, **self.env})

    def wait_ready(self):
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE_S)
        line = self.process.stdout.readline().decode() if ready else ""
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if not found:
            raise AssertionError("it did not start: %r\n%s" % (line, self.log.read_text()))
        self.port = int(found.group(1))
        wait_until("readyz", lambda: self.http("GET", "/readyz")[0] == 200)

    def stop(self, number=signal.SIGTERM):
        """Ends it and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=DEADLINE_S)

    def http(self, method, path, body=None, headers=None):
        """(status, headers, body text)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def api(self, method, path, body=None, headers=None):
        """A request to the administrative socket: (status, the JSON of the answer or None)."""
        connection = http.client.HTTPConnection("localhost", timeout=DEADLINE_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(DEADLINE_S)
        try:
            connection.sock.connect(str(self.folder / "data" / "millrace.sock"))
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def post(self, sent, path="/events"):
        batch = isinstance(sent, list)
        status, _, body = self.http("POST", path, json.dumps(sent),
                                    {"Content-Type": BATCH if batch else CLOUDEVENT})
        assert status == 202, (status, body)
        return json.loads(body)

    def cli(self, *arguments, **more):
        return cli(*arguments, "-c", self.path, **more)

    def ask(self, *arguments):
        """A verb's JSON answer; it must succeed."""
        result = self.cli(*arguments, "-o", "json")
        assert result.code == 0, (arguments, result.code, result.out, result.err)
        return result.json()

    def ask_lines(self, *arguments):
        result = self.cli(*arguments, "-o", "json")
        assert result.code == 0, (arguments, result.code, result.out, result.err)
        return result.lines()

    def letters(self, subscription):
        """Its dead letters; those of a source (`ingest:NAME`) are known from its first one on."""
        result = self.cli("dlq", "list", subscription, "-o", "json")
        assert result.code == 0 or "no subscription is called" in result.err, (result.code, result.err)
        return result.lines()

    def trace(self, id):
        return self.ask("trace", id)

    def delivery(self, id, subscription):
        """The delivery of an event to a subscription as trace tells it, or None."""
        for delivery in self.trace(id)["deliveries"]:
            if delivery["subscription"] == subscription:
                return delivery
        return None

    def wait_state(self, id, subscription, state):
        def reached():
            delivery = self.delivery(id, subscription)
            return delivery if delivery is not None and delivery["state"] == state else None
        return wait_until("%s of %s is %s" % (id, subscription, state), reached)

    def counts(self, subscription):
        return self.ask("sub", "show", subscription)

    def metrics(self):
        """{'name{labels}': value}"""
        status, _, text = self.http("GET", "/metrics")
        assert status == 200, status
        samples = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
        return samples


class Served:
    """An HTTP server on a free port, as long as the `with` lasts."""

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 1024  # 5 otherwise: of more at once some wait seconds to connect

        def handle_error(self, request, address):
            pass  # a peer that went away

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

    def __init__(self, handler):
        self.server = self.Quiet(("127.0.0.1", 0), handler)
        self.port = self.server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *what):
        self.server.shutdown()
        self.server.server_close()


class Service(Served):
    """An HTTP service on a free port; answers by `reply(request)` -> (status, headers, body)."""

    def __init__(self, reply=lambda request: (200, {}, b"")):
        self.requests = []
        service = self

        class Handler(self.Handler):
            def do_POST(self):
                size = int(self.headers.get("Content-Length") or 0)
                request = {"path": self.path, "headers": dict(self.headers.items()),
                           "body": self.rfile.read(size)}
                service.requests.append(request)
                status, headers, body = reply(request)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        super().__init__(Handler)


@contextlib.contextmanager
def folder():
    path = pathlib.Path(tempfile.mkdtemp(prefix="mr-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def flip(path, at):
    """Spoils one bit of a file."""
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 0x10]))


def on_terminal(m, *arguments, say=None):
    """Runs a verb on a terminal; (exit code, what it showed)."""
    master, slave = pty.openpty()
    process = subprocess.Popen([MILLRACE, *map(str, arguments), "-c", str(m.path)], stdin=slave,
                               stdout=slave, stderr=slave, close_fds=True)
    os.close(slave)
    shown = b""
    try:
        while True:
            if not select.select([master], [], [], DEADLINE_S)[0]:
                raise AssertionError("nothing more came: %r" % shown)
            try:
                part = os.read(master, 4096)
            except OSError:  # its end of the terminal is closed
                part = b""
            if not part:
                break
            shown += part
            if say is not None and b"[y/N]" in shown:
                os.write(master, say)
                say = None
        return process.wait(timeout=DEADLINE_S), shown.decode()
    finally:
        os.close(master)
        if process.poll() is None:
            process.kill()
            process.wait()


def whole_lines(path):
    """The lines of a file that is being written: one without its end is not there yet."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def json_lines(path):
    """The same, parsed; what a kill has torn is no line."""
    found = []
    for line in whole_lines(path):
        try:
            found.append(json.loads(line))
        except ValueError:
            pass
    return found


def http_source(path="/events", **more):
    return {"http": {"path": path, **more}}


def python(code):
    """A process worker of a few lines; handle(event, ctx) is in the code."""
    return "import json, os, select, signal, sys\nimport millrace\n" + code + "\nmillrace.run(handle)\n"


def main():
    module = sys.modules["__main__"]
    wanted = sys.argv[1:]
    names = [name for name in vars(module) if name.startswith("test_") and
             (not wanted or name in wanted)]
    failed = skipped = 0
    for name in names:
        begin = time.monotonic()
        try:
            getattr(module, name)()
            word = "ok"
        except Skip as why:
            word, skipped = "skipped (%s)" % why, skipped + 1
        except Exception:
            word, failed = "FAILED", failed + 1
            traceback.print_exc(file=sys.stdout)
        print("%s %s (%.2f s)" % (name, word, time.monotonic() - begin), flush=True)
    print("%d passed, %d failed, %d skipped" % (len(names) - failed - skipped, failed, skipped))
    sys.exit(1 if failed else 0)
