"""A gateway that never gives up: holds subscriptions over gRPC, comes back with its last markers."""

import importlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time

import grpc

from instance import ROOT

_stubs = None
_making = threading.Lock()


def stubs(name="streamer"):
    """The module generated from proto/NAME.proto."""
    global _stubs
    with _making:
        if _stubs is None:
            folder = tempfile.mkdtemp(prefix="millrace-stubs-")
            subprocess.run(
                ["protoc", f"-I{ROOT}/proto", f"--python_out={folder}"]
                + [f"{ROOT}/proto/{f}" for f in sorted(os.listdir(f"{ROOT}/proto")) if f.endswith(".proto")],
                check=True)
            sys.path.insert(0, folder)
            _stubs = folder
    return importlib.import_module(f"{name}_pb2")


def make_filter(field, op, value):
    pb = stubs()
    out = pb.Filter(field=field, op=op)
    if isinstance(value, bool):
        out.value.bool_value = value
    elif isinstance(value, int):
        out.value.int_value = value
    elif isinstance(value, float):
        out.value.double_value = value
    elif isinstance(value, list):
        for item in value:
            out.value.list_value.values.append(make_filter(field, op, item).value)
    else:
        out.value.string_value = value
    return out


def open_stream(channel, requests, timeout=None):
    pb = stubs()
    return channel.stream_stream(
        "/syntrix.streamer.v1.StreamerService/Stream",
        request_serializer=pb.GatewayMessage.SerializeToString,
        response_deserializer=pb.StreamerMessage.FromString)(requests, timeout=timeout)


class Subscription:
    """What one subscription asked for and got. `got` holds (arrival time, event, duplicate)."""

    def __init__(self, ident, database, collection, filters=()):
        self.id, self.database, self.collection, self.filters = ident, database, collection, filters
        self.marker = ""
        self.confirmed = False
        self.resyncs = 0
        self.seen = set()
        self.got = []
        self.duplicates = 0


class Subscriber:
    """Runs in a thread of its own. on_event(time, ids, event) is called for each delivery."""

    def __init__(self, port, subscriptions, on_event=None, keep_events=True):
        self.target = f"127.0.0.1:{port}"
        self.subscriptions = {s.id: s for s in subscriptions}
        self.on_event = on_event
        self.keep_events = keep_events
        self.errors = []
        self.connects = 0
        self.confirmed = threading.Event()
        self._stop = threading.Event()
        self._call = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self, confirm_seconds=30):
        self._thread.start()
        if confirm_seconds and not self.confirmed.wait(confirm_seconds):
            raise TimeoutError(f"subscriptions were not confirmed; errors: {self.errors[-3:]}")
        return self

    def stop(self):
        self._stop.set()
        if self._call:
            self._call.cancel()
        self._thread.join(20)

    def _requests(self, outgoing):
        pb = stubs()
        for sub in self.subscriptions.values():
            yield pb.GatewayMessage(subscribe=pb.SubscribeRequest(
                subscription_id=sub.id, database=sub.database, collection=sub.collection,
                filters=[make_filter(*f) for f in sub.filters], after=sub.marker))
        while not self._stop.is_set():
            try:
                yield outgoing.get(timeout=0.2)
            except queue.Empty:
                pass

    def _run(self):
        options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.use_local_subchannel_pool", 1),
                   ("grpc.initial_reconnect_backoff_ms", 20), ("grpc.min_reconnect_backoff_ms", 20),
                   ("grpc.max_reconnect_backoff_ms", 100)]
        while not self._stop.is_set():
            with grpc.insecure_channel(self.target, options=options) as channel:
                try:
                    self.connects += 1
                    self._call = open_stream(channel, self._requests(queue.Queue()))
                    for message in self._call:
                        self._take(message)
                except grpc.RpcError as error:
                    if not self._stop.is_set():
                        self.errors.append(f"{error.code()}: {error.details()}")
            if not self._stop.is_set():
                time.sleep(0.01)

    def _take(self, message):
        kind = message.WhichOneof("payload")
        if kind == "subscribe_response":
            response = message.subscribe_response
            sub = self.subscriptions[response.subscription_id]
            if not response.success:
                self.errors.append(f"{sub.id}: {response.error}")
                return
            sub.resyncs += response.resync
            sub.confirmed = True
            if not sub.marker:
                sub.marker = response.progress
            if all(s.confirmed for s in self.subscriptions.values()):
                self.confirmed.set()
        elif kind == "delivery":
            self._deliver(message.delivery)

    def _deliver(self, delivery):
        now = time.monotonic()
        event = delivery.event
        for ident in delivery.subscription_ids:
            sub = self.subscriptions[ident]
            sub.marker = delivery.progress
            if event.event_id in sub.seen:
                sub.duplicates += 1
                continue
            sub.seen.add(event.event_id)
            sub.got.append((now, event) if self.keep_events else (now, event.event_id))
        if self.on_event:
            self.on_event(now, list(delivery.subscription_ids), event)
