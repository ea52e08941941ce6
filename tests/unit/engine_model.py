"""Kafka, aiokafka and what Faust does between them, as little of each as the engine touches, in simulated time.

A ``Worker`` is a process: the real consumer, gate, windows, hand-over and delivery agent run in it.  Whatever it asks
of the world outside (a fetch, a commit, a record produced, a call, a segment stored) is a ``Request`` that waits until
the schedule answers it.
"""

import asyncio
import selectors
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from connectors.kafka.app import App, _batches
from connectors.kafka.consumer import Consumer
from connectors.kafka.gate import Bounds, Gate
from connectors.kafka.holds import Holds
from connectors.kafka.producer import HandOvers
from connectors.kafka.thread import ConsumerThread
from connectors.kafka.window import Batch
from pipelines import handover
from pipelines.delivery import DeliveryAgent
from pipelines.format import Consumer as ConsumerConfig
from pipelines.routing import Endpoint, Route

EVENTS, ARCHIVED = "events", "archived"  # delivered record by record; taken in whole batches
PARTITIONS = (TP(EVENTS, 0), TP(EVENTS, 1), TP(ARCHIVED, 0))
ENDPOINTS = {EVENTS: ("s/One", "s/Two"), ARCHIVED: ("lake",)}
MAX_POLL = 4  # records of one fetch, over all its partitions
BOUNDS = Bounds(pending=6, uncommitted=10, partition=7, held=3000)
DRAIN_TIMEOUT, COMMIT_TIMEOUT = 5.0, 3.0

CONSUMER = ConsumerConfig(
    name="c",
    grpc_server_hostname="h",
    grpc_server_port=1,
    retry_topic="retry",
    dlq_topic="dlq",
    max_in_flight=4,
    max_message_bytes=1000,
    distribution=({"topic": EVENTS, "services": ("One", "Two")},),
)
ROUTE = Route("c", EVENTS, SimpleNamespace(name="T"), tuple(Endpoint(n, f"/{n}") for n in ENDPOINTS[EVENTS]), False)


# -- time


class _NeverWaits(selectors.SelectSelector):
    """When nobody can go on without waiting, the loop stops."""

    def __init__(self, idle: Any) -> None:
        super().__init__()
        self._idle = idle

    def select(self, timeout: float | None = None) -> list:
        if timeout is None or timeout > 0:
            self._idle()
        return []


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still until it is told how much time passes."""

    now = 0.0

    def __init__(self) -> None:
        super().__init__(_NeverWaits(self.stop))
        self.set_task_factory(_owned_task)

    def time(self) -> float:
        return self.now

    def settle(self) -> None:
        """Run whatever can run."""
        if self._ready:
            self.run_forever()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.run_forever()


_owner: ContextVar["Worker"] = ContextVar("owner")


def _owned_task(loop: asyncio.AbstractEventLoop, coro: Coroutine, context: Any = None) -> asyncio.Task:
    task = asyncio.Task(coro, loop=loop, context=context)
    if worker := _owner.get(None):
        worker.tasks.append(task)
    return task


# -- Kafka


@dataclass
class Record:
    topic: str
    partition: int
    offset: int
    value: bytes | None
    key: bytes | None = None
    headers: tuple = ()
    timestamp: int = 0
    timestamp_type: int = 0


@dataclass
class Log:
    """One partition.  Offsets without a record are transaction markers."""

    tp: TP
    records: list[Record] = field(default_factory=list)
    end: int = 0

    def append(self, gap: int, value: bytes | None, markers: int) -> None:
        self.records.append(Record(*self.tp, self.end + gap, value))
        self.end += gap + 1 + markers

    def between(self, start: int, end: int) -> list[Record]:
        return [record for record in self.records if start <= record.offset < end]


@dataclass(eq=False)
class Request:
    """Something a worker waits for, in an assignment, ``generation``.

    ``what``: offsets of a commit, or the delivery that a call or hand-over is of.
    """

    worker: "Worker"
    generation: int
    what: Any
    answer: asyncio.Future
    applied: bool = False

    def give(self, result: Any) -> None:
        if not self.answer.done():
            if isinstance(result, Exception):
                self.answer.set_exception(result)
            else:
                self.answer.set_result(result)


@dataclass
class Kafka:
    logs: dict[TP, Log] = field(default_factory=lambda: {tp: Log(tp) for tp in PARTITIONS})
    committed: dict[TP, int] = field(default_factory=lambda: dict.fromkeys(PARTITIONS, 0))
    commits: list[Request] = field(default_factory=list)


@dataclass
class Position:
    position: int
    has_valid_position: bool = True


class Assignment:
    active = True

    def __init__(self, positions: Mapping[TP, int]) -> None:
        self.states = {tp: Position(offset) for tp, offset in positions.items()}
        self.tps = set(self.states)
        self.state_value = self.states.__getitem__


class Subscription:
    """aiokafka's ``SubscriptionState`` and ``Subscription`` in one."""

    def __init__(self) -> None:
        self.subscription = self
        self.assignment = Assignment({})
        self.assigned = asyncio.Event()  # clear while a rebalance goes on

    @contextmanager
    def fetch_context(self) -> Iterator[None]:
        yield


