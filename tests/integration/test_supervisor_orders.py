"""What a process of an instance is told while it is just then leaving, starting or dead, with fake processes:
whatever meets whatever, every life comes to its end and every order to its answer."""

import contextlib
import os
import pty
import re
import resource
import signal
import subprocess
import time

import pytest

from instance import bin_dir, wait_for
from test_supervisor import Bed, bed, stop_clean  # noqa: F401  (bed is a fixture)


@contextlib.contextmanager
def asked(bed, *args):
    """A command of millrace that is under way; its texts are pipes."""
    process = subprocess.Popen([os.path.join(bin_dir(), "millrace"), *args, "-c", bed.config_path],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def leave_one_stopping(bed, key="publisher.gateways_max", value=77, name="publisher"):
    """Change a key that `name`, which does not leave, has to be replaced for. The caller reloads."""
    bed.tell(name, "deaf")
    bed.settings[key] = value
    bed.write_config()


def wait_stopping(bed, name):
    bed.wait_log(f"signal process={name} number=15", 5)


@pytest.mark.parametrize("name, key", [("publisher", "publisher.gateways_max"), ("relay", "relay.consumers_max")])
@pytest.mark.parametrize("signals", [1, 2])
def test_a_stop_ends_also_while_a_reload_waits_for_a_process_to_leave(name, key, signals):
    with Bed({"relay.listen": "127.0.0.1:0", "supervisor.drain_timeout": "1s"}) as bed:
        bed.start()
        leave_one_stopping(bed, key, 77, name)
        with asked(bed, "reload") as reload:
            wait_stopping(bed, name)
            for again in range(signals):
                bed.process.send_signal(signal.SIGTERM)
                bed.wait_log("stops_at_once" if again else "stop_begins")
            assert bed.wait_exit(4) == (111 if signals == 2 else 0)
            assert reload.wait(5) == 111 and "ended by stop, while the instance was reloading" in reload.stderr.read()
        assert len(bed.started(name)) == 1
        assert bed.segments() == [] and bed.children() == []


def test_a_puller_that_a_reload_replaces_comes_back_to_drain():
    with Bed() as bed:
        bed.tell("undrained", "1")
        bed.start()
        leave_one_stopping(bed, "generator.rate", 77, "puller")
        with asked(bed, "reload"):
            wait_stopping(bed, "puller")
            bed.process.send_signal(signal.SIGTERM)
            bed.wait_log("stop_begins")
            bed.tell("puller", "ready")
            wait_for(lambda: len(bed.started("puller")) == 2, 5, "the next puller")
            os.unlink(os.path.join(bed.fake, "undrained"))
            assert bed.wait_exit(5) == 0
        assert bed.segments() == [] and bed.children() == []


def test_a_second_signal_takes_the_patience_with_one_who_was_told_to_leave_already():
    with Bed({"supervisor.drain_timeout": "20s"}) as bed:
        bed.tell("puller", "deaf")
        bed.start()
        bed.process.send_signal(signal.SIGTERM)
        wait_stopping(bed, "puller")
        bed.process.send_signal(signal.SIGTERM)
        assert bed.wait_exit(5) == 111
        assert bed.segments() == [] and bed.children() == []


def test_a_process_that_was_stopped_and_then_killed_for_good_takes_nobody_with_it():
    # Its stop was remembered, and when stopped_timeout had passed "it" was killed: pid 0, our own group.
    with Bed({"supervisor.restarts_max": 1, "supervisor.stopped_timeout": "500ms"}) as bed:
        bed.start()
        os.kill(bed.child("matcher-1")["pid"], signal.SIGKILL)
        wait_for(lambda: bed.child("matcher-1")["restarts"] == 1 and bed.ask()["state"] == "running", 5, "matcher-1")
        pid = bed.child("matcher-1")["pid"]
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        time.sleep(1)
        assert bed.process.poll() is None and bed.ask()["state"] == "given_up"
        assert bed.child("puller")["state"] == "ready"


def test_a_process_that_cannot_be_watched_is_tried_again_and_no_other_is_signalled_in_its_place():
    with Bed() as bed:
        bed.start()
        files = resource.prlimit(bed.process.pid, resource.RLIMIT_NOFILE)

        def without_files():
            pid, failed = bed.child("publisher")["pid"], bed.log().count("start_failed")
            resource.prlimit(bed.process.pid, resource.RLIMIT_NOFILE, (8, files[1]))
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: bed.log().count("start_failed") > failed, 5, "a start that fails")
            assert "Too many open files" in bed.log()

        without_files()
        resource.prlimit(bed.process.pid, resource.RLIMIT_NOFILE, files)
        wait_for(lambda: bed.ask()["state"] == "running", 5, "the publisher to come back")
        without_files()
        assert bed.stop(5) == 0
        assert bed.segments() == [] and bed.children() == []


