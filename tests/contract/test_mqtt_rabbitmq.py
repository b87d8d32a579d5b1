"""MQTT source and sink on RabbitMQ's plugin, the second implementation: 3.1.1, and a broker that
keeps what it acknowledged over a kill -9."""
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
import rabbit
from support import Instance, main, wait_until
from mosquitto import Arrived, Devices, subscribed

broker = None


class Rabbit(rabbit.Server):
    """One for all tests: it takes seconds to start."""

    def __init__(self):
        super().__init__(MQTT="1")

    def told(self, words):
        self.port = int(words[2])


def need_broker():
    global broker
    if broker is None:
        broker = Rabbit().__enter__()
    return broker


def config(topic, **more):
    url = "mqtt://guest:guest@127.0.0.1:%d" % need_broker().port
    return {
        "sources": {"plant": {"mqtt": {"url": url, "topics": [topic + "/#"], "version": "3.1.1",
                                       "keepalive": "5s", **more}}},
        "sinks": {"out": {"file": {"path": "out"}}},
        "subscriptions": {"all": {"to": "out"}},
    }


def arrive(arrived, devices):
    wanted = devices.wanted()
    try:
        wait_until("all messages", lambda: arrived.has(wanted), 90)
    except AssertionError:
        lost = wanted - arrived.times.keys()
        raise AssertionError("%d of %d are missing: %s" % (len(lost), len(wanted),
                                                           sorted(lost)[:5]))
    print("    %d messages, %d repeated" % (devices.total, arrived.repeated()))


def test_devices_with_qos_1_and_2_all_arrive():
    with Instance(config("both")) as m:
        wait_until("the subscription", lambda: subscribed(m))
        arrived = Arrived(m)
        for qos in (1, 2):
            with Devices(broker, 200, 20, qos, "both/%d" % qos) as devices:
                devices.finish()
                arrive(arrived, devices)


def test_millrace_killed_under_load_loses_nothing():
    with Instance(config("us")) as m:
        wait_until("the subscription", lambda: subscribed(m))
        with Devices(broker, 50, 100, 1, "us", pause_ms=10) as devices:
            for tenths in (2, 5, 8):
                devices.until(devices.total * tenths // 10)
                m.process.kill()
                m.process.wait()
                m.process.stdout.close()
                m.start()
            devices.finish()
            arrive(Arrived(m), devices)


def restart(topic, verb):
    with Instance(config(topic)) as m:
        wait_until("the subscription", lambda: subscribed(m))
        broker.run("settle")  # the session is a queue
        with Devices(broker, 50, 100, 1, topic, pause_ms=10) as devices:
            devices.until(devices.total * 4 // 10)
            broker.run(verb)
            wait_until("the source to notice", lambda: not subscribed(m))
            broker.start()
            devices.finish()
            arrive(Arrived(m), devices)
            wait_until("the source to come back", lambda: subscribed(m), 60)


def test_broker_killed_under_load_loses_nothing():
    restart("killed", "kill")


def test_broker_stopped_under_load_loses_nothing():
    restart("stopped", "stop")


def test_broker_frozen_is_noticed_and_loses_nothing():
    with Instance(config("frozen")) as m:
        wait_until("the subscription", lambda: subscribed(m))
        with Devices(broker, 50, 100, 1, "frozen", pause_ms=10) as devices:
            devices.until(devices.total * 4 // 10)
            broker.run("freeze")
            try:
                wait_until("the source to notice", lambda: not subscribed(m))
            finally:
                broker.run("thaw")
            devices.finish()
            arrive(Arrived(m), devices)


def test_sink_publishes_and_source_takes_it_in_again():
    with Instance(config("loop")) as m:
        whole = config("loop")
        url = whole["sources"]["plant"]["mqtt"]["url"]
        whole["sources"]["in"] = {"http": {"path": "/events"}}
        whole["sinks"]["back"] = {"mqtt": {"url": url, "version": "3.1.1", "topic": "loop/x"}}
        whole["subscriptions"] = {
            "there": {"to": "back", "filter": {"exact": {"source": "/test"}}},
            "all": {"to": "out", "filter": {"prefix": {"type": "com.example"}}},
        }
        whole["hops_max"] = 1
        m.write_config(whole)
        m.ask("reload")
        wait_until("the sink", lambda: m.ask_lines("worker", "list")[0]["health"] == "ok")
        wait_until("the subscription", lambda: subscribed(m))
        m.post([{"specversion": "1.0", "id": "e%d" % n, "source": "/test", "type": "com.example.t",
                 "datacontenttype": "application/json", "data": {"n": str(n)}}
                for n in range(100)])
        arrived = Arrived(m)
        # Once from the post, once from the broker: what came back is the same CloudEvent.
        wait_until("all to come back", lambda: len(arrived.look()) == 100 and
                   min(arrived.times.values()) >= 2)


def test_version_5_is_refused_with_a_word_on_it():
    whole = config("v5", version="5")
    whole["sinks"]["back"] = {"mqtt": {"url": whole["sources"]["plant"]["mqtt"]["url"],
                                       "topic": "v5/x"}}
    with Instance(whole) as m:
        for side in ("worker", "source"):
            said = wait_until("the refusal", lambda: [
                row["last_error"] for row in m.ask_lines(side, "list")
                if row["kind"] == "mqtt" and row["last_error"]])[0]
            print("    %s: %s" % (side, said))
            assert "version: 3.1.1" in said, said


if __name__ == "__main__":
    try:
        main()
    finally:
        if broker is not None:
            broker.__exit__()
