"""What can be wrong with a MongoDB, brought about for a real pipeline (`millrace run`): the table in docs/errors.md.
What the page shows is what the puller said to the stand-in of tests/mongo-server."""

import re
import socket
import time

import pytest

from error_page import Section
from instance import Instance, free_port
from mongo import Mongo
from test_errors_postgres import whys

SECTION = Section("mongodb", 18, {"situation": False, "what the puller says": True, "the puller": False,
                                  "remedy": False})
CONFIGURATION, LOST = "exit 100, not restarted", "ends with exit 1, restarted, given up"
WAITS, ON = "waits and tries again", "goes on"


class Source:
    """A pipeline whose puller reads a MongoDB."""

    def __init__(self, uri, **settings):
        self.instance = Instance({
            "source.kind": "mongodb", "mongodb.url": uri, "mongodb.database": "shop", "matcher.shards": 1,
            "source.backoff_max": "300ms", "supervisor.restarts_max": 2,
            **{key.replace("__", "."): value for key, value in settings.items()}})

    def words(self):
        return self.instance.log_tail(100000)

    def wait_for(self, condition, what, seconds=25):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come:\n{self.words()[-3000:]}"
            time.sleep(0.02)

    def start(self):
        self.instance.start(ready_seconds=0)
        return self

    def streams(self):
        self.wait_for(lambda: self.instance.status() and self.instance.counter(
            "puller", "millrace_source_connected"), "the stream")
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.instance.close()


@pytest.fixture(scope="module", name="mongo")
def fixture_mongo():
    with Mongo() as mongo:
        mongo.needs_stand_in("to fail as it is told")
        yield mongo


def ends(source, title, says, ending, remedy):
    """The puller says so, and ends, or does not."""
    def said():
        return [why for why in whys(source) if re.search(says, why)]
    if ending in (WAITS, ON):
        source.wait_for(said, says)
        assert source.instance.process.poll() is None, source.words()
    else:
        reason = "exit 100: " if ending == CONFIGURATION else ""
        source.wait_for(lambda: f'given_up process=supervisor child=puller reason="{reason}' in source.words(), ending)
        assert said(), source.words()[-3000:]
    text = re.sub(r"[0-9A-F]{40,}", "TOKEN", said()[0])
    if title not in SECTION.rows:
        SECTION.add(title, title, text, ending, remedy)


@pytest.mark.parametrize("title,settings,says,remedy", [
    ("mongodb.url is no connection string", {"mongodb__url": "mongodb//x"}, "mongodb.url: ", "correct mongodb.url"),
    ("mongodb.database is no name", {"mongodb__database": "a.b"}, "is no name of a database",
     "name one database, or none for the whole deployment"),
    ("a collection without its database, whole deployment",
     {"mongodb__database": "", "mongodb__collections": ["orders"]}, "expected database.collection",
     "write database.collection"),
])
def test_configurations(mongo, title, settings, says, remedy):
    with Source(**{"uri": mongo.uri, **settings}) as one:
        ends(one, title, says, CONFIGURATION, remedy)


@pytest.mark.parametrize("title,code,remedy", [
    ("the user may not read the stream", 13, "grant the role read on the database (for a whole deployment: on all)"),
    ("wrong user or password", 18, "correct mongodb.url"),
    ("an image is required that the collection does not keep", 47,
     "changeStreamPreAndPostImages for the collection, or whenAvailable"),
    ("the server has no change streams", 40573, "start it as a replica set"),
    ("the database is a view's", 166, "name collections"),
])
def test_refusals(mongo, title, code, remedy):
    mongo.fail(["aggregate"], "alwaysOn", errorCode=code)
    try:
        with Source(mongo.uri) as one:
            ends(one, title, rf"\(code {code}\)", CONFIGURATION, remedy)
    finally:
        mongo.fail([], "off")


@pytest.mark.parametrize("title,what", [
    ("the member steps down", {"errorCode": 10107}), ("the member is shutting down", {"errorCode": 91}),
    ("the cursor is gone", {"errorCode": 43}), ("the connection is cut", {"closeConnection": True}),
    ("an error that is in no list", {"errorCode": 8000}),
])
def test_what_passes(mongo, title, what):
    with Source(mongo.uri) as one:
        one.streams()
        mongo.fail(["getMore"], {"times": 2}, **what)
        says = rf"\(code {what['errorCode']}\)" if "errorCode" in what else "socket|connection"
        ends(one, title, says, WAITS, "nothing")
        mongo.fail([], "off")
        before = one.instance.counter("puller", "millrace_log_last_sequence")
        mongo.client.shop.c.insert_one({})
        one.wait_for(lambda: one.instance.counter("puller", "millrace_log_last_sequence") > before, "the event")


def test_a_server_that_is_away_or_is_none():
    port = free_port()
    with Source(f"mongodb://127.0.0.1:{port}/?replicaSet=rs0") as one:
        ends(one, "the server is not running", "connect to MongoDB at", WAITS, "start it")
    with Source("mongodb://no-such-host.invalid/?replicaSet=rs0") as one:
        ends(one, "the host name does not resolve", "no-such-host", WAITS,
             "correct mongodb.url, or look at the name server")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with Source(f"mongodb://127.0.0.1:{silent.getsockname()[1]}/?replicaSet=rs0"
                    "&connectTimeoutMS=1000&serverSelectionTimeoutMS=2000") as one:
            ends(one, "something listens there and never answers", "connect to MongoDB at", WAITS,
                 "correct mongodb.url, or look at the network")


@pytest.mark.parametrize("policy,ending,remedy", [
    ("fail", LOST, "source.on_unresumable: skip or snapshot (reports a gap), or an empty instance.data_dir"),
    ("skip", ON, "nothing: subscribers get one gap event; a longer oplog"),
    ("snapshot", ON, "nothing: one gap event, then the present documents; a longer oplog"),
])
def test_lost_history(policy, ending, remedy):
    with Mongo() as mongo:
        mongo.needs_stand_in("to cut its oplog short")
        with Source(mongo.uri, source__on_unresumable=policy) as one:
            one.streams()
            mongo.client.shop.c.insert_one({"_id": 1})
            one.wait_for(lambda: one.instance.counter("puller", "millrace_log_last_sequence") == 1, "the event")
            assert one.instance.stop() == 0
            for i in range(100, 150):
                mongo.client.shop.c.insert_one({"_id": i})
            mongo.trim()
            one.start()
            ends(one, f"the oplog no longer reaches back, on_unresumable: {policy}", r"\(code 286\)", ending, remedy)


def test_an_older_server_gives_no_snapshots():
    with Mongo(version="4.4.0") as old:
        old.needs_stand_in("to be old")
        old.client.shop.c.insert_one({"_id": 1})
        with Source(old.uri, source__start="snapshot") as one:
            ends(one, "a snapshot of a server before 5.0", "of a MongoDB from 5.0 on", CONFIGURATION,
                 "source.start: from_now, or a newer server")


def test_the_page_shows_what_was_seen(request):
    SECTION.check(request)
