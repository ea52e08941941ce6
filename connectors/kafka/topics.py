"""Kafka topics: how each kind must be, and what to change for that.

No step can lose a record: what a topic allows beyond its need (longer retention, larger records, more partitions)
stays, and partitions are added to source topics only, on demand.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

PARTITIONS = 12
REPLICAS = 3
#: Bytes of key, headers and framing that come on top of the largest event.
RECORD_OVERHEAD = 64 << 10
#: Bytes by which a retry or DLQ record may exceed the record it was made from.
HAND_OVER_OVERHEAD = 64 << 10

_DAY_MS = 24 * 60 * 60 * 1000
_FOR_EVER = -1
_SHORT_SEGMENTS = {"segment.ms": str(10 * 60 * 1000)}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it must be.

    ``at_least``: settings that may be higher (-1: without limit).  ``as_many_as``: the topic whose number of partitions
    it must have.  ``growable``: nothing hangs on which partition a record is in.
    """

    name: str
    settings: Mapping[str, str]
    at_least: Mapping[str, int]
    growable: bool = False
    as_many_as: str | None = None


@dataclass(frozen=True, slots=True)
class Existing:
    """A topic as it is."""

    partitions: int
    replicas: int
    settings: Mapping[str, str]


def source(name: str, max_message_bytes: int) -> Topic:
    """Events of one type, of at most so many bytes each: kept for 7 days."""
    at_least = {"retention.ms": 7 * _DAY_MS, "max.message.bytes": max_message_bytes + RECORD_OVERHEAD}
    return Topic(name, {"cleanup.policy": "delete"}, at_least, growable=True)


def hand_over(name: str, max_message_bytes: int) -> Topic:
    """A retry or DLQ topic: takes whatever a source topic took, and keeps it for ever."""
    limit = max_message_bytes + RECORD_OVERHEAD + HAND_OVER_OVERHEAD
    return Topic(name, {"cleanup.policy": "delete"}, {"retention.ms": _FOR_EVER, "max.message.bytes": limit})


def compacted(name: str, *, soon: bool = False) -> Topic:
    """Latest value by key, for ever.  ``soon``: only closed segments are compacted, so they close early."""
    return Topic(name, {"cleanup.policy": "compact", **(_SHORT_SEGMENTS if soon else {})}, {})


def changelog(name: str, of: str) -> Topic:
    """A Faust table whose app reads the topic ``of``."""
    return Topic(name, compacted(name, soon=True).settings, {}, as_many_as=of)


@dataclass(frozen=True, slots=True)
class Create:
    topic: Topic
    partitions: int
    replicas: int

    @property
    def settings(self) -> dict[str, str]:
        return _settings(self.topic, self.replicas)


@dataclass(frozen=True, slots=True)
class Configure:
    topic: Topic
    changes: Mapping[str, tuple[str, str]]
    """Setting to what it is and what it must be."""


@dataclass(frozen=True, slots=True)
class Grow:
    topic: Topic
    now: int
    partitions: int


@dataclass(frozen=True, slots=True)
class Leave:
    """Not as it must be, and not to be changed behind anybody's back."""

    topic: Topic
    reason: str


@dataclass(frozen=True, slots=True)
class Keep:
    topic: Topic


Step = Create | Configure | Grow | Leave | Keep


def plan(
    wanted: Iterable[Topic], existing: Mapping[str, Existing], *, replicas: int = REPLICAS, grow: bool = False
) -> tuple[Step, ...]:
    """What to do so that the wanted topics are as they must be.  ``grow`` allows more partitions of source topics."""
    return tuple(step for topic in wanted for step in _steps(topic, existing, replicas, grow=grow))


def _steps(topic: Topic, existing: Mapping[str, Existing], replicas: int, *, grow: bool) -> list[Step]:
    model = existing.get(topic.as_many_as or "")
    partitions = model.partitions if model else PARTITIONS
    found = existing.get(topic.name)
    if found is None:
        return [Create(topic, partitions, replicas)]
    steps: list[Step] = []
    if changes := _changes(topic, found):
        steps.append(Configure(topic, changes))
    if topic.growable and grow and found.partitions < partitions:
        steps.append(Grow(topic, found.partitions, partitions))
    elif reason := _partitions_problem(topic, found.partitions, partitions):
        steps.append(Leave(topic, reason))
    if found.replicas < replicas:
        steps.append(Leave(topic, f"has {found.replicas} of {replicas} replicas; reassign it with Kafka's own tools"))
    return steps or [Keep(topic)]


def _partitions_problem(topic: Topic, now: int, wanted: int) -> str | None:
    if topic.as_many_as:
        problem = f"has {now} partitions, {topic.as_many_as} {wanted}; a worker cannot start until both have the same"
        return problem if now != wanted else None
    if now >= wanted:
        return None
    if topic.growable:
        return f"has {now} of {wanted} partitions; `--grow` adds them"
    return f"has {now} of {wanted} partitions; more would part records that belong together, so it stays like that"


def _changes(topic: Topic, found: Existing) -> dict[str, tuple[str, str]]:
    return {
        name: (found.settings.get(name, ""), value)
        for name, value in _settings(topic, found.replicas).items()
        if found.settings.get(name) != value
        and not (name in topic.at_least and _reaches(found.settings.get(name), topic.at_least[name]))
    }


def _settings(topic: Topic, replicas: int) -> dict[str, str]:
    lowest = {name: str(value) for name, value in topic.at_least.items()}
    return {**topic.settings, **lowest, "min.insync.replicas": str(min(2, replicas))}


def _reaches(value: str | None, least: int) -> bool:
    return value is not None and (int(value) == _FOR_EVER or (least != _FOR_EVER and int(value) >= least))


def tell(step: Step) -> tuple[str, str]:
    """What a step does to its topic: a verb, and the details."""
    match step:
        case Create(_, partitions, replicas):
            return "create", f"{partitions} partitions, {replicas} replica{'' if replicas == 1 else 's'}"
        case Configure(_, changes):
            return "change", ", ".join(f"{name} {now or 'unset'} -> {new}" for name, (now, new) in changes.items())
        case Grow(_, now, partitions):
            return "grow", f"partitions {now} -> {partitions}"
        case Leave(_, reason):
            return "leave", reason
        case Keep():
            return "keep", ""
