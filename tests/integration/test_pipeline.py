"""PostgreSQL to gRPC, through every process: exactly the events that PostgreSQL's own account of a slot
has, in commit order, for every subscription. MILLRACE_TEST_CHANGES makes it larger."""

import os
import time

import psycopg

from bed import Bed, subscriptions
from instance import wait_for
from subscriber import Subscriber, Subscription

CHANGES = int(os.environ.get("MILLRACE_TEST_CHANGES", "12000"))
STOP_SECONDS = float(os.environ.get("MILLRACE_TEST_STOP_SECONDS", "2.5"))


def test_every_subscription_gets_exactly_its_events_in_commit_order():
    users = 994
    subs = subscriptions(users)[:6] + [Subscription(f"user-{u}", "postgres", "items", [("user_id", "==", u)])
                                       for u in range(users)]
    assert len(subs) == 1000
    with Bed(seed=7, subs=subs, writers=4, per_second=1e9, load_options={"users": users}) as bed:
        bed.start()
        with psycopg.connect(bed.dsn, autocommit=True) as connection:
            wait_for(lambda: bed.load.changes > CHANGES // 3, 600, "a third of the changes")
            connection.execute("ALTER TABLE items ADD COLUMN extra integer DEFAULT 5")
            wait_for(lambda: bed.load.changes > 2 * CHANGES // 3, 600, "two thirds of the changes")
            connection.execute("TRUNCATE items")
        wait_for(lambda: bed.load.changes > CHANGES, 600, "all changes")
        assert bed.verdict(seconds=120) == []
        assert sum(s.duplicates for s in subs) == 0
        got = {op: sum(1 for _, e in subs[0].got if e.operation == op) for op in (1, 2, 4, 100)}
        assert all(got.values()), f"a kind of change never happened: {got}"


def test_a_write_right_after_the_confirmation_is_delivered():
    with Bed(seed=8, per_second=200) as bed:
        bed.start()
        with psycopg.connect(bed.dsn, autocommit=True) as connection:
            for i in range(20):
                sub = Subscription(f"late-{i}", "postgres", "items", [("_id", "==", str(10**6 + i))])
                late = Subscriber(bed.instance.grpc_port, [sub]).start()
                connection.execute("INSERT INTO items VALUES (%s, 0, 0, 'new')", (10**6 + i,))
                try:
                    wait_for(lambda s=sub: s.got, 5, f"the write after confirmation {i}")
                finally:
                    late.stop()


def lsn(text):
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def test_a_stopped_publisher_holds_the_slot_at_the_checkpoint_and_loses_nothing():
    import signal
    settings = {"supervisor.hang_timeout": "60s", "supervisor.stopped_timeout": "60s", "ring.event_size": "64KiB", "ring.match_size": "64KiB"}
    with Bed(seed=9, settings=settings, per_second=2000) as bed:
        bed.start()
        wait_for(lambda: bed.load.changes > 2000, 60, "some load")
        pid = bed.instance.pids()["publisher"]
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(STOP_SECONDS)  # longer than a checkpoint takes: whatever was due has been written
            with psycopg.connect(bed.dsn, autocommit=True) as connection:
                def slot():
                    return lsn(connection.execute("SELECT confirmed_flush_lsn::text FROM pg_replication_slots "
                                                  "WHERE slot_name = 'millrace'").fetchone()[0])
                held, size = slot(), bed.instance.counter("puller", "millrace_log_written_bytes_total")
                checkpoint = bed.instance.status()["checkpoint"]
                wait_for(lambda: bed.instance.counter("puller", "millrace_log_written_bytes_total") > size + 200000,
                         20, "the log to grow on")
                assert slot() == held
                assert bed.instance.status()["checkpoint"] == checkpoint
        finally:
            os.kill(pid, signal.SIGCONT)
        assert bed.verdict() == []


def test_the_slot_advances_while_only_other_tables_are_written():
    with Bed(seed=10, per_second=50) as bed:
        bed.start()
        bed.load.stop()
        with psycopg.connect(bed.dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE other (x text)")
            def behind():
                return connection.execute(
                    "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) FROM pg_replication_slots "
                    "WHERE slot_name = 'millrace'").fetchone()[0]
            for _ in range(3):
                connection.execute("INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 2000)")
                end = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()[0]
                wait_for(lambda: connection.execute(
                    "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = 'millrace'",
                    (end,)).fetchone()[0], 30, f"the slot to reach {end}; {behind()} bytes behind")


def test_a_gateway_that_does_not_read_is_cut_off_and_delays_nobody():
    settings = {"publisher.gateway_queue_messages": "100000", "publisher.gateway_queue_size": "8MiB"}
    with Bed(seed=11, settings=settings, per_second=3000, load_options={"body": 2000}) as bed:
        import grpc
        from subscriber import open_stream, stubs
        bed.start()
        pb = stubs()
        with grpc.insecure_channel(bed.subscriber.target) as channel:
            done = []
            def requests():
                yield pb.GatewayMessage(subscribe=pb.SubscribeRequest(
                    subscription_id="lazy", database="postgres", collection="items"))
                wait_for(lambda: done, 120, "the end of the test")
            call = open_stream(channel, requests())
            assert next(call).subscribe_response.success
            try:  # and never read again
                wait_for(lambda: bed.instance.counter("publisher", "millrace_publisher_gateways_cut_total") == 1,
                         60, "the cut")
                code = None
                try:
                    for _ in call:
                        pass
                except grpc.RpcError as error:
                    code = error.code()
                assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
            finally:
                done.append(True)
        assert bed.verdict() == []
        assert bed.subscriber.connects == 1, "a gateway that reads was cut off, too"


def test_a_graceful_stop_loses_nothing_and_leaves_nothing():
    with Bed(seed=12, per_second=1000) as bed:
        bed.start()
        for _ in range(3):
            changes = bed.load.changes
            wait_for(lambda c=changes: bed.load.changes > c + 500, 30, "some load")
            assert bed.instance.stop() == 0, bed.instance.log_tail()
            assert bed.instance.segments() == []
            bed.instance.start()
        assert bed.verdict() == []
