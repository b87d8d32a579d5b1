"""The list source and the sink on a real MinIO: what they say about wrong credentials, names, regions
and certificates, and that nothing is lost when Millrace or the store is killed."""
import json
import os
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("integration", "support")]
from support import Instance, Skip, event, http_source, main, wait_until
from objects import Minio


def peer(store, bucket="lake", **more):
    return {"objectstore": {"url": "%s/%s" % (store.url, bucket), "region": "us-east-1",
                            "access_key": store.key, "secret_key": store.secret, **more}}


def listing(store, **more):
    return {"sources": {"lake": peer(store, via="list", interval="100ms", **more)},
            "sinks": {"out": {"file": {"path": "out"}}},
            "subscriptions": {"all": {"to": "out"}}}


def putting(store, bucket="lake", **more):
    return {"sources": {"in": http_source()}, "sinks": {"store": peer(store, bucket, **more)},
            "subscriptions": {"all": {"to": "store", "retry": {"attempts": 50, "initial": "100ms",
                                                               "max": "500ms"}}}}


def arrived(m):
    """[(type, subject)] in order."""
    path = pathlib.Path(m.folder) / "out"
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            pass  # being written
    return [(e["type"].split(":")[-1], e["subject"]) for e in found]


def source(m):
    return m.ask_lines("source", "list")[0]


def attempt(m, id):
    """The last finished attempt of the only delivery."""
    deliveries = m.trace(id)["deliveries"]
    done = [a for a in deliveries[0]["attempts"] if a.get("error")] if deliveries else []
    return done[-1] if done else None


# --- list -----------------------------------------------------------------------------------------


def test_list_tells_created_changed_removed_once():
    with Minio() as store:
        store.make_bucket("lake")
        keys = ["k%04d" % n for n in range(1100)]  # more than a page
        for key in keys:
            store.put("lake", key, b"1")
        with Instance(listing(store)) as m:
            wait_until("all", lambda: len(arrived(m)) == 1100)
            assert arrived(m) == [("Listed", key) for key in keys]
            store.put("lake", "k0500", b"22")
            store.delete("lake", "k0501")
            store.put("lake", "k0501/a b", b"3")
            wait_until("three more", lambda: len(arrived(m)) == 1103)
            assert sorted(arrived(m)[1100:]) == [("Changed", "k0500"), ("Listed", "k0501/a+b"),
                                                 ("Missing", "k0501")], arrived(m)[1100:]
            assert m.stop() == 0
            m.process.stdout.close()
            store.delete("lake", "k0000")
            m.start()
            wait_until("the delete", lambda: len(arrived(m)) == 1104)
            assert arrived(m)[-1] == ("Missing", "k0000")


def test_list_once_prefix_and_existing():
    with Minio() as store:
        store.make_bucket("lake")
        for key in ("logs/1", "logs/2", "other"):
            store.put("lake", key, b"1")
        with Instance(listing(store, once=True, prefix="logs/")) as m:
            wait_until("done", lambda: "done" in source(m)["detail"])
            wait_until("both", lambda: arrived(m) == [("Listed", "logs/1"), ("Listed", "logs/2")])
        with Instance(listing(store, existing=False)) as m:
            wait_until("listed", lambda: "listed 3" in source(m)["detail"])
            store.put("lake", "new", b"1")
            wait_until("the new one", lambda: arrived(m))
            assert arrived(m) == [("Listed", "new")]


def test_a_backfill_is_one_command():
    with Minio() as store:
        store.make_bucket("lake")
        keys = ["logs/2025-01-01T%02d.json" % hour for hour in range(24)]
        for key in keys:
            store.put("lake", key, b"1")
        with Instance(listing(store, once=True, prefix="logs/"), start=False) as m:
            for _ in range(2):  # the second time there is nothing to do
                done = m.cli("run", "--until-done")
                assert done.code == 0, (done.code, done.err)
                assert arrived(m) == [("Listed", key.replace(":", "%3A")) for key in keys]


def test_list_killed_at_each_step():
    """The place is logged with the events: what was durable is not told again."""
    shim = os.environ.get("MR_STEPS")
    if not shim:
        raise Skip("no shim to die with: a sanitizer build")
    with Minio() as store:
        store.make_bucket("lake")
        for n in range(1300):
            store.put("lake", "k%04d" % n, b"1")
        for step in ("append", "durable"):
            for at in (1, 2, 3):
                with Instance(listing(store), start=False) as m:
                    config = json.loads(m.path.read_text())
                    config["subscriptions"] = {}
                    config["sinks"] = {}
                    m.write_config(config)
                    (m.folder / "arm").touch()
                    m.env = {"LD_PRELOAD": shim, "MR_STEP": step, "MR_STEP_AT": str(at + 1),
                             "MR_STEP_ARM": str(m.folder / "arm")}
                    try:
                        m.start()
                    except AssertionError:
                        pass  # died at once
                    assert m.process.wait(30) == -signal.SIGKILL, (step, at, m.process.returncode)
                    m.process.stdout.close()
                    m.env = {}
                    m.start()
                    wait_until("listed", lambda: "listed 1300" in source(m)["detail"])
                    assert m.stop() == 0
                    m.process.stdout.close()
                    dumped = m.cli("log", "dump", m.folder / "data", "-o", "json").lines()
                    ids = [r["id"] for r in dumped if r["kind"] == "event"]
                    assert len(ids) == len(set(ids)) == 1300, (step, at, len(ids), len(set(ids)))


