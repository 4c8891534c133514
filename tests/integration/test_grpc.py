"""The gRPC server from outside: deliveries, limits, broken messages, health, reflection, grpcurl."""

import os
import shutil
import subprocess
import threading
import time

import grpc
import pytest

from grpc_cases import BROKEN, refusals
from instance import ROOT, wait_for
from sink import STREAM, Gateway, Sink
from subscriber import stubs

Code = grpc.StatusCode


@pytest.fixture
def sink():
    sink = Sink()
    yield sink
    code, log = sink.close()
    assert code == 0, log


def health(channel, name, service, **options):
    pb = stubs("health")
    kind = channel.unary_unary if name == "Check" else channel.unary_stream
    method = kind(f"/grpc.health.v1.Health/{name}",
                  request_serializer=pb.HealthCheckRequest.SerializeToString,
                  response_deserializer=pb.HealthCheckResponse.FromString)
    return method(pb.HealthCheckRequest(service=service), timeout=20, **options)


# Deliveries.

def test_subscribe_is_answered_and_deliveries_follow_in_order(sink):
    gateway = Gateway(sink.channel())
    response = gateway.subscribed("s-1", "orders")
    assert response.subscription_id == "s-1" and response.progress
    sink.tell("emit orders 1000 20")
    numbers, markers = [], set()
    for _ in range(1000):
        delivery = gateway.next().delivery
        assert list(delivery.subscription_ids) == ["s-1"]
        assert delivery.event.database == "default" and delivery.event.collection == "orders"
        assert delivery.event.document_id == "doc-1" and delivery.event.event_id
        assert delivery.event.operation == stubs().OPERATION_TYPE_INSERT
        numbers.append(int(delivery.event.document_data.split(b'"n":')[1].split(b",")[0]))
        markers.add(delivery.progress)
    assert numbers == list(range(1, 1001))
    assert len(markers) == 1000


def test_one_delivery_names_all_subscriptions_of_its_gateway(sink):
    one, other = Gateway(sink.channel()), Gateway(sink.channel())
    one.subscribed("a", "orders")
    one.subscribed("b", "orders")
    one.subscribed("c", "people")
    other.subscribed("d", "orders")
    sink.tell("emit orders 1")
    assert sorted(one.next().delivery.subscription_ids) == ["a", "b"]
    assert list(other.next().delivery.subscription_ids) == ["d"]


def test_who_asks_for_batches_gets_the_same_deliveries_in_fewer_messages(sink):
    count = 5000
    single, batched = Gateway(sink.channel()), Gateway(sink.channel(), batch=True)
    single.subscribed("a", "orders")
    batched.subscribed("a", "orders")
    sink.tell(f"emit orders {count} 20")
    sink.tell("emit orders 1 1000000")  # larger than a batch may be
    sink.tell(f"emit orders {count} 20")
    batched.heartbeat(7)
    want = [single.next().delivery.SerializeToString() for _ in range(2 * count + 1)]
    got, messages = [], 0
    while len(got) < len(want):
        message = batched.next()
        kind = message.WhichOneof("payload")
        if kind == "heartbeat_ack":
            continue
        deliveries = message.batch.deliveries if kind == "batch" else [message.delivery]
        assert len(deliveries) > 1 or kind == "delivery"
        got += [delivery.SerializeToString() for delivery in deliveries]
        messages += 1
    assert got == want
    assert messages < len(want) / 4


def test_unsubscribe_ends_deliveries(sink):
    pb = stubs()
    gateway = Gateway(sink.channel())
    gateway.subscribed("a", "orders")
    gateway.send(pb.GatewayMessage(unsubscribe=pb.UnsubscribeRequest(subscription_id="a")))
    wait_for(lambda: sink.tell("report")["unsubscribed"] == 1, 5, "the unsubscribe")
    sink.tell("emit orders 3")
    gateway.heartbeat(1)
    assert gateway.next().WhichOneof("payload") == "heartbeat_ack"


