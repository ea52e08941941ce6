"""The compactor's records: what it has decided (an intent) and what it has done (a commit), numbered, for each topic.

Hot segments become files of ``main/``, once each, in steps that any process may repeat or take over:

1. ``N.intent.json`` is created only if absent: whoever wins decides which segments step N takes.
2. Everything of the outputs follows from the intent alone: who writes them does not matter, nor how often.
3. ``N.commit.json`` says that all outputs are there.  Intent N + 1 is made only by who has read commit N.

What lies below a commit's watermarks is in ``main/``; what lies above is in ``hot/``.  Below are the records, then what
is decided by them: all pure, but for what takes a storage.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any, TypeVar

from connectors.problems import Problem
from lake import segments
from lake.segments import Chain
from lake.storage import Storage, read_bytes

R = TypeVar("R")

#: Version of both records.
FORMAT = 1

#: By epoch and partition.
Watermarks = Mapping[tuple[str, int], int]

_COMMIT = re.compile(r".*/(\d{12})\.commit\.json")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A hot segment that is not below its watermark, as a listing shows it."""

    key: str
    chain: Chain
    start: int
    bytes: int


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
    watermarks: Watermarks = field(default_factory=dict)
    """By epoch and partition, of every chain the topic ever had: offsets below are in ``main/`` or quarantine."""
    committed_at: str = ""
    """ISO 8601, UTC."""


def folder(topic: str) -> str:
    return f"_lake/compaction/{topic}"


def intent_key(topic: str, seq: int) -> str:
    return f"{folder(topic)}/{seq:012d}.intent.json"


def commit_key(topic: str, seq: int) -> str:
    return f"{folder(topic)}/{seq:012d}.commit.json"


def hot_folder(topic: str) -> str:
    """Where all chains of ``topic`` are."""
    return f"hot/{topic}"


def main_folder(topic: str) -> str:
    return f"main/{topic}"


def main_key(topic: str, date: str, seq: int, number: int) -> str:
    """File ``number`` that step ``seq`` made of the events of ``date`` (``2026-11-28``)."""
    return f"{main_folder(topic)}/dt={date}/{seq:012d}-{number:05d}.parquet"


def newest(storage: Storage, topic: str) -> Commit:
    """The last commit of ``topic``; number 0, of nothing, before the first."""
    numbers = committed(storage, topic)
    return read_commit(storage, topic, numbers[-1]) if numbers else Commit(topic, 0)


def committed(storage: Storage, topic: str) -> list[int]:
    """Numbers of all commits of ``topic``, rising."""
    return sorted(int(match[1]) for key in storage.keys(folder(topic)) if (match := _COMMIT.fullmatch(key)))


def read_commit(storage: Storage, topic: str, seq: int) -> Commit:
    """Raises FileNotFoundError, or Problem for what is no commit."""
    return _read(storage, commit_key(topic, seq), decode_commit)


def read_intent(storage: Storage, topic: str, seq: int) -> Intent:
    """Raises FileNotFoundError, or Problem for what is no intent."""
    return _read(storage, intent_key(topic, seq), decode_intent)


def _read(storage: Storage, key: str, decode: Callable[[bytes], R]) -> R:
    content = read_bytes(storage, key)
    try:
        return decode(content)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise Problem(
            f"{storage.uri(key)} is no record of the compactor: {error!r}; bring it back from a copy"
        ) from error


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


def waiting(sizes: Mapping[str, int], watermarks: Watermarks) -> tuple[list[Waiting], dict[tuple[str, int], int]]:
    """Of the keys of a topic's hot folder, with their bytes, what is not in ``main/`` yet.

    The first of every chain, then the second of every chain, and so on: any number of them, from the front, is what the
    chains begin with.  Chains that do not go on at their watermark are left out: they are the second, each with the
    offset at which a segment is missing.
    """
    chains: dict[Chain, list[Waiting]] = {}
    for key, size in sorted(sizes.items()):
        if parsed := segments.parse(key):
            chain, start = parsed
            if start >= watermarks.get((chain.epoch, chain.partition), 0):
                chains.setdefault(chain, []).append(Waiting(key, chain, start, size))
    ends = {chain: watermarks.get((chain.epoch, chain.partition), 0) for chain in chains}
    broken = {(one.epoch, one.partition): end for one, end in ends.items() if chains[one][0].start != end}
    whole = [found for chain, found in chains.items() if (chain.epoch, chain.partition) not in broken]
    ranked = [(rank, one) for found in whole for rank, one in enumerate(found)]
    return [one for _, one in sorted(ranked, key=lambda each: (each[0], each[1].key))], broken


def affordable(found: Sequence[Waiting], most_bytes: int, most: int) -> list[Waiting]:
    """From the front, at most so many bytes and segments; but one, however large."""
    fitting = sum(total <= most_bytes for total in accumulate(one.bytes for one in found))
    return list(found[: min(most, max(1, fitting))])


def follow(found: Iterable[Input], watermarks: Watermarks, most_rows: int) -> tuple[Input, ...]:
    """What a step takes of ``found``: of each chain as far as it has no gap, at most so many rows; but one segment."""
    ends, rows = dict(watermarks), 0
    taken: list[Input] = []
    for one in found:
        chain = one.epoch, one.partition
        if one.start == ends.get(chain, 0):
            rows += one.rows
            if taken and rows > most_rows:
                break
            taken.append(one)
            ends[chain] = one.next
    return tuple(taken)


def advanced(watermarks: Watermarks, inputs: Iterable[Input]) -> dict[tuple[str, int], int]:
    """The watermarks when ``inputs`` are in ``main/`` too."""
    marks = dict(watermarks)
    for one in inputs:
        marks[one.epoch, one.partition] = max(marks.get((one.epoch, one.partition), 0), one.next)
    return marks


def rows_per_file(inputs: Collection[Input], size: int, file_bytes: int) -> int:
    """How many rows files of about ``file_bytes`` have, if the ``inputs`` have ``size`` bytes."""
    return max(1, sum(one.rows for one in inputs) * file_bytes // max(1, size))


def removable(keys: Collection[str], watermarks: Watermarks) -> list[str]:
    """Hot segments below ``watermarks``: never the last of a chain, which says where the chain goes on."""
    last = segments.newest(keys)
    found = [(key, *parsed) for key in keys if (parsed := segments.parse(key))]
    return [
        key
        for key, chain, start in found
        if start < watermarks.get((chain.epoch, chain.partition), 0) and start != last[chain]
    ]
