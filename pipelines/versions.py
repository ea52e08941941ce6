"""Versions of what Waybill writes to Kafka for itself: headers of hand-overs, rows of tables, plans of replays.

What says no version is of version 0.  What is newer than this code knows is never guessed at and never given up: it
stays where it is until a newer worker takes it, and whoever meets it says so again and again.
"""

from typing import Any

from pydantic_core import from_json

from connectors.problems import Problem


class NewerVersion(Problem):
    """Something was written by a newer Waybill than this one."""

    def __init__(self, what: str, version: int, known: int) -> None:
        super().__init__(
            f"{what} is of format version {version}, this Waybill reads up to {known}; it stays where it is until a "
            "newer Waybill takes it"
        )


class UnreadableRow(Exception):
    """A table row is nothing that any version wrote; the text says why."""


def fields(what: str, row: bytes, known: int, name: str = "format") -> Any:
    """The JSON of ``row`` without its version, which is in ``name``.

    Raises UnreadableRow if it is no JSON, and NewerVersion.
    """
    try:
        values = from_json(row, allow_inf_nan=False)
    except ValueError as error:
        raise UnreadableRow(f"{what} is no JSON: {error}") from None
    if not isinstance(values, dict):
        return values
    version = values.pop(name, 0)
    if not isinstance(version, int) or isinstance(version, bool) or version < 0:
        raise UnreadableRow(f"{what} has a format version that is none")
    if version > known:
        raise NewerVersion(what, version, known)
    return values
