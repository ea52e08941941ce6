import re
from datetime import UTC, datetime, timedelta

import pytest
from example_stubs import events_pb2, package_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState
from waybill.v1 import options_pb2
from waybill_outbox import MAX_MESSAGE_BYTES, InvalidEvent, OutboxError, build_event
from waybill_outbox.event_types import TOPIC, default_topic
from waybill_outbox.saving import STATEMENT_BYTES, STATEMENT_ROWS, parts


def delivered(package_id="pkg-1"):
    return events_pb2.PackageDeliveredEvent(package=package_pb2.Package(id=package_id))


def message_with(topic="", key="", name="SomeEvent"):
    """A message of its own with this option, and fields of many kinds."""
    file = descriptor_pb2.FileDescriptorProto(name="made.proto", package="made.v1", syntax="proto3")
    message = file.message_type.add(name=name)
    message.options.Extensions[options_pb2.event].CopyFrom(options_pb2.EventOptions(topic=topic, key=key))
    kinds = descriptor_pb2.FieldDescriptorProto
    for number, (field, type_, label, of) in enumerate(
        [
            ("text", kinds.TYPE_STRING, kinds.LABEL_OPTIONAL, None),
            ("number", kinds.TYPE_SINT64, kinds.LABEL_OPTIONAL, None),
            ("raw", kinds.TYPE_BYTES, kinds.LABEL_OPTIONAL, None),
            ("ratio", kinds.TYPE_DOUBLE, kinds.LABEL_OPTIONAL, None),
            ("words", kinds.TYPE_STRING, kinds.LABEL_REPEATED, None),
            ("parts", kinds.TYPE_MESSAGE, kinds.LABEL_REPEATED, f".made.v1.{name}"),
            ("part", kinds.TYPE_MESSAGE, kinds.LABEL_OPTIONAL, f".made.v1.{name}"),
        ],
        start=1,
    ):
        message.field.add(name=field, number=number, type=type_, label=label, type_name=of)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"made.v1.{name}"))()


def test_topic_type_and_key_come_from_the_message():
    event = build_event(delivered())
    assert (event.topic, event.type, event.key) == ("package_delivered", "logistics.v1.PackageDeliveredEvent", "pkg-1")
    assert event.payload == delivered().SerializeToString()


def test_an_event_is_stamped_with_an_id_and_the_time_in_utc():
    event = build_event(delivered())
    assert event.id.version == 7
    assert event.created_at.tzinfo is UTC
    assert abs(datetime.now(UTC) - event.created_at) < timedelta(seconds=5)


def test_later_events_have_greater_ids():
    ids = [build_event(delivered()).id for _ in range(100)]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("PackageDeliveredEvent", "package_delivered"),
        ("PackageDelivered", "package_delivered"),
        ("HTTPCallEvent", "http_call"),
        ("B2BOrderEvent", "b2_b_order"),
        ("Event", "event"),
    ],
)
def test_the_default_topic_is_the_message_name_in_snake_case_without_event(name, topic):
    assert build_event(message_with(name=name)).topic == topic


@given(st.from_regex(r"\A[A-Z][A-Za-z0-9]{0,60}\Z"))
def test_every_message_name_in_pascal_case_has_a_usable_default_topic(name):
    assert TOPIC.fullmatch(default_topic(name))


@pytest.mark.parametrize("topic", ["a.b", "Upper", "with-dash", "_x", "x y", "ü", "waybill_commands", "x" * 201, "x\n"])
def test_a_topic_that_kafka_or_waybill_could_not_take_is_refused(topic):
    with pytest.raises(InvalidEvent, match=r"made\.v1\.SomeEvent: .* cannot be its topic"):
        build_event(message_with(topic=topic))


def test_a_message_without_the_option_is_no_event():
    with pytest.raises(InvalidEvent, match=r"logistics\.v1\.Package is no event type: add `option"):
        build_event(package_pb2.Package())


def test_an_integer_key_is_written_in_decimal_even_if_it_is_zero():
    assert build_event(events_pb2.RouteAssignedEvent(route_id=-7)).key == "-7"
    assert build_event(events_pb2.RouteAssignedEvent()).key == "0"


def test_a_type_without_a_key_spreads_its_events_by_id():
    event = build_event(message_with())
    assert event.key == str(event.id)
    assert event.payload == b""


def test_a_key_that_is_passed_replaces_that_of_the_type():
    assert build_event(delivered(""), key=42).key == "42"


