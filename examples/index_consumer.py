#!/usr/bin/python3
"""A queryable copy of one collection in SQLite, kept in step with the log of a millrace instance.

    index_consumer.py --collection orders --copy orders.sqlite \\
        [--snapshot postgresql://me@db/shop --table public.orders --key id]

The reference for consumers of PullerService; docs/index-consumer.md walks through it. It shows what every
consumer needs: apply events idempotently, keep the marker in the same transaction as what was applied,
acknowledge, come back after any crash, and rebuild from the database when it is told to, while what happens
meanwhile waits in a bounded buffer."""

import argparse
import contextlib
import json
import os
import queue
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

import grpc

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PATH = "/syntrix.puller.v1.PullerService/"
ACKNOWLEDGE_EVENTS, ACKNOWLEDGE_SECONDS = 1000, 1.0


def protocol():
    """The messages of proto/puller.proto."""
    directory = tempfile.mkdtemp(prefix="index-consumer-")
    subprocess.run(["protoc", f"-I{ROOT}/proto", f"--python_out={directory}", f"{ROOT}/proto/puller.proto"], check=True)
    sys.path.insert(0, directory)
    import puller_pb2  # pylint: disable=import-error,import-outside-toplevel
    return puller_pb2


def say(text):
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


class Overflow(Exception):
    """More happened during a rebuild than the buffer holds."""


class Copy:
    """The collection in SQLite: documents by id, and the marker of the last event that is in them."""

    def __init__(self, args):
        self.args = args
        self.db = sqlite3.connect(args.copy, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("CREATE TABLE IF NOT EXISTS documents (id TEXT PRIMARY KEY, document TEXT NOT NULL)")
        self.db.execute("CREATE TABLE IF NOT EXISTS place (name TEXT PRIMARY KEY, value TEXT NOT NULL)")

    def get(self, name):
        row = self.db.execute("SELECT value FROM place WHERE name = ?", (name,)).fetchone()
        return row[0] if row else ""

    def put(self, name, value):
        self.db.execute("INSERT OR REPLACE INTO place VALUES (?, ?)", (name, value))

    def _whole(self, ident, document, update):
        """The document with the values that the event leaves out: large ones that were not changed, which the copy
        has unless the document is new to it, and those too large for an event. None: it is there no more."""
        unchanged, omitted = update.get("unchanged", []), update.get("omitted", [])
        if not unchanged and not omitted:
            return document
        row = self.db.execute("SELECT document FROM documents WHERE id = ?", (ident,)).fetchone()
        stored = json.loads(row[0]) if row else {}
        if self.args.snapshot and (omitted or any(name not in stored for name in unchanged)):
            return current(self.args, ident)  # newer than this event, and so are those that follow
        return json.dumps({**json.loads(document), **{name: stored[name] for name in unchanged if name in stored}})

    def _apply(self, operation, ident, document, update):
        if operation == "truncate":
            self.db.execute("DELETE FROM documents")
            return
        if operation == "delete":
            whole = None
        elif document:  # insert, update and replace say what the document is now: all the same here
            whole = self._whole(ident, document, update)
        else:
            return
        if whole:
            self.db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (ident, whole))
        else:
            self.db.execute("DELETE FROM documents WHERE id = ?", (ident,))

    def apply(self, events, marker):
        """Events (operation, document id, JSON, update description) and their marker, or nothing of them."""
        with self.db:
            self.db.execute("BEGIN")
            for event in events:
                self._apply(*event)
            self.put("marker", marker)

    def replace(self, rows, marker):
        """A snapshot in place of everything. Not in step before what came meanwhile has been applied."""
        with self.db:
            self.db.execute("BEGIN")
            self.db.execute("DELETE FROM documents")
            self.db.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?)", rows)
            self.put("marker", marker)
            self.put("rebuilding", "")


@contextlib.contextmanager
def database(args):
    """A connection to it; whatever happens to that is a ConnectionError, to be tried again."""
    import psycopg  # pylint: disable=import-outside-toplevel
    if not args.snapshot:
        raise SystemExit("the copy cannot be brought up to date: --snapshot is needed to read the table anew")
    try:
        with psycopg.connect(args.snapshot) as connection:
            yield connection
    except psycopg.Error as error:
        raise ConnectionError(f"the table cannot be read: {error}") from None


