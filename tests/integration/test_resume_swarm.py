"""Many gateways that drop their streams at random and come back with their markers, while publisher, matchers and
puller are killed: what each subscription got is its filtered log, exactly: each event once, in order. Who stays away
until the log is cut gets a resync, and from there on everything.
At full size: MILLRACE_TEST_GATEWAYS=300 MILLRACE_TEST_SWARM_SECONDS=60."""

import base64
import json
import os
import queue
import random
import signal
import subprocess
import threading
import time

import grpc

from instance import Instance, bin_dir, wait_for
from subscriber import make_filter, open_stream, stubs
from truth import holds

# The rate is what this one client can read.
GATEWAYS = int(os.environ.get("MILLRACE_TEST_GATEWAYS", "16"))
SECONDS = float(os.environ.get("MILLRACE_TEST_SWARM_SECONDS", "10"))
SETTINGS = {"source.kind": "generator", "source.database": "db", "generator.collections": 2, "generator.users": 40,
            "generator.documents": 500,
            "generator.rate": min(400, 12000 // GATEWAYS), "matcher.shards": 2, "supervisor.restarts_max": 0}


def place(marker):
    raw = base64.urlsafe_b64decode(marker + "=" * (-len(marker) % 4))
    return int.from_bytes(raw[9:17], "little")


class Wanted:
    """A subscription: its filter, its marker, what it got since its last beginning."""

    def __init__(self, ident, rng):
        self.id, self.collection = ident, rng.choice(["c0", "c1"])
        self.filters = rng.choice([
            [("user_id", "==", f"u{rng.randrange(40)}")],
            [("status", "in", rng.sample(["open", "paid", "packed", "shipped"], 2)), ("quantity", ">=", rng.randrange(200, 250))],
            [("author.id", "<", rng.randrange(1000, 3000))],
        ])
        self.marker, self.begin, self.got, self.resyncs = "", None, [], 0

    def wants(self, event):
        return event["collection"] == self.collection and all(holds(event["document"] or {}, *f) for f in self.filters)


class Gateway(threading.Thread):
    """Connects, subscribes with its markers, and is cut off after a random while; again and again until told to stay."""

    def __init__(self, name, channel, rng):
        super().__init__(daemon=True)
        self.channel, self.rng, self.errors, self.streams = channel, rng, [], 0
        self.subs = {s.id: s for s in (Wanted(f"{name}-{n}", rng) for n in range(3))}
        self.stay, self.over, self.away = threading.Event(), threading.Event(), 0.0
        self.progress = 0
        self.call = None

    def run(self):
        while not self.over.is_set():
            try:
                self.stream(30 if self.stay.is_set() else self.rng.uniform(0.3, 4))
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE,
                                        grpc.StatusCode.CANCELLED):
                    self.errors.append(f"{error.code()}: {error.details()}")
            self.over.wait(self.away or self.rng.uniform(0, 0.5))

    def stream(self, seconds):
        pb, outgoing = stubs(), queue.Queue()
        for sub in self.subs.values():
            outgoing.put(pb.GatewayMessage(subscribe=pb.SubscribeRequest(
                subscription_id=sub.id, database="db", collection=sub.collection, after=sub.marker,
                filters=[make_filter(*f) for f in sub.filters])))
        self.streams += 1
        self.call = call = open_stream(self.channel, iter(outgoing.get, None))
        timer = threading.Timer(seconds, call.cancel)
        timer.daemon = True
        timer.start()
        beats = time.monotonic()
        try:
            for message in call:
                self.take(message)
                if time.monotonic() - beats > 0.2:
                    beats = time.monotonic()
                    outgoing.put(pb.GatewayMessage(heartbeat=pb.Heartbeat(timestamp=1)))
        finally:
            timer.cancel()
            call.cancel()
            outgoing.put(None)

    def take(self, message):
        kind = message.WhichOneof("payload")
        if kind == "subscribe_response":
            answer = message.subscribe_response
            sub = self.subs[answer.subscription_id]
            if not answer.success:
                self.errors.append(answer.error)
            elif sub.begin is None or answer.resync:
                sub.resyncs += answer.resync
                sub.marker, sub.begin, sub.got = answer.progress, place(answer.progress), []
        elif kind == "delivery":
            for ident in message.delivery.subscription_ids:
                sub = self.subs[ident]
                sub.marker = message.delivery.progress
                sub.got.append(place(sub.marker))
        elif kind == "heartbeat_ack":  # speaks for all of the stream's subscriptions; a delivery for its own
            self.progress = max(self.progress, place(message.heartbeat_ack.progress))


def channels(port, count):
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 20),
               ("grpc.min_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 100)]
    return [grpc.insecure_channel(f"127.0.0.1:{port}", options=options) for _ in range(count)]


def show(instance, end):
    done = subprocess.run([os.path.join(bin_dir(), "millrace"), "log", "show", instance.dir + "/data/log", "--json",
                           "--count", str(end)], capture_output=True, text=True, timeout=120, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def written(instance):
    status = instance.status()
    return max([p["counters"].get("millrace_log_written_sequence", 0) for p in status["processes"]], default=0) if status else 0


def settle(instance, gateways, seconds=60):
    """No more drops; everyone gets all there is now. The sequence through which."""
    for gateway in gateways:
        gateway.stay.set()
        gateway.away = 0.0
    end = wait_for(lambda: written(instance), 20, "the log's end")
    def behind():
        return [g for g in gateways if g.progress < end or any(s.begin is None for s in g.subs.values())]
    try:
        wait_for(lambda: not behind(), seconds, f"everyone to come to {end}")
    except TimeoutError as error:
        one = behind()[0]
        raise TimeoutError(f"{error}: {len(behind())} are behind, one at {one.progress} after {one.streams} streams, "
                           f"{[(s.begin, len(s.got), s.got[-1:]) for s in one.subs.values()]} {one.errors[-2:]}") from None
    return end


def stop(gateways):
    for gateway in gateways:
        gateway.over.set()
        if gateway.call:
            gateway.call.cancel()
    for gateway in gateways:
        gateway.join(10)


def check(gateways, events, end):
    pairs = 0
    for gateway in gateways:
        assert not gateway.errors, gateway.errors[:3]
        for sub in gateway.subs.values():
            expected = [e["sequence"] for e in events if sub.begin < e["sequence"] <= end and sub.wants(e)]
            got = [s for s in sub.got if s <= end]
            assert got == expected, (f"{sub.id} {sub.filters} from {sub.begin}: lost {sorted(set(expected) - set(got))[:5]}, "
                                     f"extra {sorted(set(got) - set(expected))[:5]}, {len(got)} of {len(expected)}")
            pairs += len(got)
    return pairs


def test_each_subscription_gets_its_filtered_log_through_drops_and_kills():
    rng = random.Random(5)
    with Instance({**SETTINGS, "publisher.gateways_max": GATEWAYS + 100}) as instance:
        instance.start()
        lines = channels(instance.grpc_port, 20)
        gateways = [Gateway(f"g{n}", lines[n % 20], random.Random(n)) for n in range(GATEWAYS)]
        for gateway in gateways:
            gateway.start()
        kills, end = [], time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(rng.uniform(0.5, 1.5))
            pids = instance.pids()
            name = rng.choice(["publisher", "matcher-0", "matcher-1", "puller"])
            if name in pids:
                os.kill(pids[name], signal.SIGKILL)
                kills.append(name)
        last = settle(instance, gateways, 60 + GATEWAYS)
        stop(gateways)
        pairs = check(gateways, show(instance, last), last)
        assert all(s.resyncs == 0 for g in gateways for s in g.subs.values())
        print(json.dumps({"gateways": GATEWAYS, "streams": sum(g.streams for g in gateways), "kills": len(kills),
                          "events": last, "deliveries": pairs}))
        for line in lines:
            line.close()


def test_who_comes_back_with_a_marker_older_than_the_log_reads_anew_and_misses_nothing_from_there():
    with Instance({**SETTINGS, "generator.rate": 2000, "log.segment_size": "1MiB", "log.retention_size": "1MiB"}) as instance:
        instance.start()
        follow = subprocess.Popen([os.path.join(bin_dir(), "millrace"), "log", "follow", instance.dir + "/data/log", "--json",
                                   "--after", "0"], stdout=open(os.path.join(instance.dir, "events"), "wb"))
        lines = channels(instance.grpc_port, 4)
        gateways = [Gateway(f"g{n}", lines[n], random.Random(n)) for n in range(4)]
        for gateway in gateways[2:]:
            gateway.away = 6.0  # longer than the log goes back
        for gateway in gateways:
            gateway.start()
        wait_for(lambda: all(s.resyncs > 0 for g in gateways[2:] for s in g.subs.values()), 60, "resyncs")
        last = settle(instance, gateways)
        stop(gateways)
        wait_for(lambda: os.path.getsize(os.path.join(instance.dir, "events")) > 0, 10, "the follower")
        time.sleep(0.5)
        follow.terminate()
        follow.wait()
        with open(os.path.join(instance.dir, "events"), encoding="utf-8") as file:
            events = [json.loads(line) for line in file if line.endswith("\n")]
        assert events[-1]["sequence"] >= last
        check(gateways, events, last)
        for line in lines:
            line.close()
