"""Events of a topic as one file, for those who read no lake."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal, get_args

import duckdb

from connectors.problems import BadInput
from lake.reading import snapshot, views
from lake.reading.query import Progress, opened, watched
from lake.storage import Storage

Format = Literal["parquet", "csv", "json"]
"""``json`` is one object a line."""

_COPY: dict[Format, str] = {
    "parquet": "FORMAT parquet, COMPRESSION zstd",
    "csv": "FORMAT csv, HEADER",
    "json": "FORMAT json",
}
_ENDINGS: dict[str, Format] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".json": "json",
    ".ndjson": "json",
    ".jsonl": "json",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows; those of event dates in [since, until) that fulfil ``where``, a condition in SQL."""

    topic: str
    latest: bool = False
    since: date | None = None
    until: date | None = None
    where: str = ""

    def select(self) -> str:
        view = views.latest(self.topic) if self.latest else self.topic
        conditions = [
            *([f"dt >= DATE '{self.since}'"] if self.since else []),
            *([f"dt < DATE '{self.until}'"] if self.until else []),
            *([f"({self.where}\n)"] if self.where else []),  # it may end in a comment
        ]
        return f'FROM "{view}"' + (f" WHERE {' AND '.join(conditions)}" if conditions else "")


def format_of(target: Path, told: str | None) -> Format:
    """The ``told`` one, else what the file's name ends in.  Raises BadInput."""
    for known in get_args(Format):
        if told == known:
            return known  # type: ignore[no-any-return]  # get_args forgets what it gets
    found = _ENDINGS.get(target.suffix.lower()) if told is None else None
    if found is None:
        what = f"`{told}` is no format" if told else f"the name of {target} does not say in which format"
        raise BadInput(f"{what}; say --format {' or '.join(get_args(Format))}")
    return found


def export(
    storage: Storage,
    wanted: Wanted,
    target: Path,
    kind: Format,
    *,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> int:
    """Write ``target`` whole, or not at all; how many rows.  Raises BadInput for a file that exists, unless forced."""
    known = snapshot.topics(storage)
    if known and wanted.topic not in known:
        raise BadInput(f"the lake has no topic `{wanted.topic}`; it has {', '.join(known)}")
    select = wanted.select()
    with _whole(target, force=force) as unfinished, opened(storage, select) as connection:
        with watched(connection, progress):
            return _copy(connection, select, unfinished, kind)


def _copy(connection: duckdb.DuckDBPyConnection, select: str, unfinished: Path, kind: Format) -> int:
    path = str(unfinished).replace("'", "''")
    answer = connection.execute(f"COPY ({select}) TO '{path}' ({_COPY[kind]}, USE_TMP_FILE false)").fetchall()
    return int(answer[0][0])


@contextmanager
def _whole(target: Path, *, force: bool) -> Iterator[Path]:
    """A path beside ``target`` to write to, which becomes ``target`` if nothing fails."""
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        _refuse(target, force=force)
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        _refuse(target, force=force)
        unfinished.replace(target)
    except OSError as error:
        raise BadInput(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _refuse(target: Path, *, force: bool) -> None:
    if not target.parent.is_dir():
        raise BadInput(f"cannot write {target}: there is no folder {target.parent}")
    if target.exists() and not (force and target.is_file()):
        raise BadInput(f"{target} exists" + ("; --force replaces it" if target.is_file() else " and is no file"))
