"""what-if: what a new filter would have taken; why: with the filters of the time."""
import json

from support import *


def shop(**more):
    return Instance({"sources": {"in": http_source(), "other": http_source("/other")},
                     "workers": {"w": {"exec": {"command": ["true"]}}},
                     "subscriptions": {"orders": {"to": "w", "filter": {"prefix": {"type": "order."}}}},
                     **more})


def what_if(m, *arguments):
    result = m.cli("what-if", *arguments, "-o", "json")
    assert result.code == 0, (result.code, result.out, result.err)
    return result.json()


def test_it_counts_and_shows():
    with shop() as m:
        m.post([event("a1", "order.new", data={"n": 5}), event("a2", "order.gone", data={"n": 50}),
                event("b1", "alert.disk"), event("b2", "alert.disk", "host-7")])
        whole = what_if(m, '{"prefix":{"type":"alert."}}')
        assert (whole["examined"], whole["matched"], whole["unmatched"], whole["more"]) == (4, 2, 2, 0), whole
        assert [e["event"]["id"] for e in whole["events"]] == ["b1", "b2"], whole
        one = whole["events"][1]
        assert one["source"] == "in" and one["event"]["subject"] == "host-7" and one["arrived"] > whole["since"]
        assert m.trace("b2")["offset"] == one["offset"]
        # Data, SQL, several filters, none at all.
        for filter, ids in (('{"data":{"range":{"n":{"gt":10}}}}', ["a2"]),
                            ('[{"sql":"type LIKE \'order.%\'"},{"not":{"exact":{"id":"a1"}}}]', ["a2"]),
                            ("[]", ["a1", "a2", "b1", "b2"])):
            assert [e["event"]["id"] for e in what_if(m, filter)["events"]] == ids, filter
        # A limit bounds what is shown, not what is counted.
        few = what_if(m, "--limit", "1")
        assert (len(few["events"]), few["matched"], few["more"]) == (1, 4, 3), few
        assert what_if(m, "-n", "0")["more"] == 4
        # Of one source alone.
        m.post(event("c1", "alert.disk"), path="/other")
        assert [e["event"]["id"] for e in what_if(m, "--source", "other")["events"]] == ["c1"]
        human = m.cli("what-if", '{"prefix":{"type":"alert."}}', "-n", "1")
        assert human.code == 0 and "3 of 5 events since" in human.out and "(2 more" in human.out, human.out


def test_unmatched_events_are_counted_and_browsable():
    with shop() as m:
        m.post([event("a1", "order.new"), event("b1", "alert.disk"), event("b2", "alert.cpu")])
        whole = what_if(m, "--unmatched")
        assert [e["event"]["id"] for e in whole["events"]] == ["b1", "b2"] and whole["unmatched"] == 2, whole
        assert [e["event"]["id"] for e in what_if(m, '{"suffix":{"type":"cpu"}}', "--unmatched")["events"]] == ["b2"]
        assert m.ask("status")["unmatched"] == 2
        assert m.metrics()["millrace_unmatched_events_total"] == 2


def test_what_is_wrong_is_said():
    with shop() as m:
        for arguments, code, text in ((['{"exac":{}}'], 65, "exac"), (["[]", "--last", "soon"], 65, "soon"),
                                      (["[]", "--last", "0s"], 65, "last"),
                                      (["[]", "--source", "nobody"], 3, "nobody"),
                                      (["[]", "--limit", "x"], 2, "--limit")):
            result = m.cli("what-if", *arguments)
            assert result.code == code and text in result.err, (arguments, result.code, result.err)
        assert m.api("GET", "/api/v1/what-if?limit=1001")[0] == 400
        assert m.api("GET", "/api/v1/what-if?since=x")[0] == 400
        assert m.api("GET", "/api/v1/what-if?segment=x")[0] == 400
        assert what_if(m)["examined"] == 0


def test_a_window_and_a_log_of_many_segments():
    with shop(log={"segment_size": "1MiB"}) as m:
        for i in range(40):
            m.post([event("%d-%d" % (i, k), "bulk", data="x" * 4000) for k in range(20)])
        assert m.ask("status")["log"]["segments"] > 3
        whole = what_if(m, '{"suffix":{"id":"-3"}}')
        assert whole["matched"] == 40 and whole["more"] == 20 and whole["examined"] == 800, whole
        assert [e["event"]["id"] for e in whole["events"]] == ["%d-3" % i for i in range(20)]
        # A terminal sees how far it is, a script does not.
        code, shown = on_terminal(m, "what-if", '{"suffix":{"id":"-3"}}')
        assert code == 0 and "%  " in shown and "40 of 800 events" in shown, shown
        assert "%" not in m.cli("what-if", "[]").err
        # What stands first in a segment is found as well.
        assert {m.cli("trace", "%d-0" % i).code for i in range(40)} == {0}
        # A later window begins in a later segment and leaves out what came before it.
        middle = m.trace("30-0")["arrived"]
        code, page = m.api("GET", "/api/v1/what-if?since=%s" % middle)
        seen, left = page["examined"], page["segments_left"]
        while page["next"]:
            page = m.api("GET", "/api/v1/what-if?since=%s&segment=%d" % (middle, page["next"]))[1]
            seen += page["examined"]
        assert code == 200 and left < 3 and 200 <= seen < 800, (seen, left)


