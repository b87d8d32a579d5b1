#!/usr/bin/env python3
"""sdk.py node|go ARGUMENT… - the conformance program against our worker in that language.

Where Node 18 or Go 1.19 are missing it prints SKIPPED with the reason and exits 77. Nothing is
downloaded; what Go compiles is kept in MILLRACE_CACHE (~/.cache/millrace-tests).
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SDK = pathlib.Path(__file__).resolve().parents[2] / "workers" / "sdk"
CACHE = pathlib.Path(os.environ.get("MILLRACE_CACHE") or
                     pathlib.Path.home() / ".cache" / "millrace-tests")
OLDEST = {"node": (18, 0), "go": (1, 19)}


class Missing(Exception):
    """The language is not here, or too old."""


def find(language):
    """The path of node or go."""
    program = shutil.which(language)
    if program is None:
        raise Missing("%s is not installed" % language)
    command = [program, "version"] if language == "go" else [program, "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    if not found or (int(found[1]), int(found[2])) < OLDEST[language]:
        raise Missing("%s is older than %d.%d: %s" % (language, *OLDEST[language], said.strip()))
    return program


def build_go(folder, target, *flags):
    """Compiles the package main in @p folder, with nothing but what is on this machine."""
    env = dict(os.environ, GOPROXY="off", GOFLAGS="-mod=mod", GOTOOLCHAIN="local", GOWORK="off",
               GOCACHE=str(CACHE / "go-build"))
    subprocess.run([find("go"), "build", *flags, "-o", str(target), "."], cwd=folder, env=env,
                   check=True)


def go_project(folder, source):
    """Makes @p folder a worker of one's own that uses the library where it lies."""
    (folder / "main.go").write_text(source)
    (folder / "go.mod").write_text("module worker\n\ngo 1.19\n\nrequire millrace v0.0.0\n\n"
                                   "replace millrace => %s\n" % (SDK / "go"))


def main():
    language, *arguments = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="mr-sdk-") as folder:
        try:
            if language == "node":
                command = [find("node"), str(SDK / "node" / "conformance_worker.js")]
            else:
                command = [folder + "/worker"]
                build_go(SDK / "go" / "conformance", command[0])
        except Missing as why:
            print("SKIPPED: %s" % why)
            return 77
        return subprocess.run([sys.executable, "-B", str(SDK / "conformance.py"), *command,
                               *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
