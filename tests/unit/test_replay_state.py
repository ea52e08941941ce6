from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from connectors.kafka.reader import Record
from pipelines import dlq, handover, replay_state
from pipelines.dlq import DeadLetter, Filter
from pipelines.handover import HandOver
from pipelines.plan import Plan
from pipelines.replay_state import Fate, Mark, Portion, State

NOW = datetime(2026, 7, 14, 12, 0, tzinfo=UTC)
PLAN = Plan("p1", "service-a", "dlq", "retry", Filter(error="INTERNAL"), 10.0, {0: (0, 50), 1: (3, 9)}, NOW)


def dead_letter(offset: int = 0, status: str = "INTERNAL", event: str = "e1", partition: int = 0) -> DeadLetter:
    delivery = HandOver(
        "service-a", "p.S/A", "events", 0, offset, status=status, error="-", first_failed_at="-", last_failed_at="-"
    )
    headers = handover.headers([("ce_id", event.encode())], event, delivery)
    return dlq.read(Record("dlq", partition, offset, 0, None, b"", tuple(headers)))


MALFORMED = dlq.read(Record("dlq", 0, 7, 0, None, b"INTERNAL", (("waybill_status", b"INTERNAL"),)))


def test_an_open_dead_letter_that_is_meant_is_moved() -> None:
    assert replay_state.fate(PLAN, dead_letter(), None) is Fate.MOVE
    assert replay_state.fate(PLAN, dead_letter(status="NOT_FOUND"), None) is Fate.LEAVE


def test_a_dead_letter_is_moved_once_whatever_plan_did_it() -> None:
    assert replay_state.fate(PLAN, dead_letter(), Mark("p0", "e1").to_bytes()) is Fate.LEAVE
    assert replay_state.fate(PLAN, dead_letter(), Mark("p1", "e1").to_bytes()) is Fate.MOVED


def test_a_record_at_an_offset_that_another_event_had_is_open() -> None:
    assert replay_state.fate(PLAN, dead_letter(), Mark("p0", "of a deleted topic").to_bytes()) is Fate.MOVE


def test_a_malformed_dead_letter_is_skipped() -> None:
    assert replay_state.fate(replace(PLAN, filter=Filter()), MALFORMED, None) is Fate.SKIP


fates = st.lists(st.sampled_from(Fate), max_size=60)


@given(fates, st.integers(1, 7))
def test_portions_cover_a_page_once_in_order_and_move_no_more_than_the_limit(fates: list[Fate], limit: int) -> None:
    page = [dead_letter(offset) for offset in range(len(fates))]
    cut = list(replay_state.portions(page, lambda d: fates[d.offset], limit))
    assert [d for portion in cut for d in portion.read] == page
    assert [d for portion in cut for d in portion.move] == [d for d in page if fates[d.offset] is Fate.MOVE]
    assert sum(portion.moved_before for portion in cut) == fates.count(Fate.MOVED)
    assert sum(portion.skipped for portion in cut) == fates.count(Fate.SKIP)
    assert all(len(portion.move) <= limit for portion in cut)
    assert all(len(portion.move) == limit for portion in cut[:-1])


def test_progress_goes_on_behind_what_was_read_and_counts_what_was_moved() -> None:
    begun = replay_state.started("service-a", NOW)
    assert begun.left(PLAN.ranges) == PLAN.ranges
    read = (dead_letter(4), dead_letter(3, partition=1), dead_letter(9))
    after = begun.after(Portion(read, read[:1], moved_before=1, skipped=1), NOW)
    assert after.left(PLAN.ranges) == {0: (10, 50), 1: (4, 9)}
    assert (after.moved, after.skipped, after.state) == (2, 1, State.RUNNING)
    ended = after.ended(PLAN.ranges, NOW)
    assert ended.left(PLAN.ranges) == {0: (50, 50), 1: (9, 9)}
    assert (ended.moved, ended.state) == (2, State.ENDED)


def test_the_changelog_tells_the_latest_progress_and_who_moved_what() -> None:
    begun = replay_state.started("service-a", NOW)
    later = begun.after(Portion((dead_letter(4),), (dead_letter(4),)), NOW)
    rows = [
        (replay_state.plan_key("p1"), begun.to_bytes()),
        (replay_state.mark_key(dead_letter(4)), Mark("p1", "e1").to_bytes()),
        (replay_state.plan_key("p1"), later.to_bytes()),
    ]
    state = replay_state.state_of(Record("changelog", 0, i, 0, key, value, ()) for i, (key, value) in enumerate(rows))
    assert state.progress("p1") == later
    assert state.progress("p2") is None
    assert state.moved_by(dead_letter(4)) == "p1"
    assert state.moved_by(dead_letter(5)) is None
    assert state.fate(PLAN, dead_letter(5)) is Fate.MOVE
