"""Attacks on quotas: 64 clients race for the last 100 places; other names, other connections, other ways in."""

import threading

import pytest

from rest import RestInstance
from subscriber import stubs
from test_durable import Stream

PLACES, TAKEN, CLIENTS = 300, 200, 64
LIMITS = {
    "gateway": ("publisher.subscriptions_per_gateway_max", "GATEWAY_QUOTA_EXCEEDED"),
    "database": ("publisher.subscriptions_per_database_max", "TENANT_QUOTA_EXCEEDED"),
    "global": ("publisher.subscriptions_max", "GLOBAL_QUOTA_EXCEEDED"),
}


@pytest.fixture(scope="module", params=LIMITS)
def bed(request):
    settings = {LIMITS[request.param][0]: PLACES, "generator.rate": 10}
    if request.param == "global":  # the others may not be over it
        settings.update({key: PLACES for key, _ in LIMITS.values()})
    with RestInstance(settings) as one:
        one.start()
        one.scope, (one.key, one.code) = request.param, LIMITS[request.param]
        yield one


def owner(bed, n):
    """Gateway and database of client n: as different as the quota allows."""
    return {"gateway": "g" if bed.scope == "gateway" else f"g{n}", "tenant": f"db{n}" if bed.scope == "global" else "db"}


def fill(bed):
    with bed.connect() as rest:
        for n in range(TAKEN):
            own = owner(bed, n % CLIENTS)
            assert rest.register(f"base{n}", gateway=own["gateway"], tenant=own["tenant"]).status == 201


def empty(bed):
    with bed.connect() as rest:
        for gateway in ["g"] + [f"g{n}" for n in range(CLIENTS)]:
            rest.ask("DELETE", f"/internal/v1/gateways/{gateway}/subscriptions")


def over_rest(bed, n, count, results):
    own = owner(bed, n)
    with bed.connect() as rest:
        for i in range(count):
            answer = rest.register(f"r{n}-{i}", gateway=own["gateway"], tenant=own["tenant"])
            results.append((answer.status == 201, answer.code))


def over_grpc(bed, n, count, results):
    own = owner(bed, n)
    with Stream(bed.grpc_port) as stream:
        for i in range(count):
            stream.register(own["gateway"], [f"r{n}-{i}"], database=own["tenant"])
            answer = stream.next("register_response")
            results.append((answer.registered == 1, answer.failures[0].code if answer.failures else None))


def test_64_clients_race_for_the_last_100_places_and_100_succeed(bed):
    fill(bed)
    results, gate = [], threading.Barrier(CLIENTS)

    def client(n):
        gate.wait()
        (over_grpc if n % 2 else over_rest)(bed, n, 5, results)
    threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 5 * CLIENTS
    assert sum(done for done, _ in results) == PLACES - TAKEN
    assert {code for done, code in results if not done} == {bed.code}
    assert bed.durable() == PLACES
    bypass(bed)
    empty(bed)


def stream_refused(bed, database):
    """A subscription of a stream's own, on a connection of its own."""
    with Stream(bed.grpc_port) as stream:
        if bed.scope == "gateway":
            stream.heartbeat("g")  # the stream is that gateway
            stream.next("heartbeat_ack")
        stream.send(subscribe=stubs().SubscribeRequest(subscription_id="mine", database=database, collection="c0"))
        return bed.key in stream.next("subscribe_response").error


def bypass(bed):
    own = owner(bed, 1)
    with bed.connect() as rest:
        def refused(**more):
            answer = rest.register("more", **{**own, **more})
            assert (answer.status, answer.code) == (429, bed.code), answer.text
            assert bed.key in answer.json["message"] and int(answer.headers["Retry-After"]) > 0
        refused()                                                   # once more
        refused(collection="c1", filters=[{"field": "a", "op": "==", "value": 1}])
        refused(ttl=60)                                             # a short life
        if bed.scope != "gateway":
            refused(gateway="another")                              # another gateway's name
        if bed.scope in ("gateway", "global"):
            refused(tenant="another")                               # another database
        assert stream_refused(bed, own["tenant"])                   # a stream's own subscription
        assert stream_refused(bed, own["tenant"])                   # and again upon a new connection
        assert rest.ask("PUT", "/internal/v1/subscriptions/more",   # a replacement of what is not there
                        {"gatewayId": own["gateway"], "tenant": own["tenant"], "collection": "c0"}).code == bed.code
        if bed.scope == "database":                                 # registered elsewhere, then moved here
            assert rest.register("mover", gateway="another", tenant="empty").status == 201
            moved = rest.ask("PUT", "/internal/v1/subscriptions/mover",
                             {"gatewayId": "another", "tenant": "db", "collection": "c0"})
            assert (moved.status, moved.code) == (429, bed.code)
            assert rest.ask("DELETE", "/internal/v1/subscriptions/mover").status == 204
        assert rest.ask("DELETE", "/internal/v1/subscriptions/base0").status == 204
        own = owner(bed, 0)
        assert rest.register("more", **own).status == 201           # a place that is free can be had
        assert rest.register("more2", **own).code == bed.code       # once


def test_registering_and_removing_at_once_never_exceeds_the_quota(bed):
    fill(bed)
    stop, worst = threading.Event(), []

    def churn(n):
        own = owner(bed, n)
        with bed.connect() as rest:
            for i in range(12):
                if rest.register(f"x{n}", gateway=own["gateway"], tenant=own["tenant"]).status == 201 and i % 2:
                    rest.ask("DELETE", f"/internal/v1/subscriptions/x{n}")

    def watch():
        while not stop.is_set():
            worst.append(bed.durable())
    watcher = threading.Thread(target=watch)
    watcher.start()
    threads = [threading.Thread(target=churn, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    watcher.join()
    assert max(worst) <= PLACES
    empty(bed)
