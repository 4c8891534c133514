"""Broken input that a unit test holds in a table, to be shown to the real processes."""

import os
import subprocess

from instance import ROOT
from sink import build_dir


def kept(test, kind, folder):
    """name -> bytes of the inputs of this kind that tests/unit/TEST_test.c has."""
    folders = [build_dir(), os.path.join(ROOT, "build-debug")]  # a release has no unit tests
    program = next(p for p in (os.path.join(f, "tests", f"{test}_test") for f in folders) if os.path.exists(p))
    os.makedirs(folder, exist_ok=True)
    done = subprocess.run([program], env={**os.environ, "MILLRACE_TEST_KEEP": str(folder)}, capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    cases = {}
    for name in sorted(os.listdir(folder)):
        if name.startswith(kind + "-"):
            with open(os.path.join(folder, name), "rb") as case:
                cases[name] = case.read()
    return cases
