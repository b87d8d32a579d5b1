#!/usr/bin/env python3
"""Runs the benchmarks and prints each figure beside its aim: docs/bench.md says what they mean.

    bench/run.py BUILD_DIR [--only NAME,…] [-n REPETITIONS] [-o json]

Each figure is the median of the repetitions. Nothing is asserted: a figure that could not be taken
is reported with its reason, and the exit code is 1.
"""
import argparse
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
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "support"))
import sdk
WAIT_S = 120
SCRAPE_S = 0.1  # a scrape looks at every delivery in a window, on the core's thread: not too often
TICKS = os.sysconf("SC_CLK_TCK")

# name: (unit, aim or None, whether more is better)
FIGURES = {
    "append": ("events/s", 600_000, True),
    "append_vs_raw": ("ratio", 0.75, True),
    "find_id_ms": ("ms", 10, False),
    "find_id_cold_ms": ("ms", 10, False),
    "append_cpu_us": ("us", None, False),
    "append_dedupe_cpu_us": ("us", None, False),
    "append_growing_ratio": ("ratio", 0.79, True),
    "append_footers_ratio": ("ratio", None, True),
    "checkpoint_pause_us": ("us", 2_000, False),
    "no_checkpoint_pause_us": ("us", None, False),
    "settle": ("events/s", 350_000, True),
    "settle_vs_raw": ("ratio", None, True),
    "settle_cpu_us": ("us", None, False),
    "http": ("requests/s", 55_000, True),
    "http_bare": ("requests/s", None, True),
    "http_vs_bare": ("ratio", None, True),
    "http_min": ("requests/s", None, True),
    "http_batch": ("events/s", 200_000, True),
    "mqtt": ("events/s", 45_000, True),
    "mqtt_bare": ("events/s", None, True),
    "mqtt_vs_bare": ("ratio", 0.8, True),
    "mqtt_cpu_us": ("us", None, False),
    "mqtt_bare_cpu_us": ("us", None, False),
    "mqtt_sink": ("events/s", None, True),
    "mqtt_sink_bare": ("events/s", None, True),
    "mqtt_sink_vs_bare": ("ratio", 0.8, True),
    "mqtt_sink_cpu_us": ("us", None, False),
    "mqtt_sink_bare_cpu_us": ("us", None, False),
    "process_single": ("events/s", 12_000, True),
    "process_batch": ("events/s", 50_000, True),
    "process_node": ("events/s", None, True),
    "process_node_batch": ("events/s", None, True),
    "process_go": ("events/s", None, True),
    "process_go_batch": ("events/s", None, True),
    "http_worker": ("events/s", 25_000, True),
    "cpu_us_per_event": ("us", 30, False),
    "mqtt_http_worker": ("events/s", 25_000, True),
    "mqtt_cpu_us_per_event": ("us", 30, False),
    "latency_p50_us": ("us", 1_000, False),
    "latency_p99_us": ("us", 3_000, False),
    "latency_p999_us": ("us", None, False),
    "latency_1000_p50_us": ("us", None, False),
    "latency_1000_p99_us": ("us", None, False),
    "slot_refill_us": ("us", 1_000, False),
    "slot_refill_p99_us": ("us", None, False),
    "exec_start_us": ("us", 2_000, False),
    "exec_bare_us": ("us", None, False),
    "start_ready_ms": ("ms", 50, False),
    "rss_idle_kib": ("KiB", 12 * 1024, False),
    "bytes_per_subscription": ("bytes", 500, False),
    "behind_rate_ratio": ("ratio", 0.9, True),
    "behind_p99_ratio": ("ratio", 2, False),
    "catch_up": ("events/s", 100_000, True),
    "catch_up_raw": ("reads/s", None, True),
    "catch_up_vs_raw": ("ratio", None, True),
    "catch_up_warm": ("events/s", 100_000, True),
    "recovery_1m_accept_s": ("s", 1, False),
    "recovery_1m_dispatch_s": ("s", 3, False),
    "recovery_10m_accept_s": ("s", 1, False),
    "recovery_10m_dispatch_s": ("s", 3, False),
    "recovery_10m_warm_accept_s": ("s", None, False),
    "recovery_10m_warm_dispatch_s": ("s", None, False),
    "rss_pending_1m_kib": ("KiB", None, False),
    "trace_ms": ("ms", 10, False),
    "trace_p99_ms": ("ms", None, False),
    "trace_cold_ms": ("ms", 10, False),
    "trace_first_ms": ("ms", None, False),
    "footers_percent": ("%", 2, False),
    "survivors_disk_ratio": ("ratio", 1, False),
    "survivors_copied_ratio": ("ratio", 1.1, False),
    "rss_waiting_1m_kib": ("KiB", None, False),
    "rss_waiting_10m_kib": ("KiB", None, False),
    "rss_waiting_growth": ("ratio", 1.1, False),
    "rss_beside_10m_kib": ("KiB", None, False),
    "rss_beside_budget_ratio": ("ratio", 1, False),
    "beside_10m_p99_ratio": ("ratio", 1.2, False),
    "rss_lanes_1m_kib": ("KiB", 300 * 1024, False),
    "bytes_per_lane": ("bytes", None, False),
    "poison_p99_us": ("us", None, False),
    "poison_p99_ratio": ("ratio", 1.1, False),
    "burst_ready_s": ("s", None, False),
    "burst_latency_max_s": ("s", None, False),
    "burst_instances_max": ("instances", None, False),
    "burst_zero_s": ("s", None, False),
}


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


