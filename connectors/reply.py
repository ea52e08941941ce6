"""What came back from a call to a consumer; apart from the transport, so that decisions need not import it."""

from dataclasses import dataclass
from enum import Enum

#: Bytes kept of a text a consumer answers: what could be read must also fit into the headers of a hand-over.
TEXT_LIMIT = 1024


class Reach(Enum):
    """How far a call came."""

    ANSWERED = "answered"
    """The consumer, or a proxy on its behalf, answered."""

    SILENT = "silent"
    """The connection was up and no answer came before the deadline."""

    LOST = "lost"
    """The connection broke while the call was in flight: the consumer may have seen it."""

    UNSENT = "unsent"
    """There was no connection: the consumer cannot have seen the call."""


@dataclass(frozen=True, slots=True)
class Reply:
    """``status`` is the name of a gRPC status; ``message`` and ``trailers`` are the consumer's, cut to 1 KiB each."""

    status: str
    message: str = ""
    trailers: tuple[tuple[str, str], ...] = ()
    reach: Reach = Reach.ANSWERED
    body: bytes = b""

    def trailer(self, name: str) -> str | None:
        """The first trailer of that name."""
        return next((value for key, value in self.trailers if key == name), None)


def cut(text: str) -> str:
    """``text`` in at most 1 KiB of UTF-8."""
    return text.encode(errors="backslashreplace")[:TEXT_LIMIT].decode(errors="ignore")
