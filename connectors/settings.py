"""``config/waybill.yaml``: where the parts are and where data goes."""

import glob
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationInfo

from connectors import yaml_source
from connectors.local import state
from connectors.shapes import Bytes, Host, Port, Seconds, Shape, Text
from connectors.yaml_source import ConfigError, Document, Finding, KeyPath, Place

__all__ = [
    "ConfigError",
    "Finding",
    "Kafka",
    "Lake",
    "Metrics",
    "Outbox",
    "Settings",
    "Sources",
    "inspect",
    "load",
    "sources",
]

#: What the environment overrides.  Paths there are relative to the working directory, not to the file.
ENVIRONMENT: Mapping[str, KeyPath] = {
    "WAYBILL_BOOTSTRAP_SERVERS": ("kafka", "bootstrap-servers"),
    "WAYBILL_CONNECT_URL": ("connect", "url"),
    "WAYBILL_LAKE_ROOT": ("lake", "root"),
    "WAYBILL_METRICS_PORT": ("metrics", "port"),
}
_PATHS = {"WAYBILL_LAKE_ROOT"}

#: The largest payload the outbox table takes.
OUTBOX_BYTES = 4 << 20

#: Stands for the running local stack of this folder.
LOCAL = "local"


def _path_text(value: str) -> str:
    if not value or not value.isprintable():
        raise ValueError("must be a path")
    return value


def _beside_the_file(value: object, info: ValidationInfo) -> object:
    folder = info.context.parent if info.context else ""
    return Path(os.path.normpath(Path(folder, _path_text(value)))) if isinstance(value, str) else value


FilePath = Annotated[Path, BeforeValidator(_beside_the_file)]
Pattern = Annotated[str, AfterValidator(_path_text)]


class Kafka(Shape):
    servers: Text = Field(alias="bootstrap-servers", examples=["local"])
    """``host:port``, several separated by commas; ``local`` is the running local stack."""

    session_timeout: Annotated[float, Field(ge=6, le=60)] = 10.0
    """Seconds without a sign of life after which a worker's partitions go to others."""

    @property
    def bootstrap_servers(self) -> str:
        """What to connect to; Unreachable when it is the local stack and that does not run."""
        return state.read().kafka if self.servers == LOCAL else self.servers


class Connect(Shape):
    address: Text = Field(default=LOCAL, alias="url")
    """URL of Kafka Connect's REST interface; ``local`` is the running local stack."""

    @property
    def url(self) -> str:
        """What to call; Unreachable when it is the local stack and that does not run."""
        return state.read().connect if self.address == LOCAL else self.address


class Outbox(Shape):
    address: Text = Field(default=LOCAL, alias="database")
    """URL of the Postgres database that holds the outbox table; ``local`` is the running local stack."""

    @property
    def database(self) -> str:
        """What to connect to; Unreachable when it is the local stack and that does not run."""
        return state.read().postgres if self.address == LOCAL else self.address


class Metrics(Shape):
    host: Host = "127.0.0.1"
    """Address a worker serves Prometheus metrics on."""

    port: Port = 9464
    """Its port; processes that share a machine need one each (environment: WAYBILL_METRICS_PORT)."""


class Lake(Shape):
    root: FilePath = Field(examples=["../.waybill/lake"])
    """Folder of the Parquet lake."""

    segment_bytes: Bytes = 128 << 20
    """A segment is closed at this size."""

    segment_age: Seconds = 300.0
    """A segment is closed at this age, in seconds: the longest a reader waits for an event."""

    memory_bytes: Bytes = 256 << 20
    """What a sink holds in memory at most, over all partitions."""


class Sources(Shape):
    """What a check of the consumers' files needs, even when the rest of the file is wrong.

    Paths are absolute or relative to the working directory, whatever the file says.
    """

    model_config = ConfigDict(extra="ignore")

    descriptors: FilePath = Field(examples=["../proto/descriptors.binpb"])
    """The descriptor set of all protobuf messages (``make proto``)."""

    patterns: tuple[Pattern, ...] = Field(alias="consumers", examples=["[consumers/*.yaml]"])
    """Files of the teams, as paths or patterns with ``*``."""

    max_message_bytes: Annotated[Bytes, Field(ge=OUTBOX_BYTES)] = OUTBOX_BYTES
    """The largest event, in bytes: what the topics take.  Less than an outbox row may hold would stop a connector."""

    _path: Path = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        self._path = context or Path()

    @property
    def path(self) -> Path:
        """The file these settings come from."""
        return self._path

    @property
    def consumers(self) -> tuple[Path, ...]:
        """The consumers' files, each once; a pattern may match none, a plain path stands even if there is no file."""
        return tuple(dict.fromkeys(path for pattern in self.patterns for path in self._matching(pattern)))

    def _matching(self, pattern: str) -> list[Path]:
        where = os.path.normpath(self._path.parent / pattern)
        if not set("*?[") & set(pattern):
            return [Path(where)]
        return sorted(map(Path, glob.glob(where, recursive=True)))  # noqa: PTH207 - Path.glob takes no absolute pattern


class Settings(Sources):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    kafka: Kafka = Field(examples=["{bootstrap-servers: local}"])
    lake: Lake = Field(examples=["{root: ../.waybill/lake}"])
    connect: Connect = Connect()
    metrics: Metrics = Metrics()
    outboxes: dict[str, Outbox] = Field(default={})
    """The databases that hold an outbox, by the name of the producing service."""


#: The keys at the top of the file.
KEYS = frozenset(field.alias or name for name, field in Settings.model_fields.items())


def load(path: Path | None = None) -> Settings:
    """Read the settings file: ``path``, else $WAYBILL_CONFIG, else config/waybill.yaml.

    Raises BadInput when it cannot be read and ConfigError, with every finding, when it is wrong.
    """
    path = path or default_path()
    settings, findings = inspect(yaml_source.read(path))
    if settings is None or findings:
        raise ConfigError(findings)
    return settings


def default_path() -> Path:
    return Path(os.environ.get("WAYBILL_CONFIG", "config/waybill.yaml"))


def inspect(
    document: Document, environment: Mapping[str, str] = os.environ
) -> tuple[Settings | None, tuple[Finding, ...]]:
    """The settings a document holds, with the environment's overrides, and everything wrong with them."""
    document = _with_environment(document, environment)
    settings, findings = Settings.read(document, Path(document.file))
    return settings, tuple(sorted({*document.findings, *findings}))


def sources(document: Document) -> Sources | None:
    """The part that a check of consumers' files needs; None if that is wrong itself."""
    return Sources.read(document, Path(document.file))[0]


def _with_environment(document: Document, environment: Mapping[str, str]) -> Document:
    for name, key in ENVIRONMENT.items():
        if value := environment.get(name):
            text = str(Path(value).absolute()) if name in _PATHS else value
            document = document.overridden(key, text, Place(f"${name}", 1, 1))
    return document
