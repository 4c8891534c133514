"""A subscription with snapshot: the current state, then the changes, no gap between them: at every place, state and
changes together are what the log says of the collection then. MILLRACE_TEST_SNAPSHOTS: tries (default 60; at full
size 1000)."""

import json
import os
import queue
import random
import subprocess
import threading

import grpc

from instance import Instance, bin_dir, wait_for
from subscriber import make_filter, open_stream, stubs
from test_resume_swarm import place
from truth import holds

TRIES = int(os.environ.get("MILLRACE_TEST_SNAPSHOTS", "60"))
# Fields that stay the same for all of a document's life: none leaves a result but by its delete.
KINDS = [("c0", []), ("c1", []), ("c0", [("user_id", "==", "u3")]), ("c1", [("author.id", "<", 20000)])]


class Reader(threading.Thread):
    """Tries, one after the other on streams of their own: (kind, documents -> event id, through which sequence)."""

    def __init__(self, port, tries, rng):
        super().__init__(daemon=True)
        self.port, self.tries, self.rng, self.results, self.wrong = port, tries, rng, [], []

    def run(self):
        with grpc.insecure_channel(f"127.0.0.1:{self.port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            for _ in range(self.tries):
                self.one(channel, self.rng.randrange(len(KINDS)))

    def one(self, channel, kind):
        pb, outgoing, state, changes, begun = stubs(), queue.Queue(), {}, [], None
        collection, filters = KINDS[kind]
        outgoing.put(pb.GatewayMessage(subscribe=pb.SubscribeRequest(
            subscription_id="s", database="db", collection=collection, filters=[make_filter(*f) for f in filters], snapshot=True)))
        call = open_stream(channel, iter(outgoing.get, None))
        more = self.rng.randrange(400)
        for message in call:
            what = message.WhichOneof("payload")
            if what == "delivery":
                delivery, event = message.delivery, message.delivery.event
                if delivery.snapshot != (begun is None) or bool(delivery.progress) == delivery.snapshot:
                    self.wrong.append(f"snapshot={delivery.snapshot} progress={delivery.progress} begun={begun}")
                if delivery.snapshot and event.document_id in state:
                    self.wrong.append(f"{event.document_id} is there twice in the snapshot")
                if delivery.snapshot:
                    state[event.document_id] = event.event_id
                else:
                    changes.append((place(delivery.progress), event.operation, event.document_id, event.event_id))
                continue
            if what == "subscribe_response":
                if not message.subscribe_response.success or message.subscribe_response.resync:
                    self.wrong.append(str(message))
                    break
                begun = place(message.subscribe_response.progress)
            elif place(message.heartbeat_ack.progress) >= begun + more:
                through = place(message.heartbeat_ack.progress)  # more may have come already
                for at, operation, ident, event_id in changes:
                    if at <= through and operation == pb.OPERATION_TYPE_DELETE:
                        state.pop(ident, None)
                    elif at <= through:
                        state[ident] = event_id
                self.results.append((through, kind, state))
                break
            outgoing.put(pb.GatewayMessage(heartbeat=pb.Heartbeat(timestamp=1)))
        call.cancel()
        outgoing.put(None)


def test_snapshot_and_changes_are_the_table_at_every_place():
    settings = {"source.kind": "generator", "source.database": "db", "generator.collections": 2, "generator.users": 20,
                "generator.documents": 3000, "generator.rate": 1500, "matcher.shards": 2}
    with Instance(settings) as instance:
        instance.start()
        wait_for(lambda: instance.counter("puller", "millrace_log_written_sequence") > 2000, 20, "a beginning")
        readers = [Reader(instance.grpc_port, TRIES // 4, random.Random(n)) for n in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(60 + TRIES)
        results = sorted((r for reader in readers for r in reader.results), key=lambda r: r[0])
        assert not any(reader.wrong for reader in readers), [reader.wrong[:3] for reader in readers]
        assert len(results) == TRIES // 4 * 4
        wait_for(lambda: instance.counter("puller", "millrace_log_written_sequence") >= results[-1][0], 20, "the log")
        shown = subprocess.run([os.path.join(bin_dir(), "millrace"), "log", "show", instance.dir + "/data/log", "--json",
                                "--count", str(results[-1][0])], capture_output=True, text=True, timeout=300, check=True)
        events = (json.loads(line) for line in shown.stdout.splitlines())
        tables, at, documents = [{} for _ in KINDS], 0, 0
        for through, kind, state in results:
            while at < through:
                event = next(events)
                at = event["sequence"]
                for table, (collection, filters) in zip(tables, KINDS):
                    if event["collection"] == collection and all(holds(event["document"] or {}, *f) for f in filters):
                        if event["op"] == "delete":
                            table.pop(event["document_id"], None)
                        else:
                            table[event["document_id"]] = event["id"]
            assert at == through and state == tables[kind], (
                f"through {through}, {KINDS[kind]}: not there {set(tables[kind]) - set(state)}, "
                f"too many {set(state) - set(tables[kind])}")
            documents += len(state)
        print(json.dumps({"tries": len(results), "events": at, "documents": documents}))


def test_a_log_that_no_longer_begins_with_its_first_event_says_resync():
    settings = {"source.kind": "generator", "source.database": "db", "generator.rate": 5000,
                "log.segment_size": "1MiB", "log.retention_size": "1MiB"}
    with Instance(settings) as instance:
        instance.start()
        wait_for(lambda: instance.counter("puller", "millrace_log_written_sequence") > 12000, 60, "a log that was cut")

        def response():
            pb, outgoing = stubs(), queue.Queue()
            with grpc.insecure_channel(f"127.0.0.1:{instance.grpc_port}") as channel:
                outgoing.put(pb.GatewayMessage(subscribe=pb.SubscribeRequest(
                    subscription_id="s", database="db", collection="c0", snapshot=True)))
                call = open_stream(channel, iter(outgoing.get, None))
                message = next(m for m in call if m.WhichOneof("payload") == "subscribe_response")
                call.cancel()
                outgoing.put(None)
                return message.subscribe_response
        assert wait_for(lambda: (lambda r: r.success and r.resync and r.progress)(response()), 30, "a resync")