def test_one_type_of_many_is_found_by_footers():
    with shop(log={"segment_size": "1MiB"}) as m:
        m.post([event("r1", "rare", "host-7")])
        for i in range(40):
            m.post([event("%d-%d" % (i, k), "bulk", data="x" * 4000) for k in range(20)])
            if i == 20:
                m.post([event("r2", "rare")])
        m.post([event("r3", "rare")])
        wait_until("footers", lambda: m.ask("status")["log"]["footers"] > 1
                   and m.ask("status")["log"]["footers_pending"] == 0)
        plain = what_if(m, '{"prefix":{"type":"rar"}}')
        assert plain["examined"] == 803 and [e["event"]["id"] for e in plain["events"]] == ["r1", "r2", "r3"], plain
        for filter, ids in (('{"exact":{"type":"rare"}}', ["r1", "r2", "r3"]), ("""{"sql":"type = 'rare'"}""", ["r1", "r2", "r3"]),
                            ('[{"prefix":{"id":"r"}},{"exact":{"subject":"host-7"}}]', ["r1"]), ('{"exact":{"type":"no"}}', [])):
            one = what_if(m, filter)
            # The segment being written is read, of the others the groups of these few.
            assert [e["event"]["id"] for e in one["events"]] == ids and one["examined"] < 600, (filter, one)
        either = what_if(m, '{"any":[{"exact":{"type":"rare"}},{"exact":{"id":"3-3"}}]}')
        assert either["matched"] == 4 and either["examined"] == 803, either
        told = m.ask("replay", "orders", "--last", "1h", "--dry-run", '{"exact":{"type":"rare"}}')
        assert told["examined"] < 600, told


def why(m, id, subscription):
    return m.ask("why", id, subscription)


def test_why_of_the_past_has_the_filters_of_the_past():
    with shop(log={"segment_size": "1MiB"}) as m:
        m.post(event("old", "alert.disk"))
        now = why(m, "old", "orders")
        assert not now["matched"] and now["configuration"] == "present" and '"order."' in now["why"], now
        # Another filter, a new subscription, one that goes.
        m.write_config({"log": {"segment_size": "1MiB"}, "sources": {"in": http_source(), "other": http_source("/other")},
                        "workers": {"w": {"exec": {"command": ["true"]}}},
                        "subscriptions": {"orders": {"to": "w", "filter": {"prefix": {"type": "alert."}}},
                                          "new": {"to": "w", "source": "in"}}})
        assert m.cli("reload").code == 0
        then = why(m, "old", "orders")
        assert then["configuration"] == "past" and then["why"] == now["why"], then
        assert "was not there" in why(m, "old", "new")["why"]
        assert "configuration of its time" in m.cli("why", "old", "orders").out
        assert m.cli("why", "old", "nobody").code == 3
        trace = m.trace("old")
        assert [u["subscription"] for u in trace["unmatched"]] == ["orders"] and trace["configuration"] == "past", trace
        # The snapshot goes on with the log: a reload later, in another segment, after a crash.
        for i in range(30):
            m.post([event("f%d-%d" % (i, k), "bulk", data="x" * 4000) for k in range(20)])
        m.post(event("middle", "order.new"))
        m.stop(signal.SIGKILL)
        m.write_config({"log": {"segment_size": "1MiB"}, "sources": {"in": http_source()},
                        "workers": {"w": {"exec": {"command": ["true"]}}},
                        "subscriptions": {"orders": {"to": "w", "filter": {"exact": {"id": "no"}}}}})
        m.start()
        middle = why(m, "middle", "orders")
        assert middle["configuration"] == "past" and '"alert."' in middle["why"], middle
        assert why(m, "old", "orders")["why"] == now["why"]
        assert why(m, "middle", "new")["matched"]
        m.post(event("last"))
        assert '"no"' in why(m, "last", "orders")["why"]


if __name__ == "__main__":
    main()
