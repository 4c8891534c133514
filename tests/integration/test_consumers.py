"""Consumers of the log, from outside: where streams begin, what is in them, who may be slow, and what happens
when processes die. MILLRACE_TEST_CONSUMERS, MILLRACE_TEST_EVENTS and MILLRACE_TEST_ROUNDS make the cut-over test
longer: acceptance is 200, 200000 and 10. MILLRACE_TEST_SEED is the first of the rounds' seeds."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request

import grpc
import pytest

from consumer import Relay, flatten, marker_of, refused, sequence_of, take, upstream_marker
from instance import Instance, bin_dir, free_port, wait_for

EVENTS = 20000


def settings(port, **more):
    return {"source.kind": "generator", "generator.rate": "0", "generator.count": str(EVENTS),
            "generator.document_bytes": "150B", "generator.documents": "500", "relay.listen": f"127.0.0.1:{port}",
            "relay.heartbeat_interval": "200ms", **more}


class Bed:
    def __init__(self, **more):
        self.port = free_port()
        self.instance = Instance(settings(self.port, **more))

    def __enter__(self):
        self.instance.start()
        self.relay = Relay(self.port)
        return self

    def __exit__(self, *_):
        self.relay.close()
        self.instance.close()

    def wait_written(self, count=EVENTS):
        wait_for(lambda: self.instance.counter("puller", "millrace_log_written_sequence") >= count, 30, "the log")

    def counter(self, name):
        return self.instance.counter("relay", f"millrace_relay_{name}")


@pytest.fixture(name="bed", scope="module")
def fixture_bed():
    with Bed() as bed:
        bed.wait_written()
        yield bed


def sequences(events):
    return [sequence_of(e.progress) for e in events]


def swarm(bed, last, *more):
    done = subprocess.run(
        [os.path.join(bin_dir(), "consumer-swarm"), f"127.0.0.1:{bed.port}", bed.instance.dir + "/data/log", str(last),
         *more], capture_output=True, text=True, timeout=1000, check=False)
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert done.returncode == 0 and result["wrong"] == 0 and not result["late"], result
    assert result["done"] == result["consumers"]
    return result


def test_consumers_that_join_a_growing_log_anywhere_get_every_event_once_and_in_order():
    consumers = int(os.environ.get("MILLRACE_TEST_CONSUMERS", "16"))
    events = int(os.environ.get("MILLRACE_TEST_EVENTS", "20000"))
    rate = min(20000, events // 3)  # not over before the consumers are there
    first = int(os.environ.get("MILLRACE_TEST_SEED", "1"))
    for seed in range(first, first + int(os.environ.get("MILLRACE_TEST_ROUNDS", "1"))):
        with Bed(**{"generator.rate": str(rate), "generator.count": str(events)}) as bed:
            result = swarm(bed, events, f"consumers={consumers}", f"seed={seed}",
                           f"join_ms={800 * events // rate}", "seconds=900")
            print(seed, result, "live", bed.counter("encoded_events_total"),
                  "from disk", bed.counter("catch_up_events_total"))
            assert result["checked"] == events and result["cuts"] > 0
            assert bed.counter("encoded_events_total") > 0 and bed.counter("catch_up_events_total") > 0


MANY = int(os.environ.get("MILLRACE_TEST_MANY", "100"))


def test_many_consumers_at_once_within_the_memory_that_is_configured():
    events = EVENTS // 10
    with Bed(**{"generator.rate": "2000", "generator.count": str(events), "relay.memory_size": "32MiB"}) as bed:
        same = {}
        sharers = threading.Thread(target=lambda: same.update(
            swarm(bed, events, "consumers=24", "same_id=1", "join_ms=1000", "seconds=600")))
        sharers.start()
        many = swarm(bed, events, f"consumers={MANY}", "killed=0", "slow=5", "batch=100", "join_ms=2000", "seconds=600")
        sharers.join()
        print(same, many)
        assert same["done"] == 24
        relay = next(p for p in bed.instance.status()["processes"] if p["kind"] == "relay")
        print("rss", relay["rss_bytes"], "of events", bed.counter("memory_bytes"))
        assert bed.counter("memory_bytes") <= 32 << 20


def test_an_empty_marker_begins_with_what_comes_and_heartbeats_tell_the_place(bed):
    stream = bed.relay.subscribe(consumer_id="now")
    beat = next(stream)
    assert not beat.HasField("change_event") and sequence_of(beat.progress) == EVENTS
    stream.cancel()


@pytest.mark.parametrize("after", ["e30", upstream_marker({}), upstream_marker({"elsewhere": "1-2-ab"})])
def test_a_marker_without_a_position_begins_with_the_oldest_event(bed, after):
    assert sequences(take(bed.relay.subscribe(after=after, batch=True), 1000)) == list(range(1, 1001))


def test_a_stream_begins_behind_its_marker_one_by_one_or_in_batches(bed):
    first = take(bed.relay.subscribe(after="e30"), 700)
    assert sequences(first) == list(range(1, 701))
    rest = take(bed.relay.subscribe(after=first[-1].progress), 600)
    assert sequences(rest) == list(range(701, 1301))
    batched = take(bed.relay.subscribe(after=first[299].progress, batch=True), 1000)
    assert sequences(batched) == list(range(301, 1301))
    assert [e.SerializeToString() for e in batched[400:]] == [e.SerializeToString() for e in rest]


def test_batches_hold_as_many_events_as_configured(bed):
    stream = bed.relay.subscribe(after="e30", batch=True)
    sizes = [len(next(stream).batch) for _ in range(5)]
    stream.cancel()
    assert sizes == [255, 256, 256, 256, 256]  # pieces end at multiples of 256


def test_an_upstream_marker_begins_behind_its_event(bed):
    events = take(bed.relay.subscribe(after="e30", batch=True), 9000)
    marker = upstream_marker({"generator": events[7777].change_event.event_id, "other": "1-1-x"})
    assert sequences(take(bed.relay.subscribe(after=marker), 3)) == [7779, 7780, 7781]


@pytest.mark.parametrize("after", ["!", "AAAA", "e30=", "W10", upstream_marker({"generator": "17-x"})])
def test_no_marker_is_an_invalid_argument(bed, after):
    error = refused(bed.relay.subscribe(after=after))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT and "marker" in error.details()


def test_an_event_that_is_not_there_and_another_log_are_out_of_range(bed):
    for after in (upstream_marker({"generator": "0-999999999-00"}), "AQEAAAAAAAAAAQAAAAAAAAA"):
        error = refused(bed.relay.subscribe(after=after))
        assert error.code() == grpc.StatusCode.OUT_OF_RANGE, error
    here = next(bed.relay.subscribe(consumer_id="now")).progress
    error = refused(bed.relay.subscribe(after=marker_of(here, EVENTS + 1)))
    assert error.code() == grpc.StatusCode.OUT_OF_RANGE and "has reached" in error.details()


def test_a_marker_older_than_the_log_is_out_of_range_and_told_the_floor():
    with Bed(**{"generator.count": "40000", "log.segment_size": "1MiB", "log.retention_size": "2MiB",
                "checkpoint.interval": "50ms"}) as bed:
        bed.wait_written(40000)
        floor = wait_for(lambda: (f := bed.instance.counter("puller", "millrace_log_floor_sequence")) > 1 and f, 20,
                         "retention")
        here = next(bed.relay.subscribe(consumer_id="now")).progress
        error = refused(bed.relay.subscribe(after=marker_of(here, 1)))
        assert error.code() == grpc.StatusCode.OUT_OF_RANGE
        marker = dict(error.trailing_metadata())["millrace-floor"]
        assert sequence_of(marker) + 1 >= floor and f"sequence {sequence_of(marker) + 1}" in error.details()
        assert marker in error.details()
        events = take(bed.relay.subscribe(after=marker, batch=True), 100)
        assert sequences(events)[0] == sequence_of(marker) + 1
        assert sequences(take(bed.relay.subscribe(after="e30"), 1))[0] == sequence_of(marker) + 1
        assert bed.counter("out_of_range_total") >= 1


def test_only_the_collections_that_were_asked_for(bed):
    events = take(bed.relay.subscribe(after="e30", batch=True, collections=["c1", "c3"]), 4000)
    assert {e.change_event.mgo_coll for e in events} == {"c1", "c3"}
    everything = take(bed.relay.subscribe(after="e30", batch=True), sequences(events)[-1])
    wanted = [e for e in everything if e.change_event.mgo_coll in ("c1", "c3")]
    assert sequences(events) == sequences(wanted)
    stream = bed.relay.subscribe(after="e30", batch=True, collections=["none"])
    beat = next(m for m in stream if sequence_of(m.progress) == EVENTS)  # its place moves on all the same
    assert not beat.HasField("change_event")
    stream.cancel()


def apply(copy, event):
    change = event.change_event
    key = (change.mgo_coll, change.mgo_doc_id)
    if change.op_type == "delete":
        copy.pop(key, None)
    else:
        copy[key] = change.full_doc


@pytest.mark.parametrize("more", [{}, {"batch": True}, {"batch": True, "atomic_progress": True}])
def test_a_coalesced_catch_up_ends_in_the_same_state_with_fewer_events(bed, more):
    plain, coalesced, count, last = {}, {}, 0, ""
    for event in take(bed.relay.subscribe(after="e30", batch=True), EVENTS):
        apply(plain, event)
    stream = bed.relay.subscribe(after="e30", coalesce_on_catch_up=True, **more)
    for event in flatten(stream):
        if event.HasField("change_event"):
            apply(coalesced, event)
            assert event.change_event.backend == "generator"
            count += 1
        last = event.progress or last
        if last and sequence_of(last) == EVENTS:
            break
    stream.cancel()
    assert coalesced == plain and count < EVENTS
    assert bed.counter("coalesced_events_total") > 0


def test_acknowledged_places_outlive_the_relay():
    with Bed() as bed:
        bed.wait_written()
        events = take(bed.relay.subscribe(after="e30", batch=True), 5000)
        assert bed.relay.acknowledge("me").progress == ""
        assert bed.relay.acknowledge("me", events[2999].progress).progress == events[2999].progress
        assert bed.relay.acknowledge("me", events[10].progress).progress == events[2999].progress  # never back
        bed.relay.acknowledge("me", events[99].progress, collection="c1")
        os.kill(bed.instance.pids()["relay"], signal.SIGKILL)
        assert bed.relay.acknowledge("me").progress == events[2999].progress
        assert bed.relay.acknowledge("me", collection="c1").progress == events[99].progress
        again = take(bed.relay.subscribe(consumer_id="me", from_checkpoint=True, after="e30"), 10)
        assert sequences(again) == list(range(3001, 3011))
        other = take(bed.relay.subscribe(consumer_id="you", from_checkpoint=True, after="e30"), 10)
        assert sequences(other) == list(range(1, 11))
        assert bed.relay.acknowledge("me", events[5].progress, rebuilt=True).progress == events[5].progress
        for progress in ("nonsense", "AQEAAAAAAAAAAQAAAAAAAAA"):
            with pytest.raises(grpc.RpcError) as error:
                bed.relay.acknowledge("me", progress)
            assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_consumer_loses_and_repeats_nothing_whoever_is_killed():
    """The relay and the puller die at random moments; the consumer comes back with its marker."""
    with Bed(**{"generator.rate": "3000"}) as bed:
        got, marker, deadline = [], "e30", time.monotonic() + 60

        def kill():
            for name in ("relay", "puller", "relay", "puller", "relay"):
                time.sleep(0.7)
                pid = bed.instance.pids().get(name)
                if pid:
                    os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        breaks = 0
        while len(got) < EVENTS and time.monotonic() < deadline:
            try:
                for event in flatten(bed.relay.subscribe(after=marker, batch=True)):
                    marker = event.progress
                    if event.HasField("change_event"):
                        got.append(sequence_of(marker))
                    if len(got) >= EVENTS:
                        break
            except grpc.RpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), error
                breaks += 1
        killer.join()
        assert got == list(range(1, EVENTS + 1)) and breaks > 0


def test_a_consumer_that_does_not_read_holds_up_nobody():
    with Bed(**{"generator.rate": "5000", "generator.document_bytes": "2KiB", "relay.lag_soft_events": "3000",
                "relay.lag_hard_events": "1000000"}) as bed:
        lazy = bed.relay.subscribe(after="", batch=False, consumer_id="lazy")
        next(lazy)  # live; and from here on it does not read
        with Relay(bed.port) as quick:
            assert len(take(quick.subscribe(after="e30", batch=True), EVENTS)) == EVENTS
        wait_for(lambda: bed.instance.counter("puller", "millrace_feed_sequence") == EVENTS, 30, "the pipeline")
        lazy.cancel()


class LineBed(Bed):
    """Events are what the test appends to a file."""

    def __init__(self, path, **more):
        super().__init__(**{"source.kind": "ndjson", "ndjson.path": str(path), "ndjson.follow": True, **more})
        self.path = path
        path.touch()

    def append(self, collection, ident, more=""):
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"collection": collection, "id": ident, "doc": {"n": 1}}) + "\n" + more)


class Reader(threading.Thread):
    """Messages of a stream, as they come."""

    def __init__(self, stream):
        super().__init__(daemon=True)
        self.stream, self.messages = stream, []
        self.start()

    def run(self):
        try:
            for message in self.stream:
                self.messages.append(message)
        except grpc.RpcError:
            pass

    def events(self):
        return [e for m in self.messages for e in m.batch or [m] if e.HasField("change_event")]

    def notices(self):
        return [m for m in self.messages if m.HasField("lag") or m.HasField("rebuild")]


BY_TIME = {"relay.lag_soft_time": "1s", "relay.lag_hard_time": "2s"}
BY_EVENTS = {"relay.lag_soft_events": "20", "relay.lag_hard_events": "30"}


@pytest.mark.parametrize("limits, rebuilt", [(BY_TIME, False), (BY_TIME, True), (BY_EVENTS, False)],
                         ids=["by time", "by time behind a rebuild", "by events"])
def test_who_has_acknowledged_all_that_it_got_is_not_behind_while_others_are_written(tmp_path, limits, rebuilt):
    with LineBed(tmp_path / "lines", **limits) as bed:
        reader = Reader(bed.relay.subscribe(consumer_id="quiet", after="e30", batch=True, rebuild=True,
                                            collections=["orders"]))

        def others():
            for i in range(50):
                bed.append("users", f"u{i}")
                time.sleep(0.05)

        bed.append("orders", "o1")
        first = wait_for(reader.events, 10, "the first event")[0]
        bed.relay.acknowledge("quiet", first.progress, rebuilt=rebuilt)
        others()
        bed.append("orders", "o2")  # what it skipped before this one counts no more than it did
        second = wait_for(lambda: reader.events()[1:], 10, "the second event")[0]
        bed.relay.acknowledge("quiet", first.progress)  # says nothing new
        time.sleep(0.3)
        bed.relay.acknowledge("quiet", second.progress)
        others()
        assert not reader.notices(), reader.notices()
        begin = time.monotonic()
        bed.append("orders", "o3")  # and this one it does not acknowledge
        if limits == BY_EVENTS:
            others()
        wait_for(lambda: any(m.HasField("rebuild") for m in reader.messages), 10, "the hard lag")
        assert limits == BY_EVENTS or time.monotonic() - begin > 1.9


def follow(bed, after="e30", **more):
    return Reader(bed.relay.subscribe(consumer_id="me", after=after, batch=True, rebuild=True, **more))


def test_a_stream_from_an_old_checkpoint_owes_nothing_of_what_it_skipped(tmp_path):
    with LineBed(tmp_path / "lines", **BY_EVENTS) as bed:
        bed.append("orders", "o1")
        first = wait_for(follow(bed, collections=["orders"]).events, 10, "the first event")[0]
        bed.relay.acknowledge("me", first.progress)
        for i in range(50):
            bed.append("users", f"u{i}")
        bed.wait_written(51)
        again = follow(bed, collections=["orders"], from_checkpoint=True)
        wait_for(lambda: again.messages and sequence_of(again.messages[-1].progress) == 51, 10, "it to be live")
        bed.append("orders", "o2")
        wait_for(again.events, 10, "the second event")
        time.sleep(0.3)
        assert not again.notices(), again.notices()


def test_a_place_of_one_collection_moves_the_streams_of_that_collection_only(tmp_path):
    with LineBed(tmp_path / "lines", **{"relay.lag_soft_time": "1s", "relay.lag_hard_time": "2s"}) as bed:
        orders, users = follow(bed, collections=["orders"]), follow(bed, collections=["users"])
        wait_for(lambda: orders.messages and users.messages, 10, "both streams to be live")
        for i in range(3):
            bed.append("orders", f"o{i}")
            bed.append("users", f"u{i}")
        wait_for(lambda: len(orders.events()) == len(users.events()) == 3, 10, "the events")
        bed.relay.acknowledge("me", orders.events()[-1].progress, collection="orders")
        bed.relay.acknowledge("me", users.events()[0].progress, collection="users")
        wait_for(lambda: [m for m in users.messages if m.HasField("rebuild")], 10, "the rebuild of users")
        assert not orders.notices(), orders.notices()
        answer = bed.relay.acknowledge("me")
        assert answer.rebuild_required and not answer.progress  # nothing was acknowledged for the id as a whole
        marked = follow(bed, collections=["users"], from_checkpoint=True)
        wait_for(lambda: [m for m in marked.messages if m.rebuild.cause == "not_rebuilt"], 10, "the mark")
        bed.relay.acknowledge("me", answer.head, collection="users", rebuilt=True)
        assert not bed.relay.acknowledge("me").rebuild_required
        again = follow(bed, after=answer.head, collections=["users"], from_checkpoint=True)
        bed.append("users", "last")
        assert wait_for(again.events, 10, "an event behind the rebuild")[0].change_event.mgo_doc_id == "last"


def test_a_stream_that_nobody_reads_any_more_marks_no_consumer_that_has_a_newer_one():
    with Bed(**{"generator.rate": "4000", "generator.document_bytes": "2KiB", "relay.lag_soft_events": "1000",
                "relay.lag_hard_events": "3000"}) as bed:
        lazy = bed.relay.subscribe(consumer_id="me", batch=True, rebuild=True)
        next(lazy)  # and no more
        with Relay(bed.port) as quick:
            stream = quick.subscribe(consumer_id="me", batch=True, rebuild=True)
            for event in flatten(stream):
                assert not event.HasField("rebuild")
                if event.HasField("change_event") and sequence_of(event.progress) % 100 == 0:
                    quick.acknowledge("me", event.progress)
                if sequence_of(event.progress) >= 12000:
                    break
            stream.cancel()
        assert bed.counter("rebuilds_total") == 1
        assert not bed.relay.acknowledge("me").rebuild_required
        lazy.cancel()


def test_what_a_source_gave_before_it_failed_is_delivered_and_can_be_acknowledged(tmp_path):
    with LineBed(tmp_path / "lines") as bed:
        reader = Reader(bed.relay.subscribe(consumer_id="me", after="e30", batch=True))
        bed.append("orders", "o1")
        wait_for(reader.events, 10, "the first event")
        bed.append("orders", "o2", more="no event\n")
        last = wait_for(lambda: reader.events()[1:], 10, "the event before the bad line")[0]
        assert bed.relay.acknowledge("me", last.progress).progress == last.progress
        wait_for(lambda: "no event" in bed.instance.log_tail(), 10, "the failure")
        assert next(bed.relay.subscribe(after=last.progress)).progress == last.progress  # a heartbeat, and no refusal


def test_a_stream_whose_filter_lets_nothing_through_hears_of_its_place_every_few_thousand_events():
    with Bed(**{"generator.rate": "10000", "relay.heartbeat_interval": "1m"}) as bed:
        reader = Reader(bed.relay.subscribe(after="e30", batch=True, collections=["none"]))
        bed.wait_written()
        wait_for(lambda: reader.messages and sequence_of(reader.messages[-1].progress) > EVENTS - 5000, 10, "a heartbeat")
        places = [0] + [sequence_of(m.progress) for m in reader.messages]
        assert all(b - a < 6000 for a, b in zip(places, places[1:])), places


def metrics(bed, name):
    """Label text -> value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{bed.instance.http_port}/metrics") as answer:
        text = answer.read().decode()
    found = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(f"millrace_relay_consumer_{name}{{")]
    return {labels.partition("{")[2].rstrip("}"): float(value) for labels, value in found}


