#!/usr/bin/env python3
"""docs/reference/config.md says what the tables of the binary say."""
import os
import pathlib
import subprocess
import sys

binary, root = os.environ["MILLRACE"], pathlib.Path(__file__).resolve().parents[2]
printed = subprocess.run([binary, "check", "--reference"], capture_output=True, text=True, check=True).stdout
kept = (root / "docs/reference/config.md").read_text()
same = printed == kept and "| `url` |" in printed
if not same:
    print("docs/reference/config.md has drifted: millrace check --reference > docs/reference/config.md")
print("%d passed, %d failed" % (same, not same))
sys.exit(not same)
