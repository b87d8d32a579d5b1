#!/usr/bin/env python3
"""Runs the benchmarks and prints each figure beside its aim: docs/bench.md says what they mean.

    bench/run.py BUILD_DIR [--only NAME,…] [-n REPETITIONS] [-o json]

Each figure is the median of the repetitions. Nothing is asserted: a figure that could not be taken
is reported with its reason, and the exit code is 1.
"""
import argparse
import http.client
import json
import pathlib
import shutil
import statistics
import subprocess
import sys

from rig import Bench, Failed, describe_machine
import rates
import scale
import sdk

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
    "recovery_kills_accept_s": ("s", 1, False),
    "recovery_kills_tail_mib": ("MiB", None, False),
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
GROUPS = {
    scale.run_log: ("append", "append_vs_raw", "append_cpu_us", "append_dedupe_cpu_us", "settle",
                    "settle_vs_raw", "settle_cpu_us"),
    rates.run_http: ("http", "http_bare", "http_vs_bare", "http_min", "http_batch"),
    rates.run_mqtt: ("mqtt", "mqtt_bare", "mqtt_vs_bare", "mqtt_cpu_us", "mqtt_bare_cpu_us"),
    rates.run_mqtt_sink: ("mqtt_sink", "mqtt_sink_bare", "mqtt_sink_vs_bare", "mqtt_sink_cpu_us",
                          "mqtt_sink_bare_cpu_us"),
    rates.run_process_single: ("process_single",),
    rates.run_process_batch: ("process_batch",),
    rates.run_process_node: ("process_node", "process_node_batch"),
    rates.run_process_go: ("process_go", "process_go_batch"),
    rates.run_http_worker: ("http_worker", "cpu_us_per_event", "latency_p50_us", "latency_p99_us",
                            "latency_p999_us", "latency_1000_p50_us", "latency_1000_p99_us"),
    rates.run_mqtt_http_worker: ("mqtt_http_worker", "mqtt_cpu_us_per_event"),
    rates.run_slot: ("slot_refill_us", "slot_refill_p99_us"),
    rates.run_exec: ("exec_start_us", "exec_bare_us"),
    scale.run_idle: ("start_ready_ms", "rss_idle_kib", "bytes_per_subscription"),
    scale.run_waiting: ("rss_waiting_1m_kib", "rss_waiting_10m_kib", "rss_waiting_growth"),
    scale.run_behind: ("behind_rate_ratio", "behind_p99_ratio"),
    scale.run_catch_up: ("catch_up", "catch_up_raw", "catch_up_vs_raw", "catch_up_warm"),
    scale.run_beside: ("rss_beside_10m_kib", "rss_beside_budget_ratio", "beside_10m_p99_ratio"),
    scale.run_survivors: ("survivors_disk_ratio", "survivors_copied_ratio"),
    scale.run_lanes: ("rss_lanes_1m_kib", "bytes_per_lane"),
    rates.run_poison: ("poison_p99_us", "poison_p99_ratio"),
    rates.run_burst: ("burst_ready_s", "burst_latency_max_s", "burst_instances_max",
                      "burst_zero_s"),
    scale.run_recovery: ("recovery_1m_accept_s", "recovery_1m_dispatch_s", "rss_pending_1m_kib"),
    scale.run_kills: ("recovery_kills_accept_s", "recovery_kills_tail_mib"),
    scale.run_recovery_10m: ("recovery_10m_accept_s", "recovery_10m_dispatch_s",
                             "recovery_10m_warm_accept_s", "recovery_10m_warm_dispatch_s"),
    scale.run_trace: ("trace_ms", "trace_p99_ms", "trace_cold_ms", "trace_first_ms", "find_id_ms",
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
