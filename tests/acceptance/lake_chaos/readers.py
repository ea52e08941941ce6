"""Readers that look at a lake while it is written, compacted and broken; judged when Kafka's truth is known."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import duckdb

from lake_chaos.files import Root, watermarks
from lake_chaos.truth import Truth

#: (partition, rows, different offsets, the offset below which these must be all)
Seen = tuple[int, int, int, int]


@dataclass(frozen=True)
class Look:
    what: str
    seen: tuple[Seen, ...]


def main(root: Root, topic: str) -> Look:
    """A glob over ``main/``: all that the commits had promised before."""
    marks = watermarks(root, topic)
    if not marks:
        return Look("main", ())
    chosen = " OR ".join(f"(_partition = {partition} AND _offset < {offset})" for partition, offset in marks.items())
    found = _rows(
        root.connect(),
        f"SELECT _partition, count(*) FILTER ({chosen}), count(*), count(DISTINCT _offset) "
        f"FROM read_parquet('{root.path(f'main/{topic}/*/*.parquet')}', union_by_name = true) GROUP BY ALL",
    )
    twice = [partition for partition, _, rows, distinct in found if rows != distinct]
    assert not twice, f"a glob over main/ holds rows of partitions {twice} twice"
    committed = {partition: rows for partition, rows, *_ in found}
    return Look("main", tuple((p, committed.get(p, 0), committed.get(p, 0), mark) for p, mark in marks.items()))


def fresh(query: Callable[[str], list[tuple[int, int, int, int]]], topic: str) -> Look:
    """The view of the topic, by whatever runs SQL: everything up to the newest row."""
    found = query(f'SELECT _partition, count(*), count(DISTINCT _offset), max(_offset) + 1 FROM "{topic}" GROUP BY ALL')
    return Look("the fresh view", tuple(found))


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[int, int, int, int]]:
    with connection:
        return connection.execute(sql).fetchall()


class Readers:
    """Looks again and again in a thread of its own, until it is stopped."""

    def __init__(self, looks: list[Callable[[], Look]]) -> None:
        self._looks, self._stopped = looks, threading.Event()
        self.seen: list[Look] = []
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._run, name="readers")
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(0.2):
            for look in self._looks:
                try:
                    self.seen.append(look())
                except Exception as error:  # noqa: BLE001 - whatever a reader meets is told at the end
                    self.failures.append(f"a reader failed: {error!r}")

    def judge(self, truth: Truth) -> list[str]:
        """What readers saw that was not so."""
        return [*self.failures, *judge(self.seen, truth)]


def judge(looks: Iterable[Look], truth: Truth) -> list[str]:
    """``looks`` in the order in which they were made: what was there once must be there for ever."""
    wrong: list[str] = []
    reached: dict[tuple[str, int], int] = {}
    for look in looks:
        wrong += _judge(look, truth)
        now = {(look.what, partition): below for partition, _, _, below in look.seen}
        wrong += [
            f"{what}, partition {partition}: rows below offset {before} were there, now only those below {after}"
            for (what, partition), before in reached.items()
            if what == look.what and (after := now.get((what, partition), 0)) < before
        ]
        reached.update(now)
    return wrong


def _judge(look: Look, truth: Truth) -> list[str]:
    return [
        f"{look.what}, partition {partition}: {rows} rows, {distinct} different, below offset {below}, "
        f"where {truth.below(partition, below)} are in Kafka"
        for partition, rows, distinct, below in look.seen
        if not rows == distinct == truth.below(partition, below)
    ]
