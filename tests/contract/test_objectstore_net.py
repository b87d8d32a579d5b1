"""The real program, an SQS server and an S3 server with a wire between them that is cut, slow, lossy
or resetting: the sqs and list sources and the sink lose nothing, and no message is deleted before it
is durable. The servers keep all in memory: one that died has only what it got since."""
import collections
import json
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
import netlab
import objects
from objects import record
from support import Instance, event, http_source, main, wait_until

net = None
bucket_count = 0


class Far:
    def start(self):
        with net.far():
            super().start()

    def call(self, *arguments, **more):
        with net.far():
            return super().call(*arguments, **more)


class FarElasticmq(Far, objects.Elasticmq):
    pass


class FarMoto(Far, objects.Moto):
    pass


class Flow:
    """An instance and its server, which all tests share; a queue or bucket of its own."""
    servers = {}

    def __enter__(self):
        global bucket_count
        bucket_count += 1
        self.name = "bucket-%d" % bucket_count
        net.heal()
        if self.kind not in self.servers:
            server = self.kind(SQS_BIND="0.0.0.0")
            server.__enter__()
            self.servers[self.kind] = server
        self.server = self.servers[self.kind]
        self.prepare()
        self.m = Instance(self.config())
        self.m.__enter__()
        return self

    def __exit__(self, *what):
        net.heal()
        self.m.__exit__(*what)

    def peer(self, **more):
        return {"url": "http://%s:%d/%s" % (net.FAR, self.server.port, self.name),
                "region": "us-east-1", "access_key": "K", "secret_key": "S",
                "connect_timeout": "1s", **more}

    def healthy(self):
        return self.m.ask_lines(*self.verb)[0]["health"] == "ok"

    def errors(self):
        return self.m.ask_lines(*self.verb)[0]["errors"]

    def notices(self, seconds=60):
        wait_until("it to notice", lambda: not self.healthy(), seconds)

    def kill_millrace(self):
        self.m.stop(signal.SIGKILL)
        self.m.process.stdout.close()

    def replace_server(self):
        """Behind the cut wire: nobody tells the near side, whose connections nobody knows now."""
        self.server.kill()
        net.forget()
        self.server.start()
        self.prepare()


class Source(Flow):
    verb = ("source", "list")

    def config(self):
        return {"sources": {"lake": {"objectstore": self.options()}},
                "sinks": {"out": {"file": {"path": "out"}}},
                "subscriptions": {"all": {"to": "out"}}}

    def arrived(self):
        """How often each subject came, and with which types."""
        path = pathlib.Path(self.m.folder) / "out"
        times, self.types = collections.Counter(), collections.defaultdict(set)
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                got = json.loads(line)
            except ValueError:
                continue  # being written
            times[got["subject"]] += 1
            self.types[got["subject"]].add(got["type"].split(":")[-1])
        return times

    def in_log(self):
        """How often each id entered."""
        dumped = self.m.cli("log", "dump", self.m.folder / "data", "-o", "json").lines()
        return collections.Counter(r["id"] for r in dumped if r["kind"] == "event")


# --- SQS ------------------------------------------------------------------------------------------


class Queue(Source):
    kind = FarElasticmq

    def __init__(self, visibility="5s"):
        self.visibility = visibility
        self.sent = 0

    def prepare(self):
        self.queue = self.server.make_queue(self.name)

    def options(self):
        return self.peer(via="sqs", wait="1s", visibility=self.visibility,
                         url=self.queue.replace("127.0.0.1", net.FAR))

    def send(self, count):
        self.server.send(self.queue, *(record("b", "k%d" % n, n)
                                       for n in range(self.sent, self.sent + count)))
        self.sent += count

    def some_arrive(self):
        wait_until("some", self.arrived)

    def all_arrive(self, first=0):
        wanted = {"k%d" % n for n in range(first, self.sent)}
        wait_until("all %d" % self.sent, lambda: wanted <= self.arrived().keys(), 90)
        wait_until("an empty queue", lambda: self.server.left(self.queue) == (0, 0), 60)
        wait_until("it to be well", self.healthy, 60)
        return "%d repeated" % (self.arrived().total() - len(self.arrived()))


