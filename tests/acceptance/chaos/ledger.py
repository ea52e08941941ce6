"""The ledger of a run: what is lost, what came twice and why, what the lake and the DLQs hold.  Pure.

Built on the ledger of the demo, which weighs events by id; here are added each call with its time and caller, each
offset of Kafka, and everything that was done to the processes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from examples.demo import ledger
from examples.demo.ledger import Delivery, Facts

#: Times that processes may end by themselves in a run: a crash loop has more.
MANY = 20
#: Dead letters that an endpoint may have without having rejected the event itself.
FEW = 10
#: Seconds that an answer needs to arrive and, after a pause or an outage, a group to go on.
ANSWER, RECOVERY = 0.5, 15.0
#: The deadline of calls, in seconds: who made one may be dead when it is ledgered, and is process 0 then.
CALL = 2.0
REJECTIONS = frozenset({"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "OUT_OF_RANGE", "DATA_LOSS"})
DELIVERED = frozenset({"OK", "ALREADY_EXISTS"})


class Cause(StrEnum):
    """Why an event may come twice."""

    ANSWER_LOST = "the answer was lost"
    CRASH = "its worker died"
    FREEZE = "its worker was frozen"
    BROKER = "Kafka was away"
    EMITTED_TWICE = "Kafka has it twice"


@dataclass(frozen=True)
class Entry:
    """Something that was done or that happened; times in seconds since the epoch, ``process`` 0 if of none.

    ``cause``: the duplicates that it may explain: the process' calls, the consumer's, or all.  ``crash``: the exit
    code of a process that ended though nobody told it to, negative for a signal; 0 for all else.
    """

    what: str
    start: float
    end: float
    cause: Cause | None = None
    process: int = 0
    consumer: str = ""
    crash: int = 0


@dataclass(frozen=True)
class Call:
    """One call as the consumer ledgered it, before it answered; ``left`` seconds were left for the answer."""

    at: float
    delivery: Delivery
    answer: str
    attempt: int
    process: int
    left: float

    @property
    def accepted(self) -> bool:
        return self.answer in DELIVERED


@dataclass(frozen=True)
class DeadLetter:
    delivery: Delivery
    status: str
    error: str


Position = tuple[str, int, int]  # topic, partition, offset


@dataclass(frozen=True)
class Evidence:
    """``committed``: what the producer knows to be saved.  ``kafka``: event id by position, committed records only.

    ``lake``: how often a position is in a segment or in quarantine.  ``reliable``: consumers that never fail.
    """

    facts: Facts
    committed: frozenset[str]
    calls: Sequence[Call]
    journal: Sequence[Entry]
    kafka: Mapping[Position, str]
    lake: Mapping[Position, int]
    dead_letters: Sequence[DeadLetter]
    reliable: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Duplicate:
    """``second`` accepted what ``first`` had accepted; ``cause`` is None if nothing explains it."""

    first: Call
    second: Call
    cause: Cause | None


@dataclass(frozen=True)
class Verdict:
    """``failures``: every promise that was broken, in a sentence each.  ``suspects``: one delivery of each, if any."""

    accepted: int
    duplicates: tuple[Duplicate, ...]
    failures: tuple[str, ...]
    suspects: tuple[Delivery, ...]

    @property
    def by_cause(self) -> Counter[str]:
        return Counter(str(each.cause or "nothing explains it") for each in self.duplicates)


def judge(found: Evidence) -> Verdict:
    duplicates = tuple(_duplicates(found))
    unexplained = [each for each in duplicates if each.cause is None]
    lost = sorted(ledger.undelivered(found.facts), key=lambda each: (each.event_id, each.endpoint))
    failures = [
        *ledger.broken(found.facts),
        *_of_producer(found),
        *_of_offsets(found),
        *_of_dead_letters(found),
        *_of_processes(found),
    ]
    if unexplained:
        first = unexplained[0].second.delivery
        failures.append(f"{len(unexplained)} came twice without cause, such as {first.event_id} at {first.endpoint}")
    return Verdict(
        accepted=sum(call.accepted for call in found.calls),
        duplicates=duplicates,
        failures=tuple(failures),
        suspects=(*lost[:1], *[each.second.delivery for each in unexplained[:1]]),
    )


# -- duplicates


def _duplicates(found: Evidence) -> Iterator[Duplicate]:
    calls: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in sorted(found.calls, key=lambda call: call.at):
        calls[call.delivery.consumer, call.delivery.event_id].append(call)
    copies = Counter(found.kafka.values())
    for of_event in calls.values():
        latest: dict[str, Call] = {}
        for index, call in enumerate(of_event):
            if not call.accepted:
                continue
            if first := latest.get(call.delivery.endpoint):
                twice = copies[call.delivery.event_id] > 1
                cause = Cause.EMITTED_TWICE if twice else _cause(first, call, of_event[:index], found.journal)
                yield Duplicate(first, call, cause)
            latest[call.delivery.endpoint] = call


def _cause(first: Call, second: Call, before: Sequence[Call], journal: Sequence[Entry]) -> Cause | None:
    """What explains that ``second`` came after ``first``; ``before`` are the event's calls until then."""
    if first.left < ANSWER:
        return Cause.ANSWER_LOST
    causes = {entry.cause for entry in journal if entry.cause and _explains(entry, first, second, before)}
    return next((cause for cause in Cause if cause in causes), None)


