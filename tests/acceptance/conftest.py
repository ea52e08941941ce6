from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import World

from connectors.local.state import Stack


@pytest.fixture
def world(stack: Stack, tmp_path: Path) -> Iterator[World]:
    """Topics, schemas and processes of one test."""
    world = World(stack, tmp_path)
    yield world
    world.close()
