"""The gRPC sink under test: tests/tools/sink_server of a build, told what to deliver line by line."""

import json
import os
import queue
import re
import subprocess

import grpc

from instance import bin_dir
from subscriber import stubs

STREAM = "/syntrix.streamer.v1.StreamerService/Stream"


def build_dir():
    return os.path.dirname(bin_dir())  # sink_server is not installed


class Sink:
    """`settings` are section.key -> value, as in a configuration."""

    def __init__(self, **settings):
        arguments = [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]
        self.process = subprocess.Popen(
            [os.path.join(build_dir(), "tests", "sink_server")] + arguments, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        port = re.search(r"port=(\d+)", line)
        assert port, f"sink_server said {line!r}"
        self.address = f"127.0.0.1:{port[1]}"
        self.channels = []

    def tell(self, command):
        """One command; what the pump has seen so far."""
        self.send(command)
        return self.answer()

    def send(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def answer(self):
        return json.loads(self.process.stdout.readline())

    def channel(self, **options):
        """A connection of its own."""
        arguments = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        arguments += [(f"grpc.{key}", value) for key, value in options.items()]
        channel = grpc.insecure_channel(self.address, arguments)
        self.channels.append(channel)
        return channel

    def close(self):
        """Ends it; its exit code and the rest of its log."""
        if self.process.poll() is None:
            self.send("quit")
        self.process.stdin.close()
        code = self.process.wait(timeout=10)
        log = self.process.stderr.read()
        for channel in self.channels:
            channel.close()
        return code, log


class Gateway:
    """One stream. `raw` sends bytes as they are; `batch` asks for several deliveries in a message."""

    def __init__(self, channel, raw=False, batch=False):
        pb = stubs()
        self.requests = queue.Queue()
        serialize = (lambda b: b) if raw else pb.GatewayMessage.SerializeToString
        method = channel.stream_stream(STREAM, request_serializer=serialize,
                                       response_deserializer=pb.StreamerMessage.FromString)
        metadata = (("millrace-batch", "1"),) if batch else ()
        self.call = method(iter(self.requests.get, None), timeout=60, metadata=metadata)

    def send(self, message):
        self.requests.put(message)

    def half_close(self):
        self.requests.put(None)

    def subscribe(self, subscription_id, collection, filters=(), **fields):
        pb = stubs()
        self.send(pb.GatewayMessage(subscribe=pb.SubscribeRequest(
            subscription_id=subscription_id, collection=collection, filters=filters, **fields)))

    def subscribed(self, subscription_id, collection, **fields):
        self.subscribe(subscription_id, collection, **fields)
        response = self.next().subscribe_response
        assert response.success, response.error
        return response

    def heartbeat(self, timestamp):
        pb = stubs()
        self.send(pb.GatewayMessage(heartbeat=pb.Heartbeat(gateway_id="test", timestamp=timestamp)))

    def next(self):
        return next(self.call)

    def rest(self):
        """All that still comes, and the status it ends with."""
        messages = []
        try:
            for message in self.call:
                messages.append(message)
        except grpc.RpcError:
            pass
        return messages, self.call.code(), self.call.details()
