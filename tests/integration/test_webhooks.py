"""Webhooks through the running program: every adapter, every way to prove who one is, what becomes
of a proven sender's rubbish, both handshakes, encodings, and signed deliveries out."""
import base64
import gzip
import hashlib
import hmac
import subprocess
import time

from support import *

SHARED = pathlib.Path(os.environ.get("MR_SHARED_DIR") or ROOT.parent / "shared") / "conformance"
OWN = ROOT / "tests" / "data" / "adapters" / "cases.jsonl"
# Kinds of the shared material that reach us over HTTP, and their adapters.
KINDS = {
    "s3-direct": "s3", "s3-sqs": "s3", "s3-sns": "s3", "s3-eventbridge": "s3", "minio": "s3",
    "sns": "sns", "eventbridge": "eventbridge", "alibaba-oss": "oss", "alibaba-eventbridge": "oss",
    "gcs-pubsub": "gcs", "gcf-legacy": "gcf", "azure-blob": "azure-blob", "tencent-cos": "cos",
    "alertmanager": "alertmanager", "grafana": "grafana", "k8s-event": "k8s", "github": "github",
    "cdevents": "cdevents",
}
ADAPTERS = sorted(set(KINDS.values()) | {"gitlab", "stripe", "shopify", "obs", "generic", "auto"})


def sources(**options):
    return {"sources": {"in": http_source("/in", **options)},
            "sinks": {"out": {"file": {"path": "out.jsonl"}}}, "subscriptions": {"s": {"to": "out"}}}


def received(m, count):
    """The first @count events that reached the file."""
    path = m.folder / "out.jsonl"

    def lines():
        text = path.read_text() if path.exists() else ""
        whole = [line for line in text.split("\n")[:-1] if line]
        return whole if len(whole) >= count else None
    return [json.loads(line) for line in wait_until("%d events" % count, lines)]


def read_headers(path):
    if not path.exists():
        return {"Content-Type": "application/json"}
    return dict(line.split(": ", 1) for line in path.read_text().splitlines() if ": " in line)


# --- adapters -----------------------------------------------------------------------------------

def shared_samples():
    """(adapter, name, headers, body, expected events)"""
    if not (SHARED / "expected.jsonl").exists():
        raise Skip("the shared conformance material is not here")
    for line in (SHARED / "expected.jsonl").read_text().splitlines():
        row = json.loads(line)
        adapter = KINDS.get(row["kind"])
        if row["kind"] == "order":
            adapter = "shopify" if "shopify" in row["file"] else "stripe"
        if adapter is not None and "misnested" not in row["file"]:
            path = SHARED / row["file"]
            yield adapter, row["file"], read_headers(path.with_suffix(".headers")), \
                path.read_bytes(), row["events"]


def own_samples(refused):
    for line in OWN.read_text().splitlines():
        row = json.loads(line)
        if row["as"][0] in ADAPTERS and "body" in row and ("refused" in row) == refused:
            body = row["body"] if isinstance(row["body"], str) else json.dumps(row["body"])
            headers = {"Content-Type": "application/json"}
            headers.update(row.get("headers") or {})
            yield row["as"][0], row["name"], headers, body.encode(), row.get("events")


def agrees(event, expected):
    for name in ("id", "type", "subject"):
        wanted = expected.get(name)
        if wanted is not None and not wanted.startswith("<") and event.get(name) != wanted:
            return False
    return True


def run_samples(samples):
    config = {"sources": {a: http_source("/" + a, adapter=a) for a in ADAPTERS},
              "sinks": {"out": {"file": {"path": "out.jsonl"}}}, "subscriptions": {"s": {"to": "out"}}}
    with Instance(config) as m:
        total = 0
        for adapter, name, headers, body, expected in samples:
            status, _, text = m.http("POST", "/" + adapter, body, headers)
            assert status in (200, 202), (adapter, name, status, text)
            answer = json.loads(text)
            if status == 200:
                assert expected == [], (name, text)
                continue
            answer = answer if isinstance(answer, list) else [answer]
            assert len(answer) == len(expected), (adapter, name, text)
            total += len(expected)
            events = received(m, total)[-len(expected):] if expected else []
            for event, wanted, told in zip(events, expected, answer):
                assert agrees(event, wanted), (adapter, name, event, wanted)
                assert told["id"] == event["id"], (adapter, name, told, event)
        assert total > 10, total


