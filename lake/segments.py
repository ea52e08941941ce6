"""The chain of segments of one topic partition: names, footers and decisions.  Pure.

The name is the lock: it holds only the start offset and is created only if absent, so of all who write from one offset
one wins.  The footer's ``next`` names the segment that follows, so the chain itself says where to go on; offsets
between (transaction markers, aborted records) need no row.  An epoch is one life of a topic: Kafka's topic id.
"""

import json
import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from connectors.problems import Problem

K = TypeVar("K", bound=Hashable)

_KEY = re.compile(r"hot/(?P<topic>[^/]+)/(?P<epoch>[^/]+)/(?P<partition>\d{5})-(?P<start>\d{20})\.parquet")
_PREFIX = "waybill."


@dataclass(frozen=True, slots=True)
class Chain:
    """One partition in one life of its topic."""

    topic: str
    epoch: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


@dataclass(frozen=True, slots=True)
class Footer:
    """What a segment says of itself: it covers ``[start, next)``, in ``rows`` and the ``quarantined`` offsets."""

    start: int
    next: int
    rows: int
    quarantined: tuple[int, ...]
    topic_id: str
    schema: str
    writer: str

    def encode(self) -> dict[str, str]:
        """As Parquet key-value metadata."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {
            _PREFIX + name: json.dumps(value) if name == "quarantined" else str(value) for name, value in fields.items()
        }

    @classmethod
    def decode(cls, key: str, metadata: Mapping[str, str]) -> "Footer":
        """Of segment ``key``.  Problem if it does not say everything, or does not go on."""
        following = next_offset(key, metadata)
        try:
            told = {name: metadata[_PREFIX + name] for name in cls.__slots__}
            return cls(
                start=int(told["start"]),
                next=following,
                rows=int(told["rows"]),
                quarantined=tuple(json.loads(told["quarantined"])),
                topic_id=told["topic_id"],
                schema=told["schema"],
                writer=told["writer"],
            )
        except (KeyError, ValueError) as error:
            raise Problem(f"{key} is no segment of the lake: its footer lacks {error}; move the file away") from error


@dataclass(frozen=True, slots=True)
class Limits:
    """When a segment is closed, and what all open ones may hold in memory."""

    segment_bytes: int
    segment_age: float
    """Seconds since the segment's first record."""
    memory_bytes: int
    quarantine: int = 1000
    """Records of one segment that may go to quarantine before its partition is held."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """Somebody else's segment holds all of ours: go on at ``start``."""

    start: int


@dataclass(frozen=True, slots=True)
class Remainder:
    """Somebody else's segment holds ours below ``start``; the rest is the next segment."""

    start: int


#: Why a segment is closed: its limits, the memory of all, its partition that goes to another sink, the end of this one.
Rotation = Literal["size", "age", "memory", "revoke", "shutdown"]


def folder(topic: str, epoch: str) -> str:
    return f"hot/{topic}/{epoch}"


def segment_key(chain: Chain, start: int) -> str:
    return f"{folder(chain.topic, chain.epoch)}/{chain.partition:05d}-{start:020d}.parquet"


def quarantine_key(chain: Chain, offset: int) -> str:
    return f"quarantine/{chain.topic}/{chain.epoch}/{chain.partition:05d}-{offset:020d}.avro"


def schema_key(topic: str, fingerprint: str) -> str:
    """A file without rows beside the epochs: a glob over a topic finds its columns before its first segment."""
    return f"{folder(topic, 'schema')}/{fingerprint}.parquet"


def parse(key: str) -> tuple[Chain, int] | None:
    """Chain and start of segment ``key``; None for other names."""
    match = _KEY.fullmatch(key)
    return match and (Chain(match["topic"], match["epoch"], int(match["partition"])), int(match["start"]))


def newest(keys: Iterable[str]) -> dict[Chain, int]:
    """Start of the last segment of each chain among ``keys``; other names are passed over."""
    found: dict[Chain, int] = {}
    for key in keys:
        if parsed := parse(key):
            chain, start = parsed
            found[chain] = max(found.get(chain, 0), start)
    return found


def next_offset(key: str, metadata: Mapping[str, str]) -> int:
    """Where the chain goes on after segment ``key``.  Problem if its footer does not say, or does not go on."""
    match = _KEY.fullmatch(key)
    text = metadata.get(_PREFIX + "next", "")
    if match is None or not text.isdecimal() or int(text) <= int(match["start"]):
        raise Problem(f"{key} is no segment of the lake: its footer names no next offset; move the file away")
    return int(text)


def rotation(size: int, age: float, limits: Limits) -> Rotation | None:
    """Whether a segment of ``size`` bytes, ``age`` seconds old, is due, and why."""
    if size >= limits.segment_bytes:
        return "size"
    return "age" if age >= limits.segment_age else None


def spoilt(rejected: int, decoded: int, limit: int) -> bool:
    """Whether a segment rejects so many of its records that the fault is not theirs: over ``limit`` and over 1 %."""
    return rejected > limit and rejected * 100 > rejected + decoded


def after_lost_race(end: int, winner_next: int) -> Adopted | Remainder:
    """What becomes of a segment that ends at ``end`` when the winner's ends at ``winner_next``."""
    return Remainder(winner_next) if winner_next < end else Adopted(winner_next)


def to_spill(held: Mapping[K, int], budget: int) -> list[K]:
    """Who must let go of memory, the largest first, until all hold at most ``budget`` bytes."""
    total, chosen = sum(held.values()), []
    for key in sorted(held, key=lambda key: -held[key]):
        if total <= budget:
            break
        total -= held[key]
        chosen.append(key)
    return chosen
