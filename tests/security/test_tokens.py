"""Attacks on who may do what: without a token, with somebody else's, with a forged one."""

import time
import urllib.error
import urllib.request

import grpc
import pytest

from certificates import NEVER, held_open, openssl, token
from consumer import Relay
from instance import free_port, wait_for
from rest import RestInstance
from subscriber import stubs

SECRET = "a shared secret of more than 32 characters"
MASTER = "the one token that may do everything"
SUBSCRIPTION = {"gatewayId": "g1", "subscriptionId": "s1", "tenant": "db", "collection": "c0"}
PATH = "/internal/v1/subscriptions"


@pytest.fixture(scope="module")
def instance():
    with RestInstance({"auth.jwt_key": SECRET, "auth.token": MASTER, "auth.jwt_issuer": "me",
                       "auth.jwt_audience": "millrace", "relay.listen": f"127.0.0.1:{free_port()}"}) as one:
        one.start()
        yield one


def good(**claims):
    return token(SECRET, {"iss": "me", "aud": "millrace", "databases": ["db"], "sub": "tester", **claims})


def ask(instance, bearer, method="POST", path=PATH, **change):
    with instance.connect(token=bearer) as rest:
        answer = rest.ask(method, path, {**SUBSCRIPTION, **change} if method in ("POST", "PUT") else None)
        if answer.status == 201:
            assert rest.ask("DELETE", f"{PATH}/s1").status == 204
        return answer


def stream_answer(instance, bearer, **request):
    """What a stream with this token gets for a subscription: its response, or the status of its end."""
    pb = stubs()
    with grpc.insecure_channel(f"127.0.0.1:{instance.grpc_port}") as channel:
        message = pb.GatewayMessage(subscribe=pb.SubscribeRequest(subscription_id="a", **request))
        call = channel.stream_stream(
            "/syntrix.streamer.v1.StreamerService/Stream", request_serializer=pb.GatewayMessage.SerializeToString,
            response_deserializer=pb.StreamerMessage.FromString)(
                held_open(message), metadata=[("authorization", f"Bearer {bearer}")] if bearer else None)
        try:
            return next(iter(call)).subscribe_response
        except grpc.RpcError as error:
            return error.code()
        finally:
            call.cancel()


def test_nobody_gets_in_without_a_token(instance):
    answer = ask(instance, None)
    assert (answer.status, answer.code, answer.headers["WWW-Authenticate"]) == (401, "UNAUTHENTICATED", "Bearer")
    assert stream_answer(instance, None, database="db", collection="c0") == grpc.StatusCode.UNAUTHENTICATED
    for method, path in (("GET", PATH), ("DELETE", PATH + "/s1"), ("PUT", PATH + "/s1/heartbeat"),
                         ("DELETE", "/internal/v1/gateways/g1/subscriptions"), ("GET", "/nothing")):
        assert ask(instance, None, method, path).status == 401


@pytest.mark.parametrize("attack, bearer", [
    ("another_secret", lambda: token("x" * 40, {"iss": "me", "aud": "millrace", "databases": ["db"]})),
    ("algorithm_none", lambda: token(SECRET, {"iss": "me", "aud": "millrace", "databases": ["db"]}, "none")),
    ("another_algorithm", lambda: token(SECRET, {"iss": "me", "aud": "millrace", "databases": ["db"]}, "HS512")),
    ("expired", lambda: good(exp=int(time.time()) - 1)),
    ("expired_with_a_fraction", lambda: good(exp=time.time() - 1.5)),
    ("expired_in_1970", lambda: good(exp=0)),
    ("expires_as_text", lambda: good(exp=str(int(time.time()) + 100))), ("expires_as_null", lambda: good(exp=None)),
    ("expires_as_a_list", lambda: good(exp=[int(time.time()) + 100])),
    ("not_yet_valid", lambda: good(nbf=int(time.time()) + 100)),
    ("not_yet_valid_with_a_fraction", lambda: good(nbf=time.time() + 100.5)),
    ("not_yet_valid_as_text", lambda: good(nbf="0")),
    ("another_issuer", lambda: good(iss="you")),
    ("another_audience", lambda: good(aud="others")),
    ("changed_claims", lambda: ".".join([good().split(".")[0], good(databases=["*"]).split(".")[1], good().split(".")[2]])),
    ("claims_of_a_wrong_type", lambda: good(databases=5)),
    ("collections_of_a_wrong_type", lambda: good(collections=5)),
    ("gateways_of_a_wrong_type", lambda: good(gateways=True)),
    ("collections_as_null", lambda: good(collections=None)), ("issuer_of_a_wrong_type", lambda: good(iss=["me"])),
    ("too_many_names", lambda: good(databases=[f"d{i}" for i in range(65)])),
    ("name_too_long", lambda: good(databases=["x" * 200])),
    ("no_jwt_at_all", lambda: "x.y.z"), ("empty", lambda: ""), ("huge", lambda: "a" * 9000),
    ("part_of_the_master_token", lambda: MASTER[:-1]),
], ids=lambda value: value if isinstance(value, str) else "")
def test_a_forged_token_is_refused(instance, attack, bearer):
    assert attack
    assert ask(instance, bearer()).status == 401
    assert stream_answer(instance, bearer() or "-", database="db", collection="c0") == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("claims", [
    {"exp": NEVER}, {"exp": 4102444800000}, {"exp": 1e300}, {"exp": 2**62},
    {"exp": time.time() + 600.5}, {"nbf": time.time() - 0.5}, {"nbf": -1}, {"exp": NEVER, "nbf": 0, "iat": "today"},
], ids=["none", "milliseconds", "huge", "whole_and_huge", "fraction", "from_fraction", "from_negative", "without_and_other"])
def test_a_token_is_valid_within_its_bounds_and_without_any(instance, claims):
    assert ask(instance, good(**claims)).status == 201
    assert stream_answer(instance, good(**claims), database="db", collection="c0").success


