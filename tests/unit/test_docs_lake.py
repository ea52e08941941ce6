"""Every question and every call of docs/lake.md, on the small lake that it speaks of."""

import re
import sys

import pytest
from example_stubs import STUBS
from logistics_lake import build
from pages import ROOT, tables
from test_lake_evolution import READERS

from lake.reading.query import query

PAGE = (ROOT / "docs/lake.md").read_text()
QUESTION = re.compile(r"```sql\n(?P<sql>.*?)```\n\n(?P<answer>(?:\|[^\n]*\|\n)+)", re.DOTALL)
PROGRAM = re.compile(r"```python\n(?P<code>.*?)```\n\n```text\n(?P<answer>.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return build(tmp_path_factory.mktemp("docs") / "lake")


@pytest.mark.parametrize("question", [*QUESTION.finditer(PAGE)], ids=lambda found: " ".join(found["sql"].split())[:60])
def test_each_question_has_the_answer_that_stands_below_it(lake, question):
    head, _, *rows = [line[2:-2].split(" | ") for line in question["answer"].splitlines()]
    found = query(lake, question["sql"])
    assert list(found.columns) == head
    assert [[str(value) for value in row] for row in found.rows] == rows


@pytest.mark.parametrize("program", [*PROGRAM.finditer(PAGE)], ids=["views", "pandas", "messages"])
def test_each_program_prints_what_stands_below_it(lake, program, capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(STUBS), *sys.path])
    exec(program["code"].replace("/srv/lake", str(lake.root)), {})
    assert capsys.readouterr().out == program["answer"]


def test_no_question_and_no_program_is_without_its_answer():
    assert len(QUESTION.findall(PAGE)) == PAGE.count("```sql\n") > 10
    assert len(PROGRAM.findall(PAGE)) == PAGE.count("```python\n")


def test_the_calls_of_readers_are_those_that_tests_make():
    source = (ROOT / "tests/unit/test_lake_evolution.py").read_text()
    table = next(table for table in tables("lake.md") if table.header[0] == "reader")
    calls = [call for row in table.rows for call in re.findall(r"`(\w+\.\w+|read_parquet)\(", row[1])]
    assert len(calls) == 6 == len(READERS)
    assert [call for call in calls if f"{call}(" not in source] == []
    for option in re.findall(r"(\w+ ?= ?(?:\"\w+\"|true|True))", str(table.rows)):
        assert option.startswith("partitioning") or option in source, option
