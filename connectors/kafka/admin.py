"""Kafka's topics as they are, and the steps of ``connectors.kafka.topics`` taken."""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from connectors.access import Access
from connectors.kafka.topics import Configure, Create, Existing, Grow, Keep, Leave, Step, Topic
from connectors.problems import Problem, Unreachable

#: Seconds until all brokers of a busy cluster show a new topic; only a broken one takes longer.
_SHOW_SECONDS = 60.0
_POLL_SECONDS = 0.05
_NO_ANSWER = {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN}


class Topics:
    """Topics of one Kafka cluster.

    Unreachable is raised when it does not answer for ``timeout`` seconds, Refused when it lets us not in.
    """

    def __init__(self, access: Access, timeout: float = 10.0) -> None:
        self._where, self._timeout = access, timeout
        self._connection = access.open(AdminClient)
        self._client = self._connection.client

    def missing(self, names: Iterable[str]) -> list[str]:
        """Which of these do not exist."""
        there = self._metadata()
        return [name for name in names if name not in there]

    def existing(self, names: Iterable[str]) -> dict[str, Existing]:
        there = self._metadata()
        wanted = [name for name in names if name in there]
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in wanted]
        answers = self._client.describe_configs(resources, request_timeout=self._timeout) if wanted else {}
        found = {}
        for resource, answer in answers.items():
            partitions = there[resource.name].partitions
            try:
                settings = {entry.name: entry.value for entry in self._answer(answer).values()}
            except KafkaException as error:
                raise Problem(f"Kafka refuses to describe {resource.name}: {error.args[0].str()}") from error
            found[resource.name] = Existing(len(partitions), len(partitions[0].replicas), settings)
        return found

    def carry_out(self, steps: Sequence[Step]) -> dict[str, str]:
        """Take the steps and wait until they show; what failed, by topic, with the reason."""
        failures = {step.topic.name: failure for step in steps if (failure := self._carry_out(step))}
        partitions = {
            step.topic.name: step.partitions
            for step in steps
            if isinstance(step, Create | Grow) and step.topic.name not in failures
        }
        self._wait_for(partitions)
        return failures

    def _wait_for(self, partitions: Mapping[str, int]) -> None:
        """Brokers learn from the controller a moment after it has answered; until then a topic seems to be missing."""
        deadline = time.monotonic() + _SHOW_SECONDS
        while True:
            there = self._metadata()
            if all(name in there and len(there[name].partitions) == count for name, count in partitions.items()):
                return
            if time.monotonic() > deadline:
                raise Unreachable(f"Kafka at {self._where} made topics, but its brokers do not show them; try again")
            time.sleep(_POLL_SECONDS)

    def _carry_out(self, step: Step) -> str | None:
        futures: Mapping[Any, Future[Any]]
        match step:
            case Create(Topic(name), partitions, replicas):
                new = NewTopic(name, partitions, replicas, config=step.settings)
                futures = self._client.create_topics([new], request_timeout=self._timeout)
            case Configure(Topic(name), changes):
                entries = [
                    ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                    for key, (_, value) in changes.items()
                ]
                resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
                futures = self._client.incremental_alter_configs([resource], request_timeout=self._timeout)
            case Grow(Topic(name), _, partitions):
                futures = self._client.create_partitions(
                    [NewPartitions(name, partitions)], request_timeout=self._timeout
                )
            case Leave() | Keep():
                return None
        return self._failure(*futures.values())

    def _failure(self, answer: Future[Any]) -> str | None:
        try:
            self._answer(answer)
        except KafkaException as error:
            problem: KafkaError = error.args[0]
            if problem.code() == KafkaError.TOPIC_ALREADY_EXISTS:  # somebody else just made it
                return None
            hint = (
                "; `--local` makes do with one broker"
                if problem.code() == KafkaError.INVALID_REPLICATION_FACTOR
                else ""
            )
            return f"{problem.str()}{hint}"
        return None

    def _metadata(self) -> dict[str, Any]:
        try:
            topics: dict[str, Any] = self._client.list_topics(timeout=self._timeout).topics
        except KafkaException as error:
            raise self._connection.problem(error) from error
        return {name: topic for name, topic in topics.items() if topic.error is None}

    def _answer(self, future: Future[Any]) -> Any:
        try:
            return future.result()
        except KafkaException as error:
            if error.args[0].code() in _NO_ANSWER:
                raise self._connection.problem(error) from error
            raise