# --- the figures: each function notes one repetition of one or more of them ----------------------


def run_log(bench):
    folder = bench.folder("log")
    for line in bench.tool("bench_log", folder / "x", 256, 4).splitlines():
        figure = json.loads(line)
        if figure["name"] in FIGURES:
            bench.note(figure["name"], figure["value"])
    shutil.rmtree(folder)


def run_trace(bench):
    folder = bench.folder("trace")
    for line in bench.tool("bench_trace", folder / "x").splitlines():
        figure = json.loads(line)
        bench.note(figure["name"], figure["value"])
    shutil.rmtree(folder)


def run_http(bench):
    with bench.server() as port:
        bare = bench.wrk(port, 64, payload())
    with Bus(bench, {"sources": {"h": {"http": {"path": "/events"}}}}) as bus:
        bench.wrk(bus.port, 64, payload(), seconds=1)
        rate = bench.wrk(bus.port, 64, payload())
        least = min(bench.wrk(bus.port, n, payload(), seconds=1) for n in (16, 128, 256, 384, 1000))
        bench.note("http_batch", bench.wrk(bus.port, 16, batch_body(100), batch=100))
    bench.note("http", rate)
    bench.note("http_bare", bare)
    bench.note("http_vs_bare", rate / bare)
    bench.note("http_min", least)


def run_mqtt(bench):
    count = 150_000
    with bench.broker() as port:
        sub = subprocess.Popen([bench.program("bench_mqtt"), "sub", str(port), "bench/1", str(count)],
                               stdout=subprocess.PIPE, text=True)
        sub.stdout.readline()
        first = json.loads(bench.tool("bench_mqtt", "pub", port, "bench/1", count))["first_ns"]
        told = json.loads(sub.communicate()[0])
    bare = count / ((told["last_ns"] - first) / 1e9)
    bench.note("mqtt_bare_cpu_us", told["cpu_us"] / count)
    with bench.broker() as port:
        config = {"sources": {"m": {"mqtt": {"url": f"mqtt://127.0.0.1:{port}", "topics": ["bench/+"]}}},
                  "sinks": {"f": {"file": {"path": "out.jsonl"}, "concurrency": 1000}},
                  "subscriptions": {"all": {"to": "f"}}}
        with Bus(bench, config) as bus:
            before = bus.cpu_s()
            rate = count / mqtt_until(bench, bus, port, count)
            bench.note("mqtt_cpu_us", (bus.cpu_s() - before) / count * 1e6)
    bench.note("mqtt", rate)
    bench.note("mqtt_bare", bare)
    bench.note("mqtt_vs_bare", rate / bare)


def run_mqtt_sink(bench):
    """Each window is 500 messages, each message QoS 1 and MQTT 5 with the same properties."""
    count = 60_000
    with bench.broker() as port:
        told = json.loads(bench.tool("bench_mqtt", "send", port, "bench/1", count, "--window", 500))
        bare = count / ((told["last_ns"] - told["first_ns"]) / 1e9)
        bench.note("mqtt_sink_bare_cpu_us", told["cpu_us"] / count)
        config = {"sources": {"h": {"http": {"path": "/events"}}},
                  "sinks": {"m": {"mqtt": {"url": f"mqtt://127.0.0.1:{port}", "topic": "bench/1"},
                                  "concurrency": 500}},
                  "subscriptions": {"all": {"to": "m", "window": "128MiB"}}}
        with Bus(bench, config) as bus:
            make_backlog(bench, bus, count)
            before = bus.cpu_s()
            rate = count / settle_backlog(bus, count)
            bench.note("mqtt_sink_cpu_us", (bus.cpu_s() - before) / count * 1e6)
    bench.note("mqtt_sink", rate)
    bench.note("mqtt_sink_bare", bare)
    bench.note("mqtt_sink_vs_bare", rate / bare)


def mqtt_until(bench, bus, port, count):
    """Publishes; seconds from the first message to the last settled delivery."""
    pub = subprocess.Popen([bench.program("bench_mqtt"), "pub", str(port), "bench/1", str(count)],
                           stdout=subprocess.PIPE, text=True)
    wait_until("the events to settle", lambda: bus.done() >= count, pause=SCRAPE_S)
    end = time.monotonic()
    return end - json.loads(pub.communicate()[0])["first_ns"] / 1e9


