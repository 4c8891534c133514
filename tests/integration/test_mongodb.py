"""The mongodb source inside of real instances, against the stand-in of tests/mongo-server or the deployment that
MONGODB_URI names (scripts/test-mongodb). What each change becomes: docs/mongodb.md."""

import base64
import contextlib
import datetime
import hashlib
import json
import os
import random
import signal
import subprocess
import threading
import time
import uuid

import bson
import pymongo
import pytest

from instance import Instance, bin_dir, wait_for
from mongo import Mongo

OPERATIONS = int(os.environ.get("MILLRACE_TEST_MONGO_OPERATIONS", "10000"))
DOCUMENTS = int(os.environ.get("MILLRACE_TEST_MONGO_DOCUMENTS", "6000"))


@pytest.fixture(scope="module")
def server():
    with Mongo() as mongo:
        yield mongo


@pytest.fixture
def mongo(server):
    """The shared server with a database that nobody has used."""
    server.database = "t" + os.urandom(6).hex()
    with contextlib.suppress(pymongo.errors.OperationFailure):
        server.fail([], "off")
    yield server
    server.client.drop_database(server.database)


def instance(mongo, **settings):
    return Instance({"source.kind": "mongodb", "mongodb.url": mongo.uri, "mongodb.database": mongo.database,
                     "matcher.shards": 1, "source.backoff_max": "200ms",
                     **{key.replace("__", "."): value for key, value in settings.items()}})


def streaming(run):
    wait_for(lambda: run.counter("puller", "millrace_source_connected"), 20, "the stream")
    return run


def logged(run, count=10**7):
    """The events in the log, in their order."""
    shown = subprocess.run([os.path.join(bin_dir(), "millrace-log"), "show", os.path.join(run.dir, "data", "log"),
                            "--count", str(count), "--json"], capture_output=True, text=True, check=False)
    return [json.loads(line) for line in shown.stdout.splitlines()]


def last_sequence(run):
    """Of the log; 0 while its writer is away."""
    processes = (run.status() or {"processes": []})["processes"]
    return sum(p["counters"].get("millrace_log_last_sequence", 0) for p in processes if p["kind"] == "puller")


def events(run, count, seconds=20):
    """Wait for so many, and see that no more come."""
    wait_for(lambda: last_sequence(run) >= count, seconds, f"{count} events")
    time.sleep(0.2)
    found = logged(run)
    assert len(found) == count, [(e["op"], e.get("document_id")) for e in found[-5:]]
    return found


def upstream_id(source_order, collection, document_id):
    digest = hashlib.sha256(f"{collection}/{document_id}".encode()).hexdigest()[:16]
    return f"{source_order >> 32}-{source_order & 0xFFFFFFFF}-{digest}"


def change_everything(mongo):
    """Each kind of change once."""
    db, name = mongo.db, mongo.database
    db.c.insert_one({"_id": 1, "a": [1, 2, 3], "s": {"x": 1, "y": 1}})
    db.c.update_one({"_id": 1}, {"$set": {"s.x": 2}, "$unset": {"s.y": 1}, "$pop": {"a": 1}})
    db.c.replace_one({"_id": 1}, {"b": 1})
    db.c.delete_one({"_id": 1})
    db.c.rename("d")
    db.d.drop()
    mongo.client.drop_database(name)
    db.c.insert_one({"_id": 2})


