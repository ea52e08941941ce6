"""YAML is read as its writer sees it, or a finding says where it is not."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from marked import document, places, where

from connectors import yaml_source
from connectors.problems import BadInput
from connectors.yaml_source import Place


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        ("a: 1\nb: 2\n▸a: 3", "duplicate key `a`, first on line 1; remove one of them"),
        ("x:\n  - y: {a: 1, ▸a: 2}", "duplicate key `a`, first on line 2; remove one of them"),
        ("topic: ▸on", 'YAML reads `on` as true; write "on" in quotes, or true'),
        ("topic: ▸No", 'YAML reads `No` as false; write "No" in quotes, or false'),
        ("port: ▸22:22", 'YAML reads `22:22` as the number 1342; write "22:22" in quotes, or a decimal number'),
        ("port: ▸010", 'YAML reads `010` as the number 8; write "010" in quotes, or a decimal number'),
        ("port: ▸0x1F", 'YAML reads `0x1F` as the number 31; write "0x1F" in quotes, or a decimal number'),
        ("port: ▸1_000", 'YAML reads `1_000` as the number 1000; write "1_000" in quotes, or a decimal number'),
        ("timeout: ▸.inf", 'YAML reads `.inf` as the number inf; write ".inf" in quotes, or a decimal number'),
        ("timeout: ▸1:30.5", 'YAML reads `1:30.5` as the number 90.5; write "1:30.5" in quotes, or a decimal number'),
        ("port: ▸!!int ''", 'YAML reads `` as a number; write "" in quotes, or a decimal number'),
        ("▸on: 1", 'the key `on` is not text for YAML; write it in quotes: "on"'),
        ("▸1: 1", 'the key `1` is not text for YAML; write it in quotes: "1"'),
        ("a:\n  b: ▸~", "`b` has no value; write one, or remove it"),
        ("a:▸", "`a` has no value; write one, or remove it"),
        ("? ▸[1, 2]\n: 3", "a key must be one word of text"),
        ("a: &a {x: 1}\nb: {▸<<: *a}", "`<<` is not supported; write the keys out"),
        ("a: ▸!!binary aGk=", 'the tag `tag:yaml.org,2002:binary` means nothing here; write "aGk=" in quotes'),
        ("a: ▸!new [1]", "the tag `!new` means nothing here; remove it"),
        ("a: ▸&a [*a]", "an alias that contains itself; write the values out"),
        ("▸", "the file is empty"),
        ("a: [1, 2▸", "not YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n▸---\nb: 2", "not YAML: expected a single document in the stream, but found another document"),
        ("a: '1'▸2", "not YAML: while parsing a block mapping, expected <block end>, but found '<scalar>'"),
        ("a: 'x\ny: ▸\x07'", "not YAML: the character U+0007 is not allowed"),
    ],
)
def test_what_yaml_would_change_silently_is_a_finding_at_its_place(marked: str, message: str) -> None:
    findings = document(marked).findings

    assert [finding.message for finding in findings] == [message]
    assert where(findings) == places(marked)


def test_consumers_are_named_in_findings_about_them() -> None:
    [finding] = document("consumers:\n  billing:\n    timeout: 0b1").findings

    assert str(finding).startswith("team.yaml:3:14: consumer `billing`: YAML reads `0b1` as the number 1;")


def test_a_finding_is_one_printable_line() -> None:
    [finding] = document('"a\\n\\e\\ud800": ').findings

    assert finding.message.isprintable()


def test_plain_values_are_read_as_they_look() -> None:
    read = document("a: [1, -2, 0, 1.5, -0.25, true, False, text, '1', \"on\", 2026-01-31, 1e3]")

    assert read.findings == ()
    assert read.value == {"a": (1, -2, 0, 1.5, -0.25, True, False, "text", "1", "on", "2026-01-31", "1e3")}


def test_an_aliased_value_stands_where_it_is_used() -> None:
    read = document("a: &x [1]\nb: *x")

    assert read.value == {"a": (1,), "b": (1,)}
    assert read.findings == ()


def test_aliases_cannot_make_a_small_file_huge() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]

    assert any("write them with fewer aliases" in finding.message for finding in document("\n".join(lines)).findings)


def test_deep_nesting_is_a_finding() -> None:
    [finding] = document("[" * 600 + "]" * 600).findings

    assert finding.message == "nested too deeply to be a configuration"


def test_an_overridden_value_comes_from_its_new_place() -> None:
    read = document("a: {b: 1}").overridden(("a", "c"), "x", Place("$X", 1, 1))

    assert read.value == {"a": {"b": 1, "c": "x"}}
    assert str(read.finding(("a", "c"), "wrong")) == "$X:1:1: wrong"


def test_a_file_that_cannot_be_read_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")

    with pytest.raises(BadInput, match=r"cannot read .*none\.yaml: No such file or directory"):
        yaml_source.read(tmp_path / "none.yaml")
    with pytest.raises(BadInput, match=r"cannot read .*latin\.yaml: it is not UTF-8 text"):
        yaml_source.read(tmp_path / "latin.yaml")
    with pytest.raises(BadInput, match=r"cannot read /dev/zero: it is larger than 1 MiB, which no configuration is"):
        yaml_source.read(Path("/dev/zero"))


def test_what_would_be_an_endless_number_or_message_is_a_short_finding() -> None:
    [finding] = document("a: " + "1:" * 200_000 + "1").findings

    assert finding.message.startswith("YAML reads `1:1:")
    assert len(finding.message) <= 1000


fragments = st.sampled_from(
    ["a", "on", "22:22", ": ", ":\n", "- ", "\n", "\n  ", "{", "}", "[", "]", ", ", "&a ", "*a", "!!int ", "!x ", '"',
     "'", "|\n", ">\n", "? ", "#", "%YAML 1.1\n", "---\n", "\\x", "\\U00110000", "\t", "<<: ", "0o7", "~", "=",
     "\x85", "é"]
)  # fmt: skip


@given(st.lists(st.one_of(fragments, st.text(max_size=4)), max_size=25).map("".join))
def test_any_text_is_a_document(text: str) -> None:
    read = yaml_source.parse(text, "any.yaml")

    lines = text.count("\n") + text.count("\r") + text.count("\x85") + text.count("\u2028") + text.count("\u2029") + 1
    assert all(1 <= finding.line <= lines and finding.column >= 1 for finding in read.findings)
    if not read.findings:
        as_pyyaml = yaml.safe_load(text)
        assert yaml_source.parse(yaml.safe_dump(as_pyyaml), "again.yaml").value == read.value
