"""A new user's mistakes, and a machine that has no room: commands, ports, directories, full disks. The table in
docs/errors.md."""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile

import pytest

from error_page import Section
from instance import Instance, bin_dir, wait_for

SECTION = Section("system", 20, {"situation": True, "what is said": True, "exit": False, "and then": False})
NOTHING = "nothing was started"


def run(*command, **how):
    return subprocess.run([os.path.join(bin_dir(), command[0]), *command[1:]], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=20, check=False, **how)


COMMANDS = [
    (("millrace",), 2, r"usage: millrace COMMAND"),
    (("millrace", "stats"), 2, r'unknown command "stats"; did you mean status\?'),
    (("millrace", "fly"), 2, r'unknown command "fly"; millrace help lists them'),
    (("millrace", "run", "now"), 2, r'run: "now" is one argument too many'),
    (("millrace", "run", "-c"), 2, r"option -c: expected FILE behind it"),
    (("millrace", "run", "--fast"), 2, r'unknown option "--fast"'),
    (("millrace", "run", "-c", "missing.yaml"), 100, r"open configuration missing\.yaml: No such file"),
    (("millrace", "scale"), 2, r"scale: expected N"),
    (("millrace", "status", "-i", "nobody"), 1, r"no instance nobody is running here"),
    (("millrace", "status", "-i", "No Name"), 100, r'instance name "No Name": expected only'),
    (("millrace", "stop", "-i", "nobody"), 1, r"no instance nobody is running here"),
    (("shmstat", "nobody"), 1, r"no instance nobody on this machine"),
    (("shmstat", "a/b"), 1, r'instance name "a/b": expected only'),
    (("shmstat", "--peek", "x"), 2, r'--peek: expected a number, 1 to 1000000, got "x"'),
    (("millrace", "top", "nobody"), 1, r"no instance nobody on this machine"),
    (("millrace", "tail"), 2, r"--collection: expected the name"),
    (("millrace", "tail", "--collection", "c", "--filter", "status"), 2, r'filter "status": expected PATH OP VALUE'),
    (("millrace", "tail", "--collection", "c", "--filter", "a = 1"), 2, r'filter "a = 1": expected ==.*got "="'),
    (("millrace", "tail", "--collection", "c", "--server", "127.0.0.1:1"), 111, r"UNAVAILABLE: .*Connection refused"),
    (("millrace", "log"), 2, r"expected list, verify, show or follow"),
    (("millrace", "log", "show", "/nonexistent"), 1, r"open log /nonexistent for reading: No such file"),
    (("millrace", "log", "verify", "/etc/passwd"), 1, r"open log directory /etc/passwd: Not a directory"),
    (("millrace", "log", "show", "/", "--count", "x"), 2, r"expected a number, got x"),
]


@pytest.mark.parametrize("command, code, says", COMMANDS, ids=[" ".join(row[0]) for row in COMMANDS])
def test_wrong_commands(command, code, says):
    done = run(*command)
    assert done.returncode == code and re.search(says, done.stderr) and not done.stdout, done
    shown = " ".join(f"'{word}'" if " " in word else word for word in command)
    SECTION.add(shown, shown, done.stderr.splitlines()[0], str(code), "-")


def why(instance, process):
    found = re.findall(rf' failed process={process} rc=\w+ why="((?:[^"\\]|\\.)*)"', instance.log_tail(1000))
    return found[-1] if found else None


def generator(**more):
    return {"source.kind": "generator", "generator.rate": 1000, "matcher.shards": 1, **more}


def ends_at_once(instance, key, code, says):
    instance.start(ready_seconds=0)
    assert instance.process.wait(20) == code, instance.log_tail()
    text = why(instance, "supervisor")
    assert re.search(says, text), text
    assert not instance.segments()
    SECTION.add(key, key, text, str(code), NOTHING)


def test_http_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken, Instance(generator()) as instance:
        instance.settings["http.listen"] = f"127.0.0.1:{taken.getsockname()[1]}"
        instance.write_config()
        ends_at_once(instance, "http.listen is in use", 111, r"listen on http\.listen 127\.0\.0\.1:\d+: Address already in use")