def test_an_empty_key_is_refused_by_the_name_of_its_field():
    with pytest.raises(InvalidEvent, match=r"package\.id is empty, and it is the key"):
        build_event(delivered(""))


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("nothing", "there is no field 'nothing'"),
        ("text.more", "there is no field 'more'"),
        ("part", "must be a string or an integer"),
        ("raw", "must be a string or an integer"),
        ("ratio", "must be a string or an integer"),
        ("words", "lies in a list or map"),
        ("parts.text", "lies in a list or map"),
    ],
)
def test_a_key_path_that_leads_to_no_single_value_is_refused(path, complaint):
    with pytest.raises(InvalidEvent, match=re.escape(complaint)):
        build_event(message_with(key=path))


@pytest.mark.parametrize(("key", "taken"), [("k" * 1024, True), ("k" * 1025, False), ("ü" * 513, False), ("", False)])
def test_a_key_has_1_to_1024_bytes(key, taken):
    if taken:
        assert build_event(delivered(), key=key).key == key
    else:
        with pytest.raises(InvalidEvent, match="1 to 1024 bytes"):
            build_event(delivered(), key=key)


def test_a_key_with_nul_is_refused_as_postgres_has_no_such_text():
    with pytest.raises(InvalidEvent, match="NUL"):
        build_event(delivered(), key="a\0b")


def test_a_message_may_have_exactly_the_largest_size():
    def of_size(size):
        message = message_with()
        overhead = len(type(message)(raw=bytes(size)).SerializeToString()) - size
        return type(message)(raw=bytes(size - overhead))

    assert len(build_event(of_size(MAX_MESSAGE_BYTES)).payload) == MAX_MESSAGE_BYTES
    with pytest.raises(InvalidEvent, match=r"4,194,305 bytes, more than the 4,194,304"):
        build_event(of_size(MAX_MESSAGE_BYTES + 1))


def test_the_source_is_the_argument_before_the_environment(monkeypatch):
    assert build_event(delivered()).source is None
    monkeypatch.setenv("WAYBILL_SOURCE", "shop")
    assert build_event(delivered()).source == "shop"
    assert build_event(delivered(), source="other").source == "other"


@pytest.mark.parametrize("source", ["two words", "ü", "a\nb", "x" * 256])
def test_a_source_that_cannot_be_a_header_is_refused(source):
    with pytest.raises(InvalidEvent, match="printable ASCII"):
        build_event(delivered(), source=source)


def span(trace_state=()):
    context = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1), trace_state=TraceState(trace_state))
    return trace.use_span(NonRecordingSpan(context))


def test_an_event_carries_the_trace_context_of_the_active_span():
    with span([("vendor", "value")]):
        event = build_event(delivered())
    assert event.traceparent == f"00-{0xABC:032x}-{0xDEF:016x}-01"
    assert event.tracestate == "vendor=value"


def test_an_event_outside_a_span_has_no_trace_context():
    event = build_event(delivered())
    assert (event.traceparent, event.tracestate) == (None, None)


def test_a_trace_state_too_long_for_the_table_is_left_out():
    with span([(f"vendor{i}", "v" * 200) for i in range(3)]):
        event = build_event(delivered())
    assert event.traceparent is not None
    assert event.tracestate is None


def test_saving_without_a_connection_says_that_django_is_not_set_up():
    import subprocess
    import sys

    from example_stubs import STUBS

    code = (
        "from logistics.v1 import events_pb2\nfrom waybill_outbox import build_event\n"
        "build_event(events_pb2.RouteAssignedEvent(route_id=1)).save()"
    )
    python = [sys.executable, "-c", code]
    ran = subprocess.run(python, env={"PYTHONPATH": str(STUBS)}, capture_output=True, text=True, check=False)
    assert "OutboxError: save() without a connection uses Django, which is not set up here" in ran.stderr


def test_saving_to_something_else_names_what_is_taken():
    with pytest.raises(TypeError, match="save\\(\\) takes a psycopg Connection, not object"):
        build_event(delivered()).save(object())
    with pytest.raises(TypeError, match="not both"):
        build_event(delivered()).save(object(), using="default")


def test_errors_of_the_sdk_have_one_base():
    assert issubclass(InvalidEvent, OutboxError)


@given(st.lists(st.sampled_from([0, 300, 5_000_000, STATEMENT_BYTES, STATEMENT_BYTES + 1]), max_size=12))
def test_many_events_are_cut_into_statements_in_order_and_without_a_loss(sizes):
    class Sized:
        def __init__(self, size):
            self.payload = range(size)

    events = [Sized(size) for size in sizes]
    cut = list(parts(events))
    assert [event for part in cut for event in part] == events
    assert all(part for part in cut)
    assert all(len(part) == 1 or sum(len(event.payload) for event in part) <= STATEMENT_BYTES for part in cut)


def test_a_statement_has_a_bounded_number_of_rows():
    event = build_event(delivered())
    assert [len(part) for part in parts([event] * (2 * STATEMENT_ROWS + 1))] == [STATEMENT_ROWS, STATEMENT_ROWS, 1]
