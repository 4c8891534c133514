"""A consumer of the log over PullerService, and what tests need to know about it."""

import base64
import json
import struct
import time

import grpc

from subscriber import stubs

PATH = "/syntrix.puller.v1.PullerService/"
OPTIONS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.use_local_subchannel_pool", 1),
           ("grpc.initial_reconnect_backoff_ms", 20), ("grpc.min_reconnect_backoff_ms", 20),
           ("grpc.max_reconnect_backoff_ms", 100)]


def sequence_of(marker):
    """The sequence that one of our markers stands for: for checks, consumers need not know."""
    data = base64.urlsafe_b64decode(marker + "=" * (-len(marker) % 4))
    return struct.unpack("<Q", data[9:17])[0]


def marker_of(marker, sequence):
    """The marker of another place in the same log."""
    data = base64.urlsafe_b64decode(marker + "=" * (-len(marker) % 4))
    return base64.urlsafe_b64encode(data[:9] + struct.pack("<Q", sequence)).decode().rstrip("=")


def upstream_marker(positions):
    return base64.urlsafe_b64encode(json.dumps({"p": positions}).encode()).decode().rstrip("=")


class Relay:
    """A channel to a relay."""

    def __init__(self, port):
        self.pb = stubs("puller")
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS)

    def subscribe(self, timeout=30, metadata=None, **request):
        call = self.channel.unary_stream(
            PATH + "Subscribe", request_serializer=self.pb.SubscribeRequest.SerializeToString,
            response_deserializer=self.pb.PullerEvent.FromString)
        return call(self.pb.SubscribeRequest(**request), timeout=timeout, metadata=metadata, wait_for_ready=True)

    def acknowledge_once(self, consumer_id, progress="", **more):
        call = self.channel.unary_unary(
            PATH + "Acknowledge", request_serializer=self.pb.AcknowledgeRequest.SerializeToString,
            response_deserializer=self.pb.AcknowledgeResponse.FromString)
        request = self.pb.AcknowledgeRequest(consumer_id=consumer_id, progress=progress, **more)
        return call(request, timeout=20, wait_for_ready=True)

    def acknowledge(self, consumer_id, progress="", **more):
        for _ in range(100):  # a relay that was killed just now is away for a moment
            try:
                return self.acknowledge_once(consumer_id, progress, **more)
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                time.sleep(0.02)
        return self.acknowledge_once(consumer_id, progress, **more)

    def late(self, method, requests, timeout=30):
        """Open a call whose request comes when the iterator gives it."""
        call = self.channel.stream_stream(PATH + method, request_serializer=lambda r: r.SerializeToString(),
                                          response_deserializer=lambda data: data)
        return call(requests, timeout=timeout, wait_for_ready=True)

    def close(self):
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def flatten(stream):
    """Every PullerEvent, whether it came alone or in a batch."""
    for message in stream:
        yield from message.batch or [message]


def take(stream, count):
    """The next `count` events; the call ends then."""
    events = []
    for message in flatten(stream):
        if message.HasField("change_event"):
            events.append(message)
            if len(events) == count:
                break
    stream.cancel()
    return events


def refused(stream):
    """The error with which a stream ends."""
    try:
        for _ in stream:
            pass
    except grpc.RpcError as error:
        return error
    raise AssertionError("the stream ended without an error")
