"""`adaptive`: a target gets as many deliveries at once as it bears."""
import json
import threading

from support import Instance, Service, event, http_source, main, wait_until


class Narrow:
    """Does so many at once, each for as long as the others take to come in, and refuses the rest."""

    def __init__(self, bears):
        self.bears = bears
        self.lock = threading.Lock()
        self.busy = self.refused = self.done = self.most = 0

    def __call__(self, request):
        with self.lock:
            if self.busy >= self.bears:
                self.refused += 1
                return 503, {}, b""
            self.busy += 1
            self.most = max(self.most, self.busy)
        threading.Event().wait(0.01)  # the work
        with self.lock:
            self.busy -= 1
            self.done += 1
        return 200, {}, b""


def run(adaptive, count, bears):
    narrow = Narrow(bears)
    with Service(narrow) as service:
        config = {"sources": {"in": http_source()},
                  "workers": {"w": {"http": {"url": "http://127.0.0.1:%d/" % service.port},
                                    "concurrency": 64, "breaker": {"percent": 0}, **adaptive}},
                  "subscriptions": {"s": {"to": "w"}}}
        with Instance(config) as m:
            for first in range(0, count, 100):
                m.http("POST", "/events", json.dumps(
                    [event("e%d" % i) for i in range(first, first + 100)]),
                       {"Content-Type": "application/cloudevents-batch+json"})
            wait_until("all of them", lambda: m.counts("s")["done"] == count, 90)
            return narrow, m.ask_lines("worker", "show", "w")[0], m.counts("s")


def test_it_finds_what_the_target_bears():
    narrow, worker, counts = run({"adaptive": {"min": 1}}, 600, 6)
    assert counts["done"] == 600 and counts["dead"] == 0, counts
    assert 1 <= worker["slots"] <= 64, worker
    assert narrow.done >= 600 and narrow.refused < 300, vars(narrow)


def test_off_it_gets_all_of_its_concurrency():
    narrow, worker, counts = run({}, 200, 64)
    assert counts["done"] == 200, counts
    assert worker["slots"] == 64, worker


if __name__ == "__main__":
    main()
