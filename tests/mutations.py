"""Lines on which a promise hangs, each broken in one way, and the test that then fails.

``tests/mutants.py`` breaks them one by one.  Whoever changes such a line changes its entry here: the same mistake in
the new code, or another one; an entry goes only together with the code it breaks.
"""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Mutation:
    """``old``, which is in ``file`` exactly once, becomes ``new``; ``test`` is a test or a file of tests."""

    breaks: str
    file: str
    old: str
    new: str
    test: str


_MODEL = "tests/unit/test_engine_model.py::test_whatever_comes_in_any_order_nothing_is_lost_and_little_repeated"
_WINDOW = "tests/unit/test_window.py::"
_BREAKER = "tests/unit/test_breaker.py::"
_ADMISSION = "tests/unit/test_admission.py::"
_LIMITER = "tests/unit/test_limiter.py::"
_TOKENS = "tests/unit/test_dlq_tokens.py::"
_HANDOVER = "tests/unit/test_handover.py::"
_SEQUENCES = "tests/unit/test_admission_sequences.py"
_CHAINS = "tests/unit/test_lake_chains.py::"
_WAITING = "tests/unit/test_lake_waiting.py::"
_COMPACTION = "tests/unit/test_lake_compaction.py::"
_COMPACT = "tests/unit/test_lake_compact.py::"
_AWAY = "tests/integration/test_kafka_away.py::test_a_worker_told_to_stop_while_kafka_is_away_ends_without_its_commit"
_DELIVERY = "tests/acceptance/test_delivery.py::"

