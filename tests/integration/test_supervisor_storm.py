"""Any order at any time to processes that do anything: an instance of fake processes is given orders while they die,
hang, refuse to leave and never come up, all at random. Whatever met whatever: every order is answered, the instance
runs again when its processes behave, and it ends when it is told to, leaving nothing. A round prints its seed;
again: MILLRACE_TEST_STORM_SEED=N. More: MILLRACE_TEST_STORM_ROUNDS=500."""

import contextlib
import os
import random
import signal
import subprocess
import time

import pytest

from instance import bin_dir, wait_for
from test_supervisor import Bed

SEED = os.environ.get("MILLRACE_TEST_STORM_SEED")
ROUNDS = 1 if SEED else int(os.environ.get("MILLRACE_TEST_STORM_ROUNDS", "8"))
SETTINGS = {"supervisor.start_timeout": "400ms", "supervisor.restarts_max": 5, "supervisor.healthy_after": "200ms",
            "relay.listen": "127.0.0.1:0"}
NAMES = ["puller", "publisher", "relay"] + [f"matcher-{i}" for i in range(4)]
WORDS = ["ready"] * 3 + ["deaf", "never", "silent", "detached", "exit:111", "exit:9", "late:9", "late:111", "late:100"]
KEYS = ["generator.rate", "publisher.gateways_max", "relay.consumers_max", "ring.spin", "checkpoint.events"]


class Storm:
    def __init__(self, bed, seed):
        self.bed = bed
        self.random = random.Random(seed)
        self.asked = []
        self.did = []

    def order(self, *args):
        self.asked.append(subprocess.Popen([os.path.join(bin_dir(), "millrace"), *args, "-c", self.bed.config_path],
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def signal(self):
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(self.random.choice(self.bed.children()),
                    self.random.choice((signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT)))

    def reload(self):
        key = self.random.choice(KEYS + ["matcher.shards"])
        self.bed.settings[key] = (self.random.randint(1, 4) if key == "matcher.shards"
                                  else f"{self.random.randint(1, 99)}us" if key == "ring.spin" else self.random.randint(10, 999))
        self.bed.write_config()
        if self.random.random() < 0.5:
            self.order("reload")
        else:
            self.bed.process.send_signal(signal.SIGHUP)

    def act(self):
        what = self.random.choice(("tell", "tell", "signal", "signal", "scale", "reload", "status"))
        if what == "tell":
            self.bed.tell(self.random.choice(NAMES), self.random.choice(WORDS))
        elif what == "signal":
            self.signal()
        elif what == "reload":
            self.reload()
        else:
            self.order(*(["scale", str(self.random.randint(1, 4))] if what == "scale" else ["status"]))

    def blow(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.act()
            time.sleep(self.random.uniform(0, 0.08))

    def calm(self):
        """Everybody behaves: all orders are answered, and the instance comes to run again."""
        for name in NAMES:
            self.bed.tell(name, "ready")
        for order in self.asked:
            order.wait(30)
        wait_for(lambda: self.bed.command("reload", timeout=30).returncode == 0, 30, "a reload that succeeds")
        wait_for(lambda: self.bed.ask()["state"] == "running", 10, "the instance to run")

    def end(self, how):
        if how == "calm":
            self.calm()
        elif how == "drain":
            self.order("drain")
            self.blow(0.2)
        self.bed.process.send_signal(signal.SIGTERM)
        if how == "twice":
            self.blow(0.2)
            self.bed.process.send_signal(signal.SIGTERM)
        code = self.bed.wait_exit(10 if how in ("calm", "twice") else 20)
        assert code == 0 if how == "calm" else code in (0, 111)
        for order in self.asked:
            order.wait(10)
        assert self.bed.segments() == [] and self.bed.children() == []


@pytest.mark.parametrize("turn", range(ROUNDS))
def test_every_order_is_answered_and_every_life_ends_whatever_meets_whatever(turn):
    seed = int(SEED) if SEED else random.SystemRandom().randrange(10**9)
    how = ("calm", "once", "twice", "drain")[seed % 4]
    print(f"again: MILLRACE_TEST_STORM_SEED={seed}")
    patience = "10s" if how == "calm" else "1s"
    with Bed({**SETTINGS, "supervisor.drain_timeout": patience}) as bed:
        bed.start()
        storm = Storm(bed, seed)
        try:
            storm.blow(1)
            storm.end(how)
        except Exception:
            print(how, bed.ask(), bed.log(), sep="\n")
            raise
        finally:
            for order in storm.asked:
                order.kill()
                order.wait()
