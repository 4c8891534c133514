"""Attacks on the line: plain text, old protocols, certificates of strangers; and the renewal of certificates."""

import os
import shutil
import socket
import ssl
import subprocess
import time
import warnings

import grpc
import pytest

from certificates import Authority, held_open
from instance import wait_for
from rest import RestInstance, tls_context
from subscriber import stubs


class Bed:
    def __init__(self, folder, mutual):
        self.authority = Authority(folder)
        self.files = self.authority.issue("server")
        self.settings = {"tls.certificate": self.files[0], "tls.key": self.files[1]}
        if mutual:
            self.settings["tls.client_ca"] = shutil.copy(self.authority.certificate, self.authority.path("clients.pem"))


@pytest.fixture(scope="module", params=["tls", "mutual"])
def bed(request, tmp_path_factory):
    made = Bed(tmp_path_factory.mktemp(request.param), request.param == "mutual")
    made.mutual = request.param == "mutual"
    with RestInstance(made.settings) as one:
        one.start()
        made.instance = one
        yield made


def context(bed):
    client = bed.authority.issue("client") if bed.mutual else (None, None)
    return tls_context(bed.authority.certificate, *client)


def channel(bed, client=(None, None)):
    def read(path):
        if not path:
            return None
        with open(path, "rb") as file:
            return file.read()
    return grpc.secure_channel(f"localhost:{bed.instance.grpc_port}", grpc.ssl_channel_credentials(
        read(bed.authority.certificate), read(client[1]), read(client[0])),
        options=[("grpc.use_local_subchannel_pool", 1)])


def opened(chan):
    pb = stubs()
    call = chan.stream_stream("/syntrix.streamer.v1.StreamerService/Stream",
                              request_serializer=pb.GatewayMessage.SerializeToString,
                              response_deserializer=pb.StreamerMessage.FromString)(
        held_open(pb.GatewayMessage(heartbeat=pb.Heartbeat(timestamp=5))), timeout=10)
    try:
        return next(iter(call)).heartbeat_ack.timestamp == 5
    except grpc.RpcError:
        return False
    finally:
        call.cancel()


def served(port):
    """The serial number of the certificate that a port shows."""
    relaxed = ssl.create_default_context()
    relaxed.check_hostname, relaxed.verify_mode = False, ssl.CERT_NONE
    relaxed.set_alpn_protocols(["h2", "http/1.1"])
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as plain, relaxed.wrap_socket(plain) as line:
            return line.getpeercert(True)
    except OSError:
        return None


def test_requests_pass_over_tls(bed):
    with bed.instance.connect(context=context(bed)) as rest:
        assert rest.register("s1").status == 201
        assert rest.ask("DELETE", "/internal/v1/subscriptions/s1").status == 204
    client = bed.authority.issue("client") if bed.mutual else (None, None)
    with channel(bed, client) as chan:
        assert opened(chan)


def test_plain_text_is_not_answered(bed):
    for port in (bed.instance.rest_port, bed.instance.grpc_port):
        with socket.create_connection(("127.0.0.1", port), 10) as line:
            line.sendall(b"GET /internal/v1/subscriptions HTTP/1.1\r\nHost: x\r\n\r\n")
            line.settimeout(10)
            try:
                assert b"200 OK" not in line.recv(1000)
            except ConnectionError:
                pass


@pytest.mark.parametrize("version", ["tls1", "tls1_1"])
def test_old_protocol_versions_are_refused(bed, version):
    for port in (bed.instance.rest_port, bed.instance.grpc_port):
        result = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", f"-{version}", "-cipher",
                                 "ALL:@SECLEVEL=0"], input=b"", capture_output=True, timeout=20, check=False)
        assert b"Cipher is (NONE)" in result.stdout or result.returncode != 0


def test_a_client_without_or_with_a_stranger_s_certificate_is_refused(bed, tmp_path):
    if not bed.mutual:
        return
    stranger = Authority(tmp_path, "stranger").issue("client")
    for pair in ((None, None), stranger):
        with channel(bed, pair) as chan:
            assert not opened(chan)
        try:
            with bed.instance.connect(context=tls_context(bed.authority.certificate, *pair)) as rest:
                assert rest.register("s1").status == 401
        except (ssl.SSLError, OSError):
            pass  # not even a handshake


def test_a_new_client_authority_is_taken_over_and_the_old_one_no_longer_counts(bed, tmp_path):
    if not bed.mutual:
        return
    path = bed.instance.settings["tls.client_ca"]
    before, other = open(path, encoding="utf-8").read(), Authority(tmp_path, "other")

    def status(authority):
        try:
            pair = authority.issue("client")
            with bed.instance.connect(context=tls_context(bed.authority.certificate, *pair)) as rest:
                return rest.ask("GET", "/internal/v1/subscriptions?limit=1").status
        except (ssl.SSLError, OSError):
            return 401  # not even a handshake

    def put(text):
        with open(path + ".new", "w", encoding="utf-8") as out:
            out.write(text)
        os.replace(path + ".new", path)
    assert status(bed.authority) == 200 and status(other) == 401
    try:
        put("rubbish")  # is not taken over
        put(open(other.certificate, encoding="utf-8").read())
        wait_for(lambda: status(other) == 200, 10, "the new authority")
        assert status(bed.authority) == 401
    finally:
        put(before)
    wait_for(lambda: status(bed.authority) == 200, 10, "the old authority again")


def test_a_certificate_without_its_key_is_not_taken_and_the_old_pair_goes_on(bed):
    ports = (bed.instance.rest_port, bed.instance.grpc_port)
    before = [served(port) for port in ports]
    certificate, key = bed.authority.issue("alone")
    os.replace(certificate, bed.files[0])
    for _ in range(5):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert [served(port) for port in ports] == before
        time.sleep(0.3)
    assert f"tls.key {bed.files[1]}: it is not the key of tls.certificate {bed.files[0]}" in bed.instance.log_tail(200)
    os.replace(key, bed.files[1])
    for port, old in zip(ports, before):
        wait_for(lambda p=port, o=old: served(p) not in (None, o), 10, f"the new certificate on port {port}")


def test_a_certificate_with_the_key_of_another_is_refused_at_start(tmp_path):
    authority = Authority(tmp_path)
    certificate, other = authority.issue("server")[0], authority.issue("other")[1]
    with RestInstance({"tls.certificate": certificate, "tls.key": other}) as one:
        one.start(ready_seconds=0)
        wait_for(lambda: "it is not the key of tls.certificate" in one.log_tail(200), 20, "the reason")


def test_a_new_certificate_is_taken_over_without_a_restart(bed):
    ports = (bed.instance.rest_port, bed.instance.grpc_port)
    before = [served(port) for port in ports]
    pid = bed.instance.pids()["publisher"]
    bed.authority.issue("server2", into=bed.files)
    for port, old in zip(ports, before):
        wait_for(lambda p=port, o=old: served(p) not in (None, o), 10, f"the new certificate on port {port}")
    with open(bed.files[0], "w", encoding="utf-8") as file:  # rubbish is not taken over
        file.write("no certificate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert served(ports[0]) is not None
    bed.authority.issue("server3", into=bed.files)
    assert bed.instance.pids()["publisher"] == pid and os.path.exists(bed.files[0])
