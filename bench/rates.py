"""What one machine does in a second, and how long an event takes: each function notes one repetition
of one or more figures."""
import http.client
import json
import subprocess
import sys
import time

from rig import (SCRAPE_S, Bus, Failed, backlog, batch_body, flow, get, http_to_http, http_worker,
                 make_backlog, payload, settle_backlog, wait_until)
import sdk


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
