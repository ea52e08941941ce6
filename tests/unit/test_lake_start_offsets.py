import asyncio
from types import SimpleNamespace

import pytest
from faust.types import TP
from structlog.testing import capture_logs

from connectors.kafka.holds import Halt, Holds
from connectors.problems import Unreachable
from lake.hot import sink
from lake.hot.fetches import Halted
from lake.hot.sink import Sink

HALT = Halt(None, "the topic does not exist", "make it")


class Chains:
    """Finds no Kafka, or no storage, so many times; partition 1 cannot go on."""

    def __init__(self, failures):
        self.failures = failures

    def assign(self, partitions):
        self.failures -= 1
        if self.failures >= 0:
            raise Unreachable("Kafka does not answer")
        return {(topic, partition): HALT if partition else 7 for topic, partition in partitions}


def started(failures, *, stops, monkeypatch):
    """Where partitions begin, and which are held."""
    monkeypatch.setattr(sink, "TICK", 0.001)
    service = Sink(Chains(failures))
    service.app = SimpleNamespace(should_stop=stops, holds=Holds("group of test_lake_start_offsets", ""))
    return asyncio.run(service.start_offsets({TP("t", 0), TP("t", 1)})), service.app.holds.held


def test_an_assignment_waits_for_what_does_not_answer(monkeypatch):
    assert started(3, stops=False, monkeypatch=monkeypatch)[0] == {TP("t", 0): 7}


def test_partitions_that_cannot_go_on_are_held_and_have_no_place(monkeypatch):
    assert started(0, stops=False, monkeypatch=monkeypatch) == ({TP("t", 0): 7}, {TP("t", 1): HALT})


def test_a_sink_that_stops_does_not_wait(monkeypatch):
    with pytest.raises(Unreachable):
        started(3, stops=True, monkeypatch=monkeypatch)


def test_a_topic_in_another_life_has_the_partitions_assigned_anew_and_is_told(monkeypatch):
    monkeypatch.setattr(sink, "LOOK", 0.001)
    found, reassigned = iter([[], ["parcels"], [], ["parcels"]]), []

    class App:
        async def reassign(self):
            reassigned.append(1)
            if len(reassigned) == 2:
                service.set_shutdown()
                service._stopped.set()

    service = Sink(SimpleNamespace(changed=lambda: next(found)))
    service.app = App()
    with capture_logs() as lines:
        asyncio.run(service._look())
    assert [line["topics"] for line in lines] == [["parcels"], ["parcels"]]


def test_what_a_drain_that_was_cut_short_did_not_take_in_does_not_count_in_the_memory_for_ever():
    service = Sink(SimpleNamespace(step=None))
    service.app = SimpleNamespace(gate=SimpleNamespace(released=lambda: None))
    service._inbox, service._unseen = [SimpleNamespace(size=100)], 100

    async def takes_too_long(*_):
        await asyncio.sleep(60)

    async def cut_short():
        service._run = takes_too_long
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await service._take_in()

    asyncio.run(cut_short())
    assert service._unseen == 0


def test_a_window_that_is_over_cannot_hold_the_partition_of_the_next_one():
    service = Sink(SimpleNamespace())
    service.app = SimpleNamespace(holds=Holds("group of test_lake_start_offsets", ""))
    over, live = SimpleNamespace(live=False), SimpleNamespace(live=True)
    service._answer([Halted(over, "t", 0, HALT), Halted(live, "t", 1, HALT)])
    assert service.app.holds.held == {TP("t", 1): HALT}