def test_grpc_port_in_use_is_waited_for():
    with Instance(generator()) as instance:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            instance.settings["publisher.grpc_listen"] = f"127.0.0.1:{taken.getsockname()[1]}"
            instance.settings["supervisor.backoff_max"] = "100ms"
            instance.settings["supervisor.restarts_max"] = 5
            instance.write_config()
            instance.start(ready_seconds=0)
            text = wait_for(lambda: why(instance, "publisher"), 10, "the refusal")
            assert re.search(r"listen on publisher\.grpc_listen 127\.0\.0\.1:\d+: Address already in use", text), text
            wait_for(lambda: instance.log_tail(1000).count(" died process=supervisor child=publisher") > 7, 20, "more tries "
                     "than restarts_max")
            assert "given_up" not in instance.log_tail(1000)
        instance.wait_ready()
        assert instance.stop() == 0
        SECTION.add("grpc", "publisher.grpc_listen is in use", text, "111 of the publisher",
                    "tried again until the port is free; `status` shows it")


def test_a_reload_with_a_grpc_port_in_use_says_so_and_another_reload_corrects_it():
    with Instance(generator()) as instance, socket.create_server(("127.0.0.1", 0)) as taken:
        good = instance.settings["publisher.grpc_listen"]
        instance.start()
        instance.settings["publisher.grpc_listen"] = f"127.0.0.1:{taken.getsockname()[1]}"
        instance.write_config()
        done = instance.command("reload")
        assert done.returncode == 111 and re.search(
            r"publisher does not start with the new configuration: exit 111: listen on publisher\.grpc_listen "
            r"127\.0\.0\.1:\d+: Address already in use; it is tried again", done.stderr), done.stderr
        instance.settings["publisher.grpc_listen"] = good
        instance.write_config()
        done = instance.command("reload")
        assert done.returncode == 0, done.stderr
        instance.wait_ready()


@pytest.mark.parametrize("place, says", [
    ("/proc/millrace", r"make directory /proc/millrace for instance\.data_dir .*No such file"),
    ("/etc/passwd/data", r"make directory .* for instance\.data_dir .*Not a directory")])
def test_data_dir_that_cannot_be(place, says):
    with Instance(generator(**{"instance.data_dir": place})) as instance:
        ends_at_once(instance, f"instance.data_dir: {place}", 100, says)


def test_data_dir_that_is_not_writable():
    if os.geteuid() != 0:
        SECTION.skip("needs root, to become somebody else")
    with Instance(generator()) as instance:
        os.chmod(instance.dir, 0o755)
        os.mkdir(os.path.join(instance.dir, "data"), 0o755)
        program = shutil.copy(os.path.join(bin_dir(), "millrace"), instance.dir)  # bin_dir() may be root's alone
        done = subprocess.run(["runuser", "-u", "nobody", "--", program, "run", "-c", instance.config_path],
                              capture_output=True, text=True, timeout=20, check=False)
        text = re.search(r'failed process=supervisor rc=\w+ why="(.*)"', done.stderr)
        assert done.returncode == 100 and re.search(r"use instance\.data_dir .*: Permission denied", text[1]), done
        SECTION.add("data_dir", "instance.data_dir belongs to somebody else", text[1], "100", NOTHING)


def test_a_second_instance_of_the_name():
    with Instance(generator()) as first, Instance(generator(), name=first.name) as second:
        first.start()
        second.start(ready_seconds=0)
        assert second.process.wait(20) == 111
        text = why(second, "supervisor")
        assert re.search(r"running", text), text
        SECTION.add("second", "an instance of this name is running", text, "111", "the first one goes on")
        assert first.stop() == 0


def test_a_log_of_another_source():
    with Instance(generator()) as instance:
        instance.start()
        wait_for(lambda: instance.counter("puller", "millrace_log_durable_sequence") > 0, 10, "events in the log")
        assert instance.stop() == 0
        events = os.path.join(instance.dir, "events.ndjson")
        with open(events, "w", encoding="utf-8"):
            pass
        instance.settings.update({"source.kind": "ndjson", "ndjson.path": events})
        instance.write_config()
        instance.start(ready_seconds=0)
        wait_for(lambda: 'given_up process=supervisor child=puller reason="exit 100: ' in instance.log_tail(1000), 10,
                 "the refusal")
        text = why(instance, "puller")
        assert "was written by another source; give this one a directory of its own" in text
        shown = run("millrace", "log", "show", os.path.join(instance.dir, "data"))
        assert shown.returncode == 1 and f"did you mean {instance.dir}/data/log?" in shown.stderr
        SECTION.add("log show", "millrace log show DATA_DIR", shown.stderr, "1", "-")
        SECTION.add("source", "another source.kind, and the log of the one before", text, "100 of the puller",
                    "not restarted; the log is left as it is")


