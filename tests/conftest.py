"""Fixtures that need nothing but the local stack; each test makes topics of its own."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from hypothesis import Phase, settings

from connectors.local import control
from connectors.local.state import Stack

# A machine under load is no defect.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
# For tests/mutants.py, which wants to know that a test fails and not how to make it fail shortly.
settings.register_profile("mutants", deadline=None, phases=[Phase.explicit, Phase.generate])


def start(home: Path) -> Stack:
    return control.up(home, lambda _done, _total: None, lambda _stack: None)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The real local stack: that of the home WAYBILL_TEST_HOME, which keeps running, else one of this session's own."""
    kept = os.environ.get("WAYBILL_TEST_HOME")
    if kept:
        yield start(Path(kept))
        return
    home = tmp_path_factory.mktemp("home")
    try:
        yield start(home)
    finally:
        control.down(home)


@pytest.fixture
def topic_name() -> Callable[[str], str]:
    """Make a topic name that no other test has: ``topic_name("package_delivered")``."""
    return lambda prefix="topic": f"{prefix}_{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def admin(stack: Stack) -> AdminClient:
    return AdminClient({"bootstrap.servers": stack.kafka})
