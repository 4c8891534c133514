"""The reference consumer against PostgreSQL: its copy ends equal to the table, row by row, whatever happened:
slowed until it had to rebuild, overflowed while it did, killed together with the puller and the relay.
MILLRACE_TEST_KILLS: how often; acceptance is 50."""

import functools
import importlib.util
import json
import os
import random
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
import types

import pytest

from bed import Load
from instance import ROOT, Instance, free_port, wait_for
from pg import Cluster

TABLE = ("CREATE TABLE items (id bigint PRIMARY KEY, n bigint NOT NULL, user_id integer NOT NULL, status text NOT NULL, "
         "deleted boolean NOT NULL DEFAULT false, body text)", "ALTER TABLE items REPLICA IDENTITY FULL")


class Bed:
    def __init__(self, per_second=400, **settings):
        self.cluster, self.port = Cluster(), free_port()
        self.cluster.start()
        self.cluster.execute(*TABLE)
        # A row that is softly deleted stays in the table: the copy is compared with the rows that are not.
        self.cluster.execute("CREATE VIEW live AS SELECT * FROM items WHERE NOT deleted")
        self.instance = Instance({
            "source.kind": "postgres", "postgres.url": self.cluster.dsn(), "postgres.tables": ["public.items"],
            "relay.listen": f"127.0.0.1:{self.port}", "relay.heartbeat_interval": "200ms", **settings})
        self.load = Load(self.cluster.dsn(), seed=7, per_second=per_second, documents=300)
        self.dir = tempfile.mkdtemp(prefix="millrace-")
        self.copy_path, self.consumer = os.path.join(self.dir, "copy.sqlite"), None
        self.log = open(os.path.join(self.dir, "log"), "a+", encoding="utf-8")
        self.options = []

    def __enter__(self):
        self.instance.start()
        self.load.start()
        return self

    def __exit__(self, *_):
        self.load.stop()
        if self.consumer and self.consumer.poll() is None:
            self.consumer.kill()
            self.consumer.wait()
        self.log.close()
        self.instance.close()
        self.cluster.stop()
        subprocess.run(["rm", "-r", self.dir], check=False)

    def start_consumer(self):
        self.consumer = subprocess.Popen(
            ["/usr/bin/python3", f"{ROOT}/examples/index_consumer.py", "--relay", f"127.0.0.1:{self.port}",
             "--collection", "items", "--copy", self.copy_path, "--snapshot", self.cluster.dsn(), "--table", "live",
             *self.options], stderr=self.log)

    def said(self):
        with open(self.log.name, encoding="utf-8") as log:
            return log.read()

    def rows(self):
        with self.cluster.connect() as connection:
            return {str(row[0]): row[1] for row in connection.execute("SELECT id, to_jsonb(live) FROM live")}

    def copied(self):
        if not os.path.exists(self.copy_path):
            return {}
        with sqlite3.connect(self.copy_path, timeout=20) as db:
            try:
                found = db.execute("SELECT id, document FROM documents").fetchall()
            except sqlite3.OperationalError:
                return {}
        return {ident: {k: v for k, v in json.loads(text).items() if k != "_id"} for ident, text in found}

    def settle(self, seconds=40):
        """The load ends; the copy becomes the table."""
        self.load.stop()
        assert not self.load.errors, self.load.errors
        rows = self.rows()
        try:
            wait_for(lambda: self.copied() == rows, seconds, "the copy to be the table")
        except TimeoutError:
            copied = self.copied()
            wrong = [(i, rows.get(i), copied.get(i)) for i in {**rows, **copied} if rows.get(i) != copied.get(i)]
            raise AssertionError(f"{len(wrong)} documents differ: {wrong[:3]}\n{self.said()[-2000:]}") from None
        assert len(rows) > 50
        return rows


def change_rows_with_large_values(bed):
    """Without the old row the server sends no large value that an update leaves alone."""
    body = "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 700))"
    run = bed.cluster.execute
    run("ALTER TABLE items REPLICA IDENTITY DEFAULT",
        f"INSERT INTO items SELECT i, 0, 0, 'new', false, {body} FROM generate_series(100001, 100005) i")
    with bed:
        bed.start_consumer()
        wait_for(lambda: len(bed.copied()) > 20, 40, "the first copy")
        run("UPDATE items SET status = 'paid' WHERE id = 100001",
            f"UPDATE items SET body = {body} || id, n = 1 WHERE id = 100002",
            "UPDATE items SET status = 'paid' WHERE id = 100002",
            "UPDATE items SET deleted = true WHERE id = 100003",
            "UPDATE items SET deleted = false WHERE id = 100003",  # the copy has nothing of it any more
            "UPDATE items SET deleted = true WHERE id = 100004",
            "UPDATE items SET deleted = false WHERE id = 100004", "DELETE FROM items WHERE id = 100004",
            "UPDATE items SET body = repeat('x', 17000000) WHERE id = 100005")  # over what an event may carry
        rows = bed.settle()
        assert all(len(rows[str(100000 + i)]["body"]) > 20000 for i in (1, 2, 3, 5)) and "100004" not in rows


