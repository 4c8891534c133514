"""Durable subscriptions in a JetStream key-value bucket: they survive every process and the machine, outages of NATS
cost no subscription, and a cold start finds all. MILLRACE_TEST_STORE_SUBSCRIPTIONS: how many (default 2000; at full
size 100000)."""

import json
import os
import shutil
import time

import pytest

import nats
from instance import wait_for
from rest import RestInstance
from subscriber import stubs
from test_durable import Stream

pytestmark = pytest.mark.skipif(not nats.have_server(), reason="nats-server is not installed")
COUNT = int(os.environ.get("MILLRACE_TEST_STORE_SUBSCRIPTIONS", "2000"))
SETTINGS = {"subscriptions.store": "nats", "publisher.subscriptions_per_gateway_max": 1000000,
            "publisher.subscriptions_per_database_max": 1000000, "generator.rate": 50, "supervisor.restarts_max": 0,
            "supervisor.backoff_max": "200ms"}


@pytest.fixture(name="server")
def fixture_server():
    with nats.Server() as it:
        yield it


def instance(server, **settings):
    return RestInstance({**SETTINGS, "nats.url": server.url, **{k.replace("__", "."): v for k, v in settings.items()}})


def everything_dies(it, with_disk=False):
    it.kill_all()
    it.remove_segments()
    if with_disk:  # another machine
        shutil.rmtree(it.settings["instance.data_dir"])


def test_a_cold_start_on_another_machine_finds_all_and_they_match(server):
    with instance(server) as it:
        it.start()
        begun = time.monotonic()
        with Stream(it.grpc_port) as stream:
            for first in range(0, COUNT, 1000):
                stream.register("g1", [f"s{n}" for n in range(first, first + 1000)], ttl=3600, request=first)
            assert sum(stream.next("register_response").registered for _ in range(0, COUNT, 1000)) == COUNT
        registering = time.monotonic() - begun
        with it.connect() as rest:
            for n in range(10):
                assert rest.ask("DELETE", f"/internal/v1/subscriptions/s{n}").status == 204
        everything_dies(it, with_disk=True)
        server.kill()
        server.start()
        begun = time.monotonic()
        it.start()
        wait_for(lambda: it.durable() == COUNT - 10, 30, "all subscriptions")
        cold = time.monotonic() - begun
        with Stream(it.grpc_port) as stream:
            stream.heartbeat("g1")
            assert len(stream.next("delivery").subscription_ids) == COUNT - 10
        print(json.dumps({"subscriptions": COUNT, "registered_per_second": round(COUNT / registering),
                          "cold_start_seconds": round(cold, 2)}))
        assert cold < 10


def test_what_is_renewed_replaced_or_expired_is_so_after_a_restart(server):
    with instance(server, subscriptions__ttl_min="1s") as it:
        it.start()
        with it.connect() as rest:
            assert rest.register("kept", ttl=600).status == 201
            assert rest.register("short", ttl=2).status == 201
            body = {"gatewayId": "g1", "tenant": "db", "collection": "c1", "cel": "doc.quantity > 5"}
            assert rest.ask("PUT", "/internal/v1/subscriptions/kept", body).status == 200
        everything_dies(it)
        time.sleep(2)
        it.start()
        with it.connect() as rest:
            kept = wait_for(lambda: (lambda a: a.status == 200 and a.json)(rest.get("kept")), 10, "the one that is kept")
            assert kept["collection"] == "c1" and kept["cel"] == "doc.quantity > 5"
            assert rest.get("short").status == 404


def test_while_nats_is_away_changes_are_refused_and_what_is_there_goes_on(server):
    with instance(server, nats__ack_timeout="1s") as it, it.connect() as rest:
        it.start()
        assert rest.register("s1").status == 201
        server.kill()
        away = rest.register("s2")
        assert (away.status, away.code) == (503, "UNAVAILABLE") and "Retry-After" in away.headers
        with Stream(it.grpc_port) as stream:
            stream.heartbeat("g1")
            assert list(stream.next("delivery").subscription_ids) == ["s1"]
        server.start()
        wait_for(lambda: rest.register("s3").status == 201, 20, "the store")
        everything_dies(it)
        it.start()
        wait_for(lambda: it.durable() >= 2, 20, "what was acknowledged")
        with it.connect() as again:
            assert again.get("s1").status == 200 and again.get("s3").status == 200


