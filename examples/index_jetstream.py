#!/usr/bin/python3
"""The same copy as index_consumer.py keeps, from the fan-out's JetStream stream instead of the relay.

    index_jetstream.py --nats nats://127.0.0.1:4222 --collection orders --copy orders.sqlite \\
        --snapshot postgresql://me@db/shop --key id

Needs nats-py. The copy's own place is what counts, not the server's: at every start the pull consumer is made anew
behind it, so that messages come in the stream's order, and a message that is not the next one is a gap. The stream is
the buffer of a rebuild: what happens meanwhile waits in it, and over the bounds the rebuild begins again."""

import asyncio
import json
import time

import nats
import nats.errors
import nats.js.errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from index_consumer import Copy, Overflow, arguments, say, snapshot

FETCH = 100


class Rebuild(Exception):
    """The copy cannot go on from where it is; the text says why."""


class Place:
    """A sequence of the stream, and the marker that was in the message there: by it a stream that was made anew is
    known, although its sequences may be the same."""

    def __init__(self, sequence, marker):
        self.sequence, self.marker = sequence, marker

    @classmethod
    def parse(cls, text):
        sequence, _, marker = text.partition(" ")
        return cls(int(sequence), marker)

    def __str__(self):
        return f"{self.sequence} {self.marker}"


