"""Why a space could not be opened, as errors: the host's (SpaceFailed) or the app's (LoadFailed)."""

from __future__ import annotations

from typing import Any

from motes.errors import LoadFailed, MotesError, SpaceFailed

MESSAGE_LIMIT = 4000
TRACEBACK_LIMIT = 16000
"""Characters."""


def refused_by_the_app(data: dict[str, Any], log: str) -> LoadFailed:
    """The zygote says what went wrong with the app. Raises KeyError when it does not."""
    return LoadFailed(
        str(data["message"])[:MESSAGE_LIMIT],
        type=str(data["type"])[:200],
        traceback=str(data["traceback"])[:TRACEBACK_LIMIT],
        log=log,
    )


def ended_while_opening(greeted: bool, status: int, log: str) -> MotesError:
    """Everything ended before the app was loaded; not `greeted` when not even our own code came to run."""
    if not greeted:
        return not_made(status, log)
    return LoadFailed(f"the process ended while it loaded the app: {exit_words(status)}", traceback="", log=log)


def not_made(status: int, log: str) -> SpaceFailed:
    """Bubblewrap's last line says why."""
    last = log.strip().rpartition("\n")[2] or f"status {status}"
    return SpaceFailed(f"the process space could not be made: {last} (see `motes doctor`)")


def too_slow(greeted: bool, timeout_s: float, log: str) -> MotesError:
    """Nothing ended, and nothing was loaded."""
    if not greeted:
        return SpaceFailed(f"the process space was not made within {timeout_s:g} s")
    return LoadFailed(
        f"the app was not loaded within {timeout_s:g} s: its modules do too much when they are imported",
        traceback="",
        log=log,
    )


def exit_words(status: int) -> str:
    """An exit status of bubblewrap in words: it passes on its command's, with 128 added for a signal."""
    if status < 0:
        return f"signal {-status}"
    return f"signal {status - 128}" if status > 128 else f"exit code {status}"