def test_shared_samples_of_every_adapter():
    run_samples(shared_samples())


def test_own_samples_of_every_adapter():
    run_samples(own_samples(False))


def test_own_refused_samples_get_400():
    with Instance({"sources": {a: http_source("/" + a, adapter=a) for a in ADAPTERS}}) as m:
        count = 0
        for adapter, name, headers, body, _ in own_samples(True):
            status, _, text = m.http("POST", "/" + adapter, body, headers)
            assert status in (400, 413, 415), (adapter, name, status, text)
            assert json.loads(text)["error"], text
            count += 1
        assert count > 5, count


def test_event_grid_validation_is_answered():
    body = json.dumps([{"id": "1", "topic": "/t", "subject": "", "eventTime": "2026-01-01T00:00:00Z",
                        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "dataVersion": "2",
                        "data": {"validationCode": "512d38b6", "validationUrl": "https://rp.example/v"}}])
    with Instance(sources(adapter="azure-blob")) as m:
        status, _, text = m.http("POST", "/in", body, {"aeg-event-type": "SubscriptionValidation"})
        assert (status, json.loads(text)) == (200, {"validationResponse": "512d38b6"}), (status, text)


def test_generic_by_paths_and_idempotency_key():
    paths = {"id": "order.id", "type": "kind", "subject": "order.customer", "time": "at"}
    with Instance(sources(adapter="generic", paths=paths)) as m:
        body = json.dumps({"order": {"id": "o-7", "customer": "c1"}, "kind": "com.example.order",
                           "at": "2026-01-02T03:04:05Z"})
        assert m.http("POST", "/in", body, {"Content-Type": "application/json"})[0] == 202
        first = received(m, 1)[0]
        assert (first["id"], first["type"], first["subject"], first["time"]) == \
            ("o-7", "com.example.order", "c1", "2026-01-02T03:04:05Z"), first
        for key, sent in (("k-1", "k-1"), ("k-2", '"k-2"')):
            answer = m.http("POST", "/in", "plain", {"Content-Type": "text/plain", "Idempotency-Key": sent})
            assert json.loads(answer[2])["id"] == key, answer
        answer = m.http("POST", "/in", "plain", {"webhook-id": "msg_9"})
        assert json.loads(answer[2])["id"] == "msg_9", answer


# --- who sent it --------------------------------------------------------------------------------

def hex_hmac(key, body):
    return hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def b64_hmac(key, body):
    return base64.b64encode(hmac.new(key, body, hashlib.sha256).digest()).decode()


STANDARD_OLD, STANDARD_NEW = b"o" * 24, b"n" * 32


def whsec(key):
    return "whsec_" + base64.b64encode(key).decode()


def standard(key, body, at=None, id="msg_1"):
    stamp = str(int(at if at is not None else time.time()))
    return {"webhook-id": id, "webhook-timestamp": stamp,
            "webhook-signature": "v1," + b64_hmac(key, ("%s.%s." % (id, stamp)).encode() + body)}


def stripe(key, body, at=None):
    stamp = str(int(at if at is not None else time.time()))
    return {"Stripe-Signature": "t=%s,v1=%s" % (stamp, hex_hmac(key, stamp.encode() + b"." + body))}


def basic(text):
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


