"""The thread that watches one app: it tells of what waits, and ends a worker that stands still.

A thread, because what it watches may be the event loop itself.
"""

import asyncio
import faulthandler
import gc
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import structlog

from connectors import health
from connectors.kafka import watchdog
from connectors.kafka.admin import Topics
from connectors.kafka.offsets import Groups
from connectors.kafka.producer import Late
from connectors.kafka.watchdog import Partition, Sample, Standing, Watch
from connectors.problems import Problem, Unreachable

if TYPE_CHECKING:
    from connectors.kafka.app import App

log = structlog.get_logger("waybill.engine")

#: Seconds between two looks at the app, two at Kafka's topics, and two lines about what still waits.
TICK, LOOK, REPEAT = 1.0, 5.0, 60.0
#: Seconds after which an event loop that does not answer is worth mentioning.
SLOW = 5.0
#: Seconds after which a hand-over that is not acknowledged is worth a line.
LATE = 5.0
#: Seconds to wait for Kafka's answers.
TIMEOUT = 5.0


class Guard:
    """Begins with its app and ends with it.  ``patience``: seconds without progress or excuse, see ``watchdog``."""

    def __init__(self, app: "App", patience: float) -> None:
        self.app, self.patience = app, patience
        self._watch: Watch = watchdog.start(Sample(time.monotonic(), {}))
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._stuck: dict[str, str] = {}
        self._kafka = "not asked yet"  # what is wrong with it, or nothing
        self._missing: list[str] = []
        self._next_look = self._next_inquiry = self._next_repeat = 0.0
        self._told: dict[str, float] = {}

    def begin(self) -> None:
        self._watch = watchdog.start(self._sample())
        self._topics, self._groups = Topics(self.app.access, TIMEOUT), Groups(self.app.access, TIMEOUT)
        health.register(self.app.conf.id, self.report)
        threading.Thread(target=self._run, name=f"guard of {self.app.conf.id}", daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    async def pulse(self) -> None:
        """Runs in the app's event loop."""
        while not self._ended.is_set():
            sample = self._sample()
            with self._lock:
                self._watch = watchdog.sampled(self._watch, sample)
            await asyncio.sleep(TICK)

    def report(self) -> health.Report:
        """What to tell of the app.  A held partition is told of and no more: no other worker could read it either."""
        watch, app = self._watch, self.app
        not_live = [reason for topic, reason in self._stuck.items() if topic in watchdog.suspects(watch, self.patience)]
        not_live += _blocked(watch, self.patience / 2)
        not_ready = [self._kafka] if self._kafka else []
        if self._missing:
            not_ready.append(f"topics are missing: {', '.join(self._missing)}; see `waybill topics apply`")
        if app.assigned is None:
            not_ready.append("the group has not assigned partitions yet")
        told = {
            "partitions": len(app.assigned or ()),
            "held": [f"{tp.topic}[{tp.partition}]: {hold.gap}" for tp, hold in app.holds.held.items()],
            "waits": watch.sample.excuses,
        }
        return health.Report(tuple(not_live), tuple(not_ready), told)

    def _sample(self) -> Sample:
        app = self.app
        every = app.hand_overs.done, app.turns, app.recovered
        done = {topic: (*every, app.gate.moved(topic)) for topic in app.batch_topics}
        now = time.monotonic()
        late = [f"{each.waiting} records wait for brokers to take them into {each.topic}" for each in self._late(now)]
        return Sample(now, done, (*late, *app.excuses))

    def _late(self, now: float) -> list[Late]:
        return self.app.hand_overs.late(now, LATE)

    # -- the thread

    def _run(self) -> None:
        while not self._ended.wait(TICK):
            try:
                self._tick(time.monotonic())
            except Exception:  # a watchdog that dies must not do so silently, and better goes on
                log.exception("the watchdog failed", group=self.app.conf.id)

    def _tick(self, now: float) -> None:
        with self._lock:
            self._watch = watchdog.looked(self._watch, now)
        late = [each for each in self._late(now) if now >= self._told.get(each.topic, 0.0)]
        if late or now >= self._next_look:
            self._next_look = now + LOOK
            self._look({*self.app.needs.topics, *self.app.wants, *(each.topic for each in late)})
        self._tell(late, now)
        if reasons := _blocked(self._watch, self.patience):
            self._give_up(reasons)
        self._judge(now)

    def _look(self, topics: Iterable[str]) -> None:
        try:
            self._missing = self._topics.missing(sorted(topics))
        except Problem as problem:
            self._kafka = str(problem)
        else:
            self._kafka = ""

    def _tell(self, late: Iterable[Late], now: float) -> None:
        """Say, and say again, what waits for somebody to do something."""
        if now >= self._next_repeat:
            self._next_repeat = now + REPEAT
            self.app.holds.alarm(self.app.holds.held)
            if self._missing:
                log.error(
                    "topics are missing",
                    group=self.app.conf.id,
                    topics=self._missing,
                    what_to_do="create them with `waybill topics apply`, or give the worker's user rights on them; "
                    "they are read as soon as they are there",
                )
        for each in late:
            self._told[each.topic] = now + REPEAT
            missing = each.topic in self._missing
            log.error(
                "records wait for their hand-over: the topic is missing" if missing else
                "records wait for their hand-over: brokers do not take them",
                group=self.app.conf.id,
                topic=each.topic,
                waiting=each.waiting,
                seconds=round(each.seconds),
                error=each.error or self._kafka,
                what_to_do="create it with `waybill topics apply`, or give the worker's user rights on it; nothing is "
                "lost meanwhile" if missing else "see to the brokers; nothing is lost meanwhile",
            )  # fmt: skip

    def _judge(self, now: float) -> None:
        suspects = watchdog.suspects(self._watch, self.patience)
        if not suspects or now < self._next_inquiry:
            return
        asked = [topic for topic in suspects if topic not in self._missing]  # Kafka would say nothing of the others
        self._next_inquiry = now + max(TICK, self.patience / 8)
        try:
            standing = self._standing(asked)
        except Unreachable:
            self._stuck = {}
        except Problem as problem:
            self._stuck = {}
            log.warning("the watchdog cannot see how the group stands", group=self.app.conf.id, error=str(problem))
        else:
            held = {(tp.topic, tp.partition) for tp in self.app.holds.held}
            self._stuck = watchdog.stuck(standing, self.app.member_id, held)
        with self._lock:
            self._watch = watch = watchdog.excused(self._watch, set(suspects) - set(self._stuck))
        if reasons := [why for topic, why in self._stuck.items() if watch.quiet(topic) >= self.patience]:
            self._give_up([*_blocked(watch, SLOW), *reasons])

    def _standing(self, topics: Iterable[str]) -> Standing:
        """Raises Unreachable, and Problem for what Kafka refuses."""
        group = self.app.conf.id
        placed = {(tp.topic, tp.partition): offset for tp, offset in self.app.assigned_positions.items()}
        lags: dict[Partition, int] = {}
        for topic in topics:
            starts, committed = self._groups.starts(topic), self._groups.committed(group, topic)
            for partition, end in self._groups.ends(topic, committed=True).items():
                commit = committed.get(partition)
                reached = max(commit.offset if commit else starts.get(partition, 0), placed.get((topic, partition), 0))
                lags[topic, partition] = end - reached
        late = any(lag > 0 for lag in lags.values())
        return Standing(lags, self._groups.owners(group) if late else {})

    # -- the end

    def _give_up(self, reasons: list[str]) -> NoReturn:
        """End the process as a crash would: what was not committed is read again."""
        log.error(
            "the worker stands still and ends itself; what it did is below",
            group=self.app.conf.id,
            seconds=self.patience,
            reasons=reasons,
        )
        file = sys.__stderr__ or sys.stderr
        for loop in self.app.loops:
            file.write(_tasks(loop))
        file.flush()
        faulthandler.dump_traceback(file, all_threads=True)
        os._exit(1)


def _blocked(watch: Watch, at_least: float) -> list[str]:
    seconds = watch.blocked()
    return [f"the event loop has not run for {seconds:.0f} s"] if seconds >= at_least else []


def _tasks(loop: asyncio.AbstractEventLoop) -> str:
    """Where the tasks of a loop stand, outermost first; those at one place together."""
    places = Counter("".join(_stack(task.get_coro())) for task in asyncio.all_tasks(loop))
    return "".join(f"{count} tasks at\n{place}" for place, count in places.most_common())


def _stack(awaited: Any) -> Iterator[str]:
    """What a coroutine waits for, and that in turn; Task.print_stack shows only the first."""
    while awaited is not None:
        for kind in ("cr", "ag", "gi"):
            if frame := getattr(awaited, f"{kind}_frame", None):
                yield f'  File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_name}\n'
                awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
                break
        else:  # a wrapper that does not say of what, or a future
            inner = gc.get_referents(awaited)
            awaited = next((each for each in inner if hasattr(each, "cr_frame") or hasattr(each, "ag_frame")), None)