def test_large_values_that_an_update_does_not_touch_stay_in_the_copy():
    change_rows_with_large_values(Bed())


LAG = {"relay.lag_soft_events": "200", "relay.lag_hard_events": "600"}


def test_a_consumer_slowed_by_hand_is_warned_told_to_rebuild_and_ends_in_step():
    with Bed(**LAG) as bed:
        bed.start_consumer()
        wait_for(lambda: "rebuilt:" in bed.said() and len(bed.copied()) > 20, 30, "the first copy")
        before = bed.instance.counter("relay", "millrace_relay_rebuilds_total")
        bed.consumer.send_signal(signal.SIGSTOP)
        wait_for(lambda: bed.instance.counter("relay", "millrace_relay_rebuilds_total") == before + 1, 30,
                 "the hard lag")
        assert bed.instance.counter("relay", "millrace_relay_lag_soft_total") >= 1
        wait_for(lambda: bed.instance.counter("relay", "millrace_relay_consumers_paused") == 1, 5, "the pause")
        rebuilt = bed.said().count("rebuilt:")
        bed.consumer.send_signal(signal.SIGCONT)
        wait_for(lambda: "rebuild: lag" in bed.said() and bed.said().count("rebuilt:") > rebuilt, 30, "the rebuild")
        assert "lag: level 1" in bed.said() and "lag: level 2" in bed.said()
        bed.settle()
        wait_for(lambda: bed.instance.counter("relay", "millrace_relay_consumers_paused") == 0, 5, "nobody paused")


def test_a_rebuild_that_takes_longer_than_the_hard_lag_is_followed_by_no_other():
    with Bed(**{"relay.lag_soft_time": "1500ms", "relay.lag_hard_time": "3s"}) as bed:
        bed.options = ["--pause", "4"]
        bed.start_consumer()
        wait_for(lambda: "rebuilt:" in bed.said(), 30, "the first copy")
        time.sleep(0.5)  # the relay looks every 50 ms
        bed.settle()
        assert bed.said().count("rebuild:") == 1, bed.said()


def test_a_buffer_that_overflows_restarts_the_rebuild():
    with Bed() as bed:
        bed.options = ["--buffer-events", "150", "--pause", "1"]
        bed.start_consumer()
        wait_for(lambda: "the buffer overflowed: over 150 events" in bed.said(), 30, "the overflow")
        bed.settle()
        wait_for(lambda: "rebuilt:" in bed.said(), 60, "the rebuild behind it")
        bed.settle()


def test_a_copy_that_was_away_for_longer_than_the_log_is_rebuilt():
    with Bed(**{"log.segment_size": "1MiB", "log.retention_size": "1MiB", "checkpoint.interval": "50ms"}) as bed:
        bed.start_consumer()
        wait_for(lambda: "rebuilt:" in bed.said() and len(bed.copied()) > 60, 60, "the first copy")
        bed.consumer.kill()
        bed.consumer.wait()
        bed.load.stop()
        written = bed.instance.counter("puller", "millrace_log_last_sequence")

        def forgotten():
            bed.cluster.execute("UPDATE items SET body = repeat('y', 3000)")
            return bed.instance.counter("puller", "millrace_log_floor_sequence") > written
        wait_for(forgotten, 60, "retention")
        bed.start_consumer()
        bed.settle()
        assert "OUT_OF_RANGE" in bed.said() and "rebuild: the log no longer reaches back" in bed.said()