def test_sqs_partition_under_load_loses_nothing():
    with Queue() as f:
        f.send(200)
        f.some_arrive()
        net.partition()
        f.send(100)
        f.notices()
        net.heal()
        print("    " + f.all_arrive())


def test_sqs_cut_in_the_middle_of_an_answer():
    with Queue() as f:
        wait_until("it to be well", f.healthy)
        net.cut_after(20_000, near=True)
        f.send(100)
        wait_until("the cut", lambda: net.is_cut)
        f.notices()
        net.heal()
        print("    " + f.all_arrive())


def test_sqs_resets_under_load_lose_nothing():
    with Queue() as f:
        for _ in range(3):
            f.send(100)
            net.reset()
            f.notices()
            net.heal()
            wait_until("it to come back", f.healthy, 60)
        print("    " + f.all_arrive())


def test_sqs_slow_link_takes_each_once():
    with Queue(visibility="10m") as f:
        net.rate(100_000)
        net.delay(0.05)
        f.send(150)
        said = f.all_arrive()
        assert set(f.arrived().values()) == {1}, said


def test_sqs_lossy_link_loses_nothing():
    with Queue() as f:
        net.lose(0.05)
        f.send(150)
        print("    %s with 5 %% of the frames lost" % f.all_arrive())


def test_sqs_half_open_server_gone_unseen_is_noticed():
    with Queue() as f:
        f.send(20)
        f.all_arrive()
        net.partition()
        f.replace_server()
        f.send(50)
        net.heal()
        print("    " + f.all_arrive(20))


def test_sqs_what_was_deleted_is_durable():
    """Millrace dies behind a cut wire: what the queue has no more is in the log."""
    with Queue() as f:
        for n in range(2):
            f.send(200)
            wait_until("some", lambda: len(f.arrived()) > 200 * n)
            net.partition()
            f.kill_millrace()
            deleted = f.sent - sum(f.server.left(f.queue))
            durable = len(f.in_log())
            assert deleted <= durable, (deleted, durable)
            net.heal()
            f.m.start()
        print("    %d of %d durable were deleted; %s" % (deleted, durable, f.all_arrive()))


# --- list -----------------------------------------------------------------------------------------


class Bucket(Source):
    kind = FarMoto
    count = 200

    def prepare(self):
        self.server.make_bucket(self.name)
        self.put(range(self.count))

    def put(self, numbers):
        for n in numbers:
            self.server.put(self.name, "a-rather-long-key-of-a-log-file-%04d" % n, b"hello")
        self.total = max(numbers) + 1

    def options(self):
        return self.peer(via="list", interval="200ms")

    def all_arrive(self):
        wanted = {"a-rather-long-key-of-a-log-file-%04d" % n for n in range(self.total)}
        wait_until("all %d" % self.total, lambda: wanted <= self.arrived().keys(), 90)
        wait_until("it to be well", self.healthy, 60)
        assert not any("Missing" in of_one for of_one in self.types.values()), self.types

    def all_arrive_once(self):
        self.all_arrive()
        assert set(self.in_log().values()) == {1}, self.in_log()


def test_list_cut_in_the_middle_of_a_page():
    with Bucket() as f:
        f.all_arrive()
        net.cut_after(20_000, near=True)
        f.put(range(f.count, f.count + 20))
        wait_until("the cut", lambda: net.is_cut)
        f.notices()
        net.heal()
        f.all_arrive_once()


def test_list_resets_and_loss():
    with Bucket() as f:
        for n in range(3):
            net.reset()
            f.put(range(f.total, f.total + 10))
            f.notices()
            net.heal()
            f.all_arrive()
        net.lose(0.05)
        f.put(range(f.total, f.total + 10))
        f.all_arrive_once()


def test_list_slow_link_goes_without_an_error():
    with Bucket() as f:
        net.rate(20_000)
        net.delay(0.05)
        f.put(range(f.total, f.total + 10))
        f.all_arrive_once()
        assert f.errors() == 0, f.m.ask_lines(*f.verb)


