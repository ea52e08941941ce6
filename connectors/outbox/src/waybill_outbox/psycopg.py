"""Saving through psycopg 3."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from psycopg import AsyncConnection, Connection
from psycopg.pq import TransactionStatus

from waybill_outbox.errors import NotInTransaction
from waybill_outbox.saving import inserts

if TYPE_CHECKING:
    from waybill_outbox.event import Event


def save(events: "Sequence[Event]", connection: Connection[Any]) -> None:
    """Insert in the connection's transaction; NotInTransaction if it commits each statement by itself."""
    if not isinstance(connection, Connection):
        raise TypeError(
            f"save() takes a psycopg Connection, not {type(connection).__name__}; "
            "for an AsyncConnection: await asave(connection); for Django: save(using=alias)"
        )
    if connection.autocommit and _status(connection) == TransactionStatus.ACTIVE:
        # Statements of a pipeline are under way: only their end tells whether BEGIN was one of them.
        connection.execute("SELECT 1").fetchone()
    _refuse_autocommit(connection)
    for sql, parameters in inserts(events):
        connection.execute(sql, parameters)


async def asave(events: "Sequence[Event]", connection: AsyncConnection[Any]) -> None:
    """`save` for an asynchronous connection."""
    if not isinstance(connection, AsyncConnection):
        raise TypeError(f"asave() takes a psycopg AsyncConnection, not {type(connection).__name__}")
    if connection.autocommit and _status(connection) == TransactionStatus.ACTIVE:
        await (await connection.execute("SELECT 1")).fetchone()
    _refuse_autocommit(connection)
    for sql, parameters in inserts(events):
        await connection.execute(sql, parameters)


def _status(connection: Connection[Any] | AsyncConnection[Any]) -> TransactionStatus:
    return connection.info.transaction_status


def _refuse_autocommit(connection: Connection[Any] | AsyncConnection[Any]) -> None:
    if connection.autocommit and _status(connection) == TransactionStatus.IDLE:
        raise NotInTransaction(
            "save the event where its data is saved: inside `with connection.transaction()`; "
            "this connection is in autocommit and outside one"
        )
