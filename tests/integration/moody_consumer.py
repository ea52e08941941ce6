"""A consumer that does what the payload says:  moody_consumer.py PORT

``OK``, ``<STATUS>:<text>``, ``<STATUS>!<waybill-action>``, ``hang``, ``die``, ``big:<bytes>``, ``echo`` (the metadata,
as the text of NOT_FOUND), ``busy:<n>`` (n calls of 5 ms at a time, else RESOURCE_EXHAUSTED), ``mood``: what the last
call of /moody.Mood/Set said.
"""

import asyncio
import os
import sys

import grpc


class Moody(grpc.GenericRpcHandler):
    mood = "OK"
    busy = 0

    def service(self, details):
        handle = self.set_mood if details.method == "/moody.Mood/Set" else self.act
        return None if details.method.endswith("Missing") else grpc.unary_unary_rpc_method_handler(handle)

    async def set_mood(self, request, context):
        Moody.mood = request.decode()
        return b""

    async def act(self, request, context):
        order = request.decode(errors="replace")
        return await self.obey(Moody.mood if order == "mood" else order, context)

    async def obey(self, order, context):
        if order == "hang":
            await asyncio.sleep(60)
        elif order == "die":
            os._exit(1)
        elif order == "echo":
            told = {key: value for key, value in context.invocation_metadata() if key != "user-agent"}
            await context.abort(grpc.StatusCode.NOT_FOUND, repr(sorted(told.items())))
        elif order.startswith("big:"):
            return b"x" * int(order[4:])
        elif order.startswith("busy:"):
            await self.work(int(order[5:]), context)
        elif "!" in order:
            status, action = order.split("!")
            context.set_trailing_metadata((("waybill-action", action),))
            if status != "OK":
                await context.abort(getattr(grpc.StatusCode, status), "told to")
        elif ":" in order:
            status, text = order.split(":", 1)
            await context.abort(getattr(grpc.StatusCode, status), text)
        return b""

    async def work(self, places, context):
        if Moody.busy >= places:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        Moody.busy += 1
        try:
            await asyncio.sleep(0.005)
        finally:
            Moody.busy -= 1


async def main():
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Moody(),))
    port = server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    print(port, flush=True)  # noqa: T201 - how the test learns it
    await server.wait_for_termination()


asyncio.run(main())
