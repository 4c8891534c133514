"""The REST control plane: what each path answers, and with which code."""

import json
import os
import re
import signal
import threading
import time

import pytest

from instance import ROOT, wait_for
from rest import RestInstance
from test_durable import Stream


@pytest.fixture(scope="module")
def instance():
    with RestInstance({"publisher.subscriptions_per_gateway_max": 50}) as one:
        one.start()
        yield one


@pytest.fixture
def rest(instance):
    with instance.connect() as one:
        yield one
        for gateway in ("g1", "g2"):
            one.ask("DELETE", f"/internal/v1/gateways/{gateway}/subscriptions")


def test_a_subscription_is_registered_seen_renewed_and_removed(rest):
    filters = [{"field": "user_id", "op": "==", "value": 7}, {"field": "tags", "op": "in", "value": ["a", 1, 1.5, True]}]
    made = rest.register("s1", filters=filters, ttl=120)
    assert made.status == 201 and made.headers["Location"] == "/internal/v1/subscriptions/s1"
    assert set(made.json) == {"subscriptionId", "createdAt", "expiresAt", "bloomFilterVersion", "progress"}
    seen = rest.get("s1").json
    assert seen["filters"] == filters and seen["ttl"] == 120 and seen["tenant"] == "db" and seen["durable"]
    assert seen["state"] == "active" and not seen["connected"] and seen["createdAt"] == made.json["createdAt"]
    time.sleep(0.05)
    renewed = rest.ask("PUT", "/internal/v1/subscriptions/s1/heartbeat")
    assert renewed.status == 200 and renewed.json["expiresAt"] > made.json["expiresAt"]
    assert rest.ask("DELETE", "/internal/v1/subscriptions/s1").status == 204
    assert rest.ask("DELETE", "/internal/v1/subscriptions/s1").status == 204  # idempotent
    gone = rest.ask("PUT", "/internal/v1/subscriptions/s1/heartbeat")
    assert (gone.status, gone.code) == (404, "SUBSCRIPTION_NOT_FOUND")
    assert rest.get("s1").status == 404


def test_an_expression_stands_beside_filters_and_is_shown_and_explained(rest):
    filters, cel = [{"field": "a", "op": "==", "value": 1}], 'doc.b > 2 && doc.name.startsWith("x")'
    assert rest.register("s1", filters=filters, cel=cel).status == 201
    seen = rest.get("s1").json
    assert seen["cel"] == cel and seen["filters"] == filters
    assert "cel" not in (rest.register("s2", filters=filters), rest.get("s2").json)[1]

    def explained(document):
        body = {"tenant": "db", "collection": "c0", "subscriptionId": "s1", "document": document}
        one = rest.ask("POST", "/internal/v1/explain", body).json["subscriptions"][0]
        return one["matches"], one["filters"][0]["holds"], one["celHolds"]
    assert explained({"a": 1, "b": 3, "name": "xy"}) == (True, True, True)
    assert explained({"a": 2, "b": 3, "name": "xy"}) == (False, False, True)
    assert explained({"a": 1, "b": 3, "name": "yx"}) == (False, True, False)
    body = {"gatewayId": "g1", "tenant": "db", "collection": "c0", "cel": "doc.b == 5"}
    assert rest.ask("PUT", "/internal/v1/subscriptions/s1", body).status == 200
    assert rest.get("s1").json["cel"] == "doc.b == 5" and rest.get("s1").json["filters"] == []


@pytest.mark.parametrize("cel, message", [
    ("doc.a ==", "cel: 1:9: "), ("1 + 1", "cel: 1:1: "), ("doc.a == nobody", "cel: 1:10: "), ("(" * 500, "cel: "),
])
def test_an_expression_that_does_not_compile_is_told_with_its_place(rest, cel, message):
    answer = rest.register("s1", cel=cel)
    assert (answer.status, answer.code) == (400, "CEL_COMPILATION_FAILED") and answer.json["message"].startswith(message)
    assert rest.register("s1", cel=7).json["message"] == "cel: expected a string"


def test_an_id_is_taken_once(rest):
    assert rest.register("s1").status == 201
    again = rest.register("s1", gateway="g2")
    assert (again.status, again.code) == (409, "SUBSCRIPTION_EXISTS")


