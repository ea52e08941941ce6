"""The sink's service: carries batches to the thread that writes the lake, and its answers back to their windows."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import structlog
from faust.types import TP
from mode import Service

from connectors.kafka import App, Batch
from connectors.kafka.holds import Halt
from connectors.problems import Unreachable
from lake.hot.chains import Chains
from lake.hot.fetches import Answer, Fetch, Finished, Halted

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds between two looks at the age of segments, traffic or not, and two at the lives of topics.
TICK, LOOK = 1.0, 10.0
#: Seconds that publishing a segment may take.
PUBLISH = 60.0


class Sink(Service):
    """Runs beside one app, to which it must be bound before that starts.

    What the thread raises ends the worker: the next one starts from the lake's own end.  A hole must never be silent.
    A partition that cannot go on is held, and so are all of a topic that the lake cannot take in.
    """

    def __init__(self, chains: Chains, **kwargs: Any) -> None:
        self.chains = chains
        self._thread = ThreadPoolExecutor(1, "lake")
        self._inbox: list[Fetch] = []
        self._arrived = asyncio.Event()
        #: Bytes of fetches the thread has not counted yet.
        self._unseen = 0
        super().__init__(**kwargs)

    def bind(self, app: App) -> None:
        self.app = app
        app.start_offsets = self.start_offsets
        app.gate.held_elsewhere = lambda: self._unseen + self.chains.held
        app.gate.on_drain.append(self.drain)
        app.on_purpose += [lambda: self.chains.waits, self._segment_not_full]

    async def archive(self, batches: AsyncIterator[Batch]) -> None:
        """The body of the agent."""
        if not self.started:
            await self.app.add_runtime_dependency(self)
        async for batch in batches:
            tp, size = batch.tp, batch.size
            fetch = Fetch(batch.window, tp.topic, tp.partition, batch.take(), batch.start, batch.next_offset, size)
            self._inbox.append(fetch)
            self._unseen += size
            self._arrived.set()

    async def start_offsets(self, partitions: set[TP]) -> dict[TP, int]:
        """Where the chains of newly assigned partitions end, whatever the group has committed.  Others are held.

        Asked again while Kafka or the storage does not answer: the broker that was asked may be the one that just died.
        """
        wanted = [(tp.topic, tp.partition) for tp in partitions]
        while True:
            try:
                starts = await self._run(self.chains.assign, wanted)
            except Unreachable:  # the chains say so, and say it again
                if self.app.should_stop:
                    raise
                await asyncio.sleep(TICK)
            else:
                places = {TP(topic, partition): place for (topic, partition), place in starts.items()}
                self.app.holds.add({tp: place for tp, place in places.items() if isinstance(place, Halt)})
                return {tp: place for tp, place in places.items() if not isinstance(place, Halt)}

    async def drain(self) -> None:
        """Publish everything before partitions are given up.  What does not get done in time is read again."""
        await self._take_in()
        self._answer(await self._run(self.chains.flush, "shutdown" if self.app.should_stop else "revoke"))

    def _segment_not_full(self) -> str | None:
        """Why records that were read are not committed, if that is as it should be."""
        oldest, chains = self.chains.oldest, self.chains
        young = oldest is not None and chains.clock() - oldest < chains.limits.segment_age + PUBLISH
        return "records wait until their segment is full or old" if young else None

    async def on_start(self) -> None:
        self.add_future(self._work())
        self.add_future(self._look())

    async def on_stop(self) -> None:
        """The thread stays: a consumer that joins while the app stops still asks for its offsets."""
        await self._run(self.chains.close)

    async def _work(self) -> None:
        while not self.should_stop:
            try:
                async with asyncio.timeout(TICK):
                    await self._arrived.wait()
            except TimeoutError:
                pass
            self._arrived.clear()
            try:
                await self._take_in()
            except Exception as error:
                log.exception("the lake cannot go on", error=repr(error))
                await self.app.crash(error)
                return

    async def _look(self) -> None:
        """A topic that was made anew, or has appeared, begins a chain of its own in a new assignment."""
        while not self.should_stop:
            await self.sleep(LOOK)
            if topics := await asyncio.to_thread(self.chains.changed):
                log.warning("Topics were made anew: partitions are assigned again.", topics=topics)
                await self.app.reassign()

    async def _take_in(self) -> None:
        """One hop to the thread, with whatever has arrived."""
        fetches, self._inbox = self._inbox, []
        try:
            self._answer(await self._run(self.chains.step, fetches))
        finally:  # a drain that takes too long is cut short here
            self._unseen -= sum(fetch.size for fetch in fetches)
            self.app.gate.released()

    def _answer(self, answers: list[Answer]) -> None:
        for answer in answers:
            match answer:
                case Finished(window, offset):
                    window.finish(offset)
                case Halted(window, topic, partition, halt) if window.live:
                    self.app.holds.add({TP(topic, partition): halt})

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*args, **kwargs))