class Consumer:
    def __init__(self, args):
        self.args, self.copy = args, Copy(args)
        self.place, self.level, self.live = None, 0, False
        self.nearer = self.nearest = None  # until it is live: when least waited, and how many
        self.js = self.pull = None

    async def state(self):
        return (await self.js.stream_info(self.args.stream)).state

    async def check_place(self):
        """Does the stream go on from the copy's place?"""
        state, at = await self.state(), self.place
        if at.sequence > state.last_seq:
            raise Rebuild(f"invalid offset: the copy is at {at.sequence}, the stream ends with {state.last_seq}")
        if at.sequence + 1 < state.first_seq:
            raise Rebuild(f"gap: the copy is at {at.sequence}, the stream begins with {state.first_seq}")
        if at.marker and at.sequence >= state.first_seq:
            message = await self.js.get_msg(self.args.stream, at.sequence)
            if (message.headers or {}).get("Millrace-Position") != at.marker:
                raise Rebuild("invalid offset: the stream was made anew")

    async def bind(self):
        """A pull consumer behind the copy's place, in place of an earlier one."""
        try:
            await self.js.delete_consumer(self.args.stream, self.args.id)
        except nats.js.errors.NotFoundError:
            pass
        config = ConsumerConfig(
            durable_name=self.args.id, deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self.place.sequence + 1, ack_policy=AckPolicy.ALL, ack_wait=self.args.ack_wait,
            max_ack_pending=self.args.max_ack_pending)
        self.pull = await self.js.pull_subscribe("", durable=self.args.id, stream=self.args.stream, config=config)

    def measure(self, message):
        """How far behind, by what still waits in the stream and by the age of this message. Catching up, behind a
        rebuild above all, is no lag as long as it comes nearer."""
        behind = message.metadata.num_pending
        age = time.time() - message.metadata.timestamp.timestamp()
        args, level = self.args, 0
        if behind >= args.lag_soft_events or age >= args.lag_soft_seconds:
            level = 1
        self.live |= level == 0
        if not self.live:
            if self.nearest is None or behind < self.nearest:
                self.nearer, self.nearest = time.monotonic(), behind
            if time.monotonic() - self.nearer < args.lag_hard_seconds:
                return
        if behind >= args.lag_hard_events or age >= args.lag_hard_seconds:
            level = 2
        if level != self.level:
            say(f"lag: level {level}, {behind} messages, {age * 1000:.0f} ms")
        self.level = level
        if level == 2 and args.snapshot:
            raise Rebuild("lag")

    async def not_the_next(self, sequence):
        """A message is missing: it is gone from the stream, or was lost on its way and would come again."""
        state = await self.state()
        if state.first_seq > self.place.sequence + 1:
            raise Rebuild(f"gap: {self.place.sequence + 1} to {min(sequence, state.first_seq) - 1} left the stream unread")
        await self.bind()

    async def take(self, messages):
        """Messages of one fetch, in one transaction; a repeat changes nothing."""
        changes, place = [], self.place
        for message in messages:
            sequence, headers = message.metadata.sequence.stream, message.headers or {}
            if sequence <= place.sequence:
                continue
            if sequence != place.sequence + 1:
                break
            place = Place(sequence, headers.get("Millrace-Position", ""))
            if "Millrace-Omitted" in headers:
                raise Rebuild("a document was too large for the stream")
            event = json.loads(message.data)["event"]
            if event["operation"] == "gap":
                raise Rebuild(f"gap: {json.dumps(event.get('document'))}")
            if event["collection"] in (self.args.collection, ""):
                document = event.get("document")
                changes.append((event["operation"], event["documentId"], document and json.dumps(document),
                                event.get("update") or {}))
        self.copy.apply(changes, str(place))
        self.place = place
        last = messages[-1]
        if last.metadata.sequence.stream > place.sequence:
            await self.not_the_next(last.metadata.sequence.stream)
        else:
            await last.ack()  # speaks for all before it
        self.measure(last)

    async def rebuild(self, why):
        """Replace the copy by the database's state; what the stream got meanwhile is applied to it afterwards."""
        say(f"rebuild: {why}")
        self.copy.put("rebuilding", why)
        before = await self.state()  # before the snapshot: whatever it lacks comes behind this place
        rows = await asyncio.to_thread(lambda: list(snapshot(self.args)))
        await asyncio.sleep(self.args.pause)
        after = await self.state()
        if after.last_seq - before.last_seq > self.args.buffer_events or \
                after.bytes - before.bytes > self.args.buffer_bytes:
            raise Overflow(f"over {self.args.buffer_events} events or {self.args.buffer_bytes} bytes")
        self.place, self.level, self.live = Place(before.last_seq, ""), 0, False
        self.copy.replace(rows, str(self.place))
        say(f"rebuilt: {len(rows)} documents")

    async def begin(self, why):
        """why: a rebuild that is to be done first."""
        marker = self.copy.get("marker")
        self.nearest = None
        why = why or self.copy.get("rebuilding") or ("" if marker or not self.args.snapshot else "there is no copy yet")
        if why:
            await self.rebuild(why)
        elif marker:
            self.place = Place.parse(marker)
        else:
            self.place = Place(max((await self.state()).first_seq, 1) - 1, "")
        await self.check_place()
        await self.bind()

    async def follow(self, why):
        connection = await nats.connect(self.args.nats, max_reconnect_attempts=0, allow_reconnect=False,
                                        connect_timeout=2)
        try:
            self.js = connection.jetstream(timeout=5)
            await self.begin(why)
            while True:
                try:
                    messages = await self.pull.fetch(FETCH, timeout=1)
                except nats.errors.TimeoutError:
                    await self.check_place()
                    continue
                await self.take(messages)
        finally:
            await connection.close()

    async def run(self):
        why = ""
        while True:
            try:
                await self.follow(why)
            except Rebuild as error:
                why = str(error)
                continue
            except Overflow as error:
                why = f"the buffer overflowed: {error}"
                continue
            except (nats.errors.Error, nats.js.errors.Error, OSError) as error:
                say(f"{type(error).__name__}: {error}")
                why = ""  # a rebuild that was under way is noted in the copy
            await asyncio.sleep(0.1)


def main():
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--nats", default="nats://127.0.0.1:4222")
    parser.add_argument("--stream", default="QUERY_INDEX")
    parser.add_argument("--max-ack-pending", type=int, default=200)
    parser.add_argument("--ack-wait", type=float, default=5)
    parser.add_argument("--lag-soft-events", type=int, default=50000)
    parser.add_argument("--lag-hard-events", type=int, default=200000)
    parser.add_argument("--lag-soft-seconds", type=float, default=30)
    parser.add_argument("--lag-hard-seconds", type=float, default=120)
    args = parser.parse_args()
    args.table = args.table or args.collection
    asyncio.run(Consumer(args).run())


if __name__ == "__main__":
    main()