def test_list_says_what_is_wrong():
    with Minio(region="us-east-1") as store:
        store.make_bucket("lake")
        for wrong, told in (({"secret_key": "wrong-secret"}, "the secret key is wrong"),
                            ({"access_key": "nobody"}, "access key"),
                            ({"url": store.url + "/missing"}, "no such bucket"),
                            ({"region": "mars-1"}, "region"),
                            ({"egress": "public"}, "not of the public internet"),
                            ({"url": "http://127.0.0.1:1/lake"}, "connect")):
            config = listing(store)
            config["sources"]["lake"]["objectstore"].update(wrong)
            with Instance(config) as m:
                wait_until(told, lambda: told in (source(m)["last_error"] or ""))
                assert source(m)["health"] == "down"
                assert "wrong-secret" not in m.log.read_text()


# --- sink -----------------------------------------------------------------------------------------


def test_sink_puts_each_event():
    with Minio() as store:
        store.make_bucket("lake")
        with Instance(putting(store, key="{{subject}}/{{id}}.json")) as m:
            m.post([event("e%d" % n, subject="a b+ü=:@", data={"n": n}) for n in range(200)])
            wait_until("all", lambda: len(store.keys("lake")) == 200)
            headers, body = store.get("lake", "a b+ü=:@/e7.json")
            assert headers["Content-Type"] == "application/cloudevents+json", headers
            assert json.loads(body)["data"] == {"n": 7}
        with Instance(putting(store, key="raw/{{id}}", content="data")) as m:
            m.http("POST", "/events", b"\x00\xff\x01", {
                "ce-id": "r1", "ce-source": "/s", "ce-type": "t", "ce-specversion": "1.0",
                "content-type": "image/x-test"})
            headers, body = wait_until("the object", lambda: store.get("lake", "raw/r1"))
            assert (headers["Content-Type"], body) == ("image/x-test", b"\x00\xff\x01"), headers


def test_sink_says_what_is_wrong_and_goes_on_when_it_is_mended():
    with Minio(region="us-east-1") as store:
        store.make_bucket("lake")
        for wrong, told in (({"secret_key": "wrong-secret"}, "the secret key is wrong"),
                            ({"access_key": "nobody"}, "access key"),
                            ({"region": "mars-1"}, "region")):
            config = putting(store)
            config["sinks"]["store"]["objectstore"].update(wrong)
            with Instance(config) as m:
                m.post(event("e1"))
                found = wait_until(told, lambda: attempt(m, "e1"))
                assert told in found["error"] and found["verdict"] == "retry", found
                assert "wrong-secret" not in m.log.read_text()
        with Instance(putting(store, "later")) as m:
            m.post(event("e1"))
            wait_until("an attempt", lambda: attempt(m, "e1"))
            assert "no such bucket" in attempt(m, "e1")["error"]
            store.make_bucket("later")
            wait_until("the object", lambda: store.get("later", "e1.json"))
            m.post(event("x" * 1100))
            dead = wait_until("the dead letter", lambda: m.ask_lines("dlq", "list", "all"))
            assert "longer than 1024" in dead[0]["error"], dead


def test_sink_survives_kills_of_both():
    with Minio() as store:
        store.make_bucket("lake")
        with Instance(putting(store)) as m:
            for n in range(3):
                m.post([event("e%d-%d" % (n, k), data="x" * 500) for k in range(200)])
                if n == 0:
                    store.kill()
                    store.start()
                elif n == 1:
                    m.stop(signal.SIGKILL)
                    m.process.stdout.close()
                    m.start()
            expected = sorted("e%d-%d.json" % (n, k) for n in range(3) for k in range(200))
            wait_until("all", lambda: store.keys("lake") == expected, 60)


# --- TLS ------------------------------------------------------------------------------------------


def over_tls(store, **more):
    options = {"url": "https://127.0.0.1:%d/lake" % store.port, **more}
    return listing(store, **options)


def test_tls_is_verified():
    with Minio(MINIO_TLS="server") as store:
        store.make_bucket("lake")
        store.put("lake", "k", b"1")
        ca = str(pathlib.Path(store.folder) / "certs" / "ca.crt")
        other = str(pathlib.Path(store.folder) / "certs" / "otherca.crt")
        with Instance(over_tls(store, tls_ca=ca)) as m:
            wait_until("the object", lambda: arrived(m) == [("Listed", "k")])
        for more in ({}, {"tls_ca": other}):
            with Instance(over_tls(store, **more)) as m:
                told = wait_until("the refusal", lambda: source(m)["last_error"])
                assert "certificate" in told, told
                assert not arrived(m)


def test_tls_wrong_host_is_refused():
    with Minio(MINIO_TLS="wronghost") as store:
        ca = str(pathlib.Path(store.folder) / "certs" / "ca.crt")
        with Instance(over_tls(store, tls_ca=ca)) as m:
            told = wait_until("the refusal", lambda: source(m)["last_error"])
            assert "127.0.0.1" in told, told


if __name__ == "__main__":
    main()
