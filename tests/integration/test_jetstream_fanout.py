"""The log as a JetStream stream: every event once and in order, whatever is killed. Larger:
MILLRACE_TEST_JS_EVENTS=200000 MILLRACE_TEST_JS_KILLS=10 MILLRACE_TEST_JS_PAUSE=130 MILLRACE_TEST_JS_ROWS=1000000."""

import json
import os
import random
import signal
import time

import psycopg
import pytest

import nats
from instance import Instance, wait_for
from pg import Cluster
from test_jetstream import publisher, sequence_of

pytestmark = pytest.mark.skipif(not nats.have_server(), reason="nats-server is not installed")
STREAM = "QUERY_INDEX"


@pytest.fixture
def server():
    with nats.Server() as it:
        yield it


def instance(server, **settings):
    return Instance({"source.kind": "generator", "generator.rate": 0, "generator.documents": 100,
                     "query.jetstream_enabled": True, "query.jetstream_url": server.url,
                     "nats.breaker_open": "300ms", "checkpoint.interval": "50ms", "supervisor.restarts_max": 0,
                     **{key.replace("__", "."): value for key, value in settings.items()}})


def check_once_in_order(server, count):
    """The stream holds events 1 to count of the log, each once, in this order."""
    expected = 0
    with nats.Client(server.port) as client:
        for message in client.read(STREAM, headers_only=True):
            expected += 1
            assert sequence_of(message) == expected, f"at {message.sequence}: {message.headers}"
    assert expected == count


def acknowledged(it):
    return publisher(it, "millrace_fanout_acknowledged_sequence")


def test_the_stream_is_what_the_configuration_says_and_has_the_consumer(server):
    with instance(server, generator__count=3000, generator__collections=3, query__jetstream_retention="20m") as it:
        it.start()
        wait_for(lambda: acknowledged(it) == 3000, 20, "all acknowledged")
        assert it.stop() == 0
    with nats.Client(server.port) as client:
        config = client.stream(STREAM)["config"]
        assert config["subjects"] == ["query.index.>"] and config["storage"] == "file"
        assert config["max_age"] == 20 * 60 * 10**9 and config["num_replicas"] == 1
        consumer = client.api(f"CONSUMER.INFO.{STREAM}.index")["config"]
        assert consumer["max_ack_pending"] == 200 and consumer["ack_wait"] == 5 * 10**9
        assert consumer["ack_policy"] == "explicit"
        messages = list(client.read(STREAM))
    assert {m.subject for m in messages} == {"query.index.c0", "query.index.c1", "query.index.c2"}
    for m in messages:
        event = m.json()["event"]
        assert m.subject == "query.index." + event["collection"]
        assert m.headers["Nats-Msg-Id"] == event["eventId"] and "Millrace-Event-Id" not in m.headers
    check_once_in_order(server, 3000)


def test_the_configuration_file_may_nest_as_the_environment_may_name_it(server):
    with instance(server, generator__count=10) as it:
        with open(it.config_path, encoding="utf-8") as file:
            text = file.read()
        text = text.replace(f'  jetstream_url: "{server.url}"\n', "").replace(
            "  jetstream_enabled: true\n", "  jetstream:\n    enabled: true\n    retention: 7m\n")
        with open(it.config_path, "w", encoding="utf-8") as file:
            file.write(text)
        os.environ["NATS_URL"] = server.url
        try:
            it.start()
        finally:
            del os.environ["NATS_URL"]
        wait_for(lambda: acknowledged(it) == 10, 20, "all acknowledged")
        assert it.stop() == 0
    with nats.Client(server.port) as client:
        assert client.stream(STREAM)["config"]["max_age"] == 7 * 60 * 10**9


def test_every_event_is_there_once_and_in_order_through_kills(server):
    count = int(os.environ.get("MILLRACE_TEST_JS_EVENTS", "40000"))
    kills = int(os.environ.get("MILLRACE_TEST_JS_KILLS", "4"))
    pause = float(os.environ.get("MILLRACE_TEST_JS_PAUSE", "0"))
    rng = random.Random(11)
    with instance(server, generator__count=count, generator__rate=10000) as it:
        it.start()
        for turn in range(kills):
            time.sleep(rng.uniform(0.1, 0.6))
            server.kill()
            time.sleep(rng.choice((0.05, 0.4)))
            server.start()
            time.sleep(rng.uniform(0.0, 0.4))
            victim = "puller" if turn % 2 else "publisher"
            os.kill(wait_for(lambda: it.pids().get(victim), 20, victim), signal.SIGKILL)
            if pause and turn == 0:  # longer than the server remembers message ids
                it.kill_all()
                time.sleep(pause)
                it.remove_segments()
                it.start()
        wait_for(lambda: acknowledged(it) == count, 60 + count / 5000, "everything to be acknowledged")
        check_once_in_order(server, count)
        wait_for(lambda: it.status()["checkpoint"] == count, 10, "the checkpoint")
        assert it.stop() == 0


