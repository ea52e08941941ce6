"""Simulated hours of outages: what becomes of whole deliveries."""

from collections import Counter
from itertools import pairwise

import pytest
from delivery_simulation import Simulation
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.admission import SUSPECT_OPENINGS


def healthy(_event, _endpoint, _now):
    return 0.005, "OK"


def load(simulation, seconds, rate=2.0, endpoints=("a",)):
    for number in range(int(seconds * rate)):
        for endpoint in endpoints:
            simulation.deliver(str(number), endpoint, number / rate)


def ends(simulation):
    return Counter((delivery.endpoint, delivery.ended) for delivery in simulation.deliveries)


OUTAGES = {
    "down": ({"is_up": lambda now: not 60 < now < 660}, "OK"),
    "answering UNAVAILABLE": ({}, "UNAVAILABLE"),
    "answering UNKNOWN": ({}, "UNKNOWN"),
    "hanging": ({}, "DEADLINE_EXCEEDED"),
}


@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("rate", [0.02, 2.0])
def test_ten_minutes_of_outage_make_no_dead_letter_and_recovery_takes_seconds(outage, rate):
    how, status = OUTAGES[outage]

    def consumer(_event, _endpoint, now):
        bad = status != "OK" and 60 < now < 660
        return (5.0 if bad and status == "DEADLINE_EXCEEDED" else 0.005), status if bad else "OK"

    simulation = Simulation(consumer, seed=3, **how)
    load(simulation, 700, rate)
    simulation.run()
    assert ends(simulation) == {("a", "delivered"): int(700 * rate)}
    if rate > 1:
        assert max(delivery.attempts for delivery in simulation.deliveries) < 8
        waited = [d.ended_at for d in simulation.deliveries if 70 < int(d.event) / rate < 660]
        assert 660 < min(waited) < 660 + 5 + 5  # the probe before the recovery may run until its deadline


@pytest.mark.parametrize("outage", ["answering UNAVAILABLE", "answering UNKNOWN"])
def test_probes_are_each_of_another_delivery(outage):
    _, status = OUTAGES[outage]
    simulation = Simulation(lambda *_: (0.005, status), seed=1)
    load(simulation, 30, 4.0)
    simulation.run(until=120)
    events = [event for _, event in simulation.probes]
    assert len(events) > 20
    assert len(set(events)) == len(events)
    times = [at for at, _ in simulation.probes]
    assert max(later - at for at, later in pairwise(times)) <= 5.01


class Moods:
    """A consumer that changes: each mood lasts from its time to that of the next."""

    def __init__(self, moods, in_order="well"):
        self.moods, self.in_order = moods, in_order
        self.serving: list[float] = []

    def mood(self, now):
        return next((mood for start, mood in reversed(self.moods) if start <= now), "well")

    def is_up(self, now):
        mood = self.mood(now)
        return mood != "down" and not (mood == "up and down" and int(now) % 2)

    def __call__(self, _event, _endpoint, now):
        match self.mood(now):
            case "UNAVAILABLE" | "UNKNOWN" as status:
                return 0.005, status
            case "hanging":
                return TIMEOUT, "DEADLINE_EXCEEDED"
            case "good and bad":
                return 0.005, "UNKNOWN" if int(now) % 2 else "OK"
            case "failing under load":
                self.serving = [until for until in self.serving if until > now]
                if len(self.serving) >= 3:
                    return TIMEOUT, "DEADLINE_EXCEEDED"
                self.serving.append(now + 1.5)
                return 1.5, "OK"
        return 0.005, "OK"


TIMEOUT = 5.0
IN_VAIN = ["down", "UNAVAILABLE", "UNKNOWN", "hanging"]
TROUBLED = ["up and down", "good and bad", "failing under load"]


@settings(max_examples=examples(30), deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    rate=st.sampled_from([0.02, 0.5, 2.0]),
    in_flight=st.sampled_from([1, 4, 64]),
    moods=st.lists(
        st.tuples(st.sampled_from([1.0, 5.0, 60.0, 300.0]), st.sampled_from(["well", *IN_VAIN, *TROUBLED])), max_size=4
    ),
)
def test_no_sequence_of_outages_makes_a_dead_letter_and_each_ends_within_a_probe(seed, rate, in_flight, moods):
    times, end = [], 60.0
    for seconds, mood in moods:
        times.append((end, mood))
        end += seconds
    consumer = Moods([*times, (end, "well")])
    simulation = Simulation(consumer, seed, in_flight, is_up=consumer.is_up)
    load(simulation, end + 60, rate, ("a", "b"))
    simulation.run()
    total = int((end + 60) * rate)
    assert ends(simulation) == {(endpoint, "delivered"): total for endpoint in "ab" if total}
    # Retries come back within 3 s, a probe within 5 s; the one before it may run until its deadline.
    waited = [delivery for delivery in simulation.deliveries if delivery.calls and delivery.ended_at >= end]
    if any(delivery.calls[0] < end - 10 for delivery in waited):
        assert min(at for delivery in waited for at in delivery.calls if at >= end) <= end + TIMEOUT + 5 + 3


