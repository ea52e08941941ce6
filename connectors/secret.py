"""Secrets: a configuration says where they are, and holds none."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from connectors.problems import BadInput
from connectors.shapes import beside

_REFERENCE = re.compile(r"\$\{(?:env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|file:(?P<path>[^}]+))\}")

#: How a secret is written.
FORM = "${env:NAME} or ${file:PATH}"


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a secret is: the variable ``name`` of the environment, or the file ``path``."""

    name: str = ""
    path: Path = Path()

    def reveal(self, environment: Mapping[str, str] = os.environ) -> str:
        """The secret as it is now; a line break that ends a file is none of it.  Raises BadInput."""
        if self.name:
            where, secret = f"the environment variable {self.name}", environment.get(self.name, "")
        else:
            where, secret = f"the file {self.path}", self._read()
        if not secret:
            raise BadInput(f"{where}, which holds a secret, is not set or empty")
        return secret

    def _read(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise BadInput(f"cannot read the secret in {self.path}: {error.strerror or error}") from error
        except UnicodeDecodeError:
            # The error holds what was read.
            raise BadInput(f"cannot read the secret in {self.path}: it is not UTF-8 text") from None


def _refer(value: object, info: ValidationInfo) -> Reference:
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise PydanticCustomError("secret", "is a secret, which the file must not hold: write " + FORM)
    return Reference(match["name"] or "", beside(match["path"], info) if match["path"] else Path())


Secret = Annotated[Reference, BeforeValidator(_refer)]
