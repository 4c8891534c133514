"""Snapshots of the postgres source: rows that are there and changes are one history, whatever is killed when."""

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time

import psycopg
import pytest

from instance import Instance, bin_dir, wait_for
from pg import Cluster
from test_postgres import Source

ROWS = int(os.environ.get("MILLRACE_TEST_SNAPSHOT_ROWS", "20000"))
KILLS = 5
TABLES = {
    "a_numbers": ("id int PRIMARY KEY, n int", lambda i: (i,), 0.7),
    "b_texts": ("id text PRIMARY KEY, n int", lambda i: (f"k{i},\\{i % 7}",), 0.1),
    "c_pairs": ("a int, b text, n int, PRIMARY KEY (a, b)", lambda i: (i % 10, f"x,{i}"), 0.1),
    "d_whole": ("id bigint PRIMARY KEY, n int", lambda i: (-i,), 0.05),
    "e_small": ("id int PRIMARY KEY, n int", lambda i: (i,), 0.0005),
}


def text_of(key):
    """The document id of a key."""
    if len(key) == 1:
        return str(key[0])
    return ",".join(str(part).replace("\\", "\\\\").replace(",", "\\,") for part in key)


def fill(connection):
    for name, (columns, key, share) in TABLES.items():
        connection.execute(f"CREATE TABLE {name} ({columns})")
        with connection.cursor().copy(f"COPY {name} FROM STDIN") as copy:
            for i in range(0, int(ROWS * share) * 2, 2):
                copy.write_row((*key(i), 0))
    connection.execute("ALTER TABLE d_whole REPLICA IDENTITY FULL")
    connection.execute("CREATE TABLE nokey (n int)")
    connection.execute("INSERT INTO nokey VALUES (1)")


class Load(threading.Thread):
    """Inserts (also behind all others), updates, deletes and changes of keys, in transactions that overlap."""

    def __init__(self, dsn, seed):
        super().__init__(daemon=True)
        self.dsn, self.rng, self.seed, self.error = dsn, random.Random(seed), seed, None
        self.stopping, self.largest = threading.Event(), 10**7 * (seed + 1)

    def change(self, cursor):
        name = self.rng.choice(list(TABLES))
        columns, key, share = TABLES[name]
        names = ["a", "b"] if name == "c_pairs" else ["id"]
        i = self.rng.randrange(max(int(ROWS * share), 1)) * 4 + 2 * self.seed  # rows of its own: no deadlocks
        kind = self.rng.random()
        where = " AND ".join(f"{column} = %s" for column in names)
        if kind < 0.3:
            self.largest += 1
            i = self.largest
        marks = ",".join("%s" for _ in names)
        if kind < 0.5:
            cursor.execute(f"INSERT INTO {name} ({','.join(names)}, n) VALUES ({marks}, 1) ON CONFLICT DO NOTHING", key(i))
        elif kind < 0.8:
            cursor.execute(f"UPDATE {name} SET n = n + 1 WHERE {where}", key(i))
        elif kind < 0.9:
            cursor.execute(f"DELETE FROM {name} WHERE {where}", key(i))
        else:
            self.largest += 1
            cursor.execute(f"UPDATE {name} SET ({','.join(names)}) = ROW ({marks}) WHERE {where}",
                           (*key(self.largest), *key(i)))

    def run(self):
        try:
            with psycopg.connect(self.dsn) as connection:
                while not self.stopping.is_set():
                    with connection.transaction(), connection.cursor() as cursor:
                        for _ in range(self.rng.choice((1, 1, 5, 40))):
                            self.change(cursor)
                        if self.rng.random() < 0.05:
                            time.sleep(0.05)
                    time.sleep(0.002)
        except psycopg.Error as error:
            self.error = error


def logged(instance):
    shown = subprocess.run(
        [os.path.join(bin_dir(), "millrace-log"), "show", os.path.join(instance.dir, "data", "log"), "--count",
         str(10**8), "--json"], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in shown.stdout.splitlines()]


def replayed(found):
    """collection -> id -> n; fails when an event cannot follow those before it."""
    state = {name: {} for name in TABLES}
    for event in found:
        if event["collection"] not in state:
            continue
        rows, ident, op = state[event["collection"]], event["document_id"], event["op"]
        assert (op == "insert") == (ident not in rows), event
        if op == "delete":
            del rows[ident]
        else:
            rows[ident] = event["document"]["n"]
    return state


def current(cluster):
    state = {}
    with psycopg.connect(cluster.dsn()) as connection:
        for name in TABLES:
            rows = connection.execute(f"SELECT * FROM {name}").fetchall()
            state[name] = {text_of(row[:-1]): row[-1] for row in rows}
    return state


