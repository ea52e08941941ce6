"""YAML as people write it: values with the line and column of each, and what YAML would have read differently.

YAML 1.1 keeps the last of two equal keys, reads ``topic: on`` as true, ``port: 22:22`` as 1342 and ``010`` as 8.  Here
each of these is a finding, so that a value is what its writer sees, or nothing.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from connectors.problems import BadInput

KeyPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})?\.[0-9]{0,18}([eE][-+][0-9]{1,2})?")
#: Stands in findings for a value that may hold a secret.
PRIVATE = "what is written there"
_NO_TEXT = "YAML does not read this as text; write it in quotes"
# Aliases can make a small file denote a huge value; no honest configuration comes near this.
_MOST_VALUES = 100_000
# Some YAML takes its parser time that grows with the square of the length.
_MOST_BYTES = 1 << 20
_LONGEST_MESSAGE = 1000
_LONGEST_NUMBER = 40


@dataclass(frozen=True, order=True, slots=True)
class Finding:
    """One thing to correct, where it is (line and column count from 1) and what to write instead."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class ConfigError(BadInput):
    """A configuration with findings; its text is all of them, one a line."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = findings


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written."""

    file: str
    line: int
    column: int

    def finding(self, message: str) -> Finding:
        # A quoted value may hold line breaks, terminal codes or half a surrogate pair: a finding is one printable line.
        printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message[:_LONGEST_MESSAGE])
        return Finding(self.file, self.line, self.column, printable)


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file as plain values (dict, tuple, str, int, float, bool, None) and the place of each.

    ``misread`` holds the paths of values that a finding is about already; their value is the text as written.
    """

    file: str
    value: Any
    keys: dict[KeyPath, Place]
    values: dict[KeyPath, Place]
    findings: tuple[Finding, ...] = ()
    misread: frozenset[KeyPath] = frozenset()

    def finding(self, path: KeyPath, message: str) -> Finding:
        """A finding about the value at ``path``, placed there or at the nearest thing that contains it."""
        here = path
        while here and here not in self.values:
            here = here[:-1]
        return self.values[here].finding(f"{_subject(path)}{message}")

    def key_finding(self, path: KeyPath, message: str) -> Finding:
        """A finding about the key whose value ``path`` is."""
        place = self.keys.get(path)
        return place.finding(f"{_subject(path)}{message}") if place else self.finding(path, message)

    def is_misread(self, path: KeyPath) -> bool:
        return any(path[:end] in self.misread for end in range(len(path) + 1))

    def overridden(self, path: KeyPath, text: str, place: Place) -> "Document":
        """The document with a text at ``path`` that comes from ``place``; the same if ``path`` cannot be there."""
        value = _with(self.value, path, text)
        places = {path: place}
        return replace(self, value=value, keys=self.keys | places, values=self.values | places)


def _subject(path: KeyPath) -> str:
    """Whom a finding at ``path`` concerns; readers of a long list of findings look for their name."""
    match path:
        case ("consumers", str(name), *_):
            return f"consumer `{name}`: "
        case _:
            return ""


def is_secret(path: KeyPath) -> bool:
    """Whether ``path`` is where a secret, or a URL with one in it, would stand, or is below that."""
    match path:
        case ("kafka", "sasl", "password", *_) | ("connect", "url", *_) | ("connect", "login", "password", *_):
            return True
        case ("outboxes", _, "database" | "password", *_) | ("lake", "s3", "endpoint-url" | "secret-access-key", *_):
            return True
        case _:
            return False


def is_private(path: KeyPath) -> bool:
    """Whether people may have written a secret as the value at ``path``, if only for want of the right place."""
    match path:
        case ("kafka", "sasl") | ("connect",) | ("connect", "login") | ("outboxes",) | ("outboxes", _):
            return True
        case ("lake", "s3") | ("lake", "s3", _):
            return True
        case _:
            return is_secret(path)


def _with(tree: Any, path: KeyPath, text: str) -> Any:
    if not path:
        return text
    if not isinstance(tree, dict):
        return tree
    return tree | {path[0]: _with(tree.get(path[0], {}), path[1:], text)}


def read(path: Path) -> Document:
    """Read a file; BadInput when it cannot be read as text.  Everything else that is wrong is a finding."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"cannot read {path}: it is not UTF-8 text (byte {error.start})") from error
    if len(content) > _MOST_BYTES:
        raise BadInput(f"cannot read {path}: it is larger than {_MOST_BYTES >> 20} MiB, which no configuration is")
    return parse(text, str(path))


