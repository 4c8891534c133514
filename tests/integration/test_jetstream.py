"""Deliveries through JetStream: every one stored once and in order, whatever is killed; what is refused;
the breaker. Larger: MILLRACE_TEST_JS_DELIVERIES=500000 MILLRACE_TEST_JS_KILLS=20."""

import base64
import json
import os
import random
import signal
import time

import pytest

import nats
from instance import Instance, wait_for
from subscriber import Subscriber, Subscription

pytestmark = pytest.mark.skipif(not nats.have_server(), reason="nats-server is not installed")
STREAM = "GATEWAY_EVENTS"


@pytest.fixture
def server():
    with nats.Server() as it:
        yield it


def wanted(collections, per_collection=1, filters=None):
    return [{"gatewayId": f"gate.{i % 7}", "subscriptionId": f"s {i}/{k}", "database": "default", "collection": f"c{i}",
             **({"filters": filters} if filters else {})}
            for i in range(collections) for k in range(per_collection)]


def instance(server, subscriptions, **settings):
    it = Instance({"source.kind": "generator", "generator.rate": 0, "generator.documents": 100,
                   "jetstream.enabled": True, "jetstream.create": True, "nats.url": server.url,
                   "nats.breaker_open": "300ms", "checkpoint.interval": "50ms",
                   **{key.replace("__", "."): value for key, value in settings.items()}})
    it.settings["jetstream.subscriptions"] = os.path.join(it.dir, "subscriptions")
    with open(it.settings["jetstream.subscriptions"], "w", encoding="utf-8") as out:
        out.writelines(json.dumps(s) + "\n" for s in subscriptions)
    it.write_config()
    return it


def sequence_of(message):
    """The event's sequence in the log, from the marker: version, log id, sequence, little endian."""
    text = message.headers["Millrace-Position"]
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return int.from_bytes(raw[9:17], "little")


def check_all(server, count, collections):
    """Every event of the generator is in the stream once, on its collection's subject, in order."""
    last, seen = {}, bytearray(count + 1)
    with nats.Client(server.port) as client:
        for message in client.read(STREAM, headers_only=True):
            index = int(message.headers["Millrace-Event-Id"].split("-")[1])
            assert not seen[index], f"event {index} is there twice: {message.headers}"
            seen[index] = 1
            sequence = sequence_of(message)
            assert sequence > last.get(message.subject, 0), f"{message.subject}: {sequence} behind {last[message.subject]}"
            last[message.subject] = sequence
    missing = [i for i in range(1, count + 1) if not seen[i]]
    assert not missing, f"{len(missing)} of {count} are missing, first {missing[:5]}"
    assert len(last) == collections


def publisher(it, name):
    return it.counter("publisher", name)


def test_a_message_says_what_the_page_promises(server):
    subscriptions = wanted(2) + [{"gatewayId": "g*>", "subscriptionId": "x", "database": "default", "collection": "c0",
                                  "filters": [{"field": "status", "op": "==", "value": "paid"}]}]
    with instance(server, subscriptions, generator__count=2000, generator__collections=2) as it:
        it.start()
        nats.wait_messages(server.port, STREAM, 2000, 20)
        wait_for(lambda: publisher(it, "millrace_jetstream_acknowledged_sequence") == 2000, 10, "all acknowledged")
        with nats.Client(server.port) as client:
            config = client.stream(STREAM)["config"]
            messages = list(client.read(STREAM))
        assert it.stop() == 0
    assert config["subjects"] == ["events.>"] and config["storage"] == "file" and config["max_age"] == 3600 * 10**9
    subjects = {m.subject for m in messages}
    assert subjects == {"events.gate%2E0.s%200%2F0", "events.gate%2E1.s%201%2F0", "events.g%2A%3E.x"}
    ids = set()
    for m in messages:
        body, event = m.json(), m.json()["event"]
        assert body["version"] == 1 and body["position"] == m.headers["Millrace-Position"]
        assert event["eventId"] == m.headers["Millrace-Event-Id"]
        assert event["operation"] == m.headers["Millrace-Operation"]
        assert m.headers["Millrace-Format"] == "json/1"
        assert len(m.headers["traceparent"]) == 55
        assert body["subscriptionId"] in ("s 0/0", "s 1/0", "x")
        if m.subject == "events.g%2A%3E.x":
            assert event["document"]["status"] == "paid" and event["collection"] == "c0"
        ids.add(m.headers["Nats-Msg-Id"])
    assert len(ids) == len(messages)


def test_a_reload_switches_the_sink_on_and_off(server):
    with instance(server, wanted(2), generator__rate=500, generator__collections=2, jetstream__enabled=False) as it:
        it.start()
        for enabled in (True, False):
            it.settings["jetstream.enabled"] = enabled
            it.write_config()
            result = it.command("reload")
            assert result.returncode == 0, result.stderr
            if enabled:
                nats.wait_messages(server.port, STREAM, 100, 20)
                server.kill()  # and now it holds the checkpoint back
        it.wait_ready()

        def place():
            return json.loads(it.command("status", "--json").stdout)

        fed = place()["fed"]
        wait_for(lambda: place()["checkpoint"] > fed, 10, "a checkpoint that does not wait for the sink")
        assert it.stop() == 0


