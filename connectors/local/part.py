"""What the supervisor needs to know to run one part."""

import os
import pwd
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from connectors.problems import Problem


@dataclass(frozen=True)
class Part:
    """``ready`` asks the running part; ``after`` must be ready before it starts; ``stop`` ends it in good order."""

    name: str
    argv: tuple[str, ...]
    log: Path
    ready: Callable[[], bool]
    stop: signal.Signals
    after: tuple[str, ...] = ()


def bound_to_parent(
    argv: tuple[str, ...], death: signal.Signals, user: pwd.struct_passwd | None = None
) -> tuple[str, ...]:
    """The command that runs ``argv``, as ``user`` if given, and dies by ``death`` with the process that started it.

    ``user`` keeps one of root's rights, to pass folders closed to others: whoever is root often works below /root.  The
    secure bit makes access(2), by which Postgres looks at itself, count that right too.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise Problem("The command setpriv is missing; install the package util-linux.")
    change: tuple[str, ...] = ()
    if user is not None:
        rights = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
        identity = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
        change = (*identity, "--securebits=+no_setuid_fixup", *rights)
    return (setpriv, *change, f"--pdeathsig={death.name.removeprefix('SIG')}", "--", *argv)


def unprivileged_user(name: str) -> pwd.struct_passwd | None:
    """The user for programs that refuse to run as root; None when this process is not root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise Problem(
            f"Postgres does not run as root, and there is no user {name} to run it; add one with "
            f"`useradd --system {name}`, or start the stack as an ordinary user."
        ) from None
