"""The list of mutations is honest: what it breaks is there, what it names exists, and the guarantees show it."""

import pytest
from mutations import MUTATIONS, ROOT, Mutation, table

EACH = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.breaks.replace(" ", "-"))


@EACH
def test_what_a_mutation_breaks_is_there_once(mutation: Mutation) -> None:
    found = (ROOT / mutation.file).read_text().count(mutation.old)

    assert found == 1, (
        f"{mutation.file} holds {found} times {mutation.old!r}, which tests/mutations.py breaks to show that a test "
        f"notices when {mutation.breaks}: write there what this line has become, then run "
        f"`make mutants ONLY='{mutation.breaks}'`"
    )
    assert mutation.new != mutation.old


@EACH
def test_the_test_that_a_mutation_names_exists(mutation: Mutation) -> None:
    file, _, test = mutation.test.partition("::")

    assert (f"def {test}(" if test else "TestCase") in (ROOT / file).read_text(), (
        f"{file} has no {test}, which must fail when {mutation.breaks}: name in tests/mutations.py the test that does"
    )


def test_the_guarantees_show_every_mutation() -> None:
    assert table() in (ROOT / "docs" / "guarantees.md").read_text(), (
        "put into docs/guarantees.md what `.venv/bin/python tests/mutants.py --table` prints"
    )
