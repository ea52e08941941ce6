"""The chaos suite at the length that a test may take, on a stack of its own: it kills the parts."""

from pathlib import Path

import pytest

from chaos.__main__ import report, say
from chaos.run import run
from connectors.local import control

SEED, SECONDS, PER_SECOND = 4, 110.0, 40.0


@pytest.mark.timeout(600)
def test_nothing_is_lost_and_no_duplicate_is_without_cause_whatever_is_killed(tmp_path: Path) -> None:
    stack = control.up(tmp_path / "home", lambda _done, _total: None, lambda _stack: None)
    try:
        result = run(stack, tmp_path, SEED, SECONDS, PER_SECOND, say)
    finally:
        control.down(tmp_path / "home")
    report(result)
    assert result.verdict.failures == ()
    assert result.verdict.accepted > SECONDS * PER_SECOND
