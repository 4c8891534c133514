"""The supervisor and the lives of its processes, with fake processes (tests/tools/fake_child.c) that do what
a test tells them: die, hang, never come up, refuse to stop."""

import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from instance import Instance, bin_dir, wait_for

FAKE = os.environ.get("MILLRACE_TEST_FAKE_CHILD",
                      os.path.join(os.path.dirname(bin_dir()), "tests", "fake_child"))
QUICK = {
    "supervisor.backoff_min": "10ms", "supervisor.backoff_max": "40ms", "supervisor.hang_timeout": "300ms",
    "supervisor.healthy_after": "10s", "supervisor.start_timeout": "5s", "supervisor.drain_timeout": "5s",
    "checkpoint.interval": "20ms", "http.listen": "", "matcher.shards": 2,
}


class Bed(Instance):
    """An instance of fake processes."""

    def __init__(self, settings=None):
        super().__init__({**QUICK, **(settings or {})})
        self.fake = os.path.join(self.dir, "fake")
        self.bin = os.path.join(self.dir, "bin")
        os.mkdir(self.fake)
        os.mkdir(self.bin)
        for kind in ("puller", "matcher", "publisher", "relay"):
            os.symlink(FAKE, os.path.join(self.bin, f"millrace-{kind}"))
        self.settings["supervisor.bin_dir"] = self.bin
        self.write_config()

    def tell(self, name, word):
        path = os.path.join(self.fake, name)
        with open(path + ".new", "w", encoding="utf-8") as out:
            out.write(str(word))
        os.rename(path + ".new", path)

    def start(self, ready_seconds=10):
        os.environ["MILLRACE_TEST_FAKE"] = self.fake
        super().start(ready_seconds=0)
        if ready_seconds:
            wait_for(lambda: self.ask()["state"] == "running", ready_seconds, "the instance to run\n" + self.log_tail())
        return self

    def ask(self):
        result = self.command("status", "--json")
        return json.loads(result.stdout) if result.returncode == 0 else {"state": None, "processes": []}

    def child(self, name):
        return next((p for p in self.ask()["processes"] if p["name"] == name), None)

    def started(self, name=None):
        try:
            with open(os.path.join(self.fake, "starts"), encoding="utf-8") as lines:
                return [line.split() for line in lines if name is None or line.split()[0] == name]
        except FileNotFoundError:
            return []

    def log(self):
        return self.log_tail(100000)

    def wait_log(self, pattern, seconds=10):
        try:
            return wait_for(lambda: re.search(pattern, self.log()), seconds, f"a log line like {pattern}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log()}") from None

    def wait_exit(self, seconds=10):
        return self.process.wait(seconds)

    def children(self):
        """pids of all processes that run a fake of this bed."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if file.read().startswith(self.bin.encode()):
                        found.append(int(pid))
            except OSError:
                pass
        return found


@pytest.fixture
def bed():
    with Bed() as one:
        yield one


def stop_clean(bed):
    assert bed.stop(20) == 0, bed.log()
    assert bed.segments() == []
    assert bed.children() == []


def test_an_instance_comes_up_tells_its_state_and_stops_leaving_nothing(bed):
    bed.start()
    status = bed.ask()
    assert status["instance"] == bed.name and status["shards"] == 2 and status["pid"] == bed.process.pid
    assert [p["name"] for p in status["processes"]] == ["puller", "publisher", "matcher-0", "matcher-1"]
    assert all(p["state"] == "ready" and p["pid"] and p["restarts"] == 0 for p in status["processes"])
    for segment in bed.segments():
        assert os.stat(os.path.join("/dev/shm", segment)).st_mode & 0o777 == 0o600
    text = bed.command("status").stdout
    assert "running, 2 shards" in text and "matcher-1" in text
    stop_clean(bed)


def test_a_killed_process_is_replaced_at_once_and_counted(bed):
    bed.start()
    for name in ("matcher-0", "puller", "publisher"):
        pid = bed.child(name)["pid"]
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: (bed.child(name) or {}).get("state") == "ready" and bed.child(name)["pid"] not in (0, pid),
                 5, f"{name} to be replaced")
        assert time.monotonic() - began < 2
        child = bed.child(name)
        assert child["restarts"] == 1 and "signal 9" in bed.log()
    lives = [int(ms) for ms in re.findall(r"ready process=supervisor child=matcher-0 .*after_ms=(\d+)", bed.log())]
    assert len(lives) == 2
    stop_clean(bed)


def test_a_process_that_leaves_with_111_is_started_again_with_growing_waits(bed):
    bed.tell("puller", "exit:111")
    bed.start(ready_seconds=0)
    wait_for(lambda: len(bed.started("puller")) >= 6, 10, "six starts")
    assert "told to leave" in bed.wait_log(r'died .*child=puller how="exit 111[^"]*"').group(0)
    stamps = re.findall(r"T(\d+):(\d+):([\d.]+)Z info supervisor started .*child=puller", bed.log())
    seconds = [int(h) * 3600 + int(m) * 60 + float(s) for h, m, s in stamps]
    gaps = [b - a for a, b in zip(seconds, seconds[1:])]
    assert gaps[3] > 0.019, gaps  # 40 ms, of which at least a half
    bed.tell("puller", "ready")
    wait_for(lambda: bed.ask()["state"] == "running", 10, "the instance to run")
    stop_clean(bed)


def test_a_crash_loop_is_given_up_visibly_while_the_others_go_on():
    with Bed({"supervisor.restarts_max": 3}) as bed:
        bed.start()
        bed.tell("matcher-1", "late:9")
        wait_for(lambda: (bed.child("matcher-1") or {}).get("state") == "given-up"
                 or bed.ask()["state"] == "given_up", 10, "matcher-1 to be given up\n" + bed.log_tail())
        assert len(bed.started("matcher-1")) == 4
        status = bed.ask()
        assert status["state"] == "given_up"
        assert all(p["state"] == "ready" for p in status["processes"] if p["name"] != "matcher-1")
        assert "exit 9" in bed.child("matcher-1")["last_death"]
        bed.tell("matcher-1", "ready")
        result = bed.command("reload")  # gives it another chance
        assert result.returncode == 0, result.stderr
        assert bed.ask()["state"] == "running"
        stop_clean(bed)


def test_exit_100_at_the_first_start_ends_the_instance_with_100(bed):
    bed.tell("publisher", "exit:100")
    bed.start(ready_seconds=0)
    assert bed.wait_exit() == 100
    assert len(bed.started("publisher")) == 1 and "told to leave" in bed.log()
    assert bed.segments() == [] and bed.children() == []


def test_exit_100_later_is_not_restarted_and_the_others_go_on(bed):
    bed.start()
    bed.tell("publisher", "late:100")
    wait_for(lambda: bed.ask()["state"] == "given_up", 10, "the publisher to be given up")
    assert len(bed.started("publisher")) == 1
    assert bed.child("puller")["state"] == "ready"


def test_an_assertion_that_fails_is_shown_as_the_reason(bed):
    bed.start()
    bed.tell("matcher-0", "abort")
    assert "assertion failed" in bed.wait_log(r'died .*child=matcher-0 how="signal 6[^"]*').group(0)


def test_a_stopped_process_is_found_and_replaced(bed):
    bed.start()
    pid = bed.child("matcher-1")["pid"]
    began = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: (bed.child("matcher-1") or {"pid": pid})["pid"] not in (0, pid), 5, "a new matcher-1")
    assert 0.1 < time.monotonic() - began < 3
    bed.wait_log(r'killed .*child=matcher-1 .*reason="stopped by a signal"')
    assert not os.path.exists(f"/proc/{pid}")


def test_a_process_that_is_stopped_for_a_moment_stays(bed):
    bed.start()
    pids = bed.children()
    os.kill(pids[0], signal.SIGSTOP)
    time.sleep(0.03)
    os.kill(pids[0], signal.SIGCONT)
    time.sleep(0.4)
    assert sorted(bed.children()) == sorted(pids) and "killed" not in bed.log()


def test_a_process_without_heartbeat_is_found_and_replaced(bed):
    bed.start()
    bed.tell("publisher", "silent")
    bed.wait_log(r'killed .*child=publisher .*reason="hung: no heartbeat"')
    bed.tell("publisher", "ready")
    wait_for(lambda: bed.ask()["state"] == "running", 10, "the instance to run")


def test_a_pause_of_the_supervisor_itself_kills_nobody():
    with Bed({"supervisor.stopped_timeout": "10s"}) as bed:  # not before a busy machine lets us go on
        bed.start()
        pids = bed.children()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        os.kill(bed.process.pid, signal.SIGSTOP)
        time.sleep(0.6)  # the pause itself: twice hang_timeout
        os.kill(bed.process.pid, signal.SIGCONT)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        wait_for(lambda: bed.ask()["state"] == "running", 5, "the instance to answer")
        assert sorted(bed.children()) == sorted(pids) and "hung" not in bed.log()


def test_a_process_that_does_not_become_ready_is_replaced():
    with Bed({"supervisor.start_timeout": "200ms"}) as bed:
        bed.tell("matcher-0", "never")
        bed.start(ready_seconds=0)
        bed.wait_log(r'killed .*child=matcher-0 .*reason="not ready in time"')
        bed.tell("matcher-0", "ready")
        wait_for(lambda: bed.ask()["state"] == "running", 10, "the instance to run")


def test_a_second_instance_of_the_name_is_refused_and_disturbs_nothing(bed):
    bed.start()
    segments, children = bed.segments(), sorted(bed.children())
    second = bed.command("run")
    assert second.returncode == 111
    assert f"is running already, as pid {bed.process.pid}" in second.stderr
    assert bed.segments() == segments and sorted(bed.children()) == children


def test_kill_9_of_the_supervisor_leaves_no_orphans_and_the_next_start_cleans_up(bed):
    bed.start()
    os.kill(bed.process.pid, signal.SIGKILL)
    bed.process.wait()
    wait_for(lambda: bed.children() == [], 5, "the children to die")
    left = bed.segments()
    assert left
    inode = os.stat(os.path.join("/dev/shm", left[0])).st_ino
    stray = f"/dev/shm/millrace.{bed.name}.e9.g77"
    with open(stray, "w", encoding="utf-8") as out:
        out.write("left by somebody")
    bed.start()
    assert not os.path.exists(stray) and "leftovers_removed" in bed.log()
    assert os.stat(os.path.join("/dev/shm", left[0])).st_ino != inode
    stop_clean(bed)


def test_stop_waits_for_the_drain_then_ends_publisher_matchers_puller_in_order(bed):
    bed.tell("undrained", "1")
    bed.start()
    asked = subprocess.Popen([os.path.join(bin_dir(), "millrace"), "stop", "-c", bed.config_path],
                             stdout=subprocess.PIPE, text=True)
    wait_for(lambda: bed.ask()["state"] == "stopping", 5, "the stop to begin")
    assert asked.poll() is None and bed.child("publisher")["state"] == "ready"
    os.kill(bed.child("matcher-0")["pid"], signal.SIGKILL)  # dies meanwhile: is replaced, the drain goes on
    wait_for(lambda: len(bed.started("matcher-0")) == 2, 5, "matcher-0 to be replaced")
    os.unlink(os.path.join(bed.fake, "undrained"))
    assert bed.wait_exit() == 0 and asked.wait(5) == 0
    assert asked.stdout.read() == "stopped\n"
    asked.stdout.close()
    order = re.findall(r"info supervisor left .*child=([a-z]+)", bed.log())
    assert order == ["publisher", "matcher", "matcher", "puller"]
    assert bed.segments() == [] and bed.children() == []


def test_a_stop_that_cannot_drain_ends_in_time_and_says_so():
    with Bed({"supervisor.drain_timeout": "300ms"}) as bed:
        bed.tell("undrained", "1")
        bed.start()
        assert bed.stop(20) == 111
        assert "not drained in supervisor.drain_timeout" in bed.log()
        assert bed.segments() == [] and bed.children() == []


def test_a_second_signal_stops_at_once(bed):
    bed.tell("undrained", "1")
    bed.start()
    bed.process.send_signal(signal.SIGINT)
    bed.wait_log("stop_begins")
    bed.process.send_signal(signal.SIGTERM)
    assert bed.wait_exit(5) == 111
    assert bed.segments() == [] and bed.children() == []


def test_a_process_that_ignores_sigterm_is_killed():
    with Bed({"supervisor.drain_timeout": "100ms"}) as other:
        other.tell("puller", "deaf")
        other.start()
        began = time.monotonic()
        assert other.stop(20) in (0, 111)
        assert time.monotonic() - began < 6 and "did not stop in time" in other.log()
        assert other.children() == []


def test_drain_answers_when_drained_and_then_stop_ends(bed):
    bed.start()
    result = bed.command("drain")
    assert result.returncode == 0 and "drained through sequence" in result.stdout
    assert bed.ask()["state"] == "drained" and bed.child("puller")["state"] == "drained"
    assert bed.command("scale", "3").returncode == 111
    assert bed.command("stop").stdout == "stopped\n"
    assert bed.wait_exit() == 0


def test_scale_up_and_down_leaves_the_new_rings_alone(bed):
    bed.start()
    for shards in (4, 1, 3):
        result = bed.command("scale", str(shards))
        assert result.returncode == 0 and f"{shards} shards, feed held for" in result.stdout, result.stderr
        status = bed.ask()
        assert status["shards"] == shards and status["state"] == "running"
        assert sum(p["name"].startswith("matcher") for p in status["processes"]) == shards
        generation = status["ring_generation"]
        rings = [s.split(".")[2:] for s in bed.segments() if s.split(".")[2][0] in "em"]
        assert len(rings) == 2 * shards and all(g == f"g{generation}" for _, g in rings)
        assert len(bed.children()) == shards + 2
    assert "already" in bed.command("scale", "3").stdout
    for wrong in ("0", "17", "x", "-1"):
        assert bed.command("scale", "--", wrong).returncode in (2, 100)
    stop_clean(bed)


def test_a_scale_that_nobody_follows_is_taken_back_and_the_next_one_works():
    with Bed({"supervisor.start_timeout": "400ms"}) as bed:
        bed.start()
        bed.tell("publisher", "detached")
        result = bed.command("scale", "4")
        assert result.returncode == 111 and "taken back, still 2 shards" in result.stderr
        assert bed.ask()["shards"] == 2
        wait_for(lambda: len(bed.children()) == 4, 5, "the new matchers to leave")
        assert {s.split(".")[-1] for s in bed.segments() if s.split(".")[2][0] == "e"} == {"g1"}
        bed.tell("publisher", "ready")
        result = bed.command("scale", "4")
        assert result.returncode == 0, result.stderr
        assert bed.ask()["ring_generation"] == 4
        stop_clean(bed)


def test_a_scale_does_not_need_a_relay_that_was_given_up_and_names_anybody_else_who_was():
    with Bed({"relay.listen": "127.0.0.1:0"}) as bed:
        bed.start()
        bed.tell("relay", "late:100")
        wait_for(lambda: bed.ask()["state"] == "given_up", 10, "the relay to be given up")
        result = bed.command("scale", "3")
        assert result.returncode == 0, result.stderr
        assert bed.ask()["shards"] == 3
        bed.tell("matcher-1", "late:100")
        wait_for(lambda: bed.child("matcher-1")["state"] == "given_up", 10, "a matcher to be given up")
        result = bed.command("scale", "4")
        assert result.returncode == 111 and "a process has been given up" in result.stderr, result.stderr


def test_a_matcher_that_dies_in_the_middle_of_a_scale_is_replaced_and_the_scale_ends_well(bed):
    bed.start()
    bed.tell("publisher", "detached")
    asked = subprocess.Popen([os.path.join(bin_dir(), "millrace"), "scale", "3", "-c", bed.config_path],
                             stdout=subprocess.PIPE, text=True)
    wait_for(lambda: len(bed.started("matcher-2")) == 1, 5, "a new matcher")
    for name in ("matcher-2", "puller"):
        wait_for(lambda: (bed.child(name) or {}).get("state") == "ready", 5, name)
        os.kill(bed.child(name)["pid"], signal.SIGKILL)
        wait_for(lambda: len(bed.started(name)) == 2, 5, f"{name} to be replaced")
    bed.tell("publisher", "ready")
    assert asked.wait(10) == 0
    asked.stdout.close()
    assert bed.ask()["shards"] == 3
    stop_clean(bed)


def test_reload_restarts_only_those_who_read_what_changed(bed):
    bed.start()
    before = {p["name"]: p["pid"] for p in bed.ask()["processes"]}
    bed.settings["generator.rate"] = 77
    bed.settings["checkpoint.interval"] = "30ms"
    bed.write_config()
    result = bed.command("reload")
    assert result.returncode == 0, result.stderr
    after = {p["name"]: p["pid"] for p in bed.ask()["processes"]}
    assert [n for n in before if before[n] != after[n]] == ["puller"]
    assert bed.started("puller")[-1] == ["puller", "77"]
    bed.settings["matcher.shards"] = 3  # and a changed number of shards is a scale
    bed.write_config()
    bed.process.send_signal(signal.SIGHUP)
    wait_for(lambda: bed.ask()["shards"] == 3 and bed.ask()["state"] == "running", 10, "three shards")
    stop_clean(bed)


def test_reload_of_a_broken_or_impossible_change_changes_nothing(bed):
    bed.start()
    before = sorted(bed.children())
    bed.settings["ring.event_size"] = "1MiB"
    bed.write_config()
    result = bed.command("reload")
    assert result.returncode == 100 and "ring.event_size: cannot change while the instance runs" in result.stderr
    bed.settings["ring.event_size"] = "some"
    bed.write_config()
    result = bed.command("reload", "-i", bed.name)
    assert result.returncode == 100 and "nothing changed: " in result.stderr and "expected a size" in result.stderr
    assert sorted(bed.children()) == before
    assert bed.command("status", "-i", bed.name).returncode == 0


def pids(bed):
    return {p["name"]: p["pid"] for p in bed.ask()["processes"]}


@pytest.mark.parametrize("restarts_max, word", [(5, "exit:111"), (0, "exit:9")])
def test_a_reload_after_which_a_process_does_not_come_up_ends_and_the_next_one_corrects_it(restarts_max, word):
    with Bed({"supervisor.restarts_max": restarts_max}) as bed:
        bed.start()
        assert bed.command("scale", "3").returncode == 0
        before = pids(bed)
        bed.tell("publisher", word)
        bed.settings["ring.spin"] = "11us"  # puller, publisher and matchers read it
        bed.write_config()
        result = bed.command("reload", timeout=10)
        says = f"publisher does not start with the new configuration: exit {word[5:]}.*; it is tried again"
        assert result.returncode == 111 and re.search(says, result.stderr), result.stderr
        between = pids(bed)
        assert [n for n in before if between[n] == before[n]] == ["matcher-0", "matcher-1", "matcher-2"]
        assert bed.ask()["state"] == "degraded"
        assert bed.command("reload", timeout=10).returncode == 111  # as long as nothing is corrected
        bed.tell("publisher", "ready")
        bed.settings["publisher.gateways_max"] = 77
        bed.write_config()
        result = bed.command("reload", timeout=10)
        assert result.returncode == 0, result.stderr
        after = pids(bed)
        assert not [n for n in before if after[n] == before[n]]  # the matchers, too, have the first change now
        assert bed.ask()["state"] == "running" and bed.ask()["shards"] == 3  # what scale said holds
        bed.settings["publisher.gateways_max"] = 78
        bed.write_config()
        assert bed.command("reload", timeout=10).returncode == 0
        assert [n for n in after if pids(bed)[n] != after[n]] == ["publisher"]
        stop_clean(bed)


def test_a_process_that_dies_once_while_the_configuration_is_taken_over_does_not_end_the_reload(bed):
    bed.start()
    bed.tell("publisher", "never")
    bed.settings["publisher.gateways_max"] = 77
    bed.write_config()
    asked = subprocess.Popen([os.path.join(bin_dir(), "millrace"), "reload", "-c", bed.config_path])
    wait_for(lambda: len(bed.started("publisher")) == 2 and bed.child("publisher")["pid"], 5, "the next publisher")
    bed.tell("publisher", "ready")
    os.kill(bed.child("publisher")["pid"], signal.SIGKILL)
    assert asked.wait(10) == 0
    stop_clean(bed)


def test_the_checkpoint_is_the_lesser_of_released_and_durable_and_survives(bed):
    bed.tell("released", 500)
    bed.tell("durable", 300)
    bed.start()
    wait_for(lambda: bed.ask()["checkpoint"] == 300, 5, "checkpoint 300")
    bed.tell("durable", 900)
    wait_for(lambda: bed.ask()["checkpoint"] == 500, 5, "checkpoint 500")
    bed.tell("released", 400)  # never goes back
    bed.kill_all()
    bed.start()
    assert bed.ask()["checkpoint"] == 500
    stop_clean(bed)


def test_a_broken_checkpoint_is_set_aside_and_told(bed):
    os.makedirs(bed.settings["instance.data_dir"])
    path = os.path.join(bed.settings["instance.data_dir"], "checkpoint")
    with open(path, "wb") as out:
        out.write(b"nonsense")
    bed.start()
    assert "checkpoint_broken" in bed.log() and "expected 80 bytes, got 8" in bed.log()
    assert os.path.exists(path + ".broken") and bed.ask()["checkpoint"] == 0
    stop_clean(bed)


def test_a_checkpoint_of_another_log_is_refused(bed):
    bed.tell("released", 5)
    bed.tell("durable", 5)
    bed.start()
    wait_for(lambda: bed.ask()["checkpoint"] == 5, 5, "checkpoint 5")
    stop_clean(bed)
    bed.tell("log_id", 8)
    bed.start(ready_seconds=0)
    assert bed.wait_exit() == 100
    assert "belongs to log 0000000000000007, but the log there is 0000000000000008" in bed.log()


def test_a_disk_that_takes_no_checkpoint_is_told_and_recovers(bed):
    bed.tell("released", 5)
    bed.tell("durable", 5)
    bed.start()
    wait_for(lambda: bed.ask()["checkpoint"] == 5, 5, "checkpoint 5")
    obstacle = os.path.join(bed.settings["instance.data_dir"], "checkpoint.new")
    os.mkdir(obstacle)
    bed.tell("released", 9)
    bed.tell("durable", 9)
    bed.wait_log("checkpoint_not_written")
    assert bed.ask()["checkpoint"] == 5
    os.rmdir(obstacle)
    wait_for(lambda: bed.ask()["checkpoint"] == 9, 5, "checkpoint 9")


def test_commands_without_an_instance_say_so(bed):
    for command in (["status"], ["stop"], ["drain"], ["reload"], ["scale", "2"]):
        result = bed.command(*command)
        assert result.returncode == 1 and f"no instance {bed.name} is running here" in result.stderr


def test_nonsense_on_the_control_socket_harms_nobody(bed):
    bed.start()
    for junk in (b"", b"\n", b"nonsense\n", b"x" * 1000, b"\0\xff\n", b"scale 99999999999999999999\n", b"status"):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(f"\0millrace.{bed.name}")
            sock.sendall(junk)
            if junk.endswith(b"\n"):
                answer = sock.makefile().readline()
                assert json.loads(answer)["ok"] is False
    held = []
    for _ in range(20):  # more than it serves
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(f"\0millrace.{bed.name}")
        held.append(sock)
    for sock in held:
        sock.close()
    wait_for(lambda: bed.ask()["state"] == "running", 5, "an answer")
    stop_clean(bed)


def test_the_service_manager_is_told(bed):
    path = os.path.join(bed.dir, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(10)
        os.environ.update(NOTIFY_SOCKET=path, WATCHDOG_USEC="300000")
        try:
            bed.start()
        finally:
            del os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"]
        heard = []

        def hear(word):
            while not any(word in text for text in heard):
                heard.append(manager.recv(4096).decode())

        hear("READY=1")
        del heard[:]
        hear("WATCHDOG=1")
        bed.process.send_signal(signal.SIGHUP)
        hear("RELOADING=1\nMONOTONIC_USEC=")
        del heard[:]
        hear("READY=1")
        bed.process.send_signal(signal.SIGTERM)
        hear("STOPPING=1")
        assert bed.wait_exit() == 0


def test_the_real_pipeline_runs_scales_heals_and_stops_with_everything_released():
    settings = {"source.kind": "generator", "generator.rate": 20000, "matcher.shards": 1}
    with Instance(settings) as real:
        real.start()

        def ask():
            return json.loads(real.command("status", "--json").stdout)

        for shards in (4, 2, 3):
            fed = ask()["fed"]
            result = real.command("scale", str(shards))
            assert result.returncode == 0, result.stderr
            pause_ms = float(re.search(r"held for ([\d.]+) ms", result.stdout)[1])
            assert pause_ms <= 500, result.stdout
            wait_for(lambda: ask()["released"] > fed, 10, "events behind the change")
            assert len([s for s in real.segments() if ".e" in s]) == shards
        for name in ("matcher-0", "puller", "publisher"):
            pid = next(p["pid"] for p in ask()["processes"] if p["name"] == name)
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: ask()["state"] == "running" and pid not in [p["pid"] for p in ask()["processes"]], 10, name)
            released = ask()["released"]
            wait_for(lambda: ask()["released"] > released, 10, f"events behind the death of {name}")
        assert real.command("drain").returncode == 0
        end = ask()
        assert end["checkpoint"] == end["fed"] == end["log"]["durable"] == end["log"]["written"]
        assert real.stop() == 0, real.log_tail()
        assert real.segments() == []


def test_a_scale_that_is_taken_back_ends_when_its_matchers_are_gone_and_the_next_one_works():
    # Answered before that, the next change found their cells in use and ended the supervisor.
    with Bed({"supervisor.start_timeout": "400ms"}) as bed:
        bed.start()
        bed.tell("publisher", "detached")
        bed.tell("matcher-2", "deaf")
        result = bed.command("scale", "4")
        assert result.returncode == 111 and "taken back, still 2 shards" in result.stderr
        assert bed.child("matcher-2") is None
        bed.tell("publisher", "ready")
        bed.tell("matcher-2", "ready")
        result = bed.command("scale", "4")
        assert result.returncode == 0, result.stderr + bed.log()
        stop_clean(bed)


def test_a_broken_checkpoint_of_a_log_that_has_lost_its_beginning_feeds_what_is_left():
    settings = {"source.kind": "generator", "generator.rate": 50000, "log.segment_size": "1MiB",
                "log.retention_size": "2MiB", "checkpoint.interval": "20ms"}
    with Instance(settings) as real:
        real.start()

        def ask():
            return json.loads(real.command("status", "--json").stdout)

        wait_for(lambda: ask()["log"]["floor"] > 1, 20, "retention to remove a segment")
        assert real.stop() == 0, real.log_tail()
        with open(os.path.join(real.settings["instance.data_dir"], "checkpoint"), "wb") as out:
            out.write(b"nonsense")
        real.start()
        fed = ask()["fed"]
        wait_for(lambda: ask()["released"] > fed, 10, "events to go on")
        assert real.stop() == 0, real.log_tail()
