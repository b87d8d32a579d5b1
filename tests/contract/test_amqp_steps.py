"""kill -9 of the real program at each step of taking AMQP messages in: before the append, between
the durable write and the basic.ack, after it left. Nothing is lost, and what the broker was told
comes once."""
import os
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
from mosquitto import Arrived
from rabbit import Broker, connected, to_file
from support import Instance, Skip, main, wait_until

ACK = "7:003c0050"  # basic.ack in a method frame
COUNT = 200


def die_at(step, moments):
    shim = os.environ.get("MR_STEPS")
    if not shim:
        raise Skip("no shim to die with: a sanitizer build")
    with Broker() as broker:
        broker.declare("steps")
        with Instance(to_file(broker, "steps"), start=False) as m:
            arm = m.folder / "arm"
            arrived = Arrived(m)
            sent = 0
            for at in moments:
                m.env = {"LD_PRELOAD": shim, "MR_STEP": step, "MR_STEP_AT": str(at),
                         "MR_STEP_ARM": str(arm), "MR_STEP_ACK": ACK}
                m.start()
                wait_until("the connection", lambda: connected(m))
                arm.touch()
                while m.process.poll() is None and sent < 100 * COUNT:
                    broker.publish("steps", range(sent, sent + COUNT))
                    sent += COUNT
                assert m.process.wait(30) == -signal.SIGKILL, m.process.returncode
                m.process.stdout.close()
                arm.unlink()
                m.env = {}
                m.start()
                wait_until("all %d of %s %d" % (sent, step, at),
                           lambda: arrived.has(set(range(sent))), 60)
                wait_until("an empty queue", lambda: broker.queues()["steps"] == [0, 0])
                assert m.stop() == 0
                m.process.stdout.close()
            print("    %d kills, %d messages, %d repeated" % (len(moments), sent,
                                                              arrived.repeated()))
            return arrived.repeated()


def test_killed_before_the_append():
    die_at("append", (1, 2, 5))


def test_killed_between_the_durable_write_and_the_ack():
    die_at("durable", (1, 2, 5))


def test_killed_before_an_ack_leaves():
    assert die_at("ack", (1, 2, 3)) > 0  # durable, and the broker does not know


def test_killed_after_an_ack_left():
    die_at("acked", (1, 2, 3))


if __name__ == "__main__":
    main()
