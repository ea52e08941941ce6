"""The ledger finds what is planted: it must be able to fail."""

from dataclasses import replace

import pytest

from chaos.ledger import Call, Cause, DeadLetter, Entry, Evidence, judge
from examples.demo.ledger import Delivery, Facts, Stored, Subscription

ONE, TWO = Delivery("e1", "calm", "A"), Delivery("e2", "calm", "A")
P, Q = 101, 102  # two workers' processes


def call(delivery, at, process=P, answer="OK", left=2.0):
    return Call(at, delivery, answer, 1, process, left)


def evidence(*calls, journal=(), dead=(), **changes):
    """Two events of one subscription, both saved, in Kafka and in the lake."""
    saved = frozenset({Stored("e1", "t", "d1"), Stored("e2", "t", "d2")})
    facts = Facts(
        subscriptions=(Subscription("t", "calm", "A"),),
        saved=saved,
        rolled_back={"e9": "t"},
        arrivals={
            each.delivery: sum(c.accepted and c.delivery == each.delivery for c in calls)
            for each in calls
            if each.accepted
        },
        open_dead_letters=frozenset(each.delivery for each in dead),
        replayed=frozenset(),
        lake=dict.fromkeys(saved, 1),
    )
    offsets = {("t", 0, 0): "e1", ("t", 0, 2): "e2"}
    found = Evidence(facts, frozenset({"e1"}), calls, journal, offsets, dict.fromkeys(offsets, 1), dead)
    return replace(found, **changes)


BALANCED = (call(ONE, 10), call(TWO, 11))


def failures(found):
    return " / ".join(judge(found).failures)


def test_a_run_in_which_all_arrived_once_is_without_fault():
    verdict = judge(evidence(*BALANCED))
    assert (verdict.failures, verdict.duplicates, verdict.suspects, verdict.accepted) == ((), (), (), 2)


def test_a_delivery_that_is_neither_accepted_nor_a_dead_letter_is_lost_and_the_first_suspect():
    refused = evidence(call(ONE, 10), call(TWO, 11, answer="UNKNOWN"))
    assert "1 event, such as e2: neither arrived" in failures(refused)
    assert judge(refused).suspects == (TWO,)
    assert failures(evidence(call(ONE, 10), dead=[DeadLetter(TWO, "NOT_FOUND", "gone")])) == ""


def test_an_event_of_a_transaction_that_rolled_back_must_not_arrive():
    assert "rolled back, but arrived" in failures(evidence(*BALANCED, call(Delivery("e9", "calm", "A"), 12)))


def test_what_the_producer_committed_must_be_in_the_outbox():
    assert "not in the outbox, such as e7" in failures(evidence(*BALANCED, committed=frozenset({"e7"})))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kafka": {("t", 0, 0): "e1"}, "lake": {("t", 0, 0): 1}}, "in the outbox, but not in Kafka"),
        ({"lake": {("t", 0, 0): 1}}, "1 offsets are in Kafka, but not in the lake, such as ('t', 0, 2)"),
        ({"lake": {("t", 0, 0): 1, ("t", 0, 2): 2}}, "in the lake more than once"),
        ({"lake": {("t", 0, 0): 1, ("t", 0, 2): 1, ("t", 0, 3): 1}}, "in the lake, but not in Kafka"),
        ({"kafka": {("t", 0, 0): "e1", ("t", 0, 2): "e2", ("t", 1, 0): "e2"}}, "in Kafka more than once"),
    ],
)
def test_outbox_kafka_and_lake_must_hold_the_same_offset_for_offset(changes, told):
    assert told in failures(evidence(*BALANCED, **changes))


AGAIN = call(ONE, 20, process=Q)


