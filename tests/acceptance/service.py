"""A consumer service under test: ledgers every call and misbehaves as its behaviour file says.

service.py ADDRESS LEDGER BEHAVIOUR

Ledger: one line a call, ``<status> <ce-id> <method> <attempt> <size> <time> <process> <left>``, written before the
answer: seconds since the epoch, who called, and the seconds until that process gives up waiting.  Behaviour, JSON:
  default   what to answer: a status name or "hang"
  methods   the same for one method
  events    for one ce-id: a list of answers, one a call, then the default; or "crash", the process dies
  always    [percent, status]: events of that percentage, by their ids, are never answered otherwise
  random    [share, statuses]: that share of all other calls is answered with one of these
  capacity  [calls, seconds]: so many calls at a time take as long; what comes on top is never answered
  delay     [shortest, longest] seconds before a call is ledgered
  resets    the share of calls after which, ledgered, every connection is reset
"""

import asyncio
import ctypes
import json
import os
import random
import signal
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import grpc
import uvloop

address, ledger_path, behaviour_path = sys.argv[1:]
ledger = os.open(ledger_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
calls: Counter = Counter()
callers: dict = {}  # by the address of a connection: the descriptor at its other end
told: tuple = (None, {})
serving = 0


def behaviour() -> dict:
    global told  # noqa: PLW0603 - one file, one process
    stamp = Path(behaviour_path).stat().st_mtime_ns
    if told[0] != stamp:
        told = (stamp, json.loads(Path(behaviour_path).read_text()))
    return told[1]


def answer_to(event: str, method: str) -> str:
    told = behaviour()
    script = told.get("events", {}).get(event)
    if script == "crash":
        return "crash"
    calls[event, method] += 1
    if script and calls[event, method] <= len(script):
        return script[calls[event, method] - 1]
    percent, status = told.get("always", (0, ""))
    if percentile(event) < percent:
        return status
    share, statuses = told.get("random", (0, ()))
    if random.random() < share:
        return random.choice(statuses)
    return told.get("methods", {}).get(method) or told.get("default", "OK")


def percentile(event: str) -> int:
    return zlib.crc32(event.encode()) % 100


def sockets(port: int) -> set[str]:
    """The connected sockets of this machine whose own end is ``port``, as /proc names them."""
    lines = [line.split() for table in ("tcp", "tcp6") for line in Path("/proc/net", table).read_text().splitlines()]
    return {f"socket:[{c[9]}]" for c in lines if c[1].endswith(f":{port:04X}") and c[3] == "01"}


class Descriptor(NamedTuple):
    path: Path
    socket: str


def descriptors(process: str, wanted: set[str]) -> Iterator[Descriptor]:
    """Of the processes that match, the descriptors of the wanted sockets."""
    for path in Path("/proc").glob(f"{process}/fd/*"):
        with suppress(OSError):  # closed meanwhile
            if (socket := str(path.readlink())) in wanted:
                yield Descriptor(path, socket)


def is_there(descriptor: Descriptor) -> bool:
    try:
        return str(descriptor.path.readlink()) == descriptor.socket
    except OSError:
        return False


def process_of(peer: str) -> int:
    """Who is at the other end of a connection on this machine; 0 if it is gone."""
    link = callers.get(peer)
    # Looked at again each time: the port may be another process' by now.
    if link is None or not is_there(link):
        found = next(descriptors("[0-9]*", sockets(int(peer.rpartition(":")[2]))), None)
        if found is None:
            return 0
        link = callers[peer] = found
    return int(link.path.parts[2])


def reset_connections() -> None:
    """RST to all who are connected: what a socket sends that is told to be connected to nothing."""
    unspecified = bytes(16)
    for descriptor in descriptors("self", sockets(int(address.rpartition(":")[2]))):
        ctypes.CDLL(None).connect(int(descriptor.path.name), unspecified, len(unspecified))


def write(*words: object) -> None:
    os.write(ledger, (" ".join(map(str, words)) + "\n").encode())


async def serve_within(answer: str, most: int, seconds: float) -> str:
    global serving  # noqa: PLW0603 - one file, one process
    if serving >= most:
        return "hang"
    serving += 1
    try:
        await asyncio.sleep(seconds)
    finally:
        serving -= 1
    return answer


async def serve(request: bytes, context: grpc.aio.ServicerContext, method: str) -> bytes:
    seen, told = dict(context.invocation_metadata()), behaviour()
    event = seen["ce-id"]
    answer = answer_to(event, method)
    if capacity := told.get("capacity"):
        answer = await serve_within(answer, *capacity)
    if delay := told.get("delay"):
        await asyncio.sleep(random.uniform(*delay))
    caller, left = process_of(context.peer()), context.time_remaining()
    write(answer, event, method, seen["waybill-attempt"], len(request), f"{time.time():.3f}", caller, f"{left:.3f}")
    if answer == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if answer == "hang":
        await asyncio.sleep(3600)
    if random.random() < told.get("resets", 0):
        began = time.time()
        reset_connections()
        write("RESET", "-", "-", 0, 0, f"{began:.3f}", 0, f"{time.time() - began:.3f}")
    if answer != "OK":
        await context.abort(getattr(grpc.StatusCode, answer), f"told to answer {answer}")
    return b""


class AnyMethod(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = details.method.rsplit("/", 1)[1]

        async def handle(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            return await serve(request, context, method)

        return grpc.unary_unary_rpc_method_handler(handle)


async def main() -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 32 << 20), ("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((AnyMethod(),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


uvloop.run(main())
