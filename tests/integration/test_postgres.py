"""The postgres source alone (tests/tools/pg_source_dump.c) against real servers and fake ones.

    /usr/bin/python3 -m pytest tests/integration/test_postgres.py
MILLRACE_TEST_BIN names the directory of the executables when it is not build/bin.
"""

import contextlib
import json
import os
import pathlib
import random
import re
import select
import signal
import socket
import subprocess
import threading
import time

import pytest

import pg
from instance import bin_dir
from pg import Cluster


def dump_tool():
    tool = os.path.join(bin_dir(), "pg-source-dump")
    if not os.path.exists(tool):
        pytest.skip(f"{tool} is not built: scripts/build")
    return tool


class Source:
    """A run of the source that appends to a file; killed and started again it goes on behind what the file
    holds, as the puller does with its log."""

    def __init__(self, out, dsn, *arguments, **config):
        self.out, self.log = pathlib.Path(out), pathlib.Path(str(out) + ".log")
        self.config = {"postgres.url": dsn, "source.backoff_max": "300ms",
                       **{"postgres." + key: value for key, value in config.items()}}
        self.arguments = arguments
        self.process = None

    def start(self, *arguments):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [dump_tool(), "--out", str(self.out), *self.arguments, *arguments,
                 *(f"{key}={value}" for key, value in self.config.items())], stderr=log, stdout=log)
        return self

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(20)

    def lines(self):
        text = self.out.read_text(encoding="utf-8") if self.out.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def events(self):
        return [line["event"] for line in self.lines() if "event" in line]

    def words(self):
        says = "\n".join(line["say"] for line in self.lines() if "say" in line)
        return says + "\n" + (self.log.read_text(encoding="utf-8") if self.log.exists() else "")

    def wait_for(self, condition, what, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come:\n{self.words()[-3000:]}"
            time.sleep(0.02)

    def streams(self, times=1):
        self.wait_for(lambda: self.words().count(" streaming ") >= times, "streaming")
        return self

    def has(self, count):
        self.wait_for(lambda: len(self.events()) >= count, f"{count} events", 60)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop(signal.SIGKILL)


@pytest.fixture
def source(cluster, tmp_path):
    made = []

    def make(*arguments, dsn=None, **config):
        made.append(Source(tmp_path / "out", dsn or cluster.dsn(), *arguments, **config))
        return made[-1]

    yield make
    for one in made:
        if one.process:
            one.stop(signal.SIGKILL)


# --- what flows ---------------------------------------------------------------------------------------

EVERY_TYPE = """CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100);
CREATE TABLE t (id int PRIMARY KEY, b bool, i2 int2, i8 int8, f4 real, f8 float8, n numeric, tx text, vc varchar(9),
 ch char(3), u uuid, d date, ti time, ts timestamp, tz timestamptz, iv interval, js json, jb jsonb, by bytea,
 m mood, p percent, ia int[], ta text[], na numeric[][], ma mood[], nm name, tt timetz)"""
ROWS = [
    """(1, true, -5, 9223372036854775807, 0.1, 1e300, 12.50, 'grün ☃', 'v', 'c', '00112233-4455-6677-8899-aabbccddeeff',
     '2020-02-29', '23:59:59.5', '1999-12-31 23:59:59.999999', '2026-01-01 00:00:00+05:30', '1 year -2 days 03:00',
     '{"a": [1, 2.0, null]}', '{"k": {"x": "\\u00e9"}}', '\\x00ff', 'ok', 50, '{1,NULL,3}', '{"a,b","NULL",NULL}',
     '{{1.5,2},{3,NaN}}', '{sad,ok}', 'name', '12:00:00+02')""",
    """(2, NULL, NULL, NULL, 'NaN', '-Infinity', 'NaN', '', NULL, NULL, NULL, 'infinity', NULL, '-infinity', '0044-03-15 BC',
     '00:00', '[]', 'null', '', NULL, NULL, '{}', '[0:1]={x,y}', NULL, '{}', NULL, NULL)""",
    """(3, false, 0, 0, 0, 0, 123456789012345678901234567890123456789.5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
     NULL, NULL, '123456789012345678901234567890', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)""",
]


def documents(source):
    return [event["document"] for event in source.events()]


def test_every_type_reads_alike_in_text_and_binary(cluster, source):
    cluster.execute(EVERY_TYPE)
    read = {}
    for binary in ("true", "false"):
        one = source(binary=binary, slot=f"millrace_{binary}").start().streams()
        cluster.execute(*(f"INSERT INTO t VALUES {row}" for row in ROWS), "DELETE FROM t")
        one.has(2 * len(ROWS))
        one.stop()
        read[binary] = documents(one)
        one.out.unlink()
        one.log.unlink()
    assert read["true"] == read["false"]
    assert "INVALID BSON" not in str(read)
    first = read["true"][0]
    assert first["n"] == {"$numberDecimal": "12.50"} and first["jb"] == {"k": {"x": "é"}}
    assert first["tz"] == {"$date": {"$numberLong": "1767205800000"}} and first["m"] == "ok"
    assert first["ts"] == {"$date": {"$numberLong": "946684799999"}}
    assert first["na"][1][1] == {"$numberDecimal": "NaN"} and first["ma"] == ["sad", "ok"]
    assert first["p"] == {"$numberInt": "50"} and first["iv"] == "1 year -2 days +03:00:00"
    assert read["true"][2]["n"] == "123456789012345678901234567890123456789.5"


def test_types_without_a_known_binary_form_switch_to_text(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY, ip inet, at point)")
    one = source().start().streams()
    cluster.execute("INSERT INTO t VALUES (1, '10.0.0.1', '(1,2)')")
    one.has(1)
    assert one.events()[0]["document"] == {"id": {"$numberInt": "1"}, "ip": "10.0.0.1", "at": "(1,2)"}
    assert "going on in text form" in one.words()


def test_schema_changes_truncate_and_recreation_in_mid_stream(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY, a text)", "CREATE TABLE u (id int PRIMARY KEY)")
    one = source().start().streams()
    cluster.execute(
        "INSERT INTO t VALUES (1, 'a')", "ALTER TABLE t ADD COLUMN n int DEFAULT 5", "UPDATE t SET a = 'b'",
        "ALTER TABLE t RENAME COLUMN a TO z", "ALTER TABLE t ALTER COLUMN n TYPE text", "UPDATE t SET z = 'c'",
        "ALTER TABLE t DROP COLUMN z", "UPDATE t SET n = '6'", "CREATE TYPE late AS ENUM ('x')",
        "ALTER TABLE t ADD COLUMN l late DEFAULT 'x'", "UPDATE t SET n = '7'", "TRUNCATE t, u", "DROP TABLE t",
        "CREATE TABLE t (name text PRIMARY KEY)", "INSERT INTO t VALUES ('new')")
    one.has(8)
    events = one.events()
    assert [event["op"] for event in events] == ["insert"] + ["update"] * 4 + ["truncate"] * 2 + ["insert"]
    assert events[1]["document"]["n"] == {"$numberInt": "5"}
    assert events[2]["document"] == {"id": {"$numberInt": "1"}, "z": "c", "n": "5"}
    assert events[4]["document"] == {"id": {"$numberInt": "1"}, "n": "7", "l": "x"}
    assert {events[5]["collection"], events[6]["collection"]} == {"t", "u"} and events[7]["id"] == "new"


def test_toast_before_images_and_key_changes(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY, big text, n int)",
                    "ALTER TABLE t ALTER COLUMN big SET STORAGE EXTERNAL")
    one = source().start().streams()
    cluster.execute("INSERT INTO t VALUES (1, repeat('x', 20000), 1)", "UPDATE t SET n = 2", "UPDATE t SET id = 9",
                    "ALTER TABLE t REPLICA IDENTITY FULL", "UPDATE t SET n = 3", "DELETE FROM t")
    one.has(6)
    events = one.events()
    assert events[1]["update"] == {"unchanged": ["big"]} and "big" not in events[1]["document"]
    assert [(event["op"], event["id"]) for event in events[2:4]] == [("delete", "1"), ("insert", "9")]
    assert events[2]["document"] == {"id": {"$numberInt": "1"}} and events[2]["flags"] == 2
    assert len(events[4]["document"]["big"]) == 20000 and events[4]["before"]["n"] == {"$numberInt": "2"}
    assert events[4]["update"] == {"updatedFields": {"n": {"$numberInt": "3"}}}
    assert events[5]["op"] == "delete" and events[5]["before"]["n"] == {"$numberInt": "3"}


