"""Durable subscriptions: registered over gRPC, kept through the death of every process, delivered to the
stream that speaks for their gateway, and ended when their time is up."""

import os
import queue
import time
from datetime import datetime

import grpc
import pytest

from instance import Instance, wait_for
from subscriber import open_stream, stubs

GENERATOR = {"source.kind": "generator", "source.database": "db", "generator.collections": 2,
             "generator.rate": 500, "matcher.shards": 2}


class Stream:
    """One gateway stream that is driven by hand."""

    def __init__(self, port):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
        grpc.channel_ready_future(self.channel).result(20)
        self.outgoing = queue.Queue()
        self.call = open_stream(self.channel, iter(self.outgoing.get, None))

    def send(self, **payload):
        self.outgoing.put(stubs().GatewayMessage(**payload))

    def register(self, gateway, ids, collection="c0", ttl=0, request=1, database="db"):
        pb = stubs()
        self.send(register=pb.RegisterRequest(
            gateway_id=gateway, ttl_seconds=ttl, request_id=request,
            subscriptions=[pb.SubscribeRequest(subscription_id=i, database=database, collection=collection)
                           for i in ids]))

    def heartbeat(self, gateway="", after=""):
        self.send(heartbeat=stubs().Heartbeat(gateway_id=gateway, timestamp=1, after=after))

    def next(self, kind):
        """The next message of a kind; others in front of it are dropped."""
        for message in self.call:
            if message.WhichOneof("payload") == kind:
                return getattr(message, kind)
        raise EOFError(kind)

    def close(self):
        self.call.cancel()
        self.outgoing.put(None)
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@pytest.fixture
def instance():
    with Instance(GENERATOR) as one:
        one.start()
        yield one


def durable(instance):
    return instance.counter("publisher", "millrace_publisher_durable_subscriptions")


def test_registered_subscriptions_are_confirmed_and_refused_one_by_one(instance):
    with Stream(instance.grpc_port) as stream:
        stream.register("g1", ["a", "b", "a", "no blank"], request=7)
        answer = stream.next("register_response")
        assert (answer.request_id, answer.registered) == (7, 2)
        assert [(f.subscription_id, f.code) for f in answer.failures] == [
            ("a", "SUBSCRIPTION_EXISTS"), ("no blank", "INVALID_REQUEST")]
        assert "subscriptionId: expected" in answer.failures[1].error
        assert answer.progress
        stream.register("g2", ["b"], request=8)
        assert stream.next("register_response").failures[0].code == "SUBSCRIPTION_EXISTS"
        stream.register("g2", ["c"], ttl=10)
        assert "ttl: expected 60 to 3600 seconds, got 10" in stream.next("register_response").failures[0].error


@pytest.mark.parametrize("victim", ["publisher", "matcher-0", "puller", "all"])
def test_subscriptions_survive_the_death_of(instance, victim):
    with Stream(instance.grpc_port) as stream:
        stream.register("g1", [f"s{i}" for i in range(1000)])
        assert stream.next("register_response").registered == 1000
    if victim == "all":
        instance.kill_all()
        instance.remove_segments()
        instance.start()
    else:
        pid = instance.pids()[victim]
        os.kill(pid, 9)
        wait_for(lambda: instance.pids().get(victim) not in (None, pid), 20, f"another {victim}")
    wait_for(lambda: durable(instance) == 1000, 20, "1000 durable subscriptions")
    with Stream(instance.grpc_port) as stream:
        stream.heartbeat("g1")
        stream.next("heartbeat_ack")
        assert len(stream.next("delivery").subscription_ids) == 1000


def test_a_gateway_that_comes_back_with_its_marker_gets_what_it_missed(instance):
    """Two streams: one is always there, the other comes and goes: they get the same events."""
    with Stream(instance.grpc_port) as witness:
        witness.register("w", ["w1"])
        marker = witness.next("register_response").progress
        witness.register("g", ["g1"])
        witness.next("register_response")
        witness.heartbeat("w", marker)
        got = []
        for _ in range(5):
            with Stream(instance.grpc_port) as stream:
                stream.heartbeat("g", marker)
                for _ in range(40):
                    delivery = stream.next("delivery")
                    got.append(delivery.event.event_id)
                    marker = delivery.progress
            time.sleep(0.1)
        expected = [witness.next("delivery").event.event_id for _ in range(200)]
        assert got == expected


def test_a_marker_of_another_log_is_told_to_read_anew(instance):
    with Stream(instance.grpc_port) as stream:
        stream.register("g", ["g1"])
        stream.next("register_response")
        stream.heartbeat("g", "AQAAAAAAAAAAAQAAAAAAAAA")
        assert stream.next("heartbeat_ack").resync


def test_a_gateway_that_is_gone_loses_its_subscriptions_when_their_time_is_up():
    from rest import RestInstance
    with RestInstance({"subscriptions.ttl_min": "1s", "subscriptions.ttl": "8s"}) as one:
        one.start()
        with Stream(one.grpc_port) as stream, one.connect() as rest:
            stream.register("alive", ["a"])
            begun = time.monotonic()
            stream.register("gone", ["g"], ttl=2)
            stream.next("register_response")
            stream.next("register_response")
            stream.heartbeat("alive")
            stream.next("heartbeat_ack")
            wait_for(lambda: durable(one) == 1, 5, "the end of one")
            assert time.monotonic() - begun >= 2
            def life():
                seen = rest.get("a").json
                return sum(sign * datetime.fromisoformat(seen[name]).timestamp()
                           for sign, name in ((1, "expiresAt"), (-1, "createdAt")))
            wait_for(lambda: life() > 8 + 2, 5, "a lease that goes on while somebody is there")
            assert durable(one) == 1  # a stream speaks for it
            one.kill_all()
            one.remove_segments()
            one.start()
            wait_for(lambda: durable(one) == 1, 5, "the one that was alive")
            wait_for(lambda: durable(one) == 0, 12, "its end")
            one.kill_all()
            one.remove_segments()
            one.start()
            assert durable(one) == 0  # what has expired does not come back


def test_quotas_hold_whoever_asks():
    limits = {"publisher.subscriptions_per_gateway_max": 3, "publisher.subscriptions_per_database_max": 5}
    with Instance({**GENERATOR, **limits}) as one:
        one.start()
        pb = stubs()
        with Stream(one.grpc_port) as stream:
            stream.register("g1", ["a", "b", "c", "d"])
            answer = stream.next("register_response")
            assert answer.registered == 3 and answer.failures[0].code == "GATEWAY_QUOTA_EXCEEDED"
            stream.heartbeat("g1")  # the stream is g1: its own subscriptions count as g1's
            stream.next("heartbeat_ack")
            stream.send(subscribe=pb.SubscribeRequest(subscription_id="e", database="db", collection="c0"))
            assert "subscriptions_per_gateway_max" in stream.next("subscribe_response").error
            stream.register("g2", ["f", "g", "h"])
            answer = stream.next("register_response")
            assert answer.registered == 2 and answer.failures[0].code == "TENANT_QUOTA_EXCEEDED"
        with Stream(one.grpc_port) as stream:  # nor does another connection help
            stream.send(subscribe=pb.SubscribeRequest(subscription_id="e", database="db", collection="c0"))
            assert "subscriptions_per_database_max" in stream.next("subscribe_response").error
            stream.send(subscribe=pb.SubscribeRequest(subscription_id="e", database="db2", collection="c0"))
            assert stream.next("subscribe_response").success
