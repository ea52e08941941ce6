"""The lake's chaos at the length that a test may take."""

from pathlib import Path

import pytest
from chaos.__main__ import say

from connectors.local.state import Stack
from lake_chaos import readers
from lake_chaos.__main__ import report
from lake_chaos.run import run
from lake_chaos.truth import BAD, Truth

SEED, SECONDS = 5, 30.0


@pytest.mark.timeout(400)
def test_every_offset_is_there_once_and_no_reader_misses_any_whatever_is_killed(stack: Stack, tmp_path: Path) -> None:
    result = run(stack, tmp_path, SEED, SECONDS, say)
    report(result)
    assert result.failures == ()
    assert result.looks > 10
    assert result.quarantined > 0


TRUTH = Truth({(0, 1): b"a", (0, 3): BAD, (0, 4): b"b", (1, 0): b"c"})


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ((0, 2, 2, 5), ""),
        ((0, 1, 1, 4), ""),
        ((0, 1, 1, 5), "1 rows, 1 different, below offset 5, where 2 are in Kafka"),
        ((0, 2, 1, 5), "2 rows, 1 different"),
        ((0, 3, 3, 5), "where 2 are in Kafka"),
    ],
)
def test_a_reader_must_see_each_row_below_an_offset_once(seen, told):
    wrong = readers.judge([readers.Look("main", (seen,))], TRUTH)
    assert told in "".join(wrong)
    assert bool(wrong) == bool(told)


def test_what_a_reader_saw_once_must_be_there_for_ever():
    looks = [readers.Look("main", ((0, 2, 2, 5),)), readers.Look("main", ((0, 1, 1, 2),)), readers.Look("main", ())]
    told = [wrong for wrong in readers.judge(looks, TRUTH) if "were there" in wrong]
    assert [text.rpartition(", ")[2] for text in told] == ["now only those below 2", "now only those below 0"]
