"""File systems of one's own for a test: in a mount namespace and on loop devices that vanish with
the process, whatever happens to it. Needs root; needs() says what is missing."""
import ctypes
import errno
import fcntl
import os
import pathlib
import shutil
import struct
import subprocess
import sys

LOOP_SET_FD, LOOP_SET_STATUS64, LOOP_CTL_GET_FREE = 0x4C00, 0x4C04, 0x4C82
LO_FLAGS_AUTOCLEAR = 4
EXT4_IOC_SHUTDOWN, SHUTDOWN_NO_LOG_FLUSH = 0x8004587D, 2
CLONE_NEWNS = 0x20000
MS_REC_PRIVATE = 0x4000 | 0x40000
MNT_DETACH = 2
libc = ctypes.CDLL(None, use_errno=True)


def call(what, result):
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source, target, kind, options="", flags=0):
    call(f"mount {kind} on {target}",
         libc.mount(str(source).encode(), str(target).encode(), kind.encode(),
                    ctypes.c_ulong(flags), options.encode()))


def umount(target):
    call(f"umount {target}", libc.umount2(str(target).encode(), 0))


def detach(target):
    """Out of sight now; gone when nobody has it open any more."""
    call(f"umount {target}", libc.umount2(str(target).encode(), MNT_DETACH))


def needs_namespace():
    """What is missing here to mount at all, or None. Enters a mount namespace of our own."""
    if os.geteuid() != 0:
        return "needs root"
    try:
        call("unshare", libc.unshare(CLONE_NEWNS))
        call("make / private",
             libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC_PRIVATE), None))
    except OSError as e:
        return f"cannot mount here: {e}"
    return None


def skip_without_namespace():
    reason = needs_namespace()
    if reason:
        print(f"SKIPPED: {reason}\n0 passed, 0 failed, 1 skipped")
        sys.exit(77)


def needs():
    """What is missing here, loop devices and ext4 included, or None. Enters the namespace, too."""
    if not (shutil.which("mkfs.ext4") or os.path.exists("/usr/sbin/mkfs.ext4")):
        return "mkfs.ext4 is not installed (package e2fsprogs)"
    reason = needs_namespace()
    if reason:
        return reason
    try:
        if not os.path.exists("/dev/loop-control"):
            return "there are no loop devices"
        fd = os.open("/dev/loop-control", os.O_RDWR)
        try:
            fcntl.ioctl(fd, LOOP_CTL_GET_FREE)
        finally:
            os.close(fd)
    except OSError as e:
        return f"cannot mount here: {e}"
    return None


def attach(image):
    """A loop device on @p image: (path, descriptor). It is free again once the descriptor is closed
    and nothing is mounted from it."""
    backing = os.open(image, os.O_RDWR)
    control = os.open("/dev/loop-control", os.O_RDWR)
    try:
        for _ in range(100):
            number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
            path = f"/dev/loop{number}"
            device = os.open(path, os.O_RDWR)
            try:
                fcntl.ioctl(device, LOOP_SET_FD, backing)
            except OSError as e:
                os.close(device)
                if e.errno == errno.EBUSY:
                    continue
                raise
            info = bytearray(232)
            struct.pack_into("<I", info, 52, LO_FLAGS_AUTOCLEAR)
            fcntl.ioctl(device, LOOP_SET_STATUS64, bytes(info))
            return path, device
        raise OSError(errno.EBUSY, "no free loop device")
    finally:
        os.close(control)
        os.close(backing)


class Ext4:
    """An ext4 of @p size bytes in memory, mounted in the lab's folder."""

    def __init__(self, lab, size, name="disk"):
        self.ram = lab.dir / f"{name}-ram"
        self.path = lab.dir / name
        self.ram.mkdir()
        self.path.mkdir()
        mount("tmpfs", self.ram, "tmpfs", f"size={size + (8 << 20)}")
        lab.closers.append(lambda: umount(self.ram))
        image = self.ram / "image"
        with open(image, "wb") as f:
            f.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-E",
                        "lazy_itable_init=0,lazy_journal_init=0", str(image)], check=True,
                       env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"})
        self.loop, self.descriptor = attach(image)
        self.is_mounted = False
        lab.closers.append(self.close)
        self.mount()

    def mount(self):
        mount(self.loop, self.path, "ext4")
        self.is_mounted = True

    def umount(self):
        if self.is_mounted:
            umount(self.path)
            self.is_mounted = False

    def cut_power(self):
        """What is not on the device by now never comes there; every later access fails. True when
        a write indeed fails afterwards."""
        probe = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(probe, EXT4_IOC_SHUTDOWN, struct.pack("I", SHUTDOWN_NO_LOG_FLUSH))
        finally:
            os.close(probe)
        try:
            os.close(os.open(self.path / "after-the-cut", os.O_CREAT | os.O_WRONLY))
        except OSError as e:
            return e.errno in (errno.EIO, errno.EROFS, getattr(errno, "ESHUTDOWN", -1))
        return False

    def close(self):
        self.umount()
        os.close(self.descriptor)


class Memory:
    """A tmpfs or ramfs, mounted in the lab's folder."""

    def __init__(self, lab, kind, options=""):
        self.path = lab.dir / kind
        self.path.mkdir()
        mount(kind, self.path, kind, options)
        lab.closers.append(lambda: umount(self.path))


class SmallDisk:
    """A tmpfs of @p size bytes at @p path, in the mount namespace that ends with us: nobody else
    sees it."""

    def __init__(self, size, path=pathlib.Path("/mnt")):
        self.size = size
        self.path = path

    def __enter__(self):
        mount("tmpfs", self.path, "tmpfs", f"size={self.size}")
        return self

    def __exit__(self, *what):
        detach(self.path)

    def fill(self):
        """Takes every byte that is left."""
        with open(self.path / "filler", "wb", buffering=0) as f:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        f.write(bytes(size))
                except OSError:
                    pass
        assert os.statvfs(self.path).f_bavail == 0

    def free(self):
        (self.path / "filler").unlink()
