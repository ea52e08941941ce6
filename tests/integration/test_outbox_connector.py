"""From a committed row to a record in Kafka, through the real connector."""

import json
import os
from datetime import datetime

import psycopg
import pytest
from example_stubs import events_pb2, package_pb2
from outboxes import database, headers, records
from typer.testing import CliRunner
from waybill_outbox import MAX_MESSAGE_BYTES, build_event, connector_role, ddl

from connectors import debezium
from connectors.problems import Problem
from pipelines.cli import app

SAVE = "SELECT outbox_save(%s, %s, %s, %s)"


@pytest.fixture(scope="module")
def outbox(stack):
    with database(stack) as made:
        made.apply()
        yield made


@pytest.fixture
def connection(outbox):
    with psycopg.connect(outbox.url) as connection:
        yield connection


def test_a_committed_event_arrives_as_it_was_saved_with_cloudevents_headers(outbox, connection):
    message = events_pb2.PackageDeliveredEvent(package=package_pb2.Package(id=outbox.name), photo_key="\u00fc")
    event = build_event(message, source="/services/shop")
    event.save(connection)
    connection.commit()
    (arrived,) = records(outbox.stack, "package_delivered", 1, key=outbox.name)
    assert events_pb2.PackageDeliveredEvent.FromString(arrived.value()) == message
    found = headers(arrived)
    assert datetime.fromisoformat(found.pop("ce_time")) == event.created_at
    assert found == {
        "ce_specversion": "1.0",
        "ce_id": str(event.id),
        "ce_type": "logistics.v1.PackageDeliveredEvent",
        "ce_source": "/services/shop",
        "content-type": "application/protobuf",
        "traceparent": None,
        "tracestate": None,
    }


def test_an_empty_payload_arrives_as_an_empty_value_and_trace_context_as_it_is(outbox, connection):
    topic = f"empty_{outbox.name}"
    traced = f"00-{1:032x}-{2:016x}-01"
    connection.execute(
        "INSERT INTO outbox_event (topic, key, type, payload, traceparent, tracestate)"
        " VALUES (%s, 'pkg \u00fc', 'a.B', '', %s, 'a=1')",
        (topic, traced),
    )
    connection.commit()
    (arrived,) = records(outbox.stack, topic, 1)
    assert (arrived.key().decode(), arrived.value()) == ("pkg \u00fc", b"")
    assert (headers(arrived)["traceparent"], headers(arrived)["tracestate"]) == (traced, "a=1")


def test_an_event_of_a_transaction_that_rolls_back_never_arrives(outbox, connection):
    topic = f"rolled_back_{outbox.name}"
    for i in range(20):
        connection.execute(SAVE, (topic, str(i), "a.B", str(i).encode()))
        connection.rollback() if i % 2 else connection.commit()
    assert sorted(int(each.value()) for each in records(outbox.stack, topic, 10)) == list(range(0, 20, 2))


def test_no_row_that_the_database_takes_stops_the_connector(outbox, connection):
    topic = f"odd_{outbox.name}"
    odd = [
        {"key": "\x01\x7f\u202e\U0001f600" + "\u00fc" * 500},
        {"topic": f"{topic}_".ljust(200, "x")},
        {"source": "!" * 255, "tracestate": "~" * 512},
        {"type": "a" * 255},
        {"created_at": "1970-01-01 00:00:00+00"},
        {"created_at": "9999-12-30 23:59:59.999999+00"},
        {"payload": b"\x00\xff" * 10},
    ]
    for row in ({"topic": topic, "key": "k", "type": "a.B", "payload": b""} | change for change in odd):
        insert = f"INSERT INTO outbox_event ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})"
        connection.execute(insert, list(row.values()))
    connection.commit()
    assert len(records(outbox.stack, topic, len(odd) - 1)) == len(odd) - 1
    assert outbox.status().state == "RUNNING"


