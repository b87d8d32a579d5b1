"""`memory.state`: one subscription that is far behind stops, and the others do not notice."""
import signal

from support import *

CONFIG = {
    "memory": {"state": "1MiB"},
    "sources": {"in": http_source()},
    "sinks": {"far": {"file": {"path": "far.jsonl"}},
              **{f"f{i}": {"file": {"path": f"f{i}.jsonl"}} for i in range(4)}},
    "subscriptions": {"far": {"to": "far"}, **{f"s{i}": {"to": f"f{i}"} for i in range(4)}},
}
BATCH_SIZE = 200
BATCHES = 30


def state_of(m):
    memory = m.ask("status")["memory"]
    for name, budget in memory.items():
        assert budget["used"] is None or budget["used"] <= budget["max"], (name, budget)
    people = m.cli("status").out
    told = m.http("GET", "/metrics")[2]
    checked = m.ask("check")["memory_max"]
    for name, budget in memory.items():
        assert re.search(r"^memory\.%s\.max +%d$" % (name, budget["max"]), people, re.M), people
        assert checked[name] == budget["max"], (name, checked, budget)
        assert f'millrace_memory_max_bytes{{budget="{name}"}} {budget["max"]}\n' in told, told
        assert (f'millrace_memory_used_bytes{{budget="{name}"}}' in told) == (budget["used"] is not None), told
    assert 0 < memory["delivery_state"]["used"] <= memory["delivery_state"]["max"] == 1 << 20
    return memory


def test_one_far_behind_is_alone_with_it():
    with Instance(CONFIG) as m:
        assert m.cli("sub", "pause", "far").code == 0
        for n in range(BATCHES):
            m.post([event(str(n * BATCH_SIZE + i)) for i in range(BATCH_SIZE)])
            state_of(m)
        total = BATCHES * BATCH_SIZE
        for i in range(4):
            wait_until(f"s{i} to be done", lambda: m.counts(f"s{i}")["done"] == total)
        far = m.counts("far")
        assert far["waiting"] == total and far["behind"] > total // 2, far
        assert far["blocked_on"]["memory"] == far["behind"], far
        last = m.ask("why", str(total - 1), "far")
        assert "memory" in json.dumps(last), last
        m.stop(signal.SIGKILL)
        m.start()
        state_of(m)
        assert m.cli("sub", "resume", "far").code == 0
        wait_until("far to catch up", lambda: m.counts("far")["done"] == total)


def test_check_wants_a_share_for_each():
    many = {f"s{i}": {"to": "far"} for i in range(2000)}
    with Instance({**CONFIG, "subscriptions": {"far": {"to": "far"}}}) as m:
        m.write_config({**CONFIG, "subscriptions": many})
        result = m.cli("check")
        assert result.code != 0 and "memory.state is too little for 2000 subscriptions" in result.err, \
            (result.out, result.err)


def test_what_cannot_be_read_is_refused_once_there_is_no_memory_for_it():
    config = {**CONFIG, "sources": {"in": {**http_source(), "validate": {"types": {"bad": "never.json"}}}}}
    batch = {"Content-Type": "application/cloudevents-batch+json"}
    with Instance(config, start=False) as m:
        (m.folder / "never.json").write_text("false")
        m.start()
        refused = None
        for n in range(100):
            events = [event(f"{n}-{i}", "bad", data={}) for i in range(500)]
            status, headers, said = m.http("POST", "/events", json.dumps(events), batch)
            state_of(m)
            if status != 202:
                refused = status, int(headers["Retry-After"]), said
                break
        assert refused is not None and refused[0] == 503 and refused[1] > 0, refused
        m.post(event("good"))
        wait_until("the good one", lambda: m.counts("s0")["done"] == 1)


main()
