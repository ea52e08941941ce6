"""Calls to a consumer.  The only module that imports grpc."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
from grpc import aio

from connectors.reply import Reach, Reply, cut

Metadata = Sequence[tuple[str, str]]

#: Bytes a consumer may answer, for a status carries everything that is asked of it.
REPLY_LIMIT = 64 << 10

OPTIONS = (
    # Whether a failed attempt is repeated, and when, is decided elsewhere and counted.
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", REPLY_LIMIT),
    ("grpc.max_send_message_length", -1),
    # Another channel's failed connections must not delay this one's.
    ("grpc.use_local_subchannel_pool", 1),
    # A consumer that is back is connected to within about 5 s, even if the last try ran into silence.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.min_reconnect_backoff_ms", 4_000),  # also how long one try to connect may take
    # A host that vanished without a word is noticed although nothing was refused.
    ("grpc.keepalive_time_ms", 20_000),
    (
        "grpc.http2.ping_timeout_ms",
        10_000,
    ),  # grpcio 1.85 waits this long for a keepalive ping, not keepalive_timeout_ms
)

_OK = Reply("OK")
#: How grpc's own texts begin when a call found no connection, and when it lost the one it was on.
_NO_CONNECTION = ("failed to connect", "errors resolving", "DNS resolution failed")
_LOST = ("Stream removed", "Socket closed", "recvmsg:", "sendmsg:", "GOAWAY", "ping timeout", "keepalive")


class Channel:
    """A connection to one consumer, made at the first call and kept up from then on; belongs to one event loop."""

    def __init__(self, host: str, port: int, options: Sequence[tuple[str, Any]] = ()) -> None:
        self.target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._options = tuple((dict(OPTIONS) | dict(options)).items())
        self._channel: aio.Channel | None = None
        self._methods: dict[str, aio.UnaryUnaryMultiCallable] = {}

    async def call(self, path: str, payload: bytes, metadata: Metadata, timeout: float) -> Reply:  # noqa: ASYNC109 - sent to the consumer as the call's deadline
        """Call ``path`` ("/pkg.Service/Method") within ``timeout`` seconds.  What goes wrong is in the reply."""
        method = self._methods.get(path) or self._method(path)
        call = method(payload, timeout=timeout, metadata=metadata)
        try:
            body = await call
            trailers = await call.trailing_metadata()
        except aio.AioRpcError as error:
            return self._failed(error, timeout)
        except aio.InternalError:
            # grpc's batch of operations was refused, which it only tells standard error about.
            return Reply("INVALID_ARGUMENT", f"grpc cannot send this metadata: {cut(repr(metadata))}")
        return Reply("OK", "", _texts(trailers), Reach.ANSWERED, body) if trailers or body else _OK

    async def ready(self, timeout: float) -> bool:  # noqa: ASYNC109 - False is an answer here
        """Connect, and tell whether the connection is up within ``timeout`` seconds."""
        try:
            await asyncio.wait_for(self._open().channel_ready(), timeout)
        except TimeoutError:
            return False
        return True

    async def close(self, grace: float = 0.0) -> None:
        """Calls that still run have ``grace`` seconds before they are cancelled."""
        channel, self._channel = self._channel, None
        self._methods.clear()
        if channel:
            await channel.close(grace)

    def _open(self) -> aio.Channel:
        # Not in the constructor: grpc takes the loop that runs when a channel is made.
        if self._channel is None:
            self._channel = aio.insecure_channel(self.target, options=self._options)
        return self._channel

    def _method(self, path: str) -> aio.UnaryUnaryMultiCallable:
        method = self._methods[path] = self._open().unary_unary(path)
        return method

    def _failed(self, error: aio.AioRpcError, timeout: float) -> Reply:
        status, text = error.code().name, error.details() or ""
        trailers = _texts(error.trailing_metadata())
        if status == "UNAVAILABLE" and text.startswith(_NO_CONNECTION):
            return Reply(status, cut(text), trailers, Reach.UNSENT)
        if status == "UNAVAILABLE" and not trailers and text.startswith(_LOST):
            return Reply(status, cut(text), trailers, Reach.LOST)
        if status == "DEADLINE_EXCEEDED":
            if self._open().get_state() is not grpc.ChannelConnectivity.READY:
                return Reply("UNAVAILABLE", f"no connection to {self.target} within {timeout:g} s", (), Reach.UNSENT)
            return Reply(status, cut(text), trailers, Reach.SILENT)
        if status == "RESOURCE_EXHAUSTED" and "CLIENT: Received message larger than max" in text:
            # The consumer is not short of anything, its answer is too long; whether it means OK is unknown.
            return Reply("INTERNAL", f"the consumer's reply is larger than {REPLY_LIMIT} bytes", trailers)
        return Reply(status, cut(text), trailers)


def _texts(trailers: aio.Metadata | None) -> tuple[tuple[str, str], ...]:
    return tuple((key, cut(value)) for key, value in trailers or () if isinstance(value, str))