def test_what_else_happens_in_the_database_does_not_stop_the_connector(outbox, connection):
    topic = f"else_{outbox.name}"
    connection.execute(SAVE, (topic, "before", "a.B", b""))
    connection.execute("SELECT pg_logical_emit_message(true, 'other', 'text'), pg_logical_emit_message(false, '', '')")
    connection.execute("DELETE FROM outbox_event")
    connection.commit()
    connection.execute("ALTER TABLE outbox_event ADD COLUMN note text DEFAULT 'new'")
    connection.execute(SAVE, (topic, "altered", "a.B", b""))
    connection.execute("ALTER TABLE outbox_event DROP COLUMN note")
    connection.execute("TRUNCATE outbox_event")
    connection.execute(SAVE, (topic, "after", "a.B", b""))
    connection.commit()
    assert {each.key() for each in records(outbox.stack, topic, 3)} == {b"before", b"altered", b"after"}
    assert outbox.status().state == "RUNNING"


def test_events_of_the_largest_size_arrive_whole(outbox, connection):
    topic = f"large_{outbox.name}"
    payloads = {f"{i}": os.urandom(MAX_MESSAGE_BYTES) for i in range(4)}
    for key, payload in payloads.items():
        connection.execute(SAVE, (topic, key.ljust(1024, "k"), "a.B", payload))
    connection.commit()
    assert {each.key().decode().rstrip("k"): each.value() for each in records(outbox.stack, topic, 4)} == payloads


def test_large_rows_saved_before_the_connector_came_arrive_from_any_schema_read_by_the_least_role(stack):
    with database(stack, with_ddl=False) as late:
        topic, role = f"late_{late.name}", f"role_{late.name}"
        with psycopg.connect(late.url, autocommit=True) as connection:
            connection.execute('CREATE SCHEMA "Own.schema"')
            connection.execute(f'ALTER DATABASE {late.name} SET search_path = "Own.schema"')
        with psycopg.connect(late.url, autocommit=True) as connection:
            connection.execute(ddl())
            connection.execute(connector_role().replace("waybill_connector", role))
            for i in range(32):
                connection.execute(SAVE, (topic, str(i), "a.B", bytes(MAX_MESSAGE_BYTES)))
            late.apply(**{"database.user": role})
            assert len(records(stack, topic, 32)) == 32
            connection.execute(SAVE, (topic, "later", "a.B", b""))
            assert len(records(stack, topic, 33)) == 33
            assert late.status().state == "RUNNING"
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")


def test_applying_a_connector_says_what_is_wrong_and_mends_it(stack):
    with database(stack) as outbox:
        with pytest.raises(Problem, match="Publication autocreation is disabled"):
            outbox.apply(**{"publication.name": "missing"})
        assert outbox.status().state == "FAILED"
        with pytest.raises(Problem, match='role "nobody" does not exist'):
            outbox.apply(**{"database.user": "nobody"})
        assert outbox.apply().state == "RUNNING"


def test_the_command_line_applies_and_shows_the_connectors_of_the_settings(stack, tmp_path, monkeypatch):
    with database(stack) as outbox:
        settings = tmp_path / "waybill.yaml"
        settings.write_text(
            f"kafka: {{bootstrap-servers: '{stack.kafka}'}}\n"
            f"connect: {{url: '{stack.connect}'}}\n"
            f"outboxes: {{{outbox.name}: {{database: '{outbox.url}'}}}}\n"
            "descriptors: none\nconsumers: []\nlake: {root: lake}\n"
        )
        monkeypatch.setenv("WAYBILL_CONFIG", str(settings))
        run = CliRunner().invoke
        missing = run(app, ["connector", "status"])
        assert (missing.exit_code, missing.stdout.split()[0]) == (1, "MISSING")
        assert run(app, ["connector", "apply"]).exit_code == 0
        shown = run(app, ["connector", "status", outbox.name, "--json"])
        assert shown.exit_code == 0
        name = debezium.connector_name(outbox.name)
        assert json.loads(shown.stdout) == [{"name": name, "state": "RUNNING", "cause": ""}]
        unknown = run(app, ["connector", "status", "other"])
        assert "There is no outbox other in the settings" in str(unknown.exception)
