"""What a changed configuration does to events on their way."""

import pytest
from built_catalog import shop
from marked import document
from team_file import team_file

from pipelines import changes, config
from pipelines.changes import Change

LIMIT = 4 << 20
BOTH = (
    "distribution: [{topic: order_paid, services: [OrderPaid]}, "
    "{topic: order_placed, services: [shop.v1.Events/OrderPlaced, shop.v1.Audit/OrderPlaced]}]"
)
EVENTS = BOTH.replace(", shop.v1.Audit/OrderPlaced", "")
DEDICATED = BOTH.replace("[OrderPaid]", "[OrderPaid], dedicated: true")


def read(*files: str) -> tuple[config.Consumer, ...]:
    consumers, findings = config.inspect([document(text, f"{n}.yaml") for n, text in enumerate(files)], shop(), LIMIT)
    assert findings == ()
    return consumers


def compared(old: list[str], new: list[str]) -> list[Change]:
    return list(changes.changes(read(*old), shop(), read(*new), shop()))


def test_nothing_changes_by_what_no_event_hangs_on() -> None:
    before = team_file(BOTH)
    after = team_file(
        "distribution: [{topic: order_placed, services: [shop.v1.Audit/OrderPlaced, shop.v1.Events/OrderPlaced]}, "
        "{topic: order_paid, services: [shop.v1.Events/OrderPaid]}]",
        "grpc-server-hostname: elsewhere",
        "timeout: 9",
        "max-retry-attempts: 99",
    )

    assert compared([before], [after]) == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["retry-topic: new_retry"], "`retry-topic` was x_retry: what waits there would not be retried"),
        (["dlq-topic: new_dlq"], "`dlq-topic` was x_dlq: dead letters there could not be replayed"),
    ],
)
def test_a_renamed_topic_asks_for_retirement(lines: list[str], message: str) -> None:
    assert compared([team_file()], [team_file(*lines)]) == [Change("x", message, loses=True, retires=True)]


def test_a_removed_consumer_asks_for_retirement() -> None:
    [change] = compared([team_file(), team_file(name="y")], [team_file(name="y")])

    assert (change.consumer, change.loses, change.retires) == ("x", True, True)


def test_a_renamed_consumer_is_a_removed_and_a_new_one() -> None:
    renamed = team_file("retry-topic: x_retry", "dlq-topic: x_dlq", name="z")

    removed, new = compared([team_file()], [renamed])

    assert "to Kafka `z` is another consumer, which begins anew" in removed.message
    assert (removed.loses, removed.retires) == (True, True)
    assert new == Change("z", "is new and begins at `start-from`, earliest")


def test_a_removed_topic_loses_the_lag_of_its_group() -> None:
    [change] = compared([team_file(BOTH)], [team_file()])

    assert change.message.startswith("has order_placed no more: what its workers have not delivered by then")
    assert (change.loses, change.retires) == (True, False)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", BOTH, "begins with order_placed at `start-from`, earliest"),
        (BOTH, EVENTS, "shop.v1.Audit/OrderPlaced is removed from order_placed"),
        (EVENTS, BOTH, "shop.v1.Audit/OrderPlaced gets the events of order_placed that the group has not read by then"),
        ("", "start-from: latest", "`start-from` has no effect on topics the consumer has begun with"),
        ("", "max-retry-attempts: 3", "`max-retry-attempts` is less"),
        ("", "max-message-bytes: 1MiB", "`max-message-bytes` is less"),
        (BOTH, DEDICATED, "run `waybill consumer dedicate x order_paid`"),
        (DEDICATED, BOTH, "dedicate x order_paid --undo`, and start"),
    ],
)  # fmt: skip
def test_what_loses_nothing_is_told_all_the_same(old: str, new: str, message: str) -> None:
    [change] = compared([team_file(*filter(None, [old]))], [team_file(*filter(None, [new]))])

    assert message in change.message
    assert not change.loses
