"""A Mosquitto of one's own for Python tests, started by mosquitto.sh; `with Broker() as broker:`."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading

from server import Server
from support import Skip, wait_until


class Broker(Server):
    """@p settings go to the script: PERSIST="1", BIND="0.0.0.0", EXTRA="a 1;b 2", …"""
    script, prefix = "mosquitto.sh", "MQTT_"

    def check(self):
        if shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin") is None:
            raise Skip("mosquitto is not installed")

    def pid(self):
        return int((self.folder / "pid").read_text())

    def publish(self, topic, lines, *more):
        subprocess.run(["mosquitto_pub", "-p", str(self.port), "-q", "1", "-t", topic, "-l", *more],
                       input="".join(line + "\n" for line in lines), text=True, check=True)


def saved(broker):
    """Has the broker save its sessions, and waits for it."""
    path = broker.folder / "mosquitto.db"
    before = path.stat().st_mtime_ns if path.exists() else 0
    os.kill(broker.pid(), signal.SIGUSR1)
    wait_until("the saved sessions", lambda: path.exists() and path.stat().st_mtime_ns > before)


class Devices:
    """mqtt_devices.c running: `count` devices that publish `messages` each."""

    def __init__(self, broker, count, messages, qos=1, topic="plant", pause_ms=0, address="127.0.0.1"):
        self.total = count * messages
        self.count, self.messages, self.topic = count, messages, topic
        program = os.environ.get("MR_DEVICES")
        if not program:
            raise Skip("MR_DEVICES does not name the program mqtt_devices")
        self.process = subprocess.Popen(
            [program, address, str(broker.port), str(count), str(messages), str(qos), topic,
             str(pause_ms)], stdout=subprocess.PIPE, text=True)
        self.acked = 0
        self.result = None

    def __enter__(self):
        return self

    def until(self, acked):
        """Reads on until so many are with the broker."""
        while self.acked < acked:
            line = self.process.stdout.readline()
            assert line, "the devices ended with %s" % self.process.wait()
            if line.startswith("acked "):
                self.acked = int(line.split()[1])

    def finish(self, seconds=120):
        """Until all are acknowledged: {"acked", "reconnects", "ms"}."""
        # Not communicate(): it reads past what readline() has buffered, and the last line with it.
        watchdog = threading.Timer(seconds, self.process.kill)
        watchdog.start()
        rest = self.process.stdout.read()
        watchdog.cancel()
        assert self.process.wait() == 0, "the devices ended with %s" % self.process.returncode
        self.acked = self.total
        self.result = json.loads(rest.splitlines()[-1])
        return self.result

    def wanted(self):
        return {"%s/%d-%d" % (self.topic, d, n) for d in range(self.count)
                for n in range(self.messages)}

    def __exit__(self, *what):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def url(broker, address="127.0.0.1"):
    return "mqtt://%s:%d" % (address, broker.port)


def to_file(broker, address="127.0.0.1", **more):
    """A configuration that takes plant/# in and writes each event as a line of `out`."""
    return {
        "sources": {"plant": {"mqtt": {"url": url(broker, address), "topics": ["plant/#"], "qos": 2,
                                       "keepalive": "5s", **more}}},
        "sinks": {"out": {"file": {"path": "out"}}},
        "subscriptions": {"all": {"to": "out"}},
    }


def source(instance):
    return instance.ask_lines("source", "list")[0]


def subscribed(instance):
    return source(instance)["health"] == "ok"


class Arrived:
    """What is in the file `out` of an instance: how often each "n" came."""

    def __init__(self, instance):
        self.path = pathlib.Path(instance.folder) / "out"
        self.at = 0
        self.times = {}

    def look(self):
        if self.path.exists():
            with open(self.path, "rb") as f:
                f.seek(self.at)
                for line in f:
                    if not line.endswith(b"\n"):
                        break  # is being written
                    self.at += len(line)
                    try:
                        n = json.loads(line)["data"]["n"]
                    except ValueError:
                        continue  # a kill has torn it: it comes again, whole
                    self.times[n] = self.times.get(n, 0) + 1
        return self.times

    def has(self, wanted):
        return wanted <= self.look().keys()

    def repeated(self):
        return sum(self.times.values()) - len(self.times)
