"""What a person sees: sentences, and below them a live picture in numbers; plain lines where there is no terminal."""

import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from examples.demo.ledger import Line
from examples.demo.look import NOTHING, Look

#: Seconds between two lines of numbers, and their width, where there is no terminal.
PLAIN_SECONDS, PLAIN_WIDTH = 5.0, 120

#: What needs no word in a line.
WELL = {"up", "breaker closed"}

STYLES = {"closed": "green", "half-open": "yellow", "open": "bold red", "up": "green", "killed": "bold red"}


def console() -> Console:
    told = Console(highlight=False)
    return told if told.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


class View:
    """The story as it goes on, with the time since ``began``."""

    def __init__(self, on: Console, began: float) -> None:
        self._console, self._began, self._printed = on, began, 0.0
        self._look, self._states = NOTHING, dict[str, str]()
        watched = on.is_interactive and not on.is_dumb_terminal
        self._live = Live(console=on, get_renderable=self._picture, refresh_per_second=4) if watched else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, sentence: str) -> None:
        self._console.print(Text.assemble((self._clock(), "dim"), f"  {sentence}"))

    def show(self, look: Look, states: Mapping[str, str]) -> None:
        """``states``: how each service is."""
        self._look, self._states = look, dict(states)
        if self._live is None and time.monotonic() - self._printed >= PLAIN_SECONDS:
            self._printed = time.monotonic()
            self._console.print(f"{self._clock()}    {one_line(look, states)}", markup=False, soft_wrap=True)

    def _picture(self) -> RenderableType:
        return Group(Rule(f"Waybill demo  {self._clock()}", align="left"), picture(self._look, self._states))

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        return f"{minutes}:{seconds:02}"


def picture(look: Look, states: Mapping[str, str]) -> RenderableType:
    """The whole way of the events: producer, consumers, lake."""
    lake = look.lake
    return Group(
        Text.assemble(("producer  ", "bold"), f"{look.saved:,} events saved, {look.rolled_back:,} rolled back"),
        _consumers(look, states),
        Text.assemble(("lake      ", "bold"), f"{lake.rows:,} events in {lake.files:,} Parquet files"),
    )


def _consumers(look: Look, states: Mapping[str, str]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for name in ("consumer", "service", "breaker"):
        table.add_column(name, no_wrap=True)
    for name in ("delivered", "failed", "retried", "waiting", "dead\nletters", "oldest"):
        table.add_column(name, justify="right")
    for consumer, told in look.consumers.items():
        state = states.get(consumer, "-")
        table.add_row(
            Text(consumer, style="bold"),
            Text(state, style=STYLES.get(state, "")),
            Text(told.breaker, style=STYLES[told.breaker]),
            f"{told.delivered:,}",
            f"{told.failed:,}",
            f"{told.retried:,}",
            f"{told.waiting:,}",
            Text(f"{told.dead:,}", style="red" if told.dead else ""),
            f"{told.oldest:.0f} s",
        )
    return table


def one_line(look: Look, states: Mapping[str, str]) -> str:
    """The same where there is no terminal."""
    numbers = [f"saved {look.saved:,}"]
    for consumer, told in look.consumers.items():
        trouble = [word for word in (states.get(consumer, "up"), f"breaker {told.breaker}") if word not in WELL]
        numbers.append(" ".join([consumer, f"{told.delivered:,}", *trouble]))
    return " | ".join([*numbers, f"lake {look.lake.rows:,}"])


def ledger(lines: Iterable[Line]) -> Table:
    """A row per event type, and below it one per consumer and endpoint."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("event type\n  consumer endpoint", min_width=17, overflow="fold")
    for name in ("saved", "rolled\nback", "in the\nlake", "delivered", "duplicates", "dead-\nlettered", "replayed"):
        table.add_column(name, justify="right")
    topic = ""
    for line in lines:
        if line.subscription.topic != topic:
            topic = line.subscription.topic
            table.add_row(Text(topic, style="bold"), *_numbers(line.saved, line.rolled_back, line.in_lake))
        table.add_row(
            f"  {line.subscription.consumer:<13} {line.subscription.endpoint}",
            *("", "", ""),
            *_numbers(line.delivered, line.duplicates, line.dead_lettered, line.replayed),
        )
    return table


def _numbers(*numbers: int) -> list[str]:
    return [f"{number:,}" for number in numbers]