@pytest.mark.parametrize("watch", ["collection", "database", "deployment"])
def test_every_kind_of_change_becomes_its_event_and_the_stream_goes_on_behind_the_last(mongo, watch):
    scope = {"collection": {"mongodb__collections": ["c"]}, "database": {},
             "deployment": {"mongodb__database": "", "mongodb__collections": [f"{mongo.database}.*"]}}[watch]
    mongo.db.c.insert_one({"_id": 0})
    with instance(mongo, **scope) as run:
        streaming(run.start())
        change_everything(mongo)
        ends = wait_for(lambda: any(e.get("document_id") == "2" for e in logged(run)) and logged(run), 20, "the end")
        got = [(e["op"], e.get("document_id") or e.get("document", {}).get("type")) for e in ends]
        assert got[:5] == [("insert", "1"), ("update", "1"), ("replace", "1"), ("delete", "1"),
                           ("truncate", "rename")]
        assert got[-1] == ("insert", "2")
        assert ends[0]["document"] == {"_id": 1, "a": [1, 2, 3], "s": {"x": 1, "y": 1}}
        update = ends[1]["update"]
        assert update["updatedFields"] == {"s.x": 2} and update["removedFields"] == ["s.y"]
        assert update["truncatedArrays"] == [{"field": "a", "newSize": 2}]
        assert ends[2]["document"] == {"_id": 1, "b": 1}
        assert ends[3]["document"] == {"_id": 1}
        middle = got[5:-1]
        if watch == "collection":
            assert middle[0] == ("truncate", "invalidate")
        else:
            gap = ends[5]
            assert gap["op"] == "gap" and gap["collection"] == "d" and "renamed" in gap["document"]["cause"]
            assert ("truncate", "drop") in middle and ("truncate", "dropDatabase") in middle
            assert (("truncate", "invalidate") in middle) == (watch == "database")
        assert len({e["id"] for e in ends}) == len(ends)
        assert run.stop() == 0


def test_a_transaction_arrives_whole_and_in_order_with_an_id_for_every_change(mongo):
    mongo.db.c.insert_one({"_id": "before"})
    with instance(mongo) as run:
        streaming(run.start())
        with mongo.client.start_session() as session, session.start_transaction():
            for i in range(50):
                mongo.db.c.insert_one({"_id": i}, session=session)
            mongo.db.c.update_one({"_id": 7}, {"$set": {"n": 1}}, session=session)
            mongo.db.c.update_one({"_id": 7}, {"$set": {"n": 2}}, session=session)
        with mongo.client.start_session() as session:
            session.start_transaction()
            mongo.db.c.insert_one({"_id": "never"}, session=session)
            session.abort_transaction()
        got = events(run, 52)
        assert [e["document_id"] for e in got] == [str(i) for i in range(50)] + ["7", "7"]
        assert len({e["source_order"] for e in got}) == 1 and len({e["transaction"] for e in got}) == 1
        assert len({e["id"] for e in got}) == 52
        assert [e["id"] for e in got[:50]] == [upstream_id(e["source_order"], "c", e["document_id"])
                                               for e in got[:50]]
        assert [e["update"]["updatedFields"]["n"] for e in got[50:]] == [1, 2]


def test_ids_and_values_of_every_type_are_those_that_syntrix_gives(mongo):
    oid, when = bson.ObjectId(), datetime.datetime(2026, 1, 1, 0, 0, 0, 120000)
    ids = [(oid, str(oid)), ("text", "text"), (7, "7"), (bson.Int64(2**53 + 1), str(2**53 + 1)), (1.5, "1.5"),
           (1e6 + 0.5, "1.0000005e+06"), (-2.5e-7, "-2.5e-07"), (True, "true"), (when, str(1767225600120)),
           ({"a": 1}, "map[a:1]"), ({"b": "x", "a": {"c": None}}, "map[a:map[c:<nil>] b:x]"),
           ({"o": oid}, f'map[o:ObjectID("{oid}")]'), (bson.Decimal128("2.50"), "2.50"),
           (bson.Timestamp(3, 4), "{3 4}"), (bson.Binary(b"\1\2\3", 0), "{0 [1 2 3]}"),
           ("k" * 2000, None)]
    values = {"date": when, "oid": oid, "i32": 1, "i64": bson.Int64(2**60), "whole": 1.0, "double": 0.1,
              "decimal": bson.Decimal128("12.5"), "binary": bson.Binary(b"\0\xff", 0), "ts": bson.Timestamp(1, 2),
              "null": None, "text": "<ü>", "list": [1, [2.5, {"x": None}]], "yes": True}
    with instance(mongo) as run:
        streaming(run.start())
        for ident, _ in ids:
            mongo.db.types.insert_one({"_id": ident, **values})
        got = events(run, len(ids))
        for event, (ident, text) in zip(got, ids):
            if text is None:
                assert len(event["document_id"]) < 1024 and event["document_id"].startswith("k" * 900 + "~")
                continue
            assert event["document_id"] == text, ident
            assert event["id"] == upstream_id(event["source_order"], "types", text)
        document = got[1]["document"]
        assert document["date"] == "2026-01-01T00:00:00.12Z"
        assert document["oid"] == str(oid)
        assert (document["i32"], document["i64"], document["whole"], document["double"]) == (1, 2**60, 1, 0.1)
        assert document["decimal"] == "12.5"
        assert document["binary"] == {"Subtype": 0, "Data": base64.b64encode(b"\0\xff").decode()}
        assert document["ts"] == {"T": 1, "I": 2}
        assert document["null"] is None and document["text"] == "<ü>" and document["yes"] is True
        assert document["list"] == [1, [2.5, {"x": None}]]