def test_list_half_open_server_gone_unseen_and_millrace_killed():
    with Bucket() as f:
        f.all_arrive()
        net.partition()
        f.replace_server()
        f.put(range(f.total, f.total + 10))
        net.heal()
        f.all_arrive()
        net.partition()
        f.kill_millrace()
        f.put(range(f.total, f.total + 10))
        net.heal()
        f.m.start()
        f.all_arrive_once()


# --- sink -----------------------------------------------------------------------------------------


class Store(Flow):
    kind = FarMoto
    verb = ("worker", "list")

    def __init__(self, timeout="3s"):
        self.timeout = timeout
        self.posted = {}

    def prepare(self):
        self.server.make_bucket(self.name)

    def config(self):
        sink = {"objectstore": self.peer(content="data", key="{{id}}"), "timeout": self.timeout,
                "breaker": {"percent": 0}}  # it would keep the rest back for half a minute
        return {"sources": {"in": http_source()}, "sinks": {"store": sink},
                "subscriptions": {"all": {"to": "store", "retry": {"schedule": ["500ms"] * 60}}}}

    def post(self, *ids, size=100):
        data = {id: id * (size // len(id)) for id in ids}
        self.posted.update(data)
        self.m.post([event(id, data=text) for id, text in data.items()])

    def settled(self, count=None):
        count = len(self.posted) if count is None else count
        wait_until("%d done" % count, lambda: self.m.counts("all")["done"] >= count, 90)

    def all_there(self, ids=None):
        self.settled()
        for id in self.posted if ids is None else ids:
            got = self.server.get(self.name, id)
            assert got is not None and json.loads(got[1]) == self.posted[id], (id, got)


def test_put_partition_under_load():
    with Store() as f:
        f.post(*["e%d" % n for n in range(20)])
        f.settled()
        net.cut_after(10_000)
        f.post(*["f%d" % n for n in range(60)])
        wait_until("the cut", lambda: net.is_cut)
        f.notices()
        net.heal()
        f.all_there()


def test_put_cut_in_the_middle_of_an_object():
    """It is there whole or not at all."""
    with Store() as f:
        net.cut_after(400_000)
        f.post("large", size=900_000)
        wait_until("the cut", lambda: net.is_cut)
        f.notices()
        assert f.server.get(f.name, "large") is None
        net.heal()
        f.all_there()


def test_put_resets_and_loss():
    with Store() as f:
        for n in range(3):
            f.post(*["r%d-%d" % (n, k) for k in range(30)])
            wait_until("some", lambda: f.m.counts("all")["done"] > 30 * n)
            net.reset()
            f.post("unlucky%d" % n)
            f.notices()
            net.heal()
            f.settled()
        net.lose(0.05)
        f.post(*["l%d" % n for n in range(20)])
        f.all_there()


def test_put_slow_link_puts_each_at_the_first_attempt():
    with Store(timeout="10m") as f:
        net.rate(150_000)
        net.delay(0.05)
        f.post("large", size=400_000)
        f.post(*["s%d" % n for n in range(20)])
        f.all_there()
        assert f.m.counts("all")["attempts"]["retry"] == 0, f.m.counts("all")


def test_put_half_open_server_gone_unseen_and_millrace_killed():
    with Store() as f:
        f.post(*["before%d" % n for n in range(5)])
        f.settled()
        net.partition()
        f.replace_server()
        net.heal()
        after = ["after%d" % n for n in range(20)]
        f.post(*after)
        f.all_there(after)
        net.cut_after(5000)
        last = ["last%d" % n for n in range(20)]
        f.post(*last)
        wait_until("the cut", lambda: net.is_cut)
        f.kill_millrace()
        net.heal()
        f.m.start()
        f.all_there(after + last)


if __name__ == "__main__":
    net = netlab.own()
    try:
        main()
    finally:
        net.heal()
        for server in Flow.servers.values():
            server.__exit__()