def test_each_delivery_is_stored_once_and_in_order_through_kills_of_server_and_publisher(server):
    count = int(os.environ.get("MILLRACE_TEST_JS_DELIVERIES", "40000"))
    kills = int(os.environ.get("MILLRACE_TEST_JS_KILLS", "4"))
    collections = 1000 if count >= 100000 else 50
    rate = 20000 if count >= 100000 else 10000
    rng = random.Random(7)
    states = set()
    with instance(server, wanted(collections), generator__count=count, generator__collections=collections,
                  generator__rate=rate, supervisor__restarts_max=0, jetstream__queue_size="1MiB",
                  nats__breaker_failures=3) as it:
        it.start()
        for turn in range(kills):
            time.sleep(rng.uniform(0.1, 0.6))
            server.kill()
            time.sleep(rng.choice((0.05, 0.5)))
            states.add(publisher(it, "millrace_jetstream_breaker_state"))
            server.start()
            time.sleep(rng.uniform(0.0, 0.5))
            os.kill(wait_for(lambda: it.pids().get("publisher"), 20, "a publisher"), signal.SIGKILL)
        wait_for(lambda: publisher(it, "millrace_jetstream_acknowledged_sequence") == count, 60 + count / 5000,
                 "everything to be acknowledged")
        check_all(server, count, collections)
        wait_for(lambda: it.status()["checkpoint"] == count, 10, "the checkpoint")
        assert it.stop() == 0
    assert 2 in states or kills == 0, f"the breaker was never seen open: {states}"


def test_nats_away_holds_the_checkpoint_and_nothing_else(server):
    subscriptions = wanted(4)
    with instance(server, subscriptions, generator__count=30000, generator__collections=4, generator__rate=10000,
                  jetstream__queue_size="64KiB", log__segment_size="1MiB", log__retention_size="1MiB",
                  nats__breaker_failures=2) as it:
        it.start()
        wait_for(lambda: publisher(it, "millrace_jetstream_acknowledged_sequence") > 1000, 20, "a beginning")
        server.kill()
        wait_for(lambda: publisher(it, "streamer_events_processed_total") == 30000, 20, "the pipeline to go on")
        wait_for(lambda: publisher(it, "millrace_jetstream_breaker_state") == 2, 10, "the breaker to open")
        held = it.status()["checkpoint"]
        assert held < 30000
        time.sleep(1)
        assert it.status()["checkpoint"] <= publisher(it, "millrace_jetstream_acknowledged_sequence") < 30000
        server.start()
        wait_for(lambda: it.status()["checkpoint"] == 30000, 30, "the checkpoint to come to the end")
        assert publisher(it, "millrace_jetstream_breaker_state") == 0
        assert publisher(it, "millrace_jetstream_breaker_opens_total") >= 1
        check_all(server, 30000, 4)
        assert it.stop() == 0


def subscriber(it, ident, collection):
    return Subscriber(it.grpc_port, [Subscription(ident, "default", collection)], keep_events=False)


def test_the_sink_takes_no_gateways_place(server):
    with instance(server, wanted(1), generator__count=100, generator__collections=1, publisher__gateways_max=1) as it:
        it.start()
        nats.wait_messages(server.port, STREAM, 100, 20)
        one = subscriber(it, "a", "c0").start()
        one.stop()
        assert not one.errors
        assert it.stop() == 0


def test_nobody_takes_the_places_of_the_files_subscriptions_while_the_queue_is_full(server):
    with instance(server, wanted(1), generator__collections=1, generator__rate=5000,
                  jetstream__queue_size="64KiB", publisher__subscriptions_per_database_max=1) as it:
        it.start()
        nats.wait_messages(server.port, STREAM, 100, 20)
        refused = subscriber(it, "a", "c0").start(0)
        wait_for(lambda: refused.errors, 10, "the refusal")
        refused.stop()
        server.kill()
        wait_for(lambda: "queue_full" in it.log_tail(1000), 20, "the queue to be full")
        other = subscriber(it, "b", "c0").start()
        server.start()
        end = publisher(it, "streamer_events_processed_total")
        wait_for(lambda: publisher(it, "millrace_jetstream_acknowledged_sequence") >= end, 20, "all of it")
        other.stop()
        assert publisher(it, "millrace_jetstream_subscriptions_rejected_total") == 0
        with nats.Client(server.port) as client:
            sequences = [sequence_of(m) for m in client.read(STREAM, headers_only=True)]
        assert sequences == list(range(1, len(sequences) + 1)) and len(sequences) >= end


