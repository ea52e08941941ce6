"""Certificates and private keys: which files hold them, and what is wrong with those."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from connectors.problems import BadInput
from connectors.shapes import FilePath, Shape


class UnusableFile(BadInput):
    """A file of a certificate or key; ``key`` is what names it in the configuration."""

    def __init__(self, key: str, path: Path | str, trouble: str) -> None:
        super().__init__(f"`{key}`: {path} {trouble}")
        self.key = key


class Tls(Shape):
    """Encryption; an empty mapping trusts the system's certificate authorities and presents no certificate."""

    ca_file: FilePath | None = None
    """Certificate authorities to trust instead of the system's."""

    certificate_file: FilePath | None = None
    """Certificate to present, followed by those between it and its authority."""

    key_file: FilePath | None = None
    """Its private key, without a passphrase."""

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise PydanticCustomError(
                "unpaired", "has one of `certificate-file` and `key-file`; write both, or neither"
            )
        return self

    def context(self) -> ssl.SSLContext:
        """For connections to others.  Raises UnusableFile."""
        if self.ca_file:
            with _reading("ca-file", self.ca_file, "CERTIFICATE"):
                context = ssl.create_default_context(cafile=self.ca_file)
        else:
            context = ssl.create_default_context()
        if self.certificate_file and self.key_file:
            with _reading("key-file", self.key_file, "PRIVATE KEY"):
                pass
            with _reading("certificate-file", self.certificate_file, "CERTIFICATE"):
                context.load_cert_chain(self.certificate_file, self.key_file)
        return context

    def contents(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """What the files for authorities, key and certificate hold, as PEM.  Raises UnusableFile."""
        self.context()  # knows what is wrong with them
        authorities = self.ca_file or ssl.get_default_verify_paths().cafile
        try:
            return _bytes(authorities), _bytes(self.key_file), _bytes(self.certificate_file)
        except OSError as error:  # files that are being replaced at this moment
            raise UnusableFile("tls", error.filename, f"cannot be read: {error.strerror}") from error


def _bytes(path: Path | str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None


@contextmanager
def _reading(key: str, path: Path, kind: str) -> Iterator[None]:
    """Look at a PEM file, and say in plain words what goes wrong with it."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
        if f"{kind}-----" not in text:
            raise UnusableFile(key, path, f"holds no {kind.lower()} in PEM form")
        if "ENCRYPTED" in text:
            raise UnusableFile(key, path, "has a passphrase; write the key without one, readable by the worker only")
        yield
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UnusableFile(key, path, "does not belong to the private key in `key-file`") from error
        raise UnusableFile(key, path, f"cannot be used: {error.reason or error}") from error
    except OSError as error:
        raise UnusableFile(key, path, f"cannot be read: {error.strerror or error}") from error
