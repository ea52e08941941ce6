"""The Caller against a real gRPC server in a process of its own."""

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from random import Random

import pytest
from consumer_process import ConsumerProcess
from prometheus_client import REGISTRY

from connectors.rpc import Channel
from pipelines.breaker import State
from pipelines.caller import Caller, Kind, never
from pipelines.config import Consumer
from pipelines.outcome import CutOff, Delivered, Rejected, Retryable
from pipelines.routing import Endpoint

A, B = Endpoint("moody.Service/A", "/moody.Service/A"), Endpoint("moody.Service/B", "/moody.Service/B")
METADATA = (("ce-id", "7"), ("waybill-attempt", "1"))


def is_open(caller: Caller) -> bool:
    """Whether the consumer's breaker keeps somebody waiting."""
    return caller._admission.breaker.state is not State.CLOSED and caller._admission.waiting > 0


def holds(caller: Caller, endpoint: Endpoint) -> bool:
    """Whether the endpoint's breaker would keep an attempt waiting."""
    return endpoint.name in caller._bound and caller._bound[endpoint.name][0].holds


@pytest.fixture(scope="module")
def consumer():
    with ConsumerProcess() as running:
        yield running


@asynccontextmanager
async def calling(port, **settings):
    breaker = {"probe-interval": settings.pop("probe_interval", 0.3)} | settings.pop("breaker", {})
    told = Consumer.model_validate(
        {
            "name": settings.pop("name", "moody"),
            "grpc-server-hostname": "127.0.0.1",
            "grpc-server-port": port,
            "retry-topic": "moody_retry",
            "dlq-topic": "moody_dlq",
            "distribution": ({"topic": "moods", "services": ("A",)},),
            "breaker": breaker,
            **{key.replace("_", "-"): value for key, value in settings.items()},
        },
        by_alias=True,
    )
    caller = Caller(told, Random(1))
    try:
        yield caller
    finally:
        await caller.close()


async def set_mood(port, mood):
    channel = Channel("127.0.0.1", port)
    assert (await channel.call("/moody.Mood/Set", mood, (), 5.0)).status == "OK"
    await channel.close()


async def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        await asyncio.sleep(0.005)


def attempts(caller, count, order=b"mood", endpoint=A, **how):
    return [
        asyncio.ensure_future(caller.attempt(endpoint, f"{endpoint.name} {number}", order, METADATA, **how))
        for number in range(count)
    ]


async def deliver(caller, event, order=b"mood", endpoint=A):
    """Attempt again until something other than a retryable outcome; the attempts it took."""
    spent = 1
    while isinstance(outcome := await caller.attempt(endpoint, event, order, METADATA), Retryable):
        spent += 1
    assert outcome == Delivered()
    return spent


def metric(name, **labels):
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_outcomes_follow_status_and_trailer(consumer):
    async def run():
        async with calling(consumer.port) as caller:
            orders = [b"OK", b"ALREADY_EXISTS:x", b"NOT_FOUND:gone", b"UNKNOWN:odd", b"UNAVAILABLE!done", b"OK!reject"]
            return [await caller.attempt(A, str(order), order, METADATA) for order in orders]

    match asyncio.run(run()):
        case [
            Delivered(),
            Delivered(),
            Rejected("NOT_FOUND", "gone"),
            Retryable("UNKNOWN", "odd"),
            Delivered(),
            Rejected("OK", ""),
        ]:
            pass
        case other:
            pytest.fail(repr(other))


def test_each_call_has_a_deadline(consumer):
    async def run():
        async with calling(consumer.port, timeout=0.2) as caller:
            return await caller.attempt(A, "1", b"hang", METADATA)

    outcome = asyncio.run(run())
    assert isinstance(outcome, Retryable)
    assert outcome.status == "DEADLINE_EXCEEDED"


