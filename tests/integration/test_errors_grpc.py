"""Broken gRPC messages sent to a real pipeline (`millrace run`): the table in docs/errors.md. Each ends its own stream,
or is refused on it; a second gateway gets every event meanwhile."""

import json
import os
import socket

import grpc
import pytest

from error_page import Section
from grpc_cases import BROKEN, Code, refusals
from instance import Instance, free_port, wait_for
from sink import STREAM, Gateway
from subscriber import make_filter, stubs

SECTION = Section("messages", 15, {"message": False, "answer": False, "text": True, "its stream": False,
                                   "other gateways": False})
LIMITS = {"publisher.gateways_max": 3, "publisher.subscriptions_per_gateway_max": 4, "publisher.subscriptions_max": 6}


class Pipeline(Instance):
    """Events come out when the test writes lines to a file that the puller follows."""

    def __init__(self):
        super().__init__({"source.kind": "ndjson", "ndjson.follow": True, **LIMITS})
        self.settings["ndjson.path"] = os.path.join(self.dir, "events.ndjson")
        self.write_config()
        self.number = 0
        self.channels = []
        with open(self.settings["ndjson.path"], "w", encoding="utf-8"):
            pass
        self.start()

    def emit(self):
        self.number += 1
        with open(self.settings["ndjson.path"], "a", encoding="utf-8") as out:
            out.write(json.dumps({"collection": "orders", "id": str(self.number), "doc": {"n": 1}}) + "\n")

    def channel(self):
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        self.channels.append(grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}", options))
        return self.channels[-1]

    def gateway(self, **how):
        return Gateway(self.channel(), **how)


@pytest.fixture(scope="module")
def pipeline():
    with Pipeline() as made:
        yield made
        assert not [process for process in made.status()["processes"] if process["restarts"]], "nobody died of it"
        assert made.stop() == 0
        for channel in made.channels:
            channel.close()


@pytest.fixture
def witness(pipeline):
    """Another gateway: after each test it must have got all of its events, on the stream it had."""
    other = pipeline.gateway()
    other.subscribed("witness", "orders", database="default")
    yield other
    pipeline.emit()
    assert other.next().delivery.event.document_id == str(pipeline.number)
    other.half_close()
    assert other.rest()[1] == Code.OK


def refuse(gateway, **fields):
    gateway.subscribe(**{"subscription_id": "s", "collection": "orders", **fields})
    response = gateway.next().subscribe_response
    assert not response.success and response.error
    return response.error


def still_works(pipeline, gateway):
    gateway.subscribed("after it", "orders", database="default")
    pipeline.emit()
    assert gateway.next().delivery.event.document_id == str(pipeline.number)
    gateway.half_close()
    assert gateway.rest()[1] == Code.OK


def drain_witness(pipeline, witness):
    assert witness.next().delivery.event.document_id == str(pipeline.number)


@pytest.mark.parametrize("name,data,code,text", BROKEN, ids=[row[0] for row in BROKEN])
def test_broken_message(pipeline, witness, name, data, code, text):
    gateway = pipeline.gateway(raw=True)
    gateway.send(data)
    messages, got, details = gateway.rest()
    assert (messages, got) == ([], code) and text in details, (got, details)
    SECTION.add(name, name, got.name, details, "ends", "go on")


@pytest.mark.parametrize("row", range(len(refusals())), ids=[row[0] for row in refusals()])
def test_refused_subscription(pipeline, witness, row):
    name, fields, text = refusals()[row]
    gateway = pipeline.gateway()
    error = refuse(gateway, **fields)
    assert text in error
    still_works(pipeline, gateway)
    drain_witness(pipeline, witness)
    SECTION.add(name, f"subscribe: {name}", "success = false", error, "goes on", "go on")


def test_refused_by_the_pump(pipeline, witness):
    """What only the real publisher can know."""
    gateway = pipeline.gateway()
    progress = gateway.subscribed("s", "orders").progress
    rows = {
        "id in use": {"subscription_id": "s"},
        "marker that is none": {"subscription_id": "m", "after": "yesterday"},
        "marker cut short": {"subscription_id": "m", "after": progress[:-3]},
    }
    for name, fields in rows.items():
        error = refuse(gateway, **fields)
        SECTION.add(name, f"subscribe: {name}", "success = false", error.replace(progress[:-1], "MARKER"), "goes on",
                    "go on")
    for number in range(3):
        gateway.subscribed(f"more-{number}", "people")
    error = refuse(gateway, subscription_id="one too many")
    assert "at most 4 (publisher.subscriptions_per_gateway_max)" in error
    SECTION.add("per gateway", "subscribe: one more than a gateway may have", "success = false", error, "goes on", "go on")
    second = pipeline.gateway()
    second.subscribed("fills it up", "people")
    error = refuse(second, subscription_id="over all")
    assert "at most 6 (publisher.subscriptions_max)" in error
    SECTION.add("over all", "subscribe: one more than the publisher takes", "success = false", error, "goes on", "go on")
    messages, code, text = pipeline.gateway().rest()
    assert (messages, code) == ([], Code.RESOURCE_EXHAUSTED) and "publisher.gateways_max" in text
    SECTION.add("gateways", "one gateway more than the publisher takes", code.name, text, "ends", "go on")
    for one in (gateway, second):
        one.half_close()
        assert one.rest()[1] == Code.OK


def fails(call, *arguments):
    with pytest.raises(grpc.RpcError) as error:
        call(*arguments, timeout=10)
    return error.value.code(), error.value.details()


def test_wrong_calls(pipeline, witness):
    channel = pipeline.channel()
    rows = {
        "a method that is none": fails(channel.unary_unary(STREAM + "s"), b""),
        "a service that is none": fails(channel.unary_unary("/nobody.Nothing/Call"), b""),
        "health check of an unknown service": fails(
            channel.unary_unary("/grpc.health.v1.Health/Check"),
            stubs("health").HealthCheckRequest(service="nobody").SerializeToString()),
        "health check that is no message": fails(channel.unary_unary("/grpc.health.v1.Health/Check"), b"\x0a\x7f"),
    }
    for name, (code, text) in rows.items():
        SECTION.add(name, name, code.name, text, "ends", "go on")
    assert [code for code, _ in rows.values()] == [Code.UNIMPLEMENTED, Code.UNIMPLEMENTED, Code.NOT_FOUND,
                                                   Code.INVALID_ARGUMENT]


@pytest.mark.parametrize("name, data", [("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
                                        ("random bytes instead of HTTP/2", bytes(range(256)) * 64)])
def test_another_protocol_on_the_port(pipeline, witness, name, data):
    with socket.create_connection(("127.0.0.1", pipeline.grpc_port), 5) as peer:
        peer.settimeout(15)
        peer.sendall(data)
        try:
            while peer.recv(4096):
                pass
        except ConnectionResetError:
            pass
    SECTION.add(name, name, "the connection is closed", "-", "none", "go on")


def test_no_publisher_there():
    with grpc.insecure_channel(f"127.0.0.1:{free_port()}", [("grpc.enable_http_proxy", 0)]) as channel:
        code, _ = fails(channel.unary_unary("/grpc.health.v1.Health/Check"), b"")
    assert code == Code.UNAVAILABLE


def test_the_page_says_what_was_seen(request):
    SECTION.check(request)