@pytest.mark.parametrize("change, message", [
    ({"gatewayId": 5}, "gatewayId: expected a string"),
    ({"gatewayId": "a b"}, "gatewayId: expected 1 to 128 of"),
    ({"subscriptionId": "ä"}, "subscriptionId: expected 1 to 128 of"),
    ({"subscriptionId": ""}, "subscriptionId: expected 1 to 128 of"),
    ({"tenant": ""}, "tenant: expected the name"),
    ({"collection": None}, "collection: expected a string"),
    ({"collection": "x" * 2000}, "collection"),
    ({"ttl": 59}, "ttl: expected 60 to 3600 seconds, got 59"),
    ({"ttl": 3601}, "ttl: expected 60 to 3600"),
    ({"ttl": "60"}, "ttl: expected a whole number"),
    ({"ttl": 60.5}, "ttl: expected a whole number"),
    ({"filters": {}}, "filters: expected a list"),
    ({"filters": [1]}, "filters[0].: expected an object"),
    ({"filters": [{"field": "", "op": "==", "value": 1}]}, "filters[0].field: expected a dotted path"),
    ({"filters": [{"field": "a", "op": "eq", "value": 1}]}, "filters[0].op: expected =="),
    ({"filters": [{"field": "a", "op": "=="}]}, "filters[0].value: expected a string"),
    ({"filters": [{"field": "a", "op": "==", "value": None}]}, "filters[0].value: expected a string"),
    ({"filters": [{"field": "a", "op": "==", "value": [[1]]}]}, "filters[0].value: expected strings"),
    ({"filters": [{"field": "a", "op": "in", "value": 1}]}, "filter"),
    ({"filters": [{"field": "a..b", "op": "==", "value": 1}]}, "filter"),
    ({"filters": [{"field": "a", "op": "==", "value": 1, "x": 1}]}, "filters[0].x: no such member"),
    ({"filters": [{"field": "a", "op": "==", "value": 1}] * 33}, "33 filters, at most 32"),
    ({"unknown": 1}, "unknown: no such member"),
])
def test_a_wrong_field_is_named(rest, change, message):
    answer = rest.register("s1", **change)
    assert answer.status == 400, answer.text
    assert message in answer.json["message"]
    assert rest.get("s1").status == 404


@pytest.mark.parametrize("raw, message", [
    (b"", "body: expected JSON"), (b"{", "line 1"), (b"[]", "body: expected an object"), (b"{}", "gatewayId"),
    (b'{"ttl":60,"ttl":61}', "duplicate"), (b"\xff", "body: expected JSON"), (b'{"gatewayId":"\\u0000"}', "body: expected JSON"),
    (b'{"ttl":99999999999999999999}', "body: expected JSON"), (b"[" * 100000, "body: expected JSON"),
], ids=["none", "open", "list", "empty", "twice", "bytes", "zero", "big", "deep"])
def test_a_body_that_is_no_json_is_refused_with_its_place(rest, raw, message):
    answer = rest.ask("POST", "/internal/v1/subscriptions", raw=raw)
    assert answer.status == 400 and message in answer.json["message"]


def test_every_status_of_the_protocol_is_reached(instance, rest):
    path = "/internal/v1/subscriptions"
    assert rest.ask("GET", "/nothing").code == "NOT_FOUND"
    assert rest.ask("GET", path + "/a%2Fb").status == 404
    wrong = rest.ask("PATCH", path)
    assert (wrong.status, wrong.headers["Allow"]) == (405, "GET, HEAD, POST")
    assert rest.ask("POST", path + "/s1/heartbeat").headers["Allow"] == "PUT"
    assert rest.ask("POST", path, raw=b"{}", headers={"Content-Type": "text/plain"}).status == 415
    assert rest.ask("POST", path, raw=b"x" * (300 * 1024)).code == "BODY_TOO_LARGE"
    with instance.connect() as other:  # without a length
        other.connection.putrequest("POST", path)
        other.connection.putheader("Content-Type", "application/json")
        other.connection.endheaders()
        assert other.connection.getresponse().status == 411
    for i in range(50):
        assert rest.register(f"q{i}").status == 201
    full = rest.register("q50")
    assert (full.status, full.code, full.headers["Retry-After"]) == (429, "GATEWAY_QUOTA_EXCEEDED", "60")
    assert "publisher.subscriptions_per_gateway_max" in full.json["message"]
    assert rest.ask("HEAD", path).status == 200


