"""Who gets what: the consumers' subscriptions, resolved against the catalog, as values."""

from collections.abc import Iterable
from dataclasses import dataclass

from connectors.problems import BadInput
from connectors.schemas import Catalog, EventType, Method
from pipelines.config import Consumer, Subscription


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A gRPC method of a consumer.

    ``name`` (``pkg.Service/Method``) is what headers, table keys and metrics say.  It is the full one whatever the
    consumer wrote, so that writing it shorter or longer one day leaves no waiting retry behind.  ``path`` is what a
    call names.
    """

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Route:
    """The events of one topic to the endpoints of one consumer."""

    consumer: str
    topic: str
    event_type: EventType
    endpoints: tuple[Endpoint, ...]
    dedicated: bool


def routes(consumers: Iterable[Consumer], catalog: Catalog) -> tuple[Route, ...]:
    """A route per consumer and topic, in the order written.  BadInput if they do not fit the catalog."""
    return tuple(
        _route(consumer, subscription, catalog) for consumer in consumers for subscription in consumer.distribution
    )


def _route(consumer: Consumer, subscription: Subscription, catalog: Catalog) -> Route:
    event_type = catalog.event(subscription.topic)
    if event_type is None:
        raise BadInput(f"consumer `{consumer.name}`: no event type has the topic `{subscription.topic}`")
    endpoints = tuple(_endpoint(consumer, service, event_type, catalog) for service in subscription.services)
    return Route(consumer.name, subscription.topic, event_type, endpoints, subscription.dedicated)


def _endpoint(consumer: Consumer, service: str, event_type: EventType, catalog: Catalog) -> Endpoint:
    match catalog.receiving(event_type, service, consumer.grpc_service):
        case (Method(path=path),):
            return Endpoint(path.removeprefix("/"), path)
        case found:
            raise BadInput(
                f"consumer `{consumer.name}`: {len(found)} methods called `{service}` take {event_type.name}; run "
                "`waybill check`"
            )