def snapshot(args):
    """The rows of the table as they are now: (document id, JSON)."""
    with database(args) as connection, connection.cursor(name="snapshot") as cursor:
        cursor.itersize = 10000
        cursor.execute(f"SELECT {args.key}::text, to_jsonb(t)::text FROM {args.table} t")
        yield from cursor


def current(args, ident):
    """One row of the table as it is now; None: there is none."""
    with database(args) as connection:
        query = f"SELECT to_jsonb(t)::text FROM {args.table} t WHERE {args.key} = %s"
        row = connection.execute(query, (ident,)).fetchone()
    return row and row[0]


class Stream:
    """A subscription that is read by a thread of its own into a bounded buffer. While the consumer keeps up, a
    full buffer makes the thread wait, and so the server; during a rebuild it is an overflow."""

    def __init__(self, consumer, after):
        self.messages = queue.Queue()
        self.room = threading.Condition()
        self.events = self.bytes = 0
        self.consumer, self.rebuilding, self.overflow, self.closed = consumer, False, False, False
        self.call = consumer.subscribe(after)
        threading.Thread(target=self._read, daemon=True).start()

    def _full(self):
        return self.events >= self.consumer.args.buffer_events or self.bytes >= self.consumer.args.buffer_bytes

    def _read(self):
        try:
            for message in self.call:
                with self.room:
                    while self._full() and not self.rebuilding and not self.closed:
                        self.room.wait(0.2)
                    if self._full():
                        self.overflow = True
                        self.call.cancel()
                        args = self.consumer.args
                        self.messages.put(Overflow(f"over {args.buffer_events} events or {args.buffer_bytes} bytes"))
                        return
                    self.events += len(message.batch)
                    self.bytes += message.ByteSize()
                self.messages.put(message)
            self.messages.put(None)
        except grpc.RpcError as error:
            self.messages.put(error)

    def next(self, timeout):
        """A message; None when there is none in time; an RpcError or Overflow is raised."""
        try:
            message = self.messages.get(timeout=timeout)
        except queue.Empty:
            return None
        if message is None:
            raise ConnectionError("the stream ended")
        if isinstance(message, Exception):
            raise message
        with self.room:
            self.events -= len(message.batch)
            self.bytes -= message.ByteSize()
            self.room.notify()
        return message

    def close(self):
        self.closed = True
        self.call.cancel()


