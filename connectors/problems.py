"""Errors a person can act on: what happened, where, and what to do next.

Problem                 something is wrong with the world; the command line prints it without a traceback
├── BadInput            a file or an argument cannot be used
└── Unreachable         a part Waybill depends on does not answer
    └── Refused         it does, and does not let Waybill in
"""

from typing import ClassVar


class Problem(Exception):
    """The message is one or two sentences: what happened, where, what to do next."""

    exit_code: ClassVar[int] = 1


class BadInput(Problem):
    """A file, an option or an argument cannot be used as it is."""

    exit_code: ClassVar[int] = 2


class Unreachable(Problem):
    """Kafka, Connect, Postgres, a consumer or the storage does not answer."""

    exit_code: ClassVar[int] = 3


class Refused(Unreachable):
    """A name, a password, a certificate or a right is wrong or missing: waiting alone will not help."""
