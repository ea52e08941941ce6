"""A topic as Kafka shows it to who reads committed records, beside the lake."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing

from connectors.access import Access
from connectors.kafka import reader
from connectors.kafka.admin import Topics
from connectors.problems import Problem, Unreachable
from lake.epochs import TopicIds
from lake.proof.findings import Comparison, End, Finding, Place, Segment


def digest(value: bytes | None) -> int:
    """Eight bytes of a hash; 0 for no value."""
    return 0 if value is None else int.from_bytes(hashlib.blake2b(value, digest_size=8).digest())


class TopicLog:
    """One life of it.  Everything raises Unreachable; making one MissingTopic too."""

    def __init__(self, access: Access, topic: str, *, values: bool) -> None:
        self._access, self._topic, self._values = access, topic, values
        self._identify = TopicIds(access)
        #: By partition: offset of the oldest record kept, and one past the newest that is committed.
        self._ends = reader.ends(access, topic)
        self._epoch = self._identify([topic])[topic]
        settings = Topics(access).existing([topic])[topic].settings
        #: Any record may go, not just the oldest.
        self._compacted = "compact" in settings.get("cleanup.policy", "")
        self._found: list[Finding] = []

    def span(self, place: Place, start: int, end: int) -> tuple[int, int] | None:
        """The part of ``[start, end)`` of which Kafka may still have records."""
        epoch, partition = place
        if epoch != self._epoch or partition not in self._ends:
            return None
        low = max(start, self._ends[partition][0])
        return (low, end) if low < end else None

    def compare(self, chains: Mapping[Place, Comparison], segments: Mapping[Place, Sequence[Segment]]) -> None:
        """Tell each comparison what Kafka has in its range, and keep what is found."""
        if not chains:
            return
        by_partition = {partition: one for (_, partition), one in chains.items()}
        ranges = {partition: (one.start, one.end) for partition, one in by_partition.items()}
        with closing(reader.scan(self._access, self._topic, ranges)) as records:
            for record in records:
                value = digest(record.value) if self._values else None
                by_partition[record.partition].add(record.offset, value)
        for one in by_partition.values():
            one.finish()
        starts: dict[int, int] = {}
        if any(one.extra for one in by_partition.values()):  # retention may have taken them just now
            starts = {partition: low for partition, (low, _) in reader.ends(self._access, self._topic).items()}
        for place, one in chains.items():
            found = one.findings(self._topic, place, segments[place], starts.get(place[1], 0))
            self._found += [each for each in found if each.kind != "extra" or not self._compacted]

    def findings(self, ends: Mapping[Place, End]) -> list[Finding] | None:
        """All that was found, with how the chains and the log end; None if the topic was deleted meanwhile."""
        for partition, (low, high) in self._ends.items():
            place = self._epoch, partition
            end = ends.get(place, End())
            if end.key and end.offset < low:
                what = f"gone from Kafka before the lake had them; it ends with {end.key}"
                self._found.append(Finding("cut", self._topic, what, "", *place, end.offset, low))
            if end.offset > high:
                what = f"in the lake up to {end.key}, but behind the end of Kafka's log, {high}"
                self._found.append(Finding("ahead", self._topic, what, "", *place, high, end.offset))
        return self._found if self._still_lives() else None

    def lag(self, ends: Mapping[Place, End]) -> int:
        """Offsets that the lake has not reached."""
        reached = {p: ends.get((self._epoch, p), End()).offset for p in self._ends}
        return sum(max(0, high - max(low, reached[p])) for p, (low, high) in self._ends.items())

    def _still_lives(self) -> bool:
        """Whether all that was read by the topic's name was of this life."""
        try:
            return self._identify([self._topic])[self._topic] == self._epoch
        except Unreachable:
            raise
        except Problem:  # it is gone
            return False
