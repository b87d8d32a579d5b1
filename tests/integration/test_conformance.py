"""Every sample of the shared conformance material through `millrace normalise`: what each row of
expected.jsonl says, and every other payload of those folders through its adapter and `auto`. Then
our own samples in tests/data/adapters, whose cases.jsonl says what each must give.

Prints a line for each row; `N passed, N failed, N skipped` at the end. MR_SHARED_DIR names the
material; what is not there is skipped.
"""
import base64
import calendar
import fnmatch
import json
import os
import pathlib
import re
import sys
import tempfile
import time

from support import ROOT, cli

SHARED = pathlib.Path(os.environ.get("MR_SHARED_DIR") or ROOT.parent / "shared") / "conformance"
OWN = ROOT / "tests" / "data" / "adapters"
ATTRIBUTES = ("id", "source", "type", "subject", "time", "datacontenttype")
SOURCE = "test"  # what the expected sources are written for

# kind of a row -> arguments; {file} is the sample's path without its ending
KINDS = {
    "ce-json": ["--as", "cloudevents"],
    "s3-direct": ["--as", "s3"], "s3-sqs": ["--as", "s3"], "s3-sns": ["--as", "s3"],
    "s3-eventbridge": ["--as", "s3"], "minio": ["--as", "s3"], "ceph": ["--as", "s3"],
    "sns": ["--as", "sns"], "eventbridge": ["--as", "eventbridge"],
    "kafka-record": ["--as", "kafka"],
    "amqp-message": ["--as", "amqp"],
    "jms-message": ["--as", "auto"],
    "alibaba-oss": ["--as", "oss"], "alibaba-eventbridge": ["--as", "oss"],
    "gcs-pubsub": ["--as", "gcs"], "gcf-legacy": ["--as", "gcf"],
    "azure-blob": ["--as", "azure-blob"], "tencent-cos": ["--as", "cos"],
    "alertmanager": ["--as", "alertmanager"], "k8s-event": ["--as", "k8s"],
    "grafana": ["--as", "grafana"],
    "mqtt": ["--as", "mqtt"],
    "github": ["--as", "github", "--headers", "{file}.headers"],
    "cdevents": ["--as", "cdevents"],
}
# The text of these says base64 and holds a placeholder: a strict decoder must refuse them.
REFUSED = ("ce-spec-examples/json-format-01.json", "ce-spec-examples/json-format-07.json")
# Folders whose every payload must be taken, by their adapter and by auto.
FOLDERS = {
    "storage/aws-*": "s3", "storage/minio*": "s3", "storage/ceph*": "s3",
    "storage/alibaba*": "oss", "storage/tencent*": "cos", "storage/huawei*": "obs",
    "storage/gcs*": "gcs", "storage/azure*": "azure-blob",
    "alerts/alertmanager*": "alertmanager", "alerts/grafana*": "grafana",
    "github*": "github", "gitlab*": "gitlab", "k8s*": "k8s", "mqtt*": "mqtt",
    "cdevents/conformance*": "cdevents", "orders*": "", "aws*": "",
}


def instant(text):
    """Nanoseconds since 1970 of an RFC 3339 text."""
    found = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?"
                         r"(?:[Zz]|([+-])(\d\d):(\d\d))", text)
    assert found, "no timestamp: %r" % text
    parts = [int(part) for part in found.groups()[:6]]
    seconds = calendar.timegm(tuple(parts) + (0, 0, 0))
    if found[8]:
        shift = int(found[9]) * 3600 + int(found[10]) * 60
        seconds -= shift if found[8] == "+" else -shift
    return seconds * 10**9 + int((found[7] or "").ljust(9, "0")[:9] or 0)


