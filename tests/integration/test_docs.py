#!/usr/bin/env python3
"""docs/reference/config.md and the tables of docs/connectors say what those of the binary say."""
import os
import pathlib
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(root / "tests" / "support"))
import docs

binary = os.environ["MILLRACE"]
printed = subprocess.run([binary, "check", "--reference"], capture_output=True, text=True, check=True).stdout
passed = failed = 0


def judge(same, said):
    global passed, failed
    passed, failed = passed + bool(same), failed + (not same)
    if not same:
        print(said)


kept = (root / "docs/reference/config.md").read_text()
judge(printed == kept and "| `url` |" in printed,
      "docs/reference/config.md has drifted: millrace check --reference > docs/reference/config.md")
tables = docs.read_tables(binary)
judge("source http" in tables and "| `path` |" in tables["source http"], "no table of source http")
try:
    pages = [path.name for path, _ in docs.drifted(binary)]
    judge(not pages, "docs/connectors: %s drifted: tests/support/docs.py BINARY" % ", ".join(pages))
except docs.Unknown as why:
    judge(False, why)
# What is filled in is filled in again the same, whatever stood there.
page = "a\n<!-- options: source http -->\nwhat stood there\n<!-- end -->\nb\n<!-- options: sink http -->\n<!-- end -->\n"
once = docs.fill(page, tables)
judge("what stood there" not in once and tables["sink http"] in once and docs.fill(once, tables) == once, once)
print("%d passed, %d failed" % (passed, failed))
sys.exit(failed > 0)