def run_mqtt_http_worker(bench):
    count = 60_000
    with bench.broker() as port, bench.server() as server:
        config = {"sources": {"m": {"mqtt": {"url": f"mqtt://127.0.0.1:{port}", "topics": ["bench/+"]}}},
                  **http_worker(server)}
        with Bus(bench, config) as bus:
            before = bus.cpu_s()
            seconds = mqtt_until(bench, bus, port, count)
            bench.note("mqtt_http_worker", count / seconds)
            bench.note("mqtt_cpu_us_per_event", (bus.cpu_s() - before) / count * 1e6)


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


def run_http_worker(bench):
    with bench.server() as server, Bus(bench, http_to_http(server)) as bus:
        flow(bench, bus, server, 5_000)
        count = 80_000
        before = bus.cpu_s()
        rate = count / flow(bench, bus, server, count)[1]
        bench.note("http_worker", rate)
        bench.note("cpu_us_per_event", (bus.cpu_s() - before) / count * 1e6)
        stats = flow(bench, bus, server, int(rate * 0.7 * 4), rate=int(rate * 0.7), connections=256)[0]
        for name in ("p50", "p99", "p999"):
            bench.note(f"latency_{name}_us", stats[name])
        stats = flow(bench, bus, server, 4_000, rate=1_000, connections=64)[0]
        bench.note("latency_1000_p50_us", stats["p50"])
        bench.note("latency_1000_p99_us", stats["p99"])


def run_slot(bench):
    with bench.server() as server, Bus(bench, http_to_http(server, concurrency=1)) as bus:
        stats = flow(bench, bus, server, 10_000)[0]
        bench.note("slot_refill_us", stats["gap_p50"])
        bench.note("slot_refill_p99_us", stats["gap_p99"])


PYTHON = """import sys
sys.path.insert(0, {sdk!r})
import millrace


def handle(event, context):
    pass


millrace.run(handle{options})
"""
NODE = """const millrace = require({sdk!r});

millrace.run(() => {{}}, {{ {options} }});
"""
GO = """package main

import (
	"context"
	"millrace"
)

func handle(ctx context.Context, d *millrace.Delivery) (any, error) {{
	return nil, nil
}}

func main() {{
	millrace.Run(handle{options})
}}
"""


def python_worker(folder, concurrency):
    options = f", concurrency={concurrency}, threads=False" if concurrency > 1 else ""
    (folder / "worker.py").write_text(PYTHON.format(sdk=str(sdk.SDK / "python"), options=options))
    return [sys.executable, "worker.py"]


def node_worker(folder, concurrency):
    (folder / "worker.js").write_text(
        NODE.format(sdk=str(sdk.SDK / "node"), options=f"concurrency: {concurrency}"))
    return [sdk.find("node"), "worker.js"]


def go_worker(folder, concurrency):
    sdk.go_project(folder, GO.format(options=f", millrace.Concurrency({concurrency})"))
    sdk.build_go(folder, folder / "worker")
    return ["./worker"]


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


def process_rate(bench, make_worker, concurrency):
    """Events a second from a backlog through one instance that does nothing with them."""
    place = bench.folder("bus")
    config = {"sources": {"h": {"http": {"path": "/events"}}},
              "workers": {"w": {"process": {"command": make_worker(place, concurrency)},
                                "concurrency": concurrency, "scale": {"min": 1, "max": 1}}},
              "subscriptions": {"all": {"to": "w", "window": "64MiB"}}}
    count = 30_000 if concurrency == 1 else 50_000
    with Bus(bench, config, place) as bus:
        return count / backlog(bench, bus, count)


def run_process_single(bench):
    bench.note("process_single", process_rate(bench, python_worker, 1))


def run_process_batch(bench):
    bench.note("process_batch", process_rate(bench, python_worker, 16))


def run_process_node(bench):
    bench.note("process_node", process_rate(bench, node_worker, 1))
    bench.note("process_node_batch", process_rate(bench, node_worker, 16))


def run_process_go(bench):
    bench.note("process_go", process_rate(bench, go_worker, 1))
    bench.note("process_go_batch", process_rate(bench, go_worker, 16))


def run_exec(bench):
    count = 300
    config = {"sources": {"h": {"http": {"path": "/events"}}},
              "workers": {"w": {"exec": {"command": ["/bin/true"]}, "scale": {"max": 1}}},
              "subscriptions": {"all": {"to": "w"}}}
    bare = float(bench.tool("bench_spawn", count))
    with Bus(bench, config) as bus:
        each = backlog(bench, bus, count) / count * 1e6
    bench.note("exec_bare_us", bare)
    bench.note("exec_start_us", each - bare)


