"""Every process dies at every interesting instruction, under load, and PostgreSQL says what should have arrived.

A test build dies where MRTEST_CRASH says (common/crash.h) and leaves a file that proves it. Several
points that do not get into each other's way share a run. Run with a test build:
  scripts/build --debug && MILLRACE_TEST_BIN=$PWD/build-debug/bin pytest tests/integration/test_crash_points.py
"""

import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from bed import Bed
from consumer import Relay, flatten, sequence_of
from instance import Instance, bin_dir, free_port, wait_for
from pg import Cluster


def is_test_build():
    path = os.path.join(bin_dir(), "millrace-puller")
    with open(path, "rb") as program:
        return b"MRTEST_CRASH" in program.read()


pytestmark = pytest.mark.skipif(not is_test_build(), reason="the build has no crash points: scripts/build --debug, MILLRACE_TEST_BIN")

PULLER, MATCHER, PUBLISHER, SUPERVISOR = "millrace-puller", "millrace-matcher", "millrace-publisher", "millrace"

# What happens by itself under load. Within a run each process dies several times, at places further and further on.
UNDER_LOAD = {
    "feed": [f"{PULLER}@feed.put:30", f"{PULLER}@feed.published:17", f"{PULLER}@feed.through:5",
             f"{PULLER}@ring.slot:41", f"{PULLER}@ring.tail:28", f"{PULLER}@log.written:23",
             f"{PULLER}@intake.sealed:12"],
    "feed-odd": [f"{PULLER}@feed.put:1", f"{PULLER}@feed.published:2", f"{PULLER}@feed.through:2",
                 f"{PULLER}@ring.slot:2", f"{PULLER}@ring.tail:1", f"{PULLER}@log.written:1",
                 f"{PULLER}@intake.sealed:1"],
    "log": [f"{PULLER}@log.synced:3", f"{PULLER}@log.marked:4", f"{PULLER}@log.named:1",
            f"{SUPERVISOR}@checkpoint.written:3"],
    "match": [f"{MATCHER}@matcher.written:40", f"{MATCHER}@matcher.published:21", f"{MATCHER}@matcher.released:33",
              f"{MATCHER}@ring.slot:5", f"{MATCHER}@ring.tail:17", f"{MATCHER}@ring.position:9",
              f"{MATCHER}@ring.note:29"],
    "match-odd": [f"{MATCHER}@matcher.written:1", f"{MATCHER}@matcher.published:1", f"{MATCHER}@matcher.released:2",
                  f"{MATCHER}@matcher.applied:9", f"{MATCHER}@matcher.reported:1", f"{MATCHER}@ring.position:1"],
    "publish": [f"{PUBLISHER}@publisher.events_released:37", f"{PUBLISHER}@publisher.matches_released:52",
                f"{PUBLISHER}@publisher.delivered:61", f"{PUBLISHER}@ring.position:31", f"{PUBLISHER}@ring.note:44",
                f"{PUBLISHER}@publisher.live:2"],
    "journal": [f"{PUBLISHER}@journal.emptying:1", f"{PUBLISHER}@journal.begun:1", f"{PUBLISHER}@journal.named:1",
                f"{PUBLISHER}@journal.appended:7", f"{PUBLISHER}@journal.published:2",
                f"{PUBLISHER}@publisher.announced:2", f"{MATCHER}@matcher.generation:1"],
    # Begun, and never named on the board: the successor must not wait for the segment that is in use.
    "journal-again": [f"{PUBLISHER}@publisher.delivered:5", f"{PUBLISHER}@journal.renewed:1"],
    "all": [f"{PULLER}@feed.published:101", f"{MATCHER}@matcher.published:88", f"{PUBLISHER}@publisher.delivered:150",
            f"{PULLER}@feed.through:303", f"{MATCHER}@matcher.released:222",
            f"{PUBLISHER}@publisher.events_released:333"],
    "checkpoint": [f"{SUPERVISOR}@checkpoint.written:2", f"{SUPERVISOR}@checkpoint.synced:3",
                   f"{SUPERVISOR}@checkpoint.renamed:1"],
}

