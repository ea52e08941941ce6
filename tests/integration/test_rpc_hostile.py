"""Consumers that answer what no gRPC server would: a worker stays small, and each answer has an outcome."""

import asyncio
import logging
import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from connectors.reply import TEXT_LIMIT, Reach, Reply
from connectors.rpc import REPLY_LIMIT, Channel

DATA, HEADERS, SETTINGS, CONTINUATION = 0, 1, 4, 9
END_STREAM = ACK = 1
END_HEADERS = 4
Talk = Callable[[socket.socket], object]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def field(name: bytes, value: bytes) -> bytes:
    """A header as HPACK writes it without any compression."""

    def length(number: int) -> bytes:
        if number < 127:
            return bytes([number])
        out, number = bytearray([127]), number - 127
        while number >= 128:
            out.append(number % 128 | 128)
            number //= 128
        return bytes([*out, number])

    return b"\0" + length(len(name)) + name + length(len(value)) + value


BEGIN = b"\x88" + field(b"content-type", b"application/grpc")  # 0x88: status 200


def request(peer: socket.socket) -> int:
    """Take a call as HTTP/2 begins it; its stream."""
    got = b""
    peer.sendall(frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))
    while True:
        got += peer.recv(65_536)
        rest = got[24:]  # behind the preface
        while len(rest) >= 9 and len(rest) >= (size := 9 + int.from_bytes(rest[:3])):
            if rest[3] == DATA and rest[4] & END_STREAM:
                return int.from_bytes(rest[5:9])
            rest = rest[size:]


def trailers(*fields: tuple[bytes, bytes]) -> Talk:
    """Answer a call with nothing but trailers."""

    def talk(peer: socket.socket) -> None:
        stream = request(peer)
        block = BEGIN + b"".join(field(*each) for each in fields)
        parts = [block[start : start + 16_000] for start in range(0, len(block), 16_000)]
        for number, part in enumerate(parts):
            flags = (END_STREAM if number == 0 else 0) | (END_HEADERS if number == len(parts) - 1 else 0)
            peer.sendall(frame(CONTINUATION if number else HEADERS, flags, stream, part))
        peer.recv(1)

    return talk


def endless(first: Callable[[int], bytes], more: Callable[[int], bytes]) -> Talk:
    """Begin an answer and go on until the other side has enough."""

    def talk(peer: socket.socket) -> None:
        stream = request(peer)
        peer.sendall(first(stream))
        while True:
            peer.sendall(more(stream) * 10)

    return talk


def say(words: bytes) -> Talk:
    def talk(peer: socket.socket) -> None:
        peer.recv(24)
        peer.sendall(words)
        peer.recv(1)

    return talk


@contextmanager
def listening(talk: Talk) -> Iterator[int]:
    def serve() -> None:
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                threading.Thread(target=answer, args=(peer,), daemon=True).start()

    def answer(peer: socket.socket) -> None:
        with peer, suppress(OSError):
            peer.settimeout(10)
            talk(peer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def call(talk: Talk, timeout: float = 5.0) -> Reply:
    async def run(port: int) -> Reply:
        channel = Channel("127.0.0.1", port)
        reply = await channel.call("/a.B/C", b"", (), timeout)
        await channel.close()
        return reply

    with listening(talk) as port:
        return asyncio.run(run(port))


def test_trailers_up_to_the_limit_are_cut_and_beyond_it_the_reply_counts_as_too_long() -> None:
    fits = call(trailers((b"grpc-status", b"0"), (b"x-long", b"y" * 50_000)))
    assert fits == Reply("OK", "", (("x-long", "y" * TEXT_LIMIT),))
    for over in ([(b"x-long", b"y" * 67_000)], [(b"x-%d" % number, b"y") for number in range(3_000)]):
        reply = call(trailers((b"grpc-status", b"0"), *over))
        assert (reply.status, reply.reach) == ("INTERNAL", Reach.ANSWERED)
        assert str(REPLY_LIMIT) in reply.message


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ([(b"grpc-status", b"2"), (b"grpc-message", b"m" * 60_000)], "UNKNOWN", "m" * TEXT_LIMIT),
        ([(b"grpc-status", b"2"), (b"grpc-message", b"\xff\xfe bad")], "UNKNOWN", "ÿþ bad"),
        ([(b"grpc-status", b"2"), (b"grpc-message", b"%FF%00bad")], "UNKNOWN", "ÿ\0bad"),
        ([(b"grpc-status", b"99")], "UNKNOWN", ""),
        ([(b"grpc-status", b"many")], "INTERNAL", "Stream removed (Error parsing 'grpc-status' metadata)"),
        ([], "UNKNOWN", "No status received"),
        ([(b"grpc-status", b"0"), (b"waybill-action", b"\xff\xfe")], "OK", ""),
    ],
)
def test_a_status_that_breaks_the_rules_is_an_answer_all_the_same(
    fields: list[tuple[bytes, bytes]], status: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("grpc").setLevel(logging.CRITICAL)  # as connectors.logs does
    reply = call(trailers(*fields))
    assert (reply.status, reply.message, reply.reach) == (status, text, Reach.ANSWERED)
    assert caplog.records == []


ENDLESS = {
    "trailers": endless(
        lambda stream: frame(HEADERS, END_STREAM, stream, BEGIN),
        lambda stream: frame(CONTINUATION, 0, stream, field(b"x", b"y" * 10_000)),
    ),
    "headers": endless(
        lambda stream: frame(HEADERS, END_HEADERS, stream, BEGIN),
        lambda stream: frame(HEADERS, END_HEADERS, stream, field(b"x", b"y" * 10_000)),
    ),
    "messages": endless(
        lambda stream: frame(HEADERS, END_HEADERS, stream, BEGIN),
        lambda stream: frame(DATA, 0, stream, (b"\0" + struct.pack(">I", 100) + b"x" * 100) * 100),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ENDLESS)
def test_an_answer_without_end_is_broken_off_and_takes_no_memory(what: str) -> None:
    call(trailers((b"grpc-status", b"0")))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    reply = call(ENDLESS[what], timeout=3.0)
    assert reply.status in {"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert time.monotonic() - started < 6
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 << 10


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "the consumer speaks HTTP/1, not gRPC"),
        (os.urandom(1) * 9 + bytes(4_000), "the consumer does not speak gRPC"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the consumer does not speak gRPC"),
    ],
)
def test_who_does_not_speak_grpc_is_no_connection_and_the_reply_says_so(words: bytes, meaning: str) -> None:
    reply = call(say(words))
    assert (reply.status, reply.reach) == ("UNAVAILABLE", Reach.UNSENT)
    assert reply.message.startswith(f"{meaning}: ")
