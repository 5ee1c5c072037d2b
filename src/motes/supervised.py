"""What a process does that the supervisor started: say that it is ready, and end when the supervisor does."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
from typing import Any

READY_FD_VARIABLE = "MOTES_READY_FD"
"""Names the descriptor on which a child writes one JSON line when it takes work."""
ENDED_FOR_GOOD = 78
"""The exit code of a child that is not to be started again: EX_CONFIG of sysexits.h."""

ORDERS_FD_VARIABLE = "MOTES_ORDERS_FD"
"""Names the socket on which an agent hears from the supervisor what its owner decides, and tells what is so."""
ORDER_LIMIT_BYTES = 65536
"""One message in either direction: a JSON object."""

_PR_SET_PDEATHSIG = 1


def announce_ready(**facts: Any) -> None:
    """Tell the supervisor, once, that this process takes work; without a supervisor this does nothing.

    With `error` that it cannot, and why.
    """
    descriptor = os.environ.pop(READY_FD_VARIABLE, None)
    if descriptor is not None:
        with os.fdopen(int(descriptor), "w") as pipe:
            pipe.write(json.dumps(facts) + "\n")


def orders() -> socket.socket | None:
    """This process's end of that socket, which nobody else here has; None without a supervisor. Ask once."""
    descriptor = os.environ.pop(ORDERS_FD_VARIABLE, None)
    if descriptor is None:
        return None
    found = socket.socket(fileno=int(descriptor))
    # What is started from here must not get hold of it.
    found.set_inheritable(False)
    found.setblocking(False)
    return found


def end_with_parent() -> None:
    """Have the kernel end this process when its parent ends; a change of user id clears this, so call it again then."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def allow_many_files() -> None:
    """Raise the soft limit on open files to the hard one: an agent takes three for each instance, a gateway as many for
    each connection to a daemon on another machine."""
    import resource  # Not there on every system; nor are agents and gateways.

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