# What happens when the number of shards changes.
WHILE_SCALING = {
    "scale-puller": [f"{PULLER}@control.attached:1", f"{PULLER}@control.stated:1", f"{PULLER}@control.paused:1",
                     f"{PULLER}@control.switching:1", f"{PULLER}@control.switched:1"],
    # The successor is ready before it knows that it must stand still, and wakes up when all is switched.
    # The publisher is slow, so that the old rings are empty only then.
    "scale-race": [f"{PUBLISHER}@publisher.attached:2~600", f"{PULLER}@feed.held:5", f"{PULLER}@control.told:1~300"],
    "scale-publisher": [f"{PUBLISHER}@publisher.attached:2", f"{PUBLISHER}@publisher.switched:1",
                        f"{MATCHER}@matcher.reported:1"],
    "scale-supervisor": [f"{SUPERVISOR}@scale.created:1", f"{SUPERVISOR}@scale.announced:1",
                         f"{SUPERVISOR}@scale.quiesced:1", f"{SUPERVISOR}@scale.named:1",
                         f"{SUPERVISOR}@scale.switched:1", f"{SUPERVISOR}@scale.removed:1"],
}

# At a graceful stop; the load has ended, and the next start has to deliver what is left.
WHILE_STOPPING = [f"{SUPERVISOR}@drain.directed:1", f"{PULLER}@drain.synced:1", f"{SUPERVISOR}@drain.drained:1"]


class Keeper(threading.Thread):
    """Starts a supervisor that was killed again, as a service manager does."""

    def __init__(self, instance):
        super().__init__(daemon=True)
        self.instance, self.ended = instance, threading.Event()

    def run(self):
        while not self.ended.wait(0.01):
            if self.instance.process.poll() == -signal.SIGKILL:
                self.instance.start(ready_seconds=0)

    def end(self):
        self.ended.set()
        self.join()


class Crashes:
    """The points of one run, and which of them have fired."""

    def __init__(self, points, directory, monkeypatch):
        self.names, self.directory = {p.partition(":")[0] for p in points}, directory
        assert len(self.names) == len(points), "a point fires once a run"
        monkeypatch.setenv("MRTEST_CRASH", " ".join(points))
        monkeypatch.setenv("MRTEST_CRASH_DIR", str(directory))

    def missing(self):
        return self.names - set(os.listdir(self.directory))


SETTINGS = {"checkpoint.interval": "50ms", "supervisor.restarts_max": 0, "matcher.shards": 2,
            "supervisor.backoff_max": "50ms", "log.segment_size": "1MiB"}


def make_bed(seed, **settings):
    return Bed(seed, settings={**SETTINGS, **settings}, per_second=1500, load_options={"body": 400})


def slot_stands(bed):
    with psycopg.connect(bed.dsn, autocommit=True) as connection:
        return connection.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'millrace' "
                                  "AND confirmed_flush_lsn IS NOT NULL").fetchone()


def begin(bed):
    bed.instance.start(ready_seconds=0)
    keeper = Keeper(bed.instance)
    keeper.start()
    bed.subscriber.start(30)
    # What is committed before the source's slot stands is nobody's.
    wait_for(lambda: slot_stands(bed), 20, "the replication slot")
    bed.load.start()
    return keeper


def check(bed, crashes):
    assert not crashes.missing(), f"never passed: {crashes.missing()}"
    assert bed.verdict(10) == []
    for process in bed.instance.status()["processes"]:
        assert process["state"] == "ready", bed.instance.log_tail()


@pytest.mark.parametrize("name", UNDER_LOAD)
def test_a_crash_under_load_loses_nothing(name, tmp_path, monkeypatch):
    crashes = Crashes(UNDER_LOAD[name], tmp_path, monkeypatch)
    with make_bed(len(name)) as bed:
        keeper = begin(bed)
        try:
            end = time.monotonic() + 20
            while crashes.missing() and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(0.5)
            check(bed, crashes)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{bed.instance.log_tail(80)}") from None
        finally:
            keeper.end()


