"""What a configuration names and the machine that runs it must have: secrets, certificates, keys."""

from collections.abc import Iterator, Mapping
from typing import Any

from connectors.problems import BadInput
from connectors.secret import Reference
from connectors.shapes import Shape
from connectors.tls import Tls, UnusableFile
from connectors.yaml_source import Document, Finding, KeyPath


def missing(part: Any, document: Document, path: KeyPath = ()) -> Iterator[Finding]:
    """Findings for what the ``part`` at ``path`` of a document needs and does not find here."""
    match part:
        case Reference():
            try:
                part.reveal()
            except BadInput as problem:
                yield document.finding(path, f"`{path[-1]}`: {problem}")
        case Tls():
            try:
                part.context()
            except UnusableFile as problem:
                yield document.finding((*path, problem.key), str(problem))
        case Shape():
            for name, field in type(part).model_fields.items():
                yield from missing(getattr(part, name), document, (*path, field.alias or name))
        case Mapping():
            for key, value in part.items():
                yield from missing(value, document, (*path, key))
