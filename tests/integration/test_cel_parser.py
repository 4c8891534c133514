"""The trees of expressions, compared with those that the conformance suite's npm package ships."""
import json
import os
import shutil
import subprocess
import tarfile

import pytest

from cel_syntax import NO_LIBRARIES, Syntax

PACKAGE, VERSION = "@bufbuild/cel-spec", "0.6.1"
FILES = ["parsing", "checking", "comprehension", "conformance"]
CASES = 2765

# What differs, and why: part of the error that the package expects -> how many cases it expects it of.
DIFFERENCES = {
    # Names in backticks belong to the language since version 0.20 of the specification; the package's trees
    # were made without.
    "unsupported syntax: '`'": 39,
    # The trees were made with a depth of 32; this limit is 100 by default.
    "recursion limit exceeded: 32": 2,
    "max recursion depth exceeded": 6,
    # The value that a macro collects has no name here, so no variable can be in its way.
    "iteration variable overwrites accumulator variable": 3,
}



def walk(suite):
    for test in suite.get("tests", []):
        yield test
    for inner in suite.get("suites", []):
        yield from walk(inner)


@pytest.fixture(scope="module")
def cases():
    """(expression, tree or None, error or None), read by node from the package, which npm fetches once."""
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("npm and node are not installed: the package with the trees cannot be read")
    root = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
    folder = os.path.join(root, "millrace-tests", f"cel-spec-{VERSION}")
    if not os.path.isdir(os.path.join(folder, "package")):
        os.makedirs(folder, exist_ok=True)
        packed = subprocess.run(["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"], cwd=folder, capture_output=True,
                                text=True, timeout=120, check=False)
        if packed.returncode != 0:
            pytest.skip(f"npm pack {PACKAGE}@{VERSION}: {packed.stderr.strip()[-300:]}")
        with tarfile.open(os.path.join(folder, packed.stdout.split()[-1])) as archive:
            archive.extractall(folder)
    found = []
    for name in FILES:
        module = os.path.join(folder, "package/dist/esm/testdata", f"{name}.js")
        script = f"import({json.dumps(module)}).then(m => console.log(JSON.stringify(m.tests)))"
        suite = subprocess.run(["node", "-e", script], capture_output=True, text=True, timeout=60, check=True).stdout
        found += [(test["original"]["expr"], test.get("ast"), test.get("error")) for test in walk(json.loads(suite))
                  if "ast" in test or "error" in test]
    return found


def test_every_tree_is_the_one_that_the_package_ships(cases):
    assert len(cases) == CASES
    seen = dict.fromkeys(DIFFERENCES, 0)
    wrong = []
    with Syntax() as syntax:
        for expression, tree, error in cases:
            answer = syntax.ask("ast", expression, NO_LIBRARIES)
            if answer.ok == (tree is not None) and (tree is None or tree == answer.text):
                continue
            reason = next((part for part in DIFFERENCES if tree is None and part in error), None)
            if reason and answer.ok:
                seen[reason] += 1
            else:
                wrong.append(f"{expression!r}\n  expected {tree or error}\n  got {answer.text}")
    assert not wrong, f"{len(wrong)} differ:\n" + "\n".join(wrong[:5])
    assert seen == DIFFERENCES