@pytest.mark.parametrize("name", WHILE_SCALING)
def test_a_crash_while_scaling_loses_nothing(name, tmp_path, monkeypatch):
    crashes = Crashes(WHILE_SCALING[name], tmp_path, monkeypatch)
    with make_bed(len(name)) as bed:
        keeper = begin(bed)
        try:
            shards, end = 2, time.monotonic() + 30
            while crashes.missing() and time.monotonic() < end:
                shards = 5 - shards
                bed.instance.command("scale", str(shards))
                time.sleep(0.05)
            time.sleep(0.5)
            wait_for(lambda: bed.instance.command("scale", "2").returncode == 0, 10, "a change of shards without a crash")
            check(bed, crashes)
            assert len([s for s in bed.instance.segments() if ".g" in s]) == 6
        except AssertionError as error:
            raise AssertionError(f"{error}\n{bed.instance.log_tail(80)}") from None
        finally:
            keeper.end()


def test_a_change_of_shards_succeeds_behind_a_death_between_publishing_two_rings(tmp_path, monkeypatch):
    """Nothing is fed before, so the first two passes are those of the start, and the third one is between the rings. The
    new matchers are slow to be ready and the puller to come back: it finds that it has to stand still."""
    points = [f"{PULLER}@feed.published:3", f"{MATCHER}@matcher.generation:1~700"]
    crashes = Crashes(points, tmp_path, monkeypatch)
    with Cluster() as cluster:
        cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
        with Instance({"source.kind": "postgres", "postgres.url": cluster.dsn(), "matcher.shards": 2,
                       "checkpoint.interval": "50ms", "supervisor.backoff_min": "1s", "supervisor.backoff_max": "1s"}) as instance:
            instance.start()
            wait_for(lambda: cluster.execute("SELECT 1 FROM pg_replication_slots WHERE active"), 20, "the stream")
            with ThreadPoolExecutor() as pool:
                change = pool.submit(instance.command, "scale", "3")
                wait_for(lambda: re.search(r"rings_attached process=puller generation=2", instance.log_tail(200)), 10,
                         "the puller to take the new rings")
                cluster.execute("INSERT INTO t SELECT generate_series(1, 100)")
                done = change.result()
            assert done.returncode == 0, (done.stdout, done.stderr, instance.log_tail())
            assert not crashes.missing()
            assert " died process=supervisor child=puller" in instance.log_tail(200)
            end = cluster.value("SELECT pg_current_wal_lsn() - '0/0'")
            wait_for(lambda: cluster.value("SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots") >= end, 20,
                     "the checkpoint behind everything")


def test_what_the_board_does_not_announce_yet_reaches_no_consumer_of_the_log(monkeypatch):
    """Or its marker would be refused: the puller sleeps between writing a batch and saying so."""
    monkeypatch.setenv("MRTEST_CRASH", " ".join(f"{PULLER}@intake.sealed:{n}~200" for n in range(200, 400, 40)))
    port = free_port()
    with Instance({"source.kind": "generator", "generator.rate": "200", "relay.listen": f"127.0.0.1:{port}"}) as instance:
        instance.start()
        with Relay(port) as relay:
            for event in flatten(relay.subscribe(consumer_id="me", after="e30", batch=True)):
                relay.acknowledge("me", event.progress)
                if sequence_of(event.progress) > 500:
                    break


def test_a_crash_while_stopping_loses_nothing(tmp_path, monkeypatch):
    crashes = Crashes(WHILE_STOPPING, tmp_path, monkeypatch)
    with make_bed(7) as bed:
        begin(bed).end()
        stops = 0
        while crashes.missing() and stops < 5:
            time.sleep(0.3)
            code = bed.instance.stop()
            assert code in (0, -signal.SIGKILL), bed.instance.log_tail(80)
            stops += 1
            bed.instance.start()
        check(bed, crashes)
        assert bed.instance.stop() == 0
        assert bed.instance.segments() == []
