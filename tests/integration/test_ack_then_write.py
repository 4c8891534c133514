"""Whoever writes after the answer to a subscription gets what was written, always: over a stream, and durable.
MILLRACE_TEST_ACK_WRITES: tries (default 600; at full size 10000)."""

import json
import os
import queue
import threading

import grpc

from instance import Instance
from subscriber import make_filter, open_stream, stubs

TRIES = int(os.environ.get("MILLRACE_TEST_ACK_WRITES", "600"))
STREAMS, UNDER_WAY = 8, 16


class Line:
    """One stream that keeps some tries under way: subscribe, write upon the answer, unsubscribe upon the event."""

    def __init__(self, channel, numbers, write, gateway):
        self.numbers, self.write, self.gateway = iter(numbers), write, gateway
        self.outgoing, self.left, self.wrong = queue.Queue(), 0, []
        self.answered = set()
        self.call = open_stream(channel, iter(self.outgoing.get, None))
        if gateway:
            self.outgoing.put(stubs().GatewayMessage(heartbeat=stubs().Heartbeat(gateway_id=gateway)))
        for _ in range(UNDER_WAY):
            self.try_next()

    def try_next(self):
        pb, number = stubs(), next(self.numbers, None)
        if number is None:
            return
        self.left += 1
        subscribe = pb.SubscribeRequest(subscription_id=f"t{number}", database="default", collection="c",
                                        filters=[make_filter("n", "==", number)])
        if self.gateway:
            self.outgoing.put(pb.GatewayMessage(register=pb.RegisterRequest(
                gateway_id=self.gateway, request_id=number, subscriptions=[subscribe])))
        else:
            self.outgoing.put(pb.GatewayMessage(subscribe=subscribe))

    def run(self):
        """Until every try has got its event; a lost one is waited for in vain, until the call's time is up."""
        for message in self.call:
            kind = message.WhichOneof("payload")
            if kind == "subscribe_response":
                self.answer(int(message.subscribe_response.subscription_id[1:]), message.subscribe_response.success)
            elif kind == "register_response":
                self.answer(message.register_response.request_id, message.register_response.registered == 1)
            elif kind == "delivery" and self.take(message.delivery):
                break
        self.outgoing.put(None)

    def answer(self, number, success):
        if not success:
            self.wrong.append(f"t{number} was refused")
        self.answered.add(number)
        self.write(number)

    def take(self, delivery):
        number = json.loads(delivery.event.document_data)["n"]
        if list(delivery.subscription_ids) != [f"t{number}"] or number not in self.answered:
            self.wrong.append(f"event {number} for {list(delivery.subscription_ids)}")
        self.answered.discard(number)
        self.left -= 1
        if not self.gateway:
            pb = stubs()
            self.outgoing.put(pb.GatewayMessage(unsubscribe=pb.UnsubscribeRequest(subscription_id=f"t{number}")))
        self.try_next()
        return self.left == 0


def test_what_is_written_after_the_answer_is_delivered(tmp_path):
    path = tmp_path / "events.ndjson"
    path.write_text("")
    lock, file = threading.Lock(), path.open("a")

    def write(number):
        with lock:
            file.write(json.dumps({"collection": "c", "id": f"d{number}", "doc": {"n": number}}) + "\n")
            file.flush()
    settings = {"source.kind": "ndjson", "ndjson.path": str(path), "ndjson.follow": True, "matcher.shards": 2}
    with Instance(settings) as instance, file:
        instance.start()
        channels = [grpc.insecure_channel(f"127.0.0.1:{instance.grpc_port}") for _ in range(STREAMS)]
        lines = [Line(channels[n], range(n, TRIES, STREAMS), write, f"g{n}" if n % 2 else None) for n in range(STREAMS)]
        threads = [threading.Thread(target=line.run, daemon=True) for line in lines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60 + TRIES / 50)
        lost = [sorted(line.answered)[:5] for line in lines if line.left > 0]
        assert not lost, f"answered, written, and never delivered: {lost}"
        assert not any(line.wrong for line in lines), [line.wrong[:3] for line in lines]
        print(json.dumps({"tries": TRIES, "delivered": TRIES}))
        for line, channel in zip(lines, channels):
            line.call.cancel()
            channel.close()
