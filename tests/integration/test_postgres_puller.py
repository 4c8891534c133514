"""The postgres source inside of the real puller, which is killed while transactions arrive: the log must hold
every change once, in order."""

import contextlib
import json
import os
import random
import signal
import subprocess
import time

from instance import Instance, bin_dir, wait_for
from pg import Cluster

ROWS, ROWS_PER_TRANSACTION = 100000, 5000


def log_events(instance):
    shown = subprocess.run(
        [os.path.join(bin_dir(), "millrace-log"), "show", os.path.join(instance.dir, "data", "log"), "--count",
         str(10 * ROWS), "--json"], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in shown.stdout.splitlines()]


def log_ids(instance):
    """Document ids in the order of the log."""
    return [event["document_id"] for event in log_events(instance)]


def acknowledged(cluster):
    return cluster.value("SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots")


def test_a_puller_killed_inside_of_transactions_logs_every_row_once():
    rng = random.Random(11)
    with Cluster() as cluster:
        cluster.execute("CREATE TABLE t (id int PRIMARY KEY, a text)")
        with Instance({"source.kind": "postgres", "postgres.url": cluster.dsn()}) as instance:
            instance.start()
            wait_for(lambda: cluster.execute("SELECT 1 FROM pg_replication_slots WHERE active"), 20, "the stream")
            for first in range(1, ROWS, ROWS_PER_TRANSACTION):
                cluster.execute(f"INSERT INTO t SELECT i, 'x' FROM generate_series({first},"
                                f" {first + ROWS_PER_TRANSACTION - 1}) i")
                if rng.random() < 0.5:
                    with contextlib.suppress(KeyError, ProcessLookupError):
                        os.kill(instance.pids()["puller"], signal.SIGKILL)
                    time.sleep(rng.uniform(0, 0.1))
            end = cluster.value("SELECT pg_current_wal_lsn() - '0/0'")
            wait_for(lambda: acknowledged(cluster) >= end, 30, "the acknowledgement of everything")
            assert instance.stop() == 0
            assert log_ids(instance) == [str(i) for i in range(1, ROWS + 1)]


LARGE = {  # what one row may hold and no document can; each takes long to read whole
    "numbers": "('[' || repeat('1, ', 10000000) || '1]')::jsonb",
    "words": "('{\"a\": \"' || repeat('x', 60000000) || '\"}')::jsonb",
    "arrays": "array_fill(1, ARRAY[9000000])",
    "bytes": "decode(repeat('00', 40000000), 'hex')",
    "dense": "('[' || repeat('1,', 1500000) || '1]')::json",  # of few bytes that make many
}


def test_a_row_too_large_for_a_document_does_not_hang_the_puller():
    with Cluster() as cluster:
        types = {"numbers": "jsonb", "words": "jsonb", "arrays": "int[]", "bytes": "bytea",
                 "dense": "json"}
        for name, kind in types.items():
            cluster.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, v {kind})")
        cluster.execute("CREATE TABLE whole (id int, v text)", "ALTER TABLE whole REPLICA IDENTITY FULL")
        with Instance({"source.kind": "postgres", "postgres.url": cluster.dsn()}) as instance:
            instance.start()
            wait_for(lambda: cluster.execute("SELECT 1 FROM pg_replication_slots WHERE active"), 20, "the stream")
            before = instance.pids()["puller"]
            for name, value in LARGE.items():
                cluster.execute(f"INSERT INTO {name} SELECT 1, {value}")
            cluster.execute("INSERT INTO whole VALUES (1, repeat('x', 60000000))", "INSERT INTO numbers VALUES (2, '[]')")
            end = cluster.value("SELECT pg_current_wal_lsn() - '0/0'")
            wait_for(lambda: acknowledged(cluster) >= end, 60, "the acknowledgement of everything")
            assert instance.pids()["puller"] == before, "it was killed"
            found = log_events(instance)
            assert [event["document_id"][:1] for event in found] == ["1"] * 6 + ["2"]
            assert all("v" not in event["document"] and event["update"] == {"omitted": ["v"]} for event in found[:6])
            assert instance.stop() == 0