# scheme -> (options, secret, previous, sign(secret, body, at), whether it has a time)
SCHEMES = {
    "github": ({}, "s1", "s0", lambda s, b, at: {"X-Hub-Signature-256": "sha256=" + hex_hmac(s, b)}, False),
    "gitlab": ({}, "s1", "s0", lambda s, b, at: {"X-Gitlab-Token": s}, False),
    "stripe": ({}, "whsec_1", "whsec_0", stripe, True),
    "shopify": ({}, "s1", "s0", lambda s, b, at: {"X-Shopify-Hmac-SHA256": b64_hmac(s.encode(), b)}, False),
    "standard-webhooks": ({}, whsec(STANDARD_NEW), whsec(STANDARD_OLD),
                          lambda s, b, at: standard(base64.b64decode(s[6:]), b, at), True),
    "hmac": ({"header": "X-Sig", "prefix": "v1:", "encoding": "base64"}, "s1", "s0",
             lambda s, b, at: {"X-Sig": "v1:" + b64_hmac(s.encode(), b)}, False),
    "bearer": ({}, "s1", "s0", lambda s, b, at: {"Authorization": "Bearer " + s}, False),
    "basic": ({}, "u:p1", "u:p0", lambda s, b, at: basic(s), False),
}


def test_every_scheme_good_bad_old_and_rotated():
    config = {"sources": {}}
    env = {}
    for number, (scheme, (options, secret, previous, _, _)) in enumerate(SCHEMES.items()):
        env["S%d" % number], env["P%d" % number] = secret, previous
        config["sources"][scheme] = http_source("/" + scheme, adapter="generic", verify={
            "scheme": scheme, "secret": "${env:S%d}" % number,
            "previous_secret": "${env:P%d}" % number, **options})
    body = b'{"a": 1}'
    with Instance(config, env=env) as m:
        for scheme, (_, secret, previous, sign, timed) in SCHEMES.items():
            def post(headers, sent=body):
                status, _, text = m.http("POST", "/" + scheme, sent,
                                         {"Content-Type": "application/json", **headers})
                assert status in (202, 401), (scheme, status, text)
                assert status == 202 or text == '{"error":"unauthorized"}\n', text
                return status
            assert post(sign(secret, body, None)) == 202, scheme
            assert post(sign(previous, body, None)) == 202, scheme
            assert post({}) == 401, scheme
            wrong = whsec(b"w" * 24) if scheme == "standard-webhooks" else "wrong:x"
            assert post(sign(wrong, body, None)) == 401, scheme
            if scheme not in ("gitlab", "bearer", "basic"):
                assert post(sign(secret, body, None), b'{"a": 2}') == 401, scheme  # on another body
            if timed:
                assert post(sign(secret, body, time.time() - 290)) == 202, scheme
                assert post(sign(secret, body, time.time() - 310)) == 401, scheme  # replayed
                assert post(sign(secret, body, time.time() + 310)) == 401, scheme
            # Nothing else is said to who is not known: not the size, not the method, not the format.
            assert m.http("POST", "/" + scheme, "x" * (3 << 20))[0] == 401, scheme
            assert m.http("PUT", "/" + scheme, "x")[0] == 401, scheme
        assert "s1" not in m.log.read_text()


def test_proven_rubbish_is_a_dead_letter_and_unproven_a_400():
    verify = {"scheme": "github", "secret": "s1"}
    config = {"sources": {"hook": http_source("/hook", adapter="github", verify=verify),
                          "open": http_source("/open", adapter="github")}}
    body = b"{ this is no JSON"
    headers = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "d-1",
               "X-Hub-Signature-256": "sha256=" + hex_hmac("s1", body)}
    with Instance(config) as m:
        status, _, text = m.http("POST", "/hook", body, headers)
        assert status == 202 and json.loads(text)["rejected"], (status, text)
        letters = wait_until("the dead letter", lambda: m.letters("ingest:hook"))
        assert len(letters) == 1 and letters[0]["reason"], letters
        raw = letters[0]["event"]
        data = base64.b64decode(raw["data_base64"]) if "data_base64" in raw else raw["data"].encode()
        assert data == body, raw
        status, _, text = m.http("POST", "/open", body, headers)
        assert status == 400 and json.loads(text)["error"], (status, text)
        # An encoding that is not taken, from one who proved himself.
        packed = gzip.compress(b"{}")
        status, _, _ = m.http("POST", "/hook", packed, {
            **headers, "Content-Encoding": "gzip", "X-Hub-Signature-256": "sha256=" + hex_hmac("s1", packed)})
        assert status == 202, status
        assert m.http("POST", "/open", packed, {**headers, "Content-Encoding": "gzip"})[0] == 415
        wait_until("both", lambda: len(m.letters("ingest:hook")) == 2)
        assert m.metrics()["millrace_conservation_ok"] == 1


