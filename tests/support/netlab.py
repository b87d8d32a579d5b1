"""A network of our own, for tests of what networks do: cuts, delay, loss, slow links, resets.

    net = netlab.own()            from now on this process is on the near side, alone on it; ends
                                  it as skipped when something is not here (root, /dev/net/tun, …)
    with net.far():               what is started here runs on the far side
        broker.start()            … and must listen on net.FAR (not on loopback only)
    net.partition(); net.heal()   nothing arrives, both ends see a silent peer
    net.delay(0.05)               each way;  net.rate(50_000) bytes/s;  net.lose(0.05)
    net.cut_after(100_000)        … once so many more bytes went to the far side: net.is_cut
    net.cut_after(1000, near=True)  … or came to the near side
    net.reset()                   each TCP segment resets its connection, at both ends, until heal()
    net.forget()                  cut, and far processes killed: their connections are gone
    net.expose(port)              the far side finds net.NEAR:port, which listens on loopback only

Two network namespaces, a TAP device in each, and a thread that carries the frames between them:
that is the wire. It needs root and the TUN driver, nothing else, and leaves nothing behind: all of
it goes with the process. Make the Net before any thread is started; processes inherit their side.
"""
import contextlib
import ctypes
import fcntl
import heapq
import itertools
import os
import random
import select
import socket
import struct
import sys
import threading
import time

from support import Skip

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891C
SIOCGIFHWADDR, SIOCSARP = 0x8927, 0x8955
IFF_UP, ATF_COMPLETE_PERMANENT = 1, 0x06
# SYN_RECV: the near side has no connection yet; FIN_WAIT2, TIME_WAIT: it knows that it is over.
NO_CONNECTION = ("03", "05", "06")
QUEUE_MAX = 256 << 10  # bytes a slow link holds before it drops, as a router would
FRAME_MAX = 65536
libc = ctypes.CDLL(None, use_errno=True)


def call(what, result):
    if result != 0:
        raise OSError(ctypes.get_errno(), "%s: %s" % (what, os.strerror(ctypes.get_errno())))


def missing():
    """What is not here, or None. Tries it in a process of its own."""
    if os.geteuid() != 0:
        return "needs root for a network namespace"
    pid = os.fork()
    if pid == 0:
        try:
            call("unshare", libc.unshare(CLONE_NEWNET))
            Tap("try0", "10.77.0.9")
            os._exit(0)
        except OSError:
            os._exit(1)
    return "cannot make a network namespace with a TAP device here" if os.waitpid(pid, 0)[1] else None


def interface(name, request, payload=b""):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return fcntl.ioctl(s, request, struct.pack("16s24s", name.encode(), payload))


def bring_up(name):
    flags = struct.unpack_from("16xH", interface(name, SIOCGIFFLAGS))[0]
    interface(name, SIOCSIFFLAGS, struct.pack("H", flags | IFF_UP))


def address_of(text):
    return struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(text))


