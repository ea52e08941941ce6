"""When a worker stands still without an excuse.  Decisions only: no Kafka, no thread, no clock.

A topic *moves* when a record of it is done or a commit of it is accepted; taking more in is no progress.  A topic that
does not move has an excuse while something waits on purpose (a breaker, a backoff, brokers that do not acknowledge, a
stop under way) and while Kafka says that nothing is to be done.  Without one, for as long as the patience lasts, the
worker is taken for broken and had better begin anew.
"""

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field, replace

#: Seconds between two looks after which the process itself did not run (stopped, or its machine asleep).
SLEPT = 30.0

Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Sample:
    """A worker at one moment, by its own event loop.

    ``done``: for each topic something that changes whenever it moves.  ``excuses``: what waits on purpose, in words.
    """

    at: float
    done: Mapping[str, Hashable]
    excuses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Watch:
    """What was seen so far.  ``since``: when each topic last moved or had an excuse.  ``awake``: see SLEPT."""

    at: float
    awake: float
    sample: Sample
    since: Mapping[str, float] = field(default_factory=dict)

    def blocked(self) -> float:
        """For how long the event loop has not answered."""
        return self.at - max(self.sample.at, self.awake)

    def quiet(self, topic: str) -> float:
        return self.at - self.since[topic]


@dataclass(frozen=True, slots=True)
class Standing:
    """What Kafka says of the group.  ``lags``: records to go by partition.  ``owners``: members by partition."""

    lags: Mapping[Partition, int]
    owners: Mapping[Partition, str]


def start(sample: Sample) -> Watch:
    return Watch(sample.at, sample.at, sample, dict.fromkeys(sample.done, sample.at))


def sampled(watch: Watch, sample: Sample) -> Watch:
    """The event loop has answered."""
    still = {
        topic
        for topic, done in sample.done.items()
        if not sample.excuses and topic in watch.since and watch.sample.done.get(topic) == done
    }
    since = {topic: watch.since[topic] if topic in still else sample.at for topic in sample.done}
    return replace(watch, sample=sample, since=since)


def looked(watch: Watch, now: float) -> Watch:
    """Time has passed.  If the process slept, nothing that should have happened meanwhile is held against it."""
    if now - watch.at > SLEPT:
        return replace(watch, at=now, awake=now, since=dict.fromkeys(watch.since, now))
    return replace(watch, at=now)


def excused(watch: Watch, topics: Collection[str]) -> Watch:
    """Kafka has told why these do not move."""
    since = {topic: watch.at if topic in topics else since for topic, since in watch.since.items()}
    return replace(watch, since=since)


def suspects(watch: Watch, patience: float) -> list[str]:
    """Topics of which Kafka should be asked."""
    return [topic for topic in watch.since if watch.quiet(topic) >= patience / 2]


def stuck(standing: Standing, me: str, held: Collection[Partition]) -> dict[str, str]:
    """Why topics ought to move: records that wait for us, the member ``me``, or for nobody.

    Partitions of others are theirs to worry about: a worker without any is no broken one.
    """
    found: dict[str, str] = {}
    for partition, lag in standing.lags.items():
        owner = standing.owners.get(partition, "")
        if lag > 0 and partition not in held and owner in {me, ""}:
            topic, number = partition
            whose = "" if owner else " and no worker of the group has the partition"
            found.setdefault(topic, f"{topic}[{number}]: {lag} records wait{whose}")
    return found
