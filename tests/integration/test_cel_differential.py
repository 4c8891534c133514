"""Random expressions over random documents, against cel-go. MILLRACE_TEST_CEL_PAIRS is how many (1,000,000 at full
size, some minutes); tests/cel/differential/regressions.ndjson holds what was found."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from instance import bin_dir

CEL = pathlib.Path(__file__).resolve().parents[1] / "cel"
sys.path.insert(0, str(CEL))
import suite  # noqa: E402


@pytest.fixture(scope="module")
def differential():
    if not shutil.which("go"):
        pytest.skip("go is not installed")
    program = suite.cache() / "cel-differential"
    built = subprocess.run(["go", "build", "-o", program, "."], cwd=CEL / "differential", capture_output=True, text=True,
                           timeout=500, check=False)
    cannot = ("dial tcp", "proxy", "invalid go version", "requires go", "go.mod requires")
    if built.returncode != 0 and any(reason in built.stderr.lower() for reason in cannot):
        pytest.skip(f"cel-go cannot be had: {built.stderr[-300:]}")
    assert built.returncode == 0, built.stderr
    return program


OPERATORS = {"!_": "!{bool}", "-_": "-{int}", "_+_": "{int} + {int}", "_-_": "{int} - {int}", "_*_": "{int} * {int}",
             "_/_": "{int} / {int}", "_%_": "{int} % {int}", "_==_": "{A} == {A}", "_!=_": "{A} != {A}",
             "_<_": "{number} < {number}", "_<=_": "{number} <= {number}", "_>_": "{number} > {number}",
             "_>=_": "{number} >= {number}", "@in": "{A} in {list(A)}", "_[_]": "{list(A)}[{index}]", "_?._": ".?{field}",
             "_[?_]": "[?{"}


def test_the_generator_uses_every_operator_function_and_macro():
    names = re.findall(r'^FUNCTION\(\w+, "([^"]*)"', (CEL.parents[1] / "cel/functions.def").read_text(), re.M)
    macros = set(re.findall(r'"(\w+)"', (CEL.parents[1] / "cel/macro.c").read_text()))
    macros -= {"cel", "bind", "block", "index", "iterVar", "accuVar"}  # not of this form; generate.go has cel.bind
    text = (CEL / "differential/productions.go").read_text()
    assert len(names) > 100 and "exists_one" in macros
    missing = [name for name in names if OPERATORS.get(name, name + "(") not in text]
    missing += [name for name in macros if name + "(" not in text]
    assert not missing, missing


def compare(program, *arguments):
    done = subprocess.run([program, "-command", pathlib.Path(bin_dir()) / "millrace-cel", *arguments],
                          capture_output=True, text=True, timeout=3000, check=False)
    print(done.stdout[-4000:])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


def test_random_expressions_mean_what_they_mean_to_cel_go(differential):
    compare(differential, "-count", os.environ.get("MILLRACE_TEST_CEL_PAIRS", "20000"))


def test_what_was_found_once_stays_found(differential):
    compare(differential, "-cases", CEL / "differential/regressions.ndjson")
