"""Broken configurations, each shown to the real `millrace check-config` and `millrace run`: the table in
docs/errors.md. The files are those of tests/unit/config_cases.h and config_file_test.c."""

import os
import re
import subprocess

import pytest

from cases import kept
from error_page import Section
from instance import bin_dir

SECTION = Section("configurations", 40, {"millrace.yaml": True, "what check-config and run say": True, "exit": False})
# What the files expand.
VARIABLES = {"MR_SET": "7", "MR_EMPTY": "", "MR_YAML": "7\n  shards: 9"}


def millrace(*arguments, cwd=None, env=None):
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MILLRACE_", "MR_"))}
    return subprocess.run([os.path.join(bin_dir(), "millrace"), *arguments], cwd=cwd, env={**clean, **(env or {})},
                          capture_output=True, timeout=20, check=False)


def refused(*arguments, **how):
    """What both commands say, which must be one line, and nothing started."""
    said = set()
    for command in ("check-config", "run"):
        done = millrace(command, *arguments, **how)
        assert done.returncode == 100 and not done.stdout, (arguments, done)
        said.add(done.stderr.decode("utf-8", "backslashreplace"))
    [text] = said
    assert text.startswith("millrace: ") and text.count("\n") == 1, text
    return text.strip()


@pytest.mark.parametrize("kind, least", [("file", 40), ("value", 40), ("pair", 30)])
def test_broken_files(tmp_path, kind, least):
    cases = kept("config_file", kind, tmp_path / "kept")
    assert len(cases) >= least
    for name, data in cases.items():
        (tmp_path / "millrace.yaml").write_bytes(data)
        text = refused("-c", "millrace.yaml", cwd=tmp_path, env=VARIABLES)
        # It names the file, then the line or at least the key, and what is wrong with it.
        assert re.match(r"millrace: millrace\.yaml:(\d+:)? \S+", text), text
        SECTION.add(name, data.decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace").decode(), text,
                    "100")


ELSEWHERE = {
    "no file": (["-c", "missing.yaml"], {}),
    "directory": (["-c", "/tmp"], {}),
    "flag value": (["--matcher.shards=many"], {}),
    "flag key": (["--matcher.shard=2"], {}),
    "flag without value": (["--matcher.shards"], {}),
    "variable value": ([], {"MILLRACE_MATCHER_SHARDS": "0"}),
    "variable name": ([], {"MILLRACE_MATCHER_SHARD": "2"}),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_broken_flags_and_variables(tmp_path, name):
    arguments, env = ELSEWHERE[name]
    text = refused(*arguments, cwd=tmp_path, env=env)
    shown = " ".join([*(f"{key}={value}" for key, value in env.items()), "millrace run", *arguments])
    SECTION.add(name, shown, text, "100")


def test_the_page_says_what_was_seen(request):
    SECTION.check(request)
