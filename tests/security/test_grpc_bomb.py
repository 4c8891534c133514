"""A few kilobytes that would become many megabytes: methods that need no token must not unpack them."""

import grpc
import pytest

from instance import Instance, free_port

MB = 1 << 20
MASTER = "the one token that may do everything"
HEALTH = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@pytest.fixture(scope="module")
def instance():
    relay_port = free_port()
    with Instance({"source.kind": "generator", "generator.rate": 10, "auth.token": MASTER,
                   "relay.listen": f"127.0.0.1:{relay_port}"}) as one:
        one.start()
        one.grpc_ports = {"publisher": one.grpc_port, "relay": relay_port}
        yield one


def peak_bytes(instance, process):
    with open(f"/proc/{instance.pids()[process]}/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))


def ask(channel, path, message, compression):
    def as_is(data):
        return data
    try:
        if path == HEALTH:
            return channel.unary_unary(path, as_is, as_is)(message, timeout=20, compression=compression)
        return next(channel.stream_stream(path, as_is, as_is)(iter([message]), timeout=20, compression=compression))
    except grpc.RpcError as error:
        return error.code()


@pytest.mark.parametrize("process", ["publisher", "relay"])
@pytest.mark.parametrize("path", [HEALTH, REFLECTION], ids=["health", "reflection"])
@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate], ids=["gzip", "deflate"])
def test_a_compressed_message_is_refused_and_not_unpacked(instance, process, path, compression):
    with grpc.insecure_channel(f"127.0.0.1:{instance.grpc_ports[process]}") as channel:
        assert ask(channel, HEALTH, b"", None) == b"\x08\x01"
        before = peak_bytes(instance, process)
        assert ask(channel, path, bytes(64 * MB), compression) == grpc.StatusCode.UNIMPLEMENTED
        assert peak_bytes(instance, process) - before < 32 * MB
        assert ask(channel, HEALTH, b"", None) == b"\x08\x01"  # everybody else goes on
