"""What a worker produces: idempotent, acknowledged by all in-sync brokers, and waited for."""

import asyncio
import contextlib
import itertools
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from aiokafka.errors import ProducerClosed
from faust.transport.drivers import aiokafka as driver

from connectors.kafka.thread import until_connected

log = structlog.get_logger("waybill.engine")

#: Seconds that a commit or a stop waits for records that are on their way.
FLUSH_TIMEOUT = 1.0

T = TypeVar("T")

#: Rows of tables on their way to Kafka at most.
UNSENT = 5_000


class Producer(driver.Producer):
    async def on_start(self) -> None:
        """Wait for a broker that is away."""
        # Faust lets nothing more in while so many rows of tables are not sent; a hundred are a moment's work.
        self.buffer.max_messages = UNSENT
        await until_connected(super().on_start, self._close)

    async def flush(self) -> None:
        """For a moment: one topic that is gone must not hold up the commits of all others.

        Commits do not depend on it, hand-overs are awaited one by one.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await super().flush()

    async def on_stop(self) -> None:
        """Drop what brokers do not take: by now nobody waits for it, and its offsets are not committed."""
        await self.flush()
        if self._producer is not None:
            self._producer._message_accumulator.fail_all(ProducerClosed())
        await super().on_stop()

    async def _close(self) -> None:
        await self._ensure_producer().stop()

    def _settings_extra(self) -> Mapping[str, Any]:
        """Faust asks for idempotence only under exactly_once.  It takes the right to write something."""
        app: Any = self.app
        return {"acks": "all", "enable_idempotence": not app.read_only}


@dataclass(frozen=True, slots=True)
class Late:
    """Hand-overs to one topic that the brokers have not acknowledged: how many, and for how long the first waits."""

    topic: str
    waiting: int
    seconds: float
    error: str


class HandOvers:
    """Hand-overs under way; each is tried until the brokers have the record, or nobody wants it any more."""

    def __init__(self) -> None:
        #: How many ended well.
        self.done = 0
        self._started: dict[int, tuple[str, float]] = {}
        self._errors: dict[str, str] = {}
        self._numbers = itertools.count()

    async def persist(self, topic: str, send: Callable[[], Awaitable[T]], wanted: Callable[[], bool]) -> T | None:
        """What ``send`` answers, once it does not raise; None as soon as it is not ``wanted``."""
        pause = 0.1
        with self._under_way(topic):
            while wanted():
                try:
                    answer = await send()
                except Exception as error:  # noqa: BLE001 - whatever failed, giving up would lose the record
                    self._errors[topic] = repr(error)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 5.0)
                else:
                    self._errors.pop(topic, None)
                    self.done += 1
                    return answer
        return None

    def late(self, now: float, seconds: float) -> list[Late]:
        """By topic, those that wait for longer than ``seconds``."""
        ages = defaultdict(list)
        for topic, since in list(self._started.values()):
            if now - since > seconds:
                ages[topic].append(now - since)
        return [Late(topic, len(of), max(of), self._errors.get(topic, "")) for topic, of in ages.items()]

    @contextmanager
    def _under_way(self, topic: str) -> Iterator[None]:
        number = next(self._numbers)
        self._started[number] = topic, time.monotonic()
        try:
            yield
        finally:
            del self._started[number]
