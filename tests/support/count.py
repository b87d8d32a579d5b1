#!/usr/bin/env python3
"""count.py FOLDER - adds up what the test programs reported and prints the closing line.

A cmocka program's cases are counted one by one from its output; any other ctest counts as one.
"""
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree


def count(case):
    out = case.findtext("system-out") or ""
    state = case.get("status")
    total = re.search(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", out, re.M)
    if total:
        return int(total[1]), int(total[2]), int(total[3] or 0)
    passed = len(re.findall(r"^\[       OK \]", out, re.M))
    failed = len(re.findall(r"^\[  FAILED  \] [^0-9]", out, re.M)) // 2
    skipped = len(re.findall(r"^\[  SKIPPED \] [^0-9]", out, re.M)) // 2
    if passed + failed + skipped > 0:
        if state == "fail" and failed == 0:
            failed = 1
        return passed, failed, skipped
    if state == "run":
        return 1, 0, 0
    if state in ("notrun", "disabled"):
        return 0, 0, 1
    return 0, 1, 0


def main():
    passed = failed = skipped = 0
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.xml")):
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            p, f, s = count(case)
            if case.get("status") == "notrun" or s:
                reason = [l for l in (case.findtext("system-out") or "").splitlines() if "SKIP" in l]
                print(f"skipped: {case.get('name')}: {reason[0].strip() if reason else 'see its output'}")
            passed, failed, skipped = passed + p, failed + f, skipped + s
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or passed == 0 else 0


sys.exit(main())
