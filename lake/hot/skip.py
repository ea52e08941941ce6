"""Let the lake go on behind records that Kafka lost before the lake had them."""

from dataclasses import dataclass

from connectors.kafka.holds import Halt
from connectors.kafka.offsets import Groups
from connectors.problems import Problem, Unreachable
from lake.hot.chains import Chains
from lake.hot.fetches import Fetch, Finished


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets ``[start, end)`` of a partition: the lake has nothing of them, and neither has Kafka."""

    topic: str
    partition: int
    start: int
    end: int


class _Window:
    """Stands for an assignment: nobody else works on the gap."""

    live = True


def find(chains: Chains, groups: Groups, topic: str, partition: int) -> Gap:
    """What is missing before the lake can go on.  Problem if nothing is; Unreachable."""
    starts = groups.starts(topic)
    if partition not in starts:
        raise Problem(f"{topic} has no partition {partition}")
    reached = chains.assign([(topic, partition)])[topic, partition]
    if isinstance(reached, Halt):
        raise Problem(f"the lake cannot go on with {topic}: {reached.gap}")
    if reached >= starts[partition]:
        raise Problem(f"nothing is to be skipped in {topic}[{partition}]: Kafka has all from offset {reached} on")
    return Gap(topic, partition, reached, starts[partition])


def close(chains: Chains, gap: Gap) -> None:
    """Publish a segment without rows over the gap, which ``find`` saw with the same ``chains``.

    Raises Unreachable if the storage does not take it.
    """
    window = _Window()
    chains.step([Fetch(window, gap.topic, gap.partition, [], gap.start, gap.end, 0)])
    if Finished(window, gap.end) not in chains.flush():
        raise Unreachable(f"the lake did not take the gap of {gap.topic}[{gap.partition}]; the log says why, try again")
