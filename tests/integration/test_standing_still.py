"""Workers that stand still, and workers that only seem to, on a real broker."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from confluent_kafka.admin import AdminClient
from engine import Engine, free_port, health, wait_until

PATIENCE = 8.0


@dataclass
class Watched:
    """A worker that is watched."""

    engine: Engine

    def __post_init__(self) -> None:
        self.port, self.answers = free_port(), set()
        self.process = self.engine.worker(
            STALL_TIMEOUT=str(PATIENCE), MAX_POLL_INTERVAL="3", METRICS_PORT=str(self.port)
        )

    def ended(self) -> bool:
        self.answers.add(self.live()[0])
        return self.process.poll() is not None

    def live(self) -> tuple[int, dict]:
        """Status of /livez, and what it tells of the worker."""
        status, body = health(self.port, "/livez")
        return status, body.get("parts", {}).get(self.engine.group, {})


@pytest.fixture(scope="module")
def engines(stack: object, admin: AdminClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Engine]]:
    """What each has to do: an agent that stops for ever; a handler that holds the event loop; a consumer that is down,
    beside a partition that is held; one partition for two.
    """
    folder = tmp_path_factory.mktemp("engines")
    found = {
        name: Engine(stack.kafka, admin, folder, partitions=1 if name == "two" else 4)
        for name in ("stuck", "blocked", "waiting", "two")
    }
    found["stuck"].produce(4, value=b"stall")
    found["blocked"].produce(1, value=b"block")
    found["waiting"].produce(4, value=b"wait")
    found["waiting"].produce(10, partition=3)
    found["waiting"].remove(3, 5)
    found["waiting"].commit({3: 1})
    found["two"].produce(1, value=b"wait")
    yield found
    for engine in found.values():
        engine.close()


@pytest.fixture(scope="module")
def workers(engines: dict[str, Engine]) -> dict[str, Watched]:
    """All at once: they have the same time to show what they do."""
    return {name: Watched(engines[name.split()[0]]) for name in ("stuck", "blocked", "waiting", "two", "two again")}


def test_a_worker_that_stands_still_ends_itself_with_its_stacks_in_the_log(
    engines: dict[str, Engine], workers: dict[str, Watched]
) -> None:
    stuck, blocked = workers["stuck"], workers["blocked"]
    wait_until(lambda: all([stuck.ended(), blocked.ended()]), 90, "both end")
    for worker in (stuck, blocked):
        assert worker.process.returncode == 1
        assert {200, 503} <= worker.answers, "the end is announced"
        assert "the worker stands still and ends itself" in worker.engine.said()
    assert "in count" in engines["stuck"].said(), "the stack of the task"
    assert "the event loop has not run" in engines["blocked"].said()
    assert "in work" in engines["blocked"].said(), "the stack of the thread"


def test_a_worker_that_only_waits_and_one_with_a_held_partition_live_on(
    workers: dict[str, Watched],
) -> None:
    waiting = workers["waiting"]
    waiting.engine.wait(lambda: waiting.live()[1].get("held"))
    threading.Event().wait(PATIENCE / 2)
    status, told = waiting.live()
    assert (status, told["reasons"], waiting.process.poll()) == (200, [], None)
    assert any("wait for their next try" in reason for reason in told["waits"])
    waiting.engine.go()
    waiting.engine.wait(lambda: len(waiting.engine.seen()) == 3)


def test_a_worker_without_partitions_is_ready_and_takes_over_however_long_it_was_idle(
    engines: dict[str, Engine], workers: dict[str, Watched]
) -> None:
    """By now aiokafka would have left the group, had it taken the worker for dead: it does after 3 s."""
    both = [workers["two"], workers["two again"]]
    engines["two"].wait(lambda: sorted(each.live()[1].get("partitions", -1) for each in both) == [0, 1])
    assert [each.process.poll() for each in both] == [None, None]
    assert [health(each.port, "/readyz")[0] for each in both] == [200, 200]
    idle, busy = sorted(both, key=lambda each: each.live()[1]["partitions"])
    busy.process.terminate()
    engines["two"].wait(lambda: idle.live()[1].get("partitions") == 1)
    engines["two"].go()
    engines["two"].wait(lambda: engines["two"].lag() == 0)