def parse(text: str, file: str) -> Document:
    """Turn YAML text into a document; never raises."""
    reader = _Reader(file)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = reader.value(node, ()) if node else reader.refuse((), Place(file, 1, 1), "the file is empty")
    except yaml.MarkedYAMLError as error:
        reason = ", ".join(filter(None, (error.context, error.problem)))
        reason = re.sub(r"(undefined (?:alias|tag handle)) .*", r"\1", reason, flags=re.DOTALL)  # maybe a secret
        value = reader.refuse((), _place(file, error.problem_mark), f"not YAML: {reason}")
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = Place(file, before.count("\n") + 1, error.position - before.rfind("\n"))
        value = reader.refuse((), place, f"not YAML: the character U+{ord(text[error.position]):04X} is not allowed")
    except (ValueError, OverflowError) as error:  # PyYAML lets these escape from odd escapes and directives
        value = reader.refuse((), Place(file, 1, 1), f"not YAML: {error}")
    except RecursionError:
        value = reader.refuse((), Place(file, 1, 1), "nested too deeply to be a configuration")
    return Document(file, value, reader.keys, reader.values, tuple(sorted(reader.findings)), frozenset(reader.misread))


def _place(file: str, mark: yaml.Mark | None) -> Place:
    return Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)


class _Reader:
    """Walks the composed nodes of one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.keys: dict[KeyPath, Place] = {}
        self.values: dict[KeyPath, Place] = {}
        self.findings: set[Finding] = set()
        self.misread: set[KeyPath] = set()
        self._open: set[int] = set()

    def report(self, path: KeyPath, place: Place, message: str) -> None:
        if is_secret(path[:-1]):
            message = _NO_TEXT
        self.findings.add(place.finding(f"{_subject(path)}{message}"))

    def refuse(self, path: KeyPath, place: Place, message: str, value: str | None = None) -> str | None:
        """Report a value that cannot stand as it is; ``value`` takes its place."""
        self.values.setdefault(path, place)
        self.misread.add(path)
        self.report(path, place, message)
        return value

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.values[path] = place = _place(self.file, node.start_mark)
        if id(node) in self._open:
            return self.refuse(path, place, "an alias that contains itself; write the values out")
        if len(self.values) > _MOST_VALUES:
            return self.refuse(path, place, f"more than {_MOST_VALUES} values; write them with fewer aliases")
        self._open.add(id(node))
        try:
            match node:
                case yaml.MappingNode(tag="tag:yaml.org,2002:map"):
                    return self._mapping(node, path)
                case yaml.SequenceNode(tag="tag:yaml.org,2002:seq"):
                    return tuple(self.value(child, (*path, index)) for index, child in enumerate(node.value))
                case yaml.ScalarNode():
                    return self._scalar(node, path, place)
                case _:
                    message = f"the tag `{node.tag}` means nothing here; remove it"
                    return self.refuse(path, place, _NO_TEXT if is_private(path) else message)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = _place(self.file, key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                self.report(path, place, "a key must be one word of text")
                continue
            if key_node.tag == f"{_TAG}merge":
                self.report(path, place, "`<<` is not supported; write the keys out")
                continue
            key = key_node.value
            here = (*path, key)
            if key in result:
                self.report(
                    here, place, f"duplicate key `{key}`, first on line {self.keys[here].line}; remove one of them"
                )
                continue
            self.keys[here] = place
            if key_node.tag != f"{_TAG}str":
                self.refuse(here, place, f"the key `{key}` is not text for YAML; write it in quotes: {_quoted(key)}")
            result[key] = self.value(value_node, here)
        return result

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath, place: Place) -> Any:
        text: str = node.value
        match node.tag.removeprefix(_TAG):
            case "str" | "timestamp":  # a time stays as written; who expects one reads it
                return text
            case "null":
                what = f"`{path[-1]}`" if path else "the file"
                return self.refuse(path, place, f"{what} has no value; write one, or remove it")
            case "bool" if text.lower() in {"true", "false"}:
                return text.lower() == "true"
            case "bool" if text.lower() in _BOOLS:
                meant = str(_BOOLS[text.lower()]).lower()
                message = f"YAML reads `{text}` as {meant}; write {_quoted(text)} in quotes, or {meant}"
            case "int" if _WHOLE.fullmatch(text):
                return int(text)
            case "float" if _DECIMAL.fullmatch(text):
                return float(text)
            case "int" | "float":
                message = (
                    f"YAML reads `{text}` as {_as_number(node)}; write {_quoted(text)} in quotes, or a decimal number"
                )
            case _:
                message = f"the tag `{node.tag}` means nothing here; write {_quoted(text)} in quotes"
        return self.refuse(path, place, _NO_TEXT if is_private(path) else message, text)


_BOOLS = {"yes": True, "no": False, "on": True, "off": False}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _as_number(node: yaml.ScalarNode) -> str:
    if len(node.value) > _LONGEST_NUMBER:  # 1:1:1:... takes a day
        return "a number"
    constructor = yaml.constructor.SafeConstructor()
    try:
        construct = constructor.construct_yaml_int if node.tag.endswith("int") else constructor.construct_yaml_float
        return f"the number {construct(node)}"
    except (ValueError, IndexError, OverflowError):
        return "a number"
