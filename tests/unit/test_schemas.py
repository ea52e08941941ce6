"""The catalog is what the descriptor set says."""

from pathlib import Path

import pytest
from built_catalog import SHOP, catalog, descriptor_set
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from connectors import schemas
from connectors.problems import BadInput


def test_event_types_are_the_messages_with_the_option_even_an_empty_one(tmp_path: Path) -> None:
    events = catalog(tmp_path).events

    assert [(event.topic, event.name, event.key) for event in events] == [
        ("order_paid", "shop.v1.OrderPaidEvent", ""),
        ("order_placed", "shop.v1.OrderPlacedEvent", "order.id"),
    ]
    assert events[1].descriptor.fields_by_name["order"].message_type.full_name == "shop.v1.Order"


def test_a_nested_message_can_be_an_event_type(tmp_path: Path) -> None:
    body = 'message Outer { message InnerEvent { option (waybill.v1.event) = {topic: "moved"}; } }'

    [event] = catalog(tmp_path, body).events

    assert (event.topic, event.name) == ("moved", "shop.v1.Outer.InnerEvent")


def test_methods_are_found_by_bare_and_by_full_name(tmp_path: Path) -> None:
    read = catalog(tmp_path)

    def paths(endpoint: str, service: str | None = None) -> list[str]:
        return [method.path for method in read.named(endpoint, service)]

    assert paths("OrderPaid") == ["/shop.v1.Events/OrderPaid"]
    assert paths("OrderPlaced") == ["/shop.v1.Audit/OrderPlaced", "/shop.v1.Events/OrderPlaced"]
    assert paths("OrderPlaced", "shop.v1.Events") == ["/shop.v1.Events/OrderPlaced"]
    assert paths("shop.v1.Audit/OrderPlaced", "shop.v1.Events") == ["/shop.v1.Audit/OrderPlaced"]
    assert paths("Audit/OrderPlaced") == paths("orderPaid") == paths("") == []


def test_a_streaming_method_is_no_endpoint(tmp_path: Path) -> None:
    assert catalog(tmp_path).named("Watch") == ()


def test_an_event_goes_to_the_methods_of_that_name_that_take_it(tmp_path: Path) -> None:
    read = catalog(tmp_path)
    placed, paid = read.event("order_placed"), read.event("order_paid")
    assert placed
    assert paid

    assert len(read.receiving(placed, "OrderPlaced")) == 2
    assert [method.input for method in read.receiving(paid, "OrderPaid")] == ["shop.v1.OrderPaidEvent"]
    assert read.receiving(paid, "OrderPlaced") == ()
    assert read.event("nothing") is None


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("PackageDeliveredEvent", "package_delivered"),
        ("PackageDelivered", "package_delivered"),
        ("HTTPRequestEvent", "http_request"),
        ("Sla2BreachedEvent", "sla2_breached"),
        ("Event", "event"),
    ],
)
def test_the_default_topic_is_the_name_in_snake_case_without_event(name: str, topic: str) -> None:
    assert schemas.default_topic(name) == topic


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ('key: "order.nr"', "the key `order.nr` does not exist: shop.v1.Order has no field `nr`"),
        ('key: "orders"', "the key `orders` does not exist: shop.v1.AEvent has no field `orders`"),
        ('key: "order"', "the key `order` must be text or a whole number, which `order` is not"),
        ('key: "raw"', "the key `raw` must be text or a whole number, which `raw` is not"),
        ('key: "tags"', "the key `tags` is not one value: `tags` is repeated"),
        ('key: "id.x"', "the key `id.x` does not exist: `id` has no fields"),
        ('topic: "A.b"', "'A.b' cannot be its topic; write lower snake case, at most 200 characters"),
        ('topic: "waybill_x"', "topics that start with `waybill_` are Waybill's own; write another"),
    ],
)
def test_an_option_that_cannot_work_is_refused(tmp_path: Path, option: str, problem: str) -> None:
    body = f"""
    message Order {{ string id = 1; }}
    message AEvent {{
      option (waybill.v1.event) = {{{option}}};
      Order order = 1; repeated string tags = 2; bytes raw = 3; int64 id = 4;
    }}"""

    with pytest.raises(BadInput) as refused:
        catalog(tmp_path, body)

    assert str(refused.value).split("\n")[1:] == [f"shop.v1.AEvent: {problem}"]


def test_two_messages_with_one_topic_are_refused_together_with_everything_else(tmp_path: Path) -> None:
    body = """
    message AEvent { option (waybill.v1.event) = {key: "x"}; }
    message BEvent { option (waybill.v1.event) = {topic: "a"}; }"""

    with pytest.raises(BadInput) as refused:
        catalog(tmp_path, body)

    assert str(refused.value).split("\n")[1:] == [
        "shop.v1.AEvent and shop.v1.BEvent have the same topic `a`; one topic carries one message type",
        "shop.v1.AEvent: the key `x` does not exist: shop.v1.AEvent has no field `x`",
    ]


def test_waybills_own_messages_may_use_its_own_topics(tmp_path: Path) -> None:
    body = 'message Attempt { option (waybill.v1.event) = {topic: "waybill_attempts"}; }'

    [event] = catalog(tmp_path, body, package="waybill.v1").events

    assert event.topic == "waybill_attempts"


def test_a_set_without_the_option_has_no_event_types(tmp_path: Path) -> None:
    path = tmp_path / "empty.binpb"
    path.write_bytes(FileDescriptorSet().SerializeToString())

    assert schemas.load(path).events == ()


@pytest.mark.parametrize("broken", [b"\xff\xff", None])
def test_what_is_no_descriptor_set_is_refused(tmp_path: Path, broken: bytes | None) -> None:
    path = tmp_path / "broken.binpb"
    if broken:
        path.write_bytes(broken)

    with pytest.raises(BadInput, match="make proto"):
        schemas.load(path)


def test_a_set_without_its_imports_is_refused(tmp_path: Path) -> None:
    path = descriptor_set(tmp_path, SHOP)
    files = FileDescriptorSet.FromString(path.read_bytes())
    files.file.remove(next(file for file in files.file if file.name == "google/protobuf/empty.proto"))
    path.write_bytes(files.SerializeToString())

    with pytest.raises(BadInput, match="is no complete descriptor set"):
        schemas.load(path)
