"""`target_health`: how workers and sinks are, told as events."""

from support import Instance, Service, event, http_source, json_lines, main, wait_until

RETRY = {"schedule": ["100ms"] * 3 + ["1s"] * 60, "jitter": "none"}
TELL = {"tell.sh": "#!/bin/sh\ncat >> told\necho >> told\n"}


def config(hold="200ms", **more):
    return {"target_health": hold, "sources": {"in": http_source()},
            "subscriptions": {"s": {"source": "in", "to": "w", "retry": RETRY},
                              "alert": {"filter": {"prefix": {"type": "io.millrace.target."}},
                                        "to": "tell"}}, **more}


def workers(w):
    return {"w": w, "tell": {"exec": {"command": ["./tell.sh"]}, "concurrency": 1}}


def told(m):
    return sorted((e for e in json_lines(m.folder / "told") if e["subject"] == "w"),
                  key=lambda e: e["time"])


def states(m):
    return [e["type"].removeprefix("io.millrace.target.") for e in told(m)]


def test_a_target_that_fails_is_paused_and_recovers_and_loses_nothing():
    status = [500]
    with Service(lambda request: (status[0], {}, b"")) as service:
        worker = {"http": {"url": "http://127.0.0.1:%d/" % service.port}, "concurrency": 4,
                  "breaker": {"percent": 50, "calls": 4, "open": "1s"}}
        with Instance(config(workers=workers(worker)), TELL) as m:
            for i in range(20):
                m.post(event("e%d" % i))
            paused = wait_until("paused", lambda: [e for e in told(m) if "paused" in e["type"]])[0]
            assert paused["source"] == "/millrace/targets", paused
            data = paused["data"]
            assert data["state"] == "paused" and data["target"] == "w", data
            assert data["before"] in ("recovered", "degraded"), data
            assert data["since"] <= paused["time"] and "next_try" in data, data
            assert data["waiting"] > 0, data
            status[0] = 200
            wait_until("recovered", lambda: states(m)[-1] == "recovered")
            recovered = told(m)[-1]["data"]
            assert recovered["before"] == "paused" and recovered["error"] is None, recovered
            wait_until("all of them", lambda: m.counts("s")["done"] == 20)
            assert m.counts("s")["dead"] == 0, m.counts("s")
            seen = states(m)
            assert all(a != b for a, b in zip(seen, seen[1:])), seen  # each told once


def test_a_worker_that_cannot_start_is_failing_until_a_reload_mends_it():
    broken = {"process": {"command": ["python3", "absent.py"]}}
    with Instance(config(workers=workers(broken)), {**TELL, "w.py": """import millrace
def handle(event, context):
    pass
millrace.run(handle)
"""}) as m:
        m.post(event("one"))
        failing = wait_until("failing", lambda: [e for e in told(m) if "failing" in e["type"]])[0]
        assert failing["data"]["error"], failing
        m.write_config(config(workers=workers({"process": {"command": ["python3", "w.py"]}})))
        m.ask("reload")
        wait_until("recovered", lambda: states(m)[-1] == "recovered")
        m.wait_state("one", "s", "done")


def test_what_is_over_sooner_is_not_told():
    status = [500]
    with Service(lambda request: (status[0], {}, b"")) as service:
        worker = {"http": {"url": "http://127.0.0.1:%d/" % service.port},
                  "breaker": {"percent": 50, "calls": 2, "open": "100ms"}}
        with Instance(config(hold="1h", workers=workers(worker)), TELL) as m:
            for i in range(4):
                m.post(event("e%d" % i))
            wait_until("an open breaker",
                       lambda: m.ask_lines("worker", "show", "w")[0]["breaker_open"])
            status[0] = 200
            wait_until("all of them", lambda: m.counts("s")["done"] == 4)
            assert m.counts("alert")["matched"] == 0 and told(m) == []


if __name__ == "__main__":
    main()
