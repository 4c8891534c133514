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
import signal
import socket
import subprocess
import threading
import time

import pytest

import pg
from instance import bin_dir
from pg import Cluster
from pg_situations import SITUATIONS

COVERED = set()


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


@pytest.fixture(scope="module")
def shared():
    with Cluster(wal_sender_timeout="4s") as cluster:
        yield cluster


@pytest.fixture
def cluster(shared):
    """The shared server, cleaned."""
    yield shared
    for _ in range(100):
        with contextlib.suppress(Exception):
            shared.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active",
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
            break
        time.sleep(0.05)
    shared.execute("DROP PUBLICATION IF EXISTS millrace", "DROP SCHEMA public CASCADE", "CREATE SCHEMA public",
                   "GRANT USAGE ON SCHEMA public TO public")


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


def ends(source, name, seconds=20):
    """The run ends as the table of situations says."""
    row = next(row for row in SITUATIONS if row.name == name)
    COVERED.add(name)
    if row.ending == "retry":
        source.wait_for(lambda: re.search(row.says, source.words(), re.S), row.says, seconds)
        assert source.process.poll() is None, source.words()
        return
    code = source.process.wait(seconds)
    assert re.search(row.says, source.words(), re.S), source.words()
    assert code == int(row.ending.split()[1]), source.words()


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


# --- what goes wrong ----------------------------------------------------------------------------------

def test_wal_level(tmp_path):
    with Cluster(wal_level="replica") as cluster, Source(tmp_path / "out", cluster.dsn()) as one:
        ends(one, "wal_level")


@pytest.mark.parametrize("name,dsn", [("unknown_role", {"user": "nobody"}), ("wrong_database", {"dbname": "nowhere"}),
                                      ("tls_required", {"host": "127.0.0.1", "sslmode": "require"})])
def test_wrong_connection(cluster, source, name, dsn):
    ends(source(dsn=cluster.dsn(**dsn)).start(), name)


def test_bad_url_shows_no_secret(source):
    one = source(dsn="password=top secret").start()
    ends(one, "bad_url")
    assert "secret" not in one.words()


def test_authentication(tmp_path):
    with Cluster() as cluster:
        cluster.execute("CREATE ROLE app LOGIN REPLICATION PASSWORD 'right'")
        cluster.hba("local all postgres trust", "host all app 127.0.0.1/32 scram-sha-256",
                    "hostssl all tls 127.0.0.1/32 trust")
        with Source(tmp_path / "a", cluster.dsn(user="app", host="127.0.0.1", password="wrong")) as one:
            ends(one, "wrong_password")
        with Source(tmp_path / "b", cluster.dsn(user="tls", host="127.0.0.1", sslmode="disable")) as one:
            ends(one, "tls_demanded")


def test_rights(cluster, source, tmp_path):
    cluster.execute("DROP ROLE IF EXISTS plain", "DROP ROLE IF EXISTS app", "CREATE ROLE plain LOGIN",
                    "CREATE ROLE app LOGIN REPLICATION", "GRANT CREATE ON DATABASE postgres TO app",
                    "GRANT USAGE ON SCHEMA public TO public",
                    "CREATE TABLE theirs (id int PRIMARY KEY)")
    ends(source(dsn=cluster.dsn(user="plain")).start(), "no_replication")
    ends(source(dsn=cluster.dsn(user="app")).start(), "no_superuser")
    ends(source(dsn=cluster.dsn(user="app"), tables="public.theirs").start(), "not_owner")
    cluster.execute("REVOKE CREATE ON DATABASE postgres FROM app")


