"""A RabbitMQ of one's own for Python tests, started by rabbitmq.sh; `with Broker() as broker:`."""
import os
import pathlib
import shutil
import subprocess
import tempfile

from support import Skip

SCRIPT = pathlib.Path(__file__).with_name("rabbitmq.sh")


class Broker:
    """@p settings go to the script: BIND="0.0.0.0", TLS="server", EXTRA="a = 1;b = 2", …"""

    def __init__(self, **settings):
        self.settings = {"AMQP_" + name: value for name, value in settings.items()}

    def __enter__(self):
        if not os.path.exists("/usr/lib/rabbitmq/bin/rabbitmq-server"):
            raise Skip("rabbitmq-server is not installed")
        if shutil.which("amqp-publish") is None:
            raise Skip("amqp-tools is not installed")
        self.folder = tempfile.mkdtemp(prefix="mr-amqp-")
        # The broker and its folder go when this end of the pipe is closed, whatever ends us.
        self.theirs, self.ours = os.pipe()
        self.start()
        return self

    def __exit__(self, *what):
        self.run("kill")
        os.close(self.ours)
        os.close(self.theirs)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self):
        env = dict(os.environ, TEST_GUARD=str(self.theirs), **self.settings)
        out = subprocess.run([str(SCRIPT), "start", self.folder], env=env, check=True, text=True,
                             pass_fds=[self.theirs], stdout=subprocess.PIPE).stdout
        self.port = int(out.split()[0])
        self.url = self.url_at("127.0.0.1")

    def url_at(self, address):
        return "amqp://guest:guest@%s:%d" % (address, self.port)

    def run(self, verb, *words):
        return subprocess.run([str(SCRIPT), verb, self.folder, *words], check=True, text=True,
                              stdout=subprocess.PIPE).stdout

    def declare(self, *queues):
        for queue in queues:
            subprocess.run(["amqp-declare-queue", "-u", self.url, "-d", "-q", queue], check=True,
                           stdout=subprocess.DEVNULL)

    def publish(self, queue, numbers):
        """One message {"n": number} each, persistent."""
        subprocess.run(["amqp-publish", "-u", self.url, "-r", queue, "-p", "-l", "-C",
                        "application/json"], check=True, text=True,
                       input="".join('{"n":%d}\n' % n for n in numbers))

    def take(self, queue, count):
        """The bodies of so many messages, one a line."""
        out = subprocess.run(["amqp-consume", "-u", self.url, "-q", queue, "-c", str(count), "-A",
                              "--", "sh", "-c", "cat; echo"], check=True, stdout=subprocess.PIPE,
                             text=True, timeout=60).stdout
        return out.splitlines()

    def queues(self):
        """{name: [ready, unacknowledged]}"""
        lines = self.run("ctl", "list_queues", "name", "messages_ready", "messages_unacknowledged",
                         "--no-table-headers").splitlines()
        return {line.split("\t")[0]: [int(n) for n in line.split("\t")[1:]] for line in lines}


def to_file(broker, queue, address="127.0.0.1", **more):
    """A configuration that takes the queue in and writes each event as a line of `out`."""
    return {
        "sources": {"jobs": {"amqp": {"url": broker.url_at(address), "queue": queue,
                                      "heartbeat": "2s", **more}}},
        "sinks": {"out": {"file": {"path": "out"}}},
        "subscriptions": {"all": {"to": "out"}},
    }


def source(instance):
    return instance.ask_lines("source", "list")[0]


def connected(instance):
    return source(instance)["health"] == "ok"
