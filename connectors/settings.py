"""``config/waybill.yaml``: where the parts are and where data goes."""

import glob
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, PlainValidator, PrivateAttr, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from connectors import yaml_source
from connectors.access import Access
from connectors.kafka_connect import Rest
from connectors.local import state
from connectors.secret import FORM, Secret
from connectors.shapes import Bytes, FilePath, Host, Port, Seconds, Shape, Text, beside, host_text, path_text
from connectors.tls import Tls
from connectors.yaml_source import ConfigError, Document, Finding, KeyPath, Place

__all__ = [
    "S3",
    "BucketFolder",
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


def _without_password(url: str) -> str:
    try:
        password = urlsplit(url).password
    except ValueError:
        password = None  # whoever uses it says what is wrong with it
    if password:
        raise PydanticCustomError(
            "secret", "holds a password, which the file must not: write it beside the URL, as " + FORM
        )
    return url


def _http(url: str) -> str:
    if url != LOCAL and not re.match(r"https?://[\w.\[-]", url):
        raise ValueError(f"must be `{LOCAL}`, or a URL such as http://connect:8083")
    return url


Pattern = Annotated[str, AfterValidator(path_text)]
Url = Annotated[Text, AfterValidator(_without_password)]
_SERVER = re.compile(r"(?:\[(?P<address>[^]%]+:[^]%]+)\]|(?P<name>[^]:[]+))(?::(?P<port>[0-9]{1,5}))?")


def _servers(value: str) -> str:
    for server in map(_SERVER.fullmatch, value.split(",")):
        if not server or not 0 < int(server["port"] or 9092) < 65536:
            raise ValueError("must be host:port, or several with commas and no spaces between them")
        host_text(server["address"] or server["name"])
    return value


class Login(Shape):
    """Who Waybill is to another program."""

    username: Text = Field(examples=["waybill"])
    """The name."""

    password: Secret = Field(examples=["${env:NAME}"])
    """Where the password is."""


class Sasl(Login):
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How the password is shown; ``PLAIN`` shows it as it is, which only ``tls`` hides from the network."""


class Kafka(Shape):
    servers: Annotated[str, AfterValidator(_servers)] = Field(alias="bootstrap-servers", examples=["local"])
    """``host:port``, several separated by commas; ``local`` is the running local stack."""

    session_timeout: Annotated[float, Field(ge=6, le=60)] = 10.0
    """Seconds without a sign of life after which a worker's partitions go to others."""

    tls: Tls | None = None
    """Encryption; without it traffic is in plain text."""

    sasl: Sasl | None = None
    """A name and a password, if the brokers want them."""

    @property
    def access(self) -> Access:
        """How to connect; Unreachable when it is the local stack and that does not run, BadInput without the secret."""
        servers = state.read().kafka if self.servers == LOCAL else self.servers
        if self.sasl is None:
            return Access(servers, self.tls)
        return Access(servers, self.tls, self.sasl.mechanism, self.sasl.username, self.sasl.password.reveal())


class Connect(Shape):
    address: Annotated[Url, AfterValidator(_http)] = Field(default=LOCAL, alias="url")
    """URL of Kafka Connect's REST interface; ``local`` is the running local stack."""

    tls: Tls | None = None
    """Certificates, for a URL with ``https``."""

    login: Login | None = None
    """A name and a password, if Connect wants them (HTTP basic authentication)."""

    @property
    def rest(self) -> Rest:
        """What to call; Unreachable when it is the local stack and that does not run, BadInput without the secret."""
        url = state.read().connect if self.address == LOCAL else self.address
        context = self.tls.context() if self.tls else None
        if self.login is None:
            return Rest(url, context)
        return Rest(url, context, self.login.username, self.login.password.reveal())


class Outbox(Shape):
    address: Url = Field(default=LOCAL, alias="database")
    """URL of the Postgres database that holds the outbox table; ``local`` is the running local stack."""

    password: Secret | None = None
    """Where the password of the URL's user is."""

    @property
    def database(self) -> str:
        """What to connect to; Unreachable when it is the local stack and that does not run."""
        return state.read().postgres if self.address == LOCAL else self.address


class Metrics(Shape):
    host: Host = "127.0.0.1"
    """Address a worker serves Prometheus metrics on."""

    port: Port = 9464
    """Its port; processes that share a machine need one each (environment: WAYBILL_METRICS_PORT)."""


class Worker(Shape):
    memory_bytes: Annotated[Bytes, Field(ge=16 << 20)] = 64 << 20
    """What a worker of a consumer holds at most: events, waiting retries and what is fetched ahead.  Its process needs
    about 170 MB on top."""

    stall_timeout: Annotated[Seconds, Field(ge=60)] = 300.0
    """Seconds that a worker may have records to deliver or to archive and get nowhere, with nothing to wait for, before
    it ends itself."""


@dataclass(frozen=True, slots=True)
class BucketFolder:
    """Part of a bucket of S3; ``folder`` is empty for all of it."""

    bucket: str
    folder: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.folder}".rstrip("/")