def test_a_consumer_that_is_down_costs_no_attempt_and_is_found_when_it_is_back():
    async def run():
        with ConsumerProcess() as running:
            running.kill()
            async with calling(running.port, probe_interval=5.0) as caller:
                waiting = attempts(caller, 50, b"OK")
                await until(lambda: is_open(caller))
                done, _ = await asyncio.wait(waiting, timeout=0.5)
                assert not done
                running.restart()
                back = time.monotonic()
                outcomes = await asyncio.gather(*waiting)
                return outcomes, time.monotonic() - back, not is_open(caller)

    outcomes, seconds, open_again = asyncio.run(run())
    assert Counter(map(type, outcomes)) == {Delivered: 50}
    assert seconds < 5
    assert open_again


def test_a_consumer_killed_and_restarted_under_load_gets_everything():
    async def run():
        with ConsumerProcess() as running:
            async with calling(running.port) as caller:
                work = [asyncio.ensure_future(deliver(caller, str(n), b"OK")) for n in range(1500)]
                for share in (0.2, 0.6):
                    await until(lambda share=share: sum(w.done() for w in work) > share * len(work))
                    running.kill()
                    await until(lambda: is_open(caller))
                    running.restart()
                return await asyncio.gather(*work)

    assert max(asyncio.run(run())) <= 3


@asynccontextmanager
async def supervised(running):
    """Restart the consumer whenever it dies."""

    async def restart():
        while True:
            await until(lambda: running.process.poll() is not None, 60)
            running.wait()
            running.restart()

    supervisor = asyncio.ensure_future(restart())
    try:
        yield
    finally:
        supervisor.cancel()
        await asyncio.wait([supervisor])


async def kill(caller):
    """Attempt until the killer is taken for one; the attempts it took."""
    spent = 1
    while (outcome := await caller.attempt(A, "killer", b"die", METADATA)).in_memory:
        spent += 1
    return spent, outcome


def test_an_event_that_kills_its_consumer_again_and_again_is_taken_for_the_cause():
    async def run():
        with ConsumerProcess() as running:
            async with supervised(running), calling(running.port, probe_interval=0.05) as caller:
                return await kill(caller)

    spent, outcome = asyncio.run(run())
    assert outcome.status == "UNAVAILABLE"
    assert "3 openings" in outcome.message
    assert spent <= 5


def test_an_event_that_kills_its_consumer_holds_nobody():
    async def run():
        with ConsumerProcess() as running:
            async with supervised(running), calling(running.port, max_in_flight=8, probe_interval=0.05) as caller:
                killer = asyncio.ensure_future(kill(caller))
                spent = await asyncio.gather(*(deliver(caller, str(n), b"OK") for n in range(100)))
                killer.cancel()
                await asyncio.wait([killer])
                return spent

    assert max(asyncio.run(run())) <= 6


def test_a_failing_endpoint_holds_its_own_deliveries_and_nobody_elses(consumer):
    async def run():
        await set_mood(consumer.port, b"UNKNOWN:broken")
        async with calling(consumer.port) as caller:
            held = [asyncio.ensure_future(deliver(caller, str(n))) for n in range(30)]
            await until(lambda: holds(caller, A))
            assert not is_open(caller)
            assert not holds(caller, B)
            assert await caller.attempt(A, "passing by", b"mood", METADATA, waits=never) == CutOff()
            others = await asyncio.gather(*attempts(caller, 200, b"OK", B))
            assert not any(delivery.done() for delivery in held)
            await set_mood(consumer.port, b"OK")
            spent = await asyncio.gather(*held)
            return others, spent, holds(caller, A)

    others, spent, still_held = asyncio.run(run())
    assert Counter(map(type, others)) == {Delivered: 200}
    assert sum(spent) - len(spent) < 20
    assert not still_held


def test_those_who_do_not_wait_step_aside_when_their_endpoints_breaker_opens(consumer):
    async def run():
        await set_mood(consumer.port, b"UNKNOWN:broken")
        async with calling(consumer.port, max_in_flight=2, probe_interval=5.0) as caller:
            return await asyncio.gather(*attempts(caller, 60, waits=never))

    assert Counter(map(type, asyncio.run(run()))) == {Retryable: 19, CutOff: 41}


