"""The files of a topic that hold each of its records once, at one moment."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.problems import BadInput, Problem
from lake import segments
from lake.columns import schema
from lake.main import compaction
from lake.main.compaction import Commit
from lake.storage import Storage

#: A name for each topic the lake ever had: those that the catalog has lost keep their views.
TOPICS = "_lake/topics"

_STEP = re.compile(r".*/dt=(?P<date>\d{4}-\d\d-\d\d)/(?P<seq>\d{12})-\d{5}\.parquet")


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a topic before its files are listed."""

    topic: str
    columns: pa.Schema
    """Of all schemas the topic ever had: the event's in the order of their numbers, then the lake's own."""
    commit: Commit
    without_rows: str
    """Key of a file that has some of the columns, and no row."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Three lists of keys; no record is in two of them."""

    head: Head
    main: tuple[str, ...]
    hot: tuple[str, ...]
    requarantined: tuple[str, ...]


def topics(storage: Storage) -> list[str]:
    """All that the lake ever had, in the order of their names."""
    return sorted(key.removeprefix(f"{TOPICS}/") for key in storage.keys(TOPICS))


def chosen(storage: Storage, wanted: Sequence[str]) -> list[str]:
    """Those ``wanted``, all of the lake if none is named.  BadInput for one that it does not have."""
    known = topics(storage)
    if unknown := sorted({*wanted} - {*known}):
        raise BadInput(f"the lake in {storage} has no topic {', '.join(unknown)}; it has {', '.join(known)}")
    return sorted({*wanted}) or known


def head(storage: Storage, topic: str) -> Head:
    """Raises Problem if the lake does not say what columns the topic has."""
    folder = segments.folder(topic, "schema")
    keys = sorted(storage.keys(folder))
    if not keys:
        raise Problem(f"{folder}/ is gone, which says what columns {topic} has; a restart of the lake worker mends it")
    try:
        columns = _ordered(pa.unify_schemas([_read_schema(storage, key) for key in keys]))
    except pa.ArrowException as error:
        raise Problem(
            f"columns of {topic} cannot be read together: {error}; move the wrong file of {folder}/ away"
        ) from error
    return Head(topic, columns, compaction.newest(storage, topic), keys[0])


def take(storage: Storage, topic: str) -> Snapshot:
    """The commit is read before anything is listed: what a later one moves is in ``main/`` under a higher number, and
    its segments stay for a day.
    """
    found = head(storage, topic)
    main, hot = storage.keys(compaction.main_folder(topic)), storage.keys(f"hot/{topic}")
    return Snapshot(
        found,
        tuple(sorted(key for key in main if 0 < step(key) <= found.commit.seq)),
        tuple(sorted(above(hot, found.commit))),
        requarantined(storage, topic),
    )


def above(keys: Iterable[str], commit: Commit) -> Iterator[str]:
    """The segments among ``keys`` that ``commit`` has not moved to ``main/``."""
    for key in keys:
        if parsed := segments.parse(key):
            chain, start = parsed
            if start >= commit.watermarks.get((chain.epoch, chain.partition), 0):
                yield key


def step(key: str) -> int:
    """The compactor's step that made a file of ``main/``; 0 for a file that none made."""
    match = _STEP.fullmatch(key)
    return int(match["seq"]) if match else 0


def date(key: str) -> str:
    """The event date of a file of ``main/`` (``2026-11-28``)."""
    match = _STEP.fullmatch(key)
    return match["date"] if match else ""


def requarantined(storage: Storage, topic: str) -> tuple[str, ...]:
    return tuple(sorted(storage.keys(f"requarantined/{topic}")))


def _read_schema(storage: Storage, key: str) -> pa.Schema:
    with storage.open(key) as file:
        return pq.read_schema(file)


def _ordered(columns: pa.Schema) -> pa.Schema:
    own = [field for field in columns if field.name in schema.METADATA.names]
    events = [field for field in columns if field.name not in schema.METADATA.names]
    return pa.schema([*sorted(events, key=_number), *own])


def _number(field: pa.Field) -> int:
    return int((field.metadata or {}).get(schema.FIELD_ID, 0))
