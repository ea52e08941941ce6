"""Faust's own parts, each a little different."""

from typing import Any

from faust.app import base
from faust.auth import Credentials, SASLCredentials, SSLCredentials
from faust.serializers.schemas import Schema
from mode.utils.queues import FlowControlEvent

from connectors.access import Access


class Flow(FlowControlEvent):
    def resume(self) -> None:
        """Once only: a second call empties live queues (faust issue 596)."""
        if not self.is_active():
            super().resume()


class BatchSchema(Schema):  # type: ignore[type-arg] # neither key nor value is decoded
    """Lets batches pass undecoded: Faust acknowledges what it cannot decode."""

    def loads_key(self, app: Any, message: Any, **kwargs: Any) -> None:
        return None

    def loads_value(self, app: Any, message: Any, **kwargs: Any) -> Any:
        return message.value


class BootStrategy(base.BootStrategy):
    """The stock command line turns Faust's web server on, which shows table contents to anybody."""

    enable_web = False


def credentials(access: Access) -> Credentials | None:
    """For aiokafka, which Faust passes them to."""
    context = access.tls.context() if access.tls else None
    if access.mechanism:
        return SASLCredentials(
            username=access.username, password=access.password, ssl_context=context, mechanism=access.mechanism
        )
    return SSLCredentials(context) if context else None
