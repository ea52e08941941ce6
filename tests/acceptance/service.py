"""A consumer service under test: ledgers every call and misbehaves as its behaviour file says.

service.py ADDRESS LEDGER BEHAVIOUR

Ledger: one line a call, ``<status> <ce-id> <method> <attempt> <size>``, written before the answer.  Behaviour, JSON:
  default   what to answer: a status name or "hang"
  methods   the same for one method
  events    for one ce-id: a list of answers, one a call, then the default; or "crash", the process dies
"""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import grpc
import uvloop

address, ledger_path, behaviour_path = sys.argv[1:]
ledger = os.open(ledger_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
calls: Counter = Counter()
cache: tuple = (None, {})


def behaviour() -> dict:
    global cache  # noqa: PLW0603 - one file, one process
    stamp = Path(behaviour_path).stat().st_mtime_ns
    if cache[0] != stamp:
        cache = (stamp, json.loads(Path(behaviour_path).read_text()))
    return cache[1]


def answer_to(event: str, method: str) -> str:
    told = behaviour()
    script = told.get("events", {}).get(event)
    if script == "crash":
        return "crash"
    calls[event, method] += 1
    if script and calls[event, method] <= len(script):
        return script[calls[event, method] - 1]
    return told.get("methods", {}).get(method) or told.get("default", "OK")


async def serve(request: bytes, context: grpc.aio.ServicerContext, method: str) -> bytes:
    seen = dict(context.invocation_metadata())
    event = seen["ce-id"]
    answer = answer_to(event, method)
    os.write(ledger, f"{answer} {event} {method} {seen['waybill-attempt']} {len(request)}\n".encode())
    if answer == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if answer == "hang":
        await asyncio.sleep(3600)
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
