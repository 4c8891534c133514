"""Leases and the clock: thousands of subscriptions with random times to live and heartbeats end when a model says so,
while the wall clock is set an hour forth and back. MILLRACE_TEST_LEASES: how many (default 2000)."""

import bisect
import os
import random
import shutil
import time

import pytest

from rest import RestInstance
from test_durable import Stream

COUNT = int(os.environ.get("MILLRACE_TEST_LEASES", "2000"))
TTLS = (8, 25) if COUNT > 2000 else (5, 10)  # seconds; registering takes its time, too
LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
SETTINGS = {"subscriptions.ttl_min": "1s", "publisher.subscriptions_per_gateway_max": 100000, "generator.rate": 10}


def registered(stream, first, count, ttl):
    """(earliest, latest) time at which these can be due; ttl of their own for each batch."""
    before = time.monotonic()
    stream.register("g", [f"s{n}" for n in range(first, first + count)], ttl=ttl, request=first)
    assert stream.next("register_response").registered == count
    return before + ttl, time.monotonic() + ttl


@pytest.mark.skipif(not os.path.exists(LIBRARY) or not shutil.which("faketime"), reason="faketime is not installed")
def test_leases_end_when_they_are_due_whatever_the_wall_clock_does(tmp_path):
    chance = random.Random(3)
    clock = tmp_path / "clock"
    clock.write_text("+0")
    os.environ.update({"LD_PRELOAD": LIBRARY, "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_CACHE_DURATION": "1",
                       "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_XRESET": "0"})
    try:
        instance = RestInstance(SETTINGS)
        instance.start(60)
    finally:
        for name in ("LD_PRELOAD", "FAKETIME_TIMESTAMP_FILE", "FAKETIME_CACHE_DURATION", "FAKETIME_DONT_FAKE_MONOTONIC", "FAKETIME_XRESET"):
            os.environ.pop(name, None)
    with instance:
        due = {}
        with Stream(instance.grpc_port) as stream, instance.connect() as rest:
            for first in range(0, COUNT, 50):
                ttl = chance.randint(*TTLS)
                for n in range(first, first + 50):
                    due[n] = (ttl, None)
                window = registered(stream, first, 50, ttl)
                due.update({n: (ttl, window) for n in range(first, first + 50)})
            for n in chance.sample(range(COUNT), min(300, COUNT)):  # some are renewed
                before = time.monotonic()
                answer = rest.ask("PUT", f"/internal/v1/subscriptions/s{n}/heartbeat")
                if answer.status == 200:
                    due[n] = (due[n][0], (before + due[n][0], time.monotonic() + due[n][0]))
                else:
                    assert time.monotonic() > due[n][1][0]
            clock.write_text("+3600")
            lows, highs = sorted(w[0] for _, w in due.values()), sorted(w[1] for _, w in due.values())
            worst, steps, wall = 0, iter(["-3600", "+3600", "+0"] * 20), set()
            next_step = time.monotonic() + 1.5
            while time.monotonic() < highs[-1] + 1:
                if time.monotonic() > next_step:
                    clock.write_text(next(steps))
                    next_step += 1.5
                asked = time.monotonic()
                alive = instance.durable()
                told = time.monotonic()
                # those that cannot be due when it was asked live; those that were due a second before it are gone
                assert alive >= COUNT - bisect.bisect_right(lows, told), "ended too early"
                assert alive <= COUNT - bisect.bisect_right(highs, asked - 1.0), "lives too long"
                worst = max(worst, alive - (COUNT - bisect.bisect_right(highs, asked)))
                made = rest.register("probe", ttl=60)
                wall.add(made.json["createdAt"][:13])
                assert rest.ask("DELETE", "/internal/v1/subscriptions/probe").status == 204
                time.sleep(0.1)
            assert len(wall) > 1, f"the clock was not set: {wall}"
            assert instance.durable() == 0
            print(f"leases={COUNT} ended_late_at_most={worst}")