def test_each_consumer_has_metrics_of_its_own_that_outlive_the_relay():
    with Bed(**{"relay.lag_soft_events": "1000", "relay.lag_hard_events": "5000", "relay.lag_soft_time": "500ms",
                "relay.lag_hard_time": "1s"}) as bed:
        bed.wait_written()
        both = [bed.relay.subscribe(consumer_id='in"dex', after="e30", batch=True, collections=["c1"]) for _ in (1, 2)]
        for stream in both:
            next(stream)
        index = 'consumer="in?dex",collection="c1"'
        wait_for(lambda: metrics(bed, "streams").get(index) == 2, 5, "two streams")
        both[0].cancel()
        wait_for(lambda: metrics(bed, "streams").get(index) == 1, 5, "one stream")
        assert metrics(bed, "events_total")[index] > 0
        bed.relay.acknowledge("slow", next(bed.relay.subscribe(after="e30")).progress)
        slow = bed.relay.subscribe(consumer_id="slow", from_checkpoint=True, rebuild=True, batch=True)
        assert any(message.HasField("rebuild") for message in slow)
        row = 'consumer="slow",collection=""'
        assert metrics(bed, "rebuilds_total")[row] == 1
        wait_for(lambda: metrics(bed, "level")[row] == 2 and metrics(bed, "lag_events")[row] > 10000, 5, "the lag")
        os.kill(bed.instance.pids()["relay"], signal.SIGKILL)
        wait_for(lambda: metrics(bed, "streams")[row] == 0, 10, "the new relay")
        assert metrics(bed, "rebuilds_total")[row] == 1
        for i in range(70):
            next(bed.relay.subscribe(consumer_id=f"c{i}", after="e30"))
        assert len(metrics(bed, "streams")) == 64 and metrics(bed, "events_total")['consumer="(others)",collection=""'] > 0


