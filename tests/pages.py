"""The documentation as tests read it: its tables, code blocks and names in backticks."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Table:
    header: list[str]
    rows: list[list[str]]


@cache
def tables(page: str) -> list[Table]:
    """Every table of a page below docs/, with trimmed cells."""
    found: list[Table] = []
    previous = ""
    for line in (ROOT / "docs" / page).read_text().splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line[1:-1].split("|")]
            if not previous.startswith("|"):
                found.append(Table(cells, []))
            elif not set(line) <= {"|", "-"}:
                found[-1].rows.append(cells)
        previous = line
    return found


def blocks(page: Path, language: str) -> list[str]:
    return [code for tag, code in _BLOCK.findall(page.read_text()) if tag == language]


def names(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`\n]+)`", text)


def name(text: str) -> str:
    """The first of them."""
    return names(text)[0]
