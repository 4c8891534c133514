"""Durable subscriptions through JetStream: what is registered over REST or gRPC arrives on its subject, from the
marker of its answer on, each event once and in order, whatever dies; a replacement changes at one event."""

import base64
import os
import random
import signal
import time

import pytest

import nats
from instance import wait_for
from rest import RestInstance
from subscriber import stubs
from test_durable import Stream
from test_jetstream import STREAM, publisher, sequence_of

pytestmark = pytest.mark.skipif(not nats.have_server(), reason="nats-server is not installed")
SETTINGS = {"jetstream.enabled": True, "jetstream.create": True, "nats.breaker_open": "300ms",
            "checkpoint.interval": "50ms", "generator.rate": 2000, "supervisor.restarts_max": 0}


@pytest.fixture
def server():
    with nats.Server() as it:
        yield it


def started(server, **settings):
    it = RestInstance({**SETTINGS, "nats.url": server.url,
                       **{key.replace("__", "."): value for key, value in settings.items()}})
    return it.start()


def place(marker):
    raw = base64.urlsafe_b64decode(marker + "=" * (-len(marker) % 4))
    return int.from_bytes(raw[9:17], "little")


def arrived(server):
    """subject -> [(sequence, collection)] in the stream's order."""
    out = {}
    with nats.Client(server.port) as client:
        for message in client.read(STREAM):
            event = message.json()["event"]
            assert event, message.headers
            out.setdefault(message.subject, []).append((sequence_of(message), event["collection"]))
    return out


def told(it):
    """The sequence through which everything is in the stream."""
    return publisher(it, "millrace_jetstream_acknowledged_sequence")


def wait_told(it, seconds=30):
    end = publisher(it, "streamer_events_processed_total")
    wait_for(lambda: told(it) >= end, seconds, f"{end} to be acknowledged")
    return end


def test_what_is_registered_arrives_and_what_is_removed_does_not(server):
    with started(server, publisher__subscriptions_per_gateway_max=3) as it, it.connect() as rest, \
            Stream(it.grpc_port) as stream:
        first = rest.register("all")
        assert first.status == 201
        assert rest.register("cel", cel="doc.n >= 0 || doc.n < 0 || true").status == 201
        stream.register("g1", ["grpc"])
        assert stream.next("register_response").registered == 1
        assert rest.register("more").code == "GATEWAY_QUOTA_EXCEEDED"  # counted once each, as without JetStream
        listed = rest.ask("GET", "/internal/v1/subscriptions").json["subscriptions"]
        assert sorted(s["subscriptionId"] for s in listed) == ["all", "cel", "grpc"]
        wait_for(lambda: publisher(it, "millrace_jetstream_subscriptions") == 3, 10, "three in the sink")
        wait_for(lambda: len(arrived(server).get("events.g1.cel", ())) > 50, 10, "events of the one to be removed")
        assert rest.ask("DELETE", "/internal/v1/subscriptions/cel").status == 204
        wait_for(lambda: publisher(it, "millrace_jetstream_subscriptions") == 2, 10, "two in the sink")
        wait_told(it)
        before = arrived(server)
        wait_for(lambda: len(arrived(server)["events.g1.all"]) > len(before["events.g1.all"]) + 200, 10, "more of the others")
        got = arrived(server)
        assert set(got) == {"events.g1.all", "events.g1.cel", "events.g1.grpc"}
        assert len(got["events.g1.cel"]) == len(before["events.g1.cel"])
        least = place(first.json["progress"])
        assert least < got["events.g1.all"][0][0] <= least + 4  # of two collections
        assert it.stop() == 0


def test_a_replacement_changes_at_one_event(server):
    with started(server) as it, it.connect() as rest:
        assert rest.register("c0").status == 201
        assert rest.register("c1", collection="c1").status == 201
        made, changes = rest.register("changing"), []
        for turn in range(20):
            if turn in (5, 12):
                os.kill(it.pids()["publisher"], signal.SIGKILL)
                wait_for(lambda: rest_again(it), 20, "the control plane")
                rest = it.connect()
            body = {"gatewayId": "g1", "tenant": "db", "collection": f"c{(turn + 1) % 2}"}
            answer = wait_for(lambda: replaced(rest, body), 20, "the replacement")
            changes.append(place(answer.json["progress"]))
            time.sleep(0.1)
        wait_told(it)
        got = arrived(server)
        all_events = sorted(got["events.g1.c0"] + got["events.g1.c1"])
        assert len({s for s, _ in all_events}) == len(all_events)
        expected = [(s, c) for s, c in all_events if s > place(made.json["progress"])
                    and c == f"c{sum(s > change for change in changes) % 2}"]
        mine = [pair for pair in got["events.g1.changing"] if pair[0] <= all_events[-1][0]]
        assert [m for m in mine if m[0] <= expected[-1][0]] == expected
        rest.close()


