#!/usr/bin/env python3
"""tidy.py COMPILER BUILD LIBMR_BUS LIBMR_ROUTER - the rules of CONTRIBUTING.md a program can check.

Prints what breaks them with file and line, and `N passed, N failed`.
"""
import concurrent.futures
import os
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
# Heap memory goes through core/alloc.h; these give back what is not ours.
HEAP = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|free|strdup|strndup|v?asprintf|getline)\s*\(")
HEAP_ALLOWED = {
    "core/alloc.c": "the hook itself",
    "connectors/mqtt/message.c": "texts that libmosquitto allocated",
    "millrace/cmd_run.c": "realpath() allocates",
}
# Only the program ends the process, and an assertion.
ENDING = re.compile(r"(?<![\w.>])(exit|abort|_exit|quick_exit)\s*\(")
ENDING_ALLOWED = {
    "core/assert.c": "the assertion",
    "workers/spawn.c": "the child of a fork, before its exec",
    "workers/guardian_main.c": "a process of its own",
    "workers/jq/helper_main.c": "another",
}
PURE_HEADERS = set("inttypes.h limits.h math.h stdarg.h stdbool.h stddef.h stdint.h stdio.h stdlib.h "
                   "string.h ctype.h errno.h cJSON.h cjson/cJSON.h".split())
problems = {}


def report(rule, where, text):
    problems.setdefault(rule, []).append("%s: %s" % (where, text))


def sources(*folders):
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.[ch]")):
            yield path, path.relative_to(ROOT).as_posix()


def bare(text):
    """C without comments and strings; lines stay."""
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'',
                  lambda found: re.sub(r"[^\n]", " ", found[0]), text, flags=re.S)


def check_calls():
    """Lines and calls of what ships."""
    used = set()
    for path, name in sources(*FOLDERS, "bench"):
        text = path.read_text()
        for number, line in enumerate(text.splitlines(), 1):
            if len(line) > 100:
                report("width", "%s:%d" % (name, number), "%d characters" % len(line))
        if "/sdk/" in name or name.startswith("bench/"):
            continue
        for number, line in enumerate(bare(text).splitlines(), 1):
            where = "%s:%d" % (name, number)
            for rule, pattern, allowed in (("heap", HEAP, HEAP_ALLOWED),
                                           ("ending", ENDING, ENDING_ALLOWED)):
                found = pattern.search(line)
                if found and name in allowed:
                    used.add((rule, name))
                elif found and not (rule == "ending" and name.startswith("millrace/")):
                    report(rule, where, found[1] + "()")
            found = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
            if found and name.split("/")[0] in ("bus", "router") and found[1] not in PURE_HEADERS:
                report("pure", where, line.strip())
    for rule, allowed in (("heap", HEAP_ALLOWED), ("ending", ENDING_ALLOWED)):
        for name in allowed:
            if (rule, name) not in used:
                report(rule, name, "is allowed and not used: take it off the list")


def check_headers_alone(compiler, build):
    libraries = subprocess.run(
        ["pkg-config", "--cflags", "libcjson", "yaml-0.1", "libmicrohttpd", "libcurl",
         "libmosquitto", "libcrypto", "cmocka"], capture_output=True, text=True, check=False)
    flags = ["-std=c17", "-D_GNU_SOURCE", "-I%s" % ROOT, "-I%s" % build, "-fsyntax-only", "-Wall",
             "-Werror", "-Wno-unused-function", '-DMR_SOURCE_DIR="."', '-DMR_SHARED_DIR="."',
             *libraries.stdout.split()]

    def compile_one(header):
        path, name = header
        done = subprocess.run([compiler, *flags, "-x", "c", "-include", str(path), os.devnull],
                              capture_output=True, text=True, check=False)
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        return name, done.returncode == 0 or errors[:1] or ["?"]

    headers = [(p, n) for p, n in sources(*FOLDERS, "bench", "tests") if p.suffix == ".h"]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, result in pool.map(compile_one, headers):
            if result is not True:
                report("alone", name, result[0])


def check_metrics():
    known = re.compile(r"\b((?:millrace|process)_[a-z0-9_]*[a-z0-9])\b")
    ending = re.compile(r"_(total|bucket|sum|count|info)$")
    told = (ROOT / "docs/reference/metrics.md").read_text()
    told = {ending.sub("", n) for code in re.findall(r"`[^`]*`", told) for n in known.findall(code)}
    made = (ROOT / "admin/metrics.c").read_text()
    made = {ending.sub("", n) for text in re.findall(r'"((?:\\.|[^"\\])*)"', made)
            for n in known.findall(text)}
    for name in sorted(told - made):
        report("metrics", "docs/reference/metrics.md", "tells of %s, which is not made" % name)
    for name in sorted(made - told):
        report("metrics", "admin/metrics.c", "%s is not in docs/reference/metrics.md" % name)


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
    check_calls()
    check_metrics()
    check_headers_alone(sys.argv[1], sys.argv[2])
    for library in sys.argv[3:]:
        check_pure(library)
    rules = ["length", "width", "banned", "heap", "ending", "todo", "sleep", "layers", "guards",
             "alone", "dead", "pure", "metrics"]
    for rule in rules:
        for text in problems.get(rule, []):
            print("%s: %s" % (rule, text))
    print("%d passed, %d failed" % (len(rules) - len(problems), len(problems)))
    return 1 if problems else 0


sys.exit(main())
