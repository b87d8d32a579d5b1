#!/usr/bin/env python3
"""docs.py BINARY - writes the option tables of docs/connectors/*.md anew.

Between `<!-- options: source kafka -->` (or `sink X`, `worker X`) and `<!-- end -->` stands the
table that `BINARY check --reference` prints for that kind. Says which pages it changed.
"""
import pathlib
import re
import subprocess
import sys

PAGES = pathlib.Path(__file__).resolve().parents[2] / "docs" / "connectors"
PART = re.compile(r"^<!-- options: (source|sink|worker) ([\w-]+) -->\n(.*?)^<!-- end -->$", re.M | re.S)


class Unknown(Exception):
    pass


def read_tables(binary):
    """{"source kafka": its table}"""
    printed = subprocess.run([binary, "check", "--reference"], capture_output=True, text=True, check=True).stdout
    sections = re.findall(r"^### (source|sink|worker) `([\w-]+)`\n(.*?)(?=^##|\Z)", printed, re.M | re.S)
    return {"%s %s" % (side, kind): "\n".join(line for line in body.splitlines() if line.startswith("|"))
            for side, kind, body in sections}


def fill(text, tables):
    """The page with its tables; Unknown when it asks for one there is not."""
    def table(found):
        name = "%s %s" % (found[1], found[2])
        if name not in tables:
            raise Unknown("asks for the options of %s, which the program does not have" % name)
        return "<!-- options: %s -->\n%s\n<!-- end -->" % (name, tables[name])

    if len(PART.findall(text)) != text.count("<!-- options:"):
        raise Unknown("a part begins with <!-- options: … --> and ends with <!-- end -->, each on its own line")
    return PART.sub(table, text)


def drifted(binary):
    """(path, the page as it should be) for each page that differs from it."""
    tables = read_tables(binary)
    for path in sorted(PAGES.glob("*.md")):
        text = path.read_text()
        try:
            wanted = fill(text, tables)
        except Unknown as why:
            raise Unknown("docs/connectors/%s: %s" % (path.name, why)) from None
        if wanted != text:
            yield path, wanted


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: docs.py BINARY")
    try:
        for path, wanted in drifted(sys.argv[1]):
            path.write_text(wanted)
            print("docs/connectors/%s" % path.name)
    except Unknown as why:
        sys.exit(str(why))


if __name__ == "__main__":
    main()