def reference_ids(cluster, slot):
    """What an independent reader finds in a slot: (operation, id) in commit order."""
    with subprocess.Popen([os.path.join(pg.bin_dir(), "pg_recvlogical"), "-d", cluster.dsn(), "-S", slot, "--start", "-f",
                           "-", "-F", "0", "--endpos", cluster.value("SELECT pg_current_wal_flush_lsn()::text")],
                          stdout=subprocess.PIPE, text=True) as reader:
        text = reader.stdout.read()
    return [(op.lower(), key) for op, key in re.findall(r"^table public\.t: (\w+): (?:old-key: )?id\[integer\]:(\d+)",
                                                        text, re.M)]


def write_load(cluster, stop, seed, count):
    rng = random.Random(seed)
    with cluster.connect(autocommit=False) as connection:
        for number in range(count):
            if stop.is_set():
                break
            for _ in range(rng.choice((1, 3, 40))):
                key = rng.randrange(10000) * 4 + seed
                kind = rng.random()
                if kind < 0.6:
                    connection.execute("INSERT INTO t VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET a = excluded.a",
                                       (key, f"{seed}-{number}"))
                elif kind < 0.9:
                    connection.execute("UPDATE t SET a = 'u' WHERE id = %s", (key,))
                else:
                    connection.execute("DELETE FROM t WHERE id = %s", (key,))
            (connection.rollback if rng.random() < 0.05 else connection.commit)()


