"""What happens in the demo, scene after scene.  Everything is done by commands that anybody could type."""

import sys
import time
from collections import Counter
from collections.abc import Callable

from connectors import settings
from examples.demo import evidence, place
from examples.demo.ledger import Facts, broken, not_shown, undelivered
from examples.demo.look import Watch
from examples.demo.processes import Processes
from examples.demo.scrape import Delivering
from examples.demo.view import View

WORKERS = ("billing", "notifications", "tracking", "replay", "lake")

TOURS, RATE = 100, 55
#: Saved events after which tracking is killed, and for how long, in seconds.
OUTAGE_AT, OUTAGE = 700, 15.0
#: Seconds until what is on its way must have arrived; longer than any pause between two attempts here.
PATIENCE = 60.0
#: Between two looks at all the evidence, which takes about one.
GATHER_SECONDS = 2.0
TICK_SECONDS = 0.2


class Story:
    """Runs the scenes.  ``addresses``: where the consumers listen."""

    def __init__(self, processes: Processes, view: View, watch: Watch, addresses: dict[str, str]) -> None:
        self._processes, self._view, self._watch, self._addresses = processes, view, watch, addresses
        self._told = settings.load()
        self._states: dict[str, str] = {}

    def run(self, metrics: dict[str, int]) -> tuple[Facts, tuple[str, ...]]:
        """The facts in the end and what is wrong with them.  Problem if something could not even be done.

        ``metrics``: where the workers serve theirs.
        """
        self.prepare(metrics)
        self.let_flow()
        self.take_tracking_down()
        self.bring_tracking_back()
        self.await_the_producer()
        self.mend_notifications()
        return self.count()

    # -- scenes

    def prepare(self, metrics: dict[str, int]) -> None:
        say = self._view.say
        say("The producer makes its tables (migrate); `waybill topics apply` makes the topics.")
        migrate = (sys.executable, "-m", "examples.producer", "migrate")
        self._processes.start("migrate", *migrate, ends=True, env=self._producer_env)
        self._run("topics-apply", place.WAYBILL, "topics", "apply", "--local")
        self._processes.wait("migrate", self._tick)
        say("Three consumers start, and a worker for each (`waybill worker NAME`), one for replays, one for the lake.")
        for consumer in place.CONSUMERS:
            self._start_consumer(consumer)
        for worker in WORKERS:
            port = {"WAYBILL_METRICS_PORT": str(metrics[worker])} if worker in metrics else {}
            self._processes.start(f"worker-{worker}", place.WAYBILL, "worker", worker, env=port)
        self._run("connector-apply", place.WAYBILL, "connector", "apply")
        self._until(self._watch.serving, PATIENCE)

    def let_flow(self) -> None:
        self._view.say(
            "The producer works: each transaction changes packages and saves an event, or rolls both back. "
            "notifications has two bugs: it rejects some events, and fails others at first."
        )
        self._processes.start(
            "producer",
            *(sys.executable, "-m", "examples.producer", "work"),
            *("--tours", str(TOURS), "--rate", str(RATE), "--rolled-back", str(place.ROLLED_BACK)),
            ends=True,
            env=self._producer_env,
        )
        self._until(lambda: self._watch.latest.saved >= OUTAGE_AT, PATIENCE)

    def take_tracking_down(self) -> None:
        self._view.say(f"kill -9 tracking, for {OUTAGE:.0f} s: its breaker opens, the others do not notice.")
        self._processes.kill("tracking")
        self._states["tracking"] = "killed"
        self._pass(OUTAGE)

    def bring_tracking_back(self) -> None:
        self._view.say("tracking is back: a probe finds out, the breaker closes, what has waited arrives.")
        self._start_consumer("tracking")
        self._until(lambda: self._tracking.breaker == "closed" and self._tracking.oldest < 1, PATIENCE)

    def await_the_producer(self) -> None:
        self._view.say("The producer goes on to its end; then all it saved has to arrive or to be a dead letter.")
        self._processes.wait("producer", self._tick)
        self._settle(lambda facts: not undelivered(facts))

    def mend_notifications(self) -> None:
        dead = Counter(each.consumer for each in self._gather().open_dead_letters)
        self._view.say(
            f"notifications rejected {dead['notifications']} events. Its mended version is deployed, then "
            "`waybill dlq replay notifications --yes` gives it, and nobody else, its dead letters again."
        )
        self._processes.stop("notifications")
        self._start_consumer("notifications", "--mended")
        printed = self._run("dlq-replay", place.WAYBILL, "dlq", "replay", "notifications", "--yes")
        self._view.say(f"The replay {printed.splitlines()[-1]}.")
        self._settle(lambda facts: not (undelivered(facts) or facts.open_dead_letters))

    def count(self) -> tuple[Facts, tuple[str, ...]]:
        self._view.say("Counting: the outbox table, the consumers' databases, the DLQ topics, the Parquet files.")
        facts = self._settle(lambda facts: not broken(facts))
        retried = self._watch.latest.consumers["notifications"].retried
        return facts, (*broken(facts), *not_shown(facts, breaker_openings=self._tracking.openings, retried=retried))

    # -- how it is done

    @property
    def _producer_env(self) -> dict[str, str]:
        return {"DATABASE_URL": self._told.outboxes["logistics"].database}

    @property
    def _tracking(self) -> Delivering:
        return self._watch.latest.consumers["tracking"]

    def _start_consumer(self, consumer: str, *options: str) -> None:
        inbox = str(place.INBOXES / f"{consumer}.sqlite")
        module = f"examples.consumers.{consumer}"
        self._processes.start(consumer, sys.executable, "-m", module, self._addresses[consumer], inbox, *options)
        self._states[consumer] = "mended" if options else "up"

    def _run(self, name: str, *argv: str, env: dict[str, str] | None = None) -> str:
        return self._processes.run(name, *argv, meanwhile=self._tick, env=env)

    def _gather(self) -> Facts:
        return evidence.gather(self._told, place.INBOXES, place.ROLLED_BACK)

    def _settle(self, settled: Callable[[Facts], bool]) -> Facts:
        """The facts as soon as they are ``settled``, or after PATIENCE as they are."""
        deadline = time.monotonic() + PATIENCE
        while not settled(facts := self._gather()) and time.monotonic() < deadline:
            self._pass(GATHER_SECONDS)
        return facts

    def _pass(self, seconds: float) -> None:
        self._until(lambda: False, seconds)

    def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Show what happens until the condition holds, at most so long: the ledger will tell what did not happen."""
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            self._tick()

    def _tick(self) -> None:
        self._processes.check()
        self._view.show(self._watch.look(), self._states)
        time.sleep(TICK_SECONDS)
