"""The ledger must notice whatever it exists to notice."""

from collections import Counter
from dataclasses import replace

import pytest

from examples.demo.ledger import Delivery, Facts, Line, Stored, Subscription, broken, lines, not_shown, undelivered

CREATED, DELIVERED = (Stored(name, f"package_{name}", f"digest of {name}") for name in ("created", "delivered"))
BILLING = Subscription("package_created", "billing", "PackageCreated")
TRACKING = Subscription("package_created", "tracking", "PackageCreated")
TOLD = Subscription("package_delivered", "billing", "PackageDelivered")


def of(event_id, subscription):
    return Delivery(event_id, subscription.consumer, subscription.endpoint)


BALANCED = Facts(
    subscriptions=(BILLING, TRACKING, TOLD),
    saved=frozenset({CREATED, DELIVERED}),
    rolled_back={"undone": "package_created"},
    arrivals=Counter({of("created", BILLING): 1, of("created", TRACKING): 1, of("delivered", TOLD): 1}),
    open_dead_letters=frozenset(),
    replayed=frozenset(),
    lake=Counter({CREATED: 1, DELIVERED: 1}),
)


def without(delivery):
    return Counter({each: times for each, times in BALANCED.arrivals.items() if each != delivery})


def test_a_ledger_in_which_everything_arrived_balances():
    assert broken(BALANCED) == ()


def test_an_event_that_never_reached_a_subscriber_is_noticed_with_its_endpoint():
    facts = replace(BALANCED, arrivals=without(of("created", TRACKING)))
    assert undelivered(facts) == {of("created", TRACKING)}
    assert broken(facts) == (
        "1 event, such as created: neither arrived at tracking/PackageCreated nor became a dead letter of it",
    )


def test_an_open_dead_letter_stands_for_a_delivery():
    facts = replace(
        BALANCED, arrivals=without(of("delivered", TOLD)), open_dead_letters=frozenset({of("delivered", TOLD)})
    )
    assert broken(facts) == ()


def test_a_dead_letter_at_another_endpoint_does_not_stand_for_a_delivery():
    facts = replace(
        BALANCED, arrivals=without(of("created", TRACKING)), open_dead_letters=frozenset({of("created", BILLING)})
    )
    assert "neither arrived at tracking/PackageCreated" in broken(facts)[0]


def test_a_dead_letter_that_was_replayed_and_never_arrived_is_noticed():
    facts = replace(BALANCED, arrivals=without(of("delivered", TOLD)), replayed=frozenset({of("delivered", TOLD)}))
    assert "neither arrived at billing/PackageDelivered" in broken(facts)[0]


def test_a_duplicate_at_a_consumer_is_counted_and_breaks_no_promise():
    facts = replace(BALANCED, arrivals=BALANCED.arrivals + Counter({of("created", BILLING): 2}))
    assert broken(facts) == ()
    assert lines(facts)[0] == Line(
        BILLING, saved=1, rolled_back=1, delivered=1, duplicates=2, dead_lettered=0, replayed=0, in_lake=1
    )


def test_an_event_that_is_in_the_lake_twice_counts_twice_in_its_line():
    assert lines(replace(BALANCED, lake=BALANCED.lake + Counter({CREATED: 1})))[0].in_lake == 2


def test_a_delivery_that_was_dead_lettered_replayed_and_dead_lettered_again_counts_once():
    again = frozenset({of("delivered", TOLD)})
    facts = replace(BALANCED, arrivals=without(of("delivered", TOLD)), open_dead_letters=again, replayed=again)
    assert lines(facts)[2] == Line(
        TOLD, saved=1, rolled_back=0, delivered=0, duplicates=0, dead_lettered=1, replayed=1, in_lake=1
    )