def test_heartbeat_is_acknowledged_with_progress_behind_what_was_sent(sink):
    gateway = Gateway(sink.channel())
    gateway.subscribed("a", "orders")
    sink.tell("emit orders 2")
    gateway.next()
    last = gateway.next().delivery.progress
    gateway.heartbeat(-1234567890123)
    ack = gateway.next().heartbeat_ack
    assert ack.timestamp == -1234567890123
    assert ack.progress == last


def test_half_close_ends_the_stream_with_ok_behind_what_was_queued(sink):
    gateway = Gateway(sink.channel())
    gateway.subscribed("a", "orders")
    sink.tell("emit orders 500")
    gateway.half_close()
    messages, code, _ = gateway.rest()
    assert (len(messages), code) == (500, Code.OK)
    seen = wait_for(lambda: (s := sink.tell("report"))["closed"] == 1 and s, 5, "the close")
    assert seen["gateways"] == 0


def test_same_ids_are_taken_again_right_after_a_reconnect(sink):
    channel = sink.channel()
    for round_number in range(20):
        gateway = Gateway(channel)
        gateway.subscribed("a", "orders")
        sink.tell("emit orders 1")
        assert list(gateway.next().delivery.subscription_ids) == ["a"]
        if round_number % 2:
            gateway.call.cancel()
        else:
            gateway.half_close()
            assert gateway.rest()[1] == Code.OK


def test_subscription_refused_by_the_publisher_leaves_the_stream_open(sink):
    gateway = Gateway(sink.channel())
    gateway.subscribe("a", "refused")
    response = gateway.next().subscribe_response
    assert not response.success and response.subscription_id == "a" and "refused" in response.error
    gateway.subscribed("a", "orders")


def test_big_events_arrive_whole(sink):
    gateway = Gateway(sink.channel(max_receive_message_length=-1))
    gateway.subscribed("a", "orders")
    for _ in range(3):
        sink.tell("emit orders 1 10000000")
        assert len(gateway.next().delivery.event.document_data) > 10000000


def test_thousands_of_subscribes_without_reading_are_all_answered(sink):
    gateway = Gateway(sink.channel())
    for number in range(5000):
        gateway.subscribe(f"s-{number}", "people")
    answered = [gateway.next().subscribe_response.subscription_id for _ in range(5000)]
    assert answered == [f"s-{number}" for number in range(5000)]


# Slow gateways.

def test_gateway_that_does_not_read_is_cut_off_and_told_so():
    sink = Sink(publisher__gateway_queue_messages=1000)
    slow = Gateway(sink.channel())
    slow.subscribed("a", "orders")
    sink.tell("emit orders 50000 500")
    seen = wait_for(lambda: (s := sink.tell("report"))["closed"] == 1 and s, 5, "the cut")
    assert seen["cut"] == 1 and seen["gateways"] == 0
    messages, code, text = slow.rest()
    assert code == Code.RESOURCE_EXHAUSTED
    assert "publisher.gateway_queue_messages" in text and "1000" in text and "last progress marker" in text
    assert len(messages) < 50000
    again = Gateway(sink.channel())
    again.subscribed("a", "orders")
    assert sink.close()[0] == 0


def test_bytes_count_against_the_queue_too():
    sink = Sink(publisher__gateway_queue_size="1MiB")
    slow = Gateway(sink.channel(max_receive_message_length=-1))
    slow.subscribed("a", "orders")
    sink.tell("emit orders 200 100000")
    messages, code, text = slow.rest()
    assert code == Code.RESOURCE_EXHAUSTED and "publisher.gateway_queue_size" in text
    assert len(messages) < 200
    assert sink.close()[0] == 0


def test_slow_gateway_does_not_keep_back_the_others(sink):
    slow, fast = Gateway(sink.channel()), Gateway(sink.channel())
    slow.subscribed("slow", "orders")
    fast.subscribed("fast", "orders")
    got = []
    reader = threading.Thread(target=lambda: got.extend(fast.next() for _ in range(40000)))
    reader.start()
    for part in range(1, 41):
        sink.tell("emit orders 1000 300")
        wait_for(lambda part=part: len(got) >= 1000 * part - 500, 10, "the reader")
    reader.join(timeout=20)
    assert len(got) == 40000
    assert sink.tell("report")["cut"] == 1
    assert slow.rest()[1] == Code.RESOURCE_EXHAUSTED