# --- encodings ----------------------------------------------------------------------------------

def test_gzip_is_decoded_bounded_and_signed_as_sent():
    verify = {"scheme": "hmac", "secret": "s1", "header": "X-Sig"}
    with Instance(sources(adapter="generic", decode="gzip")) as m:
        packed = gzip.compress(b'{"a": 1}')
        head = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        assert m.http("POST", "/in", packed, head)[0] == 202
        assert received(m, 1)[0]["data"] == {"a": 1}
        assert m.http("POST", "/in", packed[:-4], head)[0] == 400
        assert m.http("POST", "/in", b"not gzip", head)[0] == 400
        assert m.http("POST", "/in", gzip.compress(b"x" * (64 << 20)), head)[0] == 413
        for other in ("br", "zstd", "deflate"):
            assert m.http("POST", "/in", packed, {**head, "Content-Encoding": other})[0] == 415, other
        assert m.metrics()["process_resident_memory_bytes"] < 400 << 20
    with Instance(sources(adapter="generic", decode=["gzip", "zstd"], verify=verify)) as m:
        head["X-Sig"] = hex_hmac("s1", packed)
        assert m.http("POST", "/in", packed, head)[0] == 202  # over the raw bytes
        assert received(m, 1)[0]["data"] == {"a": 1}
        head["X-Sig"] = hex_hmac("s1", b'{"a": 1}')
        assert m.http("POST", "/in", packed, head)[0] == 401


# --- SNS ----------------------------------------------------------------------------------------

def sns_sign(key, message):
    names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join("%s\n%s\n" % (n, message[n]) for n in names if n in message)
    done = subprocess.run(["openssl", "dgst", "-sha256", "-sign", str(key)], input=text.encode(),
                          capture_output=True, check=True)
    return json.dumps({**message, "SignatureVersion": "2",
                       "Signature": base64.b64encode(done.stdout).decode(),
                       "SigningCertURL": "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem"})


