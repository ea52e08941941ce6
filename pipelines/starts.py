"""Where a group begins to read a topic: written down once, as commits, before anybody joins the group.

After that the group's offsets alone say where it goes on.  A partition that appears later has none and is read from its
log's beginning.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

import structlog

from connectors.access import Access
from connectors.kafka import compacted, reader
from connectors.kafka.offsets import Commit, Groups, Offsets
from connectors.problems import Problem
from pipelines import names, retirement
from pipelines.format import Consumer

log = structlog.get_logger()

_MOVED = "moved to "


class Standing(Enum):
    """What a group's commits for a topic, and those of the group the topic may have been moved from or to, mean."""

    GOES_ON = "it has commits"
    BEGINS = "nobody has"
    MOVED = "the other group has"


def standing(own: Mapping[int, Commit], other: Mapping[int, Commit]) -> Standing:
    if any(not is_moved(commit) for commit in own.values()):
        return Standing.GOES_ON
    return Standing.MOVED if own or any(not is_moved(commit) for commit in other.values()) else Standing.BEGINS


def moved(commit: Commit, to: str) -> Commit:
    """A commit that is left behind when a topic goes to the group ``to``."""
    return Commit(commit.offset, f"{_MOVED}{to}")


def is_moved(commit: Commit) -> bool:
    return commit.note.startswith(_MOVED)


def carried(source: Mapping[int, Commit], target: Mapping[int, Commit]) -> dict[int, Commit]:
    """What the group ``target`` must have when a topic goes over to it from the group ``source``.

    Whatever either has committed is delivered, so the higher counts; one left behind counts only alone.
    """
    found = {}
    for partition in sorted(source.keys() | target.keys()):
        commits = [side[partition] for side in (source, target) if partition in side]
        live = [commit.offset for commit in commits if not is_moved(commit)]
        found[partition] = Commit(max(live or [commit.offset for commit in commits]))
    return found


def begun_key(consumer: str, topic: str) -> bytes:
    """The row of the state topic that says so: without it a group that lost its offsets would begin as if new."""
    return f"begun/{consumer}/{topic}".encode()


def first_offsets(groups: Groups, topic: str, start_from: str) -> Offsets:
    """Where each partition begins."""
    match start_from:
        case "earliest":
            return groups.starts(topic)
        case "latest":
            return groups.ends(topic, committed=True)
        case since:
            return groups.at(topic, datetime.fromisoformat(since))


@dataclass(frozen=True, slots=True)
class Start:
    """What the worker of a consumer, or of a dedicated topic of it, does before it joins its group.

    Raises Problem if the offsets of a topic are in the group it had before `dedicated` was switched, or are gone, and
    for a retired consumer.
    """

    access: Access
    consumer: Consumer
    dedicated: str | None

    def __call__(self) -> None:
        groups, name = Groups(self.access), self.consumer.name
        own = names.group_of(name, self.dedicated)
        for topic in self.consumer.topics(self.dedicated):
            other = names.group_of(name, None if self.dedicated else topic)
            match standing(groups.committed(own, topic), groups.committed(other, topic)):
                case Standing.BEGINS:
                    self._begin(groups, own, topic)
                case Standing.MOVED:
                    undo = "" if self.dedicated else " --undo"
                    raise Problem(
                        f"the offsets of {topic} are those of the group {other}, and this worker is of {own}: it would "
                        f"begin anew; stop all workers of {name} and run "
                        f"`waybill consumer dedicate {name} {topic}{undo}`"
                    )

    def _begin(self, groups: Groups, group: str, topic: str) -> None:
        name = self.consumer.name
        with suppress(reader.MissingTopic):  # then nothing can be written there
            rows = compacted.Table(self.access, names.STATE).refresh().rows
            retirement.refuse_retired(rows, name)
            if begun_key(name, topic) in rows:
                raise Problem(
                    f"the group {group} began with {topic} once and has no offsets: Kafka forgets those of a group "
                    "that was stopped for offsets.retention.minutes; "
                    f"`waybill consumer skip {name} {topic}` lets it go on at the oldest record"
                )

        def offsets() -> Offsets:
            found = first_offsets(groups, topic, self.consumer.start_from)
            log.info("a group begins", group=group, topic=topic, start_from=self.consumer.start_from, offsets=found)
            return found

        groups.commit_first(group, topic, offsets)
        with suppress(reader.MissingTopic):
            compacted.write(self.access, names.STATE, {begun_key(name, topic): b"{}"})