def test_over_the_limit_of_streams_the_next_is_refused():
    with Bed(**{"relay.consumers_max": "3"}) as bed:
        streams = [bed.relay.subscribe(after="e30") for _ in range(3)]
        for stream in streams:
            next(stream)
        assert refused(bed.relay.subscribe()).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        for stream in streams:
            stream.cancel()


def test_a_damaged_log_ends_the_stream_with_data_loss_and_names_the_place():
    with Bed(**{"generator.count": "40000", "log.segment_size": "2MiB"}) as bed:
        bed.wait_written(40000)
        log = os.path.join(bed.instance.dir, "data", "log")
        first = sorted(f for f in os.listdir(log) if f.endswith(".mrlog"))[0]
        with open(os.path.join(log, first), "r+b") as segment:
            segment.seek(1 << 20)
            byte = segment.read(1)
            segment.seek(1 << 20)
            segment.write(bytes([byte[0] ^ 1]))
        got = []
        with pytest.raises(grpc.RpcError) as error:
            for event in flatten(bed.relay.subscribe(after="e30", batch=True)):
                got.append(event)
        assert error.value.code() == grpc.StatusCode.DATA_LOSS and first in error.value.details()
        assert sequences(got) == list(range(1, len(got) + 1))


def test_stopping_tells_consumers_to_come_again():
    with Bed() as bed:
        bed.wait_written()
        stream = bed.relay.subscribe(consumer_id="now")
        next(stream)
        assert bed.instance.stop() == 0
        assert refused(stream).code() == grpc.StatusCode.UNAVAILABLE