def compare(event, expected, began):
    for name in ATTRIBUTES:
        value, wanted = event.get(name), expected.get(name)
        if wanted is not None and wanted.startswith("<"):
            if wanted == "<receive time>":
                taken = instant(value)
                assert began - 2 * 10**9 <= taken <= time.time_ns() + 10**9, \
                    "time is %s and not the receive time" % value
            elif wanted == "<same as id>":
                assert value == event["id"], "%s is %r, not the id" % (name, value)
            elif "/" in wanted:  # <hash …>/rest
                rest = wanted[wanted.index(">") + 1:]
                assert value.endswith(rest) and len(value) > len(rest), (name, value)
            else:
                assert value, "%s is missing" % name
        elif name == "time" and wanted is not None and value is not None:
            assert instant(value) == instant(wanted), "time: %s is not %s" % (value, wanted)
        elif name == "time" and wanted is None and "recordedtime" in event:
            pass  # adapters always give one
        else:
            assert value == wanted, "%s: %r is not %r" % (name, value, wanted)


def run(arguments, payload):
    result = cli("normalise", *arguments, input=payload)
    assert result.code in (0, 65), "exit %d: %s" % (result.code, result.err)
    assert (result.code == 0) or (result.err.strip() and not result.out), \
        "refused without a reason, or with output"
    return result


def data_of(event):
    if "data_base64" in event:
        return base64.b64decode(event["data_base64"])
    return event.get("data")


def check_row(row):
    path = SHARED / row["file"]
    payload, wanted = path, row["events"]
    if row["file"].endswith("-expected.json"):  # pairs: the event made of the other file
        payload = path.with_name(path.name.replace("-expected", "-input"))
    arguments = list(KINDS.get(row["kind"], []))
    if row["kind"] == "order":
        adapter = "shopify" if "shopify" in row["file"] else "stripe"
        arguments = ["--as", adapter, "--headers", "{file}.headers"]
    assert arguments, "an unknown kind: %s" % row["kind"]
    arguments = [part.replace("{file}", str(path.with_suffix(""))) for part in arguments]
    arguments += ["--name", SOURCE]
    began = time.time_ns()
    result = run(arguments, payload.read_bytes())
    if row["file"] in REFUSED:
        assert result.code == 65 and "base64" in result.err, result.err
        return
    assert result.code == 0, result.err
    events = result.lines()
    assert len(events) == len(wanted), "%d events, not %d" % (len(events), len(wanted))
    for event, expected in zip(events, wanted):
        compare(event, expected, began)
        assert event["specversion"] == "1.0"
    check_data(row, path, payload, events)


def check_data(row, path, payload, events):
    document = json.loads(payload.read_bytes())
    if row["kind"] == "gcf-legacy":
        assert data_of(events[0]) == json.loads(path.read_bytes())["data"]
    elif row["kind"] in ("s3-direct", "minio", "tencent-cos") and "Records" in document:
        assert [data_of(event) for event in events] == document["Records"]
    elif row["kind"] in ("alertmanager", "grafana"):
        assert [data_of(event) for event in events] == document["alerts"]
    elif row["kind"] in ("github", "order", "k8s-event", "cdevents"):
        assert data_of(events[0]) == document
    elif row["kind"] in ("eventbridge", "s3-eventbridge"):
        assert data_of(events[0]) == document["detail"]
    elif row["kind"] == "alibaba-oss":
        assert [data_of(event) for event in events] == document["events"]


def check_sample(path, adapter):
    """Taken, and by auto not taken for anything else."""
    name = path.relative_to(SHARED).as_posix()
    arguments = ["--as", adapter, "--name", SOURCE]
    headers = path.with_suffix(".headers")
    if headers.exists():
        arguments += ["--headers", headers]
    if name.startswith("mqtt"):
        arguments += ["--message"] if b'"topic"' in path.read_bytes() else ["--topic", "a/b"]
    result = run(arguments, path.read_bytes())
    assert result.code == 0, result.err
    events = result.lines()
    assert events, "no events of %s" % name
    for event in events:
        assert not event["type"].startswith("io.millrace."), "taken for %s" % event["type"]