def test_a_uuid_as_id_has_its_usual_form(mongo):
    ident = uuid.uuid4()
    collection = mongo.db.get_collection("u", bson.CodecOptions(uuid_representation=bson.binary.STANDARD))
    with instance(mongo) as run:
        streaming(run.start())
        collection.insert_one({"_id": ident})
        assert events(run, 1)[0]["document_id"] == str(ident)


def test_an_event_over_16_mib_is_put_together_from_its_fragments(mongo):
    mongo.db.create_collection("big", changeStreamPreAndPostImages={"enabled": True})
    with instance(mongo, mongodb__before="when_available", ring__event_size="64MiB") as run:
        streaming(run.start())
        mongo.db.big.insert_one({"_id": 1, "body": "a" * (10 << 20)})
        mongo.db.big.replace_one({"_id": 1}, {"body": "b" * (10 << 20)})
        mongo.db.big.insert_one({"_id": 2})
        got = events(run, 3, seconds=40)
        assert [(e["op"], e["document_id"]) for e in got] == [("insert", "1"), ("replace", "1"), ("insert", "2")]
        assert got[1]["document"]["body"] == "b" * (10 << 20) and got[1]["before"]["body"] == "a" * (10 << 20)


def test_images_before_a_change_come_when_they_are_asked_for(mongo):
    mongo.db.create_collection("c", changeStreamPreAndPostImages={"enabled": True})
    with instance(mongo, mongodb__before="required", mongodb__full_document="required") as run:
        streaming(run.start())
        mongo.db.c.insert_one({"_id": 1, "n": 1})
        mongo.db.c.update_one({"_id": 1}, {"$set": {"n": 2}})
        mongo.db.c.update_one({"_id": 1}, {"$set": {"n": 3}})
        mongo.db.c.delete_one({"_id": 1})
        got = events(run, 4)
        assert [e.get("before", {}).get("n") for e in got] == [None, 1, 2, 3]
        assert [e["document"]["n"] for e in got] == [1, 2, 3, 3]


def test_only_what_is_wanted_arrives_and_the_place_moves_all_the_same(mongo):
    with instance(mongo, mongodb__collections=["ord*", "c"], mongodb__exclude=["order_log", "*.tmp"]) as run:
        streaming(run.start())
        for name in ("orders", "c", "order_log", "ordx.tmp", "other", "cc"):
            mongo.db[name].insert_one({"_id": name})
        assert [e["collection"] for e in events(run, 2)] == ["orders", "c"]
        before = run.counter("puller", "millrace_source_confirmed_position")
        for i in range(100):
            mongo.db.other.insert_one({"_id": i})
        wait_for(lambda: run.counter("puller", "millrace_source_confirmed_position") > before, 15, "the place to move")
        events(run, 2)
        mongo.db.other.rename("ordered")
        mongo.db.orders.rename("gone")
        last = events(run, 4)[2:]
        assert [(e["op"], e["collection"]) for e in last] == [("gap", "ordered"), ("truncate", "orders")]


