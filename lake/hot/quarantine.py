"""What the lake keeps of a record that cannot be a row: all of it, in an Avro container of its own."""

import io

import fastavro

from lake.hot.rows import Rejected
from lake.segments import Chain

QUARANTINED = fastavro.parse_schema(
    {
        "type": "record",
        "name": "QuarantinedRecord",
        "namespace": "waybill.lake",
        "fields": [
            {"name": "topic", "type": "string"},
            {"name": "topic_id", "type": "string"},
            {"name": "partition", "type": "int"},
            {"name": "offset", "type": "long"},
            {"name": "timestamp_ms", "type": "long"},
            {"name": "event_type", "type": "string"},
            {"name": "error", "type": "string"},
            {"name": "key", "type": ["null", "bytes"]},
            {"name": "value", "type": ["null", "bytes"]},
            {
                "name": "headers",
                "type": {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "name": "Header",
                        "fields": [
                            {"name": "name", "type": "string"},
                            {"name": "value", "type": ["null", "bytes"]},
                        ],
                    },
                },
            },
        ],
    }
)


def container(chain: Chain, event_type: str, rejected: Rejected) -> bytes:
    """An Avro container with the whole record and what was wrong with it."""
    record, out = rejected.record, io.BytesIO()
    fastavro.writer(
        out,
        QUARANTINED,
        [
            {
                "topic": chain.topic,
                "topic_id": chain.epoch,
                "partition": chain.partition,
                "offset": record.offset,
                "timestamp_ms": record.timestamp,
                "event_type": event_type,
                "error": rejected.error,
                "key": record.key,
                "value": record.value,
                "headers": [{"name": name, "value": value} for name, value in record.headers],
            }
        ],
    )
    return out.getvalue()
