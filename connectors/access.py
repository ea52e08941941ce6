"""How Kafka is reached, and what its refusals mean: every client is opened with an ``Access``."""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from confluent_kafka import KafkaError, KafkaException, Message

from connectors.problems import Refused, Unreachable
from connectors.tls import Tls

Client = TypeVar("Client")

NOTHING: Mapping[str, Any] = {}

#: Errors of which a name, a password, a certificate or a right is the cause, and no waiting helps.
_REFUSALS = {
    KafkaError._AUTHENTICATION,  # noqa: SLF001 - librdkafka's own codes begin so
    KafkaError._SSL,  # noqa: SLF001 - same
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}


@dataclass(frozen=True, slots=True)
class Access:
    """``servers`` are ``host:port``, separated by commas; without a ``mechanism`` of SASL there is no name to give.

    The password is not shown.
    """

    servers: str
    tls: Tls | None = None
    mechanism: str = ""
    username: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.servers

    @property
    def protocol(self) -> str:
        """As Kafka calls it."""
        encrypted = "SSL" if self.tls else "PLAINTEXT"
        return f"SASL_{encrypted}" if self.mechanism else encrypted

    def open(
        self, make: Callable[[dict[str, Any]], Client], settings: Mapping[str, Any] = NOTHING
    ) -> "Connection[Client]":
        """A client of librdkafka with more of its ``settings``."""
        return Connection(self, make, settings)

    def confluent(self) -> dict[str, Any]:
        """Settings of librdkafka.  Raises BadInput for a file that cannot be used."""
        told = {"bootstrap.servers": self.servers, "security.protocol": self.protocol}
        if self.tls:
            self.tls.context()  # knows what is wrong with the files
            files = {
                "ssl.ca.location": self.tls.ca_file,
                "ssl.certificate.location": self.tls.certificate_file,
                "ssl.key.location": self.tls.key_file,
            }
            told |= {name: str(file) for name, file in files.items() if file}
        if self.mechanism:
            told |= {
                "sasl.mechanism": self.mechanism,
                "sasl.username": self.username,
                "sasl.password": self.password,
            }
        return told


class Connection(Generic[Client]):
    """A client, and what its failures mean."""

    def __init__(self, access: Access, make: Callable[[dict[str, Any]], Client], settings: Mapping[str, Any]) -> None:
        self._access = access
        #: Only here librdkafka says what is wrong with a connection; calls just run out of time.
        self._heard: deque[KafkaError] = deque(maxlen=10)
        # What it would log is said once, by the exception.
        quiet = {"log_level": 0, "error_cb": self._heard.append}
        self.client = make({**access.confluent(), **settings, **quiet})

    def problem(self, error: KafkaException, about: str = "") -> Unreachable:
        """To raise for an error that leaves nothing else to do.  ``about``: what was asked for; Kafka does not say."""
        self._listen()
        told = [error.args[0], *(each for each in self._heard if each.code() != KafkaError._ALL_BROKERS_DOWN)]  # noqa: SLF001 - see above
        refusals = [each for each in told if each.code() in _REFUSALS or "SSL alert" in each.str()]
        where = f"Kafka at {self._access} ({self._access.protocol})"
        if refusals:
            told_of = refusals[-1].str().rstrip(".") + (f" ({about})" if about else "")
            return Refused(
                f"{where} does not let us in: {told_of}; see kafka.tls and kafka.sasl in the settings, "
                "and what the brokers allow the user"
            )
        return Unreachable(
            f"{where} does not answer: {told[-1].str()}; "
            "is it running, and are kafka.bootstrap-servers, kafka.tls and kafka.sasl in the settings right?"
        )

    def _listen(self) -> None:
        """Consumers get what is wrong as a message, all others by a call; a producer that has failed raises."""
        client: Any = self.client
        with suppress(KafkaException):
            heard = client.poll(0)
            if isinstance(heard, Message) and (error := heard.error()):
                self._heard.append(error)
