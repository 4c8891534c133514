"""A whole instance over gRPC, by clients that know nothing but its address: grpcurl, and Python's grpcio with
code generated from proto/."""

import json
import os
import queue
import signal
import subprocess

import grpc
import pytest

from consumer import sequence_of
from instance import Instance, wait_for
from sink import STREAM, Gateway
from subscriber import make_filter, open_stream, stubs
from test_grpc import grpcurl, run_grpcurl  # noqa: F401  (grpcurl is a fixture)


@pytest.fixture(name="running", scope="module")
def fixture_running():
    settings = {"source.kind": "generator", "generator.rate": 500, "generator.collections": 1}
    with Instance(settings) as instance:
        yield instance.start()


def address(instance):
    return f"127.0.0.1:{instance.grpc_port}"


def test_grpcurl_finds_and_uses_every_service(running, grpcurl):  # noqa: F811
    listed = run_grpcurl(grpcurl, address(running), "list").stdout.split()
    assert "syntrix.streamer.v1.StreamerService" in listed and "grpc.health.v1.Health" in listed
    described = run_grpcurl(grpcurl, address(running), "describe", "syntrix.streamer.v1.StreamerService")
    assert "rpc Stream ( stream .syntrix.streamer.v1.GatewayMessage )" in described.stdout
    check = run_grpcurl(grpcurl, "-d", '{"service": "syntrix.streamer.v1.StreamerService"}', address(running),
                        "grpc.health.v1.Health/Check")
    assert '"SERVING"' in check.stdout
    watch = run_grpcurl(grpcurl, "-max-time", "1", address(running), "grpc.health.v1.Health/Watch")
    assert '"SERVING"' in watch.stdout


def test_grpcurl_subscribes_is_confirmed_and_gets_deliveries(running, grpcurl):  # noqa: F811
    with subprocess.Popen([grpcurl, "-plaintext", "-d", "@", address(running), STREAM[1:]],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdin.write('{"subscribe": {"subscription_id": "a", "database": "default", "collection": "c0"}}')
        process.stdin.flush()
        text = ""
        while '"delivery"' not in text:
            line = process.stdout.readline()
            assert line, f"grpcurl ended: {text}"
            text += line
        process.stdin.close()  # half-close: the publisher ends the stream
        process.stdout.read()
    assert process.returncode == 0
    assert text.index('"subscribeResponse"') < text.index('"delivery"') and '"success": true' in text


def test_a_generated_python_client_subscribes_receives_and_unsubscribes(running):
    pb, outgoing = stubs(), queue.Queue()
    with grpc.insecure_channel(address(running)) as channel:
        call = open_stream(channel, iter(outgoing.get, None))
        outgoing.put(pb.GatewayMessage(subscribe=pb.SubscribeRequest(
            subscription_id="s", database="default", collection="c0",
            filters=[make_filter("status", "==", "open"), make_filter("quantity", ">", 10)])))
        assert next(call).subscribe_response.success
        got = [next(call).delivery for _ in range(20)]
        outgoing.put(pb.GatewayMessage(heartbeat=pb.Heartbeat(gateway_id="g", timestamp=1234)))
        ack = next(m for m in call if m.WhichOneof("payload") == "heartbeat_ack").heartbeat_ack
        outgoing.put(pb.GatewayMessage(unsubscribe=pb.UnsubscribeRequest(subscription_id="s")))
        outgoing.put(None)
        for _ in call:  # deliveries that were under way
            pass
        assert call.code() == grpc.StatusCode.OK
    assert ack.timestamp == 1234 and ack.progress
    for delivery in got:
        document = json.loads(delivery.event.document_data)
        assert list(delivery.subscription_ids) == ["s"]
        assert document["status"] == "open" and document["quantity"] > 10
        assert delivery.event.operation in (pb.OPERATION_TYPE_INSERT, pb.OPERATION_TYPE_UPDATE, pb.OPERATION_TYPE_DELETE)
        assert delivery.event.event_id.count("-") == 2 and delivery.progress
    assert wait_for(lambda: running.counter("publisher", "streamer_subscriptions_active") == 0, 5, "no subscription")


def test_health_watch_follows_a_publisher_that_goes_and_comes(running):
    pb = stubs("health")
    def check():
        with grpc.insecure_channel(address(running), [("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.unary_unary("/grpc.health.v1.Health/Check",
                                       request_serializer=pb.HealthCheckRequest.SerializeToString,
                                       response_deserializer=pb.HealthCheckResponse.FromString)
            try:
                return call(pb.HealthCheckRequest(), timeout=2).status == pb.HealthCheckResponse.SERVING
            except grpc.RpcError:
                return False
    assert check()
    os.kill(running.pids()["publisher"], signal.SIGKILL)
    wait_for(check, 10, "a publisher that serves again")


def test_a_gateway_that_was_cut_off_goes_on_behind_its_last_marker():
    settings = {"source.kind": "generator", "generator.rate": 1000, "generator.collections": 1,
                "generator.document_bytes": "8KiB", "publisher.gateway_queue_size": "1MiB"}
    markers = []
    with Instance(settings) as instance:
        instance.start()
        for cuts in (1, 2, 3):
            with grpc.insecure_channel(address(instance), [("grpc.use_local_subchannel_pool", 1)]) as channel:
                lazy = Gateway(channel)
                lazy.subscribed("all", "c0", database="default", after=markers[-1] if markers else "")
                newest = instance.counter("puller", "millrace_log_durable_sequence")
                while not markers or sequence_of(markers[-1]) < newest:  # who is behind waits in the log, and is not cut
                    markers.append(lazy.next().delivery.progress)
                wait_for(lambda: instance.counter("publisher", "millrace_publisher_gateways_cut_total") == cuts, 30,
                         "the cut")
                messages, code, text = lazy.rest()
            assert code == grpc.StatusCode.RESOURCE_EXHAUSTED and "last progress marker" in text
            markers += [m.delivery.progress for m in messages if m.WhichOneof("payload") == "delivery"]
    sequences = [sequence_of(marker) for marker in markers]
    assert len(sequences) > 100 and sequences == list(range(sequences[0], sequences[0] + len(sequences)))