def test_sns_is_verified_confirmed_and_delivered():
    if not shutil.which("openssl"):
        raise Skip("openssl is not installed")
    with folder() as keys, Recorder() as topic:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=sns.test",
                        "-keyout", str(keys / "key.pem"), "-out", str(keys / "cert.pem"), "-days", "2"],
                       capture_output=True, check=True)
        arn = "arn:aws:sns:us-east-1:123456789012:orders"
        verify = {"scheme": "sns", "certificate": str(keys / "cert.pem"), "topics": [arn]}
        with Instance(sources(adapter="sns", verify=verify, confirm=True)) as m:
            ask = {"Type": "SubscriptionConfirmation", "MessageId": "c-1", "Token": "t", "TopicArn": arn,
                   "Message": "You have chosen to subscribe", "Timestamp": "2026-01-02T03:04:05.000Z",
                   "SubscribeURL": "http://127.0.0.1:%d/?Action=ConfirmSubscription&Token=t" % topic.port}
            good = sns_sign(keys / "key.pem", ask)
            bad = json.dumps({**json.loads(good), "SubscribeURL": "http://127.0.0.1:%d/evil" % topic.port})
            kind = {"x-amz-sns-message-type": "SubscriptionConfirmation", "Content-Type": "text/plain"}
            assert m.http("POST", "/in", bad, kind)[0] == 401
            assert m.http("POST", "/in", "no JSON", kind)[0] == 401
            status, _, text = m.http("POST", "/in", good, kind)
            assert status == 202, (status, text)
            wait_until("the confirmation", lambda: topic.requests)
            assert topic.requests == [("GET", "/?Action=ConfirmSubscription&Token=t")], topic.requests
            note = {"Type": "Notification", "MessageId": "n-1", "TopicArn": arn, "Subject": "Hi",
                    "Message": "an order", "Timestamp": "2026-01-02T03:04:05.000Z"}
            assert m.http("POST", "/in", sns_sign(keys / "key.pem", note), kind)[0] == 202
            assert [e["id"] for e in received(m, 2)] == ["c-1", "n-1"]
            other = {**note, "TopicArn": arn + "-of-another"}
            assert m.http("POST", "/in", sns_sign(keys / "key.pem", other), kind)[0] == 401
            forged = {**json.loads(sns_sign(keys / "key.pem", note)), "Message": "another"}
            assert m.http("POST", "/in", json.dumps(forged), kind)[0] == 401


# --- handshakes ---------------------------------------------------------------------------------

