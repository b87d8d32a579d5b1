#!/usr/bin/env python3
"""tidy.py LIBMR_BUS LIBMR_ROUTER - the rules of CONTRIBUTING.md that a program can check.

Prints what breaks them with file and line, and `N passed, N failed`.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ["core", "schemas", "config", "router", "bus", "connectors", "workers", "admin", "millrace"]
BANNED = re.compile(r"\b(strcpy|strcat|sprintf|vsprintf|strtok|atoi|atol|rand|alloca|system|gets|popen)\s*\(")
# What a static library of the pure folders may want from outside: memory, strings, sorting, our own.
PURE = re.compile(r"^(mr_\w+|_?mem\w+|str\w+|qsort|snprintf|vsnprintf|__\w*chk|__stack_chk_fail|"
                  r"explicit_bzero|cJSON_\w+|__asan\w*|__ubsan\w*|__tsan\w*|__sanitizer\w*|_GLOBAL_OFFSET_TABLE_|"
                  r"__isoc99_\w+|__ctype_\w+|bsearch)$")
IMPURE = re.compile(r"^mr_(clock_now|clock_mono_ns|rng_entropy|io_create|fd_\w+|file_read|opq_\w+|logger_\w+)$")
problems = {}


def report(rule, where, text):
    problems.setdefault(rule, []).append("%s: %s" % (where, text))


def sources(*folders):
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.[ch]")):
            yield path, path.relative_to(ROOT).as_posix()


def check_lines():
    for path, name in sources(*FOLDERS, "bench", "tests"):
        lines = path.read_text().splitlines()
        if len(lines) > 1000:
            report("length", name, "%d lines: does the idea split?" % len(lines))
        for number, line in enumerate(lines, 1):
            where = "%s:%d" % (name, number)
            if not name.startswith("tests/") and BANNED.search(line) and not line.lstrip().startswith(("*", "/*")):
                report("banned", where, line.strip())
            if re.search(r"\b(TODO|FIXME|XXX)\b(?!\(#\d+\))", line):
                report("todo", where, line.strip())
            if name.startswith("tests/") and re.search(r"\b(u|nano)?sleep\s*\(", line):
                report("sleep", where, line.strip())
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search(r"\btime\.sleep\(", line) and path.name != "tidy.py":
                report("sleep", "%s:%d" % (path.relative_to(ROOT), number), line.strip())


def check_layers():
    for path, name in sources(*FOLDERS):
        mine = FOLDERS.index(name.split("/")[0])
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = re.match(r'\s*#include "([a-z_]+)/', line)
            if found and (found[1] not in FOLDERS or FOLDERS.index(found[1]) > mine):
                report("layers", "%s:%d" % (name, number), line.strip())
            other = re.match(r'\s*#include "connectors/([a-z]+)/', line)
            if other and name.startswith("connectors/") and name.count("/") == 2 and \
                    name.split("/")[1] != other[1]:
                report("layers", "%s:%d" % (name, number), "connectors do not call one another")


def check_headers():
    for path, name in sources(*FOLDERS):
        if path.suffix != ".h" or "/sdk/" in name:
            continue
        guard = "MR_" + re.sub(r"[/.-]", "_", name).upper()
        if not re.search(r"#ifndef %s\n#define %s\n" % (guard, guard), path.read_text()):
            report("guards", name, "the guard is not " + guard)


def check_compiled():
    for path, name in sources(*FOLDERS):
        if path.suffix == ".c" and "/sdk/" not in name:
            lists = [p for p in path.parents if (p / "CMakeLists.txt").exists() and p != ROOT]
            text = "".join((p / "CMakeLists.txt").read_text() for p in lists)
            if path.name not in text and "GLOB" not in text:
                report("dead", name, "no CMakeLists.txt compiles it")


def check_pure(library):
    out = subprocess.run(["nm", "-u", library], capture_output=True, text=True, check=True).stdout
    for line in out.splitlines():
        symbol = line.split()[-1] if line.strip().startswith("U ") else ""
        if symbol and (not PURE.match(symbol) or IMPURE.match(symbol)):
            report("pure", pathlib.Path(library).name, "uses " + symbol)


def main():
    check_lines()
    check_layers()
    check_headers()
    check_compiled()
    for library in sys.argv[1:]:
        check_pure(library)
    rules = ["length", "banned", "todo", "sleep", "layers", "guards", "dead", "pure"]
    for rule in rules:
        for text in problems.get(rule, []):
            print("%s: %s" % (rule, text))
    print("%d passed, %d failed" % (len(rules) - len(problems), len(problems)))
    return 1 if problems else 0


sys.exit(main())