#: Neither what means something in patterns, URLs or SQL, nor `=`, which readers take for a column.
_BUCKET_FOLDER = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/(?!\.)[A-Za-z0-9_.-]+)*)/?")


def _lake_root(value: object, info: ValidationInfo) -> Path | BucketFolder:
    if isinstance(value, Path | BucketFolder):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a path")  # noqa: TRY004 - pydantic wants it
    if match := _BUCKET_FOLDER.fullmatch(value):
        return BucketFolder(match[1], match[2].removeprefix("/"))
    if "://" in value:
        raise ValueError("must be a folder, or s3://bucket/folder with letters, digits, `-`, `_` and `.`")
    return beside(value, info)


def _endpoint(url: str) -> str:
    if not re.fullmatch(r"https?://[\w.\[-][^/?#]*/?", url):
        raise ValueError("must be a URL such as https://objects.internal:9000")
    return url


class S3(Shape):
    endpoint_url: Annotated[Url, AfterValidator(_endpoint)] | None = None
    """URL of an object store; without it that of AWS."""

    region: Text | None = None
    """Region of the bucket; without it that of the AWS default chain."""

    access_key_id: Text | None = None
    """Who Waybill is to the store; without it the AWS default chain says so."""

    secret_access_key: Secret | None = None
    """Where the key's secret is."""

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise PydanticCustomError(
                "unpaired", "has one of `access-key-id` and `secret-access-key`; write both, or neither"
            )
        return self


class Lake(Shape):
    root: Annotated[Path | BucketFolder, PlainValidator(_lake_root)] = Field(examples=["../.waybill/lake"])
    """Folder of the Parquet lake, or ``s3://bucket/folder``."""

    s3: S3 | None = None
    """How to reach the bucket, if the lake is in one."""

    scratch: FilePath | None = None
    """Where unfinished files of a lake on S3 are; a lake in a folder has them there.  Default: a folder of this user
    beneath the system's for temporary files."""

    segment_bytes: Bytes = 128 << 20
    """A segment is closed at this size."""

    segment_age: Seconds = 300.0
    """A segment is closed at this age, in seconds: the longest a reader waits for an event."""

    memory_bytes: Bytes = 40 << 20
    """What a sink holds of records at most, over all partitions: fetched ahead, decoded, not yet written.  Its process
    needs about 140 MB, and 2.4 times as much."""

    quarantine_limit: Annotated[int, Field(ge=0)] = 1000
    """Records of one segment that may go to quarantine; with more, and more than 1 % of the segment's, its partition is
    held."""

    main_file_bytes: Annotated[Bytes, Field(ge=1 << 20)] = 128 << 20
    """About how large the compactor makes files; it waits until there is enough of a topic for one,"""

    compact_age: Annotated[float, Field(gt=0, le=7 * 86_400)] = 86_400.0
    """or until an event has waited so many seconds."""

    hot_retention: Annotated[float, Field(ge=3_600, le=30 * 86_400)] = 86_400.0
    """Seconds that segments stay after they were compacted: longer than the longest query."""


class Sources(Shape):
    """What a check of the consumers' files needs, even when the rest of the file is wrong.

    Paths are absolute or relative to the working directory, whatever the file says.
    """

    model_config = ConfigDict(extra="ignore")

    descriptors: FilePath = Field(examples=["../proto/descriptors.binpb"])
    """The descriptor set of all protobuf messages (``make proto``)."""

    patterns: tuple[Pattern, ...] = Field(alias="consumers", examples=["[consumers/*.yaml]"])
    """Files of the teams, as paths or patterns with ``*``."""

    max_message_bytes: Annotated[Bytes, Field(ge=OUTBOX_BYTES, le=1 << 30)] = OUTBOX_BYTES
    """The largest event, in bytes: what the topics take.  Less than an outbox row may hold would stop a connector; much
    more fits neither into Kafka nor into a call."""

    _path: Path = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        self._path = context["file"] if context else Path()

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
    worker: Worker = Worker()
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
    settings, findings = Settings.read(document)
    return settings, tuple(sorted({*document.findings, *findings}))


def sources(document: Document) -> Sources | None:
    """The part that a check of consumers' files needs; None if that is wrong itself."""
    return Sources.read(document)[0]


def _with_environment(document: Document, environment: Mapping[str, str]) -> Document:
    for name, key in ENVIRONMENT.items():
        if value := environment.get(name):
            text = str(Path(value).absolute()) if name in _PATHS and "://" not in value else value
            document = document.overridden(key, text, Place(f"${name}", 1, 1))
    return document
