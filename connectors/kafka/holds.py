"""Partitions that are held: they cannot go on, and what is to be done is for a person to decide.

Either what comes next is gone (a ``Hold``), or the agent found that it cannot take it (a ``Halt``).

A held partition is not fetched; the others go on.  It stays held until the partition is assigned anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from prometheus_client import Gauge

from connectors.kafka.window import TopicPartition

log = structlog.get_logger("waybill.engine")

HELD = Gauge(
    "waybill_partitions_held",
    "Partitions of this process that are not read until somebody decides.",
    ["group", "topic"],
)


@dataclass(frozen=True, slots=True)
class Hold:
    """The group is to go on at ``position``, but Kafka has only ``[start, end)``."""

    position: int
    start: int
    end: int

    @property
    def gap(self) -> str:
        """What is wrong, in words."""
        if self.position < self.start:
            return (
                f"offsets {self.position} to {self.start - 1} are gone: retention removed them before they were settled"
            )
        return (
            f"the next offset is {self.position}, but the log ends at {self.end}: the topic was made anew, "
            "or brokers lost its end"
        )


@dataclass(frozen=True, slots=True)
class Halt:
    """The agent cannot go on at ``position`` (if it got so far): why, and what a person does about it."""

    position: int | None
    gap: str
    way_out: str


def judge(position: int, start: int, end: int) -> Hold | None:
    """Whether a partition must be held whose next record is at ``position`` while Kafka has ``[start, end)``."""
    return None if start <= position <= end else Hold(position, start, end)


class Holds:
    """The held partitions of one app.  ``way_out`` tells a person what to do about those whose records are gone."""

    def __init__(self, group: str, way_out: str) -> None:
        self.group, self.way_out = group, way_out
        self.held: Mapping[TopicPartition, Hold | Halt] = {}

    def __contains__(self, tp: object) -> bool:
        return tp in self.held

    def add(self, found: Mapping[TopicPartition, Hold | Halt]) -> None:
        """Hold these partitions from now on."""
        if found:
            self._hold({**self.held, **found})
            self.alarm(found)

    def clear(self) -> None:
        """Another assignment: those of it that must be held are found again."""
        if self.held:
            self._hold({})

    def alarm(self, held: Mapping[TopicPartition, Hold | Halt]) -> None:
        for tp, hold in held.items():
            ends = {"log_start": hold.start, "log_end": hold.end} if isinstance(hold, Hold) else {}
            log.error(
                "a partition is held: nothing of it is read until somebody decides",
                group=self.group,
                topic=tp.topic,
                partition=tp.partition,
                gap=hold.gap,
                next_offset=hold.position,
                what_to_do=hold.way_out if isinstance(hold, Halt) else self.way_out,
                **ends,
            )

    def _hold(self, held: Mapping[TopicPartition, Hold | Halt]) -> None:
        before, self.held = self.held, held
        for topic in {tp.topic for tp in (*before, *held)}:
            HELD.labels(self.group, topic).set(sum(tp.topic == topic for tp in held))
