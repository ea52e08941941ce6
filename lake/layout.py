"""What a lake holds besides its segments, put in place when a sink starts."""

import io
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.schemas import EventType
from lake import schema, segments, storage, views
from lake.storage import Storage

#: A name for each topic the lake ever had: those that the catalog has lost keep their views.
TOPICS = "_lake/topics"


def prepare(store: Storage, events: Iterable[EventType]) -> None:
    """Refuse a storage that cannot be a lake; show readers the topics' columns before there is a row."""
    storage.probe(store)
    for event in events:
        columns = schema.segment_schema(event.descriptor)
        storage.create_bytes(
            store, segments.schema_key(event.topic, schema.fingerprint(columns)), _without_rows(columns)
        )
        storage.create_bytes(store, f"{TOPICS}/{event.topic}", b"")
    topics = [key.removeprefix(f"{TOPICS}/") for key in store.keys(TOPICS)]
    storage.replace_bytes(store, views.FILE, views.definitions(topics).encode())


def _without_rows(columns: pa.Schema) -> bytes:
    out = io.BytesIO()
    pq.write_table(columns.empty_table(), out)
    return out.getvalue()