def test_who_waits_for_an_endpoints_breaker_may_be_asked_whether_it_still_does(consumer):
    async def run():
        await set_mood(consumer.port, b"UNKNOWN:broken")
        async with calling(consumer.port, probe_interval=5.0) as caller:
            patient = True
            held = attempts(caller, 30, waits=lambda: patient)
            await until(lambda: caller.waiting >= 10)
            caller.ask_again()
            assert caller.waiting >= 10
            patient = False
            caller.ask_again()
            return await asyncio.gather(*held)

    assert Counter(map(type, asyncio.run(run()))) == {Retryable: 19, CutOff: 11}


def test_an_endpoint_that_hangs_is_held_too(consumer):
    async def run():
        async with calling(consumer.port, timeout=0.1, breaker={"window": 5}) as caller:
            hanging = attempts(caller, 10, b"hang")
            await until(lambda: holds(caller, A))
            others = await asyncio.gather(*attempts(caller, 20, b"OK", B))
            caller.drain(Kind.FRESH)
            return others, await asyncio.gather(*hanging)

    others, hanging = asyncio.run(run())
    assert Counter(map(type, others)) == {Delivered: 20}
    assert Counter(map(type, hanging)) == {Retryable: 4, CutOff: 6}


def test_a_busy_consumer_is_called_less_and_no_breaker_opens(consumer):
    async def run():
        await set_mood(consumer.port, b"busy:4")
        async with calling(consumer.port, max_in_flight=64) as caller:
            work = [asyncio.ensure_future(deliver(caller, str(n))) for n in range(600)]
            spent = await asyncio.gather(*work)
            return sum(spent), metric("waybill_breaker_openings_total", consumer="moody", endpoint=A.name)

    before = metric("waybill_breaker_openings_total", consumer="moody", endpoint=A.name)
    spent, openings = asyncio.run(run())
    assert 600 < spent < 900
    assert openings == before


def test_a_drain_lets_go_of_those_who_wait_while_running_calls_finish(consumer):
    async def run():
        async with calling(consumer.port, timeout=1.0, max_in_flight=1) as caller:
            running = attempts(caller, 1, b"busy:1")[0]
            await asyncio.sleep(0)  # it takes the only place
            waiting = attempts(caller, 5, b"OK")
            retry = attempts(caller, 1, b"OK", kind=Kind.RETRY)[0]
            await asyncio.sleep(0)
            caller.drain(Kind.FRESH)
            drained = await asyncio.gather(*waiting)
            late = await caller.attempt(A, "late", b"OK", METADATA)
            rest = await running, await retry
            caller.resume(Kind.FRESH)
            return drained, late, rest, await caller.attempt(A, "again", b"OK", METADATA)

    drained, late, rest, again = asyncio.run(run())
    assert drained == [CutOff(drained=True)] * 5
    assert late == CutOff(drained=True)
    assert rest == (Delivered(), Delivered())
    assert again == Delivered()


def test_a_drain_ends_the_wait_at_an_open_breaker_and_intake_goes_on():
    async def run():
        with ConsumerProcess() as running:
            running.kill()
            async with calling(running.port) as caller:
                waiting = attempts(caller, 5, b"OK")
                await until(lambda: is_open(caller))
                caller.drain(Kind.FRESH)
                drained = await asyncio.gather(*waiting)
                caller.resume(Kind.FRESH)
                running.restart()
                return drained, await caller.attempt(A, "probe", b"OK", METADATA)

    drained, probe = asyncio.run(run())
    assert drained == [CutOff(drained=True)] * 5
    assert probe == Delivered()


