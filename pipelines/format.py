"""The format of a consumers' file: what a team writes, as frozen values with their defaults."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from connectors.shapes import Bytes, Count, Host, Port, Seconds, Shape, Text
from connectors.tls import Tls

#: What a gRPC server accepts unless told otherwise.
DEFAULT_MAX_MESSAGE_BYTES = 4 << 20


def _start(value: str) -> str:
    if value in {"earliest", "latest"}:
        return value
    try:
        if datetime.fromisoformat(value).tzinfo:
            return value
    except ValueError:
        pass
    raise ValueError("must be earliest, latest or a time with its zone, such as 2026-01-31T08:00:00Z")


def _at_most_the_topics_take(value: int, info: ValidationInfo) -> int:
    limit = info.context and info.context["max_message_bytes"]
    if limit and value > limit:
        raise ValueError(f"must be {limit} or less, the max-message-bytes of waybill.yaml")
    return value


def _at_most_the_window(value: int, info: ValidationInfo) -> int:
    window = info.data.get("window", value)
    if value > window:
        raise ValueError(f"must be {window} or less, the window, or the breaker never opens")
    return value


class Subscription(Shape):
    """One topic and who receives its events."""

    topic: Text = Field(examples=["package_delivered"])
    """Topic of the event type."""

    services: tuple[Text, ...] = Field(min_length=1, examples=["[PackageDelivered]"])
    """gRPC methods that receive each event: ``Name``, or ``pkg.Service/Name``."""

    dedicated: bool = False
    """A consumer group and a worker of its own, for a topic with much traffic."""


class InMemoryRetry(Shape):
    """Attempts made at once, before a delivery goes to the retry topic."""

    attempts: Annotated[int, Field(ge=0, le=10)] = 2
    """How many, after the first; 0 for none."""

    initial: Seconds = 0.1
    """Seconds before the first of them at most; doubles each time, with full jitter."""

    max: Seconds = 1.0
    """Seconds between two of them at most."""


class RetryBackoff(Shape):
    """Pauses between attempts from the retry topic."""

    initial: Seconds = 1.0
    """Seconds before the first of them; doubles each time, with equal jitter."""

    max: Seconds = 300.0
    """Seconds between two of them at most."""


class Breaker(Shape):
    """When calls stop because they are in vain, and how often one probes whether they still are."""

    transport_failures: Count = 5
    """Consecutive transport failures that open the consumer's breaker."""

    window: Count = 20
    """Latest outcomes of an endpoint that must all be failures to open its breaker."""

    distinct_events: Annotated[Count, AfterValidator(_at_most_the_window)] = Field(
        default_factory=lambda fields: min(5, fields["window"])
    )
    """Different events these outcomes must be of, so that a single bad event cannot open it.  Default: 5."""

    probe_interval: Annotated[float, Field(gt=0, le=60)] = 5.0
    """Seconds between two probes of an open breaker at most."""


class ConsumerTls(Tls):
    """Encryption towards the consumer; an empty mapping trusts the system's certificate authorities."""

    server_name: Text | None = None
    """Name the consumer's certificate is for, if it is not the hostname."""


class ConsumerFormat(Shape):
    """A consumer as it is written."""

    grpc_server_hostname: Host = Field(examples=["service-a-hostname"])
    """Host the consumer listens on."""

    grpc_server_port: Port = Field(examples=["50051"])
    """Its port."""

    grpc_service: Text | None = None
    """Service that bare method names belong to; needed only where a name is in several services."""

    timeout: Annotated[float, Field(ge=0.01, le=30)] = 5.0
    """Deadline of a call, in seconds."""

    max_retry_attempts: Count = 15
    """Attempts from the retry topic before a delivery becomes a dead letter."""

    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Events per call with ``delivery: batch``; else the default of ``max-in-flight``."""

    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] = Field(default_factory=lambda fields: fields["batch_size"])
    """Calls at the same time per process, deliveries and retries together.  Default: ``batch-size``."""

    max_message_bytes: Annotated[Bytes, AfterValidator(_at_most_the_topics_take)] | None = None
    """Largest event the consumer takes; a larger one becomes a dead letter.  Default: 4 MiB, or what
    waybill.yaml allows if that is less."""

    retry_topic: Text = Field(examples=["service_a_retry"])
    """Topic of deliveries that wait for their next attempt."""

    dlq_topic: Text = Field(examples=["service_a_dlq"])
    """Topic of deliveries that were given up."""

    in_memory_retry: InMemoryRetry = InMemoryRetry()
    """Attempts before the retry topic."""

    retry_backoff: RetryBackoff = RetryBackoff()
    """Pauses between attempts from the retry topic."""

    breaker: Breaker = Breaker()
    """When to stop calling."""

    tls: ConsumerTls | None = None
    """Encryption; without it calls are in plain text."""

    delivery: Literal["unary", "batch"] = "unary"
    """``unary``: an event a call, to the methods under ``services``.  ``batch``: several a call."""

    start_from: Annotated[str, AfterValidator(_start)] = "earliest"
    """Where a new consumer starts: ``earliest``, ``latest`` or a time."""

    owner: Text | None = None
    """Whom to ask: a team, a channel, an address."""

    distribution: tuple[Subscription, ...] = Field(min_length=1, examples=["[{topic: ..., services: [...]}]"])
    """What the consumer subscribed to."""


class Consumer(ConsumerFormat):
    """A service that subscribed, with everything decided."""

    name: str
    """Its key in the file: the group, the app and the metrics have it in their names."""

    max_message_bytes: Bytes = DEFAULT_MAX_MESSAGE_BYTES

    def topics(self, dedicated: str | None = None) -> tuple[str, ...]:
        """What its own worker reads, or that of a ``dedicated`` topic."""
        return tuple(
            subscription.topic
            for subscription in self.distribution
            if (subscription.topic if subscription.dedicated else None) == dedicated
        )

    @property
    def address(self) -> str:
        """``host:port`` as gRPC takes it."""
        host = f"[{self.grpc_server_hostname}]" if ":" in self.grpc_server_hostname else self.grpc_server_hostname
        return f"{host}:{self.grpc_server_port}"


class ConsumersFile(Shape):
    """A team's file."""

    consumers: dict[str, ConsumerFormat] = Field(examples=["{service-a: ...}"])
    """Consumers by name."""