def test_a_stopped_server_is_noticed_and_what_it_took_is_not_sent_twice(server):
    with instance(server, wanted(3), generator__count=40000, generator__collections=3, generator__rate=10000,
                  nats__ack_timeout="500ms") as it:
        it.start()
        wait_for(lambda: publisher(it, "millrace_jetstream_published_total") > 5000, 20, "a beginning")
        server.signal(signal.SIGSTOP)
        wait_for(lambda: publisher(it, "millrace_jetstream_failures_total") > 0, 10, "the failure")
        server.signal(signal.SIGCONT)
        wait_for(lambda: publisher(it, "millrace_jetstream_acknowledged_sequence") == 40000, 30, "the rest")
        check_all(server, 40000, 3)
        assert it.stop() == 0


def test_messages_of_another_writer_are_kept_and_cost_nothing_of_ours(server):
    with instance(server, wanted(2), generator__count=20000, generator__collections=2, generator__rate=10000) as it:
        it.start()
        wait_for(lambda: publisher(it, "millrace_jetstream_published_total") > 1000, 20, "a beginning")
        with nats.Client(server.port) as client:
            for i in range(20):
                client.publish("events.foreign.x", b"hello")
                time.sleep(0.03)
        wait_for(lambda: publisher(it, "millrace_jetstream_acknowledged_sequence") == 20000, 30, "the rest")
        with nats.Client(server.port) as client:
            messages = list(client.read(STREAM, headers_only=True))
        ours = [int(m.headers["Millrace-Event-Id"].split("-")[1]) for m in messages if "foreign" not in m.subject]
        assert len(messages) == 20020 and len(ours) == 20000 and len(set(ours)) == 20000
        assert "foreign_messages" in it.log_tail(10000)
        assert it.stop() == 0


@pytest.mark.parametrize("existing, text", [
    (None, "missing, and not to be created"),
    ({"max_age": 5 * 10**9}, "another max_age"),
    ({"storage": "memory"}, "another storage"),
    ({"retention": "workqueue"}, "another retention policy"),
    ({"subjects": ["events.>", "more.>"]}, "other subjects"),
])
def test_a_stream_that_is_not_what_it_should_be_is_refused_and_the_rest_goes_on(server, existing, text):
    if existing is not None:
        with nats.Client(server.port) as client:
            body = {"max_age": 3600 * 10**9, **existing}
            subjects = body.pop("subjects", ["events.>"])
            client.create(STREAM, subjects[0], **{**body, "subjects": subjects})
    with instance(server, wanted(1), generator__count=100, jetstream__create=existing is not None) as it:
        it.start()
        wait_for(lambda: text in it.log_tail(1000), 10, text)
        assert publisher(it, "streamer_events_processed_total") == 100
        assert it.status()["checkpoint"] == 0


def test_a_message_over_the_servers_limit_goes_without_its_payload():
    with nats.Server() as server:
        config = os.path.join(server.dir, "small.conf")
        with open(config, "w", encoding="utf-8") as out:
            out.write("max_payload: 4KB\n")
        server.kill()
        server.flags = ("-c", config)
        server.start()
        with instance(server, wanted(1), generator__count=50, generator__collections=1,
                      generator__document_bytes="8KiB") as it:
            it.start()
            nats.wait_messages(server.port, STREAM, 50, 20)
            with nats.Client(server.port) as client:
                for message in client.read(STREAM):
                    assert message.data == b"" and "over the server's 4096" in message.headers["Millrace-Omitted"]
            assert publisher(it, "millrace_jetstream_oversize_total") == 50
            assert it.stop() == 0


@pytest.mark.parametrize("line, text", [
    ('{"gatewayId":"g"}', "both are needed"),
    ('{"gatewayId":"g","subscriptionId":"s"}\n{"gatewayId":"g","subscriptionId":"s"}', "is there twice"),
])
def test_a_file_with_a_mistake_is_a_wrong_configuration(server, line, text):
    with instance(server, [], generator__count=1) as it:
        with open(it.settings["jetstream.subscriptions"], "w", encoding="utf-8") as out:
            out.write(line + "\n")
        it.start(0)
        wait_for(lambda: text in it.log_tail(100), 10, text)


def test_a_subscription_that_the_publisher_refuses_is_counted_and_the_others_live(server):
    subscriptions = wanted(1) + [{"gatewayId": "g", "subscriptionId": "bad", "database": "default", "collection": "c0",
                                  "filters": [{"field": "a..b", "op": "==", "value": 1}]}]
    with instance(server, subscriptions, generator__count=100, generator__collections=1) as it:
        it.start()
        nats.wait_messages(server.port, STREAM, 100, 20)
        assert publisher(it, "millrace_jetstream_subscriptions") == 1
        assert publisher(it, "millrace_jetstream_subscriptions_rejected_total") == 1
        assert it.stop() == 0