# Broken input.

@pytest.mark.parametrize("name,data,code,text", BROKEN, ids=[row[0] for row in BROKEN])
def test_broken_message_ends_its_stream_alone(sink, name, data, code, text):
    channel = sink.channel()
    other = Gateway(channel)
    other.subscribed("other", "orders")
    gateway = Gateway(channel, raw=True)
    gateway.send(data)
    _, got, details = gateway.rest()
    assert got == code and text in details, (got, details)
    seen = wait_for(lambda: (s := sink.tell("report"))["closed"] == 1 and s, 5, "the close")
    assert seen["rejected"] == (0 if code == Code.RESOURCE_EXHAUSTED else 1)
    sink.tell("emit orders 1")
    assert other.next().delivery.event.collection == "orders"


REFUSAL_COUNT = 13


@pytest.mark.parametrize("row", range(REFUSAL_COUNT))
def test_unacceptable_subscribe_is_refused_and_the_stream_goes_on(sink, row):
    assert len(refusals()) == REFUSAL_COUNT
    name, fields, text = refusals()[row]
    gateway = Gateway(sink.channel())
    gateway.subscribe(**{"subscription_id": "s", "collection": "orders", **fields})
    response = gateway.next().subscribe_response
    assert not response.success and response.subscription_id == "s", name
    assert text in response.error, (name, response.error)
    gateway.subscribed("s", "orders")


def test_subscription_id_over_the_limit_is_refused(sink):
    gateway = Gateway(sink.channel())
    gateway.subscribe("x" * 65537, "orders")
    response = gateway.next().subscribe_response
    assert not response.success and "subscription_id: expected at most 65536 bytes" in response.error


def test_gateways_over_the_limit_are_refused_until_one_leaves():
    sink = Sink(publisher__gateways_max=2)
    first, second = Gateway(sink.channel()), Gateway(sink.channel())
    first.subscribed("a", "orders")
    second.subscribed("b", "orders")
    _, code, text = Gateway(sink.channel()).rest()
    assert code == Code.RESOURCE_EXHAUSTED and "at most 2" in text and "publisher.gateways_max" in text
    first.half_close()
    assert first.rest()[1] == Code.OK

    def free_again():
        gateway = Gateway(sink.channel())
        gateway.subscribe("c", "orders")
        try:
            return gateway.next().subscribe_response.success
        except grpc.RpcError:
            return False
    wait_for(free_again, 5, "a free place")
    assert sink.close()[0] == 0


def test_unknown_method_is_unimplemented(sink):
    with pytest.raises(grpc.RpcError) as error:
        sink.channel().unary_unary("/syntrix.streamer.v1.StreamerService/Nope")(b"", timeout=5)
    assert error.value.code() == Code.UNIMPLEMENTED
    assert "StreamerService/Nope" in error.value.details()


