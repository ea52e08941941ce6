"""Partitions on which a group stands outside the log, and is held."""

from collections.abc import Mapping
from dataclasses import dataclass

from connectors.kafka.offsets import Commit, Offsets


@dataclass(frozen=True, slots=True)
class Gap:
    """The group has committed ``committed``, or nothing any more; the log of the partition is [start, end)."""

    partition: int
    committed: int | None
    start: int
    end: int

    @property
    def lost(self) -> int:
        """Offsets that retention removed before the group read them, as far as is known."""
        return 0 if self.committed is None else max(0, self.start - self.committed)


def gaps(commits: Mapping[int, Commit], starts: Offsets, ends: Offsets) -> tuple[Gap, ...]:
    """Commits below the oldest record that is kept, and above the newest (a topic made anew); or all, without any."""
    if not commits:
        return tuple(Gap(partition, None, start, ends[partition]) for partition, start in sorted(starts.items()))
    return tuple(
        Gap(partition, commit.offset, starts[partition], ends[partition])
        for partition, commit in sorted(commits.items())
        if not starts[partition] <= commit.offset <= ends[partition]
    )
