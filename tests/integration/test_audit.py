"""audit: all that came in is accounted for, and what is not is found."""
import json
import struct

from support import *

WORDS = ("done", "dead", "dropped", "expired", "lost", "held", "waiting", "in_flight", "unknown")
HANDLER = python("""
def handle(event, ctx):
    id = event['id']
    if id.startswith('bad'):
        raise millrace.Dead('no')
    if id.startswith('drop'):
        raise millrace.Drop('not wanted')
    if id.startswith('later'):
        raise millrace.Retry('not yet')""")


def shop(files=None, sources=None, **subscription):
    return Instance({"sources": sources or {"in": http_source()},
                     "workers": {"w": {"process": {"command": ["python3", "w.py"]}}},
                     "subscriptions": {"s": {"to": "w", "retry": {"schedule": ["1h"], "jitter": "none"},
                                             **subscription},
                                       "few": {"to": "w", "filter": {"prefix": {"id": "bad"}}}}},
                    {"w.py": HANDLER, **(files or {})})


def audit(m, *options, code=0):
    result = m.cli("audit", "in", "-o", "json", *options)
    assert result.code == code, (result.code, result.out, result.err)
    lines = result.lines()
    whole = lines[-1]
    assert whole["in"] == sum(whole[word] for word in WORDS), whole
    return whole, lines[:-1]


def test_the_equation_holds():
    with shop() as m:
        m.post([event("a1"), event("a2"), event("bad1"), event("drop1"), event("later1")])
        wait_until("all but one ended", lambda: (lambda c: c["done"] == 2 and c["dead"] == 1 and
                                                 c["dropped"] == 1 and c["waiting"] == 1)(m.counts("s")))
        wait_until("the other too", lambda: m.counts("few")["dead"] == 1)
        whole, _ = audit(m)
        assert {word: whole[word] for word in WORDS if whole[word]} == {
            "done": 2, "dead": 2, "dropped": 1, "waiting": 1}, whole
        assert whole["events"] == 5 and whole["in"] == 6 and whole["gaps"] == [], whole
        assert whole["first_offset"] == 1 and whole["last_offset"] == 5, whole
        # Put back, purged, restarted: it holds still.
        m.cli("dlq", "redrive", "s", "--timeout", "0")
        m.cli("dlq", "purge", "few", "--yes")
        wait_until("dead again", lambda: m.counts("s")["dead_letters"] == 1)
        assert audit(m)[0]["dead"] == 2
        assert m.stop() == 0
        m.start()
        whole, _ = audit(m)
        assert whole["in"] == 6 and whole["waiting"] == 1 and whole["gap_count"] == 0, whole
        human = m.cli("audit", "in")
        assert human.code == 0 and "6 = 2 done + 2 dead + 1 dropped" in human.out, human.out
        assert m.cli("audit", "nobody").code == 3
        assert m.cli("audit", "bus").code == 0


def test_it_holds_while_events_come_and_go():
    with shop() as m:
        for at in range(0, 1000, 50):
            m.post([event("a%d" % i) for i in range(at, at + 50)])
            audit(m)
        wait_until("all done", lambda: m.counts("s")["done"] == 1000)
        assert audit(m)[0]["done"] == 1000


def test_what_waits_behind_the_window_waits():
    with shop(window="64KiB") as m:
        m.cli("sub", "pause", "s")
        for at in range(0, 2000, 100):
            m.post([event("a%d" % i) for i in range(at, at + 100)])
        assert m.counts("s")["behind"] > 0
        whole, _ = audit(m)
        assert whole["waiting"] == 2000, whole


