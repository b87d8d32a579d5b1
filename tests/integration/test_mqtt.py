"""MQTT through the real program and a real Mosquitto: telemetry and CloudEvents in, results out,
and nothing lost when either of the two is killed while messages flow."""
import json
import pathlib
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from support import Instance, main, wait_until
from mosquitto import Broker, subscribed, url

WORKER = """import millrace
def handle(event, context):
    with open("seen", "a") as f:
        f.write("%s %s\\n" % (event["subject"], event["data"]["n"]))
millrace.run(handle)
"""


def config(broker):
    return {
        "sources": {"plant": {"mqtt": {"url": url(broker), "topics": ["plant/+/temp"], "qos": 1}}},
        "workers": {"w": {"process": {"command": ["python3", "w.py"]}, "concurrency": 16}},
        "sinks": {"out": {"mqtt": {"url": url(broker), "topic": "results"}}},
        "subscriptions": {"all": {"to": "w", "on_success": "out"}},
    }


def seen(instance):
    path = pathlib.Path(instance.folder) / "seen"
    return path.read_text().splitlines() if path.exists() else []


def test_telemetry_reaches_a_worker_and_its_result_the_broker():
    with Broker(PERSIST="1") as broker, Instance(config(broker), {"w.py": WORKER}) as m:
        wait_until("the subscription", lambda: subscribed(m))
        results = ["mosquitto_sub", "-p", str(broker.port), "-c", "-i", "listener", "-q", "1", "-t",
                   "results"]
        subprocess.run(results + ["-E"], check=True)  # the session is there before the results are
        broker.publish("plant/7/temp", ['{"n":%d}' % n for n in range(3)])
        wait_until("three readings", lambda: len(seen(m)) == 3)
        out = subprocess.run(results + ["-C", "3", "-W", "30"], stdout=subprocess.PIPE,
                             text=True).stdout.splitlines()
        assert len(out) == 3, out
        assert sorted(seen(m)) == ["plant/7/temp %d" % n for n in range(3)], seen(m)


def test_nothing_is_lost_when_millrace_is_killed_while_messages_flow():
    with Broker(PERSIST="1") as broker, Instance(config(broker), {"w.py": WORKER}) as m:
        wait_until("the subscription", lambda: subscribed(m))
        sent = 0
        for _ in range(5):
            sent += 200
            before = len(seen(m))
            broker.publish("plant/1/temp", ['{"n":%d}' % n for n in range(sent - 200, sent)])
            wait_until("the flow", lambda: len(seen(m)) > before)
            m.process.send_signal(signal.SIGKILL)
            m.process.wait()
            m.process.stdout.close()
            m.start()
        wait_until("all %d" % sent, lambda: len(set(seen(m))) == sent)
        repeated = len(seen(m)) - sent
        assert repeated <= 5 * 1100, repeated  # what was in flight at each kill


def test_nothing_is_lost_when_the_broker_restarts():
    with Broker(PERSIST="1") as broker, Instance(config(broker), {"w.py": WORKER}) as m:
        wait_until("the subscription", lambda: subscribed(m))
        broker.publish("plant/1/temp", ['{"n":%d}' % n for n in range(100)])
        wait_until("the first hundred", lambda: len(set(seen(m))) == 100)
        broker.stop()
        wait_until("the source to notice", lambda: not subscribed(m))
        broker.start()
        wait_until("the source to come back", lambda: subscribed(m), 60)
        broker.publish("plant/1/temp", ['{"n":%d}' % n for n in range(100, 200)])
        wait_until("all of them", lambda: len(set(seen(m))) == 200)


def test_an_invalid_cloudevent_is_an_ingest_dead_letter():
    with Broker(PERSIST="1") as broker, Instance(config(broker), {"w.py": WORKER}) as m:
        wait_until("the subscription", lambda: subscribed(m))
        bad = json.dumps({"specversion": "1.0", "id": "", "source": "/s", "type": "t"})
        broker.publish("plant/1/temp", [bad])
        letters = wait_until("the dead letter", lambda: m.letters("ingest:plant"))
        assert len(letters) == 1 and letters[0]["error"], letters


def test_reload_with_other_topics_takes_them_and_loses_nothing():
    with Broker(PERSIST="1") as broker, Instance(config(broker), {"w.py": WORKER}) as m:
        wait_until("the subscription", lambda: subscribed(m))
        broker.publish("plant/1/temp", ['{"n":%d}' % n for n in range(100)])
        changed = config(broker)
        changed["sources"]["plant"]["mqtt"]["topics"] = ["plant/+/temp", "yard/#"]
        m.write_config(changed)
        assert m.ask("reload")["changed"]
        broker.publish("plant/1/temp", ['{"n":%d}' % n for n in range(100, 200)])
        wait_until("the new subscription", lambda: broker.publish("yard/a", ['{"n":1000}']) or
                   any(line.startswith("yard/a") for line in seen(m)))
        wait_until("all of both", lambda: {"plant/1/temp %d" % n for n in range(200)} <=
                   set(seen(m)))


def test_pause_keeps_the_place_over_a_restart():
    with Broker() as broker, Instance(config(broker), {"w.py": WORKER}) as m:
        wait_until("the subscription", lambda: subscribed(m))
        assert m.cli("source", "pause", "plant").code == 0
        broker.publish("plant/1/temp", ['{"n":%d}' % n for n in range(100)])
        assert m.stop() == 0
        m.process.stdout.close()
        m.start()
        assert m.cli("source", "resume", "plant").code == 0
        wait_until("all of them", lambda: len(set(seen(m))) == 100)


if __name__ == "__main__":
    main()
