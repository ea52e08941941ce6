"""What arrives when partitions were given up, or are about to be."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest
from faust.types import TP

from connectors.kafka.app import App
from connectors.kafka.consumer import Consumer
from connectors.kafka.gate import Bounds, Gate
from connectors.kafka.holds import Holds
from connectors.kafka.thread import ConsumerThread, Fetch

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


class Assignment:
    """With a valid position at 305; ``active`` until the next one."""

    active, tps = True, frozenset({PARTITION})

    def __init__(self):
        self.state = SimpleNamespace(has_valid_position=True, position=305)

    def state_value(self, _):
        return self.state


class Crossed(ConsumerThread):
    """The engine's thread, in which a fetch is answered when a rebalance has begun."""

    def __init__(self):
        self.app = SimpleNamespace(rebalancing_count=1, assigned_positions={}, put_back={})
        self.consumer = SimpleNamespace(flow_active=True)

    async def fetched(self, consumer):
        return await self._fetch_records(consumer, {PARTITION}, 1.0, 10)


class Client:
    """aiokafka's consumer: a rebalance comes with a fetch, and ``place`` with the question what is committed."""

    _closed = False

    def __init__(self, thread, place):
        self.thread, self.place, self._fetcher = thread, place, self
        self._subscription = self._subscriptions = SimpleNamespace(
            subscription=SimpleNamespace(assignment=Assignment()), fetch_context=contextlib.nullcontext
        )

    async def fetched_records(self, *_, **__):
        self.thread.app.rebalancing_count += 1
        return {}

    async def committed(self, _):
        self.thread.app.assigned_positions.update(self.place)
        return 300

    def seek_to(self, tp, offset):
        self._subscription.subscription.assignment.state.position = offset


@pytest.mark.parametrize(("placed", "goes_on"), [({}, 300), ({PARTITION: 309}, 309)])
def test_a_fetch_across_a_rebalance_is_put_back_to_where_its_partition_was_placed_meanwhile(placed, goes_on):
    thread = Crossed()
    client = Client(thread, placed)
    assert asyncio.run(thread.fetched(client)) == Fetch(1)
    assert client._subscription.subscription.assignment.state.position == goes_on


def test_where_a_fetch_was_put_back_to_is_where_the_next_one_begins_whatever_is_committed_since():
    thread = Crossed()
    asyncio.run(thread.fetched(Client(thread, {})))
    app = thread.app
    app.start_offsets, app.consumer = None, SimpleNamespace(_committed_offset={PARTITION: 304})
    app.conf = SimpleNamespace(id="g")

    assert App.origin(app, PARTITION) == 300
    asyncio.run(App.place(app, None, {PARTITION}))
    assert App.origin(app, PARTITION) == 304
