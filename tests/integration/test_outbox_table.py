"""The outbox in a real database: what is saved, and what is refused."""

import asyncio
import subprocess
import sys
import uuid
from pathlib import Path

import psycopg
import pytest
from example_stubs import events_pb2, package_pb2
from outboxes import database
from waybill_outbox import NotInTransaction, asave_many, build_event, connector_role, save_many

READ = (
    "SELECT id, topic, key, type, payload, source, created_at, traceparent, tracestate, specversion FROM outbox_event"
)


@pytest.fixture(scope="module")
def outbox(stack):
    with database(stack) as made:
        yield made


@pytest.fixture
def connection(outbox):
    with psycopg.connect(outbox.url) as connection:
        yield connection
        connection.rollback()


def delivered(package_id="pkg-1"):
    return build_event(events_pb2.PackageDeliveredEvent(package=package_pb2.Package(id=package_id)))


def test_a_saved_event_is_a_row_of_the_callers_transaction(outbox, connection):
    event = delivered()
    event.save(connection)
    row = (
        event.id,
        event.topic,
        event.key,
        event.type,
        event.payload,
        outbox.name,
        event.created_at,
        None,
        None,
        "1.0",
    )
    assert connection.execute(READ).fetchall() == [row]
    connection.rollback()
    assert connection.execute(READ).fetchall() == []


def test_many_events_are_saved_in_order_and_as_they_are(connection):
    events = [delivered(f"pkg-{i}") for i in range(2500)]
    save_many(events, connection)
    save_many([], connection)
    rows = connection.execute("SELECT id, key, payload FROM outbox_event ORDER BY id").fetchall()
    assert rows == [(event.id, event.key, event.payload) for event in events]


def test_an_autocommit_connection_must_be_in_a_transaction_block(outbox):
    with psycopg.connect(outbox.url, autocommit=True) as connection:
        with pytest.raises(NotInTransaction, match="in autocommit and outside one"):
            delivered().save(connection)
        with connection.transaction(force_rollback=True):
            delivered().save(connection)
            assert len(connection.execute(READ).fetchall()) == 1


def test_a_pipeline_in_autocommit_is_no_transaction(outbox):
    with psycopg.connect(outbox.url, autocommit=True) as connection:
        with connection.pipeline():
            connection.execute("SELECT 1")
            with pytest.raises(NotInTransaction):
                delivered().save(connection)
        with connection.pipeline(), connection.transaction(force_rollback=True):
            connection.execute("SELECT 1")
            delivered().save(connection)
            assert len(connection.execute(READ).fetchall()) == 1
        assert connection.execute(READ).fetchall() == []


def test_asynchronous_connections_save_and_refuse_alike(outbox):
    async def scenario():
        async with await psycopg.AsyncConnection.connect(outbox.url, autocommit=True) as connection:
            with pytest.raises(NotInTransaction):
                await delivered().asave(connection)
            async with connection.pipeline():
                await connection.execute("SELECT 1")
                with pytest.raises(NotInTransaction):
                    await delivered().asave(connection)
            with pytest.raises(TypeError, match="await asave"):
                delivered().save(connection)
            async with connection.transaction(force_rollback=True):
                await delivered().asave(connection)
                await asave_many([delivered(), delivered()], connection)
                return await (await connection.execute("SELECT count(*) FROM outbox_event")).fetchone()

    assert asyncio.run(scenario()) == (3,)


def test_outbox_save_writes_an_event_from_plain_sql(outbox, connection):
    (with_key,) = connection.execute(
        "SELECT outbox_save('order_placed', 'o-1', 'shop.v1.OrderPlaced', '\\x0a')"
    ).fetchone()
    (without,) = connection.execute("SELECT outbox_save('order_placed', NULL, 'shop.v1.OrderPlaced', '')").fetchone()
    rows = connection.execute("SELECT id, key, payload, source FROM outbox_event ORDER BY payload DESC").fetchall()
    assert rows == [(with_key, "o-1", b"\n", outbox.name), (without, str(without), b"", outbox.name)]
    assert (with_key.version, without.version) == (7, 7)