def subscriptions(count):
    return {f"sub{i}": {"filter": {"exact": {"type": f"com.example.kind{i}"}}, "to": "w"}
            for i in range(count)}


def run_idle(bench):
    rss = {}
    for count in (1_000, 11_000):
        config = {"sources": {"h": {"http": {"path": "/events"}}},
                  "workers": {"w": {"http": {"url": "http://127.0.0.1:9/w"}}},
                  "subscriptions": subscriptions(count)}
        with Bus(bench, config) as bus:
            time.sleep(1)
            rss[count] = bus.rss_kib()
            if count == 1_000:
                bench.note("rss_idle_kib", rss[count])
                bench.note("start_ready_ms", bus.ready_s * 1000)
    bench.note("bytes_per_subscription", (rss[11_000] - rss[1_000]) * 1024 / 10_000)


def run_waiting(bench):
    """Ten million events wait on disk for a paused subscription: memory has to stay flat."""
    if "rss_waiting_growth" in bench.values:
        return  # ten gigabytes: once is enough
    config = {"sources": {"h": {"http": {"path": "/events"}}},
              "workers": {"w": {"http": {"url": "http://127.0.0.1:9/w"}}},
              "subscriptions": {"all": {"to": "w"}}}
    rss = []
    with Bus(bench, config) as bus:
        bus.admin("/api/v1/subscriptions/all/pause")
        for _ in range(10):
            bench.load(bus.port, count=1_000_000, batch=100, connections=8)
            rss.append(bus.rss_kib())
    bench.note("rss_waiting_1m_kib", rss[0])
    bench.note("rss_waiting_10m_kib", rss[-1])
    bench.note("rss_waiting_growth", rss[-1] / rss[0])


PENDING = int(os.environ.get("BENCH_PENDING", "10000000"))


def run_beside(bench):
    """A paused subscription that has what `memory.state` lets it have, the rest of ten million on
    disk: what the process takes, and what a hundred others notice."""
    if "beside_10m_p99_ratio" in bench.values:
        return  # ten gigabytes: once is enough
    with bench.server() as server:
        config = {"sources": {"h": {"http": {"path": "/events"}}},
                  "workers": {"w": {"http": {"url": f"http://127.0.0.1:{server}/w"},
                                    "concurrency": 64}},
                  "subscriptions": {
                      "far": {"to": "w", "window": "1GiB", "filter": {"not": {"prefix": {"key": "0"}}}},
                      **{f"live{i}": {"to": "w", "filter": {"exact": {"key": key_of(i)}}}
                         for i in range(100)}}}
        with Bus(bench, config) as bus:
            bus.admin("/api/v1/subscriptions/far/pause")
            checked = subprocess.run([bench.millrace, "check", "-o", "json", "-c", "millrace.json"],
                                     cwd=bus.folder, stdout=subprocess.PIPE, check=True)
            budgets = json.loads(checked.stdout)["memory_max"]["sum"] / 1024
            live = {"rate": 2_000, "connections": 64, "keys": 100}
            flow(bench, bus, server, 5_000, **live)
            without = flow(bench, bus, server, 20_000, **live)[0]["p99"]
            bench.load(bus.port, count=PENDING, batch=100, connections=8)
            if bus.metric("millrace_blocked_deliveries", subscription="far", blocked_on="memory") == 0:
                raise Failed("memory did not bound it: the figures mean nothing")
            beside = flow(bench, bus, server, 20_000, **live)[0]["p99"]
            bench.note("rss_beside_10m_kib", bus.rss_kib("VmHWM"))
            bench.note("rss_beside_budget_ratio", bus.rss_kib("VmHWM") / budgets)
            bench.note("beside_10m_p99_ratio", beside / max(without, 1))


def run_recovery(bench):
    count = 1_000_000
    with bench.server() as server:
        get(server, "/hang")
        bus = Bus(bench, http_to_http(server))
        try:
            bus.start()
            bench.load(bus.port, count=count, batch=100, connections=16)
            bench.note("rss_pending_1m_kib", bus.rss_kib())
            bus.process.kill()
            bus.process.wait()
            get(server, "/answer")
            get(server, "/reset")
            bus.log.close()
            bus.start()
            bench.load(bus.port, count=1, connections=1)
            bench.note("recovery_1m_accept_s", time.monotonic() - bus.started)
            wait_until("the first delivery",
                       lambda: json.loads(get(server, "/stats")[1])["posts"] > 0, pause=0.005)
            bench.note("recovery_1m_dispatch_s", time.monotonic() - bus.started)
            if bus.metric("millrace_queue_deliveries") < count / 2:
                raise Failed("the backlog was not kept: the figures mean nothing")
        finally:
            stop(bus.process, signal.SIGKILL)
            bus.log.close()
            shutil.rmtree(bus.folder, ignore_errors=True)


def key_of(number):
    return f"{number:020}"  # as bench_http_load writes it


