"""The http sink, over both of its clients (plain and TLS), and a server with a wire between them that is
cut, slow, lossy or resetting: each event is delivered, all attempts at it have the same key, and no
other subscription is held up."""
import collections
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
import netlab
from support import Instance, Served, event, http_source, json_lines, main, wait_until

net = None
certs = None
LARGE = 200_000


def lines(m):
    """How often each id is in the file."""
    return collections.Counter(e["id"] for e in json_lines(m.folder / "out.jsonl"))


class FarServer(Served):
    """Takes events; knows its connections, so that it can be killed with them. While `stalling` it
    answers nothing."""

    def __init__(self, tls):
        self.took, self.mu, self.open = [], threading.Lock(), set()  # under mu
        self.calm, self.tls = threading.Event(), tls
        self.calm.set()
        server = self

        class Quiet(Served.Quiet):
            def get_request(self):
                connection, address = super().get_request()
                if server.tls is not None:  # its handshake is the thread's
                    connection = server.tls.wrap_socket(connection, server_side=True,
                                                        do_handshake_on_connect=False)
                with server.mu:
                    server.open.add(connection)
                return connection, address

            def shutdown_request(self, request):
                with server.mu:
                    server.open.discard(request)
                super().shutdown_request(request)

        class Handler(Served.Handler):
            def do_POST(self):
                size = int(self.headers["Content-Length"])
                if len(self.rfile.read(size)) != size:
                    return
                with server.mu:
                    server.took.append((self.headers["ce-id"], self.headers["Idempotency-Key"]))
                server.calm.wait(60)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.quiet, self.handler, self.port = Quiet, Handler, 0

    def __enter__(self):
        with net.far():
            self.server = self.quiet((net.FAR, self.port), self.handler)
        self.port = self.server.server_address[1]
        return super().__enter__()

    def kill(self):
        """Behind a cut wire, as by kill -9: nobody hears of the end of its connections."""
        self.__exit__()
        with self.mu:
            gone, self.open = self.open, set()
        for connection in gone:
            connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads it
            connection.close()

    def stall(self):
        self.calm.clear()

    def go_on(self):
        self.calm.set()

    def arrived(self):
        with self.mu:
            return collections.Counter(id for id, _ in self.took)

    def keys(self):
        with self.mu:
            return set(self.took)


class Posting:
    """An instance whose events go to a far server, and by another subscription to a file;
    `with Posting(scheme) as p`."""

    def __init__(self, scheme, timeout="3s"):
        self.scheme, self.timeout, self.ids = scheme, timeout, []

    def __enter__(self):
        net.heal()
        context = None
        if self.scheme == "https":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certs / "server.crt", certs / "server.key")
        self.server = FarServer(context).__enter__()
        url = "%s://%s:%d/in" % (self.scheme, net.FAR, self.server.port)
        sink = {"http": {"url": url, "tls_ca": str(certs / "ca.crt"), "connect_timeout": "1s"},
                "timeout": self.timeout,
                "breaker": {"percent": 0}}  # it would keep the rest back for half a minute
        self.m = Instance({"sources": {"shop": http_source()},
                           "sinks": {"far": sink, "near": {"file": {"path": "out.jsonl"}}},
                           "subscriptions": {
                               "all": {"to": "far", "retry": {"schedule": ["500ms"] * 60}},
                               "neighbour": {"to": "near"}}})
        self.m.__enter__()
        return self

    def __exit__(self, *what):
        net.heal()
        self.server.go_on()
        self.m.__exit__(*what)
        self.server.__exit__(*what)

    def sink(self):
        return next(w for w in self.m.ask_lines("worker", "list") if w["name"] == "far")

    def notices(self):
        before = self.sink()["errors"]
        wait_until("the sink to notice", lambda: self.sink()["errors"] > before)

    def post(self, *ids, data="x"):
        self.ids += ids
        self.m.post([event(id, data=data) for id in ids])

    def neighbour_has_all(self):
        wait_until("the neighbour's lines", lambda: lines(self.m).keys() == set(self.ids))

    def all_arrive(self, lines_once=True):
        wait_until("all requests", lambda: self.server.arrived().keys() == set(self.ids), 90)
        wait_until("all settled", lambda: self.m.counts("all")["done"] == len(self.ids), 90)
        self.neighbour_has_all()
        assert len(self.server.keys()) == len(self.ids), "an event's attempts differ in their key"
        assert not lines_once or set(lines(self.m).values()) == {1}
        return "%d requests for %d events" % (self.server.arrived().total(), len(self.ids))


