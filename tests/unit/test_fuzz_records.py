"""Whatever lies in Kafka, reading it comes to a result or to the one error that says why not."""

import contextlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from effort import fuzz
from structlog.testing import capture_logs
from test_golden import KINDS

from connectors.kafka.reader import Record
from pipelines import dlq, events, handover, replay_state, retry_state
from pipelines.cli import dead_letters
from pipelines.dlq import Filter
from pipelines.handover import HandOver, MalformedError
from pipelines.plan import Plan, UnreadablePlan
from pipelines.retry_state import RetryState
from pipelines.versions import NewerVersion, UnreadableRow

OURS = [handover.FORMAT_HEADER, *(handover.PREFIX + field for field in handover.FIELDS)]
NAMES = [*OURS, *events.METADATA, "content-type", "WAYBILL_ENDPOINT", "", "é", "\x00"]
ODD = [
    None,
    b"",
    b"-1",
    b"+1",
    b"1e3",
    b" 1",
    b"1_0",
    b"0x1",
    b"9" * 19,
    b"9" * 5000,
    b"\xd9\xa3",
    b"\xb2",
    b"%",
    b"\r\n",
]
Header = tuple[str, bytes | None]


def text(rng: Random) -> str:
    """Some characters from anywhere in Unicode, half surrogate pairs among them."""
    highest = rng.choice([0x7F, 0x7F, 0xFF, 0xFFFF, 0x10FFFF])
    return "".join(chr(rng.randint(0, highest)) for _ in range(rng.choice([0, 1, 5, 20])))


def value(rng: Random) -> bytes | None:
    match rng.randrange(6):
        case 0:
            return rng.choice(ODD)
        case 1:
            return str(rng.randint(-(2**70), 2**70)).encode()
        case 2:
            return rng.randbytes(rng.randint(0, 30))
        case 3:
            return rng.randbytes(3) * rng.choice([1, 300, 2000])
        case _:
            return text(rng).encode(errors="surrogatepass")


def headers(rng: Random) -> list[Header]:
    return [(rng.choice(NAMES), value(rng)) for _ in range(rng.randint(0, 6))]


def delivery(rng: Random) -> HandOver:
    number: Callable[[], int] = lambda: rng.choice([0, 1, 7, 2**63 - 1])  # noqa: E731 - shorter than a function
    written = [text(rng), text(rng), text(rng), number(), number(), number(), number(), *(text(rng) for _ in range(4))]
    return HandOver(*written)


def spoiled(rng: Random) -> list[Header]:
    """A hand-over, as it was written or with some of it changed."""
    written = handover.headers(headers(rng), str(rng.random()), delivery(rng))
    for _ in range(rng.randint(0, 3)):
        place = rng.randrange(len(written))
        match rng.randrange(4):
            case 0:
                written.pop(place)
            case 1:
                written[place] = (written[place][0], value(rng))
            case 2:
                written.insert(0, (written[place][0], value(rng)))
            case _:
                written.append(written.pop(place))
    return written


def record(rng: Random) -> Record:
    return Record(
        topic="service_a_dlq",
        partition=rng.randint(0, 11),
        offset=rng.choice([0, 1, 2**63 - 1]),
        timestamp=rng.choice([-1, 0, 1784021462500, rng.randint(-(2**63), 2**63 - 1)]),
        key=value(rng),
        value=value(rng),
        headers=tuple(spoiled(rng) if rng.random() < 0.7 else headers(rng)),
    )