def test_cancelled_attempts_leave_their_places(consumer):
    async def run():
        async with calling(consumer.port, max_in_flight=2) as caller:
            running = attempts(caller, 2, b"hang")
            await asyncio.sleep(0)
            waiting = attempts(caller, 3, b"OK")
            await asyncio.sleep(0)
            for task in (waiting[0], running[0]):
                task.cancel()
            await asyncio.wait([waiting[0], running[0]])
            rest = await asyncio.gather(*waiting[1:])
            running[1].cancel()
            await asyncio.wait([running[1]])
            return rest, await asyncio.gather(*attempts(caller, 2, b"OK"))

    assert asyncio.run(run()) == ([Delivered()] * 2, [Delivered()] * 2)


def test_a_cancelled_probe_makes_room_for_the_next(consumer):
    async def run():
        await set_mood(consumer.port, b"UNAVAILABLE:not yet")
        async with calling(consumer.port, breaker={"transport-failures": 1}, timeout=30.0) as caller:
            breaker = caller._admission.breaker
            (hung,) = attempts(caller, 1, b"hang")
            waiting = attempts(caller, 1)
            await until(lambda: breaker.state is State.OPEN)
            waiting[0].cancel()
            probe = attempts(caller, 1, b"hang")[0]
            await until(lambda: breaker.state is State.HALF_OPEN)
            probe.cancel()
            next_probe = await caller.attempt(A, "next", b"OK", METADATA)
            hung.cancel()
            await asyncio.wait([hung, probe, *waiting])
            return next_probe

    assert asyncio.run(run()) == Delivered()


def test_who_passes_by_and_does_not_wait_may_be_the_probe(consumer):
    async def run():
        await set_mood(consumer.port, b"UNKNOWN:broken")
        async with calling(consumer.port, breaker={"window": 1, "distinct-events": 1}) as caller:
            answers = [await caller.attempt(A, "1", b"mood", METADATA, waits=never)]
            await set_mood(consumer.port, b"OK")
            deadline = time.monotonic() + 5
            while answers[-1] == CutOff() and time.monotonic() < deadline:
                answers.append(await caller.attempt(A, "1", b"mood", METADATA, waits=never))
                await asyncio.sleep(0)
            return answers

    answers = asyncio.run(run())
    assert set(answers[:-1]) == {CutOff()}
    assert answers[-1] == Delivered()


def test_closing_waits_for_calls_that_run(consumer):
    async def run():
        async with calling(consumer.port) as caller:
            running = attempts(caller, 5, b"busy:5")
            await asyncio.sleep(0)
        return await asyncio.gather(*running)

    assert asyncio.run(run()) == [Delivered()] * 5


def test_attempts_are_counted_and_timed(consumer):
    async def run():
        async with calling(consumer.port, name="counted") as caller:
            for order in (b"OK", b"OK", b"NOT_FOUND:x", b"UNKNOWN:x"):
                await caller.attempt(A, "1", order, METADATA)

    asyncio.run(run())
    labels = {"consumer": "counted", "endpoint": A.name}
    assert metric("waybill_attempts_total", outcome="delivered", status="OK", **labels) == 2
    assert metric("waybill_attempts_total", outcome="rejected", status="NOT_FOUND", **labels) == 1
    assert metric("waybill_attempts_total", outcome="retryable", status="UNKNOWN", **labels) == 1
    assert metric("waybill_attempt_seconds_count", **labels) == 4
    assert metric("waybill_in_flight", consumer="counted", kind="fresh") == 0
    assert metric("waybill_breaker_state", consumer="counted", endpoint="") == State.CLOSED


def test_a_spent_delivery_needs_a_token_to_become_a_dead_letter(consumer):
    async def run():
        async with calling(consumer.port) as caller:
            at_first = [caller.take_dlq_token(A.name) for _ in range(2)]
            await asyncio.gather(*attempts(caller, 2, b"OK"))
            return at_first + [caller.take_dlq_token(A.name) for _ in range(3)]

    assert asyncio.run(run()) == [True, False, True, True, False]
