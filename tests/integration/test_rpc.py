"""The channel against a real gRPC server in a process of its own."""

import asyncio
import signal
import socket
import time

import grpc
import pytest
from consumer_process import ConsumerProcess

from connectors.reply import TEXT_LIMIT, Reach, Reply, cut
from connectors.rpc import REPLY_LIMIT, Channel
from pipelines.events import METADATA_LIMIT

PATH = "/moody.Service/Do"


@pytest.fixture(scope="module")
def consumer():
    with ConsumerProcess() as running:
        yield running


def talk(port, *orders, timeout=5.0, metadata=(), path=PATH):
    """Replies to some calls, one after the other, on one channel."""

    async def run():
        channel = Channel("127.0.0.1", port)
        try:
            return [await channel.call(path, order, metadata, timeout) for order in orders]
        finally:
            await channel.close()

    return asyncio.run(run())


def test_every_status_comes_back_by_name_with_its_text(consumer):
    names = [code.name for code in grpc.StatusCode if code.name != "OK"]
    replies = talk(consumer.port, b"OK", *(f"{name}:because".encode() for name in names))
    assert replies[0] == Reply("OK")
    reached = {"DEADLINE_EXCEEDED": Reach.SILENT}
    assert replies[1:] == [Reply(name, "because", (), reached.get(name, Reach.ANSWERED)) for name in names]


def test_trailers_come_back_with_any_status(consumer):
    replies = talk(consumer.port, b"OK!done", b"UNKNOWN!reject")
    assert [(reply.status, reply.trailer("waybill-action")) for reply in replies] == [
        ("OK", "done"),
        ("UNKNOWN", "reject"),
    ]


def test_metadata_arrives_as_it_was_given(consumer):
    metadata = (("ce-id", "7"), ("traceparent", "00-ab-cd-01"), ("waybill-attempt", "3"))
    (reply,) = talk(consumer.port, b"echo", metadata=metadata)
    assert reply.message == repr(sorted(metadata))


def test_a_method_the_consumer_does_not_have_is_unimplemented(consumer):
    (reply,) = talk(consumer.port, b"OK", path="/moody.Service/Missing")
    assert (reply.status, reply.reach) == ("UNIMPLEMENTED", Reach.ANSWERED)


def test_no_answer_before_the_deadline_is_silence(consumer):
    started = time.monotonic()
    (reply,) = talk(consumer.port, b"hang", timeout=0.2)
    assert (reply.status, reply.reach) == ("DEADLINE_EXCEEDED", Reach.SILENT)
    assert time.monotonic() - started < 2


def test_a_long_text_is_cut(consumer):
    (reply,) = talk(consumer.port, b"UNKNOWN:" + b"x" * 5000)
    assert reply.message == "x" * TEXT_LIMIT


def test_a_cut_never_splits_a_character():
    assert cut("é" * 1000) == "é" * (TEXT_LIMIT // 2)
    assert cut("\udcff") == "\\udcff"


def test_an_answer_over_the_limit_is_an_error_of_the_consumer_not_a_lack_of_resources(consumer):
    fits, too_long = talk(consumer.port, f"big:{REPLY_LIMIT}".encode(), f"big:{REPLY_LIMIT + 1}".encode())
    assert (fits.status, len(fits.body)) == ("OK", REPLY_LIMIT)
    assert (too_long.status, too_long.body) == ("INTERNAL", b"")
    assert str(REPLY_LIMIT) in too_long.message


@pytest.mark.parametrize("value", ["é", "two\nlines"])
def test_metadata_that_grpc_cannot_send_is_an_invalid_argument_and_harms_no_other_call(consumer, value):
    async def run():
        channel = Channel("127.0.0.1", consumer.port)
        bad = await channel.call(PATH, b"OK", (("ce-source", value),), 5.0)
        good = await channel.call(PATH, b"OK", (("ce-source", "x"),), 5.0)
        await channel.close()
        return bad, good

    bad, good = asyncio.run(run())
    assert bad.status == "INVALID_ARGUMENT"
    assert "ce-source" in bad.message
    assert good == Reply("OK")


def test_as_much_metadata_as_an_event_may_have_is_never_refused(consumer):
    most = (("ce-id", "i" * METADATA_LIMIT), ("waybill-attempt", "1"))
    assert {reply.status for reply in talk(consumer.port, *[b"OK"] * 50, metadata=most)} == {"OK"}
    more = (("ce-id", "i" * 4 * METADATA_LIMIT),)
    replies = talk(consumer.port, *[b"OK"] * 50, metadata=more)
    assert "RESOURCE_EXHAUSTED" in {reply.status for reply in replies}, "what the limit is there for"


def test_a_payload_over_grpcs_usual_limit_is_sent_and_the_consumer_decides(consumer):
    (reply,) = talk(consumer.port, b"x" * (5 << 20))
    assert (reply.status, reply.reach) == ("RESOURCE_EXHAUSTED", Reach.ANSWERED)


def test_a_connection_that_breaks_while_a_call_is_in_flight_is_lost_and_a_refused_one_is_unsent():
    async def run():
        with ConsumerProcess() as running:
            channel = Channel("127.0.0.1", running.port)
            assert await channel.ready(5.0)
            lost = await channel.call(PATH, b"die", (), 5.0)
            running.wait()
            refused = await channel.call(PATH, b"OK", (), 5.0)
            while refused.reach is Reach.LOST:  # the socket's end may take a moment to be noticed
                refused = await channel.call(PATH, b"OK", (), 5.0)
            not_ready = await channel.ready(0.05)
            running.restart()
            ready = await channel.ready(5.0)
            back = await channel.call(PATH, b"OK", (), 5.0)
            await channel.close()
            return lost, refused, not_ready, ready, back

    lost, refused, not_ready, ready, back = asyncio.run(run())
    assert (lost.status, lost.reach) == ("UNAVAILABLE", Reach.LOST)
    assert (refused.status, refused.reach) == ("UNAVAILABLE", Reach.UNSENT)
    assert (not_ready, ready, back) == (False, True, Reply("OK"))


def test_a_host_nobody_knows_is_unsent():
    async def run():
        channel = Channel("no-such-host.invalid", 1)
        reply = await channel.call(PATH, b"OK", (), 5.0)
        await channel.close()
        return reply

    assert asyncio.run(run()).reach is Reach.UNSENT


def test_a_port_that_accepts_and_says_nothing_is_unsent():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (reply,) = talk(silent.getsockname()[1], b"OK", timeout=0.3)
    assert (reply.status, reply.reach) == ("UNAVAILABLE", Reach.UNSENT)
    assert "0.3 s" in reply.message


def test_a_consumer_that_vanished_without_a_word_is_noticed_and_found_again():
    async def run():
        with ConsumerProcess() as running:
            pings = (("grpc.keepalive_time_ms", 300), ("grpc.http2.ping_timeout_ms", 1_000))
            channel = Channel("127.0.0.1", running.port, pings)
            first = await channel.call(PATH, b"OK", (), 5.0)
            running.process.send_signal(signal.SIGSTOP)
            lost = await channel.call(PATH, b"OK", (), 10.0)
            running.process.send_signal(signal.SIGCONT)
            again = await channel.ready(10.0) and await channel.call(PATH, b"OK", (), 5.0)
            await channel.close()
        return first, lost, again

    first, lost, again = asyncio.run(run())
    assert first == again == Reply("OK")
    assert lost.reach is Reach.LOST
    assert "ping" in lost.message


def test_an_ipv6_address_is_put_in_brackets():
    assert Channel("::1", 5).target == "[::1]:5"
    assert Channel("service-a", 5).target == "service-a:5"
