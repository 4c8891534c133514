"""Two instances side by side: one writes its log to a stream, the other takes its events from there and
delivers the same to the same subscriptions, whatever is killed."""

import json
import os
import signal
import time

import pytest

import nats
from instance import Instance, wait_for
from test_jetstream import publisher, wanted

pytestmark = pytest.mark.skipif(not nats.have_server(), reason="nats-server is not installed")


@pytest.fixture
def server():
    with nats.Server() as it:
        yield it


def pair(server, subscriptions, **settings):
    common = {"nats.url": server.url, "nats.breaker_open": "200ms", "supervisor.restarts_max": 0,
              "source.backoff_max": "200ms", "jetstream.enabled": True, "jetstream.create": True}
    first = Instance({**common, "source.kind": "generator", "generator.documents": 100, "generator.collections": 5,
                      "query.jetstream_enabled": True, "query.jetstream_format": "record",
                      "jetstream.stream": "OUT_A", "jetstream.subject": "a",
                      **{key.replace("__", "."): value for key, value in settings.items()}})
    second = Instance({**common, "source.kind": "jetstream", "jetstream.stream": "OUT_B", "jetstream.subject": "b"})
    for it in first, second:
        it.settings["jetstream.subscriptions"] = os.path.join(it.dir, "subscriptions")
        with open(it.settings["jetstream.subscriptions"], "w", encoding="utf-8") as out:
            out.writelines(json.dumps(s) + "\n" for s in subscriptions)
        it.write_config()
    return first, second


def deliveries(server, stream):
    """subject without its first token -> events in order, without what each instance adds itself."""
    found = {}
    with nats.Client(server.port) as client:
        for message in client.read(stream):
            event = message.json()["event"]
            assert event.pop("timestamp") > 0
            found.setdefault(message.subject.split(".", 1)[1], []).append(event)
    return found


def test_the_second_instance_delivers_what_the_first_one_does(server):
    count = int(os.environ.get("MILLRACE_TEST_JS_EVENTS", "30000"))
    subscriptions = wanted(4) + [{
        "gatewayId": "f", "subscriptionId": "paid", "database": "default", "collection": "c4",
        "filters": [{"field": "status", "op": "==", "value": "paid"}, {"field": "price", "op": ">", "value": 100}]}]
    first, second = pair(server, subscriptions, generator__count=count, generator__rate=10000)
    with first, second:
        first.start()
        second.start()
        for victim in "puller", "publisher", "server", "puller", "all":
            time.sleep(0.3)
            if victim == "server":
                server.kill()
                server.start()
            elif victim == "all":
                second.kill_all()
                second.remove_segments()
                second.start()
            else:
                os.kill(wait_for(lambda: second.pids().get(victim), 20, victim), signal.SIGKILL)
        for it in first, second:
            wait_for(lambda: publisher(it, "millrace_jetstream_acknowledged_sequence") == count, 60, "all of it")
        assert second.counter("puller", "millrace_source_gaps_total") == 0
        ours, theirs = deliveries(server, "OUT_A"), deliveries(server, "OUT_B")
        assert first.stop() == 0 and second.stop() == 0
    assert len(ours) == 5 and all(ours.values())
    assert ours == theirs


def test_a_strangers_message_is_counted_and_passed_over(server):
    first, second = pair(server, wanted(1), generator__count=6000, generator__collections=1, generator__rate=3000)
    with first, second:
        first.start()
        second.start()
        wait_for(lambda: second.counter("puller", "millrace_source_position") > 100, 20, "a beginning")
        with nats.Client(server.port) as client:
            client.publish("query.index.c0", b"hello")
            client.publish("query.index.c0", b"", headers={"Some-Header": "x"})
        for it in first, second:
            wait_for(lambda: publisher(it, "millrace_jetstream_acknowledged_sequence") == 6000, 20, "all of it")
        assert second.counter("puller", "millrace_source_rejected_total") == 2
        assert second.counter("puller", "millrace_source_gaps_total") == 0
        assert deliveries(server, "OUT_A") == deliveries(server, "OUT_B")
        assert first.stop() == 0 and second.stop() == 0


