"""Descriptor sets from .proto text, by the real compiler."""

import subprocess
import sys
from functools import cache
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

BUF = Path(sys.executable).with_name("buf")


def compiled(folder: Path) -> bytes:
    """The descriptor set of all .proto files below ``folder``."""
    command = [BUF, "build", folder, "-o", "-#format=binpb", "--config", '{"version": "v2"}']
    return subprocess.run(command, check=True, capture_output=True, cwd=folder).stdout


def pool_of(descriptor_set: bytes) -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptor_set).file:
        pool.Add(file)
    return pool


@cache
def _tests_pool():
    return pool_of(compiled(Path(__file__).parent / "protos"))


def of_tests(name):
    """The message ``name`` of tests/protos."""
    return _tests_pool().FindMessageTypeByName(f"lake_test.v1.{name}")


def every_kind():
    """The message with every kind of field."""
    return of_tests("EveryKind")