def replaced(rest, body):
    answer = rest.ask("PUT", "/internal/v1/subscriptions/changing", body)
    assert answer.status == 200 or answer.code == "SUBSCRIPTION_BUSY", answer.text
    return answer.status == 200 and answer


def rest_again(it):
    try:
        with it.connect() as rest:
            return rest.ask("GET", "/internal/v1/subscriptions?limit=1").status == 200
    except OSError:
        return False


def register_through_kills(it, ident):
    """Ask until it is there. The marker behind which nothing may be missing."""
    while True:
        try:
            with it.connect() as rest:
                answer = rest.register(ident)
            if answer.status == 201:
                return place(answer.json["progress"])
            if answer.status == 409:  # the answer was lost: it lives from some place on
                return None
            assert answer.status == 503, answer.text
        except OSError:
            pass
        time.sleep(0.01)


def test_a_journal_that_is_full_of_the_past_costs_no_subscription_its_events(server):
    """Two journals of 32 MiB: the last ones fit beside the past, but what the sink subscribes for them does not."""
    value = "x" * (30 << 10)  # stands twice in its record
    with started(server, publisher__subscriptions_max=10000, generator__rate=20) as it, it.connect() as rest, \
            Stream(it.grpc_port) as stream:
        def register(names):
            pb = stubs()
            filters = [pb.Filter(field="status", op="!=", value=pb.Value(string_value=value))]
            stream.send(register=pb.RegisterRequest(gateway_id="g1", request_id=1, subscriptions=[
                pb.SubscribeRequest(subscription_id=n, database="db", collection="c0", filters=filters) for n in names]))
            answer = stream.next("register_response")
            return answer

        def in_sink(count):
            wait_for(lambda: publisher(it, "millrace_jetstream_subscriptions") == count, 20, f"{count} in the sink")

        for first in range(0, 224, 56):
            assert register([f"s{n}" for n in range(first, first + 56)]).registered == 56
        in_sink(224)
        for n in range(110, 224):
            assert rest.ask("DELETE", f"/internal/v1/subscriptions/s{n}").status == 204
        answer = register([f"t{n}" for n in range(62)])
        last = place(answer.progress)
        in_sink(110 + answer.registered)
        # A registration that takes more than one turn lets the sink's own come in between: they take the room then.
        full = [f for f in answer.failures if "no room in the subscription journal" in f.error]
        assert len(full) == 62 - answer.registered, answer.failures
        assert full or "subscription_waits" in it.log_tail(1000)
        wait_for(lambda: told(it) >= last + 20, 20, "events behind the last registration")
        got = {subject: {s for s, _ in pairs if s > last} for subject, pairs in arrived(server).items()}
        through = min(max(got[f"events.g1.t{n}"]) for n in range(answer.registered))
        expected = {s for s in got["events.g1.s0"] if s <= through}
        assert len(expected) >= 3
        for n in range(answer.registered):
            assert {s for s in got[f"events.g1.t{n}"] if s <= through} == expected, n


def test_nothing_acknowledged_is_missing_through_kills_while_registering(server):
    rng = random.Random(11)
    with started(server, jetstream__queue_size="256KiB", nats__breaker_failures=3, generator__rate=300) as it:
        markers = {"s0": register_through_kills(it, "s0")}
        for turn in range(int(os.environ.get("MILLRACE_TEST_JS_KILLS", "4"))):
            for n in range(10):
                ident = f"t{turn}-{n}"
                markers[ident] = register_through_kills(it, ident)
                if n == 4:
                    os.kill(wait_for(lambda: it.pids().get("publisher"), 20, "a publisher"), signal.SIGKILL)
                if n == 7 and turn % 2:
                    server.kill()
                    time.sleep(rng.uniform(0, 0.3))
                    server.start()
        end = wait_told(it, 60)
        got = arrived(server)
        whole = [s for s, _ in got["events.g1.s0"]]
        assert whole == sorted(set(whole)) and len(whole) > 100
        for ident, marker in markers.items():
            mine = [s for s, _ in got[f"events.g1.{ident}"] if s <= end]
            assert mine == sorted(set(mine)), ident
            if marker is not None:
                assert [s for s in mine if s > marker] == [s for s in whole if marker < s <= end], ident
        assert it.stop() == 0