class Consumer:
    def __init__(self, args):
        self.args, self.pb = args, protocol()
        self.copy = Copy(args)
        self.channel = grpc.insecure_channel(args.relay, options=[
            ("grpc.max_receive_message_length", 64 << 20), ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 1000),
            # A host that is gone says nothing, and who only listens would wait for it for ever.
            ("grpc.keepalive_time_ms", int(args.keepalive * 1000)), ("grpc.http2.max_pings_without_data", 0),
            ("grpc.keepalive_timeout_ms", int(args.keepalive * 500))])
        self.stream, self.pending, self.acknowledged_at = None, 0, time.monotonic()

    def subscribe(self, after):
        call = self.channel.unary_stream(
            PATH + "Subscribe", request_serializer=self.pb.SubscribeRequest.SerializeToString,
            response_deserializer=self.pb.PullerEvent.FromString)
        return call(self.pb.SubscribeRequest(consumer_id=self.args.id, after=after, batch=True, rebuild=True,
                                             coalesce_on_catch_up=True, collections=[self.args.collection]))

    def acknowledge(self, progress, rebuilt=False):
        call = self.channel.unary_unary(
            PATH + "Acknowledge", request_serializer=self.pb.AcknowledgeRequest.SerializeToString,
            response_deserializer=self.pb.AcknowledgeResponse.FromString)
        return call(self.pb.AcknowledgeRequest(consumer_id=self.args.id, progress=progress, rebuilt=rebuilt),
                    timeout=30)

    def connect(self, after):
        """In place of the stream that there may be."""
        if self.stream:
            self.stream.close()
        self.stream, self.pending = Stream(self, after), 0

    def rebuild(self, why):
        """Replace the copy by the database's state; what happens meanwhile is applied to it afterwards."""
        say(f"rebuild: {why}")
        self.copy.put("rebuilding", why)
        head = self.acknowledge("").head  # before the snapshot: whatever it lacks comes behind this place
        if not head:
            raise SystemExit("this relay does not say where its log ends")
        self.connect(head)
        self.stream.rebuilding = True
        rows = []
        for row in snapshot(self.args):
            rows.append(row)
            if self.stream.overflow:
                break
        if self.args.pause:
            time.sleep(self.args.pause)  # for tests: a snapshot that takes long
        self.stream.rebuilding = False
        if self.stream.overflow:
            raise Overflow(f"over {self.args.buffer_events} events or {self.args.buffer_bytes} bytes")
        self.copy.replace(rows, head)
        self.acknowledge(head, rebuilt=True)
        say(f"rebuilt: {len(rows)} documents")

    def take(self, message):
        """One message. Returns why a rebuild is needed, or nothing."""
        events = [e for e in message.batch if e.HasField("change_event")]
        if message.HasField("lag"):
            say(f"lag: level {message.lag.level}, {message.lag.events} events, {message.lag.milliseconds} ms")
        if message.HasField("rebuild"):
            return message.rebuild.cause
        gap = next((e for e in events if e.change_event.op_type == "gap"), None)
        if gap:
            return f"gap: {gap.change_event.full_doc.decode()}"
        marker = message.batch[-1].progress if message.batch else message.progress
        changes = [event.change_event for event in events]
        self.copy.apply([(c.op_type, c.mgo_doc_id, c.full_doc.decode(), json.loads(c.update_desc or "{}"))
                         for c in changes], marker)
        self.pending += len(events)
        return None

    def acknowledge_in_time(self):
        if not self.pending:
            self.acknowledged_at = time.monotonic()
        elif self.pending >= ACKNOWLEDGE_EVENTS or time.monotonic() - self.acknowledged_at >= ACKNOWLEDGE_SECONDS:
            self.acknowledge(self.copy.get("marker"))
            self.pending, self.acknowledged_at = 0, time.monotonic()

    def follow(self):
        while True:
            message = self.stream.next(timeout=0.5)
            why = self.take(message) if message else None
            if why:
                self.rebuild(why)
            self.acknowledge_in_time()

    def begin(self):
        marker, rebuilding = self.copy.get("marker"), self.copy.get("rebuilding")
        if rebuilding or (not marker and self.args.snapshot):
            self.rebuild(rebuilding or "there is no copy yet")
        else:
            self.connect(marker or "e30")  # e30: from the oldest event of the log

    def run(self):
        why = None  # a rebuild that has to be tried again
        while True:
            try:
                if why:
                    self.rebuild(why)
                else:
                    self.begin()
                self.follow()
            except Overflow as error:
                why = f"the buffer overflowed: {error}"
                continue
            except grpc.RpcError as error:
                say(f"{error.code().name}: {error.details()}")
                why = None
                if error.code() == grpc.StatusCode.OUT_OF_RANGE:
                    why = "the log no longer reaches back"
                elif error.code() == grpc.StatusCode.DATA_LOSS:
                    why = "the log is damaged"
                    time.sleep(1)  # it may be damaged up to its end
                elif error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED):
                    raise SystemExit(1) from None
            except ConnectionError as error:
                say(str(error))
                why = None  # a rebuild that was under way is noted in the copy
            time.sleep(0.1)


def arguments(description):
    """What every consumer of this kind is told on its command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--id", default="index", help="consumer id, by which lag and checkpoint are known")
    parser.add_argument("--collection", required=True)
    parser.add_argument("--copy", required=True, help="SQLite file")
    parser.add_argument("--snapshot", help="PostgreSQL connection string to rebuild from")
    parser.add_argument("--table", help="table to rebuild from; default: the collection's name")
    parser.add_argument("--key", default="id", help="its key column")
    parser.add_argument("--buffer-events", type=int, default=10000)
    parser.add_argument("--buffer-bytes", type=int, default=32 << 20)
    parser.add_argument("--pause", type=float, default=0, help="seconds that a rebuild waits behind its snapshot")
    return parser


def main():
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--relay", default="127.0.0.1:9001", help="address of relay.listen")
    parser.add_argument("--keepalive", type=float, default=20, help="seconds of silence after which the relay is asked "
                        "whether it is there")
    args = parser.parse_args()
    args.table = args.table or args.collection
    Consumer(args).run()


if __name__ == "__main__":
    main()
