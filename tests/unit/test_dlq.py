from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.kafka.reader import Record
from pipelines import dlq, handover
from pipelines.dlq import DeadLetter, Filter
from pipelines.handover import HandOver

NOW = datetime(2026, 7, 14, 12, 0, tzinfo=UTC)
DELIVERY = HandOver(
    consumer="service-a",
    endpoint="logistics.v1.EventsAPI/PackageDelivered",
    topic="package_delivered",
    partition=3,
    offset=77,
    attempts=16,
    status="INTERNAL",
    error="no Driver found",
    last_failed_at="2026-07-14T11:59:59.000+00:00",
)


def record(headers: list[tuple[str, bytes | None]], at: datetime = NOW) -> Record:
    return Record("service_a_dlq", 1, 5, int(at.timestamp() * 1000), b"k", b"v", tuple(headers))


def dead_letter(at: datetime = NOW, **changes: object) -> DeadLetter:
    original = [("ce_id", b"e1"), ("ce_type", b"logistics.v1.PackageDeliveredEvent")]
    return dlq.read(record(handover.headers(original, "e1", replace(DELIVERY, **changes)), at))


def test_a_dead_letter_knows_its_delivery_its_source_and_its_own_place() -> None:
    found = dead_letter()
    assert found.delivery == DELIVERY
    assert (found.topic, found.partition, found.offset) == ("service_a_dlq", 1, 5)
    assert (found.event.topic, found.event.partition, found.event.offset) == ("package_delivered", 3, 77)
    assert (found.event.id, found.event.value) == ("e1", b"v")
    assert found.at == NOW


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*(f"waybill_{f}" for f in handover.FIELDS), "ce_id", "x"]),
            st.none() | st.binary(max_size=5),
        )
    )
)
def test_any_record_can_be_read_and_a_malformed_one_says_why(headers: list[tuple[str, bytes | None]]) -> None:
    found = dlq.read(record(headers))
    assert (found.delivery is None) == bool(found.malformation)
    assert found.event.id
    if found.delivery is None:
        assert (found.status, found.error, found.endpoint) == ("MALFORMED", found.malformation, "")


@pytest.mark.parametrize(
    "meant",
    [
        Filter(),
        Filter(error="INTERNAL"),
        Filter(error="driver"),
        Filter(type="logistics.v1.PackageDeliveredEvent"),
        Filter(type="PackageDeliveredEvent"),
        Filter(type="package_delivered"),
        Filter(endpoint="logistics.v1.EventsAPI/PackageDelivered"),
        Filter(endpoint="PackageDelivered"),
        Filter(since=NOW),
        Filter("internal", "PackageDeliveredEvent", "PackageDelivered", NOW),
    ],
)
def test_a_filter_meets_what_it_names(meant: Filter) -> None:
    assert meant.matches(dead_letter())


@pytest.mark.parametrize(
    "meant",
    [
        Filter(error="UNAVAILABLE"),
        Filter(type="Package"),
        Filter(endpoint="Delivered"),
        Filter(endpoint="EventsAPI"),
        Filter(since=NOW + timedelta(seconds=1)),
        Filter("internal", "PackageDeliveredEvent", "Other", NOW),
    ],
)
def test_a_filter_passes_over_what_differs_in_one_point(meant: Filter) -> None:
    assert not meant.matches(dead_letter())


def test_a_malformed_dead_letter_is_found_by_its_status() -> None:
    malformed = dlq.read(record([("ce_id", b"e1")]))
    assert Filter(error="malformed").matches(malformed)
    assert not Filter(endpoint="PackageDelivered").matches(malformed)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("30m", NOW - timedelta(minutes=30)),
        ("2h", NOW - timedelta(hours=2)),
        ("7d", NOW - timedelta(days=7)),
        ("90s", NOW - timedelta(seconds=90)),
        ("2026-07-14T09:30Z", datetime(2026, 7, 14, 9, 30, tzinfo=UTC)),
        ("2026-07-14T09:30+02:00", datetime(2026, 7, 14, 7, 30, tzinfo=UTC)),
        ("2026-07-14", datetime(2026, 7, 14, tzinfo=UTC)),
    ],
)
def test_since_is_a_duration_or_a_time_in_utc(text: str, at: datetime) -> None:
    assert dlq.parse_since(text, NOW) == at


@pytest.mark.parametrize("text", ["", "yesterday", "2 h", "h", "-2h", "1w"])
def test_since_says_what_it_understands(text: str) -> None:
    with pytest.raises(ValueError, match="neither a duration"):
        dlq.parse_since(text, NOW)


def test_a_summary_counts_all_and_keeps_the_newest() -> None:
    letters = [
        dead_letter(at=NOW + timedelta(seconds=i), status="INTERNAL" if i % 3 else "NOT_FOUND") for i in range(7)
    ]
    found = dlq.summarize([*letters, dlq.read(record([], NOW - timedelta(days=1)))], keep=2)
    assert (found.total, found.malformed, found.movable) == (8, 1, 7)
    assert found.by_type == (("logistics.v1.PackageDeliveredEvent", 7),)
    assert found.by_endpoint == (("logistics.v1.EventsAPI/PackageDelivered", 7),)
    assert found.by_error == (("INTERNAL", 4), ("NOT_FOUND", 3), ("MALFORMED", 1))
    assert found.newest == (letters[6], letters[5])