def kill_puller(instance):
    with contextlib.suppress(KeyError, ProcessLookupError):
        os.kill(instance.pids()["puller"], signal.SIGKILL)


def progress(instance):
    processes = (instance.status() or {"processes": []})["processes"]
    return sum(p["counters"].get("millrace_log_last_sequence", 0) for p in processes if p["kind"] == "puller")


def test_a_snapshot_and_the_stream_are_one_history_while_rows_change_and_the_puller_is_killed():
    with Cluster() as cluster:
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            fill(connection)
        loads = [Load(cluster.dsn(), seed) for seed in range(2)]
        with Instance({"source.kind": "postgres", "postgres.url": cluster.dsn(), "source.start": "snapshot",
                       "source.snapshot_rows": 500, "matcher.shards": 1}) as instance:
            for load in loads:
                load.start()
            try:
                instance.start()
                for kill in range(1, KILLS + 1):
                    wait_for(lambda: progress(instance) > kill * ROWS // (2 * KILLS), 120, f"row for kill {kill}")
                    kill_puller(instance)
                wait_for(lambda: "snapshot_done" in instance.log_tail(1000), 180, "the end of the snapshot")
                time.sleep(0.5)
            finally:
                for load in loads:
                    load.stopping.set()
                for load in loads:
                    load.join()
            assert [load.error for load in loads] == [None, None]
            cluster.execute("INSERT INTO e_small VALUES (-5, 1)")
            wait_for(lambda: any(e.get("document_id") == "-5" for e in logged(instance)[-100:]), 60, "the last change")
            found = logged(instance)
            gaps = [e for e in found if e["op"] == "gap"]
            assert [e["collection"] for e in gaps] == ["nokey"] and "without a key" in gaps[0]["document"]["cause"]
            assert replayed(found) == current(cluster)
            assert instance.counter("puller", "millrace_source_snapshot_running") == 0
            slots = cluster.value("SELECT count(*) FROM pg_replication_slots")
            assert slots == 1
            assert instance.stop() == 0


def test_a_lost_slot_is_one_gap_and_a_new_snapshot():
    with Cluster() as cluster:
        cluster.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 10)")
        with Instance({"source.kind": "postgres", "postgres.url": cluster.dsn(), "source.on_unresumable": "snapshot",
                       "matcher.shards": 1}) as instance:
            instance.start()
            wait_for(lambda: cluster.execute("SELECT 1 FROM pg_replication_slots WHERE active"), 20, "the stream")
            cluster.execute("INSERT INTO t VALUES (11)")
            wait_for(lambda: progress(instance) == 1, 20, "the change")
            assert instance.stop() == 0
            cluster.execute("SELECT pg_drop_replication_slot('millrace')", "INSERT INTO t VALUES (12)")
            instance.start()
            wait_for(lambda: progress(instance) >= 14, 20, "the snapshot")
            time.sleep(0.3)
            found = logged(instance)
            assert [e["op"] for e in found] == ["insert", "gap"] + ["insert"] * 12
            assert [e["document_id"] for e in found[2:]] == [str(i) for i in range(1, 13)]
            cluster.execute("INSERT INTO t VALUES (13)")
            wait_for(lambda: progress(instance) == 15, 20, "the stream")


KEYS = {  # types whose text form is not what a cast to text gives, and some whose is
    "bits": ("id boolean", ["false", "true"]),
    "chars": ("id char(5)", ["'a'", "E'a\\t'", "'b'"]),
    "kinds": ('id "char"', ["'a'", "'b'"]),
    "names": ("id name", ["'a,b'", "'c'"]),
    "nets": ("id inet", ["'10.0.0.9'", "'10.0.0.10'", "'10.0.0.0/8'", "'::1'"]),
    "pairs": ("a inet, b boolean", ["'10.0.0.9', true", "'10.0.0.9', false", "'10.0.0.10', true"]),
    "texts": ("id text", ["'a'", "'a ,'", "''"]),
    "uuids": ("id uuid", ["'00112233-4455-6677-8899-aabbccddeeff'", "'ff112233-4455-6677-8899-aabbccddeeff'"]),
}


