"""Subscriptions whose filters are as long as they may be: asking for all of them at once must not fill the
publisher's memory, nor hold up its deliveries."""

import pytest

from rest import RestInstance
from subscriber import stubs
from test_durable import Stream

COUNT, FILTERS, VALUE = 24, 6, "x" * 60000  # each 360 kB
PAGE_BYTES_MAX = 3 << 19  # 1 MiB, and the subscription that goes over it


@pytest.fixture(scope="module")
def instance():
    with RestInstance({"generator.rate": 1, "supervisor.hang_timeout": "10s"}) as one:
        one.start()
        pb = stubs()
        filters = [pb.Filter(field="a", op="!=", value=pb.Value(string_value=VALUE + str(i))) for i in range(FILTERS)]
        with Stream(one.grpc_port) as stream:
            for i in range(COUNT):
                stream.send(register=pb.RegisterRequest(gateway_id="g", subscriptions=[pb.SubscribeRequest(
                    subscription_id=f"s{i}", database="db", collection="c0", filters=filters)]))
                assert stream.next("register_response").registered == 1
        yield one


def pages(ask):
    cursor = 0
    while cursor is not None:
        answer = ask(cursor)
        assert answer.status == 200 and len(answer.text) < PAGE_BYTES_MAX
        yield [s["subscriptionId"] for s in answer.json["subscriptions"]]
        cursor = answer.json.get("nextCursor")


@pytest.mark.parametrize("what", ["list", "explain"])
def test_a_page_is_bounded_by_its_bytes_and_all_pages_have_everybody_once(instance, what):
    event = {"tenant": "db", "collection": "c0", "document": {"a": "x"}, "limit": 1000}
    with instance.connect() as rest:
        if what == "list":
            got = list(pages(lambda cursor: rest.ask("GET", f"/internal/v1/subscriptions?limit=1000&cursor={cursor}")))
        else:
            got = list(pages(lambda cursor: rest.ask("POST", "/internal/v1/explain", {**event, "cursor": str(cursor)})))
    assert [name for page in got for name in page] == [f"s{i}" for i in range(COUNT)]
