"""The real program and a real RabbitMQ with a wire between them that is cut, slow, lossy or
resetting: AMQP source and sink lose nothing. Publishers are at the broker's side."""
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
import netlab
from mosquitto import Arrived
from rabbit import Broker, connected, source, to_file
from support import Instance, main, wait_until

net = None
broker = None
COUNT = 1000


class Flow:
    """A queue of its own and an instance that consumes it; `with Flow("name") as f`."""

    def __init__(self, queue, **source):
        self.queue, self.source = queue, source
        self.sent = 0

    def __enter__(self):
        net.heal()
        with net.far():
            broker.declare(self.queue)
        self.m = Instance(to_file(broker, self.queue, net.FAR, **self.source))
        self.m.__enter__()
        wait_until("the connection", lambda: connected(self.m))
        self.arrived = Arrived(self.m)
        return self

    def __exit__(self, *what):
        net.heal()
        self.m.__exit__(*what)

    def publish(self, count=COUNT):
        self.before = len(self.arrived.look())
        with net.far():
            broker.publish(self.queue, range(self.sent, self.sent + count))
        self.sent += count

    def some_arrive(self):
        """Of what was published last."""
        wait_until("the flow", lambda: len(self.arrived.look()) > self.before)

    def notices(self, seconds=15):
        begin = time.monotonic()
        wait_until("the source to notice", lambda: not connected(self.m), seconds)
        return time.monotonic() - begin

    def all_arrive(self):
        begin = time.monotonic()
        wanted = set(range(self.sent))
        wait_until("all %d" % self.sent, lambda: self.arrived.has(wanted), 90)
        wait_until("the source to be back", lambda: connected(self.m), 60)

        def empty():
            with net.far():
                return broker.queues()[self.queue] == [0, 0]
        wait_until("an empty queue", empty, 30)
        return "all there after %.1f s, %d repeated, %d reconnects" % (
            time.monotonic() - begin, self.arrived.repeated(), source(self.m)["reconnects"])


def test_partition_under_load_loses_nothing():
    with Flow("partition") as f:
        f.publish()
        f.some_arrive()
        net.partition()
        f.publish()  # the broker keeps them for us
        noticed = f.notices()
        net.heal()
        print("    noticed after %.1f s; %s" % (noticed, f.all_arrive()))


def test_short_partition_is_ridden_out():
    with Flow("short") as f:
        f.publish()
        net.partition()
        f.publish()
        net.heal()
        print("    " + f.all_arrive())


def test_slow_link_with_delay_delivers_all_on_one_connection():
    with Flow("slow", heartbeat="60s") as f:
        net.rate(60_000)
        net.delay(0.05)
        f.publish()
        print("    %s at 60 kB/s, 100 ms round trip" % f.all_arrive())
        assert source(f.m)["reconnects"] == 0, source(f.m)


def test_lossy_link_loses_nothing():
    with Flow("lossy") as f:
        net.lose(0.05)
        f.publish()
        print("    %s with 5 %% of the frames lost" % f.all_arrive())


def test_resets_under_load_lose_nothing():
    with Flow("resets") as f:
        for _ in range(3):
            f.publish()
            net.reset()
            f.publish()
            f.notices()
            net.heal()
            wait_until("the source to come back", lambda: connected(f.m), 60)
        said = f.all_arrive()
        assert source(f.m)["reconnects"] >= 3, source(f.m)
        print("    " + said)


def test_half_open_millrace_gone_unseen_gets_its_messages_again():
    """Millrace dies behind a cut wire: the broker still holds the old connection and its messages."""
    with Flow("unseen") as f:
        f.publish()
        f.some_arrive()
        net.partition()
        f.m.process.kill()
        f.m.process.wait()
        f.m.process.stdout.close()
        f.publish()
        net.heal()
        f.m.start()
        print("    " + f.all_arrive())


def test_sink_behind_a_partition_delivers_all_in_the_end():
    net.heal()
    with net.far():
        broker.declare("results")
    config = {
        "sources": {"in": {"http": {"path": "/events"}}},
        "sinks": {"out": {"amqp": {"url": broker.url_at(net.FAR), "routing_key": "results",
                                   "heartbeat": "2s"}, "timeout": "5s"}},
        "subscriptions": {"all": {"to": "out", "retry": {"schedule": ["1s"] * 60}}},
    }
    with Instance(config) as m:
        def post(first):
            m.post([{"specversion": "1.0", "id": "e%d" % n, "source": "/t", "type": "t",
                     "data": {"n": n}} for n in range(first, first + 100)])
        post(0)
        wait_until("the first to be published", lambda: m.counts("all")["done"] == 100)
        net.partition()
        post(100)
        wait_until("the sink to notice",
                   lambda: m.ask_lines("worker", "list")[0]["health"] != "ok", 30)
        net.heal()
        wait_until("all to be published", lambda: m.counts("all")["done"] == 200, 90)
        with net.far():
            ready = broker.queues()["results"][0]
            bodies = set(broker.take("results", ready))
        assert len(bodies) == 200, len(bodies)
        print("    %d repeated" % (ready - 200))


if __name__ == "__main__":
    net = netlab.own()
    broker = Broker(BIND="0.0.0.0")
    net.enter(broker)
    try:
        main()
    finally:
        broker.__exit__()
