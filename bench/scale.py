"""What becomes of it when much waits, much is on disk, or much has died: each function notes one
repetition of one or more figures."""
import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from rig import (SCRAPE_S, WAIT_S, Bus, Failed, drop_caches, flow, get, http_to_http, key_of,
                 payload, settle_backlog, stop, subscriptions, wait_until)
import sdk


def run_log(bench):
    folder = bench.folder("log")
    for line in bench.tool("bench_log", folder / "x", 256, 4).splitlines():
        figure = json.loads(line)
        bench.note(figure["name"], figure["value"])
    shutil.rmtree(folder)


def run_trace(bench):
    folder = bench.folder("trace")
    for line in bench.tool("bench_trace", folder / "x").splitlines():
        figure = json.loads(line)
        bench.note(figure["name"], figure["value"])
    shutil.rmtree(folder)


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


KILLS = 8


def run_kills(bench):
    """Ten million wait for a subscription that has all of memory.state, others come as fast as they
    can, and it is killed again and again, up to seven seconds behind a checkpoint: the longest start
    of all, from a cold disk. What it reads again is what checkpoints leave."""
    config = {"sources": {"h": {"http": {"path": "/events"}}},
              "workers": {"w": {"http": {"url": "http://127.0.0.1:9/w"}}},
              "subscriptions": {"all": {"to": "w", "window": "1GiB"}}}
    accepts, tails = [], []
    with Bus(bench, config) as bus:
        bus.admin("/api/v1/subscriptions/all/pause")
        bench.load(bus.port, count=PENDING, batch=100, connections=8)
        for kill in range(KILLS):
            load = subprocess.Popen([bench.program("bench_http_load"), str(bus.port), "/events",
                                     "--count", "100000000", "--batch", "100", "--connections", "8"],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            written = bus.metric("millrace_log_checkpoints_total")
            wait_until("a checkpoint", lambda: bus.metric("millrace_log_checkpoints_total") > written)
            time.sleep(kill)
            stop(bus.process, signal.SIGKILL)
            stop(load)
            drop_caches()
            bus.log.close()
            bus.start()
            bench.load(bus.port, count=1, connections=1)
            accepts.append(time.monotonic() - bus.started)
            status = subprocess.run([bench.millrace, "status", "-o", "json", "-c", "millrace.json"],
                                    cwd=bus.folder, stdout=subprocess.PIPE, check=True)
            tails.append(json.loads(status.stdout)["recovery"]["bytes_read"] / (1 << 20))
    bench.note("recovery_kills_accept_s", max(accepts))
    bench.note("recovery_kills_tail_mib", max(tails))


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