def test_a_token_reaches_its_databases_collections_and_gateways_only(instance):
    mine = good(collections=["c0"], gateways=["g1"])
    assert ask(instance, mine).status == 201
    assert ask(instance, mine, tenant="other").code == "FORBIDDEN"
    assert ask(instance, mine, collection="c1").code == "FORBIDDEN"
    assert ask(instance, mine, gatewayId="g2").code == "FORBIDDEN"
    assert ask(instance, good(databases=["*"]), tenant="other").status == 201
    assert ask(instance, good(databases=[])).code == "FORBIDDEN"
    assert ask(instance, MASTER, tenant="other").status == 201
    assert stream_answer(instance, mine, database="db", collection="c0").success
    assert "does not reach" in stream_answer(instance, mine, database="other", collection="c0").error


def test_subscriptions_of_others_cannot_be_seen_renewed_replaced_or_removed(instance):
    with instance.connect(token=MASTER) as owner:
        assert owner.ask("POST", PATH, {**SUBSCRIPTION, "tenant": "theirs", "gatewayId": "g9"}).status == 201
        with instance.connect(token=good()) as rest:
            assert rest.get("s1").code == "FORBIDDEN"
            assert rest.ask("PUT", f"{PATH}/s1/heartbeat").code == "FORBIDDEN"
            assert rest.ask("PUT", f"{PATH}/s1", {k: v for k, v in SUBSCRIPTION.items() if k != "subscriptionId"}).status == 403
            assert rest.ask("DELETE", f"{PATH}/s1").code == "FORBIDDEN"
            assert rest.ask("DELETE", "/internal/v1/gateways/g9/subscriptions").json == {"removed": 0}
            assert rest.ask("GET", PATH).json["subscriptions"] == []
            event = {"tenant": "theirs", "collection": "c0", "document": {}}
            assert rest.ask("POST", "/internal/v1/explain", event).json["subscriptions"] == []
            assert rest.ask("POST", "/internal/v1/explain", {**event, "subscriptionId": "s1"}).status == 403
        assert owner.get("s1").status == 200
        assert owner.ask("DELETE", f"{PATH}/s1").status == 204


def test_a_stream_cannot_listen_as_a_gateway_that_its_token_does_not_name(instance):
    """Else whoever reaches one database would get what the gateway's subscriptions match in every other."""
    pb = stubs()
    with instance.connect(token=MASTER) as owner:
        assert owner.ask("POST", PATH, {**SUBSCRIPTION, "gatewayId": "g7"}).status == 201
        for bearer, connected in ((good(), False), (good(gateways=["g8"]), False), (good(gateways=["g7"]), True), (MASTER, True)):
            with grpc.insecure_channel(f"127.0.0.1:{instance.grpc_port}") as channel:
                call = channel.stream_stream(
                    "/syntrix.streamer.v1.StreamerService/Stream", request_serializer=pb.GatewayMessage.SerializeToString,
                    response_deserializer=pb.StreamerMessage.FromString)(
                        held_open(pb.GatewayMessage(heartbeat=pb.Heartbeat(gateway_id="g7"))),
                        metadata=[("authorization", f"Bearer {bearer}")])
                assert next(iter(call)).WhichOneof("payload") in ("heartbeat_ack", "delivery")
                assert owner.get("s1").json["connected"] == connected
                call.cancel()
            wait_for(lambda: not owner.get("s1").json["connected"], 5, "the end of the stream")
        assert owner.ask("DELETE", f"{PATH}/s1").status == 204


