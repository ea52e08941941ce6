"""Links lead somewhere, examples are right, and the tests that guarantees name exist."""

import ast
import re
from pathlib import Path

import pytest
from pages import PAGES, ROOT, blocks, names

from connectors import schemas, settings, yaml_source
from pipelines import config

LINK = re.compile(r"\]\(([^)]+)\)")
PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@PAGE
def test_every_link_leads_to_a_file_and_its_heading(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@PAGE
def test_every_example_of_a_configuration_is_clean(page: Path) -> None:
    base = settings.load(ROOT / "config" / "waybill.yaml")
    catalog = schemas.load(base.descriptors)
    for number, text in enumerate(blocks(page, "yaml")):
        document = yaml_source.parse(text, f"{page.name}, block {number}")
        if "kafka" in document.value:
            assert settings.inspect(document, {})[1] == ()
            continue
        consumers, findings = config.inspect([document], catalog, base.max_message_bytes)
        assert findings == ()
        assert consumers
        assert not any(config.unbuilt(consumer) for consumer in consumers)


@PAGE
def test_every_example_in_python_is_python(page: Path) -> None:
    for code in blocks(page, "python"):
        ast.parse(code)


def test_the_tests_that_guarantees_name_exist() -> None:
    written = {
        test for file in (ROOT / "tests").rglob("*.py") for test in re.findall(r"def (test_\w+)\(", file.read_text())
    }
    promises = (ROOT / "docs" / "guarantees.md").read_text().partition("\n## What breaks when")[0]
    named = [word for word in names(promises) if word.startswith("test_")]

    assert set(named) - written == set()
    assert len(named) == len(set(named)) > 20


def test_files_named_in_the_readme_exist() -> None:
    paths = [word for word in names((ROOT / "README.md").read_text()) if re.fullmatch(r"[\w.]+/[\w./]*", word)]

    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_readme_and_the_guarantees_promise_the_same_number_of_things() -> None:
    readme = (ROOT / "README.md").read_text().partition("## What is promised")[2].partition("\n## ")[0]
    promises = re.findall(r"^## (\d)\. ", (ROOT / "docs" / "guarantees.md").read_text(), re.MULTILINE)

    assert re.findall(r"^(\d)\. ", readme, re.MULTILINE) == promises