@fuzz(5000)
def test_any_record_is_read_handed_over_and_read_again(rng: Random) -> None:
    found = record(rng)
    event = events.read(found, "a.B")
    refusal = events.refusal(event, "a.B", 10)

    assert event.id
    if refusal is None:
        assert all(shown.isascii() and shown.isprintable() for _, shown in event.metadata)
        assert sum(len(shown) for _, shown in event.metadata) <= events.METADATA_LIMIT
    failed = delivery(rng).failed("INTERNAL", refusal or "", 0.0)
    written = handover.headers(event.headers, event.id, failed)
    assert all(isinstance(name.encode(), bytes) and isinstance(said, bytes | None) for name, said in written)
    again = events.read(replace(found, headers=tuple(written), offset=7), "a.B")
    assert (again.id, again.key, again.value) == (event.id, event.key, event.value)
    assert sorted(again.metadata) == sorted(event.metadata)
    parsed = handover.parse(written)
    assert (parsed.partition, parsed.offset, parsed.attempts) == (failed.partition, failed.offset, failed.attempts)
    assert handover.parse(handover.headers(written, event.id, parsed)) == parsed
    assert 0 <= handover.retry_partition(event.id, 12) < 12
    row_key = retry_state.key(event.id, parsed.endpoint, parsed.generation)
    assert retry_state.event_id(row_key) == event.id
    state = RetryState(parsed, 1.5, 2.5, "dead")
    assert RetryState.from_bytes(state.to_bytes()) == state


@fuzz(5000)
def test_any_dead_letter_can_be_shown_counted_and_planned_for(rng: Random) -> None:
    found = record(rng)
    with contextlib.suppress(MalformedError, NewerVersion):
        handover.parse(found.headers)
    dead_letter = dlq.read(found)

    assert (dead_letter.delivery is None) == bool(dead_letter.malformation)
    assert dead_letter.at.tzinfo
    assert Filter(error="x").matches(dead_letter) in {True, False}
    assert dlq.summarize([dead_letter], keep=1).total == 1
    assert json.dumps(dead_letters.facts(dead_letter, None))
    assert "".join(dead_letters.row(dead_letter)).isprintable()


WRITTEN = [row.encode() for name in ("retry-state", "replay-plans") for row in KINDS[name].written()]
WRITTEN += [KINDS[name].written().encode() for name in ("replay-marks", "plan")]
MARKED = dlq.read(Record("service_a_dlq", 0, 0, 0, None, b"", (("ce_id", "0198-é".encode()),)))


def anything(rng: Random, depth: int = 3) -> Any:
    simple = [None, True, "", 0, -1, 3, 2**70, 1e300, math.inf, -math.inf, math.nan]
    match rng.randrange(5 if depth else 3):
        case 0 | 1:
            return rng.choice(simple)
        case 2:
            return text(rng)
        case 3:
            return [anything(rng, depth - 1) for _ in range(rng.randint(0, 3))]
        case _:
            return {text(rng): anything(rng, depth - 1) for _ in range(rng.randint(0, 3))}


def row(rng: Random) -> bytes:
    """Something that was written, with one place of it changed; or anything."""
    written = rng.choice(WRITTEN)
    match rng.randrange(5):
        case 0:
            return json.dumps(anything(rng)).encode()
        case 1:
            start, end = sorted((rng.randint(0, len(written)), rng.randint(0, len(written))))
            return written[:start] + rng.randbytes(rng.randint(0, 4)) + written[end:]
        case 2:
            return rng.choice([b"[", b'{"a":', b"-", b"9", b"\xff"]) * 20_000
        case _:
            whole = json.loads(written)
            inner = whole["delivery"] if "delivery" in whole and rng.random() < 0.7 else whole
            inner[rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))] = anything(rng)
            return json.dumps(whole).encode()


@fuzz(5000)
def test_any_row_and_any_plan_is_read_or_refused(rng: Random) -> None:
    found = row(rng)
    with contextlib.suppress(UnreadableRow, NewerVersion):
        state = RetryState.from_bytes(found)
        assert RetryState.from_bytes(state.to_bytes()) == state
        assert math.isfinite(state.due)
    with contextlib.suppress(UnreadableRow, NewerVersion):
        assert isinstance(retry_state.event_id(found), str)
    with contextlib.suppress(NewerVersion), capture_logs():
        progress = replay_state.read_progress(found)
        assert progress is None or replay_state.read_progress(progress.to_bytes()) == progress
    with contextlib.suppress(NewerVersion), capture_logs():
        assert replay_state.mover(found, MARKED) is None or b"plan" in found
    with contextlib.suppress(UnreadablePlan, NewerVersion):
        plan = Plan.from_bytes(found)
        assert Plan.from_bytes(plan.to_bytes()) == plan
