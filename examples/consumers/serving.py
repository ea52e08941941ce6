"""A plain gRPC server, as every consumer has one."""

import signal
from concurrent.futures import ThreadPoolExecutor

import grpc
from logistics.v1.events_api_pb2_grpc import EventsAPIServicer, add_EventsAPIServicer_to_server


def serve(servicer: EventsAPIServicer, address: str) -> None:
    """Serve until SIGTERM; calls that run may finish."""
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    add_EventsAPIServicer_to_server(servicer, server)
    server.add_insecure_port(address)
    signal.signal(signal.SIGTERM, lambda *_: server.stop(grace=5))
    server.start()
    server.wait_for_termination()
