"""The worked examples of config/examples at work with real parts: their files as they lie there, on
other ports and in a folder of their own."""
import collections
import http.client
import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import mail
from mosquitto import Broker, Devices, subscribed
from support import ROOT, Instance, Served, Service, Skip, event, folder, main, wait_until

EXAMPLES = ROOT / "config" / "examples"
ALERTS = "/alertmanager"


class Example(Instance):
    """An instance with the files of an example; @p ports: what stands in place of which port."""

    def __init__(self, name, ports):
        super().__init__({})
        ports = {8080: 0, **ports}
        missing = set(ports)
        for path in (EXAMPLES / name).iterdir():
            if path.suffix not in (".yaml", ".py"):
                continue
            text = path.read_text()
            if path.suffix == ".yaml":
                for there, here in ports.items():
                    text, count = re.subn(r":%d\b" % there, ":%d" % here, text)
                    missing -= {there} if count else set()
            (self.folder / path.name).write_text(text)
        assert not missing, "%s has no port %s" % (name, missing)

    @property
    def path(self):
        return self.folder

    def write_config(self, config):
        pass  # the example's


def alert(name, status="firing", severity="critical", begin="2026-01-05T10:00:00Z", **more):
    return {"status": status, "labels": {"alertname": name, "severity": severity, "instance": "db-1"},
            "annotations": {"summary": "all about " + name}, "startsAt": begin, **more}


def notify(m, *alerts):
    status, _, body = m.http("POST", ALERTS, json.dumps({"version": "4", "alerts": alerts}))
    assert status == 202, (status, body)


def pages(pager):
    """["DiskFull firing", …] as the pager got them."""
    return ["%s %s" % (r["headers"]["ce-subject"], r["headers"]["ce-type"].rsplit(".", 1)[1])
            for r in list(pager.requests)]


