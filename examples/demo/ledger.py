"""The ledger: what was counted in the real places, line by line, and everything that is wrong with it.  Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

#: Fewer events than this prove little.
FEWEST_EVENTS, FEWEST_TYPES = 2_000, 4


@dataclass(frozen=True, order=True)
class Subscription:
    """``endpoint`` is the name of the RPC alone."""

    topic: str
    consumer: str
    endpoint: str


@dataclass(frozen=True)
class Delivery:
    """One event at one endpoint of one consumer."""

    event_id: str
    consumer: str
    endpoint: str


@dataclass(frozen=True)
class Stored:
    """An event as a database or a file holds it; ``digest`` is of its payload."""

    event_id: str
    topic: str
    digest: str


@dataclass(frozen=True)
class Facts:
    """What was found where.

    ``saved``: the outbox table.  ``rolled_back``: topic by event id, of the producer's own notes.  ``arrivals``: how
    often each consumer accepted each event.  ``open_dead_letters`` and ``replayed``: dead letters in the DLQ topics, by
    whether a replay moved them.  ``lake``: how often the lake holds each event.
    """

    subscriptions: tuple[Subscription, ...]
    saved: frozenset[Stored]
    rolled_back: Mapping[str, str]
    arrivals: Mapping[Delivery, int]
    open_dead_letters: frozenset[Delivery]
    replayed: frozenset[Delivery]
    lake: Mapping[Stored, int]


@dataclass(frozen=True)
class Line:
    """One subscription in numbers; ``saved``, ``rolled_back`` and ``in_lake`` are of its event type."""

    subscription: Subscription
    saved: int
    rolled_back: int
    delivered: int
    duplicates: int
    dead_lettered: int
    replayed: int
    in_lake: int


def lines(facts: Facts) -> tuple[Line, ...]:
    """A line per subscription.  A delivery counts once however often it happened; ``duplicates`` has the rest."""
    saved = Counter(event.topic for event in facts.saved)
    rolled_back = Counter(facts.rolled_back.values())
    in_lake: Counter[str] = Counter()
    for event, times in facts.lake.items():
        in_lake[event.topic] += times
    delivered: Counter[tuple[str, str]] = Counter()
    arrived: Counter[tuple[str, str]] = Counter()
    for delivery, times in facts.arrivals.items():
        delivered[_endpoint(delivery)] += 1
        arrived[_endpoint(delivery)] += times
    dead = Counter(map(_endpoint, facts.open_dead_letters | facts.replayed))
    replayed = Counter(map(_endpoint, facts.replayed))
    return tuple(
        Line(
            subscription=subscription,
            saved=saved[subscription.topic],
            rolled_back=rolled_back[subscription.topic],
            delivered=delivered[where],
            duplicates=arrived[where] - delivered[where],
            dead_lettered=dead[where],
            replayed=replayed[where],
            in_lake=in_lake[subscription.topic],
        )
        for subscription in sorted(facts.subscriptions)
        for where in [(subscription.consumer, subscription.endpoint)]
    )


def undelivered(facts: Facts) -> frozenset[Delivery]:
    """Saved events that a subscriber neither received nor has an open dead letter of: lost, or still on their way."""
    owed = {
        Delivery(event.event_id, subscription.consumer, subscription.endpoint)
        for event in facts.saved
        for subscription in facts.subscriptions
        if subscription.topic == event.topic
    }
    return frozenset(owed - facts.arrivals.keys() - facts.open_dead_letters)


def broken(facts: Facts) -> tuple[str, ...]:
    """Every promise that these facts break, in a sentence each; none if the ledger balances."""
    return tuple(
        sentence
        for sentence in (*_at_consumers(facts), *_in_lake(facts), *_of_rolled_back(facts), *_of_outbox(facts))
        if sentence
    )


def _at_consumers(facts: Facts) -> Iterator[str]:
    by_endpoint: dict[tuple[str, str], list[str]] = {}
    for delivery in undelivered(facts):
        by_endpoint.setdefault(_endpoint(delivery), []).append(delivery.event_id)
    for (consumer, endpoint), ids in sorted(by_endpoint.items()):
        yield _told(ids, f"neither arrived at {consumer}/{endpoint} nor became a dead letter of it")
    topics = {event.event_id: event.topic for event in facts.saved}
    subscribed = {(each.topic, *_endpoint(each)) for each in facts.subscriptions}
    known = topics.keys() | facts.rolled_back.keys()
    for what, deliveries in _deliveries(facts):
        yield _told([each.event_id for each in deliveries if each.event_id not in known], f"never saved, but {what}")
        yield _told(
            [
                each.event_id
                for each in deliveries
                if each.event_id in topics and (topics[each.event_id], *_endpoint(each)) not in subscribed
            ],
            f"{what} where nobody subscribed to it",
        )


def _in_lake(facts: Facts) -> Iterator[str]:
    times: Counter[str] = Counter()
    for event, count in facts.lake.items():
        times[event.event_id] += count
    saved = {event.event_id for event in facts.saved}
    yield _told((saved - times.keys()), "missing in the lake")
    yield _told([event_id for event_id, count in times.items() if count > 1], "in the lake more than once")
    altered = [each.event_id for each in facts.lake if each.event_id in saved and each not in facts.saved]
    yield _told(altered, "in the lake under another topic or with another payload")
    yield _told(times.keys() - saved - facts.rolled_back.keys(), "never saved, but in the lake")


def _of_rolled_back(facts: Facts) -> Iterator[str]:
    saved = {event.event_id for event in facts.saved}
    archived = {event.event_id for event in facts.lake}
    yield _told(facts.rolled_back.keys() & saved, "rolled back, but in the outbox")
    yield _told(facts.rolled_back.keys() & archived, "rolled back, but in the lake")
    for what, deliveries in _deliveries(facts):
        ids = {delivery.event_id for delivery in deliveries}
        yield _told(facts.rolled_back.keys() & ids, f"rolled back, but {what}")


def _of_outbox(facts: Facts) -> Iterator[str]:
    unheard = {event.topic for event in facts.saved} - {each.topic for each in facts.subscriptions}
    if unheard:
        yield f"nobody subscribed to {', '.join(sorted(unheard))}, so nothing is proved about it"


def not_shown(facts: Facts, *, breaker_openings: int, retried: int) -> tuple[str, ...]:
    """What a run was to show and did not: a ledger that balances proves nothing if nothing happened.

    ``breaker_openings``: of tracking, which was killed.  ``retried``: deliveries of notifications that went through
    its retry topic.
    """
    events, types = len(facts.saved), len({event.topic for event in facts.saved})
    dead = Counter(each.consumer for each in facts.open_dead_letters | facts.replayed)
    still_open = [each.event_id for each in facts.open_dead_letters]
    shown = {
        f"only {events:,} events of {types} types were saved": events >= FEWEST_EVENTS and types >= FEWEST_TYPES,
        "no transaction was rolled back": bool(facts.rolled_back),
        "the breaker of tracking never opened": breaker_openings > 0,
        "nothing went through the retry topic of notifications": retried > 0,
        f"billing, which was healthy, has {dead['billing']} dead letters": dead["billing"] == 0,
        f"tracking, which was only down, has {dead['tracking']} dead letters": dead["tracking"] == 0,
        "no dead letter was replayed": bool(facts.replayed),
        _told(still_open, "still a dead letter, after all were replayed"): not still_open,
    }
    return tuple(sentence for sentence, was_shown in shown.items() if not was_shown)


def _deliveries(facts: Facts) -> Iterable[tuple[str, Iterable[Delivery]]]:
    return (
        ("arrived at a consumer", facts.arrivals.keys()),
        ("became a dead letter", facts.open_dead_letters | facts.replayed),
    )


def _endpoint(of: Delivery | Subscription) -> tuple[str, str]:
    return of.consumer, of.endpoint


def _told(event_ids: Iterable[str], what: str) -> str:
    """A sentence about some events with one of them as an example; empty without any."""
    ids = sorted(set(event_ids))
    if not ids:
        return ""
    return f"{len(ids):,} event{'' if len(ids) == 1 else 's'}, such as {ids[0]}: {what}"
