#!/usr/bin/env python3
"""demo.py MILLRACE [--once] - Millrace at work, told in the terminal.

Starts Mosquitto and Millrace on free loopback ports in a folder of its own, sends real events and
shows what became of them. --once stops afterwards instead of staying up.
"""
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
BOLD, DIM, GREEN, RED, END = ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m") if sys.stdout.isatty() else ("",) * 5
processes = []


def say(text=""):
    print(text, flush=True)


def title(text):
    say("\n%s%s%s" % (BOLD, text, END))


def fail(text):
    say("%sdemo: %s%s" % (RED, text, END))
    sys.exit(1)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(what, condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    say((folder / "millrace.log").read_text()[-2000:])
    fail("%s did not happen within %d s" % (what, seconds))


def accepts(port):
    with socket.socket() as s:
        s.settimeout(0.5)
        return s.connect_ex(("127.0.0.1", port)) == 0


def is_ready(port):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False


def post(event):
    connection = http.client.HTTPConnection("127.0.0.1", http_port, timeout=10)
    connection.request("POST", "/events", json.dumps(event), {"Content-Type": "application/cloudevents+json"})
    answer = connection.getresponse()
    body = answer.read().decode()
    say("  POST /events  %s  %s-> %d %s%s" % (event["id"], DIM, answer.status, body.strip(), END))
    if answer.status != 202:
        fail("the event was not accepted")


def millrace(*arguments, quiet=False):
    if not quiet:
        say("%s  $ millrace %s%s" % (DIM, " ".join(arguments), END))
    run = subprocess.run([binary, *arguments, "--data-dir", str(folder / "data")], capture_output=True, text=True)
    return run.stdout if run.returncode in (0, 3) else fail(run.stderr or run.stdout)


def trace(event_id):
    text = millrace("trace", event_id, "-o", "json", quiet=True)
    return json.loads(text) if text.strip() else None


def delivery(event_id, state, subscription="orders"):
    found = trace(event_id)
    for d in (found or {}).get("deliveries", []):
        if d["subscription"] == subscription and d["state"] == state:
            return d
    return None


def order(event_id, **data):
    return {"specversion": "1.0", "id": event_id, "source": "/demo/shop", "type": "com.example.order.placed",
            "subject": "customer-1", "datacontenttype": "application/json", "data": data}


def stop(*_):
    for process in reversed(processes):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


binary = str(pathlib.Path(sys.argv[1]).resolve())
once = "--once" in sys.argv
folder = pathlib.Path(tempfile.mkdtemp(prefix="millrace-demo-"))
http_port, mqtt_port = free_port(), free_port()


def start():
    for name in ("millrace.yaml", "orders.py", "tidy.sh"):
        shutil.copy(HERE / name, folder / name)
    (folder / "mosquitto.conf").write_text(
        "listener %d 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n" % mqtt_port)
    broker = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    log = open(folder / "mosquitto.log", "w")
    processes.append(subprocess.Popen([broker, "-c", str(folder / "mosquitto.conf")], stdout=log, stderr=log))
    wait_until("Mosquitto's start", lambda: accepts(mqtt_port))
    environment = dict(os.environ, DEMO_HTTP="127.0.0.1:%d" % http_port, DEMO_MQTT="127.0.0.1:%d" % mqtt_port,
                       DEMO_SDK=str((HERE / "../../../workers/sdk/python").resolve()))
    log = open(folder / "millrace.log", "w")
    processes.append(subprocess.Popen([binary, "run", "-c", str(folder / "millrace.yaml")], stdout=log, stderr=log,
                                      env=environment, cwd=folder))
    wait_until("Millrace's start", lambda: is_ready(http_port) or (processes[-1].poll() is not None and fail(
        "Millrace ended: " + (folder / "millrace.log").read_text())))


def show():
    title("1. An event comes in, is on the disk, and a Python worker handles it")
    post(order("order-1", amount=20))
    wait_until("order-1", lambda: delivery("order-1", "done"))
    say(millrace("trace", "order-1").rstrip())

    title("2. A handler fails once; the event is retried and succeeds")
    post(order("order-2", amount=30, flaky=True))
    wait_until("order-2", lambda: delivery("order-2", "done"))
    say(millrace("trace", "order-2").rstrip())

    title("3. A handler refuses an event: it is kept in the dead-letter queue, with the reason")
    post(order("order-3", amount=5000))
    wait_until("order-3", lambda: delivery("order-3", "dead"))
    say(millrace("dlq", "list", "orders").rstrip())
    say(millrace("trace", "order-3").rstrip())
    wait_until("the outcome file", lambda: (folder / "outcomes.jsonl").exists() and (folder / "outcomes.jsonl").read_text())
    say("  on_failure also sent the outcome to %s" % (folder / "outcomes.jsonl"))

    title("4. The handler is mended (limit raised), and the dead letter is put back")
    text = (folder / "orders.py").read_text().replace("> 1000", "> 9000")
    (folder / "orders.py").write_text(text)
    yaml = (folder / "millrace.yaml").read_text().replace("timeout: 10s", "timeout: 11s")
    (folder / "millrace.yaml").write_text(yaml)
    say(millrace("reload").rstrip())
    say(millrace("dlq", "redrive", "orders").rstrip())
    wait_until("order-3 after its redrive", lambda: delivery("order-3", "done"))
    say("%s  order-3 is done%s" % (GREEN, END))

    title("5. MQTT in, a command out")
    client = shutil.which("mosquitto_pub")
    subprocess.run([client, "-h", "127.0.0.1", "-p", str(mqtt_port), "-q", "1", "-t", "plant/7/temp", "-m",
                    '{"celsius": 21.5}'], check=True)
    say("  mosquitto_pub -t plant/7/temp -m '{\"celsius\": 21.5}'")

    def reading_done():
        rows = [json.loads(l) for l in millrace("sub", "list", "-o", "json", quiet=True).splitlines() if l.strip()]
        rows = rows[0] if len(rows) == 1 and isinstance(rows[0], list) else rows
        return any(r.get("name") == "readings" and (r.get("done") or r.get("counts", {}).get("done")) for r in rows)

    wait_until("the reading", reading_done)
    say(millrace("sub", "list").rstrip())


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    began = time.monotonic()
    try:
        say("%sMillrace demo%s in %s" % (BOLD, END, folder))
        start()
        show()
        say("\n%sAll of it took %.1f s.%s" % (GREEN, time.monotonic() - began, END))
        if once:
            return
        title("It stays up. In another terminal:")
        for line in (
            "curl -i http://127.0.0.1:%d/events -H 'Content-Type: application/cloudevents+json' \\" % http_port,
            "     -d '{\"specversion\":\"1.0\",\"id\":\"mine\",\"source\":\"/me\",\"type\":\"com.example.order.placed\",\"data\":{\"amount\":1}}'",
            "%s trace mine --data-dir %s" % (binary, folder / "data"),
            "%s why mine readings --data-dir %s" % (binary, folder / "data"),
            "%s tail --data-dir %s" % (binary, folder / "data"),
            "curl http://127.0.0.1:%d/metrics" % http_port,
        ):
            say("  " + line)
        say("\nCtrl-C stops it; %s goes with it." % folder)
        processes[-1].wait()
    except KeyboardInterrupt:
        say()
    finally:
        stop()
        shutil.rmtree(folder, ignore_errors=True)


main()