def test_a_snapshot_goes_on_behind_a_key_of_any_type(tmp_path):
    with Cluster() as cluster:
        total = 0
        for name, (columns, rows) in KEYS.items():
            keys = ", ".join(column.split()[0] for column in columns.split(", "))
            cluster.execute(f"CREATE TABLE {name} ({columns}, PRIMARY KEY ({keys}))",
                            *(f"INSERT INTO {name} VALUES ({row})" for row in rows))
            total += len(rows)
        source = Source(tmp_path / "out", cluster.dsn(), "--events", "1")
        source.config.update({"source.start": "snapshot", "source.snapshot_rows": 2})
        for count in range(1, total + 1):
            with source:
                assert source.process.wait(20) == 0, source.words()[-2000:]
            assert len(source.events()) == count, source.words()[-2000:]
        found = {(event["collection"], event["id"]) for event in source.events()}
        assert len(found) == total, found


def test_rows_that_are_alike_in_a_table_without_a_primary_key_are_one_document(tmp_path):
    with Cluster() as cluster:
        cluster.execute("CREATE TABLE t (a int, b text)", "ALTER TABLE t REPLICA IDENTITY FULL",
                        "INSERT INTO t VALUES (1, 'x'), (1, 'x'), (2, NULL), (1, 'x'), (2, NULL)")
        source = Source(tmp_path / "out", cluster.dsn())
        source.config.update({"source.start": "snapshot", "source.snapshot_rows": 2})
        with source:
            source.wait_for(lambda: "snapshot_done" in source.words(), "the end of the snapshot")
            cluster.execute("INSERT INTO t VALUES (3, 'y')")
            source.has(3)
        assert [event["id"] for event in source.events()] == ["1,x", "2,\\N", "3,y"]


def snapshot_of(tmp_path, cluster, *arguments, rows=2, **dsn):
    source = Source(tmp_path / "out", cluster.dsn(**dsn), *arguments)
    source.config.update({"source.start": "snapshot", "source.snapshot_rows": rows})
    return source


def snapshot_ends(source):
    source.wait_for(lambda: "snapshot_done" in source.words() or source.process.poll() is not None,
                    "the end of the snapshot", 40)
    assert "snapshot_done" in source.words(), source.words()[-2000:]


def test_a_snapshot_whose_connection_is_refused_after_streaming_is_tried_again(tmp_path):
    with Cluster() as cluster:
        cluster.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 20)")
        # A chunk that is held for longer than a snapshot lasts: the next chunk is read over a new connection.
        with snapshot_of(tmp_path, cluster, "--stall-after", "1", "--stall-seconds", "6") as source:
            source.has(1)
            cluster.hba("local all postgres reject")
            source.wait_for(lambda: " reconnect " in source.words() or source.process.poll() is not None, "the refusal")
            assert source.process.poll() is None, source.words()[-2000:]
            cluster.hba("local all all trust", "local replication all trust")
            snapshot_ends(source)
        assert [event["id"] for event in source.events()] == [str(i) for i in range(1, 21)]


def test_nulls_in_a_table_of_one_column_without_a_primary_key_have_their_place(tmp_path):
    with Cluster() as cluster:
        for name, kind, rows in (("n", "int", "(1), (NULL), (-7), (30), (NULL)"), ("t", "text", "('a'), (NULL), ('Z')")):
            cluster.execute(f"CREATE TABLE {name} (a {kind})", f"ALTER TABLE {name} REPLICA IDENTITY FULL",
                            f"INSERT INTO {name} VALUES {rows}")
        for count in range(1, 8):
            with snapshot_of(tmp_path, cluster, "--events", "1") as source:
                assert source.process.wait(20) == 0, source.words()[-2000:]
            assert len(source.events()) == count, source.words()[-2000:]
        found = [(event["collection"], event["id"]) for event in source.events()]
        assert sorted(found) == sorted([("n", "1"), ("n", "\\N"), ("n", "-7"), ("n", "30"), ("t", "a"), ("t", "\\N"),
                                        ("t", "Z")])


def test_rows_of_a_server_that_stores_another_encoding_come_in_the_order_of_their_ids(tmp_path):
    letters = "яЯюЮабъёЁz,"  # KOI8-R has them in another order than Unicode
    with Cluster() as cluster:
        cluster.execute("CREATE DATABASE k ENCODING 'KOI8R' TEMPLATE template0")
        cluster.execute("CREATE TABLE t (id text PRIMARY KEY)", "CREATE TABLE ю (id text PRIMARY KEY, n int)",
                        "CREATE TABLE а (a text, b int, PRIMARY KEY (a, b))",
                        *(f"INSERT INTO t VALUES ('{letter}')" for letter in letters),
                        *(f"INSERT INTO ю VALUES ('{letter}', 1)" for letter in letters),
                        *(f"INSERT INTO а VALUES ('{letter}', 1)" for letter in letters), dbname="k")
        for _ in letters:
            with snapshot_of(tmp_path, cluster, "--events", "3", dbname="k") as source:
                assert source.process.wait(20) == 0, source.words()[-2000:]
        found = [(event["collection"], event["id"]) for event in source.events()]
        assert len(found) == 3 * len(letters)
        assert set(found) == {(table, letter) for table in ("t", "ю") for letter in letters} | {
            ("а", letter.replace(",", "\\,") + ",1") for letter in letters}


