"""Object stores and queues of one's own for Python tests, and a client that speaks to them; it signs
by the published rules on its own, so that our signing is checked by somebody else's.

    with Minio() as store:
        store.make_bucket("lake")
        store.put("lake", "a/b.txt", b"hello")
"""
import datetime
import hashlib
import hmac
import http.client
import json
import re
import ssl
import urllib.parse

import rabbit
from server import Server
from support import wait_until


class Store(Server):
    """One of minio.sh, sqs.sh, ceph-rgw.sh; settings have their whole names."""

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.port


def quote(text, safe="-._~"):
    return urllib.parse.quote(text, safe=safe)


def digest(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signature(method, path, query, headers, body, key, secret, region, service):
    """The Authorization header by the rules of AWS Signature Version 4."""
    date = headers["x-amz-date"]
    names = sorted(name for name in headers)
    canonical = "\n".join([method, path, query, *("%s:%s" % (n, headers[n]) for n in names), "",
                           ";".join(names), hashlib.sha256(body).hexdigest()])
    scope = "%s/%s/%s/aws4_request" % (date[:8], region, service)
    to_sign = "AWS4-HMAC-SHA256\n%s\n%s\n%s" % (
        date, scope, hashlib.sha256(canonical.encode()).hexdigest())
    k = ("AWS4" + secret).encode()
    for part in (date[:8], region, service, "aws4_request"):
        k = digest(k, part)
    return "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" % (
        key, scope, ";".join(names), digest(k, to_sign).hex())


class Caller(Store):
    key, secret, region, service = "AKIDTEST", "SECRETTEST", "us-east-1", "s3"
    context = None  # TLS

    def call(self, method, path, query=None, body=b"", headers=None, service=None):
        """(status, headers, body) of one signed request; the path is not encoded yet."""
        path = quote(path, "/-._~")
        query = "&".join("%s=%s" % (quote(n), quote(v)) for n, v in sorted((query or {}).items()))
        now = datetime.datetime.now(datetime.timezone.utc)
        sent = {"host": "127.0.0.1:%d" % self.port, "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
                "x-amz-content-sha256": hashlib.sha256(body).hexdigest(), **(headers or {})}
        sent["authorization"] = signature(method, path, query, sent, body, self.key, self.secret,
                                          self.region, service or self.service)
        if self.context is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        else:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30,
                                                     context=self.context)
        try:
            connection.request(method, path + ("?" + query if query else ""), body, sent)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def must(self, *arguments, **more):
        status, headers, body = self.call(*arguments, **more)
        assert status < 300, (arguments, status, body[:400])
        return headers, body

    def make_bucket(self, name):
        self.must("PUT", "/" + name)

    def put(self, bucket, key, body, content_type="application/octet-stream"):
        self.must("PUT", "/%s/%s" % (bucket, key), body=body, headers={"content-type": content_type})

    def get(self, bucket, key):
        """(headers, body), or None when it is not there."""
        status, headers, body = self.call("GET", "/%s/%s" % (bucket, key))
        assert status in (200, 404), (status, body)
        return (headers, body) if status == 200 else None

    def delete(self, bucket, key):
        self.must("DELETE", "/%s/%s" % (bucket, key))

    def keys(self, bucket):
        _, body = self.must("GET", "/" + bucket, {"list-type": "2", "encoding-type": "url"})
        return [urllib.parse.unquote_plus(k) for k in re.findall("<Key>(.*?)</Key>", body.decode())]


def document(kind, arn):
    return ("<NotificationConfiguration><%sConfiguration><Id>n</Id><%s>%s</%s>"
            "<Event>s3:ObjectCreated:*</Event><Event>s3:ObjectRemoved:*</Event></%sConfiguration>"
            "</NotificationConfiguration>" % (kind, kind, arn, kind, kind)).encode()


