import asyncio
from types import SimpleNamespace

import pytest
from faust.types import TP

from connectors.problems import Unreachable
from lake import sink
from lake.sink import Sink


class Chains:
    """Finds no Kafka so many times."""

    def __init__(self, failures):
        self.failures = failures

    def assign(self, partitions):
        self.failures -= 1
        if self.failures >= 0:
            raise Unreachable("Kafka does not answer")
        return dict.fromkeys(partitions, 7)


def started(failures, *, stops, monkeypatch):
    monkeypatch.setattr(sink, "TICK", 0.001)
    service = Sink(Chains(failures))
    service.app = SimpleNamespace(should_stop=stops)
    return asyncio.run(service.start_offsets({TP("t", 0)}))


def test_an_assignment_waits_for_a_kafka_that_does_not_answer(monkeypatch):
    assert started(3, stops=False, monkeypatch=monkeypatch) == {TP("t", 0): 7}


def test_a_sink_that_stops_does_not_wait_for_kafka(monkeypatch):
    with pytest.raises(Unreachable):
        started(3, stops=True, monkeypatch=monkeypatch)
