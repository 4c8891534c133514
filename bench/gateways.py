"""Many gateways in one process: millrace-load, asked for what has arrived."""

import json
import os
import signal
import subprocess

from instance import bin_dir


class Gateways:
    """`count` streams of a connection each that get everything of the generator's one collection, or what a filter
    leaves of it: options of millrace-load. One that is alone comes back when it was cut off."""

    def __init__(self, instance, count, *filter):
        self.process = subprocess.Popen(
            [os.path.join(bin_dir(), "millrace-load"), "--server", f"127.0.0.1:{instance.grpc_port}",
             "--database", "default", "--collection", "c0", "--streams", str(count), *filter],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask()  # answered when all are confirmed

    def ask(self):
        """What arrived since the last question, in sum."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stall(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        self.go_on()
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