MUTATIONS = (
    # -- what may be committed
    Mutation(
        "commits pass records that are not done",
        "connectors/kafka/window.py",
        "gap = self._done.find(0)",
        "gap = self._done.rfind(0)",
        _MODEL,
    ),
    Mutation(
        "a batch that is done takes those before it along",
        "connectors/kafka/window.py",
        "while self._batches and not self._batches[0].left:",
        "while self._batches and not self._batches[-1].left:",
        _MODEL,
    ),
    Mutation(
        "a batch taken whole counts as stored before it is",
        "connectors/kafka/window.py",
        "self._reached = max(self._reached or 0, offset)",
        "self._reached = self.next",
        _WINDOW + "test_batches_taken_whole_are_finished_by_offset",
    ),
    Mutation(
        "what a commit covered still counts as uncommitted, and intake stops for ever",
        "connectors/kafka/window.py",
        "self.load.uncommitted += left - self.uncommitted",
        "self.load.uncommitted += 0",
        _MODEL,
    ),
    Mutation(
        "records that a fetch skipped are passed without a word",
        "connectors/kafka/window.py",
        "if due and (start > due or (self.next and start < due)):",
        "if due and self.next and start < due:",
        _WINDOW + "test_a_fetch_that_skips_records_is_a_hole",
    ),
    Mutation(
        "a batch that Faust dropped is passed without a word",
        "connectors/kafka/window.py",
        "if batch.number != self._seen:",
        "if batch.number < self._seen:",
        _WINDOW + "test_a_batch_lost_on_the_way_to_the_agent_is_a_hole",
    ),
    Mutation(
        "a commit that the broker refused counts as made",
        "connectors/kafka/consumer.py",
        "        if accepted:\n            self.app.gate.accepted(offsets)",
        "        self.app.gate.accepted(offsets)",
        _MODEL,
    ),
    Mutation(
        "a position that the broker refused once is never offered again",
        "connectors/kafka/consumer.py",
        "return tp.topic in self.app.batch_topics or super()._should_commit(tp, offset)",
        "return super()._should_commit(tp, offset)",
        _MODEL,
    ),
    # -- intake
    Mutation(
        "a partition whose first record is stuck takes in more and more",
        "connectors/kafka/gate.py",
        "window.uncommitted < self.bounds.partition",
        "window.uncommitted >= 0",
        _MODEL,
    ),
    Mutation(
        "a crash repeats whatever was fetched since the last commit",
        "connectors/kafka/gate.py",
        "or load.uncommitted >= bounds.uncommitted\n",
        "\n",
        _MODEL,
    ),
    Mutation(
        "bytes in flight have no bound",
        "connectors/kafka/gate.py",
        "or load.held + self.held_elsewhere() >= bounds.held\n",
        "\n",
        _MODEL,
    ),
    # -- fetches across a rebalance
    Mutation(
        "a fetch that outlived a rebalance is dropped, and its records with it",
        "connectors/kafka/thread.py",
        "                consumer._fetcher.seek_to(tp, start)\n",
        "",
        _MODEL,
    ),
    Mutation(
        "a commit of the last assignment that arrives late ends the worker, as its fetch was put back to before it",
        "connectors/kafka/app.py",
        "return self.put_back.get(tp, committed)",
        "return committed",
        "tests/unit/test_late_fetches.py::"
        "test_where_a_fetch_was_put_back_to_is_where_the_next_one_begins_whatever_is_committed_since",
    ),
    Mutation(
        "where a fetch was put back to while partitions were given up counts in the next assignment",
        "connectors/kafka/app.py",
        "self.assigned_positions, self.put_back = frozenset(assigned), {}, {}",
        "self.assigned_positions = frozenset(assigned), {}",
        "tests/unit/test_late_fetches.py::"
        "test_where_a_fetch_was_put_back_to_is_where_the_next_one_begins_whatever_is_committed_since",
    ),
    Mutation(
        "what the lake's thread was not given before a drain was cut short takes up its memory for ever",
        "lake/hot/sink.py",
        "finally:  # a drain that takes too long is cut short here",
        "except ValueError:",
        "tests/unit/test_lake_start_offsets.py::"
        "test_what_a_drain_that_was_cut_short_did_not_take_in_does_not_count_in_the_memory_for_ever",
    ),
    Mutation(
        "a worker starts without the right to write a dead letter",
        "connectors/kafka/rights.py",
        "for name in needs.writes if AclOperation.WRITE not in allowed[name]]",
        "for name in needs.writes if False]",
        "tests/acceptance/test_guarded_kafka.py::test_a_worker_that_lacks_a_right_does_not_start_and_says_which",
    ),
    Mutation(
        "a worker whose right to read is taken away asks for it hundreds of times a second",
        "connectors/kafka/thread.py",
        "            raise  # a right was taken away; the next worker says which",
        "            pass",
        "tests/acceptance/test_guarded_kafka.py::test_a_worker_whose_right_is_taken_away_ends",
    ),
    Mutation(
        "a fetch that outlived a rebalance and brought only markers is not put back",
        "connectors/kafka/thread.py",
        "for tp in _positions(current, active_partitions):",
        "for tp in records:",
        _MODEL,
    ),
    Mutation(
        "a fetch that outlived a rebalance is put back to where its partition is not, since it was placed meanwhile",
        "connectors/kafka/thread.py",
        "start = self.app.assigned_positions.get(tp, committed)",
        "start = committed",
        "tests/unit/test_late_fetches.py::"
        "test_a_fetch_across_a_rebalance_is_put_back_to_where_its_partition_was_placed_meanwhile",
    ),
    Mutation(
        "a fetch answered from the next assignment is taken for one of its own",
        "connectors/kafka/thread.py",
        "if self.app.rebalancing_count != epoch or current is not assignment:",
        "if self.app.rebalancing_count != epoch:",
        _MODEL,
    ),
    Mutation(
        "a fetch of an older assignment is let in",
        "connectors/kafka/consumer.py",
        "app.rebalancing_count != fetch.epoch or not self.flow_active or self.should_stop or drained",
        "not self.flow_active or self.should_stop or drained",
        _MODEL,
    ),
    # -- the end of an assignment
    Mutation(
        "a fetch that comes in after the drain of a stop has a window",
        "connectors/kafka/consumer.py",
        " or self.should_stop or drained",
        " or self.should_stop",
        "tests/unit/test_late_fetches.py::"
        "test_a_fetch_that_comes_in_after_the_drain_of_a_stop_is_left_to_the_next_owner",
    ),
    Mutation(
        "partitions are given up without a drain",
        "connectors/kafka/consumer.py",
        "            await self.app.gate.drain(self.commit, self.app.commit_timeout)",
        "            pass",
        _MODEL,
    ),
    Mutation(
        "a stop waits for a commit as long as Kafka is away",
        "connectors/kafka/gate.py",
        "(await asyncio.wait({committing}, timeout=commit_timeout))",
        "(await asyncio.wait({committing}))",
        _AWAY,
    ),
    Mutation(
        "a stop waits as long as Kafka is away to leave its group",
        "connectors/kafka/thread.py",
        "await asyncio.wait({leaving}, timeout=LEAVE_TIMEOUT)",
        "await asyncio.wait({leaving})",
        _AWAY,
    ),
    Mutation(
        "a stop amid a rebalance closes connections that another thread reads from",
        "connectors/kafka/thread.py",
        "    def close(self) -> None:",
        "    def close_later(self) -> None:",
        "tests/integration/test_engine.py::"
        "test_a_worker_whose_group_rebalances_while_it_stops_closes_its_connections_where_they_are_read",
    ),
    Mutation(
        "a drain does not wait for work",
        "connectors/kafka/gate.py",
        "while self.working:",
        "while False:",
        _MODEL,
    ),
    Mutation(
        "a drain forgets to commit",
        "connectors/kafka/gate.py",
        "                    await commit()",
        "                    pass",
        _MODEL,
    ),
    Mutation(
        "what finishes after its partition was given up counts in the next assignment",
        "connectors/kafka/gate.py",
        "            window.live = False  # late finishers no longer count",
        "            pass",
        _MODEL,
    ),
    # -- a delivery
    Mutation(
        "an event counts as done after its first endpoint",
        "pipelines/delivery.py",
        "        if progress.outstanding:\n            return\n",
        "",
        _MODEL,
    ),
    Mutation(
        "what a drain let go of counts as delivered",
        "pipelines/delivery.py",
        "            if progress.let_go:\n",
        "            if False:\n",
        _MODEL,
    ),
    Mutation(
        "who has an event gets it again because a drain let go of another endpoint",
        "pipelines/delivery.py",
        "if progress.let_go and progress.arrived:",
        "if False:",
        _MODEL,
    ),
    Mutation(
        "calls begin during a drain",
        "pipelines/delivery.py",
        "        if not (self.app.gate.open and progress.batch.live):\n",
        "        if False:\n",
        _MODEL,
    ),
    Mutation(
        "what arrived comes again because a drain let go of what was before it",
        "pipelines/delivery.py",
        "if event.offset < reach[event.batch.window]",
        "if False",
        _MODEL,
    ),
    # -- a hand-over
    Mutation(
        "a hand-over that failed counts as made",
        "connectors/kafka/producer.py",
        "                    await asyncio.sleep(pause)\n",
        "                    return True  # type: ignore[return-value]\n",
        _MODEL,
    ),
    Mutation(
        "a hand-over goes on for a partition that has another owner",
        "connectors/kafka/producer.py",
        "while wanted():",
        "while True:",
        _MODEL,
    ),
    # -- what is not called in vain
    Mutation(
        "one call that found no connection lets all others fail too",
        "pipelines/breaker.py",
        "if connected and self._failures < self._threshold:",
        "if self._failures < self._threshold:",
        _BREAKER + "test_one_call_that_found_no_connection_opens_the_consumers_breaker",
    ),
    Mutation(
        "failures far apart open the consumer's breaker",
        "pipelines/breaker.py",
        "        self._failures = 0\n        return self._close()",
        "        return self._close()",
        _BREAKER + "test_the_consumers_breaker_opens_exactly_at_consecutive_transport_failures",
    ),
    Mutation(
        "one bad event opens its endpoint's breaker",
        "pipelines/breaker.py",
        "len(set(self._failed)) < self._distinct",
        "False",
        _BREAKER + "test_one_bad_event_alone_never_opens_its_endpoints_breaker",
    ),
    Mutation(
        "a probe of an earlier opening decides about this one",
        "pipelines/breaker.py",
        "self.state is State.HALF_OPEN and probe == self._probe",
        "self.state is State.HALF_OPEN and probe > 0",
        _BREAKER + "test_a_probe_from_before_the_last_opening_decides_nothing",
    ),
    Mutation(
        "a consumer that is down spends attempts",
        "pipelines/admission.py",
        "reach is Reach.UNSENT:\n                return None",
        "reach is Reach.UNSENT:\n                return failure",
        _SEQUENCES,
    ),
    Mutation(
        "an endpoint that is down spends attempts",
        "pipelines/admission.py",
        "            attempt.cuts += 1\n            return None\n        return failure",
        "            attempt.cuts += 1\n        return failure",
        _SEQUENCES,
    ),
    Mutation(
        "retries crowd out fresh deliveries",
        "pipelines/admission.py",
        "retries_allowed=self.retries_in_flight < max(1, self.limiter.limit // 2)",
        "retries_allowed=True",
        _ADMISSION + "test_retries_take_half_of_what_is_in_flight_while_fresh_deliveries_wait",
    ),
    Mutation(
        "calls that were under way together halve the limit one by one",
        "pipelines/limiter.py",
        "if call_round == self._round and self.limit:",
        "if self.limit:",
        _LIMITER + "test_calls_that_were_under_way_together_halve_the_limit_once",
    ),
    Mutation(
        "a consumer that is back gets everything at once",
        "pipelines/limiter.py",
        "self.limit, self._cautious_from = 1, self.maximum",
        "self.limit, self._cautious_from = self.maximum, self.maximum",
        _LIMITER + "test_after_a_restart_it_grows_from_one_by_one_a_success",
    ),
    # -- the retry topic
    Mutation(
        "a worker that dies gives every waiting retry its whole budget again",
        "pipelines/retry.py",
        "state = row or RetryState(retry.given, 0.0, time.time())",
        "state = RetryState(retry.given, 0.0, time.time())",
        _DELIVERY + "test_a_worker_killed_while_retrying_loses_nothing_and_keeps_the_budget",
    ),
    Mutation(
        "a spent delivery is tried once more",
        "pipelines/retry.py",
        "delivery.attempts - given.attempts >= self.consumer.max_retry_attempts",
        "delivery.attempts - given.attempts > self.consumer.max_retry_attempts",
        _DELIVERY + "test_a_worker_killed_while_retrying_loses_nothing_and_keeps_the_budget",
    ),
    Mutation(
        "a dead letter that the retry topic gives up is not written",
        "pipelines/retry.py",
        "if await bury(self.app, retry.batch, self.consumer, retry.event, delivery):",
        "if True:",
        _DELIVERY + "test_a_worker_killed_while_retrying_loses_nothing_and_keeps_the_budget",
    ),
    Mutation(
        "a retry record is committed though no one can read it",
        "pipelines/retry.py",
        "            if await bury(self.app, batch, self.consumer, event, delivery) and batch.live:",
        "            if batch.live:",
        _DELIVERY + "test_retry_records_that_lead_nowhere_are_dead_letters_that_say_why",
    ),
    # -- dead letters
    Mutation(
        "an outage fills the DLQ",
        "pipelines/dlq_tokens.py",
        "            self._tokens -= 1",
        "            pass",
        _TOKENS + "test_each_success_lets_one_in",
    ),
    Mutation(
        "an outage after many successes fills the DLQ",
        "pipelines/dlq_tokens.py",
        "if self._tokens < self._capacity:",
        "if True:",
        _TOKENS + "test_an_outage_after_many_successes_lets_in_few",
    ),
    Mutation(
        "a hand-over takes the event's own headers away",
        "pipelines/handover.py",
        "for name, value in original if name not in _NAMES]",
        "for name, value in original if name in _NAMES]",
        _HANDOVER + "test_the_events_own_headers_survive_a_hand_over",
    ),
    Mutation(
        "an error text makes a record too large to be handed over",
        "pipelines/handover.py",
        "error=error[:ERROR_LIMIT],",
        "error=error,",
        _HANDOVER + "test_error_texts_are_cut",
    ),
    # -- the lake
    Mutation(
        "what arrives behind a closed segment is not in the lake",
        "lake/hot/chains.py",
        "            tail.behind.append(fetch)",
        "            pass",
        _WAITING + "test_what_arrives_behind_a_closed_segment_counts_as_memory_and_is_the_next_one",
    ),
    Mutation(
        "a sink that slept goes on inside the chain of another, and rows are there twice",
        "lake/hot/chains.py",
        "        if now - segment.placed < FENCE:",
        "        if True:",
        _CHAINS + "test_a_sink_that_slept_until_its_segments_name_was_free_again_publishes_nothing_twice",
    ),
    Mutation(
        "a step of the compactor takes segments from beyond a gap",
        "lake/main/compaction.py",
        "if one.start == ends.get(chain, 0):",
        "if one.start >= ends.get(chain, 0):",
        _COMPACTION + "test_step_by_step_every_chain_is_taken_in_its_order_up_to_its_first_gap_which_is_named",
    ),
    Mutation(
        "the end of a chain is removed, and nobody knows where it goes on",
        "lake/main/compaction.py",
        " and start != last[chain]",
        "",
        _COMPACTION + "test_removed_is_only_what_lies_below_its_watermark_and_never_the_last_of_a_chain",
    ),
    Mutation(
        "hot segments are removed while readers still have their names",
        "lake/main/compact.py",
        "numbers[old - 1]",
        "numbers[-1]",
        _COMPACT + "test_hot_segments_stay_for_their_time_and_the_last_of_a_chain_for_ever",
    ),
    Mutation(
        "rows that wait on disk while a step sorts them are overwritten",
        "lake/main/merge.py",
        '.open("ab")',
        '.open("wb")',
        _COMPACT + "test_every_type_comes_back_equal_wherever_its_rows_wait_meanwhile",
    ),
)


def table() -> str:
    """All of them, as the guarantees show them."""
    rows = [f"| {m.breaks} | `{m.file}` | `{m.test.rpartition('::')[2] or m.test}` |" for m in MUTATIONS]
    return "\n".join(["| if it were broken | in | then fails |", "|---|---|---|", *rows])
