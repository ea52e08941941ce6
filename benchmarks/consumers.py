"""What several benchmarks need of a consumer: a service that answers every method, and the settings of its worker."""

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


async def serve(address: str, answer: Callable[[bytes, Any], Awaitable[bytes]]) -> None:
    """Answer every method until the process ends; says "up" when it listens."""
    import grpc

    class EveryMethod(grpc.GenericRpcHandler):
        def service(self, _: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(answer)

    running = grpc.aio.server()
    running.add_generic_rpc_handlers((EveryMethod(),))
    running.add_insecure_port(address)
    await running.start()
    print("up", flush=True)
    await running.wait_for_termination()


def configure(folder: Path, bootstrap: str, consumers: Mapping[str, Any]) -> Path:
    """Write the settings of these consumers' workers into ``folder``, and return their file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "consumers.yaml").write_text(json.dumps({"consumers": consumers}))
    settings = {
        "kafka": {"bootstrap-servers": bootstrap},
        "descriptors": str(ROOT / "proto/descriptors.binpb"),
        "consumers": ["consumers.yaml"],
        "lake": {"root": "lake"},
    }
    path = folder / "waybill.yaml"
    path.write_text(json.dumps(settings))
    return path