def test_ids_made_by_the_database_follow_the_clock(connection):
    before = build_event(events_pb2.RouteAssignedEvent()).id
    (made,) = connection.execute("SELECT outbox_uuid7()").fetchone()
    after = build_event(events_pb2.RouteAssignedEvent()).id
    assert before.int >> 80 <= made.int >> 80 <= after.int >> 80
    assert made.variant == uuid.RFC_4122


def test_the_source_of_plain_sql_is_the_setting_of_its_role(connection):
    connection.execute("SET LOCAL waybill.source = 'warehouse'")
    delivered().save(connection)
    connection.execute("SELECT outbox_save('a', 'k', 'a.B', '')")
    assert {row[0] for row in connection.execute("SELECT source FROM outbox_event")} == {"warehouse"}


BAD = {
    "topic": [None, "", ".", "..", "a.b", "A", "1a", "_a", "a-b", "a b", "a\n", "\u00fc", "a" * 201,
              "__consumer_offsets", "waybill_connect_configs", "waybill_commands"],
    "key": [None, "", "k" * 1025, "\u00fc" * 513],
    "type": [None, "", ".a", "a.", "a..b", "1a", "a b", "a.B\n", "\u00fc", "a" * 256],
    "payload": [None, bytes((4 << 20) + 1)],
    "source": [None, "", "a b", "a\nb", "\u00fc", "a" * 256],
    "created_at": [None, "infinity", "-infinity", "9999-12-31 00:00:00+00", "1969-12-31 23:59:59+00", "0044-03-15 BC"],
    "traceparent": ["", "00-x", "00-" + "0" * 32 + "-" + "0" * 16, "00-" + "A" * 32 + "-" + "0" * 16 + "-00",
                    "00-" + "0" * 31 + "--" + "0" * 16 + "-00", "00-" + "0" * 33 + "-" + "0" * 15 + "-00"],
    "tracestate": ["", "a=1\n", "a=\u00fc", "a" * 513],
    "specversion": [None, "", "1.1"],
    "id": [None],
}  # fmt: skip


@pytest.mark.parametrize("column", BAD)
def test_a_row_that_would_stop_the_connector_or_a_consumer_is_refused_by_the_database(connection, column):
    good = {"topic": "a", "key": "k", "type": "a.B", "payload": b""}
    for value in BAD[column]:
        row = good | {column: value}
        insert = f"INSERT INTO outbox_event ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})"
        with pytest.raises(psycopg.errors.IntegrityError, match=column), connection.transaction():
            connection.execute(insert, list(row.values()))


def test_a_saved_event_cannot_be_changed(connection):
    delivered().save(connection)
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        connection.execute("UPDATE outbox_event SET key = 'other'")


def test_a_database_that_takes_any_bytes_for_text_gets_no_outbox(stack):
    name = f"t{uuid.uuid4().hex[:10]}"
    python = [sys.executable, "-m", "waybill_outbox", "ddl"]
    sql = subprocess.run(python, check=True, capture_output=True, text=True).stdout
    with psycopg.connect(stack.postgres, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0")
        try:
            with psycopg.connect(f"{stack.postgres.rpartition('/')[0]}/{name}") as connection:
                with pytest.raises(psycopg.errors.RaiseException, match="needs UTF8"):
                    connection.execute(sql)
        finally:
            server.execute(f"DROP DATABASE {name}")


def test_the_connectors_role_can_read_the_outbox_and_nothing_else(outbox):
    with psycopg.connect(outbox.url) as owner:
        owner.execute("CREATE TABLE secret ()")
        owner.execute(connector_role())
        owner.execute("SET ROLE waybill_connector")
        owner.execute(READ)
        for forbidden in ("SELECT FROM secret", "DELETE FROM outbox_event", "SELECT outbox_save('a', 'k', 'a.B', '')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), owner.transaction():
                owner.execute(forbidden)
        owner.rollback()


def test_django_saves_in_its_transactions_and_migrates(stack):
    with database(stack, with_ddl=False) as empty, database(stack) as other:
        script = Path(__file__).with_name("django_service.py")
        python = [sys.executable, "-W", "error", script, empty.url, other.url]
        ran = subprocess.run(python, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert "Ran 8 tests" in ran.stderr
