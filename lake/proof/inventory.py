"""What the names, footers and records of a lake say is in it, and the quarantined records themselves."""

import io
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

from connectors.kafka.reader import Record
from connectors.problems import Problem
from lake import segments
from lake.main import compaction
from lake.main.compaction import Input
from lake.segments import Chain, Footer
from lake.storage import Storage, footer, read_bytes

#: A folder for each topic of which somebody has decoded quarantined records again.
REQUARANTINED = "requarantined"
QUARANTINE = "quarantine"

_CONTAINER = re.compile(r"quarantine/(?P<topic>[^/]+)/(?P<epoch>[^/]+)/(?P<partition>\d{5})-(?P<offset>\d{20})\.avro")


class Damaged(Problem):
    """A file of the lake is not what its name says."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record that could not be a row, what type was expected then, and what was wrong."""

    chain: Chain
    record: Record
    event_type: str
    error: str


def requarantined_key(topic: str, seq: int) -> str:
    return f"{REQUARANTINED}/{topic}/{seq:012d}.parquet"


def chains(keys: Iterable[str]) -> dict[Chain, list[int]]:
    """The starts of all segments among ``keys``, by chain, in ascending order."""
    found: defaultdict[Chain, list[int]] = defaultdict(list)
    for key in keys:
        if place := segments.parse(key):
            found[place[0]].append(place[1])
    return {chain: sorted(starts) for chain, starts in found.items()}


def containers(storage: Storage, topic: str) -> dict[Chain, list[int]]:
    """The offsets of all containers of ``topic``, named by a segment or not, by chain, in ascending order."""
    found: defaultdict[Chain, list[int]] = defaultdict(list)
    for key in storage.keys(f"{QUARANTINE}/{topic}"):
        if match := _CONTAINER.fullmatch(key):
            chain = Chain(match["topic"], match["epoch"], int(match["partition"]))
            found[chain].append(int(match["offset"]))
    return {chain: sorted(offsets) for chain, offsets in found.items()}


def declared(key: str, metadata: Mapping[str, str]) -> Input:
    """Segment ``key`` as its footer says.  Damaged if that contradicts its name, or says too little."""
    try:
        told, place = Footer.decode(key, metadata), segments.parse(key)
    except Problem as problem:
        raise Damaged(str(problem)) from problem
    if place is None or (told.topic_id, told.start) != (place[0].epoch, place[1]):
        raise Damaged(f"{key} is of another place: its footer says {told.topic_id}, start {told.start}")
    if any(not told.start <= offset < told.next for offset in told.quarantined):
        raise Damaged(f"{key} names an offset in quarantine that it does not reach")
    return Input(key, told.topic_id, place[0].partition, told.start, told.next, told.rows, told.quarantined)


def quarantined(storage: Storage, topic: str) -> dict[Chain, list[int]]:
    """The offsets in quarantine by what segments say, by chain, in ascending order.

    A container that no segment names was left by a crash, and its record is a row or in quarantine again.
    """
    kept = containers(storage, topic)
    if not kept:
        return {}
    commit = compaction.newest(storage, topic)  # before the listing: segments below its watermarks may go
    found: defaultdict[Chain, list[int]] = defaultdict(list)
    hot = chains(storage.keys(f"hot/{topic}"))
    for seq in range(1, commit.seq + 1):
        for one in compaction.read_intent(storage, topic, seq).inputs:
            found[Chain(topic, one.epoch, one.partition)] += one.quarantined
    for chain, offsets in kept.items():
        mark = commit.watermarks.get((chain.epoch, chain.partition), 0)
        starts = [start for start in hot.get(chain, ()) if start >= mark]
        holding = {starts[at - 1] for offset in offsets if (at := bisect_right(starts, offset))}
        for key in (segments.segment_key(chain, start) for start in sorted(holding)):
            found[chain] += declared(key, footer(storage, key)).quarantined
    return {chain: sorted(offsets) for chain, offsets in found.items() if offsets}


def read(storage: Storage, chain: Chain, offset: int) -> Quarantined:
    """The record in quarantine.  Raises FileNotFoundError, or Damaged for what is not its container."""
    key = segments.quarantine_key(chain, offset)
    content = read_bytes(storage, key)
    try:
        records: list[Any] = list(fastavro.reader(io.BytesIO(content)))
        (told,) = records
        found = Quarantined(
            Chain(told["topic"], told["topic_id"], told["partition"]),
            Record(
                told["topic"],
                told["partition"],
                told["offset"],
                told["timestamp_ms"],
                told["key"],
                told["value"],
                tuple((header["name"], header["value"]) for header in told["headers"]),
            ),
            told["event_type"],
            told["error"],
        )
    except Exception as error:  # fastavro raises whatever the bytes lead it to
        raise Damaged(f"{storage.uri(key)} cannot be read as a container of quarantine: {error!r}") from error
    if (found.chain, found.record.offset) != (chain, offset):
        raise Damaged(f"{storage.uri(key)} holds another record: {found.chain} offset {found.record.offset}")
    return found


def places(storage: Storage, key: str) -> list[tuple[str, int, int]]:
    """Epoch, partition and offset of every row of a Parquet file.  Raises FileNotFoundError, or Damaged."""
    names = ["_epoch", "_partition", "_offset"]
    try:
        with storage.open(key) as opened:
            table = pq.read_table(opened, columns=names, use_threads=False)
            return list(zip(*(table[name].to_pylist() for name in names), strict=True))
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, LookupError) as error:
        raise Damaged(f"{storage.uri(key)} cannot be read as Parquet: {error}") from error


def requarantined(storage: Storage, topic: str) -> set[tuple[str, int, int]]:
    """The places of all records that were in quarantine and are rows now."""
    return {place for key in storage.keys(f"{REQUARANTINED}/{topic}") for place in places(storage, key)}