def run_behind(bench):
    """Live traffic without and beside 64 subscriptions that read what they missed: a hundredth of
    400,000 events each, a few a second, so that they are behind as long as it takes."""
    count, behind = 400_000, 64
    with bench.server() as server, bench.server() as other:
        config = {"sources": {"h": {"http": {"path": "/events"}}},
                  "workers": {"live": {"http": {"url": f"http://127.0.0.1:{server}/w"},
                                       "concurrency": 64},
                              "late": {"http": {"url": f"http://127.0.0.1:{other}/w"},
                                       "concurrency": 16}},
                  "subscriptions": {
                      "all": {"to": "live", "filter": {"not": {"prefix": {"key": "0"}}}},
                      **{f"late{i}": {"to": "late", "filter": {"exact": {"key": key_of(i)}},
                                      "window": "64KiB", "rate": "20/s"} for i in range(behind)}}}
        with Bus(bench, config) as bus:
            for i in range(behind):
                bus.admin(f"/api/v1/subscriptions/late{i}/pause")
            bench.load(bus.port, count=count, batch=100, connections=8, keys=100)
            live = lambda: bus.metric("millrace_deliveries_total", state="done", subscription="all")
            flow(bench, bus, server, 5_000, done=live)
            rate, p99 = live_figures(bench, bus, server, live, 0)
            for i in range(behind):
                bus.admin(f"/api/v1/subscriptions/late{i}/resume")
            rate_beside, p99_beside = live_figures(bench, bus, server, live, rate)
            late = json.loads(get(other, "/stats")[1])["posts"]
            if late == 0 or late >= count // 100 * behind:
                raise Failed(f"{late} were caught up meanwhile: the figures mean nothing")
    bench.note("behind_rate_ratio", rate_beside / rate)
    bench.note("behind_p99_ratio", p99_beside / p99)


def live_figures(bench, bus, server, live, rate):
    """Events a second, and the p99 at half of @rate (0: of what was measured)."""
    count = 60_000
    measured = count / flow(bench, bus, server, count, done=live)[1]
    half = int((rate or measured) / 2)
    return measured, flow(bench, bus, server, half * 3, done=live, rate=half)[0]["p99"]


CATCH_UP = int(os.environ.get("BENCH_CATCH_UP", "20000"))  # events, each among a hundred


def run_catch_up(bench):
    """A subscription that was paused reads its events, which are a hundredth of all; then another
    the same, which are in the page cache then. Before, the disk gives as many pieces by itself. All
    segments are kept: what giving them up costs is not in it."""
    if "catch_up" in bench.values:
        return  # gigabytes: once is enough
    config = {"log": {"retain_size": "1TiB"}, "sources": {"h": {"http": {"path": "/events"}}},
              "sinks": {"f": {"file": {"path": "out.jsonl"}, "concurrency": 1000}},
              "subscriptions": {name: {"to": "f", "filter": {"exact": {"key": key_of(7)}},
                                       "window": "1MiB"} for name in ("all", "again")}}
    with Bus(bench, config) as bus:
        bus.admin("/api/v1/subscriptions/all/pause")
        bus.admin("/api/v1/subscriptions/again/pause")
        bench.load(bus.port, count=CATCH_UP * 100, batch=100, connections=8, keys=100)
        wait_until("the footers", lambda: has_footers(bus.folder / "data"), pause=SCRAPE_S)
        drop_caches()
        folder = bus.folder / "data" / "log"
        stride = sum(path.stat().st_size for path in folder.glob("seg-*")) // CATCH_UP
        raw = float(bench.tool("bench_scattered", folder, 1536, max(stride, 1536)))
        drop_caches()
        rate = CATCH_UP / settle_backlog(bus, CATCH_UP, pause=0.02)
        bench.note("catch_up", rate)
        bench.note("catch_up_raw", raw)
        bench.note("catch_up_vs_raw", rate / raw)
        bench.note("catch_up_warm",
                   CATCH_UP / settle_backlog(bus, 2 * CATCH_UP, "again", pause=0.02))


def has_footers(folder):
    names = [path.name for path in folder.rglob("*-????????????????")]
    footers = sum(name.startswith("foot-") for name in names)
    return footers >= sum(name.startswith("seg-") for name in names) - 2  # two are not sealed


SURVIVORS = int(os.environ.get("BENCH_SURVIVORS", "3000"))  # thousands of events of 1 KiB
DEADLY = """import sys
sys.path.insert(0, {sdk!r})
import millrace


def handle(event, context):
    raise millrace.Dead("no")


millrace.run(handle)
"""


