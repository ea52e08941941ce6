"""The compactor's records: what it has decided (an intent) and what it has done (a commit), numbered, for each topic.

Hot segments become files of ``main/``, once each, in steps that any process may repeat or take over:

1. ``N.intent.json`` is created only if absent: whoever wins decides which segments step N takes.
2. Everything of the outputs follows from the intent alone: who writes them does not matter, nor how often.
3. ``N.commit.json`` says that all outputs are there.  Intent N + 1 is made only by who has read commit N.

What lies below a commit's watermarks is in ``main/``; what lies above is in ``hot/``.  Pure, but for ``newest``.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from connectors.problems import Problem
from lake.storage import Storage, read_bytes

#: Version of both records.
FORMAT = 1

_COMMIT = re.compile(r".*/(\d{12})\.commit\.json")


@dataclass(frozen=True, slots=True)
class Input:
    """A hot segment, as its footer says."""

    key: str
    epoch: str
    partition: int
    start: int
    next: int
    rows: int
    quarantined: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Intent:
    """Step ``seq`` of ``topic`` takes ``inputs`` and gives files of at most ``rows_per_file`` rows."""

    topic: str
    seq: int
    inputs: tuple[Input, ...]
    rows_per_file: int
    made_at: str
    """ISO 8601, UTC."""


@dataclass(frozen=True, slots=True)
class Output:
    """A file of ``main/``."""

    key: str
    date: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Commit:
    """All ``outputs`` of step ``seq`` are there."""

    topic: str
    seq: int
    outputs: tuple[Output, ...] = ()
    watermarks: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """By epoch and partition, of every chain the topic ever had: offsets below are in ``main/`` or quarantine."""
    committed_at: str = ""
    """ISO 8601, UTC."""


def folder(topic: str) -> str:
    return f"_lake/compaction/{topic}"


def intent_key(topic: str, seq: int) -> str:
    return f"{folder(topic)}/{seq:012d}.intent.json"


def commit_key(topic: str, seq: int) -> str:
    return f"{folder(topic)}/{seq:012d}.commit.json"


def main_folder(topic: str) -> str:
    return f"main/{topic}"


def main_key(topic: str, date: str, seq: int, number: int) -> str:
    """File ``number`` that step ``seq`` made of the events of ``date`` (``2026-11-28``)."""
    return f"{main_folder(topic)}/dt={date}/{seq:012d}-{number:05d}.parquet"


def newest(storage: Storage, topic: str) -> Commit:
    """The last commit of ``topic``; number 0, of nothing, before the first."""
    numbers = [int(match[1]) for key in storage.keys(folder(topic)) if (match := _COMMIT.fullmatch(key))]
    return read_commit(storage, topic, max(numbers)) if numbers else Commit(topic, 0)


def read_commit(storage: Storage, topic: str, seq: int) -> Commit:
    """Raises FileNotFoundError, or Problem for what is no commit."""
    return decode_commit(read_bytes(storage, commit_key(topic, seq)))


def read_intent(storage: Storage, topic: str, seq: int) -> Intent:
    """Raises FileNotFoundError, or Problem for what is no intent."""
    return decode_intent(read_bytes(storage, intent_key(topic, seq)))


def encode_intent(intent: Intent) -> bytes:
    return _dumped(asdict(intent))


def encode_commit(commit: Commit) -> bytes:
    marks = [[epoch, partition, offset] for (epoch, partition), offset in sorted(commit.watermarks.items())]
    return _dumped({**asdict(commit), "watermarks": marks})


def decode_intent(content: bytes) -> Intent:
    told = _loaded(content)
    inputs = tuple(Input(**{**one, "quarantined": tuple(one["quarantined"])}) for one in told.pop("inputs"))
    return Intent(inputs=inputs, **told)


def decode_commit(content: bytes) -> Commit:
    told = _loaded(content)
    outputs = tuple(Output(**one) for one in told.pop("outputs"))
    marks = {(epoch, partition): offset for epoch, partition, offset in told.pop("watermarks")}
    return Commit(outputs=outputs, watermarks=marks, **told)


def _dumped(told: dict[str, Any]) -> bytes:
    return json.dumps({"format": FORMAT, **told}, indent=1).encode()


def _loaded(content: bytes) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(content)
    if (version := told.pop("format", None)) != FORMAT:
        raise Problem(f"a record of the compactor has format {version}: it is of another version of Waybill")
    return told
