"""Kafka's topic ids: they tell one life of a topic from the next."""

from collections.abc import Callable, Collection
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from connectors.access import Access
from connectors.problems import Problem, Unreachable

#: Seconds.
TIMEOUT = 10.0

#: librdkafka writes ids in the other base64 alphabet than Kafka's own tools, one with `/`.
_AS_KAFKA_WRITES = str.maketrans("+/", "-_")

#: Ids of topics, as Kafka's own tools show them.  Raises Unreachable, or Problem for a topic that does not exist.
Identify = Callable[[Collection[str]], dict[str, str]]


class TopicIds:
    """Asks Kafka each time.  No id is used twice: what was read before an answer is of that life or an older one."""

    def __init__(self, access: Access) -> None:
        self._connection = access.open(AdminClient)

    def __call__(self, topics: Collection[str]) -> dict[str, str]:
        if not topics:
            return {}
        answers = self._connection.client.describe_topics(TopicCollection(list(topics)), request_timeout=TIMEOUT)
        return {topic: self._id(topic, answer) for topic, answer in answers.items()}

    def _id(self, topic: str, answer: Any) -> str:
        try:
            return str(answer.result(TIMEOUT + 1.0).topic_id).translate(_AS_KAFKA_WRITES)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise Problem(
                    f"the topic {topic} does not exist (any more); `waybill topics apply` creates it"
                ) from error
            raise self._connection.problem(error) from error
        except TimeoutError as error:  # this process was stopped for longer than Kafka may take
            raise Unreachable(f"Kafka did not say in time which topic {topic} is; asked again") from error
