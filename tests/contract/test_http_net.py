"""The real program and HTTP clients with a wire between them that is cut, slow, lossy or resetting: what
was answered 202 is there, what was not comes again, and others are served meanwhile."""
import collections
import contextlib
import os
import pathlib
import socket
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
import netlab
from senders import Senders
from support import Instance, event, http_source, json_lines, main, wait_until

net = None
LARGE = 200_000


def lines(m):
    """How often each id is in the file."""
    return collections.Counter(e["id"] for e in json_lines(m.folder / "out.jsonl"))


def sockets(m):
    """Those it has open."""
    found = set()
    for fd in pathlib.Path("/proc/%d/fd" % m.process.pid).iterdir():
        with contextlib.suppress(OSError):
            found.add(os.readlink(fd))
    return {name for name in found if name.startswith("socket:")}


class Taking:
    """An instance that takes requests of the far side at /in; `with Taking() as t`."""

    def __enter__(self):
        net.heal()
        self.all = []
        self.m = Instance({"sources": {"in": http_source("/in", adapter="generic"),
                                       "near": http_source("/events")},
                           "sinks": {"out": {"file": {"path": "out.jsonl"}}},
                           "subscriptions": {"s": {"to": "out"}}})
        self.m.__enter__()
        net.expose(self.m.port)
        return self

    def __exit__(self, *what):
        net.heal()
        for senders in self.all:
            senders.over.set()
        self.m.__exit__(*what)

    def senders(self, name, timeout=1, **more):
        self.all.append(Senders(lambda: (net.NEAR, self.m.port), name, timeout=timeout,
                                within=net.far, **more))
        return self.all[-1]

    def connect(self):
        with net.far():
            return socket.create_connection((net.NEAR, self.m.port), timeout=10)

    def neighbour_is_served(self, *ids):
        """What comes over another wire enters and is delivered."""
        self.m.post([event(id) for id in ids])
        wait_until("the neighbour's events", lambda: lines(self.m).keys() >= set(ids))

    def all_arrive(self):
        wanted = set()
        for senders in self.all:
            senders.finish(90)
            assert senders.accepted == senders.wanted()
            wanted |= senders.wanted()
        wait_until("all events", lambda: lines(self.m).keys() >= wanted)
        assert self.m.metrics()["millrace_conservation_ok"] == 1
        came = [lines(self.m)[id] for id in wanted]
        return "%d requests, %d sent again, %d events came twice" % (
            len(wanted), sum(s.repeated for s in self.all), sum(n > 1 for n in came))


def test_partition_under_load_loses_nothing():
    with Taking() as t:
        for n in range(3):
            senders = t.senders("p%d" % n)
            wait_until("the flow", lambda: len(senders.accepted) > 40)
            net.partition()
            wait_until("the senders to notice", lambda: senders.failures > 0)
            t.neighbour_is_served("near%d" % n)
            net.heal()
            senders.finish(60)
        print("    " + t.all_arrive())


def test_cut_in_the_middle_of_a_request():
    """Half a request is no event, and its sender comes again."""
    with Taking() as t:
        for n in range(2):
            net.cut_after(LARGE // 2, near=True)
            senders = t.senders("large%d" % n, count=1, each=1, size=LARGE)
            wait_until("the cut", lambda: net.is_cut)
            wait_until("the sender to notice", lambda: senders.failures > 0)
            assert not lines(t.m)["large%d-0-0" % n]
            t.neighbour_is_served("near%d" % n)
            net.heal()
            senders.finish()
        print("    " + t.all_arrive())


def test_resets_under_load_lose_nothing():
    with Taking() as t:
        for n in range(3):
            senders = t.senders("r%d" % n)
            wait_until("the flow", lambda: len(senders.accepted) > 40)
            net.reset()
            wait_until("the senders to notice", lambda: senders.failures >= 8)
            net.heal()
            senders.finish()
        print("    " + t.all_arrive())


def test_slow_link_takes_each_once():
    with Taking() as t:
        net.rate(200_000)
        net.delay(0.05)
        t.senders("slow", count=4, each=2, size=LARGE, timeout=60)
        t.neighbour_is_served("near")
        print("    %s at 200 kB/s, 100 ms round trip" % t.all_arrive())
        assert set(lines(t.m).values()) == {1}, lines(t.m)


def test_lossy_link_loses_nothing():
    with Taking() as t:
        net.lose(0.05)
        t.senders("lossy", each=10, timeout=60)
        print("    %s with 5 %% of the frames lost" % t.all_arrive())


def test_half_open_clients_gone_unseen_hold_nobody_up():
    """A hundred clients die behind a cut wire: idle, and in the middle of a request. Others
    are served, and nothing of a half request enters."""
    with Taking() as t:
        before = sockets(t.m)
        idle = [t.connect() for _ in range(50)]
        half = [t.connect() for _ in range(50)]
        for n, connection in enumerate(half):
            connection.sendall(b"POST /in HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
                               b"Idempotency-Key: half%d\r\n\r\nhalf of it" % n)
        wait_until("all of them", lambda: len(sockets(t.m) - before) >= 100)
        net.partition()
        for connection in idle + half:
            connection.close()
        net.forget()
        net.heal()
        senders = t.senders("after")
        senders.finish()
        print("    " + t.all_arrive())
        assert not any(id.startswith("half") for id in lines(t.m))


if __name__ == "__main__":
    net = netlab.own()
    main()
