"""A RabbitMQ of one's own for Python tests, started by rabbitmq.sh; `with Broker() as broker:`."""
import os
import shutil
import subprocess

import server
from support import Skip


class Server(server.Server):
    """@p settings go to the script: BIND="0.0.0.0", TLS="server", EXTRA="a = 1;b = 2", …"""
    script, prefix, last = "rabbitmq.sh", "AMQP_", "kill"

    def check(self):
        if not os.path.exists("/usr/lib/rabbitmq/bin/rabbitmq-server"):
            raise Skip("rabbitmq-server is not installed")


class Broker(Server):
    """With the tools of rabbitmq-c, that put and take messages."""

    def check(self):
        super().check()
        if shutil.which("amqp-publish") is None:
            raise Skip("amqp-tools is not installed")

    def told(self, words):
        super().told(words)
        self.tls_port = int(words[1])
        self.url = self.url_at("127.0.0.1")

    def url_at(self, address):
        return "amqp://guest:guest@%s:%d" % (address, self.port)

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