class Writer:
    """Changes documents at random, as one client, and keeps what the collection must hold. `numbers` are what the
    changes carry, in their order."""

    def __init__(self, mongo, seed, documents, collection="c", grow=0):
        """grow: share of the changes that insert a document behind all others."""
        self.rng, self.documents, self.grow, self.largest = random.Random(seed), documents, grow, documents
        self.name, self.collection = collection, mongo.db[collection]
        self.state, self.numbers = {}, 0
        self.history = []  # (operation, document id, number)

    def operations(self, count):
        """So many changes as pymongo operations."""
        made = []
        for _ in range(count):
            self.numbers += 1
            ident, kind, n = self.rng.randrange(self.documents), self.rng.random(), self.numbers
            if self.rng.random() < self.grow:
                self.largest += 1
                ident = self.largest
            if ident not in self.state:
                self.state[ident] = {"_id": ident, "n": n}
                made.append(pymongo.InsertOne({"_id": ident, "n": n}))
                self.history.append(("insert", ident, n))
            elif kind < 0.6:
                self.state[ident]["n"] = n
                made.append(pymongo.UpdateOne({"_id": ident}, {"$set": {"n": n}}))
                self.history.append(("update", ident, n))
            elif kind < 0.8:
                self.state[ident] = {"_id": ident, "n": n}
                made.append(pymongo.ReplaceOne({"_id": ident}, {"_id": ident, "n": n}))
                self.history.append(("replace", ident, n))
            else:
                del self.state[ident]
                made.append(pymongo.DeleteOne({"_id": ident}))
                self.history.append(("delete", ident, n))
        return made

    def write(self, count, batch=500):
        for first in range(0, count, batch):
            self.collection.bulk_write(self.operations(min(batch, count - first)), ordered=True)


def replayed(found):
    """The state that the events lead to; fails when one cannot follow those before it."""
    state = {}
    for event in found:
        ident, op = int(event["document_id"]), event["op"]
        assert (op == "insert") == (ident not in state), event
        if op == "delete":
            del state[ident]
        else:
            n = event["update"]["updatedFields"]["n"] if op == "update" else event["document"]["n"]
            state[ident] = {"_id": ident, "n": n}
    return state


def kill_puller(run):
    with contextlib.suppress(KeyError, ProcessLookupError, FileNotFoundError):
        pid = run.pids()["puller"]
        with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
            assert "mongoc-" not in maps.read().replace("libmongoc-", ""), "the driver's counters would stay behind"
        os.kill(pid, signal.SIGKILL)


