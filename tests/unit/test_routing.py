"""Routes are the subscriptions, resolved."""

import pytest
from built_catalog import shop
from marked import document
from team_file import team_file

from connectors.problems import BadInput
from pipelines import config, names, routing
from pipelines.routing import Endpoint

LIMIT = 4 << 20


def consumer(*lines: str, name: str = "x") -> config.Consumer:
    [read], findings = config.inspect([document(team_file(*lines, name=name))], shop(), LIMIT)
    assert findings == ()
    return read


def test_there_is_a_route_per_consumer_and_topic() -> None:
    both = (
        "distribution: [{topic: order_paid, services: [OrderPaid]}, {topic: order_placed, services: [AUDIT, EVENTS]}]"
    )
    both = both.replace("AUDIT", "shop.v1.Audit/OrderPlaced").replace("EVENTS", "shop.v1.Events/OrderPlaced")

    routes = routing.routes([consumer(both), consumer(name="y")], shop())

    assert [(route.consumer, route.topic, route.event_type.name) for route in routes] == [
        ("x", "order_paid", "shop.v1.OrderPaidEvent"),
        ("x", "order_placed", "shop.v1.OrderPlacedEvent"),
        ("y", "order_paid", "shop.v1.OrderPaidEvent"),
    ]
    assert routes[1].endpoints == (
        Endpoint("shop.v1.Audit/OrderPlaced", "/shop.v1.Audit/OrderPlaced"),
        Endpoint("shop.v1.Events/OrderPlaced", "/shop.v1.Events/OrderPlaced"),
    )


def test_an_endpoint_has_the_same_name_however_it_is_written() -> None:
    lines = [
        ("grpc-service: shop.v1.Audit", "distribution: [{topic: order_placed, services: [OrderPlaced]}]"),
        ("distribution: [{topic: order_placed, services: [shop.v1.Audit/OrderPlaced]}]",),
        ("distribution: [{topic: order_placed, services: [/shop.v1.Audit/OrderPlaced]}]",),
    ]

    [first, *others] = [routing.routes([consumer(*written)], shop())[0].endpoints for written in lines]

    assert others == [first, first]


def test_grpc_service_decides_between_services() -> None:
    lines = ("grpc-service: shop.v1.Events", "distribution: [{topic: order_placed, services: [OrderPlaced]}]")

    [route] = routing.routes([consumer(*lines)], shop())

    assert [endpoint.name for endpoint in route.endpoints] == ["shop.v1.Events/OrderPlaced"]


@pytest.mark.parametrize(
    ("topic", "service", "message"),
    [
        ("nothing", "OrderPaid", "consumer `x`: no event type has the topic `nothing`"),
        ("order_paid", "OrderPlaced", "consumer `x`: 0 methods called `OrderPlaced` take shop.v1.OrderPaidEvent;"),
        ("order_placed", "OrderPlaced", "consumer `x`: 2 methods called `OrderPlaced` take shop.v1.OrderPlacedEvent;"),
    ],
)
def test_a_consumer_that_does_not_fit_the_catalog_is_refused(topic: str, service: str, message: str) -> None:
    other = config.Subscription(topic=topic, services=(service,))

    with pytest.raises(BadInput, match=message):
        routing.routes([consumer().model_copy(update={"distribution": (other,)})], shop())


def test_names_that_state_hangs_on_never_change() -> None:
    assert names.app_name("service-a") == "service_a"
    assert names.delivery_group("service-a") == "waybill-service-a"
    assert names.retry_group("service-a") == "waybill-service-a-retry"
    assert names.dedicated_group("service-a", "event_y") == "waybill-service-a-event_y"
    assert names.changelog("waybill-a-retry", names.RETRY_TABLE) == "waybill-a-retry-retry-state-changelog"
    assert (names.LAKE_GROUP, names.REPLAY_GROUP) == ("waybill-lake", "waybill-replay")
