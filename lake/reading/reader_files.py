"""What the lake keeps for its readers alone: ``views.sql``, and of each topic a file that has every column and no row.

That file sorts first in the topic's folder of ``main/``.  Readers that take the columns of the first file they see,
as pandas and pyarrow do, so see those of all.
"""

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from connectors.problems import Problem
from lake.main import compaction
from lake.reading import snapshot, views
from lake.reading.snapshot import Head
from lake.storage import Storage, read_bytes, replace_bytes

log = structlog.get_logger()

#: No event is older, and no step of the compactor has this number.
FIRST_DATE, NO_STEP = "0001-01-01", 0


def write_views(storage: Storage) -> None:
    """Bring these files up to date, if they are not.

    Whoever writes looks again afterwards: of several that write at once, the last to do so has seen the newest commit.
    """
    written: Sequence[Head] | None = None
    while (heads := _heads(storage)) != written:
        for head in heads:
            _write_columns(storage, head)
        moved = {head.topic for head in heads if snapshot.requarantined(storage, head.topic)}
        _replace(storage, views.FILE, views.definitions(heads, moved).encode())
        written = heads


def columns_key(topic: str) -> str:
    return compaction.main_key(topic, FIRST_DATE, NO_STEP, 0)


def without_rows(columns: pa.Schema) -> bytes:
    """A Parquet file."""
    out = io.BytesIO()
    pq.write_table(columns.empty_table(), out)
    return out.getvalue()


def _heads(storage: Storage) -> list[Head]:
    found = []
    for topic in snapshot.topics(storage):
        try:
            found.append(snapshot.head(storage, topic))
        except Problem as error:  # the other topics' readers have no part in it
            log.warning("A topic is left out of views.sql.", topic=topic, error=str(error))
    return found


def _write_columns(storage: Storage, head: Head) -> None:
    _replace(storage, columns_key(head.topic), without_rows(head.columns))


def _replace(storage: Storage, key: str, content: bytes) -> None:
    try:
        if read_bytes(storage, key) == content:
            return
    except FileNotFoundError:
        pass
    replace_bytes(storage, key, content)
