"""A thousand devices on a real Mosquitto, and what becomes of their messages when it is restarted,
killed, or out of disk while they publish. All with qualities of service 1 and 2."""
import contextlib
import errno
import os
import pathlib
import signal
import sys
import types

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support", "crash")]
import mounts
from support import MILLRACE, Instance, Skip, folder, main, wait_until
from mosquitto import Arrived, Broker, Devices, saved, source, subscribed, to_file


MNT_DETACH = 2


def arrive(arrived, wanted, seconds=60):
    try:
        wait_until("all messages", lambda: arrived.has(wanted), seconds)
    except AssertionError:
        lost = wanted - arrived.times.keys()
        raise AssertionError("%d of %d are missing: %s" % (len(lost), len(wanted), sorted(lost)[:5]))


def test_1000_devices_all_arrive():
    with Broker() as broker, Instance(to_file(broker)) as m:
        wait_until("the subscription", lambda: subscribed(m))
        arrived = Arrived(m)
        for qos, messages in ((1, 20), (2, 5)):
            with Devices(broker, 1000, messages, qos, "plant/%d" % qos) as devices:
                told = devices.finish()
                arrive(arrived, devices.wanted())
                print("    qos %d: %d messages of 1000 connections in %.1f s, %d repeated"
                      % (qos, devices.total, told["ms"] / 1000, arrived.repeated()))
                assert told["reconnects"] == 0, told


def restart_under_load(qos):
    with Broker(PERSIST="1") as broker, Instance(to_file(broker)) as m:
        wait_until("the subscription", lambda: subscribed(m))
        arrived = Arrived(m)
        with Devices(broker, 200, 100, qos, pause_ms=20) as devices:
            for tenths in (2, 5, 8):
                devices.until(devices.total * tenths // 10)
                broker.stop()
                broker.start()
            told = devices.finish()
            assert told["reconnects"] >= 200, told
            arrive(arrived, devices.wanted())
        print("    qos %d: %d messages over 3 restarts, %d repeated"
              % (qos, devices.total, arrived.repeated()))


def test_broker_restarted_under_load_loses_nothing_of_qos_1():
    restart_under_load(1)


def test_broker_restarted_under_load_loses_nothing_of_qos_2():
    restart_under_load(2)


def test_broker_killed_under_load_what_it_had_saved_arrives():
    """Mosquitto saves at intervals: what it acknowledged after the last save a kill -9 takes from
    it, whoever its clients are. So: a backlog that is saved, then the kill under load."""
    with Broker(PERSIST="1") as broker, Instance(to_file(broker)) as m:
        wait_until("the subscription", lambda: subscribed(m))
        arrived = Arrived(m)
        assert m.cli("source", "pause", "plant").code == 0
        with Devices(broker, 100, 20, 1, topic="plant/before") as before:
            before.finish()
            saved(broker)
        with Devices(broker, 100, 50, 1, topic="plant/during", pause_ms=20) as during:
            during.until(during.total * 3 // 10)
            assert m.cli("source", "resume", "plant").code == 0
            broker.kill()
            broker.start()
            during.finish()
        arrive(arrived, before.wanted())
        with Devices(broker, 100, 20, 1, topic="plant/after") as after:
            after.finish()
            arrive(arrived, after.wanted())
        print("    %d repeated" % arrived.repeated())


def test_broker_frozen_under_load_is_noticed_and_loses_nothing():
    with Broker() as broker, Instance(to_file(broker)) as m:
        wait_until("the subscription", lambda: subscribed(m))
        with Devices(broker, 50, 60, 1, "plant/frozen", pause_ms=20) as devices:
            devices.until(devices.total * 3 // 10)
            os.kill(broker.pid(), signal.SIGSTOP)
            try:
                wait_until("the source to notice", lambda: not subscribed(m))
            finally:
                os.kill(broker.pid(), signal.SIGCONT)
            devices.finish()
            arrive(Arrived(m), devices.wanted())


def peak_kib(m):
    with open("/proc/%d/status" % m.process.pid) as f:
        return int(next(line for line in f if line.startswith("VmHWM")).split()[1])


def is_sanitized():
    """A sanitizer keeps freed memory for a while."""
    return b"__asan_init" in pathlib.Path(MILLRACE).read_bytes()


def test_full_log_leaves_the_messages_with_the_broker_and_memory_flat():
    """Deliveries are paused and the log holds 8 MiB: the source stops reading, and goes on later."""
    count, size = 60_000, 1000
    with Broker() as broker:
        whole = to_file(broker)
        whole["log"] = {"segment_size": "1MiB", "max_size": "8MiB", "retain_size": "1MiB",
                        "checkpoint_size": "1MiB", "cache_size": "1MiB", "disk_low": "1MiB"}
        with Instance(whole) as m:
            wait_until("the subscription", lambda: subscribed(m))
            assert m.cli("sub", "pause", "all").code == 0
            before = peak_kib(m)
            filler = "x" * (size - 20)
            broker.publish("plant/x", ['{"n":"%d","x":"%s"}' % (n, filler) for n in range(count)])
            wait_until("the log to be full", lambda: not source(m)["health"] == "ok")
            taken = source(m)["events"]
            grown = peak_kib(m) - before
            budget = m.ask("check")["memory_max"]["connectors"]
            print("    %d of %d taken, %d KiB more than before, %d allowed for connectors"
                  % (taken, count, grown, budget // 1024))
            assert taken < count, taken
            assert grown * 1024 <= budget or is_sanitized(), grown
            assert m.cli("sub", "resume", "all").code == 0
            arrive(Arrived(m), {str(n) for n in range(count)})


def fill(path):
    """A file that takes all the space there is."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(fd, b"x" * 4096) > 0:
            pass
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
    finally:
        os.close(fd)


def test_broker_with_a_full_disk_goes_on_and_keeps_its_session():
    reason = mounts.needs()  # from here on in a mount namespace of our own: the last test
    if reason:
        raise Skip(reason)
    with folder() as path, contextlib.ExitStack() as closers:
        lab = types.SimpleNamespace(dir=path, closers=[])
        disk = mounts.Memory(lab, "tmpfs", "size=2m").path
        # Detached: the guards of the broker look at the folder for a moment longer.
        closers.callback(lambda: mounts.libc.umount2(str(disk).encode(), MNT_DETACH))
        with Broker(folder=str(disk), PERSIST="1") as broker, Instance(to_file(broker)) as m:
            wait_until("the subscription", lambda: subscribed(m))
            saved(broker)
            arrived = Arrived(m)
            fill(disk / "rest")
            with Devices(broker, 100, 20, 1, "plant/full") as devices:
                devices.until(devices.total // 2)
                os.kill(broker.pid(), signal.SIGUSR1)  # it cannot save
                devices.finish()
                arrive(arrived, devices.wanted())
            broker.kill()
            (disk / "rest").unlink()
            broker.start()
            wait_until("the source to come back", lambda: subscribed(m), 60)
            with Devices(broker, 100, 20, 1, "plant/free") as devices:
                devices.finish()
                arrive(arrived, devices.wanted())


if __name__ == "__main__":
    main()
