"""A Kafka of one's own for Python tests, started by kafka.sh; `with Cluster() as kafka:`."""
import collections
import contextlib
import importlib
import sys
import threading
import time

from server import Server
from support import Skip, main, wait_until

DEBIAN = "/usr/lib/python3/dist-packages"  # where another interpreter than Debian's does not look


def client():
    """The module confluent_kafka; librdkafka with another face."""
    for path in (None, DEBIAN):
        if path and path not in sys.path:
            sys.path.append(path)
        try:
            importlib.import_module("confluent_kafka.admin")
            return sys.modules["confluent_kafka"]
        except ImportError:
            pass
    raise Skip("python3-confluent-kafka is not installed")


class Cluster(Server):
    """@p settings go to the script: SASL="1", TLS="server", EXTRA="a=1;b=2"."""
    script, prefix = "kafka.sh", "KAFKA_"

    def __init__(self, brokers=1, **settings):
        super().__init__(**settings)
        self.brokers = brokers
        self.words = [str(brokers)]

    def check(self):
        self.kafka = client()

    def told(self, words):
        self.plain, self.sasl, self.tls, self.sasltls = words

    def do(self, verb, number):
        """kill, freeze, thaw or restart of one broker."""
        self.run(verb, str(number))

    def certificate(self, name):
        return "%s/certs/%s" % (self.folder, name)

    # --- topics ---

    def admin(self):
        return self.kafka.admin.AdminClient({"bootstrap.servers": self.plain, "log_level": 2})

    def topic(self, name, partitions=1, **config):
        """Makes it and waits until each broker names all its leaders."""
        new = self.kafka.admin.NewTopic(name, partitions, min(self.brokers, 3), config=config)
        admin = self.admin()  # it must live until the answer is there
        admin.create_topics([new], operation_timeout=30)[name].result(40)
        for broker in self.plain.split(","):
            one = self.kafka.admin.AdminClient({"bootstrap.servers": broker, "log_level": 2})
            wait_until("the topic " + name, lambda: self.has_leaders(one, name, partitions))

    @staticmethod
    def has_leaders(admin, name, partitions):
        topic = admin.list_topics(timeout=10).topics.get(name)
        return topic is not None and len(topic.partitions) == partitions and \
            all(p.leader >= 0 for p in topic.partitions.values())

    def delete_topic(self, name):
        admin = self.admin()
        admin.delete_topics([name], operation_timeout=30)[name].result(40)
        wait_until("the topic to go", lambda: name not in admin.list_topics(timeout=10).topics)

    # --- records ---

    def producer(self, **config):
        return self.kafka.Producer({"bootstrap.servers": self.plain, "log_level": 2, "linger.ms": 5,
                                    "enable.idempotence": True,
                                    **{k.replace("_", "."): v for k, v in config.items()}})

    def produce(self, topic, values, producer=None, **more):
        """Returns when all are with the brokers; each must be."""
        producer = producer or self.producer()
        failed = []

        def report(error, _):
            if error:
                failed.append(error)
        for value in values:
            while True:
                try:
                    producer.produce(topic, value, on_delivery=report, **more)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        left = producer.flush(120)
        assert left == 0 and not failed, (left, failed[:3])

    def consumer(self, group="test"):
        return self.kafka.Consumer({"bootstrap.servers": self.plain, "group.id": group,
                                    "log_level": 2, "enable.auto.commit": False})

    def ends(self, topic):
        """[the end offset of each partition]"""
        consumer = self.consumer()
        try:
            partitions = sorted(consumer.list_topics(topic, 10).topics[topic].partitions)
            return [consumer.get_watermark_offsets(self.kafka.TopicPartition(topic, p), 10)[1]
                    for p in partitions]
        finally:
            consumer.close()

    def committed(self, group, topic, partitions=1):
        """[the group's offset of each partition; -1001 where there is none]"""
        consumer = self.consumer(group)
        try:
            asked = [self.kafka.TopicPartition(topic, p) for p in range(partitions)]
            return [p.offset for p in consumer.committed(asked, 10)]
        finally:
            consumer.close()

    def read(self, topic, count, seconds=60):
        """All records, `count` at least (what came twice counts twice); each a Message."""
        consumer = self.consumer()
        try:
            read_to = [0] * len(self.ends(topic))
            consumer.assign([self.kafka.TopicPartition(topic, p, 0) for p in range(len(read_to))])
            found = []
            until = time.monotonic() + seconds
            while len(found) < count or read_to != self.ends(topic):
                for m in consumer.consume(1000, 0.2):
                    if not m.error():
                        found.append(m)
                        read_to[m.partition()] = m.offset() + 1
                assert time.monotonic() < until, "%d of %d records" % (len(found), count)
            return found
        finally:
            consumer.close()


class Flow(threading.Thread):
    """Produces `count` numbered records, so many a second, of `size` bytes at least, on a thread of
    its own: within the context `side` gives, such as the far side of a network."""

    def __init__(self, kafka, topic, count, per_second, size=1, side=contextlib.nullcontext):
        super().__init__(daemon=True)
        self.kafka, self.topic, self.count, self.per_second = kafka, topic, count, per_second
        self.size, self.side = size, side
        self.sent = 0
        self.error = None

    def run(self):
        try:
            with self.side():
                self.produce()
        except Exception as error:
            self.error = error

    def produce(self):
        producer = self.kafka.producer(message_timeout_ms="120000")
        tick = threading.Event()
        while self.sent < self.count:
            lot = min(self.per_second // 10, self.count - self.sent)
            self.kafka.produce(self.topic, (str(n).zfill(self.size) for n in
                                            range(self.sent, self.sent + lot)), producer)
            self.sent += lot
            tick.wait(0.1)

    def until(self, sent):
        wait_until("%d sent" % sent, lambda: self.sent >= sent or self.error, 120)
        if self.error:
            raise self.error

    def finish(self):
        self.until(self.count)
        self.join()


def run(cluster):
    """A test file's end: its tests find the cluster in their global `kafka`."""
    try:
        with cluster as sys.modules["__main__"].kafka:
            main()
    except Skip as why:
        print("SKIPPED: %s" % why)
        sys.exit(77)


def source_of(instance, name="orders"):
    return [s for s in instance.ask_lines("source", "list") if s["name"] == name][0]


def reading(instance, name="orders", partitions=None):
    """Whether the source has its share of the group."""
    source = source_of(instance, name)
    return source["health"] == "ok" and \
        (partitions is None or ", %d partitions" % partitions in source["detail"])


def logged(instance, *dump_arguments):
    """How often each event of kind `event` is in the log: {(source, id): times}."""
    times = collections.Counter()
    for record in instance.cli("log", "dump", instance.folder / "data", "-o", "json",
                               *dump_arguments).lines():
        if record["kind"] == "event" and record.get("cause_offset") is None:
            times[record["source"], record["id"]] += 1
    return times


def wanted(ends, name="orders", topic="orders"):
    """The events that raw records of a topic become."""
    return ["partition:%d/offset:%d" % (p, n) for p, end in enumerate(ends) for n in range(end)]
