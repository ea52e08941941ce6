"""SQL over the lake, with DuckDB."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from connectors.problems import BadInput, Problem
from connectors.shapes import did_you_mean
from lake.reading import snapshot, views
from lake.storage import Storage

#: Is told a few times a second how much of a statement is done, in percent; negative while DuckDB cannot say.
Progress = Callable[[float], None]

#: Seconds.
_TICK = 0.2


@dataclass(frozen=True, slots=True)
class Result:
    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]


def query(storage: Storage, sql: str, progress: Progress = lambda _: None) -> Result:
    """Run ``sql`` over the views of a lake.  BadInput if there is no lake, or the statement is wrong."""
    with opened(storage, sql) as connection, watched(connection, progress):
        answer = connection.execute(sql)
        columns = tuple(column[0] for column in answer.description or ())
        return Result(columns, answer.fetchall() if columns else [])


@contextmanager
def opened(storage: Storage, sql: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that has the views of the topics whose names stand in ``sql``, or of all if none does.

    Its time zone is UTC.  What DuckDB raises within becomes BadInput, or Problem where a file failed it.
    """
    topics = snapshot.topics(storage)
    if not topics:
        raise BadInput(f"there is no lake in {storage} yet; `waybill worker lake` makes one")
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SET python_enable_replacements = false")
        storage.attach(connection)
        try:
            for topic in [one for one in topics if one.lower() in sql.lower()] or topics:
                connection.execute(views.selected(snapshot.take(storage, topic), topics, storage.uri))
            yield connection
        except duckdb.CatalogException as error:
            raise BadInput(f"DuckDB: {error}\n{_views(str(error), topics)}") from error
        except duckdb.IOException as error:
            raise Problem(f"DuckDB, at work on the lake in {storage}: {error}") from error
        except duckdb.Error as error:
            raise BadInput(f"DuckDB: {error}") from error
        except RuntimeError as error:
            if str(error) != "Query interrupted":
                raise
            raise KeyboardInterrupt from error


@contextmanager
def watched(connection: duckdb.DuckDBPyConnection, progress: Progress) -> Iterator[None]:
    """Tell ``progress`` of the statements that run within."""
    connection.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false")
    done = threading.Event()

    def tell() -> None:
        while not done.wait(_TICK):
            progress(connection.query_progress())

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def _views(error: str, topics: Sequence[str]) -> str:
    known = sorted({*topics, *map(views.latest, topics)})
    unknown = error.partition(" with name ")[2].partition(" ")[0]
    return f"the lake has the views {', '.join(known)}{did_you_mean(unknown, known)}"