class Client:
    """aiokafka's consumer and its fetcher in one."""

    _closed = False
    _max_poll_records = MAX_POLL

    def __init__(self, worker: "Worker") -> None:
        self._worker, self._kafka, self._fetcher = worker, worker.kafka, self
        self._subscription = self._subscriptions = Subscription()

    def assignment(self) -> set[TP]:
        return self._subscription.assignment.tps

    async def committed(self, tp: TP) -> int | None:
        return self._kafka.committed[tp]

    def seek_to(self, tp: TP, offset: int) -> None:
        self._subscription.assignment.states[tp].position = offset

    async def fetched_records(self, wanted: Iterable[TP], timeout: float, max_records: int) -> dict[TP, list[Record]]:  # noqa: ASYNC109
        """Not answered while a rebalance goes on; then from the assignment there is by now.  An empty set means all."""
        self._worker.may_fetch(wanted)
        choice = await self._worker.ask("fetches", wanted)
        if not choice:  # nothing came in time
            return {}
        await self._subscription.assigned.wait()
        found, left = {}, max_records
        for tp, state in self._subscription.assignment.states.items():
            if wanted and tp not in wanted:
                continue
            choice, kind = divmod(choice, 2 * MAX_POLL)
            ahead = self._kafka.logs[tp].between(state.position, self._kafka.logs[tp].end)
            got = ahead[: min(kind // 2, left)]
            left -= len(got)
            rest = ahead[len(got) :]
            if got:
                found[tp] = got
                state.position = got[-1].offset + 1
            if kind % 2:  # over the markers that follow
                state.position = rest[0].offset if rest else self._kafka.logs[tp].end
        return found


# -- what of Faust is beneath and around the engine


class _FaustThread(driver.AIOKafkaConsumerThread):
    def __init__(self, worker: "Worker") -> None:
        self.app, self.consumer, self._consumer = worker.app, worker.consumer, worker.client
        self._worker = worker

    def assignment(self) -> set[TP]:
        return self._consumer.assignment()

    def highwater(self, tp: TP) -> int:
        return self._worker.kafka.logs[tp].end

    async def call_thread(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        answer = await method(*args, **kwargs)
        if method.__name__ == "_fetch_records":
            await self._worker.ask("returns", answer)  # on its way from the thread to the app's loop
        return answer

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        return await self._worker.ask("commits", {tp: o for tp, o in offsets.items() if tp in self.assignment()})


class Thread(ConsumerThread, _FaustThread):
    """The engine's, on top of ``_FaustThread``."""


class _Faust(driver.Consumer):
    """The rest of Faust's consumer; ``commit`` is its own."""

    should_stop = False
    _commit_fut = None

    def __init__(self, worker: "Worker") -> None:
        self.app, self._worker, self._loop = worker.app, worker, worker.loop
        self.diag = SimpleNamespace(set_flag=lambda _flag: None, unset_flag=lambda _flag: None)
        self._acked: dict = {}
        self._buffered_partitions: set = set()
        self._committed_offset: dict = defaultdict(lambda: None)
        self._read_offset: dict = defaultdict(lambda: None)
        self.flow_active, self.can_resume_flow = False, asyncio.Event()

    def add_future(self, coro: Coroutine) -> asyncio.Future:
        return self._worker.run(coro)

    @property
    def _active_partitions(self) -> set[TP]:
        return set(self.assignment())

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109
        if not self.flow_active:
            await self.can_resume_flow.wait()
        active = self._active_partitions
        return await self._getmany(active, timeout) if active else await asyncio.sleep(1.0), active

    async def _handle_attached(self, _offsets: Any) -> None: ...

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        ours = {tp: offset for tp, offset in offsets.items() if tp in self.assignment()}
        if not ours:
            return False
        accepted = await self._commit(ours)
        self._committed_offset.update(ours)
        return accepted

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self.flow_active = False
        self.can_resume_flow.clear()
        for tp in revoked:
            self._read_offset.pop(tp, None)
            self._committed_offset.pop(tp, None)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        await self.perform_seek()
        self.flow_active = True
        self.can_resume_flow.set()

    async def fetch_for_ever(self, callback: Any) -> None:
        """Faust's fetcher; what lies below the offset it believes to have read it drops."""
        while True:
            async for tp, message in self.getmany(timeout=1.0):
                if self._read_offset[tp] is None or message.offset >= self._read_offset[tp]:
                    callback(message)
                    self._read_offset[tp] = message.offset
            await asyncio.sleep(0)


class RealConsumer(Consumer, _Faust):
    """The engine's, on top of ``_Faust``."""


class _Sensors:
    def __getattr__(self, _name: str) -> Any:
        return lambda *_args: None


class ModelApp(App):
    """The engine's, without Faust's start."""

    should_stop = False
    client_only = False
    consumer = monitor = sensors = conf = None
    gate = holds = None
    fetch_bytes = turns = 0
    fetch_together = False

    def __init__(self, worker: "Worker") -> None:
        self.worker = worker
        self.batch_topics = {EVENTS, ARCHIVED}
        self.gate = Gate("g", BOUNDS, DRAIN_TIMEOUT)
        self.commit_timeout, self.hand_overs, self.holds = COMMIT_TIMEOUT, HandOvers(), Holds("g", "")
        self.start_offsets, self.assigned_positions, self.assigning, self.put_back = None, {}, asyncio.Lock(), {}
        self.rebalancing_count, self.consumer_generation_id = 0, 0
        self.monitor = self.sensors = _Sensors()
        self.conf = SimpleNamespace(id="g")

    def add_dependency(self, service: Any) -> Any:
        return service

    async def maybe_start_producer(self) -> Any:
        return self

    async def partitions_of(self, topic: str) -> int:
        return 3

    async def send_and_wait(self, topic: str, key: Any, value: Any, partition: Any, at: Any, headers: Any) -> Any:
        given = handover.parse(headers)
        tp = TP(given.topic, given.partition)
        assert tp in self.consumer.assignment(), "a record of a partition that is not ours was handed over"
        return await self.worker.ask("hand_overs", (tp, given.offset, given.endpoint))

    async def crash(self, reason: BaseException) -> None:
        self.worker.failed = reason


# -- one process


class Worker:
    """``fetches``, ``returns``, ``commits`` and so on: what waits for an answer of each kind."""

    def __init__(self, kafka: Kafka, loop: Loop) -> None:
        self.kafka, self.loop = kafka, loop
        self.tasks: list[asyncio.Task] = []
        self.failed: BaseException | None = None
        self.dead = False
        self.leaving: asyncio.Task | None = None
        self.generation, self.left_at, self.left_with = 0, 0.0, 0
        self.commits, self.fetches, self.returns = kafka.commits, [], []
        self.calls, self.hand_overs, self.stores = [], [], []
        self.taken: list[tuple[Batch, list[Record]]] = []
        self.storing = asyncio.Lock()
        self.settled: set[tuple[TP, int, str]] = set()  # in this assignment
        self.read: dict[TP, int] = {}
        self.context = copy_context()
        self.context.run(_owner.set, self)
        self.app = ModelApp(self)
        self.client = Client(self)
        self.consumer = self.app.consumer = RealConsumer(self)
        self.consumer._thread = Thread(self)
        self.gate.on_drain.append(self.store_everything)
        self.inbox: dict[str, asyncio.Queue] = {EVENTS: asyncio.Queue(), ARCHIVED: asyncio.Queue()}
        self.agent = DeliveryAgent(self.app, CONSUMER, {EVENTS: ROUTE}, self, Random(0))
        self.run(self.agent.pool.on_start())
        self.run(self._until_it_fails(self.agent.run(_batches(self._stream(EVENTS)))))
        self.run(self._until_it_fails(self._archive(_batches(self._stream(ARCHIVED)))))
        self.run(self._until_it_fails(self.consumer.fetch_for_ever(self._deliver)))

    @property
    def gate(self) -> Gate:
        return self.app.gate

    def run(self, coro: Coroutine) -> asyncio.Task:
        return self.context.run(self.loop.create_task, coro)

    async def _until_it_fails(self, work: Coroutine) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the schedule judges it
            self.failed = error

    def _deliver(self, message: Any) -> None:
        batch: Batch = message.value
        log = self.kafka.logs[batch.tp]
        # The group's offset may have moved since: a commit of the last assignment that arrived late.
        committed = min(self.kafka.committed[batch.tp], batch.start)
        assert log.between(max(self.read[batch.tp], committed), batch.start) == [], "records were skipped"
        assert batch.records == log.between(batch.start, batch.next_offset), "not what the log holds there"
        self.read[batch.tp] = batch.next_offset
        self.inbox[message.topic].put_nowait(SimpleNamespace(value=message.value))

    def _stream(self, topic: str) -> Any:
        async def events() -> AsyncIterator[Any]:
            while True:
                yield await self.inbox[topic].get()

        stream = SimpleNamespace(events=events)
        stream.noack = lambda: stream
        return stream

    async def ask(self, kind: str, what: Any) -> Any:
        if self.dead:  # Faust's commit goes on when the one it waited for was cancelled
            raise asyncio.CancelledError
        request = Request(self, self.generation, what, self.loop.create_future())
        getattr(self, kind).append(request)
        return await request.answer

    def may_fetch(self, wanted: Iterable[TP]) -> None:
        load = self.gate.load
        assert load.pending < BOUNDS.pending, "intake goes on with too much to do"
        assert load.uncommitted < BOUNDS.uncommitted, "intake goes on with too much to repeat"
        assert load.held < BOUNDS.held, "intake goes on with too many bytes held"
        for tp in wanted:
            window = self.gate.windows.get(tp)
            assert not window or window.uncommitted < BOUNDS.partition, "intake goes on behind a record that is stuck"

    # -- the consumer that is called, in the place of a Caller

    async def attempt(self, endpoint: Endpoint, event_id: str, *_: Any, **__: Any) -> Any:
        assert self.gate.open, "a call began during a drain"
        topic, partition, offset = event_id.split("/")
        return await self.ask("calls", (TP(topic, int(partition)), int(offset), endpoint.name))

    def is_open(self, endpoint: str) -> bool:
        return True

    # -- the lake

    async def _archive(self, batches: AsyncIterator[Batch]) -> None:
        async for batch in batches:
            self.taken.append((batch, batch.take()))

    async def store_everything(self) -> None:
        async with self.storing:
            while self.taken:
                batch, records = self.taken[0]  # stays until it is stored: a drain may be cut short here
                if batch.live:
                    await self.ask("stores", [(batch.tp, record.offset, "lake") for record in records])
                    batch.window.finish(batch.next_offset)
                self.taken.pop(0)

    # -- the group

    def leave(self) -> None:
        """A rebalance begins."""
        self.client._subscription.assigned.clear()
        self.app.rebalancing_count += 1
        self.left_at, self.left_with = self.loop.now, len(self.gate.windows)
        self.leaving = self.run(self.consumer.on_partitions_revoked(set(self.client.assignment())))

    def join(self, assigned: Iterable[TP], generation: int, *, fetch_first: bool) -> None:
        positions = {tp: self.kafka.committed[tp] for tp in assigned}
        self.leaving, self.generation = None, generation
        self.settled = set()
        self.read = dict(positions)
        self.client._subscription.assignment.active = False
        self.client._subscription.assignment = Assignment(positions)
        self.app.consumer_generation_id = generation
        if fetch_first:
            self.client._subscription.assigned.set()
            self.loop.settle()
        self.run(self._until_it_fails(self.consumer.on_partitions_assigned(set(positions), generation)))
        self.client._subscription.assigned.set()

    def die(self) -> None:
        """At once, with everything in memory.  What was sent may still arrive."""
        self.dead = True
        for task in self.tasks:
            task.cancel()
        self.loop.settle()
