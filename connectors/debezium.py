"""The outbox connector: Debezium in Kafka Connect, which carries the rows of one outbox table to Kafka.

`render` decides everything; `connectors.kafka_connect` takes it to Kafka Connect.
"""

import re
from urllib.parse import parse_qsl, unquote, urlsplit

from connectors.kafka import topics
from connectors.problems import BadInput

#: What the SDK's DDL makes, in whichever schema: the publication holds this one table.
TABLE = "outbox_event"
PUBLICATION = "outbox_pub"

MAX_PAYLOAD_BYTES = 4 << 20

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_TLS = {"sslmode", "sslcert", "sslkey", "sslrootcert"}
_HEADERS = {
    "id": "ce_id",
    "type": "ce_type",
    "source": "ce_source",
    "created_at": "ce_time",
    "specversion": "ce_specversion",
    "traceparent": "traceparent",
    "tracestate": "tracestate",
}


def connector_name(outbox: str) -> str:
    """The connector of an outbox; also the name of its offsets in Kafka."""
    return f"waybill-outbox-{outbox}"


def slot_name(outbox: str) -> str:
    """The replication slot of an outbox: a Postgres server's slots share one namespace."""
    return f"waybill_outbox_{outbox.replace('-', '_')}"


def render(outbox: str, database: str, password: str | None = None) -> dict[str, str]:
    """The connector's configuration for the outbox named `outbox` in the Postgres database at the URL `database`.

    It holds the `password` as it is, and Connect keeps it so.  BadInput if the name or the URL cannot be used.
    """
    if not _NAME.fullmatch(outbox):
        raise BadInput(f"the outbox name {outbox!r} must be lower case letters, digits, - and _, at most 40")
    name = connector_name(outbox)
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "exactly.once.support": "required",
        **_database(outbox, database),
        **({"database.password": password} if password else {}),
        "topic.prefix": name,
        "plugin.name": "pgoutput",
        "slot.name": slot_name(outbox),
        "publication.name": PUBLICATION,
        "publication.autocreate.mode": "disabled",
        "table.include.list": rf".*\.{TABLE}",
        **_reading(),
        **_routing(name),
        **_writing(),
        **_topic_creation(),
    }


def _database(outbox: str, url: str) -> dict[str, str]:
    form = f"the database of outbox {outbox} must be a URL: postgresql://USER@HOST:PORT/DATABASE"
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
    except ValueError as error:
        raise BadInput(form) from error
    database = unquote(parts.path.removeprefix("/"))
    if parts.scheme not in {"postgres", "postgresql"} or not (parts.hostname and parts.username and database):
        raise BadInput(form)
    options = dict(parse_qsl(parts.query))
    if unknown := sorted(options.keys() - _TLS):
        raise BadInput(f"the database of outbox {outbox}: {', '.join(unknown)} cannot be passed on to the connector")
    return {
        "database.hostname": parts.hostname,
        "database.port": str(port),
        "database.user": unquote(parts.username),
        "database.dbname": database,
        **{f"database.{option}": value for option, value in options.items()},
    }


def _reading() -> dict[str, str]:
    return {
        # Rows that are still there when the slot is lost, or when the connector is new, are read as a snapshot.
        "snapshot.mode": "when_needed",
        "offset.mismatch.strategy": "trust_offset",
        "skipped.operations": "u,d,t",
        "tombstones.on.delete": "false",
        "binary.handling.mode": "bytes",
        "extended.headers.enabled": "false",
        "poll.interval.ms": "50",
        # Connect's heap is bounded though events may have 4 MiB each.
        "max.queue.size.in.bytes": str(16 << 20),
        "snapshot.fetch.size": "8",
        # An idle outbox in a busy database would hold back the slot, and so the server's WAL, for ever.
        "heartbeat.interval.ms": "10000",
        "heartbeat.action.query": "SELECT pg_logical_emit_message(false, 'waybill-heartbeat', '')",
        "message.prefix.exclude.list": ".*",
        # Postgres away: again every second, without end.
        "retriable.restart.connector.wait.ms": "1000",
        "slot.retry.delay.ms": "1000",
        "slot.max.retries": "60",
    }


def _routing(name: str) -> dict[str, str]:
    return {
        "predicates": "isOutbox",
        "predicates.isOutbox.type": "org.apache.kafka.connect.transforms.predicates.TopicNameMatches",
        "predicates.isOutbox.pattern": rf"{re.escape(name)}\..*\.{TABLE}",
        "transforms": "contentType,outbox,dropId",
        "transforms.contentType.type": "org.apache.kafka.connect.transforms.InsertHeader",
        "transforms.contentType.predicate": "isOutbox",
        "transforms.contentType.header": "content-type",
        "transforms.contentType.value.literal": "application/protobuf",
        "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
        "transforms.outbox.predicate": "isOutbox",
        "transforms.outbox.table.op.invalid.behavior": "error",
        "transforms.outbox.table.field.event.id": "id",
        "transforms.outbox.table.field.event.key": "key",
        "transforms.outbox.table.field.event.payload": "payload",
        "transforms.outbox.table.fields.additional.placement": ",".join(
            f"{column}:header:{header}" for column, header in _HEADERS.items()
        ),
        "transforms.outbox.route.by.field": "topic",
        "transforms.outbox.route.topic.regex": "(?<topic>.*)",
        "transforms.outbox.route.topic.replacement": "${topic}",
        "transforms.outbox.route.tombstone.on.empty.payload": "false",
        # The router's own copy of ce_id.
        "transforms.dropId.type": "org.apache.kafka.connect.transforms.DropHeaders",
        "transforms.dropId.headers": "id",
    }


def _writing() -> dict[str, str]:
    return {
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "io.debezium.converters.BinaryDataConverter",
        # Heartbeats are no bytes.
        "value.converter.delegate.converter.type": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.delegate.converter.type.schemas.enable": "false",
        "header.converter": "org.apache.kafka.connect.storage.StringConverter",
        "producer.override.compression.type": "zstd",
        "producer.override.linger.ms": "5",
        "producer.override.max.request.size": str(MAX_PAYLOAD_BYTES + topics.RECORD_OVERHEAD),
        # Tolerating an error would lose an event.
        "errors.tolerance": "none",
        "errors.log.enable": "true",
    }


def _topic_creation() -> dict[str, str]:
    """An event whose topic does not exist yet makes it: waiting for someone to do so would hold up all later ones.

    The replicas are the brokers' default (-1), which never fails; `waybill topics apply` makes topics with as many as
    Waybill wants.
    """
    made = topics.source("", MAX_PAYLOAD_BYTES)
    return {
        "topic.creation.default.partitions": str(topics.PARTITIONS),
        "topic.creation.default.replication.factor": "-1",
        **{f"topic.creation.default.{name}": str(value) for name, value in {**made.settings, **made.at_least}.items()},
        "topic.creation.groups": "heartbeat",
        "topic.creation.heartbeat.include": r"__debezium-heartbeat\..*",
        "topic.creation.heartbeat.partitions": "1",
        "topic.creation.heartbeat.replication.factor": "-1",
    }