def test_every_operation_of_a_busy_writer_arrives_once_and_in_order_while_the_puller_is_killed(mongo):
    writer, kills = Writer(mongo, 5, 5000), 5
    with instance(mongo) as run:
        streaming(run.start())
        time.sleep(1.5)  # the first place is in the log
        for _ in range(kills):
            writer.write(OPERATIONS // kills)
            kill_puller(run)
        writer.write(OPERATIONS % kills)
        wait_for(lambda: last_sequence(run) >= OPERATIONS, 60, "all changes")
        found = logged(run)
        assert [(e["op"], int(e["document_id"])) for e in found] == [h[:2] for h in writer.history]
        assert replayed(found) == writer.state
        assert run.stop() == 0


def test_the_two_events_of_a_rename_come_once_each_when_the_puller_dies_between_them(mongo, tmp_path, monkeypatch):
    with open(os.path.join(bin_dir(), "millrace-puller"), "rb") as program:
        if b"MRTEST_CRASH" not in program.read():
            pytest.skip("only a test build can be made to die in the middle")
    points = {"intake.sealed": 5, "log.written": 8}
    monkeypatch.setenv("MRTEST_CRASH", " ".join(f"millrace-puller@{name}:{n}" for name, n in points.items()))
    monkeypatch.setenv("MRTEST_CRASH_DIR", str(tmp_path))
    names = [f"n{i}" + "x" * (60 + 7 * i % 40) for i in range(120)]
    mongo.db[names[0]].insert_one({"_id": 1})
    with instance(mongo, log__batch_size="4KiB", supervisor__restarts_max=0) as run:
        streaming(run.start())
        os.kill(run.pids()["puller"], signal.SIGSTOP)  # so that the next one finds all of them at once
        for old, new in zip(names, names[1:]):
            mongo.db[old].rename(new)
        mongo.db.end.insert_one({"_id": "end"})
        wait_for(lambda: len(os.listdir(tmp_path)) == len(points), 20, "the puller to die twice")
        wait_for(lambda: logged(run)[-1].get("document_id") == "end", 20, "the last change")
        got = [(e["op"], e["collection"]) for e in logged(run) if e["op"] != "insert"]
        assert got == [event for old, new in zip(names, names[1:]) for event in [("truncate", old), ("gap", new)]]
        assert run.stop() == 0


def test_trouble_with_the_server_loses_and_repeats_nothing(mongo):
    trouble = [dict(commands=["getMore"], errorCode=10107), dict(commands=["getMore"], errorCode=43),
               dict(commands=["getMore"], closeConnection=True), dict(commands=["aggregate"], errorCode=91),
               dict(commands=["getMore", "aggregate"], errorCode=189),
               dict(commands=["getMore"], blockConnection=True, blockTimeMS=300)]
    writer = Writer(mongo, 9, 100)
    try:
        mongo.fail([], "off")
    except pymongo.errors.OperationFailure:
        pytest.skip("needs a deployment with enableTestCommands=1")
    with instance(mongo) as run:
        streaming(run.start())
        for what in trouble:
            writer.write(200, batch=20)
            mongo.fail(what["commands"], {"times": 3}, **{k: v for k, v in what.items() if k != "commands"})
            writer.write(200, batch=20)
            wait_for(lambda: last_sequence(run) >= len(writer.history), 20, f"all changes after {what}")
        found = logged(run)
        assert [(e["op"], int(e["document_id"])) for e in found] == [h[:2] for h in writer.history]
        assert run.counter("puller", "millrace_source_reconnects_total") >= 5
        assert run.stop() == 0


def test_from_beginning_gives_all_that_the_oplog_still_has(mongo):
    for i in range(10):
        mongo.db.c.insert_one({"_id": i})
    with instance(mongo, source__start="from_beginning") as run:
        run.start()
        assert [e["document_id"] for e in events(run, 10)] == [str(i) for i in range(10)]


def lose_history(mongo, run):
    """Changes that nobody reads, and an oplog that does not reach back to them."""
    assert run.stop() == 0
    for i in range(100, 150):
        mongo.db.c.insert_one({"_id": i})
    mongo.trim()
    run.start(ready_seconds=0)


def test_lost_history_stops_the_puller_and_says_so(mongo):
    with instance(mongo) as run:
        streaming(run.start())
        mongo.db.c.insert_one({"_id": 1})
        events(run, 1)
        lose_history(mongo, run)
        wait_for(lambda: "ChangeStreamHistoryLost" in run.log_tail() or "(code 286)" in run.log_tail(), 10, "the end")
        mongo.db.c.insert_one({"_id": 2})
        time.sleep(0.5)
        assert len(logged(run)) == 1


def test_lost_history_is_one_gap_and_the_stream_goes_on_from_now(mongo):
    with instance(mongo, source__on_unresumable="skip") as run:
        streaming(run.start())
        mongo.db.c.insert_one({"_id": 1})
        events(run, 1)
        lose_history(mongo, run)
        run.wait_ready()
        streaming(run)
        kill_puller(run)
        mongo.db.c.insert_one({"_id": 2})
        got = events(run, 3)
        assert [e["op"] for e in got] == ["insert", "gap", "insert"]
        assert "(code 286)" in got[1]["document"]["cause"] and "collection" not in got[1]
        assert got[1]["document"]["from"] < got[1]["document"]["to"]
        assert run.counter("puller", "millrace_source_gaps_total") <= 1


def test_lost_history_is_one_gap_and_a_new_snapshot(mongo):
    with instance(mongo, source__on_unresumable="snapshot", source__snapshot_rows=10) as run:
        streaming(run.start())
        mongo.db.c.insert_one({"_id": 1})
        events(run, 1)
        lose_history(mongo, run)
        run.wait_ready()
        got = events(run, 2 + 51)
        assert [e["op"] for e in got[:2]] == ["insert", "gap"]
        assert [int(e["document_id"]) for e in got[2:]] == [1, *range(100, 150)]


def test_a_snapshot_and_the_stream_are_one_history_while_writers_write_and_the_puller_is_killed(mongo):
    writers = [Writer(mongo, seed, 2 * DOCUMENTS // size, f"c{seed:02}", grow=0.3)
               for seed, size in enumerate([2, 4, 8] + [80] * 10)]
    for writer in writers:
        for first in range(0, writer.documents, 2000):
            writer.collection.insert_many([{"_id": i, "n": 0} for i in range(first, min(first + 2000, writer.documents), 2)])
        writer.state = {i: {"_id": i, "n": 0} for i in range(0, writer.documents, 2)}
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            for writer in writers:
                writer.write(5, batch=5)
                time.sleep(0.001)

    thread = threading.Thread(target=busy)
    with instance(mongo, source__start="snapshot", source__snapshot_rows=100) as run:
        thread.start()
        try:
            run.start()
            for _ in range(5):
                seen = last_sequence(run)
                wait_for(lambda: last_sequence(run) != seen, 10, "progress")
                time.sleep(0.1)
                kill_puller(run)
            wait_for(lambda: "snapshot_done" in run.log_tail(400), 60, "the end of the snapshot")
            time.sleep(0.2)
        finally:
            stop.set()
            thread.join()
        mongo.db.end.insert_one({"_id": "end"})
        wait_for(lambda: logged(run)[-1]["document_id"] == "end", 20, "the last change")
        found = logged(run)
        for writer in writers:
            assert replayed([e for e in found if e["collection"] == writer.name]) == writer.state
        assert run.counter("puller", "millrace_source_snapshot_running") == 0
        assert run.stop() == 0


def test_a_chunk_of_a_snapshot_waits_for_the_end_of_a_transaction_that_takes_several_answers(mongo):
    writer = Writer(mongo, 7, 4000, grow=0.3)
    writer.collection.insert_many([{"_id": i, "n": 0} for i in range(0, writer.documents, 2)])
    writer.state = {i: {"_id": i, "n": 0} for i in range(0, writer.documents, 2)}
    stop = threading.Event()

    def busy():
        with mongo.client.start_session() as session:
            while not stop.is_set():
                with session.start_transaction():
                    writer.collection.bulk_write(writer.operations(30), ordered=True, session=session)
                time.sleep(0.001)

    thread = threading.Thread(target=busy)
    with instance(mongo, source__start="snapshot", source__snapshot_rows=10, mongodb__batch_events=10) as run:
        thread.start()
        try:
            run.start()
            wait_for(lambda: "snapshot_done" in run.log_tail(400), 60, "the end of the snapshot")
        finally:
            stop.set()
            thread.join()
        mongo.db.end.insert_one({"_id": "end"})
        wait_for(lambda: logged(run)[-1]["document_id"] == "end", 20, "the last change")
        assert replayed([e for e in logged(run) if e["collection"] == "c"]) == writer.state
        assert run.stop() == 0


def test_a_snapshot_reads_keys_of_all_kinds_in_every_collection(mongo):
    keys = [None, float("nan"), -1, 0.5, 2, bson.Int64(2**60), "", "a", "b", {"a": 1}, {"b": 1}, bson.Binary(b"x", 0),
            bson.ObjectId(), False, True, datetime.datetime(2020, 1, 1), bson.Timestamp(1, 1)]
    for name in ("x", "y.z", "empty"):
        mongo.db.create_collection(name)
    mongo.db.x.insert_many([{"_id": key} for key in reversed(keys)])
    mongo.db["y.z"].insert_many([{"_id": key} for key in keys])
    with instance(mongo, source__start="snapshot", source__snapshot_rows=2) as run:
        run.start()
        got = events(run, 2 * len(keys))
        assert [e["collection"] for e in got] == ["x"] * len(keys) + ["y.z"] * len(keys)
        assert len({(e["collection"], e.get("document_id")) for e in got}) == 2 * len(keys)
        mongo.db.x.insert_one({"_id": "z"})
        events(run, 2 * len(keys) + 1)


def stored(collection, ident, **more):
    now = 1700000000000
    return {"_id": f"app:{ident}", "database": "app", "fullpath": f"{collection}/{ident}", "collection": collection,
            "collection_hash": "", "parent": "", "updated_at": bson.Int64(now), "created_at": bson.Int64(now),
            "version": bson.Int64(1), "data": {"id": ident, "text": "hi"}, **more}


def test_the_syntrix_layout_becomes_events_of_its_logical_collections(mongo):
    documents = mongo.db.documents
    with instance(mongo, mongodb__layout="syntrix", mongodb__collections=["documents"]) as run:
        streaming(run.start())
        documents.insert_one(stored("rooms/r1/messages", "m1"))
        documents.update_one({"_id": "app:m1"}, {"$set": {"data.text": "ho"}, "$inc": {"version": 1}})
        events(run, 2)  # an update's document is looked up when it is read: it must not be deleted by then
        documents.update_one({"_id": "app:m1"}, {"$set": {"deleted": True, "data": {}}, "$inc": {"version": 1}})
        events(run, 3)
        documents.replace_one({"_id": "app:m1"}, stored("rooms/r1/messages", "m1"))
        documents.update_one({"_id": "app:m1"}, {"$set": {"deleted": True, "data": {}}})
        events(run, 5)
        documents.delete_one({"_id": "app:m1"})
        documents.insert_one(stored("users", "u1"))
        got = events(run, 6)
        assert [e["op"] for e in got] == ["insert", "update", "delete", "insert", "delete", "insert"]
        assert {(e["database"], e["document_id"]) for e in got} == {("app", "m1"), ("app", "u1")}
        assert got[0]["collection"] == "rooms/r1/messages"
        assert got[0]["document"] == {"text": "hi", "id": "m1", "collection": "rooms/r1/messages", "version": 1,
                                      "updatedAt": 1700000000000, "createdAt": 1700000000000}
        assert got[2]["document"]["deleted"] is True
        assert got[0]["id"] == upstream_id(got[0]["source_order"], "documents", "app:m1")


def test_it_waits_for_a_server_that_is_away_and_refuses_one_that_is_none(mongo):
    mongo.needs_stand_in("to be away")
    with Mongo() as away:
        away.kill()
        with instance(away) as run:
            run.start()
            wait_for(lambda: "waiting" in json.dumps(run.status()), 20, "the status to say so")
            away.start()
            streaming(run)
            assert run.stop() == 0
            away.db.c.insert_one({"_id": 1})
    with instance(mongo, mongodb__url="mongodb//x") as run:
        run.start(ready_seconds=0)
        wait_for(lambda: "mongodb.url" in run.log_tail(), 10, "the refusal")


def test_an_older_server_is_read_but_cannot_give_snapshots(mongo):
    mongo.needs_stand_in("to be old")
    with Mongo(version="4.4.0") as old:
        with instance(old) as run:
            streaming(run.start())
            old.db.c.insert_one({"_id": 1})
            events(run, 1)
            assert run.stop() == 0
        with instance(old, source__start="snapshot") as run:
            run.start(ready_seconds=0)
            wait_for(lambda: "of a MongoDB from 5.0 on" in run.log_tail(), 20, "the refusal")
