"""The command line and the configuration as a user meets them."""

import os
import re
import subprocess

import pytest

from instance import ROOT, bin_dir


def millrace(*args, env=None):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_") or k.startswith("MILLRACE_TEST_")}
    return subprocess.run([os.path.join(bin_dir(), "millrace"), *args], capture_output=True, text=True, timeout=20,
                          env={**clean, **(env or {})}, check=False)


def test_the_example_is_good_as_it_is_and_equals_the_defaults_when_uncommented(tmp_path):
    example = os.path.join(ROOT, "etc", "millrace.yaml")
    assert millrace("check-config", "-c", example).returncode == 0
    with open(example, encoding="utf-8") as file:
        lines = [re.sub(r"^#(?! [^ ])", "", line) for line in file]
    full = tmp_path / "full.yaml"
    full.write_text("".join(lines), encoding="utf-8")
    result = millrace("print-config", "-c", str(full))
    assert result.returncode == 0, result.stderr
    assert result.stdout == millrace("print-config").stdout
    keys = [line for line in result.stdout.splitlines() if line.startswith("  ")]
    with open(os.path.join(ROOT, "common", "options.def"), encoding="utf-8") as table:
        assert len(keys) == len(re.findall(r"^OPTION\(", table.read(), flags=re.M))


def test_help_names_every_command_option_and_key():
    text = millrace("--help").stdout
    for word in ("run", "check-config", "print-config", "status", "scale", "reload", "drain", "stop", "shmstat",
                 "--config", "--instance", "--json", "--ring.event_size", "--matcher.shards"):
        assert word in text, word
    assert millrace("help", "scale").stdout.startswith("usage: millrace scale [OPTIONS] N\n")
    assert millrace("scale", "--help").returncode == 0


def test_version():
    assert re.fullmatch(r"millrace \d+\.\d+\.\d+\n", millrace("--version").stdout)
    assert millrace("version").stdout == millrace("-v").stdout


@pytest.mark.parametrize("args, error", [
    ((), "usage: millrace COMMAND"),
    (("fly",), 'unknown command "fly"'),
    (("run", "now"), 'run: "now" is one argument too many'),
    (("scale",), "scale: expected N"),
    (("run", "-c"), "option -c: expected FILE behind it"),
    (("run", "--fast"), 'unknown option "--fast"'),
    (("run", "-x"), 'unknown option "-x"'),
    (("help", "fly"), 'unknown command "fly"'),
])
def test_a_wrong_command_line_is_exit_2(args, error):
    result = millrace(*args)
    assert result.returncode == 2 and error in result.stderr and result.stdout == ""


def test_a_wrong_configuration_is_exit_100_for_every_command_that_reads_one(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("matcher:\n  shards: many\n", encoding="utf-8")
    for command in (["run"], ["check-config"], ["print-config"], ["status"], ["stop"]):
        result = millrace(*command, "-c", str(path))
        assert result.returncode == 100
        assert f'{path}:2: matcher.shards: expected a whole number from 1 to 16, got "many"' in result.stderr


def test_flags_beat_environment_beats_file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("matcher:\n  shards: 3\nring:\n  event_size: 1MiB\n", encoding="utf-8")
    result = millrace("print-config", "-c", str(path), "--matcher.shards=5",
                      env={"MILLRACE_MATCHER_SHARDS": "4", "MILLRACE_RING_MATCH_SIZE": "2MiB"})
    assert "  shards: 5\n" in result.stdout and "  event_size: 1MiB\n" in result.stdout
    assert "  match_size: 2MiB\n" in result.stdout


def test_a_secret_is_shown_nowhere(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("source: {kind: postgres}\npostgres:\n  url: ${PGURL}\n", encoding="utf-8")
    for url in ("postgres://joe:hunter2@db/x", "host=db password=hunter2", "postgres://db/x?password=hunter2"):
        result = millrace("print-config", "-c", str(path), env={"PGURL": url})
        assert result.returncode == 0 and "hunter2" not in result.stdout + result.stderr
        assert "***" in result.stdout


def test_an_unknown_variable_is_refused_with_a_guess():
    result = millrace("check-config", env={"MILLRACE_MATCHER_SHARD": "2"})
    assert result.returncode == 100 and "did you mean MILLRACE_MATCHER_SHARDS?" in result.stderr


def test_a_command_beside_gets_its_arguments_or_a_clear_error():
    result = millrace("shmstat", "--no-such-option")
    assert result.returncode != 0 and "millrace: start" not in result.stderr