LONG = ["INSERT INTO t SELECT repeat('x', 1020) || repeat(chr(96 + i), 30) FROM generate_series(1, 6) i",
        "INSERT INTO t VALUES ('a'), ('xx'), ('z'), (repeat('x', 950) || 'é'), (repeat('x', 895) || 'é'"
        " || repeat('y', 200)), (repeat('x', 895) || 'à' || repeat('y', 200)), (repeat('x', 896)), (repeat('x', 897))"]


def test_long_keys_that_begin_alike_all_come(tmp_path):
    with Cluster() as cluster:
        cluster.execute("CREATE TABLE t (a text)", "ALTER TABLE t REPLICA IDENTITY FULL", *LONG)
        with snapshot_of(tmp_path, cluster, "--stall-after", "6", "--stall-seconds", "6") as source:
            snapshot_ends(source)  # not broken off between them
        assert len(source.events()) == len({event["id"] for event in source.events()}) == 14


@pytest.mark.parametrize("seed", range(3))
def test_long_keys_that_begin_alike_lose_no_row_to_a_kill(tmp_path, seed):
    rng = random.Random(seed)
    with Cluster() as cluster:
        cluster.execute("CREATE TABLE t (a text)", "ALTER TABLE t REPLICA IDENTITY FULL", *LONG)
        for count in [rng.randrange(1, 10) for _ in range(4)] + [100]:
            with snapshot_of(tmp_path, cluster, "--events", str(count)) as source:
                source.wait_for(lambda: source.process.poll() is not None or "snapshot_done" in source.words(), "rows")
        snapshot_ends(source)
        found = [event["id"] for event in source.events()]
        assert len(set(found)) == 14, found
        assert all(found.count(ident) == 1 or len(ident) > 896 for ident in found)