def run_survivors(bench):
    """One in a thousand becomes a dead letter, one in a hundred waits for hours. Every size of the
    log is a 64th of what it is by default, as are the events it has seen after a while."""
    if "survivors_disk_ratio" in bench.values:
        return  # gigabytes: once is enough
    window = 16 << 20
    place = bench.folder("bus")
    (place / "worker.py").write_text(DEADLY.format(sdk=str(sdk.SDK / "python")))
    bad = {"exact": {"subject": "bad"}}
    config = {"log": {"segment_size": "1MiB", "retain_size": window, "checkpoint_size": "1MiB"},
              "sources": {"h": {"http": {"path": "/events"}}},
              "workers": {"w": {"process": {"command": [sys.executable, "worker.py"]}}},
              "sinks": {"f": {"file": {"path": "out.jsonl", "rotate": "64MiB", "keep": 1},
                              "concurrency": 1000}},
              "subscriptions": {"bad": {"to": "w", "filter": bad},
                                "rest": {"to": "f", "filter": {"not": bad}, "window": "64MiB"}}}
    with Bus(bench, config, place) as bus:
        connection = http.client.HTTPConnection("127.0.0.1", bus.port, timeout=WAIT_S)
        parts, alive = few_of_a_thousand()
        for _ in range(SURVIVORS):
            for part in parts:
                connection.request("POST", "/events", part, {
                    "Content-Type": "application/cloudevents-batch+json"})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 202:
                    raise Failed(f"a batch was answered {answer.status}")
        wait_until("all but few", lambda: bus.done() >= SURVIVORS * 989, pause=SCRAPE_S)
        wait_until("the dead letters", lambda: bus.metric("millrace_dead_letters") >= SURVIVORS,
                   pause=SCRAPE_S)
        wait_until("what has moved has left", lambda: disk_of(place) == (time.sleep(5),
                                                                         disk_of(place))[1])
        live = SURVIVORS * alive
        bench.note("survivors_disk_ratio", disk_of(place) / (1.3 * live + window))
        bench.note("survivors_copied_ratio",
                   bus.metric("millrace_log_survivors_copied_bytes_total") / live)


def disk_of(place):
    """Bytes on the disk of the log below."""
    sizes = []
    for file in (place / "data" / "log").iterdir():
        with contextlib.suppress(FileNotFoundError):  # gone meanwhile
            sizes.append(file.stat().st_blocks * 512)
    return sum(sizes)


def few_of_a_thousand():
    """A thousand events in batches, the first bad, ten that wait; and the bytes of these eleven."""
    event = {"specversion": "1.0", "type": "com.example.bench", "source": "/bench",
             "datacontenttype": "application/json", "data": json.loads(payload())}
    events = [{**event, "id": str(i)} for i in range(1000)]
    events[0]["subject"] = "bad"
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 6 * 3600))
    for i in range(50, 1000, 100):
        events[i]["mrnotbefore"] = later
    written = lambda events: json.dumps(events, separators=(",", ":"))
    alive = sum(len(written(events[i])) + 48 for i in (0, *range(50, 1000, 100)))
    return [written(events[i:i + 250]) for i in range(0, 1000, 250)], alive


def drop_caches():
    with contextlib.suppress(OSError):  # root alone may; else the figure is that of a warm cache
        os.sync()
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("1")


def run_recovery_10m(bench):
    """Ten million small events wait, nearly all of them on disk behind the window, and a gigabyte
    of log stands behind the last checkpoint; the log as a crash leaves it."""
    for name in ("", "warm_"):
        place = bench.folder("bus")
        try:
            (place / "data").mkdir(mode=0o700)
            bench.tool("bench_log", "pending", place / "data" / "log", 10_000_000, 1 << 30)
            with bench.server() as server:
                bus = Bus(bench, http_to_http(server), place)
                if name:
                    for segment in (place / "data" / "log").iterdir():
                        segment.read_bytes()
                else:
                    drop_caches()
                try:
                    bus.start()
                    bench.load(bus.port, count=1, connections=1)
                    bench.note(f"recovery_10m_{name}accept_s", time.monotonic() - bus.started)
                    wait_until("the first delivery",
                               lambda: json.loads(get(server, "/stats")[1])["posts"] > 0,
                               pause=0.005)
                    bench.note(f"recovery_10m_{name}dispatch_s", time.monotonic() - bus.started)
                    if bus.metric("millrace_queue_deliveries") < 9_000_000:
                        raise Failed("the backlog was not kept: the figures mean nothing")
                finally:
                    stop(bus.process, signal.SIGKILL)
                    bus.log.close()
        finally:
            shutil.rmtree(place, ignore_errors=True)


