"""A disk whose fsync takes its time: nobody waits for it but what must, and what is not durable stays bounded. The
delay comes from a library in front of libc; io_uring, which it could not delay, is refused as a container would."""

import os
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from consumer import Relay, flatten, sequence_of
from instance import Instance, free_port, wait_for

LIBRARY = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
static void slow(void) { usleep((unsigned)atoi(getenv("MRTEST_FSYNC_MS")) * 1000); }
int fsync(int fd) { slow(); return (int)syscall(SYS_fsync, fd); }
int fdatasync(int fd) { slow(); return (int)syscall(SYS_fdatasync, fd); }
int io_uring_queue_init(unsigned entries, void *ring, unsigned flags)
{ (void)entries; (void)ring; (void)flags; return -38; /* ENOSYS */ }
"""


@pytest.fixture(scope="module", name="library")
def fixture_library():
    where = tempfile.mkdtemp(prefix="millrace-")
    path = os.path.join(where, "slow.so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", path, "-x", "c", "-"], input=LIBRARY, text=True, check=True)
    yield path
    shutil.rmtree(where)


@pytest.fixture
def slow(library, monkeypatch):
    def begin(milliseconds):
        monkeypatch.setenv("LD_PRELOAD", library)
        monkeypatch.setenv("MRTEST_FSYNC_MS", str(milliseconds))
    return begin


def place(instance):
    """(written, durable, checkpoint); None while the puller is away."""
    status = instance.status()
    puller = next((p for p in (status or {"processes": []})["processes"] if p["kind"] == "puller"), None)
    if not puller or "millrace_log_written_sequence" not in puller["counters"]:
        return None
    counters = puller["counters"]
    return counters["millrace_log_written_sequence"], counters["millrace_log_durable_sequence"], status["checkpoint"]


def test_a_slow_fsync_holds_up_the_checkpoint_and_nothing_else(slow):
    count, rate, port = 12000, 4000, free_port()
    slow(500)
    with Instance({"source.kind": "generator", "generator.count": count, "generator.rate": rate,
                   "generator.document_bytes": "150B", "checkpoint.interval": "50ms", "matcher.shards": 2,
                   "relay.listen": f"127.0.0.1:{port}"}) as instance:
        instance.start(ready_seconds=60)
        places, got, killed, look = [], [], False, 0
        with Relay(port) as relay:
            for event in flatten(relay.subscribe(after="e30", batch=True, timeout=90)):
                if event.HasField("change_event"):
                    got.append(sequence_of(event.progress))
                if len(got) == count:
                    break
                if time.monotonic() > look:
                    places.append(place(instance) or (0, 0, 0))
                    look = time.monotonic() + 0.1
                if len(got) > count // 2 and not killed:
                    os.kill(instance.pids()["puller"], signal.SIGKILL)
                    killed = True
        assert got == list(range(1, count + 1))
        assert any(durable < written for written, durable, _ in places), places
        assert all(checkpoint <= durable for _, durable, checkpoint in places), places
        wait_for(lambda: instance.status()["checkpoint"] == count, 20, "the checkpoint")
        assert instance.log_tail(10000).count(" died process=supervisor child=") == 1, instance.log_tail(100)
        assert instance.stop(60) == 0


def test_what_waits_for_the_disk_is_bounded_and_the_intake_waits_with_it(slow):
    size, count = 65536, 4800  # 300 MiB; 256 MiB may wait
    slow(1200)  # longer than supervisor.hang_timeout
    with Instance({"source.kind": "generator", "generator.count": count, "generator.rate": 0,
                   "generator.document_bytes": size, "matcher.shards": 1, "log.segment_size": "400MiB"}) as instance:
        instance.start(ready_seconds=90)
        places = []

        def done():
            if now := place(instance):
                places.append(now)
            return places and places[-1][1] == count
        wait_for(done, 90, "all to be durable")
        waiting = max(written - durable for written, durable, _ in places) * size
        assert 64 << 20 < waiting <= (256 << 20) + (8 << 20), waiting
        assert " died " not in instance.log_tail(10000)  # a slow disk is no hang
        assert instance.stop(60) == 0


def test_a_drain_waits_for_a_slow_fsync_and_its_puller_beats_on(slow):
    slow(1200)  # longer than supervisor.hang_timeout
    with Instance({"source.kind": "generator", "generator.count": 10**9, "generator.rate": 1000,
                   "matcher.shards": 1}) as instance:
        instance.start(ready_seconds=60)
        wait_for(lambda: (now := place(instance)) and now[0] > now[1], 20, "something to wait for the disk")
        assert instance.stop(60) == 0
        assert " died " not in instance.log_tail(10000), instance.log_tail(20)
