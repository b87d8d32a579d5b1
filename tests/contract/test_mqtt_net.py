"""The real program and a real Mosquitto with a wire between them that is cut, slow, lossy or
resetting: MQTT source and sink lose nothing. Publishers and listeners are at the broker's side."""
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
import netlab
from support import Instance, main, wait_until
from mosquitto import Arrived, Broker, Devices, saved, source, subscribed, to_file, url

net = None
KEEPALIVE_S = 5


class FarBroker(Broker):
    """On the far side, and with persistent sessions; its publishers are there, too."""

    def __init__(self):
        super().__init__(PERSIST="1", BIND="0.0.0.0")

    def start(self):
        with net.far():
            super().start()

    def publish(self, topic, lines, *more):
        with net.far():
            super().publish(topic, lines, *more)

    def devices(self, count, messages, qos=1, topic="plant", pause_ms=0):
        with net.far():
            return Devices(self, count, messages, qos, topic, pause_ms)


class Flow:
    """A broker and an instance that are connected; `with Flow() as f`."""

    def __init__(self, **source):
        self.source = source

    def __enter__(self):
        net.heal()
        self.broker = FarBroker().__enter__()
        self.m = Instance(to_file(self.broker, net.FAR, **self.source))
        self.m.__enter__()
        wait_until("the subscription", lambda: subscribed(self.m))
        self.arrived = Arrived(self.m)
        return self

    def __exit__(self, *what):
        net.heal()
        self.m.__exit__(*what)
        self.broker.__exit__(*what)

    def notices(self, seconds):
        begin = time.monotonic()
        wait_until("the source to notice", lambda: not subscribed(self.m), seconds)
        return time.monotonic() - begin

    def all_arrive(self, *devices, seconds=90):
        begin = time.monotonic()
        for group in devices:
            wanted = group.wanted()
            wait_until("all %d" % len(wanted), lambda: self.arrived.has(wanted), seconds)
        assert source(self.m)["health"] == "ok" or wait_until(
            "the source to come back", lambda: subscribed(self.m), seconds)
        return "all there after %.1f s, %d repeated, %d reconnects" % (
            time.monotonic() - begin, self.arrived.repeated(), source(self.m)["reconnects"])


def test_partition_under_load_loses_nothing():
    with Flow() as f, f.broker.devices(50, 60, 1, "plant/p", pause_ms=50) as devices:
        devices.until(devices.total // 5)
        net.partition()
        devices.finish()  # the broker takes them for us
        noticed = f.notices(3 * KEEPALIVE_S)
        net.heal()
        print("    noticed after %.1f s; %s" % (noticed, f.all_arrive(devices)))


def test_short_partition_is_ridden_out():
    with Flow() as f, f.broker.devices(50, 60, 2, "plant/s", pause_ms=20) as devices:
        devices.until(devices.total // 5)
        net.partition()
        devices.until(devices.total // 2)
        net.heal()
        devices.finish()
        print("    " + f.all_arrive(devices))


def test_slow_link_with_delay_delivers_all_on_one_connection():
    with Flow(keepalive="60s") as f:
        net.rate(60_000)
        net.delay(0.05)
        with f.broker.devices(50, 60, 1, "plant/slow") as devices:
            devices.finish()
            print("    %s at 60 kB/s, 100 ms round trip" % f.all_arrive(devices))
        assert source(f.m)["reconnects"] == 0, source(f.m)


def test_lossy_link_loses_nothing():
    with Flow() as f:
        net.lose(0.05)
        with f.broker.devices(50, 60, 1, "plant/lossy", pause_ms=20) as devices:
            devices.finish()
            print("    %s with 5 %% of the frames lost" % f.all_arrive(devices))


def test_resets_under_load_lose_nothing():
    with Flow() as f, f.broker.devices(50, 60, 1, "plant/r", pause_ms=50) as devices:
        for tenths in (2, 5, 8):
            devices.until(devices.total * tenths // 10)
            net.reset()
            f.notices(20)
            net.heal()
            wait_until("the source to come back", lambda: subscribed(f.m), 60)
        devices.finish()
        said = f.all_arrive(devices)
        assert source(f.m)["reconnects"] >= 3, source(f.m)
        print("    " + said)


def test_half_open_broker_gone_unseen_is_noticed():
    """The broker dies behind a cut wire: nothing tells us, and the new one knows no connection."""
    with Flow() as f:
        with f.broker.devices(20, 20, 1, "plant/before") as before:
            before.finish()
            f.all_arrive(before)
        with net.far():
            saved(f.broker)
        net.partition()
        f.broker.kill()
        net.forget()
        f.broker.start()
        with f.broker.devices(20, 20, 1, "plant/after") as after:
            after.finish()
            net.heal()
            noticed = f.notices(3 * KEEPALIVE_S)
            print("    noticed after %.1f s; %s" % (noticed, f.all_arrive(after)))


def test_half_open_millrace_gone_unseen_takes_its_session_back():
    """Millrace dies behind a cut wire: the broker still holds the old connection when it returns."""
    with Flow() as f, f.broker.devices(50, 60, 1, "plant/h", pause_ms=20) as devices:
        devices.until(devices.total // 3)
        net.partition()
        f.m.process.kill()
        f.m.process.wait()
        f.m.process.stdout.close()
        devices.finish()
        net.heal()
        f.m.start()
        print("    " + f.all_arrive(devices))


def test_sink_behind_a_partition_delivers_all_in_the_end():
    net.heal()
    with FarBroker() as broker:
        config = {
            "sources": {"in": {"http": {"path": "/events"}}},
            "sinks": {"out": {"mqtt": {"url": url(broker, net.FAR), "topic": "results",
                                       "mode": "structured", "keepalive": "5s"}, "timeout": "5s"}},
            "subscriptions": {"all": {"to": "out", "retry": {"schedule": ["1s"] * 60}}},
        }
        with net.far():
            listen = ["mosquitto_sub", "-p", str(broker.port), "-c", "-i", "listener", "-q", "1",
                      "-t", "results"]
            subprocess.run(listen + ["-E"], check=True)
        with Instance(config) as m:
            def post(first):
                m.post([{"specversion": "1.0", "id": "e%d" % n, "source": "/t", "type": "t"}
                        for n in range(first, first + 100)])
            post(0)
            wait_until("the first to be published", lambda: m.counts("all")["done"] == 100)
            net.partition()
            post(100)
            wait_until("the sink to notice",
                       lambda: m.ask_lines("worker", "list")[0]["health"] != "ok", 30)
            net.heal()
            wait_until("all to be published", lambda: m.counts("all")["done"] == 200, 90)
            with net.far():
                out = subprocess.run(listen + ["-W", "3", "-F", "%p"], stdout=subprocess.PIPE,
                                     text=True).stdout
            ids = [line.split('"id":"')[1].split('"')[0] for line in out.splitlines()]
            assert set(ids) == {"e%d" % n for n in range(200)}, sorted(ids)
            print("    %d repeated" % (len(ids) - 200))


if __name__ == "__main__":
    net = netlab.own()
    main()
