"""The sqs source on a real SQS server: what enters is deleted after the durable write and not before,
nothing is lost when Millrace is killed at any step, the server frozen, or the log full."""
import base64
import json
import os
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
from support import Instance, Skip, main, wait_until
from objects import Elasticmq, record


def to_file(queue, **more):
    options = {"via": "sqs", "url": queue, "region": "us-east-1", "access_key": "K",
               "secret_key": "S", "wait": "1s", "visibility": "5s", **more}
    return {"sources": {"lake": {"objectstore": options}},
            "sinks": {"out": {"file": {"path": "out"}}},
            "subscriptions": {"all": {"to": "out"}}}


def bodies(first, count):
    return [record("b", "k%d" % n, n) for n in range(first, first + count)]


def arrived(m):
    """How often each subject came."""
    path = pathlib.Path(m.folder) / "out"
    times = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            subject = json.loads(line)["subject"]
        except ValueError:
            continue  # being written
        times[subject] = times.get(subject, 0) + 1
    return times


def wanted(first, count):
    return {"k%d" % n for n in range(first, first + count)}


def source(m):
    return m.ask_lines("source", "list")[0]


def rejected(m, count):
    """The dead letters of ingest when there are so many; before the first there is no such list."""
    result = m.cli("dlq", "list", "ingest:lake", "-o", "json")
    assert result.code in (0, 3), (result.code, result.err)
    return result.lines() if len(result.lines()) == count else None


def wait_empty(server, queue):
    wait_until("an empty queue", lambda: server.left(queue) == (0, 0))


def test_each_message_enters_once_and_is_deleted():
    with Elasticmq() as server:
        queue = server.make_queue("q")
        server.send(queue, *bodies(0, 200))
        with Instance(to_file(queue)) as m:
            wait_until("all", lambda: wanted(0, 200) <= arrived(m).keys())
            wait_empty(server, queue)
            server.send(queue, *bodies(200, 5))  # wakes a waiting poll
            wait_until("five more", lambda: wanted(200, 5) <= arrived(m).keys(), 5)
            assert set(arrived(m).values()) == {1}
            assert source(m)["health"] == "ok", source(m)


def test_wrapped_control_and_unreadable_messages():
    with Elasticmq() as server:
        queue = server.make_queue("q")
        by_sns = json.dumps({"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:r:1:t",
                             "Message": record("b", "by-sns"), "Timestamp": "2026-01-02T03:04:05Z"})
        by_bridge = json.dumps({
            "version": "0", "id": "e1", "detail-type": "Object Created", "source": "aws.s3",
            "account": "1", "time": "2026-01-02T03:04:05Z", "region": "us-east-1", "resources": [],
            "detail": {"bucket": {"name": "b"}, "object": {"key": "by-bridge", "size": 1}}})
        test_event = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b",
                                 "Time": "2026-01-02T03:04:05Z"})
        server.send(queue, test_event, by_sns, by_bridge, "no JSON at all", '{"Records": [1]}')
        with Instance(to_file(queue)) as m:
            letters = wait_until("two dead letters", lambda: rejected(m, 2))
            wait_until("both wrapped ones", lambda: {"by-sns", "by-bridge"} <= arrived(m).keys())
            wait_empty(server, queue)
            raw = sorted(base64.b64decode(x["event"]["data_base64"]).decode()
                         if "data_base64" in x["event"] else str(x["event"]["data"]) for x in letters)
            assert any("no JSON at all" in r for r in raw), letters
            assert set(arrived(m)) == {"by-sns", "by-bridge"}, arrived(m)


def test_pause_leaves_messages_to_the_queue():
    with Elasticmq() as server:
        queue = server.make_queue("q")
        with Instance(to_file(queue, wait="2s")) as m:
            wait_until("a poll", lambda: source(m)["health"] == "ok")
            m.ask("source", "pause", "lake")
            server.send(queue, *bodies(0, 30))
            # The polls that were waiting bring some, which are given back at once.
            wait_until("all of them back", lambda: server.left(queue) == (30, 0))
            assert not arrived(m)
            m.ask("source", "resume", "lake")
            wait_until("all", lambda: wanted(0, 30) <= arrived(m).keys())
            wait_empty(server, queue)
            assert set(arrived(m).values()) == {1}


def test_stop_deletes_what_is_durable_and_gives_back_the_rest():
    with Elasticmq() as server:
        queue = server.make_queue("q")
        with Instance(to_file(queue, visibility="12h")) as m:
            wait_until("a poll", lambda: source(m)["health"] == "ok")
            server.send(queue, *bodies(0, 300))
            wait_until("some", lambda: len(arrived(m)) > 20)
            assert m.stop() == 0
            m.process.stdout.close()
            held = server.left(queue)
            m.start()
            # An aborted poll may have taken messages with it, hidden now for 12 hours.
            wait_until("what is to be had", lambda: len(arrived(m)) >= 300 - held[1])
            assert set(arrived(m).values()) == {1}, held


