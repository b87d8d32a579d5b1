"""HTTP clients that post each of their requests again until it is answered 202, as webhooks do.

    senders = Senders(lambda: ("127.0.0.1", m.port), "a")
    senders.finish()              each has its 202: senders.wanted() must be in the log
    senders.over.set()            in the end, also when something failed
"""
import contextlib
import http.client
import threading
import time

from support import DEADLINE_S


class Senders:
    """@p count threads post @p each requests of @p size bytes one after the other to address();
    `within()` is entered by each thread first. What has a 202 is in `accepted`, `busy` counts the
    503 with a Retry-After, `failures` the requests without an answer."""

    def __init__(self, address, name, count=8, each=25, size=500, timeout=5, path="/in",
                 within=contextlib.nullcontext):
        self.address, self.name, self.each, self.path = address, name, each, path
        self.body, self.timeout, self.within = "x" * size, timeout, within
        self.over, self.mu = threading.Event(), threading.Lock()
        self.accepted, self.failures, self.repeated, self.busy = set(), 0, 0, 0  # under mu
        self.threads = [threading.Thread(target=self.send, args=(i,), daemon=True)
                        for i in range(count)]
        for thread in self.threads:
            thread.start()

    def wanted(self):
        return {"%s-%d-%d" % (self.name, i, k)
                for i in range(len(self.threads)) for k in range(self.each)}

    def send(self, i):
        connection = None
        with self.within():
            for k in range(self.each):
                id, tries, accepted = "%s-%d-%d" % (self.name, i, k), 0, False
                while not accepted and not self.over.is_set():
                    tries += 1
                    connection, accepted = self.post(connection, id)
                with self.mu:
                    self.repeated += tries > 1
                    self.accepted.update([id] if accepted else [])

    def post(self, connection, id):
        """(the connection to go on with, whether it was a 202)"""
        try:
            connection = connection or http.client.HTTPConnection(*self.address(),
                                                                  timeout=self.timeout)
            connection.request("POST", self.path, self.body, {"Idempotency-Key": id})
            answer = connection.getresponse()
            answer.read()
            if answer.status == 503 and answer.headers["Retry-After"]:
                with self.mu:
                    self.busy += 1
                self.over.wait(0.05)  # sooner than it was asked to come
            return connection, answer.status == 202
        except (OSError, http.client.HTTPException):
            connection.close()
            with self.mu:
                self.failures += 1
            self.over.wait(0.02)
            return None, False

    def finish(self, seconds=DEADLINE_S):
        end = time.monotonic() + seconds
        for thread in self.threads:
            thread.join(max(0, end - time.monotonic()))
            assert not thread.is_alive(), "a sender got no 202"