def threads(pid):
    found = set()
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
            with open(f"/proc/{pid}/task/{task}/comm", encoding="utf-8") as name:
                found.add(name.read().strip())
    return found


def test_who_acknowledges_while_the_relay_stops_is_told_to_come_again():
    """The call is open before the relay stops, its request comes after: nothing is there any more to write to."""
    with Bed() as bed:
        bed.wait_written()
        marker = next(bed.relay.subscribe(after="e30")).progress
        pid, may_send = bed.instance.pids()["relay"], threading.Event()

        def requests(request):
            may_send.wait(10)
            yield request

        acknowledging = bed.relay.late("Acknowledge", requests(bed.relay.pb.AcknowledgeRequest(
            consumer_id="me", progress=marker)))
        subscribing = bed.relay.late("Subscribe", requests(bed.relay.pb.SubscribeRequest(
            consumer_id="me", from_checkpoint=True, after=marker)))
        live = bed.relay.subscribe()
        own = {"fetch", "checkpoints"}
        assert own <= threads(pid)
        for call in (acknowledging, subscribing, live):
            call.initial_metadata()
        os.kill(pid, signal.SIGTERM)
        assert refused(live).code() == grpc.StatusCode.UNAVAILABLE
        wait_for(lambda: not own & threads(pid), 10, "its threads to end")
        may_send.set()
        errors = [refused(acknowledging), refused(subscribing)]
        assert [e.code() for e in errors] == [grpc.StatusCode.UNAVAILABLE] * 2, errors
        assert all("the relay is stopping" in e.details() for e in errors), errors
        wait_for(lambda: bed.instance.pids().get("relay") not in (None, pid), 10, "the next relay")
        assert "signal 11" not in bed.instance.log_tail()