@pytest.mark.parametrize(
    ("first", "entry", "cause"),
    [
        (call(ONE, 10), None, None),
        (call(ONE, 10, left=0.1), None, Cause.ANSWER_LOST),
        (call(ONE, 10), Entry("calm is down", 10.2, 15, Cause.ANSWER_LOST, 0, "calm"), Cause.ANSWER_LOST),
        (call(ONE, 10), Entry("calm resets connections", 9.5, 10, Cause.ANSWER_LOST, 0, "calm"), Cause.ANSWER_LOST),
        (
            call(ONE, 10, left=1.7),
            Entry("reset meanwhile", 9.6, 9.75, Cause.ANSWER_LOST, 0, "calm"),
            Cause.ANSWER_LOST,
        ),
        (call(ONE, 10, left=1.9), Entry("reset before", 9.6, 9.75, Cause.ANSWER_LOST, 0, "calm"), None),
        (call(ONE, 10), Entry("calm is down", 13, 15, Cause.ANSWER_LOST, 0, "calm"), None),
        (call(ONE, 10), Entry("other is down", 10.2, 15, Cause.ANSWER_LOST, 0, "other"), None),
        (call(ONE, 10), Entry("kill", 12, 12, Cause.CRASH, P), Cause.CRASH),
        (call(ONE, 10), Entry("kill of another", 12, 12, Cause.CRASH, Q), None),
        (call(ONE, 10), Entry("kill before", 9, 9, Cause.CRASH, P), None),
        (call(ONE, 10, process=0), Entry("kill while it was under way", 9, 9, Cause.CRASH, P), Cause.CRASH),
        (call(ONE, 10, process=0), Entry("kill long before", 7, 7, Cause.CRASH, P), None),
        (call(ONE, 10), Entry("kill after", 21, 21, Cause.CRASH, P), None),
        (call(ONE, 10), Entry("frozen", 10.1, 19, Cause.FREEZE, P), Cause.FREEZE),
        (call(ONE, 10), Entry("another frozen", 10.1, 19, Cause.FREEZE, 103), None),
        (call(ONE, 10), Entry("Kafka", 11, 15, Cause.BROKER), Cause.BROKER),
        (call(ONE, 10), Entry("Kafka after", 21, 30, Cause.BROKER), None),
        (call(ONE, 10), Entry("a worker ended on SIGTERM", 12, 12, None, P), None),
    ],
)
def test_a_duplicate_is_traced_to_what_explains_it_and_to_nothing_else(first, entry, cause):
    verdict = judge(evidence(first, call(TWO, 11), AGAIN, journal=[entry] if entry else []))
    assert [each.cause for each in verdict.duplicates] == [cause]
    assert ("came twice without cause" in " ".join(verdict.failures)) == (cause is None)


def test_a_crash_of_whoever_called_in_vain_before_explains_a_duplicate_too():
    calls = (call(ONE, 8, answer="UNKNOWN"), call(ONE, 10, process=Q), call(ONE, 20, process=103), call(TWO, 11))
    verdict = judge(evidence(*calls, journal=[Entry("kill", 9, 9, Cause.CRASH, P)]))
    assert [each.cause for each in verdict.duplicates] == [Cause.CRASH]


def test_a_dead_letter_must_say_why():
    assert "no cause" in failures(evidence(*BALANCED, dead=[DeadLetter(ONE, "", "")]))


def test_an_outage_must_not_fill_a_dlq_but_a_consumer_may_reject_as_much_as_it_likes():
    assert "filled its DLQ" in failures(evidence(*BALANCED, dead=[DeadLetter(ONE, "UNAVAILABLE", "down")] * 11))
    assert failures(evidence(*BALANCED, dead=[DeadLetter(ONE, "UNAVAILABLE", "down")] * 10)) == ""
    assert failures(evidence(*BALANCED, dead=[DeadLetter(ONE, "NOT_FOUND", "no")] * 50)) == ""


def test_a_crash_loop_and_a_death_of_a_signal_that_nobody_sent_are_failures():
    def failures_of(code, times):
        return failures(evidence(*BALANCED, journal=[Entry("x ended", 12, 12, Cause.CRASH, P, crash=code)] * times))

    assert failures_of(1, 20) == ""
    assert "ended by themselves 21 times" in failures_of(1, 21)
    assert "died of a signal" in failures_of(-11, 1)


def test_a_consumer_that_never_fails_has_no_dead_letter():
    found = evidence(*BALANCED, dead=[DeadLetter(ONE, "NOT_FOUND", "no")], reliable=frozenset({"calm"}))
    assert "never fail" in failures(found)
