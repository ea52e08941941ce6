"""Connections of aiokafka: to brokers that are gone, and for topics that are missing."""

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

_send = AIOKafkaConnection.send


def _sending(connection: Any, request: Any, expect_response: bool = True) -> Any:
    try:
        return _send(connection, request, expect_response)
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"connection to {connection.host}:{connection.port} is closed: {error}") from error


def know_closed_ones() -> None:
    """From now on, in this process: a request on a closed connection is tried again, like on any that broke.

    uvloop answers a write after the broker is gone in a way that asyncio does not: as a RuntimeError, which ended the
    worker in one of six kills of a broker.
    """
    AIOKafkaConnection.send = _sending


def ask_without_making() -> None:
    """From now on, in this process: to ask for a topic does not create it, with settings that nobody chose.

    Many brokers do that unless they are asked not to, and aiokafka cannot be told to.
    """
    MetadataRequest.__init__.__defaults__ = (None, False)
