"""What enters, stays in and leaves the result sets of subscriptions, from a real PostgreSQL: whoever keeps a
set by what is told has what a SELECT says, live, over a matcher's death, and caught up from the log.

    MILLRACE_TEST_CHANGES=20000 /usr/bin/python3 -m pytest tests/integration/test_transitions.py
"""

import contextlib
import json
import os
import queue
import random
import signal
import time

import grpc
import pytest

from instance import Instance, wait_for
from pg import Cluster
from subscriber import make_filter, open_stream, stubs

CHANGES = int(os.environ.get("MILLRACE_TEST_CHANGES", "2000"))
SECONDS = 30 + CHANGES / 50  # for all of a test
ROWS, STATUSES = 60, ("open", "paid", "sent")
ENTER, STAY, LEAVE, UNKNOWN = 1, 2, 3, 4


class Stream:
    """One stream whose subscriptions each keep the ids that are in their result set, by what is told."""

    def __init__(self, channel, table):
        self.pb, self.table, self.outgoing = stubs(), table, queue.Queue()
        self.call = open_stream(channel, iter(self.outgoing.get, None), timeout=SECONDS)
        self.sets, self.told, self.marker, self.problems = {}, [], "", []

    def subscribe(self, name, cel="", filters=(), after="", transitions=True, have=()):
        self.sets[name] = set(have)
        self.outgoing.put(self.pb.GatewayMessage(subscribe=self.pb.SubscribeRequest(
            subscription_id=name, database="test", collection=self.table, cel=cel, after=after,
            filters=[make_filter(*f) for f in filters], transitions=transitions)))
        for message in self.call:
            if message.WhichOneof("payload") == "delivery":  # of another one, which catches up
                self.take(message.delivery)
                continue
            answer = message.subscribe_response
            assert answer.success, answer.error
            return answer.progress

    def read_until(self, document_id):
        """Take what is told, through the event of this document."""
        while True:
            message = next(self.call)
            if message.WhichOneof("payload") != "delivery":
                continue
            delivery = message.delivery
            self.take(delivery)
            if delivery.event.document_id == document_id:
                return

    def read_through(self, marker):
        """Take what is told until everything through this marker was, to subscriptions that catch up as well."""
        while True:
            self.outgoing.put(self.pb.GatewayMessage(heartbeat=self.pb.Heartbeat(timestamp=1)))
            for message in self.call:
                if message.WhichOneof("payload") == "heartbeat_ack":
                    if message.heartbeat_ack.progress == marker:
                        return
                    break
                self.take(message.delivery)
            time.sleep(0.05)

    def take(self, delivery):
        ident = delivery.event.document_id
        transitions = list(delivery.transitions) or [0] * len(delivery.subscription_ids)
        assert len(transitions) == len(delivery.subscription_ids)
        self.marker = delivery.progress
        for name, transition in zip(delivery.subscription_ids, transitions):
            self.told.append((name, ident, transition))
            there = ident in self.sets[name]
            if transition in (ENTER, STAY, LEAVE) and there != (transition != ENTER):
                self.problems.append((name, ident, transition, there))
            if transition in (ENTER, UNKNOWN):
                self.sets[name].add(ident)
            elif transition == LEAVE:
                self.sets[name].discard(ident)

    def end(self):
        self.outgoing.put(None)
        for _ in self.call:
            pass


@contextlib.contextmanager
def pipeline(identity):
    with Cluster() as cluster:
        cluster.execute("CREATE DATABASE test")
        with cluster.connect(dbname="test", autocommit=True) as sql:
            sql.execute("CREATE TABLE orders (id int PRIMARY KEY, status text, price int, note text)")
            sql.execute(f"ALTER TABLE orders REPLICA IDENTITY {identity}")
            settings = {"source.kind": "postgres", "postgres.url": cluster.dsn(dbname="test"), "matcher.shards": 2}
            with Instance(settings) as instance:
                instance.start()
                wait_for(lambda: sql.execute("SELECT 1 FROM pg_replication_slots WHERE active").fetchall(), 20, "the stream")
                with grpc.insecure_channel(f"127.0.0.1:{instance.grpc_port}") as channel:
                    yield sql, instance, channel


WATCHED = {  # name: (subscription, the same as SQL)
    "open": ({"filters": [("status", "==", "open")]}, "status = 'open'"),
    "dear": ({"cel": "doc.price > 50"}, "price > 50"),
    "both": ({"cel": 'doc.status == "paid" && doc.price < 40'}, "status = 'paid' AND price < 40"),
    "code": ({"cel": "doc.price % 3 == 1"}, "price % 3 = 1"),
    "row7": ({"filters": [("_id", "==", "7")]}, "id = 7"),
    "all": ({}, "true"),
}


def change(sql, rng):
    ident, status, price = rng.randrange(1, ROWS), rng.choice(STATUSES), rng.randrange(100)
    kind = rng.randrange(10)
    if kind < 4:
        sql.execute("INSERT INTO orders VALUES (%s, %s, %s, 'n') ON CONFLICT (id) DO UPDATE SET status = excluded.status,"
                    " price = excluded.price", (ident, status, price))
    elif kind < 7:
        sql.execute("UPDATE orders SET price = %s WHERE id BETWEEN %s AND %s", (price, ident, ident + rng.randrange(4)))
    elif kind < 8:
        sql.execute("DELETE FROM orders WHERE id = %s", (ident,))
    elif kind < 9:  # the row gets another id
        sql.execute("UPDATE orders SET id = %s WHERE id = %s AND NOT EXISTS (SELECT 1 FROM orders WHERE id = %s)",
                    (rng.randrange(1, ROWS), ident, ident + 1000))
    elif rng.random() < 0.02:
        sql.execute("TRUNCATE orders")
    else:
        sql.execute("UPDATE orders SET note = repeat('x', 3000) WHERE id = %s", (ident,))


