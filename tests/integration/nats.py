"""A nats-server of one's own, and a client of NATS made of nothing but a socket: what the tests read
they read by other code than what wrote it."""

import base64
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from instance import free_port, wait_for


class Server:
    """nats-server with JetStream on a free port and a directory of its own; can be killed and started again."""

    def __init__(self, *flags):
        self.dir = tempfile.mkdtemp(prefix="millrace-nats-")
        self.port = free_port()
        self.flags = flags
        self.process = None
        self.start()

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    def start(self):
        with open(os.path.join(self.dir, "log"), "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                ["nats-server", "-js", "-sd", self.dir, "-a", "127.0.0.1", "-p", str(self.port), *self.flags],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_for(self.answers, 20, "nats-server")
        return self

    def answers(self):
        assert self.process.poll() is None, open(os.path.join(self.dir, "log"), encoding="utf-8").read()[-2000:]
        try:
            with Client(self.port) as client:
                return "error" not in client.api("INFO")
        except (OSError, TimeoutError):
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def signal(self, number):
        self.process.send_signal(number)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Distance:
    """A server that is far away: what goes through this port comes so much later, in both directions."""

    def __init__(self, port, seconds):
        self.target, self.seconds = port, seconds
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.sockets = [self.listener]
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.listener.getsockname()[1]}"

    def accept(self):
        while True:
            try:
                near = self.listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            self.sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.carry, args=(source, sink), daemon=True).start()

    def carry(self, source, sink):
        under_way = queue.SimpleQueue()
        threading.Thread(target=self.arrive, args=(under_way, sink), daemon=True).start()
        data = b"."
        while data:
            try:
                data = source.recv(1 << 18)
            except OSError:
                data = b""
            under_way.put((time.monotonic() + self.seconds, data))

    @staticmethod
    def arrive(under_way, sink):
        while True:
            due, data = under_way.get()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if not data:
                    sink.shutdown(socket.SHUT_RDWR)
                    return
                sink.sendall(data)
            except OSError:
                return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for it in self.sockets:
            it.close()


def have_server():
    return shutil.which("nats-server") is not None


class Message:
    """subject, reply, headers (dict), data; sequence in its stream where it came from one."""

    def __init__(self, subject, reply, head, data):
        self.subject, self.reply, self.data = subject, reply, data
        self.headers = {}
        for line in head.split(b"\r\n")[1:]:
            name, colon, value = line.partition(b":")
            if colon:
                self.headers[name.decode()] = value.strip().decode()
        self.sequence = None
        if reply.startswith("$JS.ACK."):
            self.sequence = int(reply.split(".")[5])

    def json(self):
        return json.loads(self.data)


class Client:
    """The NATS client protocol: publish, subscribe, request; JetStream's API on top of it."""

    def __init__(self, port, timeout=5.0):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.settimeout(timeout)
        self.buffer = bytearray()
        self.sids = 0
        self.others = []
        self.inbox = "_INBOX." + base64.b32encode(os.urandom(10)).decode()
        self.line()  # INFO
        self.send(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nPING\r\n')
        while self.line() != b"PONG":
            pass
        self.subscribe(self.inbox + ".*")
        self.requests = 0

    def send(self, data):
        self.socket.sendall(data)

    def fill(self):
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("nats-server closed the connection")
        self.buffer += data

    def line(self):
        while True:
            end = self.buffer.find(b"\r\n")
            if end >= 0:
                line = bytes(self.buffer[:end])
                del self.buffer[:end + 2]
                return line
            self.fill()

    def take(self, count):
        while len(self.buffer) < count:
            self.fill()
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def subscribe(self, subject):
        self.sids += 1
        self.send(f"SUB {subject} {self.sids}\r\n".encode())
        return self.sids

    def publish(self, subject, data=b"", reply="", headers=None):
        if headers is None:
            self.send(f"PUB {subject} {reply} {len(data)}\r\n".encode() + data + b"\r\n")
            return
        head = b"NATS/1.0\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()).encode() + b"\r\n"
        self.send(f"HPUB {subject} {reply} {len(head)} {len(head) + len(data)}\r\n".encode() + head + data + b"\r\n")

    def next(self):
        """The next message of any subscription."""
        while True:
            line = self.line()
            if line == b"PING":
                self.send(b"PONG\r\n")
            elif line.startswith(b"MSG ") or line.startswith(b"HMSG "):
                words = line.decode().split(" ")
                with_head = words[0] == "HMSG"
                reply = words[3] if len(words) == (6 if with_head else 5) else ""
                body = self.take(int(words[-1]) + 2)[:-2]
                head = int(words[-2]) if with_head else 0
                return Message(words[1], reply, body[:head], body[head:])
            elif line.startswith(b"-ERR"):
                raise ConnectionError(line.decode())

    def request(self, subject, data=b""):
        self.requests += 1
        reply = f"{self.inbox}.{self.requests}"
        self.publish(subject, data, reply)
        while True:
            message = self.next()
            if message.subject == reply:
                return message
            self.others.append(message)

    def api(self, what, body=None):
        return self.request("$JS.API." + what, json.dumps(body).encode() if body is not None else b"").json()

    def stream(self, name):
        """State of a stream, or None."""
        answer = self.api("STREAM.INFO." + name)
        return None if "error" in answer else answer

    def create(self, name, subject, **more):
        body = {"name": name, "subjects": [subject], "storage": "file", "retention": "limits", "max_consumers": -1,
                "max_msgs": -1, "max_bytes": -1, "max_age": 0, "num_replicas": 1, "discard": "old", **more}
        answer = self.api("STREAM.CREATE." + name, body)
        assert "error" not in answer, answer

    def delete(self, name):
        self.api("STREAM.DELETE." + name)

    def read(self, stream, headers_only=False, start=1):
        """Every message that the stream has now, in its order."""
        state = self.stream(stream)["state"]
        if state["messages"] == 0 or state["last_seq"] < start:
            return
        with Client(self.socket.getpeername()[1]) as reader:
            inbox = reader.inbox + "x"
            reader.subscribe(inbox)
            answer = reader.api("CONSUMER.CREATE." + stream, {
                "stream_name": stream, "config": {
                    "deliver_subject": inbox, "deliver_policy": "by_start_sequence", "opt_start_seq": start,
                    "ack_policy": "none", "max_deliver": -1, "replay_policy": "instant", "headers_only": headers_only,
                    "flow_control": True, "idle_heartbeat": 5_000_000_000}})
            assert "error" not in answer, answer
            pending, reader.others = reader.others, []
            while True:
                message = pending.pop(0) if pending else reader.next()
                if message.sequence is None:
                    if message.reply:
                        reader.publish(message.reply)  # flow control
                    continue
                yield message
                if message.sequence >= state["last_seq"]:
                    return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def wait_messages(port, stream, count, seconds):
    """Wait until the stream holds `count` messages; its state."""
    def enough():
        try:
            with Client(port) as client:
                info = client.stream(stream)
            return info["state"] if info and info["state"]["messages"] >= count else None
        except (OSError, TimeoutError):
            time.sleep(0.05)
            return None
    return wait_for(enough, seconds, f"{count} messages in {stream}")