class Tap:
    """A TAP device in the network namespace of the caller, up and with an address."""

    def __init__(self, name, address):
        self.name, self.address = name, address
        self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(self.fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        interface(name, SIOCSIFADDR, address_of(address))
        interface(name, SIOCSIFNETMASK, address_of("255.255.255.0"))
        bring_up(name)
        bring_up("lo")
        self.mac = interface(name, SIOCGIFHWADDR)[18:24]

    def know(self, other):
        """A fixed ARP entry: a partition must not show as a host that is unreachable."""
        hardware = struct.pack("H6s8x", 1, other.mac)
        request = struct.pack("16s16si16s16s", address_of(other.address), hardware,
                              ATF_COMPLETE_PERMANENT, b"", self.name.encode())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            fcntl.ioctl(s, SIOCSARP, request)

    def write(self, frame):
        try:
            os.write(self.fd, frame)
        except OSError:
            pass  # its queue is full: a wire drops frames


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def with_checksums(ether, source, target, segment):
    """A frame from the TCP segment."""
    segment = segment[:16] + b"\0\0" + segment[18:]
    pseudo = source + target + struct.pack("!HH", 6, len(segment))
    segment = segment[:16] + struct.pack("!H", checksum(pseudo + segment)) + segment[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0) + source + target
    return ether + ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + segment


def reset_for(frame):
    """The frame that resets the TCP connection @p frame belongs to, for its sender; or None."""
    if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None
    tcp = 14 + (frame[14] & 15) * 4
    ports, ack, flags = frame[tcp:tcp + 4], frame[tcp + 8:tcp + 12], frame[tcp + 13]
    if flags & 4 or not flags & 16:  # a reset itself, or the first SYN
        return None
    segment = ports[2:4] + ports[0:2] + ack + struct.pack("!IHHHH", 0, 0x5004, 0, 0, 0)
    return with_checksums(frame[6:12] + frame[0:6] + b"\x08\x00", frame[30:34], frame[26:30], segment)


def reset_in_place_of(frame):
    """@p frame made the reset of its connection, for its receiver: its place in the stream is the
    one the receiver waits for, when none got lost. For a frame that has an answer of reset_for()."""
    tcp = 14 + (frame[14] & 15) * 4
    segment = frame[tcp:tcp + 8] + struct.pack("!IHHHH", 0, 0x5004, 0, 0, 0)
    return with_checksums(frame[:14], frame[26:30], frame[30:34], segment)


def tcp_port(frame, at):
    """The port of a TCP frame over IPv4: its sender's at 0, its receiver's at 2; else None."""
    if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None
    tcp = 14 + (frame[14] & 15) * 4
    return frame[tcp + at:tcp + at + 2]


def with_address(frame, at, address):
    """A TCP frame with another address at @p at (26: its sender's, 30: its receiver's)."""
    frame = frame[:at] + address + frame[at + 4:]
    tcp, end = 14 + (frame[14] & 15) * 4, 14 + int.from_bytes(frame[16:18], "big")
    return with_checksums(frame[:14], frame[26:30], frame[30:34], frame[tcp:end])


def skip(why):
    print("SKIPPED: %s\n0 passed, 0 failed, 1 skipped" % why)
    sys.exit(77)


def own():
    why = missing()
    if why:
        skip(why)
    return Net()


class Net:
    NEAR, FAR = "10.77.0.2", "10.77.0.1"

    def __init__(self, seed=None):
        self.rng = random.Random(seed)
        call("unshare", libc.unshare(CLONE_NEWNET))
        far = Tap("far0", self.FAR)
        self.far_ns = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        call("unshare", libc.unshare(CLONE_NEWNET))
        near = Tap("near0", self.NEAR)
        self.near_ns = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        near.know(far)
        with self.far():
            far.know(near)
        self.ends = {near.fd: (near, far), far.fd: (far, near)}
        self.near, self.other = near, far
        self.mu = threading.Lock()  # protects what the calls below set
        self.exposed = None
        self.heal()
        threading.Thread(target=self.carry, daemon=True).start()

    def enter(self, server):
        """Enters a server of server.py on the far side; skips when it cannot be there."""
        try:
            with self.far():
                server.__enter__()
        except Skip as why:
            skip(why)

    @contextlib.contextmanager
    def far(self):
        """The calling thread is on the far side within; so are the processes it starts."""
        call("setns", libc.setns(self.far_ns, CLONE_NEWNET))
        try:
            yield
        finally:
            call("setns", libc.setns(self.near_ns, CLONE_NEWNET))

    def set(self, **what):
        with self.mu:
            self.__dict__.update(what)

    def forget(self, seconds=60):
        """Waits until the far kernel has given up what dead processes left it: with the wire cut,
        the near side then has half-open connections, which nobody will ever end."""
        end = time.monotonic() + seconds
        tick = threading.Event()
        with self.far():
            with open("/proc/sys/net/ipv4/tcp_orphan_retries", "w") as f:
                f.write("1")
            while known := self.far_knows():
                if time.monotonic() > end:
                    raise AssertionError("the far side still knows connections: %s" % known)
                tick.wait(0.02)

    def far_knows(self):
        near = socket.inet_aton(self.NEAR)[::-1].hex().upper()
        with open("/proc/thread-self/net/tcp") as f:
            rows = [line.split() for line in f]
        return [row[1:8] for row in rows if row[2].startswith(near) and row[3] not in NO_CONNECTION]

    def expose(self, port):
        """The wire carries what the far side sends to NEAR:port to the near side's 127.0.0.1:port."""
        with open("/proc/sys/net/ipv4/conf/%s/route_localnet" % self.near.name, "w") as f:
            f.write("1")
        self.set(exposed=struct.pack("!H", port))

    def heal(self):
        """A good wire again."""
        self.set(cut=False, resetting=False, delay_s=0.0, loss=0.0, bytes_per_s=0, cut_in=None)

    def partition(self):
        self.set(cut=True)

    def cut_after(self, size, near=False):
        self.set(cut_in=size, cut_from=self.other.fd if near else self.near.fd)

    @property
    def is_cut(self):
        return self.cut

    def reset(self):
        self.set(resetting=True)

    def delay(self, seconds):
        self.set(delay_s=seconds)

    def lose(self, share):
        self.set(loss=share)

    def rate(self, bytes_per_s):
        self.set(bytes_per_s=bytes_per_s)

    # --- the wire's thread --------------------------------------------------------------------

    def carry(self):
        poller = select.poll()
        for fd in self.ends:
            poller.register(fd, select.POLLIN)
        waiting, order, free_at = [], itertools.count(), dict.fromkeys(self.ends, 0.0)
        while True:
            wait_ms = None
            if waiting:
                wait_ms = max(0, (waiting[0][0] - time.monotonic()) * 1000)
            for fd, _ in poller.poll(wait_ms):
                for frame in self.read(fd):
                    due = self.due(fd, frame, free_at)
                    if due is not None:
                        heapq.heappush(waiting, (due, next(order), self.ends[fd][1], frame))
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, end, frame = heapq.heappop(waiting)
                if not self.cut:
                    self.deliver(end, frame)

    def read(self, fd):
        for _ in range(64):
            try:
                frame = os.read(fd, FRAME_MAX)
            except BlockingIOError:
                return
            if fd == self.near.fd and self.exposed and tcp_port(frame, 0) == self.exposed:
                frame = with_address(frame, 26, socket.inet_aton(self.NEAR))
            yield frame

    def deliver(self, end, frame):
        if end is self.near and self.exposed and tcp_port(frame, 2) == self.exposed:
            frame = with_address(frame, 30, socket.inet_aton("127.0.0.1"))
        end.write(frame)

    def due(self, fd, frame, free_at):
        """When the frame comes out at the other end, or None."""
        now = time.monotonic()
        with self.mu:
            if self.cut or (self.loss and self.rng.random() < self.loss):
                return None
            if self.resetting:
                answer = reset_for(frame)
                if answer is not None:
                    self.deliver(self.ends[fd][0], answer)
                    self.deliver(self.ends[fd][1], reset_in_place_of(frame))
                return None
            if self.cut_in is not None and fd == self.cut_from:
                self.cut_in -= len(frame)
                self.cut = self.cut_in <= 0
            if not self.bytes_per_s:
                return now + self.delay_s
            begin = max(now, free_at[fd])
            if (begin - now) * self.bytes_per_s > QUEUE_MAX:
                return None
            free_at[fd] = begin + len(frame) / self.bytes_per_s
            return free_at[fd] + self.delay_s
