"""A test bed: PostgreSQL under load, an instance of millrace on it, and subscribers that never give up.
At the end PostgreSQL's own account of a slot decides what they should have got."""

import itertools
import random
import threading
import time

import psycopg

import truth
from instance import Instance, wait_for
from pg import Cluster
from subscriber import Subscriber, Subscription

TABLE = """
CREATE TABLE items (id bigint PRIMARY KEY, n bigint NOT NULL, user_id integer NOT NULL,
                    status text NOT NULL, deleted boolean NOT NULL DEFAULT false, body text);
ALTER TABLE items REPLICA IDENTITY FULL
"""
STATUSES = ["new", "open", "held", "done", "gone"]


class Load:
    """Writers, each with a connection of its own, that insert, update, delete, soft-delete and recreate
    rows. Every change carries a number `n` of its own, so that it can be told apart."""

    def __init__(self, dsn, seed, writers=2, per_second=500, documents=2000, body=100, users=100):
        self.dsn, self.per_second, self.documents, self.users = dsn, per_second, documents, users
        self.body = "x" * body
        self.numbers = itertools.count(1)
        self.changes = 0
        self.errors = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._write, args=(seed * 1000 + w, w, writers), daemon=True)
                         for w in range(writers)]

    def start(self):
        for thread in self._threads:
            thread.start()
        return self

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _change(self, cursor, rng, worker, workers):
        # Writers have documents of their own: no deadlocks, and plenty of interleaving all the same.
        ident = rng.randrange(self.documents) * workers + worker
        n, user, status = next(self.numbers), rng.randrange(self.users), rng.choice(STATUSES)
        kind = rng.random()
        if kind < 0.45:
            cursor.execute(
                "INSERT INTO items (id, n, user_id, status, body) VALUES (%s, %s, %s, %s, %s) ON CONFLICT (id) "
                "DO UPDATE SET n = excluded.n, user_id = excluded.user_id, status = excluded.status",
                (ident, n, user, status, self.body))
        elif kind < 0.75:
            cursor.execute("UPDATE items SET n = %s, status = %s WHERE id = %s", (n, status, ident))
        elif kind < 0.85:
            cursor.execute("UPDATE items SET n = %s, deleted = true WHERE id = %s", (n, ident))
        elif kind < 0.93:
            cursor.execute("UPDATE items SET n = %s, deleted = false WHERE id = %s", (n, ident))
        else:
            cursor.execute("DELETE FROM items WHERE id = %s", (ident,))
        return cursor.rowcount

    def _write(self, seed, worker, workers):
        rng = random.Random(seed)
        started, done = time.monotonic(), 0
        pace = self.per_second / workers
        try:
            with psycopg.connect(self.dsn) as connection, connection.cursor() as cursor:
                while not self._stop.is_set():
                    size = rng.choice((1, 1, 1, 2, 5))
                    changed = sum(self._change(cursor, rng, worker, workers) for _ in range(size))
                    connection.commit()
                    with self._lock:
                        self.changes += changed
                    done += size
                    ahead = started + done / pace - time.monotonic()
                    if ahead > 0:
                        time.sleep(ahead)
        except psycopg.Error as error:
            self.errors.append(str(error))


def subscriptions(users=100):
    """A mix: everything, one status, several, one user each, one document."""
    some = [Subscription("all", "postgres", "items"),
            Subscription("open", "postgres", "items", [("status", "==", "open")]),
            Subscription("not-done", "postgres", "items", [("status", "!=", "done")]),
            Subscription("in", "postgres", "items", [("status", "in", ["held", "gone"])]),
            Subscription("range", "postgres", "items", [("user_id", ">=", 90), ("status", "==", "new")]),
            Subscription("one", "postgres", "items", [("_id", "==", "7")])]
    return some + [Subscription(f"user-{u}", "postgres", "items", [("user_id", "==", u)])
                   for u in range(0, users, 10)]


class Bed:
    """with Bed(...) as bed: bed.load runs, bed.subscriber receives; bed.verdict() at the end."""

    def __init__(self, seed=1, settings=None, subs=None, table=TABLE, writers=2, per_second=500,
                 load_options=None, on_event=None):
        self.cluster = Cluster()
        self.cluster.start()
        self.dsn = self.cluster.dsn()
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in table.split(";"):
                connection.execute(statement)
            truth.create_slot(connection, "truth")
        self.instance = Instance({
            "source.kind": "postgres", "postgres.url": self.dsn, "postgres.tables": ["public.items"],
            **(settings or {})})
        self.subscriber = Subscriber(self.instance.grpc_port, subs if subs is not None else subscriptions(),
                                     on_event)
        self.load = Load(self.dsn, seed, writers, per_second, **(load_options or {}))

    def start(self):
        self.instance.start()
        self.subscriber.start()
        self.load.start()
        return self

    def verdict(self, seconds=60):
        """End the load, wait until nothing is under way, compare. [(subscription, what is wrong)]."""
        self.load.stop()
        if self.load.errors:
            return [("load", "; ".join(self.load.errors))]
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            events = truth.read_slot(connection, "truth")
        subs = list(self.subscriber.subscriptions.values())
        wanted = sum(len(v) for v in truth.expected(subs, events).values())
        try:
            wait_for(lambda: sum(len(s.got) for s in subs) >= wanted, seconds, "the last deliveries")
            time.sleep(0.3)  # whatever is there too much has time to show
        except TimeoutError:
            pass
        return truth.compare(subs, events)

    def close(self):
        self.load.stop()
        self.subscriber.stop()
        self.instance.close()
        self.cluster.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
