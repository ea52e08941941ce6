"""What YAML must look like: the base of all configuration models, and pydantic's complaints in plain words.

Keys are written in kebab case, unknown ones are refused, and no type is guessed from another (``strict``).
"""

import difflib
import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from connectors.yaml_source import PRIVATE, Document, Finding, KeyPath, is_private

_UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")


class Shape(BaseModel):
    """A frozen part of a configuration file; built from Python by field name, read from YAML by key."""

    model_config = ConfigDict(
        alias_generator=lambda name: name.replace("_", "-"),
        validate_by_name=True,
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def read(cls, document: Document, **told: Any) -> tuple[Self | None, list[Finding]]:
        """What a document holds; None, with findings, if it does not fit.

        The context of the validators is what is ``told``, with the document's path as ``file``.
        """
        context = {"file": Path(document.file), **told}
        try:
            return cls.model_validate(document.value, by_alias=True, by_name=False, context=context), []
        except ValidationError as error:
            details = error.errors(include_url=False)
            return None, [
                _finding(cls, detail, document)
                for detail in details
                if not _follows(detail) and not document.is_misread(detail["loc"])
            ]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """'; did you mean `topic`?', or nothing when no known word is near."""
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else ""


def _port(value: object) -> object:
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else value


def _size(value: object) -> object:
    match = re.fullmatch(r"([0-9]{1,15}) ?([A-Za-z]*)", value) if isinstance(value, str) else None
    if match and match[2].lower() in _UNITS:
        return int(match[1]) * _UNITS[match[2].lower()]
    if isinstance(value, str):
        raise ValueError("must be a number of bytes, such as 4194304 or 4MiB")  # noqa: TRY004 - pydantic wants it
    return value


def host_text(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not _HOST.fullmatch(value):
            raise ValueError("must be a host name or an address, without scheme and port") from None
    return value


def path_text(value: str) -> str:
    if not value or not value.isprintable():
        raise ValueError("must be a path")
    return value


def beside(value: str, info: ValidationInfo) -> Path:
    """A path as it is written, relative to the file it is written in."""
    folder = info.context["file"].parent if info.context else Path()
    return Path(os.path.normpath(folder / path_text(value)))


FilePath = Annotated[
    Path, BeforeValidator(lambda value, info: beside(value, info) if isinstance(value, str) else value)
]
Port = Annotated[
    int,
    BeforeValidator(_port),
    Field(ge=1, le=65535),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string", "pattern": r"^\d+$"}]}
    ),
]
Bytes = Annotated[
    int,
    BeforeValidator(_size),
    Field(gt=0),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "string", "pattern": r"^\d+ ?[KMG]iB$"}]}
    ),
]
Host = Annotated[str, AfterValidator(host_text)]
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


def _follows(detail: ErrorDetails) -> bool:
    """Said by pydantic because of another mistake: a default made of a wrong field, a list short of its wrong items."""
    return detail["type"] == "default_factory_not_called" or (detail["type"] == "too_short" and bool(detail["input"]))


def _finding(shape: type[Shape], detail: ErrorDetails, document: Document) -> Finding:
    path = detail["loc"]
    name = next((step for step in reversed(path) if isinstance(step, str)), "")
    if detail["type"] == "extra_forbidden":
        known = _fields(shape, path[:-1])
        hint = did_you_mean(name, known) or f"; the keys here are {', '.join(f'`{key}`' for key in known)}"
        return document.key_finding(path, f"unknown key `{name}`{hint}")
    if detail["type"] == "missing":
        example = (_fields(shape, path[:-1])[name].examples or ["..."])[0]
        return document.key_finding(path[:-1], f"`{name}` is missing; write `{name}: {example}`")
    complaint = _complaint(detail, PRIVATE if is_private(path) else _shown(detail["input"]))
    return document.finding(path, f"`{name}` {complaint}" if name else complaint)


_COMPLAINTS = {
    "string_type": "must be text, not {shown}",
    "int_type": "must be a whole number, not {shown}",
    "int_from_float": "must be a whole number, not {shown}",
    "float_type": "must be a number, not {shown}",
    "bool_type": "must be true or false, not {shown}",
    "path_type": "must be a path, not {shown}",
    "is_instance_of": "must be a path, not {shown}",
    "tuple_type": "must be a list, not {shown}",
    "model_type": "must be keys with values, not {shown}",
    "dict_type": "must be keys with values, not {shown}",
    "literal_error": "must be {expected}, not {shown}",
    "greater_than": "must be more than {gt:.12g}, not {shown}",
    "greater_than_equal": "must be {ge:.12g} or more, not {shown}",
    "less_than_equal": "must be {le:.12g} or less, not {shown}",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "value_error": "{error}, not {shown}",
    "unpaired": "{msg}",
    "secret": "{msg}",
}


def _complaint(detail: ErrorDetails, shown: str) -> str:
    value, kind = detail["input"], detail["type"]
    complaint = _COMPLAINTS.get(kind, "is wrong: {msg}").format(shown=shown, msg=detail["msg"], **detail.get("ctx", {}))
    quotes = kind == "string_type" and isinstance(value, bool | int | float)
    return f'{complaint}; write it in quotes: "{shown}"' if quotes else complaint


def _shown(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case Mapping():
            return "keys with values"
        case tuple():
            return "a list"
        case str() if not value:
            return '""'
        case _:
            return str(value)


def _fields(shape: type[Shape], path: KeyPath) -> dict[str, FieldInfo]:
    """The fields, by key, of the model that stands at ``path`` of ``shape``."""
    reached: Any = shape
    for step in path:
        if get_origin(reached) in {dict, tuple}:
            reached = next(part for part in reversed(get_args(reached)) if part is not Ellipsis)
        else:
            reached = _keyed(_model(reached))[str(step)].annotation
    return _keyed(_model(reached))


def _model(annotation: Any) -> type[Shape]:
    """The model of ``Model`` or ``Model | None``."""
    return next(
        part for part in (annotation, *get_args(annotation)) if isinstance(part, type) and issubclass(part, Shape)
    )


def _keyed(shape: type[Shape]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in shape.model_fields.items()}