class Minio(Caller):
    """Settings go to minio.sh; targets={"WEBHOOK": {"ENDPOINT": url}, …} are its notification
    targets, each with the identifier 1; region is checked when it is given."""
    script = "minio.sh"
    key = secret = "minioadmin"

    def __init__(self, targets=None, region=None, **settings):
        super().__init__(**settings)
        variables = []
        for kind, values in (targets or {}).items():
            for name, value in {"ENABLE": "on", **values}.items():
                variables.append("MINIO_NOTIFY_%s_%s_1=%s" % (kind, name, value))
        variables += ["MINIO_SITE_REGION=" + region] if region else []  # else any region is right
        self.settings["MINIO_ENV"] = " ".join(variables)

    def start(self):
        super().start()
        if "MINIO_TLS" in self.settings:
            self.context = ssl._create_unverified_context()
        # It is ready a little before it is initialised.
        wait_until("MinIO", lambda: self.call("GET", "/")[0] == 200)

    def notify(self, bucket, kind):
        self.must("PUT", "/" + bucket, {"notification": ""},
                  document("Queue", "arn:minio:sqs::1:" + kind))


class Ceph(Caller):
    script, region = "ceph-rgw.sh", "default"

    def topic(self, name, endpoint, **attributes):
        entries = {"push-endpoint": endpoint, **{n.replace("_", "-"): v for n, v in attributes.items()}}
        form = {"Action": "CreateTopic", "Name": name}
        for n, (key, value) in enumerate(entries.items(), 1):
            form["Attributes.entry.%d.key" % n] = key
            form["Attributes.entry.%d.value" % n] = value
        self.must("POST", "/", body=urllib.parse.urlencode(form).encode(),
                  headers={"content-type": "application/x-www-form-urlencoded"})

    def notify(self, bucket, topic):
        self.must("PUT", "/" + bucket, {"notification": ""},
                  document("Topic", "arn:aws:sns:default::" + topic))


class Queues(Caller):
    """An SQS server."""
    script, service = "sqs.sh", "sqs"

    def sqs(self, action, **arguments):
        _, body = self.must("POST", "/", body=json.dumps(arguments).encode(), service="sqs", headers={
            "content-type": "application/x-amz-json-1.0", "x-amz-target": "AmazonSQS." + action})
        return json.loads(body or b"{}")

    def make_queue(self, name, **attributes):
        return self.sqs("CreateQueue", QueueName=name, Attributes=attributes)["QueueUrl"]

    def send(self, queue, *bodies):
        for first in range(0, len(bodies), 10):
            entries = [{"Id": str(n), "MessageBody": body}
                       for n, body in enumerate(bodies[first:first + 10])]
            assert not self.sqs("SendMessageBatch", QueueUrl=queue, Entries=entries).get("Failed")

    def left(self, queue):
        """Messages in the queue: (to be had, received and not deleted)."""
        found = self.sqs("GetQueueAttributes", QueueUrl=queue, AttributeNames=["All"])["Attributes"]
        return (int(found["ApproximateNumberOfMessages"]),
                int(found["ApproximateNumberOfMessagesNotVisible"]))


class Elasticmq(Queues):
    words = ("elasticmq",)


class Moto(Queues):
    """S3 and SQS; the events of a bucket go to a queue."""
    words = ("moto",)

    def call(self, method, path, *arguments, **more):
        service = more.pop("service", None) or ("s3" if path != "/" else "sqs")
        headers = more.pop("headers", None) or {"content-type": "application/octet-stream"}
        return super().call(method, path, *arguments, service=service, headers=headers, **more)

    def notify(self, bucket, queue):
        self.must("PUT", "/" + bucket, {"notification": ""},
                  document("Queue", "arn:aws:sqs:us-east-1:123456789012:" + queue))


class Rabbitmq(rabbit.Server):
    """A broker that stores send their notifications to."""

    @property
    def amqp_url(self):
        return "amqp://guest:guest@127.0.0.1:%d" % self.port


def record(bucket, key, n=0):
    """A notification as AWS sends it."""
    return json.dumps({"Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1",
        "eventTime": "2026-11-21T03:23:04.664Z", "eventName": "ObjectCreated:Put",
        "responseElements": {"x-amz-request-id": "R%d" % n, "x-amz-id-2": "I"},
        "s3": {"s3SchemaVersion": "1.0", "configurationId": "n",
               "bucket": {"name": bucket, "arn": "arn:aws:s3:::" + bucket},
               "object": {"key": urllib.parse.quote_plus(key, safe="/"), "size": 5,
                          "eTag": "5d41402abc4b2a76b9719d911017c592"}}}]})