def test_killed_while_messages_flow():
    with Elasticmq() as server:
        queue = server.make_queue("q")
        with Instance(to_file(queue, visibility="2s")) as m:
            for n in range(4):
                server.send(queue, *bodies(100 * n, 100))
                wait_until("some", lambda: wanted(100 * n, 100) & arrived(m).keys())
                m.stop(signal.SIGKILL)
                m.process.stdout.close()
                m.start()
            wait_until("all", lambda: wanted(0, 400) <= arrived(m).keys())
            wait_empty(server, queue)
            print("    %d repeated" % (sum(arrived(m).values()) - 400))


# Where x-amz-target stands in a call that is not signed: all before it has a fixed size.
DELETE_AT = len("POST / HTTP/1.1\r\nHost: 127.0.0.1:12345\r\nAccept: */*\r\n"
                "content-type: application/x-amz-json-1.0\r\nx-amz-content-sha256: ") + 64 + len(
    "\r\nx-amz-date: 20260102T030405Z\r\nx-amz-target: AmazonSQS.")


def die_at(step, moments):
    shim = os.environ.get("MR_STEPS")
    if not shim:
        raise Skip("no shim to die with: a sanitizer build")
    with Elasticmq() as server:
        queue = server.make_queue("q")
        config = to_file(queue, visibility="2s", wait="1s")
        del config["sources"]["lake"]["objectstore"]["access_key"]
        del config["sources"]["lake"]["objectstore"]["secret_key"]
        with Instance(config, start=False) as m:
            arm = m.folder / "arm"
            for n, at in enumerate(moments):
                m.env = {"LD_PRELOAD": shim, "MR_STEP": step, "MR_STEP_AT": str(at),
                         "MR_STEP_ARM": str(arm),
                         "MR_STEP_ACK": "%d:%s" % (DELETE_AT, b"DeleteMessageBatch".hex())}
                m.start()
                wait_until("a poll", lambda: source(m)["health"] == "ok")
                arm.touch()
                server.send(queue, *bodies(100 * n, 100))
                assert m.process.wait(30) == -signal.SIGKILL, m.process.returncode
                m.process.stdout.close()
                arm.unlink()
                m.env = {}
                m.start()
                wait_until("all of %s %d" % (step, at),
                           lambda: wanted(100 * n, 100) <= arrived(m).keys())
                wait_empty(server, queue)
                assert m.stop() == 0
                m.process.stdout.close()
            repeated = sum(arrived(m).values()) - 100 * len(moments)
            print("    %d kills, %d repeated" % (len(moments), repeated))
            return repeated


def test_killed_before_the_append():
    die_at("append", (1, 3))


def test_killed_between_the_durable_write_and_the_delete():
    assert die_at("durable", (1, 3)) > 0


def test_killed_before_a_delete_leaves():
    assert die_at("ack", (1, 4)) > 0


def test_killed_after_a_delete_left():
    die_at("acked", (1, 4))


def test_a_frozen_server_is_survived():
    with Elasticmq() as server:
        queue = server.make_queue("q")
        with Instance(to_file(queue, connect_timeout="1s")) as m:
            server.send(queue, *bodies(0, 50))
            wait_until("all", lambda: wanted(0, 50) <= arrived(m).keys())
            pid = int((pathlib.Path(server.folder) / "pid").read_text())
            os.kill(pid, signal.SIGSTOP)
            try:
                wait_until("the trouble", lambda: source(m)["health"] != "ok", 60)
                assert "timed out" in source(m)["last_error"], source(m)
            finally:
                os.kill(pid, signal.SIGCONT)
            server.send(queue, *bodies(50, 50))
            wait_until("the rest", lambda: wanted(0, 100) <= arrived(m).keys(), 60)
            assert source(m)["health"] == "ok"


def test_a_dead_server_and_a_missing_queue_are_told():
    with Elasticmq() as server:
        queue = server.make_queue("q")
        with Instance(to_file(queue)) as m:
            wait_until("a poll", lambda: source(m)["health"] == "ok")
            server.kill()
            wait_until("down", lambda: source(m)["health"] == "down")
            assert "cannot receive" in source(m)["last_error"], source(m)
            server.start()  # without the queue: it keeps nothing
            wait_until("no queue", lambda: "no such queue" in source(m)["last_error"])
            server.make_queue("q")
            server.send(queue, *bodies(0, 10))
            wait_until("all", lambda: wanted(0, 10) <= arrived(m).keys(), 60)


if __name__ == "__main__":
    main()
