"""What arrives when partitions were given up, or are about to be."""

import asyncio
from types import SimpleNamespace

import pytest
from faust.types import TP

from connectors.kafka.consumer import Consumer
from connectors.kafka.gate import Bounds, Gate
from connectors.kafka.holds import Holds
from connectors.kafka.thread import Fetch

PARTITION = TP("events", 0)


class Fetching(Consumer):
    """The engine's consumer at the moment at which a fetch has come in."""

    flow_active, should_stop = True, False
    _active_partitions = frozenset({PARTITION})

    def __init__(self, gate, fetch):
        self.fetch = fetch
        self.app = SimpleNamespace(
            gate=gate,
            holds=Holds("g", ""),
            batch_topics={PARTITION.topic},
            rebalancing_count=1,
            consumer_generation_id=1,
            monitor=SimpleNamespace(track_tp_end_offset=lambda *_: None),
            origin=lambda _: 309,
        )

    def highwater(self, _):
        return 400

    async def _wait_next_records(self, timeout):  # noqa: ASYNC109 - Faust's
        return self.fetch, self._active_partitions

    async def admitted(self):
        return [message async for message in self.getmany(1.0)]


def record(offset):
    return SimpleNamespace(offset=offset, timestamp=0, key=None, value=b"", headers=())


@pytest.mark.parametrize(("open_", "admitted"), [(True, 1), (False, 0)])
def test_a_fetch_that_comes_in_after_the_drain_of_a_stop_is_left_to_the_next_owner(open_, admitted):
    gate = Gate("g", Bounds(100, 100, 100, 1 << 20), 1.0)
    gate.open = open_
    start = 309 if open_ else 312  # what lay before was dropped already
    fetch = Fetch(1, {PARTITION: (start, 314, [record(start), record(313)])})
    assert len(asyncio.run(Fetching(gate, fetch).admitted())) == admitted
    assert len(gate.windows) == admitted
