"""CEL expressions as subscriptions of a running instance: who gets what is what `millrace cel` says of each pair."""

import json
import os
import queue
import random
import subprocess

import grpc

from instance import Instance, bin_dir
from subscriber import make_filter, open_stream, stubs

EVENTS, EXPRESSIONS = 200, 50  # 10,000 pairs


def documents(rng):
    for number in range(EVENTS):
        document = {"n": number, "status": rng.choice(["open", "paid", "sent"]), "price": rng.choice([1, 2.5, 10, 99.5]),
                    "labels": rng.sample(["a", "b", "c", "d"], rng.randrange(4)), "title": rng.choice(["rotu", "kemi", ""]),
                    "buyer": {"id": rng.choice(["u1", "u2"]), "vip": rng.random() < 0.5}}
        for field in ("price", "labels", "buyer"):
            if rng.random() < 0.1:
                document[field] = rng.choice([None, "text", 7])
        if rng.random() < 0.1:
            del document["price"]
        yield document


def expressions(rng):
    atoms = ['doc.status == "open"', "doc.price > 2", "doc.price <= 10.0", '"a" in doc.labels', "doc.buyer.vip",
             'doc.buyer.id in ["u1", "u3"]', 'doc.title.startsWith("r")', "has(doc.price)", "!has(doc.buyer.name)",
             'size(doc.labels) > 1', 'doc.labels.exists(l, l > "b")', 'doc.title.matches("^k.*i$")', "doc.n % 3 == 1",
             'doc.labels.all(l, l != "c")', 'doc.title + doc.status == "rotuopen"', "type(doc.price) == int"]
    for _ in range(EXPRESSIONS):
        parts = rng.sample(atoms, rng.randrange(1, 4))
        parts = [f"!({p})" if rng.random() < 0.3 else p for p in parts]
        yield rng.choice([" && ", " || "]).join(parts)


def expected_pairs(docs, sources):
    cases = "".join(json.dumps({"id": f"{e}/{d}", "expr": source, "doc": doc}) + "\n"
                    for e, source in enumerate(sources) for d, doc in enumerate(docs))
    done = subprocess.run([os.path.join(bin_dir(), "millrace-cel"), "--ndjson"], input=cases, text=True,
                          capture_output=True, timeout=120, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(docs) * len(sources)
    return {tuple(map(int, a["id"].split("/"))) for a in answers if a.get("value") == {"bool": True}}


def test_each_of_10000_pairs_is_delivered_exactly_if_millrace_cel_says_true(tmp_path):
    rng = random.Random(5)
    docs, sources = list(documents(rng)), list(expressions(rng))
    path = tmp_path / "events.ndjson"
    path.write_text("")
    settings = {"source.kind": "ndjson", "ndjson.path": str(path), "ndjson.follow": True}
    pb, outgoing, got = stubs(), queue.Queue(), set()
    with Instance(settings) as instance:
        instance.start()
        with grpc.insecure_channel(f"127.0.0.1:{instance.grpc_port}") as channel:
            call = open_stream(channel, iter(outgoing.get, None))
            for number, source in enumerate(sources + ["true", "doc.n >"]):
                outgoing.put(pb.GatewayMessage(subscribe=pb.SubscribeRequest(
                    subscription_id=str(number), database="default", collection="c", cel=source,
                    filters=[make_filter("n", ">=", 0)])))
            responses = {}
            while len(responses) < EXPRESSIONS + 2:
                response = next(call).subscribe_response
                responses[int(response.subscription_id)] = response
            refused = responses.pop(EXPRESSIONS + 1)
            assert not refused.success and refused.error.startswith("cel: 1:8: ")
            assert all(r.success for r in responses.values())
            with path.open("a") as lines:
                for number, doc in enumerate(docs):
                    lines.write(json.dumps({"collection": "c", "id": f"d{number}", "op": "insert", "doc": doc}) + "\n")
            last = -1
            while last < EVENTS - 1:  # subscription "true" sees every event, in order
                delivery = next(call).delivery
                last = json.loads(delivery.event.document_data)["n"]
                got |= {(int(s), last) for s in delivery.subscription_ids if int(s) < EXPRESSIONS}
            outgoing.put(None)
            for _ in call:
                pass
    assert got == expected_pairs(docs, sources)