def test_a_process_that_never_becomes_ready_ends_the_reload_and_is_given_up():
    # However long it took not to become ready, that was no healthy run.
    with Bed({"supervisor.healthy_after": "100ms", "supervisor.start_timeout": "200ms",
              "supervisor.restarts_max": 3}) as bed:
        bed.start()
        bed.tell("publisher", "never")
        bed.settings["publisher.gateways_max"] = 77
        bed.write_config()
        result = bed.command("reload", timeout=5)
        says = "publisher does not start with the new configuration: .*not ready in time; it is tried again"
        assert result.returncode == 111 and re.search(says, result.stderr), result.stderr
        wait_for(lambda: bed.ask()["state"] == "given_up", 5, "the publisher to be given up")
        assert len(bed.started("publisher")) == 5
        bed.tell("publisher", "ready")
        assert bed.command("reload", timeout=5).returncode == 0
        stop_clean(bed)


def test_a_process_that_leaves_with_111_before_it_is_ready_waits_longer_each_time():
    with Bed({"supervisor.healthy_after": "1ms", "supervisor.backoff_max": "10s"}) as bed:
        bed.tell("puller", "exit:111")
        bed.start(ready_seconds=0)
        time.sleep(2)
        assert 5 < len(bed.started("puller")) < 10


def test_a_reload_takes_no_more_subscriptions_than_the_journals_were_made_for():
    # It said yes, and what came over the journals' end was refused with "try again later" for ever.
    with Bed({"publisher.subscriptions_max": 10000}) as bed:
        bed.start()
        bed.settings["publisher.subscriptions_max"] = 1000000
        bed.write_config()
        result = bed.command("reload")
        assert result.returncode == 100 and len(bed.started("publisher")) == 1
        assert "nothing changed: publisher.subscriptions_max: cannot rise to 1000000 while the instance runs" in result.stderr
        bed.settings["publisher.subscriptions_max"] = 16384  # what the least journal has room for
        bed.settings["jetstream.enabled"] = True
        bed.write_config()
        result = bed.command("reload")
        assert result.returncode == 0, result.stderr
        assert len(bed.started("publisher")) == 2
        stop_clean(bed)


def test_a_drain_that_is_cut_short_by_stop_says_so(bed):
    bed.tell("undrained", "1")
    bed.start()
    with asked(bed, "drain") as drain:
        bed.wait_log("drain_begins")
        with asked(bed, "stop") as stop:
            assert drain.wait(5) == 111
            assert "ended by stop, while the instance was draining" in drain.stderr.read()
            os.unlink(os.path.join(bed.fake, "undrained"))
            assert stop.wait(5) == 0
    assert bed.wait_exit() == 0


@pytest.mark.parametrize("name, word, code", [("publisher", "detached", 111), ("matcher-1", "deaf", 0)])
def test_a_scale_that_is_cut_short_by_stop_has_failed_unless_only_the_old_matchers_had_to_leave(bed, name, word, code):
    bed.start()
    bed.tell(name, word)
    with asked(bed, "scale", "1") as scale:
        if word == "deaf":
            wait_stopping(bed, name)
        else:
            bed.wait_log("scale_begins")
        bed.process.send_signal(signal.SIGTERM)
        assert scale.wait(5) == code
        bed.tell(name, "ready")
        assert bed.wait_exit() == 0
    assert bed.segments() == [] and bed.children() == []


def test_a_reload_changes_the_format_of_the_supervisors_own_log_lines_too(bed):
    bed.start()
    for form, ours, begins in (("json", '"process":"supervisor"', "{"), ("text", "process=supervisor", "2")):
        bed.settings["logging.format"] = form
        bed.write_config()
        before = len(bed.log())
        assert bed.command("reload").returncode == 0
        lines = [line for line in bed.log()[before:].splitlines() if "supervisor" in line]
        assert "task_done" in lines[-1] and all(ours in line and line.startswith(begins) for line in lines), lines


@pytest.mark.parametrize("name, word, state", [("publisher", "exit:9", "given_up"), ("puller", "exit:111", "starting")])
def test_an_instance_that_never_came_up_can_be_corrected_by_a_reload(name, word, state):
    # Only a stop led out of it, while the log said "correct the cause, then millrace reload".
    with Bed({"supervisor.restarts_max": 3}) as bed:
        bed.tell(name, word)
        bed.start(ready_seconds=0)
        wait_for(lambda: len(bed.started(name)) >= 3 and bed.ask()["state"] == state, 10, f"{name} to fail")
        bed.settings["generator.rate" if name == "puller" else "publisher.gateways_max"] = 77
        bed.write_config()
        result = bed.command("reload", timeout=10)
        assert result.returncode == 111 and f"{name} does not start with the new configuration" in result.stderr
        bed.tell(name, "ready")
        result = bed.command("reload", timeout=10)
        assert result.returncode == 0, result.stderr
        wait_for(lambda: bed.ask()["state"] == "running", 5, "the instance to run")
        assert bed.command("scale", "3").returncode == 0
        stop_clean(bed)