@settings(max_examples=examples(20), deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from([0.02, 0.2, 1.0]), st.sampled_from(IN_VAIN))
def test_ten_minutes_in_vain_make_ten_dead_letters_at_most_however_small_the_budget(seed, rate, mood):
    consumer = Moods([(300, mood), (900, "well")])
    simulation = Simulation(consumer, seed, is_up=consumer.is_up, in_memory=0, retries=1)
    load(simulation, 960, rate)
    simulation.run()
    assert ends(simulation)["a", "dead letter"] <= 10
    assert sum(ends(simulation).values()) == len(simulation.deliveries)


@settings(max_examples=examples(30), deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    in_flight=st.integers(1, 32),
    killers=st.sets(st.integers(0, 119), min_size=1, max_size=3),
    proxied=st.booleans(),
)
def test_an_event_that_kills_its_consumer_ends_as_a_dead_letter_and_all_others_are_delivered(
    seed, in_flight, killers, proxied
):
    killers = frozenset(map(str, killers))
    simulation = Simulation(healthy, seed, in_flight, killers=killers, proxied=proxied)
    load(simulation, 30, 4.0)
    # Behind a proxy a killer is told from an outage by those who get through in between.
    for number in range(300 if proxied else 0):
        simulation.deliver(f"later {number}", "a", 30.0 + number * 15)
    simulation.run()
    bad = [delivery for delivery in simulation.deliveries if delivery.event in killers]
    assert {delivery.ended for delivery in bad} == {"dead letter"}
    others = [delivery for delivery in simulation.deliveries if delivery.event not in killers]
    assert {delivery.ended for delivery in others} == {"delivered"}
    assert max(delivery.attempts for delivery in others) < 10
    assert simulation.deaths <= len(killers) * SUSPECT_OPENINGS * 18


def test_a_killer_does_not_hold_those_behind_it():
    simulation = Simulation(healthy, seed=1, max_in_flight=8, killers=frozenset("5"))
    for number in range(200):
        simulation.deliver(str(number), "a")
    simulation.run()
    others = [delivery.ended_at for delivery in simulation.deliveries if delivery.event != "5"]
    assert max(others) < 30


def test_an_endpoint_that_fails_holds_nobody_but_its_own_deliveries():
    def consumer(_event, endpoint, now):
        return 0.005, "UNKNOWN" if endpoint == "b" and now < 100 else "OK"

    simulation = Simulation(consumer, seed=1, max_in_flight=4)
    load(simulation, 60, 10.0, ("a", "b"))
    simulation.run()
    assert set(ends(simulation)) == {("a", "delivered"), ("b", "delivered")}
    late = [d.ended_at - int(d.event) / 10.0 for d in simulation.deliveries if d.endpoint == "a"]
    assert max(late) < 0.5


def test_a_delivery_that_always_fails_among_good_ones_is_spent_and_opens_nothing():
    def consumer(event, _endpoint, _now):
        return 0.005, "UNKNOWN" if event == "7" else "OK"

    simulation = Simulation(consumer, seed=1)
    load(simulation, 3600, 0.5)
    simulation.run()
    bad = [delivery for delivery in simulation.deliveries if delivery.event == "7"]
    assert [(delivery.ended, delivery.attempts) for delivery in bad] == [("dead letter", 18)]
    assert not simulation.probes


def test_a_consumer_at_its_capacity_is_not_asked_for_much_more_and_no_breaker_opens():
    serving: list[float] = []
    answers: Counter = Counter()

    def consumer(_event, _endpoint, now):
        serving[:] = [until for until in serving if until > now]
        answer = "OK" if len(serving) < 8 else "RESOURCE_EXHAUSTED"
        answers[answer] += 1
        if answer == "OK":
            serving.append(now + 0.005)
        return 0.005, answer

    simulation = Simulation(consumer, seed=1, max_in_flight=64)
    for number in range(5000):
        simulation.deliver(str(number), "a")
    simulation.run()
    assert ends(simulation) == {("a", "delivered"): 5000}
    assert not simulation.probes
    assert answers["RESOURCE_EXHAUSTED"] < 0.1 * answers["OK"]