def change_safely(sql, rng):
    with contextlib.suppress(Exception):  # an id that is taken
        change(sql, rng)


def selected(sql, condition):
    return {str(row[0]) for row in sql.execute(f"SELECT id FROM orders WHERE {condition}")}


def mark(sql, number):
    """A row whose event ends a round; for every subscription there is."""
    sql.execute("INSERT INTO orders VALUES (%s, 'open', 99, '')", (number,))


def check(stream, sql):
    assert stream.problems == []
    for name, (_, condition) in WATCHED.items():
        assert stream.sets[name] == selected(sql, condition), name


def truncate_all(stream):
    """A truncate names no document: everything has left."""
    original = stream.take

    def take(delivery):
        if delivery.event.operation == stream.pb.OPERATION_TYPE_TRUNCATE:
            assert set(delivery.transitions) == {LEAVE}
            for name in delivery.subscription_ids:
                stream.sets[name].clear()
            return
        original(delivery)
    stream.take = take


def test_with_replica_identity_full_every_set_is_what_a_select_says(tmp_path):
    rng = random.Random(11)
    with pipeline("FULL") as (sql, instance, channel):
        stream = Stream(channel, "orders")
        truncate_all(stream)
        start = [stream.subscribe(name, **asked) for name, (asked, _) in WATCHED.items()][0]
        for round_ in range(4):
            for _ in range(CHANGES // 4):
                change_safely(sql, rng)
            if round_ == 1:
                with contextlib.suppress(KeyError, ProcessLookupError):
                    os.kill(instance.pids()["matcher-0"], signal.SIGKILL)
            mark(sql, 100000 + round_)
            stream.read_until(str(100000 + round_))
            check(stream, sql)
        told = {transition for _, _, transition in stream.told}
        assert told == {ENTER, STAY, LEAVE}
        assert instance.counter("publisher", "millrace_publisher_transitions_total") >= len(stream.told)
        assert instance.counter("publisher", "millrace_publisher_transitions_unknown_total") == 0
        # Caught up from the log, it is told the same.
        again = Stream(channel, "orders")
        truncate_all(again)
        for name, (asked, _) in WATCHED.items():
            again.subscribe(name + "2", after=start, **asked)
        again.read_through(stream.marker)
        assert again.problems == []
        for name, (_, condition) in WATCHED.items():
            assert again.sets[name + "2"] == selected(sql, condition), name
        of_one = [(i, t) for n, i, t in stream.told if n == "dear"]
        assert [(i, t) for n, i, t in again.told if n == "dear2"] == of_one
        stream.end()
        again.end()


def test_what_leaves_is_delivered_with_the_document_as_it_is_now_and_others_see_nothing_of_it():
    with pipeline("FULL") as (sql, _, channel):
        stream = Stream(channel, "orders")
        stream.subscribe("told", filters=[("status", "==", "open")])
        stream.subscribe("plain", filters=[("status", "==", "open")], transitions=False)
        sql.execute("INSERT INTO orders VALUES (1, 'open', 5, '')")
        sql.execute("UPDATE orders SET status = 'paid' WHERE id = 1")
        messages = [next(stream.call).delivery for _ in range(2)]
        sql.execute("DELETE FROM orders WHERE id = 1")
        mark(sql, 2)
        messages.append(next(stream.call).delivery)
        assert list(messages[0].subscription_ids) == ["told", "plain"]
        assert list(messages[0].transitions) == [ENTER, 0]
        assert list(messages[1].subscription_ids) == ["told"]
        assert list(messages[1].transitions) == [LEAVE]
        assert messages[1].event.operation == stream.pb.OPERATION_TYPE_UPDATE
        assert json.loads(messages[1].event.document_data)["status"] == "paid"
        assert messages[2].event.document_id == "2"  # of the delete of what was in no set nobody is told
        stream.end()


@pytest.mark.parametrize("identity", ["DEFAULT"])
def test_without_the_old_row_it_is_called_unknown(identity):
    with pipeline(identity) as (sql, instance, channel):
        stream = Stream(channel, "orders")
        stream.subscribe("open", filters=[("status", "==", "open")])
        stream.subscribe("row1", filters=[("_id", "==", "1")])
        sql.execute("INSERT INTO orders VALUES (1, 'open', 5, '')")
        sql.execute("UPDATE orders SET price = 6 WHERE id = 1")
        sql.execute("UPDATE orders SET status = 'paid' WHERE id = 1")
        sql.execute("DELETE FROM orders WHERE id = 1")
        mark(sql, 2)
        stream.read_until("2")
        assert stream.told == [("open", "1", ENTER), ("row1", "1", ENTER), ("open", "1", UNKNOWN), ("row1", "1", UNKNOWN),
                               ("row1", "1", UNKNOWN), ("row1", "1", UNKNOWN), ("open", "2", ENTER)]
        assert instance.counter("publisher", "millrace_publisher_transitions_unknown_total") == 4
        stream.end()