def test_each_position_of_the_source():
    lines = [json.dumps(event("a%d" % i)) for i in range(4)] + ["no event"]
    with shop({"in.jsonl": "\n".join(lines) + "\n"}, {"in": {"file": {"path": "in.jsonl"}}}) as m:
        wait_until("four done", lambda: m.counts("s")["done"] == 4)
        wait_until("the first is refused", lambda: m.cli("sub", "show", "ingest:in").code == 0)
        wait_until("one refused", lambda: m.counts("ingest:in")["dead"] == 1)
        with open(m.folder / "in.jsonl", "a") as file:
            file.write(json.dumps(event("bad9")) + "\n")
        wait_until("the new one", lambda: m.counts("s")["dead"] == 1 and m.counts("few")["dead"] == 1)
        whole, positions = audit(m, "--positions")
        assert whole["events"] == 6 and whole["rejected"] == 1, whole
        assert whole["done"] == 4 and whole["dead"] == 3, whole
        assert len(positions) >= 2 and sum(p["events"] for p in positions) == 6, positions
        assert all(p["position"] is not None for p in positions), positions
        assert positions[-1]["last_offset"] == 6 and positions[-1]["dead"] == 2, positions
        human = m.cli("audit", "in", "--positions")
        assert human.code == 0 and "POSITION" in human.out, human.out


# --- a gap, planted ---------------------------------------------------------------------------------

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def forge(header, free, wanted):
    """Changes 4 bytes of `header` from `free` on so that the checksum of its first 44 is `wanted`."""
    def with_bits(bits):
        return crc32c(header[:free] + struct.pack("<I", bits) + header[free + 4:44])
    base = with_bits(0)
    rows = [(with_bits(1 << i) ^ base, 1 << i) for i in range(32)]
    need, bits = wanted ^ base, 0
    for column in range(32):
        at = next(i for i, (effect, _) in enumerate(rows) if effect >> column & 1)
        effect, made_of = rows.pop(at)
        rows = [(e ^ effect, b ^ made_of) if e >> column & 1 else (e, b) for e, b in rows]
        if need >> column & 1:
            need, bits = need ^ effect, bits ^ made_of
    return header[:free] + struct.pack("<I", bits) + header[free + 4:]


def misdirect_settle(m, offset):
    """The SETTLE record of the event at `offset` says another subscription: with the checksums it
    had, as a bus that settles the wrong delivery would have written it."""
    for path in sorted((m.folder / "data" / "log").glob("seg-*")):
        data = bytearray(path.read_bytes())
        for at in range(4096, len(data) - 48, 8):
            if data[at + 4] != 4 or struct.unpack_from("<Q", data, at + 8)[0] != offset:
                continue
            header = bytes(data[at:at + 48])
            if crc32c(header[:44]) != struct.unpack_from("<I", header, 44)[0]:
                continue
            changed = forge(header[:16] + struct.pack("<I", 1) + header[20:], 32,
                            struct.unpack_from("<I", header, 44)[0])
            assert crc32c(changed[:44]) == crc32c(header[:44])
            with open(path, "r+b") as file:
                file.seek(at)
                file.write(changed)
            return
    raise AssertionError("no settle of %d" % offset)


def test_a_planted_gap_is_found():
    with shop() as m:
        m.post([event("a%d" % i) for i in range(1, 6)])
        wait_until("all done", lambda: m.counts("s")["done"] == 5)
        wait_until("on disk", lambda: audit(m)[0]["done"] == 5)
        misdirect_settle(m, 3)
        whole, _ = audit(m, code=1)
        assert whole["done"] == 4 and whole["unknown"] == 1 and whole["gap_count"] == 1, whole
        (gap,) = whole["gaps"]
        assert gap["offset"] == 3 and gap["subscription"] == "s", gap
        human = m.cli("audit", "in")
        assert human.code == 1 and "gap at offset 3, s: nothing tells" in human.out, human.out


def test_rotten_bytes_are_lost_and_no_gap():
    with shop() as m:
        for i in range(1, 6):
            m.post(event("a%d" % i))  # a group each
        wait_until("all done", lambda: m.counts("s")["done"] == 5)
        wait_until("on disk", lambda: audit(m)[0]["done"] == 5)
        for path in (m.folder / "data" / "log").glob("seg-*"):
            at = path.read_bytes().find(b"a3", 4096)
            if at > 0:
                with open(path, "r+b") as file:
                    file.seek(at)
                    file.write(b"XX")
                break
        whole, _ = audit(m)
        assert whole["events"] == 4 and whole["lost_events"] == 1, whole
        assert whole["done"] == 4, whole


if __name__ == "__main__":
    main()