def test_every_row_is_there_once_and_in_order_through_kills(server):
    rows = int(os.environ.get("MILLRACE_TEST_JS_ROWS", "30000")) // 1000 * 1000
    with Cluster() as cluster, psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE rows (id bigint PRIMARY KEY, body text)")
        with instance(server, source__kind="postgres", postgres__url=cluster.dsn(), postgres__tables="public.rows") as it:
            it.start()
            connection.execute(f"""DO $$ BEGIN FOR t IN 0..{rows // 1000 - 1} LOOP
                INSERT INTO rows SELECT t * 1000 + i, repeat('x', 300) FROM generate_series(1, 1000) i; COMMIT;
                END LOOP; END $$""")
            for quarter, victim in enumerate(("puller", "publisher", "all"), 1):
                wait_for(lambda: acknowledged(it) >= quarter * rows // 4, 10 + rows / 5000, "the next quarter")
                if victim == "all":
                    it.kill_all()
                    it.remove_segments()
                    it.start()
                else:
                    os.kill(it.pids()[victim], signal.SIGKILL)
            wait_for(lambda: it.status()["checkpoint"] == rows, 10 + rows / 5000, "everything to be acknowledged")
            assert it.stop() == 0
    with nats.Client(server.port) as client:
        found = [int(m.json()["event"]["documentId"]) for m in client.read(STREAM)]
    assert found == list(range(1, rows + 1))


def test_a_restart_that_the_server_has_forgotten_all_ids_of_adds_nothing(server):
    """Kill all, and restart the server with a stream whose window is over: ids are of no help then."""
    with nats.Client(server.port) as client:
        client.create(STREAM, "query.index.>", max_age=600 * 10**9, duplicate_window=100_000_000)
    with instance(server, generator__count=30000, generator__rate=10000, checkpoint__interval="10s",
                  checkpoint__events="1000000") as it:
        it.start()
        for _ in range(3):
            wait_for(lambda: acknowledged(it) > 0, 20, "a beginning")
            time.sleep(0.7)
            it.kill_all()
            it.remove_segments()
            time.sleep(0.3)
            it.start()
        wait_for(lambda: acknowledged(it) == 30000, 30, "everything to be acknowledged")
        assert publisher(it, "millrace_fanout_duplicates_total") > 0
        check_once_in_order(server, 30000)


def test_a_stream_for_each_collection(server):
    with instance(server, generator__count=20000, generator__rate=20000, generator__collections=12,
                  query__jetstream_split="collection") as it:
        it.start()
        wait_for(lambda: acknowledged(it) > 3000, 20, "a beginning")
        server.kill()
        server.start()
        os.kill(it.pids()["publisher"], signal.SIGKILL)
        wait_for(lambda: acknowledged(it) == 20000, 30, "everything to be acknowledged")
        assert publisher(it, "millrace_fanout_streams") > 0
        assert it.stop() == 0
    sequences = []
    with nats.Client(server.port) as client:
        for i in range(12):
            own = []
            for message in client.read(f"QUERY_INDEX_c{i}", headers_only=True):
                assert message.subject == f"query.index.c{i}"
                own.append(sequence_of(message))
            assert own == sorted(set(own))
            sequences += own
    assert sorted(sequences) == list(range(1, 20001))


def ndjson(server, lines, **settings):
    it = Instance({"source.kind": "ndjson", "query.jetstream_enabled": True, "nats.url": server.url,
                   "nats.breaker_open": "100ms", **{key.replace("__", "."): value for key, value in settings.items()}})
    it.settings["ndjson.path"] = os.path.join(it.dir, "lines")
    with open(it.settings["ndjson.path"], "w", encoding="utf-8") as out:
        out.writelines(json.dumps(line) + "\n" for line in lines)
    it.write_config()
    return it


def test_streams_of_collections_have_names_that_a_server_can_use(server):
    names = ["заказы" * 10, "заказы" * 10 + "!", "c" * 300, "public.orders"]
    with ndjson(server, [{"collection": name, "id": i, "doc": {"n": i}} for i, name in enumerate(2 * names)],
                query__jetstream_split="collection") as it:
        it.start()
        wait_for(lambda: acknowledged(it) == 8, 20, "everything to be acknowledged")
        assert it.stop() == 0
    with nats.Client(server.port) as client:
        streams = client.api("STREAM.NAMES")["streams"]
        assert len(streams) == 4 and "QUERY_INDEX_public=2Eorders" in streams and max(map(len, streams)) <= 255
        client.publish("$JS.API.CONSUMER.MSG.NEXT.QUERY_INDEX_public=2Eorders.index", b"1", client.inbox + ".x")
        message = client.next()
        assert message.subject == "query.index.public%2Eorders"
        client.publish(message.reply, b"+ACK")
        wait_for(lambda: client.api("CONSUMER.INFO.QUERY_INDEX_public=2Eorders.index")["ack_floor"]["stream_seq"] == 1,
                 5, "the acknowledgement")
        found = [[m.json()["event"]["collection"] for m in client.read(name)] for name in streams]
    assert sorted(found) == sorted([name, name] for name in names)


def test_a_subject_that_another_stream_has_is_said_with_its_name_and_waits_for_its_operator(server):
    with nats.Client(server.port) as client:
        client.create("OLD_posts", "query.index.posts")
    with ndjson(server, [{"collection": name, "id": "a", "doc": {"n": 1}} for name in ("posts", "likes")],
                query__jetstream_split="collection") as it:
        it.start()
        wait_for(lambda: "subject query.index.posts belongs to stream OLD_posts" in it.log_tail(200), 20, "a word about it")
        with nats.Client(server.port) as client:
            assert client.stream("QUERY_INDEX_posts") is None
            client.delete("OLD_posts")
        wait_for(lambda: acknowledged(it) == 2, 30, "both to be acknowledged")
        assert it.stop() == 0


def test_an_event_over_half_of_the_queue_goes_without_its_payload_and_says_so(server):
    with ndjson(server, [{"collection": "a", "id": i, "doc": {"text": "x" * size}}
                         for i, size in enumerate((10, 40000, 10))], query__jetstream_queue_size="64KiB") as it:
        it.start()
        wait_for(lambda: acknowledged(it) == 3, 20, "everything to be acknowledged")
        assert publisher(it, "millrace_fanout_oversize_total") == 1
        assert it.stop() == 0
    with nats.Client(server.port) as client:
        small, large, last = client.read(STREAM)
    assert large.data == b"" and "over half of the queue" in large.headers["Millrace-Omitted"]
    assert large.headers["Millrace-Position"] and sequence_of(large) == 2
    for message in small, last:
        assert message.json() and "Millrace-Omitted" not in message.headers


def test_the_same_event_id_twice_is_stored_once_and_stops_nobody(server):
    with ndjson(server, [{"collection": "a", "id": i, "event_id": f"e{i - 1 if i in (50, 120) else i}", "doc": {"n": i}}
                         for i in range(200)]) as it:
        it.start()
        wait_for(lambda: acknowledged(it) == 200, 20, "everything to be acknowledged")
        assert publisher(it, "millrace_fanout_duplicates_total") == 2
        assert it.stop() == 0
    with nats.Client(server.port) as client:
        numbers = [m.json()["event"]["document"]["n"] for m in client.read(STREAM)]
    assert numbers == [i for i in range(200) if i not in (50, 120)]


def test_the_fan_out_holds_the_checkpoint_and_the_log(server):
    with instance(server, generator__count=60000, generator__rate=20000, log__segment_size="1MiB",
                  log__retention_size="1MiB", query__jetstream_queue_size="64KiB") as it:
        it.start()
        wait_for(lambda: acknowledged(it) > 1000, 20, "a beginning")
        server.kill()
        wait_for(lambda: publisher(it, "streamer_events_processed_total") == 60000, 20, "the pipeline to go on")
        assert it.status()["checkpoint"] <= acknowledged(it) < 60000
        server.start()
        wait_for(lambda: it.status()["checkpoint"] == 60000, 30, "the checkpoint to come to the end")
        check_once_in_order(server, 60000)
        assert it.stop() == 0


def test_what_was_held_back_goes_on_when_the_fan_out_is_switched_off(server):
    server.kill()
    with instance(server, generator__count=1000) as it:
        it.start()
        wait_for(lambda: publisher(it, "streamer_events_processed_total") == 1000, 20, "the pipeline")
        assert it.status()["checkpoint"] == 0
        it.settings["query.jetstream_enabled"] = False
        it.write_config()
        assert it.command("reload").returncode == 0
        wait_for(lambda: it.status()["checkpoint"] == 1000, 20, "the checkpoint")
        assert it.stop() == 0