def _explains(entry: Entry, first: Call, second: Call, before: Sequence[Call]) -> bool:
    match entry.cause:
        case Cause.ANSWER_LOST:
            of_it = entry.consumer == first.delivery.consumer
            sent = first.at - max(0.0, CALL - first.left) - 0.1
            return of_it and sent <= entry.end and entry.start <= first.at + ANSWER
        case Cause.CRASH:  # whoever called, even in vain, may have handed over what is then read again
            return entry.end <= second.at and any(
                call.at <= entry.end if call.process else call.at - CALL <= entry.end
                for call in before
                if call.process in {entry.process, 0}
            )
        case Cause.FREEZE:
            meant = [call for call in (*before, second) if call.process == entry.process]
            return any(call.at <= entry.end + RECOVERY for call in meant) and second.at >= entry.start
        case Cause.BROKER:
            return first.at <= entry.end + RECOVERY and entry.start <= second.at
    return False


# -- what must hold


def _of_producer(found: Evidence) -> Iterator[str]:
    if gone := sorted(found.committed - {event.event_id for event in found.facts.saved}):
        yield f"{len(gone)} were committed, but are not in the outbox, such as {gone[0]}"


def _of_offsets(found: Evidence) -> Iterator[str]:
    saved, in_kafka = {event.event_id for event in found.facts.saved}, Counter(found.kafka.values())
    checks = {
        "events are in the outbox, but not in Kafka": saved - in_kafka.keys(),
        "events are in Kafka, but not in the outbox": in_kafka.keys() - saved,
        "events are in Kafka more than once": {event for event, times in in_kafka.items() if times > 1},
        "offsets are in Kafka, but not in the lake": found.kafka.keys() - found.lake.keys(),
        "offsets are in the lake, but not in Kafka": found.lake.keys() - found.kafka.keys(),
        "offsets are in the lake more than once": {position for position, times in found.lake.items() if times > 1},
    }
    for what, which in checks.items():
        if which:
            yield f"{len(which)} {what}, such as {min(which)}"


def _of_dead_letters(found: Evidence) -> Iterator[str]:
    if causeless := [each for each in found.dead_letters if not each.status]:
        yield f"{len(causeless)} dead letters have no cause, such as {causeless[0].delivery}"
    others = Counter(
        (each.delivery.consumer, each.delivery.endpoint) for each in found.dead_letters if each.status not in REJECTIONS
    )
    for (consumer, endpoint), times in sorted(others.items()):
        if times > FEW:
            yield f"{consumer}/{endpoint} has {times} dead letters that it did not reject: an outage filled its DLQ"
    if spoiled := [each for each in found.dead_letters if each.delivery.consumer in found.reliable]:
        yield f"{len(spoiled)} dead letters of consumers that never fail, such as {spoiled[0]}"


def _of_processes(found: Evidence) -> Iterator[str]:
    crashes = [entry for entry in found.journal if entry.crash]
    if signalled := [entry for entry in crashes if entry.crash < 0]:
        yield f"{len(signalled)} processes died of a signal that nobody sent, such as: {signalled[0].what}"
    if len(crashes) > MANY:
        yield f"processes ended by themselves {len(crashes)} times, such as: {crashes[0].what}"
