import asyncio

import pytest
import uvloop
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

import connectors.kafka  # noqa: F401 - makes aiokafka know closed connections
from connectors.local.state import Stack


def test_a_request_on_a_connection_that_broke_a_moment_ago_is_a_failed_connection(stack: Stack) -> None:
    host, port = stack.kafka.split(":")
    sent = []

    async def send_until_it_fails(connection) -> None:
        while True:  # the moment is between two turns of the loop
            sent.append(asyncio.ensure_future(connection.send(MetadataRequest([]))))
            await asyncio.sleep(0)

    async def break_and_send() -> None:
        connection = await create_conn(host, int(port))
        connection._writer.transport.abort()
        with pytest.raises(KafkaConnectionError, match="handler is closed"):
            await send_until_it_fails(connection)
        assert not connection.connected()
        await asyncio.gather(*sent, return_exceptions=True)

    uvloop.run(break_and_send())
