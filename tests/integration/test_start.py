"""What a long start says while the log is read, and how it ends. A lease on a segment makes whoever
opens it wait: so the start stands still for as long as it is looked at."""
import fcntl

from support import *

LEASE, LEASED = 1024, 1025  # fcntl: F_SETLEASE, F_GETLEASE
WAITING = {"sources": {"in": http_source()},
           "workers": {"w": {"http": {"url": "http://127.0.0.1:9/"}}},
           "subscriptions": {"s": {"to": "w", "retry": {"schedule": ["1h"]}}}}


class Gate:
    def __init__(self, path):
        self.file = os.open(path, os.O_RDONLY)
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # comes with each who waits
        wait_until("nobody else has %s open" % path, self.close)

    def close(self):
        try:
            fcntl.fcntl(self.file, LEASE, fcntl.F_WRLCK)
            return True
        except BlockingIOError:
            return False
        except OSError as error:
            raise Skip("no leases here: %s" % error)

    def is_met(self):
        return fcntl.fcntl(self.file, LEASED) != fcntl.F_WRLCK

    def open(self):
        fcntl.fcntl(self.file, LEASE, fcntl.F_UNLCK)
        os.close(self.file)


def leave_log(m):
    """A log of some segments, as a crash leaves it; the paths of those that are full."""
    for first in range(0, 300, 10):
        m.post([event("e%d" % i, data="x" * 100_000) for i in range(first, first + 10)])
    m.stop(signal.SIGKILL)
    m.process.stdout.close()
    segments = sorted((m.folder / "data" / "log").glob("seg-*"))
    assert len(segments) >= 7, segments
    return segments[:6]


def says(m, path):
    """(status, Retry-After, text) of the administrative socket."""
    connection = http.client.HTTPConnection("localhost", timeout=DEADLINE_S)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(DEADLINE_S)
    try:
        connection.sock.connect(str(m.folder / "data" / "millrace.sock"))
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Retry-After"], answer.read().decode()
    finally:
        connection.close()


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def percent(m):
    status, _, text = says(m, "/readyz")
    found = re.fullmatch(r"starting: log (\d+) % of \d+\.\d MiB read\n", text)
    assert status == 503 and found, (status, text)
    return int(found.group(1))


def pass_index(gates, segments, middle):
    """Lets the start list the segments; it stands before the first one is read, and will before
    that in the middle and before the last."""
    first, last = gates
    wait_until("the first header is wanted", first.is_met)
    first.open()
    wait_until("the last header is wanted", last.is_met)
    first = Gate(segments[0])
    last.open()
    wait_until("the first is read", first.is_met)
    gates[:] = [first, Gate(segments[middle]), Gate(segments[-1])]


def test_start_tells_how_far_it_is_and_answers_meanwhile():
    with Instance(WAITING) as m:
        segments = leave_log(m)
        gates = [Gate(segments[0]), Gate(segments[-1])]
        m.launch()
        wait_until("the first header is wanted", gates[0].is_met)
        assert says(m, "/livez") == (200, None, "ok\n")
        assert says(m, "/readyz") == (503, "1", "starting\n")
        pass_index(gates, segments, 3)
        gates[0].open()
        wait_until("some is read", gates[1].is_met)
        before = percent(m)
        gates[1].open()
        wait_until("more is read", gates[2].is_met)
        after = percent(m)
        assert 0 <= before < after < 100, (before, after)
        assert says(m, "/livez")[0] == 200
        assert "\nmillrace_ready 0\n" in says(m, "/metrics")[2]
        status, retry, text = says(m, "/api/v1/status")
        assert status == 503 and retry == "1" and json.loads(text)["error"].startswith("starting: ")
        told = m.cli("status")
        assert told.code == 1 and "starting: log %d %%" % after in told.err, (told.code, told.err)
        gates[2].open()
        m.wait_ready()
        assert "log open: 300 events" in m.log.read_text()
        assert m.http("GET", "/nothing")[0] == 404
        m.post(event("after"))


def test_sigterm_while_the_log_is_read_ends_the_start():
    with Instance(WAITING) as m:
        segments = leave_log(m)
        before = {path.name: path.read_bytes() for path in (m.folder / "data" / "log").iterdir()}
        gate = Gate(segments[2])
        m.launch()
        wait_until("a header is wanted", gate.is_met)
        m.process.send_signal(signal.SIGTERM)
        gate.open()
        assert m.process.wait(timeout=DEADLINE_S) == 0
        assert m.process.stdout.read() == b""
        m.process.stdout.close()
        assert "stopped while the log was read" in m.log.read_text()
        after = {path.name: path.read_bytes() for path in (m.folder / "data" / "log").iterdir()}
        assert before == after
        assert not (m.folder / "data" / "millrace.sock").exists()
        m.start()
        assert "log open: 300 events" in m.log.read_text()


def test_log_that_cannot_be_opened_ends_the_start_with_its_reason():
    with Instance(WAITING) as m:
        m.stop()
        m.process.stdout.close()
        segment = sorted((m.folder / "data" / "log").glob("seg-*"))[0]
        block = bytearray(segment.read_bytes()[:64])
        block[8:12] = (99).to_bytes(4, "little")
        with open(segment, "r+b") as file:
            file.write(block + crc32c(block).to_bytes(4, "little"))
        m.launch()
        assert m.process.wait(timeout=DEADLINE_S) == 65
        m.process.stdout.close()
        assert "was written by a later version of Millrace (format 99" in m.log.read_text()
        assert not (m.folder / "data" / "millrace.sock").exists()


if __name__ == "__main__":
    main()
