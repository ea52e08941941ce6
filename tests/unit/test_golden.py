"""What Waybill writes to Kafka for itself, byte for byte, in every version there has been.

A file of tests/golden holds what one version wrote of the values below: text, as it lies in Kafka.  A change of format
needs a higher version and a new file; the old ones stay, and stay readable.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import handover, plan, replay_state, retry_state
from pipelines.dlq import Filter
from pipelines.handover import HandOver
from pipelines.plan import Plan
from pipelines.replay_state import Mark, Progress, State
from pipelines.retry_state import RetryState
from pipelines.versions import NewerVersion

GOLDEN = Path(__file__).parents[1] / "golden"

DELIVERY = HandOver(
    consumer="service-a",
    endpoint="logistics.v1.EventsAPI/PackageDelivered",
    topic="package_delivered",
    partition=3,
    offset=77,
    generation=1,
    attempts=4,
    status="UNKNOWN",
    error="Straße 7: not found",
    first_failed_at="2026-07-14T09:30:00.000+00:00",
    last_failed_at="2026-07-14T09:31:02.500+00:00",
)
ORIGINAL = (("ce_id", b"0198-e1"), ("ce_type", b"logistics.v1.PackageDeliveredEvent"), ("tracestate", None))
WAITING = RetryState(DELIVERY, due=1784021462.5, at=1784021460.25)
PROGRESS = Progress("service-a", "2026-07-14T09:30:00+00:00", "2026-07-14T09:31:00+00:00", {0: 12, 7: 3}, 14, 1)
ENDED = Progress("service-a", "2026-07-14T09:30:00+00:00", "2026-07-14T09:31:00+00:00", {0: 20}, 9, 0, State.ENDED)
MARK = Mark("p1", "0198-é")
PLAN = Plan(
    id="20260714T093000000-0badcafe",
    consumer="service-a",
    dlq_topic="service_a_dlq",
    retry_topic="service_a_retry",
    filter=Filter(error="UNKNOWN", type="PackageDeliveredEvent", since=datetime(2026, 7, 13, tzinfo=UTC)),
    rate=50.0,
    ranges={0: (0, 120), 7: (3, 9)},
    made_at=datetime(2026, 7, 14, 9, 30, tzinfo=UTC),
)


def texts(headers: list[tuple[str, bytes | None]]) -> list[list[str | None]]:
    return [[name, None if value is None else value.decode()] for name, value in headers]


def encoded(headers: list[list[str]]) -> list[tuple[str, bytes | None]]:
    return [(name, None if value is None else value.encode()) for name, value in headers]


def marked_by(row: bytes) -> tuple[str | None, str | None]:
    """Who moved the marked event, and who another one."""
    return tuple(
        replay_state.mover(row, SimpleNamespace(event=SimpleNamespace(id=event))) for event in (MARK.event, "e")
    )


@dataclass(frozen=True)
class Kind:
    """``written``: what this code writes, as the golden file has it; ``read``: what it makes of a golden file."""

    version: int
    written: Callable[[], Any]
    read: Callable[[Any], Any]
    meant: Any


KINDS = {
    "handover": Kind(
        handover.FORMAT,
        lambda: texts(handover.headers(ORIGINAL, "0198-e1", DELIVERY)),
        lambda golden: (handover.parse(encoded(golden)), golden[: len(ORIGINAL)]),
        (DELIVERY, texts(list(ORIGINAL))),
    ),
    "retry-state": Kind(
        retry_state.FORMAT,
        lambda: [retry_state.key("0198-é", DELIVERY.endpoint, 1).decode(), WAITING.to_bytes().decode()],
        lambda golden: (retry_state.event_id(golden[0].encode()), RetryState.from_bytes(golden[1].encode())),
        ("0198-é", WAITING),
    ),
    "replay-plans": Kind(
        replay_state.FORMAT,
        lambda: [row.to_bytes().decode() for row in (PROGRESS, ENDED)],
        lambda golden: [replay_state.read_progress(row.encode()) for row in golden],
        [PROGRESS, ENDED],
    ),
    "replay-marks": Kind(
        replay_state.FORMAT,
        lambda: MARK.to_bytes().decode(),
        lambda golden: marked_by(golden.encode()),
        (MARK.plan, None),
    ),
    "plan": Kind(
        plan.VERSION,
        lambda: PLAN.to_bytes().decode(),
        lambda golden: Plan.from_bytes(golden.encode()),
        PLAN,
    ),
}
FILES = sorted(GOLDEN.glob("*.json"))


def split(file: Path) -> tuple[str, int]:
    kind, _, version = file.stem.rpartition("-")
    return kind, int(version)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_every_version_wrote_is_read(file: Path) -> None:
    kind = KINDS[split(file)[0]]
    assert kind.read(json.loads(file.read_text())) == kind.meant


@pytest.mark.parametrize("name", KINDS)
def test_what_is_written_is_what_the_golden_file_of_its_version_holds(name: str) -> None:
    kind = KINDS[name]
    assert kind.written() == json.loads((GOLDEN / f"{name}-{kind.version}.json").read_text())


@pytest.mark.parametrize("name", KINDS)
def test_every_version_up_to_the_present_one_has_a_golden_file(name: str) -> None:
    versions = {version for kind, version in map(split, FILES) if kind == name}
    first = 1 if name == "plan" else 0  # a plan has said its version from the beginning
    assert versions == set(range(first, KINDS[name].version + 1))


@pytest.mark.parametrize("name", KINDS)
def test_what_a_newer_version_wrote_is_not_guessed_at(name: str) -> None:
    kind = KINDS[name]
    newer = re.sub(r"(format|version)(\W+)\d+", rf"\g<1>\g<2>{kind.version + 1}", json.dumps(kind.written()))
    told = f"is of format version {kind.version + 1}, this Waybill reads up to {kind.version}"
    with pytest.raises(NewerVersion, match=told):
        kind.read(json.loads(newer))
