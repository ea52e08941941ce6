"""Bounded concurrent work on what an agent received."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

import structlog
from mode import Service

from connectors.kafka.app import App

log = structlog.get_logger("waybill.engine")

T = TypeVar("T")


class Pool(Service, Generic[T]):
    """``concurrency`` workers call ``handle`` for each item that was put.

    What a handler must wait for long it moves ``aside``, so that no worker is held.  An exception from either crashes
    the app, on purpose: a hole must never be silent.
    """

    def __init__(self, app: App, handle: Callable[[T], Awaitable[None]], concurrency: int, **kwargs: Any) -> None:
        self.app, self.handle, self.concurrency = app, handle, concurrency
        self._queue: asyncio.Queue[T] = asyncio.Queue(maxsize=concurrency)
        self._work_in_hand: set[asyncio.Task[None]] = set()
        super().__init__(**kwargs)
        app.add_dependency(self)

    async def put(self, item: T) -> None:
        """Wait for a place, then leave ``item`` to the workers."""
        busy = self._queue.full()
        await self._queue.put(item)
        self.app.turns += busy

    def aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` beside the workers, in the context of the caller (tables know their event by it)."""
        task = asyncio.create_task(self._guard(work))
        self._work_in_hand.add(task)
        task.add_done_callback(self._work_in_hand.discard)

    async def on_start(self) -> None:
        for _ in range(self.concurrency):
            self.aside(self._work())

    async def on_stop(self) -> None:
        for task in self._work_in_hand:
            task.cancel()

    async def _work(self) -> None:
        get, handle = self._queue.get, self.handle
        while not self.should_stop:
            await handle(await get())

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            log.exception("a handler raised: the worker ends, what was not committed is read again", error=repr(error))
            await self.app.crash(error)
