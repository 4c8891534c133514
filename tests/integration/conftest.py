"""Fixtures that several modules share."""

import contextlib
import time

import pytest

from pg import Cluster


@pytest.fixture(scope="module")
def shared():
    with Cluster(wal_sender_timeout="4s") as cluster:
        yield cluster


@pytest.fixture
def cluster(shared):
    """The shared server, cleaned."""
    yield shared
    for _ in range(100):
        with contextlib.suppress(Exception):
            shared.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active",
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
            break
        time.sleep(0.05)
    shared.execute("DROP PUBLICATION IF EXISTS millrace", "DROP SCHEMA public CASCADE", "CREATE SCHEMA public",
                   "GRANT USAGE ON SCHEMA public TO public")
