"""Calls to a consumer.  The only module that imports grpc."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import structlog

from connectors.problems import BadInput
from connectors.reply import Reach, Reply, cut
from connectors.tls import Tls

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what it would print of failed connections is in the replies

import grpc
from grpc import aio

log = structlog.get_logger()

Metadata = Sequence[tuple[str, str]]

#: Bytes a consumer may answer, in the message and in metadata: a status carries everything that is asked of it.
REPLY_LIMIT = 64 << 10
#: Seconds that calls may run on when their channel is replaced; none takes longer.
LONGEST_CALL = 30.0

OPTIONS = (
    # Whether a failed attempt is repeated, and when, is decided elsewhere and counted.
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", REPLY_LIMIT),
    ("grpc.max_metadata_size", REPLY_LIMIT),
    ("grpc.absolute_max_metadata_size", REPLY_LIMIT),  # between the two grpc refuses at random
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
#: Part of what it says when it refused to read on.
_TOO_LONG = ("CLIENT: Received message larger than max", "Stream removed (received metadata size exceeds")
#: What parts of its texts on a failed connection mean; the first that fits counts.
_MEANINGS = (
    ("Hostname Verification Check failed", "the consumer's certificate is for another name (tls.server-name)"),
    ("certificate has expired", "the consumer's certificate has expired"),
    ("CERTIFICATE_VERIFY_FAILED", "the consumer's certificate is of an authority that is not trusted (tls.ca-file)"),
    ("WRONG_VERSION_NUMBER", "the consumer does not speak TLS (tls)"),
    ("http1.x server", "the consumer speaks HTTP/1, not gRPC"),
    ("Failed parsing HTTP/2", "the consumer does not speak gRPC"),
)
#: It listens, and ended the connection before HTTP/2 began.
_HUNG_UP = ("Socket closed", "Connection reset by peer", "Broken pipe")


class Channel:
    """A connection to one consumer, made at the first call and kept up from then on; belongs to one event loop."""

    def __init__(
        self,
        host: str,
        port: int,
        options: Sequence[tuple[str, Any]] = (),
        tls: Tls | None = None,
        server_name: str | None = None,
    ) -> None:
        """Without ``tls`` in plain text.  ``server_name``: what the consumer's certificate is for, if not the host.

        Raises BadInput for a certificate or key that cannot be used.
        """
        self.target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        named = {"grpc.ssl_target_name_override": server_name} if server_name else {}
        self._options = tuple((dict(OPTIONS) | named | dict(options)).items())
        self._tls, self._certificates = tls, tls and tls.contents()
        self._channel: aio.Channel | None = None
        self._retired: asyncio.Task[None] | None = None
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
        return Reply("OK", "", _texts(trailers), Reach.ANSWERED, body or b"") if trailers or body else _OK

    async def ready(self, timeout: float) -> bool:  # noqa: ASYNC109 - False is an answer here
        """Connect, with the certificates as they are now, and tell whether it is up within ``timeout`` seconds."""
        self._renew()
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
        if self._retired:
            await self._retired

    def _open(self) -> aio.Channel:
        # Not in the constructor: grpc takes the loop that runs when a channel is made.
        if self._channel is None and self._certificates:
            credentials = grpc.ssl_channel_credentials(*self._certificates)
            self._channel = aio.secure_channel(self.target, credentials, options=self._options)
        elif self._channel is None:
            self._channel = aio.insecure_channel(self.target, options=self._options)
        return self._channel

    def _renew(self) -> None:
        """Where the files of certificates have changed, leave the channel to its calls; the next has the new ones."""
        if self._tls is None:
            return
        try:
            certificates = self._tls.contents()
        except BadInput as problem:
            log.warning(
                "certificates cannot be read again; the former ones stay", target=self.target, error=str(problem)
            )
            return
        if certificates != self._certificates:
            self._certificates = certificates
            retired, self._channel = self._channel, None
            self._methods.clear()
            if retired:
                self._retired = asyncio.create_task(retired.close(LONGEST_CALL))

    def _method(self, path: str) -> aio.UnaryUnaryMultiCallable:
        method = self._methods[path] = self._open().unary_unary(path)
        return method

    def _failed(self, error: aio.AioRpcError, timeout: float) -> Reply:
        status, text = error.code().name, error.details() or ""
        trailers = _texts(error.trailing_metadata())
        if status == "UNAVAILABLE" and text.startswith(_NO_CONNECTION):
            return Reply(status, cut(self._meaning(text) + text), trailers, Reach.UNSENT)
        if status == "UNAVAILABLE" and not trailers and text.startswith(_LOST):
            return Reply(status, cut(text), trailers, Reach.LOST)
        if status == "DEADLINE_EXCEEDED":
            if self._open().get_state() is not grpc.ChannelConnectivity.READY:
                return Reply("UNAVAILABLE", f"no connection to {self.target} within {timeout:g} s", (), Reach.UNSENT)
            return Reply(status, cut(text), trailers, Reach.SILENT)
        if status == "RESOURCE_EXHAUSTED" and any(part in text for part in _TOO_LONG):
            # The consumer is not short of anything, its answer is too long; whether it means OK is unknown.
            return Reply("INTERNAL", f"the consumer's reply is larger than {REPLY_LIMIT} bytes", trailers)
        return Reply(status, cut(text), trailers)

    def _meaning(self, text: str) -> str:
        for part, meaning in _MEANINGS:
            if part in text:
                return f"{meaning}: "
        if not any(part in text for part in _HUNG_UP):
            return ""
        match self._tls:
            case None:
                wish = "does it want TLS (tls)?"
            case Tls(certificate_file=None):
                wish = "does it want a certificate (tls.certificate-file)?"
            case _:
                wish = "does it accept our certificate (tls.certificate-file)?"
        return f"the consumer ends connections at once, {wish} "


def _texts(trailers: aio.Metadata | None) -> tuple[tuple[str, str], ...]:
    return tuple((key, cut(value)) for key, value in trailers or () if isinstance(value, str))