def test_what_is_no_longer_in_the_stream_is_one_gap_event(server):
    first, second = pair(server, [{"gatewayId": "g", "subscriptionId": "s", "database": "default", "collection": "c0"}],
                         generator__count=1000, generator__collections=1)
    with first, second:
        first.start()
        wait_for(lambda: publisher(first, "millrace_fanout_acknowledged_sequence") == 1000, 20, "the stream")
        second.start()
        wait_for(lambda: publisher(second, "millrace_jetstream_acknowledged_sequence") == 1000, 20, "all of it")
        assert second.stop() == 0
        with nats.Client(server.port) as client:
            for _ in range(5):
                client.publish("query.index.c0", b"x", headers={"Millrace-Format": "record/1"})
            wait_for(lambda: client.stream("QUERY_INDEX")["state"]["last_seq"] == 1005, 10, "five more")
            client.api("STREAM.PURGE.QUERY_INDEX", {"seq": 1004})
        second.start()
        wait_for(lambda: second.counter("puller", "millrace_source_gaps_total") == 1, 20, "the gap")
        wait_for(lambda: second.counter("puller", "millrace_source_rejected_total") == 2, 20, "what is no event")
        gaps = [e for e in deliveries(server, "OUT_B")["g.s"] if e["operation"] == "gap"] or wait_for(
            lambda: [e for e in deliveries(server, "OUT_B")["g.s"] if e["operation"] == "gap"], 10, "its delivery")
        assert gaps[0]["document"]["from"] == "1001" and gaps[0]["document"]["to"] == "1003"


def test_a_stream_made_anew_and_longer_is_one_gap_event_and_read_from_its_beginning(server):
    first, second = pair(server, [{"gatewayId": "g", "subscriptionId": "s", "database": "default", "collection": "c0"}],
                         generator__count=100, generator__collections=1)
    with first, second:
        first.start()
        wait_for(lambda: publisher(first, "millrace_fanout_acknowledged_sequence") == 100, 20, "the stream")
        second.start()
        wait_for(lambda: publisher(second, "millrace_jetstream_acknowledged_sequence") == 100, 20, "all of it")
        assert second.stop() == 0 and first.stop() == 0
        with nats.Client(server.port) as client:
            subject = client.stream("QUERY_INDEX")["config"]["subjects"][0]
            client.delete("QUERY_INDEX")
            client.create("QUERY_INDEX", subject)
            for _ in range(150):
                client.publish("query.index.c0", b"x", headers={"Millrace-Format": "record/1"})
            wait_for(lambda: client.stream("QUERY_INDEX")["state"]["last_seq"] == 150, 10, "a longer one")
        second.start()
        wait_for(lambda: second.counter("puller", "millrace_source_position") == 150, 20, "the end of it")
        assert second.counter("puller", "millrace_source_gaps_total") == 1
        assert second.counter("puller", "millrace_source_rejected_total") == 150
        assert second.stop() == 0
        second.start()  # the place tells which stream it is of
        wait_for(lambda: second.counter("puller", "millrace_source_connected") == 1, 20, "the stream")
        time.sleep(0.2)
        assert second.counter("puller", "millrace_source_gaps_total") == 0


@pytest.mark.parametrize("before", [0, 3])
def test_what_came_and_went_before_the_first_event_was_read_is_one_gap_event(server, before):
    first, second = pair(server, wanted(1))
    record = {"Millrace-Format": "record/1"}
    with first, second, nats.Client(server.port) as client:
        client.create("QUERY_INDEX", "query.index.>")

        def publish(count, through):
            for _ in range(count):
                client.publish("query.index.c0", b"x", headers=record)
            wait_for(lambda: client.stream("QUERY_INDEX")["state"]["last_seq"] == through, 10, "the messages")

        publish(before, before)
        client.api("STREAM.PURGE.QUERY_INDEX")
        second.start()
        wait_for(lambda: second.counter("puller", "millrace_source_connected") == 1, 20, "the stream")
        wait_for(lambda: second.counter("puller", "millrace_log_written_bytes_total") > 0, 20, "the place in the log")
        assert second.stop() == 0
        publish(10, before + 10)
        client.api("STREAM.PURGE.QUERY_INDEX", {"seq": before + 6})
        second.start()
        wait_for(lambda: second.counter("puller", "millrace_source_rejected_total") == 5, 20, "the other five")
        assert second.counter("puller", "millrace_source_gaps_total") == 1
        assert f"from={before + 1} to={before + 5} " in second.log_tail(1000)
        assert second.stop() == 0


def test_a_stream_of_json_is_refused_with_what_to_change(server):
    first, second = pair(server, wanted(1), generator__count=100, query__jetstream_format="json")
    with first, second:
        first.start()
        wait_for(lambda: publisher(first, "millrace_fanout_acknowledged_sequence") == 100, 20, "the stream")
        second.start(0)
        wait_for(lambda: "set query.jetstream_format to record" in second.log_tail(100), 20, "the message")