@pytest.mark.parametrize(
    ("lake", "told"),
    [
        (Counter({CREATED: 1}), "1 event, such as delivered: missing in the lake"),
        (Counter({CREATED: 2, DELIVERED: 1}), "1 event, such as created: in the lake more than once"),
        (
            Counter({CREATED: 1, replace(CREATED, topic="package_delivered"): 1, DELIVERED: 1}),
            "1 event, such as created: in the lake more than once",
        ),
        (
            Counter({replace(CREATED, digest="another"): 1, DELIVERED: 1}),
            "1 event, such as created: in the lake under another topic or with another payload",
        ),
        (
            BALANCED.lake + Counter({replace(CREATED, event_id="stranger"): 1}),
            "1 event, such as stranger: never saved, but in the lake",
        ),
    ],
)
def test_a_lake_that_does_not_hold_every_event_exactly_once_as_it_was_saved_is_noticed(lake, told):
    assert told in broken(replace(BALANCED, lake=lake))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"saved": BALANCED.saved | {replace(CREATED, event_id="undone")}}, "in the outbox"),
        ({"lake": BALANCED.lake + Counter({replace(CREATED, event_id="undone"): 1})}, "in the lake"),
        ({"arrivals": BALANCED.arrivals + Counter({of("undone", BILLING): 1})}, "arrived at a consumer"),
        ({"open_dead_letters": frozenset({of("undone", BILLING)})}, "became a dead letter"),
        ({"replayed": frozenset({of("undone", BILLING)})}, "became a dead letter"),
    ],
)
def test_an_event_that_was_rolled_back_is_noticed_wherever_it_appears(changes, told):
    assert f"1 event, such as undone: rolled back, but {told}" in broken(replace(BALANCED, **changes))


@pytest.mark.parametrize("where", ["arrivals", "open_dead_letters"])
def test_an_event_that_nobody_saved_or_that_came_to_a_stranger_is_noticed(where):
    def facts(delivery):
        now = Counter({delivery: 1}) + BALANCED.arrivals if where == "arrivals" else frozenset({delivery})
        return replace(BALANCED, **{where: now})

    assert "never saved, but" in broken(facts(of("unheard", BILLING)))[0]
    assert "where nobody subscribed to it" in broken(facts(of("delivered", BILLING)))[0]


def test_an_event_type_without_a_subscriber_proves_nothing():
    facts = replace(BALANCED, subscriptions=(BILLING, TRACKING), arrivals=without(of("delivered", TOLD)))
    assert broken(facts) == ("nobody subscribed to package_delivered, so nothing is proved about it",)


SHOWN = replace(
    BALANCED,
    saved=frozenset(Stored(str(number), f"topic_{number % 4}", "digest") for number in range(2_000)),
    replayed=frozenset({Delivery("1", "notifications", "PackageDelivered")}),
)


MORE = frozenset(Stored(f"more {number}", "topic_1", "digest") for number in range(500))


def test_a_run_that_showed_everything_passes():
    assert not_shown(SHOWN, breaker_openings=1, retried=1) == ()


@pytest.mark.parametrize(
    ("changes", "numbers", "told"),
    [
        ({"saved": frozenset(list(SHOWN.saved)[1:])}, {}, "only 1,999 events of 4 types were saved"),
        (
            {"saved": frozenset(event for event in SHOWN.saved if event.topic != "topic_0") | MORE},
            {},
            "only 2,000 events of 3 types were saved",
        ),
        ({"rolled_back": {}}, {}, "no transaction was rolled back"),
        ({"replayed": frozenset()}, {}, "no dead letter was replayed"),
        ({}, {"breaker_openings": 0}, "the breaker of tracking never opened"),
        ({}, {"retried": 0}, "nothing went through the retry topic of notifications"),
        (
            {"open_dead_letters": frozenset({of("1", TRACKING)})},
            {},
            "tracking, which was only down, has 1 dead letters",
        ),
        (
            {"replayed": SHOWN.replayed | {of("1", BILLING)}},
            {},
            "billing, which was healthy, has 1 dead letters",
        ),
        (
            {"open_dead_letters": SHOWN.replayed},
            {},
            "1 event, such as 1: still a dead letter, after all were replayed",
        ),
    ],
)
def test_a_run_that_did_not_show_what_it_was_to_show_fails(changes, numbers, told):
    assert told in not_shown(replace(SHOWN, **changes), **{"breaker_openings": 1, "retried": 1, **numbers})