def test_what_is_too_large_for_nats_is_refused_alone(tmp_path):
    settings = tmp_path / "nats.conf"
    settings.write_text("max_payload: 100000\n")
    with nats.Server("-c", str(settings)) as server, instance(server) as it:
        it.start()
        with Stream(it.grpc_port) as stream, it.connect() as rest:
            pb = stubs()
            large = [pb.Filter(field=f"f{n}", op="!=", value=pb.Value(string_value="x" * 60000)) for n in range(2)]
            before = it.counter("publisher", "millrace_publisher_store_errors_total")
            stream.send(register=pb.RegisterRequest(gateway_id="g1", request_id=1, subscriptions=[
                pb.SubscribeRequest(subscription_id=name, database="db", collection="c0", filters=filters)
                for name, filters in (("before", []), ("large", large), ("behind", []))]))
            answer = stream.next("register_response")
            assert [(f.subscription_id, f.code) for f in answer.failures] == [("large", "INVALID_REQUEST")]
            assert answer.registered == 2 and "too large for the subscription store" in answer.failures[0].error
            assert it.counter("publisher", "millrace_publisher_store_errors_total") == before + 1
            assert rest.get("large").status == 404 and rest.register("large").status == 201
        everything_dies(it)
        it.start()
        wait_for(lambda: it.durable() == 3, 20, "what was acknowledged")


def rows(server, it):
    with nats.Client(server.port) as client:
        info = client.stream(f"KV_millrace-{it.name}")
    return info["state"]["messages"] if info else None


def test_removed_ids_leave_nothing_behind_and_a_start_does_not_wait_for_that(server):
    with nats.Distance(server.port, 0.003) as distance, instance(server, nats__url=distance.url, subscriptions__marker_age="1s") as it:
        it.start()
        with Stream(it.grpc_port) as stream, it.connect() as rest:
            stream.register("g1", [f"s{n}" for n in range(500)], ttl=600)
            assert stream.next("register_response").registered == 500
            assert rest.register("kept", gateway="g2", ttl=600).status == 201
            assert rest.ask("DELETE", "/internal/v1/gateways/g1/subscriptions").status == 200
            assert rest.register("s7", gateway="g2", ttl=600).status == 201
        begun = time.monotonic()
        assert rows(server, it) > 490  # for a while a server that is killed needs them
        wait_for(lambda: rows(server, it) <= 4, 30, "a bucket without markers")
        cleared = time.monotonic() - begun
        everything_dies(it)
        with nats.Client(server.port) as client:
            for n in range(3000):
                client.publish(f"$KV.millrace-{it.name}.s.d{n}", headers={"KV-Operation": "DEL"})
            client.api("INFO")
        assert rows(server, it) > 3000
        begun = time.monotonic()
        it.start()
        started = time.monotonic() - begun
        assert it.durable() == 2
        wait_for(lambda: rows(server, it) <= 4, 60, "a bucket without markers")
        print(json.dumps({"markers_cleared_seconds": round(cleared, 2), "start_seconds": round(started, 2),
                          "markers_of_a_start_cleared_seconds": round(time.monotonic() - begun, 2)}))
        assert started < 6
        everything_dies(it)
        it.start()
        wait_for(lambda: it.durable() == 2, 20, "what was kept")


def test_a_publisher_waits_for_nats_and_a_bucket_that_forgets_is_refused(server):
    with instance(server) as it:
        server.kill()
        it.start(ready_seconds=0)
        wait_for(lambda: "connect to NATS" in it.log_tail(200), 20, "the reason")
        server.start()
        it.wait_ready(30)
    with nats.Client(server.port) as client:
        client.create("KV_mine", "$KV.mine.>", max_age=10**9, max_msgs_per_subject=1)
    with instance(server, subscriptions__bucket="mine") as it:
        it.start(ready_seconds=0)
        wait_for(lambda: "expected one with file storage and without a time to live" in it.log_tail(200), 20, "the reason")
