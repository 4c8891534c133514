"""Hostile HTTP: oversized, malformed, slow; text that would like to be something else."""

import socket
import threading
import time

import pytest

from rest import RestInstance
from test_durable import Stream

PATH = "/internal/v1/subscriptions"


@pytest.fixture(scope="module")
def instance():
    with RestInstance({"rest.request_timeout": "2s", "rest.connections_max": 64}) as one:
        one.start()
        yield one


def raw(instance, data, seconds=5):
    """Send bytes, read what comes until the end or the time is over."""
    with socket.create_connection(("127.0.0.1", instance.rest_port), 5) as line:
        line.settimeout(seconds)
        got = b""
        try:
            line.sendall(data)
            while chunk := line.recv(65536):
                got += chunk
        except OSError:
            pass
        return got


def alive(instance):
    with instance.connect() as rest:
        assert rest.ask("GET", PATH).status == 200


@pytest.mark.parametrize("attack, data", [
    ("no_http", b"\x00\x01\x02\x03" * 100 + b"\r\n\r\n"),
    ("endless_request_line", b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n"),
    ("endless_header", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100000 + b"\r\n\r\n"),
    ("many_headers", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10000 + b"\r\n"),
    ("two_lengths", b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 300\r\n\r\n{}"),
    ("length_and_chunks", b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"),
    ("negative_length", b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: -5\r\n\r\n{}"),
    ("huge_length", b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999999999999999\r\n\r\n{}"),
    ("bad_chunk", b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"),
    ("no_host", b"GET " + PATH.encode() + b" HTTP/1.1\r\n\r\n"),
    ("zero_in_path", b"GET " + PATH.encode() + b"/a%00b HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("up_the_tree", b"GET /internal/v1/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_malformed_http_is_refused_and_harms_nobody(instance, attack, data):
    assert attack
    got = raw(instance, data, 4)
    assert b" 200 " not in got.split(b"\r\n")[0] and b" 201 " not in got.split(b"\r\n")[0]
    assert b"root:" not in got
    alive(instance)


def test_oversized_bodies_are_refused_without_being_kept(instance):
    with instance.connect() as rest:
        assert rest.ask("POST", PATH, raw=b'{"x":"' + b"a" * (2 << 20) + b'"}').status == 413
    chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    got = raw(instance, b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
              b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 64 + b"0\r\n\r\n")
    assert b" 413 " in got.split(b"\r\n")[0]
    alive(instance)


def test_slowloris_is_cut_off_and_keeps_nobody_out(instance):
    """As many connections as there may be, each with a byte now and then."""
    lines = []
    for _ in range(64):
        line = socket.create_connection(("127.0.0.1", instance.rest_port), 5)
        line.sendall(b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\n")
        lines.append(line)
    stop = threading.Event()

    def drip():
        while not stop.wait(0.3):
            for line in lines:
                try:
                    line.sendall(b"X")
                except OSError:
                    pass
    thread = threading.Thread(target=drip)
    thread.start()
    try:
        begin = time.monotonic()
        while True:
            try:
                alive(instance)
                break
            except OSError:
                assert time.monotonic() - begin < 10, "slow clients keep everybody out"
                time.sleep(0.1)
    finally:
        stop.set()
        thread.join()
        for line in lines:
            line.close()


NASTY = ["' || true //", "\\' || true //", '"}],"x":[{"', "$where: 1", "\u0000", "a\nb", "../../x", "'; DROP TABLE x; --", "${PATH}", "%s%n%n", "<script>", "\ud7ff\uffff"]


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_text_injected_into_any_field_stays_text(instance, text):
    """A filter value or field name with foreign syntax matches nothing it should not; ids refuse it."""
    body = {"gatewayId": "g1", "subscriptionId": "i1", "tenant": "db", "collection": "c0"}
    with instance.connect() as rest:
        for name in ("gatewayId", "subscriptionId"):
            assert rest.ask("POST", PATH, {**body, name: text}).status == 400
        for filters in ([{"field": "user_id", "op": "==", "value": text}], [{"field": "x" + text, "op": "==", "value": 1}],
                        [{"field": "user_id", "op": "in", "value": [text]}]):
            made = rest.ask("POST", PATH, {**body, "filters": filters})
            assert made.status in (201, 400)
            if made.status == 400:
                continue
            assert rest.get("i1").json["filters"] == filters
            explained = rest.ask("POST", "/internal/v1/explain", {"tenant": "db", "collection": "c0", "documentId": "d",
                                                                 "document": {"user_id": "harmless", "x": 1}})
            assert explained.json["subscriptions"] == []
            assert rest.ask("DELETE", f"{PATH}/i1").status == 204
        made = rest.ask("POST", PATH, {**body, "tenant": text, "collection": text})
        assert made.status in (201, 400)
        rest.ask("DELETE", f"{PATH}/i1")
    with Stream(instance.grpc_port) as stream:
        stream.register(text.replace("\x00", "?"), ["a"])
        assert stream.next("register_response").failures[0].code == "INVALID_REQUEST"


def test_quotas_cannot_be_bypassed():
    limits = {"publisher.subscriptions_per_gateway_max": 5, "publisher.subscriptions_per_database_max": 8}
    with RestInstance(limits) as one:
        one.start()
        with one.connect() as rest:
            assert [rest.register(f"a{i}").status for i in range(7)] == [201] * 5 + [429] * 2
            # another connection, another gateway, another case of its name, another way in
            with one.connect() as again:
                assert again.register("b0").code == "GATEWAY_QUOTA_EXCEEDED"
            assert [rest.register(f"c{i}", gateway=f"g-{i}").status for i in range(5)] == [201] * 3 + [429] * 2
            assert rest.register("d0", gateway="G1").code == "TENANT_QUOTA_EXCEEDED"
            with Stream(one.grpc_port) as stream:
                stream.register("other", ["e0"])
                assert stream.next("register_response").failures[0].code == "TENANT_QUOTA_EXCEEDED"
            # a replacement takes no place, and does not carry one over into a full database
            body = {"gatewayId": "g1", "tenant": "db", "collection": "c1"}
            assert rest.ask("PUT", f"{PATH}/a0", body).status == 200
            assert rest.register("f0", gateway="new", tenant="free").status == 201
            assert rest.ask("PUT", f"{PATH}/f0", {**body, "gatewayId": "new"}).code == "TENANT_QUOTA_EXCEEDED"
            # what is renewed stays one, what is removed is free again
            assert rest.ask("PUT", f"{PATH}/a0/heartbeat").status == 200
            assert rest.register("a5").status == 429
            assert rest.ask("DELETE", f"{PATH}/a0").status == 204
            assert rest.register("a5").status == 201
