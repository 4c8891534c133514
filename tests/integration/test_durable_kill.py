"""kill -9 of processes at random instants while subscriptions are registered, removed and expire: what was acknowledged
holds. MILLRACE_TEST_DURABLE_SECONDS: how long (default 12)."""

import os
import random
import threading
import time

import grpc

from instance import wait_for
from rest import RestInstance
from subscriber import stubs
from test_durable import Stream

SECONDS = float(os.environ.get("MILLRACE_TEST_DURABLE_SECONDS", "12"))
LIMITS = {"publisher.subscriptions_per_gateway_max": 1000000, "publisher.subscriptions_per_database_max": 1000000,
          "subscriptions.ttl_min": "1s", "supervisor.restarts_max": 0, "supervisor.backoff_max": "200ms"}


class Client(threading.Thread):
    """Registers batches over gRPC and removes some over REST; remembers what it was told."""

    def __init__(self, instance, number):
        super().__init__()
        self.instance, self.number, self.stop = instance, number, threading.Event()
        self.held, self.unsure, self.removed, self.short = set(), set(), set(), set()

    def batch(self, stream, count, ttl=0):
        ids = [f"c{self.number}-{ttl}-{count}-{i}" for i in range(20)]
        self.unsure.update(ids)
        stream.register(f"g{self.number}", ids, ttl=ttl, request=count)
        answer = stream.next("register_response")
        assert {f.code for f in answer.failures} <= {"SUBSCRIPTION_EXISTS", "UNAVAILABLE"}
        registered = set(ids) - {f.subscription_id for f in answer.failures}
        self.unsure -= registered
        (self.short if ttl else self.held).update(registered)

    def remove(self, ident):
        self.held.discard(ident)
        self.unsure.add(ident)
        with self.instance.connect() as rest:
            if rest.ask("DELETE", f"/internal/v1/subscriptions/{ident}").status == 204:
                self.unsure.discard(ident)
                self.removed.add(ident)

    def run(self):
        count = 0
        while not self.stop.is_set():
            try:
                with Stream(self.instance.grpc_port) as stream:
                    while not self.stop.is_set():
                        count += 1
                        self.batch(stream, count)
                        self.batch(stream, count, ttl=1)
                        self.remove(random.choice(sorted(self.held)))
            except (grpc.RpcError, grpc.FutureTimeoutError, EOFError, OSError):
                time.sleep(0.05)
            except Exception as error:  # of http.client, when the server dies within an answer
                if type(error).__module__ != "http.client":
                    raise
                time.sleep(0.05)


def all_ids(instance):
    found, cursor = set(), "0"
    with instance.connect() as rest:
        while cursor is not None:
            page = rest.ask("GET", f"/internal/v1/subscriptions?limit=1000&cursor={cursor}").json
            found |= {s["subscriptionId"] for s in page["subscriptions"]}
            cursor = page.get("nextCursor")
    return found


def test_nothing_acknowledged_is_lost_and_nothing_that_ended_comes_back():
    chance = random.Random(int(os.environ.get("MILLRACE_TEST_SEED", "7")))
    with RestInstance(LIMITS) as one:
        one.start()
        stubs()  # once, before there are threads
        clients = [Client(one, number) for number in range(4)]
        for client in clients:
            client.start()
        end, kills = time.monotonic() + SECONDS, 0
        while time.monotonic() < end:
            time.sleep(chance.uniform(0.1, 1.2))
            victim = chance.choice(["publisher", "publisher", "matcher-0", "matcher-1", "puller", "all"])
            kills += 1
            if victim == "all":
                one.kill_all()
                one.remove_segments()
                one.start(60)
            elif pid := one.pids().get(victim):
                os.kill(pid, 9)
        for client in clients:
            client.stop.set()
        for client in clients:
            client.join(60)
        one.wait_ready(60)
        time.sleep(2)  # the short ones are over
        there = wait_for(lambda: all_ids(one), 20, "the list")
        held = set().union(*(c.held for c in clients))
        unsure = set().union(*(c.unsure for c in clients))
        ended = set().union(*(c.removed | c.short for c in clients))
        print(f"kills={kills} acknowledged={len(held)} ended={len(ended)} unsure={len(unsure)}")
        assert len(held) > 100 and kills > 5
        assert not held - there, "acknowledged and lost"
        assert not there & ended, "ended and back again"
        assert not there - held - unsure
        one.kill_all()
        one.remove_segments()
        one.start(60)
        assert all_ids(one) == there
