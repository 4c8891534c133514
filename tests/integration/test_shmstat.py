"""shmstat and /metrics on a live instance, on a dead one, and on a file of another version."""

import json
import os
import shutil
import signal
import struct
import subprocess
import urllib.error
import urllib.request

import pytest

from instance import Instance, bin_dir, wait_for


@pytest.fixture(name="running", scope="module")
def fixture_running():
    settings = {"source.kind": "generator", "generator.rate": 2000, "matcher.shards": 2,
                "supervisor.stopped_timeout": "60s"}
    with Instance(settings) as instance:
        instance.start()
        wait_for(lambda: instance.counter("matcher", "millrace_match_events_total") > 500, 20, "events")
        yield instance


def fetch(instance, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{instance.http_port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def promtool(text):
    tool = shutil.which("promtool")
    if not tool:
        pytest.skip("promtool is not installed")
    return subprocess.run([tool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)


def test_the_text_view_shows_processes_rings_and_latencies(running):
    out = running.shmstat().stdout
    for word in ("supervisor", "puller", "publisher", "matcher 0", "matcher 1", "e0.g", "m1.g", "s0.g",
                 "alive", "streamer_match_latency_seconds"):
        assert word in out, out


def test_json_agrees_with_itself(running):
    status = running.status()
    kinds = [p["kind"] for p in status["processes"]]
    assert kinds == ["supervisor", "puller", "publisher", "matcher", "matcher"]
    assert all(p["seen"] == "alive" and p["state"] == "ready" for p in status["processes"])
    events = [r for r in status["rings"] if r["name"].startswith("e")]
    assert len(events) == 2 and all(r["records_per_second"] > 100 for r in events)
    for ring in status["rings"]:
        assert ring["fill_bytes"] <= ring["capacity_bytes"]
        assert ring["producer"]["seen"] == "alive", ring
        assert all(stage["position"] <= ring["tail"] for stage in ring["stages"])


def test_watch_without_a_name_looks_at_every_instance_again_and_again(running):
    with Instance({"source.kind": "generator", "generator.rate": 10}) as other:
        other.start()
        with subprocess.Popen([os.path.join(bin_dir(), "shmstat"), "--watch", "50", "--json"],
                              stdout=subprocess.PIPE, text=True) as watching:
            try:
                seen = [json.loads(watching.stdout.readline())["instance"]]
                while min(seen.count(running.name), seen.count(other.name)) < 2 and len(seen) < 200:
                    seen.append(json.loads(watching.stdout.readline())["instance"])
                assert len(seen) < 200, seen[-10:]
            finally:
                watching.send_signal(signal.SIGINT)


def test_watch_looks_again_until_interrupted(running):
    with subprocess.Popen([os.path.join(bin_dir(), "shmstat"), running.name, "--watch", "50", "--json"],
                          stdout=subprocess.PIPE, text=True) as process:
        tails = []
        for _ in range(3):
            look = json.loads(process.stdout.readline())
            tails.append(sum(r["tail"] for r in look["rings"]))
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 0
    assert tails[0] < tails[1] < tails[2]


def test_peek_shows_records_and_consumes_none(running):
    pid = running.pids()["publisher"]
    os.kill(pid, signal.SIGSTOP)  # so that records stay in the rings
    try:
        def peeked():
            lines = running.shmstat("--peek", "5", "--ring", "e0", "--json").stdout.splitlines()[1:]
            return [json.loads(line) for line in lines]
        records = wait_for(lambda: (lambda r: len(r) == 5 and r)(peeked()), 5, "records in the ring")
        again = peeked()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert [r["sequence"] for r in records] == sorted(r["sequence"] for r in records)
    assert [r["sequence"] for r in again] == [r["sequence"] for r in records]
    assert all(r["op"] in ("insert", "update", "replace", "delete") for r in records)


def test_the_prometheus_views_pass_promtool(running):
    for text in (running.shmstat("--prometheus").stdout, fetch(running, "/metrics")[1]):
        assert "streamer_events_processed_total" in text
        result = promtool(text)
        assert result.returncode == 0, result.stdout + result.stderr
    assert fetch(running, "/metrics")[2]["Content-Type"].startswith("text/plain; version=0.0.4")


def test_health_over_http(running):
    for path in ("/livez", "/healthz", "/health/live", "/readyz", "/health/ready"):
        assert fetch(running, path)[0] == 200, path
    status, text, _ = fetch(running, "/readyz?verbose")
    assert status == 200 and "[+]puller ok" in text and "[+]matcher-1 ok" in text
    assert fetch(running, "/readyz/publisher")[0] == 200
    assert fetch(running, "/readyz/nobody")[0] == 404
    assert fetch(running, "/nothing")[0] == 404
    health = json.loads(fetch(running, "/health")[1])
    assert health["status"] == "ok" and all(check["ok"] for check in health["checks"])
    request = urllib.request.Request(f"http://127.0.0.1:{running.http_port}/metrics", data=b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5)
    assert refused.value.code == 405 and refused.value.headers["Allow"] == "GET, HEAD"


def test_without_a_name_every_instance_is_shown(running):
    out = subprocess.run([os.path.join(bin_dir(), "shmstat")], capture_output=True, text=True, check=False)
    assert f"instance {running.name} " in out.stdout


def test_a_dead_instance_can_still_be_looked_at():
    with Instance({"source.kind": "generator", "generator.rate": 500}) as instance:
        instance.start()
        wait_for(lambda: instance.counter("matcher", "millrace_match_events_total") > 50, 20, "events")
        instance.kill_all()
        # "none": its supervisor had seen it die, and died itself before it could start a successor.
        wait_for(lambda: all(p["seen"] in ("stale", "none") for p in instance.status()["processes"]), 5, "death")
        status = instance.status()
        assert sum(r["records"] for r in status["rings"]) > 0
        assert instance.shmstat("--peek", "5").returncode == 0
        assert promtool(instance.shmstat("--prometheus").stdout).returncode == 0


def test_another_layout_version_is_refused_with_both_numbers(running):
    name = "t-other-layout"
    source = f"/dev/shm/millrace.{running.name}.board"
    path = f"/dev/shm/millrace.{name}.board"
    try:
        shutil.copy(source, path)
        with open(path, "r+b") as segment:
            segment.seek(4)
            segment.write(struct.pack("<I", 99))
        result = subprocess.run([os.path.join(bin_dir(), "shmstat"), name], capture_output=True, text=True,
                                check=False)
        assert result.returncode == 1
        assert "99" in result.stderr and "version" in result.stderr, result.stderr
    finally:
        os.unlink(path)


def test_looking_never_writes(running):
    before = {s: os.stat(f"/dev/shm/{s}").st_mode & 0o777 for s in running.segments()}
    assert set(before.values()) == {0o600}
    with subprocess.Popen([os.path.join(bin_dir(), "shmstat"), running.name, "--watch", "1000"],
                          stdout=subprocess.DEVNULL) as process:
        def mapped():
            with open(f"/proc/{process.pid}/maps", encoding="utf-8") as maps:
                return [line.split()[1] for line in maps if f"millrace.{running.name}" in line]
        modes = wait_for(mapped, 5, "the mapping")
        process.terminate()
    assert all("w" not in mode for mode in modes)
