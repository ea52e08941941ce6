"""YAML with the places of the expected findings marked in it."""

from collections.abc import Iterable

from connectors import yaml_source
from connectors.yaml_source import Document, Finding

MARK = "▸"


def document(marked: str, file: str = "team.yaml") -> Document:
    return yaml_source.parse(marked.replace(MARK, ""), file)


def places(marked: str) -> list[tuple[int, int]]:
    """Line and column of each mark."""
    found = []
    for number, line in enumerate(marked.split("\n"), start=1):
        column = 1
        for character in line:
            if character == MARK:
                found.append((number, column))
            else:
                column += 1
    return found


def where(findings: Iterable[Finding]) -> list[tuple[int, int]]:
    return [(finding.line, finding.column) for finding in findings]
