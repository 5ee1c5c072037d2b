"""Ends a program of a test, once, when it is about to call a function: as a machine does whose power is cut.

MOTES_TEST_KILL is `module:qualified.name`; MOTES_TEST_KILLED the file that says that it was done; MOTES_TEST_SIGNAL the
name of another signal than SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

_MODULE, _, _NAME = os.environ.get("MOTES_TEST_KILL", "").partition(":")


def _look(frame: FrameType, event: str, _: Any) -> None:
    if event != "call" or frame.f_code.co_qualname != _NAME:
        return
    # A program's own name is __main__.
    if getattr(frame.f_globals.get("__spec__"), "name", "") != _MODULE:
        return
    try:
        os.close(os.open(os.environ["MOTES_TEST_KILLED"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.Signals[os.environ.get("MOTES_TEST_SIGNAL", "SIGKILL")])


if _NAME:
    sys.setprofile(_look)
