"""SQL over the lake, with DuckDB."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from connectors.problems import BadInput
from lake import views


@dataclass(frozen=True, slots=True)
class Result:
    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]


def query(root: Path, sql: str) -> Result:
    """Run ``sql`` over the views of the lake at ``root``.  BadInput if there is no lake, or the statement is wrong."""
    try:
        definitions = (root / views.FILE).read_text()
    except OSError as error:
        raise BadInput(f"there is no lake in {root} yet ({error.strerror}); `waybill worker lake` makes one") from error
    with duckdb.connect() as connection:
        connection.execute("SET file_search_path = ?", [str(root.absolute())])
        try:
            connection.execute(definitions)
            answer = connection.execute(sql)
            columns = tuple(column[0] for column in answer.description or ())
            return Result(columns, answer.fetchall() if columns else [])
        except duckdb.Error as error:
            raise BadInput(f"DuckDB: {error}") from error
