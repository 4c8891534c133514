"""A running instance of millrace, started from a build's bin directory with a configuration of its own."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def bin_dir():
    return os.environ.get("MILLRACE_TEST_BIN", os.path.join(ROOT, "build", "bin"))


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_for(condition, seconds, what):
    """Poll until condition() is true; its last value. Fails loudly after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.01)


class Instance:
    """`settings` are section.key -> value; data and configuration live in a directory of its own."""

    def __init__(self, settings, name=None):
        self.name = name or "t" + secrets.token_hex(6)
        self.dir = tempfile.mkdtemp(prefix="millrace-")
        self.grpc_port = free_port()
        self.http_port = free_port()
        self.settings = {
            "instance.name": self.name,
            "instance.data_dir": os.path.join(self.dir, "data"),
            "publisher.grpc_listen": f"127.0.0.1:{self.grpc_port}",
            "http.listen": f"127.0.0.1:{self.http_port}",
        }
        self.settings.update(settings)
        self.process = None
        self.log_path = os.path.join(self.dir, "log")
        self.starts = 0
        self.write_config()

    @property
    def config_path(self):
        return os.path.join(self.dir, "millrace.yaml")

    def write_config(self):
        sections = {}
        for path, value in self.settings.items():
            section, key = path.split(".")
            sections.setdefault(section, {})[key] = value
        with open(self.config_path, "w", encoding="utf-8") as out:
            for section, keys in sections.items():
                out.write(f"{section}:\n")
                for key, value in keys.items():
                    if isinstance(value, list):
                        text = "[" + ", ".join(json.dumps(item) for item in value) + "]"
                    elif isinstance(value, bool):
                        text = "true" if value else "false"
                    else:
                        text = json.dumps(str(value))
                    out.write(f"  {key}: {text}\n")

    def start(self, ready_seconds=20):
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [os.path.join(bin_dir(), "millrace"), "run", "-c", self.config_path],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.starts += 1
        if ready_seconds:
            self.wait_ready(ready_seconds)
        return self

    def wait_ready(self, seconds=20):
        def ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"millrace exited with {self.process.returncode}:\n{self.log_tail()}")
            status = self.status()
            return status and status["processes"] and all(
                p["state"] == "ready" and p["seen"] == "alive" for p in status["processes"])
        try:
            wait_for(ready, seconds, "all processes to be ready")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log_tail()}") from None

    def command(self, *args, timeout=60):
        """Run `millrace ARGS` against this instance; the finished process."""
        return subprocess.run(
            [os.path.join(bin_dir(), "millrace"), *args, "-c", self.config_path],
            capture_output=True, text=True, timeout=timeout, check=False)

    def shmstat(self, *args):
        return subprocess.run([os.path.join(bin_dir(), "shmstat"), self.name, *args],
                              capture_output=True, text=True, timeout=20, check=False)

    def status(self):
        """The instance as shmstat sees it, or None while it cannot be seen."""
        result = self.shmstat("--json")
        if result.returncode != 0 or not result.stdout.strip():
            return None
        return json.loads(result.stdout.splitlines()[-1])

    def pids(self):
        """kind or kind-shard -> pid of what lives now."""
        found = {}
        for process in (self.status() or {"processes": []})["processes"]:
            name = process["kind"]
            if "shard" in process:
                name += f"-{process['shard']}"
            if process["seen"] in ("alive", "hung"):
                found[name] = process["pid"]
        return found

    def counter(self, kind, name):
        """The sum of a counter over all processes of a kind."""
        return sum(p["counters"].get(name, 0) for p in self.status()["processes"] if p["kind"] == kind)

    def log_tail(self, lines=40):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-lines:])

    def stop(self, timeout=60):
        """Graceful stop; the exit code."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill_all()
                raise
        return self.process.returncode if self.process else None

    def kill_all(self):
        """SIGKILL to the supervisor and everyone it started, at once."""
        pids = list(self.pids().values())
        if self.process and self.process.poll() is None:
            pids.insert(0, self.process.pid)  # first, so that nobody is replaced
        for pid in dict.fromkeys(pids):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process:
            self.process.wait()

    def segments(self):
        return sorted(f for f in os.listdir("/dev/shm") if f.startswith(f"millrace.{self.name}."))

    def remove_segments(self):
        for segment in self.segments():
            os.unlink(os.path.join("/dev/shm", segment))

    def close(self):
        try:
            if self.process and self.process.poll() is None:
                if os.environ.get("MILLRACE_TEST_STOP"):  # scripts/coverage: who is killed has written no counts
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self.stop(20)
                self.kill_all()
        finally:
            self.remove_segments()
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
