"""The engine and the delivery agent in any order of events, against an oracle of what has been settled."""

import logging
import os
import sys
from collections.abc import Iterator
from random import Random

import pytest
import structlog
from engine_model import (
    BOUNDS,
    COMMIT_TIMEOUT,
    DRAIN_TIMEOUT,
    ENDPOINTS,
    MAX_POLL,
    PARTITIONS,
    TP,
    Kafka,
    Loop,
    Request,
    Worker,
)
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from connectors.kafka.window import RECORD_OVERHEAD, HoleError
from pipelines.outcome import DELIVERED, Against, CutOff, Outcome, Rejected, Retryable

#: Schedules of one test; more than that is more tests, each with a seed of its own.
AT_ONCE = 2000
SCHEDULES = int(os.environ.get("WAYBILL_SCHEDULES", AT_ONCE))
#: Walks of one test, which take longer.
WALKS = AT_ONCE // 4

LOOP = Loop()
AWAY = ConnectionError("the broker is away")
AGAIN = Retryable("UNKNOWN", "again", Against.ENDPOINT)
OUTCOMES = (
    *[DELIVERED] * 6,
    AGAIN,
    Retryable("UNIMPLEMENTED", "later", Against.ENDPOINT, in_memory=False),
    Rejected("NOT_FOUND", "never"),
    CutOff(1),
)
LARGE = 900
NUMBERS = st.integers(0, 1 << 20)