def test_address_in_use_is_a_clear_error(sink):
    second = subprocess.run([sink.process.args[0], f"publisher.grpc_listen={sink.address}"],
                            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
    assert second.returncode == 111
    assert f"publisher.grpc_listen {sink.address}" in second.stderr


# Stopping.

def test_stop_sends_what_is_queued_and_says_why_it_ends(sink):
    gateway = Gateway(sink.channel())
    gateway.subscribed("a", "orders")
    sink.send("emit orders 3000 100")
    sink.send("quit")
    messages, code, text = gateway.rest()
    assert len(messages) == 3000
    assert code == Code.UNAVAILABLE and "stopping" in text


def test_stop_does_not_wait_for_a_gateway_that_does_not_read():
    sink = Sink(publisher__gateway_queue_messages=1000000, publisher__gateway_queue_size="1GiB")
    gateway = Gateway(sink.channel())
    gateway.subscribed("a", "orders")
    sink.tell("emit orders 50000 500")
    began = time.monotonic()
    code, log = sink.close()
    assert code == 0 and time.monotonic() - began < 5, log
    assert "calls_cancelled" in log


# Health.

def test_health_check_knows_the_services_and_no_others(sink):
    serving = stubs("health").HealthCheckResponse.SERVING
    channel = sink.channel()
    assert health(channel, "Check", "").status == serving
    assert health(channel, "Check", "syntrix.streamer.v1.StreamerService").status == serving
    with pytest.raises(grpc.RpcError) as error:
        health(channel, "Check", "nobody")
    assert error.value.code() == Code.NOT_FOUND and '"nobody"' in error.value.details()


def test_health_watch_tells_each_change_and_the_end(sink):
    pb = stubs("health").HealthCheckResponse
    watch = health(sink.channel(), "Watch", "syntrix.streamer.v1.StreamerService")
    assert next(watch).status == pb.SERVING
    sink.tell("serving 0")
    assert next(watch).status == pb.NOT_SERVING
    sink.tell("serving 1")
    assert next(watch).status == pb.SERVING
    sink.send("quit")
    assert next(watch).status == pb.NOT_SERVING
    with pytest.raises(grpc.RpcError) as error:
        next(watch)
    assert error.value.code() == Code.UNAVAILABLE


def test_health_watch_of_an_unknown_service_stays_open(sink):
    watch = health(sink.channel(), "Watch", "nobody")
    assert next(watch).status == stubs("health").HealthCheckResponse.SERVICE_UNKNOWN
    sink.tell("serving 0")
    time.sleep(0.1)
    assert watch.is_active()
    watch.cancel()


def test_broken_health_request_is_invalid(sink):
    method = sink.channel().unary_unary("/grpc.health.v1.Health/Check")
    with pytest.raises(grpc.RpcError) as error:
        method(b"\x0a\x7f", timeout=5)
    assert error.value.code() == Code.INVALID_ARGUMENT and "HealthCheckRequest" in error.value.details()


# Reflection.

def ask(sink, version, *requests):
    pb = stubs("reflection" if version == "v1" else "reflection_v1alpha")
    method = sink.channel().stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=pb.ServerReflectionRequest.SerializeToString,
        response_deserializer=pb.ServerReflectionResponse.FromString)
    return list(method(iter([pb.ServerReflectionRequest(**r) for r in requests]), timeout=5))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_services_and_finds_files_by_name_and_symbol(sink, version):
    from google.protobuf import descriptor_pb2
    listed, by_symbol, by_name, by_method, by_field = ask(
        sink, version, {"list_services": "*"},
        {"file_containing_symbol": "syntrix.streamer.v1.StreamerService"},
        {"file_by_filename": "proto/streamer.proto"},
        {"file_containing_symbol": "syntrix.streamer.v1.StreamerService.Stream"},
        {"file_containing_symbol": "syntrix.streamer.v1.Value.list_value"})
    names = [s.name for s in listed.list_services_response.service]
    assert "syntrix.streamer.v1.StreamerService" in names and "grpc.health.v1.Health" in names
    for response in (by_symbol, by_name, by_method, by_field):
        [data] = response.file_descriptor_response.file_descriptor_proto
        file = descriptor_pb2.FileDescriptorProto.FromString(data)
        assert file.package == "syntrix.streamer.v1"
    assert by_name.original_request.file_by_filename == "proto/streamer.proto"


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_answers_not_found_and_goes_on(sink, version):
    responses = ask(sink, version, {"file_containing_symbol": "syntrix.streamer.v1"},
                    {"file_containing_symbol": "syntrix.streamer.v1.Valu"},
                    {"file_containing_symbol": "no.such.Thing"}, {"file_by_filename": "nope.proto"},
                    {"all_extension_numbers_of_type": "syntrix.streamer.v1.Value"})
    assert [r.error_response.error_code for r in responses] == [Code.NOT_FOUND.value[0]] * 5
    [empty] = ask(sink, version, {})
    assert empty.error_response.error_code == Code.INVALID_ARGUMENT.value[0]