CHANGES = {  # of a table that the snapshot has not come to
    "a column's type, which rewrites the table": ["ALTER TABLE z ALTER COLUMN n TYPE bigint"],
    "the table's name": ["ALTER TABLE z RENAME TO zz"],
    "a column's name": ["ALTER TABLE z RENAME COLUMN n TO m"],
    "another table of its name": ["ALTER TABLE z RENAME TO zz", "CREATE TABLE z (id int PRIMARY KEY, n int)"],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_table_that_changes_during_a_snapshot_loses_no_row(tmp_path, change):
    with Cluster() as cluster:
        cluster.execute("CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a SELECT generate_series(1, 5)",
                        "CREATE TABLE z (id int PRIMARY KEY, n int)", "INSERT INTO z SELECT i, i FROM generate_series(1, 5) i")
        with snapshot_of(tmp_path, cluster, "--stall-after", "3", "--stall-seconds", "1.5") as source:
            source.has(3)
            cluster.execute(*CHANGES[change])
            snapshot_ends(source)
        rows = [(event["collection"][0], event["id"]) for event in source.events()]
        assert rows == [(name, str(i)) for name in "az" for i in range(1, 6)], source.words()[-2000:]


def test_a_partition_that_is_rewritten_during_a_snapshot_loses_no_row(tmp_path):
    with Cluster() as cluster:
        cluster.execute("CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a SELECT generate_series(1, 5)",
                        "CREATE TABLE z (id int PRIMARY KEY, n int) PARTITION BY RANGE (id)",
                        "CREATE TABLE z1 PARTITION OF z FOR VALUES FROM (0) TO (4)",
                        "CREATE TABLE z2 PARTITION OF z FOR VALUES FROM (4) TO (9)",
                        "INSERT INTO z SELECT i, i FROM generate_series(1, 5) i",
                        "CREATE PUBLICATION millrace FOR ALL TABLES WITH (publish_via_partition_root)")
        with snapshot_of(tmp_path, cluster, "--stall-after", "3", "--stall-seconds", "1.5") as source:
            source.has(3)
            cluster.execute("ALTER TABLE z ALTER COLUMN n TYPE bigint")
            snapshot_ends(source)
        rows = [(event["collection"], event["id"]) for event in source.events()]
        assert rows == [(name, str(i)) for name in "az" for i in range(1, 6)], source.words()[-2000:]


def test_a_snapshot_knows_keys_and_types_that_are_newer_than_the_connection(tmp_path):
    with Cluster() as cluster:
        cluster.execute("CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 2)",
                        "CREATE TABLE u (id int PRIMARY KEY, n int)", "INSERT INTO u VALUES (3, 4)",
                        "CREATE PUBLICATION millrace FOR ALL TABLES",
                        "SELECT pg_create_logical_replication_slot('millrace', 'pgoutput')")
        with cluster.connect(autocommit=False) as writer:
            writer.execute("INSERT INTO t VALUES (2, 2)")
            with snapshot_of(tmp_path, cluster) as source:
                source.wait_for(lambda: cluster.value("SELECT count(*) FROM pg_replication_slots WHERE active_pid IS NOT"
                                                      " NULL AND temporary") == 1, "the snapshot's slot")
                cluster.execute("CREATE DOMAIN whole AS int", "ALTER TABLE u ALTER COLUMN n TYPE whole",
                                "ALTER TABLE u REPLICA IDENTITY FULL")
                writer.commit()
                snapshot_ends(source)
                cluster.execute("UPDATE u SET n = 5")
                source.has(4)
        found = [(event["collection"], event["op"], event["id"]) for event in source.events()]
        assert found == [("t", "insert", "1"), ("t", "insert", "2"), ("u", "insert", "3"), ("u", "update", "3")]
        assert source.events()[2]["document"]["n"] == {"$numberInt": "4"}


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL", "USING INDEX t_pkey"])
def test_columns_that_a_key_only_includes_are_no_part_of_ids(tmp_path, identity):
    with Cluster() as cluster:
        cluster.execute("CREATE TABLE t (id int NOT NULL, x int, CONSTRAINT t_pkey PRIMARY KEY (id) INCLUDE (x))",
                        f"ALTER TABLE t REPLICA IDENTITY {identity}", "INSERT INTO t VALUES (1, 1), (2, 2)")
        with snapshot_of(tmp_path, cluster) as source:
            snapshot_ends(source)
            cluster.execute("UPDATE t SET x = 5 WHERE id = 1", "DELETE FROM t WHERE id = 1")
            source.has(4)
        assert [(event["op"], event["id"]) for event in source.events()] == [
            ("insert", "1"), ("insert", "2"), ("update", "1"), ("delete", "1")]


def test_a_snapshot_reads_a_table_whose_key_became_another_one_by_its_new_key(tmp_path):
    with Cluster() as cluster:
        cluster.execute("CREATE TABLE t (id int, x int NOT NULL, PRIMARY KEY (id, x))",
                        "INSERT INTO t SELECT i, 7 FROM generate_series(1, 20) i")
        with snapshot_of(tmp_path, cluster, "--stall-after", "3", "--stall-seconds", "60") as source:
            source.has(3)
            source.stop(signal.SIGKILL)
            cluster.execute("ALTER TABLE t DROP CONSTRAINT t_pkey", "ALTER TABLE t ADD PRIMARY KEY (id)")
            source.arguments = ()
            source.start()
            snapshot_ends(source)
        assert [event["id"] for event in source.events()] == [
            "1,7", "10,7", "11,7", *(str(i) for i in range(1, 21))]


def test_a_primary_key_that_is_deferrable_is_no_identity_to_the_server_and_none_to_a_snapshot(tmp_path):
    with Cluster() as cluster:
        cluster.execute("CREATE TABLE t (id int PRIMARY KEY DEFERRABLE)", "INSERT INTO t VALUES (1)")
        with snapshot_of(tmp_path, cluster) as source:
            snapshot_ends(source)
            cluster.execute("INSERT INTO t VALUES (2)")
            source.has(2)
        assert [event["op"] for event in source.events()] == ["gap", "insert"]


def test_a_row_of_a_snapshot_and_its_first_change_are_two_events_to_a_stream_that_drops_repeats(tmp_path):
    with Cluster() as cluster:
        cluster.execute("CREATE TABLE nokey (n int)", "CREATE TABLE t (id int PRIMARY KEY, n int)",
                        "INSERT INTO t VALUES (1, 1)")
        with snapshot_of(tmp_path, cluster) as source:
            snapshot_ends(source)
            cluster.execute("UPDATE t SET n = 2", "TRUNCATE nokey")
            source.has(4)
        found = source.events()
        assert [event["op"] for event in found] == ["gap", "insert", "update", "truncate"]
        assert [event["lsn"] for event in found] == sorted(event["lsn"] for event in found)
        assert found[1]["lsn"] < found[2]["lsn"] and found[0]["lsn"] < found[3]["lsn"]
