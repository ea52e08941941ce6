"""The example domain's generated stubs, which a producer would have on its path."""

import sys
from pathlib import Path

STUBS = Path(__file__).parents[1] / "examples" / "stubs"
sys.path.insert(0, str(STUBS))

from logistics.v1 import events_api_pb2, events_api_pb2_grpc, events_pb2, package_pb2  # noqa: E402

__all__ = ["STUBS", "events_api_pb2", "events_api_pb2_grpc", "events_pb2", "package_pb2"]
