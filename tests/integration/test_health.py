"""Health checks of HTTP receivers: while one is out, deliveries wait and spend nothing."""
from support import Instance, Served, event, http_source, main, wait_until


class Receiver(Served):
    """Answers checks with `health`, and takes deliveries."""

    def __init__(self):
        self.health, self.checks, self.ids = 503, 0, []
        receiver = self

        class Handler(self.Handler):
            def answer(self, status):
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self):
                assert self.path == "/healthz?deep=1", self.path
                receiver.checks += 1
                self.answer(receiver.health)

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                receiver.ids.append(self.headers["ce-id"])
                self.answer(204)

        super().__init__(Handler)


def config(receiver, **health):
    return {"sources": {"shop": http_source()},
            "workers": {"w": {"http": {"url": "http://127.0.0.1:%d/events" % receiver.port,
                                       "health": {"path": "/healthz?deep=1", "interval": "20ms",
                                                  "failures": 2, **health}}}},
            "subscriptions": {"s": {"to": "w"}}}


def waits(m, id):
    delivery = m.delivery(id, "s")
    return delivery if delivery["blocked_on"] == "no instance" else None


def test_who_is_not_well_gets_nothing_and_costs_no_attempt():
    with Receiver() as receiver, Instance(config(receiver)) as m:
        m.post(event("early"))
        wait_until("some checks", lambda: receiver.checks >= 3)
        assert waits(m, "early")["attempts"] == [] and receiver.ids == [], receiver.ids
        shown = m.ask("worker", "show", "w")
        assert shown["health"] == "down", shown
        assert shown["last_error"] == "the health check failed: HTTP 503 of /healthz?deep=1", shown
        receiver.health = 200
        assert len(m.wait_state("early", "s", "done")["attempts"]) == 1
        wait_until("well", lambda: m.ask("worker", "show", "w")["health"] == "ok")
        receiver.health = 500
        wait_until("out", lambda: m.ask("worker", "show", "w")["slots"] == 0)
        m.post(event("late"))
        wait_until("it waits", lambda: waits(m, "late"))
        receiver.health = 204
        late = m.wait_state("late", "s", "done")
        assert len(late["attempts"]) == 1 and late["refusals"] == 0, late
        assert receiver.ids == ["early", "late"], receiver.ids


def test_one_bad_answer_is_not_enough():
    with Receiver() as receiver, Instance(config(receiver, failures=1000)) as m:
        receiver.health = 200
        m.post(event("a"))
        m.wait_state("a", "s", "done")
        receiver.health = 500
        wait_until("degraded", lambda: m.ask("worker", "show", "w")["health"] == "degraded")
        m.post(event("b"))
        m.wait_state("b", "s", "done")


def test_bad_paths_are_refused():
    with Receiver() as receiver:
        for path in ("healthz", "/a b", "/a#b", ""):
            with Instance(config(receiver, path=path), start=False) as m:
                result = m.cli("check")
                assert result.code != 0 and "health.path" in result.err, (path, result.err)


if __name__ == "__main__":
    main()
