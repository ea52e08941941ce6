"""Connections of aiokafka on uvloop, which answers a write after the broker is gone in a way that asyncio does not."""

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_send = AIOKafkaConnection.send


def _sending(connection: Any, request: Any, expect_response: bool = True) -> Any:
    try:
        return _send(connection, request, expect_response)
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"connection to {connection.host}:{connection.port} is closed: {error}") from error


def know_closed_ones() -> None:
    """From now on, in this process: a request on a closed connection is tried again, like on any that broke.

    As a RuntimeError it ended the worker, in one of six kills of a broker.
    """
    AIOKafkaConnection.send = _sending
