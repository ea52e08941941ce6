"""Headers of retry and DLQ records: read back as written, whatever the event carried."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import events, handover
from pipelines.handover import HandOver, MalformedError

header = st.tuples(
    st.text(max_size=12) | st.sampled_from(["ce_id", "ce_type", "waybill_endpoint"]), st.none() | st.binary(max_size=20)
)
headers = st.lists(header, max_size=6)
numbers = st.integers(0, 2**63)
handovers = st.builds(
    HandOver,
    consumer=st.text(min_size=1),
    endpoint=st.text(min_size=1),
    topic=st.text(min_size=1),
    partition=numbers,
    offset=numbers,
    generation=numbers,
    attempts=numbers,
    status=st.text(),
    error=st.text(),
)


@dataclass
class Record:
    headers: tuple
    topic: str = "package_delivered"
    partition: int = 3
    offset: int = 42
    key: bytes | None = b"k"
    value: bytes | None = b""


def is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@given(headers, handovers)
def test_a_hand_over_is_read_back_as_it_was_written(original: list, given_one: HandOver) -> None:
    event = events.read(Record(tuple(original)), "t")
    written = handover.headers(original, event.id, given_one)
    read = handover.parse(written)
    expected = replace(
        given_one,
        **{
            f: getattr(given_one, f).encode(errors="backslashreplace").decode()
            for f in ("consumer", "endpoint", "topic", "status", "error")
        },
    )
    assert read == expected


@given(headers, handovers)
def test_the_events_own_headers_survive_a_hand_over(original: list, given_one: HandOver) -> None:
    written = handover.headers(original, "the-id", given_one)
    ours = {handover.FORMAT_HEADER, *(handover.PREFIX + f for f in handover.FIELDS)}
    kept = [h for h in original if h[0] not in ours and h[0] != "ce_id"]
    assert [h for h in written if h[0] not in ours and h[0] != "ce_id"] == kept


@given(headers)
def test_the_id_of_an_event_is_the_same_after_any_number_of_hand_overs(original: list) -> None:
    event = events.read(Record(tuple(original)), "t")
    again = event
    for offset in (7, 8):
        written = handover.headers(again.headers, again.id, handover.start("c", "e", event))
        again = events.read(Record(tuple(written), topic="retry", offset=offset), "t")
        assert again.id == event.id


def test_a_record_without_headers_is_known_by_where_it_lies() -> None:
    assert events.read(Record(()), "logistics.v1.E").id == "package_delivered/3/42"


@pytest.mark.parametrize("field", handover.FIELDS)
def test_a_missing_header_is_named(field: str) -> None:
    written = handover.headers((), "id", HandOver("c", "e", "t", 0, 0))
    with pytest.raises(MalformedError, match=f"no header waybill_{field}"):
        handover.parse([h for h in written if h[0] != f"waybill_{field}"])


@pytest.mark.parametrize("bad", [b"", b"-1", b"1.5", b"x", b"9" * 20, b"9" * 5000, "\u0663".encode()])
def test_a_number_that_is_none_is_named(bad: bytes) -> None:
    written = [h for h in handover.headers((), "id", HandOver("c", "e", "t", 0, 0)) if h[0] != "waybill_offset"]
    with pytest.raises(MalformedError, match="waybill_offset is no number"):
        handover.parse([*written, ("waybill_offset", bad)])


def test_a_header_of_ours_that_is_too_long_is_named_and_the_longest_error_is_not() -> None:
    longest = HandOver("c", "e", "t", 0, 0).failed("INTERNAL", "\udcff" * 5000, 0.0)
    handover.parse(handover.headers((), "id", longest))
    with pytest.raises(MalformedError, match="waybill_endpoint is longer than"):
        handover.parse(handover.headers((), "id", replace(longest, endpoint="e" * 20_000)))


def test_error_texts_are_cut() -> None:
    failed = HandOver("c", "e", "t", 0, 0).failed("INTERNAL", "x" * 5000, 0.0)
    assert len(failed.error) == handover.ERROR_LIMIT
    assert failed.first_failed_at == "1970-01-01T00:00:00.000+00:00"


@given(st.text())
def test_metadata_values_are_printable_ascii(value: str) -> None:
    shown = events.printable(value.encode(errors="backslashreplace").decode())
    assert shown.isascii()
    assert shown.isprintable()


def test_each_reason_to_refuse_an_event_is_named() -> None:
    event = events.read(Record(((("ce_type", b"a.B")),)), "a.B")
    assert events.refusal(event, "a.B", 10) is None
    assert events.refusal(event, "a.C", 10) == "unexpected type: 'a.B' on a topic of a.C"
    assert events.refusal(event._replace(value=None), "a.B", 10) == "no payload: the record's value is null"
    assert events.refusal(event._replace(value=b"x" * 11), "a.B", 10) == "too large: 11 bytes, max-message-bytes is 10"
    assert events.refusal(event._replace(value=b"x" * 10), "a.B", 10) is None


def test_metadata_that_a_call_cannot_carry_is_refused_and_trace_context_is_left_out_before_that() -> None:
    def read(**headers: str) -> events.Event:
        return events.read(Record((*((name, value.encode()) for name, value in headers.items()),)), "a.B")

    room = events.METADATA_LIMIT - len("a.B")
    fits = read(ce_id="i" * room)
    assert events.refusal(fits, "a.B", 10) is None
    traced = read(ce_id="i" * room, traceparent="00-1", tracestate="a=1")
    assert traced.metadata == fits.metadata
    assert events.refusal(traced, "a.B", 10) is None
    assert dict(read(ce_id="i", tracestate="a=1").metadata)["tracestate"] == "a=1"
    told = "too much metadata: 4097 characters, most of them in ce-id; a call carries 4096"
    assert events.refusal(read(ce_id="i" * (room + 1)), "a.B", 10) == told
    assert "in ce-source" in str(events.refusal(read(ce_id="i", ce_source="\xe9" * room), "a.B", 10))
