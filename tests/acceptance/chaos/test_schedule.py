"""The schedule is a pure function: the same for the same seed, and it leaves nothing out."""

from collections import Counter
from itertools import pairwise

import pytest

from chaos.schedule import SECONDS, Cast, Kind, kinds, schedule

CAST = Cast(consumers=("fast", "slow", "moody"), tempered=("slow", "moody"))
SEEDS = range(20)
STACK = {Kind.KAFKA_KILL, Kind.LEADER_KILL, Kind.CONNECT_KILL, Kind.POSTGRES_KILL}


def test_a_seed_always_gives_the_same_schedule_and_another_seed_another():
    assert schedule(7, 600, CAST) == schedule(7, 600, CAST)
    assert len({schedule(seed, 600, CAST) for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("brokers", [1, 3])
@pytest.mark.parametrize("seconds", [120, 180, 600, 3600])
def test_every_kind_of_fault_occurs_in_every_three_minutes(seconds, brokers):
    cast = Cast(CAST.consumers, CAST.tempered, brokers)
    for seed in SEEDS:
        times = Counter(fault.kind for fault in schedule(seed, seconds, cast))
        assert times.keys() == set(kinds(brokers))
        assert min(times.values()) >= max(1, seconds // 200)


def test_three_brokers_lose_only_leaders_and_one_broker_falls_as_a_whole():
    assert set(Kind) - set(kinds(1)) == {Kind.LEADER_KILL}
    assert set(Kind) - set(kinds(3)) == {Kind.KAFKA_KILL}


@pytest.mark.parametrize("seconds", [120, 600])
def test_all_faults_lie_within_the_run_in_order_and_last_as_long_as_their_kind_demands(seconds):
    for seed in SEEDS:
        faults = schedule(seed, seconds, CAST)
        assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
        for fault in faults:
            assert fault.at >= 0
            assert fault.at + fault.seconds <= seconds + 0.1
            shortest, longest = SECONDS.get(fault.kind, (0, 100))
            assert shortest <= fault.seconds <= longest


@pytest.mark.parametrize("seconds", [120, 600])
def test_one_part_of_the_stack_falls_at_a_time(seconds):
    for seed in SEEDS:
        parts = [fault for fault in schedule(seed, seconds, CAST) if fault.kind in STACK]
        for former, latter in pairwise(parts):
            assert latter.at >= former.at + former.seconds - 0.1


def test_only_consumers_of_bad_temper_are_made_to_fail_and_workers_of_all_die():
    faults = [fault for seed in SEEDS for fault in schedule(seed, 600, CAST)]
    assert {f.target for f in faults if f.kind.name.startswith("CONSUMER_")} == set(CAST.tempered)
    assert {f.target for f in faults if f.kind is Kind.WORKER_KILL} == set(CAST.consumers)