def test_while_nobody_can_serve_the_answer_is_503_and_then_all_is_well():
    patient = {"supervisor.hang_timeout": "60s", "supervisor.stopped_timeout": "60s"}
    with RestInstance(patient) as one:
        one.start()
        pids = one.pids()
        os.kill(pids["matcher-0"], signal.SIGSTOP)  # no shard, no index: the next publisher cannot serve
        os.kill(pids["publisher"], signal.SIGKILL)
        wait_for(lambda: one.pids().get("publisher") not in (None, pids["publisher"]), 10, "the next publisher")
        def answer():
            try:
                with one.connect() as rest:
                    return rest.register("s1")
            except OSError:
                return None
        away = wait_for(answer, 10, "the next REST server")
        assert (away.status, away.code) == (503, "UNAVAILABLE") and int(away.headers["Retry-After"]) > 0
        os.kill(pids["matcher-0"], signal.SIGCONT)
        assert wait_for(lambda: answer().status in (201, 409), 10, "service")


def test_a_list_comes_in_pages_and_by_gateway_tenant_and_collection(rest):
    for i in range(25):
        assert rest.register(f"s{i}", gateway="g1" if i % 2 else "g2", collection=f"c{i % 5}").status == 201
    seen, cursor = [], "0"
    while cursor is not None:
        page = rest.ask("GET", f"/internal/v1/subscriptions?limit=7&cursor={cursor}").json
        assert len(page["subscriptions"]) <= 7
        seen += [s["subscriptionId"] for s in page["subscriptions"]]
        cursor = page.get("nextCursor")
    assert sorted(seen) == sorted(f"s{i}" for i in range(25))
    def ids(query):
        page = rest.ask("GET", f"/internal/v1/subscriptions?{query}").json
        return {s["subscriptionId"] for s in page["subscriptions"]}
    assert ids("gatewayId=g1") == {f"s{i}" for i in range(25) if i % 2}
    assert ids("collection=c3&gatewayId=g2") == {"s8", "s18"}
    assert ids("tenant=other") == set()
    for wrong, message in (("limit=0", "limit: expected a number from 1"), ("=false", ": no such argument"),
                           ("gateway=g1", "gateway: no such argument"), ("limit", "limit: expected one value"), ("collection=", "collection: expected one value"),
                           ("limit=1&limit=2", "limit: expected one value")):
        answer = rest.ask("GET", f"/internal/v1/subscriptions?{wrong}")
        assert answer.status == 400 and answer.json["message"].startswith(message), answer.text
    removed = rest.ask("DELETE", "/internal/v1/gateways/g1/subscriptions")
    assert removed.json == {"removed": 12} and ids("gatewayId=g1") == set()


def test_explain_says_what_matches_and_why(rest):
    rest.register("yes", filters=[{"field": "n", "op": ">", "value": 5}])
    rest.register("no", filters=[{"field": "n", "op": ">", "value": 5}, {"field": "s", "op": "==", "value": "x"}])
    event = {"tenant": "db", "collection": "c0", "documentId": "d", "document": {"n": 7, "s": "y", "deep": [{"a": None}]}}
    answer = rest.ask("POST", "/internal/v1/explain", event).json
    assert [s["subscriptionId"] for s in answer["subscriptions"]] == ["yes"]
    one = rest.ask("POST", "/internal/v1/explain", {**event, "subscriptionId": "no"}).json["subscriptions"][0]
    assert not one["matches"] and [f["holds"] for f in one["filters"]] == [True, False]
    assert rest.ask("POST", "/internal/v1/explain", {**event, "subscriptionId": "nobody"}).status == 404