def test_a_configuration_that_is_refused_after_an_early_reload_does_not_end_the_instance(bed):
    bed.tell("puller", "exit:111")
    bed.start(ready_seconds=0)
    wait_for(lambda: len(bed.started("puller")) >= 3 and bed.child("publisher")["state"] == "ready", 5, "the publisher")
    bed.tell("publisher", "exit:100")
    bed.settings["publisher.gateways_max"] = 77
    bed.write_config()
    result = bed.command("reload", timeout=5)
    assert result.returncode == 100 and "publisher does not start with the new configuration" in result.stderr
    time.sleep(0.2)
    assert bed.process.poll() is None and bed.ask()["state"] == "given_up"
    bed.tell("publisher", "ready")
    bed.tell("puller", "ready")
    assert bed.command("reload", timeout=5).returncode == 0
    wait_for(lambda: bed.ask()["state"] == "running", 5, "the instance to run")
    stop_clean(bed)


def test_an_early_reload_leaves_the_number_of_shards_to_the_next_one(bed):
    bed.tell("puller", "exit:111")
    bed.start(ready_seconds=0)
    wait_for(lambda: len(bed.started("puller")) >= 3, 5, "the puller to fail")
    bed.settings["matcher.shards"] = 3
    bed.write_config()
    result = bed.command("reload", timeout=2)
    assert result.returncode == 111 and "but for matcher.shards" in result.stderr
    bed.tell("puller", "ready")
    wait_for(lambda: bed.ask()["state"] == "running", 5, "the instance to run")
    assert bed.ask()["shards"] == 2
    assert bed.command("reload", timeout=5).returncode == 0 and bed.ask()["shards"] == 3
    stop_clean(bed)


def test_a_scale_that_a_reload_did_not_get_done_is_done_by_the_next_reload():
    with Bed({"supervisor.start_timeout": "400ms"}) as bed:
        bed.start()
        bed.tell("publisher", "detached")
        bed.settings["matcher.shards"] = 3
        bed.write_config()
        result = bed.command("reload", timeout=10)
        assert result.returncode == 111 and "taken back, still 2 shards" in result.stderr
        bed.tell("publisher", "ready")
        result = bed.command("reload", timeout=10)
        assert result.returncode == 0 and bed.ask()["shards"] == 3, result.stdout + result.stderr
        assert bed.command("scale", "1").returncode == 0
        assert bed.command("reload").returncode == 0 and bed.ask()["shards"] == 1  # what scale said holds
        stop_clean(bed)


def test_a_process_that_is_stopped_while_it_starts_or_leaves_is_not_waited_for():
    with Bed({"supervisor.drain_timeout": "20s"}) as bed:
        bed.tell("matcher-0", "never")
        bed.start(ready_seconds=0)
        pid = wait_for(lambda: (bed.child("matcher-0") or {}).get("pid"), 5, "a matcher-0 that starts")
        wait_for(lambda: bed.started("matcher-0"), 5, "it to be itself")
        bed.tell("matcher-0", "ready")
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: bed.ask()["state"] == "running", 3, "the instance to run")
        assert "child=matcher-0" in bed.wait_log("killed .* reason=\"stopped by a signal\"").group(0)
        bed.tell("puller", "deaf")
        time.sleep(0.05)
        bed.process.send_signal(signal.SIGTERM)
        wait_stopping(bed, "puller")
        os.kill(int(re.findall(r"child=puller child_pid=(\d+)", bed.log())[-1]), signal.SIGSTOP)
        assert bed.wait_exit(3) == 0
        assert bed.segments() == [] and bed.children() == []


def test_a_sighup_while_a_reload_is_under_way_is_not_lost(bed):
    bed.start()
    leave_one_stopping(bed)
    with asked(bed, "reload") as reload:
        wait_stopping(bed, "publisher")
        bed.settings["generator.rate"] = 78
        bed.write_config()
        bed.process.send_signal(signal.SIGHUP)
        bed.wait_log("signal .*number=1 ")
        bed.tell("publisher", "ready")
        assert reload.wait(5) == 0
    wait_for(lambda: bed.started("puller")[-1] == ["puller", "78"], 5, "the change to be taken over")
    wait_for(lambda: bed.ask()["state"] == "running", 5, "the instance to run")
    stop_clean(bed)


def test_a_reload_no_more_reads_events_from_a_terminal_than_a_start_does(bed):
    keyboard, terminal = pty.openpty()
    with open(bed.log_path, "a", encoding="utf-8") as log:
        bed.process = subprocess.Popen([os.path.join(bin_dir(), "millrace"), "run", "-c", bed.config_path], stdin=terminal,
                                       stdout=log, stderr=log, env={**os.environ, "MILLRACE_TEST_FAKE": bed.fake})
    wait_for(lambda: bed.ask()["state"] == "running", 10, "the instance to run")
    bed.settings.update({"source.kind": "ndjson", "ndjson.path": "-"})
    bed.write_config()
    result = bed.command("reload")
    os.close(keyboard)
    os.close(terminal)
    assert result.returncode == 100 and "which is a terminal here" in result.stderr
    assert len(bed.started("puller")) == 1
    stop_clean(bed)
