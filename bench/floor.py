"""Latencies in windows of a second, beside the floor: how late, in the same second, a bare timer of bench-tick woke on
each core. A window is quiet when that floor's p99 was at most QUIET_US on every core: of the others it is not known
what they say of us and what of the host."""

import json
import os
import statistics
import subprocess
import time

from instance import bin_dir

QUIET_US = 250


class Asked:
    """A program that answers each line with one of JSON: what happened since the last one."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([os.path.join(bin_dir(), arguments[0]), *arguments[1:]],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)


def windows(ask, seconds):
    """ask() returns a dictionary of what happened since its last call: one for each second, with its floor_p99_us."""
    floors = [Asked("bench-tick", str(cpu)) for cpu in sorted(os.sched_getaffinity(0))]
    try:
        out = []
        for question in [ask, *(floor.ask for floor in floors)]:
            question()
        for _ in range(round(seconds)):
            time.sleep(1)
            arrived = ask()
            out.append({"floor_p99_us": max(floor.ask()["p99_us"] for floor in floors), **arrived})
        return out
    finally:
        for floor in floors:
            floor.close()


def summary(found):
    """The median over quiet windows of each figure; without a quiet one there is nothing to say."""
    quiet = [w for w in found if w["floor_p99_us"] <= QUIET_US]
    return {"windows": len(found), "quiet_windows": len(quiet),
            "latency_us": {name: round(statistics.median(w[name] for w in quiet), 1) for name in quiet[0]
                           if name == "floor_p99_us" or name.startswith("p") or name == "max"} if quiet else None}