def test_explanations_come_in_pages_that_miss_nobody_and_repeat_nobody(rest):
    for i in range(9):
        rest.register(f"s{i}")
    for i in range(0, 9, 3):  # places that are used again
        rest.ask("DELETE", f"/internal/v1/subscriptions/s{i}")
        rest.register(f"s{i}")
    seen, cursor = [], "0"
    while cursor is not None:
        page = rest.ask("POST", "/internal/v1/explain", {
            "tenant": "db", "collection": "c0", "document": {}, "limit": 2, "cursor": cursor}).json
        assert len(page["subscriptions"]) <= 2
        seen += [s["subscriptionId"] for s in page["subscriptions"]]
        cursor = page.get("nextCursor")
    assert sorted(seen) == sorted(f"s{i}" for i in range(9))
    wrong = rest.ask("POST", "/internal/v1/explain", {"tenant": "db", "collection": "c0", "document": {}, "cursor": "-1"})
    assert wrong.status == 400 and wrong.json["message"].startswith("cursor: expected a number from 0")


def test_a_replacement_takes_over_at_one_event(instance, rest):
    """While subscriptions are replaced again and again, no event is missed and none comes twice."""
    rest.register("r1")
    with Stream(instance.grpc_port) as stream:
        stream.heartbeat("g1")
        stream.next("heartbeat_ack")
        stop = threading.Event()
        counts = []
        def replace():
            with instance.connect() as mine:
                while not stop.is_set():
                    body = {"gatewayId": "g1", "tenant": "db", "collection": "c0",
                            "filters": [{"field": "_id", "op": "!=", "value": f"none{len(counts)}"}] if len(counts) % 2 else []}
                    counts.append(mine.ask("PUT", "/internal/v1/subscriptions/r1", body).status)
        thread = threading.Thread(target=replace)
        thread.start()
        with Stream(instance.grpc_port) as witness:
            pb = __import__("subscriber").stubs()
            first = stream.next("delivery")
            witness.send(subscribe=pb.SubscribeRequest(subscription_id="w", database="db", collection="c0", after=first.progress))
            expected = [witness.next("delivery").event.event_id for _ in range(500)]
        got = [stream.next("delivery") for _ in range(500)]
        stop.set()
        thread.join()
    assert [d.event.event_id for d in got] == expected
    assert all(list(d.subscription_ids) == ["r1"] for d in got)
    assert len(counts) > 10 and set(counts) == {200}
    assert rest.ask("PUT", "/internal/v1/subscriptions/r1", {"gatewayId": "g2", "tenant": "db", "collection": "c0"}).status == 409
    assert rest.ask("PUT", "/internal/v1/subscriptions/new", {"gatewayId": "g1", "tenant": "db", "collection": "c0"}).status == 201


def test_matches_and_drops_are_counted(instance, rest):
    rest.register("m1")
    wait_for(lambda: rest.get("m1").json["drops"] > 0, 5, "matches without a gateway")
    seen = rest.get("m1").json
    assert seen["matches"] >= seen["drops"] and seen["lastMatchAt"].startswith("20")
    with Stream(instance.grpc_port) as stream:
        stream.heartbeat("g1")
        stream.next("delivery")
        assert rest.get("m1").json["connected"]


def test_the_openapi_document_names_exactly_the_paths_and_codes_there_are(rest):
    document = rest.ask("GET", "/openapi.json").json
    with open(f"{ROOT}/publisher/rest/openapi.json", encoding="utf-8") as file:
        assert document == json.load(file)
    with open(f"{ROOT}/publisher/rest/routes.c", encoding="utf-8") as file:
        text = file.read().replace('SUBSCRIPTIONS "', '"/internal/v1/subscriptions').replace("SUBSCRIPTIONS,", '"/internal/v1/subscriptions",')
    routes = set(re.findall(r'\{"(GET|PUT|POST|DELETE)", "(/[^"]+)",', text))
    stated = {(method.upper(), path.replace("{id}", "{}")) for path, item in document["paths"].items()
              for method in item if method != "parameters"}
    assert stated == routes | {("GET", "/openapi.json")}
    with open(f"{ROOT}/publisher/control_codes.def", encoding="utf-8") as file:
        codes = re.findall(r"^CODE\((\w+), (\d+)", file.read(), re.M)
    assert document["components"]["schemas"]["Error"]["properties"]["code"]["enum"] == [c for c, _ in codes]
    assert {f"E{status}" for _, status in codes} == set(document["components"]["responses"])