def run_lanes(bench):
    """A million deliveries wait, each in a lane of its own."""
    config = {"memory": {"state": "1GiB"}, "sources": {"h": {"http": {"path": "/events"}}},
              "workers": {"w": {"http": {"url": "http://127.0.0.1:9/w"}}},
              "subscriptions": {"all": {"to": "w", "order_by": "id", "window": "1GiB"}}}
    with Bus(bench, config) as bus:
        bus.admin("/api/v1/subscriptions/all/pause")
        before = bus.rss_kib()
        bench.load(bus.port, count=1_000_000, batch=100, connections=8)
        shown = subprocess.run([bench.millrace, "sub", "show", "all", "-o", "json", "-c",
                                "millrace.json"], cwd=bus.folder, stdout=subprocess.PIPE, check=True)
        if json.loads(shown.stdout)["lanes"] != 1_000_000:
            raise Failed("not every event has its lane")
        bench.note("rss_lanes_1m_kib", bus.rss_kib())
        bench.note("bytes_per_lane", (bus.rss_kib() - before) * 1024 / 1_000_000)


def run_poison(bench):
    """10,000 keys in order, one of which always fails: what the others notice of it."""
    p99 = []
    for poisoned in (False, True):
        with bench.server() as server:
            config = http_to_http(server)
            config["subscriptions"]["all"].update(
                order_by="key", retry={"schedule": ["50ms"] * 64, "jitter": "none"})
            with Bus(bench, config) as bus:
                if poisoned:
                    get(server, "/poison")
                bench.load(bus.port, count=60_000, rate=4_000, connections=128, keys=10_000)
                healthy = 60_000 - (6 if poisoned else 0)
                wait_until("the others", lambda: bus.done() >= healthy, pause=SCRAPE_S)
                p99.append(json.loads(get(server, "/stats")[1])["p99"])
    bench.note("poison_p99_us", p99[1])
    bench.note("poison_p99_ratio", p99[1] / max(p99[0], 1))


BURST = """import sys, time
sys.path.insert(0, {sdk!r})
import millrace


def handle(event, context):
    time.sleep(0.2)
    with open("handled", "a") as f:
        f.write("%f\\n" % (time.time() - float(event["sent"])))


millrace.run(handle)
"""


def run_burst(bench):
    """From no instance: 20 events a second, then 200 a second for five, 200 ms of work each."""
    place = bench.folder("bus")
    (place / "worker.py").write_text(BURST.format(sdk=str(sdk.SDK / "python")))
    config = {"sources": {"h": {"http": {"path": "/events"}}},
              "workers": {"w": {"process": {"command": [sys.executable, "worker.py"]},
                                "scale": {"min": 0, "max": 60, "idle": "2s"}}},
              "subscriptions": {"all": {"to": "w"}}}
    with Bus(bench, config, place) as bus:
        instances = []
        sent = 0
        connection = http.client.HTTPConnection("127.0.0.1", bus.port)
        for rate, seconds in ((20, 2), (200, 5)):
            start = time.monotonic()
            for i in range(rate * seconds):
                time.sleep(max(0, start + i / rate - time.monotonic()))
                connection.request("POST", "/events", "{}", {
                    "Content-Type": "application/json", "ce-specversion": "1.0", "ce-id": str(sent),
                    "ce-type": "t", "ce-source": "/bench", "ce-sent": repr(time.time())})
                answer = connection.getresponse()
                answer.read()
                sent += answer.status == 202
                if i % rate == 0:
                    instances.append(bus.metric("millrace_worker_instances"))
        wait_until("all of them", lambda: bus.done() >= sent, pause=SCRAPE_S)
        instances.append(bus.metric("millrace_worker_instances"))
        end = time.monotonic()
        latencies = [float(line) for line in (place / "handled").read_text().split()]
        if len(latencies) < 1040:
            raise Failed(f"{len(latencies)} of 1,040 events were handled")
        bench.note("burst_ready_s", latencies[0] - 0.2)
        bench.note("burst_latency_max_s", max(latencies) - 0.2)
        bench.note("burst_instances_max", max(instances))
        wait_until("zero", lambda: bus.metric("millrace_worker_instances") == 0, pause=SCRAPE_S)
        bench.note("burst_zero_s", time.monotonic() - end)


