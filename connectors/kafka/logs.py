"""One format for all that a worker logs: a sentence and fields; JSON lines unless somebody is watching."""

import logging
import sys
import time
from typing import Any

import structlog

#: Seconds in which a message of one place is logged once; aiokafka says ten times a second that a broker is away.
REPEAT = 5.0

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


class Repeats(logging.Filter):
    """Lets a foreign warning through once in ``REPEAT`` seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or not record.name.startswith("aiokafka"):
            return True
        place, now = (record.pathname, record.lineno), time.monotonic()
        if now - self._last.get(place, float("-inf")) < REPEAT:
            return False
        self._last[place] = now
        return True


def setup() -> dict[str, Any]:
    """Set structlog up and return the logging configuration that Faust's worker takes; it adds the level."""
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    watched = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if watched else structlog.processors.JSONRenderer()
    unwatched = [] if watched else [structlog.processors.format_exc_info]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "merge": True,
        "filters": {"repeats": {"()": Repeats}},
        "formatters": {
            "waybill": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *unwatched, renderer],
            }
        },
        "handlers": {
            "default": {"class": "logging.StreamHandler", "formatter": "waybill", "filters": ["repeats"]},
        },
        "loggers": {name: {"level": "WARNING"} for name in ("aiokafka", "faust", "mode", "kafka")},
    }
