"""The real program and a mail server with a wire between them that is cut, slow, lossy or resetting:
the smtp sink loses no mail, and what comes twice can be told by its Message-ID."""
import collections
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
import mail
import netlab
from support import Instance, event, http_source, main, wait_until

net = None
LARGE = "the quick brown fox jumps over the lazy dog " * 5000  # a mail of 220 kB and more


class FarServer(mail.Server):
    def __init__(self):
        super().__init__(BIND="0.0.0.0", TLS="starttls")

    def start(self):
        with net.far():
            super().start()


class Flow:
    """A mail server, and an instance whose events go there; `with Flow() as f`."""

    def __init__(self, timeout="3s", **options):
        self.timeout, self.options = timeout, options
        self.ids = []

    def __enter__(self):
        net.heal()
        self.server = FarServer().__enter__()
        url = "smtp://%s:%d" % (net.FAR, self.server.port)
        sink = {"smtp": {"url": url, "tls_ca": str(self.server.folder / "certs" / "ca.crt"), "from": "bus@example.com",
                         "to": ["ops@example.com"], "body": "{{data}}", "connect_timeout": "1s",
                         **self.options}, "timeout": self.timeout,
                "breaker": {"percent": 0}}  # it would keep the rest back for half a minute
        self.m = Instance({
            "sources": {"shop": http_source()}, "sinks": {"out": sink},
            "subscriptions": {"all": {"to": "out", "retry": {"schedule": ["500ms"] * 60}}}})
        self.m.__enter__()
        wait_until("the connection", self.healthy)
        return self

    def __exit__(self, *what):
        net.heal()
        self.m.__exit__(*what)
        self.server.__exit__(*what)

    def sink(self):
        return self.m.ask_lines("worker", "list")[0]

    def healthy(self):
        return self.sink()["health"] == "ok"

    def notices(self):
        wait_until("the sink to notice", lambda: not self.healthy())

    def post(self, *ids, data="x"):
        self.ids += ids
        self.m.post([event(id, data=data) for id in ids])

    def arrived(self):
        """{id: how often}, those within a digest as well."""
        times = collections.Counter()
        for got in self.server.mails():
            text = got.get_content()
            mine = [id for id in self.ids if id == got["X-Millrace-Event-Id"]]
            times.update(mine or [id for id in self.ids if id in text.split()])
        return times

    def all_arrive(self):
        wait_until("all mails", lambda: self.arrived().keys() == set(self.ids), 90)
        wait_until("all settled", lambda: self.m.counts("all")["done"] == len(self.ids), 90)
        wait_until("the sink to be well", self.healthy)
        names = collections.defaultdict(set)
        for got in self.server.mails():
            names[got["X-Millrace-Event-Id"]].add(got["Message-ID"])
        if "digest" not in self.options:
            assert all(len(of_one) == 1 for of_one in names.values()), names
        return "%d mails for %d events, %d repeated" % (
            len(self.server.mails()), len(self.ids), self.arrived().total() - len(self.ids))


def test_partition_before_a_mail():
    with Flow() as f:
        f.post("before")
        f.all_arrive()
        net.partition()
        f.post(*["while%d" % n for n in range(20)])
        f.notices()
        net.heal()
        print("    " + f.all_arrive())


def test_partition_in_the_middle_of_a_mail():
    with Flow() as f:
        for n in range(2):
            net.cut_after(100_000)
            f.post("large%d" % n, "other%d" % n, data=LARGE)
            wait_until("the cut", lambda: net.is_cut)
            f.notices()
            net.heal()
            f.all_arrive()
        print("    " + f.all_arrive())


def test_reset_after_the_mail_and_before_its_answer():
    """Whether the server took it over nobody knows: it goes again."""
    with Flow() as f:
        f.server.tell("stall", "")
        f.post("unknown")
        wait_until("the mail to be there", (f.server.folder / "stalling").exists)
        net.reset()
        (f.server.folder / "stall").unlink()
        f.notices()
        net.heal()
        said = f.all_arrive()
        assert f.arrived()["unknown"] >= 2, f.arrived()
        print("    " + said)


def test_resets_under_load_lose_nothing():
    with Flow() as f:
        for n in range(3):
            before = len(f.server.mails())
            f.post(*["%d-%d" % (n, k) for k in range(60)])
            wait_until("some", lambda: len(f.server.mails()) > before)
            net.reset()
            f.post("%d-last" % n)  # where all the others were quicker than we
            f.notices()
            net.heal()
            wait_until("the sink to come back", f.healthy, 60)
        print("    " + f.all_arrive())


def test_slow_link_delivers_each_once():
    with Flow(timeout="10m") as f:
        net.rate(200_000)
        net.delay(0.05)
        f.post("a", "b", "c", data=LARGE)
        f.post(*["s%d" % n for n in range(5)])
        print("    %s at 200 kB/s, 100 ms round trip" % f.all_arrive())
        assert f.arrived().total() == 8, f.arrived()


def test_lossy_link_loses_nothing():
    with Flow(timeout="60s") as f:
        net.lose(0.05)
        f.post(*["l%d" % n for n in range(30)])
        print("    %s with 5 %% of the frames lost" % f.all_arrive())


def test_half_open_server_gone_unseen_is_noticed():
    """The server dies behind a cut wire: nothing tells us, and the new one knows no connection."""
    with Flow() as f:
        f.post("before")
        f.all_arrive()
        net.partition()
        f.server.kill()
        net.forget()
        f.server.start()
        net.heal()
        f.post(*["after%d" % n for n in range(20)])
        print("    " + f.all_arrive())


def test_a_digest_is_never_lost():
    """Cut in the middle of it, its answer lost, and Millrace killed while it is under way."""
    with Flow(digest={"max": 25, "window": "500ms"}, body="{{id}} {{data}}") as f:
        net.cut_after(20_000)
        f.post(*["cut%d" % n for n in range(50)], data="y" * 2000)
        wait_until("the cut", lambda: net.is_cut)
        f.notices()
        net.heal()
        f.all_arrive()
        f.server.tell("stall", "")
        f.post(*["unknown%d" % n for n in range(25)])
        wait_until("the mail to be there", (f.server.folder / "stalling").exists)
        net.reset()
        (f.server.folder / "stall").unlink()
        f.notices()
        net.heal()
        f.all_arrive()
        net.cut_after(20_000)
        f.post(*["killed%d" % n for n in range(50)], data="z" * 2000)
        wait_until("the cut", lambda: net.is_cut)
        f.m.stop(signal.SIGKILL)
        f.m.process.stdout.close()
        net.heal()
        f.m.start()
        print("    " + f.all_arrive())


if __name__ == "__main__":
    net = netlab.own()
    main()
