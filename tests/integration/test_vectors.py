"""The vectors of the bindings, the published ones and ours, through `millrace normalise` as a user
runs it: recorded messages in, events out, and the other way round."""
import base64
import datetime
import json

from support import *

SHARED = ROOT.parent / "shared" / "conformance"
OURS = ROOT / "tests" / "data" / "vectors"
RAW_TYPES = {"kafka": "dev.knative.kafka.event", "amqp": "dev.knative.rabbitmq.event",
             "mqtt": "org.mqtt.message"}


def vectors(folder, file):
    path = folder / (file + ".json")
    if not path.exists():
        raise Skip("%s is not there" % path)
    return json.loads(path.read_text())


def instant(text):
    return datetime.datetime.fromisoformat(
        re.sub(r"(\.\d{1,6})\d*", r"\1", text.upper()).replace(":60", ":59").replace("Z", "+00:00"))


def same_data(event, want):
    """Whether the event's data is the text `want`; None: it has none."""
    if "data" not in event and "data_base64" not in event:
        return want is None
    if want is None:
        return False
    if "data_base64" in event:
        return base64.b64decode(event["data_base64"]) == want.encode()
    media = event.get("datacontenttype", "application/json").split(";")[0].strip().lower()
    return event["data"] == (json.loads(want) if re.search(r"[/+]json$", media) else want)


def check_event(name, got, want, expect):
    attributes = {k: v for k, v in got.items() if k not in ("data", "data_base64")}
    assert sorted(attributes) == sorted(want), (name, got)
    for key, value in want.items():
        if value == "<generated>" or value == "<receive time>":
            assert attributes[key], (name, got)
        elif key == "time":
            assert instant(attributes[key]) == instant(value), (name, got)
        else:
            assert str(attributes[key]).lower() == str(value).lower(), (name, key, got)
    if "data" in expect:
        assert same_data(got, expect["data"]), (name, got)
    if "data_base64" in expect:
        assert got["data_base64"] == expect["data_base64"], (name, got)


def check_in(adapter, vector, message):
    name, expect = vector["name"], vector["expect"]
    result = cli("normalise", "--as", adapter, "--message", "--name",
                 message.get("source_name", "test"), input=json.dumps(message))
    if expect.get("not_a_cloudevent") and adapter in RAW_TYPES:
        assert result.json()["type"] == RAW_TYPES[adapter], (name, result.out)
    elif expect.get("not_a_cloudevent") or "error" in expect:
        assert result.code == 65 and result.out == "" and len(result.err) > 10, (name, result.err)
    else:
        assert result.code == 0 and result.err == "", (name, result.code, result.err)
        events = expect["events"] if "events" in expect else [expect["event"]]
        got = result.lines()
        assert len(got) == len(events), (name, result.out)
        for one, want in zip(got, events):
            check_event(name, one, want, expect)


def check_out(protocol, name, event, expect, mode="binary"):
    result = cli("normalise", "--to", protocol, "--mode", mode,
                 input=json.dumps(event, separators=(",", ":")))
    assert result.code == 0, (name, result.err)
    got = result.json()
    for key, value in expect.items():
        if key != "headers":
            assert got.get(key) == value, (name, got)
            continue
        for header, text in value.items():
            assert got["headers"].get(header) == text, (name, header, got)


def run(folder, protocol, file):
    done = 0
    for vector in vectors(folder, file):
        message = vector.get("message") or vector.get("request")
        if message is None:
            check_out(protocol, vector["name"], vector["event"], {"headers": vector["headers"]})
        elif "encode" in message:
            check_out(protocol, vector["name"], message, vector["expect"],
                      message.get("mode", "binary"))
        else:
            check_in(protocol, vector, message)
        done += 1
    assert done > 0


def run_all(folder):
    for protocol, file in (("kafka", "kafka"), ("amqp", "amqp"), ("mqtt", "mqtt"),
                           ("nats", "nats"), ("http", "http-decode"), ("http", "http-encode")):
        run(folder, protocol, file)


def test_published_vectors():
    run_all(SHARED / "vectors")


def test_own_vectors():
    run_all(OURS)


def test_what_goes_out_comes_in_again():
    sent = event("1", subject="100% \"\u20ac\" \\", data={"a": [1, None]}, partitionkey="p",
                 n=-5, b=True, time="2018-04-05T04:36:24.123456+02:00")
    for protocol in ("http", "kafka", "amqp", "mqtt"):
        for mode in ("binary", "structured"):
            message = cli("normalise", "--to", protocol, "--mode", mode, input=json.dumps(sent))
            assert message.code == 0, message.err
            back = cli("normalise", "--as", protocol, "--message", input=message.out).json()
            back.pop("datacontenttype", None)  # explicit where it was implied
            if mode == "binary":
                back["n"], back["b"] = int(back["n"]), back["b"] == "true"
            assert back == sent, (protocol, mode, back)


def test_refusals_have_their_exit_codes():
    assert cli("normalise", "--to", "kafka", "--mode", "batch", input="[]").code == 65
    assert cli("normalise", "--to", "fax", input="{}").code == 65
    assert cli("normalise", "--as", "fax", input="{}").code == 65
    assert cli("normalise", "--as", "kafka", "--message", input="[]").code == 65
    assert cli("normalise", "--as", "kafka", "--to", "kafka", input="{}").code == 2


def test_payloads_without_a_recording():
    got = cli("normalise", "--as", "kafka", "--topic", "orders", "--name", "shop", input="x").json()
    assert got["source"] == "/apis/v1/namespaces/shop/kafkasources/src#orders", got
    got = cli("normalise", "--as", "amqp", "--topic", "jobs", input="x").json()
    assert got["source"].endswith("/rabbitmqsources/src#jobs"), got


if __name__ == "__main__":
    main()