def sample_checks():
    for path in sorted(SHARED.rglob("*.json")):
        name = path.relative_to(SHARED).as_posix()
        for pattern, adapter in FOLDERS.items():
            if not fnmatch.fnmatch(name, pattern + "/*") and not fnmatch.fnmatch(name, pattern):
                continue
            for word in ([adapter] if adapter else []) + ["auto"]:
                yield "%s as %s" % (name, word), lambda p=path, w=word: check_sample(p, w)
            break


def json_kit_checks():
    """The format tests: what they call valid is taken, what they call invalid is not."""
    for kind, code in (("valid-events", 0), ("invalid-events", 65), ("valid-batches", 0),
                       ("invalid-batches", 65)):
        path = SHARED / "ce-format-json" / (kind + ".json")
        if not path.exists():
            continue
        for test in json.loads(path.read_text())["tests"]:
            def check(test=test, code=code):
                payload = json.dumps(test.get("event", test.get("batch"))).encode()
                result = run(["--as", "cloudevents"], payload)
                assert result.code == code, "exit %d: %s" % (result.code, result.err or result.out)
            yield "%s %s" % (kind, test["id"]), check
    for path in sorted((SHARED / "ce-sdk-json").rglob("*.json")):
        name = path.relative_to(SHARED).as_posix()
        if "/v03/" in name or "fail" in name or "upper_case" in name:
            def check(path=path):
                assert run(["--as", "cloudevents"], path.read_bytes()).code == 65
            yield name + " is refused", check


def own_checks():
    """cases.jsonl: {"name", "as": […], "body" (text, or JSON), "body_hex" or "body_repeat", "headers", and
    "events" (with "more" members and a "data_text" of the output) or what it is "refused" with}"""
    for number, line in enumerate((OWN / "cases.jsonl").read_text().splitlines(), 1):
        if line:
            case = json.loads(line)
            for word in case["as"]:
                yield "own %s as %s" % (case["name"], word), \
                    lambda c=case, w=word: check_own(c, w)


def check_own(case, adapter):
    if "body_repeat" in case:  # before, what is repeated, how often, behind
        before, part, times, behind = case["body_repeat"]
        payload = (before + part * times + behind).encode()
    elif "body_hex" in case:
        payload = bytes.fromhex(case["body_hex"])
    else:
        payload = case["body"].encode() if isinstance(case["body"], str) \
            else json.dumps(case["body"]).encode()
    arguments = ["--as", adapter, "--name", SOURCE]
    if "headers" in case:
        lines = "".join("%s: %s\n" % pair for pair in case["headers"].items())
        path = pathlib.Path(FOLDER) / "headers"
        path.write_text(lines)
        arguments += ["--headers", path]
    began = time.time_ns()
    result = run(arguments, payload)
    if "refused" in case:
        assert result.code == 65, "taken: %s" % result.out
        assert case["refused"] in result.err, result.err
        return
    assert result.code == 0, result.err
    events = result.lines()
    assert len(events) == len(case["events"]), "%d events: %s" % (len(events), result.out)
    for event, wanted in zip(events, case["events"]):
        compare(event, wanted, began)
        for name, value in wanted.get("more", {}).items():
            assert event.get(name) == value, "%s: %r is not %r" % (name, event.get(name), value)
        if "data_text" in wanted:
            assert wanted["data_text"] in result.out, result.out


def main():
    global FOLDER
    checks = list(own_checks())
    skipped = 0
    if (SHARED / "expected.jsonl").exists():
        for line in (SHARED / "expected.jsonl").read_text().splitlines():
            row = json.loads(line)
            checks.append(("%s %s" % (row["kind"], row["file"]), lambda r=row: check_row(r)))
        checks += list(json_kit_checks()) + list(sample_checks())
    else:
        print("SKIPPED: %s is not there" % SHARED)
        skipped = 1
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="mr-") as FOLDER:
        for name, check in checks:
            if len(sys.argv) > 1 and not any(word in name for word in sys.argv[1:]):
                continue
            try:
                check()
                passed += 1
                print("pass %s" % name)
            except Exception as why:
                failed += 1
                print("FAIL %s: %s" % (name, why or type(why).__name__))
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
