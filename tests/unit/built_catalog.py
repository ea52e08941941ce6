"""Catalogs built by buf from a few lines of protobuf."""

import functools
import subprocess
import sys
import tempfile
from pathlib import Path

from connectors import schemas
from connectors.schemas import Catalog

ROOT = Path(__file__).parents[2]
BUF = Path(sys.executable).parent / "buf"
OPTIONS = "waybill/v1/options.proto"

SHOP = """
import "google/protobuf/empty.proto";

message OrderPlacedEvent {
  option (waybill.v1.event) = {key: "order.id"};
  Order order = 1;
}
message OrderPaidEvent {
  option (waybill.v1.event) = {};
}
message Order { string id = 1; }

service Events {
  rpc OrderPlaced(OrderPlacedEvent) returns (google.protobuf.Empty);
  rpc OrderPaid(OrderPaidEvent) returns (google.protobuf.Empty);
  rpc Watch(OrderPaidEvent) returns (stream google.protobuf.Empty);
}
service Audit {
  rpc OrderPlaced(OrderPlacedEvent) returns (google.protobuf.Empty);
}
"""


def descriptor_set(folder: Path, body: str, package: str = "shop.v1") -> Path:
    """Build one file of the given body, which may use the option."""
    module = folder / "proto"
    own = module / package.replace(".", "/") / "shop.proto"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(f'syntax = "proto3";\npackage {package};\nimport "{OPTIONS}";\n{body}')
    options = module / OPTIONS
    options.parent.mkdir(parents=True, exist_ok=True)
    options.write_text((ROOT / "proto" / OPTIONS).read_text())
    built = folder / "descriptors.binpb"
    subprocess.run([BUF, "build", module, "-o", built], check=True)
    return built


def catalog(folder: Path, body: str = SHOP, package: str = "shop.v1") -> Catalog:
    return schemas.load(descriptor_set(folder, body, package))


@functools.cache
def shop() -> Catalog:
    with tempfile.TemporaryDirectory() as folder:
        return catalog(Path(folder))