def sink_partition(scheme):
    """Before a request, and in the middle of one."""
    with Posting(scheme) as p:
        p.post("before")
        p.all_arrive()
        net.partition()
        p.post(*["while%d" % n for n in range(20)])
        p.neighbour_has_all()
        p.notices()
        net.heal()
        p.all_arrive()
        for n in range(2):
            net.cut_after(LARGE // 2)
            p.post("large%d" % n, "other%d" % n, data="y" * LARGE)
            wait_until("the cut", lambda: net.is_cut)
            p.neighbour_has_all()
            p.notices()
            net.heal()
            p.all_arrive()
        print("    " + p.all_arrive())


def sink_reset(scheme):
    """Behind a request and before its answer, whose fate nobody knows: it goes again, with the same
    key. Then under load."""
    with Posting(scheme, timeout="10s") as p:
        p.server.stall()
        p.post("unknown")
        wait_until("the request to be there", lambda: p.server.arrived()["unknown"] == 1)
        net.reset()
        p.server.go_on()
        p.notices()
        net.heal()
        p.all_arrive()
        assert p.server.arrived()["unknown"] == 2, p.server.arrived()
        for n in range(3):
            before = p.server.arrived().total()
            p.post(*["%d-%d" % (n, k) for k in range(200)])
            wait_until("some", lambda: p.server.arrived().total() > before)
            net.reset()
            p.post("reset%d" % n)
            p.notices()
            net.heal()
            p.all_arrive()
        print("    " + p.all_arrive())


def sink_slow_and_lossy(scheme):
    with Posting(scheme, timeout="10m") as p:
        net.rate(200_000)
        net.delay(0.05)
        p.post("a", "b", "c", data="y" * LARGE)
        p.post(*["s%d" % n for n in range(5)])
        p.neighbour_has_all()
        print("    %s at 200 kB/s, 100 ms round trip" % p.all_arrive())
        assert p.server.arrived().total() == 8, p.server.arrived()
        net.heal()
        net.lose(0.05)
        p.post(*["l%d" % n for n in range(30)])
        print("    %s, the last 30 with 5 %% of the frames lost" % p.all_arrive())


def sink_half_open(scheme):
    """The server dies behind a cut wire with connections that are kept and one that waits for its
    answer; the new one knows none of them. Each is given up within the timeout."""
    with Posting(scheme) as p:
        p.post(*["before%d" % n for n in range(20)])
        p.all_arrive()
        p.server.stall()
        p.post("unknown")
        wait_until("the request to be there", lambda: p.server.arrived()["unknown"] == 1)
        net.partition()
        p.server.kill()
        p.server.go_on()
        net.forget()
        p.server.__enter__()
        net.heal()
        p.post(*["after%d" % n for n in range(20)])
        p.neighbour_has_all()
        print("    " + p.all_arrive())


def test_killed_while_requests_are_out():
    """Millrace ends by kill -9 before their answers: they go again, with the same keys."""
    with Posting("http") as p:
        p.server.stall()
        p.post(*["k%d" % n for n in range(40)])
        wait_until("some requests", lambda: p.server.arrived().total() >= 20)
        assert p.m.stop(signal.SIGKILL) == -signal.SIGKILL
        p.m.process.stdout.close()
        p.server.go_on()
        p.m.start()
        print("    " + p.all_arrive(lines_once=False))
        assert max(p.server.arrived().values()) > 1, p.server.arrived()


def test_partition():
    sink_partition("http")


def test_partition_of_tls():
    sink_partition("https")


def test_resets():
    sink_reset("http")


def test_resets_of_tls():
    sink_reset("https")


def test_slow_and_lossy_link():
    sink_slow_and_lossy("http")


def test_slow_and_lossy_link_of_tls():
    sink_slow_and_lossy("https")


def test_half_open_server_gone_unseen_is_noticed():
    sink_half_open("http")


def test_half_open_server_of_tls_gone_unseen_is_noticed():
    sink_half_open("https")


if __name__ == "__main__":
    net = netlab.own()
    with tempfile.TemporaryDirectory(prefix="mr-certs-") as folder:
        certs = pathlib.Path(folder)
        made = subprocess.run([HERE.parent / "support" / "certs.sh", certs], check=False)
        if made.returncode != 0:
            netlab.skip("certs.sh could not make certificates")
        main()
