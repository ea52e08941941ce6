"""All windows of one app: how much may come in, who works, and how partitions are given up."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from connectors.kafka.window import Load, TopicPartition, Window

log = structlog.get_logger("waybill.engine")

P = TypeVar("P", bound=TopicPartition)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one app takes in before it stops fetching; one more poll may come on top."""

    pending: int = 2048  # records not done
    uncommitted: int = 4096  # records not committed: what a crash may repeat
    partition: int = 4096  # the same of one partition: what one stuck record may hold up
    held: int = 64 << 20  # bytes of records, with what the agent holds beside them


class Gate:
    """Intake, work in flight and drain of one app.  ``open`` is False while partitions are being given up."""

    def __init__(self, group: str, bounds: Bounds, drain_timeout: float) -> None:
        self.group, self.bounds, self.drain_timeout = group, bounds, drain_timeout
        self.windows: dict[Any, Window] = {}
        self.load = Load(on_release=self.released)
        self.open = False
        self.working = 0
        #: How many wait on purpose, in ``sleep``.
        self.sleeping = 0
        #: Asked for what the agent holds of taken batches, in bytes.
        self.held_elsewhere: Callable[[], int] = lambda: 0
        #: Run when a drain begins, within its time: flush what is buffered, let go of what waits.
        self.on_drain: list[Callable[[], Awaitable[None]]] = []
        #: Run when all work of a drain has ended, within its time.
        self.on_idle: list[Callable[[], Awaitable[None]]] = []
        #: Run when partitions have been assigned, before anything of them comes in.
        self.on_open: list[Callable[[], None]] = []
        self._room, self._idle, self._closing = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._draining: asyncio.Task[None] | None = None
        self._moved: Counter[str] = Counter()

    def window(self, tp: TopicPartition, origin: int | None) -> Window:
        if tp not in self.windows:
            self.windows[tp] = Window(tp, self.load, origin)
        return self.windows[tp]

    # -- intake

    def has_room(self, tp: TopicPartition) -> bool:
        window = self.windows.get(tp)
        return window is None or window.uncommitted < self.bounds.partition

    def with_room(self, assigned: Collection[P]) -> set[P]:
        """Those of the assigned partitions that may take more in.

        Once half of what may come in is taken no topic may have more than its share of the whole: what waits for the
        endpoints of one must not stop the others.
        """
        greedy = self._greedy({tp.topic for tp in assigned}) if self.crowded() else set()
        return {tp for tp in assigned if tp.topic not in greedy and self.has_room(tp)}

    def _greedy(self, topics: set[str]) -> set[str]:
        pending, held = Counter[str](), Counter[str]()
        for tp, window in self.windows.items():
            pending[tp.topic] += window.pending
            held[tp.topic] += window.held
        bounds, share = self.bounds, max(1, len(topics))
        return {t for t in topics if pending[t] >= bounds.pending // share or held[t] >= bounds.held // share}

    def full(self) -> bool:
        load, bounds = self.load, self.bounds
        return (
            load.pending >= bounds.pending
            or load.uncommitted >= bounds.uncommitted
            or load.held + self.held_elsewhere() >= bounds.held
        )

    def crowded(self) -> bool:
        """Half of what may come in is taken: what waits for long had better wait elsewhere."""
        load, bounds = self.load, self.bounds
        return (
            load.pending >= bounds.pending // 2
            or load.uncommitted >= bounds.uncommitted // 2
            or load.held + self.held_elsewhere() >= bounds.held // 2
        )

    async def wait_room(self, timeout: float) -> bool:  # noqa: ASYNC109 - the caller polls and must look at other things in between
        if self.full():
            self._room.clear()
            self.load.waiting = True
            try:
                await asyncio.wait_for(self._room.wait(), timeout)
            except TimeoutError:
                return False
            finally:
                self.load.waiting = False
        return not self.full()

    def released(self) -> None:
        """There may be room again."""
        self._room.set()

    # -- work

    def begin(self) -> None:
        """A piece of work starts that a drain waits for."""
        self.working += 1

    def end(self) -> None:
        self.working -= 1
        if not self.working:
            self._idle.set()

    async def sleep(self, seconds: float) -> None:
        """Wait, but not into a drain."""
        if self.open:
            self.sleeping += 1
            try:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), seconds)
            finally:
                self.sleeping -= 1

    # -- commits

    def dirty(self) -> list[Any]:
        return [tp for tp, w in self.windows.items() if w.position is not None and w.position != w.committed]

    def accepted(self, offsets: Mapping[Any, int]) -> None:
        for tp, offset in offsets.items():
            if window := self.windows.get(tp):
                window.accepted(offset)
        self._room.set()

    def moved(self, topic: str) -> int:
        """Grows whenever something of ``topic`` gets on: a record is done, an offset committed."""
        return self._moved[topic] + sum(window.moves for tp, window in self.windows.items() if tp.topic == topic)

    def oldest(self, topic: str) -> float | None:
        """When the oldest record of ``topic`` that is not done was written, in seconds since the epoch."""
        records = (window.oldest for tp, window in self.windows.items() if tp.topic == topic)
        return min((record.timestamp / 1000 for record in records if record), default=None)

    # -- giving partitions up

    async def drain(self, commit: Callable[[], Awaitable[Any]], commit_timeout: float) -> None:
        """Start nothing new, wait (bounded) for what runs, commit, let go.  Concurrent callers share one run."""
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain(commit, commit_timeout))
        await asyncio.shield(self._draining)

    async def _drain(self, commit: Callable[[], Awaitable[Any]], commit_timeout: float) -> None:
        began, running, self.open = time.monotonic(), self.working, False
        self._closing.set()
        try:
            async with asyncio.timeout(self.drain_timeout):
                for hook in self.on_drain:
                    await hook()
                while self.working:
                    self._idle.clear()
                    await self._idle.wait()
                for hook in self.on_idle:
                    await hook()
        except TimeoutError:
            log.warning("work did not end in the time of a drain", group=self.group, pieces=self.working)
        except Exception as error:  # noqa: BLE001 - what a hook could not flush is read again; the partitions go all the same
            log.warning("a drain was cut short", group=self.group, error=repr(error))
        for window in self.windows.values():
            window.live = False  # late finishers no longer count
        committing = asyncio.ensure_future(self._commit(commit))
        if not (await asyncio.wait({committing}, timeout=commit_timeout))[0]:
            log.warning("the commit of a drain has no answer", group=self.group)
            committing.cancel()  # Faust's begins again then, so nobody may wait for it
        seconds, uncommitted = round(time.monotonic() - began, 2), len(self.dirty())
        log.info("partitions were given up", group=self.group, pieces=running, seconds=seconds, uncommitted=uncommitted)
        self._forget()  # a late periodic commit must not reuse them under the next generation

    async def _commit(self, commit: Callable[[], Awaitable[Any]]) -> None:
        try:
            for _ in range(3):  # a commit already under way makes ours a no-op
                if self.dirty():
                    await commit()
        except Exception as error:  # noqa: BLE001 - without the commit the next owner repeats; that is allowed
            log.warning("the commit of a drain failed", group=self.group, error=repr(error))

    def reset(self) -> None:
        """A new assignment: nothing of the old one counts any more."""
        for window in self.windows.values():
            window.live = False
        self._forget()
        self.load.pending = self.load.uncommitted = self.load.held = 0
        self._draining, self.open = None, True
        self._closing.clear()
        for hook in self.on_open:
            hook()
        self._room.set()

    def _forget(self) -> None:
        for tp, window in self.windows.items():
            self._moved[tp.topic] += window.moves
        self.windows.clear()
