"""Kafka's topic ids: they tell one life of a topic from the next."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from connectors.access import Access
from connectors.problems import Problem, Unreachable

#: Seconds.
TIMEOUT = 10.0

#: librdkafka writes ids in the other base64 alphabet than Kafka's own tools, one with `/`.
_AS_KAFKA_WRITES = str.maketrans("+/", "-_")

#: The id of each topic, or why it has none.  Raises Unreachable.
Identify = Callable[[Collection[str]], Mapping[str, str | Problem]]


class TopicIds:
    """Asks Kafka each time.  No id is used twice: what was read before an answer is of that life or an older one."""

    def __init__(self, access: Access) -> None:
        self._connection = access.open(AdminClient)

    def __call__(self, topics: Collection[str]) -> dict[str, str]:
        """Ids of topics, as Kafka's own tools show them.  Raises Unreachable, or Problem for one that has none."""
        found = {}
        for topic, life in self.lives(topics).items():
            if isinstance(life, Problem):
                raise life
            found[topic] = life
        return found

    def lives(self, topics: Collection[str]) -> dict[str, str | Problem]:
        """The same, without letting one topic hide the others: the Problem stands in the place of its id."""
        if not topics:
            return {}
        answers = self._connection.client.describe_topics(TopicCollection(list(topics)), request_timeout=TIMEOUT)
        return {topic: self._life(topic, answer) for topic, answer in answers.items()}

    def _life(self, topic: str, answer: Any) -> str | Problem:
        try:
            return str(answer.result(TIMEOUT + 1.0).topic_id).translate(_AS_KAFKA_WRITES)
        except KafkaException as error:
            match error.args[0].code():
                case KafkaError.UNKNOWN_TOPIC_OR_PART:
                    return Problem(f"the topic {topic} does not exist (any more); `waybill topics apply` creates it")
                case KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    return Problem(f"Kafka does not let the lake see the topic {topic}; give its user the right to")
            raise self._connection.problem(error) from error
        except TimeoutError as error:  # this process was stopped for longer than Kafka may take
            raise Unreachable(f"Kafka did not say in time which topic {topic} is; asked again") from error
