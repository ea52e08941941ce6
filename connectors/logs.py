"""Logs of all processes: one sentence and stable fields, JSON lines unless a person watches.

Fields that mean the same everywhere: consumer, endpoint, topic, partition, offset, event_id, status, error.
"""

import logging
import logging.config
import sys
import time
from typing import Any

import structlog

#: Seconds in which a warning of one place in a chatty library is logged once: while a broker is away, aiokafka says so
#: ten times a second.
REPEAT = 5.0
_CHATTY = ("aiokafka", "kafka")
#: Faust's services, ours among them, say at each step that they start and stop; clients of S3 show what they carry.
_QUIET = (*_CHATTY, "faust", "mode", "connectors.kafka", "aiobotocore", "botocore", "s3fs")
#: A traceback for each text of a consumer that is not UTF-8.
_SILENT = ("grpc",)

_SHARED: tuple[structlog.types.Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


class OncePerPlace(logging.Filter):
    """Lets a chatty library's warning through once in ``REPEAT`` seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(_CHATTY):
            return True
        place, now = (record.pathname, record.lineno), time.monotonic()
        if now - self._last.get(place, float("-inf")) < REPEAT:
            return False
        self._last[place] = now
        return True


def configure(level: str = "INFO") -> None:
    """For commands: log to standard error from here on."""
    told = config()
    del told["merge"]
    logging.config.dictConfig({**told, "root": {"level": level, "handlers": ["default"]}})


def config() -> dict[str, Any]:
    """For ``faust.App(logging_config=...)``: its worker merges this with the level of its command line.

    structlog is set up at once.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    last: list[structlog.types.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    # Without local variables: they hold payloads and may hold secrets.
    if sys.stderr.isatty():
        shown = structlog.dev.RichTracebackFormatter(show_locals=False)
        last.append(structlog.dev.ConsoleRenderer(exception_formatter=shown))
    else:
        traceback = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        last += [structlog.processors.ExceptionRenderer(traceback), structlog.processors.JSONRenderer(default=str)]
    return {
        "version": 1,
        "merge": True,
        "disable_existing_loggers": False,
        "filters": {"once per place": {"()": OncePerPlace}},
        "formatters": {
            "structlog": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": last,
            }
        },
        "handlers": {
            "default": {
                "class": "logging.StreamHandler",
                "formatter": "structlog",
                "filters": ["once per place"],
                "stream": "ext://sys.stderr",
            }
        },
        "loggers": {name: {"level": "WARNING"} for name in _QUIET} | {name: {"level": "CRITICAL"} for name in _SILENT},
    }