def test_alerting_pages_in_order_and_mails_what_is_critical():
    def reply(request):  # DiskFull is never paged: other alerts are, and it waits for its retry
        firing = request["headers"]["ce-type"].endswith("firing")
        if request["headers"]["ce-subject"] == "DiskFull" and firing:
            return 500, {}, b"not now"
        return 204, {}, b""
    with mail.Server() as post, Service(reply) as pager, \
            Example("alerting", {9000: pager.port, 2525: post.port}) as m:
        notify(m, alert("DiskFull"), alert("Slow", severity="warning"))
        sent = wait_until("the mail", post.mails)
        wait_until("an attempt", lambda: "DiskFull firing" in pages(pager))
        notify(m, alert("DiskFull", "resolved", endsAt="2026-01-05T10:05:00Z"))
        wait_until("two pages", lambda: m.counts("page")["done"] == 2)
        assert m.counts("page")["dropped"] == 1, m.counts("page")  # cancelled: it is resolved
        got = [page for page in pages(pager) if page.startswith("DiskFull")]
        assert set(got[:-1]) == {"DiskFull firing"} and got[-1] == "DiskFull resolved", got
        assert pages(pager).count("Slow firing") == 1, pages(pager)
        wait_until("the mail is settled", lambda: m.counts("mail")["done"] == 1)
        assert len(sent) == 1 and sent[0]["Subject"] == "critical: DiskFull at db-1", sent
        assert "all about DiskFull" in sent[0].get_content(), sent[0].get_content()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Alertmanager:
    """A real one that notifies @p url, in @p path; alerts go in over its API."""

    def __init__(self, path, url):
        if shutil.which("prometheus-alertmanager") is None:
            raise Skip("Alertmanager is not installed (package prometheus-alertmanager)")
        (path / "am.yml").write_text(json.dumps({
            "route": {"receiver": "bus", "group_by": ["alertname"], "group_wait": "0s",
                      "group_interval": "1s"},
            "receivers": [{"name": "bus", "webhook_configs": [{"url": url}]}]}))
        self.port = free_port()
        with open(path / "am.log", "wb") as log:
            self.process = subprocess.Popen(
                ["prometheus-alertmanager", "--config.file=%s" % (path / "am.yml"),
                 "--storage.path=%s" % path, "--web.listen-address=127.0.0.1:%d" % self.port,
                 "--cluster.listen-address="], stdout=log, stderr=log)

    def __enter__(self):
        return self

    def post(self, *alerts):
        """Whether it took them."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/api/v2/alerts", json.dumps(alerts),
                               {"Content-Type": "application/json"})
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def __exit__(self, *what):
        self.process.kill()
        self.process.wait()


def test_alerting_with_a_real_alertmanager():
    with folder() as path, mail.Server() as post, Service() as pager, \
            Example("alerting", {9000: pager.port, 2525: post.port}) as m, \
            Alertmanager(path, "http://127.0.0.1:%d%s" % (m.port, ALERTS)) as am:
        fires = {k: v for k, v in alert("DiskFull").items() if k != "status"}
        wait_until("Alertmanager", lambda: am.post(fires))
        wait_until("the page", lambda: "DiskFull firing" in pages(pager))
        assert am.post({**fires, "endsAt": "2026-01-05T10:05:00Z"})
        wait_until("the resolution", lambda: "DiskFull resolved" in pages(pager))
        assert pages(pager)[-1] == "DiskFull resolved", pages(pager)
        wait_until("one mail", lambda: len(post.mails()) >= 1)


def test_iot_a_thousand_devices_keep_their_order():
    with Broker(PERSIST="1") as broker, Example("iot", {1883: broker.port}) as m:
        wait_until("the subscription", lambda: subscribed(m))
        listener = ["mosquitto_sub", "-p", str(broker.port), "-c", "-i", "listener", "-q", "1",
                    "-t", "results/#"]
        subprocess.run(listener + ["-E"], check=True)  # the session is there before the results are
        with Devices(broker, 1000, 4) as devices:
            devices.finish()
            out = subprocess.run(
                listener + ["-C", str(devices.total), "-W", "60", "-F", "%t %p"],
                stdout=subprocess.PIPE, text=True, check=False).stdout.splitlines()
        got = collections.defaultdict(list)
        for line in out:
            topic, result = line.split(" ", 1)
            got[topic].append(json.loads(result)["reading"]["n"])
        assert len(got) == 1000, len(got)
        for d in range(1000):
            topic = "results/plant/%d/temp" % d
            first_seen = list(dict.fromkeys(got[topic]))  # the broker may repeat, not reorder
            assert first_seen == ["plant/%d-%d" % (d, n) for n in range(4)], (topic, got[topic])
        wait_until("all settled", lambda: m.counts("results")["done"] == 4000)
        assert m.counts("readings")["done"] == 4000, m.counts("readings")


class Merchants(Served):
    """Takes orders: {merchant: [ids]}. Nobody is there until it is `open`."""

    def __init__(self):
        taken = self.taken = collections.defaultdict(list)

        class Merchant(self.Handler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                taken[self.path[1:]].append(self.headers["ce-id"])
                self.send_response(204)
                self.end_headers()

        class Server(self.Quiet):
            request_queue_size = 1024
        self.server = Server(("127.0.0.1", 0), Merchant, bind_and_activate=False)
        self.server.server_bind()  # bound and not listening: connections are refused
        self.port = self.server.server_address[1]
        self.opened = False

    def open(self):
        self.server.server_activate()
        self.opened = True
        return super().__enter__()

    def __enter__(self):
        return self

    def __exit__(self, *what):
        if self.opened:
            self.server.shutdown()
        self.server.server_close()


def test_orders_reach_a_thousand_merchants_though_one_is_down():
    sent = ["o%d" % n for n in range(3)]
    with Merchants() as merchants, Merchants() as down, \
            Example("orders", {9000: merchants.port, 9666: down.port}) as m:
        merchants.open()
        for id in sent:
            m.post(event(id, subject="customer-7"), "/orders")
        wait_until("all others", lambda: sum(len(set(ids)) for ids in
                                             list(merchants.taken.values())) == 999 * 3)
        assert set(merchants.taken) == {"m%04d" % n for n in range(1000)} - {"m0666"}
        assert all(list(dict.fromkeys(ids)) == sent for ids in merchants.taken.values())
        counts = wait_until("three wait", lambda: m.counts("m0666")["waiting"] == 3 and
                            m.counts("m0666"))
        assert counts["done"] == counts["dead"] == 0, counts
        assert m.delivery("o0", "m0666")["attempts"] == [], m.delivery("o0", "m0666")
        assert m.delivery("o0", "m0667")["state"] == "done"
        joined = m.folder / "joined.jsonl"
        assert not joined.exists() or joined.read_text() == "", joined.read_text()
        down.open()
        wait_until("the last one's", lambda: m.counts("m0666")["done"] == 3)
        assert dict(down.taken) == {"m0666": sent}, down.taken
        told = wait_until("all three told", lambda: m.counts("joined")["done"] == 3 and
                          [json.loads(line) for line in joined.read_text().splitlines()])
        assert {e["data"]["event"]["id"] for e in told} == set(sent), told
        for one in told:
            results = one["data"]["results"]
            assert one["data"]["complete"] is True and len(results) == 1000, one["data"]["complete"]
            assert {r["state"] for r in results.values()} == {"done"}, results


def test_the_merchants_are_as_their_script_writes_them():
    written = subprocess.run([sys.executable, EXAMPLES / "orders" / "merchants.py", "--yaml"],
                             stdout=subprocess.PIPE, text=True, check=True).stdout
    assert written == (EXAMPLES / "orders" / "merchants.yaml").read_text(), \
        "merchants.py --yaml > merchants.yaml"


if __name__ == "__main__":
    main()