def test_kills_at_random_moments_leave_the_copy_in_step():
    kills, rng = int(os.environ.get("MILLRACE_TEST_KILLS", "5")), random.Random(11)
    with Bed(**LAG) as bed:
        bed.start_consumer()
        wait_for(lambda: len(bed.copied()) > 20, 30, "the first copy")
        for number in range(kills):
            time.sleep(rng.uniform(0.2, 1.2))
            victim = ("consumer", "puller", "relay")[number % 3]
            if victim == "consumer":
                if rng.random() < 0.3:  # long enough to have to rebuild
                    bed.consumer.send_signal(signal.SIGSTOP)
                    time.sleep(2)
                bed.consumer.kill()
                bed.consumer.wait()
                bed.start_consumer()
            elif pid := bed.instance.pids().get(victim):
                os.kill(pid, signal.SIGKILL)
        bed.settle()
        assert bed.consumer.poll() is None


def test_a_damaged_log_is_rebuilt_from():
    with Bed(**{"log.segment_size": "1MiB"}) as bed:
        bed.start_consumer()
        wait_for(lambda: "rebuilt:" in bed.said() and len(bed.copied()) > 60, 30, "the first copy")
        bed.consumer.kill()
        bed.consumer.wait()
        begin = bed.instance.counter("puller", "millrace_log_written_sequence")
        log = os.path.join(bed.instance.dir, "data", "log")

        def segments():
            return sorted(f for f in os.listdir(log) if f.endswith(".mrlog"))
        first = segments()[-1]

        def rolled():
            bed.cluster.execute("UPDATE items SET body = repeat('y', 3000)")
            return segments()[-1] != first
        wait_for(rolled, 30, "the next segment")
        with open(os.path.join(log, first), "r+b") as segment:
            damaged = segment.read(1 << 20)
            segment.seek(0)
            segment.write(damaged[:4096] + bytes(byte ^ 1 for byte in damaged[4096:]))
        assert begin > 0
        bed.start_consumer()
        bed.settle()
        assert "DATA_LOSS" in bed.said() and "rebuild: the log is damaged" in bed.said()


def test_a_relay_that_is_silent_is_left_for_a_new_connection():
    with Bed() as bed:
        bed.options = ["--keepalive", "1"]
        bed.start_consumer()
        wait_for(lambda: "rebuilt:" in bed.said() and len(bed.copied()) > 60, 30, "the first copy")
        bed.load.stop()
        time.sleep(1.5)  # what is to be acknowledged has been
        assert "UNAVAILABLE" not in bed.said()
        stopped = [bed.instance.process.pid, bed.instance.pids()["relay"]]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: "UNAVAILABLE" in bed.said(), 10, "the silence to be noticed")
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)
        bed.cluster.execute("UPDATE items SET n = n + 1")
        bed.settle()


def test_a_database_that_is_away_during_a_rebuild_is_tried_again():
    with Bed() as bed:
        bed.cluster.dsn = functools.partial(bed.cluster.dsn, options="-csearch_path=nowhere")
        bed.start_consumer()
        del bed.cluster.dsn
        wait_for(lambda: bed.said().count("the table cannot be read") > 2, 10, "the attempts")
        wait_for(lambda: bed.instance.counter("relay", "millrace_relay_consumers") <= 1, 5, "no stream to be left behind")
        bed.cluster.execute("CREATE SCHEMA nowhere", "CREATE VIEW nowhere.live AS SELECT * FROM public.live")
        bed.settle()


def test_a_stream_that_is_left_ends_its_thread_although_its_buffer_is_full():
    spec = importlib.util.spec_from_file_location("index_consumer", f"{ROOT}/examples/index_consumer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    class Call(list):
        def cancel(self):
            pass
    consumer = types.SimpleNamespace(args=types.SimpleNamespace(buffer_events=1, buffer_bytes=1 << 20))
    message = types.SimpleNamespace(batch=[1], ByteSize=lambda: 10)
    consumer.subscribe = lambda after: Call([message] * 3)
    before = threading.active_count()
    stream = module.Stream(consumer, "")
    wait_for(lambda: stream.events == 1, 5, "the buffer to be full")
    assert threading.active_count() == before + 1
    stream.close()
    wait_for(lambda: threading.active_count() == before, 5, "the thread to end")
    stream = module.Stream(consumer, "")
    stream.rebuilding = True  # and in a rebuild it says that it overflowed, whenever it is asked
    wait_for(lambda: stream.overflow, 5, "the overflow")
    assert stream.next(1) is message
    with pytest.raises(module.Overflow):
        stream.next(1)


@pytest.mark.parametrize("argument", [["--collection", "x"], []])
def test_wrong_usage_is_said(argument):
    done = subprocess.run(["/usr/bin/python3", f"{ROOT}/examples/index_consumer.py", *argument], capture_output=True,
                          text=True, timeout=30, check=False)
    assert done.returncode == 2 and "required" in done.stderr