def mount(place, size):
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place],
                                           capture_output=True, check=False).returncode != 0:
        SECTION.skip("needs the right to mount")


def test_a_full_disk_stops_the_intake_and_loses_nothing():
    place = tempfile.mkdtemp(prefix="millrace-")
    mount(place, "12m")
    try:
        with Instance({"source.kind": "ndjson", "ndjson.follow": True, "log.segment_size": "4MiB", "matcher.shards": 1,
                       "supervisor.backoff_max": "200ms", "supervisor.restarts_max": 5,
                       "instance.data_dir": os.path.join(place, "data")}) as instance:
            events = os.path.join(instance.dir, "events.ndjson")
            instance.settings["ndjson.path"] = events
            instance.write_config()
            count = 30000
            with open(events, "w", encoding="utf-8") as out:
                for number in range(count):
                    out.write(json.dumps({"collection": "c", "id": str(number), "doc": {"body": "x" * 500}}) + "\n")
            instance.start(ready_seconds=0)
            text = wait_for(lambda: why(instance, "puller"), 20, "the disk to be full")
            assert re.search(rf"{place}/data/log/\S+: No space left on device", text), text
            wait_for(lambda: instance.log_tail(1000).count(" died process=supervisor child=puller") > 7, 20,
                     "more tries than restarts_max")
            assert "given_up" not in instance.log_tail(10000)
            text = why(instance, "puller")  # the first ones depend on how far it had come
            status = instance.command("status").stdout
            assert re.search(r"puller +backoff .*No space left on device|puller +starting", status), status
            subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)
            instance.wait_ready()
            wait_for(lambda: instance.counter("puller", "millrace_log_durable_sequence") == count, 20, "all events")
            assert instance.stop() == 0
            shown = subprocess.run([os.path.join(bin_dir(), "millrace-log"), "show", os.path.join(place, "data", "log"),
                                    "--json"], capture_output=True, text=True, check=True)
            assert [json.loads(line)["document_id"] for line in shown.stdout.splitlines()] == [str(n) for n in range(count)]
            SECTION.add("disk", "the disk of instance.data_dir is full", text.replace(place, "/tmp/millrace-x"),
                        "111 of the puller", "what is in the log is delivered; reading goes on by itself once there is "
                        "room, nothing is lost or doubled")
    finally:
        subprocess.run(["umount", "-l", place], check=True)
        shutil.rmtree(place)


def in_small_shm(size, instance, seconds):
    """`millrace run` with a /dev/shm of its own; the finished process."""
    script = f"mount -t tmpfs -o size={size} tmpfs /dev/shm && exec timeout {seconds} \"$@\""
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", os.path.join(bin_dir(), "millrace"), "run", "-c",
                           instance.config_path], capture_output=True, text=True, timeout=30, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        SECTION.skip("needs the right to mount")
    return done


@pytest.mark.parametrize("size, part", [("300k", "board"), ("6m", r"e0\.g1")])
def test_a_full_shared_memory(size, part):
    with Instance(generator()) as instance:
        done = in_small_shm(size, instance, 10)
        text = re.search(r'failed process=supervisor rc=\w+ why="(.*)"', done.stderr)
        assert done.returncode == 111 and text, done
        assert re.search(rf"reserve \d+ bytes in /dev/shm for segment millrace\.{instance.name}\.{part}: No space left",
                         text[1]), text[1]
        SECTION.add(size, f"/dev/shm has {size} of room", text[1], "111",
                    f"{NOTHING}; a larger /dev/shm, or smaller ring sizes")


def test_the_page_says_what_was_seen(request):
    SECTION.check(request)
