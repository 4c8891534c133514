"""Broken NDJSON lines in front of a real pipeline (`millrace run`): the table in docs/errors.md, and what happens
to the lines around them. The lines are those of tests/unit/ndjson_test.c."""

import json
import os
import re
import subprocess
import urllib.error
import urllib.request

import pytest

from cases import kept
from error_page import Section
from instance import Instance, bin_dir, wait_for

SECTION = Section("lines", 20, {"line": True, "what the puller says": True,
                                "`fail`: it leaves with": False, "`skip`": False})
# Beside those of the unit test: what only the source sees.
MORE = {
    "too long": b'{"collection":"c","id":"x","doc":{"a":"' + b"x" * 70000 + b'"}}',
    "nested": b'{"collection":"c","id":"x","doc":' + b'{"a":' * 200 + b"1" + b"}" * 201,
}


def settings(path, policy, **more):
    return {"source.kind": "ndjson", "ndjson.path": path, "ndjson.on_bad_line": policy, "matcher.shards": 1,
            "ndjson.line_bytes_max": "64KiB", "ndjson.follow": False, **more}


def good(number):
    return json.dumps({"collection": "orders", "id": str(number), "doc": {"n": number}}).encode() + b"\n"


def logged_ids(instance):
    shown = subprocess.run([os.path.join(bin_dir(), "millrace-log"), "show", os.path.join(instance.dir, "data", "log"),
                            "--json"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    return [json.loads(line)["document_id"] for line in shown.stdout.splitlines()]


def why(instance, process):
    """The reason by which a process of this name left."""
    found = re.findall(rf' failed process={process} rc=\w+ why="((?:[^"\\]|\\.)*)"', instance.log_tail(1000))
    assert found, instance.log_tail()
    return re.sub(r"\\(.)", r"\1", found[-1])


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    return {**kept("ndjson", "line", tmp_path_factory.mktemp("lines")), **MORE}


def shown(line):
    text = line.decode("utf-8", "backslashreplace")
    return text if len(text) <= 100 else f"{text[:60]}… ({len(line)} bytes)"


def test_every_broken_line_ends_the_run_with_100_behind_what_came_before(broken):
    for name, line in broken.items():
        with Instance({}) as instance:
            path = os.path.join(instance.dir, "events.ndjson")
            with open(path, "wb") as out:
                out.write(good(1) + line + b"\n" + good(2))
            instance.settings.update(settings(path, "fail"))
            instance.write_config()
            instance.start(ready_seconds=0)
            # Whether the whole run ends with 100, too, depends on whether all processes had been ready by then.
            wait_for(lambda: 'given_up process=supervisor child=puller reason="exit 100: ' in instance.log_tail(1000), 10,
                     f"{name}: the end of the puller")
            text = why(instance, "puller")
            assert f"{path}:2: " in text
            assert instance.process.poll() in (None, 100)
            assert logged_ids(instance) == ["1"], "what came before the line is in the log"
            SECTION.add(name, shown(line), text.replace(path, "events.ndjson"), "exit 100, not restarted", "counted")


def test_all_of_them_are_skipped_and_counted_and_nothing_else_is_lost(broken):
    with Instance({}) as instance:
        path = os.path.join(instance.dir, "events.ndjson")
        with open(path, "wb") as out:
            for number, line in enumerate(broken.values(), 1):
                out.write(good(number) + line + b"\n")
            out.write(good(len(broken) + 1))
        instance.settings.update(settings(path, "skip"))
        instance.write_config()
        instance.start()
        wait_for(lambda: instance.counter("puller", "millrace_source_rejected_total") == len(broken), 10, "the count")
        wait_for(lambda: len(logged_ids(instance)) == len(broken) + 1, 10, "the good lines")
        assert logged_ids(instance) == [str(number) for number in range(1, len(broken) + 2)]
        assert f'line_rejected process=puller why="{path}:2: ' in instance.log_tail(1000)
        with urllib.request.urlopen(f"http://127.0.0.1:{instance.http_port}/metrics") as metrics:
            assert f"millrace_source_rejected_total {len(broken)}" in re.sub(r"\{.*?\}", "", metrics.read().decode())
        assert instance.stop() == 0


def ready(instance):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{instance.http_port}/readyz?verbose") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_broken_line_later_gives_the_puller_up_visibly_until_it_is_corrected():
    with Instance({}) as instance:
        path = os.path.join(instance.dir, "events.ndjson")
        with open(path, "wb") as out:
            out.write(good(1))
        instance.settings.update(settings(path, "fail", **{"ndjson.follow": True}))
        instance.write_config()
        instance.start()
        wait_for(lambda: logged_ids(instance) == ["1"], 10, "the first line")
        with open(path, "ab") as out:
            out.write(good(2) + b"{broken}  \n" + good(3))
        wait_for(lambda: " given_up " in instance.log_tail(), 10, "the puller to be given up")
        status = instance.command("status").stdout
        assert "given_up" in status and re.search(r"puller +given_up .*events\.ndjson:3: no JSON", status), status
        code, text = ready(instance)
        assert code == 503 and re.search(r"\[-\]puller failed: given_up.*events\.ndjson:3: ", text), text
        pids = instance.pids()
        assert "puller" not in pids and {"publisher", "matcher-0"} <= set(pids), "the others go on"
        with open(path, "r+b") as out:  # the line is corrected in place
            data = out.read().replace(b"{broken}  \n", b"          \n")
            out.seek(0)
            out.write(data)
        assert instance.command("reload").returncode == 0
        instance.wait_ready()
        wait_for(lambda: logged_ids(instance) == ["1", "2", "3"], 10, "what followed")
        assert instance.stop() == 0


def test_the_page_says_what_was_seen(request):
    SECTION.check(request)