def test_an_event_that_is_looked_for_while_the_log_is_not_readable_is_answered_with_unavailable():
    with Bed() as bed:
        bed.wait_written()
        log = os.path.join(bed.instance.dir, "data", "log")
        os.rename(log, log + ".away")
        error = refused(bed.relay.subscribe(after=upstream_marker({"generator": "1-2-ab"}), timeout=5))
        os.rename(log + ".away", log)
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
        assert "the log ends before" in error.details() and "connect again" in error.details()
        error = refused(bed.relay.subscribe(after=upstream_marker({"generator": "1-2-ab"})))
        assert error.code() == grpc.StatusCode.OUT_OF_RANGE


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        return sum(map(int, stat.read().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def test_a_relay_whose_log_is_away_waits_for_it_without_spinning():
    with Bed() as bed:
        bed.wait_written()
        log, pid = os.path.join(bed.instance.dir, "data", "log"), bed.instance.pids()["relay"]
        os.rename(log, log + ".away")
        waiting = bed.relay.subscribe(consumer_id="now")
        next(waiting)
        wait_for(lambda: "tail_waits" in bed.instance.log_tail(), 5, "the log to be missed")
        begin = cpu_seconds(pid)
        time.sleep(1)
        assert cpu_seconds(pid) - begin < 0.3
        os.rename(log + ".away", log)
        waiting.cancel()


def test_before_the_log_is_open_a_consumer_is_told_to_come_again():
    with Instance(settings(port := free_port())) as instance, Relay(port) as relay:
        log = os.path.join(instance.dir, "data", "log")
        os.makedirs(log)
        with open(os.path.join(log, "lock"), "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            instance.start(ready_seconds=0)
            known = marker_of("AQEAAAAAAAAAAQAAAAAAAAA", 1)
            calls = [lambda: next(relay.subscribe(after=known)), lambda: relay.acknowledge_once("me", known),
                     lambda: relay.acknowledge_once("me")]
            for call in calls:
                with pytest.raises(grpc.RpcError) as error:
                    call()
                assert error.value.code() == grpc.StatusCode.UNAVAILABLE, error.value
                assert "the log is not open yet" in error.value.details()
        instance.wait_ready()
        assert relay.acknowledge("me").progress == ""
