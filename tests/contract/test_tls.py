"""Every end that speaks TLS, and a server whose certificate is another host's, expired, or of an
authority that is not trusted: refused with a word on what is wrong, and no byte of ours goes there.
The brokers' own tests show that a good one connects."""
import pathlib
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
from support import Instance, Skip, event, http_source, main, wait_until

certs = None
KEYS = {"access_key": "K", "secret_key": "S", "region": "r"}
WHY = {  # certificate: words of which the error must hold one
    "wronghost": ("host", "IP address mismatch"),
    "expired": ("expired",),
    "unknown": ("unable to get local issuer",),
}
# What the libraries of these tell of any of the three.
TERSE = {"mqtt-in": "certificate verify failed", "mqtt-out": "certificate verify failed",
         "kafka-in": "certificate verify failed", "kafka-out": "certificate verify failed"}


class Server(socketserver.ThreadingTCPServer):
    """Speaks TLS with a certificate; keeps what it read behind handshakes that came about."""
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, certificate):
        super().__init__(("127.0.0.1", 0), None)
        self.port = self.server_address[1]
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certs / (certificate + ".crt"), certs / (certificate + ".key"))
        self.read = b""

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def finish_request(self, connection, address):
        connection.settimeout(10)
        with self.context.wrap_socket(connection, server_side=True) as tls:
            self.read += tls.recv(100)

    def handle_error(self, connection, address):
        pass  # refused

    def __exit__(self, *what):
        # A thread still about to accept would do so from the next server, which gets the socket's
        # number, and show this one's certificate there.
        self.shutdown()
        self.server_close()


def ends(port, ca):
    """(sources, sinks, workers) by name; each would connect to the port of 127.0.0.1."""
    at, tls = "127.0.0.1:%d" % port, {"tls_ca": str(ca)}
    amqp, mqtt, kafka = ({"url": "amqps://" + at, **tls}, {"url": "mqtts://" + at, **tls},
                         {"brokers": at, "tls": True, **tls})
    web = {"url": "https://" + at + "/lake", **tls}
    sources = {
        "amqp-in": {"amqp": {"queue": "q", **amqp}},
        "mqtt-in": {"mqtt": {"topics": "t", **mqtt}},
        "kafka-in": {"kafka": {"topics": "t", "group": "g", **kafka}},
        "sqs-in": {"objectstore": {"via": "sqs", **KEYS, **web}},
        "list-in": {"objectstore": {"via": "list", "interval": "1s", **KEYS, **web}},
    }
    sinks = {
        "amqp-out": {"amqp": {"exchange": "x", **amqp}},
        "mqtt-out": {"mqtt": {"topic": "t", **mqtt}},
        "kafka-out": {"kafka": {"topic": "t", **kafka}},
        "s3-out": {"objectstore": {"key": "{{id}}", **KEYS, **web}},
        "http-out": {"http": web},
        "smtp-out": {"smtp": {"url": "smtps://" + at, "from": "a@example.com",
                              "to": ["b@example.com"], **tls}},
    }
    return sources, sinks, {"http-worker": {"http": web}}


def refused_by_all(kind):
    with Server("server" if kind == "unknown" else kind) as server:
        sources, sinks, workers = ends(server.port,
                                       certs / ("otherca.crt" if kind == "unknown" else "ca.crt"))
        targets = [*sinks, *workers]
        config = {"sources": {"in": http_source(), **sources}, "sinks": sinks, "workers": workers,
                  "subscriptions": {"to-" + name: {"to": name} for name in targets}}
        with Instance(config) as m:
            m.post(event("e", data="confidential"))

            def errors():
                return {end["name"]: end["last_error"] for verb in ("source", "worker")
                        for end in m.ask_lines(verb, "list") if end["name"] != "in"}

            def says_why(name, error):
                words = [*WHY[kind], *filter(None, [TERSE.get(name)])]
                return error is not None and any(word in error for word in words)
            try:  # a machine that is slow may make one say first that nobody answers
                wait_until("all to say it", lambda: all(says_why(*end) for end in errors().items()))
            finally:
                for end in errors().items():
                    print("    %s: %s" % end)
            for name in targets:
                assert m.delivery("e", "to-" + name)["state"] != "done", name
        assert not server.read, server.read


def test_certificate_of_another_host_is_refused():
    refused_by_all("wronghost")


def test_certificate_that_expired_is_refused():
    refused_by_all("expired")


def test_certificate_of_an_authority_unknown_is_refused():
    refused_by_all("unknown")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="mr-certs-") as folder:
        certs = pathlib.Path(folder)
        subprocess.run([HERE.parent / "support" / "certs.sh", certs], check=True)
        main()