GROUPS = {
    run_log: ("append", "append_vs_raw", "append_cpu_us", "append_dedupe_cpu_us", "settle",
              "settle_vs_raw", "settle_cpu_us"),
    run_http: ("http", "http_bare", "http_vs_bare", "http_min", "http_batch"),
    run_mqtt: ("mqtt", "mqtt_bare", "mqtt_vs_bare", "mqtt_cpu_us", "mqtt_bare_cpu_us"),
    run_mqtt_sink: ("mqtt_sink", "mqtt_sink_bare", "mqtt_sink_vs_bare", "mqtt_sink_cpu_us",
                    "mqtt_sink_bare_cpu_us"),
    run_process_single: ("process_single",),
    run_process_batch: ("process_batch",),
    run_process_node: ("process_node", "process_node_batch"),
    run_process_go: ("process_go", "process_go_batch"),
    run_http_worker: ("http_worker", "cpu_us_per_event", "latency_p50_us", "latency_p99_us",
                      "latency_p999_us", "latency_1000_p50_us", "latency_1000_p99_us"),
    run_mqtt_http_worker: ("mqtt_http_worker", "mqtt_cpu_us_per_event"),
    run_slot: ("slot_refill_us", "slot_refill_p99_us"),
    run_exec: ("exec_start_us", "exec_bare_us"),
    run_idle: ("start_ready_ms", "rss_idle_kib", "bytes_per_subscription"),
    run_waiting: ("rss_waiting_1m_kib", "rss_waiting_10m_kib", "rss_waiting_growth"),
    run_behind: ("behind_rate_ratio", "behind_p99_ratio"),
    run_catch_up: ("catch_up", "catch_up_raw", "catch_up_vs_raw", "catch_up_warm"),
    run_beside: ("rss_beside_10m_kib", "rss_beside_budget_ratio", "beside_10m_p99_ratio"),
    run_survivors: ("survivors_disk_ratio", "survivors_copied_ratio"),
    run_lanes: ("rss_lanes_1m_kib", "bytes_per_lane"),
    run_poison: ("poison_p99_us", "poison_p99_ratio"),
    run_burst: ("burst_ready_s", "burst_latency_max_s", "burst_instances_max", "burst_zero_s"),
    run_recovery: ("recovery_1m_accept_s", "recovery_1m_dispatch_s", "rss_pending_1m_kib"),
    run_recovery_10m: ("recovery_10m_accept_s", "recovery_10m_dispatch_s",
                       "recovery_10m_warm_accept_s", "recovery_10m_warm_dispatch_s"),
    run_trace: ("trace_ms", "trace_p99_ms", "trace_cold_ms", "trace_first_ms", "find_id_ms",
                "find_id_cold_ms", "footers_percent"),
}


def shown(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


def print_table(bench, failures):
    print(f"{'figure':<24}{'median':>12}  {'lowest – highest':>22}  {'aim':>12}  unit")
    for name, (unit, aim, more) in FIGURES.items():
        values = bench.values.get(name)
        if not values:
            continue
        median = statistics.median(values)
        met = aim is None or (median >= aim if more else median <= aim)
        spread = f"{shown(min(values))} – {shown(max(values))}"
        aim_text = "" if aim is None else ("≥ " if more else "≤ ") + shown(aim)
        print(f"{name:<24}{shown(median):>12}  {spread:>22}  {aim_text:>12}  {unit}"
              + ("" if met else "  missed"))
    for name, reason in failures.items():
        print(f"{name}: not taken: {reason}")


def print_json(bench):
    for name, (unit, _, _) in FIGURES.items():
        if name in bench.values:
            print(json.dumps({"name": name, "value": round(statistics.median(bench.values[name]), 3),
                              "unit": unit}))


def describe_machine():
    model = re.search(r"model name\s*:\s*(.*)", open("/proc/cpuinfo").read())
    return (f"{os.cpu_count()} × {model[1] if model else platform.machine()}, "
            f"Linux {platform.release()}, load {os.getloadavg()[0]:.1f}")


def main():
    parser = argparse.ArgumentParser(description="Runs the benchmarks of Millrace.")
    parser.add_argument("build", type=pathlib.Path, metavar="BUILD_DIR")
    parser.add_argument("--only", help="names of figures, with commas")
    parser.add_argument("-n", type=int, default=3, metavar="N", help="repetitions (3)")
    parser.add_argument("-o", choices=["json"], help="one JSON line a figure")
    arguments = parser.parse_args()
    wanted = set(arguments.only.split(",")) if arguments.only else set(FIGURES)
    if wanted - set(FIGURES):
        parser.error("no such figure: " + ", ".join(sorted(wanted - set(FIGURES))))
    bench = Bench(arguments.build.resolve(), arguments.n)
    shutil.rmtree(bench.data, ignore_errors=True)
    failures = {}
    skipped = {}
    print(describe_machine(), file=sys.stderr)
    try:
        for repetition in range(bench.repetitions):
            for function, names in GROUPS.items():
                if wanted.isdisjoint(names):
                    continue
                print(f"{repetition + 1}/{bench.repetitions} {', '.join(names)}", file=sys.stderr)
                try:
                    function(bench)
                except sdk.Missing as e:
                    skipped[names[0]] = e
                except (Failed, OSError, subprocess.SubprocessError, http.client.HTTPException) as e:
                    failures[names[0]] = e
    finally:
        shutil.rmtree(bench.data, ignore_errors=True)
    if arguments.only:
        bench.values = {k: v for k, v in bench.values.items() if k in wanted}
    for name, reason in skipped.items():
        print(f"{name}: SKIPPED: {reason}", file=sys.stderr)
    if arguments.o == "json":
        print_json(bench)
        for name, reason in failures.items():
            print(f"{name}: not taken: {reason}", file=sys.stderr)
    else:
        print_table(bench, failures)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
