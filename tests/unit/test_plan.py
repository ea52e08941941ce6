import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import plan as plans
from pipelines.dlq import Filter
from pipelines.plan import Channel, Plan, UnreadablePlan

offsets = st.integers(0, 2**63 - 1)
times = st.datetimes(timezones=st.just(UTC))
made = st.builds(
    Plan,
    id=st.text(),
    consumer=st.text(),
    dlq_topic=st.text(),
    retry_topic=st.text(),
    filter=st.builds(Filter, st.text(), st.text(), st.text(), st.none() | times),
    rate=st.floats(0.001, 1e6),
    ranges=st.dictionaries(st.integers(0, 999), st.tuples(offsets, offsets), max_size=5),
    made_at=times,
)
PLAN = Plan("p1", "service-a", "dlq", "retry", Filter(), 10.0, {0: (0, 5)}, datetime(2026, 7, 14, tzinfo=UTC))


@given(made)
def test_a_plan_survives_its_way_through_kafka(plan: Plan) -> None:
    assert Plan.from_bytes(plan.to_bytes()) == plan


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": "1"}, "version"),
        ({"version": -1}, "version"),
        ({"version": True}, "version"),
        ({"command": "pause"}, "command"),
        ({"rate": 0}, "rate"),
        ({"rate": "10"}, "rate"),
        ({"rate": 1e-9}, "rate"),
        ({"rate": 1e300}, "rate"),
        ({"ranges": {"0": [-1, 5]}}, "ranges"),
        ({"ranges": {"0": [0, 1 << 63]}}, "ranges"),
        ({"ranges": {str(1 << 31): [0, 1]}}, "ranges"),
        ({"ranges": {"0": [0]}}, "ranges"),
        ({"filter": {"ids": ["e1"]}}, "ids"),
        ({"made_at": "2026-07-14T00:00:00"}, "made_at"),
        ({"more": 1}, "more"),
    ],
)
def test_a_plan_of_another_shape_is_refused_with_the_reason(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(UnreadablePlan, match=reason):
        Plan.from_bytes(json.dumps({**json.loads(PLAN.to_bytes()), **changes}).encode())


@given(st.none() | st.binary())
def test_what_is_no_plan_is_refused(value: bytes | None) -> None:
    with pytest.raises(UnreadablePlan):
        Plan.from_bytes(value)


@given(
    st.datetimes(datetime(1000, 1, 1), datetime(3000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds must be naive
    st.timedeltas(timedelta(milliseconds=1), timedelta(days=999)),
)
def test_ids_sort_by_time(first: datetime, later: timedelta) -> None:
    assert plans.new_id(first, "ffffffff") < plans.new_id(first + later, "00000000")


def test_all_plans_of_a_consumer_lie_in_one_partition() -> None:
    places = {Channel().partition_of(f"service-{i}") for i in range(200)}
    assert places == set(range(12))
    assert Channel().partition_of("service-a") == Channel().partition_of("service-a")
    assert Channel().changelog == "waybill-replay-replay-state-changelog"
