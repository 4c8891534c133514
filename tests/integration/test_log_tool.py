"""`millrace log` beside a running instance: segments, checks, events by position, id and time."""

import json
import os
import subprocess
import time

import pytest

from instance import Instance, bin_dir, wait_for

EVENTS = 5000


@pytest.fixture(name="running", scope="module")
def fixture_running():
    with Instance({"source.kind": "generator", "generator.rate": 0, "generator.count": EVENTS,
                   "log.segment_size": "1MiB"}) as instance:
        instance.start()
        wait_for(lambda: instance.counter("puller", "millrace_log_written_sequence") == EVENTS, 20, "the log")
        yield instance


def tool(instance, command, *args):
    return subprocess.run([os.path.join(bin_dir(), "millrace"), "log", command, instance.dir + "/data/log", *args],
                          capture_output=True, text=True, timeout=60, check=False)


def events(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_list_and_verify_know_every_segment(running):
    segments = events(tool(running, "list", "--json"))
    assert segments[0]["first"] == 1 and segments[-1]["last"] == EVENTS and len(segments) > 1
    assert [s["first"] for s in segments[1:]] == [s["last"] + 1 for s in segments[:-1]]
    assert "5000 records (1 to 5000)" in tool(running, "verify").stdout
    text = tool(running, "list").stdout
    assert text.splitlines()[0].startswith("segment") and segments[0]["segment"] in text


def test_show_finds_events_by_position_id_and_time(running):
    everything = events(tool(running, "show", "--json"))
    assert [e["sequence"] for e in everything] == list(range(1, EVENTS + 1))
    assert events(tool(running, "show", "--after", "4000", "--count", "3", "--json")) == everything[4000:4003]
    assert events(tool(running, "show", "--id", everything[777]["id"], "--json")) == [everything[777]]
    assert events(tool(running, "show", "--id", everything[777]["id"], "--count", "5", "--json")) == everything[777:782]
    since, until = everything[1000]["ingested"], everything[3000]["ingested"]
    wanted = [e for e in everything if since <= e["ingested"] < until]
    assert events(tool(running, "show", "--since", since, "--until", until, "--json")) == wanted
    assert "insert" in tool(running, "show", "--count", "1").stdout


def test_what_is_not_there_and_what_is_no_time_is_said(running):
    missing = tool(running, "show", "--id", "1-2-ff")
    assert missing.returncode == 1 and "event 1-2-ff is not in the log" in missing.stderr
    wrong = tool(running, "show", "--since", "yesterday")
    assert wrong.returncode == 2 and "expected a time, got yesterday" in wrong.stderr


def test_follow_prints_what_comes():
    with Instance({"source.kind": "generator", "generator.rate": 500}) as instance:
        instance.start()
        wait_for(lambda: instance.counter("puller", "millrace_log_written_sequence") > 100, 20, "the log")
        with subprocess.Popen([os.path.join(bin_dir(), "millrace"), "log", "follow", instance.dir + "/data/log",
                               "--count", "300", "--json"], stdout=subprocess.PIPE, text=True) as process:
            begun = time.time()
            lines = [json.loads(line) for line in process.stdout]
        assert process.returncode == 0 and lines[0]["sequence"] > 100
        assert [e["sequence"] for e in lines] == list(range(lines[0]["sequence"], lines[0]["sequence"] + 300))
        assert time.time() - begun < 20
        again = tool(instance, "follow", "--after", "10", "--count", "5", "--json")
        assert [e["sequence"] for e in events(again)] == [11, 12, 13, 14, 15]
