"""The reference consumer over JetStream: its copy ends equal to the table, whatever happened to it, to the stream, to
nats-server and to millrace. MILLRACE_TEST_KILLS: how often; acceptance is 50."""

import os
import random
import signal
import subprocess
import time

import pytest

import nats
import nats_py
from instance import ROOT, wait_for
from test_index_consumer import Bed, change_rows_with_large_values

PYTHON = nats.have_server() and nats_py.python()
pytestmark = pytest.mark.skipif(not PYTHON, reason="nats-server is not installed, or nats-py cannot be had")
STREAM = "QUERY_INDEX"


class StreamBed(Bed):
    """The same table and load; the consumer reads from the fan-out's stream."""

    def __init__(self, **settings):
        self.server = nats.Server()
        super().__init__(**{"query.jetstream_enabled": True, "query.jetstream_url": self.server.url,
                            "nats.breaker_open": "200ms", "checkpoint.interval": "50ms", "supervisor.restarts_max": 0,
                            **settings})

    def __exit__(self, *_):
        super().__exit__()
        self.server.close()

    def start_consumer(self, *program):
        self.consumer = subprocess.Popen(
            [PYTHON, *(program or [f"{ROOT}/examples/index_jetstream.py"]), "--nats", self.server.url, "--collection", "items",
             "--copy", self.copy_path, "--snapshot", self.cluster.dsn(), "--table", "live", "--ack-wait", "1",
             *self.options], stderr=self.log)

    def first_copy(self):
        self.start_consumer()
        wait_for(lambda: "rebuilt:" in self.said() and len(self.copied()) > 20, 40, "the first copy")

    def stop_consumer(self):
        self.consumer.kill()
        self.consumer.wait()

    def stored(self):
        with nats.Client(self.server.port) as client:
            return client.stream(STREAM)["state"]["last_seq"]


LAG = ["--lag-soft-events", "200", "--lag-hard-events", "600"]


def test_a_consumer_slowed_by_hand_says_so_rebuilds_and_ends_in_step():
    with StreamBed() as bed:
        bed.options = LAG
        bed.first_copy()

        def held(events):
            begin = bed.stored()
            bed.consumer.send_signal(signal.SIGSTOP)
            wait_for(lambda: bed.stored() > begin + events, 30, "the stream to go on")
            bed.consumer.send_signal(signal.SIGCONT)
        held(350)
        wait_for(lambda: "lag: level 1" in bed.said(), 20, "the soft lag")
        rebuilt = bed.said().count("rebuilt:")
        held(1000)
        wait_for(lambda: "lag: level 2" in bed.said() and "rebuild: lag" in bed.said(), 20, "the hard lag")
        wait_for(lambda: bed.said().count("rebuilt:") > rebuilt, 20, "the rebuild")
        bed.settle()


def test_large_values_that_an_update_does_not_touch_stay_in_the_copy():
    change_rows_with_large_values(StreamBed())


def test_a_rebuild_that_takes_longer_than_the_hard_lag_is_followed_by_no_other():
    with StreamBed() as bed:
        bed.options = ["--pause", "3", "--lag-soft-seconds", "1", "--lag-hard-seconds", "2"]
        bed.first_copy()
        bed.settle()
        assert bed.said().count("rebuild:") == 1, bed.said()


# Every 100 messages take a second.
SLOW = f"""
import sys, time
sys.path.insert(0, {f"{ROOT}/examples"!r})
import index_jetstream as example
apply = example.Copy.apply
example.Copy.apply = lambda *arguments: (time.sleep(1), apply(*arguments))
example.main()
"""


def test_a_consumer_that_never_keeps_up_is_judged_when_it_comes_no_nearer():
    with StreamBed() as bed:
        bed.options = ["--pause", "1", "--ack-wait", "10", "--lag-soft-events", "50", "--lag-hard-seconds", "3"]
        bed.start_consumer("-c", SLOW)
        wait_for(lambda: "lag: level 2" in bed.said() and "rebuild: lag" in bed.said(), 40, "the hard lag")
        assert "lag: level 1" not in bed.said()  # it was never near
        bed.stop_consumer()
        bed.load.stop()
        bed.start_consumer()
        bed.settle()


def test_more_than_the_buffer_holds_restarts_the_rebuild():
    with StreamBed() as bed:
        bed.options = ["--buffer-events", "150", "--pause", "1"]
        bed.start_consumer()
        wait_for(lambda: "the buffer overflowed: over 150 events" in bed.said(), 40, "the overflow")
        bed.load.stop()
        wait_for(lambda: "rebuilt:" in bed.said(), 40, "the rebuild behind it")
        bed.settle()


def test_what_left_the_stream_unread_and_a_stream_made_anew_are_rebuilt_from():
    with StreamBed() as bed:
        bed.first_copy()
        bed.stop_consumer()
        begin = bed.stored()
        wait_for(lambda: bed.stored() > begin + 200, 20, "the stream to go on")
        with nats.Client(bed.server.port) as client:
            client.api(f"STREAM.PURGE.{STREAM}", {"seq": begin + 100})
        bed.start_consumer()
        wait_for(lambda: "rebuild: gap: the copy is at" in bed.said(), 20, "the gap to be found")
        wait_for(lambda: bed.said().count("rebuilt:") == 2, 20, "the rebuild")
        bed.consumer.send_signal(signal.SIGSTOP)  # and while it is connected
        begin = bed.stored()
        wait_for(lambda: bed.stored() > begin + 500, 20, "the stream to go on")
        with nats.Client(bed.server.port) as client:
            client.api(f"STREAM.PURGE.{STREAM}", {"seq": begin + 450})
        bed.consumer.send_signal(signal.SIGCONT)
        wait_for(lambda: bed.said().count("rebuild: gap:") == 2, 20, "the second gap to be found")
        wait_for(lambda: bed.said().count("rebuilt:") == 3, 20, "the rebuild")
        bed.stop_consumer()
        with nats.Client(bed.server.port) as client:
            client.delete(STREAM)
        os.kill(bed.instance.pids()["publisher"], signal.SIGKILL)
        wait_for(lambda: "publisher" in bed.instance.pids(), 20, "the publisher")
        bed.start_consumer()
        wait_for(lambda: "rebuild: invalid offset" in bed.said(), 30, "the new stream to be found out")
        bed.settle()


def test_kills_at_random_moments_leave_the_copy_in_step():
    kills, rng = int(os.environ.get("MILLRACE_TEST_KILLS", "5")), random.Random(5)
    with StreamBed() as bed:
        bed.options = LAG
        bed.first_copy()
        for number in range(kills):
            time.sleep(rng.uniform(0.2, 1.2))
            victim = ("consumer", "puller", "nats", "publisher")[number % 4]
            if victim == "consumer":
                if rng.random() < 0.3:  # long enough to have to rebuild
                    bed.consumer.send_signal(signal.SIGSTOP)
                    time.sleep(2)
                bed.stop_consumer()
                bed.start_consumer()
            elif victim == "nats":
                bed.server.kill()
                bed.server.start()
            elif pid := bed.instance.pids().get(victim):
                os.kill(pid, signal.SIGKILL)
        bed.settle()
        assert bed.consumer.poll() is None
