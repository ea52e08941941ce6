"""What is seen at one moment of the demo, in numbers."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg

from examples.demo import place, scrape
from examples.demo.scrape import Archiving, Delivering

#: Between two looks, in seconds.
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Look:
    saved: int
    rolled_back: int
    consumers: Mapping[str, Delivering]
    lake: Archiving


NOTHING = Look(0, 0, {consumer: Delivering() for consumer in place.CONSUMERS}, Archiving())


class Watch:
    """Looks at the outbox table and at the workers' metrics, at most once in LOOK_SECONDS."""

    def __init__(self, database: str, ports: Mapping[str, int]) -> None:
        self._database, self._ports = psycopg.connect(database, autocommit=True), ports
        self._looked = 0.0
        self.latest = NOTHING

    def look(self) -> Look:
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            self.latest = self._look()
        return self.latest

    def serving(self) -> bool:
        """Whether every worker serves its metrics: it is up."""
        return all(scrape.fetch(port) is not None for port in self._ports.values())

    def close(self) -> None:
        self._database.close()

    def _look(self) -> Look:
        fetched = {worker: metrics for worker, port in self._ports.items() if (metrics := scrape.fetch(port))}
        return Look(
            saved=self._saved(),
            rolled_back=len(place.ROLLED_BACK.read_text().splitlines()),
            consumers={
                name: scrape.delivering(fetched[name]) if name in fetched else before
                for name, before in self.latest.consumers.items()
            },
            lake=scrape.archiving(fetched["lake"]) if "lake" in fetched else self.latest.lake,
        )

    def _saved(self) -> int:
        if self._value("SELECT to_regclass('outbox_event')") is None:
            return 0
        return self._value("SELECT count(*) FROM outbox_event") or 0

    def _value(self, question: LiteralString) -> Any:
        row = self._database.execute(question).fetchone()
        return row and row[0]
