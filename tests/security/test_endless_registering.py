"""Who registers without waiting for the answers must not fill the publisher's memory while a shard or the store
is slow."""

import os
import signal
import time

import pytest

from instance import wait_for
from rest import RestInstance
from test_durable import Stream

SENT, UNSETTLED_MAX = 400, 64


@pytest.fixture
def instance():
    with RestInstance({"generator.rate": 10, "supervisor.hang_timeout": "60s", "supervisor.stopped_timeout": "60s"}) as one:
        one.start()
        yield one


def test_registering_is_read_no_faster_than_it_is_answered(instance):
    def there():
        with instance.connect() as rest:
            return len(rest.ask("GET", "/internal/v1/subscriptions?limit=1000").json["subscriptions"])
    matcher = instance.pids()["matcher-0"]
    with Stream(instance.grpc_port) as stream:
        os.kill(matcher, signal.SIGSTOP)
        for i in range(SENT):
            stream.register("g", [f"s{i}"], request=i)
        wait_for(lambda: there() >= UNSETTLED_MAX, 10, "what is read at once")
        time.sleep(0.3)
        assert there() == UNSETTLED_MAX
        with Stream(instance.grpc_port) as other:  # others go on
            other.heartbeat("other")
            other.next("heartbeat_ack")
        os.kill(matcher, signal.SIGCONT)
        answers = [stream.next("register_response") for _ in range(SENT)]
    assert sorted(answer.request_id for answer in answers) == list(range(SENT))
    assert sum(answer.registered for answer in answers) == SENT == there()