def test_publication_and_slot_are_checked(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE u (id int PRIMARY KEY)")
    ends(source(tables="public.missing").start(), "no_table")
    ends(source(create="false").start(), "no_publication")
    cluster.execute("CREATE PUBLICATION millrace FOR TABLE u")
    ends(source(tables="public.t").start(), "table_not_published")
    ends(source(create="false").start(), "no_slot")
    cluster.execute("SELECT pg_create_logical_replication_slot('millrace', 'test_decoding')")
    ends(source().start(), "other_plugin")
    cluster.execute("SELECT pg_drop_replication_slot('millrace')", "CREATE DATABASE other")
    cluster.execute("SELECT pg_create_logical_replication_slot('millrace', 'pgoutput')", dbname="other")
    ends(source().start(), "other_database")
    cluster.execute("SELECT pg_drop_replication_slot('millrace')", dbname="other")
    cluster.execute("DROP DATABASE other")


def test_slot_in_use(cluster, source, tmp_path):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
    one = source().start().streams()
    with Source(tmp_path / "second", cluster.dsn()) as second:
        ends(second, "slot_in_use")
        one.stop()
        second.streams()


def test_no_walsenders(tmp_path):
    with Cluster(max_wal_senders=1) as cluster, Source(tmp_path / "a", cluster.dsn()) as one:
        one.streams()
        with Source(tmp_path / "b", cluster.dsn(), slot="second") as second:
            ends(second, "no_walsenders")
            one.stop()
            second.streams()


def test_server_trouble_is_survived(tmp_path):
    with Cluster() as cluster:
        cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
        one = Source(tmp_path / "out", cluster.dsn())
        cluster.halt()
        with one:
            ends(one, "server_away")
            cluster.start()
            one.streams(1)
            cluster.execute("INSERT INTO t VALUES (1)",
                            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots")
            ends(one, "walsender_terminated")
            one.streams(2)
            cluster.execute("INSERT INTO t VALUES (2)")
            cluster.restart()
            ends(one, "server_restarted")
            one.streams(3)
            cluster.execute("INSERT INTO t VALUES (3)")
            cluster.kill()
            time.sleep(0.5)
            ends(one, "server_killed")
            cluster.start()
            one.streams(4)
            cluster.execute("INSERT INTO t VALUES (4)")
            one.has(4)
            time.sleep(0.3)
            assert [event["id"] for event in one.events()] == ["1", "2", "3", "4"]


@contextlib.contextmanager
def fake_server(answer):
    """Accepts connections and answers the first bytes with what answer gives; None: never."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept = []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                kept.append(peer)
                if answer is not None:
                    peer.recv(1000)
                    peer.sendall(answer)
                    peer.close()

    threading.Thread(target=serve, daemon=True).start()
    yield f"host=127.0.0.1 port={listener.getsockname()[1]} user=x dbname=x"
    listener.close()


def test_what_is_no_postgresql(tmp_path):
    with fake_server(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(range(256))) as dsn:
        with Source(tmp_path / "a", dsn) as one:
            ends(one, "garbage")
    with fake_server(None) as dsn, Source(tmp_path / "b", dsn) as one:
        ends(one, "silence")
    with Source(tmp_path / "c", "host=no-such-host.invalid user=x dbname=x") as one:
        ends(one, "unknown_host")
        one.stop()
        assert one.lines()[-1]["end"]["poll_us_max"] < 50000


class Relay:
    """A network between source and server that can be cut: bytes stop, connections stay."""

    def __init__(self, port):
        self.cut, self.port = threading.Event(), port
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.port))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, from_, to):
        with contextlib.suppress(OSError):
            while data := from_.recv(65536):
                while self.cut.is_set():
                    time.sleep(0.05)
                to.sendall(data)
        for end in (from_, to):
            with contextlib.suppress(OSError):
                end.close()


def test_network_cut(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
    relay = Relay(cluster.port)
    one = source(dsn=f"host=127.0.0.1 port={relay.listener.getsockname()[1]} user=postgres dbname=postgres").start().streams()
    cluster.execute("INSERT INTO t VALUES (1)")
    one.has(1)
    relay.cut.set()
    cluster.execute("INSERT INTO t VALUES (2)")
    ends(one, "network_cut")
    relay.cut.clear()
    one.has(2)
    time.sleep(0.5)
    assert [event["id"] for event in one.events()] == ["1", "2"]


def run_once(cluster, source):
    """A first run that reads one row and has acknowledged it."""
    one = source().start().streams()
    cluster.execute("INSERT INTO t VALUES (1)")
    one.has(1)
    one.wait_for(lambda: slot_place(cluster) > one.events()[0]["lsn"], "the acknowledgement")
    one.stop()
    return one


@pytest.mark.parametrize("policy", ["fail", "recreate"])
def test_slot_dropped(cluster, source, policy):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
    one = run_once(cluster, source)
    cluster.execute("SELECT pg_drop_replication_slot('millrace')", "INSERT INTO t VALUES (2)")
    one.config["postgres.on_slot_lost"] = policy
    one.start()
    if policy == "fail":
        ends(one, "slot_dropped")
        return
    ends(one, "slot_dropped_recreate")
    one.streams(2)
    cluster.execute("INSERT INTO t VALUES (3)")
    one.has(3)
    assert [event["op"] for event in one.events()] == ["insert", "gap", "insert"]
    gap = one.events()[1]["document"]
    assert gap["cause"] == "it is gone" and re.fullmatch(r"\w+/\w+", gap["from"]) and gap["from"] != gap["to"]


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


def test_slot_recreated_by_somebody_else(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
    one = run_once(cluster, source)
    cluster.execute("SELECT pg_drop_replication_slot('millrace')", "INSERT INTO t VALUES (2)",
                    "SELECT pg_create_logical_replication_slot('millrace', 'pgoutput')")
    ends(one.start(), "slot_recreated")


def test_publication_dropped(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
    one = run_once(cluster, source)
    cluster.execute("DROP PUBLICATION millrace", "INSERT INTO t VALUES (2)")
    ends(one.start(), "publication_dropped")
    one.config["postgres.on_slot_lost"] = "recreate"
    one.start()
    one.has(2)
    assert one.events()[1]["op"] == "gap"


def test_slot_invalidated(tmp_path):
    with Cluster(max_slot_wal_keep_size="1MB", min_wal_size="32MB", max_wal_size="32MB") as cluster:
        cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
        with Source(tmp_path / "out", cluster.dsn()) as one:
            one.streams()
            one.stop()
            for _ in range(4):
                cluster.execute("SELECT pg_switch_wal()", "CREATE TABLE x AS SELECT 1", "DROP TABLE x", "CHECKPOINT")
            assert cluster.value("SELECT wal_status FROM pg_replication_slots") == "lost"
            ends(one.start(), "slot_invalidated")


def test_other_cluster(cluster, source, tmp_path):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
    one = run_once(cluster, source)
    with Cluster() as other:
        one.config["postgres.url"] = other.dsn()
        ends(one.start(), "other_cluster")


def test_every_situation_was_brought_about(request):
    if len(request.session.items) < 20:
        pytest.skip("a part of the tests was chosen")
    assert {row.name for row in SITUATIONS} == COVERED
