"""What every instance does, done once by its zygote before the first fork, with a function that does nothing.

Python notes much when code runs for the first times: the fast form of its instructions, where attributes were found.
An instance that has to note it itself copies each page that it writes to, and takes longer for its first call.
"""

from __future__ import annotations

import _socket
import os

from motes.space.guest.asking import Line
from motes.space.guest.instance import Caller, answer_next
from motes.space.guest.load import Loaded
from motes.space.guest.wire import CALL, frame

_TIMES = 10
"""Python has settled on the fast form of an instruction after some ten runs."""
_ENOUGH_BYTES = 4096


def rehearse() -> None:
    """Answer some calls, and change the environment."""
    for name in ("HOME", "TMPDIR"):
        os.environ[name] = os.environ.get(name, "/tmp")
    ours, theirs = _socket.socketpair()
    line, caller = Line(theirs.fileno()), Caller(Loaded("rehearsal", _same, "same"), 0)
    for tag in range(1, _TIMES + 1):
        ours.send(frame(CALL, tag, b'"x"'))
        answer_next(line, caller)
        ours.recv(_ENOUGH_BYTES)
    ours.close()
    theirs.close()


def _same(value: str) -> str:
    return value
