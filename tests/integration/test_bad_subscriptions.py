"""One subscription that always errors, one that exhausts its budget, and 1,000 that match everything: what the
others get is unchanged, and the owner of the offenders is told, as are the log, the metrics and REST."""

import json
import queue
import random
import threading

import grpc

from instance import Instance, wait_for
from rest import RestInstance
from subscriber import make_filter, open_stream, stubs

EVENTS = 3000  # code is quarantined after 1,000 failures in a row, in each shard
HUNDRED = str(list(range(100)))
BUDGET = f"{HUNDRED}.all(a, {HUNDRED}.all(b, {HUNDRED}.all(c, a + b + c + doc.n >= 0)))"
ERRORS = "doc.n / (doc.n - doc.n) == 1"
STATUSES = ("open", "paid", "sent")


class Gateway:
    """Subscribes, then keeps in a thread what comes: the pairs of event and subscription, and the notices."""

    def __init__(self, channel, name=""):
        self.pb, self.outgoing = stubs(), queue.Queue()
        self.call = open_stream(channel, iter(self.outgoing.get, None), timeout=120)
        self.pairs, self.notices, self.confirmed = [], [], 0
        if name:
            self.outgoing.put(self.pb.GatewayMessage(heartbeat=self.pb.Heartbeat(gateway_id=name)))
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def subscribe(self, ident, filters=(), cel=""):
        self.outgoing.put(self.pb.GatewayMessage(subscribe=self.pb.SubscribeRequest(
            subscription_id=ident, database="default", collection="c", cel=cel,
            filters=[make_filter(*f) for f in filters])))

    def read(self):
        for message in self.call:
            kind = message.WhichOneof("payload")
            if kind == "delivery":
                self.pairs += [(message.delivery.event.document_id, s) for s in message.delivery.subscription_ids]
            elif kind == "notice":
                self.notices.append((message.notice.subscription_id, message.notice.code, message.notice.text))
            elif kind == "subscribe_response":
                assert message.subscribe_response.success, message.subscribe_response.error
                self.confirmed += 1

    def end(self):
        self.outgoing.put(None)
        self.thread.join(30)
        assert not self.thread.is_alive()


def documents():
    rng = random.Random(3)
    return [{"n": n, "status": rng.choice(STATUSES), "price": rng.randrange(100)} for n in range(EVENTS)]


def good_ones(gateway):
    for i, status in enumerate(STATUSES):
        gateway.subscribe(f"status{i}", [("status", "==", status)])
    for price in range(0, 100, 5):
        gateway.subscribe(f"price{price}", [("price", ">=", price), ("price", "<", price + 3)])
    gateway.subscribe("code", cel="doc.price % 7 == 3 && doc.status != 'open'")
    return len(STATUSES) + 21


def expected(docs):
    out = []
    for doc in docs:
        n, status, price = str(doc["n"]), doc["status"], doc["price"]
        out.append((n, f"status{STATUSES.index(status)}"))
        out += [(n, f"price{p}") for p in range(0, 100, 5) if p <= price < p + 3]
        if price % 7 == 3 and status != "open":
            out.append((n, "code"))
    return out


def test_offenders_are_told_and_nobody_else_notices(tmp_path):
    path = tmp_path / "events.ndjson"
    path.write_text("")
    docs = documents()
    with Instance({"source.kind": "ndjson", "ndjson.path": str(path), "ndjson.follow": True,
                   "matcher.shards": 2, "publisher.gateway_queue_size": "256MiB"}) as instance:
        instance.start()
        with grpc.insecure_channel(f"127.0.0.1:{instance.grpc_port}") as channel:
            good, bad = Gateway(channel), Gateway(channel)
            count = good_ones(good)
            bad.subscribe("errors", cel=ERRORS)
            bad.subscribe("budget", cel=BUDGET)
            bad.subscribe("errors-too", cel=ERRORS)
            bad.subscribe("partly", cel=f'doc.status == "open" || {ERRORS}')
            for i in range(1000):
                bad.subscribe(f"all{i}")
            wait_for(lambda: good.confirmed == count and bad.confirmed == 1004, 30, "confirmation")
            with path.open("a") as lines:
                for doc in docs:
                    lines.write(json.dumps({"collection": "c", "id": str(doc["n"]), "op": "insert", "doc": doc}) + "\n")
            wait_for(lambda: len(bad.pairs) >= EVENTS * 1000 + sum(d["status"] == "open" for d in docs), 100, "all events")
            wait_for(lambda: len(good.pairs) >= len(expected(docs)), 20, "all events")
            assert good.pairs == expected(docs)
            assert good.notices == []
            codes = {name: code for name, code, _ in bad.notices}
            assert codes == {"errors": "FILTER_ERRORS", "errors-too": "FILTER_ERRORS", "partly": "FILTER_ERRORS",
                             "budget": "FILTER_BUDGET"}
            assert len(bad.notices) == 4  # each once, though two shards find it out
            assert all("not evaluated any more" in text for _, _, text in bad.notices)
            assert instance.counter("publisher", "millrace_publisher_quarantined_subscriptions") == 4
            assert instance.counter("matcher", "millrace_match_quarantined_expressions") >= 2
            log = instance.log_tail(10000)
            for name, code in codes.items():
                assert [line for line in log.splitlines()
                        if "subscription_quarantined" in line and f"subscription={name} " in line and code in line]
            good.end()
            bad.end()
            wait_for(lambda: instance.counter("publisher", "millrace_publisher_quarantined_subscriptions") == 0, 20,
                     "the end of the offenders")


def test_the_owner_of_a_durable_one_is_told_over_rest_and_when_its_gateway_comes_back(tmp_path):
    path = tmp_path / "events.ndjson"
    path.write_text("")
    with RestInstance({"source.kind": "ndjson", "source.database": "default", "ndjson.path": str(path), "ndjson.follow": True,
                       "matcher.shards": 1}) as instance:
        instance.start()
        with grpc.insecure_channel(f"127.0.0.1:{instance.grpc_port}") as channel:
            pb = stubs()
            maker, registered = Gateway(channel), pb.RegisterRequest(gateway_id="g1", request_id=1)
            registered.subscriptions.add(subscription_id="errors", database="default", collection="c", cel=ERRORS)
            maker.outgoing.put(pb.GatewayMessage(register=registered))
            rest = instance.connect()
            wait_for(lambda: rest.ask("GET", "/internal/v1/subscriptions/errors").status == 200, 20, "the registration")
            assert "trouble" not in rest.ask("GET", "/internal/v1/subscriptions/errors").json
            with path.open("a") as lines:
                for n in range(EVENTS):
                    lines.write(json.dumps({"collection": "c", "id": str(n), "op": "insert", "doc": {"n": n}}) + "\n")
            wait_for(lambda: "trouble" in rest.ask("GET", "/internal/v1/subscriptions/errors").json, 30, "trouble")
            seen = rest.ask("GET", "/internal/v1/subscriptions/errors").json
            assert seen["trouble"] == "FILTER_ERRORS" and "not evaluated any more" in seen["troubleText"]
            assert maker.notices == []
            owner = Gateway(channel, "g1")
            wait_for(lambda: owner.notices, 20, "the notice")
            assert [n[:2] for n in owner.notices] == [("errors", "FILTER_ERRORS")]
            maker.end()
            owner.end()
