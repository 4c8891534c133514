"""What can be wrong with a PostgreSQL, brought about for a real pipeline (`millrace run`): the table in docs/errors.md.
The rows' texts are those of pg_situations.py; what the page shows is what the puller said."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

from error_page import Section
from instance import Instance, bin_dir
from pg import Cluster
from pg_situations import SITUATIONS

SECTION = Section("situations", 15, {"situation": False, "what the puller says": True, "the puller": False,
                                     "remedy": False})
ENDINGS = {"exit 100": "exit 100, not restarted", "retry": "waits and tries again", "goes on": "goes on"}


class Source:
    """A pipeline whose puller reads a PostgreSQL; stopped and started again it goes on behind what its log holds."""

    def __init__(self, dsn, **config):
        self.instance = Instance({
            "source.kind": "postgres", "postgres.url": dsn, "source.backoff_max": "300ms", "matcher.shards": 1,
            **{"postgres." + key: value for key, value in config.items()}})
        self.config = self.instance.settings
        self.told = 0  # how many of the puller's reasons have been looked at

    def start(self):
        if self.process and self.process.poll() is None:
            self.stop()
        self.instance.write_config()
        self.instance.start(ready_seconds=0)
        return self

    def stop(self):
        return self.instance.stop(30)

    @property
    def process(self):
        return self.instance.process

    def events(self):
        shown = subprocess.run([os.path.join(bin_dir(), "millrace-log"), "show",
                                os.path.join(self.instance.dir, "data", "log"), "--json"],
                               capture_output=True, text=True, check=False)
        return [json.loads(line) for line in shown.stdout.splitlines()]

    def ids(self):
        return [event["document_id"] for event in self.events()]

    def words(self):
        return self.instance.log_tail(100000)

    def wait_for(self, condition, what, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come:\n{self.words()[-3000:]}"
            time.sleep(0.02)

    def streams(self, times=1):
        self.wait_for(lambda: self.words().count(" postgres streaming ") >= times, "streaming")
        return self

    def has(self, count):
        self.wait_for(lambda: len(self.events()) >= count, f"{count} events", 60)

    def close(self):
        self.instance.close()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()


@pytest.fixture
def source(cluster):
    made = []

    def make(dsn=None, **config):
        made.append(Source(dsn or cluster.dsn(), **config))
        return made[-1]

    yield make
    for one in made:
        one.close()


def whys(source):
    """Everything that the puller gave as a reason, in order."""
    found = re.findall(r'^\S+ (?:warn|error) \w+ (\w+) process=puller .*?(?:why|cause)="((?:[^"\\]|\\.)*)"',
                       source.words(), re.M)
    return [("slot_lost: " if event == "slot_lost" else "") + re.sub(r"\\(.)", r"\1", why) for event, why in found]


def ready(source):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{source.instance.http_port}/readyz?verbose") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def ends(source, name, seconds=20):
    """The run ends as the table of situations says."""
    row = next(row for row in SITUATIONS if row.name == name)
    told = source.told

    def said():
        return [why for why in whys(source)[told:] if re.search(row.says, why, re.S)]

    if row.ending in ("retry", "goes on"):
        source.wait_for(said, row.says, seconds)
        assert source.process.poll() is None, source.words()
    else:
        # Whether the whole run ends with 100, too, depends on whether all processes had been ready by then.
        source.wait_for(lambda: f'given_up process=supervisor child=puller reason="{row.ending}: ' in source.words(),
                        row.ending, seconds)
        assert said() and source.process.poll() in (None, 100), source.words()
    source.told = len(whys(source))
    if name not in SECTION.rows:
        SECTION.add(name, row.title, said()[0], ENDINGS[row.ending], row.remedy)


def slot_place(cluster):
    return cluster.value("SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = 'millrace'")


def test_wal_level():
    with Cluster(wal_level="replica") as cluster, Source(cluster.dsn()) as one:
        ends(one, "wal_level")


@pytest.mark.parametrize("name,dsn", [("unknown_role", {"user": "nobody"}), ("wrong_database", {"dbname": "nowhere"}),
                                      ("tls_required", {"host": "127.0.0.1", "sslmode": "require"})])
def test_wrong_connection(cluster, source, name, dsn):
    ends(source(dsn=cluster.dsn(**dsn)).start(), name)


def test_bad_url_shows_no_secret(source):
    one = source(dsn="password=top secret").start()
    ends(one, "bad_url")
    assert "secret" not in one.words()


def test_authentication():
    with Cluster() as cluster:
        cluster.execute("CREATE ROLE app LOGIN REPLICATION PASSWORD 'right'")
        cluster.hba("local all postgres trust", "host all app 127.0.0.1/32 scram-sha-256",
                    "hostssl all tls 127.0.0.1/32 trust")
        with Source(cluster.dsn(user="app", host="127.0.0.1", password="wrong")) as one:
            ends(one, "wrong_password")
        with Source(cluster.dsn(user="tls", host="127.0.0.1", sslmode="disable")) as one:
            ends(one, "tls_demanded")


def test_rights(cluster, source):
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


def test_slot_in_use(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
    one = source().start().streams()
    with Source(cluster.dsn()) as second:
        ends(second, "slot_in_use")
        one.stop()
        second.streams()


def test_no_walsenders():
    with Cluster(max_wal_senders=1) as cluster, Source(cluster.dsn()) as one:
        one.streams()
        with Source(cluster.dsn(), slot="second") as second:
            ends(second, "no_walsenders")
            one.stop()
            second.streams()


def test_server_trouble_is_survived():
    with Cluster() as cluster:
        cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
        one = Source(cluster.dsn())
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
            cluster.halt()
            ends(one, "server_restarted")
            cluster.start()
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
            assert one.ids() == ["1", "2", "3", "4"]


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


def test_what_is_no_postgresql():
    with fake_server(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(range(256))) as dsn:
        with Source(dsn) as one:
            ends(one, "garbage")
    with fake_server(None) as dsn, Source(dsn) as one:
        ends(one, "silence")
    with Source("host=no-such-host.invalid user=x dbname=x") as one:
        ends(one, "unknown_host")


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
    assert one.ids() == ["1", "2"]


def run_once(cluster, source):
    """A first run that reads one row and has acknowledged it."""
    one = source().start().streams()
    cluster.execute("INSERT INTO t VALUES (1)")
    one.has(1)
    end = cluster.value("SELECT pg_current_wal_lsn() - '0/0'")
    one.wait_for(lambda: slot_place(cluster) >= end, "the acknowledgement")
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
    assert one.instance.counter("puller", "millrace_source_gaps_total") == 1
    assert gap["cause"] == "it is gone" and re.fullmatch(r"\w+/\w+", gap["from"]) and gap["from"] != gap["to"]


def acknowledged(cluster, source):
    end = cluster.value("SELECT pg_current_wal_flush_lsn() - '0/0'")
    source.wait_for(lambda: slot_place(cluster) >= end, "the acknowledgement", 60)


def run_past_a_copy(cluster, source):
    """Copy the stopped server, slot included; then read and acknowledge more of it than the copy has."""
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    source.stop()
    cluster.halt()
    subprocess.run(["cp", "-a", cluster.data, cluster.dir + "/copy"], check=True)
    cluster.start()
    source.start().streams(2)
    cluster.execute("SELECT pg_switch_wal()", "INSERT INTO t VALUES (2)")
    source.has(2)
    acknowledged(cluster, source)


def go_back_to_the_copy(cluster):
    cluster.halt("immediate")
    shutil.rmtree(cluster.data)
    os.rename(cluster.dir + "/copy", cluster.data)


def promote(cluster):
    """Start the stopped server as a standby of nobody, and promote it: a new timeline."""
    with open(os.path.join(cluster.data, "standby.signal"), "w", encoding="utf-8"):
        pass
    cluster.start()
    cluster.execute("SELECT pg_promote()")


def test_server_restored_with_its_slot():
    with Cluster() as cluster, Source(cluster.dsn()) as one:
        one.streams()
        run_past_a_copy(cluster, one)
        one.stop()
        go_back_to_the_copy(cluster)
        cluster.start()
        ends(one.start(), "server_restored")


def test_behind_a_restored_server_everything_comes_and_nothing_is_acknowledged_too_early():
    with Cluster() as cluster, Source(cluster.dsn(), on_slot_lost="recreate") as one:
        one.streams()
        run_past_a_copy(cluster, one)
        go_back_to_the_copy(cluster)  # the source stays, and remembers what it has acknowledged
        cluster.start()
        one.streams(3)
        cluster.execute("INSERT INTO t VALUES (3)")
        one.has(4)
        acknowledged(cluster, one)
        assert slot_place(cluster) <= cluster.value("SELECT pg_current_wal_flush_lsn() - '0/0'")
        assert [event["op"] for event in one.events()] == ["insert", "insert", "gap", "insert"]
        assert one.events()[3]["document_id"] == "3"
        one.stop()
        one.start().streams(4)  # its own place is of the new history
        cluster.execute("INSERT INTO t VALUES (4)")
        one.has(5)
        assert one.events()[4]["document_id"] == "4"


def test_a_promoted_standby_is_read_on_if_it_has_what_was_read():
    with Cluster() as cluster, Source(cluster.dsn()) as one:
        one.streams()
        run_past_a_copy(cluster, one)
        one.stop()
        cluster.halt()
        promote(cluster)
        one.start().streams(3)
        cluster.execute("INSERT INTO t VALUES (3)")
        one.has(3)
        assert one.ids() == ["1", "2", "3"]
        one.stop()
        go_back_to_the_copy(cluster)  # the old primary, which went on by itself
        cluster.start()
        for _ in range(4):
            cluster.execute("INSERT INTO t SELECT max(id) + 1 FROM t", "SELECT pg_switch_wal()")
        one.start().wait_for(lambda: "is on timeline 1, which does not come from timeline 2; changes since" in one.words(),
                             "the refusal")


def test_a_promoted_standby_that_lacks_what_was_read_is_not_read_on():
    with Cluster() as cluster, Source(cluster.dsn()) as one:
        one.streams()
        run_past_a_copy(cluster, one)
        one.stop()
        go_back_to_the_copy(cluster)
        promote(cluster)
        for _ in range(3):
            cluster.execute("INSERT INTO t SELECT max(id) + 1 FROM t", "SELECT pg_switch_wal()")
        ends(one.start(), "server_promoted")


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


def test_slot_invalidated():
    with Cluster(max_slot_wal_keep_size="1MB", min_wal_size="32MB", max_wal_size="32MB") as cluster:
        cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
        with Source(cluster.dsn()) as one:
            one.streams()
            one.stop()
            for _ in range(4):
                cluster.execute("SELECT pg_switch_wal()", "CREATE TABLE x AS SELECT 1", "DROP TABLE x", "CHECKPOINT")
            assert cluster.value("SELECT wal_status FROM pg_replication_slots") == "lost"
            ends(one.start(), "slot_invalidated")


def test_other_cluster(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
    one = run_once(cluster, source)
    with Cluster() as other:
        one.config["postgres.url"] = other.dsn()
        ends(one.start(), "other_cluster")


def test_a_situation_that_comes_later_gives_the_puller_up_visibly_until_it_is_corrected(cluster, source):
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
    one = run_once(cluster, source)
    one.start().streams(2)
    one.instance.wait_ready()
    with cluster.connect() as connection:
        for _ in range(200):
            connection.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
            with contextlib.suppress(Exception):
                connection.execute("SELECT pg_drop_replication_slot('millrace')")
                break
    one.wait_for(lambda: " given_up " in one.words(), "the puller to be given up")
    assert one.process.poll() is None, "the others go on"
    status = one.instance.command("status").stdout
    assert re.search(r'puller +given_up .*slot "millrace": it is gone', status), status
    code, text = ready(one)
    assert code == 503 and re.search(r"\[-\]puller failed: given_up", text), text
    one.config["postgres.on_slot_lost"] = "recreate"
    one.instance.write_config()
    assert one.instance.command("reload").returncode == 0
    one.streams(3)
    cluster.execute("INSERT INTO t VALUES (2)")
    one.has(3)
    assert [event["op"] for event in one.events()] == ["insert", "gap", "insert"]
    assert one.stop() == 0


def test_the_page_says_what_was_seen(request):
    SECTION.check(request, [row.name for row in SITUATIONS])