class Schedule(RuleBasedStateMachine):
    """Two members of one group, at times a third process that does not know it has lost its partitions.

    The oracle is ``settled``: which endpoint has which record, or whose hand-over of it is acknowledged.
    """

    def __init__(self) -> None:
        super().__init__()
        LOOP.now = 0.0
        self.kafka = Kafka()
        self.settled: set[tuple[TP, int, str]] = set()
        self.checked = dict.fromkeys(PARTITIONS, 0)
        self.disturbed: set[TP] = set()  # whose committed offset a former owner changed
        self.generation = 0
        self.rebalancing = False
        self.members = [Worker(self.kafka, LOOP), Worker(self.kafka, LOOP)]
        self.zombies: list[Worker] = []
        self.refused: set[Worker] = set()  # had a commit refused, or not answered in time, since they began to leave
        self.left: set[Worker] = set()  # whose drain has ended and been looked at
        for tp in PARTITIONS:
            for _ in range(4):
                self.kafka.logs[tp].append(0, b"small", 0)
                self.kafka.logs[tp].append(0, b"l" * LARGE, 1)
        self.a_rebalance_ends(1)

    @property
    def workers(self) -> list[Worker]:
        return self.members + self.zombies

    # -- the world

    @rule(which=st.integers(0, len(PARTITIONS) - 1), number=NUMBERS)
    def records_are_written(self, which: int, number: int) -> None:
        chance = Random(number)
        for _ in range(chance.randint(1, 6)):
            value = None if chance.random() < 0.1 else chance.choice((b"small", b"l" * LARGE))
            self.kafka.logs[PARTITIONS[which]].append(chance.randint(0, 1), value, chance.randint(0, 1))

    @rule(rounds=st.integers(1, 4), number=NUMBERS)
    def some_requests_are_answered(self, rounds: int, number: int) -> None:
        chance = Random(number)
        for _ in range(rounds):
            for worker in self.workers:
                self._answer(worker, chance)
            for commit in list(self.kafka.commits):
                self._answer_commit(commit, chance)
            LOOP.settle()

    def _answer(self, worker: Worker, chance: Random) -> None:
        if worker.fetches and chance.random() < 0.8:
            nothing_came = chance.random() < 0.2
            worker.fetches.pop().give(0 if nothing_came else chance.randrange((2 * MAX_POLL) ** len(PARTITIONS)))
            LOOP.settle()
        if worker.returns and chance.random() < 0.8:
            worker.returns.pop().give(None)
            LOOP.settle()
        for call in list(worker.calls):
            if chance.random() < 0.7:
                self._call_answered(call, chance.choice(OUTCOMES))
        for sent in list(worker.hand_overs):
            if chance.random() < 0.7:
                self._hand_over_answered(sent, acknowledged=chance.random() < 0.7)
        self._let_store_and_commit(worker, chance)

    def _let_store_and_commit(self, worker: Worker, chance: Random) -> None:
        if chance.random() < 0.4:
            worker.run(worker.store_everything())
            LOOP.settle()
        for store in list(worker.stores):
            if chance.random() < 0.7:
                self._stored(store)
        if chance.random() < 0.4:
            LOOP.settle()
            worker.run(worker.consumer.commit())
        LOOP.settle()

    def _call_answered(self, call: Request, outcome: Outcome | CutOff) -> None:
        call.worker.calls.remove(call)
        if outcome is DELIVERED:
            self._settled(call, call.what)
        call.give(outcome)

    def _hand_over_answered(self, sent: Request, *, acknowledged: bool) -> None:
        sent.worker.hand_overs.remove(sent)
        if acknowledged:
            self._settled(sent, sent.what)
        sent.give("acknowledged" if acknowledged else AWAY)

    def _stored(self, store: Request) -> None:
        store.worker.stores.remove(store)
        self._settled(store, *store.what)
        store.give(None)

    def _settled(self, request: Request, *what: tuple[TP, int, str]) -> None:
        self.settled.update(what)
        if request.generation == request.worker.generation:  # else a drain that timed out left it under way
            request.worker.settled.update(what)

    def _answer_commit(self, commit: Request, chance: Random) -> None:
        match chance.random():
            case leave if leave < 0.3:
                pass
            case accept if accept < 0.7:
                self._commit_accepted(commit, told=True)
            case accept if accept < 0.8:
                self._commit_accepted(commit, told=False)
            case _ if not commit.applied:
                self._commit_refused(commit)

    def _commit_refused(self, commit: Request) -> None:
        self.kafka.commits.remove(commit)
        self.refused.add(commit.worker)
        commit.give(False)

    def _commit_accepted(self, commit: Request, *, told: bool) -> None:
        if not commit.applied:
            commit.applied = True
            for tp, offset in commit.what.items():
                self._committed(commit.worker, tp, offset)
        if told:
            self.kafka.commits.remove(commit)
            if commit.answer.done():
                self.refused.add(commit.worker)
            commit.give(True)

    def _committed(self, worker: Worker, tp: TP, offset: int) -> None:
        for record in self.kafka.logs[tp].between(self.checked[tp], offset):
            for endpoint in ENDPOINTS[tp.topic]:
                assert (tp, record.offset, endpoint) in self.settled, "what is not settled is committed"
        self.checked[tp] = max(self.checked[tp], offset)
        if worker.generation != self.generation or worker not in self.members:
            self.disturbed.add(tp)
        self.kafka.committed[tp] = offset

    @rule(seconds=st.sampled_from([0.05, 0.5, 2.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        LOOP.pass_time(seconds)

    # -- the group

    @precondition(lambda self: not self.rebalancing)
    @rule()
    def a_rebalance_begins(self) -> None:
        self.rebalancing = True
        for worker in self.members:
            self.refused.discard(worker)
            self.left.discard(worker)
            worker.leave()
        LOOP.settle()

    @precondition(lambda self: self.rebalancing and all(not w.leaving or w.leaving.done() for w in self.members))
    @rule(number=NUMBERS)
    def a_rebalance_ends(self, number: int) -> None:
        chance = Random(number)
        self.rebalancing = False
        self.generation += 1
        self.disturbed.clear()
        owners: list[list[TP]] = [[], []]
        for tp in PARTITIONS:
            owners[chance.randint(0, 1)].append(tp)
        for worker, assigned in zip(self.members, owners, strict=True):
            worker.join(assigned, self.generation, fetch_first=chance.random() < 0.5)
        LOOP.settle()

    @invariant()
    def a_drain_leaves_nothing_undone_that_could_be_done(self) -> None:
        for worker in self.members:
            if worker.leaving and worker.leaving.done() and worker not in self.left:
                self.left.add(worker)
                worker.leaving.result()
                if worker.left_with:
                    self._left(worker)

    def _left(self, worker: Worker) -> None:
        """A drain waits for work; what it settled is committed and comes to nobody again."""
        waited = LOOP.now - worker.left_at
        unfinished = worker.calls or worker.hand_overs or worker.stores
        assert not unfinished or waited >= DRAIN_TIMEOUT, "a drain did not wait for work"
        unanswered = any(
            commit.worker is worker and commit.generation == worker.generation for commit in self.kafka.commits
        )
        assert not unanswered or waited >= COMMIT_TIMEOUT, "a drain did not wait for its commit"
        if waited >= DRAIN_TIMEOUT or unanswered or worker in self.refused:
            return
        for tp, offset, _ in worker.settled:
            ended = all((tp, offset, endpoint) in self.settled for endpoint in ENDPOINTS[tp.topic])
            assert ended, "who has an event will get it again because another endpoint has not"
        for tp in worker.client.assignment() - self.disturbed:
            ours = [offset for of, offset, _ in worker.settled if of == tp]
            assert max(ours, default=-1) < self.kafka.committed[tp], "a drain leaves something to repeat"

    @rule(which=st.integers(0, 2), zombie=st.booleans())
    def a_process_dies_or_falls_asleep(self, which: int, zombie: bool) -> None:
        if which == 2:
            if self.zombies:
                self.zombies.pop().die()
            return
        worker = self.members[which]
        self.members[which] = Worker(self.kafka, LOOP)
        if zombie and not self.zombies:
            self.zombies.append(worker)
        else:
            self._repeats_little(worker)
            worker.die()
        LOOP.settle()

    def _repeats_little(self, worker: Worker) -> None:
        again = {
            (tp, offset)
            for tp, offset, _ in worker.settled
            if tp not in self.disturbed and offset >= self.kafka.committed[tp]
        }
        assert len(again) < BOUNDS.uncommitted + MAX_POLL, "a crash repeats more than the bound of what is uncommitted"

    # -- what always holds

    @invariant()
    def no_process_fails(self) -> None:
        for i, worker in enumerate(self.members):
            if isinstance(worker.failed, HoleError) and self.disturbed & worker.client.assignment():
                self.members[i] = Worker(self.kafka, LOOP)  # the alarm may ring where a former owner still commits
                worker.die()
                LOOP.settle()
            elif worker.failed:
                raise worker.failed

    @invariant()
    def the_load_is_what_the_windows_hold(self) -> None:
        for worker in self.workers:
            if not worker.gate.open:
                continue
            load, windows = worker.gate.load, list(worker.gate.windows.values())
            batches = [batch for window in windows for batch in window._batches if batch.records]
            undone = sum(record is not None for batch in batches for record in batch.records)
            assert load.pending == undone
            assert load.held == sum(batch.size for batch in batches) >= undone * RECORD_OVERHEAD
            assert load.uncommitted == sum(window.uncommitted for window in windows) >= undone
            assert all(window.uncommitted >= 0 for window in windows)

    # -- what comes in the end

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self._everything_is_settled_and_committed()
        finally:
            for worker in self.workers:
                worker.die()

    def _everything_is_settled_and_committed(self) -> None:
        while self.zombies:
            self.zombies.pop().die()
        for commit in list(self.kafka.commits):
            self._commit_accepted(commit, told=True)
        LOOP.settle()
        if not self.rebalancing:
            self.a_rebalance_begins()
        for turn in range(200):
            self.a_drain_leaves_nothing_undone_that_could_be_done()
            if self.rebalancing and all(not w.leaving or w.leaving.done() for w in self.members):
                self.a_rebalance_ends(0)
            self._nearly_all_goes_well(turn)
            if not self.rebalancing and self._at_the_end():
                break
        ends = {tp: log.end for tp, log in self.kafka.logs.items()}
        assert self.kafka.committed == ends, "not everything was committed in the end"
        for tp, log in self.kafka.logs.items():
            for record in log.records:
                assert all((tp, record.offset, endpoint) in self.settled for endpoint in ENDPOINTS[tp.topic])
        for worker in self.members:
            load = worker.gate.load
            assert (load.pending, load.uncommitted, load.held, worker.gate.working) == (0, 0, 0, 0)

    def _at_the_end(self) -> bool:
        """A hand-over that its drain could not wait for ends when its next try is due."""
        committed = all(self.kafka.committed[tp] == log.end for tp, log in self.kafka.logs.items())
        return committed and not any(worker.gate.working for worker in self.members)

    def _nearly_all_goes_well(self, turn: int) -> None:
        for worker in self.members:
            if worker.fetches:
                worker.fetches.pop().give((1 << 40) - 1)
                LOOP.settle()
            if worker.returns:
                worker.returns.pop().give(None)
            LOOP.settle()
            worker.run(worker.store_everything())
            LOOP.settle()
            while worker.calls or worker.hand_overs or worker.stores:
                for number, call in enumerate(list(worker.calls)):
                    self._call_answered(call, AGAIN if turn == 0 and number % 2 else DELIVERED)
                for sent in list(worker.hand_overs):
                    self._hand_over_answered(sent, acknowledged=True)
                for store in list(worker.stores):
                    self._stored(store)
                LOOP.settle()
            worker.run(worker.consumer.commit())
            LOOP.settle()
            for commit in list(self.kafka.commits):
                if turn % 2 == 0:
                    self._commit_accepted(commit, told=True)
                else:
                    self._commit_refused(commit)
            LOOP.settle()
        LOOP.pass_time(1.0)
        self.no_process_fails()


@pytest.fixture
def silence() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(SCHEDULES // AT_ONCE))
@pytest.mark.usefixtures("silence")
def test_whatever_comes_in_any_order_nothing_is_lost_and_little_repeated(number: int) -> None:
    run_state_machine_as_test(
        seed(number)(type("Schedule", (Schedule,), {})),
        settings=settings(
            max_examples=AT_ONCE,
            stateful_step_count=15,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("number", range(SCHEDULES // AT_ONCE))
@pytest.mark.usefixtures("silence")
def test_rebalances_amid_work_end_no_worker_and_lose_nothing(number: int) -> None:
    """What the search above hardly comes to: work before, in and after each of several rebalances."""
    for walk in range(number * WALKS, (number + 1) * WALKS):
        chance, schedule = Random(walk), Schedule()
        try:
            for _ in range(3):
                work(schedule, chance, rounds=6)
                schedule.a_rebalance_begins()
                while not all(member.leaving.done() for member in schedule.members):
                    work(schedule, chance, rounds=2)
                    schedule.time_passes(seconds=0.5)
                schedule.a_rebalance_ends(number=chance.randrange(1 << 20))
            work(schedule, chance, rounds=6)
        finally:
            schedule.teardown()


def work(schedule: Schedule, chance: Random, rounds: int) -> None:
    for _ in range(rounds):
        schedule.some_requests_are_answered(rounds=1, number=chance.randrange(1 << 20))
        schedule.a_drain_leaves_nothing_undone_that_could_be_done()
        schedule.no_process_fails()
        schedule.the_load_is_what_the_windows_hold()
