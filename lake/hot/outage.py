"""How long something that the lake depends on has been away, when to try it again, and when to say so again."""

from collections.abc import Callable

import structlog

from connectors.problems import BadInput, Unreachable

log = structlog.get_logger()

#: What a storage raises that is away, full, or does not let the lake in: it may take the same thing later.
AWAY = (Unreachable, BadInput, OSError)
#: Seconds between two lines about the same outage, and before the next try: at first, and at most.
REPEAT, SOON, LATE = 60.0, 1.0, 30.0


class Outage:
    """Of ``what``.  ``way_out`` tells a person what to do."""

    def __init__(self, what: str, way_out: str, clock: Callable[[], float]) -> None:
        self.what, self.way_out, self.clock = what, way_out, clock
        #: What the last try brought; empty while there is no outage.
        self.error = ""
        self._since = self._next_try = self._next_line = 0.0
        self._pause = SOON

    @property
    def seconds(self) -> float:
        """For how long it has lasted; 0 while there is none."""
        return self.clock() - self._since if self.error else 0.0

    @property
    def due(self) -> bool:
        """Whether to try (again)."""
        return not self.error or self.clock() >= self._next_try

    def met(self, error: Exception) -> None:
        """A try has failed."""
        now = self.clock()
        if not self.error:
            self._since, self._next_line, self._pause = now, now, SOON
        self.error = str(error) or repr(error)
        self._next_try, self._pause = now + self._pause, min(2 * self._pause, LATE)
        if now >= self._next_line:
            self._next_line = now + REPEAT
            log.error(self.what, error=self.error, seconds=round(now - self._since), what_to_do=self.way_out)

    def over(self) -> None:
        """A try has succeeded."""
        if self.error:
            log.info("That is over.", what=self.what, seconds=round(self.seconds))
            self.error = ""