def test_no_secret_shows_in_logs_or_in_the_printed_configuration(instance):
    ask(instance, good())
    ask(instance, "x.y.z")
    printed = instance.command("print-config").stdout
    with open(instance.log_path, encoding="utf-8") as log:
        written = log.read()
    for secret in (SECRET, MASTER, good().split(".")[2][:20]):
        assert secret not in printed and secret not in written
    assert "jwt_key: " in printed


def test_tokens_signed_by_a_private_key_are_checked_with_the_public_one(tmp_path):
    key, public = str(tmp_path / "key"), str(tmp_path / "public")
    openssl("genrsa", "-out", key, "2048")
    openssl("rsa", "-in", key, "-pubout", "-out", public)
    with RestInstance({"auth.jwt_key_file": public, "auth.jwt_algorithm": "RS256"}) as one:
        one.start()
        assert ask(one, token("", {"databases": ["db"]}, "RS256", key)).status == 201
        with open(public, encoding="utf-8") as file:  # the public key is no shared secret
            assert ask(one, token(file.read(), {"databases": ["db"]}, "HS256")).status == 401


@pytest.mark.parametrize("key", ["publisher.grpc_listen", "rest.listen", "relay.listen"])
def test_an_address_that_others_reach_needs_authentication(key):
    with RestInstance({key: "0.0.0.0:0"}) as one:
        refused = one.command("check-config")
        assert refused.returncode != 0 and "nobody has to show who they are" in refused.stdout + refused.stderr
        one.settings["auth.token"] = MASTER
        one.write_config()
        assert one.command("check-config").returncode == 0
        one.settings["auth.token"] = "short"
        one.write_config()
        weak = one.command("check-config")
        assert "auth.token: expected at least 16" in weak.stdout + weak.stderr
        assert "short" not in weak.stdout + weak.stderr


def test_an_expired_token_keeps_no_stream_open(instance):
    pb = stubs()
    wraps = int(time.time()) + 2**64 // 10**9 + 2  # nanoseconds of 64 bits would say: in about a second
    bearers = [good(exp=time.time() + 2.5), good(exp=int(time.time()) + 60), good(exp=wraps), good(exp=NEVER), MASTER]
    with grpc.insecure_channel(f"127.0.0.1:{instance.grpc_port}") as channel:
        calls = [channel.stream_stream(
            "/syntrix.streamer.v1.StreamerService/Stream", request_serializer=pb.GatewayMessage.SerializeToString,
            response_deserializer=pb.StreamerMessage.FromString)(
                held_open(pb.GatewayMessage(subscribe=pb.SubscribeRequest(
                    subscription_id="a", database="db", collection="c0"))), metadata=[("authorization", f"Bearer {bearer}")])
            for bearer in bearers]
        got = [iter(call) for call in calls]
        assert all(next(messages).subscribe_response.success for messages in got)
        end = time.monotonic() + 8
        try:
            while time.monotonic() < end:
                next(got[0])
            raise AssertionError("the stream lives")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAUTHENTICATED and "expired" in error.details()
        for call, messages in zip(calls[1:], got[1:]):
            end = time.monotonic() + 0.4  # what came meanwhile is read by then
            while time.monotonic() < end:
                assert next(messages).WhichOneof("payload") == "delivery"
            call.cancel()


def test_an_expired_token_keeps_no_consumer_of_the_log(instance):
    relay = Relay(instance.settings["relay.listen"].rpartition(":")[2])

    def follow(seconds):
        bearer = good(exp=time.time() + seconds, databases="*")
        return relay.subscribe(metadata=[("authorization", f"Bearer {bearer}")], consumer_id="c")
    lives, ends = follow(60), follow(2)
    with pytest.raises(grpc.RpcError) as refused:
        for _ in ends:
            pass
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED and "expired" in refused.value.details()
    next(lives)
    lives.cancel()


def test_metrics_ask_for_their_token(tmp_path):
    def status(port, **headers):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
    with RestInstance({"http.metrics_token": MASTER}) as one:
        one.start()
        assert status(one.http_port) == 401
        assert status(one.http_port, Authorization=f"Bearer {MASTER[:-1]}x") == 401
        assert status(one.http_port, Authorization=f"Bearer {MASTER}") == 200
        assert MASTER not in one.command("print-config").stdout
        with urllib.request.urlopen(f"http://127.0.0.1:{one.http_port}/livez", timeout=10) as answer:
            assert answer.status == 200
