"""Hand-overs are tried until the brokers have them, and it shows which wait."""

import asyncio
import time

from connectors.kafka.producer import HandOvers, Late


def test_a_hand_over_is_tried_until_it_is_taken() -> None:
    hand_overs, failures = HandOvers(), iter([OSError("away"), OSError("still")])

    async def send() -> str:
        for failure in failures:
            raise failure
        return "taken"

    assert asyncio.run(hand_overs.persist("t", send, lambda: True)) == "taken"
    assert (hand_overs.done, hand_overs.late(time.monotonic() + 60, 5.0)) == (1, [])


def test_a_hand_over_that_nobody_wants_any_more_ends_without_an_answer() -> None:
    hand_overs, wanted = HandOvers(), iter([True, False])

    async def send() -> str:
        raise OSError("away")

    assert asyncio.run(hand_overs.persist("t", send, lambda: next(wanted))) is None
    assert hand_overs.done == 0


def test_those_that_wait_for_long_are_told_by_topic_with_the_last_error() -> None:
    async def scenario() -> list[Late]:
        hand_overs = HandOvers()

        async def send() -> str:
            raise OSError("no such topic")

        waiting = [asyncio.create_task(hand_overs.persist("t", send, lambda: True)) for _ in range(3)]
        await asyncio.sleep(0)
        late = hand_overs.late(time.monotonic() + 60, 5.0)
        assert hand_overs.late(time.monotonic(), 5.0) == []
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert hand_overs.late(time.monotonic() + 60, 5.0) == []
        return late

    (late,) = asyncio.run(scenario())
    assert (late.topic, late.waiting, late.error) == ("t", 3, "OSError('no such topic')")
    assert late.seconds > 59
