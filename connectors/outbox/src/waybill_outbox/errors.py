"""What the SDK raises, always before anything is written.

OutboxError
├── InvalidEvent        the message, its option, its key or its size cannot travel
└── NotInTransaction    there is no transaction that the event could share with the data
"""


class OutboxError(Exception):
    """An event could not be saved; the message says why and what to do."""


class InvalidEvent(OutboxError, ValueError):
    """The message, its option, its key or its size cannot travel."""


class NotInTransaction(OutboxError, RuntimeError):
    """There is no transaction that the event could share with the data."""
