"""What the benchmarks share: one running Millrace, what loads it, how it is watched."""
import contextlib
import http.client
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "support"))  # where sdk is

WAIT_S = 120
SCRAPE_S = 0.1  # a scrape looks at every delivery in a window, on the core's thread: not too often
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    pass


def wait_until(what, condition, seconds=WAIT_S, pause=0.01):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed("waited in vain for " + what)
        time.sleep(pause)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(port, path, timeout=10):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def stop(process, number=signal.SIGTERM, seconds=30):
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Bus:
    """One running Millrace with a configuration and a folder of its own."""

    def __init__(self, bench, config, folder=None):
        self.bench = bench
        self.folder = folder or bench.folder("bus")
        self.port = free_port()
        # Segments of the window are recycled, as in a log that has run for a while.
        config = {"data_dir": "./data", "listen": f"127.0.0.1:{self.port}",
                  "log": {"retain_size": "128MiB"}, **config}
        (self.folder / "millrace.json").write_text(json.dumps(config))
        self.process = None

    def start(self):
        self.log = open(self.folder / "log", "ab")
        self.log_from = self.log.tell()
        self.started = time.monotonic()
        self.process = subprocess.Popen([self.bench.millrace, "run", "-c", "millrace.json"],
                                        cwd=self.folder, stdout=self.log, stderr=self.log)
        wait_until("/readyz", self.is_ready, pause=0.0005)
        self.ready_s = time.monotonic() - self.started
        return self

    def is_ready(self):
        if self.process.poll() is not None:
            text = (self.folder / "log").read_text(errors="replace")
            raise Failed("millrace ended: " + text[-500:])
        # It answers from the beginning: to be asked two thousand times a second would slow it.
        if b"millrace is ready" not in (self.folder / "log").read_bytes()[self.log_from:]:
            return False
        try:
            return get(self.port, "/readyz")[0] == 200
        except OSError:
            return False

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        stop(self.process)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def metric(self, name, **labels):
        total = 0.0
        for line in get(self.port, "/metrics", timeout=60)[1].decode().splitlines():
            m = re.match(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if m and m[1] == name and all(f'{k}="{v}"' in (m[2] or "") for k, v in labels.items()):
                total += float(m[3])
        return total

    def done(self):
        return self.metric("millrace_deliveries_total", state="done")

    def admin(self, path):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.folder / "data" / "millrace.sock"))
            s.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                      "Content-Length: 2\r\nConnection: close\r\n\r\n{}".encode())
            answer = s.recv(4096)
        if answer[9:10] != b"2":
            raise Failed(f"{path}: {answer.decode(errors='replace')}")

    def cpu_s(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_kib(self, which="VmRSS"):
        status = open(f"/proc/{self.process.pid}/status").read()
        return int(re.search(which + r":\s+(\d+)", status)[1])


class Bench:
    def __init__(self, build, repetitions):
        self.build = build
        self.repetitions = repetitions
        self.millrace = str(build / "millrace" / "millrace")
        self.data = build / "bench-data"
        self.values = {}
        self.serial = 0

    def folder(self, name):
        self.serial += 1
        folder = self.data / f"{name}-{self.serial}"
        folder.mkdir(parents=True)
        return folder

    def program(self, name):
        return str(self.build / "bench" / name)

    def note(self, name, value):
        self.values.setdefault(name, []).append(value)

    def tool(self, name, *arguments):
        done = subprocess.run([self.program(name), *map(str, arguments)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=WAIT_S * 5)
        if done.returncode != 0:
            raise Failed(f"{name}: {done.stderr.strip()}")
        return done.stdout

    def load(self, port, **options):
        arguments = [x for k, v in options.items() for x in ("--" + k, v)]
        result = json.loads(self.tool("bench_http_load", port, "/events", *arguments))
        if result["refused"] > 0:
            raise Failed(f"{result['refused']} requests were refused")
        return result

    def wrk(self, port, connections, body, seconds=3, batch=1):
        script = self.folder("wrk") / "post.lua"
        headers = {"Content-Type": "application/cloudevents-batch+json"} if batch > 1 else {
            "Content-Type": "application/json", "ce-specversion": "1.0", "ce-id": "1",
            "ce-type": "com.example.bench", "ce-source": "/bench"}
        script.write_text('wrk.method = "POST"\n' + f"wrk.body = [==[{body}]==]\n" + "".join(
            f'wrk.headers["{k}"] = "{v}"\n' for k, v in headers.items()))
        out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script),
                              f"http://127.0.0.1:{port}/events"], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, check=True).stdout
        if "Non-2xx" in out:
            raise Failed("refused requests: " + re.search(r"Non-2xx.*", out)[0])
        return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]) * batch

    @contextlib.contextmanager
    def server(self):
        process = subprocess.Popen([self.program("bench_http_server")], stdout=subprocess.PIPE)
        try:
            yield int(process.stdout.readline())
        finally:
            stop(process)

    @contextlib.contextmanager
    def broker(self):
        folder = self.folder("mosquitto")
        port = free_port()
        user = "user root\n" if os.getuid() == 0 else ""
        (folder / "mosquitto.conf").write_text(
            user + "set_tcp_nodelay true\nmax_inflight_messages 1000\nmax_queued_messages 0\n"
            f"persistence false\nallow_anonymous true\nlistener {port} 127.0.0.1\n")
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        process = subprocess.Popen([program, "-c", str(folder / "mosquitto.conf")],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until("mosquitto", lambda: process.poll() is not None or listens(port))
            if process.poll() is not None:
                raise Failed("mosquitto ended")
            yield port
        finally:
            stop(process)
            shutil.rmtree(folder, ignore_errors=True)


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def payload():
    return json.dumps({"text": "x" * 1013}, separators=(",", ":"))


def batch_body(count):
    event = {"specversion": "1.0", "type": "com.example.bench", "source": "/bench",
             "datacontenttype": "application/json", "data": json.loads(payload())}
    return json.dumps([{**event, "id": str(i)} for i in range(count)], separators=(",", ":"))


def http_worker(server, concurrency=64):
    return {"workers": {"w": {"http": {"url": f"http://127.0.0.1:{server}/w"},
                              "concurrency": concurrency}},
            "subscriptions": {"all": {"to": "w"}}}


def http_to_http(server, concurrency=64):
    return {"sources": {"h": {"http": {"path": "/events"}}}, **http_worker(server, concurrency)}


def flow(bench, bus, server, count, done=None, **options):
    """Posts and waits until all is settled; the server's statistics and the whole time."""
    get(server, "/reset")
    done = done or bus.done
    before = done()
    loaded = bench.load(bus.port, count=count, **options)
    wait_until("the events to settle", lambda: done() >= before + count, pause=SCRAPE_S)
    stats = json.loads(get(server, "/stats")[1])
    return stats, (stats["last_ns"] - loaded["start_ns"]) / 1e9


def backlog(bench, bus, count):
    """A backlog is made while the subscription is paused; seconds from its resumption to the end."""
    make_backlog(bench, bus, count)
    return settle_backlog(bus, count)


def make_backlog(bench, bus, count):
    bus.admin("/api/v1/subscriptions/all/pause")
    batch = 100 if count >= 1000 else 1
    bench.load(bus.port, count=count, batch=batch, connections=8)


def settle_backlog(bus, count, name="all", pause=SCRAPE_S):
    start = time.monotonic()
    bus.admin(f"/api/v1/subscriptions/{name}/resume")
    wait_until("the backlog to settle", lambda: bus.done() >= count, pause=pause)
    return time.monotonic() - start


def subscriptions(count):
    return {f"sub{i}": {"filter": {"exact": {"type": f"com.example.kind{i}"}}, "to": "w"}
            for i in range(count)}


def key_of(number):
    return f"{number:020}"  # as bench_http_load writes it


def drop_caches():
    with contextlib.suppress(OSError):  # root alone may; else the figure is that of a warm cache
        os.sync()
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("1")


def describe_machine():
    model = re.search(r"model name\s*:\s*(.*)", open("/proc/cpuinfo").read())
    return (f"{os.cpu_count()} × {model[1] if model else platform.machine()}, "
            f"Linux {platform.release()}, load {os.getloadavg()[0]:.1f}")
