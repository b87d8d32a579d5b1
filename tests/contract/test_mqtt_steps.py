"""kill -9 of the real program at each step of taking MQTT messages in: before the append, between
the durable write and the PUBACK, after the PUBACK. Nothing is lost; what was acknowledged comes once."""
import os
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
from support import Instance, Skip, main, wait_until
from mosquitto import Arrived, Broker, Devices, subscribed, to_file


def die_at(step, moments):
    shim = os.environ.get("MR_STEPS")
    if not shim:
        raise Skip("no shim to die with: a sanitizer build")
    with Broker(PERSIST="1") as broker, Instance(to_file(broker), start=False) as m:
        arm = m.folder / "arm"
        arrived = Arrived(m)
        for at in moments:
            m.env = {"LD_PRELOAD": shim, "MR_STEP": step, "MR_STEP_AT": str(at),
                     "MR_STEP_ARM": str(arm), "MR_STEP_ACK": "0:40"}
            m.start()
            wait_until("the subscription", lambda: subscribed(m))
            arm.touch()
            with Devices(broker, 20, 10, 1, "plant/%s/%d" % (step, at)) as devices:
                assert m.process.wait(30) == -signal.SIGKILL, m.process.returncode
                m.process.stdout.close()
                arm.unlink()
                m.env = {}
                m.start()
                devices.finish()
                wait_until("all %d of %s %d" % (devices.total, step, at),
                           lambda: arrived.has(devices.wanted()))
            assert m.stop() == 0
            m.process.stdout.close()
        print("    %d kills, %d repeated" % (len(moments), arrived.repeated()))
        return arrived.repeated()


def test_killed_before_the_append():
    die_at("append", (1, 2, 5))


def test_killed_between_the_durable_write_and_the_puback():
    die_at("durable", (1, 2, 5))


def test_killed_before_a_puback_leaves():
    assert die_at("ack", (1, 20, 100)) > 0  # durable, and the broker does not know


def test_killed_after_a_puback_left():
    die_at("acked", (1, 20, 100))


if __name__ == "__main__":
    main()