# grpcurl, which knows nothing but the server's address.

GRPCURL_VERSION = "v1.8.9"  # the last that Debian 12's Go builds


@pytest.fixture(scope="module")
def grpcurl():
    """The path of grpcurl, built once and kept in .cache."""
    folder = os.path.join(ROOT, ".cache", f"grpcurl-{GRPCURL_VERSION}")
    path = os.path.join(folder, "grpcurl")
    if not os.path.exists(path):
        if not shutil.which("go"):
            pytest.skip("go is not installed: grpcurl cannot be built")
        build = subprocess.run(
            ["go", "install", f"github.com/fullstorydev/grpcurl/cmd/grpcurl@{GRPCURL_VERSION}"],
            env={**os.environ, "GOBIN": folder}, capture_output=True, text=True, timeout=600)
        if build.returncode != 0:
            pytest.skip(f"grpcurl cannot be built: {build.stderr[-300:]}")
    return path


def run_grpcurl(grpcurl, *arguments, **options):
    return subprocess.run([grpcurl, "-plaintext", *arguments], capture_output=True, text=True,
                          timeout=20, **options)


def test_grpcurl_lists_and_describes_without_proto_files(sink, grpcurl):
    listed = run_grpcurl(grpcurl, sink.address, "list")
    assert listed.stdout.split() == ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                                     "grpc.reflection.v1alpha.ServerReflection",
                                     "syntrix.streamer.v1.StreamerService"]
    described = run_grpcurl(grpcurl, sink.address, "describe", "syntrix.streamer.v1.SubscribeRequest")
    assert "repeated .syntrix.streamer.v1.Filter filters = 3;" in described.stdout
    assert run_grpcurl(grpcurl, sink.address, "describe").returncode == 0


def test_grpcurl_checks_health(sink, grpcurl):
    check = run_grpcurl(grpcurl, sink.address, "grpc.health.v1.Health/Check")
    assert '"SERVING"' in check.stdout
    unknown = run_grpcurl(grpcurl, "-d", '{"service": "x"}', sink.address, "grpc.health.v1.Health/Check")
    assert unknown.returncode != 0 and "NotFound" in unknown.stderr
    watch = run_grpcurl(grpcurl, "-max-time", "1", sink.address, "grpc.health.v1.Health/Watch")
    assert '"SERVING"' in watch.stdout


def test_grpcurl_subscribes_and_receives(sink, grpcurl):
    process = subprocess.Popen([grpcurl, "-plaintext", "-d", "@", sink.address, STREAM[1:]],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.stdin.write('{"subscribe": {"subscription_id": "a", "collection": "orders"}}')
    process.stdin.flush()
    wait_for(lambda: sink.tell("report")["subscribed"] == 1, 10, "the subscription")
    sink.tell("emit orders 1")
    time.sleep(0.3)
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert out.index("subscribeResponse") < out.index('"delivery"')
    assert '"eventId"' in out and '"documentData"' in out


# millrace-tail.

def test_tail_prints_deliveries_and_explains_refusals(sink):
    from sink import build_dir
    tail = [os.path.join(build_dir(), "tools", "millrace-tail"), "--server", sink.address]
    process = subprocess.Popen(tail + ["--collection", "orders", "--json", "--count", "2", "--filter",
                                       "n >= 1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: sink.tell("report")["subscribed"] == 1, 5, "the subscription")
    sink.tell("emit orders 2")
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0 and "--after" in err
    assert [line.count('"operation":"insert"') for line in out.splitlines()] == [1, 1]
    refused = subprocess.run(tail + ["--collection", "refused"], capture_output=True, text=True, timeout=10)
    assert refused.returncode == 100 and "is refused" in refused.stderr
    wrong = subprocess.run(tail + ["--collection", "c", "--filter", "a eq 1"], capture_output=True,
                           text=True, timeout=10)
    assert wrong.returncode == 2 and "expected ==" in wrong.stderr