def test_killed_and_restarted_at_any_moment_it_loses_and_doubles_nothing(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY, a text)",
                    "SELECT pg_create_logical_replication_slot('reference', 'test_decoding')")
    one = source("--full-every", "7")
    one.start().streams()
    stop, rng = threading.Event(), random.Random(5)
    writers = [threading.Thread(target=write_load, args=(cluster, stop, seed, 150)) for seed in range(4)]
    for writer in writers:
        writer.start()
    kills = 0
    while any(writer.is_alive() for writer in writers) or kills < 12:
        time.sleep(rng.uniform(0.02, 0.25))
        if rng.random() < 0.3:
            cluster.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
        one.stop(signal.SIGKILL)
        kills += 1
        one.start()
    for writer in writers:
        writer.join()
    wanted = reference_ids(cluster, "reference")
    one.has(len(wanted))
    one.stop()
    assert [(event["op"], event["id"]) for event in one.events()] == wanted


def test_inside_of_a_large_transaction_a_restart_goes_on_where_it_was(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY, a text)")
    one = source().start().streams()
    cluster.execute("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 60000) i")
    for _ in range(5):
        before = len(one.out.read_bytes())
        one.wait_for(lambda: len(one.out.read_bytes()) > before + 100000 or len(one.events()) == 60000, "progress")
        one.stop(signal.SIGKILL)
        one.start()
    one.has(60000)
    one.stop()
    assert [event["id"] for event in one.events()] == [str(i) for i in range(1, 60001)]
    assert len({event["xid"] for event in one.events()}) == 1


def slot_place(cluster):
    return cluster.value("SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = 'millrace'")


def test_the_slot_advances_when_only_other_tables_are_written(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE other (id int PRIMARY KEY, a text)")
    one = source(tables="public.t").start().streams()
    target = cluster.execute("INSERT INTO other SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i",
                             "SELECT pg_current_wal_lsn() - '0/0'")[0][0]
    one.wait_for(lambda: slot_place(cluster) >= target, "the slot's advance")
    assert one.events() == []
    one.stop()
    one.start().streams(2)  # its own idle progress is no gap
    cluster.execute("INSERT INTO t VALUES (1)")
    one.has(1)
    assert one.events()[0]["op"] == "insert"


def test_nothing_is_acknowledged_that_was_not_confirmed(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
    one = source("--no-confirm").start().streams()
    place = slot_place(cluster)
    cluster.execute("INSERT INTO t SELECT generate_series(1, 1000)")
    one.has(1000)
    time.sleep(3)  # several feedbacks at this wal_sender_timeout
    assert slot_place(cluster) == place


def test_pushed_back_for_longer_than_wal_sender_timeout_it_stays_connected(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY, a text)")
    one = source("--stall-after", "100", "--stall-seconds", "10").start().streams()
    cluster.execute("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 50000) i")
    one.has(100)
    pid = cluster.value("SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'millrace'")
    one.has(50000)
    assert pid == cluster.value("SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'millrace'")
    one.stop()
    assert one.lines()[-1]["end"]["reconnects"] == 0


def test_creating_a_slot_waits_for_running_transactions_without_blocking(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
    with cluster.connect(autocommit=False) as writer:
        writer.execute("INSERT INTO t VALUES (1)")
        one = source().start()
        one.wait_for(lambda: "create the slot" in one.words(), "the wait")
        time.sleep(0.5)
        assert " streaming " not in one.words()
        writer.commit()
    one.streams()
    one.stop()
    assert one.lines()[-1]["end"]["poll_us_max"] < 50000


def test_an_unknown_host_does_not_hold_up_the_puller(tmp_path):
    with Source(tmp_path / "out", "host=no-such-host.invalid user=x dbname=x") as one:
        one.wait_for(lambda: "resolve host no-such-host.invalid" in one.words(), "the failure")
        one.stop()
        assert one.lines()[-1]["end"]["poll_us_max"] < 50000


@pytest.mark.parametrize("publication", [None, "FOR ALL TABLES", "FOR TABLES IN SCHEMA public", "FOR TABLE t1, t2"])
def test_a_partitioned_table_in_postgres_tables_is_found_again(cluster, source, publication):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)",
                    "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
                    "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20)",
                    *([f"CREATE PUBLICATION millrace {publication}"] if publication else []))
    one = source(tables="public.t").start().streams()
    cluster.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
    one.streams(2)
    cluster.execute("INSERT INTO t VALUES (1), (11)")
    one.has(2)
    assert [(event["collection"], event["id"]) for event in one.events()] == [("t1", "1"), ("t2", "11")]


def test_a_partitioned_table_of_which_a_partition_is_not_published_is_refused(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)",
                    "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
                    "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20)",
                    "CREATE PUBLICATION millrace FOR TABLE t1")
    one = source(tables="public.t").start()
    one.wait_for(lambda: 'publication "millrace" does not have table public.t' in one.words(), "the refusal")


