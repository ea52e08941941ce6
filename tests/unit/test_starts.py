"""Where groups begin, how topics change their group, and which partitions are held."""

from hypothesis import given
from hypothesis import strategies as st

from connectors.kafka.offsets import Commit
from pipelines import retirement, starts
from pipelines.gaps import Gap, gaps
from pipelines.starts import Standing, standing

LIVE, LEFT = {0: Commit(5), 1: Commit(0)}, {0: Commit(5, "moved to other")}


def test_a_group_goes_on_whatever_the_other_one_has() -> None:
    assert {standing(LIVE, other) for other in ({}, LIVE, LEFT)} == {Standing.GOES_ON}


def test_a_group_begins_only_if_no_group_has_read_the_topic() -> None:
    assert standing({}, {}) is standing({}, LEFT) is Standing.BEGINS


def test_a_group_whose_offsets_the_other_one_has_must_not_begin() -> None:
    assert {standing(own, other) for own, other in [({}, LIVE), (LEFT, LIVE), (LEFT, {})]} == {Standing.MOVED}


commits = st.dictionaries(
    st.integers(0, 3), st.builds(Commit, st.integers(0, 99), st.sampled_from(["", "moved to other"]))
)


@given(commits, commits)
def test_what_is_carried_over_passes_over_nothing_and_repeats_nothing(
    source: dict[int, Commit], target: dict[int, Commit]
) -> None:
    carried = starts.carried(source, target)

    for partition, commit in carried.items():
        live = [side[partition].offset for side in (source, target) if partition in side and not side[partition].note]
        assert not commit.note
        assert not live or commit.offset == max(live), "each has delivered what it committed, and nobody anything above"
    assert carried.keys() == source.keys() | target.keys()


@given(commits)
def test_a_topic_goes_over_and_back_as_often_as_one_likes(source: dict[int, Commit]) -> None:
    source = {partition: Commit(commit.offset) for partition, commit in source.items()}
    carried = starts.carried(source, {})
    left = {partition: starts.moved(commit, "other") for partition, commit in source.items()}

    assert carried == starts.carried(left, carried) == starts.carried(carried, left) == source


def test_partitions_are_held_whose_offset_is_outside_the_log() -> None:
    found = gaps(
        {n: Commit(offset) for n, offset in enumerate([4, 5, 9, 10])},
        dict.fromkeys(range(4), 5),
        dict.fromkeys(range(4), 9),
    )

    assert found == (Gap(0, 4, 5, 9), Gap(3, 10, 5, 9))
    assert [gap.lost for gap in found] == [1, 0]


def test_without_any_offset_all_partitions_are_held() -> None:
    assert gaps({}, {0: 5, 1: 0}, {0: 9, 1: 0}) == (Gap(0, None, 5, 9), Gap(1, None, 0, 0))


def test_a_group_is_behind_by_what_it_has_not_committed() -> None:
    assert retirement.behind({0: Commit(3), 1: Commit(9)}, {0: 5, 1: 5, 2: 4}) == 2 + 4
