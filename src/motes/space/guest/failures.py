"""What went wrong inside, as data for the agent: the wire form of motes.errors, with the app's own frames only."""

from __future__ import annotations

import errno
import re
import traceback
from typing import Any

from motes.space.guest.places import HERE

MESSAGE_LIMIT = 4000
TRACEBACK_LIMIT = 16000
"""Characters."""

Wire = dict[str, Any]

_PATH = re.compile(r" - at `(\$[^`]*)`")
_FILE_ERRORS = (errno.EFBIG, errno.ENOSPC, errno.EMFILE, errno.EDQUOT)


def wire(code: str, message: str, **detail: Any) -> Wire:
    """An error of motes.errors by its code."""
    return {"code": code, "message": message[:MESSAGE_LIMIT], "detail": detail}


def bad_input(error: Exception) -> Wire:
    """The body does not fit; `detail.path` names the field, as msgspec does."""
    text = str(error)
    found = _PATH.search(text)
    return wire("bad_input", text, path=found[1] if found else "$")


def limit(reason: str, message: str) -> Wire:
    return wire("limit_exceeded", message, reason=reason)


def exceeded(error: BaseException, who: str = "it", memory: str = "its limit") -> Wire | None:
    """The limit that `error` tells of, or None: after one the instance ends, for its state can no longer be trusted.

    `who` is over it; `memory` is how much it may have, in words.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return limit("memory_limit", f"{who} needs more memory than {memory} (raise `memory`)")
    if isinstance(error, OSError) and error.errno in _FILE_ERRORS:
        return limit("file_limit", f"{who} is over a limit on files: {error.strerror} ({error.filename or 'no name'})")
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return limit("process_limit", f"{who} starts more threads than it may have")
    if isinstance(error, BlockingIOError) and error.errno == errno.EAGAIN and error.filename is None:
        return limit("process_limit", f"{who} starts more processes or threads than it may have")
    return None


def raised(error: BaseException) -> Wire:
    """A function that raised."""
    name = type(error).__name__
    return wire("function_error", f"{name}: {text_of(error)}", type=name, traceback=app_traceback(error))


def text_of(error: BaseException) -> str:
    """`str(error)`, even where that raises."""
    try:
        return str(error)[:MESSAGE_LIMIT]
    except Exception:
        return "(an error without a text)"


def app_traceback(error: BaseException) -> str:
    """Like Python's traceback, without the frames that are not the app's, and with paths relative to /app."""
    try:
        told = traceback.TracebackException.from_exception(error, limit=-64)
        _keep_app_frames(told, depth=0)
        text = "".join(told.format())
    except Exception:
        text = f"{type(error).__name__}: {text_of(error)}\n"
    return text.replace(f"{HERE.app}/", "")[-TRACEBACK_LIMIT:]


def _keep_app_frames(told: traceback.TracebackException, depth: int) -> None:
    told.stack = traceback.StackSummary.from_list(
        [frame for frame in told.stack if frame.filename.startswith(f"{HERE.app}/")]
    )
    for other in (told.__cause__, told.__context__):
        if other is not None and depth < 8:
            _keep_app_frames(other, depth + 1)