def test_with_full_identity_a_renamed_key_goes_on_naming_rows(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY, a text)", "ALTER TABLE t REPLICA IDENTITY FULL")
    one = source().start().streams()
    cluster.execute("INSERT INTO t VALUES (1, 'x')")
    for count, name in enumerate(("b", "c", "d"), 2):
        old = cluster.value("SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum = 1")
        cluster.execute(f"ALTER TABLE t RENAME COLUMN {old} TO {name}", f"UPDATE t SET a = '{name}'")
        one.has(count)
    assert [(event["op"], event["id"]) for event in one.events()] == [("insert", "1")] + [("update", "1")] * 3


def test_with_full_identity_a_key_of_which_a_column_is_not_sent_costs_no_reconnect(cluster, source):
    for name in "tu":
        cluster.execute(f"CREATE TABLE {name} (id int, n int GENERATED ALWAYS AS (id + 1) STORED, a text,"
                        " PRIMARY KEY (id, n))", f"ALTER TABLE {name} REPLICA IDENTITY FULL")
    cluster.execute("CREATE TABLE v (id int PRIMARY KEY, n int GENERATED ALWAYS AS (id + 1) STORED)",
                    "ALTER TABLE v REPLICA IDENTITY FULL")
    one = source().start().streams()
    cluster.execute("INSERT INTO t VALUES (1, DEFAULT, 'x')", "INSERT INTO u VALUES (2, DEFAULT, 'y')",
                    "INSERT INTO v VALUES (3)")
    one.has(3)
    one.stop()
    if cluster.value("SHOW server_version_num") < "180000":
        assert [event["id"] for event in one.events()] == ["1,x", "2,y", "3"]
        assert one.lines()[-1]["end"]["reconnects"] == 0


def relay_with_act(cluster, act):
    """A port that leads to the server. Between the server's answer to the first question of what it is and the moment
    the source gets it, act is called."""
    listener = socket.create_server(("127.0.0.1", 0))
    state = ["new"]

    def pump(peer):
        server = socket.create_connection(("127.0.0.1", cluster.port))
        with contextlib.suppress(OSError), peer, server:
            while True:
                for source in select.select([peer, server], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is peer and state[0] == "new" and (b"IDENTIFY_SYSTEM" in data or b"pg_is_in_recovery" in data):
                        state[0] = "asked"
                    elif source is server and state[0] == "asked":
                        state[0] = "done"
                        act()
                    (server if source is peer else peer).sendall(data)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=pump, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener


def test_a_standby_that_is_promoted_while_it_is_asked_has_the_new_timeline(tmp_path):
    with Cluster() as cluster:
        cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
        with Source(tmp_path / "out", cluster.dsn()) as one:
            one.streams()
            cluster.execute("INSERT INTO t VALUES (1)")
            one.has(1)
            one.stop()
            cluster.halt()
            pathlib.Path(cluster.data, "standby.signal").touch()
            cluster.start()
            with relay_with_act(cluster, lambda: cluster.execute("SELECT pg_promote()")) as listener:
                one.config["postgres.url"] = cluster.dsn(host="127.0.0.1", port=listener.getsockname()[1])
                one.start().streams(2)
                cluster.execute("INSERT INTO t VALUES (2)")
                one.has(2)
                one.stop()
            one.config["postgres.url"] = cluster.dsn()
            cluster.execute("INSERT INTO t VALUES (3)")
            one.start().streams(3)
            one.has(3)
        assert [event["id"] for event in one.events()] == ["1", "2", "3"]


def test_slot_dropped_while_streaming(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
    one = source(on_slot_lost="recreate").start().streams()
    cluster.execute("INSERT INTO t VALUES (1)")
    one.has(1)
    with cluster.connect() as connection:
        for _ in range(200):
            connection.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
            with contextlib.suppress(Exception):
                connection.execute("SELECT pg_drop_replication_slot('millrace')")
                break
    one.has(2)
    assert [event["op"] for event in one.events()] == ["insert", "gap"]
