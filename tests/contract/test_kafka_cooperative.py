"""A group with `partition.assignment.strategy: cooperative-sticky`: three Millrace join and leave one
real Kafka under load. Only what moves is taken from a member; nothing is lost, little comes twice."""
import collections
import contextlib
import pathlib
import re
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
from support import Instance, wait_until
from kafka import Cluster, Flow, logged, run, source_of, wanted

PARTITIONS = 6
COOPERATIVE = {"partition.assignment.strategy": "cooperative-sticky",
               "session.timeout.ms": "6000", "heartbeat.interval.ms": "500"}
kafka = None


def config(topic):
    return {
        "sources": {"orders": {"kafka": {"brokers": kafka.plain, "topics": topic, "group": topic,
                                         "librdkafka": COOPERATIVE}}},
        "sinks": {"out": {"file": {"path": "out"}}},
        "subscriptions": {"all": {"to": "out"}},
    }


class Group:
    """Members of the group of a topic of its own, each a Millrace; `with Group("name") as g`."""

    def __init__(self, topic):
        self.topic = topic
        self.members = []
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        kafka.topic(self.topic, PARTITIONS)
        return self

    def __exit__(self, *what):
        self.stack.__exit__(*what)

    def join(self):
        self.members.append(self.stack.enter_context(Instance(config(self.topic))))
        return self.members[-1]

    def shares(self, *counts):
        """Waits until the members that live have so many partitions, in any order."""
        def shared():
            live = [source_of(m) for m in self.members if m.process.poll() is None]
            have = [re.search(r", (\d+) partitions", source["detail"]) for source in live]
            return sorted(int(n[1]) for n in have if n) == sorted(counts)
        wait_until("shares of %s" % (counts,), shared, 90)

    def all_is_through(self):
        """Ends the members. Each record is in some log, and in each log once at most."""
        ends = kafka.ends(self.topic)
        wait_until("all committed",
                   lambda: kafka.committed(self.topic, self.topic, PARTITIONS) == ends, 120)
        times = collections.Counter()
        for m in self.members:
            if m.process.poll() is None:
                assert m.stop() == 0
                m.process.stdout.close()
            own = logged(m)
            assert set(own.values()) <= {1}, own.most_common(3)
            times += own
        assert sorted(id for _, id in times) == sorted(wanted(ends)), (len(times), sum(ends))
        twice = sum(times.values()) - len(times)
        assert twice < len(times) / 2, twice
        return "%d records, %d twice; %s" % (
            len(times), twice, " | ".join(" ".join("%s %d" % at for at in said(m))
                                          for m in self.members))


def said(m):
    """[(given, taken or lost, how many)] as the member logged it"""
    return [(word, int(n)) for word, n in
            re.findall(r"partitions (given|taken|lost)=(\d+)", m.log.read_text())]


def gives_up_a_share(what):
    """Whether a member that went on gave up some of its partitions and kept others: an eager one
    gives up all, each time."""
    owned = shares = 0
    for word, n in what[:-1]:  # the last is its end
        shares += word == "taken" and 0 < n < owned
        owned += n if word == "given" else -n
    return shares


def test_members_come_and_go_under_load():
    with Group("steady") as g:
        one = g.join()
        g.shares(6)
        flow = Flow(kafka, "steady", 12000, 1000)
        flow.start()
        flow.until(1000)
        two = g.join()
        g.shares(3, 3)
        g.join()
        g.shares(2, 2, 2)
        assert two.stop() == 0
        two.process.stdout.close()
        g.shares(3, 3)
        flow.finish()
        print("    " + g.all_is_through())
        assert gives_up_a_share(said(one)), said(one)


def test_a_second_member_joins_under_a_backlog():
    with Group("backlog") as g:
        kafka.produce("backlog", (str(n).zfill(300) for n in range(100000)))
        one = g.join()
        wait_until("the flow", lambda: source_of(one)["events"] > 5000, 60)
        g.join()
        g.shares(3, 3)
        print("    " + g.all_is_through())
        assert gives_up_a_share(said(one)), said(one)


if __name__ == "__main__":
    run(Cluster())
