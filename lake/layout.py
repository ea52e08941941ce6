"""What a lake holds besides its segments, put in place when a sink starts."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from connectors.problems import Problem, Unreachable
from connectors.schemas import EventType
from lake import segments, storage
from lake.columns import schema
from lake.reading.reader_files import without_rows, write_views
from lake.reading.snapshot import TOPICS
from lake.storage import Storage

log = structlog.get_logger()


def prepare(store: Storage, events: Iterable[EventType]) -> None:
    """Refuse a storage that cannot be a lake; show readers the topics' columns before there is a row."""
    try:
        storage.probe(store)
        _show(store, events)
    except OSError as error:
        raise Unreachable(f"{store} takes nothing: {error}; see that it has room, the lake waits for it") from error


def declare(store: Storage, topic: str, columns: pa.Schema) -> None:
    """Make ``columns`` some that segments of ``topic`` may have.

    Raises Problem if files with them could not be read together with those that are there.
    """
    key = segments.schema_key(topic, schema.fingerprint(columns))
    keys = store.keys(segments.folder(topic, "schema"))
    if key in keys:
        return
    if found := dict.fromkeys(one for other in keys for one in schema.conflicts(_columns(store, other), columns)):
        raise Problem(
            f"the event type of the topic {topic} has changed so that new files would not read beside those that the "
            f"lake has: {'; '.join(found)}; give the field its type back, and the new one a name of its own"
        )
    storage.create_bytes(store, key, without_rows(columns))


def _show(store: Storage, events: Iterable[EventType]) -> None:
    """One topic that is at fault must not keep the lake from taking in the others."""
    for event in events:
        with _told_of(event.topic):
            declare(store, event.topic, schema.segment_schema(event.descriptor))
        storage.create_bytes(store, f"{TOPICS}/{event.topic}", b"")
    with _told_of("the readers' views"):
        write_views(store)


@contextmanager
def _told_of(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, Unreachable):
        raise
    except Exception as error:
        log.exception("Something in the lake is not as it should be.", what=what, error=str(error))


def _columns(store: Storage, key: str) -> pa.Schema:
    try:
        with store.open(key) as file:
            return pq.read_schema(file)
    except pa.ArrowException as error:
        raise Problem(f"{store.uri(key)} cannot be read as Parquet: {error}; move the file away") from error
