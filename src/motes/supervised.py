"""What a process does that the supervisor started: say that it is ready, and end when the supervisor does."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from typing import Any

READY_FD_VARIABLE = "MOTES_READY_FD"
"""Names the descriptor on which a child writes one JSON line when it takes work."""
ENDED_FOR_GOOD = 78
"""The exit code of a child that is not to be started again: EX_CONFIG of sysexits.h."""

_PR_SET_PDEATHSIG = 1


def announce_ready(**facts: Any) -> None:
    """Tell the supervisor, once, that this process takes work; without a supervisor this does nothing."""
    descriptor = os.environ.pop(READY_FD_VARIABLE, None)
    if descriptor is not None:
        with os.fdopen(int(descriptor), "w") as pipe:
            pipe.write(json.dumps(facts) + "\n")


def end_with_parent() -> None:
    """Have the kernel end this process when its parent ends; a change of user id clears this, so call it again then."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