class Recorder(Served):
    """Answers OPTIONS as told, 200 to all else, and remembers what came."""

    def __init__(self, allow=None):
        self.requests, self.allow, self.posts = [], allow, []
        recorder = self

        class Handler(self.Handler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                recorder.requests.append((self.command, self.path))
                if self.command == "POST":
                    recorder.posts.append((dict(self.headers.items()), body))
                self.send_response(200)
                if self.command == "OPTIONS":
                    for name, value in (recorder.allow or {}).items():
                        self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST = do_OPTIONS = answer

        super().__init__(Handler)


def test_handshake_of_a_source():
    with Instance(sources(handshake={"origins": ["good.example"], "rate": 120})) as m:
        status, headers, _ = m.http("OPTIONS", "/in", headers={"WebHook-Request-Origin": "good.example",
                                                               "WebHook-Request-Rate": "1000"})
        assert status == 200 and headers["WebHook-Allowed-Origin"] == "good.example", dict(headers)
        assert headers["WebHook-Allowed-Rate"] == "120" and "POST" in headers["Allow"], dict(headers)
        for origin in ({}, {"WebHook-Request-Origin": "evil.example"},
                       {"WebHook-Request-Origin": "good.example.evil.net"}):
            _, headers, _ = m.http("OPTIONS", "/in", headers=origin)
            assert "WebHook-Allowed-Origin" not in headers, dict(headers)
        def post(origin):
            return m.http("POST", "/in", json.dumps(event("h")),
                          {"Content-Type": CLOUDEVENT, **({"WebHook-Request-Origin": origin} if origin else {})})
        assert post("good.example")[0] == 202
        assert post("evil.example")[0] == 403
        answers = [post("good.example") for _ in range(40)]
        refused = [a for a in answers if a[0] == 429]
        assert refused and int(refused[0][1]["Retry-After"]) >= 1, answers
        assert post(None)[0] == 202
    with Instance(sources()) as m:
        assert m.http("OPTIONS", "/in", headers={"WebHook-Request-Origin": "good.example"})[0] == 405


def sink(port, **options):
    return {"sources": {"in": http_source()},
            "sinks": {"hook": {"http": {"url": "http://127.0.0.1:%d/hook?x=1" % port, **options}}},
            "subscriptions": {"s": {"to": "hook", "retry": {"schedule": ["10ms"], "jitter": "none"}}}}


def test_handshake_of_a_sink():
    with Recorder() as hook:
        with Instance(sink(hook.port, handshake=True, origin="bus.example")) as m:
            m.post(event("a"))
            wait_until("it asked", lambda: hook.requests)
            def waits():
                said = m.delivery("a", "s")
                return said is not None and said["state"] == "waiting" and said["blocked_on"] == "no instance"
            wait_until("it waits", waits)
            assert hook.requests[0] == ("OPTIONS", "/hook?x=1"), hook.requests
            hook.allow = {"WebHook-Allowed-Origin": "other.example"}  # not ours
            asked = len(hook.requests)
            wait_until("it asks again", lambda: len(hook.requests) > asked)
            assert not hook.posts
            hook.allow = {"WebHook-Allowed-Origin": "bus.example", "WebHook-Allowed-Rate": "6000"}
            m.wait_state("a", "s", "done")
            assert hook.posts[0][0]["WebHook-Request-Origin"] == "bus.example", hook.posts


def test_granted_rate_is_kept_without_spending_attempts():
    with Recorder({"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "300"}) as hook:
        with Instance(sink(hook.port, handshake=True)) as m:
            begin = time.monotonic()
            for i in range(40):
                m.post(event("r%d" % i))
            wait_until("all done", lambda: m.counts("s")["done"] == 40)
            # 30 at once, then five a second.
            assert time.monotonic() - begin > 1.5
            assert len(hook.posts) == 40, len(hook.posts)
            assert m.counts("s")["dead"] == 0


# --- signed deliveries --------------------------------------------------------------------------

def test_sink_signs_with_both_secrets_and_a_source_takes_it():
    verify = {"scheme": "standard-webhooks", "secret": "${env:OLD}"}
    env = {"OLD": whsec(STANDARD_OLD), "NEW": whsec(STANDARD_NEW)}
    with Recorder() as hook, Instance(sources(verify=verify), env=env) as receiver:
        config = sink(hook.port, sign={"secret": "${env:NEW}", "previous_secret": "${env:OLD}"})
        config["sinks"]["next"] = {"http": {"url": "http://127.0.0.1:%d/in" % receiver.port, "mode": "structured",
                                           "sign": {"secret": "${env:NEW}", "previous_secret": "${env:OLD}"}}}
        config["subscriptions"]["b"] = {"to": "next"}
        with Instance(config, env=env) as m:
            m.post(event("signed", data={"a": 1}))
            m.wait_state("signed", "s", "done")
            m.wait_state("signed", "b", "done")
            assert received(receiver, 1)[0]["id"] == "signed"
        headers, body = hook.posts[0]
        id, stamp = headers["webhook-id"], headers["webhook-timestamp"]
        assert id == headers["Idempotency-Key"] and abs(int(stamp) - time.time()) < 60
        text = ("%s.%s." % (id, stamp)).encode() + body
        assert headers["webhook-signature"].split(" ") == \
            ["v1," + b64_hmac(STANDARD_NEW, text), "v1," + b64_hmac(STANDARD_OLD, text)], headers


def test_batch_mode_and_egress_policy():
    with Recorder() as hook:
        config = sink(hook.port, mode="batch")
        config["sinks"]["closed"] = {"http": {"url": "http://127.0.0.1:%d/x" % hook.port, "egress": "public"}}
        config["sinks"]["named"] = {"http": {"url": "http://localhost:%d/x" % hook.port, "egress": "public"}}
        config["subscriptions"]["c"] = {"to": "closed"}
        config["subscriptions"]["n"] = {"to": "named"}
        with Instance(config) as m:
            m.post(event("b1", data=1))
            m.wait_state("b1", "s", "done")
            headers, body = hook.posts[0]
            assert headers["Content-Type"].startswith(BATCH) and json.loads(body)[0]["id"] == "b1", body
            def said():
                errors = [w["last_error"] or "" for w in m.ask_lines("worker", "list")]
                return len([e for e in errors if "public internet" in e]) == 2
            wait_until("both say why", said)
            assert [path for _, path in hook.requests] == ["/hook?x=1"], hook.requests


if __name__ == "__main__":
    main()
